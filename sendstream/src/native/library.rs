//! Parameters of the library as a whole, once it was started.

use std::time::Duration;

use sendstream_sys as sys;

use crate::{
    native::{
        api::{call, execution_config},
        parameter,
    },
    types::{config::LoadBalancing, error::NativeError},
};

/// Reads a parameter of the library as a whole into `place`; returns how many bytes it has.
pub(crate) fn get<T: Copy, const N: usize>(parameter: u32, place: &mut [T; N]) -> Result<usize, NativeError> {
    let mut length = size_of_val(place) as u32;
    // SAFETY: no handle is needed for a global parameter, and `place` has `length` bytes; the
    // callers pass plain integers and pointers, of which every bit pattern is valid, or the struct
    // that the parameter is.
    let status = unsafe { call!(GetParam(std::ptr::null_mut(), parameter, &mut length, place.as_mut_ptr().cast())) };
    NativeError::check(status)?;
    Ok(length as usize)
}

/// Whether the process has a socket of MsQuic's, so that the form of its connection ids is settled.
pub(crate) fn is_in_use() -> Result<bool, NativeError> {
    let mut in_use = [0u8];
    get(PARAM_GLOBAL_IN_USE, &mut in_use)?;
    Ok(in_use != [0])
}

/// Says how many 65535ths of memory handshakes may take before clients must prove their address.
pub(crate) fn set_retry_memory(fraction: u16) -> Result<(), NativeError> {
    set(sys::QUIC_PARAM_GLOBAL_RETRY_MEMORY_PERCENT, &fraction)
}

/// Says how many handshakes may be under way before clients must prove their address, whatever memory
/// they take; 0 for any number.
pub(crate) fn set_retry_handshakes(count: u32) -> Result<(), NativeError> {
    set(sys::QUIC_PARAM_GLOBAL_RETRY_HANDSHAKES, &count)
}

/// Frees what MsQuic keeps for later.
pub(crate) fn empty_pools() -> Result<(), NativeError> {
    set(sys::QUIC_PARAM_GLOBAL_EMPTY_POOLS, &1_u8)
}

/// Has the C library give free memory back to the system, where it has a function for that.
pub(crate) fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: glibc's function may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Says what a load balancer can read from connection ids.
pub(crate) fn set_load_balancing(balancing: LoadBalancing) -> Result<(), NativeError> {
    let (mode, id) = match balancing {
        LoadBalancing::Off => (sys::QUIC_LOAD_BALANCING_MODE_QUIC_LOAD_BALANCING_DISABLED, [0; 4]),
        LoadBalancing::ServerAddress => (sys::QUIC_LOAD_BALANCING_MODE_QUIC_LOAD_BALANCING_SERVER_ID_IP, [0; 4]),
        LoadBalancing::ServerId(id) => (sys::QUIC_LOAD_BALANCING_MODE_QUIC_LOAD_BALANCING_SERVER_ID_FIXED, id),
    };
    // Bits 1 and 2 of IsSet in `struct QUIC_GLOBAL_SETTINGS` of msquic.h.
    const MODE_AND_ID: u64 = 0b110;
    let settings = sys::QUIC_GLOBAL_SETTINGS {
        __bindgen_anon_1: sys::QUIC_GLOBAL_SETTINGS__bindgen_ty_1 { IsSetFlags: MODE_AND_ID },
        RetryMemoryLimit: 0,
        LoadBalancingMode: mode as u16,
        // MsQuic copies the number into connection ids as it lies in memory.
        FixedServerID: u32::from_ne_bytes(id),
    };
    set(sys::QUIC_PARAM_GLOBAL_GLOBAL_SETTINGS, &settings)
}

/// Says how long workers poll before they sleep.
pub(crate) fn set_polling_idle_timeout(timeout: Duration) -> Result<(), NativeError> {
    set(sys::QUIC_PARAM_GLOBAL_EXECUTION_CONFIG, &execution_config(timeout))
}

/// Sets a parameter of the library as a whole, which was started.
fn set<T: Copy>(parameter: u32, value: &T) -> Result<(), NativeError> {
    // SAFETY: null stands for the library, and the callers pass what their parameter holds, which
    // MsQuic copies.
    unsafe { parameter::set(std::ptr::null_mut(), parameter, value) }
}

/// `QUIC_PARAM_GLOBAL_IN_USE` of msquicp.h: whether the process has a socket of MsQuic's.
const PARAM_GLOBAL_IN_USE: u32 = 0x8100_0004;
