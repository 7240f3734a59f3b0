//! [`serve`]: a server of HTTP/3 for axum's routers, and so for tonic's services.
//!
//! One task has the server and starts a task for each connection (`serve/connection.rs`), which
//! starts a task for each request (`serve/request.rs`).

mod answering;
mod body;
mod connection;
mod date;
mod inline;
mod request;

use std::{fmt, future::pending, pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use sendstream::{Connections, EarlyConnection, Server};
use tokio::{sync::watch, task::JoinSet};

use crate::connection::Connection;

/// Serves `app` over HTTP/3 to the clients of `server`, until the result is dropped.
///
/// `server` must speak [`ALPN`](crate::ALPN). A tonic service is served through its router
/// (`tonic::service::Routes::into_axum_router`).
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use sendstream::{Identity, Server};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder()
///     .identity(Identity::self_signed(["localhost"])?)
///     .alpn([sendstream_h3::ALPN])
///     .bind("[::1]:4433".parse()?)?;
/// let app = Router::new().route("/", get(|| async { "Hello over HTTP/3" }));
/// sendstream_h3::serve(server, app).await;
/// # Ok(())
/// # }
/// ```
///
/// # What handlers see
///
/// - `axum::extract::ConnectInfo<SocketAddr>`: the client's address, as of when it connected.
/// - [`EarlyData`] among the request's extensions, where it came in 0-RTT packets.
/// - A body whose client gave up, or that is not as long as it said, ends with an error.
///
/// # What clients see
///
/// - A handler is dropped when its client does not want the response any more, or is gone.
/// - A handler that panics, and a response body that fails, reset the request's stream with
///   H3_INTERNAL_ERROR. No other request is concerned.
/// - `date` is added where the handler has given none. Fields that belong to HTTP/1.1's connections
///   are left out (RFC 9114 §4.2). Responses to HEAD have no body.
/// - `expect: 100-continue` is answered when the handler begins to read the body.
/// - A connection is closed with H3_EXCESSIVE_LOAD when its client has given up 1,000 requests more
///   than were answered: by cancelling them, or by requests that are none.
///
/// # Runtime
///
/// It must be polled within a tokio runtime, on which all tasks are spawned. Make `server` in the
/// same one: then no thread hands work to another ([`ServedBy`](sendstream::ServedBy)).
///
/// # Cancel safety
///
/// Dropping it, or its future, closes every connection at once with H3_NO_ERROR, and with it the
/// requests that are under way.
pub fn serve(server: Server, app: Router) -> Serve {
    Serve { server, app, limits: Limits::default(), signal: Box::pin(pending()) }
}

/// What [`serve`] returns: awaited, it serves.
#[must_use = "it serves when it is awaited"]
pub struct Serve {
    server: Server,
    app: Router,
    limits: Limits,
    signal: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Serve {
    /// Serves until `signal` resolves, and then ends in good order.
    ///
    /// New connections are refused. Each client is told by GOAWAY that it shall send no more
    /// requests (RFC 9114 §5.2), and has a round trip's time to hear of it. Requests that come later
    /// are refused with H3_REQUEST_REJECTED: none of them was looked at, so clients may repeat them
    /// elsewhere. Requests that were accepted go on. When a connection's last response is
    /// acknowledged, the connection closes with H3_NO_ERROR.
    ///
    /// What takes longer than [`drain_timeout`](Self::drain_timeout) is cut off.
    pub fn with_graceful_shutdown(self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { signal: Box::pin(signal), ..self }
    }

    /// How long a graceful shutdown may take, from the signal on; 30 seconds.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.limits.drain_timeout = timeout;
        self
    }

    /// How many connections are served at once: at least 1; 10,000. Further clients wait in the
    /// server's [backlog](sendstream::TransportConfig::accept_backlog), and are refused when that is
    /// full.
    ///
    /// A connection without requests counts, too, for as long as its client keeps it alive. One whose
    /// client is silent ends with the transport's idle timeout. One whose client allows the server no
    /// streams ends after 10 seconds, with H3_GENERAL_PROTOCOL_ERROR.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.limits.connections = count.max(1);
        self
    }

    /// How many requests of one connection are served at once: at least 1; 256. Further ones wait.
    /// A request counts until its client has acknowledged all of the response.
    ///
    /// How many a client may send beyond that is the transport's
    /// [`max_concurrent_bidi_streams`](sendstream::TransportConfig::max_concurrent_bidi_streams).
    /// RFC 9114 §6.1 asks for at least 100.
    pub fn max_concurrent_requests(mut self, count: u16) -> Self {
        self.limits.requests = count.max(1);
        self
    }

    /// How large a request's fields may be (SETTINGS_MAX_FIELD_SECTION_SIZE of RFC 9114 §4.2.2): the
    /// bytes of all names and values, and 32 for each field; 64 KiB, and at most 512 KiB. Trailers have
    /// the same limit. A larger request is answered with status 431.
    ///
    /// It also bounds what requests cost whose fields do not come to their end: so many bytes for each
    /// stream that the transport allows
    /// ([`max_concurrent_bidi_streams`](sendstream::TransportConfig::max_concurrent_bidi_streams)).
    pub fn max_field_section_size(mut self, bytes: u64) -> Self {
        // A map of fields takes 24,576 of them and panics at more. Each counts as 33 bytes or more.
        self.limits.field_section_size = bytes.min(512 * 1024);
        self
    }

    /// What becomes of requests that come in 0-RTT packets; they wait for the handshake unless said
    /// otherwise. It counts for a server whose [`Resumption`](sendstream::Resumption) allows early
    /// data.
    pub fn early_requests(mut self, early: EarlyRequests) -> Self {
        self.limits.early = early;
        self
    }

    async fn run(self) {
        let Self { server, app, limits, signal } = self;
        // With its state every route is made once, and not for each request.
        let shared = Arc::new(Shared { app: app.with_state(()), limits });
        // Its end is what tells the connections to come to theirs.
        let (serving, shutdown) = watch::channel(());
        let mut tasks = JoinSet::new();
        {
            let mut accepting = Accepting::new(&server, shared.limits.early);
            let mut signal = signal;
            loop {
                tokio::select! {
                    () = &mut signal => break,
                    _ = tasks.join_next(), if !tasks.is_empty() => {}
                    connection = accepting.next(), if tasks.len() < shared.limits.connections => match connection {
                        Some(connection) => {
                            tasks.spawn(connection::serve(connection, shared.clone(), shutdown.clone()));
                        }
                        None => break,
                    },
                }
            }
        }
        server.stop_listening();
        drop(serving);
        while tasks.join_next().await.is_some() {}
        server.shutdown().await;
    }
}

impl IntoFuture for Serve {
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("server", &self.server).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What becomes of requests that come in 0-RTT packets (RFC 8470). **They can be replayed**: anybody
/// on the path can send them again, so that a handler runs twice. See
/// [`Resumption`](sendstream::Resumption).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EarlyRequests {
    /// They wait until the handshake is done. Then they are certainly the client's own, sent now.
    #[default]
    Wait,
    /// Those with safe methods (GET, HEAD, OPTIONS and TRACE; RFC 9110 §9.2.1) are served at once,
    /// with [`EarlyData`] among their extensions. Others are answered with 425 (Too Early), after
    /// which a client sends them again when the handshake is done.
    Safe,
    /// All are served at once, with [`EarlyData`] among their extensions. A handler that must not run
    /// twice looks for it, and answers with 425 (Too Early).
    All,
}

/// Among a request's extensions if it came in 0-RTT packets and is served before the handshake is
/// known to be done: it may be a copy that somebody else sent. See [`EarlyRequests`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EarlyData;

/// What the tasks of all connections share.
struct Shared {
    app: Router,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    requests: u16,
    field_section_size: u64,
    drain_timeout: Duration,
    early: EarlyRequests,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            requests: 256,
            field_section_size: 64 * 1024,
            drain_timeout: Duration::from_secs(30),
            early: EarlyRequests::Wait,
        }
    }
}

/// The connections that come, many handshakes at once.
enum Accepting<'a> {
    Connected(Connections<'a>),
    Early(Connections<'a, EarlyConnection>),
}

impl<'a> Accepting<'a> {
    fn new(server: &'a Server, early: EarlyRequests) -> Self {
        match early {
            EarlyRequests::Wait => Self::Connected(server.connections()),
            EarlyRequests::Safe | EarlyRequests::All => Self::Early(server.early_connections()),
        }
    }

    /// Cancel safe, as those of the library are.
    async fn next(&mut self) -> Option<Connection> {
        match self {
            Self::Connected(connections) => connections.next().await.map(Connection::new),
            Self::Early(connections) => connections.next().await.map(Connection::early),
        }
    }
}
