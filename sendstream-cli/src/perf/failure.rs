//! What a client's user is told when a run cannot be, or breaks off.

use sendstream::{ConnectError, ConnectionError};

use super::{run_error::RunError, target::Target};
use crate::{
    error::{Failure, chain},
    protocol::Code,
};

/// Why there is no connection to the server.
pub(crate) fn unconnected(error: &ConnectError, target: &Target) -> Failure {
    match error {
        ConnectError::Connection(cause) => lost(cause, target),
        error => Failure::new(format!("cannot connect to {}: {}", target.authority(), chain(error))),
    }
}

/// Why the run broke off.
pub(crate) fn broken_off(error: &RunError, target: &Target) -> Failure {
    let server = target.authority();
    match error {
        RunError::Lost(cause) => lost(cause, target),
        RunError::Breach(what) => Failure::new(format!("the run with {server} was ended here: {what}"))
            .todo("install the same release at both ends"),
        RunError::Stalled => Failure::new(format!("the run with {server} was ended here: {error}"))
            .todo("check the network between, and that the server is not paused"),
        RunError::Late | RunError::Unable(_) => Failure::new(format!("the run with {server} was ended here: {error}")),
    }
}

fn lost(cause: &ConnectionError, target: &Target) -> Failure {
    let server = target.authority();
    match cause {
        ConnectionError::Tls { alert: NO_APPLICATION_PROTOCOL, .. } => {
            Failure::new(format!("what listens at {server} is no `sendstream perf serve` of this version"))
                .todo("start `sendstream perf serve` there, and install the same release at both ends")
        }
        ConnectionError::CertificateRefused(_) => {
            Failure::new(format!("the server at {server} has another certificate than the ticket says"))
                .todo("check the ticket: each run of `sendstream perf serve` prints a new one")
        }
        ConnectionError::TimedOut(_) => {
            Failure::new(format!("no answer from {server}: the server ended, or the network between failed"))
                .todo("check that `sendstream perf serve` runs there, and that no firewall drops UDP to that port")
        }
        ConnectionError::Unreachable => {
            Failure::new(format!("nobody listens at {server}, or no network path leads there"))
                .todo("start `sendstream perf serve` there; `-p PORT` reaches it at another port")
        }
        ConnectionError::Refused => {
            Failure::new(format!("the server at {server} takes no more connections at present"))
        }
        ConnectionError::ApplicationClosed { code, reason, .. } => {
            let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            match Code::from_wire(*code) {
                Some(Code::WrongToken) if target.is_ticket() => {
                    Failure::new(format!("the server at {server} refused the ticket's token"))
                        .todo("check the ticket: each run of `sendstream perf serve` prints a new one")
                }
                Some(Code::WrongToken) => Failure::new(format!("the server at {server} wants a ticket"))
                    .todo("give the ticket that it printed in place of HOST, or start it with `--open`"),
                Some(Code::Full) => Failure::new(format!("the server at {server} is busy with another run"))
                    .todo("try again when that is over"),
                Some(Code::Interrupted) => Failure::new(format!("the server at {server} was stopped by its user")),
                Some(Code::TooSlow) => Failure::new(format!("the server at {server} gave up waiting{because}")),
                Some(Code::Refused) => Failure::new(format!("the server at {server} does not do that{because}")),
                Some(Code::BadMessage) => {
                    Failure::new(format!("the server at {server} did not understand this end{because}"))
                        .todo("install the same release at both ends")
                }
                _ => Failure::new(format!("the server at {server} ended the run (code {code}){because}")),
            }
        }
        other => Failure::new(format!("the connection to {server} was lost: {other}")),
    }
}

/// The TLS alert of RFC 7301 §3.2.
const NO_APPLICATION_PROTOCOL: u8 = 120;
