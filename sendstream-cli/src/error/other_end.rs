//! The peer of a session, and what is said of it when the session fails.
//!
//! The client has the ticket, and the server printed it; the sender has the files, and the receiver wants
//! them. `send` is a client that sends, and `recv` its server; `get` is a client that receives, and `share`
//! its server.

use std::{error::Error, time::Duration};

use sendstream::{ConnectError, ConnectionError};

use super::{Failure, Kind, chain, connection_error};
use crate::protocol::{Code, ProtocolError, Role};

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) enum OtherEnd {
    /// The server that a ticket leads to, for a client of this role.
    Server { client: Role, place: String },
    /// A client of this role.
    Client(Role),
}

impl OtherEnd {
    /// What it is called: "sender" or "receiver".
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::Server { client, .. } => client.other().noun(),
            Self::Client(role) => role.noun(),
        }
    }

    /// Why a session fails whose peer breaks the protocol.
    pub(crate) fn broke(&self, error: ProtocolError) -> Failure {
        Failure::new(format!("cannot talk to the {}: {error}", self.noun())).kind(Kind::Protocol)
    }

    /// Why a session waits for a peer that has gone silent.
    pub(crate) fn went_silent(&self) -> Failure {
        match self {
            Self::Server { client, place } => Failure::new(format!(
                "no answer from the {} at {place}: it ended, or the network between failed",
                self.noun()
            ))
            .todo(format!(
                "check that `{}` still runs there, and that no firewall drops UDP to that port",
                client.server_command()
            )),
            Self::Client(role) => Failure::new(format!(
                "the {} went silent in the middle: it was killed, or the network between failed",
                role.noun()
            )),
        }
        .kind(Kind::Timeout)
    }

    /// Why a session ends whose peer says and takes nothing, though the connection is up.
    pub(crate) fn stalled(&self, limit: Duration) -> Failure {
        let limit = humantime::format_duration(limit);
        Failure::new(format!("the {} did nothing for {limit}, though the connection is up", self.noun()))
            .kind(Kind::Timeout)
            .todo("`--stall-timeout` waits longer")
    }

    /// Why a session ends whose peer waits for this end no longer.
    fn let_this_end_go(&self, at: &str) -> Failure {
        Failure::new(format!("the {}{at} gave this end up, which did nothing for too long or held others up", self.noun()))
            .kind(Kind::Timeout)
            .todo("type the same again to go on; `--stall-timeout` there waits longer, and `--timeout` where there are others")
    }

    /// Why a receiver is let go that is one of several.
    pub(crate) fn held_up_others(&self) -> Failure {
        let place = match self {
            Self::Server { place, .. } => format!(" at {place}"),
            Self::Client(_) => String::new(),
        };
        Failure::new(format!("the {}{place} took nothing for too long, and held up the others", self.noun()))
            .kind(Kind::Timeout)
            .todo("send it the same again: what it has is not sent twice; `--timeout` says how long others wait")
    }

    /// Why the connection could not be made, or was lost.
    pub(crate) fn lost(&self, error: &(dyn Error + 'static)) -> Failure {
        match self {
            Self::Server { client, place } => self.server_lost(error, *client, place),
            Self::Client(_) => self.client_lost(error),
        }
    }

    fn server_lost(&self, error: &(dyn Error + 'static), client: Role, place: &str) -> Failure {
        let (noun, command, nothing) = (self.noun(), client.server_command(), client.nothing());
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            match error {
                ConnectError::Unresolved { error, .. } => {
                    return Failure::new(format!("cannot find the {noun} {place}: {error}"))
                        .kind(Kind::Unresolved)
                        .todo("check the name, and that this machine reaches its DNS server");
                }
                ConnectError::NoAddress => {
                    return Failure::new(format!("cannot reach {place}: this machine's network is down"))
                        .kind(Kind::NoRoute)
                        .todo("check `ip address`");
                }
                _ => {}
            }
        }
        let Some(cause) = connection_error(error) else {
            return Failure::new(format!("the connection to {place} failed: {}", chain(error)));
        };
        match cause {
            ConnectionError::Tls { alert: NO_APPLICATION_PROTOCOL, .. } => {
                Failure::new(format!("what listens at {place} does not speak this version of Sendstream's protocol"))
                    .kind(Kind::Protocol)
                    .todo("check the ticket, and that both ends have the same release (`sendstream version`)")
            }
            ConnectionError::VersionMismatch => {
                Failure::new(format!("what listens at {place} speaks no version of QUIC that this end knows"))
                    .kind(Kind::Protocol)
                    .todo(format!("check that `{command}` listens there and no other server"))
            }
            ConnectionError::CertificateRefused(_) | ConnectionError::Tls { .. } => Failure::new(format!(
                "the {noun} at {place} has another certificate than the ticket says ({cause}); {nothing}"
            ))
            .kind(Kind::Certificate)
            .todo(format!(
                "the ticket has no typo, so somebody else listens there by now: each run of `{command}` prints a new \
                 ticket; check the ticket, and if it is the latest, that nobody poses as the {noun}",
            )),
            ConnectionError::TimedOut(_) => self.went_silent(),
            ConnectionError::Unreachable => {
                let option = command.trim_start_matches("sendstream ");
                Failure::new(format!("nobody listens at {place}, or no network path leads there"))
                    .kind(Kind::Unreachable)
                    .todo(format!(
                        "check that `{command}` still runs there and that this is its ticket; \
                         `{option} --advertise HOST` puts another address into the ticket",
                    ))
            }
            ConnectionError::System(error) => Failure::of_system(format_args!("cannot reach {place}"), *error),
            ConnectionError::Refused => self.full(place),
            ConnectionError::ApplicationClosed { code, .. } => match Code::from_wire(*code) {
                Some(Code::WrongToken) => {
                    Failure::new(format!("the {noun} at {place} refused the ticket's token; {nothing}"))
                        .kind(Kind::Refused)
                        .todo(format!("check the ticket: each run of `{command}` prints a new one"))
                }
                Some(Code::Interrupted) => {
                    Failure::new(format!("the {noun} at {place} was stopped by its user")).kind(Kind::Stopped)
                }
                Some(Code::Refused) => {
                    let own = client.noun();
                    Failure::new(format!("the {noun} at {place} takes one {own} only, and another one came first"))
                        .kind(Kind::Refused)
                        .todo(format!("run `{command}` without `--once` to serve several"))
                }
                Some(Code::Full) => self.full(place),
                Some(Code::TooSlow) => {
                    Failure::new(format!("the {noun} at {place} gave up waiting for this end")).kind(Kind::Timeout)
                }
                Some(Code::Stalled) => self.let_this_end_go(&format!(" at {place}")),
                Some(Code::BadMessage) => Failure::new(format!("the {noun} at {place} did not understand this end"))
                    .kind(Kind::Protocol)
                    .todo("check that both ends have the same release (`sendstream version`)"),
                Some(Code::SameRole) => same_role(client, place),
                _ => Failure::new(format!("the {noun} at {place} ended the session (code {code})")),
            },
            other => Failure::new(format!("the connection to {place} was lost: {other}")),
        }
    }

    /// The server takes nobody at present.
    fn full(&self, place: &str) -> Failure {
        let (noun, own) = match self {
            Self::Server { client, .. } | Self::Client(client) => (client.other().noun(), client.noun()),
        };
        Failure::new(format!("the {noun} at {place} takes no more {own}s at present"))
            .kind(Kind::Full)
            .todo("try again when another transfer has ended")
    }

    fn client_lost(&self, error: &(dyn Error + 'static)) -> Failure {
        let noun = self.noun();
        let (what, kind) = match connection_error(error) {
            None => (format!("the session failed: {}", chain(error)), Kind::Failed),
            Some(ConnectionError::TimedOut(_)) => return self.went_silent(),
            Some(ConnectionError::ApplicationClosed { code, .. }) => match Code::from_wire(*code) {
                Some(Code::Interrupted) => (format!("the {noun} was stopped by its user"), Kind::Stopped),
                Some(Code::BadMessage) => (format!("the {noun} did not understand this end"), Kind::Protocol),
                Some(Code::TooSlow) => (format!("the {noun} gave up waiting for this end"), Kind::Timeout),
                Some(Code::Stalled) => return self.let_this_end_go(""),
                _ => (format!("the {noun} broke off (code {code})"), Kind::Failed),
            },
            // The session was interrupted, and not the command that serves others as well.
            Some(ConnectionError::LocallyClosed { code, .. }) => match Code::from_wire(*code) {
                Some(Code::Interrupted) => ("interrupted here".to_owned(), Kind::Stopped),
                Some(Code::TooSlow) => (format!("the {noun} did not say hello in time"), Kind::Timeout),
                _ => (format!("ended here (code {code})"), Kind::Failed),
            },
            Some(ConnectionError::System(error)) => return Failure::of_system("the connection was lost", *error),
            Some(other) => (format!("the connection was lost: {other}"), Kind::Failed),
        };
        Failure::new(what).kind(kind)
    }
}

/// The ticket is of a server that does the same as this client.
fn same_role(client: Role, place: &str) -> Failure {
    let (does, todo) = match client {
        Role::Send => ("of `sendstream share`, which sends", "type `sendstream get TICKET` to get what it has"),
        Role::Receive => {
            ("of `sendstream recv`, which waits for files", "type `sendstream send FILE... TICKET` to send it some")
        }
    };
    Failure::new(format!("the ticket leads to {place} and is {does}; {}", client.nothing()))
        .kind(Kind::Refused)
        .todo(todo)
}

/// The TLS alert of RFC 7301 §3.2.
const NO_APPLICATION_PROTOCOL: u8 = 120;
