//! What native code runs in this process, as it reports itself.

use sendstream_sys as sys;

use crate::{
    native::{api::Api, library},
    types::error::NativeError,
};

/// What native code runs in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NativeInfo {
    /// MsQuic's version, as the loaded library reports it: `2.6.0.0`.
    pub msquic_version: String,
    /// The commit that MsQuic was built from, as the loaded library reports it.
    pub msquic_git_hash: String,
    /// Where the sources came from.
    pub source: String,
    /// OpenSSL's version, as the loaded library reports it.
    pub openssl_version: String,
    /// How MsQuic was built: `Release`, `Debug`, ...
    pub profile: String,
    /// What was changed in MsQuic's sources, in the order of application, and what for.
    pub edits: &'static [sys::EditInfo],
}

/// Asks the loaded native libraries what they are (`QUIC_PARAM_GLOBAL_LIBRARY_VERSION`, `..._GIT_HASH`,
/// `OpenSSL_version`).
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
        openssl_version: sys::openssl_version().to_owned(),
        profile: sys::native_profile().to_owned(),
        edits: sys::edits(),
    })
}
