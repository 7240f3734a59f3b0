//! Connecting to a host by its name: what it stands for, and what happens where it stands for
//! nothing.

mod support;

use std::net::{SocketAddr, ToSocketAddrs as _, UdpSocket};

use futures::future::poll_immediate;
use sendstream::{ConnectError, Server};
use support::{any_port, client, identity, run, server, skip};

/// Connects to `host`, which is to be `server`'s, and returns what the server was called.
async fn connect(identity: &sendstream::Identity, server: &Server, host: &str) -> String {
    let client = client(identity).build().unwrap();
    let port = server.local_addr().unwrap().port();
    let accepting = async {
        let incoming = server.accept().await.unwrap();
        let name = incoming.server_name().to_owned();
        (incoming.accept().await.unwrap(), name)
    };
    let connecting = async { client.connect_host(host, port).await.unwrap() };
    let (connected, (accepted, name)) = futures::join!(connecting, accepting);
    drop((connected, accepted));
    client.wait_idle().await;
    name
}

#[test]
fn a_name_and_an_address_lead_to_their_server() {
    run(async {
        let identity = identity();
        let server = server(&identity).bind(any_port()).unwrap();
        assert_eq!(connect(&identity, &server, "localhost").await, "localhost");
        // No address is sent as a name (RFC 6066 §3).
        assert_eq!(connect(&identity, &server, "127.0.0.1").await, "");
        server.shutdown().await;
    });
}

#[test]
fn an_ipv6_literal_may_have_brackets() {
    let Ok(free) = UdpSocket::bind("[::1]:0").and_then(|socket| socket.local_addr()) else {
        return skip("no IPv6 here");
    };
    run(async move {
        let identity = identity();
        let server = server(&identity).bind(free).unwrap();
        for host in ["::1", "[::1]"] {
            assert_eq!(connect(&identity, &server, host).await, "");
        }
        server.shutdown().await;
    });
}

#[test]
fn a_name_with_two_addresses_leads_to_the_one_that_answers() {
    let addresses: Vec<SocketAddr> = ("localhost", 1).to_socket_addrs().unwrap().collect();
    if !(addresses.iter().any(SocketAddr::is_ipv4) && addresses.iter().any(SocketAddr::is_ipv6)) {
        return skip("localhost has no addresses of both families here");
    }
    run(async {
        let identity = identity();
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let server = server(&identity).bind(local.parse().unwrap()).unwrap();
            // Nobody answers at the other address, and nobody says so either.
            let port = server.local_addr().unwrap().port();
            let other = if local.starts_with('[') { "127.0.0.1" } else { "::1" };
            let _silent = UdpSocket::bind((other, port));
            assert_eq!(connect(&identity, &server, "localhost").await, "localhost");
            server.shutdown().await;
        }
    });
}

#[test]
fn a_name_that_stands_for_nothing_is_told_with_the_resolvers_error() {
    run(async {
        // RFC 6761 §6.4: no such name exists.
        let client = client(&identity()).build().unwrap();
        let error = client.connect_host("no-such-host.invalid", 1).await.unwrap_err();
        let ConnectError::Unresolved { host, .. } = &error else { panic!("{error:?}") };
        assert_eq!(host, "no-such-host.invalid");
        let text = error.to_string();
        assert!(text.starts_with("no-such-host.invalid cannot be resolved (") && text.contains("DNS server"), "{text}");
        assert!(std::error::Error::source(&error).is_some());
        client.wait_idle().await;
    });
}

#[test]
fn what_cannot_be_a_servers_name_is_not_looked_up() {
    run(async {
        let client = client(&identity()).build().unwrap();
        for host in ["", ".", "a\0b"] {
            let refused = poll_immediate(client.connect_host(host, 1)).await.expect("at once");
            assert!(matches!(refused, Err(ConnectError::InvalidServerName)), "{refused:?}");
        }
    });
}

#[test]
fn a_client_that_binds_an_address_tries_those_of_its_family() {
    run(async {
        let client = client(&identity()).bind(any_port()).build().unwrap();
        let refused = client.connect_host("::1", 1).await.unwrap_err();
        assert!(matches!(refused, ConnectError::FamilyMismatch { .. }), "{refused:?}");
    });
}

#[test]
fn a_connection_to_a_host_that_is_given_up_leaves_nothing_behind() {
    run(async {
        let silent = UdpSocket::bind(any_port()).unwrap();
        let client = client(&identity()).build().unwrap();
        for host in ["127.0.0.1", "localhost", "no-such-host.invalid"] {
            let connecting = client.connect_host(host, silent.local_addr().unwrap().port());
            let outcome = poll_immediate(connecting).await;
            // That there is no such host may be known at once.
            let is_refused = host == "no-such-host.invalid" && matches!(outcome, Some(Err(_)));
            assert!(outcome.is_none() || is_refused, "{host}");
        }
        client.wait_idle().await;
    });
}
