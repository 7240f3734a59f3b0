//! Requests in 0-RTT packets.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use axum::{Extension, Router, routing::any};
use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use sendstream_h3::{Connection, EarlyData, EarlyRequests};

use crate::{
    site::{self, Asking, Site, run},
    support::relay::{Faults, Relay},
};

/// What the application answered to a GET and to a POST that both came before the handshake was
/// done: which of the two were called before the relay let it go on, and what they answered.
async fn early(early: EarlyRequests) -> (usize, [(StatusCode, Bytes); 2]) {
    let called = Arc::new(AtomicUsize::new(0));
    let calls = called.clone();
    let handler = move |early: Option<Extension<EarlyData>>| {
        calls.fetch_add(1, SeqCst);
        async move { if early.is_some() { "early" } else { "late" } }
    };
    let site = Site::with(Router::new().route("/", any(handler)), |serve| serve.early_requests(early));
    let client = site.client();
    let first = Asking::new(&client, site.address).await;
    assert_eq!(first.get("/").await.body(), "late");
    first.connection.session_ticket().await.unwrap();
    called.store(0, SeqCst);

    // Until the gate opens the handshake cannot be done, so whatever arrives is early.
    let relay = Relay::start(site.address, Faults::none());
    relay.close_gate();
    let connection = client.connect_0rtt(relay.address(), "localhost").await.unwrap();
    assert!(connection.offered_0rtt());
    let (mut driver, requests) = h3::client::new(Connection::early(connection)).await.unwrap();
    let driving = tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
    let asking = async {
        // On its way before the other, whose call is what opens the gate.
        let mut sending = requests.clone();
        let mut post = sending.send_request(site::post("/", "").map(drop)).await.unwrap();
        post.finish().await.unwrap();
        let get = site::ask(requests.clone(), site::get("/")).await.unwrap();
        let status = post.recv_response().await.unwrap().status();
        let mut body = BytesMut::new();
        while let Some(mut data) = post.recv_data().await.unwrap() {
            body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        [(get.status(), get.into_body()), (status, body.freeze())]
    };
    let expected = match early {
        EarlyRequests::Safe => 1,
        EarlyRequests::All => 2,
        _ => 0,
    };
    let opening = async {
        // Where none is expected there is no event: the answers tell.
        while called.load(SeqCst) < expected {
            tokio::task::yield_now().await;
        }
        let called = called.load(SeqCst);
        relay.open_gate();
        called
    };
    let (answers, called) = futures::join!(asking, opening);
    drop(requests);
    driving.await.unwrap();
    site.end().await;
    (called, answers)
}

#[test]
fn early_requests_wait_for_the_handshake_unless_said_otherwise() {
    run(async {
        let (called, answers) = early(EarlyRequests::default()).await;
        assert_eq!(called, 0);
        assert_eq!(answers, [(StatusCode::OK, "late".into()), (StatusCode::OK, "late".into())]);
    });
}

#[test]
fn early_requests_with_safe_methods_are_served_and_others_are_too_early() {
    run(async {
        let (called, answers) = early(EarlyRequests::Safe).await;
        assert_eq!(called, 1);
        assert_eq!(answers, [(StatusCode::OK, "early".into()), (StatusCode::TOO_EARLY, Bytes::new())]);
    });
}

#[test]
fn all_early_requests_are_served_where_that_is_wanted_and_can_be_recognized() {
    run(async {
        let (called, answers) = early(EarlyRequests::All).await;
        assert_eq!(called, 2);
        assert_eq!(answers, [(StatusCode::OK, "early".into()), (StatusCode::OK, "early".into())]);
    });
}
