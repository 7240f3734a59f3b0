//! What stays between runs: an identity and the known peers, below the user's folder for such.
//!
//! `$XDG_DATA_HOME/sendstream`, or `~/.local/share/sendstream`. All of it is for its owner alone. Files
//! are written whole, so no reader ever sees a part of one.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown},
    },
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use sendstream::Identity;

use crate::{
    error::{Failure, chain},
    protocol::SERVER_NAME,
};

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Store(PathBuf);

impl Store {
    /// The user's own, which need not be there yet.
    pub(crate) fn of_user() -> Result<Self, Failure> {
        folder("XDG_DATA_HOME", ".local/share").map(Self).ok_or_else(|| {
            Failure::new("there is no place for what stays between runs")
                .todo("set HOME, or XDG_DATA_HOME, to a folder of your own")
        })
    }

    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a folder in it, or finds it as it is.
    pub(crate) fn make(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.0.join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| self.failed(&path, &error))?;
        let folder = self.open_folder(&path).map_err(|error| self.failed(&path, &error))?;
        self.give_away(&folder);
        // Who can put a file there can pose as a peer.
        let own = File::open(&self.0).map_err(|error| self.failed(&self.0, &error))?;
        for (path, folder) in [(&self.0, &own), (&path, &folder)] {
            let mode = folder.metadata().map_err(|error| self.failed(path, &error))?.mode();
            if mode & 0o022 != 0 {
                return Err(Failure::new(format!("others can write to {}", path.display()))
                    .todo(format!("`chmod go-w {}`", path.display())));
            }
        }
        Ok(path)
    }

    /// Opens a folder in it, or itself. One in it must be none that a link leads to: whoever owns the
    /// store must not lead root elsewhere.
    fn open_folder(&self, path: &Path) -> io::Result<File> {
        let is_itself = path.components().eq(self.0.components());
        let flags = OFlags::DIRECTORY | if is_itself { OFlags::empty() } else { OFlags::NOFOLLOW };
        OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
    }

    /// Writes a file for its owner alone; over the one that is there, if `replace`.
    pub(crate) fn write(&self, path: &Path, content: &[u8], replace: bool) -> io::Result<()> {
        let folder = self.open_folder(path.parent().unwrap_or(&self.0))?;
        // The folder that was opened, whatever stands in its place by now.
        let opened = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let (opened, path) = match path.file_name() {
            Some(name) if opened.exists() => (opened.clone(), opened.join(name)),
            _ => (path.parent().unwrap_or(&self.0).to_owned(), path.to_owned()),
        };
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(opened)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        self.give_away(file.as_file());
        if replace {
            file.persist(path)?
        } else {
            file.persist_noclobber(path)?
        };
        Ok(())
    }

    /// Reads a file, of which there is no more than some KiB.
    pub(crate) fn read(&self, path: &Path) -> io::Result<String> {
        let mut content = String::new();
        File::open(path)?.take(MAX_SIZE).read_to_string(&mut content)?;
        Ok(content)
    }

    pub(crate) fn failed(&self, path: &Path, error: &io::Error) -> Failure {
        Failure::new(format!("cannot use {}: {error}", path.display()))
            .todo("XDG_DATA_HOME chooses another place for what stays between runs")
    }

    /// This receiver's identity, which is made when it is first asked for.
    pub(crate) fn identity(&self) -> Result<Identity, Failure> {
        let folder = self.make("")?;
        let path = folder.join("identity.pem");
        if !path.exists() {
            let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])
                .map_err(|error| Failure::new(format!("cannot make an identity: {error}")))?;
            let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
            match self.write(&path, pem.as_bytes(), false) {
                // Another process was first.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(self.failed(&path, &error)),
                _ => {}
            }
        }
        let mode = fs::metadata(&path).map_err(|error| self.failed(&path, &error))?.mode();
        if mode & 0o077 != 0 {
            return Err(Failure::new(format!("others may read the key in {}", path.display())).todo(format!(
                "`chmod 600 {0}` if nobody did; else remove it, and invite your peers anew",
                path.display()
            )));
        }
        let pem = self.read(&path).map_err(|error| self.failed(&path, &error))?;
        Identity::from_pem(&pem, &pem).map_err(|error| {
            Failure::new(format!("{} holds no identity: {}", path.display(), chain(&error)))
                .todo("remove it; another is made then, for which you invite your peers anew")
        })
    }

    /// Lets what root makes belong to whom the folder belongs to: a service's user, mostly.
    fn give_away(&self, made: &File) {
        if let (Ok(folder), Ok(it)) = (fs::metadata(&self.0), made.metadata())
            && it.uid() == 0
            && folder.uid() != 0
        {
            // Whoever needs the file will say that it cannot be read.
            let _ = fchown(made, Some(folder.uid()), Some(folder.gid()));
        }
    }
}

/// The user's folder of a kind: below `variable`, or in `default` of the home directory.
pub(crate) fn folder(variable: &str, default: &str) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let parent = absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(default)))?;
    Some(parent.join("sendstream"))
}

/// No file here is as large.
const MAX_SIZE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt as _, chown, symlink},
    };

    use super::*;

    #[test]
    fn no_link_in_the_folder_leads_elsewhere() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::at(dir.path());
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        symlink(other.path(), dir.path().join("peers")).unwrap();
        store.make("peers").unwrap_err();
        store.write(&dir.path().join("peers/x.toml"), b"x", true).unwrap_err();
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_root_makes_in_the_folder_of_a_service_is_the_services() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("service"));
        DirBuilder::new().mode(0o700).create(store.path()).unwrap();
        if chown(store.path(), Some(12345), Some(12346)).is_err() {
            return eprintln!("SKIPPED: only root gives files away");
        }
        store.identity().unwrap();
        let folder = store.make("peers").unwrap();
        store.write(&folder.join("laptop.toml"), b"", true).unwrap();
        for path in [store.path().join("identity.pem"), folder.clone(), folder.join("laptop.toml")] {
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (12345, 12346), "{}", path.display());
        }
    }

    #[test]
    fn an_identity_stays_the_same_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("new"));
        let first = store.identity().unwrap().certificate_sha256();
        assert_eq!(store.identity().unwrap().certificate_sha256(), first);
        let path = store.path().join("identity.pem");
        assert_eq!(fs::metadata(store.path()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(store.identity().unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "nonsense").unwrap();
        assert!(store.identity().unwrap_err().to_string().contains("holds no identity"));
        fs::set_permissions(store.path(), Permissions::from_mode(0o770)).unwrap();
        assert!(store.identity().unwrap_err().to_string().contains("others can write to"));
    }
}
