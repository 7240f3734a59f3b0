//! [`Incoming`]: a connection that a client wants, and how it is accepted.

use std::{future::poll_fn, net::SocketAddr};

use sendstream_core::accept::Counts;

use crate::{
    connection::Connection,
    driver::{
        connection::{deadline::Deadline, hold::User},
        listener::queue::NewConnection,
    },
    early::EarlyConnection,
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

impl From<Counts> for ServerStats {
    fn from(Counts { waiting, refused, expired }: Counts) -> Self {
        Self { waiting, refused, expired }
    }
}
