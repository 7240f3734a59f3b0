//! What the benches in `bench/micro` cannot reach from outside: a stream without a connection, to
//! which they say what MsQuic would. Compiled for them only.

use std::task::{Context, Poll};

use bytes::Bytes;
use sendstream_core::{dir::Dir, stream::recv_state::Taken};
use sendstream_sys as sys;

use crate::{
    driver::{
        callback::Next,
        stream::{
            buffer::Buffer,
            events::{StreamInner, StreamInnerExclusive},
        },
    },
    send_stream::WriteError,
    types::payload::Payload,
};

/// A stream that this side opened.
#[derive(Debug)]
pub struct Stream(StreamInner);

/// A buffer that MsQuic would hold now.
#[derive(Debug)]
#[must_use = "it is freed by `Stream::complete`"]
pub struct Lent(std::ptr::NonNull<Buffer>);

impl Stream {
    /// Not started yet.
    pub fn open() -> Self {
        let state = StreamInnerExclusive::local(Dir::Bi, None);
        Self(StreamInner::new(state, None, tracing::Span::none()))
    }

    /// Started and admitted.
    pub fn started() -> Self {
        let stream = Self::open();
        stream.0.lock().begin_start().expect("a fresh stream starts");
        stream.start_complete();
        stream
    }

    /// START_COMPLETE.
    pub fn start_complete(&self) {
        returned(&self.0.handle_event_start_complete(Ok(()), 4, true));
    }

    /// What a send does up to `StreamSend`, and the number of operations that are then to be
    /// acknowledged.
    pub fn submit(&self, data: Bytes, fin: bool) -> (Lent, u64) {
        let payload = Payload::from(data);
        let submission = self.0.lock().begin_send(payload.len(), fin.into()).expect("data may be sent");
        (Lent(Buffer::new(payload).into_raw()), submission.end())
    }

    /// SEND_COMPLETE of an acknowledged send.
    pub fn complete(&self, lent: Lent) {
        // SAFETY: only `submit` makes a `Lent`, of what `into_raw` gave, and this takes it away.
        returned(&unsafe { self.0.handle_event_send_complete(lent.0.as_ptr().cast(), false) });
    }

    /// What awaiting a send does.
    pub fn poll_acked(&self, operations: u64, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.0.lock().poll_acked(operations, cx).map_err(WriteError::from)
    }

    /// What `write_chunk` does first.
    pub fn poll_window(&self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.0.lock().poll_window(cx).map_err(WriteError::from)
    }

    /// RECEIVE.
    pub fn receive(&self, data: &'static [u8], fin: bool) {
        let length = u32::try_from(data.len()).expect("benches lend little");
        let piece = sys::QUIC_BUFFER { Length: length, Buffer: data.as_ptr().cast_mut() };
        returned(&self.0.handle_event_receive(&[piece], fin.into(), |_| None));
    }

    /// What `read_chunk` does, and giving the piece back: how many bytes that frees.
    pub fn read(&self, cx: &mut Context<'_>) -> Poll<u64> {
        let Poll::Ready(taken) = self.0.lock().recv().poll_take(usize::MAX, cx) else { return Poll::Pending };
        let taken = taken.expect("nothing fails here").expect("the stream has not ended");
        let Taken::Lent { number, .. } = taken else { unreachable!("`receive` lends") };
        Poll::Ready(self.0.lock().recv().give_back(number).expect("it is out"))
    }

    /// SEND_SHUTDOWN_COMPLETE after an acknowledged FIN, then SHUTDOWN_COMPLETE.
    pub fn shutdown_complete(&self) {
        returned(&self.0.handle_event_send_shutdown_complete(true));
        assert_eq!(self.0.handle_event_shutdown_complete(None), Next::Release);
    }
}

fn returned(next: &Next) {
    assert!(matches!(next, Next::Return(_)));
}
