//! How a worker is made to call back although nothing happened on its connection.
//!
//! MsQuic has no call for that. But it shuts a stream down on the worker and says so there, even one that never started and
//! of which the peer learns nothing. Such a stream is the nudge.

use std::{ffi::c_void, ptr, sync::Arc};

use sendstream_core::foreign::contain;
use sendstream_sys as sys;

use crate::{
    driver::{connection::owner::ConnectionInner, stream::owner::IMMEDIATELY, turn::Turn},
    native::{api::call, background, handle::Handle},
    types::error::NativeError,
};

impl ConnectionInner {
    /// Has the worker begin a turn soon. Nothing happens on a connection that is ending, which has its last turn then.
    pub(crate) fn nudge(self: &Arc<Self>) {
        if Turn::is_of(self) {
            // On the worker MsQuic would call back in place: inside of what somebody is doing, and again and again for a
            // task that always wakes itself.
            let connection = self.clone();
            background::run(move || connection.nudge_from_elsewhere());
        } else {
            self.nudge_from_elsewhere();
        }
    }

    fn nudge_from_elsewhere(self: &Arc<Self>) {
        let context = Arc::into_raw(self.clone());
        let flags = sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_UNIDIRECTIONAL;
        let mut stream = ptr::null_mut();
        // SAFETY: the connection's handle is open, because `self` is alive, and `stream` is a place for one pointer. The
        // reference in `context` is the stream's, until SHUTDOWN_COMPLETE or the failures below.
        let status = unsafe {
            call!(StreamOpen(self.handle().raw(), flags, Some(nudge_callback), context.cast_mut().cast(), &mut stream))
        };
        if let Err(status) = NativeError::check(status) {
            // SAFETY: there is no stream, so nobody else takes this reference.
            drop(unsafe { Arc::from_raw(context) });
            self.after_failed_nudge(status);
            return;
        }
        // SAFETY: the stream was opened above, and is closed by its SHUTDOWN_COMPLETE or below.
        let status = unsafe { call!(StreamShutdown(stream, IMMEDIATELY, 0)) };
        if let Err(status) = NativeError::check(status) {
            // SAFETY: nothing was queued, so no event takes this reference.
            let connection = unsafe { Arc::from_raw(context) };
            let stream = Handle::new(stream);
            background::run(move || {
                // SAFETY: the only close of this handle; the connection's is open while `connection` lives.
                unsafe { call!(StreamClose(stream.raw())) };
                drop(connection);
            });
            self.after_failed_nudge(status);
        }
    }

    /// Out of memory, a task would sleep for ever. Then the connection goes, which MsQuic can always do.
    fn after_failed_nudge(&self, status: NativeError) {
        if !matches!(status, NativeError::ABORTED | NativeError::INVALID_STATE) {
            tracing::error!(error = %status, "local tasks cannot be woken: closing their connection");
            const INTERNAL_ERROR: u64 = 0x1;
            self.close(INTERNAL_ERROR);
        }
    }
}

/// The callback of a stream that is only a nudge.
///
/// # Safety
///
/// For MsQuic to call: `context` is a reference to the `ConnectionInner`, taken by SHUTDOWN_COMPLETE.
unsafe extern "C" fn nudge_callback(
    handle: sys::HQUIC,
    context: *mut c_void,
    event: *mut sys::QUIC_STREAM_EVENT,
) -> sys::QUIC_STATUS {
    // SAFETY: the event is valid during the callback.
    if unsafe { (*event).Type } == sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE {
        // SAFETY: the last event of a handle that only this callback knows.
        unsafe { call!(StreamClose(handle)) };
        // SAFETY: the reference that `nudge` gave the stream, taken once: SHUTDOWN_COMPLETE comes once.
        let connection = unsafe { Arc::from_raw(context.cast::<ConnectionInner>().cast_const()) };
        let turn = Turn::begin_nudged(&connection);
        let rest = turn.rest(&connection);
        turn.end(rest);
        // With the last reference goes what the application gave the connection, such as a verifier.
        contain("a connection's close", || drop(connection));
    }
    0
}
