//! The waits of tasks on a connection.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use sendstream_core::{
    datagrams::{DatagramId, Refused},
    dir::Dir,
    wait::{KeyedWait, WaiterKey},
};

use crate::{
    driver::{connection::events::ConnectionInner, stream::owner::StreamInstance},
    types::error::ConnectionError,
};

/// The wait for what ended the connection.
pub(crate) struct Closed<'a>(pub(crate) &'a ConnectionInner);

impl KeyedWait for Closed<'_> {
    type Output = ConnectionError;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        self.0.lock().poll_closed(key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.0.lock().forget_closed(key)
    }
}

/// The wait for a datagram of the peer's.
pub(crate) struct ReadDatagram<'a>(pub(crate) &'a ConnectionInner);

impl KeyedWait for ReadDatagram<'_> {
    type Output = Result<Bytes, ConnectionError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.datagrams().poll_read(key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.0.datagrams().forget_reader(key)
    }
}

/// The wait for room for a datagram of `size` bytes among those that wait to be sent.
pub(crate) struct DatagramRoom<'a> {
    pub(crate) inner: &'a ConnectionInner,
    pub(crate) size: u64,
}

impl KeyedWait for DatagramRoom<'_> {
    type Output = Result<DatagramId, Refused<ConnectionError>>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let limit = self.inner.shared().datagram_send_buffer as u64;
        self.inner.datagrams().poll_begin_send(self.size, limit, key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.inner.datagrams().forget_sender(key)
    }
}

/// The wait for a stream of the peer's.
pub(crate) struct Accept<'a> {
    pub(crate) inner: &'a ConnectionInner,
    pub(crate) dir: Dir,
}

impl KeyedWait for Accept<'_> {
    type Output = Result<Arc<StreamInstance>, ConnectionError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.lock().poll_accept(self.dir, key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.inner.lock().forget_accept(self.dir, key)
    }
}

/// The wait for a ticket to be in the cache.
pub(crate) struct TicketKept<'a>(pub(crate) &'a ConnectionInner);

impl KeyedWait for TicketKept<'_> {
    type Output = Result<(), ConnectionError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.lock().poll_ticket_kept(key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.0.lock().forget_ticket(key)
    }
}

/// The wait for the end of the handshake.
pub(crate) struct Handshake<'a>(pub(crate) &'a ConnectionInner);

impl KeyedWait for Handshake<'_> {
    type Output = Result<(), ConnectionError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.lock().poll_handshake(key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.0.lock().forget_handshake(key)
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
        self.inner.lock().forget_path_changed(key)
    }
}
