//! [`Stack`]: what one QUIC stack does for the bench.

use std::net::SocketAddr;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    half::Half,
    identity::Identity,
    plan::{Suite, Work},
};

/// A QUIC stack, and the two halves of each [`Work`]: the server's and the client's. They run at
/// the same time, in one process or in two.
///
/// Both halves connect first and then start to measure. The one that knows the end ends it: the
/// server when it has checked the last byte, or the client when it has the last answer. Then they
/// [meet](Half::meet), and only after that give up their connections.
pub trait Stack: Sized + Send + Sync + 'static {
    /// The stack's name in reports.
    const NAME: &'static str;

    /// How many files a client has open for each connection.
    const DESCRIPTORS_PER_CONNECTION: u64;

    type Server: Send + Sync + 'static;
    type Client: Send + Sync + 'static;

    /// Prepares what both sides have in common.
    fn new(setup: &Setup) -> Result<Self>;

    /// Starts the server.
    fn listen(&self, setup: &Setup, identity: &Identity) -> Result<(Self::Server, SocketAddr)>;

    /// Prepares a client of that server.
    fn client(&self, setup: &Setup, server: &Listening) -> Result<Self::Client>;

    /// The cipher suite of the client's connections, where it can be told.
    fn suite(&self, client: &Self::Client) -> Option<Suite>;

    /// The server's half.
    fn serve(&self, server: &Self::Server, work: &Work, half: &Half) -> Result<()>;

    /// The client's half. Gives the nanoseconds of each round trip, handshake or transfer, and
    /// nothing for other work.
    fn drive(&self, client: &Self::Client, work: &Work, half: &Half) -> Result<Histogram<u64>>;
}

/// What both sides are set to.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The cipher suite, for stacks that can be told.
    pub suite: Suite,
    /// How many streams of each kind the peer may have open.
    pub streams: u16,
}

/// What a client must know of the server. The first line that a server prints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listening {
    pub address: SocketAddr,
    pub certificate_pem: String,
}

/// What a workload took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cost {
    pub seconds: f64,
    /// Of user and system time, in all threads.
    pub cpu_seconds: f64,
}

/// A histogram of durations from 1 ns to a minute, with three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("the bounds are in order")
}
