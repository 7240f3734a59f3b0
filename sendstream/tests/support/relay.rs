//! A bad network between one server and its clients: a UDP relay in this process that loses,
//! delays, doubles and damages what it passes on.
//!
//! What happens to a packet follows from the seed, the client's place in the order of arrival, the
//! direction, and how many packets went that way before: the same seed gives the n-th packet the
//! same fate. Which packets are too large depends on the packet as well. Only the rate limit and the
//! ends of blackholes go by the clock. Losses of the system's own, where a socket's buffer is full,
//! come on top.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{figure, soak};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// What is wrong with the network. Begins with nothing; probabilities are from 0 to 1 and count for
/// each packet.
#[derive(Clone)]
pub(crate) struct Faults {
    seed: u64,
    only: Option<Direction>,
    loss: f64,
    bursts: Option<Bursts>,
    lose_every: Option<u64>,
    delay: Duration,
    jitter: Duration,
    reordering: Option<(f64, Duration)>,
    duplication: f64,
    corruption: f64,
    truncation: f64,
    rate: Option<Rate>,
    blackhole: Option<(u64, Duration)>,
    rebinding: Option<(u64, usize)>,
    other_mtus: Option<(u64, usize)>,
    injection: Option<Arc<Injection>>,
}

/// Sees each packet before anything happens to it, with its number in its direction from 0, and
/// says what a third party sends.
type Injection = dyn Fn(Direction, u64, &[u8]) -> Vec<(Direction, Vec<u8>)> + Send + Sync;

/// Loss in bursts, after Gilbert: in a burst everything is lost, between bursts nothing.
#[derive(Debug, Clone, Copy)]
struct Bursts {
    begin: f64,
    end: f64,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    bytes_per_second: u64,
    /// What would wait longer than this is lost.
    queue: Duration,
}

impl Faults {
    /// None yet, with the seed of [`soak::seed`].
    pub(crate) fn none() -> Self {
        Self {
            seed: soak::seed(),
            only: None,
            loss: 0.0,
            bursts: None,
            lose_every: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reordering: None,
            duplication: 0.0,
            corruption: 0.0,
            truncation: 0.0,
            rate: None,
            blackhole: None,
            rebinding: None,
            other_mtus: None,
            injection: None,
        }
    }

    /// All that is wrong is so in this direction; the other one is good.
    pub(crate) fn only(self, direction: Direction) -> Self {
        Self { only: Some(direction), ..self }
    }

    /// Packets are lost, each for itself.
    pub(crate) fn lose(self, probability: f64) -> Self {
        Self { loss: probability, ..self }
    }

    /// `share` of all packets is lost, in bursts of `length` packets on average.
    pub(crate) fn lose_in_bursts(self, share: f64, length: f64) -> Self {
        let end = 1.0 / length;
        Self { bursts: Some(Bursts { begin: end * share / (1.0 - share), end }), ..self }
    }

    /// Every `n`-th packet is lost.
    pub(crate) fn lose_every(self, n: u64) -> Self {
        Self { lose_every: Some(n), ..self }
    }

    /// Every packet takes that long, each way.
    pub(crate) fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Every packet takes up to that much longer, which also brings them out of order.
    pub(crate) fn jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }

    /// Packets are held back that long while those behind them pass.
    pub(crate) fn reorder(self, probability: f64, held_back: Duration) -> Self {
        Self { reordering: Some((probability, held_back)), ..self }
    }

    /// Packets come twice.
    pub(crate) fn duplicate(self, probability: f64) -> Self {
        Self { duplication: probability, ..self }
    }

    /// One to eight bytes of a packet change.
    pub(crate) fn corrupt(self, probability: f64) -> Self {
        Self { corruption: probability, ..self }
    }

    /// Packets lose their ends.
    pub(crate) fn truncate(self, probability: f64) -> Self {
        Self { truncation: probability, ..self }
    }

    /// Each client gets this bandwidth each way; what would wait longer than `queue` is lost.
    pub(crate) fn rate(self, bytes_per_second: u64, queue: Duration) -> Self {
        Self { rate: Some(Rate { bytes_per_second, queue }), ..self }
    }

    /// After `packets` packets of a client's nothing passes for `duration`, in either direction.
    pub(crate) fn blackhole(self, packets: u64, duration: Duration) -> Self {
        Self { blackhole: Some((packets, duration)), ..self }
    }

    /// The server sees a client come from another port after each `packets` of its packets, `times`
    /// times. What the server sends to an earlier port is lost, as behind a NAT.
    pub(crate) fn rebind(self, packets: u64, times: usize) -> Self {
        Self { rebinding: Some((packets, times)), ..self }
    }

    /// After each `packets` packets of a client's the path carries packets of another size, `times`
    /// times: 1,280 to 1,500 bytes with the headers, to the server, to clients, or both. Larger ones
    /// are lost, and nobody is told.
    pub(crate) fn change_mtu(self, packets: u64, times: usize) -> Self {
        Self { other_mtus: Some((packets, times)), ..self }
    }

    /// A third party that sees every packet sends what `injection` says; nothing else happens to
    /// those.
    pub(crate) fn inject(
        self,
        injection: impl Fn(Direction, u64, &[u8]) -> Vec<(Direction, Vec<u8>)> + Send + Sync + 'static,
    ) -> Self {
        Self { injection: Some(Arc::new(injection)), ..self }
    }

    fn hits(&self, direction: Direction) -> bool {
        self.only.is_none_or(|only| only == direction)
    }
}

/// The relay. Dropping it ends its threads and prints what it did.
pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts to relay between `server` and whoever sends to [`address`](Self::address).
    pub(crate) fn start(server: SocketAddr, faults: Faults) -> Self {
        let front = socket();
        let address = front.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            faults,
            front,
            clients: Mutex::default(),
            late: Mutex::default(),
            late_changed: Condvar::new(),
            closed_until: Mutex::new(None),
            gate: Mutex::default(),
            gate_changed: Condvar::new(),
            lose_from: AtomicUsize::new(usize::MAX),
            largest: [AtomicUsize::new(LARGEST), AtomicUsize::new(LARGEST)],
            stop: AtomicBool::new(false),
            backs: Mutex::default(),
            done: Done::default(),
        });
        let (receiving, delivering) = (shared.clone(), shared.clone());
        let threads =
            vec![thread::spawn(move || receiving.receive_from_clients()), thread::spawn(move || delivering.deliver())];
        Self { address, shared, threads }
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loses clients' packets of `length` bytes or more from now on.
    pub(crate) fn lose_from(&self, length: usize) {
        self.shared.lose_from.store(length, Ordering::SeqCst);
    }

    /// Loses packets of more than `bytes` of UDP payload that go in this direction, from now on.
    pub(crate) fn carry_at_most(&self, direction: Direction, bytes: usize) {
        self.shared.largest(direction).store(bytes, Ordering::SeqCst);
    }

    /// Lets nothing pass from now on.
    pub(crate) fn cut(&self) {
        *self.shared.closed_until.lock().unwrap() = Some(Instant::now() + FOREVER);
    }

    /// Undoes [`cut`](Self::cut).
    pub(crate) fn mend(&self) {
        *self.shared.closed_until.lock().unwrap() = None;
    }

    /// Holds back what servers send from now on.
    pub(crate) fn close_gate(&self) {
        self.shared.gate.lock().unwrap().closed = true;
    }

    /// Lets through what was held back, and what comes.
    pub(crate) fn open_gate(&self) {
        *self.shared.gate.lock().unwrap() = Gate::default();
        self.shared.gate_changed.notify_all();
    }

    /// Waits until a server has sent something that the closed gate holds back.
    pub(crate) fn wait_until_held(&self) {
        let gate = self.shared.gate.lock().unwrap();
        drop(self.shared.gate_changed.wait_while(gate, |gate| !gate.holds).unwrap());
    }

    /// What it did so far.
    pub(crate) fn done(&self) -> &Done {
        &self.shared.done
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.late_changed.notify_all();
        self.open_gate();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for thread in self.shared.backs.lock().unwrap().drain(..) {
            let _ = thread.join();
        }
        figure(format_args!("the relay (seed {}) {}", self.shared.faults.seed, self.shared.done));
    }
}

struct Shared {
    server: SocketAddr,
    faults: Faults,
    front: UdpSocket,
    clients: Mutex<HashMap<SocketAddr, Arc<Flow>>>,
    /// Packets on their way, by when they are due and the order in which they came.
    late: Mutex<BTreeMap<(Instant, u64), Late>>,
    late_changed: Condvar,
    /// Nothing passes until then.
    closed_until: Mutex<Option<Instant>>,
    gate: Mutex<Gate>,
    gate_changed: Condvar,
    lose_from: AtomicUsize,
    /// The largest UDP payload that passes to servers, and to clients.
    largest: [AtomicUsize; 2],
    stop: AtomicBool,
    /// The threads that read what the server sends.
    backs: Mutex<Vec<JoinHandle<()>>>,
    done: Done,
}

/// Whether what servers send may pass.
#[derive(Default)]
struct Gate {
    closed: bool,
    /// Whether something waits for it to open.
    holds: bool,
}

/// One client's packets.
struct Flow {
    client: SocketAddr,
    /// Towards the server; a rebinding replaces it.
    back: Mutex<Arc<UdpSocket>>,
    to_server: Mutex<Path>,
    to_client: Mutex<Path>,
}

/// What the relay remembers of one direction of one client.
struct Path {
    random: Rng,
    packets: u64,
    in_burst: bool,
    free_at: Instant,
    rebound: usize,
    mtu_changes: usize,
}

struct Late {
    flow: Arc<Flow>,
    direction: Direction,
    packet: Vec<u8>,
}

impl Shared {
    fn receive_from_clients(self: Arc<Self>) {
        let mut packet = [0; LARGEST];
        while !self.stop.load(Ordering::SeqCst) {
            // A timeout, or what the system says of an earlier packet.
            let Ok((length, client)) = self.front.recv_from(&mut packet) else { continue };
            let flow = self.flow(client);
            if length >= self.lose_from.load(Ordering::SeqCst) {
                self.done.lost.add();
                continue;
            }
            self.pass(&flow, Direction::ToServer, packet[..length].to_vec());
        }
    }

    fn receive_from_server(self: &Arc<Self>, flow: &Arc<Flow>, back: &Arc<UdpSocket>) {
        let mut packet = [0; LARGEST];
        while !self.stop.load(Ordering::SeqCst) && Arc::ptr_eq(&flow.back.lock().unwrap(), back) {
            let Ok(length) = back.recv(&mut packet) else { continue };
            self.pass_gate();
            self.pass(flow, Direction::ToClient, packet[..length].to_vec());
        }
    }

    fn pass_gate(&self) {
        let mut gate = self.gate.lock().unwrap();
        gate.holds = gate.closed;
        self.gate_changed.notify_all();
        drop(self.gate_changed.wait_while(gate, |gate| gate.closed).unwrap());
    }

    fn flow(self: &Arc<Self>, client: SocketAddr) -> Arc<Flow> {
        let mut clients = self.clients.lock().unwrap();
        let number = clients.len() as u64;
        let flow = clients.entry(client).or_insert_with(|| {
            let path = |direction: u64| Path {
                random: Rng::with_seed(self.faults.seed.wrapping_add((number * 2 + direction) << 32)),
                packets: 0,
                in_burst: false,
                free_at: Instant::now(),
                rebound: 0,
                mtu_changes: 0,
            };
            let (to_server, to_client) = (Mutex::new(path(0)), Mutex::new(path(1)));
            let flow = Arc::new(Flow { client, back: Mutex::new(Arc::new(socket())), to_server, to_client });
            self.bind(&flow);
            flow
        });
        flow.clone()
    }

    /// Gives the flow a port towards the server, in place of the one that it has.
    fn bind(self: &Arc<Self>, flow: &Arc<Flow>) {
        let back = Arc::new(socket());
        back.connect(self.server).unwrap();
        *flow.back.lock().unwrap() = back.clone();
        let (shared, flow) = (self.clone(), flow.clone());
        self.backs.lock().unwrap().push(thread::spawn(move || shared.receive_from_server(&flow, &back)));
    }

    /// Decides about a packet, and sends it unless it has to wait or is lost.
    fn pass(self: &Arc<Self>, flow: &Arc<Flow>, direction: Direction, mut packet: Vec<u8>) {
        let faults = &self.faults;
        let done = &self.done;
        let mut path = flow.path(direction).lock().unwrap();
        let number = path.packets;
        path.packets += 1;
        done.received.add();
        if let Some(injection) = &faults.injection {
            for (direction, packet) in injection(direction, number, &packet) {
                done.injected.add();
                self.send(flow, direction, &packet);
            }
        }
        if direction == Direction::ToServer {
            if let Some((packets, duration)) = faults.blackhole
                && packets == number
            {
                *self.closed_until.lock().unwrap() = Some(Instant::now() + duration);
            }
            if let Some((packets, times)) = faults.rebinding
                && number > 0
                && number.is_multiple_of(packets)
                && path.rebound < times
            {
                path.rebound += 1;
                done.rebound.add();
                self.bind(flow);
            }
        }
        if let Some((packets, times)) = faults.other_mtus
            && direction == Direction::ToServer
            && number > 0
            && number.is_multiple_of(packets)
            && path.mtu_changes < times
        {
            path.mtu_changes += 1;
            self.change_mtu(path.mtu_changes as u64);
        }
        let fate = if faults.hits(direction) { path.decide(faults, done, &mut packet) } else { Some(Fate::GOOD) };
        drop(path);
        if self.is_closed() {
            done.swallowed.add();
            return;
        }
        let Some(Fate { copies, after }) = fate else { return };
        if packet.len() > self.largest(direction).load(Ordering::SeqCst) {
            done.too_large.add();
            return;
        }
        for _ in 0..copies {
            if after.is_zero() {
                self.send(flow, direction, &packet);
            } else {
                self.hold(Late { flow: flow.clone(), direction, packet: packet.clone() }, after);
            }
        }
    }

    /// The path carries packets of another size, the one that the seed gives the `number`-th
    /// change.
    fn change_mtu(&self, number: u64) {
        let mut random = Rng::with_seed(self.faults.seed.wrapping_add(number << 48));
        let largest = random.usize(1280..=1500) - IPV4_AND_UDP_HEADERS;
        let both = [Direction::ToServer, Direction::ToClient];
        let changes = match random.usize(..3) {
            0 => &both[..1],
            1 => &both[1..],
            _ => &both[..],
        };
        for direction in changes.iter().filter(|direction| self.faults.hits(**direction)) {
            self.largest(*direction).store(largest, Ordering::SeqCst);
        }
        self.done.other_mtus.add();
    }

    fn largest(&self, direction: Direction) -> &AtomicUsize {
        match direction {
            Direction::ToServer => &self.largest[0],
            Direction::ToClient => &self.largest[1],
        }
    }

    fn is_closed(&self) -> bool {
        self.closed_until.lock().unwrap().is_some_and(|until| Instant::now() < until)
    }

    fn send(&self, flow: &Flow, direction: Direction, packet: &[u8]) {
        // What the system cannot take is lost, as anywhere.
        let sent = match direction {
            Direction::ToServer => flow.back.lock().unwrap().send(packet),
            Direction::ToClient => self.front.send_to(packet, flow.client),
        };
        if sent.is_ok() {
            self.done.sent.add();
        }
    }

    fn hold(&self, late: Late, after: Duration) {
        let mut waiting = self.late.lock().unwrap();
        let order = self.done.delayed.add();
        waiting.insert((Instant::now() + after, order), late);
        self.late_changed.notify_all();
    }

    /// Sends what has to wait, when it is due.
    fn deliver(&self) {
        let mut waiting = self.late.lock().unwrap();
        while !self.stop.load(Ordering::SeqCst) {
            let now = Instant::now();
            let wait = match waiting.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let late = first.remove();
                    drop(waiting);
                    self.send(&late.flow, late.direction, &late.packet);
                    waiting = self.late.lock().unwrap();
                    continue;
                }
                Some(first) => (first.key().0 - now).min(LOOK_UP),
                None => LOOK_UP,
            };
            waiting = self.late_changed.wait_timeout(waiting, wait).unwrap().0;
        }
    }
}

impl Flow {
    fn path(&self, direction: Direction) -> &Mutex<Path> {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}

/// What becomes of a packet that is not lost.
struct Fate {
    copies: usize,
    after: Duration,
}

impl Fate {
    const GOOD: Self = Self { copies: 1, after: Duration::ZERO };
}

impl Path {
    /// Decides about the next packet; `None` loses it. Every packet takes the same number of
    /// throws, whatever comes of them, so that one fault more or less does not change what the
    /// others do.
    fn decide(&mut self, faults: &Faults, done: &Done, packet: &mut Vec<u8>) -> Option<Fate> {
        let mut random = Rng::with_seed(self.random.u64(..));
        let mut throws = || random.f64();
        let (loss, burst, reordering, duplication) = (throws(), throws(), throws(), throws());
        let (corruption, truncation, jitter) = (throws(), throws(), throws());
        if let Some(Bursts { begin, end }) = faults.bursts {
            self.in_burst = if self.in_burst { burst >= end } else { burst < begin };
        }
        let counted = faults.lose_every.is_some_and(|n| self.packets.is_multiple_of(n));
        if self.in_burst || loss < faults.loss || counted {
            done.lost.add();
            return None;
        }
        if corruption < faults.corruption && !packet.is_empty() {
            for _ in 0..random.usize(1..=8) {
                let place = random.usize(..packet.len());
                packet[place] ^= random.u8(1..);
            }
            done.corrupted.add();
        }
        if truncation < faults.truncation {
            packet.truncate(random.usize(..packet.len().max(1)));
            done.truncated.add();
        }
        let mut after = faults.delay + faults.jitter.mul_f64(jitter);
        if let Some((probability, held_back)) = faults.reordering
            && reordering < probability
        {
            after += held_back;
            done.reordered.add();
        }
        if let Some(Rate { bytes_per_second, queue }) = faults.rate {
            let now = Instant::now();
            let waits = self.free_at.saturating_duration_since(now);
            if waits > queue {
                done.lost.add();
                return None;
            }
            let takes = Duration::from_secs_f64(packet.len() as f64 / bytes_per_second as f64);
            self.free_at = now + waits + takes;
            after += waits + takes;
        }
        let copies = if duplication < faults.duplication { 2 } else { 1 };
        if copies == 2 {
            done.doubled.add();
        }
        Some(Fate { copies, after })
    }
}

/// Counts of packets.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) received: Count,
    pub(crate) sent: Count,
    pub(crate) lost: Count,
    /// While nothing passed.
    pub(crate) swallowed: Count,
    pub(crate) delayed: Count,
    pub(crate) reordered: Count,
    pub(crate) doubled: Count,
    pub(crate) corrupted: Count,
    pub(crate) truncated: Count,
    pub(crate) injected: Count,
    /// Larger than what the path carried.
    pub(crate) too_large: Count,
    /// Changes of the size that the path carries.
    pub(crate) other_mtus: Count,
    /// Changes of port.
    pub(crate) rebound: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more; returns what it was.
    fn add(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "got {} packets and sent {}", self.received.get(), self.sent.get())?;
        for (name, count) in [
            ("lost", &self.lost),
            ("swallowed", &self.swallowed),
            ("delayed", &self.delayed),
            ("reordered", &self.reordered),
            ("doubled", &self.doubled),
            ("corrupted", &self.corrupted),
            ("truncated", &self.truncated),
            ("injected", &self.injected),
            ("too large", &self.too_large),
            ("changes of size", &self.other_mtus),
            ("changes of port", &self.rebound),
        ] {
            if count.get() > 0 {
                write!(f, ", {name} {}", count.get())?;
            }
        }
        Ok(())
    }
}

/// A socket of this machine's whose receives end now and then, for their thread to look whether it
/// is over.
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LOOK_UP)).unwrap();
    // As much as the system gives: what overflows here is a loss that no seed decides.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20);
    socket
}

const LOOK_UP: Duration = Duration::from_millis(50);
const FOREVER: Duration = Duration::from_secs(1 << 30);
const IPV4_AND_UDP_HEADERS: usize = 28;
/// The longest UDP datagram.
const LARGEST: usize = 65_536;
