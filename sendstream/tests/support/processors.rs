//! The processors that threads run on.

/// Those that this process may use.
pub(crate) fn allowed() -> Vec<usize> {
    // SAFETY: an all-zero set is an empty one, and the calls get places of their types.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &mut set), 0);
        (0..libc::CPU_SETSIZE as usize).filter(|processor| libc::CPU_ISSET(*processor, &set)).collect()
    }
}

/// Lets a thread, which may be over, run on these processors only. 0 is the caller's own.
pub(crate) fn move_thread(thread: libc::pid_t, processors: impl IntoIterator<Item = usize>) {
    // SAFETY: an all-zero set is an empty one, and the calls get places of their types.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        processors.into_iter().for_each(|processor| libc::CPU_SET(processor, &mut set));
        libc::sched_setaffinity(thread, size_of_val(&set), &set);
    }
}
