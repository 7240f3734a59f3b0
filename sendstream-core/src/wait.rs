//! Stored wakers of waiting tasks, and the wakers that a transition hands out.
//!
//! Each state machine keeps one [`Waiters`] for each kind of wait. A transition that lets tasks go
//! on moves their wakers into a [`Wakeups`] and returns it. The caller drops the lock first, and
//! wakes then. A wake under the lock would be a deadlock when the woken task runs on the spot and
//! looks at the same state.

use std::{
    future::poll_fn,
    iter,
    ops::{Deref, DerefMut},
    option,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread, vec,
};

use crate::foreign::discard;

/// The tasks that wait for one kind of event that any number may wait for.
///
/// A waiter is known by its [`WaiterKey`], so polling a thousand times stores one waker. The first
/// waiter, mostly the only one, is stored without an allocation.
#[derive(Debug, Default)]
pub struct Waiters {
    first: Option<(WaiterKey, Waker)>,
    rest: Vec<(WaiterKey, Waker)>,
}

/// The one task that waits for a kind of event which only the owner of `&mut` can wait for.
#[derive(Debug, Default)]
pub struct Waiter(Option<Waker>);

impl Waiter {
    /// Stores `waker`, as [`Waiters::register`] does.
    pub fn register(&mut self, waker: &Waker, retired: &mut Vec<Waker>) {
        match &self.0 {
            Some(stored) if stored.will_wake(waker) => {}
            _ => retired.extend(self.0.replace(waker.clone())),
        }
    }

    /// Forgets the task. The waker is handed out as by [`Waiters::remove`].
    #[must_use = "drop the waker after the lock"]
    pub fn remove(&mut self) -> Option<Waker> {
        self.0.take()
    }

    /// Moves the task into `wakeups`.
    pub fn take_into(&mut self, wakeups: &mut Wakeups) {
        if let Some(waker) = self.0.take() {
            wakeups.add(waker);
        }
    }

    /// [`Self::take_into`] where very many tasks may wait: it does not look whether one is to be
    /// woken already, which would take time for each pair of them.
    pub fn append_to(&mut self, wakeups: &mut Wakeups) {
        wakeups.rest.extend(self.0.take());
    }

    /// How many waiters are stored.
    #[expect(clippy::len_without_is_empty, reason = "only tests count them")]
    pub fn len(&self) -> usize {
        usize::from(self.0.is_some())
    }
}

/// Names one waiter; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaiterKey(u64);

impl WaiterKey {
    /// The name of whoever polls without a future of its own. All who do share it, so only the task
    /// that polled last is woken.
    pub const LAST_POLL: Self = Self(0);

    /// A new name, for a future that may be one of several.
    #[expect(clippy::new_without_default, reason = "no two are the same, so none is the default")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Waiters {
    /// Stores `waker` for `key`, in place of the one stored before unless both wake the same task.
    /// The one that was replaced goes to `retired`, because dropping it may run foreign code, which
    /// must not happen under the lock.
    pub fn register(&mut self, key: WaiterKey, waker: &Waker, retired: &mut Vec<Waker>) {
        if let Some((_, stored)) = self.first.iter_mut().chain(&mut self.rest).find(|(other, _)| *other == key) {
            if !stored.will_wake(waker) {
                retired.push(std::mem::replace(stored, waker.clone()));
            }
        } else if self.first.is_none() {
            self.first = Some((key, waker.clone()));
        } else {
            self.rest.push((key, waker.clone()));
        }
    }

    /// Forgets a waiter whose future was dropped. The waker is handed out because dropping it may
    /// run foreign code, which must not happen under a lock.
    #[must_use = "drop the waker after the lock"]
    pub fn remove(&mut self, key: WaiterKey) -> Option<Waker> {
        if self.first.as_ref().is_some_and(|(other, _)| *other == key) {
            return self.first.take().map(|(_, waker)| waker);
        }
        let index = self.rest.iter().position(|(other, _)| *other == key)?;
        Some(self.rest.swap_remove(index).1)
    }

    /// Moves every waiter into `wakeups`.
    pub fn take_into(&mut self, wakeups: &mut Wakeups) {
        if let Some((_, waker)) = self.first.take() {
            wakeups.add(waker);
        }
        // Mostly there is one or none, and then even an empty drain is work.
        if !self.rest.is_empty() {
            self.rest.drain(..).for_each(|(_, waker)| wakeups.add(waker));
        }
    }

    /// How many waiters are stored.
    #[expect(clippy::len_without_is_empty, reason = "only tests count them")]
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }
}

/// Wakers that a transition took out of the state, to be woken once the lock is dropped.
#[derive(Debug, Default)]
#[must_use = "the waiters of a transition sleep for ever unless they are woken after the lock is dropped"]
pub struct Wakeups {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakeups {
    /// Nobody.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether there is nobody to wake.
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    /// Wakes everybody, each task once. No lock may be held.
    ///
    /// # Panics
    ///
    /// With a waker's panic, after everybody else was woken.
    pub fn wake_now(self) {
        let mut panicked = None;
        for waker in self {
            match panic::catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                Ok(()) => {}
                Err(panic) if panicked.is_none() => panicked = Some(panic),
                Err(another) => discard(another),
            }
        }
        match panicked {
            // A second panic while this thread unwinds would end the process.
            Some(panic) if thread::panicking() => discard(panic),
            Some(panic) => panic::resume_unwind(panic),
            None => {}
        }
    }

    /// Adds those of `other`.
    pub fn merge(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else if !other.is_empty() {
            other.into_iter().for_each(|waker| self.add(waker));
        }
    }

    /// Adds those of `other`, as [`Waiter::append_to`] does.
    pub fn append(&mut self, other: Self) {
        if !other.is_empty() {
            self.rest.extend(other);
        }
    }

    fn add(&mut self, waker: Waker) {
        match &self.first {
            None => self.first = Some(waker),
            Some(first) if first.will_wake(&waker) || self.rest.iter().any(|known| known.will_wake(&waker)) => {}
            Some(_) => self.rest.push(waker),
        }
    }

    /// How many tasks would be woken.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }
}

impl IntoIterator for Wakeups {
    type Item = Waker;
    type IntoIter = iter::Chain<option::IntoIter<Waker>, vec::IntoIter<Waker>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}

/// A state behind a mutex, from which wakers retire when the guard is gone.
#[derive(Debug, Default)]
pub struct Lock<T: Retire>(Mutex<T>);

/// A state in which wakers are stored.
pub trait Retire {
    /// Whether there is any to take, which is rare.
    fn has_retired(&self) -> bool;

    /// Takes the wakers that were replaced since the last call, to be dropped outside of the lock.
    fn take_retired(&mut self) -> Vec<Waker>;
}

impl<T: Retire> Lock<T> {
    /// Guards `state`.
    pub fn new(state: T) -> Self {
        Self(Mutex::new(state))
    }

    /// Locks. Nobody calls MsQuic, wakes or runs foreign code while holding the guard.
    pub fn lock(&self) -> LockGuard<'_, T> {
        // Nothing panics half-way through a transition, so a poisoned state is a consistent one.
        LockGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The state, when nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody holds it right now.
    pub fn is_locked(&self) -> bool {
        matches!(self.0.try_lock(), Err(std::sync::TryLockError::WouldBlock))
    }
}

/// The right to the state in a [`Lock`].
pub struct LockGuard<'a, T: Retire>(Option<MutexGuard<'a, T>>);

impl<T: Retire> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only `drop` takes the guard")
    }
}

impl<T: Retire> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only `drop` takes the guard")
    }
}

impl<T: Retire> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        if self.has_retired() {
            let retired = self.take_retired();
            drop(self.0.take());
            drop(retired);
        }
    }
}

/// Something that any number of futures wait for, each under a key of its own.
pub trait KeyedWait {
    /// What is waited for.
    type Output;

    /// Looks whether it is there, and otherwise registers `key`'s task.
    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output>;

    /// Forgets `key`; the waker is dropped by the caller, outside of any lock.
    fn forget(&self, key: WaiterKey) -> Option<Waker>;
}

/// Waits. Dropping the future forgets its waker and changes nothing else.
pub async fn wait_for<W: KeyedWait>(what: W) -> W::Output {
    struct Wait<W: KeyedWait> {
        what: W,
        key: WaiterKey,
        /// Whether a waker may be stored: not if what is waited for was there at once.
        registered: bool,
    }
    impl<W: KeyedWait> Drop for Wait<W> {
        fn drop(&mut self) {
            if self.registered {
                drop(self.what.forget(self.key));
            }
        }
    }
    let mut wait = Wait { what, key: WaiterKey::new(), registered: false };
    poll_fn(|cx| {
        let answer = wait.what.poll(wait.key, cx);
        wait.registered |= answer.is_pending();
        answer
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Task;

    #[test]
    fn polling_a_thousand_times_stores_one_waker() {
        let (mut waiters, mut waiter, mut retired) = (Waiters::default(), Waiter::default(), Vec::new());
        let key = WaiterKey::new();
        let task = Task::new();
        for _ in 0..1000 {
            waiters.register(key, task.waker(), &mut retired);
            waiter.register(task.waker(), &mut retired);
        }
        assert_eq!((waiters.len(), waiter.len(), retired.len()), (1, 1, 0));
        let another = Task::new();
        waiters.register(key, another.waker(), &mut retired);
        waiter.register(another.waker(), &mut retired);
        assert_eq!((waiters.len(), waiter.len(), retired.len()), (1, 1, 2), "another task's takes its place");
    }

    #[test]
    fn a_task_that_waits_for_two_things_is_woken_once() {
        let task = Task::new();
        let mut wakeups = Wakeups::none();
        for _ in 0..2 {
            let mut waiter = Waiter::default();
            waiter.register(task.waker(), &mut Vec::new());
            waiter.take_into(&mut wakeups);
        }
        assert_eq!(wakeups.len(), 1);
        wakeups.wake_now();
        assert_eq!(task.wakes(), 1);
    }

    #[test]
    fn a_removed_waiter_is_forgotten_and_the_others_stay() {
        let mut waiters = Waiters::default();
        let keys: Vec<_> = (0..3).map(|_| WaiterKey::new()).collect();
        for key in &keys {
            waiters.register(*key, Waker::noop(), &mut Vec::new());
        }
        assert!(waiters.remove(keys[0]).is_some());
        assert!(waiters.remove(keys[0]).is_none());
        assert!(waiters.remove(keys[2]).is_some());
        assert_eq!(waiters.len(), 1);
    }
}
