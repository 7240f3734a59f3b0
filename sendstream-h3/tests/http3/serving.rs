//! What handlers and clients of a served application see.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    routing::{any, get, post},
};
use bytes::{Buf as _, Bytes};
use futures::{StreamExt as _, channel::oneshot, stream};
use h3::{
    client::RequestStream,
    error::{Code, StreamError},
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use sendstream::Trust;
use sendstream_h3::BidiStream;

use crate::{
    site::{self, Asking, Site, run},
    support,
};

/// Tells when it is dropped.
pub(crate) struct Dropped(Option<oneshot::Sender<()>>);

impl Dropped {
    pub(crate) fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

/// A handler that never answers, but does `meanwhile`: tells when it was called, and when it was dropped.
fn never_answers<F: Future<Output = ()> + Send>(
    meanwhile: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> (axum::routing::MethodRouter, oneshot::Receiver<()>, oneshot::Receiver<()>) {
    let (called, was_called) = oneshot::channel();
    let (guard, was_dropped) = Dropped::new();
    let state = Arc::new(Mutex::new(Some((called, guard))));
    let handler = any(move || async move {
        let (called, _guard) = state.lock().unwrap().take().expect("called once");
        called.send(()).unwrap();
        meanwhile().await;
    });
    (handler, was_called, was_dropped)
}

/// A site, a client, and its request, which is with a handler that never answers but does `meanwhile`;
/// and what tells when that handler is dropped.
async fn in_a_handler<F: Future<Output = ()> + Send>(
    meanwhile: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> (Site, Asking, RequestStream<BidiStream, Bytes>, oneshot::Receiver<()>) {
    let (handler, was_called, was_dropped) = never_answers(meanwhile);
    let site = Site::new(Router::new().route("/", handler));
    let mut asking = Asking::new(&site.client(), site.address).await;
    let mut under_way = asking.requests.send_request(site::get("/").map(drop)).await.unwrap();
    under_way.finish().await.unwrap();
    was_called.await.unwrap();
    (site, asking, under_way, was_dropped)
}

/// The code with which the server reset a request.
fn reset_code(error: &StreamError) -> Code {
    let StreamError::RemoteTerminate { code } = error else { panic!("not reset: {error:?}") };
    *code
}

#[test]
fn a_router_is_served_and_its_clients_are_known_by_address() {
    run(async {
        let app = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/who", get(|ConnectInfo(who): ConnectInfo<SocketAddr>| async move { who.to_string() }))
            .route("/echo", post(|body: Bytes| async { body }));
        let site = Site::new(app);
        let client = site.client();
        let asking = Asking::new(&client, site.address).await;
        let hello = asking.get("/").await;
        assert_eq!((hello.status(), &hello.body()[..]), (StatusCode::OK, &b"hello"[..]));
        assert!(hello.headers().contains_key("date"));
        let who = asking.get("/who").await;
        assert_eq!(who.body(), &asking.connection.local_addr().unwrap().to_string());
        let echoed = asking.ask(site::post("/echo", vec![7; 100_000])).await.unwrap();
        assert!(echoed.body() == &vec![7; 100_000]);
        assert_eq!(asking.get("/nothing").await.status(), StatusCode::NOT_FOUND);
        site.end().await;
        site::assert_no_error(&asking.over.await.unwrap());
    });
}

#[test]
fn a_response_to_head_has_its_fields_and_no_body() {
    run(async {
        // A handler that knows nothing of HEAD.
        let site = Site::new(Router::new().fallback(|| async { ([("x-field", "value")], "body") }));
        let asking = Asking::new(&site.client(), site.address).await;
        let head = Request::builder().method(Method::HEAD).uri(site::uri("/")).body(Bytes::new()).unwrap();
        let response = asking.ask(head).await.unwrap();
        assert_eq!((response.headers()["x-field"].as_bytes(), response.body().len()), (&b"value"[..], 0));
        site.end().await;
    });
}

#[test]
fn fields_of_http_1_connections_are_left_out() {
    run(async {
        let fields = [("connection", "close"), ("keep-alive", "timeout=5"), ("transfer-encoding", "chunked")];
        let site = Site::new(Router::new().route("/", get(move || async move { (fields, "body") })));
        let asking = Asking::new(&site.client(), site.address).await;
        let response = asking.get("/").await;
        assert_eq!(response.body(), "body");
        for (name, _) in fields {
            assert!(!response.headers().contains_key(name), "{name}");
        }
        site.end().await;
    });
}

#[test]
fn trailers_pass_both_ways() {
    run(async {
        let app = Router::new().route(
            "/",
            post(|request: axum::extract::Request| async move {
                let collected = request.into_body().collect().await.unwrap();
                let trailers = collected.trailers().cloned().unwrap();
                let frames = [Ok::<_, std::io::Error>(http_body::Frame::data(collected.to_bytes()))];
                let frames = frames.into_iter().chain([Ok(http_body::Frame::trailers(trailers))]);
                Body::new(StreamBody::new(stream::iter(frames)))
            }),
        );
        let site = Site::new(app);
        let mut asking = Asking::new(&site.client(), site.address).await;
        let mut under_way =
            asking.requests.send_request(Request::post(site::uri("/")).body(()).unwrap()).await.unwrap();
        under_way.send_data("data".into()).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("checksum", "17".parse().unwrap());
        under_way.send_trailers(trailers.clone()).await.unwrap();
        under_way.finish().await.unwrap();
        assert_eq!(under_way.recv_response().await.unwrap().status(), StatusCode::OK);
        let mut data = under_way.recv_data().await.unwrap().unwrap();
        assert_eq!(data.copy_to_bytes(data.remaining()), "data");
        assert!(under_way.recv_data().await.unwrap().is_none());
        assert_eq!(under_way.recv_trailers().await.unwrap(), Some(trailers));
        site.end().await;
    });
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_go_on_when_the_body_is_read() {
    run(async {
        let site = Site::new(Router::new().route("/", post(|body: Bytes| async { body })));
        let connection = site.client().connect(site.address, "localhost").await.unwrap();
        // Below h3, which does not get interim responses: a POST whose fields are in the static table,
        // but for `:authority` and `expect`.
        let mut post = vec![1, 36, 0, 0, 0xc0 | 20, 0xc0 | 23, 0xc0 | 1, 0x50, 9];
        post.extend_from_slice(b"localhost\x26expect\x0c100-continue");
        let (mut send, mut recv) = connection.open_bi().unwrap();
        drop(send.send(post));
        let go_on = [1, 4, 0, 0, 0xff, 0];
        let mut received = Vec::new();
        while received.len() < go_on.len() {
            received.extend_from_slice(&recv.read_chunk().await.unwrap().expect("the response has not come"));
        }
        assert_eq!(received, go_on, "another response than 100");
        drop(send.finish_with(b"\0\x04body".to_vec()));
        while let Some(chunk) = recv.read_chunk().await.unwrap() {
            received.extend_from_slice(&chunk);
        }
        let response = &received[go_on.len()..];
        assert_eq!(response[2..5], [0, 0, 0xd9], "another response than 200");
        assert!(response.windows(6).any(|frame| frame == b"\0\x04body"), "another body: {response:?}");
        site.end().await;
    });
}

#[test]
fn a_response_whose_body_fails_is_reset_and_never_looks_complete() {
    run(async {
        let frames = || stream::iter([Ok("a beginning"), Err("and then an error")]);
        let site = Site::new(Router::new().route("/", get(move || async move { Body::from_stream(frames()) })));
        let asking = Asking::new(&site.client(), site.address).await;
        let error = asking.ask(site::get("/")).await.unwrap_err();
        assert_eq!(reset_code(&error), Code::H3_INTERNAL_ERROR);
        site.end().await;
    });
}

#[test]
fn a_handler_that_panics_fails_its_own_request_and_no_other() {
    async fn panics() {
        panic!("as the test wants");
    }
    run(async {
        let frames = || stream::once(async { panic!("as the test wants") as Result<Bytes, std::io::Error> });
        let app = Router::new()
            .route("/panics", get(panics))
            .route("/body", get(move || async move { Body::from_stream(frames()) }))
            .route("/", get(|| async { "well" }));
        let site = Site::new(app);
        let asking = Asking::new(&site.client(), site.address).await;
        for path in ["/panics", "/body"] {
            let error = asking.ask(site::get(path)).await.unwrap_err();
            assert_eq!(reset_code(&error), Code::H3_INTERNAL_ERROR, "{path}");
        }
        assert_eq!(asking.get("/").await.body(), "well");
        site.end().await;
    });
}

#[test]
fn what_a_handler_has_written_reaches_its_client_while_it_waits() {
    run(async {
        let (go_on, may_go_on) = oneshot::channel();
        let (write, may_write) = oneshot::channel();
        let pieces = [(may_write, "first"), (may_go_on, "second")];
        let body = stream::iter(pieces).then(|(allowed, piece)| async move {
            allowed.await.unwrap();
            Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from(piece)))
        });
        let body = Arc::new(Mutex::new(Some(Body::new(StreamBody::new(body)))));
        let handler = get(move || async move { body.lock().unwrap().take().expect("asked once") });
        let site = Site::new(Router::new().route("/", handler));
        let mut asking = Asking::new(&site.client(), site.address).await;
        let mut under_way = asking.requests.send_request(site::get("/").map(drop)).await.unwrap();
        under_way.finish().await.unwrap();
        assert_eq!(under_way.recv_response().await.unwrap().status(), StatusCode::OK);
        for (allow, piece) in [(write, "first"), (go_on, "second")] {
            allow.send(()).unwrap();
            let mut data = under_way.recv_data().await.unwrap().unwrap();
            assert_eq!(data.copy_to_bytes(data.remaining()), piece);
        }
        assert!(under_way.recv_data().await.unwrap().is_none());
        site.end().await;
    });
}

#[test]
fn a_request_that_the_client_cancels_drops_its_handler() {
    run(async {
        let (site, _asking, under_way, was_dropped) = in_a_handler(pending).await;
        drop(under_way);
        was_dropped.await.unwrap();
        site.end().await;
    });
}

#[test]
fn a_handler_that_never_rests_is_dropped_as_well() {
    /// Uses up what tokio lets a task do at once, each time that it is polled.
    async fn restless() {
        loop {
            tokio::task::consume_budget().await;
        }
    }
    run(async {
        let (site, _asking, under_way, was_dropped) = in_a_handler(restless).await;
        drop(under_way);
        was_dropped.await.unwrap();
        site.end().await;
    });
}

#[test]
fn the_end_of_a_connection_drops_its_handlers() {
    run(async {
        let (site, asking, _under_way, was_dropped) = in_a_handler(pending).await;
        asking.connection.close(Code::H3_NO_ERROR.value(), "").unwrap();
        was_dropped.await.unwrap();
        site.end().await;
    });
}

#[test]
fn a_body_that_is_not_as_long_as_it_said_is_an_error_to_its_handler() {
    run(async {
        let app = Router::new().route(
            "/",
            post(|request: axum::extract::Request| async move {
                match request.into_body().collect().await {
                    Ok(body) => format!("{} bytes", body.to_bytes().len()),
                    Err(error) => error.to_string(),
                }
            }),
        );
        let site = Site::new(app);
        let asking = Asking::new(&site.client(), site.address).await;
        for (announced, answer) in [
            (3, "the body is not as long as its content-length"),
            (4, "4 bytes"),
            (5, "the body is not as long as its content-length"),
        ] {
            let request = Request::post(site::uri("/")).header("content-length", announced).body("body".into());
            let response = asking.ask(request.unwrap()).await.unwrap();
            assert_eq!(response.body(), answer, "{announced}");
        }
        site.end().await;
    });
}

#[test]
fn a_client_that_goes_on_sending_what_nobody_reads_gets_its_response_and_is_stopped() {
    run(async {
        let site = Site::new(Router::new().route("/", post(|| async { "enough" })));
        let mut asking = Asking::new(&site.client(), site.address).await;
        let (mut send, mut recv) = asking.requests.send_request(site::post("/", "").map(drop)).await.unwrap().split();
        let sending = async {
            loop {
                if let Err(error) = send.send_data(vec![7; 64 * 1024].into()).await {
                    break error;
                }
            }
        };
        let receiving = async {
            assert_eq!(recv.recv_response().await.unwrap().status(), StatusCode::OK);
            let mut data = recv.recv_data().await.unwrap().unwrap();
            assert_eq!(data.copy_to_bytes(data.remaining()), "enough");
            assert!(recv.recv_data().await.unwrap().is_none());
        };
        let (stopped, ()) = futures::join!(sending, receiving);
        assert_eq!(reset_code(&stopped), Code::H3_NO_ERROR);
        site.end().await;
    });
}

#[test]
fn a_body_of_many_windows_is_collected_whole() {
    run(async {
        let limit = axum::extract::DefaultBodyLimit::disable();
        let app = Router::new().route("/", post(|body: Bytes| async { body }).layer(limit));
        let site = Site::new(app);
        let asking = Asking::new(&site.client(), site.address).await;
        let body = Bytes::from(support::pattern(64 * 1024 * 1024));
        assert!(asking.ask(site::post("/", body.clone())).await.unwrap().body() == &body);
        site.end().await;
    });
}

#[test]
fn fields_beyond_the_limit_are_refused_and_the_connection_goes_on() {
    run(async {
        let app = Router::new().route("/", get(|| async { "well" }));
        let site = Site::with(app, |serve| serve.max_field_section_size(1000));
        let asking = Asking::new(&site.client(), site.address).await;
        let big = |bytes| Request::get(site::uri("/")).header("x", "y".repeat(bytes)).body(Bytes::new()).unwrap();
        assert_eq!(asking.get("/").await.body(), "well");
        assert!(matches!(asking.ask(big(1000)).await, Err(StreamError::HeaderTooBig { .. })), "h3 knows the limit");
        assert_eq!(asking.ask(big(100)).await.unwrap().body(), "well");
        site.end().await;
    });
}

#[test]
fn requests_beyond_the_limit_wait_for_their_turn() {
    run(async {
        let (proceed, gate) = tokio::sync::watch::channel(false);
        let at_once = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (counted, highest) = (at_once.clone(), most.clone());
        let handler = move || {
            let (mut gate, at_once, most) = (gate.clone(), counted.clone(), highest.clone());
            async move {
                use std::sync::atomic::Ordering::SeqCst;
                most.fetch_max(at_once.fetch_add(1, SeqCst) + 1, SeqCst);
                gate.wait_for(|open| *open).await.unwrap();
                at_once.fetch_sub(1, SeqCst);
            }
        };
        let site = Site::with(Router::new().route("/", get(handler)), |serve| serve.max_concurrent_requests(3));
        let asking = Asking::new(&site.client(), site.address).await;
        let all = futures::future::join_all((0..20).map(|_| asking.ask(site::get("/"))));
        let opening = async {
            while at_once.load(std::sync::atomic::Ordering::SeqCst) < 3 {
                tokio::task::yield_now().await;
            }
            proceed.send(true).unwrap();
        };
        let (all, ()) = futures::join!(all, opening);
        assert!(all.into_iter().all(|response| response.unwrap().status() == StatusCode::OK));
        assert_eq!(most.load(std::sync::atomic::Ordering::SeqCst), 3);
        site.end().await;
    });
}

#[test]
fn a_request_that_is_given_up_keeps_its_place_while_its_handler_runs() {
    run(async {
        let (entered, mut entries) = tokio::sync::mpsc::unbounded_channel();
        let (leave, gate) = std::sync::mpsc::channel();
        let gate = Arc::new(Mutex::new(gate));
        let blocking = move || {
            entered.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
            async { "well" }
        };
        let app = Router::new().route("/", get(blocking)).route("/quick", get(|| async { "quick" }));
        let site = Site::with(app, |serve| serve.max_concurrent_requests(1));
        let (client, another) = (site.client(), site.client());
        let (asking, other) = (Asking::new(&client, site.address).await, Asking::new(&another, site.address).await);
        let get = Request::get(site::uri("/")).body(()).unwrap();
        let mut given_up = asking.requests.clone().send_request(get).await.unwrap();
        given_up.finish().await.unwrap();
        entries.recv().await.unwrap();
        given_up.stop_sending(Code::H3_REQUEST_CANCELLED);
        let mut next = std::pin::pin!(asking.get("/"));
        assert!(futures::poll!(&mut next).is_pending());
        for _ in 0..10 {
            assert_eq!(other.get("/quick").await.body(), "quick");
            assert!(futures::poll!(&mut next).is_pending());
        }
        assert!(entries.try_recv().is_err(), "there is one place");
        leave.send(()).unwrap();
        entries.recv().await.unwrap();
        leave.send(()).unwrap();
        assert_eq!(next.await.body(), "well");
        site.end().await;
    });
}

#[test]
fn connections_beyond_the_limit_wait_for_their_turn() {
    run(async {
        let site = Site::with(Router::new().route("/", get(|| async { "well" })), |serve| serve.max_connections(1));
        let (client, another) = (site.client(), site.client());
        let first = Asking::new(&client, site.address).await;
        assert_eq!(first.get("/").await.body(), "well");
        let mut second = std::pin::pin!(Asking::new(&another, site.address));
        assert!(futures::poll!(&mut second).is_pending());
        // It could not come before the first has gone: as long as that is served, nobody accepts.
        assert_eq!(first.get("/").await.body(), "well");
        assert!(futures::poll!(&mut second).is_pending());
        first.connection.close(Code::H3_NO_ERROR.value(), "").unwrap();
        let second = second.await;
        assert_eq!(second.get("/").await.body(), "well");
        site.end().await;
    });
}

#[test]
fn a_client_that_stalls_in_its_handshake_holds_up_nobody() {
    run(async {
        let site = Site::new(Router::new().route("/", get(|| async { "well" })));
        let (asked, judging) = oneshot::channel();
        let asked = Mutex::new(Some(asked));
        let trust = Trust::dangerous_accept_any_certificate().verify_with(move |_| {
            let _ = asked.lock().unwrap().take().unwrap().send(());
            pending()
        });
        let stalling = support::client_with(trust).alpn([sendstream_h3::ALPN]).build().unwrap();
        let mut connecting = std::pin::pin!(stalling.connect(site.address, "localhost"));
        tokio::select! {
            _ = &mut connecting => panic!("its handshake never ends"),
            judging = judging => judging.unwrap(),
        }
        let asking = Asking::new(&site.client(), site.address).await;
        assert_eq!(asking.get("/").await.body(), "well");
        site.end().await;
    });
}
