//! Every operation that is left pending ends once, in bounded time, with the cause: whatever the
//! cause is.

mod support;

use std::{fmt::Debug, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, join_all, poll_immediate};
use sendstream::{Connection, ConnectionError, RecvStream, SendStream, Timeout, TransportConfig};
use support::{
    Endpoints, TIMEOUT, assert_closed_by_peer, assert_closed_locally,
    peer::{self, Peer, Role},
    run,
};

#[test]
fn peer_process() {
    peer::main();
}

/// The text of each operation's end, by name.
type Pending = Vec<(&'static str, BoxFuture<'static, String>)>;

fn told<T: Debug + 'static, E: Debug + 'static>(
    result: impl Future<Output = Result<T, E>> + Send + 'static,
) -> BoxFuture<'static, String> {
    result.map(|result| format!("{:?}", result.map(|_| ()))).boxed()
}

/// A transport whose windows are soon full, and whose peer admits few streams.
fn narrow() -> TransportConfig {
    TransportConfig::default().send_window(64 << 10).stream_receive_window(64 << 10).max_concurrent_uni_streams(8)
}

/// The same, and it soon finds out that the peer is gone.
fn short_lived() -> TransportConfig {
    narrow().idle_timeout(TIMEOUT)
}

async fn flooded(connection: &Connection) -> SendStream {
    let mut stream = connection.open_uni().unwrap();
    // More than the peer's stream window, so that it stays in flight while nobody reads.
    drop(stream.send(vec![0; 4 << 20]));
    stream
}

/// Every operation on the sending half of a stream that can be left pending, each on a stream of
/// its own.
async fn sending(connection: &Connection) -> (Pending, Vec<Arc<futures::lock::Mutex<SendStream>>>) {
    let mut pending: Pending = Vec::new();
    let mut streams = Vec::new();
    async fn lock(stream: &Arc<futures::lock::Mutex<SendStream>>) -> futures::lock::OwnedMutexGuard<SendStream> {
        stream.clone().lock_owned().await
    }
    for name in ["send", "acked", "write_chunk", "finished", "stopped"] {
        let stream = Arc::new(futures::lock::Mutex::new(flooded(connection).await));
        let mut guard = lock(&stream).await;
        let operation = match name {
            "send" => told(async move { guard.send(vec![1; 100]).await }),
            "acked" => told(async move { guard.acked().await }),
            "write_chunk" => told(async move { guard.write_chunk(Bytes::from_static(b"x")).await }),
            "finished" => told(async move { guard.finished().await }),
            _ => {
                let stopped = guard.stopped();
                stopped.map(|stopped| format!("{stopped:?}")).boxed()
            }
        };
        pending.push((name, operation));
        streams.push(stream);
    }
    (pending, streams)
}

/// Polls every operation once; none may be ready.
async fn leave_pending(pending: &mut Pending) {
    for (name, operation) in pending {
        let early = poll_immediate(operation.as_mut()).await;
        assert_eq!(early, None, "{name} is pending");
    }
}

async fn ends(pending: Pending) -> Vec<(&'static str, String)> {
    join_all(pending.into_iter().map(|(name, operation)| async move { (name, operation.await) })).await
}

fn expect(ends: Vec<(&'static str, String)>, expected: impl Fn(&str) -> String) {
    for (name, end) in ends {
        assert_eq!(end, expected(name), "{name}");
    }
}

/// What each operation says when the connection ended because of `cause`.
fn lost(cause: &ConnectionError) -> impl Fn(&str) -> String {
    let cause = format!("{cause:?}");
    move |name| match name {
        "stopped" | "accept_uni" | "accept_bi" => format!("Err({cause})"),
        "closed" => cause.clone(),
        _ => format!("Err(ConnectionLost({cause}))"),
    }
}

/// Everything that waits for a connection: both halves of streams, starts, accepts.
async fn everything(connection: &Connection, received: Vec<RecvStream>, mut kept: Kept) -> (Pending, Kept) {
    let (mut pending, streams) = sending(connection).await;
    for (name, mut stream) in ["read_chunk", "received_reset"].into_iter().zip(received) {
        pending.push(match name {
            "read_chunk" => (name, told(async move { stream.read_chunk().await.map(|chunk| chunk.map(|_| ())) })),
            _ => (name, told(async move { stream.received_reset().await })),
        });
    }
    // The peer admits eight, of which five carry the operations above.
    let mut blocked = Vec::new();
    for _ in 0..3 {
        let mut stream = connection.open_uni().unwrap();
        stream.start().await.unwrap();
        blocked.push(stream);
    }
    let mut stream = connection.open_uni().unwrap();
    pending.push(("start", told(async move { stream.start().await })));
    let accepting = connection.clone();
    pending.push(("accept_uni", told(async move { accepting.accept_uni().await })));
    let accepting = connection.clone();
    pending.push(("accept_bi", told(async move { accepting.accept_bi().await })));
    let closing = connection.clone();
    pending.push(("closed", async move { format!("{:?}", closing.closed().await) }.boxed()));
    kept.streams = streams;
    kept.started = blocked;
    (pending, kept)
}

/// Streams that must not be dropped while operations are pending.
#[derive(Default)]
struct Kept {
    streams: Vec<Arc<futures::lock::Mutex<SendStream>>>,
    started: Vec<SendStream>,
    received: Vec<SendStream>,
}

async fn pair() -> (Endpoints, Connection, Connection, Vec<RecvStream>, Kept) {
    let endpoints = Endpoints::with(narrow(), narrow());
    let (client, server) = endpoints.connect().await;
    let mut received = Vec::new();
    let mut kept = Kept::default();
    for _ in 0..2 {
        let mut stream = server.open_uni().unwrap();
        stream.send("x").await.unwrap();
        let mut recv = client.accept_uni().await.unwrap();
        recv.read_chunk().await.unwrap();
        received.push(recv);
        // An unfinished stream would be reset.
        kept.received.push(stream);
    }
    (endpoints, client, server, received, kept)
}

#[test]
fn a_local_close_ends_everything() {
    run(async {
        let (_endpoints, client, _server, received, kept) = pair().await;
        let (mut pending, _kept) = everything(&client, received, kept).await;
        leave_pending(&mut pending).await;
        client.close(21, "").unwrap();
        let ends = ends(pending).await;
        let cause = client.close_reason().unwrap();
        assert_closed_locally(&cause, 21);
        expect(ends, lost(&cause));
    });
}

#[test]
fn the_peers_close_ends_everything() {
    run(async {
        let (_endpoints, client, server, received, kept) = pair().await;
        let (mut pending, _kept) = everything(&client, received, kept).await;
        leave_pending(&mut pending).await;
        server.close(22, "").unwrap();
        let ends = ends(pending).await;
        let cause = client.close_reason().unwrap();
        assert_closed_by_peer(&cause, 22, "");
        expect(ends, lost(&cause));
    });
}

#[test]
fn a_killed_peer_ends_everything() {
    run(async {
        let mut peer = Peer::start("peer_process", Role::Hold);
        let (_client, connection) = peer.connect(short_lived()).await;
        let (mut pending, _streams) = sending(&connection).await;
        let accepting = connection.clone();
        pending.push(("accept_uni", told(async move { accepting.accept_uni().await })));
        let closing = connection.clone();
        pending.push(("closed", async move { format!("{:?}", closing.closed().await) }.boxed()));
        leave_pending(&mut pending).await;
        peer.kill();
        let cause = connection.closed().await;
        assert!(matches!(cause, ConnectionError::TimedOut(_) | ConnectionError::Unreachable), "{cause}");
        expect(ends(pending).await, lost(&cause));
    });
}

#[test]
fn a_silent_peer_ends_everything_when_the_idle_timeout_runs_out() {
    run(async {
        let peer = Peer::start("peer_process", Role::Hold);
        let (_client, connection) = peer.connect(short_lived()).await;
        let (mut pending, _streams) = sending(&connection).await;
        let closing = connection.clone();
        pending.push(("closed", async move { format!("{:?}", closing.closed().await) }.boxed()));
        leave_pending(&mut pending).await;
        peer.pause();
        expect(ends(pending).await, lost(&ConnectionError::TimedOut(Timeout::Idle)));
    });
}

#[test]
fn the_peers_stop_ends_every_send() {
    run(async {
        let (_endpoints, client, server, _received, _kept) = pair().await;
        let (mut pending, _streams) = sending(&client).await;
        leave_pending(&mut pending).await;
        for _ in 0..pending.len() {
            server.accept_uni().await.unwrap().stop(23).unwrap();
        }
        expect(ends(pending).await, |name| match name {
            "stopped" => "Ok(Some(23))".into(),
            _ => "Err(Stopped(23))".into(),
        });
    });
}

#[test]
fn a_local_abort_ends_every_send() {
    run(async {
        let (_endpoints, client, _server, _received, _kept) = pair().await;
        // An operation borrows its stream, so what aborts it is what the borrow leaves: the
        // operation is dropped, and the next look at the stream has the answer at once.
        for name in ["send", "acked", "write_chunk", "finished"] {
            let mut stream = flooded(&client).await;
            let stopped = stream.stopped();
            {
                let mut operation: Pin<Box<dyn Future<Output = _> + Send>> = match name {
                    "send" => Box::pin(stream.send("x")),
                    "acked" => Box::pin(stream.acked()),
                    "write_chunk" => Box::pin(stream.write_chunk(Bytes::from_static(b"x"))),
                    _ => Box::pin(stream.finished()),
                };
                assert!(poll_immediate(&mut operation).await.is_none());
            }
            stream.abort(24).unwrap();
            assert_eq!(poll_immediate(stream.acked()).await, Some(Err(sendstream::WriteError::Reset(24))), "{name}");
            assert_eq!(poll_immediate(stream.finished()).await, Some(Err(sendstream::WriteError::Reset(24))));
            assert_eq!(poll_immediate(stopped).await, Some(Ok(None)));
            // The peer admits eight at a time.
            std::future::poll_fn(|cx| stream.poll_abort(cx, 24)).await.unwrap();
        }
    });
}

#[test]
fn the_peers_reset_ends_every_read() {
    run(async {
        let (_endpoints, client, server, _received, _kept) = pair().await;
        let mut pending: Pending = Vec::new();
        let mut streams = Vec::new();
        for name in ["read_chunk", "read", "read_to_end", "received_reset"] {
            let mut send = client.open_uni().unwrap();
            send.send("x").await.unwrap();
            let mut recv = server.accept_uni().await.unwrap();
            recv.read_chunk().await.unwrap();
            streams.push(send);
            pending.push(match name {
                "read_chunk" => (name, told(async move { recv.read_chunk().await.map(|_| ()) })),
                "read" => (name, told(async move { recv.read(&mut [0; 8]).await })),
                "read_to_end" => (name, told(async move { recv.read_to_end(8).await })),
                _ => {
                    let reset = recv.received_reset();
                    (
                        name,
                        async move {
                            let reset = reset.await;
                            drop(recv);
                            format!("{reset:?}")
                        }
                        .boxed(),
                    )
                }
            });
        }
        leave_pending(&mut pending).await;
        for stream in &mut streams {
            stream.abort(25).unwrap();
        }
        expect(ends(pending).await, |name| match name {
            "received_reset" => "Ok(Some(25))".into(),
            "read_to_end" => "Err(Read(Reset(25)))".into(),
            _ => "Err(Reset(25))".into(),
        });
    });
}
