use std::{fs, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{der::Reader, self_signed::bounds, *};

/// A private authority and what it issues.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self(CertifiedIssuer::self_signed(authority_parameters("root"), KeyPair::generate().unwrap()).unwrap())
    }

    /// An authority that this one vouches for.
    fn intermediate(&self) -> Self {
        let parameters = authority_parameters("intermediate");
        Self(CertifiedIssuer::signed_by(parameters, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn trust(&self) -> Trust {
        Trust::ca_der([self.certificate()]).unwrap()
    }

    fn issue(&self, name: &str) -> CertificateDer<'static> {
        self.issue_with(name, |_| ())
    }

    fn issue_with(&self, name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        adjust(&mut parameters);
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        parameters.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().into()
    }
}

fn authority_parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
}

/// What the event of MsQuic carries beside the certificate.
fn chain(certificates: &[&CertificateDer<'_>]) -> Vec<u8> {
    pkcs7::encode(&certificates.iter().map(|certificate| certificate.as_ref()).collect::<Vec<_>>())
}

/// A pair in PEM, as a user has it in files.
fn pem_pair() -> (String, String) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (pair.cert.pem(), pair.signing_key.serialize_pem())
}

mod identity {
    use super::*;

    #[test]
    fn two_self_signed_identities_differ() {
        let (first, second) = (Identity::self_signed(["localhost"]), Identity::self_signed(["localhost"]));
        assert_ne!(first.unwrap().certificate_sha256(), second.unwrap().certificate_sha256());
    }

    #[test]
    fn a_validity_has_whole_seconds_and_begins_a_little_before_now() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let now = Duration::new(1_800_000_000, 5);
        let in_seconds = |validity| bounds(now, validity).map(|(begin, end)| (begin.as_secs(), end.as_secs()));
        let from = |begin: u64, length: u64| Some((begin, begin + length));
        assert_eq!(in_seconds(14 * DAY), from(1_800_000_000 - 3600, 14 * 24 * 3600));
        assert_eq!(in_seconds(Duration::from_millis(100_900)), from(1_800_000_000 - 10, 100));
        assert_eq!(in_seconds(Duration::from_secs(1)), from(1_799_999_999, 1));
        let longest = 253_402_300_799 - (1_800_000_000 - 3600);
        assert_eq!(in_seconds(Duration::from_secs(longest)), from(1_800_000_000 - 3600, longest));
        assert_eq!(in_seconds(Duration::from_secs(longest + 1)), None);
        for validity in [Duration::ZERO, Duration::from_millis(999), Duration::MAX, 8000 * 366 * DAY] {
            assert_eq!(in_seconds(validity), None);
            let error = Identity::self_signed_for(["localhost"], validity).unwrap_err();
            assert!(matches!(error, IdentityError::ValidityOutOfRange { validity: refused } if refused == validity));
        }
    }

    #[test]
    fn a_certificate_with_a_validity_has_it_and_a_key_for_browsers() {
        let identity = Identity::self_signed_for(["localhost"], Duration::from_secs(14 * 24 * 3600)).unwrap();
        let whole = Reader::only(identity.certificate(), der::SEQUENCE).unwrap();
        let mut fields = Reader::new(Reader::new(whole).take(der::SEQUENCE).unwrap().contents);
        for tag in [0xa0, der::INTEGER, der::SEQUENCE, der::SEQUENCE] {
            fields.take(tag).unwrap(); // version, serial number, signature algorithm, issuer
        }
        let mut validity = Reader::new(fields.take(der::SEQUENCE).unwrap().contents);
        const UTC_TIME: u8 = 0x17;
        let [begin, end] = [(); 2].map(|()| validity.take(UTC_TIME).unwrap().contents.to_vec());
        let seconds = |time: &[u8]| {
            let digits = std::str::from_utf8(time).unwrap().strip_suffix('Z').unwrap();
            let part = |at: usize| digits[at..at + 2].parse::<u16>().unwrap();
            let date = date_time_ymd(2000 + i32::from(part(0)), part(2) as u8, part(4) as u8).unix_timestamp();
            date + i64::from(part(6)) * 3600 + i64::from(part(8)) * 60 + i64::from(part(10))
        };
        assert_eq!(seconds(&end) - seconds(&begin), 14 * 24 * 3600, "{begin:?} to {end:?}");
        // prime256v1, of RFC 5480 section 2.1.1.1.
        const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        assert!(identity.certificate().windows(P256.len()).any(|window| window == P256));
    }

    #[test]
    fn a_name_that_cannot_stand_in_a_certificate_is_refused() {
        for name in ["", "two words", "nul\0", "ümlaut", "-"] {
            let error = Identity::self_signed([name]).unwrap_err();
            assert!(matches!(&error, IdentityError::InvalidName { name: refused } if refused == name), "{error}");
        }
    }

    #[test]
    fn pem_and_der_and_files_give_the_same_identity() {
        let (cert, key) = pem_pair();
        let from_pem = Identity::from_pem(&cert, &key).unwrap();

        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let from_der = Identity::from_der(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
        assert_eq!(from_der.pkcs12(), from_pem.pkcs12());

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("both.pem");
        fs::write(&path, key + &cert).unwrap();
        assert_eq!(Identity::from_files(&path, &path).unwrap().pkcs12(), from_pem.pkcs12());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Identity::from_files("/does/not/exist.pem", "/nor/this").unwrap_err();
        assert!(matches!(&error, IdentityError::ReadFile { path, .. } if path == Path::new("/does/not/exist.pem")));
        assert!(error.to_string().starts_with("cannot read /does/not/exist.pem: "), "{error}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let ((cert, _), (_, key)) = (pem_pair(), pem_pair());
        assert!(matches!(Identity::from_pem(cert, key), Err(IdentityError::KeyMismatch)));
    }

    #[test]
    fn swapped_or_empty_pem_says_what_is_missing() {
        let (cert, key) = pem_pair();
        assert!(matches!(Identity::from_pem(&cert, &cert), Err(IdentityError::NoPrivateKey)));
        assert!(matches!(Identity::from_pem(&key, &key), Err(IdentityError::NoCertificate)));
        assert!(matches!(Identity::from_pem("", ""), Err(IdentityError::NoPrivateKey)));
        assert!(matches!(Identity::from_pem(cert.replace("END", "NED"), &key), Err(IdentityError::Pem { .. })));
    }

    #[test]
    fn an_encrypted_key_is_told_from_a_missing_one() {
        let (cert, _) = pem_pair();
        let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMAA=\n\
                     -----END RSA PRIVATE KEY-----\n";
        for key in [pkcs8, older] {
            assert!(matches!(Identity::from_pem(&cert, key), Err(IdentityError::EncryptedKey)));
        }
    }

    #[test]
    fn an_encrypted_key_needs_its_passphrase() {
        for pem in [
            include_str!("../../../tests/data/encrypted_pbkdf2.pem"),
            include_str!("../../../tests/data/encrypted_scrypt.pem"),
        ] {
            let identity = Identity::from_pem_encrypted(pem, pem, "correct horse").unwrap();
            // What openssl says of it.
            let key = "2df9c25655fdc4ddb850697962adc69e7f124837df95baa94ec3dec82d8bdc1f";
            assert_eq!(identity.public_key_sha256().to_string(), key);
            for wrong in ["", "Correct horse", "correct horse "] {
                let error = Identity::from_pem_encrypted(pem, pem, wrong).unwrap_err();
                // Once in 256 times garbage has a padding, and once in a while more than that.
                assert!(matches!(error, IdentityError::WrongPassphrase | IdentityError::UnsupportedKey), "{error}");
            }
            assert!(matches!(Identity::from_pem(pem, pem), Err(IdentityError::EncryptedKey)));
            let damaged = pem.replacen("-----END ENCRYPTED", "=\n-----END ENCRYPTED", 1);
            let error = Identity::from_pem_encrypted(pem, damaged, "correct horse").unwrap_err();
            assert!(matches!(error, IdentityError::Pem { .. }), "{error}");
            let mismatched = Identity::from_pem_encrypted(pem_pair().0, pem, "correct horse");
            assert!(matches!(mismatched, Err(IdentityError::KeyMismatch)));
        }
    }

    #[test]
    fn an_encryption_that_is_too_old_says_how_to_renew_it() {
        for key in [
            include_str!("../../../tests/data/encrypted_pkcs5v1.pem"),
            include_str!("../../../tests/data/encrypted_old.pem"),
        ] {
            let error = Identity::from_pem_encrypted(pem_pair().0, key, "correct horse").unwrap_err();
            assert!(matches!(error, IdentityError::UnsupportedEncryption), "{error}");
            assert!(error.to_string().contains("openssl pkcs8 -topk8"), "{error}");
        }
        let (cert, key) = pem_pair();
        assert!(matches!(Identity::from_pem_encrypted(cert, key, ""), Err(IdentityError::NoPrivateKey)));
    }

    #[test]
    fn a_weak_key_makes_no_identity() {
        let pem = include_str!("../../../tests/data/weak_rsa.pem");
        assert!(matches!(Identity::from_pem(pem, pem), Err(IdentityError::WeakKey { bits: 1024 })));
    }

    #[test]
    fn a_certificate_whose_key_may_not_sign_makes_no_identity() {
        use rcgen::KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign};
        for (usages, may_sign) in [
            (vec![], true),
            (vec![DigitalSignature], true),
            (vec![KeyCertSign, DigitalSignature], true),
            (vec![KeyCertSign, CrlSign], false),
        ] {
            let pair = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::default();
            parameters.key_usages = usages.clone();
            let certificate = parameters.self_signed(&pair).unwrap();
            match Identity::from_pem(certificate.pem(), pair.serialize_pem()) {
                Ok(_) => assert!(may_sign, "{usages:?}"),
                Err(IdentityError::MayNotSign) => assert!(!may_sign, "{usages:?}"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_damaged_certificate_is_named_by_its_place() {
        let (cert, key) = pem_pair();
        let certificate = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        for index in [0, 1] {
            let mut chain = vec![certificate.clone(); 2];
            chain[index] = CertificateDer::from(vec![0x30, 0]);
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let error = Identity::from_der(chain, key).unwrap_err();
            assert!(matches!(error, IdentityError::InvalidCertificate { index: refused } if refused == index));
        }
    }

    #[test]
    fn debug_shows_the_hash_and_not_the_key() {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let shown = format!("{identity:?}");
        assert_eq!(
            shown,
            format!("Identity {{ certificate_sha256: CertificateHash({}), .. }}", identity.certificate_sha256())
        );
    }
}

mod certificate_hash {
    use super::*;

    #[test]
    fn it_is_the_sha256_of_the_der() {
        let hash = CertificateHash::of(&CertificateDer::from(&b"abc"[..]));
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn what_it_writes_and_what_openssl_prints_is_read() {
        let hash = CertificateHash::from(std::array::from_fn(|index| index as u8 * 7));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        let with_colons: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(with_colons.join(":").parse(), Ok(hash));
    }

    #[test]
    fn other_text_is_refused() {
        let digits = "0".repeat(64);
        let colons = vec!["00"; 32].join(":");
        let refused = [
            String::new(),
            digits[1..].to_owned(),
            format!("{digits}0"),
            format!("{}g", &digits[1..]),
            format!("{}ü", &digits[2..]),
            format!("{}é{}", &colons[..3], &colons[5..]),
            colons.replacen(':', "-", 1),
            format!("{colons}:"),
        ];
        for text in refused {
            assert_eq!(text.parse::<CertificateHash>(), Err(ParseCertificateHashError), "{text}");
        }
    }
}

mod trust {
    use super::*;

    #[test]
    fn a_pinned_certificate_needs_no_name_and_no_issuer() {
        let identity = Identity::self_signed(["elsewhere"]).unwrap();
        let trust = Trust::pinned([identity.certificate_sha256()]);
        assert_eq!(trust.verify_server("not a name", identity.certificate(), &[]), Ok(()));
    }

    #[test]
    fn another_certificate_than_the_pinned_is_refused_with_its_hash() {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let actual = identity.certificate_sha256();
        let refusal = Err(CertificateRefusal::NotPinned { actual });
        assert_eq!(Trust::pinned([[7; 32]]).verify_server("localhost", identity.certificate(), &[]), refusal);
        let nobody = Trust::pinned(Vec::<CertificateHash>::new());
        assert_eq!(nobody.verify_server("localhost", identity.certificate(), &[]), refusal);
    }

    #[test]
    fn a_pinned_key_counts_whatever_certificate_is_shown_for_it() {
        let authority = Authority::new();
        let pair = KeyPair::generate().unwrap();
        let issuer: &Issuer<'_, KeyPair> = &authority.0;
        let of = |name: &str| CertificateParams::new([name.to_owned()]).unwrap();
        let issued: CertificateDer<'_> = of("one.test").signed_by(&pair, issuer).unwrap().into();
        let own: CertificateDer<'_> = of("two.test").self_signed(&pair).unwrap().into();
        let hash = PublicKeyHash::of(&issued).unwrap();
        let trust = Trust::pinned_keys([hash]);
        for certificate in [&issued, &own] {
            assert_eq!(trust.verify_server("not a name", certificate, &[]), Ok(()));
            assert_eq!(trust.verify_client(certificate, &[]), Ok(()));
        }
        let other = authority.issue("one.test");
        let actual = PublicKeyHash::of(&other).unwrap();
        let refusal = Err(CertificateRefusal::KeyNotPinned { actual });
        assert_eq!(trust.verify_server("one.test", &other, &[]), refusal);
        assert_eq!(Trust::pinned_keys([[7; 32]; 0]).verify_server("one.test", &other, &[]), refusal);
        // The issuer's key does not count.
        let root = PublicKeyHash::of(&authority.certificate()).unwrap();
        let sent = chain(&[&other, &authority.certificate()]);
        assert_eq!(Trust::pinned_keys([root]).verify_server("one.test", &other, &sent), refusal);
        let garbage = trust.verify_server("one.test", b"garbage", &[]).unwrap_err();
        assert!(matches!(garbage, CertificateRefusal::Unacceptable { .. }), "{garbage}");
    }

    #[test]
    fn a_weak_key_is_refused_also_if_it_is_pinned() {
        let weak = CertificateDer::from_pem_slice(include_bytes!("../../../tests/data/weak_rsa.pem")).unwrap();
        let refusal = Err(CertificateRefusal::WeakKey { bits: 1024 });
        for trust in [
            Trust::system(),
            Trust::ca_der([weak.clone()]).unwrap(),
            Trust::pinned([CertificateHash::of(&weak)]),
            Trust::pinned_keys([PublicKeyHash::of(&weak).unwrap()]),
        ] {
            assert_eq!(trust.verify_server("localhost", &weak, &[]), refusal);
            assert_eq!(trust.verify_client(&weak, &[]), refusal);
        }
        assert_eq!(Trust::dangerous_accept_any_certificate().verify_server("localhost", &weak, &[]), Ok(()));
    }

    #[test]
    fn no_certificate_is_no_server() {
        let authority = Authority::new();
        for trust in [Trust::pinned([[0; 32]]), authority.trust(), Trust::system()] {
            assert_eq!(trust.verify_server("localhost", &[], &[]), Err(CertificateRefusal::NoCertificate));
        }
    }

    #[test]
    fn an_authority_vouches_for_the_names_in_its_certificates_only() {
        let authority = Authority::new();
        let (by_name, by_address) = (authority.issue("server.test"), authority.issue("192.0.2.1"));
        let trust = authority.trust();
        assert_eq!(trust.verify_server("server.test", &by_name, &chain(&[&by_name])), Ok(()));
        assert_eq!(trust.verify_server("SERVER.test", &by_name, &[]), Ok(()));
        assert_eq!(trust.verify_server("192.0.2.1", &by_address, &[]), Ok(()));
        for (name, leaf) in [
            ("other.test", &by_name),
            ("sub.server.test", &by_name),
            ("192.0.2.1", &by_name),
            ("192.0.2.2", &by_address),
            ("server.test", &by_address),
            ("2001:db8::1", &by_address),
        ] {
            let refusal = trust.verify_server(name, leaf, &[]).unwrap_err();
            assert!(matches!(refusal, CertificateRefusal::NameMismatch { .. }), "{name}: {refusal}");
        }
    }

    #[test]
    fn a_name_mismatch_tells_both_names() {
        let authority = Authority::new();
        for certified in ["server.test", "*.server.test", "192.0.2.1", "2001:db8::1"] {
            let leaf = authority.issue(certified);
            let refusal = authority.trust().verify_server("other.test", &leaf, &[]).unwrap_err();
            let certified = vec![certified.to_owned()];
            assert_eq!(refusal, CertificateRefusal::NameMismatch { name: "other.test".to_owned(), certified });
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let authority = Authority::new();
        let leaf = authority.issue("*.example.test");
        let trust = authority.trust();
        assert_eq!(trust.verify_server("one.example.test", &leaf, &[]), Ok(()));
        assert!(trust.verify_server("one.two.example.test", &leaf, &[]).is_err());
        assert!(trust.verify_server("example.test", &leaf, &[]).is_err());
    }

    #[test]
    fn an_intermediate_counts_when_the_server_sends_it() {
        let authority = Authority::new();
        let intermediate = authority.intermediate();
        let leaf = intermediate.issue("server.test");
        let trust = authority.trust();
        let sent = chain(&[&leaf, &intermediate.certificate()]);
        assert_eq!(trust.verify_server("server.test", &leaf, &sent), Ok(()));
        assert_eq!(trust.verify_server("server.test", &leaf, &[]), Err(CertificateRefusal::UnknownIssuer));
        assert_eq!(trust.verify_server("server.test", &leaf, b"garbage"), Err(CertificateRefusal::UnknownIssuer));
    }

    #[test]
    fn another_authority_with_the_same_name_is_refused() {
        let (authority, impostor) = (Authority::new(), Authority::new());
        let leaf = impostor.issue("server.test");
        let sent = chain(&[&leaf, &impostor.certificate()]);
        assert!(authority.trust().verify_server("server.test", &leaf, &sent).is_err());
    }

    #[test]
    fn a_self_signed_certificate_is_an_authority_for_itself_alone() {
        let (own, other) =
            (Identity::self_signed(["localhost"]).unwrap(), Identity::self_signed(["localhost"]).unwrap());
        let trust = Trust::ca_der([own.certificate().clone()]).unwrap();
        assert_eq!(trust.verify_server("localhost", own.certificate(), &[]), Ok(()));
        assert!(trust.verify_server("localhost", other.certificate(), &[]).is_err());
        assert!(trust.verify_server("127.0.0.1", own.certificate(), &[]).is_err());
    }

    #[test]
    fn expired_and_future_certificates_are_refused() {
        let authority = Authority::new();
        let trust = authority.trust();
        let expired = authority.issue_with("server.test", |parameters| {
            parameters.not_after = date_time_ymd(2001, 1, 1);
        });
        assert_eq!(trust.verify_server("server.test", &expired, &[]), Err(CertificateRefusal::Expired));
        let future = authority.issue_with("server.test", |parameters| {
            parameters.not_before = date_time_ymd(3000, 1, 1);
        });
        assert_eq!(trust.verify_server("server.test", &future, &[]), Err(CertificateRefusal::NotYetValid));
    }

    #[test]
    fn a_clients_certificate_is_no_servers() {
        let authority = Authority::new();
        let leaf = authority.issue_with("server.test", |parameters| {
            parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let refusal = authority.trust().verify_server("server.test", &leaf, &[]).unwrap_err();
        assert!(matches!(refusal, CertificateRefusal::WrongUsage { .. }), "{refusal}");
    }

    #[test]
    fn a_clients_certificate_needs_a_purpose_and_no_name() {
        let authority = Authority::new();
        let trust = authority.trust();
        for usages in [vec![], vec![ExtendedKeyUsagePurpose::ClientAuth]] {
            let leaf = authority.issue_with("anything", |parameters| parameters.extended_key_usages = usages);
            assert_eq!(trust.verify_client(&leaf, &[]), Ok(()));
        }
        let leaf = authority.issue_with("anything", |parameters| {
            parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        let refusal = trust.verify_client(&leaf, &[]).unwrap_err();
        assert!(matches!(refusal, CertificateRefusal::WrongUsage { .. }), "{refusal}");
    }

    #[test]
    fn a_client_without_a_certificate_is_nobody_whom_anyone_believes() {
        let anyone = Trust::dangerous_accept_any_certificate();
        for trust in [anyone, Authority::new().trust(), Trust::pinned([[0; 32]])] {
            assert_eq!(trust.verify_client(&[], &[]), Err(CertificateRefusal::NoCertificate));
        }
    }

    #[test]
    fn a_peers_chain_begins_with_its_own_certificate() {
        let authority = Authority::new();
        let intermediate = authority.intermediate();
        let (leaf, issuer) = (intermediate.issue("server.test"), intermediate.certificate());
        let peer = PeerIdentity::from_event(&leaf, &chain(&[&leaf, &issuer])).unwrap();
        assert_eq!(peer.chain(), [leaf.clone(), issuer]);
        assert_eq!(PeerIdentity::from_event(&leaf, b"garbage").unwrap().chain(), std::slice::from_ref(&leaf));
        assert_eq!(PeerIdentity::from_event(&[], &[]), None);
    }

    #[test]
    fn a_cas_certificate_as_a_servers_is_explained() {
        let authority = Authority::new();
        let refusal = authority.trust().verify_server("server.test", &authority.certificate(), &[]);
        assert_eq!(refusal, Err(CertificateRefusal::AuthorityAsPeer));
    }

    #[test]
    fn a_private_authority_replaces_the_systems_and_the_other_way_round() {
        let authority = Authority::new();
        let leaf = authority.issue("server.test");
        let sent = chain(&[&leaf, &authority.certificate()]);
        assert!(Trust::system().verify_server("server.test", &leaf, &sent).is_err());
    }

    #[test]
    fn authorities_come_from_pem_with_other_sections_in_it() {
        let authority = Authority::new();
        let pem = KeyPair::generate().unwrap().serialize_pem() + &authority.0.pem();
        let leaf = authority.issue("server.test");
        assert_eq!(Trust::ca_pem(pem).unwrap().verify_server("server.test", &leaf, &[]), Ok(()));
    }

    #[test]
    fn a_ca_that_is_none_is_refused_at_once() {
        assert_eq!(Trust::ca_pem("").unwrap_err(), TrustError::NoCertificate);
        let pem = Authority::new().0.pem();
        assert!(matches!(Trust::ca_pem(pem.replace("END", "NED")), Err(TrustError::Pem { .. })));
        let good = Authority::new().certificate();
        let error = Trust::ca_der([good, CertificateDer::from(&[0x30, 0][..])]).unwrap_err();
        assert!(matches!(error, TrustError::InvalidCertificate { index: 1, .. }));
    }

    #[test]
    fn only_the_dangerous_one_believes_anyone() {
        let trust = Trust::dangerous_accept_any_certificate();
        assert_eq!(trust.verify_server("", &[], &[]), Ok(()));
        for trust in [Trust::default(), Trust::pinned([[0; 32]]), Authority::new().trust()] {
            assert_eq!(trust.verify_server("localhost", &[], &[]), Err(CertificateRefusal::NoCertificate));
        }
    }
}
