//! Signals that come to MsQuic's threads: the edit `signals-do-not-stop-timers`. In a process of its own, since every thread of
//! it gets them.
#![cfg(target_os = "linux")]

mod support;

use std::{
    fs, ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use sendstream::{ConnectionError, TransportConfig};
use support::{Pair, figure, run_within};

#[test]
fn a_connection_times_out_while_every_thread_gets_signals_all_the_time() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: all-zero is a valid `sigaction`, and the handler that is put into it does nothing, which every signal may.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut())
    };
    assert_eq!(installed, 0);

    // Without the edit the connection does not time out before the signals end, which they do not.
    run_within(Duration::from_secs(60), async {
        let settings = TransportConfig { idle_timeout: Some(Duration::from_secs(1)), ..Default::default() };
        let pair = Pair::with(settings.clone(), settings).await;
        let go_on = Arc::new(AtomicBool::new(true));
        let storm = thread::spawn({
            let go_on = Arc::clone(&go_on);
            move || {
                let mut sent = 0;
                while go_on.load(Ordering::Relaxed) {
                    for task in fs::read_dir("/proc/self/task").unwrap() {
                        let thread: libc::pid_t = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
                        // SAFETY: the call takes three numbers, and fails where the thread has ended.
                        unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, libc::SIGUSR1) };
                        sent += 1;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                sent
            }
        });
        let closed = futures::join!(pair.client.closed(), pair.server.closed());
        go_on.store(false, Ordering::Relaxed);
        let sent = storm.join().unwrap();
        figure(format_args!("{sent} signals until both sides timed out"));
        assert_eq!(closed, (ConnectionError::TimedOut, ConnectionError::TimedOut));
        pair.end().await;
    });
}
