//! A path that carries smaller packets from one moment on, and says nothing (a black hole, RFC 8899
//! §4.3): connections go on in smaller packets, and find out when there is more room again.
//!
//! Through the relay here, and through routers in `routed_mtu.rs`.

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use ring::digest::{self, SHA256};
use sendstream::{
    CongestionControl, Connection, DatagramFate, SendDatagram, SendDatagramError, TransportConfig, process::counters,
};
use support::{
    Endpoints, alone, any_port, figure,
    forwarder::Forwarder,
    pattern,
    pieces::{read_pieces, send_pieces},
    relay::{Direction, Faults, Relay},
    run, run_within, soak,
};

/// UDP payload that a tunnel leaves of 1,500 bytes, and more than the smallest packets have.
const TUNNEL: usize = 1300;
/// The IPv4 packet of it.
const TUNNEL_MTU: u16 = 1328;
/// UDP payload of the smallest path that IPv6 has.
const SMALLEST: usize = 1252;
const EVERYTHING: usize = 1472;
const BOTH: [Direction; 2] = [Direction::ToServer, Direction::ToClient];
/// More than the largest packets have room for.
const LARGE_DATAGRAM: usize = 1400;
/// Far more than any of these takes.
const BOUND: Duration = Duration::from_secs(600);

/// Two ends with a relay between them.
struct Network {
    endpoints: Endpoints,
    relay: Relay,
}

impl Network {
    fn new(faults: Faults, settings: TransportConfig) -> Self {
        let endpoints = Endpoints::with(settings.clone(), settings);
        let relay = Relay::start(endpoints.address, faults);
        Self { endpoints, relay }
    }

    /// One that begins without fault.
    fn good() -> Self {
        Self::new(Faults::none(), quick())
    }

    async fn connect(&self) -> (Connection, Connection) {
        self.endpoints.connect_through(self.relay.address()).await
    }

    fn carry_at_most(&self, bytes: usize) {
        BOTH.into_iter().for_each(|direction| self.relay.carry_at_most(direction, bytes));
    }

    async fn end(self, connections: (Connection, Connection)) {
        drop(connections);
        self.endpoints.end().await;
    }
}

/// The first timeouts are short, and a path that has room again is found soon.
fn quick() -> TransportConfig {
    TransportConfig::default().initial_rtt(Duration::from_millis(20)).mtu_search_interval(Duration::from_millis(100))
}

/// Sends so many bytes on a stream and returns when the peer has acknowledged them and read them.
async fn transfer(from: &Connection, to: &Connection, bytes: usize) {
    let sent = pattern(bytes);
    let expected = digest::digest(&SHA256, &sent);
    let sending = async {
        let mut stream = from.open_uni().unwrap();
        stream.finish_with(sent).await.unwrap();
        stream.finished().await.unwrap();
    };
    let receiving = async {
        let received = to.accept_uni().await.unwrap().read_to_end(bytes).await.unwrap();
        assert_eq!(digest::digest(&SHA256, &received).as_ref(), expected.as_ref());
    };
    futures::join!(sending, receiving);
}

async fn mtu(connection: &Connection) -> u16 {
    connection.stats().await.unwrap().path_mtu
}

/// Sends until this side takes the path for one of such packets.
async fn transfer_until(from: &Connection, to: &Connection, holds: impl Fn(u16) -> bool) -> u16 {
    loop {
        transfer(from, to, 100_000).await;
        let mtu = mtu(from).await;
        if holds(mtu) {
            return mtu;
        }
    }
}

async fn transfer_until_full(from: &Connection, to: &Connection) {
    transfer_until(from, to, |mtu| mtu == 1500).await;
}

/// The edit `mtu-black-holes-found`.
#[test]
fn a_path_that_carries_less_from_one_moment_on_costs_a_moment() {
    run(async {
        let network = Network::good();
        let (client, server) = network.connect().await;
        transfer_until_full(&client, &server).await;
        let datagram = client.max_datagram_size().unwrap();
        network.carry_at_most(TUNNEL);
        let begin = Instant::now();
        transfer(&client, &server, 1 << 20).await;
        figure(format_args!("1 MiB took {:.0?} over a path that had shrunk", begin.elapsed()));
        let mtu = mtu(&client).await;
        assert!((1248..=TUNNEL_MTU).contains(&mtu), "{mtu}");
        assert!(client.max_datagram_size().unwrap() < datagram);
        transfer(&client, &server, 1 << 20).await;
        network.end((client, server)).await;
    });
}

/// The edit `mtu-black-holes-found`.
#[test]
fn each_side_notices_for_the_direction_that_it_sends_in() {
    run(async {
        for direction in BOTH {
            let network = Network::good();
            let (client, server) = network.connect().await;
            transfer_until_full(&client, &server).await;
            transfer_until_full(&server, &client).await;
            network.relay.carry_at_most(direction, TUNNEL);
            futures::join!(transfer(&client, &server, 1 << 20), transfer(&server, &client, 1 << 20));
            let (to_server, to_client) = (mtu(&client).await, mtu(&server).await);
            let (shrunk, other) = match direction {
                Direction::ToServer => (to_server, to_client),
                Direction::ToClient => (to_client, to_server),
            };
            assert!(shrunk <= TUNNEL_MTU, "{direction:?}: {shrunk}");
            assert_eq!(other, 1500, "{direction:?}");
            network.end((client, server)).await;
        }
    });
}

/// The edit `mtu-black-holes-found`: acknowledgements come all the time.
#[test]
fn small_messages_that_get_through_do_not_hide_that_large_ones_do_not() {
    run(async {
        let network = Network::good();
        let (client, server) = network.connect().await;
        transfer_until_full(&client, &server).await;
        network.carry_at_most(TUNNEL);
        {
            let large = transfer(&client, &server, 1 << 20);
            let small = async {
                // Each waits for its acknowledgement.
                loop {
                    client.send_datagram("small").await.unwrap();
                }
            };
            futures::future::select(Box::pin(large), Box::pin(small)).await;
        }
        assert!(mtu(&client).await <= TUNNEL_MTU);
        network.end((client, server)).await;
    });
}

/// The edit `mtu-black-holes-found`: the size is told anew, and each datagram has a fate.
#[test]
fn a_connection_of_datagrams_alone_learns_how_large_they_may_be() {
    run(async {
        let network = Network::good();
        let (client, server) = network.connect().await;
        transfer_until_full(&client, &server).await;
        network.carry_at_most(TUNNEL);
        let mut sent = Vec::new();
        let max = loop {
            let mut datagram = client.send_datagram(vec![1; LARGE_DATAGRAM]);
            match datagram.refusal() {
                None => drop(datagram.progress().await.unwrap()),
                Some(SendDatagramError::TooLarge { max }) => break *max,
                Some(other) => panic!("{other}"),
            }
            sent.push(datagram);
        };
        figure(format_args!("{} datagrams of {LARGE_DATAGRAM} bytes until {max} were the most", sent.len()));
        assert!(max < TUNNEL);
        assert!(fates(&client, sent).await.into_iter().all(DatagramFate::is_final));
        assert_eq!(client.send_datagram(vec![2; max]).await, Ok(DatagramFate::Acknowledged));
        network.end((client, server)).await;
    });
}

/// The edit `mtu-black-holes-found`: what waits and no longer fits is told, and does not hold up what
/// does.
#[test]
fn datagrams_that_wait_while_the_path_shrinks_are_told_that_they_do_not_fit() {
    run(async {
        let network = Network::good();
        let (client, server) = network.connect().await;
        transfer_until_full(&client, &server).await;
        network.carry_at_most(TUNNEL);
        // More than the window lets out.
        let large: Vec<_> = (0..5000).map(|_| client.send_datagram(vec![1; LARGE_DATAGRAM])).collect();
        let small = client.send_datagram("behind them");
        let fates = fates(&client, large).await;
        let count = |wanted| fates.iter().filter(|fate| **fate == wanted).count();
        let (lost, canceled) = (count(DatagramFate::Lost), count(DatagramFate::Canceled));
        figure(format_args!("of {} datagrams {lost} were lost and {canceled} canceled", fates.len()));
        assert_eq!((lost + canceled, canceled > 0), (fates.len(), true));
        assert_eq!(small.await, Ok(DatagramFate::Acknowledged));
        network.end((client, server)).await;
    });
}

/// The edit `probe-while-sending`: datagrams that go out all the time put off the timeout that would
/// show that none arrives.
#[test]
fn datagrams_in_a_steady_stream_do_not_hide_that_none_arrives() {
    run(async {
        // Enough of a window for all that is sent here.
        let network = Network::new(Faults::none(), quick().initial_window_packets(50_000));
        let (client, server) = network.connect().await;
        transfer_until_full(&client, &server).await;
        network.carry_at_most(TUNNEL);
        let begin = Instant::now();
        let mut sent = Vec::new();
        loop {
            let datagram = client.send_datagram(vec![1; LARGE_DATAGRAM]);
            match datagram.refusal() {
                None => sent.push(datagram),
                Some(SendDatagramError::TooLarge { .. }) => break,
                Some(other) => panic!("{other}"),
            }
            assert!(begin.elapsed() < Duration::from_secs(8), "{} datagrams went nowhere", sent.len());
            // The pace of a video, which is more often than probes are sent.
            thread::sleep(Duration::from_millis(2));
        }
        figure(format_args!("{} datagrams in {:.0?}", sent.len(), begin.elapsed()));
        assert!(fates(&client, sent).await.into_iter().all(DatagramFate::is_final));
        network.end((client, server)).await;
    });
}

/// Waits for the end of each, and sends something now and then: a datagram is given up when a later
/// packet is acknowledged.
async fn fates(connection: &Connection, sent: Vec<SendDatagram>) -> Vec<DatagramFate> {
    let mut waiting = futures::future::join_all(sent);
    let fates = loop {
        if let Some(fates) = futures::future::poll_immediate(&mut waiting).await {
            break fates;
        }
        connection.send_datagram("later").await.unwrap();
    };
    fates.into_iter().map(Result::unwrap).collect()
}

/// The edit `mtu-black-holes-found`: at first, what the settings ask for is no more than a guess.
#[test]
fn a_path_that_carries_less_than_the_smallest_packets_asked_for_carries_a_connection() {
    run(async {
        for settings in [quick(), quick().min_mtu(1500), quick().min_mtu(1288).max_mtu(1288)] {
            let network = Network::new(Faults::none(), settings);
            network.carry_at_most(SMALLEST);
            let begin = Instant::now();
            let (client, server) = network.connect().await;
            let connected = begin.elapsed();
            futures::join!(transfer(&client, &server, 1 << 20), transfer(&server, &client, 1 << 20));
            figure(format_args!("connected in {connected:.0?}, and 1 MiB each way in {:.0?}", begin.elapsed()));
            assert!(mtu(&client).await <= 1280);
            network.end((client, server)).await;
        }
    });
}

/// The edits `moved-path-begins-small` and `mtu-black-holes-found`.
#[test]
fn a_client_that_moves_to_a_path_that_carries_less_goes_on() {
    run(async {
        let network = Network::good();
        let (client, server) = network.connect().await;
        transfer_until_full(&client, &server).await;
        transfer_until_full(&server, &client).await;
        network.carry_at_most(SMALLEST);
        client.rebind(any_port()).await.unwrap();
        futures::join!(transfer(&client, &server, 1 << 20), transfer(&server, &client, 1 << 20));
        assert!(mtu(&client).await <= 1280);
        network.end((client, server)).await;
    });
}

/// The edit `moved-path-begins-small`: without it the server never sends anything again.
#[test]
fn a_datagram_that_no_longer_fits_after_a_move_holds_up_nothing() {
    run(async {
        let network = Network::new(Faults::none(), quick().min_mtu(1248));
        let (client, server) = network.connect().await;
        transfer_until_full(&server, &client).await;
        for _ in 0..10 {
            let changed = server.path_changed();
            client.rebind(any_port()).await.unwrap();
            transfer(&client, &server, 1).await;
            changed.await.unwrap();
            let datagram = server.send_datagram(vec![1; LARGE_DATAGRAM]);
            transfer(&server, &client, 100_000).await;
            match datagram.await {
                Ok(fate) => assert!(fate.is_final()),
                Err(error) => assert!(matches!(error, SendDatagramError::TooLarge { .. }), "{error}"),
            }
        }
        network.end((client, server)).await;
    });
}

/// The edit `mtu-black-holes-found`.
#[test]
fn a_path_that_carries_more_again_is_found() {
    run(async {
        let network = Network::good();
        let (client, server) = network.connect().await;
        transfer_until_full(&client, &server).await;
        for _ in 0..3 {
            network.carry_at_most(TUNNEL);
            transfer_until(&client, &server, |mtu| mtu <= TUNNEL_MTU).await;
            network.carry_at_most(EVERYTHING);
            transfer_until_full(&client, &server).await;
        }
        network.end((client, server)).await;
    });
}

/// The edit `mtu-probes-before-datagrams`.
#[test]
fn datagrams_that_always_wait_do_not_hold_up_the_search() {
    const AT_ONCE: usize = 500;
    const TRIES: usize = 5000;
    run(async {
        // So slow that what is sent waits here.
        let network = Network::new(Faults::none().rate(2_000_000, Duration::from_millis(100)), quick());
        let (client, server) = network.connect().await;
        let mut waiting: FuturesUnordered<_> = (0..AT_ONCE).map(|_| client.send_datagram(vec![1; 1000])).collect();
        let mut sent = AT_ONCE;
        while mtu(&client).await < 1500 {
            assert!(sent < TRIES, "{sent} datagrams, and none of the probes");
            waiting.next().await.unwrap().unwrap();
            waiting.push(client.send_datagram(vec![1; 1000]));
            sent += 1;
        }
        drop(waiting);
        network.end((client, server)).await;
    });
}

/// The edit `mtu-black-holes-found`: a peer that acknowledges large packets only when they probe
/// looks like such a path, and would have this side change the size for ever.
#[test]
fn a_path_that_changes_all_the_time_is_searched_ever_more_seldom() {
    /// From the second time on: what this side waits after it.
    const WAITS: Duration = Duration::from_secs(1);
    run(async {
        let network = Network::new(Faults::none(), quick().mtu_search_interval(Duration::from_secs(600)));
        let (client, server) = network.connect().await;
        let mut shrank = Vec::new();
        for _ in 0..3 {
            network.carry_at_most(EVERYTHING);
            transfer_until_full(&client, &server).await;
            network.carry_at_most(TUNNEL);
            transfer_until(&client, &server, |mtu| mtu <= TUNNEL_MTU).await;
            shrank.push(Instant::now());
        }
        assert!(shrank[2] - shrank[1] >= WAITS, "{:?}", shrank[2] - shrank[1]);
        network.end((client, server)).await;
    });
}

/// The edit `last-acknowledgement-kept`: a probe is no acknowledgement, and is not forgotten for the
/// next one.
#[test]
fn a_side_that_mostly_acknowledges_finds_the_size_of_its_packets() {
    run(async {
        let network = Network::good();
        // It takes an acknowledgement right after a probe, which not every connection has.
        for _ in 0..20 {
            let (client, server) = network.connect().await;
            while mtu(&server).await < 1500 {
                transfer(&client, &server, 100_000).await;
            }
        }
        network.endpoints.end().await;
    });
}

/// A size that the path does not carry says nothing about congestion (RFC 9000 §14.4).
#[test]
fn a_search_that_ends_below_the_largest_size_is_not_taken_for_congestion() {
    run(async {
        let network = Network::good();
        network.carry_at_most(TUNNEL);
        let (client, server) = network.connect().await;
        let stats = loop {
            transfer(&client, &server, 1).await;
            let stats = client.stats().await.unwrap();
            if stats.sent.suspected_lost_packets >= 3 {
                break stats;
            }
        };
        assert_eq!(stats.sent.congestion_events, 0, "{stats:?}");
        network.end((client, server)).await;
    });
}

/// Losses that hit packets of every size say nothing about the size.
#[test]
fn a_lossy_path_is_not_taken_for_a_small_one() {
    const BYTES: usize = 20_000;
    run_within(BOUND, async {
        let messages = if soak::is_long() { 300 } else { 10 };
        for congestion_control in [CongestionControl::Cubic, CongestionControl::Bbr] {
            let settings = quick()
                .congestion_control(congestion_control)
                .disconnect_timeout(Duration::from_secs(60))
                .idle_timeout(Duration::from_secs(60));
            let network = Network::new(Faults::none().lose_in_bursts(0.3, 3.0), settings);
            let (client, server) = network.connect().await;
            let begin = Instant::now();
            let mut small = 0;
            for _ in 0..messages {
                transfer(&client, &server, BYTES).await;
                small += usize::from(mtu(&client).await < 1500);
            }
            // A search takes four packets that arrive, and a wrong suspicion is over with one.
            while mtu(&client).await < 1500 {
                transfer(&client, &server, BYTES).await;
            }
            figure(format_args!(
                "{congestion_control:?}: packets were not of the full size after {small} of {messages} messages, in {:.0?}",
                begin.elapsed()
            ));
            network.end((client, server)).await;
        }
    });
}

/// 64 MiB each way, over a path that changes twenty times which packets it carries.
#[test]
fn a_large_transfer_survives_twenty_other_sizes_of_packets() {
    run_within(BOUND, async {
        let faults = Faults::none().change_mtu(2000, 20);
        let network = if soak::is_long() {
            // Slow enough for a search between two changes.
            Network::new(faults.rate(4_000_000, Duration::from_millis(50)), TransportConfig::default())
        } else {
            Network::new(faults, quick())
        };
        let (client, server) = network.connect().await;
        let begin = Instant::now();
        let (there, back) = futures::join!(carry(&client, &server), carry(&server, &client));
        figure(format_args!(
            "64 MiB each way in {:.1?}, the longest pauses {there:.0?} to the server and {back:.0?} to the client",
            begin.elapsed()
        ));
        assert_eq!(network.relay.done().other_mtus.get(), 20);
        network.end((client, server)).await;
    });
}

/// Sends 64 MiB and compares the digests of what was sent and read. Returns the longest time
/// between two pieces that arrived.
async fn carry(from: &Connection, to: &Connection) -> Duration {
    let sending = send_pieces(from.open_uni().unwrap(), 64 << 20);
    let receiving = async { read_pieces(to.accept_uni().await.unwrap(), |_| ()).await };
    let (sent, (received, pause)) = futures::join!(sending, receiving);
    assert_eq!(sent.as_ref(), received.as_ref());
    pause
}

/// A client's packet comes late and from another port, and then none comes any more: the server has
/// path challenges to send, and datagrams that wait.
#[test]
fn a_client_that_moves_and_is_silent_then_makes_no_work() {
    if alone::parent("a_client_that_moves_and_is_silent_then_makes_no_work", |_| {}).is_some() {
        return;
    }
    run(async {
        let impatient = TransportConfig::default().disconnect_timeout(Duration::from_secs(4));
        let endpoints = Endpoints::with(TransportConfig::default(), impatient);
        let forwarder = Forwarder::start(endpoints.address, |_| None);
        let (_client, server) = endpoints.connect_through(forwarder.address()).await;
        for _ in 0..20 {
            assert_eq!(server.send_datagram("before").await.unwrap(), DatagramFate::Acknowledged);
        }
        forwarder.fall_silent();
        let (mut sent, mut operations) = (0, None);
        while server.close_reason().is_none() {
            drop(server.send_datagram(vec![1; 100]));
            sent += 1;
            if forwarder.is_silent() && operations.is_none() {
                operations = Some(counters().unwrap().operations_completed);
            }
            // The pace of a game.
            thread::sleep(Duration::from_millis(5));
        }
        let operations = counters().unwrap().operations_completed - operations.expect("the client is silent");
        figure(format_args!("{operations} operations for {sent} datagrams that nobody got"));
        // A few each; millions where a worker goes round and round.
        assert!(operations < 20 * sent, "{operations} operations for {sent} datagrams");
    });
}
