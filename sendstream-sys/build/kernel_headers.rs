//! Linux's own headers. musl's compiler for a glibc system does not look where they are, since the
//! headers of glibc are in the same folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::place::Place;
use crate::settings::Settings;
use crate::{Problem, tools};

/// The folders of them.
const FOLDERS: [&str; 3] = ["linux", "asm-generic", "asm"];

/// A folder that has no other headers, for the compiler to look in last. `None` if it finds them by
/// itself.
///
/// # Errors
///
/// One line that says what to install.
pub(crate) fn find(settings: &Settings, place: &Place) -> Result<Option<PathBuf>, Problem> {
    if settings.target_env != "musl" || tools::compiles("#include <linux/filter.h>\n") {
        return Ok(None);
    }
    let Some(found) = installed(settings) else {
        return Err(
            "musl's C compiler finds no headers of Linux; install them (Debian: apt-get install linux-libc-dev)".into(),
        );
    };
    let folder = place.folder.join("kernel-headers");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, found) in FOLDERS.iter().zip(found) {
        let link = folder.join(name);
        if fs::read_link(&link).is_ok_and(|there| there == found) {
            continue;
        }
        let _ = fs::remove_file(&link);
        link_to(&found, &link).map_err(|error| format!("{}: {error}", link.display()))?;
    }
    Ok(Some(folder))
}

/// Where each of the [`FOLDERS`] is, for the target's processor.
fn installed(settings: &Settings) -> Option<[PathBuf; 3]> {
    let processor = settings.target.split('-').next()?;
    let is_hosts = env::var("HOST").is_ok_and(|host| host.split('-').next() == Some(processor));
    let cross = Path::new("/usr").join(format!("{processor}-linux-gnu")).join("include");
    let usual = Path::new("/usr/include");
    let places = [
        Some((usual, usual.join(format!("{processor}-linux-gnu")).join("asm"))),
        Some((cross.as_path(), cross.join("asm"))),
        is_hosts.then(|| (usual, usual.join("asm"))),
    ];
    places
        .into_iter()
        .flatten()
        .map(|(common, asm)| [common.join("linux"), common.join("asm-generic"), asm])
        .find(|found| found.iter().all(|folder| folder.is_dir()))
}

#[cfg(unix)]
fn link_to(folder: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(folder, link)
}

#[cfg(not(unix))]
fn link_to(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
