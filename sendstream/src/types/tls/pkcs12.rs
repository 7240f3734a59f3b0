//! Writes the PKCS#12 archive (RFC 7292) in which MsQuic takes a certificate and its key from
//! memory.
//!
//! The archive goes from this process's memory to the TLS library's, in this process's memory, so it
//! is not encrypted: a password that stands beside it would protect nothing. AWS-LC wants a MAC all the
//! same. It is of no password, and keeps nobody out.

use ring::{digest, hmac};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::der::{CONTEXT_0, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, element};
use super::key::NULL;

/// The archive of a PKCS#8 private key and a certificate chain, the key's own certificate first.
///
/// The order inside is not the chain's: MsQuic takes the certificate that fits the key, and then the
/// others from the back. So they stand here back to front, and go over the wire as RFC 8446 §4.4.2 wants them,
/// each certified by the next.
pub(super) fn encode(pkcs8: &[u8], chain: &[CertificateDer<'_>]) -> Zeroizing<Vec<u8>> {
    let key_bag = element(SEQUENCE, &[&object(KEY_BAG), &element(CONTEXT_0, &[pkcs8])]);
    let (leaf, issuers) = chain.split_first().map_or((None, chain), |(leaf, issuers)| (Some(leaf), issuers));
    let certificate_bags: Vec<_> =
        leaf.into_iter().chain(issuers.iter().rev()).map(|certificate| certificate_bag(certificate)).collect();

    let bags: Vec<&[u8]> = std::iter::once(&key_bag).chain(&certificate_bags).map(|bag| bag.as_slice()).collect();
    let safe_contents = element(SEQUENCE, &bags);
    let authenticated_safe = element(SEQUENCE, &[&data(&safe_contents)]);
    element(SEQUENCE, &[VERSION_3, &data(&authenticated_safe), &mac(&authenticated_safe)])
}

/// MacData (RFC 7292 §4) of no password, by HMAC with SHA-256.
fn mac(authenticated_safe: &[u8]) -> Zeroizing<Vec<u8>> {
    // The key of appendix B.2, of one iteration: a hash of the number of its purpose, which is 3, and of
    // the salt, each repeated to the length of a block.
    let key = digest::digest(&digest::SHA256, &[[3; SHA_256_BLOCK], [SALT; SHA_256_BLOCK]].concat());
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), authenticated_safe);
    let algorithm = element(SEQUENCE, &[&object(SHA_256), NULL]);
    let digest_info = element(SEQUENCE, &[&algorithm, &element(OCTET_STRING, &[tag.as_ref()])]);
    element(SEQUENCE, &[&digest_info, &element(OCTET_STRING, &[&[SALT; 8]])])
}

/// A SafeBag with one X.509 certificate (RFC 7292 §4.2.3).
fn certificate_bag(certificate: &[u8]) -> Zeroizing<Vec<u8>> {
    let value = element(CONTEXT_0, &[&element(OCTET_STRING, &[certificate])]);
    let bag = element(SEQUENCE, &[&object(X509_CERTIFICATE), &value]);
    element(SEQUENCE, &[&object(CERTIFICATE_BAG), &element(CONTEXT_0, &[&bag])])
}

/// A ContentInfo of plain data (RFC 2315 §7, §8).
fn data(contents: &[u8]) -> Zeroizing<Vec<u8>> {
    let octets = element(OCTET_STRING, &[contents]);
    element(SEQUENCE, &[&object(DATA), &element(CONTEXT_0, &[&octets])])
}

fn object(identifier: &[u8]) -> Zeroizing<Vec<u8>> {
    element(OBJECT_IDENTIFIER, &[identifier])
}

/// The version of PFX.
const VERSION_3: &[u8] = &[INTEGER, 1, 3];
/// Each byte of the MAC's salt, which hides nothing.
const SALT: u8 = 0;
/// The bytes that SHA-256 takes at a time.
const SHA_256_BLOCK: usize = 64;
/// 2.16.840.1.101.3.4.2.1
const SHA_256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.12.10.1.1
const KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x01];
/// 1.2.840.113549.1.12.10.1.3
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
/// 1.2.840.113549.1.9.22.1
const X509_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_stand_back_to_front_behind_the_leaf() {
        let chain = [&b"leaf"[..], b"issuer", b"its issuer"].map(CertificateDer::from);
        let archive = encode(b"key", &chain);
        let position = |needle: &[u8]| archive.windows(needle.len()).position(|window| window == needle).unwrap();
        let order = [&b"key"[..], b"leaf", b"its issuer"].map(position);
        assert!(order.is_sorted());
        let last_issuer = archive.windows(6).rposition(|window| window == b"issuer").unwrap();
        assert!(last_issuer > order[2] + b"its issuer".len());
    }
}
