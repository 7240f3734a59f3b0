//! What PEM (RFC 7468) holds, and what is not PEM, to tell what a user has mixed up.

use super::der::{Reader, SEQUENCE};

/// Which sections there are.
pub(super) struct Contents {
    pub(super) certificate: bool,
    /// A private key, encrypted or not.
    pub(super) key: bool,
}

impl Contents {
    pub(super) fn of(pem: &[u8]) -> Self {
        let mut contents = Self { certificate: false, key: false };
        for line in pem.split(|byte| *byte == b'\n') {
            let Some(rest) = line.strip_prefix(b"-----BEGIN ") else { continue };
            let label = rest.trim_ascii_end().strip_suffix(b"-----").unwrap_or_default();
            contents.certificate |= label == b"CERTIFICATE";
            contents.key |= label.ends_with(b"PRIVATE KEY");
        }
        contents
    }
}

/// Whether this is one element of DER, as files with certificates and keys are.
pub(super) fn is_der(contents: &[u8]) -> bool {
    Reader::only(contents, SEQUENCE).is_some()
}
