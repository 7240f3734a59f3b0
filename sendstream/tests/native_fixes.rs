//! What the edits to MsQuic's sources are for, from outside: each of these ends badly without the
//! edits it is about.
//!
//! The headers in `sendstream-sys/patches` say what each edit prevents.

mod support;

use std::{
    net::UdpSocket,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use sendstream::{ConnectError, ConnectionError, Identity, Timeout, TransportConfig, Trust};
#[cfg(target_os = "linux")]
use support::processors::move_thread;
use support::{
    Endpoints, LONG_DELAY, PATIENCE, Pair, TIMEOUT, alone, any_port, exchange, figure,
    forwarder::Forwarder,
    relay::{Faults, Relay},
    run, run_within,
};

/// The edits `removed-path` and `one-worker-change-at-a-time`: whoever forwards a client's packets
/// may give each another port to come from.
#[test]
fn a_client_whose_packets_come_from_many_ports_does_no_harm() {
    run(async {
        let endpoints = Endpoints::new();
        let forwarder = Forwarder::start(endpoints.address, |_| None);
        let (client, server) = endpoints.connect_through(forwarder.address()).await;
        // The server follows a client to another port once the handshake is confirmed, which what
        // follows is the effect of.
        client.open_uni().unwrap().finish_with("hello").await.unwrap();

        forwarder.scatter();
        let sent = support::pattern(512 << 10);
        let transfer = async {
            let mut stream = client.open_uni().unwrap();
            stream.write_all(&sent).await.unwrap();
            stream.finished().await.unwrap();
        };
        let reception = async {
            assert_eq!(server.accept_uni().await.unwrap().read_to_end(100).await.unwrap(), b"hello");
            server.accept_uni().await.unwrap().read_to_end(sent.len()).await.unwrap()
        };
        let ((), received) = futures::join!(transfer, reception);
        assert!(received == sent);
        drop((client, server));
        endpoints.end().await;
    });
}

/// The edit `paced-in-bursts`. In a process of its own, as the calls of all connections count.
#[test]
fn what_is_paced_goes_out_in_bursts() {
    if alone::parent("what_is_paced_goes_out_in_bursts", |_| {}).is_some() {
        return;
    }
    run(async {
        let endpoints = Endpoints::new();
        // The smaller the window is for the round trip, the less may go out in a millisecond.
        let relay = Relay::start(endpoints.address, Faults::none().delay(Duration::from_millis(100)));
        let (client, server) = endpoints.connect_through(relay.address()).await;
        let calls = || sendstream::process::counters().unwrap().udp_send_calls;
        let begin = calls();
        exchange(&client, &server, 200_000).await;
        let calls = calls() - begin;
        let packets = client.stats().await.unwrap().sent.packets + server.stats().await.unwrap().sent.packets;
        figure(format_args!("{packets} packets in {calls} calls"));
        // Those with acknowledgements alone are calls too.
        assert!(packets >= 2 * calls, "{packets} packets in {calls} calls");
        drop((client, server));
        endpoints.end().await;
    });
}

/// The edits `version-negotiation-*`.
#[test]
fn a_version_negotiation_for_another_connection_id_does_not_end_a_handshake() {
    run(async {
        let endpoints = Endpoints::new();
        // It reaches the client before the server has seen what it pretends to answer.
        let forge = |packet: &[u8]| is_long(packet).then(|| version_negotiation(source_id(packet), b"not-yours"));
        let forwarder = Forwarder::start(endpoints.address, forge);
        let (client, server) = endpoints.connect_through(forwarder.address()).await;
        drop((client, server));
        endpoints.end().await;
    });
}

#[test]
fn a_true_version_negotiation_without_a_common_version_ends_the_handshake() {
    run(async {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(support::HANG)).unwrap();
        let address = server.local_addr().unwrap();
        let answering = thread::spawn(move || {
            let mut packet = [0; 2048];
            let (length, from) = server.recv_from(&mut packet).unwrap();
            let initial = &packet[..length];
            // The forged one first: it does not use up the one that a handshake may have.
            for id in [&b"not-yours"[..], destination_id(initial)] {
                server.send_to(&version_negotiation(source_id(initial), id), from).unwrap();
            }
        });
        let client = support::client_with(Trust::dangerous_accept_any_certificate()).build().unwrap();
        let error = client.connect(address, "localhost").await.unwrap_err();
        assert!(matches!(error, ConnectError::Connection(ConnectionError::VersionMismatch)), "{error:?}");
        answering.join().unwrap();
        client.wait_idle().await;
    });
}

/// The edit `tls-on-aws-lc`.
#[test]
fn a_certificate_of_any_size_ends_in_a_connection_or_an_error() {
    run(async {
        for kibibytes in [1, 12, 24, 40, 56, 72] {
            let names = (0..kibibytes * 8).map(|n| format!("{n:0>60}.{n:0>60}.example"));
            let identity = Identity::self_signed(names.chain(["localhost".to_owned()])).unwrap();
            let server = support::server(&identity).bind(any_port()).unwrap();
            let client = support::client(&identity).build().unwrap();
            let accepting = async { server.accept().await.expect("the server runs").accept().await };
            // Both are kept until both have ended: a connection that is dropped is closed, which
            // the other side would tell.
            let (connected, accepted) =
                futures::join!(client.connect(server.local_addr().unwrap(), "localhost"), accepting);
            let outcome = (connected.as_ref().err(), accepted.as_ref().err());
            figure(format_args!("{kibibytes} KiB: {outcome:?}"));
            assert_eq!(connected.is_ok(), kibibytes < 32, "{kibibytes} KiB: {outcome:?}");
            assert_eq!(accepted.is_ok(), connected.is_ok(), "{kibibytes} KiB: {outcome:?}");
            drop((connected, accepted));
            server.shutdown().await;
            client.wait_idle().await;
        }
    });
}

/// The edit `blocked-answered-with-news-only`.
#[test]
fn a_stream_that_waits_for_its_reader_does_not_fill_the_network() {
    run(async {
        let pair = Pair::new().await;
        let mut send = pair.client.open_uni().unwrap();
        drop(send.finish_with(vec![0; 3 << 20]));
        let mut recv = pair.server.accept_uni().await.unwrap();
        // The window is full, and the sender says that it waits.
        while pair.client.stats().await.unwrap().sent.stream_bytes < 1 << 20 {}
        let before = pair.client.stats().await.unwrap().sent.packets;
        thread::sleep(Duration::from_secs(1));
        let said = pair.client.stats().await.unwrap().sent.packets - before;
        figure(format_args!("{said} packets in a second in which nothing is read"));
        // It was 10,000 and more, on a busy machine. One for each acknowledgement, which comes
        // after its delay, is 40.
        assert!(said < 1000, "{said}");
        assert_eq!(recv.read_to_end(3 << 20).await.unwrap().len(), 3 << 20);
        send.finished().await.unwrap();
        drop((send, recv));
        pair.end().await;
    });
}

/// The edit `confirmed-handshake-frees-its-address`.
#[test]
fn a_client_at_an_address_that_another_had_is_answered() {
    run(async {
        // Clients without connection ids, and the forwarder knows them by their ports.
        let endpoints = Endpoints::with_a_socket_per_connection();
        let forwarder = Forwarder::start(endpoints.address, |_| None);
        let mut pairs = Vec::new();
        // The server has all the earlier connections from the same address still.
        for _ in 0..CLIENTS {
            let (client, server) = endpoints.connect_through(forwarder.address()).await;
            // Acknowledged along with HANDSHAKE_DONE, which went before it.
            server.open_uni().unwrap().finish_with("hello").await.unwrap();
            pairs.push((client, server));
            forwarder.change_clients();
        }
        println!("{CLIENTS} clients from one address");
        drop(pairs);
        endpoints.end().await;
    });
}

/// The edit `waiting-clients-back-off`.
#[test]
fn a_client_that_waits_to_be_accepted_probes_ever_less_often() {
    run(async {
        let impatient = TransportConfig::default().handshake_timeout(Duration::from_secs(3));
        let endpoints = Endpoints::with(TransportConfig::default(), impatient);
        let relay = Relay::start(endpoints.address, Faults::none());
        // Nobody accepts it, until its time is over.
        endpoints.client.connect(relay.address(), "localhost").await.unwrap_err();
        let packets = relay.done().received.get();
        figure(format_args!("{packets} packets while nobody accepted"));
        // Each takes twice as long as the one before, and has an answer.
        assert!(packets < 60, "{packets}");
        endpoints.end().await;
    });
}

/// The edit `tolerance-within-what-is-under-way`.
#[test]
fn a_large_send_is_acknowledged_without_the_acknowledgement_delay() {
    const SENDS: usize = 60;
    // Without the edit a third of them waits for the delay, some five minutes together. With it the
    // network may still lose what ends a send, which takes as long to find out.
    run_within(Duration::from_secs(180), async {
        let settings = TransportConfig::default().max_ack_delay(LONG_DELAY).disconnect_timeout(PATIENCE);
        let pair = Pair::with(settings.clone(), settings).await;
        let sending = async {
            let mut stream = pair.client.open_uni().unwrap();
            for number in 0..SENDS {
                // Another number of packets each time.
                stream.send(vec![0; 2_000_000 + 1000 * number]).await.unwrap();
            }
            stream.finish().unwrap();
        };
        let receiving = async {
            let mut stream = pair.server.accept_uni().await.unwrap();
            while stream.read_chunk().await.unwrap().is_some() {}
        };
        futures::join!(sending, receiving);
        pair.end().await;
    });
}

/// The edit `local-packets-by-flow`.
#[cfg(target_os = "linux")]
#[test]
fn packets_do_not_overtake_each_other_when_their_sender_changes_processors() {
    run(async {
        const LENGTH: usize = 256 << 20;
        let pair = Pair::new().await;
        let wandering = Wandering::start();
        let mut send = pair.client.open_uni().unwrap();
        let sending = async {
            send.write_all(&vec![0; LENGTH]).await.unwrap();
            send.finished().await.unwrap();
        };
        let receiving = async {
            let mut recv = pair.server.accept_uni().await.unwrap();
            while recv.read_chunk().await.unwrap().is_some() {}
        };
        futures::join!(sending, receiving);
        drop(wandering);
        let received = pair.server.stats().await.unwrap().received;
        figure(format_args!("{} of {} packets were overtaken", received.reordered_packets, received.packets));
        // Without the edit it was one of 30 to 50 on two processors.
        assert!(received.reordered_packets * 1000 < received.packets, "{received:?}");
        drop(send);
        pair.end().await;
    });
}

/// The edit `timers-in-a-heap`.
#[test]
fn of_many_connections_each_times_out_in_its_own_time() {
    run(async {
        let mut endpoints = Endpoints::new();
        let mut lives = Vec::new();
        for number in 0..CONNECTIONS {
            // Each number once, in no order.
            let timeout = TIMEOUT + Duration::from_millis(50) * (number * 37 % CONNECTIONS);
            let transport = TransportConfig::default().idle_timeout(timeout);
            let trust = Trust::dangerous_accept_any_certificate();
            endpoints.client = support::client_with(trust).transport(transport).build().unwrap();
            let begin = Instant::now();
            let (connection, accepted) = endpoints.connect().await;
            lives.push(async move {
                assert_eq!(connection.closed().await, ConnectionError::TimedOut(Timeout::Idle));
                assert!(begin.elapsed() >= timeout, "{:?} of {timeout:?}", begin.elapsed());
                accepted.closed().await;
            });
        }
        futures::future::join_all(lives).await;
        endpoints.end().await;
    });
}

/// Has every thread that there is, MsQuic's workers among them, run on one processor after the
/// other.
#[cfg(target_os = "linux")]
struct Wandering {
    end: mpsc::Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

#[cfg(target_os = "linux")]
impl Wandering {
    fn start() -> Self {
        let (end, ended) = mpsc::channel();
        let threads: Vec<libc::pid_t> = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        let wander = move || {
            let processors = thread::available_parallelism().unwrap().get();
            let mut turn = 0;
            while ended.recv_timeout(Duration::from_millis(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
                turn += 1;
                for (i, thread) in threads.iter().enumerate() {
                    move_thread(*thread, [(turn + i) % processors]);
                }
            }
            for thread in threads {
                move_thread(thread, 0..processors);
            }
        };
        Self { end, thread: Some(thread::spawn(wander)) }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Wandering {
    fn drop(&mut self) {
        let _ = self.end.send(());
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Whether `packet` has a long header (RFC 8999 section 5.1).
fn is_long(packet: &[u8]) -> bool {
    packet[0] & 0x80 != 0
}

/// The destination connection id of a long header.
fn destination_id(packet: &[u8]) -> &[u8] {
    let length = usize::from(packet[5]);
    &packet[6..6 + length]
}

/// The source connection id of a long header.
fn source_id(packet: &[u8]) -> &[u8] {
    let rest = &packet[6 + destination_id(packet).len()..];
    &rest[1..1 + usize::from(rest[0])]
}

/// A Version Negotiation packet (RFC 8999 section 6) that offers a version nobody has.
fn version_negotiation(destination: &[u8], source: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xc0, 0, 0, 0, 0];
    for id in [destination, source] {
        packet.push(u8::try_from(id.len()).unwrap());
        packet.extend_from_slice(id);
    }
    packet.extend_from_slice(&0x1a2a_3a4a_u32.to_be_bytes());
    packet
}

/// How many connections wait for their timeouts at once.
const CONNECTIONS: u32 = 60;

/// How many clients have one address after the other.
const CLIENTS: usize = 8;
