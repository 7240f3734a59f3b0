//! What handlers and clients of a served application see.

use axum::{
    Router,
    extract::ConnectInfo,
    routing::{get, post},
};
use bytes::Bytes;
use http::StatusCode;

use crate::site::{self, Asking, Site, run};

#[test]
fn a_router_is_served_and_its_clients_are_known_by_address() {
    run(async {
        let app = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/who", get(|ConnectInfo(who): ConnectInfo<std::net::SocketAddr>| async move { who.to_string() }))
            .route("/echo", post(|body: Bytes| async { body }));
        let site = Site::new(app);
        let client = site.client();
        let asking = Asking::new(&client, site.address).await;
        let hello = asking.get("/").await;
        assert_eq!((hello.status(), &hello.body()[..]), (StatusCode::OK, &b"hello"[..]));
        assert!(hello.headers().contains_key("date"));
        let who = asking.get("/who").await;
        assert_eq!(who.body(), &asking.connection.local_addr().unwrap().to_string());
        let echoed = asking.ask(site::post("/echo", vec![7; 100_000])).await.unwrap();
        assert!(echoed.body() == &vec![7; 100_000]);
        assert_eq!(asking.get("/nothing").await.status(), StatusCode::NOT_FOUND);
        site.end().await;
        assert!(asking.over.await.unwrap().is_h3_no_error());
    });
}
