//! [`BidiStream`], [`SendStream`] and [`RecvStream`]: streams as h3 wants them.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h3::{
    error::Code,
    quic::{self, StreamErrorIncoming, StreamId, WriteBuf},
};
use sendstream::{Payload, WriteError};

use crate::error;

/// Both halves of a stream for h3: [`h3::quic::BidiStream`].
#[derive(Debug)]
pub struct BidiStream {
    send: SendStream,
    recv: RecvStream,
}

impl BidiStream {
    pub(crate) fn new((send, recv): (sendstream::SendStream, sendstream::RecvStream)) -> Self {
        Self { send: SendStream::new(send), recv: RecvStream::new(recv) }
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
        self.recv.poll_data(cx)
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
/// is h3's backpressure. `poll_finish` is ready once FIN is queued, and does not wait for the
/// acknowledgement; [`stopped`](Self::stopped) tells of it.
///
/// Dropping it before it is finished resets the stream with H3_REQUEST_CANCELLED (RFC 9114 §4.1.1),
/// so that a message which was cut off never looks complete.
#[derive(Debug)]
pub struct SendStream {
    stream: sendstream::SendStream,
    id: StreamId,
    /// Whether nothing is left for `drop` to do: FIN is queued, or the stream reset.
    ended: bool,
}

impl SendStream {
    /// Of a stream that has started.
    pub(crate) fn new(stream: sendstream::SendStream) -> Self {
        Self { id: id_of(stream.id()), stream, ended: false }
    }

    /// Resolves with the code when the peer wants no more, or with `None` once the peer has
    /// acknowledged FIN, or this side has reset the stream: [`sendstream::SendStream::stopped`].
    pub fn stopped(
        &self,
    ) -> impl Future<Output = Result<Option<u64>, sendstream::ConnectionError>> + Send + Sync + use<> {
        self.stream.stopped()
    }

    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_writable(cx).map_err(error::write)
    }

    fn submit<B: Buf + Send + 'static>(&mut self, data: WriteBuf<B>) -> Result<(), StreamErrorIncoming> {
        // Why the stream takes nothing more is told by `poll_window`, which h3 asks next.
        drop(self.stream.send(payload(data)));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StreamErrorIncoming> {
        match self.stream.finish() {
            Ok(()) | Err(WriteError::Finished) => {
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

    fn poll_copy(&mut self, cx: &mut Context<'_>, buf: &mut impl Buf) -> Poll<Result<usize, StreamErrorIncoming>> {
        ready!(self.poll_window(cx))?;
        let length = buf.chunk().len().min(LONGEST_COPY);
        drop(self.stream.send(buf.copy_to_bytes(length)));
        Poll::Ready(Ok(length))
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.ended {
            self.abort(Code::H3_REQUEST_CANCELLED.value());
        }
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
/// Dropping it before its end was read asks the peer to stop, with H3_REQUEST_CANCELLED (RFC 9114
/// §4.1.1).
#[derive(Debug)]
pub struct RecvStream {
    stream: sendstream::RecvStream,
    id: StreamId,
}

impl RecvStream {
    /// Of a stream that has started.
    pub(crate) fn new(stream: sendstream::RecvStream) -> Self {
        Self { id: id_of(stream.id()), stream }
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
        // A copy, because h3 and the application may keep what they get: memory that MsQuic has lent
        // counts against the stream's window until it is back.
        let chunk = self.stream.poll_read_chunk(cx).map_err(error::read);
        chunk.map_ok(|chunk| chunk.map(|chunk| Bytes::copy_from_slice(&chunk)))
    }

    fn stop_sending(&mut self, code: u64) {
        // h3's codes are of the wire, so they fit.
        let _ = self.stream.stop(code);
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

/// The bytes of a frame: all in one piece if they are few, otherwise the header and the payload as it
/// is.
fn payload<B: Buf + Send + 'static>(mut data: WriteBuf<B>) -> Payload {
    if data.remaining() <= LONGEST_COPY_OF_FRAME {
        return copy(&mut data).into();
    }
    let mut pieces = Vec::with_capacity(2);
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

fn copy(data: &mut impl Buf) -> Bytes {
    let mut all = BytesMut::with_capacity(data.remaining());
    while data.has_remaining() {
        let chunk = data.chunk();
        all.extend_from_slice(chunk);
        let length = chunk.len();
        data.advance(length);
    }
    all.freeze()
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

/// Up to here a copy costs less than a second piece, with an owner and its place in a list.
const LONGEST_COPY_OF_FRAME: usize = 1024;

/// How much of borrowed bytes becomes one send.
const LONGEST_COPY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use h3::proto::frame::Frame;

    use super::*;

    fn sent<B: Buf + Send + 'static>(body: B) -> u64 {
        payload(WriteBuf::from(Frame::Data(body))).len()
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
