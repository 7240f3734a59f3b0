//! Finds MsQuic's C sources and keeps an edited copy of them in `OUT_DIR`.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::edits::Edit;
use crate::settings::Settings;
use crate::{Problem, apply};

/// The crate whose C sources are built, as named in `Cargo.toml`.
const CRATE: &str = "seera-msquic";
/// The version of it, as named in `Cargo.toml`.
const CRATE_VERSION: &str = "2.6.0-beta3";

/// What the build needs of the sources: a file, or a folder with all that is in it.
const PARTS: [&str; 9] = [
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

/// MsQuic's sources as they came.
pub(crate) struct Source {
    /// The root folder, which holds `CMakeLists.txt`.
    pub(crate) root: PathBuf,
    /// What a user is told: the crate and its version, or the checkout's own name. Never a path.
    pub(crate) label: String,
    /// The commit they were taken from.
    pub(crate) commit: Option<String>,
    /// Whether they can change under us: a checkout can, an unpacked crate cannot.
    pub(crate) may_change: bool,
}

/// The folders and files of `source` that the build reads.
pub(crate) fn parts(source: &Source) -> impl Iterator<Item = PathBuf> + '_ {
    PARTS.iter().map(|part| source.root.join(part))
}

/// Finds the sources: the checkout that was named, else the crate's.
pub(crate) fn find(settings: &Settings) -> Result<Source, Problem> {
    let (root, label, may_change) = match &settings.checkout {
        Some(checkout) => {
            let root = fs::canonicalize(checkout)
                .map_err(|error| format!("SENDSTREAM_MSQUIC_SOURCE names {}: {error}", checkout.display()))?;
            let label = root.file_name().map_or_else(|| "checkout".into(), |name| name.to_string_lossy().into_owned());
            (root, label, true)
        }
        None => (crate_root(settings)?, format!("{CRATE} {CRATE_VERSION}"), false),
    };
    if let Some(missing) = PARTS.iter().find(|part| !root.join(part).exists()) {
        return Err(format!("{} is not a copy of MsQuic's sources: it has no {missing}", root.display()));
    }
    let commit = commit(&root);
    Ok(Source { root, label, commit, may_change })
}

/// The copy that is built.
pub(crate) struct Copy {
    /// Its root folder.
    pub(crate) root: PathBuf,
    /// The edits that were made to it, in order.
    pub(crate) edits: Vec<Edit>,
    /// One line for each edit that does not fit, which only a checkout may have.
    pub(crate) refused: Vec<String>,
}

/// Brings the copy in `OUT_DIR`, with `edits` made, up to date.
///
/// A file is written only when its content differs, so that CMake compiles again only what really changed.
pub(crate) fn copy_with_edits(source: &Source, edits: &[Edit], settings: &Settings) -> Result<Copy, Problem> {
    let root = settings.out_dir.join("msquic-source");
    let mut files = BTreeSet::new();
    for part in PARTS {
        list_files(&source.root, Path::new(part), &mut files)?;
    }
    let outcome = apply::all(edits, |file| fs::read_to_string(source.root.join(file)).ok());
    // The crate's sources are always the same, so an edit that does not fit them is our mistake.
    if let (Some(refusal), false) = (outcome.refused.first(), source.may_change) {
        return Err(refusal.clone());
    }
    for file in &files {
        match file.to_str().and_then(|name| outcome.texts.get(name)) {
            Some(text) => write_if_different(&root.join(file), text.as_bytes())?,
            None => {
                let content = fs::read(source.root.join(file)).map_err(|error| at(file, &error))?;
                write_if_different(&root.join(file), &content)?;
            }
        }
    }
    remove_others(&root, Path::new(""), &files)?;
    Ok(Copy { root, edits: outcome.made, refused: outcome.refused })
}

/// Where Cargo unpacked the crate.
///
/// When this crate came from a registry or a vendor folder, the other one lies next to it. In a workspace of its own
/// Cargo knows, and the strictest question does: all that the outer Cargo resolved is downloaded and locked. As a git
/// dependency this crate has a workspace around it that is not the one being built, and of which nothing need be
/// downloaded: then it is found in Cargo's home.
fn crate_root(settings: &Settings) -> Result<PathBuf, Problem> {
    let versioned = format!("{CRATE}-{CRATE_VERSION}");
    [settings.manifest_dir.with_file_name(&versioned), settings.manifest_dir.with_file_name(CRATE)]
        .into_iter()
        .find(|folder| is_the_crate(folder))
        .or_else(|| ask_cargo(settings, &["--offline", "--locked"]))
        .or_else(|| look_in_cargo_home(&versioned))
        .or_else(|| ask_cargo(settings, &[]))
        .ok_or_else(|| {
            format!(
                "Cargo does not say where the sources of {CRATE} {CRATE_VERSION} are; \
                 set SENDSTREAM_MSQUIC_SOURCE to a checkout of MsQuic"
            )
        })
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

fn ask_cargo(settings: &Settings, strictness: &[&str]) -> Option<PathBuf> {
    let output = Command::new(env::var_os("CARGO")?)
        .args(["metadata", "--format-version", "1", "--filter-platform", &settings.target])
        .args(strictness)
        .arg("--manifest-path")
        .arg(settings.manifest_dir.join("Cargo.toml"))
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let package = metadata["packages"]
        .as_array()?
        .iter()
        .find(|package| package["name"] == CRATE && package["version"] == CRATE_VERSION)?;
    Path::new(package["manifest_path"].as_str()?).parent().map(Path::to_path_buf)
}

/// The commit of the sources: Cargo's note in an unpacked crate, git's answer in a checkout.
fn commit(root: &Path) -> Option<String> {
    if let Ok(note) = fs::read(root.join(".cargo_vcs_info.json")) {
        let note: serde_json::Value = serde_json::from_slice(&note).ok()?;
        return Some(note["git"]["sha1"].as_str()?.to_owned());
    }
    // A folder that merely lies inside somebody's repository must not report that repository's commit.
    if !root.join(".git").exists() {
        return None;
    }
    let output = Command::new("git").arg("-C").arg(root).args(["rev-parse", "--verify", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(commit)
}

/// Adds every file at or below `root`/`part` to `files`, relative to `root`.
fn list_files(root: &Path, part: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), Problem> {
    let path = root.join(part);
    if !path.is_dir() {
        files.insert(part.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(&path).map_err(|error| at(&path, &error))? {
        let entry = entry.map_err(|error| at(&path, &error))?;
        list_files(root, &part.join(entry.file_name()), files)?;
    }
    Ok(())
}

fn write_if_different(path: &Path, content: &[u8]) -> Result<(), Problem> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
    }
    fs::write(path, content).map_err(|error| at(path, &error))
}

/// Removes what an earlier copy left in `root` and this one does not have.
fn remove_others(root: &Path, folder: &Path, files: &BTreeSet<PathBuf>) -> Result<(), Problem> {
    let path = root.join(folder);
    for entry in fs::read_dir(&path).map_err(|error| at(&path, &error))? {
        let entry = entry.map_err(|error| at(&path, &error))?;
        let name = folder.join(entry.file_name());
        if entry.path().is_dir() {
            remove_others(root, &name, files)?;
        } else if !files.contains(&name) {
            fs::remove_file(entry.path()).map_err(|error| at(&name, &error))?;
        }
    }
    Ok(())
}

fn at(path: &Path, error: &std::io::Error) -> Problem {
    format!("{}: {error}", path.display())
}
