//! One sender at the receiver: its hello, its files, its farewell.
//!
//! A session has a thread of its own, and each of its files another while it is received, at most
//! [`FILES_AT_A_TIME`] of them. Hashing and writing block, so they have no place on a shared
//! executor; and a sender that stalls, or a disk that is slow for one session, holds up nobody
//! else.
//!
//! It begins with a sender that has shown the token; before that it is one of the
//! [`strangers`](crate::strangers).

use std::{
    future::{self, Future as _},
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    task::Poll,
    thread,
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _, channel::oneshot, executor::block_on, future::select, stream::FuturesUnordered,
};
use sendstream::{Connection, ConnectionError, Printable, ReadError, RecvStream, SendStream};

use crate::{
    error::{Failure, chain, connection_error},
    inbox::{Inbox, PartialFile, StoreError},
    progress::{Bar, Progress},
    protocol::{
        Code, FileDecoder, FileHeader, INODE_LEN, MAX_LISTING_LEN, Part, ProtocolError, Verdict, Welcome, listing_len,
    },
    signal::Interrupt,
    strangers::Trusted,
    summary::{Direction, FileResult, Summary, count_files},
    transport,
};

/// What all sessions of a receiver share.
pub(crate) struct Shared {
    pub(crate) inbox: Inbox,
    pub(crate) progress: Progress,
    pub(crate) interrupt: Interrupt,
}

/// How a session ended: so far did it come.
pub(crate) struct Ended {
    pub(crate) summary: Summary,
    pub(crate) result: Result<(), Failure>,
}

/// Serves one sender to its end. Blocks, so it wants a thread.
pub(crate) fn serve(peer: SocketAddr, trusted: Trusted, shared: &Arc<Shared>) -> Ended {
    block_on(async {
        match Session::begin(peer, trusted, shared).await {
            Ok(session) => session.run().await,
            Err(failure) => Ended { summary: Log::new(peer, &shared.progress).summary, result: Err(failure) },
        }
    })
}

/// A connection whose sender showed the token.
struct Session {
    shared: Arc<Shared>,
    peer: SocketAddr,
    connection: Connection,
    control: RecvStream,
    answer: SendStream,
    bar: Bar,
}

/// What happens next in a session.
enum Event {
    /// A file is through, or has failed.
    Through(Result<Through, oneshot::Canceled>),
    /// The sender started another file, or the connection is lost.
    Started(Result<(SendStream, RecvStream), ConnectionError>),
    /// The sender ended the control stream, which says that all is sent, or did something else with
    /// it.
    Farewell(Result<Option<usize>, ReadError>),
    /// The user here wants to stop.
    Interrupted,
}

/// A file that is through, or has failed.
struct Through {
    file: FileResult,
    /// How many directories were made for it.
    made: usize,
}

impl Session {
    /// Gives the sender room and tells it to go on.
    async fn begin(peer: SocketAddr, trusted: Trusted, shared: &Arc<Shared>) -> Result<Self, Failure> {
        let Trusted { connection, guest, hello, control, mut answer } = trusted;
        let raised = connection.raise_limits(&transport::settings()).await;
        raised.map_err(|error| Failure::new(format!("cannot make room for the sender: {}", chain(&error))))?;
        answer.write_all(&Welcome::encode()).await.map_err(|error| Failure::with_sender(&error))?;
        let files = count_files(hello.files as usize);
        let who = guest.map_or_else(String::new, |name| format!(" ({name})"));
        shared.progress.note(format_args!("{peer}{who}: announces {files}, {} bytes", hello.bytes));
        let bar = shared.progress.transfer("receiving", hello.bytes);
        bar.expect_files(hello.files);
        Ok(Self { shared: Arc::clone(shared), peer, connection, control, answer, bar })
    }

    /// Receives files until the sender says that these were all, or the session breaks off.
    async fn run(self) -> Ended {
        let Self { shared, peer, connection, mut control, mut answer, bar } = self;
        let mut log = Log::new(peer, &shared.progress);
        let mut byte = [0];
        let mut running = FuturesUnordered::new();
        let mut interrupted = shared.interrupt.wait();
        let mut started = pin!(connection.accept_bi());
        let mut farewell = pin!(control.read(&mut byte).fuse());
        let mut said_farewell = false;

        let received = loop {
            if said_farewell && running.is_empty() {
                break Ok(());
            }
            let event = future::poll_fn(|cx| {
                if interrupted.poll_unpin(cx).is_ready() {
                    return Poll::Ready(Event::Interrupted);
                }
                if let Poll::Ready(Some(file)) = running.poll_next_unpin(cx) {
                    return Poll::Ready(Event::Through(file));
                }
                if running.len() < FILES_AT_A_TIME
                    && let Poll::Ready(streams) = started.as_mut().poll(cx)
                {
                    return Poll::Ready(Event::Started(streams));
                }
                farewell.as_mut().poll(cx).map(Event::Farewell)
            });
            match event.await {
                Event::Through(file) => {
                    bar.file_done();
                    if let Err(failure) = log.add(file) {
                        break Err((Code::BadMessage, failure));
                    }
                }
                Event::Started(Ok((answer, content))) => {
                    started.set(connection.accept_bi());
                    running.push(receive_on_thread(&shared, &bar, answer, content));
                }
                Event::Started(Err(error)) => break Err((Code::Done, Failure::with_sender(&error))),
                Event::Farewell(Ok(None)) => said_farewell = true,
                Event::Farewell(Ok(Some(_))) => {
                    let error = ProtocolError::TooMuch;
                    break Err((Code::BadMessage, Failure::new(format!("cannot talk to the sender: {error}"))));
                }
                Event::Farewell(Err(error)) => break Err((Code::Done, Failure::with_sender(&error))),
                Event::Interrupted => break Err((Code::Interrupted, Failure::interrupted())),
            }
        };

        let mut result = match received {
            Ok(()) => part(&connection, &mut answer, &shared.interrupt).await,
            Err((code, failure)) => {
                // This fails whatever is still being received, and each file cleans up after
                // itself.
                transport::close(&connection, code);
                while let Some(file) = running.next().await {
                    // The session is over, so its listing does not grow any further.
                    let _ = log.add(file);
                }
                Err(failure)
            }
        };
        bar.clear();
        let failed = log.summary.failed();
        if result.is_ok() && failed > 0 {
            result = Err(Failure::new(format!("{} not kept", count_files(failed))));
        }
        Ended { summary: log.summary, result }
    }
}

/// Tells the sender that its last word was heard, and waits until it has closed the connection.
async fn part(connection: &Connection, answer: &mut SendStream, interrupt: &Interrupt) -> Result<(), Failure> {
    // All files are dealt with and answered. Whether the sender gets this too changes nothing about
    // them.
    if answer.finish().is_ok() {
        let _deadline = Deadline::new(connection, FAREWELL_TIMEOUT);
        select(pin!(connection.closed()), interrupt.wait()).await;
    }
    transport::close(connection, Code::Done);
    Ok(())
}

/// What became of a session's files so far.
struct Log<'a> {
    peer: SocketAddr,
    progress: &'a Progress,
    summary: Summary,
    /// What they cost: see [`MAX_LISTING_LEN`].
    len: usize,
}

impl<'a> Log<'a> {
    fn new(peer: SocketAddr, progress: &'a Progress) -> Self {
        let mut summary = Summary::new(Direction::Received, peer.to_string());
        summary.start();
        Self { peer, progress, summary, len: 0 }
    }

    /// Adds a file. Fails if these are more than one session may have.
    fn add(&mut self, through: Result<Through, oneshot::Canceled>) -> Result<(), Failure> {
        let Through { file, made } = through.unwrap_or_else(|oneshot::Canceled| Through {
            file: FileResult {
                name: UNNAMED.to_owned(),
                bytes: 0,
                outcome: Err("this end failed; please report it".to_owned()),
            },
            made: 0,
        });
        if let Err(why) = &file.outcome {
            self.progress.warn(format_args!("{}: {}: {}", self.peer, Printable::new(&file.name), Printable::new(why)));
        }
        self.len += listing_len(&file.name) + made * INODE_LEN;
        self.summary.add(file);
        if self.len <= MAX_LISTING_LEN { Ok(()) } else { Err(Failure::new("the sender sent too many files")) }
    }
}

/// Receives one file on a thread of its own. The result comes by the channel.
fn receive_on_thread(
    shared: &Arc<Shared>,
    bar: &Bar,
    answer: SendStream,
    content: RecvStream,
) -> oneshot::Receiver<Through> {
    let (done, result) = oneshot::channel();
    let (shared, bar) = (Arc::clone(shared), bar.clone());
    let work = move || {
        // The session waits for this result as long as it lives.
        let _ = done.send(block_on(FileReceiver { shared: &shared, bar: &bar, header: None }.run(answer, content)));
    };
    // Without a thread both streams are dropped, which resets them, and the result is `Canceled`.
    let _ = thread::Builder::new().name("file".to_owned()).spawn(work);
    result
}

/// One file on its way in.
struct FileReceiver<'a> {
    shared: &'a Shared,
    bar: &'a Bar,
    header: Option<FileHeader>,
}

impl FileReceiver<'_> {
    async fn run(mut self, mut answer: SendStream, mut content: RecvStream) -> Through {
        let result = self.receive(&mut content).await;
        let verdict = match &result {
            Ok(_) => Some(Verdict::Kept),
            Err(FileError::Store(error)) => Some(Verdict::Refused(error.to_string())),
            Err(FileError::Protocol(error)) => Some(Verdict::Refused(error.to_string())),
            // The sender took it back, or is gone.
            Err(FileError::Read(_)) => None,
        };
        if let Some(verdict) = verdict {
            // If this does not get through, the connection is lost, which the session finds out by
            // itself.
            if answer.write_all(&verdict.encode()).await.is_ok() {
                let _ = answer.finish();
            }
        }
        if result.is_err() {
            // If the stream has ended already, there is nothing to stop.
            let _ = content.stop(Code::Refused.wire());
        }
        let (name, bytes) = match self.header {
            Some(FileHeader { name, size }) => (name.as_str().to_owned(), size),
            None => (UNNAMED.to_owned(), 0),
        };
        let made = result.as_ref().map_or(0, |(_, made)| *made);
        let outcome = result.map(|(digest, _)| digest).map_err(|error| error.local_text());
        Through { file: FileResult { name, bytes, outcome }, made }
    }

    /// Returns the content's digest, and how many directories were made for the file.
    async fn receive(&mut self, content: &mut RecvStream) -> Result<(blake3::Hash, usize), FileError> {
        let mut decoder = FileDecoder::new();
        let mut file: Option<PartialFile<'_>> = None;
        let mut digest = None;
        while let Some(chunk) = content.read_chunk().await? {
            let mut input = &chunk[..];
            while let Some(part) = decoder.next(&mut input)? {
                match part {
                    Part::Header(header) => {
                        self.bar.show(&header.name);
                        let header = self.header.insert(header);
                        file = Some(self.shared.inbox.begin(header)?);
                    }
                    Part::Content(bytes) => {
                        if let Some(file) = &mut file {
                            file.write(bytes)?;
                        }
                        self.bar.advance(bytes.len() as u64);
                    }
                    Part::Digest(it) => digest = Some(it),
                }
            }
        }
        decoder.end()?;
        let (Some(file), Some(digest)) = (file, digest) else { return Err(ProtocolError::TooLittle.into()) };
        let made = file.keep(digest)?;
        Ok((digest, made))
    }
}

/// Why a file was not kept.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl FileError {
    /// The reason for the user at this end, who may know more than the peer.
    fn local_text(&self) -> String {
        match self {
            Self::Store(StoreError::Io(error)) => format!("cannot store it: {error}"),
            Self::Store(error) => error.to_string(),
            Self::Protocol(error) => error.to_string(),
            Self::Read(error) if connection_error(error).is_some() => {
                "the session ended before all of it was there; nothing of it was kept".to_owned()
            }
            Self::Read(error) => format!("the sender took it back ({}); nothing of it was kept", chain(error)),
        }
    }
}

/// Closes a connection, unless it is dropped in time.
struct Deadline {
    /// The watching thread sees it disconnect.
    _in_time: mpsc::Sender<()>,
}

impl Deadline {
    fn new(connection: &Connection, after: Duration) -> Self {
        let (in_time, watched) = mpsc::channel::<()>();
        let watched_connection = connection.clone();
        let watch = move || {
            if watched.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
                transport::close(&watched_connection, Code::TooSlow);
            }
        };
        if thread::Builder::new().name("deadline".to_owned()).spawn(watch).is_err() {
            // Without a thread nobody would watch, and a stranger could wait forever.
            transport::close(connection, Code::TooSlow);
        }
        Self { _in_time: in_time }
    }
}

/// How many files of one session are received at the same time.
const FILES_AT_A_TIME: usize = 8;
/// How long a sender may take to close the connection when all is said.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// What stands for the name of a file that was given none, or a bad one.
const UNNAMED: &str = "(a file without a valid name)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_its_files_and_directories_are_too_many() {
        let progress = Progress::new(true);
        let mut log = Log::new("192.0.2.1:1".parse().unwrap(), &progress);
        let mut add = |made| {
            let file = FileResult { name: "x".repeat(64), bytes: 0, outcome: Ok(blake3::hash(b"")) };
            log.add(Ok(Through { file, made }))
        };
        // A file counts its name, which is as long as an inode counts, and itself; and each
        // directory that was made for it.
        let all = MAX_LISTING_LEN / INODE_LEN;
        add(all - 4).unwrap();
        add(0).unwrap();
        assert!(add(0).is_err());
    }
}
