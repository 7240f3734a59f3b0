//! The streams of a session.

use std::sync::Arc;

use bytes::Bytes;
use web_transport_proto::error_from_http3;

use crate::{
    error::{RecvError, SendError, stream_code},
    session::Shared,
};

/// The sending half of a stream.
///
/// # Dropping it
///
/// A stream that was not [finished](web_transport_trait::SendStream::finish) is reset with code 0, so
/// that what is cut off never looks complete. `web-transport-trait` 0.5 says at one place that a drop
/// finishes the stream, and at another that it should reset it; this crate does the latter. A finished
/// stream goes on to be delivered while the session lives.
///
/// # Cancel safety
///
/// Dropping a future of `write` takes nothing from the buffer, or has sent what it took. Dropping one of
/// `closed` only ends the wait. `write_all` and `write_chunk` are those of the trait and of
/// [`sendstream::SendStream::write_chunk`].
#[derive(Debug)]
pub struct SendStream {
    stream: sendstream::SendStream,
    finished: bool,
    session: Arc<Shared>,
}

impl SendStream {
    pub(crate) fn new(stream: sendstream::SendStream, session: Arc<Shared>) -> Self {
        Self { stream, finished: false, session }
    }

    /// The stream below, for what the trait has no word for. WebTransport's header was sent on it.
    pub fn quic(&mut self) -> &mut sendstream::SendStream {
        &mut self.stream
    }

    /// Nobody reads what is written after the session's end, of which the stream may hear later.
    fn check_session(&self) -> Result<(), SendError> {
        self.session.end_so_far().map_or(Ok(()), |end| Err(SendError::Session(end)))
    }

    fn error(&self, error: SendError) -> SendError {
        match error {
            SendError::Session(error) => SendError::Session(self.session.better(error)),
            // A peer stops the streams of a session that is over with a code of its own choice.
            SendError::Stopped(None) => self.session.end_so_far().map_or(SendError::Stopped(None), SendError::Session),
            error @ (SendError::Stopped(Some(_)) | SendError::Reset | SendError::Finished) => error,
        }
    }
}

impl web_transport_trait::SendStream for SendStream {
    type Error = SendError;

    async fn write(&mut self, buf: &[u8]) -> Result<usize, SendError> {
        self.check_session()?;
        match self.stream.write(buf).await {
            Ok(length) => Ok(length),
            Err(_) => Err(self.write_error().await),
        }
    }

    async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), SendError> {
        self.check_session()?;
        let written = self.stream.write_chunk(chunk).await;
        written.map_err(|error| self.error(error.into()))
    }

    /// Streams with a higher order go first. Orders from -16384 to 16384 are all different; others share
    /// the rest of Sendstream's priorities, in order.
    fn set_priority(&mut self, order: i32) {
        self.stream.set_priority(priority(order));
    }

    fn finish(&mut self) -> Result<(), SendError> {
        let finished = self.stream.finish();
        finished.map_err(|error| self.error(error.into()))?;
        self.finished = true;
        Ok(())
    }

    fn reset(&mut self, code: u32) {
        // One that is over already has nothing left to reset.
        let _ = self.stream.abort(stream_code(code));
    }

    /// Resolves once the peer has acknowledged the end, or this side reset the stream.
    ///
    /// # Errors
    ///
    /// [`SendError::Stopped`] if the peer wants no more, [`SendError::Session`] if the session ended.
    async fn closed(&mut self) -> Result<(), SendError> {
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(self.error(SendError::Stopped(error_from_http3(code)))),
            Err(error) => Err(self.error(SendError::Session(error.into()))),
        }
    }
}

impl SendStream {
    /// Why a write failed, which `AsyncWrite` tells as an `io::Error` only.
    async fn write_error(&mut self) -> SendError {
        match std::future::poll_fn(|cx| self.stream.poll_writable(cx)).await {
            Err(error) => self.error(error.into()),
            Ok(()) if self.finished => SendError::Finished,
            Ok(()) => SendError::Reset,
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.abort(stream_code(0));
        }
    }
}

/// The receiving half of a stream.
///
/// # Dropping it
///
/// If its end was not read, the drop asks the peer to stop, with code 0.
///
/// # Cancel safety
///
/// Dropping a future of `read`, `read_chunk` or `closed` loses no bytes.
#[derive(Debug)]
pub struct RecvStream {
    stream: sendstream::RecvStream,
    /// What was read and not handed out.
    rest: Bytes,
    session: Arc<Shared>,
}

impl RecvStream {
    pub(crate) fn new(stream: sendstream::RecvStream, session: Arc<Shared>) -> Self {
        Self { stream, rest: Bytes::new(), session }
    }

    fn error(&self, error: RecvError) -> RecvError {
        match error {
            RecvError::Session(error) => RecvError::Session(self.session.better(error)),
            // As in `SendStream`.
            RecvError::Reset(None) => self.session.end_so_far().map_or(RecvError::Reset(None), RecvError::Session),
            error @ (RecvError::Reset(Some(_)) | RecvError::Stopped) => error,
        }
    }
}

impl web_transport_trait::RecvStream for RecvStream {
    type Error = RecvError;

    async fn read(&mut self, dst: &mut [u8]) -> Result<Option<usize>, RecvError> {
        if !self.rest.is_empty() {
            let length = dst.len().min(self.rest.len());
            dst[..length].copy_from_slice(&self.rest.split_to(length));
            return Ok(Some(length));
        }
        let read = self.stream.read(dst).await;
        read.map_err(|error| self.error(error.into()))
    }

    /// Without a copy: see [`sendstream::RecvChunk`] for what keeping it costs.
    async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, RecvError> {
        if max == 0 {
            return Ok(Some(Bytes::new()));
        }
        if self.rest.is_empty() {
            let read = self.stream.read_chunk().await;
            let Some(chunk) = read.map_err(|error| self.error(error.into()))? else { return Ok(None) };
            self.rest = chunk.into();
        }
        Ok(Some(self.rest.split_to(max.min(self.rest.len()))))
    }

    fn stop(&mut self, code: u32) {
        self.rest = Bytes::new();
        let _ = self.stream.stop(stream_code(code));
    }

    /// Resolves once the peer's FIN has arrived, or this side stopped reading.
    ///
    /// # Errors
    ///
    /// [`RecvError::Reset`] if the peer reset the stream, [`RecvError::Session`] if the session ended.
    async fn closed(&mut self) -> Result<(), RecvError> {
        match self.stream.received_reset().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(self.error(RecvError::Reset(error_from_http3(code)))),
            Err(error) => Err(self.error(error.into())),
        }
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        // Nothing is asked for where the end was read.
        let _ = self.stream.stop(stream_code(0));
    }
}

/// Sendstream's priority for an order of the trait's.
fn priority(order: i32) -> u16 {
    const MIDDLE: i64 = 0x7fff;
    const FINE: i64 = 0x4000;
    /// How many orders beyond the fine ones share the priorities beyond them.
    const COARSE: i64 = (1 << 31) - FINE;
    let order = i64::from(order);
    let fine = order.clamp(-FINE, FINE);
    let coarse = (order - fine) * (FINE - 1) / COARSE;
    u16::try_from(MIDDLE + fine + coarse).expect("it is at most 32767 from the middle")
}

#[cfg(test)]
mod tests {
    use super::priority;

    #[test]
    fn a_higher_order_never_has_a_lower_priority() {
        let orders = [i32::MIN, -1 << 30, -16_385, -16_384, -2, -1, 0, 1, 2, 16_384, 16_385, 1 << 30, i32::MAX];
        assert!(orders.map(priority).is_sorted());
        assert!([-16_384, -2, -1, 0, 1, 2, 16_384].map(priority).windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((priority(i32::MIN), priority(0), priority(i32::MAX)), (0, 0x7fff, 0xfffd));
    }
}
