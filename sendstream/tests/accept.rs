//! Servers before the handshake: what is known of a client, what a connection is accepted with, who
//! waits for how long, and where a server listens.

mod support;

use std::{collections::VecDeque, future::Future, pin::pin, time::Duration};

use futures::{
    channel::oneshot,
    future::{Either, join_all, poll_immediate},
};
use sendstream::{
    BindError, Client, ClientAuth, ConfigError, ConnectError, Connection, ConnectionError, Connections, Identity,
    Server, StartError, Timeout, TransportConfig, Trust,
};
use support::{Endpoints, HANG, accept, any_port, run, wait_until};

fn timeout(handshake_timeout: Duration) -> TransportConfig {
    TransportConfig::default().handshake_timeout(handshake_timeout)
}

fn client(alpn: &[&str], trusted: &[&Identity]) -> Client {
    let trust = Trust::pinned(trusted.iter().map(|identity| identity.certificate_sha256()));
    support::client_with(trust).alpn(alpn.iter().copied()).build().unwrap()
}

fn failure(connected: Result<Connection, ConnectError>) -> ConnectionError {
    match connected {
        Err(ConnectError::Connection(error)) => error,
        other => panic!("not ended by the handshake: {other:?}"),
    }
}

#[test]
fn an_incoming_connection_tells_who_wants_what() {
    run(async {
        let identity = support::identity();
        let server = support::server(&identity).alpn(["demo", "h3"]).bind(any_port()).unwrap();
        let address = server.local_addr().unwrap();
        let client = client(&["other", "h3", "demo"], &[&identity]);
        let (connected, accepted) = futures::join!(client.connect(address, "localhost"), async {
            let incoming = server.accept().await.unwrap();
            assert_eq!(incoming.server_name(), "localhost");
            assert_eq!(incoming.alpn().collect::<Vec<_>>(), [&b"other"[..], b"h3", b"demo"]);
            assert_eq!(incoming.local_addr(), address);
            let remote = incoming.remote_addr();
            (remote, incoming.accept().await.unwrap())
        });
        let connected = connected.unwrap();
        assert_eq!(connected.local_addr(), Some(accepted.0));
        assert_eq!(connected.alpn(), b"demo", "the server's order counts");
        drop((connected, accepted));
        client.wait_idle().await;
        server.shutdown().await;
    });
}

#[test]
fn the_application_may_await_before_it_accepts() {
    run(async {
        let endpoints = Endpoints::new();
        let mut connecting = Box::pin(endpoints.client.connect(endpoints.address, "localhost"));
        assert!(poll_immediate(&mut connecting).await.is_none());
        let incoming = endpoints.server.accept().await.unwrap();
        let (answer, asked) = oneshot::channel();
        let deciding = std::thread::spawn(move || answer.send(()).unwrap());
        asked.await.unwrap();
        deciding.join().unwrap();
        assert!(poll_immediate(&mut connecting).await.is_none(), "nobody has accepted");
        let (connected, accepted) = futures::join!(connecting, incoming.accept());
        drop((connected.unwrap(), accepted.unwrap()));
        endpoints.end().await;
    });
}

#[test]
fn a_dropped_incoming_connection_is_refused() {
    run(async {
        let endpoints = Endpoints::new();
        let (refused, ()) = futures::join!(endpoints.client.connect(endpoints.address, "localhost"), async {
            drop(endpoints.server.accept().await.unwrap());
        });
        assert_eq!(failure(refused), ConnectionError::Refused);
        endpoints.end().await;
    });
}

/// A client whose handshake never ends, and is under way as long as the result lives.
async fn stalling(address: std::net::SocketAddr) -> impl Future<Output = Result<Connection, ConnectError>> + Unpin {
    let (asked, judging) = oneshot::channel();
    let asked = std::sync::Mutex::new(Some(asked));
    let trust = Trust::dangerous_accept_any_certificate().verify_with(move |_| {
        let _ = asked.lock().unwrap().take().unwrap().send(());
        std::future::pending()
    });
    let client = support::client_with(trust).build().unwrap();
    let connecting = Box::pin(async move { client.connect(address, "localhost").await });
    match futures::future::select(connecting, judging).await {
        Either::Right((_, connecting)) => connecting,
        Either::Left(_) => panic!("its handshake never ends"),
    }
}

/// The next of `connections` while nothing else drives them.
async fn with_server<T>(connections: &mut Connections<'_>, client: impl Future<Output = T>) -> T {
    match futures::future::select(pin!(client), pin!(connections.next())).await {
        Either::Left((done, _)) => done,
        Either::Right(_) => panic!("no handshake ends meanwhile"),
    }
}

#[test]
fn a_client_that_stalls_holds_up_no_other() {
    run(async {
        let endpoints = Endpoints::new();
        let mut connections = endpoints.server.connections();
        let mut stalled = Vec::new();
        for _ in 0..3 {
            stalled.push(with_server(&mut connections, stalling(endpoints.address)).await);
        }
        for _ in 0..3 {
            let connect = endpoints.client.connect(endpoints.address, "localhost");
            let (ours, theirs) = futures::join!(connect, connections.next());
            support::tell(&ours.unwrap(), &theirs.unwrap(), "hello").await;
        }
        for mut client in stalled {
            assert!(support::poll_once(&mut client).is_pending(), "nobody has given it up");
        }
    });
}

#[test]
fn only_so_many_handshakes_are_under_way_and_the_oldest_gives_way() {
    run(async {
        let endpoints = Endpoints::new();
        let mut connections = endpoints.server.connections().handshakes(2);
        let mut stalled = Vec::new();
        for _ in 0..2 {
            stalled.push(with_server(&mut connections, stalling(endpoints.address)).await);
        }
        // Every client after these waits, and then takes the place of one.
        for _ in 0..3 {
            let connect = endpoints.client.connect(endpoints.address, "localhost");
            let (ours, theirs) = futures::join!(connect, connections.next());
            support::tell(&ours.unwrap(), &theirs.unwrap(), "hello").await;
        }
        let mut stalled = stalled.into_iter();
        let gave_way = failure(stalled.next().unwrap().await);
        let closed = matches!(gave_way, ConnectionError::ApplicationClosed { code: 0, .. } | ConnectionError::Refused);
        assert!(closed, "{gave_way}");
        assert!(support::poll_once(&mut stalled.next().unwrap()).is_pending(), "there was room by then");
    });
}

#[test]
fn more_clients_than_handshakes_at_a_time_are_all_served() {
    const CLIENTS: usize = 40;
    run(async {
        let endpoints = Endpoints::new();
        let server = &endpoints.server;
        let clients: Vec<_> = (0..CLIENTS).map(|_| endpoints.client.connect(endpoints.address, "localhost")).collect();
        let serve = async {
            let mut held = Vec::new();
            let mut connections = server.connections().handshakes(4);
            while held.len() < CLIENTS {
                held.push(connections.next().await.unwrap());
            }
            held
        };
        let (connected, accepted) = futures::join!(futures::future::try_join_all(clients), serve);
        assert_eq!((connected.unwrap().len(), accepted.len()), (CLIENTS, CLIENTS));
    });
}

#[test]
fn the_connections_of_a_server_end_with_the_last_handshake() {
    run(async {
        let identity = support::identity();
        let server = support::server(&identity).bind(any_port()).unwrap();
        let address = server.local_addr().unwrap();
        let stranger = support::client_with(Trust::pinned([[7; 32]])).build().unwrap();
        let honest = support::client(&identity).build().unwrap();
        let mut connections = server.connections();
        // A handshake that fails is nobody's connection.
        let failed = with_server(&mut connections, stranger.connect(address, "localhost")).await;
        assert!(matches!(failure(failed), ConnectionError::CertificateRefused(_)));
        let late = with_server(&mut connections, stalling(address)).await;
        server.stop_listening();
        let mut next = Box::pin(connections.next());
        assert!(support::poll_once(&mut next).is_pending());
        drop(late);
        assert!(next.await.is_none());
        assert!(connections.next().await.is_none());
        honest.wait_idle().await;
    });
}

#[test]
fn one_connection_can_be_accepted_with_another_identity_protocol_and_settings() {
    run(async {
        let [usual, special] = [0, 1].map(|_| support::identity());
        let server = support::server(&usual).alpn(["usual"]).bind(any_port()).unwrap();
        let config = support::server(&special)
            .alpn(["newest", "special"])
            .transport(TransportConfig::default().max_concurrent_uni_streams(0))
            .build()
            .unwrap();
        let client = client(&["usual", "special"], &[&usual, &special]);
        let address = server.local_addr().unwrap();
        let connect = async |identity: &Identity| {
            let (connected, accepted) = futures::join!(client.connect(address, "localhost"), async {
                let incoming = server.accept().await.unwrap();
                let special = identity.certificate_sha256() == special.certificate_sha256();
                if special { incoming.accept_with(&config.clone()).await } else { incoming.accept().await }.unwrap()
            });
            let connected = connected.unwrap();
            assert_eq!(connected.peer_identity().unwrap().certificate_sha256(), identity.certificate_sha256());
            (connected, accepted)
        };
        let (connected, accepted) = connect(&special).await;
        assert_eq!((connected.alpn(), accepted.alpn()), (b"special".to_vec(), b"special".to_vec()));
        assert_eq!(connected.open_uni().unwrap().try_start().await, Err(StartError::LimitReached));
        drop((connected, accepted));
        let (connected, accepted) = connect(&usual).await;
        assert_eq!(connected.alpn(), b"usual");
        connected.open_uni().unwrap().try_start().await.unwrap();
        drop((connected, accepted));
        client.wait_idle().await;
        server.shutdown().await;
    });
}

#[test]
fn one_connection_can_be_asked_for_a_certificate() {
    run(async {
        let endpoints = Endpoints::new();
        let identity = support::identity();
        let auth = ClientAuth::Required(support::pinned(&identity));
        let strict = support::server(&identity).client_auth(auth).build().unwrap();
        let anyone = support::client_with(Trust::dangerous_accept_any_certificate()).build().unwrap();
        let (connected, accepted) = futures::join!(anyone.connect(endpoints.address, "localhost"), async {
            endpoints.server.accept().await.unwrap().accept_with(&strict).await
        });
        assert!(matches!(accepted, Err(ConnectionError::CertificateRefused(_))), "{accepted:?}");
        // The client's own handshake is done before the server has judged.
        match connected {
            Ok(connection) => assert!(matches!(connection.closed().await, ConnectionError::Tls { alert: 116, .. })),
            error => assert!(matches!(failure(error), ConnectionError::Tls { alert: 116, .. })),
        }
        anyone.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn accepting_with_no_common_protocol_ends_the_handshake_on_both_sides() {
    run(async {
        let endpoints = Endpoints::new();
        let other = support::server(&support::identity()).alpn(["another", "other"]).build().unwrap();
        let (refused, accepted) = futures::join!(endpoints.client.connect(endpoints.address, "localhost"), async {
            endpoints.server.accept().await.unwrap().accept_with(&other).await
        });
        assert!(matches!(failure(refused), ConnectionError::Tls { alert: 120, .. }));
        assert!(matches!(accepted, Err(ConnectionError::Tls { alert: 120, .. })), "{accepted:?}");
        endpoints.end().await;
    });
}

#[test]
fn a_configuration_is_checked_when_it_is_built() {
    let identity = support::identity();
    assert!(matches!(Server::builder().alpn(["x"]).build(), Err(ConfigError::NoIdentity)));
    assert!(matches!(Server::builder().identity(identity.clone()).build(), Err(ConfigError::EmptyAlpn)));
    let zero = TransportConfig::default().accept_backlog(0);
    let error = support::server(&identity).transport(zero).build().unwrap_err();
    assert!(matches!(error, ConfigError::OutOfRange { field: "accept_backlog", .. }), "{error}");
}

#[test]
fn a_client_does_not_wait_for_ever_for_a_server_that_never_accepts() {
    run(async {
        // Long enough for the client to ask again, and for the server's transport to answer that.
        let endpoints = Endpoints::with(timeout(Duration::from_secs(2)), timeout(2 * HANG));
        let error = failure(endpoints.client.connect(endpoints.address, "localhost").await);
        assert_eq!(error, ConnectionError::TimedOut(Timeout::Handshake));
        // The server hears of it: before it gives the connection out, during the handshake, or
        // right after.
        match poll_immediate(endpoints.server.accept()).await {
            Some(incoming) => match incoming.unwrap().accept().await {
                Ok(connection) => drop(connection.closed().await),
                Err(error) => assert_eq!(error, ConnectionError::Refused),
            },
            None => assert_eq!(endpoints.server.stats().expired, 1),
        }
        endpoints.end().await;
    });
}

#[test]
fn a_connection_that_nobody_accepts_in_time_is_refused_and_counted() {
    run(async {
        let endpoints = Endpoints::with(timeout(2 * HANG), timeout(Duration::from_millis(300)));
        let error = failure(endpoints.client.connect(endpoints.address, "localhost").await);
        assert_eq!(error, ConnectionError::Refused);
        wait_until(|| endpoints.server.stats().expired == 1);
        assert_eq!(endpoints.server.stats().waiting, 0);
        assert!(poll_immediate(endpoints.server.accept()).await.is_none());
        endpoints.end().await;
    });
}

#[test]
fn an_incoming_connection_that_is_kept_for_too_long_times_out() {
    run(async {
        let endpoints = Endpoints::with(timeout(2 * HANG), timeout(Duration::from_millis(300)));
        let (refused, incoming) =
            futures::join!(endpoints.client.connect(endpoints.address, "localhost"), endpoints.server.accept());
        assert_eq!(failure(refused), ConnectionError::Refused);
        assert_eq!(incoming.unwrap().accept().await.unwrap_err(), ConnectionError::TimedOut(Timeout::Handshake));
        endpoints.end().await;
    });
}

#[test]
fn a_client_that_gave_up_makes_room_for_another() {
    run(async {
        let server = timeout(2 * HANG).accept_backlog(1);
        let endpoints = Endpoints::with(TransportConfig::default(), server);
        let mut given_up = Box::pin(endpoints.client.connect(endpoints.address, "localhost"));
        assert!(poll_immediate(&mut given_up).await.is_none());
        wait_until(|| endpoints.server.stats().waiting == 1);
        drop(given_up);
        endpoints.client.wait_idle().await;
        // Its close is on the way: until it has come the next one is refused.
        let next = loop {
            let mut next = Box::pin(endpoints.client.connect(endpoints.address, "localhost"));
            let refused = endpoints.server.stats().refused;
            let came = || endpoints.server.stats();
            assert!(poll_immediate(&mut next).await.is_none());
            wait_until(|| came().expired == 1 || came().refused > refused);
            if endpoints.server.stats().expired == 1 {
                break next;
            }
        };
        let (connected, accepted) = futures::join!(next, accept(&endpoints.server));
        drop((connected.unwrap(), accepted.unwrap()));
        endpoints.end().await;
    });
}

#[test]
fn a_client_from_another_address_takes_a_place_of_one_that_has_them_all() {
    run(async {
        let settings = timeout(2 * HANG);
        let endpoints = Endpoints::with(settings.clone(), settings.clone().accept_backlog(4));
        let client = |host: u8| {
            let trust = Trust::dangerous_accept_any_certificate();
            let client = support::client_with(trust).transport(settings.clone());
            client.bind(([127, 0, 0, host], 0).into()).build().unwrap()
        };
        let (greedy, other) = (client(2), client(3));
        let mut connecting: VecDeque<_> =
            (0..4).map(|_| Box::pin(greedy.connect(endpoints.address, "localhost"))).collect();
        for (waiting, one) in (1..).zip(&mut connecting) {
            assert!(poll_immediate(one).await.is_none());
            wait_until(|| endpoints.server.stats().waiting == waiting);
        }
        let fifth = greedy.connect(endpoints.address, "localhost").await;
        assert_eq!(failure(fifth), ConnectionError::Refused);

        let mut others = Box::pin(other.connect(endpoints.address, "localhost"));
        assert!(poll_immediate(&mut others).await.is_none());
        let oldest = connecting.pop_front().unwrap();
        assert_eq!(failure(oldest.await), ConnectionError::Refused);
        wait_until(|| endpoints.server.stats().waiting == 4);
        assert_eq!(endpoints.server.stats().refused, 2);
        let accepting = async {
            let mut accepted = Vec::new();
            for _ in 0..4 {
                accepted.push(accept(&endpoints.server).await.unwrap());
            }
            accepted
        };
        let (theirs, others, accepted) = futures::join!(join_all(connecting), others, accepting);
        assert!(theirs.iter().all(Result::is_ok));
        drop((theirs, others.unwrap(), accepted));
        greedy.wait_idle().await;
        other.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn a_server_that_stops_listening_still_gives_out_who_waits() {
    run(async {
        let endpoints = Endpoints::new();
        let mut connecting = Box::pin(endpoints.client.connect(endpoints.address, "localhost"));
        assert!(poll_immediate(&mut connecting).await.is_none());
        wait_until(|| endpoints.server.stats().waiting == 1);
        endpoints.server.stop_listening();
        let (connected, accepted) = futures::join!(connecting, accept(&endpoints.server));
        assert!(endpoints.server.accept().await.is_none());
        accepted.unwrap().close(3, "").unwrap();
        let closed = connected.unwrap().closed().await;
        assert!(matches!(closed, ConnectionError::ApplicationClosed { code: 3, .. }), "{closed}");
        endpoints.end().await;
    });
}

#[test]
fn one_server_listens_on_several_addresses() {
    run(async {
        let endpoints = Endpoints::new();
        let further = endpoints.server.listen_also(any_port()).unwrap();
        let v6 = endpoints.server.listen_also("[::1]:0".parse().unwrap()).unwrap();
        let addresses = [endpoints.address, further, v6];
        assert_eq!(endpoints.server.local_addrs().unwrap(), addresses);
        for address in addresses {
            let (connected, accepted) = futures::join!(endpoints.client.connect(address, "localhost"), async {
                let incoming = endpoints.server.accept().await.unwrap();
                // The system says over which interface an IPv6 packet came.
                let to = incoming.local_addr();
                assert_eq!((to.ip(), to.port()), (address.ip(), address.port()));
                incoming.accept().await
            });
            drop((connected.unwrap(), accepted.unwrap()));
        }
        endpoints.end().await;
    });
}

#[test]
fn an_address_that_cannot_be_listened_on_as_well_changes_nothing() {
    run(async {
        let endpoints = Endpoints::new();
        let error = endpoints.server.listen_also(endpoints.address).unwrap_err();
        assert!(matches!(error, BindError::AddressInUse(_)), "{error}");
        assert_eq!(endpoints.server.local_addrs().unwrap(), [endpoints.address]);
        drop(endpoints.connect().await);
        endpoints.server.stop_listening();
        assert!(matches!(endpoints.server.listen_also(any_port()), Err(BindError::Stopped)));
        assert_eq!(endpoints.server.local_addrs().unwrap(), [endpoints.address], "it is known where it has listened");
        endpoints.end().await;
    });
}

#[test]
fn a_client_that_is_ignored_hears_nothing_more() {
    run(async {
        let endpoints = Endpoints::new();
        let transport = TransportConfig::default().handshake_timeout(Duration::from_millis(500));
        let client = support::client_with(Trust::dangerous_accept_any_certificate()).transport(transport);
        let client = client.build().unwrap();
        let mut connecting = Box::pin(client.connect(endpoints.address, "localhost"));
        // Each packet that it sends again may begin another connection.
        let error = loop {
            match futures::future::select(connecting, Box::pin(endpoints.server.accept())).await {
                Either::Left((connected, _)) => break connected.unwrap_err(),
                Either::Right((incoming, unfinished)) => {
                    incoming.unwrap().ignore();
                    connecting = unfinished;
                }
            }
        };
        assert!(
            matches!(error, ConnectError::Connection(ConnectionError::TimedOut(Timeout::Handshake))),
            "a refusal would be an answer: {error}"
        );
        endpoints.end().await;
        client.wait_idle().await;
    });
}

#[test]
fn connections_are_counted_until_they_are_over() {
    run(async {
        let endpoints = Endpoints::new();
        let (server, client) = (&endpoints.server, &endpoints.client);
        assert_eq!((client.open_connections(), server.open_connections()), (0, 0));
        let first = endpoints.connect().await;
        let second = endpoints.connect().await;
        assert_eq!((client.open_connections(), server.open_connections()), (2, 2));
        first.0.close(7, "").unwrap();
        first.1.closed().await;
        assert_eq!((client.open_connections(), server.open_connections()), (1, 1), "whoever holds it");
        server.close_all(0, "").unwrap();
        second.0.closed().await;
        assert_eq!((client.open_connections(), server.open_connections()), (0, 0));
        drop((first, second));
        endpoints.end().await;
    });
}

#[test]
fn handles_of_a_server_and_of_a_client_are_each_of_one() {
    run(async {
        let endpoints = Endpoints::new();
        let (server, client) = (endpoints.server.clone(), endpoints.client.clone());
        let accepting = async { server.accept().await.unwrap().accept().await.unwrap() };
        let (connected, accepted) = futures::join!(client.connect(endpoints.address, "localhost"), accepting);
        let connected = connected.unwrap();
        assert_eq!((endpoints.server.open_connections(), endpoints.client.open_connections()), (1, 1));
        assert_eq!(server.local_addr(), endpoints.server.local_addr());
        drop((server, client));
        // The others go on, and so does what one that is gone has accepted.
        let again = endpoints.connect().await;
        support::tell(&connected, &accepted, "still there").await;
        let other = endpoints.server.clone();
        other.stop_listening();
        assert!(endpoints.server.accept().await.is_none());
        drop((connected, accepted, again));
        endpoints.end().await;
    });
}

#[test]
fn both_sides_know_the_servers_name() {
    run(async {
        let endpoints = Endpoints::new();
        let (connected, accepted) = endpoints.connect().await;
        assert_eq!((connected.server_name(), accepted.server_name()), ("localhost", "localhost"));
        let client = support::client_with(Trust::dangerous_accept_any_certificate()).build().unwrap();
        for (asked, told, heard) in [("Sub.Example.", "sub.example", "sub.example"), ("192.0.2.1", "192.0.2.1", "")] {
            let (connected, accepted) =
                futures::join!(client.connect(endpoints.address, asked), accept(&endpoints.server));
            let (connected, accepted) = (connected.unwrap(), accepted.unwrap());
            assert_eq!((connected.server_name(), accepted.server_name()), (told, heard));
        }
        drop((connected, accepted));
        endpoints.end().await;
        client.wait_idle().await;
    });
}
