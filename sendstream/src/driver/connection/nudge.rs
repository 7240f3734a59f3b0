//! Makes a worker call back although nothing happened on its connection.
//!
//! MsQuic has no call for that. But it shuts a stream down on the worker and calls back there, even
//! if the stream never started. The peer learns nothing of such a stream. It is the nudge, see
//! [`closing`](crate::driver::stream::closing).

use std::sync::Arc;

use crate::{
    driver::{
        connection::owner::ConnectionInstance,
        stream::closing::open_and_close,
        turn::{Attended, Turn, WorkerTasks},
    },
    native::{background, status::INTERNAL_ERROR},
    types::error::NativeError,
};

impl Attended for ConnectionInstance {
    fn worker_tasks(&self) -> &WorkerTasks {
        self.inner().worker_tasks()
    }

    fn nudge(self: Arc<Self>) {
        if Turn::is_of(&self) {
            // On the worker MsQuic would call back in place: inside of a callback that is not done,
            // and again and again for a task that always wakes itself.
            background::run(move || nudge_from_elsewhere(self));
        } else {
            nudge_from_elsewhere(self);
        }
    }

    fn fail(&self) {
        self.close(INTERNAL_ERROR);
    }
}

fn nudge_from_elsewhere(connection: Arc<ConnectionInstance>) {
    // SAFETY: this is the connection's own handle, open for as long as the connection lives.
    let nudged = unsafe { open_and_close(connection.handle(), connection.clone()) };
    match nudged {
        // Of an ending connection every task has its last poll anyway.
        Ok(()) | Err(NativeError::ABORTED | NativeError::INVALID_STATE) => {}
        Err(status) => {
            // Out of memory, a task would sleep for ever. Then the connection goes, which MsQuic
            // can always do.
            tracing::error!(error = %status, "worker tasks cannot be woken: closing their connection");
            connection.close(INTERNAL_ERROR);
        }
    }
}
