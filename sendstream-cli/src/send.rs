//! `sendstream send`: connects, sends each file on its own stream, and counts the receiver's
//! answers.
//!
//! Contents go out one file after the other, as the [`Reader`] delivers them, but nobody waits for
//! the answer to one file before sending the next: [`MAX_UNANSWERED_FILES`] and
//! [`MAX_UNANSWERED_BYTES`] may be outstanding. So a thousand small files take a few round trips,
//! and the memory that unacknowledged bytes take has a bound.

use std::{future::Future, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    executor::block_on,
    future::{self, Either, LocalBoxFuture},
    stream::FuturesUnordered,
};
use sendstream::{Client, Connection, OpenError, Printable, ReadToEndError, RecvStream, SendStream, Trust, WriteError};

use crate::{
    cli::SendArgs,
    destination,
    dial::dial,
    error::{Failure, chain, connection_error},
    progress::{Bar, Progress},
    protocol::{ALPN, Code, Hello, Verdict, Welcome},
    reader::{Piece, Reader},
    sessions::Sessions,
    signal::Interrupt,
    summary::{Direction, FileResult, Summary, count_files},
    ticket::Ticket,
    timer, transport,
    walk::{self, Outgoing},
};

/// Sends the files and prints the summary.
pub(crate) fn run(args: SendArgs) -> Result<(), Failure> {
    let (files, tickets) = destination::split(&args.arguments)?;
    let [ticket] = tickets.as_slice() else {
        return Err(Failure::usage("these are several tickets, and files are sent to one receiver at a time"));
    };
    let mut summary = Summary::new(Direction::Sent, ticket.authority());
    let result = send(&args, &files, ticket, &mut summary);
    summary.print(args.output.json, result.as_ref().copied())?;
    result
}

fn send(args: &SendArgs, files: &[PathBuf], ticket: &Ticket, summary: &mut Summary) -> Result<(), Failure> {
    let progress = Progress::of(args.output);
    let files: Arc<[Outgoing]> = walk::list(files, &progress)?.into();
    let interrupt = Interrupt::install()?;
    let trust = Trust::pinned([ticket.certificate_hash()]);
    let mut client = Client::builder().alpn([ALPN]).trust(trust).transport(transport::settings());
    if let Some(dir) = &args.sessions {
        client = client.session_cache(Arc::new(Sessions::open(dir, ticket.certificate_hash())?));
    }
    let client = client.build().map_err(|error| Failure::setting_up(&error))?;

    block_on(async {
        let result = match unless(&interrupt, meet(&client, ticket, &files, &progress)).await {
            Ok(session) => transfer(session, ticket, files, &progress, &interrupt, summary).await,
            // Nobody may be there to be told.
            Err(failure) if failure.is_interruption() => return Err(failure),
            Err(failure) => Err(failure),
        };
        // The process must not end before the receiver is told.
        client.wait_idle().await;
        result
    })
}

/// A receiver that has welcomed this end.
struct Session {
    connection: Connection,
    control: SendStream,
    answer: RecvStream,
    /// How many bytes were announced.
    bytes: u64,
}

/// Comes to the receiver until it has room, for half a minute.
async fn meet(client: &Client, ticket: &Ticket, files: &[Outgoing], progress: &Progress) -> Result<Session, Failure> {
    let bytes = files.iter().fold(0u64, |sum, file| sum.saturating_add(file.size));
    let hello = Hello { token: ticket.token.clone(), files: files.len() as u64, bytes };
    for (attempt, pause) in (0..).zip(PAUSES) {
        match begin(client, ticket, &hello, progress).await {
            Err(failure) if failure.is_passing() => {
                if attempt == 0 {
                    progress.note(format_args!("{failure}\ntrying again"));
                }
                pause_for(Duration::from_millis(pause)).await?;
            }
            met => return met,
        }
    }
    begin(client, ticket, &hello, progress).await
}

/// Waits for a part of `pause`, by chance, so that not all who were turned away together come again
/// together.
async fn pause_for(pause: Duration) -> Result<(), Failure> {
    let mut dice = [0];
    // Without dice they do.
    let _ = getrandom::fill(&mut dice);
    let pause = pause.mul_f64(0.5 + f64::from(dice[0]) / 512.0);
    let sleep = timer::sleep(pause).map_err(|error| Failure::new(format!("cannot wait: {error}")))?;
    let _ = sleep.await;
    Ok(())
}

/// Connects, and says hello.
async fn begin(client: &Client, ticket: &Ticket, hello: &Hello, progress: &Progress) -> Result<Session, Failure> {
    let receiver = ticket.authority();
    let connection = dial(client, ticket).await?;
    if connection.session_resumed() {
        progress.note("resumed an earlier session");
    }
    let (mut control, mut answer) = open(&connection, &receiver).await?;
    greet(&mut control, &mut answer, hello, &receiver).await?;
    Ok(Session { connection, control, answer, bytes: hello.bytes })
}

/// Runs `work` until the user interrupts it.
async fn unless<T>(interrupt: &Interrupt, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match future::select(pin!(work), interrupt.wait()).await {
        Either::Left((done, _)) => done,
        Either::Right(_) => Err(Failure::interrupted()),
    }
}

/// One session: the files, and the end of the connection.
async fn transfer(
    Session { connection, mut control, mut answer, bytes }: Session,
    ticket: &Ticket,
    files: Arc<[Outgoing]>,
    progress: &Progress,
    interrupt: &Interrupt,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let receiver = ticket.authority();
    summary.start();

    let reader = Reader::spawn(Arc::clone(&files)).map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    let bar = progress.transfer("sending", bytes);
    bar.expect_files(files.len() as u64);
    let mut sender = Sender {
        connection: &connection,
        receiver: &receiver,
        answers: FuturesUnordered::new(),
        unanswered: 0,
        results: Results { open: vec![true; files.len()], files: &files, summary, progress, bar: &bar },
        bar: &bar,
    };
    let sent = unless(interrupt, async {
        sender.send_all(reader).await?;
        farewell(&mut control, &mut answer, &receiver).await
    });
    let sent = sent.await;
    // Before the control stream is dropped, so that the receiver is told nothing but this.
    let interrupted = sent.as_ref().is_err_and(Failure::is_interruption);
    transport::close(&connection, if interrupted { Code::Interrupted } else { Code::Done });
    sender.results.close();
    bar.clear();
    sent?;
    match summary.failed() {
        0 => Ok(()),
        failed => Err(Failure::new(format!("{failed} of {} did not arrive", count_files(files.len())))),
    }
}

/// Opens a stream. Fails only if the connection does.
async fn open(connection: &Connection, receiver: &str) -> Result<(SendStream, RecvStream), Failure> {
    match connection.open_bi() {
        Ok(streams) => Ok(streams),
        Err(OpenError::ConnectionEnding) => Err(Failure::with_receiver(&connection.closed().await, receiver)),
        Err(error) => Err(Failure::with_receiver(&error, receiver)),
    }
}

async fn greet(
    control: &mut SendStream,
    answer: &mut RecvStream,
    hello: &Hello,
    receiver: &str,
) -> Result<(), Failure> {
    control.write_all(&hello.encode()).await.map_err(|error| Failure::with_receiver(&error, receiver))?;
    let mut welcome = [0; Welcome::LEN];
    answer.read_exact(&mut welcome).await.map_err(|error| Failure::with_receiver(&error, receiver))?;
    Welcome::decode(welcome).map_err(|error| Failure::new(format!("cannot talk to the receiver: {error}")))?;
    Ok(())
}

/// Says that all is sent, and waits until the receiver has seen that.
async fn farewell(control: &mut SendStream, answer: &mut RecvStream, receiver: &str) -> Result<(), Failure> {
    control.finish().map_err(|error| Failure::with_receiver(&error, receiver))?;
    match answer.read(&mut [0]).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(Failure::new("the receiver sent more than this version of the protocol knows")),
        Err(error) => Err(Failure::with_receiver(&error, receiver)),
    }
}

/// The files on their way.
struct Sender<'a> {
    connection: &'a Connection,
    receiver: &'a str,
    answers: FuturesUnordered<LocalBoxFuture<'static, Answer>>,
    /// How many bytes the unanswered files may still keep in memory.
    unanswered: u64,
    results: Results<'a>,
    bar: &'a Bar,
}

impl Sender<'_> {
    /// Sends what the reader delivers. Fails if the connection does; what befalls a single file is
    /// that file's result.
    async fn send_all(&mut self, mut reader: Reader) -> Result<(), Failure> {
        let mut current: Option<OpenFile> = None;
        let mut refused = None;
        while let Some(Piece { file, frame }) = reader.pieces.next().await {
            if refused == Some(file) {
                continue;
            }
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    if let Some(mut open) = current.take() {
                        // If the stream has ended already, the receiver knows about the file.
                        let _ = open.content.abort(Code::Unreadable.wire());
                    }
                    self.results.set(file, Err(format!("cannot read it: {error}")));
                    continue;
                }
            };
            let mut open = match current.take() {
                Some(open) => open,
                None => self.open(file).await?,
            };
            match open.write(frame.bytes, frame.digest.is_some()).await {
                Ok(()) => {
                    self.bar.advance(frame.content);
                    match frame.digest {
                        None => current = Some(open),
                        digest => self.expect_answer(open, digest),
                    }
                }
                Err(error) if connection_error(&error).is_some() => {
                    return Err(Failure::with_receiver(&error, self.receiver));
                }
                // The receiver does not want the rest, and its answer says why.
                Err(_) => {
                    refused = Some(file);
                    reader.skip(file);
                    self.expect_answer(open, None);
                }
            }
        }
        while !self.answers.is_empty() {
            self.take_answer().await?;
        }
        Ok(())
    }

    /// Opens the stream of a file, once few enough answers are outstanding.
    async fn open(&mut self, file: usize) -> Result<OpenFile, Failure> {
        let held = self.held_by(file);
        while self.answers.len() >= MAX_UNANSWERED_FILES
            || (!self.answers.is_empty() && self.unanswered + held > MAX_UNANSWERED_BYTES)
        {
            self.take_answer().await?;
        }
        self.bar.show(&self.results.files[file].name);
        let (content, verdict) = open(self.connection, self.receiver).await?;
        Ok(OpenFile { file, content, verdict })
    }

    /// How many bytes the stream of a file may keep in memory until the file is answered, at the
    /// most.
    fn held_by(&self, file: usize) -> u64 {
        self.results.files[file].size.min(MAX_UNANSWERED_BYTES)
    }

    fn expect_answer(&mut self, open: OpenFile, digest: Option<blake3::Hash>) {
        self.unanswered += self.held_by(open.file);
        self.answers.push(Box::pin(open.answer(digest)));
    }

    /// Waits for the next answer and notes what it says about its file.
    async fn take_answer(&mut self) -> Result<(), Failure> {
        if let Some(Answer { file, digest, message }) = self.answers.next().await {
            self.unanswered -= self.held_by(file);
            let result = match message {
                Ok(message) => match (Verdict::decode(&message), digest) {
                    (Ok(Verdict::Kept), Some(digest)) => Ok(digest),
                    (Ok(Verdict::Kept), None) => Err("the receiver answered before it had all of it".to_owned()),
                    (Ok(Verdict::Refused(why)), _) => Err(why),
                    (Err(error), _) => Err(format!("cannot understand the receiver: {error}")),
                },
                Err(error) if connection_error(&error).is_some() => {
                    return Err(Failure::with_receiver(&error, self.receiver));
                }
                Err(error) => Err(format!("the receiver gave no answer: {}", chain(&error))),
            };
            self.results.set(file, result);
        }
        Ok(())
    }
}

/// The stream of one file.
struct OpenFile {
    file: usize,
    content: SendStream,
    verdict: RecvStream,
}

impl OpenFile {
    async fn write(&mut self, bytes: Bytes, last: bool) -> Result<(), WriteError> {
        self.content.write_chunk(bytes).await?;
        if last { self.content.finish() } else { Ok(()) }
    }

    /// Waits for the receiver's answer. `digest` is there if all of the content was sent.
    async fn answer(mut self, digest: Option<blake3::Hash>) -> Answer {
        let message = self.verdict.read_to_end(Verdict::MAX_LEN).await;
        Answer { file: self.file, digest, message }
    }
}

struct Answer {
    file: usize,
    digest: Option<blake3::Hash>,
    message: Result<Vec<u8>, ReadToEndError>,
}

/// What became of the files so far.
struct Results<'a> {
    files: &'a [Outgoing],
    /// Of which files nothing is known yet.
    open: Vec<bool>,
    summary: &'a mut Summary,
    progress: &'a Progress,
    bar: &'a Bar,
}

impl Results<'_> {
    fn set(&mut self, file: usize, outcome: Result<blake3::Hash, String>) {
        let Outgoing { name, size, .. } = &self.files[file];
        self.open[file] = false;
        self.bar.file_done();
        if let Err(why) = &outcome {
            self.progress.warn(format_args!("{name}: {}", Printable::new(why)));
        }
        self.summary.add(FileResult { name: name.as_str().to_owned(), bytes: *size, outcome });
    }

    /// The session is over: what has no result by now did not arrive.
    fn close(&mut self) {
        for file in 0..self.files.len() {
            if self.open[file] {
                let Outgoing { name, size, .. } = &self.files[file];
                let outcome = Err("the session ended before it arrived".to_owned());
                self.summary.add(FileResult { name: name.as_str().to_owned(), bytes: *size, outcome });
            }
        }
    }
}

/// How many milliseconds to stay away from a receiver without room, one time after the other: half
/// of each at least.
const PAUSES: [u64; 12] = [250, 500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000, 4000];
/// How many files may be sent and not answered yet.
const MAX_UNANSWERED_FILES: usize = 256;
/// How many bytes they may have in all, unless it is only one.
const MAX_UNANSWERED_BYTES: u64 = 16 << 20;
