//! Finds an installed libmsquic, for `SENDSTREAM_MSQUIC=system`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Problem;
use crate::settings::Settings;

/// An installed library.
pub(crate) struct Installed {
    /// The folder that it is in.
    pub(crate) folder: PathBuf,
    /// Its file name.
    pub(crate) file: String,
}

/// Looks where `SENDSTREAM_MSQUIC_LIB_DIR` says and nowhere else, or where pkg-config says, or in
/// the usual places.
pub(crate) fn find(settings: &Settings) -> Result<Installed, Problem> {
    if let Some(folder) = &settings.library_dir {
        return look_in(folder)
            .ok_or_else(|| format!("SENDSTREAM_MSQUIC_LIB_DIR is {}; there is no libmsquic in it", folder.display()));
    }
    ask_pkg_config().into_iter().chain(usual_places(settings)).find_map(|folder| look_in(&folder)).ok_or_else(|| {
        "SENDSTREAM_MSQUIC is system, but no libmsquic is installed; install it (packages.microsoft.com: libmsquic), \
         set SENDSTREAM_MSQUIC_LIB_DIR to its folder, or build the one that comes along: SENDSTREAM_MSQUIC=bundled"
            .into()
    })
}

/// The name for development if there is one, else the one that programs load: packages often come
/// without the first.
fn look_in(folder: &Path) -> Option<Installed> {
    ["libmsquic.so", "libmsquic.so.2", "libmsquic.dylib", "libmsquic.2.dylib"]
        .into_iter()
        .find(|file| folder.join(file).exists())
        .and_then(|file| Some(Installed { folder: fs::canonicalize(folder).ok()?, file: file.to_owned() }))
}

fn ask_pkg_config() -> Option<PathBuf> {
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(program).args(["--variable=libdir", "msquic"]).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !folder.trim().is_empty()).then(|| folder.trim().into())
}

fn usual_places(settings: &Settings) -> impl Iterator<Item = PathBuf> {
    // Debian's folder: `x86_64-linux-gnu` for `x86_64-unknown-linux-gnu`.
    let multiarch = settings.target.replacen("-unknown-", "-", 1);
    ["/usr/local/lib/", "/usr/local/lib64/", "/usr/lib/", "/usr/lib64/", "/opt/homebrew/lib/"]
        .into_iter()
        .map(PathBuf::from)
        .flat_map(move |folder| [folder.join(&multiarch), folder])
}
