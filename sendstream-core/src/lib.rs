//! The protocol's state machines behind [Sendstream](https://docs.rs/sendstream): the calls made,
//! the events received, and the tasks that wait.
//!
//! This crate calls no transport and no C. A state machine's transition returns the tasks to wake
//! ([`wait::Wakeups`]); its caller drops the lock first. Use `sendstream`: what is here may change
//! with any release of it.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod accept;
pub mod budget;
pub mod connection;
pub mod datagrams;
pub mod dir;
pub mod flight;
pub mod foreign;
pub mod path;
pub mod stream;
#[cfg(any(test, fuzzing, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod wait;
