//! HTTP/3 end to end: h3's clients and servers on Sendstream and on quinn, axum, and tonic.

mod early;
mod examples;
mod grpc;
mod interop;
mod serving;
mod shutdown;
mod site;
#[path = "../../../sendstream/tests/support/mod.rs"]
mod support;
mod transport;
