//! [`RecvStream`]: the receiving half of a stream.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use sendstream_core::{
    stream::cause::{RecvEnd, RecvFailure},
    wait::{KeyedWait, WaiterKey, wait_for},
};

use crate::{
    driver::stream::owner::StreamInstance,
    types::{
        code::{CodeOutOfRange, check_code},
        error::{ConnectionError, NativeError},
    },
};

pub use crate::driver::stream::chunk::RecvChunk;

/// The receiving half of a stream.
///
/// Flow control gives the peer no more room for data that nobody reads. So a reader that stops
/// makes the writer stop, with at most
/// [`stream_receive_window`](crate::TransportConfig::stream_receive_window) bytes waiting in
/// between.
///
/// ```
/// # use sendstream::Connection;
/// # async fn example(connection: Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let mut stream = connection.accept_uni().await?;
/// let mut bytes = 0;
/// while let Some(chunk) = stream.read_chunk().await? {
///     bytes += chunk.len(); // the chunk is MsQuic's memory, given back when it is dropped
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Dropping it
///
/// If the end was not read yet, the drop asks the peer to stop (STOP_SENDING) with the connection's
/// [`drop_error_code`](crate::TransportConfig::drop_error_code). Chunks that were read stay valid.
pub struct RecvStream {
    instance: Arc<StreamInstance>,
}

impl RecvStream {
    pub(crate) fn new(instance: Arc<StreamInstance>) -> Self {
        Self { instance }
    }

    /// Whether the peer began the stream with early data, in a 0-RTT packet
    /// (`QUIC_STREAM_OPEN_FLAG_0_RTT`; RFC 9001 §4.6). Once the handshake is done, the data is
    /// certainly the client's own, sent now. Before that, on a connection from
    /// [`Incoming::accept_0rtt`](crate::Incoming::accept_0rtt), it may be a copy of data that the
    /// client sent at another time.
    ///
    /// Always false on a client.
    pub fn is_early(&self) -> bool {
        self.instance.began_early()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn instance(&self) -> &Arc<StreamInstance> {
        &self.instance
    }

    /// The next piece of the stream, in MsQuic's own memory but for [short ones](RecvChunk); `None`
    /// at the end, when the peer finished and everything was read.
    ///
    /// You may keep any number of chunks and drop them in any order; [`RecvChunk`] says what that
    /// costs.
    ///
    /// # Errors
    ///
    /// [`ReadError`]. After a lost connection, data that had arrived is returned first. A stream
    /// whose end had arrived ends with `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no bytes.
    pub async fn read_chunk(&mut self) -> Result<Option<RecvChunk>, ReadError> {
        poll_fn(|cx| self.poll_read_chunk(cx)).await
    }

    /// [`read_chunk`](Self::read_chunk) as a poll.
    ///
    /// # Errors
    ///
    /// As [`read_chunk`](Self::read_chunk).
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RecvChunk>, ReadError>> {
        let read = std::task::ready!(self.instance.poll_read(usize::MAX, cx))?;
        Poll::Ready(Ok(read.map(RecvChunk::into_kept)))
    }

    /// Copies what has arrived into `buf`, at least one byte; returns how many, or `None` at the
    /// end of the stream. An empty `buf` gives `Some(0)`.
    ///
    /// # Errors
    ///
    /// As [`read_chunk`](Self::read_chunk).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no bytes.
    pub async fn read(&mut self, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    /// [`read`](Self::read) as a poll.
    ///
    /// # Errors
    ///
    /// As [`read_chunk`](Self::read_chunk).
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<Option<usize>, ReadError>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(Some(0)));
        }
        let Some(first) = std::task::ready!(self.instance.poll_read(buf.len(), cx))? else {
            return Poll::Ready(Ok(None));
        };
        buf[..first.len()].copy_from_slice(&first);
        let mut filled = first.len();
        drop(first);
        while filled < buf.len() {
            let Some(more) = self.instance.try_read(buf.len() - filled) else { break };
            buf[filled..filled + more.len()].copy_from_slice(&more);
            filled += more.len();
        }
        Poll::Ready(Ok(Some(filled)))
    }

    /// Fills `buf`.
    ///
    /// # Errors
    ///
    /// [`ReadExactError::FinishedEarly`] if the stream ends before `buf` is full, or what ended
    /// reading.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: bytes already copied into `buf` are read, and how many is not told.
    pub async fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), ReadExactError> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read(&mut buf[filled..]).await? {
                Some(more) => filled += more,
                None => return Err(ReadExactError::FinishedEarly(filled)),
            }
        }
        Ok(())
    }

    /// Reads everything up to the end of the stream, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`ReadToEndError::TooLong`] if the peer sends more than `limit`. What was read is lost then, so
    /// [`stop`](Self::stop) the stream with a code that tells the peer, or drop it, which stops it
    /// [as well](Self#dropping-it). Until then flow control holds the peer up. Nothing is told about a
    /// stream whose end had arrived with what was read. Otherwise what ended reading.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: what was read so far is lost with the future.
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, ReadToEndError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.read_chunk().await? {
            if chunk.len() > limit - all.len() {
                return Err(ReadToEndError::TooLong { limit });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// Asks the peer to stop sending, with `code` (`StreamShutdown` with ABORT_RECEIVE;
    /// STOP_SENDING of RFC 9000 §19.5). What has arrived and was not read is discarded. Does
    /// nothing once the end was read or the peer reset the stream.
    ///
    /// # Errors
    ///
    /// [`CodeOutOfRange`]: `code` has more than 62 bits; nothing was stopped.
    pub fn stop(&mut self, code: u64) -> Result<(), CodeOutOfRange> {
        check_code(code)?;
        self.instance.stop(code);
        Ok(())
    }

    /// Resolves with the code when the peer resets the stream (RESET_STREAM of RFC 9000 §19.4), or
    /// with `None` once the stream ended otherwise: finished by the peer, or stopped by this side.
    ///
    /// It borrows nothing that reading needs, so you can wait for both at once. Any number of tasks
    /// may wait.
    ///
    /// # Errors
    ///
    /// [`ReadError::ConnectionLost`] if the connection ended first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub fn received_reset(&self) -> impl Future<Output = Result<Option<u64>, ReadError>> + Send + Sync + use<> {
        wait_for(ReceivedReset(self.instance.clone()))
    }

    /// The stream's id (RFC 9000 §2.1), once it has one: from the beginning on a stream of the
    /// peer's.
    pub fn id(&self) -> Option<u64> {
        self.instance.id()
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.instance.drop_recv();
    }
}

struct ReceivedReset(Arc<StreamInstance>);

impl KeyedWait for ReceivedReset {
    type Output = Result<Option<u64>, ReadError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.ask_connection();
        self.0.inner().lock().recv().poll_received_reset(key, cx).map_err(ReadError::from)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.0.inner().lock().recv().forget_reset(key)
    }
}

/// Why nothing more can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The peer reset the stream, with this code; what had arrived and was not read is discarded.
    #[error("reset by the peer with code {0}")]
    Reset(u64),
    /// This side stopped reading, with this code.
    #[error("stopped by this side with code {0}")]
    Stopped(u64),
    /// The connection ended before the stream did.
    #[error("the connection is lost: {0}")]
    ConnectionLost(#[source] ConnectionError),
    /// The stream never started, and never will: its sending half was reset first, or could not
    /// start.
    #[error("the stream never started")]
    NotStarted,
    /// MsQuic ended the stream.
    #[error("MsQuic ended the stream: {0}")]
    Native(#[source] NativeError),
}

impl From<RecvEnd<ConnectionError>> for ReadError {
    fn from(end: RecvEnd<ConnectionError>) -> Self {
        match end {
            RecvEnd::Reset(code) => Self::Reset(code),
            RecvEnd::Stopped(code) => Self::Stopped(code),
            RecvEnd::Failed(failure) => failure.into(),
        }
    }
}

impl From<RecvFailure<ConnectionError>> for ReadError {
    fn from(failure: RecvFailure<ConnectionError>) -> Self {
        match failure {
            RecvFailure::ConnectionLost(error) => Self::ConnectionLost(error),
            RecvFailure::NotStarted => Self::NotStarted,
            RecvFailure::Ended => Self::Native(NativeError::ABORTED),
        }
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            ReadError::Native(error) => error.into(),
            ReadError::Reset(_) => Self::new(io::ErrorKind::ConnectionReset, error),
            ReadError::Stopped(_) | ReadError::NotStarted => Self::new(io::ErrorKind::NotConnected, error),
        }
    }
}

/// Why [`RecvStream::read_exact`] could not fill its buffer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadExactError {
    /// The peer finished the stream after this many bytes.
    #[error("the stream ended after {0} bytes")]
    FinishedEarly(usize),
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<ReadExactError> for io::Error {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::new(io::ErrorKind::UnexpectedEof, error),
            ReadExactError::Read(error) => error.into(),
        }
    }
}

/// Why [`RecvStream::read_to_end`] failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadToEndError {
    /// The peer sent more than the limit. It is not asked to stop yet.
    #[error("the stream is longer than the {limit} bytes that were asked for")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<ReadToEndError> for io::Error {
    fn from(error: ReadToEndError) -> Self {
        match error {
            ReadToEndError::TooLong { .. } => Self::new(io::ErrorKind::FileTooLarge, error),
            ReadToEndError::Read(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timeout;

    #[test]
    fn every_end_of_the_receive_half_has_its_error() {
        const LOST: ConnectionError = ConnectionError::TimedOut(Timeout::Idle);
        for (end, error) in [
            (RecvEnd::Reset(5), ReadError::Reset(5)),
            (RecvEnd::Stopped(6), ReadError::Stopped(6)),
            (RecvEnd::Failed(RecvFailure::ConnectionLost(LOST)), ReadError::ConnectionLost(LOST)),
            (RecvEnd::Failed(RecvFailure::NotStarted), ReadError::NotStarted),
            (RecvEnd::Failed(RecvFailure::Ended), ReadError::Native(NativeError::ABORTED)),
        ] {
            assert_eq!(ReadError::from(end), error);
        }
    }
}
