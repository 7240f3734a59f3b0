//! Application error codes, and which of them QUIC can carry.

/// An application error code of more than 62 bits, which QUIC cannot carry (RFC 9000 §16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("error code {0:#x} has more than the 62 bits that QUIC carries")]
pub struct CodeOutOfRange(pub u64);

/// Checks that `code` fits QUIC's variable-length integers.
pub(crate) fn check_code(code: u64) -> Result<(), CodeOutOfRange> {
    if code <= MAX_CODE { Ok(()) } else { Err(CodeOutOfRange(code)) }
}

/// The greatest of the 62-bit numbers that QUIC's variable-length integers hold (RFC 9000 §16).
const MAX_CODE: u64 = (1 << 62) - 1;
