//! Runs short futures where they are woken.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake},
};

use tokio::task::unconstrained;

/// Runs `future` now, and then on each thread that wakes it, in the middle of what that does: no task
/// is woken. So it must be short. It must not wake itself, as it would wait for its own lock. What comes
/// of it goes to `then`.
pub(super) fn run<F: Future + Send + 'static>(future: F, then: impl FnOnce(F::Output) + Send + 'static) {
    Arc::new(Inline(Mutex::new(Some((Box::pin(future), then))))).wake();
}

struct Inline<F, T>(Mutex<Option<(Pin<Box<F>>, T)>>);

impl<F: Future + Send + 'static, T: FnOnce(F::Output) + Send + 'static> Wake for Inline<F, T> {
    fn wake(self: Arc<Self>) {
        let waker = self.clone().into();
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((future, _)) = &mut *place else { return };
        // Whatever task the thread is in pays for nothing here.
        let mut future = unconstrained(future.as_mut());
        let Poll::Ready(output) = Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) else { return };
        let over = place.take();
        drop(place);
        if let Some((_, then)) = over {
            then(output);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_future_runs_at_once_and_goes_on_where_it_is_woken() {
        let reached = Arc::new(AtomicU32::new(0));
        let (first, one) = oneshot::channel();
        let (second, two) = oneshot::channel::<()>();
        let inside = reached.clone();
        let after = reached.clone();
        let steps = async move {
            inside.store(1, Relaxed);
            let _ = one.await;
            inside.store(2, Relaxed);
            let _ = two.await;
            3
        };
        run(steps, move |last| after.store(last, Relaxed));
        assert_eq!(reached.load(Relaxed), 1);
        first.send(()).unwrap();
        assert_eq!(reached.load(Relaxed), 2);
        std::thread::spawn(|| drop(second)).join().unwrap();
        assert_eq!(reached.load(Relaxed), 3);
        assert_eq!(Arc::strong_count(&reached), 1, "nothing is left of it");
    }
}
