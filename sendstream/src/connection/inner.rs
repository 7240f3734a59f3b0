//! What MsQuic's events do to a connection: one `handle_event_*` per event, under its C name.

use std::{
    ffi::{CStr, c_void},
    net::SocketAddr,
    ptr::{self, NonNull},
    slice,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sendstream_sys as sys;
use tracing::{Span, field};

use crate::{
    config::{StreamScheduling, TransportConfig},
    connection::{
        datagram::{Datagrams, SendChange, lent::LentDatagram},
        judging::Judging,
        local::{LocalTasks, Turn},
        path::RebindError,
        resuming::Resuming,
        state::{Connected, ConnectionInnerExclusive, Ending, PeerStream},
    },
    error::{ConnectionError, NativeError},
    foreign::contain,
    key_log::KeyLog,
    native::{
        address::{Address, activate_path, address_parameter},
        api::{self, call},
        background::{self, Timer},
        configuration::Configuration,
        handle::Handle,
        live::LiveGuard,
        parameter::{self, Parameter},
        secrets::TlsSecrets,
    },
    stats::{ConnectionStats, HandshakeInfo},
    stream::{
        copies::{Copies, CopyPlace},
        inner::Surroundings,
        instance::StreamInstance,
    },
    tls::{CertificateRefusal, ClientAuth, PeerCertificate, PeerIdentity, Trust},
    waiters::{KeyedWait, Lock, LockGuard, WaiterKey},
};

/// What MsQuic, the user and the streams share of one connection; the owner of its handle.
///
/// MsQuic holds a reference from the start until SHUTDOWN_COMPLETE, each stream one for as long as somebody holds it, which is
/// at least until its own handle is closed, and the user one through `ConnectionInstance`. The handle is closed when the last
/// goes.
#[derive(Debug)]
pub(crate) struct ConnectionInner {
    /// `None` only while it is being closed.
    handle: Option<OpenHandle>,
    exclusive: Lock<ConnectionInnerExclusive>,
    /// Whether `exclusive` has a cause, for those who ask often. Written by: whatever ends the connection.
    over: AtomicBool,
    /// What the peer showed. Written by: PEER_CERTIFICATE_RECEIVED, before it is judged.
    peer: OnceLock<PeerIdentity>,
    datagrams: Lock<Datagrams>,
    local_tasks: LocalTasks,
    /// Short pieces that were copied and not read.
    copies: Copies,
    /// The connection in logs. Written by: `name_client`, `name_server`, before MsQuic can send an event.
    span: OnceLock<Span>,
    /// Where the TLS secrets go, if anywhere.
    key_log: Option<KeyLog>,
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
struct OpenHandle {
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
    unsafe fn close(self) {
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

    fn shared(&self) -> &ConnectionInnerShared {
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

    /// `ConnectionStart`. It sets parameters, which blocks unless MsQuic [starts in place](api::starts_in_place): then it is for
    /// the background thread.
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
            if matches!(self.resuming(), Resuming::No) && api::gives_up_tls() {
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
                self.finish_ending(|state| state.on_closed(cause));
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
        let mut tell = false;
        self.finish_ending(|state| {
            let (live, ending) = state.on_handshake_timeout();
            tell = live;
            ending
        });
        if tell {
            self.shut_down(0);
        }
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

    /// Dispatches one event to its handler and returns the status for MsQuic; `None` after the last event.
    ///
    /// # Safety
    ///
    /// `event` is valid as MsQuic passes it to the callback of this connection, on its worker.
    pub(crate) unsafe fn callback_handler_impl(
        self: &Arc<Self>,
        event: &mut sys::QUIC_CONNECTION_EVENT,
    ) -> Option<sys::QUIC_STATUS> {
        let data = &mut event.__bindgen_anon_1;
        match event.Type {
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_CONNECTED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.CONNECTED };
                // SAFETY: the event says that the protocol's name lies there, valid during the callback.
                let alpn = unsafe { bytes(event.NegotiatedAlpn, event.NegotiatedAlpnLength.into()) };
                self.handle_event_connected(alpn, event.SessionResumed);
                Some(SUCCESS)
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_RESUMED => {
                self.handle_event_resumed();
                Some(SUCCESS)
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_RESUMPTION_TICKET_RECEIVED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.RESUMPTION_TICKET_RECEIVED };
                // SAFETY: the event says that the ticket lies there, valid during the callback.
                let ticket = unsafe { bytes(event.ResumptionTicket, event.ResumptionTicketLength as usize) };
                self.handle_event_resumption_ticket_received(ticket);
                Some(SUCCESS)
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_TRANSPORT => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.SHUTDOWN_INITIATED_BY_TRANSPORT };
                let status = NativeError::from_status(event.Status);
                self.handle_event_shutdown_initiated_by_transport(event.ErrorCode, status);
                Some(SUCCESS)
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_PEER => {
                // SAFETY: the type says that this member of the union is set.
                let code = unsafe { data.SHUTDOWN_INITIATED_BY_PEER.ErrorCode };
                self.handle_event_shutdown_initiated_by_peer(code);
                Some(SUCCESS)
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_COMPLETE => {
                self.handle_event_shutdown_complete();
                None
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_LOCAL_ADDRESS_CHANGED => {
                // SAFETY: the type says that this member of the union is set, to an address that is valid during the event.
                let address = unsafe { Address::read(data.LOCAL_ADDRESS_CHANGED.Address) };
                self.handle_event_local_address_changed(address);
                Some(SUCCESS)
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_PEER_ADDRESS_CHANGED => {
                // SAFETY: the type says that this member of the union is set, to an address that is valid during the event.
                let address = unsafe { Address::read(data.PEER_ADDRESS_CHANGED.Address) };
                self.handle_event_peer_address_changed(address);
                Some(SUCCESS)
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_PEER_STREAM_STARTED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &mut data.PEER_STREAM_STARTED };
                let unidirectional =
                    event.Flags & sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_UNIDIRECTIONAL != 0;
                let early = event.Flags & sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_0_RTT != 0;
                // SAFETY: the stream is the event's, and this is the event.
                if unsafe { self.handle_event_peer_stream_started(event.Stream, !unidirectional, early) } {
                    event.Flags |= sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_DELAY_ID_FC_UPDATES;
                }
                Some(SUCCESS)
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_PEER_CERTIFICATE_RECEIVED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.PEER_CERTIFICATE_RECEIVED };
                // SAFETY: with portable certificates, which our configurations ask for, both are null or `QUIC_BUFFER`s.
                let (leaf, chain) = unsafe { (buffer(event.Certificate.cast()), buffer(event.Chain.cast())) };
                Some(self.handle_event_peer_certificate_received(leaf, chain))
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_DATAGRAM_STATE_CHANGED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.DATAGRAM_STATE_CHANGED };
                self.handle_event_datagram_state_changed(event.SendEnabled != 0, event.MaxSendLength);
                Some(SUCCESS)
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_DATAGRAM_RECEIVED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.DATAGRAM_RECEIVED };
                // SAFETY: the event says that one `QUIC_BUFFER` lies there, valid during the callback.
                let datagram = unsafe { buffer(event.Buffer) };
                self.handle_event_datagram_received(datagram);
                Some(SUCCESS)
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_DATAGRAM_SEND_STATE_CHANGED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.DATAGRAM_SEND_STATE_CHANGED };
                // SAFETY: the context is the event's, and this is the event.
                unsafe { self.handle_event_datagram_send_state_changed(event.ClientContext.cast(), event.State) };
                Some(SUCCESS)
            }
            // What nobody waits for yet, and whatever a later MsQuic adds.
            _ => Some(SUCCESS),
        }
    }

    /// QUIC_CONNECTION_EVENT_RESUMED: a server recognised the client's ticket, so early data may follow.
    fn handle_event_resumed(&self) {
        if let Resuming::SendTicket { early_data: true } = self.resuming() {
            let wakeups = self.lock().on_resumed();
            wakeups.wake();
        }
    }

    /// QUIC_CONNECTION_EVENT_RESUMPTION_TICKET_RECEIVED: a client got a ticket.
    fn handle_event_resumption_ticket_received(self: &Arc<Self>, ticket: &[u8]) {
        if let Resuming::KeepTickets(keep) = self.resuming() {
            self.keep_ticket(keep, ticket);
        }
    }

    /// QUIC_CONNECTION_EVENT_CONNECTED: the handshake is done. `outcome` has bit 0 set if the session was resumed, and bit 1
    /// if a client's early data was taken (`early-data-verdict` in sys).
    fn handle_event_connected(&self, alpn: &[u8], outcome: u8) {
        const RESUMED: u8 = 1;
        const EARLY_DATA_ACCEPTED: u8 = 2;
        let resumed = outcome & RESUMED != 0;
        if resumed && let Some(identity) = self.resuming().resumed_identity() {
            let _ = self.peer.set(identity);
        }
        if outcome & EARLY_DATA_ACCEPTED != 0 {
            self.lock().on_early_data_accepted();
        }
        if let Resuming::SendTicket { .. } = self.resuming() {
            self.send_ticket();
        }
        // On the connection's own worker, parameter calls run in place.
        let local = self.address(sys::QUIC_PARAM_CONN_LOCAL_ADDRESS);
        let remote = self.address(sys::QUIC_PARAM_CONN_REMOTE_ADDRESS);
        let connected = Connected {
            alpn: alpn.to_vec(),
            resumed,
            handshake: self.parameter().ok().as_ref().and_then(HandshakeInfo::new),
        };
        if self.shared().scheduling != StreamScheduling::default() {
            self.set_scheduling(self.shared().scheduling);
        }
        if let (Some(key_log), Some(secrets)) = (&self.key_log, self.secrets()) {
            // SAFETY: this is a callback on the worker, so MsQuic writes nothing meanwhile.
            key_log.append(unsafe { secrets.get() });
        }
        if let Some(local) = local {
            self.span().record("local", field::display(local));
        }
        let cipher_suite = connected.handshake.as_ref().map(|handshake| handshake.cipher_suite);
        let wakeups = self.lock().on_connected(connected, local, remote);
        wakeups.wake();
        tracing::debug!(
            parent: self.span(),
            alpn = %alpn.escape_ascii(),
            cipher_suite = cipher_suite.map(field::display),
            "connected"
        );
    }

    /// QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_TRANSPORT: a transport ended the connection, the peer's or this
    /// side's.
    fn handle_event_shutdown_initiated_by_transport(&self, code: u64, status: NativeError) {
        self.finish_ending(|state| {
            let cause = ConnectionError::from_transport(code, status);
            // What looks like a refusal is none once the handshake is done.
            let cause = match cause {
                ConnectionError::Refused if state.connected().is_some() => {
                    ConnectionError::TransportClosed { code, status }
                }
                cause => cause,
            };
            state.on_closed(cause)
        });
    }

    /// QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_PEER: the peer's application closed the connection.
    fn handle_event_shutdown_initiated_by_peer(&self, code: u64) {
        let reason = self.close_reason();
        self.finish_ending(|state| state.on_closed(ConnectionError::ApplicationClosed { code, reason }));
    }

    /// QUIC_CONNECTION_EVENT_SHUTDOWN_COMPLETE: MsQuic is done with the connection and all of its streams.
    fn handle_event_shutdown_complete(&self) {
        self.finish_ending(ConnectionInnerExclusive::on_shutdown_complete);
        tracing::debug!(parent: self.span(), "over");
    }

    /// QUIC_CONNECTION_EVENT_LOCAL_ADDRESS_CHANGED: this side has another address. MsQuic 2.6 never says so.
    fn handle_event_local_address_changed(&self, address: Option<SocketAddr>) {
        let wakeups = self.lock().path_mut().on_changed(address, None);
        wakeups.wake();
    }

    /// QUIC_CONNECTION_EVENT_PEER_ADDRESS_CHANGED: the peer sends from another address, and maybe to another.
    fn handle_event_peer_address_changed(&self, address: Option<SocketAddr>) {
        let local = self.address(sys::QUIC_PARAM_CONN_LOCAL_ADDRESS);
        let wakeups = self.lock().path_mut().on_changed(local, address);
        wakeups.wake();
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
        let wakeups = self.lock().path_mut().on_changed(Some(local), None);
        wakeups.wake();
        Ok(local)
    }

    /// QUIC_CONNECTION_EVENT_PEER_STREAM_STARTED: the peer started a stream. Whether it is to count against the peer's limit
    /// until its handle is closed.
    ///
    /// # Safety
    ///
    /// `stream` is the event's, and this is the event.
    unsafe fn handle_event_peer_stream_started(
        self: &Arc<Self>,
        stream: sys::HQUIC,
        bidirectional: bool,
        early: bool,
    ) -> bool {
        // SAFETY: as the caller promises.
        let instance = unsafe { StreamInstance::take_over(self, stream, bidirectional, early) };
        if early {
            self.lock().on_early_data_accepted();
        }
        let PeerStream { accepted_slowly, refused, wakeups } =
            self.lock().on_peer_stream_started(bidirectional, instance);
        if let Some(instance) = refused {
            // It is ours by now, so it is for us to end it.
            instance.refuse();
        }
        wakeups.wake();
        accepted_slowly
    }

    /// QUIC_CONNECTION_EVENT_PEER_CERTIFICATE_RECEIVED: is this the peer that is meant? On a server that asks for
    /// certificates it also comes, without one, for a client that has none.
    ///
    /// A refusal is told as an answer that comes later does, although it is known now: only so has it an alert of its own.
    /// MsQuic ends the handshake for a failing status as well, always with `bad_certificate`.
    fn handle_event_peer_certificate_received(self: &Arc<Self>, leaf: &[u8], chain: &[u8]) -> sys::QUIC_STATUS {
        let peer = PeerIdentity::from_event(leaf, chain);
        let (trust, server_name, verified) = match &self.shared().verify {
            Some(Verify::Server { trust, server_name }) => {
                (trust, Some(server_name), trust.verify_server(server_name, leaf, chain))
            }
            Some(Verify::Client { required: false, .. }) if peer.is_none() => return SUCCESS,
            Some(Verify::Client { trust, .. }) => (trust, None, trust.verify_client(leaf, chain)),
            // Nobody was asked for a certificate, so nobody may pass for having shown one.
            None => return NativeError::HANDSHAKE_FAILURE.status(),
        };
        let Some(peer) = peer else {
            self.on_judged(Err(CertificateRefusal::NoCertificate));
            return PENDING;
        };
        let peer = self.peer.get_or_init(|| peer);
        let asked = || PeerCertificate::new(peer.clone(), server_name.cloned(), verified.clone());
        if let Some(verdict) = trust.ask_verifier(asked) {
            let judging = Judging::new(Arc::downgrade(self), verdict);
            if !self.lock().on_judging(&judging) {
                return NativeError::ABORTED.status();
            }
            judging.poll();
            return PENDING;
        }
        match verified {
            Ok(()) => SUCCESS,
            refused => {
                self.on_judged(refused);
                PENDING
            }
        }
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
            self.end_with(ConnectionError::CertificateRefused(refusal));
        }
        // SAFETY: the handle is open, because `self` is alive. MsQuic ignores an answer that it no longer waits for.
        let status = unsafe {
            call!(ConnectionCertificateValidationComplete(self.handle().raw(), believed.into(), alert.into()))
        };
        if let Err(status) = NativeError::check(status) {
            // Out of memory, for which MsQuic would wait and wait. A shutdown needs none.
            const INTERNAL_ERROR: u64 = 0x1;
            self.end_with(ConnectionError::from_transport(INTERNAL_ERROR, status));
            self.shut_down(INTERNAL_ERROR);
        }
    }

    /// Records `cause` where a waker's panic must not keep MsQuic from being told.
    fn end_with(&self, cause: ConnectionError) {
        contain("a connection's end", || self.finish_ending(|state| state.on_closed(cause)));
    }

    /// QUIC_CONNECTION_EVENT_DATAGRAM_STATE_CHANGED: how large a datagram can be sent, if any. MsQuic counts the payload.
    fn handle_event_datagram_state_changed(&self, send_enabled: bool, max_send_length: u16) {
        self.datagrams().on_state_changed(send_enabled.then_some(max_send_length));
        tracing::debug!(parent: self.span(), send_enabled, max_size = max_send_length, "datagrams");
    }

    /// QUIC_CONNECTION_EVENT_DATAGRAM_RECEIVED: a datagram of the peer's, in memory that is MsQuic's after this.
    fn handle_event_datagram_received(&self, datagram: &[u8]) {
        // MsQuic ends the connection of a peer that sends one although we said that we take none.
        let Some(limit) = self.shared().datagram_receive_buffer else { return };
        let bytes = datagram.len();
        let datagram = Bytes::copy_from_slice(datagram);
        let wakeups = self.datagrams().on_received(datagram, limit);
        wakeups.wake();
        tracing::trace!(parent: self.span(), bytes, "datagram received");
    }

    /// QUIC_CONNECTION_EVENT_DATAGRAM_SEND_STATE_CHANGED: what became of a datagram.
    ///
    /// # Safety
    ///
    /// `context` is the event's, and this is the event.
    unsafe fn handle_event_datagram_send_state_changed(
        &self,
        context: *mut LentDatagram,
        state: sys::QUIC_DATAGRAM_SEND_STATE,
    ) {
        let (Some(context), Some(change)) = (NonNull::new(context), SendChange::from_native(state)) else { return };
        // SAFETY: every datagram is sent with such a context. Events of one connection come one after the other, and none
        // about this datagram after its final state.
        let (id, buffer) = unsafe { LentDatagram::on_change(context, change) };
        // Freed before anybody is woken, and outside the lock, as in a stream's SEND_COMPLETE.
        drop(buffer);
        let wakeups = self.datagrams().on_send_change(id, change);
        wakeups.wake();
        tracing::trace!(parent: self.span(), ?id, ?change, "datagram");
    }

    /// Sets which stream goes first, on the worker.
    fn set_scheduling(&self, scheduling: StreamScheduling) {
        let scheme = scheduling.native();
        // SAFETY: the handle is open, and `scheme` is what this parameter holds; on the worker the call runs in place.
        let status = unsafe {
            call!(SetParam(
                self.handle().raw(),
                sys::QUIC_PARAM_CONN_STREAM_SCHEDULING_SCHEME,
                size_of_val(&scheme) as u32,
                (&raw const scheme).cast()
            ))
        };
        if let Err(error) = NativeError::check(status) {
            tracing::warn!(parent: self.span(), %error, "the scheduling of streams stays as it was");
        }
    }

    /// Where MsQuic writes the TLS secrets, if it is to.
    fn secrets(&self) -> Option<&TlsSecrets> {
        self.handle.as_ref()?.secrets.as_ref()
    }

    /// An address parameter, asked for on the worker or where it may block.
    fn address(&self, parameter: u32) -> Option<SocketAddr> {
        // SAFETY: the handle is open, because `self` is alive; on the worker the call runs in place.
        unsafe { address_parameter(self.handle().raw(), parameter) }
    }

    /// The peer's reason phrase, asked for on the worker.
    fn close_reason(&self) -> Arc<str> {
        // RFC 9000 bounds a reason by what fits into one packet.
        let mut phrase = [0u8; 2048];
        let mut length = phrase.len() as u32;
        // SAFETY: the handle is open, and `phrase` has `length` bytes.
        let status = unsafe {
            call!(GetParam(
                self.handle().raw(),
                sys::QUIC_PARAM_CONN_CLOSE_REASON_PHRASE,
                &mut length,
                phrase.as_mut_ptr().cast()
            ))
        };
        let written = if NativeError::check(status).is_ok() { length as usize } else { 0 };
        let text = phrase[..written].split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into()
    }

    /// A transition that may end the connection, and what that leaves to do outside of the lock. Waking comes last: a waker
    /// that panics must keep nothing from being done.
    fn finish_ending(&self, transition: impl FnOnce(&mut ConnectionInnerExclusive) -> Ending) {
        let (Ending { shut_down, mut wakeups, unstarted, judging, unaccepted }, cause, first) = {
            let mut state = self.lock();
            let first = state.cause().is_none();
            (transition(&mut state), state.cause(), first)
        };
        if let Some(code) = shut_down {
            self.shut_down(code);
        }
        if let Some(judging) = judging {
            judging.cancel();
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

const SUCCESS: sys::QUIC_STATUS = 0;

/// QUIC_STATUS_PENDING: the answer comes with `ConnectionCertificateValidationComplete`.
const PENDING: sys::QUIC_STATUS = (-2i32).cast_unsigned();

/// The callback of every connection.
///
/// # Safety
///
/// For MsQuic to call: `context` is the connection's `ConnectionInner`, kept alive by the reference MsQuic was lent.
unsafe extern "C" fn connection_callback(
    _handle: sys::HQUIC,
    context: *mut c_void,
    event: *mut sys::QUIC_CONNECTION_EVENT,
) -> sys::QUIC_STATUS {
    let context = context.cast::<ConnectionInner>().cast_const();
    // SAFETY: the event is valid during the callback, and ours to write to.
    let event = unsafe { &mut *event };
    let kind = event.Type;
    // SAFETY: MsQuic holds a reference from the start until SHUTDOWN_COMPLETE; this borrows it without taking it.
    let inner = std::mem::ManuallyDrop::new(unsafe { Arc::from_raw(context) });
    let turn = Turn::begin(&inner);
    let handled = contain("a connection's event", || {
        // SAFETY: the event is one of this connection's, on its worker.
        unsafe { inner.callback_handler_impl(event) }
    });
    let last = kind == sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_COMPLETE;
    let status = handled.unwrap_or_else(|| {
        const INTERNAL_ERROR: u64 = 0x1;
        if !last {
            contain("a connection's failure", || inner.close(INTERNAL_ERROR));
        }
        // A verifier that panicked has not verified. For every other event MsQuic ignores a failure, except that it
        // closes a stream that was not taken, and one that was taken must not be closed twice.
        let verifying = kind == sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_PEER_CERTIFICATE_RECEIVED;
        Some(if verifying { NativeError::INTERNAL_ERROR.status() } else { SUCCESS })
    });
    let rest = turn.rest(&inner);
    turn.end(rest);
    if last {
        inner.local_tasks.close();
        let inner = std::mem::ManuallyDrop::into_inner(inner);
        contain("a connection's close", || {
            // If nobody else is left, the handle closes here: in its own SHUTDOWN_COMPLETE that neither waits nor queues.
            if let Some(mut inner) = Arc::into_inner(inner)
                && let Some(handle) = inner.handle.take()
            {
                // SAFETY: the last reference is gone, so nothing uses the handle.
                unsafe { handle.close() };
            }
        });
    }
    status.unwrap_or(SUCCESS)
}

/// The callback of a connection that is being closed and has nobody left to tell.
unsafe extern "C" fn ignoring_callback(
    _handle: sys::HQUIC,
    _context: *mut c_void,
    _event: *mut sys::QUIC_CONNECTION_EVENT,
) -> sys::QUIC_STATUS {
    SUCCESS
}

/// # Safety
///
/// `start` is null or points to `length` bytes that stay as they are for `'a`.
pub(crate) unsafe fn bytes<'a>(start: *const u8, length: usize) -> &'a [u8] {
    if start.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { slice::from_raw_parts(start, length) }
}

/// # Safety
///
/// `buffer` is null or points to a `QUIC_BUFFER` whose bytes stay as they are for `'a`.
unsafe fn buffer<'a>(buffer: *const sys::QUIC_BUFFER) -> &'a [u8] {
    // SAFETY: as the caller promises.
    unsafe { buffer.as_ref().map_or(&[], |buffer| bytes(buffer.Buffer, buffer.Length as usize)) }
}

/// The wait for what ended the connection.
pub(crate) struct Closed<'a>(pub(crate) &'a ConnectionInner);

impl KeyedWait for Closed<'_> {
    type Output = ConnectionError;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        self.0.lock().poll_closed(key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.0.lock().forget_closed(key)
    }
}

/// The wait for a datagram of the peer's.
pub(crate) struct ReadDatagram<'a>(pub(crate) &'a ConnectionInner);

impl KeyedWait for ReadDatagram<'_> {
    type Output = Result<Bytes, ConnectionError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.datagrams().poll_read(key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.0.datagrams().forget_reader(key)
    }
}

/// The wait for a stream of the peer's.
pub(crate) struct Accept<'a> {
    pub(crate) inner: &'a ConnectionInner,
    pub(crate) bidirectional: bool,
}

impl KeyedWait for Accept<'_> {
    type Output = Result<Arc<StreamInstance>, ConnectionError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.lock().poll_accept(self.bidirectional, key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.inner.lock().forget_accept(self.bidirectional, key)
    }
}
