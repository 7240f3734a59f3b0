//! A request's task: reads the request, calls the application, and sends what it answers.

use std::{
    any::Any,
    future::{Future, poll_fn},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::ConnectInfo;
use bytes::Bytes;
use h3::{
    error::{Code, StreamError},
    ext::Protocol,
    frame::FrameStreamError,
    proto::frame::{Frame, PayloadLen},
    quic::{self, StreamErrorIncoming},
    server::{RequestResolver, RequestStream},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};
use http_body::Body as _;
use sendstream::ConnectionError;
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        oneshot::{self, error::TryRecvError},
    },
    time::timeout,
};
use tower_service::Service as _;

use crate::{
    connection::{Connection, Link},
    serve::{
        EarlyData, EarlyRequests, Shared,
        answering::Answering,
        body::{self, RequestBody, Unread},
        date,
    },
    stream::{BidiStream, SendStream},
};

/// What is known of whoever sent a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) address: Option<SocketAddr>,
    /// Whether it may be a copy that somebody else sent.
    pub(super) early: bool,
}

/// Whom a request's task tells how it ended.
pub(super) struct Ended {
    /// It is closed when the client wants no response any more, or is gone.
    pub(super) told: oneshot::Sender<(End, OwnedSemaphorePermit)>,
    /// The request's place among those that are served at once.
    pub(super) slot: OwnedSemaphorePermit,
}

/// Serves one request. `acknowledged` resolves once the response is.
pub(super) fn serve(
    resolver: RequestResolver<Connection, Bytes>,
    acknowledged: impl Future<Output = Result<Option<u64>, ConnectionError>> + Send,
    client: Client,
    shared: Arc<Shared>,
    Ended { told: mut ended, slot }: Ended,
) -> impl Future<Output = ()> + Send {
    let unresolved = Unresolved(Some(resolver));
    async move {
        // What was given up before it is looked at is no work for the application.
        if ended.is_closed() {
            return;
        }
        let (task, mut unread) = oneshot::channel();
        // What answers is much larger than this task. It is made when it is its turn, and most are gone
        // after that.
        let mut answering = Answering::new(answer(unresolved, client, shared, task));
        let answered = poll_fn(|cx| match Pin::new(&mut answering).poll(cx) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            // The client wants no response any more. The application's future is dropped. An application
            // that has used up the task's budget keeps `poll_closed` from looking.
            Poll::Pending if ended.is_closed() => Poll::Ready(None),
            Poll::Pending => ended.poll_closed(cx).map(|()| None),
        });
        let answered = answered.await;
        drop(answering);
        let Some(end) = answered else { return };
        let _ = ended.send((end, slot));
        // Most requests were read to their end. Then nothing is left to do.
        let left = unread.try_recv();
        if matches!(left, Err(TryRecvError::Closed)) {
            return;
        }
        let _ = acknowledged.await;
        if let Ok(unread) = left.or_else(|_| unread.try_recv()) {
            Box::pin(body::leave(unread)).await;
        }
    }
}

/// How a request ended, once its response is acknowledged, or wanted no more. Its slot comes with it,
/// unless the task has it still. Then the task is told now, and gives the slot back when the application
/// has let go. `None` where the connection was lost.
pub(super) async fn end(
    stopped: impl Future<Output = Result<Option<u64>, ConnectionError>> + Send,
    mut ended: oneshot::Receiver<(End, OwnedSemaphorePermit)>,
) -> Option<(End, Option<OwnedSemaphorePermit>)> {
    let stopped = stopped.await;
    let told = ended.try_recv().ok();
    match stopped {
        // Nothing is told where the task panics, or the system took no more of the response.
        Ok(None) => Some(told.map_or((End::Failed, None), |(end, slot)| (end, Some(slot)))),
        Ok(Some(_)) => Some((End::GivenUp, told.map(|(_, slot)| slot))),
        Err(_) => None,
    }
}

/// From a request's fields to the end of the response. Where it returns early the streams are
/// dropped, which resets them. `task` gets what nobody has read of the request.
async fn answer(unresolved: Unresolved, client: Client, shared: Arc<Shared>, task: oneshot::Sender<Unread>) -> End {
    // One behind the other, so that the second takes the place of the first in memory.
    match resolve(unresolved).await {
        Some(resolved) => respond(resolved, client, shared, task).await,
        None => End::GivenUp,
    }
}

/// From a whole request, but for its body, to the end of the response.
async fn respond(
    (request, stream): Resolved,
    client: Client,
    shared: Arc<Shared>,
    task: oneshot::Sender<Unread>,
) -> End {
    let (mut response, body) = stream.split();
    let method = request.method().clone();
    if client.early && shared.limits.early == EarlyRequests::Safe && !method.is_safe() {
        let _ = task.send(body);
        let too_early = Response::builder().status(StatusCode::TOO_EARLY).body(axum::body::Body::empty());
        return send(&mut response, &method, too_early.expect("a status alone is a response")).await;
    }
    let (request, asked) = prepare(request, body, client, task).await;
    let mut call = pin!(call(shared.app.clone(), request));
    let mut called = pin!(poll_fn(|cx| guard(|| call.as_mut().poll(cx))));
    let answered = match asked {
        None => called.await,
        Some(asked) => {
            tokio::select! {
                biased;
                answered = &mut called => answered,
                Ok(()) = asked => {
                    let go_on = Response::builder().status(StatusCode::CONTINUE).body(());
                    // Where it fails, the response does as well.
                    let _ = response.send_response(go_on.expect("a status alone is a response")).await;
                    let _ = flush(&mut response).await;
                    called.await
                }
            }
        }
    };
    match answered {
        Ok(answer) => send(&mut response, &method, answer).await,
        Err(Panicked) => {
            response.stop_stream(Code::H3_INTERNAL_ERROR);
            End::Failed
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With a whole response.
    Answered,
    /// Without one, because of the client: it went away, or its request was none.
    GivenUp,
    /// Without one, because of the application.
    Failed,
}

/// Counts the requests of a connection that its client gives up. Such a request costs this side all
/// the work and the client next to nothing, and the limit of requests at once does not count it
/// ("rapid reset").
pub(super) struct Tally {
    given_up: AtomicU32,
    link: Link,
}

impl Tally {
    pub(super) fn new(link: Link) -> Self {
        Self { given_up: AtomicU32::new(0), link }
    }

    /// Closes the connection where it was one too many.
    pub(super) fn count(&self, end: End) {
        if is_one_too_many(&self.given_up, end) {
            // The code is of the wire, so it fits.
            let _ = self.link.close(Code::H3_EXCESSIVE_LOAD.value(), "too many requests that were given up");
        }
    }
}

/// Counts one request that was given up, and takes one back for each that was answered.
fn is_one_too_many(given_up: &AtomicU32, end: End) -> bool {
    let change = |count: u32| match end {
        End::Answered => Some(count.saturating_sub(1)),
        End::GivenUp => Some(count.saturating_add(1)),
        End::Failed => None,
    };
    let before = given_up.fetch_update(Relaxed, Relaxed, change);
    end == End::GivenUp && before.is_ok_and(|before| before >= MAX_GIVEN_UP)
}

/// A request whose fields have not come.
///
/// h3 0.0.8 counts a request as under way from its stream on, and no more once what comes behind the
/// fields is dropped. One without fields would count until the connection's end, and keep that from
/// coming. So a drop pretends that there were fields, and drops what comes behind them.
struct Unresolved(Option<RequestResolver<Connection, Bytes>>);

impl Unresolved {
    /// The first frame, which has the fields.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<FirstFrame> {
        self.0.as_mut().expect("only `resolve` and `drop` take it").frame_stream.poll_next(cx)
    }
}

/// A request's fields, and its stream behind them.
type Resolved = (Request<()>, RequestStream<BidiStream, Bytes>);

type FirstFrame = Result<Option<Frame<PayloadLen>>, FrameStreamError>;

impl Drop for Unresolved {
    fn drop(&mut self) {
        if let Some(resolver) = self.0.take() {
            // A section without any field can be decoded.
            drop(resolver.accept_with_frame(Ok(Some(Frame::Headers(Bytes::from_static(&[0, 0]))))));
        }
    }
}

/// What the application answers.
async fn call(mut app: axum::Router, request: Request<axum::body::Body>) -> Response<axum::body::Body> {
    #[cfg(feature = "tonic")]
    let time = crate::grpc::timeout(request.headers());
    let called = async move {
        match app.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    #[cfg(feature = "tonic")]
    if let Some(time) = time {
        return timeout(time, called).await.unwrap_or_else(|_| crate::grpc::too_late().into_http());
    }
    called.await
}

/// The request's fields, if they come in time and are as RFC 9114 wants them. If not, h3 has told the
/// client.
async fn resolve(mut unresolved: Unresolved) -> Option<Resolved> {
    use StreamErrorIncoming::{StreamTerminated, Unknown};

    // Mostly they are there, and no timer is needed.
    let frame = match poll_fn(|cx| Poll::Ready(unresolved.poll_frame(cx))).await {
        Poll::Ready(frame) => frame,
        Poll::Pending => timeout(FIELDS_WITHIN, poll_fn(|cx| unresolved.poll_frame(cx))).await.ok()?,
    };
    let resolved = match frame {
        Ok(None) => {
            let code = Code::H3_REQUEST_INCOMPLETE.value();
            quic::SendStream::<Bytes>::reset(&mut unresolved.0.as_mut()?.frame_stream, code);
            return None;
        }
        // Only the request is over, and not the connection.
        Err(FrameStreamError::Quic(StreamTerminated { .. } | Unknown(_))) => return None,
        frame => unresolved.0.take()?.accept_with_frame(frame),
    };
    let request = match resolved {
        Ok(resolved) => resolved.resolve().await,
        Err(error) => Err(error),
    };
    let (request, mut stream) = request.inspect_err(|error| tracing::debug!(%error, "no request")).ok()?;
    if is_malformed(&request) {
        stream.stop_stream(Code::H3_MESSAGE_ERROR);
        stream.stop_sending(Code::H3_MESSAGE_ERROR);
        return None;
    }
    Some((request, stream))
}

/// What h3 0.0.8 does not look at (RFC 9114 §4.2, §4.3.1 and §4.4).
fn is_malformed(request: &Request<()>) -> bool {
    let (fields, uri) = (request.headers(), request.uri());
    // Only such a CONNECT has no path, and no other request has none.
    let has_no_path = *request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_none();
    OF_CONNECTIONS.iter().any(|name| fields.contains_key(name))
        || fields.get_all(TE).iter().any(|te| te != "trailers")
        || fields.get_all(HOST).iter().count() > 1
        || has_wrong_length(fields)
        || uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
        || has_no_path != uri.path_and_query().is_none()
}

/// The request as the application gets it; and what tells that it begins to read the body, if the
/// client waits for that.
async fn prepare(
    request: Request<()>,
    stream: Unread,
    client: Client,
    task: oneshot::Sender<Unread>,
) -> (Request<axum::body::Body>, Option<oneshot::Receiver<()>>) {
    let (mut parts, ()) = request.into_parts();
    let waits = parts.headers.get(EXPECT).is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let (wanted, asked) = waits.then(oneshot::channel).unzip();
    let announced = content_length(&parts.headers);
    let mut body = RequestBody::new(stream, announced, wanted, task);
    if !waits {
        poll_fn(|cx| {
            body.peek(cx);
            Poll::Ready(())
        })
        .await;
    }
    let body = if body.is_end_stream() { axum::body::Body::empty() } else { axum::body::Body::new(body) };
    if let Some(address) = client.address {
        parts.extensions.insert(ConnectInfo(address));
    }
    if client.early {
        parts.extensions.insert(EarlyData);
    }
    (Request::from_parts(parts, body), asked)
}

/// Whether the length is announced as no number, or as several: where proxies and servers differ
/// about that, requests are smuggled (RFC 9110 §8.6).
fn has_wrong_length(fields: &HeaderMap) -> bool {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    lengths.next().is_some_and(|first| length(first).is_none() || lengths.any(|other| other != first))
}

fn content_length(fields: &HeaderMap) -> Option<u64> {
    length(fields.get(CONTENT_LENGTH)?)
}

fn length(field: &HeaderValue) -> Option<u64> {
    // `parse` would take a sign.
    let digits = field.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Sends a response. A body that fails, or panics, resets the stream.
async fn send(
    stream: &mut RequestStream<SendStream, Bytes>,
    method: &Method,
    response: Response<axum::body::Body>,
) -> End {
    match try_send(stream, method, response).await {
        Ok(()) => End::Answered,
        Err(Failure::Stream(error)) => {
            tracing::debug!(%error, "a response was not sent");
            // Does nothing where the client or the connection has ended the stream.
            stream.stop_stream(Code::H3_INTERNAL_ERROR);
            End::GivenUp
        }
        Err(Failure::Body(error)) => {
            tracing::warn!(error, "a response's body failed");
            stream.stop_stream(Code::H3_INTERNAL_ERROR);
            End::Failed
        }
        Err(Failure::Panicked) => {
            stream.stop_stream(Code::H3_INTERNAL_ERROR);
            End::Failed
        }
    }
}

async fn try_send(
    stream: &mut RequestStream<SendStream, Bytes>,
    method: &Method,
    response: Response<axum::body::Body>,
) -> Result<(), Failure> {
    let (mut parts, body) = response.into_parts();
    if parts.status.is_informational() {
        return Err(Failure::Body("the application answered with an informational status only".into()));
    }
    for field in OF_CONNECTIONS {
        parts.headers.remove(field);
    }
    parts.headers.entry(DATE).or_insert_with(date::now);
    let bare = *method == Method::HEAD || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    stream.send_response(Response::from_parts(parts, ())).await?;
    let mut body = pin!(body);
    while !bare && !body.is_end_stream() {
        let frame = match poll_fn(|cx| Poll::Ready(guard(|| body.as_mut().poll_frame(cx)))).await {
            Poll::Ready(frame) => frame,
            // While the application takes its time the client gets what there is.
            Poll::Pending => {
                flush(stream).await?;
                poll_fn(|cx| guard(|| body.as_mut().poll_frame(cx))).await
            }
        };
        let Some(frame) = frame.map_err(|Panicked| Failure::Panicked)? else { break };
        let frame = frame.map_err(|error| Failure::Body(error.to_string()))?;
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => stream.send_data(data).await?,
            Err(frame) => {
                // Nothing comes behind them.
                if let Ok(trailers) = frame.into_trailers() {
                    stream.send_trailers(trailers).await?;
                }
                break;
            }
        }
    }
    Ok(stream.finish().await?)
}

/// Sends what the stream [holds](BidiStream::hold) of a response.
async fn flush(stream: &mut RequestStream<SendStream, Bytes>) -> Result<(), StreamError> {
    stream.send_data(Bytes::new()).await
}

/// Polls code of the application's, whose panic is the end of one request and of nothing else.
fn guard<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<Result<T, Panicked>> {
    match catch_unwind(AssertUnwindSafe(poll)) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => {
            tracing::error!(panic = message(&*panic), "a request's handler panicked");
            Poll::Ready(Err(Panicked))
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The application panicked.
struct Panicked;

/// Why a response was not sent whole.
enum Failure {
    /// The client or the connection took no more, or the client takes no fields of this size.
    Stream(StreamError),
    /// The application's body ended with an error.
    Body(String),
    /// The application's body panicked.
    Panicked,
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

/// How long a request's fields may take to come once its stream was opened.
const FIELDS_WITHIN: Duration = Duration::from_secs(30);

/// How many more requests than were answered a client may give up on one connection.
const MAX_GIVEN_UP: u32 = 1000;

/// Fields that only HTTP/1.1's connections know (RFC 9114 §4.2).
const OF_CONNECTIONS: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_give_up_so_many_requests_and_more_for_each_that_it_takes() {
        let given_up = AtomicU32::new(0);
        // What was answered before is no credit.
        assert!(!is_one_too_many(&given_up, End::Answered));
        for _ in 0..MAX_GIVEN_UP {
            assert!(!is_one_too_many(&given_up, End::GivenUp));
        }
        assert!(!is_one_too_many(&given_up, End::Answered));
        assert!(!is_one_too_many(&given_up, End::Failed));
        assert!(!is_one_too_many(&given_up, End::GivenUp));
        assert!(is_one_too_many(&given_up, End::GivenUp));
    }
}
