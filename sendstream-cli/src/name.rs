//! Which names a peer may give a file.
//!
//! A name on the wire is a relative path of bytes with `/` between its components, whatever the
//! systems at both ends use. A name that could leave the receiver's directory, or that the
//! receiver's system cannot have, is refused rather than rewritten: a rewritten name could hit
//! another file.
//!
//! | refused               | where   | why                                                      |
//! | --------------------- | ------- | -------------------------------------------------------- |
//! | empty, too long, deep | all     | no system has such names, or not in every directory      |
//! | absolute, `.`, `..`   | all     | it could leave the directory                             |
//! | NUL                   | all     | it would end the name                                    |
//! | `.sendstream-*.part`  | all     | the tool's own name for a file that is not complete      |
//! | control, not UTF-8    | Windows | it has no such names                                     |
//! | devices, `\\`, `:`, ...| Windows | they stand for something else there                      |
//!
//! Unix has names of any other bytes, so control characters are kept, and are shown as escapes.

use std::{ffi::OsStr, fmt};

use sendstream::Printable;

/// A name that was checked: below a directory it stays below that directory, as long as no
/// symbolic link is followed on the way (which [`Inbox`](crate::inbox::Inbox) sees to).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SafeName(Box<[u8]>);

impl SafeName {
    /// The longest name in bytes, as in Linux's `PATH_MAX`.
    pub(crate) const MAX_LEN: usize = 4096;

    /// How many directories a name may lead through.
    pub(crate) const MAX_DEPTH: usize = 64;

    /// Checks a name.
    pub(crate) fn new(name: impl Into<Box<[u8]>>) -> Result<Self, NameError> {
        let name = name.into();
        check(&name, Rules::HERE)?;
        Ok(Self(name))
    }

    /// The name as it is on the wire.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directories above the file, outermost first.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &OsStr> {
        components(self.parent().unwrap_or_default())
    }

    /// The path above the file; `None` if it has no directory of its own.
    pub(crate) fn parent(&self) -> Option<&[u8]> {
        Some(&self.0[..self.0.iter().rposition(|byte| *byte == b'/')?])
    }

    /// The last component.
    pub(crate) fn file_name(&self) -> &OsStr {
        let begin = self.0.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        os_str(&self.0[begin..])
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable::new(&self.0).fmt(f)
    }
}

/// The components of a path on the wire.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &OsStr> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()).map(os_str)
}

fn os_str(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
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

fn check(name: &[u8], rules: Rules) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > SafeName::MAX_LEN {
        return Err(NameError::TooLong);
    }
    if name.starts_with(b"/") {
        return Err(NameError::Absolute);
    }
    if name.iter().filter(|byte| **byte == b'/').count() > SafeName::MAX_DEPTH {
        return Err(NameError::TooDeep);
    }
    name.split(|byte| *byte == b'/').try_for_each(|component| check_component(component, rules))
}

fn check_component(component: &[u8], rules: Rules) -> Result<(), NameError> {
    match component {
        b"" => return Err(NameError::EmptyComponent),
        b"." | b".." => return Err(NameError::Dots),
        _ => {}
    }
    if component.len() > MAX_COMPONENT_LEN {
        return Err(NameError::TooLong);
    }
    if component.contains(&0) {
        return Err(NameError::Nul);
    }
    // Some file systems do not tell cases apart.
    let (prefix, suffix) = (PART_PREFIX.as_bytes(), PART_SUFFIX.as_bytes());
    let begins = component.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
    let ends = component.len().checked_sub(suffix.len()).map(|begin| &component[begin..]);
    if begins && ends.is_some_and(|end| end.eq_ignore_ascii_case(suffix)) {
        return Err(NameError::Ours);
    }
    if rules == Rules::Windows {
        let component = str::from_utf8(component).map_err(|_| NameError::NotUtf8)?;
        if component.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter);
        }
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
    #[error("is not UTF-8, which the receiver's system asks for")]
    NotUtf8,
    #[error("is an absolute path")]
    Absolute,
    #[error("has an empty component")]
    EmptyComponent,
    #[error("has a `.` or `..` in its path")]
    Dots,
    #[error("has a NUL character")]
    Nul,
    #[error("has a control character, which the receiver's system forbids")]
    ControlCharacter,
    #[error("is one that the tool gives to files that are not complete")]
    Ours,
    #[error("is reserved on the receiver's system")]
    Reserved,
}

/// How the names of files begin and end that are not complete.
pub(crate) const PART_PREFIX: &str = ".sendstream-";
pub(crate) const PART_SUFFIX: &str = ".part";

const MAX_COMPONENT_LEN: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(name: &str) -> Result<(), NameError> {
        check(name.as_bytes(), Rules::Unix)
    }

    fn windows(name: &str) -> Result<(), NameError> {
        check(name.as_bytes(), Rules::Windows)
    }

    #[test]
    fn ordinary_names_of_every_script_stay_as_they_are() {
        for name in ["a", "two words.txt", "Übergröße – 日本語 🎉.bin", ".profile", "...", "a/b/c", "-rf", "~", "a\\b"]
        {
            let safe = SafeName::new(name.as_bytes()).unwrap();
            assert_eq!(safe.as_bytes(), name.as_bytes());
            assert_eq!(safe.to_string(), name);
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
        assert_eq!(unix("a\0b"), Err(NameError::Nul));
        assert_eq!(unix("a/.sendstream-0123.part"), Err(NameError::Ours));
        assert_eq!(unix(".sendstream-0123.part/x"), Err(NameError::Ours));
        assert_eq!(unix(".SendStream-0123.PART"), Err(NameError::Ours));
    }

    #[test]
    fn a_name_may_have_any_bytes_where_the_system_lets_it_and_is_shown_without_harm() {
        for (name, shown) in [
            (b"Icon\r".as_slice(), "Icon\\r"),
            (b"a\nb", "a\\nb"),
            (b"\x1b[2Jx", "\\u{1b}[2Jx"),
            (b"caf\xe9 \xff", "caf\\xe9 \\xff"),
        ] {
            assert_eq!(SafeName::new(name).unwrap().to_string(), shown);
            assert!(check(name, Rules::Windows).is_err());
        }
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
    fn a_name_is_its_parents_and_the_file() {
        let parts = |name: &str| {
            let name = SafeName::new(name.as_bytes()).unwrap();
            let parents = name.parents().map(|parent| parent.to_str().unwrap().to_owned()).collect::<Vec<_>>();
            (parents, name.file_name().to_str().unwrap().to_owned())
        };
        assert_eq!(parts("x"), (vec![], "x".to_owned()));
        assert_eq!(parts("a/b/x"), (vec!["a".to_owned(), "b".to_owned()], "x".to_owned()));
    }
}
