//! Which entries the arguments of `send` stand for, and under which names they travel.
//!
//! One entry that cannot be sent stops nothing: it is in the list as well, with the reason, so that
//! both ends know of it.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    io,
    os::unix::{ffi::OsStrExt as _, ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    rc::Rc,
};

use clap::ValueEnum;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{
    error::Failure,
    name::{NameError, SafeName},
    protocol::{
        Announced, MAX_LISTING_LEN, listing_len,
        message::{Kind, Lost, Meta, Reason},
    },
};

/// All that is to be sent, in the order in which it is told.
#[derive(Debug)]
pub(crate) struct Listing {
    roots: Vec<Root>,
    pub(crate) items: Vec<Item>,
}

/// An argument.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// How long its name is at the receiver.
    name_len: usize,
}

/// A file, directory or link.
#[derive(Debug)]
pub(crate) struct Item {
    root: u32,
    /// What it is called at the receiver, if that is a name at all.
    pub(crate) name: Box<[u8]>,
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
    /// Its size when it was listed, in bytes.
    pub(crate) size: u64,
    pub(crate) more: More,
}

/// What only some entries have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum More {
    Nothing,
    /// Where a link leads to.
    Target(Box<[u8]>),
    /// Why it cannot be sent.
    LeftOut(Box<Lost>),
}

/// What to do with symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Links {
    /// Send what they lead to.
    #[default]
    Follow,
    /// Send them as links. The receiver takes those that stay in its directory.
    Keep,
    /// Leave them out.
    Skip,
}

/// What the user wants of the tree.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) links: Links,
    pub(crate) exclude: GlobSet,
}

impl Choice {
    /// Reads the patterns of `--exclude`. One matches a name, or the end of a path, in every
    /// directory.
    pub(crate) fn new(links: Links, patterns: &[String]) -> Result<Self, Failure> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let anywhere = format!("**/{}", pattern.trim_matches('/'));
            let glob = GlobBuilder::new(&anywhere).literal_separator(true).build();
            set.add(glob.map_err(|error| {
                Failure::usage(format!("cannot exclude `{pattern}`: {}", error.kind()))
                    .todo("a pattern is a name with `*`, `?`, `[...]` or `{a,b}`, as in `--exclude '*.o'`")
            })?);
        }
        let exclude = set.build().map_err(|error| Failure::usage(format!("cannot exclude that: {error}")))?;
        Ok(Self { links, exclude })
    }
}

impl Listing {
    /// Lists the files behind `paths`: a file itself, a directory with everything below it, in the
    /// order given and sorted within directories. `-` is standard input.
    pub(crate) fn new(paths: &[PathBuf], choice: &Choice) -> Result<Self, Failure> {
        let mut walk = Walk {
            listing: Self { roots: Vec::new(), items: Vec::new() },
            choice,
            names: HashSet::new(),
            is_shared: false,
            len: 0,
        };
        let tops: Vec<OsString> = paths.iter().map(|path| top(path)).collect();
        for (path, top) in paths.iter().zip(&tops) {
            walk.is_shared = tops.iter().filter(|other| *other == top).count() > 1;
            walk.argument(path, top)?;
        }
        Ok(walk.listing)
    }

    /// Where an entry is.
    pub(crate) fn path(&self, item: &Item) -> PathBuf {
        let Root { path, name_len } = &self.roots[item.root as usize];
        match item.name.get(name_len + 1..) {
            Some(rest) => path.join(OsStr::from_bytes(rest)),
            None => path.clone(),
        }
    }

    /// Whether an entry is standard input.
    pub(crate) fn is_stdin(&self, item: &Item) -> bool {
        self.roots[item.root as usize].path.as_os_str() == STDIN
    }

    /// What to tell the receiver first.
    pub(crate) fn announced(&self) -> Announced {
        Announced {
            entries: self.items.len() as u64,
            bytes: self.items.iter().fold(0, |sum, item| sum.saturating_add(item.size)),
        }
    }

    /// What cannot be sent.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (&Item, &Lost)> {
        self.items.iter().filter_map(|item| match &item.more {
            More::LeftOut(why) => Some((item, &**why)),
            _ => None,
        })
    }
}

/// What an argument is called at the receiver.
fn top(path: &Path) -> OsString {
    if path.as_os_str() == STDIN {
        return STDIN_NAME.into();
    }
    // `.` and `dir/..` have no name of their own.
    match path.file_name() {
        Some(name) => name.to_owned(),
        None => path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_owned())).unwrap_or_default(),
    }
}

struct Walk<'a> {
    listing: Listing,
    choice: &'a Choice,
    /// The names so far, of arguments that share theirs with others.
    names: HashSet<Box<[u8]>>,
    is_shared: bool,
    len: usize,
}

/// A directory that is still to be listed.
struct Pending {
    path: PathBuf,
    name: Vec<u8>,
    /// It and the ones above it.
    chain: Rc<Chain>,
    metadata: Metadata,
}

struct Chain {
    directory: (u64, u64),
    above: Option<Rc<Self>>,
}

impl Chain {
    fn has(&self, directory: (u64, u64)) -> bool {
        let above = std::iter::successors(Some(self), |chain| chain.above.as_deref());
        above.into_iter().any(|chain| chain.directory == directory)
    }
}

impl Walk<'_> {
    fn argument(&mut self, path: &Path, top: &OsStr) -> Result<(), Failure> {
        let name = top.as_bytes();
        self.listing.roots.push(Root { path: path.to_owned(), name_len: name.len() });
        if path.as_os_str() == STDIN {
            return self.add(name, Kind::File, Meta { mode: 0o600, mtime: now() }, 0, More::Nothing);
        }
        let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
        // A link that is named is followed, unless links are to stay links.
        if is_link && self.choice.links == Links::Keep {
            return self.link(path, name);
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let chain = Rc::new(Chain { directory: (metadata.dev(), metadata.ino()), above: None });
                self.directories(Pending { path: path.to_owned(), name: name.to_owned(), chain, metadata })
            }
            Ok(metadata) if metadata.is_file() => {
                self.add(name, Kind::File, meta(&metadata), metadata.len(), More::Nothing)
            }
            Ok(_) => self.leave_out(name, Kind::File, Reason::NotSendable, "it is neither a file nor a directory"),
            Err(error) => {
                let name = if name.is_empty() { path.as_os_str().as_bytes() } else { name };
                self.leave_out(name, Kind::File, Reason::Unreadable, &error.to_string())
            }
        }
    }

    /// Adds a directory and what is below it. A list of what is still to visit takes the place of
    /// recursion: a deep tree must not exhaust the stack.
    fn directories(&mut self, first: Pending) -> Result<(), Failure> {
        let mut pending = vec![first];
        while let Some(directory) = pending.pop() {
            let entries = fs::read_dir(&directory.path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let mut entries = match entries {
                Ok(entries) => entries,
                Err(error) => {
                    self.leave_out(&directory.name, Kind::Directory, Reason::Unreadable, &error.to_string())?;
                    continue;
                }
            };
            self.add(&directory.name, Kind::Directory, meta(&directory.metadata), 0, More::Nothing)?;
            entries.sort_unstable_by_key(fs::DirEntry::file_name);
            let first_pending = pending.len();
            for entry in entries {
                pending.extend(self.entry(&directory, &entry)?);
            }
            pending[first_pending..].reverse();
        }
        Ok(())
    }

    /// Adds what is in a directory, and returns it if it is another one.
    fn entry(&mut self, directory: &Pending, entry: &fs::DirEntry) -> Result<Option<Pending>, Failure> {
        let mut name = Vec::with_capacity(directory.name.len() + 1 + entry.file_name().len());
        name.extend_from_slice(&directory.name);
        name.push(b'/');
        name.extend_from_slice(entry.file_name().as_bytes());
        if self.choice.exclude.is_match(OsStr::from_bytes(&name)) {
            return Ok(None);
        }
        let path = entry.path();
        let mut metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) => {
                self.leave_out(&name, Kind::File, Reason::Unreadable, &error.to_string())?;
                return Ok(None);
            }
        };
        if metadata.is_symlink() {
            metadata = match self.choice.links {
                Links::Skip => return Ok(None),
                Links::Keep => {
                    self.link(&path, &name)?;
                    return Ok(None);
                }
                Links::Follow => match fs::metadata(&path) {
                    Ok(metadata) if metadata.is_dir() && directory.chain.has((metadata.dev(), metadata.ino())) => {
                        let why = "a symbolic link that leads back to a directory above it";
                        self.leave_out(&name, Kind::Link, Reason::NotSendable, why)?;
                        return Ok(None);
                    }
                    Ok(metadata) => metadata,
                    Err(error) => {
                        let why = match error.kind() {
                            io::ErrorKind::NotFound => "a symbolic link to nowhere".to_owned(),
                            _ => format!("a symbolic link that leads nowhere: {error}"),
                        };
                        self.leave_out(&name, Kind::Link, Reason::NotSendable, &why)?;
                        return Ok(None);
                    }
                },
            };
        }
        if metadata.is_dir() {
            let above = Some(Rc::clone(&directory.chain));
            let chain = Rc::new(Chain { directory: (metadata.dev(), metadata.ino()), above });
            return Ok(Some(Pending { path, name, chain, metadata }));
        }
        if metadata.is_file() {
            self.add(&name, Kind::File, meta(&metadata), metadata.len(), More::Nothing)?;
        } else {
            self.leave_out(&name, Kind::File, Reason::NotSendable, "it is neither a file nor a directory")?;
        }
        Ok(None)
    }

    fn link(&mut self, path: &Path, name: &[u8]) -> Result<(), Failure> {
        let link = fs::symlink_metadata(path).and_then(|metadata| Ok((meta(&metadata), fs::read_link(path)?)));
        match link {
            Ok((meta, target)) => {
                let target = target.into_os_string().into_vec().into();
                self.add(name, Kind::Link, meta, 0, More::Target(target))
            }
            Err(error) => self.leave_out(name, Kind::Link, Reason::Unreadable, &error.to_string()),
        }
    }

    fn leave_out(&mut self, name: &[u8], kind: Kind, reason: Reason, why: &str) -> Result<(), Failure> {
        self.push(name, kind, Meta::default(), 0, More::LeftOut(Box::new(Lost::new(reason, why))))
    }

    fn add(&mut self, name: &[u8], kind: Kind, meta: Meta, size: u64, more: More) -> Result<(), Failure> {
        let lost = match SafeName::new(name) {
            // Whether the other system has such names is its to say.
            Ok(_) | Err(NameError::NotUtf8 | NameError::ControlCharacter | NameError::Reserved) => None,
            Err(error) => Some(Lost::new(Reason::Name, format!("its name {error}"))),
        };
        let lost = lost.or_else(|| {
            let taken = self.is_shared && kind != Kind::Directory && !self.names.insert(name.into());
            taken.then(|| Lost::new(Reason::Name, "another of the files would have the same name at the receiver"))
        });
        match lost {
            Some(lost) => self.push(name, kind, meta, 0, More::LeftOut(Box::new(lost))),
            None => self.push(name, kind, meta, size, more),
        }
    }

    fn push(&mut self, name: &[u8], kind: Kind, meta: Meta, size: u64, more: More) -> Result<(), Failure> {
        self.len += listing_len(name);
        if self.len > MAX_LISTING_LEN {
            let what = Failure::new("too many files for one session");
            return Err(
                what.todo("send them in several goes, or as an archive: `tar c DIR | sendstream send - TICKET`")
            );
        }
        let root = (self.listing.roots.len() - 1) as u32;
        self.listing.items.push(Item { root, name: name.into(), kind, meta, size, more });
        Ok(())
    }
}

/// What is kept of a file beside its content.
pub(crate) fn meta(metadata: &Metadata) -> Meta {
    let mode = metadata.mode() as u16 & Meta::MODE;
    Meta { mode, mtime: (metadata.mtime(), metadata.mtime_nsec() as u32) }
}

fn now() -> (i64, u32) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_secs() as i64, now.subsec_nanos())
}

/// What stands for standard input among the arguments, and what it is called at the receiver.
const STDIN: &str = "-";
const STDIN_NAME: &str = "stdin";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    fn list(paths: &[PathBuf], links: Links, exclude: &[&str]) -> Listing {
        let exclude: Vec<_> = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
        Listing::new(paths, &Choice::new(links, &exclude).unwrap()).unwrap()
    }

    /// What is sent, directories with a slash at the end.
    fn names(listing: &Listing) -> Vec<String> {
        let sent = listing.items.iter().filter(|item| !matches!(item.more, More::LeftOut(_)));
        sent.map(|item| {
            let name = str::from_utf8(&item.name).unwrap();
            if item.kind == Kind::Directory { format!("{name}/") } else { name.to_owned() }
        })
        .collect()
    }

    fn left_out(listing: &Listing) -> Vec<(String, String)> {
        let left_out = listing.left_out();
        left_out.map(|(item, why)| (String::from_utf8_lossy(&item.name).into_owned(), why.text.to_string())).collect()
    }

    #[test]
    fn a_directory_brings_everything_in_it_in_order() {
        let dir = tree(&["top/b", "top/a/2", "top/a/1", "top/c/x/y", "other"]);
        fs::create_dir(dir.path().join("top/empty")).unwrap();
        let listing = list(&[dir.path().join("top"), dir.path().join("other")], Links::Follow, &[]);
        let expected =
            ["top/", "top/b", "top/a/", "top/a/1", "top/a/2", "top/c/", "top/c/x/", "top/c/x/y", "top/empty/", "other"];
        assert_eq!(names(&listing), expected);
        for item in &listing.items {
            assert!(listing.path(item).starts_with(dir.path()) && listing.path(item).exists(), "{item:?}");
        }
        assert_eq!(listing.announced(), Announced { entries: 10, bytes: 5 + 7 + 7 + 9 + 5 });
    }

    #[test]
    fn a_path_without_a_name_of_its_own_gets_its_directorys() {
        let dir = tree(&["top/a", "top/sub/b"]);
        let listing = list(&[dir.path().join("top/sub/..")], Links::Follow, &[]);
        assert_eq!(names(&listing), ["top/", "top/a", "top/sub/", "top/sub/b"]);
    }

    #[test]
    fn of_two_files_of_one_name_the_second_is_left_out() {
        let dir = tree(&["a/x", "b/x", "b/y"]);
        let listing =
            list(&[dir.path().join("a/x"), dir.path().join("b/x"), dir.path().join("b/y")], Links::Follow, &[]);
        assert_eq!(names(&listing), ["x", "y"]);
        assert!(left_out(&listing)[0].1.contains("same name"));
    }

    #[test]
    fn a_missing_file_stops_no_other() {
        let dir = tree(&["x"]);
        let listing = list(&[PathBuf::from("/no/such/file"), dir.path().join("x")], Links::Follow, &[]);
        assert_eq!(names(&listing), ["x"]);
        assert!(left_out(&listing)[0].1.starts_with("No such file"));
    }

    #[test]
    fn odd_entries_are_left_out_all_at_once_and_the_others_are_not() {
        let dir = tree(&["top/a", "top/Icon\r", "top/.sendstream-1.part"]);
        fs::write(dir.path().join("top").join(OsStr::from_bytes(b"\xff")), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("top/socket")).unwrap();
        symlink("nowhere", dir.path().join("top/dangling")).unwrap();
        let listing = list(&[dir.path().join("top")], Links::Follow, &[]);
        let sent: Vec<_> =
            listing.items.iter().filter(|item| item.more == More::Nothing).map(|item| &*item.name).collect();
        assert_eq!(sent, [&b"top"[..], b"top/Icon\r", b"top/a", b"top/\xff"]);
        let left_out: Vec<_> = left_out(&listing).into_iter().map(|(name, _)| name).collect();
        assert_eq!(left_out, ["top/.sendstream-1.part", "top/dangling", "top/socket"]);
    }

    #[test]
    fn links_are_followed_kept_or_skipped() {
        let dir = tree(&["top/a", "outside/x"]);
        symlink(dir.path().join("outside"), dir.path().join("top/dir")).unwrap();
        symlink(dir.path().join("outside/x"), dir.path().join("top/file")).unwrap();
        symlink(dir.path().join("top"), dir.path().join("top/loop")).unwrap();
        let top = [dir.path().join("top")];
        let followed = list(&top, Links::Follow, &[]);
        assert_eq!(names(&followed), ["top/", "top/a", "top/file", "top/dir/", "top/dir/x"]);
        assert_eq!(left_out(&followed).len(), 1);
        assert!(left_out(&followed)[0].1.contains("leads back"));

        let kept = list(&top, Links::Keep, &[]);
        assert_eq!(names(&kept), ["top/", "top/a", "top/dir", "top/file", "top/loop"]);
        let link = kept.items.iter().find(|item| &*item.name == b"top/file").unwrap();
        assert_eq!(link.kind, Kind::Link);
        assert_eq!(link.more, More::Target(dir.path().join("outside/x").into_os_string().into_vec().into()));

        let skipped = list(&top, Links::Skip, &[]);
        assert_eq!(names(&skipped), ["top/", "top/a"]);
        assert!(left_out(&skipped).is_empty());
    }

    #[test]
    fn excluded_names_and_what_is_below_them_are_not_there() {
        let dir = tree(&["top/a.o", "top/a.c", "top/target/x", "top/sub/target/y", "top/sub/b.o", "top/sub/keep/z"]);
        let top = [dir.path().join("top")];
        assert_eq!(
            names(&list(&top, Links::Follow, &["*.o", "target/"])),
            ["top/", "top/a.c", "top/sub/", "top/sub/keep/", "top/sub/keep/z"]
        );
        assert_eq!(
            names(&list(&top, Links::Follow, &["sub/{keep,target}"])),
            ["top/", "top/a.c", "top/a.o", "top/sub/", "top/sub/b.o", "top/target/", "top/target/x"]
        );
        assert!(Choice::new(Links::Follow, &["[".to_owned()]).is_err());
    }
}
