//! What a user reads when something does not fit: the words, and what to do.

mod support;

use std::time::Duration;

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sendstream::{
    BindError, ClientAuth, ConfigError, ConnectError, Connection, ConnectionError, Identity, Timeout, TransportConfig,
    Trust,
};
use support::{
    Endpoints, any_port, on_tokio,
    relay::{Faults, Relay},
    run,
};

/// Certificates and keys of `tests/data`.
macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("data/", $name, ".pem"))
    };
}

/// What becomes of a connection to a server with this identity, and what its server says.
async fn meet(
    identity: Identity,
    trust: Trust,
) -> (Result<Connection, ConnectError>, Result<Connection, ConnectionError>) {
    let server = support::server(&identity).bind(any_port()).unwrap();
    let client = support::client_with(trust).build().unwrap();
    let connecting = client.connect(server.local_addr().unwrap(), "localhost");
    let ends = futures::join!(connecting, support::accept(&server));
    // A client that refuses the server may be connected for the server.
    if let (Err(_), Ok(accepted)) = &ends {
        accepted.closed().await;
    }
    ends
}

fn both(pem: &str) -> Identity {
    Identity::from_pem(pem, pem).unwrap()
}

/// What a client that believes `authority` says of a server with this certificate.
async fn refusal(pem: &str, authority: &str) -> String {
    let (connected, _) = meet(both(pem), Trust::ca_pem(authority).unwrap()).await;
    connected.unwrap_err().to_string()
}

/// A CA with a new key, under the name that each of them has.
fn authority() -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(parameters, rcgen::KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn a_client_whose_protocols_the_server_lacks_is_told_its_own() {
    run(async {
        let identity = support::identity();
        let server = support::server(&identity).alpn(["theirs"]).bind(any_port()).unwrap();
        let client = support::client(&identity).alpn(["ours", "o\u{1b}lder"]).build().unwrap();
        let error = client.connect(server.local_addr().unwrap(), "localhost").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "TLS failed with alert no_application_protocol (120): the peer has none of this side's application \
             protocols, [ours, o\\u{1b}lder]; give both sides the same with `.alpn(..)`"
        );
        let ConnectError::Connection(ConnectionError::Tls { protocols: Some(protocols), .. }) = error else {
            panic!("{error}")
        };
        assert_eq!(protocols.ours, [b"ours".to_vec(), b"o\x1blder".to_vec()]);
        assert_eq!(protocols.peers, None);
    });
}

#[test]
fn a_server_that_accepts_with_other_protocols_is_told_both_lists() {
    run(async {
        let identity = support::identity();
        let server = support::server(&identity).alpn(["one"]).bind(any_port()).unwrap();
        let other = support::server(&identity).alpn(["two", "three"]).build().unwrap();
        let client = support::client(&identity).alpn(["one", "four"]).build().unwrap();
        let accepting = async { server.accept().await.unwrap().accept_with(&other).await };
        let (connected, accepted) =
            futures::join!(client.connect(server.local_addr().unwrap(), "localhost"), accepting);
        assert_eq!(
            accepted.unwrap_err().to_string(),
            "TLS failed with alert no_application_protocol (120): no application protocol in common: this side has \
             [two, three], the peer offers [one, four]; give both sides the same with `.alpn(..)`"
        );
        let error = connected.unwrap_err().to_string();
        assert!(error.contains("this side's application protocols, [one, four]"), "{error}");
    });
}

#[test]
fn a_handshake_that_nobody_answers_names_its_timeout() {
    run(async {
        let silent = std::net::UdpSocket::bind(any_port()).unwrap();
        let transport = TransportConfig::default().handshake_timeout(Duration::from_millis(200));
        let client = support::client(&support::identity()).transport(transport).build().unwrap();
        let error = client.connect(silent.local_addr().unwrap(), "localhost").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "timed out: the handshake was not done within `handshake_timeout`; check that the peer runs there and \
             accepts, and that UDP gets through in both directions"
        );
    });
}

/// What ends a client's connection with these settings once its path is silent.
async fn silenced(transport: TransportConfig) -> ConnectionError {
    let endpoints = Endpoints::with(transport, TransportConfig::default());
    let relay = Relay::start(endpoints.address, Faults::none());
    let (connection, accepted) = endpoints.connect_through(relay.address()).await;
    relay.cut();
    let mut stream = connection.open_uni().unwrap();
    let sending = stream.send("nobody gets this");
    let cause = connection.closed().await;
    assert!(sending.await.is_err());
    accepted.close(0, "").unwrap();
    cause
}

#[test]
fn a_silent_peer_names_the_idle_timeout() {
    run(async {
        let cause = silenced(TransportConfig::default().idle_timeout(Duration::from_secs(1))).await;
        assert_eq!(cause, ConnectionError::TimedOut(Timeout::Idle));
        assert_eq!(
            cause.to_string(),
            "timed out: no packet came from the peer for `idle_timeout`, of which the shorter of both sides' counts; \
             `keep_alive` holds a silent connection up"
        );
    });
}

#[test]
fn a_peer_that_acknowledges_nothing_names_the_disconnect_timeout() {
    run(async {
        let transport = TransportConfig::default().idle_timeout(None).disconnect_timeout(Duration::from_secs(1));
        let cause = silenced(transport).await;
        assert_eq!(cause, ConnectionError::TimedOut(Timeout::Disconnect));
        assert_eq!(
            cause.to_string(),
            "timed out: the peer acknowledged nothing for `disconnect_timeout`, though data or a `keep_alive` was \
             sent; it is gone, or the network between failed"
        );
    });
}

#[test]
fn a_keep_alive_that_comes_too_late_is_refused_when_built() {
    let seconds = Duration::from_secs;
    for (keep_alive, idle) in [(30, 30), (31, 30), (1, 1)] {
        let transport = TransportConfig::default().keep_alive(seconds(keep_alive)).idle_timeout(seconds(idle));
        let server = support::server(&support::identity()).transport(transport.clone());
        let BindError::Config(error) = server.bind(any_port()).unwrap_err() else { panic!("no error of the settings") };
        assert_eq!(
            error.to_string(),
            format!(
                "`keep_alive` is {keep_alive}s and `idle_timeout` {idle}s; give a keep-alive of less than half of the \
                 idle timeout"
            )
        );
        let error = support::client(&support::identity()).transport(transport).build().unwrap_err();
        assert!(matches!(error, ConfigError::KeepAliveTooLong { .. }), "{error}");
    }
    for (keep_alive, idle) in [(29, Some(30)), (3000, None)] {
        let transport = TransportConfig::default().keep_alive(seconds(keep_alive)).idle_timeout(idle.map(seconds));
        support::client(&support::identity()).transport(transport).build().unwrap();
    }
}

#[test]
fn a_certificate_without_names_says_how_to_make_one() {
    run(async {
        assert_eq!(
            refusal(data!("without_names"), data!("ca")).await,
            "the peer is not believed: the server's certificate has no subject alternative name, and a common name \
             does not count; make one with `-addext subjectAltName=DNS:localhost`, or `Trust::pinned` its hash"
        );
    });
}

#[test]
fn a_certificate_for_another_purpose_says_which_it_lacks() {
    run(async {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth, rcgen::ExtendedKeyUsagePurpose::CodeSigning];
        let issuer = authority();
        let pair = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&pair, &issuer).unwrap();
        let for_clients = Identity::from_pem(certificate.pem(), pair.serialize_pem()).unwrap();
        let trust = Trust::ca_der([issuer.der().clone()]).unwrap();
        let (connected, _) = meet(for_clients, trust.clone()).await;
        assert_eq!(
            connected.unwrap_err().to_string(),
            "the peer is not believed: the peer's certificate is not meant for a server but for [clientAuth, \
             codeSigning]; issue it with `extendedKeyUsage=serverAuth`, or without any"
        );

        // The same, the other way round.
        parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.signed_by(&pair, &issuer).unwrap();
        let for_servers = Identity::from_pem(certificate.pem(), pair.serialize_pem()).unwrap();
        let own = support::identity();
        let server = support::server(&own).client_auth(ClientAuth::Required(trust)).bind(any_port()).unwrap();
        let client = support::client(&own).identity(for_servers).build().unwrap();
        let connecting = client.connect(server.local_addr().unwrap(), "localhost");
        let (connected, accepted) = futures::join!(connecting, support::accept(&server));
        assert_eq!(
            accepted.unwrap_err().to_string(),
            "the peer is not believed: the peer's certificate is not meant for a client but for [serverAuth]; issue it \
             with `extendedKeyUsage=clientAuth`, or without any"
        );
        let error = match connected {
            Ok(connection) => connection.closed().await,
            Err(ConnectError::Connection(error)) => error,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(
            error.to_string(),
            "TLS failed with alert bad_certificate (42): the peer does not take this side's certificate; its own log \
             may say why"
        );
    });
}

#[test]
fn a_certificate_of_version_1_says_how_to_issue_another() {
    run(async {
        assert_eq!(
            refusal(data!("version_1"), data!("ca")).await,
            "the peer is not believed: the peer's certificate, or an issuer's, is of X.509 version 1, as `openssl x509 \
             -req` makes it without extensions; issue it with `-copy_extensions copy` or `-extfile FILE`, or \
             `Trust::pinned` its hash"
        );
        // As it says.
        let identity = both(data!("version_1"));
        let pin = Trust::pinned([identity.certificate_sha256()]);
        let (connected, accepted) = meet(identity, pin).await;
        drop((connected.unwrap(), accepted.unwrap()));
    });
}

#[test]
fn an_authority_that_was_made_anew_under_its_name_is_guessed() {
    run(async {
        let (before, anew) = (authority(), authority());
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &anew).unwrap();
        let identity = Identity::from_pem(certificate.pem(), key.serialize_pem()).unwrap();
        let (connected, _) = meet(identity.clone(), Trust::ca_der([before.der().clone()]).unwrap()).await;
        assert_eq!(
            connected.unwrap_err().to_string(),
            "the peer is not believed: the peer's certificate, or an issuer's, is signed by another key than that of \
             the CA of the same name in the trust; was the CA made anew? Then give `Trust::ca_pem` its present \
             certificate"
        );
        // Both are believed while the machines change over.
        let both = Trust::ca_der([before.der().clone(), anew.der().clone()]).unwrap();
        let (connected, accepted) = meet(identity, both).await;
        drop((connected.unwrap(), accepted.unwrap()));
    });
}

#[test]
fn a_p521_key_of_an_authority_says_which_to_take() {
    run(async {
        assert_eq!(
            Trust::ca_pem(data!("p521_ca")).unwrap_err().to_string(),
            "the CA has a kind of key that is not supported, such as P-521; give it a P-256, P-384 or Ed25519 key, or \
             RSA of 2048 bits or more, or pin its peers with `Trust::pinned`"
        );
        // One of several is no reason not to believe the others.
        let bundle = [data!("p521_ca"), data!("ca")].concat();
        assert_eq!(
            refusal(data!("issued_by_p521"), &bundle).await,
            "the peer is not believed: the peer's certificate, or an issuer's, is signed by a kind of key or with a \
             hash that is not supported, such as P-521 or SHA-1; give the CA a P-256, P-384 or Ed25519 key, or RSA of \
             2048 bits or more, or `Trust::pinned` the peer's hash"
        );
        let identity = both(data!("issued_by_p521"));
        let pin = Trust::pinned([identity.certificate_sha256()]);
        let (connected, accepted) = meet(identity, pin).await;
        drop((connected.unwrap(), accepted.unwrap()));
    });
}

#[test]
fn a_p521_key_of_a_peer_is_taken_and_a_client_that_takes_none_says_so() {
    run(async {
        let (connected, accepted) = meet(both(data!("p521")), Trust::ca_pem(data!("ca")).unwrap()).await;
        drop((connected.unwrap(), accepted.unwrap()));
    });
    // quinn's cryptography has no P-521.
    on_tokio(async {
        let server = support::server(&both(data!("p521"))).bind(any_port()).unwrap();
        let client = support::foreign::client(&support::identity());
        let connecting = client.connect(server.local_addr().unwrap(), "localhost").unwrap();
        let (connected, accepted) = futures::join!(connecting, support::accept(&server));
        connected.unwrap_err();
        assert_eq!(
            accepted.unwrap_err().to_string(),
            "TLS failed with alert handshake_failure (40): the sides have no cipher suite or kind of signature in common; \
             a server's P-521 key is one that few clients take, and a P-256 key all"
        );
    });
}

#[test]
fn what_was_mixed_up_is_named() {
    let (cert, key) = (support::identity(), data!("p521"));
    drop(cert);
    let split = key.find("-----BEGIN EC").unwrap();
    let (cert, key) = key.split_at(split);
    let error = |cert: &[u8], key: &[u8]| Identity::from_pem(cert, key).unwrap_err().to_string();
    let swapped = "certificate and key are swapped; give the certificate first, and then its private key";
    assert_eq!(error(key.as_bytes(), cert.as_bytes()), swapped);
    assert_eq!(Identity::from_pem_encrypted(key, cert, "secret").unwrap_err().to_string(), swapped);
    let der = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
    assert_eq!(
        error(&der, key.as_bytes()),
        "this is DER and not PEM; give it to `Identity::from_der`, or convert it with `openssl x509 -inform DER` or \
         `openssl pkey -inform DER`"
    );
    assert_eq!(
        Trust::ca_pem(&der).unwrap_err().to_string(),
        "this is DER and not PEM; give it to `Trust::ca_der`, or convert it with `openssl x509 -inform DER`"
    );
    assert_eq!(
        Trust::ca_pem(key).unwrap_err().to_string(),
        "this is a private key, which stays with the CA; give the CA's certificate"
    );
}

#[test]
fn a_connection_its_server_and_its_client_are_shown_in_one_line() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.connect().await;
        assert_eq!(
            format!("{client:?}"),
            format!("Connection {{ side: Client, remote: {}, server_name: localhost, alpn: test }}", endpoints.address)
        );
        assert_eq!(
            format!("{:?}", endpoints.server),
            format!("Server {{ addresses: [{}], listening: true, waiting: 0, open: 1 }}", endpoints.address)
        );
        let shown = format!("{:?}", endpoints.client);
        assert!(shown.starts_with("Client { trust: ") && shown.ends_with(", open: 1, .. }"), "{shown}");
        client.close(7, "done").unwrap();
        server.closed().await;
        let shown = format!("{server:?}");
        assert!(shown.starts_with("Connection { side: Server, remote: 127.0.0.1:"), "{shown}");
        let end = "server_name: localhost, ended: closed by the peer's application with code 7: done }";
        assert!(shown.ends_with(end), "{shown}");
        drop((client, server));
        endpoints.end().await;
    });
}

/// Each public error is one of `io::Error`'s kinds, and is found in it.
#[test]
fn every_error_becomes_one_of_the_systems() {
    use std::io::{Error, ErrorKind};
    let kind = |error: Error| {
        assert!(error.get_ref().is_some(), "the error itself is lost: {error:?}");
        error.kind()
    };
    let fits = |error: Error, expected: ErrorKind| assert_eq!(kind(error), expected);
    let idle = || ConnectionError::TimedOut(Timeout::Idle);
    fits(idle().into(), ErrorKind::TimedOut);
    fits(sendstream::OpenError::ConnectionLost(idle()).into(), ErrorKind::TimedOut);
    fits(sendstream::OpenError::ConnectionEnding.into(), ErrorKind::NotConnected);
    fits(sendstream::StartError::LimitReached.into(), ErrorKind::QuotaExceeded);
    fits(sendstream::StartError::ConnectionLost(idle()).into(), ErrorKind::TimedOut);
    fits(sendstream::WriteError::Stopped(1).into(), ErrorKind::ConnectionReset);
    fits(sendstream::ReadError::Reset(1).into(), ErrorKind::ConnectionReset);
    fits(sendstream::ReadToEndError::TooLong { limit: 1 }.into(), ErrorKind::FileTooLarge);
    fits(sendstream::ReadExactError::FinishedEarly(1).into(), ErrorKind::UnexpectedEof);
    fits(sendstream::SendDatagramError::UnsupportedByPeer.into(), ErrorKind::Unsupported);
    fits(sendstream::RebindError::NotTheClient.into(), ErrorKind::Unsupported);
    fits(sendstream::RebindError::ConnectionLost(idle()).into(), ErrorKind::TimedOut);
    fits(ConnectError::InvalidServerName.into(), ErrorKind::InvalidInput);
    fits(BindError::Stopped.into(), ErrorKind::NotConnected);
    fits(BindError::Config(ConfigError::EmptyAlpn).into(), ErrorKind::InvalidInput);
    fits(ConfigError::NoIdentity.into(), ErrorKind::InvalidInput);
    fits(ConfigError::Forked.into(), ErrorKind::Unsupported);
    fits(sendstream::IdentityError::Swapped.into(), ErrorKind::InvalidData);
    fits(Identity::from_files("/nowhere", "/nowhere").unwrap_err().into(), ErrorKind::NotFound);
    fits(sendstream::TrustError::NoCertificate.into(), ErrorKind::InvalidData);
    fits(sendstream::CertificateRefusal::UnknownIssuer.into(), ErrorKind::PermissionDenied);
    fits(sendstream::WorkerTaskError::Canceled.into(), ErrorKind::Interrupted);
    fits(sendstream::CodeOutOfRange(1 << 62).into(), ErrorKind::InvalidInput);
    fits(sendstream::SystemError::OutOfMemory.into(), ErrorKind::OutOfMemory);
    fits(sendstream::ExportError::TooLong.into(), ErrorKind::InvalidInput);
    fits("x".parse::<sendstream::CertificateHash>().unwrap_err().into(), ErrorKind::InvalidInput);
    fits("x".parse::<sendstream::PublicKeyHash>().unwrap_err().into(), ErrorKind::InvalidInput);
}
