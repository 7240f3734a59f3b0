//! Our two ends against quinn's, in one process.

mod support;

use std::{net::SocketAddr, sync::Arc};

use sendstream::{
    Bytes, CertificateHash, Client, ConnectError, ConnectionError, DatagramFate, ReadError, SendDatagramError, Server,
    TransportConfig, Trust, WriteError,
};
use support::{accept, any_port, assert_closed_by_peer, foreign, on_tokio, pattern};

/// Our server and a quinn client that trusts it, connected.
async fn quinn_to_us() -> (Server, quinn::Endpoint, quinn::Connection, sendstream::Connection) {
    quinn_to_us_with(TransportConfig::default()).await
}

/// The same with these settings for our server.
async fn quinn_to_us_with(
    transport: TransportConfig,
) -> (Server, quinn::Endpoint, quinn::Connection, sendstream::Connection) {
    let identity = support::identity();
    let endpoint = foreign::client(&identity);
    let server = support::server(&identity).transport(transport).bind(any_port()).unwrap();
    let address: SocketAddr = server.local_addr().unwrap();
    let (theirs, ours) =
        futures::join!(async { endpoint.connect(address, "localhost").unwrap().await }, accept(&server));
    (server, endpoint, theirs.unwrap(), ours.unwrap())
}

/// A quinn server and our client that trusts it, connected.
async fn us_to_quinn() -> (quinn::Endpoint, Client, quinn::Connection, sendstream::Connection) {
    us_to_quinn_with(quinn::TransportConfig::default()).await
}

/// The same with these settings for quinn.
async fn us_to_quinn_with(
    transport: quinn::TransportConfig,
) -> (quinn::Endpoint, Client, quinn::Connection, sendstream::Connection) {
    let own = foreign::certified();
    let endpoint = foreign::server(foreign::server_tls(&own), |config| {
        config.transport_config(Arc::new(transport));
    });
    let trust = Trust::pinned([CertificateHash::of(own.cert.der())]);
    let client = support::client_with(trust).build().unwrap();
    let address = endpoint.local_addr().unwrap();
    let (ours, theirs) =
        futures::join!(client.connect(address, "localhost"), async { endpoint.accept().await.unwrap().await });
    (endpoint, client, theirs.unwrap(), ours.unwrap())
}

/// Streams both ways, each end's codes as the other's, whoever connected.
async fn streams(theirs: &quinn::Connection, ours: &sendstream::Connection) {
    let data = pattern(3_000_000);

    // Ours to theirs, with the acknowledgement of FIN.
    let mut send = ours.open_uni().unwrap();
    let sending = async {
        send.finish_with(data.clone()).await.unwrap();
        send.finished().await.unwrap();
    };
    let receiving = async { theirs.accept_uni().await.unwrap().read_to_end(usize::MAX).await.unwrap() };
    let ((), arrived) = futures::join!(sending, receiving);
    assert!(arrived == data);

    // Theirs to ours.
    let sending = async {
        let mut send = theirs.open_uni().await.unwrap();
        send.write_all(&data).await.unwrap();
        send.finish().unwrap();
        assert_eq!(send.stopped().await.unwrap(), None, "we acknowledge FIN");
    };
    let receiving = async { ours.accept_uni().await.unwrap().read_to_end(usize::MAX).await.unwrap() };
    let ((), arrived) = futures::join!(sending, receiving);
    assert!(arrived == data);

    // A question and its answer on one stream.
    let (mut send, mut recv) = ours.open_bi().unwrap();
    drop(send.finish_with("question"));
    let (mut their_send, mut their_recv) = theirs.accept_bi().await.unwrap();
    assert_eq!(their_recv.read_to_end(100).await.unwrap(), b"question");
    their_send.write_all(b"answer").await.unwrap();
    their_send.finish().unwrap();
    assert_eq!(recv.read_to_end(100).await.unwrap(), b"answer");

    // Resets and stops, with their codes.
    let mut send = ours.open_uni().unwrap();
    send.send("x").await.unwrap();
    let mut their_recv = theirs.accept_uni().await.unwrap();
    send.abort(31).unwrap();
    // quinn discards what was not read when the reset comes.
    let reset = loop {
        match their_recv.read_chunk(10, true).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a reset stream looked complete"),
            Err(error) => break error,
        }
    };
    assert_eq!(reset, quinn::ReadError::Reset(31u32.into()));

    let mut their_send = theirs.open_uni().await.unwrap();
    their_send.write_all(b"x").await.unwrap();
    let mut recv = ours.accept_uni().await.unwrap();
    recv.read_chunk().await.unwrap();
    their_send.reset(32u32.into()).unwrap();
    assert!(matches!(recv.read_chunk().await, Err(ReadError::Reset(32))));

    let mut send = ours.open_uni().unwrap();
    send.send("x").await.unwrap();
    theirs.accept_uni().await.unwrap().stop(33u32.into()).unwrap();
    assert_eq!(send.stopped().await, Ok(Some(33)));
    assert_eq!(send.finished().await, Err(WriteError::Stopped(33)));

    let mut their_send = theirs.open_uni().await.unwrap();
    their_send.write_all(b"x").await.unwrap();
    ours.accept_uni().await.unwrap().stop(34).unwrap();
    assert_eq!(their_send.stopped().await.unwrap(), Some(34u32.into()));
}

/// Datagrams both ways, the largest that each side says it can send.
async fn datagrams(theirs: &quinn::Connection, ours: &sendstream::Connection) {
    let largest = Bytes::from(pattern(ours.max_datagram_size().unwrap()));
    for datagram in [Bytes::from_static(b"from us"), Bytes::new(), largest] {
        let sending = ours.send_datagram(datagram.clone());
        assert_eq!(theirs.read_datagram().await.unwrap(), datagram);
        assert_eq!(sending.await, Ok(DatagramFate::Acknowledged));
    }
    let largest = Bytes::from(pattern(theirs.max_datagram_size().unwrap()));
    for datagram in [Bytes::from_static(b"from them"), Bytes::new(), largest] {
        theirs.send_datagram(datagram.clone()).unwrap();
        assert_eq!(ours.read_datagram().await.unwrap(), datagram);
    }
}

#[test]
fn a_quinn_client_and_our_server_understand_each_other() {
    on_tokio(async {
        let (server, _endpoint, theirs, ours) = quinn_to_us().await;
        streams(&theirs, &ours).await;
        datagrams(&theirs, &ours).await;
        theirs.close(35u32.into(), b"that was all");
        // With the reason that quinn gave.
        assert_closed_by_peer(&ours.closed().await, 35, "that was all");
        drop(ours);
        server.shutdown().await;
    });
}

#[test]
fn our_client_and_a_quinn_server_understand_each_other() {
    on_tokio(async {
        let (_endpoint, client, theirs, ours) = us_to_quinn().await;
        streams(&theirs, &ours).await;
        datagrams(&theirs, &ours).await;
        ours.close(36, "that was all of ours").unwrap();
        match theirs.closed().await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code, 36u32.into());
                assert_eq!(close.reason, "that was all of ours");
            }
            other => panic!("{other}"),
        }
        drop(ours);
        client.wait_idle().await;
    });
}

/// Sends `data` from `ours` to `theirs` and the other way round.
async fn both_ways(theirs: &quinn::Connection, ours: &sendstream::Connection, data: &[u8]) {
    let (mut send, mut recv) = ours.open_bi().unwrap();
    let answering = async {
        let (mut send, mut recv) = theirs.accept_bi().await.unwrap();
        send.write_all(&recv.read_to_end(usize::MAX).await.unwrap()).await.unwrap();
        send.finish().unwrap();
    };
    let asking = async {
        drop(send.finish_with(data.to_vec()));
        recv.read_to_end(usize::MAX).await.unwrap()
    };
    let (answer, ()) = futures::join!(asking, answering);
    assert!(answer == data);
}

#[test]
fn quinn_may_update_the_keys() {
    on_tokio(async {
        let (server, _endpoint, theirs, ours) = quinn_to_us().await;
        let before = ours.stats().await.unwrap().key_updates;
        both_ways(&theirs, &ours, b"with the first keys").await;
        for update in 1..=3 {
            // quinn does nothing while it still keeps the keys from before the last update.
            while ours.stats().await.unwrap().key_updates < before + update {
                theirs.force_key_update();
                both_ways(&theirs, &ours, &pattern(10_000)).await;
            }
        }
        drop(ours);
        server.shutdown().await;
    });
}

#[test]
fn we_may_update_the_keys_and_quinn_follows() {
    on_tokio(async {
        let transport = TransportConfig::default().key_update_after(500_000);
        let (server, _endpoint, theirs, ours) = quinn_to_us_with(transport).await;
        both_ways(&theirs, &ours, &pattern(3_000_000)).await;
        let stats = ours.stats().await.unwrap();
        assert!(stats.key_updates >= 2, "{stats:?}");
        drop(ours);
        server.shutdown().await;
    });
}

#[test]
fn a_quinn_client_may_move_to_another_port() {
    on_tokio(async {
        let (server, endpoint, theirs, ours) = quinn_to_us().await;
        both_ways(&theirs, &ours, b"from the first port").await;
        let validated = sendstream::process::counters().unwrap().paths_validated;
        endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        both_ways(&theirs, &ours, b"from the second port").await;
        // More than the three times of what came that an address is good for until the client has
        // proved that it is there.
        both_ways(&theirs, &ours, &pattern(10_000)).await;
        // The server goes on with the new path as soon as the client has proved that it is there.
        while sendstream::process::counters().unwrap().paths_validated == validated {
            both_ways(&theirs, &ours, b"more").await;
        }
        assert_eq!(ours.close_reason(), None);
        drop(ours);
        server.shutdown().await;
    });
}

/// Shows a certificate with a key that is another one's.
#[derive(Debug)]
struct Impostor(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Impostor {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[test]
fn a_server_without_the_key_of_its_certificate_is_refused() {
    on_tokio(async {
        let (real, own) = (foreign::certified(), foreign::certified());
        let certificate = real.cert.der().clone();
        let key = rustls::crypto::ring::sign::any_supported_type(&foreign::private_key(&own)).unwrap();
        let mut tls = foreign::server_tls(&real);
        let shown = rustls::sign::CertifiedKey::new(vec![certificate.clone()], key);
        tls.cert_resolver = Arc::new(Impostor(Arc::new(shown)));
        let endpoint = foreign::server(tls, |_| ());
        // Even whoever believes anyone believes no signature that is wrong.
        for trust in [Trust::pinned([CertificateHash::of(&certificate)]), Trust::dangerous_accept_any_certificate()] {
            let client = support::client_with(trust).build().unwrap();
            let address = endpoint.local_addr().unwrap();
            let (ours, theirs) =
                futures::join!(client.connect(address, "localhost"), async { endpoint.accept().await.unwrap().await });
            const DECRYPT_ERROR: u8 = 51;
            let error = ours.unwrap_err();
            assert!(
                matches!(error, ConnectError::Connection(ConnectionError::Tls { alert: DECRYPT_ERROR, .. })),
                "{error}"
            );
            match theirs.unwrap_err() {
                quinn::ConnectionError::ConnectionClosed(close) => {
                    assert_eq!(u64::from(close.error_code), 0x100 + u64::from(DECRYPT_ERROR));
                }
                other => panic!("{other}"),
            }
            client.wait_idle().await;
        }
    });
}

#[test]
fn a_peers_limit_for_datagrams_counts_the_frame_and_not_the_payload_alone() {
    on_tokio(async {
        let mut transport = quinn::TransportConfig::default();
        // What quinn announces as max_datagram_frame_size.
        transport.datagram_receive_buffer_size(Some(200));
        let (_endpoint, client, theirs, ours) = us_to_quinn_with(transport).await;
        // One byte of type and two of length.
        assert_eq!(ours.max_datagram_size(), Some(197));
        let refused = ours.send_datagram(vec![0; 198]);
        assert_eq!(refused.refusal(), Some(&SendDatagramError::TooLarge { max: 197 }));
        // quinn itself takes less than it announces: it counts what keeping a datagram costs.
        let sending = ours.send_datagram(vec![1; 150]);
        assert_eq!(theirs.read_datagram().await.unwrap(), vec![1; 150]);
        assert_eq!(sending.await, Ok(DatagramFate::Acknowledged));
        drop((ours, refused));
        client.wait_idle().await;
    });
}
