//! Builds OpenSSL once, and finds it again.

use std::fs;
use std::path::PathBuf;

use crate::settings::Settings;
use crate::tools::Tools;
use crate::{Problem, key};

/// Returns the folder of a finished OpenSSL (`include`, `lib`) and builds it first if there is
/// none.
///
/// A finished build carries a key of all that decides its content in its name, and is moved to that
/// name only when complete: an interrupted build is never taken for a finished one, and builds that
/// run side by side at worst do the work twice.
pub(crate) fn build(settings: &Settings, tools: &Tools) -> Result<PathBuf, Problem> {
    let finished = settings.native_dir.join(name(settings, tools));
    if is_complete(&finished) {
        return Ok(finished.join("install"));
    }
    // Named after `OUT_DIR`, which Cargo lets one build at a time use.
    let unfinished = settings.native_dir.join(format!("unfinished-openssl-{:016x}", key::of(&settings.out_dir)));
    openssl_src::Build::new()
        .out_dir(&unfinished)
        .try_build()
        .map_err(|error| format!("OpenSSL does not build: {}", one_line(&error)))?;
    if let Err(error) = fs::rename(&unfinished, &finished) {
        // Another build was faster; its result is as good as this one.
        if !is_complete(&finished) {
            return Err(format!("{}: {error}", finished.display()));
        }
        let _ = fs::remove_dir_all(&unfinished);
    }
    Ok(finished.join("install"))
}

/// A folder name from all that decides the content: version, target, compiler and its flags.
fn name(settings: &Settings, tools: &Tools) -> String {
    let flags = cc::Build::new().cargo_metadata(false).opt_level(2).warnings(false).get_compiler().args().to_vec();
    let version = openssl_src::version();
    let key = key::of(&(version, &settings.target, &tools.compiler, flags));
    format!("openssl-{}-{key:016x}", version.replace('+', "-"))
}

fn is_complete(folder: &std::path::Path) -> bool {
    folder.join("install").join("lib").join("libssl.a").exists()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
