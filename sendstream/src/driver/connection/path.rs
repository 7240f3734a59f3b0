//! The path of a connection: its two addresses, and a client's move to another.

use std::{
    net::SocketAddr,
    task::{Context, Poll, Waker},
};

use sendstream_core::wait::{KeyedWait, WaiterKey, Waiters, Wakeups};

use crate::{
    driver::connection::events::ConnectionInner,
    types::error::{ConnectionError, NativeError},
};

/// The addresses that a connection uses now, and who waits for others.
#[derive(Debug, Default)]
pub(crate) struct CurrentPath {
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    /// How often they have changed.
    changes: u64,
    pub(crate) waiters: Waiters,
}

impl CurrentPath {
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// CONNECTED: the addresses of the handshake.
    pub(crate) fn begin(&mut self, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        (self.local, self.remote) = (local, remote);
    }

    /// LOCAL_ADDRESS_CHANGED, PEER_ADDRESS_CHANGED, or this side has moved. What is not known stays as it was.
    pub(crate) fn on_changed(&mut self, local: Option<SocketAddr>, remote: Option<SocketAddr>) -> Wakeups {
        let changed = (local.or(self.local), remote.or(self.remote));
        let mut wakeups = Wakeups::none();
        if changed != (self.local, self.remote) {
            (self.local, self.remote) = changed;
            self.changes += 1;
            self.waiters.take_into(&mut wakeups);
        }
        wakeups
    }
}

/// The wait for other addresses than after `seen` changes.
pub(crate) struct PathChanged<'a> {
    pub(crate) inner: &'a ConnectionInner,
    pub(crate) seen: u64,
}

impl KeyedWait for PathChanged<'_> {
    type Output = Result<(), ConnectionError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.lock().poll_path_changed(self.seen, key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.inner.lock().path_mut().waiters.remove(key)
    }
}

/// Why a connection stays where it is. It goes on, but for [`RebindError::ConnectionLost`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RebindError {
    /// This is the server's side: only clients may move (RFC 9000 §9).
    #[error("a server stays where it is: only clients can move to another address")]
    NotTheClient,
    /// The server does not want its clients to move: its transport parameters say `disable_active_migration` (RFC 9000
    /// §18.2), which is [`migration`](crate::TransportConfig::migration) switched off there.
    #[error("the server has switched migration off: open a new connection from the other address")]
    Disabled,
    /// The server has not confirmed the handshake yet (RFC 9000 §9), or has not yet given an unused connection id to move
    /// with (RFC 9000 §9.5). Both come of themselves, within a round trip or two: try again.
    #[error("too early: the server has not yet said what it takes to move; try again in a moment")]
    TooEarly,
    /// The address is not of the family that the server's address has.
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
    /// The address is none of this machine's.
    #[error("{0} is not an address of this machine")]
    AddressNotAvailable(SocketAddr),
    /// The system lets this user not use the address.
    #[error("no permission to use {0}: choose a port above 1023, or 0")]
    PermissionDenied(SocketAddr),
    /// The connection has ended.
    #[error("the connection is lost: {0}")]
    ConnectionLost(#[source] ConnectionError),
    /// MsQuic or the system failed.
    #[error("cannot move to another address: {0}")]
    Native(#[source] NativeError),
}

impl RebindError {
    /// What `ACTIVATE_PATH` says.
    pub(crate) fn from_native(error: NativeError, local: SocketAddr) -> Self {
        match error {
            NativeError::NOT_SUPPORTED => Self::Disabled,
            NativeError::INVALID_STATE => Self::TooEarly,
            NativeError::ADDRESS_IN_USE => Self::AddressInUse(local),
            NativeError::ADDRESS_NOT_AVAILABLE | NativeError::INVALID_ADDRESS => Self::AddressNotAvailable(local),
            NativeError::PERMISSION_DENIED => Self::PermissionDenied(local),
            _ => Self::Native(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn only_another_address_is_a_change() {
        let mut path = CurrentPath::default();
        path.begin(address(1), address(2));
        path.waiters.register(WaiterKey::new(), Waker::noop(), &mut Vec::new());
        assert_eq!(path.on_changed(address(1), address(2)).len(), 0);
        assert_eq!(path.on_changed(None, None).len(), 0);
        assert_eq!(path.changes(), 0);
        assert_eq!(path.on_changed(None, address(3)).len(), 1);
        assert_eq!((path.local(), path.remote(), path.changes()), (address(1), address(3), 1));
        assert_eq!(path.on_changed(address(4), None).len(), 0, "nobody waits any more");
        assert_eq!((path.local(), path.remote(), path.changes()), (address(4), address(3), 2));
    }
}
