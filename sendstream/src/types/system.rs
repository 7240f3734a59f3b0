//! [`SystemError`]: what the system of this side refuses.

use std::{io, net::SocketAddr};

use crate::types::{error::NativeError, status};

/// What the system on this side refused. The peer has nothing to do with it, and may never have
/// heard of the attempt.
///
/// [`io::Error::from`] has the [`io::ErrorKind`] that each variant names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SystemError {
    /// No route leads to the address (`ENETUNREACH`, `ENETDOWN`, `EHOSTDOWN`;
    /// [`io::ErrorKind::NetworkUnreachable`]): the network is down, or this machine has no address of
    /// that family.
    #[error("no route leads there: check that this machine's network is up, and has addresses of that family")]
    NoRoute,
    /// The system has no local address or port for it (`EADDRNOTAVAIL`, `ENODEV`;
    /// [`io::ErrorKind::AddrNotAvailable`]): the address to bind is none of this machine's, its scope
    /// none of this machine's interfaces, or all ports are taken.
    #[error(
        "the system has no local address or port for it: bind an address of this machine, or hold fewer connections"
    )]
    AddressNotAvailable,
    /// Something uses the local address and port already (`EADDRINUSE`;
    /// [`io::ErrorKind::AddrInUse`]).
    #[error("the local address is in use: choose another port, or 0")]
    AddressInUse,
    /// The process, or the system, has no file descriptors left (`EMFILE`, `ENFILE`;
    /// [`io::ErrorKind::QuotaExceeded`]).
    #[error("out of file descriptors: raise the limit (`ulimit -n`), or hold fewer connections at a time")]
    OutOfDescriptors,
    /// The address cannot be used (`EINVAL`; [`io::ErrorKind::InvalidInput`]): its port is 0, or it
    /// is link-local and has no scope.
    #[error(
        "the system takes no such address: give a port above 0, and a link-local address with its scope, `fe80::1%2`"
    )]
    InvalidAddress,
    /// The system forbids it (`EACCES`, `EPERM`; [`io::ErrorKind::PermissionDenied`]): a firewall, a
    /// policy, or a port that is not for this user.
    #[error("the system forbids it: check its firewall and routes, and what this user may do")]
    PermissionDenied,
    /// The system has no such addresses (`EAFNOSUPPORT`; [`io::ErrorKind::Unsupported`]): IPv6 is
    /// switched off, mostly.
    #[error("the system has no addresses of that family, IPv6 or IPv4: switch it on, or use an address of the other")]
    FamilyNotSupported,
    /// The user, or the system, has no threads left (`EAGAIN`; [`io::ErrorKind::QuotaExceeded`]).
    #[error("out of threads: raise the limit (`ulimit -u`, or that of the control group), or end some")]
    OutOfThreads,
    /// The process, or the system, has no memory left (`ENOMEM`, `ENOBUFS`;
    /// [`io::ErrorKind::OutOfMemory`]).
    #[error("out of memory: free some, and try again")]
    OutOfMemory,
    /// The system lacks something that the sockets of QUIC need (`ENOPROTOOPT`;
    /// [`io::ErrorKind::Unsupported`]): it is older than Linux 4.18, or only resembles Linux.
    #[error("the system lacks something that QUIC's sockets need: use a newer one, or Linux itself")]
    SocketsNotSupported,
}

impl SystemError {
    /// What the system itself said. `None` if that is another error.
    pub(crate) fn from_io(error: &io::Error) -> Option<Self> {
        Self::from_native(NativeError::from_status(status::of_os_error(error.raw_os_error()?)))
    }

    /// What MsQuic passes on of the system's. `None` if `status` is a word of MsQuic's own.
    pub(crate) fn from_native(status: NativeError) -> Option<Self> {
        Some(match status.status() {
            status::NETWORK_UNREACHABLE | status::NETWORK_DOWN | status::HOST_DOWN => Self::NoRoute,
            status::ADDRESS_NOT_AVAILABLE | status::NO_DEVICE => Self::AddressNotAvailable,
            status::ADDRESS_IN_USE => Self::AddressInUse,
            status::TOO_MANY_FILES | status::TOO_MANY_FILES_IN_ALL => Self::OutOfDescriptors,
            status::INVALID_PARAMETER | status::NO_DESTINATION => Self::InvalidAddress,
            status::PERMISSION_DENIED | status::NOT_PERMITTED => Self::PermissionDenied,
            status::FAMILY_NOT_SUPPORTED => Self::FamilyNotSupported,
            status::TRY_AGAIN => Self::OutOfThreads,
            status::OUT_OF_MEMORY | status::NO_BUFFERS => Self::OutOfMemory,
            status::NO_SUCH_OPTION => Self::SocketsNotSupported,
            _ => return None,
        })
    }
}

impl From<SystemError> for io::Error {
    fn from(error: SystemError) -> Self {
        let kind = match error {
            SystemError::NoRoute => io::ErrorKind::NetworkUnreachable,
            SystemError::AddressNotAvailable => io::ErrorKind::AddrNotAvailable,
            SystemError::AddressInUse => io::ErrorKind::AddrInUse,
            SystemError::OutOfDescriptors | SystemError::OutOfThreads => io::ErrorKind::QuotaExceeded,
            SystemError::InvalidAddress => io::ErrorKind::InvalidInput,
            SystemError::PermissionDenied => io::ErrorKind::PermissionDenied,
            SystemError::FamilyNotSupported | SystemError::SocketsNotSupported => io::ErrorKind::Unsupported,
            SystemError::OutOfMemory => io::ErrorKind::OutOfMemory,
        };
        Self::new(kind, error)
    }
}

/// Whether the system keeps the port of `address` from ordinary users, as most do.
pub(crate) fn is_privileged(address: SocketAddr) -> bool {
    (1..1024).contains(&address.port())
}
