//! From a ticket to a connection: all of its places are tried side by side.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use futures::future::{BoxFuture, FutureExt as _, select_all};
use sendstream::{Client, ConnectError, Connection, ConnectionError};

use crate::{
    interfaces,
    protocol::SERVER_NAME,
    ticket::{Host, Place, Ticket},
};

/// Connects to the first of the ticket's places that answers and is believed.
///
/// Dropping the future gives all attempts up.
///
/// # Errors
///
/// Of the attempts' failures the one that says most.
pub(crate) async fn dial(client: &Client, ticket: &Ticket) -> Result<Connection, ConnectError> {
    let addresses = addresses(&ticket.places, &interfaces::zones());
    let mut attempts: Vec<BoxFuture<'_, Result<Connection, ConnectError>>> = Vec::new();
    if !addresses.is_empty() {
        attempts.push(async move { client.connect_any(&addresses, SERVER_NAME).await }.boxed());
    }
    for place in &ticket.places {
        if let Host::Name(name) = &place.host {
            attempts.push(client.connect_host(name, place.port).boxed());
        }
    }
    let mut failure = None;
    while !attempts.is_empty() {
        let (result, _, others) = select_all(attempts).await;
        attempts = others;
        match result {
            Ok(connection) => return Ok(connection),
            Err(error) if failure.as_ref().is_none_or(|before| !is_answer(before)) => failure = Some(error),
            Err(_) => {}
        }
    }
    // A ticket has one place at least; but where this machine has no link, one may lead nowhere.
    Err(failure.unwrap_or(ConnectError::NoAddress))
}

/// The addresses to try: a link-local one on each link of this machine, as the ticket cannot say
/// which.
fn addresses(places: &[Place], zones: &[u32]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for place in places {
        match place.host {
            Host::Ip(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
                addresses
                    .extend(zones.iter().map(|zone| SocketAddr::from(SocketAddrV6::new(ip, place.port, 0, *zone))));
            }
            Host::Ip(ip) => addresses.push(SocketAddr::new(ip, place.port)),
            Host::Name(_) => {}
        }
    }
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// Whether somebody answered, which says more than that nobody did.
fn is_answer(error: &ConnectError) -> bool {
    match error {
        ConnectError::Connection(error) => {
            !matches!(error, ConnectionError::TimedOut(_) | ConnectionError::Unreachable | ConnectionError::System(_))
        }
        _ => false,
    }
}

/// How many addresses are tried: those of a ticket, with some links for the link-local ones.
const MAX_ADDRESSES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::MAX_PLACES;

    #[test]
    fn a_link_local_address_is_tried_on_every_link() {
        let places: Vec<_> =
            ["192.0.2.7", "fe80::1", "files.example"].map(|host| Place::new(host.parse().unwrap(), 4433)).into();
        let expected = ["192.0.2.7:4433", "[fe80::1%2]:4433", "[fe80::1%5]:4433"].map(|it| it.parse().unwrap());
        assert_eq!(addresses(&places, &[2, 5]), expected);
        assert_eq!(addresses(&places, &[]), expected[..1]);
    }

    #[test]
    fn a_hostile_ticket_makes_a_sender_try_a_few_addresses_only() {
        let places = vec![Place::new("fe80::1".parse().unwrap(), 4433); MAX_PLACES];
        assert_eq!(addresses(&places, &(1..100).collect::<Vec<_>>()).len(), MAX_ADDRESSES);
    }
}
