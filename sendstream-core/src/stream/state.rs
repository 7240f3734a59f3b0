//! The send half's state machine: the calls made to MsQuic, the events received, and the tasks that
//! wait.
//!
//! Pure: no lock, no native call, no clock. Each method is one transition or one question; a
//! transition that lets somebody go on returns the [`Wakeups`], which the caller wakes after it
//! dropped the lock. No field is assigned outside this file.

use std::{
    num::NonZeroU64,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    budget::{Budget, Share},
    dir::Dir,
    flight::Flight,
    stream::{
        Fin,
        cause::{Refused, SendClosed, SendEnd, SendFailure, StartFailed},
        recv_state::{Piece, StreamRecv},
        slices::Slices,
    },
    wait::{Retire, Waiter, WaiterKey, Waiters, Wakeups},
};

/// The in-flight window before MsQuic has said what is ideal: its own first value
/// (`QUIC_DEFAULT_IDEAL_SEND_BUFFER_SIZE`).
pub const DEFAULT_WINDOW: u64 = 128 * 1024;

/// A waiting writer is woken when this share of the window is free: an eighth. With a much larger
/// share, a window that just covers the path would run dry.
pub(super) const WINDOW_PARTS: u64 = 8;

/// The most bytes in flight that are of use on a path with this smallest round-trip time. MsQuic's
/// advice follows the bytes that were in flight before, so it grows as long as the peer takes them.
/// Bytes beyond the path's capacity only wait, outside of the processor's caches.
///
/// It is what 10 Gbit/s, more than one connection moves, put on the path, and 1 MiB for writers
/// that are late.
#[inline]
pub fn useful_bytes(min_rtt: Duration) -> NonZeroU64 {
    const BYTES_PER_MICROSECOND: u64 = 1250;
    const SLACK: NonZeroU64 = NonZeroU64::new(1024 * 1024).unwrap();
    let microseconds = u64::try_from(min_rtt.as_micros()).unwrap_or(u64::MAX);
    SLACK.saturating_add(microseconds.saturating_mul(BYTES_PER_MICROSECOND))
}

/// Everything about a stream that changes, behind `StreamInner`'s lock.
///
/// `C` is what ended the connection, and `P` a piece of memory that the transport lends. "User"
/// below is a call on `SendStream` or `RecvStream`; the `handle_event_*` functions are named
/// without their prefix.
#[derive(Debug)]
pub struct StreamInnerExclusive<C, P: Piece> {
    /// Written by: user (`begin_start`, `begin_send`), `start_complete`, `peer_accepted`,
    /// `shutdown_complete`.
    state: StreamState,
    /// How the start went, once known. Written by: `start_complete`, `peer_accepted`, a start
    /// refused on the spot.
    start_status: Option<Result<(), SendFailure<C>>>,
    /// Written by: user (`begin_send` with FIN, `begin_reset`), `send_complete`,
    /// `peer_receive_aborted`, `send_shutdown_complete`, `shutdown_complete`, a send refused on the
    /// spot.
    send_state: StreamSendState<C>,
    /// Bytes that MsQuic holds: submitted and not completed. Written by: user, `send_complete`.
    in_flight: u64,
    /// What of it counts for the whole process. Written with `in_flight`.
    share: Share,
    /// Submissions may be accepted while `in_flight` is below this. Written by:
    /// `ideal_send_buffer_size`, user.
    window: u64,
    /// Whether the user fixed the window, so that MsQuic's advice is not followed.
    window_is_fixed: bool,
    /// Whether MsQuic copies what is sent, so that SEND_COMPLETE acknowledges nothing. Set before
    /// the first operation.
    buffered: bool,
    /// Operations acknowledged, in order: the first that is not is number `sending_seq_no`. Written
    /// by: `send_complete`; `send_shutdown_complete` where `buffered`.
    sending_seq_no: u64,
    /// What whoever is in `send_waiter` waits for `sending_seq_no` to reach. Written by: user
    /// (`poll_acked`).
    awaited_seq_no: u64,
    /// Operations submitted: the next gets this number. Written by: user (`begin_send`).
    next_seq_no: u64,
    /// Whether MsQuic has said that the send half is done with on the wire. Written by:
    /// `send_shutdown_complete`.
    send_shutdown_complete: bool,
    /// The task in `poll_start`.
    start_waiter: Waiter,
    /// The task in `SendData` and `acked`, waiting for acknowledgements.
    send_waiter: Waiter,
    /// The task in `write_chunk` and its kin, waiting for room in the window.
    window_waiter: Waiter,
    /// The task in `poll_finish`, `finished` and `poll_abort`.
    write_shutdown_waiter: Waiter,
    /// Tasks in `stopped`.
    stopped_waiters: Waiters,
    /// The receive half.
    recv: StreamRecv<C, P>,
    /// Wakers that were replaced, to be dropped outside of the lock.
    retired: Vec<Waker>,
    /// Whether the connection has been asked to tell its end, which no event tells a stream that
    /// never started.
    asked_connection: bool,
}

/// How far the stream as a whole has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// Open on this side only; nothing was said to MsQuic but "open". No event can come.
    Open,
    /// The start is in MsQuic's hands. From here to `ShutdownComplete` MsQuic holds a reference to
    /// the instance.
    Starting,
    /// Started, it has an id, and the peer's stream limit does not admit it yet.
    Blocked,
    /// Started and admitted.
    Started,
    /// MsQuic refused the start on the spot. Like `Open`: no event will come.
    Refused,
    /// MsQuic is done with the stream and sends no more events.
    ShutdownComplete,
}

/// How far the send half has come. The last four are final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamSendState<C> {
    /// There is no send half: the peer opened a unidirectional stream.
    Absent,
    /// Data may be sent.
    Open,
    /// FIN is submitted.
    FinQueued,
    /// Something failed (a send was canceled or refused) and the event that says why is still to
    /// come.
    Failing,
    /// The peer acknowledged FIN, and with it every byte.
    FinAcked,
    /// The peer sent STOP_SENDING with this code.
    Stopped(u64),
    /// This side reset the stream with this code.
    Reset(u64),
    /// The connection was lost, or the stream failed though nobody stopped or reset it.
    Failed(SendFailure<C>),
}

/// What [`StreamInnerExclusive::begin_send`] admitted, to be handed to MsQuic now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Submission {
    /// The number of its first operation.
    pub seq_no: u64,
    /// Its operations. A bare FIN has none of its own.
    pub slices: Slices,
    /// Whether the next operation starts the stream.
    pub starts: bool,
}

impl Submission {
    /// How many operations must be acknowledged, of this one and of all before it.
    #[inline]
    pub fn end(&self) -> u64 {
        self.seq_no + self.slices.count()
    }
}

/// Why a send is not taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied<C> {
    /// For this reason.
    Because(SendClosed<C>),
    /// The stream is failing, and the event that says why is still to come: wait for it.
    CauseToCome,
}

/// What a refused operation still needs, see [`StreamInnerExclusive::on_send_refused`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Refusal {
    /// An event of the stream will name the cause.
    AwaitEvent,
    /// No event will come because the stream never started; only the connection knows the cause.
    AskConnection,
    /// The system failed, so bytes are missing: the stream must be reset, lest it look complete.
    ResetNative,
}

impl<C: Clone, P: Piece> StreamInnerExclusive<C, P> {
    /// A stream that this side opens, not started yet.
    pub fn local(dir: Dir, fixed_window: Option<u64>) -> Self {
        let recv = match dir {
            Dir::Uni => StreamRecv::absent(),
            Dir::Bi => StreamRecv::open(),
        };
        Self::new(StreamState::Open, StreamSendState::Open, recv, fixed_window)
    }

    /// A stream that the peer started.
    pub fn remote(dir: Dir, fixed_window: Option<u64>) -> Self {
        let send_state = match dir {
            Dir::Uni => StreamSendState::Absent,
            Dir::Bi => StreamSendState::Open,
        };
        Self::new(StreamState::Started, send_state, StreamRecv::open(), fixed_window)
    }

    fn new(
        state: StreamState,
        send_state: StreamSendState<C>,
        recv: StreamRecv<C, P>,
        fixed_window: Option<u64>,
    ) -> Self {
        Self {
            state,
            start_status: (state == StreamState::Started).then_some(Ok(())),
            send_shutdown_complete: matches!(send_state, StreamSendState::Absent),
            send_state,
            in_flight: 0,
            share: Share::default(),
            window: fixed_window.unwrap_or(DEFAULT_WINDOW),
            window_is_fixed: fixed_window.is_some(),
            buffered: false,
            sending_seq_no: 0,
            awaited_seq_no: 0,
            next_seq_no: 0,
            start_waiter: Waiter::default(),
            send_waiter: Waiter::default(),
            window_waiter: Waiter::default(),
            write_shutdown_waiter: Waiter::default(),
            stopped_waiters: Waiters::default(),
            recv,
            retired: Vec::new(),
            asked_connection: false,
        }
    }

    /// Says whether MsQuic copies what is sent, before anything is.
    pub fn set_buffered(&mut self, buffered: bool) {
        self.buffered = buffered;
    }

    /// Has the window shrink when much of `budget`, or of `flight`, is used. Set before the first
    /// operation.
    pub fn share(&mut self, budget: &'static Budget, flight: &'static Flight) {
        self.share = Share::of(budget, flight);
    }

    /// The receive half.
    pub fn recv(&mut self) -> &mut StreamRecv<C, P> {
        &mut self.recv
    }

    /// How many bytes the receive half [gives back early](StreamRecv::take_due), while there is
    /// somebody to give them to.
    #[must_use]
    pub fn take_due(&mut self) -> u64 {
        let due = self.recv.take_due();
        if self.is_live() { due } else { 0 }
    }

    /// How far the stream has come.
    pub fn state(&self) -> StreamState {
        self.state
    }

    /// Whether MsQuic knows of the stream beyond its being open, so that shutting it down makes
    /// sense.
    pub fn is_live(&self) -> bool {
        matches!(self.state, StreamState::Starting | StreamState::Blocked | StreamState::Started)
    }

    /// True once, for a stream that has not started: somebody waits on it, and only the connection
    /// can say that it ended.
    #[must_use]
    pub fn must_ask_connection(&mut self) -> bool {
        self.state == StreamState::Open && !std::mem::replace(&mut self.asked_connection, true)
    }

    /// Whether data is under way that must arrive although nobody holds the stream any more.
    pub fn is_delivering(&self) -> bool {
        self.is_live() && matches!(self.send_state, StreamSendState::FinQueued)
    }

    /// Bytes submitted and not yet completed.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The in-flight window in bytes, as far as the process's other streams leave it now.
    pub fn window(&self) -> u64 {
        self.share.window(self.window)
    }

    /// How many operations have been submitted; `poll_acked` of this waits for all of them.
    pub fn submitted(&self) -> u64 {
        self.next_seq_no
    }

    // ---- What the user does ---------------------------------------------------------------------

    /// Open -> Starting. `Ok(true)` when MsQuic must now be told to start.
    pub fn begin_start(&mut self) -> Result<bool, SendEnd<C>> {
        if self.state != StreamState::Open {
            return Ok(false);
        }
        if let Some(end) = self.send_end() {
            return Err(end);
        }
        self.state = StreamState::Starting;
        Ok(true)
    }

    /// Admits `bytes` more, and FIN if it is set: from here on they count as submitted, and the
    /// caller hands them to MsQuic at once, slice by slice. The first operation starts the stream,
    /// and FIN goes with the last.
    #[inline]
    pub fn begin_send(&mut self, bytes: u64, fin: Fin) -> Result<Submission, Denied<C>> {
        self.check_sending()?;
        let starts = self.state == StreamState::Open;
        if starts {
            self.state = StreamState::Starting;
        }
        if fin.is_set() {
            self.send_state = StreamSendState::FinQueued;
        }
        // A bare FIN has no buffer, hence no SEND_COMPLETE that could count it: its acknowledgement
        // is `graceful`.
        let submission = Submission { seq_no: self.next_seq_no, slices: Slices::new(bytes, self.window()), starts };
        self.next_seq_no = submission.end();
        self.set_in_flight(self.in_flight + bytes);
        Ok(submission)
    }

    /// MsQuic refused, on the spot, the last `bytes` of what [`Self::begin_send`] had admitted; no
    /// event comes for them.
    pub fn on_send_refused(&mut self, bytes: u64, submission: Submission, refused: Refused) -> (Refusal, Wakeups) {
        self.set_in_flight(self.in_flight.saturating_sub(bytes));
        if submission.starts {
            self.state = StreamState::Refused;
        }
        if self.send_has_ended() {
            // An event named the cause while the call was under way.
            return (Refusal::AwaitEvent, self.wake_senders());
        }
        let status = match refused {
            Refused::Going => {
                self.send_state = StreamSendState::Failing;
                let refusal = if submission.starts { Refusal::AskConnection } else { Refusal::AwaitEvent };
                return (refusal, Wakeups::none());
            }
            Refused::Failed(status) => status,
        };
        let mut wakeups = self.fail(SendFailure::Refused(status));
        if submission.starts {
            wakeups.merge(self.recv.on_never_started());
        }
        (Refusal::ResetNative, wakeups)
    }

    /// MsQuic refused, on the spot, the start that [`Self::begin_start`] had admitted.
    pub fn on_start_refused(&mut self, refused: Refused) -> (Refusal, Wakeups) {
        self.state = StreamState::Refused;
        let status = match refused {
            Refused::Going => {
                self.send_state = StreamSendState::Failing;
                return (Refusal::AskConnection, Wakeups::none());
            }
            Refused::Failed(status) => status,
        };
        self.start_status = Some(Err(SendFailure::Refused(status)));
        let mut wakeups = self.fail(SendFailure::Refused(status));
        wakeups.merge(self.recv.on_never_started());
        (Refusal::AwaitEvent, wakeups)
    }

    /// Resets the send half with `code`; everything pending ends at once. `Ok` says whether MsQuic
    /// must be told.
    pub fn begin_reset(&mut self, code: u64) -> Result<(bool, Wakeups), SendClosed<C>> {
        match self.send_state {
            StreamSendState::Open | StreamSendState::FinQueued | StreamSendState::Failing => {}
            StreamSendState::Absent | StreamSendState::FinAcked => return Err(SendClosed::Finished),
            StreamSendState::Reset(_) => return Ok((false, Wakeups::none())),
            StreamSendState::Stopped(code) => return Err(SendClosed::Ended(SendEnd::Stopped(code))),
            StreamSendState::Failed(ref failure) => return Err(SendClosed::Ended(SendEnd::Failed(failure.clone()))),
        }
        self.send_state = StreamSendState::Reset(code);
        let mut wakeups = self.wake_senders();
        if self.state == StreamState::Open {
            wakeups.merge(self.recv.on_never_started());
        }
        Ok((self.is_live(), wakeups))
    }

    /// Whether dropping the handle now has to reset the send half.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.send_state, StreamSendState::Open | StreamSendState::Failing)
    }

    /// Fixes the in-flight window at `bytes`.
    pub fn set_window(&mut self, bytes: u64) -> Wakeups {
        self.window = bytes;
        self.window_is_fixed = true;
        self.share.set_useful(None);
        self.wake_window_waiter()
    }

    // ---- What the user waits for ----------------------------------------------------------------

    /// Ready once the peer's stream limit admitted the stream, or the start failed.
    pub fn poll_started(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendEnd<C>>> {
        if let Some(status) = &self.start_status {
            return Poll::Ready(status.clone().map_err(SendEnd::Failed));
        }
        if let Some(end) = self.send_end() {
            return Poll::Ready(Err(end));
        }
        self.start_waiter.register(cx.waker(), &mut self.retired);
        Poll::Pending
    }

    /// Ready once the first `operations` operations are acknowledged, or cannot be any more.
    pub fn poll_acked(&mut self, operations: u64, cx: &mut Context<'_>) -> Poll<Result<(), SendEnd<C>>> {
        if self.sending_seq_no >= operations {
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = self.send_end() {
            return Poll::Ready(Err(end));
        }
        self.awaited_seq_no = operations;
        self.send_waiter.register(cx.waker(), &mut self.retired);
        Poll::Pending
    }

    /// Ready once there is room in the window, or never will be.
    pub fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendClosed<C>>> {
        match self.check_sending() {
            Ok(()) if self.in_flight < self.window() => return Poll::Ready(Ok(())),
            Ok(()) | Err(Denied::CauseToCome) => {}
            Err(Denied::Because(closed)) => return Poll::Ready(Err(closed)),
        }
        self.window_waiter.register(cx.waker(), &mut self.retired);
        Poll::Pending
    }

    /// Ready with `Ok` once the peer acknowledged FIN; never `Ok` otherwise. The caller has queued
    /// FIN.
    pub fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendEnd<C>>> {
        if matches!(self.send_state, StreamSendState::FinAcked) {
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = self.send_end() {
            return Poll::Ready(Err(end));
        }
        self.write_shutdown_waiter.register(cx.waker(), &mut self.retired);
        Poll::Pending
    }

    /// Ready once the reset by [`Self::begin_reset`] is done with on the wire: acknowledged, or the
    /// connection is gone.
    pub fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.send_shutdown_complete || !self.is_live() {
            return Poll::Ready(());
        }
        self.write_shutdown_waiter.register(cx.waker(), &mut self.retired);
        Poll::Pending
    }

    /// Forgets a future that waited in [`Self::poll_stopped`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget_stopped(&mut self, key: WaiterKey) -> Option<Waker> {
        self.stopped_waiters.remove(key)
    }

    /// Ready with the peer's STOP_SENDING code, with `None` once the stream ended on this side's
    /// terms, or with what ended the connection.
    pub fn poll_stopped(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Result<Option<u64>, C>> {
        match &self.send_state {
            StreamSendState::Stopped(code) => return Poll::Ready(Ok(Some(*code))),
            StreamSendState::Failed(SendFailure::ConnectionLost(cause)) => return Poll::Ready(Err(cause.clone())),
            StreamSendState::FinAcked
            | StreamSendState::Reset(_)
            | StreamSendState::Failed(
                SendFailure::LimitReached | SendFailure::StartFailed(_) | SendFailure::Refused(_) | SendFailure::Ended,
            )
            | StreamSendState::Absent => return Poll::Ready(Ok(None)),
            StreamSendState::Open | StreamSendState::FinQueued | StreamSendState::Failing => {}
        }
        self.stopped_waiters.register(key, cx.waker(), &mut self.retired);
        Poll::Pending
    }

    // ---- What MsQuic says -----------------------------------------------------------------------

    /// START_COMPLETE. With a bad `status` the stream never started, and perhaps no further event
    /// comes.
    pub fn on_start_complete(&mut self, status: Result<(), StartFailed>, peer_accepted: bool) -> Wakeups {
        let failure = match status {
            Ok(()) if peer_accepted => return self.on_peer_accepted(),
            Ok(()) => {
                if self.state == StreamState::Starting {
                    self.state = StreamState::Blocked;
                }
                return Wakeups::none();
            }
            // SHUTDOWN_COMPLETE follows with the cause, and the waiters wait for that.
            Err(StartFailed::Going) => {
                if !self.send_has_ended() {
                    self.send_state = StreamSendState::Failing;
                }
                return Wakeups::none();
            }
            Err(StartFailed::LimitReached) => SendFailure::LimitReached,
            Err(StartFailed::Failed(status)) => SendFailure::StartFailed(status),
        };
        self.start_status = Some(Err(failure.clone()));
        let mut wakeups = self.fail(failure);
        self.start_waiter.take_into(&mut wakeups);
        wakeups.merge(self.recv.on_never_started());
        wakeups
    }

    /// PEER_ACCEPTED, or a START_COMPLETE that says the same: the peer's stream limit admits the
    /// stream.
    pub fn on_peer_accepted(&mut self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        if matches!(self.state, StreamState::Starting | StreamState::Blocked) {
            self.state = StreamState::Started;
        }
        if self.start_status.is_none() {
            self.start_status = Some(Ok(()));
            self.start_waiter.take_into(&mut wakeups);
        }
        wakeups
    }

    /// SEND_COMPLETE of an operation of `bytes`. Not `canceled` means acknowledged; where MsQuic
    /// buffers it means copied, which makes room and says nothing of the peer.
    pub fn on_send_complete(&mut self, bytes: u64, canceled: bool) -> Wakeups {
        self.set_in_flight(self.in_flight.saturating_sub(bytes));
        if canceled {
            // The cause is known already (reset here, stopped by the peer) or comes with
            // SHUTDOWN_COMPLETE.
            if matches!(self.send_state, StreamSendState::Open | StreamSendState::FinQueued) {
                self.send_state = StreamSendState::Failing;
            }
            return Wakeups::none();
        }
        if self.buffered {
            return self.wake_window_waiter();
        }
        // MsQuic completes what the peer acknowledged in the order of submission, so a count says
        // which.
        self.sending_seq_no += 1;
        // A start folded into a send gives no PEER_ACCEPTED; data that arrived proves as much.
        let mut wakeups = self.on_peer_accepted();
        if self.sending_seq_no >= self.awaited_seq_no {
            self.send_waiter.take_into(&mut wakeups);
        }
        // A writer that had to wait gets room for a while, lest every acknowledgement wakes it for
        // one chunk.
        let window = self.window();
        if window.saturating_sub(self.in_flight) >= (window / WINDOW_PARTS).max(1) {
            self.window_waiter.take_into(&mut wakeups);
        }
        wakeups
    }

    /// PEER_RECEIVE_ABORTED: the peer's STOP_SENDING with `code`.
    pub fn on_peer_receive_aborted(&mut self, code: u64) -> Wakeups {
        if self.send_has_ended() || matches!(self.send_state, StreamSendState::FinAcked) {
            return Wakeups::none();
        }
        self.send_state = StreamSendState::Stopped(code);
        self.wake_senders()
    }

    /// SEND_SHUTDOWN_COMPLETE. `graceful` is the peer's acknowledgement of FIN; the only thing that
    /// makes a finish `Ok`.
    pub fn on_send_shutdown_complete(&mut self, graceful: bool) -> Wakeups {
        self.send_shutdown_complete = true;
        match self.send_state {
            StreamSendState::FinQueued if graceful => {
                self.send_state = StreamSendState::FinAcked;
                // FIN is acknowledged last, so this is everything; where MsQuic buffers nothing
                // else says so.
                self.sending_seq_no = self.next_seq_no;
                let mut wakeups = self.on_peer_accepted();
                wakeups.merge(self.wake_senders());
                wakeups
            }
            StreamSendState::Open | StreamSendState::FinQueued => {
                self.send_state = StreamSendState::Failing;
                Wakeups::none()
            }
            _ => {
                let mut wakeups = Wakeups::none();
                self.write_shutdown_waiter.take_into(&mut wakeups);
                wakeups
            }
        }
    }

    /// SHUTDOWN_COMPLETE, the last event. `lost` is what ended the connection, when that is what
    /// ended the stream.
    pub fn on_shutdown_complete(&mut self, lost: Option<C>) -> Wakeups {
        self.state = StreamState::ShutdownComplete;
        self.send_shutdown_complete = true;
        let mut wakeups = self.recv.on_shutdown_complete(lost.clone());
        wakeups.merge(self.lose_send(lost));
        wakeups
    }

    /// The connection is gone, and with it whatever had not ended yet. Also the end of a stream
    /// that never started.
    pub fn on_lost(&mut self, lost: Option<C>) -> Wakeups {
        let mut wakeups = self.recv.on_lost(lost.clone());
        wakeups.merge(self.lose_send(lost));
        wakeups
    }

    /// What becomes of the send half then.
    fn lose_send(&mut self, lost: Option<C>) -> Wakeups {
        let failure = match lost {
            Some(cause) => SendFailure::ConnectionLost(cause),
            None => SendFailure::Ended,
        };
        match self.send_state {
            StreamSendState::Open | StreamSendState::FinQueued | StreamSendState::Failing => self.fail(failure),
            _ => self.wake_senders(),
        }
    }

    /// IDEAL_SEND_BUFFER_SIZE: how much in flight keeps the path busy, of which no more than
    /// [`useful_bytes`] are followed where its smallest round-trip time is known.
    pub fn on_ideal_send_buffer_size(&mut self, bytes: u64, min_rtt: Option<Duration>) -> Wakeups {
        if self.window_is_fixed {
            return Wakeups::none();
        }
        let useful = min_rtt.map(useful_bytes);
        self.window = bytes.min(useful.map_or(u64::MAX, NonZeroU64::get)).max(1);
        self.share.set_useful(useful);
        self.wake_window_waiter()
    }

    // ---- Helpers --------------------------------------------------------------------------------

    /// What ended the send half, when it did not end with a finish.
    pub fn send_end(&self) -> Option<SendEnd<C>> {
        match &self.send_state {
            StreamSendState::Stopped(code) => Some(SendEnd::Stopped(*code)),
            StreamSendState::Reset(code) => Some(SendEnd::Reset(*code)),
            StreamSendState::Failed(failure) => Some(SendEnd::Failed(failure.clone())),
            StreamSendState::Absent
            | StreamSendState::Open
            | StreamSendState::FinQueued
            | StreamSendState::Failing
            | StreamSendState::FinAcked => None,
        }
    }

    /// Whether data may be sent.
    #[inline]
    pub fn check_sending(&self) -> Result<(), Denied<C>> {
        if matches!(self.send_state, StreamSendState::Open) { Ok(()) } else { Err(self.denied()) }
    }

    /// Why nothing may be sent, once the half is not open any more. Apart from the question, which
    /// is asked for every send.
    #[cold]
    fn denied(&self) -> Denied<C> {
        let end = match &self.send_state {
            StreamSendState::Open | StreamSendState::Failing => return Denied::CauseToCome,
            StreamSendState::Absent | StreamSendState::FinQueued | StreamSendState::FinAcked => {
                return Denied::Because(SendClosed::Finished);
            }
            StreamSendState::Stopped(code) => SendEnd::Stopped(*code),
            StreamSendState::Reset(code) => SendEnd::Reset(*code),
            StreamSendState::Failed(failure) => SendEnd::Failed(failure.clone()),
        };
        Denied::Because(SendClosed::Ended(end))
    }

    /// Counts at most a window: the rest of a large send was its owner's memory before.
    fn set_in_flight(&mut self, bytes: u64) {
        self.in_flight = bytes;
        self.share.hold(bytes.min(self.window));
    }

    /// Whether the send half has ended, and not with a finish.
    fn send_has_ended(&self) -> bool {
        self.send_end().is_some()
    }

    fn fail(&mut self, failure: SendFailure<C>) -> Wakeups {
        if !matches!(self.send_state, StreamSendState::Open | StreamSendState::FinQueued | StreamSendState::Failing) {
            return Wakeups::none();
        }
        self.send_state = StreamSendState::Failed(failure);
        self.wake_senders()
    }

    /// Everybody who waits on the send half, because it has ended one way or the other.
    fn wake_senders(&mut self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        for waiter in
            [&mut self.start_waiter, &mut self.send_waiter, &mut self.window_waiter, &mut self.write_shutdown_waiter]
        {
            waiter.take_into(&mut wakeups);
        }
        self.stopped_waiters.take_into(&mut wakeups);
        wakeups
    }

    fn wake_window_waiter(&mut self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        if self.in_flight < self.window() {
            self.window_waiter.take_into(&mut wakeups);
        }
        wakeups
    }
}

impl<C, P: Piece> Retire for StreamInnerExclusive<C, P> {
    fn has_retired(&self) -> bool {
        !self.retired.is_empty() || self.recv.has_retired()
    }

    fn take_retired(&mut self) -> Vec<Waker> {
        let mut retired = std::mem::take(&mut self.retired);
        retired.append(&mut self.recv.take_retired());
        retired
    }
}

#[cfg(test)]
mod tests;
