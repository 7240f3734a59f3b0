//! MsQuic's C ABI, and the native library behind it.
pub use msquic::ffi::*;
unsafe extern "C" {
    /// Opens the API table of `version` and stores its address in `table`.
    pub fn MsQuicOpenVersion(version: u32, table: *mut *const std::ffi::c_void) -> QUIC_STATUS;
}
