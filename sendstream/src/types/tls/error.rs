//! Why a peer is not believed, and what is wrong with an identity or with roots of trust.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rustls_pki_types::ServerName;

use super::hash::{CertificateHash, PublicKeyHash};
use crate::types::{error::NativeError, text::Printable};

/// Why a peer was not believed: its certificate is wrong, or it is not the server that was asked
/// for.
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
    #[error("the server's certificate is not for {name:?} but for [{}]", Printable::new(&.certified.join(", ")))]
    NameMismatch {
        /// The name that was asked for.
        name: String,
        /// The names in the certificate.
        certified: Vec<String>,
    },
    /// No authority that is believed issued the peer's certificate, or the peer left out an issuer
    /// in between.
    #[error("no trusted authority issued the peer's certificate; name its CA with `Trust::ca_pem`, or pin it")]
    UnknownIssuer,
    /// The peer's certificate, or an issuer's, is no longer valid.
    #[error("the peer's certificate has expired")]
    Expired,
    /// The peer's certificate, or an issuer's, is not valid yet, or the clock of this side is slow.
    #[error("the peer's certificate is not valid yet; is this system's clock right?")]
    NotYetValid,
    /// The peer's certificate is an authority's own, as tools make it that sign a certificate with
    /// its own key.
    #[error("the peer shows a CA's certificate as its own; give it one that a CA issued, or `Trust::pinned` its hash")]
    AuthorityAsPeer,
    /// The peer's certificate is meant for something else, or it or an issuer's breaks another rule
    /// of RFC 5280.
    #[error("the peer's certificate is not acceptable: {}", Printable::new(.reason))]
    Unacceptable {
        /// The rule, in webpki's words.
        reason: String,
    },
    /// The application's own verifier refused it:
    /// [`Trust::verify_with`](crate::Trust::verify_with).
    #[error("the application's verifier refuses the peer's certificate: {}", Printable::new(.reason))]
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
    /// A verifier's refusal with the alert `certificate_unknown` (46), RFC 8446's word for "some
    /// other issue".
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

    pub(super) fn from_webpki(error: webpki::Error) -> Self {
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

/// Why a certificate chain and key make no [`Identity`](crate::Identity). The caller's doing,
/// except for [`IdentityError::Generate`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no certificate.
    #[error("no certificate given; give PEM with at least one `BEGIN CERTIFICATE` section, the key's own first")]
    NoCertificate,
    /// One of the certificates is not an X.509 certificate.
    #[error("certificate {index} of the chain, counted from 0, is not X.509 in DER; export it again")]
    #[non_exhaustive]
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
    #[non_exhaustive]
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
    /// No certificate can be valid for so long.
    #[error("a certificate cannot be valid for {validity:?}; give a second or more, up to the year 9999")]
    #[non_exhaustive]
    ValidityOutOfRange {
        /// What was asked for.
        validity: Duration,
    },
    /// A name cannot stand in a certificate.
    #[error("{name:?} is neither a DNS name nor an IP address; give names such as \"localhost\" or \"127.0.0.1\"")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// A key could not be made.
    #[error("cannot make a key and certificate: {reason}")]
    #[non_exhaustive]
    Generate {
        /// What failed.
        reason: String,
    },
    /// OpenSSL refused chain and key when a client or server was built with them.
    #[error("OpenSSL refuses the certificate or its key ({status}); are they a pair, of a kind that TLS 1.3 knows?")]
    #[non_exhaustive]
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
    #[non_exhaustive]
    InvalidCertificate {
        /// Its place among the certificates, from 0.
        index: usize,
        /// What is wrong with it, in webpki's words.
        reason: String,
    },
    /// The PEM is damaged.
    #[error("the CA's PEM is damaged: {reason}; export it again")]
    #[non_exhaustive]
    Pem {
        /// What is wrong with it.
        reason: String,
    },
    /// This system has no root certificates that could be read.
    #[error("no system root certificates ({reason}); install `ca-certificates`, or name a CA with `Trust::ca_pem`")]
    #[non_exhaustive]
    NoSystemRoots {
        /// What the system said.
        reason: String,
    },
}

pub(super) fn parse_server_name(name: &str) -> Result<ServerName<'_>, CertificateRefusal> {
    ServerName::try_from(name).map_err(|_| CertificateRefusal::InvalidServerName { name: name.to_owned() })
}

/// The name in webpki's rendering of a certificate's, `DnsName("server.test")` or
/// `IpAddress(192.0.2.1)`.
fn plain_name(rendered: &str) -> &str {
    ["DnsName(", "IpAddress("]
        .iter()
        .find_map(|prefix| rendered.strip_prefix(prefix)?.strip_suffix(')'))
        .map_or(rendered, |name| name.trim_matches('"'))
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
