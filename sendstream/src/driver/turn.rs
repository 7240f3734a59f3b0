//! Tasks that run on the connection's own worker:
//! [`Connection::spawn_on_worker`](crate::Connection::spawn_on_worker).
//!
//! MsQuic calls back on the worker, and the wakes of a callback make tasks ready. A callback begins
//! a [`Turn`]. The turn ends after the event was handled: with no lock held, it polls the ready
//! tasks. There MsQuic runs the tasks' calls in place. Events that MsQuic delivers inside such a
//! call belong to the same turn. On a connection that never had a task, a turn polls nothing.
//!
//! A wake from another thread finds no turn. Nor does a wake inside the callback that spawned the
//! first task. Such a wake [nudges](Attended::nudge) the worker, which begins a turn.
//!
//! The future of a task is foreign code: it is polled and dropped without a lock, and its panic is
//! its own.

use std::{
    cell::Cell,
    collections::VecDeque,
    fmt,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use async_task::Runnable;
use sendstream_core::foreign::{Contained, contain, discard};
use slab::Slab;

use crate::{
    driver::{
        wakes,
        worker_task::{Outcome, WorkerTask},
    },
    native::fork::is_forked,
    types::error::WorkerTaskError,
};

/// A connection, as far as the tasks on its worker know it.
pub(crate) trait Attended: Send + Sync + 'static {
    /// Its tasks.
    fn worker_tasks(&self) -> &WorkerTasks;

    /// Has the worker begin a turn soon. A connection that is ending has its last turn anyway, so
    /// there it does nothing.
    fn nudge(self: Arc<Self>);

    /// Closes the connection, because foreign code panicked where it was called for the connection.
    fn fail(&self);
}

/// The tasks of one connection.
#[derive(Default)]
pub(crate) struct WorkerTasks {
    queue: Mutex<Queue>,
    /// Whether there has ever been one: without, a callback has no turn to take. Written under the
    /// lock.
    in_use: AtomicBool,
    /// Whether `Queue::ready` has any. Written under the lock, and read without it once per event.
    any_ready: AtomicBool,
    /// Whether a turn is in progress. The turn clears this and then looks at `any_ready`. Only the
    /// worker writes it, so the worker sees it exactly. Another thread may see it late, which costs
    /// a needless nudge.
    attended: AtomicBool,
}

#[derive(Default)]
struct Queue {
    /// Woken, and to be polled.
    ready: VecDeque<Runnable>,
    /// Every task that is not over, by its waker.
    active: Slab<Waker>,
    /// Whether the worker has been nudged and has not begun its turn yet.
    nudged: bool,
    /// Whether the connection is over, and with it every task.
    closed: bool,
}

/// How many polls one turn may take before MsQuic goes on with other things.
const POLLS_PER_TURN: usize = 256;

impl WorkerTasks {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a task that was woken. Whether the worker must be nudged for it.
    #[must_use]
    fn push(&self, task: Runnable) -> bool {
        if is_forked() {
            return false;
        }
        let mut queue = self.lock();
        if queue.closed {
            drop(queue);
            // Which cancels it.
            drop(task);
            return false;
        }
        queue.ready.push_back(task);
        self.any_ready.store(true, Ordering::SeqCst);
        // Either this sees that the turn is over, or the turn, which says so before it looks again,
        // sees the task.
        !self.attended.load(Ordering::SeqCst) && !std::mem::replace(&mut queue.nudged, true)
    }

    /// Takes the next task that is ready.
    fn pop(&self) -> Option<Runnable> {
        let mut queue = self.lock();
        let task = queue.ready.pop_front();
        if queue.ready.is_empty() {
            self.any_ready.store(false, Ordering::SeqCst);
        }
        task
    }

    /// Ends the turn, unless tasks are ready.
    fn leave(&self) -> bool {
        self.attended.store(false, Ordering::SeqCst);
        let left = !self.any_ready.load(Ordering::SeqCst);
        if !left {
            self.attended.store(true, Ordering::SeqCst);
        }
        left
    }

    /// Polls what is ready, and ends the turn. Whether more is ready than one turn may poll, for
    /// which the worker must be nudged.
    #[must_use]
    fn run_ready(&self) -> bool {
        let mut polls = 0;
        loop {
            while self.any_ready.load(Ordering::Relaxed) {
                if polls == POLLS_PER_TURN {
                    self.attended.store(false, Ordering::SeqCst);
                    return !std::mem::replace(&mut self.lock().nudged, true);
                }
                polls += 1;
                // What its future does is contained closer to it; what is left is whoever waits for
                // the task.
                contain("a worker task", || self.pop().map(Runnable::run));
            }
            if self.leave() {
                return false;
            }
        }
    }

    /// The connection is over: polls every task a last time, and drops the future of each that is
    /// not done then.
    pub(crate) fn close(&self) {
        // Whoever ended the connection from another thread may not have come to wake those that
        // wait for its end.
        let tasks: Vec<Waker> = self.lock().active.iter().map(|(_, waker)| waker.clone()).collect();
        self.attended.store(true, Ordering::SeqCst);
        for waker in &tasks {
            contain("a worker task", || waker.wake_by_ref());
        }
        for _ in 0..tasks.len().max(POLLS_PER_TURN) {
            let Some(task) = self.pop() else { break };
            contain("a worker task", || task.run());
        }
        let (ready, active) = {
            let mut queue = self.lock();
            queue.closed = true;
            self.any_ready.store(false, Ordering::SeqCst);
            (std::mem::take(&mut queue.ready), std::mem::take(&mut queue.active))
        };
        for task in ready {
            contain("a worker task", || drop(task));
        }
        for (_, waker) in active {
            // Schedules the task, which is refused and thereby canceled.
            contain("a worker task", || waker.wake());
        }
    }
}

impl fmt::Debug for WorkerTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerTasks").finish_non_exhaustive()
    }
}

/// Makes `future` a task of `connection`'s, to be polled for the first time in the next turn.
pub(crate) fn spawn<A: Attended, T: Send + 'static>(
    connection: &Arc<A>,
    future: impl Future<Output = T> + Send + 'static,
) -> WorkerTask<T> {
    let tasks = connection.worker_tasks();
    let weak = Arc::downgrade(connection);
    let schedule = {
        let connection = weak.clone();
        // Dropping the task, where there is no connection any more, cancels it.
        move |task| {
            if let Some(connection) = connection.upgrade()
                && connection.worker_tasks().push(task)
            {
                connection.nudge();
            }
        }
    };
    if is_forked() {
        return WorkerTask::refused();
    }
    let mut queue = tasks.lock();
    if queue.closed {
        drop(queue);
        return WorkerTask::refused();
    }
    let entry = queue.active.vacant_entry();
    let over = Over { connection: weak, key: entry.key() };
    let (runnable, task) = async_task::spawn(guarded(Contained::new(Box::pin(future)), over), schedule);
    entry.insert(runnable.waker());
    tasks.in_use.store(true, Ordering::Relaxed);
    drop(queue);
    runnable.schedule();
    WorkerTask::new(task)
}

/// `future`, its panic caught, and its entry among the active tasks removed when it is over or
/// dropped.
async fn guarded<A: Attended, F: Future>(
    mut future: Contained<Pin<Box<F>>>,
    over: Over<A>,
) -> Contained<Outcome<F::Output>> {
    let outcome = std::future::poll_fn(|cx| {
        let Some(future) = future.get_mut() else { return Poll::Ready(Err(WorkerTaskError::Canceled)) };
        match panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => {
                let error = WorkerTaskError::from_panic(&*panic);
                discard(panic);
                Poll::Ready(Err(error))
            }
        }
    })
    .await;
    drop(future);
    drop(over);
    Contained::new(outcome)
}

/// Takes a task out of the active ones when it is over.
struct Over<A: Attended> {
    connection: Weak<A>,
    key: usize,
}

impl<A: Attended> Drop for Over<A> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.upgrade()
            && !is_forked()
        {
            let waker = connection.worker_tasks().lock().active.try_remove(self.key);
            drop(waker);
        }
    }
}

/// A callback of the connection, from its event to the polling of the tasks that it woke.
#[derive(Debug)]
#[must_use = "`end` polls the tasks"]
pub(crate) struct Turn {
    /// Whose callback this one is inside of.
    outer: *const (),
    /// Whether the tasks are for this callback to poll, and not for one of the same connection's
    /// that it is inside of.
    attends: bool,
}

thread_local! {
    /// Whose callback runs on this thread.
    static CURRENT: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// What [`CURRENT`] names a connection by.
fn address<A: Attended + ?Sized>(connection: &Arc<A>) -> *const () {
    Arc::as_ptr(connection).cast()
}

impl Turn {
    /// Begins one, at the beginning of a callback.
    pub(crate) fn begin<A: Attended>(connection: &Arc<A>) -> Self {
        let tasks = connection.worker_tasks();
        let outer = CURRENT.replace(address(connection));
        // The first task of all may have been spawned inside of the callback that this one is
        // inside of.
        let attends = tasks.in_use.load(Ordering::Relaxed)
            && outer != address(connection)
            && !tasks.attended.load(Ordering::Relaxed);
        if attends {
            tasks.attended.store(true, Ordering::Relaxed);
        }
        let later = wakes::take_turn(connection, attends);
        Self { outer, attends: attends && !later }
    }

    /// Continues, at the end of a batch of events, the turn that one of its callbacks began, if
    /// `attends`.
    pub(crate) fn resume(connection: &Arc<dyn Attended>, attends: bool) -> Self {
        Self { outer: CURRENT.replace(address(connection)), attends }
    }

    /// Begins the one that the worker may have been nudged for.
    pub(crate) fn begin_nudged<A: Attended>(connection: &Arc<A>) -> Self {
        let tasks = connection.worker_tasks();
        if tasks.in_use.load(Ordering::Relaxed) {
            tasks.lock().nudged = false;
        }
        Self::begin(connection)
    }

    /// Whether this is a callback of `connection`'s.
    pub(crate) fn is_of<A: Attended>(connection: &Arc<A>) -> bool {
        CURRENT.get() == address(connection)
    }

    /// Whether its end may poll tasks.
    pub(crate) fn attends(&self) -> bool {
        self.attends
    }

    /// What [`Self::end`] needs, if there is anything to poll.
    pub(crate) fn rest<A: Attended + ?Sized>(&self, connection: &Arc<A>) -> Option<Arc<A>> {
        let tasks = connection.worker_tasks();
        let over = !self.attends || (!tasks.any_ready.load(Ordering::Relaxed) && tasks.leave());
        (!over).then(|| connection.clone())
    }

    /// Polls the tasks that were woken. Nothing that they may let go of may be borrowed meanwhile.
    pub(crate) fn end<A: Attended + ?Sized>(self, rest: Option<Arc<A>>) {
        if let Some(connection) = rest {
            contain("a connection's tasks", || {
                if connection.worker_tasks().run_ready() {
                    connection.clone().nudge();
                }
                drop(connection);
            });
        }
        CURRENT.set(self.outer);
    }
}
