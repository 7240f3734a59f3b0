//! `lend_workers`: MsQuic's workers on a tokio runtime. They are the process's, so one test at a
//! time has them.
#![cfg(feature = "tokio-workers")]

mod support;

use std::{
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use sendstream::{LendError, LentWorkers, lend_workers};
use support::{Pair, pattern, poll_once, run};
use tokio::runtime::{Builder, Runtime};

/// Nobody else lends workers while this is held.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The workers, or `None` where the linked MsQuic has none to lend.
fn lend(runtime: &Runtime) -> Option<LentWorkers> {
    match lend_workers(runtime.handle()) {
        Ok(workers) => Some(workers),
        Err(LendError::CannotLend) if !has_the_edit() => None,
        Err(error) => panic!("{error}"),
    }
}

fn has_the_edit() -> bool {
    sendstream::native_info().unwrap().edits.iter().any(|edit| edit.name == "workers-can-be-lent")
}

/// Bytes both ways, many messages, and the end of everything.
async fn exchange() {
    let pair = Pair::new().await;
    let data = pattern(3_000_000);
    let (mut send, mut recv) = pair.client.open_bi().unwrap();
    let echo = async {
        let (mut send, mut recv) = pair.server.accept_bi().await.unwrap();
        while let Some(chunk) = recv.read_chunk().await.unwrap() {
            send.write_chunk(chunk.into()).await.unwrap();
        }
        send.finished().await.unwrap();
    };
    let (sent, received, ()) = futures::join!(send.finish_with(data.clone()), recv.read_to_end(data.len()), echo);
    sent.unwrap();
    assert!(received.unwrap() == data);
    drop((send, recv));

    let message = pattern(1000);
    for _ in 0..100 {
        let (sent, received) =
            futures::join!(async { pair.client.open_uni().unwrap().finish_with(message.clone()).await }, async {
                pair.server.accept_uni().await.unwrap().read_to_end(1000).await
            });
        sent.unwrap();
        assert!(received.unwrap() == message);
    }
    assert!(pair.client.stats().await.unwrap().sent.bytes >= 3_000_000);
    pair.end().await;
}

#[test]
fn a_runtime_of_one_thread_runs_the_workers_and_has_them_back_on_their_own_threads() {
    let _alone = alone();
    run(async {
        let runtime = one_thread();
        let Some(workers) = lend(&runtime) else { return };
        runtime.block_on(async {
            exchange().await;
            // A worker task is polled in a callback of its worker's.
            let pair = Pair::new().await;
            let worker = || async { thread::current().id() };
            assert_eq!(pair.client.spawn_on_worker(worker()).await, Ok(thread::current().id()));
            assert_eq!(pair.server.spawn_on_worker(worker()).await, Ok(thread::current().id()));
            workers.give_back().await;
            // They come in their own time, but nothing waits for them.
            exchange().await;
            pair.end().await;
        });
    });
}

#[test]
fn a_runtime_of_many_threads_runs_the_workers_for_tasks_of_its_own_and_of_others() {
    let _alone = alone();
    let runtime = Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let Some(_workers) = lend(&runtime) else { return };
    let tasks: Vec<_> = (0..4).map(|_| runtime.spawn(exchange())).collect();
    run(exchange());
    run(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn connections_are_served_while_all_threads_of_the_runtime_are_blocked() {
    let _alone = alone();
    let runtime = one_thread();
    let Some(workers) = lend(&runtime) else { return };
    runtime.block_on(async {
        tokio::task::yield_now().await;
        // As long as this lasts, the runtime's only thread is here.
        run(exchange());
        workers.give_back().await;
    });
}

#[test]
fn a_runtime_that_ends_gives_the_workers_back() {
    let _alone = alone();
    for _ in 0..3 {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let Some(workers) = lend(&runtime) else { return };
        let pair = runtime.block_on(Pair::new());
        let mut stream = pair.client.open_uni().unwrap();
        runtime.block_on(stream.send(pattern(1000))).unwrap();
        drop(runtime);
        let (sent, received) = run(async move {
            let mut accepted = pair.server.accept_uni().await.unwrap();
            let ends = futures::join!(stream.finish_with(pattern(1000)), accepted.read_to_end(2000));
            drop((stream, accepted));
            pair.end().await;
            ends
        });
        sent.unwrap();
        assert!(received.unwrap() == [pattern(1000), pattern(1000)].concat());
        // Nothing is left of it for the next one to wait for.
        drop(workers);
    }
}

#[test]
fn workers_are_lent_once_and_again_when_they_are_back() {
    let _alone = alone();
    let runtime = one_thread();
    let other = one_thread();
    let Some(workers) = lend(&runtime) else { return };
    let error = lend_workers(other.handle()).unwrap_err();
    assert!(matches!(error, LendError::AlreadyLent), "{error}");
    runtime.block_on(workers.give_back());
    let workers = lend_workers(other.handle()).unwrap();
    other.block_on(async {
        exchange().await;
        workers.give_back().await;
    });
}

#[test]
fn whoever_gives_up_waiting_for_the_workers_has_them_back_all_the_same() {
    let _alone = alone();
    let runtime = one_thread();
    let Some(workers) = lend(&runtime) else { return };
    runtime.block_on(exchange());
    // Nobody drives the runtime, so that its tasks cannot end.
    let mut giving_back = Box::pin(workers.give_back());
    assert!(poll_once(&mut giving_back).is_pending());
    drop(giving_back);
    run(exchange());
    assert!(matches!(lend_workers(runtime.handle()), Err(LendError::AlreadyLent)));
    runtime.block_on(tokio::task::yield_now());
    let workers = lend_workers(runtime.handle()).unwrap();
    runtime.block_on(workers.give_back());
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn a_runtime_without_timers_is_refused_as_by_tokio() {
    let _alone = alone();
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    if lend(&runtime).is_none() {
        panic!("nothing to lend, and timers are disabled");
    }
}

#[test]
fn workers_that_come_and_go_in_the_middle_of_everything_lose_nothing() {
    let _alone = alone();
    let (stop, stopped) = mpsc::channel::<()>();
    let coming_and_going = thread::spawn(move || {
        let mut times = 0;
        while let Err(mpsc::TryRecvError::Empty) = stopped.try_recv() {
            let runtime = Builder::new_multi_thread().worker_threads(1 + times % 2).enable_all().build().unwrap();
            let Some(workers) = lend(&runtime) else { return times };
            runtime.block_on(async {
                tokio::time::sleep(Duration::from_millis(times as u64 % 7)).await;
                if times % 3 != 0 {
                    workers.give_back().await;
                }
            });
            times += 1;
        }
        times
    });
    for _ in 0..5 {
        run(exchange());
    }
    drop(stop);
    let times = coming_and_going.join().unwrap();
    assert!(times > 0 || !has_the_edit());
}
