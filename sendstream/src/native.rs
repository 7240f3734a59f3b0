//! Plain wrappers over MsQuic: the API table, registrations, configurations, parameters, addresses,
//! and the background thread.
//!
//! Nothing here knows the protocol of a stream or a connection. `driver` does.

pub(crate) mod address;
pub(crate) mod api;
pub(crate) mod background;
pub(crate) mod budget;
pub(crate) mod configuration;
pub(crate) mod deadline;
pub(crate) mod fork;
pub(crate) mod given;
pub(crate) mod handle;
pub(crate) mod info;
pub(crate) mod key_log;
#[cfg(all(feature = "tokio", unix))]
pub(crate) mod lending;
pub(crate) mod library;
pub(crate) mod live;
pub(crate) mod logs;
pub(crate) mod parameter;
#[cfg(feature = "qlog")]
pub(crate) mod qlog;
pub(crate) mod received;
pub(crate) mod registration;
pub(crate) mod retry;
pub(crate) mod secrets;
pub(crate) mod settings;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod ticket;
