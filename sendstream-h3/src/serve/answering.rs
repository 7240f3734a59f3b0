//! What answers a request, in memory that is used again.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio_util::sync::ReusableBoxFuture;

use crate::serve::request::End;

/// The future that answers a request. It has several kilobytes. Most are done when they were polled
/// once, so that a thread needs the memory of one for all its requests: that stays in the processor's
/// caches, and allocators are slow with such sizes.
pub(super) struct Answering {
    /// Until it is dropped.
    future: Option<ReusableBoxFuture<'static, End>>,
    done: bool,
}

thread_local! {
    /// Futures that are done, of which nothing but the memory is left.
    static SPARE: RefCell<Vec<ReusableBoxFuture<'static, End>>> = const { RefCell::new(Vec::new()) };
}

/// How many a thread keeps.
const MOST_SPARE: usize = 16;

impl Answering {
    pub(super) fn new(future: impl Future<Output = End> + Send + 'static) -> Self {
        // A thread that is ending keeps none.
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        let future = match spare {
            Some(mut spare) => {
                spare.set(future);
                spare
            }
            None => ReusableBoxFuture::new(future),
        };
        Self { future: Some(future), done: false }
    }
}

impl Future for Answering {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let polled = self.future.as_mut().expect("only `drop` takes it").poll(cx);
        self.done = polled.is_ready();
        polled
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // One that is not done has more than its memory to let go of.
        if let Some(future) = self.future.take().filter(|_| self.done) {
            let _ = SPARE.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < MOST_SPARE {
                    spare.push(future);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin, sync::Arc, task::Waker};

    use super::*;

    fn spares() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    fn poll(answering: Answering) -> Poll<End> {
        pin!(answering).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn memory_of_an_answer_is_used_again_and_holds_nothing_of_it() {
        let held = Arc::new(());
        let answer = |held: Arc<()>| async move {
            drop(held);
            End::Answered
        };
        for _ in 0..3 {
            assert_eq!(poll(Answering::new(answer(held.clone()))), Poll::Ready(End::Answered));
            assert_eq!((spares(), Arc::strong_count(&held)), (1, 1));
        }
    }

    #[test]
    fn an_answer_that_nobody_waits_for_lets_go_of_all_it_holds() {
        let held = Arc::new(());
        for polled in [false, true] {
            let inside = held.clone();
            let answering = Answering::new(async move {
                pending::<()>().await;
                drop(inside);
                End::Answered
            });
            if polled {
                assert!(poll(answering).is_pending());
            } else {
                drop(answering);
            }
            assert_eq!((spares(), Arc::strong_count(&held)), (0, 1));
        }
    }

    #[test]
    fn a_thread_keeps_memory_for_some_and_not_for_all() {
        let mut all: Vec<_> = (0..2 * MOST_SPARE).map(|_| Answering::new(async { End::Answered })).collect();
        for answering in &mut all {
            assert!(Pin::new(answering).poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        drop(all);
        assert_eq!(spares(), MOST_SPARE);
    }
}
