//! Numbers: of a connection, of a stream, of the process; and what the TLS handshake settled.

use std::{fmt, time::Duration};

use sendstream_sys as sys;

use crate::{
    native::{api::Api, info, parameter::NetworkStatistics},
    types::error::NativeError,
};

/// A connection's numbers at one moment, from [`Connection::stats`](crate::Connection::stats)
/// (`QUIC_PARAM_CONN_STATISTICS_V2`, `QUIC_PARAM_CONN_NETWORK_STATISTICS`). Counts begin with the connection.
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
    /// The largest packet that the path is known to carry: bytes of the whole IP packet.
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
    /// Packets that were taken for lost. Those that were are these without `spuriously_lost_packets`.
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

/// How a handshake went. Times count from the moment that the connection was started, or its first packet came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeStats {
    /// When the last of the peer's Initial packets was processed; `None` if that is still to come.
    pub initial_done: Option<Duration>,
    /// When the last of the peer's Handshake packets was processed; `None` if that is still to come.
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

impl ConnectionStats {
    /// The smallest round trip, once there was one.
    pub(crate) fn min_rtt(stats: &sys::QUIC_STATISTICS_V2) -> Option<Duration> {
        (stats.MinRtt != u32::MAX).then(|| microseconds(stats.MinRtt.into()))
    }

    pub(crate) fn new(stats: &sys::QUIC_STATISTICS_V2, network: &NetworkStatistics) -> Self {
        let min_rtt = Self::min_rtt(stats);
        Self {
            rtt: microseconds(stats.Rtt.into()),
            rtt_variance: microseconds(stats.RttVariance.into()),
            min_rtt,
            max_rtt: min_rtt.map(|_| microseconds(stats.MaxRtt.into())),
            congestion_window: stats.SendCongestionWindow.into(),
            bytes_in_flight: network.bytes_in_flight.into(),
            path_mtu: stats.SendPathMtu,
            ecn_capable: stats.EcnCapable() != 0,
            grease_quic_bit: stats.GreaseBitNegotiated() != 0,
            sent: SentStats {
                packets: stats.SendTotalPackets,
                ack_eliciting_packets: stats.SendRetransmittablePackets,
                suspected_lost_packets: stats.SendSuspectedLostPackets,
                spuriously_lost_packets: stats.SendSpuriousLostPackets,
                bytes: stats.SendTotalBytes,
                stream_bytes: stats.SendTotalStreamBytes,
                congestion_events: stats.SendCongestionCount,
                ecn_congestion_events: stats.SendEcnCongestionCount,
                persistent_congestion_events: stats.SendPersistentCongestionCount,
            },
            received: ReceivedStats {
                packets: stats.RecvTotalPackets,
                reordered_packets: stats.RecvReorderedPackets,
                dropped_packets: stats.RecvDroppedPackets,
                duplicate_packets: stats.RecvDuplicatePackets,
                undecryptable_packets: stats.RecvDecryptionFailures,
                bytes: stats.RecvTotalBytes,
                stream_bytes: stats.RecvTotalStreamBytes,
                ack_frames: stats.RecvValidAckFrames,
            },
            handshake: HandshakeStats {
                initial_done: since(stats.TimingStart, stats.TimingInitialFlightEnd),
                handshake_done: since(stats.TimingStart, stats.TimingHandshakeFlightEnd),
                client_flight_1_bytes: stats.HandshakeClientFlight1Bytes,
                server_flight_1_bytes: stats.HandshakeServerFlight1Bytes,
                client_flight_2_bytes: stats.HandshakeClientFlight2Bytes,
                stateless_retry: stats.StatelessRetry() != 0,
                version_negotiation: stats.VersionNegotiation() != 0,
                resumption_attempted: stats.ResumptionAttempted() != 0,
                resumed: stats.ResumptionSucceeded() != 0,
            },
            key_updates: stats.KeyUpdateCount,
            connection_id_changes: stats.DestCidUpdateCount,
        }
    }
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

impl SendStreamStats {
    pub(crate) fn new(stats: &sys::QUIC_STREAM_STATISTICS) -> Self {
        Self {
            blocked_by_scheduling: microseconds(stats.ConnBlockedBySchedulingUs),
            blocked_by_pacing: microseconds(stats.ConnBlockedByPacingUs),
            blocked_by_amplification_protection: microseconds(stats.ConnBlockedByAmplificationProtUs),
            blocked_by_congestion_control: microseconds(stats.ConnBlockedByCongestionControlUs),
            blocked_by_connection_flow_control: microseconds(stats.ConnBlockedByFlowControlUs),
            blocked_by_stream_limit: microseconds(stats.StreamBlockedByIdFlowControlUs),
            blocked_by_stream_flow_control: microseconds(stats.StreamBlockedByFlowControlUs),
            blocked_by_application: microseconds(stats.StreamBlockedByAppUs),
        }
    }
}

/// What the TLS handshake settled, from [`Connection::handshake_info`](crate::Connection::handshake_info)
/// (`QUIC_PARAM_TLS_HANDSHAKE_INFO`). The group of the key exchange is not in it: MsQuic does not tell it on OpenSSL.
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
/// Both sides like AES-256 best, then ChaCha20, then AES-128, as MsQuic has it. AES-128 costs the least where the processor has
/// instructions for AES, ChaCha20 where it has none. [`ClientBuilder::cipher_suites`](crate::ClientBuilder::cipher_suites) and
/// [`ServerBuilder::cipher_suites`](crate::ServerBuilder::cipher_suites) keep a side to some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CipherSuite {
    /// TLS_AES_128_GCM_SHA256
    Aes128GcmSha256,
    /// TLS_AES_256_GCM_SHA384
    Aes256GcmSha384,
    /// TLS_CHACHA20_POLY1305_SHA256
    ChaCha20Poly1305Sha256,
}

impl CipherSuite {
    /// It as one of `QUIC_ALLOWED_CIPHER_SUITE_FLAGS`.
    pub(crate) fn allowed_flag(self) -> sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS {
        match self {
            Self::Aes128GcmSha256 => sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS_QUIC_ALLOWED_CIPHER_SUITE_AES_128_GCM_SHA256,
            Self::Aes256GcmSha384 => sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS_QUIC_ALLOWED_CIPHER_SUITE_AES_256_GCM_SHA384,
            Self::ChaCha20Poly1305Sha256 => {
                sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS_QUIC_ALLOWED_CIPHER_SUITE_CHACHA20_POLY1305_SHA256
            }
        }
    }
}

impl HandshakeInfo {
    /// `None` for a cipher suite without a name here, which MsQuic reports as an error before it comes to that.
    pub(crate) fn new(info: &sys::QUIC_HANDSHAKE_INFO) -> Option<Self> {
        let cipher_suite = match info.CipherSuite {
            sys::QUIC_CIPHER_SUITE_QUIC_CIPHER_SUITE_TLS_AES_128_GCM_SHA256 => CipherSuite::Aes128GcmSha256,
            sys::QUIC_CIPHER_SUITE_QUIC_CIPHER_SUITE_TLS_AES_256_GCM_SHA384 => CipherSuite::Aes256GcmSha384,
            sys::QUIC_CIPHER_SUITE_QUIC_CIPHER_SUITE_TLS_CHACHA20_POLY1305_SHA256 => {
                CipherSuite::ChaCha20Poly1305Sha256
            }
            _ => return None,
        };
        let tls_version = match info.TlsProtocolVersion {
            sys::QUIC_TLS_PROTOCOL_VERSION_QUIC_TLS_PROTOCOL_1_3 => TlsVersion::Tls13,
            _ => TlsVersion::Unknown,
        };
        Some(Self { tls_version, cipher_suite })
    }
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

/// What MsQuic counts over the whole process, from [`counters`] (`QUIC_PARAM_GLOBAL_PERF_COUNTERS`). Those named `active`,
/// `connected` or `queued` go up and down; the others only up.
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

/// What MsQuic has counted in this process so far. It adds the processors' counters up where it is called, and waits for
/// nobody.
///
/// # Errors
///
/// MsQuic's status, should the library not start.
pub fn counters() -> Result<Counters, NativeError> {
    Api::get()?;
    let mut values = [0u64; sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_MAX as usize];
    info::global(sys::QUIC_PARAM_GLOBAL_PERF_COUNTERS, &mut values)?;
    let value = |counter: sys::QUIC_PERFORMANCE_COUNTERS| values[counter as usize];
    Ok(Counters {
        connections_created: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_CREATED),
        handshakes_failed: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_HANDSHAKE_FAIL),
        connections_rejected_by_application: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_APP_REJECT),
        connections_resumed: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_RESUMED),
        connections_active: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_ACTIVE),
        connections_connected: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_CONNECTED),
        protocol_errors: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_PROTOCOL_ERRORS),
        no_alpn_in_common: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_NO_ALPN),
        connections_rejected_by_load: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_LOAD_REJECT),
        streams_active: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_STRM_ACTIVE),
        packets_suspected_lost: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_PKTS_SUSPECTED_LOST),
        packets_dropped: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_PKTS_DROPPED),
        packets_undecryptable: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_PKTS_DECRYPTION_FAIL),
        udp_received: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_UDP_RECV),
        udp_sent: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_UDP_SEND),
        udp_received_bytes: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_UDP_RECV_BYTES),
        udp_sent_bytes: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_UDP_SEND_BYTES),
        udp_receive_events: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_UDP_RECV_EVENTS),
        udp_send_calls: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_UDP_SEND_CALLS),
        application_sent_bytes: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_APP_SEND_BYTES),
        application_received_bytes: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_APP_RECV_BYTES),
        connections_queued: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_QUEUE_DEPTH),
        operations_queued: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_OPER_QUEUE_DEPTH),
        operations_completed: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_CONN_OPER_COMPLETED),
        paths_validated: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_PATH_VALIDATED),
        paths_failed: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_PATH_FAILURE),
        stateless_resets_sent: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_SEND_STATELESS_RESET),
        stateless_retries_sent: value(sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_SEND_STATELESS_RETRY),
    })
}

fn microseconds(value: u64) -> Duration {
    Duration::from_micros(value)
}

/// How long after `start` the event at `time` was, both in microseconds; 0 says that it is still to come.
fn since(start: u64, time: u64) -> Option<Duration> {
    (time != 0).then(|| microseconds(time.saturating_sub(start)))
}
