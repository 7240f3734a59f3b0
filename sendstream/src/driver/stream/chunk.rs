//! [`RecvChunk`]: a piece of a stream in the user's hands.

use std::{mem, ops::Deref, sync::Arc};

use bytes::Bytes;
use sendstream_core::stream::recv_state::Taken;

use crate::driver::stream::{buffer::Lent, owner::StreamInstance};

/// A piece of a stream, in MsQuic's own memory. MsQuic has the memory back when the chunk is
/// dropped (`StreamReceiveComplete`).
///
/// It may outlive its stream, its connection and its server. While it lives its bytes count against
/// the stream's receive window, and the stream's native handle stays open. A piece of at most 2 KiB
/// may be copied instead, if it comes when everything before it was read. A copy costs less than
/// giving the memory back. Such a chunk holds nothing of MsQuic's, and counts as read.
#[derive(Debug)]
pub struct RecvChunk(Memory);

/// Where the bytes are.
#[derive(Debug)]
enum Memory {
    /// In MsQuic's memory. The state counts the piece as handed out, under its number, from `take`
    /// until `drop`.
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
}

impl Deref for RecvChunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: this piece is given back by `drop` only; until then it counts as handed out,
            // so that the handle is left to the last reference to the instance, of which `self` has
            // one.
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

/// Without a copy: the memory is given back when the last clone of the `Bytes` is dropped.
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
        if let Memory::Lent { number, instance, .. } = &self.0 {
            instance.give_back(*number);
        }
    }
}
