//! Futures that are made, polled and dropped in a loop leave nothing behind.

mod support;

use std::future::{poll_fn, ready};

use futures::{FutureExt, select_biased};
use support::{Pair, figure, memory::resident, run};

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn a_hundred_thousand_select_rounds_do_not_grow_memory() {
    run(async {
        let pair = Pair::new().await;
        let mut send = pair.client.open_uni().unwrap();
        send.send("begun").await.unwrap();
        let mut recv = pair.server.accept_uni().await.unwrap();
        recv.read_chunk().await.unwrap();
        // In flight until somebody reads.
        drop(send.send(vec![0; 4 << 20]));
        let mut other = pair.client.open_uni().unwrap();
        let mut round = async || {
            let mut turn = 0;
            let stopped = send.stopped();
            select_biased! {
                result = Box::pin(send.acked()).fuse() => panic!("{result:?}"),
                result = Box::pin(stopped).fuse() => panic!("{result:?}"),
                result = Box::pin(other.stopped()).fuse() => panic!("{result:?}"),
                result = Box::pin(recv.received_reset()).fuse() => panic!("{result:?}"),
                result = Box::pin(pair.client.accept_uni()).fuse() => panic!("{result:?}"),
                result = Box::pin(pair.client.accept_bi()).fuse() => panic!("{result:?}"),
                result = Box::pin(pair.server.closed()).fuse() => panic!("{result:?}"),
                _ = Box::pin(poll_fn(|_| { turn += 1; std::task::Poll::Ready(turn) })).fuse() => {}
                () = Box::pin(ready(())).fuse() => unreachable!(),
            }
        };
        // Long enough for what the receive window admits to arrive, which takes memory once.
        for _ in 0..30_000 {
            round().await;
        }
        // What is acknowledged on other streams shows that the one that nobody reads has filled its
        // window.
        for _ in 0..20 {
            pair.client.open_uni().unwrap().finish_with("a turn").await.unwrap();
        }
        let before = resident();
        for _ in 0..100_000 {
            round().await;
        }
        let grown = resident().saturating_sub(before);
        figure(format_args!("resident memory grew by {} KiB over 100,000 rounds", grown >> 10));
        // One waker left behind in each round would be 1.6 MB; by each of the seven futures, 11 MB.
        assert!(grown < 1 << 20, "resident memory grew by {grown} bytes");
        // Whatever was dropped has left the stream usable.
        other.send("done").await.unwrap();
        drop((send, recv, other));
        pair.end().await;
    });
}
