//! Sessions between a client and a server of this crate, and peers that break the rules.

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use sendstream::{Client, Connection, ConnectionError, Identity, SendDatagramError, Server, TransportConfig, Trust};
use sendstream_web_transport::{
    ALPN, ConnectRequest, HandshakeError, RecvError, Request, SendError, Session, SessionError, accept, connect,
    http::{HeaderName, HeaderValue, StatusCode},
    trait_::{Error as _, RecvStream as _, SendStream as _, Session as _},
};
use web_transport_proto::{ConnectResponse, Frame, Settings, StreamUni, VarInt};

/// A server, and a client that trusts it.
struct Endpoints {
    server: Server,
    client: Client,
    trust: Trust,
    address: SocketAddr,
}

impl Endpoints {
    fn new() -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let trust = Trust::pinned([identity.certificate_sha256()]);
        let any = "127.0.0.1:0".parse().unwrap();
        let server = Server::builder().identity(identity).alpn([ALPN]).bind(any).unwrap();
        let client = Client::builder().alpn([ALPN]).trust(trust.clone()).build().unwrap();
        let address = server.local_addr().unwrap();
        Self { server, client, trust, address }
    }

    async fn connect(&self) -> (Connection, Connection) {
        let (client, server) = tokio::join!(self.client.connect(self.address, "localhost"), async {
            self.server.accept().await.unwrap().accept().await
        });
        (client.unwrap(), server.unwrap())
    }

    /// A session, and the same on the server's side.
    async fn session(&self) -> (Session, Session) {
        let (client, server) = self.connect().await;
        let (client, server) = tokio::join!(connect(client, request()), async { accept(server).await?.ok().await });
        (client.unwrap(), server.unwrap())
    }
}

fn request() -> ConnectRequest {
    ConnectRequest::new("https://localhost/chat?room=1".parse::<sendstream_web_transport::Url>().unwrap())
}

/// Runs a test, which must not hang.
fn run(test: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let test = tokio::spawn(test);
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("it hangs").unwrap();
    });
}

/// What a stream of the peer's brings, to its end.
async fn read_all(stream: &mut impl sendstream_web_transport::trait_::RecvStream) -> Bytes {
    stream.read_all().await.unwrap()
}

/// Code that knows the trait alone: sends `data` on each kind of stream, and as datagrams.
async fn exchange<S: sendstream_web_transport::trait_::Session>(from: &S, to: &S, data: &Bytes) {
    let sends = async {
        let (mut uni, (mut send, mut recv)) = (from.open_uni().await.unwrap(), from.open_bi().await.unwrap());
        uni.set_priority(5);
        uni.write_chunk(data.clone()).await.unwrap();
        uni.finish().unwrap();
        send.write_all(data).await.unwrap();
        send.finish().unwrap();
        assert!(read_all(&mut recv).await == data);
        tokio::try_join!(uni.closed(), send.closed()).unwrap();
        recv.closed().await.unwrap();
    };
    let receives = async {
        let mut accepted = to.accept_uni().await.unwrap();
        assert!(read_all(&mut accepted).await == data);
        let (mut answer, mut question) = to.accept_bi().await.unwrap();
        let question = read_all(&mut question).await;
        assert!(question == data);
        answer.write_chunk(question).await.unwrap();
        answer.finish().unwrap();
        answer.closed().await.unwrap();
    };
    tokio::join!(sends, receives);
}

#[test]
fn streams_of_both_kinds_go_both_ways() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.session().await;
        for length in [0, 1, 100_000, 3 << 20] {
            let data = Bytes::from_iter((0..length).map(|index: u32| index as u8));
            exchange(&client, &server, &data).await;
            exchange(&server, &client, &data).await;
        }
    });
}

#[test]
fn datagrams_go_both_ways_up_to_their_size() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.session().await;
        for (from, to) in [(&client, &server), (&server, &client)] {
            let largest = from.max_datagram_size();
            assert!(largest > 1000);
            for length in [0, 1, largest] {
                from.send_datagram(vec![7; length].into()).unwrap();
                assert!(to.recv_datagram().await.unwrap() == vec![7; length]);
            }
            // The path may turn out to carry more meanwhile.
            let error = from.send_datagram(vec![7; 1500].into()).unwrap_err();
            let SessionError::Datagram(SendDatagramError::TooLarge { max }) = error else { panic!("{error:?}") };
            assert!((largest..1500).contains(&max), "{max}");
        }
    });
}

#[test]
fn code_and_reason_are_seen_on_both_sides_whoever_closes() {
    run(async {
        let endpoints = Endpoints::new();
        for closes in [false, true] {
            let (client, server) = endpoints.session().await;
            let (closer, other) = if closes { (client, server) } else { (server, client) };
            let mut stream = other.open_uni().await.unwrap();
            closer.close(u32::MAX, "enough, ü");
            closer.close(1, "too late");
            let told = Some((u32::MAX, "enough, ü".to_owned()));
            let (here, there) = tokio::join!(closer.closed(), other.closed());
            assert!(matches!(here, SessionError::ClosedHere { .. }) && here.session_error() == told, "{here:?}");
            assert!(matches!(there, SessionError::Closed { .. }) && there.session_error() == told, "{there:?}");
            assert_eq!(other.accept_uni().await.unwrap_err(), there);
            assert_eq!(other.accept_bi().await.unwrap_err(), there);
            assert_eq!(other.open_uni().await.unwrap_err(), there);
            assert_eq!(other.recv_datagram().await.unwrap_err(), there);
            assert_eq!(other.send_datagram(Bytes::new()).unwrap_err(), there);
            assert_eq!(closer.open_bi().await.unwrap_err(), here);
            // The stream ends with the session, and says so.
            other.connection().closed().await;
            assert_eq!(stream.write_all(b"late").await, Err(SendError::Session(there)));
        }
    });
}

#[test]
fn the_last_handle_that_is_dropped_closes_the_session() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.session().await;
        let clone = client.clone();
        drop(client);
        exchange(&clone, &server, &Bytes::from_static(b"still here")).await;
        drop(clone);
        assert_eq!(server.closed().await.session_error(), Some((0, String::new())));
    });
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.session().await;
        client.close(3, &"ü€".repeat(500));
        let (_, reason) = server.closed().await.session_error().unwrap();
        assert!(reason.len() <= 1024 && reason.len() > 1020 && "ü€".repeat(500).starts_with(&reason));
    });
}

#[test]
fn codes_of_streams_reach_the_other_side() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.session().await;
        for (code, told) in [(Some(7), 7), (None, 0)] {
            // A stream that is dropped unfinished never looks complete.
            let mut stream = client.open_uni().await.unwrap();
            stream.write_all(b"cut off").await.unwrap();
            let mut accepted = server.accept_uni().await.unwrap();
            match code {
                Some(code) => stream.reset(code),
                None => drop(stream),
            }
            let error = accepted.closed().await.unwrap_err();
            assert_eq!((error.stream_error(), error), (Some(told), RecvError::Reset(Some(told))));
        }
        for (code, told) in [(Some(u32::MAX), u32::MAX), (None, 0)] {
            let (mut send, _recv) = client.open_bi().await.unwrap();
            let (_answer, mut accepted) = server.accept_bi().await.unwrap();
            match code {
                Some(code) => accepted.stop(code),
                None => drop(accepted),
            }
            let error = send.closed().await.unwrap_err();
            assert_eq!((error.stream_error(), error), (Some(told), SendError::Stopped(Some(told))));
        }
    });
}

#[test]
fn a_stream_is_read_in_pieces_of_any_size() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.session().await;
        let mut stream = client.open_uni().await.unwrap();
        stream.write_all(b"hello, world").await.unwrap();
        stream.finish().unwrap();
        assert_eq!(stream.write_all(b"more").await, Err(SendError::Finished));
        let mut accepted = server.accept_uni().await.unwrap();
        assert_eq!(accepted.read_chunk(0).await.unwrap().unwrap(), "");
        assert_eq!(accepted.read_chunk(3).await.unwrap().unwrap(), "hel");
        let mut two = [0; 2];
        assert_eq!((accepted.read(&mut two).await, two), (Ok(Some(2)), *b"lo"));
        assert_eq!(read_all(&mut accepted).await, ", world");
        assert_eq!(accepted.read_chunk(9).await, Ok(None));
    });
}

/// A request that waits for its answer, and what the client will have of it.
async fn asked(
    endpoints: &Endpoints,
    request: ConnectRequest,
) -> (tokio::task::JoinHandle<Result<Session, HandshakeError>>, Request) {
    let (client, server) = endpoints.connect().await;
    let client = tokio::spawn(connect(client, request));
    (client, accept(server).await.unwrap())
}

#[test]
fn a_server_sees_the_request_and_chooses_a_subprotocol() {
    run(async {
        let endpoints = Endpoints::new();
        let origin = (HeaderName::from_static("origin"), HeaderValue::from_static("https://example.org"));
        let offer = request().with_header(origin.0, origin.1).with_protocol("chat-2").with_protocol("chat-1");
        let (client, request) = asked(&endpoints, offer.clone()).await;
        assert_eq!((request.url().path(), request.url().query()), ("/chat", Some("room=1")));
        assert_eq!(request.headers()["origin"], "https://example.org");
        assert_eq!(request.protocols(), ["chat-2", "chat-1"]);
        let server = request.ok_with_protocol("chat-1").await.unwrap();
        let client = client.await.unwrap().unwrap();
        assert_eq!((client.protocol(), server.protocol()), (Some("chat-1"), Some("chat-1")));

        let (client, request) = asked(&endpoints, offer).await;
        let error = request.ok_with_protocol("chat-3").await.unwrap_err();
        assert!(matches!(error, HandshakeError::WrongProtocol), "{error}");
        let error = client.await.unwrap().unwrap_err();
        assert!(matches!(error, HandshakeError::Refused(StatusCode::INTERNAL_SERVER_ERROR)), "{error}");
    });
}

#[test]
fn a_refused_request_has_its_status() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, request) = asked(&endpoints, request()).await;
        // A client that has its answer may be gone before it has acknowledged it.
        let told = request.reject(StatusCode::NOT_FOUND).await;
        assert!(matches!(told, Ok(()) | Err(HandshakeError::Session(SessionError::ConnectionLost(_)))), "{told:?}");
        let error = client.await.unwrap().unwrap_err();
        assert!(matches!(error, HandshakeError::Refused(StatusCode::NOT_FOUND)), "{error}");
    });
}

#[test]
fn a_request_that_cannot_be_written_is_an_error_of_the_caller() {
    run(async {
        let endpoints = Endpoints::new();
        let (unprintable, long) = (request().with_protocol("\u{1}"), request().with_protocol("x".repeat(20_000)));
        for request in [unprintable, long, with_user()] {
            let (client, _server) = endpoints.connect().await;
            let error = connect(client, request).await.unwrap_err();
            assert!(matches!(error, HandshakeError::Invalid(_)), "{error}");
        }
    });
}

/// The settings of a peer that speaks WebTransport, after the type of its control stream.
fn settings() -> Vec<u8> {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    let mut bytes = Vec::new();
    settings.encode(&mut bytes);
    bytes
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    numbers.iter().for_each(|number| VarInt::from_u64(*number).unwrap().encode(&mut bytes));
    bytes
}

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = numbers(&[kind, payload.len() as u64]);
    bytes.extend(payload);
    bytes
}

fn asking() -> Vec<u8> {
    let mut bytes = Vec::new();
    request().encode(&mut bytes).unwrap();
    bytes
}

/// A request that no client may send.
fn with_user() -> ConnectRequest {
    ConnectRequest::new("https://localhost@evil.example/".parse::<sendstream_web_transport::Url>().unwrap())
}

/// The close of a session in a DATA frame.
fn close(code: u32, reason: &[u8]) -> Vec<u8> {
    frame(0, &frame(0x2843, &[&code.to_be_bytes()[..], reason].concat()))
}

/// A close of three bytes, which no data that follows makes longer.
fn short_close_and_data() -> Vec<u8> {
    let data = frame(0, &[0; 60_000]);
    [frame(0, &frame(0x2843, &[0; 3])), data.repeat(170)].concat()
}

/// What a client without manners sends.
enum Step {
    /// These bytes on a unidirectional stream of their own.
    Uni(Vec<u8>),
    /// The same, and its end.
    UniFin(Vec<u8>),
    /// These bytes on a bidirectional stream of their own.
    Bi(Vec<u8>),
    /// These on the CONNECT stream, which is the last bidirectional one.
    More(Vec<u8>),
    /// The end of that.
    Fin,
}

use Step::{Bi, Fin, More, Uni, UniFin};

/// A peer's offences, and the code that its connection is closed with.
fn offences() -> Vec<(&'static str, Vec<Step>, u64)> {
    let session = |then: Step| vec![Uni(settings()), Bi(asking()), then];
    vec![
        ("a push stream", vec![Uni(numbers(&[1, 0]))], 0x103),
        ("a control stream without settings", vec![Uni([numbers(&[0]), frame(7, &[0])].concat())], 0x10a),
        ("a control stream that ends at once", vec![UniFin(numbers(&[0]))], 0x104),
        ("settings that end half-way", vec![UniFin([numbers(&[0, 4, 9]), vec![8]].concat())], 0x104),
        ("a setting without a value", vec![Uni([numbers(&[0]), frame(4, &[8])].concat())], 0x106),
        ("settings of a gigabyte", vec![Uni(numbers(&[0, 4, 1 << 30]))], 0x107),
        ("two control streams", vec![Uni(settings()), Uni(settings())], 0x103),
        ("two control streams, and no settings", vec![Uni(numbers(&[0])), Uni(numbers(&[0]))], 0x103),
        ("another frame before settings, and not its payload", vec![Uni(numbers(&[0, 7, 60_000]))], 0x10a),
        ("data before the request, and not its payload", vec![Bi(numbers(&[0, 60_000]))], 0x105),
        ("data before the request", vec![Uni(settings()), Bi(frame(0, b"x"))], 0x105),
        ("settings in place of a request", vec![Uni(settings()), Bi(frame(4, b""))], 0x105),
        ("fields that refer to a dynamic table", vec![Uni(settings()), Bi(frame(1, &[2, 0, 0x80]))], 0x200),
        ("a third control stream, late", session(Uni(settings())), 0x103),
        ("data on the control stream", vec![Uni([settings(), frame(0, b"x")].concat()), Bi(asking())], 0x105),
        ("settings twice", vec![Uni([settings(), frame(4, b"")].concat()), Bi(asking())], 0x105),
        ("a control stream that ends", vec![UniFin(settings()), Bi(asking())], 0x104),
        ("a QPACK stream that ends", session(UniFin(numbers(&[2]))), 0x104),
        ("two QPACK encoders", vec![Uni(numbers(&[2])), Uni(settings()), Bi(asking()), Uni(numbers(&[2]))], 0x103),
        ("a reason that is no text", session(More(close(1, b"\xff"))), 0x10e),
        ("a reason of 1025 bytes", session(More(close(1, &[b'x'; 1025]))), 0x10e),
        ("a capsule of a megabyte", session(More(frame(0, &numbers(&[0x2843, 1 << 20])))), 0x107),
        ("a close without a whole code, and more and more data", session(More(short_close_and_data())), 0x10e),
        ("a frame of a gigabyte", session(More(numbers(&[0, 1 << 30]))), 0x107),
        (
            "a capsule that ends half-way",
            {
                let half = close(1, b"half of it")[..9].to_vec();
                vec![Uni(settings()), Bi(asking()), More(half), Fin]
            },
            0x10e,
        ),
    ]
}

#[test]
fn who_breaks_the_rules_ends_its_own_connection_with_the_code_for_it() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.session().await;
        for (name, steps, code) in offences() {
            let (offender, connection) = endpoints.connect().await;
            let serving = tokio::spawn(async move {
                match accept(connection).await?.ok().await {
                    Ok(session) => Err::<(), _>(session.closed().await.into()),
                    Err(error) => Err(error),
                }
            });
            let (mut unis, mut bis) = (Vec::new(), Vec::new());
            for step in steps {
                // What cannot be sent any more came too late to matter.
                match step {
                    Uni(bytes) | UniFin(bytes) if bytes.is_empty() => unreachable!("a stream needs a byte"),
                    Uni(bytes) => {
                        let Ok(mut uni) = offender.open_uni() else { continue };
                        drop(uni.send(bytes));
                        unis.push(uni);
                    }
                    UniFin(bytes) => {
                        let Ok(mut uni) = offender.open_uni() else { continue };
                        drop(uni.finish_with(bytes));
                        unis.push(uni);
                    }
                    Bi(bytes) => {
                        let Ok((mut send, recv)) = offender.open_bi() else { continue };
                        drop(send.send(bytes));
                        bis.push((send, recv));
                    }
                    More(bytes) => drop(bis.last_mut().unwrap().0.send(bytes)),
                    Fin => drop(bis.last_mut().unwrap().0.finish()),
                }
            }
            let closed = offender.closed().await;
            let told = matches!(closed, ConnectionError::ApplicationClosed { code: told, .. } if told == code);
            assert!(told, "{name}: {closed:?} in place of {code:#x}");
            let seen = serving.await.unwrap().unwrap_err();
            let broken = matches!(
                &seen,
                HandshakeError::Session(SessionError::Protocol { code: seen, .. }) if *seen == code
            );
            assert!(broken, "{name}: {seen:?}");
        }
        exchange(&client, &server, &Bytes::from_static(b"nobody else was touched")).await;
    });
}

/// A session whose client sends what it likes: its connection, its CONNECT stream and control stream.
async fn raw_session(endpoints: &Endpoints) -> (Connection, sendstream::SendStream, sendstream::SendStream, Session) {
    let (client, server) = endpoints.connect().await;
    let mut control = client.open_uni().unwrap();
    drop(control.send(settings()));
    let (mut send, mut recv) = client.open_bi().unwrap();
    drop(send.send(asking()));
    let session = accept(server).await.unwrap().ok().await.unwrap();
    ConnectResponse::read(&mut recv).await.unwrap();
    // Until the session ends, nobody reads on.
    tokio::spawn(async move { recv.received_reset().await });
    (client, send, control, session)
}

#[test]
fn what_is_not_known_is_passed_over() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, mut connect, mut control, session) = raw_session(&endpoints).await;
        // Frames and capsules of types that are reserved, or to come; an empty frame.
        drop(control.send(frame(0x21, &[0; 70_000])));
        drop(control.send(frame(7, &[0])));
        drop(connect.send([frame(0x21, b"grease"), frame(0, b""), frame(0, &frame(0x17, b"grease"))].concat()));
        drop(connect.send(frame(0, &frame(0x190b_4d3d, &[9]))));
        // Streams of no known type are not wanted; a type that never comes holds up nobody.
        let mut unknown = client.open_uni().unwrap();
        drop(unknown.send(numbers(&[0x21])));
        assert_eq!(unknown.stopped().await, Ok(Some(0x103)));
        let mut half = client.open_uni().unwrap();
        drop(half.send(vec![0x40]));
        let mut empty = client.open_uni().unwrap();
        empty.finished().await.unwrap();
        // Neither are streams of other sessions, nor datagrams of other sessions or of none.
        let mut other = client.open_uni().unwrap();
        drop(other.send(numbers(&[StreamUni::WEBTRANSPORT.0.into_inner(), 4])));
        assert_eq!(other.stopped().await, Ok(Some(0x3994_bd84)));
        let (mut other, recv) = client.open_bi().unwrap();
        drop(other.send(numbers(&[Frame::WEBTRANSPORT.0.into_inner(), 4])));
        assert_eq!(recv.received_reset().await, Ok(Some(0x3994_bd84)));
        let (mut second, recv) = client.open_bi().unwrap();
        drop(second.send(asking()));
        assert_eq!(recv.received_reset().await, Ok(Some(0x10b)), "one session a connection");
        drop((
            client.send_datagram(Vec::<u8>::new()),
            client.send_datagram(numbers(&[1])),
            client.send_datagram(vec![0x80]),
        ));
        drop(client.send_datagram([numbers(&[0]), b"ours".to_vec()].concat()));
        assert_eq!(session.recv_datagram().await.unwrap(), "ours");
        // The session lives.
        let mut ours = client.open_uni().unwrap();
        drop(ours.finish_with([numbers(&[0x54, 0]), b"ours".to_vec()].concat()));
        assert_eq!(read_all(&mut session.accept_uni().await.unwrap()).await, "ours");
        // An end without a code is code 0.
        drop(connect.finish());
        assert_eq!(session.closed().await.session_error(), Some((0, String::new())));
        drop((half, control));
    });
}

#[test]
fn a_request_for_anything_else_is_answered_and_another_may_follow() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.connect().await;
        let serving = tokio::spawn(async move { accept(server).await.unwrap().ok().await.unwrap() });
        let mut control = client.open_uni().unwrap();
        drop(control.send(settings()));
        // GET https / of the static table, with the authority "x" (RFC 9204, appendix A).
        let get = frame(1, &[0, 0, 0xd1, 0xd7, 0xc1, 0x50, 1, b'x']);
        let (mut send, mut recv) = client.open_bi().unwrap();
        drop(send.send(get));
        let error = ConnectResponse::read(&mut recv).await.unwrap_err();
        let status = StatusCode::NOT_IMPLEMENTED;
        let refused = sendstream_web_transport::ConnectError::WrongStatus(Some(status)).to_string();
        assert_eq!(error.to_string(), refused);
        // A request that ends early is reset, and nothing else happens.
        let (mut half, recv) = client.open_bi().unwrap();
        drop(half.finish_with(asking()[..5].to_vec()));
        assert_eq!(recv.received_reset().await, Ok(Some(0x10d)));
        // One whose authority and path make another host is malformed.
        let (mut user, recv) = client.open_bi().unwrap();
        let mut bytes = Vec::new();
        with_user().encode(&mut bytes).unwrap();
        drop(user.send(bytes));
        assert_eq!(recv.received_reset().await, Ok(Some(0x10e)));
        let (mut large, recv) = client.open_bi().unwrap();
        drop(large.send(numbers(&[1, 20_000])));
        assert_eq!(recv.received_reset().await, Ok(Some(0x107)));
        // Streams of the session may come before its request.
        let mut early = client.open_uni().unwrap();
        drop(early.finish_with([numbers(&[0x54, 16]), b"early".to_vec()].concat()));
        early.acked().await.unwrap();
        let (mut send, mut recv) = client.open_bi().unwrap();
        drop(send.send(asking()));
        ConnectResponse::read(&mut recv).await.unwrap();
        let session = serving.await.unwrap();
        assert_eq!(read_all(&mut session.accept_uni().await.unwrap()).await, "early");
    });
}

#[test]
fn a_reset_request_and_a_lost_connection_end_the_session() {
    run(async {
        let endpoints = Endpoints::new();
        let (_client, mut connect, _control, session) = raw_session(&endpoints).await;
        connect.abort(0x10c).unwrap();
        assert_eq!(session.closed().await.to_string(), "reset by the peer with the HTTP/3 code 0x10c");

        let (client, _connect, _control, session) = raw_session(&endpoints).await;
        // Peers that close the connection in place of the session.
        client.close(0x52e4_a40f_a8db + 9, "bye").unwrap();
        let end = session.closed().await;
        assert!(matches!(end, SessionError::ConnectionLost(ConnectionError::ApplicationClosed { .. })), "{end:?}");
        assert_eq!(end.session_error(), Some((9, "bye".to_owned())));
        assert_eq!(session.accept_uni().await.unwrap_err(), end);
    });
}

#[test]
fn a_peer_that_does_not_take_the_end_keeps_no_connection() {
    run(async {
        let endpoints = Endpoints::new();
        let (closing, _connect, _control, session) = raw_session(&endpoints).await;
        session.close(7, "enough");
        // Neither of the clients ends its CONNECT stream, nor closes the connection.
        let (dropping, _connect, _control, dropped) = raw_session(&endpoints).await;
        drop(dropped);
        // These two give no room for the answer.
        let (rejecting, request, _kept) = stuffed(&endpoints).await;
        let rejected = tokio::spawn(request.reject(StatusCode::NOT_FOUND));
        let (forgetting, request, _kept_too) = stuffed(&endpoints).await;
        drop(request);

        let error = rejected.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the client did not take the answer");
        for (name, answer) in [("rejected", rejecting), ("forgotten", forgetting)] {
            assert_eq!(answer.received_reset().await, Ok(Some(0x10c)), "{name}");
        }
        for (name, client) in [("closed", closing), ("dropped", dropping)] {
            let closed = client.closed().await;
            let told = matches!(closed, ConnectionError::ApplicationClosed { code: 0x100, .. });
            assert!(told, "{name}: {closed:?}");
        }
    });
}

/// A request whose answer has no room in the connection's window, the stream for that answer, and what
/// keeps it so.
async fn stuffed(endpoints: &Endpoints) -> (sendstream::RecvStream, Request, impl Sized) {
    let small = TransportConfig::default().stream_receive_window(4096).connection_flow_control_window(4096);
    let client = Client::builder().alpn([ALPN]).trust(endpoints.trust.clone()).transport(small).build().unwrap();
    let (connection, server) = tokio::join!(client.connect(endpoints.address, "localhost"), async {
        endpoints.server.accept().await.unwrap().accept().await
    });
    let connection = connection.unwrap();
    let mut control = connection.open_uni().unwrap();
    drop(control.send(settings()));
    let (mut connect, answer) = connection.open_bi().unwrap();
    drop(connect.send(asking()));
    let request = accept(server.unwrap()).await.unwrap();
    // Nobody reads it.
    let mut stuffing = request.connection().open_uni().unwrap();
    drop(stuffing.send(vec![0; 1 << 20]));
    (answer, request, (client, connection, control, connect, stuffing))
}

#[test]
fn a_session_ends_with_the_runtime_that_it_began_on() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, request) = asked(&endpoints, request()).await;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let session = runtime.spawn(request.ok()).await.unwrap().unwrap();
        let client = client.await.unwrap().unwrap();
        runtime.shutdown_background();
        let end = session.closed().await;
        assert_eq!(end, SessionError::Other("the task of the session is gone".to_owned()));
        assert_eq!(session.accept_uni().await.unwrap_err(), end);
        assert!(matches!(client.closed().await, SessionError::ConnectionLost(_)));
    });
}

#[test]
fn streams_that_nobody_accepts_hold_up_nothing_but_their_kind() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.session().await;
        let mut opened = Vec::new();
        for _ in 0..200 {
            let mut stream = client.open_uni().await.unwrap();
            stream.write_all(b"wait").await.unwrap();
            stream.finish().unwrap();
            opened.push(stream);
        }
        let (mut send, _recv) = client.open_bi().await.unwrap();
        send.write_all(b"now").await.unwrap();
        send.finish().unwrap();
        assert_eq!(read_all(&mut server.accept_bi().await.unwrap().1).await, "now");
        client.send_datagram(Bytes::from_static(b"now")).unwrap();
        assert_eq!(server.recv_datagram().await.unwrap(), "now");
        for _ in 0..200 {
            assert_eq!(read_all(&mut server.accept_uni().await.unwrap()).await, "wait");
        }
        client.close(5, "");
        assert_eq!(server.closed().await.session_error(), Some((5, String::new())));
    });
}

#[test]
fn a_peer_without_webtransport_is_told_apart() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.connect().await;
        let mut control = server.open_uni().unwrap();
        drop(control.send([numbers(&[0]), frame(4, &numbers(&[6, 1000]))].concat()));
        let error = connect(client, request()).await.unwrap_err();
        assert!(matches!(error, HandshakeError::Unsupported), "{error}");
    });
}
