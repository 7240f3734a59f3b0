//! Counts native handles, so that a shutdown can wait until none is left.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::waiters::{KeyedWait, WaiterKey, Waiters, Wakeups, wait_for};

/// A group of native handles: those of one server, or of one client.
#[derive(Debug, Clone, Default)]
pub(crate) struct LiveHandles(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    handles: usize,
    waiters: Waiters,
}

/// Counts as one handle until dropped, which its owner does after the handle was closed.
#[derive(Debug)]
pub(crate) struct LiveGuard(LiveHandles);

impl LiveHandles {
    /// Counts one more handle.
    pub(crate) fn enter(&self) -> LiveGuard {
        self.lock().handles += 1;
        LiveGuard(self.clone())
    }

    /// Resolves when every handle is closed. Any number of tasks may wait.
    pub(crate) async fn none_left(&self) {
        wait_for(self).await;
    }

    fn leave(&self) {
        let mut wakeups = Wakeups::none();
        {
            let mut count = self.lock();
            count.handles -= 1;
            if count.handles == 0 {
                count.waiters.take_into(&mut wakeups);
            }
        }
        wakeups.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyedWait for &LiveHandles {
    type Output = ();

    fn new_key(&self) -> WaiterKey {
        self.lock().waiters.new_key()
    }

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<()> {
        let mut count = self.lock();
        if count.handles == 0 {
            return Poll::Ready(());
        }
        count.waiters.register(key, cx.waker());
        Poll::Pending
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.lock().waiters.remove(key)
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.0.leave();
    }
}
