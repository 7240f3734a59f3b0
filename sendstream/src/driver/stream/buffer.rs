//! Memory that crosses the C boundary: [`Buffer`] is lent to MsQuic for sending, [`Lent`] is lent
//! by it for reading.
//!
//! A [`Buffer`] crosses in a pair of calls, each with few callers: [`Buffer::into_raw`] right
//! before `StreamSend`, and [`Buffer::from_raw`] in SEND_COMPLETE or after a `StreamSend` that
//! failed on the spot. MsQuic keeps the pointer to the `QUIC_BUFFER` array as well as the pointers
//! in it until then, so both live in one boxed `Buffer`, which does not move.

use std::ptr::NonNull;

use sendstream_core::stream::{recv_state::Piece, slices::Slices};
use sendstream_sys as sys;

use crate::{
    native::received::Block,
    types::payload::{Payload, Pieces},
};

/// One send operation's memory: the bytes, and the descriptors that MsQuic reads them through.
#[derive(Debug)]
pub(crate) struct Buffer {
    descriptors: Descriptors,
    /// Keeps alive, and unmoved on the heap, what `descriptors` point to.
    payload: Payload,
}

#[derive(Debug)]
enum Descriptors {
    One([sys::QUIC_BUFFER; 1]),
    Many(Box<[sys::QUIC_BUFFER]>),
}

// SAFETY: the descriptors point only into `payload`, which is `Send` (all of its variants own or
// share bytes that any thread may read and free), and nothing writes through them.
unsafe impl Send for Buffer {}

/// Cuts `payload` into pieces of these lengths, which make up its own, without a copy. Mostly it is
/// one.
pub(crate) fn cut(payload: Payload, slices: Slices) -> impl Iterator<Item = Payload> {
    let whole = slices.count() <= 1;
    let (one, many) = if whole { (Some(payload), None) } else { (None, Some(split(payload, slices))) };
    one.into_iter().chain(many.into_iter().flatten())
}

fn split(payload: Payload, slices: Slices) -> impl Iterator<Item = Payload> {
    let (mut part, mut parts) = payload.into_parts();
    slices.lengths().map(move |length| {
        let mut missing = usize::try_from(length).expect("it is in memory");
        let mut list = Vec::new();
        loop {
            let piece = part.split_to(part.len().min(missing));
            missing -= piece.len();
            if part.is_empty() {
                part = parts.next().unwrap_or_default();
            }
            if missing == 0 && list.is_empty() {
                return Payload::from(piece);
            }
            list.push(piece);
            if missing == 0 {
                return Payload::from(list);
            }
        }
    })
}

impl Buffer {
    /// Boxes `payload`, which is one slice, with its descriptors.
    pub(crate) fn new(payload: Payload) -> Box<Self> {
        debug_assert!(payload.len() <= Slices::MAX_BYTES);
        let descriptors = match payload.pieces() {
            Pieces::One(bytes) => Descriptors::One([describe(bytes)]),
            Pieces::Many(list) => Descriptors::Many(list.iter().map(|bytes| describe(bytes)).collect()),
        };
        Box::new(Self { descriptors, payload })
    }

    /// How many bytes it holds.
    pub(crate) fn len(&self) -> u64 {
        self.payload.len()
    }

    /// What it was made from.
    pub(crate) fn into_payload(self) -> Payload {
        self.payload
    }

    /// The array to pass to `StreamSend`, valid until the box is dropped.
    pub(crate) fn get_buffers(&self) -> &[sys::QUIC_BUFFER] {
        match &self.descriptors {
            Descriptors::One(one) => one,
            Descriptors::Many(many) => many,
        }
    }

    /// Lends it to C: the pointer is what SEND_COMPLETE brings back as `ClientContext`.
    pub(crate) fn into_raw(self: Box<Self>) -> NonNull<Self> {
        NonNull::from(Box::leak(self))
    }

    /// Takes it back.
    ///
    /// # Safety
    ///
    /// `context` came from [`Buffer::into_raw`], and this is the only call with it.
    pub(crate) unsafe fn from_raw(context: NonNull<Self>) -> Box<Self> {
        // SAFETY: `into_raw` leaked this box, and the caller promises that nobody else takes it
        // back.
        unsafe { Box::from_raw(context.as_ptr()) }
    }
}

fn describe(bytes: &[u8]) -> sys::QUIC_BUFFER {
    // `cut` has cut everything longer.
    let length = u32::try_from(bytes.len()).expect("one operation carries at most u32::MAX bytes");
    sys::QUIC_BUFFER { Length: length, Buffer: bytes.as_ptr().cast_mut() }
}

/// A piece of a stream in MsQuic's own memory, lent by RECEIVE.
///
/// The memory stays valid, and nobody writes to it, until the piece is given back in
/// `StreamReceiveComplete` or the stream's handle is closed. Who holds a `Lent` therefore holds the
/// `StreamInstance` too, whose receive half counts it as unread or handed out: while it counts any,
/// nobody closes the handle. A piece that the receive half gives back while it is out is kept through
/// its [`Block`].
#[derive(Debug)]
pub(crate) struct Lent {
    start: NonNull<u8>,
    len: usize,
    /// What keeps the memory when MsQuic has it back.
    block: Option<Block>,
}

// SAFETY: a `Lent` is a read-only view that only its holder uses; MsQuic does not care which thread
// reads.
unsafe impl Send for Lent {}
// SAFETY: all that a shared `Lent` allows is reading memory that nobody writes.
unsafe impl Sync for Lent {}

impl Lent {
    /// The piece that `descriptor` of a RECEIVE event describes, and what it is part of.
    pub(crate) fn from_descriptor(descriptor: &sys::QUIC_BUFFER, block: Option<Block>) -> Self {
        let start = NonNull::new(descriptor.Buffer).unwrap_or(NonNull::dangling());
        Self { start, len: descriptor.Length as usize, block }
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// The piece was not given back, and the stream's handle stays open for as long as the result
    /// is used; or its block is kept for as long.
    pub(crate) unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: RECEIVE said that `len` initialised bytes are at `start`, and the caller promises
        // that they still are.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Piece for Lent {
    type Block = Block;

    fn len(&self) -> usize {
        self.len
    }

    fn split_to(&mut self, at: usize) -> Self {
        let at = at.min(self.len);
        let front = Self { start: self.start, len: at, block: self.block };
        // SAFETY: `at <= len`, so the result points into the same piece or just past its end.
        self.start = unsafe { self.start.add(at) };
        self.len -= at;
        front
    }

    fn block(&self) -> Option<Block> {
        self.block
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    fn bytes_of(buffer: &Buffer) -> Vec<u8> {
        buffer
            .get_buffers()
            .iter()
            // SAFETY: the descriptors of a live buffer describe the bytes that it owns.
            .flat_map(|part| unsafe { std::slice::from_raw_parts(part.Buffer, part.Length as usize) }.to_vec())
            .collect()
    }

    #[test]
    fn every_kind_of_payload_is_described_where_it_lies() {
        let vec = vec![1, 2, 3];
        let address = vec.as_ptr();
        let buffer = Buffer::new(Payload::from(vec));
        assert_eq!(buffer.get_buffers()[0].Buffer.cast_const(), address, "a Vec is not copied");

        let list = vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")];
        assert_eq!(bytes_of(&Buffer::new(Payload::from(list))), b"abc");
        assert_eq!(bytes_of(&Buffer::new(Payload::from("text"))), b"text");
        assert_eq!(bytes_of(&Buffer::new(Payload::from(Arc::<[u8]>::from(&b"shared"[..])))), b"shared");
    }

    #[test]
    fn the_way_through_c_keeps_the_address() {
        let buffer = Buffer::new(Payload::from(vec![7; 100]));
        let before = buffer.get_buffers().as_ptr();
        let raw = buffer.into_raw();
        // SAFETY: `raw` comes from `into_raw` just above and is used once.
        let back = unsafe { Buffer::from_raw(raw) };
        assert_eq!(back.get_buffers().as_ptr(), before);
        assert_eq!(back.len(), 100);
    }

    #[test]
    fn a_large_payload_is_cut_where_it_lies_without_losing_a_byte() {
        let bytes: Vec<u8> = (0..10_000u32).map(|number| (number % 251) as u8).collect();
        let slices = Slices::new(10_000, 16_000);
        assert_eq!(slices.count(), 5);
        let whole = Bytes::from(bytes.clone());
        let parts = vec![whole.slice(..4000), Bytes::new(), whole.slice(4000..5001), whole.slice(5001..)];
        for payload in
            [Payload::from(parts), Payload::from(bytes.clone()), Payload::from(Arc::<[u8]>::from(&bytes[..]))]
        {
            let pieces: Vec<_> = cut(payload, slices).collect();
            assert!(pieces.iter().map(Payload::len).eq(slices.lengths()));
            let joined: Vec<u8> = pieces.into_iter().flat_map(|piece| bytes_of(&Buffer::new(piece))).collect();
            assert_eq!(joined, bytes);
        }
        let address = whole.as_ptr();
        let buffers: Vec<_> = cut(Payload::from(whole), slices).map(Buffer::new).collect();
        for (index, piece) in buffers.iter().enumerate() {
            assert_eq!(piece.get_buffers().len(), 1);
            assert_eq!(
                piece.get_buffers()[0].Buffer.cast_const(),
                address.wrapping_add(2000 * index),
                "nothing is copied"
            );
        }
    }

    #[test]
    fn lent_memory_is_split_in_place() {
        let bytes = *b"hello";
        let descriptor = sys::QUIC_BUFFER { Length: 5, Buffer: bytes.as_ptr().cast_mut() };
        let mut lent = Lent::from_descriptor(&descriptor, None);
        let front = lent.split_to(2);
        // SAFETY: both views point into `bytes`, which lives to the end of the test.
        unsafe {
            assert_eq!(front.as_slice(), b"he");
            assert_eq!(lent.as_slice(), b"llo");
        }
        assert_eq!(lent.split_to(99).len(), 3);
        assert_eq!(lent.len(), 0);
    }
}
