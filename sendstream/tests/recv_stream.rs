//! The contract of `RecvStream`, over loopback.

mod support;

use bytes::Bytes;
use futures::future::poll_immediate;
use sendstream::{
    ConnectionError, ReadError, ReadExactError, ReadToEndError, RecvStream, SendStream, TransportConfig, WriteError,
};
use support::{Pair, assert_closed_by_peer, pattern, run};

/// A unidirectional stream from client to server on which `data` was sent, and FIN if `finish`.
async fn sent(pair: &Pair, data: &[u8], finish: bool) -> (SendStream, RecvStream) {
    let mut send = pair.client.open_uni().unwrap();
    let data = data.to_vec();
    drop(if finish { send.finish_with(data) } else { send.send(data) });
    (send, pair.server.accept_uni().await.unwrap())
}

#[test]
fn chunks_may_be_held_and_dropped_in_any_order() {
    run(async {
        let pair = Pair::new().await;
        let expected = pattern(6 << 20);
        let (send, mut recv) = sent(&pair, &expected, true).await;
        let mut read = Vec::new();
        let mut held = Vec::new();
        while let Some(chunk) = recv.read_chunk().await.unwrap() {
            read.extend_from_slice(&chunk);
            held.push(chunk);
            if held.len() == 4 {
                // The third, first, fourth, second.
                drop(held.swap_remove(2));
                drop(held.remove(0));
                drop(held.pop());
                held.clear();
            }
        }
        assert!(read == expected);
        drop((held, send, recv));
        pair.end().await;
    });
}

#[test]
fn a_chunk_outlives_its_stream_its_connection_and_its_server() {
    run(async {
        let pair = Pair::new().await;
        let (send, mut recv) = sent(&pair, b"still here", true).await;
        let chunk = recv.read_chunk().await.unwrap().unwrap();
        drop((send, recv));
        let Pair { client, server, endpoints } = pair;
        drop((client, server));
        assert_eq!(&chunk[..], b"still here");
        let bytes = Bytes::from(chunk);
        let slice = bytes.slice(6..);
        drop(bytes);
        assert_eq!(&slice[..], b"here");
        drop(slice);
        endpoints.end().await;
    });
}

#[test]
fn read_fills_what_it_can_and_read_exact_fills_all() {
    run(async {
        let pair = Pair::new().await;
        let expected = pattern(100_000);
        let (send, mut recv) = sent(&pair, &expected, true).await;
        let mut exact = vec![0; 70_001];
        recv.read_exact(&mut exact).await.unwrap();
        assert!(exact == expected[..70_001]);
        assert_eq!(recv.read(&mut []).await, Ok(Some(0)));
        let mut rest = Vec::new();
        let mut buf = [0; 1000];
        while let Some(length) = recv.read(&mut buf).await.unwrap() {
            assert!(length > 0);
            rest.extend_from_slice(&buf[..length]);
        }
        assert!(rest == expected[70_001..]);
        assert_eq!(recv.read(&mut buf).await, Ok(None), "the end stays the end");
        assert_eq!(recv.read_exact(&mut buf).await, Err(ReadExactError::FinishedEarly(0)));
        drop((send, recv));
        pair.end().await;
    });
}

#[test]
fn a_stream_over_the_limit_is_stopped_with_the_code_of_who_read_it_or_of_the_drop() {
    run(async {
        let settings = TransportConfig::default().drop_error_code(77);
        let pair = Pair::with(TransportConfig::default(), settings).await;
        // One piece; and more than may wait unread.
        for length in [1001, 4 << 20] {
            for code in [Some(3), None] {
                let (mut send, mut recv) = sent(&pair, &pattern(length), false).await;
                assert_eq!(recv.read_to_end(1000).await, Err(ReadToEndError::TooLong { limit: 1000 }));
                if let Some(code) = code {
                    recv.stop(code).unwrap();
                    recv.stop(4).unwrap();
                    assert!(matches!(recv.read_chunk().await, Err(ReadError::Stopped(told)) if told == code));
                }
                drop(recv);
                // Told before FIN is sent: a FIN that crosses the stop may be acknowledged.
                let told = code.unwrap_or(77);
                assert_eq!(send.stopped().await, Ok(Some(told)));
                assert_eq!(send.finished().await, Err(WriteError::Stopped(told)));
            }
        }
        pair.end().await;
    });
}

#[test]
fn a_stop_discards_what_was_not_read() {
    run(async {
        let pair = Pair::new().await;
        let (mut send, mut recv) = sent(&pair, &pattern(4 << 20), true).await;
        let chunk = recv.read_chunk().await.unwrap().unwrap();
        recv.stop(11).unwrap();
        assert!(matches!(recv.read_chunk().await, Err(ReadError::Stopped(11))));
        assert!(!chunk.is_empty(), "a chunk that was read stays valid");
        assert_eq!(send.finished().await, Err(WriteError::Stopped(11)));
        assert_eq!(recv.received_reset().await, Ok(None));
        assert!(recv.stop(1 << 62).is_err());
        drop((chunk, send, recv));
        pair.end().await;
    });
}

#[test]
fn dropping_a_reader_half_way_stops_the_writer() {
    run(async {
        let pair = Pair::new().await;
        let (mut send, mut recv) = sent(&pair, &pattern(32 << 20), true).await;
        let chunk = recv.read_chunk().await.unwrap().unwrap();
        drop((chunk, recv));
        assert_eq!(send.finished().await, Err(WriteError::Stopped(0)));
        drop(send);
        pair.end().await;
    });
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer_at_the_receive_window() {
    run(async {
        let pair = Pair::new().await;
        let (mut send, mut recv) = sent(&pair, &pattern(8 << 20), false).await;
        let mut other = pair.client.open_uni().unwrap();
        // What is acknowledged on a later stream tells that the first has sent all that it may.
        other.finish_with("goes on").await.unwrap();
        assert!(send.in_flight() > 0, "8 MiB do not fit the 1 MiB window");
        let mut received = pair.server.accept_uni().await.unwrap();
        assert_eq!(received.read_to_end(10).await.unwrap(), b"goes on");
        let mut read = 0;
        while read < 8 << 20 {
            read += recv.read_chunk().await.unwrap().unwrap().len();
        }
        send.acked().await.unwrap();
        drop((send, recv, other, received));
        pair.end().await;
    });
}

#[test]
fn short_streams_that_are_accepted_and_not_read_stop_their_sender() {
    run(short_streams_that_nobody_reads(false));
}

#[test]
fn short_streams_whose_end_comes_later_stop_their_sender_as_well() {
    run(short_streams_that_nobody_reads(true));
}

/// A client sends many more short messages than the server may hold unread, each on a stream of its
/// own, whose end comes with it or later.
async fn short_streams_that_nobody_reads(end_comes_later: bool) {
    const LIMIT: u16 = 16;
    // A stream that came as one piece is copied and over at once, and the peer may open another: so
    // many of them.
    const COPIED: usize = 128;
    const ALL: usize = 400;
    let settings = TransportConfig::default().max_concurrent_uni_streams(LIMIT);
    let pair = Pair::with(TransportConfig::default(), settings).await;
    let message = |number: usize| vec![number as u8; number % 1000 + 1];
    let mut sending = Vec::new();
    let mut accepted = Vec::new();
    let ask = async || {
        let (mut ask, mut answer) = pair.client.open_bi().unwrap();
        drop(ask.finish_with("there?"));
        let (mut reply, asked) = pair.server.accept_bi().await.unwrap();
        reply.finish_with("here").await.unwrap();
        assert_eq!(answer.read_to_end(9).await.unwrap(), b"here");
        drop(asked);
    };
    for number in 0..ALL {
        let mut send = pair.client.open_uni().unwrap();
        if end_comes_later {
            drop(send.send(message(number)));
            ask().await;
            send.finish().unwrap();
        } else {
            drop(send.finish_with(message(number)));
        }
        sending.push(send);
        while let Some(recv) = poll_immediate(pair.server.accept_uni()).await {
            accepted.push(recv.unwrap());
        }
    }
    loop {
        let before = accepted.len();
        for _ in 0..10 {
            // Whatever the server allows the client reaches it with the answer.
            ask().await;
            while let Some(recv) = poll_immediate(pair.server.accept_uni()).await {
                accepted.push(recv.unwrap());
            }
        }
        if accepted.len() == before {
            break;
        }
    }
    // Fewer are copied where a packet's end cuts a message in two.
    let most = COPIED + usize::from(LIMIT);
    assert!((usize::from(LIMIT)..=most).contains(&accepted.len()), "{}", accepted.len());
    let mut numbers = 0;
    while numbers < ALL {
        for mut recv in accepted.drain(..) {
            // The client's unidirectional streams are 2, 6, 10 and so on, and may come in any
            // order.
            let number = recv.id().unwrap() as usize / 4;
            assert_eq!(recv.read_to_end(1000).await.unwrap(), message(number));
            numbers += 1;
        }
        if numbers < ALL {
            accepted.push(pair.server.accept_uni().await.unwrap());
        }
    }
    for send in &mut sending {
        send.finished().await.unwrap();
    }
    drop((sending, accepted));
    pair.end().await;
}

#[test]
fn what_arrived_before_the_connection_was_lost_can_still_be_read() {
    run(async {
        let pair = Pair::new().await;
        let (mut finished, mut whole) = sent(&pair, b"all of it", true).await;
        let (mut unfinished, mut part) = sent(&pair, b"some of it", false).await;
        finished.finished().await.unwrap();
        unfinished.acked().await.unwrap();
        pair.client.close(4, "").unwrap();
        let cause = pair.server.closed().await;
        assert!(matches!(cause, ConnectionError::ApplicationClosed { code: 4, .. }));
        assert_eq!(whole.read_to_end(100).await.unwrap(), b"all of it");
        assert_eq!(&part.read_chunk().await.unwrap().unwrap()[..], b"some of it");
        assert!(matches!(part.read_chunk().await, Err(ReadError::ConnectionLost(error)) if error == cause));
        drop((finished, unfinished, whole, part));
        pair.end().await;
    });
}

#[test]
fn both_halves_of_a_bidirectional_stream_work_and_end_on_their_own() {
    run(async {
        let pair = Pair::new().await;
        let (mut send, mut recv) = pair.client.open_bi().unwrap();
        let asking = async {
            send.finish_with("question").await.unwrap();
            recv.read_to_end(100).await.unwrap()
        };
        let answering = async {
            let (mut send, mut recv) = pair.server.accept_bi().await.unwrap();
            let question = recv.read_to_end(100).await.unwrap();
            drop(recv);
            send.finish_with([&question[..], b" answered"].concat()).await.unwrap();
            send.finished().await.unwrap();
        };
        let (answer, ()) = futures::join!(asking, answering);
        assert_eq!(answer, b"question answered");
        drop((send, recv));
        pair.end().await;
    });
}

#[test]
fn a_bidirectional_stream_that_nobody_used_goes_quietly() {
    run(async {
        let pair = Pair::new().await;
        let (send, recv) = pair.client.open_bi().unwrap();
        drop(recv);
        drop(send);
        let (send, recv) = pair.client.open_bi().unwrap();
        drop((send, recv));
        pair.end().await;
    });
}

#[test]
fn a_held_chunk_keeps_its_bytes_when_the_stream_is_stopped_under_it() {
    run(async {
        let pair = Pair::new().await;
        for round in 0..200 {
            let mut send = pair.client.open_uni().unwrap();
            drop(send.send(vec![b'a'; 4000]));
            let mut recv = pair.server.accept_uni().await.unwrap();
            let chunk = recv.read_chunk().await.unwrap().unwrap();
            // More arrives, and is being indicated, while the stream is stopped.
            for _ in 0..round % 20 {
                drop(send.send(vec![b'b'; 4000]));
            }
            if round % 2 == 0 {
                recv.stop(1).unwrap()
            } else {
                drop(recv)
            }
            // What MsQuic got back by mistake would be written to by the next stream.
            let mut other = pair.client.open_uni().unwrap();
            other.finish_with(vec![b'z'; 20_000]).await.unwrap();
            assert!(pair.server.accept_uni().await.unwrap().read_to_end(20_000).await.unwrap().ends_with(b"z"));
            assert!(chunk.iter().all(|byte| *byte == b'a'), "round {round}: {:?}", &chunk[..8]);
        }
        pair.end().await;
    });
}

#[test]
fn the_end_is_seen_while_every_chunk_is_held() {
    use futures::TryStreamExt;
    run(async {
        let pair = Pair::new().await;
        let mut send = pair.client.open_uni().unwrap();
        send.send("all of it").await.unwrap();
        let mut recv = pair.server.accept_uni().await.unwrap();
        let held = recv.read_chunk().await.unwrap().unwrap();
        // FIN in a frame of its own, while what comes before it is not given back.
        send.finished().await.unwrap();
        assert!(recv.read_chunk().await.unwrap().is_none());
        assert_eq!(&held[..], b"all of it");

        let mut second = pair.client.open_uni().unwrap();
        second.send("collected").await.unwrap();
        let collecting = pair.server.accept_uni().await.unwrap().try_collect::<Vec<Bytes>>();
        let (finished, collected) = futures::join!(second.finished(), collecting);
        finished.unwrap();
        assert_eq!(collected.unwrap().concat(), b"collected");
        drop((held, send, recv, second));
        pair.end().await;
    });
}

#[test]
fn a_stop_before_the_start_is_told_once_the_stream_starts() {
    run(async {
        let pair = Pair::new().await;
        for drop_it in [false, true] {
            let (mut send, mut recv) = pair.client.open_bi().unwrap();
            if drop_it {
                drop(recv);
            } else {
                recv.stop(0).unwrap();
            }
            send.send("begun").await.unwrap();
            let (mut theirs, _recv) = pair.server.accept_bi().await.unwrap();
            assert_eq!(theirs.stopped().await, Ok(Some(0)));
            assert_eq!(theirs.finished().await, Err(WriteError::Stopped(0)));
            drop(send);
        }
        pair.end().await;
    });
}

#[test]
fn waits_on_a_stream_that_never_started_end_with_the_connection() {
    run(async {
        let pair = Pair::new().await;
        let (send, mut recv) = pair.client.open_bi().unwrap();
        let (_, mut late) = pair.client.open_bi().unwrap();
        let (stopped, reset) = (send.stopped(), recv.received_reset());
        let ending = async { pair.server.close(12, "").unwrap() };
        let (stopped, reset, read, ()) = futures::join!(stopped, reset, recv.read_chunk(), ending);
        let lost = stopped.unwrap_err();
        assert_closed_by_peer(&lost, 12, "");
        assert_eq!(reset, Err(ReadError::ConnectionLost(lost.clone())));
        assert!(matches!(read, Err(ReadError::ConnectionLost(error)) if error == lost));
        assert!(late.read_chunk().await.is_err(), "also when the end was known before");
        drop((send, recv, late));
        pair.end().await;
    });
}
