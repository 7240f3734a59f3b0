//! Wakers that act inside the wake, on MsQuic's own thread: they drop the last handle, send, abort,
//! close. Run it under AddressSanitizer with `make test-asan`.

mod support;

use std::{
    sync::{Arc, Mutex, mpsc},
    task::{Wake, Waker},
};

use bytes::Bytes;
use sendstream::{Connection, RecvStream, SendStream};
use support::{Pair, panicking, poll_with, run};

type Action = Box<dyn FnOnce() + Send>;

/// A waker that runs an action, once, inside the wake.
struct Acting {
    action: Mutex<Option<Action>>,
    done: mpsc::SyncSender<std::thread::ThreadId>,
}

impl Wake for Acting {
    fn wake(self: Arc<Self>) {
        let action = self.action.lock().unwrap().take();
        if let Some(action) = action {
            action();
            let _ = self.done.send(std::thread::current().id());
        }
    }
}

/// A waker that runs `action`, and what tells that it ran.
fn acting(action: impl FnOnce() + Send + 'static) -> (Waker, mpsc::Receiver<std::thread::ThreadId>) {
    let (done, ran) = mpsc::sync_channel(1);
    (Waker::from(Arc::new(Acting { action: Mutex::new(Some(Box::new(action))), done })), ran)
}

/// Waits until the action ran; on another thread than this, as it must be.
fn ran_on_msquics_thread(ran: &mpsc::Receiver<std::thread::ThreadId>) {
    let thread = ran.recv_timeout(support::HANG).expect("the waker is woken");
    assert_ne!(thread, std::thread::current().id());
}

/// A stream on which something is in flight, and the other side's half of it.
async fn busy(pair: &Pair) -> (SendStream, RecvStream) {
    let mut send = pair.client.open_uni().unwrap();
    send.send("begun").await.unwrap();
    let recv = pair.server.accept_uni().await.unwrap();
    // More than the peer's window, so that it is in flight until somebody reads.
    drop(send.send(vec![7; 4 << 20]));
    (send, recv)
}

async fn read_to_end(mut recv: RecvStream) -> usize {
    let mut read = 0;
    while let Ok(Some(chunk)) = recv.read_chunk().await {
        read += chunk.len();
    }
    read
}

/// Leaves an acknowledgement pending on a stream with a waker that does `act` to the stream when it
/// comes.
async fn on_acknowledgement(act: impl FnOnce(&mut Option<SendStream>, &Connection) + Send + 'static) {
    let pair = Pair::new().await;
    let (mut send, recv) = busy(&pair).await;
    let connection = pair.client.clone();
    let shared = Arc::new(Mutex::new(None::<SendStream>));
    let (waker, ran) = acting({
        let shared = shared.clone();
        move || {
            let mut stream = shared.lock().unwrap().take();
            act(&mut stream, &connection);
        }
    });
    // The stream can be parked for the waker only when no future borrows it: the state keeps the
    // waker.
    assert!(poll_with(&waker, std::pin::pin!(send.acked())).is_pending());
    *shared.lock().unwrap() = Some(send);
    let read = std::thread::spawn(move || futures::executor::block_on(read_to_end(recv)));
    ran_on_msquics_thread(&ran);
    drop(waker);
    pair.client.close(1, "").unwrap();
    read.join().unwrap();
    pair.end().await;
}

#[test]
fn a_waker_may_drop_the_last_handle_of_the_stream() {
    for _ in 0..50 {
        run(on_acknowledgement(|stream, _| drop(stream.take())));
    }
}

#[test]
fn a_waker_may_send_and_finish() {
    for _ in 0..50 {
        run(on_acknowledgement(|stream, _| {
            let stream = stream.as_mut().unwrap();
            for _ in 0..10 {
                drop(stream.send(vec![1; 1000]));
            }
            stream.finish().unwrap();
        }));
    }
}

#[test]
fn a_waker_may_abort() {
    for _ in 0..50 {
        run(on_acknowledgement(|stream, _| stream.as_mut().unwrap().abort(3).unwrap()));
    }
}

#[test]
fn a_waker_may_open_and_drop_streams() {
    for _ in 0..50 {
        run(on_acknowledgement(|_, connection| {
            drop(connection.open_uni().unwrap());
            drop(connection.open_bi().unwrap());
            let mut stream = connection.open_uni().unwrap();
            drop(stream.finish_with(Bytes::from_static(b"from inside")));
        }));
    }
}

#[test]
fn a_waker_may_close_the_connection() {
    for _ in 0..50 {
        run(on_acknowledgement(|_, connection| connection.close(5, "from a waker").unwrap()));
    }
}

#[test]
fn a_waker_may_drop_the_last_handle_of_everything() {
    for round in 0..50 {
        run(async move {
            let Pair { client, server, endpoints } = Pair::new().await;
            let registered = Arc::new(Mutex::new(None));
            let (waker, ran) = acting({
                let registered = registered.clone();
                move || drop(registered.lock().unwrap().take())
            });
            let mut send = client.open_uni().unwrap();
            // A short message may be acknowledged before or after the waker is there. More than the
            // peer's window is not while nobody reads.
            let short = round % 2 == 0;
            drop(send.send(vec![7; if short { 1 } else { 4 << 20 }]));
            assert!(poll_with(&waker, std::pin::pin!(send.acked())).is_pending() || short);
            // Whichever event comes first finds everything in the waker's hands.
            let mut closed = Box::pin({
                let client = client.clone();
                async move { client.closed().await }
            });
            let _ = poll_with(&waker, closed.as_mut());
            *registered.lock().unwrap() = Some((send, client, endpoints, closed));
            // If the acknowledgement came before it was parked, the end of the connection finds it
            // there.
            server.close(9, "").unwrap();
            ran_on_msquics_thread(&ran);
            drop(server);
        });
    }
}

#[test]
fn a_waker_may_read_and_drop_the_reader() {
    for _ in 0..50 {
        run(async {
            let pair = Pair::new().await;
            let mut send = pair.client.open_uni().unwrap();
            send.send("x").await.unwrap();
            let mut recv = pair.server.accept_uni().await.unwrap();
            recv.read_chunk().await.unwrap();
            let shared = Arc::new(Mutex::new(None::<RecvStream>));
            let (waker, ran) = acting({
                let shared = shared.clone();
                move || {
                    let mut recv = shared.lock().unwrap().take().unwrap();
                    let chunk = futures::executor::block_on(recv.read_chunk()).unwrap().unwrap();
                    drop(recv);
                    assert_eq!(&chunk[..], b"inside");
                }
            });
            assert!(poll_with(&waker, std::pin::pin!(recv.read_chunk())).is_pending());
            *shared.lock().unwrap() = Some(recv);
            drop(send.send("inside"));
            ran_on_msquics_thread(&ran);
            drop(send);
            pair.end().await;
        });
    }
}

#[test]
fn a_panicking_waker_fails_its_stream_and_nothing_else() {
    run(async {
        let pair = Pair::new().await;
        let (mut send, recv) = busy(&pair).await;
        let (panicking, woken) = panicking();
        assert!(poll_with(&panicking, std::pin::pin!(send.acked())).is_pending());
        let read = std::thread::spawn(move || futures::executor::block_on(read_to_end(recv)));
        woken.recv_timeout(support::HANG).unwrap();
        // The stream is shut down for it, which ends its next wait with an error.
        while send.send("x").await.is_ok() {}
        send.finished().await.unwrap_err();
        read.join().unwrap();
        let mut other = pair.client.open_uni().unwrap();
        other.finish_with("the connection lives on").await.unwrap();
        drop((send, other));
        pair.end().await;
    });
}

#[test]
fn a_waker_that_owns_the_stream_may_be_replaced() {
    /// Owns the stream that it is registered with.
    struct Owner(#[expect(dead_code, reason = "it is only owned")] Mutex<Option<RecvStream>>);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }
    run(async {
        let pair = Pair::new().await;
        let mut send = pair.client.open_uni().unwrap();
        send.send("x").await.unwrap();
        let mut recv = pair.server.accept_uni().await.unwrap();
        recv.read_chunk().await.unwrap();
        let reset = recv.received_reset();
        let mut reset = std::pin::pin!(reset);
        let owner = Waker::from(Arc::new(Owner(Mutex::new(Some(recv)))));
        assert!(poll_with(&owner, reset.as_mut()).is_pending());
        drop(owner);
        // The state holds the last reference to the owner now. Replacing it drops the stream, which
        // looks at the state.
        assert!(poll_with(Waker::noop(), reset.as_mut()).is_ready() || poll_with(Waker::noop(), reset).is_ready());
        drop(send);
        pair.end().await;
    });
}

#[test]
fn a_panicking_waker_of_a_shutdown_does_not_take_the_process_along() {
    for _ in 0..20 {
        run(async {
            let Pair { client, server, endpoints } = Pair::new().await;
            let (panicking, woken) = panicking();
            let mut idle = Box::pin(endpoints.client.wait_idle());
            assert!(poll_with(&panicking, idle.as_mut()).is_pending());
            drop((client, server));
            woken.recv_timeout(support::HANG).unwrap();
            drop(idle);
            endpoints.end().await;
        });
    }
}
