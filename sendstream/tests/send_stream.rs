//! The contract of `SendStream`, over loopback.

mod support;

use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::future::{poll_fn, poll_immediate};
use sendstream::{SendStream, StartError, TransportConfig, WriteError};
use support::{
    Endpoints, LONG_DELAY, PATIENCE, Pair, assert_closed_by_peer, assert_closed_locally, pattern, run, run_within,
};

#[test]
fn a_message_arrives_and_its_acknowledgement_is_believed() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = SendStream::open(&pair.client).unwrap();
        assert_eq!(stream.id(), None, "nothing is on the wire before the first send");
        let sending = async {
            stream.send(b"hello".to_vec()).await.unwrap();
            stream.write_chunk(Bytes::from_static(b" world")).await.unwrap();
            stream.finished().await.unwrap();
            assert_eq!(stream.id(), Some(2));
        };
        let receiving = async {
            let mut stream = pair.server.accept_uni().await.unwrap();
            assert_eq!(stream.id(), Some(2));
            assert_eq!(stream.read_to_end(100).await.unwrap(), b"hello world");
        };
        futures::join!(sending, receiving);
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn the_usage_example_of_the_specification_works_literally() {
    let pair = run(Pair::new());
    let connection = pair.client.clone();
    let cx = &mut Context::from_waker(Waker::noop());

    let send = |connection, cx: &mut Context<'_>| -> Result<SendStream, Box<dyn std::error::Error>> {
        let mut send_stream = SendStream::open(&connection)?;
        futures::executor::block_on(send_stream.send(vec![1, 2, 3]))?;
        let _ = send_stream.poll_finish(cx)?;
        Ok(send_stream)
    };
    let mut send_stream = send(connection, cx).unwrap();

    run(async move {
        let mut received = pair.server.accept_uni().await.unwrap();
        assert_eq!(received.read_to_end(10).await.unwrap(), [1, 2, 3]);
        poll_fn(|cx| send_stream.poll_finish(cx)).await.unwrap();
        drop((send_stream, received));
        pair.end().await;
    });
}

#[test]
fn a_start_waits_until_the_peers_stream_limit_admits_it() {
    run(async {
        let one = TransportConfig::default().max_concurrent_uni_streams(1);
        let pair = Pair::with(TransportConfig::default(), one).await;
        let mut first = pair.client.open_uni().unwrap();
        first.start().await.unwrap();
        first.send("first").await.unwrap();

        let mut second = pair.client.open_uni().unwrap();
        assert_eq!(poll_immediate(second.start()).await, None);
        let mut third = pair.client.open_uni().unwrap();
        assert_eq!(third.try_start().await, Err(StartError::LimitReached));
        assert_eq!(third.send("x").await, Err(WriteError::Start(StartError::LimitReached)));
        assert_eq!(poll_immediate(second.start()).await, None, "still blocked");

        let mut received = pair.server.accept_uni().await.unwrap();
        let (finished, read) = futures::join!(first.finished(), received.read_to_end(10));
        finished.unwrap();
        assert_eq!(read.unwrap(), b"first");
        second.start().await.unwrap();
        drop((first, second, third, received));
        pair.end().await;
    });
}

#[test]
fn a_start_folded_into_a_send_counts_as_admitted_once_data_arrived() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        drop(stream.send("data"));
        stream.start().await.unwrap();
        stream.acked().await.unwrap();
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn dropping_a_pending_send_keeps_its_bytes_in_order() {
    run(async {
        let pair = Pair::new().await;
        let expected = pattern(1000 * 700);
        let sent = expected.clone();
        let mut stream = pair.client.open_uni().unwrap();
        for chunk in sent.chunks(700) {
            let mut sending = stream.send(chunk.to_vec());
            // Polled or not makes no difference.
            if chunk[0] & 1 == 0 {
                let _ = support::poll_once(&mut sending);
            }
        }
        stream.finish().unwrap();
        let mut received = pair.server.accept_uni().await.unwrap();
        let (finished, read) = futures::join!(stream.finished(), received.read_to_end(1 << 20));
        finished.unwrap();
        assert!(read.unwrap() == expected, "the bytes arrive whole and in order");
        drop((stream, received));
        pair.end().await;
    });
}

#[test]
fn a_whole_message_is_one_operation() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        stream.finish_with(vec![Bytes::from_static(b"in "), Bytes::from_static(b"one")]).await.unwrap();
        stream.finished().await.unwrap();
        let mut received = pair.server.accept_uni().await.unwrap();
        assert_eq!(received.read_to_end(10).await.unwrap(), b"in one");
        drop((stream, received));
        pair.end().await;
    });
}

#[test]
fn awaiting_finish_with_waits_for_the_acknowledgement_of_fin() {
    run(async {
        let pair = Pair::new().await;
        for message in [pattern(1 << 20), Vec::new()] {
            let mut stream = pair.client.open_uni().unwrap();
            stream.finish_with(message).await.unwrap();
            let again = stream.poll_finish(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(again, Poll::Ready(Ok(()))), "nothing is left to wait for: {again:?}");
        }
        pair.end().await;
    });
}

#[test]
fn an_empty_stream_is_finished_and_seen() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        stream.finished().await.unwrap();
        let mut received = pair.server.accept_uni().await.unwrap();
        assert!(received.read_chunk().await.unwrap().is_none());
        drop((stream, received));
        pair.end().await;
    });
}

#[test]
fn an_empty_send_completes_at_once_and_starts_nothing() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        stream.send(Vec::<u8>::new()).await.unwrap();
        stream.write_chunk(Bytes::new()).await.unwrap();
        assert_eq!(stream.id(), None);
        stream.finish().unwrap();
        assert_eq!(stream.send(Vec::<u8>::new()).await, Err(WriteError::Finished));
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn nothing_can_be_sent_after_finish() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        stream.finish().unwrap();
        assert_eq!(stream.finish(), Err(WriteError::Finished));
        assert_eq!(stream.send("late").await, Err(WriteError::Finished));
        assert_eq!(stream.write_chunk(Bytes::from_static(b"late")).await, Err(WriteError::Finished));
        stream.finished().await.unwrap();
        assert_eq!(stream.abort(1), Err(WriteError::Finished), "the peer has everything");
        assert_eq!(stream.stopped().await, Ok(None));
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn an_abort_reaches_the_peer_with_its_code_and_ends_everything_pending() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        stream.send("begun").await.unwrap();
        let mut received = pair.server.accept_uni().await.unwrap();
        let stopped = stream.stopped();
        // More than flow control lets through while nobody reads, so it stays pending.
        let mut sending = stream.send(pattern(64 << 20));
        assert_eq!(support::poll_once(&mut sending), Poll::Pending);
        stream.abort(42).unwrap();
        assert_eq!(stream.acked().await, Err(WriteError::Reset(42)));
        assert_eq!(stream.finished().await, Err(WriteError::Reset(42)));
        assert_eq!(stream.send("more").await, Err(WriteError::Reset(42)));
        assert_eq!(stopped.await, Ok(None));
        assert_eq!(received.received_reset().await, Ok(Some(42)));
        assert!(matches!(received.read_chunk().await, Err(sendstream::ReadError::Reset(42))));
        poll_fn(|cx| stream.poll_abort(cx, 42)).await.unwrap();
        stream.abort(42).unwrap();
        drop((stream, received));
        pair.end().await;
    });
}

#[test]
fn an_abort_before_the_start_leaves_no_trace() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        poll_fn(|cx| stream.poll_abort(cx, 9)).await.unwrap();
        assert_eq!(stream.start().await, Err(StartError::Reset(9)));
        assert_eq!(stream.send("x").await, Err(WriteError::Reset(9)));
        assert_eq!(stream.id(), None);
        drop(stream);
        let mut other = pair.client.open_uni().unwrap();
        other.send("the first on the wire").await.unwrap();
        assert_eq!(other.id(), Some(2));
        drop(other);
        pair.end().await;
    });
}

#[test]
fn an_abort_after_finish_is_legal_while_fin_is_not_acknowledged() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        drop(stream.finish_with(pattern(64 << 20)));
        let received = pair.server.accept_uni().await.unwrap();
        stream.abort(7).unwrap();
        assert_eq!(stream.finished().await, Err(WriteError::Reset(7)));
        assert_eq!(received.received_reset().await, Ok(Some(7)));
        drop((stream, received));
        pair.end().await;
    });
}

#[test]
fn the_peers_stop_ends_what_is_pending_and_is_told_with_its_code() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        stream.send("begun").await.unwrap();
        let mut received = pair.server.accept_uni().await.unwrap();
        let stopped = stream.stopped();
        received.stop(77).unwrap();
        assert_eq!(stream.send(pattern(64 << 20)).await, Err(WriteError::Stopped(77)));
        assert_eq!(stopped.await, Ok(Some(77)));
        assert_eq!(stream.write_chunk(Bytes::from_static(b"x")).await, Err(WriteError::Stopped(77)));
        assert_eq!(stream.finished().await, Err(WriteError::Stopped(77)));
        assert_eq!(stream.abort(1), Err(WriteError::Stopped(77)));
        drop((stream, received));
        pair.end().await;
    });
}

#[test]
fn sends_that_race_with_the_peers_stop_always_name_it() {
    run(async {
        let pair = Pair::new().await;
        for _ in 0..200 {
            let mut stream = pair.client.open_uni().unwrap();
            stream.send("begun").await.unwrap();
            let mut received = pair.server.accept_uni().await.unwrap();
            received.stop(5).unwrap();
            let error = loop {
                if let Err(error) = stream.send(vec![0; 100]).await {
                    break error;
                }
            };
            assert_eq!(error, WriteError::Stopped(5));
        }
        pair.end().await;
    });
}

#[test]
fn dropping_an_unfinished_stream_resets_it_with_the_configured_code() {
    run(async {
        let config = TransportConfig::default().drop_error_code(0x77);
        let pair = Pair::with(config, TransportConfig::default()).await;
        let mut stream = pair.client.open_uni().unwrap();
        stream.send("half of it").await.unwrap();
        let received = pair.server.accept_uni().await.unwrap();
        drop(stream);
        assert_eq!(received.received_reset().await, Ok(Some(0x77)));
        drop(received);
        pair.end().await;
    });
}

#[test]
fn a_finished_stream_is_delivered_after_every_handle_was_dropped() {
    run(async {
        let pair = Pair::new().await;
        let expected = pattern(20 << 20);
        let mut stream = pair.client.open_uni().unwrap();
        drop(stream.finish_with(expected.clone()));
        drop(stream);
        let Pair { client, server, endpoints } = pair;
        drop(client);
        let mut received = server.accept_uni().await.unwrap();
        let read = received.read_to_end(usize::MAX).await.unwrap();
        assert!(read == expected);
        // Only then does the connection close.
        assert_closed_by_peer(&server.closed().await, 0, "");
        drop((received, server));
        endpoints.end().await;
    });
}

#[test]
fn a_closed_connection_never_makes_a_finish_ok() {
    run(async {
        let pair = Pair::new().await;
        let mut theirs = pair.client.open_uni().unwrap();
        let mut ours = pair.client.open_uni().unwrap();
        drop(theirs.finish_with(pattern(64 << 20)));
        drop(ours.finish_with(pattern(64 << 20)));
        let received = pair.server.accept_uni().await.unwrap();
        pair.server.close(7, "").unwrap();
        let Err(WriteError::ConnectionLost(lost)) = theirs.finished().await else { panic!("it is not lost") };
        assert_closed_by_peer(&lost, 7, "");
        assert_eq!(ours.finished().await, Err(WriteError::ConnectionLost(lost.clone())));
        assert_eq!(ours.acked().await, Err(WriteError::ConnectionLost(lost.clone())));
        assert_eq!(pair.client.closed().await, lost);
        drop((theirs, ours, received));
        pair.end().await;
    });
}

#[test]
fn a_local_close_is_reported_as_ours() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        let mut unstarted = pair.client.open_uni().unwrap();
        let stopped = unstarted.stopped();
        drop(stream.send(pattern(64 << 20)));
        pair.client.close(3, "").unwrap();
        let Err(WriteError::ConnectionLost(lost)) = stream.acked().await else { panic!("it is not lost") };
        assert_closed_locally(&lost, 3);
        assert_eq!(unstarted.send("x").await, Err(WriteError::ConnectionLost(lost.clone())));
        assert_eq!(stopped.await, Err(lost.clone()));
        assert_eq!(unstarted.start().await, Err(StartError::ConnectionLost(lost.clone())));
        assert!(matches!(pair.client.open_uni(), Err(sendstream::OpenError::ConnectionLost(e)) if e == lost));
        drop((stream, unstarted));
        pair.end().await;
    });
}

#[test]
fn writes_wait_while_the_window_is_full_and_go_on_when_the_peer_reads() {
    run(async {
        const WINDOW: u64 = 1 << 20;
        const CHUNK: usize = 64 << 10;
        let config = TransportConfig::default().send_window(WINDOW as u32);
        let pair = Pair::with(config, TransportConfig::default()).await;
        let expected = pattern(48 << 20);
        let mut stream = pair.client.open_uni().unwrap();
        let mut chunks = expected.chunks(CHUNK).map(Bytes::copy_from_slice);
        // Nobody reads: sooner or later neither flow control nor the window takes more.
        let mut left = None;
        'full: for chunk in chunks.by_ref() {
            let mut waits = 0;
            while poll_immediate(stream.write_chunk(chunk.clone())).await.map(Result::unwrap).is_none() {
                // What is acknowledged on another stream shows that the first has had its turns.
                pair.client.open_uni().unwrap().finish_with("a turn").await.unwrap();
                waits += 1;
                if waits == 20 {
                    left = Some(chunk);
                    break 'full;
                }
            }
            assert!(stream.in_flight() < WINDOW + CHUNK as u64);
        }
        assert!(left.is_some(), "48 MiB fit neither the window nor flow control");
        let rest = async {
            for chunk in left.into_iter().chain(chunks) {
                stream.write_chunk(chunk).await.unwrap();
            }
            stream.finished().await.unwrap();
        };
        let mut received = pair.server.accept_uni().await.unwrap();
        let ((), read) = futures::join!(rest, received.read_to_end(usize::MAX));
        assert!(read.unwrap() == expected);
        drop((stream, received));
        pair.end().await;
    });
}

#[test]
fn a_writer_goes_on_while_the_end_of_a_large_chunk_is_under_way() {
    // A writer that waits for all of the chunk waits for ever.
    run_within(Duration::from_secs(120), async {
        const WINDOW: u32 = 256 << 10;
        const PASSES: u32 = 1 << 20;
        const END: u32 = 128 << 10;
        // Nobody reads: flow control lets all of the chunk pass but its end, half of the window.
        let receiving = TransportConfig::default().stream_receive_window(PASSES);
        let pair = Pair::with(TransportConfig::default().send_window(WINDOW), receiving).await;
        let mut stream = pair.client.open_uni().unwrap();
        stream.write_chunk(Bytes::from(vec![0; (PASSES + END) as usize])).await.unwrap();
        poll_fn(|cx| stream.poll_writable(cx)).await.unwrap();
        assert!((u64::from(END)..u64::from(WINDOW)).contains(&stream.in_flight()), "{}", stream.in_flight());
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn chunks_as_large_as_the_window_do_not_wait_for_the_acknowledgement_delay() {
    // Connections that wait for the delay do that once or more often, some five minutes together.
    run_within(Duration::from_secs(180), async {
        const CHUNK: usize = 1 << 20;
        const CHUNKS: usize = 4;
        let settings = TransportConfig::default().max_ack_delay(LONG_DELAY).disconnect_timeout(PATIENCE);
        let endpoints = Endpoints::with(settings.clone(), settings);
        let chunk = Bytes::from(pattern(CHUNK));
        for _ in 0..20 {
            let (client, server) = endpoints.connect().await;
            let writing = async {
                let mut stream = client.open_uni().unwrap();
                for _ in 0..CHUNKS {
                    stream.write_chunk(chunk.clone()).await.unwrap();
                }
                stream.finish().unwrap();
            };
            let reading = async {
                let mut received = server.accept_uni().await.unwrap();
                received.read_to_end(CHUNKS * CHUNK).await.unwrap()
            };
            let ((), read) = futures::join!(writing, reading);
            assert!(read == chunk.repeat(CHUNKS));
        }
        endpoints.end().await;
    });
}

#[test]
fn write_all_copies_and_write_chunks_takes() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        let big = pattern(300_000);
        let mut chunks = [Bytes::from_static(b"a"), Bytes::from_static(b"bc")];
        let writing = async {
            stream.write_all(&big).await.unwrap();
            stream.write_chunks(&mut chunks).await.unwrap();
            stream.finished().await.unwrap();
        };
        let reading = async {
            let mut received = pair.server.accept_uni().await.unwrap();
            received.read_to_end(1 << 20).await.unwrap()
        };
        let ((), read) = futures::join!(writing, reading);
        assert!(read == [&big[..], b"abc"].concat());
        assert!(chunks.iter().all(Bytes::is_empty));
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn an_error_code_that_quic_cannot_carry_is_refused() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        assert_eq!(stream.abort(1 << 62), Err(WriteError::CodeOutOfRange(1 << 62)));
        stream.set_priority(1);
        assert_eq!(stream.priority(), 1);
        stream.send("still fine").await.unwrap();
        stream.abort((1 << 62) - 1).unwrap();
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn a_streams_own_window_replaces_msquics_advice() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = pair.client.open_uni().unwrap();
        assert!(stream.send_window() >= 128 * 1024);
        stream.set_send_window(10);
        assert_eq!(stream.send_window(), 10);
        drop(stream.send(vec![0; 10]));
        assert!(stream.in_flight() <= 10);
        stream.acked().await.unwrap();
        assert_eq!(stream.in_flight(), 0);
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn a_stream_that_is_started_now_is_told_to_the_peer_before_its_first_byte() {
    run(async {
        let pair = Pair::new().await;
        let (mut send, mut recv) = pair.client.open_bi().unwrap();
        send.start_now().await.unwrap();
        // The peer speaks first.
        let (mut answer, mut question) = pair.server.accept_bi().await.unwrap();
        answer.finish_with("who is there?").await.unwrap();
        assert_eq!(recv.read_to_end(100).await.unwrap(), b"who is there?");
        send.finish_with("me").await.unwrap();
        assert_eq!(question.read_to_end(100).await.unwrap(), b"me");

        let mut uni = pair.client.open_uni().unwrap();
        uni.start_now().await.unwrap();
        let accepted = pair.server.accept_uni().await.unwrap();
        assert_eq!(accepted.id(), uni.id());
        drop((send, recv, answer, question, uni, accepted));
        pair.end().await;
    });
}

#[test]
fn a_write_takes_a_beginning_and_says_how_long_it_is() {
    run(async {
        let pair = Pair::new().await;
        let data = support::pattern(200_000);
        let mut send = pair.client.open_uni().unwrap();
        assert_eq!(send.write(&[]).await.unwrap(), 0);
        let mut rest = &data[..];
        while !rest.is_empty() {
            let written = send.write(rest).await.unwrap();
            assert_eq!(written, rest.len().min(64 << 10));
            rest = &rest[written..];
        }
        let (finished, read) = futures::join!(send.finished(), async {
            pair.server.accept_uni().await.unwrap().read_to_end(data.len()).await.unwrap()
        });
        finished.unwrap();
        assert!(read == data);
        assert_eq!(send.write(b"more").await, Err(WriteError::Finished));
        drop(send);
        pair.end().await;
    });
}
