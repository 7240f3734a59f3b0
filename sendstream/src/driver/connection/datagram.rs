//! A connection's datagrams (RFC 9221): what became of those that were sent, and which of the peer's wait to be read.
//!
//! Pure, like `state.rs`, and behind a lock of its own, so that a flood of datagrams and the streams do not wait for one
//! another. `datagram/lent.rs` is the way to MsQuic.
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
//! A datagram is tracked from `begin_send` until the user's `SendDatagram` is dropped; what MsQuic says of one that is not
//! tracked is nobody's concern. The end of the connection ends the wait for every fate that is not final by then, at once:
//! MsQuic's own last words (CANCELED for what was queued, LOST_DISCARDED for what was on its way) come later, and say less.

pub(crate) mod lent;

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use sendstream_core::wait::{Retire, Waiter, WaiterKey, Waiters, Wakeups};

use crate::{
    datagram::{DatagramFate, SendDatagramError},
    types::error::ConnectionError,
};

/// Everything about a connection's datagrams that changes, behind a lock of `ConnectionInner`.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
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
    /// What ended the connection. Written once.
    ended: Option<ConnectionError>,
    /// Wakers that were replaced, to be dropped outside of the lock.
    retired: Vec<Waker>,
}

/// Names one sent datagram among those of its connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DatagramId(u64);

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
pub(crate) enum SendChange {
    Sent,
    LostSuspect,
    LostDiscarded,
    Acknowledged,
    AcknowledgedSpurious,
    Canceled,
}

impl SendChange {
    /// Whether MsQuic says no more about the datagram after this (`QUIC_DATAGRAM_SEND_STATE_IS_FINAL`).
    pub(crate) fn is_final(self) -> bool {
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

impl Datagrams {
    // ---- Sending ------------------------------------------------------------------------------------------------

    /// The largest payload that can be sent; `None` while none can.
    pub(crate) fn max_size(&self) -> Option<usize> {
        if self.ended.is_some() { None } else { self.max_size.map(usize::from) }
    }

    /// A datagram of `size` bytes is about to be handed to MsQuic.
    pub(crate) fn begin_send(&mut self, size: u64) -> Result<DatagramId, SendDatagramError> {
        if let Some(cause) = &self.ended {
            return Err(SendDatagramError::ConnectionLost(cause.clone()));
        }
        match self.max_size {
            None => Err(SendDatagramError::UnsupportedByPeer),
            Some(max) if size > u64::from(max) => Err(SendDatagramError::TooLarge { max: max.into() }),
            Some(_) => {
                self.last_id += 1;
                let id = DatagramId(self.last_id);
                self.tracked.insert(id, Tracked::default());
                Ok(id)
            }
        }
    }

    /// Nobody asks about the datagram any more. The waker is handed out because dropping it may run foreign code.
    #[must_use = "drop the waker after the lock"]
    pub(crate) fn forget(&mut self, id: DatagramId) -> Option<Waker> {
        self.tracked.remove(&id)?.waiter.remove()
    }

    /// What is known of a datagram, and whether it was ever suspected to be lost.
    pub(crate) fn fate(&self, id: DatagramId) -> (Option<DatagramFate>, bool) {
        self.tracked.get(&id).map_or((None, false), |tracked| (tracked.fate, tracked.suspected))
    }

    /// Ready once the datagram's fate is final, or is to be known no more.
    pub(crate) fn poll_fate(
        &mut self,
        id: DatagramId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<DatagramFate, SendDatagramError>> {
        self.poll_tracked(id, cx, |fate| fate.is_final(), false)
    }

    /// Ready once the datagram has come further than `reported`, or at once if it can come no further.
    pub(crate) fn poll_progress(
        &mut self,
        id: DatagramId,
        reported: Option<DatagramFate>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<DatagramFate, SendDatagramError>> {
        self.poll_tracked(id, cx, |fate| fate.is_final() || Some(fate) != reported, true)
    }

    fn poll_tracked(
        &mut self,
        id: DatagramId,
        cx: &mut Context<'_>,
        is_ready: impl FnOnce(DatagramFate) -> bool,
        wants_every_step: bool,
    ) -> Poll<Result<DatagramFate, SendDatagramError>> {
        let tracked = self.tracked.entry(id).or_default();
        match (tracked.fate, &self.ended) {
            (Some(fate), _) if is_ready(fate) => Poll::Ready(Ok(fate)),
            (_, Some(cause)) => Poll::Ready(Err(SendDatagramError::ConnectionLost(cause.clone()))),
            (_, None) => {
                tracked.wants_every_step = wants_every_step;
                tracked.waiter.register(cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    // ---- Receiving ----------------------------------------------------------------------------------------------

    /// Forgets a future of [`Self::poll_read`].
    pub(crate) fn forget_reader(&mut self, key: WaiterKey) -> Option<Waker> {
        self.readers.remove(key)
    }

    /// Ready with the oldest datagram that waits. Those that came before the connection ended come before the error.
    pub(crate) fn poll_read(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Result<Bytes, ConnectionError>> {
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
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Nobody will read any more.
    pub(crate) fn abandon(&mut self) {
        // They are copies of our own: dropping them runs no foreign code.
        self.received = VecDeque::new();
        self.received_cost = 0;
    }

    fn take_oldest(&mut self) -> Option<Bytes> {
        let datagram = self.received.pop_front()?;
        self.received_cost -= cost(&datagram);
        Some(datagram)
    }

    // ---- What MsQuic says ---------------------------------------------------------------------------------------

    /// DATAGRAM_STATE_CHANGED.
    pub(crate) fn on_state_changed(&mut self, max_size: Option<u16>) {
        self.max_size = max_size;
    }

    /// DATAGRAM_SEND_STATE_CHANGED.
    pub(crate) fn on_send_change(&mut self, id: DatagramId, change: SendChange) -> Wakeups {
        let mut wakeups = Wakeups::none();
        if self.ended.is_some() {
            // The wait has ended with the connection. What was known before stays: CANCELED and LOST_DISCARDED now only
            // say that MsQuic clears away.
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

    /// DATAGRAM_RECEIVED. The oldest give way until the new one fits into `limit`; the newest is always kept.
    pub(crate) fn on_received(&mut self, datagram: Bytes, limit: usize) -> Wakeups {
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
    pub(crate) fn on_closed(&mut self, cause: &ConnectionError) -> Wakeups {
        let mut wakeups = Wakeups::none();
        if self.ended.is_none() {
            self.ended = Some(cause.clone());
            self.readers.take_into(&mut wakeups);
            for tracked in self.tracked.values_mut() {
                tracked.waiter.append_to(&mut wakeups);
            }
        }
        wakeups
    }
}

impl Retire for Datagrams {
    fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    fn take_retired(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.retired)
    }
}

/// What a waiting datagram costs: its bytes, and what keeping even an empty one takes.
fn cost(datagram: &Bytes) -> usize {
    /// A place in the queue, which grows by doubling, and the allocator's own share.
    const OVERHEAD: usize = 96;
    datagram.len() + OVERHEAD
}

#[cfg(test)]
mod tests;
