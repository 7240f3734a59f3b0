//! Memory to lend in tests.

use sendstream_sys as sys;

/// Describes `bytes` as MsQuic would in RECEIVE.
pub(crate) fn describe(bytes: &'static [u8]) -> sys::QUIC_BUFFER {
    let length = u32::try_from(bytes.len()).expect("tests lend little");
    sys::QUIC_BUFFER { Length: length, Buffer: bytes.as_ptr().cast_mut() }
}
