//! From how many handshakes on the process's servers have clients prove their addresses: what the
//! application has chosen, or else half of the smallest backlog.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    native::{api::abilities, library},
    types::error::NativeError,
};

/// A server's backlog, which counts until it is dropped.
///
/// Forged first packets from many addresses could fill it. So clients prove their addresses before
/// more than half of it can be theirs, unless the application has chosen otherwise.
#[derive(Debug)]
pub(crate) struct CountedBacklog(usize);

impl CountedBacklog {
    /// Counts a backlog of `limit` places.
    pub(crate) fn new(limit: usize) -> Self {
        retry().backlogs.push(limit);
        let counted = Self(limit);
        apply_or_warn();
        counted
    }
}

impl Drop for CountedBacklog {
    fn drop(&mut self) {
        let mut retry = retry();
        if let Some(place) = retry.backlogs.iter().position(|limit| *limit == self.0) {
            retry.backlogs.swap_remove(place);
        }
        drop(retry);
        apply_or_warn();
    }
}

/// Lets the number of handshakes count from `count` on, or not at all (0), whatever the backlogs
/// are.
pub(crate) fn choose(count: u32) -> Result<(), NativeError> {
    retry().chosen = Some(count);
    apply()
}

#[derive(Debug)]
struct Retry {
    /// What the application has said. Written by: `choose`.
    chosen: Option<u32>,
    /// How many may wait at each server. Written by: `CountedBacklog`.
    backlogs: Vec<usize>,
}

impl Retry {
    /// What MsQuic is to have.
    fn count(&self) -> u32 {
        self.chosen.unwrap_or_else(|| {
            let smallest = self.backlogs.iter().min();
            smallest.map_or(0, |smallest| u32::try_from(smallest / 2).unwrap_or(u32::MAX).max(1))
        })
    }
}

fn apply_or_warn() {
    if let Err(error) = apply() {
        tracing::warn!(%error, "clients do not prove their addresses before they take half of the backlog");
    }
}

/// Tells MsQuic. Without the lock, so another may have told it something older meanwhile: then once
/// more. Each call changes the count first, so the last one to look finds MsQuic up to date.
fn apply() -> Result<(), NativeError> {
    if !abilities().counts_handshakes {
        return Ok(());
    }
    loop {
        let count = retry().count();
        library::set_retry_handshakes(count)?;
        if retry().count() == count {
            return Ok(());
        }
    }
}

fn retry() -> MutexGuard<'static, Retry> {
    static RETRY: Mutex<Retry> = Mutex::new(Retry { chosen: None, backlogs: Vec::new() });
    RETRY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_smallest_backlog_counts_unless_something_was_chosen() {
        let count = |chosen, backlogs: &[usize]| Retry { chosen, backlogs: backlogs.to_vec() }.count();
        assert_eq!(count(None, &[]), 0);
        assert_eq!(count(None, &[1024]), 512);
        assert_eq!(count(None, &[1024, 10, 64]), 5);
        assert_eq!(count(None, &[1]), 1);
        assert_eq!(count(None, &[usize::MAX]), u32::MAX);
        assert_eq!(count(Some(0), &[10]), 0);
        assert_eq!(count(Some(7), &[10]), 7);
    }
}
