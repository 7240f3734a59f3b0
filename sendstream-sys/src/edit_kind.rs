//! What an edit of MsQuic's sources is for. The build script reads this file too.

use std::fmt;

/// What an edit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditKind {
    /// An attacker could make use of MsQuic without it.
    Security,
    /// MsQuic would do something wrong without it.
    Correctness,
    /// MsQuic would not build everywhere without it.
    Build,
    /// MsQuic can do something with it that it could not before. The library does without where it
    /// is missing.
    Feature,
    /// It saves time or memory. Left out with `SENDSTREAM_MSQUIC_SPEED_EDITS=off`.
    Speed,
}

impl fmt::Display for EditKind {
    /// The kind's name, in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Security => "security",
            Self::Correctness => "correctness",
            Self::Build => "build",
            Self::Feature => "feature",
            Self::Speed => "speed",
        })
    }
}
