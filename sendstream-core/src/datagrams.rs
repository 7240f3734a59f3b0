//! A connection's datagrams (RFC 9221): the fate of sent datagrams, and the received ones that wait
//! to be read.
//!
//! Behind a lock of its own, so that a flood of datagrams and the streams do not wait for one
//! another. The events are named as MsQuic names them, without `QUIC_CONNECTION_EVENT_`.
//!
//! # A sent datagram
//!
//! Each arrow is a DATAGRAM_SEND_STATE_CHANGED with the state that it names:
//!
//! ```text
//! begin_send --> queued --SENT--> Sent --ACKNOWLEDGED-----------------------------> Acknowledged
//!                  |               |                                                    ^
//!                  |               +--LOST_SUSPECT--> Suspected --ACKNOWLEDGED_SPURIOUS-+
//!                  |               |                      |
//!                  |               +----LOST_DISCARDED----+-----------------------> Lost
//!                  +--CANCELED----------------------------------------------------> Canceled
//! ```
//!
//! A datagram is tracked from `begin_send` until the user's `SendDatagram` is dropped. Events of an
//! untracked datagram are ignored. The end of the connection ends at once every wait for a fate
//! that is not final. MsQuic's own last events come later and say less: CANCELED for queued
//! datagrams, LOST_DISCARDED for datagrams on their way.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::wait::{Retire, Waiter, WaiterKey, Waiters, Wakeups};

/// Everything about a connection's datagrams that changes. `C` is the cause of a connection's end.
#[derive(Debug)]
pub struct Datagrams<C> {
    /// The largest payload that can be sent. Written by: DATAGRAM_STATE_CHANGED.
    max_size: Option<u16>,
    /// What is known of datagrams that somebody still asks about.
    tracked: HashMap<DatagramId, Tracked>,
    /// The name that was given last.
    last_id: u64,
    /// The peer's datagrams that wait to be read, the oldest first.
    received: VecDeque<Bytes>,
    /// What `received` costs, see [`cost`].
    received_cost: usize,
    /// How many of the peer's datagrams were dropped.
    dropped: u64,
    /// Tasks in `read_datagram`.
    readers: Waiters,
    /// What waits to be sent in MsQuic, in bytes.
    queued: u64,
    /// Tasks that wait until less does.
    senders: Waiters,
    /// What ended the connection. Written once.
    ended: Option<C>,
    /// Wakers that were replaced, to be dropped outside of the lock.
    retired: Vec<Waker>,
}

/// Names one sent datagram among those of its connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatagramId(u64);

/// What became of a datagram (`QUIC_DATAGRAM_SEND_STATE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatagramFate {
    /// It was written into a packet, and its memory is free. Not final.
    Sent,
    /// Its packet is suspected to be lost: later ones were acknowledged and it was not (RFC 9002
    /// §6.1). Not final: the acknowledgement may still come.
    Suspected,
    /// The peer's transport received it (RFC 9221 §5.2). The peer's application may not have read
    /// it.
    Acknowledged,
    /// Its packet was never acknowledged, and MsQuic waits no longer. Nobody knows whether it
    /// arrived.
    Lost,
    /// It was never sent. While it waited, the path's packet size became too small for it, or the
    /// peer refused datagrams.
    Canceled,
}

impl DatagramFate {
    /// Whether nothing else can become of it (`QUIC_DATAGRAM_SEND_STATE_IS_FINAL`).
    #[inline]
    pub fn is_final(self) -> bool {
        match self {
            Self::Sent | Self::Suspected => false,
            Self::Acknowledged | Self::Lost | Self::Canceled => true,
        }
    }
}

/// Why a datagram cannot be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused<C> {
    /// It is larger than the path, or the peer, takes now.
    TooLarge {
        /// The largest payload that can be sent now, in bytes.
        max: usize,
    },
    /// The peer does not take datagrams.
    UnsupportedByPeer,
    /// The connection has ended.
    Lost(C),
}

/// What is known of a sent datagram.
#[derive(Debug, Default)]
struct Tracked {
    /// `None` while it is queued.
    fate: Option<DatagramFate>,
    /// Whether it was ever suspected to be lost.
    suspected: bool,
    /// The task of its `SendDatagram`.
    waiter: Waiter,
    /// Whether that task waits for any step, and not only for the last.
    wants_every_step: bool,
}

/// What DATAGRAM_SEND_STATE_CHANGED says about a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendChange {
    /// It was written into a packet.
    Sent,
    /// Its packet may be lost.
    LostSuspect,
    /// Its packet is lost for all that MsQuic will ever know.
    LostDiscarded,
    /// The peer's transport received it.
    Acknowledged,
    /// The same, of one that was suspected to be lost.
    AcknowledgedSpurious,
    /// It will not be sent.
    Canceled,
}

impl SendChange {
    /// Whether MsQuic says no more about the datagram after this
    /// (`QUIC_DATAGRAM_SEND_STATE_IS_FINAL`).
    #[inline]
    pub fn is_final(self) -> bool {
        self.fate().is_final()
    }

    fn fate(self) -> DatagramFate {
        match self {
            Self::Sent => DatagramFate::Sent,
            Self::LostSuspect => DatagramFate::Suspected,
            Self::LostDiscarded => DatagramFate::Lost,
            Self::Acknowledged | Self::AcknowledgedSpurious => DatagramFate::Acknowledged,
            Self::Canceled => DatagramFate::Canceled,
        }
    }
}

impl<C> Default for Datagrams<C> {
    fn default() -> Self {
        Self {
            max_size: None,
            tracked: HashMap::new(),
            last_id: 0,
            received: VecDeque::new(),
            received_cost: 0,
            dropped: 0,
            readers: Waiters::default(),
            queued: 0,
            senders: Waiters::default(),
            ended: None,
            retired: Vec::new(),
        }
    }
}

impl<C: Clone> Datagrams<C> {
    // ---- Sending --------------------------------------------------------------------------------

    /// The largest payload that can be sent; `None` while none can.
    pub fn max_size(&self) -> Option<usize> {
        if self.ended.is_some() { None } else { self.max_size.map(usize::from) }
    }

    /// A datagram of `size` bytes is about to be handed to MsQuic.
    pub fn begin_send(&mut self, size: u64) -> Result<DatagramId, Refused<C>> {
        if let Some(cause) = &self.ended {
            return Err(Refused::Lost(cause.clone()));
        }
        match self.max_size {
            None => Err(Refused::UnsupportedByPeer),
            Some(max) if size > u64::from(max) => Err(Refused::TooLarge { max: max.into() }),
            Some(_) => {
                self.queued += queued_cost(size);
                self.last_id += 1;
                let id = DatagramId(self.last_id);
                self.tracked.insert(id, Tracked::default());
                Ok(id)
            }
        }
    }

    /// [`Self::begin_send`] once what waits to be sent is, with this one, within `limit`; or nothing
    /// waits.
    pub fn poll_begin_send(
        &mut self,
        size: u64,
        limit: u64,
        key: WaiterKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<DatagramId, Refused<C>>> {
        let full = self.queued > 0 && self.queued.saturating_add(queued_cost(size)) > limit;
        // What cannot be sent at all waits for nothing.
        let fits = self.ended.is_none() && self.max_size.is_some_and(|max| size <= max.into());
        if full && fits {
            self.senders.register(key, cx.waker(), &mut self.retired);
            return Poll::Pending;
        }
        Poll::Ready(self.begin_send(size))
    }

    /// Forgets a future of [`Self::poll_begin_send`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget_sender(&mut self, key: WaiterKey) -> Option<Waker> {
        self.senders.remove(key)
    }

    /// MsQuic did not take the datagram of `size` bytes. The waker is handed out as in
    /// [`Self::forget`].
    #[must_use = "wake and drop after the lock"]
    pub fn on_refused(&mut self, id: DatagramId, size: u64) -> (Wakeups, Option<Waker>) {
        (self.on_left_queue(size), self.forget(id))
    }

    /// MsQuic has the memory of a datagram of `size` bytes no more: it was sent, or will not be.
    pub fn on_left_queue(&mut self, size: u64) -> Wakeups {
        let mut wakeups = Wakeups::none();
        self.queued = self.queued.saturating_sub(queued_cost(size));
        self.senders.take_into(&mut wakeups);
        wakeups
    }

    /// How many bytes wait to be sent, with what keeping them takes.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Nobody asks about the datagram any more. The waker is handed out because dropping it may run
    /// foreign code.
    #[must_use = "drop the waker after the lock"]
    pub fn forget(&mut self, id: DatagramId) -> Option<Waker> {
        self.tracked.remove(&id)?.waiter.remove()
    }

    /// What is known of a datagram, and whether it was ever suspected to be lost.
    pub fn fate(&self, id: DatagramId) -> (Option<DatagramFate>, bool) {
        self.tracked.get(&id).map_or((None, false), |tracked| (tracked.fate, tracked.suspected))
    }

    /// Ready once the datagram's fate is final, or with what ended the connection before.
    pub fn poll_fate(&mut self, id: DatagramId, cx: &mut Context<'_>) -> Poll<Result<DatagramFate, C>> {
        self.poll_tracked(id, cx, |fate| fate.is_final(), false)
    }

    /// Ready once the datagram has come further than `reported`, or at once if it can come no
    /// further.
    pub fn poll_progress(
        &mut self,
        id: DatagramId,
        reported: Option<DatagramFate>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<DatagramFate, C>> {
        self.poll_tracked(id, cx, |fate| fate.is_final() || Some(fate) != reported, true)
    }

    fn poll_tracked(
        &mut self,
        id: DatagramId,
        cx: &mut Context<'_>,
        is_ready: impl FnOnce(DatagramFate) -> bool,
        wants_every_step: bool,
    ) -> Poll<Result<DatagramFate, C>> {
        let tracked = self.tracked.entry(id).or_default();
        match (tracked.fate, &self.ended) {
            (Some(fate), _) if is_ready(fate) => Poll::Ready(Ok(fate)),
            (_, Some(cause)) => Poll::Ready(Err(cause.clone())),
            (_, None) => {
                tracked.wants_every_step = wants_every_step;
                tracked.waiter.register(cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    // ---- Receiving ------------------------------------------------------------------------------

    /// Forgets a future of [`Self::poll_read`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget_reader(&mut self, key: WaiterKey) -> Option<Waker> {
        self.readers.remove(key)
    }

    /// Ready with the oldest datagram that waits. Those that came before the connection ended come
    /// before the error.
    pub fn poll_read(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Result<Bytes, C>> {
        match (self.take_oldest(), &self.ended) {
            (Some(datagram), _) => Poll::Ready(Ok(datagram)),
            (None, Some(cause)) => Poll::Ready(Err(cause.clone())),
            (None, None) => {
                self.readers.register(key, cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    /// How many of the peer's datagrams were dropped because nobody read them in time.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Nobody will read any more.
    pub fn abandon(&mut self) {
        // They are copies of our own: dropping them runs no foreign code.
        self.received = VecDeque::new();
        self.received_cost = 0;
    }

    fn take_oldest(&mut self) -> Option<Bytes> {
        let datagram = self.received.pop_front()?;
        self.received_cost -= cost(&datagram);
        Some(datagram)
    }

    // ---- What MsQuic says -----------------------------------------------------------------------

    /// DATAGRAM_STATE_CHANGED.
    pub fn on_state_changed(&mut self, max_size: Option<u16>) {
        self.max_size = max_size;
    }

    /// DATAGRAM_SEND_STATE_CHANGED.
    pub fn on_send_change(&mut self, id: DatagramId, change: SendChange) -> Wakeups {
        let mut wakeups = Wakeups::none();
        if self.ended.is_some() {
            // The wait has ended with the connection. What was known before stays: CANCELED and
            // LOST_DISCARDED now only say that MsQuic clears away.
            return wakeups;
        }
        if let Some(tracked) = self.tracked.get_mut(&id) {
            tracked.fate = Some(change.fate());
            tracked.suspected |= matches!(change, SendChange::LostSuspect | SendChange::AcknowledgedSpurious);
            if change.is_final() || tracked.wants_every_step {
                tracked.waiter.take_into(&mut wakeups);
            }
        }
        wakeups
    }

    /// DATAGRAM_RECEIVED. The oldest give way until the new one fits into `limit`; the newest is
    /// always kept.
    pub fn on_received(&mut self, datagram: Bytes, limit: usize) -> Wakeups {
        let mut wakeups = Wakeups::none();
        if self.ended.is_some() {
            return wakeups;
        }
        let cost = cost(&datagram);
        while self.received_cost.saturating_add(cost) > limit && self.take_oldest().is_some() {
            self.dropped += 1;
        }
        self.received_cost += cost;
        self.received.push_back(datagram);
        self.readers.take_into(&mut wakeups);
        wakeups
    }

    /// The connection ended because of `cause`. The first cause is kept.
    pub fn on_closed(&mut self, cause: &C) -> Wakeups {
        let mut wakeups = Wakeups::none();
        if self.ended.is_none() {
            self.ended = Some(cause.clone());
            self.readers.take_into(&mut wakeups);
            self.senders.take_into(&mut wakeups);
            for tracked in self.tracked.values_mut() {
                tracked.waiter.append_to(&mut wakeups);
            }
        }
        wakeups
    }
}

impl<C> Retire for Datagrams<C> {
    fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    fn take_retired(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.retired)
    }
}

/// What a waiting datagram costs: its bytes, and what keeping even an empty one takes.
fn cost(datagram: &Bytes) -> usize {
    datagram.len() + OVERHEAD
}

/// The same of one that waits to be sent.
fn queued_cost(size: u64) -> u64 {
    size.saturating_add(OVERHEAD as u64)
}

/// A place in the queue, which grows by doubling, and the allocator's own share.
const OVERHEAD: usize = 96;

#[cfg(test)]
mod tests;
