//! Finds MsQuic's C sources and keeps an edited copy of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::crate_sources::{self, MSQUIC, PARTS, Unpacked};
use crate::patch::Patch;
use crate::place::Place;
use crate::settings::Settings;
use crate::{Problem, apply, key};

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
        None => {
            let Unpacked { root, version } = crate_sources::find(&MSQUIC, &settings.manifest_dir)
                .map_err(|problem| format!("{problem}, or set SENDSTREAM_MSQUIC_SOURCE to a checkout of MsQuic"))?;
            (root, format!("{} {version}", MSQUIC.name), false)
        }
    };
    if let Some(missing) = PARTS.iter().find(|part| !root.join(part).exists()) {
        return Err(format!("{} is not a copy of MsQuic's sources: it has no {missing}", root.display()));
    }
    let commit = commit(&root);
    Ok(Source { root, label, commit, may_change })
}

/// The copy that is built.
pub(crate) struct Copy<'a> {
    /// Its root folder.
    pub(crate) root: PathBuf,
    /// A number that stands for the content of all its files.
    pub(crate) content: u64,
    /// The edits that were made to it, in order.
    pub(crate) edits: Vec<&'a Patch>,
    /// One line for each edit that does not fit, which only a checkout may have.
    pub(crate) refused: Vec<String>,
}

/// Brings the copy in `place`, with the edits of `series` made that are wanted, up to date.
///
/// A file is written only when its content differs, so that CMake compiles again only what really
/// changed.
pub(crate) fn copy_with_edits<'a>(
    source: &Source,
    series: &'a [Patch],
    settings: &Settings,
    place: &Place,
) -> Result<Copy<'a>, Problem> {
    let root = place.folder.join("msquic-source");
    let mut files = crate_sources::files(&source.root)?;
    let outcome = apply::all(settings.wanted(series)?, |file| fs::read_to_string(source.root.join(file)).ok());
    // The crate's sources are always the same, so an edit that does not fit them is our mistake.
    if let (Some(refusal), false) = (outcome.refused.first(), source.may_change) {
        return Err(refusal.clone());
    }
    files.extend(outcome.texts.keys().map(PathBuf::from));
    let mut keys = Vec::with_capacity(files.len());
    for file in &files {
        let content = match file.to_str().and_then(|name| outcome.texts.get(name)) {
            Some(text) => text.as_bytes().into(),
            None => fs::read(source.root.join(file)).map_err(|error| at(file, &error))?,
        };
        write_if_different(&root.join(file), &content)?;
        keys.push(key::of(&(file, content)));
    }
    remove_others(&root, Path::new(""), &files)?;
    Ok(Copy { root, content: key::of(&keys), edits: outcome.made, refused: outcome.refused })
}

/// The commit of the sources: Cargo's note in an unpacked crate, git's answer in a checkout.
fn commit(root: &Path) -> Option<String> {
    if let Ok(note) = fs::read(root.join(".cargo_vcs_info.json")) {
        let note: serde_json::Value = serde_json::from_slice(&note).ok()?;
        return Some(note["git"]["sha1"].as_str()?.to_owned());
    }
    // A folder that merely lies inside somebody's repository must not report that repository's
    // commit.
    if !root.join(".git").exists() {
        return None;
    }
    let output = Command::new("git").arg("-C").arg(root).args(["rev-parse", "--verify", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(commit)
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
