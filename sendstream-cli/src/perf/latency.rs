//! How long things took: a histogram that several tasks fill.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;

/// Times in nanoseconds, each exact to a thousandth.
#[derive(Debug)]
pub(crate) struct Latency(Mutex<Histogram<u64>>);

impl Latency {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(empty()))
    }

    /// One more. What takes more than [`MOST`] counts as that.
    pub(crate) fn record(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(nanoseconds.max(1));
    }

    /// Forgets what there was: the omitted beginning is over.
    pub(crate) fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reset();
    }

    pub(crate) fn snapshot(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MOST, 3).expect("the bounds are constant, and were tried")
}

/// A minute, in nanoseconds.
const MOST: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_too_short_or_too_long_to_count() {
        let latency = Latency::new();
        for time in [Duration::ZERO, Duration::from_millis(3), Duration::from_secs(3600)] {
            latency.record(time);
        }
        let histogram = latency.snapshot();
        assert_eq!(histogram.len(), 3);
        assert!(histogram.equivalent(histogram.max(), MOST));
        latency.reset();
        assert!(latency.snapshot().is_empty());
    }
}
