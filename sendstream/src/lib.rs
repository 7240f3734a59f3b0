//! Async QUIC on MsQuic.
mod error;
mod native;
pub use error::{ConnectionError, NativeError};
