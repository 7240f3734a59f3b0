//! The short paths that every message goes through, each as a function over a stream without a
//! connection: what is measured is Sendstream's own work, and no native call.
//!
//! `benches/time.rs` measures how long they take, `benches/instructions.rs` counts their
//! instructions, which no noise moves. Built with `--cfg benching`, which opens what they need:
//! `make bench-micro`.
#![cfg(benching)]

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use sendstream::benching::{Lent, Stream};

/// 1 KiB.
pub static MESSAGE: [u8; 1024] = [7; 1024];

/// A send up to the native call: room is looked for, the state says yes, the buffer is boxed.
pub fn submit(stream: &Stream) -> Lent {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(stream.poll_window(&mut cx).is_ready());
    stream.submit(Bytes::from_static(&MESSAGE), false).0
}

/// A send that nobody waits for is acknowledged.
pub fn complete(stream: &Stream, lent: Lent) {
    stream.complete(lent);
}

/// A started stream with a send under way that `waker`'s task waits for.
pub fn awaited(waker: &Waker) -> (Stream, Lent) {
    let stream = Stream::started();
    let (lent, operations) = stream.submit(Bytes::from_static(&MESSAGE), false);
    assert!(stream.poll_acked(operations, &mut Context::from_waker(waker)).is_pending());
    (stream, lent)
}

/// The acknowledgement wakes the task, which looks.
pub fn complete_and_wake(stream: &Stream, lent: Lent) {
    stream.complete(lent);
    assert!(matches!(stream.poll_acked(1, &mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(()))));
}

/// Data comes for a task that waits, which is woken, reads, and gives it back.
pub fn receive_and_read(stream: &Stream, waker: &Waker) {
    assert!(stream.read(&mut Context::from_waker(waker)).is_pending());
    stream.receive(&MESSAGE, false);
    assert_eq!(stream.read(&mut Context::from_waker(waker)), Poll::Ready(MESSAGE.len() as u64));
}

/// The whole life of a stream that carries one message: opened, submitted with start and FIN,
/// awaited, acknowledged, over.
pub fn one_message(waker: &Waker) {
    let stream = Stream::open();
    let (lent, operations) = stream.submit(Bytes::from_static(&MESSAGE), true);
    assert!(stream.poll_acked(operations, &mut Context::from_waker(waker)).is_pending());
    stream.start_complete();
    stream.complete(lent);
    assert!(stream.poll_acked(operations, &mut Context::from_waker(waker)).is_ready());
    stream.shutdown_complete();
}

/// A task that is woken and does nothing.
pub fn task() -> Waker {
    struct Task;
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    Waker::from(Arc::new(Task))
}
