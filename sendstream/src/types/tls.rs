//! Who this side is, and whom it believes: certificates, keys and trust.
//!
//! # What MsQuic does not do
//!
//! On AWS-LC, MsQuic validates no certificate. On an installed MsQuic's OpenSSL its validation of a
//! server is not one to rely on, as its `platform/tls_openssl.c` shows:
//!
//! - It checks the certificate chain and never the **name**: any certificate of a trusted authority
//!   would pass for any host.
//! - It always begins with OpenSSL's default roots (`SSL_CTX_set_default_verify_paths`); a CA file
//!   adds to them. There is no way to believe one private authority alone.
//! - Where those defaults lie is a path compiled into OpenSSL, which for a linked-in one is no
//!   system's real store.
//!
//! So both sides have MsQuic validate nothing and report the peer's certificates instead.
//! [`Trust::verify_server`] and [`Trust::verify_client`] then judge chain, name, validity and
//! purpose with `rustls-webpki` inside the handshake, before any application sees data. That the
//! peer holds the key of its certificate remains the TLS library's to check, which it does in any case
//! (RFC 8446 §4.4.3).
//!
//! A server that validates nothing does not insist on a client's certificate either: the handler is
//! asked once more, with no certificate, and must refuse.
//!
//! # How a key reaches TLS
//!
//! In memory: as a PKCS#12 archive that is built once per [`Identity`], zeroed when dropped, and
//! never in a file.

pub(crate) mod der;
mod encrypted;
pub(crate) mod error;
mod hash;
mod identity;
mod key;
mod peer;
mod pem;
mod pkcs12;
mod pkcs7;
mod public_key;
#[cfg(feature = "self-signed")]
mod self_signed;
mod trust;

pub use error::{CertificateRefusal, IdentityError, TrustError};
pub use hash::{CertificateHash, ParseCertificateHashError, ParsePublicKeyHashError, PublicKeyHash};
pub use identity::Identity;
pub(crate) use peer::Verdict;
pub use peer::{PeerCertificate, PeerIdentity};
pub use trust::{ClientAuth, Trust};

#[cfg(all(test, feature = "self-signed"))]
mod tests;
