//! The certificates that a peer shows, as MsQuic reports them: a leaf in DER and a chain in PKCS#7.
//!
//! The first byte chooses who is believed, the next two say where the chain begins.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sendstream::{Trust, fuzzing};

static TRUSTS: LazyLock<[Trust; 3]> = LazyLock::new(|| {
    [
        Trust::ca_pem(include_str!("../seeds/ca.crt")).expect("it is an authority"),
        Trust::pinned([[0; 32]]),
        Trust::dangerous_accept_any_certificate(),
    ]
});
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "*.example"];

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let Some((at, data)) = data.split_first_chunk() else { return };
    let Some((leaf, chain)) = data.split_at_checked(usize::from(u16::from_be_bytes(*at))) else { return };
    // Whom it believes is a matter of the first two only.
    if leaf.is_empty() && kind % 3 == 2 {
        return;
    }
    fuzzing::peer(&TRUSTS[usize::from(kind % 3)], NAMES[usize::from(kind / 3 % 3)], leaf, chain);
});
