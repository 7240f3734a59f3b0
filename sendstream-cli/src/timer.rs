//! A wait for a moment. Few are ever under way, so each has a thread.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures::{FutureExt as _, channel::oneshot};

/// Resolves after `duration`. Dropping it ends the wait, and the thread with it.
///
/// # Errors
///
/// The system is out of threads.
pub(crate) fn sleep(duration: Duration) -> io::Result<Sleep> {
    let (end, ended) = oneshot::channel();
    let (wanted, watched) = mpsc::channel::<()>();
    let wait = move || {
        if watched.recv_timeout(duration) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Nobody may wait any more.
            let _ = end.send(());
        }
    };
    thread::Builder::new().name("timer".to_owned()).spawn(wait)?;
    Ok(Sleep { ended, _wanted: wanted })
}

/// The future that [`sleep`] returns.
#[derive(Debug)]
pub(crate) struct Sleep {
    ended: oneshot::Receiver<()>,
    /// The thread sees it disconnect.
    _wanted: mpsc::Sender<()>,
}

impl Future for Sleep {
    type Output = Result<(), oneshot::Canceled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.ended.poll_unpin(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_wait_ends_after_its_time() {
        assert!(block_on(sleep(Duration::from_millis(1)).unwrap()).is_ok());
    }

    #[test]
    fn the_thread_ends_when_nobody_waits_any_more() {
        // The thread drops its end of the channel when it ends.
        let mut sleep = sleep(Duration::from_secs(3600)).unwrap();
        let ended = std::mem::replace(&mut sleep.ended, oneshot::channel().1);
        drop(sleep);
        assert!(block_on(ended).is_err(), "its time has not come");
    }
}
