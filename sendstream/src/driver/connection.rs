//! A connection, from the calls of the public API to MsQuic's events.
//!
//! - **`owner.rs`** ([`ConnectionInstance`](owner::ConnectionInstance)) owns the handle and makes
//!   the calls; `start`, `migrate`, `tickets`, `datagrams`, `reason`, `rtt` and `nudge` have those
//!   of one concern each.
//! - **`events.rs`** ([`ConnectionInner`](events::ConnectionInner)) receives MsQuic's events.
//! - **`state.rs`** is the state that events and calls change. It knows neither MsQuic nor locks.
//! - **`hold.rs`** keeps a connection up; **`deadline.rs`** ends a handshake that takes too long;
//!   **`judge.rs`** drives a verifier; **`waits.rs`** is what tasks wait for.

pub(crate) mod datagrams;
pub(crate) mod deadline;
pub(crate) mod events;
pub(crate) mod hold;
pub(crate) mod judge;
mod lent_datagram;
mod migrate;
pub(crate) mod nudge;
pub(crate) mod owner;
mod reason;
mod rtt;
pub(crate) mod shared;
mod start;
pub(crate) mod state;
mod tickets;
pub(crate) mod waits;
