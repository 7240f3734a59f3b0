//! What Cargo is told, and what the library can say about its own build.

use std::path::Path;

use crate::settings::{self, Sanitizer, Settings};
use crate::source::{self, Copy, Source};
use crate::system::Installed;

/// The variables of others that change the outcome. `cc` and `cmake` look at each with the target's name added, too.
const VARIABLES: [&str; 10] = [
    "AR",
    "CC",
    "CFLAGS",
    "CMAKE",
    "CMAKE_GENERATOR",
    "CMAKE_PREFIX_PATH",
    "CMAKE_TOOLCHAIN_FILE",
    "DOCS_RS",
    "OPENSSL_SRC_PERL",
    "PERL",
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
pub(crate) fn link(settings: &Settings, source: &Source, copy: &Copy, library: &Path) {
    println!("cargo:rustc-link-search=native={}", library.display());
    println!("cargo:rustc-link-lib=static=msquic");
    for system in ["pthread", "dl", "m"] {
        println!("cargo:rustc-link-lib={system}");
    }
    if settings.sanitizer == Some(Sanitizer::Undefined) {
        println!("cargo:rustc-link-lib=ubsan");
    }
    for refusal in &copy.refused {
        println!("cargo:warning={refusal}");
    }
    let edits: Vec<_> = copy.edits.iter().map(|edit| edit.name).collect();
    about(&settings.profile.to_string(), &source.label, &edits.join(","));
}

/// Says how to link an installed library.
pub(crate) fn link_installed(settings: &Settings, installed: &Installed) {
    variables(settings);
    println!("cargo:rerun-if-changed={}", installed.folder.join(&installed.file).display());
    println!("cargo:rustc-link-search=native={}", installed.folder.display());
    println!("cargo:rustc-link-lib=dylib:+verbatim={}", installed.file);
    println!("cargo:rustc-link-lib=dl");
    println!("cargo:rustc-cfg=sendstream_system_msquic");
    about("system", "installed library", "");
}

/// Says what remains to be said where nothing is built.
pub(crate) fn without_native_build(settings: &Settings) {
    variables(settings);
    about("none", "none", "");
}

fn about(profile: &str, source: &str, edits: &str) {
    println!("cargo:rustc-check-cfg=cfg(sendstream_system_msquic)");
    println!("cargo:rustc-env=SENDSTREAM_NATIVE_PROFILE={profile}");
    println!("cargo:rustc-env=SENDSTREAM_NATIVE_SOURCE={source}");
    println!("cargo:rustc-env=SENDSTREAM_NATIVE_EDITS={edits}");
}

fn variables(settings: &Settings) {
    println!("cargo:rerun-if-changed=build");
    for variable in settings::VARIABLES {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    for variable in VARIABLES {
        println!("cargo:rerun-if-env-changed={variable}");
        for target in [settings.target.clone(), settings.target.replace('-', "_")] {
            println!("cargo:rerun-if-env-changed={variable}_{target}");
        }
    }
}
