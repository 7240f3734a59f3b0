//! The wait for another path of a connection.

use std::task::{Context, Poll, Waker};

use crate::{driver::connection::owner::ConnectionInner, types::error::ConnectionError};
use sendstream_core::wait::{KeyedWait, WaiterKey};

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
