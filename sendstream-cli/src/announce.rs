//! What `recv` and `share` tell those who are to come: the ticket, what to type with it, and a code that
//! stands for it on this network.

use std::net::SocketAddr;

use sendstream::Identity;
use serde::Serialize;

use crate::{
    cli::{Advertised, OutputArgs, WaitArgs},
    code::ShortCode,
    error::{Failure, chain},
    interfaces,
    listen::is_for_this_machine_only,
    neighbours::{Offer, Spent},
    progress::Progress,
    protocol::{Role, SERVER_NAME},
    qr, summary,
    ticket::{Host, MAX_PLACES, Place, Ticket, Token},
};

/// A certificate and a token for this run alone.
pub(crate) fn new_identity() -> Result<(Identity, Token), Failure> {
    let identity = Identity::self_signed([SERVER_NAME])
        .map_err(|error| Failure::new(format!("cannot make a certificate: {}", chain(&error))))?;
    let token = Token::random().map_err(|error| Failure::new(format!("cannot draw a token: {error}")))?;
    Ok((identity, token))
}

/// Who announces.
pub(crate) struct Announcer<'a> {
    /// What it does: "receiving into inbox".
    pub(crate) what: String,
    /// What those mean to do that are to come.
    pub(crate) role: Role,
    /// Whether it ends with the first of them.
    pub(crate) once: bool,
    pub(crate) wait: &'a WaitArgs,
    pub(crate) output: OutputArgs,
    pub(crate) progress: &'a Progress,
}

impl Announcer<'_> {
    /// Prints the ticket with which others come to `locals`. A code is announced until the offer is
    /// dropped.
    pub(crate) fn announce(
        &self,
        identity: &Identity,
        token: &Token,
        locals: &[SocketAddr],
    ) -> Result<Option<Offer>, Failure> {
        let ticket = Ticket::new(identity, token, places(&self.wait.advertise, locals, self.progress));
        let offer = if self.wait.code { Some(self.offer_code(&ticket, locals)?) } else { None };
        self.print(&ticket, offer.as_ref().and_then(Offer::code), locals)?;
        Ok(offer)
    }

    /// Prints the ticket on standard output, and what to do with it on standard error.
    fn print(&self, ticket: &Ticket, code: Option<ShortCode>, locals: &[SocketAddr]) -> Result<(), Failure> {
        let progress = self.progress;
        let listening = locals.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
        let who = if locals.iter().all(|local| is_for_this_machine_only(local.ip())) {
            format!(", for {}s on this machine only; type", self.role.noun())
        } else {
            "; at the other machine, type".to_owned()
        };
        let reach = ticket.places.iter().map(ToString::to_string).collect::<Vec<_>>();
        let ticket = ticket.to_string();
        let typed = match self.role {
            Role::Send => "sendstream send FILE...",
            Role::Receive => "sendstream get",
        };
        let command = format!("{typed} {ticket}");
        progress.note(format_args!("{} on {}{who}", self.what, listening.join(" and ")));
        progress.note(format_args!("  {command}"));
        progress.note(format_args!("or `{typed}`, which asks for this ticket to {}:", reach.join(", ")));
        if let Some(code) = code {
            progress.note(format_args!("or, on the same network, `{typed} {code}`"));
        }
        if self.wait.qr {
            match qr::lines(&ticket) {
                Some(lines) => lines.iter().for_each(|line| progress.warn(line)),
                None => progress.warn("the ticket is too long for a QR code; name fewer places with `--advertise`"),
            }
        }
        if self.output.json {
            summary::print_json(&Announcement {
                ticket,
                command,
                code: code.map(|code| code.to_string()),
                reach,
                listening: &listening[0],
                addresses: &listening,
            })
        } else {
            summary::print_line(&ticket)
        }
    }

    /// Announces a code, and says what becomes of it.
    fn offer_code(&self, ticket: &Ticket, locals: &[SocketAddr]) -> Result<Offer, Failure> {
        if !locals.iter().all(|local| local.ip().is_unspecified()) {
            return Err(Failure::usage("a code is announced, and asked for, at every address of this machine")
                .todo("leave out `--code`, or the address of `--listen`"));
        }
        let (progress, json, once) = (self.progress.clone(), self.output.json, self.once);
        let noun = self.role.noun();
        Offer::start(ticket.clone(), move |spent| {
            let next = match spent {
                Spent::Used { .. } if once => return,
                Spent::Used { by, next } => {
                    progress.note(format_args!("{by} knew the code; for another {noun} it is {next}"));
                    Some(next)
                }
                Spent::Guessed { by, next } => {
                    progress.warn(format_args!("{by} guessed a wrong code, which ends it; now it is {next}"));
                    Some(next)
                }
                Spent::Over { by } => {
                    progress.warn(format_args!(
                        "{by} guessed a wrong code once more; there is no code now, but the ticket is good"
                    ));
                    None
                }
                Spent::Flooded => {
                    progress.warn(
                        "somebody floods this network with multicast DNS; there is no code now, but the ticket is good",
                    );
                    None
                }
            };
            if json {
                // A reader that went away wants no more of it.
                let code = next.map(|code| code.to_string());
                let _ = progress.suspend(|| summary::print_json(&serde_json::json!({ "event": "code", "code": code })));
            }
        })
    }
}

#[derive(Serialize)]
struct Announcement<'a> {
    ticket: String,
    /// What to type at the other end.
    command: String,
    /// What stands for the ticket on this network.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Where the ticket leads to.
    reach: Vec<String>,
    /// The first of the addresses that are listened on.
    listening: &'a str,
    addresses: &'a [String],
}

/// The places that a ticket tells: what `--advertise` says, or else every address by which others
/// may reach this end.
pub(crate) fn places(advertise: &[Advertised], locals: &[SocketAddr], progress: &Progress) -> Vec<Place> {
    let port = locals[0].port();
    if !advertise.is_empty() {
        let advertised = advertise.iter().cloned();
        let places = advertised.map(|Advertised { host, port: own }| Place::new(host, own.unwrap_or(port)));
        // The grammar lets no more through.
        return places.take(MAX_PLACES).collect();
    }
    let mut places = Vec::new();
    for local in locals {
        let reachable = if local.ip().is_unspecified() { interfaces::reachable(*local) } else { vec![local.ip()] };
        places.extend(reachable.into_iter().map(|ip| Place::new(Host::Ip(ip.to_canonical()), local.port())));
    }
    let is_loopback = |place: &Place| matches!(place.host, Host::Ip(ip) if ip.is_loopback());
    if locals.iter().any(|local| local.ip().is_unspecified()) && places.iter().all(is_loopback) {
        progress.warn("this machine has no address but its own loopback's, so the ticket works on this machine only;");
        progress.warn("`--advertise HOST` puts another address into it");
    }
    places.truncate(MAX_PLACES);
    places
}
