//! Ctrl-C as a future.

use std::{
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use futures::{FutureExt as _, channel::oneshot, executor::block_on, future::Shared};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::error::Failure;

/// Whether the user asked the process to stop: SIGINT (Ctrl-C), SIGTERM, or SIGHUP (the terminal
/// went away).
///
/// The first signal only tells; whoever waits ends in good order. A second one ends the process at
/// once.
#[derive(Clone)]
pub(crate) struct Interrupt {
    fire: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    fired: Shared<oneshot::Receiver<()>>,
}

impl Interrupt {
    /// Takes the signals over from the system. Once per process.
    pub(crate) fn install() -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("cannot handle signals: {error}"));
        let hangup = (!hangup_is_ignored()).then_some(SIGHUP);
        let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup)).map_err(failed)?;
        let interrupt = Self::of_nobody();
        let on_signal = interrupt.clone();
        let watch = move || {
            for signal in signals.forever() {
                if !on_signal.fire() {
                    process::exit(128 + signal);
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
        Ok(interrupt)
    }

    /// One that no signal fires.
    pub(crate) fn of_nobody() -> Self {
        let (fire, fired) = oneshot::channel();
        Self { fire: Arc::new(Mutex::new(Some(fire))), fired: fired.shared() }
    }

    /// Does what the first signal does. Says whether this was the first time.
    pub(crate) fn fire(&self) -> bool {
        let fire = self.fire.lock().unwrap_or_else(PoisonError::into_inner).take();
        fire.is_some_and(|fire| fire.send(()).is_ok())
    }

    /// Does [`exit_soon`] when the first signal comes, for a command whose only thread may be stuck.
    pub(crate) fn exits_soon(&self) {
        let fired = self.wait();
        let work = || {
            if block_on(fired).is_ok() {
                exit_soon();
            }
        };
        // Without a thread, a second Ctrl-C does the same.
        let _ = thread::Builder::new().name("interrupt".to_owned()).spawn(work);
    }

    /// Resolves when the first signal comes.
    pub(crate) fn wait(&self) -> Interrupted {
        self.fired.clone()
    }
}

/// Ends the process in a few seconds, should a stuck disk keep it from ending in good order.
pub(crate) fn exit_soon() {
    let work = || {
        thread::sleep(Duration::from_secs(5));
        process::exit(130);
    };
    // Without a thread, a second Ctrl-C does the same.
    let _ = thread::Builder::new().name("exit".to_owned()).spawn(work);
}

/// The future that [`Interrupt::wait`] returns.
pub(crate) type Interrupted = Shared<oneshot::Receiver<()>>;

/// Whether this process was started to outlive its terminal, as `nohup` does it; a handler would
/// undo that.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (SIGHUP - 1) & 1 == 1
}
