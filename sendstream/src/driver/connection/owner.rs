//! [`ConnectionInner`]: the owner of a connection's handle, and every call of MsQuic's connection API. What MsQuic says is in
//! `events`.

use std::{
    ffi::{CStr, c_void},
    net::SocketAddr,
    ptr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sendstream_sys as sys;
use tracing::{Span, field};

use crate::{
    driver::{
        connection::{
            datagrams::Datagrams,
            events::{SUCCESS, connection_callback},
            state::{ConnectionInnerExclusive, Ending},
            tickets::Resuming,
        },
        stream::{
            copies::{Copies, CopyPlace},
            events::Surroundings,
            owner::StreamInstance,
        },
        turn::LocalTasks,
        wakes::Wake as _,
    },
    native::{
        address::{Address, activate_path, address_parameter},
        api::{self, call},
        background::{self, Timer},
        configuration::Configuration,
        handle::Handle,
        key_log::KeyLog,
        live::LiveGuard,
        parameter::{self, Parameter},
        secrets::TlsSecrets,
    },
    types::{
        config::{StreamScheduling, TransportConfig},
        error::{ConnectionError, NativeError},
        rebind::RebindError,
        stats::ConnectionStats,
        tls::{CertificateRefusal, ClientAuth, PeerIdentity, Trust},
    },
};
use sendstream_core::{
    foreign::contain,
    wait::{Lock, LockGuard},
};

/// What MsQuic, the user and the streams share of one connection; the owner of its handle.
///
/// MsQuic holds a reference from the start until SHUTDOWN_COMPLETE, each stream one for as long as somebody holds it, which is
/// at least until its own handle is closed, and the user one through `ConnectionInstance`. The handle is closed when the last
/// goes.
#[derive(Debug)]
pub(crate) struct ConnectionInner {
    /// `None` only while it is being closed.
    pub(super) handle: Option<OpenHandle>,
    exclusive: Lock<ConnectionInnerExclusive>,
    /// Whether `exclusive` has a cause, for those who ask often. Written by: whatever ends the connection.
    over: AtomicBool,
    /// What the peer showed. Written by: PEER_CERTIFICATE_RECEIVED, before it is judged.
    pub(super) peer: OnceLock<PeerIdentity>,
    datagrams: Lock<Datagrams>,
    pub(super) local_tasks: LocalTasks,
    /// Short pieces that were copied and not read.
    copies: Copies,
    /// The connection in logs. Written by: `name_client`, `name_server`, before MsQuic can send an event.
    span: OnceLock<Span>,
    /// Where the TLS secrets go, if anywhere.
    pub(super) key_log: Option<KeyLog>,
    /// Whether this side is the server.
    is_server: bool,
    /// Empty until a server's application accepts the connection. Written by: `open`, `configure`.
    shared: OnceLock<ConnectionInnerShared>,
}

/// What never changes once the handshake may go on.
#[derive(Debug)]
pub(crate) struct ConnectionInnerShared {
    /// Who is believed; `None` on a server that asks for no certificate.
    pub(crate) verify: Option<Verify>,
    /// The stream's in-flight window, where the configuration fixes it.
    pub(crate) fixed_send_window: Option<u64>,
    /// Whether MsQuic copies what streams send.
    pub(crate) send_buffering: bool,
    /// The code for what is given up by dropping it.
    pub(crate) drop_error_code: u64,
    /// How much of the peer's datagrams may wait to be read.
    pub(crate) datagram_receive_buffer: Option<usize>,
    /// Which stream goes first.
    pub(crate) scheduling: StreamScheduling,
    /// What is done about session tickets.
    pub(crate) resuming: Resuming,
    /// What a server accepted it with: kept open, as its registration may be another than the listener's, which must
    /// not close before the connection.
    pub(crate) _configuration: Option<Arc<Configuration>>,
}

impl ConnectionInnerShared {
    /// What of `transport` is not MsQuic's to know.
    pub(crate) fn new(verify: Option<Verify>, transport: &TransportConfig) -> Self {
        Self {
            verify,
            fixed_send_window: transport.send_window.map(u64::from),
            send_buffering: transport.send_buffering,
            drop_error_code: transport.drop_error_code,
            datagram_receive_buffer: transport.datagram_receive_buffer,
            scheduling: transport.stream_scheduling,
            resuming: Resuming::No,
            _configuration: None,
        }
    }
}

/// What a server's connection goes by before it is accepted, when MsQuic can only say that it is over.
static UNCONFIGURED: ConnectionInnerShared = ConnectionInnerShared {
    verify: None,
    fixed_send_window: None,
    send_buffering: false,
    drop_error_code: 0,
    datagram_receive_buffer: None,
    scheduling: StreamScheduling::Fifo,
    resuming: Resuming::No,
    _configuration: None,
};

/// What the peer's certificate is checked against.
#[derive(Debug)]
pub(crate) enum Verify {
    /// By a client: under which name.
    Server { trust: Trust, server_name: String },
    /// By a server: who has none is refused if one is required.
    Client { trust: Trust, required: bool },
}

impl Verify {
    /// What a server does with its clients' certificates.
    pub(crate) fn clients(auth: &ClientAuth) -> Option<Self> {
        let required = matches!(auth, ClientAuth::Required(_));
        auth.trust().map(|trust| Self::Client { trust: trust.clone(), required })
    }
}

#[derive(Debug)]
pub(super) struct OpenHandle {
    handle: Handle,
    /// Counts the handle until it is closed.
    _live: LiveGuard,
    /// Where MsQuic writes the TLS secrets, until the handle is closed.
    secrets: Option<TlsSecrets>,
}

impl OpenHandle {
    /// `ConnectionClose`, which waits for the worker unless this is the handle's own SHUTDOWN_COMPLETE.
    ///
    /// # Safety
    ///
    /// Nothing uses the handle any more.
    pub(super) unsafe fn close(self) {
        // SAFETY: the only close of this handle, as `self` is consumed. A connection that never started gets its
        // SHUTDOWN_COMPLETE inside the call, when the context is gone, so that goes to a callback that needs none.
        unsafe {
            call!(SetCallbackHandler(self.handle.raw(), ignoring_callback as *mut c_void, ptr::null_mut()));
            call!(ConnectionClose(self.handle.raw()));
        }
    }
}

impl ConnectionInner {
    /// `ConnectionOpen` for a client: not started, no event can come.
    pub(crate) fn open(
        registration: sys::HQUIC,
        shared: ConnectionInnerShared,
        key_log: Option<KeyLog>,
        live: LiveGuard,
    ) -> Result<Arc<Self>, NativeError> {
        let mut handle = ptr::null_mut();
        // SAFETY: the registration is open while `live` lives, and `handle` is a place for one pointer.
        let status =
            unsafe { call!(ConnectionOpen(registration, Some(connection_callback), ptr::null_mut(), &mut handle)) };
        NativeError::check(status)?;
        let inner = Self::new(handle, false, Some(shared), key_log, live);
        // SAFETY: the handle was opened above. Events begin with the start, before which MsQuic is lent a reference; but for
        // one inside of `show_ticket`, whose caller has one.
        unsafe { call!(SetContext(handle, Arc::as_ptr(&inner).cast_mut().cast())) };
        Ok(inner)
    }

    /// Takes over a connection that a listener got, inside NEW_CONNECTION.
    ///
    /// # Safety
    ///
    /// `handle` is the connection of a NEW_CONNECTION event, during that event, which must then report success.
    pub(crate) unsafe fn take_over(handle: sys::HQUIC, key_log: Option<KeyLog>, live: LiveGuard) -> Arc<Self> {
        let inner = Self::new(handle, true, None, key_log, live);
        inner.lend_reference();
        // SAFETY: the handle is valid during the event. The reference lent is MsQuic's until SHUTDOWN_COMPLETE.
        unsafe {
            call!(SetCallbackHandler(
                handle,
                connection_callback as *mut c_void,
                Arc::as_ptr(&inner).cast_mut().cast()
            ));
        };
        // On the worker, so it runs in place.
        if let Err(error) = inner.lend_secrets() {
            tracing::warn!(%error, "a connection's keys will not be logged");
        }
        inner
    }

    fn new(
        handle: sys::HQUIC,
        is_server: bool,
        shared: Option<ConnectionInnerShared>,
        key_log: Option<KeyLog>,
        live: LiveGuard,
    ) -> Arc<Self> {
        let secrets = key_log.is_some().then(TlsSecrets::new);
        Arc::new(Self {
            handle: Some(OpenHandle { handle: Handle::new(handle), _live: live, secrets }),
            // MsQuic works on a server's connection before it shows it, on a client's from the start.
            exclusive: Lock::new(ConnectionInnerExclusive::new(is_server)),
            over: AtomicBool::new(false),
            peer: OnceLock::new(),
            datagrams: Lock::default(),
            local_tasks: LocalTasks::default(),
            copies: Copies::default(),
            span: OnceLock::new(),
            key_log,
            is_server,
            shared: shared.map_or_else(OnceLock::new, OnceLock::from),
        })
    }

    /// The connection's handle, open for as long as `self` lives.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.as_ref().expect("the handle is taken by `close` only, which consumes the last reference").handle
    }

    pub(super) fn shared(&self) -> &ConnectionInnerShared {
        self.shared.get().unwrap_or(&UNCONFIGURED)
    }

    /// What is done about session tickets.
    pub(crate) fn resuming(&self) -> &Resuming {
        &self.shared().resuming
    }

    /// Asks for a parameter, which blocks but on the worker.
    pub(crate) fn parameter<P: Parameter>(&self) -> Result<P, NativeError> {
        // SAFETY: the handle is a connection's and open, because `self` is alive.
        unsafe { parameter::get(self.handle().raw()) }
    }

    /// The connection in logs.
    pub(crate) fn span(&self) -> &Span {
        self.span.get_or_init(Span::none)
    }

    /// Begins the span of a client's connection. It outlives the call that makes it, so it is a root.
    pub(crate) fn name_client(&self, remote: SocketAddr, server_name: &str) {
        let local = field::Empty;
        let span = tracing::info_span!(parent: None, "connection", role = "client", %remote, local, server_name);
        tracing::debug!(parent: &span, "connecting");
        let _ = self.span.set(span);
    }

    /// Begins the span of a server's connection, a root as a client's.
    pub(crate) fn name_server(&self, remote: SocketAddr, local: Option<SocketAddr>, server_name: &str) {
        let local = local.map(field::display);
        let span = tracing::info_span!(parent: None, "connection", role = "server", %remote, local, server_name);
        tracing::debug!(parent: &span, "a client wants a connection");
        let _ = self.span.set(span);
    }

    /// Locks the state.
    pub(crate) fn lock(&self) -> LockGuard<'_, ConnectionInnerExclusive> {
        self.exclusive.lock()
    }

    /// Locks the datagrams' state. Never together with the other.
    pub(crate) fn datagrams(&self) -> LockGuard<'_, Datagrams> {
        self.datagrams.lock()
    }

    /// The tasks that run on the connection's worker.
    pub(crate) fn local_tasks(&self) -> &LocalTasks {
        &self.local_tasks
    }

    /// What ended the connection, if anything has.
    pub(crate) fn cause(&self) -> Option<ConnectionError> {
        self.lock().cause()
    }

    /// Whether something has ended the connection. Just then it may be known to [`Self::cause`] only.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// What the peer showed, which counts once the handshake is done.
    pub(crate) fn peer_identity(&self) -> Option<PeerIdentity> {
        self.peer.get().cloned()
    }

    /// The in-flight window of a stream, where the configuration fixes it.
    pub(crate) fn fixed_send_window(&self) -> Option<u64> {
        self.shared().fixed_send_window
    }

    /// Whether MsQuic copies what streams send, so that SEND_COMPLETE is no acknowledgement.
    pub(crate) fn send_buffering(&self) -> bool {
        self.shared().send_buffering
    }

    /// The code for what is given up by dropping it.
    pub(crate) fn drop_error_code(&self) -> u64 {
        self.shared().drop_error_code
    }

    /// `ConnectionStart`. It sets parameters, which blocks unless MsQuic [takes them in place](api::Abilities) and no session
    /// ticket came before: otherwise it is for the background thread.
    pub(crate) fn start(
        self: &Arc<Self>,
        configuration: sys::HQUIC,
        local: Option<&Address>,
        remote: &Address,
        server_name: &CStr,
    ) {
        if !self.lock().may_start() {
            return;
        }
        self.lend_reference();
        let handle = self.handle().raw();
        let started = self.lend_secrets().and_then(|()| {
            if matches!(self.resuming(), Resuming::No) && api::abilities().gives_up_tls {
                let yes = 1_u8;
                let parameter = sys::QUIC_PARAM_CONN_TLS_ENDS_WITH_HANDSHAKE;
                // SAFETY: the handle is open; the parameter is one byte, which the call copies.
                NativeError::check(unsafe { call!(SetParam(handle, parameter, 1, ptr::from_ref(&yes).cast())) })?;
            }
            let local = local.map(|local| (sys::QUIC_PARAM_CONN_LOCAL_ADDRESS, local));
            for (parameter, address) in local.into_iter().chain([(sys::QUIC_PARAM_CONN_REMOTE_ADDRESS, remote)]) {
                // SAFETY: the handle is open; the address outlives the call, which copies it.
                let status =
                    unsafe { call!(SetParam(handle, parameter, Address::SIZE as u32, address.as_ptr().cast())) };
                NativeError::check(status)?;
            }
            let unspecified = sys::QUIC_ADDRESS_FAMILY_UNSPEC as sys::QUIC_ADDRESS_FAMILY;
            // SAFETY: the handles are open; the name outlives the call, which copies it. The family does not count where a
            // remote address is set.
            let status = unsafe {
                call!(ConnectionStart(handle, configuration, unspecified, server_name.as_ptr(), remote.port()))
            };
            NativeError::check(status)
        });
        match started {
            Ok(()) => {
                let closed = self.lock().on_start_accepted();
                if let Some(code) = closed {
                    self.shut_down(code);
                }
            }
            Err(status) => {
                // SAFETY: lent above; a connection that neither started nor was shut down has no event to give it back.
                unsafe { self.take_reference_back() };
                const INTERNAL_ERROR: u64 = 0x1;
                let cause = ConnectionError::from_transport(INTERNAL_ERROR, status);
                self.finish_ending(|state| state.on_start_refused(cause));
            }
        }
    }

    /// Gives MsQuic the place for the TLS secrets, if there is one. It blocks as the start does, and must come before it.
    fn lend_secrets(&self) -> Result<(), NativeError> {
        let Some(secrets) = self.secrets() else { return Ok(()) };
        let length = size_of::<sys::QUIC_TLS_SECRETS>() as u32;
        // SAFETY: the handle is open, and the place has `length` bytes, which stay until the handle is closed.
        let status = unsafe {
            call!(SetParam(
                self.handle().raw(),
                sys::QUIC_PARAM_CONN_TLS_SECRETS,
                length,
                secrets.as_ptr().cast_const().cast()
            ))
        };
        NativeError::check(status)
    }

    /// Accepts a server's connection, once: `ConnectionSetConfiguration`, which only queues. The handshake goes on.
    pub(crate) fn configure(
        &self,
        shared: ConnectionInnerShared,
        configuration: &Configuration,
    ) -> Result<(), NativeError> {
        // Before MsQuic goes on, as its events look at it.
        let _ = self.shared.set(shared);
        // SAFETY: both handles are open; MsQuic takes a reference of its own to the configuration.
        let status = unsafe { call!(ConnectionSetConfiguration(self.handle().raw(), configuration.handle())) };
        NativeError::check(status)
    }

    /// The handshake has taken too long, unless it is done or the connection over.
    pub(crate) fn time_out(&self) {
        self.finish_ending(ConnectionInnerExclusive::on_handshake_timeout);
    }

    /// [`Self::time_out`] at `deadline`, unless the result is dropped before.
    pub(crate) fn time_out_at(self: &Arc<Self>, deadline: Instant) -> Timer {
        let connection = Arc::downgrade(self);
        background::at(deadline, move || {
            if let Some(connection) = connection.upgrade() {
                connection.time_out();
            }
        })
    }

    /// `ConnectionShutdown` with `code`, which is only queued and cannot fail. The cause is recorded by the caller.
    pub(crate) fn shut_down(&self, code: u64) {
        let flags = sys::QUIC_CONNECTION_SHUTDOWN_FLAGS_QUIC_CONNECTION_SHUTDOWN_FLAG_NONE;
        // SAFETY: the handle is open, because `self` is alive.
        unsafe { call!(ConnectionShutdown(self.handle().raw(), flags, code)) };
    }

    /// Records that this side closes the connection with `code`, and does so.
    pub(crate) fn close(&self, code: u64) {
        self.finish_ending(|state| state.close(code));
    }

    /// Nobody holds the connection any more.
    pub(crate) fn abandon(&self) {
        contain("a waker", || self.finish_ending(ConnectionInnerExclusive::abandon));
        self.datagrams().abandon();
    }

    /// Nobody can accept a stream of the peer's any more: refuses those that wait, and from now on those that come.
    pub(crate) fn stop_accepting(&self) {
        let unaccepted = self.lock().stop_accepting();
        for stream in unaccepted {
            stream.refuse();
        }
    }

    /// Tells `stream`, which could not start, what ended the connection: now, or as soon as that is known.
    pub(crate) fn tell_when_lost(&self, stream: &Arc<StreamInstance>) {
        let cause = self.lock().tell_when_lost(Arc::downgrade(stream));
        if let Some(cause) = cause {
            stream.connection_lost(cause).wake();
        }
    }

    /// Moves a client's connection to the address `local` (`QUIC_PARAM_CONN_ACTIVATE_PATH`), and gives the one that it got.
    /// It blocks: for the background thread, on which one move comes after the other.
    pub(crate) fn rebind(&self, local: SocketAddr) -> Result<SocketAddr, RebindError> {
        if self.is_server {
            return Err(RebindError::NotTheClient);
        }
        let (current, cause) = {
            let state = self.lock();
            ((state.path().local(), state.path().remote()), state.cause())
        };
        let (None, (Some(current), Some(remote))) = (&cause, current) else {
            return Err(cause.map_or(RebindError::TooEarly, RebindError::ConnectionLost));
        };
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(RebindError::FamilyMismatch { local, remote });
        }
        // MsQuic takes a path for new that it is told to activate.
        if local == current {
            return Ok(current);
        }
        // SAFETY: the handle is a connection's and open, because `self` is alive.
        unsafe { activate_path(self.handle().raw(), local, remote) }.map_err(|error| match self.cause() {
            Some(cause) => RebindError::ConnectionLost(cause),
            None => RebindError::from_native(error, local),
        })?;
        let local = self.address(sys::QUIC_PARAM_CONN_LOCAL_ADDRESS).unwrap_or(local);
        let wakeups = self.lock().on_path_changed(Some(local), None);
        wakeups.wake();
        Ok(local)
    }

    /// Tells MsQuic whether the peer is believed, which PEER_CERTIFICATE_RECEIVED left open
    /// (`ConnectionCertificateValidationComplete`, which only queues). A refusal is the connection's end, recorded before
    /// MsQuic has its own word for it.
    pub(crate) fn on_judged(&self, answer: Result<(), CertificateRefusal>) {
        let (believed, alert) = match &answer {
            Ok(()) => (true, 0),
            Err(refusal) => (false, refusal.alert()),
        };
        if let Err(refusal) = answer {
            tracing::info!(parent: self.span(), %refusal, "the peer's certificate is refused");
            self.end_with(|state| state.on_peer_refused(ConnectionError::CertificateRefused(refusal)));
        }
        // SAFETY: the handle is open, because `self` is alive. MsQuic ignores an answer that it no longer waits for.
        let status = unsafe {
            call!(ConnectionCertificateValidationComplete(self.handle().raw(), believed.into(), alert.into()))
        };
        if let Err(status) = NativeError::check(status) {
            // Out of memory, for which MsQuic would wait and wait. A shutdown needs none.
            const INTERNAL_ERROR: u64 = 0x1;
            let cause = ConnectionError::from_transport(INTERNAL_ERROR, status);
            self.end_with(|state| state.on_answer_not_taken(INTERNAL_ERROR, cause));
        }
    }

    /// [`Self::finish_ending`] where a waker's panic must not keep MsQuic from being told.
    fn end_with(&self, transition: impl FnOnce(&mut ConnectionInnerExclusive) -> Ending) {
        contain("a connection's end", || self.finish_ending(transition));
    }

    /// Where MsQuic writes the TLS secrets, if it is to.
    pub(super) fn secrets(&self) -> Option<&TlsSecrets> {
        self.handle.as_ref()?.secrets.as_ref()
    }

    /// An address parameter, asked for on the worker or where it may block.
    pub(super) fn address(&self, parameter: u32) -> Option<SocketAddr> {
        // SAFETY: the handle is open, because `self` is alive; on the worker the call runs in place.
        unsafe { address_parameter(self.handle().raw(), parameter) }
    }

    /// A transition that may end the connection, and what that leaves to do outside of the lock. Waking comes last: a waker
    /// that panics must keep nothing from being done.
    pub(super) fn finish_ending(&self, transition: impl FnOnce(&mut ConnectionInnerExclusive) -> Ending) {
        let (Ending { shut_down, mut wakeups, unstarted, verifier, unaccepted }, cause, first) = {
            let mut state = self.lock();
            let first = !state.is_over();
            (transition(&mut state), state.cause(), first)
        };
        if let Some(code) = shut_down {
            self.shut_down(code);
        }
        if let Some(verifier) = verifier {
            verifier.cancel();
        }
        if let Some(cause) = &cause {
            self.over.store(true, Ordering::Release);
            let datagrams = self.datagrams().on_closed(cause);
            wakeups.append(datagrams);
            for stream in unstarted.iter().filter_map(std::sync::Weak::upgrade) {
                wakeups.append(stream.connection_lost(cause.clone()));
            }
            if first {
                tracing::debug!(parent: self.span(), %cause, "closed");
            }
        }
        wakeups.wake();
        drop(unaccepted);
    }

    /// Gives MsQuic the reference that SHUTDOWN_COMPLETE brings back.
    fn lend_reference(self: &Arc<Self>) {
        let _ = Arc::into_raw(self.clone());
    }

    /// # Safety
    ///
    /// The reference was lent, and MsQuic will not bring it back.
    unsafe fn take_reference_back(self: &Arc<Self>) {
        // SAFETY: one reference was leaked by `lend_reference`, as the caller promises; `self` is another.
        unsafe { Arc::decrement_strong_count(Arc::as_ptr(self)) };
    }
}

impl Surroundings for ConnectionInner {
    fn cause(&self) -> Option<ConnectionError> {
        Self::cause(self)
    }

    fn min_rtt(&self) -> Option<Duration> {
        let stats: sys::QUIC_STATISTICS_V2 = self.parameter().ok()?;
        ConnectionStats::min_rtt(&stats)
    }

    fn copy_place(&self) -> Option<CopyPlace> {
        self.copies.place()
    }
}

impl Drop for ConnectionInner {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            // SAFETY: the last reference is gone, so nothing uses the handle.
            background::run(move || unsafe { handle.close() });
        }
    }
}

/// The callback of a connection that is being closed and has nobody left to tell.
unsafe extern "C" fn ignoring_callback(
    _handle: sys::HQUIC,
    _context: *mut c_void,
    _event: *mut sys::QUIC_CONNECTION_EVENT,
) -> sys::QUIC_STATUS {
    SUCCESS
}
