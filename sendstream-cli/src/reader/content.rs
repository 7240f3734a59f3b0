//! The content of one file, piece by piece: data, and holes of sparse files.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, SeekFrom as Seek},
    io::Errno,
};

use crate::{protocol::CHUNK_LEN, protocol::message::Meta, walk};

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Content {
    file: File,
    /// As it was when it was opened.
    opened: Metadata,
    is_sparse: bool,
    position: u64,
    /// Where the data that begins before `position` ends, in a sparse file.
    data_end: u64,
}

/// Which version of which file is open, as far as the system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    len: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(it: &Metadata) -> Self {
        Self {
            file: (it.dev(), it.ino()),
            len: it.len(),
            mtime: (it.mtime(), it.mtime_nsec()),
            ctime: (it.ctime(), it.ctime_nsec()),
        }
    }
}

/// What was found next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Bytes, at least one, which were appended to the buffer.
    Data,
    /// So many zeros that take no room on the disk.
    Hole(u64),
    End,
}

impl Content {
    /// Opens a file. If this process, or the system, has no descriptor for it, one is waited for.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let begin = Instant::now();
        loop {
            // Opening a pipe would wait for whoever writes to it.
            let flags = OFlags::NONBLOCK.bits() as i32;
            match File::options().read(true).custom_flags(flags).open(path) {
                Err(error) if is_out_of_descriptors(&error) && begin.elapsed() < DESCRIPTOR_PATIENCE => {
                    thread::sleep(Duration::from_millis(20));
                }
                file => return Self::new(file?).and_then(Self::of_a_file),
            }
        }
    }

    pub(super) fn stdin() -> io::Result<Self> {
        // Where it begins, if it is a file, is its writer's to choose.
        let content = Self::new(io::stdin().as_fd().try_clone_to_owned()?.into())?;
        Ok(Self { is_sparse: false, ..content })
    }

    /// What is no file any more is not read: a device may have no end.
    fn of_a_file(self) -> io::Result<Self> {
        if self.opened.is_file() {
            Ok(self)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file any more"))
        }
    }

    fn new(file: File) -> io::Result<Self> {
        let opened = file.metadata()?;
        if opened.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // A block has 512 bytes here, whatever the file system has.
        let is_sparse = opened.is_file() && opened.blocks().saturating_mul(512) < opened.len();
        Ok(Self { file, opened, is_sparse, position: 0, data_end: 0 })
    }

    /// Reads on: at most `room` bytes of data, and neither data nor hole beyond the next `limit`
    /// bytes. What the system says of the size is not believed: files as in `/proc` have another
    /// one, or none.
    pub(super) fn next(&mut self, buffer: &mut Vec<u8>, room: u64, limit: u64) -> io::Result<Step> {
        let mut max = room.min(limit);
        if self.is_sparse {
            if self.position >= self.data_end
                && let Some(hole) = self.find_data()?
            {
                let hole = hole.min(limit);
                self.position += hole;
                self.file.seek(SeekFrom::Start(self.position))?;
                return Ok(Step::Hole(hole));
            }
            max = max.min(self.data_end.saturating_sub(self.position).max(1));
        }
        let len = (&mut self.file).take(max).read_to_end(buffer)? as u64;
        self.position += len;
        // Someone may append faster than it is read.
        if self.opened.is_file() && self.position > self.opened.len() && self.opened.len() > 0 && self.changed()? {
            return Err(io::Error::other(Change));
        }
        Ok(if len == 0 { Step::End } else { Step::Data })
    }

    /// Finds where the data ends that begins here. Returns how long the hole is, if one begins here.
    fn find_data(&mut self) -> io::Result<Option<u64>> {
        let end = self.opened.len();
        let data = match rustix::fs::seek(&self.file, Seek::Data(self.position)) {
            Ok(data) => data,
            // There is none up to the end.
            Err(Errno::NXIO) => end.max(self.position),
            Err(_) => {
                self.is_sparse = false;
                self.file.seek(SeekFrom::Start(self.position))?;
                return Ok(None);
            }
        };
        if data > self.position {
            return Ok(Some(data - self.position));
        }
        self.data_end = rustix::fs::seek(&self.file, Seek::Hole(self.position)).unwrap_or(u64::MAX);
        self.file.seek(SeekFrom::Start(self.position))?;
        Ok(None)
    }

    /// Hashes up to `len`; says whether there is so much, and `go_on` never said no.
    pub(super) fn hash(&mut self, len: u64, hasher: &mut blake3::Hasher, go_on: impl Fn() -> bool) -> io::Result<bool> {
        let mut buffer = Vec::with_capacity(CHUNK_LEN.min(usize::try_from(len).unwrap_or(CHUNK_LEN)));
        while self.position < len {
            if !go_on() {
                return Ok(false);
            }
            buffer.clear();
            let left = len - self.position;
            match self.next(&mut buffer, CHUNK_LEN as u64, left)? {
                Step::Data => drop(hasher.update(&buffer)),
                Step::Hole(hole) => {
                    if !hash_zeros(hasher, hole, &go_on) {
                        return Ok(false);
                    }
                }
                Step::End => return Ok(false),
            }
        }
        Ok(true)
    }

    pub(super) fn skip_to(&mut self, position: u64) -> io::Result<()> {
        self.position = self.file.seek(SeekFrom::Start(position))?;
        Ok(())
    }

    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        let mut byte = Vec::with_capacity(1);
        let is_at_end = matches!(self.next(&mut byte, 1, 1)?, Step::End);
        Ok(is_at_end)
    }

    /// Whether somebody wrote to the file since it was opened, as far as the system tells.
    pub(super) fn changed(&self) -> io::Result<bool> {
        let now = self.file.metadata()?;
        Ok(self.opened.is_file() && Stamp::of(&now) != self.stamp())
    }

    /// Which version of the file was opened.
    pub(super) fn stamp(&self) -> Stamp {
        Stamp::of(&self.opened)
    }

    /// What is kept beside the content.
    pub(super) fn meta(&self) -> Meta {
        let mut meta = walk::meta(&self.opened);
        if !self.opened.is_file() {
            meta.mode = 0o600;
        }
        meta
    }
}

/// Hashes zeros; says whether `go_on` never said no.
pub(crate) fn hash_zeros(hasher: &mut blake3::Hasher, mut len: u64, go_on: impl Fn() -> bool) -> bool {
    static ZEROS: [u8; CHUNK_LEN] = [0; CHUNK_LEN];
    while len > 0 {
        if !go_on() {
            return false;
        }
        let part = len.min(CHUNK_LEN as u64);
        hasher.update(&ZEROS[..part as usize]);
        len -= part;
    }
    true
}

/// Whether this process, or the system, has as many descriptors as may be.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// The file became longer while it was read.
#[derive(Debug, thiserror::Error)]
#[error("it changed while it was being sent")]
struct Change;

/// Whether that is what an error says.
pub(super) fn is_change(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Change>())
}

/// How long a descriptor is waited for.
const DESCRIPTOR_PATIENCE: Duration = Duration::from_secs(60);
