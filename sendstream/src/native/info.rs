//! What native code runs in this process, as it reports itself.

use std::sync::LazyLock;

use sendstream_sys as sys;

use crate::{
    native::{api::Api, library},
    types::{
        error::NativeError,
        native_info::{EditInfo, EditKind, NativeInfo},
    },
};

/// Asks the loaded native libraries what they are (`QUIC_PARAM_GLOBAL_LIBRARY_VERSION`,
/// `..._GIT_HASH`, `awslc_version_string`).
///
/// # Errors
///
/// MsQuic's status, should the library not start.
pub fn native_info() -> Result<NativeInfo, NativeError> {
    Api::get()?;
    let mut version = [0u32; 4];
    library::get(sys::QUIC_PARAM_GLOBAL_LIBRARY_VERSION, &mut version)?;
    let mut hash = [0u8; 128];
    let length = library::get(sys::QUIC_PARAM_GLOBAL_LIBRARY_GIT_HASH, &mut hash)?;
    let hash = hash[..length].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(NativeInfo {
        msquic_version: version.map(|number| number.to_string()).join("."),
        msquic_git_hash: String::from_utf8_lossy(hash).into_owned(),
        source: sys::native_source().to_owned(),
        tls_library: sys::tls_library().to_owned(),
        profile: sys::native_profile().to_owned(),
        edits: &EDITS,
    })
}

/// The library's own value for an edit, so that its API has no type of `sendstream-sys`.
fn edit_info(edit: &sys::EditInfo) -> EditInfo {
    let kind = match edit.kind {
        sys::EditKind::Security => EditKind::Security,
        sys::EditKind::Correctness => EditKind::Correctness,
        sys::EditKind::Build => EditKind::Build,
        sys::EditKind::Feature => EditKind::Feature,
        sys::EditKind::Speed => EditKind::Speed,
    };
    EditInfo { name: edit.name, kind }
}

/// Made once, since it never changes.
static EDITS: LazyLock<Vec<EditInfo>> = LazyLock::new(|| sys::edits().iter().map(edit_info).collect());
