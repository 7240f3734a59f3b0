//! From the series to a git repository.

use std::fs;
use std::path::Path;

use crate::Problem;
use crate::apply::Outcome;
use crate::crate_sources::{self, MSQUIC, Unpacked};
use crate::git::Git;
use crate::patch::Patch;

/// The tag of the commit before the first patch.
pub(crate) const BASE: &str = "msquic";

/// Unpacks the sources in `source` into `folder`, and commits one patch after the other.
pub(crate) fn make(series: &[Patch], source: &Unpacked, folder: &Path) -> Result<(), Problem> {
    if folder.exists() {
        return Err(format!(
            "{} is there already: keep its commits with make msquic-patches, then remove it",
            folder.display()
        ));
    }
    for file in crate_sources::files(&source.root)? {
        write(&folder.join(&file), &fs::read(source.root.join(&file)).map_err(|error| at(&file, &error))?)?;
    }
    let git = Git(folder);
    git.run(&["init", "--quiet"])?;
    // Headings of hunks are functions then, and no labels.
    write(&folder.join(".git/info/attributes"), b"*.c diff=cpp\n*.h diff=cpp\n")?;
    commit(git, &format!("MsQuic as it is in {} {}", MSQUIC.name, source.version))?;
    git.run(&["tag", BASE])?;

    let mut outcome = Outcome::default();
    for patch in series {
        outcome.make(patch, |file| fs::read_to_string(folder.join(file)).ok());
        if let Some(refusal) = outcome.refused.first() {
            return Err(refusal.clone());
        }
        for file in &patch.files {
            write(&folder.join(&file.path), outcome.texts[file.path.as_str()].as_bytes())?;
        }
        commit(git, &patch.message)?;
    }
    println!("{}: {} commits on {BASE}", folder.display(), series.len());
    Ok(())
}

fn commit(git: Git<'_>, message: &str) -> Result<(), Problem> {
    git.run(&["add", "--all", "--force"])?;
    git.run(&["commit", "--quiet", "--cleanup=verbatim", "--message", &format!("{message}\n")]).map(drop)
}

fn write(path: &Path, content: &[u8]) -> Result<(), Problem> {
    let folder = path.parent().expect("it is in a folder");
    fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
    fs::write(path, content).map_err(|error| at(path, &error))
}

fn at(path: &Path, error: &std::io::Error) -> Problem {
    format!("{}: {error}", path.display())
}
