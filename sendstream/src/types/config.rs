//! Transport settings, and what can be wrong with the configuration of a client or server.

#[cfg(feature = "serde")]
mod seconds;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use crate::types::{
    error::NativeError,
    socket::SocketRefusal,
    system::SystemError,
    tls::{IdentityError, TrustError},
};

/// How the transport behaves: timeouts, limits and windows. One value serves both builders.
///
/// It begins with the defaults, and each setter changes one of them:
///
/// ```
/// use std::time::Duration;
/// use sendstream::{Server, TransportConfig};
///
/// let config = TransportConfig::default()
///     .idle_timeout(Duration::from_secs(5)) // or `None`, for never
///     .max_concurrent_bidi_streams(10)
///     .send_window(64 << 10);
/// let server = Server::builder().transport(config);
/// ```
///
/// The documentation of a setter names the range and then, after a semicolon, the default. A value
/// outside of the range is refused when the client or server is built
/// ([`ConfigError::OutOfRange`]); nothing is clamped. Durations count in whole milliseconds, a
/// fraction is rounded up.
///
/// # Memory
///
/// A peer can make this side hold at most
/// [`connection_flow_control_window`](Self::connection_flow_control_window) bytes of stream data
/// per connection that the application has not read yet, over all its streams, up to 128 pieces of
/// at most 2 KiB beyond them, and [`datagram_receive_buffer`](Self::datagram_receive_buffer) bytes
/// of datagrams. Pieces with gaps between them take at most half of the connection's window more: a
/// peer that leaves more gaps than losses do is closed with INTERNAL_ERROR (RFC 9000 §20.1). A
/// bidirectional stream that the peer has reset, or that was stopped, keeps the memory of what nobody
/// has read, at most its window, until this side has ended it as well; the peer has credit for it
/// again. Chunks that the application has read and keeps are its own affair: see [`RecvChunk`](crate::RecvChunk).
///
/// All connections of the process share a budget. As it is used up, the windows of their streams
/// shrink: see [`set_memory_budget`](crate::process::set_memory_budget).
///
/// # In files
///
/// With the feature `serde` it is read from, and written to, configuration files: a map with the
/// setters' names, of which any may be absent. Times are seconds, as numbers (`0.025`), and 0 stands
/// for `None` where a time may be that. Other values that may be `None` are null then. The choices are
/// in snake case: `"cubic"`, `"round_robin"`. A name that is not known is an error. Ranges are checked
/// where the client or server is built.
///
/// ```
/// # #[cfg(feature = "serde")] {
/// # use sendstream::TransportConfig;
/// # use std::time::Duration;
/// let config: TransportConfig = serde_json::from_str(r#"{"idle_timeout": 5, "keep_alive": 1.5}"#)?;
/// let same = TransportConfig::default()
///     .idle_timeout(Duration::from_secs(5))
///     .keep_alive(Duration::from_millis(1500));
/// assert_eq!(config, same);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[must_use = "give it to a builder's `transport`"]
pub struct TransportConfig {
    #[cfg_attr(feature = "serde", serde(with = "seconds::optional"))]
    pub(crate) idle_timeout: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(with = "seconds"))]
    pub(crate) handshake_timeout: Duration,
    #[cfg_attr(feature = "serde", serde(with = "seconds::optional"))]
    pub(crate) keep_alive: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(with = "seconds"))]
    pub(crate) disconnect_timeout: Duration,
    pub(crate) max_concurrent_uni_streams: u16,
    pub(crate) max_concurrent_bidi_streams: u16,
    pub(crate) stream_receive_window: u32,
    pub(crate) uni_stream_receive_window: Option<u32>,
    pub(crate) local_bidi_stream_receive_window: Option<u32>,
    pub(crate) remote_bidi_stream_receive_window: Option<u32>,
    pub(crate) connection_flow_control_window: u32,
    pub(crate) send_window: Option<u32>,
    pub(crate) send_buffering: bool,
    pub(crate) datagram_receive_buffer: Option<usize>,
    pub(crate) datagram_send_buffer: usize,
    pub(crate) congestion_control: CongestionControl,
    pub(crate) hystart: bool,
    pub(crate) pacing: bool,
    pub(crate) ecn: bool,
    pub(crate) initial_window_packets: u32,
    #[cfg_attr(feature = "serde", serde(with = "seconds"))]
    pub(crate) initial_rtt: Duration,
    #[cfg_attr(feature = "serde", serde(with = "seconds"))]
    pub(crate) max_ack_delay: Duration,
    pub(crate) min_mtu: u16,
    pub(crate) max_mtu: u16,
    #[cfg_attr(feature = "serde", serde(with = "seconds"))]
    pub(crate) mtu_search_interval: Duration,
    pub(crate) migration: bool,
    pub(crate) grease_quic_bit: bool,
    pub(crate) key_update_after: u64,
    pub(crate) stream_scheduling: StreamScheduling,
    pub(crate) drop_error_code: u64,
    pub(crate) accept_backlog: usize,
}

impl TransportConfig {
    /// After how long without a packet from the peer the connection ends as timed out (RFC 9000
    /// §10.1); `None` for never, as far as the peer agrees: the shorter of both sides' values
    /// counts. 1 ms to `u32::MAX` ms; 30 s.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// How long the handshake may take as a whole: a client gives up then, and a server lets go of
    /// a connection whose handshake is not done, also if that is because its application has not
    /// accepted it. MsQuic ends a handshake without a packet from the peer for as long. 1 ms to
    /// `u32::MAX` ms; 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How often to send a PING on a silent connection, so that neither side's idle timeout
    /// strikes; `None` for not at all. Give less than half of the idle timeout, and one lost packet
    /// does no harm. It must be less than [`idle_timeout`](Self::idle_timeout)
    /// ([`ConfigError::KeepAliveTooLong`]). 1 ms to 71 minutes, past which MsQuic's arithmetic would overflow; `None`.
    pub fn keep_alive(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.keep_alive = interval.into();
        self
    }

    /// How long sent data may stay unacknowledged before the peer counts as gone and the connection
    /// ends as timed out. 1 ms to 10 minutes; 16 s.
    pub fn disconnect_timeout(mut self, timeout: Duration) -> Self {
        self.disconnect_timeout = timeout;
        self
    }

    /// How many unidirectional streams the peer may have open at once (RFC 9000 §4.6); 0 forbids
    /// them. 1024.
    pub fn max_concurrent_uni_streams(mut self, count: u16) -> Self {
        self.max_concurrent_uni_streams = count;
        self
    }

    /// How many bidirectional streams the peer may have open at once (RFC 9000 §4.6); 0 forbids
    /// them. 1024.
    pub fn max_concurrent_bidi_streams(mut self, count: u16) -> Self {
        self.max_concurrent_bidi_streams = count;
        self
    }

    /// How many bytes the peer may send on a stream ahead of what the application has read. A power
    /// of two from 4 KiB to 2 GiB; 1 MiB.
    ///
    /// MsQuic begins with this and doubles it while the application keeps up, until it reaches the
    /// connection's window. The memory behind it is allocated as data arrives. It matters where
    /// there is delay: with 64 KiB, MsQuic's own default, a stream's first round trips carry no
    /// more than that each; 1 MiB covers 10 Gbit/s within a data centre (0.8 ms) from the start,
    /// and longer paths are reached by doubling. On one machine the processor is the limit, not the
    /// window.
    pub fn stream_receive_window(mut self, bytes: u32) -> Self {
        self.stream_receive_window = bytes;
        self
    }

    /// [`stream_receive_window`](Self::stream_receive_window) for the peer's unidirectional
    /// streams, where it is to differ. The same range; `None`, the common one.
    pub fn uni_stream_receive_window(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.uni_stream_receive_window = bytes.into();
        self
    }

    /// [`stream_receive_window`](Self::stream_receive_window) for bidirectional streams that this
    /// side opens, where it is to differ. The same range; `None`, the common one.
    pub fn local_bidi_stream_receive_window(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.local_bidi_stream_receive_window = bytes.into();
        self
    }

    /// [`stream_receive_window`](Self::stream_receive_window) for bidirectional streams that the
    /// peer opens, where it is to differ. The same range; `None`, the common one.
    pub fn remote_bidi_stream_receive_window(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.remote_bidi_stream_receive_window = bytes.into();
        self
    }

    /// The smallest window that a stream of any kind has.
    pub(crate) fn smallest_stream_window(&self) -> u32 {
        let own = [
            self.uni_stream_receive_window,
            self.local_bidi_stream_receive_window,
            self.remote_bidi_stream_receive_window,
        ];
        own.map(|window| window.unwrap_or(self.stream_receive_window)).into_iter().fold(u32::MAX, u32::min)
    }

    /// How many bytes the peer may send on all streams together ahead of what the application has
    /// read. 4 KiB to `u32::MAX`; 16 MiB.
    ///
    /// This is the ceiling of a connection's throughput: window divided by round-trip time, which
    /// for 16 MiB and 10 ms is 13 Gbit/s. For long fat paths give at least bandwidth times delay.
    /// MsQuic also derives from it how many received packets may wait for its worker: one per KiB.
    pub fn connection_flow_control_window(mut self, bytes: u32) -> Self {
        self.connection_flow_control_window = bytes;
        self
    }

    /// The bytes of one stream that may be accepted and not yet acknowledged before writes wait.
    /// `None` follows MsQuic's advice for the path (`QUIC_STREAM_EVENT_IDEAL_SEND_BUFFER_SIZE`):
    /// 128 KiB at first, and at most 10 Gbit/s times the path's smallest round trip, plus 1 MiB.
    /// What is beyond the first 128 KiB is shared by all streams of the process, on all of its
    /// connections: together they have as much of it as keeps all processors, and at least two, busy
    /// at that pace. 1 to `u32::MAX`; `None`.
    ///
    /// Chunks may be of any size beside it, see
    /// [`write_chunk`](crate::SendStream::write_chunk). But a window of less than some packets
    /// (4 KiB) makes writes wait for acknowledgements that the peer keeps back.
    pub fn send_window(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.send_window = bytes.into();
        self
    }

    /// Whether MsQuic copies sent bytes, and so takes more than [`send_window`](Self::send_window)
    /// before the peer has acknowledged any. Off.
    ///
    /// Off, nothing is copied, and MsQuic tells of each operation when the peer has acknowledged
    /// it. On, it tells when it has copied the bytes: writes go on then, and a buffer is free. That
    /// the peer has them is known only from its acknowledgement of the stream's end, so `send` and
    /// `acked` resolve with `finished` and not before, nor does `start` on a stream that a send has
    /// started while the peer's limit did not admit it. Good for many small writes, each of which
    /// nobody waits for.
    pub fn send_buffering(mut self, on: bool) -> Self {
        self.send_buffering = on;
        self
    }

    /// How many bytes of the peer's datagrams (RFC 9221) may wait for
    /// [`read_datagram`](crate::Connection::read_datagram); `None` for taking none, which the peer
    /// is told. Any size; 1 MiB.
    ///
    /// Each datagram counts 96 bytes more than its payload, for the memory that keeps it. A full
    /// buffer drops the oldest datagrams and [counts](crate::Connection::dropped_datagrams) them.
    /// It always keeps the newest, so 0 keeps only that one. The peer's setting alone decides
    /// whether this side can send datagrams.
    pub fn datagram_receive_buffer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.datagram_receive_buffer = bytes.into();
        self
    }

    /// How many bytes of datagrams may wait to be sent before
    /// [`send_datagram_wait`](crate::Connection::send_datagram_wait) waits. Any size; 1 MiB.
    ///
    /// Each counts 96 bytes more than its payload. One datagram is always taken, so with 0 there is
    /// one that waits at most. [`send_datagram`](crate::Connection::send_datagram) waits for nothing.
    pub fn datagram_send_buffer(mut self, bytes: usize) -> Self {
        self.datagram_send_buffer = bytes;
        self
    }

    /// How the amount of data in flight follows the path. [`CongestionControl::Cubic`].
    pub fn congestion_control(mut self, algorithm: CongestionControl) -> Self {
        self.congestion_control = algorithm;
        self
    }

    /// Whether CUBIC leaves slow start when the round trips grow longer, rather than at the first
    /// loss (HyStart++, RFC 9406). Off.
    pub fn hystart(mut self, on: bool) -> Self {
        self.hystart = on;
        self
    }

    /// Whether packets are spread over the round trip rather than sent in bursts, once it is longer
    /// than 1 ms (RFC 9002 §7.7). On.
    pub fn pacing(mut self, on: bool) -> Self {
        self.pacing = on;
        self
    }

    /// Whether to try Explicit Congestion Notification (RFC 9000 §13.4): packets are marked, and
    /// the path is checked for leaving the marks alone.
    /// [`ConnectionStats::ecn_capable`](crate::ConnectionStats::ecn_capable) tells the outcome.
    /// Off.
    pub fn ecn(mut self, on: bool) -> Self {
        self.ecn = on;
        self
    }

    /// How many packets may be in flight before anything is known of the path. 1 to 100,000; 10
    /// (RFC 9002 §7.2).
    pub fn initial_window_packets(mut self, packets: u32) -> Self {
        self.initial_window_packets = packets;
        self
    }

    /// The round-trip time to assume before the first measurement; the first retransmission waits
    /// three times that. 1 ms to 71 minutes; 333 ms (RFC 9002 §6.2.2).
    pub fn initial_rtt(mut self, rtt: Duration) -> Self {
        self.initial_rtt = rtt;
        self
    }

    /// How long an acknowledgement may wait for company (RFC 9000 §13.2.1). MsQuic announces it to
    /// the peer with its timer's resolution on top. 1 ms to 16 s; 25 ms.
    pub fn max_ack_delay(mut self, delay: Duration) -> Self {
        self.max_ack_delay = delay;
        self
    }

    /// The size of the packets that a connection begins with: bytes of the whole IP packet, with
    /// the headers of IP and UDP. Where a path turns out to carry less, packets have 1248 bytes,
    /// which every path of QUIC's carries (RFC 9000 §14). 1248 to 1500, at most
    /// [`max_mtu`](Self::max_mtu); 1288.
    pub fn min_mtu(mut self, bytes: u16) -> Self {
        self.min_mtu = bytes;
        self
    }

    /// Up to which packet size to probe the path (RFC 8899), counted like
    /// [`min_mtu`](Self::min_mtu); the same value as there switches the probing off, except on a
    /// path that turned out to carry less than that. 1248 to 1500; 1500.
    pub fn max_mtu(mut self, bytes: u16) -> Self {
        self.max_mtu = bytes;
        self
    }

    /// How long after a search for the path's packet size a connection that sends something begins
    /// the next, to notice that the path carries more by now (`PMTU_RAISE_TIMER` of RFC 8899
    /// §5.1.1). After the path has once carried less than before, it is at most a minute. 1 µs or
    /// more; 10 minutes.
    pub fn mtu_search_interval(mut self, interval: Duration) -> Self {
        self.mtu_search_interval = interval;
        self
    }

    /// Whether clients may move to another address in the middle of a connection (RFC 9000 §9). A
    /// server announces it. A client's own setting has no effect. On.
    pub fn migration(mut self, on: bool) -> Self {
        self.migration = on;
        self
    }

    /// Whether to grease the QUIC bit if the peer does too (RFC 9287). Off: some middleboxes
    /// recognise QUIC by that bit.
    pub fn grease_quic_bit(mut self, on: bool) -> Self {
        self.grease_quic_bit = on;
        self
    }

    /// After how many bytes sent with one key to change to the next (RFC 9001 §6). 1 to 2^38; 2^38,
    /// which is 256 GiB.
    pub fn key_update_after(mut self, bytes: u64) -> Self {
        self.key_update_after = bytes;
        self
    }

    /// Which of several streams with data to send goes first. [`StreamScheduling::RoundRobin`].
    pub fn stream_scheduling(mut self, scheduling: StreamScheduling) -> Self {
        self.stream_scheduling = scheduling;
        self
    }

    /// The code for what is dropped half-way: of the RESET_STREAM of a
    /// [`SendStream`](crate::SendStream) that is dropped unfinished, and of the STOP_SENDING of a
    /// [`RecvStream`](crate::RecvStream) that is dropped before its end. Choose one that says "cancelled"
    /// in your protocol for clients, and "internal error" for servers. 0 to 2^62 - 1; 0.
    pub fn drop_error_code(mut self, code: u64) -> Self {
        self.drop_error_code = code;
        self
    }

    /// How many connections may wait to be accepted by the application before a server refuses
    /// more. At least 1; 1024.
    ///
    /// Clients must [prove their addresses](crate::process::RetryPolicy) once half as many
    /// handshakes are in progress, so forged ones leave room. When the backlog is full, a connection
    /// from an address that has two places less than another takes the place of that one's oldest,
    /// which is refused. Addresses of one IPv6 network of 64 bits count as one.
    ///
    /// Streams that wait to be accepted count as open, also when they are over already, as soon as
    /// 64 of their kind wait: there are never more than that and
    /// [`max_concurrent_uni_streams`](Self::max_concurrent_uni_streams), or its bidirectional twin,
    /// together.
    pub fn accept_backlog(mut self, count: usize) -> Self {
        self.accept_backlog = count;
        self
    }
}

/// How a connection finds out how much data to keep in flight
/// (`QUIC_CONGESTION_CONTROL_ALGORITHM`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum CongestionControl {
    /// CUBIC (RFC 9438): grows until packets are lost.
    #[default]
    Cubic,
    /// BBR, version 1: measures bandwidth and round-trip time, and minds loss little. In MsQuic a
    /// preview feature.
    Bbr,
}

/// Which of several streams of the same priority sends first (`QUIC_STREAM_SCHEDULING_SCHEME`).
/// Whatever is chosen, a stream of a higher [priority](crate::SendStream::set_priority) goes before
/// one of a lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum StreamScheduling {
    /// The one that had data first, until it has no more or is blocked. A small message waits until
    /// every bigger one before it is sent. It takes some 10% less CPU time than
    /// [`RoundRobin`](Self::RoundRobin) where many streams send as much as the machine can, and
    /// ends the first of them sooner.
    Fifo,
    /// All of them in turn, at most about 40 packets each: what MsQuic sends in one go. Data that is
    /// sent before the handshake is done goes [first in, first out](Self::Fifo).
    #[default]
    RoundRobin,
}

/// What a load balancer can read from the connection ids that this process's servers choose.
///
/// A connection id then has 14 bytes: a random one, the server's four, and MsQuic's nine. A client
/// uses it in every packet except its very first ones, for which it makes up an id. The balancer
/// may send such an id to any server, but always to the same one. So a client that moves to another
/// address stays with its server. `docs/load-balancing.md` says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LoadBalancing {
    /// Nothing.
    #[default]
    Off,
    /// These bytes: a number by which the balancer knows the server. Each server behind it has its
    /// own.
    ServerId([u8; 4]),
    /// The address that the client's first packet came to: all of an IPv4 address, the last four
    /// bytes of an IPv6 one.
    ServerAddress,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(30)),
            handshake_timeout: Duration::from_secs(10),
            keep_alive: None,
            disconnect_timeout: Duration::from_secs(16),
            max_concurrent_uni_streams: 1024,
            max_concurrent_bidi_streams: 1024,
            stream_receive_window: 1 << 20,
            connection_flow_control_window: 16 << 20,
            uni_stream_receive_window: None,
            local_bidi_stream_receive_window: None,
            remote_bidi_stream_receive_window: None,
            send_window: None,
            send_buffering: false,
            datagram_receive_buffer: Some(1 << 20),
            datagram_send_buffer: 1 << 20,
            congestion_control: CongestionControl::Cubic,
            hystart: false,
            pacing: true,
            ecn: false,
            initial_window_packets: 10,
            initial_rtt: Duration::from_millis(333),
            max_ack_delay: Duration::from_millis(25),
            min_mtu: 1288,
            max_mtu: 1500,
            mtu_search_interval: Duration::from_secs(600),
            migration: true,
            grease_quic_bit: false,
            key_update_after: MAX_BYTES_PER_KEY,
            stream_scheduling: StreamScheduling::default(),
            drop_error_code: 0,
            accept_backlog: 1024,
        }
    }
}

/// Why a client or server could not be configured. The caller caused it, except for
/// [`ConfigError::Native`], and [`ConfigError::Trust`] with the system's roots: the system caused
/// those.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No application protocol was given; QUIC requires one (RFC 9001 §8.1).
    #[error("no application protocol given; name at least one with `.alpn([\"...\"])`, the same on both sides")]
    EmptyAlpn,
    /// A protocol name is empty or longer than 255 bytes.
    #[error("an application protocol's name has {length} bytes; give each 1 to 255")]
    AlpnLength {
        /// The name's length in bytes.
        length: usize,
    },
    /// The protocol names are too long all together.
    #[error("the application protocols take {length} bytes on the wire; offer fewer, at most 8192 bytes are possible")]
    AlpnListTooLong {
        /// The length of the list as TLS encodes it, in bytes.
        length: usize,
    },
    /// An endpoint was given an empty set of cipher suites.
    #[error("no cipher suite given; name at least one with `.cipher_suites(..)`, or leave that out for all of them")]
    NoCipherSuite,
    /// A transport setting is outside its range.
    #[error("`{field}` is {value}; give {allowed}")]
    #[non_exhaustive]
    OutOfRange {
        /// The setter of [`TransportConfig`], or the setting by its name.
        field: &'static str,
        /// The value it had.
        value: String,
        /// The values it may have.
        allowed: &'static str,
    },
    /// A silent connection would end before its keep-alive could hold it up.
    #[error(
        "`keep_alive` is {keep_alive:?} and `idle_timeout` {idle_timeout:?}; give a keep-alive of less than half of the \
         idle timeout"
    )]
    #[non_exhaustive]
    KeepAliveTooLong {
        /// The [`keep_alive`](TransportConfig::keep_alive).
        keep_alive: Duration,
        /// The [`idle_timeout`](TransportConfig::idle_timeout), which is not longer.
        idle_timeout: Duration,
    },
    /// A server was built without a certificate.
    #[error("a server needs a certificate; give one with `.identity(..)`, for example `Identity::self_signed`")]
    NoIdentity,
    /// The certificate or its key is of no use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The roots of trust are of no use.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A server is to resume sessions and asks its clients for certificates. A resumed session
    /// shows none, and the client's could not be judged again.
    #[error(
        "a server that asks clients for certificates cannot resume sessions; leave out `.resumption(..)`, or `.client_auth(..)`"
    )]
    ResumptionOfClients,
    /// Ticket keys were given to a server that does not resume sessions.
    #[error("ticket keys are for servers that resume sessions; give the builder `.resumption(..)` as well")]
    ResumptionOff,
    /// Too few ticket keys, or more than MsQuic takes.
    #[error("{count} ticket keys were given; give 1 to 16, the one for new tickets first")]
    TicketKeyCount {
        /// How many were given.
        count: usize,
    },
    /// The system has no random numbers to make a ticket key of.
    #[error("the system gives no random numbers; make the key elsewhere and use `TicketKey::from_secret`")]
    NoRandomness,
    /// The key log cannot be opened for writing.
    #[error("cannot write the key log {}: {source}", .path.display())]
    #[non_exhaustive]
    KeyLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// What is to be set must be set before the process's first server is bound and before a client
    /// connects.
    #[error("too late: set it before the first server is bound and before any client connects")]
    InUse,
    /// The linked MsQuic is an installed one, or was built without speed edits, and would poll
    /// whether it pays or not.
    #[error("this MsQuic cannot poll only while it is busy; use the one that is built along, with its speed edits")]
    CannotPoll,
    /// A client is to use a server's socket, and the server has stopped listening.
    #[error("the server has stopped listening; make the client before that")]
    NotListening,
    /// A client is to use a server's socket, which the threads of another runtime serve: because the
    /// client was given another [`Registration`](crate::Registration), or because a client of an
    /// earlier server, made in another runtime, has the socket still.
    #[error("the socket is served by the threads of another runtime; make the client and the servers of a port in one")]
    NotTheServersThreads,
    /// The linked MsQuic is an installed one, which keeps the sockets of clients and servers apart.
    #[error("this MsQuic has no client use a server's socket; use the one that is built along, or `Client::builder`")]
    CannotShareServersSocket,
    /// The [socket](crate::ClientBuilder::socket) that a client was handed cannot be used.
    #[error(transparent)]
    Socket(#[from] SocketRefusal),
    /// A [qlog](crate::ClientBuilder) is wanted of an installed MsQuic, which logs no packets.
    #[error("this MsQuic logs no packets; use the one that is built along, or leave out `.qlog(..)`")]
    CannotLogPackets,
    /// The linked MsQuic is an installed one, which cannot count handshakes.
    #[error("this MsQuic cannot count handshakes; use the one that is built along, or another retry policy")]
    CannotCountHandshakes,
    /// This process was forked from the one that used the library first. See the documentation of
    /// the crate, *Forks*.
    #[error("{}", NativeError::FORKED)]
    Forked,
    /// The system has no memory, threads or descriptors left for what MsQuic starts.
    #[error(transparent)]
    System(SystemError),
    /// MsQuic could not start or refused the settings.
    #[error("the QUIC library refused the configuration: {0}")]
    Native(NativeError),
}

impl From<ConfigError> for io::Error {
    fn from(error: ConfigError) -> Self {
        let kind = match error {
            ConfigError::System(error) => return error.into(),
            ConfigError::Native(error) => return error.into(),
            ConfigError::Socket(error) => return error.into(),
            ConfigError::Identity(error) => return error.into(),
            ConfigError::Trust(error) => return error.into(),
            ConfigError::KeyLog { ref source, .. } => source.kind(),
            ConfigError::NoRandomness => io::ErrorKind::Other,
            ConfigError::NotListening => io::ErrorKind::NotConnected,
            ConfigError::InUse => io::ErrorKind::ResourceBusy,
            ConfigError::Forked
            | ConfigError::CannotPoll
            | ConfigError::CannotShareServersSocket
            | ConfigError::CannotLogPackets
            | ConfigError::CannotCountHandshakes => io::ErrorKind::Unsupported,
            ConfigError::EmptyAlpn
            | ConfigError::AlpnLength { .. }
            | ConfigError::AlpnListTooLong { .. }
            | ConfigError::NoCipherSuite
            | ConfigError::OutOfRange { .. }
            | ConfigError::KeepAliveTooLong { .. }
            | ConfigError::NoIdentity
            | ConfigError::ResumptionOfClients
            | ConfigError::ResumptionOff
            | ConfigError::TicketKeyCount { .. }
            | ConfigError::NotTheServersThreads => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl From<NativeError> for ConfigError {
    fn from(error: NativeError) -> Self {
        match (error, SystemError::from_native(error)) {
            (NativeError::FORKED, _) => Self::Forked,
            (
                _,
                Some(error @ (SystemError::OutOfDescriptors | SystemError::OutOfThreads | SystemError::OutOfMemory)),
            ) => Self::System(error),
            _ => Self::Native(error),
        }
    }
}

/// MsQuic's QUIC_DEFAULT_MAX_BYTES_PER_KEY, which is also the most it takes.
pub(crate) const MAX_BYTES_PER_KEY: u64 = 1 << 38;
