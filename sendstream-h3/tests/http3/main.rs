//! HTTP/3 end to end: h3's clients and servers on Sendstream and on quinn, axum, and tonic.

mod serving;
mod site;
#[path = "../../../sendstream/tests/support/mod.rs"]
mod support;
