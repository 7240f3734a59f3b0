//! Tokio runtimes that do the work of their own connections. Three of a process can at a time, so
//! one test at a time has runtimes.
#![cfg(feature = "tokio")]

mod support;

use std::{
    pin::pin,
    sync::{Barrier, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use futures::future::join_all;
use sendstream::{Client, Connection, Identity, Registration, ServedBy, Server, Trust};
use support::{Endpoints, HANG, Pair, any_port, client, exchange, figure, identity, pattern, run, server, skip};
use tokio::runtime::{Builder, Runtime};

/// Nobody else has runtimes while this is held.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn threads(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).enable_all().build().unwrap()
}

/// Whether the linked MsQuic can be served by runtimes.
fn can_be_served() -> bool {
    let can = support::has_edit("worker-groups");
    if !can {
        skip("the linked MsQuic lacks the edit worker-groups");
    }
    can
}

/// The name of the thread that works for `connection` at the moment.
async fn worker_of(connection: &Connection) -> String {
    connection.spawn_on_worker(async { this_thread() }).await.unwrap()
}

/// The name of this thread. MsQuic's own threads have none that Rust knows.
fn this_thread() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// Whether the thread of that name works for both ends. On a machine that stops it for 10
/// milliseconds one of MsQuic's own does for a while, so it is asked several times.
async fn is_served_by(name: &str, pair: &Pair) -> bool {
    for _ in 0..100 {
        if worker_of(&pair.client).await == name && worker_of(&pair.server).await == name {
            return true;
        }
    }
    false
}

/// A runtime whose thread of that name works for both ends of a connection. A place is free only
/// when MsQuic is done with the runtime that had it before, which nothing tells.
fn serving(make: impl Fn() -> Runtime, name: &str) -> (Runtime, Pair) {
    let begin = Instant::now();
    loop {
        let runtime = make();
        let pair = runtime.block_on(Pair::new());
        if runtime.block_on(is_served_by(name, &pair)) {
            return (runtime, pair);
        }
        runtime.block_on(pair.end());
        assert!(begin.elapsed() < HANG, "{name} does not work for its connection");
    }
}

/// A runtime of one thread, which is this one, and a connection that it works for.
fn serving_here() -> (Runtime, Pair) {
    serving(one_thread, &this_thread())
}

/// Bytes both ways, many messages, and the end of everything.
async fn exchange_and_end() {
    let pair = Pair::new().await;
    exchange(&pair.client, &pair.server, 3_000_000).await;
    for _ in 0..100 {
        support::tell(&pair.client, &pair.server, "a short message").await;
    }
    assert!(pair.client.stats().await.unwrap().sent.bytes >= 3_000_000);
    pair.end().await;
}

#[test]
fn a_runtime_of_one_thread_does_the_work_of_its_connections() {
    let _alone = alone();
    if !can_be_served() {
        return;
    }
    let (runtime, pair) = serving_here();
    runtime.block_on(async {
        exchange(&pair.client, &pair.server, 1_000_000).await;
        pair.end().await;
    });
}

#[test]
fn each_runtime_does_the_work_of_its_own_connections() {
    let _alone = alone();
    if !can_be_served() {
        return;
    }
    let named = |name: &'static str| {
        move || Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build().unwrap()
    };
    // All three have a place before one of them ends.
    let all = ["one", "two", "three"].map(|name| (name, serving(named(name), name)));
    for (name, (runtime, pair)) in all {
        runtime.block_on(async {
            assert!(is_served_by(name, &pair).await, "{name}");
            exchange(&pair.client, &pair.server, 1_000_000).await;
            pair.end().await;
        });
    }
}

#[test]
fn more_runtimes_than_can_be_served_have_connections_all_the_same() {
    let _alone = alone();
    let together = Barrier::new(6);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                one_thread().block_on(async {
                    let endpoints = Endpoints::new();
                    together.wait();
                    let (client, server) = endpoints.connect().await;
                    exchange(&client, &server, 300_000).await;
                    drop((client, server));
                    endpoints.end().await;
                });
            });
        }
    });
}

#[test]
fn a_runtime_that_ended_makes_place_for_the_next() {
    let _alone = alone();
    if !can_be_served() {
        return;
    }
    for _ in 0..10 {
        let (runtime, pair) = serving_here();
        runtime.block_on(pair.end());
    }
}

#[test]
fn a_runtime_of_many_threads_serves_tasks_of_its_own_and_of_others() {
    let _alone = alone();
    let runtime = threads(3);
    let tasks: Vec<_> = (0..4).map(|_| runtime.spawn(exchange_and_end())).collect();
    let _inside = runtime.enter();
    let pair = futures::executor::block_on(Pair::new());
    run(async move {
        exchange(&pair.client, &pair.server, 1_000_000).await;
        pair.end().await;
    });
    futures::executor::block_on(join_all(tasks)).into_iter().for_each(|task| task.unwrap());
}

#[test]
fn connections_are_served_while_all_threads_of_the_runtime_are_blocked() {
    let _alone = alone();
    one_thread().block_on(async {
        let pair = Pair::new().await;
        // As long as this lasts, the runtime's only thread is here.
        futures::executor::block_on(async {
            exchange(&pair.client, &pair.server, 1_000_000).await;
            pair.end().await;
        });
        exchange_and_end().await;
    });
}

#[test]
fn connections_are_served_while_nobody_drives_their_runtime() {
    let _alone = alone();
    if !can_be_served() {
        return;
    }
    let (runtime, pair) = serving_here();
    let pair = run(async move {
        for _ in 0..100 {
            exchange(&pair.client, &pair.server, 1000).await;
        }
        pair
    });
    runtime.block_on(async {
        exchange(&pair.client, &pair.server, 1_000_000).await;
        assert!(is_served_by(&this_thread(), &pair).await, "the runtime is back");
        pair.end().await;
    });
}

#[test]
fn a_connection_outlives_its_runtime() {
    let _alone = alone();
    for _ in 0..3 {
        let runtime = threads(2);
        let pair = runtime.block_on(Pair::new());
        let mut stream = pair.client.open_uni().unwrap();
        runtime.block_on(stream.send(pattern(1000))).unwrap();
        drop(runtime);
        let (sent, received) = run(async move {
            let mut accepted = pair.server.accept_uni().await.unwrap();
            let ends = futures::join!(stream.finish_with(pattern(1000)), accepted.read_to_end(2000));
            drop((stream, accepted));
            exchange(&pair.client, &pair.server, 1_000_000).await;
            pair.end().await;
            ends
        });
        sent.unwrap();
        assert!(received.unwrap() == [pattern(1000), pattern(1000)].concat());
    }
}

#[test]
fn an_endpoint_is_served_by_msquics_own_threads_where_that_was_asked_for() {
    let _alone = alone();
    one_thread().block_on(async {
        let identity = identity();
        let server = server(&identity).served_by(ServedBy::OwnThreads).bind(any_port()).unwrap();
        let client = client(&identity).served_by(ServedBy::OwnThreads).build().unwrap();
        let (connected, accepted) = support::connect(&client, &server).await;
        for _ in 0..20 {
            assert_ne!(worker_of(&connected).await, this_thread());
            assert_ne!(worker_of(&accepted).await, this_thread());
        }
        drop((connected, accepted));
        server.shutdown().await;
        client.wait_idle().await;
    });
}

#[test]
fn a_registration_runs_on_threads_of_its_own_inside_of_a_runtime() {
    let _alone = alone();
    one_thread().block_on(async {
        let registration = Registration::new().unwrap();
        let identity = identity();
        let server = server(&identity).registration(&registration).bind(any_port()).unwrap();
        let client = client(&identity).registration(&registration).build().unwrap();
        let (connected, accepted) = support::connect(&client, &server).await;
        assert_ne!(worker_of(&connected).await, this_thread());
        drop((connected, accepted));
        server.shutdown().await;
        registration.wait_idle().await;
    });
}

#[test]
fn the_two_ends_of_a_connection_are_served_by_a_runtime_each() {
    let _alone = alone();
    let identity = identity();
    let (ours, theirs) = (threads(2), threads(2));
    let (server, client) = {
        let (identity, trust) = (&identity, support::pinned(&identity));
        let server = {
            let _inside = theirs.enter();
            server(identity).bind(any_port()).unwrap()
        };
        let _inside = ours.enter();
        (server, support::client_with(trust).build().unwrap())
    };
    let address = server.local_addr().unwrap();
    let serving = theirs.spawn(async move {
        let connection = support::accept(&server).await.unwrap();
        let (mut send, mut recv) = connection.accept_bi().await.unwrap();
        let all = recv.read_to_end(2_000_000).await.unwrap();
        send.finish_with(all).await.unwrap();
        connection.closed().await;
        drop((send, recv, connection));
        server.shutdown().await;
    });
    ours.block_on(async move {
        let connection = client.connect(address, "localhost").await.unwrap();
        let (mut send, mut recv) = connection.open_bi().unwrap();
        let data = pattern(1_000_000);
        send.finish_with(data.clone()).await.unwrap();
        assert!(recv.read_to_end(data.len()).await.unwrap() == data);
        drop((send, recv, connection));
        client.wait_idle().await;
    });
    theirs.block_on(serving).unwrap();
}

#[test]
fn a_runtime_without_drivers_leaves_the_work_to_msquics_own_threads() {
    let _alone = alone();
    for runtime in [Builder::new_current_thread().build(), Builder::new_current_thread().enable_io().build()] {
        runtime.unwrap().block_on(exchange_and_end());
    }
}

#[test]
fn a_local_set_and_block_in_place_are_served() {
    let _alone = alone();
    let runtime = threads(2);
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(exchange_and_end()).await.unwrap();
    });
    runtime.block_on(async {
        let blocked = || tokio::task::block_in_place(|| futures::executor::block_on(exchange_and_end()));
        let tasks = (0..4).map(|_| tokio::spawn(async move { blocked() }));
        join_all(tasks).await.into_iter().for_each(|task| task.unwrap());
    });
}

#[test]
fn what_tasks_send_before_all_of_them_wait_goes_out_together() {
    const TASKS: u64 = 60;
    let _alone = alone();
    if !can_be_served() {
        return;
    }
    let (runtime, pair) = serving_here();
    let pair = std::sync::Arc::new(pair);
    runtime.block_on(async {
        let begin = Instant::now();
        loop {
            assert!(is_served_by(&this_thread(), &pair).await);
            let before = pair.client.stats().await.unwrap().sent.packets;
            let first = Instant::now();
            let tasks = (0..TASKS).map(|_| tokio::spawn(tell_the_server(pair.clone())));
            let last = join_all(tasks).await.into_iter().map(|submitted| submitted.unwrap()).max().unwrap();
            let packets = pair.client.stats().await.unwrap().sent.packets - before;
            for _ in 0..TASKS {
                pair.server.accept_uni().await.unwrap();
            }
            // When tasks take longer, MsQuic's own thread takes the turn and sends what there is by then.
            if last - first < TURN_DELAY {
                figure(format_args!("{packets} packets for {TASKS} messages"));
                // Some thirty messages fit into one packet.
                assert!(packets < TASKS / 4, "{packets} packets");
                break;
            }
            assert!(begin.elapsed() < HANG, "{TASKS} tasks never took less than {TURN_DELAY:?}");
        }
        std::sync::Arc::into_inner(pair).unwrap().end().await;
    });
}

/// How long a turn of a runtime's may be due before MsQuic's own thread takes it.
const TURN_DELAY: Duration = Duration::from_millis(10);

/// A message on a stream of its own, and when it was handed to MsQuic.
async fn tell_the_server(pair: std::sync::Arc<Pair>) -> Instant {
    let mut send = pair.client.open_uni().unwrap();
    let sent = send.finish_with("twenty bytes of text");
    let submitted = Instant::now();
    sent.await.unwrap();
    submitted
}

#[test]
fn runtimes_that_come_and_go_in_the_middle_of_everything_lose_nothing() {
    let _alone = alone();
    let (stop, stopped) = mpsc::channel::<()>();
    let coming_and_going = thread::spawn(move || {
        let mut times = 0;
        while let Err(mpsc::TryRecvError::Empty) = stopped.try_recv() {
            let runtime = threads(1 + times % 2);
            let pair = runtime.block_on(async {
                let pair = Pair::new().await;
                exchange(&pair.client, &pair.server, 100_000).await;
                tokio::time::sleep(Duration::from_millis(times as u64 % 7)).await;
                pair
            });
            let exchanging = runtime.spawn(async move {
                exchange(&pair.client, &pair.server, 1_000_000).await;
                pair
            });
            if times % 3 == 0 {
                // In the middle of the exchange.
                runtime.shutdown_background();
                drop(exchanging);
            } else {
                runtime.block_on(async { exchanging.await.unwrap().end().await });
            }
            times += 1;
        }
        times
    });
    for _ in 0..5 {
        one_thread().block_on(exchange_and_end());
    }
    drop(stop);
    assert!(coming_and_going.join().unwrap() > 0);
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "the lock is for the whole test")]
async fn a_test_on_tokio_is_served() {
    let _alone = alone();
    exchange_and_end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::await_holding_lock, reason = "the lock is for the whole test")]
async fn a_test_on_tokio_with_threads_is_served() {
    let _alone = alone();
    exchange_and_end().await;
}

/// Its clock jumps to the next alarm whenever it has nothing to do.
#[tokio::test(start_paused = true)]
#[expect(clippy::await_holding_lock, reason = "the lock is for the whole test")]
async fn a_paused_clock_does_not_run_away() {
    let _alone = alone();
    let pair = Pair::new().await;
    let (told, begin) = (oneshot_after_an_exchange(&pair).await, tokio::time::Instant::now());
    told.await.unwrap();
    // At most to the alarms that there were: MsQuic's are minutes, and one for each worker.
    assert!(begin.elapsed() < Duration::from_secs(3600), "{:?}", begin.elapsed());
    pair.end().await;
}

/// What a thread without a runtime sends to this one, after a while.
async fn oneshot_after_an_exchange(pair: &Pair) -> tokio::sync::oneshot::Receiver<()> {
    exchange(&pair.client, &pair.server, 1000).await;
    let (tell, told) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        run(async {
            let pair = Pair::new().await;
            for _ in 0..200 {
                exchange(&pair.client, &pair.server, 1000).await;
            }
            pair.end().await;
        });
        tell.send(())
    });
    told
}

#[test]
fn a_flood_of_packets_does_not_keep_a_runtime_from_its_tasks() {
    let _alone = alone();
    let (runtime, pair) = serving_here();
    let flooder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    flooder.connect(pair.endpoints.address).unwrap();
    let received = || sendstream::process::counters().unwrap().udp_received;
    // Of each round: how many packets were waiting, and how many of them were read between two polls of a task, at the most.
    let rounds = (0..20).map(|_| {
        runtime.block_on(async {
            let begin = received();
            // More than the socket's buffer holds, of no connection. Nothing is read meanwhile.
            for _ in 0..1000 {
                let _ = flooder.send(&[0x40; 30]);
            }
            let mut last = received();
            let mut most = 0;
            let polled = async {
                loop {
                    let now = received();
                    most = most.max(now - last);
                    last = now;
                    tokio::task::yield_now().await;
                }
            };
            // What comes behind those packets shows that all were read.
            let behind = exchange(&pair.client, &pair.server, 1000);
            futures::future::select(pin!(behind), pin!(polled)).await;
            (last - begin, most)
        })
    });
    let rounds: Vec<_> = rounds.collect();
    figure(format_args!("packets that waited, and that were read at once: {rounds:?}"));
    // A turn reads a dozen or two. One without an end reads all. Where the system keeps this thread from its work, another
    // one reads, so what counts is the best round.
    let most = rounds.iter().filter(|(waited, _)| *waited >= 200).map(|(_, most)| *most).min();
    assert!(most.expect("in no round did many packets wait") < 100, "{most:?} at once");
    runtime.block_on(pair.end());
}

/// The name that the system knows of the thread that works for `connection`.
async fn thread_of(connection: &Connection) -> String {
    let name = async { std::fs::read_to_string("/proc/thread-self/comm").unwrap() };
    connection.spawn_on_worker(name).await.unwrap()
}

#[test]
fn the_workers_of_a_runtime_share_its_connections_evenly() {
    let _alone = alone();
    if !can_be_served() || !std::path::Path::new("/proc/thread-self/comm").exists() {
        return skip("workers cannot be told apart here");
    }
    let (runtime, first) = serving_here();
    let others = runtime.block_on(join_all((0..9).map(|_| first.endpoints.connect())));
    // The thread of the runtime is here, so each worker's own thread does its work.
    let (first, others, counts) = run(async move {
        let mut counts = std::collections::BTreeMap::new();
        let clients = others.iter().map(|(client, _)| client).chain([&first.client]);
        let servers = others.iter().map(|(_, server)| server).chain([&first.server]);
        for end in clients.chain(servers) {
            *counts.entry(thread_of(end).await).or_insert(0) += 1;
        }
        (first, others, counts)
    });
    let workers = thread::available_parallelism().unwrap().get().min(20);
    assert_eq!(counts.len(), workers, "{counts:?}");
    let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
    assert!(most - least <= 2, "{counts:?}");
    drop(others);
    runtime.block_on(first.end());
}

#[test]
fn types_of_the_plain_path_need_no_runtime() {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let trust = Trust::pinned([identity.certificate_sha256()]);
    let server = Server::builder().identity(identity).alpn(["test"]).bind(any_port()).unwrap();
    let client = Client::builder().trust(trust).alpn(["test"]).build().unwrap();
    run(async move {
        let (connected, accepted) = support::connect(&client, &server).await;
        exchange(&connected, &accepted, 100_000).await;
        drop((connected, accepted));
        server.shutdown().await;
        client.wait_idle().await;
    });
}
