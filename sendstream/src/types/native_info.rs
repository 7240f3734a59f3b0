//! What native code runs in this process.

use std::fmt;

/// What native code runs in this process, from [`native_info`](crate::native_info).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NativeInfo {
    /// MsQuic's version, as the loaded library reports it: `2.6.0.0`.
    pub msquic_version: String,
    /// The commit that MsQuic was built from, as the loaded library reports it.
    pub msquic_git_hash: String,
    /// Where the sources came from.
    pub source: String,
    /// Name and version of the TLS library, as it reports them: `AWS-LC 5.12.0`.
    pub tls_library: String,
    /// How MsQuic was built: `Release`, `Debug`, ...
    pub profile: String,
    /// What was changed in MsQuic's sources, in the order of application, and what for.
    pub edits: &'static [EditInfo],
}

/// A change that was made to MsQuic's sources before they were compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EditInfo {
    /// A short, stable name.
    pub name: &'static str,
    /// What it is for.
    pub kind: EditKind,
}

/// What an edit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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
