//! The command line that all programs share.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::limits;

/// One workload of one stack: a client and a server, over loopback. Prints one line of JSON.
#[derive(Debug, Clone, Parser)]
pub struct Plan {
    #[command(subcommand)]
    pub workload: Workload,
    /// Keep every thread of the process, the libraries' own as well, on this CPU.
    #[arg(long, value_name = "CPU", global = true)]
    pub cpu: Option<usize>,
    /// The cipher suite, for stacks that can be told.
    #[arg(long, default_value = "aes-128", global = true)]
    pub suite: Suite,
    /// What this process is. A client starts its server itself: this program once more.
    #[arg(long, default_value = "both", global = true, overrides_with = "role")]
    pub role: Role,
    /// Have no more files open than this, in each process.
    #[arg(long, value_name = "FILES", global = true)]
    pub descriptors: Option<u64>,
}

/// Which halves of a workload a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Client and server.
    Both,
    /// The client, with the server in another process.
    Client,
    /// The server. Prints its address and its certificate, and then talks with the client over its
    /// stdin and stdout.
    Server,
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
    /// So many bytes on a new connection, over and over: from the opening of the stream to the
    /// receiver's answer.
    Transfer(Transfer),
    /// What connections and streams cost that do nothing: memory.
    Memory(Hold),
    /// What connections cost that do nothing: CPU time.
    Idle {
        /// How many connections to hold open.
        #[arg(long, default_value_t = 1000)]
        connections: usize,
        /// For how many seconds to measure.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

impl Workload {
    /// How many streams of each kind the peer must be allowed.
    pub fn streams(&self) -> u16 {
        let needed = match self {
            Self::Bulk(bulk) => bulk.streams,
            Self::Memory(hold) => hold.streams as u64,
            Self::Messages(messages) => 2 * messages.in_flight,
            Self::PingPong { .. } | Self::Connect { .. } | Self::Transfer(_) | Self::Idle { .. } => 1,
        };
        u16::try_from(needed).unwrap_or(u16::MAX).max(limits::STREAMS)
    }

    /// How many connections are open at once.
    pub fn connections(&self) -> u64 {
        match self {
            Self::Bulk(bulk) => bulk.connections,
            Self::Memory(Hold { connections, .. }) | Self::Idle { connections, .. } => *connections as u64,
            Self::Messages(_) | Self::PingPong { .. } | Self::Connect { .. } | Self::Transfer(_) => 1,
        }
    }
}

/// What a stack is asked to do; a workload is one of these, or a few.
#[derive(Debug, Clone)]
pub enum Work {
    /// The client sends bytes to the server.
    Bulk(Bulk),
    /// The client sends messages to the server.
    Messages(Messages),
    /// Both send 64 bytes to and fro.
    PingPong { count: u64 },
    /// The client connects and closes, one connection after the other.
    Connect { count: u64 },
    /// The client sends bytes to the server on one new connection after the other.
    Transfer(Transfer),
    /// The client opens connections with streams that have carried a few bytes. Both sides hold
    /// all of them until the process ends.
    Hold(Hold),
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

#[derive(Debug, Clone, Args)]
pub struct Transfer {
    /// How many times.
    #[arg(long, default_value_t = 20)]
    pub count: u64,
    /// How many bytes each write has. All 4 MiB are handed over by one call.
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=TRANSFER as i64))]
    pub chunk: u32,
}

/// How many bytes a transfer has.
pub const TRANSFER: u64 = 4 << 20;

impl Transfer {
    /// The same on one connection.
    pub fn bulk(&self) -> Bulk {
        Bulk { mib: TRANSFER >> 20, chunk: self.chunk, async_write: false, connections: 1, streams: 1 }
    }

    /// Whether one call takes everything.
    pub fn is_whole(&self) -> bool {
        u64::from(self.chunk) == TRANSFER
    }
}

#[derive(Debug, Clone, Args)]
pub struct Hold {
    /// How many connections to hold open.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// How many streams to hold open on each.
    #[arg(long, default_value_t = 0, value_parser = streams_up_to_10_000)]
    pub streams: usize,
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
