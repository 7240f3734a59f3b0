//! A connection, from the calls of the public API to MsQuic's events.

pub(crate) mod datagram;
pub(crate) mod inner;
pub(crate) mod instance;
pub(crate) mod judging;
pub(crate) mod local;
mod nudge;
pub(crate) mod path;
pub(crate) mod resuming;
pub(crate) mod state;
pub(crate) mod waits;
