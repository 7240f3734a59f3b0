//! 64 bytes to and fro on one bidirectional stream.

use std::{ffi::c_void, ptr, sync::mpsc::Sender, time::Instant};

use bench_core::payload::{self, PING};
use hdrhistogram::Histogram;
use sendstream_sys as sys;

use crate::native::{self, Accept, Handle, call, check, open_stream, set_callback};

/// Sends so many pings, one after the other; `done` gets their times.
pub(crate) fn ping(client: Handle, count: u64, done: Sender<Histogram<u64>>) {
    let pinger = Box::new(Pinger {
        number: 0,
        count,
        sent: Instant::now(),
        pong: Ping::default(),
        nanoseconds: bench_core::histogram(),
        done,
    });
    // SAFETY: the context is what the callback takes it for, and lives as long as the process.
    unsafe {
        let flags = sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_NONE;
        let stream = open_stream(client, flags, on_pinger, Box::into_raw(pinger).cast());
        check(call!(StreamStart(stream.0, sys::QUIC_STREAM_START_FLAGS_QUIC_STREAM_START_FLAG_NONE)), "StreamStart");
    }
}

/// Sends back what comes.
pub(crate) fn echo() -> Accept {
    Box::new(|stream| {
        let ping = Box::new(Ping::default());
        // SAFETY: the context is what the callback takes it for, and lives as long as the process.
        unsafe { set_callback(stream, on_echo, Box::into_raw(ping).cast()) };
    })
}

struct Pinger {
    number: u64,
    count: u64,
    sent: Instant,
    pong: Ping,
    nanoseconds: Histogram<u64>,
    done: Sender<Histogram<u64>>,
}

/// A ping that comes in.
struct Ping {
    filled: usize,
    bytes: [u8; PING],
}

impl Default for Ping {
    fn default() -> Self {
        Self { filled: 0, bytes: [0; PING] }
    }
}

impl Ping {
    /// Takes the pieces of a RECEIVE event, and gives the ping when it is whole.
    ///
    /// # Safety
    ///
    /// `event` is a RECEIVE event, and the callback that it came with has not returned.
    unsafe fn take(&mut self, event: &sys::QUIC_STREAM_EVENT) -> Option<[u8; PING]> {
        // SAFETY: the caller promises it.
        for data in unsafe { native::received(event) } {
            self.bytes[self.filled..self.filled + data.len()].copy_from_slice(data);
            self.filled += data.len();
        }
        if self.filled < PING {
            return None;
        }
        self.filled = 0;
        Some(self.bytes)
    }
}

/// What MsQuic holds of a ping under way; freed at SEND_COMPLETE.
struct Sent {
    buffer: sys::QUIC_BUFFER,
    bytes: [u8; PING],
}

fn send(stream: sys::HQUIC, bytes: &[u8; PING]) {
    let buffer = sys::QUIC_BUFFER { Length: PING as u32, Buffer: ptr::null_mut() };
    let sent = Box::into_raw(Box::new(Sent { buffer, bytes: *bytes }));
    // SAFETY: it stays where it is until SEND_COMPLETE, and is used by nobody but MsQuic until
    // then.
    unsafe {
        (*sent).buffer.Buffer = (&raw mut (*sent).bytes).cast();
        let flags = sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_NONE;
        check(call!(StreamSend(stream, &raw const (*sent).buffer, 1, flags, sent.cast())), "StreamSend");
    }
}

/// Frees what a SEND_COMPLETE event gives back.
///
/// # Safety
///
/// `event` is such an event of a send that [`send`] made.
unsafe fn sent(event: &sys::QUIC_STREAM_EVENT) {
    // SAFETY: the caller promises it, and MsQuic gives each context back once.
    unsafe {
        let complete = &event.__bindgen_anon_1.SEND_COMPLETE;
        assert!(complete.Canceled == 0, "a ping was canceled");
        drop(Box::from_raw(complete.ClientContext.cast::<Sent>()));
    }
}

fn ping_bytes(number: u64) -> &'static [u8; PING] {
    payload::ping(number).try_into().expect("a ping's length")
}

unsafe extern "C" fn on_pinger(stream: sys::HQUIC, context: *mut c_void, event: *mut sys::QUIC_STREAM_EVENT) -> u32 {
    // SAFETY: the event is valid during the call.
    let event = unsafe { &*event };
    match event.Type {
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_START_COMPLETE => {
            // SAFETY: the context is the pinger, which only this callback uses.
            unsafe { (*context.cast::<Pinger>()).sent = Instant::now() };
            send(stream, ping_bytes(0));
        }
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE => {
            // SAFETY: as above; should a call deliver an event, it is one of the others, which use
            // it before or not at all.
            let pinger = unsafe { &mut *context.cast::<Pinger>() };
            // SAFETY: it is that event.
            if let Some(pong) = unsafe { pinger.pong.take(event) } {
                pinger.nanoseconds.record(pinger.sent.elapsed().as_nanos() as u64).expect("less than a minute");
                assert!(&pong == ping_bytes(pinger.number), "wrong bytes in a ping");
                pinger.number += 1;
                if pinger.number == pinger.count {
                    let _ = pinger.done.send(pinger.nanoseconds.clone());
                } else {
                    pinger.sent = Instant::now();
                    send(stream, ping_bytes(pinger.number));
                }
            }
        }
        // SAFETY: it is that event.
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_COMPLETE => unsafe { sent(event) },
        _ => {}
    }
    0
}

unsafe extern "C" fn on_echo(stream: sys::HQUIC, context: *mut c_void, event: *mut sys::QUIC_STREAM_EVENT) -> u32 {
    // SAFETY: the event is valid during the call.
    let event = unsafe { &*event };
    match event.Type {
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_RECEIVE => {
            // SAFETY: the context is this stream's ping, which nothing but this event uses.
            let ping = unsafe { (*context.cast::<Ping>()).take(event) };
            if let Some(ping) = ping {
                send(stream, &ping);
            }
        }
        // SAFETY: it is that event.
        sys::QUIC_STREAM_EVENT_TYPE_QUIC_STREAM_EVENT_SEND_COMPLETE => unsafe { sent(event) },
        _ => {}
    }
    0
}
