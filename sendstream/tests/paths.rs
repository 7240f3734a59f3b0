//! The path under a connection: a client that moves to another address, and who is told.

mod support;

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use futures::future::poll_immediate;
use ring::digest::{self, SHA256};
use sendstream::{
    Client, ClientBuilder, ConnectError, Connection, ConnectionError, RebindError, TransportConfig, Trust,
};
use support::{Endpoints, Pair, accept, any_port, assert_closed_locally, connect, pattern, run, wait_until};

/// Sends something and waits until the server has acknowledged it: by then its handshake is
/// confirmed.
async fn settle(client: &Connection) {
    let mut stream = client.open_uni().unwrap();
    stream.finish_with("x").await.unwrap();
    stream.finished().await.unwrap();
}

/// Moves, and tries again for as long as the server has not said what that takes.
async fn rebind(client: &Connection, local: SocketAddr) -> Result<SocketAddr, RebindError> {
    loop {
        match client.rebind(local).await {
            Err(RebindError::TooEarly) => settle(client).await,
            moved => return moved,
        }
    }
}

#[test]
fn a_transfer_goes_on_when_the_client_moves_in_the_middle() {
    const LENGTH: usize = 16 << 20;
    run(async {
        // The server reads on only when the client has moved, so the move is in the middle.
        let pair = Pair::new().await;
        let data = pattern(LENGTH);
        let digest = digest::digest(&SHA256, &data);
        let before = (pair.client.local_addr().unwrap(), pair.server.remote_addr().unwrap());
        assert_eq!(before.0, before.1);
        let mut stream = pair.client.open_uni().unwrap();
        let sent = stream.finish_with(data);
        let (arriving, a_quarter) = futures::channel::oneshot::channel();
        let (moved, received) = futures::join!(
            async {
                a_quarter.await.unwrap();
                let changed = pair.client.path_changed();
                let moved = rebind(&pair.client, any_port()).await.unwrap();
                changed.await.unwrap();
                assert_eq!(pair.client.local_addr(), Some(moved));
                moved
            },
            async {
                let mut stream = pair.server.accept_uni().await.unwrap();
                let mut hash = digest::Context::new(&SHA256);
                let mut length = 0;
                let changed = pair.server.path_changed();
                while length < LENGTH / 4 {
                    let chunk = stream.read_chunk().await.unwrap().unwrap();
                    hash.update(&chunk);
                    length += chunk.len();
                }
                arriving.send(()).unwrap();
                changed.await.unwrap();
                while let Some(chunk) = stream.read_chunk().await.unwrap() {
                    hash.update(&chunk);
                }
                hash.finish()
            }
        );
        assert_ne!(moved, before.0);
        assert_eq!(pair.server.remote_addr(), Some(moved));
        assert_eq!(received.as_ref(), digest.as_ref());
        sent.await.unwrap();
        stream.finished().await.unwrap();
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn a_client_may_move_more_than_once_and_to_where_it_is() {
    run(async {
        let pair = Pair::new().await;
        for _ in 0..12 {
            let changed = pair.server.path_changed();
            let moved = rebind(&pair.client, any_port()).await.unwrap();
            settle(&pair.client).await;
            changed.await.unwrap();
            assert_eq!(pair.server.remote_addr(), Some(moved));
            assert_eq!(rebind(&pair.client, moved).await, Ok(moved), "it is there already");
        }
        pair.end().await;
    });
}

/// The edit `removed-path-gives-its-binding-back`.
#[test]
fn a_server_whose_clients_have_moved_gives_its_port_back() {
    /// A multiple of the time after which the server gives up the address that the client left. No
    /// event tells that.
    const LONGER: Duration = Duration::from_secs(1);
    run(async {
        let config = || TransportConfig::default().initial_rtt(Duration::from_millis(10));
        let endpoints = Endpoints::with(config(), config());
        let address = endpoints.address;
        let (client, server) = endpoints.connect().await;
        let changed = server.path_changed();
        rebind(&client, any_port()).await.unwrap();
        settle(&client).await;
        changed.await.unwrap();
        let begin = Instant::now();
        while begin.elapsed() < LONGER {
            settle(&client).await;
        }
        drop((client, server));
        endpoints.end().await;
        wait_until(|| UdpSocket::bind(address).is_ok());
    });
}

#[test]
fn the_system_chooses_the_address_when_none_is_given() {
    run(async {
        let pair = Pair::new().await;
        let moved = rebind(&pair.client, "0.0.0.0:0".parse().unwrap()).await.unwrap();
        assert_eq!(moved.ip(), std::net::Ipv4Addr::LOCALHOST);
        settle(&pair.client).await;
        pair.end().await;
    });
}

#[test]
fn a_server_that_forbids_migration_is_obeyed() {
    run(async {
        let forbids = TransportConfig::default().migration(false);
        let pair = Pair::with(TransportConfig::default(), forbids).await;
        let before = pair.client.local_addr();
        assert_eq!(rebind(&pair.client, any_port()).await, Err(RebindError::Disabled));
        assert_eq!(pair.client.local_addr(), before);
        settle(&pair.client).await;
        pair.end().await;
    });
}

#[test]
fn a_server_does_not_move() {
    run(async {
        let pair = Pair::new().await;
        assert_eq!(pair.server.rebind(any_port()).await, Err(RebindError::NotTheClient));
        pair.end().await;
    });
}

#[test]
fn an_address_that_cannot_be_used_leaves_the_connection_where_it_is() {
    run(async {
        let pair = Pair::new().await;
        let before = pair.client.local_addr();
        let error = rebind(&pair.client, "[::1]:0".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, RebindError::FamilyMismatch { .. }), "{error}");
        let socket = std::net::UdpSocket::bind(any_port()).unwrap();
        let taken = socket.local_addr().unwrap();
        assert_eq!(rebind(&pair.client, taken).await, Err(RebindError::AddressInUse(taken)));
        let foreign = "203.0.113.1:0".parse().unwrap();
        assert_eq!(rebind(&pair.client, foreign).await, Err(RebindError::AddressNotAvailable(foreign)));
        assert_eq!(pair.client.local_addr(), before);
        settle(&pair.client).await;
        pair.end().await;
    });
}

#[test]
fn who_waits_for_another_path_is_told_when_the_connection_ends() {
    run(async {
        let pair = Pair::new().await;
        let mut changed = Box::pin(pair.server.path_changed());
        assert!(poll_immediate(&mut changed).await.is_none());
        pair.client.close(5, "").unwrap();
        assert!(matches!(changed.await, Err(ConnectionError::ApplicationClosed { code: 5, .. })));
        let rebound = pair.client.rebind(any_port()).await;
        let Err(RebindError::ConnectionLost(cause)) = rebound else { panic!("{rebound:?}") };
        assert_closed_locally(&cause, 5);
        assert!(pair.server.remote_addr().is_some(), "the last address stays known");
        pair.end().await;
    });
}

fn describe_client_at(local: &str) -> ClientBuilder {
    support::client_with(Trust::dangerous_accept_any_certificate()).bind(local.parse().unwrap())
}

fn client_at(local: &str) -> Client {
    describe_client_at(local).build().unwrap()
}

#[test]
fn a_client_connects_from_where_it_is_told_to() {
    run(async {
        let endpoints = Endpoints::new();
        // On Linux all of 127/8 is this machine.
        for local in ["127.0.0.2:0", "0.0.0.0:0"] {
            let client = client_at(local);
            let (connected, accepted) = connect(&client, &endpoints.server).await;
            let from = accepted.remote_addr().unwrap();
            assert_eq!(connected.local_addr(), Some(from));
            assert_eq!(from.ip().to_string(), if local.starts_with('0') { "127.0.0.1" } else { "127.0.0.2" });
            drop((connected, accepted));
            client.wait_idle().await;
        }
        // A port that was just free, and is still unless another test was quicker.
        for separate in [false, true] {
            let (client, free, connected, accepted) = loop {
                let free = std::net::UdpSocket::bind(any_port()).unwrap().local_addr().unwrap();
                let client = describe_client_at(&free.to_string()).socket_per_connection(separate).build().unwrap();
                let accept = async { Ok(accept(&endpoints.server).await.unwrap()) };
                match futures::try_join!(client.connect(endpoints.address, "localhost"), accept) {
                    Ok((connected, accepted)) => break (client, free, connected, accepted),
                    Err(error) => assert!(matches!(error, ConnectError::AddressInUse(_)), "{error}"),
                }
            };
            assert_eq!(accepted.remote_addr(), Some(free));
            if separate {
                let second = client.connect(endpoints.address, "localhost").await.unwrap_err();
                assert!(matches!(second, ConnectError::AddressInUse(local) if local == free), "{second}");
            } else {
                let (_second, accepted) = connect(&client, &endpoints.server).await;
                assert_eq!(accepted.remote_addr(), Some(free));
            }
            drop((connected, accepted));
            client.wait_idle().await;
        }
        endpoints.end().await;
    });
}

#[test]
fn a_client_that_cannot_be_where_it_is_told_to_says_why() {
    run(async {
        let endpoints = Endpoints::new();
        let taken = std::net::UdpSocket::bind(any_port()).unwrap();
        let address = taken.local_addr().unwrap();
        let connect = async |local: &str| {
            let client = client_at(local);
            let error = client.connect(endpoints.address, "localhost").await.unwrap_err();
            client.wait_idle().await;
            error
        };
        let error = connect(&address.to_string()).await;
        assert!(matches!(error, ConnectError::AddressInUse(local) if local == address), "{error}");
        let error = connect("203.0.113.1:0").await;
        assert!(matches!(error, ConnectError::AddressNotAvailable(_)), "{error}");
        let error = connect("[::1]:0").await;
        assert!(matches!(error, ConnectError::FamilyMismatch { .. }), "{error}");
        endpoints.end().await;
    });
}
