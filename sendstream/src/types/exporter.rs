//! Keying material for the application's own use, derived from the handshake.

use std::{fmt, io};

use ring::{digest, hkdf};
use zeroize::Zeroizing;

/// The exporter secret of a connection (RFC 8446 §7.5). Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Exporter {
    secret: Zeroizing<Vec<u8>>,
}

impl Exporter {
    /// A connection's, whose length is that of the hash of its cipher suite. `None` if that is none
    /// of TLS 1.3.
    pub(crate) fn new(secret: Zeroizing<Vec<u8>>) -> Option<Self> {
        let exporter = Self { secret };
        exporter.hash().map(|_| exporter)
    }

    fn hash(&self) -> Option<(hkdf::Algorithm, &'static digest::Algorithm)> {
        match self.secret.len() {
            digest::SHA256_OUTPUT_LEN => Some((hkdf::HKDF_SHA256, &digest::SHA256)),
            digest::SHA384_OUTPUT_LEN => Some((hkdf::HKDF_SHA384, &digest::SHA384)),
            _ => None,
        }
    }

    /// `TLS-Exporter(label, context, output.len())`.
    ///
    /// # Errors
    ///
    /// [`ExportError::TooLong`].
    pub(crate) fn export(&self, output: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), ExportError> {
        let (algorithm, hash) = self.hash().ok_or(ExportError::Unavailable)?;
        let of_label = {
            let mut derived = Zeroizing::new(vec![0; self.secret.len()]);
            let secret = hkdf::Prk::new_less_safe(algorithm, &self.secret);
            expand_label(&secret, label, digest::digest(hash, b"").as_ref(), &mut derived)?;
            hkdf::Prk::new_less_safe(algorithm, &derived)
        };
        expand_label(&of_label, b"exporter", digest::digest(hash, context).as_ref(), output)
    }
}

/// HKDF-Expand-Label (RFC 8446 §7.1).
fn expand_label(secret: &hkdf::Prk, label: &[u8], context: &[u8], output: &mut [u8]) -> Result<(), ExportError> {
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(output.len()).map_err(|_| ExportError::TooLong)?.to_be_bytes();
    let label_length = u8::try_from(PREFIX.len() + label.len()).map_err(|_| ExportError::TooLong)?;
    let context_length = u8::try_from(context.len()).map_err(|_| ExportError::TooLong)?;
    let info = [&length[..], &[label_length], PREFIX, label, &[context_length], context];
    let material = secret.expand(&info, Length(output.len())).map_err(|_| ExportError::TooLong)?;
    material.fill(output).map_err(|_| ExportError::TooLong)
}

/// As ring wants a length.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

/// Why no keying material was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The label has more than 249 bytes, or more is wanted than 255 times what the hash of the
    /// [cipher suite](crate::HandshakeInfo::cipher_suite) has: the caller's doing.
    #[error("too long: give a label of at most 249 bytes, and ask for at most 8160")]
    TooLong,
    /// The linked MsQuic is an installed one, which does not tell the secret.
    #[error("this MsQuic does not tell the exporter's secret; use the one that is built along")]
    Unavailable,
}

impl From<ExportError> for io::Error {
    fn from(error: ExportError) -> Self {
        let kind = match error {
            ExportError::TooLong => io::ErrorKind::InvalidInput,
            ExportError::Unavailable => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hashes_of_tls_have_an_exporter() {
        for length in 0..100 {
            let exporter = Exporter::new(vec![7; length].into());
            assert_eq!(exporter.is_some(), [32, 48].contains(&length));
        }
    }

    #[test]
    fn label_context_and_length_each_change_everything() {
        let exporter = Exporter::new(vec![7; 32].into()).unwrap();
        let export = |label: &[u8], context: &[u8], length| {
            let mut output = vec![0; length];
            exporter.export(&mut output, label, context).map(|()| output)
        };
        let first = export(b"one", b"", 32).unwrap();
        assert_eq!(export(b"one", b"", 32).unwrap(), first);
        assert_ne!(export(b"two", b"", 32).unwrap(), first);
        assert_ne!(export(b"one", b"x", 32).unwrap(), first);
        assert_ne!(export(b"one", b"", 33).unwrap()[..32], first);
        assert_eq!(export(b"one", b"", 0), Ok(Vec::new()));
        assert!(export(&[b'l'; 249], b"", 255 * 32).is_ok());
        assert_eq!(export(&[b'l'; 250], b"", 32), Err(ExportError::TooLong));
        assert_eq!(export(b"one", b"", 255 * 32 + 1), Err(ExportError::TooLong));
        assert_eq!(export(b"one", b"", 1 << 16), Err(ExportError::TooLong));
    }
}
