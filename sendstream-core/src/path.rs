//! The two addresses that a connection uses, and the tasks that wait for a change.

use std::{
    net::SocketAddr,
    task::{Context, Poll, Waker},
};

use crate::wait::{WaiterKey, Waiters, Wakeups};

/// The addresses that a connection uses now, and who waits for others. Part of the connection's
/// state, behind its lock.
#[derive(Debug, Default)]
pub struct CurrentPath {
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    /// How often they have changed.
    changes: u64,
    /// Tasks in `path_changed`.
    waiters: Waiters,
}

impl CurrentPath {
    /// This side's address; `None` while it is not known.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// The peer's address; `None` while it is not known.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// How often an address has changed since the handshake.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// CONNECTED: the addresses of the handshake.
    pub fn begin(&mut self, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        (self.local, self.remote) = (local, remote);
    }

    /// LOCAL_ADDRESS_CHANGED, PEER_ADDRESS_CHANGED, or this side has moved. What is not known stays
    /// as it was.
    pub fn on_changed(&mut self, local: Option<SocketAddr>, remote: Option<SocketAddr>) -> Wakeups {
        let changed = (local.or(self.local), remote.or(self.remote));
        let mut wakeups = Wakeups::none();
        if changed != (self.local, self.remote) {
            (self.local, self.remote) = changed;
            self.changes += 1;
            self.waiters.take_into(&mut wakeups);
        }
        wakeups
    }

    /// The connection ended: nobody waits any more.
    pub fn on_closed(&mut self, wakeups: &mut Wakeups) {
        self.waiters.take_into(wakeups);
    }

    /// Ready once the path has changed more often than `seen` says. A waker that was replaced goes
    /// to `retired`.
    pub fn poll_changed(
        &mut self,
        seen: u64,
        key: WaiterKey,
        cx: &mut Context<'_>,
        retired: &mut Vec<Waker>,
    ) -> Poll<()> {
        if self.changes > seen {
            return Poll::Ready(());
        }
        self.waiters.register(key, cx.waker(), retired);
        Poll::Pending
    }

    /// Forgets a future of [`Self::poll_changed`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget(&mut self, key: WaiterKey) -> Option<Waker> {
        self.waiters.remove(key)
    }

    /// How many tasks wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
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

    #[test]
    fn a_change_that_was_not_seen_is_not_waited_for() {
        let (mut path, mut retired) = (CurrentPath::default(), Vec::new());
        let mut poll = |path: &mut CurrentPath, seen| {
            path.poll_changed(seen, WaiterKey::new(), &mut Context::from_waker(Waker::noop()), &mut retired)
        };
        assert_eq!(poll(&mut path, 0), Poll::Pending);
        assert_eq!(path.on_changed(address(1), None).len(), 1);
        assert_eq!(poll(&mut path, 0), Poll::Ready(()));
        assert_eq!(poll(&mut path, 1), Poll::Pending);
        let mut wakeups = Wakeups::none();
        path.on_closed(&mut wakeups);
        assert_eq!((wakeups.len(), path.waiting()), (1, 0));
    }
}
