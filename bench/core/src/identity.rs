//! The server's certificate: self-signed, new for each run, in each form that a stack may want.

use std::path::PathBuf;

use anyhow::Result;
use tempfile::TempDir;

use crate::limits;

/// A certificate and its key.
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// The same as DER.
    pub certificate_der: Vec<u8>,
    /// The key, PKCS #8.
    pub key_pem: String,
    /// The same as DER.
    pub key_der: Vec<u8>,
    files: TempDir,
}

impl Identity {
    /// Makes one, an ECDSA key on P-256, and writes it to two files that go with the value.
    pub fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([limits::HOST.to_owned()])?;
        let identity = Self {
            certificate_pem: made.cert.pem(),
            certificate_der: made.cert.der().to_vec(),
            key_pem: made.signing_key.serialize_pem(),
            key_der: made.signing_key.serialize_der(),
            files: tempfile::tempdir()?,
        };
        std::fs::write(identity.certificate_file(), &identity.certificate_pem)?;
        std::fs::write(identity.key_file(), &identity.key_pem)?;
        Ok(identity)
    }

    /// The certificate as a PEM file.
    pub fn certificate_file(&self) -> PathBuf {
        self.files.path().join("certificate.pem")
    }

    /// The key as a PEM file.
    pub fn key_file(&self) -> PathBuf {
        self.files.path().join("key.pem")
    }
}
