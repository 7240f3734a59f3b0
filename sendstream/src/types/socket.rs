//! [`SocketRefusal`]: why a socket that the application hands in cannot be used.

use std::{io, net::SocketAddr};

/// Why a socket that was handed to
/// [`ServerBuilder::listen_on`](crate::ServerBuilder::listen_on),
/// [`Server::listen_also_on`](crate::Server::listen_also_on) or
/// [`ClientBuilder::socket`](crate::ClientBuilder::socket) cannot be used. Each is the caller's doing,
/// but for [`NotSupported`](Self::NotSupported).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketRefusal {
    /// The system is not Linux, or the linked MsQuic lacks the edit `sockets-handed-in`.
    #[error("sockets can be handed in on Linux, with the MsQuic that is built along: use `bind` with an address here")]
    NotSupported,
    /// It is no UDP socket of IPv4 or IPv6 (`SO_TYPE`, `SO_PROTOCOL`).
    #[error("not a UDP socket: hand in one of UDP; with systemd, `ListenDatagram=`")]
    NotUdp,
    /// It has no port yet.
    #[error("the socket is not bound: bind it first, for example with `UdpSocket::bind`")]
    NotBound,
    /// It is connected to a peer, so it would get packets of nobody else.
    #[error("the socket is connected to {0}: hand in one that is not")]
    Connected(SocketAddr),
    /// It is bound to a broadcast or multicast address, from which nothing can be sent.
    #[error("the socket is bound to {0}, an address of many: bind it to one of this machine's, or to the unspecified")]
    OfMany(SocketAddr),
    /// In this process a server listens on it for one of the same
    /// [protocols](crate::ServerBuilder::alpn), a client uses it, or a server has another socket at its
    /// address. A client gives it up after its last connection, in the background.
    #[error("{0} is in use in this process: end what uses it, or bind another socket")]
    InUse(SocketAddr),
}

impl From<SocketRefusal> for io::Error {
    fn from(error: SocketRefusal) -> Self {
        let kind = match error {
            SocketRefusal::NotSupported => io::ErrorKind::Unsupported,
            SocketRefusal::InUse(_) => io::ErrorKind::AddrInUse,
            SocketRefusal::OfMany(_) => io::ErrorKind::AddrNotAvailable,
            SocketRefusal::NotUdp | SocketRefusal::NotBound | SocketRefusal::Connected(_) => {
                io::ErrorKind::InvalidInput
            }
        };
        Self::new(kind, error)
    }
}
