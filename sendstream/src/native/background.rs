//! The background thread, which makes the native calls that block.
//!
//! `ConnectionClose`, `RegistrationClose`, `ListenerStop` and most parameter calls wait until a
//! worker has processed them. An executor's thread must not wait. A callback of another object must
//! not wait either, because it may run on the worker that it would wait for. Such calls go to this
//! thread, in order. The thread starts with the first of them. It also keeps the crate's few
//! deadlines (`deadline.rs`), and is late for them while a call blocks.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};

use sendstream_core::foreign::contain;

use crate::{
    native::{
        deadline::{self, Due},
        fork,
    },
    types::error::NativeError,
};

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on the background thread, after those given before.
///
/// Should the thread not start (the system is out of threads), the job runs here: late is worse
/// than slow.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) {
    if fork::is_forked() {
        // The thread stayed behind, and no native call does anything here.
        return job();
    }
    static JOBS: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    let jobs = JOBS.get_or_init(start);
    match jobs {
        Some(jobs) => {
            if let Err(refused) = jobs.send(Box::new(job)) {
                (refused.0)();
            }
        }
        None => job(),
    }
}

/// The next thing to do: a deadline that has come goes first. `None` once no job can come any more.
fn next(jobs: &Receiver<Job>) -> Option<Job> {
    loop {
        let now = Instant::now();
        let until = match deadline::due(now) {
            Due::Now(job) => return Some(job),
            Due::At(until) => until,
            Due::Never => return jobs.recv().ok(),
        };
        match jobs.recv_timeout(until.saturating_duration_since(now)) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Runs `question` on the background thread; the future resolves with what it returns. The question
/// is asked whether or not the future is polled.
pub(crate) fn ask<T: Send + 'static>(question: impl FnOnce() -> Result<T, NativeError> + Send + 'static) -> Answer<T> {
    let (job, answer) = asked(question);
    run(job);
    answer
}

/// Runs `question` on a thread of its own that is called `name`, for what may block for long.
/// Otherwise like [`ask`].
///
/// # Errors
///
/// The system is out of threads.
pub(crate) fn ask_apart<T: Send + 'static>(
    name: &str,
    question: impl FnOnce() -> Result<T, NativeError> + Send + 'static,
) -> io::Result<Answer<T>> {
    let (job, answer) = asked(question);
    thread::Builder::new().name(name.into()).spawn(move || {
        contain("a question", job);
    })?;
    Ok(answer)
}

/// The job that answers `question`, and its answer.
fn asked<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, NativeError> + Send + 'static,
) -> (impl FnOnce() + Send + 'static, Answer<T>) {
    let slot = Arc::new(Slot(Mutex::new(SlotState::Asked(None))));
    let reply = Reply(slot.clone());
    (move || reply.0.answer(question()), Answer(slot))
}

/// An answer that comes when the function is called, if it ever is.
pub(super) fn later<T: Send + 'static>() -> (impl FnOnce(T) + Send, Answer<T>) {
    let slot = Arc::new(Slot(Mutex::new(SlotState::Asked(None))));
    let reply = slot.clone();
    (move |value| reply.answer(Ok(value)), Answer(slot))
}

/// What [`ask`] was asked, to come.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Answer<T>(Arc<Slot<T>>);

/// The duty to answer: a question that panics is answered with an error.
struct Reply<T>(Arc<Slot<T>>);

#[derive(Debug)]
struct Slot<T>(Mutex<SlotState<T>>);

#[derive(Debug)]
enum SlotState<T> {
    /// Who waits for the answer, if anybody does.
    Asked(Option<Waker>),
    Answered(Result<T, NativeError>),
    Taken,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, SlotState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers, unless that was done before.
    fn answer(&self, answer: Result<T, NativeError>) {
        let waker = {
            let mut state = self.lock();
            let SlotState::Asked(waker) = &mut *state else { return };
            let waker = waker.take();
            *state = SlotState::Answered(answer);
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.0.answer(Err(NativeError::INTERNAL_ERROR));
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T, NativeError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        match &mut *state {
            SlotState::Asked(Some(waker)) if waker.will_wake(cx.waker()) => Poll::Pending,
            SlotState::Asked(waker) => {
                let replaced = waker.replace(cx.waker().clone());
                drop(state);
                // A waker's destructor is foreign code.
                drop(replaced);
                Poll::Pending
            }
            SlotState::Answered(_) => match std::mem::replace(&mut *state, SlotState::Taken) {
                SlotState::Answered(answer) => Poll::Ready(answer),
                _ => unreachable!("it was answered a line ago, and the lock is held"),
            },
            SlotState::Taken => panic!("polled after it was ready"),
        }
    }
}

fn start() -> Option<Sender<Job>> {
    let (sender, jobs) = mpsc::channel::<Job>();
    let thread = thread::Builder::new().name("sendstream".into()).spawn(move || {
        while let Some(job) = next(&jobs) {
            // A panic in a job (foreign code in a waker) must not end the thread that everybody's
            // closes run on.
            contain("a background job", job);
        }
    });
    match thread {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::error!(%error, "no background thread: blocking native calls run where they are made");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered() {
        assert_eq!(futures::executor::block_on(ask(|| Ok(7))), Ok(7));
        let refused = futures::executor::block_on(ask(|| Err::<(), _>(NativeError::INVALID_STATE)));
        assert_eq!(refused, Err(NativeError::INVALID_STATE));
    }

    #[test]
    fn a_question_that_panics_is_answered_with_an_error_and_the_next_goes_on() {
        let panicking = ask(|| -> Result<(), NativeError> { panic!("on purpose") });
        assert_eq!(futures::executor::block_on(panicking), Err(NativeError::INTERNAL_ERROR));
        assert_eq!(futures::executor::block_on(ask(|| Ok(7))), Ok(7));
    }
}
