//! [`StreamHandle`]: the handle of one stream. It is closed on the connection's worker as soon as
//! MsQuic is done with the stream, if that is possible. A close on another thread hands an
//! operation to the worker, and keeps the native stream's memory until then.
//!
//! A call of MsQuic with the handle holds an [`InUse`]. A close that finds one leaves the work to
//! the last of them.

use std::{
    ptr,
    sync::atomic::{AtomicU32, Ordering, fence},
};

use sendstream_sys as sys;

use crate::native::{api::call, handle::Handle};

/// A stream's handle.
#[derive(Debug)]
pub(super) struct StreamHandle {
    handle: Handle,
    /// How many use it, and `CLOSED` once it is closed to those who come.
    uses: AtomicU32,
}

/// The right to call MsQuic with the handle.
#[derive(Debug)]
pub(super) struct InUse<'a>(&'a StreamHandle);

const CLOSED: u32 = 1 << 31;

impl StreamHandle {
    /// Takes over an open handle.
    pub(super) fn new(handle: sys::HQUIC) -> Self {
        Self { handle: Handle::new(handle), uses: AtomicU32::new(0) }
    }

    /// Keeps the handle open for as long as the result lives; `None` once it is closed.
    pub(super) fn enter(&self) -> Option<InUse<'_>> {
        let count = |uses| (uses & CLOSED == 0).then(|| uses + 1);
        // Who finds it closed sees what was written before that.
        self.uses.fetch_update(Ordering::Acquire, Ordering::Acquire, count).ok().map(|_| InUse(self))
    }

    /// Takes the callback away in SHUTDOWN_COMPLETE, as MsQuic does when that event returns. For
    /// MsQuic a stream without a callback is over, so a close on another thread does not wait for
    /// the worker, which may be inside the callback for a while.
    ///
    /// # Safety
    ///
    /// The handle is open, and this is the stream's SHUTDOWN_COMPLETE.
    pub(super) unsafe fn silence(&self) {
        // SAFETY: the handle is open, as the caller promises, and no event will come that the
        // callback could miss.
        unsafe { call!(SetCallbackHandler(self.handle.raw(), ptr::null_mut(), ptr::null_mut())) };
    }

    /// `StreamClose`, now or when the last use ends. It does not wait: MsQuic closes such a stream
    /// in place on the worker, and queues that elsewhere.
    ///
    /// # Safety
    ///
    /// The stream was [silenced](Self::silence), and nothing that RECEIVE lent will be looked at
    /// any more.
    pub(super) unsafe fn close(&self) {
        let before = self.uses.fetch_or(CLOSED, Ordering::AcqRel);
        if before == 0 {
            // SAFETY: the flag was not set, so nobody has closed it, and nobody uses it nor will.
            unsafe { call!(StreamClose(self.handle.raw())) };
        }
    }

    /// [`Self::close`] by whoever has the stream alone.
    ///
    /// # Safety
    ///
    /// As for [`Self::close`].
    pub(super) unsafe fn close_alone(&mut self) {
        let uses = self.uses.get_mut();
        debug_assert_eq!(*uses & !CLOSED, 0, "nobody uses what nobody else has");
        if *uses == 0 {
            *uses = CLOSED;
            // SAFETY: nobody has closed it, and nobody uses it nor will.
            unsafe { call!(StreamClose(self.handle.raw())) };
        }
    }

    /// Whether it is closed to those who come.
    pub(super) fn is_closed(&self) -> bool {
        self.uses.load(Ordering::Acquire) & CLOSED != 0
    }

    /// The handle for a call of whoever knows that it is open until the call returns.
    pub(super) fn raw(&self) -> sys::HQUIC {
        self.handle.raw()
    }

    /// The handle of a stream that never started, for whoever closes it in another way.
    pub(super) fn unstarted(&mut self) -> Handle {
        assert_eq!(*self.uses.get_mut(), 0, "a stream without SHUTDOWN_COMPLETE is not closed");
        self.handle
    }
}

impl InUse<'_> {
    pub(super) fn raw(&self) -> sys::HQUIC {
        self.0.handle.raw()
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        if self.0.uses.fetch_sub(1, Ordering::Release) == CLOSED | 1 {
            fence(Ordering::Acquire);
            // SAFETY: `close` was called, found this use, and left the close to it; as the last
            // one, nobody uses the handle.
            unsafe { call!(StreamClose(self.0.handle.raw())) };
        }
    }
}
