//! Numbers: what they count, when they can be asked for, and that asking harms nothing.

mod support;

use std::{sync::mpsc, time::Duration};

use sendstream::{CipherSuite, Connection, TlsVersion, TransportConfig, process::counters};
use support::{
    Endpoints, Pair, alone, pattern,
    peer::{Peer, Role},
    relay::{Faults, Relay},
    run,
};

#[test]
fn a_connection_counts_what_it_sends_and_receives() {
    run(async {
        let pair = Pair::new().await;
        let data = pattern(1_000_000);
        let mut send = pair.client.open_uni().unwrap();
        let (sent, read) = futures::join!(send.finish_with(data), async {
            pair.server.accept_uni().await.unwrap().read_to_end(1_000_000).await
        });
        sent.unwrap();
        assert_eq!(read.unwrap().len(), 1_000_000);
        let (client, server) = (pair.client.stats().await.unwrap(), pair.server.stats().await.unwrap());
        assert!(client.sent.stream_bytes >= 1_000_000, "{client:?}");
        assert!(client.sent.bytes > client.sent.stream_bytes, "{client:?}");
        assert!(client.sent.packets >= client.sent.ack_eliciting_packets, "{client:?}");
        assert!(client.sent.ack_eliciting_packets > 600, "{client:?}");
        // What was sent again may have come twice.
        let received = server.received.stream_bytes;
        assert!((1_000_000..=client.sent.stream_bytes).contains(&received), "{client:?} {server:?}");
        assert!(server.received.packets > 600, "{server:?}");
        assert!(client.received.ack_frames > 0, "{client:?}");
        for stats in [client, server] {
            let (min, max) = (stats.min_rtt.unwrap(), stats.max_rtt.unwrap());
            assert!(Duration::ZERO < min && min <= max && max < Duration::from_secs(60), "{stats:?}");
            assert!(stats.rtt <= max, "{stats:?}");
            // However much was lost: two packets (RFC 9002 §7.2).
            assert!(stats.congestion_window >= 2 * 1200, "{stats:?}");
            assert!((1248..=1500).contains(&stats.path_mtu), "{stats:?}");
            assert!(stats.handshake.initial_done.unwrap() <= stats.handshake.handshake_done.unwrap(), "{stats:?}");
            assert!(stats.handshake.client_flight_1_bytes > 0, "{stats:?}");
            assert!(!stats.handshake.resumed && !stats.handshake.stateless_retry, "{stats:?}");
        }
        drop(send);
        pair.end().await;
    });
}

/// Waits until the connection says the same of its round-trip time whichever way it is asked.
async fn settled_rtt(connection: &Connection) -> Duration {
    loop {
        let (before, stats) = (connection.rtt(), connection.stats().await.unwrap());
        if stats.rtt == before && before == connection.rtt() {
            return before;
        }
    }
}

#[test]
fn the_round_trip_time_is_that_of_the_path() {
    run(async {
        let delay = Duration::from_millis(50);
        let config = || TransportConfig::default().initial_rtt(Duration::from_millis(40));
        let endpoints = Endpoints::with(config(), config());
        let relay = Relay::start(endpoints.address, Faults::none().delay(delay));
        let (client, server) = endpoints.connect_through(relay.address()).await;
        for connection in [&client, &server] {
            // Much longer than that on a busy machine, and never shorter.
            let rtt = connection.rtt();
            assert!((2 * delay..Duration::from_secs(60)).contains(&rtt), "{rtt:?}");
        }
        if publishes_rtt() {
            settled_rtt(&client).await;
        }
        client.close(1, "").unwrap();
        server.closed().await;
        drop((client, server));
        endpoints.end().await;
    });
}

#[test]
fn a_connection_that_has_ended_still_tells_its_round_trip_time() {
    run(async {
        let pair = Pair::new().await;
        support::exchange(&pair.client, &pair.server, 100_000).await;
        pair.client.close(0, "").unwrap();
        pair.server.closed().await;
        for connection in [&pair.client, &pair.server] {
            let rtt = connection.rtt();
            assert!(Duration::ZERO < rtt && rtt < Duration::from_secs(60), "{rtt:?}");
            if publishes_rtt() {
                assert_eq!(settled_rtt(connection).await, connection.rtt());
            }
        }
        pair.end().await;
    });
}

#[test]
fn whoever_asks_for_the_round_trip_time_waits_for_no_worker() {
    if !publishes_rtt() {
        return support::skip("this MsQuic has no edit smoothed-rtt-in-place");
    }
    run(async {
        let pair = Pair::new().await;
        let (busy, is_busy) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let blocking = pair.client.spawn_on_worker(async move {
            busy.send(()).unwrap();
            let _ = released.recv();
        });
        is_busy.recv().unwrap();
        let rtt = pair.client.rtt();
        release.send(()).unwrap();
        assert!(rtt > Duration::ZERO);
        blocking.await.unwrap();
        pair.end().await;
    });
}

fn publishes_rtt() -> bool {
    support::has_edit("smoothed-rtt-in-place")
}

/// What the peer's process runs.
#[test]
fn peer() {
    support::peer::main();
}

#[test]
fn what_nobody_acknowledges_is_in_flight() {
    run(async {
        let peer = Peer::start("peer", Role::Hold);
        let (client, connection) = peer.connect(TransportConfig::default()).await;
        peer.pause();
        let mut stream = connection.open_uni().unwrap();
        drop(stream.send("x"));
        while connection.stats().await.unwrap().bytes_in_flight == 0 {}
        drop((stream, connection));
        client.wait_idle().await;
    });
}

#[test]
fn the_numbers_outlive_the_connection() {
    run(async {
        let pair = Pair::new().await;
        pair.client.open_uni().unwrap().finish_with("some").await.unwrap();
        pair.client.close(3, "").unwrap();
        pair.client.closed().await;
        pair.server.closed().await;
        // More if it was sent again.
        assert!(pair.client.stats().await.unwrap().sent.stream_bytes >= 4);
        assert!(pair.server.stats().await.unwrap().received.stream_bytes >= 4);
        pair.end().await;
    });
}

#[test]
fn a_question_may_outlive_its_handle_and_be_dropped_unanswered() {
    run(async {
        let pair = Pair::new().await;
        let Pair { client, server, endpoints } = pair;
        let answers: Vec<_> = (0..100).map(|_| client.stats()).collect();
        drop(client.stats());
        let stream = client.open_uni().unwrap();
        drop((stream.stats(), stream));
        drop((client, server));
        for answer in answers {
            answer.await.unwrap();
        }
        endpoints.end().await;
    });
}

#[test]
fn who_asked_a_stream_and_dropped_it_is_answered_after_its_end() {
    run(async {
        let pair = Pair::new().await;
        // One is answered after the other. So most are over when it is their turn.
        let answers: Vec<_> = (0..50)
            .map(|_| {
                let mut stream = pair.client.open_uni().unwrap();
                drop(stream.finish_with("x"));
                stream.stats()
            })
            .collect();
        for answer in answers {
            assert!(answer.await.unwrap().is_some(), "it has started");
        }
        pair.end().await;
    });
}

#[test]
fn a_stream_tells_what_blocks_it_once_it_has_started() {
    run(async {
        let none = TransportConfig::default().max_concurrent_uni_streams(0);
        let pair = Pair::with(TransportConfig::default(), none).await;
        let mut stream = pair.client.open_uni().unwrap();
        assert_eq!(stream.stats().await.unwrap(), None, "it has not started");
        drop(stream.send("x"));
        loop {
            let stats = stream.stats().await.unwrap().expect("it has started");
            if stats.blocked_by_stream_limit > Duration::ZERO {
                assert_eq!(stats.blocked_by_stream_flow_control, Duration::ZERO);
                break;
            }
        }
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn a_stream_tells_what_blocked_it_also_when_it_is_over() {
    run(async {
        let none = TransportConfig::default().max_concurrent_uni_streams(1);
        let pair = Pair::with(TransportConfig::default(), none).await;
        let mut first = pair.client.open_uni().unwrap();
        first.send("x").await.unwrap();
        let mut second = pair.client.open_uni().unwrap();
        drop(second.finish_with("y"));
        while second.stats().await.unwrap().expect("it has started").blocked_by_stream_limit == Duration::ZERO {}
        first.finished().await.unwrap();
        drop(pair.server.accept_uni().await.unwrap().read_to_end(1).await.unwrap());
        second.finished().await.unwrap();
        let stats = second.stats().await.unwrap().expect("it has started");
        assert!(stats.blocked_by_stream_limit > Duration::ZERO, "{stats:?}");
        drop((first, second));
        pair.end().await;
    });
}

#[test]
fn the_process_counts_its_connections() {
    run(async {
        let before = counters().unwrap();
        let pair = Pair::new().await;
        pair.client.open_uni().unwrap().finish_with("some").await.unwrap();
        let after = counters().unwrap();
        assert!(after.connections_created >= before.connections_created + 2, "{before:?} {after:?}");
        assert!(after.udp_sent_bytes > before.udp_sent_bytes, "{before:?} {after:?}");
        assert!(after.udp_received > before.udp_received, "{before:?} {after:?}");
        assert!(after.connections_connected >= 2, "{after:?}");
        pair.end().await;
    });
}

#[test]
fn the_process_counts_each_datagram_once() {
    // What others send counts as well.
    if alone::parent("the_process_counts_each_datagram_once", |_| ()).is_some() {
        return;
    }
    run(async {
        let pair = Pair::new().await;
        let data = pattern(8 << 20);
        let reading = async { pair.server.accept_uni().await.unwrap().read_to_end(data.len()).await.unwrap() };
        let sending = async { pair.client.open_uni().unwrap().finish_with(data.clone()).await.unwrap() };
        let ((), read) = futures::join!(sending, reading);
        assert!(read == data);
        // Some may have been lost, so the counts themselves may differ.
        let counters = counters().unwrap();
        let sent = counters.udp_sent_bytes as f64 / counters.udp_sent as f64;
        let received = counters.udp_received_bytes as f64 / counters.udp_received as f64;
        assert!((0.8..1.25).contains(&(sent / received)), "{counters:?}");
        pair.end().await;
    });
}

#[test]
fn both_sides_know_how_the_handshake_ended() {
    run(async {
        let pair = Pair::new().await;
        let info = pair.client.handshake_info().unwrap();
        assert_eq!(info.tls_version, TlsVersion::Tls13);
        assert!(
            matches!(info.cipher_suite, CipherSuite::Aes256GcmSha384 | CipherSuite::Aes128GcmSha256),
            "{}",
            info.cipher_suite
        );
        assert_eq!(pair.server.handshake_info(), Some(info.clone()));
        pair.client.close(0, "").unwrap();
        assert_eq!(pair.client.handshake_info(), Some(info), "also after the end");
        pair.end().await;
    });
}
