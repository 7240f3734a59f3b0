//! [`ConnectionInner`] receives MsQuic's events of a connection: one `handle_event_*` for each
//! event, under its C name.

use std::{
    net::SocketAddr,
    ptr::NonNull,
    slice,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use sendstream_core::{
    datagrams::Datagrams,
    dir::Dir,
    stream::copies::{Copies, CopyPlace},
    wait::{LockGuard, Wakeups},
};
use sendstream_sys as sys;
use tracing::{Span, field};

#[cfg(feature = "qlog")]
use crate::native::qlog::State;
use crate::{
    driver::{
        callback::Next,
        connection::{
            judge::{Judged as _, Judging},
            lent_datagram::{LentDatagram, send_change},
            owner::ConnectionInstance,
            shared::{ConnectionInnerShared, Resuming, UNCONFIGURED, Verify},
            state::{Connected, ConnectionInnerExclusive, PeerStream},
        },
        stream::owner::{Early, StreamInstance},
        turn::WorkerTasks,
        wakes::Wake as _,
    },
    native::{
        address::Address,
        fork::{self, ForkLock},
        logs::Logs,
        status,
    },
    types::{
        config::StreamScheduling,
        error::{ConnectionError, NativeError},
        stats::HandshakeInfo,
        text::Printable,
        tls::{CertificateRefusal, PeerCertificate, PeerIdentity},
    },
};

/// What MsQuic, the user and the streams share of one connection, beside its handle.
#[derive(Debug)]
pub(crate) struct ConnectionInner {
    exclusive: ForkLock<ConnectionInnerExclusive>,
    /// Whether `exclusive` has a cause, for those who ask often. Written by: whatever ends the
    /// connection.
    over: AtomicBool,
    /// What the peer showed. Written by: PEER_CERTIFICATE_RECEIVED, before it is judged.
    peer: OnceLock<PeerIdentity>,
    /// The smoothed round-trip time in microseconds; 0 before. Written by: CONNECTED where MsQuic
    /// does not publish it, IDEAL_SEND_BUFFER_SIZE.
    rtt: AtomicU32,
    datagrams: ForkLock<Datagrams<ConnectionError>>,
    worker_tasks: WorkerTasks,
    /// Short pieces that were copied and not read.
    copies: Copies,
    /// The connection in logs. Written by: `name_client`, `name_server`, before MsQuic can send an
    /// event.
    span: OnceLock<Span>,
    /// Where the TLS secrets go, if anywhere.
    logs: Logs,
    /// Empty until a server's application accepts the connection. Written by: birth, `configure`.
    shared: OnceLock<ConnectionInnerShared>,
}

impl ConnectionInner {
    /// A connection of which MsQuic has said nothing yet; `started` when it already works on it. A
    /// server's connection gets its `shared` part when it is accepted.
    pub(super) fn new(started: bool, shared: Option<ConnectionInnerShared>, logs: Logs) -> Self {
        Self {
            exclusive: ForkLock::new(ConnectionInnerExclusive::new(started)),
            over: AtomicBool::new(false),
            peer: OnceLock::new(),
            rtt: AtomicU32::new(0),
            datagrams: ForkLock::new(Datagrams::default()),
            worker_tasks: WorkerTasks::default(),
            copies: Copies::default(),
            span: OnceLock::new(),
            logs,
            shared: shared.map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    // ---- Questions ------------------------------------------------------------------------------

    /// Locks the state.
    pub(crate) fn lock(&self) -> LockGuard<'_, ConnectionInnerExclusive> {
        self.exclusive.lock(|| {
            let mut state = ConnectionInnerExclusive::new(true);
            drop(state.close_because(0, ConnectionError::Forked));
            state
        })
    }

    /// Locks the datagrams' state. Never together with the other.
    pub(crate) fn datagrams(&self) -> LockGuard<'_, Datagrams<ConnectionError>> {
        self.datagrams.lock(|| {
            let mut datagrams = Datagrams::default();
            drop(datagrams.on_closed(&ConnectionError::Forked));
            datagrams
        })
    }

    /// What ended the connection, if anything has.
    pub(crate) fn cause(&self) -> Option<ConnectionError> {
        self.lock().cause()
    }

    /// Whether something has ended the connection. Just then it may be known to [`Self::cause`]
    /// only.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) || fork::is_forked()
    }

    /// What the peer showed, which counts once the handshake is done.
    pub(crate) fn peer_identity(&self) -> Option<PeerIdentity> {
        self.peer.get().cloned()
    }

    /// The smoothed round-trip time as an event brought it last, or the initial one.
    pub(super) fn noted_rtt(&self) -> Duration {
        match self.rtt.load(Ordering::Relaxed) {
            0 => self.shared().initial_rtt,
            microseconds => Duration::from_micros(microseconds.into()),
        }
    }

    /// An event brought the smoothed round-trip time, in microseconds.
    pub(crate) fn note_rtt(&self, microseconds: u32) {
        self.rtt.store(microseconds, Ordering::Relaxed);
    }

    /// The tasks that run on the connection's worker.
    pub(crate) fn worker_tasks(&self) -> &WorkerTasks {
        &self.worker_tasks
    }

    /// A place for a copy of a short piece, if there is one.
    pub(crate) fn copy_place(&self) -> Option<CopyPlace> {
        self.copies.place()
    }

    /// What the connection goes by.
    pub(crate) fn shared(&self) -> &ConnectionInnerShared {
        self.shared.get().unwrap_or(&UNCONFIGURED)
    }

    /// Says what a server's connection goes by, once.
    pub(super) fn set_shared(&self, shared: ConnectionInnerShared) {
        let _ = self.shared.set(shared);
    }

    /// The connection in logs.
    pub(crate) fn span(&self) -> &Span {
        self.span.get_or_init(Span::none)
    }

    /// Begins the span of a client's connection. It outlives the call that makes it, so it is a
    /// root.
    pub(crate) fn name_client(&self, remote: SocketAddr, server_name: &str) {
        let local = field::Empty;
        let server_name = field::display(Printable::new(server_name));
        let span = tracing::info_span!(parent: None, "connection", role = "client", %remote, local, server_name);
        tracing::debug!(parent: &span, "connecting");
        let _ = self.span.set(span);
    }

    /// Begins the span of a server's connection, a root as a client's.
    pub(crate) fn name_server(&self, remote: SocketAddr, local: Option<SocketAddr>, server_name: &str) {
        let local = local.map(field::display);
        let server_name = field::display(Printable::new(server_name));
        let span = tracing::info_span!(parent: None, "connection", role = "server", %remote, local, server_name);
        tracing::debug!(parent: &span, "a client wants a connection");
        let _ = self.span.set(span);
    }

    /// The connection has ended because of `cause`: tells the parts that are not in the exclusive
    /// state.
    pub(super) fn on_ended(&self, cause: &ConnectionError) -> Wakeups {
        self.over.store(true, Ordering::Release);
        self.datagrams().on_closed(cause)
    }

    // ---- Events ---------------------------------------------------------------------------------

    /// Dispatches one event to its handler.
    ///
    /// # Safety
    ///
    /// `event` is valid as MsQuic passes it to the callback of the connection that `owner` is and
    /// that this is the inner part of, on its worker.
    pub(super) unsafe fn callback_handler_impl(
        &self,
        event: &mut sys::QUIC_CONNECTION_EVENT,
        owner: &Arc<ConnectionInstance>,
    ) -> Next {
        let data = &mut event.__bindgen_anon_1;
        match event.Type {
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_CONNECTED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.CONNECTED };
                // SAFETY: the event says that the protocol's name lies there, valid during the
                // callback.
                let alpn = unsafe { bytes(event.NegotiatedAlpn, event.NegotiatedAlpnLength.into()) };
                self.handle_event_connected(alpn, event.SessionResumed, owner);
                SUCCESS
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_RESUMED => {
                self.handle_event_resumed();
                SUCCESS
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_RESUMPTION_TICKET_RECEIVED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.RESUMPTION_TICKET_RECEIVED };
                // SAFETY: the event says that the ticket lies there, valid during the callback.
                let ticket = unsafe { bytes(event.ResumptionTicket, event.ResumptionTicketLength as usize) };
                self.handle_event_resumption_ticket_received(ticket, owner);
                SUCCESS
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_TRANSPORT => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.SHUTDOWN_INITIATED_BY_TRANSPORT };
                let status = NativeError::from_status(event.Status);
                self.handle_event_shutdown_initiated_by_transport(event.ErrorCode, status, owner);
                SUCCESS
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_PEER => {
                // SAFETY: the type says that this member of the union is set.
                let code = unsafe { data.SHUTDOWN_INITIATED_BY_PEER.ErrorCode };
                self.handle_event_shutdown_initiated_by_peer(code, owner);
                SUCCESS
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_COMPLETE => {
                self.handle_event_shutdown_complete(owner);
                Next::Release
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_LOCAL_ADDRESS_CHANGED => {
                // SAFETY: the type says that this member of the union is set, to an address that is
                // valid during the event.
                let address = unsafe { Address::read(data.LOCAL_ADDRESS_CHANGED.Address) };
                self.handle_event_local_address_changed(address);
                SUCCESS
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_PEER_ADDRESS_CHANGED => {
                // SAFETY: the type says that this member of the union is set, to an address that is
                // valid during the event.
                let address = unsafe { Address::read(data.PEER_ADDRESS_CHANGED.Address) };
                self.handle_event_peer_address_changed(address, owner);
                SUCCESS
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_PEER_STREAM_STARTED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &mut data.PEER_STREAM_STARTED };
                let unidirectional =
                    event.Flags & sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_UNIDIRECTIONAL != 0;
                let dir = if unidirectional { Dir::Uni } else { Dir::Bi };
                let early = Early::from(event.Flags & sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_0_RTT != 0);
                // SAFETY: the stream is the event's, and this is the event.
                if unsafe { self.handle_event_peer_stream_started(event.Stream, dir, early, owner) } {
                    event.Flags |= sys::QUIC_STREAM_OPEN_FLAGS_QUIC_STREAM_OPEN_FLAG_DELAY_ID_FC_UPDATES;
                }
                SUCCESS
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_PEER_CERTIFICATE_RECEIVED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.PEER_CERTIFICATE_RECEIVED };
                // SAFETY: with portable certificates, which our configurations ask for, both are
                // null or `QUIC_BUFFER`s.
                let (leaf, chain) = unsafe { (buffer(event.Certificate.cast()), buffer(event.Chain.cast())) };
                Next::Return(self.handle_event_peer_certificate_received(leaf, chain, owner))
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_DATAGRAM_STATE_CHANGED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.DATAGRAM_STATE_CHANGED };
                self.handle_event_datagram_state_changed(event.SendEnabled != 0, event.MaxSendLength);
                SUCCESS
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_DATAGRAM_RECEIVED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.DATAGRAM_RECEIVED };
                // SAFETY: the event says that one `QUIC_BUFFER` lies there, valid during the
                // callback.
                let datagram = unsafe { buffer(event.Buffer) };
                self.handle_event_datagram_received(datagram);
                SUCCESS
            }
            sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_DATAGRAM_SEND_STATE_CHANGED => {
                // SAFETY: the type says that this member of the union is set.
                let event = unsafe { &data.DATAGRAM_SEND_STATE_CHANGED };
                // SAFETY: the context is the event's, and this is the event.
                unsafe { self.handle_event_datagram_send_state_changed(event.ClientContext.cast(), event.State) };
                SUCCESS
            }
            // What nobody waits for yet, and whatever a later MsQuic adds.
            _ => SUCCESS,
        }
    }

    /// QUIC_CONNECTION_EVENT_RESUMED: a server recognised the client's ticket, so early data may
    /// follow.
    fn handle_event_resumed(&self) {
        if let Resuming::SendTicket { early_data: true } = &self.shared().resuming {
            let wakeups = self.lock().on_resumed();
            wakeups.wake();
        }
    }

    /// QUIC_CONNECTION_EVENT_RESUMPTION_TICKET_RECEIVED: a client got a ticket.
    fn handle_event_resumption_ticket_received(&self, ticket: &[u8], owner: &Arc<ConnectionInstance>) {
        if let Resuming::KeepTickets(keep) = &self.shared().resuming {
            owner.keep_ticket(keep, ticket);
        }
    }

    /// QUIC_CONNECTION_EVENT_CONNECTED: the handshake is done. `outcome` has bit 0 set if the
    /// session was resumed, and bit 1 if a client's early data was taken (`early-data-verdict` in
    /// sys).
    fn handle_event_connected(&self, alpn: &[u8], outcome: u8, owner: &ConnectionInstance) {
        let resumed = outcome & sys::QUIC_SESSION_RESUMED != 0;
        if resumed && let Some(identity) = self.shared().resuming.resumed_identity() {
            let _ = self.peer.set(identity);
        }
        if outcome & sys::QUIC_SESSION_EARLY_DATA_ACCEPTED != 0 {
            self.lock().on_early_data_accepted();
        }
        if let Resuming::SendTicket { .. } = &self.shared().resuming {
            owner.send_ticket();
        }
        // On the connection's own worker, parameter calls run in place.
        owner.note_first_rtt();
        let local = owner.address(sys::QUIC_PARAM_CONN_LOCAL_ADDRESS);
        let remote = owner.address(sys::QUIC_PARAM_CONN_REMOTE_ADDRESS);
        let connected = Connected {
            alpn: alpn.to_vec(),
            resumed,
            handshake: owner.parameter().ok().as_ref().and_then(HandshakeInfo::new),
            exporter: owner.exporter(),
        };
        // MsQuic begins with that.
        if self.shared().scheduling != StreamScheduling::Fifo {
            owner.set_scheduling(self.shared().scheduling);
        }
        if let (Some(key_log), Some(secrets)) = (&self.logs.keys, owner.secrets()) {
            // SAFETY: this is a callback on the worker, so MsQuic writes nothing meanwhile.
            key_log.append(unsafe { secrets.get() });
        }
        #[cfg(feature = "qlog")]
        if let Some(log) = owner.log() {
            log.state(State::Connected);
        }
        if let Some(local) = local {
            self.span().record("local", field::display(local));
        }
        let cipher_suite = connected.handshake.as_ref().map(|handshake| handshake.cipher_suite);
        let wakeups = self.lock().on_connected(Arc::new(connected), local, remote);
        wakeups.wake();
        tracing::debug!(
            parent: self.span(),
            alpn = %Printable::new(alpn),
            cipher_suite = cipher_suite.map(field::display),
            "connected"
        );
    }

    /// QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_TRANSPORT: a transport ended the connection, the
    /// peer's or this side's.
    fn handle_event_shutdown_initiated_by_transport(&self, code: u64, status: NativeError, owner: &ConnectionInstance) {
        owner.finish_ending(|state| {
            let cause = ConnectionError::from_transport(code, status);
            // What looks like a refusal is none once the handshake is done.
            let cause = match cause {
                ConnectionError::Refused if state.connected().is_some() => {
                    ConnectionError::TransportClosed { code, status }
                }
                cause if state.connected().is_none() => {
                    cause.before_the_handshake(|| self.shared().no_common_protocol())
                }
                cause => cause,
            };
            state.on_shutdown_initiated_by_transport(cause)
        });
    }

    /// QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_PEER: the peer's application closed the
    /// connection.
    fn handle_event_shutdown_initiated_by_peer(&self, code: u64, owner: &ConnectionInstance) {
        let reason = owner.close_reason();
        let cause = ConnectionError::ApplicationClosed { code, reason };
        owner.finish_ending(|state| state.on_shutdown_initiated_by_peer(cause));
    }

    /// QUIC_CONNECTION_EVENT_SHUTDOWN_COMPLETE: MsQuic is done with the connection and all of its
    /// streams.
    fn handle_event_shutdown_complete(&self, owner: &ConnectionInstance) {
        #[cfg(feature = "qlog")]
        if let Some(log) = owner.log() {
            log.state(State::Closed);
        }
        owner.finish_ending(ConnectionInnerExclusive::on_shutdown_complete);
        tracing::debug!(parent: self.span(), "over");
    }

    /// QUIC_CONNECTION_EVENT_LOCAL_ADDRESS_CHANGED: this side has another address. MsQuic 2.6 never
    /// says so.
    fn handle_event_local_address_changed(&self, address: Option<SocketAddr>) {
        let wakeups = self.lock().on_path_changed(address, None);
        wakeups.wake();
    }

    /// QUIC_CONNECTION_EVENT_PEER_ADDRESS_CHANGED: the peer sends from another address, and maybe
    /// to another.
    fn handle_event_peer_address_changed(&self, address: Option<SocketAddr>, owner: &ConnectionInstance) {
        let local = owner.address(sys::QUIC_PARAM_CONN_LOCAL_ADDRESS);
        let wakeups = self.lock().on_path_changed(local, address);
        wakeups.wake();
    }

    /// QUIC_CONNECTION_EVENT_PEER_STREAM_STARTED: the peer started a stream. Whether it is to count
    /// against the peer's limit until its handle is closed.
    ///
    /// # Safety
    ///
    /// `stream` is the event's, and this is the event.
    unsafe fn handle_event_peer_stream_started(
        &self,
        stream: sys::HQUIC,
        dir: Dir,
        early: Early,
        owner: &Arc<ConnectionInstance>,
    ) -> bool {
        // SAFETY: as the caller promises.
        let instance = unsafe { StreamInstance::take_over(owner, stream, dir, early) };
        if early == Early::Yes {
            self.lock().on_early_data_accepted();
        }
        let PeerStream { accepted_slowly, refused, wakeups } = self.lock().on_peer_stream_started(dir, instance);
        if let Some(instance) = &accepted_slowly {
            // The lock is gone, so somebody may have accepted the stream by now. That does no harm:
            // only SHUTDOWN_COMPLETE reads this, on the same worker, after this event.
            instance.keep_handle();
        }
        if let Some(instance) = refused {
            // It is ours by now, so it is for us to end it.
            instance.refuse();
        }
        wakeups.wake();
        accepted_slowly.is_some()
    }

    /// QUIC_CONNECTION_EVENT_PEER_CERTIFICATE_RECEIVED: is this the peer that is meant? On a server
    /// that asks for certificates it also comes, without one, for a client that has none.
    ///
    /// A refusal is told as an answer that comes later does, although it is known now: only so has
    /// it an alert of its own. MsQuic ends the handshake for a failing status as well, always with
    /// `bad_certificate`.
    fn handle_event_peer_certificate_received(
        &self,
        leaf: &[u8],
        chain: &[u8],
        owner: &Arc<ConnectionInstance>,
    ) -> sys::QUIC_STATUS {
        let peer = PeerIdentity::from_event(leaf, chain);
        let (trust, server_name, verified) = match &self.shared().verify {
            Some(Verify::Server { trust, server_name }) => {
                (trust, Some(server_name), trust.verify_server(server_name, leaf, chain))
            }
            Some(Verify::Client { required: false, .. }) if peer.is_none() => return 0,
            Some(Verify::Client { trust, .. }) => (trust, None, trust.verify_client(leaf, chain)),
            // Nobody was asked for a certificate, so nobody may pass for having shown one.
            None => return NativeError::HANDSHAKE_FAILURE.status(),
        };
        let Some(peer) = peer else {
            owner.on_judged(Err(CertificateRefusal::NoCertificate));
            return status::PENDING;
        };
        let peer = self.peer.get_or_init(|| peer);
        let asked = || PeerCertificate::new(peer.clone(), server_name.cloned(), verified.clone());
        if let Some(verdict) = trust.ask_verifier(asked) {
            let connection: Weak<ConnectionInstance> = Arc::downgrade(owner);
            let judging = Judging::new(connection, verdict);
            if !self.lock().on_judging(&judging) {
                return NativeError::ABORTED.status();
            }
            judging.poll();
            return status::PENDING;
        }
        match verified {
            Ok(()) => 0,
            refused => {
                owner.on_judged(refused);
                status::PENDING
            }
        }
    }

    /// QUIC_CONNECTION_EVENT_DATAGRAM_STATE_CHANGED: how large a datagram can be sent, if any.
    /// MsQuic counts the payload.
    fn handle_event_datagram_state_changed(&self, send_enabled: bool, max_send_length: u16) {
        self.datagrams().on_state_changed(send_enabled.then_some(max_send_length));
        tracing::debug!(parent: self.span(), send_enabled, max_size = max_send_length, "datagrams");
    }

    /// QUIC_CONNECTION_EVENT_DATAGRAM_RECEIVED: a datagram of the peer's, in memory that is
    /// MsQuic's after this.
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
        let (Some(context), Some(change)) = (NonNull::new(context), send_change(state)) else { return };
        // SAFETY: every datagram is sent with such a context. Events of one connection come one
        // after the other, and none about this datagram after its final state.
        let (id, buffer) = unsafe { LentDatagram::on_change(context, change) };
        // Freed before anybody is woken, and outside the lock, as in a stream's SEND_COMPLETE.
        let left = buffer.as_ref().map(|buffer| buffer.len());
        drop(buffer);
        let wakeups = {
            let mut datagrams = self.datagrams();
            let mut wakeups = left.map_or_else(Wakeups::none, |size| datagrams.on_left_queue(size));
            wakeups.append(datagrams.on_send_change(id, change));
            wakeups
        };
        wakeups.wake();
        tracing::trace!(parent: self.span(), ?id, ?change, "datagram");
    }
}

const SUCCESS: Next = Next::Return(0);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_trip_time_is_what_events_brought_last() {
        let inner = ConnectionInner::new(true, None, Logs::default());
        assert_eq!(inner.noted_rtt(), Duration::from_millis(333), "the initial one");
        inner.note_rtt(1500);
        assert_eq!(inner.noted_rtt(), Duration::from_micros(1500));
    }
}
