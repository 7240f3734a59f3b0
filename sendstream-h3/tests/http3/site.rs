//! A served application, and clients that ask it.

use std::{future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use bytes::{Buf, Bytes, BytesMut};
use futures::channel::oneshot;
use h3::client::{RequestStream, SendRequest};
use http::{HeaderMap, Request, Response};
use sendstream::{Client, Identity, MemorySessionCache, Resumption, Server, TransportConfig};
use sendstream_h3::{BidiStream, Connection, OpenStreams, Serve};
use tokio::task::JoinHandle;

use crate::support;

/// An application that is served in a task of its own until [`Site::end`].
pub(crate) struct Site {
    pub(crate) identity: Identity,
    pub(crate) address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Site {
    pub(crate) fn new(app: Router) -> Self {
        Self::with(app, |serve| serve)
    }

    pub(crate) fn with(app: Router, adjust: impl FnOnce(Serve) -> Serve) -> Self {
        Self::on(TransportConfig::default(), app, adjust)
    }

    pub(crate) fn on(transport: TransportConfig, app: Router, adjust: impl FnOnce(Serve) -> Serve) -> Self {
        let identity = support::identity();
        let server = Server::builder()
            .identity(identity.clone())
            .alpn([sendstream_h3::ALPN])
            .resumption(Resumption::ResumeAndZeroRtt)
            .transport(transport)
            .bind(support::any_port())
            .unwrap();
        let address = server.local_addr().unwrap();
        let (shutdown, signal) = oneshot::channel();
        let serve = adjust(sendstream_h3::serve(server, app)).with_graceful_shutdown(async {
            let _ = signal.await;
        });
        Self { identity, address, shutdown: Some(shutdown), serving: tokio::spawn(serve.into_future()) }
    }

    /// A client that trusts it.
    pub(crate) fn client(&self) -> Client {
        client(&self.identity)
    }

    /// Begins to shut down.
    pub(crate) fn shut_down(&mut self) {
        self.shutdown.take().expect("once").send(()).unwrap();
    }

    /// Waits until everything was served.
    pub(crate) async fn served(self) {
        self.serving.await.unwrap();
    }

    pub(crate) async fn end(mut self) {
        self.shut_down();
        self.served().await;
    }
}

pub(crate) fn client(identity: &Identity) -> Client {
    Client::builder()
        .alpn([sendstream_h3::ALPN])
        .trust(support::pinned(identity))
        .session_cache(Arc::new(MemorySessionCache::default()))
        .build()
        .unwrap()
}

/// An HTTP/3 client's connection, driven by a task.
pub(crate) struct Asking {
    pub(crate) requests: SendRequest<OpenStreams, Bytes>,
    pub(crate) over: JoinHandle<h3::error::ConnectionError>,
    /// Below.
    pub(crate) connection: sendstream::Connection,
}

impl Asking {
    pub(crate) async fn new(client: &Client, address: SocketAddr) -> Self {
        let connection = client.connect(address, "localhost").await.unwrap();
        let (requests, over) = start(Connection::new(connection.clone())).await;
        Self { requests, over, connection }
    }

    /// Sends a request whole, and reads the response whole.
    pub(crate) async fn ask(&self, request: Request<Bytes>) -> Result<Response<Bytes>, h3::error::StreamError> {
        ask(self.requests.clone(), request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response<Bytes> {
        self.ask(get(path)).await.unwrap()
    }
}

pub(crate) async fn start(
    connection: Connection,
) -> (SendRequest<OpenStreams, Bytes>, JoinHandle<h3::error::ConnectionError>) {
    let (mut driver, requests) = h3::client::new(connection).await.unwrap();
    (requests, tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await }))
}

pub(crate) fn uri(path: &str) -> String {
    format!("https://localhost{path}")
}

pub(crate) fn get(path: &str) -> Request<Bytes> {
    Request::get(uri(path)).body(Bytes::new()).unwrap()
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post(uri(path)).body(body.into()).unwrap()
}

/// Sends a request whole, and reads the response whole, both at once. Trailers are among the
/// response's extensions.
pub(crate) async fn ask<O>(
    mut requests: SendRequest<O, Bytes>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, h3::error::StreamError>
where
    O: h3::quic::OpenStreams<Bytes>,
    O::BidiStream: h3::quic::BidiStream<Bytes>,
{
    let (parts, body) = request.into_parts();
    let (mut send, mut recv) = requests.send_request(Request::from_parts(parts, ())).await?.split();
    let sending = async {
        for piece in pieces(body) {
            send.send_data(piece).await?;
        }
        send.finish().await
    };
    let receiving = async {
        let response = recv.recv_response().await?;
        let mut body = BytesMut::new();
        while let Some(mut data) = recv.recv_data().await? {
            body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        let trailers = recv.recv_trailers().await?;
        Ok((response, body.freeze(), trailers))
    };
    // A server may answer before it has the body, and stop it.
    let (sent, received) = futures::join!(sending, receiving);
    let (response, body, trailers) = received?;
    drop(sent);
    let mut response = response.map(|()| body);
    response.extensions_mut().insert(trailers);
    Ok(response)
}

/// `body` in the pieces in which an application would have it.
fn pieces(body: Bytes) -> impl Iterator<Item = Bytes> {
    const PIECE: usize = 128 * 1024;
    (0..body.len()).step_by(PIECE).map(move |at| body.slice(at..body.len().min(at + PIECE)))
}

/// The trailers of a response of [`ask`].
pub(crate) fn trailers(response: &Response<Bytes>) -> Option<&HeaderMap> {
    response.extensions().get::<Option<HeaderMap>>().unwrap().as_ref()
}

/// Both halves of a request under way.
pub(crate) type Under = RequestStream<BidiStream, Bytes>;

/// Ends in a panic where a test would hang.
pub(crate) fn run<T: Send + 'static>(test: impl Future<Output = T> + Send + 'static) -> T {
    support::on_tokio(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("nothing hangs") })
}
