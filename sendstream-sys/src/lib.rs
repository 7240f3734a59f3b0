//! MsQuic's C ABI, and the native library behind it.
//!
//! The build script compiles MsQuic's C sources and OpenSSL 3.5 LTS and links both statically. This crate re-exports the
//! ABI's types and constants, declares its one entry point, [`MsQuicOpenVersion`], and says what was built:
//!
//! ```
//! for edit in sendstream_sys::edits() {
//!     println!("{} ({}): {}", edit.name, edit.file, edit.prevents);
//! }
//! println!("{}, {}", sendstream_sys::native_source(), sendstream_sys::native_profile());
//! # assert!(sendstream_sys::openssl_version().starts_with("OpenSSL 3.5."));
//! ```
//!
//! # Building
//!
//! CMake 3.20 or newer, make, a C compiler and a full Perl must be there; a C++ compiler need not. These environment
//! variables are read by the build:
//!
//! | variable                     | value                               | meaning                                   |
//! | ---------------------------- | ----------------------------------- | ----------------------------------------- |
//! | `SENDSTREAM_MSQUIC_PROFILE`  | `Release`, `Debug`, `RelWithDebInfo` | how MsQuic is compiled, whatever Cargo's profile; `Debug` turns its assertions on |
//! | `SENDSTREAM_MSQUIC_SANITIZE` | `address`                           | MsQuic's C code carries AddressSanitizer's checks; the Rust side must link its runtime (`-Zsanitizer=address`) |
//! | `SENDSTREAM_MSQUIC_SOURCE`   | a folder                            | a checkout of MsQuic to build in place of the crate's sources |
//! | `SENDSTREAM_MSQUIC_SPEED_EDITS` | `on`, `off`                      | whether the edits of [`EditKind::Speed`] are made; `on` if unset |
//! | `SENDSTREAM_NATIVE_DIR`      | a folder                            | where a finished OpenSSL is kept for other builds to use; `OUT_DIR` if unset |
//!
//! `CC`, `CFLAGS`, `CMAKE` and `PERL` mean what they usually do. With `DOCS_RS` set nothing native is built: enough to
//! type-check and to document, not to link.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::LazyLock;

pub use msquic::ffi::*;

#[path = "../build/edits.rs"]
#[expect(dead_code, reason = "the texts of the edits are for the build script, which shares the list")]
mod list;

unsafe extern "C" {
    /// Opens the API table of `version` and stores its address in `table`.
    ///
    /// # Safety
    ///
    /// `table` is valid for a write. The address that is stored stays valid until it is given to [`MsQuicClose`].
    ///
    /// No other thread is in this function, or in [`MsQuicClose`] for the last open table: linked statically, MsQuic sets
    /// itself up in the first call, and a second one does not wait for the first to finish. Open it once per program.
    pub fn MsQuicOpenVersion(version: u32, table: *mut *const c_void) -> QUIC_STATUS;

    /// Closes a table that [`MsQuicOpenVersion`] opened.
    ///
    /// # Safety
    ///
    /// `table` is open, no handle that was opened through it is, and it is not used again.
    pub fn MsQuicClose(table: *const c_void);

    fn OpenSSL_version(kind: c_int) -> *const c_char;

    fn OPENSSL_init_crypto(options: u64, settings: *const c_void) -> c_int;
}

/// A change that was made to MsQuic's sources before they were compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EditInfo {
    /// A short, stable name.
    pub name: &'static str,
    /// The file that was changed, relative to the root of MsQuic's sources.
    pub file: &'static str,
    /// What would go wrong, or be done for nothing, without it.
    pub prevents: &'static str,
    /// What it is for.
    pub kind: EditKind,
}

/// What an edit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EditKind {
    /// MsQuic would do something wrong without it, or not build.
    Fix,
    /// It only saves time. Left out with `SENDSTREAM_MSQUIC_SPEED_EDITS=off`.
    Speed,
}

/// The edits that the linked MsQuic was built with, in the order they were made.
pub fn edits() -> &'static [EditInfo] {
    &EDITS
}

/// What the linked OpenSSL says it is: its name, version and date of release.
pub fn openssl_version() -> &'static str {
    /// `OPENSSL_VERSION` of OpenSSL's `crypto.h`.
    const FULL: c_int = 0;
    // SAFETY: for every argument OpenSSL returns a string with a final zero that lives as long as the program.
    let version = unsafe { CStr::from_ptr(OpenSSL_version(FULL)) };
    version.to_str().unwrap_or("unknown")
}

/// Has OpenSSL not clean up when the process exits. Call it before anything else that uses OpenSSL; false if that failed.
///
/// Its handler would free what MsQuic's threads are still using at that moment.
pub fn keep_openssl_at_exit() -> bool {
    /// `OPENSSL_INIT_NO_ATEXIT` of OpenSSL's `crypto.h`.
    const NO_ATEXIT: u64 = 0x0008_0000;
    // SAFETY: null stands for the default settings.
    unsafe { OPENSSL_init_crypto(NO_ATEXIT, std::ptr::null()) == 1 }
}

/// How MsQuic was compiled: `Release`, `Debug` or `RelWithDebInfo`; `none` where it was not.
pub fn native_profile() -> &'static str {
    env!("SENDSTREAM_NATIVE_PROFILE")
}

/// What MsQuic was compiled from: the source crate and its version, or the name of the checkout's folder; `none` where
/// it was not.
pub fn native_source() -> &'static str {
    env!("SENDSTREAM_NATIVE_SOURCE")
}

static EDITS: LazyLock<Vec<EditInfo>> = LazyLock::new(|| {
    let made: Vec<_> = env!("SENDSTREAM_NATIVE_EDITS").split(',').collect();
    let of_kind = |kind, edits: &'static [list::Edit]| {
        edits.iter().map(move |&list::Edit { name, file, prevents, .. }| EditInfo { name, file, prevents, kind })
    };
    of_kind(EditKind::Fix, list::FIXES)
        .chain(of_kind(EditKind::Speed, list::SPEED_EDITS))
        .filter(|edit| made.contains(&edit.name))
        .collect()
});
