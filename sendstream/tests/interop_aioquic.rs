//! Our two ends against aioquic's, in a process of its own. Skipped, loudly, where aioquic is
//! missing.

mod support;

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use sendstream::{
    Bytes, CertificateHash, CertificateRefusal, ConnectError, Connection, ConnectionError, DatagramFate,
    MemorySessionCache, PublicKeyHash, ReadError, Resumption, TicketKey, TransportConfig, Trust, WriteError,
};
use support::{
    HANG, accept,
    aioquic::{Certified, Peer},
    any_port, assert_closed_by_peer, pattern,
    python::python,
    run,
};

const SCRIPT: &str = "aioquic_peer.py";

/// Has the peer do `command` with `data`, and reads the answer.
async fn ask(connection: &Connection, command: &str, data: &[u8]) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().unwrap();
    drop(send.finish_with([command.as_bytes(), b"\n", data].concat()));
    recv.read_to_end(usize::MAX).await.unwrap()
}

/// The next thing that the peer says on a stream of its own.
async fn told(connection: &Connection) -> Vec<u8> {
    connection.accept_uni().await.unwrap().read_to_end(usize::MAX).await.unwrap()
}

/// All that both sides can do, whoever connected.
async fn conversation(connection: &Connection) {
    // Streams both ways.
    let data = pattern(1_000_000);
    assert!(ask(connection, "echo", &data).await == data);
    let (mut send, _recv) = connection.open_bi().unwrap();
    send.finish_with("send 300000\n").await.unwrap();
    send.finished().await.unwrap();
    let sent = told(connection).await;
    assert!(sent.len() == 300_000 && sent.iter().enumerate().all(|(index, byte)| usize::from(*byte) == index % 251));

    // The peer's reset and stop, with their codes.
    let (mut send, mut recv) = connection.open_bi().unwrap();
    drop(send.send("reset 41\n"));
    assert_eq!(recv.received_reset().await, Ok(Some(41)));
    assert!(matches!(recv.read_chunk().await, Err(ReadError::Reset(41))));
    let (mut send, recv) = connection.open_bi().unwrap();
    drop(send.send("stop 42\n"));
    assert_eq!(send.stopped().await, Ok(Some(42)));
    assert_eq!(send.finished().await, Err(WriteError::Stopped(42)));
    drop(recv);

    // Ours, which the peer tells of.
    let (mut send, mut recv) = connection.open_bi().unwrap();
    drop(send.send("tell\n"));
    assert_eq!(&*recv.read_chunk().await.unwrap().unwrap(), b"told");
    send.abort(43).unwrap();
    assert_eq!(told(connection).await, b"reset 43");
    recv.stop(44).unwrap();
    assert_eq!(told(connection).await, b"stopped 44");

    // Datagrams, empty and as large as they may be.
    let largest = Bytes::from(pattern(connection.max_datagram_size().unwrap().min(1100)));
    for datagram in [Bytes::from_static(b"datagram"), Bytes::new(), largest] {
        let sending = connection.send_datagram(datagram.clone());
        assert_eq!(connection.read_datagram().await.unwrap(), datagram);
        assert_eq!(sending.await, Ok(DatagramFate::Acknowledged));
    }

    // The peer updates the keys.
    let before = connection.stats().await.unwrap().key_updates;
    assert_eq!(ask(connection, "update", b"with new keys").await, b"with new keys");
    let after = connection.stats().await.unwrap().key_updates;
    assert!(after > before, "{before} {after}");
}

/// The peer is a slow one, and the machine may be busy.
fn patient() -> TransportConfig {
    TransportConfig::default()
        .idle_timeout(2 * HANG)
        .handshake_timeout(2 * HANG)
        // The longest that there is.
        .disconnect_timeout(HANG)
}

#[test]
fn our_client_and_an_aioquic_server_understand_each_other() {
    let Some(python) = python() else { return };
    run(async move {
        let certified = Certified::new();
        let (mut peer, address) = Peer::serve(&python, SCRIPT, &certified);
        let trust = Trust::pinned_keys([certified.identity.public_key_sha256()]);
        let client = support::client_with(trust).transport(patient()).build().unwrap();
        let connection = client.connect(address, "localhost").await.unwrap();
        conversation(&connection).await;
        connection.close(45, "").unwrap();
        assert_eq!(peer.says("terminated").trim(), "45");
        drop(connection);
        client.wait_idle().await;
    });
}

#[test]
fn an_aioquic_client_and_our_server_understand_each_other() {
    let Some(python) = python() else { return };
    run(async move {
        let certified = Certified::new();
        let server = support::server(&certified.identity).transport(patient()).bind(any_port()).unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let _peer = Peer::start(&python, SCRIPT, ["client".to_owned(), certified.path("certificate"), port]);
        let connection = accept(&server).await.unwrap();
        conversation(&connection).await;
        // From another port, with the same connection id, as behind a NAT that has forgotten.
        assert_eq!(ask(&connection, "move", b"from elsewhere").await, b"from elsewhere");
        assert_eq!(ask(&connection, "echo", b"and still there").await, b"and still there");
        let (mut send, _recv) = connection.open_bi().unwrap();
        drop(send.finish_with("close 46\n"));
        assert_closed_by_peer(&connection.closed().await, 46, "as asked");
        drop((connection, send, _recv));
        server.shutdown().await;
    });
}

#[test]
fn aioquic_follows_when_we_update_the_keys() {
    let Some(python) = python() else { return };
    run(async move {
        let certified = Certified::new();
        let (_peer, address) = Peer::serve(&python, SCRIPT, &certified);
        // By itself, and not together with the peer: aioquic begins an update also while another is
        // not yet confirmed, which RFC 9001 §6.1 forbids.
        let transport = patient().key_update_after(300_000);
        let client = support::client(&certified.identity).transport(transport).build().unwrap();
        let connection = client.connect(address, "localhost").await.unwrap();
        let data = pattern(1_000_000);
        assert!(ask(&connection, "echo", &data).await == data);
        let stats = connection.stats().await.unwrap();
        assert!(stats.key_updates >= 2, "{stats:?}");
        drop(connection);
        client.wait_idle().await;
    });
}

/// Whether the session was resumed, on which both sides agree; and that the connection carries
/// data.
async fn resumed(connection: &Connection) -> bool {
    let data = pattern(100_000);
    assert!(ask(connection, "echo", &data).await == data);
    let ours = connection.session_resumed();
    assert_eq!(ask(connection, "resumed", b"").await, if ours { &b"yes"[..] } else { b"no" });
    ours
}

#[test]
fn we_resume_with_an_aioquic_server_until_it_has_forgotten_its_tickets() {
    let Some(python) = python() else { return };
    run(async move {
        let certified = Certified::new();
        let (_peer, address) = Peer::serve(&python, SCRIPT, &certified);
        let trust = Trust::pinned_keys([certified.identity.public_key_sha256()]);
        let client = support::client_with(trust).transport(patient());
        let client = client.session_cache(Arc::<MemorySessionCache>::default()).build().unwrap();
        // The third resumes with the ticket that the resumed second one got.
        for (index, resumes) in [false, true, true, false].into_iter().enumerate() {
            let connection = client.connect(address, "localhost").await.unwrap();
            assert_eq!(resumed(&connection).await, resumes);
            let hash = connection.peer_identity().unwrap().certificate_sha256();
            assert_eq!(hash, certified.identity.certificate_sha256());
            connection.session_ticket().await.unwrap();
            if index == 2 {
                assert_eq!(ask(&connection, "forget", b"forgotten").await, b"forgotten");
            }
        }
        client.wait_idle().await;
    });
}

#[test]
fn an_aioquic_client_resumes_with_us_until_the_ticket_key_is_gone() {
    let Some(python) = python() else { return };
    run(async move {
        let certified = Certified::new();
        let server = support::server(&certified.identity)
            .transport(patient())
            .resumption(Resumption::Resume)
            .bind(any_port())
            .unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let expected = [false, true, true, false];
        let arguments = ["client".to_owned(), certified.path("certificate")];
        let mut peer = Peer::start(&python, SCRIPT, arguments.into_iter().chain(expected.map(|_| port.clone())));
        for (index, resumes) in expected.into_iter().enumerate() {
            let connection = accept(&server).await.unwrap();
            assert_eq!(resumed(&connection).await, resumes);
            assert_ne!(peer.says("ticket"), "0");
            if index == 2 {
                server.set_ticket_keys([TicketKey::generate().unwrap()]).unwrap();
            }
            // The peer connects again when this has ended.
            connection.close(47, "").unwrap();
            assert_eq!(peer.says("terminated").trim(), "47");
        }
        server.shutdown().await;
    });
}

#[test]
fn a_server_with_a_weak_key_is_refused_whoever_vouches_for_it() {
    let Some(python) = python() else { return };
    run(async move {
        const PEM: &str = include_str!("data/weak_rsa.pem");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/weak_rsa.pem");
        let mut peer = Peer::start(&python, SCRIPT, ["server", path, path]);
        let port: u16 = peer.says("ready").parse().unwrap();
        let certificate = CertificateDer::from_pem_slice(PEM.as_bytes()).unwrap();
        for trust in [
            Trust::system(),
            Trust::ca_pem(PEM).unwrap(),
            Trust::pinned([CertificateHash::of(&certificate)]),
            Trust::pinned_keys([PublicKeyHash::of(&certificate).unwrap()]),
        ] {
            let client = support::client_with(trust).build().unwrap();
            let error = client.connect(([127, 0, 0, 1], port).into(), "localhost").await.unwrap_err();
            let ConnectError::Connection(ConnectionError::CertificateRefused(refusal)) = error else {
                panic!("{error}")
            };
            assert_eq!(refusal, CertificateRefusal::WeakKey { bits: 1024 });
            // CRYPTO_ERROR with the alert `bad_certificate` (RFC 9000 §20.1).
            assert_eq!(peer.says("terminated").split(' ').next(), Some("298"));
            client.wait_idle().await;
        }
    });
}
