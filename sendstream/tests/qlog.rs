//! What connections do on the wire, as qlog.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future as _, poll_fn},
    io::{self, Write},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    task::{Wake, Waker},
    time::Duration,
};

use sendstream::{Client, Connection, ConnectionStats, QlogStream, Server};
use serde_json::Value;
use support::{
    any_port, connect, exchange, identity, pattern, poll_with,
    relay::{Faults, Relay},
    run, tell, try_connect,
};

/// A file in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The header and the events, of which each must be one JSON text behind a record separator.
    fn records(&self) -> (Value, Vec<Value>) {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let mut records = text.split('\u{1e}');
        assert_eq!(records.next(), Some(""));
        let mut records = records.map(|record| {
            assert!(record.ends_with('\n'), "{record:?}");
            serde_json::from_str::<Value>(record).unwrap()
        });
        (records.next().expect("there is a header"), records.collect())
    }
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["name"] == name).collect()
}

/// A server and a client, each with a log.
struct Logged {
    server: Server,
    client: Client,
    streams: [QlogStream; 2],
    logs: [Log; 2],
}

impl Logged {
    fn new() -> Self {
        let identity = identity();
        let logs = [Log::default(), Log::default()];
        let [ours, theirs] = logs.each_ref().map(|log| QlogStream::new("a test", log.clone()));
        let server = support::server(&identity).qlog(&theirs).bind(any_port()).unwrap();
        let client = support::client(&identity).qlog(&ours).build().unwrap();
        Self { server, client, streams: [ours, theirs], logs }
    }

    /// Over a path that loses packets and changes their order, for as long as the relay lives.
    async fn connect_over_a_bad_path(&self) -> (Relay, Connection, Connection) {
        let faults = Faults::none().lose(0.03).delay(Duration::from_millis(2)).reorder(0.02, Duration::from_millis(5));
        let relay = Relay::start(self.server.local_addr().unwrap(), faults);
        let (ours, theirs) = try_connect(&self.client, &self.server, relay.address()).await.unwrap();
        (relay, ours, theirs)
    }

    async fn end(self) {
        self.server.shutdown().await;
        self.client.wait_idle().await;
    }
}

/// What the log and the statistics count alike: packets sent, received and lost.
fn counts_of(events: &[Value]) -> [u64; 3] {
    ["transport:packet_sent", "transport:packet_received", "recovery:packet_lost"]
        .map(|name| named(events, name).len() as u64)
}

fn counts(stats: &ConnectionStats) -> [u64; 3] {
    let received = stats.received.packets - stats.received.dropped_packets;
    [stats.sent.packets, received, stats.sent.suspected_lost_packets]
}

/// The events of a side whose only connection this is, with its statistics at the same moment.
async fn at_once(connection: &Connection, stream: &QlogStream, log: &Log) -> (Vec<Value>, ConnectionStats) {
    loop {
        let before = connection.stats().await.unwrap();
        stream.flush().await.unwrap();
        let events = log.records().1;
        let after = connection.stats().await.unwrap();
        // Nothing happened in between.
        if counts(&before) == counts(&after) {
            return (events, after);
        }
    }
}

#[test]
fn a_log_of_a_lossy_transfer_agrees_with_the_statistics() {
    run(async {
        let logged = Logged::new();
        let (_relay, ours, theirs) = logged.connect_over_a_bad_path().await;
        exchange(&ours, &theirs, 2_000_000).await;

        let mut received = Vec::new();
        let mut sent = Vec::new();
        for (at, (connection, side)) in [(&ours, "client"), (&theirs, "server")].into_iter().enumerate() {
            let (events, stats) = at_once(connection, &logged.streams[at], &logged.logs[at]).await;
            assert_eq!(counts_of(&events), counts(&stats), "{side}: {stats:?}");
            assert!(counts(&stats).iter().all(|count| *count > 0), "{side}: {stats:?}");
            assert_eq!(logged.streams[at].lost(), 0);

            let header = logged.logs[at].records().0;
            assert_eq!((&header["qlog_version"], &header["qlog_format"]), (&"0.3".into(), &"JSON-SEQ".into()));
            assert_eq!(header["trace"]["vantage_point"]["type"], side);
            assert_eq!(header["trace"]["common_fields"]["time_format"], "relative");
            assert!(header["trace"]["common_fields"]["reference_time"].as_f64().unwrap() > 1e12);

            // In order, and with what a viewer needs.
            let times: Vec<_> = events.iter().map(|event| event["time"].as_f64().unwrap()).collect();
            assert!(times.is_sorted());
            assert!(events.iter().all(|event| event["group_id"] == "1" && event["data"].is_object()));
            let packets = |name| -> BTreeMap<(String, u64), u64> {
                let packet = |event: &&Value| {
                    let header = &event["data"]["header"];
                    let kind = header["packet_type"].as_str().unwrap().to_owned();
                    let length = event["data"]["raw"]["length"].as_u64().unwrap_or_default();
                    ((kind, header["packet_number"].as_u64().unwrap()), length)
                };
                named(&events, name).iter().map(packet).collect()
            };
            let (out, lost) = (packets("transport:packet_sent"), packets("recovery:packet_lost"));
            let bytes: u64 = out.values().sum();
            assert!(bytes > 2_000_000 && bytes <= stats.sent.bytes, "{bytes} of {}", stats.sent.bytes);
            assert!(lost.keys().all(|packet| out.contains_key(packet)));
            let kinds: BTreeSet<_> = out.keys().map(|(kind, _)| kind.as_str()).collect();
            assert_eq!(kinds, BTreeSet::from(["1RTT", "handshake", "initial"]));
            sent.push(out);
            received.push(packets("transport:packet_received"));

            // What was acknowledged is what was sent.
            let largest = |event: &&Value| event["data"]["frames"][0]["acked_ranges"][0][1].as_u64();
            let acknowledged = named(&events, "transport:packet_received").iter().filter_map(largest).max().unwrap();
            assert!(sent[at].contains_key(&("1RTT".to_owned(), acknowledged)), "{acknowledged}");
            let metrics = named(&events, "recovery:metrics_updated");
            for name in ["congestion_window", "bytes_in_flight", "smoothed_rtt", "min_rtt", "latest_rtt"] {
                assert!(metrics.iter().any(|event| event["data"][name].as_f64().unwrap_or_default() > 0.0), "{name}");
            }
            let states: Vec<_> = named(&events, "connectivity:connection_state_updated")
                .iter()
                .map(|event| event["data"]["new"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(states, ["attempted", "handshake_complete"]);
        }
        // What arrived was sent, with that length.
        for (received, sent) in received.iter().zip(sent.iter().rev()) {
            for (packet, length) in received {
                assert!(*length == 0 || sent[packet] == *length, "{packet:?}");
            }
        }
        drop((ours, theirs));
        let (streams, logs) = (logged.streams.clone(), logged.logs.clone());
        logged.end().await;
        for (stream, log) in streams.iter().zip(&logs) {
            stream.flush().await.unwrap();
            let events = log.records().1;
            assert_eq!(
                named(&events, "connectivity:connection_state_updated").last().unwrap()["data"]["new"],
                "closed"
            );
        }
    });
}

/// The frames of packets of that kind of event, by the types and numbers of the packets.
fn frames_by_packet(events: &[Value], name: &str) -> BTreeMap<(String, u64), Vec<Value>> {
    let packet = |event: &&Value| {
        let header = &event["data"]["header"];
        let kind = header["packet_type"].as_str().unwrap().to_owned();
        let frames = event["data"]["frames"].as_array().cloned().unwrap_or_default();
        ((kind, header["packet_number"].as_u64().unwrap()), frames)
    };
    named(events, name).iter().map(packet).collect()
}

/// Checks that the STREAM frames of stream `id` are exactly its `length` bytes and its end. Some may be
/// there more than once.
#[track_caller]
fn assert_covered<'a>(frames: impl Iterator<Item = &'a Value>, id: u64, length: u64) {
    let number = |frame: &Value, name| frame[name].as_u64().unwrap();
    let mut parts: Vec<_> = frames
        .filter(|frame| frame["frame_type"] == "stream" && frame["stream_id"] == id)
        .map(|frame| {
            let offset = number(frame, "offset");
            (offset, offset + number(frame, "length"), frame["fin"].as_bool().unwrap())
        })
        .collect();
    parts.sort_unstable();
    let mut covered = 0;
    for (begin, end, is_last) in &parts {
        assert!(*begin <= covered, "stream {id}: nothing from {covered} to {begin}");
        assert!(!is_last || *end == length, "stream {id}: the end is at {end}");
        covered = covered.max(*end);
    }
    assert_eq!(covered, length, "stream {id}");
    assert!(parts.iter().any(|(_, _, is_last)| *is_last), "stream {id} has no end");
}

#[test]
fn the_logs_of_both_ends_have_the_frames_of_every_packet() {
    run(async {
        let logged = Logged::new();
        let (_relay, ours, theirs) = logged.connect_over_a_bad_path().await;

        // On streams side by side, of which each has another length.
        let lengths = [0, 1, 70_001, 300_000];
        let mut streams = [Vec::new(), Vec::new()];
        for ((side, from), to) in [(0, &ours), (1, &theirs)].into_iter().zip([&theirs, &ours]) {
            let mut sending: Vec<_> = lengths.iter().map(|length| (from.open_uni().unwrap(), *length)).collect();
            let sent = sending.iter_mut().map(async |(send, length)| {
                drop(send.finish_with(pattern(*length)));
                send.finished().await.unwrap();
                (send.id().unwrap(), *length as u64)
            });
            let received =
                lengths.map(async |_| to.accept_uni().await.unwrap().read_to_end(300_000).await.unwrap().len());
            let (sent, received) = futures::join!(futures::future::join_all(sent), futures::future::join_all(received));
            assert_eq!(received.iter().sum::<usize>(), lengths.iter().sum::<usize>());
            streams[side] = sent;
        }

        let mut types = BTreeSet::new();
        for (from, to) in [(0, 1), (1, 0)] {
            // What has arrived by now was sent before that.
            logged.streams[to].flush().await.unwrap();
            let received = frames_by_packet(&logged.logs[to].records().1, "transport:packet_received");
            logged.streams[from].flush().await.unwrap();
            let sent = frames_by_packet(&logged.logs[from].records().1, "transport:packet_sent");
            for (id, length) in &streams[from] {
                assert_covered(sent.values().flatten(), *id, *length);
                assert_covered(received.values().flatten(), *id, *length);
            }
            assert!(sent.values().all(|frames| !frames.is_empty()));
            for (packet, frames) in &received {
                // A server's log begins behind the client's first packets.
                let is_before_log = frames.is_empty() && packet.0 == "initial";
                assert!(is_before_log || *frames == sent[packet], "{packet:?}: {frames:?}, not {:?}", sent[packet]);
            }
            types.extend(sent.values().flatten().map(|frame| frame["frame_type"].as_str().unwrap().to_owned()));
        }
        for name in ["ack", "crypto", "handshake_done", "new_connection_id", "padding", "ping", "stream"] {
            assert!(types.contains(name), "{name} is not in {types:?}");
        }
        assert!(!types.contains("unknown"), "MsQuic sends a frame that the log cannot read: {types:?}");
        drop((ours, theirs));
        logged.end().await;
    });
}

#[test]
fn connections_of_a_stream_are_told_apart() {
    run(async {
        let logged = Logged::new();
        let (first, its_peer) = connect(&logged.client, &logged.server).await;
        let (second, other_peer) = connect(&logged.client, &logged.server).await;
        tell(&first, &its_peer, "first").await;
        tell(&second, &other_peer, "second").await;
        for (stream, log) in logged.streams.iter().zip(&logged.logs) {
            stream.flush().await.unwrap();
            let events = log.records().1;
            let groups: BTreeSet<_> = events.iter().map(|event| event["group_id"].as_str().unwrap()).collect();
            assert_eq!(groups, BTreeSet::from(["1", "2"]));
        }
        drop((first, its_peer, second, other_peer));
        logged.end().await;
    });
}

/// A writer that goes on when it is told to.
struct Slow {
    go_on: mpsc::Receiver<()>,
    log: Log,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Once the sender is gone nothing holds it up.
        let _ = self.go_on.recv();
        self.log.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_writer_holds_up_nobody_and_the_log_says_what_is_missing() {
    run(async {
        let identity = identity();
        let (release, go_on) = mpsc::channel();
        let log = Log::default();
        let stream = QlogStream::new("slow", Slow { go_on, log: log.clone() });
        let server = support::server(&identity).bind(any_port()).unwrap();
        let client = support::client(&identity).qlog(&stream).build().unwrap();
        let (ours, theirs) = connect(&client, &server).await;
        while stream.lost() == 0 {
            exchange(&ours, &theirs, 10_000_000).await;
        }
        drop(release);
        stream.flush().await.unwrap();
        let (ours_lost, events) = (stream.lost(), log.records().1);
        let told: u64 = named(&events, "loglevel:warning")
            .iter()
            .map(|event| event["data"]["message"].as_str().unwrap().split(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert!(told > 0 && told <= ours_lost, "{told} of {ours_lost}");
        assert!(events.len() > 32_000, "{}", events.len());
        drop((ours, theirs));
        server.shutdown().await;
        client.wait_idle().await;
    });
}

/// A writer that has no room, or worse. It counts how often it is asked.
struct Failing {
    panics: bool,
    asked: Arc<AtomicU32>,
}

impl Write for Failing {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics, "this writer panics, as the test wants");
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_fails_harms_no_connection() {
    run(async {
        let identity = identity();
        for (panics, kind) in [(false, io::ErrorKind::StorageFull), (true, io::ErrorKind::Other)] {
            let asked = Arc::new(AtomicU32::new(0));
            let stream = QlogStream::new("failing", Failing { panics, asked: asked.clone() });
            let server = support::server(&identity).qlog(&stream).bind(any_port()).unwrap();
            let client = support::client(&identity).qlog(&stream).build().unwrap();
            let (ours, theirs) = connect(&client, &server).await;
            assert_eq!(stream.flush().await.unwrap_err().kind(), kind);
            exchange(&ours, &theirs, 1_000_000).await;
            assert!(stream.lost() > 0);
            assert_eq!(asked.load(Ordering::SeqCst), 1, "it gets nothing more");
            drop((ours, theirs));
            server.shutdown().await;
            client.wait_idle().await;
        }
    });
}

#[test]
fn a_waker_that_panics_keeps_nobody_from_the_end_of_a_flush() {
    struct Panicking;
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            panic!("this waker panics, as the test wants");
        }
    }
    run(async {
        let identity = identity();
        let (release, go_on) = mpsc::channel();
        let log = Log::default();
        let stream = QlogStream::new("a waker that panics", Slow { go_on, log: log.clone() });
        let server = support::server(&identity).bind(any_port()).unwrap();
        let client = support::client(&identity).qlog(&stream).build().unwrap();
        let (ours, theirs) = connect(&client, &server).await;
        let (mut first, mut second) = (pin!(stream.flush()), pin!(stream.flush()));
        assert!(poll_with(&Waker::from(Arc::new(Panicking)), first.as_mut()).is_pending());
        // It waits for the same, behind the other.
        let mut release = Some(release);
        poll_fn(|cx| {
            let polled = second.as_mut().poll(cx);
            drop(release.take());
            polled
        })
        .await
        .unwrap();
        tell(&ours, &theirs, "it goes on").await;
        stream.flush().await.unwrap();
        first.await.unwrap();
        drop((ours, theirs));
        server.shutdown().await;
        client.wait_idle().await;
    });
}
