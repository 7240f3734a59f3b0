//! The sending half of a [`StreamInstance`]: it starts, submits, finishes and resets.

use std::{
    mem, ptr,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use sendstream_core::{
    dir::Dir,
    foreign::contain,
    stream::{
        Fin,
        cause::{SendClosed, SendEnd},
        state::Denied,
    },
};
use sendstream_sys as sys;

use crate::{
    driver::{
        callback,
        stream::{
            buffer::{Buffer, cut},
            owner::StreamInstance,
            status::refused,
        },
        wakes::Wake as _,
    },
    native::{api::call, background, parameter},
    types::{
        error::{ConnectionError, NativeError},
        payload::Payload,
    },
};

/// What a start does when the peer's limit admits no further stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtLimit {
    Wait,
    /// Waits, and tells the peer of the stream as soon as it is admitted.
    WaitAndTell,
    Fail,
}

impl StreamInstance {
    /// `StreamStart`, unless something has started the stream already.
    pub(crate) fn start(self: &Arc<Self>, at_limit: AtLimit) -> Result<(), SendEnd<ConnectionError>> {
        if !self.inner.lock().begin_start()? {
            return Ok(());
        }
        let mut flags = sys::QUIC_STREAM_START_FLAGS_QUIC_STREAM_START_FLAG_SHUTDOWN_ON_FAIL
            | sys::QUIC_STREAM_START_FLAGS_QUIC_STREAM_START_FLAG_INDICATE_PEER_ACCEPT;
        match at_limit {
            AtLimit::Wait => {}
            AtLimit::WaitAndTell => flags |= sys::QUIC_STREAM_START_FLAGS_QUIC_STREAM_START_FLAG_IMMEDIATE,
            AtLimit::Fail => flags |= sys::QUIC_STREAM_START_FLAGS_QUIC_STREAM_START_FLAG_FAIL_BLOCKED,
        }
        if let Err(status) = self.native_start(flags) {
            let (refusal, wakeups) = self.inner.lock().on_start_refused(refused(status));
            self.after_refusal(refusal);
            wakeups.wake();
        }
        Ok(())
    }

    /// `StreamStart`.
    fn native_start(self: &Arc<Self>, flags: sys::QUIC_STREAM_START_FLAGS) -> Result<(), NativeError> {
        self.check_connection()?;
        let handle = self.handle.enter().ok_or(NativeError::INVALID_STATE)?;
        callback::lend_reference(self);
        // SAFETY: the handle is open while it is in use.
        let status = unsafe { call!(StreamStart(handle.raw(), flags)) };
        NativeError::check(status).inspect_err(|_| {
            // SAFETY: lent just above; MsQuic refused, so it will not bring an event that gives it
            // back.
            unsafe { callback::take_reference_back(self) };
        })?;
        self.tell_early_stop();
        Ok(())
    }

    /// Refuses to start a stream of a connection that is known to have ended, as MsQuic would: it
    /// has nothing to say about such a stream, and its Debug build asserts that it is not asked on
    /// a worker.
    fn check_connection(&self) -> Result<(), NativeError> {
        if self.connection.inner().is_over() { Err(NativeError::ABORTED) } else { Ok(()) }
    }

    /// A receive half that was stopped before the stream started has not been able to say so.
    fn tell_early_stop(&self) {
        if self.dir == Dir::Uni {
            return;
        }
        let stopped = self.inner.lock().recv().stopped_with();
        if let Some(code) = stopped {
            self.shut_down(sys::QUIC_STREAM_SHUTDOWN_FLAGS_QUIC_STREAM_SHUTDOWN_FLAG_ABORT_RECEIVE, code);
        }
    }

    /// See [`StreamInnerExclusive::poll_started`].
    pub(crate) fn poll_started(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendEnd<ConnectionError>>> {
        self.inner.lock().poll_started(cx)
    }

    /// Whether data may be sent.
    pub(crate) fn check_sending(&self) -> Result<(), SendClosed<ConnectionError>> {
        match self.inner.lock().check_sending() {
            // Whoever goes on to send learns the cause when it comes.
            Ok(()) | Err(Denied::CauseToCome) => Ok(()),
            Err(Denied::Because(closed)) => Err(closed),
        }
    }

    /// Submits `payload`, now, and FIN behind it if it is set. The result is what
    /// [`Self::poll_send_data`] waits for.
    pub(crate) fn send(self: &Arc<Self>, payload: Payload, fin: Fin) -> Result<u64, SendClosed<ConnectionError>> {
        if payload.is_empty() && !fin.is_set() {
            // MsQuic never completes an empty send on an idle stream, and there is nothing to
            // acknowledge.
            self.check_sending()?;
            return Ok(0);
        }
        self.submit(payload, fin)
    }

    /// `StreamSend` of `payload`, an operation for each of its slices.
    fn submit(self: &Arc<Self>, payload: Payload, fin: Fin) -> Result<u64, SendClosed<ConnectionError>> {
        /// What `poll_send_data` never sees acknowledged, so that it waits for the cause of a
        /// failure.
        const NEVER: u64 = u64::MAX;
        let bytes = payload.len();
        tracing::trace!(parent: self.inner.span(), bytes, fin = fin.is_set(), "send");
        let begun = self.inner.lock().begin_send(bytes, fin);
        let mut submission = match begun {
            Ok(submission) => submission,
            Err(denied) => {
                contain("the owner of a buffer", || drop(payload));
                return match denied {
                    Denied::Because(closed) => Err(closed),
                    Denied::CauseToCome => Ok(NEVER),
                };
            }
        };
        let mut slices = cut(payload, submission.slices);
        let mut left = bytes;
        while let Some(mut slice) = slices.next() {
            let length = slice.len();
            let mut flags = sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_NONE;
            if fin.is_set() && length == left {
                flags |= sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_FIN;
            }
            if submission.starts {
                flags |= sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_START;
            }
            if self.sends_early {
                flags |= sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_ALLOW_0_RTT;
            }
            if let Err(status) = self.native_send(&mut slice, flags) {
                let (refusal, wakeups) = self.inner.lock().on_send_refused(left, submission, refused(status));
                self.after_refusal(refusal);
                // Freed before anybody is woken, as in SEND_COMPLETE.
                contain("the owner of a buffer", || drop((slice, slices)));
                wakeups.wake();
                return Ok(submission.end());
            }
            left -= length;
            submission.starts = false;
        }
        // An empty part at the end of a list is in no slice, and has an owner all the same.
        contain("the owner of a buffer", || drop(slices));
        Ok(submission.end())
    }

    /// `StreamSend`. What it accepts is taken out of `payload`; what it refuses stays there,
    /// because its owner's destructor is foreign code, which must not run before the refusal is
    /// recorded.
    fn native_send(self: &Arc<Self>, payload: &mut Payload, flags: sys::QUIC_SEND_FLAGS) -> Result<(), NativeError> {
        let handle = self.handle.enter().ok_or(NativeError::INVALID_STATE)?;
        let starts = flags & sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_START != 0;
        if starts {
            self.check_connection()?;
            callback::lend_reference(self);
        }
        let status = if payload.is_empty() {
            // SAFETY: the handle is open while it is in use; a bare FIN has no buffers.
            unsafe { call!(StreamSend(handle.raw(), ptr::null(), 0, flags, ptr::null_mut())) }
        } else {
            let buffer = Buffer::new(mem::replace(payload, Payload::empty()));
            let (buffers, count) = (buffer.get_buffers().as_ptr(), buffer.get_buffers().len() as u32);
            let context = buffer.into_raw();
            // SAFETY: the handle is open; the descriptors and the bytes live in the buffer behind
            // `context`, untouched until SEND_COMPLETE brings it back, or until the failure below.
            let status = unsafe { call!(StreamSend(handle.raw(), buffers, count, flags, context.as_ptr().cast())) };
            if NativeError::check(status).is_err() {
                // SAFETY: `context` came from `into_raw` just above, and a refused send brings no
                // SEND_COMPLETE.
                *payload = unsafe { Buffer::from_raw(context) }.into_payload();
            }
            status
        };
        let refused = NativeError::check(status);
        if starts {
            match refused {
                Ok(()) => self.tell_early_stop(),
                // SAFETY: lent above; MsQuic refused, so it will not bring an event that gives it
                // back.
                Err(_) => unsafe { callback::take_reference_back(self) },
            }
        }
        refused
    }

    /// Ready once the first `operations` operations are acknowledged, or cannot be any more.
    pub(crate) fn poll_send_data(
        &self,
        operations: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendEnd<ConnectionError>>> {
        self.inner.lock().poll_acked(operations, cx)
    }

    /// How many operations have been submitted.
    pub(crate) fn submitted(&self) -> u64 {
        self.inner.lock().submitted()
    }

    /// Ready once the in-flight window has room.
    pub(crate) fn poll_window(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendClosed<ConnectionError>>> {
        self.inner.lock().poll_window(cx)
    }

    /// The in-flight window and what of it is used, in bytes.
    pub(crate) fn window(&self) -> (u64, u64) {
        let state = self.inner.lock();
        (state.window(), state.in_flight())
    }

    /// Fixes the in-flight window.
    pub(crate) fn set_window(&self, bytes: u64) {
        self.inner.apply(|state| state.set_window(bytes));
    }

    /// Queues FIN, behind everything sent.
    pub(crate) fn finish(self: &Arc<Self>) -> Result<(), SendClosed<ConnectionError>> {
        self.submit(Payload::empty(), Fin::Yes).map(|_| ())
    }

    /// Ready with `Ok` only once the peer acknowledged FIN, which is queued if nobody has yet.
    pub(crate) fn poll_finish_write(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendClosed<ConnectionError>>> {
        {
            let mut state = self.inner.lock();
            if state.check_sending().is_err() {
                return state.poll_finished(cx).map_err(SendClosed::Ended);
            }
        }
        self.finish()?;
        self.inner.lock().poll_finished(cx).map_err(SendClosed::Ended)
    }

    /// Resets the send half: RESET_STREAM with `code`, which QUIC can carry, and everything pending
    /// ends at once.
    pub(crate) fn abort(&self, code: u64) -> Result<(), SendClosed<ConnectionError>> {
        let (tell, wakeups) = self.inner.lock().begin_reset(code)?;
        if tell {
            self.shut_down(sys::QUIC_STREAM_SHUTDOWN_FLAGS_QUIC_STREAM_SHUTDOWN_FLAG_ABORT_SEND, code);
        }
        wakeups.wake();
        if tell {
            tracing::debug!(parent: self.inner.span(), code, "reset");
        }
        Ok(())
    }

    /// [`Self::abort`], ready once the peer knows or the connection is gone.
    pub(crate) fn poll_abort(&self, cx: &mut Context<'_>, code: u64) -> Poll<Result<(), SendClosed<ConnectionError>>> {
        self.abort(code)?;
        self.inner.lock().poll_aborted(cx).map(Ok)
    }

    /// The send half is dropped: a truncated stream must not look complete.
    pub(crate) fn drop_send(&self) {
        if self.inner.is_over() {
            let last = self.is_last_half();
            return self.after_half(last, false);
        }
        let last = self.is_last_half();
        let (unfinished, delivering) = {
            let state = self.inner.lock();
            (state.is_unfinished(), state.is_delivering())
        };
        if unfinished {
            // The state may just have become final; then there is nothing to reset.
            contain("a waker", || self.abort(self.drop_error_code()));
        }
        self.after_half(last, delivering);
    }

    /// `SetParam(QUIC_PARAM_STREAM_PRIORITY)`, which blocks until the worker has run it: on the
    /// background thread.
    pub(crate) fn set_priority(self: &Arc<Self>, priority: u16) {
        self.priority.store(priority, Ordering::Relaxed);
        let instance = self.clone();
        background::run(move || {
            let Some(handle) = instance.handle.enter() else { return };
            // SAFETY: the handle is open while it is in use; the parameter is a `uint16_t`.
            let set = unsafe { parameter::set(handle.raw(), sys::QUIC_PARAM_STREAM_PRIORITY, &priority) };
            if let Err(error) = set {
                tracing::warn!(parent: instance.span(), %error, "the stream's priority was not set");
            }
        });
    }

    /// What [`Self::set_priority`] last set.
    pub(crate) fn priority(&self) -> u16 {
        self.priority.load(Ordering::Relaxed)
    }
}
