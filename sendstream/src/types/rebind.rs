//! [`RebindError`]: why a connection could not move to another address.

use std::{io, net::SocketAddr};

use crate::types::{
    error::{ConnectionError, NativeError},
    system::{SystemError, is_privileged},
};

/// Why a connection stays where it is. It goes on, but for [`RebindError::ConnectionLost`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RebindError {
    /// This is the server's side: only clients may move (RFC 9000 §9).
    #[error("a server stays where it is: only clients can move to another address")]
    NotTheClient,
    /// The server does not want its clients to move: its transport parameters say
    /// `disable_active_migration` (RFC 9000 §18.2), which is
    /// [`migration`](crate::TransportConfig::migration) switched off there.
    #[error("the server has switched migration off: open a new connection from the other address")]
    Disabled,
    /// The server has not confirmed the handshake yet (RFC 9000 §9), or has not yet given an unused
    /// connection id to move with (RFC 9000 §9.5). Both come of themselves, within a round trip or
    /// two: try again.
    #[error("too early: the server has not yet said what it takes to move; try again in a moment")]
    TooEarly,
    /// The address is not of the family that the server's address has, nor `::`.
    #[error("{local} is of another family than the server's {remote}")]
    FamilyMismatch {
        /// The address that was asked for.
        local: SocketAddr,
        /// The server's.
        remote: SocketAddr,
    },
    /// Something uses the address already.
    #[error("{0} is in use: choose another port, or 0")]
    AddressInUse(SocketAddr),
    /// The address is none of this machine's, or no socket's: a broadcast or multicast address.
    #[error("{0} is not an address of this machine")]
    AddressNotAvailable(SocketAddr),
    /// The system lets this user not use the address.
    #[error("no permission to use {0}: choose a port above 1023, or 0")]
    PermissionDenied(SocketAddr),
    /// The connection has ended.
    #[error("the connection is lost: {0}")]
    ConnectionLost(#[source] ConnectionError),
    /// The system refused something else: a socket, for example, because the process is out of
    /// descriptors.
    #[error("cannot move to another address: {0}")]
    System(#[source] SystemError),
    /// MsQuic failed.
    #[error("cannot move to another address: {0}")]
    Native(#[source] NativeError),
}

impl From<RebindError> for io::Error {
    fn from(error: RebindError) -> Self {
        let kind = match error {
            RebindError::ConnectionLost(error) => return error.into(),
            RebindError::System(error) => return error.into(),
            RebindError::Native(error) => return error.into(),
            RebindError::NotTheClient | RebindError::Disabled => io::ErrorKind::Unsupported,
            RebindError::TooEarly => io::ErrorKind::WouldBlock,
            RebindError::FamilyMismatch { .. } => io::ErrorKind::InvalidInput,
            RebindError::AddressInUse(_) => io::ErrorKind::AddrInUse,
            RebindError::AddressNotAvailable(_) => io::ErrorKind::AddrNotAvailable,
            RebindError::PermissionDenied(_) => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}

impl RebindError {
    /// What `ACTIVATE_PATH` says.
    pub(crate) fn from_native(error: NativeError, local: SocketAddr) -> Self {
        match error {
            NativeError::NOT_SUPPORTED => Self::Disabled,
            NativeError::INVALID_STATE => Self::TooEarly,
            NativeError::ADDRESS_IN_USE => Self::AddressInUse(local),
            NativeError::PERMISSION_DENIED if is_privileged(local) => Self::PermissionDenied(local),
            _ => match SystemError::from_native(error) {
                Some(SystemError::AddressNotAvailable) => Self::AddressNotAvailable(local),
                Some(error) => Self::System(error),
                None => Self::Native(error),
            },
        }
    }
}
