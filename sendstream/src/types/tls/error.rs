//! Why a peer is not believed, and what is wrong with an identity or with roots of trust.

use std::{fmt, io, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

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
    /// The server's certificate has no name: no subject alternative name of a host. What stands in
    /// its common name does not count (RFC 9525 §2).
    #[error(
        "the server's certificate has no subject alternative name, and a common name does not count; make one with \
         `-addext subjectAltName={}`, or `Trust::pinned` its hash",
        AlternativeName(.name)
    )]
    NoNames {
        /// The name that was asked for.
        name: String,
    },
    /// The peer's certificate is for another purpose than its side of the connection (RFC 5280
    /// §4.2.1.12).
    #[error(
        "the peer's certificate is not meant for a {} but for [{}]; issue it with `extendedKeyUsage={}`, or without any",
        if *.usage == "serverAuth" { "server" } else { "client" },
        .purposes.join(", "),
        .usage
    )]
    #[non_exhaustive]
    WrongUsage {
        /// The purpose that it lacks: `serverAuth` or `clientAuth`.
        usage: &'static str,
        /// Those that it has, by their names or object identifiers.
        purposes: Vec<String>,
    },
    /// The peer's certificate, or an issuer's, is of an old version of X.509, which has no extensions:
    /// no names, and no way to tell an authority's from others.
    #[error(
        "the peer's certificate, or an issuer's, is of X.509 version 1, as `openssl x509 -req` makes it without \
         extensions; issue it with `-copy_extensions copy` or `-extfile FILE`, or `Trust::pinned` its hash"
    )]
    OldVersion,
    /// The peer's certificate, or an issuer's, is signed by a kind of key, or with a hash, that is not
    /// taken.
    #[error(
        "the peer's certificate, or an issuer's, is signed by a kind of key or with a hash that is not supported, such \
         as P-521 or SHA-1; give the CA a P-256, P-384 or Ed25519 key, or RSA of 2048 bits or more, or `Trust::pinned` \
         the peer's hash"
    )]
    UnsupportedSignature,
    /// The peer's certificate, or an issuer's, names an authority that is believed, and was signed by
    /// another key than that authority's.
    #[error(
        "the peer's certificate, or an issuer's, is signed by another key than that of the CA of the same name in the \
         trust; was the CA made anew? Then give `Trust::ca_pem` its present certificate"
    )]
    ForeignSignature,
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
            | Self::NoNames { .. }
            | Self::WrongUsage { .. }
            | Self::OldVersion
            | Self::AuthorityAsPeer
            | Self::WeakKey { .. }
            | Self::ForeignSignature
            | Self::Unacceptable { .. } => alert::BAD_CERTIFICATE,
            Self::UnsupportedSignature => alert::UNSUPPORTED_CERTIFICATE,
            Self::ByVerifier { alert, .. } => *alert,
            Self::VerifierPanicked => alert::INTERNAL_ERROR,
        }
    }

    /// What webpki says of a certificate that is to be for `usage`.
    pub(super) fn from_webpki(error: webpki::Error, usage: &'static str) -> Self {
        match error {
            webpki::Error::CertNotValidForName(context) if context.presented.is_empty() => {
                Self::NoNames { name: context.expected.to_str().into_owned() }
            }
            webpki::Error::CertNotValidForName(context) => Self::NameMismatch {
                name: context.expected.to_str().into_owned(),
                certified: context.presented.iter().map(|name| plain_name(name).to_owned()).collect(),
            },
            webpki::Error::UnknownIssuer => Self::UnknownIssuer,
            webpki::Error::CertExpired { .. } => Self::Expired,
            webpki::Error::CertNotValidYet { .. } => Self::NotYetValid,
            webpki::Error::CaUsedAsEndEntity => Self::AuthorityAsPeer,
            webpki::Error::RequiredEkuNotFoundContext(context) => {
                Self::WrongUsage { usage, purposes: context.present.iter().map(|oid| purpose(oid)).collect() }
            }
            webpki::Error::InvalidSignatureForPublicKey => Self::ForeignSignature,
            webpki::Error::UnsupportedCertVersion => Self::OldVersion,
            webpki::Error::UnsupportedSignatureAlgorithmContext(_)
            | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Self::UnsupportedSignature,
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
    /// Where the certificate belongs there is a private key, and the other way round.
    #[error("certificate and key are swapped; give the certificate first, and then its private key")]
    Swapped,
    /// What was given as PEM is DER.
    #[error(
        "this is DER and not PEM; give it to `Identity::from_der`, or convert it with `openssl x509 -inform DER` or \
         `openssl pkey -inform DER`"
    )]
    Der,
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
    /// The certificate has a key usage, and it leaves out the signatures that TLS wants of the key (RFC
    /// 5280 §4.2.1.3, RFC 8446 §4.4.2.2). Peers refuse such a certificate.
    #[error("the certificate's key usage has no digitalSignature; have it issued with that, or without a key usage")]
    MayNotSign,
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
    /// AWS-LC refused chain and key when a client or server was built with them.
    #[error("AWS-LC refuses the certificate or its key ({status}); are they a pair, of a kind that TLS 1.3 knows?")]
    #[non_exhaustive]
    Rejected {
        /// MsQuic's word for it.
        status: NativeError,
    },
}

impl From<CertificateRefusal> for io::Error {
    fn from(error: CertificateRefusal) -> Self {
        let kind = match error {
            CertificateRefusal::InvalidServerName { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}

impl From<IdentityError> for io::Error {
    fn from(error: IdentityError) -> Self {
        let kind = match &error {
            IdentityError::ReadFile { source, .. } => source.kind(),
            IdentityError::Generate { .. } => io::ErrorKind::Other,
            IdentityError::InvalidName { .. } | IdentityError::ValidityOutOfRange { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

impl From<TrustError> for io::Error {
    fn from(error: TrustError) -> Self {
        let kind = match error {
            TrustError::NoSystemRoots { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
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
    /// Each of the certificates is of an authority with a kind of key whose signatures are not
    /// supported.
    #[error(
        "the CA has a kind of key that is not supported, such as P-521; give it a P-256, P-384 or Ed25519 key, or RSA of \
         2048 bits or more, or pin its peers with `Trust::pinned`"
    )]
    UnsupportedKey,
    /// What was given as PEM has a private key, and no certificate.
    #[error("this is a private key, which stays with the CA; give the CA's certificate")]
    PrivateKey,
    /// What was given as PEM is DER.
    #[error("this is DER and not PEM; give it to `Trust::ca_der`, or convert it with `openssl x509 -inform DER`")]
    Der,
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

/// A host's name as OpenSSL takes it for a certificate's extension.
struct AlternativeName<'a>(&'a str);

impl fmt::Display for AlternativeName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.0.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
        write!(f, "{kind}:{}", self.0)
    }
}

/// What a certificate is meant for (RFC 5280 §4.2.1.12), by OpenSSL's name or else by number.
fn purpose(identifier: &[usize]) -> String {
    match identifier {
        [1, 3, 6, 1, 5, 5, 7, 3, 1] => "serverAuth".to_owned(),
        [1, 3, 6, 1, 5, 5, 7, 3, 2] => "clientAuth".to_owned(),
        [1, 3, 6, 1, 5, 5, 7, 3, 3] => "codeSigning".to_owned(),
        [1, 3, 6, 1, 5, 5, 7, 3, 4] => "emailProtection".to_owned(),
        other => other.iter().map(ToString::to_string).collect::<Vec<_>>().join("."),
    }
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
    pub(super) const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub(super) const CERTIFICATE_EXPIRED: u8 = 45;
    pub(super) const CERTIFICATE_UNKNOWN: u8 = 46;
    pub(super) const UNKNOWN_CA: u8 = 48;
    pub(super) const INTERNAL_ERROR: u8 = 80;
    pub(super) const CERTIFICATE_REQUIRED: u8 = 116;
}
