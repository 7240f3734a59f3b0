//! Shutting down in good order.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use bytes::Bytes;
use futures::future::join_all;
use h3::error::{Code, StreamError};

use crate::{
    site::{self, Asking, Site, run},
    support::{figure, pattern},
    transport::{ends_of, raw_request},
};

/// How many requests were begun by the application, and not yet answered by it.
#[derive(Default)]
struct Counts {
    begun: AtomicUsize,
    answered: AtomicUsize,
}

#[test]
fn no_request_that_was_accepted_fails_when_a_busy_server_shuts_down() {
    run(async {
        let body = Bytes::from(pattern(100_000));
        let counts = Arc::new(Counts::default());
        let handler = {
            let (counts, body) = (counts.clone(), body.clone());
            move || {
                let (counts, body) = (counts.clone(), body.clone());
                async move {
                    let n = counts.begun.fetch_add(1, SeqCst);
                    // Different work, so that requests are in every state when the end comes.
                    tokio::time::sleep(Duration::from_millis(n as u64 % 20)).await;
                    counts.answered.fetch_add(1, SeqCst);
                    body
                }
            }
        };
        let mut site = Site::new(Router::new().route("/", get(handler)));
        let clients: Vec<_> = (0..4).map(|_| site.client()).collect();
        let whole = Arc::new(AtomicUsize::new(0));
        let mut asking = Vec::new();
        for client in &clients {
            let connection = Asking::new(client, site.address).await;
            for _ in 0..8 {
                let (requests, body, whole) = (connection.requests.clone(), body.clone(), whole.clone());
                asking.push(tokio::spawn(async move {
                    loop {
                        match site::ask(requests.clone(), site::get("/")).await {
                            Ok(response) => {
                                assert!(response.body() == &body);
                                whole.fetch_add(1, SeqCst);
                            }
                            Err(error) => return error,
                        }
                    }
                }));
            }
        }
        let in_flight = loop {
            let in_flight = counts.begun.load(SeqCst).saturating_sub(counts.answered.load(SeqCst));
            if whole.load(SeqCst) >= 200 && in_flight >= 4 {
                break in_flight;
            }
            tokio::task::yield_now().await;
        };
        site.shut_down();
        site.served().await;
        let mut refused = 0;
        for error in join_all(asking).await {
            match error.unwrap() {
                StreamError::RemoteClosing => {}
                StreamError::RemoteTerminate { code: Code::H3_REQUEST_REJECTED } => refused += 1,
                StreamError::ConnectionError(error) if error.is_h3_no_error() => {}
                error => panic!("{error:?}"),
            }
        }
        let (begun, answered, whole) = (counts.begun.load(SeqCst), counts.answered.load(SeqCst), whole.load(SeqCst));
        assert_eq!((answered, whole), (begun, begun), "begun, and not answered whole");
        figure(format_args!(
            "{in_flight} requests in flight at the signal, {begun} in all, {refused} late ones refused, none failed"
        ));
    });
}

#[test]
fn what_comes_after_the_goaway_is_refused_and_what_came_before_is_answered() {
    run(async {
        let (proceed, gate) = tokio::sync::watch::channel(false);
        let (began, begun) = tokio::sync::watch::channel(false);
        let handler = move || {
            let mut gate = gate.clone();
            began.send_replace(true);
            async move {
                gate.wait_for(|open| *open).await.unwrap();
                "answered"
            }
        };
        let mut site = Site::new(Router::new().route("/", get(handler)));
        let asking = Asking::new(&site.client(), site.address).await;
        let mut accepted = std::pin::pin!(site::ask(asking.requests.clone(), site::get("/")));
        let mut begun = begun;
        tokio::select! {
            _ = &mut accepted => panic!("nobody has answered yet"),
            begun = begun.wait_for(|begun| *begun) => drop(begun.unwrap()),
        }
        site.shut_down();
        // h3 asks no more once it has heard of the GOAWAY; then the final one may still be to come.
        while !matches!(asking.ask(site::get("/nothing")).await, Err(StreamError::RemoteClosing)) {}
        let rejected = Some(Code::H3_REQUEST_REJECTED.value());
        loop {
            let (send, mut recv) = raw_request(&asking.connection);
            // Those that came in a round trip's time were on their way already, and wait for the gate.
            let ends = tokio::select! {
                ends = ends_of(&send, &mut recv) => ends,
                () = tokio::time::sleep(Duration::from_millis(20)) => continue,
            };
            // A FIN that was acknowledged before the refusal came is no code.
            assert!(ends.1 == rejected && (ends.0 == rejected || ends.0.is_none()), "{ends:?}");
            break;
        }
        proceed.send(true).unwrap();
        assert_eq!(accepted.await.unwrap().body(), "answered");
        site.served().await;
        site::assert_no_error(&asking.over.await.unwrap());
    });
}

#[test]
fn what_does_not_end_is_cut_off_when_the_time_is_over() {
    run(async {
        let (began, mut begun) = tokio::sync::watch::channel(false);
        let handler = move || {
            began.send_replace(true);
            pending::<()>()
        };
        let app = Router::new().route("/", get(handler));
        let mut site = Site::with(app, |serve| serve.drain_timeout(Duration::from_millis(200)));
        let asking = Asking::new(&site.client(), site.address).await;
        let mut under_way = std::pin::pin!(site::ask(asking.requests.clone(), site::get("/")));
        tokio::select! {
            _ = &mut under_way => panic!("nobody answers"),
            begun = begun.wait_for(|begun| *begun) => drop(begun.unwrap()),
        }
        site.shut_down();
        site.served().await;
        assert!(under_way.await.is_err());
        site::assert_no_error(&asking.over.await.unwrap());
    });
}

#[test]
fn a_server_that_is_dropped_closes_its_connections() {
    run(async {
        let site = Site::new(Router::new().route("/", get(|| async { "well" })));
        let asking = Asking::new(&site.client(), site.address).await;
        asking.get("/").await;
        site.abort();
        site::assert_no_error(&asking.over.await.unwrap());
    });
}
