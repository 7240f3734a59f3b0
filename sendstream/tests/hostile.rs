//! Peers and strangers who mean harm: what they can make a server hold is bounded, and honest peers
//! go on.

mod support;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures::{
    FutureExt, StreamExt,
    future::{join_all, poll_immediate},
    stream::FuturesUnordered,
};
use sendstream::{
    Client, ConnectError, Connection, ConnectionError, Identity, ReadError, Server, Timeout, TransportConfig, Trust,
    WriteError, process::counters,
};
use support::{
    Endpoints, accept, any_port, exchange, figure, foreign,
    memory::{assert_within, resident},
    on_tokio,
    packets::{first_packets, ids},
    relay::{Direction, Faults, Relay},
    run, soak,
};

// ---- Strangers ----------------------------------------------------------------------------------

#[test]
fn garbage_is_not_answered_with_more_than_it_brought() {
    let _alone = alone();
    run(async {
        let endpoints = Endpoints::new();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.connect(endpoints.address).unwrap();
        stranger.set_nonblocking(true).unwrap();
        let initial = first_packets(&nobody(), 1).pop().unwrap();
        let mut random = Rng::with_seed(soak::seed());
        let (mut tried, mut sent, mut answers, mut answered) = (0, 0, 0, 0);
        for round in 0..200 {
            for packet in nonsense(&initial, &mut random) {
                // What is longer than a UDP datagram the system itself refuses, and nothing else
                // here.
                if stranger.send(&packet).is_ok() {
                    tried += 1;
                    sent += packet.len();
                }
            }
            while let Ok(length) = stranger.recv(&mut [0; 65_536]) {
                answers += 1;
                answered += length;
            }
            if round % 20 == 0 {
                honest(&endpoints).await;
            }
        }
        figure(format_args!("{tried} packets of {sent} bytes; {answers} answers of {answered} bytes"));
        assert!(answers > 0, "the unknown versions are answered");
        assert!(answered < 3 * sent, "the server amplifies");
        honest(&endpoints).await;
        endpoints.end().await;
    });
}

/// One of each kind of packet that no honest client sends.
fn nonsense(initial: &[u8], random: &mut Rng) -> Vec<Vec<u8>> {
    let noise = |length: usize, random: &mut Rng| (0..length).map(|_| random.u8(..)).collect::<Vec<u8>>();
    let length = random.usize(1..1500);
    let garbage = noise(length, random);
    let cut = initial[..random.usize(1..initial.len())].to_vec();
    let mut damaged = initial.to_vec();
    damaged[random.usize(..initial.len())] ^= random.u8(1..);
    let mut unknown_version = initial.to_vec();
    unknown_version[1..5].copy_from_slice(&[0x0a, 0x1a, 0x2a, random.u8(..) | 1]);
    // RFC 9000 §14.1: this one is too short to be answered.
    let unknown_and_short = unknown_version[..random.usize(7..1200)].to_vec();
    let mut long_id = initial.to_vec();
    long_id[5] = random.u8(21..);
    let mut retry = initial.to_vec();
    retry[0] = 0xf0 | random.u8(..16);
    let mut handshake = initial.to_vec();
    handshake[0] = 0xe0 | random.u8(..16);
    let mut short_header = noise(random.usize(1..1500), random);
    short_header[0] = 0x40 | random.u8(..64);
    let several = [&initial[..600], &initial[..600]].concat();
    let largest = noise(65_507, random);
    vec![
        garbage,
        cut,
        damaged,
        unknown_version,
        unknown_and_short,
        long_id,
        retry,
        handshake,
        short_header,
        several,
        largest,
    ]
}

#[test]
fn forged_resets_and_version_negotiations_do_not_end_a_connection() {
    let _alone = alone();
    run(async {
        let endpoints = Endpoints::new();
        let random = Mutex::new(Rng::with_seed(soak::seed()));
        let faults = Faults::none().inject(move |direction, number, packet| {
            let mut random = random.lock().unwrap();
            // On the first packet of the client: versions that it may not believe (RFC 9000 §6.2),
            // and a Retry whose integrity tag is wrong (RFC 9001 §5.8).
            if direction == Direction::ToServer && number == 0 {
                let (destination, source) = ids(packet);
                let strange = [random.u8(..); 8];
                return vec![
                    (Direction::ToClient, version_negotiation(&source, &destination, &[UNKNOWN, 1])),
                    (Direction::ToClient, version_negotiation(&source, &strange, &[UNKNOWN])),
                    (Direction::ToClient, version_negotiation(&strange, &destination, &[UNKNOWN])),
                    (Direction::ToClient, forged_retry(&source, &strange)),
                ];
            }
            if number % 10 != 9 || packet.len() < 20 {
                return Vec::new();
            }
            // Later: resets with the right connection id in front and a token that is guessed, for
            // either side.
            let mut reset = packet[..random.usize(9..20)].to_vec();
            reset.extend((0..random.usize(16..40)).map(|_| random.u8(..)));
            reset[0] = 0x40 | random.u8(..64);
            vec![
                (direction, reset),
                (Direction::ToClient, version_negotiation(&packet[1..9], &packet[1..9], &[UNKNOWN])),
                (direction, packet.to_vec()),
            ]
        });
        let relay = Relay::start(endpoints.address, faults);
        let (client, server) = endpoints.connect_through(relay.address()).await;
        exchange(&client, &server, 8 << 20).await;
        figure(format_args!("{} forged packets", relay.done().injected.get()));
        assert!(relay.done().injected.get() > 500);
        drop((client, server));
        endpoints.end().await;
    });
}

/// Whoever sees a connection's packets, and adds some of its own, cannot end it with this (RFC 9000
/// §6.2).
#[test]
fn a_forged_version_negotiation_after_the_server_has_answered_is_passed_over() {
    let _alone = alone();
    run(async {
        const VERSION_2: u32 = 0x6b33_43cf;
        for versions in [[UNKNOWN], [VERSION_2]] {
            let endpoints = Endpoints::new();
            // What the server's first packet has: the client's connection id, and the server's.
            let seen = Mutex::new(None);
            let faults = Faults::none().inject(move |direction, number, packet| {
                let mut seen = seen.lock().unwrap();
                if direction == Direction::ToClient && number == 0 {
                    *seen = Some(ids(packet));
                }
                match &*seen {
                    Some((client, server)) if number % 10 == 9 => {
                        vec![(Direction::ToClient, version_negotiation(client, server, &versions))]
                    }
                    _ => Vec::new(),
                }
            });
            let relay = Relay::start(endpoints.address, faults);
            let (client, server) = endpoints.connect_through(relay.address()).await;
            exchange(&client, &server, 1 << 20).await;
            assert!(relay.done().injected.get() > 50);
            drop((client, server));
            endpoints.end().await;
        }
    });
}

#[test]
fn a_forged_version_negotiation_before_the_server_answers_is_an_error_of_that_name() {
    let _alone = alone();
    run(async {
        let endpoints = Endpoints::new();
        let faults = Faults::none().inject(|direction, number, packet| {
            if direction == Direction::ToServer && number == 0 {
                let (destination, source) = ids(packet);
                return vec![(Direction::ToClient, version_negotiation(&source, &destination, &[UNKNOWN]))];
            }
            Vec::new()
        });
        let relay = Relay::start(endpoints.address, faults.delay(Duration::from_millis(100)));
        let refused = endpoints.client.connect(relay.address(), "localhost").await.unwrap_err();
        assert!(matches!(refused, ConnectError::Connection(ConnectionError::VersionMismatch)), "{refused:?}");
        honest(&endpoints).await;
        endpoints.end().await;
    });
}

// ---- Handshakes ---------------------------------------------------------------------------------

#[test]
fn a_thousand_clients_at_a_backlog_of_ten_are_refused_but_for_ten() {
    let _alone = alone();
    run(async {
        // However slow the machine is, no handshake times out, and nobody is given up.
        let patient = Duration::from_secs(300);
        let patient = TransportConfig::default().handshake_timeout(patient).disconnect_timeout(patient);
        let settings = patient.clone().accept_backlog(10);
        let endpoints = Endpoints::with(patient, settings);
        // No more at once than a socket holds: what it drops is sent again later and later.
        let mut clients = (0..1000).map(|_| endpoints.client.connect(endpoints.address, "localhost"));
        let mut connecting: FuturesUnordered<_> = clients.by_ref().take(60).collect();
        for _ in 0..990 {
            let refused = connecting.next().await.unwrap().unwrap_err();
            assert!(matches!(refused, ConnectError::Connection(ConnectionError::Refused)), "{refused:?}");
            connecting.extend(clients.next());
        }
        assert!(connecting.next().now_or_never().is_none(), "ten wait");
        assert_eq!(endpoints.server.stats().refused, 990);
        let accepting = async {
            let mut accepted = Vec::new();
            for _ in 0..10 {
                accepted.push(accept(&endpoints.server).await.unwrap());
            }
            accepted
        };
        let (connected, accepted) = futures::join!(connecting.collect::<Vec<_>>(), accepting);
        assert!(connected.iter().all(Result::is_ok));
        honest(&endpoints).await;
        drop((connected, accepted));
        figure("1,000 clients: 990 refused, 10 served");
        endpoints.end().await;
        nothing_is_left().await;
    });
}

#[test]
fn handshakes_that_never_go_on_time_out_while_honest_peers_are_served() {
    let _alone = alone();
    run(async {
        const HANDSHAKES: usize = 300;
        let settings = TransportConfig::default().handshake_timeout(Duration::from_secs(2));
        let endpoints = Endpoints::with(TransportConfig::default(), settings);
        let strangers: Vec<_> = first_packets(&nobody(), HANDSHAKES)
            .iter()
            .map(|initial| {
                let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
                stranger.send_to(initial, endpoints.address).unwrap();
                stranger
            })
            .collect();
        let mut pending = Vec::new();
        for _ in 0..HANDSHAKES {
            let incoming = endpoints.server.accept().await.unwrap();
            pending.push(incoming.accept());
        }
        let (ended, ()) = futures::join!(join_all(pending), async {
            for _ in 0..20 {
                honest(&endpoints).await;
            }
        });
        for ended in ended {
            assert_eq!(ended.unwrap_err(), ConnectionError::TimedOut(Timeout::Handshake));
        }
        figure(format_args!("{HANDSHAKES} handshakes that never went on, 20 honest clients served meanwhile"));
        drop(strangers);
        endpoints.end().await;
        nothing_is_left().await;
    });
}

// ---- Streams ------------------------------------------------------------------------------------

#[test]
fn streams_that_nobody_accepts_stop_at_the_limit() {
    let _alone = alone();
    run(async {
        const LIMIT: u16 = 16;
        const TRIED: usize = 5000;
        let settings = TransportConfig::default().max_concurrent_uni_streams(LIMIT);
        let endpoints = Endpoints::with(TransportConfig::default(), settings);
        let (client, server) = endpoints.connect().await;
        let mut flood: Vec<_> = (0..TRIED).map(|_| client.open_uni().unwrap()).collect();
        for send in &mut flood {
            drop(send.finish_with(vec![0; 100]));
        }
        for _ in 0..10 {
            honest(&endpoints).await;
        }
        let mut held = 0;
        for send in &mut flood {
            held += usize::from(poll_immediate(send.finished()).await.is_some());
        }
        figure(format_args!("{TRIED} streams tried, {held} of them known to the server"));
        // Up to 64 that are over already wait beside those that count as open.
        assert!(held > 0 && held <= usize::from(LIMIT) + 64, "{held}");
        // None of them is lost, either.
        for _ in 0..TRIED {
            assert_eq!(server.accept_uni().await.unwrap().read_to_end(100).await.unwrap(), [0; 100]);
        }
        drop((flood, client, server));
        endpoints.end().await;
        nothing_is_left().await;
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn a_peer_that_asks_on_many_streams_and_reads_nothing_costs_its_windows() {
    let _alone = alone();
    on_tokio(async {
        const STREAMS: usize = 100;
        const WINDOW: u32 = 256 << 10;
        let settings = TransportConfig::default().send_window(WINDOW);
        let target = Target::new(settings);
        let (_endpoint, theirs, ours) = target.attacked().await;
        honest_at(&target).await;
        let before = resident();
        let mut held = Vec::new();
        let mut writing = Vec::new();
        for _ in 0..STREAMS {
            let (mut send, recv) = theirs.open_bi().await.unwrap();
            send.write_all(b"everything").await.unwrap();
            held.push((send, recv));
            let (mut send, recv) = ours.accept_bi().await.unwrap();
            writing.push(tokio::spawn(async move {
                let _recv = recv;
                loop {
                    if let Err(error) = send.write_chunk(vec![7; 64 << 10].into()).await {
                        break error;
                    }
                }
            }));
        }
        for _ in 0..20 {
            honest_at(&target).await;
        }
        let grown = resident().saturating_sub(before);
        let windows = STREAMS * WINDOW as usize;
        figure(format_args!("{STREAMS} streams with windows of {} KiB: {} KiB more", windows >> 10, grown >> 10));
        assert!(writing.iter().all(|writing| !writing.is_finished()));
        // Beside the windows, what quinn holds for its application that does not read: 1.25 MB for
        // each stream at most.
        assert_within(grown, windows + STREAMS * (1_250_000 + (64 << 10)) + (32 << 20));
        theirs.close(9u32.into(), b"");
        for writing in writing {
            let error = writing.await.unwrap();
            assert!(matches!(error, WriteError::ConnectionLost(ConnectionError::ApplicationClosed { code: 9, .. })));
        }
        drop(ours);
        honest_at(&target).await;
        target.server.shutdown().await;
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn a_peer_that_sends_and_resets_for_ever_leaves_nothing_behind() {
    let _alone = alone();
    on_tokio(async {
        const ROUNDS: usize = 5000;
        let target = Target::new(TransportConfig::default());
        let (_endpoint, theirs, ours) = target.attacked().await;
        let sending = async |rounds: usize| {
            for round in 0..rounds {
                let mut send = theirs.open_uni().await.unwrap();
                let before = theirs.stats().frame_tx.stream;
                send.write_all(&[1; 1000]).await.unwrap();
                // On every other stream the data goes first; on the others quinn sends the reset
                // alone.
                while round % 2 == 0 && theirs.stats().frame_tx.stream == before {
                    tokio::task::yield_now().await;
                }
                send.reset((round as u32).into()).unwrap();
            }
        };
        // A last stream says that all is over.
        let (mut resets, mut data) = (0, 0);
        let mut receiving = async || {
            loop {
                let mut recv = ours.accept_uni().await.unwrap();
                loop {
                    match recv.read_chunk().await {
                        Ok(Some(chunk)) => data += chunk.len(),
                        Ok(None) => return,
                        Err(ReadError::Reset(_)) => break resets += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        };
        let last = async || theirs.open_uni().await.unwrap().finish().unwrap();
        futures::join!(
            async {
                sending(ROUNDS / 5).await;
                last().await
            },
            receiving()
        );
        let before = resident();
        futures::join!(
            async {
                sending(ROUNDS).await;
                last().await
            },
            receiving()
        );
        let grown = resident().saturating_sub(before);
        let rounds = ROUNDS + ROUNDS / 5;
        figure(format_args!("{resets} resets and {data} bytes in {rounds} rounds: {} KiB more", grown >> 10));
        assert!(resets > ROUNDS / 2, "{resets}");
        assert_within(grown, 32 << 20);
        honest_at(&target).await;
        drop((theirs, ours));
        target.server.shutdown().await;
        target.client.wait_idle().await;
        nothing_is_left().await;
    });
}

// ---- Honest peers -------------------------------------------------------------------------------

/// The tests of this file look at numbers of the whole process: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection as it should be, with something there and back; nobody else connects meanwhile.
/// MsQuic refuses connections while its workers are far behind: then it comes again.
async fn honest(endpoints: &Endpoints) {
    let by_load = counters().unwrap().connections_rejected_by_load;
    let (client, server) = loop {
        match endpoints.try_connect_through(endpoints.address).await {
            Ok(pair) => break pair,
            Err(refused) => assert!(counters().unwrap().connections_rejected_by_load > by_load, "{refused}"),
        }
    };
    exchange(&client, &server, 10_000).await;
}

/// Waits until MsQuic itself counts no connection and no stream. It frees them on its worker after
/// their close, and has no event for that.
async fn nothing_is_left() {
    let begin = Instant::now();
    loop {
        let now = counters().unwrap();
        if (now.connections_active, now.streams_active) == (0, 0) {
            return;
        }
        assert!(begin.elapsed() < support::HANG, "{now:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server for quinn and our own client.
struct Target {
    identity: Identity,
    server: Server,
    client: Client,
    address: SocketAddr,
}

impl Target {
    fn new(transport: TransportConfig) -> Self {
        let identity = support::identity();
        let server = support::server(&identity).transport(transport).bind(any_port()).unwrap();
        let client = support::client(&identity).build().unwrap();
        let address = server.local_addr().unwrap();
        Self { identity, server, client, address }
    }

    /// quinn's side of a connection and ours.
    async fn attacked(&self) -> (quinn::Endpoint, quinn::Connection, Connection) {
        let endpoint = foreign::client(&self.identity);
        let (theirs, ours) =
            futures::join!(async { endpoint.connect(self.address, "localhost").unwrap().await }, self.accept());
        (endpoint, theirs.unwrap(), ours)
    }

    async fn accept(&self) -> Connection {
        accept(&self.server).await.unwrap()
    }
}

async fn honest_at(target: &Target) {
    let (client, server) = futures::join!(target.client.connect(target.address, "localhost"), target.accept());
    exchange(&client.unwrap(), &server, 10_000).await;
}

// ---- Packets ------------------------------------------------------------------------------------

/// A version that nobody speaks.
const UNKNOWN: u32 = 0xdead_beef;

/// A client that nobody knows.
fn nobody() -> Client {
    support::client_with(Trust::dangerous_accept_any_certificate()).build().unwrap()
}

/// A Version Negotiation packet (RFC 9000 §17.2.1).
fn version_negotiation(destination: &[u8], source: &[u8], versions: &[u32]) -> Vec<u8> {
    let mut packet = vec![0x80 | 0x2a, 0, 0, 0, 0];
    for id in [destination, source] {
        packet.push(id.len() as u8);
        packet.extend_from_slice(id);
    }
    packet.extend(versions.iter().flat_map(|version| version.to_be_bytes()));
    packet
}

/// A Retry packet (RFC 9000 §17.2.5) with a token and a tag that are made up.
fn forged_retry(destination: &[u8], source: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xf0, 0, 0, 0, 1];
    for id in [destination, source] {
        packet.push(id.len() as u8);
        packet.extend_from_slice(id);
    }
    packet.extend_from_slice(&[0x5a; 48]);
    packet
}
