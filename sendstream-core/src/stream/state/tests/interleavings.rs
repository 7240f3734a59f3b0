//! The state machine under `loom`: a sender and MsQuic's worker as two threads, in every
//! interleaving of their steps with up to [`PREEMPTIONS`] preemptions; `LOOM_MAX_PREEMPTIONS` asks
//! for more.
//!
//! Only what the model itself is made of comes from loom, so this runs in a plain `cargo test`.
//! [`Stream`] does what `StreamInstance` and `StreamInner` do around the state: one lock, a native
//! call outside of it, the wake after it. [`Native`] is MsQuic: it takes or refuses what is
//! submitted, and its worker makes the events.
//!
//! A lost wake-up is a deadlock here, which loom reports: the sender sleeps in `block_on` while the
//! worker has nothing left to say.

use std::{collections::VecDeque, future::poll_fn};

use loom::{
    future::block_on,
    model::Builder,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use super::*;

const BYTES: u64 = 10;
/// A send of two slices.
const LARGE: u64 = 2000;
const STOP: u64 = 9;
const RESET: u64 = 8;

// ---- MsQuic -------------------------------------------------------------------------------------

/// How the start goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Accepted,
    /// Accepted only after a while.
    Blocked,
    LimitReached,
}

/// What interferes once `after` sends were acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interference {
    None,
    PeerStops {
        after: u64,
    },
    ConnectionLost {
        after: u64,
    },
    /// Also before the start, which then fails or is refused.
    ConnectionLostAtAnyTime,
}

#[derive(Debug, Default)]
struct Native {
    started: bool,
    /// PEER_ACCEPTED comes.
    explicit_start: bool,
    sends: VecDeque<u64>,
    fin: bool,
    reset: bool,
    /// What whatever is called from now on is told.
    closed: Option<Refused>,
    /// What the connection has recorded, and whether the stream asked for it.
    lost: bool,
    asked: bool,
    /// The sender does nothing more.
    gone: bool,
}

/// What the worker does next.
enum Task {
    Acknowledge(u64),
    AcknowledgeFin,
    Reset,
    Nothing,
}

// ---- The stream ---------------------------------------------------------------------------------

struct Stream {
    exclusive: Mutex<StreamInnerExclusive>,
    native: Mutex<Native>,
    called: Condvar,
}

impl Stream {
    fn new() -> Self {
        Self {
            exclusive: Mutex::new(StreamInnerExclusive::local(Dir::Uni, Some(BYTES))),
            native: Mutex::new(Native::default()),
            called: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, StreamInnerExclusive> {
        self.exclusive.lock().expect("nothing panics under the lock")
    }

    fn native(&self) -> MutexGuard<'_, Native> {
        self.native.lock().expect("nothing panics under the lock")
    }

    fn apply(&self, transition: impl FnOnce(&mut StreamInnerExclusive) -> Wakeups) {
        let wakeups = transition(&mut self.lock());
        wakeups.wake_now();
    }

    // ---- The sender -----------------------------------------------------------------------------

    fn call(&self, call: impl FnOnce(&mut Native)) -> Result<(), Refused> {
        let mut native = self.native();
        if let Some(refused) = native.closed {
            return Err(refused);
        }
        call(&mut native);
        self.called.notify_one();
        Ok(())
    }

    fn start(&self) -> Result<(), SendEnd<Cause>> {
        if !self.lock().begin_start()? {
            return Ok(());
        }
        let called = self.call(|native| {
            native.started = true;
            native.explicit_start = true;
        });
        if let Err(refused) = called {
            let (refusal, wakeups) = self.lock().on_start_refused(refused);
            wakeups.wake_now();
            self.after_refusal(refusal);
        }
        Ok(())
    }

    /// How many operations must be acknowledged; `u64::MAX` when only the cause of a failure is to
    /// be waited for.
    fn send(&self, bytes: u64, fin: Fin) -> Result<u64, SendClosed<Cause>> {
        let begun = self.lock().begin_send(bytes, fin);
        let mut submission = match begun {
            Ok(submission) => submission,
            Err(Denied::Because(closed)) => return Err(closed),
            Err(Denied::CauseToCome) => return Ok(u64::MAX),
        };
        let mut left = bytes;
        // A bare FIN is a call as well.
        for length in submission.slices.lengths().chain((bytes == 0).then_some(0)) {
            let called = self.call(|native| {
                native.started |= submission.starts;
                native.fin |= fin.is_set() && left == length;
                if length > 0 {
                    native.sends.push_back(length);
                }
            });
            if let Err(refused) = called {
                let (refusal, wakeups) = self.lock().on_send_refused(left, submission, refused);
                wakeups.wake_now();
                self.after_refusal(refusal);
                break;
            }
            left -= length;
            submission.starts = false;
        }
        Ok(submission.end())
    }

    fn after_refusal(&self, refusal: Refusal) {
        match refusal {
            Refusal::AwaitEvent => {}
            Refusal::AskConnection => {
                let lost = {
                    let mut native = self.native();
                    native.asked = true;
                    native.lost
                };
                if lost {
                    self.apply(|state| state.on_lost(Some(LOST)));
                }
            }
            Refusal::ResetNative => unreachable!("this MsQuic never runs out of memory"),
        }
    }

    fn reset(&self) -> Result<(), SendClosed<Cause>> {
        let (tell, wakeups) = self.lock().begin_reset(RESET)?;
        if tell {
            // Refused when the connection has gone, which says the rest.
            let _ = self.call(|native| native.reset = true);
        }
        wakeups.wake_now();
        Ok(())
    }

    fn drop_handle(&self) {
        let unfinished = self.lock().is_unfinished();
        if unfinished {
            let _ = self.reset();
        }
    }

    fn started(&self) -> Result<(), SendEnd<Cause>> {
        self.start()?;
        block_on(poll_fn(|cx| self.lock().poll_started(cx)))
    }

    fn acked(&self, operations: u64) -> Result<(), SendEnd<Cause>> {
        block_on(poll_fn(|cx| self.lock().poll_acked(operations, cx)))
    }

    fn room(&self) -> Result<(), SendClosed<Cause>> {
        block_on(poll_fn(|cx| self.lock().poll_window(cx)))
    }

    fn finished(&self) -> Result<(), SendClosed<Cause>> {
        let unfinished = self.lock().check_sending().is_ok();
        if unfinished {
            self.send(0, Fin::Yes)?;
        }
        block_on(poll_fn(|cx| self.lock().poll_finished(cx))).map_err(SendClosed::Ended)
    }

    fn aborted(&self) {
        block_on(poll_fn(|cx| self.lock().poll_aborted(cx)));
    }

    fn stopped(&self) -> Result<Option<u64>, Cause> {
        let key = WaiterKey::new();
        block_on(poll_fn(|cx| self.lock().poll_stopped(key, cx)))
    }

    // ---- The worker -----------------------------------------------------------------------------

    /// Makes the events until the last one, and returns what it said.
    fn work(&self, start: Start, interference: Interference) -> Said {
        let mut said = Said::default();
        if interference == Interference::ConnectionLostAtAnyTime {
            return self.lose_connection(said);
        }
        {
            let mut native = self.native();
            while !native.started && !native.gone {
                native = self.called.wait(native).expect("nothing panics under the lock");
            }
            if !native.started {
                return said;
            }
        }
        match start {
            Start::Accepted => self.apply(|state| state.on_start_complete(Ok(()), true)),
            Start::Blocked => {
                self.apply(|state| state.on_start_complete(Ok(()), false));
                if self.native().explicit_start {
                    self.apply(StreamInnerExclusive::on_peer_accepted);
                }
            }
            Start::LimitReached => {
                self.apply(|state| state.on_start_complete(Err(StartFailed::LimitReached), false));
                said.cause = Some(SendEnd::Failed(SendFailure::LimitReached));
                self.abort(false);
                self.apply(|state| state.on_shutdown_complete(None));
                return said;
            }
        }
        loop {
            match interference {
                Interference::PeerStops { after } if after == said.acknowledged => {
                    self.apply(|state| state.on_peer_receive_aborted(STOP));
                    said.cause = Some(SendEnd::Stopped(STOP));
                    self.abort(false);
                    break;
                }
                Interference::ConnectionLost { after } if after == said.acknowledged => {
                    return self.lose_connection(said);
                }
                _ => {}
            }
            match self.next_task() {
                Task::Acknowledge(bytes) => {
                    said.acknowledged += 1;
                    self.apply(|state| state.on_send_complete(bytes, false));
                }
                Task::AcknowledgeFin => {
                    said.graceful = true;
                    self.apply(|state| state.on_send_shutdown_complete(true));
                    break;
                }
                Task::Reset => {
                    self.abort(false);
                    break;
                }
                Task::Nothing => unreachable!("whoever goes has finished or reset the stream"),
            }
        }
        self.wait_until_gone();
        self.apply(|state| state.on_shutdown_complete(None));
        said
    }

    /// The receive half, which this model leaves out, keeps SHUTDOWN_COMPLETE away for as long as
    /// it is open: until then every answer must have come without it.
    fn wait_until_gone(&self) {
        let mut native = self.native();
        while !native.gone {
            native = self.called.wait(native).expect("nothing panics under the lock");
        }
    }

    /// The sender does nothing more.
    fn go(&self) {
        self.native().gone = true;
        self.called.notify_one();
    }

    fn next_task(&self) -> Task {
        let mut native = self.native();
        loop {
            if native.reset {
                return Task::Reset;
            }
            if let Some(bytes) = native.sends.pop_front() {
                return Task::Acknowledge(bytes);
            }
            if native.fin {
                return Task::AcknowledgeFin;
            }
            if native.gone {
                return Task::Nothing;
            }
            native = self.called.wait(native).expect("nothing panics under the lock");
        }
    }

    /// Takes nothing more, cancels what is out, and ends the send half.
    fn abort(&self, lost: bool) {
        let out = {
            let mut native = self.native();
            native.closed = Some(Refused::Going);
            native.lost |= lost;
            std::mem::take(&mut native.sends)
        };
        for bytes in out {
            self.apply(|state| state.on_send_complete(bytes, true));
        }
        self.apply(|state| state.on_send_shutdown_complete(false));
    }

    fn lose_connection(&self, mut said: Said) -> Said {
        said.cause = Some(lost());
        let (started, indicated) = {
            let mut native = self.native();
            native.closed = Some(Refused::Going);
            (native.started, self.lock().state() != StreamState::Starting)
        };
        if started {
            if !indicated {
                self.apply(|state| state.on_start_complete(Err(StartFailed::Going), false));
            }
            self.abort(false);
            self.apply(|state| state.on_shutdown_complete(Some(LOST)));
        }
        // The connection's own last word, to a stream that never started.
        let asked = {
            let mut native = self.native();
            native.lost = true;
            native.asked
        };
        if asked {
            self.apply(|state| state.on_lost(Some(LOST)));
        }
        said
    }
}

/// What the worker said, for judging the answers.
#[derive(Debug, Default)]
struct Said {
    acknowledged: u64,
    graceful: bool,
    /// What it named as the end, other than a finish.
    cause: Option<SendEnd<Cause>>,
}

// ---- The sender's programs ----------------------------------------------------------------------

/// What the sender got for an answer.
#[derive(Debug, Default)]
struct Heard {
    started: Option<Result<(), SendEnd<Cause>>>,
    /// Answers about operations: how many had to be acknowledged.
    acked: Vec<(u64, Result<(), SendClosed<Cause>>)>,
    room: Option<Result<(), SendClosed<Cause>>>,
    finished: Option<Result<(), SendClosed<Cause>>>,
    stopped: Option<Result<Option<u64>, Cause>>,
    /// A reset was accepted as the stream's end.
    reset: bool,
}

impl Heard {
    fn send(&mut self, stream: &Stream, bytes: u64, fin: Fin) {
        match stream.send(bytes, fin) {
            Ok(operations) => self.acked.push((operations, stream.acked(operations).map_err(SendClosed::Ended))),
            Err(error) => self.acked.push((u64::MAX, Err(error))),
        }
    }

    /// The answers fit what the worker said.
    fn judge(self, said: &Said) {
        // The first end is the last: without a reset there is only the worker's, and a finish only
        // when graceful.
        let cause_is_right = |error: &SendClosed<Cause>| match error {
            SendClosed::Ended(SendEnd::Reset(code)) => self.reset && *code == RESET,
            SendClosed::Ended(end) => said.cause.as_ref() == Some(end),
            SendClosed::Finished => false,
        };
        for (operations, answer) in &self.acked {
            match answer {
                Ok(()) => assert!(said.acknowledged >= *operations, "{self:?}, {said:?}"),
                // A reset answers at once, whatever is still acknowledged after it.
                Err(SendClosed::Ended(SendEnd::Reset(_))) => assert!(self.reset, "{self:?}, {said:?}"),
                Err(error) => {
                    assert!(said.acknowledged < *operations && cause_is_right(error), "{self:?}, {said:?}");
                }
            }
        }
        match &self.finished {
            Some(Ok(())) => assert!(said.graceful && !self.reset, "{self:?}, {said:?}"),
            Some(Err(error)) => {
                assert!(cause_is_right(error) && (!said.graceful || self.reset), "{self:?}, {said:?}");
            }
            None => {}
        }
        if let Some(Err(error)) = &self.room {
            assert!(cause_is_right(error), "{self:?}, {said:?}");
        }
        if let Some(Err(end)) = &self.started {
            assert_eq!(Some(end), said.cause.as_ref(), "{self:?}, {said:?}");
        }
        match &self.stopped {
            Some(Ok(Some(code))) => assert!(*code == STOP && said.cause == Some(SendEnd::Stopped(STOP))),
            Some(Ok(None)) => {
                assert!(self.reset || said.graceful || said.cause == Some(SendEnd::Failed(SendFailure::LimitReached)))
            }
            Some(Err(cause)) => {
                assert_eq!(said.cause, Some(SendEnd::Failed(SendFailure::ConnectionLost(cause.clone()))));
            }
            None => {}
        }
    }
}

type Program = fn(&Stream) -> Heard;

/// Runs `program` against every interference, each in all interleavings.
fn explore(program: Program) {
    let starts = [Start::Blocked, Start::LimitReached];
    let interferences = [
        Interference::None,
        Interference::PeerStops { after: 0 },
        Interference::PeerStops { after: 1 },
        Interference::ConnectionLost { after: 0 },
        Interference::ConnectionLost { after: 1 },
        Interference::ConnectionLostAtAnyTime,
    ];
    for start in starts {
        explore_one(program, start, Interference::None);
    }
    for interference in interferences {
        explore_one(program, Start::Accepted, interference);
    }
}

fn explore_one(program: Program, start: Start, interference: Interference) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(move || {
        let stream = Arc::new(Stream::new());
        let worker = {
            let stream = stream.clone();
            thread::spawn(move || stream.work(start, interference))
        };
        let heard = program(&stream);
        stream.go();
        let said = worker.join().expect("the worker ends");
        heard.judge(&said);
        let state = stream.lock();
        assert_eq!(waiting(&state), 0, "somebody is left asleep");
        assert_eq!(state.in_flight(), 0, "every operation came back");
    });
}

/// How often a thread may be interrupted where it would not have waited anyway. Two threads with
/// one lock between them need few for any order of their critical sections.
const PREEMPTIONS: usize = 3;

#[test]
fn sending_and_finishing() {
    explore(|stream| {
        let mut heard = Heard::default();
        heard.send(stream, BYTES, Fin::No);
        heard.finished = Some(stream.finished());
        heard
    });
}

#[test]
fn a_whole_message_at_once() {
    explore(|stream| {
        let mut heard = Heard::default();
        heard.send(stream, BYTES, Fin::Yes);
        heard.finished = Some(stream.finished());
        heard
    });
}

#[test]
fn a_large_message_at_once() {
    explore(|stream| {
        let mut heard = Heard::default();
        heard.send(stream, LARGE, Fin::Yes);
        heard.finished = Some(stream.finished());
        heard
    });
}

#[test]
fn a_send_whose_future_is_dropped_half_way() {
    explore(|stream| {
        let mut heard = Heard::default();
        if let Ok(operations) = stream.send(BYTES, Fin::No) {
            let _ = now(|cx| stream.lock().poll_acked(operations, cx));
        }
        heard.send(stream, BYTES, Fin::No);
        heard.finished = Some(stream.finished());
        heard
    });
}

#[test]
fn waiting_for_room() {
    explore(|stream| {
        let mut heard = Heard::default();
        let _ = stream.send(BYTES, Fin::No);
        heard.room = Some(stream.room());
        heard.finished = Some(stream.finished());
        heard
    });
}

#[test]
fn waiting_for_room_behind_a_large_send() {
    explore(|stream| {
        let mut heard = Heard::default();
        let _ = stream.send(LARGE, Fin::No);
        heard.room = Some(stream.room());
        heard.finished = Some(stream.finished());
        heard
    });
}

#[test]
fn starting_first() {
    explore(|stream| {
        let heard = Heard { started: Some(stream.started()), ..Heard::default() };
        Heard { finished: Some(stream.finished()), ..heard }
    });
}

#[test]
fn aborting() {
    explore(|stream| {
        let mut heard = Heard::default();
        let sent = stream.send(BYTES, Fin::No);
        heard.reset = stream.reset().is_ok();
        if let Ok(operations) = sent {
            heard.acked.push((operations, stream.acked(operations).map_err(SendClosed::Ended)));
        }
        if heard.reset {
            stream.aborted();
        }
        heard.stopped = Some(stream.stopped());
        heard
    });
}

#[test]
fn aborting_after_fin() {
    explore(|stream| {
        let mut heard = Heard::default();
        let _ = stream.send(0, Fin::Yes);
        heard.reset = stream.reset().is_ok();
        if heard.reset {
            stream.aborted();
        }
        heard.finished = Some(stream.finished());
        heard
    });
}

#[test]
fn dropping_the_handle_while_another_task_waits_for_a_stop() {
    explore(|stream| {
        let mut heard = Heard::default();
        let _ = stream.send(BYTES, Fin::No);
        let key = WaiterKey::new();
        // The other task has polled already; here it goes on after the drop.
        let first = now(|cx| stream.lock().poll_stopped(key, cx));
        heard.reset = stream.lock().is_unfinished();
        stream.drop_handle();
        heard.reset &= stream.lock().send_end() == Some(SendEnd::Reset(RESET));
        heard.stopped = Some(match first {
            Poll::Ready(answer) => answer,
            Poll::Pending => block_on(poll_fn(|cx| stream.lock().poll_stopped(key, cx))),
        });
        heard
    });
}

#[test]
fn a_handle_that_is_dropped_before_the_start() {
    explore(|stream| {
        stream.drop_handle();
        Heard { reset: true, stopped: Some(stream.stopped()), ..Heard::default() }
    });
}

#[test]
fn a_task_that_waits_for_a_stop_beside_the_sender() {
    let programs: [Program; 2] = [
        |stream| Heard { finished: Some(stream.finished()), ..Heard::default() },
        |stream| {
            let _ = stream.send(BYTES, Fin::No);
            Heard { reset: stream.reset().is_ok(), ..Heard::default() }
        },
    ];
    let interferences =
        [Interference::None, Interference::PeerStops { after: 0 }, Interference::ConnectionLost { after: 0 }];
    for (program, interference) in programs.iter().flat_map(|program| interferences.map(|after| (*program, after))) {
        let mut builder = Builder::new();
        // A third thread multiplies the interleavings.
        builder.preemption_bound.get_or_insert(PREEMPTIONS - 1);
        builder.check(move || {
            let stream = Arc::new(Stream::new());
            let worker = {
                let stream = stream.clone();
                thread::spawn(move || stream.work(Start::Accepted, interference))
            };
            let watcher = {
                let stream = stream.clone();
                thread::spawn(move || stream.stopped())
            };
            let heard = program(&stream);
            let stopped = Some(watcher.join().expect("the watcher ends"));
            stream.go();
            let said = worker.join().expect("the worker ends");
            Heard { stopped, ..heard }.judge(&said);
            assert_eq!(waiting(&stream.lock()), 0, "somebody is left asleep");
        });
    }
}
