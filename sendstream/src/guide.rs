//! How to: a page for each question, each with a program that runs when it is pasted.
//!
//! | page | what it answers |
//! | --- | --- |
//! | [`sending`] | which call to send with |
//! | [`cancellation`] | what a dropped future leaves behind, and time limits |
//! | [`backpressure`] | bounded memory, and progress for people |
//! | [`shutdown`] | ending in good order |
//! | [`certificates`] | self-signed, an authority, mutual TLS, pins, changes |
//! | [`timeouts`] | idle, handshake, keep-alive |
//! | [`zero_rtt`] | resumption, and a request in the first packet |
//! | [`many_connections`] | descriptors, memory, UDP buffers |
//! | [`deployment`] | behind a balancer, panics, what to watch |
//! | [`troubleshooting`] | errors by their text |
//! | [`coming_from_quinn`] | what is different, and each item's counterpart |
//!
//! The programs need these lines in `Cargo.toml`:
//!
//! ```toml
//! sendstream = { version = "0.1", features = ["tokio"] }
//! tokio = { version = "1", features = ["full"] }
//! ```

#![expect(unused_imports, reason = "names that the pages link to")]

use crate::*;

#[doc = include_str!("guide/sending.md")]
pub mod sending {}
#[doc = include_str!("guide/cancellation.md")]
pub mod cancellation {}
#[doc = include_str!("guide/backpressure.md")]
pub mod backpressure {}
#[doc = include_str!("guide/shutdown.md")]
pub mod shutdown {}
#[doc = include_str!("guide/certificates.md")]
pub mod certificates {}
#[doc = include_str!("guide/timeouts.md")]
pub mod timeouts {}
#[doc = include_str!("guide/zero_rtt.md")]
pub mod zero_rtt {}
#[doc = include_str!("guide/many_connections.md")]
pub mod many_connections {}
#[doc = include_str!("guide/deployment.md")]
pub mod deployment {}
#[doc = include_str!("guide/troubleshooting.md")]
pub mod troubleshooting {}
#[doc = include_str!("guide/coming_from_quinn.md")]
#[doc = include_str!("guide/quinn.md")]
pub mod coming_from_quinn {}
