//! gRPC with tonic's clients and servers. The services are written by hand, as their generator would:
//! no compiler of protocol buffers is needed.

use std::{
    convert::Infallible,
    future::pending,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, channel::mpsc, channel::oneshot, stream};
use h3::error::Code;
use http::HeaderMap;
use sendstream_h3::{Channel, Connector};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, NamedService},
    service::Routes,
};
use tower::service_fn;

use crate::{
    serving::Dropped,
    site::{self, Asking, Site, run},
    support::{self, any_port},
    transport::ends_of,
};

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    value: u64,
}

fn number(value: u64) -> Number {
    Number { value }
}

type Numbers = Pin<Box<dyn Stream<Item = Result<Number, Status>> + Send>>;
type Codec = tonic_prost::ProstCodec<Number, Number>;

/// Does sums.
#[derive(Clone, Default)]
struct Sums {
    /// For the method that never answers: what tells that it was called, and that it was dropped.
    hanging: Arc<Mutex<Option<Hanging>>>,
}

type Hanging = (oneshot::Sender<()>, Dropped);

impl NamedService for Sums {
    const NAME: &'static str = "test.Sums";
}

impl tower_service::Service<http::Request<Body>> for Sums {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let hanging = self.hanging.clone();
        let mut grpc = Grpc::new(Codec::default());
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/test.Sums/Double" => grpc.unary(service_fn(double), request).await,
                "/test.Sums/CountTo" => grpc.server_streaming(service_fn(count_to), request).await,
                "/test.Sums/Add" => grpc.client_streaming(service_fn(add), request).await,
                "/test.Sums/DoubleEach" => grpc.streaming(service_fn(double_each), request).await,
                "/test.Sums/Hang" => {
                    let hang = service_fn(|_: Request<Number>| {
                        let called = hanging.lock().unwrap().take();
                        async move {
                            let _guard = called.map(|(called, guard)| {
                                called.send(()).unwrap();
                                guard
                            });
                            pending::<Result<Response<Number>, Status>>().await
                        }
                    });
                    grpc.unary(hang, request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

async fn double(request: Request<Number>) -> Result<Response<Number>, Status> {
    match request.into_inner().value.checked_mul(2) {
        Some(value) => {
            let mut response = Response::new(number(value));
            response.metadata_mut().insert("x-made-by", "double".parse().unwrap());
            Ok(response)
        }
        None => Err(Status::out_of_range("twice that is no number")),
    }
}

async fn count_to(request: Request<Number>) -> Result<Response<Numbers>, Status> {
    let last = request.into_inner().value;
    let numbers = stream::iter((1..=last).map(|value| Ok(number(value))));
    // Those who count far fail on the way.
    let end = stream::iter((last > 1000).then(|| Err(Status::resource_exhausted("that is far"))));
    Ok(Response::new(Box::pin(numbers.chain(end))))
}

async fn add(request: Request<Streaming<Number>>) -> Result<Response<Number>, Status> {
    let mut numbers = request.into_inner();
    let mut sum = 0;
    while let Some(next) = numbers.message().await? {
        sum += next.value;
    }
    Ok(Response::new(number(sum)))
}

async fn double_each(request: Request<Streaming<Number>>) -> Result<Response<Numbers>, Status> {
    let doubled = request.into_inner().map(|next| next.map(|next| number(2 * next.value)));
    Ok(Response::new(Box::pin(doubled)))
}

/// A served [`Sums`], and a client of it.
async fn sums() -> (Site, tonic::client::Grpc<Channel>, oneshot::Receiver<()>, oneshot::Receiver<()>) {
    let (called, was_called) = oneshot::channel();
    let (guard, was_dropped) = Dropped::new();
    let sums = Sums { hanging: Arc::new(Mutex::new(Some((called, guard)))) };
    let site = Site::new(Routes::new(sums).into_axum_router());
    let channel = Channel::new(Connector::to_address(site.client(), site.address, "localhost"));
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    (site, client, was_called, was_dropped)
}

fn method(name: &str) -> http::uri::PathAndQuery {
    format!("/test.Sums/{name}").parse().unwrap()
}

#[test]
fn unary_calls_are_answered_and_their_errors_are_trailers_only() {
    run(async {
        let (site, mut client, ..) = sums().await;
        let answer = client.unary(Request::new(number(21)), method("Double"), Codec::default()).await.unwrap();
        assert_eq!(
            (answer.get_ref(), answer.metadata().get("x-made-by").unwrap().as_bytes()),
            (&number(42), &b"double"[..])
        );
        client.ready().await.unwrap();
        let error = client.unary(Request::new(number(u64::MAX)), method("Double"), Codec::default()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (tonic::Code::OutOfRange, "twice that is no number"));
        client.ready().await.unwrap();
        let error = client.unary(Request::new(number(1)), method("Nothing"), Codec::default()).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unimplemented);

        // On the wire the error is one section of fields, and the end.
        let asking = Asking::new(&site.client(), site.address).await;
        let request = http::Request::post(site::uri("/test.Sums/Nothing")).header("content-type", "application/grpc");
        let response = asking.ask(request.body(Bytes::new()).unwrap()).await.unwrap();
        assert_eq!((response.headers()["grpc-status"].as_bytes(), response.body().len()), (&b"12"[..], 0));
        drop(client);
        site.end().await;
    });
}

#[test]
fn streams_of_a_server_come_whole_and_end_with_their_status() {
    run(async {
        let (site, mut client, ..) = sums().await;
        let count = client.server_streaming(Request::new(number(1000)), method("CountTo"), Codec::default()).await;
        let all: Vec<_> = count.unwrap().into_inner().map(|next| next.unwrap().value).collect().await;
        assert!(all.into_iter().eq(1..=1000));
        client.ready().await.unwrap();
        let count = client.server_streaming(Request::new(number(1001)), method("CountTo"), Codec::default()).await;
        let mut all: Vec<_> = count.unwrap().into_inner().collect().await;
        let end = all.pop().unwrap().unwrap_err();
        assert_eq!((all.len(), end.code(), end.message()), (1001, tonic::Code::ResourceExhausted, "that is far"));
        drop(client);
        site.end().await;
    });
}

#[test]
fn streams_of_a_client_arrive_whole() {
    run(async {
        let (site, mut client, ..) = sums().await;
        let numbers = stream::iter((1..=1000).map(number));
        let sum = client.client_streaming(Request::new(numbers), method("Add"), Codec::default()).await.unwrap();
        assert_eq!(sum.into_inner(), number(500_500));
        drop(client);
        site.end().await;
    });
}

#[test]
fn streams_both_ways_answer_each_message_before_the_next_is_sent() {
    run(async {
        let (site, mut client, ..) = sums().await;
        let (sender, receiver) = mpsc::unbounded();
        let mut answers = {
            let call = client.streaming(Request::new(receiver), method("DoubleEach"), Codec::default());
            call.await.unwrap().into_inner()
        };
        for value in 0..100 {
            sender.unbounded_send(number(value)).unwrap();
            assert_eq!(answers.message().await.unwrap(), Some(number(2 * value)));
        }
        drop(sender);
        assert_eq!(answers.message().await.unwrap(), None);
        drop((answers, client));
        site.end().await;
    });
}

#[test]
fn a_server_keeps_the_deadline_of_a_call() {
    run(async {
        let (site, client, was_called, was_dropped) = sums().await;
        // A client that does not keep it itself.
        let mut asking = Asking::new(&site.client(), site.address).await;
        let request = http::Request::post(site::uri("/test.Sums/Hang"))
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "100m");
        let mut call = asking.requests.send_request(request.body(()).unwrap()).await.unwrap();
        // A message of 0 bytes, which is the number 0.
        call.send_data(Bytes::from_static(&[0; 5])).await.unwrap();
        call.finish().await.unwrap();
        was_called.await.unwrap();
        was_dropped.await.unwrap();
        let fields: HeaderMap = call.recv_response().await.unwrap().headers().clone();
        assert_eq!(fields["grpc-status"].as_bytes(), b"4", "DEADLINE_EXCEEDED");
        drop((call, client));
        site.end().await;
    });
}

#[test]
fn a_call_that_is_dropped_drops_its_handler() {
    run(async {
        let (site, mut client, was_called, was_dropped) = sums().await;
        {
            let call = client.unary(Request::new(number(1)), method("Hang"), Codec::default());
            tokio::select! {
                answer = call => panic!("nobody answers: {answer:?}"),
                called = was_called => called.unwrap(),
            }
        }
        was_dropped.await.unwrap();
        drop(client);
        site.end().await;
    });
}

/// A server that answers nothing, and a client of it.
fn silent() -> (sendstream::Server, Connector) {
    let identity = support::identity();
    let server = support::server(&identity).alpn([sendstream_h3::ALPN]).bind(any_port()).unwrap();
    let connector = Connector::to_address(site::client(&identity), server.local_addr().unwrap(), "localhost");
    (server, connector)
}

#[test]
fn a_call_whose_deadline_is_over_is_canceled_with_the_code_for_that() {
    run(async {
        let (server, connector) = silent();
        let calling = async {
            let mut client = tonic::client::Grpc::new(Channel::new(connector));
            client.ready().await.unwrap();
            let (_sender, receiver) = mpsc::unbounded::<Number>();
            let mut request = Request::new(receiver);
            request.set_timeout(Duration::from_millis(100));
            let error = client.streaming(request, method("DoubleEach"), Codec::default()).await.unwrap_err();
            assert_eq!(error.code(), tonic::Code::DeadlineExceeded);
            client
        };
        let hearing = async {
            let connection = support::accept(&server).await.unwrap();
            let (send, mut recv) = connection.accept_bi().await.unwrap();
            let canceled = Some(Code::H3_REQUEST_CANCELLED.value());
            assert_eq!(ends_of(&send, &mut recv).await, (canceled, canceled));
            connection
        };
        drop(futures::join!(calling, hearing));
        server.shutdown().await;
    });
}
