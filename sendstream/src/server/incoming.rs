//! [`Incoming`]: a connection that a client wants, and how it is accepted.

use std::{future::poll_fn, net::SocketAddr};

use sendstream_core::accept::Counts;

use crate::{
    connection::Connection,
    driver::{
        connection::{deadline::Deadline, hold::User, shared::ConnectionInnerShared},
        listener::queue::NewConnection,
    },
    early::EarlyConnection,
    server::config::ServerConfig,
    types::error::ConnectionError,
};

/// A connection that a client wants and nobody has accepted yet.
///
/// The application may hold it while it decides, for at most the server's
/// [`handshake_timeout`](crate::TransportConfig::handshake_timeout) from the client's first packet.
/// Then the connection times out. Dropping it refuses the connection.
///
/// To finish the handshake takes as long as the client wants. So it belongs into a task of its own:
/// otherwise a client that stalls holds up all others. [`Server::connections`](crate::Server) does
/// that, for a server that looks at no client before.
///
/// ```no_run
/// # async fn serve(server: sendstream::Server, special: sendstream::ServerConfig) {
/// while let Some(incoming) = server.accept().await {
///     if !incoming.alpn().any(|protocol| protocol == b"demo") {
///         incoming.refuse();
///         continue;
///     }
///     let special = special.clone();
///     tokio::spawn(async move {
///         let connection = match incoming.server_name() {
///             "special.example" => incoming.accept_with(&special).await,
///             _ => incoming.accept().await,
///         };
///         if let Ok(connection) = connection {
///             // Serve it.
/// #           drop(connection);
///         }
///     });
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

    /// The client's address. Before the handshake is done it may be forged, because a first
    /// packet's source is easily forged.
    pub fn remote_addr(&self) -> SocketAddr {
        self.new.remote_addr
    }

    /// Whether the client has proved that its address is its own (RFC 9000 §8.1): it has answered a
    /// Retry. [`process::set_retry_policy`](crate::process::set_retry_policy) says who must.
    /// Always false with an installed libmsquic.
    pub fn remote_address_validated(&self) -> bool {
        self.new.address_validated
    }

    /// The address of the server's that the client has sent to.
    pub fn local_addr(&self) -> SocketAddr {
        self.new.local_addr
    }

    /// The server name that the client asked for (RFC 6066 §3); empty if it asked for none.
    pub fn server_name(&self) -> &str {
        &self.new.server_name
    }

    /// The application protocols that the client offers, the most wanted first (RFC 7301 §3.1). One
    /// of them at least is among the server's.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        self.new.alpn.iter().map(Vec::as_slice)
    }

    /// Completes the handshake with the server's own configuration (`ConnectionSetConfiguration`),
    /// and returns the connection, also if it has ended since the handshake was done.
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the handshake: the client gave up, it or the application
    /// took too long ([`ConnectionError::TimedOut`]), TLS found no agreement, or the client's
    /// certificate was refused ([`ConnectionError::CertificateRefused`]).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept(self) -> Result<Connection, ConnectionError> {
        let Self { new, config } = self;
        new.accept(&config).await
    }

    /// [`accept`](Self::accept) with another identity, other client certificates, protocols or
    /// transport settings than the server's own.
    ///
    /// The server's own protocols decide which clients come this far. The connection then speaks
    /// the first protocol of `config` that the client offers. The whole handshake must be done
    /// within the `handshake_timeout` of `config`, counted from the client's first packet.
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

    /// As [`accept`](Self::accept), but if the client resumes a session, resolves before the
    /// handshake is done, as soon as early data can be read (`QUIC_CONNECTION_EVENT_RESUMED`).
    /// Otherwise it resolves when the handshake is done.
    ///
    /// **Early data can be replayed**: see [`Resumption`](crate::Resumption). Use `accept` for data
    /// that may be acted upon only once. When `accept` resolves, the handshake is done: the client
    /// is there, and it sent its early data now.
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

    /// [`accept_0rtt`](Self::accept_0rtt) with another `config` than the server's, as
    /// [`accept_with`](Self::accept_with). Its [resumption](crate::ServerBuilder::resumption) and
    /// ticket keys count.
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
    /// It takes no code: application codes stay off the wire before the handshake is done (RFC 9000
    /// §10.2.3), and CONNECTION_REFUSED is sent in their place (§20.1). To send a code, accept the
    /// connection and [close](Connection::close) it.
    pub fn refuse(self) {
        drop(self);
    }

    /// Lets go of the connection and says nothing more to the client (`ConnectionShutdown` with
    /// `QUIC_CONNECTION_SHUTDOWN_FLAG_SILENT`), for one that need not know that somebody is here.
    /// MsQuic may have acknowledged its first packet before. The client waits for its handshake
    /// timeout; packets that it sends again begin another connection.
    pub fn ignore(self) {
        self.new.user.close_silently();
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
        let Self { user, alpn, server_name, arrived, deadline, .. } = self;
        drop(deadline);
        let deadline = Deadline::set(&user, arrived + config.handshake_timeout());
        let shared =
            ConnectionInnerShared { offered: Some(alpn), requested_name: server_name, ..config.for_connection() };
        if let Err(status) = user.configure(shared, config.configuration()) {
            // Its end is on the way, and brings the cause.
            tracing::debug!(%status, "an incoming connection was gone before it was accepted");
        }
        (user, deadline)
    }
}

/// How a server's connections fare before they are accepted; see
/// [`Server::stats`](crate::Server::stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// How many connections wait for [`Server::accept`](crate::Server::accept) now. A connection
    /// whose client has gone counts until the queue comes to it, or is full.
    pub waiting: usize,
    /// How many connections were refused because
    /// [`accept_backlog`](crate::TransportConfig::accept_backlog) others were waiting, or because
    /// the server had stopped listening; those included whose place another took.
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
