//! Private keys: brings each container to PKCS#8, and checks that a key belongs to its certificate.

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair,
    },
};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::{
    der::{INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, element},
    error::IdentityError,
    public_key::{Algorithm, EC_PUBLIC_KEY, P256, P384, PublicKey, RSA_ENCRYPTION, RSASSA_PSS},
};

/// Brings `key` to PKCS#8 (RFC 5208) in its plainest form, which every TLS library reads.
///
/// RSA, P-256, P-384 and Ed25519 keys are checked against the public key. Others are left to
/// AWS-LC, which compares key and certificate itself when they are loaded.
///
/// # Errors
///
/// [`IdentityError::KeyMismatch`] if the key is not the certificate's,
/// [`IdentityError::UnsupportedKey`] if it is not what its container says.
pub(super) fn to_pkcs8(
    key: &PrivateKeyDer<'_>,
    public_key: &PublicKey<'_>,
) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let certified = &public_key.algorithm;
    let rsa_encryption;
    let (algorithm, octets) = match key {
        PrivateKeyDer::Pkcs8(key) => read_pkcs8(key.secret_pkcs8_der()).ok_or(IdentityError::UnsupportedKey)?,
        PrivateKeyDer::Pkcs1(key) => {
            rsa_encryption = element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[RSA_ENCRYPTION]), NULL]);
            let algorithm = Algorithm { identifier: RSA_ENCRYPTION, parameters: NULL, whole: &rsa_encryption };
            (algorithm, key.secret_pkcs1_der())
        }
        // The curve may be missing from the key itself; only the certificate's can be right.
        PrivateKeyDer::Sec1(key) if certified.identifier == EC_PUBLIC_KEY => (*certified, key.secret_sec1_der()),
        PrivateKeyDer::Sec1(_) => return Err(IdentityError::KeyMismatch),
        _ => return Err(IdentityError::UnsupportedKey),
    };
    if !belongs(&algorithm, octets, public_key).ok_or(IdentityError::UnsupportedKey)? {
        return Err(IdentityError::KeyMismatch);
    }
    Ok(element(SEQUENCE, &[VERSION_0, algorithm.whole, &element(OCTET_STRING, &[octets])]))
}

/// The algorithm and the key in a PKCS#8 PrivateKeyInfo, or in its successor OneAsymmetricKey (RFC
/// 5958).
fn read_pkcs8(der: &[u8]) -> Option<(Algorithm<'_>, &[u8])> {
    let mut info = Reader::new(Reader::only(der, SEQUENCE)?);
    info.take(INTEGER)?; // version
    let algorithm = Algorithm::read(&mut info)?;
    Some((algorithm, info.take(OCTET_STRING)?.contents))
}

/// Whether a private key belongs to a public key; `None` if the private key cannot be read.
fn belongs(algorithm: &Algorithm<'_>, octets: &[u8], public_key: &PublicKey<'_>) -> Option<bool> {
    let certified = &public_key.algorithm;
    let same_family = algorithm.identifier == certified.identifier
        // A certificate may restrict an ordinary RSA key to PSS signatures.
        || algorithm.identifier == RSA_ENCRYPTION && certified.identifier == RSASSA_PSS;
    if !same_family {
        return Some(false);
    }
    match certified.identifier {
        RSA_ENCRYPTION | RSASSA_PSS => {
            let mut private = Reader::new(Reader::only(octets, SEQUENCE)?);
            private.take(INTEGER)?; // version
            let private = [private.take(INTEGER)?.contents, private.take(INTEGER)?.contents];
            let mut public = Reader::new(Reader::only(public_key.bits, SEQUENCE)?);
            let public = [public.take(INTEGER)?.contents, public.take(INTEGER)?.contents];
            Some(private == public)
        }
        EC_PUBLIC_KEY => match certified.parameters {
            P256 => ec_belongs(&ECDSA_P256_SHA256_ASN1_SIGNING, octets, public_key.bits),
            P384 => ec_belongs(&ECDSA_P384_SHA384_ASN1_SIGNING, octets, public_key.bits),
            _ => Some(true),
        },
        ED25519 => {
            let seed = Reader::only(octets, OCTET_STRING)?;
            Some(Ed25519KeyPair::from_seed_and_public_key(seed, public_key.bits).is_ok())
        }
        _ => Some(true),
    }
}

/// Whether the ECPrivateKey (RFC 5915) in `octets` belongs to `point`; `None` if it cannot be read.
fn ec_belongs(curve: &'static EcdsaSigningAlgorithm, octets: &[u8], point: &[u8]) -> Option<bool> {
    const UNCOMPRESSED: u8 = 4;
    let mut private = Reader::new(Reader::only(octets, SEQUENCE)?);
    private.take(INTEGER)?; // version
    let scalar = private.take(OCTET_STRING)?.contents;
    if point.first() != Some(&UNCOMPRESSED) {
        return Some(true);
    }
    let pair = EcdsaKeyPair::from_private_key_and_public_key(curve, scalar, point, &SystemRandom::new());
    Some(pair.is_ok())
}

/// The version of PrivateKeyInfo.
const VERSION_0: &[u8] = &[INTEGER, 1, 0];
pub(super) const NULL: &[u8] = &[5, 0];
/// 1.3.101.112
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData};
    use rustls_pki_types::{PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

    use super::*;
    use crate::types::tls::der::BIT_STRING;

    fn public_key(info: &[u8]) -> PublicKey<'_> {
        PublicKey::read(Reader::new(info).take(SEQUENCE).unwrap()).unwrap()
    }

    fn pkcs8(pair: &KeyPair) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(pair.serialize_der()).into()
    }

    /// An RSA key of which only the parts that are looked at are real.
    fn rsa(modulus: &[u8]) -> (PrivateKeyDer<'static>, Vec<u8>) {
        let modulus = element(INTEGER, &[modulus]);
        let exponent: &[u8] = &[INTEGER, 3, 1, 0, 1];
        let private = element(SEQUENCE, &[VERSION_0, &modulus, exponent]).to_vec();
        let bits = element(BIT_STRING, &[&[0], &element(SEQUENCE, &[&modulus, exponent])]);
        let algorithm = element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[RSA_ENCRYPTION]), NULL]);
        let info = element(SEQUENCE, &[&algorithm, &bits]).to_vec();
        (PrivatePkcs1KeyDer::from(private).into(), info)
    }

    #[test]
    fn a_key_is_accepted_for_its_own_certificate_only() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let (own, other) = (KeyPair::generate_for(algorithm).unwrap(), KeyPair::generate_for(algorithm).unwrap());
            let info = own.subject_public_key_info();
            assert!(to_pkcs8(&pkcs8(&own), &public_key(&info)).is_ok());
            let error = to_pkcs8(&pkcs8(&other), &public_key(&info)).unwrap_err();
            assert!(matches!(error, IdentityError::KeyMismatch), "{error}");
        }
    }

    #[test]
    fn an_rsa_key_is_accepted_for_its_own_modulus_only() {
        let ((own, info), (other, _)) = (rsa(&[0x51, 7]), rsa(&[0x51, 9]));
        assert!(to_pkcs8(&own, &public_key(&info)).is_ok());
        assert!(matches!(to_pkcs8(&other, &public_key(&info)), Err(IdentityError::KeyMismatch)));
    }

    #[test]
    fn an_rsa_key_is_weak_below_2048_bits() {
        for (modulus, weak) in [
            (vec![0x80; 256], None),
            ([&[0], &[0x80; 256][..]].concat(), None),
            (vec![0x7f; 256], Some(2047)),
            ([&[0], &[0xff; 128][..]].concat(), Some(1024)),
            (vec![0], Some(0)),
        ] {
            assert_eq!(public_key(&rsa(&modulus).1).weak_rsa_bits(), weak);
        }
        assert_eq!(public_key(&KeyPair::generate().unwrap().subject_public_key_info()).weak_rsa_bits(), None);
    }

    #[test]
    fn a_key_of_another_kind_does_not_match() {
        let (rsa_key, rsa_info) = rsa(&[0x51, 7]);
        let pair = KeyPair::generate().unwrap();
        let ec_info = pair.subject_public_key_info();
        assert!(matches!(to_pkcs8(&rsa_key, &public_key(&ec_info)), Err(IdentityError::KeyMismatch)));
        assert!(matches!(to_pkcs8(&pkcs8(&pair), &public_key(&rsa_info)), Err(IdentityError::KeyMismatch)));
    }

    #[test]
    fn a_sec1_key_becomes_the_same_pkcs8_key() {
        let pair = KeyPair::generate().unwrap();
        let info = pair.subject_public_key_info();
        let whole = pair.serialize_der();
        let (_, octets) = read_pkcs8(&whole).unwrap();
        let sec1 = PrivateSec1KeyDer::from(octets.to_vec()).into();
        let from_sec1 = to_pkcs8(&sec1, &public_key(&info)).unwrap();
        assert_eq!(from_sec1, to_pkcs8(&pkcs8(&pair), &public_key(&info)).unwrap());
        assert!(KeyPair::try_from(from_sec1.as_slice()).is_ok());
    }

    #[test]
    fn a_key_that_cannot_be_read_says_so() {
        let info = KeyPair::generate().unwrap().subject_public_key_info();
        let keys: [PrivateKeyDer<'static>; 2] =
            [PrivatePkcs8KeyDer::from(vec![1, 2, 3]).into(), PrivateSec1KeyDer::from(vec![]).into()];
        for key in keys {
            assert!(matches!(to_pkcs8(&key, &public_key(&info)), Err(IdentityError::UnsupportedKey)));
        }
    }

    #[test]
    fn damaged_keys_never_panic() {
        let pair = KeyPair::generate().unwrap();
        let info = pair.subject_public_key_info();
        let whole = pair.serialize_der();
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x55;
            let _ = to_pkcs8(&PrivatePkcs8KeyDer::from(damaged).into(), &public_key(&info));
            let _ = to_pkcs8(&PrivatePkcs8KeyDer::from(whole[..position].to_vec()).into(), &public_key(&info));
        }
    }
}
