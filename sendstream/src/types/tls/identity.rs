//! [`Identity`]: a certificate chain with its private key.

use std::{fmt, fs, io::Read, path::Path, sync::Arc};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
    pem::{Error as PemError, PemObject},
};
use zeroize::{Zeroize, Zeroizing};

use super::{
    encrypted,
    error::IdentityError,
    hash::{CertificateHash, PublicKeyHash},
    key,
    pem::{Contents, is_der},
    pkcs12,
    public_key::{PublicKey, may_sign},
};

/// A certificate chain with its private key. A server shows it, and a client shows it to a server
/// that asks.
///
/// Clones share one copy of the key. Its memory is zeroed when the last of them goes; `Debug`
/// prints the certificate's hash and never the key.
#[derive(Clone)]
pub struct Identity(Arc<IdentityInner>);

struct IdentityInner {
    /// The certificate of the key, which is the first of its chain.
    certificate: CertificateDer<'static>,
    hash: CertificateHash,
    public_key_hash: PublicKeyHash,
    /// Chain and key as MsQuic takes them.
    pkcs12: Zeroizing<Vec<u8>>,
}

impl Identity {
    /// Takes a certificate chain and its private key in PEM (RFC 7468).
    ///
    /// The chain's first certificate is the one that the key belongs to, then each one's issuer;
    /// the root may be left out. The key is `PRIVATE KEY` (PKCS#8), `EC PRIVATE KEY` (SEC 1) or
    /// `RSA PRIVATE KEY` (PKCS#1). Sections of other kinds are skipped, so one file may serve for
    /// both.
    ///
    /// # Errors
    ///
    /// [`IdentityError`]; all of them are about what was passed.
    pub fn from_pem(cert_chain_pem: impl AsRef<[u8]>, key_pem: impl AsRef<[u8]>) -> Result<Self, IdentityError> {
        let (cert_chain_pem, key_pem) = (cert_chain_pem.as_ref(), key_pem.as_ref());
        Self::from_der(chain_from_pem(cert_chain_pem, key_pem)?, key_from_pem(key_pem)?)
    }

    /// As [`Identity::from_pem`], with a key that a passphrase protects: `ENCRYPTED PRIVATE KEY`
    /// (PKCS#8 with PBES2 of RFC 8018, by PBKDF2 or scrypt, with AES in CBC mode), as `openssl
    /// pkcs8 -topk8` makes it.
    ///
    /// Deriving the key from the passphrase is slow on purpose and happens in this call.
    ///
    /// # Errors
    ///
    /// [`IdentityError`]; all of them are about what was passed. [`IdentityError::WrongPassphrase`]
    /// says that what came out is no key, and [`IdentityError::UnsupportedEncryption`] what to do
    /// about older forms.
    pub fn from_pem_encrypted(
        cert_chain_pem: impl AsRef<[u8]>,
        key_pem: impl AsRef<[u8]>,
        passphrase: impl AsRef<[u8]>,
    ) -> Result<Self, IdentityError> {
        let (cert_chain_pem, key_pem) = (cert_chain_pem.as_ref(), key_pem.as_ref());
        let chain = chain_from_pem(cert_chain_pem, key_pem)?;
        let key = encrypted::decrypt(key_pem, passphrase.as_ref())?;
        Self::from_der(chain, PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
    }

    /// Takes a certificate chain and its private key in DER, in the order and the forms of
    /// [`Identity::from_pem`]. [`CertificateDer`] and [`PrivateKeyDer`] are the types of the crate
    /// `rustls-pki-types`, which this crate re-exports.
    ///
    /// Whether an RSA, P-256, P-384 or Ed25519 key belongs to the chain's first certificate is
    /// checked here; for other kinds of key it shows when the client or server is built
    /// ([`IdentityError::Rejected`]).
    ///
    /// # Errors
    ///
    /// [`IdentityError`]; all of them are about what was passed.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        mut key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let identity = Self::from_chain_and_key(&chain, &key);
        key.zeroize();
        identity
    }

    /// Reads a certificate chain and its private key from two PEM files, as [`Identity::from_pem`]
    /// takes them; both may be the same file.
    ///
    /// # Errors
    ///
    /// [`IdentityError::ReadFile`] with the file that could not be read, or as
    /// [`Identity::from_pem`].
    pub fn from_files(cert_path: impl AsRef<Path>, key_path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        Self::from_pem(read_file(cert_path.as_ref())?, read_file(key_path.as_ref())?)
    }

    /// The SHA-256 hash of [`Identity::certificate`], which clients can pin.
    pub fn certificate_sha256(&self) -> CertificateHash {
        self.0.hash
    }

    /// The SHA-256 hash of the public key, which clients can pin to believe renewed certificates
    /// with the same key as well.
    pub fn public_key_sha256(&self) -> PublicKeyHash {
        self.0.public_key_hash
    }

    /// The certificate that the key belongs to, in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    /// Chain and key as an unencrypted PKCS#12 archive of less than 2^31 bytes, for
    /// `QUIC_CERTIFICATE_PKCS12`.
    pub(crate) fn pkcs12(&self) -> &[u8] {
        &self.0.pkcs12
    }

    /// An identity that AWS-LC cannot read.
    #[cfg(test)]
    pub(crate) fn unusable() -> Self {
        let certificate = CertificateDer::from(&b"certificate"[..]);
        let hash = CertificateHash::of(&certificate);
        let pkcs12 = pkcs12::encode(b"key", std::slice::from_ref(&certificate));
        Self(Arc::new(IdentityInner { certificate, hash, public_key_hash: [0; 32].into(), pkcs12 }))
    }

    fn from_chain_and_key(
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let certificate = chain.first().ok_or(IdentityError::NoCertificate)?;
        if let Some(index) = chain.iter().position(|certificate| PublicKey::of_certificate(certificate).is_none()) {
            return Err(IdentityError::InvalidCertificate { index });
        }
        if chain.iter().map(|certificate| certificate.len()).sum::<usize>() > MAX_CHAIN_LENGTH {
            return Err(IdentityError::ChainTooLong);
        }
        let public_key = PublicKey::of_certificate(certificate).ok_or(IdentityError::NoCertificate)?;
        if let Some(bits) = public_key.weak_rsa_bits() {
            return Err(IdentityError::WeakKey { bits });
        }
        if !may_sign(certificate) {
            return Err(IdentityError::MayNotSign);
        }
        let public_key_hash = PublicKeyHash::of(certificate).ok_or(IdentityError::NoCertificate)?;
        let pkcs8 = key::to_pkcs8(key, &public_key)?;
        Ok(Self(Arc::new(IdentityInner {
            certificate: certificate.clone(),
            hash: CertificateHash::of(certificate),
            public_key_hash,
            pkcs12: pkcs12::encode(&pkcs8, chain),
        })))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate_sha256", &self.0.hash).finish_non_exhaustive()
    }
}

/// The certificates in `pem`, which may be none; `key_pem` is looked at to tell whether the two were
/// swapped.
fn chain_from_pem(pem: &[u8], key_pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let (first, second) = (Contents::of(pem), Contents::of(key_pem));
    if first.key && !first.certificate && second.certificate && !second.key {
        return Err(IdentityError::Swapped);
    }
    if is_der(pem) || is_der(key_pem) {
        return Err(IdentityError::Der);
    }
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IdentityError::Pem { reason: error.to_string() })
}

fn key_from_pem(pem: &[u8]) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        if encrypted::is_marked(pem) {
            return IdentityError::EncryptedKey;
        }
        match error {
            PemError::NoItemsFound => IdentityError::NoPrivateKey,
            error => IdentityError::Pem { reason: error.to_string() },
        }
    })
}

/// Reads a file that may hold a key into memory that is zeroed.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let read = || {
        let mut file = fs::File::open(path)?;
        // Room for all of it, so that no copy stays behind in memory that grew.
        let capacity = usize::try_from(file.metadata()?.len()).unwrap_or(0).saturating_add(1).min(MAX_CHAIN_LENGTH);
        let mut contents = Zeroizing::new(Vec::with_capacity(capacity));
        file.read_to_end(&mut contents)?;
        Ok(contents)
    };
    read().map_err(|source| IdentityError::ReadFile { path: path.to_owned(), source: Arc::new(source) })
}

/// What fits into the certificate list of a TLS message.
const MAX_CHAIN_LENGTH: usize = (1 << 24) - 1;
