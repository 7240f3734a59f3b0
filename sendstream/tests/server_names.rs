//! Which names a client asks for, as a server of another make and one of ours read them (RFC 6066
//! §3).

mod support;

use std::{
    future::ready,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
};

use futures::future::poll_immediate;
use quinn::crypto::rustls::HandshakeData;
use sendstream::{ConnectError, Connection, Trust};
use support::{any_port, exchange, foreign, identity, on_tokio, pinned, run};

/// What a client may ask for, and what goes out.
const NAMES: [(&str, Option<&str>); 7] = [
    ("host.example", Some("host.example")),
    ("HOST.example.", Some("host.example")),
    ("bücher.example", Some("xn--bcher-kva.example")),
    ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
    ("127.0.0.1", None),
    ("::1", None),
    // RFC 1123 has no underscores, and rustls takes them.
    ("my_host", Some("my_host")),
];

#[test]
fn a_server_of_another_make_reads_a_name_in_ascii_without_a_dot_and_no_address() {
    on_tokio(async {
        let quinn = foreign::server(foreign::server_tls(&foreign::certified()), |_| ());
        let client = support::client_with(Trust::dangerous_accept_any_certificate()).build().unwrap();
        for (name, expected) in NAMES {
            let (ours, theirs) = futures::join!(client.connect(quinn.local_addr().unwrap(), name), async {
                quinn.accept().await.unwrap().await.unwrap()
            });
            let data = theirs.handshake_data().unwrap().downcast::<HandshakeData>().unwrap();
            assert_eq!(data.server_name.as_deref(), expected, "{name}");
            drop(ours.unwrap());
        }
    });
}

#[test]
fn a_server_of_ours_reads_the_same_and_an_address_serves_as_a_name() {
    run(async {
        let identity = identity();
        let server = support::server(&identity).bind(any_port()).unwrap();
        let client = support::client(&identity).build().unwrap();
        for (name, expected) in NAMES {
            let connect = client.connect(server.local_addr().unwrap(), name);
            let (ours, theirs): (_, Connection) = futures::join!(connect, async {
                let incoming = server.accept().await.unwrap();
                assert_eq!(incoming.server_name(), expected.unwrap_or_default(), "{name}");
                incoming.accept().await.unwrap()
            });
            exchange(&ours.unwrap(), &theirs, 10).await;
        }
    });
}

#[test]
fn what_is_no_name_is_refused_whatever_is_trusted_before_a_packet_is_sent() {
    run(async {
        let silent = UdpSocket::bind(any_port()).unwrap();
        silent.set_nonblocking(true).unwrap();
        let address: SocketAddr = silent.local_addr().unwrap();
        let identity = identity();
        let anyone = Trust::dangerous_accept_any_certificate;
        let trusts = [
            pinned(&identity),
            Trust::pinned_keys([identity.public_key_sha256()]),
            anyone(),
            anyone().verify_with(|_| ready(Ok(()))),
            Trust::ca_der([identity.certificate().clone()]).unwrap(),
        ];
        for trust in trusts {
            let client = support::client_with(trust).build().unwrap();
            for name in ["", "host:4433", "[::1]", "a b", "host..example", "-", "host..", "nul\0byte", "1.2.3.4."] {
                let refused = poll_immediate(client.connect(address, name)).await.expect("at once");
                assert!(matches!(refused, Err(ConnectError::InvalidServerName)), "{name:?}: {refused:?}");
            }
            client.wait_idle().await;
        }
        assert_eq!(silent.recv(&mut [0; 2000]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}
