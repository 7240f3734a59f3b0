//! The command line that all programs share.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::limits;

/// One workload of one stack: client and server in this process, over loopback. Prints one line of
/// JSON.
#[derive(Debug, Parser)]
pub struct Plan {
    #[command(subcommand)]
    pub workload: Workload,
    /// Keep every thread of the process, the libraries' own as well, on this CPU.
    #[arg(long, value_name = "CPU", global = true)]
    pub cpu: Option<usize>,
    /// The cipher suite, for stacks that can be told.
    #[arg(long, default_value = "aes-128", global = true)]
    pub suite: Suite,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Workload {
    /// Bytes from the client to the server, over one stream or many.
    Bulk(Bulk),
    /// Messages of 1 KiB, each on a unidirectional stream of its own.
    Messages(Messages),
    /// 64 bytes to and fro on one stream.
    PingPong {
        /// How many round trips to measure.
        #[arg(long, default_value_t = 20_000)]
        count: u64,
    },
    /// Connections one after the other.
    Connect {
        /// How many.
        #[arg(long, default_value_t = 500)]
        count: u64,
    },
    /// What connections and streams cost that do nothing.
    Memory {
        /// How many connections to hold open.
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// How many streams to hold open on each.
        #[arg(long, default_value_t = 0, value_parser = streams_up_to_10_000)]
        streams: usize,
    },
}

impl Workload {
    /// How many streams of each kind the peer must be allowed.
    pub fn streams(&self) -> u16 {
        let needed = match self {
            Self::Bulk(bulk) => bulk.streams,
            Self::Memory { streams, .. } => *streams as u64,
            Self::Messages(messages) => 2 * messages.in_flight,
            Self::PingPong { .. } | Self::Connect { .. } => 1,
        };
        u16::try_from(needed).unwrap_or(u16::MAX).max(limits::STREAMS)
    }

    /// How many connections are open at once.
    pub fn connections(&self) -> u64 {
        match self {
            Self::Bulk(bulk) => bulk.connections,
            Self::Memory { connections, .. } => *connections as u64,
            Self::Messages(_) | Self::PingPong { .. } | Self::Connect { .. } => 1,
        }
    }
}

fn streams_up_to_10_000(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|streams| *streams <= 10_000).ok_or_else(|| "0 to 10,000".to_owned())
}

#[derive(Debug, Clone, Args)]
pub struct Bulk {
    /// How many MiB to move, over all streams.
    #[arg(long, default_value_t = 1024)]
    pub mib: u64,
    /// How many bytes each write has, up to 1 MiB.
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub chunk: u32,
    /// Write borrowed bytes through tokio's `AsyncWrite` in place of owned chunks.
    #[arg(long)]
    pub async_write: bool,
    /// Over how many connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub connections: u64,
    /// Over how many streams of each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub streams: u64,
}

impl Bulk {
    /// How many bytes each stream carries.
    pub fn bytes_per_stream(&self) -> u64 {
        (self.mib << 20).div_ceil(self.connections * self.streams)
    }

    /// The chunks of one stream: position and length.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, usize)> + Send + use<> {
        let (end, chunk) = (self.bytes_per_stream(), u64::from(self.chunk));
        (0..end.div_ceil(chunk)).map(move |i| (i * chunk, chunk.min(end - i * chunk) as usize))
    }
}

#[derive(Debug, Clone, Args)]
pub struct Messages {
    /// How many messages.
    #[arg(long, default_value_t = 50_000)]
    pub count: u64,
    /// How many may be under way: sent, and not yet acknowledged with their stream's end.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub in_flight: u64,
}

/// How many messages every stack sends over another connection before those that are measured, so
/// that a short run is no slower than a long one by what happens once.
pub const WARM_UP_MESSAGES: u64 = 10_000;

/// A cipher suite of TLS 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    #[value(name = "aes-128")]
    Aes128,
    #[value(name = "aes-256")]
    Aes256,
}

impl Suite {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "aes-128",
            Self::Aes256 => "aes-256",
        }
    }
}
