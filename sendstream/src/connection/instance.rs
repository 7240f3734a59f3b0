//! [`ConnectionInstance`]: the user's hold on a connection.

use std::sync::Arc;

use crate::connection::inner::ConnectionInner;

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
