//! Private keys under a passphrase: PKCS#8's EncryptedPrivateKeyInfo (RFC 5208 §6) in PEM.

use std::str;

use pkcs8::{EncryptedPrivateKeyInfoRef, Error, SecretDocument, pkcs5};

use super::error::IdentityError;

/// Finds the encrypted key in `pem` and decrypts it. What comes out is a PKCS#8 key, in memory that
/// is zeroed when dropped.
pub(super) fn decrypt(pem: &[u8], passphrase: &[u8]) -> Result<SecretDocument, IdentityError> {
    let Some(section) = section(pem) else {
        // It may be encrypted all the same, in the form that came before PKCS#8.
        let older = is_marked(pem);
        return Err(if older { IdentityError::UnsupportedEncryption } else { IdentityError::NoPrivateKey });
    };
    let (_, document) =
        SecretDocument::from_pem(section).map_err(|error| IdentityError::Pem { reason: error.to_string() })?;
    let encrypted =
        EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| IdentityError::UnsupportedEncryption)?;
    encrypted.decrypt(passphrase).map_err(|error| match error {
        // A wrong key mostly shows in the padding, and otherwise in what comes out.
        Error::EncryptedPrivateKey(pkcs5::Error::DecryptFailed) | Error::Asn1(_) => IdentityError::WrongPassphrase,
        _ => IdentityError::UnsupportedEncryption,
    })
}

/// Whether anything in `pem` says that it is encrypted. PKCS#8 names the encryption in the
/// section's label, the older forms in a header inside it.
pub(super) fn is_marked(pem: &[u8]) -> bool {
    find(pem, ENCRYPTED).is_some()
}

/// The first section with such a key, among whatever else there is.
fn section(pem: &[u8]) -> Option<&str> {
    let rest = &pem[find(pem, BEGIN)?..];
    let end = find(rest, END)? + END.len();
    str::from_utf8(&rest[..end]).ok()
}

/// Where `wanted` begins.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

const BEGIN: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &[u8] = b"-----END ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED: &[u8] = b"ENCRYPTED";
