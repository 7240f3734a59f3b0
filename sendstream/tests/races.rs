//! Threads that use one connection's parts against each other, and owners of buffers that act when
//! MsQuic gives them back. Whatever the order, nothing is used after its end and nothing is left.
//! Run it under AddressSanitizer with `make test-asan`.

mod support;

use std::{
    mem,
    sync::{Arc, Barrier, Mutex, mpsc},
    thread,
};

use bytes::Bytes;
use futures::executor::block_on;
use sendstream::{Connection, RecvChunk, SendStream, TransportConfig};
use support::{HANG, Pair, pattern, run};

/// Runs all of `jobs` at once, each on a thread of its own.
fn at_once(jobs: Vec<Box<dyn FnOnce() + Send>>) {
    let start = Arc::new(Barrier::new(jobs.len()));
    let threads: Vec<_> = jobs
        .into_iter()
        .map(|job| {
            let start = start.clone();
            thread::spawn(move || {
                start.wait();
                job();
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

// ---- Threads ------------------------------------------------------------------------------------

#[test]
fn one_half_may_be_given_up_while_the_other_starts_the_stream() {
    run(async move {
        let pair = Pair::new().await;
        // Within the peer's limit of streams, as it accepts none.
        for round in 0..60 {
            let (mut send, mut recv) = pair.client.open_bi().unwrap();
            at_once(vec![
                Box::new(move || match round % 3 {
                    0 => drop(send.finish_with("started")),
                    1 => drop(block_on(send.start())),
                    _ => send.finish().unwrap(),
                }),
                Box::new(move || match round % 2 {
                    0 => drop(recv),
                    _ => recv.stop(3).unwrap(),
                }),
            ]);
        }
        pair.end().await;
    });
}

#[test]
fn a_connection_may_be_closed_while_everything_is_done_with_it() {
    let datagrams = TransportConfig::default().datagram_receive_buffer(1 << 16);
    for round in 0..20 {
        let datagrams = datagrams.clone();
        run(async move {
            let pair = Pair::with(datagrams.clone(), datagrams).await;
            let job = |connection: &Connection, job: fn(&Connection)| -> Box<dyn FnOnce() + Send> {
                let connection = connection.clone();
                Box::new(move || (0..20).for_each(|_| job(&connection)))
            };
            let send: fn(&Connection) = |connection| {
                let Ok(mut stream) = connection.open_uni() else { return };
                drop(stream.send(vec![7; 10_000]));
                stream.set_priority(1);
                drop(stream.stats());
                let _ = stream.finish();
            };
            let open: fn(&Connection) = |connection| {
                let Ok((send, recv)) = connection.open_bi() else { return };
                drop(recv);
                drop(send);
            };
            let accept: fn(&Connection) = |connection| {
                if let Ok(mut stream) = block_on(connection.accept_uni()) {
                    let _ = block_on(stream.read_chunk());
                }
            };
            let tell: fn(&Connection) = |connection| {
                drop(connection.send_datagram("datagram"));
                drop(connection.stats());
                drop(connection.close_reason());
            };
            let close: fn(&Connection) = |connection| {
                thread::yield_now();
                connection.close(9, "").unwrap();
            };
            let closing = if round % 2 == 0 { &pair.client } else { &pair.server };
            at_once(vec![
                job(&pair.client, send),
                job(&pair.client, open),
                job(&pair.client, tell),
                job(&pair.server, accept),
                job(&pair.server, send),
                job(closing, close),
            ]);
            pair.end().await;
        });
    }
}

#[test]
fn chunks_stay_what_they_are_while_their_stream_goes() {
    let data = pattern(300_000);
    for round in 0..12 {
        let data = data.clone();
        run(async move {
            let Pair { client, server, endpoints } = Pair::new().await;
            let mut send = client.open_uni().unwrap();
            let mut recv = {
                drop(send.send(data.clone()));
                server.accept_uni().await.unwrap()
            };
            let mut chunks: Vec<(usize, RecvChunk)> = Vec::new();
            let mut offset = 0;
            while offset < 60_000 {
                let chunk = recv.read_chunk().await.unwrap().unwrap();
                offset += chunk.len();
                chunks.push((offset - chunk.len(), chunk));
            }
            let check = move || {
                for (offset, chunk) in chunks {
                    assert!(chunk[..] == data[offset..offset + chunk.len()], "the bytes at {offset} have changed");
                }
            };
            at_once(vec![
                Box::new(check),
                Box::new(move || match round % 3 {
                    0 => recv.stop(1).unwrap(),
                    1 => drop(recv),
                    // What is read further on goes into the same memory.
                    _ => while let Ok(Some(_)) = block_on(recv.read_chunk()) {},
                }),
                Box::new(move || match round % 2 {
                    0 => send.abort(2).unwrap_or_default(),
                    _ => drop(send),
                }),
                Box::new(move || {
                    if round % 5 == 0 {
                        client.close(3, "").unwrap();
                    }
                    drop(client);
                }),
                Box::new(move || drop(server)),
            ]);
            endpoints.end().await;
        });
    }
}

// ---- Futures that are forgotten -----------------------------------------------------------------

#[test]
fn a_future_that_is_forgotten_changes_nothing_for_what_it_stood_for() {
    for _ in 0..10 {
        run(async {
            let pair = Pair::new().await;
            let mut send = pair.client.open_uni().unwrap();
            let mut sent = send.send(vec![7; 1 << 20]);
            let _ = support::poll_once(&mut sent);
            mem::forget(sent);
            let mut finished = send.finish_with("the end");
            let _ = support::poll_once(&mut finished);
            mem::forget(finished);
            let mut recv = pair.server.accept_uni().await.unwrap();
            let read = async { recv.read_to_end(2 << 20).await.unwrap().len() };
            let (finished, read) = futures::join!(send.finished(), read);
            finished.unwrap();
            assert_eq!(read, (1 << 20) + 7);
            drop((send, recv));
            pair.end().await;
        });
    }
}

// ---- Owners that act ----------------------------------------------------------------------------

type Action = Box<dyn FnOnce() + Send>;

/// Bytes whose owner acts when they are given up, and what tells that it has.
fn acting(length: usize, action: impl FnOnce() + Send + 'static) -> (Bytes, mpsc::Receiver<()>) {
    struct Owner {
        bytes: Vec<u8>,
        action: Mutex<Option<Action>>,
        done: mpsc::SyncSender<()>,
    }
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            let action = self.action.lock().unwrap().take();
            action.unwrap()();
            let _ = self.done.send(());
        }
    }
    let (done, acted) = mpsc::sync_channel(1);
    (Bytes::from_owner(Owner { bytes: vec![7; length], action: Mutex::new(Some(Box::new(action))), done }), acted)
}

/// Sends bytes whose owner does `act` with their own stream and its connection when they are
/// acknowledged, or, with `closed`, when they are given back because the connection ends.
fn on_release(rounds: u32, closed: bool, act: fn(Option<SendStream>, Option<Connection>)) {
    for _ in 0..rounds {
        run(async move {
            let Pair { client, server, endpoints } = Pair::new().await;
            let shared = Arc::new(Mutex::new((None::<SendStream>, None::<Connection>)));
            let held = shared.clone();
            let length = if closed { 8 << 20 } else { 1000 };
            let (bytes, acted) = acting(length, move || {
                let (stream, connection) = mem::take(&mut *held.lock().unwrap());
                act(stream, connection);
            });
            let mut send = client.open_uni().unwrap();
            {
                // Whoever gives the bytes back waits until both are there.
                let mut shared = shared.lock().unwrap();
                drop(send.send(bytes));
                *shared = (Some(send), Some(client));
            }
            if closed {
                server.close(4, "").unwrap();
            }
            acted.recv_timeout(HANG).unwrap();
            drop((server, shared));
            endpoints.end().await;
        });
    }
}

#[test]
fn an_owner_may_drop_the_last_handles_of_its_stream_and_connection() {
    for closed in [false, true] {
        on_release(8, closed, |stream, connection| drop((stream, connection)));
        on_release(8, closed, |stream, connection| drop((connection, stream)));
    }
}

#[test]
fn an_owner_may_send_on_its_own_stream_and_others() {
    for closed in [false, true] {
        on_release(8, closed, |stream, connection| {
            if let Some(mut stream) = stream {
                drop(stream.send("from inside"));
                let _ = stream.finish();
            }
            if let Some(Ok(mut stream)) = connection.map(|connection| connection.open_uni()) {
                drop(stream.finish_with("from inside"));
            }
        });
    }
}

#[test]
fn an_owner_may_abort_its_own_stream_and_close_the_connection() {
    for closed in [false, true] {
        on_release(8, closed, |stream, connection| {
            let aborted = stream.map(|mut stream| stream.abort(1));
            let closed = connection.map(|connection| connection.close(2, ""));
            drop((aborted, closed));
        });
    }
}
