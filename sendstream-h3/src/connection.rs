//! [`Connection`] and [`OpenStreams`]: a connection as h3 wants it.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Buf;
use h3::{
    error::Code,
    quic::{self, ConnectionErrorIncoming, StreamErrorIncoming},
};
use sendstream::{CodeOutOfRange, ConnectionError, EarlyConnection, OpenError};

use crate::{
    error,
    stream::{BidiStream, RecvStream, SendStream},
};

/// A connection for h3: [`h3::quic::Connection`] backed by a [`sendstream::Connection`].
///
/// ```
/// # async fn example(connection: sendstream::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// use bytes::Bytes;
/// use sendstream_h3::Connection;
///
/// let (mut driver, mut requests) = h3::client::new::<_, _, Bytes>(Connection::new(connection)).await?;
/// # let _ = (&mut driver, &mut requests);
/// # Ok(())
/// # }
/// ```
///
/// Its polls for the peer's streams wake the task that polled last, as
/// [`sendstream::Connection::poll_accept_uni`] does.
pub struct Connection {
    link: Link,
    opener: OpenStreams,
}

impl Connection {
    /// For a connection whose handshake is done.
    pub fn new(connection: sendstream::Connection) -> Self {
        Self::over(Link::Connected(connection))
    }

    /// For a connection whose handshake may still be going on: what h3 sends on it may be early
    /// data, and so may what it receives. **Early data can be replayed**: see [`EarlyConnection`].
    /// It has no datagrams.
    ///
    /// [`RecvStream::is_early`] tells streams that the client began early from others.
    pub fn early(connection: EarlyConnection) -> Self {
        Self::over(Link::Early(Arc::new(connection)))
    }

    /// The peer's address: [`sendstream::Connection::remote_addr`].
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        match &self.link {
            Link::Connected(connection) => connection.remote_addr(),
            Link::Early(early) => early.remote_addr(),
        }
    }

    /// The smoothed round-trip time: [`sendstream::Connection::rtt`].
    pub fn rtt(&self) -> Duration {
        match &self.link {
            Link::Connected(connection) => connection.rtt(),
            Link::Early(early) => early.rtt(),
        }
    }

    /// Whether it was made [for early data](Self::early).
    pub fn is_early(&self) -> bool {
        matches!(self.link, Link::Early(_))
    }

    fn over(link: Link) -> Self {
        Self { opener: OpenStreams::new(link.clone()), link }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }
}

impl From<sendstream::Connection> for Connection {
    fn from(connection: sendstream::Connection) -> Self {
        Self::new(connection)
    }
}

impl<B: Buf + Send + 'static> quic::Connection<B> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = OpenStreams;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        self.link.poll_accept_uni(cx).map_ok(RecvStream::new).map_err(error::connection)
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        self.link.poll_accept_bi(cx).map_ok(BidiStream::new).map_err(error::connection)
    }

    fn opener(&self) -> OpenStreams {
        self.opener.clone()
    }
}

impl<B: Buf + Send + 'static> quic::OpenStreams<B> for Connection {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.opener.poll_bi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        self.opener.poll_uni(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close_with(code, reason);
    }
}

/// Opens streams for h3: [`h3::quic::OpenStreams`]. A stream is there once the peer's stream limit
/// admits it. Each clone has its own wait for that.
pub struct OpenStreams {
    link: Link,
    bi: Option<Pair>,
    uni: Option<sendstream::SendStream>,
}

impl OpenStreams {
    fn new(link: Link) -> Self {
        Self { link, bi: None, uni: None }
    }

    fn poll_bi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        let mut pair = match self.bi.take() {
            Some(pair) => pair,
            None => self.link.open_bi().map_err(error::open)?,
        };
        match pair.0.poll_start(cx) {
            Poll::Ready(started) => Poll::Ready(started.map(|()| BidiStream::new(pair)).map_err(error::start)),
            Poll::Pending => {
                self.bi = Some(pair);
                Poll::Pending
            }
        }
    }

    fn poll_uni(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        let mut stream = match self.uni.take() {
            Some(stream) => stream,
            None => self.link.open_uni().map_err(error::open)?,
        };
        match stream.poll_start(cx) {
            Poll::Ready(started) => Poll::Ready(started.map(|()| SendStream::new(stream)).map_err(error::start)),
            Poll::Pending => {
                self.uni = Some(stream);
                Poll::Pending
            }
        }
    }

    fn close_with(&self, code: Code, reason: &[u8]) {
        // h3's codes are of the wire, so they fit.
        let _ = self.link.close(code.value(), &String::from_utf8_lossy(reason));
    }
}

impl Clone for OpenStreams {
    fn clone(&self) -> Self {
        Self::new(self.link.clone())
    }
}

impl<B: Buf + Send + 'static> quic::OpenStreams<B> for OpenStreams {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.poll_bi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        self.poll_uni(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.close_with(code, reason);
    }
}

/// Both halves of a stream.
type Pair = (sendstream::SendStream, sendstream::RecvStream);

/// The connection below. Both kinds have the same operations, but that an early one's streams are
/// for early data.
#[derive(Clone)]
pub(crate) enum Link {
    Connected(sendstream::Connection),
    Early(Arc<EarlyConnection>),
}

impl Link {
    fn open_bi(&self) -> Result<Pair, OpenError> {
        match self {
            Self::Connected(connection) => connection.open_bi(),
            Self::Early(early) => early.open_bi_0rtt(),
        }
    }

    fn open_uni(&self) -> Result<sendstream::SendStream, OpenError> {
        match self {
            Self::Connected(connection) => connection.open_uni(),
            Self::Early(early) => early.open_uni_0rtt(),
        }
    }

    fn poll_accept_bi(&self, cx: &mut Context<'_>) -> Poll<Result<Pair, ConnectionError>> {
        match self {
            Self::Connected(connection) => connection.poll_accept_bi(cx),
            Self::Early(early) => early.poll_accept_bi(cx),
        }
    }

    fn poll_accept_uni(&self, cx: &mut Context<'_>) -> Poll<Result<sendstream::RecvStream, ConnectionError>> {
        match self {
            Self::Connected(connection) => connection.poll_accept_uni(cx),
            Self::Early(early) => early.poll_accept_uni(cx),
        }
    }

    pub(crate) fn close(&self, code: u64, reason: &str) -> Result<(), CodeOutOfRange> {
        match self {
            Self::Connected(connection) => connection.close(code, reason),
            Self::Early(early) => early.close(code, reason),
        }
    }
}
