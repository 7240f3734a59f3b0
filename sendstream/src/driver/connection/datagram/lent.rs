//! The way of a datagram through MsQuic: `DatagramSend`, and what DATAGRAM_SEND_STATE_CHANGED brings back.

use std::ptr::NonNull;

use sendstream_core::foreign::contain;
use sendstream_sys as sys;

use crate::{
    datagram::SendDatagramError,
    driver::{
        connection::{
            datagram::{DatagramId, SendChange},
            owner::ConnectionInstance,
        },
        stream::buffer::Buffer,
    },
    native::api::call,
    types::{error::NativeError, payload::Payload},
};

/// What a datagram's `ClientContext` points to, from `DatagramSend` until its final state.
///
/// The context outlives the memory: MsQuic reads the buffers for the last time when it writes the packet, right before it
/// says SENT, and names the datagram by its context until the state is final. So the payload is given up at SENT, and not
/// a round trip or, for a lost datagram, several probe timeouts later.
#[derive(Debug)]
pub(crate) struct LentDatagram {
    id: DatagramId,
    /// From [`Buffer::into_raw`]; `None` once it was taken back.
    buffer: Option<NonNull<Buffer>>,
}

impl LentDatagram {
    /// Lends it to C: the pointer is what DATAGRAM_SEND_STATE_CHANGED brings back as `ClientContext`. It is never null,
    /// which for MsQuic would mean that nobody wants to hear of the datagram's loss.
    fn into_raw(self) -> NonNull<Self> {
        NonNull::from(Box::leak(Box::new(self)))
    }

    /// Takes back what `change` gives back: the payload with the first, and with the last the context itself. The payload
    /// is for the caller to drop where foreign code may run.
    ///
    /// # Safety
    ///
    /// `context` came from [`Self::into_raw`], nobody else uses it now, and no call with a final change came before.
    pub(crate) unsafe fn on_change(context: NonNull<Self>, change: SendChange) -> (DatagramId, Option<Box<Buffer>>) {
        // SAFETY: the context lives until the final change, as the caller promises, and is ours alone now.
        let lent = unsafe { &mut *context.as_ptr() };
        let id = lent.id;
        // SAFETY: it came from `Buffer::into_raw`; `take` lets it be taken back once. MsQuic has copied the bytes into a
        // packet (SENT), or will never send them (CANCELED), which are the only two that come first.
        let buffer = lent.buffer.take().map(|buffer| unsafe { Buffer::from_raw(buffer) });
        if change.is_final() {
            // SAFETY: `into_raw` leaked this box, and MsQuic does not name a datagram again after its final state.
            drop(unsafe { Box::from_raw(context.as_ptr()) });
        }
        (id, buffer)
    }
}

impl SendChange {
    /// The change behind a `QUIC_DATAGRAM_SEND_STATE`. `None` for one that a later MsQuic adds: whether it is final cannot be
    /// known, so nothing is given up for it.
    pub(crate) fn from_native(state: sys::QUIC_DATAGRAM_SEND_STATE) -> Option<Self> {
        match state {
            sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_SENT => Some(Self::Sent),
            sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_LOST_SUSPECT => Some(Self::LostSuspect),
            sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_LOST_DISCARDED => Some(Self::LostDiscarded),
            sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_ACKNOWLEDGED => Some(Self::Acknowledged),
            sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_ACKNOWLEDGED_SPURIOUS => Some(Self::AcknowledgedSpurious),
            sys::QUIC_DATAGRAM_SEND_STATE_QUIC_DATAGRAM_SEND_CANCELED => Some(Self::Canceled),
            _ => None,
        }
    }
}

impl ConnectionInstance {
    /// Submits `payload`, now. What is refused is dropped.
    pub(crate) fn send_datagram(&self, payload: Payload) -> Result<DatagramId, SendDatagramError> {
        let size = payload.len();
        let id = self.inner().datagrams().begin_send(size)?;
        self.native_send_datagram(id, payload).map_err(|status| {
            let waker = self.inner().datagrams().forget(id);
            drop(waker);
            self.why_refused(size, status)
        })?;
        tracing::trace!(parent: self.inner().span(), ?id, bytes = size, "datagram submitted");
        Ok(id)
    }

    /// `DatagramSend`, which only queues: no event comes inside of it. What it refuses is dropped.
    fn native_send_datagram(&self, id: DatagramId, payload: Payload) -> Result<(), NativeError> {
        // MsQuic refuses a list without an entry, though not an empty datagram.
        let buffer = Buffer::new(if payload.is_empty() { Payload::empty() } else { payload });
        let (buffers, count) = (buffer.get_buffers().as_ptr(), buffer.get_buffers().len() as u32);
        let context = LentDatagram { id, buffer: Some(buffer.into_raw()) }.into_raw();
        let flags = sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_NONE;
        // SAFETY: the handle is open, because `self` is alive; the descriptors and the bytes live in the buffer behind
        // `context`, untouched until SENT or CANCELED brings it back, or until the failure below.
        let status =
            unsafe { call!(DatagramSend(self.handle().raw(), buffers, count, flags, context.as_ptr().cast())) };
        NativeError::check(status).inspect_err(|_| {
            // SAFETY: `context` came from `into_raw` just above, and a refused datagram brings no event.
            let (_, buffer) = unsafe { LentDatagram::on_change(context, SendChange::Canceled) };
            contain("the owner of a buffer", || drop(buffer));
        })
    }

    /// What stands behind a refusal by MsQuic: something changed since `begin_send` looked.
    fn why_refused(&self, size: u64, status: NativeError) -> SendDatagramError {
        if let Some(cause) = self.inner().cause() {
            return SendDatagramError::ConnectionLost(cause);
        }
        match self.inner().datagrams().max_size() {
            None => SendDatagramError::UnsupportedByPeer,
            Some(max) if size > max as u64 => SendDatagramError::TooLarge { max },
            Some(_) => SendDatagramError::Native(status),
        }
    }
}
