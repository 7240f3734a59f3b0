//! An axum application over HTTP/3, and a client that asks it: `cargo run --example axum --features axum`.

use std::{error::Error, future::poll_fn};

use axum::{Router, extract::Path, http::Request, routing::get};
use bytes::Buf as _;
use sendstream::{Client, Identity, Server, Trust};
use sendstream_h3::{ALPN, Connector};

/// What is served. It knows nothing of QUIC.
fn app() -> Router {
    Router::new().route(
        "/hello/{name}",
        get(|Path(name): Path<String>, request: axum::extract::Request| async move {
            format!("Hello, {name}, over {:?}", request.version())
        }),
    )
}

/// Serves the application, asks it once, shuts it down in good order, and returns the answer.
pub(crate) async fn demo() -> Result<String, Box<dyn Error + Send + Sync>> {
    let identity = Identity::self_signed(["localhost"])?;
    let trust = Trust::pinned([identity.certificate_sha256()]);
    let server = Server::builder().identity(identity).alpn([ALPN]).bind("127.0.0.1:0".parse()?)?;
    let address = server.local_addr()?;

    // A program that serves for ever gives `tokio::signal::ctrl_c` here.
    let (shut_down, signal) = tokio::sync::oneshot::channel::<()>();
    let serve = sendstream_h3::serve(server, app()).with_graceful_shutdown(async {
        let _ = signal.await;
    });
    let serving = tokio::spawn(serve.into_future());

    let client = Client::builder().alpn([ALPN]).trust(trust).build()?;
    let connection = Connector::to_address(client, address, "localhost").connect().await?;
    let (mut driver, mut requests) = h3::client::new(connection).await?;
    let driving = tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });

    let request = Request::get("https://localhost/hello/world").body(())?;
    let mut exchange = requests.send_request(request).await?;
    exchange.finish().await?;
    let response = exchange.recv_response().await?;
    println!("{}", response.status());
    let mut body = Vec::new();
    while let Some(mut data) = exchange.recv_data().await? {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }

    drop((exchange, requests));
    driving.await?;
    drop(shut_down);
    serving.await?;
    Ok(String::from_utf8(body)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    println!("{}", demo().await?);
    Ok(())
}
