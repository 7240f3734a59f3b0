//! The other side of a connection: the certificates it showed, and who else is asked about them.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use rustls_pki_types::CertificateDer;

use super::{
    error::CertificateRefusal,
    hash::{CertificateHash, PublicKeyHash},
    pkcs7,
};

/// The certificates that a peer showed in the handshake, and whose key it proved to hold (RFC 8446
/// §4.4.3).
///
/// It has no names: they are in the certificate's DER, which a crate such as `x509-parser` reads
/// (`x509_parser::parse_x509_certificate(identity.certificate())`).
///
/// Clones share what they hold; `Debug` prints the hash of the peer's own certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerIdentity(Arc<Vec<CertificateDer<'static>>>);

impl PeerIdentity {
    /// The peer's own certificate, in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.0[0]
    }

    /// The peer's own certificate, then the others that it sent, in its order. Only
    /// [`Trust`](crate::Trust) says whether they are to be believed.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// The SHA-256 hash of [`PeerIdentity::certificate`].
    pub fn certificate_sha256(&self) -> CertificateHash {
        CertificateHash::of(self.certificate())
    }

    /// The SHA-256 hash of the public key in [`PeerIdentity::certificate`], whose private half the
    /// peer proved to hold; `None` if the certificate is not X.509 in DER, which only
    /// [`Trust::dangerous_accept_any_certificate`](crate::Trust::dangerous_accept_any_certificate)
    /// and a verifier let pass.
    pub fn public_key_sha256(&self) -> Option<PublicKeyHash> {
        PublicKeyHash::of(self.certificate())
    }

    /// From a chain that was kept, the peer's own certificate first; `None` if there is none.
    pub(crate) fn from_chain(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        (!chain.is_empty()).then(|| Self(Arc::new(chain)))
    }

    /// From what PEER_CERTIFICATE_RECEIVED reports; `None` if the peer showed no certificate.
    pub(crate) fn from_event(leaf_der: &[u8], chain_pkcs7: &[u8]) -> Option<Self> {
        if leaf_der.is_empty() {
            return None;
        }
        let leaf = CertificateDer::from(leaf_der);
        let issuers = pkcs7::certificates(chain_pkcs7).unwrap_or_default();
        // All that the peer sent, which begins with its own.
        let issuers = issuers.into_iter().filter(|certificate| *certificate != leaf);
        let chain = std::iter::once(leaf.clone()).chain(issuers);
        Some(Self(Arc::new(chain.map(CertificateDer::into_owned).collect())))
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerIdentity").field("certificate_sha256", &self.certificate_sha256()).finish_non_exhaustive()
    }
}

/// What a verifier is asked about: [`Trust::verify_with`](crate::Trust::verify_with).
#[derive(Debug, Clone)]
pub struct PeerCertificate {
    identity: PeerIdentity,
    server_name: Option<String>,
    verified: Result<(), CertificateRefusal>,
}

impl PeerCertificate {
    pub(crate) fn new(
        identity: PeerIdentity,
        server_name: Option<String>,
        verified: Result<(), CertificateRefusal>,
    ) -> Self {
        Self { identity, server_name, verified }
    }

    /// The certificates that the peer showed.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// The name that the client asked the server for. `None` if the peer is a client, whose
    /// certificate needs no name.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The judgement of the [`Trust`](crate::Trust) without its verifier. Pass its error on
    /// (`peer.verified()?`) to add to that judgement. Leave the call out to replace it.
    ///
    /// # Errors
    ///
    /// The [`CertificateRefusal`] that the peer would get.
    pub fn verified(&self) -> Result<(), CertificateRefusal> {
        self.verified.clone()
    }
}

/// A verifier's answer that may still be on its way.
pub(crate) type Verdict = Pin<Box<dyn Future<Output = Result<(), CertificateRefusal>> + Send>>;

/// The application's own judge of certificates.
#[derive(Clone)]
pub(super) struct Verifier(Arc<dyn Fn(PeerCertificate) -> Verdict + Send + Sync>);

impl Verifier {
    pub(super) fn new<F, V>(verify: F) -> Self
    where
        F: Fn(PeerCertificate) -> V + Send + Sync + 'static,
        V: Future<Output = Result<(), CertificateRefusal>> + Send + 'static,
    {
        let verify = Arc::new(verify);
        // The closure is foreign code as well, so it runs where the verdict is polled.
        Self(Arc::new(move |peer| {
            let verify = verify.clone();
            Box::pin(async move { verify(peer).await })
        }))
    }

    pub(super) fn ask(&self, peer: PeerCertificate) -> Verdict {
        (self.0)(peer)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}
