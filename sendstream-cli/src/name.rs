//! Which names a peer may give a file.
//!
//! A name on the wire is a relative path in UTF-8 with `/` between its components, whatever the
//! systems at both ends use. A name that could leave the receiver's directory, or that no file
//! should have, is refused rather than rewritten: a rewritten name could hit another file. Spaces,
//! leading dots and every printable character of every script are fine.

use std::{fmt, path::PathBuf, str::FromStr};

use sendstream::Printable;

/// A name that was checked: joined to a directory it stays below that directory, as long as no
/// symbolic link is followed on the way (which [`Inbox`](crate::inbox::Inbox) sees to).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SafeName(String);

impl SafeName {
    /// The longest name in bytes, as in Linux's `PATH_MAX`.
    pub(crate) const MAX_LEN: usize = 4096;

    /// How many directories a name may lead through.
    pub(crate) const MAX_DEPTH: usize = 64;

    /// The name as it is on the wire.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The directories above the file, outermost first.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.rsplit_once('/').map(|(parents, _)| parents.split('/')).into_iter().flatten()
    }

    /// The name as a relative path of this system.
    pub(crate) fn to_path(&self) -> PathBuf {
        self.0.split('/').collect()
    }

    fn check(name: &str, rules: Rules) -> Result<(), NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(NameError::TooLong);
        }
        if name.starts_with('/') {
            return Err(NameError::Absolute);
        }
        if name.matches('/').count() > Self::MAX_DEPTH {
            return Err(NameError::TooDeep);
        }
        name.split('/').try_for_each(|component| check_component(component, rules))
    }
}

impl FromStr for SafeName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::check(name, Rules::HERE)?;
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable::new(&self.0).fmt(f)
    }
}

/// What the receiving system forbids beyond what is forbidden everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    Unix,
    Windows,
}

impl Rules {
    const HERE: Self = if cfg!(windows) { Self::Windows } else { Self::Unix };
}

fn check_component(component: &str, rules: Rules) -> Result<(), NameError> {
    match component {
        "" => return Err(NameError::EmptyComponent),
        "." | ".." => return Err(NameError::Dots),
        _ => {}
    }
    if component.len() > MAX_COMPONENT_LEN {
        return Err(NameError::TooLong);
    }
    if component.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter);
    }
    if rules == Rules::Windows {
        if component.contains(['<', '>', ':', '"', '\\', '|', '?', '*']) || component.ends_with(['.', ' ']) {
            return Err(NameError::Reserved);
        }
        // Windows opens the device also when the name has an extension: `nul.txt` is `NUL`.
        let stem = component.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
        let port = |prefix| {
            let number = stem.strip_prefix(prefix).and_then(|number| number.parse().ok());
            number.is_some_and(|digit: char| matches!(digit, '1'..='9' | '¹' | '²' | '³'))
        };
        if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || port("COM") || port("LPT") {
            return Err(NameError::Reserved);
        }
    }
    Ok(())
}

/// Why a name is refused. The text completes "the name ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("is empty")]
    Empty,
    #[error("is too long")]
    TooLong,
    #[error("leads through more than {} directories", SafeName::MAX_DEPTH)]
    TooDeep,
    #[error("is not UTF-8")]
    NotUtf8,
    #[error("is an absolute path")]
    Absolute,
    #[error("has an empty component")]
    EmptyComponent,
    #[error("has a `.` or `..` in its path")]
    Dots,
    #[error("has a control character")]
    ControlCharacter,
    #[error("is reserved on the receiver's system")]
    Reserved,
}

const MAX_COMPONENT_LEN: usize = 255;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn unix(name: &str) -> Result<(), NameError> {
        SafeName::check(name, Rules::Unix)
    }

    fn windows(name: &str) -> Result<(), NameError> {
        SafeName::check(name, Rules::Windows)
    }

    #[test]
    fn ordinary_names_of_every_script_stay_as_they_are() {
        for name in ["a", "two words.txt", "Übergröße – 日本語 🎉.bin", ".profile", "...", "a/b/c", "-rf", "~", "a\\b"]
        {
            let safe: SafeName = name.parse().unwrap();
            assert_eq!(safe.as_str(), name);
            assert_eq!(safe.to_path(), Path::new(name));
        }
    }

    #[test]
    fn no_name_leaves_the_directory() {
        assert_eq!(unix("/etc/passwd"), Err(NameError::Absolute));
        assert_eq!(unix(".."), Err(NameError::Dots));
        assert_eq!(unix("../x"), Err(NameError::Dots));
        assert_eq!(unix("a/../../x"), Err(NameError::Dots));
        assert_eq!(unix("a/.."), Err(NameError::Dots));
        assert_eq!(unix("./x"), Err(NameError::Dots));
        for name in ["C:\\x", "C:x", "..\\x", "\\\\host\\share\\x", "a/b:stream"] {
            assert_eq!(windows(name), Err(NameError::Reserved), "{name}");
        }
    }

    #[test]
    fn names_that_no_file_should_have_are_refused() {
        assert_eq!(unix(""), Err(NameError::Empty));
        assert_eq!(unix("a//b"), Err(NameError::EmptyComponent));
        assert_eq!(unix("a/"), Err(NameError::EmptyComponent));
        assert_eq!(unix("a\0b"), Err(NameError::ControlCharacter));
        assert_eq!(unix("a\nb"), Err(NameError::ControlCharacter));
        assert_eq!(unix("\u{1b}[2Jx"), Err(NameError::ControlCharacter));
    }

    #[test]
    fn lengths_are_limited_per_component_and_in_all() {
        assert_eq!(unix(&"x".repeat(255)), Ok(()));
        assert_eq!(unix(&"x".repeat(256)), Err(NameError::TooLong));
        let long = vec!["x".repeat(240); 18].join("/");
        assert_eq!(unix(&long[..4096]), Ok(()));
        assert_eq!(unix(&long[..4097]), Err(NameError::TooLong));
    }

    #[test]
    fn depth_is_limited() {
        assert_eq!(unix(&["x"; 65].join("/")), Ok(()));
        assert_eq!(unix(&["x"; 66].join("/")), Err(NameError::TooDeep));
        assert_eq!(unix(&["x"; 2048].join("/")), Err(NameError::TooDeep));
    }

    #[test]
    fn windows_devices_are_reserved_there_only() {
        for name in ["nul", "AUX.c", "com1", "a/lpt9.txt", "con .x", "COM¹", "trailing.", "trailing "] {
            assert_eq!(windows(name), Err(NameError::Reserved), "{name}");
            assert_eq!(unix(name), Ok(()), "{name}");
        }
        for name in ["null", "com", "comb", "com10", "com0", "console"] {
            assert_eq!(windows(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn the_parents_of_a_name_exclude_the_file() {
        let parents = |name: &str| name.parse::<SafeName>().unwrap().parents().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(parents("x"), [""; 0]);
        assert_eq!(parents("a/b/x"), ["a", "b"]);
    }
}
