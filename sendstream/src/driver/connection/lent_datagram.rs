//! What MsQuic holds of a datagram, and what DATAGRAM_SEND_STATE_CHANGED brings back.

use std::ptr::NonNull;

use sendstream_core::datagrams::{DatagramId, SendChange};
use sendstream_sys as sys;

use crate::driver::stream::buffer::Buffer;

/// What a datagram's `ClientContext` points to, from `DatagramSend` until its final state.
///
/// The context outlives the memory: MsQuic reads the buffers for the last time when it writes the
/// packet, right before it says SENT, and names the datagram by its context until the state is
/// final. So the payload is given up at SENT, and not a round trip or, for a lost datagram, several
/// probe timeouts later.
#[derive(Debug)]
pub(crate) struct LentDatagram {
    id: DatagramId,
    /// From [`Buffer::into_raw`]; `None` once it was taken back.
    buffer: Option<NonNull<Buffer>>,
}

impl LentDatagram {
    /// The datagram `id`, whose bytes are in `buffer`.
    pub(super) fn new(id: DatagramId, buffer: Box<Buffer>) -> Self {
        Self { id, buffer: Some(buffer.into_raw()) }
    }

    /// Lends it to C: the pointer is what DATAGRAM_SEND_STATE_CHANGED brings back as
    /// `ClientContext`. It is never null, which for MsQuic would mean that nobody wants to hear of
    /// the datagram's loss.
    pub(super) fn into_raw(self) -> NonNull<Self> {
        NonNull::from(Box::leak(Box::new(self)))
    }

    /// Takes back what `change` gives back: the payload with the first, and with the last the
    /// context itself. The payload is for the caller to drop where foreign code may run.
    ///
    /// # Safety
    ///
    /// `context` came from [`Self::into_raw`], nobody else uses it now, and no call with a final
    /// change came before.
    pub(crate) unsafe fn on_change(context: NonNull<Self>, change: SendChange) -> (DatagramId, Option<Box<Buffer>>) {
        // SAFETY: the context lives until the final change, as the caller promises, and is ours
        // alone now.
        let lent = unsafe { &mut *context.as_ptr() };
        let id = lent.id;
        // SAFETY: it came from `Buffer::into_raw`; `take` lets it be taken back once. MsQuic has
        // copied the bytes into a packet (SENT), or will never send them (CANCELED), which are the
        // only two that come first.
        let buffer = lent.buffer.take().map(|buffer| unsafe { Buffer::from_raw(buffer) });
        if change.is_final() {
            // SAFETY: `into_raw` leaked this box, and MsQuic does not name a datagram again after
            // its final state.
            drop(unsafe { Box::from_raw(context.as_ptr()) });
        }
        (id, buffer)
    }
}

/// The change behind a `QUIC_DATAGRAM_SEND_STATE`. `None` for one that a later MsQuic adds: whether
/// it is final cannot be known, so nothing is given up for it.
pub(crate) fn send_change(state: sys::QUIC_DATAGRAM_SEND_STATE) -> Option<SendChange> {
    match state {
        sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_SENT => Some(SendChange::Sent),
        sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_LOST_SUSPECT => Some(SendChange::LostSuspect),
        sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_LOST_DISCARDED => Some(SendChange::LostDiscarded),
        sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_ACKNOWLEDGED => Some(SendChange::Acknowledged),
        sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_ACKNOWLEDGED_SPURIOUS => {
            Some(SendChange::AcknowledgedSpurious)
        }
        sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_CANCELED => Some(SendChange::Canceled),
        _ => None,
    }
}
