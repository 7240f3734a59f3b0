//! The series of patches, as it lies in `patches`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::patch::Patch;

/// The list of the patches, in the order in which they are made.
pub(crate) const SERIES: &str = "series";

/// Where the series lies, below the root of this crate.
pub(crate) fn folder(crate_root: &Path) -> PathBuf {
    crate_root.join("patches")
}

/// Reads the series in `folder`, or says in one line what is wrong with it.
pub(crate) fn load(folder: &Path) -> Result<Vec<Patch>, String> {
    let mut patches: Vec<Patch> = Vec::new();
    for file in read(&folder.join(SERIES))?.lines() {
        let wrong = |why: String| format!("the patch {file} is refused: {why}");
        let patch = Patch::parse(&read(&folder.join(file))?).map_err(wrong)?;
        if file != path(&patch) {
            return Err(wrong(format!("by its name and kind it belongs in {}", path(&patch))));
        }
        for need in &patch.header.needs {
            if !patches.iter().any(|other| other.header.name == *need) {
                return Err(wrong(format!("it needs {need:?}, which is not before it in the series")));
            }
        }
        if patches.iter().any(|other| other.header.name == patch.header.name) {
            return Err(wrong("the series has another of this name".into()));
        }
        patches.push(patch);
    }
    Ok(patches)
}

/// The file of a patch, below the series' folder.
pub(crate) fn path(patch: &Patch) -> String {
    format!("{}/{}.patch", patch.header.kind.folder(), patch.header.name)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
