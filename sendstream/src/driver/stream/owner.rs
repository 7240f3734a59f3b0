//! [`StreamInstance`]: the owner of one open MsQuic stream handle. This file has its life and its
//! callback. `sending` and `receiving` have the calls of each half, `handle` and `closing` the
//! closes.

use std::{
    ffi::c_void,
    ptr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering},
    },
    time::Duration,
};

use sendstream_core::{
    dir::Dir,
    foreign::contain,
    stream::{
        copies::CopyPlace,
        state::{Refusal, StreamState},
    },
    wait::Wakeups,
};
use sendstream_sys as sys;
use tracing::Span;

use crate::{
    driver::{
        callback::{self, Next, Receiver},
        connection::owner::ConnectionInstance,
        stream::{
            closing::{IMMEDIATELY, close_unstarted},
            events::{StreamInner, StreamInnerExclusive, Surroundings},
            handle::StreamHandle,
        },
        wakes::{Blame, Blamed},
    },
    native::{
        api::call,
        background,
        budget::{budget, flight},
        parameter::{self, StreamId},
        received::Block,
        status,
    },
    types::{
        error::{ConnectionError, NativeError},
        stats::ConnectionStats,
    },
};

/// One open stream. The user's halves share it, and so does MsQuic from the start until
/// SHUTDOWN_COMPLETE.
///
/// The handle is closed in SHUTDOWN_COMPLETE, with two exceptions. If memory that MsQuic lent is
/// out or unread, or with `keeps_handle`, the last of the user's halves closes it, or the last piece
/// of that memory, or the last reference. If a native call is in progress, that call closes it at its
/// end. Each way is cheap: after SHUTDOWN_COMPLETE `StreamClose` only queues (or runs in place, on the
/// worker), and a stream that never started closes through [`close_unstarted`].
#[derive(Debug)]
pub(crate) struct StreamInstance {
    pub(super) handle: StreamHandle,
    pub(super) inner: StreamInner,
    pub(super) dir: Dir,
    /// Whether this side sends on it.
    sends: bool,
    /// How many of the user's halves are left. Written by the user only.
    halves: AtomicU8,
    /// Whether SHUTDOWN_COMPLETE has done with the handle, so that any thread may close it, and nothing
    /// closes it before. Written by `release`.
    silenced: AtomicBool,
    /// Whether what is sent on it may go out in 0-RTT packets.
    pub(super) sends_early: bool,
    /// Whether the peer began it in a 0-RTT packet.
    began_early: bool,
    /// The priority that was last asked for. Written by the user only.
    pub(super) priority: AtomicU16,
    /// Whether the handle stays open until the user has no half of the stream any more. Written by
    /// PEER_STREAM_STARTED.
    keeps_handle: AtomicBool,
    /// Its numbers when its handle was closed. Written by SHUTDOWN_COMPLETE.
    final_stats: OnceLock<sys::QUIC_STREAM_STATISTICS>,
    /// Whether the stream is a user of its connection, and so keeps it up. Finished data is still
    /// delivered after the last `Connection` value was dropped. A stream that the peer opened and
    /// nobody accepted is no user, and neither is a stream that is over. Written by: birth,
    /// `accepted_by`, `let_connection_go`.
    uses_connection: AtomicBool,
    /// Keeps the connection's handle open for as long as anybody holds the stream, and so until the
    /// stream's is closed. Declared last: dropped last.
    pub(super) connection: Arc<ConnectionInstance>,
}

impl StreamInstance {
    /// `StreamOpen`: nothing on the wire, no id, no event. What is sent on an early one may go out
    /// in 0-RTT packets.
    pub(crate) fn open(connection: &Arc<ConnectionInstance>, dir: Dir, early: Early) -> Result<Arc<Self>, NativeError> {
        let shared = connection.inner().shared();
        let flags = match dir {
            Dir::Uni => sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_UNIDIRECTIONAL,
            Dir::Bi => sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_NONE,
        };
        let mut handle = ptr::null_mut();
        // SAFETY: the connection's handle is open for as long as its inner part lives, and `handle`
        // is a place for one pointer. The context is set below, before anything can cause an event.
        let status = unsafe {
            call!(StreamOpen(connection.handle().raw(), flags, Some(stream_callback), ptr::null_mut(), &mut handle))
        };
        NativeError::check(status)?;
        let mut state = StreamInnerExclusive::local(dir, shared.fixed_send_window());
        state.set_buffered(shared.send_buffering);
        state.share(budget(), flight());
        if let Some(lending) = &shared.lending {
            state.recv().set_lending(lending.clone());
        }
        let instance = Arc::new(Self {
            handle: StreamHandle::new(handle),
            inner: StreamInner::new(state, None, span(connection, dir, "this side", None)),
            dir,
            sends: true,
            halves: AtomicU8::new(halves(dir)),
            silenced: AtomicBool::new(false),
            sends_early: early == Early::Yes,
            began_early: false,
            priority: AtomicU16::new(DEFAULT_PRIORITY),
            keeps_handle: AtomicBool::new(false),
            final_stats: OnceLock::new(),
            uses_connection: AtomicBool::new(true),
            connection: connection.clone(),
        });
        connection.enter_user();
        // SAFETY: the handle was opened above. The context stays valid while events can come: from
        // the start on MsQuic holds a reference of its own (`callback::lend_reference`), and before it no
        // event comes.
        unsafe { call!(SetContext(handle, Arc::as_ptr(&instance).cast_mut().cast())) };
        Ok(instance)
    }

    /// Takes over a stream that the peer started, inside PEER_STREAM_STARTED; an early one in a
    /// 0-RTT packet.
    ///
    /// # Safety
    ///
    /// `handle` is the stream of a PEER_STREAM_STARTED event of `connection`, during that event.
    pub(crate) unsafe fn take_over(
        connection: &Arc<ConnectionInstance>,
        handle: sys::HQUIC,
        dir: Dir,
        early: Early,
    ) -> Arc<Self> {
        let shared = connection.inner().shared();
        let mut state = StreamInnerExclusive::remote(dir, shared.fixed_send_window());
        state.set_buffered(shared.send_buffering);
        state.share(budget(), flight());
        if let Some(lending) = &shared.lending {
            state.recv().set_lending(lending.clone());
        }
        // SAFETY: as the caller promises; on the connection's worker a parameter call runs in
        // place.
        let id = unsafe { stream_id(handle) };
        let instance = Arc::new(Self {
            handle: StreamHandle::new(handle),
            inner: StreamInner::new(state, id, span(connection, dir, "the peer", id)),
            dir,
            sends: dir == Dir::Bi,
            halves: AtomicU8::new(halves(dir)),
            silenced: AtomicBool::new(false),
            sends_early: false,
            began_early: early == Early::Yes,
            priority: AtomicU16::new(DEFAULT_PRIORITY),
            keeps_handle: AtomicBool::new(false),
            final_stats: OnceLock::new(),
            uses_connection: AtomicBool::new(false),
            connection: connection.clone(),
        });
        callback::lend_reference(&instance);
        let context = Arc::as_ptr(&instance).cast_mut().cast();
        // SAFETY: the handle is valid during the event. The reference lent is MsQuic's until
        // SHUTDOWN_COMPLETE.
        unsafe { call!(SetCallbackHandler(handle, stream_callback as *mut c_void, context)) };
        instance
    }

    /// Whether the peer began it in a 0-RTT packet.
    pub(crate) fn began_early(&self) -> bool {
        self.began_early
    }

    /// Keeps the handle open until the user has no half of the stream. Until then the stream counts
    /// against the peer's limit. Chunks of it do not.
    pub(crate) fn keep_handle(&self) {
        self.keeps_handle.store(true, Ordering::Relaxed);
    }

    /// Makes a stream of the peer's a user of its connection, by a user who accepted it.
    pub(crate) fn accepted(&self) {
        self.connection.enter_user();
        self.uses_connection.store(true, Ordering::SeqCst);
        // SHUTDOWN_COMPLETE lets the connection go, and may have come before. It and this write one of
        // these flags each before they read the other, in one order for all: one of them sees both.
        if self.silenced.load(Ordering::SeqCst) {
            self.let_connection_go();
        }
    }

    /// Ends a stream of the peer's that nobody will accept.
    pub(crate) fn refuse(&self) {
        let _ = self.abort(self.drop_error_code());
        self.stop(self.drop_error_code());
    }

    /// The stream is over, so it needs the connection no longer.
    fn let_connection_go(&self) {
        // Mostly it was let go before, and a look costs less than the swap.
        if self.uses_connection.load(Ordering::SeqCst) && self.uses_connection.swap(false, Ordering::AcqRel) {
            self.connection.leave_user();
        }
    }

    /// Counts a half that is being dropped. Whether it is the last, which then sees what was done
    /// with the other: so this comes before it looks at the state.
    pub(super) fn is_last_half(&self) -> bool {
        self.halves.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Nobody needs the connection for a stream of which no half is left and nothing is being
    /// delivered: what is to be told to the peer about it may go down with the connection.
    pub(super) fn after_half(&self, last: bool, delivering: bool) {
        if last && !delivering {
            self.let_connection_go();
        }
        if last {
            self.close_unused();
        }
    }

    /// Closes the handle of a stream that is over and that the user has only chunks of, unless they
    /// need it.
    pub(super) fn close_unused(&self) {
        // Who drops the last half and SHUTDOWN_COMPLETE each write one of these before they read the
        // other, in one order for all: one of them sees both.
        if !self.silenced.load(Ordering::SeqCst) || self.halves.load(Ordering::SeqCst) != 0 {
            return;
        }
        if self.handle.is_closed() && self.dir == Dir::Uni && self.sends {
            // Nothing was ever received that would be let go.
            return;
        }
        let needed = {
            let mut state = self.inner.lock();
            state.recv().on_dropped();
            state.recv().has_lent()
        };
        if !needed {
            // SAFETY: the stream was silenced. Nothing that was lent is left, and nothing more is.
            unsafe { self.handle.close() };
        }
    }

    /// The stream's id, once it has one.
    pub(crate) fn id(&self) -> Option<u64> {
        self.inner.id()
    }

    /// Where warnings about the stream go: to its connection's span where streams have none.
    pub(super) fn span(&self) -> &Span {
        let span = self.inner.span();
        if span.is_disabled() { self.connection.inner().span() } else { span }
    }

    /// A number for logs that names this stream among all that somebody holds, also before it has
    /// an id.
    pub(crate) fn debug_id(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// The stream's numbers (`QUIC_PARAM_STREAM_STATISTICS`), as of now or of its end. Asking
    /// blocks but on the worker.
    pub(crate) fn stats(&self) -> Result<sys::QUIC_STREAM_STATISTICS, NativeError> {
        match self.handle.enter() {
            // SAFETY: the handle is a stream's, and open while it is in use.
            Some(handle) => unsafe { parameter::get(handle.raw()) },
            None => self.final_stats.get().copied().ok_or(NativeError::INVALID_STATE),
        }
    }

    /// The code for whatever is given up by dropping it, which the configuration has checked.
    pub(super) fn drop_error_code(&self) -> u64 {
        self.connection.inner().shared().drop_error_code
    }

    /// The state, for questions that only look.
    pub(crate) fn inner(&self) -> &StreamInner {
        &self.inner
    }

    // ---- Helpers --------------------------------------------------------------------------------

    /// Somebody waits on the stream. If it has not started, nothing but the connection can tell
    /// that the wait is over.
    pub(crate) fn ask_connection(self: &Arc<Self>) {
        let ask = self.inner.lock().must_ask_connection();
        if ask {
            self.connection.tell_when_lost(self);
        }
    }

    /// The connection ended without an event for this stream, because it never started.
    pub(crate) fn connection_lost(&self, cause: ConnectionError) -> Wakeups {
        self.inner.lock().on_lost(Some(cause))
    }

    pub(super) fn after_refusal(self: &Arc<Self>, refusal: Refusal) {
        match refusal {
            Refusal::AwaitEvent => {}
            Refusal::AskConnection => self.connection.tell_when_lost(self),
            Refusal::ResetNative => {
                let live = self.inner.lock().is_live();
                if live {
                    let flags = sys::QUIC_STREAM_SHUTDOWN_FLAGS_QUIC_STREAM_SHUTDOWN_FLAG_ABORT_SEND;
                    self.shut_down(flags, self.drop_error_code());
                }
            }
        }
    }

    /// `StreamShutdown`. It fails only when memory is out; then the connection goes, which MsQuic
    /// can always do: a stream that should have been reset must not stay open, nor look complete.
    pub(super) fn shut_down(&self, flags: sys::QUIC_STREAM_SHUTDOWN_FLAGS, code: u64) {
        // What the stream says would overtake the reason, and the peer would take it for the cause.
        // The end of the connection is the stream's, too.
        if self.connection.is_closed_with_reason() {
            return;
        }
        let Some(handle) = self.handle.enter() else { return };
        // SAFETY: the handle is open while it is in use.
        let status = unsafe { call!(StreamShutdown(handle.raw(), flags, code)) };
        if let Err(error) = NativeError::check(status) {
            tracing::error!(parent: self.span(), %error, "a stream could not be shut down: closing its connection");
            self.connection.close(code);
        }
    }

    /// Ends both halves now, whatever they were doing: SHUTDOWN_COMPLETE follows at once.
    fn shut_down_immediately(&self) {
        self.shut_down(IMMEDIATELY, self.drop_error_code());
    }

    /// Keeps the numbers of a stream that this side sends on.
    ///
    /// # Safety
    ///
    /// This is SHUTDOWN_COMPLETE, and the stream was not silenced yet.
    unsafe fn keep_stats(&self) {
        if !self.sends {
            return;
        }
        // SAFETY: the handle is a stream's. It is open: until the stream is silenced nobody closes it.
        if let Ok(stats) = unsafe { parameter::get(self.handle.raw()) } {
            let _ = self.final_stats.set(stats);
        }
    }

    /// Closes the handle in SHUTDOWN_COMPLETE, unless something that was lent is out, or may still
    /// be read.
    fn close_handle(&self) {
        if self.keeps_handle.load(Ordering::Relaxed) || !self.inner.is_over_and_unlent() {
            return self.close_unused();
        }
        // SAFETY: this is SHUTDOWN_COMPLETE, after which nothing more is lent, and nothing that was
        // is left.
        unsafe { self.handle.close() };
    }
}

impl Drop for StreamInstance {
    fn drop(&mut self) {
        let state = self.inner.state();
        match state {
            StreamState::Open | StreamState::Refused => {
                let (stream, connection) = (self.handle.unstarted(), self.connection.clone());
                // SAFETY: it is this instance's to close, and never started.
                let _ = unsafe { close_unstarted(stream, connection) };
            }
            // MsQuic's own reference is gone, so SHUTDOWN_COMPLETE was delivered.
            StreamState::Starting | StreamState::Blocked | StreamState::Started | StreamState::ShutdownComplete => {
                debug_assert_eq!(state, StreamState::ShutdownComplete);
                // SAFETY: nobody else can hold the instance any more, and whoever has something
                // that was lent holds it. Who closed it before has set the flag that this asks.
                unsafe { self.handle.close_alone() };
            }
        }
    }
}

/// Whether a stream has to do with 0-RTT packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    Yes,
    No,
}

impl From<bool> for Early {
    fn from(early: bool) -> Self {
        if early { Self::Yes } else { Self::No }
    }
}

/// How many halves the user gets.
fn halves(dir: Dir) -> u8 {
    match dir {
        Dir::Uni => 1,
        Dir::Bi => 2,
    }
}

/// `QUIC_STREAM_PRIORITY_DEFAULT`: half-way between the lowest and the highest.
const DEFAULT_PRIORITY: u16 = 0x7fff;

impl Surroundings for StreamInstance {
    fn cause(&self) -> Option<ConnectionError> {
        self.connection.inner().cause()
    }

    fn min_rtt(&self) -> Option<Duration> {
        let stats: sys::QUIC_STATISTICS_V2 = self.connection.parameter().ok()?;
        self.connection.inner().note_rtt(stats.Rtt);
        ConnectionStats::min_rtt(&stats)
    }

    fn copy_place(&self) -> Option<CopyPlace> {
        self.connection.inner().copy_place()
    }

    fn block(&self, piece: &sys::QUIC_BUFFER) -> Option<Block> {
        let handle = self.handle.enter()?;
        // SAFETY: RECEIVE asks for the block of each of its pieces, inside its callback.
        unsafe { Block::of(handle.raw(), piece) }
    }
}

impl Blamed for StreamInstance {
    fn fail(self: Arc<Self>) {
        // Not here: it may bring SHUTDOWN_COMPLETE inside the call, and with it the end of an
        // instance that the callbacks around this one have not done with.
        let instance = self.clone();
        background::run(move || instance.shut_down_immediately());
        let lost = self.connection.inner().cause();
        self.inner.apply(|state| state.on_lost(lost));
    }
}

impl Receiver for StreamInstance {
    type Event = sys::QUIC_STREAM_EVENT;
    type Connection = ConnectionInstance;

    fn connection(self: &Arc<Self>) -> Option<&Arc<ConnectionInstance>> {
        Some(&self.connection)
    }

    unsafe fn receive(self: &Arc<Self>, event: &mut sys::QUIC_STREAM_EVENT) -> Next {
        // SAFETY: as the caller promises.
        unsafe { self.inner.callback_handler_impl(event, &**self) }
    }

    fn after_panic(self: &Arc<Self>, event: &sys::QUIC_STREAM_EVENT) -> Next {
        if event.Type == sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE {
            return Next::Release;
        }
        contain("a stream's failure", || self.clone().fail());
        // What RECEIVE lent may be in somebody's hands by now. PENDING leaves it valid until the
        // handle is closed.
        let lends = event.Type == sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE;
        Next::Return(if lends { status::PENDING } else { 0 })
    }

    fn blame(self: &Arc<Self>) -> Blame {
        Blame::Part(self.clone())
    }

    /// It wakes only where it has to close the connection.
    fn shut_down_at_once(self: Arc<Self>) {
        self.shut_down_immediately();
    }

    fn release(self: Arc<Self>) {
        // SAFETY: this is SHUTDOWN_COMPLETE, and nobody closes the handle before `close_handle`
        // below.
        unsafe {
            self.keep_stats();
            self.handle.silence();
        }
        self.silenced.store(true, Ordering::SeqCst);
        contain("a stream's end", || self.close_handle());
        contain("a stream's end", || self.let_connection_go());
        contain("a stream's close", || drop(self));
    }
}

/// The callback of every stream whose instance lives.
///
/// # Safety
///
/// For MsQuic to call: `context` is the stream's `StreamInstance`, kept alive by the reference that
/// MsQuic was lent.
unsafe extern "C" fn stream_callback(
    _handle: sys::HQUIC,
    context: *mut c_void,
    event: *mut sys::QUIC_STREAM_EVENT,
) -> sys::QUIC_STATUS {
    // SAFETY: MsQuic holds a reference from the start until SHUTDOWN_COMPLETE, and sends events in
    // between only.
    unsafe { callback::deliver::<StreamInstance>(context, event) }
}

/// A stream in logs, within its connection.
fn span(connection: &ConnectionInstance, dir: Dir, opened_by: &str, id: Option<u64>) -> Span {
    let kind = match dir {
        Dir::Uni => "unidirectional",
        Dir::Bi => "bidirectional",
    };
    // Here a panic of the log's subscriber would leave the stream with MsQuic, which asserts that
    // somebody took it.
    contain("the log", || tracing::debug_span!(parent: connection.inner().span(), "stream", id, kind, opened_by))
        .unwrap_or_else(Span::none)
}

/// `QUIC_PARAM_STREAM_ID`.
///
/// # Safety
///
/// `handle` is an open stream, and this is its connection's worker.
unsafe fn stream_id(handle: sys::HQUIC) -> Option<u64> {
    // SAFETY: as the caller promises.
    unsafe { parameter::get(handle) }.ok().map(|StreamId(id)| id)
}
