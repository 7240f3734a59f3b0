//! [`Budget`]: what the connections of a process hold together, and how much they may.
//!
//! Each stream may hold as much as is left of the budget. One alone gets to a half of it, two to a
//! third each, and a hundred to a hundredth: whoever holds more than the others has to wait until it
//! holds as little as is left. Nobody counts who there is, and a part of the budget is always free
//! for whoever comes next. It is how switches share the memory for their queues.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicI64, Ordering},
};

use crate::flight::{self, Flight};

/// How many bytes may be held, how many are, and whether a peer ever got less credit for that.
///
/// Its layout is that of a struct of C, where it is shared with one.
#[derive(Debug)]
#[repr(C)]
pub struct Budget {
    limit: AtomicI64,
    used: AtomicI64,
    shrunk: AtomicI64,
}

impl Budget {
    /// The least that is left of a window. A stream with less would stand still between
    /// acknowledgements.
    pub const LEAST_WINDOW: u64 = 16 * 1024;

    /// Where its fields lie: the limit, what is used, and whether credit has shrunk.
    pub const OFFSETS: [usize; 3] =
        [std::mem::offset_of!(Self, limit), std::mem::offset_of!(Self, used), std::mem::offset_of!(Self, shrunk)];

    /// A budget of `limit` bytes, of which none is used.
    pub const fn new(limit: i64) -> Self {
        Self { limit: AtomicI64::new(limit), used: AtomicI64::new(0), shrunk: AtomicI64::new(0) }
    }

    /// How many bytes may be held.
    pub fn limit(&self) -> u64 {
        u64::try_from(self.limit.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Sets how many bytes may be held.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// How many bytes are held.
    pub fn used(&self) -> u64 {
        u64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether a peer may have got less credit than a window of it, since there was too little left.
    pub fn has_shrunk_credit(&self) -> bool {
        self.shrunk.load(Ordering::Relaxed) != 0
    }

    /// Says that a peer got less.
    #[cfg(test)]
    pub(crate) fn shrink_credit(&self) {
        self.shrunk.store(1, Ordering::Relaxed);
    }

    /// What a stream may have of its `window` now.
    pub fn window(&self, window: u64) -> u64 {
        window.min(self.limit().saturating_sub(self.used()).max(Self::LEAST_WINDOW))
    }
}

/// What one stream holds of a [`Budget`], and of a [`Flight`]. It is given back when this is dropped.
///
/// Their counts are one for the whole process, so they are not told of each byte: they follow in
/// steps of [`Budget::LEAST_WINDOW`], and to the last byte when nothing is held any more. A stream
/// that carries less than a step never touches them.
#[derive(Debug, Default)]
pub struct Share {
    process: Option<(&'static Budget, &'static Flight)>,
    counted: u64,
    /// How many bytes are of use in flight, where that is known.
    useful: Option<NonZeroU64>,
}

impl Share {
    /// A share of a process's `budget` and `flight`, of no bytes yet.
    pub fn of(budget: &'static Budget, flight: &'static Flight) -> Self {
        Self { process: Some((budget, flight)), ..Self::default() }
    }

    /// What the stream may have of its `window` now.
    pub fn window(&self, window: u64) -> u64 {
        let Some((budget, flight)) = self.process else { return window };
        budget.window(self.useful.map_or(window, |useful| window.min(flight.window(useful.get()))))
    }

    /// Says how many bytes in flight are of use. With `None` nothing is taken of the flight.
    pub fn set_useful(&mut self, bytes: Option<NonZeroU64>) {
        let taken = self.taken();
        self.useful = bytes;
        self.take(taken);
    }

    /// The stream holds `bytes` now.
    #[inline]
    pub fn hold(&mut self, bytes: u64) {
        if bytes.abs_diff(self.counted) >= Budget::LEAST_WINDOW || (bytes == 0 && self.counted > 0) {
            self.count(bytes);
        }
    }

    fn count(&mut self, bytes: u64) {
        let Some((budget, _)) = self.process else { return };
        let taken = self.taken();
        // Both are far below 2^63, as memory is. The count guards nothing: every order of the
        // additions comes to the same sum.
        budget.used.fetch_add(bytes.wrapping_sub(self.counted) as i64, Ordering::Relaxed);
        self.counted = bytes;
        self.take(taken);
    }

    /// What the stream takes of the flight.
    fn taken(&self) -> i64 {
        self.useful.map_or(0, |useful| flight::taken(self.counted, useful.get()))
    }

    /// Has the flight follow, where the stream took `before`.
    fn take(&self, before: i64) {
        let taken = self.taken();
        if let (Some((_, flight)), true) = (self.process, taken != before) {
            flight.change(before, taken);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.count(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn budget(bytes: u64) -> &'static Budget {
        Box::leak(Box::new(Budget::new(bytes as i64)))
    }

    fn share(budget: &'static Budget) -> Share {
        Share::of(budget, Box::leak(Box::new(Flight::new(NonZeroUsize::MIN))))
    }

    /// Lets streams without end take what they may, until nothing changes any more.
    fn settle(shares: &mut [Share]) -> Vec<u64> {
        for _ in 0..1000 {
            for share in &mut *shares {
                let held = share.window(u64::MAX).min(share.counted + 64 * 1024);
                share.hold(held);
            }
        }
        shares.iter().map(|share| share.counted).collect()
    }

    #[test]
    fn streams_share_a_budget_evenly_and_leave_a_part_of_it_free() {
        for count in [1, 2, 9] {
            let budget = budget(60 * MIB);
            let mut shares: Vec<_> = (0..count).map(|_| share(budget)).collect();
            let even = 60 * MIB / (count + 1);
            for held in settle(&mut shares) {
                assert!(held.abs_diff(even) <= even / 8, "{count}: {held}");
            }
            assert!(budget.used() < budget.limit());
            drop(shares);
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn a_window_is_never_less_than_the_least_unless_it_was() {
        let budget = budget(MIB);
        let mut hog = share(budget);
        hog.hold(64 * MIB);
        let other = share(budget);
        assert_eq!(other.window(MIB), Budget::LEAST_WINDOW);
        assert_eq!(other.window(100), 100);
        budget.set_limit(u64::MAX);
        assert_eq!(other.window(MIB), MIB);
    }

    #[test]
    fn what_is_held_is_counted_to_the_step_and_given_back_to_the_byte() {
        let budget = budget(MIB);
        let mut share = share(budget);
        share.hold(Budget::LEAST_WINDOW - 1);
        assert_eq!(budget.used(), 0);
        share.hold(100_000);
        share.hold(100_001);
        assert_eq!(budget.used(), 100_000);
        share.hold(7);
        assert_eq!(budget.used(), 7);
        share.hold(0);
        assert_eq!(budget.used(), 0);
        share.hold(50_000);
        drop(share);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn without_a_budget_a_window_is_what_it_is() {
        let mut share = Share::default();
        share.hold(MIB);
        assert_eq!(share.window(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_a_stream_takes_of_the_flight_follows_its_path_and_is_given_back() {
        let budget = budget(1 << 40);
        let flight: &'static Flight = Box::leak(Box::new(Flight::new(NonZeroUsize::MIN)));
        let mut share = Share::of(budget, flight);
        share.hold(2 * MIB);
        assert_eq!(flight.taken(), 0, "nothing is known of its path");
        for useful in [NonZeroU64::new(4 * MIB), NonZeroU64::new(2 * MIB), None, NonZeroU64::new(3 * MIB)] {
            share.set_useful(useful);
            assert_eq!(flight.taken(), useful.map_or(0, |useful| flight::taken(2 * MIB, useful.get())));
        }
        share.hold(MIB);
        assert!(flight.taken() > 0);
        share.hold(0);
        assert_eq!(flight.taken(), 0);
        share.hold(2 * MIB);
        drop(share);
        assert_eq!((flight.taken(), budget.used()), (0, 0));
    }
}
