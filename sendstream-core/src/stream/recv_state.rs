//! The receive half's state machine: the memory that MsQuic lent, the pieces that were handed out,
//! and how the half ended.
//!
//! MsQuic lends contiguous pieces of the stream, in order (multi-receive mode, so more may come
//! while some are out), and wants them back in order too: "the first n bytes of what you have".
//! [`StreamRecv`] keeps the pieces that nobody has read yet and, for those that were handed out,
//! which have come back. Where readers keep more than [`Lending`] lets them, MsQuic has back also what
//! is still out, and the pieces keep their [`Block`] of memory alive. Pure, like `state.rs`.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{
    stream::{
        Fin,
        cause::{RecvEnd, RecvFailure},
        copies::CopyPlace,
        lending::Lending,
    },
    wait::{Retire, Waiter, WaiterKey, Waiters, Wakeups},
};

/// The receive half of a stream. `C` is what ended the connection.
#[derive(Debug)]
pub struct StreamRecv<C, P: Piece> {
    state: StreamRecvState<C>,
    /// Received and not handed out, in stream order.
    unread: Queue<P>,
    /// Received before all that is in `unread`, copied, and not handed out. MsQuic has its memory
    /// back.
    copied: Option<Copied>,
    /// Handed out and not given back to MsQuic, in stream order; the front is number `handed_base`.
    handed: Queue<Handed<P::Block>>,
    handed_base: u64,
    /// How many bytes `handed` has.
    handed_bytes: u64,
    /// What limits `handed_bytes`. Nothing does where MsQuic's memory cannot be kept.
    lending: Option<Arc<Lending>>,
    /// How many bytes MsQuic may have back although some of them are out.
    due: u64,
    /// Whether MsQuic is done with the stream, so that it wants nothing back. Written by:
    /// `on_shutdown_complete`.
    over: bool,
    /// The task in `read_chunk` and its kin.
    read_waiter: Waiter,
    /// Tasks in `received_reset`.
    reset_waiters: Waiters,
    /// Wakers that were replaced, to be dropped outside of the lock.
    retired: Vec<Waker>,
}

/// How far the receive half has come. All but the first two are final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRecvState<C> {
    /// More may come.
    Open,
    /// FIN was received; what is in `unread` is the rest.
    Finished,
    /// There is no receive half: this side opened a unidirectional stream.
    Absent,
    /// The peer reset the stream with this code.
    Reset(u64),
    /// This side stopped reading with this code.
    Stopped(u64),
    /// Something else ended it before FIN came.
    Failed(RecvFailure<C>),
}

/// A piece of the stream in memory that the transport lent.
pub trait Piece {
    /// How many bytes it holds.
    fn len(&self) -> usize;

    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cuts off the first `at` bytes, at most all.
    #[must_use]
    fn split_to(&mut self, at: usize) -> Self;

    /// What its memory is part of.
    type Block: Block;

    /// The memory that it is part of. Without, it cannot outlive its loan.
    fn block(&self) -> Option<Self::Block>;
}

/// Memory of the transport that pieces are part of.
pub trait Block: fmt::Debug {
    /// Keeps the memory as it is when the transport has it back, for one of its pieces. Called under
    /// the lock: it counts, and does nothing else.
    fn keep(&self);
}

/// A short piece that was copied.
#[derive(Debug)]
struct Copied {
    /// What of it was not handed out, never nothing.
    bytes: Bytes,
    /// Its place among all that wait to be read.
    _place: CopyPlace,
}

/// A piece of the stream that was handed out.
#[derive(Debug)]
struct Handed<B> {
    bytes: u64,
    returned: bool,
    block: Option<B>,
}

/// A piece of the stream on its way to the user.
#[derive(Debug)]
pub enum Taken<P> {
    /// In MsQuic's memory.
    Lent {
        /// The piece.
        lent: P,
        /// Its number for [`StreamRecv::give_back`].
        number: u64,
    },
    /// In memory of its own.
    Copied(Bytes),
}

#[cfg(any(test, fuzzing, feature = "testing"))]
#[doc(hidden)]
impl<P> Taken<P> {
    pub fn lent(&self) -> &P {
        let Self::Lent { lent, .. } = self else { panic!("a copy is not lent") };
        lent
    }

    pub fn number(&self) -> u64 {
        let Self::Lent { number, .. } = self else { panic!("a copy is not to be given back") };
        *number
    }
}

impl<C: Clone, P: Piece> StreamRecv<C, P> {
    /// The half of a stream that can be read.
    pub fn open() -> Self {
        Self::new(StreamRecvState::Open)
    }

    /// The missing half of a unidirectional stream that this side opened.
    pub fn absent() -> Self {
        Self::new(StreamRecvState::Absent)
    }

    fn new(state: StreamRecvState<C>) -> Self {
        Self {
            state,
            unread: Queue::default(),
            copied: None,
            handed: Queue::default(),
            handed_base: 0,
            handed_bytes: 0,
            lending: None,
            due: 0,
            over: false,
            read_waiter: Waiter::default(),
            reset_waiters: Waiters::default(),
            retired: Vec::new(),
        }
    }

    /// Has `lending` limit what readers keep.
    pub fn set_lending(&mut self, lending: Arc<Lending>) {
        self.lending = Some(lending);
    }

    // ---- What the user does ---------------------------------------------------------------------

    /// Hands out up to `limit` bytes from the front: `None` at the end of the stream.
    pub fn poll_take(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<Result<Option<Taken<P>>, RecvEnd<C>>> {
        match &self.state {
            StreamRecvState::Reset(code) => return Poll::Ready(Err(RecvEnd::Reset(*code))),
            StreamRecvState::Stopped(code) => return Poll::Ready(Err(RecvEnd::Stopped(*code))),
            StreamRecvState::Absent => return Poll::Ready(Ok(None)),
            StreamRecvState::Open | StreamRecvState::Finished | StreamRecvState::Failed(_) => {}
        }
        if let Some(taken) = self.take(limit) {
            return Poll::Ready(Ok(Some(taken)));
        }
        match &self.state {
            StreamRecvState::Finished => {
                // The stream is over for MsQuic, and the peer may begin another, only once MsQuic has
                // back all of it.
                self.give_credit();
                Poll::Ready(Ok(None))
            }
            StreamRecvState::Failed(failure) => Poll::Ready(Err(RecvEnd::Failed(failure.clone()))),
            _ => {
                // What comes next may need the credit for what the reader keeps.
                self.give_credit_beyond_share();
                self.read_waiter.register(cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    /// Hands out up to `limit` bytes that are there already.
    pub fn take(&mut self, limit: usize) -> Option<Taken<P>> {
        if limit == 0 || matches!(self.state, StreamRecvState::Reset(_) | StreamRecvState::Stopped(_)) {
            return None;
        }
        if let Some(copied) = &mut self.copied {
            let front = copied.bytes.split_to(limit.min(copied.bytes.len()));
            if copied.bytes.is_empty() {
                self.copied = None;
            }
            return Some(Taken::Copied(front));
        }
        if !self.unread.is_empty() {
            self.give_credit_beyond_share();
        }
        let front = self.unread.front_mut()?;
        let lent = if front.len() <= limit { self.unread.pop_front()? } else { front.split_to(limit) };
        let number = self.handed_base + self.handed.len() as u64;
        let bytes = lent.len() as u64;
        self.handed.push_back(Handed { bytes, returned: false, block: lent.block() });
        self.handed_bytes += bytes;
        // Counted even if it goes at once: what goes is taken off.
        let much = self.lending.as_ref().is_some_and(|lending| lending.add(bytes));
        if much || self.over {
            self.give_credit();
        }
        Some(Taken::Lent { lent, number })
    }

    /// A piece came back. Returns how many bytes MsQuic may now have back: those before the first
    /// piece still out. `None` if MsQuic has the piece back already; then one
    /// [`keep`](Block::keep) of its block is over.
    #[must_use]
    pub fn give_back(&mut self, number: u64) -> Option<u64> {
        let index = number.checked_sub(self.handed_base)? as usize;
        self.handed.get_mut(index).expect("what is given back was handed out").returned = true;
        let mut bytes = 0;
        while self.handed.front().is_some_and(|handed| handed.returned) {
            bytes += self.pop_handed();
        }
        Some(bytes)
    }

    /// How many bytes MsQuic may have back, although some of them are out. They are told once, and
    /// this is to be asked after each call that hands out.
    #[must_use]
    pub fn take_due(&mut self) -> u64 {
        std::mem::take(&mut self.due)
    }

    fn give_credit_beyond_share(&mut self) {
        if self.lending.as_ref().is_some_and(|lending| lending.is_much_for_a_stream(self.handed_bytes)) {
            self.give_credit();
        }
    }

    /// Gives MsQuic back what was handed out, and keeps alive what is still out.
    fn give_credit(&mut self) {
        while let Some(handed) = self.handed.front() {
            if !handed.returned {
                let Some(block) = &handed.block else { break };
                block.keep();
            }
            let bytes = self.pop_handed();
            if !self.over {
                self.due += bytes;
            }
        }
    }

    /// Keeps alive what is still out, of which MsQuic wants nothing back.
    fn let_handed_go(&mut self) {
        self.give_credit();
        self.due = 0;
    }

    /// The first that was handed out goes back: how many bytes it has.
    fn pop_handed(&mut self) -> u64 {
        let Some(handed) = self.handed.pop_front() else { return 0 };
        self.handed_base += 1;
        self.handed_bytes -= handed.bytes;
        if let Some(lending) = &self.lending {
            lending.remove(handed.bytes);
        }
        handed.bytes
    }

    /// Whether anything that MsQuic lent is out, or may still be handed out.
    pub fn has_lent(&self) -> bool {
        !self.unread.is_empty() || !self.handed.is_empty()
    }

    /// Stops reading with `code`. The first result is true when the peer must be told, or MsQuic be
    /// given back what was not read. Where all was read, MsQuic has it back.
    pub fn begin_stop(&mut self, code: u64) -> (bool, Wakeups) {
        let (stops, must_tell) = match self.state {
            StreamRecvState::Open => (true, true),
            // Everything that was received and FIN itself: MsQuic waits for what it lent to be read
            // or given up.
            StreamRecvState::Finished => (!self.unread.is_empty() || self.copied.is_some(), !self.unread.is_empty()),
            _ => (false, false),
        };
        if !stops {
            if matches!(self.state, StreamRecvState::Finished) {
                self.give_credit();
            }
            return (false, Wakeups::none());
        }
        self.state = StreamRecvState::Stopped(code);
        self.discard();
        // Credit for what is kept need not wait for the peer's answer.
        self.give_credit();
        (must_tell, self.wake_all())
    }

    /// The code of a stop that was asked for, so that it can be told once the stream has started.
    pub fn stopped_with(&self) -> Option<u64> {
        match self.state {
            StreamRecvState::Stopped(code) => Some(code),
            _ => None,
        }
    }

    /// Forgets a future that waited in [`Self::poll_received_reset`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget_reset(&mut self, key: WaiterKey) -> Option<Waker> {
        self.reset_waiters.remove(key)
    }

    /// Ready with the peer's reset code, with `None` once the stream ended otherwise, or with what
    /// ended the connection.
    pub fn poll_received_reset(
        &mut self,
        key: WaiterKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<u64>, RecvFailure<C>>> {
        match &self.state {
            StreamRecvState::Reset(code) => Poll::Ready(Ok(Some(*code))),
            StreamRecvState::Finished | StreamRecvState::Absent | StreamRecvState::Stopped(_) => Poll::Ready(Ok(None)),
            StreamRecvState::Failed(failure) => Poll::Ready(Err(failure.clone())),
            StreamRecvState::Open => {
                self.reset_waiters.register(key, cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    // ---- What MsQuic says -----------------------------------------------------------------------

    /// Whether what RECEIVE brings is still wanted.
    pub fn is_open(&self) -> bool {
        matches!(self.state, StreamRecvState::Open)
    }

    /// RECEIVE: MsQuic lends `pieces`; with FIN they are the last.
    pub fn on_receive(&mut self, pieces: impl Iterator<Item = P>, fin: Fin) -> Wakeups {
        if !self.is_open() {
            return Wakeups::none();
        }
        pieces.filter(|piece| !piece.is_empty()).for_each(|piece| self.unread.push_back(piece));
        if fin.is_set() {
            return self.on_fin();
        }
        let mut wakeups = Wakeups::none();
        self.read_waiter.take_into(&mut wakeups);
        wakeups
    }

    /// Whether everything that came was read and given back.
    pub fn is_caught_up(&self) -> bool {
        self.is_open() && self.copied.is_none() && !self.has_lent()
    }

    /// RECEIVE, once the reader [has caught up](Self::is_caught_up), of what `bytes` are a copy of.
    pub fn on_receive_copy(&mut self, bytes: Bytes, place: CopyPlace, fin: Fin) -> Wakeups {
        self.copied = Some(Copied { bytes, _place: place });
        if fin.is_set() {
            return self.on_fin();
        }
        let mut wakeups = Wakeups::none();
        self.read_waiter.take_into(&mut wakeups);
        wakeups
    }

    /// PEER_SEND_SHUTDOWN, or the FIN flag of RECEIVE: the peer finished.
    pub fn on_fin(&mut self) -> Wakeups {
        if !self.is_open() {
            return Wakeups::none();
        }
        self.state = StreamRecvState::Finished;
        self.wake_all()
    }

    /// PEER_SEND_ABORTED: the peer reset the stream with `code`. What was not read is gone.
    pub fn on_peer_send_aborted(&mut self, code: u64) -> Wakeups {
        // FIN is seen when the last byte was lent: a reset that comes after it takes nothing away.
        if !self.is_open() {
            return Wakeups::none();
        }
        self.state = StreamRecvState::Reset(code);
        self.discard();
        // With a reset MsQuic gives credit for everything.
        self.let_handed_go();
        self.wake_all()
    }

    /// The stream will never start, so nothing will ever come.
    pub fn on_never_started(&mut self) -> Wakeups {
        if self.is_open() {
            self.state = StreamRecvState::Failed(RecvFailure::NotStarted);
        }
        self.wake_all()
    }

    /// The stream is over. Whatever was received stays readable.
    pub fn on_lost(&mut self, lost: Option<C>) -> Wakeups {
        if self.is_open() {
            self.state = StreamRecvState::Failed(match lost {
                Some(cause) => RecvFailure::ConnectionLost(cause),
                None => RecvFailure::Ended,
            });
        }
        self.wake_all()
    }

    /// SHUTDOWN_COMPLETE: MsQuic is done with the stream, and keeps its memory for what is unread
    /// only.
    pub fn on_shutdown_complete(&mut self, lost: Option<C>) -> Wakeups {
        self.over = true;
        self.let_handed_go();
        self.on_lost(lost)
    }

    /// The reader is dropped, of a stream that is over: nobody will read what waits.
    pub fn on_dropped(&mut self) {
        self.discard();
    }

    /// Nobody will read what waits.
    fn discard(&mut self) {
        self.unread.clear();
        self.copied = None;
    }

    fn wake_all(&mut self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        self.read_waiter.take_into(&mut wakeups);
        self.reset_waiters.take_into(&mut wakeups);
        wakeups
    }
}

/// A queue that needs no allocation while it holds at most one: all that a stream of one message
/// ever has.
#[derive(Debug)]
struct Queue<T> {
    /// The front; where there is none, `rest` is empty.
    first: Option<T>,
    rest: VecDeque<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { first: None, rest: VecDeque::new() }
    }
}

impl<T> Queue<T> {
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    fn front_mut(&mut self) -> Option<&mut T> {
        self.first.as_mut()
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match index.checked_sub(1) {
            None => self.first.as_mut(),
            Some(index) => self.rest.get_mut(index),
        }
    }

    fn push_back(&mut self, item: T) {
        if self.first.is_none() {
            self.first = Some(item);
        } else {
            self.rest.push_back(item);
        }
    }

    fn pop_front(&mut self) -> Option<T> {
        let next = self.rest.pop_front();
        std::mem::replace(&mut self.first, next)
    }

    fn clear(&mut self) {
        self.first = None;
        self.rest.clear();
    }
}

impl<C, P: Piece> Retire for StreamRecv<C, P> {
    fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    fn take_retired(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.retired)
    }
}

#[cfg(test)]
mod tests;
