//! Random calls of the whole API, sensible and not, from several threads on several connections,
//! for as long as wanted: nothing hangs, no assertion fails, and nothing is left.
//!
//! 20 seconds by default, `SENDSTREAM_SPIN_SECONDS` for longer. Each thread throws its own dice,
//! from the seed and its number; what the threads do to each other is up to the machine. Alone in
//! its file, because it looks at the process's numbers.

mod support;

use std::{
    any::Any,
    io::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures::executor::block_on;
use sendstream::{
    Bytes, Client, Connection, Identity, RecvChunk, RecvStream, SendDatagram, SendStream, Server, TransportConfig,
    process::counters,
};
use support::{
    HANG, any_port, figure,
    memory::{assert_within, resident},
    soak,
};

const THREADS: usize = 4;
/// After each round everything is taken down and looked at.
const ROUND: Duration = Duration::from_secs(4);

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn random_calls_neither_hang_nor_leave_anything() {
    let total = soak::duration("SENDSTREAM_SPIN_SECONDS", Duration::from_secs(20));
    let seed = soak::seed();
    let begin = Instant::now();
    let progress = Arc::new(Progress::default());
    watch(progress.clone(), seed);
    let mut settled = None;
    let mut rounds = 0;
    while begin.elapsed() < total {
        let end = begin + total.min(begin.elapsed() + ROUND);
        round(&progress, seed.wrapping_add(rounds), end);
        rounds += 1;
        progress.nothing_is_left();
        let now = resident();
        // What is kept for the next time is there after the first rounds.
        if rounds == 2 {
            settled = Some(now);
        }
    }
    progress.over.store(true, Ordering::SeqCst);
    let grown = settled.map_or(0, |settled| resident().saturating_sub(settled));
    figure(format_args!(
        "{} calls in {:.0?} and {rounds} rounds of {THREADS} threads; {} KiB more",
        progress.calls(),
        begin.elapsed(),
        grown >> 10
    ));
    assert_within(grown, 64 << 20);
}

/// One server, one client, and everything that the threads do with them until `end`.
fn round(progress: &Arc<Progress>, seed: u64, end: Instant) {
    let settings = TransportConfig::default()
        .max_concurrent_uni_streams(20)
        .max_concurrent_bidi_streams(20)
        .accept_backlog(8)
        .idle_timeout(Duration::from_secs(20))
        .datagram_receive_buffer(10_000)
        .drop_error_code(77);
    let identity = support::identity();
    let server = support::server(&identity).transport(settings.clone()).bind(any_port()).unwrap();
    let client = support::client(&identity).transport(settings).build().unwrap();
    let address = server.local_addr().unwrap();
    let world = World { server, client, identity, address, shared: Mutex::default() };
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (world, progress) = (&world, &progress.threads[number]);
            let random = Rng::with_seed(seed.wrapping_mul(1000).wrapping_add(number as u64));
            scope.spawn(move || Spinner { world, progress, random, held: Held::default() }.spin(end));
        }
    });
    let World { server, client, shared, .. } = world;
    drop(shared);
    progress.threads[0].at("the end of a round");
    block_on(async {
        server.shutdown().await;
        client.wait_idle().await;
    });
}

/// What the threads share.
struct World {
    server: Server,
    client: Client,
    identity: Identity,
    address: SocketAddr,
    /// What one thread gives away for another to take, and so to use or to drop.
    shared: Mutex<Held>,
}

/// What somebody holds.
#[derive(Default)]
struct Held {
    connections: Vec<Connection>,
    sends: Vec<SendStream>,
    recvs: Vec<RecvStream>,
    chunks: Vec<RecvChunk>,
    datagrams: Vec<SendDatagram>,
}

struct Spinner<'a> {
    world: &'a World,
    progress: &'a ThreadProgress,
    random: Rng,
    held: Held,
}

impl Spinner<'_> {
    fn spin(mut self, end: Instant) {
        while Instant::now() < end {
            self.step();
        }
        self.progress.at("dropping what it holds");
    }

    fn step(&mut self) {
        match self.random.u8(..40) {
            0 => self.world_call(),
            1..9 => self.connection_call(),
            9..23 => self.send_call(),
            23..35 => self.recv_call(),
            35..37 => self.datagram_call(),
            _ => self.give_or_take(),
        }
    }

    /// Polls a future a few times, lets others run in between, and drops it where it is not ready
    /// by then.
    fn brief<F: Future>(&mut self, call: &'static str, future: F) -> Option<F::Output> {
        self.progress.at(call);
        let mut future = std::pin::pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..self.random.usize(1..20) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return Some(output);
            }
            thread::yield_now();
        }
        None
    }

    fn world_call(&mut self) {
        let world = self.world;
        match self.random.u8(..8) {
            0..3 => {
                if self.held.connections.len() < 4
                    && let Some(Ok(connection)) =
                        self.patient("connect", world.client.connect(world.address, "localhost"))
                {
                    self.held.connections.push(connection);
                }
            }
            3..6 => {
                let Some(Some(incoming)) = self.brief("accept", world.server.accept()) else { return };
                if self.random.u8(..8) == 0 {
                    self.progress.at("refuse");
                    incoming.refuse();
                } else if let Some(Ok(connection)) = self.patient("Incoming::accept", incoming.accept()) {
                    self.held.connections.push(connection);
                }
            }
            6 => {
                let name = ["", "a\0b", "localhost.", "another", "\u{1f980}"][self.random.usize(..5)];
                let address = if self.random.bool() { world.address } else { SocketAddr::new(world.address.ip(), 0) };
                drop(self.brief("connect wrongly", world.client.connect(address, name)));
            }
            _ => {
                self.progress.at("bind, set_identity, counters");
                let taken = support::server(&world.identity).bind(world.address);
                assert!(taken.is_err());
                assert!(Server::builder().alpn(["test"]).bind(world.address).is_err());
                world.server.set_identity(world.identity.clone()).unwrap();
                counters().unwrap();
                world.server.stats();
            }
        }
    }

    /// [`brief`](Self::brief) for what takes a few round trips, so that it comes about now and
    /// then.
    fn patient<F: Future>(&mut self, call: &'static str, future: F) -> Option<F::Output> {
        self.progress.at(call);
        let mut future = std::pin::pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        let until = Instant::now() + Duration::from_millis(self.random.u64(1..50));
        while Instant::now() < until {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return Some(output);
            }
            thread::sleep(Duration::from_micros(200));
        }
        None
    }

    fn connection_call(&mut self) {
        if self.held.connections.is_empty() {
            return;
        }
        let place = self.random.usize(..self.held.connections.len());
        let connection = self.held.connections[place].clone();
        match self.random.u8(..20) {
            0..4 => {
                self.progress.at("open_uni");
                if let Ok(send) = connection.open_uni() {
                    self.held.sends.push(send);
                }
            }
            4..8 => {
                self.progress.at("open_bi");
                if let Ok((send, recv)) = connection.open_bi() {
                    self.held.sends.push(send);
                    self.held.recvs.push(recv);
                }
            }
            8..11 => {
                if let Some(Ok(recv)) = self.brief("accept_uni", connection.accept_uni()) {
                    self.held.recvs.push(recv);
                }
            }
            11..14 => {
                if let Some(Ok((send, recv))) = self.brief("accept_bi", connection.accept_bi()) {
                    self.held.sends.push(send);
                    self.held.recvs.push(recv);
                }
            }
            14 => drop(self.brief("Connection::stats", connection.stats())),
            15 => drop(self.brief("closed", connection.closed())),
            16 => {
                self.progress.at("questions of a connection");
                drop((connection.close_reason(), connection.remote_addr(), connection.local_addr()));
                let _ = connection.rtt();
                drop((connection.alpn(), connection.peer_identity(), connection.handshake_info()));
                assert!(connection.close(1 << 62, "").is_err());
            }
            17 => {
                self.progress.at("dropping a connection");
                self.held.connections.swap_remove(place);
            }
            18 => drop(self.brief("drain", connection.drain())),
            _ => {
                self.progress.at("close");
                let reason = if self.random.bool() { "a spin" } else { "" };
                connection.close(self.random.u64(..1 << 62), reason).unwrap();
                if self.random.bool() {
                    self.held.connections.swap_remove(place);
                }
            }
        }
    }

    fn send_call(&mut self) {
        if self.held.sends.is_empty() {
            return;
        }
        let place = self.random.usize(..self.held.sends.len());
        let mut send = self.held.sends.swap_remove(place);
        let length = [0, 1, 1000, 70_000, 1 << 20][self.random.usize(..5)];
        let data = vec![self.random.u8(..); length];
        let keep = match self.random.u8(..22) {
            0..3 => self.brief("send", send.send(data)).is_none_or(|sent| sent.is_ok()),
            3..6 => self.brief("write_chunk", send.write_chunk(Bytes::from(data))).is_none_or(|sent| sent.is_ok()),
            6 => {
                let mut chunks = [Bytes::from(data.clone()), Bytes::new(), Bytes::from(data)];
                self.brief("write_chunks", send.write_chunks(&mut chunks)).is_none_or(|sent| sent.is_ok())
            }
            7 => self.brief("write_all", send.write_all(&data)).is_none_or(|sent| sent.is_ok()),
            8 => self.brief("start", send.start()).is_none_or(|started| started.is_ok()),
            9 => self.brief("try_start", send.try_start()).is_none_or(|started| started.is_ok()),
            10 => self.brief("acked", send.acked()).is_none(),
            11 => {
                self.progress.at("finish");
                send.finish().is_ok()
            }
            12 => self.brief("finish_with", send.finish_with(data)).is_none_or(|sent| sent.is_ok()),
            13..15 => self.brief("finished", send.finished()).is_none(),
            15 => {
                self.progress.at("abort");
                assert!(send.abort(1 << 62).is_err());
                let _ = send.abort(self.random.u64(..1 << 62));
                self.random.bool()
            }
            16 => self.brief("poll_abort", std::future::poll_fn(|cx| send.poll_abort(cx, 5))).is_none(),
            17 => self.brief("stopped", send.stopped()).is_none(),
            18 => {
                self.progress.at("questions of a stream");
                send.set_priority(self.random.u16(..));
                send.set_send_window(self.random.u64(1..1 << 20));
                let _ = (send.id(), send.debug_id(), send.priority(), send.send_window(), send.in_flight());
                true
            }
            19 => self.brief("SendStream::stats", send.stats()).is_none_or(|stats| stats.is_ok()),
            20 => {
                // Its future is dropped at once: the bytes go all the same.
                self.progress.at("send, not awaited");
                drop(send.send(data));
                true
            }
            _ => false,
        };
        self.progress.at("dropping a sending stream");
        if keep && self.held.sends.len() < 60 {
            self.held.sends.push(send);
        }
    }

    fn recv_call(&mut self) {
        if self.held.recvs.is_empty() {
            return;
        }
        let place = self.random.usize(..self.held.recvs.len());
        let mut recv = self.held.recvs.swap_remove(place);
        let keep = match self.random.u8(..14) {
            0..5 => match self.brief("read_chunk", recv.read_chunk()) {
                Some(Ok(Some(chunk))) => {
                    self.held.chunks.push(chunk);
                    true
                }
                None => true,
                Some(_) => false,
            },
            5..7 => {
                let length = self.random.usize(..5000);
                let mut buffer = vec![0; length];
                !matches!(self.brief("read", recv.read(&mut buffer)), Some(Ok(None) | Err(_)))
            }
            7 => self.brief("read_exact", recv.read_exact(&mut [0; 3000])).is_none_or(|read| read.is_ok()),
            8 => {
                let limit = self.random.usize(..100_000);
                self.brief("read_to_end", recv.read_to_end(limit)).is_none()
            }
            9 => {
                self.progress.at("stop");
                assert!(recv.stop(u64::MAX).is_err());
                recv.stop(self.random.u64(..1 << 62)).unwrap();
                self.random.bool()
            }
            10 => self.brief("received_reset", recv.received_reset()).is_none(),
            11 => {
                self.progress.at("RecvStream::id");
                recv.id();
                true
            }
            12 => {
                self.progress.at("dropping chunks");
                let few = self.random.usize(..=self.held.chunks.len());
                self.held.chunks.drain(..few);
                true
            }
            _ => false,
        };
        self.progress.at("dropping a receiving stream");
        if keep && self.held.recvs.len() < 60 {
            self.held.recvs.push(recv);
        }
        if self.held.chunks.len() > 40 {
            self.held.chunks.clear();
        }
    }

    fn datagram_call(&mut self) {
        let Some(connection) = self.random.choice(&self.held.connections).cloned() else { return };
        match self.random.u8(..6) {
            0..3 => {
                self.progress.at("send_datagram");
                let length = [0, 1, 1000, 1100, 5000, 70_000][self.random.usize(..6)];
                let datagram = connection.send_datagram(vec![1; length]);
                drop((datagram.refusal().cloned(), datagram.fate(), connection.max_datagram_size()));
                self.held.datagrams.push(datagram);
            }
            3 => drop(self.brief("read_datagram", connection.read_datagram())),
            4 => {
                if let Some(mut datagram) = self.held.datagrams.pop() {
                    drop(self.brief("progress", datagram.progress()));
                }
            }
            _ => {
                self.progress.at("dropping datagrams");
                self.held.datagrams.clear();
            }
        }
    }

    /// Gives something to the others, or takes what one of them gave.
    fn give_or_take(&mut self) {
        self.progress.at("giving and taking");
        let which = self.random.u8(..6);
        let place = self.random.usize(..1 << 16);
        // Dropped after the lock: drops call MsQuic.
        let _dropped: Box<dyn Any> = {
            let mut shared = self.world.shared.lock().unwrap();
            match which {
                0 => exchange(&mut self.held.connections, &mut shared.connections, place),
                1..3 => exchange(&mut self.held.sends, &mut shared.sends, place),
                3..5 => exchange(&mut self.held.recvs, &mut shared.recvs, place),
                _ => exchange(&mut self.held.chunks, &mut shared.chunks, place),
            }
        };
    }
}

/// Moves one thing from `mine` to `theirs` or back; what is too much comes out.
fn exchange<T: 'static>(mine: &mut Vec<T>, theirs: &mut Vec<T>, place: usize) -> Box<dyn Any> {
    let (from, to) = if place.is_multiple_of(2) { (mine, theirs) } else { (theirs, mine) };
    if !from.is_empty() {
        to.push(from.swap_remove(place / 2 % from.len()));
    }
    let too_much = if to.len() > 30 { to.split_off(20) } else { Vec::new() };
    Box::new(too_much)
}

/// How far each thread is.
#[derive(Default)]
struct Progress {
    threads: [ThreadProgress; THREADS],
    over: AtomicBool,
}

#[derive(Default)]
struct ThreadProgress {
    calls: AtomicU64,
    /// The name of the call that it is in.
    now: Mutex<&'static str>,
}

impl ThreadProgress {
    fn at(&self, call: &'static str) {
        *self.now.lock().unwrap() = call;
        self.calls.fetch_add(1, Ordering::SeqCst);
    }
}

impl Progress {
    fn calls(&self) -> u64 {
        self.threads.iter().map(|thread| thread.calls.load(Ordering::SeqCst)).sum()
    }

    /// Waits until MsQuic itself counts nothing; it has no event for that.
    fn nothing_is_left(&self) {
        self.threads[0].at("waiting for MsQuic to count nothing");
        let begin = Instant::now();
        loop {
            let now = counters().unwrap();
            if (now.connections_active, now.streams_active) == (0, 0) {
                return;
            }
            assert!(begin.elapsed() < HANG, "{now:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Ends the process, and says what each thread was in, once none of them has made a call for
/// [`HANG`]. One that hangs alone is noticed at the end of the round, when the others wait for it.
fn watch(progress: Arc<Progress>, seed: u64) {
    thread::spawn(move || {
        let mut last = (progress.calls(), Instant::now());
        while !progress.over.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(500));
            let calls = progress.calls();
            if calls != last.0 {
                last = (calls, Instant::now());
            } else if last.1.elapsed() > HANG {
                let at = progress.threads.each_ref().map(|thread| *thread.now.lock().unwrap());
                // Not to the standard output, which the test runner keeps until a test has ended.
                let left = counters().map(|now| (now.connections_active, now.streams_active));
                let _ = writeln!(
                    std::io::stderr(),
                    "SENDSTREAM_SEED={seed}: no call ended for {HANG:?}: {at:?}; connections and streams left: {left:?}"
                );
                std::process::abort();
            }
        }
    });
}
