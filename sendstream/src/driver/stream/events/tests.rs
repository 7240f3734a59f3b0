//! Ring 2: MsQuic's events fed to `StreamInner` without a network, counting wakes.

pub(crate) mod random_orders;

use std::{
    mem::MaybeUninit,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use sendstream_core::{
    dir::Dir,
    stream::{
        cause::{RecvEnd, SendEnd, SendFailure},
        copies::Copies,
        recv_state::{Piece as _, Taken},
    },
    testing::Task,
    wait::WaiterKey,
};

use super::*;
use crate::{
    driver::stream::buffer::cut,
    types::{error::Timeout, payload::Payload},
};

const LOST: ConnectionError = ConnectionError::TimedOut(Timeout::Idle);

fn failed(failure: SendFailure<ConnectionError>) -> SendEnd<ConnectionError> {
    SendEnd::Failed(failure)
}

fn lost(cause: ConnectionError) -> SendEnd<ConnectionError> {
    failed(SendFailure::ConnectionLost(cause))
}

/// A stream of this side's that can be read too.
fn fresh() -> StreamInner {
    StreamInner::new(StreamInnerExclusive::local(Dir::Bi, None), None, tracing::Span::none())
}

fn started() -> StreamInner {
    let inner = fresh();
    assert_eq!(inner.lock().begin_start(), Ok(true));
    assert_eq!(inner.handle_event_start_complete(Ok(()), 4, true), SUCCESS);
    inner
}

/// What owns the bytes of a send, and counts how often it is dropped.
struct Owner {
    bytes: Vec<u8>,
    drops: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

/// Lends `bytes` to C as a send does; the result is what SEND_COMPLETE brings back.
fn lend(bytes: usize, drops: &Arc<AtomicUsize>) -> *mut c_void {
    let owner = Owner { bytes: vec![0; bytes], drops: drops.clone() };
    Buffer::new(Payload::from(Bytes::from_owner(owner))).into_raw().as_ptr().cast()
}

/// Describes `bytes` as MsQuic would in RECEIVE.
fn describe(bytes: &'static [u8]) -> sys::QUIC_BUFFER {
    let length = u32::try_from(bytes.len()).expect("tests lend little");
    sys::QUIC_BUFFER { Length: length, Buffer: bytes.as_ptr().cast_mut() }
}

/// Submits `bytes` and returns what SEND_COMPLETE brings back.
fn send(inner: &StreamInner, bytes: usize, drops: &Arc<AtomicUsize>) -> *mut c_void {
    let _ = inner.lock().begin_send(bytes as u64, Fin::No).expect("data may be sent");
    lend(bytes, drops)
}

fn complete(inner: &StreamInner, context: *mut c_void, canceled: bool) {
    // SAFETY: each test completes each of the contexts that `lend` made once.
    let next = unsafe { inner.handle_event_send_complete(context, canceled) };
    assert_eq!(next, SUCCESS);
}

fn stop(inner: &StreamInner, code: u64) {
    let (tell, wakeups) = inner.lock().recv().begin_stop(code);
    wakeups.wake();
    assert!(tell);
}

fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a closure whenever it is woken.
struct OnWake<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn on_wake(run: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(OnWake(run)))
}

/// Whether somebody holds the lock of the state.
fn is_locked(inner: &StreamInner) -> bool {
    inner.exclusive.is_locked()
}

// ---- START_COMPLETE, PEER_ACCEPTED --------------------------------------------------------------

#[test]
fn a_start_brings_the_id_and_ends_the_wait() {
    let task = Task::new();
    let inner = fresh();
    assert_eq!(inner.id(), None);
    assert_eq!(inner.lock().begin_start(), Ok(true));
    assert!(task.run(|cx| inner.lock().poll_started(cx)).is_pending());
    assert_eq!(inner.handle_event_start_complete(Ok(()), 4, true), SUCCESS);
    assert_eq!((inner.id(), task.wakes()), (Some(4), 1));
    assert_eq!(now(|cx| inner.lock().poll_started(cx)), Poll::Ready(Ok(())));
}

#[test]
fn a_blocked_start_has_an_id_and_waits_for_the_peer() {
    let task = Task::new();
    let inner = fresh();
    assert_eq!(inner.lock().begin_start(), Ok(true));
    assert!(task.run(|cx| inner.lock().poll_started(cx)).is_pending());
    assert_eq!(inner.handle_event_start_complete(Ok(()), 4, false), SUCCESS);
    assert_eq!((inner.id(), task.wakes()), (Some(4), 0));
    assert_eq!(inner.handle_event_peer_accepted(), SUCCESS);
    assert_eq!(task.wakes(), 1);
    assert_eq!(now(|cx| inner.lock().poll_started(cx)), Poll::Ready(Ok(())));
}

#[test]
fn a_failed_start_asks_for_the_shutdown_that_releases_everybody() {
    for (status, known_at_once) in [
        (NativeError::STREAM_LIMIT_REACHED, Some(failed(SendFailure::LimitReached))),
        (NativeError::OUT_OF_MEMORY, Some(failed(SendFailure::StartFailed(NativeError::OUT_OF_MEMORY.into())))),
        (NativeError::ABORTED, None),
        (NativeError::INVALID_STATE, None),
    ] {
        let (starter, reader) = (Task::new(), Task::new());
        let inner = fresh();
        assert_eq!(inner.lock().begin_start(), Ok(true));
        assert!(starter.run(|cx| inner.lock().poll_started(cx)).is_pending());
        assert!(reader.run(|cx| inner.lock().recv().poll_take(1, cx)).is_pending());
        assert_eq!(inner.handle_event_start_complete(Err(status), u64::MAX, false), Next::ShutDown);
        assert_eq!(inner.id(), None);
        assert_eq!(starter.wakes(), usize::from(known_at_once.is_some()));
        assert_eq!(inner.handle_event_send_shutdown_complete(false), SUCCESS);
        assert_eq!(inner.handle_event_shutdown_complete(Some(LOST)), Next::Release);
        assert_eq!((starter.wakes(), reader.wakes()), (1, 1));
        let error = known_at_once.unwrap_or(lost(LOST));
        assert_eq!(now(|cx| inner.lock().poll_started(cx)), Poll::Ready(Err(error)));
    }
}

// ---- SEND_COMPLETE ------------------------------------------------------------------------------

#[test]
fn a_buffer_is_dropped_once_and_before_anybody_is_woken() {
    let drops = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(AtomicUsize::new(usize::MAX));
    let inner = started();
    let context = send(&inner, 5, &drops);
    let waker = on_wake({
        let (drops, seen) = (drops.clone(), seen.clone());
        move || seen.store(drops.load(Ordering::Relaxed), Ordering::Relaxed)
    });
    assert!(inner.lock().poll_acked(1, &mut Context::from_waker(&waker)).is_pending());
    complete(&inner, context, false);
    assert_eq!(seen.load(Ordering::Relaxed), 1, "as the waker saw it");
    assert_eq!(now(|cx| inner.lock().poll_acked(1, cx)), Poll::Ready(Ok(())));
    assert_eq!(inner.lock().in_flight(), 0);
    drop(inner);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn a_canceled_buffer_is_dropped_once_and_wakes_nobody_before_the_cause() {
    let drops = Arc::new(AtomicUsize::new(0));
    let task = Task::new();
    let inner = started();
    let contexts = [send(&inner, 5, &drops), send(&inner, 6, &drops)];
    assert!(task.run(|cx| inner.lock().poll_acked(2, cx)).is_pending());
    for (index, context) in contexts.into_iter().enumerate() {
        complete(&inner, context, true);
        assert_eq!((drops.load(Ordering::Relaxed), task.wakes()), (index + 1, 0));
    }
    assert_eq!(inner.handle_event_send_shutdown_complete(false), SUCCESS);
    assert_eq!(task.wakes(), 0);
    assert_eq!(inner.handle_event_shutdown_complete(Some(LOST)), Next::Release);
    assert_eq!((drops.load(Ordering::Relaxed), task.wakes()), (2, 1));
    let answer = now(|cx| inner.lock().poll_acked(2, cx));
    assert_eq!(answer, Poll::Ready(Err(lost(LOST))));
}

#[test]
fn the_owner_of_a_large_payload_is_dropped_with_its_last_slice() {
    let drops = Arc::new(AtomicUsize::new(0));
    let task = Task::new();
    let inner = started();
    inner.apply(|state| state.set_window(16_000));
    let owner = Owner { bytes: vec![0; 10_000], drops: drops.clone() };
    let submission = inner.lock().begin_send(10_000, Fin::No).expect("data may be sent");
    let slices = cut(Payload::from(Bytes::from_owner(owner)), submission.slices);
    let mut lent: Vec<_> = slices.map(|slice| Buffer::new(slice).into_raw().as_ptr().cast()).collect();
    let last = lent.pop().expect("there are five");
    assert!(task.run(|cx| inner.lock().poll_acked(submission.end(), cx)).is_pending());
    for context in lent {
        complete(&inner, context, false);
    }
    assert_eq!((inner.lock().in_flight(), drops.load(Ordering::Relaxed), task.wakes()), (2000, 0, 0));
    complete(&inner, last, false);
    assert_eq!((inner.lock().in_flight(), drops.load(Ordering::Relaxed), task.wakes()), (0, 1, 1));
    assert_eq!(now(|cx| inner.lock().poll_acked(submission.end(), cx)), Poll::Ready(Ok(())));
}

#[test]
fn the_buffers_owner_is_dropped_without_the_lock() {
    struct LooksAtTheLock(Arc<StreamInner>, Arc<AtomicBool>);
    impl AsRef<[u8]> for LooksAtTheLock {
        fn as_ref(&self) -> &[u8] {
            b"bytes"
        }
    }
    impl Drop for LooksAtTheLock {
        fn drop(&mut self) {
            self.1.store(!is_locked(&self.0), Ordering::Relaxed);
        }
    }
    for canceled in [false, true] {
        let inner = Arc::new(started());
        let was_free = Arc::new(AtomicBool::new(false));
        let owner = LooksAtTheLock(inner.clone(), was_free.clone());
        let _ = inner.lock().begin_send(5, Fin::No).expect("data may be sent");
        let context = Buffer::new(Payload::from(Bytes::from_owner(owner))).into_raw();
        complete(&inner, context.as_ptr().cast(), canceled);
        assert!(was_free.load(Ordering::Relaxed));
    }
}

#[test]
fn the_null_context_of_a_bare_fin_counts_for_nothing() {
    let inner = started();
    let _ = inner.lock().begin_send(0, Fin::Yes).expect("data may be sent");
    complete(&inner, std::ptr::null_mut(), false);
    assert_eq!(inner.lock().submitted(), 0);
    assert!(now(|cx| inner.lock().poll_finished(cx)).is_pending(), "only `graceful` makes a finish Ok");
    assert_eq!(inner.handle_event_send_shutdown_complete(true), SUCCESS);
    assert_eq!(now(|cx| inner.lock().poll_finished(cx)), Poll::Ready(Ok(())));
}

// ---- The other events of the send half ----------------------------------------------------------

#[test]
fn a_stop_ends_everything_that_waits_to_send() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (sender, watcher, reader) = (Task::new(), Task::new(), Task::new());
    let inner = started();
    let context = send(&inner, 5, &drops);
    let key = WaiterKey::new();
    assert!(sender.run(|cx| inner.lock().poll_acked(1, cx)).is_pending());
    assert!(watcher.run(|cx| inner.lock().poll_stopped(key, cx)).is_pending());
    assert!(reader.run(|cx| inner.lock().recv().poll_take(1, cx)).is_pending());
    assert_eq!(inner.handle_event_peer_receive_aborted(9), SUCCESS);
    assert_eq!([&sender, &watcher, &reader].map(Task::wakes), [1, 1, 0], "reading goes on");
    assert_eq!(now(|cx| inner.lock().poll_acked(1, cx)), Poll::Ready(Err(SendEnd::Stopped(9))));
    assert_eq!(now(|cx| inner.lock().poll_stopped(key, cx)), Poll::Ready(Ok(Some(9))));
    complete(&inner, context, true);
    assert_eq!(inner.handle_event_send_shutdown_complete(false), SUCCESS);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn a_finish_is_ok_when_graceful_and_else_what_ended_the_stream() {
    for (graceful, lost, expected) in [
        (true, Some(LOST), Ok(())),
        (false, Some(LOST), Err(lost(LOST))),
        (false, None, Err(failed(SendFailure::Ended))),
    ] {
        let task = Task::new();
        let inner = started();
        let _ = inner.lock().begin_send(0, Fin::Yes).expect("data may be sent");
        assert!(task.run(|cx| inner.lock().poll_finished(cx)).is_pending());
        assert_eq!(inner.handle_event_send_shutdown_complete(graceful), SUCCESS);
        assert_eq!(task.wakes(), usize::from(graceful));
        assert_eq!(inner.handle_event_shutdown_complete(lost), Next::Release);
        assert_eq!(task.wakes(), 1);
        assert_eq!(now(|cx| inner.lock().poll_finished(cx)), Poll::Ready(expected));
    }
}

#[test]
fn advice_on_the_window_makes_room() {
    let drops = Arc::new(AtomicUsize::new(0));
    let task = Task::new();
    let inner = started();
    let window = inner.lock().window();
    let context = send(&inner, window as usize, &drops);
    assert!(task.run(|cx| inner.lock().poll_window(cx)).is_pending());
    assert_eq!(inner.handle_event_ideal_send_buffer_size(window, None), SUCCESS);
    assert_eq!(task.wakes(), 0);
    assert_eq!(inner.handle_event_ideal_send_buffer_size(window + 1, None), SUCCESS);
    assert_eq!(task.wakes(), 1);
    assert_eq!(now(|cx| inner.lock().poll_window(cx)), Poll::Ready(Ok(())));
    complete(&inner, context, false);
}

// ---- The receive half ---------------------------------------------------------------------------

#[test]
fn received_bytes_stay_msquics_until_they_are_given_back() {
    let task = Task::new();
    let inner = started();
    assert!(task.run(|cx| inner.lock().recv().poll_take(1, cx)).is_pending());
    assert_eq!(inner.handle_event_receive(&[describe(b"ab"), describe(b"c")], Fin::No, |_| None), PENDING);
    assert_eq!(task.wakes(), 1);
    let first = inner.lock().recv().take(9).expect("two bytes");
    assert_eq!((first.lent().len(), inner.lock().recv().give_back(first.number())), (2, Some(2)));
    assert_eq!(inner.handle_event_receive(&[describe(b"d")], Fin::Yes, |_| None), PENDING);
    assert_eq!(inner.lock().recv().take(9).map(|taken| taken.lent().len()), Some(1));
    assert_eq!(inner.lock().recv().take(9).map(|taken| taken.lent().len()), Some(1));
    assert!(matches!(now(|cx| inner.lock().recv().poll_take(9, cx)), Poll::Ready(Ok(None))));
}

#[test]
fn a_fin_without_bytes_has_nothing_to_give_back() {
    let task = Task::new();
    let inner = started();
    assert!(task.run(|cx| inner.lock().recv().poll_take(1, cx)).is_pending());
    assert_eq!(inner.handle_event_receive(&[], Fin::Yes, |_| None), SUCCESS);
    assert_eq!(task.wakes(), 1);
    assert!(matches!(now(|cx| inner.lock().recv().poll_take(9, cx)), Poll::Ready(Ok(None))));
}

#[test]
fn the_peers_shutdown_and_its_reset_end_reading() {
    for (reset, expected) in [(None, Ok(None)), (Some(6), Err(RecvEnd::Reset(6)))] {
        let (reader, watcher) = (Task::new(), Task::new());
        let inner = started();
        let key = WaiterKey::new();
        assert!(reader.run(|cx| inner.lock().recv().poll_take(1, cx)).is_pending());
        assert!(watcher.run(|cx| inner.lock().recv().poll_received_reset(key, cx)).is_pending());
        let next = match reset {
            None => inner.handle_event_peer_send_shutdown(),
            Some(code) => inner.handle_event_peer_send_aborted(code),
        };
        assert_eq!(next, SUCCESS);
        assert_eq!((reader.wakes(), watcher.wakes()), (1, 1));
        let read = now(|cx| inner.lock().recv().poll_take(1, cx));
        assert_eq!(read.map_ok(|taken| taken.map(|taken| taken.number())), Poll::Ready(expected));
        assert_eq!(now(|cx| inner.lock().recv().poll_received_reset(key, cx)), Poll::Ready(Ok(reset)));
    }
}

#[test]
fn what_comes_after_a_stop_is_not_kept() {
    let inner = started();
    stop(&inner, 7);
    assert_eq!(inner.handle_event_receive(&[describe(b"ab")], Fin::No, |_| None), PENDING);
    assert!(inner.lock().recv().take(9).is_none());
}

#[test]
fn what_comes_after_a_stop_does_not_give_back_a_piece_that_is_out() {
    let inner = started();
    assert_eq!(inner.handle_event_receive(&[describe(b"ab")], Fin::No, |_| None), PENDING);
    let out = inner.lock().recv().take(9).expect("two bytes");
    stop(&inner, 7);
    // SUCCESS means "done with the first two bytes of what you hold": those are `out`'s, not the
    // new ones.
    assert_eq!(inner.handle_event_receive(&[describe(b"cd")], Fin::No, |_| None), PENDING);
    assert!(inner.lock().recv().give_back(out.number()) >= Some(2));
}

// ---- The events as C ----------------------------------------------------------------------------

type EventData = sys::QUIC_STREAM_EVENT__bindgen_ty_1;

fn event(kind: sys::QUIC_STREAM_EVENT_TYPE, fill: impl FnOnce(&mut EventData)) -> sys::QUIC_STREAM_EVENT {
    // SAFETY: the event is plain C data, for which all zeros are a value.
    let mut event: sys::QUIC_STREAM_EVENT = unsafe { MaybeUninit::zeroed().assume_init() };
    event.Type = kind;
    fill(&mut event.__bindgen_anon_1);
    event
}

/// Passes `event` on as the callback does.
fn deliver(inner: &StreamInner, event: &sys::QUIC_STREAM_EVENT, cause: Option<ConnectionError>) -> Next {
    // SAFETY: each test fills in what the event's type asks for, with memory that lives until the
    // end of the test.
    unsafe { inner.callback_handler_impl(event, &Alone(cause)) }
}

/// A connection that knows no more than its end, and has room for copies.
struct Alone(Option<ConnectionError>);

impl Surroundings for Alone {
    fn cause(&self) -> Option<ConnectionError> {
        self.0.clone()
    }

    fn min_rtt(&self) -> Option<Duration> {
        None
    }

    fn copy_place(&self) -> Option<CopyPlace> {
        Copies::default().place()
    }

    fn block(&self, _: &sys::QUIC_BUFFER) -> Option<Block> {
        None
    }
}

fn start_complete(status: NativeError, id: u64, peer_accepted: bool) -> sys::QUIC_STREAM_EVENT {
    event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_START_COMPLETE, |data| {
        // SAFETY: all zeros, as the union is here, are a value of each of its members.
        let data = unsafe { &mut data.START_COMPLETE };
        data.Status = status.status();
        data.ID = id;
        data.set_PeerAccepted(peer_accepted.into());
    })
}

fn shutdown_complete(by_app: bool, by_peer: bool, code: u64, status: NativeError) -> sys::QUIC_STREAM_EVENT {
    event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE, |data| {
        // SAFETY: all zeros, as the union is here, are a value of each of its members.
        let data = unsafe { &mut data.SHUTDOWN_COMPLETE };
        data.ConnectionShutdown = 1;
        data.set_ConnectionShutdownByApp(by_app.into());
        data.set_ConnectionClosedRemotely(by_peer.into());
        data.ConnectionErrorCode = code;
        data.ConnectionCloseStatus = status.status();
    })
}

#[test]
fn each_event_reaches_its_handler() {
    let drops = Arc::new(AtomicUsize::new(0));
    let inner = fresh();
    assert_eq!(inner.lock().begin_start(), Ok(true));

    assert_eq!(deliver(&inner, &start_complete(NativeError::SUCCESS, 4, false), None), SUCCESS);
    assert_eq!(inner.id(), Some(4));
    assert!(now(|cx| inner.lock().poll_started(cx)).is_pending());
    let accepted = event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_ACCEPTED, |_| {});
    assert_eq!(deliver(&inner, &accepted, None), SUCCESS);
    assert!(now(|cx| inner.lock().poll_started(cx)).is_ready());

    let ideal = event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_IDEAL_SEND_BUFFER_SIZE, |data| {
        data.IDEAL_SEND_BUFFER_SIZE.ByteCount = 77;
    });
    assert_eq!(deliver(&inner, &ideal, None), SUCCESS);
    assert_eq!(inner.lock().window(), 77);

    for canceled in [false, true] {
        let context = send(&inner, 5, &drops);
        let completed = event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_COMPLETE, |data| {
            // SAFETY: all zeros, as the union is here, are a value of each of its members.
            let data = unsafe { &mut data.SEND_COMPLETE };
            data.Canceled = canceled.into();
            data.ClientContext = context;
        });
        assert_eq!(deliver(&inner, &completed, None), SUCCESS);
    }
    assert_eq!(drops.load(Ordering::Relaxed), 2);
    assert_eq!(now(|cx| inner.lock().poll_acked(1, cx)), Poll::Ready(Ok(())));
    assert_eq!(now(|cx| inner.lock().poll_acked(2, cx)), Poll::Pending);

    let stopped = event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_RECEIVE_ABORTED, |data| {
        data.PEER_RECEIVE_ABORTED.ErrorCode = 9;
    });
    assert_eq!(deliver(&inner, &stopped, None), SUCCESS);
    assert_eq!(now(|cx| inner.lock().poll_acked(2, cx)), Poll::Ready(Err(SendEnd::Stopped(9))));

    let descriptors = [describe(b"ab"), describe(b"cde")];
    let received = |flags| {
        event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE, |data| {
            // SAFETY: all zeros, as the union is here, are a value of each of its members.
            let data = unsafe { &mut data.RECEIVE };
            data.Buffers = descriptors.as_ptr();
            data.BufferCount = descriptors.len() as u32;
            data.Flags = flags;
        })
    };
    assert_eq!(deliver(&inner, &received(sys::QUIC_RECEIVE_FLAGS_QUIC_RECEIVE_FLAG_NONE), None), PENDING);
    assert!(inner.lock().recv().is_open());
    assert_eq!(deliver(&inner, &received(sys::QUIC_RECEIVE_FLAGS_QUIC_RECEIVE_FLAG_FIN), None), PENDING);
    assert!(!inner.lock().recv().is_open());
    let lengths: Vec<_> = std::iter::from_fn(|| inner.lock().recv().take(9).map(|taken| taken.lent().len())).collect();
    assert_eq!(lengths, [2, 3, 2, 3]);

    let short = StreamInner::new(StreamInnerExclusive::remote(Dir::Uni, None), Some(3), tracing::Span::none());
    let piece = |flags| {
        event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE, |data| {
            // SAFETY: all zeros, as the union is here, are a value of each of its members.
            let data = unsafe { &mut data.RECEIVE };
            data.Buffers = descriptors.as_ptr();
            data.BufferCount = 1;
            data.Flags = flags;
        })
    };
    let middle = piece(sys::QUIC_RECEIVE_FLAGS_QUIC_RECEIVE_FLAG_NONE);
    let last = piece(sys::QUIC_RECEIVE_FLAGS_QUIC_RECEIVE_FLAG_FIN);
    assert_eq!(deliver(&short, &middle, None), SUCCESS, "MsQuic may have it back at once");
    assert_eq!(deliver(&short, &middle, None), PENDING, "what comes while something waits to be read is lent");
    assert!(matches!(short.lock().recv().take(1), Some(Taken::Copied(bytes)) if bytes == "a"));
    assert!(matches!(short.lock().recv().take(9), Some(Taken::Copied(bytes)) if bytes == "b"));
    let number = short.lock().recv().take(9).expect("the second piece").number();
    assert_eq!(short.lock().recv().give_back(number), Some(2));
    assert_eq!(deliver(&short, &last, None), SUCCESS);
    assert!(!short.lock().recv().has_lent());
    assert!(matches!(short.lock().recv().take(9), Some(Taken::Copied(bytes)) if bytes == "ab"));
    assert!(matches!(now(|cx| short.lock().recv().poll_take(9, cx)), Poll::Ready(Ok(None))));

    let over = event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_SHUTDOWN_COMPLETE, |_| {});
    assert_eq!(deliver(&inner, &over, None), SUCCESS);
    inner.lock().begin_reset(1).expect_err("the peer stopped it");
    let last = shutdown_complete(false, false, 0, NativeError::CONNECTION_IDLE);
    assert_eq!(deliver(&inner, &last, None), Next::Release);
    assert!(!inner.lock().is_live());
}

#[test]
fn the_fin_flags_and_codes_of_the_events_are_read() {
    let graceful = |graceful: u8| {
        event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_SHUTDOWN_COMPLETE, |data| {
            data.SEND_SHUTDOWN_COMPLETE.Graceful = graceful;
        })
    };
    for (flag, answer) in [(0, Poll::Pending), (1, Poll::Ready(Ok(())))] {
        let inner = started();
        let _ = inner.lock().begin_send(0, Fin::Yes).expect("data may be sent");
        assert_eq!(deliver(&inner, &graceful(flag), None), SUCCESS);
        assert_eq!(now(|cx| inner.lock().poll_finished(cx)), answer);
    }

    let key = WaiterKey::new();
    let inner = started();
    let finished = event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_SEND_SHUTDOWN, |_| {});
    assert_eq!(deliver(&inner, &finished, None), SUCCESS);
    assert_eq!(now(|cx| inner.lock().recv().poll_received_reset(key, cx)), Poll::Ready(Ok(None)));
    let inner = started();
    let reset = event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_SEND_ABORTED, |data| {
        data.PEER_SEND_ABORTED.ErrorCode = 6;
    });
    assert_eq!(deliver(&inner, &reset, None), SUCCESS);
    assert_eq!(now(|cx| inner.lock().recv().poll_received_reset(key, cx)), Poll::Ready(Ok(Some(6))));

    // A FIN of its own brings no descriptors at all.
    let inner = started();
    let fin = event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE, |data| {
        data.RECEIVE.Flags = sys::QUIC_RECEIVE_FLAGS_QUIC_RECEIVE_FLAG_FIN;
    });
    assert_eq!(deliver(&inner, &fin, None), SUCCESS);
    assert!(!inner.lock().recv().is_open());
}

#[test]
fn a_failed_start_as_c_says_it_is_told_apart() {
    for (status, answer) in [
        (NativeError::STREAM_LIMIT_REACHED, Poll::Ready(Err(failed(SendFailure::LimitReached)))),
        (NativeError::ABORTED, Poll::Pending),
    ] {
        let inner = fresh();
        assert_eq!(inner.lock().begin_start(), Ok(true));
        assert_eq!(deliver(&inner, &start_complete(status, u64::MAX, false), None), Next::ShutDown);
        assert_eq!(inner.id(), None);
        assert_eq!(now(|cx| inner.lock().poll_started(cx)), answer);
    }
}

#[test]
fn the_connection_knows_best_what_ended_it_and_else_the_event_says_it() {
    let answer = |event: &sys::QUIC_STREAM_EVENT, cause| {
        let inner = started();
        assert_eq!(deliver(&inner, event, cause), Next::Release);
        inner.lock().send_end().expect("it is over")
    };
    let by_peer = shutdown_complete(true, true, 5, NativeError::SUCCESS);
    assert_eq!(answer(&by_peer, Some(LOST)), lost(LOST));
    let closed = ConnectionError::ApplicationClosed { code: 5, reason: Arc::from("") };
    assert_eq!(answer(&by_peer, None), lost(closed));
    let by_us = shutdown_complete(true, false, 5, NativeError::SUCCESS);
    assert_eq!(answer(&by_us, None), lost(ConnectionError::LocallyClosed { code: 5, reason: Arc::default() }));
    let idle = shutdown_complete(false, false, 0, NativeError::CONNECTION_IDLE);
    assert_eq!(answer(&idle, None), lost(ConnectionError::TimedOut(Timeout::Idle)));
    // The connection lives on: whatever it has recorded is not what ended the stream.
    let stream_only = event(sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE, |_| {});
    assert_eq!(answer(&stream_only, Some(LOST)), failed(SendFailure::Ended));
}

#[test]
fn an_unknown_event_is_a_success_that_changes_nothing() {
    for kind in [sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_CANCEL_ON_LOSS, 11, 1000, u32::MAX] {
        let task = Task::new();
        let inner = started();
        assert!(task.run(|cx| inner.lock().poll_finished(cx)).is_pending());
        let before = format!("{inner:?}");
        assert_eq!(deliver(&inner, &event(kind, |_| {}), Some(LOST)), SUCCESS);
        assert_eq!((format!("{inner:?}"), task.wakes()), (before, 0));
    }
}

// ---- Re-entrancy --------------------------------------------------------------------------------

#[test]
fn a_waker_may_use_the_stream_from_inside_the_wake() {
    type Wait = fn(&mut StreamInnerExclusive, &mut Context<'_>);
    type Cause = fn(&StreamInner);
    let cases: [(&str, Wait, Cause); 9] = [
        (
            "start complete",
            |stream, cx| assert!(stream.poll_started(cx).is_pending()),
            |inner| assert_eq!(inner.handle_event_start_complete(Ok(()), 4, true), SUCCESS),
        ),
        (
            "peer accepted",
            |stream, cx| assert!(stream.poll_started(cx).is_pending()),
            |inner| assert_eq!(inner.handle_event_peer_accepted(), SUCCESS),
        ),
        (
            "send complete",
            |stream, cx| assert!(stream.poll_acked(1, cx).is_pending()),
            |inner| complete(inner, lend(5, &Arc::default()), false),
        ),
        (
            "peer receive aborted",
            |stream, cx| assert!(stream.poll_acked(1, cx).is_pending()),
            |inner| assert_eq!(inner.handle_event_peer_receive_aborted(9), SUCCESS),
        ),
        (
            "send shutdown complete",
            |stream, cx| {
                let _ = stream.begin_send(0, Fin::Yes).expect("data may be sent");
                assert!(stream.poll_finished(cx).is_pending());
            },
            |inner| assert_eq!(inner.handle_event_send_shutdown_complete(true), SUCCESS),
        ),
        (
            "shutdown complete",
            |stream, cx| assert!(stream.poll_finished(cx).is_pending()),
            |inner| assert_eq!(inner.handle_event_shutdown_complete(Some(LOST)), Next::Release),
        ),
        (
            "ideal send buffer size",
            |stream, cx| {
                stream.on_ideal_send_buffer_size(1, None).wake();
                assert!(stream.poll_window(cx).is_pending());
            },
            |inner| assert_eq!(inner.handle_event_ideal_send_buffer_size(1000, None), SUCCESS),
        ),
        (
            "receive",
            |stream, cx| assert!(stream.recv().poll_take(1, cx).is_pending()),
            |inner| assert_eq!(inner.handle_event_receive(&[describe(b"x")], Fin::No, |_| None), PENDING),
        ),
        (
            "peer send aborted",
            |stream, cx| assert!(stream.recv().poll_take(1, cx).is_pending()),
            |inner| assert_eq!(inner.handle_event_peer_send_aborted(6), SUCCESS),
        ),
    ];
    for (name, wait, cause) in cases {
        let inner = Arc::new(fresh());
        let woken = Arc::new(AtomicUsize::new(0));
        let waker = on_wake({
            let (inner, woken) = (inner.clone(), woken.clone());
            move || {
                assert!(!is_locked(&inner), "this would be a deadlock");
                // What a task that runs on the spot may do: ask, reset, wait again.
                let wakeups = inner.lock().begin_reset(7).map(|(_, wakeups)| wakeups);
                if let Ok(wakeups) = wakeups {
                    wakeups.wake();
                }
                let key = WaiterKey::new();
                let answer = now(|cx| inner.lock().poll_stopped(key, cx));
                assert!(answer.is_ready());
                woken.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _ = inner.lock().begin_send(5, Fin::No).expect("data may be sent");
        wait(&mut inner.lock(), &mut Context::from_waker(&waker));
        cause(&inner);
        assert_eq!(woken.load(Ordering::Relaxed), 1, "{name}");
    }
}

#[test]
fn a_replaced_waker_is_dropped_without_the_lock() {
    /// A waker that is the last to hold its task, as it may be with a task that nobody joins.
    struct LastOfItsTask(Arc<StreamInner>, Arc<AtomicBool>);
    impl Wake for LastOfItsTask {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for LastOfItsTask {
        fn drop(&mut self) {
            // The task's future is dropped here, and with it, say, the stream's own handle, which
            // takes the lock.
            self.1.store(!is_locked(&self.0), Ordering::Relaxed);
        }
    }
    let inner = Arc::new(started());
    let was_free = Arc::new(AtomicBool::new(false));
    let key = WaiterKey::new();
    let waker = Waker::from(Arc::new(LastOfItsTask(inner.clone(), was_free.clone())));
    assert!(inner.lock().poll_stopped(key, &mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert!(now(|cx| inner.lock().poll_stopped(key, cx)).is_pending());
    assert!(was_free.load(Ordering::Relaxed));
}

#[test]
fn a_waker_that_panics_leaves_nobody_else_asleep() {
    let task = Task::new();
    let inner = started();
    let keys = [(); 2].map(|()| WaiterKey::new());
    let waker = on_wake(|| panic!("a waker of somebody else's"));
    assert!(inner.lock().poll_stopped(keys[0], &mut Context::from_waker(&waker)).is_pending());
    assert!(task.run(|cx| inner.lock().poll_stopped(keys[1], cx)).is_pending());
    let panicked = catch_unwind(AssertUnwindSafe(|| inner.handle_event_peer_receive_aborted(9))).is_err();
    assert!(panicked);
    // The callback catches that and shuts the stream down, so this comes next.
    assert_eq!(inner.handle_event_shutdown_complete(None), Next::Release);
    assert_eq!(task.wakes(), 1, "its answer is there, and nothing will wake it any more");
}
