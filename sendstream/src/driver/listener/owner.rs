//! [`ListenerInstance`]: the owner of one MsQuic listener handle.

use std::{
    ffi::c_void,
    net::SocketAddr,
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sendstream_core::foreign::contain;
use sendstream_sys as sys;

use crate::{
    driver::{
        callback::{self, Next, Receiver},
        connection::owner::ConnectionInstance,
        listener::{events::ListenerInner, queue::IncomingQueue},
        wakes::{Blame, keep_batches},
    },
    native::{
        address::{Address, address_parameter},
        api::call,
        background,
        configuration::Alpn,
        given::{GivenSocket, Place, Reach},
        handle::Handle,
        live::{LiveGuard, LiveHandles},
        parameter,
    },
    types::error::NativeError,
};

/// A listener. MsQuic holds a reference from the start until STOP_COMPLETE, inside which the handle
/// is closed.
#[derive(Debug)]
pub(crate) struct ListenerInstance {
    inner: ListenerInner,
    handle: Handle,
    stopped: AtomicBool,
    /// Whom its socket reaches.
    reach: Reach,
    /// Counts the listener's own handle until it is closed.
    guard: Mutex<Option<LiveGuard>>,
}

impl ListenerInstance {
    /// `ListenerOpen` and `ListenerStart` on `address`, which is that of `socket` if there is one.
    pub(crate) fn start(
        alpn: &Alpn,
        address: SocketAddr,
        socket: Option<&GivenSocket<'_>>,
        queue: Arc<IncomingQueue>,
        live: &LiveHandles,
    ) -> Result<Arc<Self>, NativeError> {
        keep_batches();
        let registration = live.registration().handle();
        let mut handle = ptr::null_mut();
        // SAFETY: the registration is open while `live` lives, and `handle` is a place for one
        // pointer.
        let status =
            unsafe { call!(ListenerOpen(registration, Some(listener_callback), ptr::null_mut(), &mut handle)) };
        NativeError::check(status)?;
        let listener = Arc::new(Self {
            inner: ListenerInner::new(queue, live.clone()),
            handle: Handle::new(handle),
            stopped: AtomicBool::new(false),
            reach: socket.map_or(Reach::Process, |socket| socket.place().reach),
            guard: Mutex::new(Some(live.enter())),
        });
        callback::lend_reference(&listener);
        let address = Address::from(address);
        // SAFETY: the handle was opened above and is a listener's. The parameter is a descriptor,
        // which stays open until `socket` goes.
        let given = socket.map_or(Ok(()), |socket| unsafe {
            parameter::set(handle, sys::QUIC_PARAM_LISTENER_SOCKET, &socket.descriptor())
        });
        let started = given.and_then(|()| {
            let status = alpn.with_buffers(|buffers| {
                // SAFETY: the handle was opened above; the context is the reference lent. The
                // buffers and the address outlive the call, which copies them.
                unsafe {
                    call!(SetContext(handle, Arc::as_ptr(&listener).cast_mut().cast()));
                    call!(ListenerStart(handle, buffers.as_ptr(), buffers.len() as u32, address.as_ptr()))
                }
            });
            NativeError::check(status)
        });
        if let Err(status) = started {
            // SAFETY: lent above. A listener that did not start has no events to give the reference
            // back, and closing it waits for nobody.
            unsafe {
                callback::take_reference_back(&listener);
                call!(ListenerClose(handle));
            }
            return Err(status);
        }
        // SAFETY: it was started above, and nobody else has it yet who could stop it. The call
        // takes a short native lock and waits for no worker.
        if let Some(address) = unsafe { address_parameter(handle, sys::QUIC_PARAM_LISTENER_LOCAL_ADDRESS) } {
            listener.inner.set_local_addr(address);
        }
        listener.inner.log("listening");
        Ok(listener)
    }

    /// The address that it was bound to.
    pub(crate) fn local_addr(&self) -> Result<SocketAddr, NativeError> {
        self.inner.local_addr().ok_or(NativeError::INVALID_ADDRESS)
    }

    /// Where it was bound, and whom its socket reaches.
    pub(crate) fn place(&self) -> Result<Place, NativeError> {
        Ok(Place { address: self.local_addr()?, reach: self.reach })
    }

    /// Has MsQuic stop listening, once.
    pub(crate) fn stop(&self) {
        if !self.stopped.swap(true, Ordering::Relaxed) {
            let handle = self.handle;
            // STOP_COMPLETE may come inside the call, and unbinding may wait for a worker. SAFETY:
            // the handle is closed in STOP_COMPLETE only, which this call, made once, brings about.
            background::run(move || unsafe { call!(ListenerStop(handle.raw())) });
            self.inner.log("no longer listening");
        }
    }
}

impl Receiver for ListenerInstance {
    type Event = sys::QUIC_LISTENER_EVENT;
    type Connection = ConnectionInstance;

    fn connection(self: &Arc<Self>) -> Option<&Arc<ConnectionInstance>> {
        None
    }

    unsafe fn receive(self: &Arc<Self>, event: &mut sys::QUIC_LISTENER_EVENT) -> Next {
        // SAFETY: as the caller promises.
        unsafe { self.inner.callback_handler_impl(event) }
    }

    /// Only a waker can panic in an event, after the connection was taken.
    fn after_panic(self: &Arc<Self>, _event: &sys::QUIC_LISTENER_EVENT) -> Next {
        Next::Return(0)
    }

    fn blame(self: &Arc<Self>) -> Blame {
        Blame::Nothing
    }

    fn shut_down_at_once(self: Arc<Self>) {
        self.stop();
    }

    fn release(self: Arc<Self>) {
        let handle = self.handle;
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        // SAFETY: the only close of a handle that started; inside STOP_COMPLETE it does not wait.
        unsafe { call!(ListenerClose(handle.raw())) };
        // With the last reference goes what the application gave the server, such as a verifier.
        contain("a listener's close", || drop(self));
        contain("a listener's end", || drop(guard));
    }
}

/// The callback of every listener.
///
/// # Safety
///
/// For MsQuic to call: `context` is the `ListenerInstance`, kept alive by the reference that MsQuic
/// was lent.
unsafe extern "C" fn listener_callback(
    _handle: sys::HQUIC,
    context: *mut c_void,
    event: *mut sys::QUIC_LISTENER_EVENT,
) -> sys::QUIC_STATUS {
    // SAFETY: MsQuic holds a reference from the start until STOP_COMPLETE, which is the last event.
    unsafe { callback::deliver::<ListenerInstance>(context, event) }
}
