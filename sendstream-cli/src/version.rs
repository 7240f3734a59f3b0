//! `sendstream version`: what is linked in here, as the linked libraries say it themselves.

use sendstream::{EditKind, NativeInfo};
use serde::Serialize;

use crate::{
    cli::VersionArgs,
    error::Failure,
    summary::{print_json, print_line},
};

/// Prints the versions.
pub(crate) fn run(args: VersionArgs) -> Result<(), Failure> {
    let native = sendstream::native_info()
        .map_err(|error| Failure::new(format!("cannot ask MsQuic for its version: {error}")))?;
    if args.json { print_json(&Versions::new(&native)) } else { print_line(&text(&native)) }
}

fn text(native: &NativeInfo) -> String {
    let mut text = format!(
        "sendstream {}\nMsQuic     {} ({}, {} build, from {})\nOpenSSL    {}",
        env!("CARGO_PKG_VERSION"),
        native.msquic_version,
        native.msquic_git_hash,
        native.profile,
        native.source,
        native.openssl_version,
    );
    for (label, kind) in [("fixes", EditKind::Fix), ("speed", EditKind::Speed)] {
        for (index, edit) in native.edits.iter().filter(|edit| edit.kind == kind).enumerate() {
            let label = if index == 0 { label } else { "" };
            text.push_str(&format!("\n{label:<10} {}: {}", edit.name, edit.prevents));
        }
    }
    text
}

#[derive(Serialize)]
struct Versions<'a> {
    sendstream: &'static str,
    msquic: &'a str,
    msquic_git_hash: &'a str,
    msquic_profile: &'a str,
    msquic_source: &'a str,
    openssl: &'a str,
    edits: Vec<Edit<'a>>,
}

#[derive(Serialize)]
struct Edit<'a> {
    name: &'a str,
    files: Vec<&'a str>,
    prevents: &'a str,
    kind: &'a str,
}

impl<'a> Versions<'a> {
    fn new(native: &'a NativeInfo) -> Self {
        Self {
            sendstream: env!("CARGO_PKG_VERSION"),
            msquic: &native.msquic_version,
            msquic_git_hash: &native.msquic_git_hash,
            msquic_profile: &native.profile,
            msquic_source: &native.source,
            openssl: &native.openssl_version,
            edits: native
                .edits
                .iter()
                .map(|edit| Edit {
                    name: edit.name,
                    files: edit.files().collect(),
                    prevents: edit.prevents,
                    kind: if edit.kind == EditKind::Speed { "speed" } else { "fix" },
                })
                .collect(),
        }
    }
}
