//! The connections of a client share a socket, and each is as it would be over its own.

mod support;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
};

use futures::{channel::oneshot, future::poll_immediate};
use sendstream::{
    BindError, CertificateHash, Client, ConfigError, ConnectError, Connection, ConnectionError, Identity, RebindError,
    ServedBy, Server, process::counters,
};
use support::{
    Endpoints, alone, any_port, connect, exchange, foreign, on_tokio,
    relay::{Faults, Relay},
    run, wait_until,
};

/// What one side sends to the other arrives there, unmixed.
async fn send(from: &Connection, to: &Connection, byte: u8) {
    const LENGTH: usize = 3_000_000;
    let sending = async {
        let mut stream = from.open_uni().unwrap();
        stream.finish_with(vec![byte; LENGTH]).await.unwrap_or_else(|error| panic!("{byte}: {error}"));
    };
    let receiving = async {
        let received = to.accept_uni().await.unwrap().read_to_end(LENGTH).await.unwrap();
        assert_eq!(received.len(), LENGTH);
        assert!(received.iter().all(|received| *received == byte));
    };
    futures::join!(sending, receiving);
}

/// Moves, as soon as the server has said what that takes.
async fn rebind(connection: &Connection, peer: &Connection, local: SocketAddr) -> SocketAddr {
    loop {
        match connection.rebind(local).await {
            Err(RebindError::TooEarly) => exchange(connection, peer, 1).await,
            moved => return moved.unwrap(),
        }
    }
}

fn port(connection: &Connection) -> u16 {
    connection.local_addr().unwrap().port()
}

#[test]
fn connections_to_one_server_share_a_port_and_each_gets_its_own_data() {
    run(async {
        let endpoints = Endpoints::new();
        let (first, its_peer) = endpoints.connect().await;
        let (second, other_peer) = endpoints.connect().await;
        assert_eq!(first.local_addr(), second.local_addr());
        assert_eq!(its_peer.remote_addr(), other_peer.remote_addr());
        assert_eq!(first.local_addr(), its_peer.remote_addr());
        futures::join!(
            send(&first, &its_peer, 1),
            send(&its_peer, &first, 2),
            send(&second, &other_peer, 3),
            send(&other_peer, &second, 4),
        );
        first.close(7, "").unwrap();
        first.closed().await;
        exchange(&second, &other_peer, 100_000).await;
        drop((first, its_peer, second, other_peer));
        endpoints.end().await;
    });
}

#[test]
fn one_client_connects_to_several_servers_and_over_both_families() {
    run(async {
        let identity = support::identity();
        let client = support::client(&identity).build().unwrap();
        let servers = ["127.0.0.1:0", "127.0.0.1:0", "[::1]:0", "[::1]:0"]
            .map(|address| support::server(&identity).bind(address.parse().unwrap()).unwrap());
        let mut pairs = Vec::new();
        for server in &servers {
            pairs.push(connect(&client, server).await);
        }
        let ports: Vec<_> = pairs.iter().map(|(connection, _)| port(connection)).collect();
        assert_eq!(ports[0], ports[1]);
        assert_eq!(ports[2], ports[3]);
        let all = pairs.iter().zip(1..).map(|((connected, accepted), byte)| send(accepted, connected, byte));
        futures::future::join_all(all).await;
        drop(pairs);
        client.wait_idle().await;
        for server in servers {
            server.shutdown().await;
        }
    });
}

#[test]
fn a_socket_closes_when_the_client_and_its_last_connection_are_gone() {
    run(async {
        let identity = support::identity();
        let server = support::server(&identity).bind(any_port()).unwrap();
        let client = support::client(&identity).build().unwrap();
        let (connected, accepted) = connect(&client, &server).await;
        let local = connected.local_addr().unwrap();
        drop(client);
        exchange(&connected, &accepted, 1000).await;
        assert!(UdpSocket::bind(local).is_err(), "the connection goes on over it");
        drop((connected, accepted));
        wait_until(|| UdpSocket::bind(local).is_ok());

        let client = support::client(&identity).build().unwrap();
        let (connected, accepted) = connect(&client, &server).await;
        let local = connected.local_addr().unwrap();
        drop((connected, accepted));
        client.wait_idle().await;
        assert!(UdpSocket::bind(local).is_err(), "the client keeps it for its next connection");
        let (connected, accepted) = connect(&client, &server).await;
        assert_eq!(connected.local_addr(), Some(local));
        drop((connected, accepted, client));
        wait_until(|| UdpSocket::bind(local).is_ok());
        server.shutdown().await;
    });
}

#[test]
fn with_a_socket_for_each_connection_ports_differ() {
    run(async {
        let identity = support::identity();
        let server = support::server(&identity).bind(any_port()).unwrap();
        let client = support::client(&identity).socket_per_connection(true).build().unwrap();
        let (first, its_peer) = connect(&client, &server).await;
        let (second, other_peer) = connect(&client, &server).await;
        assert_ne!(port(&first), port(&second));
        futures::join!(send(&its_peer, &first, 1), send(&other_peer, &second, 2));
        drop((first, its_peer, second, other_peer));
        client.wait_idle().await;
        server.shutdown().await;
    });
}

#[test]
fn nobody_else_gets_the_port_of_a_client() {
    run(async {
        let identity = support::identity();
        let server = support::server(&identity).bind(any_port()).unwrap();
        let address = server.local_addr().unwrap();
        let client = support::client(&identity).build().unwrap();
        let (connected, accepted) = connect(&client, &server).await;
        let local = connected.local_addr().unwrap();
        let refused = support::server(&identity).bind(local).unwrap_err();
        assert!(matches!(refused, BindError::AddressInUse(_)), "{refused}");
        for bound in [local, address] {
            let another = support::client(&identity).bind(bound).build().unwrap();
            let refused = another.connect(address, "localhost").await.unwrap_err();
            assert!(matches!(refused, ConnectError::AddressInUse(address) if address == bound), "{refused}");
        }
        exchange(&connected, &accepted, 1000).await;
        drop((connected, accepted));
        client.wait_idle().await;
        server.shutdown().await;
    });
}

#[test]
fn a_connection_that_moves_leaves_the_others_where_they_are_and_may_return() {
    run(async {
        let endpoints = Endpoints::new();
        let (moving, its_peer) = endpoints.connect().await;
        let (staying, other_peer) = endpoints.connect().await;
        let home = moving.local_addr().unwrap();
        exchange(&moving, &its_peer, 1000).await;
        let away = rebind(&moving, &its_peer, any_port()).await;
        assert_ne!(away, home);
        assert_eq!(staying.local_addr(), Some(home));
        futures::join!(send(&its_peer, &moving, 1), send(&other_peer, &staying, 2));
        assert_eq!(its_peer.remote_addr(), Some(away));
        assert_eq!(other_peer.remote_addr(), Some(home));

        assert_eq!(rebind(&moving, &its_peer, home).await, home);
        futures::join!(send(&moving, &its_peer, 3), send(&its_peer, &moving, 4), send(&other_peer, &staying, 5));
        assert_eq!(its_peer.remote_addr(), Some(home));
        wait_until(|| UdpSocket::bind(away).is_ok());

        // An address of nobody here, with the socket's port.
        let nowhere = SocketAddr::new("203.0.113.9".parse().unwrap(), home.port());
        let refused = moving.rebind(nowhere).await.unwrap_err();
        assert_eq!(refused, RebindError::AddressNotAvailable(nowhere));

        // Every address, with the socket's port: another socket would have to be there.
        let everywhere = SocketAddr::new("0.0.0.0".parse().unwrap(), home.port());
        assert_eq!(moving.rebind(everywhere).await.unwrap_err(), RebindError::AddressInUse(everywhere));

        // Another address of the same socket.
        let elsewhere = SocketAddr::new("127.0.0.2".parse().unwrap(), home.port());
        assert_eq!(rebind(&moving, &its_peer, elsewhere).await, elsewhere);
        futures::join!(send(&moving, &its_peer, 6), send(&other_peer, &staying, 7));
        assert_eq!(its_peer.remote_addr(), Some(elsewhere));
        drop((moving, its_peer, staying, other_peer));
        endpoints.end().await;
    });
}

#[test]
fn a_closed_port_ends_its_own_attempt_and_no_other() {
    run(async {
        let endpoints = Endpoints::new();
        let (connected, accepted) = endpoints.connect().await;
        for host in ["127.0.0.1", "::1"] {
            let host = host.parse().unwrap();
            // It answers nothing.
            let silent = UdpSocket::bind(SocketAddr::new(host, 0)).unwrap();
            let mut waiting = Box::pin(endpoints.client.connect(silent.local_addr().unwrap(), "localhost"));
            assert!(poll_immediate(&mut waiting).await.is_none());
            silent.recv(&mut [0; 2000]).unwrap();
            for _ in 0..10 {
                let closed = endpoints.client.connect(SocketAddr::new(host, 1), "localhost").await.unwrap_err();
                assert!(matches!(closed, ConnectError::Connection(ConnectionError::Unreachable)), "{closed}");
                exchange(&connected, &accepted, 10_000).await;
            }
            assert!(poll_immediate(&mut waiting).await.is_none());
        }
        drop((connected, accepted));
        endpoints.end().await;
    });
}

#[test]
fn a_stranger_gets_no_answer_from_a_client() {
    // Nothing but what this test sends is dropped in a process of its own.
    if alone::parent("a_stranger_gets_no_answer_from_a_client", |_| {}).is_some() {
        return;
    }
    run(async {
        let endpoints = Endpoints::new();
        let (connected, accepted) = endpoints.connect().await;
        exchange(&connected, &accepted, 1000).await;
        let stranger = UdpSocket::bind(any_port()).unwrap();
        stranger.set_nonblocking(true).unwrap();
        let before = counters().unwrap();
        // What a server answers: the first packet of a connection, one of a version that nobody
        // has, and one of a connection that it does not know.
        let mut initial = vec![0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x44, 0x80];
        initial.resize(1200, 0);
        let mut unknown_version = initial.clone();
        unknown_version[1..5].copy_from_slice(&[0x1a, 0x2a, 0x3a, 0x4a]);
        let packets = [initial, unknown_version, vec![0x40; 100], vec![0x40; 3], vec![0x40]];
        for packet in &packets {
            stranger.send_to(packet, connected.local_addr().unwrap()).unwrap();
        }
        wait_until(|| counters().unwrap().packets_dropped >= before.packets_dropped + packets.len() as u64);
        exchange(&connected, &accepted, 1000).await;
        let after = counters().unwrap();
        assert_eq!(after.stateless_resets_sent, before.stateless_resets_sent);
        assert_eq!(after.connections_created, before.connections_created);
        assert!(stranger.recv(&mut [0; 2000]).is_err(), "it was answered");
        drop((connected, accepted));
        endpoints.end().await;
    });
}

/// A peer that listens and dials at one port.
fn dialling_server(identity: &Identity, address: &str) -> (Server, Client) {
    let server = support::server(identity).bind(address.parse().unwrap()).unwrap();
    let client = server.client().alpn(["test"]).trust(support::pinned(identity)).build().unwrap();
    (server, client)
}

#[test]
fn a_client_dials_from_the_port_of_its_server_while_others_come_in() {
    run(async {
        let identity = support::identity();
        let (here, from_here) = dialling_server(&identity, "127.0.0.1:0");
        let (there, from_there) = dialling_server(&identity, "127.0.0.1:0");
        let stranger = support::client(&identity).build().unwrap();
        // Both dial each other at once, and somebody else dials one of them.
        let pairs = futures::join!(connect(&from_here, &there), connect(&from_there, &here));
        let ((to_there, in_there), (to_here, in_here)) = pairs;
        let (from_outside, inside) = connect(&stranger, &here).await;
        let [here_is, there_is] = [&here, &there].map(|server| server.local_addr().ok());
        assert_eq!([to_there.local_addr(), in_here.local_addr(), to_here.remote_addr()], [here_is; 3]);
        assert_eq!([to_here.local_addr(), in_there.local_addr(), to_there.remote_addr()], [there_is; 3]);
        futures::join!(
            send(&to_there, &in_there, 1),
            send(&in_there, &to_there, 2),
            send(&to_here, &in_here, 3),
            send(&in_here, &to_here, 4),
            send(&from_outside, &inside, 5),
            send(&inside, &from_outside, 6),
        );
        to_there.close(7, "").unwrap();
        support::assert_closed_by_peer(&in_there.closed().await, 7, "");
        exchange(&to_here, &in_here, 100_000).await;
        exchange(&from_outside, &inside, 100_000).await;
        drop((to_there, in_there, to_here, in_here, from_outside, inside));
        futures::join!(from_here.wait_idle(), from_there.wait_idle(), stranger.wait_idle());
        futures::join!(here.shutdown(), there.shutdown());
    });
}

#[test]
fn a_server_of_both_families_dials_both() {
    run(async {
        let identity = support::identity();
        let (here, from_here) = dialling_server(&identity, "[::]:0");
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let there = support::server(&identity).bind(address.parse().unwrap()).unwrap();
            let (connected, accepted) = connect(&from_here, &there).await;
            assert_eq!(port(&connected), here.local_addr().unwrap().port());
            assert_eq!(connected.local_addr(), accepted.remote_addr());
            futures::join!(send(&connected, &accepted, 1), send(&accepted, &connected, 2));
            drop((connected, accepted));
            from_here.wait_idle().await;
            there.shutdown().await;
        }
        here.shutdown().await;
    });
}

#[test]
fn each_family_dials_from_the_servers_first_address_of_it() {
    run(async {
        let identity = support::identity();
        let here = support::server(&identity).bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let there = support::server(&identity).bind("[::1]:0".parse().unwrap()).unwrap();
        let dial = || here.client().alpn(["test"]).trust(support::pinned(&identity)).build().unwrap();
        let refused = dial().connect(there.local_addr().unwrap(), "localhost").await.unwrap_err();
        assert!(matches!(refused, ConnectError::FamilyMismatch { .. }), "{refused}");
        let first = here.listen_also("[::1]:0".parse().unwrap()).unwrap();
        here.listen_also("[::1]:0".parse().unwrap()).unwrap();
        let client = dial();
        let (connected, accepted) = connect(&client, &there).await;
        assert_eq!(connected.local_addr(), Some(first));
        exchange(&connected, &accepted, 1000).await;
        drop((connected, accepted));
        client.wait_idle().await;
        futures::join!(here.shutdown(), there.shutdown());
    });
}

#[test]
fn a_client_keeps_the_port_of_its_server_when_that_is_gone() {
    run(async {
        let identity = support::identity();
        let (here, client) = dialling_server(&identity, "127.0.0.1:0");
        let address = here.local_addr().unwrap();
        let there = support::server(&identity).bind(any_port()).unwrap();
        let (first, its_peer) = connect(&client, &there).await;
        here.stop_listening();
        let late = here.client().alpn(["test"]).trust(support::pinned(&identity)).build().unwrap_err();
        assert!(matches!(late, ConfigError::NotListening), "{late}");
        here.shutdown().await;
        drop(here);
        exchange(&first, &its_peer, 100_000).await;
        let (second, other_peer) = connect(&client, &there).await;
        assert_eq!(second.local_addr(), Some(address));
        exchange(&second, &other_peer, 100_000).await;

        // Who listens there again has the socket as well.
        let again = support::server(&identity).bind(address).unwrap();
        let outside = support::client(&identity).build().unwrap();
        let (from_outside, inside) = connect(&outside, &again).await;
        exchange(&from_outside, &inside, 100_000).await;
        exchange(&second, &other_peer, 100_000).await;
        drop((from_outside, inside, outside));
        again.shutdown().await;
        drop((first, its_peer, second, other_peer, client));
        wait_until(|| UdpSocket::bind(address).is_ok());
        there.shutdown().await;
    });
}

#[test]
fn a_client_on_its_servers_socket_moves_and_returns() {
    run(async {
        let identity = support::identity();
        let (here, client) = dialling_server(&identity, "127.0.0.1:0");
        let there = support::server(&identity).bind(any_port()).unwrap();
        let (moving, its_peer) = connect(&client, &there).await;
        let home = moving.local_addr().unwrap();
        let away = rebind(&moving, &its_peer, any_port()).await;
        assert_ne!(away, home);
        futures::join!(send(&moving, &its_peer, 1), send(&its_peer, &moving, 2));
        assert_eq!(rebind(&moving, &its_peer, home).await, home);
        futures::join!(send(&moving, &its_peer, 3), send(&its_peer, &moving, 4));
        drop((moving, its_peer));
        client.wait_idle().await;
        futures::join!(here.shutdown(), there.shutdown());
    });
}

/// Between one client and a server: each of the client's addresses has a port of its own towards the
/// server. Packets of new addresses are dropped while that is closed to them.
struct Ports {
    front: Arc<UdpSocket>,
    closed_to_new: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Ports {
    fn start(server: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind(any_port()).unwrap());
        let (closed_to_new, over) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let ports = Self { front: front.clone(), closed_to_new: closed_to_new.clone(), over: over.clone() };
        thread::spawn(move || {
            let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
            let mut packet = [0; 65536];
            while let Ok((length, from)) = front.recv_from(&mut packet) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let back = match backs.entry(from) {
                    Entry::Occupied(back) => back.into_mut(),
                    Entry::Vacant(_) if closed_to_new.load(Ordering::SeqCst) => continue,
                    Entry::Vacant(place) => place.insert(Self::answers(server, from, front.clone(), over.clone())),
                };
                let _ = back.send(&packet[..length]);
            }
        });
        ports
    }

    /// The port of one of the client's addresses. What comes there goes to the client.
    fn answers(server: SocketAddr, client: SocketAddr, front: Arc<UdpSocket>, over: Arc<AtomicBool>) -> Arc<UdpSocket> {
        let back = Arc::new(UdpSocket::bind(any_port()).unwrap());
        back.connect(server).unwrap();
        let answers = back.clone();
        thread::spawn(move || {
            let mut packet = [0; 65536];
            while let Ok(length) = answers.recv(&mut packet)
                && !over.load(Ordering::SeqCst)
            {
                let _ = front.send_to(&packet[..length], client);
            }
        });
        back
    }

    fn address(&self) -> SocketAddr {
        self.front.local_addr().unwrap()
    }

    fn close_to_new(&self, closed: bool) {
        self.closed_to_new.store(closed, Ordering::SeqCst);
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.front.send_to(&[0], self.address());
    }
}

#[test]
fn a_client_that_leaves_its_servers_socket_is_not_reset_by_it() {
    // The only one that sends stateless resets in a process of its own.
    if alone::parent("a_client_that_leaves_its_servers_socket_is_not_reset_by_it", |_| {}).is_some() {
        return;
    }
    on_tokio(async {
        const LENGTH: usize = 30_000_000;
        let own = foreign::certified();
        let endpoint = foreign::server(foreign::server_tls(&own), |_| ());
        let ports = Ports::start(endpoint.local_addr().unwrap());
        let server = endpoint.clone();
        let sending = tokio::spawn(async move {
            let connection = server.accept().await.unwrap().await.unwrap();
            let mut stream = connection.open_uni().await.unwrap();
            stream.write_all(&vec![9; LENGTH]).await?;
            stream.finish().unwrap();
            stream.stopped().await.unwrap();
            Ok::<_, quinn::WriteError>(())
        });
        let identity = support::identity();
        let here = support::server(&identity).bind(any_port()).unwrap();
        let trust = sendstream::Trust::pinned([CertificateHash::of(own.cert.der())]);
        let client = here.client().alpn(["test"]).trust(trust).build().unwrap();
        let connection = client.connect(ports.address(), "localhost").await.unwrap();
        let mut stream = connection.accept_uni().await.unwrap();
        let mut received = stream.read_chunk().await.unwrap().unwrap().len();

        // Nothing of what the client sends from its new port arrives, so the server goes on sending
        // to the old one.
        ports.close_to_new(true);
        while let Err(error) = connection.rebind(any_port()).await {
            assert_eq!(error, RebindError::TooEarly);
            received += stream.read_chunk().await.unwrap().unwrap().len();
        }
        wait_until(|| counters().unwrap().stateless_resets_sent > 0);
        ports.close_to_new(false);
        while let Some(chunk) = stream.read_chunk().await.unwrap() {
            received += chunk.len();
        }
        assert_eq!(received, LENGTH);
        sending.await.unwrap().unwrap();
        drop((stream, connection));
        client.wait_idle().await;
        here.shutdown().await;
    });
}

/// A quinn server that sends streams back, and a client that trusts it. MsQuic's own threads do the
/// client's work, so that a thread that is held up is a worker's.
fn quinn() -> (quinn::Endpoint, Client) {
    let (own, endpoint) = quinn_endpoint();
    let trust = sendstream::Trust::pinned([CertificateHash::of(own.cert.der())]);
    let client = support::client_with(trust).served_by(ServedBy::OwnThreads).build().unwrap();
    (endpoint, client)
}

fn quinn_endpoint() -> (foreign::Certified, quinn::Endpoint) {
    let own = foreign::certified();
    let endpoint = foreign::server(foreign::server_tls(&own), |_| ());
    let server = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                    let received = recv.read_to_end(1 << 20).await.unwrap();
                    send.write_all(&received).await.unwrap();
                    send.finish().unwrap();
                }
            });
        }
    });
    (own, endpoint)
}

/// Sends something to an echo and gets it back.
async fn echo(connection: &Connection) {
    let (mut send, mut recv) = connection.open_bi().unwrap();
    drop(send.finish_with(vec![5; 100_000]));
    assert_eq!(recv.read_to_end(1 << 20).await.unwrap().len(), 100_000);
}

/// The thread of the connection's worker.
async fn worker(connection: &Connection) -> ThreadId {
    connection.spawn_on_worker(async { thread::current().id() }).await.unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_goes_on_while_every_other_worker_of_its_client_is_held_up() {
    use support::processors;
    on_tokio(async {
        let (endpoint, client) = quinn();
        let (address, client) = (endpoint.local_addr().unwrap(), Arc::new(client));
        // MsQuic gives a connection to the worker of the processor that asks for one.
        let mut connections = Vec::new();
        for processor in processors::allowed() {
            let client = client.clone();
            let connecting = thread::spawn(move || {
                processors::move_thread(0, [processor]);
                futures::executor::block_on(client.connect(address, "localhost")).unwrap()
            });
            let connection = tokio::task::spawn_blocking(|| connecting.join().unwrap()).await.unwrap();
            connections.push((worker(&connection).await, connection));
        }
        let workers: HashSet<_> = connections.iter().map(|(worker, _)| *worker).collect();
        support::figure(format_args!("{} connections on {} workers", connections.len(), workers.len()));
        if processors::allowed().len() < 2 {
            support::skip("there is one processor");
            return;
        }
        assert!(workers.len() > 1);
        for (own, connection) in &connections {
            assert_eq!(worker(connection).await, *own, "it stays");
            let mut releases = Vec::new();
            for other in workers.iter().filter(|worker| *worker != own) {
                let (_, on_other) = connections.iter().find(|(worker, _)| worker == other).unwrap();
                let (held, holds) = oneshot::channel();
                let (release, released) = mpsc::channel::<()>();
                let task = on_other.spawn_on_worker(async move {
                    held.send(()).unwrap();
                    let _ = released.recv();
                });
                holds.await.unwrap();
                releases.push((release, task));
            }
            echo(connection).await;
            for (release, task) in releases {
                drop(release);
                task.await.unwrap();
            }
        }
        drop(connections);
        client.wait_idle().await;
    });
}

#[test]
fn a_server_that_lost_a_connection_says_so() {
    on_tokio(async {
        let (endpoint, client) = quinn();
        is_told_of_a_lost_connection(endpoint, client).await;
    });
}

#[test]
fn a_client_on_its_servers_socket_is_told_of_a_lost_connection() {
    on_tokio(async {
        let (own, endpoint) = quinn_endpoint();
        let identity = support::identity();
        let here = support::server(&identity).bind(any_port()).unwrap();
        let trust = sendstream::Trust::pinned([CertificateHash::of(own.cert.der())]);
        let client = here.client().alpn(["test"]).trust(trust).build().unwrap();
        is_told_of_a_lost_connection(endpoint, client).await;
        here.shutdown().await;
    });
}

async fn is_told_of_a_lost_connection(endpoint: quinn::Endpoint, client: Client) {
    let relay = Relay::start(endpoint.local_addr().unwrap(), Faults::none());
    let direct = client.connect(endpoint.local_addr().unwrap(), "localhost").await.unwrap();
    let lost = client.connect(relay.address(), "localhost").await.unwrap();
    echo(&direct).await;
    echo(&lost).await;
    relay.cut();
    direct.close(0, "").unwrap();
    endpoint.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
    relay.mend();
    let mut stream = lost.open_uni().unwrap();
    drop(stream.finish_with("is anybody there?"));
    let cause = lost.closed().await;
    assert!(
        matches!(cause, ConnectionError::TransportClosed { status, .. } if status.to_string().contains("ABORTED")),
        "{cause:?} is no stateless reset"
    );
    drop((direct, lost, stream));
    client.wait_idle().await;
}
