//! Transport settings, and what can be wrong with the configuration of a client or server.

use std::time::Duration;

use sendstream_sys as sys;

use crate::{
    error::NativeError,
    native::configuration::unset_settings,
    tls::{IdentityError, TrustError},
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
/// bytes of stream data per connection that the application has not read yet, over all its streams, and
/// [`datagram_receive_buffer`](Self::datagram_receive_buffer) bytes of datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportConfig {
    /// After how long without a packet from the peer the connection ends as timed out (RFC 9000 §10.1); `None` for
    /// never, as far as the peer agrees: the shorter of both sides' values counts. 1 ms to `u32::MAX` ms; 30 s.
    pub idle_timeout: Option<Duration>,
    /// How long the handshake may go on without a packet from the peer. 1 ms to `u32::MAX` ms; 10 s.
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
    /// How many bytes the peer may send on all streams together ahead of what the application has read. 4 KiB to
    /// `u32::MAX`; 16 MiB.
    ///
    /// This is the ceiling of a connection's throughput: window divided by round-trip time, which for 16 MiB and 10 ms
    /// is 13 Gbit/s. For long fat paths give at least bandwidth times delay. MsQuic also derives from it how many
    /// received packets may wait for its worker: one per KiB.
    pub connection_flow_control_window: u32,
    /// How many bytes of one stream may be accepted and not yet acknowledged before writes wait; `None` follows what
    /// MsQuic finds ideal for the path (`QUIC_STREAM_EVENT_IDEAL_SEND_BUFFER_SIZE`), 128 KiB at first. 1 to
    /// `u32::MAX`; `None`.
    pub send_window: Option<u32>,
    /// How many bytes of the peer's datagrams (RFC 9221) may wait for
    /// [`read_datagram`](crate::Connection::read_datagram); `None` for taking none, which the peer is told. Any size; 1 MiB.
    ///
    /// Each datagram counts 96 bytes more than it has, which is what keeping it costs. When there is no room the oldest are
    /// dropped, and [counted](crate::Connection::dropped_datagrams); the newest is always kept, so that 0 keeps just that.
    /// Sending datagrams is up to the peer's setting alone.
    pub datagram_receive_buffer: Option<usize>,
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
            send_window: None,
            datagram_receive_buffer: Some(1 << 20),
            drop_error_code: 0,
            accept_backlog: 1024,
        }
    }
}

impl TransportConfig {
    /// Checks every field and gives MsQuic's form of those that are MsQuic's.
    ///
    /// Two settings are not the user's: send buffering is off, so that SEND_COMPLETE means *acknowledged*, and a stream
    /// may have several receives outstanding, so that chunks can be read while the application still holds earlier
    /// ones.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfRange`] for the first field that is outside its range.
    pub(crate) fn to_settings(&self) -> Result<sys::QUIC_SETTINGS, ConfigError> {
        // MsQuic takes 0 for "no timeout", and no keep-alive.
        let idle_timeout = self.idle_timeout.map_or(Ok(0), |value| milliseconds("idle_timeout", value))?;
        let keep_alive = self.keep_alive.map_or(Ok(0), |value| milliseconds("keep_alive", value))?;
        require(keep_alive <= MAX_KEEP_ALIVE_MS, || {
            out_of_range("keep_alive", format!("{:?}", self.keep_alive.unwrap_or_default()), "1 ms to 71 minutes")
        })?;
        let handshake_timeout = milliseconds("handshake_timeout", self.handshake_timeout)?;
        let disconnect_timeout = milliseconds("disconnect_timeout", self.disconnect_timeout)?;
        require(disconnect_timeout <= MAX_DISCONNECT_TIMEOUT_MS, || {
            out_of_range("disconnect_timeout", format!("{:?}", self.disconnect_timeout), "1 ms to 10 minutes")
        })?;
        let stream_window = self.stream_receive_window;
        require(stream_window.is_power_of_two() && stream_window >= MIN_WINDOW, || {
            out_of_range("stream_receive_window", stream_window.to_string(), "a power of two from 4 KiB to 2 GiB")
        })?;
        let connection_window = self.connection_flow_control_window;
        require(connection_window >= MIN_WINDOW, || {
            out_of_range("connection_flow_control_window", connection_window.to_string(), "4 KiB or more")
        })?;
        require(self.send_window != Some(0), || out_of_range("send_window", "0".to_owned(), "1 byte or more"))?;
        require(self.drop_error_code <= MAX_ERROR_CODE, || {
            out_of_range("drop_error_code", self.drop_error_code.to_string(), "0 to 2^62 - 1")
        })?;
        require(self.accept_backlog > 0, || out_of_range("accept_backlog", "0".to_owned(), "1 or more"))?;

        let mut settings = unset_settings();
        let mut is_set = sys::QUIC_SETTINGS__bindgen_ty_1__bindgen_ty_1 {
            _bitfield_align_1: [],
            _bitfield_1: sys::__BindgenBitfieldUnit::new([0; 8]),
        };
        let mut flags = sys::QUIC_SETTINGS__bindgen_ty_2__bindgen_ty_1 {
            _bitfield_align_1: [],
            _bitfield_1: sys::__BindgenBitfieldUnit::new([0; 8]),
        };

        settings.IdleTimeoutMs = idle_timeout.into();
        is_set.set_IdleTimeoutMs(1);
        settings.HandshakeIdleTimeoutMs = handshake_timeout.into();
        is_set.set_HandshakeIdleTimeoutMs(1);
        settings.KeepAliveIntervalMs = keep_alive;
        is_set.set_KeepAliveIntervalMs(1);
        settings.DisconnectTimeoutMs = disconnect_timeout;
        is_set.set_DisconnectTimeoutMs(1);
        settings.PeerUnidiStreamCount = self.max_concurrent_uni_streams;
        is_set.set_PeerUnidiStreamCount(1);
        settings.PeerBidiStreamCount = self.max_concurrent_bidi_streams;
        is_set.set_PeerBidiStreamCount(1);
        settings.StreamRecvWindowDefault = stream_window;
        is_set.set_StreamRecvWindowDefault(1);
        settings.ConnFlowControlWindow = connection_window;
        is_set.set_ConnFlowControlWindow(1);
        settings.set_SendBufferingEnabled(0);
        is_set.set_SendBufferingEnabled(1);
        settings.set_DatagramReceiveEnabled(self.datagram_receive_buffer.is_some().into());
        is_set.set_DatagramReceiveEnabled(1);
        flags.set_StreamMultiReceiveEnabled(1);
        is_set.set_StreamMultiReceiveEnabled(1);

        settings.__bindgen_anon_1 = sys::QUIC_SETTINGS__bindgen_ty_1 { IsSet: is_set };
        settings.__bindgen_anon_2 = sys::QUIC_SETTINGS__bindgen_ty_2 { __bindgen_anon_1: flags };
        Ok(settings)
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
    /// A transport setting is outside its range.
    #[error("`{field}` is {value}; give {allowed}")]
    OutOfRange {
        /// The field of [`TransportConfig`].
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

fn require(holds: bool, error: impl FnOnce() -> ConfigError) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(error()) }
}

fn out_of_range(field: &'static str, value: String, allowed: &'static str) -> ConfigError {
    ConfigError::OutOfRange { field, value, allowed }
}

/// The smallest windows: a stream's receive buffer begins with 4 KiB.
const MIN_WINDOW: u32 = 4096;

/// MsQuic multiplies the interval by 1000 in 32 bits (`MS_TO_US(KeepAliveIntervalMs)`); this is the last whole minute
/// before that overflows.
const MAX_KEEP_ALIVE_MS: u32 = 71 * 60_000;

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
        let settings = TransportConfig::default().to_settings().unwrap();
        assert_eq!(settings.SendBufferingEnabled(), 0);
        // Bits 24 and 42 of IsSet, and bit 5 of Flags, in `struct QUIC_SETTINGS` of msquic.h.
        const SEND_BUFFERING_IS_SET: u64 = 1 << 24;
        const MULTI_RECEIVE_IS_SET: u64 = 1 << 42;
        const MULTI_RECEIVE: u64 = 1 << 5;
        let (is_set, flags) = crate::native::configuration::raw_flags(&settings);
        assert_eq!(is_set & SEND_BUFFERING_IS_SET, SEND_BUFFERING_IS_SET);
        assert_eq!(is_set & MULTI_RECEIVE_IS_SET, MULTI_RECEIVE_IS_SET);
        assert_eq!(flags, MULTI_RECEIVE);
        assert_eq!(is_set.count_ones(), 11, "nothing else is set");
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
    fn the_remaining_limits_hold() {
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
