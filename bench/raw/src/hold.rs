//! Streams that have carried one ping and stay open.

use std::{ffi::c_void, ptr, sync::mpsc::Sender};

use bench_core::payload::{self, PING};
use sendstream_sys as sys;

use crate::native::{self, Accept, Handle, call, check, open_stream, set_callback};

/// Opens a stream and sends a ping on it.
pub(crate) fn open(client: Handle, number: u64) {
    let bytes = payload::ping(number).as_ptr().cast_mut();
    let buffer = Box::into_raw(Box::new(sys::QUIC_BUFFER { Length: PING as u32, Buffer: bytes }));
    // SAFETY: the callback takes no context; the descriptor stays where it is until SEND_COMPLETE,
    // and the bytes are static.
    unsafe {
        let flags = sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_NONE;
        let stream = open_stream(client, flags, on_opened, ptr::null_mut());
        let flags = sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_START;
        check(call!(StreamSend(stream.0, buffer, 1, flags, buffer.cast())), "StreamSend");
    }
}

/// Accepts streams; `done` gets a message for each when its ping is there.
pub(crate) fn reader(done: Sender<()>) -> Accept {
    Box::new(move |stream| {
        let reader = Box::new(Reader { left: PING, done: done.clone() });
        // SAFETY: the context is what the callback takes it for, and lives as long as the process.
        unsafe { set_callback(stream, on_accepted, Box::into_raw(reader).cast()) };
    })
}

struct Reader {
    left: usize,
    done: Sender<()>,
}

unsafe extern "C" fn on_opened(_stream: sys::HQUIC, _context: *mut c_void, event: *mut sys::QUIC_STREAM_EVENT) -> u32 {
    // SAFETY: the event is valid during the call.
    let event = unsafe { &*event };
    if event.Type == sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_COMPLETE {
        // SAFETY: it is that event, and MsQuic gives the descriptor back once.
        drop(unsafe { Box::from_raw(event.__bindgen_anon_1.SEND_COMPLETE.ClientContext.cast::<sys::QUIC_BUFFER>()) });
    }
    0
}

unsafe extern "C" fn on_accepted(_stream: sys::HQUIC, context: *mut c_void, event: *mut sys::QUIC_STREAM_EVENT) -> u32 {
    // SAFETY: the context is this stream's reader, which only this callback uses; the event is
    // valid during the call.
    let (reader, event) = unsafe { (&mut *context.cast::<Reader>(), &*event) };
    if event.Type == sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE {
        // SAFETY: it is that event.
        reader.left -= unsafe { native::received(event) }.map(<[u8]>::len).sum::<usize>();
        if reader.left == 0 {
            let _ = reader.done.send(());
        }
    }
    0
}
