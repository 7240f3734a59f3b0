//! One sender at the receiver: its connections, one after the other, from the first hello to the
//! farewell.
//!
//! A session has a thread of its own, which takes what comes in the order in which it comes. Hashing
//! and writing block, so they have no place on a shared executor; and a sender that stalls, or a disk
//! that is slow for one session, holds up nobody else.
//!
//! It begins with a sender that has shown the token; before that it is one of the
//! [`strangers`](crate::strangers). When the connection is lost, the session waits for the sender to
//! come again, for as long as the user wants (`--timeout`). A sender that is there but says nothing ends it
//! after `--stall-timeout`.

use std::{future, net::SocketAddr, pin::pin, time::Duration};

use futures::{StreamExt as _, executor::block_on};
use sendstream::{Connection, RecvStream, SendStream};

use crate::{
    error::{Failure, OtherEnd, chain},
    inbox::Inbox,
    lobby::{Course, Ended, Host, Moved, wait_for_client},
    progress::Progress,
    protocol::{Announced, Code, Role, Welcome},
    signal::Interrupt,
    strangers::Trusted,
    summary::count_files,
    transport,
};

pub(crate) mod intake;
mod place;
pub(crate) mod receiving;

use intake::Intake;
use receiving::{Over, Receiving};

/// What all sessions of a receiver share.
pub(crate) struct Shared {
    /// Where files go; `None` if one goes to standard output.
    pub(crate) inbox: Option<Inbox>,
    pub(crate) progress: Progress,
    pub(crate) interrupt: Interrupt,
    /// For how long a sender that is silent may come back.
    pub(crate) patience: Duration,
    /// How long one may say nothing while the connection is up.
    pub(crate) stall: Duration,
}

impl Shared {
    /// Begins to receive what a sender announces.
    pub(crate) fn intake(&self, sender: impl Into<String>, announced: Announced) -> Intake<'_> {
        let bar = self.progress.transfer("receiving", announced.bytes);
        bar.expect_files(announced.entries);
        Intake::new(self, sender.into(), announced, bar)
    }

    /// The session is over, and ended as `result` says.
    pub(crate) fn end(&self, intake: Intake<'_>, result: Result<(), Failure>) -> Ended {
        let (summary, left) = intake.end();
        if left > 0 {
            let peer = summary.peer();
            self.progress.note(format_args!("{peer}: {left} bytes stay, to go on from when the same is sent again"));
        }
        Ended::new(summary, result)
    }
}

impl Host for Shared {
    fn serve(&self, peer: SocketAddr, first: Trusted, moves: Moved) -> Option<Ended> {
        let announced = first.hello.announced;
        let files = count_files(announced.entries);
        let who = first.guest.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        self.progress.note(format_args!("{peer}{who}: announces {files}, {} bytes", announced.bytes));
        let intake = self.intake(peer.to_string(), announced);
        let mut session = Session { shared: self, peer, moves, intake };
        let result = match block_on(session.run(first)) {
            Ok(Course::Nothing) => {
                self.progress.note(format_args!("{peer}: it had sent all of it before, and came for the farewell"));
                return None;
            }
            Ok(Course::Over) => Ok(()),
            Err(failure) => Err(failure),
        };
        Some(self.end(session.intake, result))
    }
}

struct Session<'a> {
    shared: &'a Shared,
    peer: SocketAddr,
    moves: Moved,
    intake: Intake<'a>,
}

impl Session<'_> {
    async fn run(&mut self, first: Trusted) -> Result<Course, Failure> {
        let mut trusted = first;
        loop {
            let Trusted { connection, mut control, mut answer, .. } = trusted;
            // The streams must be there until the connection is closed: dropping them resets them, and the
            // sender is to be told nothing but why.
            let over = self.attend(&connection, &mut control, &mut answer).await;
            if !matches!(over, Over::Done) {
                self.intake.break_off();
            }
            trusted = match over {
                Over::Done => return Ok(Course::Over),
                // It lost the farewell of an earlier session, and has come for nothing else.
                Over::Final(..) if self.intake.known() == 0 && transport::is_closed_as_done(&connection) => {
                    return Ok(Course::Nothing);
                }
                Over::Final(code, failure) => {
                    transport::close(&connection, code);
                    if self.intake.has_all() && failure.is_of_the_network() {
                        return Ok(Course::Over);
                    }
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
                    match self.wait_for_sender(failure).await {
                        Err(_) if self.intake.has_all() => return Ok(Course::Over),
                        trusted => trusted?,
                    }
                }
            };
            self.shared.progress.note(format_args!("{}: the sender came again, going on", self.peer));
        }
    }

    async fn wait_for_sender(&mut self, why: Failure) -> Result<Trusted, Failure> {
        let Shared { patience, progress, interrupt, .. } = self.shared;
        // A sender that has not said that it is over does not know that all is here, and comes again.
        let patience = if self.intake.is_over() { transport::FAREWELL.min(*patience) } else { *patience };
        wait_for_client(&mut self.moves, &mut self.peer, why, patience, progress, interrupt).await
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
            return Over::of(&error, &SENDER);
        }
        let moves = &mut self.moves;
        let moved = pin!(async move {
            match moves.next().await {
                Some(moved) => moved,
                // The lobby ends this otherwise.
                None => future::pending().await,
            }
        });
        let mut receiving = Receiving { shared: self.shared, intake: &mut self.intake, other: &SENDER, connection };
        receiving.run(control, answer, moved).await
    }
}

/// Who is at the other end.
static SENDER: OtherEnd = OtherEnd::Client(Role::Send);
