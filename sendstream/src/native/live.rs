//! Counts native handles, so that a shutdown can wait until none is left.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use sendstream_core::{
    foreign::contain,
    wait::{KeyedWait, Lock, LockGuard, Retire, WaiterKey, Waiters, Wakeups, wait_for},
};

use crate::native::registration::Registration;

/// A number of handles, and who waits for it to be 0.
#[derive(Debug, Default)]
pub(crate) struct HandleCount(Lock<Count>);

#[derive(Debug, Default)]
struct Count {
    handles: usize,
    waiters: Waiters,
    /// Wakers that were replaced, to be dropped outside of the lock.
    retired: Vec<Waker>,
}

impl Retire for Count {
    fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    fn take_retired(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.retired)
    }
}

/// The native handles of one server, or of one client: counted for themselves and in their
/// registration.
#[derive(Debug, Clone)]
pub(crate) struct LiveHandles(Arc<Group>);

#[derive(Debug)]
struct Group {
    count: HandleCount,
    registration: Registration,
}

/// Counts as one handle until dropped, which its owner does after the handle was closed. Keeps the
/// registration open.
#[derive(Debug)]
pub(crate) struct LiveGuard(LiveHandles);

impl LiveHandles {
    /// A group without handles.
    pub(crate) fn new(registration: Registration) -> Self {
        Self(Arc::new(Group { count: HandleCount::default(), registration }))
    }

    /// What all of them are below.
    pub(crate) fn registration(&self) -> &Registration {
        &self.0.registration
    }

    /// Counts one more handle.
    pub(crate) fn enter(&self) -> LiveGuard {
        self.0.count.enter();
        self.0.registration.count().enter();
        LiveGuard(self.clone())
    }

    /// Resolves when every handle is closed. Any number of tasks may wait.
    pub(crate) async fn none_left(&self) {
        wait_for(&self.0.count).await;
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        let group = &self.0.0;
        let mut wakeups = group.registration.count().leave();
        wakeups.merge(group.count.leave());
        contain("a waker", || wakeups.wake_now());
    }
}

impl HandleCount {
    fn enter(&self) {
        self.lock().handles += 1;
    }

    fn leave(&self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        let mut count = self.lock();
        count.handles -= 1;
        if count.handles == 0 {
            count.waiters.take_into(&mut wakeups);
        }
        wakeups
    }

    fn lock(&self) -> LockGuard<'_, Count> {
        self.0.lock()
    }
}

impl KeyedWait for &HandleCount {
    type Output = ();

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<()> {
        let mut guard = self.lock();
        let count = &mut *guard;
        if count.handles == 0 {
            return Poll::Ready(());
        }
        count.waiters.register(key, cx.waker(), &mut count.retired);
        Poll::Pending
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.lock().waiters.remove(key)
    }
}
