//! One sender at the receiver: its connections, one after the other, from the first hello to the
//! farewell.
//!
//! A session has a thread of its own, which takes what comes in the order in which it comes. Hashing
//! and writing block, so they have no place on a shared executor; and a sender that stalls, or a disk
//! that is slow for one session, holds up nobody else.
//!
//! It begins with a sender that has shown the token; before that it is one of the
//! [`strangers`](crate::strangers). When the connection is lost, the session waits for the sender to
//! come again, for as long as the user wants (`--timeout`).

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    channel::mpsc,
    executor::block_on,
    future::{Either, select},
};
use sendstream::{Connection, ConnectionError, RecvStream, SendStream};

use crate::{
    error::{Failure, chain, connection_error},
    inbox::Inbox,
    progress::Progress,
    protocol::{
        Announced, Code, ProtocolError, Welcome,
        message::{Decoder, Part},
    },
    signal::Interrupt,
    strangers::Trusted,
    summary::{Summary, count_files},
    timer, transport,
};

mod intake;
mod place;

use intake::{Fatal, Intake};

/// What all sessions of a receiver share.
pub(crate) struct Shared {
    /// Where files go; `None` if one goes to standard output.
    pub(crate) inbox: Option<Inbox>,
    pub(crate) progress: Progress,
    pub(crate) interrupt: Interrupt,
    /// For how long a sender that is silent may come back.
    pub(crate) patience: Duration,
}

/// How a session ended: so far did it come.
pub(crate) struct Ended {
    pub(crate) summary: Summary,
    pub(crate) result: Result<(), Failure>,
}

/// Serves one sender to its end. Its other connections come by `moves`. Blocks, so it wants a thread.
pub(crate) fn serve(
    peer: SocketAddr,
    first: Trusted,
    moves: mpsc::Receiver<(SocketAddr, Trusted)>,
    shared: &Arc<Shared>,
) -> Ended {
    let announced = first.hello.announced;
    let files = count_files(announced.entries);
    let who = first.guest.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    shared.progress.note(format_args!("{peer}{who}: announces {files}, {} bytes", announced.bytes));
    let bar = shared.progress.transfer("receiving", announced.bytes);
    bar.expect_files(announced.entries);
    let mut session = Session { shared, peer, moves, intake: Intake::new(shared, peer, announced, bar) };
    let result = block_on(session.run(first));
    let (summary, left) = session.intake.end();
    if left > 0 {
        shared.progress.note(format_args!("{peer}: {left} bytes stay, to go on from when the same is sent again"));
    }
    let result = result.and_then(|()| summary.verdict());
    Ended { summary, result }
}

struct Session<'a> {
    shared: &'a Arc<Shared>,
    peer: SocketAddr,
    moves: mpsc::Receiver<(SocketAddr, Trusted)>,
    intake: Intake<'a>,
}

/// How a connection ended.
enum Over {
    /// All is said.
    Done,
    /// The sender may come again.
    Lost(Failure),
    /// The sender has come again.
    Moved(SocketAddr, Trusted),
    /// The session is over as well.
    Final(Code, Failure),
}

impl Over {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let failure = Failure::with_sender(error);
        match connection_error(error) {
            Some(ConnectionError::ApplicationClosed { code, .. }) if Code::from_wire(*code) == Some(Code::Moved) => {
                Self::Lost(failure)
            }
            None | Some(ConnectionError::ApplicationClosed { .. } | ConnectionError::LocallyClosed { .. }) => {
                Self::Final(Code::Done, failure)
            }
            Some(_) => Self::Lost(failure),
        }
    }
}

impl Session<'_> {
    async fn run(&mut self, first: Trusted) -> Result<(), Failure> {
        let mut trusted = first;
        loop {
            let Trusted { connection, mut control, mut answer, .. } = trusted;
            // The streams must be there until the connection is closed: dropping them resets them, and the
            // sender is to be told nothing but why.
            let over = self.attend(&connection, &mut control, &mut answer).await;
            if let Over::Done = over {
                return Ok(());
            }
            self.intake.break_off();
            trusted = match over {
                Over::Done => return Ok(()),
                Over::Final(code, failure) => {
                    transport::close(&connection, code);
                    return Err(failure);
                }
                Over::Moved(peer, trusted) => {
                    transport::close(&connection, Code::Moved);
                    self.peer = peer;
                    trusted
                }
                Over::Lost(failure) => {
                    // If it is there after all, it comes again.
                    transport::close(&connection, Code::Moved);
                    self.wait_for_sender(failure).await?
                }
            };
            self.shared.progress.note(format_args!("{}: the sender came again, going on", self.peer));
        }
    }

    /// What an end of what takes long, or what the sender said, means for the connection.
    fn over(&self, connection: &Connection, fatal: Fatal) -> Over {
        match (fatal, connection.close_reason()) {
            (Fatal::Stopped, _) if self.shared.interrupt.wait().now_or_never().is_some() => {
                Over::Final(Code::Interrupted, Failure::interrupted())
            }
            (Fatal::Stopped, Some(reason)) => Over::of(&reason),
            (fatal, _) => Over::Final(Code::BadMessage, fatal.into()),
        }
    }

    async fn wait_for_sender(&mut self, why: Failure) -> Result<Trusted, Failure> {
        let patience = self.shared.patience;
        self.shared.progress.note(format_args!(
            "{}: {why}; waiting for it for {}",
            self.peer,
            humantime::format_duration(patience)
        ));
        let Ok(sleep) = timer::sleep(patience) else { return Err(why) };
        let given_up = select(sleep, self.shared.interrupt.wait());
        match select(self.moves.next(), given_up).await {
            Either::Left((Some((peer, trusted)), _)) => {
                self.peer = peer;
                Ok(trusted)
            }
            Either::Left((None, _)) | Either::Right((Either::Left(_), _)) => Err(why),
            Either::Right((Either::Right(_), _)) => Err(Failure::interrupted()),
        }
    }

    /// One connection, to its end.
    async fn attend(&mut self, connection: &Connection, control: &mut RecvStream, answer: &mut SendStream) -> Over {
        let raised = connection.raise_limits(&transport::settings(self.shared.patience)).await;
        if let Err(error) = raised {
            let failure = Failure::new(format!("cannot make room for the sender: {}", chain(&error)));
            return Over::Final(Code::Full, failure);
        }
        let welcome = Welcome { known: self.intake.known(), announced: Announced::default() };
        if let Err(error) = answer.write_all(&welcome.encode()).await {
            return Over::of(&error);
        }

        // What takes long, as hashing does, ends with the connection and with the user's patience.
        let user = self.shared.interrupt.clone();
        let go_on = || connection.close_reason().is_none() && user.wait().now_or_never().is_none();

        let mut silent = pin!(transport::silence(connection).fuse());
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        let mut interrupted = self.shared.interrupt.wait();
        let mut said_all = false;
        loop {
            let chunk = {
                let mut next = pin!(control.read_chunk());
                let ready = (&mut next).now_or_never();
                match ready {
                    Some(chunk) => chunk,
                    None => {
                        // Nothing to do: the answers so far must not wait.
                        if !out.is_empty()
                            && let Err(error) = answer.write_chunk(std::mem::take(&mut out).into()).await
                        {
                            return Over::of(&error);
                        }
                        let moved = select(self.moves.next(), &mut interrupted);
                        match select(select(next, &mut silent), moved).await {
                            Either::Left((Either::Left((chunk, _)), _)) => chunk,
                            Either::Left((Either::Right(_), _)) => return Over::Lost(Failure::new(SILENT)),
                            Either::Right((Either::Left((Some((peer, trusted)), _)), _)) => {
                                return Over::Moved(peer, trusted);
                            }
                            Either::Right(_) => return Over::Final(Code::Interrupted, Failure::interrupted()),
                        }
                    }
                }
            };
            if (&mut interrupted).now_or_never().is_some() {
                return Over::Final(Code::Interrupted, Failure::interrupted());
            }
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) if said_all => break,
                Ok(None) => {
                    let error = ProtocolError::TooLittle;
                    let failure = Failure::new(format!("cannot talk to the sender: {error}"));
                    return Over::Final(Code::BadMessage, failure);
                }
                Err(error) => return Over::of(&error),
            };
            let mut input = &chunk[..];
            loop {
                let part = match decoder.next(&mut input) {
                    Ok(Some(_)) if said_all => Err(ProtocolError::TooMuch.into()),
                    Ok(Some(Part::Message(message))) => {
                        self.intake.take(message, &go_on, &mut out).map(|it| said_all = it)
                    }
                    Ok(Some(Part::Content(bytes))) => self.intake.content(bytes, &mut out),
                    Ok(None) => break,
                    Err(error) => Err(error.into()),
                };
                if let Err(fatal) = part {
                    return self.over(connection, fatal);
                }
            }
            drop(chunk);
            if out.len() >= ANSWERS_LEN || self.intake.is_asked() {
                if !out.is_empty()
                    && let Err(error) = answer.write_chunk(std::mem::take(&mut out).into()).await
                {
                    return Over::of(&error);
                }
                if let Err(fatal) = self.intake.hash_meanwhile(&go_on, &mut out) {
                    return self.over(connection, fatal);
                }
            }
        }
        if !out.is_empty()
            && let Err(error) = answer.write_chunk(out.into()).await
        {
            return Over::of(&error);
        }
        part(connection, answer, &self.shared.interrupt).await;
        Over::Done
    }
}

/// Tells the sender that its last word was heard, and waits until it has closed the connection. All
/// is dealt with and answered: whether the sender gets this too changes nothing about it.
async fn part(connection: &Connection, answer: &mut SendStream, interrupt: &Interrupt) {
    if answer.finish().is_ok() {
        let _deadline = Deadline::new(connection, FAREWELL_TIMEOUT);
        select(pin!(connection.closed()), interrupt.wait()).await;
    }
    transport::close(connection, Code::Done);
}

/// Closes a connection, unless it is dropped in time.
struct Deadline {
    /// The watching thread sees it disconnect.
    _in_time: std_mpsc::Sender<()>,
}

impl Deadline {
    fn new(connection: &Connection, after: Duration) -> Self {
        let (in_time, watched) = std_mpsc::channel::<()>();
        let watched_connection = connection.clone();
        let watch = move || {
            if watched.recv_timeout(after) == Err(std_mpsc::RecvTimeoutError::Timeout) {
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

/// Why a session waits for its sender.
const SILENT: &str = "the sender went silent in the middle: it was killed, or the network between failed";
/// How many bytes of answers wait for one another, while more comes.
const ANSWERS_LEN: usize = 4 << 10;
/// How long a sender may take to close the connection when all is said.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
