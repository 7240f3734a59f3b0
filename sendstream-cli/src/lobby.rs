//! Where clients come to a `recv` or a `share`: strangers show the token here, and each that has it gets a
//! session, until the user ends it or enough of them went well.
//!
//! A session has a thread of its own. When its connection is lost, its client comes again with another,
//! which is handed to the same session.

use std::{
    collections::HashMap,
    fmt::Display,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _, StreamExt as _,
    channel::mpsc,
    future::{self, Either},
};
use sendstream::{Server, process::release_memory};

use crate::{
    error::Failure,
    peers::Guests,
    progress::Progress,
    protocol::{Code, Role, SessionId},
    signal::{self, Interrupt},
    strangers::{Greeted, Strangers, Trusted, TurnedAway},
    summary::Summary,
    timer::{self, Sleep},
    transport,
};

/// What becomes of the clients that are let in.
pub(crate) trait Host: Send + Sync + 'static {
    /// Serves one client to its end. Its other connections come by `moves`. Blocks, and has a thread.
    /// Returns nothing if the client wanted nothing.
    fn serve(&self, peer: SocketAddr, first: Trusted, moves: Moved) -> Option<Ended>;
}

/// How the connections of a session ended.
pub(crate) enum Course {
    /// All was said.
    Over,
    /// The client left before anything was said, since nothing was missing from an earlier session.
    Nothing,
}

/// How a session ended: so far did it come.
pub(crate) struct Ended {
    pub(crate) summary: Summary,
    pub(crate) result: Result<(), Failure>,
    /// Whether it came to its end, and another could not do better.
    pub(crate) is_enough: bool,
}

impl Ended {
    /// A session that talked to its end, or failed before.
    pub(crate) fn new(summary: Summary, talked: Result<(), Failure>) -> Self {
        let is_enough = talked.is_ok() && summary.has_all_there_is();
        let result = talked.and_then(|()| summary.verdict());
        Self { summary, result, is_enough }
    }
}

/// The other connections of a session's client.
pub(crate) type Moved = mpsc::Receiver<(SocketAddr, Trusted)>;

/// The way to a session for them.
type Moves = mpsc::Sender<(SocketAddr, Trusted)>;

/// Who is let in, and until when.
pub(crate) struct Lobby<'a> {
    pub(crate) guests: &'a Guests,
    /// What clients must mean to do.
    pub(crate) role: Role,
    pub(crate) until: Until,
    /// Whether the sessions go on to their end when the user ends this.
    pub(crate) drains: bool,
    pub(crate) json: bool,
    pub(crate) progress: &'a Progress,
    /// The user.
    pub(crate) interrupt: &'a Interrupt,
    /// What ends the sessions: the same, unless this drains.
    pub(crate) end: &'a Interrupt,
}

/// When it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Never.
    TheUserEndsIt,
    /// When the first session has ended. There is no second.
    OneEnded,
    /// When a session went well, as far as this end's files let it: what cannot be read goes to nobody.
    OneHasAll,
}

impl Lobby<'_> {
    /// Lets clients in, and reports how their sessions ended.
    pub(crate) async fn run(&self, server: &Server, host: Arc<impl Host>) -> Result<(), Failure> {
        let (ended_sender, mut ended) = mpsc::unbounded::<(SessionId, Option<Ended>)>();
        let mut strangers = Strangers::new(self.guests, self.role);
        let mut silent: u64 = 0;
        let (mut sessions, mut taken, mut failed) = (HashMap::<SessionId, Moves>::new(), false, 0u64);
        let (mut tidying, mut turned_away) = (Tidying::default(), TurnedAwayLately::default());
        let (mut is_ending, mut cut, mut enough) = (false, false, false);
        let mut interrupted = self.interrupt.wait();
        let mut accept = pin!(server.accept().fuse());
        let result = loop {
            if is_ending && sessions.is_empty() {
                break if cut { Err(Failure::interrupted()) } else { self.stopped(failed) };
            }
            // The interrupt first: a session that ends because of it must not be taken for one that
            // ended before. New strangers last, however many come: those that are there are looked at.
            futures::select_biased! {
                _ = interrupted => {
                    if !self.drains {
                        signal::exit_soon();
                        break self.stopped(failed);
                    }
                    is_ending = true;
                    match sessions.len() {
                        0 => {}
                        1 => self.progress.note("ending when the transfer is done; Ctrl-C again ends it at once"),
                        many => self.progress.note(format_args!(
                            "ending when {many} transfers are done; Ctrl-C again ends them at once"
                        )),
                    }
                }
                (id, session) = ended.select_next_some() => {
                    sessions.remove(&id);
                    tidying.begin();
                    let Some(session) = session else {
                        taken = false;
                        continue;
                    };
                    enough = self.until == Until::OneHasAll && session.is_enough;
                    let is_last = enough || self.until == Until::OneEnded;
                    let result = self.report(session, is_last);
                    failed += u64::from(result.is_err());
                    cut |= result.as_ref().is_err_and(Failure::is_interruption);
                    if is_last {
                        break result;
                    }
                }
                Greeted { peer, result, .. } = strangers.next().fuse() => match result {
                    Ok(trusted) if trusted.hello.role != self.role => {
                        transport::close(&trusted.connection, Code::SameRole);
                        let does = match self.role {
                            Role::Send => "receive",
                            Role::Receive => "send",
                        };
                        self.warn_of(&mut turned_away, peer, format_args!("it wants to {does} as well"));
                    }
                    Ok(trusted) if sessions.contains_key(&trusted.hello.session) => {
                        // The session ends if it is not there to take it, and so does the connection.
                        if let Some(moves) = sessions.get_mut(&trusted.hello.session)
                            && let Err(error) = moves.try_send((peer, trusted))
                            && error.is_full()
                        {
                            // One waits already, which the session takes first.
                            transport::close(&error.into_inner().1.connection, Code::Full);
                        }
                    }
                    Ok(trusted) if is_ending => transport::close(&trusted.connection, Code::Interrupted),
                    Ok(trusted) if self.until == Until::OneEnded && taken => {
                        transport::close(&trusted.connection, Code::Refused);
                        let noun = self.role.noun();
                        self.warn_of(&mut turned_away, peer, format_args!("another {noun} came first, and only one is let in"));
                    }
                    Ok(trusted) if sessions.len() >= MAX_SESSIONS => {
                        transport::close(&trusted.connection, Code::Full);
                        self.warn_of(&mut turned_away, peer, "there are as many sessions as this end serves at a time");
                    }
                    Ok(trusted) => {
                        let id = trusted.hello.session;
                        if let Some(moves) = serve_on_thread(peer, trusted, &host, ended_sender.clone()) {
                            sessions.insert(id, moves);
                            taken = true;
                        }
                    }
                    Err(TurnedAway::Failed(why)) => {
                        tidying.begin();
                        self.warn_of(&mut turned_away, peer, why);
                    }
                    Err(TurnedAway::Silent) => {
                        tidying.begin();
                        silent += 1;
                        // Whoever floods this end must not flood its log.
                        if silent >= MANY_SILENT && silent.is_power_of_two() {
                            self.progress.warn(format_args!("{silent} strangers said nothing until they had to go"));
                        }
                    }
                },
                () = tidying.due().fuse() => if sessions.is_empty() {
                    release_memory();
                },
                incoming = accept => {
                    let Some(incoming) = incoming else { break Err(Failure::new("the listener ended by itself")) };
                    accept.set(server.accept().fuse());
                    strangers.admit(incoming);
                }
            }
        };
        // Whatever is still connected ends by this: strangers that said nothing, and sessions if the
        // user interrupted us, or enough went well.
        self.end.fire();
        strangers.dismiss_all(Code::Interrupted);
        while !strangers.is_empty() {
            let _ = strangers.next().await;
        }
        let (mut went_well, mut broken_off) = (false, false);
        while !sessions.is_empty()
            && let Some((id, session)) = ended.next().await
        {
            sessions.remove(&id);
            let Some(session) = session else { continue };
            match self.report(session, self.until == Until::OneEnded) {
                Ok(()) => went_well = true,
                Err(_) => broken_off = true,
            }
        }
        // It was at its end when the user interrupted this.
        if went_well && self.until != Until::TheUserEndsIt {
            return Ok(());
        }
        if broken_off && !enough { Err(Failure::interrupted()) } else { result }
    }

    /// Says why a peer got no session, or only counts it.
    fn warn_of(&self, lately: &mut TurnedAwayLately, peer: SocketAddr, why: impl Display) {
        match lately.count(Instant::now()) {
            Telling::This => self.progress.warn(format_args!("{peer}: turned away: {why}")),
            Telling::Many(count) => {
                self.progress.warn(format_args!("{count} peers were turned away in a few seconds"));
            }
            Telling::Nothing => {}
        }
    }

    /// The end of a server that was idle when the user ended it: so it has not done what it was started for, if it
    /// was to end by itself.
    fn stopped(&self, failed: u64) -> Result<(), Failure> {
        match self.until {
            Until::TheUserEndsIt => some_failed(failed),
            Until::OneEnded | Until::OneHasAll => Err(Failure::interrupted()),
        }
    }

    /// Prints how a session ended, and returns its result. Of the last one this is the last thing that the process
    /// says anyway.
    fn report(&self, Ended { summary, result, .. }: Ended, is_last: bool) -> Result<(), Failure> {
        let printed = self.progress.suspend(|| summary.print(self.json, result.as_ref().copied()));
        if let Err(failure) = printed {
            self.progress.warn(&failure);
        }
        if let Err(failure) = &result
            && !is_last
        {
            self.progress.warn(format_args!("{}: {failure}", summary.peer()));
        }
        result
    }
}

/// Whether any session failed.
fn some_failed(sessions: u64) -> Result<(), Failure> {
    match sessions {
        0 => Ok(()),
        1 => Err(Failure::new("one of the transfers failed")),
        _ => Err(Failure::new(format!("{sessions} of the transfers failed"))),
    }
}

/// How many peers were turned away lately: whoever floods this end must not flood its log.
#[derive(Debug, Default)]
struct TurnedAwayLately {
    /// When the count began.
    since: Option<Instant>,
    count: u64,
}

/// What is said of a peer that was turned away.
#[derive(Debug, PartialEq, Eq)]
enum Telling {
    /// Why.
    This,
    /// That it is one of so many.
    Many(u64),
    Nothing,
}

impl TurnedAwayLately {
    fn count(&mut self, now: Instant) -> Telling {
        if self.since.is_none_or(|since| now.duration_since(since) >= TELLING_INTERVAL) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        match self.count {
            ..=MAX_TOLD => Telling::This,
            count if count.is_power_of_two() => Telling::Many(count),
            _ => Telling::Nothing,
        }
    }
}

/// The wait, after a peer has gone, until its connection is no more: then the memory that it took can
/// go back to the system.
#[derive(Default)]
struct Tidying {
    wait: Option<Sleep>,
    /// Another peer has gone meanwhile.
    again: bool,
}

impl Tidying {
    /// Begins to wait, or waits once more after a wait that is under way. Without a thread it is not
    /// waited for.
    fn begin(&mut self) {
        match &self.wait {
            Some(_) => self.again = true,
            None => self.wait = timer::sleep(TIDY_AFTER).ok(),
        }
    }

    /// Resolves at the end of each wait.
    async fn due(&mut self) {
        match &mut self.wait {
            Some(sleep) => drop(sleep.await),
            None => future::pending().await,
        }
        self.wait = None;
        if std::mem::take(&mut self.again) {
            self.begin();
        }
    }
}

/// Starts a thread that serves the client, and returns where its other connections go. Without a
/// thread it has to come again.
fn serve_on_thread(
    peer: SocketAddr,
    trusted: Trusted,
    host: &Arc<impl Host>,
    ended: mpsc::UnboundedSender<(SessionId, Option<Ended>)>,
) -> Option<Moves> {
    let host = Arc::clone(host);
    let (connection, id) = (trusted.connection.clone(), trusted.hello.session);
    // One that waits is enough.
    let (moves, moved) = mpsc::channel(0);
    let work = move || {
        // The lobby waits for this as long as it counts the session.
        let _ = ended.unbounded_send((id, host.serve(peer, trusted, moved)));
    };
    let started = thread::Builder::new().name("session".to_owned()).spawn(work).is_ok();
    if !started {
        transport::close(&connection, Code::Full);
    }
    started.then_some(moves)
}

/// Waits for a session's client to come again after its connection was lost, because of `why`. `end` ends it.
pub(crate) async fn wait_for_client(
    moves: &mut Moved,
    peer: &mut SocketAddr,
    why: Failure,
    patience: Duration,
    progress: &Progress,
    end: &Interrupt,
) -> Result<Trusted, Failure> {
    progress.note(format_args!("{peer}: {why}; waiting for it for {}", humantime::format_duration(patience)));
    let Ok(sleep) = timer::sleep(patience) else { return Err(why) };
    match future::select(moves.next(), future::select(sleep, end.wait())).await {
        Either::Left((Some((another, trusted)), _)) => {
            *peer = another;
            Ok(trusted)
        }
        Either::Left((None, _)) | Either::Right((Either::Left(_), _)) => Err(why),
        Either::Right((Either::Right(_), _)) => Err(Failure::interrupted()),
    }
}

/// How long a connection that has ended may take to be gone.
const TIDY_AFTER: Duration = Duration::from_secs(2);
/// How many clients that have the token are served at the same time.
const MAX_SESSIONS: usize = 32;
/// From how many on it is said how many strangers said nothing.
const MANY_SILENT: u64 = 32;
/// Of how many that were turned away in a [`TELLING_INTERVAL`] it is said why.
const MAX_TOLD: u64 = 16;
const TELLING_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_that_are_turned_away_at_once_a_few_are_told_and_the_others_counted() {
        let (mut lately, now) = (TurnedAwayLately::default(), Instant::now());
        assert!((0..MAX_TOLD).all(|_| lately.count(now) == Telling::This));
        let lines: Vec<_> = (MAX_TOLD..1000).map(|_| lately.count(now)).filter(|it| *it != Telling::Nothing).collect();
        assert_eq!(lines, [32, 64, 128, 256, 512].map(Telling::Many));
        assert_eq!(lately.count(now + TELLING_INTERVAL), Telling::This);
    }
}
