//! The protocol state behind [Sendstream](https://docs.rs/sendstream): what has been said to the transport, what it has said
//! back, and who waits for what.
//!
//! This crate calls no transport and no C. A state machine's transition returns the tasks to wake ([`wait::Wakeups`]); its
//! caller drops the lock first. Use `sendstream`: what is here may change with any release of it.

#![forbid(unsafe_code)]

pub mod accept;
pub mod connection;
pub mod datagrams;
pub mod dir;
pub mod foreign;
pub mod path;
pub mod stream;
#[cfg(any(test, fuzzing, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod wait;
