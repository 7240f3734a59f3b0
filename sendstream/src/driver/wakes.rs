//! Waking. A batch holds the wakes of packets that arrived together.
//!
//! MsQuic processes everything that a connection has received in one go. It calls back for each
//! result: a stream, data, an acknowledgement. A task that is woken by the first result would run
//! on another processor while the worker is still busy with the rest. It would get in the worker's
//! way, and the next result would wake it again. So the batch keeps the wakes until the worker is
//! done, and then makes them one after the other. A task that three events wake runs once, and
//! finds all three.
//!
//! MsQuic announces the beginning and the end (the edit `receives-are-announced`). Without that
//! edit, and for events that no packet caused, wakes happen at once. The turn that polls a
//! connection's worker tasks ends with the batch.

use std::{
    cell::{Cell, RefCell},
    ptr,
    sync::Arc,
    task::Waker,
};

use sendstream_core::{foreign::contain, wait::Wakeups};

use crate::{
    driver::turn::{Attended, Turn},
    native::api::bracket_receives,
};

/// The work that the events of one batch leave.
struct Batch {
    under_way: bool,
    /// Who is to be woken, and what fails if that panics.
    wakers: Vec<(Waker, Blame)>,
    /// The connection whose packets they are, once it has had an event.
    connection: Option<Arc<dyn Attended>>,
    /// Whether its worker tasks are to be polled.
    has_turn: bool,
}

/// What fails if a waker panics: the object whose event made the wake.
#[derive(Clone)]
pub(crate) enum Blame {
    /// The connection of the batch.
    Connection,
    /// A part of it.
    Part(Arc<dyn Blamed>),
    /// An object that is over.
    Nothing,
}

/// A part of a connection that can fail alone.
pub(crate) trait Blamed: Send + Sync + 'static {
    /// Ends it, because foreign code panicked where it was called for it.
    fn fail(self: Arc<Self>);
}

impl Batch {
    const NONE: Self = Self { under_way: false, wakers: Vec::new(), connection: None, has_turn: false };
}

thread_local! {
    static BATCH: RefCell<Batch> = const { RefCell::new(Batch::NONE) };
    /// How many tasks this thread has woken.
    static WOKEN: Cell<usize> = const { Cell::new(0) };
}

/// How many tasks this thread has woken, modulo the number's range.
#[cfg(all(feature = "tokio", unix))]
pub(crate) fn woken() -> usize {
    WOKEN.get()
}

fn count_woken(wakers: usize) {
    // A thread that is ending counts no more.
    let _ = WOKEN.try_with(|woken| woken.set(woken.get().wrapping_add(wakers)));
}

/// Runs `body` with this thread's batch, if one is under way. It runs no foreign code.
fn with<T>(body: impl FnOnce(&mut Batch) -> T) -> Option<T> {
    let body = |batch: &RefCell<Batch>| {
        let mut batch = batch.borrow_mut();
        batch.under_way.then(|| body(&mut batch))
    };
    // A thread that is ending has none.
    BATCH.try_with(body).ok().flatten()
}

/// Waking, in the driver.
pub(crate) trait Wake {
    /// Wakes everybody, each task once: now, or at the end of the batch of events that is under way
    /// on this thread. No lock may be held.
    ///
    /// # Panics
    ///
    /// With a waker's panic, after everybody else was woken.
    fn wake(self);
}

impl Wake for Wakeups {
    fn wake(self) {
        if !self.is_empty()
            && let Some(now) = keep(self)
        {
            count_woken(now.len());
            now.wake_now();
        }
    }
}

/// Keeps `wakeups` for the end of the batch. Gives them back where none is under way.
fn keep(wakeups: Wakeups) -> Option<Wakeups> {
    let mut wakeups = Some(wakeups);
    with(|batch| batch.wakers.extend(wakeups.take().into_iter().flatten().map(|waker| (waker, Blame::Connection))));
    wakeups
}

/// How many wakes are kept.
pub(crate) fn kept() -> usize {
    with(|batch| batch.wakers.len()).unwrap_or(0)
}

/// Says what fails with the wakes that were kept since [`kept`] was `before`; it is the connection
/// otherwise.
pub(crate) fn blame(before: usize, what: Blame) {
    with(|batch| batch.wakers[before..].iter_mut().for_each(|(_, blame)| *blame = what.clone()));
}

/// A callback of `connection`'s begins. If `attends`, its end must poll the connection's tasks.
/// Returns whether the batch does that.
pub(crate) fn take_turn<A: Attended>(connection: &Arc<A>, attends: bool) -> bool {
    with(|batch| {
        let of = batch.connection.get_or_insert_with(|| connection.clone());
        let taken = attends && ptr::addr_eq(Arc::as_ptr(of), Arc::as_ptr(connection));
        batch.has_turn |= taken;
        taken
    })
    .unwrap_or(false)
}

/// Has batches begin and end from now on. Whoever brings MsQuic its first connection calls this
/// before.
pub(crate) fn keep_batches() {
    bracket_receives(bracket);
}

fn bracket(begins: bool) {
    contain("a batch of events", || if begins { begin() } else { end() });
}

fn begin() {
    BATCH.with_borrow_mut(|batch| batch.under_way = true);
}

fn end() {
    let mut batch = BATCH.replace(Batch::NONE);
    let turn = batch.connection.as_ref().map(|connection| Turn::resume(connection, batch.has_turn));
    // Several events may wake the same task.
    let alone = batch.wakers.iter().all(|(waker, _)| waker.will_wake(&batch.wakers[0].0));
    count_woken(if alone { batch.wakers.len().min(1) } else { batch.wakers.len() });
    for (waker, blame) in batch.wakers.drain(..) {
        let failed = contain("a waker", || waker.wake()).is_none();
        // Whoever was woken may have let go of the stream, so that this is the last of it.
        contain("what a waker was told of", || match blame {
            Blame::Connection if failed => batch.connection.iter().for_each(|connection| connection.fail()),
            Blame::Part(part) if failed => part.fail(),
            Blame::Connection | Blame::Part(_) | Blame::Nothing => {}
        });
    }
    if let (Some(turn), Some(connection)) = (turn, batch.connection) {
        let rest = turn.rest(&connection);
        turn.end(rest);
        // Whoever was woken may have let go of it.
        contain("a connection's close", || drop(connection));
    }
    // Its memory is for the next one.
    BATCH.with_borrow_mut(|next| next.wakers = batch.wakers);
}

#[cfg(test)]
mod tests {
    use sendstream_core::{testing::Task, wait::Waiter};

    use super::*;

    /// The wake of a task that waits.
    fn wakeups(waker: &Waker) -> Wakeups {
        let mut wakeups = Wakeups::none();
        let mut waiter = Waiter::default();
        waiter.register(waker, &mut Vec::new());
        waiter.take_into(&mut wakeups);
        wakeups
    }

    #[test]
    fn wakes_of_a_batch_wait_for_its_end_and_others_do_not() {
        let task = Task::new();
        for round in 1..=3 {
            let before = task.wakes();
            wakeups(task.waker()).wake();
            assert_eq!(task.wakes(), before + 1, "at once in round {round}");
            bracket(true);
            wakeups(task.waker()).wake();
            wakeups(task.waker()).wake();
            assert_eq!(task.wakes(), before + 1, "not yet in round {round}");
            bracket(false);
            assert_eq!(task.wakes(), before + 3);
        }
    }

    #[test]
    fn an_end_without_a_beginning_is_nothing() {
        bracket(false);
        wakeups(Waker::noop()).wake();
    }

    #[test]
    fn a_waker_that_panics_at_the_end_of_a_batch_keeps_nobody_asleep() {
        struct Panicking;
        impl std::task::Wake for Panicking {
            fn wake(self: Arc<Self>) {
                panic!("on purpose");
            }
        }
        let task = Task::new();
        bracket(true);
        wakeups(&Waker::from(Arc::new(Panicking))).wake();
        wakeups(task.waker()).wake();
        bracket(false);
        assert_eq!(task.wakes(), 1);
    }
}
