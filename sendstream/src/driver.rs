//! Between MsQuic and the public API: owners of handles, event handlers, wakes, turns. The unsafe code that is not in `native`.

pub(crate) mod callback;
pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod local_task;
pub(crate) mod stream;
pub(crate) mod turn;
pub(crate) mod wakes;
