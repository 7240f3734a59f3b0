//! MsQuic's own build, through CMake.

use std::fs;
use std::path::{Path, PathBuf};

use crate::key;
use crate::settings::{Sanitizer, Settings};
use crate::source::Source;
use crate::tools::Tools;

/// Builds `libmsquic.a`, which holds OpenSSL too, and returns the folder it is in.
///
/// Each profile has a build folder of its own, so that going back and forth between two of them
/// compiles nothing twice.
pub(crate) fn build(
    settings: &Settings,
    tools: &Tools,
    source: &Source,
    copy: &Path,
    openssl: &Path,
    kernel_headers: Option<&Path>,
) -> PathBuf {
    let folder = folder(settings, tools, openssl);
    let library = folder.join("lib");
    let mut config = cmake::Config::new(copy);
    config
        .out_dir(&folder)
        .profile(&settings.profile.to_string())
        .define("QUIC_TLS_LIB", "openssl")
        .define("QUIC_USE_EXTERNAL_OPENSSL", "on")
        .define("QUIC_OPENSSL_ROOT_DIR", openssl)
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
        .build_target("msquic_lib");
    // Nothing here is C++, so that there may be no compiler for it is no news.
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

/// The build folder for this profile. CMake does not follow a change of compiler or of a library it
/// has found: those give the folder another name, and the one they make useless is removed.
fn folder(settings: &Settings, tools: &Tools, openssl: &Path) -> PathBuf {
    let sanitizer = match settings.sanitizer {
        None => "",
        Some(Sanitizer::Address) => "-address",
        Some(Sanitizer::Undefined) => "-undefined",
    };
    let kind = format!("msquic-{}{sanitizer}-key", settings.profile);
    let name = format!("{kind}{:016x}", key::of(&(&tools.compiler, openssl, &settings.cpu)));
    for entry in fs::read_dir(&settings.out_dir).into_iter().flatten().flatten() {
        let other = entry.file_name();
        if other.to_string_lossy().starts_with(&kind) && other.to_string_lossy() != name {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    settings.out_dir.join(name)
}
