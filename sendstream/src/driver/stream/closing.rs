//! Closing a stream that never started, without waiting; and the turn that comes with it.
//!
//! `StreamClose` would wait for the worker. An immediate shutdown only queues, and gives even such
//! a stream its SHUTDOWN_COMPLETE on the worker. There the close runs in place, and the peer learns
//! nothing.
//!
//! A stream that is opened only to be closed this way makes a worker call back, for which MsQuic
//! has no call. See [`nudge`](crate::driver::connection::nudge).

use std::{ffi::c_void, ptr, sync::Arc};

use sendstream_core::foreign::contain;
use sendstream_sys as sys;

use crate::{
    driver::turn::{Attended, Turn},
    native::{api::call, background, handle::Handle},
    types::error::NativeError,
};

/// Both halves at once, which gives even a stream that never started its SHUTDOWN_COMPLETE.
pub(crate) const IMMEDIATELY: sys::QUIC_STREAM_SHUTDOWN_FLAGS =
    sys::QUIC_STREAM_SHUTDOWN_FLAGS_QUIC_STREAM_SHUTDOWN_FLAG_ABORT
        | sys::QUIC_STREAM_SHUTDOWN_FLAGS_QUIC_STREAM_SHUTDOWN_FLAG_IMMEDIATE;

/// Closes `stream`, a stream of `connection` that never started, in its SHUTDOWN_COMPLETE. The
/// worker begins a turn there.
///
/// # Errors
///
/// Nothing was queued: memory is out. The background thread closes the stream, and no turn comes of
/// it.
///
/// # Safety
///
/// The handle is open, and it is the caller's to close. The stream never started, so no event of it
/// is under way.
pub(crate) unsafe fn close_unstarted<A: Attended>(stream: Handle, connection: Arc<A>) -> Result<(), NativeError> {
    let context = Arc::into_raw(connection);
    // SAFETY: the stream is open and never started, as the caller promises, so no event can come
    // between these calls with another context. The new context is a reference of its own, until
    // SHUTDOWN_COMPLETE or the failure below.
    let status = unsafe {
        let callback = closing_callback::<A> as *mut c_void;
        call!(SetCallbackHandler(stream.raw(), callback, context.cast_mut().cast()));
        call!(StreamShutdown(stream.raw(), IMMEDIATELY, 0))
    };
    NativeError::check(status).inspect_err(|_| {
        // SAFETY: nothing was queued, and the callback is taken away before the close could bring
        // an event. So no event takes this reference.
        let connection = unsafe {
            call!(SetCallbackHandler(stream.raw(), ptr::null_mut(), ptr::null_mut()));
            Arc::from_raw(context)
        };
        background::run(move || {
            // SAFETY: the only close of this handle; the connection's is open while `connection`
            // lives.
            unsafe { call!(StreamClose(stream.raw())) };
            drop(connection);
        });
    })
}

/// Opens a stream of the connection `handle` and closes it at once.
///
/// # Errors
///
/// MsQuic's status: the connection is ending, or memory is out. No turn comes of it.
///
/// # Safety
///
/// `handle` is the open handle of `connection`, and stays open for as long as that lives.
pub(crate) unsafe fn open_and_close<A: Attended>(handle: Handle, connection: Arc<A>) -> Result<(), NativeError> {
    let flags = sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_UNIDIRECTIONAL;
    let mut stream = ptr::null_mut();
    // SAFETY: the connection's handle is open, as the caller promises, and `stream` is a place for
    // one pointer. No event comes before the stream is shut down, and it gets its context right
    // before that.
    let status =
        unsafe { call!(StreamOpen(handle.raw(), flags, Some(closing_callback::<A>), ptr::null_mut(), &mut stream)) };
    NativeError::check(status)?;
    // SAFETY: the stream was opened above, nothing has started it, and nobody else knows it.
    unsafe { close_unstarted(Handle::new(stream), connection) }
}

/// The callback of a stream that is only to be closed.
///
/// # Safety
///
/// For MsQuic to call: `context` is a reference to the stream's connection, which SHUTDOWN_COMPLETE
/// takes.
unsafe extern "C" fn closing_callback<A: Attended>(
    stream: sys::HQUIC,
    context: *mut c_void,
    event: *mut sys::QUIC_STREAM_EVENT,
) -> sys::QUIC_STATUS {
    // SAFETY: the event is valid during the callback.
    if unsafe { (*event).Type } == sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE {
        // SAFETY: the last event of a handle that only this callback knows.
        unsafe { call!(StreamClose(stream)) };
        // SAFETY: `close_unstarted` gave the stream this reference. It is taken once:
        // SHUTDOWN_COMPLETE comes once.
        let connection = unsafe { Arc::from_raw(context.cast::<A>().cast_const()) };
        let turn = Turn::begin_nudged(&connection);
        let rest = turn.rest(&connection);
        turn.end(rest);
        // With the last reference goes what the application gave the connection, such as a
        // verifier.
        contain("a connection's close", || drop(connection));
    }
    0
}
