//! Messages, each on a stream of its own: opened, filled and ended in one operation.

use std::{
    ffi::c_void,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::Sender,
    },
};

use bench_core::{
    Messages,
    payload::{self, MESSAGE, MessageCheck, check_sum},
};
use sendstream_sys as sys;

use crate::native::{self, Accept, Handle, call, check, open_stream, set_callback};

/// Sends the messages. Each that is complete makes way for the next.
pub(crate) fn write(client: Handle, plan: &Messages) {
    let next = Arc::new(AtomicU64::new(0));
    for _ in 0..plan.in_flight.min(plan.count) {
        send_next(Box::new(Slot {
            connection: client,
            next: next.clone(),
            count: plan.count,
            buffer: sys::QUIC_BUFFER { Length: MESSAGE as u32, Buffer: ptr::null_mut() },
            message: [0; MESSAGE],
        }));
    }
}

/// Checks the messages; `done` gets a message after the last.
pub(crate) fn reader(plan: &Messages, done: Sender<()>) -> Accept {
    let all: &'static All =
        Box::leak(Box::new(All { expected: plan.count, count: AtomicU64::new(0), sum: AtomicU64::new(0), done }));
    Box::new(move |stream| {
        let reader = Box::new(Reader { check: MessageCheck::default(), all });
        // SAFETY: the context is what the callback takes it for, and is freed at SHUTDOWN_COMPLETE,
        // the last event.
        unsafe { set_callback(stream, on_reader, Box::into_raw(reader).cast()) };
    })
}

/// One of the messages that may be under way at once, and after it the next.
struct Slot {
    connection: Handle,
    next: Arc<AtomicU64>,
    count: u64,
    buffer: sys::QUIC_BUFFER,
    message: [u8; MESSAGE],
}

fn send_next(mut slot: Box<Slot>) {
    let number = slot.next.fetch_add(1, Relaxed);
    if number >= slot.count {
        return;
    }
    payload::fill_message(number, &mut slot.message);
    let slot = Box::into_raw(slot);
    let flags = sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_UNIDIRECTIONAL;
    let start_and_end = sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_START | sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_FIN;
    // SAFETY: the slot stays where it is until SHUTDOWN_COMPLETE, the last event, and is used by
    // nobody but MsQuic until then.
    unsafe {
        (*slot).buffer.Buffer = (&raw mut (*slot).message).cast();
        let stream = open_stream((*slot).connection, flags, on_writer, slot.cast());
        let status = call!(StreamSend(stream.0, &raw const (*slot).buffer, 1, start_and_end, ptr::null_mut()));
        check(status, "StreamSend");
    }
}

unsafe extern "C" fn on_writer(stream: sys::HQUIC, context: *mut c_void, event: *mut sys::QUIC_STREAM_EVENT) -> u32 {
    // SAFETY: the event is valid during the call.
    let event = unsafe { &*event };
    match event.Type {
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_COMPLETE => {
            // SAFETY: it is that event.
            assert!(unsafe { event.__bindgen_anon_1.SEND_COMPLETE.Canceled } == 0, "a message was canceled");
        }
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE => {
            // SAFETY: no event follows this one, and nobody else closes the handle or frees the
            // context.
            let slot = unsafe {
                call!(StreamClose(stream));
                Box::from_raw(context.cast::<Slot>())
            };
            send_next(slot);
        }
        _ => {}
    }
    0
}

/// What has come of all messages.
struct All {
    expected: u64,
    count: AtomicU64,
    sum: AtomicU64,
    done: Sender<()>,
}

struct Reader {
    check: MessageCheck,
    all: &'static All,
}

unsafe extern "C" fn on_reader(stream: sys::HQUIC, context: *mut c_void, event: *mut sys::QUIC_STREAM_EVENT) -> u32 {
    // SAFETY: the context is this stream's reader, not freed yet, which only this callback uses,
    // and that calls nothing while it does; the event is valid during the call.
    let (reader, event) = unsafe { (&mut *context.cast::<Reader>(), &*event) };
    match event.Type {
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE => {
            // SAFETY: it is that event.
            for data in unsafe { native::received(event) } {
                reader.check.take(data).expect("what was sent");
            }
        }
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_PEER_SEND_SHUTDOWN => {
            let number = reader.check.finish().expect("a whole message");
            let sum = reader.all.sum.fetch_add(number, Relaxed) + number;
            if reader.all.count.fetch_add(1, Relaxed) + 1 == reader.all.expected {
                check_sum(reader.all.expected, sum).expect("each message once");
                let _ = reader.all.done.send(());
            }
        }
        // SAFETY: no event follows this one, and nobody else closes the handle or frees the
        // context.
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE => unsafe {
            drop(Box::from_raw(context.cast::<Reader>()));
            call!(StreamClose(stream));
        },
        _ => {}
    }
    0
}
