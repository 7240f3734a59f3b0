//! Bytes on one stream, as many under way as MsQuic finds ideal; in a transfer the server answers.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
    sync::mpsc::Sender,
};

use bench_core::{
    Bulk, Transfer,
    payload::{self, Check, PING},
};
use sendstream_sys as sys;

use crate::native::{self, Accept, Handle, call, check, open_stream, set_callback};

/// Opens a stream on `client` and writes to it.
pub(crate) fn write(client: Handle, plan: &Bulk) {
    let flags = sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_UNIDIRECTIONAL;
    open(client, plan, flags, None);
}

/// Opens a stream on `client` and writes to it; `answered` gets a message when the server has
/// answered.
pub(crate) fn transfer(client: Handle, plan: &Transfer, answered: Sender<()>) {
    let flags = sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_NONE;
    open(client, &plan.bulk(), flags, Some(answered));
}

fn open(client: Handle, plan: &Bulk, flags: sys::QUIC_STREAM_OPEN_FLAGS, answered: Option<Sender<()>>) {
    let writer = Box::new(Writer {
        end: plan.bytes_per_stream(),
        chunk: plan.chunk.into(),
        position: Cell::new(0),
        in_flight: Cell::new(0),
        window: Cell::new(FIRST_WINDOW),
        spare: RefCell::default(),
        answer: Cell::new(0),
        answered,
    });
    // SAFETY: the context is what the callback takes it for, and is freed at SHUTDOWN_COMPLETE, the
    // last event.
    unsafe {
        let stream = open_stream(client, flags, on_writer, Box::into_raw(writer).cast());
        check(call!(StreamStart(stream.0, sys::QUIC_STREAM_START_FLAGS_QUIC_STREAM_START_FLAG_NONE)), "StreamStart");
    }
}

/// Accepts streams and checks what they carry; `done` gets a message for each that has ended.
pub(crate) fn reader(plan: &Bulk, done: Sender<()>) -> Accept {
    accept(plan.bytes_per_stream(), done, false)
}

/// The same for streams whose end is answered.
pub(crate) fn answerer(plan: &Transfer, done: Sender<()>) -> Accept {
    accept(plan.bulk().bytes_per_stream(), done, true)
}

fn accept(length: u64, done: Sender<()>, answers: bool) -> Accept {
    Box::new(move |stream| {
        let reader = Box::new(Reader { check: Check::new(length), done: done.clone(), answers });
        // SAFETY: the context is what the callback takes it for, and is freed at SHUTDOWN_COMPLETE,
        // the last event.
        unsafe { set_callback(stream, on_reader, Box::into_raw(reader).cast()) };
    })
}

/// Used on the connection's worker alone. Shared, since a call of MsQuic's may deliver an event
/// before it returns.
struct Writer {
    end: u64,
    chunk: u64,
    position: Cell<u64>,
    in_flight: Cell<u64>,
    window: Cell<u64>,
    /// Descriptors of sends that are complete, to be used again.
    #[expect(clippy::vec_box, reason = "MsQuic keeps the address of each")]
    spare: RefCell<Vec<Box<sys::QUIC_BUFFER>>>,
    /// How many bytes of the answer have come.
    answer: Cell<usize>,
    answered: Option<Sender<()>>,
}

impl Writer {
    fn fill_window(&self, stream: sys::HQUIC) {
        while self.position.get() < self.end && self.in_flight.get() < self.window.get() {
            let position = self.position.get();
            let length = self.chunk.min(self.end - position);
            self.position.set(position + length);
            self.in_flight.set(self.in_flight.get() + length);
            let flags = match position + length == self.end {
                true => sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_FIN,
                false => sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_NONE,
            };
            let spare = self.spare.borrow_mut().pop();
            let mut buffer =
                spare.unwrap_or_else(|| Box::new(sys::QUIC_BUFFER { Length: 0, Buffer: std::ptr::null_mut() }));
            buffer.Length = length as u32;
            buffer.Buffer = payload::slice(position, length as usize).as_ptr().cast_mut();
            let buffer = Box::into_raw(buffer);
            // SAFETY: the bytes are static; the descriptor comes back in SEND_COMPLETE.
            check(unsafe { call!(StreamSend(stream, buffer, 1, flags, buffer.cast())) }, "StreamSend");
        }
    }
}

unsafe extern "C" fn on_writer(stream: sys::HQUIC, context: *mut c_void, event: *mut sys::QUIC_STREAM_EVENT) -> u32 {
    // SAFETY: the context is this stream's writer, not freed yet; the event is valid during the
    // call.
    let (writer, event) = unsafe { (&*context.cast::<Writer>(), &*event) };
    match event.Type {
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_START_COMPLETE => {
            // SAFETY: it is that event.
            check(unsafe { event.__bindgen_anon_1.START_COMPLETE.Status }, "START_COMPLETE");
            writer.fill_window(stream);
        }
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_COMPLETE => {
            // SAFETY: it is that event, and its context is the descriptor of a send, which comes
            // back once.
            let (canceled, buffer) = unsafe {
                let complete = &event.__bindgen_anon_1.SEND_COMPLETE;
                (complete.Canceled, Box::from_raw(complete.ClientContext.cast::<sys::QUIC_BUFFER>()))
            };
            assert!(canceled == 0, "a send was canceled");
            writer.in_flight.set(writer.in_flight.get() - u64::from(buffer.Length));
            writer.spare.borrow_mut().push(buffer);
            writer.fill_window(stream);
        }
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_IDEAL_SEND_BUFFER_SIZE => {
            // SAFETY: it is that event.
            writer.window.set(unsafe { event.__bindgen_anon_1.IDEAL_SEND_BUFFER_SIZE.ByteCount });
            writer.fill_window(stream);
        }
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE => {
            // SAFETY: it is that event.
            for data in unsafe { native::received(event) } {
                let position = writer.answer.get();
                assert!(payload::ping(0)[position..].starts_with(data), "wrong bytes in the answer");
                writer.answer.set(position + data.len());
            }
            if let (PING, Some(answered)) = (writer.answer.get(), &writer.answered) {
                let _ = answered.send(());
            }
        }
        // SAFETY: no event follows this one, and nobody else closes the handle or frees the
        // context.
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SHUTDOWN_COMPLETE => unsafe {
            call!(StreamClose(stream));
            drop(Box::from_raw(context.cast::<Writer>()));
        },
        _ => {}
    }
    0
}

struct Reader {
    check: Check,
    done: Sender<()>,
    answers: bool,
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
            reader.check.finish().expect("all that was sent");
            let _ = reader.done.send(());
            if reader.answers {
                send_answer(stream);
            }
        }
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_COMPLETE => {
            // SAFETY: it is that event, and its context the descriptor of the answer, which comes
            // back once. It may be canceled: the client closes when it has the answer.
            drop(unsafe {
                Box::from_raw(event.__bindgen_anon_1.SEND_COMPLETE.ClientContext.cast::<sys::QUIC_BUFFER>())
            });
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

fn send_answer(stream: sys::HQUIC) {
    let bytes = payload::ping(0).as_ptr().cast_mut();
    let buffer = Box::into_raw(Box::new(sys::QUIC_BUFFER { Length: PING as u32, Buffer: bytes }));
    let flags = sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_FIN;
    // SAFETY: the bytes are static; the descriptor comes back in SEND_COMPLETE.
    check(unsafe { call!(StreamSend(stream, buffer, 1, flags, buffer.cast())) }, "StreamSend");
}

/// What may be under way before MsQuic names a number; Sendstream begins with the same.
const FIRST_WINDOW: u64 = 128 << 10;
