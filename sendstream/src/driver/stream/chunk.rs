//! [`RecvChunk`]: a piece of a stream in the user's hands.

use std::{mem, ops::Deref, sync::Arc};

use bytes::Bytes;
use sendstream_core::stream::recv_state::{Piece as _, Taken};

use crate::{
    driver::stream::{buffer::Lent, owner::StreamInstance},
    native::fork::is_forked,
};

/// A piece of a stream, in MsQuic's own memory. MsQuic has the memory back when the chunk is
/// dropped (`StreamReceiveComplete`).
///
/// You may keep any number of chunks, of any number of streams, for as long as you like, and drop
/// them in any order: the peer can go on. A chunk may outlive its stream, its connection and its
/// server.
///
/// # What keeping costs
///
/// A chunk that is dropped before much more is read costs nothing: MsQuic uses its memory again. While
/// it lives its bytes count against the receive windows, but only up to a quarter of each window: the
/// smallest that the connection's streams have ([`stream_receive_window`]) for all chunks of a stream,
/// and the connection's ([`connection_flow_control_window`]) for those of all streams together. Beyond
/// that, and at the end of a stream, the peer gets credit for what is still kept, nothing is copied,
/// and MsQuic goes on with a new block of memory. The old one is freed with the last chunk in it.
/// Once the process's [memory budget](crate::process::set_memory_budget) has had windows shrink, that
/// is so from 4 KiB on.
///
/// For a chunk larger than a quarter of the connection's window the peer gets credit as soon as you
/// have it.
///
/// So who collects a whole stream holds about as much memory as it has bytes. Who keeps one small
/// chunk may hold a whole block. A block has up to as many bytes as the stream's window has grown to,
/// and a window grows on a fast path, to at most about the connection's. Each chunk also holds what is
/// left of its stream, and of its connection in MsQuic: some kilobytes for each connection of which
/// you keep a chunk, until you drop the last. So copy a few bytes that are to live long.
///
/// A piece of at most 2 KiB may be copied instead, if it comes when everything before it was read. A
/// copy costs less than giving the memory back. Such a chunk holds nothing of MsQuic's, and counts as
/// read. With an installed libmsquic, which lacks the edit `received-memory-kept`, every chunk is a
/// copy.
///
/// [`stream_receive_window`]: crate::TransportConfig::stream_receive_window
/// [`connection_flow_control_window`]: crate::TransportConfig::connection_flow_control_window
#[derive(Debug)]
pub struct RecvChunk(Memory);

/// Where the bytes are.
#[derive(Debug)]
enum Memory {
    /// In MsQuic's memory. The state counts the piece as handed out, under its number, from `take`
    /// until `drop`, or until it gives the piece back early and keeps its block.
    Lent { lent: Lent, number: u64, instance: Arc<StreamInstance> },
    /// In memory of its own.
    Copied(Bytes),
}

impl RecvChunk {
    /// What the state of `instance` handed out.
    pub(super) fn new(taken: Taken<Lent>, instance: &Arc<StreamInstance>) -> Self {
        Self(match taken {
            Taken::Lent { lent, number } => Memory::Lent { lent, number, instance: instance.clone() },
            Taken::Copied(bytes) => Memory::Copied(bytes),
        })
    }

    /// The chunk for a user, who may keep it. It is copied where MsQuic's memory cannot be kept.
    pub(crate) fn into_kept(self) -> Self {
        match &self.0 {
            Memory::Lent { lent, .. } if lent.block().is_none() => Self(Memory::Copied(Bytes::copy_from_slice(&self))),
            Memory::Lent { .. } | Memory::Copied(_) => self,
        }
    }
}

impl Deref for RecvChunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: until `drop` this piece counts as handed out, so that nobody closes the handle
            // while `self` holds the instance. Or the state gave it back, and has kept its block for
            // it.
            Memory::Lent { lent, .. } => unsafe { lent.as_slice() },
            Memory::Copied(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for RecvChunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Without a copy: the memory is given back when the last clone of the `Bytes` is dropped, as that of
/// the [chunk](RecvChunk) would be.
impl From<RecvChunk> for Bytes {
    fn from(mut chunk: RecvChunk) -> Self {
        match &mut chunk.0 {
            Memory::Lent { .. } => Self::from_owner(chunk),
            Memory::Copied(bytes) => mem::take(bytes),
        }
    }
}

impl Drop for RecvChunk {
    fn drop(&mut self) {
        let Memory::Lent { lent, number, instance } = &self.0 else { return };
        if is_forked() {
            return;
        }
        if instance.give_back(*number)
            && let Some(block) = lent.block()
        {
            // SAFETY: the state kept it when it gave this piece back, and no other piece's drop
            // releases it for this one.
            unsafe { block.release() };
        }
    }
}
