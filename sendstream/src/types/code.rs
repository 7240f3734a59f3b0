//! Application error codes, and which of them QUIC can carry; the names of the transport's and of
//! TLS's.

use std::{fmt, io};

/// An application error code of more than 62 bits, which QUIC cannot carry (RFC 9000 §16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("error code {0:#x} has more than the 62 bits that QUIC carries")]
pub struct CodeOutOfRange(pub u64);

impl From<CodeOutOfRange> for io::Error {
    fn from(error: CodeOutOfRange) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Checks that `code` fits QUIC's variable-length integers.
pub(crate) fn check_code(code: u64) -> Result<(), CodeOutOfRange> {
    if code <= MAX_CODE { Ok(()) } else { Err(CodeOutOfRange(code)) }
}

/// The greatest of the 62-bit numbers that QUIC's variable-length integers hold (RFC 9000 §16).
const MAX_CODE: u64 = (1 << 62) - 1;

/// An error code of the transport with its name (RFC 9000 §20.1, RFC 9368 §7).
pub(crate) struct TransportCode(pub(crate) u64);

impl fmt::Display for TransportCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0x0 => "NO_ERROR",
            0x1 => "INTERNAL_ERROR",
            0x2 => "CONNECTION_REFUSED",
            0x3 => "FLOW_CONTROL_ERROR",
            0x4 => "STREAM_LIMIT_ERROR",
            0x5 => "STREAM_STATE_ERROR",
            0x6 => "FINAL_SIZE_ERROR",
            0x7 => "FRAME_ENCODING_ERROR",
            0x8 => "TRANSPORT_PARAMETER_ERROR",
            0x9 => "CONNECTION_ID_LIMIT_ERROR",
            0xa => "PROTOCOL_VIOLATION",
            0xb => "INVALID_TOKEN",
            0xc => "APPLICATION_ERROR",
            0xd => "CRYPTO_BUFFER_EXCEEDED",
            0xe => "KEY_UPDATE_ERROR",
            0xf => "AEAD_LIMIT_REACHED",
            0x10 => "NO_VIABLE_PATH",
            0x11 => "VERSION_NEGOTIATION_ERROR",
            code => return write!(f, "code {code:#x}"),
        };
        write!(f, "{name} ({:#x})", self.0)
    }
}

/// An alert of TLS with its name (RFC 8446 §6).
pub(crate) struct Alert(pub(crate) u8);

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            alert => return write!(f, "{alert}"),
        };
        write!(f, "{name} ({})", self.0)
    }
}
