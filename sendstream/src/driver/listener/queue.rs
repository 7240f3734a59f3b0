//! The queue in which a server's connections wait for an application that accepts them.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use sendstream_core::{
    accept::{Backlog, Counts, Waits},
    foreign::contain,
    wait::{KeyedWait, LockGuard, WaiterKey},
};

use crate::{
    driver::{
        connection::{deadline::Deadline, hold::User},
        wakes::Wake as _,
    },
    native::{fork::ForkLock, logs::Logs},
};

/// Connections that wait to be accepted, from all listeners of a server.
#[derive(Debug)]
pub(crate) struct IncomingQueue {
    backlog: ForkLock<Backlog<NewConnection>>,
    /// How long each may wait.
    pub(crate) timeout: Duration,
    /// Where its connections write what they do, beside `tracing`.
    pub(crate) logs: Logs,
}

/// A connection that a client wants, of which nothing but its first packets is known.
#[derive(Debug)]
pub(crate) struct NewConnection {
    pub(crate) user: User,
    pub(crate) remote_addr: SocketAddr,
    pub(crate) local_addr: SocketAddr,
    pub(crate) address_validated: bool,
    pub(crate) server_name: String,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) arrived: Instant,
    /// Ends the connection when it has waited for too long.
    pub(crate) deadline: Deadline,
}

impl Waits for NewConnection {
    type Origin = IpAddr;

    fn is_over(&self) -> bool {
        self.user.inner().is_over()
    }

    fn origin(&self) -> IpAddr {
        network(self.remote_addr)
    }
}

/// What stands for all addresses that whoever has `address` can be expected to have: an IPv4
/// address, or the network of 64 bits around an IPv6 one.
fn network(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

// A connection that goes is dropped outside of the lock: that shuts it down.
impl IncomingQueue {
    pub(crate) fn new(limit: usize, timeout: Duration, logs: Logs) -> Arc<Self> {
        Arc::new(Self { backlog: ForkLock::new(Backlog::new(limit)), timeout, logs })
    }

    /// Keeps a place for a connection from `address`, which [`push`](Self::push) fills. If there is
    /// none, that is counted, and the error is how many that makes.
    pub(crate) fn reserve(&self, address: SocketAddr) -> Result<(), u64> {
        let (place, over) = self.lock().reserve(&network(address));
        drop(over);
        place
    }

    /// Lets `new` wait in its place, if the queue still takes any.
    pub(crate) fn push(&self, new: NewConnection) {
        let pushed = self.lock().push(new);
        match pushed {
            Ok(wakeups) => wakeups.wake(),
            Err(unwanted) => drop(unwanted),
        }
    }

    /// Lets those go that have waited for too long.
    pub(crate) fn sweep(&self) {
        let over = self.lock().sweep();
        drop(over);
    }

    /// Takes no more connections. Those that wait may still be accepted.
    pub(crate) fn close(&self) {
        let wakeups = self.lock().close();
        // Whoever closes has more to do, and maybe in a destructor.
        contain("a waker", || wakeups.wake());
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed()
    }

    /// Refuses those that wait.
    pub(crate) fn refuse_waiting(&self) {
        let waiting = self.lock().refuse_waiting();
        drop(waiting);
    }

    /// How those that waited have fared.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts()
    }

    fn lock(&self) -> LockGuard<'_, Backlog<NewConnection>> {
        self.backlog.lock(|| {
            let mut closed = Backlog::new(0);
            drop(closed.close());
            closed
        })
    }
}

/// The wait for a connection: `None` once no more will come. Those that are over are passed by.
impl KeyedWait for &IncomingQueue {
    type Output = Option<NewConnection>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (answer, over) = self.lock().poll_accept(key, cx);
        drop(over);
        answer
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.lock().forget(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_stands_for_its_network() {
        let network = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.7:1"), "192.0.2.7");
        assert_eq!(network("[::ffff:192.0.2.7]:1"), "192.0.2.7");
        assert_eq!(network("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::");
    }
}
