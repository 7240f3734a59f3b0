//! Where received bytes go. A file gets its name only when all of it is there and its digest is
//! right.
//!
//! Until then it is a hidden temporary file in the same directory, which vanishes with its
//! [`PartialFile`]: when the peer dies, when something fails, on Ctrl-C. (Only SIGKILL and a crash
//! of the machine can leave one behind; its name is `.sendstream-*.part`.) Giving the name is one
//! atomic step of the file system, so no other process ever sees half a file under it, and without
//! `--overwrite` the same step refuses to replace a file that came up in the meantime.
//!
//! Nothing is flushed to the disk unless `--fsync` asks for it. The kernel keeps what a process
//! wrote when the process dies, so only a power failure can hurt a file that was reported as
//! received, and waiting for the disk would cost each of a thousand small files several
//! milliseconds.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    path::{Path, PathBuf},
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
        Ok(Self { root, rules })
    }

    /// Starts a file, or says at once that it cannot be kept.
    pub(crate) fn begin(&self, header: &FileHeader) -> Result<PartialFile, StoreError> {
        let parent = self.make_parents(&header.name)?;
        let target = self.root.join(header.name.to_path());
        match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_dir() => return Err(StoreError::IsDirectory),
            Ok(_) if !self.rules.overwrite => return Err(StoreError::Exists),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(PartialFile {
            temp: temp_file(&parent)?,
            parent,
            target,
            hasher: blake3::Hasher::new(),
            buffer: Vec::with_capacity(usize::try_from(header.size).map_or(CHUNK_LEN, |size| size.min(CHUNK_LEN))),
            rules: self.rules,
        })
    }

    /// Makes the directories above a file one by one. None of them may be a symbolic link, which
    /// could lead out of the inbox; the peer cannot make one, but the user may have.
    fn make_parents(&self, name: &SafeName) -> Result<PathBuf, StoreError> {
        let mut dir = self.root.clone();
        for component in name.parents() {
            dir.push(component);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
                _ => {}
            }
            let kind = fs::symlink_metadata(&dir)?.file_type();
            if kind.is_symlink() {
                return Err(StoreError::ThroughLink);
            }
            if !kind.is_dir() {
                return Err(StoreError::NotDirectory);
            }
        }
        Ok(dir)
    }
}

/// A file that is being received. Dropping it removes what is there.
#[derive(Debug)]
pub(crate) struct PartialFile {
    temp: NamedTempFile,
    parent: PathBuf,
    target: PathBuf,
    hasher: blake3::Hasher,
    /// Gathers what comes in small chunks, since hashing and writing both like large ones.
    buffer: Vec<u8>,
    rules: Rules,
}

impl PartialFile {
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

    /// Gives the file its name if its content has the digest.
    pub(crate) fn keep(mut self, digest: blake3::Hash) -> Result<(), StoreError> {
        self.flush()?;
        if self.hasher.finalize() != digest {
            return Err(StoreError::Corrupt);
        }
        if self.rules.fsync {
            self.temp.as_file().sync_all()?;
        }
        let renamed = if self.rules.overwrite {
            self.temp.persist(&self.target)
        } else {
            self.temp.persist_noclobber(&self.target)
        };
        renamed.map_err(|refused| match refused.error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists,
            io::ErrorKind::IsADirectory => StoreError::IsDirectory,
            _ => StoreError::from(refused.error),
        })?;
        if self.rules.fsync {
            File::open(&self.parent)?.sync_all()?;
        }
        Ok(())
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
        file.keep(blake3::hash(content))
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
        assert!(entries(&dir.path().join("a/b")).iter().all(|name| name.ends_with(".part")));
        file.keep(blake3::hash(b"content")).unwrap();
        assert_eq!(entries(&dir.path().join("a/b")), ["x"]);
        assert_eq!(fs::read(dir.path().join("a/b/x")).unwrap(), b"content");
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
