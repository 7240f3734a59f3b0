//! When a client, a server or a registration has nothing left to do, and how all of it is ended.

mod support;

use std::pin::pin;

use sendstream::{Registration, TransportConfig, Trust};
use support::{
    Endpoints, Pair, TIMEOUT, accept, any_port, assert_closed_by_peer, assert_closed_here_because, connect, poll_once,
    run, tell,
};

#[test]
fn who_still_holds_what_is_closed_holds_up_nobody() {
    run(async {
        let registration = Registration::new().unwrap();
        let identity = support::identity();
        let server = support::server(&identity).registration(&registration).bind(any_port()).unwrap();
        let client = support::client(&identity).registration(&registration).build().unwrap();
        let (ours, theirs) = connect(&client, &server).await;
        // One stream that is open, one that never started, one with data that nobody has read.
        let mut open = ours.open_uni().unwrap();
        open.write_all(&[7; 4096]).await.unwrap();
        let unstarted = ours.open_bi().unwrap();
        let mut received = theirs.accept_uni().await.unwrap();
        let chunk = received.read_chunk().await.unwrap().unwrap();
        assert!(poll_once(&mut pin!(client.wait_idle())).is_pending());
        ours.close(0, "").unwrap();
        client.wait_idle().await;
        server.shutdown().await;
        registration.wait_idle().await;
        assert_eq!(chunk[0], 7);
        drop((ours, theirs, open, unstarted, received, chunk));
        registration.wait_idle().await;
    });
}

#[test]
fn streams_alone_of_a_closed_connection_hold_up_nobody() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let streams = client.open_bi().unwrap();
        client.close(0, "").unwrap();
        drop(client);
        endpoints.client.wait_idle().await;
        drop(server);
        endpoints.server.shutdown().await;
        drop(streams);
    });
}

#[test]
fn what_nobody_closed_is_waited_for() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        {
            let mut idle = pin!(endpoints.client.wait_idle());
            assert!(poll_once(&mut idle).is_pending());
            tell(&client, &server, "it goes on").await;
            assert!(poll_once(&mut idle).is_pending());
            // Of two users the first to go ends nothing.
            drop(client.clone());
            tell(&client, &server, "it goes on").await;
            assert!(poll_once(&mut idle).is_pending());
            server.close(5, "").unwrap();
            idle.await;
        }
        assert_closed_by_peer(&client.closed().await, 5, "");
        endpoints.end().await;
    });
}

#[test]
fn a_client_closes_all_of_its_connections_and_no_others() {
    run(async {
        let endpoints = Endpoints::new();
        let another = support::client_with(Trust::dangerous_accept_any_certificate()).build().unwrap();
        let mut pairs = Vec::new();
        for _ in 0..3 {
            pairs.push(endpoints.connect().await);
        }
        let (other, others_peer) = connect(&another, &endpoints.server).await;
        assert!(endpoints.client.close_all(1 << 62, "").is_err());
        tell(&pairs[0].0, &pairs[0].1, "it goes on").await;
        endpoints.client.close_all(7, "that is all").unwrap();
        endpoints.client.wait_idle().await;
        for (ours, theirs) in &pairs {
            assert_closed_here_because(&ours.close_reason().unwrap(), 7, "that is all");
            assert_closed_by_peer(&theirs.closed().await, 7, "that is all");
        }
        tell(&other, &others_peer, "it goes on").await;
        // It may connect again.
        let (ours, theirs) = endpoints.connect().await;
        tell(&ours, &theirs, "once more").await;
        drop((pairs, ours, theirs, other, others_peer));
        another.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn a_server_closes_all_of_its_connections_in_whatever_state_they_are() {
    run(async {
        let endpoints = Endpoints::with(
            TransportConfig::default().handshake_timeout(TIMEOUT),
            TransportConfig::default().handshake_timeout(TIMEOUT),
        );
        let (ours, theirs) = endpoints.connect().await;
        let mut held = pin!(endpoints.client.connect(endpoints.address, "localhost"));
        let incoming = async { endpoints.server.accept().await.unwrap() };
        let incoming = match futures::future::select(&mut held, pin!(incoming)).await {
            futures::future::Either::Right((incoming, _)) => incoming,
            futures::future::Either::Left(_) => panic!("nobody has accepted it"),
        };
        endpoints.server.stop_listening();
        endpoints.server.close_all(9, "the end").unwrap();
        assert_closed_by_peer(&ours.closed().await, 9, "the end");
        assert_eq!(held.await.unwrap_err().to_string(), "refused by the peer");
        // All are still held here.
        endpoints.server.shutdown().await;
        assert_closed_here_because(&incoming.accept().await.unwrap_err(), 9, "the end");
        assert_closed_here_because(&theirs.close_reason().unwrap(), 9, "the end");
        endpoints.client.wait_idle().await;
    });
}

#[test]
fn a_handshake_that_is_under_way_is_closed_with_all() {
    run(async {
        let endpoints = Endpoints::new();
        {
            let mut connecting = pin!(endpoints.client.connect(endpoints.address, "localhost"));
            assert!(poll_once(&mut connecting).is_pending());
            endpoints.client.close_all(3, "").unwrap();
            assert_eq!(connecting.await.unwrap_err().to_string(), "closed by this side's application with code 3");
        }
        endpoints.client.wait_idle().await;
        let (ours, theirs) = futures::join!(endpoints.client.connect(endpoints.address, "localhost"), async {
            // The one that was given up may come first.
            loop {
                if let Ok(connection) = accept(&endpoints.server).await {
                    return connection;
                }
            }
        });
        drop((ours, theirs));
        endpoints.end().await;
    });
}
