//! HTTP datagrams (RFC 9297): [`h3_datagram`]'s traits.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use h3::quic::ConnectionErrorIncoming;
use h3_datagram::{
    datagram::EncodedDatagram,
    quic_traits::{DatagramConnectionExt, RecvDatagram, SendDatagram, SendDatagramErrorIncoming},
};

use crate::{
    connection::{Connection, Link},
    error,
};

impl<B: Buf> DatagramConnectionExt<B> for Connection {
    type SendDatagramHandler = SendDatagrams;
    type RecvDatagramHandler = RecvDatagrams;

    fn send_datagram_handler(&self) -> SendDatagrams {
        SendDatagrams(self.link().clone())
    }

    fn recv_datagram_handler(&self) -> RecvDatagrams {
        RecvDatagrams(self.link().clone())
    }
}

/// Sends datagrams for h3: [`SendDatagram`].
///
/// Each is copied: it has at most as many bytes as a packet. Nobody learns its fate.
pub struct SendDatagrams(Link);

impl<B: Buf> SendDatagram<B> for SendDatagrams {
    fn send_datagram<T: Into<EncodedDatagram<B>>>(&mut self, data: T) -> Result<(), SendDatagramErrorIncoming> {
        let Link::Connected(connection) = &self.0 else { return Err(SendDatagramErrorIncoming::NotAvailable) };
        let mut data = data.into();
        let length = data.remaining();
        let sent = connection.send_datagram(data.copy_to_bytes(length));
        sent.refusal().map_or(Ok(()), |refusal| Err(error::datagram(refusal.clone())))
    }
}

/// Receives datagrams for h3: [`RecvDatagram`]. It wakes the task that polled last.
pub struct RecvDatagrams(Link);

impl RecvDatagram for RecvDatagrams {
    type Buffer = Bytes;

    fn poll_incoming_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ConnectionErrorIncoming>> {
        match &self.0 {
            Link::Connected(connection) => connection.poll_read_datagram(cx).map_err(error::connection),
            Link::Early(_) => Poll::Ready(Err(ConnectionErrorIncoming::Undefined(Arc::new(NoDatagrams)))),
        }
    }
}

/// Why a connection for early data gives no datagrams.
#[derive(Debug, thiserror::Error)]
#[error("a connection for early data has no datagrams")]
struct NoDatagrams;
