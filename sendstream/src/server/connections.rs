//! [`Connections`]: a server's connections, once their handshakes are done.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_core::Stream;

use crate::{
    connection::Connection,
    early::EarlyConnection,
    native::deadline::{self, Pause},
    server::{Server, incoming::Incoming},
    types::error::ConnectionError,
};

/// The connections of a [`Server`], each as soon as its handshake is done: from
/// [`Server::connections`]; or as soon as early data may be read, from
/// [`Server::early_connections`]. A stream of them, which ends when [`Server::accept`] gives `None` and no
/// handshake is under way any more.
///
/// Many handshakes are under way at once, so that a client which takes its time, or never answers,
/// holds up nobody else. Up to 256 are, or as many as [`handshakes`](Self::handshakes) says. More
/// clients wait in the [backlog](crate::TransportConfig::accept_backlog) until one is done. But a
/// handshake that has taken a second gives way to a client that waits, the oldest first: otherwise
/// clients that stall could keep everybody else out for as long as the
/// [`handshake_timeout`](crate::TransportConfig::handshake_timeout). The client whose handshake gave
/// way sees that the server closed the connection, with code 0 if it had come far enough, and
/// otherwise [`ConnectionError::Refused`].
///
/// A handshake that fails is told to the log, and to nobody else.
///
/// ```
/// # use sendstream::{Client, Identity, Server, Trust};
/// # futures::executor::block_on(async {
/// # let identity = Identity::self_signed(["localhost"])?;
/// # let client = Client::builder().alpn(["demo"]).trust(Trust::pinned([identity.certificate_sha256()])).build()?;
/// # let server = Server::builder().identity(identity).alpn(["demo"]).bind("127.0.0.1:0".parse()?)?;
/// # let connected = client.connect(server.local_addr()?, "localhost");
/// # let serving = async {
/// let mut connections = server.connections();
/// while let Some(connection) = connections.next().await {
///     // Serve it in a task of its own.
/// #   server.stop_listening();
/// #   drop(connection);
/// }
/// # };
/// # let (connected, ()) = futures::join!(connected, serving);
/// # drop(connected?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Dropping it closes the connections whose handshakes are under way.
#[must_use = "streams do nothing unless polled"]
pub struct Connections<'a, C = Connection> {
    server: &'a Server,
    /// Begins a handshake.
    begin: fn(Incoming) -> Outcome<C>,
    limit: usize,
    /// The wait for the next client, unless there will be none.
    accepting: Option<Accepting<'a>>,
    /// The client that waits for a handshake to give way.
    next: Option<Incoming>,
    /// The oldest first.
    under_way: VecDeque<Handshake<C>>,
    /// Ends when the oldest is to give way.
    pause: Option<Pause>,
}

type Accepting<'a> = Pin<Box<dyn Future<Output = Option<Incoming>> + Send + Sync + 'a>>;

type Outcome<C> = Pin<Box<dyn Future<Output = Result<C, ConnectionError>> + Send + Sync>>;

struct Handshake<C> {
    begun: Instant,
    outcome: Outcome<C>,
}

impl<'a> Connections<'a> {
    pub(super) fn connected(server: &'a Server) -> Self {
        Self::new(server, |incoming| Box::pin(incoming.accept()))
    }
}

impl<'a> Connections<'a, EarlyConnection> {
    pub(super) fn early(server: &'a Server) -> Self {
        Self::new(server, |incoming| Box::pin(incoming.accept_0rtt()))
    }
}

impl<'a, C> Connections<'a, C> {
    fn new(server: &'a Server, begin: fn(Incoming) -> Outcome<C>) -> Self {
        Self {
            server,
            begin,
            limit: HANDSHAKES,
            accepting: Some(Box::pin(server.accept())),
            next: None,
            under_way: VecDeque::new(),
            pause: None,
        }
    }

    /// How many handshakes may be under way at once: at least 1; 256.
    pub fn handshakes(mut self, limit: usize) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// The next connection whose handshake is done; `None` once there will be none any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection, and no handshake.
    pub async fn next(&mut self) -> Option<C> {
        poll_fn(|cx| self.poll_connection(cx)).await
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Option<C>> {
        let mut index = 0;
        while let Some(handshake) = self.under_way.get_mut(index) {
            match handshake.outcome.as_mut().poll(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(outcome) => {
                    self.under_way.remove(index);
                    if let Ok(connection) = outcome {
                        return Poll::Ready(Some(connection));
                    }
                }
            }
        }
        while let Some(incoming) = self.poll_incoming(cx) {
            if !self.has_room(cx) {
                self.next = Some(incoming);
                return Poll::Pending;
            }
            let mut outcome = (self.begin)(incoming);
            match outcome.as_mut().poll(cx) {
                Poll::Pending => self.under_way.push_back(Handshake { begun: Instant::now(), outcome }),
                Poll::Ready(Ok(connection)) => return Poll::Ready(Some(connection)),
                Poll::Ready(Err(_)) => {}
            }
        }
        if self.accepting.is_none() && self.under_way.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }

    /// The next client, if one waits.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Option<Incoming> {
        if let Some(incoming) = self.next.take() {
            return Some(incoming);
        }
        let Poll::Ready(incoming) = self.accepting.as_mut()?.as_mut().poll(cx) else { return None };
        self.accepting = incoming.is_some().then(|| Box::pin(self.server.accept()) as Accepting<'a>);
        incoming
    }

    /// Whether one more handshake may begin. If not, the task is woken when the oldest may give way.
    fn has_room(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let Some(oldest) = self.under_way.front().filter(|_| self.under_way.len() >= self.limit) else {
                return true;
            };
            let gives_way = oldest.begun + UNDISTURBED;
            if gives_way <= Instant::now() {
                self.under_way.pop_front();
                return true;
            }
            // The one of before may end too early for this oldest: then it is followed by another.
            let pause = self.pause.get_or_insert_with(|| deadline::pause(gives_way));
            if Pin::new(pause).poll(cx).is_pending() {
                return false;
            }
            self.pause = None;
        }
    }
}

impl<C> Stream for Connections<'_, C> {
    type Item = C;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<C>> {
        self.poll_connection(cx)
    }
}

impl<C> fmt::Debug for Connections<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("limit", &self.limit)
            .field("under_way", &self.under_way.len())
            .finish_non_exhaustive()
    }
}

/// How many handshakes are under way at once unless said otherwise.
const HANDSHAKES: usize = 256;

/// How long a handshake need not give way: several round trips of any path.
const UNDISTURBED: Duration = Duration::from_secs(1);
