//! What a client's session cache gives back.
//!
//! As it is, and once more as what a ticket is made of, because no guess comes past the checksum:
//! the first two bytes are the length of the certificate, the rest is the session, as AWS-LC writes it and
//! as OpenSSL does.

#![no_main]

use base64::prelude::{BASE64_STANDARD, Engine as _};
use libfuzzer_sys::fuzz_target;
use sendstream::fuzzing;

fuzz_target!(|data: &[u8]| {
    fuzzing::cached_session(data);
    let Some((length, data)) = data.split_first_chunk() else { return };
    let Some((certificate, session)) = data.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { return };
    let base64 = BASE64_STANDARD.encode(session);
    check(certificate, session);
    let pem = format!("-----BEGIN SSL SESSION PARAMETERS-----\n{base64}\n-----END SSL SESSION PARAMETERS-----\n");
    check(certificate, pem.as_bytes());
});

fn check(certificate: &[u8], session: &[u8]) {
    // Versions, no transport parameters, and the length in four bytes (RFC 9000, section 16).
    let length = (session.len() as u32 | 0x8000_0000).to_be_bytes();
    let native = [&[1, 0, 0, 0, 1, 0][..], &length, session].concat();
    fuzzing::session(certificate, &native);
}
