//! Limits how much a reader keeps without the peer's credit for it.
//!
//! The transport lends its memory, and gives the peer credit for what comes back: those bytes may be
//! sent again. A reader may keep what it was handed for as long as it likes, though. If that held
//! credit back, then a reader that keeps a window's worth, or one early piece, would never get what
//! comes behind it.
//!
//! So only so much is kept without credit, by one stream and by all streams of a connection. Beyond
//! that the transport gives the credit, and lets go of the memory: the pieces that are still out keep
//! it alive ([`Block`](super::recv_state::Block)). The transport goes on with other memory, which
//! costs an allocation. A reader that drops what it reads costs none.
//!
//! MsQuic tells the peer of credit once a quarter of a window has come together. Less than that is
//! untold, and at most a quarter is kept without credit. At least half of the window is then open to
//! the peer, or holds what the reader has not taken.
//!
//! A window may have shrunk to the least that a [`Budget`] leaves when the peer got its last credit,
//! and MsQuic looks at that again only when it gets something back. So from the first time that any
//! window of the process shrank, a stream keeps no more without credit than a quarter of the least.
//!
//! A piece counts when it is handed out. So one that is larger than a quarter of the connection's
//! window has its credit at once, even if the reader is about to drop it. To wait for the reader's
//! next question would be a promise that the reader need not keep: of many streams that each have one
//! such piece and ask for no more, the window would be full.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::budget::Budget;

/// How much the streams of a connection keep without credit, and how much they may.
#[derive(Debug)]
pub struct Lending {
    kept: AtomicU64,
    stream: u64,
    connection: u64,
    budget: Option<&'static Budget>,
}

impl Lending {
    /// For a connection of these windows: its smallest for a stream, and its own. Both in bytes.
    pub fn new(stream_window: u64, connection_window: u64) -> Self {
        Self { kept: AtomicU64::new(0), stream: stream_window / 4, connection: connection_window / 4, budget: None }
    }

    /// The windows of its streams shrink when much of `budget` is used.
    #[must_use]
    pub fn within(self, budget: &'static Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// Whether a stream that keeps `bytes` keeps too much.
    pub(super) fn is_much_for_a_stream(&self, bytes: u64) -> bool {
        let shrunk = || self.budget.is_some_and(Budget::has_shrunk_credit);
        bytes > self.stream || (bytes > Budget::LEAST_WINDOW / 4 && shrunk())
    }

    /// Counts `bytes` that were handed out. Returns whether all streams together keep too much now.
    pub(super) fn add(&self, bytes: u64) -> bool {
        // The count guards nothing: every order of the additions comes to the same sum.
        self.kept.fetch_add(bytes, Ordering::Relaxed) + bytes > self.connection
    }

    /// Takes back `bytes` that credit was given for.
    pub(super) fn remove(&self, bytes: u64) {
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many bytes all streams keep without credit.
    #[cfg(test)]
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_keeps_a_quarter_of_the_least_window_once_one_has_shrunk() {
        let budget: &'static Budget = Box::leak(Box::new(Budget::new(1 << 30)));
        let [usual, small] = [1 << 20, 4 << 10].map(|window| Lending::new(window, 16 << 20).within(budget));
        let much = |bytes| [&usual, &small].map(|lending| lending.is_much_for_a_stream(bytes));
        assert_eq!((much(5000), much(1000)), ([false, true], [false, false]));
        budget.shrink_credit();
        assert_eq!((much(5000), much(1000)), ([true, true], [false, false]));
    }
}
