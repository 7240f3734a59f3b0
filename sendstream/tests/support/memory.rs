//! What this process uses, as the kernel counts it.

use std::time::Duration;

/// Resident memory in bytes, without the files that are mapped: how much of those the kernel keeps
/// is its own affair, and a page of code that it took away comes back when it is run again.
///
/// The pages are counted now. `/proc/self/status` has a number that the kernel keeps, which lags by
/// up to 128 KiB and more for each processor.
pub(crate) fn resident() -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = maps.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// Holds a test to a bound on the memory that it needs, in bytes. AddressSanitizer keeps what was
/// freed for a while, on purpose, so that under it (`make test-asan`) nothing is judged.
pub(crate) fn assert_within(grown: usize, allowed: usize) {
    let is_judged = std::env::var("SENDSTREAM_MSQUIC_SANITIZE").is_err();
    assert!(grown < allowed || !is_judged, "resident memory grew by {grown} bytes, and {allowed} were allowed");
}

/// What a process holds of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) resident: usize,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
}

/// What this process holds.
pub(crate) fn holdings() -> Holdings {
    let entries = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    Holdings { resident: resident(), descriptors: entries("/proc/self/fd"), threads: entries("/proc/self/task") }
}

/// Address space in bytes, which is what `RLIMIT_AS` limits.
pub(crate) fn address_space() -> usize {
    let pages: usize = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

/// The processor time that this process has used, with all its threads.
pub(crate) fn processor_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).try_into().unwrap()
}
