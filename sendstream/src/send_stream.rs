//! [`SendStream`]: the sending half of a stream.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use sendstream_core::{
    stream::{
        Fin,
        cause::{SendClosed, SendEnd, SendFailure},
    },
    wait::{KeyedWait, WaiterKey, wait_for},
};

use crate::{
    connection::{Connection, OpenError},
    driver::stream::{owner::StreamInstance, sending::AtLimit},
    native::background,
    types::{
        code::{CodeOutOfRange, check_code},
        error::{ConnectionError, NativeError},
        payload::Payload,
        stats::SendStreamStats,
    },
};

/// The sending half of a stream: hand it owned bytes, and learn what happened to every one of them.
///
/// There are two ways to send. [`send`](Self::send) submits at once and resolves when the peer's
/// transport has *acknowledged* the bytes. [`write_chunk`](Self::write_chunk) and its kin resolve
/// when the bytes are *accepted*: in order behind everything before them, within the stream's
/// in-flight window. The second way has backpressure. You may mix both.
///
/// ```
/// # use sendstream::{Client, Connection, Identity, SendStream, Server, Trust};
/// # async fn example(connection: Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let mut stream = SendStream::open(&connection)?; // nothing on the wire yet
/// stream.send(b"hello".to_vec()).await?; // acknowledged by the peer's transport
/// stream.write_chunk(bytes::Bytes::from_static(b" world")).await?; // accepted, in order
/// stream.finished().await?; // FIN acknowledged, and with it every byte
/// # Ok(())
/// # }
/// ```
///
/// # Dropping it
///
/// An unfinished stream is reset with the connection's
/// [`drop_error_code`](crate::TransportConfig::drop_error_code), so that a truncated stream never
/// looks complete. A finished stream delivers its data and FIN in the background until the peer has
/// acknowledged them, even if every `Connection` value is dropped.
pub struct SendStream {
    instance: Arc<StreamInstance>,
}

impl SendStream {
    /// How many borrowed bytes become one chunk: enough for some forty packets, and little beside
    /// the window.
    pub(crate) const COPIED_CHUNK: usize = 64 * 1024;

    pub(crate) fn new(instance: Arc<StreamInstance>) -> Self {
        Self { instance }
    }

    /// Opens a unidirectional stream (`StreamOpen`). Nothing is on the wire, and it has no id.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: the connection has ended or is about to.
    pub fn open(connection: &Connection) -> Result<Self, OpenError> {
        connection.open_uni()
    }

    // ---- Starting -------------------------------------------------------------------------------

    /// Starts the stream (`StreamStart`) and resolves once the peer's stream limit admits it.
    ///
    /// Optional: the first send starts the stream in the same native operation. Nothing goes on the
    /// wire for the start alone, so the peer learns of the stream with the first data.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the connection was lost, or the stream reset, first.
    ///
    /// # Cancel safety
    ///
    /// Once polled the stream is starting; dropping the future only ends the wait.
    pub async fn start(&mut self) -> Result<(), StartError> {
        poll_fn(|cx| self.poll_start(cx)).await
    }

    /// [`start`](Self::start), but fails with [`StartError::LimitReached`] rather than wait for the
    /// peer's stream limit (`QUIC_STREAM_START_FLAG_FAIL_BLOCKED`). The stream is of no use then;
    /// open another later.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the limit, or as `start`. A stream that something else has started already
    /// is only waited for.
    ///
    /// # Cancel safety
    ///
    /// Once polled the stream is starting; dropping the future only ends the wait.
    pub async fn try_start(&mut self) -> Result<(), StartError> {
        self.instance.start(AtLimit::Fail)?;
        Ok(poll_fn(|cx| self.instance.poll_started(cx)).await?)
    }

    /// [`start`](Self::start), but tells the peer of the stream now, before its first byte
    /// (`QUIC_STREAM_START_FLAG_IMMEDIATE`: an empty STREAM frame). For a peer that speaks first on
    /// this side's streams.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start). A stream that something else has started already is only waited
    /// for: then its first data tells the peer.
    ///
    /// # Cancel safety
    ///
    /// Once polled the stream is starting; dropping the future only ends the wait.
    pub async fn start_now(&mut self) -> Result<(), StartError> {
        self.instance.start(AtLimit::WaitAndTell)?;
        Ok(poll_fn(|cx| self.instance.poll_started(cx)).await?)
    }

    /// Starts the stream if nothing has yet; ready once the peer's stream limit admits it. See
    /// [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StartError>> {
        self.instance.start(AtLimit::Wait)?;
        self.instance.poll_started(cx).map_err(StartError::from)
    }

    // ---- Sending --------------------------------------------------------------------------------

    /// Submits `buf` now, behind everything submitted before (`StreamSend`); resolves once the
    /// peer's transport has acknowledged all of it.
    ///
    /// `buf` is any owned value that becomes a [`Payload`] without a copy: MsQuic reads it in
    /// place. The first send starts the stream in the same native operation. Nothing limits the
    /// amount submitted this way, so the caller must bound memory;
    /// [`write_chunk`](Self::write_chunk) waits instead. An empty `buf` sends nothing, starts
    /// nothing, and resolves at once.
    ///
    /// A `buf` of more than half of the in-flight window goes to MsQuic in slices, each a native
    /// operation: what is acknowledged of it makes room in the window at once. Its memory is freed
    /// when all of it is acknowledged.
    ///
    /// One send at a time, each awaited, costs a round trip each. The peer may also keep the
    /// acknowledgement of the last packet back, for its acknowledgement delay (some 25 ms). So keep
    /// several sends in flight, by dropping their futures or by `write_chunk`. A peer that can be
    /// told how often to acknowledge (draft-ietf-quic-ack-frequency), as MsQuic can, does not keep
    /// back what ends a large send.
    ///
    /// # Errors
    ///
    /// The future's [`WriteError`] names the cause. The peer may have some of the bytes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, polled or not, changes nothing for the bytes: they stay in order and
    /// are still delivered.
    #[must_use = "await it to learn that the bytes were acknowledged, or drop it on purpose: they are on their way"]
    pub fn send(&mut self, buf: impl Into<Payload>) -> SendData<'_> {
        let submitted = self.instance.send(buf.into(), Fin::No).map_err(WriteError::from);
        SendData { stream: self, submitted, fin: Fin::No }
    }

    /// Waits for room in the in-flight window, then submits `chunk` without a copy. Resolves once
    /// it is accepted.
    ///
    /// The window is MsQuic's ideal send buffer for the path unless
    /// [`send_window`](crate::TransportConfig::send_window) or
    /// [`set_send_window`](Self::set_send_window) fixes it. A chunk is accepted whole when fewer
    /// bytes than the window are in flight. So at most one chunk exceeds the window.
    ///
    /// Chunks of any size keep the path busy. One of more than half of the window goes to MsQuic in
    /// slices, and the next chunk is accepted while the end of this one is under way. The memory of
    /// a chunk is freed when all of it is acknowledged, so the memory of one more chunk may be held.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: why the stream accepts nothing more. This chunk was not accepted, and bytes
    /// that were accepted before may be lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready means the chunk was not accepted; nothing of it is
    /// sent.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), WriteError> {
        poll_fn(|cx| self.poll_writable(cx)).await?;
        self.submit(chunk)
    }

    /// [`write_chunk`](Self::write_chunk) for several chunks at once, accepted together as if they
    /// were one. The chunks that were accepted, all or none, are left empty.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: why nothing more is accepted; the chunks are untouched.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready means no chunk was accepted; all are untouched.
    pub async fn write_chunks(&mut self, chunks: &mut [Bytes]) -> Result<(), WriteError> {
        poll_fn(|cx| self.poll_writable(cx)).await?;
        let taken: Vec<Bytes> = chunks.iter_mut().map(std::mem::take).collect();
        self.submit(taken)
    }

    /// Ready once the in-flight window has room, so that [`write_chunk`](Self::write_chunk) would
    /// not wait.
    ///
    /// # Errors
    ///
    /// As [`write_chunk`](Self::write_chunk).
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.instance.poll_window(cx).map_err(WriteError::from)
    }

    /// What is accepted without waiting for its acknowledgement.
    pub(crate) fn submit(&mut self, payload: impl Into<Payload>) -> Result<(), WriteError> {
        self.instance.send(payload.into(), Fin::No)?;
        Ok(())
    }

    /// Copies a beginning of `data` into the stream, of at most 64 KiB, once there is room in the
    /// in-flight window. Resolves with its length, which is 0 for no data alone.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: why nothing more is accepted. Nothing of `data` was.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready means that nothing was accepted.
    pub async fn write(&mut self, data: &[u8]) -> Result<usize, WriteError> {
        let beginning = &data[..data.len().min(Self::COPIED_CHUNK)];
        if !beginning.is_empty() {
            poll_fn(|cx| self.poll_writable(cx)).await?;
            self.submit(Bytes::copy_from_slice(beginning))?;
        }
        Ok(beginning.len())
    }

    /// Copies all of `data` into the stream, in chunks of up to 64 KiB, waiting for room in the
    /// in-flight window before each. Resolves once everything is accepted.
    ///
    /// Borrowed bytes must be copied. Pass owned bytes to [`write_chunk`](Self::write_chunk) to
    /// avoid the copy.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: why nothing more is accepted. A beginning of `data` may have been.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a beginning of `data` of unknown length was accepted when the future is
    /// dropped.
    pub async fn write_all(&mut self, data: &[u8]) -> Result<(), WriteError> {
        for chunk in data.chunks(Self::COPIED_CHUNK) {
            self.write_chunk(Bytes::copy_from_slice(chunk)).await?;
        }
        Ok(())
    }

    /// Resolves once everything submitted so far is acknowledged.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: why some of it was not acknowledged.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub async fn acked(&mut self) -> Result<(), WriteError> {
        let submitted = self.instance.submitted();
        Ok(poll_fn(|cx| self.instance.poll_send_data(submitted, cx)).await?)
    }

    // ---- Ending ---------------------------------------------------------------------------------

    /// Queues FIN behind everything submitted (`StreamSend` with `QUIC_SEND_FLAG_FIN`). Nothing can
    /// be sent after it.
    ///
    /// `Ok` means queued; [`finished`](Self::finished) tells of the acknowledgement.
    ///
    /// # Errors
    ///
    /// [`WriteError::Finished`] if FIN was queued before, otherwise what ended the stream.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        Ok(self.instance.finish()?)
    }

    /// Sends `buf` and ends the stream: a whole message in one call, acknowledged to the FIN.
    ///
    /// `buf` and FIN are submitted now, in one native operation (`StreamSend` with
    /// `QUIC_SEND_FLAG_FIN`). On a fresh stream the same operation starts it. A `buf` of more than
    /// half of the in-flight window takes several, as in [`send`](Self::send): the first starts the
    /// stream, and FIN is in the last. The future resolves once the peer's transport has
    /// acknowledged every byte of the stream and FIN: `Ok` means what [`finished`](Self::finished)
    /// means. An empty `buf` is a bare [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// The future's [`WriteError`] names what kept FIN from being acknowledged. Whether the peer
    /// has all of the stream is not known then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, polled or not, changes nothing for the bytes, nor for FIN: the call
    /// submitted them.
    #[must_use = "await it to learn that the message was acknowledged, or drop it on purpose: it is on its way"]
    pub fn finish_with(&mut self, buf: impl Into<Payload>) -> SendData<'_> {
        let submitted = self.instance.send(buf.into(), Fin::Yes).map_err(WriteError::from);
        SendData { stream: self, submitted, fin: Fin::Yes }
    }

    /// Queues FIN if nothing has yet, and resolves once the peer has acknowledged it, and with it
    /// every byte.
    ///
    /// `Ok` comes from `QUIC_STREAM_EVENT_SEND_SHUTDOWN_COMPLETE` with its `Graceful` flag and from
    /// nothing else; never on a lost connection.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: why FIN was not acknowledged. The peer may have it all the same.
    ///
    /// # Cancel safety
    ///
    /// Once polled FIN is queued; dropping the future only ends the wait.
    pub async fn finished(&mut self) -> Result<(), WriteError> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// Queues FIN if nothing has yet; ready with `Ok` only once the peer acknowledged it. See
    /// [`finished`](Self::finished).
    ///
    /// # Errors
    ///
    /// As [`finished`](Self::finished).
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.instance.poll_finish_write(cx).map_err(WriteError::from)
    }

    /// Resets the stream with `code` (`StreamShutdown` with ABORT_SEND; RESET_STREAM of RFC 9000
    /// §19.4): bytes that the peer has not acknowledged may never arrive. Everything pending on
    /// this side ends at once.
    ///
    /// Legal in every state that is not final, also before the start and after
    /// [`finish`](Self::finish). A [`close`](Connection::close) that follows at once may keep the code
    /// from the peer; [`poll_abort`](Self::poll_abort) tells when the peer has it. A stream that never started leaves no trace on the wire. Aborting
    /// again does nothing.
    ///
    /// # Errors
    ///
    /// What ended the stream already: [`WriteError::Finished`] once FIN was acknowledged,
    /// [`WriteError::Stopped`], [`WriteError::ConnectionLost`]; [`WriteError::CodeOutOfRange`] if
    /// `code` has more than 62 bits.
    #[doc(alias = "reset")]
    pub fn abort(&mut self, code: u64) -> Result<(), WriteError> {
        check_code(code)?;
        Ok(self.instance.abort(code)?)
    }

    /// [`abort`](Self::abort), if nothing has yet; ready once the peer has acknowledged the reset,
    /// or the connection is gone.
    ///
    /// # Errors
    ///
    /// As [`abort`](Self::abort).
    pub fn poll_abort(&mut self, cx: &mut Context<'_>, code: u64) -> Poll<Result<(), WriteError>> {
        check_code(code)?;
        self.instance.poll_abort(cx, code).map_err(WriteError::from)
    }

    /// Resolves with the code of the peer's STOP_SENDING (RFC 9000 §19.5), or with `None` once the
    /// stream ended on this side's terms: FIN acknowledged, or reset. After [`abort`](Self::abort) it is
    /// `None` at once, and does not mean that the peer has the reset: [`poll_abort`](Self::poll_abort)
    /// tells that.
    ///
    /// It borrows nothing that sending needs, so you can wait for both at once. Any number of tasks
    /// may wait.
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the connection first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub fn stopped(&self) -> impl Future<Output = Result<Option<u64>, ConnectionError>> + Send + Sync + use<> {
        wait_for(Stopped(self.instance.clone()))
    }

    // ---- Questions and settings -----------------------------------------------------------------

    /// The stream's id (RFC 9000 §2.1), once it has started.
    pub fn id(&self) -> Option<u64> {
        self.instance.id()
    }

    /// A number for logs that names this stream among all that are held, also before it has an
    /// [`id`](Self::id).
    pub fn debug_id(&self) -> usize {
        self.instance.debug_id()
    }

    /// How long each cause has held this stream's data back, as of now or of the stream's end
    /// (`QUIC_PARAM_STREAM_STATISTICS`). `None` before the stream has started.
    ///
    /// MsQuic answers on the connection's worker, and blocks the thread that asks. So Sendstream's
    /// background thread asks at once, and the future waits for it. That thread asks one question
    /// at a time: call this now and then, not for each send.
    ///
    /// # Errors
    ///
    /// MsQuic's status, should it not tell.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub fn stats(&self) -> impl Future<Output = Result<Option<SendStreamStats>, NativeError>> + Send + Sync + use<> {
        let instance = self.instance.clone();
        background::ask(move || match instance.stats() {
            Ok(stats) => Ok(Some(SendStreamStats::new(&stats))),
            Err(NativeError::INVALID_STATE) => Ok(None),
            Err(status) => Err(status),
        })
    }

    /// Sets this stream's priority among the streams of its connection
    /// (`QUIC_PARAM_STREAM_PRIORITY`). Data of a higher priority goes first. 0 is the lowest, and a
    /// stream begins with 0x7fff. The change takes effect soon, not at once.
    pub fn set_priority(&mut self, priority: u16) {
        self.instance.set_priority(priority);
    }

    /// What [`set_priority`](Self::set_priority) last set.
    pub fn priority(&self) -> u16 {
        self.instance.priority()
    }

    /// Fixes the in-flight window of this stream at `bytes`, at least 1, in place of MsQuic's
    /// advice. A window of less than some packets (4 KiB) makes writes wait for acknowledgements
    /// that the peer keeps back. The process's [memory budget](crate::process::set_memory_budget) may
    /// allow less of it.
    pub fn set_send_window(&mut self, bytes: u64) {
        self.instance.set_window(bytes.max(1));
    }

    /// The in-flight window in bytes, as far as the process's
    /// [memory budget](crate::process::set_memory_budget) allows it now: writes wait while as much or
    /// more is [in flight](Self::in_flight).
    pub fn send_window(&self) -> u64 {
        self.instance.window().0
    }

    /// Bytes submitted and not yet acknowledged. Each send counts whole until all of it is, or in
    /// slices if it is large beside the window, see [`write_chunk`](Self::write_chunk).
    pub fn in_flight(&self) -> u64 {
        self.instance.window().1
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.instance.drop_send();
    }
}

/// The wait of [`SendStream::send`] for the acknowledgement of its bytes, or of
/// [`SendStream::finish_with`] for that of FIN. The bytes are on their way whether it is polled or
/// not.
#[derive(Debug)]
pub struct SendData<'a> {
    stream: &'a mut SendStream,
    /// How many operations must be acknowledged, or why the bytes were not taken.
    submitted: Result<u64, WriteError>,
    /// Whether FIN must be acknowledged as well.
    fin: Fin,
}

impl SendData<'_> {
    /// Why the bytes, or FIN, were not taken; `None` when they were. That is known at once, and says
    /// nothing of whether they will arrive.
    pub fn refusal(&self) -> Option<&WriteError> {
        self.submitted.as_ref().err()
    }
}

impl Future for SendData<'_> {
    type Output = Result<(), WriteError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match &this.submitted {
            Ok(_) if this.fin.is_set() => this.stream.poll_finish(cx),
            Ok(operations) => this.stream.instance.poll_send_data(*operations, cx).map_err(WriteError::from),
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

struct Stopped(Arc<StreamInstance>);

impl KeyedWait for Stopped {
    type Output = Result<Option<u64>, ConnectionError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.ask_connection();
        self.0.inner().lock().poll_stopped(key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.0.inner().lock().forget_stopped(key)
    }
}

/// Why bytes or FIN were not accepted, or not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The peer wants no more: it sent STOP_SENDING with this code.
    #[error("stopped by the peer with code {0}")]
    Stopped(u64),
    /// This side reset the stream, with this code.
    #[error("reset by this side with code {0}")]
    Reset(u64),
    /// This side has finished the stream already.
    #[error("the stream is finished already")]
    Finished,
    /// The stream could not start.
    #[error("the stream could not start: {0}")]
    Start(#[source] StartError),
    /// The connection ended.
    #[error("the connection is lost: {0}")]
    ConnectionLost(#[source] ConnectionError),
    /// The code to reset with has more than the 62 bits that QUIC carries; nothing was reset.
    #[error("error code {0:#x} has more than the 62 bits that QUIC carries")]
    CodeOutOfRange(u64),
    /// MsQuic or the system failed, out of memory mostly; the stream was reset.
    #[error("MsQuic did not take it: {0}")]
    Native(#[source] NativeError),
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match error {
            WriteError::ConnectionLost(error) => return error.into(),
            WriteError::Start(StartError::ConnectionLost(error)) => return error.into(),
            WriteError::Native(error) | WriteError::Start(StartError::Native(error)) => return error.into(),
            WriteError::Stopped(_) | WriteError::Reset(_) => io::ErrorKind::ConnectionReset,
            WriteError::Finished => io::ErrorKind::BrokenPipe,
            WriteError::Start(StartError::LimitReached) => io::ErrorKind::QuotaExceeded,
            WriteError::Start(StartError::Reset(_) | StartError::Stopped(_)) => io::ErrorKind::ConnectionReset,
            WriteError::Start(StartError::Finished) => io::ErrorKind::BrokenPipe,
            WriteError::CodeOutOfRange(_) => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// Why a stream did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The peer's limit admits no further stream now, and the start was not to wait.
    #[error("the peer's stream limit is reached")]
    LimitReached,
    /// This side reset the stream, with this code.
    #[error("reset by this side with code {0}")]
    Reset(u64),
    /// The peer stopped the stream, with this code.
    #[error("stopped by the peer with code {0}")]
    Stopped(u64),
    /// This side has finished the stream already.
    #[error("the stream is finished already")]
    Finished,
    /// The connection ended.
    #[error("the connection is lost: {0}")]
    ConnectionLost(#[source] ConnectionError),
    /// MsQuic or the system failed: out of memory, mostly.
    #[error("MsQuic did not start it: {0}")]
    Native(#[source] NativeError),
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> Self {
        let kind = match error {
            StartError::ConnectionLost(error) => return error.into(),
            StartError::Native(error) => return error.into(),
            StartError::LimitReached => io::ErrorKind::QuotaExceeded,
            StartError::Reset(_) | StartError::Stopped(_) => io::ErrorKind::ConnectionReset,
            StartError::Finished => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

impl From<SendClosed<ConnectionError>> for WriteError {
    fn from(closed: SendClosed<ConnectionError>) -> Self {
        match closed {
            SendClosed::Finished => Self::Finished,
            SendClosed::Ended(end) => end.into(),
        }
    }
}

impl From<SendEnd<ConnectionError>> for WriteError {
    fn from(end: SendEnd<ConnectionError>) -> Self {
        match end {
            SendEnd::Stopped(code) => Self::Stopped(code),
            SendEnd::Reset(code) => Self::Reset(code),
            SendEnd::Failed(SendFailure::ConnectionLost(error)) => Self::ConnectionLost(error),
            SendEnd::Failed(SendFailure::LimitReached) => Self::Start(StartError::LimitReached),
            SendEnd::Failed(SendFailure::StartFailed(status)) => Self::Start(StartError::Native(status.into())),
            SendEnd::Failed(SendFailure::Refused(status)) => Self::Native(status.into()),
            SendEnd::Failed(SendFailure::Ended) => Self::Native(NativeError::ABORTED),
        }
    }
}

impl From<CodeOutOfRange> for WriteError {
    fn from(CodeOutOfRange(code): CodeOutOfRange) -> Self {
        Self::CodeOutOfRange(code)
    }
}

impl From<SendEnd<ConnectionError>> for StartError {
    fn from(end: SendEnd<ConnectionError>) -> Self {
        match end {
            SendEnd::Stopped(code) => Self::Stopped(code),
            SendEnd::Reset(code) => Self::Reset(code),
            SendEnd::Failed(SendFailure::ConnectionLost(error)) => Self::ConnectionLost(error),
            SendEnd::Failed(SendFailure::LimitReached) => Self::LimitReached,
            SendEnd::Failed(SendFailure::StartFailed(status) | SendFailure::Refused(status)) => {
                Self::Native(status.into())
            }
            SendEnd::Failed(SendFailure::Ended) => Self::Native(NativeError::ABORTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timeout;

    #[test]
    fn every_end_of_the_send_half_has_its_errors() {
        const LOST: ConnectionError = ConnectionError::TimedOut(Timeout::Idle);
        const STATUS: NativeError = NativeError::OUT_OF_MEMORY;
        let failed = SendEnd::Failed;
        for (end, written, started) in [
            (SendEnd::Stopped(5), WriteError::Stopped(5), StartError::Stopped(5)),
            (SendEnd::Reset(6), WriteError::Reset(6), StartError::Reset(6)),
            (
                failed(SendFailure::ConnectionLost(LOST)),
                WriteError::ConnectionLost(LOST),
                StartError::ConnectionLost(LOST),
            ),
            (failed(SendFailure::LimitReached), WriteError::Start(StartError::LimitReached), StartError::LimitReached),
            (
                failed(SendFailure::StartFailed(STATUS.into())),
                WriteError::Start(StartError::Native(STATUS)),
                StartError::Native(STATUS),
            ),
            (failed(SendFailure::Refused(STATUS.into())), WriteError::Native(STATUS), StartError::Native(STATUS)),
            (
                failed(SendFailure::Ended),
                WriteError::Native(NativeError::ABORTED),
                StartError::Native(NativeError::ABORTED),
            ),
        ] {
            assert_eq!(WriteError::from(SendClosed::Ended(end.clone())), written);
            assert_eq!(WriteError::from(end.clone()), written);
            assert_eq!(StartError::from(end), started);
        }
        assert_eq!(WriteError::from(SendClosed::Finished), WriteError::Finished);
    }
}
