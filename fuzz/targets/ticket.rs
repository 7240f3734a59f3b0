//! The line that a sender is given: any text, and any bytes with the right checksum.

#![no_main]

#[path = "../../sendstream-cli/src/ticket.rs"]
mod ticket;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use libfuzzer_sys::fuzz_target;
use sendstream::Printable;
use ticket::{MAX_PLACES, Ticket};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = str::from_utf8(data) {
        check(text);
    }
    let hash = blake3::hash(data);
    check(&format!("sendstream:{}", BASE64URL.encode([&hash.as_bytes()[..4], data].concat())));
});

fn check(text: &str) {
    let Ok(ticket) = text.parse::<Ticket>() else { return };
    let written = ticket.to_string();
    assert_eq!(written.parse::<Ticket>(), Ok(ticket.clone()));
    assert!((1..=MAX_PLACES).contains(&ticket.places.len()));
    // It can be pasted into a shell as it is.
    assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte)), "{written}");
    // What it says may be shown, and does not tell the secret.
    for shown in [format!("{ticket:?}"), ticket.authority(), ticket.everywhere()] {
        assert!(!shown.contains(&written[written.len() / 2..]));
        assert!(!shown.chars().any(Printable::escapes), "{shown:?}");
    }
    let _ = ticket.certificate_hash();
}
