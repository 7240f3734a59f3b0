//! [`ConnectionLog`]: what MsQuic calls for each packet of a connection.

use std::{
    ffi::c_void,
    mem, slice,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use sendstream_sys as sys;

use super::{
    QlogStream,
    frames::{self, Frame},
    record::{Event, Metrics, PacketType, State},
};

/// What a connection writes to. MsQuic has its address until the connection's handle is closed.
#[derive(Debug)]
pub(crate) struct ConnectionLog {
    stream: QlogStream,
    connection: u64,
    /// For each space of packet numbers, the number behind the highest that was sent. MsQuic alone
    /// writes it, one call at a time.
    ends: [AtomicU64; 3],
    /// The frames of the packet that is about to be sent. Nobody waits for the lock: MsQuic alone takes
    /// it, one call at a time.
    to_send: Mutex<Box<[Frame]>>,
}

impl ConnectionLog {
    pub(crate) fn new(stream: QlogStream) -> Box<Self> {
        let connection = stream.next_connection();
        Box::new(Self { stream, connection, ends: Default::default(), to_send: Mutex::default() })
    }

    /// The connection is in another state.
    pub(crate) fn state(&self, state: State) {
        self.stream.push(self.connection, Event::State(state));
    }

    /// What MsQuic takes to write here, for as long as `self` is where it is.
    pub(crate) fn native(&self) -> sys::QUIC_CONNECTION_LOG {
        sys::QUIC_CONNECTION_LOG { Write: Some(write), Context: std::ptr::from_ref(self).cast_mut().cast() }
    }

    fn to_send(&self) -> MutexGuard<'_, Box<[Frame]>> {
        self.to_send.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, entry: &sys::QUIC_LOG_ENTRY, frames: &[u8]) {
        let metrics = Metrics {
            smoothed_rtt: entry.SmoothedRtt,
            latest_rtt: entry.LatestRtt,
            min_rtt: entry.MinRtt,
            rtt_variance: entry.RttVariance,
            congestion_window: entry.CongestionWindow,
            bytes_in_flight: entry.BytesInFlight,
        };
        let (number, length) = (entry.PacketNumber, entry.PacketLength);
        let kind = PacketType::from_native(entry.PacketType);
        let end = &self.ends[kind.space()];
        let event = match entry.Kind {
            sys::QUIC_LOG_FRAMES_SENT => {
                // Its PACKET_SENT comes next, unless MsQuic fails to encrypt it.
                *self.to_send() = frames::read(frames, u64::MAX);
                return;
            }
            sys::QUIC_LOG_PACKET_SENT => {
                end.fetch_max(number + 1, Ordering::Relaxed);
                Event::Sent { kind, number, length, frames: mem::take(&mut *self.to_send()), metrics }
            }
            sys::QUIC_LOG_PACKET_RECEIVED => {
                // MsQuic has not looked at the frames yet, and ends the connection if they acknowledge more.
                let frames = frames::read(frames, end.load(Ordering::Relaxed));
                Event::Received { kind, number, length, frames }
            }
            sys::QUIC_LOG_PACKET_LOST => {
                Event::Lost { kind, number, by_time: entry.Reason == sys::QUIC_LOG_LOST_BY_TIME }
            }
            sys::QUIC_LOG_METRICS => Event::Metrics(metrics),
            _ => return,
        };
        self.stream.push(self.connection, event);
    }
}

/// The function that MsQuic calls.
///
/// # Safety
///
/// For MsQuic to call: `context` is a `ConnectionLog` that lives, and `entry` is valid for the call,
/// with the frames that it names.
unsafe extern "C" fn write(context: *mut c_void, entry: *const sys::QUIC_LOG_ENTRY) {
    // SAFETY: `native` gave the address, and the log lives until the handle is closed.
    let log = unsafe { &*context.cast::<ConnectionLog>() };
    // SAFETY: valid for the call, as the caller promises.
    let entry = unsafe { &*entry };
    let frames = match entry.Frames.is_null() {
        true => &[],
        // SAFETY: MsQuic says that this many bytes are there, for the call.
        false => unsafe { slice::from_raw_parts(entry.Frames, entry.FramesLength as usize) },
    };
    log.take(entry, frames);
}
