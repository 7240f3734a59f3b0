//! Connections: how they begin, end, and what each side is told.

mod support;

use std::{
    collections::HashSet,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures::future::poll_immediate;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sendstream::{
    BindError, ConfigError, ConnectError, ConnectionError, ReadError, Server, Side, Timeout, TransportConfig, Trust,
};
use support::{
    Endpoints, Pair, TIMEOUT, accept, any_port, assert_closed_by_peer, assert_closed_here_because,
    assert_closed_locally, run,
};

#[test]
fn both_sides_know_what_was_negotiated() {
    run(async {
        let pair = Pair::new().await;
        assert_eq!(pair.client.alpn(), b"test");
        assert_eq!(pair.server.alpn(), b"test");
        assert_eq!(pair.client.remote_addr(), Some(pair.endpoints.address));
        assert_eq!(pair.server.remote_addr(), pair.client.local_addr());
        pair.end().await;
    });
}

#[test]
#[expect(clippy::mutable_key_type, reason = "what a handle hashes does not change")]
fn handles_of_one_connection_are_equal_and_know_their_side() {
    run(async {
        let pair = Pair::new().await;
        let handles = HashSet::from([pair.client.clone(), pair.server.clone(), pair.client.clone()]);
        assert_eq!(handles.len(), 2);
        assert!(handles.contains(&pair.client) && handles.contains(&pair.server));
        assert_ne!(pair.client, pair.server);
        assert_eq!(pair.client.stable_id(), pair.client.clone().stable_id());
        assert_eq!((pair.client.side(), pair.server.side()), (Side::Client, Side::Server));
        drop(handles);
        pair.end().await;
    });
}

#[test]
fn a_close_tells_each_side_whose_it_was() {
    run(async {
        let pair = Pair::new().await;
        let accept = pair.client.accept_uni();
        pair.client.close(17, "").unwrap();
        assert_closed_locally(&pair.client.closed().await, 17);
        assert_closed_locally(&accept.await.unwrap_err(), 17);
        let peers = pair.server.closed().await;
        assert_closed_by_peer(&peers, 17, "");
        assert_eq!(pair.server.accept_bi().await.unwrap_err(), peers);
        assert_eq!(pair.server.close_reason(), Some(peers));
        pair.client.close(18, "").unwrap();
        // The first counts.
        assert_closed_locally(&pair.client.close_reason().unwrap(), 17);
        assert!(pair.client.close(1 << 62, "").is_err());
        pair.end().await;
    });
}

#[test]
fn what_a_peer_sends_and_closes_before_anybody_asks_for_the_connection_can_be_read() {
    run(async {
        let Endpoints { client, server, address } = Endpoints::new();
        let mut connecting = Box::pin(client.connect(address, "localhost"));
        assert!(poll_immediate(&mut connecting).await.is_none());
        let connection = accept(&server).await.unwrap();
        connection.open_uni().unwrap().finish_with("all of it").await.unwrap();
        connection.close(7, "done").unwrap();
        drop(connection);
        // Both ends have said that it is over.
        server.shutdown().await;
        let connection = connecting.await.unwrap();
        assert_closed_by_peer(&connection.closed().await, 7, "done");
        assert_eq!(connection.accept_uni().await.unwrap().read_to_end(64).await.unwrap(), b"all of it");
        assert_closed_by_peer(&connection.accept_uni().await.unwrap_err(), 7, "done");
        drop(connection);
        client.wait_idle().await;
    });
}

#[test]
fn the_peer_reads_the_reason_of_a_close() {
    run(async {
        let endpoints = Endpoints::new();
        for reason in ["shutting down", "es schlie\u{df}t um f\u{fc}nf", ""] {
            let (client, server) = endpoints.connect().await;
            client.close(17, reason).unwrap();
            // At once.
            assert_closed_here_because(&client.close_reason().unwrap(), 17, reason);
            client.close(18, "too late").unwrap();
            // The first counts.
            assert_closed_here_because(&client.closed().await, 17, reason);
            assert_closed_by_peer(&server.closed().await, 17, reason);
            let (client, server) = endpoints.connect().await;
            server.close(1 << 61, reason).unwrap();
            assert_closed_by_peer(&client.closed().await, 1 << 61, reason);
        }
        endpoints.end().await;
    });
}

#[test]
fn as_much_of_a_reason_is_sent_as_can_be() {
    run(async {
        let endpoints = Endpoints::new();
        let longest = "x".repeat(511);
        let cut = [
            (longest.clone(), longest.clone()),
            ("x".repeat(10_000), longest),
            ("\u{e9}".repeat(300), "\u{e9}".repeat(255)),
            ("one\0two".to_owned(), "one".to_owned()),
            ("\0".to_owned(), String::new()),
        ];
        for (reason, sent) in cut {
            let (client, server) = endpoints.connect().await;
            client.close(5, &reason).unwrap();
            assert_closed_here_because(&client.closed().await, 5, &sent);
            assert_closed_by_peer(&server.closed().await, 5, &sent);
        }
        endpoints.end().await;
    });
}

#[test]
fn a_reason_arrives_although_the_connection_is_dropped_at_once() {
    run(async {
        let endpoints = Endpoints::new();
        for _ in 0..20 {
            let (client, server) = endpoints.connect().await;
            let unfinished = client.open_uni().unwrap();
            client.close(6, "dropped").unwrap();
            drop((unfinished, client));
            assert_closed_by_peer(&server.closed().await, 6, "dropped");
        }
        endpoints.end().await;
    });
}

#[test]
fn no_stream_that_is_dropped_overtakes_the_reason_of_a_close() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        drop((client, server));
        for _ in 0..20 {
            let (client, server) = endpoints.connect().await;
            let (mut send, recv) = client.open_bi().unwrap();
            send.send("a beginning").await.unwrap();
            let (their_send, mut their_recv) = server.accept_bi().await.unwrap();
            assert_eq!(their_recv.read_chunk().await.unwrap().as_deref(), Some(&b"a beginning"[..]));
            client.close(7, "why").unwrap();
            drop((send, recv, client));
            let error = their_recv.read_chunk().await.unwrap_err();
            let ReadError::ConnectionLost(cause) = error else { panic!("{error}") };
            assert_closed_by_peer(&cause, 7, "why");
            assert!(their_send.stopped().await.is_err());
        }
        endpoints.end().await;
    });
}

#[test]
fn polls_for_streams_wake_the_task_that_polled_last_and_take_nothing_from_the_futures() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let clone = server.clone();
        let (forgotten, counted) = counting();
        assert!(server.poll_accept_uni(&mut Context::from_waker(&forgotten)).is_pending());
        assert!(clone.poll_accept_bi(&mut Context::from_waker(&forgotten)).is_pending());
        let mut waiting = Box::pin(server.accept_uni());
        assert!(poll_immediate(&mut waiting).await.is_none());
        let mut sent = client.open_uni().unwrap();
        // This task takes the place of the first, before anything can arrive, and is woken.
        let mut polling = poll_fn(|cx| clone.poll_accept_uni(cx));
        assert!(poll_immediate(&mut polling).await.is_none());
        let (first, written) = futures::join!(polling, sent.finish_with("one"));
        written.unwrap();
        assert_eq!(first.unwrap().read_to_end(16).await.unwrap(), b"one");
        assert_eq!(counted(), 0);
        // The future waits still.
        let mut sent = client.open_uni().unwrap();
        let (second, written) = futures::join!(waiting, sent.finish_with("two"));
        written.unwrap();
        assert_eq!(second.unwrap().read_to_end(16).await.unwrap(), b"two");
        let (mut send, _recv) = client.open_bi().unwrap();
        drop(send.finish_with("three"));
        let (_, mut recv) = poll_fn(|cx| server.poll_accept_bi(cx)).await.unwrap();
        assert_eq!(recv.read_to_end(16).await.unwrap(), b"three");
        client.close(7, "").unwrap();
        assert_closed_by_peer(&poll_fn(|cx| server.poll_accept_uni(cx)).await.unwrap_err(), 7, "");
        assert_closed_by_peer(&poll_fn(|cx| server.poll_read_datagram(cx)).await.unwrap_err(), 7, "");
        drop((client, server, clone));
        endpoints.end().await;
    });
}

/// A waker, and how often it was woken.
fn counting() -> (Waker, impl Fn() -> usize) {
    struct Counting(AtomicUsize);
    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let counting = Arc::new(Counting(AtomicUsize::new(0)));
    (counting.clone().into(), move || counting.0.load(Ordering::SeqCst))
}

#[test]
fn a_close_on_the_worker_has_its_reason_too() {
    run(async {
        let pair = Pair::new().await;
        let closing = pair.client.clone();
        pair.client.spawn_on_worker(async move { closing.close(7, "from the worker").unwrap() }).await.unwrap();
        assert_closed_by_peer(&pair.server.closed().await, 7, "from the worker");
        pair.end().await;
    });
}

#[test]
fn dropping_the_last_handle_closes_with_code_0() {
    run(async {
        let pair = Pair::new().await;
        let clone = pair.client.clone();
        let Pair { client, server, endpoints } = pair;
        drop(client);
        let mut stream = clone.open_uni().unwrap();
        stream.send("a clone is enough").await.unwrap();
        drop((stream, clone));
        assert!(matches!(server.closed().await, ConnectionError::ApplicationClosed { code: 0, .. }));
        drop(server);
        endpoints.end().await;
    });
}

#[test]
fn every_waiting_task_gets_a_stream() {
    run(async {
        let pair = Pair::new().await;
        let waiting: Vec<_> = (0..10).map(|_| pair.server.accept_uni()).collect();
        let sending = async {
            for _ in 0..10 {
                pair.client.open_uni().unwrap().finish_with("x").await.unwrap();
            }
        };
        let (streams, ()) = futures::join!(futures::future::join_all(waiting), sending);
        let mut ids: Vec<_> = streams.iter().map(|stream| stream.as_ref().unwrap().id()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 10);
        drop(streams);
        pair.end().await;
    });
}

#[test]
fn a_server_with_another_certificate_is_refused_with_a_tls_alert() {
    run(async {
        let endpoints = Endpoints::new();
        let other = support::identity();
        let client = support::client(&other).build().unwrap();
        let (refused, accepted) =
            futures::join!(client.connect(endpoints.address, "localhost"), accept(&endpoints.server));
        assert!(
            matches!(refused, Err(ConnectError::Connection(ConnectionError::CertificateRefused(_)))),
            "{refused:?}"
        );
        // The server's handshake is done before the client has judged; then it learns.
        match accepted {
            Ok(connection) => assert!(matches!(connection.closed().await, ConnectionError::Tls { .. })),
            Err(error) => assert!(matches!(error, ConnectionError::Tls { .. }), "{error}"),
        }
        client.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn a_client_without_a_common_protocol_is_refused() {
    run(async {
        let endpoints = Endpoints::new();
        let client = support::client_with(Trust::dangerous_accept_any_certificate()).alpn(["other"]).build().unwrap();
        let error = client.connect(endpoints.address, "localhost").await.unwrap_err();
        assert!(matches!(error, ConnectError::Connection(ConnectionError::Tls { alert: 120, .. })), "{error}");
        client.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn a_refused_connection_says_so() {
    run(async {
        let endpoints = Endpoints::new();
        let (refused, ()) = futures::join!(endpoints.client.connect(endpoints.address, "localhost"), async {
            let incoming = endpoints.server.accept().await.unwrap();
            assert_eq!(incoming.server_name(), "localhost");
            incoming.refuse();
        });
        assert!(matches!(refused, Err(ConnectError::Connection(ConnectionError::Refused))), "{refused:?}");
        endpoints.end().await;
    });
}

#[test]
fn more_connections_than_the_backlog_are_refused_and_counted() {
    run(async {
        let server = TransportConfig::default().accept_backlog(1);
        // The clients send their first packet again only when the server must have dropped it, as it
        // does where its worker was kept from working for long: sent again, it would be one more
        // connection to refuse.
        let client = TransportConfig::default().initial_rtt(Duration::from_secs(1));
        let endpoints = Endpoints::with(client, server);
        let mut first = Box::pin(endpoints.client.connect(endpoints.address, "localhost"));
        assert!(poll_immediate(&mut first).await.is_none());
        // One of the two is in the backlog when the other comes; which, the network decides.
        let second = endpoints.client.connect(endpoints.address, "localhost");
        let refused = match futures::future::select(first, Box::pin(second)).await {
            futures::future::Either::Left((refused, _)) | futures::future::Either::Right((refused, _)) => refused,
        };
        assert!(matches!(refused, Err(ConnectError::Connection(ConnectionError::Refused))), "{refused:?}");
        assert_eq!(endpoints.server.stats().refused, 1);
        endpoints.end().await;
    });
}

#[test]
fn nobody_there_is_a_timeout_or_unreachable() {
    run(async {
        // Bound and never answered.
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = TransportConfig::default().handshake_timeout(Duration::from_millis(300));
        let client = support::client_with(Trust::dangerous_accept_any_certificate()).transport(config).build().unwrap();
        let error = client.connect(silent.local_addr().unwrap(), "localhost").await.unwrap_err();
        assert!(matches!(error, ConnectError::Connection(ConnectionError::TimedOut(Timeout::Handshake))), "{error}");
        client.wait_idle().await;
    });
}

#[test]
fn giving_up_while_connecting_leaves_nothing_behind() {
    run(async {
        let endpoints = Endpoints::new();
        for _ in 0..100 {
            let connecting = endpoints.client.connect(endpoints.address, "localhost");
            assert!(poll_immediate(connecting).await.is_none());
        }
        endpoints.client.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn an_idle_connection_times_out() {
    run(async {
        let idle = TransportConfig::default().idle_timeout(TIMEOUT);
        let pair = Pair::with(idle, TransportConfig::default()).await;
        let mut stream = pair.client.open_uni().unwrap();
        stream.send("x").await.unwrap();
        assert_eq!(pair.client.closed().await, ConnectionError::TimedOut(Timeout::Idle));
        assert_eq!(
            stream.send("y").await,
            Err(sendstream::WriteError::ConnectionLost(ConnectionError::TimedOut(Timeout::Idle)))
        );
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn bad_input_gets_an_error_that_says_what_to_do() {
    run(async {
        let identity = support::identity();

        let none: [&str; 0] = [];
        let error = support::server(&identity).alpn(none).bind(any_port()).unwrap_err();
        assert!(matches!(error, BindError::Config(ConfigError::EmptyAlpn)), "{error}");
        let error = Server::builder().alpn(["x"]).bind(any_port()).unwrap_err();
        assert!(matches!(error, BindError::Config(ConfigError::NoIdentity)), "{error}");

        let taken = std::net::UdpSocket::bind(any_port()).unwrap();
        let taken_address = taken.local_addr().unwrap();
        let error = support::server(&identity).bind(taken_address).unwrap_err();
        assert!(matches!(error, BindError::AddressInUse(address) if address == taken_address), "{error}");

        let endpoints = Endpoints::new();
        for name in ["", "nul\0byte", "host:4433", "[::1]", "two words", "host..example"] {
            let error = endpoints.client.connect(endpoints.address, name).await.unwrap_err();
            assert!(matches!(error, ConnectError::InvalidServerName), "{name:?}: {error}");
        }
        endpoints.end().await;
    });
}

#[test]
fn a_server_that_is_shut_down_accepts_no_more() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let mut stream = client.open_uni().unwrap();
        let shutdown = endpoints.server.shutdown();
        futures::pin_mut!(shutdown);
        assert!(poll_immediate(&mut shutdown).await.is_none(), "an accepted connection is still there");
        assert!(endpoints.server.accept().await.is_none());
        stream.send("accepted connections go on").await.unwrap();
        drop((client, server, stream));
        shutdown.await;
    });
}

#[test]
fn draining_waits_until_finished_streams_are_acknowledged() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let expected = support::pattern(8 << 20);
        let mut held = client.open_uni().unwrap();
        drop(held.finish_with(expected.clone()));
        let mut dropped = client.open_uni().unwrap();
        drop(dropped.finish_with(expected.clone()));
        drop(dropped);
        let reading = async {
            for _ in 0..2 {
                let read = server.accept_uni().await.unwrap().read_to_end(usize::MAX).await.unwrap();
                assert!(read == expected);
            }
        };
        let (ended, ()) = futures::join!(client.drain(), reading);
        assert_closed_locally(&ended, 0);
        held.finished().await.unwrap();
        drop((held, server));
        endpoints.end().await;
    });
}

#[test]
fn a_stream_that_is_over_does_not_hold_its_connection() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let mut send = client.open_uni().unwrap();
        send.finish_with("x").await.unwrap();
        let mut recv = server.accept_uni().await.unwrap();
        recv.read_to_end(10).await.unwrap();
        send.finished().await.unwrap();
        drop(client);
        assert!(matches!(server.closed().await, ConnectionError::ApplicationClosed { code: 0, .. }));
        drop((server, send, recv));
        endpoints.end().await;
    });
}

#[test]
fn streams_that_nobody_accepts_count_as_open_even_when_they_are_over() {
    run(async {
        let few = TransportConfig::default().max_concurrent_uni_streams(4);
        let pair = Pair::with(TransportConfig::default(), few).await;
        let mut waiting = 0;
        let refused = loop {
            let mut stream = pair.client.open_uni().unwrap();
            match stream.try_start().await {
                Ok(()) => stream.finished().await.unwrap(),
                Err(error) => break error,
            }
            waiting += 1;
            assert!(waiting <= 64 + 4, "there is a bound");
        };
        assert_eq!(refused, sendstream::StartError::LimitReached);
        let mut next = pair.client.open_uni().unwrap();
        let (started, ()) = futures::join!(next.start(), async {
            for _ in 0..waiting {
                assert_eq!(pair.server.accept_uni().await.unwrap().read_to_end(1).await.unwrap(), b"");
            }
        });
        started.unwrap();
        drop(next);
        pair.end().await;
    });
}

#[test]
fn an_aborted_stream_that_the_peer_never_admitted_does_not_hold_the_connection() {
    run(async {
        let one = TransportConfig::default().max_concurrent_uni_streams(1);
        let Pair { client, server, endpoints } = Pair::with(TransportConfig::default(), one).await;
        let mut first = client.open_uni().unwrap();
        first.send("takes the only place").await.unwrap();
        let mut blocked = client.open_uni().unwrap();
        drop(blocked.send("x"));
        assert_eq!(poll_immediate(blocked.start()).await, None);
        blocked.abort(1).unwrap();
        drop((first, blocked, client));
        assert!(matches!(server.closed().await, ConnectionError::ApplicationClosed { code: 0, .. }));
        drop(server);
        endpoints.end().await;
    });
}

#[test]
fn servers_on_port_0_never_share_a_port() {
    // Each server has a socket for each processor, and the limit that shells begin with is 1024
    // files.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    run(async {
        let identity = support::identity();
        let serve = || support::server(&identity).bind(any_port()).unwrap();
        // Where the system chose among all ports, shared ones too, some of these would meet: 4
        // pairs on average.
        let servers: Vec<_> = (0..500).map(|_| serve()).collect();
        let ports: std::collections::HashSet<_> = servers.iter().map(|server| server.local_addr().unwrap()).collect();
        assert_eq!(ports.len(), servers.len());
        for server in servers {
            server.shutdown().await;
        }
    });
}
