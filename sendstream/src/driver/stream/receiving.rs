//! The receiving half of a [`StreamInstance`]: reading MsQuic's memory, giving it back, stopping.

use std::{
    ops::Deref,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use sendstream_sys as sys;

use crate::{
    driver::{
        stream::{buffer::Lent, owner::StreamInstance, recv_state::Taken},
        wakes::Wake as _,
    },
    native::api::call,
    recv_stream::ReadError,
    types::code::{CodeOutOfRange, check_code},
};
use sendstream_core::foreign::contain;

impl StreamInstance {
    /// The next bytes of the stream, at most `limit`, in MsQuic's own memory: `None` at its end.
    pub(crate) fn poll_read(
        self: &Arc<Self>,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Loan>, ReadError>> {
        let (taken, ask) = {
            let mut state = self.inner.lock();
            let taken = state.recv().poll_take(limit, cx);
            let ask = taken.is_pending() && state.must_ask_connection();
            (taken, ask)
        };
        if ask {
            self.connection_inner.tell_when_lost(self);
        }
        taken.map_ok(|taken| taken.map(|taken| self.loan(taken)))
    }

    /// The next bytes of the stream that are here already, at most `limit`.
    pub(crate) fn try_read(self: &Arc<Self>, limit: usize) -> Option<Loan> {
        let taken = self.inner.lock().recv().take(limit)?;
        Some(self.loan(taken))
    }

    fn loan(self: &Arc<Self>, taken: Taken) -> Loan {
        match taken {
            Taken::Lent { lent, number } => Loan::Native(NativeLoan { lent, number, instance: self.clone() }),
            Taken::Copied(bytes) => Loan::Copied(bytes),
        }
    }

    /// `StreamReceiveComplete` for what came back with piece `number`.
    fn give_back(&self, number: u64) {
        let (bytes, live) = {
            let mut state = self.inner.lock();
            (state.recv().give_back(number), state.is_live())
        };
        if bytes > 0
            && live
            && let Some(handle) = self.handle.enter()
        {
            // SAFETY: the handle is open while it is in use; these bytes were lent, are the first of those that were, and no
            // piece of them is still out.
            unsafe { call!(StreamReceiveComplete(handle.raw(), bytes)) };
        }
    }

    /// STOP_SENDING with `code`; what was not read is given up.
    pub(crate) fn stop(&self, code: u64) -> Result<(), CodeOutOfRange> {
        check_code(code)?;
        self.stop_checked(code);
        Ok(())
    }

    /// [`Self::stop`] with a code that fits. Whether the other half has something under way that must arrive.
    fn stop_checked(&self, code: u64) -> bool {
        let (tell, delivering, wakeups) = {
            let mut state = self.inner.lock();
            let (tell, wakeups) = state.recv().begin_stop(code);
            (tell && state.is_live(), state.is_delivering(), wakeups)
        };
        if tell {
            self.shut_down(sys::QUIC_STREAM_SHUTDOWN_FLAGS_QUIC_STREAM_SHUTDOWN_FLAG_ABORT_RECEIVE, code);
        }
        wakeups.wake();
        if tell {
            tracing::debug!(parent: self.inner.span(), code, "stop");
        }
        delivering
    }

    /// What dropping the receive half means: the peer need not go on.
    pub(crate) fn drop_recv(&self) {
        if self.inner.is_over() {
            return;
        }
        let last = self.is_last_half();
        let stopped = contain("a waker", || self.stop_checked(self.drop_error_code()));
        let delivering = stopped.unwrap_or_else(|| self.inner.lock().is_delivering());
        self.after_half(last, delivering);
    }

    /// [`Self::stop`] with the code for what is given up, which the configuration has checked.
    pub(crate) fn stop_dropped(&self) {
        self.stop_checked(self.drop_error_code());
    }
}

/// Bytes of a stream.
#[derive(Debug)]
pub(crate) enum Loan {
    Native(NativeLoan),
    /// Of a short stream, all of which came at once.
    Copied(Bytes),
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Native(loan) => loan,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl From<Loan> for Bytes {
    fn from(loan: Loan) -> Self {
        match loan {
            Loan::Native(loan) => Self::from_owner(loan),
            Loan::Copied(bytes) => bytes,
        }
    }
}

/// Bytes in MsQuic's memory, given back when dropped.
#[derive(Debug)]
pub(crate) struct NativeLoan {
    lent: Lent,
    number: u64,
    instance: Arc<StreamInstance>,
}

impl AsRef<[u8]> for NativeLoan {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for NativeLoan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: this piece is given back by `drop` only; until then it counts as handed out, so that the handle is left to
        // the last reference to the instance, of which `self` has one.
        unsafe { self.lent.as_slice() }
    }
}

impl Drop for NativeLoan {
    fn drop(&mut self) {
        self.instance.give_back(self.number);
    }
}
