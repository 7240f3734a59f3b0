//! The crate's few deadlines: jobs with a time, which the background thread runs.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use super::{
    background::{self, Answer, Job},
    fork,
};

/// Runs `job` on the background thread at `deadline` or soon after, unless the result is dropped
/// before. Never without that thread.
pub(crate) fn at(deadline: Instant, job: impl FnOnce() + Send + 'static) -> Timer {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let key = (deadline, SERIAL.fetch_add(1, Ordering::Relaxed));
    let too_late = {
        let mut deadlines = deadlines();
        deadlines.jobs.insert(key, Box::new(job));
        let too_late = deadlines.looks_at.is_none_or(|looks_at| deadline < looks_at);
        if too_late {
            deadlines.looks_at = Some(deadline);
        }
        too_late
    };
    if too_late {
        // The thread waits for a later deadline, or for none: it is to look again.
        background::run(|| ());
    }
    Timer(key)
}

/// A job that [`at`] will run. Dropping it drops the job, unless that runs already.
#[derive(Debug)]
#[must_use = "dropping it cancels the job"]
pub(crate) struct Timer(DeadlineKey);

impl Timer {
    /// Lets the job run at its time although nobody can cancel it any more.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let job = deadlines().jobs.remove(&self.0);
        // Outside of the lock: what it holds may be the last of something.
        drop(job);
    }
}

/// Resolves at `deadline` or soon after; like [`at`] never without the background thread.
pub(crate) fn pause(deadline: Instant) -> Pause {
    let (end, ended) = background::later();
    Pause { ended, _timer: at(deadline, move || end(())) }
}

/// The future of [`pause`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Pause {
    ended: Answer<()>,
    _timer: Timer,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.ended).poll(cx).map(drop)
    }
}

/// What the background thread does about deadlines.
pub(super) enum Due {
    /// The time of this job has come.
    Now(Job),
    /// To look again then.
    At(Instant),
    /// Nothing, until it is told of one.
    Never,
}

/// Takes the first job whose time has come, or says when to look again.
pub(super) fn due(now: Instant) -> Due {
    let mut deadlines = deadlines();
    deadlines.looks_at = match deadlines.jobs.first_entry() {
        Some(first) if first.key().0 <= now => return Due::Now(first.remove()),
        Some(first) => Some(first.key().0),
        None => deadlines.looks_at.filter(|looks_at| *looks_at > now),
    };
    deadlines.looks_at.map_or(Due::Never, Due::At)
}

/// When, and a number that makes it one of its own.
type DeadlineKey = (Instant, u64);

/// What is to be done at its time.
struct Deadlines {
    jobs: BTreeMap<DeadlineKey, Job>,
    /// When the background thread looks here by itself, if ever. It is not woken for anything later
    /// than that, nor told of a deadline that is dropped: connections that come and go one after
    /// the other would wake it each time.
    looks_at: Option<Instant>,
}

fn deadlines() -> MutexGuard<'static, Deadlines> {
    static DEADLINES: Mutex<Deadlines> = Mutex::new(Deadlines { jobs: BTreeMap::new(), looks_at: None });
    static FORKED: Mutex<Deadlines> = Mutex::new(Deadlines { jobs: BTreeMap::new(), looks_at: None });
    let deadlines = if fork::is_forked() { &FORKED } else { &DEADLINES };
    deadlines.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn deadlines_are_kept_in_order_unless_they_are_dropped() {
        use std::time::Duration;
        let (reached, order) = mpsc::channel();
        let now = Instant::now();
        let timer = |milliseconds: u64| {
            let reached = reached.clone();
            at(now + Duration::from_millis(milliseconds), move || {
                let early = Instant::now() < now + Duration::from_millis(milliseconds);
                let _ = reached.send((milliseconds, early));
            })
        };
        let [last, dropped, first] = [60, 40, 20].map(timer);
        drop(dropped);
        let far = timer(3_600_000);
        assert_eq!(order.recv_timeout(Duration::from_secs(60)), Ok((20, false)));
        assert_eq!(order.recv_timeout(Duration::from_secs(60)), Ok((60, false)));
        drop((first, last, far));
        drop(reached);
        assert!(order.recv().is_err(), "the jobs of dropped timers are dropped");
    }

    #[test]
    fn a_pause_ends_at_its_time() {
        use std::time::Duration;
        let until = Instant::now() + Duration::from_millis(20);
        futures::executor::block_on(pause(until));
        assert!(Instant::now() >= until);
    }
}
