//! [`ConnectionInstance`]: the owner of one MsQuic connection handle. This file has its life and
//! its callback. Other files of this folder have the calls of one concern each.

use std::{
    ffi::c_void,
    net::SocketAddr,
    ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering, fence},
    },
};

use sendstream_core::foreign::contain;
use sendstream_sys as sys;

#[cfg(feature = "qlog")]
use crate::native::qlog::ConnectionLog;
use crate::{
    driver::{
        callback::{self, Next, Receiver},
        connection::{
            events::ConnectionInner,
            judge::Judged,
            shared::ConnectionInnerShared,
            state::{ConnectionInnerExclusive, Ending},
        },
        stream::owner::StreamInstance,
        wakes::{Blame, Wake as _, keep_batches},
    },
    native::{
        address::address_parameter,
        api::call,
        background,
        handle::Handle,
        live::{Closable, LiveGuard},
        logs::Logs,
        parameter::{self, Parameter},
        secrets::TlsSecrets,
        status::INTERNAL_ERROR,
    },
    types::{
        error::{ConnectionError, NativeError},
        tls::CertificateRefusal,
    },
};

/// One connection, shared by MsQuic, the user and the streams.
///
/// MsQuic holds a reference from the start until SHUTDOWN_COMPLETE. Each stream holds one for as
/// long as somebody holds the stream, which is at least until the stream's handle is closed. The
/// user holds some. The last reference closes the handle.
///
/// Two counts say what the references alone do not. A *user* is a `Connection` value, or a stream
/// that may still deliver something: when the last user goes, the connection closes with code 0. An
/// *acceptor* is a `Connection` value: when the last acceptor goes, nobody can accept the peer's
/// streams, so they are refused.
#[derive(Debug)]
pub(crate) struct ConnectionInstance {
    inner: ConnectionInner,
    users: AtomicUsize,
    acceptors: AtomicUsize,
    is_server: bool,
    /// `None` only while it is being closed.
    handle: Option<OpenHandle>,
}

/// A handle with what must live as long as it is open.
#[derive(Debug)]
struct OpenHandle {
    handle: Handle,
    /// Counts the connection until it is over.
    live: LiveGuard,
    /// Where MsQuic writes the TLS secrets, until the handle is closed.
    secrets: Option<TlsSecrets>,
    /// What MsQuic writes its log to, until the handle is closed.
    #[cfg(feature = "qlog")]
    log: Option<Box<ConnectionLog>>,
}

impl OpenHandle {
    /// `ConnectionClose`, which waits for the worker unless this is the handle's own
    /// SHUTDOWN_COMPLETE.
    ///
    /// # Safety
    ///
    /// Nothing uses the handle any more.
    unsafe fn close(self) {
        // SAFETY: the only close of this handle, as `self` is consumed. A connection that never
        // started gets its SHUTDOWN_COMPLETE inside the call, when the context is gone, so that
        // goes to a callback that needs none.
        unsafe {
            call!(SetCallbackHandler(self.handle.raw(), ignoring_callback as *mut c_void, ptr::null_mut()));
            call!(ConnectionClose(self.handle.raw()));
        }
    }
}

impl ConnectionInstance {
    // ---- Beginning ------------------------------------------------------------------------------

    /// `ConnectionOpen` for a client: not started, no event can come.
    pub(crate) fn open(
        registration: sys::HQUIC,
        shared: ConnectionInnerShared,
        logs: Logs,
        live: LiveGuard,
    ) -> Result<Arc<Self>, NativeError> {
        keep_batches();
        let mut handle = ptr::null_mut();
        // SAFETY: the registration is open while `live` lives, and `handle` is a place for one
        // pointer.
        let status =
            unsafe { call!(ConnectionOpen(registration, Some(connection_callback), ptr::null_mut(), &mut handle)) };
        NativeError::check(status)?;
        let instance = Self::new(handle, false, Some(shared), logs, live);
        // SAFETY: the handle was opened above. Events begin with the start, before which MsQuic is
        // lent a reference; but for one inside of `show_ticket`, whose caller has one.
        unsafe { call!(SetContext(handle, Arc::as_ptr(&instance).cast_mut().cast())) };
        Ok(instance)
    }

    /// Takes over a connection that a listener got, inside NEW_CONNECTION.
    ///
    /// # Safety
    ///
    /// `handle` is the connection of a NEW_CONNECTION event, during that event, which must then
    /// report success.
    pub(crate) unsafe fn take_over(handle: sys::HQUIC, logs: Logs, live: LiveGuard) -> Arc<Self> {
        let instance = Self::new(handle, true, None, logs, live);
        callback::lend_reference(&instance);
        // SAFETY: the handle is valid during the event. The reference lent is MsQuic's until
        // SHUTDOWN_COMPLETE.
        unsafe {
            call!(SetCallbackHandler(
                handle,
                connection_callback as *mut c_void,
                Arc::as_ptr(&instance).cast_mut().cast()
            ));
        };
        // On the worker, so it runs in place.
        if let Err(error) = instance.lend_secrets() {
            tracing::warn!(%error, "a connection's keys will not be logged");
        }
        #[cfg(feature = "qlog")]
        if let Err(error) = instance.lend_log() {
            tracing::warn!(%error, "a connection will not be in the qlog");
        }
        instance
    }

    fn new(
        handle: sys::HQUIC,
        is_server: bool,
        shared: Option<ConnectionInnerShared>,
        logs: Logs,
        live: LiveGuard,
    ) -> Arc<Self> {
        let secrets = logs.keys.is_some().then(TlsSecrets::new);
        #[cfg(feature = "qlog")]
        let log = logs.packets.clone().map(ConnectionLog::new);
        Arc::new_cyclic(|instance: &Weak<Self>| Self {
            // MsQuic works on a server's connection before it shows it, on a client's from the
            // start.
            inner: ConnectionInner::new(is_server, shared, logs),
            users: AtomicUsize::new(0),
            acceptors: AtomicUsize::new(0),
            is_server,
            handle: Some(OpenHandle {
                handle: Handle::new(handle),
                live: live.of(instance.clone()),
                secrets,
                #[cfg(feature = "qlog")]
                log,
            }),
        })
    }

    // ---- Questions ------------------------------------------------------------------------------

    /// The connection's handle, open for as long as `self` lives.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.as_ref().expect("the handle is taken by the last reference only").handle
    }

    /// What receives its events: the state, and the questions to it.
    pub(crate) fn inner(&self) -> &ConnectionInner {
        &self.inner
    }

    /// Whether this side is the server.
    pub(crate) fn is_server(&self) -> bool {
        self.is_server
    }

    /// Asks for a parameter, which blocks but on the worker.
    pub(crate) fn parameter<P: Parameter>(&self) -> Result<P, NativeError> {
        // SAFETY: the handle is a connection's and open, because `self` is alive.
        unsafe { parameter::get(self.handle().raw()) }
    }

    /// Sets a parameter, which blocks but on the worker.
    ///
    /// # Safety
    ///
    /// `value` is what `parameter`, which is a connection's, holds, and MsQuic copies it.
    pub(super) unsafe fn set_parameter<T: ?Sized>(&self, parameter: u32, value: &T) -> Result<(), NativeError> {
        // SAFETY: the handle is a connection's and open, because `self` is alive; the rest is as
        // the caller promises.
        unsafe { parameter::set(self.handle().raw(), parameter, value) }
    }

    /// Sets what [`to_limits`](crate::TransportConfig) made; on the worker or where it may block.
    pub(crate) fn set_limits(&self, limits: &sys::QUIC_SETTINGS) -> Result<(), NativeError> {
        // SAFETY: the parameter is a `QUIC_SETTINGS`, which the call copies.
        unsafe { self.set_parameter(sys::QUIC_PARAM_CONN_SETTINGS, limits) }
    }

    /// Sets the code point of what is sent; on the worker or where it may block.
    pub(crate) fn set_dscp(&self, code_point: u8) -> Result<(), NativeError> {
        // SAFETY: the parameter is a byte, which the call copies.
        unsafe { self.set_parameter(sys::QUIC_PARAM_CONN_SEND_DSCP, &code_point) }
    }

    /// An address parameter, asked for on the worker or where it may block.
    pub(super) fn address(&self, parameter: u32) -> Option<SocketAddr> {
        // SAFETY: the handle is open, because `self` is alive; on the worker the call runs in
        // place.
        unsafe { address_parameter(self.handle().raw(), parameter) }
    }

    /// What MsQuic writes its log to, if it is to.
    #[cfg(feature = "qlog")]
    pub(super) fn log(&self) -> Option<&ConnectionLog> {
        self.handle.as_ref()?.log.as_deref()
    }

    /// Where MsQuic writes the TLS secrets, if it is to.
    pub(super) fn secrets(&self) -> Option<&TlsSecrets> {
        self.handle.as_ref()?.secrets.as_ref()
    }

    // ---- Users and acceptors --------------------------------------------------------------------

    /// Counts one more user: by somebody who is one, or before the first.
    pub(crate) fn enter_user(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one user less. The last one closes the connection.
    pub(crate) fn leave_user(&self) {
        if self.users.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            contain("a waker", || self.finish_ending(ConnectionInnerExclusive::abandon));
            self.inner.datagrams().abandon();
        }
    }

    /// Counts one more acceptor.
    pub(super) fn enter_acceptor(&self) {
        self.acceptors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one acceptor less. With the last one the peer's streams that wait are refused, and so
    /// are those that come. The connection may go on for a while, for this side's own streams. A
    /// stream that nobody will read would make the peer wait for ever, and two sides that both do
    /// so would wait for each other.
    pub(super) fn leave_acceptor(&self) {
        if self.acceptors.fetch_sub(1, Ordering::AcqRel) == 1 {
            let unaccepted = self.inner.lock().stop_accepting();
            for stream in unaccepted {
                stream.refuse();
            }
        }
    }

    // ---- Ending ---------------------------------------------------------------------------------

    /// Records that this side closes the connection with `code`, and does so.
    pub(crate) fn close(&self, code: u64) {
        self.finish_ending(|state| state.close(code));
    }

    /// [`Self::close`], without a word to the peer.
    pub(crate) fn close_silently(&self) {
        let flags = sys::QUIC_CONNECTION_SHUTDOWN_FLAGS_QUIC_CONNECTION_SHUTDOWN_FLAG_SILENT;
        // SAFETY: the handle is open, because `self` is alive.
        let tell = |code| unsafe { call!(ConnectionShutdown(self.handle().raw(), flags, code)) };
        self.finish_ending_by(tell, |state| state.close(0));
    }

    /// The handshake has taken too long, unless it is done or the connection over.
    pub(super) fn time_out(&self) {
        self.finish_ending(ConnectionInnerExclusive::on_handshake_timeout);
    }

    /// `ConnectionShutdown` with `code`, which is only queued and cannot fail. The cause is
    /// recorded by the caller.
    pub(super) fn shut_down(&self, code: u64) {
        let flags = sys::QUIC_CONNECTION_SHUTDOWN_FLAGS_QUIC_CONNECTION_SHUTDOWN_FLAG_NONE;
        // SAFETY: the handle is open, because `self` is alive.
        unsafe { call!(ConnectionShutdown(self.handle().raw(), flags, code)) };
    }

    /// [`Self::finish_ending`] where a waker's panic must not keep MsQuic from being told.
    fn end_with(&self, transition: impl FnOnce(&mut ConnectionInnerExclusive) -> Ending) {
        contain("a connection's end", || self.finish_ending(transition));
    }

    /// A transition that may end the connection, and what that leaves to do outside of the lock.
    ///
    /// Every part learns the cause before MsQuic is told: MsQuic then cancels what is queued, on the
    /// worker, and a datagram must not take that for its fate. Waking comes last, and the log after
    /// it: foreign code that panics must keep nothing from being done.
    pub(super) fn finish_ending(&self, transition: impl FnOnce(&mut ConnectionInnerExclusive) -> Ending) {
        self.finish_ending_by(|code| self.shut_down(code), transition);
    }

    /// [`Self::finish_ending`], with what tells MsQuic if it is to be told.
    pub(super) fn finish_ending_by(
        &self,
        tell: impl FnOnce(u64),
        transition: impl FnOnce(&mut ConnectionInnerExclusive) -> Ending,
    ) {
        let (Ending { shut_down, mut wakeups, unstarted, verifier, unaccepted }, cause, first) = {
            let mut state = self.inner.lock();
            let first = !state.is_over();
            (transition(&mut state), state.cause(), first)
        };
        if let Some(cause) = &cause {
            wakeups.append(self.inner.on_ended(cause));
            for stream in unstarted.iter().filter_map(Weak::upgrade) {
                wakeups.append(stream.connection_lost(cause.clone()));
            }
        }
        if let Some(code) = shut_down {
            tell(code);
        }
        if let Some(verifier) = verifier {
            verifier.cancel();
        }
        wakeups.wake();
        drop(unaccepted);
        if let Some(cause) = cause.filter(|_| first) {
            tracing::debug!(parent: self.inner.span(), %cause, "closed");
        }
    }

    /// Tells `stream`, which could not start, what ended the connection: now, or as soon as that is
    /// known.
    pub(crate) fn tell_when_lost(&self, stream: &Arc<StreamInstance>) {
        let cause = self.inner.lock().tell_when_lost(Arc::downgrade(stream));
        if let Some(cause) = cause {
            stream.connection_lost(cause).wake();
        }
    }
}

impl Judged for ConnectionInstance {
    /// Tells MsQuic whether the peer is believed, which PEER_CERTIFICATE_RECEIVED left open
    /// (`ConnectionCertificateValidationComplete`, which only queues). A refusal is the
    /// connection's end, recorded before MsQuic has its own word for it.
    fn on_judged(&self, answer: Result<(), CertificateRefusal>) {
        let (believed, alert) = match &answer {
            Ok(()) => (true, 0),
            Err(refusal) => (false, refusal.alert()),
        };
        if let Err(refusal) = answer {
            tracing::info!(parent: self.inner.span(), %refusal, "the peer's certificate is refused");
            self.end_with(|state| state.on_peer_refused(ConnectionError::CertificateRefused(refusal)));
        }
        // SAFETY: the handle is open, because `self` is alive. MsQuic ignores an answer that it no
        // longer waits for.
        let status = unsafe {
            call!(ConnectionCertificateValidationComplete(self.handle().raw(), believed.into(), alert.into()))
        };
        if let Err(status) = NativeError::check(status) {
            // Out of memory, for which MsQuic would wait and wait. A shutdown needs none.
            let cause = ConnectionError::from_transport(INTERNAL_ERROR, status);
            self.end_with(|state| state.on_answer_not_taken(INTERNAL_ERROR, cause));
        }
    }
}

impl Drop for ConnectionInstance {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            // SAFETY: the last reference is gone, so nothing uses the handle.
            background::run(move || unsafe { handle.close() });
        }
    }
}

impl Receiver for ConnectionInstance {
    type Event = sys::QUIC_CONNECTION_EVENT;
    type Connection = Self;
    const IS_CONNECTION: bool = true;

    fn connection(self: &Arc<Self>) -> Option<&Arc<Self>> {
        Some(self)
    }

    unsafe fn receive(self: &Arc<Self>, event: &mut sys::QUIC_CONNECTION_EVENT) -> Next {
        // SAFETY: as the caller promises; every event of a connection comes on its worker.
        unsafe { self.inner.callback_handler_impl(event, self) }
    }

    fn after_panic(self: &Arc<Self>, event: &sys::QUIC_CONNECTION_EVENT) -> Next {
        if event.Type == sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_COMPLETE {
            return Next::Release;
        }
        contain("a connection's failure", || self.close(INTERNAL_ERROR));
        // A verifier that panicked has not verified. For every other event MsQuic ignores a
        // failure, except that it closes a stream that was not taken, and one that was taken must
        // not be closed twice.
        let verifying = event.Type == sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_PEER_CERTIFICATE_RECEIVED;
        Next::Return(if verifying { NativeError::INTERNAL_ERROR.status() } else { 0 })
    }

    fn blame(self: &Arc<Self>) -> Blame {
        Blame::Connection
    }

    fn shut_down_at_once(self: Arc<Self>) {
        self.close(INTERNAL_ERROR);
    }

    fn release(self: Arc<Self>) {
        self.inner.worker_tasks().close();
        match Arc::try_unwrap(self) {
            // If nobody else is left, the handle closes here: in its own SHUTDOWN_COMPLETE that
            // neither waits nor queues.
            Ok(mut instance) => {
                if let Some(handle) = instance.handle.take() {
                    // SAFETY: the last reference is gone, so nothing uses the handle.
                    unsafe { handle.close() };
                }
            }
            Err(held) => {
                if let Some(open) = &held.handle {
                    open.live.over();
                }
            }
        }
    }
}

impl Closable for ConnectionInstance {
    fn close_with_all(self: Arc<Self>, code: u64, reason: &str) {
        contain("a waker", || self.close_with_reason(code, reason));
    }

    fn is_open(&self) -> bool {
        !self.inner.is_over()
    }
}

/// The callback of every connection.
///
/// # Safety
///
/// For MsQuic to call: `context` is the connection's `ConnectionInstance`, kept alive by the
/// reference that MsQuic was lent.
unsafe extern "C" fn connection_callback(
    _handle: sys::HQUIC,
    context: *mut c_void,
    event: *mut sys::QUIC_CONNECTION_EVENT,
) -> sys::QUIC_STATUS {
    // SAFETY: MsQuic holds a reference from the start until SHUTDOWN_COMPLETE, which is the last
    // event.
    unsafe { callback::deliver::<ConnectionInstance>(context, event) }
}

/// The callback of a connection that is being closed and has nobody left to tell.
unsafe extern "C" fn ignoring_callback(
    _handle: sys::HQUIC,
    _context: *mut c_void,
    _event: *mut sys::QUIC_CONNECTION_EVENT,
) -> sys::QUIC_STATUS {
    0
}

#[cfg(test)]
mod tests {
    use sendstream_core::datagrams::Refused;

    use crate::{Client, Identity, Server, Trust};

    #[test]
    fn msquic_is_told_of_an_end_when_the_datagrams_know_of_it() {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let trust = Trust::pinned([identity.certificate_sha256()]);
        let server = Server::builder().identity(identity).alpn(["test"]).bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = Client::builder().trust(trust).alpn(["test"]).build().unwrap();
        futures::executor::block_on(async {
            let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
            let connect = client.connect(server.local_addr().unwrap(), "localhost");
            let (connection, accepted) = futures::join!(connect, accept);
            let connection = connection.unwrap();
            let instance = connection.instance();
            let mut told = None;
            let tell = |code| {
                told = Some((code, instance.inner().is_over(), instance.inner().datagrams().begin_send(1)));
                instance.shut_down(code);
            };
            instance.finish_ending_by(tell, |state| state.close(5));
            let cause = instance.inner().cause().unwrap();
            assert_eq!(told, Some((5, true, Err(Refused::Lost(cause)))));
            accepted.closed().await;
        });
    }
}
