//! Socket addresses as MsQuic takes and gives them: `QUIC_ADDR` is a `sockaddr`.

use std::{
    ffi::c_void,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    ptr,
};

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
        Self(plain(address).into())
    }
}

impl Address {
    /// How many bytes a `QUIC_ADDR` has: as many as its largest member, an IPv6 address.
    pub(crate) const SIZE: usize = size_of::<sys::QUIC_ADDR>();

    /// For MsQuic to read [`Self::SIZE`] bytes from: the storage behind it is larger.
    pub(crate) fn as_ptr(&self) -> *const sys::QUIC_ADDR {
        self.0.as_ptr().cast()
    }

    /// For MsQuic to copy. Shorter than the storage behind it.
    pub(crate) fn native(&self) -> &sys::QUIC_ADDR {
        // SAFETY: the storage is larger than a `QUIC_ADDR`, and aligned for each of its members, all
        // of which are integers. It is initialized.
        unsafe { &*self.as_ptr() }
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
        let address = unsafe { SockAddr::new(storage, Self::SIZE as _) };
        address.as_socket().map(shown)
    }
}

/// An IPv4 address that is written as one of IPv6 (`::ffff:192.0.2.1`), as the IPv4 address that it
/// is (RFC 4291 §2.5.5.2); any other as it is.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    let SocketAddr::V6(v6) = address else { return address };
    v6.ip().to_ipv4_mapped().map_or(address, |v4| SocketAddr::new(v4.into(), v6.port()))
}

/// An address of MsQuic's as people write it. MsQuic notes with each of IPv6 on which interface a
/// packet came, but only a link-local one needs that (RFC 4007 §6).
fn shown(address: SocketAddr) -> SocketAddr {
    match plain(address) {
        SocketAddr::V6(mut v6) if !v6.ip().is_unicast_link_local() => {
            v6.set_scope_id(0);
            v6.into()
        }
        address => address,
    }
}

/// Where a socket that is asked to be at `local` has to be to reach `remote`: the IPv6 wildcard
/// stands for that of IPv4 as well. `None` if the two are of different families.
pub(crate) fn towards(local: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
    let local = plain(local);
    match (local.is_ipv4(), plain(remote).is_ipv4()) {
        (false, true) if local.ip().is_unspecified() => {
            Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), local.port()))
        }
        (local_is_v4, remote_is_v4) => (local_is_v4 == remote_is_v4).then_some(local),
    }
}

/// Whether packets to the address are for many: a broadcast or multicast address. Systems bind
/// sockets to such, but nothing can be sent from them.
pub(crate) fn is_of_many(ip: IpAddr) -> bool {
    let ip = match ip {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => ip,
            None => return ip.is_multicast(),
        },
        IpAddr::V4(ip) => ip,
    };
    if ip.is_multicast() || ip.is_broadcast() {
        return true;
    }
    if ip.is_unspecified() {
        return false;
    }
    // Which addresses are a network's broadcast, the system knows: it lets nobody send there who has
    // not asked to.
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return false };
    let may_send = || socket.connect((ip, DISCARD_PORT)).is_ok();
    !may_send() && socket.set_broadcast(true).is_ok() && may_send()
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
    let path =
        sys::QUIC_PATH_PARAM { LocalAddress: local.as_ptr().cast_mut(), RemoteAddress: remote.as_ptr().cast_mut() };
    // SAFETY: the handle is open, as the caller promises. `path` and its addresses outlive the
    // call, which waits for the worker, changes none of them and keeps none.
    unsafe { parameter::set(connection, sys::QUIC_PARAM_CONN_ACTIVATE_PATH, &path) }
}

/// Any port; nothing is sent there.
const DISCARD_PORT: u16 = 9;

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

    #[test]
    fn a_mapped_address_is_one_of_ipv4_and_only_a_link_local_one_has_a_scope() {
        for (text, seen) in [
            ("[::ffff:192.0.2.1]:7", "192.0.2.1:7"),
            ("[::ffff:0.0.0.0]:7", "0.0.0.0:7"),
            ("[::192.0.2.1]:7", "[::192.0.2.1]:7"),
            ("[2001:db8::1%3]:7", "[2001:db8::1]:7"),
            ("[::1%1]:7", "[::1]:7"),
            ("[febf::1%3]:7", "[febf::1%3]:7"),
        ] {
            let native = Address::from(text.parse::<SocketAddr>().unwrap());
            // SAFETY: `native` is a `QUIC_ADDR`.
            assert_eq!(unsafe { Address::read(native.as_ptr()) }, Some(seen.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_ipv6_wildcard_reaches_both_families_and_nothing_else_does() {
        let towards = |local: &str, remote: &str| {
            towards(local.parse().unwrap(), remote.parse().unwrap()).map(|address| address.to_string())
        };
        assert_eq!(towards("[::]:5", "192.0.2.1:7"), Some("0.0.0.0:5".to_owned()));
        assert_eq!(towards("[::]:5", "[::ffff:192.0.2.1]:7"), Some("0.0.0.0:5".to_owned()));
        assert_eq!(towards("[::]:5", "[2001:db8::1]:7"), Some("[::]:5".to_owned()));
        assert_eq!(towards("[::ffff:127.0.0.1]:5", "192.0.2.1:7"), Some("127.0.0.1:5".to_owned()));
        assert_eq!(towards("0.0.0.0:5", "192.0.2.1:7"), Some("0.0.0.0:5".to_owned()));
        assert_eq!(towards("0.0.0.0:5", "[2001:db8::1]:7"), None);
        assert_eq!(towards("[::1]:5", "192.0.2.1:7"), None);
        assert_eq!(towards("127.0.0.1:5", "[2001:db8::1]:7"), None);
    }

    #[test]
    fn addresses_of_many_are_known() {
        let many = ["224.0.0.1", "239.1.2.3", "255.255.255.255", "ff02::1", "::ffff:224.0.0.1", "127.255.255.255"];
        for text in many {
            assert!(is_of_many(text.parse().unwrap()), "{text}");
        }
        let one = ["127.0.0.1", "127.0.0.9", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "192.0.2.1", "fe80::1"];
        for text in one {
            assert!(!is_of_many(text.parse().unwrap()), "{text}");
        }
    }
}
