//! Where a server and a client are: at the address that they were asked to be at, and nowhere else.
#![cfg(target_os = "linux")]

mod support;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    sync::Arc,
    thread,
};

use futures::future::{join_all, poll_immediate};
use sendstream::{
    BindError, Client, ConnectError, ConnectionError, RebindError, Server, SystemError, TransportConfig, Trust,
};
use socket2::{Domain, Socket, Type};
use support::{Endpoints, HANG, any_port, connect, exchange, run, skip, wait_until};

/// What every server that hears it answers: a first packet of a version that nobody has (RFC 8999
/// §6).
fn unknown_version() -> Vec<u8> {
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
    packet.resize(1200, 0);
    packet
}

/// What a server may answer: that, a first packet of version 1, and one of a connection that it does
/// not know.
fn probes() -> [Vec<u8>; 3] {
    let mut initial = unknown_version();
    initial[1..5].copy_from_slice(&[0, 0, 0, 1]);
    [unknown_version(), initial, vec![0x40; 100]]
}

/// Whether the system says that nobody is at `address`, to all that a server could answer.
fn nobody_is_at(address: SocketAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(HANG)).unwrap();
    probes().iter().all(|probe| {
        socket.send(probe).unwrap();
        socket.recv(&mut [0; 2000]).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// Where the answer to a packet to `address` comes from.
fn who_answers(address: SocketAddr) -> SocketAddr {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(HANG)).unwrap();
    socket.send_to(&unknown_version(), address).unwrap();
    let mut answer = [0; 2000];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!(&answer[1..5], [0; 4], "a Version Negotiation packet of {length} bytes");
    from
}

/// An address of this machine's that is not a loopback one, if it has one of the family.
fn own_address(towards: &str) -> Option<IpAddr> {
    let towards: IpAddr = towards.parse().unwrap();
    let any: IpAddr = if towards.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // It asks for the way and sends nothing.
    socket.connect((towards, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

/// [`own_address`] of either family.
fn own_addresses() -> Vec<IpAddr> {
    ["198.51.100.1", "2001:db8::1"].into_iter().filter_map(own_address).collect()
}

/// A server of its own at `address`, and a client that believes it alone.
fn endpoints_at(address: impl Into<SocketAddr>) -> Endpoints {
    let identity = support::identity();
    let server = support::server(&identity).bind(address.into()).unwrap();
    let client = support::client(&identity).build().unwrap();
    let address = server.local_addr().unwrap();
    Endpoints { server, client, address }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(self::ip(ip), port)
}

/// A port that nobody has, at any address: of those that systems give nobody who has not asked.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(16_384..32_768);
        if foreign(at("::", port)).is_ok() {
            return port;
        }
    }
}

/// A socket closes on a worker, shortly after who had it was told of the end.
fn wait_until_free(address: SocketAddr) {
    wait_until(|| foreign(address).is_ok());
}

/// A socket of another program's, whose IPv6 wildcard is for both families whatever the system's
/// setting is.
fn foreign(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[test]
fn a_listener_is_where_it_was_asked_to_be_and_nowhere_else() {
    run(async {
        let mut here = ["127.0.0.1", "127.0.0.2", "::1"].map(ip).to_vec();
        here.extend(own_addresses());
        for own in &here {
            let Endpoints { server, client, address } = endpoints_at((*own, free_port()));
            assert_eq!(address.ip(), *own);
            assert_eq!(who_answers(address), address);
            for other in here.iter().filter(|other| *other != own) {
                let elsewhere = SocketAddr::new(*other, address.port());
                assert!(nobody_is_at(elsewhere), "{elsewhere}: the server is at {address}");
                let error = client.connect(elsewhere, "localhost").await.unwrap_err();
                assert!(
                    matches!(error, ConnectError::Connection(ConnectionError::Unreachable)),
                    "{elsewhere}: the server is at {address}: {error}"
                );
            }
            let (connected, accepted) = connect(&client, &server).await;
            exchange(&connected, &accepted, 100_000).await;
            assert_eq!(accepted.local_addr(), Some(address));
            drop((connected, accepted));
            server.shutdown().await;
            client.wait_idle().await;
        }
    });
}

#[test]
fn an_address_that_is_not_this_machines_is_refused_by_name() {
    run(async {
        let Endpoints { server, client, address } = Endpoints::new();
        let (connected, accepted) = connect(&client, &server).await;
        exchange(&connected, &accepted, 1000).await;
        let foreign = ["203.0.113.9", "2001:db8::1", "::ffff:203.0.113.9", "::127.0.0.1", "240.0.0.1"];
        let of_many = ["255.255.255.255", "127.255.255.255", "224.0.0.1", "ff05::1", "::ffff:224.0.0.1"];
        let scoped = |ip: &str, scope| SocketAddrV6::new(ip.parse().unwrap(), 0, 0, scope).into();
        let no_interface = scoped("fe80::1", u32::MAX - 1);
        let others = foreign.iter().chain(&of_many).map(|ip| at(ip, 0));
        let others: Vec<SocketAddr> =
            others.chain([no_interface, scoped("ff02::1", 1), scoped("fe80::1", 1)]).collect();
        for other in others {
            for port in [0, address.port()] {
                let other = {
                    let mut other = other;
                    other.set_port(port);
                    other
                };
                let identity = support::identity();
                let refused = support::server(&identity).bind(other).unwrap_err();
                assert!(matches!(refused, BindError::AddressNotAvailable(is) if is == other), "{other}: {refused:?}");
                assert_eq!(io::Error::from(refused).kind(), io::ErrorKind::AddrNotAvailable);
                let refused = server.listen_also(other).unwrap_err();
                assert!(matches!(refused, BindError::AddressNotAvailable(is) if is == other), "{other}: {refused:?}");
                for separate in [false, true] {
                    let client =
                        support::client(&identity).bind(other).socket_per_connection(separate).build().unwrap();
                    let remote = if other.ip().to_canonical().is_ipv4() { address } else { at("::1", 9) };
                    let refused = client.connect(remote, "localhost").await.unwrap_err();
                    assert!(
                        matches!(refused, ConnectError::AddressNotAvailable(is) if is == other),
                        "{other}: {refused:?}"
                    );
                }
                if other.ip().to_canonical().is_ipv4() {
                    assert_eq!(connected.rebind(other).await, Err(RebindError::AddressNotAvailable(other)), "{other}");
                }
            }
        }
        // The port of the client's own socket, which is bound to every address.
        let many = at("127.255.255.255", connected.local_addr().unwrap().port());
        assert_eq!(connected.rebind(many).await, Err(RebindError::AddressNotAvailable(many)));
        assert_eq!(server.local_addrs().unwrap(), [address]);
        exchange(&connected, &accepted, 1000).await;
        drop((connected, accepted));
        Endpoints { server, client, address }.end().await;
    });
}

#[test]
fn what_can_be_bound_together_is_what_the_system_allows() {
    run(async {
        let mut ips =
            ["0.0.0.0", "::", "127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0"].map(ip).to_vec();
        ips.extend(own_addresses());
        let identity = support::identity();
        let bind = |address| support::server(&identity).bind(address);
        for first in &ips {
            for second in &ips {
                let port = free_port();
                let (first, second) = (SocketAddr::new(*first, port), SocketAddr::new(*second, port));
                let there = foreign(first).unwrap();
                let allowed = foreign(second).is_ok();

                // Beside another program's socket.
                check(bind(second), second, allowed).await;
                drop(there);
                // Another program's socket beside a server's.
                let server = bind(first).unwrap();
                assert_eq!(foreign(second).is_ok(), allowed, "{first} and then another program's {second}");
                // A second server, and the same server once more.
                check(bind(second), second, allowed).await;
                let also = server.listen_also(second);
                assert_eq!(also.is_ok(), allowed, "{first} and {second}: {also:?}");
                assert!(also.is_ok() || matches!(also, Err(BindError::AddressInUse(is)) if is == second), "{also:?}");
                server.shutdown().await;
            }
        }

        /// Checks how a server's start ended, and ends the server.
        async fn check(result: Result<Server, BindError>, address: SocketAddr, allowed: bool) {
            match result {
                Ok(server) => {
                    assert!(allowed, "{address} is bound, and the system would not allow it");
                    server.shutdown().await;
                    wait_until_free(address);
                }
                Err(BindError::AddressInUse(refused)) => {
                    assert_eq!(refused, address);
                    assert!(!allowed, "{address} is refused, and the system would allow it");
                }
                Err(other) => panic!("{address}: {other:?}"),
            }
        }
    });
}

#[test]
fn listeners_on_two_addresses_of_one_port_do_not_mix() {
    run(async {
        let port = free_port();
        let mut all = vec![endpoints_at(at("127.0.0.1", port))];
        for other in ["127.0.0.2", "127.0.0.3", "::1"] {
            all.push(endpoints_at(at(other, port)));
        }
        // Each has its own certificate, which its own client alone believes.
        let connections = join_all(all.iter().map(|endpoints| async {
            let (connected, accepted) = endpoints.connect().await;
            exchange(&connected, &accepted, 1_000_000).await;
            assert_eq!(accepted.local_addr(), Some(endpoints.address));
            assert_eq!(connected.remote_addr(), Some(endpoints.address));
            (connected, accepted)
        }));
        let mut connections = connections.await;
        // One of them goes; the others stay.
        let gone = all.remove(1);
        drop(connections.remove(1));
        gone.end().await;
        wait_until_free(at("127.0.0.2", port));
        assert!(nobody_is_at(at("127.0.0.2", port)));
        for (endpoints, (connected, accepted)) in all.iter().zip(&connections) {
            exchange(connected, accepted, 1000).await;
            drop(endpoints.connect().await);
        }
        let again = endpoints_at(at("127.0.0.2", port));
        drop(again.connect().await);
        drop(connections);
        for endpoints in all.into_iter().chain([again]) {
            endpoints.end().await;
        }
    });
}

#[test]
fn one_server_on_several_addresses_of_one_port_tells_them_apart() {
    run(async {
        let Endpoints { server, client, address } = endpoints_at(at("127.0.0.1", free_port()));
        let mut addresses = vec![address];
        for other in ["127.0.0.2", "::1"] {
            addresses.push(server.listen_also(at(other, address.port())).unwrap());
        }
        assert_eq!(server.local_addrs().unwrap(), addresses);
        for address in addresses {
            let connecting = client.connect(address, "localhost");
            let accepting = async {
                let incoming = server.accept().await.unwrap();
                assert_eq!(incoming.local_addr(), address);
                incoming.accept().await
            };
            let (connected, accepted) =
                futures::try_join!(async { connecting.await.map_err(drop) }, async { accepting.await.map_err(drop) })
                    .unwrap();
            exchange(&connected, &accepted, 1000).await;
        }
        Endpoints { server, client, address }.end().await;
    });
}

#[test]
fn servers_of_one_process_with_no_protocol_in_common_may_share_an_address() {
    run(async {
        let Endpoints { server, client, address } = endpoints_at(any_port());
        let identity = support::identity();
        let other = support::server(&identity).alpn(["other"]).bind(address).unwrap();
        let refused = support::server(&identity).alpn(["third", "other"]).bind(address).unwrap_err();
        assert!(matches!(refused, BindError::AddressInUse(is) if is == address), "{refused:?}");
        let others = support::client(&identity).alpn(["other"]).build().unwrap();
        for _ in 0..3 {
            for (client, server) in [(&client, &server), (&others, &other)] {
                let (connected, accepted) = connect(client, server).await;
                exchange(&connected, &accepted, 1000).await;
            }
        }
        // One of them goes, and the other stays.
        other.shutdown().await;
        drop(connect(&client, &server).await);
        others.wait_idle().await;
        Endpoints { server, client, address }.end().await;
    });
}

/// Connects to `target`, carries data both ways, and checks that both sides show the addresses as
/// `shown`.
async fn meet(endpoints: &Endpoints, target: SocketAddr, shown: SocketAddr) {
    let (connected, accepted) = endpoints.connect_through(target).await;
    exchange(&connected, &accepted, 1_000_000).await;
    assert_eq!(connected.remote_addr(), Some(shown));
    assert_eq!(accepted.local_addr(), Some(shown));
    assert_eq!(accepted.remote_addr(), connected.local_addr());
    assert_eq!(accepted.remote_addr().unwrap().is_ipv4(), shown.is_ipv4());
    drop((connected, accepted));
}

#[test]
fn the_ipv6_wildcard_serves_clients_of_both_families() {
    run(async {
        for port in [0, free_port()] {
            let endpoints = endpoints_at(at("::", port));
            let port = endpoints.address.port();
            assert_eq!(endpoints.address, at("::", port));
            for host in ["127.0.0.1", "127.0.0.9", "::1"].map(ip).into_iter().chain(own_addresses()) {
                let target = SocketAddr::new(host, port);
                meet(&endpoints, target, target).await;
                assert_eq!(who_answers(target), target, "the answer comes from the address that was asked");
            }
            meet(&endpoints, at("::ffff:127.0.0.1", port), at("127.0.0.1", port)).await;
            endpoints.end().await;
        }
    });
}

#[test]
fn ecn_marks_pass_through_either_wildcard_and_a_mapped_address() {
    run(async {
        let ecn = || TransportConfig::default().ecn(true);
        let identity = support::identity();
        for (local, remotes) in
            [("::", &["127.0.0.1", "::1"][..]), ("0.0.0.0", &["127.0.0.1"]), ("::ffff:127.0.0.1", &["127.0.0.1"])]
        {
            let server = support::server(&identity).transport(ecn()).bind(at(local, 0)).unwrap();
            let client = support::client(&identity).transport(ecn()).build().unwrap();
            let address = server.local_addr().unwrap();
            let endpoints = Endpoints { server, client, address };
            for remote in remotes {
                let (connected, accepted) = endpoints.connect_through(at(remote, address.port())).await;
                exchange(&connected, &accepted, 3_000_000).await;
                for side in [&connected, &accepted] {
                    assert!(side.stats().await.unwrap().ecn_capable, "{remote} at {local}");
                }
            }
            endpoints.end().await;
        }
    });
}

#[test]
fn the_ipv4_wildcard_serves_ipv4_alone() {
    run(async {
        let port = free_port();
        let endpoints = endpoints_at(at("0.0.0.0", port));
        for host in ["127.0.0.1", "127.0.0.9"].map(ip).into_iter().chain(own_address("198.51.100.1")) {
            let target = SocketAddr::new(host, port);
            meet(&endpoints, target, target).await;
            assert_eq!(who_answers(target), target, "the answer comes from the address that was asked");
        }
        assert!(nobody_is_at(at("::1", port)));
        // A server of its own has the port for IPv6.
        let other = endpoints_at(at("::1", port));
        meet(&other, at("::1", port), at("::1", port)).await;
        meet(&endpoints, at("127.0.0.1", port), at("127.0.0.1", port)).await;
        other.end().await;
        endpoints.end().await;
    });
}

#[test]
fn an_ipv4_address_that_is_written_as_one_of_ipv6_is_an_ipv4_address() {
    run(async {
        let port = free_port();
        let endpoints = endpoints_at(at("::ffff:127.0.0.1", port));
        assert_eq!(endpoints.address, at("127.0.0.1", port));
        meet(&endpoints, at("127.0.0.1", port), at("127.0.0.1", port)).await;
        meet(&endpoints, at("::ffff:127.0.0.1", port), at("127.0.0.1", port)).await;
        assert!(nobody_is_at(at("127.0.0.2", port)) && nobody_is_at(at("::1", port)));
        endpoints.end().await;

        let endpoints = endpoints_at(at("::ffff:0.0.0.0", 0));
        let port = endpoints.address.port();
        assert_eq!(endpoints.address, at("0.0.0.0", port));
        meet(&endpoints, at("::ffff:127.0.0.9", port), at("127.0.0.9", port)).await;

        // A client's own address as well.
        let identity = support::identity();
        let server = support::server(&identity).bind(any_port()).unwrap();
        for separate in [false, true] {
            let client = support::client(&identity).bind(at("::ffff:127.0.0.5", 0)).socket_per_connection(separate);
            let client = client.build().unwrap();
            let (connected, accepted) = connect(&client, &server).await;
            exchange(&connected, &accepted, 1000).await;
            assert_eq!(accepted.remote_addr().unwrap().ip(), ip("127.0.0.5"));
            assert_eq!(connected.local_addr(), accepted.remote_addr());
            let moved = connected.rebind(at("::ffff:127.0.0.6", 0)).await.unwrap();
            assert_eq!(moved.ip(), ip("127.0.0.6"));
            exchange(&connected, &accepted, 1000).await;
            assert_eq!(accepted.remote_addr(), Some(moved));
            drop((connected, accepted));
            client.wait_idle().await;
        }
        server.shutdown().await;
        endpoints.end().await;
    });
}

#[test]
fn a_client_on_the_ipv6_wildcard_reaches_servers_of_both_families() {
    run(async {
        let identity = support::identity();
        let servers = ["127.0.0.1", "::1"].map(|host| support::server(&identity).bind(at(host, 0)).unwrap());
        for (port, separate) in [(0, false), (0, true), (free_port(), false), (free_port(), true)] {
            let client = support::client(&identity).bind(at("::", port)).socket_per_connection(separate);
            let client = client.build().unwrap();
            let mut pairs = Vec::new();
            for server in &servers {
                let (connected, accepted) = connect(&client, server).await;
                assert_eq!(connected.local_addr(), accepted.remote_addr());
                assert!(port == 0 || accepted.remote_addr().unwrap().port() == port);
                pairs.push((connected, accepted));
            }
            for (connected, accepted) in &pairs {
                exchange(connected, accepted, 100_000).await;
                let moved = connected.rebind(at("::", 0)).await.unwrap();
                exchange(connected, accepted, 100_000).await;
                assert_eq!(accepted.remote_addr().unwrap().port(), moved.port());
            }
            drop(pairs);
            client.wait_idle().await;
        }
        for server in servers {
            server.shutdown().await;
        }
    });
}

#[test]
fn a_client_and_a_server_may_have_one_port_on_two_addresses() {
    run(async {
        for separate in [false, true] {
            let target = endpoints_at(any_port());
            let neighbour = endpoints_at(at("127.0.0.2", free_port()));
            let local = at("127.0.0.3", neighbour.address.port());
            let client = client_at(local, separate);
            let (connected, accepted) = connect(&client, &target.server).await;
            assert_eq!(accepted.remote_addr(), Some(local));
            exchange(&connected, &accepted, 100_000).await;
            meet(&neighbour, neighbour.address, neighbour.address).await;
            // Not where the neighbour is, nor where it is as well.
            for taken in [neighbour.address, at("0.0.0.0", local.port())] {
                let refused = client_at(taken, separate).connect(target.address, "localhost").await.unwrap_err();
                assert!(matches!(refused, ConnectError::AddressInUse(is) if is == taken), "{taken}: {refused:?}");
                assert_eq!(connected.rebind(taken).await, Err(RebindError::AddressInUse(taken)));
            }
            exchange(&connected, &accepted, 100_000).await;
            drop((connected, accepted));
            client.wait_idle().await;
            neighbour.end().await;
            target.end().await;
        }

        fn client_at(local: SocketAddr, separate: bool) -> Client {
            let client = support::client_with(Trust::dangerous_accept_any_certificate());
            client.bind(local).socket_per_connection(separate).build().unwrap()
        }
    });
}

#[test]
fn a_packet_to_many_begins_no_connection() {
    run(async {
        for wildcard in ["0.0.0.0", "::"] {
            let endpoints = endpoints_at(at(wildcard, 0));
            let port = endpoints.address.port();
            // What the client sends goes to the network's broadcast address.
            let relay = Arc::new(UdpSocket::bind(any_port()).unwrap());
            relay.set_broadcast(true).unwrap();
            let broadcast = at("127.255.255.255", port);
            let (forwarded, first) = futures::channel::oneshot::channel();
            let forwarding = relay.clone();
            thread::spawn(move || {
                let mut packet = [0; 2000];
                let (length, _) = forwarding.recv_from(&mut packet).unwrap();
                forwarding.send_to(&packet[..length], broadcast).unwrap();
                let _ = forwarded.send(());
            });
            let lost = endpoints.client.connect(relay.local_addr().unwrap(), "localhost");
            let mut lost = Box::pin(lost);
            assert!(poll_immediate(&mut lost).await.is_none());
            first.await.unwrap();
            // Over loopback the next packet comes after that one, so the server has seen it.
            meet_first(&endpoints, at("127.0.0.1", port)).await;
            drop(lost);
            endpoints.server.shutdown().await;
        }
    });
}

/// Connects to `target`, and checks that the server was asked for nothing before.
async fn meet_first(endpoints: &Endpoints, target: SocketAddr) {
    let accepting = async {
        let incoming = endpoints.server.accept().await.unwrap();
        assert_eq!(incoming.local_addr(), target, "somebody else came first");
        incoming.accept().await.unwrap()
    };
    let (connected, accepted) = futures::join!(endpoints.client.connect(target, "localhost"), accepting);
    exchange(&connected.unwrap(), &accepted, 1000).await;
}

/// A link-local address of this machine's with its interface, if there is one.
fn link_local() -> Option<SocketAddrV6> {
    let lines = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    lines.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (address, index) = (words.next()?, words.next()?);
        let address: Ipv6Addr = u128::from_str_radix(address, 16).ok()?.into();
        let scope = u32::from_str_radix(index, 16).ok()?;
        address.is_unicast_link_local().then(|| SocketAddrV6::new(address, 0, 0, scope))
    })
}

#[test]
fn a_link_local_address_keeps_its_interface() {
    let Some(own) = link_local() else { return skip("this machine has no link-local address") };
    run(async move {
        let endpoints = endpoints_at(SocketAddrV6::new(*own.ip(), free_port(), 0, own.scope_id()));
        let SocketAddr::V6(bound) = endpoints.address else { panic!("{}", endpoints.address) };
        assert_eq!((bound.ip(), bound.scope_id()), (own.ip(), own.scope_id()));
        meet(&endpoints, bound.into(), bound.into()).await;
        assert!(nobody_is_at(at("::1", bound.port())));

        // The same address once more, and without its interface.
        let identity = support::identity();
        let refused = support::server(&identity).bind(bound.into()).unwrap_err();
        assert!(matches!(refused, BindError::AddressInUse(_)), "{refused:?}");
        let without = SocketAddrV6::new(*bound.ip(), 0, 0, 0);
        let refused = support::server(&identity).bind(without.into()).unwrap_err();
        assert!(matches!(refused, BindError::System(SystemError::InvalidAddress)), "{refused:?}");

        // A client's own address, shared and not; and through the wildcard.
        for separate in [false, true] {
            for local in [Some(own), None] {
                let client = support::client_with(Trust::dangerous_accept_any_certificate());
                let client = match local {
                    Some(local) => client.bind(local.into()),
                    None => client,
                };
                let client = client.socket_per_connection(separate).build().unwrap();
                let (connected, accepted) = connect(&client, &endpoints.server).await;
                exchange(&connected, &accepted, 100_000).await;
                let SocketAddr::V6(seen) = connected.local_addr().unwrap() else { panic!() };
                assert_eq!((seen.ip(), seen.scope_id()), (own.ip(), own.scope_id()));
                assert_eq!(accepted.remote_addr(), connected.local_addr());
                drop((connected, accepted));
                client.wait_idle().await;
            }
        }
        endpoints.end().await;
        let everywhere = endpoints_at(at("::", 0));
        let target = SocketAddrV6::new(*own.ip(), everywhere.address.port(), 0, own.scope_id());
        meet(&everywhere, target.into(), target.into()).await;
        meet(&everywhere, at("::1", target.port()), at("::1", target.port())).await;
        everywhere.end().await;
    });
}

#[test]
fn a_port_that_another_program_has_on_another_address_is_free() {
    run(async {
        let other = UdpSocket::bind(at("127.0.0.2", free_port())).unwrap();
        let endpoints = endpoints_at(at("127.0.0.1", other.local_addr().unwrap().port()));
        meet(&endpoints, endpoints.address, endpoints.address).await;
        // What is for the other is the other's.
        other.set_read_timeout(Some(HANG)).unwrap();
        let stranger = UdpSocket::bind(any_port()).unwrap();
        stranger.send_to(&unknown_version(), other.local_addr().unwrap()).unwrap();
        assert_eq!(other.recv(&mut [0; 2000]).unwrap(), 1200);
        endpoints.end().await;
    });
}
