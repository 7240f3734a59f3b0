//! The options of sockets that the application hands in: what it has set, and what it changes later.
#![cfg(target_os = "linux")]

mod support;

use std::{net::UdpSocket, os::fd::AsRawFd as _};

use sendstream::{Client, Identity, Server};
use socket2::SockRef;
use support::{any_port, connect, exchange, identity, run, skip, tap::Tap, try_connect, wait_until};

/// The code point for telephony, and for what may wait.
const EXPEDITED: u32 = 46;
const LOWER_EFFORT: u32 = 1;

fn socket() -> UdpSocket {
    UdpSocket::bind(any_port()).unwrap()
}

fn server_on(identity: &Identity, socket: UdpSocket) -> Server {
    support::server(identity).listen_on(socket).unwrap()
}

fn client_on(identity: &Identity, socket: UdpSocket) -> Client {
    support::client(identity).socket(socket).build().unwrap()
}

/// Sets an option that is an integer.
fn set(socket: &UdpSocket, level: i32, name: i32, value: i32) {
    // SAFETY: the option is an integer, which the call copies.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size_of_val(&value) as u32)
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

async fn end(server: Server, client: Client) {
    server.shutdown().await;
    client.wait_idle().await;
}

#[test]
fn what_the_application_has_set_is_still_there() {
    run(async {
        let identity = identity();
        let given = UdpSocket::bind("[::1]:0").unwrap_or_else(|_| socket());
        let known = SockRef::from(&given);
        known.set_recv_buffer_size(50_000).unwrap();
        known.set_send_buffer_size(60_000).unwrap();
        known.set_tos_v4(EXPEDITED << 2).unwrap();
        let is_ipv6 = given.local_addr().unwrap().is_ipv6();
        if is_ipv6 {
            known.set_tclass_v6(LOWER_EFFORT << 2).unwrap();
            known.set_only_v6(true).err();
        }
        let options = |socket: &UdpSocket| {
            let socket = SockRef::from(socket);
            (
                (socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap()),
                socket.tos_v4().unwrap(),
                is_ipv6.then(|| (socket.tclass_v6().unwrap(), socket.only_v6().unwrap())),
                (socket.reuse_port().unwrap(), socket.reuse_address().unwrap()),
            )
        };
        let before = options(&given);
        let kept = given.try_clone().unwrap();
        let server = server_on(&identity, given);
        let client = support::client(&identity).build().unwrap();
        let (ours, theirs) = connect(&client, &server).await;
        exchange(&ours, &theirs, 1_000_000).await;
        assert_eq!(options(&kept), before);
        drop((ours, theirs));
        end(server, client).await;
    });
}

#[test]
fn the_sockets_code_point_is_in_its_packets_unless_a_connection_has_another() {
    run(async {
        let identity = identity();
        let server = support::server(&identity).bind(any_port()).unwrap();
        let given = socket();
        SockRef::from(&given).set_tos_v4(EXPEDITED << 2).unwrap();
        let client = client_on(&identity, given);
        let tap = Tap::start(server.local_addr().unwrap());
        let (ours, theirs) = try_connect(&client, &server, tap.front).await.unwrap();
        assert!(tap.code_points.try_iter().all(|code_point| u32::from(code_point) == EXPEDITED));
        ours.set_dscp(LOWER_EFFORT as u8).await.unwrap();
        ours.open_uni().unwrap().finish_with("marked").await.unwrap();
        assert!(tap.code_points.try_iter().any(|code_point| u32::from(code_point) == LOWER_EFFORT));
        ours.set_dscp(0).await.unwrap();
        ours.stats().await.unwrap();
        ours.open_uni().unwrap().finish_with("as the socket").await.unwrap();
        assert_eq!(tap.code_points.try_iter().last().map(u32::from), Some(EXPEDITED));
        drop((ours, theirs));
        end(server, client).await;
    });
}

/// Each of these has the system say more with every packet. One that is said before what QUIC needs
/// could leave no room for that.
#[test]
fn what_the_application_asks_of_each_packet_does_no_harm() {
    run(async {
        let identity = identity();
        let given = socket();
        for (level, name) in [
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL),
            (libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR),
            (libc::IPPROTO_IP, libc::IP_RECVERR),
        ] {
            set(&given, level, name, 1);
        }
        let server = server_on(&identity, given);
        let client = support::client(&identity).build().unwrap();
        let (ours, theirs) = connect(&client, &server).await;
        exchange(&ours, &theirs, 1_000_000).await;
        drop((ours, theirs));
        end(server, client).await;
    });
}

/// A worker that waited for a packet would serve nobody else.
#[test]
fn a_socket_that_blocks_holds_up_no_worker() {
    run(async {
        let identity = identity();
        let (servers, clients) = (socket(), socket());
        let kept = [servers.try_clone().unwrap(), clients.try_clone().unwrap()];
        let (server, client) = (server_on(&identity, servers), client_on(&identity, clients));
        let (ours, theirs) = connect(&client, &server).await;
        for blocks in [true, false, true] {
            for socket in &kept {
                socket.set_nonblocking(!blocks).unwrap();
            }
            exchange(&ours, &theirs, 1_000_000).await;
        }
        drop((ours, theirs));
        end(server, client).await;
    });
}

/// With it goes what QUIC needs of each packet, and no room was short: it is as if it was never asked.
#[test]
fn a_packet_without_what_quic_asked_of_it_is_dropped() {
    run(async {
        let identity = identity();
        let given = UdpSocket::bind("[::1]:0").ok();
        if given.is_none() {
            skip("this machine has no IPv6: IPv4 alone");
        }
        let ipv4 = [libc::IP_RECVTOS, libc::IP_RECVTTL, libc::IP_PKTINFO].map(|name| (libc::IPPROTO_IP, name));
        let ipv6 = [libc::IPV6_RECVTCLASS, libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVPKTINFO]
            .map(|name| (libc::IPPROTO_IPV6, name));
        for (given, options) in [Some((socket(), ipv4)), given.map(|given| (given, ipv6))].into_iter().flatten() {
            let address = given.local_addr().unwrap();
            let kept = given.try_clone().unwrap();
            kept.set_nonblocking(true).unwrap();
            let stranger = UdpSocket::bind((address.ip(), 0)).unwrap();
            let server = server_on(&identity, given);
            let client = support::client(&identity).build().unwrap();
            let (ours, theirs) = connect(&client, &server).await;
            for (level, name) in options {
                set(&kept, level, name, 0);
                stranger.send_to(&[0xc0; 1200], address).unwrap();
                wait_until(|| kept.peek_from(&mut [0; 1]).is_err());
                set(&kept, level, name, 1);
                exchange(&ours, &theirs, 100_000).await;
            }
            drop((ours, theirs));
            end(server, client).await;
        }
    });
}

/// Each has the system keep or cut what is sent.
#[test]
fn what_the_application_asks_of_each_send_does_no_harm() {
    run(async {
        let identity = identity();
        for (name, value) in [(libc::UDP_SEGMENT, 500), (libc::UDP_CORK, 1)] {
            let (servers, clients) = (socket(), socket());
            set(&servers, libc::SOL_UDP, name, value);
            set(&clients, libc::SOL_UDP, name, value);
            let (server, client) = (server_on(&identity, servers), client_on(&identity, clients));
            let (ours, theirs) = connect(&client, &server).await;
            exchange(&ours, &theirs, 1_000_000).await;
            drop((ours, theirs));
            end(server, client).await;
        }
    });
}

/// The system puts the time of each send into the queue for errors. A queue that nobody empties wakes
/// the worker for ever.
#[test]
fn times_of_sends_wake_nobody_for_ever() {
    const TIMES: i32 = (libc::SOF_TIMESTAMPING_TX_SOFTWARE
        | libc::SOF_TIMESTAMPING_TX_SCHED
        | libc::SOF_TIMESTAMPING_RX_SOFTWARE
        | libc::SOF_TIMESTAMPING_SOFTWARE) as i32;
    run(async {
        let identity = identity();
        let (servers, clients) = (socket(), socket());
        let kept = [servers.try_clone().unwrap(), clients.try_clone().unwrap()];
        for socket in &kept {
            set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, TIMES);
        }
        let (server, client) = (server_on(&identity, servers), client_on(&identity, clients));
        let (ours, theirs) = connect(&client, &server).await;
        exchange(&ours, &theirs, 100_000).await;
        for socket in &kept {
            assert!(!has_errors(socket), "the time of a send is in the queue");
        }
        // One that is asked for later is read and forgotten.
        for socket in &kept {
            set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, TIMES);
        }
        exchange(&ours, &theirs, 100_000).await;
        for socket in &kept {
            wait_until(|| !has_errors(socket));
        }
        drop((ours, theirs));
        end(server, client).await;
    });
}

/// Whether something is in the socket's queue for errors.
fn has_errors(socket: &UdpSocket) -> bool {
    let mut asked = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `asked` is one entry, which lives for the call.
    assert!(unsafe { libc::poll(&mut asked, 1, 0) } >= 0, "{}", std::io::Error::last_os_error());
    asked.revents & libc::POLLERR != 0
}
