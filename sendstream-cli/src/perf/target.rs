//! What `perf run` is given: a ticket, or where an open server is.

use std::str::FromStr;

use sendstream::{Client, ConnectError, Connection, Trust};

use crate::{
    cli::Advertised,
    dial::dial,
    protocol::SERVER_NAME,
    ticket::{Ticket, Token, begins_ticket},
};

/// Where the server is, and how it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A server that wants its token, and shows its certificate.
    Ticket(Ticket),
    /// An open server, whoever that is.
    Host { host: String, port: u16 },
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if begins_ticket(text) {
            return text.parse().map(Self::Ticket).map_err(|error: crate::ticket::TicketError| error.to_string());
        }
        let Advertised { host, port } = text
            .parse()
            .map_err(|_| "expected HOST, HOST:PORT or the ticket that `sendstream perf serve` printed".to_owned())?;
        Ok(Self::Host { host: host.to_string(), port: port.unwrap_or(DEFAULT_PORT) })
    }
}

impl Target {
    /// At another port. A ticket has its own.
    pub(crate) fn at_port(self, port: Option<u16>) -> Result<Self, &'static str> {
        match (self, port) {
            (target, None) => Ok(target),
            (Self::Host { host, .. }, Some(port)) => Ok(Self::Host { host, port }),
            (Self::Ticket(_), Some(_)) => Err("a ticket has its port: leave out -p"),
        }
    }

    pub(crate) fn is_ticket(&self) -> bool {
        matches!(self, Self::Ticket(_))
    }

    /// In the usual notation.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Ticket(ticket) => ticket.everywhere(),
            Self::Host { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Host { host, port } => format!("{host}:{port}"),
        }
    }

    /// Whom to believe. An open server has nothing to be known by, and gets nothing that matters.
    pub(crate) fn trust(&self) -> Trust {
        match self {
            Self::Ticket(ticket) => Trust::pinned([ticket.certificate_hash()]),
            Self::Host { .. } => Trust::dangerous_accept_any_certificate(),
        }
    }

    /// What to show. An open server does not look at it.
    pub(crate) fn token(&self) -> Token {
        match self {
            Self::Ticket(ticket) => ticket.token.clone(),
            Self::Host { .. } => Token::from_bytes([0; Token::LEN]),
        }
    }

    pub(crate) async fn connect(&self, client: &Client) -> Result<Connection, ConnectError> {
        match self {
            Self::Ticket(ticket) => dial(client, ticket).await,
            Self::Host { host, port } => client.connect_host(host, *port).await,
        }
    }
}

/// Where `perf serve` listens unless it is told otherwise: iperf3's number.
pub(crate) const DEFAULT_PORT: u16 = 5201;

/// What the certificate of a server is for.
pub(crate) const NAME: &str = SERVER_NAME;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_tickets_are_told_apart() {
        let ticket = crate::ticket::example();
        assert_eq!(ticket.to_string().parse(), Ok(Target::Ticket(ticket)));
        for (text, authority) in [
            ("example.org", "example.org:5201"),
            ("192.0.2.7:4433", "192.0.2.7:4433"),
            ("::1", "[::1]:5201"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().authority(), authority);
        }
        for wrong in ["", "a b", "host:0", "sendstream:nothing", "-R"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_port_is_for_hosts_alone() {
        let host: Target = "example.org".parse().unwrap();
        assert_eq!(host.at_port(Some(7)).unwrap().authority(), "example.org:7");
        assert!(Target::Ticket(crate::ticket::example()).at_port(Some(7)).is_err());
    }
}
