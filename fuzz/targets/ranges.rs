//! The buffer that puts a stream together, and the numbers of packets, of a peer that sends what it
//! likes: what is read is what was written, and no frame costs much, whatever came before.
//!
//! MsQuic counts how many ranges it looks at and how many it moves (the edit `range-work-counted`).
//! Every five bytes choose a step.

#![no_main]

use std::{ffi::c_void, ptr::null_mut};

use libfuzzer_sys::fuzz_target;
// It links MsQuic.
use sendstream as _;

fuzz_target!(|data: &[u8]| {
    let (steps, _) = data.as_chunks::<5>();
    let mut buffer = Buffer::new();
    let mut numbers = Numbers::new();
    let mut cost = Cost::begin();
    for &[kind, a, b, c, d] in steps {
        let (at, count) = (u64::from(u16::from_le_bytes([a, b])), u64::from(c));
        let length = u16::from(d) + 1;
        // So that a stream is read, goes on, and has gaps.
        let offset = buffer.base + at % u64::from(WINDOW);
        match kind % 8 {
            0 => cost.of_frame(|| buffer.write(offset, length)),
            // Many frames with gaps, from the first or from the last, or again and again.
            1 => (0..count).for_each(|n| cost.of_frame(|| buffer.write(offset + 2 * n, 1))),
            2 => (0..count).rev().for_each(|n| cost.of_frame(|| buffer.write(offset + 2 * n, 1))),
            3 => (0..count).for_each(|_| cost.of_frame(|| buffer.write(offset, length))),
            // In no order.
            4 => (0..count).for_each(|n| {
                let offset = buffer.base + (at + n * 40_503) % u64::from(WINDOW);
                cost.of_frame(|| buffer.write(offset, 1));
            }),
            5 => buffer.read(),
            6 => (0..count).for_each(|n| cost.of_frame(|| numbers.add(at + n * (u64::from(d) % 4)))),
            _ => cost.of_frame(|| numbers.decode(&data[..data.len().min(1400)])),
        }
    }
    cost.judge();
});

/// What the frames have cost so far.
struct Cost {
    frames: u64,
}

impl Cost {
    fn begin() -> Self {
        // SAFETY: nothing else runs.
        unsafe { (QuicRangeLooks, QuicRangeMoves) = (0, 0) };
        Self { frames: 0 }
    }

    /// `frame` may bring many ranges, and says how many.
    fn of_frame(&mut self, frame: impl FnOnce() -> u64) {
        self.frames += frame();
    }

    fn judge(&self) {
        // SAFETY: nothing else runs.
        let (looks, moves) = unsafe { (QuicRangeLooks, QuicRangeMoves) };
        assert!(looks <= LOOKS * (self.frames + 1), "{looks} looks at ranges for {} frames", self.frames);
        assert!(moves <= MOVES * (self.frames + 1), "{moves} ranges moved for {} frames", self.frames);
    }
}

/// MsQuic's `QUIC_RECV_BUFFER`.
struct Buffer {
    native: Box<Native>,
    /// Where reading goes on.
    base: u64,
}

impl Buffer {
    fn new() -> Self {
        let mut native = Box::new(Native([0; 128]));
        // SAFETY: the memory is larger than a `QUIC_RECV_BUFFER`, and stays where it is.
        let status = unsafe { QuicRecvBufferInitialize(native.pointer(), 2048, WINDOW, CIRCULAR, null_mut()) };
        assert_eq!(status, SUCCESS);
        Self { native, base: 0 }
    }

    fn write(&mut self, offset: u64, length: u16) -> u64 {
        let bytes: Vec<u8> = (offset..offset + u64::from(length)).map(byte).collect();
        let (mut consumed, mut ready, mut needed) = (0, 0, 0);
        // SAFETY: the buffer is initialized, and everything else is there for the call.
        unsafe {
            QuicRecvBufferWrite(
                self.native.pointer(),
                offset,
                length,
                bytes.as_ptr(),
                u64::MAX,
                &mut consumed,
                &mut ready,
                &mut needed,
            )
        };
        1
    }

    /// Reads all that is there, and makes room for more.
    fn read(&mut self) {
        // SAFETY: the buffer is initialized. There are two pieces at most, as it is circular.
        unsafe {
            if QuicRecvBufferHasUnreadData(self.native.pointer()) == 0 {
                return;
            }
            let mut pieces = [Piece { length: 0, bytes: null_mut() }, Piece { length: 0, bytes: null_mut() }];
            let (mut offset, mut count) = (0, 2);
            QuicRecvBufferRead(self.native.pointer(), &mut offset, &mut count, pieces.as_mut_ptr());
            assert_eq!(offset, self.base);
            for piece in &pieces[..count as usize] {
                for &read in std::slice::from_raw_parts(piece.bytes, piece.length as usize) {
                    assert_eq!(read, byte(self.base), "at {}", self.base);
                    self.base += 1;
                }
            }
            QuicRecvBufferDrain(self.native.pointer(), self.base - offset);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: it is initialized, and not used any more.
        unsafe { QuicRecvBufferUninitialize(self.native.pointer()) };
    }
}

/// MsQuic's `QUIC_ACK_TRACKER`, and the `QUIC_RANGE` that ACK frames are decoded into.
struct Numbers {
    tracker: Box<Native>,
    decoded: Box<Native>,
}

impl Numbers {
    fn new() -> Self {
        let (mut tracker, mut decoded) = (Box::new(Native([0; 128])), Box::new(Native([0; 128])));
        // SAFETY: the memory is larger than the two structures, and stays where it is.
        unsafe {
            QuicAckTrackerInitialize(tracker.pointer());
            QuicRangeInitialize(DECODED, decoded.pointer());
        }
        Self { tracker, decoded }
    }

    fn add(&mut self, number: u64) -> u64 {
        // SAFETY: the tracker is initialized.
        unsafe { QuicAckTrackerAddPacketNumber(self.tracker.pointer(), number) };
        1
    }

    /// A frame of two bytes for each range.
    fn decode(&mut self, frame: &[u8]) -> u64 {
        let (mut offset, mut invalid, mut delay) = (0, 0, 0);
        let mut counts = [0; 3];
        // SAFETY: the range is initialized, and everything else is there for the call.
        unsafe {
            QuicAckFrameDecode(
                ACK,
                frame.len() as u16,
                frame.as_ptr(),
                &mut offset,
                &mut invalid,
                self.decoded.pointer(),
                counts.as_mut_ptr(),
                &mut delay,
            );
            QuicRangeReset(self.decoded.pointer());
        }
        1 + u64::from(offset) / 2
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        // SAFETY: both are initialized, and not used any more.
        unsafe {
            QuicAckTrackerUninitialize(self.tracker.pointer());
            QuicRangeUninitialize(self.decoded.pointer());
        }
    }
}

/// The stream's byte at `offset`.
fn byte(offset: u64) -> u8 {
    (offset ^ offset >> 8).wrapping_mul(0x9d) as u8
}

/// Room for one of MsQuic's structures, which know their size in C alone.
#[repr(C, align(16))]
struct Native([u64; 128]);

impl Native {
    fn pointer(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }
}

/// A `QUIC_BUFFER`.
#[repr(C)]
struct Piece {
    length: u32,
    bytes: *mut u8,
}

unsafe extern "C" {
    static mut QuicRangeLooks: u64;
    static mut QuicRangeMoves: u64;
    fn QuicRangeInitialize(most: u32, range: *mut c_void);
    fn QuicRangeUninitialize(range: *mut c_void);
    fn QuicRangeReset(range: *mut c_void);
    fn QuicAckTrackerInitialize(tracker: *mut c_void);
    fn QuicAckTrackerUninitialize(tracker: *mut c_void);
    fn QuicAckTrackerAddPacketNumber(tracker: *mut c_void, number: u64) -> u8;
    fn QuicAckFrameDecode(
        kind: u32,
        length: u16,
        bytes: *const u8,
        offset: &mut u16,
        invalid: &mut u8,
        range: *mut c_void,
        counts: *mut u64,
        delay: &mut u64,
    ) -> u8;
    fn QuicRecvBufferInitialize(buffer: *mut c_void, alloc: u32, window: u32, mode: u32, chunk: *mut c_void) -> u32;
    fn QuicRecvBufferUninitialize(buffer: *mut c_void);
    fn QuicRecvBufferWrite(
        buffer: *mut c_void,
        offset: u64,
        length: u16,
        bytes: *const u8,
        quota: u64,
        consumed: &mut u64,
        ready: &mut u8,
        needed: &mut u64,
    ) -> u32;
    fn QuicRecvBufferHasUnreadData(buffer: *mut c_void) -> u8;
    fn QuicRecvBufferRead(buffer: *mut c_void, offset: &mut u64, count: &mut u32, pieces: *mut Piece);
    fn QuicRecvBufferDrain(buffer: *mut c_void, length: u64) -> u8;
}

const SUCCESS: u32 = 0;
/// `QUIC_RECV_BUF_MODE_CIRCULAR`, which does without a stream around the buffer.
const CIRCULAR: u32 = 1;
/// `QUIC_FRAME_ACK`, and `QUIC_MAX_RANGE_DECODE_ACKS`.
const ACK: u32 = 2;
const DECODED: u32 = 0x1000;
const WINDOW: u32 = 256 << 10;

/// How many ranges a frame looks at and moves, on the average. A search looks at 11 of 1536, and an
/// insertion moves half of them at most; what a frame joins others have paid for.
const LOOKS: u64 = 64;
const MOVES: u64 = 1024;
