//! Who is believed, who is refused, and what each side learns of it.

mod support;

use std::{
    env, fs,
    future::{self, Future},
    path::PathBuf,
    process::Command,
};

use futures::{
    StreamExt,
    channel::{mpsc, oneshot},
    future::{Either, select},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use sendstream::{
    BindError, CertificateRefusal, CipherSuite, Client, ClientAuth, ConfigError, ConnectError, Connection,
    ConnectionError, Identity, PeerCertificate, Server, TransportConfig, Trust,
};
use support::{Endpoints, TIMEOUT, accept, any_port, run, tell};

/// A private authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self(CertifiedIssuer::self_signed(Self::parameters("authority"), KeyPair::generate().unwrap()).unwrap())
    }

    /// An authority that this one vouches for.
    fn intermediate(&self) -> Self {
        let pair = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(Self::parameters("intermediate"), pair, &self.0).unwrap())
    }

    fn parameters(name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters
    }

    fn trust(&self) -> Trust {
        Trust::ca_der([self.0.der().clone()]).unwrap()
    }

    fn issue(&self, name: &str) -> Identity {
        self.issue_with(name, |_| ())
    }

    fn issue_with(&self, name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> Identity {
        self.issue_beside(name, &[], adjust)
    }

    /// An identity that shows `issuers` as well, which are in PEM.
    fn issue_beside(&self, name: &str, issuers: &[String], adjust: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        adjust(&mut parameters);
        let pair = KeyPair::generate().unwrap();
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        let certificate = parameters.signed_by(&pair, issuer).unwrap();
        Identity::from_pem(certificate.pem() + &issuers.concat(), pair.serialize_pem()).unwrap()
    }
}

/// A server and a client, and what became of one connection between them.
struct Meeting {
    server: Server,
    client: Client,
    connected: Result<Connection, ConnectError>,
    accepted: Result<Connection, ConnectionError>,
}

impl Meeting {
    /// The client asks for `name`.
    async fn of(server: Server, client: Client, name: &str) -> Self {
        let address = server.local_addr().unwrap();
        let (connected, accepted) = futures::join!(client.connect(address, name), accept(&server));
        Self { server, client, connected, accepted }
    }

    /// The server shows a certificate for `localhost`, and asks for `auth`.
    async fn with_client(auth: ClientAuth, identity: Option<Identity>) -> Self {
        let own = support::identity();
        let mut client = support::client(&own);
        if let Some(identity) = identity {
            client = client.identity(identity);
        }
        Self::of(server(&own, auth), client.build().unwrap(), "localhost").await
    }

    /// The server asks for no certificate.
    async fn with_server(identity: Identity, trust: Trust, name: &str) -> Self {
        Self::of(server(&identity, ClientAuth::None), client(trust), name).await
    }

    /// Each side may use these suites.
    async fn with_suites(servers: &[CipherSuite], clients: &[CipherSuite]) -> Self {
        let identity = support::identity();
        let server = support::server(&identity).cipher_suites(servers.iter().copied());
        let client = support::client(&identity).cipher_suites(clients.iter().copied());
        Self::of(server.bind(any_port()).unwrap(), client.build().unwrap(), "localhost").await
    }

    async fn accepted(self) {
        let (connected, accepted) = (self.connected.unwrap(), self.accepted.unwrap());
        tell(&connected, &accepted, "hello").await;
        drop((connected, accepted));
        end(self.server, self.client).await;
    }

    /// The client refused the server: why, and the alert that the server got.
    async fn refused_by_client(self) -> (CertificateRefusal, u8) {
        let refusal = match self.connected {
            Err(ConnectError::Connection(ConnectionError::CertificateRefused(refusal))) => refusal,
            other => panic!("{other:?}"),
        };
        let Err(ConnectionError::Tls { alert, .. }) = self.accepted else { panic!("{:?}", self.accepted) };
        end(self.server, self.client).await;
        (refusal, alert)
    }

    /// The server refused the client: why, and the alert that the client got.
    async fn refused_by_server(self) -> (CertificateRefusal, u8) {
        let Err(ConnectionError::CertificateRefused(refusal)) = self.accepted else { panic!("{:?}", self.accepted) };
        let error = match self.connected {
            // A client is done with the handshake before it is judged. What it sends goes nowhere:
            // the server has no connection that could give it to anybody, and does not acknowledge
            // it.
            Ok(connection) => {
                if let Ok(mut stream) = connection.open_uni() {
                    drop(stream.finish_with("for nobody"));
                    assert!(stream.finished().await.is_err());
                }
                connection.closed().await
            }
            Err(ConnectError::Connection(error)) => error,
            Err(error) => panic!("{error}"),
        };
        let ConnectionError::Tls { alert, .. } = error else { panic!("{error}") };
        end(self.server, self.client).await;
        (refusal, alert)
    }
}

fn server(identity: &Identity, auth: ClientAuth) -> Server {
    support::server(identity).client_auth(auth).bind(any_port()).unwrap()
}

fn client(trust: Trust) -> Client {
    support::client_with(trust).build().unwrap()
}

/// Waits until no native handle is left.
async fn end(server: Server, client: Client) {
    server.shutdown().await;
    client.wait_idle().await;
}

/// Who is asked about, and where the answer goes.
type Question = (PeerCertificate, oneshot::Sender<Result<(), CertificateRefusal>>);

/// `trust` with a verifier that takes its time: until the question is answered.
fn thinking(trust: Trust) -> (Trust, mpsc::UnboundedReceiver<Question>) {
    let (ask, questions) = mpsc::unbounded();
    let trust = trust.verify_with(move |peer| {
        let (answer, answered) = oneshot::channel();
        ask.unbounded_send((peer, answer)).unwrap();
        async { answered.await.unwrap() }
    });
    (trust, questions)
}

/// A server that takes its time over the client's certificate.
struct Thoughtful {
    server: Server,
    client: Client,
    questions: mpsc::UnboundedReceiver<Question>,
}

impl Thoughtful {
    fn new() -> Self {
        let authority = Authority::new();
        let (trust, questions) = thinking(authority.trust());
        let server = server(&authority.issue("localhost"), ClientAuth::Required(trust));
        let client = support::client_with(authority.trust()).identity(authority.issue("somebody"));
        Self { server, client: client.build().unwrap(), questions }
    }
}

/// The question, which comes before `others` are done.
async fn asked(others: impl Future + Unpin, questions: &mut mpsc::UnboundedReceiver<Question>) -> Question {
    match select(others, questions.next()).await {
        Either::Right((question, _)) => question.unwrap(),
        Either::Left(_) => panic!("nobody was asked"),
    }
}

/// A client's connection, which it has before the server has judged.
async fn early(server: &Server, client: &Client, accepting: &mut (impl Future + Unpin)) -> Connection {
    let connecting = Box::pin(client.connect(server.local_addr().unwrap(), "localhost"));
    match select(connecting, accepting).await {
        Either::Left((connected, _)) => connected.unwrap(),
        Either::Right(_) => panic!("accepted before it was judged"),
    }
}

/// MsQuic's workers serve connections in turn: when these are done, what had arrived before them
/// has been dealt with.
async fn others_come_and_go() {
    let endpoints = Endpoints::new();
    for _ in 0..20 {
        let (client, server) = endpoints.connect().await;
        tell(&client, &server, "hello").await;
    }
    endpoints.end().await;
}

/// Runs the rest of `test` in a process of its own, for which the system's roots are those in a
/// file that nobody has written yet.
fn with_system_roots(test: &str, rest: impl FnOnce(PathBuf)) {
    const ROOTS: &str = "SENDSTREAM_TEST_ROOTS";
    if let Some(roots) = env::var_os(ROOTS) {
        return rest(roots.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test])
        .env("SSL_CERT_DIR", folder.path())
        .env("SSL_CERT_FILE", &roots)
        .env(ROOTS, &roots)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

fn no() -> CertificateRefusal {
    CertificateRefusal::by_verifier("not today")
}

#[test]
fn either_side_chooses_the_cipher_suites_that_it_may_use() {
    use CipherSuite::{Aes128GcmSha256, Aes256GcmSha384, ChaCha20Poly1305Sha256};
    run(async {
        let all = [Aes128GcmSha256, Aes256GcmSha384, ChaCha20Poly1305Sha256];
        for only in all {
            for (servers, clients) in [(&all[..], &[only][..]), (&[only], &all), (&[only], &[only])] {
                let meeting = Meeting::with_suites(servers, clients).await;
                let (client, server) = (meeting.connected.as_ref().unwrap(), meeting.accepted.as_ref().unwrap());
                assert_eq!(client.handshake_info().unwrap().cipher_suite, only, "{servers:?} {clients:?}");
                assert_eq!(server.handshake_info().unwrap().cipher_suite, only, "{servers:?} {clients:?}");
                meeting.accepted().await;
            }
        }
    });
}

#[test]
fn sides_without_a_common_cipher_suite_do_not_meet() {
    run(async {
        let meeting =
            Meeting::with_suites(&[CipherSuite::Aes256GcmSha384], &[CipherSuite::ChaCha20Poly1305Sha256]).await;
        let error = meeting.connected.unwrap_err();
        assert!(matches!(error, ConnectError::Connection(ConnectionError::Tls { alert: 40, .. })), "{error:?}");
        assert!(meeting.accepted.is_err());
        end(meeting.server, meeting.client).await;
    });
}

#[test]
fn an_empty_set_of_cipher_suites_is_refused() {
    let error = support::server(&support::identity()).cipher_suites([]).bind(any_port()).unwrap_err();
    assert!(matches!(error, BindError::Config(ConfigError::NoCipherSuite)), "{error}");
    let error = Client::builder().alpn(["test"]).cipher_suites([]).build().unwrap_err();
    assert!(matches!(error, ConfigError::NoCipherSuite), "{error}");
}

#[test]
fn with_mutual_tls_each_side_knows_the_other() {
    run(async {
        let authority = Authority::new();
        let (own, theirs) = (authority.issue("localhost"), authority.issue("somebody"));
        let server = server(&own, ClientAuth::Required(authority.trust()));
        let client = support::client_with(authority.trust()).identity(theirs.clone()).build().unwrap();
        let meeting = Meeting::of(server, client, "localhost").await;
        let of_client = meeting.accepted.as_ref().unwrap().peer_identity().unwrap();
        let of_server = meeting.connected.as_ref().unwrap().peer_identity().unwrap();
        assert_eq!(of_client.certificate(), theirs.certificate());
        assert_eq!(of_client.certificate_sha256(), theirs.certificate_sha256());
        assert_eq!(of_server.chain(), [own.certificate().clone()]);
        meeting.accepted().await;
    });
}

/// The edit `tls-on-aws-lc`: what this system trusts is added
/// neither to what is sent nor to what came.
#[test]
fn each_side_shows_the_certificates_of_its_identity_and_no_others() {
    with_system_roots("each_side_shows_the_certificates_of_its_identity_and_no_others", |roots| {
        run(async move {
            let root = Authority::new();
            fs::write(roots, root.0.pem()).unwrap();
            let intermediate = root.intermediate();
            for issuers in [vec![], vec![intermediate.0.pem()], vec![intermediate.0.pem(), root.0.pem()]] {
                let issuer = if issuers.is_empty() { &root } else { &intermediate };
                let [own, theirs] = ["localhost", "somebody"].map(|name| issuer.issue_beside(name, &issuers, |_| ()));
                let server = server(&own, ClientAuth::Required(root.trust()));
                let client = support::client_with(root.trust()).identity(theirs.clone()).build().unwrap();
                let meeting = Meeting::of(server, client, "localhost").await;
                let of_client = meeting.accepted.as_ref().unwrap().peer_identity().unwrap();
                let of_server = meeting.connected.as_ref().unwrap().peer_identity().unwrap();
                for (shown, identity) in [(of_client, theirs), (of_server, own)] {
                    let all = [identity.certificate(), intermediate.0.der(), root.0.der()];
                    assert!(
                        shown.chain().iter().eq(all[..=issuers.len()].iter().copied()),
                        "{} issuers",
                        issuers.len()
                    );
                }
                meeting.accepted().await;
            }
        });
    });
}

/// The edit `tls-on-aws-lc`: which of them lead to a root only [`Trust`] can say.
#[test]
fn an_issuer_may_have_a_second_certificate_which_is_the_trusted_one() {
    run(async {
        let (root, other) = (Authority::new(), Authority::new());
        let first = other.intermediate();
        let second = Authority::parameters("intermediate").signed_by(first.0.key(), &root.0).unwrap();
        for issuers in [[first.0.pem(), second.pem()], [second.pem(), first.0.pem()]] {
            let identity = first.issue_beside("localhost", &issuers, |_| ());
            for trust in [root.trust(), other.trust()] {
                Meeting::with_server(identity.clone(), trust, "localhost").await.accepted().await;
            }
        }
    });
}

/// A stranger cannot make a server check the signatures of as many issuers as fit into a handshake.
#[test]
fn the_first_eight_issuers_that_a_peer_shows_count() {
    run(async {
        let (root, other) = (Authority::new(), Authority::new());
        let intermediate = root.intermediate();
        for (others, is_believed) in [(7, true), (8, false)] {
            // They have the name of the issuer that is looked for, and of the root, but other keys.
            let strangers = (0..others).map(|_| other.intermediate().0.pem());
            let issuers: Vec<_> = strangers.chain([intermediate.0.pem()]).collect();
            let identity = intermediate.issue_beside("somebody", &issuers, |_| ());
            let meeting = Meeting::with_client(ClientAuth::Required(root.trust()), Some(identity)).await;
            if is_believed {
                let shown = meeting.accepted.as_ref().unwrap().peer_identity().unwrap();
                assert_eq!(shown.chain().len(), 1 + issuers.len());
                meeting.accepted().await;
            } else {
                let (refusal, _) = meeting.refused_by_server().await;
                assert!(matches!(refusal, CertificateRefusal::ForeignSignature), "{refusal:?}");
            }
        }
    });
}

/// The edit `tls-on-aws-lc`.
#[test]
#[cfg(target_os = "linux")]
fn a_client_and_a_server_read_no_roots_that_nobody_needs() {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    if !support::has_edit("tls-on-aws-lc") {
        eprintln!("SKIPPED: MsQuic is built without the edit");
        return;
    }
    with_system_roots("a_client_and_a_server_read_no_roots_that_nobody_needs", |roots| {
        fs::write(&roots, Authority::new().0.pem()).unwrap();
        let opened = inotify::init(CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&opened, &roots, WatchFlags::OPEN).unwrap();
        let is_opened = || rustix::io::read(&opened, &mut [0; 256]).is_ok();
        run(async {
            let authority = Authority::new();
            for auth in [ClientAuth::None, ClientAuth::Required(authority.trust())] {
                let server = server(&authority.issue("localhost"), auth);
                let client = support::client_with(authority.trust()).identity(authority.issue("somebody"));
                Meeting::of(server, client.build().unwrap(), "localhost").await.accepted().await;
            }
        });
        assert!(!is_opened());
        client(Trust::system());
        assert!(is_opened(), "who reads them would have been seen");
    });
}

#[test]
fn a_missing_certificate_is_refused_where_one_is_required() {
    run(async {
        for trust in [Authority::new().trust(), Trust::dangerous_accept_any_certificate()] {
            let meeting = Meeting::with_client(ClientAuth::Required(trust), None).await;
            assert_eq!(meeting.refused_by_server().await, (CertificateRefusal::NoCertificate, 116));
        }
    });
}

#[test]
fn an_optional_certificate_may_be_missing() {
    run(async {
        let (trust, mut questions) = thinking(Authority::new().trust());
        let meeting = Meeting::with_client(ClientAuth::Optional(trust), None).await;
        assert_eq!(meeting.accepted.as_ref().unwrap().peer_identity(), None);
        meeting.accepted().await;
        assert!(questions.next().await.is_none(), "nobody to ask about");
    });
}

#[test]
fn an_optional_certificate_counts_where_there_is_one() {
    run(async {
        let authority = Authority::new();
        let identity = authority.issue("somebody");
        let meeting = Meeting::with_client(ClientAuth::Optional(authority.trust()), Some(identity.clone())).await;
        let peer = meeting.accepted.as_ref().unwrap().peer_identity().unwrap();
        assert_eq!(peer.certificate(), identity.certificate());
        meeting.accepted().await;
    });
}

#[test]
fn a_client_that_is_not_believed_is_refused_also_where_none_is_required() {
    run(async {
        let authority = Authority::new();
        for auth in [ClientAuth::Optional(authority.trust()), ClientAuth::Required(authority.trust())] {
            let stranger = Identity::self_signed(["somebody"]).unwrap();
            let refused = Meeting::with_client(auth.clone(), Some(stranger)).await.refused_by_server().await;
            assert_eq!(refused, (CertificateRefusal::UnknownIssuer, 48));

            let expired = authority.issue_with("somebody", |parameters| {
                parameters.not_after = date_time_ymd(2001, 1, 1);
            });
            let refused = Meeting::with_client(auth.clone(), Some(expired)).await.refused_by_server().await;
            assert_eq!(refused, (CertificateRefusal::Expired, 45));

            let for_servers = authority.issue_with("somebody", |parameters| {
                parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            });
            let refused = Meeting::with_client(auth, Some(for_servers)).await.refused_by_server().await;
            assert!(matches!(refused, (CertificateRefusal::WrongUsage { .. }, 42)), "{refused:?}");
        }
        let pinned = ClientAuth::Required(Trust::pinned([authority.issue("a").certificate_sha256()]));
        let refused = Meeting::with_client(pinned, Some(authority.issue("b"))).await.refused_by_server().await;
        assert!(matches!(refused, (CertificateRefusal::NotPinned { .. }, 46)), "{refused:?}");
    });
}

#[test]
fn nobody_is_asked_unless_the_server_says_so() {
    run(async {
        let identity = Identity::self_signed(["somebody"]).unwrap();
        let meeting = Meeting::with_client(ClientAuth::None, Some(identity)).await;
        assert_eq!(meeting.accepted.as_ref().unwrap().peer_identity(), None);
        meeting.accepted().await;
    });
}

#[test]
fn a_client_that_believes_anyone_still_learns_whom() {
    run(async {
        let identity = Identity::self_signed(["elsewhere"]).unwrap();
        let trust = Trust::dangerous_accept_any_certificate();
        let meeting = Meeting::with_server(identity.clone(), trust, "localhost").await;
        let peer = meeting.connected.as_ref().unwrap().peer_identity().unwrap();
        assert_eq!(peer.certificate_sha256(), identity.certificate_sha256());
        meeting.accepted().await;
    });
}

#[test]
fn a_server_that_is_not_believed_is_refused_with_the_reason() {
    run(async {
        let (authority, other) = (Authority::new(), Authority::new());
        let mismatch = |name: &str, certified: &str| CertificateRefusal::NameMismatch {
            name: name.to_owned(),
            certified: vec![certified.to_owned()],
        };
        let expired = authority.issue_with("localhost", |parameters| {
            parameters.not_after = date_time_ymd(2001, 1, 1);
        });
        let future = authority.issue_with("localhost", |parameters| {
            parameters.not_before = date_time_ymd(3000, 1, 1);
        });
        let self_signed = Identity::self_signed(["localhost"]).unwrap();
        let actual = self_signed.certificate_sha256();
        let actual_key = self_signed.public_key_sha256();
        let by = |authority: &Authority, name: &str| authority.issue(name);
        for (identity, trust, name, refusal, alert) in [
            (by(&authority, "server.test"), authority.trust(), "localhost", mismatch("localhost", "server.test"), 42),
            (by(&authority, "localhost"), authority.trust(), "127.0.0.1", mismatch("127.0.0.1", "localhost"), 42),
            (by(&authority, "127.0.0.2"), authority.trust(), "127.0.0.1", mismatch("127.0.0.1", "127.0.0.2"), 42),
            (by(&authority, "127.0.0.1"), authority.trust(), "localhost", mismatch("localhost", "127.0.0.1"), 42),
            (by(&authority, "2001:db8::2"), authority.trust(), "::1", mismatch("::1", "2001:db8::2"), 42),
            (expired, authority.trust(), "localhost", CertificateRefusal::Expired, 45),
            (future, authority.trust(), "localhost", CertificateRefusal::NotYetValid, 45),
            (self_signed.clone(), authority.trust(), "localhost", CertificateRefusal::UnknownIssuer, 48),
            (self_signed.clone(), Trust::system(), "localhost", CertificateRefusal::UnknownIssuer, 48),
            (by(&authority, "localhost"), Trust::system(), "localhost", CertificateRefusal::UnknownIssuer, 48),
            (self_signed.clone(), Trust::pinned([[7; 32]]), "localhost", CertificateRefusal::NotPinned { actual }, 46),
            (
                self_signed,
                Trust::pinned_keys([[7; 32]]),
                "localhost",
                CertificateRefusal::KeyNotPinned { actual: actual_key },
                46,
            ),
        ] {
            let told = format!("{name}: {refusal}");
            let refused = Meeting::with_server(identity, trust, name).await.refused_by_client().await;
            assert_eq!(refused, (refusal, alert), "{told}");
        }
        // Both authorities have the same name, so it is the signature that is wrong.
        let meeting = Meeting::with_server(other.issue("localhost"), authority.trust(), "localhost").await;
        let refused = meeting.refused_by_client().await;
        assert!(matches!(refused, (CertificateRefusal::ForeignSignature | CertificateRefusal::UnknownIssuer, _)));
        assert_eq!(refused.1, refused.0.alert());
    });
}

#[test]
fn a_server_is_believed_under_the_name_or_address_of_its_certificate() {
    run(async {
        let authority = Authority::new();
        for (certified, name) in
            [("localhost", "LOCALHOST"), ("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("*.server.test", "a.server.test")]
        {
            Meeting::with_server(authority.issue(certified), authority.trust(), name).await.accepted().await;
        }
    });
}

#[test]
fn a_pinned_key_is_believed_on_either_side() {
    run(async {
        let identity = Identity::self_signed(["elsewhere"]).unwrap();
        let trust = Trust::pinned_keys([identity.public_key_sha256()]);
        let meeting = Meeting::with_server(identity.clone(), trust.clone(), "localhost").await;
        let peer = meeting.connected.as_ref().unwrap().peer_identity().unwrap();
        assert_eq!(peer.public_key_sha256(), Some(identity.public_key_sha256()));
        meeting.accepted().await;
        Meeting::with_client(ClientAuth::Required(trust.clone()), Some(identity)).await.accepted().await;
        let other = Identity::self_signed(["elsewhere"]).unwrap();
        let refusal = CertificateRefusal::KeyNotPinned { actual: other.public_key_sha256() };
        let refused = Meeting::with_client(ClientAuth::Required(trust), Some(other)).await.refused_by_server().await;
        assert_eq!(refused, (refusal, 46));
    });
}

#[test]
fn a_verifier_hears_what_the_trust_says_and_may_add_to_it() {
    run(async {
        let authority = Authority::new();
        let trust = authority.trust().verify_with(|peer| {
            assert_eq!(peer.server_name(), Some("localhost"));
            future::ready(peer.verified())
        });
        Meeting::with_server(authority.issue("localhost"), trust.clone(), "localhost").await.accepted().await;
        let stranger = support::identity();
        let refused = Meeting::with_server(stranger, trust, "localhost").await.refused_by_client().await;
        assert_eq!(refused, (CertificateRefusal::UnknownIssuer, 48));
    });
}

#[test]
fn a_verifier_may_replace_what_the_trust_says() {
    run(async {
        let identity = Identity::self_signed(["elsewhere"]).unwrap();
        let hash = identity.certificate_sha256();
        let trust = Authority::new().trust().verify_with(move |peer| async move {
            assert_eq!(peer.verified(), Err(CertificateRefusal::UnknownIssuer));
            if peer.identity().certificate_sha256() == hash { Ok(()) } else { Err(no()) }
        });
        Meeting::with_server(identity, trust, "localhost").await.accepted().await;
    });
}

#[test]
fn a_verifier_refuses_with_its_own_words_and_alert() {
    run(async {
        let identity = support::identity();
        let revoked = CertificateRefusal::ByVerifier { alert: 44, reason: "revoked".to_owned() };
        for (refusal, alert) in [(revoked, 44), (no(), 46)] {
            let pinned = support::pinned(&identity);
            let answer = refusal.clone();
            let trust = pinned.verify_with(move |_| future::ready(Err(answer.clone())));
            let refused = Meeting::with_server(identity.clone(), trust.clone(), "localhost").await;
            assert_eq!(refused.refused_by_client().await, (refusal.clone(), alert));
            let refused = Meeting::with_client(ClientAuth::Optional(trust), Some(identity.clone())).await;
            assert_eq!(refused.refused_by_server().await, (refusal, alert));
        }
    });
}

#[test]
fn a_verifier_that_panics_refuses() {
    run(async {
        let identity = support::identity();
        let pinned = || support::pinned(&identity);
        let at_once = |_| -> future::Ready<Result<(), CertificateRefusal>> { panic!("on purpose") };
        for trust in [pinned().verify_with(at_once), pinned().verify_with(|_| async { panic!("on purpose") })] {
            let refused = Meeting::with_server(identity.clone(), trust.clone(), "localhost").await;
            assert_eq!(refused.refused_by_client().await, (CertificateRefusal::VerifierPanicked, 80));
            let refused = Meeting::with_client(ClientAuth::Required(trust), Some(identity.clone())).await;
            assert_eq!(refused.refused_by_server().await, (CertificateRefusal::VerifierPanicked, 80));
        }
    });
}

#[test]
fn a_client_waits_for_its_verifier() {
    run(async {
        let authority = Authority::new();
        for answer in [Ok(()), Err(no())] {
            let (trust, mut questions) = thinking(authority.trust());
            let meeting = Meeting::with_server(authority.issue("localhost"), trust, "localhost");
            let mut meeting = Box::pin(meeting);
            let (_, say) = asked(&mut meeting, &mut questions).await;
            say.send(answer.clone()).unwrap();
            let meeting = meeting.await;
            match answer {
                Ok(()) => meeting.accepted().await,
                Err(refusal) => assert_eq!(meeting.refused_by_client().await, (refusal, 46)),
            }
        }
    });
}

#[test]
fn what_a_client_sends_while_the_server_thinks_waits_for_the_answer() {
    run(async {
        for answer in [Ok(()), Err(no())] {
            let Thoughtful { server, client, mut questions } = Thoughtful::new();
            let mut accepting = Box::pin(accept(&server));
            let connection = early(&server, &client, &mut accepting).await;
            let mut stream = connection.open_uni().unwrap();
            drop(stream.finish_with("early"));
            let (peer, say) = asked(&mut accepting, &mut questions).await;
            assert_eq!((peer.server_name(), peer.verified()), (None, Ok(())));
            while connection.stats().await.unwrap().sent.stream_bytes < 5 {}
            others_come_and_go().await;
            assert!(futures::poll!(&mut accepting).is_pending(), "not before the answer");
            say.send(answer.clone()).unwrap();
            match (accepting.await, answer) {
                (Ok(accepted), Ok(())) => {
                    let early = accepted.accept_uni().await.unwrap().read_to_end(16).await.unwrap();
                    assert_eq!(early, b"early");
                }
                (Err(ConnectionError::CertificateRefused(refusal)), Err(answer)) => {
                    assert_eq!(refusal, answer);
                    let error = connection.closed().await;
                    assert!(matches!(error, ConnectionError::Tls { alert: 46, .. }), "{error}");
                    assert!(stream.finished().await.is_err(), "refused, so never acknowledged");
                }
                other => panic!("{other:?}"),
            }
            drop((stream, connection));
            end(server, client).await;
        }
    });
}

#[test]
fn a_client_given_up_while_it_thinks_lets_go_of_its_verifier() {
    run(async {
        let authority = Authority::new();
        let (trust, mut questions) = thinking(authority.trust());
        let (server, client) = (server(&authority.issue("localhost"), ClientAuth::None), client(trust));
        let mut accepting = Box::pin(accept(&server));
        let mut connecting = Box::pin(client.connect(server.local_addr().unwrap(), "localhost"));
        let (_, mut say) = asked(select(&mut accepting, &mut connecting), &mut questions).await;
        drop(connecting);
        say.cancellation().await;
        assert_eq!(say.send(Ok(())), Err(Ok(())), "nobody listens");
        client.wait_idle().await;
        let error = accepting.await.unwrap_err();
        assert!(!matches!(error, ConnectionError::LocallyClosed { .. }), "{error}");
        end(server, client).await;
    });
}

#[test]
fn a_server_gone_while_the_client_thinks_is_told_and_the_verifier_let_go() {
    run(async {
        let authority = Authority::new();
        let (trust, mut questions) = thinking(authority.trust());
        let (server, client) = (server(&authority.issue("localhost"), ClientAuth::None), client(trust));
        let mut accepting = Box::pin(accept(&server));
        let mut connecting = Box::pin(client.connect(server.local_addr().unwrap(), "localhost"));
        let (_, mut say) = asked(select(&mut accepting, &mut connecting), &mut questions).await;
        // This gives the server's connection up, in the middle of the handshake.
        drop(accepting);
        let (connected, ()) = futures::join!(connecting, say.cancellation());
        let error = connected.unwrap_err();
        assert!(matches!(error, ConnectError::Connection(_)), "{error}");
        end(server, client).await;
    });
}

#[test]
fn a_client_gone_while_the_server_thinks_is_told_and_the_verifier_let_go() {
    run(async {
        let Thoughtful { server, client, mut questions } = Thoughtful::new();
        let mut accepting = Box::pin(accept(&server));
        let connected = early(&server, &client, &mut accepting).await;
        let (_, mut say) = asked(&mut accepting, &mut questions).await;
        connected.close(7, "").unwrap();
        let (accepted, ()) = futures::join!(accepting, say.cancellation());
        let error = accepted.unwrap_err();
        assert!(!matches!(error, ConnectionError::LocallyClosed { .. }), "{error}");
        drop(connected);
        end(server, client).await;
    });
}

#[test]
fn a_server_that_gives_up_while_it_thinks_lets_go_of_its_verifier() {
    run(async {
        let Thoughtful { server, client, mut questions } = Thoughtful::new();
        let mut accepting = Box::pin(accept(&server));
        let connected = early(&server, &client, &mut accepting).await;
        let (_, mut say) = asked(&mut accepting, &mut questions).await;
        drop(accepting);
        say.cancellation().await;
        connected.closed().await;
        drop(connected);
        end(server, client).await;
    });
}

#[test]
fn a_verifier_that_never_answers_is_let_go_with_the_handshake() {
    run(async {
        let authority = Authority::new();
        let (trust, mut questions) = thinking(authority.trust());
        let transport = TransportConfig::default().handshake_timeout(TIMEOUT);
        let server =
            support::server(&authority.issue("localhost")).transport(transport.clone()).bind(any_port()).unwrap();
        let client = support::client_with(trust).transport(transport).build().unwrap();
        let let_go = async { questions.next().await.unwrap().1.cancellation().await };
        let (meeting, ()) = futures::join!(Meeting::of(server, client, "localhost"), let_go);
        let error = meeting.connected.unwrap_err();
        // Whichever side's timeout is first ends it.
        let ConnectError::Connection(error) = error else { panic!("{error}") };
        assert!(matches!(error, ConnectionError::TimedOut(_) | ConnectionError::TransportClosed { .. }), "{error}");
        end(meeting.server, meeting.client).await;
    });
}

#[test]
fn a_new_identity_is_for_new_connections_and_old_ones_stay() {
    run(async {
        let authority = Authority::new();
        let (old, new) = (authority.issue("localhost"), authority.issue("localhost"));
        let server = server(&old, ClientAuth::Optional(authority.trust()));
        let client = support::client_with(authority.trust()).identity(authority.issue("me")).build().unwrap();
        let shown = |meeting: &Meeting| meeting.connected.as_ref().unwrap().peer_identity().unwrap();
        let first = Meeting::of(server, client, "localhost").await;
        assert_eq!(shown(&first).certificate(), old.certificate());
        first.server.set_identity(new.clone()).unwrap();

        let Meeting { server, client, connected: old_client, accepted: old_server } = first;
        let second = Meeting::of(server, client, "localhost").await;
        assert_eq!(shown(&second).certificate(), new.certificate());
        assert!(second.accepted.as_ref().unwrap().peer_identity().is_some(), "clients are asked as before");

        let (old_client, old_server) = (old_client.unwrap(), old_server.unwrap());
        tell(&old_client, &old_server, "still here").await;
        drop((old_client, old_server));
        second.accepted().await;
    });
}
