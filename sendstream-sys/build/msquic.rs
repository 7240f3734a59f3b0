//! MsQuic's own build, through CMake, and what was built before.

use std::fs;
use std::path::{Path, PathBuf};

use crate::aws_lc::{self, AwsLc};
use crate::place::{self, Place};
use crate::settings::{Sanitizer, Settings};
use crate::source::{Copy, Source};
use crate::tools::Tools;
use crate::{Problem, key, rename};

/// The static library that holds MsQuic, and AWS-LC too.
pub(crate) const LIBRARY: &str = "libmsquic.a";

/// Returns the folder with a finished [`LIBRARY`], and builds it first if there is none.
pub(crate) fn build(
    settings: &Settings,
    tools: &Tools,
    source: &Source,
    copy: &Copy<'_>,
    place: &Place,
    aws_lc: &AwsLc<'_>,
    kernel_headers: Option<&Path>,
) -> Result<PathBuf, Problem> {
    let name = format!("{}{:016x}", prefix(settings), key(settings, tools, source, copy, &aws_lc.name));
    // What a developer changes every minute would fill a folder that nobody clears up.
    let keep_in = if source.may_change { &settings.out_dir } else { &settings.native_dir };
    let finished = keep_in.join(&name);
    if !finished.join(LIBRARY).exists() {
        let aws_lc = aws_lc.build(settings, place)?;
        let merged = compile(settings, tools, source, &copy.root, place, &aws_lc, kernel_headers).join(LIBRARY);
        let archives = aws_lc::LIBRARIES.map(|library| aws_lc.join("lib").join(library));
        let library = match settings.target_os == "linux" {
            true => rename::copy(&merged, &archives, &place.folder.join("renamed"))?,
            // No such tools come with the compiler there.
            false => merged,
        };
        place::keep(&[library], &finished, settings)?;
    }
    if *keep_in == settings.out_dir {
        remove_others(keep_in, &prefix(settings), &name);
    }
    Ok(finished)
}

/// Runs CMake, and returns the folder that [`LIBRARY`] is in.
///
/// Each profile has a build folder of its own, so that going back and forth between two of them
/// compiles nothing twice.
fn compile(
    settings: &Settings,
    tools: &Tools,
    source: &Source,
    copy: &Path,
    place: &Place,
    aws_lc: &Path,
    kernel_headers: Option<&Path>,
) -> PathBuf {
    let folder = folder(settings, tools, place, aws_lc);
    let library = folder.join("lib");
    let mut config = cmake::Config::new(copy);
    config
        .out_dir(&folder)
        .profile(&settings.profile.to_string())
        .define("QUIC_TLS_LIB", "openssl")
        .define("QUIC_OPENSSL_IS_AWS_LC", "on")
        .define("QUIC_OPENSSL_INCLUDE_DIR", aws_lc.join("include"))
        .define("QUIC_OPENSSL_LIB_DIR", aws_lc.join("lib"))
        .define("QUIC_BUILD_SHARED", "off")
        .define("QUIC_ENABLE_LOGGING", "off")
        .define("QUIC_LINUX_IOURING_ENABLED", "off")
        .define("QUIC_ENABLE_ASAN", on_if(settings.sanitizer == Some(Sanitizer::Address)))
        .define("QUIC_ENABLE_UBSAN", on_if(settings.sanitizer == Some(Sanitizer::Undefined)))
        .define("QUIC_OUTPUT_DIR", &library)
        // libnuma would set the affinity of our caller's threads. A value that ends in NOTFOUND
        // would make CMake search for it once more, and find it where it is installed.
        .define("NUMA:STRING", "off")
        // The copy is no repository. Without this git would answer with the commit of whatever
        // repository surrounds `OUT_DIR`; the right commit is given below.
        .env("GIT_DIR", settings.out_dir.join("no-repository"))
        // MsQuic makes every warning an error. What another compiler version has to say must not
        // stop the build.
        .cflag("-w")
        // Symbols are renamed in objects, not in what a linker is yet to compile.
        .cflag("-fno-lto")
        .build_target("msquic_lib");
    // Nothing here is C++.
    config.init_cxx_cfg(cc::Build::new().cargo_warnings(false).clone());
    // For `fuzz/targets/ranges.rs`.
    if settings.sanitizer == Some(Sanitizer::Address) {
        config.cflag("-DQUIC_COUNT_RANGE_WORK");
    }
    if let Some(commit) = &source.commit {
        config.cflag(format!("-DVER_GIT_HASH={commit}"));
    }
    if let Some(folder) = kernel_headers {
        config.cflag(format!("-idirafter \"{}\"", folder.display()));
    }
    if let Some(cpu) = &settings.cpu {
        config.cflag(format!("-march={cpu}"));
    }
    config.build();
    library
}

fn on_if(condition: bool) -> &'static str {
    if condition { "on" } else { "off" }
}

/// What the finished libraries of this profile begin with.
fn prefix(settings: &Settings) -> String {
    format!("msquic-{}{}-", settings.profile, sanitizer(settings))
}

fn sanitizer(settings: &Settings) -> &'static str {
    match settings.sanitizer {
        None => "",
        Some(Sanitizer::Address) => "-address",
        Some(Sanitizer::Undefined) => "-undefined",
    }
}

/// All that decides the content of the library, beside what its name says; AWS-LC's name stands for the
/// target, the variables and the build scripts as well. Paths are no part of it: what one target
/// directory has built, another may use.
fn key(settings: &Settings, tools: &Tools, source: &Source, copy: &Copy<'_>, aws_lc: &str) -> u64 {
    key::of(&(copy.content, &source.commit, aws_lc, &settings.cpu, &tools.compiler))
}

/// The CMake folder for this profile. CMake does not follow a change of compiler or of a library it
/// has found: those give the folder another name, and the one they make useless is removed.
fn folder(settings: &Settings, tools: &Tools, place: &Place, aws_lc: &Path) -> PathBuf {
    let prefix = format!("cmake-{}{}-", settings.profile, sanitizer(settings));
    let name = format!("{prefix}{:016x}", key::of(&(&tools.compiler, aws_lc, &settings.cpu)));
    remove_others(&place.folder, &prefix, &name);
    place.folder.join(name)
}

/// Removes the folders in `parent` whose names begin with `prefix` and a key, but for `name`.
fn remove_others(parent: &Path, prefix: &str, name: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let other = entry.file_name();
        let is_a_key = |rest: &str| rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if other.to_str().is_some_and(|other| other != name && other.strip_prefix(prefix).is_some_and(is_a_key)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
