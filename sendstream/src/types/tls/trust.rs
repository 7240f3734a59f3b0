//! [`Trust`] and [`ClientAuth`]: whom one side believes.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, OnceLock},
};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};

use super::{
    error::{CertificateRefusal, TrustError, parse_server_name},
    hash::{CertificateHash, PublicKeyHash},
    peer::{PeerCertificate, PeerIdentity, Verdict, Verifier},
    pem::{Contents, is_der},
    pkcs7,
    public_key::PublicKey,
};

/// Whom one side believes: a client the server it asked for, a server its clients ([`ClientAuth`]).
/// The default is [`Trust::system`].
///
/// Where an authority vouches for a server, the certificate must name what the client asked for
/// among its subject alternative names (RFC 9525), be valid now and be meant for servers; one for a
/// client must be meant for clients and needs no name. Authorities may sign with RSA of 2048 bits
/// or more, ECDSA on P-256 or P-384, or Ed25519. Of the issuers that a peer sends beside its own
/// certificate the first eight count. Revocation is not checked. A peer whose own key is RSA of
/// less than 2048 bits is refused, also if it is pinned; one whose certificate does not let its key sign
/// (key usage without digitalSignature), or whose key is on Ed448 or is RSA for PSS alone, fails in the
/// handshake before anybody is asked. Clones share what they hold.
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
    /// Believes peers whose certificate is for the name that was asked for, if one was, and issued
    /// by an authority that this system trusts.
    ///
    /// The roots are read when the first client with this value is built. On Linux and the BSDs
    /// they are those of the distribution's `ca-certificates`, unless the environment variables
    /// `SSL_CERT_FILE` or `SSL_CERT_DIR` name others; on macOS and Windows the system's store is
    /// asked.
    pub fn system() -> Self {
        TrustKind::System(Arc::default()).into()
    }

    /// Believes peers whose certificate has one of these hashes, whatever name, validity and issuer
    /// it has.
    ///
    /// Only the peer's own certificate counts, not the issuers it sends along. Without any hash
    /// nobody is believed.
    pub fn pinned(hashes: impl IntoIterator<Item = impl Into<CertificateHash>>) -> Self {
        TrustKind::Pinned(Arc::new(hashes.into_iter().map(Into::into).collect())).into()
    }

    /// Believes peers whose public key has one of these hashes, whatever certificate they show for
    /// it.
    ///
    /// So a certificate may be renewed without a change here as long as its key stays, or a new key
    /// be announced beside the old. Otherwise as [`Trust::pinned`].
    pub fn pinned_keys(hashes: impl IntoIterator<Item = impl Into<PublicKeyHash>>) -> Self {
        TrustKind::PinnedKeys(Arc::new(hashes.into_iter().map(Into::into).collect())).into()
    }

    /// Believes peers whose certificate is for the name that was asked for, if one was, and issued
    /// by one of the authorities in this PEM (RFC 7468), and no other.
    ///
    /// The system's authorities do not count. Sections other than certificates are skipped.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if the PEM is damaged, has no certificate, or one that cannot be an
    /// authority's.
    pub fn ca_pem(pem: impl AsRef<[u8]>) -> Result<Self, TrustError> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_ref())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TrustError::Pem { reason: error.to_string() })?;
        let pem = pem.as_ref();
        match certificates.is_empty() {
            true if Contents::of(pem).key => Err(TrustError::PrivateKey),
            true if is_der(pem) => Err(TrustError::Der),
            _ => Self::ca_der(certificates),
        }
    }

    /// As [`Trust::ca_pem`], with the authorities' certificates in DER.
    ///
    /// # Errors
    ///
    /// [`TrustError::NoCertificate`], [`TrustError::InvalidCertificate`] or
    /// [`TrustError::UnsupportedKey`].
    pub fn ca_der<'a>(certificates: impl IntoIterator<Item = CertificateDer<'a>>) -> Result<Self, TrustError> {
        let mut is_of_use = false;
        let anchors = certificates
            .into_iter()
            .enumerate()
            .map(|(index, certificate)| match webpki::anchor_from_trusted_cert(&certificate) {
                Ok(anchor) => {
                    is_of_use |= PublicKey::of_certificate(&certificate).is_none_or(|key| key.is_on_supported_curve());
                    Ok(anchor.to_owned())
                }
                Err(error) => Err(TrustError::InvalidCertificate { index, reason: error.to_string() }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        // One among others does no harm: bundles have some that nobody needs.
        if !is_of_use && !anchors.is_empty() {
            return Err(TrustError::UnsupportedKey);
        }
        if anchors.is_empty() {
            return Err(TrustError::NoCertificate);
        }
        Ok(TrustKind::Authorities(Arc::new(Authorities { anchors })).into())
    }

    /// Believes whoever answers.
    ///
    /// The connection is encrypted, but anyone on the path can pose as the server and read and
    /// change everything. It is for experiments. For servers without an authority's certificate,
    /// [`Trust::pinned`] is as easy, and safe.
    pub fn dangerous_accept_any_certificate() -> Self {
        TrustKind::Anyone.into()
    }

    /// Asks `verify` as well, which has the last word: after the built-in judgement, and with it.
    ///
    /// The peer is believed if the future returns `Ok`. An error ends the handshake with its TLS
    /// alert, and this side's
    /// [`ConnectionError::CertificateRefused`](crate::ConnectionError::CertificateRefused) carries
    /// it. A panic does the same, as [`CertificateRefusal::VerifierPanicked`]. The verifier is not
    /// asked about a client that shows no certificate.
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
    /// The future may take its time, within
    /// [`handshake_timeout`](crate::TransportConfig::handshake_timeout) or its peer's: MsQuic waits
    /// for `ConnectionCertificateValidationComplete`, and neither side's application sees anything
    /// of the connection before. It is polled first on the connection's worker and then, after each
    /// wake, on the crate's background thread, which makes the native calls of every connection: it
    /// may wait but must not block. A future of a runtime with timers or sockets of its own needs
    /// that runtime's handle, or a task spawned there to wait for.
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

    /// Judges a server by its certificates: the answer to
    /// `QUIC_CONNECTION_EVENT_PEER_CERTIFICATE_RECEIVED`, unless a verifier has the last word
    /// ([`Trust::ask_verifier`]).
    ///
    /// `leaf_der` and `chain_pkcs7` are the bytes of the two `QUIC_BUFFER`s that the event's
    /// `Certificate` and `Chain` point to, since the flag USE_PORTABLE_CERTIFICATES is set; empty
    /// if a pointer is null. The handler must refuse what this refuses, or the handshake succeeds.
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

    /// As [`Trust::verify_server`], for a server whose session is to be resumed, by the
    /// certificates that it showed then.
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
        if let Some(bits) = PublicKey::of_certificate(&leaf).and_then(|key| key.weak_rsa_bits()) {
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
        let (usage, purpose) = match name {
            Some(_) => (webpki::KeyUsage::server_auth(), "serverAuth"),
            None => (webpki::KeyUsage::client_auth(), "clientAuth"),
        };
        // MsQuic reports the peer's own certificate among them.
        let issuers = issuers.strip_prefix(std::slice::from_ref(leaf)).unwrap_or(issuers);
        let issuers = &issuers[..issuers.len().min(MAX_ISSUERS)];
        let refusal = |error| CertificateRefusal::from_webpki(error, purpose);
        let end_entity = webpki::EndEntityCert::try_from(leaf).map_err(refusal)?;
        end_entity
            .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &self.anchors, issuers, UnixTime::now(), usage, None, None)
            .map_err(refusal)?;
        match name {
            Some(name) => end_entity.verify_is_valid_for_subject_name(&name).map_err(refusal),
            None => Ok(()),
        }
    }
}

/// Which certificates a server asks its clients for (RFC 8446 §4.3.2). The default is
/// [`ClientAuth::None`].
///
/// A client's certificate needs no name. It must be meant for clients (the extended key usage
/// `clientAuth`, or none at all) where an authority vouches for it; otherwise everything that
/// [`Trust`] says of servers holds for clients.
///
/// In TLS 1.3 a client is done with the handshake when it has sent its certificate. So a refused
/// client may hold a [`Connection`](crate::Connection) for a moment, and learns of the refusal with
/// the next packet. Its data until then is neither acknowledged nor shown to the application:
/// MsQuic takes no such packet before the client is believed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum ClientAuth {
    /// Asks for none.
    #[default]
    None,
    /// Asks for one, and takes clients that have none. A certificate that is not believed is
    /// refused all the same.
    Optional(Trust),
    /// Asks for one, and refuses clients that have none (TLS alert 116) or are not believed.
    Required(Trust),
}

impl ClientAuth {
    /// Whom to believe, unless nobody is asked.
    pub(crate) fn trust(&self) -> Option<&Trust> {
        match self {
            Self::None => None,
            Self::Optional(trust) | Self::Required(trust) => Some(trust),
        }
    }
}

/// A chain that cannot be read is none: then an issuer is missing, unless it is a root.
fn pkcs7_certificates(chain_pkcs7: &[u8]) -> Vec<CertificateDer<'_>> {
    pkcs7::certificates(chain_pkcs7).unwrap_or_default()
}

/// How many of the issuers that a peer sends are looked at. Each may cost a signature check, and so
/// may each pair of them.
const MAX_ISSUERS: usize = 8;
