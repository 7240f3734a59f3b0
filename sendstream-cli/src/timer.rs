//! A wait for a moment. Few are ever under way, so each has a thread.

use std::{io, thread, time::Duration};

use futures::channel::oneshot;

/// Resolves after `duration`. Dropping it ends the wait, and the thread when its time has come.
///
/// # Errors
///
/// The system is out of threads.
pub(crate) fn sleep(duration: Duration) -> io::Result<Sleep> {
    let (end, ended) = oneshot::channel();
    let wait = move || {
        thread::sleep(duration);
        // Nobody may wait any more.
        let _ = end.send(());
    };
    thread::Builder::new().name("timer".to_owned()).spawn(wait)?;
    Ok(ended)
}

/// The future that [`sleep`] returns.
pub(crate) type Sleep = oneshot::Receiver<()>;
