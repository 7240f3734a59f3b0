//! [`Transport`]: an async QUIC interface.

use std::{future::Future, net::SocketAddr};

use anyhow::Result;
use bytes::Bytes;

use crate::{
    identity::Identity,
    plan::Suite,
    stack::{Listening, Setup},
};

/// A stack with an async interface.
///
/// Each operation is what the stack's own users would write. Futures run on a multi-threaded tokio,
/// unless [`spawn`](Self::spawn) puts them elsewhere.
pub trait Transport: Sized + Send + Sync + 'static {
    /// The stack's name in reports.
    const NAME: &'static str;
    /// How many files a client has open for each connection; stacks with one socket for all have
    /// none.
    const DESCRIPTORS_PER_CONNECTION: u64 = 0;
    type Server: Send + Sync + 'static;
    type Client: Send + Sync + 'static;
    type Connection: Clone + Send + Sync + 'static;
    type SendStream: Send + 'static;
    type RecvStream: Send + 'static;
    /// Received bytes, in the form in which reading costs least.
    type Chunk: AsRef<[u8]> + Send;

    /// Prepares what both sides have in common. Runs within tokio, as the next two do.
    fn new(setup: &Setup) -> Result<Self>;

    /// Starts the server.
    fn listen(&self, setup: &Setup, identity: &Identity) -> Result<(Self::Server, SocketAddr)>;

    /// Prepares a client of that server.
    fn client(&self, setup: &Setup, server: &Listening) -> Result<Self::Client>;

    /// Connects, up to the end of the handshake.
    fn connect(client: &Self::Client) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// The server's side of the next connection.
    fn accept(server: &Self::Server) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// Closes a connection at once.
    fn close(connection: Self::Connection);

    /// The cipher suite of the client's connections, where it can be told.
    fn suite(client: &Self::Client) -> Option<Suite>;

    /// Runs `work`, which uses `connection`, to its end.
    fn spawn(_connection: &Self::Connection, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(work);
    }

    fn open_uni(connection: &Self::Connection) -> impl Future<Output = Result<Self::SendStream>> + Send;

    fn accept_uni(connection: &Self::Connection) -> impl Future<Output = Result<Self::RecvStream>> + Send;

    fn open_bi(
        connection: &Self::Connection,
    ) -> impl Future<Output = Result<(Self::SendStream, Self::RecvStream)>> + Send;

    fn accept_bi(
        connection: &Self::Connection,
    ) -> impl Future<Output = Result<(Self::SendStream, Self::RecvStream)>> + Send;

    /// Writes a chunk of the caller's, without a copy where the stack can; resolves when the next
    /// may be written.
    fn write(stream: &mut Self::SendStream, chunk: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Writes borrowed bytes through tokio's `AsyncWrite`.
    fn write_borrowed(stream: &mut Self::SendStream, data: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Ends the stream; resolves when the peer has acknowledged the end and every byte before it.
    fn finish(stream: &mut Self::SendStream) -> impl Future<Output = Result<()>> + Send;

    /// Writes the stream's only chunk and ends it, in one operation where the stack has one;
    /// resolves as [`finish`](Self::finish) does.
    fn write_and_finish(stream: &mut Self::SendStream, chunk: Bytes) -> impl Future<Output = Result<()>> + Send {
        async {
            Self::write(stream, chunk).await?;
            Self::finish(stream).await
        }
    }

    /// Hands over the stream's only chunk, however large, in one call and ends the stream; resolves
    /// as [`finish`](Self::finish) does.
    fn send(stream: &mut Self::SendStream, chunk: Bytes) -> impl Future<Output = Result<()>> + Send {
        Self::write_and_finish(stream, chunk)
    }

    /// The next bytes, or `None` at the stream's end.
    fn read(stream: &mut Self::RecvStream) -> impl Future<Output = Result<Option<Self::Chunk>>> + Send;
}
