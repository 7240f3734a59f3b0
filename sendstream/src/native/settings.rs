//! Transport settings as MsQuic takes them: every field checked, then put into `QUIC_SETTINGS`.

use std::{mem, time::Duration};

use sendstream_sys as sys;

use crate::types::config::{ConfigError, CongestionControl, MAX_BYTES_PER_KEY, StreamScheduling, TransportConfig};

/// A `QUIC_SETTINGS` with each of these set and the bit in `IsSet` that makes MsQuic look at it,
/// and how many they are. The C struct keeps numbers in fields, older switches in bits of its own
/// and newer ones in `Flags`; a number has its field's name and that of the setter of its bit.
macro_rules! settings {
    (
        numbers { $($number:ident / $number_is_set:ident : $number_value:expr,)* }
        switches { $($switch:ident : $switch_value:expr,)* }
        flags { $($flag:ident : $flag_value:expr,)* }
    ) => {{
        let mut settings = unset_settings();
        let mut is_set = no_bits();
        let mut flags = sys::QUIC_SETTINGS__bindgen_ty_2__bindgen_ty_1 {
            _bindgen_align: [],
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
    /// One setting is not the user's: a stream may have several receives outstanding, so that
    /// chunks can be read while the application still holds earlier ones.
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
        if let (Some(keep_alive), Some(idle_timeout)) = (self.keep_alive, self.idle_timeout) {
            require(keep_alive < idle_timeout, || ConfigError::KeepAliveTooLong { keep_alive, idle_timeout })?;
        }
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
        let mtu_search_interval = u64::try_from(self.mtu_search_interval.as_micros()).unwrap_or(u64::MAX);
        require(mtu_search_interval > 0, || {
            out_of_range("mtu_search_interval", format!("{:?}", self.mtu_search_interval), "1 µs or more")
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
                MtuDiscoverySearchCompleteTimeoutUs/set_MtuDiscoverySearchCompleteTimeoutUs: mtu_search_interval,
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

    /// What a peer may do on a connection under way: the settings of
    /// [`Connection::raise_limits`](crate::Connection::raise_limits) alone.
    ///
    /// # Errors
    ///
    /// As of [`Self::to_settings`].
    pub(crate) fn to_limits(&self) -> Result<sys::QUIC_SETTINGS, ConfigError> {
        let mut settings = self.to_settings()?;
        // MsQuic looks at no other number, whatever it is.
        let mut is_set = no_bits();
        is_set.set_PeerUnidiStreamCount(1);
        is_set.set_PeerBidiStreamCount(1);
        is_set.set_ConnFlowControlWindow(1);
        settings.__bindgen_anon_1 = sys::QUIC_SETTINGS__bindgen_ty_1 { IsSet: is_set };
        Ok(settings)
    }
}

/// One of the limits of a connection under way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    UniStreams(u16),
    BidiStreams(u16),
    /// Bytes of all streams.
    Window(u32),
}

impl Limit {
    /// It alone.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfRange`] for a window that is too small.
    pub(crate) fn to_settings(self) -> Result<sys::QUIC_SETTINGS, ConfigError> {
        let transport = TransportConfig::default();
        let transport = match self {
            Self::UniStreams(count) => transport.max_concurrent_uni_streams(count),
            Self::BidiStreams(count) => transport.max_concurrent_bidi_streams(count),
            Self::Window(bytes) => transport.connection_flow_control_window(bytes),
        };
        let mut settings = transport.to_settings()?;
        let mut is_set = no_bits();
        match self {
            Self::UniStreams(_) => is_set.set_PeerUnidiStreamCount(1),
            Self::BidiStreams(_) => is_set.set_PeerBidiStreamCount(1),
            Self::Window(_) => is_set.set_ConnFlowControlWindow(1),
        }
        settings.__bindgen_anon_1 = sys::QUIC_SETTINGS__bindgen_ty_1 { IsSet: is_set };
        Ok(settings)
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
    /// MsQuic's name for it: a parameter of the connection, which the setting's struct has no place
    /// for.
    pub(crate) fn native(self) -> sys::QUIC_STREAM_SCHEDULING_SCHEME {
        match self {
            Self::Fifo => sys::QUIC_STREAM_SCHEDULING_SCHEME_QUIC_STREAM_SCHEDULING_SCHEME_FIFO,
            Self::RoundRobin => sys::QUIC_STREAM_SCHEDULING_SCHEME_QUIC_STREAM_SCHEDULING_SCHEME_ROUND_ROBIN,
        }
    }
}

/// A `QUIC_SETTINGS` in which nothing is set.
pub(crate) fn unset_settings() -> sys::QUIC_SETTINGS {
    // SAFETY: QUIC_SETTINGS is integers and bit fields throughout, for which zero is a valid value.
    unsafe { mem::zeroed() }
}

/// A set of settings without any.
fn no_bits() -> sys::QUIC_SETTINGS__bindgen_ty_1__bindgen_ty_1 {
    sys::QUIC_SETTINGS__bindgen_ty_1__bindgen_ty_1 {
        _bindgen_align: [],
        _bitfield_1: sys::__BindgenBitfieldUnit::new([0; 8]),
    }
}

/// Which settings are set, and the flags among them, as bits.
#[cfg(test)]
pub(crate) fn raw_flags(settings: &sys::QUIC_SETTINGS) -> (u64, u64) {
    // SAFETY: both members of each union are 64 bits of plain integer, so either may be read.
    unsafe { (settings.__bindgen_anon_1.IsSetFlags, settings.__bindgen_anon_2.Flags) }
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

/// CUBIC multiplies the window in bytes by 17 in 32 bits; with 1500 bytes for each packet this
/// leaves it room to grow by two thirds.
const MAX_INITIAL_WINDOW_PACKETS: u32 = 100_000;

/// What RFC 9000 §18.2 lets a peer be told is 2^14 - 1 ms, and MsQuic adds its timer's resolution,
/// less than 256 ms. It takes 0 as well, but then announces less than its own `min_ack_delay`, and
/// no peer of its kind accepts that.
const MAX_ACK_DELAY_MS: u32 = 16_000;

/// MsQuic's QUIC_DPLPMTUD_MIN_MTU: the 1200 bytes of RFC 9000 §14.1, and the headers of IPv6 and
/// UDP.
const MIN_MTU: u16 = 1248;

/// MsQuic's CXPLAT_MAX_MTU.
const MAX_MTU: u16 = 1500;

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
        let config = TransportConfig::default().idle_timeout(None).keep_alive(Duration::from_micros(1500));
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
        let (is_set, flags) = raw_flags(&settings);
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
            let config = TransportConfig::default().datagram_receive_buffer(buffer);
            let settings = config.to_settings().unwrap();
            assert_eq!(settings.DatagramReceiveEnabled(), enabled);
            let (is_set, _) = raw_flags(&settings);
            assert_eq!(is_set & DATAGRAM_RECEIVE_IS_SET, DATAGRAM_RECEIVE_IS_SET);
        }
    }

    #[test]
    fn timeouts_of_zero_or_fifty_days_are_refused() {
        let fifty_days = Duration::from_secs(50 * 24 * 3600);
        for duration in [Duration::ZERO, fifty_days, Duration::MAX] {
            let config = || TransportConfig::default();
            assert_eq!(refused_field(config().idle_timeout(duration)), "idle_timeout");
            assert_eq!(refused_field(config().keep_alive(duration)), "keep_alive");
            assert_eq!(refused_field(config().handshake_timeout(duration)), "handshake_timeout");
            assert_eq!(refused_field(config().initial_rtt(duration)), "initial_rtt");
            assert_eq!(refused_field(config().disconnect_timeout(duration)), "disconnect_timeout");
        }
    }

    #[test]
    fn a_disconnect_timeout_ends_at_ten_minutes() {
        let config = |seconds: u64| TransportConfig::default().disconnect_timeout(Duration::from_secs(seconds));
        assert!(config(600).to_settings().is_ok());
        assert_eq!(refused_field(config(601)), "disconnect_timeout");
    }

    #[test]
    fn a_keep_alive_ends_at_seventy_one_minutes() {
        let config =
            |minutes: u64| TransportConfig::default().idle_timeout(None).keep_alive(Duration::from_secs(60 * minutes));
        assert!(config(71).to_settings().is_ok());
        assert_eq!(refused_field(config(72)), "keep_alive");
    }

    #[test]
    fn a_stream_window_is_a_power_of_two() {
        for bytes in [0, 1, 2048, 4097, 1_000_000, u32::MAX] {
            let config = TransportConfig::default().stream_receive_window(bytes);
            assert_eq!(refused_field(config), "stream_receive_window");
        }
        for bytes in [4096, 1 << 31] {
            assert!(TransportConfig::default().stream_receive_window(bytes).to_settings().is_ok());
        }
    }

    #[test]
    fn the_window_of_one_kind_of_stream_overrides_the_common_one() {
        let config = TransportConfig::default()
            .stream_receive_window(1 << 14)
            .uni_stream_receive_window(1 << 15)
            .remote_bidi_stream_receive_window(1 << 16);
        let settings = config.to_settings().unwrap();
        assert_eq!(settings.StreamRecvWindowDefault, 1 << 14);
        assert_eq!(settings.StreamRecvWindowUnidiDefault, 1 << 15);
        assert_eq!(settings.StreamRecvWindowBidiLocalDefault, 1 << 14);
        assert_eq!(settings.StreamRecvWindowBidiRemoteDefault, 1 << 16);
        let config = || TransportConfig::default();
        let (odd, uni) = (Some(5000), config().uni_stream_receive_window(0));
        assert_eq!(refused_field(uni), "uni_stream_receive_window");
        assert_eq!(refused_field(config().local_bidi_stream_receive_window(odd)), "local_bidi_stream_receive_window");
        assert_eq!(refused_field(config().remote_bidi_stream_receive_window(odd)), "remote_bidi_stream_receive_window");
    }

    #[test]
    fn what_is_on_can_be_switched_off_and_the_other_way_round() {
        let config = TransportConfig::default()
            .pacing(false)
            .ecn(true)
            .migration(false)
            .grease_quic_bit(true)
            .hystart(true)
            .send_buffering(true)
            .congestion_control(CongestionControl::Bbr);
        let [off, on] = [TransportConfig::default(), config].map(|config| {
            let settings = config.to_settings().unwrap();
            let flags = [
                settings.PacingEnabled(),
                settings.EcnEnabled(),
                settings.MigrationEnabled(),
                settings.GreaseQuicBitEnabled(),
                settings.SendBufferingEnabled(),
                // Bit 0 of Flags in `struct QUIC_SETTINGS` of msquic.h.
                (raw_flags(&settings).1 & 1) as u8,
            ];
            (flags, settings.CongestionControlAlgorithm)
        });
        assert_eq!(off, ([1, 0, 1, 0, 0, 0], 0));
        assert_eq!(on, ([0, 1, 0, 1, 1, 1], 1));
    }

    #[test]
    fn a_connection_has_the_settings_that_were_asked_for() {
        use crate::{Client, Identity, Server, Trust};
        for on in [false, true] {
            let asked = TransportConfig::default()
                .hystart(on)
                .pacing(!on)
                .ecn(on)
                .send_buffering(on)
                .migration(!on)
                .grease_quic_bit(on)
                .datagram_receive_buffer(on.then_some(1))
                .max_ack_delay(Duration::from_millis(if on { 20 } else { 30 }))
                .initial_window_packets(if on { 20 } else { 30 })
                .idle_timeout(on.then_some(Duration::from_secs(40)))
                .keep_alive(on.then_some(Duration::from_secs(4)));
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
        let config = |min_mtu, max_mtu| TransportConfig::default().min_mtu(min_mtu).max_mtu(max_mtu);
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
            let config = TransportConfig::default().initial_window_packets(packets);
            assert_eq!(refused_field(config), "initial_window_packets");
        }
        for delay in [Duration::ZERO, Duration::from_millis(16_001), Duration::MAX] {
            assert_eq!(refused_field(TransportConfig::default().max_ack_delay(delay)), "max_ack_delay");
        }
        for bytes in [0, (1 << 38) + 1] {
            let config = TransportConfig::default().key_update_after(bytes);
            assert_eq!(refused_field(config), "key_update_after");
        }
        let config = TransportConfig::default().connection_flow_control_window(4095);
        assert_eq!(refused_field(config), "connection_flow_control_window");
        assert_eq!(refused_field(TransportConfig::default().send_window(0)), "send_window");
        assert_eq!(refused_field(TransportConfig::default().drop_error_code(1 << 62)), "drop_error_code");
        assert_eq!(refused_field(TransportConfig::default().accept_backlog(0)), "accept_backlog");
    }

    #[test]
    fn an_error_names_the_field_its_value_and_what_to_give() {
        let config = TransportConfig::default().stream_receive_window(1000);
        let error = config.to_settings().err().unwrap();
        assert_eq!(error.to_string(), "`stream_receive_window` is 1000; give a power of two from 4 KiB to 2 GiB");
    }
}
