//! A handshake's deadline. MsQuic's own timeout counts silence, and a server's transport
//! acknowledges before its application accepts. So every connection that is not connected yet has a
//! [`Deadline`], which ends it in time.

use std::{sync::Arc, time::Instant};

use crate::{
    driver::connection::owner::ConnectionInstance,
    native::deadline::{self, Timer},
};

/// The moment at which a connection ends as timed out, unless its handshake is done. Dropping it
/// cancels it, unless it [outlives](Self::outlive) its owner.
#[derive(Debug)]
pub(crate) struct Deadline {
    /// `None` once it does not count any more.
    timer: Option<Timer>,
    outlives: bool,
}

impl Deadline {
    /// Ends `connection` at `when`.
    pub(crate) fn set(connection: &Arc<ConnectionInstance>, when: Instant) -> Self {
        Self::set_and_then(connection, when, || ())
    }

    /// Ends `connection` at `when`, and then does `more`, also where the connection is gone by
    /// then.
    pub(crate) fn set_and_then(
        connection: &Arc<ConnectionInstance>,
        when: Instant,
        more: impl FnOnce() + Send + 'static,
    ) -> Self {
        let connection = Arc::downgrade(connection);
        let timer = deadline::at(when, move || {
            if let Some(connection) = connection.upgrade() {
                connection.time_out();
            }
            more();
        });
        Self { timer: Some(timer), outlives: false }
    }

    /// Lets it count although its owner goes: streams may be all that is left of the connection.
    pub(crate) fn outlive(mut self) -> Self {
        self.outlives = true;
        self
    }

    /// The handshake is done.
    pub(crate) fn meet(&mut self) {
        drop(self.timer.take());
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if self.outlives
            && let Some(timer) = self.timer.take()
        {
            timer.leave();
        }
    }
}
