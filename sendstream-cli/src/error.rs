//! What went wrong, what the user can do about it, and the exit status.

use std::{cell::Cell, error::Error, fmt, process::ExitCode};

use sendstream::{ConfigError, ConnectError, ConnectionError, Printable, SystemError};
use serde::Serialize;

use crate::progress;

mod other_end;

pub(crate) use other_end::OtherEnd;

/// The end of a command that did not do all it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    todo: Option<String>,
    kind: Kind,
    /// Whether a program that reads the results knows of it already.
    told: Cell<bool>,
}

/// What sort of failure it is: for programs, which cannot read sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// None of the others.
    Failed,
    /// What was typed cannot be done.
    Usage,
    /// There is no ticket, or it is none.
    Ticket,
    /// The user of this end stopped it.
    Interrupted,
    /// The user of the other end stopped it.
    Stopped,
    /// The other end takes nobody at present; it may well go better in a moment.
    Full,
    /// The other end does not let this one in.
    Refused,
    /// The other end is not the one that the ticket is from.
    Certificate,
    /// The two ends do not understand each other.
    Protocol,
    /// The other end does not answer, or no longer.
    Timeout,
    /// Nobody listens there, or a host on the way says that nothing leads there.
    Unreachable,
    /// Nothing leads there from this machine.
    NoRoute,
    /// The name stands for no address.
    Unresolved,
    /// The local address is taken.
    AddressInUse,
    /// The local address is none of this machine's.
    AddressNotAvailable,
    /// The system forbids it.
    PermissionDenied,
    /// The system is out of something: descriptors, threads or memory.
    Resources,
}

impl Failure {
    /// Something that went wrong: a sentence without its full stop.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), todo: None, kind: Kind::Failed, told: Cell::new(false) }
    }

    /// What the user can do or type now.
    pub(crate) fn todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into()), ..self }
    }

    /// What sort of failure it is.
    pub(crate) fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The results say it already.
    pub(crate) fn told(self) -> Self {
        self.told.set(true);
        self
    }

    /// What was typed cannot be done.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(what).kind(Kind::Usage)
    }

    /// The user stopped it.
    pub(crate) fn interrupted() -> Self {
        Self::new("interrupted").kind(Kind::Interrupted)
    }

    /// What the system of this machine refused, when it was asked to do `what`.
    pub(crate) fn of_system(what: impl fmt::Display, error: SystemError) -> Self {
        let (why, kind, todo) = match error {
            SystemError::NoRoute => (
                "this machine has no route there",
                Kind::NoRoute,
                "check that its network is up (`ip address`, `ip route`); a receiver on the same network can be told another \
                 address with `recv --advertise HOST`",
            ),
            SystemError::AddressNotAvailable => (
                "this machine has no address or port left for it",
                Kind::AddressNotAvailable,
                "check `ip address`, or end other connections",
            ),
            SystemError::AddressInUse => {
                ("the address is in use", Kind::AddressInUse, "choose another port, or 0 for a free one")
            }
            SystemError::OutOfDescriptors => (
                "this process may open no more files",
                Kind::Resources,
                "raise the limit (`ulimit -n`), or do less at a time",
            ),
            SystemError::InvalidAddress => (
                "this machine cannot send to such an address",
                Kind::NoRoute,
                "check the address, and `ip route` for a route that drops what goes there",
            ),
            SystemError::PermissionDenied => (
                "the system forbids it",
                Kind::PermissionDenied,
                "check this machine's firewall and routes (`nft list ruleset`, `ip route`), and what this user may do",
            ),
            SystemError::FamilyNotSupported => (
                "this machine has no addresses of that family",
                Kind::NoRoute,
                "switch IPv6 on, or use an IPv4 address",
            ),
            SystemError::OutOfThreads => (
                "this user may start no more threads",
                Kind::Resources,
                "raise the limit (`ulimit -u`), or end other programs",
            ),
            SystemError::OutOfMemory => ("the system is out of memory", Kind::Resources, "free some, and try again"),
            SystemError::SocketsNotSupported => (
                "this system lacks something that QUIC's sockets need",
                Kind::Resources,
                "use Linux 4.18 or newer itself, and not what resembles it",
            ),
            other => return Self::new(format!("{what}: {other}")),
        };
        Self::new(format!("{what}: {why}")).kind(kind).todo(todo)
    }

    /// Why QUIC cannot be used here at all.
    pub(crate) fn setting_up(error: &ConfigError) -> Self {
        match error {
            ConfigError::System(error) => Self::of_system("cannot set up QUIC", *error),
            other => Self::new(format!("cannot set up QUIC: {}", chain(other))),
        }
    }

    /// Whether it may well go better in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        self.kind == Kind::Full
    }

    /// Whether the other end took too long.
    pub(crate) fn is_timeout(&self) -> bool {
        self.kind == Kind::Timeout
    }

    /// Whether the user stopped it.
    pub(crate) fn is_interruption(&self) -> bool {
        self.kind == Kind::Interrupted
    }

    /// Whether it says nothing but that the other end cannot be reached any more, or has ended.
    pub(crate) fn is_of_the_network(&self) -> bool {
        !matches!(self.kind, Kind::Protocol | Kind::Interrupted | Kind::Certificate | Kind::Resources)
    }

    /// The failure for a program: fields of the object that says how it went.
    pub(crate) fn to_json(&self) -> FailureJson<'_> {
        self.told.set(true);
        FailureJson { error: &self.what, kind: self.kind, hint: self.todo.as_deref() }
    }

    /// Whether [`to_json`](Self::to_json) was printed.
    pub(crate) fn was_told(&self) -> bool {
        self.told.get()
    }

    fn status(&self) -> u8 {
        match self.kind {
            Kind::Usage | Kind::Ticket => WRONG_USAGE,
            Kind::Interrupted => INTERRUPTED,
            _ => FAILED,
        }
    }

    /// Prints the failure on standard error and turns it into the process's exit status.
    pub(crate) fn report(&self) -> ExitCode {
        progress::write_line(format_args!("sendstream: {self}"));
        ExitCode::from(self.status())
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

/// The fields that say to a program why something failed. Each is one line.
#[derive(Debug, Serialize)]
pub(crate) struct FailureJson<'a> {
    pub(crate) error: &'a str,
    pub(crate) kind: Kind,
    /// What the user can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<&'a str>,
}

/// The connection's end among the causes of `error`, if that is what is behind it.
pub(crate) fn connection_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a ConnectionError> {
    std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| match error.downcast_ref() {
        // It is not among its own causes.
        Some(ConnectError::Connection(error)) => Some(error),
        _ => error.downcast_ref(),
    })
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
