//! [`ConnectionInstance`]: the user's hold on a connection. [`Acceptance`]: the part of it that can accept streams.

use std::sync::Arc;

use crate::driver::connection::owner::ConnectionInner;

/// Shared by every clone of a `Connection` and by the streams that still have something to deliver. When the last lets go,
/// the connection closes with code 0.
#[derive(Debug)]
pub(crate) struct ConnectionInstance {
    inner: Arc<ConnectionInner>,
}

impl ConnectionInstance {
    pub(crate) fn new(inner: Arc<ConnectionInner>) -> Arc<Self> {
        Arc::new(Self { inner })
    }

    pub(crate) fn inner(&self) -> &Arc<ConnectionInner> {
        &self.inner
    }
}

impl Drop for ConnectionInstance {
    fn drop(&mut self) {
        self.inner.abandon();
    }
}

/// Shared by every clone of a `Connection`, and by nothing else: whoever could accept a stream of the peer's.
///
/// When the last lets go, the streams that wait are refused, and so are those that come. The connection may go on for a
/// while, for this side's own streams; what nobody will read would make the peer's wait for ever, and two sides that both
/// do so wait for each other.
#[derive(Debug)]
pub(crate) struct Acceptance {
    inner: Arc<ConnectionInner>,
}

impl Acceptance {
    pub(crate) fn new(inner: Arc<ConnectionInner>) -> Self {
        Self { inner }
    }
}

impl Drop for Acceptance {
    fn drop(&mut self) {
        self.inner.stop_accepting();
    }
}
