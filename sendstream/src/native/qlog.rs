//! [`QlogStream`]: what connections do on the wire, as qlog. A worker of MsQuic's puts a record into a
//! bounded queue and goes on. A thread of the stream's own makes text of it, and writes that.

mod callback;
mod frames;
mod record;

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io::{self, BufWriter, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use sendstream_core::foreign::contain;

pub(crate) use self::callback::ConnectionLog;
use self::record::{Event, Text};
pub(crate) use self::record::{Record, State};
use crate::{
    native::fork::{is_forked, watch},
    types::error::NativeError,
};

/// A qlog of connections, in JSON text sequences (draft-ietf-quic-qlog-main-schema, version 0.3; RFC
/// 7464), which qvis opens: a file of that kind is named `.sqlog`. Give it to
/// [`ClientBuilder::qlog`](crate::ClientBuilder::qlog) or
/// [`ServerBuilder::qlog`](crate::ServerBuilder::qlog). Needs the feature `qlog`.
///
/// ```
/// use std::fs::File;
///
/// use sendstream::{Client, QlogStream, Trust};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("client.sqlog");
/// let qlog = QlogStream::new("a slow download", File::create(path)?);
/// let client = Client::builder().alpn(["demo"]).qlog(&qlog).build()?;
/// # let _ = client;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It has the packets that were sent, received and taken for lost, with their types, numbers and
/// lengths; the frames of those that were sent and received; the round-trip times, the congestion
/// window and the bytes in flight, whenever one of them has changed; and the beginning and end of each
/// connection. Each record has the number of its connection as `group_id`, counted from 1, by which
/// qvis tells connections apart. qvis draws the sequence of packets of it, congestion, statistics, how
/// streams share the connection, and what is in packets. Of streams it draws the bidirectional ones
/// that a client opened.
///
/// # Frames
///
/// Every frame of RFC 9000 and DATAGRAM frames are there by their names, with the numbers that say what
/// they do: which bytes of which stream, which limit, which error. So a log shows which streams a packet
/// served, and what was sent again. It has no contents: no data, no reasons, no tokens, no connection
/// IDs.
///
/// A packet shows its first 64 frames. Of its first ACK frame it shows the first eight ranges, and
/// none of packets that this side never sent; further ACK frames are left out. What a peer wrote is
/// logged before MsQuic checks it. A frame that is not whole ends the list. So does one of a type that
/// the log cannot read: it is `unknown`, with its type.
///
/// # A writer that is slow, or fails
///
/// Nobody waits for the writer: it has a thread of its own, `sendstream-qlog`, and 32,768 records with
/// 131,072 frames wait for it at most, while as many are being written: some 30 MB in all. Further ones are
/// [lost](Self::lost), and a record of the kind `loglevel:warning` says how many were lost there. A writer that fails gets nothing more: the error is
/// logged, and [`flush`](Self::flush) returns it.
///
/// Clones are handles of the same stream. The thread writes what waits and ends once the handles and
/// the connections are gone. A process that ends before that loses the rest, so
/// [`flush`](Self::flush) first. A process that was forked from one that uses the stream has no such
/// thread, and gets an error there ([Forks](crate#forks)).
#[derive(Clone)]
pub struct QlogStream(Arc<Handle>);

/// The last of them tells the thread to end.
struct Handle(Arc<Shared>);

/// What the stream's handles share with its thread.
struct Shared {
    queue: Mutex<Queue>,
    /// There is something for the thread to do.
    work: Condvar,
    begin: Instant,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Record>,
    /// How many frames are in those.
    frames: usize,
    /// How many were taken into the queue, and how many of them have been written and flushed.
    taken: u64,
    written: u64,
    /// How many found no room.
    lost: u64,
    /// How many of those the thread has not mentioned yet.
    to_mention: u64,
    connections: u64,
    /// Who waits in `flush`.
    flushing: Vec<Waker>,
    ended: bool,
    error: Option<Arc<io::Error>>,
}

impl QlogStream {
    /// A qlog with that title, which a viewer shows, that `writer` gets. The writer need not buffer.
    pub fn new(title: impl Into<String>, writer: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared { queue: Mutex::default(), work: Condvar::new(), begin: Instant::now() });
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = Text::new(title.into(), begun);
        watch();
        if is_forked() {
            return Self(Arc::new(Handle(shared)));
        }
        let (thread, mut writer) = (shared.clone(), BufWriter::new(writer));
        let started = thread::Builder::new().name("sendstream-qlog".to_owned()).spawn(move || {
            let written = contain("the writer of a qlog", || thread.write(text, &mut writer))
                .unwrap_or_else(|| Err(io::Error::other("the writer panicked")));
            if let Err(error) = written {
                // What is in its buffer would be written when that is dropped.
                let (_writer, _buffer) = writer.into_parts();
                thread.fail(error);
            }
        });
        if let Err(error) = started {
            shared.fail(error);
        }
        Self(Arc::new(Handle(shared)))
    }

    /// How many records found no room, because the writer is slow or has failed. A forked process has
    /// lost none.
    pub fn lost(&self) -> u64 {
        self.0.0.lock_unless_forked().map_or(0, |queue| queue.lost)
    }

    /// Resolves when all that has happened until now is written and flushed, or lost.
    ///
    /// # Errors
    ///
    /// What the writer failed with. It gets nothing more. [`io::ErrorKind::Unsupported`] in a process
    /// that was forked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub async fn flush(&self) -> Result<(), Arc<io::Error>> {
        let shared = &self.0.0;
        let forked = || Arc::new(io::Error::from(NativeError::FORKED));
        let until = shared.lock_unless_forked().ok_or_else(forked)?.taken;
        poll_fn(|cx| {
            let Some(mut queue) = shared.lock_unless_forked() else { return Poll::Ready(Err(forked())) };
            if let Some(error) = &queue.error {
                return Poll::Ready(Err(error.clone()));
            }
            if queue.written >= until {
                return Poll::Ready(Ok(()));
            }
            if !queue.flushing.iter().any(|waker| waker.will_wake(cx.waker())) {
                queue.flushing.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// A number for a connection.
    fn next_connection(&self) -> u64 {
        let Some(mut queue) = self.0.0.lock_unless_forked() else { return 0 };
        queue.connections += 1;
        queue.connections
    }

    /// Takes a record if there is room. It waits for nobody who writes.
    fn push(&self, connection: u64, event: Event) {
        let shared = &self.0.0;
        let Some(mut queue) = shared.lock_unless_forked() else { return };
        let frames = queue.frames + event.frames().len();
        if queue.waiting.len() >= MAX_WAITING || frames > MAX_FRAMES || queue.error.is_some() {
            queue.lost += 1;
            queue.to_mention += 1;
            return;
        }
        // Under the lock, so that the times are in order.
        let time = shared.begin.elapsed();
        queue.waiting.push_back(Record { time, connection, event });
        queue.frames = frames;
        queue.taken += 1;
        if queue.waiting.len() == 1 {
            shared.work.notify_one();
        }
    }
}

impl Shared {
    /// `None` in a forked process: who had locked it there is gone, and so is the thread.
    fn lock_unless_forked(&self) -> Option<MutexGuard<'_, Queue>> {
        (!is_forked()).then(|| self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: takes all that waits, writes it without the lock, and flushes when nothing more
    /// waits.
    fn write(&self, mut text: Text, writer: &mut impl Write) -> io::Result<()> {
        let mut batch = VecDeque::new();
        loop {
            let (to_mention, taken) = {
                let mut queue = self.lock();
                while queue.waiting.is_empty() && queue.to_mention == 0 {
                    if queue.ended {
                        return Ok(());
                    }
                    queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                mem::swap(&mut batch, &mut queue.waiting);
                queue.frames = 0;
                (mem::take(&mut queue.to_mention), queue.taken)
            };
            let now = self.begin.elapsed();
            batch.drain(..).try_for_each(|record| text.write(&record, writer))?;
            if to_mention > 0 {
                text.write_lost(to_mention, now, writer)?;
            }
            writer.flush()?;
            let mut queue = self.lock();
            queue.written = taken;
            let flushing = mem::take(&mut queue.flushing);
            drop(queue);
            wake(flushing);
        }
    }

    /// Nothing is written any more.
    fn fail(&self, error: io::Error) {
        tracing::warn!(%error, "the qlog cannot be written");
        let mut queue = self.lock();
        queue.lost += queue.waiting.len() as u64;
        queue.waiting = VecDeque::new();
        queue.error = Some(Arc::new(error));
        let flushing = mem::take(&mut queue.flushing);
        drop(queue);
        wake(flushing);
    }
}

/// A waker that panics takes nobody's turn.
fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        contain("the waker of a qlog's flush", || waker.wake());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(mut queue) = self.0.lock_unless_forked() {
            queue.ended = true;
            self.0.work.notify_one();
        }
    }
}

/// How many wait, and how many were lost.
impl fmt::Debug for QlogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(queue) = self.0.0.lock_unless_forked() else { return f.write_str("QlogStream (forked)") };
        f.debug_struct("QlogStream").field("waiting", &queue.waiting.len()).field("lost", &queue.lost).finish()
    }
}

/// What a connection of 10 Gbit/s does in some 20 ms.
const MAX_WAITING: usize = 1 << 15;

/// A packet has one or two. A peer that sends many small ones takes no more memory than that.
const MAX_FRAMES: usize = 4 * MAX_WAITING;
