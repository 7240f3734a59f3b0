//! Sending datagrams: `DatagramSend`.

use sendstream_core::{
    datagrams::{DatagramId, Refused, SendChange},
    foreign::contain,
};
use sendstream_sys as sys;

use crate::{
    driver::{
        connection::{lent_datagram::LentDatagram, owner::ConnectionInstance},
        stream::buffer::Buffer,
        wakes::Wake as _,
    },
    native::api::call,
    types::{
        error::{ConnectionError, NativeError},
        payload::Payload,
    },
};

/// Why a datagram was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// By what is known of the connection.
    Refused(Refused<ConnectionError>),
    /// By MsQuic.
    Native(NativeError),
}

impl ConnectionInstance {
    /// Submits `payload`, now. What is refused is dropped.
    pub(crate) fn send_datagram(&self, payload: Payload) -> Result<DatagramId, NotTaken> {
        let id = self.inner().datagrams().begin_send(payload.len()).map_err(NotTaken::Refused)?;
        self.submit_datagram(id, payload)
    }

    /// Submits `payload`, which `id` was begun for.
    pub(crate) fn submit_datagram(&self, id: DatagramId, payload: Payload) -> Result<DatagramId, NotTaken> {
        let size = payload.len();
        self.native_send_datagram(id, payload).map_err(|status| {
            let (wakeups, waker) = self.inner().datagrams().on_refused(id, size);
            drop(waker);
            wakeups.wake();
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
        let context = LentDatagram::new(id, buffer).into_raw();
        let flags = sys::QUIC_SEND_FLAGS_QUIC_SEND_FLAG_NONE;
        // SAFETY: the handle is open, because `self` is alive; the descriptors and the bytes live
        // in the buffer behind `context`, untouched until SENT or CANCELED brings it back, or until
        // the failure below.
        let status =
            unsafe { call!(DatagramSend(self.handle().raw(), buffers, count, flags, context.as_ptr().cast())) };
        NativeError::check(status).inspect_err(|_| {
            // SAFETY: `context` came from `into_raw` just above, and a refused datagram brings no
            // event.
            let (_, buffer) = unsafe { LentDatagram::on_change(context, SendChange::Canceled) };
            contain("the owner of a buffer", || drop(buffer));
        })
    }

    /// What stands behind a refusal by MsQuic: something changed since `begin_send` looked.
    fn why_refused(&self, size: u64, status: NativeError) -> NotTaken {
        if let Some(cause) = self.inner().cause() {
            return NotTaken::Refused(Refused::Lost(cause));
        }
        match self.inner().datagrams().max_size() {
            None => NotTaken::Refused(Refused::UnsupportedByPeer),
            Some(max) if size > max as u64 => NotTaken::Refused(Refused::TooLarge { max }),
            Some(_) => NotTaken::Native(status),
        }
    }
}
