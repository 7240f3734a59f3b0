//! A request's body as the application reads it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h3::error::{Code, StreamError};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::stream::RecvStream;

/// What the client sends after a request's fields: data, and perhaps trailers.
///
/// Dropping it before its end tells the client that the rest is not needed (H3_NO_ERROR of RFC 9114
/// §4.1): the response may be complete without it.
pub(super) struct RequestBody {
    stream: h3::server::RequestStream<RecvStream, Bytes>,
    /// What was read before the application asked.
    first: Option<Bytes>,
    /// How far reading has come.
    stage: Stage,
    /// How many bytes are to come, if the client has said so (RFC 9114 §4.1.2).
    announced: Option<u64>,
    /// Tells that the application wants the body, to a client that waits for that.
    wanted: Option<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Data,
    Trailers,
    Over,
}

/// Why a request's body is not all there.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The client gave up, or is gone, or broke the protocol.
    #[error(transparent)]
    Stream(StreamError),
    /// The client sent more or less than it said.
    #[error("the body is not as long as its content-length")]
    Length,
}

impl RequestBody {
    /// `announced` is the request's `content-length`. `wanted` is told of the first read.
    pub(super) fn new(
        stream: h3::server::RequestStream<RecvStream, Bytes>,
        announced: Option<u64>,
        wanted: Option<oneshot::Sender<()>>,
    ) -> Self {
        Self { stream, first: None, stage: Stage::Data, announced, wanted }
    }

    /// Looks whether the body is over already, as that of most requests is.
    pub(super) fn peek(&mut self, cx: &mut Context<'_>) {
        match self.poll_data(cx) {
            Poll::Ready(Ok(Some(data))) => self.first = Some(data),
            Poll::Ready(Ok(None)) if self.announced.unwrap_or(0) == 0 => {
                if let Poll::Ready(Ok(None)) = self.stream.poll_recv_trailers(cx) {
                    self.stage = Stage::Over;
                }
            }
            // Told to whoever reads.
            Poll::Ready(Ok(None) | Err(_)) | Poll::Pending => {}
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        self.stream.poll_recv_data(cx).map_ok(|data| data.map(|mut data| data.copy_to_bytes(data.remaining())))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        if let Some(wanted) = self.wanted.take() {
            // The request's task is gone where nobody answers any more.
            let _ = wanted.send(());
        }
        if self.stage == Stage::Data {
            let data = match self.first.take() {
                Some(data) => Some(data),
                None => ready!(self.poll_data(cx)).map_err(BodyError::Stream)?,
            };
            self.count(data.as_ref())?;
            match data {
                Some(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                None => self.stage = Stage::Trailers,
            }
        }
        if self.stage == Stage::Trailers {
            let trailers = ready!(self.stream.poll_recv_trailers(cx)).map_err(BodyError::Stream)?;
            self.stage = Stage::Over;
            return Poll::Ready(Ok(trailers.map(Frame::trailers)));
        }
        Poll::Ready(Ok(None))
    }

    /// Checks that the client keeps to its `content-length`.
    fn count(&mut self, data: Option<&Bytes>) -> Result<(), BodyError> {
        let left = match (self.announced, data) {
            (None, _) | (Some(0), None) => return Ok(()),
            (Some(announced), Some(data)) => announced.checked_sub(data.len() as u64),
            (Some(_), None) => None,
        };
        if left.is_none() {
            self.stream.stop_sending(Code::H3_MESSAGE_ERROR);
            return Err(BodyError::Length);
        }
        self.announced = left;
        Ok(())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let next = ready!(this.poll_next(cx));
        if next.is_err() {
            this.stage = Stage::Over;
        }
        Poll::Ready(next.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::Over
    }

    fn size_hint(&self) -> SizeHint {
        match self.announced {
            _ if self.stage == Stage::Over => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.stage != Stage::Over {
            self.stream.stop_sending(Code::H3_NO_ERROR);
        }
    }
}
