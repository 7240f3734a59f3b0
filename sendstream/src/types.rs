//! The values of the public API: settings, identities, errors, numbers. No handle, no thread, no
//! task.

pub(crate) mod code;
pub(crate) mod config;
pub(crate) mod error;
pub(crate) mod exporter;
pub(crate) mod native_info;
pub(crate) mod payload;
pub(crate) mod rebind;
pub(crate) mod resumption;
pub(crate) mod server_name;
pub(crate) mod socket;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod system;
pub(crate) mod text;
pub(crate) mod tls;
