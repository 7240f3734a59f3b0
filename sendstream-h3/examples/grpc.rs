//! A gRPC service over HTTP/3, and a client that calls it: `cargo run --example grpc --features tonic`.
//!
//! Service and client are what tonic's generator would make of a `.proto` file. They are written by
//! hand here, so that the example needs no compiler of protocol buffers.

use std::{convert::Infallible, error::Error, pin::Pin, task::Poll};

use sendstream::{Client, Identity, Server, Trust};
use sendstream_h3::{ALPN, Channel, Connector};
use tonic::{Request, Response, Status, body::Body, codegen::Service, server::NamedService, service::Routes};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

type Codec = tonic_prost::ProstCodec<Text, Text>;

/// `service Greeter { rpc SayHello(Text) returns (Text); }`
#[derive(Clone)]
struct Greeter;

async fn say_hello(request: Request<Text>) -> Result<Response<Text>, Status> {
    Ok(Response::new(Text { text: format!("Hello, {}", request.into_inner().text) }))
}

impl NamedService for Greeter {
    const NAME: &'static str = "hello.Greeter";
}

impl Service<axum::http::Request<Body>> for Greeter {
    type Response = axum::http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            Ok(match request.uri().path() {
                "/hello.Greeter/SayHello" => grpc.unary(tower::service_fn(say_hello), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// Serves the service, calls it once, shuts it down in good order, and returns the answer.
pub(crate) async fn demo() -> Result<String, Box<dyn Error + Send + Sync>> {
    let identity = Identity::self_signed(["localhost"])?;
    let trust = Trust::pinned([identity.certificate_sha256()]);
    let server = Server::builder().identity(identity).alpn([ALPN]).bind("127.0.0.1:0".parse()?)?;
    let address = server.local_addr()?;
    let (shut_down, signal) = tokio::sync::oneshot::channel::<()>();
    let app = Routes::new(Greeter).into_axum_router();
    let serve = sendstream_h3::serve(server, app).with_graceful_shutdown(async {
        let _ = signal.await;
    });
    let serving = tokio::spawn(serve.into_future());

    let client = Client::builder().alpn([ALPN]).trust(trust).build()?;
    let channel = Channel::new(Connector::to_address(client, address, "localhost"));
    let mut greeter = tonic::client::Grpc::new(channel);
    greeter.ready().await?;
    let request = Request::new(Text { text: "world".to_owned() });
    let answer = greeter.unary(request, "/hello.Greeter/SayHello".parse()?, Codec::default()).await?;

    drop(greeter);
    drop(shut_down);
    serving.await?;
    Ok(answer.into_inner().text)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    println!("{}", demo().await?);
    Ok(())
}
