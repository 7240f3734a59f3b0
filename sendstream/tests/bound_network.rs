//! What a listener's address means on a network: to another host, and to a machine that loses the
//! address or has no IPv6. Each machine is a network namespace with a process of this test in it,
//! which needs root and `ip`.
#![cfg(target_os = "linux")]

mod support;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket},
};

use futures::{executor::block_on, future::poll_immediate};
use sendstream::{BindError, Client, ConnectError, ConnectionError, Server, SystemError, Trust};
use support::{
    HANG, alone, connect, end_with_parent, exchange,
    namespaces::{self, Network, ip},
    run, skip, try_connect,
};

const PORT: u16 = 4433;
/// Where the server of [`who_answers`] is.
const OPEN_PORT: u16 = 4434;
const HOST: &str = "10.78.1.1";
const HOST_V6: &str = "fd00:78::1";
const OTHER_HOST: &str = "10.78.1.2";
const OTHER_HOST_V6: &str = "fd00:78::2";
/// Another address of the same host's, of a network that the stranger is not in.
const INNER: &str = "10.78.2.1";

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn bound(address: SocketAddr) -> (Server, Client) {
    let identity = support::identity();
    (support::server(&identity).bind(address).unwrap(), support::client(&identity).build().unwrap())
}

/// Connects, and carries data both ways.
async fn meet(server: &Server, client: &Client) {
    let (connected, accepted) = connect(client, server).await;
    exchange(&connected, &accepted, 100_000).await;
}

/// A network of namespaces, or why there is none.
fn network(names: &'static [&'static str], with: impl Fn(&Network) -> Result<(), String>) -> Option<Network> {
    match Network::new(names).and_then(|network| with(&network).map(|()| network)) {
        Ok(network) => Some(network),
        Err(why) => {
            skip(&why);
            None
        }
    }
}

/// Puts `host` and `stranger` into one network.
fn link(network: &Network) -> Result<(), String> {
    let stranger = network.name("stranger");
    network.ip_in("host", &["link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", &stranger])?;
    for (name, v4, v6) in [("host", HOST, HOST_V6), ("stranger", OTHER_HOST, OTHER_HOST_V6)] {
        network.ip_in(name, &["addr", "add", &format!("{v4}/24"), "broadcast", "+", "dev", "up0"])?;
        network.ip_in(name, &["addr", "add", &format!("{v6}/64"), "dev", "up0", "nodad"])?;
        network.ip_in(name, &["link", "set", "up0", "up"])?;
    }
    Ok(())
}

/// What a server answers, whoever asks: a first packet of a version that nobody has, one of version
/// 1, and one of a connection that it does not know.
fn probes() -> [Vec<u8>; 3] {
    let mut unknown = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
    unknown.resize(1200, 0);
    let mut initial = unknown.clone();
    initial[1..5].copy_from_slice(&[0, 0, 0, 1]);
    [unknown, initial, vec![0x40; 100]]
}

/// A socket that hears what comes from `address`.
fn towards(address: SocketAddr) -> UdpSocket {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { "::".parse().unwrap() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(HANG)).unwrap();
    socket
}

#[test]
fn a_listener_on_loopback_does_not_exist_for_another_host() {
    const TEST: &str = "a_listener_on_loopback_does_not_exist_for_another_host";
    match namespaces::role().as_deref() {
        Some("host") => return be_the_host(),
        Some(_) => return be_the_stranger(),
        None => {}
    }
    let Some(network) = network(&["host", "stranger"], |network| {
        link(network)?;
        for name in ["host", "stranger"] {
            // As many ICMP errors as it takes, so that each packet has one answer or the other.
            network.set_in(name, "net/ipv4/icmp_ratelimit", "0")?;
            network.set_in(name, "net/ipv6/icmp/ratelimit", "0")?;
        }
        network.ip_in("host", &["addr", "add", &format!("{INNER}/32"), "dev", "lo"])?;
        network.ip_in("stranger", &["route", "add", INNER, "via", HOST])
    }) else {
        return;
    };
    let _host = network.start("host", TEST, "host");
    network.start("stranger", TEST, "stranger").end();
}

fn be_the_host() {
    // Each has the port at its own address.
    let (server, _client) = bound(at("127.0.0.1", PORT));
    for also in ["::1", INNER] {
        server.listen_also(at(also, PORT)).unwrap();
    }
    let open = support::server(&support::identity()).bind(at("::", OPEN_PORT)).unwrap();
    println!("\nready");
    end_with_parent();
    block_on(async { while server.accept().await.is_some() {} });
    drop(open);
}

fn be_the_stranger() {
    println!("\nready");
    for host in [HOST, HOST_V6] {
        let socket = towards(at(host, OPEN_PORT));
        socket.send(&probes()[0]).unwrap();
        socket.recv(&mut [0; 2000]).expect("the open server answers, so the network carries packets");
        let socket = towards(at(host, PORT));
        for probe in probes() {
            socket.send(&probe).unwrap();
            let answer = socket.recv(&mut [0; 2000]);
            let error = answer.expect_err("there is no server at this address");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
        }
    }
    // Where a server is, it answers.
    let socket = towards(at(INNER, PORT));
    socket.send(&probes()[0]).unwrap();
    socket.recv(&mut [0; 2000]).unwrap();
}

#[test]
fn a_packet_to_many_on_a_network_begins_no_connection() {
    const TEST: &str = "a_packet_to_many_on_a_network_begins_no_connection";
    match namespaces::role().as_deref() {
        Some("host") => return count_connections(),
        Some(_) => return send_to_many(),
        None => {}
    }
    let Some(network) = network(&["host", "stranger"], |network| {
        link(network)?;
        network.ip_in("stranger", &["route", "add", "224.0.0.0/4", "dev", "up0"])
    }) else {
        return;
    };
    let _host = network.start("host", TEST, "host");
    network.start("stranger", TEST, "stranger").end();
}

/// Tells each client how many came.
fn count_connections() {
    let (server, _client) = bound(at("::", PORT));
    println!("\nready");
    end_with_parent();
    block_on(async {
        let mut came = 0_u8;
        // A close may overtake the client's own end of the handshake, so they end with the client.
        let mut kept = Vec::new();
        while let Some(incoming) = server.accept().await {
            came += 1;
            // The first packet of a connection that is none goes nowhere.
            let Ok(connection) = incoming.accept().await else { continue };
            // A client that has read it may be gone before it has acknowledged it.
            let _ = connection.open_uni().unwrap().finish_with(vec![came]).await;
            kept.push(connection);
        }
    });
}

fn send_to_many() {
    println!("\nready");
    run(async {
        let client = support::client_with(Trust::dangerous_accept_any_certificate()).build().unwrap();
        let interface = u32::from_str_radix(
            std::fs::read_to_string("/proc/net/if_inet6")
                .unwrap()
                .lines()
                .find(|line| line.ends_with("up0"))
                .and_then(|line| line.split_whitespace().nth(1))
                .unwrap(),
            16,
        )
        .unwrap();
        let all_nodes = SocketAddrV6::new("ff02::1".parse().unwrap(), PORT, 0, interface);
        let many = [at("10.78.1.255", PORT), at("255.255.255.255", PORT), at("224.0.0.1", PORT), all_nodes.into()];
        let mut connections = 0_u8;
        for target in many {
            // What a client sends to `relay` goes to many.
            let relay = UdpSocket::bind(at("127.0.0.1", 0)).unwrap();
            let mut lost = Box::pin(client.connect(relay.local_addr().unwrap(), "localhost"));
            assert!(poll_immediate(&mut lost).await.is_none());
            let mut packet = [0; 2000];
            let length = relay.recv(&mut packet).unwrap();
            let local = if target.is_ipv4() { at(OTHER_HOST, 0) } else { at("::", 0) };
            let sender = UdpSocket::bind(local).unwrap();
            sender.set_broadcast(true).unwrap();
            sender.send_to(&packet[..length], target).unwrap();
            // Had it begun a connection, that would be counted as well.
            for host in [HOST, HOST_V6] {
                let connection = client.connect(at(host, PORT), "localhost").await.unwrap();
                let came = connection.accept_uni().await.unwrap().read_to_end(1).await.unwrap();
                connections += 1;
                assert_eq!(came, [connections], "after a packet to {target}");
            }
        }
    });
}

#[test]
fn a_server_outlives_its_address() {
    const TEST: &str = "a_server_outlives_its_address";
    if namespaces::role().is_some() {
        println!("\nready");
        return run(async {
            let (server, client) = bound(at(HOST, 0));
            let (connected, accepted) = connect(&client, &server).await;
            exchange(&connected, &accepted, 100_000).await;
            let other = client.connect(at("127.0.0.1", PORT), "localhost").await.unwrap_err();
            assert!(matches!(other, ConnectError::Connection(ConnectionError::Unreachable)), "{other:?}");

            ip(&["addr", "del", &format!("{HOST}/24"), "dev", "lo"]).unwrap();
            let refused = server.listen_also(at(HOST, 0)).unwrap_err();
            assert!(matches!(refused, BindError::AddressNotAvailable(_)), "{refused:?}");
            // No way leads there any more, and this side's system says so.
            let error = client.connect(server.local_addr().unwrap(), "localhost").await.unwrap_err();
            assert!(
                matches!(error, ConnectError::Connection(ConnectionError::System(SystemError::NoRoute))),
                "{error:?}"
            );

            ip(&["addr", "add", &format!("{HOST}/24"), "dev", "lo"]).unwrap();
            meet(&server, &client).await;
            exchange(&connected, &accepted, 100_000).await;
            drop((connected, accepted));
            server.shutdown().await;
            client.wait_idle().await;
        });
    }
    let Some(network) =
        network(&["alone"], |network| network.ip_in("alone", &["addr", "add", &format!("{HOST}/24"), "dev", "lo"]))
    else {
        return;
    };
    network.start("alone", TEST, "alone").end();
}

#[test]
fn without_ipv6_addresses_the_ipv6_wildcard_serves_ipv4() {
    const TEST: &str = "without_ipv6_addresses_the_ipv6_wildcard_serves_ipv4";
    if namespaces::role().is_some() {
        println!("\nready");
        return run(async {
            let (server, client) = bound(at("::", 0));
            let port = server.local_addr().unwrap().port();
            let (connected, accepted) = try_connect(&client, &server, at("127.0.0.1", port)).await.unwrap();
            exchange(&connected, &accepted, 1000).await;
            let loopback = at("::1", 0);
            let refused = support::server(&support::identity()).bind(loopback).unwrap_err();
            assert!(matches!(refused, BindError::AddressNotAvailable(is) if is == loopback), "{refused:?}");
            let error = client.connect(at("::1", port), "localhost").await.unwrap_err();
            assert!(matches!(error, ConnectError::Connection(ConnectionError::System(_))), "{error:?}");
            drop((connected, accepted));
            server.shutdown().await;
        });
    }
    let Some(network) = network(&["ipv4"], |network| network.set_in("ipv4", "net/ipv6/conf/all/disable_ipv6", "1"))
    else {
        return;
    };
    network.start("ipv4", TEST, "ipv4").end();
}

#[test]
fn the_ipv6_wildcard_is_for_both_families_whatever_the_system_is_set_to() {
    const TEST: &str = "the_ipv6_wildcard_is_for_both_families_whatever_the_system_is_set_to";
    if namespaces::role().is_some() {
        println!("\nready");
        return run(async {
            let (server, client) = bound(at("::", 0));
            let port = server.local_addr().unwrap().port();
            for host in ["127.0.0.1", "::1"] {
                let (connected, accepted) = try_connect(&client, &server, at(host, port)).await.unwrap();
                exchange(&connected, &accepted, 1000).await;
                assert_eq!(accepted.local_addr(), Some(at(host, port)));
            }
            // So the port is taken for IPv4 as well.
            let taken = at("0.0.0.0", port);
            let refused = support::server(&support::identity()).bind(taken).unwrap_err();
            assert!(matches!(refused, BindError::AddressInUse(is) if is == taken), "{refused:?}");
            server.shutdown().await;
        });
    }
    let Some(network) = network(&["v6only"], |network| network.set_in("v6only", "net/ipv6/bindv6only", "1")) else {
        return;
    };
    network.start("v6only", TEST, "v6only").end();
}

/// Has the system refuse this thread, and those that it starts, every socket of the IPv6 family, as
/// it does where IPv6 is switched off.
fn without_ipv6() -> io::Result<()> {
    // The fields of `seccomp_data`: the call's number, and the low half of its first argument.
    const NUMBER: u32 = 0;
    const FAMILY: u32 = 16;
    let code = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let skip_unless = |value, skipped| code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skipped, value);
    let answer = |value| code(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let mut filter = [
        load(NUMBER),
        skip_unless(libc::SYS_socket as u32, 3),
        load(FAMILY),
        skip_unless(libc::AF_INET6 as u32, 1),
        answer(libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the calls, which copy it. They change what this thread may do.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if set { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn without_ipv6_there_is_ipv4() {
    if alone::parent("without_ipv6_there_is_ipv4", |_| {}).is_some() {
        return;
    }
    if let Err(error) = without_ipv6() {
        return skip(&format!("this process may not give up IPv6: {error}"));
    }
    run(async {
        let unsupported = UdpSocket::bind("[::]:0").unwrap_err();
        assert_eq!(unsupported.raw_os_error(), Some(libc::EAFNOSUPPORT));
        let identity = support::identity();
        for separate in [false, true] {
            for wildcard in ["0.0.0.0", "127.0.0.1", "::ffff:127.0.0.1"] {
                let server = support::server(&identity).bind(at(wildcard, 0)).unwrap();
                let address = at("127.0.0.1", server.local_addr().unwrap().port());
                for local in [None, Some("127.0.0.5"), Some("::")] {
                    let client = support::client(&identity).socket_per_connection(separate);
                    let client = match local {
                        Some(local) => client.bind(at(local, 0)),
                        None => client,
                    };
                    let client = client.build().unwrap();
                    let (connected, accepted) = try_connect(&client, &server, address).await.unwrap();
                    exchange(&connected, &accepted, 3_000_000).await;
                    assert_eq!(accepted.local_addr(), Some(address));
                    assert_eq!(accepted.remote_addr(), connected.local_addr());
                    let moved = connected.rebind(at("127.0.0.6", 0)).await.unwrap();
                    exchange(&connected, &accepted, 100_000).await;
                    assert_eq!(accepted.remote_addr(), Some(moved));
                    // Nobody is there, and the system says so.
                    let error = client.connect(at("127.0.0.1", 1), "localhost").await.unwrap_err();
                    assert!(matches!(error, ConnectError::Connection(ConnectionError::Unreachable)), "{error:?}");
                    drop((connected, accepted));
                    client.wait_idle().await;
                }
                server.shutdown().await;
            }
        }
        for of_ipv6 in ["::", "::1", "2001:db8::1"] {
            let refused = support::server(&identity).bind(at(of_ipv6, 0)).unwrap_err();
            assert!(matches!(refused, BindError::System(SystemError::FamilyNotSupported)), "{refused:?}");
            let client = support::client(&identity).build().unwrap();
            let error = client.connect(at("::1", 1), "localhost").await.unwrap_err();
            assert!(
                matches!(error, ConnectError::Connection(ConnectionError::System(SystemError::FamilyNotSupported))),
                "{error:?}"
            );
        }
    });
}
