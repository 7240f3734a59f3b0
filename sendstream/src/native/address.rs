//! Socket addresses as MsQuic takes and gives them: `QUIC_ADDR` is a `sockaddr`.

use std::{ffi::c_void, mem, net::SocketAddr, ptr};

use sendstream_sys as sys;
use socket2::{SockAddr, SockAddrStorage};

use crate::{
    native::{api::call, parameter},
    types::error::NativeError,
};

/// A `QUIC_ADDR` of our own.
pub(crate) struct Address(SockAddr);

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(address.into())
    }
}

impl Address {
    /// How many bytes a `QUIC_ADDR` has: as many as its largest member.
    pub(crate) const SIZE: usize = mem::size_of::<libc::sockaddr_in6>();

    /// For MsQuic to read [`Self::SIZE`] bytes from: the storage behind it is larger.
    pub(crate) fn as_ptr(&self) -> *const sys::QUIC_ADDR {
        self.0.as_ptr().cast()
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.0.as_socket().map_or(0, |address| address.port())
    }

    /// Reads what MsQuic wrote.
    ///
    /// # Safety
    ///
    /// `address` is null or points to a `QUIC_ADDR`.
    pub(crate) unsafe fn read(address: *const sys::QUIC_ADDR) -> Option<SocketAddr> {
        if address.is_null() {
            return None;
        }
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: a `QUIC_ADDR` has this many bytes, as the caller promises, and the storage is
        // larger.
        unsafe { ptr::copy_nonoverlapping(address.cast::<u8>(), (&raw mut storage).cast::<u8>(), Self::SIZE) };
        // SAFETY: the storage holds a whole address, of a family that `as_socket` looks at first.
        let address = unsafe { SockAddr::new(storage, Self::SIZE as libc::socklen_t) };
        address.as_socket()
    }
}

/// Asks an object for a parameter that is an address.
///
/// # Safety
///
/// `handle` is open, and asking it for `parameter`, which is an address, does not wait here.
pub(crate) unsafe fn address_parameter(handle: sys::HQUIC, parameter: u32) -> Option<SocketAddr> {
    let mut storage = [0u64; Address::SIZE.div_ceil(size_of::<u64>())];
    let mut length = Address::SIZE as u32;
    let place = storage.as_mut_ptr().cast::<c_void>();
    // SAFETY: the handle is open, as the caller promises, and `place` has the bytes that an address
    // has.
    let status = unsafe { call!(GetParam(handle, parameter, &mut length, place)) };
    NativeError::check(status).ok()?;
    // SAFETY: MsQuic wrote a whole `QUIC_ADDR` there.
    unsafe { Address::read(place.cast_const().cast()) }
}

/// Lets a client's connection go on over the path between these two addresses
/// (`QUIC_PARAM_CONN_ACTIVATE_PATH`), over a socket of its own. It waits until the connection's
/// worker gets to it.
///
/// # Safety
///
/// `connection` is open and a connection.
pub(crate) unsafe fn activate_path(
    connection: sys::HQUIC,
    local: SocketAddr,
    remote: SocketAddr,
) -> Result<(), NativeError> {
    let (local, remote) = (Address::from(local), Address::from(remote));
    let path = PathParameter { local: local.as_ptr(), remote: remote.as_ptr() };
    // SAFETY: the handle is open, as the caller promises. `path` and its addresses outlive the
    // call, which waits for the worker and keeps none of them.
    unsafe { parameter::set(connection, PARAM_CONN_ACTIVATE_PATH, &path) }
}

/// `QUIC_PATH_PARAM` of msquic.h 2.6; the bindings are of 2.5.
#[repr(C)]
struct PathParameter {
    local: *const sys::QUIC_ADDR,
    remote: *const sys::QUIC_ADDR,
}

/// `QUIC_PARAM_CONN_ACTIVATE_PATH` of msquic.h 2.6.
const PARAM_CONN_ACTIVATE_PATH: u32 = 0x0500_001F;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_through_c() {
        for text in ["127.0.0.1:4433", "[::1]:1", "0.0.0.0:0", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            let native = Address::from(address);
            // SAFETY: `native` is a `QUIC_ADDR`.
            assert_eq!(unsafe { Address::read(native.as_ptr()) }, Some(address));
        }
        // SAFETY: null is allowed.
        assert_eq!(unsafe { Address::read(ptr::null()) }, None);
    }
}
