//! The one line that a `recv` or `share` prints, and its clients are given: where to connect, whom to trust,
//! and the right to send, or to get.
//!
//! ```text
//! sendstream:    base64url of:
//!   checksum (4)     the first bytes of the BLAKE3 of all that follows
//!   version (1)      2
//!   certificate (32) its SHA-256 hash
//!   token (16)
//!   port (2)
//!   places           each: kind (1) · the port, if it is another one (2) · the address
//! ```
//!
//! A place is an IPv4 address (kind 4, 4 bytes), an IPv6 address (6, 16 bytes), a link-local one of
//! which only the lower half is told (7, 8 bytes), or a DNS name (1, after a byte of length). Bit 7 of
//! the kind says that the port comes with it. Numbers are big-endian. The zone of a link-local
//! address is not told: it is the client's own affair.
//!
//! The checksum tells a ticket with a typo from one that leads to somebody else. Every character is
//! safe to paste unquoted into a shell. What comes with a ticket that was copied by hand or by a
//! messenger is no part of it: white space and line breaks anywhere, quotes and brackets around it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use sendstream::{CertificateHash, Identity};

/// All that a client must know of its server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Where the server may be: one place at least, the likeliest first.
    pub(crate) places: Vec<Place>,
    pub(crate) certificate: [u8; 32],
    pub(crate) token: Token,
}

impl Ticket {
    /// Of a server with that identity.
    pub(crate) fn new(identity: &Identity, token: &Token, places: Vec<Place>) -> Self {
        let mut certificate = [0; 32];
        certificate.copy_from_slice(identity.certificate_sha256().as_ref());
        Self { places, certificate, token: token.clone() }
    }

    /// The SHA-256 hash that the server's certificate must have.
    pub(crate) fn certificate_hash(&self) -> CertificateHash {
        CertificateHash::from(self.certificate)
    }

    /// Where the server is most likely, in the usual notation.
    pub(crate) fn authority(&self) -> String {
        self.places[0].to_string()
    }

    /// Every place, for a message.
    pub(crate) fn everywhere(&self) -> String {
        self.places.iter().map(Place::to_string).collect::<Vec<_>>().join(", ")
    }

    /// What the checksum is about.
    fn body(&self) -> Vec<u8> {
        let port = self.places[0].port;
        let mut body = vec![VERSION];
        body.extend_from_slice(&self.certificate);
        body.extend_from_slice(self.token.as_bytes());
        body.extend_from_slice(&port.to_be_bytes());
        for place in &self.places {
            place.encode(port, &mut body);
        }
        body
    }

    fn decode(body: &[u8]) -> Result<Self, TicketError> {
        let mut rest = body;
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(TicketError::OtherRelease);
        }
        let (certificate, token) = (take(&mut rest)?, Token(take(&mut rest)?));
        let port = u16::from_be_bytes(take(&mut rest)?);
        let mut places = Vec::new();
        while !rest.is_empty() {
            if places.len() == MAX_PLACES {
                return Err(TicketError::Address);
            }
            places.push(Place::decode(port, &mut rest)?);
        }
        if places.is_empty() { Err(TicketError::Incomplete) } else { Ok(Self { places, certificate, token }) }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        let mut bytes = checksum(&body).to_vec();
        bytes.extend_from_slice(&body);
        write!(f, "{SCHEME}:{}", BASE64URL.encode(bytes))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, ..)", self.everywhere())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_TEXT_LEN {
            return Err(TicketError::TooLong);
        }
        let text: String = text.chars().filter(|c| !is_blank(*c)).collect();
        let text = text.trim_matches(is_wrapping);
        let rest = after_scheme(text).ok_or(TicketError::Scheme)?;
        if rest.split_once('/').is_some_and(|(authority, _)| authority.contains(':')) {
            // An address, a port and a secret, as of version 1.
            return Err(TicketError::OtherRelease);
        }
        if let Some(other) = rest.chars().find(|c| !is_base64url(*c)) {
            return Err(TicketError::Garbled(other));
        }
        // A number of characters that no number of bytes has: one is missing, or too many.
        let bytes = BASE64URL
            .decode(rest)
            .map_err(|_| if rest.len() % 4 == 1 { TicketError::Incomplete } else { TicketError::Typo })?;
        let (sum, body) = bytes.split_at_checked(CHECKSUM_LEN).ok_or(TicketError::Incomplete)?;
        let decoded = Self::decode(body);
        match (sum == checksum(body), decoded) {
            (true, decoded) => decoded,
            (false, Err(TicketError::Incomplete)) => Err(TicketError::Incomplete),
            (false, _) => Err(TicketError::Typo),
        }
    }
}

/// Whether a word of a command line begins a ticket. The rest may be in the words that follow.
pub(crate) fn begins_ticket(word: &str) -> bool {
    after_scheme(word.trim_start_matches(|c| is_blank(c) || is_wrapping(c))).is_some()
}

fn after_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

/// What nobody sees in a text: it comes and goes as the text is copied.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// What a text around the ticket may put before or after it.
fn is_wrapping(c: char) -> bool {
    matches!(
        c,
        '"' | '\''
            | '`'
            | '<'
            | '>'
            | '('
            | ')'
            | '['
            | ']'
            | '{'
            | '}'
            | ','
            | ';'
            | '.'
            | '“'
            | '”'
            | '‘'
            | '’'
            | '«'
            | '»'
    )
}

fn is_base64url(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = [0; CHECKSUM_LEN];
    sum.copy_from_slice(&blake3::hash(body).as_bytes()[..CHECKSUM_LEN]);
    sum
}

fn take<const LEN: usize>(rest: &mut &[u8]) -> Result<[u8; LEN], TicketError> {
    let (field, after) = rest.split_first_chunk().ok_or(TicketError::Incomplete)?;
    *rest = after;
    Ok(*field)
}

/// A place where a server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Place {
    pub(crate) fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    fn encode(&self, port: u16, out: &mut Vec<u8>) {
        let (kind, address) = match &self.host {
            Host::Ip(IpAddr::V4(ip)) => (KIND_V4, ip.octets().to_vec()),
            Host::Ip(IpAddr::V6(ip)) if ip.segments()[..4] == [0xfe80, 0, 0, 0] => {
                (KIND_LINK_LOCAL, ip.octets()[8..].to_vec())
            }
            Host::Ip(IpAddr::V6(ip)) => (KIND_V6, ip.octets().to_vec()),
            Host::Name(name) => {
                let len = u8::try_from(name.len()).expect("a name is at most 253 bytes long");
                (KIND_NAME, [&[len], name.as_bytes()].concat())
            }
        };
        if self.port == port {
            out.push(kind);
        } else {
            out.push(kind | OWN_PORT);
            out.extend_from_slice(&self.port.to_be_bytes());
        }
        out.extend_from_slice(&address);
    }

    fn decode(port: u16, rest: &mut &[u8]) -> Result<Self, TicketError> {
        let [kind] = take(rest)?;
        let port = if kind & OWN_PORT == 0 { port } else { u16::from_be_bytes(take(rest)?) };
        let host = match kind & !OWN_PORT {
            KIND_V4 => Host::Ip(Ipv4Addr::from(take(rest)?).into()),
            KIND_V6 => Host::Ip(Ipv6Addr::from(take(rest)?).into()),
            KIND_LINK_LOCAL => {
                let mut octets = [0; 16];
                octets[..2].copy_from_slice(&[0xfe, 0x80]);
                octets[8..].copy_from_slice(&take::<8>(rest)?);
                Host::Ip(Ipv6Addr::from(octets).into())
            }
            KIND_NAME => {
                let [len] = take(rest)?;
                let (name, after) = rest.split_at_checked(len.into()).ok_or(TicketError::Incomplete)?;
                *rest = after;
                let name = str::from_utf8(name).map_err(|_| TicketError::Address)?;
                match name.parse()? {
                    Host::Ip(_) => return Err(TicketError::Address),
                    name => name,
                }
            }
            _ => return Err(TicketError::OtherRelease),
        };
        if port == 0 || !host.may_be_elsewhere() { Err(TicketError::Address) } else { Ok(Self { host, port }) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Host::Ip(ip) => SocketAddr::new(ip, self.port).fmt(f),
            Host::Name(ref name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// An IP address or a DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Host {
    /// Whether it could be a host's: neither all of them nor a group.
    fn may_be_elsewhere(&self) -> bool {
        match self {
            Self::Ip(ip) => {
                // An IPv4 address may come as an IPv6 one.
                let ip = ip.to_canonical();
                !(ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST)
            }
            Self::Name(_) => true,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for Host {
    type Err = TicketError;

    /// An IPv6 address may stand in brackets, and may have a zone, which is dropped.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).filter(|text| text.contains(':'));
        let text = bare.unwrap_or(text);
        let host = if text.contains(':') {
            let (ip, zone) = text.split_once('%').unwrap_or((text, "0"));
            let is_zone =
                !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
            Self::Ip(IpAddr::V6(ip.parse().ok().filter(|_| is_zone).ok_or(TicketError::Address)?))
        } else if let Ok(ip) = text.parse::<Ipv4Addr>() {
            Self::Ip(ip.into())
        } else {
            let label = |label: &str| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                    && !label.starts_with('-')
            };
            let is_name = text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label);
            Self::Name(is_name.then(|| text.to_owned()).ok_or(TicketError::Address)?)
        };
        if host.may_be_elsewhere() { Ok(host) } else { Err(TicketError::Address) }
    }
}

/// The right to send, or to get: 128 random bits, made when `recv` or `share` starts, kept in memory only,
/// and void when it ends.
#[derive(Clone)]
pub(crate) struct Token([u8; Self::LEN]);

impl Token {
    /// How many bytes a token has, here and on the wire.
    pub(crate) const LEN: usize = 16;

    /// Draws a token from the system's random source.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; Self::LEN];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The token that a peer presents.
    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes to present.
    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// In constant time, so that a guess cannot be improved by measuring how long its refusal took.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq::constant_time_eq_16(&self.0, &other.0)
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why a text is not a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TicketError {
    /// It does not begin as a ticket does.
    #[error("a ticket begins with `{SCHEME}:`; it must be the line that `recv` or `share` printed")]
    Scheme,
    /// No ticket is as long.
    #[error("no ticket is as long; it must be the line that `recv` or `share` printed, and nothing else")]
    TooLong,
    /// Its end is missing.
    #[error("the ticket is cut off; copy the whole line that `recv` or `share` printed")]
    Incomplete,
    /// It has no place that can be a host's.
    #[error("the ticket has no valid address; copy the whole line that `recv` or `share` printed")]
    Address,
    /// A character that is none of base64url.
    #[error(
        "the ticket has the character {0:?}, which no ticket has; copy the line that `recv` or `share` printed again"
    )]
    Garbled(char),
    /// The checksum is wrong.
    #[error(
        "the ticket has a typo, or something is appended to it; copy the line that `recv` or `share` printed again"
    )]
    Typo,
    /// Its form is of another version.
    #[error("the ticket is of another release of sendstream; install the same release at both ends")]
    OtherRelease,
}

const SCHEME: &str = "sendstream";
const VERSION: u8 = 2;
const CHECKSUM_LEN: usize = 4;
const KIND_NAME: u8 = 1;
const KIND_V4: u8 = 4;
const KIND_V6: u8 = 6;
const KIND_LINK_LOCAL: u8 = 7;
/// In a kind: the place has a port of its own.
const OWN_PORT: u8 = 0x80;
/// How many places a ticket may have.
pub(crate) const MAX_PLACES: usize = 16;
/// No ticket is as long, also with blanks in it.
pub(crate) const MAX_TEXT_LEN: usize = 8192;

#[cfg(test)]
pub(crate) fn example() -> Ticket {
    let place = Place::new("192.0.2.7".parse().unwrap(), 4433);
    Ticket { places: vec![place], certificate: [0xfb; 32], token: Token([0xff; 16]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hosts: &[(&str, u16)]) -> Ticket {
        Ticket {
            places: hosts.iter().map(|(host, port)| Place::new(host.parse().unwrap(), *port)).collect(),
            ..example()
        }
    }

    /// The text of a ticket with this body, and the right checksum.
    fn text(body: &[u8]) -> String {
        format!("{SCHEME}:{}", BASE64URL.encode([&checksum(body), body].concat()))
    }

    fn parse(text: &str) -> TicketError {
        text.parse::<Ticket>().unwrap_err()
    }

    #[test]
    fn every_kind_of_place_survives_the_round_trip() {
        for host in [
            "127.0.0.1",
            "::1",
            "2001:db8::1",
            "fe80::1",
            "fe80:1::1",
            "localhost",
            "files.example.org",
            "a-b.example.",
        ] {
            let ticket = at(&[(host, 4433)]);
            assert_eq!(ticket.to_string().parse(), Ok(ticket), "{host}");
        }
        let ticket = at(&[("192.0.2.7", 1), ("2001:db8::1", 1), ("fe80::2", 2), ("files.example", 65535)]);
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
        let longest = vec!["a".repeat(62); 4].join(".");
        let ticket = at(&[(longest.as_str(), 7); MAX_PLACES]);
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
    }

    #[test]
    fn random_tickets_survive_the_round_trip() {
        for _ in 0..100 {
            let mut certificate = [0; 32];
            getrandom::fill(&mut certificate).unwrap();
            let ticket = Ticket { certificate, token: Token::random().unwrap(), ..example() };
            assert_eq!(ticket.to_string().parse(), Ok(ticket));
        }
    }

    #[test]
    fn a_ticket_is_short_and_each_further_address_adds_little() {
        let len = |hosts| at(hosts).to_string().len();
        assert_eq!(len(&[("192.0.2.7", 1)]), 91);
        assert!(len(&[("192.0.2.7", 1), ("198.51.100.7", 1)]) - len(&[("192.0.2.7", 1)]) <= 7);
        assert!(len(&[("192.0.2.7", 1), ("2001:db8::7", 1), ("fe80::7", 1)]) <= 126);
    }

    #[test]
    fn no_character_of_a_ticket_means_anything_to_a_shell() {
        let line = at(&[("192.0.2.7", 1), ("fe80::1", 2), ("files.example", 1)]).to_string();
        assert!(line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte)), "{line}");
    }

    #[test]
    fn a_host_may_stand_in_brackets_and_its_zone_is_nobody_elses() {
        for host in ["fe80::1%4", "fe80::1%eth0", "[fe80::1%4]", "[fe80::1]"] {
            assert_eq!(host.parse(), Ok(Host::Ip("fe80::1".parse().unwrap())), "{host}");
        }
        for host in [
            "fe80::1%",
            "fe80::1%a b",
            "[fe80::1",
            "[localhost]",
            "0.0.0.0",
            "::",
            "ff02::1",
            "224.0.0.1",
            "255.255.255.255",
            "",
        ] {
            assert_eq!(host.parse::<Host>(), Err(TicketError::Address), "{host}");
        }
    }

    #[test]
    fn what_comes_with_copying_does_no_harm() {
        let line = at(&[("192.0.2.7", 4433), ("2001:db8::1", 4433)]).to_string();
        let (begin, end) = line.split_at(70);
        for text in [
            format!(" {line}\r\n"),
            format!("{begin}\n{end}"),
            format!("{begin}\r\n    {end}\n"),
            format!("{begin} {end}"),
            format!("{begin}\u{200b}{end}"),
            format!("\u{feff}{line}\u{a0}"),
            format!("\"{line}\""),
            format!("<{line}>,"),
            format!("[{line}]."),
            format!("\x1b{line}"),
            line.replace("sendstream:", "Sendstream: "),
        ] {
            assert_eq!(text.parse::<Ticket>().map(|ticket| ticket.to_string()), Ok(line.clone()), "{text:?}");
        }
    }

    #[test]
    fn every_wrong_character_is_a_typo_and_every_missing_end_is_told() {
        let line = at(&[("192.0.2.7", 4433), ("files.example", 4433)]).to_string();
        for place in "sendstream:".len()..line.len() {
            let other = if &line[place..=place] == "A" { "B" } else { "A" };
            let mut spoiled = line.clone();
            spoiled.replace_range(place..=place, other);
            let error = parse(&spoiled);
            assert!(matches!(error, TicketError::Typo | TicketError::Incomplete), "{place}: {error:?}");
        }
        for len in "sendstream:".len()..line.len() {
            let error = parse(&line[..len]);
            assert!(matches!(error, TicketError::Typo | TicketError::Incomplete), "{len}: {error:?}");
        }
        assert_eq!(parse(&line[..line.len() - 8]), TicketError::Incomplete);
        assert_eq!(parse(&format!("{line}AAAA")), TicketError::Typo);
        assert_eq!(parse(&format!("{line}+")), TicketError::Garbled('+'));
    }

    #[test]
    fn wrong_lines_are_told_apart() {
        assert_eq!(parse(""), TicketError::Scheme);
        assert_eq!(parse("photo.jpg"), TicketError::Scheme);
        assert_eq!(parse("sendstream"), TicketError::Scheme);
        assert_eq!(parse("sendstream:"), TicketError::Incomplete);
        assert_eq!(parse("sendstream:192.0.2.7:4433/AAAA"), TicketError::OtherRelease);
        assert_eq!(parse(&"x".repeat(MAX_TEXT_LEN + 1)), TicketError::TooLong);
    }

    #[test]
    fn a_hostile_ticket_with_the_right_checksum_is_refused() {
        let body = example().body();
        let (head, place) = body.split_at(51);
        assert_eq!(place, [4, 192, 0, 2, 7]);
        let with = |places: &[u8]| parse(&text(&[head, places].concat()));
        assert_eq!(parse(&text(&[&[9], &body[1..]].concat())), TicketError::OtherRelease);
        assert_eq!(parse(&text(&[&body[..49], &[0, 0], place].concat())), TicketError::Address, "port 0");
        assert_eq!(with(&[]), TicketError::Incomplete);
        assert_eq!(with(&place.repeat(MAX_PLACES + 1)), TicketError::Address);
        assert_eq!(with(&[4, 0, 0, 0, 0]), TicketError::Address);
        assert_eq!(with(&[4, 224, 0, 0, 1]), TicketError::Address);
        for mapped in ["::ffff:224.0.0.1", "::ffff:0.0.0.0", "::ffff:255.255.255.255"] {
            let ip: Ipv6Addr = mapped.parse().unwrap();
            assert_eq!(with(&[&[6][..], &ip.octets()].concat()), TicketError::Address, "{mapped}");
        }
        assert_eq!(with(&[4 | OWN_PORT, 0, 0, 192, 0, 2, 7]), TicketError::Address);
        assert_eq!(with(&[1, 0]), TicketError::Address);
        assert_eq!(with(&[1, 3, b'a', 0x1b, b'b']), TicketError::Address);
        assert_eq!(with(&[1, 2, 0xc3, 0x28]), TicketError::Address);
        assert_eq!(with(&[1, 7, b'1', b'.', b'2', b'.', b'3', b'.', b'4']), TicketError::Address);
        assert_eq!(with(&[1, 255, b'a']), TicketError::Incomplete);
        assert_eq!(with(&[77]), TicketError::OtherRelease);
    }

    #[test]
    fn the_secret_is_not_in_the_debug_output() {
        assert_eq!(format!("{:?}", example()), "Ticket(192.0.2.7:4433, ..)");
        assert_eq!(format!("{:?}", example().token), "Token(..)");
    }
}
