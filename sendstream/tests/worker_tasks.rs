//! `spawn_on_worker`: tasks on the connection's own worker.

mod support;

use std::{
    future::{pending, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread,
};

use futures::{SinkExt, StreamExt, channel::mpsc, channel::oneshot};
use sendstream::{Connection, ConnectionError, SessionCache, SessionKey, WorkerTaskError};
use support::{Pair, assert_closed_locally, pattern, run};

/// Says when it is dropped.
struct Alarm(Option<oneshot::Sender<()>>);

impl Alarm {
    fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

fn echo(connection: &Connection) -> sendstream::WorkerTask<u64> {
    let accepting = connection.clone();
    connection.spawn_on_worker(async move {
        let (mut send, mut recv) = accepting.accept_bi().await.unwrap();
        let mut bytes = 0;
        while let Some(chunk) = recv.read_chunk().await.unwrap() {
            bytes += chunk.len() as u64;
            send.write_chunk(chunk.into()).await.unwrap();
        }
        send.finished().await.unwrap();
        bytes
    })
}

#[test]
fn plain_async_code_echoes_on_both_workers() {
    run(async {
        let pair = Pair::new().await;
        let echo = echo(&pair.server);
        let connection = pair.client.clone();
        let client = pair.client.spawn_on_worker(async move {
            let data = pattern(1 << 20);
            let (mut send, mut recv) = connection.open_bi().unwrap();
            let mut back = [0; 64];
            for message in data.chunks(64) {
                drop(send.send(message.to_vec()));
                recv.read_exact(&mut back).await.unwrap();
                assert_eq!(back, message);
            }
            send.finish().unwrap();
            assert_eq!(recv.read_to_end(0).await.unwrap(), b"");
        });
        client.await.unwrap();
        assert_eq!(echo.await, Ok(1 << 20));
        pair.end().await;
    });
}

#[test]
fn every_poll_is_on_a_worker_wherever_the_wake_comes_from() {
    run(async {
        let pair = Pair::new().await;
        let (mut wakes, mut woken) = mpsc::channel::<u32>(0);
        let (threads, polled_on) = std::sync::mpsc::channel();
        let task = pair.client.spawn_on_worker(async move {
            let mut sum = 0u64;
            loop {
                let next = poll_fn(|cx| {
                    threads.send(thread::current().id()).unwrap();
                    woken.poll_next_unpin(cx)
                });
                match next.await {
                    Some(number) => sum += u64::from(number),
                    None => return sum,
                }
            }
        });
        let here = thread::current().id();
        for number in 0..10_000 {
            wakes.send(number).await.unwrap();
        }
        drop(wakes);
        assert_eq!(task.await, Ok(49_995_000), "no wake is lost");
        assert!(polled_on.iter().all(|thread| thread != here));
        pair.end().await;
    });
}

#[test]
fn a_panic_ends_the_task_and_nothing_else() {
    run(async {
        let pair = Pair::new().await;
        let task = pair.client.spawn_on_worker(async { panic!("on {}", "purpose") });
        assert_eq!(task.await, Err::<(), _>(WorkerTaskError::Panicked("on purpose".into())));
        let echo = echo(&pair.server);
        let (mut send, mut recv) = pair.client.open_bi().unwrap();
        send.finish_with("still here").await.unwrap();
        assert_eq!(recv.read_to_end(10).await.unwrap(), b"still here");
        assert_eq!(echo.await, Ok(10));
        drop((send, recv));
        pair.end().await;
    });
}

#[test]
fn the_connections_end_is_seen_by_who_waits_for_it_and_cancels_the_others() {
    run(async {
        let pair = Pair::new().await;
        let connection = pair.client.clone();
        let waiting = pair.client.spawn_on_worker(async move { connection.accept_uni().await.unwrap_err() });
        let (alarm, dropped) = Alarm::new();
        let elsewhere = pair.client.spawn_on_worker(async move {
            let _alarm = alarm;
            pending::<()>().await;
        });
        pair.client.close(7, "").unwrap();
        assert_closed_locally(&waiting.await.unwrap(), 7);
        dropped.await.unwrap();
        assert_eq!(elsewhere.await, Err(WorkerTaskError::Canceled));
        let (alarm, dropped) = Alarm::new();
        let late = pair.client.spawn_on_worker(async move { drop(alarm) });
        dropped.await.unwrap();
        assert_eq!(late.await, Err(WorkerTaskError::Canceled));
        pair.end().await;
    });
}

#[test]
fn an_aborted_task_is_dropped_and_a_dropped_handle_leaves_its_task_alone() {
    run(async {
        let pair = Pair::new().await;
        let (alarm, dropped) = Alarm::new();
        let task = pair.client.spawn_on_worker(async move {
            let _alarm = alarm;
            pending::<()>().await;
        });
        assert!(!task.is_finished());
        task.abort();
        dropped.await.unwrap();

        let (go, gone) = oneshot::channel();
        let (done, over) = oneshot::channel();
        drop(pair.client.spawn_on_worker(async move {
            gone.await.unwrap();
            done.send(()).unwrap();
        }));
        go.send(()).unwrap();
        over.await.unwrap();
        pair.end().await;
    });
}

#[test]
fn a_task_that_always_wakes_itself_does_not_keep_the_worker_from_its_packets() {
    run(async {
        let pair = Pair::new().await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let spinning = pair.client.spawn_on_worker(poll_fn(move |cx| {
            if stopped.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        let echo = echo(&pair.server);
        let (mut send, mut recv) = pair.client.open_bi().unwrap();
        let data = pattern(300_000);
        drop(send.finish_with(data.clone()));
        assert!(recv.read_to_end(data.len()).await.unwrap() == data);
        assert_eq!(echo.await, Ok(300_000));
        stop.store(true, Ordering::Relaxed);
        spinning.await.unwrap();
        drop((send, recv));
        pair.end().await;
    });
}

#[test]
fn the_last_handle_of_a_connection_may_go_in_its_own_task() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let watching = server.clone();
        let watch = server.spawn_on_worker(async move { watching.closed().await });
        let (go, gone) = oneshot::channel::<()>();
        let held = client.clone();
        let task = client.spawn_on_worker(async move {
            gone.await.unwrap();
            drop(held);
        });
        drop(client);
        go.send(()).unwrap();
        task.await.unwrap();
        assert!(matches!(watch.await, Ok(ConnectionError::ApplicationClosed { code: 0, .. })));
        drop(server);
        endpoints.end().await;
    });
}

#[test]
fn tasks_spawn_tasks() {
    run(async {
        let pair = Pair::new().await;
        let server = pair.server.clone();
        // One task accepts, one more for each stream answers.
        let accepting = pair.server.spawn_on_worker(async move {
            let mut answers = Vec::new();
            for _ in 0..100 {
                let (mut send, mut recv) = server.accept_bi().await.unwrap();
                answers.push(server.spawn_on_worker(async move {
                    let question = recv.read_to_end(100).await.unwrap();
                    send.finish_with(question).await.unwrap();
                }));
            }
            for answer in answers {
                answer.await.unwrap();
            }
        });
        for number in 0..100u8 {
            let (mut send, mut recv) = pair.client.open_bi().unwrap();
            drop(send.finish_with(vec![number]));
            assert_eq!(recv.read_to_end(1).await.unwrap(), [number]);
        }
        accepting.await.unwrap();
        pair.end().await;
    });
}

#[test]
fn a_connection_that_had_a_task_closes_its_handle_on_its_worker() {
    /// A cache that keeps the background thread busy until it is told to go on.
    struct Busy(std::sync::mpsc::SyncSender<()>, std::sync::Mutex<std::sync::mpsc::Receiver<()>>);
    impl SessionCache for Busy {
        fn take(&self, _: &SessionKey) -> Option<Vec<u8>> {
            self.0.send(()).unwrap();
            let _ = self.1.lock().unwrap().recv();
            None
        }
        fn put(&self, _: &SessionKey, _: Vec<u8>) {}
    }
    run(async {
        let pair = Pair::new().await;
        let (client, server, endpoints) = (pair.client, pair.server, pair.endpoints);
        // The last handle goes on the worker, when a packet wakes the task: no other thread has a
        // hand in the end.
        let last = client.clone();
        let task = client.spawn_on_worker(async move { last.read_datagram().await.unwrap() });
        drop(client);
        let ((busy, is_busy), (go_on, waits)) = (std::sync::mpsc::sync_channel(1), std::sync::mpsc::channel());
        let cache = Arc::new(Busy(busy, std::sync::Mutex::new(waits)));
        let another = support::client_with(sendstream::Trust::system()).session_cache(cache).build().unwrap();
        let address = endpoints.server.local_addr().unwrap();
        // Nobody accepts this connection: its attempt is given up at the end.
        let mut connecting = Box::pin(another.connect(address, "localhost"));
        assert!(futures::poll!(&mut connecting).is_pending());
        is_busy.recv().unwrap();
        // Nothing that needs the background thread can happen now.
        drop(server.send_datagram("go"));
        assert_eq!(task.await.unwrap(), "go");
        server.closed().await;
        endpoints.client.wait_idle().await;
        drop((go_on, connecting));
        drop(server);
        endpoints.server.shutdown().await;
    });
}
