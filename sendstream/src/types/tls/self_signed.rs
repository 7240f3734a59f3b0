//! Identities that nobody else vouches for: [`Identity::self_signed`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use zeroize::Zeroize;

use super::{error::IdentityError, identity::Identity};

/// With the feature `self-signed`, which is on by default.
impl Identity {
    /// Makes a new ECDSA P-256 key and a certificate for it that it signs itself.
    ///
    /// `names` are the DNS names and IP addresses that the certificate is for. No authority vouches
    /// for it: clients pin it ([`Trust::pinned`](crate::Trust::pinned)) by
    /// [`Identity::certificate_sha256`], which is a new one with every call. It has no end that a
    /// process could live to see. For browsers, which want one, there is
    /// [`self_signed_for`](Self::self_signed_for).
    ///
    /// # Errors
    ///
    /// [`IdentityError::InvalidName`] for a name that cannot stand in a certificate,
    /// [`IdentityError::Generate`] if the system has no randomness to give.
    pub fn self_signed(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, IdentityError> {
        Self::generate(names, rcgen::CertificateParams::default())
    }

    /// As [`Identity::self_signed`], with a certificate that is valid for so long: at least a second, up
    /// to the end of the year 9999 (RFC 5280 §4.1.2.5). A fraction of a second is cut off.
    ///
    /// Browsers take the [hash](Self::certificate_sha256) of such a certificate in place of an
    /// authority's word, for WebTransport (`serverCertificateHashes`), if it is valid for at most 14
    /// days. A server that lives longer than that binds anew with a new one, whose hash its page
    /// gives out from then on.
    ///
    /// The validity begins an hour before now, or a tenth of itself if that is less, so that peers whose
    /// clocks are behind believe the certificate at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sendstream::Identity;
    ///
    /// let identity = Identity::self_signed_for(["localhost"], Duration::from_secs(14 * 24 * 3600))?;
    /// let hash = identity.certificate_sha256(); // for `{ algorithm: "sha-256", value: ... }`
    /// assert_eq!(hash.as_ref().len(), 32);
    /// # Ok::<(), sendstream::IdentityError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`IdentityError::ValidityOutOfRange`] for another validity, or as [`Identity::self_signed`].
    pub fn self_signed_for(
        names: impl IntoIterator<Item = impl Into<String>>,
        validity: Duration,
    ) -> Result<Self, IdentityError> {
        // A clock before 1970 knows no time for a certificate.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (begin, end) = bounds(now, validity).ok_or(IdentityError::ValidityOutOfRange { validity })?;
        let mut parameters = rcgen::CertificateParams::default();
        parameters.not_before = (UNIX_EPOCH + begin).into();
        parameters.not_after = (UNIX_EPOCH + end).into();
        Self::generate(names, parameters)
    }

    /// A new key, and a certificate with these parameters that it signs itself.
    fn generate(
        names: impl IntoIterator<Item = impl Into<String>>,
        mut parameters: rcgen::CertificateParams,
    ) -> Result<Self, IdentityError> {
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
}

/// When a certificate of this validity begins and ends, if that can be: in whole seconds since 1970, as
/// `now` is.
pub(super) fn bounds(now: Duration, validity: Duration) -> Option<(Duration, Duration)> {
    let validity = Duration::from_secs(validity.as_secs());
    let begin = Duration::from_secs(now.saturating_sub(CLOCKS_BEHIND.min(validity / 10)).as_secs());
    let end = begin.checked_add(validity)?;
    (!validity.is_zero() && end <= LAST_SECOND).then_some((begin, end))
}

/// How far behind the clocks of peers may be.
const CLOCKS_BEHIND: Duration = Duration::from_secs(3600);

/// The last second of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);
