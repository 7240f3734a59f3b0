//! MsQuic's numbers as values: of a connection, of a stream, of the process; and what the TLS
//! handshake settled.

use std::time::Duration;

use sendstream_sys as sys;

use crate::{
    native::{api::Api, library},
    types::{
        error::NativeError,
        stats::{
            CipherSuite, ConnectionStats, Counters, HandshakeInfo, HandshakeStats, ReceivedStats, SendStreamStats,
            SentStats, TlsVersion,
        },
    },
};

/// What MsQuic has counted in this process so far. It adds the processors' counters up where it is
/// called, and waits for nobody.
///
/// # Errors
///
/// MsQuic's status, should the library not start.
pub fn counters() -> Result<Counters, NativeError> {
    Api::get()?;
    let mut values = [0u64; sys::QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_MAX as usize];
    library::get(sys::QUIC_PARAM_GLOBAL_PERF_COUNTERS, &mut values)?;
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

impl ConnectionStats {
    /// The smallest round trip, once there was one.
    pub(crate) fn min_rtt(stats: &sys::QUIC_STATISTICS_V2) -> Option<Duration> {
        (stats.MinRtt != u32::MAX).then(|| microseconds(stats.MinRtt.into()))
    }

    pub(crate) fn new(stats: &sys::QUIC_STATISTICS_V2, network: &sys::QUIC_NETWORK_STATISTICS) -> Self {
        let min_rtt = Self::min_rtt(stats);
        Self {
            rtt: microseconds(stats.Rtt.into()),
            rtt_variance: microseconds(stats.RttVariance.into()),
            min_rtt,
            max_rtt: min_rtt.map(|_| microseconds(stats.MaxRtt.into())),
            congestion_window: stats.SendCongestionWindow.into(),
            bytes_in_flight: network.BytesInFlight.into(),
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

impl HandshakeInfo {
    /// `None` for a cipher suite without a name here, which MsQuic reports as an error before it
    /// comes to that.
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

fn microseconds(value: u64) -> Duration {
    Duration::from_micros(value)
}

/// How long after `start` the event at `time` was, both in microseconds; 0 says that it is still to
/// come.
fn since(start: u64, time: u64) -> Option<Duration> {
    (time != 0).then(|| microseconds(time.saturating_sub(start)))
}
