//! Each await point is polled n times, dropped, and the stream goes on: the receiver's bytes follow
//! the documented rule.

mod support;

use std::{future::Future, pin::pin, task::Context, task::Waker};

use bytes::Bytes;
use sendstream::{Connection, ReadError, RecvStream, SendStream, TransportConfig, WriteError};
use support::{Pair, pattern, run};

const ROUNDS: usize = 21;
const CHUNK: usize = 10_000;

/// Polls `times` times, giving the other threads room in between, and drops the future. True if it
/// was ready.
fn poll_and_drop<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return Some(value);
        }
        std::thread::yield_now();
    }
    None
}

/// A window that a few chunks fill, so that futures are pending often.
fn narrow() -> TransportConfig {
    TransportConfig::default().send_window(2 * CHUNK as u32).stream_receive_window(16 << 10)
}

/// Runs `write` on a stream of `client`'s with each number of polls, and gives what arrived and
/// what was expected: `write` returns the bytes that its rule says are in the stream.
async fn written(pair: &Pair, write: impl AsyncFn(&mut SendStream, usize, Vec<u8>) -> Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let mut stream = pair.client.open_uni().unwrap();
    let writing = async {
        let mut expected = Vec::new();
        for polls in 0..ROUNDS {
            let data: Vec<u8> = pattern(CHUNK + polls)[polls..].iter().map(|byte| byte ^ polls as u8).collect();
            expected.extend(write(&mut stream, polls, data).await);
            // Every round goes on with something that surely arrives.
            stream.write_chunk(Bytes::from(vec![polls as u8; 3])).await.unwrap();
            expected.extend([polls as u8; 3]);
        }
        stream.finished().await.unwrap();
        expected
    };
    let reading = async { pair.server.accept_uni().await.unwrap().read_to_end(usize::MAX).await.unwrap() };
    let (expected, arrived) = futures::join!(writing, reading);
    (arrived, expected)
}

#[test]
fn a_dropped_send_is_delivered_whole_and_in_order() {
    run(async {
        let pair = Pair::with(narrow(), narrow()).await;
        let (arrived, expected) = written(&pair, async |stream, polls, data| {
            poll_and_drop(polls, stream.send(data.clone()));
            data
        })
        .await;
        assert!(arrived == expected);
        pair.end().await;
    });
}

#[test]
fn a_question_that_waits_for_the_stream_limit_goes_out_unless_its_asker_still_waited_for_the_start() {
    run(async {
        let one = TransportConfig::default().max_concurrent_bidi_streams(1);
        let pair = Pair::with(TransportConfig::default(), one).await;
        let ask = async |question: &'static str, starts_first: bool| {
            let (mut send, mut recv) = pair.client.open_bi().unwrap();
            if starts_first {
                send.start().await.unwrap();
            }
            drop(send.finish_with(question));
            recv.read_to_end(10).await.unwrap()
        };
        let answer = async || {
            let (mut send, mut recv) = pair.server.accept_bi().await.unwrap();
            let question = recv.read_to_end(10).await;
            let _ = send.finish_with("").await;
            question
        };
        let mut first = Box::pin(ask("first", false));
        assert!(futures::poll!(first.as_mut()).is_pending());
        let (mut reply, mut question) = pair.server.accept_bi().await.unwrap();
        assert_eq!(question.read_to_end(10).await.unwrap(), b"first");
        // The limit is used up, and both askers give up.
        assert!(poll_and_drop(ROUNDS, ask("taken", false)).is_none());
        assert!(poll_and_drop(ROUNDS, ask("starting", true)).is_none());
        let ((), _) = futures::join!(async { reply.finish_with("").await.unwrap() }, first);
        drop((reply, question));
        assert_eq!(answer().await.unwrap(), b"taken");
        assert_eq!(answer().await, Err(ReadError::Reset(0).into()), "a stream comes, and no question");
        let (last, _) = futures::join!(answer(), ask("last", true));
        assert_eq!(last.unwrap(), b"last");
        pair.end().await;
    });
}

#[test]
fn a_dropped_write_chunk_is_delivered_if_it_was_ready_and_otherwise_not_at_all() {
    run(async {
        let pair = Pair::with(narrow(), narrow()).await;
        let (arrived, expected) = written(&pair, async |stream, polls, data| {
            match poll_and_drop(polls, stream.write_chunk(Bytes::from(data.clone()))) {
                Some(accepted) => {
                    accepted.unwrap();
                    data
                }
                None => Vec::new(),
            }
        })
        .await;
        assert!(arrived == expected);
        pair.end().await;
    });
}

#[test]
fn dropped_write_chunks_leave_the_chunks_untouched_unless_they_were_ready() {
    run(async {
        let pair = Pair::with(narrow(), narrow()).await;
        let (arrived, expected) = written(&pair, async |stream, polls, data| {
            let mut chunks = [Bytes::copy_from_slice(&data[..100]), Bytes::copy_from_slice(&data[100..])];
            match poll_and_drop(polls, stream.write_chunks(&mut chunks)) {
                Some(accepted) => {
                    accepted.unwrap();
                    assert!(chunks.iter().all(Bytes::is_empty));
                    data
                }
                None => {
                    assert!(chunks.concat() == data);
                    Vec::new()
                }
            }
        })
        .await;
        assert!(arrived == expected);
        pair.end().await;
    });
}

#[test]
fn a_dropped_write_all_leaves_a_beginning() {
    run(async {
        let pair = Pair::with(narrow(), narrow()).await;
        for polls in 0..ROUNDS {
            let mut stream = pair.client.open_uni().unwrap();
            stream.write_chunk(Bytes::from_static(b"<")).await.unwrap();
            let data = pattern(1 << 20);
            let ready = poll_and_drop(polls, stream.write_all(&data)).is_some();
            let writing = async {
                stream.write_chunk(Bytes::from_static(b">")).await.unwrap();
                stream.finished().await.unwrap();
            };
            let reading = async { pair.server.accept_uni().await.unwrap().read_to_end(usize::MAX).await.unwrap() };
            let ((), arrived) = futures::join!(writing, reading);
            let body = &arrived[1..arrived.len() - 1];
            assert!(data.starts_with(body), "a beginning, neither truncated inside nor doubled");
            assert!(!ready || body.len() == data.len());
            assert_eq!((arrived[0], arrived[arrived.len() - 1]), (b'<', b'>'));
        }
        pair.end().await;
    });
}

/// Ends a stream with `end`, dropped after each number of polls, and compares what arrived.
async fn ended(pair: &Pair, end: impl Fn(&mut SendStream, usize), expected: &[u8]) {
    for polls in 0..ROUNDS {
        let mut stream = pair.client.open_uni().unwrap();
        let reading = async { pair.server.accept_uni().await.unwrap().read_to_end(usize::MAX).await.unwrap() };
        let writing = async {
            stream.send("begun ").await.unwrap();
            end(&mut stream, polls);
            stream.finished().await.unwrap();
        };
        let ((), arrived) = futures::join!(writing, reading);
        assert_eq!(arrived, expected);
    }
}

#[test]
fn a_dropped_finish_is_still_a_finish() {
    run(async {
        let pair = Pair::new().await;
        let finish_with = |stream: &mut SendStream, polls| {
            poll_and_drop(polls, stream.finish_with("and done"));
            assert_eq!(stream.finish(), Err(WriteError::Finished));
        };
        ended(&pair, finish_with, b"begun and done").await;
        let finished = |stream: &mut SendStream, polls| {
            poll_and_drop(polls, stream.finished());
            assert_eq!(stream.finish().is_ok(), polls == 0, "queued by the first poll");
        };
        ended(&pair, finished, b"begun ").await;
        pair.end().await;
    });
}

#[test]
fn dropped_waits_change_nothing() {
    run(async {
        let pair = Pair::with(narrow(), narrow()).await;
        let (arrived, expected) = written(&pair, async |stream, polls, data| {
            poll_and_drop(polls, stream.start());
            drop(stream.send(data.clone()));
            poll_and_drop(polls, stream.acked());
            poll_and_drop(polls, stream.stopped());
            data
        })
        .await;
        assert!(arrived == expected);
        pair.end().await;
    });
}

/// Reads everything, with a dropped read before each that is kept.
async fn read_all(stream: &mut RecvStream, read: impl Fn(&mut RecvStream, usize) -> Vec<u8>) -> Vec<u8> {
    let mut all = Vec::new();
    for polls in (0..ROUNDS).cycle() {
        all.extend(read(stream, polls));
        match stream.read_chunk().await.unwrap() {
            Some(chunk) => all.extend_from_slice(&chunk),
            None => return all,
        }
    }
    unreachable!("the cycle has no end")
}

#[test]
fn a_dropped_read_loses_no_byte() {
    run(async {
        let pair = Pair::new().await;
        let expected = pattern(3 << 20);
        let connection: &Connection = &pair.client;
        let write = async || {
            let mut stream = connection.open_uni().unwrap();
            drop(stream.finish_with(expected.clone()));
            stream.finished().await.unwrap();
        };
        let by_chunk = async {
            let mut stream = pair.server.accept_uni().await.unwrap();
            read_all(&mut stream, |stream, polls| match poll_and_drop(polls, stream.read_chunk()) {
                Some(chunk) => chunk.unwrap().map_or(Vec::new(), |chunk| chunk.to_vec()),
                None => Vec::new(),
            })
            .await
        };
        let ((), arrived) = futures::join!(write(), by_chunk);
        assert!(arrived == expected);
        let by_copy = async {
            let mut stream = pair.server.accept_uni().await.unwrap();
            read_all(&mut stream, |stream, polls| {
                let mut buf = [0; 1000];
                match poll_and_drop(polls, stream.read(&mut buf)) {
                    Some(length) => buf[..length.unwrap().unwrap_or(0)].to_vec(),
                    None => Vec::new(),
                }
            })
            .await
        };
        let ((), arrived) = futures::join!(write(), by_copy);
        assert!(arrived == expected);
        pair.end().await;
    });
}

#[test]
fn a_dropped_accept_loses_no_stream_and_no_connection() {
    run(async {
        let pair = Pair::new().await;
        for polls in 0..ROUNDS {
            poll_and_drop(polls, pair.server.accept_uni());
            poll_and_drop(polls, pair.server.accept_bi());
            let mut uni = pair.client.open_uni().unwrap();
            uni.finish_with(vec![polls as u8]).await.unwrap();
            let (mut send, _recv) = pair.client.open_bi().unwrap();
            send.finish_with(vec![polls as u8; 2]).await.unwrap();
            let mut first = match poll_and_drop(polls, pair.server.accept_uni()) {
                Some(stream) => stream.unwrap(),
                None => pair.server.accept_uni().await.unwrap(),
            };
            assert_eq!(first.read_to_end(10).await.unwrap(), [polls as u8]);
            let (_, mut second) = pair.server.accept_bi().await.unwrap();
            assert_eq!(second.read_to_end(10).await.unwrap(), [polls as u8; 2]);

            poll_and_drop(polls, pair.endpoints.server.accept());
            let (client, server) = pair.endpoints.connect().await;
            poll_and_drop(polls, client.closed());
            drop((client, server));
        }
        pair.end().await;
    });
}
