//! The request log: a line on standard output for each request that ended.
//!
//! The lines are written by a thread of their own, so that a slow reader of them holds up no
//! connection. What it cannot keep up with is counted and left out.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::{Instant, SystemTime},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{Response, Version, header, request::Parts},
};
use http_body::{Frame, SizeHint};
use sendstream::Printable;
use sendstream_h3::EarlyData;
use serde::{Serialize, Serializer};

use crate::{
    error::Failure,
    progress::Progress,
    summary::{print_json, print_line},
};

/// Where requests are noted. Clones note in the same place.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    lines: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Writer(JoinHandle<()>);

impl Log {
    /// Starts to write: JSON with `json`, else lines for people.
    pub(crate) fn start(json: bool, progress: Progress) -> Result<(Self, Writer), Failure> {
        let (lines, written) = sync_channel(BACKLOG);
        let lost = Arc::new(AtomicU64::new(0));
        let log = Self { lines, lost: Arc::clone(&lost) };
        let write = move || write(&written, &lost, json, &progress);
        let thread = thread::Builder::new().name("log".to_owned()).spawn(write);
        let thread = thread.map_err(|error| Failure::new(format!("cannot start the log: {error}")))?;
        Ok((log, Writer(thread)))
    }

    /// Notes the request when the body of its answer has ended, or was given up.
    pub(crate) fn watch(&self, request: &Parts, peer: Option<SocketAddr>, response: Response<Body>) -> Response<Body> {
        let line = Line {
            time: SystemTime::now(),
            peer,
            protocol: match request.version {
                Version::HTTP_3 => "h3",
                Version::HTTP_2 => "h2",
                _ => "http/1.1",
            },
            method: shorten(request.method.as_str(), MAX_METHOD),
            path: shorten(request.uri.path_and_query().map_or("", |path| path.as_str()), MAX_PATH),
            status: response.status().as_u16(),
            bytes: 0,
            seconds: 0.0,
            early: request.extensions.get::<EarlyData>().is_some(),
            complete: false,
        };
        let (head, body) = response.into_parts();
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        // An answer without a body has ended already, whatever its length says.
        let left = if body.is_end_stream() { 0 } else { length.unwrap_or(0) };
        let noted = Noted { log: self.clone(), line: Some(line), begun: Instant::now(), left };
        Response::from_parts(head, Body::new(Watched { body, noted }))
    }
}

impl Writer {
    /// Waits until every request is written. Blocks until every [`Log`] is gone.
    pub(crate) fn finish(self) {
        // It has no panic of its own, and one must not hide how the server ended.
        let _ = self.0.join();
    }
}

fn write(lines: &Receiver<Line>, lost: &AtomicU64, json: bool, progress: &Progress) {
    while let Ok(line) = lines.recv() {
        let printed = if json { print_json(&line) } else { print_line(&line.to_text()) };
        if let Err(failure) = printed {
            progress.warn(failure);
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            progress.warn(format_args!("{lost} requests are missing from the log, as it is read too slowly"));
        }
    }
}

/// A request that ended.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(serialize_with = "with_milliseconds")]
    time: SystemTime,
    peer: Option<SocketAddr>,
    protocol: &'static str,
    method: String,
    path: String,
    status: u16,
    /// How much of the content the transport took.
    bytes: u64,
    seconds: f64,
    /// Whether it was answered before the handshake was done, so that it may be somebody's copy.
    early: bool,
    /// Whether that was all of it.
    complete: bool,
}

impl Line {
    fn to_text(&self) -> String {
        let peer = self.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
        format!(
            "{} {peer} {} {} {} {} {} {:.3}s{}{}",
            humantime::format_rfc3339_seconds(self.time),
            self.protocol,
            Printable::new(&self.method),
            Printable::new(&self.path),
            self.status,
            self.bytes,
            self.seconds,
            if self.early { " early" } else { "" },
            if self.complete { "" } else { " broken off" },
        )
    }
}

fn with_milliseconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

/// A line that is written when this is dropped.
struct Noted {
    log: Log,
    /// There until then.
    line: Option<Line>,
    begun: Instant,
    /// How many bytes of the content are still to come.
    left: u64,
}

impl Noted {
    fn count(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
        if let Some(line) = &mut self.line {
            line.bytes += bytes;
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        let line = Line { seconds: self.begun.elapsed().as_secs_f64(), complete: self.left == 0, ..line };
        if let Err(TrySendError::Full(_)) = self.log.lines.try_send(line) {
            self.log.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A body whose bytes are counted.
struct Watched {
    body: Body,
    noted: Noted,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            let bytes = data.len() as u64;
            self.noted.count(bytes);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.noted.left)
    }
}

/// The first `len` bytes at most, and a sign that there was more.
fn shorten(text: &str, len: usize) -> String {
    if text.len() <= len {
        return text.to_owned();
    }
    let end = (0..=len).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// How many lines may wait to be written.
const BACKLOG: usize = 4096;
/// How many bytes of a method and of a path are noted.
const MAX_METHOD: usize = 32;
const MAX_PATH: usize = 1024;
