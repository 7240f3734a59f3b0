//! [`GivenSocket`]: a socket of the application's that MsQuic can use. [`Place`]: where a socket is
//! that a client did not bind.

use std::net::{SocketAddr, UdpSocket};

use crate::types::socket::SocketRefusal;

/// A socket of the application's that is fit for QUIC: of UDP, bound to an address of this machine's,
/// and not connected.
pub(crate) struct GivenSocket<'a> {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is none there"))]
    socket: &'a UdpSocket,
    address: SocketAddr,
    is_ipv6_alone: bool,
}

/// Where a socket is bound that a client did not bind: a server's, or the application's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) reach: Reach,
}

/// Whom a bound socket reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Whom other sockets of this process reach from there.
    Process,
    /// The application's: it may be bound to an interface, have a mark, or be of another namespace.
    /// At the unspecified address of IPv6 it may still be for that family alone.
    Given { is_ipv6_alone: bool },
}

impl Place {
    /// Where a socket is that MsQuic bound.
    pub(crate) fn of_process(address: SocketAddr) -> Self {
        Self { address, reach: Reach::Process }
    }
}

impl<'a> GivenSocket<'a> {
    /// Looks at `socket` with care: who made it of a descriptor may have taken a wrong one.
    #[cfg(target_os = "linux")]
    pub(crate) fn check(socket: &'a UdpSocket) -> Result<Self, SocketRefusal> {
        use crate::native::{
            address::{is_of_many, plain},
            api,
        };
        use socket2::{Protocol, SockRef, Type};

        if !api::abilities().takes_sockets {
            return Err(SocketRefusal::NotSupported);
        }
        let known = SockRef::from(socket);
        let is_udp = known.r#type().is_ok_and(|kind| kind == Type::DGRAM)
            && known.protocol().is_ok_and(|protocol| protocol == Some(Protocol::UDP));
        let bound = known.local_addr().ok().and_then(|address| address.as_socket());
        let (true, Some(address)) = (is_udp, bound) else { return Err(SocketRefusal::NotUdp) };
        if address.port() == 0 {
            return Err(SocketRefusal::NotBound);
        }
        if let Ok(peer) = socket.peer_addr() {
            return Err(SocketRefusal::Connected(plain(peer)));
        }
        let address = plain(address);
        if is_of_many(address.ip()) {
            return Err(SocketRefusal::OfMany(address));
        }
        let is_ipv6_alone = address.is_ipv6() && known.only_v6().unwrap_or_default();
        Ok(Self { socket, address, is_ipv6_alone })
    }

    /// No other system's MsQuic takes any.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn check(_socket: &'a UdpSocket) -> Result<Self, SocketRefusal> {
        Err(SocketRefusal::NotSupported)
    }

    /// Where it is bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is bound, and whom it reaches.
    pub(crate) fn place(&self) -> Place {
        Place { address: self.address, reach: Reach::Given { is_ipv6_alone: self.is_ipv6_alone } }
    }

    /// Its descriptor, open for as long as the socket is borrowed.
    pub(crate) fn descriptor(&self) -> i32 {
        #[cfg(target_os = "linux")]
        return std::os::fd::AsRawFd::as_raw_fd(self.socket);
        #[cfg(not(target_os = "linux"))]
        unreachable!("no socket is fit there");
    }
}
