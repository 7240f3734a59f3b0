//! What a reader keeps never stops the peer, and costs no copy.

mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{
    future::{join, join_all},
    stream::TryStreamExt as _,
};
use sendstream::{RecvChunk, TransportConfig};
use support::{Pair, alone, figure, figure_of, memory, pattern, run};

/// The default window of a stream.
const WINDOW: usize = 1 << 20;

/// More than is copied.
const LENT: usize = 5000;

fn defaults() -> TransportConfig {
    TransportConfig::default()
}

/// Sends `data` on a stream of its own, to the end.
async fn send_whole(pair: &Pair, data: &[u8]) {
    let mut send = pair.client.open_uni().unwrap();
    send.write_all(data).await.unwrap();
    send.finished().await.unwrap();
}

/// Sends `data` to the end, and reads it whole: `keep` says which chunks are kept until the end.
async fn read_whole(pair: &Pair, data: &[u8], keep: impl Fn(usize) -> bool) -> Vec<(usize, RecvChunk)> {
    let reading = async {
        let mut recv = pair.server.accept_uni().await.unwrap();
        let (mut kept, mut place) = (Vec::new(), 0);
        while let Some(chunk) = recv.read_chunk().await.unwrap() {
            let length = chunk.len();
            assert!(chunk[..] == data[place..place + length], "another byte after {place}");
            if keep(place) {
                kept.push((place, chunk));
            }
            place += length;
        }
        assert_eq!(place, data.len());
        kept
    };
    let ((), kept) = join(send_whole(pair, data), reading).await;
    for (place, chunk) in &kept {
        assert!(chunk[..] == data[*place..place + chunk.len()], "a byte after {place} changed while it was kept");
    }
    kept
}

/// Whether MsQuic's own memory is lent. An installed library lends none.
fn lends() -> bool {
    support::has_edit("received-memory-kept")
}

fn is_copy(chunk: &RecvChunk) -> bool {
    format!("{chunk:?}").contains("Copied")
}

#[test]
fn a_stream_beyond_its_window_can_be_collected_whole() {
    run(async {
        let pair = Pair::new().await;
        let data = pattern(64 * WINDOW);
        let kept = read_whole(&pair, &data, |_| true).await;
        assert_eq!(kept.iter().map(|(_, chunk)| chunk.len()).sum::<usize>(), data.len());
        if lends() {
            let copied: usize = kept.iter().filter(|(_, chunk)| is_copy(chunk)).map(|(_, chunk)| chunk.len()).sum();
            assert!(copied < WINDOW, "short pieces are copied, and nothing else");
        }
        drop(kept);
        pair.end().await;
    });
}

#[test]
fn a_stream_beyond_its_window_can_be_collected_as_bytes() {
    run(async {
        let pair = Pair::new().await;
        let data = pattern(9 * WINDOW);
        let reading = async { pair.server.accept_uni().await.unwrap().try_collect::<Vec<Bytes>>().await };
        let ((), all) = join(send_whole(&pair, &data), reading).await;
        assert!(all.unwrap().concat() == data);
        pair.end().await;
    });
}

#[test]
fn one_early_chunk_that_is_kept_stops_nothing_and_holds_no_more_than_its_block() {
    // Nobody else's memory is counted there.
    let test = "one_early_chunk_that_is_kept_stops_nothing_and_holds_no_more_than_its_block";
    if alone::parent(test, |_| ()).is_some() {
        return;
    }
    run(async {
        let pair = Pair::new().await;
        let data = pattern(64 * WINDOW);
        let before = memory::resident();
        let kept = read_whole(&pair, &data, |place| place == 0).await;
        assert_eq!(kept.len(), 1);
        let grown = memory::resident().saturating_sub(before);
        figure_of(test, format!("{} KiB more after 64 MiB with the first chunk kept", grown >> 10));
        memory::assert_within(grown, 24 * WINDOW);
        drop(kept);
        pair.end().await;
    });
}

#[test]
fn streams_that_are_collected_together_may_have_more_than_the_connections_window() {
    run(async {
        const STREAMS: usize = 100;
        // The connection's window has room for four streams' windows.
        let server = defaults().connection_flow_control_window(4 * WINDOW as u32);
        let pair = Pair::with(defaults(), server).await;
        let data = pattern(WINDOW / 2);
        // Nothing is dropped before everything is read: 50 MiB over a window of 4.
        let all = join_all((0..STREAMS).map(|_| read_whole(&pair, &data, |_| true))).await;
        assert_eq!(all.len(), STREAMS);
        drop(all);
        pair.end().await;
    });
}

#[test]
fn chunks_of_streams_that_are_over_let_the_peer_open_more() {
    run(async {
        const AT_ONCE: u16 = 4;
        let pair = Pair::with(defaults(), defaults().max_concurrent_uni_streams(AT_ONCE)).await;
        let data = pattern(LENT);
        let mut kept = Vec::new();
        for number in 0..5 * AT_ONCE {
            let mut send = pair.client.open_uni().unwrap();
            let (sent, ()) = join(send.finish_with(data.clone()), async {
                let mut recv = pair.server.accept_uni().await.unwrap();
                let mut place = 0;
                while place < data.len() {
                    let chunk = recv.read_chunk().await.unwrap().unwrap();
                    place += chunk.len();
                    kept.push(chunk);
                }
                // One reader sees the end, the other knows it.
                if number % 2 == 0 {
                    assert!(recv.read_chunk().await.unwrap().is_none());
                }
                drop(recv);
            })
            .await;
            assert!(sent.is_ok() || number % 2 == 1, "{sent:?}");
        }
        assert!(kept.iter().map(|chunk| chunk.len()).sum::<usize>() > 0);
        drop(kept);
        pair.end().await;
    });
}

#[test]
fn every_other_chunk_kept_on_small_windows_stops_nothing() {
    run(async {
        let server = defaults().stream_receive_window(4096).connection_flow_control_window(4096);
        let pair = Pair::with(defaults(), server).await;
        let data = pattern(1_000_000);
        let kept = read_whole(&pair, &data, |place| place % 2 == 0).await;
        drop(kept);
        pair.end().await;
    });
}

#[test]
fn kept_chunks_outlive_the_stream_and_the_connection() {
    run(async {
        let pair = Pair::new().await;
        let data = pattern(5 * WINDOW);
        let kept = read_whole(&pair, &data, |_| true).await;
        let bytes: Vec<_> = kept.into_iter().map(|(place, chunk)| (place, Bytes::from(chunk))).collect();
        pair.end().await;
        for (place, bytes) in bytes {
            assert!(bytes[..] == data[place..place + bytes.len()]);
        }
    });
}

#[test]
fn a_reader_that_drops_each_chunk_makes_no_copy_and_takes_no_new_memory() {
    run(async {
        let pair = Pair::new().await;
        let data = pattern(64 * WINDOW);
        let reading = async {
            let mut recv = pair.server.accept_uni().await.unwrap();
            let (mut pages, mut copied, mut place) = (BTreeSet::new(), 0, 0);
            while let Some(chunk) = recv.read_chunk().await.unwrap() {
                let length = chunk.len();
                assert!(chunk[..] == data[place..place + length]);
                place += length;
                if is_copy(&chunk) {
                    copied += length;
                } else {
                    let start = chunk.as_ptr().addr();
                    pages.extend(start >> 12..=(start + length - 1) >> 12);
                }
            }
            assert_eq!(place, data.len());
            (pages.len() << 12, copied)
        };
        let ((), (seen, copied)) = join(send_whole(&pair, &data), reading).await;
        figure(format!("{} KiB of memory for 64 MiB, {copied} bytes in copies of short pieces", seen >> 10));
        if lends() {
            assert!(copied < WINDOW, "{copied} bytes were copied");
            // The window may have grown to the connection's, by way of every power of two below.
            assert!(seen < 40 * WINDOW, "{seen} bytes of memory were read from");
        }
        pair.end().await;
    });
}

// ---- Ends ---------------------------------------------------------------------------------------

#[test]
fn chunks_of_streams_that_waited_long_to_be_accepted_let_the_peer_open_more() {
    run(async {
        // More than wait at ease: the later ones count against the limit until they are let go.
        const AT_ONCE: u16 = 70;
        let pair = Pair::with(defaults(), defaults().max_concurrent_uni_streams(AT_ONCE)).await;
        let data = pattern(LENT);
        let mut kept = Vec::new();
        for _ in 0..3 {
            let mut sends: Vec<_> = (0..AT_ONCE).map(|_| pair.client.open_uni().unwrap()).collect();
            // The peer takes them all before the first is accepted.
            let sent = join_all(sends.iter_mut().map(|send| send.send(data.clone())));
            assert!(sent.await.into_iter().all(|sent| sent.is_ok()));
            for mut send in sends {
                drop(send.finish());
                let mut recv = pair.server.accept_uni().await.unwrap();
                while let Some(chunk) = recv.read_chunk().await.unwrap() {
                    kept.push(chunk);
                }
            }
        }
        assert_eq!(kept.iter().map(|chunk| chunk.len()).sum::<usize>(), 3 * usize::from(AT_ONCE) * LENT);
        drop(kept);
        pair.end().await;
    });
}

#[test]
fn chunks_outlive_a_reset_a_stop_and_a_lost_connection() {
    run(async {
        let data = pattern(WINDOW / 2);
        for end in ["reset", "stop", "close"] {
            let pair = Pair::new().await;
            let mut send = pair.client.open_uni().unwrap();
            send.send(data.clone()).await.unwrap();
            let mut recv = pair.server.accept_uni().await.unwrap();
            let (mut kept, mut place) = (Vec::new(), 0);
            // The rest is unread at the end.
            while place < data.len() / 2 {
                let chunk = recv.read_chunk().await.unwrap().unwrap();
                place += chunk.len();
                kept.push(chunk);
            }
            match end {
                "reset" => {
                    send.abort(7).unwrap();
                    assert_eq!(recv.received_reset().await.unwrap(), Some(7));
                }
                "stop" => {
                    recv.stop(7).unwrap();
                    assert_eq!(send.stopped().await.unwrap(), Some(7));
                }
                _ => {
                    let _ = pair.client.close(7, "");
                    pair.server.closed().await;
                }
            }
            drop((send, recv));
            pair.end().await;
            assert!(kept.iter().flat_map(|chunk| chunk.iter()).eq(&data[..place]), "a byte changed after a {end}");
        }
    });
}

#[test]
fn chunks_may_be_dropped_on_other_threads_while_more_comes() {
    run(async {
        let pair = Pair::new().await;
        let data = pattern(32 * WINDOW);
        let (give, take) = std::sync::mpsc::channel::<(usize, RecvChunk)>();
        let expected = data.clone();
        let dropping = std::thread::spawn(move || {
            let mut held = std::collections::VecDeque::new();
            for (number, (place, chunk)) in take.into_iter().enumerate() {
                held.push_back((place, chunk));
                // Old ones and new ones, so that blocks are given up in any order.
                if held.len() > 40 {
                    let gone = if number % 3 == 0 { held.pop_back() } else { held.pop_front() };
                    let (place, chunk) = gone.unwrap();
                    assert!(chunk[..] == expected[place..place + chunk.len()], "a byte after {place} changed");
                }
            }
        });
        let reading = async {
            let mut recv = pair.server.accept_uni().await.unwrap();
            let mut place = 0;
            while let Some(chunk) = recv.read_chunk().await.unwrap() {
                let length = chunk.len();
                give.send((place, chunk)).unwrap();
                place += length;
            }
            assert_eq!(place, data.len());
            drop(give);
        };
        join(send_whole(&pair, &data), reading).await;
        dropping.join().unwrap();
        pair.end().await;
    });
}

#[test]
fn chunks_and_copies_of_one_stream_come_in_order() {
    run(async {
        let pair = Pair::new().await;
        let data = pattern(8 * WINDOW);
        let reading = async {
            let mut recv = pair.server.accept_uni().await.unwrap();
            let (mut kept, mut place, mut copy) = (Vec::new(), 0, vec![0; 3000]);
            loop {
                let Some(length) = recv.read(&mut copy).await.unwrap() else { break };
                assert!(copy[..length] == data[place..place + length]);
                place += length;
                let Some(chunk) = recv.read_chunk().await.unwrap() else { break };
                let length = chunk.len();
                kept.push((place, chunk));
                place += length;
            }
            assert_eq!(place, data.len());
            kept
        };
        let ((), kept) = join(send_whole(&pair, &data), reading).await;
        for (place, chunk) in kept {
            assert!(chunk[..] == data[place..place + chunk.len()], "a byte after {place} changed");
        }
        pair.end().await;
    });
}
