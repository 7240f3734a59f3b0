//! What this process uses, as the kernel counts it.

/// Resident memory in bytes, without the files that are mapped: how much of those the kernel keeps is its own affair, and a
/// page of code that it took away comes back when it is run again.
pub(crate) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}
