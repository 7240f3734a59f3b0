//! [`WorkerTask`]: what came of a task on a connection's worker.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_task::{FallibleTask, Task};
use sendstream_core::foreign::Contained;

use crate::{native::fork::is_forked, types::error::WorkerTaskError};

/// A task on a connection's worker thread, from
/// [`Connection::spawn_on_worker`](crate::Connection::spawn_on_worker); as a future, what its own
/// future returned.
///
/// # Errors
///
/// [`WorkerTaskError`]: it panicked, or was canceled.
///
/// # Cancel safety
///
/// Dropping it lets the task go on by itself.
#[must_use = "await it to learn what came of the task, or drop it on purpose: the task goes on"]
pub struct WorkerTask<T>(Option<FallibleTask<Contained<Outcome<T>>>>);

/// What a task comes to.
pub(crate) type Outcome<T> = Result<T, WorkerTaskError>;

impl<T> WorkerTask<T> {
    pub(crate) fn new(task: Task<Contained<Outcome<T>>>) -> Self {
        Self(Some(task.fallible()))
    }

    /// A task of a connection that is over.
    pub(crate) fn refused() -> Self {
        Self(None)
    }

    /// Cancels the task: its future is dropped on the worker, now or when the poll that is under
    /// way returns. Does nothing if it is over.
    pub fn abort(mut self) {
        drop(self.0.take());
    }

    /// Whether the task is over: it returned, panicked or was canceled.
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(FallibleTask::is_finished)
    }
}

impl<T> Future for WorkerTask<T> {
    type Output = Result<T, WorkerTaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if is_forked() {
            return Poll::Ready(Err(WorkerTaskError::Canceled));
        }
        let Some(task) = &mut self.0 else { return Poll::Ready(Err(WorkerTaskError::Canceled)) };
        let outcome = ready!(Pin::new(task).poll(cx));
        Poll::Ready(outcome.and_then(Contained::take).unwrap_or(Err(WorkerTaskError::Canceled)))
    }
}

impl<T> Drop for WorkerTask<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

impl<T> fmt::Debug for WorkerTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerTask").field("is_finished", &self.is_finished()).finish()
    }
}
