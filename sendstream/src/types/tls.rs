//! Who this side is, and whom it believes: certificates, keys and trust.
//!
//! # What MsQuic does not do
//!
//! On OpenSSL, MsQuic's own validation of a server is not one to rely on, as its `platform/tls_openssl.c` shows:
//!
//! - It checks the certificate chain and never the **name**: any certificate of a trusted authority would pass for any
//!   host.
//! - It always begins with OpenSSL's default roots (`SSL_CTX_set_default_verify_paths`); a CA file adds to them. There
//!   is no way to believe one private authority alone.
//! - Where those defaults lie is a path compiled into OpenSSL, which for a linked-in one is no system's real store.
//!
//! So both sides have MsQuic validate nothing and report the peer's certificates instead. [`Trust::verify_server`] and
//! [`Trust::verify_client`] then judge chain, name, validity and purpose with `rustls-webpki` inside the handshake, before
//! any application sees data. That the peer holds the key of its certificate remains OpenSSL's to check, which it does in
//! any case (RFC 8446 §4.4.3).
//!
//! A server that validates nothing does not insist on a client's certificate either: the handler is asked once more, with
//! no certificate, and must refuse.
//!
//! # How a key reaches OpenSSL
//!
//! In memory: as a PKCS#12 archive that is built once per [`Identity`], zeroed when dropped, and never in a file.

pub(crate) mod der;
mod encrypted;
mod hash;
mod key;
mod peer;
mod pkcs12;
mod pkcs7;

use std::{
    collections::HashSet,
    fmt, fs,
    future::Future,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, TrustAnchor, UnixTime,
    pem::{self, PemObject},
};
use zeroize::{Zeroize, Zeroizing};

use crate::types::error::NativeError;
use peer::Verifier;

pub use hash::{CertificateHash, ParseCertificateHashError, ParsePublicKeyHashError, PublicKeyHash};
pub(crate) use peer::Verdict;
pub use peer::{ClientAuth, PeerCertificate, PeerIdentity};

/// A certificate chain with its private key: what a server shows, and what a client shows to a server that asks.
///
/// Clones share one copy of the key. Its memory is zeroed when the last of them goes; `Debug` prints the certificate's
/// hash and never the key.
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
    /// Makes a new ECDSA P-256 key and a certificate for it that it signs itself.
    ///
    /// `names` are the DNS names and IP addresses that the certificate is for. No authority vouches for it: clients
    /// pin it ([`Trust::pinned`]) by [`Identity::certificate_sha256`], which is a new one with every call.
    ///
    /// # Errors
    ///
    /// [`IdentityError::InvalidName`] for a name that cannot stand in a certificate, [`IdentityError::Generate`] if the
    /// system has no randomness to give.
    pub fn self_signed(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, IdentityError> {
        let mut parameters = rcgen::CertificateParams::default();
        for name in names {
            let name = name.into();
            let server_name = ServerName::try_from(name.as_str());
            let san = match server_name.map_err(|_| IdentityError::InvalidName { name: name.clone() })? {
                ServerName::IpAddress(address) => rcgen::SanType::IpAddress(address.into()),
                _ => match name.as_str().try_into() {
                    Ok(dns_name) => rcgen::SanType::DnsName(dns_name),
                    Err(_) => return Err(IdentityError::InvalidName { name }),
                },
            };
            parameters.subject_alt_names.push(san);
        }
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "sendstream");
        parameters.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let generate = |error: rcgen::Error| IdentityError::Generate { reason: error.to_string() };
        let mut pair = rcgen::KeyPair::generate().map_err(generate)?;
        let certificate = parameters.self_signed(&pair).map_err(generate)?;
        let key = PrivatePkcs8KeyDer::from(pair.serialize_der());
        pair.zeroize();
        Self::from_der(vec![certificate.into()], key.into())
    }

    /// Takes a certificate chain and its private key in PEM (RFC 7468).
    ///
    /// The chain's first certificate is the one that the key belongs to, then each one's issuer; the root may be left
    /// out. The key is `PRIVATE KEY` (PKCS#8), `EC PRIVATE KEY` (SEC 1) or `RSA PRIVATE KEY` (PKCS#1). Sections of
    /// other kinds are skipped, so one file may serve for both.
    ///
    /// # Errors
    ///
    /// [`IdentityError`]; all of them are about what was passed.
    pub fn from_pem(cert_chain_pem: impl AsRef<[u8]>, key_pem: impl AsRef<[u8]>) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(cert_chain_pem.as_ref())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| IdentityError::Pem { reason: error.to_string() })?;
        Self::from_der(chain, key_from_pem(key_pem.as_ref())?)
    }

    /// As [`Identity::from_pem`], with a key that a passphrase protects: `ENCRYPTED PRIVATE KEY` (PKCS#8 with PBES2 of RFC 8018,
    /// by PBKDF2 or scrypt, with AES in CBC mode), as `openssl pkcs8 -topk8` makes it.
    ///
    /// Deriving the key from the passphrase is slow on purpose and happens in this call.
    ///
    /// # Errors
    ///
    /// [`IdentityError`]; all of them are about what was passed. [`IdentityError::WrongPassphrase`] says that what came out is
    /// no key, and [`IdentityError::UnsupportedEncryption`] what to do about older forms.
    pub fn from_pem_encrypted(
        cert_chain_pem: impl AsRef<[u8]>,
        key_pem: impl AsRef<[u8]>,
        passphrase: impl AsRef<[u8]>,
    ) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(cert_chain_pem.as_ref())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| IdentityError::Pem { reason: error.to_string() })?;
        let key = encrypted::decrypt(key_pem.as_ref(), passphrase.as_ref())?;
        Self::from_der(chain, PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
    }

    /// Takes a certificate chain and its private key in DER, in the order and the forms of [`Identity::from_pem`].
    ///
    /// Whether an RSA, P-256, P-384 or Ed25519 key belongs to the chain's first certificate is checked here; for other
    /// kinds of key it shows when the client or server is built ([`IdentityError::Rejected`]).
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

    /// Reads a certificate chain and its private key from two PEM files, as [`Identity::from_pem`] takes them; both may
    /// be the same file.
    ///
    /// # Errors
    ///
    /// [`IdentityError::ReadFile`] with the file that could not be read, or as [`Identity::from_pem`].
    pub fn from_files(cert_path: impl AsRef<Path>, key_path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        Self::from_pem(read_file(cert_path.as_ref())?, read_file(key_path.as_ref())?)
    }

    /// The SHA-256 hash of [`Identity::certificate`], which clients can pin.
    pub fn certificate_sha256(&self) -> CertificateHash {
        self.0.hash
    }

    /// The SHA-256 hash of the public key, which clients can pin to believe renewed certificates with the same key as well.
    pub fn public_key_sha256(&self) -> PublicKeyHash {
        self.0.public_key_hash
    }

    /// The certificate that the key belongs to, in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    /// Chain and key as an unencrypted PKCS#12 archive of less than 2^31 bytes, for `QUIC_CERTIFICATE_PKCS12`.
    pub(crate) fn pkcs12(&self) -> &[u8] {
        &self.0.pkcs12
    }

    /// An identity that OpenSSL cannot read.
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
        if let Some(index) = chain.iter().position(|certificate| key::PublicKey::of_certificate(certificate).is_none())
        {
            return Err(IdentityError::InvalidCertificate { index });
        }
        if chain.iter().map(|certificate| certificate.len()).sum::<usize>() > MAX_CHAIN_LENGTH {
            return Err(IdentityError::ChainTooLong);
        }
        let public_key = key::PublicKey::of_certificate(certificate).ok_or(IdentityError::NoCertificate)?;
        if let Some(bits) = public_key.weak_rsa_bits() {
            return Err(IdentityError::WeakKey { bits });
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

/// Whom one side believes: a client the server it asked for, a server its clients ([`ClientAuth`]). The default is
/// [`Trust::system`].
///
/// Where an authority vouches for a server, the certificate must name what the client asked for among its subject
/// alternative names (RFC 9525), be valid now and be meant for servers; one for a client must be meant for clients and
/// needs no name. Authorities may sign with RSA of 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519. Revocation is
/// not checked. A peer whose own key is RSA of less than 2048 bits is refused, also if it is pinned. Clones share what they
/// hold.
#[derive(Clone, Debug)]
pub struct Trust {
    kind: TrustKind,
    verifier: Option<Verifier>,
}

#[derive(Clone)]
enum TrustKind {
    /// Loaded when first needed.
    System(Arc<OnceLock<Result<Authorities, TrustError>>>),
    Authorities(Arc<Authorities>),
    Pinned(Arc<HashSet<CertificateHash>>),
    PinnedKeys(Arc<HashSet<PublicKeyHash>>),
    Anyone,
}

impl Trust {
    /// Believes peers whose certificate is for the name that was asked for, if one was, and issued by an authority that this
    /// system trusts.
    ///
    /// The roots are read when the first client with this value is built. On Linux and the BSDs they are those of the
    /// distribution's `ca-certificates`, unless the environment variables `SSL_CERT_FILE` or `SSL_CERT_DIR` name
    /// others; on macOS and Windows the system's store is asked.
    pub fn system() -> Self {
        TrustKind::System(Arc::default()).into()
    }

    /// Believes peers whose certificate has one of these hashes, whatever name, validity and issuer it has.
    ///
    /// Only the peer's own certificate counts, not the issuers it sends along. Without any hash nobody is
    /// believed.
    pub fn pinned(hashes: impl IntoIterator<Item = impl Into<CertificateHash>>) -> Self {
        TrustKind::Pinned(Arc::new(hashes.into_iter().map(Into::into).collect())).into()
    }

    /// Believes peers whose public key has one of these hashes, whatever certificate they show for it.
    ///
    /// So a certificate may be renewed without a change here as long as its key stays, or a new key be announced beside the
    /// old. Otherwise as [`Trust::pinned`].
    pub fn pinned_keys(hashes: impl IntoIterator<Item = impl Into<PublicKeyHash>>) -> Self {
        TrustKind::PinnedKeys(Arc::new(hashes.into_iter().map(Into::into).collect())).into()
    }

    /// Believes peers whose certificate is for the name that was asked for, if one was, and issued by one of the authorities in
    /// this PEM (RFC 7468), and no other.
    ///
    /// The system's authorities do not count. Sections other than certificates are skipped.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if the PEM is damaged, has no certificate, or one that cannot be an authority's.
    pub fn ca_pem(pem: impl AsRef<[u8]>) -> Result<Self, TrustError> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_ref())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TrustError::Pem { reason: error.to_string() })?;
        Self::ca_der(certificates)
    }

    /// As [`Trust::ca_pem`], with the authorities' certificates in DER.
    ///
    /// # Errors
    ///
    /// [`TrustError::NoCertificate`] or [`TrustError::InvalidCertificate`].
    pub fn ca_der<'a>(certificates: impl IntoIterator<Item = CertificateDer<'a>>) -> Result<Self, TrustError> {
        let anchors = certificates
            .into_iter()
            .enumerate()
            .map(|(index, certificate)| match webpki::anchor_from_trusted_cert(&certificate) {
                Ok(anchor) => Ok(anchor.to_owned()),
                Err(error) => Err(TrustError::InvalidCertificate { index, reason: error.to_string() }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if anchors.is_empty() {
            return Err(TrustError::NoCertificate);
        }
        Ok(TrustKind::Authorities(Arc::new(Authorities { anchors })).into())
    }

    /// Believes whoever answers.
    ///
    /// The connection is encrypted, but anyone on the path can pose as the server and read and change everything. It is
    /// for experiments; where servers have no certificate of an authority, [`Trust::pinned`] is as easy and safe.
    pub fn dangerous_accept_any_certificate() -> Self {
        TrustKind::Anyone.into()
    }

    /// Asks `verify` as well, which has the last word: after the built-in judgement, and with it.
    ///
    /// The peer is believed if the future gives `Ok`. An error ends the handshake with its TLS alert and is what this side's
    /// [`ConnectionError::CertificateRefused`](crate::ConnectionError::CertificateRefused) carries; so does a panic, as
    /// [`CertificateRefusal::VerifierPanicked`]. A client that shows no certificate is not asked about.
    ///
    /// ```
    /// use sendstream::{CertificateRefusal, Trust};
    ///
    /// let trust = Trust::system().verify_with(|peer| async move {
    ///     peer.verified()?; // without this line it would replace what `Trust::system` says
    ///     let is_listed = |_| async { false };
    ///     if is_listed(peer.identity().certificate_sha256()).await {
    ///         return Err(CertificateRefusal::by_verifier("it was revoked"));
    ///     }
    ///     Ok(())
    /// });
    /// # drop(trust);
    /// ```
    ///
    /// The future may take its time, within [`handshake_timeout`](crate::TransportConfig::handshake_timeout) or its
    /// peer's: MsQuic waits for `ConnectionCertificateValidationComplete`, and neither side's application sees anything of
    /// the connection before. It is polled first on the connection's worker and then, after each wake, on the crate's
    /// background thread, which makes the native calls of every connection: it may wait but must not block. A future of
    /// a runtime with timers or sockets of its own needs that runtime's handle, or a task spawned there to wait for.
    ///
    /// # Cancel safety
    ///
    /// When the connection ends first the future is dropped, wherever it stands.
    pub fn verify_with<F, V>(mut self, verify: F) -> Self
    where
        F: Fn(PeerCertificate) -> V + Send + Sync + 'static,
        V: Future<Output = Result<(), CertificateRefusal>> + Send + 'static,
    {
        self.verifier = Some(Verifier::new(verify));
        self
    }

    /// Reads the system's roots, if they are what this is about and have not been read.
    ///
    /// # Errors
    ///
    /// [`TrustError::NoSystemRoots`], which is kept: clones of this value give the same.
    pub(crate) fn load(&self) -> Result<(), TrustError> {
        match &self.kind {
            TrustKind::System(authorities) => {
                authorities.get_or_init(Authorities::of_system).as_ref().map(drop).map_err(Clone::clone)
            }
            TrustKind::Authorities(_) | TrustKind::Pinned(_) | TrustKind::PinnedKeys(_) | TrustKind::Anyone => Ok(()),
        }
    }

    /// Whether a certificate could be for `server_name`, which the connecting call should ask first; pins and verifiers
    /// take any.
    ///
    /// # Errors
    ///
    /// [`CertificateRefusal::InvalidServerName`].
    pub(crate) fn check_server_name(&self, server_name: &str) -> Result<(), CertificateRefusal> {
        match &self.kind {
            TrustKind::System(_) | TrustKind::Authorities(_) if self.verifier.is_none() => {
                parse_server_name(server_name).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Judges a server by its certificates: the answer to `QUIC_CONNECTION_EVENT_PEER_CERTIFICATE_RECEIVED`, unless a
    /// verifier has the last word ([`Trust::ask_verifier`]).
    ///
    /// `leaf_der` and `chain_pkcs7` are the bytes of the two `QUIC_BUFFER`s that the event's `Certificate` and `Chain`
    /// point to, since the flag USE_PORTABLE_CERTIFICATES is set; empty if a pointer is null. The handler must refuse
    /// what this refuses, or the handshake succeeds.
    ///
    /// # Errors
    ///
    /// [`CertificateRefusal`]: the server, or one that poses as it, is not believed.
    pub(crate) fn verify_server(
        &self,
        server_name: &str,
        leaf_der: &[u8],
        chain_pkcs7: &[u8],
    ) -> Result<(), CertificateRefusal> {
        self.verify(Some(server_name), leaf_der, || pkcs7_certificates(chain_pkcs7))
    }

    /// As [`Trust::verify_server`], for a server whose session is to be resumed, by the certificates that it showed then.
    ///
    /// # Errors
    ///
    /// [`CertificateRefusal`]: the server would not be believed now.
    pub(crate) fn verify_server_again(
        &self,
        server_name: &str,
        identity: &PeerIdentity,
    ) -> Result<(), CertificateRefusal> {
        self.verify(Some(server_name), identity.certificate(), || identity.chain()[1..].to_vec())
    }

    /// As [`Trust::verify_server`], for a client.
    ///
    /// # Errors
    ///
    /// [`CertificateRefusal`]: the client is not believed, or showed no certificate.
    pub(crate) fn verify_client(&self, leaf_der: &[u8], chain_pkcs7: &[u8]) -> Result<(), CertificateRefusal> {
        if leaf_der.is_empty() {
            return Err(CertificateRefusal::NoCertificate);
        }
        self.verify(None, leaf_der, || pkcs7_certificates(chain_pkcs7))
    }

    /// The application's judgement, if it wants to have one.
    pub(crate) fn ask_verifier(&self, peer: impl FnOnce() -> PeerCertificate) -> Option<Verdict> {
        self.verifier.as_ref().map(|verifier| verifier.ask(peer()))
    }

    fn verify<'a>(
        &self,
        server_name: Option<&str>,
        leaf_der: &[u8],
        issuers: impl FnOnce() -> Vec<CertificateDer<'a>>,
    ) -> Result<(), CertificateRefusal> {
        if let TrustKind::Anyone = self.kind {
            return Ok(());
        }
        if leaf_der.is_empty() {
            return Err(CertificateRefusal::NoCertificate);
        }
        let leaf = CertificateDer::from(leaf_der);
        if let Some(bits) = key::PublicKey::of_certificate(&leaf).and_then(|key| key.weak_rsa_bits()) {
            return Err(CertificateRefusal::WeakKey { bits });
        }
        match &self.kind {
            TrustKind::System(authorities) => match authorities.get_or_init(Authorities::of_system) {
                Ok(authorities) => authorities.verify(server_name, &leaf, &issuers()),
                Err(_) => Err(CertificateRefusal::UnknownIssuer),
            },
            TrustKind::Authorities(authorities) => authorities.verify(server_name, &leaf, &issuers()),
            TrustKind::Pinned(pins) => match CertificateHash::of(&leaf) {
                hash if pins.contains(&hash) => Ok(()),
                actual => Err(CertificateRefusal::NotPinned { actual }),
            },
            TrustKind::PinnedKeys(pins) => match PublicKeyHash::of(&leaf) {
                Some(hash) if pins.contains(&hash) => Ok(()),
                Some(actual) => Err(CertificateRefusal::KeyNotPinned { actual }),
                None => Err(CertificateRefusal::Unacceptable { reason: "it is not X.509 in DER".to_owned() }),
            },
            TrustKind::Anyone => Ok(()),
        }
    }
}

impl From<TrustKind> for Trust {
    fn from(kind: TrustKind) -> Self {
        Self { kind, verifier: None }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for TrustKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(_) => f.write_str("System"),
            Self::Authorities(authorities) => write!(f, "Authorities({})", authorities.anchors.len()),
            Self::Pinned(pins) => f.debug_tuple("Pinned").field(pins).finish(),
            Self::PinnedKeys(pins) => f.debug_tuple("PinnedKeys").field(pins).finish(),
            Self::Anyone => f.write_str("Anyone"),
        }
    }
}

/// Roots, and nobody else's word.
struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
}

impl Authorities {
    /// The roots that this system trusts. Those in a form that webpki does not know are left out.
    fn of_system() -> Result<Self, TrustError> {
        let loaded = rustls_native_certs::load_native_certs();
        let anchors: Vec<_> = loaded
            .certs
            .iter()
            .filter_map(|certificate| Some(webpki::anchor_from_trusted_cert(certificate).ok()?.to_owned()))
            .collect();
        if anchors.is_empty() {
            let reason = loaded.errors.first().map_or_else(|| "the store is empty".to_owned(), ToString::to_string);
            return Err(TrustError::NoSystemRoots { reason });
        }
        Ok(Self { anchors })
    }

    /// Judges a server by `server_name`, or a client, which is asked for none.
    fn verify(
        &self,
        server_name: Option<&str>,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
    ) -> Result<(), CertificateRefusal> {
        let name = server_name.map(parse_server_name).transpose()?;
        let usage = match name {
            Some(_) => webpki::KeyUsage::server_auth(),
            None => webpki::KeyUsage::client_auth(),
        };
        let end_entity = webpki::EndEntityCert::try_from(leaf).map_err(CertificateRefusal::from_webpki)?;
        end_entity
            .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &self.anchors, issuers, UnixTime::now(), usage, None, None)
            .map_err(CertificateRefusal::from_webpki)?;
        match name {
            Some(name) => end_entity.verify_is_valid_for_subject_name(&name).map_err(CertificateRefusal::from_webpki),
            None => Ok(()),
        }
    }
}

/// Why a peer was not believed: its certificate is wrong, or it is not the server that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateRefusal {
    /// The peer showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// The peer's certificate is none of the pinned ones.
    #[error("the peer's certificate {actual} is not pinned: it is another peer, an impostor, or was renewed")]
    NotPinned {
        /// The hash of the certificate that the peer showed.
        actual: CertificateHash,
    },
    /// The peer's public key is none of the pinned ones.
    #[error("the peer's public key {actual} is not pinned: it is another peer, an impostor, or has a new key")]
    KeyNotPinned {
        /// The hash of the public key that the peer showed.
        actual: PublicKeyHash,
    },
    /// The peer's RSA key is so short that others may have found it.
    #[error("the peer's RSA key of {bits} bits is too weak; give it a new one, of 2048 bits or more, or on a curve")]
    WeakKey {
        /// How many bits it has.
        bits: usize,
    },
    /// No certificate could be for the name that was asked for.
    #[error("{name:?} is neither a DNS name nor an IP address; connect with the name in the server's certificate")]
    InvalidServerName {
        /// The name.
        name: String,
    },
    /// The server's certificate is for other names than the one that was asked for.
    #[error("the server's certificate is not for {name:?} but for [{}]", .certified.join(", "))]
    NameMismatch {
        /// The name that was asked for.
        name: String,
        /// The names in the certificate.
        certified: Vec<String>,
    },
    /// No authority that is believed issued the peer's certificate, or the peer left out an issuer in between.
    #[error("no trusted authority issued the peer's certificate; name its CA with `Trust::ca_pem`, or pin it")]
    UnknownIssuer,
    /// The peer's certificate, or an issuer's, is no longer valid.
    #[error("the peer's certificate has expired")]
    Expired,
    /// The peer's certificate, or an issuer's, is not valid yet, or the clock of this side is slow.
    #[error("the peer's certificate is not valid yet; is this system's clock right?")]
    NotYetValid,
    /// The peer's certificate is an authority's own, as tools make it that sign a certificate with its own key.
    #[error("the peer shows a CA's certificate as its own; give it one that a CA issued, or `Trust::pinned` its hash")]
    AuthorityAsPeer,
    /// The peer's certificate is meant for something else, or it or an issuer's breaks another rule of RFC 5280.
    #[error("the peer's certificate is not acceptable: {reason}")]
    Unacceptable {
        /// The rule, in webpki's words.
        reason: String,
    },
    /// The application's own verifier refused it: [`Trust::verify_with`].
    #[error("the application's verifier refuses the peer's certificate: {reason}")]
    ByVerifier {
        /// The TLS alert of RFC 8446 §6 for the peer, such as 44 for a revoked certificate.
        alert: u8,
        /// Why, for this side's logs; the peer does not get it.
        reason: String,
    },
    /// The application's own verifier panicked, which is no answer.
    #[error("the application's verifier panicked; nobody is believed by such a verifier")]
    VerifierPanicked,
}

impl CertificateRefusal {
    /// A verifier's refusal with the alert `certificate_unknown` (46), RFC 8446's word for "some other issue".
    pub fn by_verifier(reason: impl Into<String>) -> Self {
        Self::ByVerifier { alert: alert::CERTIFICATE_UNKNOWN, reason: reason.into() }
    }

    /// The TLS alert (RFC 8446 §6.2) that the peer gets.
    pub fn alert(&self) -> u8 {
        match self {
            Self::NoCertificate => alert::CERTIFICATE_REQUIRED,
            Self::UnknownIssuer => alert::UNKNOWN_CA,
            Self::Expired | Self::NotYetValid => alert::CERTIFICATE_EXPIRED,
            Self::NotPinned { .. } | Self::KeyNotPinned { .. } => alert::CERTIFICATE_UNKNOWN,
            Self::InvalidServerName { .. }
            | Self::NameMismatch { .. }
            | Self::AuthorityAsPeer
            | Self::WeakKey { .. }
            | Self::Unacceptable { .. } => alert::BAD_CERTIFICATE,
            Self::ByVerifier { alert, .. } => *alert,
            Self::VerifierPanicked => alert::INTERNAL_ERROR,
        }
    }

    fn from_webpki(error: webpki::Error) -> Self {
        match error {
            webpki::Error::CertNotValidForName(context) => Self::NameMismatch {
                name: context.expected.to_str().into_owned(),
                certified: context.presented.iter().map(|name| plain_name(name).to_owned()).collect(),
            },
            webpki::Error::UnknownIssuer => Self::UnknownIssuer,
            webpki::Error::CertExpired { .. } => Self::Expired,
            webpki::Error::CertNotValidYet { .. } => Self::NotYetValid,
            webpki::Error::CaUsedAsEndEntity => Self::AuthorityAsPeer,
            error => Self::Unacceptable { reason: error.to_string() },
        }
    }
}

/// Why a certificate chain and key make no [`Identity`]. The caller's doing, except for [`IdentityError::Generate`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no certificate.
    #[error("no certificate given; give PEM with at least one `BEGIN CERTIFICATE` section, the key's own first")]
    NoCertificate,
    /// One of the certificates is not an X.509 certificate.
    #[error("certificate {index} of the chain, counted from 0, is not X.509 in DER; export it again")]
    InvalidCertificate {
        /// Its place in the chain, from 0.
        index: usize,
    },
    /// The chain is longer than TLS can send: 2^24 - 1 bytes (RFC 8446 §4.4.2).
    #[error("the certificate chain is over 16 MiB; give the key's own certificate and its issuers only")]
    ChainTooLong,
    /// There is no private key.
    #[error("no private key given; give PEM with a `PRIVATE KEY`, `EC PRIVATE KEY` or `RSA PRIVATE KEY` section")]
    NoPrivateKey,
    /// The private key is protected by a passphrase.
    #[error(
        "the private key is encrypted; give its passphrase to `Identity::from_pem_encrypted`, or decrypt it with \
         `openssl pkey -in KEY -out PLAIN_KEY` and give that"
    )]
    EncryptedKey,
    /// The passphrase is not that of the encrypted private key, or the key is damaged.
    #[error("the private key cannot be decrypted: the passphrase is wrong, or the key is damaged")]
    WrongPassphrase,
    /// The private key is encrypted in a way that is too old, or too rare.
    #[error("the private key's encryption is not supported; renew it with `openssl pkcs8 -topk8 -in KEY -out KEY_8`")]
    UnsupportedEncryption,
    /// The private key is not what its container says.
    #[error("the private key cannot be read; convert it with `openssl pkcs8 -topk8 -nocrypt -in KEY -out KEY_8`")]
    UnsupportedKey,
    /// The private key belongs to another certificate.
    #[error("the private key does not belong to the first certificate; give the pair, and that certificate first")]
    KeyMismatch,
    /// The RSA key is so short that others may find it, and peers would refuse it.
    #[error(
        "the RSA key of {bits} bits is too weak; make one of 2048 bits or more, or on P-256, and a certificate for it"
    )]
    WeakKey {
        /// How many bits it has.
        bits: usize,
    },
    /// The PEM is damaged.
    #[error("the PEM is damaged: {reason}; export it again")]
    Pem {
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A name cannot stand in a certificate.
    #[error("{name:?} is neither a DNS name nor an IP address; give names such as \"localhost\" or \"127.0.0.1\"")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// A key could not be made.
    #[error("cannot make a key and certificate: {reason}")]
    Generate {
        /// What failed.
        reason: String,
    },
    /// OpenSSL refused chain and key when a client or server was built with them.
    #[error("OpenSSL refuses the certificate or its key ({status}); are they a pair, of a kind that TLS 1.3 knows?")]
    Rejected {
        /// MsQuic's word for it.
        status: NativeError,
    },
}

/// Why there is nobody to trust. The caller's doing, except for [`TrustError::NoSystemRoots`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// There is no certificate of an authority.
    #[error("no CA certificate given; give PEM with at least one `BEGIN CERTIFICATE` section")]
    NoCertificate,
    /// One of the certificates cannot be an authority's.
    #[error("CA certificate {index}, counted from 0, cannot be used ({reason}); export it again")]
    InvalidCertificate {
        /// Its place among the certificates, from 0.
        index: usize,
        /// What is wrong with it, in webpki's words.
        reason: String,
    },
    /// The PEM is damaged.
    #[error("the CA's PEM is damaged: {reason}; export it again")]
    Pem {
        /// What is wrong with it.
        reason: String,
    },
    /// This system has no root certificates that could be read.
    #[error("no system root certificates ({reason}); install `ca-certificates`, or name a CA with `Trust::ca_pem`")]
    NoSystemRoots {
        /// What the system said.
        reason: String,
    },
}

fn parse_server_name(name: &str) -> Result<ServerName<'_>, CertificateRefusal> {
    ServerName::try_from(name).map_err(|_| CertificateRefusal::InvalidServerName { name: name.to_owned() })
}

/// A chain that cannot be read is none: then an issuer is missing, unless it is a root.
fn pkcs7_certificates(chain_pkcs7: &[u8]) -> Vec<CertificateDer<'_>> {
    pkcs7::certificates(chain_pkcs7).unwrap_or_default()
}

/// The name in webpki's rendering of a certificate's, `DnsName("server.test")` or `IpAddress(192.0.2.1)`.
fn plain_name(rendered: &str) -> &str {
    ["DnsName(", "IpAddress("]
        .iter()
        .find_map(|prefix| rendered.strip_prefix(prefix)?.strip_suffix(')'))
        .map_or(rendered, |name| name.trim_matches('"'))
}

fn key_from_pem(pem: &[u8]) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        // PKCS#8 names the encryption in the section's label, the older forms in a header inside it.
        if find(pem, ENCRYPTED).is_some() {
            return IdentityError::EncryptedKey;
        }
        match error {
            pem::Error::NoItemsFound => IdentityError::NoPrivateKey,
            error => IdentityError::Pem { reason: error.to_string() },
        }
    })
}

/// Where `wanted` begins.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
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

/// TLS alerts, RFC 8446 §6.
mod alert {
    pub(super) const BAD_CERTIFICATE: u8 = 42;
    pub(super) const CERTIFICATE_EXPIRED: u8 = 45;
    pub(super) const CERTIFICATE_UNKNOWN: u8 = 46;
    pub(super) const UNKNOWN_CA: u8 = 48;
    pub(super) const INTERNAL_ERROR: u8 = 80;
    pub(super) const CERTIFICATE_REQUIRED: u8 = 116;
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// What fits into the certificate list of a TLS message.
const MAX_CHAIN_LENGTH: usize = (1 << 24) - 1;

#[cfg(test)]
mod tests;
