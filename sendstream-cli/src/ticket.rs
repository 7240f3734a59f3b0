//! The one line that a receiver prints and a sender is given: where to connect, whom to trust, and
//! the right to send.
//!
//! ```text
//! sendstream:192.0.2.7:4433/mZk0…64 characters…9Qw
//!            └─host─┘ └port┘ └ base64url of certificate hash (32 bytes) and token (16 bytes) ┘
//! ```
//!
//! Every character is safe to paste unquoted into a shell. That is why an IPv6 address stands
//! without its usual brackets, which shells read as a pattern; the port is always there, so the
//! last colon ends the address.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
    str::FromStr,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use sendstream::CertificateHash;

/// All that a sender must know of a receiver.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) certificate: [u8; 32],
    pub(crate) token: Token,
}

impl Ticket {
    /// The SHA-256 hash that the receiver's certificate must have.
    pub(crate) fn certificate_hash(&self) -> CertificateHash {
        CertificateHash::from(self.certificate)
    }

    /// Where the receiver is, in the usual notation.
    pub(crate) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.is_ipv6() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut secret = [0; SECRET_LEN];
        secret[..32].copy_from_slice(&self.certificate);
        secret[32..].copy_from_slice(&self.token.0);
        write!(f, "{SCHEME}:{}:{}/{}", self.host, self.port, BASE64URL.encode(secret))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, ..)", self.authority())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest =
            text.trim().strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix(':')).ok_or(TicketError::Scheme)?;
        let (authority, secret) = rest.split_once('/').ok_or(TicketError::Incomplete)?;
        let (host, port) = authority.rsplit_once(':').ok_or(TicketError::Address)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(TicketError::Address)?;
        let host = host.parse()?;
        if secret.len() != SECRET_TEXT_LEN {
            return Err(TicketError::Incomplete);
        }
        let secret = BASE64URL.decode(secret).map_err(|_| TicketError::Garbled)?;
        let (certificate, token) = secret.split_at_checked(32).ok_or(TicketError::Garbled)?;
        Ok(Self {
            host,
            port,
            certificate: certificate.try_into().map_err(|_| TicketError::Garbled)?,
            token: Token(token.try_into().map_err(|_| TicketError::Garbled)?),
        })
    }
}

/// An IP address (an IPv6 one without brackets, perhaps with a numeric zone) or a DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host(String);

impl Host {
    /// The host part of an address that a socket reported.
    pub(crate) fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self(v4.ip().to_string()),
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Self(format!("{}%{}", v6.ip(), v6.scope_id())),
            SocketAddr::V6(v6) => Self(v6.ip().to_string()),
        }
    }

    /// The host, an IPv6 address without brackets.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn is_ipv6(&self) -> bool {
        self.0.contains(':')
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = if text.contains(':') {
            let (ip, zone) = text.split_once('%').unwrap_or((text, "0"));
            // A number's parser takes a plus sign as well.
            let is_number = zone.bytes().all(|byte| byte.is_ascii_digit()) && zone.parse::<u32>().is_ok();
            ip.parse::<Ipv6Addr>().is_ok() && is_number
        } else {
            let label = |label: &str| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                    && !label.starts_with('-')
            };
            text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
        };
        if valid { Ok(Self(text.to_owned())) } else { Err(TicketError::Address) }
    }
}

/// The right to send: 128 random bits, made when `recv` starts, kept in memory only, and void when
/// it ends.
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

/// Why a line is not a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TicketError {
    /// It does not begin as a ticket does.
    #[error("a ticket begins with `{SCHEME}:`; the last argument must be the line that `sendstream recv` printed")]
    Scheme,
    /// Its end is missing, or something follows it.
    #[error("the ticket is cut off or has something appended; copy the whole line that `sendstream recv` printed")]
    Incomplete,
    /// The host or the port is none.
    #[error("the ticket has no valid address; copy the whole line that `sendstream recv` printed")]
    Address,
    /// The part after the slash is not base64url.
    #[error("the ticket has a character that no ticket has; copy the line that `sendstream recv` printed again")]
    Garbled,
}

const SCHEME: &str = "sendstream";
const SECRET_LEN: usize = 32 + Token::LEN;
const SECRET_TEXT_LEN: usize = SECRET_LEN / 3 * 4;

#[cfg(test)]
pub(crate) fn example() -> Ticket {
    Ticket { host: Host("192.0.2.7".to_owned()), port: 4433, certificate: [0xfb; 32], token: Token([0xff; 16]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_host_survives_the_round_trip() {
        for host in ["127.0.0.1", "::1", "2001:db8::1", "fe80::1%2", "localhost", "files.example.org", "a-b.example."] {
            let ticket = Ticket { host: host.parse().unwrap(), ..example() };
            assert_eq!(ticket.to_string().parse(), Ok(ticket), "{host}");
        }
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
    fn no_character_of_a_ticket_means_anything_to_a_shell() {
        for host in ["192.0.2.7", "fe80::1%2", "files.example"] {
            let line = Ticket { host: host.parse().unwrap(), ..example() }.to_string();
            assert!(line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/._-%".contains(&byte)), "{line}");
        }
    }

    #[test]
    fn the_zone_of_an_address_is_a_number_without_a_sign() {
        for host in ["fe80::1%+4", "fe80::1%-4", "fe80::1%", "fe80::1%eth0"] {
            assert_eq!(host.parse::<Host>(), Err(TicketError::Address), "{host}");
        }
    }

    #[test]
    fn a_line_ending_from_the_clipboard_does_no_harm() {
        assert_eq!(format!(" {}\r\n", example()).parse(), Ok(example()));
    }

    #[test]
    fn wrong_lines_are_told_apart() {
        let line = example().to_string();
        let parse = |text: &str| text.parse::<Ticket>().unwrap_err();
        assert_eq!(parse(""), TicketError::Scheme);
        assert_eq!(parse("photo.jpg"), TicketError::Scheme);
        assert_eq!(parse("sendstream"), TicketError::Scheme);
        assert_eq!(parse("sendstream:192.0.2.7:4433"), TicketError::Incomplete);
        assert_eq!(parse(&line[..line.len() - 1]), TicketError::Incomplete);
        assert_eq!(parse(&format!("{line}A")), TicketError::Incomplete);
        assert_eq!(parse(&line.replace(":4433", "")), TicketError::Address);
        assert_eq!(parse(&line.replace("4433", "0")), TicketError::Address);
        assert_eq!(parse(&line.replace("4433", "65536")), TicketError::Address);
        assert_eq!(parse(&line.replace("192.0.2.7", "")), TicketError::Address);
        assert_eq!(parse(&line.replace("192.0.2.7", "-v")), TicketError::Address);
        assert_eq!(parse(&line.replace("192.0.2.7", "a b")), TicketError::Address);
        assert_eq!(parse(&line.replace("192.0.2.7", "1::2::3")), TicketError::Address);
        let mut garbled = line;
        garbled.replace_range(garbled.len() - 1.., "+");
        assert_eq!(parse(&garbled), TicketError::Garbled);
    }

    #[test]
    fn the_secret_is_not_in_the_debug_output() {
        assert_eq!(format!("{:?}", example()), "Ticket(192.0.2.7:4433, ..)");
        assert_eq!(format!("{:?}", example().token), "Token(..)");
    }
}
