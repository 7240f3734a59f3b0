//! Sessions are resumed where both sides want it, with the right ticket and the right trust; and
//! only there.

mod support;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{StreamExt, channel::mpsc};
use sendstream::{
    BindError, CertificateRefusal, Client, ClientAuth, ClientBuilder, ConfigError, ConnectError, ConnectionError,
    Identity, MemorySessionCache, Resumption, Server, ServerBuilder, SessionCache, SessionKey, TicketKey, Timeout,
    TransportConfig, Trust,
};
use support::{
    TIMEOUT, accept, any_port, assert_closed_locally, connect, end_with_parent, identity, pinned, run, tell,
};

fn server(identity: &Identity) -> ServerBuilder {
    support::server(identity).resumption(Resumption::Resume)
}

fn bind(server: ServerBuilder) -> Server {
    server.bind(any_port()).unwrap()
}

fn client(trust: Trust, cache: &Arc<MemorySessionCache>) -> ClientBuilder {
    support::client_with(trust).session_cache(cache.clone())
}

fn key() -> SessionKey {
    SessionKey::new("localhost", ["test"])
}

/// Connects, carries a message, and says whether the session was resumed, on which both sides
/// agree.
async fn resumes(client: &Client, server: &Server) -> bool {
    let (connected, accepted) = connect(client, server).await;
    tell(&connected, &accepted, "hello").await;
    assert_eq!(connected.session_resumed(), accepted.session_resumed());
    assert_eq!(connected.stats().await.unwrap().handshake.resumed, connected.session_resumed());
    connected.session_resumed()
}

/// Connects for the first time, so that there is a ticket in the client's cache.
async fn get_ticket(client: &Client, server: &Server) {
    let (connected, _accepted) = connect(client, server).await;
    assert!(!connected.session_resumed());
    connected.session_ticket().await.unwrap();
}

/// Shuts everything down and waits until no native handle is left.
async fn end(clients: impl IntoIterator<Item = Client>, servers: impl IntoIterator<Item = Server>) {
    for server in servers {
        server.shutdown().await;
    }
    for client in clients {
        client.wait_idle().await;
    }
}

#[test]
fn the_second_connection_resumes_and_knows_its_peer() {
    run(async {
        let own = identity();
        let (server, client) = (bind(server(&own)), client(pinned(&own), &Arc::default()).build().unwrap());
        get_ticket(&client, &server).await;
        for _ in 0..3 {
            // Each resumed connection gets the ticket for the next.
            let (connected, accepted) = connect(&client, &server).await;
            assert!(connected.session_resumed() && accepted.session_resumed());
            assert_eq!(connected.peer_identity().unwrap().certificate(), own.certificate());
            assert_eq!(accepted.peer_identity(), None);
            tell(&connected, &accepted, "hello").await;
            connected.session_ticket().await.unwrap();
        }
        end([client], [server]).await;
    });
}

#[test]
fn a_server_resumes_only_if_told_to() {
    run(async {
        let own = identity();
        let cache = Arc::<MemorySessionCache>::default();
        let server = bind(support::server(&own));
        let client = client(pinned(&own), &cache).build().unwrap();
        let (connected, accepted) = connect(&client, &server).await;
        tell(&connected, &accepted, "hello").await;
        // A ticket would go out before anything that the server's application sends.
        accepted.open_uni().unwrap().finish_with("bye").await.unwrap();
        connected.close(0, "").unwrap();
        assert_closed_locally(&connected.session_ticket().await.unwrap_err(), 0);
        assert_eq!(cache.take(&key()), None);
        drop((connected, accepted));
        assert!(!resumes(&client, &server).await);
        end([client], [server]).await;
    });
}

#[test]
fn a_client_without_a_cache_never_resumes() {
    run(async {
        let own = identity();
        let server = bind(server(&own));
        let client = support::client(&own).build().unwrap();
        for _ in 0..2 {
            assert!(!resumes(&client, &server).await);
        }
        end([client], [server]).await;
    });
}

#[test]
fn servers_with_the_same_key_accept_one_anothers_tickets() {
    run(async {
        let (own, key) = (identity(), TicketKey::from_secret([7; 32]));
        let servers = [0, 1].map(|_| bind(server(&own).ticket_keys([key.clone()])));
        let client = client(pinned(&own), &Arc::default()).build().unwrap();
        get_ticket(&client, &servers[0]).await;
        assert!(resumes(&client, &servers[1]).await);
        end([client], servers).await;
    });
}

#[test]
fn a_ticket_of_a_server_with_another_key_makes_a_full_handshake() {
    run(async {
        let own = identity();
        let servers = [0, 1].map(|_| bind(server(&own)));
        let client = client(pinned(&own), &Arc::default()).build().unwrap();
        get_ticket(&client, &servers[0]).await;
        assert!(!resumes(&client, &servers[1]).await);
        end([client], servers).await;
    });
}

#[test]
fn another_process_with_the_same_key_resumes_the_session() {
    run(async {
        let own = identity();
        let server = bind(server(&own).ticket_keys([TicketKey::from_secret(SHARED_SECRET)]));
        // The other process has a certificate of its own, which this client would not believe.
        let client = client(pinned(&own), &Arc::default()).build().unwrap();
        get_ticket(&client, &server).await;

        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_other_process", "--nocapture"])
            .env(OTHER_PROCESS, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("ready ").map(str::to_owned)).unwrap();
        let address: SocketAddr = address.parse().unwrap();

        let connected = client.connect(address, "localhost").await.unwrap();
        assert!(connected.session_resumed());
        assert_eq!(connected.peer_identity().unwrap().certificate(), own.certificate());
        connected.open_uni().unwrap().finish_with("hello").await.unwrap();
        drop(connected);
        child.kill().unwrap();
        child.wait().unwrap();
        end([client], [server]).await;
    });
}

const OTHER_PROCESS: &str = "SENDSTREAM_TEST_OTHER_PROCESS";
const SHARED_SECRET: [u8; 32] = [42; 32];

#[test]
fn the_other_process() {
    if std::env::var_os(OTHER_PROCESS).is_none() {
        return;
    }
    let server = bind(server(&identity()).ticket_keys([TicketKey::from_secret(SHARED_SECRET)]));
    println!("\nready {}", server.local_addr().unwrap());
    end_with_parent();
    futures::executor::block_on(async {
        while let Some(incoming) = server.accept().await {
            if let Ok(connection) = incoming.accept().await
                && let Ok(mut stream) = connection.accept_uni().await
            {
                let _ = stream.read_to_end(16).await;
                connection.closed().await;
            }
        }
    });
}

#[test]
fn a_key_that_was_moved_back_still_decrypts_and_one_that_was_dropped_does_not() {
    run(async {
        let own = identity();
        let keys = [1, 2, 3].map(|byte| TicketKey::from_secret([byte; 32]));
        let server = bind(server(&own).ticket_keys([keys[0].clone()]));
        let cache = Arc::<MemorySessionCache>::default();
        let client = client(pinned(&own), &cache).build().unwrap();
        get_ticket(&client, &server).await;
        let old = cache.take(&key()).unwrap();

        server.set_ticket_keys([keys[2].clone(), keys[1].clone(), keys[0].clone()]).unwrap();
        cache.put(&key(), old.clone());
        let (connected, accepted) = connect(&client, &server).await;
        assert!(connected.session_resumed(), "the last of several keys");
        connected.session_ticket().await.unwrap();
        drop((connected, accepted));
        let new = cache.take(&key()).unwrap();

        server.set_ticket_keys([keys[2].clone()]).unwrap();
        cache.put(&key(), old);
        assert!(!resumes(&client, &server).await, "its key is gone");
        while cache.take(&key()).is_some() {}
        cache.put(&key(), new);
        assert!(resumes(&client, &server).await, "new tickets are encrypted with the first key");
        end([client], [server]).await;
    });
}

#[test]
fn tickets_outlive_a_change_of_the_servers_identity() {
    run(async {
        let own = identity();
        let server = bind(server(&own));
        let client = client(pinned(&own), &Arc::default()).build().unwrap();
        get_ticket(&client, &server).await;
        server.set_identity(identity()).unwrap();
        // A full handshake would show a certificate that is not pinned.
        let (connected, _accepted) = connect(&client, &server).await;
        assert!(connected.session_resumed());
        assert_eq!(connected.peer_identity().unwrap().certificate(), own.certificate());
        drop((connected, _accepted));
        end([client], [server]).await;
    });
}

#[test]
fn garbage_in_the_cache_makes_a_full_handshake() {
    run(async {
        let own = identity();
        let cache = Arc::<MemorySessionCache>::default();
        let (server, client) = (bind(server(&own)), client(pinned(&own), &cache).build().unwrap());
        get_ticket(&client, &server).await;
        let good = cache.take(&key()).unwrap();
        let mut bad = vec![Vec::new(), vec![0; 100], vec![0xff; 70_000], b"-----BEGIN".to_vec()];
        for place in [0, 9, 45, good.len() / 2, good.len() - 1] {
            let mut flipped = good.clone();
            flipped[place] ^= 1;
            bad.push(flipped);
            bad.push(good[..place].to_vec());
        }
        bad.push([&good[..], b"\n"].concat());
        for bad in bad {
            while cache.take(&key()).is_some() {}
            cache.put(&key(), bad);
            assert!(!resumes(&client, &server).await);
        }
        // It was the damage that did it; and behind something bad the good one is found.
        while cache.take(&key()).is_some() {}
        cache.put(&key(), good);
        cache.put(&key(), vec![0; 100]);
        assert!(resumes(&client, &server).await);
        end([client], [server]).await;
    });
}

#[test]
fn a_ticket_is_for_one_connection() {
    /// Tells when it was asked.
    struct Telling(MemorySessionCache, mpsc::UnboundedSender<()>);
    impl SessionCache for Telling {
        fn put(&self, key: &SessionKey, ticket: Vec<u8>) {
            self.0.put(key, ticket);
        }
        fn take(&self, key: &SessionKey) -> Option<Vec<u8>> {
            let ticket = self.0.take(key);
            self.1.unbounded_send(()).unwrap();
            ticket
        }
    }
    run(async {
        let own = identity();
        let (tell, told) = mpsc::unbounded();
        let cache = Arc::new(Telling(MemorySessionCache::default(), tell));
        let server = bind(server(&own));
        let client = support::client(&own).session_cache(cache).build().unwrap();
        get_ticket(&client, &server).await;
        let address = server.local_addr().unwrap();
        // Both have asked before the server accepts either, which could bring another ticket.
        let accepting = async {
            told.take(3).collect::<Vec<()>>().await;
            futures::try_join!(accept(&server), accept(&server)).unwrap()
        };
        let (first, second, accepted) =
            futures::join!(client.connect(address, "localhost"), client.connect(address, "localhost"), accepting);
        let resumed = [first, second].map(|connected| connected.unwrap().session_resumed());
        assert_eq!(resumed.iter().filter(|resumed| **resumed).count(), 1);
        drop(accepted);
        end([client], [server]).await;
    });
}

#[test]
fn a_ticket_is_for_the_name_and_the_protocols_it_was_obtained_for() {
    run(async {
        let own = Identity::self_signed(["localhost", "other.test"]).unwrap();
        let server = bind(server(&own).alpn(["test", "more"]));
        let cache = Arc::<MemorySessionCache>::default();
        let first = client(pinned(&own), &cache).build().unwrap();
        get_ticket(&first, &server).await;
        let ticket = cache.take(&key()).unwrap();
        let address = server.local_addr().unwrap();

        // A cache that mixes things up does no harm.
        cache.put(&SessionKey::new("other.test", ["test"]), ticket.clone());
        let (other_name, accepted) = futures::join!(first.connect(address, "other.test"), accept(&server));
        assert!(!other_name.unwrap().session_resumed());
        drop(accepted);

        cache.put(&SessionKey::new("localhost", ["more"]), ticket.clone());
        let second = client(pinned(&own), &cache).alpn(["more"]).build().unwrap();
        assert!(!resumes(&second, &server).await);

        cache.put(&SessionKey::new("localhost", ["more", "test"]), ticket);
        let third = client(pinned(&own), &cache).alpn(["more", "test"]).build().unwrap();
        let (connected, _accepted) = connect(&third, &server).await;
        assert!(connected.session_resumed(), "the ticket's protocol is among those offered");
        drop((connected, _accepted));
        end([first, second, third], [server]).await;
    });
}

#[test]
fn a_client_of_another_trust_does_not_use_the_ticket() {
    run(async {
        let own = identity();
        let server = bind(server(&own));
        let cache = Arc::<MemorySessionCache>::default();
        let trusting = client(pinned(&own), &cache).build().unwrap();
        for strict in [Trust::pinned([[0; 32]]), Trust::ca_der([identity().certificate().clone()]).unwrap()] {
            get_ticket(&trusting, &server).await;
            let strict = client(strict, &cache).build().unwrap();
            let address = server.local_addr().unwrap();
            let (connected, accepted) = futures::join!(strict.connect(address, "localhost"), accept(&server));
            let Err(ConnectError::Connection(ConnectionError::CertificateRefused(_))) = connected else {
                panic!("{connected:?}")
            };
            assert!(matches!(accepted, Err(ConnectionError::Tls { .. })), "{accepted:?}");
            assert_eq!(cache.take(&key()), None, "it was looked at and thrown away");
            strict.wait_idle().await;
        }
        end([trusting], [server]).await;
    });
}

#[test]
fn a_verifier_is_asked_again_and_may_have_changed_its_mind() {
    run(async {
        let own = identity();
        let server = bind(server(&own));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let trust = pinned(&own).verify_with(move |peer| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            async move {
                assert_eq!(peer.server_name(), Some("localhost"));
                peer.verified()?;
                match number {
                    0 | 1 => Ok(()),
                    2 => panic!("on purpose"),
                    _ => Err(CertificateRefusal::by_verifier("it was revoked")),
                }
            }
        });
        let client = client(trust, &Arc::default()).build().unwrap();
        get_ticket(&client, &server).await;
        let (connected, accepted) = connect(&client, &server).await;
        assert!(connected.session_resumed());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        connected.session_ticket().await.unwrap();
        drop((connected, accepted));

        let address = server.local_addr().unwrap();
        let (connected, accepted) = futures::join!(client.connect(address, "localhost"), accept(&server));
        let refused = match connected {
            Err(ConnectError::Connection(ConnectionError::CertificateRefused(refusal))) => refusal,
            other => panic!("{other:?}"),
        };
        assert!(matches!(refused, CertificateRefusal::ByVerifier { .. }), "{refused}");
        assert!(accepted.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 4, "about the ticket, and in the full handshake");
        end([client], [server]).await;
    });
}

#[test]
fn a_server_that_lowered_its_limits_makes_a_full_handshake() {
    run(async {
        let own = identity();
        let key = TicketKey::from_secret([7; 32]);
        let lower = TransportConfig::default().max_concurrent_uni_streams(5);
        let servers = [TransportConfig::default(), lower]
            .map(|transport| bind(server(&own).ticket_keys([key.clone()]).transport(transport)));
        let client = client(pinned(&own), &Arc::default()).build().unwrap();
        get_ticket(&client, &servers[0]).await;
        assert!(!resumes(&client, &servers[1]).await);
        end([client], servers).await;
    });
}

#[test]
fn what_a_server_cannot_do_is_refused() {
    let own = identity();
    let refused = |server: ServerBuilder| match server.bind(any_port()) {
        Err(BindError::Config(error)) => error,
        other => panic!("{other:?}"),
    };
    for auth in [ClientAuth::Optional(pinned(&own)), ClientAuth::Required(pinned(&own))] {
        assert!(matches!(refused(server(&own).client_auth(auth)), ConfigError::ResumptionOfClients));
    }
    let key = TicketKey::generate().unwrap();
    let off = server(&own).resumption(Resumption::Off).ticket_keys([key.clone()]);
    assert!(matches!(refused(off), ConfigError::ResumptionOff));
    for count in [0, 17] {
        let error = refused(server(&own).ticket_keys(vec![key.clone(); count]));
        assert!(matches!(error, ConfigError::TicketKeyCount { count: told } if told == count));
    }
    let running = bind(server(&own).ticket_keys(vec![key.clone(); 16]));
    assert!(matches!(running.set_ticket_keys([]), Err(ConfigError::TicketKeyCount { count: 0 })));
    let running = bind(support::server(&own));
    assert!(matches!(running.set_ticket_keys([key]), Err(ConfigError::ResumptionOff)));
}

#[test]
fn a_cache_that_panics_costs_the_ticket_only() {
    struct Panicking(Mutex<usize>);
    impl SessionCache for Panicking {
        fn put(&self, _: &SessionKey, _: Vec<u8>) {
            panic!("on purpose");
        }
        fn take(&self, _: &SessionKey) -> Option<Vec<u8>> {
            *self.0.lock().unwrap() += 1;
            panic!("on purpose");
        }
    }
    run(async {
        let own = identity();
        let server = bind(server(&own));
        let cache = Arc::new(Panicking(Mutex::new(0)));
        let client = support::client(&own).session_cache(cache.clone()).build().unwrap();
        for _ in 0..2 {
            assert!(!resumes(&client, &server).await);
        }
        assert_eq!(*cache.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner), 2);
        end([client], [server]).await;
    });
}

#[test]
fn a_verifier_that_never_answers_about_a_ticket_is_waited_for_as_long_as_a_handshake_may_take() {
    run(async {
        let own = identity();
        let server = bind(server(&own));
        let cache = Arc::default();
        get_ticket(&client(pinned(&own), &cache).build().unwrap(), &server).await;
        let trust = pinned(&own).verify_with(|_| std::future::pending());
        let transport = TransportConfig::default().handshake_timeout(TIMEOUT);
        let client = client(trust, &cache).transport(transport).build().unwrap();
        let error = client.connect(server.local_addr().unwrap(), "localhost").await.unwrap_err();
        assert!(matches!(error, ConnectError::Connection(ConnectionError::TimedOut(Timeout::Handshake))), "{error}");
        assert_eq!(server.stats().waiting, 0, "nothing was sent");
        client.wait_idle().await;
        server.shutdown().await;
    });
}
