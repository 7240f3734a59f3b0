//! A file that is not complete: `.sendstream-<of its name>.part` in the inbox, readable by its owner
//! only.
//!
//! Its name follows from the file's, so whoever is sent the file again finds what is there of it,
//! also after this process was killed. How much is there is its length: bytes are written from the
//! beginning on, without gaps. Whether they are the right ones the sender proves, by a digest, before
//! it goes on behind them. A part file of more than [`WORTH_KEEPING`] stays when a session breaks
//! off; other ones are removed. After a week it is removed by the next `recv` in the same
//! directory.
//!
//! It is locked while it is written. The lock goes with the process, and two that are sent the same
//! file do not write to one part: the second has a part of its own, which nobody finds again.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _, Seek as _},
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{Inbox, StoreError, patient, stat};
use crate::{
    name::{PART_PREFIX, PART_SUFFIX, SafeName},
    protocol::{CHUNK_LEN, message::Meta},
    reader::hash_zeros,
};

/// A file on its way in. Dropping it removes what is there.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    inbox: &'a Inbox,
    name: SafeName,
    /// None as long as all of it is in the buffer.
    stored: Option<Stored>,
    hasher: blake3::Hasher,
    /// How much was hashed, and is in the file: the buffer begins here.
    position: u64,
    /// Gathers what comes in small chunks, since hashing and writing both like large ones.
    buffer: Vec<u8>,
}

/// What a search for the beginning of a file comes to.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Search<'a> {
    Found(Part<'a>),
    /// Another session has it.
    Locked,
    Nothing,
}

/// What becomes of taking a part file.
enum Taken {
    Ours(Stored),
    /// Another session writes to it.
    Locked,
    /// There is none, or it is not one of this tool's.
    Foreign,
}

/// What is on the disk.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: OsString,
    /// The name follows from the file's.
    is_found_again: bool,
    pub(super) file: File,
}

impl<'a> Part<'a> {
    /// Begins a file. Nothing is on the disk yet.
    pub(crate) fn new(inbox: &'a Inbox, name: SafeName) -> Self {
        Self { inbox, name, stored: None, hasher: blake3::Hasher::new(), position: 0, buffer: Vec::new() }
    }

    /// Finds what an earlier session left of a file: nothing if that is not much. A session that still
    /// has it may not know yet that its sender is gone, so it is waited for, while `go_on` says yes.
    pub(crate) fn find(
        inbox: &'a Inbox,
        name: &SafeName,
        go_on: impl Fn() -> bool,
    ) -> Result<Option<Self>, StoreError> {
        let begin = Instant::now();
        loop {
            match Self::find_now(inbox, name)? {
                Search::Found(part) => return Ok(Some(part)),
                Search::Nothing => return Ok(None),
                Search::Locked if begin.elapsed() > LOCK_PATIENCE || !go_on() => return Ok(None),
                Search::Locked => thread::sleep(LOCK_PAUSE),
            }
        }
    }

    fn find_now(inbox: &'a Inbox, name: &SafeName) -> Result<Search<'a>, StoreError> {
        let dir = inbox.place_for_part(name)?;
        let part = name_of_part(name);
        match stat(&dir, &part)? {
            Some(stat) if stat.st_size as u64 >= WORTH_KEEPING => {}
            _ => return Ok(Search::Nothing),
        }
        let stored = match Stored::take(dir, part)? {
            Taken::Ours(stored) => stored,
            Taken::Locked => return Ok(Search::Locked),
            Taken::Foreign => return Ok(Search::Nothing),
        };
        let mut found = Self::new(inbox, name.clone());
        found.stored = Some(stored);
        Ok(Search::Found(found))
    }

    /// How many bytes an earlier session left.
    pub(crate) fn found_len(&self) -> Result<u64, StoreError> {
        Ok(self.stored.as_ref().map_or(Ok(0), |stored| stored.file.metadata().map(|metadata| metadata.len()))?)
    }

    /// Hashes what an earlier session left, and goes on behind it. Returns its digest.
    pub(crate) fn resume(&mut self, go_on: impl Fn() -> bool) -> Result<blake3::Hash, StoreError> {
        // It may have been stopped before.
        self.hasher = blake3::Hasher::new();
        if let Some(stored) = &mut self.stored {
            stored.file.rewind()?;
            self.position = hash(&mut stored.file, u64::MAX, &mut self.hasher, go_on)?;
        }
        Ok(self.hasher.finalize())
    }

    /// Forgets what an earlier session left.
    pub(crate) fn start_over(&mut self) -> Result<(), StoreError> {
        if let Some(stored) = &self.stored {
            stored.file.set_len(0)?;
        }
        (self.position, self.hasher) = (0, blake3::Hasher::new());
        Ok(())
    }

    /// Appends to the content.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.buffer.len() + bytes.len() > CHUNK_LEN {
            self.flush()?;
        }
        if self.buffer.is_empty() && bytes.len() >= CHUNK_LEN / 4 {
            self.store(bytes)
        } else {
            self.buffer.extend_from_slice(bytes);
            Ok(())
        }
    }

    /// Appends zeros that take no room on the disk.
    pub(crate) fn hole(&mut self, len: u64, go_on: impl Fn() -> bool) -> Result<(), StoreError> {
        self.flush()?;
        let end = self.position.checked_add(len).ok_or_else(|| StoreError::Io(io::ErrorKind::FileTooLarge.into()))?;
        // What the file system cannot hold is refused before it is hashed.
        self.stored()?.file.set_len(end)?;
        if !hash_zeros(&mut self.hasher, len, go_on) {
            return Err(StoreError::Stopped);
        }
        self.position = end;
        Ok(())
    }

    /// Gives the file its name if its content is so long and has the digest. Returns how many
    /// directories were made for it.
    pub(crate) fn keep(mut self, size: u64, meta: Meta, digest: blake3::Hash) -> Result<usize, StoreError> {
        // What is wrong leaves no trace on the disk if it is short.
        self.hasher.update(&self.buffer);
        if self.position + self.buffer.len() as u64 != size || self.hasher.finalize() != digest {
            return Err(StoreError::Corrupt);
        }
        let buffer = std::mem::take(&mut self.buffer);
        let position = self.position;
        let inbox = self.inbox;
        let name = self.name.clone();
        let stored = self.stored()?;
        stored.file.write_all_at(&buffer, position)?;
        if inbox.rules.fsync {
            stored.file.sync_all()?;
        }
        let made = inbox.place(stored, &name, meta)?;
        // It has its name; there is nothing to remove.
        self.stored = None;
        Ok(made)
    }

    /// Leaves what is there for a later session, if it is worth it. Returns how many bytes stay.
    pub(crate) fn leave(mut self) -> u64 {
        let is_stored = self.flush().is_ok();
        // As much as is there, whether or not it was hashed again.
        let len = self.found_len().unwrap_or(0);
        match &self.stored {
            Some(stored) if is_stored && len >= WORTH_KEEPING && stored.is_found_again => {
                self.stored = None;
                len
            }
            _ => 0,
        }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            self.store(&buffer)?;
        }
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    fn store(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let position = self.position;
        self.stored()?.file.write_all_at(bytes, position)?;
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn stored(&mut self) -> Result<&mut Stored, StoreError> {
        if self.stored.is_none() {
            let dir = self.inbox.place_for_part(&self.name)?;
            self.stored = Some(Stored::create(dir, &self.name)?);
        }
        Ok(self.stored.as_mut().expect("it was just made"))
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if let Some(stored) = &self.stored {
            // It is a temporary file, whatever is in the way of removing it.
            let _ = rustix::fs::unlinkat(&stored.dir, &stored.name, AtFlags::empty());
        }
    }
}

impl Stored {
    /// Makes a part file, or empties the one that is there.
    fn create(dir: Arc<OwnedFd>, name: &SafeName) -> Result<Self, StoreError> {
        let part = name_of_part(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match patient(|| rustix::fs::openat(&dir, &part, flags, MODE)) {
            Ok(file) => {
                let file = File::from(file);
                if lock(&file).is_ok() {
                    return Ok(Self { dir, name: part, is_found_again: true, file });
                }
            }
            Err(Errno::EXIST) => {
                if let Taken::Ours(stored) = Self::take(Arc::clone(&dir), part)? {
                    stored.file.set_len(0)?;
                    return Ok(stored);
                }
            }
            Err(error) => return Err(error.into()),
        }
        let part = random_name().map_err(io::Error::from)?;
        let file = patient(|| rustix::fs::openat(&dir, &part, flags, MODE))?.into();
        Ok(Self { dir, name: part, is_found_again: false, file })
    }

    /// Takes a part file that is there.
    fn take(dir: Arc<OwnedFd>, part: OsString) -> Result<Taken, StoreError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match patient(|| rustix::fs::openat(&dir, &part, flags, Mode::empty())) {
            Ok(file) => File::from(file),
            // The last two: one that a killed process was about to give its name, or another user's.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS | Errno::PERM) => return Ok(Taken::Foreign),
            Err(error) => return Err(error.into()),
        };
        if lock(&file).is_err() {
            return Ok(Taken::Locked);
        }
        // Who had the lock before may have given the file its name.
        let (opened, there) = (rustix::fs::fstat(&file)?, stat(&dir, &part)?);
        let is_still_there = there.is_some_and(|there| (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino));
        let is_ours = FileType::from_raw_mode(opened.st_mode) == FileType::RegularFile && opened.st_nlink == 1;
        if !is_still_there || !is_ours {
            return Ok(Taken::Foreign);
        }
        if Mode::from_raw_mode(opened.st_mode) != MODE {
            rustix::fs::fchmod(&file, MODE)?;
        }
        Ok(Taken::Ours(Self { dir, name: part, is_found_again: true, file }))
    }
}

/// Hashes a file up to `len` bytes, and returns how many there are.
pub(crate) fn hash(
    file: &mut File,
    len: u64,
    hasher: &mut blake3::Hasher,
    go_on: impl Fn() -> bool,
) -> Result<u64, StoreError> {
    let mut buffer = vec![0; CHUNK_LEN];
    let mut position = 0;
    while position < len {
        if !go_on() {
            return Err(StoreError::Stopped);
        }
        let room = usize::try_from(len - position).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
        match file.read(&mut buffer[..room]) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&buffer[..read]);
                position += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(position)
}

/// Removes a part file that was not touched for [`MAX_AGE`]; says whether it did. An error if it is
/// not to be touched. When it was written to says nothing: it may have the time of its source.
pub(super) fn remove_if_old(dir: &Arc<OwnedFd>, part: &OsStr, now: SystemTime) -> Result<bool, StoreError> {
    let Taken::Ours(stored) = Stored::take(Arc::clone(dir), part.to_owned())? else { return Err(StoreError::Exists) };
    let touched = Duration::from_secs(stored.file.metadata()?.ctime().try_into().unwrap_or(0));
    let is_old = now.duration_since(SystemTime::UNIX_EPOCH + touched).is_ok_and(|age| age > MAX_AGE);
    if is_old {
        rustix::fs::unlinkat(dir, part, AtFlags::empty())?;
    }
    Ok(is_old)
}

fn lock(file: &File) -> Result<(), Errno> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

fn name_of_part(name: &SafeName) -> OsString {
    let digest = blake3::hash(name.as_bytes()).to_hex();
    format!("{PART_PREFIX}{}{PART_SUFFIX}", &digest[..32]).into()
}

/// A name that nobody knows.
pub(super) fn random_name() -> Result<OsString, getrandom::Error> {
    let mut number = [0; 16];
    getrandom::fill(&mut number)?;
    Ok(format!("{PART_PREFIX}{:032x}{PART_SUFFIX}", u128::from_le_bytes(number)).into())
}

/// A part file is its owner's alone.
pub(super) const MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// How many bytes a later session goes on from.
const WORTH_KEEPING: u64 = CHUNK_LEN as u64;
/// How long part files are kept.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long, and how often, another session is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(12);
const LOCK_PAUSE: Duration = Duration::from_millis(50);
