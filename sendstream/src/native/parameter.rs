//! Asks for parameters of connections and streams that are C structures, and sets parameters.

use std::{mem, ptr};

use sendstream_sys as sys;

use crate::{native::api::call, types::error::NativeError};

/// A struct that MsQuic fills for one of its parameters.
///
/// # Safety
///
/// The parameter [`ID`](Self::ID) has this layout, and every bit pattern of it, zeros too, is a
/// value.
pub(crate) unsafe trait Parameter: Sized {
    /// MsQuic's number for it.
    const ID: u32;
}

// SAFETY: the binding of that parameter's struct, of integers only.
unsafe impl Parameter for sys::QUIC_STATISTICS_V2 {
    const ID: u32 = sys::QUIC_PARAM_CONN_STATISTICS_V2;
}

// SAFETY: the binding of that parameter's struct, of integers only.
unsafe impl Parameter for sys::QUIC_NETWORK_STATISTICS {
    const ID: u32 = sys::QUIC_PARAM_CONN_NETWORK_STATISTICS;
}

// SAFETY: the binding of that parameter's struct, of integers only.
unsafe impl Parameter for sys::QUIC_HANDSHAKE_INFO {
    const ID: u32 = sys::QUIC_PARAM_TLS_HANDSHAKE_INFO;
}

// SAFETY: the binding of that parameter's struct, of integers only.
unsafe impl Parameter for sys::QUIC_STREAM_STATISTICS {
    const ID: u32 = sys::QUIC_PARAM_STREAM_STATISTICS;
}

// SAFETY: one integer, as declared in msquic_sendstream.h.
unsafe impl Parameter for SmoothedRtt {
    const ID: u32 = sys::QUIC_PARAM_CONN_SMOOTHED_RTT;
}

// SAFETY: one integer, as declared in msquic_sendstream.h.
unsafe impl Parameter for AddressValidated {
    const ID: u32 = sys::QUIC_PARAM_CONN_ADDRESS_VALIDATED;
}

// SAFETY: one integer, as msquic.h says of `QUIC_PARAM_STREAM_ID`.
unsafe impl Parameter for StreamId {
    const ID: u32 = sys::QUIC_PARAM_STREAM_ID;
}

#[cfg(test)]
// SAFETY: the binding of that parameter's struct, of integers and bit fields only.
unsafe impl Parameter for sys::QUIC_SETTINGS {
    const ID: u32 = sys::QUIC_PARAM_CONN_SETTINGS;
}

/// A connection's smoothed round-trip time, in microseconds. Asking for it waits for nobody, where
/// MsQuic has the edit `smoothed-rtt-in-place`; elsewhere it is refused, on the worker.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct SmoothedRtt(pub(crate) u32);

/// Whether a server's client has proved its address; refused where MsQuic lacks the edit
/// `validated-address-told`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddressValidated(pub(crate) u8);

/// A stream's id.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamId(pub(crate) u64);

/// Asks for a parameter (`GetParam`). It waits until the connection's worker gets to it, unless
/// called on that worker.
///
/// # Safety
///
/// `handle` is open, and of the kind that has the parameter.
pub(crate) unsafe fn get<P: Parameter>(handle: sys::HQUIC) -> Result<P, NativeError> {
    // SAFETY: zeros are a value, as `Parameter` promises.
    let mut value = unsafe { mem::zeroed::<P>() };
    let mut length = size_of::<P>() as u32;
    // SAFETY: the handle is open, as the caller promises, and `value` has `length` bytes of the
    // parameter's layout.
    let status = unsafe { call!(GetParam(handle, P::ID, &mut length, (&raw mut value).cast())) };
    NativeError::check(status)?;
    Ok(value)
}

/// Sets a parameter (`SetParam`). One of a connection or a stream waits until the worker gets to it,
/// unless called on that worker.
///
/// # Safety
///
/// `handle` is open and of the kind that has the parameter, or null for one of the whole library.
/// `value` is what the parameter holds, and MsQuic copies it.
pub(crate) unsafe fn set<T: ?Sized>(handle: sys::HQUIC, parameter: u32, value: &T) -> Result<(), NativeError> {
    let length = u32::try_from(size_of_val(value)).map_err(|_| NativeError::INVALID_PARAMETER)?;
    // SAFETY: as the caller promises; `value` has `length` bytes, and outlives the call.
    NativeError::check(unsafe { call!(SetParam(handle, parameter, length, ptr::from_ref(value).cast())) })
}
