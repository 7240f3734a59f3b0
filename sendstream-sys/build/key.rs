//! Names for what was built, so that it is found again when nothing that matters has changed.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs;
use std::hash::{Hash, Hasher};

use crate::Problem;
use crate::settings::Settings;

/// The variables of others that decide what C becomes.
const VARIABLES: [&str; 8] =
    ["AR", "CC", "CFLAGS", "CMAKE_GENERATOR", "CMAKE_PREFIX_PATH", "CMAKE_TOOLCHAIN_FILE", "CXX", "CXXFLAGS"];

/// A number that stands for `value`: the same for equal values, with this compiler.
pub(crate) fn of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A number that stands for all that decides the content of what is built, whatever is built: these
/// build scripts, the target, and the variables that `cc` and `cmake` look at.
pub(crate) fn of_build(settings: &Settings) -> Result<u64, Problem> {
    let folder = settings.manifest_dir.join("build");
    let at = |error| format!("{}: {error}", folder.display());
    let mut scripts = Vec::new();
    for entry in fs::read_dir(&folder).map_err(at)? {
        let path = entry.map_err(at)?.path();
        scripts.push((path.file_name().map(ToOwned::to_owned), fs::read(&path).map_err(at)?));
    }
    scripts.sort();
    let variables = VARIABLES.into_iter().flat_map(|variable| forms(variable, &settings.target)).map(env::var_os);
    Ok(of(&(scripts, &settings.target, variables.collect::<Vec<_>>())))
}

/// The names under which `cc` and `cmake` look for a variable.
pub(crate) fn forms(variable: &str, target: &str) -> [String; 5] {
    [
        variable.to_owned(),
        format!("{variable}_{target}"),
        format!("{variable}_{}", target.replace('-', "_")),
        format!("TARGET_{variable}"),
        format!("HOST_{variable}"),
    ]
}
