//! Tokio runtimes that do the work of their own connections.
//!
//! A runtime in which a client or a server is made gets a group of MsQuic's workers. It has a task
//! for each worker, which takes turns at it. A turn's events wake tasks of the same runtime, and
//! their sends wake the worker's task again. Only the runtime hands work to another thread.

use std::{
    future::poll_fn,
    io, mem,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use sendstream_core::foreign::contain;
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UnixDatagram,
    runtime::{Handle, Id},
    task::yield_now,
    time::{Instant, Sleep, sleep},
};

use crate::{
    driver::wakes,
    native::{
        api, fork,
        lending::{Events, Group, NextTurn, Worker},
        registration::{Registration, WeakRegistration},
    },
    types::error::NativeError,
};

/// The registration whose work the runtime does that the caller is in. `None` outside of one, and
/// where the runtime cannot do it: see [`ServedBy::Runtime`](crate::ServedBy::Runtime).
pub(crate) fn registration() -> Result<Option<Registration>, NativeError> {
    static KNOWN: Mutex<Known> = Mutex::new(Known { serving: Vec::new(), unable: Vec::new() });

    let Ok(runtime) = Handle::try_current() else { return Ok(None) };
    fork::check()?;
    let mut known = lock(&KNOWN);
    if known.unable.contains(&runtime.id()) {
        return Ok(None);
    }
    known.serving.retain(|(_, registration)| registration.upgrade().is_some());
    if let Some((_, registration)) = known.serving.iter().find(|(id, _)| *id == runtime.id())
        && let Some(registration) = registration.upgrade()
    {
        return Ok(Some(registration));
    }
    if !has_drivers() {
        known.unable.push(runtime.id());
        return Ok(None);
    }
    // Opening it has MsQuic start its workers.
    Registration::shared()?;
    if !api::abilities().lends_workers {
        return Ok(None);
    }
    let Some(group) = Group::take()? else { return Ok(None) };
    match serve(&runtime, group) {
        Ok(registration) => {
            known.serving.push((runtime.id(), registration.downgrade()));
            Ok(Some(registration))
        }
        Err(error) => {
            tracing::debug!(%error, "MsQuic's own threads do the work, as this runtime cannot");
            Ok(None)
        }
    }
}

/// Whether the runtime that the caller is in has what it takes. One without its drivers panics when
/// it is asked for them.
fn has_drivers() -> bool {
    let ask = || UnixDatagram::unbound().map(|_| sleep(Duration::ZERO));
    panic::catch_unwind(AssertUnwindSafe(ask)).is_ok()
}

/// The runtimes that were asked.
struct Known {
    /// Each with the registration whose work it does.
    serving: Vec<(Id, WeakRegistration)>,
    /// Those without what it takes.
    unable: Vec<Id>,
}

/// Has `runtime`, which the caller is in, run `group`'s workers for as long as it runs.
fn serve(runtime: &Handle, group: Group) -> Result<Registration, ServeError> {
    WAKERS.get_or_init(|| (0..group.workers_of_all()).map(|_| Mutex::default()).collect());
    let registration = Registration::on(group)?;
    let borrow = |worker: Worker| {
        let events = worker.watch()?;
        Ok(Borrowed { worker, events, alarm: Alarm::new(), _registration: registration.clone() })
    };
    let workers = registration.group().into_iter().flat_map(Group::workers);
    let borrowed: io::Result<Vec<_>> = workers.map(borrow).collect();
    for borrowed in borrowed? {
        runtime.spawn(take_turns(borrowed));
    }
    Ok(registration)
}

/// What the system refused.
#[derive(Debug, Error)]
enum ServeError {
    #[error("a group of workers does not start: {0}")]
    Native(#[from] NativeError),
    #[error("a worker's events cannot be watched: {0}")]
    Watch(#[from] io::Error),
}

/// A worker that goes back to its own thread when this is dropped, and what its task waits for.
struct Borrowed {
    worker: Worker,
    events: AsyncFd<Events>,
    alarm: Alarm,
    /// Last, as its workers are free for another runtime when it is closed.
    _registration: Registration,
}

/// When the next turn is due. tokio's alarms count milliseconds, and moving one is expensive. So an
/// alarm that is too early stays, and causes an idle turn.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// When it goes off, by the system's clock.
    due: Option<std::time::Instant>,
}

/// The alarm went off before its time: tokio's clock is a test's (`tokio::time::pause`).
struct TooEarly;

impl Alarm {
    fn new() -> Self {
        Self { sleep: Box::pin(sleep(Duration::ZERO)), due: None }
    }

    fn set(&mut self, time: Duration) {
        let due = std::time::Instant::now() + time;
        if self.due.is_none_or(|earlier| due < earlier) {
            self.sleep.as_mut().reset(Instant::now() + time);
            self.due = Some(due);
        }
    }

    /// Ready once for each time that it was set.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TooEarly>> {
        /// By how much two clocks that both run may differ.
        const TOLERANCE: Duration = Duration::from_millis(5);
        let Some(due) = self.due else { return Poll::Pending };
        ready!(self.sleep.as_mut().poll(context));
        self.due = None;
        let is_too_early = std::time::Instant::now() + TOLERANCE < due;
        Poll::Ready(if is_too_early { Err(TooEarly) } else { Ok(()) })
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
        if fork::is_forked() {
            return;
        }
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
        let woken = wakes::woken();
        let next_turn = borrowed.worker.take_turn(mem::take(&mut has_events));
        let woken = wakes::woken().wrapping_sub(woken);
        match next_turn {
            NextTurn::Soon => {
                has_events = true;
                yield_now().await;
                continue;
            }
            NextTurn::After(time) => borrowed.alarm.set(time),
            NextTurn::WhenAsked => {}
        }
        match asked(&mut borrowed, woken > 0).await {
            Asked::ByEvents => {}
            // What a task sends that was woken alone goes out at once. Otherwise all tasks that are
            // ready have their polls before, so that what they send goes out together.
            Asked::ByWaker => {
                if woken != 1 {
                    yield_now().await;
                }
            }
            Asked::Never => return,
        }
    }
}

/// Why a worker needs a turn.
enum Asked {
    /// Its descriptor is readable, or its time has come.
    ByEvents,
    /// Somebody has work for it.
    ByWaker,
    /// Not from this runtime any more: it shuts down, or its clock is not the system's.
    Never,
}

/// Waits until the worker needs a turn. If the one before `has_woken` tasks, they come first: events
/// may be there already, and what this thread has to run next, no other thread can take.
async fn asked(borrowed: &mut Borrowed, has_woken: bool) -> Asked {
    let mut was_pending = false;
    let asked = poll_fn(|context| {
        if let Poll::Ready(readable) = borrowed.events.poll_read_ready(context) {
            return Poll::Ready(readable.map_or(Asked::Never, |_| Asked::ByEvents));
        }
        if let Poll::Ready(due) = borrowed.alarm.poll(context) {
            return Poll::Ready(due.map_or(Asked::Never, |()| Asked::ByEvents));
        }
        if mem::replace(&mut was_pending, true) { Poll::Ready(Asked::ByWaker) } else { Poll::Pending }
    })
    .await;
    if has_woken && !was_pending && matches!(asked, Asked::ByEvents) {
        yield_now().await;
    }
    asked
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
