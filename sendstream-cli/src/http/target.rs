//! What a request's path stands for below the served folder, and how a name looks in a link.
//!
//! A path is split at its slashes before the percent signs are decoded, so a decoded slash is a part
//! of a name, which no file has. Nothing is rewritten: a path with `.` or `..`, with an empty name
//! in the middle or with a NUL stands for nothing.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// A path of a request's that was checked. Joined to a folder it stays below it, as long as no
/// symbolic link leads out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Relative; `.` for the folder itself.
    path: PathBuf,
    /// Whether it ended in a slash, as that of a folder does.
    is_folder: bool,
}

impl Target {
    /// Reads the path of a request. `None` if no file can have it, or if a name in it begins with a
    /// dot and `hidden` is not set.
    pub(crate) fn parse(path: &str, hidden: bool) -> Option<Self> {
        let names = path.strip_prefix('/')?;
        if names.is_empty() {
            return Some(Self { path: PathBuf::from("."), is_folder: true });
        }
        let (names, is_folder) = match names.strip_suffix('/') {
            Some(names) => (names, true),
            None => (names, false),
        };
        let mut path = PathBuf::new();
        for name in names.split('/') {
            let name: Vec<u8> = percent_decode_str(name).collect();
            let name = OsStr::from_bytes(&name);
            if !is_name(name) || (!hidden && is_hidden(name)) {
                return None;
            }
            path.push(name);
        }
        Some(Self { path, is_folder })
    }

    /// Where it is, relative to the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether only a folder is meant.
    pub(crate) fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// The names on the way, outermost first; none for the folder itself.
    pub(crate) fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.path.iter().filter(|name| *name != ".")
    }

    /// The path of a request for the same, as a folder.
    pub(crate) fn as_folder_link(&self) -> String {
        let mut link = String::from("/");
        for name in self.names() {
            link.push_str(&encode(name));
            link.push('/');
        }
        link
    }
}

/// The name as a part of a link's path.
pub(crate) fn encode(name: &OsStr) -> String {
    percent_encode(name.as_bytes(), ENCODED).to_string()
}

/// Whether the name is one of those that are not shown to everybody, as `ls` has it.
///
/// `.well-known` is there to be found (RFC 8615).
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") && name != ".well-known"
}

fn is_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !matches!(name, b"" | b"." | b"..") && !name.contains(&0) && !name.contains(&b'/')
}

/// All but what RFC 3986 §2.3 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Option<(String, bool)> {
        let target = Target::parse(path, false)?;
        Some((target.path().to_str().unwrap().to_owned(), target.is_folder()))
    }

    #[test]
    fn paths_are_names_below_the_folder() {
        assert_eq!(parse("/"), Some((".".to_owned(), true)));
        assert_eq!(parse("/a"), Some(("a".to_owned(), false)));
        assert_eq!(parse("/a/b/"), Some(("a/b".to_owned(), true)));
        assert_eq!(parse("/a%20b%2B+%C3%A4%25"), Some(("a b++ä%".to_owned(), false)));
        assert_eq!(parse("/100%"), Some(("100%".to_owned(), false)));
        assert_eq!(parse("/a..b/...x"), None, "hidden");
        assert_eq!(parse("/.well-known/x"), Some((".well-known/x".to_owned(), false)));
        assert_eq!(parse(r"/..\..\x"), None, "hidden");
        assert_eq!(parse(r"/a\..\x"), Some((r"a\..\x".to_owned(), false)), "one name, with backslashes");
    }

    #[test]
    fn what_could_lead_elsewhere_stands_for_nothing() {
        for path in [
            "",
            "*",
            "a",
            "..",
            "/..",
            "/../x",
            "/a/../b",
            "/a/..",
            "/./x",
            "/.",
            "/%2e%2e/x",
            "/%2E./x",
            "/a/%2e%2e/b",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "///",
            "/a%2Fb",
            "/%2Fetc/passwd",
            "/..%2fx",
            "/a%00b",
            "/%00",
            "/.git/config",
            "/%2egit",
        ] {
            assert_eq!(parse(path), None, "{path}");
            let shown = ["/.git/config", "/%2egit"].contains(&path);
            assert_eq!(Target::parse(path, true).is_some(), shown, "{path}, hidden");
        }
    }

    #[test]
    fn every_name_survives_its_link() {
        let names: [&[u8]; 9] =
            [b"a b", b"a?b#c", b"100%", b"%41", b"\xff\xfe", b"<&\">'", "ä\u{202e}日".as_bytes(), b"a:b", b"a\\b\nc"];
        for name in names {
            let name = OsStr::from_bytes(name);
            let link = format!("/x/{}", encode(name));
            assert!(link.is_ascii());
            let target = Target::parse(&link, false).unwrap();
            assert_eq!(target.names().collect::<Vec<_>>(), [OsStr::new("x"), name]);
            assert_eq!(target.as_folder_link(), format!("{link}/"));
        }
    }
}
