//! Numbers: of a connection, of a stream, of the process; and what the TLS handshake settled.

use std::{fmt, time::Duration};

/// A connection's numbers at one moment, from [`Connection::stats`](crate::Connection::stats)
/// (`QUIC_PARAM_CONN_STATISTICS_V2`, `QUIC_PARAM_CONN_NETWORK_STATISTICS`). Counts begin with the
/// connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// The smoothed round-trip time (RFC 9002 §5.3); before the first measurement
    /// [`initial_rtt`](crate::TransportConfig::initial_rtt).
    pub rtt: Duration,
    /// How much the round-trip time varies (`rttvar` of RFC 9002 §5.3).
    pub rtt_variance: Duration,
    /// The shortest round-trip time measured; `None` before the first measurement.
    pub min_rtt: Option<Duration>,
    /// The longest round-trip time measured; `None` before the first measurement.
    pub max_rtt: Option<Duration>,
    /// How many bytes congestion control lets be in flight.
    pub congestion_window: u64,
    /// How many bytes were sent and are neither acknowledged nor given up as lost.
    pub bytes_in_flight: u64,
    /// The largest packet that the path is known to carry in this side's direction: bytes of the
    /// whole IP packet. It gets smaller when larger packets no longer arrive.
    pub path_mtu: u16,
    /// Whether the path was found to carry ECN marks (RFC 9000 §13.4.2).
    pub ecn_capable: bool,
    /// Whether both sides grease the QUIC bit (RFC 9287).
    pub grease_quic_bit: bool,
    /// What this side sent.
    pub sent: SentStats,
    /// What this side received.
    pub received: ReceivedStats,
    /// How the handshake went.
    pub handshake: HandshakeStats,
    /// How many times the keys were updated (RFC 9001 §6).
    pub key_updates: u32,
    /// How many times this side changed to another of the peer's connection ids.
    pub connection_id_changes: u32,
}

/// What a connection sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentStats {
    /// QUIC packets; several may share a UDP datagram.
    pub packets: u64,
    /// Those of them that have to be acknowledged.
    pub ack_eliciting_packets: u64,
    /// Packets that were taken for lost. Those that were are these without
    /// `spuriously_lost_packets`.
    pub suspected_lost_packets: u64,
    /// Packets that were taken for lost, and acknowledged afterwards.
    pub spuriously_lost_packets: u64,
    /// Bytes of UDP payload.
    pub bytes: u64,
    /// Bytes of stream data, with what was sent again.
    pub stream_bytes: u64,
    /// How many times congestion made the window smaller.
    pub congestion_events: u32,
    /// Those of them that ECN marks caused.
    pub ecn_congestion_events: u32,
    /// How many times congestion was persistent (RFC 9002 §7.6).
    pub persistent_congestion_events: u32,
}

/// What a connection received.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedStats {
    /// QUIC packets; several may share a UDP datagram.
    pub packets: u64,
    /// Packets that came after one with a higher number.
    pub reordered_packets: u64,
    /// Packets that were thrown away, with the duplicates.
    pub dropped_packets: u64,
    /// Packets that had come before.
    pub duplicate_packets: u64,
    /// Packets that could not be decrypted.
    pub undecryptable_packets: u64,
    /// Bytes of UDP payload.
    pub bytes: u64,
    /// Bytes of stream data.
    pub stream_bytes: u64,
    /// Frames that acknowledge.
    pub ack_frames: u64,
}

/// How a handshake went. Times count from the moment that the connection was started, or its first
/// packet came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeStats {
    /// When the last of the peer's Initial packets was processed; `None` if that is still to come.
    pub initial_done: Option<Duration>,
    /// When the last of the peer's Handshake packets was processed; `None` if that is still to
    /// come.
    pub handshake_done: Option<Duration>,
    /// How many bytes of TLS the client began with.
    pub client_flight_1_bytes: u32,
    /// How many bytes of TLS the server answered.
    pub server_flight_1_bytes: u32,
    /// How many bytes of TLS the client ended with.
    pub client_flight_2_bytes: u32,
    /// Whether the server had the client prove its address first (RFC 9000 §8.1.2).
    pub stateless_retry: bool,
    /// Whether the two had to agree on a version first (RFC 9000 §6).
    pub version_negotiation: bool,
    /// Whether the client tried to resume a session.
    pub resumption_attempted: bool,
    /// Whether a session was resumed.
    pub resumed: bool,
}

/// What kept a stream's data from going out, and for how long altogether since it started, from
/// [`SendStream::stats`](crate::SendStream::stats) (`QUIC_PARAM_STREAM_STATISTICS`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendStreamStats {
    /// The connection waited for its turn on the worker.
    pub blocked_by_scheduling: Duration,
    /// The connection spread its packets.
    pub blocked_by_pacing: Duration,
    /// The server had not yet seen enough of the client's address to send more (RFC 9000 §8.1).
    pub blocked_by_amplification_protection: Duration,
    /// The congestion window was full.
    pub blocked_by_congestion_control: Duration,
    /// The peer's window for the whole connection was full.
    pub blocked_by_connection_flow_control: Duration,
    /// The peer's limit of streams did not let this one start.
    pub blocked_by_stream_limit: Duration,
    /// The peer's window for this stream was full.
    pub blocked_by_stream_flow_control: Duration,
    /// The application gave nothing to send.
    pub blocked_by_application: Duration,
}

/// What the TLS handshake settled, from
/// [`Connection::handshake_info`](crate::Connection::handshake_info)
/// (`QUIC_PARAM_TLS_HANDSHAKE_INFO`). The group of the key exchange is not in it: MsQuic does not
/// tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeInfo {
    /// The version of TLS.
    pub tls_version: TlsVersion,
    /// How packets are encrypted.
    pub cipher_suite: CipherSuite,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.3 (RFC 8446), the oldest that QUIC allows.
    Tls13,
    /// One that MsQuic has no name for.
    Unknown,
}

/// A cipher suite of TLS 1.3 (RFC 8446 §B.4).
///
/// A client prefers AES-256, then ChaCha20, then AES-128, in MsQuic's order. AES-128 costs the
/// least on a processor with instructions for AES, and ChaCha20 on one without.
/// [`ClientBuilder::cipher_suites`](crate::ClientBuilder::cipher_suites) and
/// [`ServerBuilder::cipher_suites`](crate::ServerBuilder::cipher_suites) keep a side to some of
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum CipherSuite {
    /// TLS_AES_128_GCM_SHA256
    #[cfg_attr(feature = "serde", serde(rename = "TLS_AES_128_GCM_SHA256"))]
    Aes128GcmSha256,
    /// TLS_AES_256_GCM_SHA384
    #[cfg_attr(feature = "serde", serde(rename = "TLS_AES_256_GCM_SHA384"))]
    Aes256GcmSha384,
    /// TLS_CHACHA20_POLY1305_SHA256
    #[cfg_attr(feature = "serde", serde(rename = "TLS_CHACHA20_POLY1305_SHA256"))]
    ChaCha20Poly1305Sha256,
}

impl fmt::Display for CipherSuite {
    /// The name in RFC 8446.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes128GcmSha256 => "TLS_AES_128_GCM_SHA256",
            Self::Aes256GcmSha384 => "TLS_AES_256_GCM_SHA384",
            Self::ChaCha20Poly1305Sha256 => "TLS_CHACHA20_POLY1305_SHA256",
        })
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls13 => "TLS 1.3",
            Self::Unknown => "unknown",
        })
    }
}

/// What all connections of the process hold, from [`memory_budget`](crate::process::memory_budget).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryBudget {
    /// How many bytes they may hold before the windows of their streams shrink.
    pub limit: u64,
    /// How many bytes they hold: received and not given back, or sent and not acknowledged. Each is
    /// counted in steps of 16 KiB for each stream.
    pub used: u64,
}

/// What MsQuic counts over the whole process, from [`counters`](crate::process::counters)
/// (`QUIC_PARAM_GLOBAL_PERF_COUNTERS`). Numbers named `active`, `connected` or `queued` go up and
/// down. The others only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections ever made, both ways.
    pub connections_created: u64,
    /// Connections that failed in the handshake.
    pub handshakes_failed: u64,
    /// Connections that a server's application refused.
    pub connections_rejected_by_application: u64,
    /// Connections that resumed a session.
    pub connections_resumed: u64,
    /// Connections that exist now.
    pub connections_active: u64,
    /// Connections that are past their handshake now.
    pub connections_connected: u64,
    /// Connections that ended because a side broke the protocol.
    pub protocol_errors: u64,
    /// Connections without an application protocol in common.
    pub no_alpn_in_common: u64,
    /// Connections refused because the workers had too much to do.
    pub connections_rejected_by_load: u64,
    /// Streams that exist now.
    pub streams_active: u64,
    /// Packets that were taken for lost.
    pub packets_suspected_lost: u64,
    /// Received packets that were thrown away.
    pub packets_dropped: u64,
    /// Received packets that could not be decrypted.
    pub packets_undecryptable: u64,
    /// UDP datagrams received.
    pub udp_received: u64,
    /// UDP datagrams sent.
    pub udp_sent: u64,
    /// Bytes of UDP payload received.
    pub udp_received_bytes: u64,
    /// Bytes of UDP payload sent.
    pub udp_sent_bytes: u64,
    /// Times that the system handed over received datagrams.
    pub udp_receive_events: u64,
    /// Times that the system was asked to send datagrams.
    pub udp_send_calls: u64,
    /// Bytes that applications sent.
    pub application_sent_bytes: u64,
    /// Bytes that applications received.
    pub application_received_bytes: u64,
    /// Connections that wait for a worker now.
    pub connections_queued: u64,
    /// Operations of connections that wait now.
    pub operations_queued: u64,
    /// Operations of connections that were done.
    pub operations_completed: u64,
    /// Paths that were validated (RFC 9000 §8.2).
    pub paths_validated: u64,
    /// Paths whose validation failed.
    pub paths_failed: u64,
    /// Stateless resets sent (RFC 9000 §10.3).
    pub stateless_resets_sent: u64,
    /// Retry packets sent (RFC 9000 §8.1.2).
    pub stateless_retries_sent: u64,
}
