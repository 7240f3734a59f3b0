//! What went wrong, what the user can do about it, and the exit status.

use std::{error::Error, fmt, io::Write as _, process::ExitCode};

use sendstream::{ConnectionError, Printable};

use crate::protocol::Code;

/// The end of a command that did not do all it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    todo: Option<String>,
    status: u8,
    /// Whether it may well go better in a moment.
    passing: bool,
}

impl Failure {
    /// Something that went wrong: a sentence without its full stop.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), todo: None, status: FAILED, passing: false }
    }

    /// What the user can do or type now.
    pub(crate) fn todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into()), ..self }
    }

    /// What was typed cannot be done.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { status: WRONG_USAGE, ..Self::new(what) }
    }

    /// The user stopped it.
    pub(crate) fn interrupted() -> Self {
        Self { status: INTERRUPTED, ..Self::new("interrupted") }
    }

    /// The receiver takes nobody at present.
    fn full(receiver: &str) -> Self {
        let full = Self::new(format!("the receiver at {receiver} takes no more senders at present"));
        Self { passing: true, ..full }.todo("try again when another transfer has ended")
    }

    /// Whether it may well go better in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        self.passing
    }

    /// Whether the user stopped it.
    pub(crate) fn is_interruption(&self) -> bool {
        self.status == INTERRUPTED
    }

    /// Prints the failure on standard error and turns it into the process's exit status.
    pub(crate) fn report(&self) -> ExitCode {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr(), "sendstream: {self}");
        ExitCode::from(self.status)
    }

    /// Says why the connection to a receiver could not be made or was lost.
    pub(crate) fn with_receiver(error: &(dyn Error + 'static), receiver: &str) -> Self {
        let Some(cause) = connection_error(error) else {
            return Self::new(format!("the connection to {receiver} failed: {}", chain(error)));
        };
        match cause {
            ConnectionError::Tls { alert: NO_APPLICATION_PROTOCOL, .. } => {
                Self::new(format!("what listens at {receiver} does not speak this version of Sendstream's protocol"))
                    .todo("check the ticket's address, and install the same release at both ends")
            }
            ConnectionError::CertificateRefused(_) | ConnectionError::Tls { .. } => Self::new(format!(
                "the receiver at {receiver} has another certificate than the ticket says ({cause}); nothing was sent"
            ))
            .todo("check the ticket: each run of `sendstream recv` prints a new one"),
            ConnectionError::TimedOut(_) => {
                Self::new(format!("no answer from the receiver at {receiver}: it ended, or the network between failed"))
                    .todo("check that `sendstream recv` still runs there, and that no firewall drops UDP to that port")
            }
            ConnectionError::Unreachable => {
                Self::new(format!("nobody listens at {receiver}, or no network path leads there")).todo(
                    "check that `sendstream recv` still runs there and that this is its ticket; \
                     `recv --advertise HOST` puts another address into the ticket",
                )
            }
            ConnectionError::Refused => Self::full(receiver),
            ConnectionError::ApplicationClosed { code, .. } => match Code::from_wire(*code) {
                Some(Code::WrongToken) => {
                    Self::new(format!("the receiver at {receiver} refused the ticket's token; nothing was sent"))
                        .todo("check the ticket: each run of `sendstream recv` prints a new one")
                }
                Some(Code::Interrupted) => Self::new(format!("the receiver at {receiver} was stopped by its user")),
                Some(Code::Refused) => {
                    Self::new(format!("the receiver at {receiver} takes one sender only, and another one came first"))
                        .todo("run `sendstream recv` without `--once` to serve several")
                }
                Some(Code::Full) => Self::full(receiver),
                Some(Code::TooSlow) => Self::new(format!("the receiver at {receiver} gave up waiting for this end")),
                Some(Code::BadMessage) => Self::new(format!("the receiver at {receiver} did not understand this end"))
                    .todo("install the same release at both ends"),
                _ => Self::new(format!("the receiver at {receiver} ended the session (code {code})")),
            },
            other => Self::new(format!("the connection to {receiver} was lost: {other}")),
        }
    }

    /// Says why the connection from a sender was lost before it had said that all is sent.
    pub(crate) fn with_sender(error: &(dyn Error + 'static)) -> Self {
        Self::new(match connection_error(error) {
            None => format!("the session failed: {}", chain(error)),
            Some(ConnectionError::TimedOut(_)) => {
                "the sender went silent in the middle: it was killed, or the network between failed".to_owned()
            }
            Some(ConnectionError::ApplicationClosed { code, .. }) => match Code::from_wire(*code) {
                Some(Code::Interrupted) => "the sender was stopped by its user".to_owned(),
                Some(Code::BadMessage) => "the sender did not understand this end".to_owned(),
                _ => format!("the sender broke off (code {code})"),
            },
            Some(ConnectionError::LocallyClosed { code, .. }) => match Code::from_wire(*code) {
                Some(Code::Interrupted) => "interrupted here".to_owned(),
                Some(Code::TooSlow) => "the sender did not say hello in time".to_owned(),
                _ => format!("ended here (code {code})"),
            },
            Some(other) => format!("the connection was lost: {other}"),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable::new(&self.what).fmt(f)?;
        match &self.todo {
            Some(todo) => write!(f, "\n  {}", Printable::new(todo)),
            None => Ok(()),
        }
    }
}

/// The connection's end among the causes of `error`, if that is what is behind it.
pub(crate) fn connection_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a ConnectionError> {
    std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref())
}

/// An error with its causes, as in "could not x: could not y: no such file".
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |error| (*error).source()) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

const FAILED: u8 = 1;
/// As `clap` has it.
const WRONG_USAGE: u8 = 2;
/// What shells report for a process that SIGINT ended.
const INTERRUPTED: u8 = 130;
/// The TLS alert of RFC 7301 §3.2.
const NO_APPLICATION_PROTOCOL: u8 = 120;
