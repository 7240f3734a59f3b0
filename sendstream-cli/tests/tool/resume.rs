//! Ends that are killed, stopped or cut off in the middle, and what the next run, or the same one,
//! makes of it.
//!
//! The points at which they are killed are thrown, and each test prints its seed: `SENDSTREAM_SEED`
//! repeats it. `SENDSTREAM_SOAK` makes it 50 times 1 GiB.

use std::{fs, net::UdpSocket, path::Path, thread, time::Duration};

use crate::support::{
    Files, Process, Receiver, digest, figure, is_soak, noise, readdress, send_well, sendstream, until,
};

/// How often, how much, and for how many milliseconds at most the link is cut.
fn measure() -> (u64, usize, u64) {
    if is_soak() { (50, 1 << 30, 20_000) } else { (5, 32 << 20, 2000) }
}

/// What may be under way and is lost with a connection: as much as the receiver's window has room for.
const UNDER_WAY: u64 = 16 << 20;

fn seed() -> u64 {
    std::env::var("SENDSTREAM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..))
}

/// How much of a file is in the inbox.
fn there(receiver: &Receiver) -> u64 {
    there_in(&receiver.inbox())
}

/// How much of a file is in a directory that files are received into, which may not be there yet.
pub(crate) fn there_in(inbox: &Path) -> u64 {
    let parts = fs::read_dir(inbox).into_iter().flatten().flatten();
    let parts = parts.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
    parts.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).max().unwrap_or(0)
}

fn start(files: &Files, ticket: &str) -> Process {
    let mut command = sendstream();
    let rate = if is_soak() { "400M" } else { "64M" };
    command.args(["send", "--json", "--limit", rate]).arg(files.path("file")).arg(ticket);
    Process::start(command)
}

#[test]
fn a_transfer_whose_sender_receiver_or_link_is_killed_goes_on_where_it_was() {
    let (times, len, outage) = measure();
    let seed = seed();
    println!("SENDSTREAM_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let files = Files::new();
    let content = noise(seed, len);
    files.file("file", &content);
    let digest = digest(&content);
    let mut again = 0;
    for time in 0..times {
        let mut receiver = Receiver::start(&[]);
        let link = Link::new(receiver.address());
        let mut sender = start(&files, &readdress(&receiver.ticket, link.address));
        let point = dice.u64(1 << 20..len as u64 - (4 << 20));
        until("so much is there", || there(&receiver) >= point);
        let (mut next, most) = match dice.u8(..3) {
            0 => {
                sender.signal("KILL");
                sender.wait();
                let before = there(&receiver);
                (start(&files, &receiver.ticket), len as u64 - before)
            }
            1 => {
                receiver.signal("KILL");
                receiver.wait();
                let before = there(&receiver);
                drop(sender);
                receiver = receiver.restart(&[]);
                (start(&files, &receiver.ticket), len as u64 - before)
            }
            _ => {
                link.set_up(false);
                thread::sleep(Duration::from_millis(dice.u64(..outage)));
                link.set_up(true);
                (sender, len as u64 + UNDER_WAY)
            }
        };
        let summary = next.object();
        assert_eq!(next.wait().code(), Some(0), "{time}: {summary}");
        assert_eq!((&summary["ok"], &summary["digest"]), (&true.into(), &digest.as_str().into()));
        let sent = summary["content_sent"].as_u64().unwrap();
        assert!(sent <= most, "{time}: {sent} bytes of {len} were sent where {most} were not there");
        again += sent.min(len as u64);
        assert!(fs::read(receiver.path("file")).unwrap() == content);
        assert_eq!(there(&receiver), 0, "no part is left");
    }
    figure(format_args!(
        "{times} transfers of {} MiB killed: {} MiB sent by the runs that ended",
        len >> 20,
        again >> 20
    ));
}

/// Passes packets on between one client at a time and its server, unless it is told not to.
pub(crate) struct Link {
    pub(crate) address: std::net::SocketAddr,
    up: std::sync::Arc<std::sync::atomic::AtomicBool>,
    /// Other packets go out from another port from now on.
    moved: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Link {
    pub(crate) fn new(receiver: std::net::SocketAddr) -> Self {
        use std::sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        };
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let (up, moved) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let link = Self { address: front.local_addr().unwrap(), up: Arc::clone(&up), moved: Arc::clone(&moved) };
        thread::spawn(move || {
            let mut backs: std::collections::HashMap<_, Arc<UdpSocket>> = std::collections::HashMap::new();
            let mut packet = [0; 65536];
            while let Ok((len, from)) = front.recv_from(&mut packet) {
                if !up.load(Ordering::Relaxed) {
                    continue;
                }
                let back = backs.entry((from, moved.load(Ordering::Relaxed))).or_insert_with(|| {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
                    back.connect(receiver).unwrap();
                    let (back_here, front, up) = (Arc::clone(&back), Arc::clone(&front), Arc::clone(&up));
                    thread::spawn(move || {
                        let mut packet = [0; 65536];
                        while let Ok(len) = back_here.recv(&mut packet) {
                            if up.load(Ordering::Relaxed) {
                                let _ = front.send_to(&packet[..len], from);
                            }
                        }
                    });
                    back
                });
                let _ = back.send(&packet[..len]);
            }
        });
        link
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn an_outage_does_not_end_a_transfer_and_nothing_is_sent_twice_that_was_there() {
    let files = Files::new();
    let content = noise(1, 32 << 20);
    files.file("file", &content);
    let receiver = Receiver::start(&["--once"]);
    let link = Link::new(receiver.address());
    let mut sender = start(&files, &readdress(&receiver.ticket, link.address));
    until("some of it is there", || there(&receiver) >= 4 << 20);
    link.set_up(false);
    // The link is down for longer than either end waits for a silent connection.
    thread::sleep(Duration::from_secs(if is_soak() { 60 } else { 12 }));
    let before = there(&receiver);
    link.set_up(true);
    sender.says("going on");
    let (sent, received) = (sender.object(), receiver.session());
    assert_eq!(sender.wait().code(), Some(0));
    for summary in [&sent, &received] {
        assert_eq!((&summary["ok"], &summary["digest"]), (&true.into(), &digest(&content).into()));
    }
    assert!(before < 32 << 20);
    assert!(fs::read(receiver.path("file")).unwrap() == content);
}

#[test]
fn another_address_of_the_sender_does_not_end_a_transfer() {
    let files = Files::new();
    let content = noise(1, 16 << 20);
    files.file("file", &content);
    let receiver = Receiver::start(&["--once"]);
    let link = Link::new(receiver.address());
    let mut sender = start(&files, &readdress(&receiver.ticket, link.address));
    until("some of it is there", || there(&receiver) >= 4 << 20);
    link.moved.store(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(sender.object()["digest"], digest(&content));
    assert_eq!((sender.wait().code(), &receiver.session()["ok"]), (Some(0), &true.into()));
}

#[test]
fn an_end_that_is_stopped_for_a_while_goes_on() {
    let files = Files::new();
    let content = noise(1, 32 << 20);
    files.file("file", &content);
    let is_stopped = |which| {
        let receiver = Receiver::start(&["--once"]);
        let mut sender = start(&files, &receiver.ticket);
        until("some of it is there", || there(&receiver) >= 4 << 20);
        let signal = |name| if which == "sender" { sender.signal(name) } else { receiver.signal(name) };
        signal("STOP");
        thread::sleep(Duration::from_secs(if is_soak() { 30 } else { 12 }));
        signal("CONT");
        assert_eq!(sender.object()["digest"], digest(&content), "{which}");
        assert_eq!((sender.wait().code(), &receiver.session()["ok"]), (Some(0), &true.into()), "{which}");
    };
    // Side by side, as they wait.
    thread::scope(|scope| {
        for which in ["sender", "receiver"] {
            scope.spawn(move || is_stopped(which));
        }
    });
}

#[test]
fn a_file_that_is_another_one_by_now_is_sent_from_the_beginning() {
    let files = Files::new();
    files.file("file", &noise(1, 32 << 20));
    let mut receiver = Receiver::start(&[]);
    let sender = start(&files, &receiver.ticket);
    until("some of it is there", || there(&receiver) >= 4 << 20);
    receiver.signal("KILL");
    receiver.wait();
    drop(sender);
    let content = noise(2, 32 << 20);
    files.file("file", &content);
    let receiver = receiver.restart(&[]);
    receiver.says("go on when they are sent again");
    let summary = send_well(&[&files.path("file")], &receiver.ticket);
    assert_eq!(summary["digest"], digest(&content));
    assert!(fs::read(receiver.path("file")).unwrap() == content);
}
