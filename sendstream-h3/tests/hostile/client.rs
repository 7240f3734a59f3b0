//! Hostile servers, and what our client says to each.

use std::future::poll_fn;

use Expected::{Closed, Fine, Stopped};
use Sent::*;
use bytes::{Buf, Bytes};
use h3::error::Code as C;
use sendstream::{Client, Trust};

use crate::{
    raw::{self, Sent, Streams, within},
    wire::*,
};

/// What must come of it.
#[derive(Debug, Clone)]
enum Expected {
    /// The connection is closed.
    Closed(C),
    /// The response is to be stopped, and the connection goes on.
    Stopped(C),
    /// The client gets a response with status 200 and this body.
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

fn response<const N: usize>(frames: [Vec<u8>; N]) -> Vec<Sent> {
    vec![Message(frames.concat())]
}

fn whole<const N: usize>(frames: [Vec<u8>; N]) -> Vec<Sent> {
    vec![Message(frames.concat()), EndOfMessage]
}

fn cases() -> Vec<Case> {
    let ok = || headers(&[STATUS_200]);
    let data = || frame(DATA, b"body");
    let trailers = || headers(&[&field("t", "1")]);
    let mut cases = vec![
        case("DATA before HEADERS", response([data()]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("DATA after trailers", response([ok(), data(), trailers(), data()]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("HEADERS after trailers", response([ok(), trailers(), trailers()]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("PUSH_PROMISE", response([frame(PUSH_PROMISE, &[0, 0, 0])]), Closed(C::H3_ID_ERROR)),
        case("PUSH_PROMISE after HEADERS", response([ok(), frame(PUSH_PROMISE, &[0, 0, 0])]), Closed(C::H3_ID_ERROR)),
        case("CANCEL_PUSH in a response", response([ok(), frame(CANCEL_PUSH, &[0])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("SETTINGS in a response", response([settings(&[])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("GOAWAY in a response", response([ok(), frame(GOAWAY, &[0])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("MAX_PUSH_ID in a response", response([ok(), frame(MAX_PUSH_ID, &[0])]), Closed(C::H3_FRAME_UNEXPECTED)),
        case("a cut HEADERS", whole([ok()[..3].to_vec()]), Closed(C::H3_FRAME_ERROR)),
        case("a cut DATA", whole([ok(), data()[..4].to_vec()]), Closed(C::H3_FRAME_ERROR)),
        case("a cut unknown frame", whole([ok(), frame(GREASE, b"x")[..2].to_vec()]), Closed(C::H3_FRAME_ERROR)),
        case("an index in the dynamic table", response([headers(&[&[0x80]])]), Closed(C::QPACK_DECOMPRESSION_FAILED)),
        case(
            "a required insert count",
            response([frame(HEADERS, &[1, 0, 0xd9])]),
            Closed(C::QPACK_DECOMPRESSION_FAILED),
        ),
        case("GOAWAY first", [ControlOf(frame(GOAWAY, &[0]))], Closed(C::H3_MISSING_SETTINGS)),
        case("a second SETTINGS", [Control(settings(&[]))], Closed(C::H3_FRAME_UNEXPECTED)),
        case("DATA on the control stream", [Control(data())], Closed(C::H3_FRAME_UNEXPECTED)),
        case("MAX_PUSH_ID of a server's", [Control(frame(MAX_PUSH_ID, &[0]))], Closed(C::H3_FRAME_UNEXPECTED)),
        case(
            "PUSH_PROMISE on the control stream",
            [Control(frame(PUSH_PROMISE, &[0]))],
            Closed(C::H3_FRAME_UNEXPECTED),
        ),
        case("CANCEL_PUSH of what was not allowed", [Control(frame(CANCEL_PUSH, &[0]))], Closed(C::H3_ID_ERROR)),
        case("GOAWAY with more than a number", [Control(frame(GOAWAY, &[0, 0]))], Closed(C::H3_FRAME_ERROR)),
        case("GOAWAY with no request's number", [Control(frame(GOAWAY, &[1]))], Closed(C::H3_ID_ERROR)),
        case(
            "GOAWAY that goes up",
            [Control([frame(GOAWAY, &[0]), frame(GOAWAY, &[4])].concat())],
            Closed(C::H3_ID_ERROR),
        ),
        case("ENABLE_PUSH of HTTP/2", [ControlOf(settings(&[(2, 0)]))], Closed(C::H3_SETTINGS_ERROR)),
        case("the control stream ends", [EndOfControl], Closed(C::H3_CLOSED_CRITICAL_STREAM)),
        case(
            "a second control stream",
            [ControlOf(settings(&[])), ControlOf(vec![])],
            Closed(C::H3_STREAM_CREATION_ERROR),
        ),
        case("a push stream", [Uni(vec![PUSH, 0])], Closed(C::H3_ID_ERROR)),
        case("the encoder stream ends", [Uni(vec![ENCODER]), EndOfUni], Closed(C::H3_CLOSED_CRITICAL_STREAM)),
        case("an insertion", [Uni(vec![ENCODER, 0xc1, 1, b'/'])], Closed(C::QPACK_ENCODER_STREAM_ERROR)),
        case("an acknowledgement", [Uni(vec![DECODER, 0x80])], Closed(C::QPACK_DECODER_STREAM_ERROR)),
        case("a request of a server's", [Bi(get("/"))], Closed(C::H3_STREAM_CREATION_ERROR)),
        case(
            "fields that are announced too long",
            response([header(HEADERS, 1 << 30)]),
            Stopped(C::H3_REQUEST_CANCELLED),
        ),
        case(
            "trailers that are announced too long",
            response([ok(), header(HEADERS, 1 << 30)]),
            Stopped(C::H3_EXCESSIVE_LOAD),
        ),
        case(
            "more fields than anybody has",
            response([headers(&[STATUS_200, &[0xc2; 24_600]])]),
            Stopped(C::H3_EXCESSIVE_LOAD),
        ),
        case(
            "more trailers than anybody has",
            response([ok(), data(), headers(&[&[0xc2; 24_600]])]),
            Stopped(C::H3_EXCESSIVE_LOAD),
        ),
        case(
            "endless interim responses",
            response([headers(&[STATUS_103]).repeat(100)]),
            Stopped(C::H3_EXCESSIVE_LOAD),
        ),
        case(
            "interim responses, unknown frames and empty DATA",
            whole([headers(&[STATUS_103]).repeat(3), frame(GREASE, b"x"), ok(), frame(DATA, b""), data(), trailers()]),
            Fine("body"),
        ),
    ];
    for kind in OF_HTTP2 {
        cases.push(case("a frame of HTTP/2", response([ok(), frame(kind, b"")]), Closed(C::H3_FRAME_UNEXPECTED)));
    }
    cases
}

/// A connection of our client's: what sends its requests. Dropping that closes the connection.
type Requests = h3::client::SendRequest<sendstream_h3::OpenStreams, Bytes>;

async fn connected(client: &Client, endpoint: &quinn::Endpoint) -> (Requests, quinn::Connection) {
    let address = endpoint.local_addr().unwrap();
    let (ours, theirs) =
        tokio::join!(client.connect(address, "localhost"), async { endpoint.accept().await.unwrap().await.unwrap() });
    let ours = sendstream_h3::Connection::new(ours.unwrap());
    let (mut driver, requests) = h3::client::new(ours).await.unwrap();
    tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
    (requests, theirs)
}

/// A GET, and the body of its response if that has status 200.
async fn ask(requests: &mut Requests) -> Result<Vec<u8>, h3::error::StreamError> {
    let request = http::Request::get("https://localhost/").body(()).unwrap();
    let mut stream = requests.send_request(request).await?;
    stream.finish().await?;
    let response = stream.recv_response().await?;
    assert_eq!(response.status(), 200);
    let mut body = Vec::new();
    while let Some(mut chunk) = stream.recv_data().await? {
        body.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    stream.recv_trailers().await?;
    Ok(body)
}

/// An honest server.
async fn serve(connection: quinn::Connection) {
    let mut streams = Streams::default();
    streams.send(&connection, &[]).await;
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        recv.read_to_end(1 << 16).await.unwrap();
        send.write_all(&[headers(&[STATUS_200]), frame(DATA, b"fine")].concat()).await.unwrap();
        send.finish().unwrap();
    }
}

async fn outcome(client: &Client, endpoint: &quinn::Endpoint, case: &Case) -> Result<(), String> {
    let (mut requests, theirs) = connected(client, endpoint).await;
    let attack = async {
        let (send, _recv) = theirs.accept_bi().await.map_err(|error| error.to_string())?;
        let mut streams = Streams { message: Some(send), ..Streams::default() };
        streams.send(&theirs, &case.sent).await;
        match &case.expected {
            Closed(code) => {
                let closed = raw::close_code(&theirs).await?;
                if closed == code.value() { Ok(()) } else { Err(format!("closed with {}", C::from(closed))) }
            }
            Stopped(code) => match streams.message.as_mut().unwrap().stopped().await {
                Ok(Some(found)) if found.into_inner() == code.value() => Ok(()),
                other => Err(format!("{other:?}")),
            },
            Fine(_) => Ok(()),
        }
    };
    let (asked, attacked) = tokio::join!(ask(&mut requests), attack);
    attacked?;
    match (&case.expected, asked) {
        (Fine(body), Ok(found)) if found == body.as_bytes() => Ok(()),
        (Closed(_) | Stopped(_), Err(_)) => Ok(()),
        (_, asked) => Err(format!("the client has {asked:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_malformed_response_gets_its_code_and_concerns_no_other_connection() {
    let (endpoint, _) = raw::server();
    let client =
        Client::builder().alpn([sendstream_h3::ALPN]).trust(Trust::dangerous_accept_any_certificate()).build().unwrap();
    let (mut other, honest) = connected(&client, &endpoint).await;
    tokio::spawn(serve(honest));
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        let found = within(case.name, outcome(&client, &endpoint, case)).await;
        if let Err(found) = found {
            wrong.push(format!("{}: {:?} was expected, and it is: {found}", case.name, case.expected));
        }
        let body = within(case.name, ask(&mut other)).await;
        assert_eq!(body.expect("the other connection goes on"), b"fine", "after {}", case.name);
    }
    println!("{} cases", cases.len());
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
