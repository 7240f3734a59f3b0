//! Where C is compiled, and where what came of it is kept.
//!
//! The makefiles of AWS-LC and MsQuic, and the scripts that they feed to `ar`, take paths of plain
//! characters only. So where Cargo's folder or the one to keep things in has others, C is compiled in
//! a temporary folder, and only the results go to where they were asked for.
//!
//! A result carries a key of all that decides its content in its name, and gets that name only when it
//! is complete. An interrupted build is never taken for a finished one, and builds that run side by
//! side at worst do the work twice.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::settings::Settings;
use crate::{Problem, key};

/// The folder that C is compiled in. A temporary one goes with this value.
pub(crate) struct Place {
    /// Its path, of plain characters.
    pub(crate) folder: PathBuf,
    is_temporary: bool,
}

impl Place {
    /// `OUT_DIR` if nothing speaks against it.
    ///
    /// # Errors
    ///
    /// One line, if a temporary folder is needed and cannot be had.
    pub(crate) fn find(settings: &Settings) -> Result<Self, Problem> {
        if is_plain(&settings.out_dir) && is_plain(&settings.native_dir) {
            return Ok(Self { folder: settings.out_dir.clone(), is_temporary: false });
        }
        let parent = env::temp_dir();
        let folder = parent.join(format!("sendstream-native-{:016x}", unique(settings)));
        if !is_plain(&folder) {
            return Err(format!(
                "C cannot be compiled in {}, whose path has other characters than A-Z a-z 0-9 . _ - /, nor in {}; \
                 set CARGO_TARGET_DIR or TMPDIR to a folder whose path has none",
                settings.out_dir.display(),
                parent.display()
            ));
        }
        create_for_this_user(&folder).map_err(|error| {
            format!(
                "C cannot be compiled in {}, whose path has other characters than A-Z a-z 0-9 . _ - /, and {} cannot \
                 be made: {error}; set CARGO_TARGET_DIR to a folder whose path has none, or TMPDIR to one that exists",
                settings.out_dir.display(),
                folder.display()
            )
        })?;
        Ok(Self { folder, is_temporary: true })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Puts a copy of `built` to `finished`, whole or not at all.
pub(crate) fn keep(built: &[PathBuf], finished: &Path, settings: &Settings) -> Result<(), Problem> {
    let unfinished = finished.with_file_name(format!("unfinished-{:016x}", unique(settings)));
    let copied = fs::create_dir_all(&unfinished)
        .and_then(|()| built.iter().try_for_each(|part| copy(part, &unfinished)))
        .and_then(|()| fs::rename(&unfinished, finished));
    if let Err(error) = copied {
        let _ = fs::remove_dir_all(&unfinished);
        // Another build was faster; its result is as good as this one.
        if !finished.exists() {
            return Err(format!("{}: {error}", finished.display()));
        }
    }
    Ok(())
}

/// Copies `part` with all that is in it into `folder`, under its own name.
pub(crate) fn copy(part: &Path, folder: &Path) -> std::io::Result<()> {
    let to = folder.join(part.file_name().unwrap_or_default());
    if !part.is_dir() {
        return fs::copy(part, to).map(drop);
    }
    fs::create_dir_all(&to)?;
    fs::read_dir(part)?.try_for_each(|entry| copy(&entry?.path(), &to))
}

/// Whether every program of the native build takes this path: those that read makefiles, scripts of
/// the shell, and scripts of `ar`.
pub(crate) fn is_plain(path: &Path) -> bool {
    path.to_str().is_some_and(|path| {
        path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/'))
    })
}

/// A number that no other build has, be it at the same time or in another container.
fn unique(settings: &Settings) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    key::of(&(&settings.out_dir, process::id(), now))
}

/// Fails if there is something of this name already.
fn create_for_this_user(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
