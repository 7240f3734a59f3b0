//! SHA-256 hashes by which certificates and public keys are recognised.

use std::{fmt, str::FromStr};

use ring::digest;
use rustls_pki_types::CertificateDer;

use super::public_key::PublicKey;

/// A hash of SHA-256 with its text form, and the error for what is no such text.
macro_rules! sha256_hash {
    ($(#[$doc:meta])* $hash:ident, $(#[$error_doc:meta])* $error:ident) => {
        $(#[$doc])*
        ///
        /// It is written as 64 lowercase hexadecimal digits. Reading also takes capitals and colons
        /// between the bytes, as `openssl x509 -fingerprint -sha256` prints them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $hash([u8; 32]);

        $(#[$error_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error("a SHA-256 hash is 64 hexadecimal digits")]
        pub struct $error;

        impl From<$error> for std::io::Error {
            fn from(error: $error) -> Self {
                Self::new(std::io::ErrorKind::InvalidInput, error)
            }
        }

        impl From<[u8; 32]> for $hash {
            fn from(hash: [u8; 32]) -> Self {
                Self(hash)
            }
        }

        impl AsRef<[u8]> for $hash {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl FromStr for $hash {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text).map(Self).ok_or($error)
            }
        }

        impl fmt::Display for $hash {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $hash {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($hash), "({})"), self)
            }
        }
    };
}

sha256_hash! {
    /// The SHA-256 hash of a certificate's DER, by which it can be recognised.
    CertificateHash,
    /// The text is not a [`CertificateHash`].
    ParseCertificateHashError
}

sha256_hash! {
    /// The SHA-256 hash of a public key: of the DER of its SubjectPublicKeyInfo (RFC 5280
    /// §4.1.2.7), algorithm included, as RFC 7469 §2.4 has it. It stays when a certificate is
    /// renewed with the same key.
    ///
    /// `openssl x509 -in CERTIFICATE -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum`
    /// prints it.
    PublicKeyHash,
    /// The text is not a [`PublicKeyHash`].
    ParsePublicKeyHashError
}

impl CertificateHash {
    /// The hash of a certificate in DER.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(sha256(certificate))
    }
}

impl PublicKeyHash {
    /// The hash of the public key in a certificate in DER; `None` if that is not an X.509
    /// certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        PublicKey::of_certificate(certificate).map(|key| Self(sha256(key.info)))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let pair_length = if text.contains(':') { 3 } else { 2 };
    let mut hash = [0; 32];
    if text.len() != hash.len() * pair_length - (pair_length - 2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(pair_length)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        if pair.get(2).is_some_and(|&separator| separator != b':') {
            return None;
        }
    }
    Some(hash)
}
