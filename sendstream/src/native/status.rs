//! Numbers that the event handlers answer and close with.

use sendstream_sys as sys;

use crate::types::status;

/// "It is taken, and a call will say when it is done with": `QUIC_STATUS_PENDING`.
pub(crate) const PENDING: sys::QUIC_STATUS = status::PENDING;

/// INTERNAL_ERROR, a transport error code (RFC 9000 §20.1).
pub(crate) const INTERNAL_ERROR: u64 = 0x1;
