//! The receiving half of a [`StreamInstance`]: it reads MsQuic's memory, gives it back, and stops
//! the peer.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use sendstream_core::{foreign::contain, stream::cause::RecvEnd};
use sendstream_sys as sys;

use crate::{
    driver::{
        stream::{chunk::RecvChunk, owner::StreamInstance},
        wakes::Wake as _,
    },
    native::api::call,
    types::error::ConnectionError,
};

impl StreamInstance {
    /// The next bytes of the stream, at most `limit`, in MsQuic's own memory: `None` at its end.
    pub(crate) fn poll_read(
        self: &Arc<Self>,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<RecvChunk>, RecvEnd<ConnectionError>>> {
        let (taken, due, ask) = {
            let mut state = self.inner.lock();
            let taken = state.recv().poll_take(limit, cx);
            let due = state.take_due();
            let ask = taken.is_pending() && state.must_ask_connection();
            (taken, due, ask)
        };
        self.complete(due);
        if ask {
            self.connection.tell_when_lost(self);
        }
        taken.map_ok(|taken| taken.map(|taken| RecvChunk::new(taken, self)))
    }

    /// The next bytes of the stream that are here already, at most `limit`.
    pub(crate) fn try_read(self: &Arc<Self>, limit: usize) -> Option<RecvChunk> {
        let (taken, due) = {
            let mut state = self.inner.lock();
            let taken = state.recv().take(limit);
            (taken, state.take_due())
        };
        self.complete(due);
        taken.map(|taken| RecvChunk::new(taken, self))
    }

    /// Piece `number` came back. Returns whether MsQuic has it back already, so that its block was
    /// kept for it.
    pub(super) fn give_back(&self, number: u64) -> bool {
        let (returned, live) = {
            let mut state = self.inner.lock();
            (state.recv().give_back(number), state.is_live())
        };
        self.complete(returned.filter(|_| live).unwrap_or(0));
        if !live {
            self.close_unused();
        }
        returned.is_none()
    }

    /// `StreamReceiveComplete` for `bytes` that the receive half of a live stream gives back.
    fn complete(&self, bytes: u64) {
        if bytes > 0
            && let Some(handle) = self.handle.enter()
        {
            // SAFETY: the handle is open while it is in use; these bytes were lent, are the first
            // of those that were, and the block of every piece of them that is still out is kept.
            unsafe { call!(StreamReceiveComplete(handle.raw(), bytes)) };
        }
    }

    /// STOP_SENDING with `code`, which QUIC can carry; what was not read is given up. Whether the
    /// other half has something under way that must arrive.
    pub(crate) fn stop(&self, code: u64) -> bool {
        let (tell, due, delivering, wakeups) = {
            let mut state = self.inner.lock();
            let (tell, wakeups) = state.recv().begin_stop(code);
            let due = state.take_due();
            (tell && state.is_live(), due, state.is_delivering(), wakeups)
        };
        self.complete(due);
        if tell {
            self.shut_down(sys::QUIC_STREAM_SHUTDOWN_FLAGS_QUIC_STREAM_SHUTDOWN_FLAG_ABORT_RECEIVE, code);
        }
        wakeups.wake();
        if tell {
            tracing::debug!(parent: self.inner.span(), code, "stop");
        }
        delivering
    }

    /// The receive half is dropped: the peer need not go on.
    pub(crate) fn drop_recv(&self) {
        if self.inner.is_over() {
            let last = self.is_last_half();
            return self.after_half(last, false);
        }
        let last = self.is_last_half();
        let stopped = contain("a waker", || self.stop(self.drop_error_code()));
        let delivering = stopped.unwrap_or_else(|| self.inner.lock().is_delivering());
        self.after_half(last, delivering);
    }
}
