//! One MsQuic listener: its handle and its events.

pub(crate) mod queue;

use std::{
    ffi::c_void,
    mem::ManuallyDrop,
    net::SocketAddr,
    ptr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use sendstream_sys as sys;
use tracing::field;

use crate::{
    driver::{
        connection::{events::bytes, instance::ConnectionInstance, owner::ConnectionInner},
        listener::queue::{IncomingQueue, NewConnection},
    },
    native::{
        address::{Address, address_parameter},
        api::call,
        background,
        configuration::Alpn,
        handle::Handle,
        live::{LiveGuard, LiveHandles},
    },
    types::error::NativeError,
};
use sendstream_core::foreign::contain;

/// A listener. MsQuic holds a reference from the start until STOP_COMPLETE, inside which the handle is closed.
#[derive(Debug)]
pub(crate) struct Listener {
    handle: Handle,
    /// Where its connections wait, with those of the server's other listeners.
    queue: Arc<IncomingQueue>,
    stopped: AtomicBool,
    /// With the port that the system chose.
    local_address: OnceLock<SocketAddr>,
    live: LiveHandles,
    /// Counts the listener's own handle until it is closed.
    guard: Mutex<Option<LiveGuard>>,
}

impl Listener {
    /// `ListenerOpen` and `ListenerStart` on `address`.
    pub(crate) fn start(
        alpn: &Alpn,
        address: SocketAddr,
        queue: Arc<IncomingQueue>,
        live: &LiveHandles,
    ) -> Result<Arc<Self>, NativeError> {
        let registration = live.registration().handle();
        let mut handle = ptr::null_mut();
        // SAFETY: the registration is open while `live` lives, and `handle` is a place for one pointer.
        let status =
            unsafe { call!(ListenerOpen(registration, Some(listener_callback), ptr::null_mut(), &mut handle)) };
        NativeError::check(status)?;
        let listener = Arc::new(Self {
            handle: Handle::new(handle),
            queue,
            stopped: AtomicBool::new(false),
            local_address: OnceLock::new(),
            live: live.clone(),
            guard: Mutex::new(Some(live.enter())),
        });
        let context = Arc::into_raw(listener.clone());
        let address = Address::from(address);
        let status = alpn.with_buffers(|buffers| {
            // SAFETY: the handle was opened above; the context is a reference of MsQuic's own from here on. The buffers
            // and the address outlive the call, which copies them.
            unsafe {
                call!(SetContext(handle, context.cast_mut().cast()));
                call!(ListenerStart(handle, buffers.as_ptr(), buffers.len() as u32, address.as_ptr()))
            }
        });
        if let Err(status) = NativeError::check(status) {
            // SAFETY: a listener that did not start has no events, so the reference is still ours, and closing it waits
            // for nobody.
            unsafe {
                drop(Arc::from_raw(context));
                call!(ListenerClose(handle));
            }
            return Err(status);
        }
        // SAFETY: it was started above, and nobody else has it yet who could stop it. The call takes a short native lock
        // and waits for no worker.
        if let Some(address) = unsafe { address_parameter(handle, sys::QUIC_PARAM_LISTENER_LOCAL_ADDRESS) } {
            let _ = listener.local_address.set(address);
        }
        listener.log("listening");
        Ok(listener)
    }

    /// The address that it was bound to.
    pub(crate) fn local_address(&self) -> Result<SocketAddr, NativeError> {
        self.local_address.get().copied().ok_or(NativeError::INVALID_ADDRESS)
    }

    /// Logs `what` has become of it. A subscriber that panics must keep nobody from stopping it later.
    fn log(&self, what: &'static str) {
        contain("the log", || tracing::debug!(local = self.local_address.get().map(field::display), "{what}"));
    }

    /// Has MsQuic stop listening, once.
    pub(crate) fn stop(&self) {
        if !self.stopped.swap(true, Ordering::Relaxed) {
            let handle = self.handle;
            // STOP_COMPLETE may come inside the call, and unbinding may wait for a worker.
            // SAFETY: the handle is closed in STOP_COMPLETE only, which this call, made once, brings about.
            background::run(move || unsafe { call!(ListenerStop(handle.raw())) });
            self.log("no longer listening");
        }
    }

    /// Warns of the first connection that was refused, and then each time that their number has doubled: whoever floods the
    /// server must not flood its log.
    fn log_refusal(&self, refused: u64) {
        let local = self.local_address.get().map(field::display);
        if refused.is_power_of_two() {
            tracing::warn!(local, refused, "connections are refused: nobody accepts those that wait");
        }
    }

    /// QUIC_LISTENER_EVENT_NEW_CONNECTION: a client's first packet. Taken if the backlog has room, else refused.
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
        let ((Some(remote_address), Some(local_address)), Some(alpn)) = (addresses, parse_alpn(alpn)) else {
            return NativeError::CONNECTION_REFUSED.status();
        };
        if let Err(refused) = self.queue.check_room() {
            self.log_refusal(refused);
            return NativeError::CONNECTION_REFUSED.status();
        }
        // SAFETY: the event says that this many bytes are there, valid during the event.
        let server_name = unsafe { bytes(info.ServerName.cast(), info.ServerNameLength.into()) };
        let server_name = String::from_utf8_lossy(server_name).into_owned();
        // SAFETY: the connection is the event's, and success is what this function returns from here on.
        let inner = unsafe { ConnectionInner::take_over(connection, self.queue.key_log.clone(), self.live.enter()) };
        inner.name_server(remote_address, Some(local_address), &server_name);
        let arrived = Instant::now();
        let timer = {
            let (queue, connection) = (Arc::downgrade(&self.queue), Arc::downgrade(&inner));
            background::at(arrived + self.queue.timeout, move || {
                if let Some(connection) = connection.upgrade() {
                    connection.time_out();
                }
                if let Some(queue) = queue.upgrade() {
                    queue.sweep();
                }
            })
        };
        self.queue.push(NewConnection {
            instance: ConnectionInstance::new(inner),
            remote_address,
            local_address,
            server_name,
            alpn,
            arrived,
            timer,
        });
        0
    }
}

/// The callback of every listener.
///
/// # Safety
///
/// For MsQuic to call: `context` is the `Listener`, kept alive by the reference that MsQuic was lent.
unsafe extern "C" fn listener_callback(
    handle: sys::HQUIC,
    context: *mut c_void,
    event: *mut sys::QUIC_LISTENER_EVENT,
) -> sys::QUIC_STATUS {
    let context = context.cast::<Listener>().cast_const();
    // SAFETY: the event is valid during the callback.
    let event = unsafe { &*event };
    // SAFETY: MsQuic holds a reference from the start until STOP_COMPLETE; this borrows it without taking it.
    let listener = ManuallyDrop::new(unsafe { Arc::from_raw(context) });
    match event.Type {
        sys::QUIC_LISTENER_EVENT_TYPE_QUIC_LISTENER_EVENT_NEW_CONNECTION => {
            // SAFETY: the type says that this member of the union is set.
            let data = unsafe { &event.__bindgen_anon_1.NEW_CONNECTION };
            let handled = contain("a listener's event", || {
                // SAFETY: these are the event's, during the event.
                unsafe { listener.handle_event_new_connection(&*data.Info, data.Connection) }
            });
            // Only a waker can panic here, after the connection was taken.
            handled.unwrap_or(0)
        }
        sys::QUIC_LISTENER_EVENT_TYPE_QUIC_LISTENER_EVENT_STOP_COMPLETE => {
            let guard = listener.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
            // SAFETY: the only close of a handle that started; inside STOP_COMPLETE it does not wait.
            unsafe { call!(ListenerClose(handle)) };
            // With the last reference goes what the application gave the server, such as a verifier.
            contain("a listener's close", || drop(ManuallyDrop::into_inner(listener)));
            contain("a listener's end", || drop(guard));
            0
        }
        // Whatever a later MsQuic adds.
        _ => 0,
    }
}

/// The protocols in a client's list (RFC 7301 §3.1, without the length in front), which comes as it was received: `None` if
/// its lengths do not add up.
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
