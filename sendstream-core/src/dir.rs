//! [`Dir`]: whether a stream goes one way or both.

/// Which halves a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dir {
    /// One: whoever opened the stream sends on it.
    Uni,
    /// Two: either side sends.
    Bi,
}
