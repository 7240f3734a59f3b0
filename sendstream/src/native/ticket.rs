//! MsQuic's calls for session tickets: set their keys, send one, show one.

use sendstream_sys as sys;
use zeroize::Zeroize;

use crate::{
    native::{api::call, parameter},
    types::{error::NativeError, resumption::TicketKey},
};

/// Has the server's configuration encrypt tickets with the first key, and decrypt them with any
/// (`QUIC_PARAM_CONFIGURATION_TICKET_KEYS`). Before the configuration is used: MsQuic's workers
/// read the keys without a lock.
///
/// # Safety
///
/// `configuration` is open, has its credential, and no connection has it yet.
pub(crate) unsafe fn set_keys(configuration: sys::HQUIC, keys: &[TicketKey]) -> Result<(), NativeError> {
    let mut native: Vec<_> = keys.iter().map(native_key).collect();
    // SAFETY: the configuration is open, as the caller promises; the parameter is a list of keys,
    // which MsQuic copies.
    let set = unsafe { parameter::set(configuration, sys::QUIC_PARAM_CONFIGURATION_TICKET_KEYS, &native[..]) };
    native.iter_mut().for_each(|key| key.Material.zeroize());
    set
}

fn native_key(key: &TicketKey) -> sys::QUIC_TICKET_KEY_CONFIG {
    let (name, key) = key.derive();
    let mut native = sys::QUIC_TICKET_KEY_CONFIG { Id: name, Material: [0; 64], MaterialLength: key.len() as u8 };
    native.Material[..key.len()].copy_from_slice(&key[..]);
    native
}

/// Sends the client a ticket, the only one of this connection, whose TLS state goes then
/// (`ConnectionSendResumptionTicket`, which only queues).
///
/// # Safety
///
/// `connection` is open, and a server's.
pub(crate) unsafe fn send(connection: sys::HQUIC) -> Result<(), NativeError> {
    let flags = sys::QUIC_SEND_RESUMPTION_FLAGS_QUIC_SEND_RESUMPTION_FLAG_FINAL;
    // SAFETY: the connection is open, as the caller promises; no data goes along.
    let status = unsafe { call!(ConnectionSendResumptionTicket(connection, flags, 0, std::ptr::null())) };
    NativeError::check(status)
}

/// Has the client's connection begin with `ticket` (`QUIC_PARAM_CONN_RESUMPTION_TICKET`). It
/// blocks, and may bring an event of the connection. When it fails the connection is of no use:
/// part of the ticket may have been taken.
///
/// # Safety
///
/// `connection` is open, a client's, and was not started.
pub(crate) unsafe fn show(connection: sys::HQUIC, ticket: &[u8]) -> Result<(), NativeError> {
    // SAFETY: the connection is open, as the caller promises; the parameter is bytes, which MsQuic
    // copies.
    unsafe { parameter::set(connection, sys::QUIC_PARAM_CONN_RESUMPTION_TICKET, ticket) }
}
