//! What all connections of a process hold together has a limit, and windows shrink before it. The
//! limit is the whole process's, so most tests have one of their own.

mod support;

use std::{process::Command, time::Duration};

use bytes::Bytes;
use futures::{
    future::{join, try_join_all},
    stream::TryStreamExt as _,
};
use sendstream::{
    SendStream, TransportConfig,
    process::{memory_budget, set_memory_budget},
};
use support::{Pair, alone, figure_of, on_tokio, pattern, run, wait_until};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The least that is left of a window.
const LEAST: usize = 16 * KIB;

/// Whether what was received is counted. An installed library does not count it.
fn counts_received() -> bool {
    support::has_edit("connections-share-a-budget")
}

async fn send_whole(mut send: SendStream, bytes: usize) {
    send.write_all(&pattern(bytes)).await.unwrap();
    send.finished().await.unwrap();
}

/// Lets the pair go. Then nothing is held any more.
async fn end(pair: Pair) {
    pair.end().await;
    wait_until(|| memory_budget().unwrap().used == 0);
}

#[test]
#[cfg(target_os = "linux")]
fn the_budget_is_a_quarter_of_what_the_process_may_use() {
    const SPACE: u64 = 6 << 30;
    let test = "the_budget_is_a_quarter_of_what_the_process_may_use";
    if std::env::var_os(alone::CHILD).is_some() {
        let budget = memory_budget().unwrap();
        assert_eq!(budget.used, 0);
        assert!(budget.limit > 0 && budget.limit <= SPACE / 4, "{budget:?}");
        set_memory_budget(5).unwrap();
        assert_eq!(memory_budget().unwrap().limit, 5);
        return;
    }
    if !counts_received() {
        return support::skip("this MsQuic knows of no budget");
    }
    let information = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = information.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let total: u64 = total.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
    if support::control_group::limits_memory() {
        assert!(memory_budget().unwrap().limit <= total / 4);
    } else {
        assert_eq!(memory_budget().unwrap().limit, total / 4);
    }

    // The sanitizer and an emulator take more address space than any machine has memory.
    if std::env::var_os("SENDSTREAM_MSQUIC_SANITIZE").is_some() || cfg!(not(target_arch = "x86_64")) {
        return support::skip("a process that may not have a smaller address space");
    }
    alone::parent(test, |command| {
        let (program, arguments) = (command.get_program().to_owned(), command.get_args().map(ToOwned::to_owned));
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -v {} && exec \"$0\" \"$@\"", SPACE >> 10)]).arg(program).args(arguments);
        *command = limited;
        command.env(alone::CHILD, "1");
    });
}

#[test]
fn many_busy_streams_stay_within_the_budget_and_everything_arrives() {
    const STREAMS: usize = 100;
    const EACH: usize = 512 * KIB;
    const WINDOW: usize = 64 * KIB;
    const BUDGET: usize = 2 * MIB;
    let test = "many_busy_streams_stay_within_the_budget_and_everything_arrives";
    if alone::parent(test, |_| ()).is_some() {
        return;
    }
    run(async {
        set_memory_budget(BUDGET as u64).unwrap();
        let sender = TransportConfig::default().send_window(EACH as u32);
        let receiver = TransportConfig::default().stream_receive_window(WINDOW as u32);
        let pair = Pair::with(sender, receiver).await;
        let data = Bytes::from(pattern(EACH));
        let writing = async || {
            let mut send = pair.client.open_uni().unwrap();
            let mut most = 0;
            for start in (0..EACH).step_by(LEAST) {
                send.write_chunk(data.slice(start..start + LEAST)).await.unwrap();
                most = most.max(memory_budget().unwrap().used as usize);
            }
            send.finished().await.unwrap();
            Ok::<_, ()>(most)
        };
        let reading = async || {
            let mut recv = pair.server.accept_uni().await.unwrap();
            assert!(recv.read_to_end(data.len()).await.unwrap() == data);
            Ok::<_, ()>(())
        };
        let (most, read) =
            join(try_join_all((0..STREAMS).map(|_| writing())), try_join_all((0..STREAMS).map(|_| reading()))).await;
        read.unwrap();
        let most = most.unwrap().into_iter().max().unwrap();
        figure_of(test, format!("{} KiB at most of a budget of {} KiB", most / KIB, BUDGET / KIB));
        // Beside the budget each stream has its first window, and one more chunk where it holds less
        // than the least. Without a budget all of them hold 50 MiB at once.
        assert!(most <= BUDGET + STREAMS * (WINDOW + 2 * LEAST), "{most}");
        assert!(most > BUDGET / 2, "what is sent counts: {most}");
        end(pair).await;
    });
}

#[test]
fn a_stream_gets_little_credit_while_others_hold_the_budget() {
    let test = "a_stream_gets_little_credit_while_others_hold_the_budget";
    if !counts_received() || alone::parent(test, |_| ()).is_some() {
        return;
    }
    on_tokio(async {
        let pair = Pair::new().await;
        let bytes = 2 * MIB + MIB / 2;

        // A stream's whole window is received and not read.
        send_whole(pair.client.open_uni().unwrap(), MIB).await;
        let mut held = pair.server.accept_uni().await.unwrap();
        assert!(memory_budget().unwrap().used as usize > MIB - LEAST);
        set_memory_budget(MIB as u64).unwrap();
        assert_eq!(pair.client.open_uni().unwrap().send_window() as usize, LEAST);

        // Half a window more than what is read of another would arrive, without a budget.
        let mut sending = tokio::spawn(send_whole(pair.client.open_uni().unwrap(), bytes));
        let mut recv = pair.server.accept_uni().await.unwrap();
        let mut data = vec![0; 2 * MIB];
        recv.read_exact(&mut data).await.unwrap();
        let unasked = tokio::time::timeout(Duration::from_secs(1), &mut sending).await;
        assert!(unasked.is_err(), "the peer had credit for all of it");

        // The memory comes free. With the next that is read, the window is what it was: all of the
        // rest arrives.
        assert!(held.read_to_end(MIB).await.unwrap() == pattern(MIB));
        set_memory_budget(u64::MAX).unwrap();
        let mut next = vec![0; LEAST];
        recv.read_exact(&mut next).await.unwrap();
        sending.await.unwrap();
        data.extend(next);
        data.extend(recv.read_to_end(MIB).await.unwrap());
        assert!(data == pattern(bytes));
        drop((held, recv));
        end(pair).await;
    });
}

#[test]
fn readers_that_keep_what_they_read_get_all_of_it_while_windows_are_small() {
    let test = "readers_that_keep_what_they_read_get_all_of_it_while_windows_are_small";
    if alone::parent(test, |_| ()).is_some() {
        return;
    }
    run(async {
        set_memory_budget(1).unwrap();
        let pair = Pair::new().await;
        let data = pattern(4 * MIB);

        let all = async { pair.server.accept_uni().await.unwrap().try_collect::<Vec<Bytes>>().await.unwrap() };
        let ((), all) = join(send_whole(pair.client.open_uni().unwrap(), data.len()), all).await;
        assert!(all.concat() == data);

        // The first piece is kept, and the budget is raised on the way.
        let but_the_first = async {
            let mut recv = pair.server.accept_uni().await.unwrap();
            let first = recv.read_chunk().await.unwrap().unwrap();
            let mut read = first.len();
            while let Some(chunk) = recv.read_chunk().await.unwrap() {
                assert!(chunk[..] == data[read..read + chunk.len()]);
                read += chunk.len();
                if read > data.len() / 2 {
                    set_memory_budget(u64::MAX).unwrap();
                }
            }
            assert!(read == data.len() && first[..] == data[..first.len()]);
        };
        join(send_whole(pair.client.open_uni().unwrap(), data.len()), but_the_first).await;
        drop(all);
        end(pair).await;
    });
}
