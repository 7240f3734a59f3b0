//! Which files the arguments of `send` stand for, and under which names they travel.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::Failure,
    name::{NameError, SafeName},
    progress::Progress,
    protocol::{INODE_LEN, MAX_LISTING_LEN, listing_len},
};

/// A file to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it is called at the receiver.
    pub(crate) name: SafeName,
    /// Its size when it was listed, in bytes.
    pub(crate) size: u64,
}

/// Lists the files behind `paths`: a file itself, a directory with everything below it, in the
/// order given and sorted within directories. What is neither file nor directory is left out with a
/// note when it is found in a directory, and is an error when it was named. Nothing is sent before
/// the whole list is known to be good.
pub(crate) fn list(paths: &[PathBuf], progress: &Progress) -> Result<Vec<Outgoing>, Failure> {
    let mut walk = Walk { found: Vec::new(), names: HashSet::new(), listing_len: 0, progress };
    for path in paths {
        let metadata = fs::metadata(path).map_err(|error| unreadable(path, error))?;
        // `.` and `dir/..` have no name of their own.
        let name = match path.file_name() {
            Some(name) => name.to_owned(),
            None => path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_owned())).unwrap_or_default(),
        };
        let name = component(path, &name)?;
        if metadata.is_dir() {
            walk.directory(path, name)?;
        } else if metadata.is_file() {
            walk.file(path, name, metadata.len())?;
        } else {
            return Err(Failure::new(format!("{} is neither a file nor a directory", path.display())));
        }
    }
    Ok(walk.found)
}

struct Walk<'a> {
    found: Vec<Outgoing>,
    names: HashSet<SafeName>,
    listing_len: usize,
    progress: &'a Progress,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &Path, name: &str) -> Result<(), Failure> {
        // A list of what is still to visit instead of recursion: a deep tree must not exhaust the
        // stack.
        let mut pending = vec![(dir.to_owned(), name.to_owned())];
        while let Some((dir, prefix)) = pending.pop() {
            self.count(INODE_LEN)?;
            let entries = fs::read_dir(&dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let mut entries = entries.map_err(|error| unreadable(&dir, error))?;
            entries.sort_unstable_by_key(fs::DirEntry::file_name);
            let first_pending = pending.len();
            for entry in entries {
                let path = entry.path();
                let file_name = entry.file_name();
                let kind = entry.file_type().map_err(|error| unreadable(&path, error))?;
                if kind.is_dir() {
                    let name = format!("{prefix}/{}", component(&path, &file_name)?);
                    pending.push((path, name));
                    continue;
                }
                match fs::metadata(&path) {
                    Ok(metadata) if metadata.is_file() => {
                        let name = format!("{prefix}/{}", component(&path, &file_name)?);
                        self.file(&path, &name, metadata.len())?;
                    }
                    Ok(metadata) if metadata.is_dir() => self.leave_out(&path, "a symbolic link to a directory"),
                    Ok(_) => self.leave_out(&path, "not a regular file"),
                    Err(_) if kind.is_symlink() => self.leave_out(&path, "a symbolic link to nowhere"),
                    Err(error) => return Err(unreadable(&path, error)),
                }
            }
            pending[first_pending..].reverse();
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &str, size: u64) -> Result<(), Failure> {
        let name: SafeName = name.parse().map_err(|error| unsendable(path, error))?;
        self.count(listing_len(name.as_str()))?;
        if !self.names.insert(name.clone()) {
            return Err(Failure::new(format!("two of the files would be called {name} at the receiver"))
                .todo("send them one after the other, or from different directories"));
        }
        self.found.push(Outgoing { path: path.to_owned(), name, size });
        Ok(())
    }

    /// Adds to what the listing costs.
    fn count(&mut self, len: usize) -> Result<(), Failure> {
        self.listing_len += len;
        if self.listing_len <= MAX_LISTING_LEN {
            return Ok(());
        }
        Err(Failure::new("too many files for one session").todo("send them in several goes, or as an archive"))
    }

    fn leave_out(&self, path: &Path, why: &str) {
        self.progress.warn(format_args!("leaving out {}: {why}", path.display()));
    }
}

fn component<'a>(path: &Path, name: &'a OsStr) -> Result<&'a str, Failure> {
    name.to_str().ok_or_else(|| unsendable(path, NameError::NotUtf8))
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(format!("cannot read {}: {error}; nothing was sent", path.display()))
}

fn unsendable(path: &Path, error: NameError) -> Failure {
    Failure::new(format!("cannot send {}: its name {error}; nothing was sent", path.display())).todo("rename it first")
}

#[cfg(test)]
mod tests {
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

    fn names(paths: &[PathBuf]) -> Result<Vec<String>, Failure> {
        let found = list(paths, &Progress::new(true))?;
        Ok(found.into_iter().map(|file| file.name.as_str().to_owned()).collect())
    }

    #[test]
    fn a_directory_brings_everything_in_it_in_order() {
        let dir = tree(&["top/b", "top/a/2", "top/a/1", "top/c/x/y", "other"]);
        let found = names(&[dir.path().join("top"), dir.path().join("other")]).unwrap();
        assert_eq!(found, ["top/b", "top/a/1", "top/a/2", "top/c/x/y", "other"]);
    }

    #[test]
    fn a_path_without_a_name_of_its_own_gets_its_directorys() {
        let dir = tree(&["top/a", "top/sub/b"]);
        assert_eq!(names(&[dir.path().join("top/sub/..")]).unwrap(), ["top/a", "top/sub/b"]);
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let dir = tree(&["a/x", "b/x"]);
        let failure = names(&[dir.path().join("a/x"), dir.path().join("b/x")]).unwrap_err();
        assert!(failure.to_string().contains("two of the files would be called x"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = names(&[PathBuf::from("/no/such/file")]).unwrap_err();
        assert!(failure.to_string().starts_with("cannot read /no/such/file: "));
    }

    #[cfg(unix)]
    #[test]
    fn links_to_files_are_sent_and_links_to_directories_left_out() {
        let dir = tree(&["top/a", "outside/x"]);
        std::os::unix::fs::symlink(dir.path().join("outside/x"), dir.path().join("top/file")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("top"), dir.path().join("top/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("top/dangling")).unwrap();
        assert_eq!(names(&[dir.path().join("top")]).unwrap(), ["top/a", "top/file"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_not_utf8_is_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tree(&[]);
        let path = dir.path().join(OsStr::from_bytes(b"\xff"));
        fs::write(&path, "").unwrap();
        assert!(names(&[path]).unwrap_err().to_string().contains("its name is not UTF-8"));
    }
}
