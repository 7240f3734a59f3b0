//! [`ListenerInner`]: what MsQuic's events do to a listener.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Instant,
};

use sendstream_core::foreign::contain;
use sendstream_sys as sys;
use tracing::field;

use crate::{
    driver::{
        callback::Next,
        connection::{deadline::Deadline, events::bytes, hold::User, owner::ConnectionInstance},
        listener::queue::{IncomingQueue, NewConnection},
    },
    native::{address::Address, live::LiveHandles},
    types::error::NativeError,
};

/// What MsQuic and the server share of one listener, beside its handle.
#[derive(Debug)]
pub(crate) struct ListenerInner {
    /// Where its connections wait, with those of the server's other listeners.
    queue: Arc<IncomingQueue>,
    /// With the port that the system chose. Written by: the start.
    local_addr: OnceLock<SocketAddr>,
    live: LiveHandles,
}

impl ListenerInner {
    /// A listener that was not started.
    pub(super) fn new(queue: Arc<IncomingQueue>, live: LiveHandles) -> Self {
        Self { queue, local_addr: OnceLock::new(), live }
    }

    /// Says where it listens, once it does.
    pub(super) fn set_local_addr(&self, address: SocketAddr) {
        let _ = self.local_addr.set(address);
    }

    /// The address that it was bound to.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr.get().copied()
    }

    /// Logs `what` has become of it. A subscriber that panics must keep nobody from stopping it
    /// later.
    pub(super) fn log(&self, what: &'static str) {
        contain("the log", || tracing::debug!(local = self.local_addr().map(field::display), "{what}"));
    }

    /// Warns of the first connection that was refused, and then each time that their number has
    /// doubled: whoever floods the server must not flood its log.
    fn log_refusal(&self, refused: u64) {
        let local = self.local_addr().map(field::display);
        if refused.is_power_of_two() {
            // MsQuic takes the answer to a panic for "taken", and the process ends: nobody took the
            // connection.
            contain("the log", || {
                tracing::warn!(local, refused, "connections are refused: nobody accepts those that wait");
            });
        }
    }

    /// Dispatches one event to its handler.
    ///
    /// # Safety
    ///
    /// `event` is valid as MsQuic passes it to the callback of the listener that this is the inner
    /// part of.
    pub(super) unsafe fn callback_handler_impl(&self, event: &sys::QUIC_LISTENER_EVENT) -> Next {
        match event.Type {
            sys::QUIC_LISTENER_EVENT_TYPE_QUIC_LISTENER_EVENT_NEW_CONNECTION => {
                // SAFETY: the type says that this member of the union is set.
                let data = unsafe { &event.__bindgen_anon_1.NEW_CONNECTION };
                // SAFETY: these are the event's, during the event.
                Next::Return(unsafe { self.handle_event_new_connection(&*data.Info, data.Connection) })
            }
            sys::QUIC_LISTENER_EVENT_TYPE_QUIC_LISTENER_EVENT_STOP_COMPLETE => Next::Release,
            // Whatever a later MsQuic adds.
            _ => Next::Return(0),
        }
    }

    /// QUIC_LISTENER_EVENT_NEW_CONNECTION: a client's first packet. Taken if the backlog has room,
    /// else refused.
    ///
    /// # Safety
    ///
    /// The arguments are those of the event, during the event.
    unsafe fn handle_event_new_connection(
        &self,
        info: &sys::QUIC_NEW_CONNECTION_INFO,
        connection: sys::HQUIC,
    ) -> sys::QUIC_STATUS {
        // SAFETY: the event's addresses are valid during the event.
        let addresses = unsafe { (Address::read(info.RemoteAddress), Address::read(info.LocalAddress)) };
        // SAFETY: the event says that this many bytes are there, valid during the event.
        let alpn = unsafe { bytes(info.ClientAlpnList, info.ClientAlpnListLength.into()) };
        // The client's own words, so they may be anything.
        let ((Some(remote_addr), Some(local_addr)), Some(alpn)) = (addresses, parse_alpn(alpn)) else {
            return NativeError::CONNECTION_REFUSED.status();
        };
        if let Err(refused) = self.queue.reserve(remote_addr) {
            self.log_refusal(refused);
            return NativeError::CONNECTION_REFUSED.status();
        }
        // SAFETY: the event says that this many bytes are there, valid during the event.
        let server_name = unsafe { bytes(info.ServerName.cast(), info.ServerNameLength.into()) };
        let server_name = String::from_utf8_lossy(server_name).into_owned();
        // SAFETY: the connection is the event's, and success is what this function returns from
        // here on.
        let instance = unsafe { ConnectionInstance::take_over(connection, self.queue.logs.clone(), self.live.enter()) };
        instance.inner().name_server(remote_addr, Some(local_addr), &server_name);
        // On the worker, so it runs in place.
        let address_validated = instance.is_address_validated();
        let arrived = Instant::now();
        let queue = Arc::downgrade(&self.queue);
        let deadline = Deadline::set_and_then(&instance, arrived + self.queue.timeout, move || {
            if let Some(queue) = queue.upgrade() {
                queue.sweep();
            }
        });
        let user = User::new(instance);
        self.queue.push(NewConnection {
            user,
            remote_addr,
            local_addr,
            address_validated,
            server_name,
            alpn,
            arrived,
            deadline,
        });
        0
    }
}

/// The protocols in a client's list (RFC 7301 §3.1, without the length in front), which comes as it
/// was received: `None` if its lengths do not add up.
fn parse_alpn(mut list: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut protocols = Vec::new();
    while let Some((length, rest)) = list.split_first() {
        let (protocol, rest) = rest.split_at_checked(usize::from(*length))?;
        if protocol.is_empty() {
            return None;
        }
        protocols.push(protocol.to_vec());
        list = rest;
    }
    Some(protocols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_protocols_come_in_its_order() {
        assert_eq!(parse_alpn(b"\x02h3\x04demo"), Some(vec![b"h3".to_vec(), b"demo".to_vec()]));
        assert_eq!(parse_alpn(b""), Some(Vec::new()));
        let longest = [&[255][..], &[b'x'; 255]].concat();
        assert_eq!(parse_alpn(&longest), Some(vec![vec![b'x'; 255]]));
    }

    #[test]
    fn a_list_whose_lengths_do_not_add_up_is_no_list() {
        for list in [&b"\x02h"[..], b"\x03h3", b"\x02h3\x01", b"\x00", b"\x02h3\x00", b"\xff"] {
            assert_eq!(parse_alpn(list), None, "{list:?}");
        }
    }
}
