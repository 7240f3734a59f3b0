//! Anybody may send empty UDP datagrams to a listener. Alone in its file, because it looks at the process's memory.

mod support;

use std::net::UdpSocket;

use support::{Endpoints, memory::resident, run};

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn twenty_thousand_empty_datagrams_leave_memory_flat() {
    run(async {
        let endpoints = Endpoints::new();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.connect(endpoints.address).unwrap();
        // A served connection after every burst shows that the listener has read it all, so none is lost to a full socket.
        let flood = async |datagrams: usize| {
            for burst in 0..datagrams / 100 {
                for number in 0..100 {
                    // Good (if meaningless) datagrams among the empty ones, so that batches are mixed.
                    let datagram: &[u8] = if (burst + number) % 10 == 0 { b"\x01nonsense" } else { b"" };
                    stranger.send(datagram).unwrap();
                }
                if burst % 10 == 9 {
                    drop(endpoints.connect().await);
                }
            }
        };
        flood(2_000).await;
        let before = resident();
        flood(20_000).await;
        let grown = resident().saturating_sub(before);
        println!("resident memory grew by {} KiB over 20,000 datagrams", grown / 1024);
        // The leak was 70 KiB for each: 1.4 GB.
        assert!(grown < 64 << 20, "resident memory grew by {grown} bytes");
        endpoints.end().await;
    });
}
