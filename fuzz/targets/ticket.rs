//! The line that a sender is given.

#![no_main]

#[path = "../../sendstream-cli/src/ticket.rs"]
mod ticket;

use libfuzzer_sys::fuzz_target;
use ticket::{Host, Ticket};

fuzz_target!(|text: &str| {
    if let Ok(ticket) = text.parse::<Ticket>() {
        let written = ticket.to_string();
        assert_eq!(written.parse::<Ticket>(), Ok(ticket.clone()));
        // It can be pasted into a shell as it is.
        assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/.-_%".contains(&byte)), "{written}");
        assert!(!format!("{ticket:?}").contains(&written[written.len() - 64..]));
        let _ = (ticket.authority(), ticket.certificate_hash());
    }
    if let Ok(address) = text.parse() {
        let host = Host::of(address);
        assert_eq!(host.to_string().parse::<Host>(), Ok(host));
    }
});
