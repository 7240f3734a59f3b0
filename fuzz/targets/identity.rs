//! Certificates and keys as a user hands them in: PEM, DER, hashes. What is taken goes on to
//! AWS-LC as PKCS#12.
//!
//! The first byte says what the rest is; where it is two things, the next two bytes say where the
//! second begins.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sendstream::{CertificateHash, Client, ConfigError, Identity, IdentityError, Trust};

/// A certificate and its key, so that what is wrong can be one of them alone.
static CERTIFICATE: &str = include_str!("../seeds/ec.crt");
static KEY: &str = include_str!("../seeds/ec.key");
static OWN: LazyLock<Identity> = LazyLock::new(|| Identity::from_pem(CERTIFICATE, KEY).expect("they belong together"));

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 7 {
        0 => {
            let Some((first, second)) = split(data) else { return };
            load(Identity::from_pem(first, second));
        }
        1 => load(Identity::from_pem(CERTIFICATE, data)),
        2 => load(Identity::from_pem(data, KEY)),
        3 => {
            let Ok(key) = PrivateKeyDer::try_from(data) else { return };
            load(Identity::from_der(vec![OWN.certificate().clone()], key.clone_key()));
        }
        4 => {
            let Some((first, second)) = split(data) else { return };
            let Ok(key) = PrivateKeyDer::try_from(second) else { return };
            load(Identity::from_der(vec![CertificateDer::from(first).into_owned()], key.clone_key()));
        }
        5 => {
            let _ = Trust::ca_pem(data);
            let _ = Trust::ca_der([CertificateDer::from(data)]);
        }
        _ => {
            let Ok(text) = str::from_utf8(data) else { return };
            if let Ok(hash) = text.parse::<CertificateHash>() {
                assert_eq!(hash.to_string().parse(), Ok(hash));
            }
        }
    }
});

/// What is taken as an identity is one for AWS-LC as well, or refused with the error that says so.
fn load(identity: Result<Identity, IdentityError>) {
    let Ok(identity) = identity else { return };
    let client = Client::builder().alpn(["fuzz"]).trust(Trust::dangerous_accept_any_certificate()).identity(identity);
    match client.build() {
        Ok(_) | Err(ConfigError::Identity(IdentityError::Rejected { .. })) => {}
        Err(error) => panic!("{error}"),
    }
}

fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (at, data) = data.split_first_chunk()?;
    data.split_at_checked(usize::from(u16::from_be_bytes(*at)))
}
