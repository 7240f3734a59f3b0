//! Transport settings: that each does what it says on a connection, and what is refused.

mod support;

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sendstream::{ConfigError, CongestionControl, ConnectionStats, StreamScheduling, TransportConfig, Trust};
use support::{Pair, pattern, run};

fn defaults() -> TransportConfig {
    TransportConfig::default()
}

/// Sends `length` bytes from the client to the server and has them read; the client's numbers after
/// that.
async fn transfer(pair: &Pair, length: usize) -> ConnectionStats {
    let data = pattern(length);
    let mut send = pair.client.open_uni().unwrap();
    let (sent, arrived) = futures::join!(send.finish_with(data.clone()), async {
        pair.server.accept_uni().await.unwrap().read_to_end(length).await.unwrap()
    });
    sent.unwrap();
    assert!(arrived == data);
    pair.client.stats().await.unwrap()
}

#[test]
fn what_is_out_of_range_is_refused_by_name_before_anything_is_sent() {
    let refused = [
        ("stream_receive_window", defaults().stream_receive_window(4097)),
        ("uni_stream_receive_window", defaults().uni_stream_receive_window(1)),
        ("local_bidi_stream_receive_window", defaults().local_bidi_stream_receive_window(0)),
        ("remote_bidi_stream_receive_window", defaults().remote_bidi_stream_receive_window(u32::MAX)),
        ("initial_window_packets", defaults().initial_window_packets(0)),
        ("initial_rtt", defaults().initial_rtt(Duration::ZERO)),
        ("max_ack_delay", defaults().max_ack_delay(Duration::from_secs(17))),
        ("min_mtu", defaults().min_mtu(1247)),
        ("max_mtu", defaults().max_mtu(9000)),
        ("min_mtu", defaults().min_mtu(1500).max_mtu(1400)),
        ("mtu_search_interval", defaults().mtu_search_interval(Duration::ZERO)),
        ("key_update_after", defaults().key_update_after(0)),
    ];
    for (name, transport) in refused {
        let trust = Trust::dangerous_accept_any_certificate();
        let error = support::client_with(trust).transport(transport).build().map(drop).unwrap_err();
        assert!(matches!(error, ConfigError::OutOfRange { field, .. } if field == name), "{name}: {error}");
    }
}

#[test]
fn msquic_takes_both_ends_of_every_range() {
    let longest = Duration::from_secs(71 * 60);
    let least = defaults()
        .uni_stream_receive_window(4096)
        .local_bidi_stream_receive_window(4096)
        .remote_bidi_stream_receive_window(4096)
        .initial_window_packets(1)
        .initial_rtt(Duration::from_millis(1))
        .max_ack_delay(Duration::from_millis(1))
        .max_mtu(1248)
        .min_mtu(1248)
        .mtu_search_interval(Duration::from_micros(1));
    let most = defaults()
        .uni_stream_receive_window(1 << 31)
        .local_bidi_stream_receive_window(1 << 31)
        .remote_bidi_stream_receive_window(1 << 31)
        .initial_window_packets(100_000)
        .initial_rtt(longest)
        .max_ack_delay(Duration::from_secs(16))
        .max_mtu(1500)
        .min_mtu(1500)
        .mtu_search_interval(Duration::MAX)
        .key_update_after(1 << 38);
    run(async move {
        for transport in [least, most] {
            let pair = Pair::with(transport.clone(), transport).await;
            // The acknowledgement may take its 16 s; the data does not.
            drop(pair.client.open_uni().unwrap().finish_with("through"));
            let arrived = pair.server.accept_uni().await.unwrap().read_to_end(7).await.unwrap();
            assert_eq!(arrived, b"through");
            pair.client.close(0, "").unwrap();
            pair.end().await;
        }
    });
}

#[test]
fn packets_have_the_size_that_is_asked_for() {
    run(async {
        for size in [1300, 1400] {
            let pair = Pair::with(defaults().min_mtu(size).max_mtu(size), defaults()).await;
            assert_eq!(transfer(&pair, 1_000_000).await.path_mtu, size);
            pair.end().await;
        }
    });
}

#[test]
fn the_initial_window_is_what_is_asked_for() {
    run(async {
        for (packets, range) in [(10, 12_000..30_000), (100, 120_000..300_000)] {
            let pair = Pair::with(defaults().initial_window_packets(packets), defaults()).await;
            let stats = pair.client.stats().await.unwrap();
            assert!(range.contains(&stats.congestion_window), "{stats:?}");
            pair.end().await;
        }
    });
}

/// Has the client ask and the server answer, on a stream of their own.
async fn ask(pair: &Pair) {
    let (mut send, mut recv) = pair.client.open_bi().unwrap();
    drop(send.finish_with("request"));
    let answer = async {
        let (mut send, mut recv) = pair.server.accept_bi().await.unwrap();
        assert_eq!(recv.read_to_end(7).await.unwrap(), b"request");
        drop(send.finish_with("answer"));
    };
    let (answered, ()) = futures::join!(recv.read_to_end(6), answer);
    assert_eq!(answered.unwrap(), b"answer");
}

#[test]
fn places_for_streams_go_with_answers() {
    if !support::has_edit("places-go-with-answers") {
        return support::skip("this MsQuic has no edit places-go-with-answers");
    }
    run(async {
        // Nothing is acknowledged in a packet of its own.
        let slow = defaults().max_ack_delay(support::LONG_DELAY);
        let pair = Pair::with(slow.clone(), slow.max_concurrent_bidi_streams(64)).await;
        ask(&pair).await;
        let before = pair.server.stats().await.unwrap().sent.ack_eliciting_packets;
        for _ in 0..256 {
            ask(&pair).await;
        }
        // Some look for the size of packets.
        let beside_answers = pair.server.stats().await.unwrap().sent.ack_eliciting_packets - before - 256;
        assert!(beside_answers < 64, "{beside_answers}");
        pair.end().await;
    });
}

#[test]
fn places_for_streams_go_alone_where_nothing_else_is_to_be_sent() {
    run(async {
        let one_size = defaults().min_mtu(1300).max_mtu(1300);
        let pair = Pair::with(one_size.clone(), one_size.max_concurrent_bidi_streams(64)).await;
        let before = pair.server.stats().await.unwrap().sent.ack_eliciting_packets;
        ask(&pair).await;
        // The answer, and then the place, when the client has acknowledged that.
        while pair.server.stats().await.unwrap().sent.ack_eliciting_packets < before + 2 {}
        pair.end().await;
    });
}

#[test]
fn every_place_that_is_free_reaches_the_peer() {
    run(async {
        for limit in [1, 2, 8, 30] {
            let pair = Pair::with(defaults(), defaults().max_concurrent_bidi_streams(limit)).await;
            // All but one are taken, and that one is used over and over.
            let mut taken = Vec::new();
            for _ in 1..limit {
                let mut ours = pair.client.open_bi().unwrap();
                ours.0.start().await.unwrap();
                drop(ours.0.send("here"));
                taken.push((ours, pair.server.accept_bi().await.unwrap()));
            }
            for _ in 0..2 * limit {
                ask(&pair).await;
            }
            // Half of them end, and then all places are taken at once.
            for ((mut send, mut recv), (mut answer, mut asked)) in taken.drain(usize::from(limit) / 2..) {
                send.finish().unwrap();
                assert_eq!(asked.read_to_end(4).await.unwrap(), b"here");
                drop(answer.finish_with("too"));
                assert_eq!(recv.read_to_end(3).await.unwrap(), b"too");
            }
            let mut more = Vec::new();
            for _ in taken.len()..usize::from(limit) {
                let mut ours = pair.client.open_bi().unwrap();
                ours.0.start().await.unwrap();
                more.push(ours);
            }
            drop((taken, more));
            pair.end().await;
        }
    });
}

#[test]
fn the_quic_bit_is_greased_only_where_both_want_it() {
    run(async {
        let grease = |grease_quic_bit| defaults().grease_quic_bit(grease_quic_bit);
        for (client, server) in [(true, true), (true, false), (false, true), (false, false)] {
            let pair = Pair::with(grease(client), grease(server)).await;
            assert_eq!(transfer(&pair, 10_000).await.grease_quic_bit, client && server);
            pair.end().await;
        }
    });
}

#[test]
fn ecn_is_tried_only_when_asked_for() {
    run(async {
        for ecn in [true, false] {
            let pair = Pair::with(defaults().ecn(ecn), defaults()).await;
            assert_eq!(transfer(&pair, 1_000_000).await.ecn_capable, ecn, "loopback carries the marks");
            pair.end().await;
        }
    });
}

#[test]
fn keys_change_after_as_many_bytes_as_are_asked_for() {
    run(async {
        let pair = Pair::with(defaults().key_update_after(1 << 16), defaults()).await;
        assert!(transfer(&pair, 1_000_000).await.key_updates > 0);
        pair.end().await;
        let pair = Pair::new().await;
        assert_eq!(transfer(&pair, 1_000_000).await.key_updates, 0);
        pair.end().await;
    });
}

#[test]
fn every_congestion_control_delivers_with_and_without_pacing() {
    run(async {
        for congestion_control in [CongestionControl::Cubic, CongestionControl::Bbr] {
            for pacing in [true, false] {
                let transport = defaults().congestion_control(congestion_control).pacing(pacing);
                let pair = Pair::with(transport.clone(), transport).await;
                transfer(&pair, 3_000_000).await;
                pair.end().await;
            }
        }
    });
}

#[test]
fn each_kind_of_stream_has_the_window_that_is_asked_for() {
    /// A short first piece may be copied, and then the peer may send as much again.
    const COPIED: usize = 2048;
    run(async {
        let server = defaults()
            .uni_stream_receive_window(1 << 14)
            .local_bidi_stream_receive_window(1 << 15)
            .remote_bidi_stream_receive_window(1 << 16);
        let pair = Pair::with(defaults(), server).await;
        let mut uni = pair.client.open_uni().unwrap();
        let mut bidi = pair.client.open_bi().unwrap();
        let mut servers_bidi = pair.server.open_bi().unwrap();
        servers_bidi.0.send("the stream exists").await.unwrap();
        let mut accepted = pair.client.accept_bi().await.unwrap();
        // The server reads nothing, so each stream carries its window and waits with the rest.
        let streams = [(&mut uni, 1 << 14), (&mut accepted.0, 1 << 15), (&mut bidi.0, 1 << 16)];
        let mut beyond = Vec::new();
        for (stream, window) in streams {
            stream.send(vec![0; window]).await.unwrap();
            beyond.push(stream.send(vec![0; COPIED + 1]));
        }
        // What was sent after it has arrived.
        pair.client.open_uni().unwrap().send("later").await.unwrap();
        for (kind, rest) in beyond.iter_mut().enumerate() {
            assert_eq!(futures::future::poll_immediate(rest).await, None, "stream {kind} carries more than its window");
        }
        drop(beyond);
        drop((uni, bidi, servers_bidi, accepted));
        pair.end().await;
    });
}

#[test]
fn limits_that_are_raised_later_count_for_a_connection_under_way() {
    const FEW: usize = 4096;
    const MANY: usize = 1 << 20;
    run(async {
        let few = defaults()
            .max_concurrent_uni_streams(1)
            .max_concurrent_bidi_streams(0)
            .connection_flow_control_window(FEW as u32);
        let pair = Pair::with(defaults(), few.clone()).await;
        let mut first = pair.client.open_uni().unwrap();
        first.send(vec![0; FEW]).await.unwrap();
        let mut beyond = first.send(vec![0; MANY - FEW]);
        let (mut second, _) = pair.client.open_bi().unwrap();
        let mut start = Box::pin(second.start());
        // The server has said all that it will by then.
        pair.server.stats().await.unwrap();
        assert_eq!(futures::future::poll_immediate(&mut beyond).await, None, "the window holds");
        assert!(futures::future::poll_immediate(&mut start).await.is_none(), "the count holds");

        let more = few.clone().max_concurrent_bidi_streams(1).connection_flow_control_window(MANY as u32);
        pair.server.raise_limits(&more).await.unwrap();
        start.await.unwrap();
        beyond.await.unwrap();
        // The window is full again, and a smaller one does not shrink it. The peer hears that it has
        // moved when a part of it has.
        pair.server.raise_limits(&few).await.unwrap();
        let rest = first.send(vec![0; MANY / 4]);
        let mut accepted = pair.server.accept_uni().await.unwrap();
        accepted.read_exact(&mut vec![0; MANY]).await.unwrap();
        rest.await.unwrap();

        let wrong = pair.server.raise_limits(&defaults().connection_flow_control_window(1)).await.unwrap_err();
        assert!(matches!(wrong, ConfigError::OutOfRange { field: "connection_flow_control_window", .. }), "{wrong}");
        drop((first, second, accepted));
        pair.end().await;
    });
}

#[test]
fn each_limit_can_be_set_alone_on_a_connection_under_way() {
    const FEW: usize = 4096;
    const MANY: usize = 1 << 20;
    run(async {
        let few = defaults()
            .max_concurrent_uni_streams(1)
            .max_concurrent_bidi_streams(0)
            .connection_flow_control_window(FEW as u32);
        let pair = Pair::with(defaults(), few).await;
        let mut first = pair.client.open_uni().unwrap();
        first.send(vec![0; FEW]).await.unwrap();
        let mut beyond = first.send(vec![0; MANY - FEW]);
        let (mut bidi, _) = pair.client.open_bi().unwrap();
        let mut bidi = Box::pin(bidi.start());
        let mut uni = pair.client.open_uni().unwrap();
        let mut uni = Box::pin(uni.start());
        pair.server.stats().await.unwrap();
        assert!(futures::future::poll_immediate(&mut bidi).await.is_none());

        pair.server.set_max_concurrent_bidi_streams(1).await.unwrap();
        bidi.await.unwrap();
        assert!(futures::future::poll_immediate(&mut uni).await.is_none(), "another kind");
        assert_eq!(futures::future::poll_immediate(&mut beyond).await, None, "another limit");
        pair.server.set_max_concurrent_uni_streams(2).await.unwrap();
        uni.await.unwrap();
        assert_eq!(futures::future::poll_immediate(&mut beyond).await, None, "another limit");
        pair.server.set_receive_window(MANY as u32).await.unwrap();
        beyond.await.unwrap();

        let wrong = pair.server.set_receive_window(1).await.unwrap_err();
        assert!(matches!(wrong, ConfigError::OutOfRange { field: "connection_flow_control_window", .. }), "{wrong}");
        drop(first);
        pair.end().await;
    });
}

#[test]
fn a_send_window_that_is_set_counts_for_the_next_streams() {
    run(async {
        // Nobody reads, so only what the peer's stream window takes is acknowledged.
        let pair = Pair::with(defaults(), defaults().stream_receive_window(4096)).await;
        let mut before = pair.client.open_uni().unwrap();
        pair.client.set_send_window(NonZeroU32::new(1));
        let mut after = pair.client.open_uni().unwrap();
        // The first write is taken whatever the window is, and fills it.
        before.write_chunk(vec![0; 16 << 10].into()).await.unwrap();
        before.write_chunk(vec![0; 16 << 10].into()).await.unwrap();
        after.write_chunk(vec![0; 16 << 10].into()).await.unwrap();
        assert!(futures::future::poll_immediate(Box::pin(after.write_chunk("more".into()))).await.is_none());
        pair.client.set_send_window(None);
        let mut last = pair.client.open_uni().unwrap();
        last.write_chunk(vec![0; 16 << 10].into()).await.unwrap();
        last.write_chunk(vec![0; 16 << 10].into()).await.unwrap();
        drop((before, after, last));
        pair.end().await;
    });
}

#[test]
fn streams_go_one_after_the_other_or_in_turn() {
    const LENGTH: usize = 1 << 20;
    /// How much of the first stream had been read when the second stream's first bytes came.
    async fn first_stream_ahead(stream_scheduling: StreamScheduling) -> usize {
        let client = defaults().stream_scheduling(stream_scheduling);
        let server = defaults().connection_flow_control_window(1 << 16);
        let pair = Pair::with(client, server).await;
        let [mut first, mut second] = [0, 1].map(|_| pair.client.open_uni().unwrap());
        let (a, b) = (first.finish_with(vec![0; LENGTH]), second.finish_with(vec![0; LENGTH]));
        let ahead = Arc::new(AtomicUsize::new(0));
        let mut reading = pair.server.accept_uni().await.unwrap();
        let read_first = async {
            while let Some(chunk) = reading.read_chunk().await.unwrap() {
                ahead.fetch_add(chunk.len(), Ordering::Relaxed);
            }
        };
        let read_second = async {
            let mut reading = pair.server.accept_uni().await.unwrap();
            reading.read_chunk().await.unwrap();
            let ahead = ahead.load(Ordering::Relaxed);
            reading.read_to_end(LENGTH).await.unwrap();
            ahead
        };
        let ((), ahead, a, b) = futures::join!(read_first, read_second, a, b);
        a.and(b).unwrap();
        drop((first, second, reading));
        pair.end().await;
        ahead
    }
    run(async {
        let fifo = first_stream_ahead(StreamScheduling::Fifo).await;
        assert!(fifo >= LENGTH - (1 << 17), "{fifo}");
        let in_turn = first_stream_ahead(StreamScheduling::RoundRobin).await;
        assert!(in_turn <= LENGTH / 2, "{in_turn}");
    });
}

#[test]
fn what_msquic_only_copied_counts_as_acknowledged_with_the_end_of_the_stream() {
    run(async {
        let pair = Pair::with(defaults().send_buffering(true), defaults()).await;
        let data = pattern(100_000);
        let mut stream = pair.client.open_uni().unwrap();
        drop(stream.send(data.clone()));
        let mut reading = pair.server.accept_uni().await.unwrap();
        let mut received = vec![0; data.len()];
        reading.read_exact(&mut received).await.unwrap();
        assert!(received == data);
        // The server has it all, and an answer of its comes after the acknowledgements.
        pair.server.open_uni().unwrap().finish_with("answer").await.unwrap();
        pair.client.accept_uni().await.unwrap().read_to_end(10).await.unwrap();
        {
            let mut acked = std::pin::pin!(stream.acked());
            assert!(futures::future::poll_immediate(&mut acked).await.is_none(), "MsQuic has said that it copied");
        }
        let last = stream.finish_with("end");
        assert_eq!(reading.read_to_end(3).await.unwrap(), b"end");
        last.await.unwrap();
        stream.acked().await.unwrap();
        stream.finished().await.unwrap();
        drop((stream, reading));
        pair.end().await;
    });
}

#[test]
fn what_msquic_only_copied_is_lost_with_the_connection() {
    run(async {
        let pair = Pair::with(defaults().send_buffering(true), defaults()).await;
        let mut stream = pair.client.open_uni().unwrap();
        let (sent, ()) = futures::join!(stream.send(pattern(1000)), async {
            let mut reading = pair.server.accept_uni().await.unwrap();
            reading.read_exact(&mut [0; 1000]).await.unwrap();
            pair.server.close(9, "").unwrap();
        });
        assert!(matches!(sent, Err(sendstream::WriteError::ConnectionLost(_))), "{sent:?}");
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn many_small_writes_arrive_with_send_buffering_and_hystart() {
    run(async {
        let transport = defaults().send_buffering(true).hystart(true);
        let pair = Pair::with(transport.clone(), transport).await;
        let data = pattern(3_000_000);
        let mut stream = pair.client.open_uni().unwrap();
        let sending = async {
            for piece in data.chunks(1000) {
                stream.write_chunk(sendstream::Bytes::copy_from_slice(piece)).await.unwrap();
            }
            stream.finished().await.unwrap();
        };
        let ((), received) = futures::join!(sending, async {
            pair.server.accept_uni().await.unwrap().read_to_end(data.len()).await.unwrap()
        });
        assert!(received == data);
        drop(stream);
        pair.end().await;
    });
}

#[test]
fn workers_may_be_told_at_any_time_how_long_to_poll() {
    let too_long = sendstream::process::set_polling_idle_timeout(Duration::from_secs(2)).unwrap_err();
    assert!(matches!(too_long, ConfigError::OutOfRange { field: "polling_idle_timeout", .. }), "{too_long}");
    run(async {
        let pair = Pair::new().await;
        for timeout in [Duration::ZERO, Duration::from_millis(20), Duration::from_micros(50)] {
            match sendstream::process::set_polling_idle_timeout(timeout) {
                Ok(()) => {
                    transfer(&pair, 1 << 20).await;
                }
                Err(ConfigError::CannotPoll) => support::skip("this MsQuic has no speed edits"),
                Err(error) => panic!("{error}"),
            }
        }
        pair.end().await;
    });
}
