//! [`Budget`]: what the connections of a process hold together, and how much they may.
//!
//! Each stream may hold as much as is left of the budget. One alone gets to a half of it, two to a
//! third each, and a hundred to a hundredth: whoever holds more than the others has to wait until it
//! holds as little as is left. Nobody counts who there is, and a part of the budget is always free
//! for whoever comes next. It is how switches share the memory for their queues.

use std::sync::atomic::{AtomicI64, Ordering};

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

/// What one stream holds of a [`Budget`]. It is given back when this is dropped.
///
/// The budget's count is one for the whole process, so it is not told of each byte: it follows in
/// steps of [`Budget::LEAST_WINDOW`], and to the last byte when nothing is held any more. A stream
/// that carries less than a step never touches it.
#[derive(Debug, Default)]
pub struct Share {
    budget: Option<&'static Budget>,
    counted: u64,
}

impl Share {
    /// A share of `budget`, of no bytes yet.
    pub fn of(budget: &'static Budget) -> Self {
        Self { budget: Some(budget), counted: 0 }
    }

    /// What the stream may have of its `window` now.
    pub fn window(&self, window: u64) -> u64 {
        self.budget.map_or(window, |budget| budget.window(window))
    }

    /// The stream holds `bytes` now.
    pub fn hold(&mut self, bytes: u64) {
        if bytes.abs_diff(self.counted) >= Budget::LEAST_WINDOW || (bytes == 0 && self.counted > 0) {
            self.count(bytes);
        }
    }

    fn count(&mut self, bytes: u64) {
        let Some(budget) = self.budget else { return };
        // Both are far below 2^63, as memory is. The count guards nothing: every order of the
        // additions comes to the same sum.
        budget.used.fetch_add(bytes.wrapping_sub(self.counted) as i64, Ordering::Relaxed);
        self.counted = bytes;
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
    use super::*;

    const MIB: u64 = 1 << 20;

    fn budget(bytes: u64) -> &'static Budget {
        Box::leak(Box::new(Budget::new(bytes as i64)))
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
            let mut shares: Vec<_> = (0..count).map(|_| Share::of(budget)).collect();
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
        let mut hog = Share::of(budget);
        hog.hold(64 * MIB);
        let other = Share::of(budget);
        assert_eq!(other.window(MIB), Budget::LEAST_WINDOW);
        assert_eq!(other.window(100), 100);
        budget.set_limit(u64::MAX);
        assert_eq!(other.window(MIB), MIB);
    }

    #[test]
    fn what_is_held_is_counted_to_the_step_and_given_back_to_the_byte() {
        let budget = budget(MIB);
        let mut share = Share::of(budget);
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
}
