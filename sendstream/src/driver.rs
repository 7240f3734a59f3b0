//! Drives MsQuic for the public API: owners of handles, receivers of events, wakes, turns. It has
//! all unsafe code that is not in `native`.

pub(crate) mod callback;
pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod stream;
pub(crate) mod turn;
pub(crate) mod wakes;
pub(crate) mod worker_task;
