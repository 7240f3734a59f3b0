//! [`Stack`]: what one QUIC stack does for the bench.

use std::any::Any;

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::{
    identity::Identity,
    plan::{Bulk, Messages, Suite},
    process::Meter,
};

/// A client and a server of one stack, connected over loopback, and the workloads between them.
///
/// A workload connects first, then starts its [`Meter`], and stops it when the receiver has checked
/// the last byte.
pub trait Stack: Sized {
    /// The stack's name in reports.
    const NAME: &'static str;

    /// How many files a connection has open, both sides together.
    const DESCRIPTORS_PER_CONNECTION: u64;

    /// Starts the server and prepares the client.
    fn new(setup: &Setup) -> Result<Self>;

    /// The cipher suite of its connections, where it can be told.
    fn suite(&self) -> Option<Suite>;

    /// Moves bytes from the client to the server.
    fn bulk(&self, plan: &Bulk) -> Result<Cost>;

    /// Sends messages from the client to the server.
    fn messages(&self, plan: &Messages) -> Result<Cost>;

    /// Sends 64 bytes to and fro.
    fn ping_pong(&self, count: u64) -> Result<RoundTrips>;

    /// Connects and closes, one after the other.
    fn connect(&self, count: u64) -> Result<Handshakes>;

    /// Opens connections with streams that have carried a few bytes, and holds all of them until
    /// the value is dropped.
    fn hold(&self, connections: usize, streams: usize) -> Result<Box<dyn Any>>;
}

/// What a stack is started with.
pub struct Setup {
    pub identity: Identity,
    /// The cipher suite, for stacks that can be told.
    pub suite: Suite,
    /// How many streams of each kind the peer may have open.
    pub streams: u16,
    /// The CPU that all threads are kept on, if there is one.
    pub cpu: Option<usize>,
}

impl Setup {
    /// Starts to measure.
    pub fn meter(&self) -> Result<Meter> {
        Meter::start(self.cpu)
    }
}

/// What a workload took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub seconds: f64,
    /// Of user and system time, in all threads.
    pub cpu_seconds: f64,
}

/// What [`Stack::ping_pong`] measured.
pub struct RoundTrips {
    pub cost: Cost,
    pub nanoseconds: Histogram<u64>,
}

/// What [`Stack::connect`] measured.
pub struct Handshakes {
    pub cost: Cost,
    pub nanoseconds: Histogram<u64>,
}

/// A histogram of durations from 1 ns to a minute, with three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("the bounds are in order")
}
