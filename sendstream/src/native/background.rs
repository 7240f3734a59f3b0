//! One thread for the native calls that block.
//!
//! `ConnectionClose`, `RegistrationClose`, `ListenerStop` and most parameter calls wait until a worker has processed
//! them. An executor's thread must not wait, and a callback of another object must not either (it may be the very worker
//! that is waited for). Such calls go to this thread, in order; it starts with the first of them.

use std::{
    sync::{
        OnceLock,
        mpsc::{self, Sender},
    },
    thread,
};

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on the background thread, after those given before.
///
/// Should the thread not start (the system is out of threads), the job runs here: late is worse than slow.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) {
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

fn start() -> Option<Sender<Job>> {
    let (sender, jobs) = mpsc::channel::<Job>();
    let thread = thread::Builder::new().name("sendstream".into()).spawn(move || {
        for job in jobs {
            // A panic in a job (foreign code in a waker) must not end the thread that everybody's closes run on.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                tracing::error!("a background job panicked");
            }
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
