//! The same service for those who come by TCP: HTTPS with HTTP/2 or HTTP/1.1, whose answers say that
//! HTTP/3 is to be had at the same port (`Alt-Svc`, RFC 7838).

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Request, header},
};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tower::ServiceExt as _;

use super::{certificate::Certificate, serve::DRAIN};
use crate::{error::Failure, signal::Interrupted};

/// A server by TCP that listens.
pub(crate) struct TcpServer {
    listeners: Vec<TcpListener>,
    acceptor: TlsAcceptor,
}

impl TcpServer {
    /// Listens on each of the addresses.
    pub(crate) fn bind(addresses: &[SocketAddr], certificate: &Certificate) -> Result<Self, TcpError> {
        let listen = |address: &SocketAddr| {
            let listener = TcpListener::bind(address).map_err(|error| TcpError::Listen(*address, error))?;
            listener.set_nonblocking(true).map_err(|error| TcpError::Listen(*address, error))?;
            Ok(listener)
        };
        let listeners = addresses.iter().map(listen).collect::<Result<_, TcpError>>()?;
        let acceptor = acceptor(certificate).map_err(TcpError::Tls)?;
        Ok(Self { listeners, acceptor })
    }

    /// Serves `app` until `stop`, and then until every request that has come is answered.
    pub(crate) async fn serve(self, app: Router, stop: Interrupted) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let each = self.listeners.into_iter().map(|listener| {
            let port = listener.local_addr()?.port();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let service = Service { app: app.clone(), acceptor: self.acceptor.clone(), alt_svc: alt_svc(port) };
            Ok(service.run(listener, Arc::clone(&room), stop.clone()))
        });
        let mut each = each.collect::<io::Result<FuturesUnordered<_>>>()?;
        while let Some(()) = each.next().await {}
        Ok(())
    }
}

/// Why there is no server by TCP.
#[derive(Debug)]
pub(crate) enum TcpError {
    Listen(SocketAddr, io::Error),
    Tls(String),
}

impl TcpError {
    /// Whether something else has the port.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(self, Self::Listen(_, error) if error.kind() == io::ErrorKind::AddrInUse)
    }
}

impl From<TcpError> for Failure {
    fn from(error: TcpError) -> Self {
        match error {
            TcpError::Listen(address, error) => Self::new(format!("cannot listen on {address} by TCP: {error}"))
                .todo("choose another port with `--listen`"),
            TcpError::Tls(error) => Self::new(format!("cannot use the certificate for TCP: {error}")),
        }
    }
}

fn acceptor(certificate: &Certificate) -> Result<TlsAcceptor, String> {
    let chain = CertificateDer::pem_slice_iter(&certificate.chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(&certificate.key).map_err(|error| error.to_string())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What the connections of one listener share.
#[derive(Clone)]
struct Service {
    app: Router,
    acceptor: TlsAcceptor,
    alt_svc: HeaderValue,
}

impl Service {
    async fn run(self, listener: tokio::net::TcpListener, room: Arc<Semaphore>, mut stop: Interrupted) {
        let graceful = GracefulShutdown::new();
        loop {
            // Clients beyond the limit wait in the listener's backlog.
            let next = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (listener.accept().await, place)
            };
            let (accepted, place) = futures::select_biased! {
                _ = stop => break,
                next = Box::pin(next.fuse()) => next,
            };
            let Ok((stream, peer)) = accepted else {
                // Descriptors have run out, or the client has gone already.
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (service, watcher, stop) = (self.clone(), graceful.watcher(), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                // A connection that fails is its client's affair.
                let _ = service.connection(stream, peer, watcher, stop).await;
            });
        }
        drop(listener);
        // What takes longer is cut off as the runtime ends.
        let _ = timeout(DRAIN, graceful.shutdown()).await;
    }

    async fn connection(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: hyper_util::server::graceful::Watcher,
        mut stop: Interrupted,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // A client of IPv4 at a socket of both families.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        // An answer's last piece must not wait for the client's acknowledgement.
        stream.set_nodelay(true)?;
        let stream = futures::select_biased! {
            _ = stop => return Ok(()),
            stream = Box::pin(timeout(PATIENCE, self.acceptor.accept(stream)).fuse()) => stream??,
        };
        let (app, alt_svc) = (self.app, self.alt_svc);
        let service = tower::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            let (app, alt_svc) = (app.clone(), alt_svc.clone());
            async move {
                let mut response = app.oneshot(request.map(Body::new)).await?;
                response.headers_mut().insert(header::ALT_SVC, alt_svc);
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        server
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(PATIENCE)
            .keep_alive_timeout(PATIENCE);
        let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        watcher.watch(connection.into_owned()).await
    }
}

/// HTTP/3 at this port, for a day.
fn alt_svc(port: u16) -> HeaderValue {
    HeaderValue::from_str(&format!("h3=\":{port}\"; ma=86400")).expect("digits can be in a header")
}

/// How many connections there are at a time.
const MAX_CONNECTIONS: usize = 256;
/// How many requests one of them has at a time.
const MAX_STREAMS: u32 = 100;
/// How many bytes the fields of a request have.
const MAX_HEADERS: u32 = 64 << 10;
/// How long a client may take for its handshake and for the fields of a request, or be silent.
const PATIENCE: Duration = Duration::from_secs(20);
