//! Signals that come to MsQuic's threads: the edit `signals-do-not-stop-timers`. In a process of
//! its own, since every thread of it gets them.
#![cfg(target_os = "linux")]

mod support;

use std::{
    fs, ptr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use sendstream::{ConnectionError, Timeout, TransportConfig};
use support::{Pair, figure, run_within};

/// How many signals came.
static CAME: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_connection_times_out_while_every_thread_gets_signals_all_the_time() {
    extern "C" fn count(_: libc::c_int) {
        CAME.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: all-zero is a valid `sigaction`, and the handler that is put into it only adds to an
    // atomic, which every signal's may.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut())
    };
    assert_eq!(installed, 0);

    // Without the edit the connection does not time out before the signals end, which they do not.
    run_within(Duration::from_secs(30), async {
        let settings = TransportConfig::default().idle_timeout(Duration::from_secs(3));
        let pair = Pair::with(settings.clone(), settings).await;
        // The last acknowledgements of the handshake go out after their delay, 25 ms, which a pause
        // of a busy machine is soon as long as. What then waits has all of the idle timeout before
        // it. There is no event for that, and nothing depends on it where the edit is made.
        thread::sleep(Duration::from_millis(300));
        let threads = fs::read_dir("/proc/self/task").unwrap();
        let storm: Vec<_> =
            threads.map(|thread| Signals::to(thread.unwrap().file_name().to_str().unwrap().parse().unwrap())).collect();
        let closed = futures::join!(pair.client.closed(), pair.server.closed());
        assert_eq!(closed, (ConnectionError::TimedOut(Timeout::Idle), ConnectionError::TimedOut(Timeout::Idle)));
        figure(format_args!(
            "{} signals to {} threads until both sides timed out",
            CAME.load(Ordering::Relaxed),
            storm.len()
        ));
        drop(storm);
        pair.end().await;
    });
}

/// Has the kernel send SIGUSR1 to a thread every few milliseconds. However busy the machine is, no
/// pause is long.
struct Signals(libc::timer_t);

// SAFETY: a timer's name is the whole process's.
unsafe impl Send for Signals {}

impl Signals {
    fn to(thread: libc::pid_t) -> Self {
        let mut timer = ptr::null_mut();
        // SAFETY: all-zero is a valid `sigevent`, and `timer` has room for the name.
        let made = unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGUSR1;
            event.sigev_notify_thread_id = thread;
            libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer)
        };
        assert_eq!(made, 0);
        let every = libc::timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        let times = libc::itimerspec { it_interval: every, it_value: every };
        // SAFETY: the kernel has just named the timer, and the old times need not be told.
        assert_eq!(unsafe { libc::timer_settime(timer, 0, &times, ptr::null_mut()) }, 0);
        Self(timer)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: the timer is deleted here only.
        unsafe { libc::timer_delete(self.0) };
    }
}
