//! Sockets that the application hands in.
#![cfg(target_os = "linux")]

mod support;

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::Command,
    thread,
    time::Duration,
};

use sendstream::{BindError, Client, ConfigError, ConnectError, Identity, Registration, Server, SocketRefusal};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use support::{accept, any_port, connect, exchange, identity, run, skip, tell, try_connect};

fn socket() -> UdpSocket {
    UdpSocket::bind(any_port()).unwrap()
}

fn server_on(identity: &Identity, socket: UdpSocket) -> Result<Server, BindError> {
    support::server(identity).listen_on(socket)
}

fn client_on(identity: &Identity, socket: UdpSocket) -> Result<Client, ConfigError> {
    support::client(identity).socket(socket).build()
}

/// A server on the socket, as soon as the one before listens no more.
fn once_free(identity: &Identity, socket: &UdpSocket) -> Server {
    loop {
        match server_on(identity, socket.try_clone().unwrap()) {
            Err(BindError::Socket(SocketRefusal::InUse(_))) => thread::yield_now(),
            made => return made.unwrap(),
        }
    }
}

async fn end(server: Server, client: Client) {
    server.shutdown().await;
    client.wait_idle().await;
}

#[test]
fn a_client_reaches_a_server_on_a_socket_handed_in() {
    run(async {
        let identity = identity();
        let (servers, clients) = (socket(), socket());
        let (its_address, from) = (servers.local_addr().unwrap(), clients.local_addr().unwrap());
        let server = server_on(&identity, servers).unwrap();
        assert_eq!(server.local_addr().unwrap(), its_address);
        let client = client_on(&identity, clients).unwrap();
        let (ours, theirs) = connect(&client, &server).await;
        assert_eq!((theirs.remote_addr().unwrap(), theirs.local_addr().unwrap()), (from, its_address));
        assert_eq!((ours.remote_addr().unwrap(), ours.local_addr().unwrap()), (its_address, from));
        exchange(&ours, &theirs, 3_000_000).await;
        drop((ours, theirs));
        end(server, client).await;
    });
}

#[test]
fn a_socket_of_both_families_is_for_both() {
    run(async {
        let identity = identity();
        let both = || match UdpSocket::bind("[::]:0") {
            Ok(socket) => Some(socket),
            Err(error) => {
                skip(&format!("this machine has no IPv6: {error}"));
                None
            }
        };
        let (Some(servers), Some(clients)) = (both(), both()) else { return };
        let from = clients.local_addr().unwrap().port();
        let server = server_on(&identity, servers).unwrap();
        let client = client_on(&identity, clients).unwrap();
        let port = server.local_addr().unwrap().port();
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
            let (ours, theirs) = try_connect(&client, &server, address).await.unwrap();
            assert_eq!(theirs.local_addr().unwrap(), address);
            assert_eq!(theirs.remote_addr().unwrap(), SocketAddr::new(address.ip(), from));
            exchange(&ours, &theirs, 100_000).await;
        }
        end(server, client).await;
    });
}

#[test]
fn a_socket_of_one_family_reaches_no_other() {
    run(async {
        let client = client_on(&identity(), socket()).unwrap();
        let error = client.connect("[::1]:9".parse().unwrap(), "localhost").await.unwrap_err();
        assert!(matches!(error, ConnectError::FamilyMismatch { .. }), "{error}");
    });
}

#[test]
fn a_server_listens_on_several_sockets_and_addresses() {
    run(async {
        let identity = identity();
        let client = support::client(&identity).build().unwrap();
        let server = server_on(&identity, socket()).unwrap();
        server.listen_also_on(socket()).unwrap();
        server.listen_also(any_port()).unwrap();
        for address in server.local_addrs().unwrap() {
            let (ours, theirs) = try_connect(&client, &server, address).await.unwrap();
            tell(&ours, &theirs, "here").await;
        }
        // And one that dials from the socket.
        let other = support::server(&identity).bind(any_port()).unwrap();
        let dialling = server.client().alpn(["test"]).trust(support::pinned(&identity)).build().unwrap();
        let (ours, theirs) = connect(&dialling, &other).await;
        assert_eq!(theirs.remote_addr().unwrap(), server.local_addr().unwrap());
        drop((ours, theirs));
        drop(dialling);
        end(other, client).await;
        server.shutdown().await;
    });
}

#[test]
fn a_socket_that_is_bound_to_an_interface_stays_so() {
    run(async {
        let identity = identity();
        let servers = UdpSocket::bind("0.0.0.0:0").unwrap();
        if let Err(error) = SockRef::from(&servers).bind_device(Some(b"lo")) {
            return skip(&format!("no socket can be bound to an interface: {error}"));
        }
        let kept = servers.try_clone().unwrap();
        let server = server_on(&identity, servers).unwrap();
        let client = support::client(&identity).build().unwrap();
        let port = server.local_addr().unwrap().port();
        let (ours, theirs) = try_connect(&client, &server, (Ipv4Addr::LOCALHOST, port).into()).await.unwrap();
        exchange(&ours, &theirs, 100_000).await;
        assert_eq!(SockRef::from(&kept).device().unwrap().as_deref(), Some(&b"lo"[..]));
        drop((ours, theirs));
        end(server, client).await;
    });
}

#[test]
fn sockets_that_are_of_no_use_are_refused() {
    run(async {
        let identity = identity();
        let refusal = |socket: UdpSocket| {
            let as_clients = client_on(&identity, socket.try_clone().unwrap()).map(drop);
            let refused = match server_on(&identity, socket) {
                Err(BindError::Socket(refusal)) => refusal,
                other => panic!("{other:?}"),
            };
            let Err(ConfigError::Socket(as_clients)) = as_clients else { panic!("{as_clients:?}") };
            assert_eq!(as_clients, refused);
            refused
        };
        let of = |descriptor: OwnedFd| UdpSocket::from(descriptor);
        assert_eq!(refusal(of(TcpListener::bind(any_port()).unwrap().into())), SocketRefusal::NotUdp);
        assert_eq!(refusal(of(UnixDatagram::unbound().unwrap().into())), SocketRefusal::NotUdp);
        assert_eq!(refusal(of(std::io::pipe().unwrap().0.into())), SocketRefusal::NotUdp);
        if let Ok(lite) = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDPLITE)) {
            assert_eq!(refusal(of(lite.into())), SocketRefusal::NotUdp);
        }
        let unbound = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        assert_eq!(refusal(unbound.into()), SocketRefusal::NotBound);
        let (connected, peer) = (socket(), socket().local_addr().unwrap());
        connected.connect(peer).unwrap();
        assert_eq!(refusal(connected), SocketRefusal::Connected(peer));
        let many = UdpSocket::bind("224.0.0.1:0").unwrap();
        assert_eq!(refusal(many.try_clone().unwrap()), SocketRefusal::OfMany(many.local_addr().unwrap()));
    });
}

#[test]
fn a_socket_that_is_in_use_is_refused_and_goes_on() {
    run(async {
        let identity = identity();
        let (servers, clients) = (socket(), socket());
        let again = || (servers.try_clone().unwrap(), clients.try_clone().unwrap());
        let (first, second) = again();
        let (server, client) = (server_on(&identity, first).unwrap(), client_on(&identity, second).unwrap());
        let (ours, theirs) = connect(&client, &server).await;
        for _ in 0..2 {
            for (socket, other) in [again(), (again().1, again().0)] {
                let address = socket.local_addr().unwrap();
                let refused = server_on(&identity, socket).unwrap_err();
                assert!(matches!(refused, BindError::Socket(SocketRefusal::InUse(at)) if at == address), "{refused}");
                let address = other.local_addr().unwrap();
                let refused = client_on(&identity, other).unwrap_err();
                assert!(matches!(refused, ConfigError::Socket(SocketRefusal::InUse(at)) if at == address), "{refused}");
            }
            exchange(&ours, &theirs, 100_000).await;
        }
        drop((ours, theirs));
        end(server, client).await;
    });
}

#[test]
fn servers_have_a_socket_one_after_the_other_while_old_connections_go_on() {
    run(async {
        let identity = identity();
        let mine = socket();
        let client = support::client(&identity).build().unwrap();
        let mut old = Vec::new();
        for text in ["first", "second", "third"] {
            let server = once_free(&identity, &mine);
            let (ours, theirs) = connect(&client, &server).await;
            tell(&ours, &theirs, text).await;
            old.push((ours, theirs));
            server.stop_listening();
        }
        for (ours, theirs) in &old {
            tell(ours, theirs, "still there").await;
        }
        // Two at a time have no protocol in common.
        let one = once_free(&identity, &mine);
        let other = Server::builder().identity(identity.clone()).alpn(["other"]).listen_on(mine).unwrap();
        let (ours, theirs) = connect(&client, &one).await;
        tell(&ours, &theirs, "first come").await;
        drop((old, ours, theirs));
        other.shutdown().await;
        end(one, client).await;
    });
}

#[test]
fn the_end_of_a_server_leaves_the_applications_own_descriptor() {
    run(async {
        let identity = identity();
        let (mine, peer) = (socket(), socket());
        let server = server_on(&identity, mine.try_clone().unwrap()).unwrap();
        let client = support::client(&identity).build().unwrap();
        let (ours, theirs) = connect(&client, &server).await;
        tell(&ours, &theirs, "hello").await;
        drop((ours, theirs));
        end(server, client).await;
        // MsQuic reads from it until the memory of the last connection is free.
        mine.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        support::wait_until(|| {
            peer.send_to(b"for the application", mine.local_addr().unwrap()).unwrap();
            let received = mine.recv_from(&mut [0; 1500]);
            received.is_ok_and(|(length, from)| length == 19 && from == peer.local_addr().unwrap())
        });
    });
}

#[test]
fn what_came_before_the_server_waits_for_it() {
    run(async {
        let identity = identity();
        let given = socket();
        let address = given.local_addr().unwrap();
        let client = support::client(&identity).build().unwrap();
        let watching = given.try_clone().unwrap();
        let connecting = client.connect(address, "localhost");
        let serving = async {
            // The client's first packet is in the socket.
            let there = thread::spawn(move || watching.peek_from(&mut [0; 1]).map(drop));
            there.join().unwrap().unwrap();
            let server = server_on(&identity, given).unwrap();
            let accepted = accept(&server).await.unwrap();
            (server, accepted)
        };
        let (ours, (server, theirs)) = futures::join!(connecting, serving);
        tell(&ours.unwrap(), &theirs, "waited").await;
        drop(theirs);
        end(server, client).await;
    });
}

#[test]
fn the_connections_of_one_socket_are_on_all_workers() {
    run(async {
        let identity = identity();
        // Workers of its own, so that the client's connections do not count.
        let registration = Registration::new().unwrap();
        let server = support::server(&identity).registration(&registration).listen_on(socket()).unwrap();
        let client = client_on(&identity, socket()).unwrap();
        let mut connections = Vec::new();
        for _ in 0..8 {
            let (ours, theirs) = connect(&client, &server).await;
            exchange(&ours, &theirs, 100_000).await;
            connections.push((ours, theirs));
        }
        let mut workers = HashSet::new();
        for (_, theirs) in &connections {
            workers.insert(theirs.spawn_on_worker(async { thread::current().id() }).await.unwrap());
        }
        let processors = thread::available_parallelism().unwrap().get();
        assert!(workers.len() > 1 || processors == 1, "one of {processors} workers has all");
        drop(connections);
        end(server, client).await;
    });
}

/// That server would hear one interface or one family, and not what its address says.
#[test]
fn a_server_that_binds_an_address_gets_no_socket_of_the_applications() {
    run(async {
        let identity = identity();
        let of_one_interface = UdpSocket::bind("0.0.0.0:0").unwrap();
        let of_one_family = of_ipv6_alone();
        if let Err(error) = SockRef::from(&of_one_interface).bind_device(Some(b"lo")) {
            skip(&format!("no socket can be bound to an interface: {error}"));
        }
        if of_one_family.is_none() {
            skip("this machine has no IPv6");
        }
        for given in [Some(of_one_interface), of_one_family].into_iter().flatten() {
            let address = given.local_addr().unwrap();
            let server = server_on(&identity, given).unwrap();
            let other = Server::builder().identity(identity.clone()).alpn(["other"]).bind(address);
            assert!(matches!(other, Err(BindError::AddressInUse(at)) if at == address), "{other:?}");
            server.shutdown().await;
        }
    });
}

#[test]
fn a_socket_of_ipv6_alone_is_not_for_ipv4() {
    run(async {
        let (Some(given), Some(servers)) = (of_ipv6_alone(), of_ipv6_alone()) else {
            return skip("this machine has no IPv6");
        };
        let identity = identity();
        let server = server_on(&identity, servers).unwrap();
        let dialling = server.client().alpn(["test"]).trust(support::pinned(&identity)).build().unwrap();
        for client in [client_on(&identity, given).unwrap(), dialling] {
            let error = client.connect("127.0.0.1:9".parse().unwrap(), "localhost").await.unwrap_err();
            assert!(matches!(error, ConnectError::FamilyMismatch { .. }), "{error}");
        }
        server.shutdown().await;
    });
}

/// It may be bound to an interface, have a mark, or be of another network namespace, as here.
#[test]
fn the_way_to_a_server_is_that_of_the_socket() {
    run(async {
        let identity = identity();
        let there = in_a_namespace(|| {
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().is_ok_and(|status| status.success());
            up.then(|| [(); 3].map(|()| UdpSocket::bind("0.0.0.0:0").unwrap()))
                .ok_or("`ip` brings no interface up".to_owned())
        });
        let [servers, clients, diallers] = match there.and_then(|there| there) {
            Ok(sockets) => sockets,
            Err(error) => return skip(&error),
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, servers.local_addr().unwrap().port()));
        let server = server_on(&identity, servers).unwrap();
        let client = client_on(&identity, clients).unwrap();
        let other = server_on(&identity, diallers).unwrap();
        let dialling = other.client().alpn(["test"]).trust(support::pinned(&identity)).build().unwrap();
        for client in [client, dialling] {
            let server = server.clone();
            // Nothing can be reached from this namespace itself.
            let connected = in_a_namespace(move || {
                futures::executor::block_on(async {
                    try_connect(&client, &server, address).await.map(|pair| (pair, client))
                })
            });
            let ((ours, theirs), client) = connected.unwrap().unwrap();
            exchange(&ours, &theirs, 100_000).await;
            drop((ours, theirs));
            client.wait_idle().await;
        }
        server.shutdown().await;
        other.shutdown().await;
    });
}

/// A socket for IPv6 alone, if this machine has that.
fn of_ipv6_alone() -> Option<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP)).ok()?;
    socket.set_only_v6(true).ok()?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).ok()?;
    Some(socket.into())
}

/// Runs it on a thread in a network namespace of its own, whose only interface is down.
fn in_a_namespace<T: Send>(run: impl FnOnce() -> T + Send) -> Result<T, String> {
    let there = || {
        // SAFETY: the thread has just begun and ends here, so nobody else notices.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(format!("no network namespace can be made: {}", std::io::Error::last_os_error()));
        }
        Ok(run())
    };
    thread::scope(|scope| scope.spawn(there).join().unwrap())
}
