//! Counts the objects that MsQuic works for, so that a shutdown can wait until none is left, and
//! knows the connections among them, so that all can be closed.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use sendstream_core::{
    foreign::contain,
    wait::{KeyedWait, Lock, LockGuard, Retire, WaiterKey, Waiters, Wakeups, wait_for},
};

use slab::Slab;

use crate::native::{fork::is_forked, registration::Registration};

/// A number of objects, and who waits for it to be 0.
#[derive(Debug, Default)]
pub(crate) struct LiveCount(Lock<Count>);

#[derive(Debug, Default)]
struct Count {
    live: usize,
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

/// What can be closed with all others of its group: a connection.
pub(crate) trait Closable: Send + Sync {
    /// Closes it for the application, unless it is over.
    fn close_with_all(self: Arc<Self>, code: u64, reason: &str);

    /// Whether it is not over.
    fn is_open(&self) -> bool;
}

/// The listeners and connections of one server, or the connections of one client: counted for
/// themselves and in their registration.
#[derive(Debug, Clone)]
pub(crate) struct LiveHandles(Arc<Group>);

struct Group {
    count: LiveCount,
    registration: Registration,
    /// The connections. Held only to look at it or to change it.
    closable: Mutex<Slab<Weak<dyn Closable>>>,
}

/// Counts as one object until MsQuic is done with it ([`Self::over`]), or until dropped, which its
/// owner does after the handle was closed. Keeps the registration open until then.
#[derive(Debug)]
pub(crate) struct LiveGuard {
    group: LiveHandles,
    /// The place of what can be closed.
    place: Option<usize>,
    is_over: AtomicBool,
}

impl LiveHandles {
    /// A group without objects.
    pub(crate) fn new(registration: Registration) -> Self {
        Self(Arc::new(Group { count: LiveCount::default(), registration, closable: Mutex::default() }))
    }

    /// What all of them are below.
    pub(crate) fn registration(&self) -> &Registration {
        &self.0.registration
    }

    /// Counts one more object.
    pub(crate) fn enter(&self) -> LiveGuard {
        self.0.count.enter();
        self.0.registration.count().enter();
        LiveGuard { group: self.clone(), place: None, is_over: AtomicBool::new(false) }
    }

    /// Closes every connection that there is now.
    pub(crate) fn close_all(&self, code: u64, reason: &str) {
        if is_forked() {
            return;
        }
        for connection in self.connections() {
            connection.close_with_all(code, reason);
        }
    }

    /// How many connections there are that are not over.
    pub(crate) fn open_connections(&self) -> usize {
        if is_forked() {
            return 0;
        }
        self.connections().iter().filter(|connection| connection.is_open()).count()
    }

    /// The connections. They are dropped outside of the lock, which the last reference takes.
    fn connections(&self) -> Vec<Arc<dyn Closable>> {
        self.0.closable().iter().filter_map(|(_, one)| one.upgrade()).collect()
    }

    /// Resolves when MsQuic is done with every object. Any number of tasks may wait.
    pub(crate) async fn none_left(&self) {
        wait_for(&self.0.count).await;
    }
}

impl Group {
    fn closable(&self) -> MutexGuard<'_, Slab<Weak<dyn Closable>>> {
        self.closable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("registration", &self.registration).finish_non_exhaustive()
    }
}

impl LiveGuard {
    /// What it guards is `connection`, which [`LiveHandles::close_all`] closes.
    pub(crate) fn of(mut self, connection: Weak<dyn Closable>) -> Self {
        self.place = Some(self.group.0.closable().insert(connection));
        self
    }

    /// MsQuic is done with the object. Its handle may be open for as long as somebody has it.
    pub(crate) fn over(&self) {
        // Whoever counted in a process that was forked from it may have been in the middle of that.
        if is_forked() || self.is_over.swap(true, Ordering::Relaxed) {
            return;
        }
        let group = &self.group.0;
        let mut wakeups = group.registration.count().leave();
        wakeups.merge(group.count.leave());
        contain("a waker", || wakeups.wake_now());
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        if let Some(place) = self.place
            && !is_forked()
        {
            self.group.0.closable().remove(place);
        }
        self.over();
    }
}

impl LiveCount {
    fn enter(&self) {
        self.lock().live += 1;
    }

    fn leave(&self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        let mut count = self.lock();
        count.live -= 1;
        if count.live == 0 {
            count.waiters.take_into(&mut wakeups);
        }
        wakeups
    }

    fn lock(&self) -> LockGuard<'_, Count> {
        self.0.lock()
    }
}

impl KeyedWait for &LiveCount {
    type Output = ();

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<()> {
        if is_forked() {
            return Poll::Ready(());
        }
        let mut guard = self.lock();
        let count = &mut *guard;
        if count.live == 0 {
            return Poll::Ready(());
        }
        count.waiters.register(key, cx.waker(), &mut count.retired);
        Poll::Pending
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        if is_forked() {
            return None;
        }
        self.lock().waiters.remove(key)
    }
}
