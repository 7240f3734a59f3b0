//! Transport settings, protocols and server names: whatever they are, the answer is a client, a server's refusal or a
//! `ConfigError` that names what is wrong, and MsQuic takes whatever we take.

#![no_main]

use std::{
    net::SocketAddr,
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
    if !name.is_empty() && !name.contains('\0') {
        return;
    }
    let connect = pin!(client.connect(SocketAddr::from(([127, 0, 0, 1], 9)), name));
    let polled: Poll<Result<Connection, ConnectError>> = connect.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(ConnectError::InvalidServerName))));
}

fn transport(input: &mut Unstructured<'_>) -> arbitrary::Result<TransportConfig> {
    let default = TransportConfig::default();
    Ok(TransportConfig {
        idle_timeout: either(input, default.idle_timeout)?,
        handshake_timeout: either(input, default.handshake_timeout)?,
        keep_alive: either(input, default.keep_alive)?,
        disconnect_timeout: either(input, default.disconnect_timeout)?,
        max_concurrent_uni_streams: either(input, default.max_concurrent_uni_streams)?,
        max_concurrent_bidi_streams: either(input, default.max_concurrent_bidi_streams)?,
        stream_receive_window: power(input, default.stream_receive_window)?,
        uni_stream_receive_window: either(input, default.uni_stream_receive_window)?,
        local_bidi_stream_receive_window: either(input, default.local_bidi_stream_receive_window)?,
        remote_bidi_stream_receive_window: either(input, default.remote_bidi_stream_receive_window)?,
        connection_flow_control_window: either(input, default.connection_flow_control_window)?,
        send_window: either(input, default.send_window)?,
        send_buffering: bool::arbitrary(input)?,
        datagram_receive_buffer: either(input, default.datagram_receive_buffer)?,
        congestion_control: if bool::arbitrary(input)? { CongestionControl::Bbr } else { CongestionControl::Cubic },
        hystart: bool::arbitrary(input)?,
        pacing: bool::arbitrary(input)?,
        ecn: bool::arbitrary(input)?,
        initial_window_packets: either(input, default.initial_window_packets)?,
        initial_rtt: either(input, default.initial_rtt)?,
        max_ack_delay: either(input, default.max_ack_delay)?,
        min_mtu: either(input, default.min_mtu)?,
        max_mtu: either(input, default.max_mtu)?,
        migration: bool::arbitrary(input)?,
        grease_quic_bit: bool::arbitrary(input)?,
        key_update_after: either(input, default.key_update_after)?,
        stream_scheduling: if bool::arbitrary(input)? { StreamScheduling::RoundRobin } else { StreamScheduling::Fifo },
        drop_error_code: either(input, default.drop_error_code)?,
        accept_backlog: either(input, default.accept_backlog)?,
    })
}

/// Mostly the default, so that one wrong setting does not hide all others.
fn either<'a, T: Arbitrary<'a>>(input: &mut Unstructured<'a>, default: T) -> arbitrary::Result<T> {
    Ok(if u8::arbitrary(input)? < 200 { default } else { T::arbitrary(input)? })
}

/// As [`either`], and often a power of two.
fn power(input: &mut Unstructured<'_>, default: u32) -> arbitrary::Result<u32> {
    Ok(if bool::arbitrary(input)? { 1 << (u8::arbitrary(input)? % 32) } else { either(input, default)? })
}
