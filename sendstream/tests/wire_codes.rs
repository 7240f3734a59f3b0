//! The transport's error codes, as a peer of another make reads them (RFC 9000 §20.1). Those of a
//! peer's own mistakes are in `forbidden_frames.rs`.

mod support;

use std::{
    future::{pending, ready},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use futures::future::{Either, select};
use quinn::ConnectionError as Theirs;
use rustls::{
    crypto::ring::sign::any_supported_type,
    sign::{CertifiedKey, SingleCertAndKey},
};
use sendstream::{CertificateRefusal, ClientAuth, ConnectError, ConnectionError, TransportConfig, Trust};
use support::{any_port, foreign, on_tokio};

const CONNECTION_REFUSED: u64 = 0x2;
const APPLICATION_ERROR: u64 = 0xc;
/// The first of the codes for TLS's alerts (RFC 9001 §4.8).
const CRYPTO_ERRORS: u64 = 0x100;

/// The code of a transport's close.
#[track_caller]
fn code(error: &Theirs) -> u64 {
    let Theirs::ConnectionClosed(close) = error else { panic!("{error:?}") };
    assert!(close.reason.is_empty(), "{close:?}");
    close.error_code.into()
}

#[test]
fn a_refusal_is_sent_as_connection_refused() {
    on_tokio(async {
        let identity = support::identity();
        let transport = TransportConfig::default().accept_backlog(1);
        let server = support::server(&identity).transport(transport).bind(any_port()).unwrap();
        let quinn = foreign::client(&identity);
        let connect = || quinn.connect(server.local_addr().unwrap(), "localhost").unwrap();

        let (refused, ()) = futures::join!(connect(), async { server.accept().await.unwrap().refuse() });
        assert_eq!(code(&refused.unwrap_err()), CONNECTION_REFUSED, "refuse");
        let (refused, ()) = futures::join!(connect(), async { drop(server.accept().await.unwrap()) });
        assert_eq!(code(&refused.unwrap_err()), CONNECTION_REFUSED, "drop");

        // The backlog is full with the first of two.
        let waiting = tokio::spawn(connect());
        support::wait_until(|| server.stats().waiting == 1);
        assert_eq!(code(&connect().await.unwrap_err()), CONNECTION_REFUSED, "full");
        server.close_all(7, "nobody reads this").unwrap();
        assert_eq!(code(&waiting.await.unwrap().unwrap_err()), CONNECTION_REFUSED, "close_all");

        // Another server, as the queue of this one still counts the client that was closed.
        let server = support::server(&identity).bind(any_port()).unwrap();
        let waiting = tokio::spawn(quinn.connect(server.local_addr().unwrap(), "localhost").unwrap());
        support::wait_until(|| server.stats().waiting == 1);
        drop(server);
        assert_eq!(code(&waiting.await.unwrap().unwrap_err()), CONNECTION_REFUSED, "the server's end");
    });
}

#[test]
fn a_client_that_nobody_accepts_in_time_is_refused() {
    on_tokio(async {
        let identity = support::identity();
        let transport = TransportConfig::default().handshake_timeout(Duration::from_millis(200));
        let server = support::server(&identity).transport(transport).bind(any_port()).unwrap();
        let quinn = foreign::client(&identity);
        let refused = quinn.connect(server.local_addr().unwrap(), "localhost").unwrap().await.unwrap_err();
        assert_eq!(code(&refused), CONNECTION_REFUSED);
    });
}

#[test]
fn who_closes_before_the_handshake_is_done_sends_application_error() {
    on_tokio(async {
        // A client that judges the server, which it never finishes.
        let quinn = foreign::server(foreign::server_tls(&foreign::certified()), |_| ());
        let (asked, mut judging) = tokio::sync::mpsc::unbounded_channel();
        let trust = Trust::dangerous_accept_any_certificate().verify_with(move |_| {
            asked.send(()).unwrap();
            pending()
        });
        let client = support::client_with(trust).build().unwrap();
        let (ours, theirs, ()) = futures::join!(
            client.connect(quinn.local_addr().unwrap(), "localhost"),
            async { quinn.accept().await.unwrap().await.unwrap_err() },
            async {
                judging.recv().await.unwrap();
                client.close_all(1234, "nobody may read this yet").unwrap();
            }
        );
        assert_closed_here_because(ours.unwrap_err(), 1234, "nobody may read this yet");
        assert_eq!(code(&theirs), APPLICATION_ERROR);

        // A server that judges its client, and gives up.
        let identity = support::identity();
        let (asked, mut judging) = tokio::sync::mpsc::unbounded_channel();
        let trust = Trust::dangerous_accept_any_certificate().verify_with(move |_| {
            asked.send(()).unwrap();
            pending()
        });
        let auth = ClientAuth::Required(trust);
        let server = support::server(&identity).client_auth(auth).bind(any_port()).unwrap();
        let own = foreign::certified();
        let quinn = foreign::client_with(&identity, |tls| {
            let key = any_supported_type(&foreign::private_key(&own)).unwrap();
            let own = CertifiedKey::new(vec![own.cert.der().clone()], key);
            tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
        });
        let connecting = async {
            match quinn.connect(server.local_addr().unwrap(), "localhost").unwrap().await {
                // For a client the handshake is done when it has sent its certificate.
                Ok(connection) => connection.closed().await,
                Err(error) => error,
            }
        };
        let (theirs, ()) = futures::join!(connecting, async {
            let accepting = pin!(server.accept().await.unwrap().accept());
            let Either::Right(_) = select(accepting, pin!(judging.recv())).await else { panic!("nobody is believed") };
        });
        assert_eq!(code(&theirs), APPLICATION_ERROR);
    });
}

#[track_caller]
fn assert_closed_here_because(error: ConnectError, code: u64, reason: &str) {
    let ConnectError::Connection(cause) = error else { panic!("{error:?}") };
    support::assert_closed_here_because(&cause, code, reason);
}

#[test]
fn every_alert_of_tls_is_sent_as_the_crypto_error_of_its_number() {
    on_tokio(async {
        let quinn = foreign::server(foreign::server_tls(&foreign::certified()), |_| ());
        let alert = Arc::new(AtomicU8::new(0));
        let asked = alert.clone();
        let trust = Trust::dangerous_accept_any_certificate().verify_with(move |_| {
            let alert = asked.load(Ordering::Relaxed);
            ready(Err(CertificateRefusal::ByVerifier { alert, reason: String::new() }))
        });
        let client = support::client_with(trust).build().unwrap();
        for number in 1..=u8::MAX {
            alert.store(number, Ordering::Relaxed);
            let (ours, theirs) = futures::join!(client.connect(quinn.local_addr().unwrap(), "localhost"), async {
                quinn.accept().await.unwrap().await.unwrap_err()
            });
            assert!(matches!(ours, Err(ConnectError::Connection(ConnectionError::CertificateRefused(_)))));
            assert_eq!(code(&theirs), CRYPTO_ERRORS + u64::from(number));
        }
    });
}

#[test]
fn a_client_without_a_common_protocol_is_sent_no_application_protocol() {
    const NO_APPLICATION_PROTOCOL: u64 = 120;
    on_tokio(async {
        let identity = support::identity();
        let server = support::server(&identity).bind(any_port()).unwrap();
        let quinn = foreign::client_with(&identity, |tls| tls.alpn_protocols = vec![b"other".to_vec()]);
        let refused = quinn.connect(server.local_addr().unwrap(), "localhost").unwrap().await.unwrap_err();
        assert_eq!(code(&refused), CRYPTO_ERRORS + NO_APPLICATION_PROTOCOL);
    });
}
