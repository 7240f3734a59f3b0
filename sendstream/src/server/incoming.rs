//! [`Incoming`], and the queue in which connections wait for an application that accepts them.

use std::{
    collections::VecDeque,
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use sendstream_core::{
    foreign::contain,
    wait::{KeyedWait, Lock, LockGuard, Retire, WaiterKey, Waiters, Wakeups},
};

use crate::{
    connection::Connection,
    driver::{
        connection::{deadline::Deadline, hold::User},
        wakes::Wake as _,
    },
    early::EarlyConnection,
    native::key_log::KeyLog,
    server::config::ServerConfig,
    types::error::ConnectionError,
};

/// A connection that a client wants and nobody has accepted yet.
///
/// It may be kept while the application makes up its mind, but not longer than the server's
/// [`handshake_timeout`](crate::TransportConfig::handshake_timeout), counted from the client's first packet: then the
/// connection ends as timed out. Dropping it refuses the connection.
///
/// ```no_run
/// # async fn serve(server: sendstream::Server, special: sendstream::ServerConfig) {
/// while let Some(incoming) = server.accept().await {
///     if incoming.server_name() == "special.example" {
///         let _connection = incoming.accept_with(&special).await;
///     } else if !incoming.alpn().any(|protocol| protocol == b"demo") {
///         incoming.refuse();
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Incoming {
    new: NewConnection,
    config: ServerConfig,
}

impl Incoming {
    pub(crate) fn new(new: NewConnection, config: ServerConfig) -> Self {
        Self { new, config }
    }

    /// The client's address. It may not be the client's at all before the handshake is done: a first packet's source is
    /// easily forged.
    pub fn remote_addr(&self) -> SocketAddr {
        self.new.remote_addr
    }

    /// The address of the server's that the client has sent to.
    pub fn local_addr(&self) -> SocketAddr {
        self.new.local_addr
    }

    /// The server name that the client asked for (RFC 6066 §3); empty if it asked for none.
    pub fn server_name(&self) -> &str {
        &self.new.server_name
    }

    /// The application protocols that the client offers, the most wanted first (RFC 7301 §3.1). One of them at least is
    /// among the server's.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        self.new.alpn.iter().map(Vec::as_slice)
    }

    /// Goes through the handshake with what the server was built with (`ConnectionSetConfiguration`), and gives the
    /// connection.
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the handshake: the client gave up, it or the application took too long
    /// ([`ConnectionError::TimedOut`]), TLS found no agreement, or the client's certificate was refused
    /// ([`ConnectionError::CertificateRefused`]).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept(self) -> Result<Connection, ConnectionError> {
        let Self { new, config } = self;
        new.accept(&config).await
    }

    /// [`accept`](Self::accept) with another identity, other client certificates, protocols or transport settings than the
    /// server's own.
    ///
    /// Which clients come this far is up to the server's own protocols. Of the protocols in `config`, the first that the
    /// client offers is spoken. The whole handshake must be done within the `handshake_timeout` of `config`, counted from
    /// the client's first packet.
    ///
    /// # Errors
    ///
    /// As for [`accept`](Self::accept); the client and `config` have no protocol in common
    /// ([`ConnectionError::Tls`] with alert 120).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept_with(self, config: &ServerConfig) -> Result<Connection, ConnectionError> {
        self.new.accept(config).await
    }

    /// As [`accept`](Self::accept), but resolves as soon as the client's early data can be read, before the handshake is
    /// done (`QUIC_CONNECTION_EVENT_RESUMED`): if the client resumes a session. Otherwise when the handshake is done.
    ///
    /// **Early data can be replayed**: see [`Resumption`](crate::Resumption). Where it may be acted upon once only, use `accept`: when the
    /// handshake is done, so that `accept` resolves, the client is there, and what it sent early was sent by it now.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept_0rtt(self) -> Result<EarlyConnection, ConnectionError> {
        let Self { new, config } = self;
        new.accept_0rtt(&config).await
    }

    /// [`accept_0rtt`](Self::accept_0rtt) with another `config` than the server's, as [`accept_with`](Self::accept_with). Its
    /// [resumption](crate::ServerBuilder::resumption) and ticket keys count.
    ///
    /// # Errors
    ///
    /// As for [`accept_with`](Self::accept_with).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept_0rtt_with(self, config: &ServerConfig) -> Result<EarlyConnection, ConnectionError> {
        self.new.accept_0rtt(config).await
    }

    /// Refuses the connection; the client sees [`ConnectionError::Refused`].
    ///
    /// There is no code to give: an application's codes may not be shown before the handshake is done (RFC 9000 §10.2.3),
    /// and MsQuic puts APPLICATION_ERROR in their place. Accept a connection and [close](Connection::close) it to say more.
    pub fn refuse(self) {
        drop(self);
    }
}

/// A connection that a client wants, of which nothing but its first packets is known.
#[derive(Debug)]
pub(crate) struct NewConnection {
    pub(crate) user: User,
    pub(crate) remote_addr: SocketAddr,
    pub(crate) local_addr: SocketAddr,
    pub(crate) server_name: String,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) arrived: Instant,
    /// Ends the connection when it has waited for too long.
    pub(crate) deadline: Deadline,
}

impl NewConnection {
    async fn accept(self, config: &ServerConfig) -> Result<Connection, ConnectionError> {
        let (user, _deadline) = self.go_on(config);
        poll_fn(|cx| user.inner().lock().poll_connected(cx)).await?;
        Ok(Connection::new(user))
    }

    async fn accept_0rtt(self, config: &ServerConfig) -> Result<EarlyConnection, ConnectionError> {
        let (user, deadline) = self.go_on(config);
        poll_fn(|cx| user.inner().lock().poll_early(cx)).await?;
        Ok(EarlyConnection::new(user, deadline, false))
    }

    /// Has the handshake go on, and end in time.
    fn go_on(self, config: &ServerConfig) -> (User, Deadline) {
        let Self { user, arrived, deadline, .. } = self;
        drop(deadline);
        let deadline = Deadline::set(&user, arrived + config.handshake_timeout());
        if let Err(status) = user.configure(config.for_connection(), config.configuration()) {
            // Its end is on the way, and brings the cause.
            tracing::debug!(%status, "an incoming connection was gone before it was accepted");
        }
        (user, deadline)
    }

    fn is_over(&self) -> bool {
        self.user.inner().is_over()
    }
}

/// The protocols in a client's list (RFC 7301 §3.1, without the length in front), which comes as it was received: `None` if
/// its lengths do not add up.
pub(crate) fn parse_alpn(mut list: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut protocols = Vec::new();
    while let Some((length, rest)) = list.split_first() {
        let (protocol, rest) = rest.split_at_checked(usize::from(*length))?;
        if protocol.is_empty() {
            return None;
        }
        protocols.push(protocol.to_vec());
        list = rest;
    }
    Some(protocols)
}

/// Connections that wait to be accepted, from all listeners of a server.
#[derive(Debug)]
pub(crate) struct IncomingQueue {
    backlog: Lock<Backlog>,
    /// How many may wait.
    limit: usize,
    /// How long each may wait.
    pub(crate) timeout: Duration,
    /// Where the TLS secrets of its connections go, if anywhere.
    pub(crate) key_log: Option<KeyLog>,
}

/// How a server's connections fare before they are accepted; see [`Server::stats`](crate::Server::stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// How many connections wait for [`Server::accept`](crate::Server::accept) now. Those whose client has gone count until
    /// the queue comes to them, or is full.
    pub waiting: usize,
    /// How many connections were refused because [`accept_backlog`](crate::TransportConfig::accept_backlog) others were
    /// waiting, or because the server had stopped listening.
    pub refused: u64,
    /// How many connections ended while they were waiting: nobody accepted them within the
    /// [`handshake_timeout`](crate::TransportConfig::handshake_timeout), or their client gave up.
    pub expired: u64,
}

#[derive(Debug, Default)]
struct Backlog {
    /// No more will come.
    closed: bool,
    waiting: VecDeque<NewConnection>,
    refused: u64,
    expired: u64,
    waiters: Waiters,
    /// Wakers that were replaced, to be dropped outside of the lock.
    retired: Vec<Waker>,
}

impl Retire for Backlog {
    fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    fn take_retired(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.retired)
    }
}

impl Backlog {
    /// Takes those out whose connection is over, to be dropped outside of the lock.
    fn take_over(&mut self) -> Vec<NewConnection> {
        let (over, waiting): (Vec<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(NewConnection::is_over);
        self.waiting = waiting.into();
        self.expired += over.len() as u64;
        over
    }
}

impl IncomingQueue {
    pub(crate) fn new(limit: usize, timeout: Duration, key_log: Option<KeyLog>) -> Arc<Self> {
        Arc::new(Self { backlog: Lock::default(), limit, timeout, key_log })
    }

    /// Whether one more may wait. If not, that is counted, and the error is how many that makes.
    pub(crate) fn check_room(&self) -> Result<(), u64> {
        let (room, over) = {
            let mut backlog = self.lock();
            let over = if backlog.waiting.len() >= self.limit { backlog.take_over() } else { Vec::new() };
            let room = !backlog.closed && backlog.waiting.len() < self.limit;
            backlog.refused += u64::from(!room);
            (if room { Ok(()) } else { Err(backlog.refused) }, over)
        };
        drop(over);
        room
    }

    /// Lets `new` wait, if the queue still takes any.
    pub(crate) fn push(&self, new: NewConnection) {
        let mut wakeups = Wakeups::none();
        let unwanted = {
            let mut backlog = self.lock();
            if backlog.closed {
                backlog.refused += 1;
                Some(new)
            } else {
                backlog.waiting.push_back(new);
                backlog.waiters.take_into(&mut wakeups);
                None
            }
        };
        // Dropped outside of the lock: it shuts the connection down.
        drop(unwanted);
        wakeups.wake();
    }

    /// Lets those go that have waited for too long.
    pub(crate) fn sweep(&self) {
        let over = self.lock().take_over();
        drop(over);
    }

    /// Takes no more connections. Those that wait may still be accepted.
    pub(crate) fn close(&self) {
        let mut wakeups = Wakeups::none();
        {
            let mut backlog = self.lock();
            backlog.closed = true;
            backlog.waiters.take_into(&mut wakeups);
        }
        // Whoever closes has more to do, and maybe in a destructor.
        contain("a waker", || wakeups.wake());
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Refuses those that wait.
    pub(crate) fn refuse_waiting(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        drop(waiting);
    }

    pub(crate) fn stats(&self) -> ServerStats {
        let backlog = self.lock();
        ServerStats { waiting: backlog.waiting.len(), refused: backlog.refused, expired: backlog.expired }
    }

    fn lock(&self) -> LockGuard<'_, Backlog> {
        self.backlog.lock()
    }
}

/// The wait for a connection: `None` once no more will come. Those that are over are passed by.
impl KeyedWait for &IncomingQueue {
    type Output = Option<NewConnection>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut over = Vec::new();
        let mut guard = self.lock();
        let backlog = &mut *guard;
        let answer = loop {
            match backlog.waiting.pop_front() {
                Some(new) if new.is_over() => {
                    backlog.expired += 1;
                    over.push(new);
                }
                Some(new) => break Poll::Ready(Some(new)),
                None if backlog.closed => break Poll::Ready(None),
                None => {
                    backlog.waiters.register(key, cx.waker(), &mut backlog.retired);
                    break Poll::Pending;
                }
            }
        };
        drop(guard);
        drop(over);
        answer
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.lock().waiters.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_protocols_come_in_its_order() {
        assert_eq!(parse_alpn(b"\x02h3\x04demo"), Some(vec![b"h3".to_vec(), b"demo".to_vec()]));
        assert_eq!(parse_alpn(b""), Some(Vec::new()));
        let longest = [&[255][..], &[b'x'; 255]].concat();
        assert_eq!(parse_alpn(&longest), Some(vec![vec![b'x'; 255]]));
    }

    #[test]
    fn a_list_whose_lengths_do_not_add_up_is_no_list() {
        for list in [&b"\x02h"[..], b"\x03h3", b"\x02h3\x01", b"\x00", b"\x02h3\x00", b"\xff"] {
            assert_eq!(parse_alpn(list), None, "{list:?}");
        }
    }
}
