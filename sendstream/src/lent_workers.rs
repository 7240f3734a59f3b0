//! MsQuic's workers on a tokio runtime.
//!
//! A task for each worker takes turns at it. A turn's events wake tasks of the same runtime, which
//! run next on the same thread. Their sends wake the worker's task again. Only the runtime hands
//! work to another thread.

use std::{
    future::poll_fn,
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use sendstream_core::foreign::contain;
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Handle,
    task::{JoinHandle, yield_now},
    time::{Instant, Sleep, sleep},
};

use crate::{
    native::{
        api,
        lending::{Events, NextTurn, Worker},
        registration::Registration,
    },
    types::error::NativeError,
};

/// MsQuic's workers while a tokio runtime runs them, see [`lend_workers`].
///
/// Dropping it returns the workers to their own threads. So does the end of the runtime.
/// Connections go on in either case. The workers can be lent again once the runtime has let go of
/// them: see [`give_back`](Self::give_back).
#[derive(Debug)]
#[must_use = "the workers go back to their own threads when this is dropped"]
pub struct LentWorkers {
    tasks: Vec<JoinHandle<()>>,
    workers: Vec<Arc<Worker>>,
    _loan: Arc<Loan>,
}

/// Why workers were not lent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LendError {
    /// A runtime has them, or has not yet let go of them. Await [`LentWorkers::give_back`] there
    /// first.
    #[error("a runtime of this process has MsQuic's workers; give them back there first")]
    AlreadyLent,
    /// The linked MsQuic cannot lend workers: it lacks the edit `workers-can-be-lent`, as an
    /// installed one does.
    #[error("the linked MsQuic cannot lend its workers; build the one that comes along, with all edits")]
    CannotLend,
    /// The runtime cannot watch a worker's events: it has no file descriptors left, or is shutting
    /// down.
    #[error("the runtime cannot watch the events of MsQuic's workers")]
    Runtime(#[source] io::Error),
    /// The library does not start.
    #[error(transparent)]
    Native(#[from] NativeError),
}

/// Lets `runtime` run all MsQuic workers of the process, until the returned value is dropped or the
/// runtime shuts down.
///
/// MsQuic's own threads hand each event to a task on another thread, and the task's answer comes
/// back the same way. Each time a thread has to wake. Lent workers share the runtime's threads with
/// its tasks: an answer to a message takes two thirds of the time, and half of the processor's
/// (`docs/performance.md`). Bulk data over few connections is as fast as before or slower, because
/// one thread then does the work of two.
///
/// Everything that runs on MsQuic's threads (see the [crate's
/// documentation](crate#what-runs-on-msquics-threads)) runs on the runtime's then. Tasks of any
/// executor may go on to use connections. Workers do not poll, whatever
/// [`set_polling_idle_timeout`](crate::process::set_polling_idle_timeout) says. Of an
/// [`ExecutionProfile::MaxThroughput`] only the receiving of packets is lent.
///
/// Connections are served even if all threads of the runtime are busy or blocked. A worker with
/// work may get no turn for 10 milliseconds, or for up to 160 after a quiet time. Then its own
/// thread does the work.
///
/// ```
/// use sendstream::lend_workers;
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let workers = lend_workers(runtime.handle())?;
/// runtime.block_on(async {
///     // Connect, serve, send: all on this thread.
///     workers.give_back().await;
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`ExecutionProfile::MaxThroughput`]: crate::ExecutionProfile::MaxThroughput
///
/// # Errors
///
/// See [`LendError`]. No worker is lent then.
///
/// # Panics
///
/// If the runtime was built without its I/O driver or its time driver.
pub fn lend_workers(runtime: &Handle) -> Result<LentWorkers, LendError> {
    // Opening it has MsQuic start its workers.
    Registration::shared()?;
    if !api::abilities().lends_workers {
        return Err(LendError::CannotLend);
    }
    let loan = Loan::begin()?;
    let workers: Vec<_> = Worker::all()?.into_iter().map(Arc::new).collect();
    WAKERS.get_or_init(|| workers.iter().map(|_| Mutex::default()).collect());
    let _context = runtime.enter();
    let borrow = |worker: &Arc<Worker>| {
        let events = worker.watch()?;
        Ok(Borrowed { worker: worker.clone(), events, alarm: Alarm::new(), _loan: loan.clone() })
    };
    let borrowed: io::Result<Vec<_>> = workers.iter().map(borrow).collect();
    let borrowed = borrowed.map_err(LendError::Runtime)?;
    let tasks = borrowed.into_iter().map(|borrowed| runtime.spawn(take_turns(borrowed))).collect();
    Ok(LentWorkers { tasks, workers, _loan: loan })
}

impl LentWorkers {
    /// Returns the workers to their own threads. Resolves when the runtime has let go of them, so
    /// that they may be lent again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub async fn give_back(mut self) {
        self.end();
        for task in &mut self.tasks {
            // Canceled, as it was asked to be, or over with its runtime.
            let _ = task.await;
        }
    }

    fn end(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // The runtime may be one that does not run.
        self.workers.iter().for_each(|worker| worker.give_back());
    }
}

impl Drop for LentWorkers {
    fn drop(&mut self) {
        self.end();
    }
}

/// There is one while any worker may be lent.
#[derive(Debug)]
struct Loan;

impl Loan {
    fn begin() -> Result<Arc<Self>, LendError> {
        static LAST: Mutex<Weak<Loan>> = Mutex::new(Weak::new());
        let mut last = lock(&LAST);
        if last.strong_count() > 0 {
            return Err(LendError::AlreadyLent);
        }
        let loan = Arc::new(Self);
        *last = Arc::downgrade(&loan);
        Ok(loan)
    }
}

/// A worker that goes back to its own thread when this is dropped, and what its task waits for.
struct Borrowed {
    worker: Arc<Worker>,
    events: AsyncFd<Events>,
    alarm: Alarm,
    /// Last, as whoever lends next has the same descriptor watched.
    _loan: Arc<Loan>,
}

/// When the next turn is due. tokio's alarms count milliseconds, and moving one is expensive. So an
/// alarm that is too early stays, and causes an idle turn.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    is_set: bool,
}

impl Alarm {
    fn new() -> Self {
        Self { sleep: Box::pin(sleep(Duration::ZERO)), is_set: false }
    }

    fn set(&mut self, time: Duration) {
        let due = Instant::now() + time;
        if !self.is_set || due < self.sleep.deadline() {
            self.sleep.as_mut().reset(due);
            self.is_set = true;
        }
    }

    /// Ready once for each time that it was set.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_set {
            return Poll::Pending;
        }
        ready!(self.sleep.as_mut().poll(context));
        self.is_set = false;
        Poll::Ready(())
    }
}

impl Borrowed {
    /// The waker of the task that takes turns at it.
    fn waker(&self) -> MutexGuard<'static, Option<Waker>> {
        lock(waker_of(self.worker.index()).expect("there is a place for each worker's"))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let waker = self.waker().take();
        drop(waker);
        self.worker.give_back();
    }
}

/// The wakers of the tasks that take turns, by worker.
static WAKERS: OnceLock<Vec<Mutex<Option<Waker>>>> = OnceLock::new();

fn waker_of(worker: u32) -> Option<&'static Mutex<Option<Waker>>> {
    WAKERS.get()?.get(worker as usize)
}

/// What MsQuic calls when a worker that is lent needs a turn.
extern "C" fn wake(worker: u32) -> u8 {
    let waker = waker_of(worker).and_then(|waker| lock(waker).clone());
    let is_seen_to = waker.is_some();
    contain("a worker's wake", || waker.map(Waker::wake));
    is_seen_to.into()
}

async fn take_turns(mut borrowed: Borrowed) {
    poll_fn(|context| {
        *borrowed.waker() = Some(context.waker().clone());
        Poll::Ready(())
    })
    .await;
    borrowed.worker.lend(wake);

    let mut has_events = true;
    loop {
        // What comes from here on makes it readable anew; what came before is for this turn.
        let _ = borrowed.events.try_io(Interest::READABLE, |_| {
            has_events = true;
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        });
        match borrowed.worker.take_turn(mem::take(&mut has_events)) {
            NextTurn::Soon => {
                has_events = true;
                yield_now().await;
                continue;
            }
            NextTurn::After(time) => borrowed.alarm.set(time),
            NextTurn::WhenAsked => {}
        }
        let mut is_woken = false;
        let asked = poll_fn(|context| {
            if mem::replace(&mut is_woken, true) {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(readable) = borrowed.events.poll_read_ready(context) {
                return Poll::Ready(readable.map(|_| ()));
            }
            borrowed.alarm.poll(context).map(Ok)
        });
        if asked.await.is_err() {
            // The runtime is shutting down.
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
