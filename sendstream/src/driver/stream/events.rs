//! Receives MsQuic's events of a stream: one `handle_event_*` for each event, under its C name.
//! Each makes a transition of the state, and then wakes.

use std::{
    ffi::c_void,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use sendstream_core::{
    dir::Dir,
    stream::{
        Fin,
        copies::CopyPlace,
        state::{self, StreamState},
    },
    wait::{LockGuard, Wakeups},
};
use sendstream_sys as sys;
use tracing::{Span, field};

use crate::{
    driver::{
        callback::Next,
        stream::{
            buffer::{Buffer, Lent},
            status::start_failed,
        },
        wakes::Wake as _,
    },
    native::{fork::ForkLock, received::Block, status},
    types::error::{ConnectionError, NativeError},
};

/// What MsQuic and the user share of one stream.
#[derive(Debug)]
pub(crate) struct StreamInner {
    exclusive: ForkLock<StreamInnerExclusive>,
    shared: StreamInnerShared,
}

/// The state of a stream of MsQuic's.
pub(crate) type StreamInnerExclusive = state::StreamInnerExclusive<ConnectionError, Lent>;

/// What can be read without the lock.
#[derive(Debug)]
pub(crate) struct StreamInnerShared {
    /// The stream's id, `NO_ID` until it has one. Written once: by `handle_event_start_complete`,
    /// or at birth for a stream of the peer's.
    id: AtomicU64,
    /// Whether MsQuic is done with the stream. Written by: `handle_event_shutdown_complete`.
    over: AtomicU8,
    /// The stream in logs. Never written.
    span: Span,
}

/// No stream has this id: ids have 62 bits.
const NO_ID: u64 = u64::MAX;

/// MsQuic has more to say about the stream.
const NOT_OVER: u8 = 0;
/// The stream is over, and something that MsQuic lent is out, or may still be read.
const OVER_AND_LENT: u8 = 1;
/// The stream is over, and MsQuic has lent nothing.
const OVER: u8 = 2;

/// How many bytes a piece may have to be copied: what MsQuic has for the beginning of a stream.
const COPIED: u32 = 2048;

/// What a stream's events ask about its connection and its memory, on the worker.
pub(crate) trait Surroundings {
    /// What is recorded as the connection's end.
    fn cause(&self) -> Option<ConnectionError>;

    /// The smallest round-trip time of the path so far.
    fn min_rtt(&self) -> Option<Duration>;

    /// A place for a copy of a short piece, if there is one.
    fn copy_place(&self) -> Option<CopyPlace>;

    /// What memory `piece`, which RECEIVE lends, is part of, if it can be kept.
    fn block(&self, piece: &sys::QUIC_BUFFER) -> Option<Block>;
}

const SUCCESS: Next = Next::Return(0);
/// The data is taken; `StreamReceiveComplete` will say when it is done with.
const PENDING: Next = Next::Return(status::PENDING);

impl StreamInner {
    /// A stream in `exclusive`'s state; `id` is known at birth for a stream of the peer's.
    pub(crate) fn new(exclusive: StreamInnerExclusive, id: Option<u64>, span: Span) -> Self {
        let shared = StreamInnerShared { id: AtomicU64::new(id.unwrap_or(NO_ID)), over: AtomicU8::new(NOT_OVER), span };
        Self { exclusive: ForkLock::new(exclusive), shared }
    }

    /// The stream in logs.
    pub(crate) fn span(&self) -> &Span {
        &self.shared.span
    }

    /// Locks the state.
    pub(crate) fn lock(&self) -> LockGuard<'_, StreamInnerExclusive> {
        self.exclusive.lock(|| {
            let mut state = StreamInnerExclusive::local(Dir::Bi, None);
            // Something is not acknowledged, so that nothing says that all is.
            let _ = state.begin_send(1, Fin::No);
            drop(state.on_lost(Some(ConnectionError::Forked)));
            state
        })
    }

    /// How far the stream has come, when nobody else can look.
    pub(crate) fn state(&mut self) -> StreamState {
        self.exclusive.get_mut().state()
    }

    /// Whether MsQuic is done with the stream, so that there is nothing left to tell it.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.over.load(Ordering::Acquire) != NOT_OVER
    }

    /// Whether the stream was over when nothing was lent, so that nothing ever will be.
    pub(crate) fn is_over_and_unlent(&self) -> bool {
        self.shared.over.load(Ordering::Acquire) == OVER
    }

    /// The stream's id, once it has one.
    pub(crate) fn id(&self) -> Option<u64> {
        Some(self.shared.id.load(Ordering::Acquire)).filter(|id| *id != NO_ID)
    }

    /// Dispatches one event to its handler. `connection` is what the stream is part of.
    ///
    /// # Safety
    ///
    /// `event` is valid as MsQuic passes it to the callback of the stream that this is the inner
    /// part of.
    pub(crate) unsafe fn callback_handler_impl(
        &self,
        event: &sys::QUIC_STREAM_EVENT,
        connection: &impl Surroundings,
    ) -> Next {
        let data = &event.__bindgen_anon_1;
        match event.Type {
            sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_START_COMPLETE => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.START_COMPLETE };
                self.handle_event_start_complete(NativeError::check(event.Status), event.ID, event.PeerAccepted() != 0)
            }
            sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.RECEIVE };
                let pieces: &[sys::QUIC_BUFFER] = if event.BufferCount == 0 {
                    &[]
                } else {
                    // SAFETY: the event says that this many descriptors are at `Buffers`, valid
                    // during the callback.
                    unsafe { slice::from_raw_parts(event.Buffers, event.BufferCount as usize) }
                };
                let fin = Fin::from(event.Flags & sys::QUIC_RECEIVE_FLAGS_QUIC_RECEIVE_FLAG_FIN != 0);
                if let [piece] = pieces
                    && (1..=COPIED).contains(&piece.Length)
                {
                    let lent = Lent::from_descriptor(piece, None);
                    // SAFETY: MsQuic lends the piece for the callback at least, which this is.
                    let bytes = unsafe { lent.as_slice() };
                    if self.handle_event_receive_short(bytes, fin, connection) {
                        return SUCCESS;
                    }
                }
                self.handle_event_receive(pieces, fin, |piece| connection.block(piece))
            }
            sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_COMPLETE => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.SEND_COMPLETE };
                // SAFETY: every send of this stream passes a context from `Buffer::into_raw`, or
                // null for a bare FIN, and MsQuic brings each back once, here.
                unsafe { self.handle_event_send_complete(event.ClientContext, event.Canceled != 0) }
            }
            sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_SEND_SHUTDOWN => self.handle_event_peer_send_shutdown(),
            sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_SEND_ABORTED => {
                // SAFETY: the type says that this member of the union is set.
                self.handle_event_peer_send_aborted(unsafe { data.PEER_SEND_ABORTED.ErrorCode })
            }
            sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_RECEIVE_ABORTED => {
                // SAFETY: the type says that this member of the union is set.
                self.handle_event_peer_receive_aborted(unsafe { data.PEER_RECEIVE_ABORTED.ErrorCode })
            }
            sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_SHUTDOWN_COMPLETE => {
                // SAFETY: the type says that this member of the union is set.
                self.handle_event_send_shutdown_complete(unsafe { data.SEND_SHUTDOWN_COMPLETE.Graceful } != 0)
            }
            sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.SHUTDOWN_COMPLETE };
                // The connection knows best what ended it; the event's flags are what is left when
                // it does not.
                let lost = (event.ConnectionShutdown != 0).then(|| {
                    connection.cause().unwrap_or_else(|| {
                        ConnectionError::from_shutdown(
                            event.ConnectionShutdownByApp() != 0,
                            event.ConnectionClosedRemotely() != 0,
                            event.ConnectionErrorCode,
                            NativeError::from_status(event.ConnectionCloseStatus),
                        )
                    })
                });
                self.handle_event_shutdown_complete(lost)
            }
            sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_IDEAL_SEND_BUFFER_SIZE => {
                // SAFETY: the type says that this member of the union is set.
                let ideal = unsafe { data.IDEAL_SEND_BUFFER_SIZE.ByteCount };
                self.handle_event_ideal_send_buffer_size(ideal, connection.min_rtt())
            }
            sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_ACCEPTED => self.handle_event_peer_accepted(),
            // CANCEL_ON_LOSS, which only a send flag that is never used asks for, and whatever a
            // later MsQuic adds.
            _ => SUCCESS,
        }
    }

    /// QUIC_STREAM_EVENT_START_COMPLETE: the stream has its id, or could not start.
    pub(crate) fn handle_event_start_complete(
        &self,
        status: Result<(), NativeError>,
        id: u64,
        peer_accepted: bool,
    ) -> Next {
        if status.is_ok() {
            self.shared.id.store(id, Ordering::Release);
            if !self.span().is_disabled() {
                self.span().record("id", id);
            }
        }
        self.apply(|state| state.on_start_complete(status.map_err(start_failed), peer_accepted));
        tracing::debug!(parent: self.span(), error = status.err().map(field::display), peer_accepted, "started");
        if status.is_ok() { SUCCESS } else { Next::ShutDown }
    }

    /// QUIC_STREAM_EVENT_RECEIVE: MsQuic lends the next `pieces` of the stream, the last ones with
    /// FIN. `block` finds their memory.
    pub(crate) fn handle_event_receive(
        &self,
        pieces: &[sys::QUIC_BUFFER],
        fin: Fin,
        block: impl Fn(&sys::QUIC_BUFFER) -> Option<Block>,
    ) -> Next {
        let lent = pieces.iter().map(|piece| Lent::from_descriptor(piece, block(piece)));
        self.apply(|state| state.recv().on_receive(lent, fin));
        let bytes = || pieces.iter().map(|piece| u64::from(piece.Length)).sum::<u64>();
        tracing::trace!(parent: self.span(), bytes = bytes(), fin = fin.is_set(), "received");
        // Never SUCCESS where there are bytes, also if nobody wants them any more: it would give
        // back as many bytes from the *front* of what is lent, which somebody may be reading. After
        // a stop MsQuic asks for nothing back.
        if pieces.iter().any(|piece| piece.Length > 0) { PENDING } else { SUCCESS }
    }

    /// QUIC_STREAM_EVENT_RECEIVE of one short piece, the last one with FIN. Returns whether it was
    /// copied, so that MsQuic has its memory back at once. To give the memory back later, another
    /// thread would have to hand an operation to the worker.
    pub(crate) fn handle_event_receive_short(&self, piece: &[u8], fin: Fin, connection: &impl Surroundings) -> bool {
        let wakeups = {
            let mut state = self.lock();
            let recv = state.recv();
            if !recv.is_caught_up() {
                return false;
            }
            let Some(place) = connection.copy_place() else { return false };
            recv.on_receive_copy(Bytes::copy_from_slice(piece), place, fin)
        };
        wakeups.wake();
        tracing::trace!(parent: self.span(), bytes = piece.len(), fin = fin.is_set(), "received");
        true
    }

    /// QUIC_STREAM_EVENT_SEND_COMPLETE: MsQuic gives a buffer back, acknowledged unless `canceled`.
    ///
    /// # Safety
    ///
    /// `context` is null or came from [`Buffer::into_raw`], and MsQuic gives it back here for the
    /// first time.
    pub(crate) unsafe fn handle_event_send_complete(&self, context: *mut c_void, canceled: bool) -> Next {
        if let Some(context) = NonNull::new(context.cast::<Buffer>()) {
            // SAFETY: as the caller promises.
            let buffer = unsafe { Buffer::from_raw(context) };
            let bytes = buffer.len();
            // Freed before anybody is woken, so that whoever learns of the completion can rely on
            // it; and outside the lock, because the owner's `Drop` is foreign code.
            drop(buffer);
            self.apply(|state| state.on_send_complete(bytes, canceled));
            tracing::trace!(parent: self.span(), bytes, canceled, "send complete");
        }
        SUCCESS
    }

    /// QUIC_STREAM_EVENT_PEER_SEND_SHUTDOWN: the peer finished, and everything it sent was read.
    pub(crate) fn handle_event_peer_send_shutdown(&self) -> Next {
        self.apply(|state| state.recv().on_fin());
        tracing::debug!(parent: self.span(), "the peer finished");
        SUCCESS
    }

    /// QUIC_STREAM_EVENT_PEER_SEND_ABORTED: the peer's RESET_STREAM.
    pub(crate) fn handle_event_peer_send_aborted(&self, code: u64) -> Next {
        self.apply(|state| state.recv().on_peer_send_aborted(code));
        tracing::debug!(parent: self.span(), code, "reset by the peer");
        SUCCESS
    }

    /// QUIC_STREAM_EVENT_PEER_RECEIVE_ABORTED: the peer's STOP_SENDING.
    pub(crate) fn handle_event_peer_receive_aborted(&self, code: u64) -> Next {
        self.apply(|state| state.on_peer_receive_aborted(code));
        tracing::debug!(parent: self.span(), code, "stopped by the peer");
        SUCCESS
    }

    /// QUIC_STREAM_EVENT_SEND_SHUTDOWN_COMPLETE: the send half is over; `graceful` if the peer
    /// acknowledged FIN.
    pub(crate) fn handle_event_send_shutdown_complete(&self, graceful: bool) -> Next {
        self.apply(|state| state.on_send_shutdown_complete(graceful));
        tracing::debug!(parent: self.span(), acknowledged = graceful, "sending ended");
        SUCCESS
    }

    /// QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE: both halves are over; `lost` if that is because the
    /// connection is.
    pub(crate) fn handle_event_shutdown_complete(&self, lost: Option<ConnectionError>) -> Next {
        let (wakeups, lent) = {
            let mut state = self.lock();
            (state.on_shutdown_complete(lost), state.recv().has_lent())
        };
        self.shared.over.store(if lent { OVER_AND_LENT } else { OVER }, Ordering::Release);
        wakeups.wake();
        tracing::debug!(parent: self.span(), "over");
        Next::Release
    }

    /// QUIC_STREAM_EVENT_IDEAL_SEND_BUFFER_SIZE: how many bytes in flight keep the path busy.
    pub(crate) fn handle_event_ideal_send_buffer_size(&self, bytes: u64, min_rtt: Option<Duration>) -> Next {
        self.apply(|state| state.on_ideal_send_buffer_size(bytes, min_rtt));
        tracing::trace!(parent: self.span(), bytes, "ideal send buffer");
        SUCCESS
    }

    /// QUIC_STREAM_EVENT_PEER_ACCEPTED: the peer's stream limit admits the stream, which had to
    /// wait for it.
    pub(crate) fn handle_event_peer_accepted(&self) -> Next {
        self.apply(StreamInnerExclusive::on_peer_accepted);
        SUCCESS
    }

    /// One transition: under the lock, and then the wake, outside of it.
    pub(crate) fn apply(&self, transition: impl FnOnce(&mut StreamInnerExclusive) -> Wakeups) {
        let wakeups = transition(&mut self.lock());
        wakeups.wake();
    }
}

#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "what is fuzzed is the model in `random_orders`"))]
pub(crate) mod tests;
