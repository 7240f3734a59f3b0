//! The peer's streams as HTTP/3 sees them: what each is for stands in its first bytes.
//!
//! A stream whose first bytes do not come holds up no other. It only keeps its place among the streams
//! that the transport lets the peer open.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{
    StreamExt as _,
    future::{Either, select},
    stream::FuturesUnordered,
};
use sendstream::{Connection, RecvStream, SendStream};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, Chain, copy, sink},
    task::consume_budget,
};
use web_transport_proto::{
    ConnectError, ConnectRequest, Frame, Settings, SettingsError, StreamUni, VarInt, http::StatusCode,
};

use crate::error::{SessionError, Violation, h3};

/// A unidirectional stream of the peer's that somebody must look at.
pub(crate) enum Uni {
    /// The control stream, up to its SETTINGS.
    Control(Settings, RecvStream),
    /// A stream of the session with this id.
    Session(u64, RecvStream),
    /// A stream for QPACK instructions.
    Qpack(StreamUni, RecvStream),
}

/// A bidirectional stream of the peer's that somebody must look at.
pub(crate) enum Bi {
    /// A request for a session.
    Request(ConnectRequest, SendStream, RecvStream),
    /// A stream of the session with this id.
    Session(u64, SendStream, RecvStream),
}

type Reading<T> = Pin<Box<dyn Future<Output = Result<Option<T>, Violation>> + Send>>;

/// The peer's streams of one kind, in the order in which their first bytes are complete.
pub(crate) struct Incoming<T> {
    connection: Connection,
    reading: FuturesUnordered<Reading<T>>,
    /// Whether the peer has opened its control stream.
    control: Arc<AtomicBool>,
}

impl<T> Incoming<T> {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, reading: FuturesUnordered::new(), control: Arc::default() }
    }

    /// The next one that somebody must look at. Dropping the future loses none.
    async fn next<S>(
        &mut self,
        accept: impl AsyncFn(&Connection) -> Result<S, sendstream::ConnectionError>,
        read: impl Fn(S) -> Reading<T>,
    ) -> Result<T, SessionError> {
        loop {
            // See `next_frame`; here it is streams that are refused at once.
            consume_budget().await;
            let next = {
                let accepted = std::pin::pin!(accept(&self.connection));
                if self.reading.is_empty() {
                    Either::Left(accepted.await)
                } else {
                    match select(self.reading.next(), accepted).await {
                        Either::Left((read, _)) => Either::Right(read),
                        Either::Right((accepted, _)) => Either::Left(accepted),
                    }
                }
            };
            match next {
                Either::Left(stream) => self.reading.push(read(stream?)),
                Either::Right(Some(read)) => {
                    if let Some(stream) = read? {
                        return Ok(stream);
                    }
                }
                Either::Right(None) => {}
            }
        }
    }
}

impl Incoming<Uni> {
    pub(crate) async fn uni(&mut self) -> Result<Uni, SessionError> {
        let control = self.control.clone();
        self.next(Connection::accept_uni, |stream| Box::pin(read_uni(stream, control.clone()))).await
    }
}

impl Incoming<Bi> {
    pub(crate) async fn bi(&mut self) -> Result<Bi, SessionError> {
        self.next(Connection::accept_bi, |(send, recv)| Box::pin(read_bi(send, recv))).await
    }
}

/// `None` for a stream that is not wanted: it may end before its type (RFC 9114 §6.2), and of types
/// that are not known nobody has to know more.
async fn read_uni(mut stream: RecvStream, control: Arc<AtomicBool>) -> Result<Option<Uni>, Violation> {
    let Ok(Some(kind)) = VarInt::read_optional(&mut stream).await else { return Ok(None) };
    match StreamUni(kind) {
        // Told by its type, so that SETTINGS wait in memory once.
        StreamUni::CONTROL if control.swap(true, Ordering::Relaxed) => {
            Err(Violation::new(h3::STREAM_CREATION_ERROR, "a second control stream was opened"))
        }
        StreamUni::CONTROL => {
            let settings = read_settings(&mut stream).await.map_err(|error| Violation::of_settings(&error))?;
            Ok(Some(Uni::Control(settings, stream)))
        }
        kind @ (StreamUni::QPACK_ENCODER | StreamUni::QPACK_DECODER) => Ok(Some(Uni::Qpack(kind, stream))),
        StreamUni::WEBTRANSPORT => Ok(session_id(&mut stream).await.map(|id| Uni::Session(id, stream))),
        StreamUni::PUSH => Err(Violation::new(h3::STREAM_CREATION_ERROR, "a push stream was opened")),
        _ => {
            let _ = stream.stop(h3::STREAM_CREATION_ERROR);
            Ok(None)
        }
    }
}

/// `None` for a stream that was refused, or ended too early.
async fn read_bi(mut send: SendStream, mut recv: RecvStream) -> Result<Option<Bi>, Violation> {
    let Ok(Some(kind)) = VarInt::read_optional(&mut recv).await else { return Ok(None) };
    if Frame(kind) == Frame::WEBTRANSPORT {
        return Ok(session_id(&mut recv).await.map(|id| Bi::Session(id, send, recv)));
    }
    let mut first = Vec::new();
    kind.encode(&mut first);
    let mut whole = first.as_slice().chain(&mut recv);
    let request = match headers(&mut whole).await {
        Ok(mut headers) => ConnectRequest::read(&mut headers).await,
        Err(error) => Err(error),
    };
    match request {
        // An authority has no part for a user (RFC 9114 §4.3.1). A path without its slash could make one,
        // and another host of what follows.
        Ok(request) if has_user(&request.url) => {
            let _ = (send.abort(h3::MESSAGE_ERROR), recv.stop(h3::MESSAGE_ERROR));
            Ok(None)
        }
        Ok(request) => Ok(Some(Bi::Request(request, send, recv))),
        Err(ConnectError::WrongMethod(Some(_)) | ConnectError::WrongProtocol(Some(_))) => {
            respond(&mut send, StatusCode::NOT_IMPLEMENTED.into()).await;
            let _ = recv.stop(h3::NO_ERROR);
            Ok(None)
        }
        Err(error) => {
            let violation = Violation::of_headers(&error).map_or_else(Ok, Err)?;
            let _ = (send.abort(violation.code), recv.stop(violation.code));
            Ok(None)
        }
    }
}

/// The SETTINGS of a control stream behind its type.
async fn read_settings(stream: &mut (impl AsyncRead + Unpin)) -> Result<Settings, SettingsError> {
    match next_frame(stream).await {
        // The types of stream and frame, once more: `Settings` reads them as well.
        Some(Frame::SETTINGS) => Settings::read(&mut (&[0_u8, 4][..]).chain(stream)).await,
        Some(other) => Err(SettingsError::UnexpectedFrame(other)),
        None => Err(SettingsError::UnexpectedEnd),
    }
}

/// Reads up to the HEADERS that a request or an answer begins with. What it gives begins with their type.
pub(crate) async fn headers<R: AsyncRead + Unpin>(
    stream: &mut R,
) -> Result<Chain<&'static [u8], &mut R>, ConnectError> {
    match next_frame(stream).await {
        Some(Frame::HEADERS) => Ok((&[1_u8][..]).chain(stream)),
        Some(other) => Err(ConnectError::UnexpectedFrame(other)),
        None => Err(ConnectError::UnexpectedEnd),
    }
}

/// The type of the next frame that is not reserved to mean nothing (RFC 9114 §7.2.8). `None` if the
/// stream ends before.
async fn next_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    loop {
        // Sendstream's reads have no part in tokio's budget: without this, a peer that sends fast enough
        // would have a thread of the runtime to itself.
        consume_budget().await;
        let kind = Frame(VarInt::read(stream).await.ok()?);
        if !kind.is_grease() {
            return Some(kind);
        }
        let length = VarInt::read(stream).await.ok()?;
        if !skip(stream, length.into_inner()).await {
            return None;
        }
    }
}

/// Whether a URL names a user or has a password, which a request may not.
pub(crate) fn has_user(url: &url::Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

async fn session_id(stream: &mut RecvStream) -> Option<u64> {
    VarInt::read(stream).await.ok().map(VarInt::into_inner)
}

/// Sends an answer that is the last of its stream.
pub(crate) async fn respond(send: &mut SendStream, response: web_transport_proto::ConnectResponse) {
    if response.write(send).await.is_ok() {
        let _ = send.finish();
    }
}

/// The longest payload of a frame or capsule that is read.
pub(crate) const LARGEST: u64 = 65_536;

/// Passes over so many bytes; `false` if the stream ends before.
pub(crate) async fn skip(stream: &mut (impl AsyncRead + Unpin), length: u64) -> bool {
    // `copy` allocates, which a peer could ask for with each frame of two bytes.
    length == 0 || copy(&mut stream.take(length), &mut sink()).await.is_ok_and(|skipped| skipped == length)
}

/// Reads the rest of a control stream. It must not end, and some frames must not come (RFC 9114 §6.2.1,
/// §7.2). The others mean nothing to a connection with one request.
pub(crate) async fn watch_control(mut stream: impl AsyncRead + Unpin) -> Violation {
    /// DATA, HEADERS, PUSH_PROMISE, and those that HTTP/2 had and HTTP/3 has not (RFC 9114 §7.2.8).
    const UNEXPECTED: [u64; 7] = [0x0, 0x1, 0x5, 0x2, 0x6, 0x8, 0x9];
    const ENDED: Violation = Violation::new(h3::CLOSED_CRITICAL_STREAM, "the control stream ended");
    loop {
        consume_budget().await;
        let Ok(Some(kind)) = VarInt::read_optional(&mut stream).await else { return ENDED };
        if Frame(kind) == Frame::SETTINGS || UNEXPECTED.contains(&kind.into_inner()) {
            return Violation::new(h3::FRAME_UNEXPECTED, "a frame came that is not for a control stream");
        }
        let Ok(length) = VarInt::read(&mut stream).await else { return ENDED };
        if !skip(&mut stream, length.into_inner()).await {
            return ENDED;
        }
    }
}

/// Reads a QPACK stream, which must not end (RFC 9204 §4.2). This side's table has no room, so there is
/// nothing to know in it.
pub(crate) async fn watch_qpack(mut stream: RecvStream) -> Violation {
    let _ = copy(&mut stream, &mut sink()).await;
    Violation::new(h3::CLOSED_CRITICAL_STREAM, "a QPACK stream ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_without_end_leave_time_for_other_tasks() {
        let frames = [0x21, 0].repeat(100_000);
        assert!(futures::poll!(std::pin::pin!(watch_control(&frames[..]))).is_pending());
        assert!(futures::poll!(std::pin::pin!(read_settings(&mut &frames[..]))).is_pending());
        assert!(futures::poll!(std::pin::pin!(headers(&mut &frames[..]))).is_pending());
    }
}
