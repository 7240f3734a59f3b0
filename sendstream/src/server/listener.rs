//! One MsQuic listener: its handle, its events, and the connections that wait to be taken.

use std::{
    collections::VecDeque,
    ffi::c_void,
    mem::ManuallyDrop,
    net::SocketAddr,
    ptr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use sendstream_sys as sys;
use tracing::field;

use crate::{
    config::StreamScheduling,
    connection::{
        inner::{ConnectionInner, ConnectionInnerShared, Verify},
        instance::ConnectionInstance,
    },
    error::NativeError,
    foreign::contain,
    key_log::KeyLog,
    native::{
        address::{Address, address_parameter},
        api::call,
        background,
        configuration::Alpn,
        handle::Handle,
        live::{LiveGuard, LiveHandles},
    },
    tls::ClientAuth,
    waiters::{KeyedWait, Lock, LockGuard, Retire, WaiterKey, Waiters, Wakeups},
};

/// A listener. MsQuic holds a reference from the start until STOP_COMPLETE, inside which the handle is closed.
#[derive(Debug)]
pub(crate) struct Listener {
    handle: Handle,
    backlog: Lock<Backlog>,
    settings: ListenerSettings,
    /// With the port that the system chose.
    local_address: OnceLock<SocketAddr>,
    live: LiveHandles,
    /// Counts the listener's own handle until it is closed.
    guard: Mutex<Option<LiveGuard>>,
}

/// What accepted connections get from their server.
#[derive(Debug)]
pub(crate) struct ListenerSettings {
    pub(crate) backlog: usize,
    pub(crate) client_auth: ClientAuth,
    pub(crate) fixed_send_window: Option<u64>,
    pub(crate) drop_error_code: u64,
    pub(crate) datagram_receive_buffer: Option<usize>,
    pub(crate) scheduling: StreamScheduling,
    pub(crate) key_log: Option<KeyLog>,
}

/// Connections that wait to be taken.
#[derive(Debug, Default)]
struct Backlog {
    /// No more will come, and none is handed out.
    closed: bool,
    waiting: VecDeque<NewConnection>,
    refused: u64,
    waiters: Waiters,
    /// Wakers that were replaced, to be dropped outside of the lock.
    retired: Vec<Waker>,
}

impl Retire for Backlog {
    fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    fn take_retired(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.retired)
    }
}

/// A connection that a client wants, of which nothing but its first packet is known.
#[derive(Debug)]
pub(crate) struct NewConnection {
    pub(crate) instance: Arc<ConnectionInstance>,
    pub(crate) remote_address: SocketAddr,
    pub(crate) server_name: String,
}

impl Listener {
    /// `ListenerOpen` and `ListenerStart` on `address`.
    pub(crate) fn start(
        alpn: &Alpn,
        address: SocketAddr,
        settings: ListenerSettings,
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
            backlog: Lock::default(),
            settings,
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
        tracing::debug!(local = listener.local_address.get().map(field::display), "listening");
        Ok(listener)
    }

    /// The address that it was bound to.
    pub(crate) fn local_address(&self) -> Result<SocketAddr, NativeError> {
        self.local_address.get().copied().ok_or(NativeError::INVALID_ADDRESS)
    }

    /// Takes no more connections, lets go of those that wait, and has MsQuic stop listening.
    pub(crate) fn stop(&self) {
        let mut wakeups = Wakeups::none();
        let (first, waiting) = {
            let mut backlog = self.lock();
            backlog.waiters.take_into(&mut wakeups);
            (!std::mem::replace(&mut backlog.closed, true), std::mem::take(&mut backlog.waiting))
        };
        if first {
            let handle = self.handle;
            // STOP_COMPLETE may come inside the call, and unbinding may wait for a worker.
            // SAFETY: the handle is closed in STOP_COMPLETE only, which this call, made once, brings about.
            background::run(move || unsafe { call!(ListenerStop(handle.raw())) });
            tracing::debug!(local = self.local_address.get().map(field::display), "no longer listening");
        }
        drop(waiting);
        contain("a waker", || wakeups.wake());
    }

    /// How many connections were refused because the backlog was full.
    pub(crate) fn refused(&self) -> u64 {
        self.lock().refused
    }

    fn lock(&self) -> LockGuard<'_, Backlog> {
        self.backlog.lock()
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
        let remote_address = unsafe { Address::read(info.RemoteAddress) };
        {
            let mut backlog = self.lock();
            if backlog.closed || backlog.waiting.len() >= self.settings.backlog || remote_address.is_none() {
                backlog.refused += 1;
                let refused = backlog.refused;
                drop(backlog);
                self.log_refusal(refused);
                return NativeError::CONNECTION_REFUSED.status();
            }
        }
        let server_name = if info.ServerName.is_null() {
            String::new()
        } else {
            // SAFETY: the event says that this many bytes are there, valid during the event.
            let name =
                unsafe { std::slice::from_raw_parts(info.ServerName.cast::<u8>(), info.ServerNameLength.into()) };
            String::from_utf8_lossy(name).into_owned()
        };
        let shared = ConnectionInnerShared {
            verify: Verify::clients(&self.settings.client_auth),
            fixed_send_window: self.settings.fixed_send_window,
            drop_error_code: self.settings.drop_error_code,
            datagram_receive_buffer: self.settings.datagram_receive_buffer,
            scheduling: self.settings.scheduling,
            key_log: self.settings.key_log.clone(),
        };
        // SAFETY: the connection is the event's, and success is what this function returns from here on.
        let inner = unsafe { ConnectionInner::take_over(connection, shared, self.live.enter()) };
        let Some(remote_address) = remote_address else { unreachable!("refused above") };
        let new = NewConnection { instance: ConnectionInstance::new(inner), remote_address, server_name };
        // SAFETY: the event's addresses are valid during the event.
        let local_address = unsafe { Address::read(info.LocalAddress) };
        new.instance.inner().name_server(remote_address, local_address, &new.server_name);
        let mut wakeups = Wakeups::none();
        let unwanted = {
            let mut backlog = self.lock();
            if backlog.closed {
                Some(new)
            } else {
                backlog.waiting.push_back(new);
                backlog.waiters.take_into(&mut wakeups);
                None
            }
        };
        wakeups.wake();
        // Dropped outside of the lock: it shuts the connection down.
        drop(unwanted);
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

/// The wait for a connection: `None` once the listener was stopped.
impl KeyedWait for &Listener {
    type Output = Option<NewConnection>;

    fn new_key(&self) -> WaiterKey {
        self.lock().waiters.new_key()
    }

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut guard = self.lock();
        let backlog = &mut *guard;
        match backlog.waiting.pop_front() {
            Some(new) => Poll::Ready(Some(new)),
            None if backlog.closed => Poll::Ready(None),
            None => {
                backlog.waiters.register(key, cx.waker(), &mut backlog.retired);
                Poll::Pending
            }
        }
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.lock().waiters.remove(key)
    }
}
