//! TLS session tickets of servers, kept in files for the next run of `send` and `http get`.
//!
//! One file for each server, `<scope>-<name and protocol>.session`, readable by its owner only. The
//! scope of `send` is the receiver's certificate, since all receivers have the same name. A file: it holds a session's secret. A file gets its name when it is complete and is taken by
//! being renamed, so no reader ever sees a part of one, and no two processes use the same ticket.
//! Whatever is in it, the library checks; a file that is of no use costs a full handshake and is
//! gone.

use std::{
    fmt::Display,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use sendstream::{SessionCache, SessionKey};
use tempfile::NamedTempFile;

use crate::error::Failure;

/// The tickets of one scope.
#[derive(Debug)]
pub(crate) struct Sessions {
    dir: PathBuf,
    scope: String,
}

impl Sessions {
    /// Opens the directory, which is made if it is not there, and removes what is too old to be of
    /// use.
    pub(crate) fn open(dir: &Path, scope: impl Display) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new(format!("cannot keep sessions in {}: {error}", dir.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        // Who can put a ticket there can pose as the receiver.
        if fs::metadata(dir).map_err(failed)?.mode() & 0o022 != 0 {
            return Err(Failure::new(format!("others can write to {}, so sessions are not safe there", dir.display()))
                .todo("choose a directory of your own, or `chmod go-w` it"));
        }
        for entry in fs::read_dir(dir).map_err(failed)?.flatten() {
            let ours = [SUFFIX, TEMPORARY].iter().any(|end| entry.file_name().to_string_lossy().ends_with(end));
            let age = entry.metadata().and_then(|file| file.modified()).ok().and_then(|time| time.elapsed().ok());
            if ours && age.is_some_and(|age| age > MAX_AGE) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { dir: dir.to_owned(), scope: scope.to_string() })
    }

    fn path(&self, key: &SessionKey) -> PathBuf {
        self.dir.join(format!("{}-{}{SUFFIX}", self.scope, key.to_hex()))
    }

    fn temporary(&self) -> io::Result<NamedTempFile> {
        // Readable by its owner only, as it is made.
        tempfile::Builder::new().prefix(".").suffix(TEMPORARY).tempfile_in(&self.dir)
    }

    fn try_put(&self, key: &SessionKey, ticket: &[u8]) -> io::Result<()> {
        let mut file = self.temporary()?;
        file.write_all(ticket)?;
        file.persist(self.path(key))?;
        Ok(())
    }

    fn try_take(&self, key: &SessionKey) -> io::Result<Vec<u8>> {
        // Removes it when dropped, in whatever way that happens.
        let taken = self.temporary()?.into_temp_path();
        fs::rename(self.path(key), &taken)?;
        let mut ticket = Vec::new();
        File::open(&taken)?.take(MAX_SIZE).read_to_end(&mut ticket)?;
        Ok(ticket)
    }
}

/// A ticket that cannot be written or read is one less: the transfer goes on without.
impl SessionCache for Sessions {
    fn put(&self, key: &SessionKey, ticket: Vec<u8>) {
        let _ = self.try_put(key, &ticket);
    }

    fn take(&self, key: &SessionKey) -> Option<Vec<u8>> {
        self.try_take(key).ok()
    }
}

const SUFFIX: &str = ".session";
const TEMPORARY: &str = ".session-part";

/// What no ticket outlives (RFC 8446 §4.6.1).
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What no ticket of the library's exceeds.
const MAX_SIZE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, time::SystemTime};

    use sendstream::CertificateHash;
    use tempfile::TempDir;

    use super::*;

    fn key() -> SessionKey {
        SessionKey::new("sendstream", ["files"])
    }

    fn open(dir: &TempDir, certificate: u8) -> Sessions {
        Sessions::open(&dir.path().join("new"), CertificateHash::from([certificate; 32])).unwrap()
    }

    fn files(sessions: &Sessions) -> Vec<PathBuf> {
        fs::read_dir(&sessions.dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_ticket_is_taken_once_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = open(&dir, 1);
        assert_eq!(sessions.take(&key()), None);
        sessions.put(&key(), vec![1]);
        sessions.put(&key(), vec![2; 3000]);
        assert_eq!(files(&sessions).len(), 1);
        assert_eq!(open(&dir, 1).take(&key()), Some(vec![2; 3000]), "by another process as well");
        assert_eq!(sessions.take(&key()), None);
        assert!(files(&sessions).is_empty());
    }

    #[test]
    fn receivers_do_not_get_one_anothers_tickets() {
        let dir = tempfile::tempdir().unwrap();
        open(&dir, 1).put(&key(), vec![1]);
        assert_eq!(open(&dir, 2).take(&key()), None);
        assert_eq!(open(&dir, 1).take(&SessionKey::new("sendstream", ["others"])), None);
        assert_eq!(open(&dir, 1).take(&key()), Some(vec![1]));
    }

    #[test]
    fn directory_and_files_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = open(&dir, 1);
        sessions.put(&key(), vec![1]);
        assert_eq!(fs::metadata(&sessions.dir).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&files(&sessions)[0]).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&sessions.dir, Permissions::from_mode(0o770)).unwrap();
        assert!(Sessions::open(&sessions.dir, CertificateHash::from([1; 32])).is_err(), "others could write");
    }

    #[test]
    fn what_is_too_old_is_removed_and_what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = open(&dir, 1);
        let old = SystemTime::now() - MAX_AGE - Duration::from_secs(60);
        for (name, time) in
            [("a.session", old), (".b.session-part", old), ("c.session", SystemTime::now()), ("d.txt", old)]
        {
            File::create(sessions.dir.join(name)).unwrap().set_modified(time).unwrap();
        }
        let mut names: Vec<_> = files(&open(&dir, 1)).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["c.session", "d.txt"]);
    }

    #[test]
    fn a_directory_that_is_gone_costs_the_ticket_only() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = open(&dir, 1);
        fs::remove_dir(&sessions.dir).unwrap();
        sessions.put(&key(), vec![1]);
        assert_eq!(sessions.take(&key()), None);
    }
}
