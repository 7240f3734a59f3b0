//! Transport settings, protocols and server names: whatever they are, the answer is a client, a
//! server's refusal or a `ConfigError` that names what is wrong, and MsQuic takes whatever we take.

#![no_main]

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use sendstream::{
    Client, ConfigError, CongestionControl, ConnectError, Connection, StreamScheduling, TransportConfig, Trust, fuzzing,
};

static ALPN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![b"fuzz".to_vec()]);

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let transport = transport(input)?;
    let protocols: Vec<Vec<u8>> = if bool::arbitrary(input)? { Arbitrary::arbitrary(input)? } else { ALPN.clone() };
    let name = String::arbitrary(input)?;
    let taken = fuzzing::is_taken(&transport);
    // MsQuic takes milliseconds to answer, so it is asked about a few.
    if u8::arbitrary(input)? % 32 != 0 {
        return Ok(());
    }
    let client =
        Client::builder().alpn(protocols).trust(Trust::dangerous_accept_any_certificate()).transport(transport).build();
    match client {
        Ok(client) => {
            assert!(taken);
            check_name(&client, &name);
        }
        Err(ConfigError::Native(status)) => panic!("MsQuic refuses what we took: {status}"),
        Err(_) => {}
    }
    Ok(())
}

/// A name that cannot be used is refused before anything is done. One that can is not connected to.
fn check_name(client: &Client, name: &str) {
    if !name.is_empty() && !name.contains(['\0', ':', ' ', '[', '/']) || name.parse::<IpAddr>().is_ok() {
        return;
    }
    let connect = pin!(client.connect(SocketAddr::from(([127, 0, 0, 1], 9)), name));
    let polled: Poll<Result<Connection, ConnectError>> = connect.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(ConnectError::InvalidServerName))));
}

fn transport(input: &mut Unstructured<'_>) -> arbitrary::Result<TransportConfig> {
    let mut config = TransportConfig::default();
    config = either(input, config, |config, timeout: Option<_>| config.idle_timeout(timeout))?;
    config = either(input, config, TransportConfig::handshake_timeout)?;
    config = either(input, config, |config, interval: Option<_>| config.keep_alive(interval))?;
    config = either(input, config, TransportConfig::disconnect_timeout)?;
    config = either(input, config, TransportConfig::max_concurrent_uni_streams)?;
    config = either(input, config, TransportConfig::max_concurrent_bidi_streams)?;
    config = power(input, config, TransportConfig::stream_receive_window)?;
    config = either(input, config, |config, bytes: Option<_>| config.uni_stream_receive_window(bytes))?;
    config = either(input, config, |config, bytes: Option<_>| config.local_bidi_stream_receive_window(bytes))?;
    config = either(input, config, |config, bytes: Option<_>| config.remote_bidi_stream_receive_window(bytes))?;
    config = either(input, config, TransportConfig::connection_flow_control_window)?;
    config = either(input, config, |config, bytes: Option<_>| config.send_window(bytes))?;
    config = config.send_buffering(bool::arbitrary(input)?);
    config = either(input, config, |config, bytes: Option<_>| config.datagram_receive_buffer(bytes))?;
    let bbr = bool::arbitrary(input)?;
    config = config.congestion_control(if bbr { CongestionControl::Bbr } else { CongestionControl::Cubic });
    config = config.hystart(bool::arbitrary(input)?);
    config = config.pacing(bool::arbitrary(input)?);
    config = config.ecn(bool::arbitrary(input)?);
    config = either(input, config, TransportConfig::initial_window_packets)?;
    config = either(input, config, TransportConfig::initial_rtt)?;
    config = either(input, config, TransportConfig::max_ack_delay)?;
    config = either(input, config, TransportConfig::min_mtu)?;
    config = either(input, config, TransportConfig::max_mtu)?;
    config = config.migration(bool::arbitrary(input)?);
    config = config.grease_quic_bit(bool::arbitrary(input)?);
    config = either(input, config, TransportConfig::key_update_after)?;
    let in_turn = bool::arbitrary(input)?;
    config = config.stream_scheduling(if in_turn { StreamScheduling::RoundRobin } else { StreamScheduling::Fifo });
    config = either(input, config, TransportConfig::drop_error_code)?;
    either(input, config, TransportConfig::accept_backlog)
}

/// Mostly leaves the default, so that one wrong setting does not hide all others.
fn either<'a, T: Arbitrary<'a>>(
    input: &mut Unstructured<'a>,
    config: TransportConfig,
    set: impl FnOnce(TransportConfig, T) -> TransportConfig,
) -> arbitrary::Result<TransportConfig> {
    Ok(if u8::arbitrary(input)? < 200 { config } else { set(config, T::arbitrary(input)?) })
}

/// As [`either`], and often a power of two.
fn power(
    input: &mut Unstructured<'_>,
    config: TransportConfig,
    set: impl FnOnce(TransportConfig, u32) -> TransportConfig,
) -> arbitrary::Result<TransportConfig> {
    if bool::arbitrary(input)? {
        Ok(set(config, 1 << (u8::arbitrary(input)? % 32)))
    } else {
        either(input, config, set)
    }
}
