//! The plain wrappers over MsQuic: its API table, registrations, configurations, and what closes handles.
//!
//! Nothing here knows about streams or connections as protocols; those are `stream/` and `connection/`.

pub(crate) mod api;
