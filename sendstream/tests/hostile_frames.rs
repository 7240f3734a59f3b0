//! Peers whose frames are allowed, and chosen to cost much: each costs about what the same packets
//! cost in order, and what is held for them is bounded.
//!
//! The peer is aioquic, which sends any frames (`peers/forbidden_peer.py`). Skipped, loudly, where
//! it is missing.

mod support;

use std::{
    fmt::Write as _,
    iter::{repeat_n, zip},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures::future::{join_all, poll_immediate};
use sendstream::{
    Connection, ConnectionError, MemorySessionCache, RecvChunk, RecvStream, Server, TransportConfig,
    process::set_memory_budget,
};
use support::{
    HANG, accept,
    aioquic::{Certified, Peer},
    any_port, connect, exchange, figure,
    frames::{crypto, datagram, reset_stream, stream},
    memory::{assert_within, processor_time, resident},
    python::python,
    run, soak,
};

// ---- Work ---------------------------------------------------------------------------------------

#[test]
fn frames_in_any_order_cost_little_more_than_frames_in_order() {
    with_client(|mut peer, target| async move {
        let mut random = Rng::with_seed(soak::seed());
        let mut of_streams = |offsets: &dyn Fn(&mut Rng) -> Vec<u64>| {
            let frames = (0..STREAMS.into()).flat_map(|n| {
                offsets(&mut random).into_iter().map(move |offset| stream(2 + 4 * n, offset, b"x", false))
            });
            packets(frames)
        };
        let in_order = of_streams(&|_| (0..GAPS).collect());
        let count = in_order.len();
        let ascending = of_streams(&|_| gaps().collect());
        let descending = of_streams(&|_| gaps().rev().collect());
        let shuffled = of_streams(&|random| {
            let mut offsets: Vec<_> = gaps().collect();
            random.shuffle(&mut offsets);
            offsets
        });
        let known = packets(repeat_n(stream(2, 2 * GAPS, b"x", false), GAPS as usize * usize::from(STREAMS)));
        let orders = [
            vec![in_order],
            vec![ascending.clone()],
            vec![descending],
            vec![shuffled],
            vec![ascending[..count / usize::from(STREAMS)].to_vec(), known],
        ];
        let times = target.costs(&mut peer, &orders.map(order), 0).await;
        judge("STREAM frames", count, &times, ["gaps", "gaps, the last first", "gaps at random", "what is known"]);
        drop(peer);
        target.end().await;
    });
}

#[test]
fn handshake_data_in_any_order_costs_little_more_than_in_order() {
    let _alone = alone();
    let Some(python) = python() else { return };
    run(async move {
        const FRAMES: usize = 30_000;
        // Without a cache a client passes all that over.
        let certified = Certified::new();
        let client = support::client(&certified.identity)
            .transport(patient())
            .session_cache(Arc::new(MemorySessionCache::new(1)))
            .build()
            .unwrap();
        let (mut peer, address) = Peer::serve(&python, SCRIPT, &certified);
        // A message that is too long to end here, behind the peer's own tickets.
        let begin = |n: u64| 2000 + n;
        let in_order = packets((0..FRAMES as u64).map(|n| crypto(begin(n), b"x")));
        let count = in_order.len();
        let mut random = Rng::with_seed(soak::seed());
        let mut offsets: Vec<_> = gaps().take(CRYPTO_GAPS).map(begin).collect();
        let ascending = packets(offsets.iter().map(|&offset| crypto(offset, b"x")));
        random.shuffle(&mut offsets);
        let shuffled = packets(offsets.iter().map(|&offset| crypto(offset, b"x")));
        let known = packets(repeat_n(crypto(offsets[0], b"x"), FRAMES));
        let orders = [vec![in_order], vec![ascending, known.clone()], vec![shuffled, known]];
        let orders = orders.map(order);
        let mut times = [Duration::MAX; 3];
        for _ in 0..ROUNDS {
            for (least, order) in zip(&mut times, &orders) {
                peer.tell(order);
                peer.says("set");
                let connection = client.connect(address, "localhost").await.unwrap();
                *least = last_batch(&connection, order).await.min(*least);
                let _ = connection.close(0, "");
                peer.says("closed");
            }
        }
        judge("CRYPTO frames", count, &times, ["what is known", "what is known, of gaps at random"]);
        drop(peer);
        client.wait_idle().await;
    });
}

#[test]
fn acknowledgements_with_gaps_cost_little_more_than_those_without() {
    with_client(|mut peer, target| async move {
        const PACKETS: usize = 600;
        let orders = ["^1", "^250"].map(|packet| order([repeat_n(packet.to_owned(), PACKETS).collect()]));
        // So many packets come first that each other one makes enough ranges.
        let times = target.costs(&mut peer, &orders, 900_000).await;
        judge("ACK frames", PACKETS, &times, ["250 ranges each"]);
        drop(peer);
        target.end().await;
    });
}

#[test]
fn packets_whose_numbers_have_gaps_cost_little_more_than_those_without() {
    with_client(|mut peer, target| async move {
        const PACKETS: usize = 1200;
        let packet = hex(&datagram(&[7; 1000]));
        let orders = [packet.clone(), format!("+{packet}")].map(|packet| order([vec![packet; PACKETS]]));
        let times = target.costs(&mut peer, &orders, 0).await;
        judge("DATAGRAM frames", PACKETS, &times, ["a gap before each packet"]);
        drop(peer);
        target.end().await;
    });
}

#[test]
fn honest_transfers_beside_costly_peers_take_little_longer() {
    let _alone = alone();
    let Some(python) = python() else { return };
    run(async move {
        const PEERS: usize = 3;
        const PER_SECOND: usize = 200;
        const PACKETS: usize = 1000;
        const TRANSFERS: usize = 30;
        let target = Target::new();
        let honest = target.honest().await;
        let build = packets(gaps().map(|offset| stream(2, offset, b"x", false)));
        let known = packets(repeat_n(stream(2, 2 * GAPS, b"x", false), FRAMES_IN_A_PACKET * PACKETS));
        let order = order([build, known]);
        let mut attacks = Vec::new();
        for _ in 0..PEERS {
            let mut peer = target.peer(&python);
            peer.tell(&order);
            let connection = accept(&target.server).await.unwrap();
            ask(&connection, "go").await.unwrap();
            attacks.push((peer, connection));
        }
        let transfer = async || {
            let begin = Instant::now();
            exchange(&honest.0, &honest.1, 1 << 20).await;
            begin.elapsed()
        };
        let median = |mut times: Vec<Duration>| {
            times.sort();
            times[times.len() / 2]
        };
        let mut alone = Vec::new();
        for _ in 0..TRANSFERS {
            alone.push(transfer().await);
        }
        let pace = PER_SECOND.to_string();
        let mut attacking = Box::pin(join_all(attacks.iter().map(|(_, connection)| ask(connection, &pace))));
        let mut beside = Vec::new();
        let answers = loop {
            if let Some(answers) = poll_immediate(&mut attacking).await {
                break answers;
            }
            beside.push(transfer().await);
        };
        for answer in answers {
            assert_eq!(answer.unwrap(), b"acknowledged");
        }
        drop(attacking);
        let (alone, beside) = (median(alone), median(beside));
        figure(format_args!(
            "beside {PEERS} peers with {GAPS} gaps that send {PER_SECOND} packets a second each, a transfer takes {:.2} \
             times as long",
            beside.as_secs_f64() / alone.as_secs_f64()
        ));
        drop((attacks, honest));
        target.end().await;
    });
}

// ---- Memory -------------------------------------------------------------------------------------

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn what_a_connection_holds_is_within_twice_its_windows() {
    with_client(|mut peer, target| async move {
        // As much of each stream's window as the connection's allows, every second byte of it, and
        // as many bytes as are taken, over the whole.
        let streams = u64::from(CONNECTION_WINDOW / STREAM_WINDOW);
        let of_streams = |count: u64, step: u64| {
            packets(
                (0..streams)
                    .flat_map(move |n| (1..=count).rev().map(move |i| stream(2 + 4 * n, i * step - 1, b"x", false))),
            )
        };
        let far_apart = of_streams(GAPS, u64::from(STREAM_WINDOW) / GAPS);
        let many = of_streams(u64::from(STREAM_WINDOW) / 8, 2);
        for (what, packets) in [("gaps far apart", far_apart), ("every second byte", many)] {
            let honest = target.honest().await;
            exchange(&honest.0, &honest.1, 10_000).await;
            peer.tell(&order([packets]));
            let connection = accept(&target.server).await.unwrap();
            let before = resident();
            let most = Most::watch();
            let answer = ask(&connection, "go").await;
            let grown = most.end().saturating_sub(before);
            let end = if answer.is_ok() { "all was taken" } else { "the connection ended" };
            figure(format_args!("{what}, window of {} KiB: {} KiB more, {end}", CONNECTION_WINDOW >> 10, grown >> 10));
            assert_within(grown, 2 * CONNECTION_WINDOW as usize);
            let _ = connection.close(0, "");
            peer.says("closed");
        }
        drop(peer);
        target.end().await;
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn acknowledgements_that_nobody_acknowledges_are_not_kept_for_ever() {
    with_client(|mut peer, target| async move {
        const PACKETS: usize = 20_000;
        let pings = |count| vec![format!("+{}", hex(&[1])); count];
        peer.tell(&order([pings(PACKETS / 10), pings(PACKETS)]));
        let connection = accept(&target.server).await.unwrap();
        assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
        let before = resident();
        let most = Most::watch();
        assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
        let grown = most.end().saturating_sub(before);
        figure(format_args!("{PACKETS} packets that ask for acknowledgements: {} KiB more", grown >> 10));
        assert_within(grown, 512 << 10);
        drop((peer, connection));
        target.end().await;
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn bytes_far_ahead_of_a_reader_that_keeps_its_chunks_hold_no_block_for_each() {
    with_client(|mut peer, target| async move {
        const ROUNDS: usize = 40;
        // What a reader keeps without credit: a quarter of the smallest window.
        const SHARE: u64 = SMALL_WINDOW as u64 / 4;
        // More than that, and much less than a block of the window of this stream.
        const EACH: usize = 24_000;
        // The peer is told of credit once that is a quarter of a window.
        const TOLD: u64 = STREAM_WINDOW as u64 / 4 * 3;
        let rounds = (0..ROUNDS).map(|round| {
            let begin = (round * EACH) as u64;
            // The reader has given back all but the last `SHARE` bytes at least.
            let back = begin.saturating_sub(SHARE);
            let ahead = stream(2, back + TOLD - 1, b"x", false);
            let piece = [b'x'; 1000];
            // The first bytes come last, so that all come in one piece, which the reader keeps whole.
            let next = (0..EACH / piece.len()).rev().map(|n| begin + (n * piece.len()) as u64);
            let next = next.map(|offset| hex(&stream(2, offset, &piece, false)));
            [hex(&ahead)].into_iter().chain(next).collect()
        });
        peer.tell(&order(rounds));
        let connection = accept(&target.server).await.unwrap();
        let before = resident();
        let most = Most::watch();
        let (mut recv, mut kept) = (None, Vec::new());
        for _ in 0..ROUNDS {
            assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
            if recv.is_none() {
                recv = Some(connection.accept_uni().await.unwrap());
            }
            let recv = recv.as_mut().unwrap();
            kept.extend(read_chunks(recv, EACH).await);
            // It asks for more, and so gives credit, before the peer sends that.
            assert!(poll_immediate(recv.read_chunk()).await.is_none());
        }
        let grown = most.end().saturating_sub(before);
        let bytes: usize = kept.iter().map(|chunk| chunk.len()).sum();
        assert_eq!(bytes, ROUNDS * EACH);
        figure(format_args!("{} KiB kept, with a byte far ahead of each: {} KiB more", bytes >> 10, grown >> 10));
        // A block of the window for each would be 10 MiB.
        assert_within(grown, CONNECTION_WINDOW as usize);
        drop((peer, recv, kept, connection));
        target.end().await;
    });
}

#[test]
fn a_reset_gives_credit_once_for_what_a_reader_still_keeps() {
    with_client(|mut peer, target| async move {
        // Less than a reader keeps without credit.
        const EACH: usize = 14_000;
        const RESET: u64 = 4;
        const SLACK: u64 = 1000;
        let window = u64::from(STREAM_WINDOW);
        let piece = [b'x'; 1000];
        let offsets = |id: u64| (0..EACH as u64).step_by(piece.len()).map(move |offset| (id, offset));
        let fill = (0..RESET).flat_map(|n| offsets(4 * n)).map(|(id, offset)| stream(id, offset, &piece, false));
        let reset = (0..RESET).map(|n| reset_stream(4 * n, 7, EACH as u64));
        // Almost all that the connection's window allows, if everything before was credited once.
        let full = u64::from(CONNECTION_WINDOW / STREAM_WINDOW) - 1;
        let almost = (0..full).map(|n| stream(2 + 4 * n, window - 1, b"x", false));
        let almost = almost.chain([stream(2 + 4 * full, window - 1 - SLACK, b"x", false)]);
        let beyond = stream(2 + 4 * (full + 1), 2 * SLACK, b"x", false);
        peer.tell(&order([packets(fill), packets(reset), packets(almost), packets([beyond])]));
        let connection = accept(&target.server).await.unwrap();
        assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
        let (mut streams, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..RESET {
            let (send, mut recv) = connection.accept_bi().await.unwrap();
            kept.extend(read_chunks(&mut recv, EACH).await);
            streams.push((send, recv));
        }
        assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
        for (_, recv) in &streams {
            assert_eq!(recv.received_reset().await.unwrap(), Some(7));
        }
        // These are given back after the reset. The other halves are still open.
        drop(kept);
        assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
        assert_ends(&connection, FLOW_CONTROL_ERROR).await;
        assert_eq!(peer.says("closed"), "transport 3");
        drop((peer, streams, connection));
        target.end().await;
    });
}

#[test]
fn a_peer_that_sends_beyond_what_the_budget_left_of_its_credit_ends_its_connection() {
    let test = "a_peer_that_sends_beyond_what_the_budget_left_of_its_credit_ends_its_connection";
    if support::alone::parent(test, |_| ()).is_some() {
        return;
    }
    with_client(|mut peer, target| async move {
        set_memory_budget(0).unwrap();
        let window = u64::from(STREAM_WINDOW);
        let fill = (0..window).step_by(1024).map(|offset| stream(2, offset, &[b'x'; 1024], false));
        // The least that is left of a window is 16 KiB, of which a quarter need not be told.
        let within = stream(2, window + (12 << 10) - 1, b"x", false);
        let beyond = stream(2, window + (16 << 10), b"x", false);
        peer.tell(&order([packets(fill), packets([within]), packets([beyond])]));
        let connection = accept(&target.server).await.unwrap();
        assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
        let mut recv = connection.accept_uni().await.unwrap();
        drop(read_chunks(&mut recv, window as usize).await);
        assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
        assert_ends(&connection, FLOW_CONTROL_ERROR).await;
        assert_eq!(peer.says("closed"), "transport 3");
        drop((peer, recv, connection));
        target.end().await;
    });
}

#[test]
fn a_stream_with_more_gaps_than_honest_losses_leave_ends_its_connection() {
    with_client(|mut peer, target| async move {
        // One for each 64 bytes of a small window, and not more than 1536.
        for (bidirectional, most) in [(true, u64::from(SMALL_WINDOW) / 64), (false, 1536)] {
            let id = if bidirectional { 0 } else { 2 };
            let fill = packets((1..=most).map(|n| stream(id, 2 * n, b"x", false)));
            // What touches a range makes no more of them.
            let touch = packets([stream(id, 2 * most + 1, b"x", false)]);
            let one_more = packets([stream(id, 2 * most + 3, b"x", false)]);
            peer.tell(&order([fill, touch, one_more]));
            let connection = accept(&target.server).await.unwrap();
            assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
            assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
            assert_ends(&connection, INTERNAL_ERROR).await;
            assert_eq!(peer.says("closed"), "transport 1");
        }
        drop(peer);
        target.end().await;
    });
}

#[test]
fn many_streams_with_many_gaps_each_end_their_connection() {
    with_client(|mut peer, target| async move {
        // 32 KiB of ranges for each stream, and half of the window for all of them.
        let streams = u64::from(CONNECTION_WINDOW) / 2 / (32 << 10);
        let of_streams = |streams: std::ops::Range<u64>| {
            packets(streams.flat_map(|n| gaps().map(move |offset| stream(2 + 4 * n, offset, b"x", false))))
        };
        peer.tell(&order([of_streams(0..streams), of_streams(streams..streams + 1)]));
        let connection = accept(&target.server).await.unwrap();
        assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
        assert_ends(&connection, INTERNAL_ERROR).await;
        assert_eq!(peer.says("closed"), "transport 1");
        drop((peer, connection));
        target.end().await;
    });
}

#[test]
fn handshake_data_with_too_many_gaps_ends_its_connection() {
    let _alone = alone();
    let Some(python) = python() else { return };
    run(async move {
        let certified = Certified::new();
        let client = support::client(&certified.identity)
            .transport(patient())
            .session_cache(Arc::new(MemorySessionCache::new(1)))
            .build()
            .unwrap();
        let (mut peer, address) = Peer::serve(&python, SCRIPT, &certified);
        let of_gaps = |gaps: std::ops::Range<u64>| packets(gaps.map(|n| crypto(2000 + 2 * n, b"x")));
        let most = CRYPTO_GAPS as u64;
        peer.tell(&order([of_gaps(0..most), of_gaps(most..most + 8)]));
        peer.says("set");
        let connection = client.connect(address, "localhost").await.unwrap();
        assert_eq!(ask(&connection, "go").await.unwrap(), b"acknowledged");
        assert_ends(&connection, CRYPTO_BUFFER_EXCEEDED).await;
        assert_eq!(peer.says("closed"), "transport 13");
        drop((peer, connection));
        client.wait_idle().await;
    });
}

/// Reads the next `bytes`, and returns the chunks.
async fn read_chunks(recv: &mut RecvStream, bytes: usize) -> Vec<RecvChunk> {
    let (mut chunks, mut read) = (Vec::new(), 0);
    while read < bytes {
        let chunk = recv.read_chunk().await.unwrap().unwrap();
        read += chunk.len();
        chunks.push(chunk);
    }
    assert_eq!(read, bytes);
    chunks
}

/// Asks for a batch that this side does not take.
async fn assert_ends(connection: &Connection, code: u64) {
    ask(connection, "go").await.unwrap_err();
    let error = connection.closed().await;
    let ConnectionError::TransportClosed { code: seen, .. } = error else { panic!("{error:?}") };
    assert_eq!(seen, code);
}

// ---- The peer and its target --------------------------------------------------------------------

const SCRIPT: &str = "forbidden_peer.py";

/// The tests of this file look at what the whole process uses: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test with a peer that is a client.
fn with_client<F: Future<Output = ()> + Send>(test: impl FnOnce(Peer, Target) -> F + Send + 'static) {
    let _alone = alone();
    let Some(python) = python() else { return };
    run(async move {
        let target = Target::new();
        let peer = target.peer(&python);
        test(peer, target).await;
    });
}

/// A server. Its application reads nothing of what the peer sends, unless the test does.
struct Target {
    certified: Certified,
    server: Server,
}

impl Target {
    fn new() -> Self {
        let certified = Certified::new();
        let server = support::server(&certified.identity).transport(patient()).bind(any_port()).unwrap();
        Self { certified, server }
    }

    fn peer(&self, python: &std::path::Path) -> Peer {
        let port = self.server.local_addr().unwrap().port().to_string();
        Peer::start(python, SCRIPT, ["client".to_owned(), self.certified.path("certificate"), port])
    }

    /// What the last batch of each order costs, of which the peer has `sent` bytes before: the least
    /// of several times, for which the orders take turns.
    async fn costs<const N: usize>(&self, peer: &mut Peer, orders: &[String; N], sent: usize) -> [Duration; N] {
        let mut times = [Duration::MAX; N];
        for _ in 0..ROUNDS {
            for (least, order) in zip(&mut times, orders) {
                peer.tell(order);
                let connection = accept(&self.server).await.unwrap();
                if sent != 0 {
                    connection.open_uni().unwrap().finish_with(vec![0; sent]).await.unwrap();
                }
                *least = last_batch(&connection, order).await.min(*least);
                let _ = connection.close(0, "");
                peer.says("closed");
            }
        }
        times
    }

    async fn end(self) {
        self.server.shutdown().await;
    }

    /// Both ends of a connection with somebody honest.
    async fn honest(&self) -> (Connection, Connection) {
        let client = support::client(&self.certified.identity).transport(patient()).build().unwrap();
        connect(&client, &self.server).await
    }
}

/// The peer is a slow one, and the machine may be busy.
fn patient() -> TransportConfig {
    TransportConfig::default()
        .max_concurrent_uni_streams(80)
        .stream_receive_window(STREAM_WINDOW)
        .remote_bidi_stream_receive_window(SMALL_WINDOW)
        .connection_flow_control_window(CONNECTION_WINDOW)
        .datagram_receive_buffer(1 << 20)
        .idle_timeout(2 * HANG)
        .handshake_timeout(2 * HANG)
        .disconnect_timeout(HANG)
}

/// Asks the peer for its next batch, and returns its answer.
async fn ask(connection: &Connection, question: &str) -> Result<Vec<u8>, String> {
    let (mut send, mut recv) = connection.open_bi().map_err(|error| error.to_string())?;
    drop(send.finish_with(question.to_owned()));
    recv.read_to_end(100).await.map_err(|error| error.to_string())
}

/// Asks for all batches of an order, and returns what the last has cost.
async fn last_batch(connection: &Connection, order: &str) -> Duration {
    let mut cost = Duration::ZERO;
    for _ in order.split('/') {
        let begin = processor_time();
        assert_eq!(ask(connection, "go").await.unwrap(), b"acknowledged");
        cost = processor_time() - begin;
    }
    cost
}

/// Prints how much more the others cost than the first. Before MsQuic was mended it was tens to
/// hundreds of times as much.
fn judge(what: &str, packets: usize, times: &[Duration], names: impl IntoIterator<Item = &'static str>) {
    let (in_order, others) = times.split_first().unwrap();
    let each = in_order.as_secs_f64() * 1e6 / packets as f64;
    for (name, time) in zip(names, others) {
        let ratio = time.as_secs_f64() / in_order.as_secs_f64();
        figure(format_args!("{what}, {name}: {ratio:.2} times the {each:.0} us of a packet in order"));
        assert!(ratio < MUCH, "{what}, {name}: {ratio:.2} times as much as in order");
    }
}

/// Memory at its most, until it is asked for.
struct Most {
    over: Arc<AtomicBool>,
    watching: thread::JoinHandle<usize>,
}

impl Most {
    fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let most = AtomicUsize::new(0);
        let seen = over.clone();
        let watching = thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
            most.into_inner()
        });
        Self { over, watching }
    }

    fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.watching.join().unwrap()
    }
}

// ---- Packets ------------------------------------------------------------------------------------

/// The offsets of bytes with gaps between them, almost as many as a stream may have.
fn gaps() -> impl DoubleEndedIterator<Item = u64> {
    (1..=GAPS).map(|n| 2 * n)
}

/// Packets that are full of `frames`, as the peer takes them.
fn packets(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<String> {
    let mut packets = vec![Vec::new()];
    for frame in frames {
        if packets.last().unwrap().len() + frame.len() > FULL {
            packets.push(Vec::new());
        }
        packets.last_mut().unwrap().extend(frame);
    }
    packets.iter().map(|packet| hex(packet)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The order for batches of packets.
fn order(batches: impl IntoIterator<Item = Vec<String>>) -> String {
    let batches: Vec<_> = batches.into_iter().map(|packets| packets.join(",")).collect();
    format!("application 0 {}", batches.join("/"))
}

// ---- Numbers ------------------------------------------------------------------------------------

// The codes of RFC 9000 §20.1.
const INTERNAL_ERROR: u64 = 0x1;
const FLOW_CONTROL_ERROR: u64 = 0x3;
const CRYPTO_BUFFER_EXCEEDED: u64 = 0xd;

const STREAM_WINDOW: u32 = 256 << 10;
const SMALL_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// How many streams are full of gaps, and of how many each.
const STREAMS: u16 = 60;
const GAPS: u64 = 1500;
/// One for each 64 bytes of 32 KiB.
const CRYPTO_GAPS: usize = 511;

/// What fits into a packet, and how many frames of a byte that is.
const FULL: usize = 1200;
const FRAMES_IN_A_PACKET: usize = 200;

const ROUNDS: usize = 3;
/// More than noise.
const MUCH: f64 = 5.0;
