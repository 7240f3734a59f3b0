//! What went one way by this end's count, while a run goes on.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::protocol::{Tally, Total};

/// Counts of one direction. Several tasks add to them, and others look at them meanwhile.
#[derive(Debug)]
pub(crate) struct Counts {
    /// The bytes of each slot.
    slots: Box<[AtomicU64]>,
    messages: AtomicU64,
    /// What there was when the omitted beginning was over.
    omitted: Mutex<Snapshot>,
    /// When this direction was over.
    ended: Mutex<Option<Instant>>,
}

/// Counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    pub(crate) slots: Vec<u64>,
    pub(crate) messages: u64,
}

impl Counts {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            messages: AtomicU64::new(0),
            omitted: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    /// So many bytes more of a slot.
    pub(crate) fn add(&self, slot: usize, bytes: usize) {
        self.slots[slot].fetch_add(bytes as u64, Relaxed);
    }

    /// A whole message more, of so many bytes.
    pub(crate) fn add_message(&self, bytes: usize) {
        self.add(0, bytes);
        self.messages.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            slots: self.slots.iter().map(|slot| slot.load(Relaxed)).collect(),
            messages: self.messages.load(Relaxed),
        }
    }

    /// All of it, with what is omitted.
    pub(crate) fn total(&self) -> Total {
        let bytes = self.slots.iter().map(|slot| slot.load(Relaxed)).sum();
        Total { bytes, messages: self.messages.load(Relaxed) }
    }

    /// The omitted beginning is over.
    pub(crate) fn omit(&self) {
        *self.omitted.lock().unwrap_or_else(PoisonError::into_inner) = self.snapshot();
    }

    /// What there was when the omitted beginning was over.
    pub(crate) fn omitted(&self) -> Snapshot {
        self.omitted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This direction may be over: what is still waited for takes no time of it.
    pub(crate) fn may_end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// This direction is over, now unless it was said before.
    pub(crate) fn end(&self) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    }

    /// When it was over, or may have been.
    pub(crate) fn ended(&self) -> Option<Instant> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outcome of a run that began to count at `begin`.
    pub(crate) fn tally(&self, begin: Instant) -> Tally {
        let now = self.snapshot();
        let total = Total { bytes: now.bytes(), messages: now.messages };
        let measured = now.since(&self.omitted());
        let time = self.ended().map_or(Duration::ZERO, |ended| ended.saturating_duration_since(begin));
        Tally {
            streams: measured.slots,
            messages: measured.messages,
            micros: u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
            total,
        }
    }
}

impl Snapshot {
    /// What came after `earlier`, which may have no slots: then it counts as none. Nothing, where the
    /// two were taken in the other order.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.slots.iter().copied().chain(std::iter::repeat(0));
        Self {
            slots: self.slots.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect(),
            messages: self.messages.saturating_sub(earlier.messages),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(*slot))
    }
}

/// How many bytes may still be sent.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Option<AtomicU64>,
    /// Until then everything may be sent, and counts for nothing.
    free_until: Instant,
}

impl Budget {
    /// `bytes` is `None` where time alone counts.
    pub(crate) fn new(bytes: Option<u64>, free_until: Instant) -> Self {
        Self { left: bytes.map(AtomicU64::new), free_until }
    }

    /// Takes up to `most` bytes; none are left when it is 0.
    pub(crate) fn take(&self, most: usize) -> usize {
        let Some(left) = &self.left else { return most };
        if Instant::now() < self.free_until {
            return most;
        }
        let take = |left: u64| Some(left - left.min(most as u64));
        let before = left.fetch_update(Relaxed, Relaxed, take).unwrap_or_default();
        usize::try_from(before).map_or(most, |before| before.min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_omitted_counts_in_the_total_alone() {
        let counts = Counts::new(2);
        counts.add(0, 10);
        counts.add_message(5);
        counts.omit();
        counts.add(1, 7);
        counts.end();
        let tally = counts.tally(Instant::now());
        assert_eq!(tally.streams, [0, 7]);
        assert_eq!((tally.bytes(), tally.messages), (7, 0));
        assert_eq!(tally.total, Total { bytes: 22, messages: 1 });
    }

    #[test]
    fn a_budget_gives_every_byte_once() {
        let now = Instant::now();
        let budget = Budget::new(Some(10), now);
        assert_eq!([budget.take(4), budget.take(4), budget.take(4), budget.take(4)], [4, 4, 2, 0]);
        let free = Budget::new(Some(1), now + Duration::from_secs(3600));
        assert_eq!([free.take(4), free.take(4)], [4, 4]);
        assert_eq!(Budget::new(None, now).take(9), 9);
    }
}
