//! h3 on quinn as the client of our server, and as the server of our client, over good networks and
//! bad ones.

use std::{future::poll_fn, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request},
    routing::{get, post},
};
use bytes::{Buf as _, Bytes};
use futures::{StreamExt as _, future::join_all, stream};
use h3::client::SendRequest;
use http::{Method, Response};
use ring::digest::{Context, SHA256};
use sendstream::{CertificateHash, Trust};
use tokio::task::JoinHandle;

use crate::{
    site::{self, Site},
    support::{
        self, foreign, on_tokio, pattern,
        relay::{Faults, Relay},
    },
};

const MIB: usize = 1024 * 1024;

/// `length` bytes, in pieces.
fn pieces(length: usize) -> impl Iterator<Item = Bytes> + Send {
    let block = Bytes::from(pattern(MIB));
    (0..length).step_by(MIB).map(move |at| block.slice(..MIB.min(length - at)))
}

fn hex(context: Context) -> String {
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of what [`pieces`] gives.
fn digest(length: usize) -> String {
    let mut context = Context::new(&SHA256);
    pieces(length).for_each(|piece| context.update(&piece));
    hex(context)
}

/// `/bytes/N` sends N bytes, and `/digest` tells what it was sent.
fn app() -> Router {
    async fn bytes(Path(length): Path<usize>) -> Body {
        Body::from_stream(stream::iter(pieces(length).map(Ok::<_, std::io::Error>)))
    }
    async fn told(request: Request) -> String {
        let mut context = Context::new(&SHA256);
        let mut body = request.into_body().into_data_stream();
        while let Some(data) = body.next().await {
            context.update(&data.unwrap());
        }
        hex(context)
    }
    Router::new().route("/bytes/{length}", get(bytes)).route("/digest", post(told))
}

/// The same below axum, for a server of h3's on quinn.
async fn answer(resolver: h3::server::RequestResolver<h3_quinn::Connection, Bytes>) {
    let (request, mut stream) = resolver.resolve_request().await.unwrap();
    // Who drops a request unread tells its client to stop, which h3's `finish` fails by.
    if request.method() == Method::GET {
        assert!(stream.recv_data().await.unwrap().is_none());
    }
    if let Some(length) = request.uri().path().strip_prefix("/bytes/") {
        stream.send_response(Response::new(())).await.unwrap();
        for piece in pieces(length.parse().unwrap()) {
            stream.send_data(piece).await.unwrap();
        }
    } else {
        let mut context = Context::new(&SHA256);
        while let Some(mut data) = stream.recv_data().await.unwrap() {
            context.update(&data.copy_to_bytes(data.remaining()));
        }
        stream.send_response(Response::new(())).await.unwrap();
        stream.send_data(hex(context).into()).await.unwrap();
    }
    stream.finish().await.unwrap();
}

/// Asks for `length` bytes, and sends as many. Both must arrive as they are.
async fn both_ways<O>(requests: SendRequest<O, Bytes>, length: usize)
where
    O: h3::quic::OpenStreams<Bytes> + Clone,
    O::BidiStream: h3::quic::BidiStream<Bytes>,
{
    let expected = digest(length);
    let down = async {
        let mut requests = requests.clone();
        let request = site::get(&format!("/bytes/{length}")).map(drop);
        let mut stream = requests.send_request(request).await.unwrap();
        stream.finish().await.unwrap();
        assert!(stream.recv_response().await.unwrap().status().is_success());
        let mut context = Context::new(&SHA256);
        while let Some(mut data) = stream.recv_data().await.unwrap() {
            context.update(&data.copy_to_bytes(data.remaining()));
        }
        hex(context)
    };
    let up = async {
        let mut requests = requests.clone();
        let mut stream = requests.send_request(site::post("/digest", "").map(drop)).await.unwrap();
        for piece in pieces(length) {
            stream.send_data(piece).await.unwrap();
        }
        stream.finish().await.unwrap();
        assert!(stream.recv_response().await.unwrap().status().is_success());
        let mut told = String::new();
        while let Some(mut data) = stream.recv_data().await.unwrap() {
            told += str::from_utf8(&data.copy_to_bytes(data.remaining())).unwrap();
        }
        told
    };
    let (down, up) = futures::join!(down, up);
    assert_eq!((&down, &up), (&expected, &expected), "{length} bytes");
}

/// Bodies of every size, and 100 requests of each kind at once.
async fn exchanges<O>(requests: SendRequest<O, Bytes>, largest: usize)
where
    O: h3::quic::OpenStreams<Bytes> + Clone,
    O::BidiStream: h3::quic::BidiStream<Bytes>,
{
    for length in [0, 1, MIB, largest] {
        both_ways(requests.clone(), length).await;
    }
    join_all((0..100).map(|n| both_ways(requests.clone(), 100 * n))).await;
}

/// A connection of h3's on quinn, driven by a task.
async fn quinn_to(
    site: &Site,
    address: SocketAddr,
) -> (quinn::Endpoint, SendRequest<h3_quinn::OpenStreams, Bytes>, JoinHandle<h3::error::ConnectionError>) {
    let endpoint = foreign::client_with(&site.identity, |tls| tls.alpn_protocols = vec![b"h3".to_vec()]);
    let connection = endpoint.connect(address, "localhost").unwrap().await.unwrap();
    let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection)).await.unwrap();
    (endpoint, requests, tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await }))
}

/// A server of h3's on quinn.
fn quinn_server() -> (quinn::Endpoint, Trust) {
    let own = foreign::certified();
    let mut tls = foreign::server_tls(&own);
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let endpoint = foreign::server(tls, |config| {
        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_bidi_streams(250_u32.into());
        config.transport_config(Arc::new(transport));
    });
    let listening = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = listening.accept().await {
            let connection = h3_quinn::Connection::new(incoming.await.unwrap());
            let mut server = h3::server::Connection::new(connection).await.unwrap();
            while let Ok(Some(resolver)) = server.accept().await {
                tokio::spawn(answer(resolver));
            }
        }
    });
    (endpoint, Trust::pinned([CertificateHash::of(own.cert.der())]))
}

async fn quinn_asks_us(faults: Option<Faults>, largest: usize) {
    let site = Site::new(app());
    let relay = faults.map(|faults| Relay::start(site.address, faults));
    let address = relay.as_ref().map_or(site.address, Relay::address);
    let (_endpoint, requests, over) = quinn_to(&site, address).await;
    exchanges(requests.clone(), largest).await;
    site.end().await;
    site::assert_no_error(&over.await.unwrap());
}

async fn we_ask_quinn(faults: Option<Faults>, largest: usize) {
    let (endpoint, trust) = quinn_server();
    let server = endpoint.local_addr().unwrap();
    let relay = faults.map(|faults| Relay::start(server, faults));
    let address = relay.as_ref().map_or(server, Relay::address);
    let client = support::client_with(trust).alpn([sendstream_h3::ALPN]).build().unwrap();
    let asking = site::Asking::new(&client, address).await;
    exchanges(asking.requests.clone(), largest).await;
    drop(asking);
    client.wait_idle().await;
}

/// Loss and reordering.
fn bad() -> Option<Faults> {
    Some(Faults::none().lose(0.01).reorder(0.01, std::time::Duration::from_millis(5)).duplicate(0.01))
}

#[test]
fn h3_on_quinn_asks_our_server() {
    on_tokio(quinn_asks_us(None, 100 * MIB));
}

#[test]
fn our_client_asks_h3_on_quinn() {
    on_tokio(we_ask_quinn(None, 100 * MIB));
}

#[test]
fn h3_on_quinn_asks_our_server_over_a_bad_network() {
    on_tokio(quinn_asks_us(bad(), 100 * MIB));
}

#[test]
fn our_client_asks_h3_on_quinn_over_a_bad_network() {
    on_tokio(we_ask_quinn(bad(), 100 * MIB));
}
