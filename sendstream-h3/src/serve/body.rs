//! A request's body as the application reads it.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use h3::error::{Code, StreamError};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::{sync::oneshot, time::timeout};

use crate::stream::RecvStream;

/// What the client sends after a request's fields: data, and perhaps trailers.
///
/// Dropped before its end, it leaves the rest to the request's task: a client that hears too early
/// that nobody reads it may take that for the failure of its request.
pub(super) struct RequestBody {
    /// Until it is left to the task.
    stream: Option<Unread>,
    task: Option<oneshot::Sender<Unread>>,
    /// What was read before the application asked.
    first: Option<Bytes>,
    /// What was read of the trailers before the application asked.
    trailers: Option<Result<Option<HeaderMap>, StreamError>>,
    /// How far reading has come.
    stage: Stage,
    /// How many bytes are to come, if the client has said so (RFC 9114 §4.1.2).
    announced: Option<u64>,
    /// Tells that the application wants the body, to a client that waits for that.
    wanted: Option<oneshot::Sender<()>>,
}

/// A request's stream, of which there may be more to read.
pub(super) type Unread = h3::server::RequestStream<RecvStream, Bytes>;

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
    /// `announced` is the request's `content-length`. `wanted` is told of the first read, and `task`
    /// gets what nobody has read.
    pub(super) fn new(
        stream: Unread,
        announced: Option<u64>,
        wanted: Option<oneshot::Sender<()>>,
        task: oneshot::Sender<Unread>,
    ) -> Self {
        let (stream, task) = (Some(stream), Some(task));
        Self { stream, task, first: None, trailers: None, stage: Stage::Data, announced, wanted }
    }

    fn stream(&mut self) -> &mut Unread {
        self.stream.as_mut().expect("only `drop` takes it")
    }

    /// Looks whether the body is over already, as that of most requests is.
    pub(super) fn peek(&mut self, cx: &mut Context<'_>) {
        match self.poll_data(cx) {
            Poll::Ready(Ok(Some(data))) => self.first = Some(data),
            Poll::Ready(Ok(None)) if self.announced.unwrap_or(0) == 0 => {
                self.stage = Stage::Trailers;
                match self.stream().poll_recv_trailers(cx) {
                    Poll::Ready(Ok(None)) => self.stage = Stage::Over,
                    // h3 tells of them once.
                    Poll::Ready(trailers) => self.trailers = Some(trailers),
                    Poll::Pending => {}
                }
            }
            // Told to whoever reads.
            Poll::Ready(Ok(None) | Err(_)) | Poll::Pending => {}
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        self.stream().poll_recv_data(cx).map_ok(|data| data.map(|mut data| data.copy_to_bytes(data.remaining())))
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
            let trailers = match self.trailers.take() {
                Some(trailers) => trailers,
                None => ready!(self.stream().poll_recv_trailers(cx)),
            };
            let trailers = trailers.map_err(BodyError::Stream)?;
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
            self.stream().stop_sending(Code::H3_MESSAGE_ERROR);
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
        if self.stage == Stage::Over {
            return;
        }
        if let (Some(stream), Some(task)) = (self.stream.take(), self.task.take())
            && let Err(mut stream) = task.send(stream)
        {
            // The response was over before.
            stream.stop_sending(Code::H3_NO_ERROR);
        }
    }
}

/// Waits for the end of a request whose response is over, for a while. Then it tells the client that
/// the rest is not needed (H3_NO_ERROR of RFC 9114 §4.1).
///
/// Most requests end soon, and clients are known that lose the response when they hear of this first.
pub(super) async fn leave(mut stream: Unread) {
    let to_the_end = async {
        for _ in 0..PIECES_UNREAD {
            match poll_fn(|cx| stream.poll_recv_data(cx)).await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let _ = stream.recv_trailers().await;
                    return true;
                }
                Err(_) => return true,
            }
        }
        false
    };
    if !matches!(timeout(END_WITHIN, to_the_end).await, Ok(true)) {
        stream.stop_sending(Code::H3_NO_ERROR);
    }
}

/// How many pieces of a request that nobody reads are looked through for its end.
const PIECES_UNREAD: usize = 16;

/// How long a client has to end its request when the response is over.
const END_WITHIN: Duration = Duration::from_secs(5);
