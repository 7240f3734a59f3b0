//! [`EarlyConnection`]: a connection before its handshake is done, for 0-RTT data.

use std::{
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use sendstream_core::{dir::Dir, wait::wait_for};

use crate::{
    connection::{Connection, OpenError},
    driver::connection::{deadline::Deadline, hold::User, waits::Handshake},
    recv_stream::RecvStream,
    send_stream::SendStream,
    types::{code::CodeOutOfRange, error::ConnectionError},
};

/// A connection whose handshake may still be going on, from
/// [`Client::connect_0rtt`](crate::Client::connect_0rtt) or
/// [`Incoming::accept_0rtt`](crate::Incoming::accept_0rtt).
///
/// It offers only the operations that are allowed this early. It has no datagrams, and only streams
/// that were opened for early data go out early. [`connected`](Self::connected) turns it into a
/// [`Connection`].
///
/// Dropping it is like dropping the connection's last handle: it closes when every stream is over.
///
/// # 0-RTT data can be replayed
///
/// Anybody on the path can record the data that a client sends before the server has answered, and
/// send it to the server again, any number of times within some seconds (RFC 9001 §9.2, RFC 8446
/// §8). Send only data that the server may act upon twice, such as a request that changes nothing.
/// If in doubt, await `connected()` first. Early data has no forward secrecy either: a later owner
/// of the server's [`TicketKey`](crate::TicketKey) can decrypt it.
///
/// On a server, data that arrives before `connected` resolves may be such a copy. Answers are
/// encrypted for the client that owns the session, so an attacker who replays the data cannot read
/// them.
#[derive(Debug)]
pub struct EarlyConnection {
    connection: Connection,
    deadline: Deadline,
    /// Whether early data may go out at all: a client that showed a ticket for it.
    offered: bool,
}

impl EarlyConnection {
    pub(crate) fn new(user: User, deadline: Deadline, offered: bool) -> Self {
        Self { connection: Connection::new(user), deadline: deadline.outlive(), offered }
    }

    /// Opens a stream on which only this side sends, and whose data may go out before the handshake
    /// is done (`QUIC_SEND_FLAG_ALLOW_0_RTT`). Nothing goes on the wire before the first
    /// [`send`](SendStream::send).
    ///
    /// On a client, data goes into 0-RTT packets as long as the handshake goes on and the server's
    /// limits of the earlier connection allow. If the server refuses it, MsQuic sends it again when
    /// the handshake is done, and the server's application sees it once. A
    /// [`send`](SendStream::send) resolves when the server has acknowledged it, either way. On a
    /// server, data goes out behind the server's part of the handshake.
    ///
    /// A server may refuse early data and have lowered its limits in the meantime. If the repeated
    /// data exceeds the new limits, the connection ends ([`ConnectionError::TransportClosed`]).
    ///
    /// # Errors
    ///
    /// [`OpenError`]: the connection has ended or is about to.
    pub fn open_uni_0rtt(&self) -> Result<SendStream, OpenError> {
        self.connection.open_early(Dir::Uni).map(SendStream::new)
    }

    /// [`open_uni_0rtt`](Self::open_uni_0rtt) for a stream on which both sides send.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: the connection has ended or is about to.
    pub fn open_bi_0rtt(&self) -> Result<(SendStream, RecvStream), OpenError> {
        let instance = self.connection.open_early(Dir::Bi)?;
        Ok((SendStream::new(instance.clone()), RecvStream::new(instance)))
    }

    /// [`Connection::accept_uni`]: on a server, streams that the client opened early come before
    /// the handshake is done. [`RecvStream::is_early`] tells them from others.
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub async fn accept_uni(&self) -> Result<RecvStream, ConnectionError> {
        self.connection.accept_uni().await
    }

    /// [`Connection::accept_bi`]; otherwise like [`accept_uni`](Self::accept_uni).
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        self.connection.accept_bi().await
    }

    /// [`accept_uni`](Self::accept_uni) as a poll: [`Connection::poll_accept_uni`].
    ///
    /// # Errors
    ///
    /// As [`accept_uni`](Self::accept_uni).
    pub fn poll_accept_uni(&self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, ConnectionError>> {
        self.connection.poll_accept_uni(cx)
    }

    /// [`accept_bi`](Self::accept_bi) as a poll: [`Connection::poll_accept_bi`].
    ///
    /// # Errors
    ///
    /// As [`accept_bi`](Self::accept_bi).
    pub fn poll_accept_bi(&self, cx: &mut Context<'_>) -> Poll<Result<(SendStream, RecvStream), ConnectionError>> {
        self.connection.poll_accept_bi(cx)
    }

    /// [`Connection::remote_addr`]. A server does not know before the handshake is done that the
    /// client is there (RFC 9000 §8.1): anybody can write any address into a packet.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.connection.remote_addr()
    }

    /// [`Connection::rtt`].
    pub fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// Whether the client offered early data: it had a ticket for it. Always false on a server.
    pub fn offered_0rtt(&self) -> bool {
        self.offered
    }

    /// Resolves when the handshake is done. On a client it says whether the server took the early
    /// data. On a server it says whether a stream began with early data. It is false if the
    /// handshake failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub async fn accepted_0rtt(&self) -> bool {
        let inner = self.connection.inner();
        wait_for(Handshake(inner)).await.is_ok() && inner.lock().early_data_accepted()
    }

    /// Resolves when the handshake is done, with the connection. Streams go on as they are.
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the handshake: for one,
    /// [`handshake_timeout`](crate::TransportConfig::handshake_timeout) is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn connected(self) -> Result<Connection, ConnectionError> {
        wait_for(Handshake(self.connection.inner())).await?;
        let Self { connection, mut deadline, .. } = self;
        deadline.meet();
        Ok(connection)
    }

    /// [`Connection::close`]. Before the handshake is done the peer gets neither `code` nor
    /// `reason`, but [`ConnectionError::Refused`] (RFC 9000 §10.2.3).
    ///
    /// # Errors
    ///
    /// [`CodeOutOfRange`]: `code` has more than 62 bits; nothing was closed.
    pub fn close(&self, code: u64, reason: &str) -> Result<(), CodeOutOfRange> {
        self.connection.close(code, reason)
    }
}
