//! Transport settings, and what can be wrong with the configuration of a client or server.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use sendstream_sys as sys;

use crate::{
    native::configuration::unset_settings,
    types::{
        error::NativeError,
        tls::{IdentityError, TrustError},
    },
};

/// How the transport behaves: timeouts, limits and windows. One value serves both builders.
///
/// Fields that are not of interest keep their defaults:
///
/// ```
/// use std::time::Duration;
/// use sendstream::TransportConfig;
///
/// let config = TransportConfig { idle_timeout: Some(Duration::from_secs(5)), ..Default::default() };
/// ```
///
/// A value outside the range that its field names is refused when the client or server is built
/// ([`ConfigError::OutOfRange`]); nothing is clamped. Durations count in whole milliseconds, a fraction is rounded up.
///
/// # Memory
///
/// A peer can make this side hold at most [`connection_flow_control_window`](Self::connection_flow_control_window)
/// bytes of stream data per connection that the application has not read yet, over all its streams, up to 128 pieces of at most
/// 2 KiB beyond them, and [`datagram_receive_buffer`](Self::datagram_receive_buffer) bytes of datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportConfig {
    /// After how long without a packet from the peer the connection ends as timed out (RFC 9000 §10.1); `None` for
    /// never, as far as the peer agrees: the shorter of both sides' values counts. 1 ms to `u32::MAX` ms; 30 s.
    pub idle_timeout: Option<Duration>,
    /// How long the handshake may take as a whole: a client gives up then, and a server lets go of a connection whose
    /// handshake is not done, also if that is because its application has not accepted it. MsQuic ends a handshake
    /// without a packet from the peer for as long. 1 ms to `u32::MAX` ms; 10 s.
    pub handshake_timeout: Duration,
    /// How often to send a PING on a silent connection, so that neither side's idle timeout strikes; `None` for not at
    /// all. Give less than half of the idle timeout, so that one lost packet does no harm. 1 ms to 71 minutes, past
    /// which MsQuic's arithmetic would overflow; `None`.
    pub keep_alive: Option<Duration>,
    /// How long sent data may stay unacknowledged before the peer counts as gone and the connection ends as timed out.
    /// 1 ms to 10 minutes; 16 s.
    pub disconnect_timeout: Duration,
    /// How many unidirectional streams the peer may have open at once (RFC 9000 §4.6); 0 forbids them. 1024.
    pub max_concurrent_uni_streams: u16,
    /// How many bidirectional streams the peer may have open at once (RFC 9000 §4.6); 0 forbids them. 1024.
    pub max_concurrent_bidi_streams: u16,
    /// How many bytes the peer may send on a stream ahead of what the application has read. A power of two from 4 KiB
    /// to 2 GiB; 1 MiB.
    ///
    /// MsQuic begins with this and doubles it while the application keeps up, until it reaches the connection's
    /// window. The memory behind it is allocated as data arrives. It matters where there is delay: with 64 KiB, MsQuic's
    /// own default, a stream's first round trips carry no more than that each; 1 MiB covers 10 Gbit/s within a data
    /// centre (0.8 ms) from the start, and longer paths are reached by doubling. On one machine the processor is the
    /// limit, not the window.
    pub stream_receive_window: u32,
    /// [`stream_receive_window`](Self::stream_receive_window) for the peer's unidirectional streams, where it is to differ.
    /// The same range; `None`, the common one.
    pub uni_stream_receive_window: Option<u32>,
    /// [`stream_receive_window`](Self::stream_receive_window) for bidirectional streams that this side opens, where it is
    /// to differ. The same range; `None`, the common one.
    pub local_bidi_stream_receive_window: Option<u32>,
    /// [`stream_receive_window`](Self::stream_receive_window) for bidirectional streams that the peer opens, where it is to
    /// differ. The same range; `None`, the common one.
    pub remote_bidi_stream_receive_window: Option<u32>,
    /// How many bytes the peer may send on all streams together ahead of what the application has read. 4 KiB to
    /// `u32::MAX`; 16 MiB.
    ///
    /// This is the ceiling of a connection's throughput: window divided by round-trip time, which for 16 MiB and 10 ms
    /// is 13 Gbit/s. For long fat paths give at least bandwidth times delay. MsQuic also derives from it how many
    /// received packets may wait for its worker: one per KiB.
    pub connection_flow_control_window: u32,
    /// How many bytes of one stream may be accepted and not yet acknowledged before writes wait; `None` follows what
    /// MsQuic finds ideal for the path (`QUIC_STREAM_EVENT_IDEAL_SEND_BUFFER_SIZE`): 128 KiB at first, and at most 1 MiB more
    /// than 10 Gbit/s fill the path's smallest round trip with. 1 to `u32::MAX`; `None`.
    pub send_window: Option<u32>,
    /// Whether MsQuic copies what is sent, and so takes more than [`send_window`](Self::send_window) before the peer has
    /// acknowledged any. Off.
    ///
    /// Off, nothing is copied, and MsQuic tells of each operation when the peer has acknowledged it. On, it tells when it
    /// has copied the bytes: writes go on then, and a buffer is free. That the peer has them is known only from its
    /// acknowledgement of the stream's end, so `send` and `acked` resolve with `finished` and not before, nor does `start`
    /// on a stream that a send has started while the peer's limit did not admit it. Good for many small writes, each of
    /// which nobody waits for.
    pub send_buffering: bool,
    /// How many bytes of the peer's datagrams (RFC 9221) may wait for
    /// [`read_datagram`](crate::Connection::read_datagram); `None` for taking none, which the peer is told. Any size; 1 MiB.
    ///
    /// Each datagram counts 96 bytes more than it has, which is what keeping it costs. When there is no room the oldest are
    /// dropped, and [counted](crate::Connection::dropped_datagrams); the newest is always kept, so that 0 keeps just that.
    /// Sending datagrams is up to the peer's setting alone.
    pub datagram_receive_buffer: Option<usize>,
    /// How the amount of data in flight follows the path. [`CongestionControl::Cubic`].
    pub congestion_control: CongestionControl,
    /// Whether CUBIC leaves slow start when the round trips grow longer, rather than at the first loss (HyStart++, RFC 9406).
    /// Off.
    pub hystart: bool,
    /// Whether packets are spread over the round trip rather than sent in bursts, once it is longer than 1 ms (RFC 9002
    /// §7.7). On.
    pub pacing: bool,
    /// Whether to try Explicit Congestion Notification (RFC 9000 §13.4): packets are marked, and the path is checked for
    /// leaving the marks alone. [`ConnectionStats::ecn_capable`](crate::ConnectionStats::ecn_capable) tells the outcome.
    /// Off.
    pub ecn: bool,
    /// How many packets may be in flight before anything is known of the path. 1 to 100,000; 10 (RFC 9002 §7.2).
    pub initial_window_packets: u32,
    /// The round-trip time to assume before the first measurement; the first retransmission waits three times that. 1 ms
    /// to 71 minutes; 333 ms (RFC 9002 §6.2.2).
    pub initial_rtt: Duration,
    /// How long an acknowledgement may wait for company (RFC 9000 §13.2.1). MsQuic announces it to the peer with its
    /// timer's resolution on top. 1 ms to 16 s; 25 ms.
    pub max_ack_delay: Duration,
    /// The size of the packets that a connection begins with: bytes of the whole IP packet, with the headers of IP and
    /// UDP. A path that cannot carry it carries no connection. 1248 to 1500, at most [`max_mtu`](Self::max_mtu); 1288.
    pub min_mtu: u16,
    /// Up to which packet size to probe the path (RFC 8899), counted like [`min_mtu`](Self::min_mtu); the same value as
    /// there switches the probing off. 1248 to 1500; 1500.
    pub max_mtu: u16,
    /// Whether clients may move to another address in the middle of a connection (RFC 9000 §9): what a server announces.
    /// A client's own setting has no effect. On.
    pub migration: bool,
    /// Whether to grease the QUIC bit where the peer does too (RFC 9287). Off: some middleboxes tell QUIC by that bit.
    pub grease_quic_bit: bool,
    /// After how many bytes sent with one key to change to the next (RFC 9001 §6). 1 to 2^38; 2^38, which is 256 GiB.
    pub key_update_after: u64,
    /// Which of several streams with data to send goes first. [`StreamScheduling::Fifo`].
    pub stream_scheduling: StreamScheduling,
    /// The code of the RESET_STREAM that a [`SendStream`](crate::SendStream) sends when it is dropped unfinished. 0 to
    /// 2^62 - 1; 0.
    pub drop_error_code: u64,
    /// How many connections may wait to be accepted by the application before a server refuses more. At least 1; 1024.
    ///
    /// Streams that wait to be accepted count as open, also when they are over already, as soon as 64 of their kind
    /// wait: there are never more than that and [`max_concurrent_uni_streams`](Self::max_concurrent_uni_streams), or its
    /// bidirectional twin, together.
    pub accept_backlog: usize,
}

/// How a connection finds out how much data to keep in flight (`QUIC_CONGESTION_CONTROL_ALGORITHM`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CongestionControl {
    /// CUBIC (RFC 9438): grows until packets are lost.
    #[default]
    Cubic,
    /// BBR, version 1: measures bandwidth and round-trip time, and minds loss little. In MsQuic a preview feature.
    Bbr,
}

/// Which of several streams of the same priority sends first (`QUIC_STREAM_SCHEDULING_SCHEME`). Whatever is chosen, a
/// stream of a higher [priority](crate::SendStream::set_priority) goes before one of a lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StreamScheduling {
    /// The one that had data first, until it has no more or is blocked.
    #[default]
    Fifo,
    /// All of them in turn, a few packets each.
    RoundRobin,
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
            congestion_control: CongestionControl::Cubic,
            hystart: false,
            pacing: true,
            ecn: false,
            initial_window_packets: 10,
            initial_rtt: Duration::from_millis(333),
            max_ack_delay: Duration::from_millis(25),
            min_mtu: 1288,
            max_mtu: 1500,
            migration: true,
            grease_quic_bit: false,
            key_update_after: MAX_BYTES_PER_KEY,
            stream_scheduling: StreamScheduling::Fifo,
            drop_error_code: 0,
            accept_backlog: 1024,
        }
    }
}

/// A `QUIC_SETTINGS` with each of these set and the bit in `IsSet` that makes MsQuic look at it, and how many they are. The
/// C struct keeps numbers in fields, older switches in bits of its own and newer ones in `Flags`; a number has its
/// field's name and that of the setter of its bit.
macro_rules! settings {
    (
        numbers { $($number:ident / $number_is_set:ident : $number_value:expr,)* }
        switches { $($switch:ident : $switch_value:expr,)* }
        flags { $($flag:ident : $flag_value:expr,)* }
    ) => {{
        let mut settings = unset_settings();
        let mut is_set = sys::QUIC_SETTINGS__bindgen_ty_1__bindgen_ty_1 {
            _bitfield_align_1: [],
            _bitfield_1: sys::__BindgenBitfieldUnit::new([0; 8]),
        };
        let mut flags = sys::QUIC_SETTINGS__bindgen_ty_2__bindgen_ty_1 {
            _bitfield_align_1: [],
            _bitfield_1: sys::__BindgenBitfieldUnit::new([0; 8]),
        };
        let names = [$(stringify!($number),)* $(stringify!($switch),)* $(stringify!($flag),)*];
        $(settings.$number = $number_value; is_set.$number_is_set(1);)*
        $(settings.$switch($switch_value.into()); is_set.$switch(1);)*
        $(flags.$flag($flag_value.into()); is_set.$flag(1);)*
        settings.__bindgen_anon_1 = sys::QUIC_SETTINGS__bindgen_ty_1 { IsSet: is_set };
        settings.__bindgen_anon_2 = sys::QUIC_SETTINGS__bindgen_ty_2 { __bindgen_anon_1: flags };
        (settings, names.len())
    }};
}

impl TransportConfig {
    /// Checks every field and gives MsQuic's form of those that are MsQuic's.
    ///
    /// One setting is not the user's: a stream may have several receives outstanding, so that chunks can be read while the
    /// application still holds earlier ones.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfRange`] for the first field that is outside its range.
    pub(crate) fn to_settings(&self) -> Result<sys::QUIC_SETTINGS, ConfigError> {
        self.to_counted_settings().map(|(settings, _)| settings)
    }

    /// [`Self::to_settings`], and how many of them are set.
    fn to_counted_settings(&self) -> Result<(sys::QUIC_SETTINGS, usize), ConfigError> {
        // MsQuic takes 0 for "no timeout", and no keep-alive.
        let idle_timeout = self.idle_timeout.map_or(Ok(0), |value| milliseconds("idle_timeout", value))?;
        let keep_alive = self.keep_alive.map_or(Ok(0), |value| short_milliseconds("keep_alive", value))?;
        let handshake_timeout = milliseconds("handshake_timeout", self.handshake_timeout)?;
        let disconnect_timeout = milliseconds("disconnect_timeout", self.disconnect_timeout)?;
        require(disconnect_timeout <= MAX_DISCONNECT_TIMEOUT_MS, || {
            out_of_range("disconnect_timeout", format!("{:?}", self.disconnect_timeout), "1 ms to 10 minutes")
        })?;
        let stream_window = stream_window("stream_receive_window", self.stream_receive_window)?;
        let window_or_common =
            |field, window: Option<u32>| window.map_or(Ok(stream_window), |window| self::stream_window(field, window));
        let uni_window = window_or_common("uni_stream_receive_window", self.uni_stream_receive_window)?;
        let local_bidi_window =
            window_or_common("local_bidi_stream_receive_window", self.local_bidi_stream_receive_window)?;
        let remote_bidi_window =
            window_or_common("remote_bidi_stream_receive_window", self.remote_bidi_stream_receive_window)?;
        let connection_window = self.connection_flow_control_window;
        require(connection_window >= MIN_WINDOW, || {
            out_of_range("connection_flow_control_window", connection_window.to_string(), "4 KiB or more")
        })?;
        require(self.send_window != Some(0), || out_of_range("send_window", "0".to_owned(), "1 byte or more"))?;
        require((1..=MAX_INITIAL_WINDOW_PACKETS).contains(&self.initial_window_packets), || {
            out_of_range("initial_window_packets", self.initial_window_packets.to_string(), "1 to 100,000 packets")
        })?;
        let initial_rtt = short_milliseconds("initial_rtt", self.initial_rtt)?;
        let max_ack_delay =
            milliseconds("max_ack_delay", self.max_ack_delay).ok().filter(|delay| *delay <= MAX_ACK_DELAY_MS);
        let max_ack_delay = max_ack_delay
            .ok_or_else(|| out_of_range("max_ack_delay", format!("{:?}", self.max_ack_delay), "1 ms to 16 s"))?;
        for (field, value) in [("min_mtu", self.min_mtu), ("max_mtu", self.max_mtu)] {
            require((MIN_MTU..=MAX_MTU).contains(&value), || {
                out_of_range(field, value.to_string(), "1248 to 1500 bytes")
            })?;
        }
        require(self.min_mtu <= self.max_mtu, || {
            out_of_range("min_mtu", self.min_mtu.to_string(), "at most `max_mtu`")
        })?;
        require((1..=MAX_BYTES_PER_KEY).contains(&self.key_update_after), || {
            out_of_range("key_update_after", self.key_update_after.to_string(), "1 to 2^38 bytes")
        })?;
        require(self.drop_error_code <= MAX_ERROR_CODE, || {
            out_of_range("drop_error_code", self.drop_error_code.to_string(), "0 to 2^62 - 1")
        })?;
        require(self.accept_backlog > 0, || out_of_range("accept_backlog", "0".to_owned(), "1 or more"))?;

        Ok(settings! {
            numbers {
                IdleTimeoutMs/set_IdleTimeoutMs: idle_timeout.into(),
                HandshakeIdleTimeoutMs/set_HandshakeIdleTimeoutMs: handshake_timeout.into(),
                KeepAliveIntervalMs/set_KeepAliveIntervalMs: keep_alive,
                DisconnectTimeoutMs/set_DisconnectTimeoutMs: disconnect_timeout,
                PeerUnidiStreamCount/set_PeerUnidiStreamCount: self.max_concurrent_uni_streams,
                PeerBidiStreamCount/set_PeerBidiStreamCount: self.max_concurrent_bidi_streams,
                StreamRecvWindowDefault/set_StreamRecvWindowDefault: stream_window,
                StreamRecvWindowUnidiDefault/set_StreamRecvWindowUnidiDefault: uni_window,
                StreamRecvWindowBidiLocalDefault/set_StreamRecvWindowBidiLocalDefault: local_bidi_window,
                StreamRecvWindowBidiRemoteDefault/set_StreamRecvWindowBidiRemoteDefault: remote_bidi_window,
                ConnFlowControlWindow/set_ConnFlowControlWindow: connection_window,
                CongestionControlAlgorithm/set_CongestionControlAlgorithm: self.congestion_control.native(),
                InitialWindowPackets/set_InitialWindowPackets: self.initial_window_packets,
                InitialRttMs/set_InitialRttMs: initial_rtt,
                MaxAckDelayMs/set_MaxAckDelayMs: max_ack_delay,
                MinimumMtu/set_MinimumMtu: self.min_mtu,
                MaximumMtu/set_MaximumMtu: self.max_mtu,
                MaxBytesPerKey/set_MaxBytesPerKey: self.key_update_after,
            }
            switches {
                set_PacingEnabled: self.pacing,
                set_EcnEnabled: self.ecn,
                set_MigrationEnabled: self.migration,
                set_GreaseQuicBitEnabled: self.grease_quic_bit,
                set_SendBufferingEnabled: self.send_buffering,
                set_DatagramReceiveEnabled: self.datagram_receive_buffer.is_some(),
            }
            flags {
                set_HyStartEnabled: self.hystart,
                set_StreamMultiReceiveEnabled: true,
            }
        })
    }
}

impl CongestionControl {
    /// MsQuic's name for it.
    fn native(self) -> u16 {
        let algorithm = match self {
            Self::Cubic => sys::QUIC_CONGESTION_CONTROL_ALGORITHM_QUIC_CONGESTION_CONTROL_ALGORITHM_CUBIC,
            Self::Bbr => sys::QUIC_CONGESTION_CONTROL_ALGORITHM_QUIC_CONGESTION_CONTROL_ALGORITHM_BBR,
        };
        algorithm as u16
    }
}

impl StreamScheduling {
    /// MsQuic's name for it: a parameter of the connection, which the setting's struct has no place for.
    pub(crate) fn native(self) -> sys::QUIC_STREAM_SCHEDULING_SCHEME {
        match self {
            Self::Fifo => sys::QUIC_STREAM_SCHEDULING_SCHEME_QUIC_STREAM_SCHEDULING_SCHEME_FIFO,
            Self::RoundRobin => sys::QUIC_STREAM_SCHEDULING_SCHEME_QUIC_STREAM_SCHEDULING_SCHEME_ROUND_ROBIN,
        }
    }
}

/// Why a client or server could not be configured. The caller's doing, but for [`ConfigError::Trust`] with the system's
/// roots and [`ConfigError::Native`], which are the system's.
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
    #[error("the application protocols take {length} bytes on the wire; offer fewer, at most 65535 bytes are possible")]
    AlpnListTooLong {
        /// The length of the list as TLS encodes it, in bytes.
        length: usize,
    },
    /// An endpoint was given an empty set of cipher suites.
    #[error("no cipher suite given; name at least one with `.cipher_suites(..)`, or leave that out for all of them")]
    NoCipherSuite,
    /// A transport setting is outside its range.
    #[error("`{field}` is {value}; give {allowed}")]
    OutOfRange {
        /// The field of [`TransportConfig`], or the setting by its name.
        field: &'static str,
        /// The value it had.
        value: String,
        /// The values it may have.
        allowed: &'static str,
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
    /// A server is to resume sessions and asks its clients for certificates. A resumed session shows none, and the client's
    /// could not be judged again.
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
    KeyLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// What is to be set must be set before the process's first server is bound and before a client connects.
    #[error("too late: set it before the first server is bound and before any client connects")]
    InUse,
    /// The linked MsQuic is an installed one, or was built without speed edits, and would poll whether it pays or not.
    #[error("this MsQuic cannot poll only while it is busy; use the one that is built along, with its speed edits")]
    CannotPoll,
    /// MsQuic could not start or refused the settings.
    #[error("the QUIC library refused the configuration: {0}; if it ran out of memory or threads, free some and retry")]
    Native(#[from] NativeError),
}

/// `value` in milliseconds, rounded up.
fn milliseconds(field: &'static str, value: Duration) -> Result<u32, ConfigError> {
    let milliseconds = value.as_nanos().div_ceil(1_000_000);
    match u32::try_from(milliseconds) {
        Ok(milliseconds) if milliseconds > 0 => Ok(milliseconds),
        _ => Err(out_of_range(field, format!("{value:?}"), "1 ms to 2^32 - 1 ms")),
    }
}

/// `value` in milliseconds where MsQuic multiplies it by 1000 in 32 bits (`MS_TO_US`).
fn short_milliseconds(field: &'static str, value: Duration) -> Result<u32, ConfigError> {
    match milliseconds(field, value) {
        Ok(milliseconds) if milliseconds <= MAX_SHORT_MS => Ok(milliseconds),
        _ => Err(out_of_range(field, format!("{value:?}"), "1 ms to 71 minutes")),
    }
}

/// `bytes` as MsQuic takes the receive window of a stream.
fn stream_window(field: &'static str, bytes: u32) -> Result<u32, ConfigError> {
    require(bytes.is_power_of_two() && bytes >= MIN_WINDOW, || {
        out_of_range(field, bytes.to_string(), "a power of two from 4 KiB to 2 GiB")
    })?;
    Ok(bytes)
}

fn require(holds: bool, error: impl FnOnce() -> ConfigError) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(error()) }
}

fn out_of_range(field: &'static str, value: String, allowed: &'static str) -> ConfigError {
    ConfigError::OutOfRange { field, value, allowed }
}

/// The smallest windows: a stream's receive buffer begins with 4 KiB.
const MIN_WINDOW: u32 = 4096;

/// The last whole minute before `MS_TO_US` overflows in 32 bits.
const MAX_SHORT_MS: u32 = 71 * 60_000;

/// CUBIC multiplies the window in bytes by 17 in 32 bits; with 1500 bytes for each packet this leaves it room to grow by
/// two thirds.
const MAX_INITIAL_WINDOW_PACKETS: u32 = 100_000;

/// What RFC 9000 §18.2 lets a peer be told is 2^14 - 1 ms, and MsQuic adds its timer's resolution, less than 256 ms. It
/// takes 0 as well, but then announces less than its own `min_ack_delay`, and no peer of its kind accepts that.
const MAX_ACK_DELAY_MS: u32 = 16_000;

/// MsQuic's QUIC_DPLPMTUD_MIN_MTU: the 1200 bytes of RFC 9000 §14.1, and the headers of IPv6 and UDP.
const MIN_MTU: u16 = 1248;

/// MsQuic's CXPLAT_MAX_MTU.
const MAX_MTU: u16 = 1500;

/// MsQuic's QUIC_DEFAULT_MAX_BYTES_PER_KEY, which is also the most it takes.
const MAX_BYTES_PER_KEY: u64 = 1 << 38;

/// MsQuic's QUIC_MAX_DISCONNECT_TIMEOUT.
const MAX_DISCONNECT_TIMEOUT_MS: u32 = 600_000;

/// The largest application error code: what a variable-length integer can hold (RFC 9000 §16).
const MAX_ERROR_CODE: u64 = (1 << 62) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// The field that `config` is refused for.
    fn refused_field(config: TransportConfig) -> &'static str {
        match config.to_settings() {
            Err(ConfigError::OutOfRange { field, .. }) => field,
            Err(error) => panic!("another error: {error}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[test]
    fn the_defaults_are_in_range() {
        assert!(TransportConfig::default().to_settings().is_ok());
    }

    #[test]
    fn none_stands_for_never_and_milliseconds_round_up() {
        let config =
            TransportConfig { idle_timeout: None, keep_alive: Some(Duration::from_micros(1500)), ..Default::default() };
        let settings = config.to_settings().unwrap();
        assert_eq!(settings.IdleTimeoutMs, 0);
        assert_eq!(settings.KeepAliveIntervalMs, 2);
    }

    #[test]
    fn send_buffering_is_off_and_chunks_may_be_held() {
        let (settings, count) = TransportConfig::default().to_counted_settings().unwrap();
        assert_eq!(settings.SendBufferingEnabled(), 0);
        // Bits 24 and 42 of IsSet, and bit 5 of Flags, in `struct QUIC_SETTINGS` of msquic.h.
        const SEND_BUFFERING_IS_SET: u64 = 1 << 24;
        const MULTI_RECEIVE_IS_SET: u64 = 1 << 42;
        const MULTI_RECEIVE: u64 = 1 << 5;
        let (is_set, flags) = crate::native::configuration::raw_flags(&settings);
        assert_eq!(is_set & SEND_BUFFERING_IS_SET, SEND_BUFFERING_IS_SET);
        assert_eq!(is_set & MULTI_RECEIVE_IS_SET, MULTI_RECEIVE_IS_SET);
        assert_eq!(flags, MULTI_RECEIVE);
        // A number with the bit of another would set one bit twice.
        assert_eq!(is_set.count_ones() as usize, count, "each has a bit of its own");
    }

    #[test]
    fn datagrams_are_received_unless_there_is_no_buffer_for_them() {
        // Bit 27 of IsSet in `struct QUIC_SETTINGS` of msquic.h.
        const DATAGRAM_RECEIVE_IS_SET: u64 = 1 << 27;
        for (buffer, enabled) in [(None, 0), (Some(0), 1), (Some(usize::MAX), 1)] {
            let config = TransportConfig { datagram_receive_buffer: buffer, ..Default::default() };
            let settings = config.to_settings().unwrap();
            assert_eq!(settings.DatagramReceiveEnabled(), enabled);
            let (is_set, _) = crate::native::configuration::raw_flags(&settings);
            assert_eq!(is_set & DATAGRAM_RECEIVE_IS_SET, DATAGRAM_RECEIVE_IS_SET);
        }
    }

    #[test]
    fn timeouts_of_zero_or_fifty_days_are_refused() {
        let fifty_days = Duration::from_secs(50 * 24 * 3600);
        for duration in [Duration::ZERO, fifty_days, Duration::MAX] {
            let config = || TransportConfig::default();
            assert_eq!(refused_field(TransportConfig { idle_timeout: Some(duration), ..config() }), "idle_timeout");
            assert_eq!(refused_field(TransportConfig { keep_alive: Some(duration), ..config() }), "keep_alive");
            assert_eq!(refused_field(TransportConfig { handshake_timeout: duration, ..config() }), "handshake_timeout");
            assert_eq!(refused_field(TransportConfig { initial_rtt: duration, ..config() }), "initial_rtt");
            assert_eq!(
                refused_field(TransportConfig { disconnect_timeout: duration, ..config() }),
                "disconnect_timeout"
            );
        }
    }

    #[test]
    fn a_disconnect_timeout_ends_at_ten_minutes() {
        let config =
            |seconds: u64| TransportConfig { disconnect_timeout: Duration::from_secs(seconds), ..Default::default() };
        assert!(config(600).to_settings().is_ok());
        assert_eq!(refused_field(config(601)), "disconnect_timeout");
    }

    #[test]
    fn a_keep_alive_ends_at_seventy_one_minutes() {
        let config = |minutes: u64| TransportConfig {
            keep_alive: Some(Duration::from_secs(60 * minutes)),
            ..Default::default()
        };
        assert!(config(71).to_settings().is_ok());
        assert_eq!(refused_field(config(72)), "keep_alive");
    }

    #[test]
    fn a_stream_window_is_a_power_of_two() {
        for bytes in [0, 1, 2048, 4097, 1_000_000, u32::MAX] {
            let config = TransportConfig { stream_receive_window: bytes, ..Default::default() };
            assert_eq!(refused_field(config), "stream_receive_window");
        }
        for bytes in [4096, 1 << 31] {
            assert!(TransportConfig { stream_receive_window: bytes, ..Default::default() }.to_settings().is_ok());
        }
    }

    #[test]
    fn the_window_of_one_kind_of_stream_overrides_the_common_one() {
        let config = TransportConfig {
            stream_receive_window: 1 << 14,
            uni_stream_receive_window: Some(1 << 15),
            remote_bidi_stream_receive_window: Some(1 << 16),
            ..Default::default()
        };
        let settings = config.to_settings().unwrap();
        assert_eq!(settings.StreamRecvWindowDefault, 1 << 14);
        assert_eq!(settings.StreamRecvWindowUnidiDefault, 1 << 15);
        assert_eq!(settings.StreamRecvWindowBidiLocalDefault, 1 << 14);
        assert_eq!(settings.StreamRecvWindowBidiRemoteDefault, 1 << 16);
        let config = || TransportConfig::default();
        let (odd, uni) = (Some(5000), TransportConfig { uni_stream_receive_window: Some(0), ..config() });
        assert_eq!(refused_field(uni), "uni_stream_receive_window");
        assert_eq!(
            refused_field(TransportConfig { local_bidi_stream_receive_window: odd, ..config() }),
            "local_bidi_stream_receive_window"
        );
        assert_eq!(
            refused_field(TransportConfig { remote_bidi_stream_receive_window: odd, ..config() }),
            "remote_bidi_stream_receive_window"
        );
    }

    #[test]
    fn what_is_on_can_be_switched_off_and_the_other_way_round() {
        let config = TransportConfig {
            pacing: false,
            ecn: true,
            migration: false,
            grease_quic_bit: true,
            hystart: true,
            send_buffering: true,
            congestion_control: CongestionControl::Bbr,
            ..Default::default()
        };
        let [off, on] = [TransportConfig::default(), config].map(|config| {
            let settings = config.to_settings().unwrap();
            let flags = [
                settings.PacingEnabled(),
                settings.EcnEnabled(),
                settings.MigrationEnabled(),
                settings.GreaseQuicBitEnabled(),
                settings.SendBufferingEnabled(),
                // Bit 0 of Flags in `struct QUIC_SETTINGS` of msquic.h.
                (crate::native::configuration::raw_flags(&settings).1 & 1) as u8,
            ];
            (flags, settings.CongestionControlAlgorithm)
        });
        assert_eq!(off, ([1, 0, 1, 0, 0, 0], 0));
        assert_eq!(on, ([0, 1, 0, 1, 1, 1], 1));
    }

    #[test]
    fn a_connection_has_the_settings_that_were_asked_for() {
        use crate::{Client, Identity, Server, Trust, native::configuration::raw_flags};
        for on in [false, true] {
            let asked = TransportConfig {
                hystart: on,
                pacing: !on,
                ecn: on,
                send_buffering: on,
                migration: !on,
                grease_quic_bit: on,
                datagram_receive_buffer: on.then_some(1),
                max_ack_delay: Duration::from_millis(if on { 20 } else { 30 }),
                initial_window_packets: if on { 20 } else { 30 },
                idle_timeout: on.then_some(Duration::from_secs(40)),
                keep_alive: on.then_some(Duration::from_secs(4)),
                ..Default::default()
            };
            let wanted = asked.to_settings().unwrap();
            let identity = Identity::self_signed(["localhost"]).unwrap();
            let trust = Trust::pinned([identity.certificate_sha256()]);
            let server = Server::builder().identity(identity).alpn(["x"]).transport(asked.clone());
            let server = server.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let client = Client::builder().alpn(["x"]).trust(trust).transport(asked).build().unwrap();
            let address = server.local_addr().unwrap();
            let (connected, accepted) =
                futures::executor::block_on(futures::future::join(client.connect(address, "localhost"), async {
                    server.accept().await.unwrap().accept().await
                }));
            for connection in [connected.unwrap(), accepted.unwrap()] {
                let got: sys::QUIC_SETTINGS = connection.instance().parameter().unwrap();
                assert_eq!(got.PacingEnabled(), wanted.PacingEnabled());
                assert_eq!(got.EcnEnabled(), wanted.EcnEnabled());
                assert_eq!(got.SendBufferingEnabled(), wanted.SendBufferingEnabled());
                assert_eq!(got.MigrationEnabled(), wanted.MigrationEnabled());
                assert_eq!(got.GreaseQuicBitEnabled(), wanted.GreaseQuicBitEnabled());
                assert_eq!(got.DatagramReceiveEnabled(), wanted.DatagramReceiveEnabled());
                assert_eq!(got.MaxAckDelayMs, wanted.MaxAckDelayMs);
                assert_eq!(got.InitialWindowPackets, wanted.InitialWindowPackets);
                assert_eq!(got.IdleTimeoutMs, wanted.IdleTimeoutMs);
                assert_eq!(got.KeepAliveIntervalMs, wanted.KeepAliveIntervalMs);
                // Bit 0 of Flags in `struct QUIC_SETTINGS` of msquic.h.
                const HYSTART: u64 = 1;
                assert_eq!(raw_flags(&got).1 & HYSTART, raw_flags(&wanted).1 & HYSTART);
            }
        }
    }

    #[test]
    fn packets_have_1248_to_1500_bytes() {
        let config = |min_mtu, max_mtu| TransportConfig { min_mtu, max_mtu, ..Default::default() };
        for (min, max) in [(1248, 1248), (1248, 1500), (1500, 1500)] {
            assert!(config(min, max).to_settings().is_ok());
        }
        assert_eq!(refused_field(config(1247, 1500)), "min_mtu");
        assert_eq!(refused_field(config(1248, 1501)), "max_mtu");
        assert_eq!(refused_field(config(1400, 1300)), "min_mtu");
    }

    #[test]
    fn the_remaining_limits_hold() {
        for packets in [0, 100_001, u32::MAX] {
            let config = TransportConfig { initial_window_packets: packets, ..Default::default() };
            assert_eq!(refused_field(config), "initial_window_packets");
        }
        for delay in [Duration::ZERO, Duration::from_millis(16_001), Duration::MAX] {
            assert_eq!(refused_field(TransportConfig { max_ack_delay: delay, ..Default::default() }), "max_ack_delay");
        }
        for bytes in [0, (1 << 38) + 1] {
            let config = TransportConfig { key_update_after: bytes, ..Default::default() };
            assert_eq!(refused_field(config), "key_update_after");
        }
        let config = TransportConfig { connection_flow_control_window: 4095, ..Default::default() };
        assert_eq!(refused_field(config), "connection_flow_control_window");
        assert_eq!(refused_field(TransportConfig { send_window: Some(0), ..Default::default() }), "send_window");
        assert_eq!(
            refused_field(TransportConfig { drop_error_code: 1 << 62, ..Default::default() }),
            "drop_error_code"
        );
        assert_eq!(refused_field(TransportConfig { accept_backlog: 0, ..Default::default() }), "accept_backlog");
    }

    #[test]
    fn an_error_names_the_field_its_value_and_what_to_give() {
        let config = TransportConfig { stream_receive_window: 1000, ..Default::default() };
        let error = config.to_settings().err().unwrap();
        assert_eq!(error.to_string(), "`stream_receive_window` is 1000; give a power of two from 4 KiB to 2 GiB");
    }
}
