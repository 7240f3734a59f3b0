//! Public keys, as certificates have them.

use rustls_pki_types::CertificateDer;

use super::der::{BIT_STRING, BOOLEAN, CONTEXT_0, Element, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE};

/// A certificate's public key (RFC 5280 §4.1.2.7).
pub(super) struct PublicKey<'a> {
    /// The whole SubjectPublicKeyInfo.
    pub(super) info: &'a [u8],
    pub(super) algorithm: Algorithm<'a>,
    /// The key's bits: an RSAPublicKey, a point, or raw bytes, as the algorithm has it.
    pub(super) bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// The public key of an X.509 certificate; `None` if that is not one.
    pub(super) fn of_certificate(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        Self::of_certificate_with_rest(certificate).map(|(key, _)| key)
    }

    /// Also what comes after it in the certificate.
    fn of_certificate_with_rest(certificate: &'a CertificateDer<'_>) -> Option<(Self, Reader<'a>)> {
        let mut certificate = Reader::new(Reader::only(certificate, SEQUENCE)?);
        let mut to_be_signed = certificate.enter(SEQUENCE)?;
        to_be_signed.skip_optional(CONTEXT_0)?; // version
        to_be_signed.take(INTEGER)?; // serial number
        to_be_signed.take(SEQUENCE)?; // signature algorithm
        to_be_signed.take(SEQUENCE)?; // issuer
        to_be_signed.take(SEQUENCE)?; // validity
        to_be_signed.take(SEQUENCE)?; // subject
        Some((Self::read(to_be_signed.take(SEQUENCE)?)?, to_be_signed))
    }

    pub(super) fn read(info: Element<'a>) -> Option<Self> {
        let mut fields = Reader::new(info.contents);
        let algorithm = Algorithm::read(&mut fields)?;
        // The first byte counts the unused bits at the end: always 0 for a key.
        let (&0, bits) = fields.take(BIT_STRING)?.contents.split_first()? else { return None };
        Some(Self { info: info.whole, algorithm, bits })
    }

    /// Whether signatures by this key can be checked, as far as that is a matter of its curve: of
    /// those of RFC 5480 P-256 and P-384 are taken.
    pub(super) fn is_on_supported_curve(&self) -> bool {
        self.algorithm.identifier != EC_PUBLIC_KEY || [P256, P384].contains(&self.algorithm.parameters)
    }

    /// How many bits an RSA key has that is too short to be relied on: fewer than the 2048 of NIST
    /// SP 800-131A. Other kinds of key that TLS 1.3 takes are strong enough. A key that cannot be
    /// read has none.
    pub(super) fn weak_rsa_bits(&self) -> Option<usize> {
        if ![RSA_ENCRYPTION, RSASSA_PSS].contains(&self.algorithm.identifier) {
            return None;
        }
        let modulus = || Reader::new(Reader::only(self.bits, SEQUENCE)?).take(INTEGER).map(|element| element.contents);
        let modulus = modulus().unwrap_or_default();
        let digits = &modulus[modulus.iter().take_while(|byte| **byte == 0).count()..];
        let bits = digits.first().map_or(0, |first| 8 * digits.len() - first.leading_zeros() as usize);
        (bits < 2048).then_some(bits)
    }
}

/// Whether a certificate lets its key make signatures, as TLS has it do: its key usage says so, or it
/// has none (RFC 5280 §4.2.1.3).
pub(super) fn may_sign(certificate: &CertificateDer<'_>) -> bool {
    key_usage(certificate).is_none_or(|usage| usage & DIGITAL_SIGNATURE != 0)
}

/// The first eight bits of the key usage.
fn key_usage(certificate: &CertificateDer<'_>) -> Option<u8> {
    let (_, mut rest) = PublicKey::of_certificate_with_rest(certificate)?;
    let tagged = std::iter::from_fn(|| rest.next()).find(|field| field.tag == EXTENSIONS)?;
    let mut extensions = Reader::new(Reader::only(tagged.contents, SEQUENCE)?);
    while let Some(mut extension) = extensions.enter(SEQUENCE) {
        if extension.take(OBJECT_IDENTIFIER)?.contents == KEY_USAGE {
            extension.skip_optional(BOOLEAN)?; // critical
            let bits = Reader::only(extension.take(OCTET_STRING)?.contents, BIT_STRING)?;
            return Some(bits.get(1).copied().unwrap_or(0));
        }
    }
    None
}

const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.15
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const DIGITAL_SIGNATURE: u8 = 0x80;

/// An AlgorithmIdentifier (RFC 5280 §4.1.1.2).
#[derive(Clone, Copy)]
pub(super) struct Algorithm<'a> {
    /// The contents of the object identifier.
    pub(super) identifier: &'a [u8],
    /// What follows it, headers included.
    pub(super) parameters: &'a [u8],
    pub(super) whole: &'a [u8],
}

impl<'a> Algorithm<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let element = reader.take(SEQUENCE)?;
        let mut fields = Reader::new(element.contents);
        let identifier = fields.take(OBJECT_IDENTIFIER)?;
        let parameters = &element.contents[identifier.whole.len()..];
        Some(Self { identifier: identifier.contents, parameters, whole: element.whole })
    }
}

/// 1.2.840.10045.2.1
pub(super) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// 1.2.840.10045.3.1.7, as parameters
pub(super) const P256: &[u8] = &[OBJECT_IDENTIFIER, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// 1.3.132.0.34, as parameters
pub(super) const P384: &[u8] = &[OBJECT_IDENTIFIER, 5, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// 1.2.840.113549.1.1.1
pub(super) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.113549.1.1.10
pub(super) const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
