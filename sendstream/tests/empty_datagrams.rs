//! Anybody may send empty UDP datagrams to a listener, and whoever knows a connection's addresses
//! to its client. Alone in its file, because it looks at the process's memory.

mod support;

use std::{net::UdpSocket, sync::Mutex};

use support::{Endpoints, figure, forwarder::Forwarder, memory::resident, run};

/// The leak was 70 KiB for each: 7 GB.
const FLOOD: usize = 100_000;
/// What fills allocators and queues before memory is looked at for the first time.
const BEFORE: usize = 2_000;
const ALLOWED_GROWTH: usize = 64 << 20;

/// The two tests look at the same process's memory.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn a_hundred_thousand_empty_datagrams_leave_a_listeners_memory_flat() {
    let _alone = ALONE.lock();
    run(async {
        let endpoints = Endpoints::new();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.connect(endpoints.address).unwrap();
        // A served connection after every thousand shows that the listener has read most of them:
        // few are lost to a full socket.
        let flood = async |datagrams: usize| {
            for number in 1..=datagrams {
                stranger.send(datagram(number)).unwrap();
                if number % 1_000 == 0 {
                    drop(endpoints.connect().await);
                }
            }
        };
        flood(BEFORE).await;
        let before = resident();
        flood(FLOOD).await;
        assert_flat(before);
        endpoints.end().await;
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn a_hundred_thousand_empty_datagrams_leave_a_clients_memory_flat() {
    let _alone = ALONE.lock();
    run(async {
        let endpoints = Endpoints::new();
        let forwarder = Forwarder::start(endpoints.address, |_| None);
        let (client, server) = endpoints.connect_through(forwarder.address()).await;
        let (mut send, mut recv) = client.open_bi().unwrap();
        drop(send.send("?"));
        let (mut echo, mut heard) = server.accept_bi().await.unwrap();
        // Behind every hundred an answer comes to the same socket: when it is there, so are they.
        let mut flood = async |datagrams: usize| {
            for number in 1..=datagrams {
                forwarder.send_to_client(datagram(number));
                if number % 100 == 0 {
                    drop(send.send("?"));
                    let mut byte = [0];
                    heard.read_exact(&mut byte).await.unwrap();
                    drop(echo.send(byte.to_vec()));
                    recv.read_exact(&mut byte).await.unwrap();
                }
            }
        };
        flood(BEFORE).await;
        let before = resident();
        flood(FLOOD).await;
        assert_flat(before);
        drop((client, server, send, recv, echo, heard));
        endpoints.end().await;
    });
}

/// Good (if meaningless) datagrams among the empty ones, so that batches are mixed.
fn datagram(number: usize) -> &'static [u8] {
    if number.is_multiple_of(10) { b"\x01nonsense" } else { b"" }
}

fn assert_flat(before: usize) {
    let grown = resident().saturating_sub(before);
    figure(format_args!("resident memory grew by {} KiB over {FLOOD} datagrams", grown / 1024));
    assert!(grown < ALLOWED_GROWTH, "resident memory grew by {grown} bytes");
}
