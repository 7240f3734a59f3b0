//! What Cargo is told, and what the library can say about its own build.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::patch::Patch;
use crate::settings::{self, Sanitizer, Settings};
use crate::shared::Number;
use crate::source::{self, Copy, Source};
use crate::system::Installed;
use crate::{Problem, key, layout, msquic};

/// The variables of others that change the outcome. `cc` and `cmake` look at each with the target's
/// name added, too.
const VARIABLES: [&str; 10] = [
    "AR",
    "CC",
    "CFLAGS",
    "CMAKE",
    "CMAKE_GENERATOR",
    "CMAKE_PREFIX_PATH",
    "CMAKE_TOOLCHAIN_FILE",
    "CXX",
    "CXXFLAGS",
    "DOCS_RS",
];

/// Says what a change of must run the build again.
pub(crate) fn inputs(settings: &Settings, source: &Source) {
    variables(settings);
    if source.may_change {
        for part in source::parts(source) {
            println!("cargo:rerun-if-changed={}", part.display());
        }
    }
}

/// Says how to link the library.
pub(crate) fn link(settings: &Settings, source: &Source, copy: &Copy<'_>, library: &Path) -> Result<(), Problem> {
    // Where builds are kept, somebody may clear up.
    println!("cargo:rerun-if-changed={}", library.join(msquic::LIBRARY).display());
    println!("cargo:rustc-link-search=native={}", library.display());
    println!("cargo:rustc-link-search=native={}", settings.out_dir.display());
    println!("cargo:rustc-link-lib=static=msquic");
    println!("cargo:rustc-link-lib=static={}", layout::LIBRARY);
    // musl has all of them in its libc, which Rust links. A search would find the host's.
    if settings.target_env != "musl" {
        for system in ["pthread", "dl", "m"] {
            println!("cargo:rustc-link-lib={system}");
        }
    }
    if settings.sanitizer == Some(Sanitizer::Undefined) {
        println!("cargo:rustc-link-lib=ubsan");
    }
    for refusal in &copy.refused {
        println!("cargo:warning={refusal}");
    }
    about(settings, &settings.profile.to_string(), &source.label, &copy.edits)
}

/// Says how to link an installed library.
pub(crate) fn link_installed(settings: &Settings, installed: &Installed) -> Result<(), Problem> {
    variables(settings);
    println!("cargo:rerun-if-changed={}", installed.folder.join(&installed.file).display());
    println!("cargo:rustc-link-search=native={}", installed.folder.display());
    println!("cargo:rustc-link-lib=dylib:+verbatim={}", installed.file);
    println!("cargo:rustc-link-lib=dl");
    println!("cargo:rustc-cfg=sendstream_system_msquic");
    about(settings, "system", "installed library", &[])
}

/// Says what remains to be said where nothing is built.
pub(crate) fn without_native_build(settings: &Settings) -> Result<(), Problem> {
    variables(settings);
    about(settings, "none", "none", &[])
}

/// Writes the numbers that C and Rust share where the library includes them.
pub(crate) fn shared(settings: &Settings, numbers: &[Number]) -> Result<(), Problem> {
    let mut text = String::new();
    for Number { name, value } in numbers {
        let _ = writeln!(text, "pub(crate) const {name}: u32 = {value};");
    }
    write(&settings.out_dir.join("shared.rs"), &text)
}

fn about(settings: &Settings, profile: &str, source: &str, edits: &[&Patch]) -> Result<(), Problem> {
    println!("cargo:rustc-check-cfg=cfg(sendstream_system_msquic)");
    println!("cargo:rustc-env=SENDSTREAM_NATIVE_PROFILE={profile}");
    println!("cargo:rustc-env=SENDSTREAM_NATIVE_SOURCE={source}");
    // Names and kinds alone: what else the patches say would be in every program.
    let mut list = String::from("[\n");
    for patch in edits {
        let (name, kind) = (&patch.header.name, patch.header.kind);
        let _ = writeln!(list, "    EditInfo {{ name: {name:?}, kind: EditKind::{kind:?} }},");
    }
    list += "]\n";
    write(&settings.out_dir.join("edits.rs"), &list)
}

fn write(path: &Path, text: &str) -> Result<(), Problem> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn variables(settings: &Settings) {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=patches");
    println!("cargo:rerun-if-changed=src/bindings.h");
    println!("cargo:rerun-if-changed=src/bindings.rs");
    for variable in settings::VARIABLES {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    for variable in VARIABLES.into_iter().flat_map(|variable| key::forms(variable, &settings.target)) {
        println!("cargo:rerun-if-env-changed={variable}");
    }
}
