//! [`Flight`]: what the streams of a process may have in flight together.
//!
//! A stream may have in flight what its path can hold at a processor's pace, see
//! [`useful_bytes`](crate::stream::state::useful_bytes). A hundred streams cannot all have that pace:
//! what more they have in flight waits in queues. That makes round trips longer, which looks like
//! longer paths. So a stream counts as the part of a processor that its bytes would keep busy, and all
//! of them together take as many processors as there are. Each may take as much as is left, as in a
//! [`Budget`](crate::budget::Budget), so they share it evenly. A megabyte is much on a short path and
//! little on a long one, so bytes of different paths compare that way.
//!
//! The first window of a stream counts nothing, and neither does a slow stream that needs no more. One
//! whose peer has stopped reading does count. So there is always a sixteenth left for each.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicI64, Ordering},
};

use crate::stream::state::DEFAULT_WINDOW;

/// How many processors' worth of bytes is in flight, and how many there are.
#[derive(Debug)]
pub struct Flight {
    /// In parts of a [`WHOLE`].
    taken: AtomicI64,
    most: i64,
}

/// One processor.
const WHOLE: i64 = 1 << 16;

/// What is left for a stream, whatever others take.
const LEAST: i64 = WHOLE / 16;

impl Flight {
    /// For a process that may use so many processors. One stream alone, which gets at most a half of
    /// what there is to share, is never held back.
    pub fn new(processors: NonZeroUsize) -> Self {
        let processors = i64::try_from(processors.get()).unwrap_or(i64::MAX).clamp(2, 1 << 32);
        Self { taken: AtomicI64::new(0), most: processors * WHOLE }
    }

    /// What a stream may have in flight now, of which `useful` bytes are of use.
    pub fn window(&self, useful: u64) -> u64 {
        let free = (self.most - self.taken()).clamp(LEAST, WHOLE);
        let first = useful.min(DEFAULT_WINDOW);
        first + part_of(useful - first, free)
    }

    /// How much the streams take, in parts of a processor's 65,536.
    pub(crate) fn taken(&self) -> i64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Has a stream take `taken` in place of `before`.
    pub(crate) fn change(&self, before: i64, taken: i64) {
        // The count guards nothing: every order of the additions comes to the same sum.
        self.taken.fetch_add(taken - before, Ordering::Relaxed);
    }
}

/// How much of a processor a stream takes that has `bytes` in flight, of which `useful` are of use.
pub(crate) fn taken(bytes: u64, useful: u64) -> i64 {
    let first = useful.min(DEFAULT_WINDOW);
    let (beyond, most) = (bytes.min(useful) - first.min(bytes), useful - first);
    if most == 0 { 0 } else { (u128::from(beyond) * WHOLE as u128 / u128::from(most)) as i64 }
}

fn part_of(bytes: u64, part: i64) -> u64 {
    (u128::from(bytes) * part as u128 / WHOLE as u128) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn flight(processors: usize) -> Flight {
        Flight::new(NonZeroUsize::new(processors).unwrap())
    }

    /// Lets streams with these paths take what they may, until nothing changes any more.
    fn settle(flight: &Flight, useful: &[u64]) -> Vec<u64> {
        let mut held = vec![0; useful.len()];
        for _ in 0..1000 {
            for (held, useful) in held.iter_mut().zip(useful) {
                let next = flight.window(*useful).min(*held + 16 * 1024);
                flight.change(taken(*held, *useful), taken(next, *useful));
                *held = next;
            }
        }
        held
    }

    #[test]
    fn one_stream_has_all_that_is_of_use() {
        for processors in [1, 2, 64] {
            assert_eq!(settle(&flight(processors), &[3 * MIB]), [3 * MIB]);
        }
    }

    #[test]
    fn many_streams_share_what_the_processors_can_send() {
        for (processors, streams) in [(1, 9), (2, 20), (4, 10)] {
            let useful = vec![3 * MIB; streams as usize];
            let even = DEFAULT_WINDOW + (3 * MIB - DEFAULT_WINDOW) * 2.max(processors) / (streams + 1);
            for held in settle(&flight(processors as usize), &useful) {
                assert!(held.abs_diff(even) <= even / 8, "{processors} {streams}: {held}");
            }
        }
    }

    #[test]
    fn a_megabyte_on_long_paths_takes_little_from_short_ones() {
        let flight = flight(2);
        let (short, long) = (2 * MIB, 200 * MIB);
        for _ in 0..20 {
            flight.change(0, taken(MIB, long));
        }
        assert_eq!(flight.window(short), short);
        assert!((20 * WHOLE / 250..20 * WHOLE / 200).contains(&flight.taken()));
    }

    #[test]
    fn streams_that_stand_still_leave_something_for_each_other_one() {
        let flight = flight(2);
        for _ in 0..1000 {
            let held = flight.window(2 * MIB);
            flight.change(0, taken(held, 2 * MIB));
        }
        let far = 126 * MIB;
        assert!(flight.window(far) > 7 * MIB, "half of a gigabit per second at 0.1 s");
        assert!(flight.window(2 * MIB) > DEFAULT_WINDOW + 100 * 1024);
    }

    #[test]
    fn a_first_window_is_always_there_and_takes_nothing() {
        let flight = flight(2);
        assert_eq!(taken(DEFAULT_WINDOW, 3 * MIB), 0);
        flight.change(0, 100 * WHOLE);
        assert!(flight.window(3 * MIB) > DEFAULT_WINDOW);
        assert_eq!(flight.window(1000), 1000);
        assert_eq!(taken(0, 0), 0);
        assert_eq!(taken(u64::MAX, u64::MAX), WHOLE);
    }
}
