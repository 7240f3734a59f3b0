//! `sendstream peers`: those with whom no ticket has to change hands any more.
//!
//! A peer is a file, `peers/NAME.toml` in the [`Store`]: the ticket with which this end sends to it, the
//! digest of the token with which it may send to this end, or both. A token is told once, in the ticket
//! that [`invite`] prints; what stays here is its digest.

use std::{fmt, fs, io, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    cli::{Advertised, PeersArgs, PeersCommand},
    destination,
    error::{Failure, Kind},
    interfaces,
    store::Store,
    summary::{print_json, print_line},
    ticket::{Host, MAX_PLACES, Place, Ticket, Token},
};

/// Does what was asked for.
pub(crate) fn run(args: PeersArgs) -> Result<(), Failure> {
    let peers = Peers(Store::of_user()?);
    let json = args.json;
    match args.command {
        None => list(&peers, json),
        Some(PeersCommand::Add(add)) => {
            let ticket = destination::one(&add.ticket)?;
            peers.change(&add.name, |peer| peer.ticket = Some(ticket.to_string()))?;
            let (name, leads_to) = (&add.name, ticket.everywhere());
            let text = format!("{name} is at {leads_to}; type `sendstream send FILE... {name}`");
            print(json, &text, &Changed { name: name.as_str(), ticket: None })
        }
        Some(PeersCommand::Invite(invite)) => {
            let (token, ticket) = self::invite(&peers, invite.advertise, invite.port)?;
            peers.change(&invite.name, |peer| peer.may_send = Some(digest(&token)))?;
            let ticket = ticket.to_string();
            print(json, &ticket, &Changed { name: invite.name.as_str(), ticket: Some(&ticket) })
        }
        Some(PeersCommand::Remove { name }) => {
            peers.remove(&name)?;
            print(json, &format!("{name} is known no more"), &Changed { name: name.as_str(), ticket: None })
        }
    }
}

#[derive(Serialize)]
struct Changed<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<&'a str>,
}

fn print(json: bool, text: &str, object: &impl Serialize) -> Result<(), Failure> {
    if json { print_json(object) } else { print_line(text) }
}

/// Makes a ticket that stays good: of this end's identity, with a token of its own.
fn invite(peers: &Peers, advertise: Vec<Advertised>, port: u16) -> Result<(Token, Ticket), Failure> {
    let identity = peers.0.identity()?;
    let token = Token::random().map_err(|error| Failure::new(format!("cannot draw a token: {error}")))?;
    let own = || interfaces::reachable(([0u16; 8], 0).into()).into_iter().map(|ip| Place::new(Host::Ip(ip), port));
    let mut places: Vec<_> = advertise.into_iter().map(|it| Place::new(it.host, it.port.unwrap_or(port))).collect();
    if places.is_empty() {
        places.extend(own());
    }
    places.truncate(MAX_PLACES);
    let ticket = Ticket::new(&identity, &token, places);
    Ok((token, ticket))
}

fn list(peers: &Peers, json: bool) -> Result<(), Failure> {
    let known: Vec<_> =
        peers.names()?.into_iter().map(|name| peers.get(&name).map(|peer| (name, peer))).collect::<Result<_, _>>()?;
    let mut listed = Vec::new();
    for (name, peer) in &known {
        let ticket = peer.ticket.as_deref().and_then(|ticket| ticket.parse::<Ticket>().ok());
        let reach = ticket.iter().flat_map(|ticket| &ticket.places).map(ToString::to_string).collect();
        listed.push(Listed { name: name.as_str(), may_send: peer.may_send.is_some(), reach });
    }
    if json {
        return print_json(&serde_json::json!({ "peers": listed }));
    }
    for peer in &listed {
        let sends = if peer.may_send { "may send here" } else { "may not send here" };
        let at =
            if peer.reach.is_empty() { "not known where".to_owned() } else { format!("at {}", peer.reach.join(", ")) };
        print_line(&format!("{}: {at}, {sends}", peer.name))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    may_send: bool,
    reach: Vec<String>,
}

/// The known peers of this user.
#[derive(Debug)]
pub(crate) struct Peers(Store);

/// What is known of one.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Peer {
    /// With which this end sends to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<String>,
    /// The BLAKE3 of the token with which it sends to this end.
    #[serde(skip_serializing_if = "Option::is_none")]
    may_send: Option<String>,
}

impl Peers {
    pub(crate) fn new(store: Store) -> Self {
        Self(store)
    }

    /// The ticket of a peer, if the name is one's.
    pub(crate) fn ticket(&self, name: &str) -> Result<Option<Ticket>, Failure> {
        let Ok(name) = name.parse::<Name>() else { return Ok(None) };
        if !self.path(&name).exists() {
            return Ok(None);
        }
        match self.get(&name)?.ticket {
            Some(ticket) => ticket.parse().map(Some).map_err(|error| {
                Failure::new(format!("the ticket of {name} is none: {error}"))
                    .kind(Kind::Ticket)
                    .todo(format!("`sendstream peers add {name} TICKET` takes another"))
            }),
            None => Err(Failure::usage(format!("it is not known how to send to {name}, which may only send here"))
                .todo(format!(
                    "have it type `sendstream peers invite`, and type `sendstream peers add {name} TICKET`"
                ))),
        }
    }

    /// Which peer shows this token. What was changed since is known at once.
    pub(crate) fn who_has(&self, token: &Token) -> Option<String> {
        let shown = digest(token);
        // The whole list is compared, so that the time tells nothing of it.
        let mut found = None;
        for name in self.names().ok()? {
            let known = self.get(&name).ok().and_then(|peer| peer.may_send).unwrap_or_default();
            if constant_time_eq::constant_time_eq(known.as_bytes(), shown.as_bytes()) {
                found = Some(name.0);
            }
        }
        found
    }

    /// How many may send here.
    pub(crate) fn guests(&self) -> Result<usize, Failure> {
        let names = self.names()?;
        Ok(names.iter().filter(|name| self.get(name).is_ok_and(|peer| peer.may_send.is_some())).count())
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.0.path().join(FOLDER).join(format!("{name}{SUFFIX}"))
    }

    fn names(&self) -> Result<Vec<Name>, Failure> {
        let folder = self.0.path().join(FOLDER);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| self.0.failed(&folder, &error))?,
        };
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(SUFFIX)?.parse().ok();
        let mut names: Vec<Name> = entries.flatten().filter_map(name).take(MAX_PEERS).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn get(&self, name: &Name) -> Result<Peer, Failure> {
        let path = self.path(name);
        let text = self.0.read(&path).map_err(|error| self.0.failed(&path, &error))?;
        toml::from_str(&text)
            .map_err(|error| Failure::new(format!("cannot read {}: {}", path.display(), error.message())))
    }

    fn change(&self, name: &Name, change: impl FnOnce(&mut Peer)) -> Result<(), Failure> {
        self.0.make(FOLDER)?;
        let path = self.path(name);
        let is_new = !path.exists();
        if is_new && self.names()?.len() >= MAX_PEERS {
            return Err(Failure::new(format!("{MAX_PEERS} peers are as many as there can be")));
        }
        let mut peer = if is_new { Peer::default() } else { self.get(name)? };
        change(&mut peer);
        let text = toml::to_string(&peer).map_err(|error| Failure::new(format!("cannot keep {name}: {error}")))?;
        self.0.write(&path, text.as_bytes(), true).map_err(|error| self.0.failed(&path, &error))
    }

    fn remove(&self, name: &Name) -> Result<(), Failure> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Failure::usage(format!("there is no peer called {name}")).todo("`sendstream peers` lists them")
            }
            _ => self.0.failed(&path, &error),
        })
    }
}

/// Who is let in by a receiver.
#[derive(Debug)]
pub(crate) enum Guests {
    /// Whoever has the ticket of this run.
    Holder(Token),
    /// Known peers that were invited.
    Known(Peers),
}

/// A sender that is let in: its name, if it is a known peer.
pub(crate) type Guest = Option<String>;

impl Guests {
    /// Who shows the token, if it is one that is let in.
    pub(crate) fn who_has(&self, token: &Token) -> Option<Guest> {
        match self {
            Self::Holder(own) => (own == token).then_some(None),
            Self::Known(peers) => peers.who_has(token).map(Some),
        }
    }
}

/// What a peer is called here: a word of lower-case letters, digits, `.`, `_` and `-`, which no file's
/// path is taken for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl Name {
    fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("a name has 1 to 64 lower-case letters, digits, `.`, `_` and `-`, and begins with a letter or a digit")
        }
    }
}

fn digest(token: &Token) -> String {
    blake3::hash(token.as_bytes()).to_string()
}

const FOLDER: &str = "peers";
const SUFFIX: &str = ".toml";
/// How many peers there can be: each hello is compared with all of them.
const MAX_PEERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket;

    #[test]
    fn a_peer_that_was_invited_is_known_by_its_token_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::new(Store::at(&dir.path().join("new")));
        assert_eq!(peers.who_has(&Token::random().unwrap()), None);
        let [laptop, phone] = ["laptop", "phone"].map(|name| name.parse::<Name>().unwrap());
        let (token, ticket) = invite(&peers, Vec::new(), 4433).unwrap();
        assert_eq!(ticket.token, token);
        peers.change(&laptop, |peer| peer.may_send = Some(digest(&token))).unwrap();
        peers.change(&phone, |peer| peer.ticket = Some(ticket::example().to_string())).unwrap();
        assert_eq!(peers.who_has(&token), Some("laptop".to_owned()));
        assert_eq!(peers.who_has(&Token::random().unwrap()), None);
        assert_eq!(peers.guests().unwrap(), 1);
        assert_eq!(peers.ticket("phone").unwrap(), Some(ticket::example()));
        assert_eq!(peers.ticket("nobody").unwrap(), None);
        assert_eq!(peers.ticket("../peers/phone").unwrap(), None);
        assert!(peers.ticket("laptop").unwrap_err().to_string().contains("peers add laptop"));
        // The token itself is nowhere.
        let text = fs::read(peers.path(&laptop)).unwrap();
        assert!(!text.windows(16).any(|bytes| bytes == token.as_bytes()));
        peers.remove(&laptop).unwrap();
        assert_eq!(peers.who_has(&token), None);
        assert!(peers.remove(&laptop).is_err());
    }

    #[test]
    fn a_name_is_no_path() {
        for name in ["a", "my-server.example", "0_0"] {
            assert!(name.parse::<Name>().is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "-x", "A", "ä", "a b", &"x".repeat(65)] {
            assert!(name.parse::<Name>().is_err(), "{name}");
        }
    }
}
