//! What a flood leaves with the process. One test, as memory is the whole process's.
#![cfg(target_os = "linux")]

mod support;

use sendstream::process::{counters, release_memory};
use support::{
    Pair, figure,
    memory::{assert_within, resident},
    run, wait_until,
};

#[test]
fn memory_of_a_flood_goes_back_when_it_is_released() {
    const STREAMS: usize = 1000;
    run(async {
        let before = {
            let pair = Pair::new().await;
            support::exchange(&pair.client, &pair.server, 10_000).await;
            pair.end().await;
            release_memory();
            resident()
        };
        // Each connection's window is full of pieces that nobody reads.
        let mut flood = Vec::new();
        for _ in 0..6 {
            let pair = Pair::new().await;
            let mut streams = Vec::new();
            for _ in 0..STREAMS {
                let mut send = pair.client.open_uni().unwrap();
                drop(send.send(vec![7; 15 << 10]));
                streams.push(send);
            }
            for send in &mut streams {
                send.acked().await.unwrap();
            }
            flood.push((pair, streams));
        }
        let held = resident().saturating_sub(before);
        for (pair, streams) in flood {
            pair.server.close(9, "").unwrap();
            drop(streams);
            pair.end().await;
        }
        wait_until(|| counters().unwrap().connections_active == 0);
        let kept = resident().saturating_sub(before);
        release_memory();
        let after = resident().saturating_sub(before);
        figure(format_args!(
            "a flood held {} KiB; {} KiB stayed after it, and {} KiB after the release",
            held >> 10,
            kept >> 10,
            after >> 10
        ));
        assert_within(after, 8 << 20);
    });
}
