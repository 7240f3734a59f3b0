//! What MsQuic's events do to a connection: the callback, and one `handle_event_*` per event, under its C name.

use std::{ffi::c_void, net::SocketAddr, ptr::NonNull, slice, sync::Arc};

use bytes::Bytes;
use sendstream_sys as sys;
use tracing::field;

use crate::{
    driver::{
        connection::{
            datagrams::{LentDatagram, send_change},
            judge::Judging,
            owner::{ConnectionInner, Verify},
            state::{Connected, ConnectionInnerExclusive, PeerStream},
            tickets::Resuming,
        },
        stream::owner::StreamInstance,
        turn::Turn,
        wakes::Wake as _,
    },
    native::{address::Address, api::call},
    types::{
        config::StreamScheduling,
        error::{ConnectionError, NativeError},
        stats::HandshakeInfo,
        tls::{CertificateRefusal, PeerCertificate, PeerIdentity},
    },
};
use sendstream_core::foreign::contain;

impl ConnectionInner {
    /// Dispatches one event to its handler and returns the status for MsQuic; `None` after the last event.
    ///
    /// # Safety
    ///
    /// `event` is valid as MsQuic passes it to the callback of this connection, on its worker.
    unsafe fn callback_handler_impl(
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
        let wakeups = self.lock().on_connected(Arc::new(connected), local, remote);
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
            state.on_shutdown_initiated_by_transport(cause)
        });
    }

    /// QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_PEER: the peer's application closed the connection.
    fn handle_event_shutdown_initiated_by_peer(&self, code: u64) {
        let reason = self.close_reason();
        let cause = ConnectionError::ApplicationClosed { code, reason };
        self.finish_ending(|state| state.on_shutdown_initiated_by_peer(cause));
    }

    /// QUIC_CONNECTION_EVENT_SHUTDOWN_COMPLETE: MsQuic is done with the connection and all of its streams.
    fn handle_event_shutdown_complete(&self) {
        self.finish_ending(ConnectionInnerExclusive::on_shutdown_complete);
        tracing::debug!(parent: self.span(), "over");
    }

    /// QUIC_CONNECTION_EVENT_LOCAL_ADDRESS_CHANGED: this side has another address. MsQuic 2.6 never says so.
    fn handle_event_local_address_changed(&self, address: Option<SocketAddr>) {
        let wakeups = self.lock().on_path_changed(address, None);
        wakeups.wake();
    }

    /// QUIC_CONNECTION_EVENT_PEER_ADDRESS_CHANGED: the peer sends from another address, and maybe to another.
    fn handle_event_peer_address_changed(&self, address: Option<SocketAddr>) {
        let local = self.address(sys::QUIC_PARAM_CONN_LOCAL_ADDRESS);
        let wakeups = self.lock().on_path_changed(local, address);
        wakeups.wake();
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
        let (Some(context), Some(change)) = (NonNull::new(context), send_change(state)) else { return };
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
}

pub(super) const SUCCESS: sys::QUIC_STATUS = 0;

/// QUIC_STATUS_PENDING: the answer comes with `ConnectionCertificateValidationComplete`.
const PENDING: sys::QUIC_STATUS = (-2i32).cast_unsigned();

/// The callback of every connection.
///
/// # Safety
///
/// For MsQuic to call: `context` is the connection's `ConnectionInner`, kept alive by the reference MsQuic was lent.
pub(super) unsafe extern "C" fn connection_callback(
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
