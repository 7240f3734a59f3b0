//! What this process uses, as the kernel counts it.

/// Resident memory in bytes, without the files that are mapped: how much of those the kernel keeps is its own affair, and a
/// page of code that it took away comes back when it is run again.
///
/// The pages are counted now. `/proc/self/status` has a number that the kernel keeps, which lags by up to 128 KiB and more for
/// each processor.
pub(crate) fn resident() -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = maps.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}
