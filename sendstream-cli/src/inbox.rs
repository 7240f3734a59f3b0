//! Where received bytes go. A file gets its name only when all of it is there and its digest is
//! right.
//!
//! Until then it is a hidden temporary file in the deepest of its directories that exists, which
//! vanishes with its [`PartialFile`]: when the peer dies, when something fails, on Ctrl-C. (Only
//! SIGKILL and a crash of the machine can leave one behind; its name is `.sendstream-*.part`.)
//! Missing directories are made only when the file is complete, and removed again if it cannot get
//! its name, so a sender that finishes nothing leaves nothing. Giving the name is one atomic step of
//! the file system, so no other process ever sees half a file under it, and without `--overwrite`
//! the same step refuses to replace a file that came up in the meantime.
//!
//! Nothing is flushed to the disk unless `--fsync` asks for it. The kernel keeps what a process
//! wrote when the process dies, so only a power failure can hurt a file that was reported as
//! received, and waiting for the disk would cost each of a thousand small files several
//! milliseconds.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tempfile::NamedTempFile;

use crate::{
    error::Failure,
    name::SafeName,
    protocol::{CHUNK_LEN, FileHeader},
};

/// The directory that files are received into.
#[derive(Debug)]
pub(crate) struct Inbox {
    root: PathBuf,
    rules: Rules,
    /// Held while a file gets its name: another that fails to get one then removes the directories
    /// that it made, and they must not be this one's.
    placing: Mutex<()>,
}

/// What the user asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) overwrite: bool,
    pub(crate) fsync: bool,
}

impl Inbox {
    /// Opens the directory, creates it if need be, and tries whether it can be written to.
    pub(crate) fn open(dir: &Path, rules: Rules) -> Result<Self, Failure> {
        let unusable = |error| Failure::new(format!("cannot receive into {}: {error}", dir.display()));
        fs::create_dir_all(dir).map_err(unusable)?;
        let root = dir.canonicalize().map_err(unusable)?;
        temp_file(&root).map_err(unusable)?;
        Ok(Self { root, rules, placing: Mutex::default() })
    }

    /// Starts a file, or says at once that it cannot be kept.
    pub(crate) fn begin(&self, header: &FileHeader) -> Result<PartialFile<'_>, StoreError> {
        let dir = self.existing_parent(&header.name)?;
        match fs::symlink_metadata(self.target(&header.name)) {
            Ok(metadata) if metadata.is_dir() => return Err(StoreError::IsDirectory),
            Ok(_) if !self.rules.overwrite => return Err(StoreError::Exists),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(PartialFile {
            inbox: self,
            name: header.name.clone(),
            temp: temp_file(&dir)?,
            hasher: blake3::Hasher::new(),
            buffer: Vec::with_capacity(usize::try_from(header.size).map_or(CHUNK_LEN, |size| size.min(CHUNK_LEN))),
        })
    }

    fn target(&self, name: &SafeName) -> PathBuf {
        self.root.join(name.to_path())
    }

    /// The deepest directory above a file that exists.
    fn existing_parent(&self, name: &SafeName) -> Result<PathBuf, StoreError> {
        let mut dir = self.root.clone();
        for component in name.parents() {
            let next = dir.join(component);
            if !is_directory(&next)? {
                break;
            }
            dir = next;
        }
        Ok(dir)
    }

    /// Gives a complete file its name, and returns the directories that were made for it. If it
    /// gets none, these are removed.
    fn place(&self, temp: NamedTempFile, name: &SafeName) -> Result<Vec<PathBuf>, StoreError> {
        let _turn = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut made = Vec::new();
        let placed = self.make_parents(name, &mut made).and_then(|()| self.rename(temp, name));
        if placed.is_err() {
            for dir in made.iter().rev() {
                // Nothing else is to be done about a directory that stays: something was put there.
                let _ = fs::remove_dir(dir);
            }
        }
        placed.map(|()| made)
    }

    /// Makes the directories above a file one by one, and adds those that were missing to `made`.
    fn make_parents(&self, name: &SafeName, made: &mut Vec<PathBuf>) -> Result<(), StoreError> {
        let mut dir = self.root.clone();
        for component in name.parents() {
            dir.push(component);
            match fs::create_dir(&dir) {
                Ok(()) => made.push(dir.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
            is_directory(&dir)?;
        }
        Ok(())
    }

    fn rename(&self, temp: NamedTempFile, name: &SafeName) -> Result<(), StoreError> {
        let target = self.target(name);
        let renamed = if self.rules.overwrite { temp.persist(target) } else { temp.persist_noclobber(target) };
        renamed.map(drop).map_err(|refused| match refused.error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists,
            io::ErrorKind::IsADirectory => StoreError::IsDirectory,
            _ => StoreError::from(refused.error),
        })
    }
}

/// Whether there is a directory: an error if there is something else. A symbolic link could lead out
/// of the inbox; the peer cannot make one, but the user may have.
fn is_directory(path: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(StoreError::ThroughLink),
        Ok(metadata) if metadata.is_dir() => Ok(true),
        Ok(_) => Err(StoreError::NotDirectory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A file that is being received. Dropping it removes what is there.
#[derive(Debug)]
pub(crate) struct PartialFile<'a> {
    inbox: &'a Inbox,
    name: SafeName,
    temp: NamedTempFile,
    hasher: blake3::Hasher,
    /// Gathers what comes in small chunks, since hashing and writing both like large ones.
    buffer: Vec<u8>,
}

impl PartialFile<'_> {
    /// Appends to the content.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.buffer.len() + bytes.len() > CHUNK_LEN {
            self.flush()?;
        }
        if self.buffer.is_empty() && bytes.len() >= CHUNK_LEN / 4 {
            self.hasher.update(bytes);
            self.temp.write_all(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Gives the file its name if its content has the digest. Returns how many directories were
    /// made for it.
    pub(crate) fn keep(mut self, digest: blake3::Hash) -> Result<usize, StoreError> {
        self.flush()?;
        if self.hasher.finalize() != digest {
            return Err(StoreError::Corrupt);
        }
        let Self { inbox, name, temp, .. } = self;
        if !inbox.rules.fsync {
            return Ok(inbox.place(temp, &name)?.len());
        }
        temp.as_file().sync_all()?;
        let made = inbox.place(temp, &name)?;
        let target = inbox.target(&name);
        // A new name is on the disk once its directory is.
        for parent in made.iter().chain([&target]).filter_map(|path| path.parent()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(made.len())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.hasher.update(&self.buffer);
        self.temp.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn temp_file(dir: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sendstream-").suffix(".part");
    // Temporary files are private by default, but this one becomes an ordinary file, with what the
    // umask leaves.
    #[cfg(unix)]
    builder.permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666));
    builder.tempfile_in(dir)
}

/// Why a file cannot be kept. The sender reads this too, so it says nothing about where the inbox
/// is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("it exists already at the receiver (`sendstream recv --overwrite` replaces files)")]
    Exists,
    #[error("a directory of that name exists at the receiver")]
    IsDirectory,
    #[error("its path leads through a file at the receiver")]
    NotDirectory,
    #[error("its path leads through a symbolic link at the receiver")]
    ThroughLink,
    #[error("its content arrived with another digest than the sender's")]
    Corrupt,
    #[error("the receiver's disk is full")]
    DiskFull,
    #[error("the receiver cannot store it: {}", .0.kind())]
    Io(io::Error),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Rules = Rules { overwrite: false, fsync: false };
    const OVERWRITE: Rules = Rules { overwrite: true, fsync: true };

    fn header(name: &str, content: &[u8]) -> FileHeader {
        FileHeader { name: name.parse().unwrap(), size: content.len() as u64 }
    }

    fn store(inbox: &Inbox, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let mut file = inbox.begin(&header(name, content))?;
        content.chunks(100_000).try_for_each(|chunk| file.write(chunk))?;
        file.keep(blake3::hash(content)).map(drop)
    }

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(dir.path(), KEEP).unwrap();
        let mut file = inbox.begin(&header("a/b/x", b"content")).unwrap();
        file.write(b"content").unwrap();
        assert!(entries(dir.path()).iter().all(|name| name.ends_with(".part")));
        assert_eq!(file.keep(blake3::hash(b"content")).unwrap(), 2, "two directories were made");
        assert_eq!(entries(dir.path()), ["a"]);
        assert_eq!(entries(&dir.path().join("a/b")), ["x"]);
        assert_eq!(fs::read(dir.path().join("a/b/x")).unwrap(), b"content");

        // Directories that exist are used, also for what is not complete.
        let mut file = inbox.begin(&header("a/c/y", b"content")).unwrap();
        file.write(b"content").unwrap();
        assert_eq!(entries(&dir.path().join("a")).len(), 2, "b and the unfinished file");
        assert_eq!(file.keep(blake3::hash(b"content")).unwrap(), 1);
    }

    #[test]
    fn directories_made_for_a_file_that_gets_no_name_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(dir.path(), KEEP).unwrap();
        fs::create_dir(dir.path().join("mine")).unwrap();
        let file = inbox.begin(&header("mine/a/b/x", b"")).unwrap();
        // The file's own place is taken while it arrives, which nothing but a local user can do.
        fs::create_dir_all(dir.path().join("mine/a/b/x")).unwrap();
        assert!(file.keep(blake3::hash(b"")).is_err());
        assert_eq!(entries(&dir.path().join("mine/a/b")), ["x"]);

        let mut made = Vec::new();
        inbox.make_parents(&"mine/c/d/x".parse().unwrap(), &mut made).unwrap();
        assert_eq!(made.len(), 2);
        // A temporary file that somebody took away cannot be renamed.
        let temp = temp_file(dir.path()).unwrap();
        fs::remove_file(temp.path()).unwrap();
        assert!(inbox.place(temp, &"other/e/x".parse().unwrap()).is_err());
        assert_eq!(entries(dir.path()), ["mine"]);
    }

    #[test]
    fn contents_survive_however_they_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(dir.path(), KEEP).unwrap();
        let content: Vec<u8> = (0..1_000_000u64).map(|i| ((i * i) >> 7) as u8).collect();
        for len in [1_000, 60_000, 100_000, CHUNK_LEN, CHUNK_LEN + 1, 1_000_000] {
            let name = len.to_string();
            let mut file = inbox.begin(&header(&name, &content)).unwrap();
            content.chunks(len).for_each(|chunk| file.write(chunk).unwrap());
            file.keep(blake3::hash(&content)).unwrap();
            assert!(fs::read(dir.path().join(name)).unwrap() == content, "{len}");
        }
    }

    #[test]
    fn a_dropped_or_corrupt_file_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(dir.path(), KEEP).unwrap();
        drop(inbox.begin(&header("x", b"content")).unwrap());
        let mut file = inbox.begin(&header("x", b"content")).unwrap();
        file.write(b"c0ntent").unwrap();
        assert!(matches!(file.keep(blake3::hash(b"content")), Err(StoreError::Corrupt)));
        assert_eq!(entries(dir.path()), [""; 0]);
    }

    #[test]
    fn an_existing_file_is_replaced_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(dir.path(), KEEP).unwrap();
        store(&inbox, "x", b"old").unwrap();
        assert!(matches!(store(&inbox, "x", b"new"), Err(StoreError::Exists)));
        assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"old");
        let inbox = Inbox::open(dir.path(), OVERWRITE).unwrap();
        store(&inbox, "x", b"new").unwrap();
        assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"new");
        assert_eq!(entries(dir.path()), ["x"]);
    }

    #[test]
    fn a_file_that_comes_up_while_another_arrives_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(dir.path(), KEEP).unwrap();
        let file = inbox.begin(&header("x", b"")).unwrap();
        fs::write(dir.path().join("x"), b"mine").unwrap();
        assert!(matches!(file.keep(blake3::hash(b"")), Err(StoreError::Exists)));
        assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"mine");
        assert_eq!(entries(dir.path()), ["x"]);
    }

    #[test]
    fn files_and_directories_do_not_replace_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(dir.path(), OVERWRITE).unwrap();
        store(&inbox, "file", b"").unwrap();
        store(&inbox, "dir/x", b"").unwrap();
        assert!(matches!(store(&inbox, "file/x", b""), Err(StoreError::NotDirectory)));
        assert!(matches!(store(&inbox, "dir", b""), Err(StoreError::IsDirectory)));
    }

    #[cfg(unix)]
    #[test]
    fn no_path_leads_out_through_a_symbolic_link() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        fs::write(outside.path().join("target"), b"old").unwrap();
        std::os::unix::fs::symlink(outside.path().join("target"), dir.path().join("file")).unwrap();
        let inbox = Inbox::open(dir.path(), OVERWRITE).unwrap();
        assert!(matches!(store(&inbox, "link/x", b""), Err(StoreError::ThroughLink)));
        // A link in the file's own place is replaced, not followed.
        store(&inbox, "file", b"new").unwrap();
        assert_eq!(fs::read(outside.path().join("target")).unwrap(), b"old");
        assert_eq!(entries(outside.path()), ["target"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_kept_file_has_the_permissions_of_an_ordinary_one() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        store(&Inbox::open(dir.path(), KEEP).unwrap(), "x", b"").unwrap();
        fs::write(dir.path().join("ordinary"), b"").unwrap();
        let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("x"), mode("ordinary"));
    }
}
