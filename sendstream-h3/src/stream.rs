//! [`BidiStream`], [`SendStream`] and [`RecvStream`]: streams as h3 wants them.

use std::{
    mem,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::{
    error::Code,
    quic::{self, StreamErrorIncoming, StreamId, WriteBuf},
};
use sendstream::{ConnectionError, Payload, ReadError, Side, WriteError};

use crate::{
    connection::Link,
    error,
    frames::{Frames, Violation, varint},
};

/// Both halves of a stream for h3: [`h3::quic::BidiStream`].
#[derive(Debug)]
pub struct BidiStream {
    send: SendStream,
    recv: RecvStream,
}

impl BidiStream {
    /// A stream that the peer opened.
    pub(crate) fn accepted((send, recv): Pair, link: &Link, limit: usize) -> Self {
        let mut recv = RecvStream::new(recv, link);
        if recv.is_of_client() {
            recv.check(Frames::of_request(Side::Server, limit));
        }
        Self { send: SendStream::new(send), recv }
    }

    /// A stream that this side opened.
    pub(crate) fn opened((send, recv): Pair, link: &Link, limit: usize) -> Self {
        let mut recv = RecvStream::new(recv, link);
        if recv.is_of_client() {
            recv.check(Frames::of_request(Side::Client, limit));
        }
        Self { send: SendStream::new(send), recv }
    }

    /// Has the sending half hold frames back that are short, so that a short response is one send: its
    /// fields, its body and FIN. They go with a longer one, or with FIN. An empty DATA frame, which
    /// means nothing (RFC 9114 §7.2.1), sends what is held and is not sent itself: h3 has no call
    /// that flushes.
    pub(crate) fn hold(&mut self) {
        self.send.held = Some(Vec::new());
    }

    /// The sending half.
    pub fn send(&self) -> &SendStream {
        &self.send
    }

    /// The receiving half.
    pub fn recv(&self) -> &RecvStream {
        &self.recv
    }
}

impl<B: Buf + Send + 'static> quic::BidiStream<B> for BidiStream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl<B: Buf + Send + 'static> quic::SendStream<B> for BidiStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_window(cx)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.submit(data.into())
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(self.send.finish())
    }

    fn reset(&mut self, code: u64) {
        self.send.abort(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.id
    }
}

impl<B: Buf + Send + 'static> quic::SendStreamUnframed<B> for BidiStream {
    fn poll_send<D: Buf>(&mut self, cx: &mut Context<'_>, buf: &mut D) -> Poll<Result<usize, StreamErrorIncoming>> {
        self.send.poll_copy(cx, buf)
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let received = ready!(self.recv.poll_received(cx));
        if let Err(Failure::Violation(violation)) = &received {
            self.send.answer(violation);
        }
        Poll::Ready(received.map_err(|failure| self.recv.fail(failure)))
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.id
    }
}

/// The sending half of a stream for h3: [`h3::quic::SendStream`].
///
/// What h3 sends is submitted at once, and its payload is not copied unless it is short. `poll_ready`
/// waits for room in the stream's [in-flight window](sendstream::SendStream::poll_writable), which
/// is h3's backpressure. A peer that wants no more fails what is sent after that, and neither what was
/// taken nor the end: an early answer must not be lost. `poll_finish` is ready once FIN is queued, and
/// does not wait for the acknowledgement; [`stopped`](Self::stopped) tells of it.
///
/// Dropping it before it is finished resets the stream with H3_REQUEST_CANCELLED (RFC 9114 §4.1.1),
/// so that a message which was cut off never looks complete.
#[derive(Debug)]
pub struct SendStream {
    stream: sendstream::SendStream,
    id: StreamId,
    /// Whether nothing is left for `drop` to do: FIN is queued, or the stream reset.
    ended: bool,
    /// Whether h3's own answer to fields that are too large was sent last. h3 0.0.8 drops the stream
    /// then, and finishes nothing.
    is_refusal: bool,
    /// The frames that are [held back](BidiStream::hold), where they are.
    held: Option<Vec<u8>>,
    /// Whether the last frame was taken, and [`Self::poll_window`] was not asked since.
    taken: bool,
}

impl SendStream {
    /// Of a stream that has started.
    pub(crate) fn new(stream: sendstream::SendStream) -> Self {
        Self { id: id_of(stream.id()), stream, ended: false, is_refusal: false, held: None, taken: false }
    }

    /// Resolves with the code when the peer wants no more, or with `None` once the peer has
    /// acknowledged FIN, or this side has reset the stream: [`sendstream::SendStream::stopped`].
    pub fn stopped(
        &self,
    ) -> impl Future<Output = Result<Option<u64>, sendstream::ConnectionError>> + Send + Sync + use<> {
        self.stream.stopped()
    }

    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if self.held.as_ref().is_some_and(|held| !held.is_empty()) {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.stream.poll_writable(cx)) {
            // Only what is sent from here on is refused. A server may answer before it was asked where this
            // side sees that, and the answer counts (RFC 9114 §4.1).
            Err(WriteError::Stopped(_)) if mem::take(&mut self.taken) => Poll::Ready(Ok(())),
            writable => Poll::Ready(writable.map_err(error::write)),
        }
    }

    /// Why the stream takes nothing more is told by [`Self::poll_window`], which h3 asks next.
    fn send(&mut self, payload: impl Into<Payload>) {
        self.taken = self.stream.send(payload).refusal().is_none();
    }

    fn submit<B: Buf + Send + 'static>(&mut self, mut data: WriteBuf<B>) -> Result<(), StreamErrorIncoming> {
        let is_flush = self.held.is_some() && data.chunk() == EMPTY_DATA;
        let mut bytes = self.held.as_mut().map(mem::take).unwrap_or_default();
        self.is_refusal = false;
        if is_flush {
            if !bytes.is_empty() {
                self.send(bytes);
            }
        } else if bytes.len() + data.remaining() > LONGEST_COPY_OF_FRAME {
            self.send(payload(bytes, data));
        } else {
            if self.held.is_some() && bytes.is_empty() {
                // For the frames that follow, too.
                bytes.reserve(SHORT_RESPONSE);
            }
            copy_to(&mut bytes, &mut data);
            self.is_refusal = bytes == STATUS_431_OF_H3;
            match &mut self.held {
                Some(held) => *held = bytes,
                None => self.send(bytes),
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StreamErrorIncoming> {
        if let Some(held) = self.held.as_mut().filter(|held| !held.is_empty()) {
            // Why it does not reach the client is told by `stopped`.
            drop(self.stream.finish_with(mem::take(held)));
            self.ended = true;
            return Ok(());
        }
        match self.stream.finish() {
            // Whoever wants nothing more has no use for the end: `stopped` tells of it.
            Ok(()) | Err(WriteError::Finished | WriteError::Stopped(_)) => {
                self.ended = true;
                Ok(())
            }
            Err(error) => Err(error::write(error)),
        }
    }

    fn abort(&mut self, code: u64) {
        // It may be over already. A code of more than 62 bits resets nothing, and `drop` does then.
        self.ended |= !matches!(self.stream.abort(code), Err(WriteError::CodeOutOfRange(_)));
    }

    /// Ends the response, or the request, whose other half broke a rule.
    fn answer(&mut self, violation: &Violation) {
        match violation {
            // All of the connection ends.
            Violation::Connection { .. } => {}
            Violation::Request { code, .. } => self.abort(code.value()),
            Violation::HeadersTooLong { side: Side::Server, .. } => {
                drop(self.stream.send(STATUS_431));
                // It may have been stopped, or the connection lost: then nobody waits for an answer.
                let _ = self.finish();
            }
            Violation::HeadersTooLong { side: Side::Client, .. } => self.abort(Code::H3_REQUEST_CANCELLED.value()),
        }
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>, buf: &mut impl Buf) -> Poll<Result<usize, StreamErrorIncoming>> {
        ready!(self.poll_window(cx))?;
        let length = buf.chunk().len().min(LONGEST_COPY);
        self.send(buf.copy_to_bytes(length));
        Poll::Ready(Ok(length))
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if self.ended || (self.is_refusal && self.finish().is_ok()) {
            return;
        }
        self.abort(Code::H3_REQUEST_CANCELLED.value());
    }
}

impl<B: Buf + Send + 'static> quic::SendStream<B> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.poll_window(cx)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.submit(data.into())
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(self.finish())
    }

    fn reset(&mut self, code: u64) {
        self.abort(code);
    }

    fn send_id(&self) -> StreamId {
        self.id
    }
}

impl<B: Buf + Send + 'static> quic::SendStreamUnframed<B> for SendStream {
    fn poll_send<D: Buf>(&mut self, cx: &mut Context<'_>, buf: &mut D) -> Poll<Result<usize, StreamErrorIncoming>> {
        self.poll_copy(cx, buf)
    }
}

/// The receiving half of a stream for h3: [`h3::quic::RecvStream`].
///
/// What it gives is MsQuic's own memory, without a copy. It may be kept for as long as the
/// application likes ([`RecvChunk`](sendstream::RecvChunk)): a body of any length can be collected.
///
/// Dropping it before its end was read asks the peer to stop, with H3_REQUEST_CANCELLED (RFC 9114
/// §4.1.1).
#[derive(Debug)]
pub struct RecvStream {
    stream: sendstream::RecvStream,
    id: StreamId,
    /// To close the connection of a peer that breaks a rule.
    link: Link,
    /// The type of a unidirectional stream, which was read here and which h3 reads as well.
    kind: Bytes,
    /// What was received and not handed out yet.
    received: Bytes,
    /// Where the stream has frames that are checked here.
    frames: Option<Frames>,
    /// How the peer broke a rule. Whoever reads on is told again, and never of an end.
    violation: Option<Violation>,
    /// How many pieces were ready one after the other.
    in_a_row: u8,
}

/// Why nothing more comes from a stream.
#[derive(Debug)]
pub(crate) enum Failure {
    Violation(Violation),
    Read(ReadError),
    Lost(ConnectionError),
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl RecvStream {
    /// Of a stream that has started.
    pub(crate) fn new(stream: sendstream::RecvStream, link: &Link) -> Self {
        Self {
            id: id_of(stream.id()),
            stream,
            link: link.clone(),
            kind: Bytes::new(),
            received: Bytes::new(),
            frames: None,
            violation: None,
            in_a_row: 0,
        }
    }

    /// Has what follows checked.
    pub(crate) fn check(&mut self, frames: Frames) {
        self.frames = Some(frames);
    }

    /// Whether the client opened the stream (RFC 9000 §2.1).
    pub(crate) fn is_of_client(&self) -> bool {
        self.id.into_inner() & 1 == 0
    }

    /// Reads the type of a unidirectional stream (RFC 9114 §6.2). `None` where the stream ends before.
    pub(crate) fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        loop {
            let mut rest = &self.received[..];
            if let Some(kind) = varint(&mut rest) {
                let length = self.received.len() - rest.len();
                self.kind = self.received.split_to(length);
                return Poll::Ready(Some(kind));
            }
            match ready!(self.stream.poll_read_chunk(cx)) {
                // Less than eight bytes are there already.
                Ok(Some(chunk)) => self.received = Bytes::from([&self.received[..], &chunk[..]].concat()),
                // Whoever accepts streams hears of a lost connection, too.
                Ok(None) | Err(_) => return Poll::Ready(None),
            }
        }
    }

    /// Keeps the type from what is read next.
    pub(crate) fn skip_kind(&mut self) {
        self.kind.clear();
    }

    /// The next piece for h3.
    pub(crate) fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        if let Some(violation) = &self.violation {
            return Poll::Ready(Err(violation.clone().into()));
        }
        if self.in_a_row == PIECES_IN_A_ROW {
            // h3 reads for as long as there is something. A peer that sends without an end gives
            // others their turn.
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(received) = self.poll_checked(cx) else {
            self.in_a_row = 0;
            return Poll::Pending;
        };
        self.in_a_row += 1;
        if let Err(Failure::Violation(violation)) = &received {
            self.violation = Some(violation.clone());
        }
        Poll::Ready(received)
    }

    fn poll_checked(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        if !self.kind.is_empty() {
            return Poll::Ready(Ok(Some(mem::take(&mut self.kind))));
        }
        for _ in 0..CHUNKS_PER_POLL {
            let piece = match &mut self.frames {
                Some(frames) => frames.next(&mut self.received)?,
                None if self.received.is_empty() => None,
                None => Some(mem::take(&mut self.received)),
            };
            if piece.is_some() {
                return Poll::Ready(Ok(piece));
            }
            match ready!(self.stream.poll_read_chunk(cx)).map_err(Failure::Read)? {
                Some(chunk) => self.received = Bytes::from(chunk),
                None => {
                    self.frames.as_ref().map_or(Ok(()), Frames::end)?;
                    return Poll::Ready(Ok(None));
                }
            }
        }
        // A peer that sends nothing but what is skipped has its turn like others.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Tells the peer which rule it broke, and h3 why there is nothing more.
    fn fail(&mut self, failure: Failure) -> StreamErrorIncoming {
        match failure {
            Failure::Read(error) => error::read(error),
            Failure::Lost(error) => {
                StreamErrorIncoming::ConnectionErrorIncoming { connection_error: error::connection(error) }
            }
            Failure::Violation(violation) => {
                match violation {
                    Violation::Connection { .. } => {
                        let connection_error = self.link.violated(violation);
                        return StreamErrorIncoming::ConnectionErrorIncoming { connection_error };
                    }
                    Violation::Request { code, .. } => quic::RecvStream::stop_sending(self, code.value()),
                    // A response was sent, and nothing of the request is needed (RFC 9114 §4.1).
                    Violation::HeadersTooLong { side: Side::Server, .. } => {
                        quic::RecvStream::stop_sending(self, Code::H3_NO_ERROR.value());
                    }
                    Violation::HeadersTooLong { side: Side::Client, .. } => {
                        quic::RecvStream::stop_sending(self, Code::H3_REQUEST_CANCELLED.value());
                    }
                }
                StreamErrorIncoming::Unknown(Box::new(violation))
            }
        }
    }

    /// Whether the peer began the stream with early data: [`sendstream::RecvStream::is_early`].
    pub fn is_early(&self) -> bool {
        self.stream.is_early()
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        // Does nothing once the end was read, or something else was said.
        quic::RecvStream::stop_sending(self, Code::H3_REQUEST_CANCELLED.value());
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.poll_received(cx).map_err(|failure| self.fail(failure))
    }

    fn stop_sending(&mut self, code: u64) {
        // h3's codes are of the wire, so they fit.
        let _ = self.stream.stop(code);
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

/// The bytes of a frame behind others, of which its payload is not copied unless it is short.
fn payload<B: Buf + Send + 'static>(before: Vec<u8>, mut data: WriteBuf<B>) -> Payload {
    let mut pieces = Vec::with_capacity(3);
    if !before.is_empty() {
        pieces.push(before.into());
    }
    while data.has_remaining() {
        let length = data.chunk().len();
        // The last piece is the payload, or the end of one that lies in several.
        if length == data.remaining() && length > LONGEST_COPY_OF_FRAME {
            pieces.push(Bytes::from_owner(LastPiece(data)));
            break;
        }
        pieces.push(data.copy_to_bytes(length));
    }
    pieces.into()
}

fn copy_to(all: &mut Vec<u8>, data: &mut impl Buf) {
    all.reserve(data.remaining());
    while data.has_remaining() {
        let chunk = data.chunk();
        all.extend_from_slice(chunk);
        let length = chunk.len();
        data.advance(length);
    }
}

/// What owns a payload until it is acknowledged.
struct LastPiece<B>(WriteBuf<B>);

impl<B: Buf> AsRef<[u8]> for LastPiece<B> {
    fn as_ref(&self) -> &[u8] {
        self.0.chunk()
    }
}

fn id_of(id: Option<u64>) -> StreamId {
    let id = id.expect("the stream has started");
    id.try_into().expect("a stream's id has at most 62 bits")
}

/// Both halves of a stream.
pub(crate) type Pair = (sendstream::SendStream, sendstream::RecvStream);

/// A whole response of status 431: a HEADERS frame of eight bytes, the prefix of a field section that
/// needs no dynamic table, and `:status` (entry 24 of the static table, as 15 and 9) with three
/// characters.
const STATUS_431: &[u8] = &[0x01, 0x08, 0x00, 0x00, 0x5f, 0x09, 0x03, b'4', b'3', b'1'];

/// The same as h3 writes it, in Huffman's code and without any other field. It is a whole response,
/// too.
const STATUS_431_OF_H3: &[u8] = &[0x01, 0x08, 0x00, 0x00, 0x5f, 0x09, 0x83, 0x69, 0x90, 0xff];

/// A DATA frame without payload.
const EMPTY_DATA: &[u8] = &[0x00, 0x00];

/// How much is read in a turn of which nothing is for h3.
const CHUNKS_PER_POLL: usize = 32;

/// How many pieces h3 gets before its task has to let others run.
const PIECES_IN_A_ROW: u8 = 64;

/// Up to here a copy costs less than a second piece, with an owner and its place in a list.
const LONGEST_COPY_OF_FRAME: usize = 1024;

/// What a short response takes, with its fields.
const SHORT_RESPONSE: usize = 256;

/// How much of borrowed bytes becomes one send.
const LONGEST_COPY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use h3::proto::frame::Frame;

    use super::*;

    fn sent<B: Buf + Send + 'static>(body: B) -> u64 {
        payload(Vec::new(), WriteBuf::from(Frame::Data(body))).len()
    }

    #[test]
    fn a_frame_is_sent_whole_whatever_its_payload_is_made_of() {
        for length in [0, 1, 63, 64, 1000, 1021, 1022, 1024, 70_000] {
            let header = match length {
                0..64 => 2,
                64..16384 => 3,
                _ => 5,
            };
            let body = Bytes::from(vec![7; length]);
            assert_eq!(sent(body.clone()), (header + length) as u64);
            assert_eq!(sent(VecDeque::from(body.to_vec())), (header + length) as u64);
            let (first, second) = (body.slice(..length / 3), body.slice(length / 3..));
            assert_eq!(sent(first.chain(second)), (header + length) as u64);
        }
    }
}
