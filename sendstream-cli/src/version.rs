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
    if args.json { print_json(&Versions::new(&native, args.verbose)) } else { print_line(&text(&native, args.verbose)) }
}

fn text(native: &NativeInfo, verbose: bool) -> String {
    let mut text = format!(
        "sendstream {}\nMsQuic     {} ({}, {} build, from {}, {} patches)\nTLS        {}",
        env!("CARGO_PKG_VERSION"),
        native.msquic_version,
        native.msquic_git_hash,
        native.profile,
        native.source,
        native.edits.len(),
        native.tls_library,
    );
    if !verbose {
        return text;
    }
    for label in ["fixes", "features", "speed"] {
        for (index, edit) in native.edits.iter().filter(|edit| group(edit.kind) == label).enumerate() {
            let label = if index == 0 { label } else { "" };
            text.push_str(&format!("\n{label:<10} {} ({})", edit.name, edit.kind));
        }
    }
    text
}

/// Where the text lists an edit.
fn group(kind: EditKind) -> &'static str {
    match kind {
        EditKind::Feature => "features",
        EditKind::Speed => "speed",
        // Kinds to come are listed here, rather than not at all.
        _ => "fixes",
    }
}

#[derive(Serialize)]
struct Versions<'a> {
    sendstream: &'static str,
    msquic: &'a str,
    msquic_git_hash: &'a str,
    msquic_profile: &'a str,
    msquic_source: &'a str,
    tls: &'a str,
    /// How many edits MsQuic has.
    patches: usize,
    /// Which ones, if that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    edits: Option<Vec<Edit<'a>>>,
}

#[derive(Serialize)]
struct Edit<'a> {
    name: &'a str,
    kind: String,
}

impl<'a> Versions<'a> {
    fn new(native: &'a NativeInfo, verbose: bool) -> Self {
        let edits = native.edits.iter().map(|edit| Edit { name: edit.name, kind: edit.kind.to_string() });
        Self {
            sendstream: env!("CARGO_PKG_VERSION"),
            msquic: &native.msquic_version,
            msquic_git_hash: &native.msquic_git_hash,
            msquic_profile: &native.profile,
            msquic_source: &native.source,
            tls: &native.tls_library,
            patches: native.edits.len(),
            edits: verbose.then(|| edits.collect()),
        }
    }
}
