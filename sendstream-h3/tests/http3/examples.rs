//! The examples, as their readers run them.

#[allow(dead_code, reason = "its `main` is for the example")]
#[path = "../../examples/axum.rs"]
mod axum_app;
#[allow(dead_code, reason = "its `main` is for the example")]
#[path = "../../examples/grpc.rs"]
mod grpc_service;

use crate::site::run;

#[test]
fn the_axum_example_answers_its_client() {
    run(async { assert_eq!(axum_app::demo().await.unwrap(), "Hello, world, over HTTP/3.0") });
}

#[test]
fn the_grpc_example_answers_its_client() {
    run(async { assert_eq!(grpc_service::demo().await.unwrap(), "Hello, world") });
}
