//! The names of the process's threads. In one test, as the first connection of a process starts
//! most of them.
#![cfg(target_os = "linux")]

mod support;

use std::{collections::BTreeSet, fs, thread};

use sendstream::{ExecutionProfile, Registration};
use support::{any_port, connect, run, skip};

/// What the test's own threads are called, and what MsQuic's would be called without names of their
/// own.
const TELLING: &str = "a-telling-name";

#[test]
fn every_thread_says_whose_it_is() {
    if fs::read_dir("/proc/self/task").is_err() {
        return skip("there is no /proc/self/task here");
    }
    let before = names().len();
    // Here, because what starts MsQuic names its threads where they have no names of their own.
    let body = move || {
        if !support::has_edit("threads-have-names") {
            return skip("this MsQuic has no edit threads-have-names");
        }
        run(has_named_threads(before));
    };
    thread::Builder::new().name(TELLING.into()).spawn(body).unwrap().join().unwrap();
}

async fn has_named_threads(before: usize) {
    let registration = Registration::with_profile(ExecutionProfile::MaxThroughput).unwrap();
    let identity = support::identity();
    let server = support::server(&identity).bind(any_port()).unwrap();
    let client = support::client(&identity).registration(&registration).build().unwrap();
    let (connected, accepted) = connect(&client, &server).await;
    // Which the background thread is asked for.
    connected.stats().await.unwrap();

    let mut names = names();
    // This thread, and the one that waits for it.
    assert_eq!(names.iter().filter(|name| *name == TELLING).count(), 2, "{names:?}");
    // And those of the runtime, where the test is on one.
    names.retain(|name| name != TELLING && !name.starts_with("tokio-"));
    let ours: Vec<_> = names.iter().filter(|name| name.starts_with("msquic-") || *name == "sendstream").collect();
    assert_eq!(ours.len() + before, names.len(), "{names:?}");
    let ours: BTreeSet<_> = ours.into_iter().map(String::as_str).collect();
    for name in ["sendstream", "msquic-work-0", "msquic-conn-0", "msquic-close", "msquic-cleanup"] {
        assert!(ours.contains(name), "{name} is missing: {ours:?}");
    }
    let known = |name: &str| {
        ["sendstream", "msquic-close", "msquic-cleanup"].contains(&name)
            || name.strip_prefix("msquic-work-").is_some_and(|number| number.parse::<u16>().is_ok())
            || name.strip_prefix("msquic-conn-").is_some_and(|number| number.parse::<u16>().is_ok())
    };
    assert!(ours.iter().all(|name| known(name)), "{ours:?}");

    drop((connected, accepted, client));
    server.shutdown().await;
    drop(server);
    registration.wait_idle().await;
}

/// What the threads of this process are called, in no order.
fn names() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // A thread may end meanwhile.
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}
