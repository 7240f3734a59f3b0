//! What the application hands in may panic wherever Sendstream runs it: wakers, verifiers, owners
//! of buffers, the log's subscriber. The process lives on, and what was hit ends with an error. Run
//! it under AddressSanitizer with `make test-asan`.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    pin::pin,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Wake, Waker},
    thread,
};

use bytes::Bytes;
use futures::FutureExt;
use sendstream::{
    CertificateRefusal, ClientAuth, ConnectError, ConnectionError, DatagramFate, Registration, SendDatagramError,
    TransportConfig, Trust, WriteError,
};
use support::{Endpoints, HANG, Pair, accept, any_port, figure, panicking, poll_with, run};

/// Bytes whose owner panics when they are given up, and how often that was.
fn bomb(length: usize) -> (Bytes, Arc<AtomicUsize>) {
    struct Owner(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
            panic!("this owner panics, as the test wants");
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    (Bytes::from_owner(Owner(vec![7; length], dropped.clone())), dropped)
}

/// Panics when it is dropped.
struct PanicOnDrop(Arc<AtomicUsize>);

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("this destructor panics, as the test wants");
    }
}

fn datagrams() -> TransportConfig {
    TransportConfig::default().datagram_receive_buffer(1 << 16)
}

// ---- Wakers -------------------------------------------------------------------------------------

#[test]
fn wakers_that_all_panic_end_their_connection_and_its_peer_is_told() {
    run(async {
        let pair = Pair::new().await;
        let (waker, woken) = panicking();
        let mut accept = Box::pin(pair.server.accept_uni());
        let mut accept_bi = Box::pin(pair.server.accept_bi());
        let mut closed = Box::pin(pair.server.closed());
        assert!(poll_with(&waker, accept.as_mut()).is_pending());
        assert!(poll_with(&waker, accept_bi.as_mut()).is_pending());
        assert!(poll_with(&waker, closed.as_mut()).is_pending());
        let mut send = pair.client.open_uni().unwrap();
        drop(send.send("x"));
        // Once for the stream, and once because the connection is ended for it.
        for _ in 0..2 {
            woken.recv_timeout(HANG).unwrap();
        }
        assert!(matches!(pair.server.closed().await, ConnectionError::LocallyClosed { .. }));
        assert!(matches!(pair.client.closed().await, ConnectionError::ApplicationClosed { .. }));
        figure("3 wakers that panic: their connection ended with an error, at both ends");
        drop((send, accept, accept_bi, closed));
        pair.end().await;
    });
}

#[test]
fn a_close_whose_waker_panics_still_closes() {
    run(async {
        let pair = Pair::new().await;
        let (waker, _woken) = panicking();
        let mut closed = Box::pin(pair.server.closed());
        assert!(poll_with(&waker, closed.as_mut()).is_pending());
        catch_unwind(AssertUnwindSafe(|| pair.server.close(5, ""))).unwrap_err();
        let cause = pair.client.closed().await;
        assert!(matches!(cause, ConnectionError::ApplicationClosed { code: 5, .. }), "{cause}");
        drop(closed);
        pair.end().await;
    });
}

#[test]
fn a_panicking_waker_keeps_no_other_stream_from_learning_of_the_end() {
    run(async {
        let pair = Pair::new().await;
        let (waker, woken) = panicking();
        let mut closed = Box::pin(pair.client.closed());
        assert!(poll_with(&waker, closed.as_mut()).is_pending());
        // Streams that never started learn of it from the connection only.
        let streams: Vec<_> = (0..10).map(|_| pair.client.open_uni().unwrap()).collect();
        let mut first = Box::pin(streams[0].stopped());
        assert!(poll_with(&waker, first.as_mut()).is_pending());
        let mut rest = Box::pin(futures::future::join_all(streams[1..].iter().map(|stream| stream.stopped())));
        assert!(poll_with(Waker::noop(), rest.as_mut()).is_pending());
        pair.server.close(4, "").unwrap();
        woken.recv_timeout(HANG).unwrap();
        for answer in rest.as_mut().await {
            assert!(matches!(answer, Err(ConnectionError::ApplicationClosed { code: 4, .. })), "{answer:?}");
        }
        drop((closed, first, rest, streams));
        pair.end().await;
    });
}

#[test]
fn a_panicking_waker_does_not_keep_a_server_listening() {
    run(async {
        let registration = Registration::new().unwrap();
        let server = support::server(&support::identity()).registration(&registration).bind(any_port()).unwrap();
        let (waker, woken) = panicking();
        {
            let mut accept = Box::pin(server.accept());
            assert!(poll_with(&waker, accept.as_mut()).is_pending());
            // It panics inside, on this thread, which is of no concern to whoever shuts the server
            // down.
            server.shutdown().await;
            woken.recv_timeout(HANG).unwrap();
        }
        drop(server);
        registration.wait_idle().await;
    });
}

#[test]
fn panicking_wakers_of_all_who_wait_for_idleness_keep_none_of_them_asleep() {
    run(async {
        let registration = Registration::new().unwrap();
        let server = support::server(&support::identity()).registration(&registration).bind(any_port()).unwrap();
        let (waker, woken) = panicking();
        let mut idle = Box::pin(registration.wait_idle());
        assert!(poll_with(&waker, idle.as_mut()).is_pending());
        // The server's own waiters come after those of its registration.
        server.shutdown().await;
        woken.recv_timeout(HANG).unwrap();
    });
}

#[test]
fn a_panicking_waker_of_a_server_refuses_nobody() {
    run(async {
        let endpoints = Endpoints::new();
        let (waker, woken) = panicking();
        let mut accept = Box::pin(endpoints.server.accept());
        assert!(poll_with(&waker, accept.as_mut()).is_pending());
        let mut connect = Box::pin(endpoints.client.connect(endpoints.address, "localhost"));
        assert!(poll_with(Waker::noop(), connect.as_mut()).is_pending());
        woken.recv_timeout(HANG).unwrap();
        let incoming = accept.await.unwrap();
        let (near, far) = futures::join!(connect, incoming.accept());
        drop((near.unwrap(), far.unwrap()));
        endpoints.end().await;
    });
}

#[test]
fn a_panicking_waker_of_a_handshake_ends_it_with_an_error() {
    run(async {
        let endpoints = Endpoints::new();
        let (waker, woken) = panicking();
        let mut connect = Box::pin(endpoints.client.connect(endpoints.address, "localhost"));
        assert!(poll_with(&waker, connect.as_mut()).is_pending());
        let accepted = accept(&endpoints.server).await;
        woken.recv_timeout(HANG).unwrap();
        // The client's end was connected and is closed again; which of the two its future sees is a
        // matter of timing.
        let connected = connect.await;
        if let Ok(connection) = &connected {
            connection.closed().await;
        }
        if let Ok(connection) = &accepted {
            connection.closed().await;
        }
        drop((connected, accepted));
        endpoints.end().await;
    });
}

#[test]
fn a_panicking_waker_of_a_datagram_ends_the_connection_with_an_error() {
    run(async {
        let pair = Pair::with(datagrams(), datagrams()).await;
        let (waker, woken) = panicking();
        let mut read = Box::pin(pair.server.read_datagram());
        assert!(poll_with(&waker, read.as_mut()).is_pending());
        drop(pair.client.send_datagram("x"));
        woken.recv_timeout(HANG).unwrap();
        pair.server.closed().await;
        pair.client.closed().await;
        drop(read);
        pair.end().await;
    });
}

#[test]
fn a_panicking_waker_of_a_question_leaves_the_next_question_answered() {
    run(async {
        let pair = Pair::new().await;
        let (waker, woken) = panicking();
        // The answer may come before the first poll, so this takes some rounds.
        for _ in 0..1000 {
            let mut stats = Box::pin(pair.client.stats());
            if poll_with(&waker, stats.as_mut()).is_pending() {
                woken.recv_timeout(HANG).unwrap();
                pair.client.stats().await.unwrap();
                return pair.end().await;
            }
        }
        panic!("every answer was there at once");
    });
}

#[test]
fn what_was_panicked_with_may_panic_too() {
    struct Twice;
    impl Wake for Twice {
        fn wake(self: Arc<Self>) {
            panic_any(PanicOnDrop(Arc::default()));
        }
    }
    run(async {
        let pair = Pair::new().await;
        let waker = Waker::from(Arc::new(Twice));
        let mut accept = Box::pin(pair.server.accept_uni());
        assert!(poll_with(&waker, accept.as_mut()).is_pending());
        let mut idle = Box::pin(pair.endpoints.client.wait_idle());
        assert!(poll_with(&waker, idle.as_mut()).is_pending());
        let mut send = pair.client.open_uni().unwrap();
        drop(send.send("x"));
        pair.server.closed().await;
        pair.client.closed().await;
        drop((send, accept, idle));
        pair.end().await;
    });
}

#[test]
fn a_thread_that_panics_amid_a_transfer_drops_what_it_holds_though_wakers_panic() {
    run(async {
        let pair = Pair::new().await;
        let (waker, woken) = panicking();
        let mut send = pair.client.open_uni().unwrap();
        send.send("begun").await.unwrap();
        let mut recv = pair.server.accept_uni().await.unwrap();
        let mut stopped = Box::pin(send.stopped());
        assert!(poll_with(&waker, stopped.as_mut()).is_pending());
        // Dropping the stream wakes `stopped`, which panics while this thread unwinds already.
        let panicked = thread::spawn(move || {
            drop(send.send(vec![7; 1 << 20]));
            let _held = send;
            panic!("this task panics, as the test wants");
        });
        panicked.join().unwrap_err();
        woken.recv_timeout(HANG).unwrap();
        while let Ok(chunk) = recv.read_chunk().await {
            chunk.expect("a stream that was reset does not look complete");
        }
        // What was hit is the stream; the connection is as it was.
        let mut other = pair.client.open_uni().unwrap();
        other.finish_with("the connection lives on").await.unwrap();
        drop((other, recv, stopped));
        pair.end().await;
    });
}

// ---- Buffers ------------------------------------------------------------------------------------

#[test]
fn an_owner_that_panics_when_its_bytes_are_acknowledged_fails_its_stream_only() {
    run(async {
        let pair = Pair::new().await;
        let (bytes, dropped) = bomb(1000);
        let mut send = pair.client.open_uni().unwrap();
        let error = send.send(bytes).await.unwrap_err();
        assert!(matches!(error, WriteError::Native(_)), "{error}");
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        send.send("more").await.unwrap_err();
        let mut other = pair.client.open_uni().unwrap();
        other.finish_with("the connection lives on").await.unwrap();
        drop((send, other));
        pair.end().await;
    });
}

#[test]
fn owners_that_panic_when_the_connection_ends_leave_no_handle() {
    run(async {
        let pair = Pair::new().await;
        let mut send = pair.client.open_uni().unwrap();
        let dropped: Vec<_> = (0..5)
            .map(|_| {
                // More than the peer takes before somebody reads, so none is acknowledged.
                let (bytes, dropped) = bomb(8 << 20);
                drop(send.send(bytes));
                dropped
            })
            .collect();
        pair.client.close(1, "").unwrap();
        send.finished().await.unwrap_err();
        drop(send);
        pair.end().await;
        for dropped in &dropped {
            assert_eq!(dropped.load(Ordering::SeqCst), 1, "given up once");
        }
        figure(format_args!("{} owners of 8 MiB that panic: each given up once, no handle left", dropped.len()));
    });
}

#[test]
fn an_owner_that_panics_when_its_bytes_are_refused_leaves_the_stream_in_order() {
    for round in 0..20 {
        run(async move {
            let pair = Pair::new().await;
            let mut send = pair.client.open_uni().unwrap();
            let mut started = pair.client.open_uni().unwrap();
            let (mut both, recv) = pair.client.open_bi().unwrap();
            started.send("x").await.unwrap();
            if round % 2 == 0 {
                pair.client.close(3, "").unwrap();
            } else {
                pair.server.close(3, "").unwrap();
                pair.client.closed().await;
            }
            for stream in [&mut send, &mut started, &mut both] {
                let (bytes, dropped) = bomb(100);
                // The refusal names the connection's end, whatever its owner does.
                let sent = AssertUnwindSafe(async { stream.send(bytes).await }).catch_unwind().await;
                if let Ok(sent) = sent {
                    assert!(matches!(sent, Err(WriteError::ConnectionLost(_))), "{sent:?}");
                }
                assert_eq!(dropped.load(Ordering::SeqCst), 1);
                assert!(matches!(stream.send("more").await, Err(WriteError::ConnectionLost(_))));
            }
            drop((send, started, both, recv));
            pair.end().await;
        });
    }
    figure("60 owners that panic when they are refused: every stream named the connection's end");
}

#[test]
fn an_owner_of_nothing_may_panic_too() {
    run(async {
        let pair = Pair::new().await;
        let (bytes, dropped) = bomb(0);
        let mut send = pair.client.open_uni().unwrap();
        let (sent, read) = futures::join!(
            async {
                // Nothing of it is lent, so it panics here, after FIN was queued.
                catch_unwind(AssertUnwindSafe(|| drop(send.finish_with(bytes)))).unwrap_err();
                send.finished().await
            },
            async { pair.server.accept_uni().await.unwrap().read_to_end(1).await.unwrap() },
        );
        sent.unwrap();
        assert_eq!((read.len(), dropped.load(Ordering::SeqCst)), (0, 1));
        drop(send);
        pair.end().await;
    });
}

#[test]
fn an_owner_that_panics_when_its_datagram_is_sent_ends_the_connection_with_an_error() {
    run(async {
        let pair = Pair::with(datagrams(), datagrams()).await;
        let (bytes, dropped) = bomb(100);
        match pair.client.send_datagram(bytes).await {
            Err(SendDatagramError::ConnectionLost(_)) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        pair.server.closed().await;
        pair.end().await;
    });
}

#[test]
fn an_owner_that_panics_when_its_datagram_is_refused_panics_where_it_was_handed_in_or_nowhere() {
    run(async {
        let pair = Pair::with(datagrams(), datagrams()).await;
        let (bytes, dropped) = bomb(100_000);
        let _ = catch_unwind(AssertUnwindSafe(|| pair.client.send_datagram(bytes)));
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        let fate = pair.client.send_datagram("the connection lives on").await.unwrap();
        assert_eq!(fate, DatagramFate::Acknowledged);
        pair.end().await;
    });
}

#[test]
fn an_owner_whose_bytes_cannot_be_had_panics_where_it_is_asked() {
    struct Withheld;
    impl AsRef<[u8]> for Withheld {
        fn as_ref(&self) -> &[u8] {
            panic!("this owner shows nothing, as the test wants");
        }
    }
    run(async {
        let pair = Pair::new().await;
        let mut send = pair.client.open_uni().unwrap();
        catch_unwind(AssertUnwindSafe(|| drop(send.send(Bytes::from_owner(Withheld))))).unwrap_err();
        send.finish_with("the stream lives on").await.unwrap();
        drop(send);
        pair.end().await;
    });
}

// ---- Verifiers ----------------------------------------------------------------------------------

/// Connects to a server that is believed if `trust` believes it, with a registration of its own, of
/// which nothing is left.
async fn connect_with(trust: impl FnOnce(Trust) -> Trust) -> Result<(), ConnectError> {
    let registration = Registration::new().unwrap();
    let identity = support::identity();
    let trust = trust(support::pinned(&identity));
    let server = support::server(&identity).registration(&registration).bind(any_port()).unwrap();
    let client = support::client_with(trust).registration(&registration).build().unwrap();
    let address = server.local_addr().unwrap();
    let (connected, accepted) = futures::join!(client.connect(address, "localhost"), accept(&server));
    drop(accepted);
    let result = connected.map(drop);
    drop(server);
    let _ = catch_unwind(AssertUnwindSafe(|| drop(client)));
    registration.wait_idle().await;
    result
}

#[test]
fn a_verifier_that_panics_after_it_was_woken_refuses() {
    run(async {
        let result = connect_with(|trust| {
            trust.verify_with(|_| async {
                let mut woken = false;
                std::future::poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                panic_any(PanicOnDrop(Arc::default()));
            })
        });
        let Err(ConnectError::Connection(ConnectionError::CertificateRefused(refusal))) = result.await else {
            panic!("it was believed")
        };
        assert!(matches!(refusal, CertificateRefusal::VerifierPanicked), "{refusal}");
    });
}

#[test]
fn a_verifier_whose_future_panics_when_dropped_has_answered_all_the_same() {
    run(async {
        let dropped = Arc::new(AtomicUsize::new(0));
        let held = dropped.clone();
        let result = connect_with(move |trust| {
            trust.verify_with(move |_| {
                let bomb = PanicOnDrop(held.clone());
                async move {
                    let _bomb = &bomb;
                    std::future::ready(Ok(())).await
                }
            })
        });
        let _ = result.await;
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_verifier_that_panics_when_it_is_given_up_by_a_client_harms_nobody() {
    for _ in 0..20 {
        run(async {
            let dropped = Arc::new(AtomicUsize::new(0));
            let bomb = PanicOnDrop(dropped.clone());
            connect_with(move |trust| {
                trust.verify_with(move |peer| {
                    let _held = &bomb;
                    let verified = peer.verified();
                    async move { verified }
                })
            })
            .await
            .unwrap();
            // With the client or with the connection's handle, whichever goes last.
            while dropped.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
        });
    }
    figure("20 verifiers that panic when they are given up: all of their connections were made");
}

#[test]
fn a_verifier_that_panics_when_it_is_given_up_by_a_server_harms_nobody() {
    for _ in 0..20 {
        run(async {
            let dropped = Arc::new(AtomicUsize::new(0));
            let registration = Registration::new().unwrap();
            let bomb = PanicOnDrop(dropped.clone());
            let trust = Trust::dangerous_accept_any_certificate().verify_with(move |_| {
                let _held = &bomb;
                async { Ok(()) }
            });
            let server = support::server(&support::identity())
                .client_auth(ClientAuth::Optional(trust))
                .registration(&registration)
                .bind(any_port())
                .unwrap();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(server)));
            registration.wait_idle().await;
            while dropped.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
        });
    }
}

// ---- Local tasks --------------------------------------------------------------------------------

#[test]
fn local_tasks_that_panic_in_every_way_harm_nobody() {
    run(async {
        let pair = Pair::new().await;
        let dropped = Arc::new(AtomicUsize::new(0));
        let bomb = || PanicOnDrop(dropped.clone());
        // When the connection ends, when it is aborted, when it is polled with something to drop,
        // when its result is dropped.
        let held = bomb();
        drop(pair.client.spawn_on_worker(async move {
            let _held = held;
            std::future::pending::<()>().await
        }));
        let held = bomb();
        pair.client
            .spawn_on_worker(async move {
                let _held = held;
                std::future::pending::<()>().await
            })
            .abort();
        let held = bomb();
        pair.client
            .spawn_on_worker(async move {
                panic_any(held);
            })
            .await
            .unwrap_err();
        let result = bomb();
        drop(pair.client.spawn_on_worker(async move { result }));
        // Tasks are polled in order, so the others were.
        assert_eq!(pair.client.spawn_on_worker(async { 7 }).await, Ok(7));
        let mut stream = pair.client.open_uni().unwrap();
        stream.finish_with("the connection lives on").await.unwrap();
        drop(stream);
        pair.end().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 4);
        figure("4 tasks that panic, each in another way: the connection lived on");
    });
}

// ---- The log ------------------------------------------------------------------------------------

const ROLE: &str = "SENDSTREAM_TEST_PANICS";

/// A subscriber that panics at the spans and events that it was told of.
struct Panicking(fn(&tracing::Metadata<'_>) -> bool);

impl tracing::Subscriber for Panicking {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        (self.0)(metadata)
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        panic!("this subscriber panics, as the test wants");
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        panic!("this subscriber panics, as the test wants");
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Every error, which is what panics of other code are logged as.
fn errors(metadata: &tracing::Metadata<'_>) -> bool {
    *metadata.level() == tracing::Level::ERROR
}

/// Where MsQuic asserts that a connection or a stream was taken, and where waiters must still be
/// woken: at refusals of connections, at spans of streams, and at the ends of connections.
fn in_callbacks(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.name() == "stream"
        || *metadata.level() == tracing::Level::WARN
        || metadata.target() == "sendstream::driver::connection::owner"
}

/// What a child process runs; in the test run itself it does nothing. The subscriber is the whole
/// process's.
#[test]
fn process_with_a_panicking_log() {
    if std::env::var_os(ROLE).is_none_or(|role| role != "errors") {
        return;
    }
    tracing::subscriber::set_global_default(Panicking(errors)).unwrap();
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let (waker, woken) = panicking();
        let mut send = client.open_uni().unwrap();
        send.send("x").await.unwrap();
        let mut recv = server.accept_uni().await.unwrap();
        recv.read_chunk().await.unwrap();
        assert!(poll_with(&waker, pin!(recv.read_chunk())).is_pending());
        let mut accept = Box::pin(server.accept_uni());
        assert!(poll_with(&waker, accept.as_mut()).is_pending());
        let mut idle = Box::pin(endpoints.client.wait_idle());
        assert!(poll_with(&waker, idle.as_mut()).is_pending());
        drop(send.send("to the stream's waker"));
        woken.recv_timeout(HANG).unwrap();
        drop(client.open_uni().unwrap().finish_with("to the connection's waker"));
        woken.recv_timeout(HANG).unwrap();
        client.closed().await;
        drop((send, recv, accept));
        drop((client, server));
        endpoints.server.shutdown().await;
        drop(idle);
        endpoints.client.wait_idle().await;
    });
}

/// As [`process_with_a_panicking_log`].
#[test]
fn process_with_a_log_that_panics_in_callbacks() {
    if std::env::var_os(ROLE).is_none_or(|role| role != "callbacks") {
        return;
    }
    tracing::subscriber::set_global_default(Panicking(in_callbacks)).unwrap();
    run(async {
        let identity = support::identity();
        let full = support::server(&identity).transport(TransportConfig::default().accept_backlog(1));
        let full = full.bind(any_port()).unwrap();
        let client = support::client(&identity).build().unwrap();
        let connect = || Box::pin(client.connect(full.local_addr().unwrap(), "localhost"));
        let (refused, waiting) = futures::future::select(connect(), connect()).await.factor_first();
        refused.unwrap_err();
        drop(waiting);
        full.shutdown().await;

        let server = support::server(&identity).bind(any_port()).unwrap();
        let (near, far) = support::connect(&client, &server).await;
        support::tell(&near, &far, "no span needed").await;
        // Whoever closes gets the log's panic; the peer is told all the same, and its waiters are
        // woken.
        catch_unwind(AssertUnwindSafe(|| near.close(7, ""))).unwrap_err();
        far.closed().await;
        drop((near, far));
        server.shutdown().await;
        client.wait_idle().await;
    });
}

#[test]
fn a_log_that_panics_takes_no_process_along() {
    for (role, process) in
        [("errors", "process_with_a_panicking_log"), ("callbacks", "process_with_a_log_that_panics_in_callbacks")]
    {
        let output =
            Command::new(std::env::current_exe().unwrap()).args(["--exact", process]).env(ROLE, role).output().unwrap();
        assert!(output.status.success(), "{role}: {output:?}");
    }
}

// ---- The key log --------------------------------------------------------------------------------

#[cfg(target_os = "linux")]
#[test]
fn a_key_log_that_cannot_be_written_costs_no_connection() {
    run(async {
        let identity = support::identity();
        let server = support::server(&identity).bind(any_port()).unwrap();
        let client = support::client(&identity).key_log("/dev/full").build().unwrap();
        let (near, far) = support::connect(&client, &server).await;
        support::tell(&near, &far, "hello").await;
        drop((near, far));
        server.shutdown().await;
        client.wait_idle().await;
    });
}
