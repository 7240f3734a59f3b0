//! The addresses of this machine: those by which others may reach it, and the links on which it can
//! reach others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// An address of an interface that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Assigned {
    ip: IpAddr,
    /// The number of the interface, where the address is link-local.
    zone: u32,
    /// Whether it has a link, as far as the system knows.
    runs: bool,
}

/// By which addresses other machines may reach a socket that is bound to all of `local`'s: the
/// likeliest first, never a loopback address while there is another.
pub(crate) fn reachable(local: SocketAddr) -> Vec<IpAddr> {
    let begin = [
        source_address(Ipv4Addr::UNSPECIFIED.into(), DOCUMENTATION_V4.into()),
        source_address(Ipv6Addr::UNSPECIFIED.into(), DOCUMENTATION_V6.into()),
    ];
    let begin = begin.into_iter().flatten();
    let found: Vec<_> =
        begin.chain(assigned().into_iter().filter(|address| address.runs).map(|address| address.ip)).collect();
    ranked(&found, local)
}

/// The interfaces by which a link-local address could be reached.
pub(crate) fn zones() -> Vec<u32> {
    let mut zones: Vec<u32> = assigned().iter().map(|address| address.zone).filter(|zone| *zone != 0).collect();
    zones.sort_unstable();
    zones.dedup();
    zones
}

/// Those of `found` that a socket bound to all of `local`'s has, in the order in which to try them.
fn ranked(found: &[IpAddr], local: SocketAddr) -> Vec<IpAddr> {
    let mut ranked: Vec<IpAddr> = Vec::new();
    for ip in found {
        // A socket for IPv6's addresses takes IPv4's as well.
        if (ip.is_ipv4() || local.is_ipv6()) && !ranked.contains(ip) {
            ranked.push(*ip);
        }
    }
    if ranked.iter().any(|ip| !ip.is_loopback()) {
        ranked.retain(|ip| !ip.is_loopback());
    } else {
        ranked.retain(|ip| [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(ip));
    }
    // What the routes to elsewhere begin with stays at the front, as this sort is stable.
    ranked.sort_by_key(|ip| is_link_local(*ip));
    if ranked.is_empty() {
        ranked.push(if local.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    ranked
}

/// Whether the address means something on one link only.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The addresses of the interfaces that are up, IPv4's first. None if the system does not say.
fn assigned() -> Vec<Assigned> {
    let of_interface = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address.filter(|_| interface.flags.contains(InterfaceFlags::IFF_UP))?;
        let runs = interface.flags.contains(InterfaceFlags::IFF_RUNNING);
        if let Some(v4) = address.as_sockaddr_in() {
            return Some(Assigned { ip: v4.ip().into(), zone: 0, runs });
        }
        let v6 = address.as_sockaddr_in6()?;
        Some(Assigned { ip: v6.ip().into(), zone: v6.scope_id(), runs })
    };
    let mut assigned: Vec<_> = getifaddrs().into_iter().flatten().filter_map(of_interface).collect();
    assigned.sort_by_key(|address| address.ip.is_ipv6());
    assigned
}

/// The address that this machine sends from when it sends to `to`. Connecting a UDP socket asks the
/// routing table and sends nothing.
fn source_address(from: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Addresses that stand for "elsewhere" and belong to nobody (RFC 5737, RFC 3849).
const DOCUMENTATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DOCUMENTATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(found: &[&str], local: &str) -> Vec<String> {
        let found: Vec<_> = found.iter().map(|ip| ip.parse().unwrap()).collect();
        super::ranked(&found, local.parse().unwrap()).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn loopback_is_told_only_where_there_is_nothing_else() {
        assert_eq!(ranked(&["127.0.0.1", "10.0.0.1", "::1"], "[::]:1"), ["10.0.0.1"]);
        assert_eq!(ranked(&["127.0.0.1", "127.0.0.2", "::1"], "[::]:1"), ["127.0.0.1", "::1"]);
        assert_eq!(ranked(&["127.0.0.1", "fe80::1", "::1"], "[::]:1"), ["fe80::1"]);
        assert_eq!(ranked(&[], "0.0.0.0:1"), ["127.0.0.1"]);
        assert_eq!(ranked(&[], "[::]:1"), ["::1"]);
    }

    #[test]
    fn each_address_is_told_once_and_those_of_one_link_come_last() {
        let found =
            ["192.0.2.7", "2001:db8::7", "169.254.1.1", "192.0.2.7", "10.0.0.1", "fe80::1", "2001:db8::7", "fd00::1"];
        let expected = ["192.0.2.7", "2001:db8::7", "10.0.0.1", "fd00::1", "169.254.1.1", "fe80::1"];
        assert_eq!(ranked(&found, "[::]:1"), expected);
    }

    #[test]
    fn a_socket_for_ipv4_has_no_address_of_ipv6() {
        assert_eq!(ranked(&["10.0.0.1", "2001:db8::7", "fe80::1"], "0.0.0.0:1"), ["10.0.0.1"]);
        assert_eq!(ranked(&["2001:db8::7", "127.0.0.1"], "0.0.0.0:1"), ["127.0.0.1"]);
    }
}
