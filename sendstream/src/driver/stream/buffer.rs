//! Memory that crosses the C boundary: [`Buffer`] is lent to MsQuic for sending, [`Lent`] is lent by it for reading.
//!
//! A [`Buffer`] crosses in a pair of calls, each with few callers: [`Buffer::into_raw`] right before `StreamSend`, and
//! [`Buffer::from_raw`] in SEND_COMPLETE or after a `StreamSend` that failed on the spot. MsQuic keeps the pointer to the
//! `QUIC_BUFFER` array as well as the pointers in it until then, so both live in one boxed `Buffer`, which does not move.

use std::{ptr::NonNull, sync::Arc};

use bytes::{Bytes, BytesMut};
use sendstream_sys as sys;

/// Owned bytes on their way into a stream, without a copy: whatever the value owned is what MsQuic reads from.
///
/// Made from `Vec<u8>`, [`Bytes`], `BytesMut`, `Box<[u8]>`, `Arc<[u8]>`, `String`, `&'static [u8]`, `&'static str`, and from
/// a `Vec` of `Bytes` or of `Vec<u8>`, which is sent as one piece of the stream. For memory of another kind (a mapped file,
/// a slab) see [`Bytes::from_owner`].
///
/// Once the bytes are acknowledged, what owned them is dropped on MsQuic's worker thread, and its destructor must not
/// [wait there](crate#what-runs-on-msquics-threads).
#[derive(Debug)]
pub struct Payload {
    parts: Parts,
    len: u64,
}

#[derive(Debug)]
enum Parts {
    Vec(Vec<u8>),
    Bytes(Bytes),
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
    List(Vec<Bytes>),
}

impl Payload {
    /// How many bytes it holds.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// No bytes: what a bare FIN carries.
    pub(crate) fn empty() -> Self {
        Self::one(Parts::Static(&[]), 0)
    }

    fn one(parts: Parts, len: usize) -> Self {
        Self { parts, len: len as u64 }
    }

    /// Cuts it into pieces that one native operation can carry: at most [`Buffer::MAX_BYTES`] each. Mostly it is one.
    pub(crate) fn into_operations(self) -> impl Iterator<Item = Self> {
        let whole = self.len <= Buffer::MAX_BYTES;
        let (one, many) = if whole { (Some(self), None) } else { (None, Some(self.split(Buffer::MAX_BYTES))) };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn split(self, limit: u64) -> Vec<Self> {
        let mut operations = Vec::new();
        let mut operation = Vec::new();
        let mut room = limit;
        for mut part in self.into_parts() {
            while !part.is_empty() {
                let piece = part.split_to(part.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
                room -= piece.len() as u64;
                operation.push(piece);
                if room == 0 {
                    operations.push(Self::from(std::mem::take(&mut operation)));
                    room = limit;
                }
            }
        }
        if !operation.is_empty() {
            operations.push(Self::from(operation));
        }
        operations
    }

    fn into_parts(self) -> Vec<Bytes> {
        match self.parts {
            Parts::Vec(vec) => vec![Bytes::from(vec)],
            Parts::Bytes(bytes) => vec![bytes],
            Parts::Shared(shared) => vec![Bytes::from_owner(shared)],
            Parts::Static(bytes) => vec![Bytes::from_static(bytes)],
            Parts::List(list) => list,
        }
    }

    fn descriptors(&self) -> Descriptors {
        match &self.parts {
            Parts::Vec(vec) => Descriptors::One([describe(vec)]),
            Parts::Bytes(bytes) => Descriptors::One([describe(bytes)]),
            Parts::Shared(shared) => Descriptors::One([describe(shared)]),
            Parts::Static(bytes) => Descriptors::One([describe(bytes)]),
            Parts::List(list) => Descriptors::Many(list.iter().map(|bytes| describe(bytes)).collect()),
        }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(vec: Vec<u8>) -> Self {
        let len = vec.len();
        Self::one(Parts::Vec(vec), len)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        let len = bytes.len();
        Self::one(Parts::Bytes(bytes), len)
    }
}

impl From<BytesMut> for Payload {
    fn from(bytes: BytesMut) -> Self {
        Self::from(bytes.freeze())
    }
}

impl From<Box<[u8]>> for Payload {
    fn from(bytes: Box<[u8]>) -> Self {
        Self::from(Vec::from(bytes))
    }
}

impl From<Arc<[u8]>> for Payload {
    fn from(shared: Arc<[u8]>) -> Self {
        let len = shared.len();
        Self::one(Parts::Shared(shared), len)
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Self::one(Parts::Static(bytes), bytes.len())
    }
}

impl<const N: usize> From<&'static [u8; N]> for Payload {
    fn from(bytes: &'static [u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(list: Vec<Bytes>) -> Self {
        let len = list.iter().map(|bytes| bytes.len() as u64).sum();
        Self { parts: Parts::List(list), len }
    }
}

impl From<Vec<Vec<u8>>> for Payload {
    fn from(list: Vec<Vec<u8>>) -> Self {
        Self::from(list.into_iter().map(Bytes::from).collect::<Vec<_>>())
    }
}

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

// SAFETY: the descriptors point only into `payload`, which is `Send` (all of its variants own or share bytes that any
// thread may read and free), and nothing writes through them.
unsafe impl Send for Buffer {}

impl Buffer {
    /// The most bytes that one `StreamSend` takes.
    pub(crate) const MAX_BYTES: u64 = u32::MAX as u64;

    /// Boxes `payload` with its descriptors. At most [`Buffer::MAX_BYTES`], see [`Payload::into_operations`].
    pub(crate) fn new(payload: Payload) -> Box<Self> {
        debug_assert!(payload.len() <= Self::MAX_BYTES);
        let descriptors = payload.descriptors();
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
        // SAFETY: `into_raw` leaked this box, and the caller promises that nobody else takes it back.
        unsafe { Box::from_raw(context.as_ptr()) }
    }
}

fn describe(bytes: &[u8]) -> sys::QUIC_BUFFER {
    // `Payload::into_operations` has cut everything longer.
    let length = u32::try_from(bytes.len()).expect("one operation carries at most u32::MAX bytes");
    sys::QUIC_BUFFER { Length: length, Buffer: bytes.as_ptr().cast_mut() }
}

/// A piece of a stream in MsQuic's own memory, lent by RECEIVE.
///
/// The memory stays valid, and nobody writes to it, until the piece is given back in `StreamReceiveComplete` or the
/// stream's handle is closed. Who holds a `Lent` therefore holds the `StreamInstance` too, whose receive half counts it as unread
/// or handed out: while it counts any, SHUTDOWN_COMPLETE leaves the handle open.
#[derive(Debug)]
pub(crate) struct Lent {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a `Lent` is a read-only view that only its holder uses; MsQuic does not care which thread reads.
unsafe impl Send for Lent {}
// SAFETY: all that a shared `Lent` allows is reading memory that nobody writes.
unsafe impl Sync for Lent {}

impl Lent {
    /// The piece that `descriptor` of a RECEIVE event describes.
    pub(crate) fn from_descriptor(descriptor: &sys::QUIC_BUFFER) -> Self {
        Self { start: NonNull::new(descriptor.Buffer).unwrap_or(NonNull::dangling()), len: descriptor.Length as usize }
    }

    /// How many bytes it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Cuts off the first `at` bytes, at most all.
    pub(crate) fn split_to(&mut self, at: usize) -> Self {
        let at = at.min(self.len);
        let front = Self { start: self.start, len: at };
        // SAFETY: `at <= len`, so the result points into the same piece or just past its end.
        self.start = unsafe { self.start.add(at) };
        self.len -= at;
        front
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// The piece was not given back, and the stream's handle stays open for as long as the result is used.
    pub(crate) unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: RECEIVE said that `len` initialised bytes are at `start`, and the caller promises that they still are.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
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
    fn a_payload_over_the_limit_is_cut_without_losing_a_byte() {
        let parts = vec![Bytes::from_static(b"abcde"), Bytes::from_static(b"f"), Bytes::from_static(b"ghij")];
        let pieces = Payload::from(parts).split(4);
        let lengths: Vec<_> = pieces.iter().map(Payload::len).collect();
        assert_eq!(lengths, [4, 4, 2]);
        let joined: Vec<u8> = pieces.into_iter().flat_map(|piece| bytes_of(&Buffer::new(piece))).collect();
        assert_eq!(joined, b"abcdefghij");
    }

    #[test]
    fn lent_memory_is_split_in_place() {
        let bytes = *b"hello";
        let descriptor = sys::QUIC_BUFFER { Length: 5, Buffer: bytes.as_ptr().cast_mut() };
        let mut lent = Lent::from_descriptor(&descriptor);
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
