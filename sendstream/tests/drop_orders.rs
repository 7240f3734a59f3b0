//! Whatever is dropped first, nothing hangs and nothing is left.

mod support;

use std::{
    any::Any,
    sync::{Arc, Mutex},
    task::{Context, Wake, Waker},
};

use futures::FutureExt;
use sendstream::{Registration, SendStream};
use support::{Endpoints, Pair, any_port, connect, run};

/// One of everything, alive: registration handle, endpoints, both ends of a connection, both halves
/// of a busy stream, a chunk that was read, and a stream that never started.
async fn everything(registration: &Registration) -> Vec<Box<dyn Any + Send>> {
    let identity = support::identity();
    let server = support::server(&identity).registration(registration).bind(any_port()).unwrap();
    let client = support::client(&identity).registration(registration).build().unwrap();
    let (near, far) = connect(&client, &server).await;
    let mut send = near.open_uni().unwrap();
    drop(send.send(vec![1; 100_000]));
    let mut recv = far.accept_uni().await.unwrap();
    let chunk = recv.read_chunk().await.unwrap().unwrap();
    let unstarted = near.open_bi().unwrap();
    vec![
        Box::new(server),
        Box::new(client),
        Box::new(near),
        Box::new(far),
        Box::new(send),
        Box::new((recv, unstarted)),
        Box::new(chunk),
    ]
}

/// All orders of `length` things, by Heap's algorithm.
fn orders(length: usize) -> Vec<Vec<usize>> {
    fn permute(k: usize, order: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
        if k <= 1 {
            all.push(order.clone());
            return;
        }
        for i in 0..k {
            permute(k - 1, order, all);
            let other = if k.is_multiple_of(2) { i } else { 0 };
            order.swap(other, k - 1);
        }
    }
    let mut all = Vec::new();
    permute(length, &mut (0..length).collect(), &mut all);
    all
}

#[test]
fn any_order_of_drops_leaves_no_native_handle() {
    // 5,040 orders; every 37th (a prime, so that each thing is dropped in each place) keeps the
    // test short.
    for order in orders(7).into_iter().step_by(37) {
        run(async move {
            let registration = Registration::new().unwrap();
            let mut things: Vec<_> = everything(&registration).await.into_iter().map(Some).collect();
            assert!(registration.wait_idle().now_or_never().is_none());
            for index in order {
                drop(things[index].take());
            }
            registration.wait_idle().await;
        });
    }
}

#[test]
fn things_may_be_dropped_by_many_threads_at_once() {
    for _ in 0..50 {
        run(async {
            let registration = Registration::new().unwrap();
            let things = everything(&registration).await;
            let threads: Vec<_> = things.into_iter().map(|thing| std::thread::spawn(move || drop(thing))).collect();
            for thread in threads {
                thread.join().unwrap();
            }
            registration.wait_idle().await;
        });
    }
}

#[test]
fn two_ends_that_finished_streams_which_nobody_accepts_do_not_wait_for_each_other() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        // More than the peer takes before somebody reads.
        let unread = vec![0; 3 << 20];
        for connection in [&client, &server] {
            let mut send = connection.open_uni().unwrap();
            drop(send.finish_with(unread.clone()));
            let (mut send, _recv) = connection.open_bi().unwrap();
            drop(send.finish_with(unread.clone()));
        }
        drop((client, server));
        endpoints.end().await;
    });
}

/// Finishes a stream and drops it, when woken.
struct Finishing(Mutex<Option<SendStream>>);

impl Wake for Finishing {
    fn wake(self: Arc<Self>) {
        if let Some(mut send) = self.0.lock().unwrap().take() {
            drop(send.finish_with(" and finished"));
        }
    }
}

#[test]
fn what_is_finished_while_the_other_half_is_being_dropped_still_arrives() {
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.connect().await;
        let (mut send, recv) = client.open_bi().unwrap();
        send.send("begun").await.unwrap();
        let (unanswered, mut received) = server.accept_bi().await.unwrap();
        // Now the stream's halves are all that holds the client's side.
        drop(client);
        let mut reset = Box::pin(recv.received_reset());
        let waker = Waker::from(Arc::new(Finishing(Mutex::new(Some(send)))));
        assert!(reset.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // Which wakes whoever waits for a reset, in the middle of it.
        drop(recv);
        assert_eq!(received.read_to_end(100).await.unwrap(), b"begun and finished");
        drop((reset, unanswered, received, server));
        endpoints.end().await;
    });
}
