//! A connection, from the calls of the public API to MsQuic's events.

pub(crate) mod datagrams;
pub(crate) mod events;
pub(crate) mod instance;
pub(crate) mod judge;
mod nudge;
pub(crate) mod owner;
pub(crate) mod path;
pub(crate) mod state;
pub(crate) mod tickets;
pub(crate) mod waits;
