//! Transfers over bad networks: what arrives is what was sent, or there is an error that says so.
//! Never a stream that ends early and looks complete.
//!
//! Each carries 64 MiB and 1,000 small streams where that takes a few seconds, and less where it
//! takes longer; `SENDSTREAM_SOAK=1` carries all of it over every one.

mod support;

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future, stream};
use ring::digest::{Context, Digest, SHA256};
use sendstream::{
    CongestionControl, Connection, ConnectionError, ReadError, RecvStream, SendStream, TransportConfig, WriteError,
};
use support::{
    Endpoints, figure, pattern,
    peer::{self, Peer, Role},
    relay::{Direction, Faults, Relay},
    run_within, skip, soak,
};

/// A stream of this many bytes, beside as many small ones.
#[derive(Debug, Clone, Copy)]
struct Load {
    bytes: usize,
    streams: usize,
}

const FULL: Load = Load { bytes: 64 << 20, streams: 1000 };
/// About a second.
const LOSSY: Load = Load { bytes: 8 << 20, ..FULL };
const CHUNK: usize = 64 << 10;
/// Far more than any of these transfers takes, also on a machine with other things to do.
const BOUND: Duration = Duration::from_secs(7200);

// Skipped on the Debug core by this name.
mod transfers {
    use super::*;

    // Each probe that is lost doubles the pause before the next one (RFC 9002 §6.2.1), and whole
    // flights of a small window are lost at once: with some dice most of the time passes in pauses,
    // and with a few the connection is given up.

    #[test]
    fn bursts_that_lose_thirty_percent() {
        // CUBIC takes every loss for a full queue, so that a few packets go out at a time: some 30
        // KiB/s.
        in_bursts(CongestionControl::Cubic, Load { bytes: 128 << 10, streams: 100 });
    }

    #[test]
    fn bursts_that_lose_thirty_percent_with_bbr() {
        // Mostly this takes a second or less. Where BBR loses its estimate, it goes on with four
        // packets at a time.
        in_bursts(CongestionControl::Bbr, Load { bytes: 8 << 20, ..FULL });
    }

    /// All of the load in the long form, which may take longer than anybody waits: who sends gives
    /// up then.
    fn in_bursts(congestion_control: CongestionControl, short: Load) {
        const PATIENCE: Duration = Duration::from_secs(180);
        const SILENCE: Duration = Duration::from_secs(60);
        let settings = patient()
            .congestion_control(congestion_control)
            .disconnect_timeout(SILENCE)
            // The word of who gives up may be lost as well.
            .idle_timeout(SILENCE);
        let load = if soak::is_long() { FULL } else { short };
        let faults = Faults::none().lose_in_bursts(0.3, 3.0);
        arrives_or_is_an_error(faults, settings, load, PATIENCE);
    }

    #[test]
    fn two_percent_lost_at_random() {
        arrives(Faults::none().lose(0.02), CongestionControl::Cubic, LOSSY);
    }

    #[test]
    fn every_fiftieth_packet_lost_to_the_server_only() {
        arrives(Faults::none().lose_every(50).only(Direction::ToServer), CongestionControl::Cubic, LOSSY);
    }

    #[test]
    fn two_percent_damaged() {
        arrives(Faults::none().corrupt(0.02), CongestionControl::Cubic, LOSSY);
    }

    #[test]
    fn two_percent_cut_short() {
        arrives(Faults::none().truncate(0.02), CongestionControl::Cubic, LOSSY);
    }

    #[test]
    fn five_percent_doubled() {
        arrives(Faults::none().duplicate(0.05), CongestionControl::Cubic, FULL);
    }

    #[test]
    fn five_percent_out_of_order() {
        let faults = Faults::none().reorder(0.05, Duration::from_millis(3)).jitter(Duration::from_millis(1));
        arrives(faults, CongestionControl::Cubic, Load { bytes: 4 << 20, ..FULL });
    }

    #[test]
    fn two_seconds_in_which_nothing_passes() {
        arrives(Faults::none().blackhole(500, Duration::from_secs(2)), CongestionControl::Cubic, FULL);
    }

    #[test]
    fn three_quarters_of_a_second_each_way() {
        arrives(
            Faults::none().delay(Duration::from_millis(750)),
            CongestionControl::Cubic,
            Load { bytes: 512 << 10, streams: 200 },
        );
    }

    #[test]
    fn four_megabytes_a_second_and_a_short_queue() {
        let faults = Faults::none().rate(4_000_000, Duration::from_millis(50)).delay(Duration::from_millis(5));
        arrives(faults, CongestionControl::Cubic, Load { bytes: 8 << 20, ..FULL });
    }

    #[test]
    fn eleven_other_ports() {
        let faults = Faults::none().rebind(500, 11).rate(8_000_000, Duration::from_millis(50));
        arrives(faults, CongestionControl::Cubic, Load { bytes: 8 << 20, ..FULL });
    }

    #[test]
    fn twenty_other_sizes_of_packets() {
        arrives(Faults::none().change_mtu(2000, 20), CongestionControl::Cubic, FULL);
    }

    #[test]
    fn twenty_other_sizes_of_packets_and_two_percent_lost() {
        let faults = Faults::none().change_mtu(300, 20).lose(0.02);
        arrives(faults, CongestionControl::Bbr, LOSSY);
    }

    #[test]
    fn another_port_every_twenty_milliseconds_arrives_or_is_an_error() {
        let settings = patient().disconnect_timeout(Duration::from_secs(5)).idle_timeout(Duration::from_secs(10));
        // MsQuic has places for four paths, and connection ids for as many; at times it runs out of
        // them and gives up.
        arrives_or_is_an_error(Faults::none().rebind(1000, 30), settings, FULL, BOUND);
    }
}

/// The edit `tolerance-within-the-window`: each of some hundred windows waited for the peer's
/// acknowledgement delay.
#[test]
fn a_window_that_losses_have_shrunk_does_not_wait_for_the_acknowledgement_delay() {
    run_within(Duration::from_secs(180), async {
        let settings = patient().max_ack_delay(Duration::from_secs(5));
        let endpoints = Endpoints::with(settings.clone(), settings);
        // The first loss comes late enough for the sender to have asked for few acknowledgements,
        // of a large window.
        let relay = Relay::start(endpoints.address, Faults::none().lose_every(400).only(Direction::ToServer));
        let (client, server) = endpoints.connect_through(relay.address()).await;
        let load = Load { bytes: 8 << 20, streams: 0 };
        let begin = Instant::now();
        let (sent, received) = futures::join!(send_all(&client, load), receive_all(&server, load));
        sent.unwrap();
        received.unwrap();
        figure(format_args!("{} KiB in {:.2?}", load.bytes >> 10, begin.elapsed()));
        drop((client, server));
        endpoints.end().await;
    });
}

#[test]
fn a_network_that_never_comes_back_is_an_error_on_both_sides() {
    run_within(BOUND, async {
        let settings = patient().disconnect_timeout(Duration::from_secs(1)).idle_timeout(Duration::from_secs(2));
        let endpoints = Endpoints::with(settings.clone(), settings);
        let relay = Relay::start(endpoints.address, Faults::none());
        let (client, server) = endpoints.connect_through(relay.address()).await;
        let mut send = client.open_uni().unwrap();
        let template = pattern(CHUNK);
        let sending = async {
            for number in 0.. {
                send.write_chunk(chunk(&template, number)).await?;
            }
            Ok(())
        };
        let receiving = async {
            let mut recv = server.accept_uni().await.unwrap();
            let mut read = 0;
            loop {
                match recv.read_chunk().await {
                    Ok(Some(chunk)) => read += chunk.len(),
                    Ok(None) => panic!("a stream that was broken off looked complete after {read} bytes"),
                    Err(error) => break error,
                }
                if read > 4 << 20 {
                    relay.cut();
                }
            }
        };
        let (sent, received) = futures::join!(sending, receiving);
        let sent: WriteError = Result::<(), _>::unwrap_err(sent);
        assert!(matches!(sent, WriteError::ConnectionLost(ConnectionError::TimedOut(_))), "{sent}");
        assert!(matches!(received, ReadError::ConnectionLost(ConnectionError::TimedOut(_))), "{received}");
        figure(format_args!("sending: {sent}; receiving: {received}"));
        drop((send, client, server));
        endpoints.end().await;
    });
}

#[test]
fn peer_process() {
    peer::main();
}

#[test]
fn a_peer_that_stands_still_for_two_seconds_in_the_middle_gets_everything() {
    run_within(BOUND, async {
        let peer = Peer::start("peer_process", Role::Read);
        let (client, connection) = peer.connect(patient()).await;
        let mut send = connection.open_uni().unwrap();
        write(&mut send, 32 << 20).await.unwrap();
        peer.pause();
        let pause = thread::spawn(move || {
            thread::sleep(Duration::from_secs(2));
            peer.resume();
            peer
        });
        write(&mut send, 32 << 20).await.unwrap();
        send.finished().await.unwrap();
        figure("64 MiB arrived, with a stop of two seconds in the middle");
        let peer = pause.join().unwrap();
        drop((send, connection, peer));
        client.wait_idle().await;
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs network namespaces")]
fn an_interface_that_goes_down_for_a_while_costs_time_and_for_good_is_an_error() {
    let Some(link) = Link::new() else { return };
    run_within(BOUND, async move {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &link.0]).arg(std::env::current_exe().unwrap());
        let peer = Peer::start_at("peer_process", Role::Read, command, Link::far());
        let settings = patient().disconnect_timeout(Duration::from_secs(8));
        let (client, connection) = peer.connect(settings).await;
        let mut send = connection.open_uni().unwrap();
        write(&mut send, 8 << 20).await.unwrap();
        link.set("down");
        let pause = thread::spawn(move || {
            thread::sleep(Duration::from_secs(1));
            link.set("up");
            link
        });
        write(&mut send, 8 << 20).await.unwrap();
        send.acked().await.unwrap();
        let link = pause.join().unwrap();
        link.set("down");
        let lost = loop {
            if let Err(lost) = write(&mut send, 1 << 20).await {
                break lost;
            }
        };
        figure(format_args!("16 MiB arrived with a second's loss in between; then, with the interface down: {lost}"));
        assert!(
            matches!(lost, WriteError::ConnectionLost(ConnectionError::TimedOut(_) | ConnectionError::Unreachable)),
            "{lost}"
        );
        assert_eq!(send.finished().await, Err(lost));
        drop((send, connection));
        client.wait_idle().await;
    });
}

/// A network namespace of this name, and a link to it. Dropping it takes both away.
struct Link(String);

impl Link {
    /// `None`, with a word on standard error, where that is not allowed.
    fn new() -> Option<Self> {
        let link = Self(format!("ss{}", std::process::id()));
        let name = &link.0;
        let near = format!("{name}a");
        let far = format!("{name}b");
        let made = ip(&["netns", "add", name])
            && ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name])
            && ip(&["address", "add", &Self::address(1), "dev", &near])
            && ip(&["link", "set", &near, "up"])
            && ip(&["-n", name, "address", "add", &Self::address(2), "dev", &far])
            && ip(&["-n", name, "link", "set", &far, "up"]);
        if !made {
            skip("only root, with `ip`, can make a network namespace");
            return None;
        }
        Some(link)
    }

    /// The address of an end, 1 here and 2 there, with its prefix's length. Each process has a
    /// network of its own.
    fn address(end: u32) -> String {
        let network = std::process::id();
        format!("10.213.{}.{}/30", network >> 6 & 255, (network & 63) * 4 + end)
    }

    /// Where to listen at the other end.
    fn far() -> SocketAddr {
        Self::address(2).replace("/30", ":0").parse().unwrap()
    }

    /// Brings this end of the link up or down.
    fn set(&self, state: &str) {
        assert!(ip(&["link", "set", &format!("{}a", self.0), state]));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        ip(&["link", "delete", &format!("{}a", self.0)]);
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Writes so many bytes, accepted in order.
async fn write(send: &mut SendStream, bytes: usize) -> Result<(), WriteError> {
    let template = pattern(CHUNK);
    for number in 0..bytes / CHUNK {
        send.write_chunk(chunk(&template, number)).await?;
    }
    Ok(())
}

/// Carries the load, or in the long form all of it, over such a network.
fn arrives(faults: Faults, congestion_control: CongestionControl, short: Load) {
    run_within(BOUND, async move {
        let load = if soak::is_long() { FULL } else { short };
        let settings = patient().congestion_control(congestion_control);
        let (sent, received) = carry(faults, settings, load, BOUND).await;
        sent.unwrap();
        received.unwrap();
    });
}

/// Carries the load over a network that may be too bad for it. After `patience` its sender closes
/// the connection.
fn arrives_or_is_an_error(faults: Faults, settings: TransportConfig, load: Load, patience: Duration) {
    run_within(BOUND, async move {
        match carry(faults, settings, load, patience).await {
            (Ok(()), Ok(())) => {}
            // The server had read everything when only the last acknowledgements were lost.
            (Err(sent), received) => figure(format_args!("sending: {sent}; receiving: {received:?}")),
            (Ok(()), Err(received)) => panic!("finished without having arrived: {received}"),
        }
    });
}

/// How it went for both sides. Panics if something that looks complete is not.
async fn carry(
    faults: Faults,
    settings: TransportConfig,
    load: Load,
    patience: Duration,
) -> (Result<(), WriteError>, Result<(), ReadError>) {
    let endpoints = Endpoints::with(settings.clone(), settings);
    let relay = Relay::start(endpoints.address, faults);
    let begin = Instant::now();
    let (client, server) = endpoints.connect_through(relay.address()).await;
    let connected = begin.elapsed();
    let patience = Alarm::close_after(patience, &client);
    let outcome = futures::join!(send_all(&client, load), receive_all(&server, load));
    drop(patience);
    let all = begin.elapsed();
    let what = match &outcome {
        (Ok(()), Ok(())) => "arrived",
        _ => "were tried",
    };
    figure(format_args!(
        "{} KiB and {} streams {what} in {all:.2?}, {connected:.2?} of them for the handshake",
        load.bytes >> 10,
        load.streams,
    ));
    drop((client, server));
    endpoints.end().await;
    outcome
}

/// Closes a connection after a while, unless it is dropped before.
struct Alarm {
    /// Dropping it wakes the thread.
    disarm: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Alarm {
    const CODE: u64 = 30;

    fn close_after(patience: Duration, connection: &Connection) -> Self {
        let (disarm, disarmed) = mpsc::channel();
        let connection = connection.clone();
        let thread = thread::spawn(move || {
            if disarmed.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = connection.close(Self::CODE, "");
            }
        });
        Self { disarm: Some(disarm), thread: Some(thread) }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        drop(self.disarm.take());
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Settings with which nobody gives up on a bad network.
fn patient() -> TransportConfig {
    TransportConfig::default()
        .handshake_timeout(Duration::from_secs(300))
        .idle_timeout(Duration::from_secs(600))
        .disconnect_timeout(Duration::from_secs(600))
        // What is lost of the handshake is sent again after three times that, then twice as long,
        // and so on.
        .initial_rtt(Duration::from_millis(20))
}

/// Sends stream 0, of `load.bytes`, and the small ones beside it. `Ok` once each is acknowledged
/// with its FIN.
async fn send_all(connection: &Connection, load: Load) -> Result<(), WriteError> {
    let large = async {
        let mut send = connection.open_uni().unwrap();
        drop(send.send(0u64.to_be_bytes().to_vec()));
        let template = pattern(CHUNK);
        for number in 0..load.bytes / CHUNK {
            send.write_chunk(chunk(&template, number)).await?;
        }
        send.finished().await
    };
    let small = stream::iter(1..=load.streams).map(|number| send_small(connection.clone(), number));
    let small = small.buffer_unordered(100).try_collect::<Vec<()>>();
    futures::try_join!(large, small).map(|_| ())
}

async fn send_small(connection: Connection, number: usize) -> Result<(), WriteError> {
    let mut send = connection.open_uni().unwrap();
    drop(send.finish_with(vec![Bytes::from((number as u64).to_be_bytes().to_vec()), message(number)]));
    send.finished().await
}

/// Receives every stream of the load and compares what each carried.
async fn receive_all(connection: &Connection, load: Load) -> Result<(), ReadError> {
    let accepting = stream::unfold(connection.clone(), |connection| async {
        Some((connection.accept_uni().await.map_err(ReadError::ConnectionLost), connection))
    });
    let receiving = accepting.take(load.streams + 1).map_ok(receive).try_buffer_unordered(load.streams + 1);
    let check = |received| {
        check(received, load);
        future::ready(Ok(()))
    };
    receiving.try_for_each(check).await
}

/// What a stream carried: its number, how many bytes after it, and their digest.
async fn receive(mut recv: RecvStream) -> Result<(u64, usize, Digest), ReadError> {
    let mut number = [0; 8];
    recv.read_exact(&mut number).await.unwrap();
    let mut length = 0;
    let mut digest = Context::new(&SHA256);
    while let Some(chunk) = recv.read_chunk().await? {
        length += chunk.len();
        digest.update(&chunk);
    }
    Ok((u64::from_be_bytes(number), length, digest.finish()))
}

fn check((number, length, digest): (u64, usize, Digest), load: Load) {
    let mut expected = Context::new(&SHA256);
    let mut expected_length = 0;
    let mut update = |bytes: &[u8]| {
        expected_length += bytes.len();
        expected.update(bytes);
    };
    if number == 0 {
        let template = pattern(CHUNK);
        (0..load.bytes / CHUNK).for_each(|number| update(&chunk(&template, number)));
    } else {
        update(&message(number as usize));
    }
    assert_eq!(length, expected_length, "stream {number} ended as if it were complete");
    assert_eq!(digest.as_ref(), expected.finish().as_ref(), "stream {number}");
}

/// Chunk `number` of stream 0.
fn chunk(template: &[u8], number: usize) -> Bytes {
    let mut chunk = template.to_vec();
    chunk[..8].copy_from_slice(&number.to_be_bytes());
    Bytes::from(chunk)
}

/// What small stream `number` carries: none to 4,000 bytes.
fn message(number: usize) -> Bytes {
    let mut message = pattern(number * 37 % 4000);
    message.iter_mut().for_each(|byte| *byte ^= number as u8);
    Bytes::from(message)
}
