//! Tasks that count their wakes, for the tests of the state machines.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// A task that does nothing but count how often it is woken.
#[derive(Debug)]
pub struct Task {
    wakes: Arc<Wakes>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Task {
    /// A task of its own: no other one's waker wakes it.
    #[expect(clippy::new_without_default, reason = "a default says nothing of its being another one each time")]
    pub fn new() -> Self {
        let wakes = Arc::new(Wakes::default());
        Self { waker: Waker::from(wakes.clone()), wakes }
    }

    /// What wakes it.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Runs `poll` as this task.
    pub fn run<T>(&self, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        poll(&mut Context::from_waker(&self.waker))
    }

    /// How often it was woken so far.
    pub fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::Relaxed)
    }

    /// How many of its wakers are stored somewhere.
    pub fn stored(&self) -> usize {
        // One reference is `wakes`, one is `waker`.
        Arc::strong_count(&self.wakes) - 2
    }
}

/// What may have ended a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The peer did not answer in time.
    TimedOut,
    /// The peer did not want the connection.
    Refused,
}
