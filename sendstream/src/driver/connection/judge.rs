//! Drives the future of a slow verifier without an executor, and drops it.
//!
//! The handler of PEER_CERTIFICATE_RECEIVED makes a [`Judging`], polls it once, and answers MsQuic
//! that it will know later. The `Judging` is its future's waker. A wake makes the background thread
//! poll it again. It is never polled in place, because a wake may happen under a foreign lock. The
//! connection gets the first answer ([`Judged::on_judged`]).
//!
//! The connection keeps its `Judging` until it ends, and then cancels it. So the future never
//! outlives the connection, even if its waker does. The `Judging` holds the connection weakly, so a
//! verifier that never answers keeps no handle open. The weak reference can be upgraded as long as
//! MsQuic has events for the connection, because MsQuic holds a reference for that time.
//!
//! The future is application code. The thread that took it out of [`Progress`] polls and drops it
//! without a lock, so never two threads at once. A panic in it is a refusal.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Wake, Waker},
};

use sendstream_core::foreign::contain;

use crate::{
    native::background,
    types::tls::{CertificateRefusal, Verdict},
};

/// A connection whose peer is judged.
pub(crate) trait Judged: Send + Sync + 'static {
    /// Whether the peer is believed, once and for all.
    fn on_judged(&self, answer: Result<(), CertificateRefusal>);
}

/// One verdict that is waited for.
pub(crate) struct Judging {
    connection: Weak<dyn Judged>,
    progress: Mutex<Progress>,
}

/// Who has the future.
enum Progress {
    /// It waits for its wake.
    Waiting(Verdict),
    /// It was woken; the background thread will poll it.
    Woken(Verdict),
    /// Somebody polls it, and again if it was woken meanwhile.
    Polling { woken: bool },
    /// It has answered, or was canceled.
    Over,
}

impl Judging {
    /// A verdict on the peer of `connection`, not polled yet.
    pub(crate) fn new(connection: Weak<dyn Judged>, verdict: Verdict) -> Arc<Self> {
        Arc::new(Self { connection, progress: Mutex::new(Progress::Waiting(verdict)) })
    }

    /// Polls the verdict, unless somebody does so already or it is over, and tells the connection
    /// the answer.
    pub(crate) fn poll(self: &Arc<Self>) {
        let mut verdict = {
            let mut progress = self.lock();
            match std::mem::replace(&mut *progress, Progress::Polling { woken: false }) {
                Progress::Waiting(verdict) | Progress::Woken(verdict) => verdict,
                other => {
                    *progress = other;
                    return;
                }
            }
        };
        let waker = Waker::from(self.clone());
        match contain("a verifier", || verdict.as_mut().poll(&mut Context::from_waker(&waker))) {
            Some(Poll::Pending) => self.put_back(verdict),
            Some(Poll::Ready(answer)) => self.conclude(verdict, answer),
            None => self.conclude(verdict, Err(CertificateRefusal::VerifierPanicked)),
        }
    }

    /// Drops the future: nobody wants its answer any more. If it is being polled, that poll is the
    /// last.
    pub(crate) fn cancel(&self) {
        let progress = std::mem::replace(&mut *self.lock(), Progress::Over);
        if let Progress::Waiting(verdict) | Progress::Woken(verdict) = progress {
            discard(verdict);
        }
    }

    fn put_back(self: &Arc<Self>, verdict: Verdict) {
        let mut progress = self.lock();
        match *progress {
            Progress::Polling { woken: false } => *progress = Progress::Waiting(verdict),
            Progress::Polling { woken: true } => {
                *progress = Progress::Woken(verdict);
                drop(progress);
                self.poll_in_background();
            }
            _ => {
                drop(progress);
                discard(verdict);
            }
        }
    }

    fn conclude(&self, verdict: Verdict, answer: Result<(), CertificateRefusal>) {
        let canceled = matches!(std::mem::replace(&mut *self.lock(), Progress::Over), Progress::Over);
        discard(verdict);
        if !canceled && let Some(connection) = self.connection.upgrade() {
            connection.on_judged(answer);
        }
    }

    fn poll_in_background(self: &Arc<Self>) {
        let judging = self.clone();
        background::run(move || judging.poll());
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // Nothing panics while it is held.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Judging {
    fn wake(self: Arc<Self>) {
        {
            let mut progress = self.lock();
            match std::mem::replace(&mut *progress, Progress::Over) {
                Progress::Waiting(verdict) => *progress = Progress::Woken(verdict),
                Progress::Polling { .. } => {
                    *progress = Progress::Polling { woken: true };
                    return;
                }
                other => {
                    *progress = other;
                    return;
                }
            }
        }
        self.poll_in_background();
    }
}

impl fmt::Debug for Judging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judging").finish_non_exhaustive()
    }
}

/// Drops what is foreign and may panic, where a panic must not keep others from their turn.
fn discard(verdict: Verdict) {
    contain("a verifier's destructor", || drop(verdict));
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use super::*;

    const HANG: Duration = Duration::from_secs(60);

    /// A connection that is gone.
    struct Nobody;

    impl Judged for Nobody {
        fn on_judged(&self, _answer: Result<(), CertificateRefusal>) {}
    }

    /// A judging of no connection.
    fn judging(verdict: Verdict) -> Arc<Judging> {
        Judging::new(Weak::<Nobody>::new(), verdict)
    }

    fn is_over(judging: &Judging) -> bool {
        matches!(*judging.lock(), Progress::Over)
    }

    #[test]
    fn a_wake_during_the_poll_polls_once_more() {
        let (polled, polls) = mpsc::channel();
        let mut left = 3;
        let judging = judging(Box::pin(poll_fn(move |cx| {
            left -= 1;
            // Twice, which is still one reason to poll.
            cx.waker().wake_by_ref();
            cx.waker().wake_by_ref();
            polled.send(left).unwrap();
            if left == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
        })));
        judging.poll();
        for left in [2, 1, 0] {
            assert_eq!(polls.recv_timeout(HANG), Ok(left));
        }
        // The sender goes with the future, as nothing polls it any more.
        assert_eq!(polls.recv_timeout(HANG), Err(mpsc::RecvTimeoutError::Disconnected));
        assert!(is_over(&judging));
    }

    #[test]
    fn canceling_drops_the_future_though_its_waker_lives_on() {
        let (waker, wakers) = mpsc::channel();
        let alive = Arc::new(());
        let held = alive.clone();
        let judging = judging(Box::pin(poll_fn(move |cx| {
            let _ = &held;
            waker.send(cx.waker().clone()).unwrap();
            Poll::Pending
        })));
        judging.poll();
        let waker = wakers.recv_timeout(HANG).unwrap();
        judging.cancel();
        assert_eq!(Arc::strong_count(&alive), 1);
        waker.wake();
        assert!(is_over(&judging));
    }

    #[test]
    fn canceling_from_within_the_poll_makes_it_the_last() {
        let place = Arc::new(Mutex::new(None::<Arc<Judging>>));
        let polls = Arc::new(AtomicUsize::new(0));
        let (within, count) = (place.clone(), polls.clone());
        let judging = judging(Box::pin(poll_fn(move |cx| {
            count.fetch_add(1, Ordering::Relaxed);
            within.lock().unwrap().take().unwrap().cancel();
            cx.waker().wake_by_ref();
            Poll::Pending
        })));
        *place.lock().unwrap() = Some(judging.clone());
        judging.poll();
        assert!(is_over(&judging));
        assert_eq!((polls.load(Ordering::Relaxed), Arc::strong_count(&polls)), (1, 1), "polled once and dropped");
    }

    #[test]
    fn a_panic_in_the_poll_or_the_drop_stays_inside() {
        struct PanicOnDrop;
        impl Drop for PanicOnDrop {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let bomb = PanicOnDrop;
        let judging = judging(Box::pin(async move {
            let _bomb = bomb;
            std::future::pending::<()>().await;
            Ok(())
        }));
        judging.poll();
        judging.cancel();
        assert!(is_over(&judging));
        let judging = self::judging(Box::pin(async { panic!("on purpose") }));
        judging.poll();
        assert!(is_over(&judging));
    }
}
