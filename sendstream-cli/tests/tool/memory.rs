//! What strangers and senders make a receiver hold, and that it goes back.

use std::{
    collections::VecDeque,
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    crowd::{Greedy, gets_through, half_open, nobody},
    support::{Files, Receiver, control_group::MemoryGroup, figure, packets::first_packets, sendstream},
};

/// Senders come one after the other while strangers of every kind keep coming. The process may have
/// 64 MiB; where that cannot be enforced, it is only measured.
#[test]
fn a_receiver_among_strangers_stays_small_and_serves_every_sender() {
    const LIMIT: usize = 64 << 20;
    const STRANGERS: usize = 32;
    const SENDERS: usize = 20;
    let group = MemoryGroup::new(LIMIT).inspect_err(|why| eprintln!("SKIPPED: no limit on memory: {why}")).ok();
    let command = group.as_ref().map_or_else(sendstream, |group| group.command(sendstream().get_program()));
    let (receiver, files) = (Receiver::start_as(command, &[]), Files::new());
    for number in 0..4 {
        gets_through(&files, &format!("before {number}"), &receiver.ticket);
    }
    let idle = memory(&receiver, "VmRSS");

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
    let (gone, mut after) = (Instant::now(), usize::MAX);
    while gone.elapsed() < Duration::from_secs(10) && after > idle + (2 << 20) {
        thread::sleep(Duration::from_millis(200));
        after = memory(&receiver, "VmRSS");
    }
    figure(format_args!(
        "{SENDERS} of {SENDERS} senders among {} strangers in {} MiB; {} KiB when idle, {} KiB at most, {} KiB {:.1} s after \
         the last stranger",
        come.into_inner(),
        LIMIT >> 20,
        idle >> 10,
        peak >> 10,
        after >> 10,
        gone.elapsed().as_secs_f64(),
    ));
    assert!(peak < LIMIT / 2, "{peak} bytes were resident");
    assert!(after <= idle + (2 << 20), "{after} bytes stay resident, of {idle}");
}

/// A line of what the kernel says of the receiver's memory, in bytes.
fn memory(receiver: &Receiver, what: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", receiver.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}
