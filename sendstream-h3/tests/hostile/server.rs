//! Hostile clients, and what our server says to each.

use Expected::{Closed, Fine, Reset, Status, Stopped};
use Sent::*;
use axum::{Router, body::Body, routing};
use h3::error::Code as C;
use http_body_util::BodyExt as _;
use sendstream::{Identity, Server};

use crate::{
    raw::{self, Sent, Streams, within},
    wire::{self, *},
};

/// What must come of it.
#[derive(Debug, Clone)]
enum Expected {
    /// The connection is closed.
    Closed(C),
    /// The response's stream is reset.
    Reset(C),
    /// The last unidirectional stream is to be stopped, and the connection goes on.
    Stopped(C),
    /// A response, and the connection goes on.
    Status(u16),
    /// A response with status 200 and this body, and the connection goes on.
    Fine(&'static str),
}

struct Case {
    name: &'static str,
    sent: Vec<Sent>,
    expected: Expected,
}

fn case(name: &'static str, sent: impl Into<Vec<Sent>>, expected: Expected) -> Case {
    Case { name, sent: sent.into(), expected }
}

/// The bytes of a request's stream, which goes on.
fn request<const N: usize>(frames: [Vec<u8>; N]) -> Vec<Sent> {
    vec![Message(frames.concat())]
}

/// The bytes of a whole request's stream.
fn whole<const N: usize>(frames: [Vec<u8>; N]) -> Vec<Sent> {
    vec![Message(frames.concat()), EndOfMessage]
}

/// A GET of `/` with further fields.
fn get_with(lines: &[&[u8]]) -> Vec<Sent> {
    whole([headers(&[&[&get_fields("/"), &lines.concat()[..]].concat()])])
}

/// A whole request with these fields alone.
fn fields(lines: &[&[u8]]) -> Vec<Sent> {
    whole([headers(lines)])
}

/// RFC 9114 §4.1: the frames of a request.
fn messages() -> Vec<Case> {
    let data = || frame(DATA, b"body");
    vec![
        case("DATA before HEADERS", request([data()]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("an empty DATA before HEADERS", request([frame(DATA, b"")]), Closed(C::H3_FRAME_UNEXPECTED)),
        case(
            "DATA after trailers",
            request([post(), data(), headers(&[&field("t", "1")]), data()]),
            Closed(C::H3_FRAME_UNEXPECTED),
        ),
        case(
            "HEADERS after trailers",
            request([post(), headers(&[&field("t", "1")]), headers(&[&field("t", "2")])]),
            Closed(C::H3_FRAME_UNEXPECTED),
        ),
        case("no frame at all", whole([]), Reset(C::H3_REQUEST_INCOMPLETE)),
        case("an unknown frame and no other", whole([frame(GREASE, b"x")]), Reset(C::H3_REQUEST_INCOMPLETE)),
        case("unknown frames around", whole([frame(GREASE, b"x"), post(), frame(GREASE, b""), data()]), Fine("body")),
        case("an empty DATA in between", whole([post(), data(), frame(DATA, b""), data()]), Fine("bodybody")),
        case("fields that are announced too long", request([header(HEADERS, 1 << 30)]), Status(431)),
        case("trailers", whole([post(), data(), headers(&[&field("t", "1")])]), Fine("body")),
        case(
            "trailers behind no data",
            whole([
                headers(&[METHOD_POST, SCHEME_HTTPS, &field(":authority", "localhost"), &field(":path", "/trailer")]),
                headers(&[&field("t", "1")]),
            ]),
            Fine("1"),
        ),
        case("a type that is longer than need be", whole([vec![0x40], get("/")]), Fine("fine")),
    ]
}

/// RFC 9114 §7: each frame's place and length, on a request's stream.
fn frames_of_requests() -> Vec<Case> {
    let mut cases = vec![
        case("CANCEL_PUSH in a request", request([post(), frame(CANCEL_PUSH, &[0])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("SETTINGS in a request", request([post(), settings(&[])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("SETTINGS first in a request", request([settings(&[])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("wrong SETTINGS in a request", request([frame(SETTINGS, &[2, 0])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("GOAWAY in a request", request([post(), frame(GOAWAY, &[0])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("MAX_PUSH_ID in a request", request([post(), frame(MAX_PUSH_ID, &[0])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case(
            "PUSH_PROMISE of a client's",
            request([post(), frame(PUSH_PROMISE, &[0, 0, 0])]),
            Closed(C::H3_FRAME_UNEXPECTED),
        ),
        case("PUSH_PROMISE first", request([frame(PUSH_PROMISE, &[0, 0, 0])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("a cut HEADERS", whole([get("/")[..9].to_vec()]), Closed(C::H3_FRAME_ERROR)),
        case("a cut header of a frame", whole([vec![0x01]]), Closed(C::H3_FRAME_ERROR)),
        case("a cut type of a frame", whole([vec![0x40]]), Closed(C::H3_FRAME_ERROR)),
        case("a cut DATA", whole([post(), frame(DATA, b"body")[..4].to_vec()]), Closed(C::H3_FRAME_ERROR)),
        case(
            "a cut DATA whose end comes alone",
            [Message([post(), frame(DATA, b"body")[..4].to_vec()].concat()), Answered, EndOfMessage],
            Closed(C::H3_FRAME_ERROR),
        ),
        case("a cut unknown frame", whole([post(), frame(GREASE, b"x")[..2].to_vec()]), Closed(C::H3_FRAME_ERROR)),
        case(
            "cut trailers",
            whole([post(), frame(DATA, b"body"), headers(&[&field("t", "1")])[..3].to_vec()]),
            Closed(C::H3_FRAME_ERROR),
        ),
    ];
    for (name, kind) in [
        ("PRIORITY of HTTP/2 in a request", 0x02),
        ("PING of HTTP/2 in a request", 0x06),
        ("WINDOW_UPDATE of HTTP/2 in a request", 0x08),
        ("CONTINUATION of HTTP/2 in a request", 0x09),
    ] {
        cases.push(case(name, request([post(), frame(kind, b"")]), Closed(C::H3_FRAME_UNEXPECTED)));
    }
    cases
}

/// RFC 9114 §6.2.1 and §7.2: the control stream.
fn control() -> Vec<Case> {
    let control = |bytes: Vec<u8>| vec![Control(bytes)];
    let first = |bytes: Vec<u8>| vec![ControlOf(bytes)];
    let mut cases = vec![
        case("DATA first", first(frame(DATA, b"x")), Closed(C::H3_MISSING_SETTINGS)),
        case("HEADERS first", first(get("/")), Closed(C::H3_MISSING_SETTINGS)),
        case("GOAWAY first", first(frame(GOAWAY, &[0])), Closed(C::H3_MISSING_SETTINGS)),
        case("an unknown frame first", first(frame(GREASE, b"")), Closed(C::H3_MISSING_SETTINGS)),
        case("a second SETTINGS", control(settings(&[])), Closed(C::H3_FRAME_UNEXPECTED)),
        case("DATA on the control stream", control(frame(DATA, b"x")), Closed(C::H3_FRAME_UNEXPECTED)),
        case("HEADERS on the control stream", control(get("/")), Closed(C::H3_FRAME_UNEXPECTED)),
        case("PUSH_PROMISE on the control stream", control(frame(PUSH_PROMISE, &[0])), Closed(C::H3_FRAME_UNEXPECTED)),
        case("the control stream ends", [EndOfControl], Closed(C::H3_CLOSED_CRITICAL_STREAM)),
        case("the control stream is reset", [RoundTrip, ResetOfControl], Closed(C::H3_CLOSED_CRITICAL_STREAM)),
        case("it ends before SETTINGS", [ControlOf(vec![]), EndOfControl], Closed(C::H3_CLOSED_CRITICAL_STREAM)),
        case("it ends within SETTINGS", [ControlOf(vec![0x04, 2, 6]), EndOfControl], Closed(C::H3_FRAME_ERROR)),
        case(
            "a second control stream",
            [ControlOf(settings(&[])), ControlOf(vec![])],
            Closed(C::H3_STREAM_CREATION_ERROR),
        ),
        case("GOAWAY without a number", control(frame(GOAWAY, &[])), Closed(C::H3_FRAME_ERROR)),
        case("GOAWAY with a cut number", control(frame(GOAWAY, &[0x40])), Closed(C::H3_FRAME_ERROR)),
        case("GOAWAY with more than a number", control(frame(GOAWAY, &[0, 0])), Closed(C::H3_FRAME_ERROR)),
        case("GOAWAY that is too long", control(header(GOAWAY, 1 << 30)), Closed(C::H3_FRAME_ERROR)),
        case(
            "GOAWAY that goes up",
            control([frame(GOAWAY, &[0]), frame(GOAWAY, &[4])].concat()),
            Closed(C::H3_ID_ERROR),
        ),
        case(
            "GOAWAY behind a request without fields",
            [Message(vec![]), EndOfMessage, RoundTrip, Control(frame(GOAWAY, &[0]))],
            Closed(C::H3_NO_ERROR),
        ),
        case(
            "GOAWAY behind a request that was reset",
            [Message(vec![0x01]), RoundTrip, ResetOfMessage, RoundTrip, Control(frame(GOAWAY, &[0]))],
            Closed(C::H3_NO_ERROR),
        ),
        case(
            "GOAWAY behind fields that are announced too long",
            [Message(header(HEADERS, 1 << 30)), RoundTrip, Control(frame(GOAWAY, &[0]))],
            Closed(C::H3_NO_ERROR),
        ),
        case("MAX_PUSH_ID without a number", control(frame(MAX_PUSH_ID, &[])), Closed(C::H3_FRAME_ERROR)),
        case("MAX_PUSH_ID with more", control(frame(MAX_PUSH_ID, &[1, 1])), Closed(C::H3_FRAME_ERROR)),
        case(
            "MAX_PUSH_ID that goes down",
            control([frame(MAX_PUSH_ID, &[8]), frame(MAX_PUSH_ID, &[7])].concat()),
            Closed(C::H3_ID_ERROR),
        ),
        case("CANCEL_PUSH of what was not promised", control(frame(CANCEL_PUSH, &[0])), Closed(C::H3_ID_ERROR)),
        case("CANCEL_PUSH without a number", control(frame(CANCEL_PUSH, &[])), Closed(C::H3_FRAME_ERROR)),
        case("CANCEL_PUSH with more", control(frame(CANCEL_PUSH, &[0, 0])), Closed(C::H3_FRAME_ERROR)),
        case("a setting twice", first(settings(&[(6, 9), (6, 9)])), Closed(C::H3_SETTINGS_ERROR)),
        case("a setting without a value", first(frame(SETTINGS, &[6])), Closed(C::H3_FRAME_ERROR)),
        case("a setting with a cut value", first(frame(SETTINGS, &[6, 0x40])), Closed(C::H3_FRAME_ERROR)),
        case("H3_DATAGRAM neither 0 nor 1", first(settings(&[(0x33, 2)])), Closed(C::H3_SETTINGS_ERROR)),
        case("ENABLE_CONNECT_PROTOCOL neither 0 nor 1", first(settings(&[(0x08, 2)])), Closed(C::H3_SETTINGS_ERROR)),
        case("SETTINGS that are too long", first(header(SETTINGS, 1 << 30)), Closed(C::H3_EXCESSIVE_LOAD)),
        case(
            "what is unknown on the control stream",
            [
                ControlOf([settings(&[(0x21, 7), (0x4040, 1)]), frame(GREASE, b"x")].concat()),
                Message(get("/")),
                EndOfMessage,
            ],
            Fine("fine"),
        ),
    ];
    for (name, id) in [
        ("the reserved setting 0x00", 0x00),
        ("ENABLE_PUSH of HTTP/2", 0x02),
        ("MAX_CONCURRENT_STREAMS of HTTP/2", 0x03),
        ("INITIAL_WINDOW_SIZE of HTTP/2", 0x04),
        ("MAX_FRAME_SIZE of HTTP/2", 0x05),
    ] {
        cases.push(case(name, first(settings(&[(id, 0)])), Closed(C::H3_SETTINGS_ERROR)));
    }
    for kind in OF_HTTP2 {
        cases.push(case(
            "a frame of HTTP/2 on the control stream",
            control(frame(kind, b"")),
            Closed(C::H3_FRAME_UNEXPECTED),
        ));
    }
    cases
}

/// RFC 9114 §6.2 and RFC 9204 §4.2: the other unidirectional streams.
fn unidirectional() -> Vec<Case> {
    let uni = |bytes: &[u8]| vec![Uni(bytes.to_vec())];
    vec![
        case("a push stream of a client's", uni(&[PUSH, 0]), Closed(C::H3_STREAM_CREATION_ERROR)),
        case("an unknown type", uni(&[0x21, 1, 2]), Stopped(C::H3_STREAM_CREATION_ERROR)),
        case("an end before the type", [Uni(vec![0x40]), EndOfUni, Message(get("/")), EndOfMessage], Fine("fine")),
        case("an unknown type that ends", [Uni(vec![0x21]), EndOfUni, Message(get("/")), EndOfMessage], Fine("fine")),
        case("two encoder streams", [Uni(vec![ENCODER]), Uni(vec![ENCODER])], Closed(C::H3_STREAM_CREATION_ERROR)),
        case("two decoder streams", [Uni(vec![DECODER]), Uni(vec![DECODER])], Closed(C::H3_STREAM_CREATION_ERROR)),
        case("the encoder stream ends", [Uni(vec![ENCODER]), EndOfUni], Closed(C::H3_CLOSED_CRITICAL_STREAM)),
        case("the decoder stream ends", [Uni(vec![DECODER]), EndOfUni], Closed(C::H3_CLOSED_CRITICAL_STREAM)),
        case(
            "the encoder stream is reset",
            [Uni(vec![ENCODER]), RoundTrip, ResetOfUni],
            Closed(C::H3_CLOSED_CRITICAL_STREAM),
        ),
        case(
            "the decoder stream is reset",
            [Uni(vec![DECODER]), RoundTrip, ResetOfUni],
            Closed(C::H3_CLOSED_CRITICAL_STREAM),
        ),
        case("a table that was not allowed", uni(&[ENCODER, 0x3f, 0x81, 0x1f]), Closed(C::QPACK_ENCODER_STREAM_ERROR)),
        case("an insertion by name", uni(&[ENCODER, 0xc1, 1, b'/']), Closed(C::QPACK_ENCODER_STREAM_ERROR)),
        case("an insertion by literal", uni(&[ENCODER, 0x41, b'a', 1, b'b']), Closed(C::QPACK_ENCODER_STREAM_ERROR)),
        case("a duplicate", uni(&[ENCODER, 0x00]), Closed(C::QPACK_ENCODER_STREAM_ERROR)),
        case("a section that was acknowledged", uni(&[DECODER, 0x80]), Closed(C::QPACK_DECODER_STREAM_ERROR)),
        case("insertions that were counted", uni(&[DECODER, 0x01]), Closed(C::QPACK_DECODER_STREAM_ERROR)),
        case("an increment of 0", uni(&[DECODER, 0x00]), Closed(C::QPACK_DECODER_STREAM_ERROR)),
        case("a table of no size", [Uni(vec![ENCODER, 0x20]), Message(get("/")), EndOfMessage], Fine("fine")),
        case(
            "a stream that was cancelled",
            [Uni(vec![DECODER, 0x7f, 0x81, 0x01]), Message(get("/")), EndOfMessage],
            Fine("fine"),
        ),
    ]
}

/// RFC 9204 §4.5: field sections.
fn qpack() -> Vec<Case> {
    let section = |bytes: &[u8]| request([frame(HEADERS, bytes)]);
    let failed = Closed(C::QPACK_DECOMPRESSION_FAILED);
    let names = [
        ("an empty field section", vec![]),
        ("a base without an end", [&[0, 0x7f], &[0x80; 9][..], &get_fields("/")].concat()),
        ("half a prefix", vec![0]),
        ("a required insert count", [&[1, 0], &get_fields("/")[..]].concat()),
        ("a negative base", [&[0, 0x80], &get_fields("/")[..]].concat()),
        ("an index in the dynamic table", vec![0, 0, 0x80]),
        ("an index after the base", vec![0, 0, 0x10]),
        ("a name in the dynamic table", vec![0, 0, 0x40, 1, b'x']),
        ("a name after the base", vec![0, 0, 0x00, 1, b'x']),
        ("an index beyond the static table", vec![0, 0, 0xff, 36]),
        ("a name beyond the static table", vec![0, 0, 0x5f, 84, 1, b'x']),
        ("a cut index", vec![0, 0, 0xff]),
        ("a cut value", vec![0, 0, 0x51, 9, b'/']),
        ("a cut name", vec![0, 0, 0x27, 9, b'x']),
        ("an integer that is too large", [&[0, 0, 0xff], &[0xff; 12][..]].concat()),
        ("Huffman's code with a wrong end", vec![0, 0, 0x51, 0x81, 0x00]),
    ];
    let cases = names.into_iter().map(|(name, bytes)| case(name, section(&bytes), failed.clone()));
    cases.collect()
}

/// RFC 9114 §4.1.2, §4.2 and §4.3: malformed requests.
fn malformed() -> Vec<Case> {
    let wrong = || Reset(C::H3_MESSAGE_ERROR);
    let authority = field(":authority", "localhost");
    vec![
        case("a name in upper case", get_with(&[&field("Upper", "1")]), wrong()),
        case("a name with a space", get_with(&[&field("a b", "1")]), wrong()),
        case("an empty name", get_with(&[&field("", "1")]), wrong()),
        case("a value with a line's end", get_with(&[&field("a", "b\r\nc: d")]), wrong()),
        case("a value with a zero", get_with(&[&field("a", "b\0")]), wrong()),
        case("an unknown pseudo-header", get_with(&[&field(":unknown", "1")]), wrong()),
        case("no :method", fields(&[SCHEME_HTTPS, &authority, PATH_ROOT]), wrong()),
        case("no :path", fields(&[METHOD_GET, SCHEME_HTTPS, &authority]), wrong()),
        case("no :scheme", fields(&[METHOD_GET, &authority, PATH_ROOT]), wrong()),
        case("no :authority", fields(&[METHOD_GET, SCHEME_HTTPS, PATH_ROOT]), wrong()),
        case("an empty :path", fields(&[METHOD_GET, SCHEME_HTTPS, &authority, &field(":path", "")]), wrong()),
        case("CONNECT of a path", fields(&[METHOD_CONNECT, SCHEME_HTTPS, &authority, PATH_ROOT]), wrong()),
        case("a pseudo-header twice", fields(&[&get_fields("/"), PATH_ROOT]), wrong()),
        case("a pseudo-header behind a field", fields(&[&field("a", "b"), &get_fields("/")]), wrong()),
        case("a pseudo-header of responses", fields(&[&get_fields("/"), STATUS_200]), wrong()),
        case("a field of HTTP/1.1's connections", get_with(&[&field("connection", "close")]), wrong()),
        case("te with more than trailers", get_with(&[&field("te", "gzip")]), wrong()),
        case(
            "a user in :authority",
            fields(&[METHOD_GET, SCHEME_HTTPS, &field(":authority", "me@localhost"), PATH_ROOT]),
            wrong(),
        ),
        case("a pseudo-header in trailers", whole([post(), headers(&[PATH_ROOT])]), Reset(C::H3_INTERNAL_ERROR)),
        case(
            "a pseudo-header twice behind a long prefix",
            whole([frame(HEADERS, &[&[0, 0x7f, 0x80, 0], &get_fields("/")[..], PATH_ROOT].concat())]),
            wrong(),
        ),
        case(
            "a pseudo-header twice behind a long integer",
            get_with(&[&[0x21, b'a', 0x7f, 0x80, 0x80, 0x80, 0x80, 0x00], &[b'b'; 127], PATH_ROOT]),
            wrong(),
        ),
        case("more fields than anybody has", get_with(&[&[0xc2; 24_600]]), Reset(C::H3_EXCESSIVE_LOAD)),
        case(
            "more trailers than anybody has",
            whole([post(), headers(&[&[0xc2; 24_600]])]),
            Reset(C::H3_INTERNAL_ERROR),
        ),
        case(
            "a name in upper case in trailers behind no data",
            whole([post(), headers(&[&field("Upper", "1")])]),
            Reset(C::H3_INTERNAL_ERROR),
        ),
        case("a content-length that is no number", get_with(&[&field("content-length", "x")]), wrong()),
        case("an empty content-length", get_with(&[&field("content-length", "")]), wrong()),
        case("a content-length with a sign", get_with(&[&field("content-length", "+0")]), wrong()),
        case("a content-length of two numbers", get_with(&[&field("content-length", "0, 0")]), wrong()),
        case(
            "a content-length that is too large",
            get_with(&[&field("content-length", "18446744073709551616")]),
            wrong(),
        ),
        case("two lengths", get_with(&[&field("content-length", "0"), &field("content-length", "4")]), wrong()),
        case(
            "one length twice",
            get_with(&[&field("content-length", "0"), &field("content-length", "0")]),
            Fine("fine"),
        ),
        case("two hosts", get_with(&[&field("host", "localhost"), &field("host", "localhost")]), wrong()),
        case("another host", get_with(&[&field("host", "elsewhere")]), wrong()),
    ]
}

/// All of them.
fn cases() -> Vec<Case> {
    [messages(), frames_of_requests(), control(), unidirectional(), qpack(), malformed()]
        .into_iter()
        .flatten()
        .collect()
}

pub(crate) fn app() -> Router {
    // It returns what comes as it comes.
    Router::new()
        .route("/", routing::get(|| async { "fine" }))
        .route("/echo", routing::post(|body: Body| async { body }))
        .route("/trailer", routing::post(trailer))
}

/// The trailer `t`.
async fn trailer(body: Body) -> Vec<u8> {
    let body = body.collect().await.expect("a whole body");
    body.trailers().and_then(|trailers| trailers.get("t")).map(|t| t.as_bytes().to_vec()).unwrap_or_default()
}

/// What came of a case, where that is something else than expected.
async fn outcome(connection: &quinn::Connection, case: &Case) -> Result<(), String> {
    let mut streams = Streams::default();
    let sending = streams.send(connection, &case.sent);
    match &case.expected {
        Closed(code) => {
            // The close may come while it is sent, or while nothing more is.
            let (closed, ()) = tokio::join!(raw::close_code(connection), sending);
            let closed = closed?;
            if closed != code.value() {
                return Err(format!("closed with {}", C::from(closed)));
            }
            return Ok(());
        }
        Reset(_) | Stopped(_) | Status(_) | Fine(_) => sending.await,
    }
    let closed = || connection.close_reason().map_or("nothing".to_owned(), |reason| reason.to_string());
    match &case.expected {
        Closed(_) => unreachable!("it was handled"),
        Reset(code) => match streams.answer.as_mut().ok_or("no request")?.read_to_end(1 << 20).await {
            Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(found))) if found.into_inner() == code.value() => {}
            other => return Err(format!("{other:?}, and {}", closed())),
        },
        Stopped(code) => match streams.uni.as_mut().ok_or("no stream")?.stopped().await {
            Ok(Some(found)) if found.into_inner() == code.value() => {}
            other => return Err(format!("{other:?}, and {}", closed())),
        },
        Status(_) | Fine(_) => {
            let bytes = streams.answer.as_mut().ok_or("no request")?.read_to_end(1 << 20).await;
            let response = bytes.ok().and_then(|bytes| wire::Response::of(&bytes));
            let is_right = response.as_ref().is_some_and(|response| match &case.expected {
                Status(status) => response.status == *status,
                Fine(body) => (response.status, &response.body[..]) == (200, body.as_bytes()),
                _ => false,
            });
            if !is_right {
                return Err(format!("{response:?}, and {}", closed()));
            }
        }
    }
    match raw::get(connection, "/").await {
        Some(response) if response.body == b"fine" => Ok(()),
        other => Err(format!("{other:?} after it, and {}", closed())),
    }
}

/// A server that ends when it is dropped.
struct Serving(tokio::task::JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A server, and a connection to it on which nothing was sent.
async fn served() -> (Serving, quinn::Connection) {
    served_to(quinn::TransportConfig::default()).await
}

async fn served_to(transport: quinn::TransportConfig) -> (Serving, quinn::Connection) {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let server =
        Server::builder().identity(identity.clone()).alpn([sendstream_h3::ALPN]).bind(raw::any_port()).unwrap();
    let address = server.local_addr().unwrap();
    let serving = Serving(tokio::spawn(sendstream_h3::serve(server, app()).into_future()));
    let endpoint = raw::client(identity.certificate().clone(), transport);
    (serving, endpoint.connect(address, "localhost").unwrap().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_malformed_request_gets_its_code_and_concerns_nobody_else() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let server =
        Server::builder().identity(identity.clone()).alpn([sendstream_h3::ALPN]).bind(raw::any_port()).unwrap();
    let address = server.local_addr().unwrap();
    let serving = tokio::spawn(sendstream_h3::serve(server, app()).into_future());
    let endpoint = raw::client(identity.certificate().clone(), quinn::TransportConfig::default());
    let connect = async || endpoint.connect(address, "localhost").unwrap().await.unwrap();

    let other = connect().await;
    assert_eq!(raw::get(&other, "/").await.unwrap().body, b"fine");
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        let connection = connect().await;
        let found = within(case.name, outcome(&connection, case)).await;
        if let Err(found) = found {
            wrong.push(format!("{}: {:?} was expected, and it is: {found}", case.name, case.expected));
        }
        let response = within(case.name, raw::get(&other, "/")).await;
        assert_eq!(response.expect("the other connection goes on").body, b"fine", "after {}", case.name);
    }
    println!("{} cases", cases.len());
    assert!(cases.len() >= 40 && wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_too_many_streams_without_a_type_the_oldest_are_stopped() {
    const MOST: usize = 32;
    const MORE: usize = 8;
    let (_serving, connection) = served().await;
    let mut streams = Vec::new();
    for _ in 0..MOST + MORE {
        let mut stream = connection.open_uni().await.unwrap();
        // The first half of a type.
        stream.write_all(&[0x40]).await.unwrap();
        streams.push(stream);
    }
    for stream in &mut streams[..MORE] {
        let stopped = within("the oldest are stopped", stream.stopped()).await.unwrap();
        assert_eq!(stopped.map(quinn::VarInt::into_inner), Some(C::H3_STREAM_CREATION_ERROR.value()));
    }
    // The control stream is among those that come later, and the others go on.
    let mut control = Streams::default();
    control.send(&connection, &[]).await;
    assert_eq!(within("an honest request", raw::get(&connection, "/")).await.unwrap().body, b"fine");
    for stream in &mut streams[MORE..] {
        assert!(futures::poll!(std::pin::pin!(stream.stopped())).is_pending());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_request_after_request_is_closed() {
    let (_serving, connection) = served().await;
    let mut control = Streams::default();
    control.send(&connection, &[]).await;
    let asking = async {
        // It ends with the connection.
        while let Ok((mut send, mut recv)) = connection.open_bi().await {
            let _ = send.write_all(&post()).await;
            let _ = (send.reset(0x10cu32.into()), recv.stop(0x10cu32.into()));
        }
    };
    let (closed, ()) = within("it is closed", async { tokio::join!(raw::close_code(&connection), asking) }).await;
    assert_eq!(closed.map(C::from), Ok(C::H3_EXCESSIVE_LOAD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_allows_no_streams_holds_no_place_for_ever() {
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_uni_streams(0u32.into());
    let (_serving, connection) = served_to(transport).await;
    let closed = within("it is closed", raw::close_code(&connection)).await;
    assert_eq!(closed.map(C::from), Ok(C::H3_GENERAL_PROTOCOL_ERROR));
}
