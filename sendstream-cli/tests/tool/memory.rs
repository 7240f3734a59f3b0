//! What strangers and senders make a receiver hold, and that it goes back.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read as _},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    crowd::{Greedy, gets_through, half_open, nobody},
    stranger::{Stranger, begin, data, offer},
    support::{
        Files, Process, Receiver, control_group::MemoryGroup, figure, is_soak, noise, packets::first_packets,
        sendstream, until,
    },
};

/// Senders come one after the other while strangers of every kind keep coming. The process may have
/// 64 MiB; where that cannot be enforced, it is only measured.
#[test]
fn a_receiver_among_strangers_stays_small_and_serves_every_sender() {
    const LIMIT: usize = 64 << 20;
    const STRANGERS: usize = 32;
    const SENDERS: usize = 20;
    let group = limited_to(LIMIT);
    let command = group.as_ref().map_or_else(sendstream, |group| group.command(sendstream().get_program()));
    let (receiver, files) = (Receiver::start_as(command, &[]), Files::new());
    for number in 0..4 {
        gets_through(&files, &format!("before {number}"), &receiver.ticket);
    }
    let idle = memory(&receiver, "RssAnon");

    let (client, address) = (nobody(), receiver.address());
    let (packets, done) = (first_packets(&client, STRANGERS), AtomicBool::new(false));
    let come = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                half_open(&packets, address);
                come.fetch_add(STRANGERS, Ordering::Relaxed);
                // More than one round within the time that a sender needs, and less than a socket
                // holds.
                thread::sleep(Duration::from_millis(50));
            }
        });
        scope.spawn(|| {
            let mut strangers: VecDeque<_> = (0..STRANGERS).map(|_| Greedy::connect(&client, address, 1024)).collect();
            while !done.load(Ordering::Relaxed) {
                strangers.push_back(Greedy::connect(&client, address, 8));
                strangers.pop_front();
                come.fetch_add(1, Ordering::Relaxed);
            }
        });
        for number in 0..SENDERS {
            gets_through(&files, &number.to_string(), &receiver.ticket);
        }
        done.store(true, Ordering::Relaxed);
    });
    drop(client);
    let peak = memory(&receiver, "VmHWM");
    let (after, when) = settled(&receiver, idle);
    figure(format_args!(
        "{SENDERS} of {SENDERS} senders among {} strangers in {} MiB; {} KiB resident at most; {} KiB of its own \
         when idle, {} KiB {:.1} s after the last stranger",
        come.into_inner(),
        LIMIT >> 20,
        peak >> 10,
        idle >> 10,
        after >> 10,
        when.as_secs_f64(),
    ));
    assert!(peak < LIMIT / 2 || !is_judged(), "{peak} bytes were resident");
    assert!(after <= idle + SLACK || !is_judged(), "{after} bytes stay resident, of {idle}");
}

/// Senders that have the ticket may have as much under way as a window holds, and tell of as many
/// files as may be open.
#[test]
fn what_was_held_for_senders_goes_back() {
    const SENDERS: usize = 6;
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    gets_through(&files, "before", &receiver.ticket);
    let idle = memory(&receiver, "RssAnon");
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| {
            let sender = Stranger::connect(&receiver);
            let mut session = sender.begin();
            let name = |entry: u32| format!("{number}/{entry}/{}", "x".repeat(200));
            let offers = (0..1000).flat_map(|entry| offer(entry, 0, name(entry).as_bytes(), 1 << 20, b""));
            session.say(&offers.collect::<Vec<_>>());
            session.say(&[begin(0), data(&vec![7; 200 << 10])].concat());
            (sender, session)
        })
        .collect();
    until("it is held", || memory(&receiver, "RssAnon") > idle + (SENDERS << 19));
    drop(senders);
    for _ in 0..=SENDERS {
        receiver.session();
    }
    let peak = memory(&receiver, "VmHWM");
    let (after, when) = settled(&receiver, idle);
    figure(format_args!(
        "{SENDERS} senders of 1000 unfinished files each: {} KiB resident at most; {} KiB of its own when idle, {} KiB \
         {:.1} s after they went",
        peak >> 10,
        idle >> 10,
        after >> 10,
        when.as_secs_f64(),
    ));
    // Each session had a thread, with memory of its own that stays in part.
    assert!(after <= idle + 2 * SLACK || !is_judged(), "{after} bytes stay resident, of {idle}");
}

/// Much and many to three receivers at once. The disk is read once for all of them, and nothing is
/// copied for each.
#[test]
fn a_sender_to_several_receivers_reads_once_and_stays_small() {
    let (large, small, rate) = if is_soak() { (4 << 30, 10_000, "10G") } else { (64 << 20, 1000, "64M") };
    let receivers = [(); 3].map(|()| Receiver::start(&[]));
    let files = Files::new();
    let path = files.file("top/large", b"");
    let mut content = blake3::Hasher::new().update(b"large").finalize_xof().take(large as u64);
    io::copy(&mut content, &mut File::create(path).unwrap()).unwrap();
    for number in 0..small {
        files.file(&format!("top/{number}"), &noise(number as u64, 4096));
    }
    let mut command = sendstream();
    command.args(["send", "--json", "--limit", rate]).arg(files.path("top"));
    command.args(receivers.iter().map(|receiver| &receiver.ticket));
    let mut sender = Process::start(command);
    let (mut read, mut peak) = (0, 0);
    while receivers.iter().any(|receiver| !receiver.path("top/large").exists()) {
        read = number(sender.pid(), "io", "rchar:").unwrap_or(read);
        peak = number(sender.pid(), "status", "VmHWM:").unwrap_or(peak);
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(sender.wait().code(), Some(0));
    let digests: Vec<_> = receivers.iter().map(|receiver| receiver.session()["digest"].clone()).collect();
    assert!(digests.iter().all(|digest| digest.is_string() && *digest == digests[0]));
    let len = large + small * 4096;
    figure(format_args!(
        "{} MiB to 3 receivers: {} MiB read, {} MiB resident at most",
        len >> 20,
        read >> 20,
        peak >> 10
    ));
    assert!(read < len + len / 5, "{read} bytes were read of {len}");
    assert!(peak < 100 << 10 || !is_judged(), "{peak} KiB");
}

#[test]
fn a_hundred_thousand_files_make_neither_end_large() {
    let many = if is_soak() { 100_000 } else { 3000 };
    let files = Files::new();
    for number in 0..many {
        files.file(&format!("top/{}/{number}", number / 1000), format!("{number}").as_bytes());
    }
    let receiver = Receiver::start(&[]);
    let mut command = sendstream();
    command.args(["send", "--json"]).arg(files.path("top")).arg(&receiver.ticket);
    let mut sender = Process::start(command);
    let mut peak = 0;
    // It is there until it was waited for.
    while let Some(kib) = number(sender.pid(), "status", "VmHWM:") {
        peak = kib;
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(sender.object()["files_ok"], many);
    assert_eq!((sender.wait().code(), &receiver.session()["ok"]), (Some(0), &true.into()));
    let peaks = [peak << 10, memory(&receiver, "VmHWM")];
    figure(format_args!(
        "{many} files: {} KiB resident at the sender and {} KiB at the receiver at most",
        peak,
        peaks[1] >> 10
    ));
    assert!(peaks.iter().all(|peak| *peak < 60 << 20) || !is_judged(), "{peaks:?} bytes");
}

/// What the kernel says of a process that may have ended.
fn number(pid: u32, what: &str, name: &str) -> Option<usize> {
    let text = fs::read_to_string(format!("/proc/{pid}/{what}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Waits until the receiver has given back what it held, for ten seconds at most; what it holds then,
/// and when that was.
fn settled(receiver: &Receiver, idle: usize) -> (usize, Duration) {
    let begin = Instant::now();
    loop {
        let now = memory(receiver, "RssAnon");
        if now <= idle + SLACK || begin.elapsed() > Duration::from_secs(10) {
            return (now, begin.elapsed());
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A group of so many bytes; `None`, with a word on standard error, where there can be none.
fn limited_to(bytes: usize) -> Option<MemoryGroup> {
    if !is_judged() {
        return None;
    }
    MemoryGroup::new(bytes).inspect_err(|why| eprintln!("SKIPPED: no limit on memory: {why}")).ok()
}

/// AddressSanitizer keeps what was freed for a while, on purpose (`make test-asan`).
fn is_judged() -> bool {
    std::env::var_os("SENDSTREAM_MSQUIC_SANITIZE").is_none()
}

/// A line of what the kernel says of the receiver's memory, in bytes. `VmHWM` is the most that was
/// resident, and `RssAnon` what is now, without the files that are mapped: how much of those the
/// kernel keeps is its own affair.
fn memory(receiver: &Receiver, what: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", receiver.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// What may stay with a receiver after a flood, in bytes.
const SLACK: usize = 2 << 20;
