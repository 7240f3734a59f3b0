//! A receiver's half of the protocol over one connection: it takes what the sender tells and sends, and
//! answers.

use std::{future::Future, net::SocketAddr, pin::pin, sync::mpsc as std_mpsc, thread, time::Duration};

use futures::{
    FutureExt as _,
    future::{Either, select},
};
use sendstream::{Connection, ConnectionError, RecvStream, SendStream};

use super::{
    Shared,
    intake::{Fatal, Intake},
};
use crate::{
    error::{Failure, OtherEnd, connection_error},
    protocol::{
        Code, ProtocolError,
        message::{Decoder, Part},
    },
    signal::Interrupt,
    strangers::Trusted,
    transport::{self, Activity},
};

/// How a connection ended.
pub(crate) enum Over {
    /// All is said.
    Done,
    /// Another connection may do better.
    Lost(Failure),
    /// The sender has come again.
    Moved(SocketAddr, Trusted),
    /// The session is over as well.
    Final(Code, Failure),
}

impl Over {
    pub(crate) fn of(error: &(dyn std::error::Error + 'static), other: &OtherEnd) -> Self {
        let failure = other.lost(error);
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

/// A connection to a sender.
pub(crate) struct Receiving<'r, 'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) intake: &'r mut Intake<'a>,
    /// The sender, for messages.
    pub(crate) other: &'r OtherEnd,
    pub(crate) connection: &'r Connection,
}

impl Receiving<'_, '_> {
    /// Receives to the end. `moved` is the sender that comes with another connection.
    ///
    /// The streams must be there until the connection is closed: dropping them resets them, and the
    /// sender is to be told nothing but why.
    pub(crate) async fn run(
        &mut self,
        control: &mut RecvStream,
        answer: &mut SendStream,
        mut moved: impl Future<Output = (SocketAddr, Trusted)> + Unpin,
    ) -> Over {
        let Self { shared, connection, other, .. } = *self;
        // What takes long, as hashing does, ends with the connection and with the user's patience.
        let user = shared.interrupt.clone();
        let go_on = || connection.close_reason().is_none() && user.wait().now_or_never().is_none();

        let activity = Activity::new();
        let mut ended = pin!(ended(connection, other, &activity, shared.stall).fuse());
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        let mut interrupted = shared.interrupt.wait();
        let mut said_all = false;
        loop {
            let chunk = {
                let mut next = pin!(control.read_chunk());
                let ready = (&mut next).now_or_never();
                match ready {
                    Some(chunk) => chunk,
                    None => {
                        // Nothing to do: the answers so far must not wait.
                        if let Err(over) = self.answer(answer, &mut out, &mut ended).await {
                            return over;
                        }
                        let moved = select(&mut moved, &mut interrupted);
                        match select(select(next, &mut ended), moved).await {
                            Either::Left((Either::Left((chunk, _)), _)) => chunk,
                            Either::Left((Either::Right((over, _)), _)) => return over,
                            Either::Right((Either::Left(((peer, trusted), _)), _)) => {
                                return Over::Moved(peer, trusted);
                            }
                            Either::Right((Either::Right(_), _)) => {
                                return Over::Final(Code::Interrupted, Failure::interrupted());
                            }
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
                    return Over::Final(Code::BadMessage, other.broke(ProtocolError::TooLittle));
                }
                Err(error) => return Over::of(&error, other),
            };
            activity.note();
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
                    return self.over(fatal);
                }
            }
            drop(chunk);
            // What took long was this end's own.
            activity.note();
            if out.len() >= ANSWERS_LEN || self.intake.is_asked() {
                if let Err(over) = self.answer(answer, &mut out, &mut ended).await {
                    return over;
                }
                if let Err(fatal) = self.intake.hash_meanwhile(&go_on, &mut out) {
                    return self.over(fatal);
                }
                activity.note();
            }
        }
        if let Err(over) = self.answer(answer, &mut out, &mut ended).await {
            return over;
        }
        part(connection, answer, &shared.interrupt).await;
        Over::Done
    }

    /// Sends the answers so far. The sender may take its time, but not the user's.
    async fn answer(
        &self,
        answer: &mut SendStream,
        out: &mut Vec<u8>,
        ended: impl Future<Output = Over> + Unpin,
    ) -> Result<(), Over> {
        if out.is_empty() {
            return Ok(());
        }
        let written = pin!(answer.write_chunk(std::mem::take(out).into()));
        match select(written, select(ended, self.shared.interrupt.wait())).await {
            Either::Left((written, _)) => written.map(drop).map_err(|error| Over::of(&error, self.other)),
            Either::Right((Either::Left((over, _)), _)) => Err(over),
            Either::Right((Either::Right(_), _)) => Err(Over::Final(Code::Interrupted, Failure::interrupted())),
        }
    }

    /// What an end of what takes long, or what the sender said, means for the connection.
    fn over(&self, fatal: Fatal) -> Over {
        match (fatal, self.connection.close_reason()) {
            (Fatal::Stopped, _) if self.shared.interrupt.wait().now_or_never().is_some() => {
                Over::Final(Code::Interrupted, Failure::interrupted())
            }
            (Fatal::Stopped, Some(reason)) => Over::of(&reason, self.other),
            (fatal, _) => Over::Final(Code::BadMessage, fatal.failure(self.other)),
        }
    }
}

/// Resolves when the sender is gone, or does nothing.
async fn ended(connection: &Connection, other: &OtherEnd, activity: &Activity, stall: Duration) -> Over {
    match select(pin!(transport::silence(connection)), pin!(activity.stalls(stall, || true))).await {
        Either::Left(_) => Over::Lost(other.went_silent()),
        Either::Right(_) => Over::Final(Code::Stalled, other.stalled(stall)),
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

/// How many bytes of answers wait for one another, while more comes.
const ANSWERS_LEN: usize = 4 << 10;
/// How long a sender may take to close the connection when all is said.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
