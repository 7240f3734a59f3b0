//! Where received entries go. A file gets its name only when all of it is there and its digest is
//! right; until then it is a [part file](part).
//!
//! Everything is done relative to directories that are open, and no symbolic link is followed on the
//! way, whoever made it and when: so nothing escapes the inbox. A link that is received must lead to
//! a place in the inbox, whatever other links are on its way ([`stays_inside`]).
//!
//! Giving a name is one atomic step of the file system, so no other process ever sees half a file
//! under it, and without `--overwrite` the same step refuses to replace a file that came up in the
//! meantime. Directories that a file needs and that nobody told of are made only when it is
//! complete, and removed again if it cannot get its name.
//!
//! A file or directory has the permissions and the time of its source, and no other one's: it is
//! never wider, not even for a moment.
//!
//! Nothing is flushed to the disk unless `--fsync` asks for it. The kernel keeps what a process
//! wrote when the process dies, so only a power failure can hurt a file that was reported as
//! received, and waiting for the disk would cost each of a thousand small files several
//! milliseconds.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps},
    io::Errno,
};

use crate::{
    error::Failure,
    name::{PART_PREFIX, PART_SUFFIX, SafeName, components},
    progress::Progress,
    protocol::message::{Lost, Meta, Reason},
    reader::Stamp,
};

pub(crate) mod part;

/// The directory that files are received into.
#[derive(Debug)]
pub(crate) struct Inbox {
    root: Arc<OwnedFd>,
    device: u64,
    rules: Rules,
    /// Held while a file gets its name: another that fails to get one then removes the directories
    /// that it made, and they must not be this one's.
    placing: Mutex<()>,
    /// The directory that was used last: the next file is mostly in the same one.
    last: Mutex<Option<Remembered>>,
}

/// A path in the inbox, and the directory there.
type Remembered = (Box<[u8]>, Arc<OwnedFd>);

/// What the user asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) overwrite: bool,
    pub(crate) fsync: bool,
}

/// What is there under a file's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A file of so many bytes.
    File(u64),
    /// Something that is replaced if anything is: a link.
    Other,
}

impl Inbox {
    /// Opens the directory, creates it if need be, tries whether it can be written to, and looks for
    /// what earlier runs left.
    pub(crate) fn open(dir: &Path, rules: Rules, progress: &Progress) -> Result<Self, Failure> {
        let unusable = |error| Failure::new(format!("cannot receive into {}: {error}", dir.display()));
        fs::create_dir_all(dir).map_err(unusable)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, dir, flags, Mode::empty()).map_err(|error| unusable(error.into()))?;
        let device = rustix::fs::fstat(&root).map_err(|error| unusable(error.into()))?.st_dev;
        let inbox = Self { root: Arc::new(root), device, rules, placing: Mutex::default(), last: Mutex::default() };
        inbox.try_out().map_err(|error| unusable(error.into()))?;
        inbox.look_for_parts(dir, SystemTime::now(), progress);
        Ok(inbox)
    }

    fn try_out(&self) -> Result<(), Errno> {
        let name = format!("{PART_PREFIX}try-{}{PART_SUFFIX}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, &name, flags, part::MODE)?;
        rustix::fs::unlinkat(&self.root, &name, AtFlags::empty())
    }

    /// Removes part files that nobody has asked for in a week, and tells of the others.
    fn look_for_parts(&self, dir: &Path, now: SystemTime, progress: &Progress) {
        let (mut count, mut bytes) = (0, 0);
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_part = name.as_bytes().starts_with(PART_PREFIX.as_bytes())
                && name.as_bytes().ends_with(PART_SUFFIX.as_bytes());
            let Some(metadata) = entry.metadata().ok().filter(|metadata| is_part && metadata.is_file()) else {
                continue;
            };
            match part::remove_if_old(&self.root, &name, now) {
                Ok(true) => progress.note(format_args!(
                    "removed {}, the beginning of a file that nobody sent the rest of in a week",
                    dir.join(&name).display()
                )),
                Ok(false) => (count, bytes) = (count + 1, bytes + metadata.len()),
                // Another process has it, or it is none of ours.
                Err(_) => {}
            }
        }
        if count > 0 {
            let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
            progress.note(format_args!(
                "{files} of earlier runs, {bytes} bytes, go on when they are sent again; to remove them: rm {}/{PART_PREFIX}*{PART_SUFFIX}",
                dir.display()
            ));
        }
    }

    /// Looks at what is there under a file's name; an error if it cannot be replaced.
    pub(crate) fn look(&self, name: &SafeName) -> Result<Found, StoreError> {
        let Some(dir) = self.existing_parent(name)? else { return Ok(Found::Nothing) };
        Ok(match stat(&dir, name.file_name())? {
            None => Found::Nothing,
            Some(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => return Err(StoreError::IsDirectory),
                FileType::RegularFile => Found::File(stat.st_size as u64),
                _ if self.rules.overwrite => Found::Other,
                _ => return Err(StoreError::Exists),
            },
        })
    }

    /// Opens the file that has a name already.
    pub(crate) fn read(&self, name: &SafeName) -> Result<File, StoreError> {
        let dir = self.existing_parent(name)?.ok_or(StoreError::NotDirectory)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(patient(|| rustix::fs::openat(&dir, name.file_name(), flags, Mode::empty()))?.into())
    }

    /// Whether files are replaced.
    pub(crate) fn overwrites(&self) -> bool {
        self.rules.overwrite
    }

    /// Gives a file that is there the permissions and the time of its source, if it is the one that was
    /// `hashed` before.
    pub(crate) fn touch(&self, name: &SafeName, hashed: Stamp, meta: Meta) -> Result<(), StoreError> {
        let file = self.read(name)?;
        if Stamp::of(&file.metadata()?) != hashed {
            return Err(StoreError::Exists);
        }
        set_meta(&file, meta)?;
        Ok(())
    }

    /// Makes a directory, or finds it. Returns how many directories were made.
    pub(crate) fn make_directory(&self, name: &SafeName, meta: Meta) -> Result<usize, StoreError> {
        let _turn = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let (parent, made) = self.make_parents(name)?;
        let is_new = self.make_in(&parent, name.file_name(), meta).inspect_err(|_| self.remove_made(name, made))?;
        Ok(made + usize::from(is_new))
    }

    /// Makes a directory in another one, or finds it; says whether it was made.
    fn make_in(&self, parent: &OwnedFd, name: &OsStr, meta: Meta) -> Result<bool, StoreError> {
        // Its owner must be able to fill it. What the source forbids is forbidden at the end.
        let mode = Mode::from_raw_mode(meta.mode.into()) | Mode::RWXU;
        let is_new = match rustix::fs::mkdirat(parent, name, mode) {
            Ok(()) => {
                // Beyond what the umask left.
                let dir = open_directory(parent, name)?.ok_or(StoreError::NotDirectory)?;
                rustix::fs::fchmod(&dir, mode)?;
                true
            }
            Err(Errno::EXIST) => {
                open_directory(parent, name)?;
                false
            }
            Err(error) => return Err(error.into()),
        };
        if self.rules.fsync {
            rustix::fs::fsync(parent)?;
        }
        Ok(is_new)
    }

    /// Gives a directory the time of its source, and its permissions if it was `made` here, or things
    /// are replaced.
    pub(crate) fn finish_directory(&self, name: &SafeName, meta: Meta, made: bool) {
        let finish = || -> Result<(), StoreError> {
            let Some(parent) = self.existing_parent(name)? else { return Ok(()) };
            let Some(dir) = open_directory(&parent, name.file_name())? else { return Ok(()) };
            if made || self.rules.overwrite {
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(meta.mode.into()))?;
            }
            rustix::fs::futimens(&dir, &timestamps(meta))?;
            Ok(())
        };
        // It is the user's own directory, whose contents are all there.
        let _ = finish();
    }

    /// Makes a symbolic link. Says whether it was there before, and how many directories were made for
    /// it. If it cannot be made, these are removed.
    pub(crate) fn make_link(&self, name: &SafeName, target: &[u8]) -> Result<(bool, usize), StoreError> {
        if !stays_inside(name, target) {
            return Err(StoreError::LinkOutside);
        }
        let _turn = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let (parent, made) = self.make_parents(name)?;
        let linked = self.link_in(&parent, name.file_name(), OsStr::from_bytes(target));
        linked.map(|was_there| (was_there, made)).inspect_err(|_| self.remove_made(name, made))
    }

    /// Makes a symbolic link in a directory. Says whether it was there before.
    fn link_in(&self, parent: &OwnedFd, name: &OsStr, target: &OsStr) -> Result<bool, StoreError> {
        match rustix::fs::symlinkat(target, parent, name) {
            Ok(()) => return Ok(false),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if rustix::fs::readlinkat(parent, name, Vec::new()).is_ok_and(|there| there.as_bytes() == target.as_bytes()) {
            return Ok(true);
        }
        if stat(parent, name)?.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
            return Err(StoreError::IsDirectory);
        }
        if !self.rules.overwrite {
            return Err(StoreError::Exists);
        }
        let new = part::random_name().map_err(io::Error::from)?;
        rustix::fs::symlinkat(target, &self.root, &new)?;
        rustix::fs::renameat(&self.root, &new, parent, name).inspect_err(|_| {
            let _ = rustix::fs::unlinkat(&self.root, &new, AtFlags::empty());
        })?;
        Ok(false)
    }

    /// The directory above a file, if it exists.
    fn existing_parent(&self, name: &SafeName) -> Result<Option<Arc<OwnedFd>>, StoreError> {
        if let Some(dir) = self.remembered(name) {
            return Ok(Some(dir));
        }
        let mut dir = Arc::clone(&self.root);
        for component in name.parents() {
            match open_directory(&dir, component)? {
                Some(next) => dir = Arc::new(next),
                None => return Ok(None),
            }
        }
        self.remember(name, &dir);
        Ok(Some(dir))
    }

    /// Where a file can wait until it is complete: in the inbox, or in the deepest of its directories
    /// if that is on another device, from where it could not get its name.
    fn place_for_part(&self, name: &SafeName) -> Result<Arc<OwnedFd>, StoreError> {
        let mut dir = Arc::clone(&self.root);
        if let Some(dir) = self.remembered(name) {
            let device = rustix::fs::fstat(&dir)?.st_dev;
            return Ok(if device == self.device { Arc::clone(&self.root) } else { dir });
        }
        for component in name.parents() {
            match open_directory(&dir, component)? {
                Some(next) => dir = Arc::new(next),
                None => break,
            }
        }
        let device = rustix::fs::fstat(&dir)?.st_dev;
        Ok(if device == self.device { Arc::clone(&self.root) } else { dir })
    }

    fn remembered(&self, name: &SafeName) -> Option<Arc<OwnedFd>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, dir) = last.as_ref()?;
        (**path == *name.parent()? && self.leads_to(path, dir)).then(|| Arc::clone(dir))
    }

    /// Whether a path still leads to a directory that is open, through no link: it may have been
    /// removed meanwhile, or moved to anywhere.
    fn leads_to(&self, path: &[u8], dir: &OwnedFd) -> bool {
        let Ok(opened) = rustix::fs::fstat(dir) else { return false };
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let mut inode = None;
        for end in ends.chain([path.len()]) {
            match stat(&self.root, OsStr::from_bytes(&path[..end])) {
                Ok(Some(stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    inode = Some((stat.st_dev, stat.st_ino));
                }
                _ => return false,
            }
        }
        inode == Some((opened.st_dev, opened.st_ino))
    }

    fn remember(&self, name: &SafeName, dir: &Arc<OwnedFd>) {
        if let Some(parent) = name.parent() {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((parent.into(), Arc::clone(dir)));
        }
    }

    /// Opens the directory above a file, and makes what is missing. Returns how many were made. The
    /// caller holds `placing`.
    fn make_parents(&self, name: &SafeName) -> Result<(Arc<OwnedFd>, usize), StoreError> {
        if let Some(dir) = self.remembered(name) {
            return Ok((dir, 0));
        }
        let (mut dir, mut made) = (Arc::clone(&self.root), 0);
        for (depth, component) in name.parents().enumerate() {
            let next = self.enter_or_make(&dir, component, &mut made);
            dir = Arc::new(next.inspect_err(|_| self.remove_made_above(name, depth + 1, made))?);
        }
        self.remember(name, &dir);
        Ok((dir, made))
    }

    /// Opens a directory in another one, and makes it if it is missing, which is counted.
    fn enter_or_make(&self, dir: &OwnedFd, component: &OsStr, made: &mut usize) -> Result<OwnedFd, StoreError> {
        if let Some(there) = open_directory(dir, component)? {
            return Ok(there);
        }
        match rustix::fs::mkdirat(dir, component, Mode::from_raw_mode(0o777)) {
            Ok(()) => *made += 1,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if self.rules.fsync {
            rustix::fs::fsync(dir)?;
        }
        open_directory(dir, component)?.ok_or(StoreError::NotDirectory)
    }

    /// Gives a complete file its name, and returns how many directories were made for it. If it gets
    /// none, these are removed.
    fn place(&self, from: &part::Stored, name: &SafeName, meta: Meta) -> Result<usize, StoreError> {
        let _turn = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let (parent, made) = self.make_parents(name)?;
        let flags = if self.rules.overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let (dir, part, file_name) = (&from.dir, &from.name, name.file_name());
        // At the last moment: a part file that a killed process leaves must be writable, and young.
        let renamed = self.finish(&from.file, meta).and_then(|()| {
            match rustix::fs::renameat_with(dir, part, &parent, file_name, flags) {
                // Not every file system knows the flag; a second name is refused if there is one.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    rustix::fs::linkat(dir, part, &parent, file_name, AtFlags::empty())
                        .and_then(|()| rustix::fs::unlinkat(dir, part, AtFlags::empty()))
                }
                renamed => renamed,
            }
        });
        if let Err(error) = renamed {
            self.remove_made(name, made);
            return Err(match error {
                Errno::EXIST => StoreError::Exists,
                Errno::ISDIR => StoreError::IsDirectory,
                error => error.into(),
            });
        }
        if self.rules.fsync {
            // A new name is on the disk once its directory is.
            rustix::fs::fsync(&parent)?;
        }
        Ok(made)
    }

    /// Gives a file whose content is on its way to the disk what is kept beside it.
    fn finish(&self, file: &File, meta: Meta) -> Result<(), Errno> {
        set_meta(file, meta)?;
        if self.rules.fsync { rustix::fs::fsync(file) } else { Ok(()) }
    }

    /// Removes the innermost directories above a file.
    fn remove_made(&self, name: &SafeName, made: usize) {
        self.remove_made_above(name, name.parents().count(), made);
    }

    /// Removes the innermost `made` of the first `depth` directories above a file.
    fn remove_made_above(&self, name: &SafeName, depth: usize, made: usize) {
        let parents: Vec<&OsStr> = name.parents().take(depth).collect();
        for depth in (parents.len() - made..parents.len()).rev() {
            let mut dir = Arc::clone(&self.root);
            for component in &parents[..depth] {
                let Ok(Some(next)) = open_directory(&dir, component) else { return };
                dir = Arc::new(next);
            }
            // Nothing else is to be done about a directory that stays: something was put there.
            let _ = rustix::fs::unlinkat(&dir, parents[depth], AtFlags::REMOVEDIR);
        }
    }
}

/// Whether a link leads to a place in the inbox, whatever other links there are: those that were
/// received stay inside as well. So it may lead up from its own directory, as far as the inbox, and
/// then down. It may not lead up again: what it went down by may be a link.
fn stays_inside(name: &SafeName, target: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") || target.contains(&0) || target.len() > SafeName::MAX_LEN {
        return false;
    }
    let mut up = 0;
    let mut down = false;
    for component in components(target) {
        match component.as_bytes() {
            b"." => {}
            b".." if down => return false,
            b".." => up += 1,
            _ => down = true,
        }
    }
    up <= name.parents().count()
}

/// Opens a directory in another one; an error if there is something else.
fn open_directory(dir: &OwnedFd, name: &OsStr) -> Result<Option<OwnedFd>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match patient(|| rustix::fs::openat(dir, name, flags, Mode::empty())) {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => match stat(dir, name)? {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Err(StoreError::ThroughLink),
            _ => Err(StoreError::NotDirectory),
        },
        Err(error) => Err(error.into()),
    }
}

/// What is under a name, without following links; `None` if there is nothing.
fn stat(dir: &OwnedFd, name: &OsStr) -> Result<Option<Stat>, StoreError> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn set_meta(file: &File, meta: Meta) -> Result<(), Errno> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(meta.mode.into()))?;
    rustix::fs::futimens(file, &timestamps(meta))
}

fn timestamps(Meta { mtime: (seconds, nanoseconds), .. }: Meta) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    Timestamps { last_access: omit, last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() } }
}

/// Opens something, and waits for a descriptor if this process, or the system, has none left.
fn patient<T>(open: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..DESCRIPTOR_ATTEMPTS {
        match open() {
            Err(Errno::MFILE | Errno::NFILE) => std::thread::sleep(DESCRIPTOR_PAUSE),
            Err(Errno::INTR) => {}
            opened => return opened,
        }
    }
    open()
}

/// Why something cannot be kept. The sender reads this too, so it says nothing about where the inbox
/// is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("it exists already at the receiver, and is another one (`sendstream recv --overwrite` replaces files)")]
    Exists,
    #[error("a directory of that name exists at the receiver")]
    IsDirectory,
    #[error("its path leads through a file at the receiver")]
    NotDirectory,
    #[error("its path leads through a symbolic link at the receiver")]
    ThroughLink,
    #[error("it is a symbolic link that leads, or could lead, out of the receiver's directory")]
    LinkOutside,
    #[error("its content arrived with another digest than the sender's")]
    Corrupt,
    #[error("it begins otherwise than what went to the receiver's standard output before")]
    AnotherBeginning,
    #[error("the receiver writes to standard output, and takes one file")]
    OneFile,
    #[error("the receiver's disk is full")]
    DiskFull,
    /// It may go on another time.
    #[error("the connection was lost, or the user ended it, meanwhile")]
    Stopped,
    #[error("the receiver cannot store it: {}", .0.kind())]
    Io(io::Error),
}

impl StoreError {
    /// What the sender is told.
    pub(crate) fn lost(&self) -> Lost {
        let reason = match self {
            Self::Exists | Self::IsDirectory | Self::NotDirectory => Reason::Exists,
            Self::AnotherBeginning => Reason::Corrupt,
            Self::ThroughLink | Self::LinkOutside => Reason::Name,
            Self::Corrupt => Reason::Corrupt,
            Self::DiskFull => Reason::DiskFull,
            Self::Stopped => Reason::BrokenOff,
            Self::OneFile | Self::Io(_) => Reason::Storage,
        };
        Lost::new(reason, self.to_string())
    }

    /// The reason for the user at this end, who may know more than the peer.
    pub(crate) fn local_text(&self) -> String {
        match self {
            Self::Io(error) => format!("cannot store it: {error}"),
            other => other.to_string(),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(error),
        }
    }
}

impl From<Errno> for StoreError {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// How often, and how long, a descriptor is waited for: a minute.
const DESCRIPTOR_ATTEMPTS: usize = 1200;
const DESCRIPTOR_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

#[cfg(test)]
mod tests;
