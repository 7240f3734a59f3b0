//! A stream as its transport and its user leave it: both halves, and who waits for what.

pub mod cause;
pub mod copies;
pub mod recv_state;
pub mod state;

/// Whether the end of the stream goes with what is sent, or came with what is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fin {
    /// Nothing comes after it.
    Yes,
    /// More may come.
    No,
}

impl Fin {
    /// Whether nothing comes after it.
    #[inline]
    pub fn is_set(self) -> bool {
        self == Self::Yes
    }
}

impl From<bool> for Fin {
    #[inline]
    fn from(fin: bool) -> Self {
        if fin { Self::Yes } else { Self::No }
    }
}
