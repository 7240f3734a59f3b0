//! Readers that keep what they were handed: the peer must never wait for them for good.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

/// A piece whose memory can be kept.
#[derive(Debug, Clone)]
struct Part(Bytes, Counted);

/// Memory that counts by how many pieces it is kept.
#[derive(Debug, Clone, Default)]
struct Counted(Arc<AtomicI64>);

impl Counted {
    fn release(&self) {
        assert!(self.0.fetch_sub(1, Ordering::Relaxed) > 0, "it is kept more often than released");
    }

    fn kept(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Block for Counted {
    fn keep(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Piece for Part {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split_to(&mut self, at: usize) -> Self {
        Self(self.0.split_to(at), self.1.clone())
    }

    type Block = Counted;

    fn block(&self) -> Option<Counted> {
        Some(self.1.clone())
    }
}

type Recv = super::super::StreamRecv<Cause, Part>;

/// A stream's receive half, and MsQuic's account of what the peer may send.
struct Stream {
    recv: Recv,
    memory: Counted,
    received: u64,
    /// What MsQuic has back, and what of it the peer has not been told.
    back: u64,
    untold: u64,
    /// Up to where the peer may send.
    limit: u64,
    /// What the reader keeps.
    out: Vec<(u64, Part)>,
}

/// A connection with some streams.
struct Connection {
    streams: Vec<Stream>,
    lending: Arc<Lending>,
    window: u64,
    untold: u64,
    limit: u64,
}

const STREAM_WINDOW: u64 = 64;

impl Connection {
    fn new(streams: usize, window: u64) -> Self {
        let lending = Arc::new(Lending::new(STREAM_WINDOW, window));
        let stream = || {
            let mut recv = Recv::open();
            recv.set_lending(lending.clone());
            let (received, back, untold) = (0, 0, 0);
            Stream { recv, memory: Counted::default(), received, back, untold, limit: STREAM_WINDOW, out: Vec::new() }
        };
        Self { streams: (0..streams).map(|_| stream()).collect(), lending, window, untold: 0, limit: window }
    }

    fn received(&self) -> u64 {
        self.streams.iter().map(|stream| stream.received).sum()
    }

    /// How many bytes the peer may send on a stream.
    fn room(&self, index: usize) -> u64 {
        let stream = &self.streams[index];
        (stream.limit - stream.received).min(self.limit - self.received())
    }

    /// The peer sends up to `bytes`.
    fn receive(&mut self, index: usize, bytes: u64) {
        let bytes = bytes.min(self.room(index));
        let stream = &mut self.streams[index];
        stream.received += bytes;
        let piece = Part(vec![0; bytes as usize].into(), stream.memory.clone());
        stream.recv.on_receive(std::iter::once(piece), Fin::No).wake_now();
    }

    /// StreamReceiveComplete: MsQuic tells the peer of a quarter of a window at a time.
    fn complete(&mut self, index: usize, bytes: u64) {
        let stream = &mut self.streams[index];
        stream.back += bytes;
        stream.untold += bytes;
        if stream.untold >= STREAM_WINDOW / 4 {
            stream.untold = 0;
            stream.limit = stream.back + STREAM_WINDOW;
        }
        self.untold += bytes;
        if self.untold >= self.window / 4 {
            self.limit += self.untold;
            self.untold = 0;
        }
    }

    /// Reads up to `limit` bytes and keeps them; returns whether there were any.
    fn take(&mut self, index: usize, limit: usize) -> bool {
        let stream = &mut self.streams[index];
        let taken = stream.recv.poll_take(limit, &mut Context::from_waker(Waker::noop()));
        let due = stream.recv.take_due();
        let taken = match taken {
            Poll::Ready(Ok(Some(super::super::Taken::Lent { lent, number }))) => {
                stream.out.push((number, lent));
                true
            }
            Poll::Pending => false,
            other => panic!("{other:?}"),
        };
        self.complete(index, due);
        taken
    }

    fn drop_one(&mut self, index: usize, which: usize) {
        let stream = &mut self.streams[index];
        let (number, part) = stream.out.swap_remove(which);
        match stream.recv.give_back(number) {
            Some(bytes) => self.complete(index, bytes),
            None => part.1.release(),
        }
    }

    fn check(&self) {
        let kept: u64 = self.streams.iter().map(|stream| stream.recv.handed_bytes).sum();
        assert_eq!(self.lending.kept(), kept);
        assert!(kept <= self.window / 4, "no more is kept without credit than a quarter of the window");
        for stream in &self.streams {
            let early = stream.out.iter().filter(|(number, _)| *number < stream.recv.handed_base).count();
            assert_eq!(stream.memory.kept(), early as i64, "what MsQuic has back while it is out is kept");
        }
    }
}

#[test]
fn a_reader_that_drops_what_it_reads_keeps_nothing_alive() {
    let mut connection = Connection::new(1, 64);
    for _ in 0..1000 {
        connection.receive(0, 15);
        while connection.take(0, 7) {
            connection.drop_one(0, 0);
        }
        assert_eq!(connection.streams[0].memory.kept(), 0);
        connection.check();
    }
    assert_eq!(connection.received(), 15_000);
}

#[test]
fn one_early_piece_stops_nothing() {
    let mut connection = Connection::new(1, 64);
    connection.receive(0, 1);
    assert!(connection.take(0, 1));
    for _ in 0..1000 {
        connection.receive(0, 15);
        while connection.take(0, 100) {
            connection.drop_one(0, 1);
        }
        connection.check();
    }
    assert_eq!(connection.received(), 15_001);
    assert_eq!(connection.streams[0].memory.kept(), 1);
    connection.drop_one(0, 0);
    assert_eq!(connection.streams[0].memory.kept(), 0);
}

#[test]
fn what_is_kept_beyond_the_end_lets_the_stream_end() {
    for stops in [false, true] {
        let mut connection = Connection::new(1, 1 << 20);
        connection.receive(0, 5);
        assert!(connection.take(0, 9));
        connection.streams[0].recv.on_fin().wake_now();
        assert!(connection.streams[0].recv.has_lent());
        let recv = &mut connection.streams[0].recv;
        if stops {
            let (tell, wakeups) = recv.begin_stop(1);
            wakeups.wake_now();
            assert!(!tell);
        } else {
            let read = recv.poll_take(9, &mut Context::from_waker(Waker::noop()));
            assert!(matches!(read, Poll::Ready(Ok(None))));
        }
        assert_eq!(recv.take_due(), 5);
        assert!(!recv.has_lent());
        assert_eq!(connection.streams[0].memory.kept(), 1);
        connection.drop_one(0, 0);
        connection.check();
    }
}

#[test]
fn what_is_kept_beyond_a_stop_a_reset_or_a_loss_counts_no_longer() {
    let stop = |recv: &mut Recv| {
        let (tell, wakeups) = recv.begin_stop(1);
        wakeups.wake_now();
        assert!(tell);
    };
    type End<'a> = &'a dyn Fn(&mut Recv);
    // How the stream ends, and how many bytes MsQuic is to be told of.
    let ends: [(End<'_>, u64); 4] = [
        (&stop, 5),
        (&|recv| recv.on_peer_send_aborted(1).wake_now(), 0),
        (&|recv| recv.on_shutdown_complete(Some(Cause::Refused)).wake_now(), 0),
        (&|recv| recv.on_shutdown_complete(None).wake_now(), 0),
    ];
    for (end, due) in ends {
        let mut connection = Connection::new(1, 1 << 20);
        connection.receive(0, 5);
        assert!(connection.take(0, 2));
        assert!(connection.take(0, 9));
        assert_eq!(connection.lending.kept(), 5);
        let recv = &mut connection.streams[0].recv;
        end(recv);
        assert_eq!(recv.take_due(), due);
        assert!(!recv.has_lent(), "it keeps the handle open");
        assert_eq!(connection.lending.kept(), 0);
        assert_eq!(connection.streams[0].memory.kept(), 2);
        connection.drop_one(0, 1);
        connection.drop_one(0, 0);
        assert_eq!(connection.streams[0].memory.kept(), 0);
        connection.check();
    }
}

#[test]
fn what_is_read_after_the_end_of_the_connection_counts_for_nothing() {
    let mut connection = Connection::new(1, 1 << 20);
    connection.receive(0, 5);
    connection.streams[0].recv.on_shutdown_complete(Some(Cause::Refused)).wake_now();
    assert!(connection.streams[0].recv.has_lent(), "it can be read");
    assert!(connection.take(0, 2));
    assert_eq!((connection.lending.kept(), connection.streams[0].back), (0, 0));
    assert!(connection.streams[0].recv.has_lent());
    connection.streams[0].recv.on_dropped();
    assert!(!connection.streams[0].recv.has_lent(), "nobody reads the rest");
    assert_eq!(connection.streams[0].memory.kept(), 1);
    connection.drop_one(0, 0);
    connection.check();
}

#[derive(Debug, Clone)]
enum Step {
    Receive(usize, u64),
    Take(usize, usize),
    Drop(usize, prop::sample::Index),
}

const STREAMS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..STREAMS, 1..70u64).prop_map(|(stream, bytes)| Step::Receive(stream, bytes)),
        (0..STREAMS, 1..70usize).prop_map(|(stream, limit)| Step::Take(stream, limit)),
        (0..STREAMS, any::<prop::sample::Index>()).prop_map(|(stream, which)| Step::Drop(stream, which)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// Whatever is kept on whichever stream: once all that arrived was taken, there is room for more
    /// on every stream.
    #[test]
    fn whatever_is_kept_the_peer_can_go_on(
        window in prop::sample::select(vec![16u64, 64, 96, 1000]),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut connection = Connection::new(STREAMS, window);
        for step in steps {
            match step {
                Step::Receive(stream, bytes) => connection.receive(stream, bytes),
                Step::Take(stream, limit) => drop(connection.take(stream, limit)),
                Step::Drop(stream, which) => {
                    let count = connection.streams[stream].out.len();
                    if count > 0 {
                        connection.drop_one(stream, which.index(count));
                    }
                }
            }
            connection.check();
        }
        for stream in 0..STREAMS {
            while connection.take(stream, 1000) {}
        }
        connection.check();
        for stream in 0..STREAMS {
            prop_assert!(connection.room(stream) > 0, "stream {} is stuck", stream);
        }
        for stream in 0..STREAMS {
            while !connection.streams[stream].out.is_empty() {
                connection.drop_one(stream, 0);
            }
            let stream = &connection.streams[stream];
            prop_assert_eq!((stream.memory.kept(), stream.back), (0, stream.received));
        }
        prop_assert_eq!(connection.lending.kept(), 0);
    }
}
