//! One connection to each server, however many URLs it has.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use h3::{client::SendRequest, error::StreamError};
use sendstream::{Client, ConnectError, Connection, ConnectionError, TransportConfig};
use tokio::task::JoinHandle;
use url::Url;

use crate::error::{Failure, FailureJson, Kind, chain, connection_error};

/// Connections to servers, made when they are first needed.
pub(crate) struct Origins {
    client: Arc<Client>,
    known: Mutex<HashMap<Authority, Connecting>>,
    drivers: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// A connection that is made once, for all who need it.
type Connecting = Shared<BoxFuture<'static, Result<Arc<Origin>, Problem>>>;

/// A server that is connected.
pub(crate) struct Origin {
    pub(crate) requests: SendRequest<sendstream_h3::OpenStreams, Bytes>,
    pub(crate) connection: Connection,
}

/// Host and port of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Authority {
    host: String,
    port: u16,
}

impl Authority {
    /// Of a URL with a host, as every `https` URL is.
    pub(crate) fn of(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default().to_owned();
        Self { host, port: url.port_or_known_default().unwrap_or(HTTPS) }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Origins {
    pub(crate) fn new(client: Client) -> Self {
        Self { client: Arc::new(client), known: Mutex::default(), drivers: Arc::default() }
    }

    /// The connection to the URL's server. One that failed fails for all of its URLs.
    pub(crate) async fn get(&self, url: &Url) -> Result<Arc<Origin>, Problem> {
        let authority = Authority::of(url);
        let connecting = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let begin =
                || connect(Arc::clone(&self.client), authority.clone(), Arc::clone(&self.drivers)).boxed().shared();
            known.entry(authority.clone()).or_insert_with(begin).clone()
        };
        connecting.await
    }

    /// Ends every connection in good order.
    pub(crate) async fn close(self) {
        // A connection ends when nobody can send a request on it any more.
        drop(self.known);
        let drivers = std::mem::take(&mut *self.drivers.lock().unwrap_or_else(PoisonError::into_inner));
        for driver in drivers {
            // It has no panic of its own.
            let _ = driver.await;
        }
        self.client.wait_idle().await;
    }
}

async fn connect(
    client: Arc<Client>,
    authority: Authority,
    drivers: Arc<Mutex<Vec<JoinHandle<()>>>>,
) -> Result<Arc<Origin>, Problem> {
    let connection = client
        .connect_host(&authority.host, authority.port)
        .await
        .map_err(|error| Problem::connecting(&error, &authority))?;
    let (mut driver, requests) = h3::client::builder()
        .max_field_section_size(MAX_FIELDS)
        .build(sendstream_h3::Connection::new(connection.clone()))
        .await
        .map_err(|error| Problem::lost(&error, &authority))?;
    // What it ends with is told by the requests.
    let drive = tokio::spawn(async move { drop(poll_fn(|cx| driver.poll_close(cx)).await) });
    drivers.lock().unwrap_or_else(PoisonError::into_inner).push(drive);
    Ok(Arc::new(Origin { requests, connection }))
}

/// Why a URL could not be fetched, and what the user can do about it. Sentences without full stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) what: String,
    pub(crate) todo: Option<String>,
    pub(crate) kind: Kind,
}

impl Problem {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), todo: None, kind: Kind::Failed }
    }

    fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into()), ..self }
    }

    fn connecting(error: &ConnectError, authority: &Authority) -> Self {
        match error {
            ConnectError::Unresolved { error, .. } => Self::new(format!("cannot find {authority}: {error}"))
                .kind(Kind::Unresolved)
                .todo("check how the name is spelt"),
            error => Self::lost(error, authority),
        }
    }

    /// Says why a request has no answer, or only a part of one.
    pub(crate) fn unanswered(error: &StreamError, authority: &Authority) -> Self {
        match error {
            StreamError::ConnectionError(h3::error::ConnectionError::Timeout) => Self::new(format!(
                "{authority} went silent in the middle: it was killed, or the network between failed"
            ))
            .kind(Kind::Timeout),
            StreamError::RemoteTerminate { code } => Self::new(format!("{authority} broke it off ({code})")),
            StreamError::RemoteClosing => Self::new(format!("{authority} is about to end and takes no more requests"))
                .todo("try again in a while"),
            error => Self::lost(error, authority),
        }
    }

    /// Says why a connection to a server could not be made, or was lost.
    fn lost(error: &(dyn Error + 'static), authority: &Authority) -> Self {
        let Some(cause) = connection_error(error) else {
            return Self::new(format!("{authority}: {}", chain(error)));
        };
        match cause {
            ConnectionError::Tls { alert: NO_APPLICATION_PROTOCOL, .. } => {
                Self::new(format!("what listens at {authority} does not speak HTTP/3")).kind(Kind::Protocol)
            }
            ConnectionError::VersionMismatch => {
                Self::new(format!("what listens at {authority} speaks no version of QUIC that this end knows"))
                    .kind(Kind::Protocol)
            }
            ConnectionError::CertificateRefused(_) => {
                Self::new(format!("the certificate of {authority} is not trusted ({cause}); nothing was sent"))
                    .kind(Kind::Certificate)
                    .todo("`--ca FILE` names an authority that vouches for it, and `--pin HASH` the certificate itself")
            }
            ConnectionError::TimedOut(_) => Self::new(format!("no answer from {authority}"))
                .kind(Kind::Timeout)
                .todo("it may speak no HTTP/3, or a firewall may drop UDP to that port"),
            ConnectionError::Unreachable => {
                Self::new(format!("nobody listens at {authority} by UDP, or no network path leads there"))
                    .kind(Kind::Unreachable)
            }
            ConnectionError::System(error) => {
                Failure::of_system(format_args!("cannot reach {authority}"), *error).into()
            }
            ConnectionError::Refused => Self::new(format!("{authority} takes no more connections at present"))
                .kind(Kind::Full)
                .todo("try again in a while"),
            other => Self::new(format!("the connection to {authority} was lost: {other}")),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let FailureJson { error, kind, hint } = failure.to_json();
        Self { what: error.to_owned(), todo: hint.map(str::to_owned), kind }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// A server that was killed is noticed within ten seconds; one that only takes its time is not. Servers
/// open three streams for HTTP/3, and none for requests.
pub(crate) fn settings() -> TransportConfig {
    TransportConfig::default()
        .idle_timeout(PATIENCE)
        .disconnect_timeout(PATIENCE)
        .handshake_timeout(PATIENCE)
        .keep_alive(Duration::from_secs(2))
        .max_concurrent_bidi_streams(0)
        .max_concurrent_uni_streams(8)
        .datagram_receive_buffer(None)
}

const HTTPS: u16 = 443;
const PATIENCE: Duration = Duration::from_secs(10);
/// How many bytes the fields of a response may have, as RFC 9114 §4.2.2 counts them.
const MAX_FIELDS: u64 = 64 << 10;
/// The TLS alert of RFC 7301 §3.2.
const NO_APPLICATION_PROTOCOL: u8 = 120;
