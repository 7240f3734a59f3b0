//! Random legal orders of MsQuic's events and the user's calls, against a plain model: a list of
//! the operations and what each wait must answer.
//!
//! A step is chosen among those that are legal in its moment, so every order that comes up can
//! happen. [`Native`] knows what MsQuic may say next, [`Model`] what follows from what was said.

use std::collections::VecDeque;

#[cfg(test)]
use proptest::prelude::*;
use sendstream_core::{
    stream::{
        cause::{SendClosed, SendEnd},
        state::{Denied, Refusal, Submission},
    },
    wait::WaiterKey,
};

use super::*;
use crate::driver::{stream::status::refused, wakes::Wake as _};

/// What dropping the handle resets with.
const DROP_CODE: u64 = 1000;

/// The window at first, in bytes: small beside what is sent, so that it is often full.
const FIRST_WINDOW: u64 = 5000;

/// The most bytes that are sent at once: several slices.
const MOST: u64 = 10_000;

// ---- The reference model ------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Submitted,
    Acknowledged,
    Canceled,
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    FinAcknowledged,
    Error(SendEnd<ConnectionError>),
}

#[derive(Debug)]
struct Model {
    /// Every operation that was begun: its bytes and what became of it.
    operations: Vec<(u64, Fate)>,
    /// FIN was begun.
    fin: bool,
    /// Something went wrong, and what it was will be said later.
    failing: bool,
    /// The first end that was named; it is the last.
    end: Option<End>,
    start: Option<Result<(), SendEnd<ConnectionError>>>,
    window: u64,
    window_is_fixed: bool,
    send_is_over: bool,
    is_live: bool,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Started,
    Acked(u64),
    Window,
    Finished,
    Aborted,
    Stopped(WaiterKey),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Start(Result<(), SendEnd<ConnectionError>>),
    Write(Result<(), SendClosed<ConnectionError>>),
    Abort,
    Stop(Result<Option<u64>, ConnectionError>),
}

impl Model {
    fn new() -> Self {
        Self {
            operations: Vec::new(),
            fin: false,
            failing: false,
            end: None,
            start: None,
            window: FIRST_WINDOW,
            window_is_fixed: false,
            send_is_over: false,
            is_live: false,
        }
    }

    fn error(&self) -> Option<SendEnd<ConnectionError>> {
        match &self.end {
            Some(End::Error(error)) => Some(error.clone()),
            _ => None,
        }
    }

    fn in_flight(&self) -> u64 {
        self.operations.iter().filter(|(_, fate)| *fate == Fate::Submitted).map(|(bytes, _)| bytes).sum()
    }

    fn ends_with(&mut self, error: SendEnd<ConnectionError>) {
        self.end.get_or_insert(End::Error(error));
    }

    fn fails(&mut self) {
        self.failing |= self.end.is_none();
    }

    /// What a send is told now.
    fn denied(&self) -> Option<Denied<ConnectionError>> {
        match &self.end {
            Some(End::FinAcknowledged) => Some(Denied::Because(SendClosed::Finished)),
            Some(End::Error(error)) => Some(Denied::Because(SendClosed::Ended(error.clone()))),
            None if self.failing => Some(Denied::CauseToCome),
            None => self.fin.then_some(Denied::Because(SendClosed::Finished)),
        }
    }

    /// Whether a wait that has an answer may sleep on: for room in the window there need be more
    /// than a little.
    fn may_sleep(&self, kind: Kind) -> bool {
        let ample = self.in_flight() + (self.window / 8).max(1) <= self.window;
        kind == Kind::Window && self.denied().is_none() && !ample
    }

    /// What a wait must answer when it is polled now; `None` if it must go on waiting.
    fn answer(&self, kind: Kind) -> Option<Answer> {
        match kind {
            Kind::Started => match (&self.start, self.error()) {
                (Some(start), _) => Some(Answer::Start(start.clone())),
                (None, Some(error)) => Some(Answer::Start(Err(error))),
                (None, None) => None,
            },
            Kind::Acked(count) => {
                let done = self.operations[..count as usize].iter().all(|(_, fate)| *fate == Fate::Acknowledged);
                if done {
                    Some(Answer::Write(Ok(())))
                } else {
                    self.error().map(|error| Answer::Write(Err(SendClosed::Ended(error))))
                }
            }
            Kind::Window => match self.denied() {
                Some(Denied::Because(error)) => Some(Answer::Write(Err(error))),
                Some(Denied::CauseToCome) => None,
                None => (self.in_flight() < self.window).then_some(Answer::Write(Ok(()))),
            },
            Kind::Finished => match &self.end {
                Some(End::FinAcknowledged) => Some(Answer::Write(Ok(()))),
                Some(End::Error(error)) => Some(Answer::Write(Err(SendClosed::Ended(error.clone())))),
                None => None,
            },
            Kind::Aborted => (self.send_is_over || !self.is_live).then_some(Answer::Abort),
            Kind::Stopped(_) => match &self.end {
                Some(End::Error(SendEnd::Stopped(code))) => Some(Answer::Stop(Ok(Some(*code)))),
                Some(End::Error(SendEnd::Failed(SendFailure::ConnectionLost(error)))) => {
                    Some(Answer::Stop(Err(error.clone())))
                }
                Some(_) => Some(Answer::Stop(Ok(None))),
                None => None,
            },
        }
    }
}

// ---- MsQuic -------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unstarted,
    /// The start is queued.
    Starting,
    /// Started, or failed to: `aborting` is set then.
    Started,
    /// The start was refused on the spot.
    Refused,
    Over,
}

#[derive(Debug)]
struct Native {
    phase: Phase,
    fail_when_blocked: bool,
    /// The start was a call of its own, so PEER_ACCEPTED comes if it is blocked.
    tells_of_acceptance: bool,
    blocked: bool,
    /// Contexts of the sends that are out, and the operations' numbers.
    sends: VecDeque<(*mut c_void, usize)>,
    fin: bool,
    /// `StreamShutdown` was called, and is queued.
    abort_is_queued: bool,
    /// The send half is being aborted: what is out is canceled.
    aborting: bool,
    stopped: bool,
    send_is_over: bool,
    lost: Option<ConnectionError>,
    /// The connection was asked to tell the stream when it is lost.
    connection_tells: bool,
}

/// One thing that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    // MsQuic's doing.
    StartComplete { accepted: bool },
    StartFails(NativeError),
    PeerAccepted,
    Acknowledge,
    Cancel,
    BeginAbort,
    Stop,
    SendShutdownComplete { graceful: bool },
    ShutdownComplete,
    IdealSendBufferSize,
    LoseConnection,
    ConnectionTells,
    // The user's.
    Start { fail_when_blocked: bool },
    Send { fin: Fin },
    Finish,
    CallIsTaken,
    CallIsRefused(NativeError),
    Reset,
    DropHandle,
    FixWindow,
    Wait(Kind),
    WaitForStop,
    PollAgain { as_another_task: bool },
    DropWait,
}

impl Step {
    /// Whether the stream, or what is asked of it, is over soon after.
    fn is_an_end(self) -> bool {
        matches!(
            self,
            Self::StartFails(_)
                | Self::Stop
                | Self::LoseConnection
                | Self::Send { fin: Fin::Yes }
                | Self::Finish
                | Self::CallIsRefused(_)
                | Self::Reset
                | Self::DropHandle
        )
    }
}

impl Native {
    fn new() -> Self {
        Self {
            phase: Phase::Unstarted,
            fail_when_blocked: false,
            tells_of_acceptance: false,
            blocked: false,
            sends: VecDeque::new(),
            fin: false,
            abort_is_queued: false,
            aborting: false,
            stopped: false,
            send_is_over: false,
            lost: None,
            connection_tells: false,
        }
    }

    fn legal_steps(&self, steps: &mut Vec<Step>) {
        if self.lost.is_none() && self.phase != Phase::Over {
            steps.push(Step::LoseConnection);
        }
        match self.phase {
            Phase::Unstarted | Phase::Over => {}
            Phase::Refused => {
                if self.connection_tells && self.lost.is_some() {
                    steps.push(Step::ConnectionTells);
                }
            }
            Phase::Starting if self.lost.is_some() => {
                steps.push(Step::StartFails(NativeError::ABORTED));
                steps.push(Step::StartFails(NativeError::INVALID_STATE));
            }
            Phase::Starting => {
                steps.push(Step::StartComplete { accepted: true });
                if self.fail_when_blocked {
                    steps.push(Step::StartFails(NativeError::STREAM_LIMIT_REACHED));
                } else {
                    steps.push(Step::StartComplete { accepted: false });
                }
                steps.push(Step::StartFails(NativeError::OUT_OF_MEMORY));
            }
            Phase::Started => self.legal_steps_once_started(steps),
        }
    }

    fn legal_steps_once_started(&self, steps: &mut Vec<Step>) {
        if self.send_is_over {
            steps.push(Step::ShutdownComplete);
            return;
        }
        if self.aborting {
            if !self.sends.is_empty() {
                steps.push(Step::Cancel);
                return;
            }
            steps.push(Step::SendShutdownComplete { graceful: false });
            if self.fin && self.lost.is_none() && (self.stopped || self.abort_is_queued) {
                // The acknowledgement of FIN crossed the abort.
                steps.push(Step::SendShutdownComplete { graceful: true });
            }
            return;
        }
        steps.push(Step::IdealSendBufferSize);
        steps.push(Step::Stop);
        if self.abort_is_queued {
            steps.push(Step::BeginAbort);
        }
        let admitted = !(self.blocked && self.tells_of_acceptance);
        if !admitted {
            steps.push(Step::PeerAccepted);
        } else if !self.sends.is_empty() {
            // Twice as likely as the rest.
            steps.extend([Step::Acknowledge; 2]);
        } else if self.fin {
            steps.push(Step::SendShutdownComplete { graceful: true });
        }
    }
}

// ---- Both, and the stream between them ----------------------------------------------------------

/// A future of the user's.
#[derive(Debug)]
struct Wait {
    kind: Kind,
    task: Task,
    wakes_at_last_poll: usize,
}

/// A send that was begun and that MsQuic has neither taken nor refused to its end.
#[derive(Debug)]
struct Call {
    submission: Submission,
    fin: Fin,
    /// Contexts of the slices that MsQuic has not taken, and the operations' numbers.
    slices: VecDeque<(*mut c_void, usize)>,
}

#[derive(Debug)]
struct World {
    inner: StreamInner,
    model: Model,
    native: Native,
    waits: Vec<Wait>,
    call: Option<Call>,
    handle_is_dropped: bool,
    /// How often each operation's payload was dropped.
    drops: Vec<Arc<AtomicUsize>>,
}

impl World {
    fn new() -> Self {
        let state = StreamInnerExclusive::local(Dir::Uni, None);
        let inner = StreamInner::new(state, None, tracing::Span::none());
        inner.apply(|state| state.on_ideal_send_buffer_size(FIRST_WINDOW, None));
        Self {
            inner,
            model: Model::new(),
            native: Native::new(),
            waits: Vec::new(),
            call: None,
            handle_is_dropped: false,
            drops: Vec::new(),
        }
    }

    fn legal_steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.native.legal_steps(&mut steps);
        if let Some(call) = &self.call {
            // The user is inside `StreamSend`; other threads go on.
            let native = &self.native;
            if native.lost.is_some() {
                steps.push(Step::CallIsRefused(NativeError::ABORTED));
                steps.push(Step::CallIsRefused(NativeError::INVALID_STATE));
                if call.submission.starts {
                    steps.push(Step::CallIsTaken);
                }
            } else if native.aborting || native.send_is_over || native.phase == Phase::Over {
                let status = if native.stopped { NativeError::ABORTED } else { NativeError::INVALID_STATE };
                steps.push(Step::CallIsRefused(status));
            } else {
                steps.extend([Step::CallIsTaken; 6]);
                steps.push(Step::CallIsRefused(NativeError::OUT_OF_MEMORY));
            }
        } else if !self.handle_is_dropped {
            steps.extend([Step::Send { fin: Fin::No }; 4]);
            steps.push(Step::Send { fin: Fin::Yes });
            steps.push(Step::Finish);
            steps.push(Step::Start { fail_when_blocked: false });
            steps.push(Step::Start { fail_when_blocked: true });
            steps.push(Step::Reset);
            steps.push(Step::DropHandle);
            steps.push(Step::FixWindow);
            steps.push(Step::WaitForStop);
            steps.push(Step::Wait(Kind::Acked(self.inner.lock().submitted())));
            steps.push(Step::Wait(Kind::Window));
            if self.native.phase != Phase::Unstarted {
                steps.push(Step::Wait(Kind::Started));
            }
            if self.model.fin || self.model.end.is_some() {
                steps.push(Step::Wait(Kind::Finished));
            }
            if matches!(self.model.end, Some(End::Error(SendEnd::Reset(_)))) {
                steps.push(Step::Wait(Kind::Aborted));
            }
        }
        if !self.waits.is_empty() {
            steps.push(Step::PollAgain { as_another_task: false });
            steps.push(Step::PollAgain { as_another_task: true });
            steps.push(Step::DropWait);
        }
        steps
    }

    /// One of the legal steps; one in sixteen is a step that ends something, so that streams grow
    /// old before they die.
    fn choose(&self, choice: usize) -> Option<Step> {
        let (ends, goes_on): (Vec<_>, Vec<_>) = self.legal_steps().into_iter().partition(|step| step.is_an_end());
        let (first, second) = if choice.is_multiple_of(16) { (ends, goes_on) } else { (goes_on, ends) };
        let steps = if first.is_empty() { second } else { first };
        steps.get((choice / 16) % steps.len().max(1)).copied()
    }

    fn take(&mut self, step: Step, random: usize) {
        match step {
            Step::StartComplete { accepted } => {
                self.native.phase = Phase::Started;
                self.native.blocked = !accepted;
                assert_eq!(self.inner.handle_event_start_complete(Ok(()), 4, accepted), SUCCESS);
                if accepted {
                    self.model.start.get_or_insert(Ok(()));
                }
            }
            Step::StartFails(status) => {
                self.native.phase = Phase::Started;
                self.native.aborting = true;
                assert_eq!(self.inner.handle_event_start_complete(Err(status), u64::MAX, false), Next::ShutDown);
                match status {
                    NativeError::ABORTED | NativeError::INVALID_STATE => self.model.fails(),
                    _ => {
                        let end = failed(match status {
                            NativeError::STREAM_LIMIT_REACHED => SendFailure::LimitReached,
                            status => SendFailure::StartFailed(status.into()),
                        });
                        self.model.start = Some(Err(end.clone()));
                        self.model.ends_with(end);
                    }
                }
            }
            Step::PeerAccepted => {
                self.native.blocked = false;
                assert_eq!(self.inner.handle_event_peer_accepted(), SUCCESS);
                self.model.start.get_or_insert(Ok(()));
            }
            Step::Acknowledge | Step::Cancel => {
                let canceled = step == Step::Cancel;
                let (context, number) = self.native.sends.pop_front().expect("something is out");
                complete(&self.inner, context, canceled);
                assert_eq!(self.drops[number].load(Ordering::Relaxed), 1);
                if canceled {
                    self.model.operations[number].1 = Fate::Canceled;
                    self.model.fails();
                } else {
                    self.model.operations[number].1 = Fate::Acknowledged;
                    self.model.start.get_or_insert(Ok(()));
                }
            }
            Step::BeginAbort => self.native.aborting = true,
            Step::Stop => {
                let code = random as u64 % 5;
                self.native.aborting = true;
                self.native.stopped = true;
                assert_eq!(self.inner.handle_event_peer_receive_aborted(code), SUCCESS);
                self.model.ends_with(SendEnd::Stopped(code));
            }
            Step::SendShutdownComplete { graceful } => {
                self.native.send_is_over = true;
                assert_eq!(self.inner.handle_event_send_shutdown_complete(graceful), SUCCESS);
                self.model.send_is_over = true;
                if graceful && self.model.end.is_none() && !self.model.failing {
                    self.model.end = Some(End::FinAcknowledged);
                    self.model.start.get_or_insert(Ok(()));
                } else {
                    self.model.fails();
                }
            }
            Step::ShutdownComplete => {
                self.native.phase = Phase::Over;
                let lost = self.native.lost.clone();
                assert_eq!(self.inner.handle_event_shutdown_complete(lost.clone()), Next::Release);
                self.model.send_is_over = true;
                self.model.is_live = false;
                self.model.ends_with(failed(lost.map_or(SendFailure::Ended, SendFailure::ConnectionLost)));
            }
            Step::IdealSendBufferSize => {
                let bytes = random as u64 % MOST;
                assert_eq!(self.inner.handle_event_ideal_send_buffer_size(bytes, None), SUCCESS);
                if !self.model.window_is_fixed {
                    self.model.window = bytes.max(1);
                }
            }
            Step::LoseConnection => {
                self.native.lost = Some(LOST);
                self.native.aborting |= self.native.phase == Phase::Started && !self.native.send_is_over;
            }
            Step::ConnectionTells => {
                self.native.connection_tells = false;
                self.inner.apply(|state| state.on_lost(Some(LOST)));
                self.model.ends_with(lost(LOST));
            }
            Step::Start { fail_when_blocked } => self.start(fail_when_blocked),
            Step::Send { fin } => self.begin_send(1 + random as u64 % MOST, fin),
            Step::Finish => self.begin_send(0, Fin::Yes),
            Step::CallIsTaken => {
                let call = self.call.as_mut().expect("a call is under way");
                if std::mem::take(&mut call.submission.starts) {
                    self.native.phase = Phase::Starting;
                }
                self.native.sends.extend(call.slices.pop_front());
                if call.slices.is_empty() {
                    self.native.fin |= call.fin.is_set();
                    self.call = None;
                }
            }
            Step::CallIsRefused(status) => self.refuse(status),
            Step::Reset => self.reset(random as u64 % 5),
            Step::DropHandle => {
                self.handle_is_dropped = true;
                let unfinished = self.inner.lock().is_unfinished();
                assert_eq!(unfinished, self.model.end.is_none() && (self.model.failing || !self.model.fin));
                if unfinished {
                    self.reset(DROP_CODE);
                }
                // Every other future borrows the handle.
                self.waits.retain(|wait| matches!(wait.kind, Kind::Stopped(_)));
            }
            Step::FixWindow => {
                let bytes = 1 + random as u64 % MOST;
                self.inner.apply(|state| state.set_window(bytes));
                self.model.window = bytes;
                self.model.window_is_fixed = true;
            }
            Step::Wait(kind) => self.wait(kind),
            Step::WaitForStop => {
                let key = WaiterKey::new();
                self.wait(Kind::Stopped(key));
            }
            Step::PollAgain { as_another_task } => {
                let index = random % self.waits.len();
                let mut wait = self.waits.swap_remove(index);
                if as_another_task {
                    wait.task = Task::new();
                }
                self.poll(wait);
            }
            Step::DropWait => {
                let index = random % self.waits.len();
                let wait = self.waits.swap_remove(index);
                if let Kind::Stopped(key) = wait.kind {
                    drop(self.inner.lock().forget_stopped(key));
                    assert_eq!(wait.task.stored(), 0);
                }
            }
        }
    }

    fn start(&mut self, fail_when_blocked: bool) {
        let expected = match (self.native.phase, self.model.error()) {
            (Phase::Unstarted, Some(error)) => Err(error),
            (phase, _) => Ok(phase == Phase::Unstarted),
        };
        let begun = self.inner.lock().begin_start();
        assert_eq!(begun, expected);
        if begun == Ok(true) {
            self.native.phase = Phase::Starting;
            self.native.fail_when_blocked = fail_when_blocked;
            self.native.tells_of_acceptance = true;
            self.model.is_live = true;
        }
    }

    fn begin_send(&mut self, bytes: u64, fin: Fin) {
        let begun = self.inner.lock().begin_send(bytes, fin);
        let submission = match (begun, self.model.denied()) {
            (Ok(submission), None) => submission,
            (begun, denied) => return assert_eq!(begun.err(), denied),
        };
        // Who waits for room is the one who sends.
        self.waits.retain(|wait| wait.kind != Kind::Window);
        assert_eq!(submission.starts, self.native.phase == Phase::Unstarted);
        assert_eq!(submission.seq_no, self.model.operations.len() as u64);
        let mut slices = VecDeque::new();
        for length in submission.slices.lengths() {
            let drops = Arc::default();
            slices.push_back((lend(length as usize, &drops), self.model.operations.len()));
            self.drops.push(drops);
            self.model.operations.push((length, Fate::Submitted));
        }
        assert_eq!(submission.end(), self.model.operations.len() as u64);
        self.model.fin |= fin.is_set();
        self.model.is_live |= submission.starts;
        self.call = Some(Call { submission, fin, slices });
    }

    fn refuse(&mut self, status: NativeError) {
        let call = self.call.take().expect("a call is under way");
        let mut bytes = 0;
        for (context, number) in call.slices {
            let context = NonNull::new(context.cast()).expect("it was lent");
            // SAFETY: MsQuic refused it, or was not given it, so this is the only way back.
            bytes += unsafe { Buffer::from_raw(context) }.len();
            self.model.operations[number].1 = Fate::Refused;
        }
        let (refusal, wakeups) = self.inner.lock().on_send_refused(bytes, call.submission, refused(status));
        wakeups.wake();
        if call.submission.starts {
            self.native.phase = Phase::Refused;
            self.model.is_live = false;
        }
        let expected = match status {
            _ if self.model.end.is_some() => Refusal::AwaitEvent,
            NativeError::OUT_OF_MEMORY => Refusal::ResetNative,
            _ if call.submission.starts => Refusal::AskConnection,
            _ => Refusal::AwaitEvent,
        };
        assert_eq!(refusal, expected);
        match refusal {
            Refusal::AwaitEvent => self.model.fails(),
            Refusal::AskConnection => {
                self.model.fails();
                self.native.connection_tells = true;
            }
            Refusal::ResetNative => {
                self.model.ends_with(failed(SendFailure::Refused(status.into())));
                self.native.abort_is_queued |= self.model.is_live;
            }
        }
    }

    fn reset(&mut self, code: u64) {
        let result = self.inner.lock().begin_reset(code);
        match self.model.end.clone() {
            None => {
                let (tell, wakeups) = result.expect("it is not over");
                assert_eq!(tell, self.model.is_live);
                wakeups.wake();
                self.model.ends_with(SendEnd::Reset(code));
                self.native.abort_is_queued |= tell;
            }
            Some(End::Error(SendEnd::Reset(_))) => assert!(!result.expect("again, which does nothing").0),
            Some(End::FinAcknowledged) => assert_eq!(result.err(), Some(SendClosed::Finished)),
            Some(End::Error(error)) => assert_eq!(result.err(), Some(SendClosed::Ended(error))),
        }
    }

    /// Begins a wait. Those of the handle's own methods there is one of each kind at a time.
    fn wait(&mut self, kind: Kind) {
        let slot = |kind| match kind {
            Kind::Started => 0,
            Kind::Acked(_) => 1,
            Kind::Window => 2,
            Kind::Finished | Kind::Aborted => 3,
            Kind::Stopped(_) => 4,
        };
        self.waits.retain(|wait| slot(wait.kind) == 4 || slot(wait.kind) != slot(kind));
        self.poll(Wait { kind, task: Task::new(), wakes_at_last_poll: 0 });
    }

    fn poll(&mut self, mut wait: Wait) {
        let answer = wait.task.run(|cx| {
            let mut state = self.inner.lock();
            match wait.kind {
                Kind::Started => state.poll_started(cx).map(Answer::Start),
                Kind::Acked(operations) => {
                    state.poll_acked(operations, cx).map_err(SendClosed::Ended).map(Answer::Write)
                }
                Kind::Window => state.poll_window(cx).map(Answer::Write),
                Kind::Finished => state.poll_finished(cx).map_err(SendClosed::Ended).map(Answer::Write),
                Kind::Aborted => state.poll_aborted(cx).map(|()| Answer::Abort),
                Kind::Stopped(key) => state.poll_stopped(key, cx).map(Answer::Stop),
            }
        });
        assert_eq!(answer, self.model.answer(wait.kind).map_or(Poll::Pending, Poll::Ready), "{:?}", wait.kind);
        if answer.is_pending() {
            assert_eq!(wait.task.stored(), 1, "{:?} is stored once", wait.kind);
            wait.wakes_at_last_poll = wait.task.wakes();
            self.waits.push(wait);
        }
    }

    /// Every wait whose answer is there was woken, unless it may sleep, and gives just this answer;
    /// it is gone then. And the numbers are right.
    fn check(&mut self) {
        for wait in std::mem::take(&mut self.waits) {
            let woken = wait.task.wakes() > wait.wakes_at_last_poll;
            if self.model.answer(wait.kind).is_none() || (!woken && self.model.may_sleep(wait.kind)) {
                self.waits.push(wait);
                continue;
            }
            assert!(woken, "{:?} sleeps through its answer", wait.kind);
            self.poll(wait);
        }
        let state = self.inner.lock();
        assert_eq!((state.in_flight(), state.window()), (self.model.in_flight(), self.model.window));
        assert_eq!((state.is_live(), state.send_end()), (self.model.is_live, self.model.error()));
    }

    /// Lets everything come to its end, which the loss of the connection brings at the latest.
    fn finish(&mut self) {
        loop {
            let mut steps = self.legal_steps();
            steps.retain(|step| {
                matches!(
                    step,
                    Step::LoseConnection
                        | Step::StartFails(_)
                        | Step::Cancel
                        | Step::SendShutdownComplete { .. }
                        | Step::ShutdownComplete
                        | Step::ConnectionTells
                        | Step::CallIsRefused(_)
                )
            });
            // What MsQuic holds comes back before a call that is under way returns, and the
            // connection goes first.
            let Some(step) = steps.first().copied() else { break };
            self.take(step, 0);
            self.check();
        }
        let never_started = self.native.phase == Phase::Unstarted;
        assert!(never_started || self.waits.is_empty(), "{:?} are left", self.waits);
        assert!(self.drops.iter().all(|drops| drops.load(Ordering::Relaxed) == 1));
    }
}

/// Takes one legal step for each pair of numbers, and then lets everything come to its end.
pub(crate) fn walk(choices: impl IntoIterator<Item = (u16, u16)>) {
    let mut world = World::new();
    for (choice, random) in choices {
        let Some(step) = world.choose(choice.into()) else { break };
        world.take(step, random.into());
        world.check();
    }
    world.finish();
}

#[cfg(test)]
proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn whatever_the_order_each_wait_ends_once_with_the_answer_of_the_model(
        choices in prop::collection::vec(any::<(u16, u16)>(), 0..120),
    ) {
        walk(choices);
    }
}
