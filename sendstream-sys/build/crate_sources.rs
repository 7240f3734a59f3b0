//! Where Cargo unpacked the crate that brings MsQuic's C sources, and what of it is built.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The crate whose C sources are built, as named in `Cargo.toml`.
pub(crate) const CRATE: &str = "seera-msquic";
/// The version of it, as named in `Cargo.toml`.
pub(crate) const CRATE_VERSION: &str = "2.6.0-beta3";

/// What the build needs of the sources: a file, or a folder with all that is in it.
pub(crate) const PARTS: [&str; 9] = [
    "CMakeLists.txt",
    "cmake",
    "submodules/CMakeLists.txt",
    "src/bin",
    "src/core",
    "src/generated/CMakeLists.txt",
    "src/inc",
    "src/manifest",
    "src/platform",
];

/// The root of the crate's sources, as seen from this crate, whose root is `manifest_dir`.
///
/// When this crate came from a registry or a vendor folder, the other one lies next to it. In a
/// workspace of its own Cargo knows, and the strictest question does: all that the outer Cargo
/// resolved is downloaded and locked. As a git dependency this crate has a workspace around it that
/// is not the one being built, and of which nothing need be downloaded: then it is found in Cargo's
/// home.
///
/// On systems where the crate's Rust code does not compile, it is no dependency of what is built
/// (`Cargo.toml`), so nobody may have downloaded it. The last question has Cargo do that. It comes
/// with what other systems need.
pub(crate) fn find(manifest_dir: &Path) -> Result<PathBuf, String> {
    let versioned = format!("{CRATE}-{CRATE_VERSION}");
    [manifest_dir.with_file_name(&versioned), manifest_dir.with_file_name(CRATE)]
        .into_iter()
        .find(|folder| is_the_crate(folder))
        .or_else(|| ask_cargo(manifest_dir, &["--offline", "--locked"], env::var("TARGET").ok()))
        .or_else(|| look_in_cargo_home(&versioned))
        .or_else(|| ask_cargo(manifest_dir, &[], None))
        .ok_or_else(|| {
            format!(
                "Cargo does not say where the sources of {CRATE} {CRATE_VERSION} are; \
                 run cargo fetch, or set SENDSTREAM_MSQUIC_SOURCE to a checkout of MsQuic"
            )
        })
}

/// Every file of the [`PARTS`] below `root`, relative to it.
pub(crate) fn files(root: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let mut files = BTreeSet::new();
    for part in PARTS {
        list_files(root, Path::new(part), &mut files)?;
    }
    Ok(files)
}

fn is_the_crate(folder: &Path) -> bool {
    let version = format!("version = \"{CRATE_VERSION}\"");
    fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|manifest| manifest.lines().any(|line| line == version))
}

fn look_in_cargo_home(versioned: &str) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry").join("src")).ok()?;
    registries.flatten().map(|registry| registry.path().join(versioned)).find(|folder| is_the_crate(folder))
}

/// What systems other than `platform` need is not downloaded, if there is one.
fn ask_cargo(manifest_dir: &Path, strictness: &[&str], platform: Option<String>) -> Option<PathBuf> {
    let mut command = Command::new(env::var_os("CARGO")?);
    command.args(["metadata", "--format-version", "1"]).args(strictness);
    if let Some(platform) = platform {
        command.arg("--filter-platform").arg(platform);
    }
    let output =
        command.arg("--manifest-path").arg(manifest_dir.join("Cargo.toml")).stderr(Stdio::null()).output().ok()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let package = metadata["packages"]
        .as_array()?
        .iter()
        .find(|package| package["name"] == CRATE && package["version"] == CRATE_VERSION)?;
    Path::new(package["manifest_path"].as_str()?).parent().map(Path::to_path_buf)
}

/// Adds every file at or below `root`/`part` to `files`, relative to `root`.
fn list_files(root: &Path, part: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    let path = root.join(part);
    if !path.is_dir() {
        files.insert(part.to_path_buf());
        return Ok(());
    }
    let at = |error| format!("{}: {error}", path.display());
    for entry in fs::read_dir(&path).map_err(at)? {
        list_files(root, &part.join(entry.map_err(at)?.file_name()), files)?;
    }
    Ok(())
}
