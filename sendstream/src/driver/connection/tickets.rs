//! What a connection does for sessions to be resumed: a client's keeping of tickets, a server's sending.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
};

use sendstream_core::wait::{KeyedWait, WaiterKey};

use crate::{
    driver::{connection::owner::ConnectionInner, wakes::Wake as _},
    native::{background, ticket},
    types::{
        error::{ConnectionError, NativeError},
        resumption::{SessionCache, SessionKey, ticket::Ticket},
        tls::PeerIdentity,
    },
};

/// What this side of a connection does about tickets; never changes but for the ticket that is shown.
#[derive(Debug, Default)]
pub(crate) enum Resuming {
    /// Nothing: resumption is off.
    #[default]
    No,
    /// A server sends one when the handshake is done, and takes early data or does not.
    SendTicket { early_data: bool },
    /// A client keeps those that come.
    KeepTickets(KeepTickets),
}

/// Where a client keeps the tickets of a connection.
pub(crate) struct KeepTickets {
    pub(crate) cache: Arc<dyn SessionCache>,
    pub(crate) key: SessionKey,
    /// The certificates of the ticket that the connection begins with, if with any. Written by: `show_ticket`.
    pub(crate) shown: OnceLock<PeerIdentity>,
}

impl fmt::Debug for KeepTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepTickets").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Resuming {
    /// Whose session was resumed: the certificates that lie beside the ticket. On a server nobody's, as it resumes only where
    /// clients show no certificate.
    pub(crate) fn resumed_identity(&self) -> Option<PeerIdentity> {
        match self {
            Self::KeepTickets(keep) => keep.shown.get().cloned(),
            Self::No | Self::SendTicket { .. } => None,
        }
    }
}

impl ConnectionInner {
    /// Has the connection begin with a ticket. It blocks, and must come before the start; see [`ticket::show`].
    pub(crate) fn show_ticket(&self, ticket: Ticket) -> Result<(), NativeError> {
        // SAFETY: the handle is open, because `self` is alive, and a client's; nobody has started it yet.
        unsafe { ticket::show(self.handle().raw(), &ticket.native)? };
        if let Resuming::KeepTickets(keep) = self.resuming() {
            let _ = keep.shown.set(ticket.identity);
        }
        Ok(())
    }

    /// Sends the client a ticket, inside CONNECTED.
    pub(crate) fn send_ticket(&self) {
        // SAFETY: the handle is open, because `self` is alive, and a server's.
        if let Err(error) = unsafe { ticket::send(self.handle().raw()) } {
            tracing::debug!(parent: self.span(), %error, "the client gets no ticket");
        }
    }

    /// Keeps a ticket that came. The cache is asked on the background thread, since it may be a file.
    pub(crate) fn keep_ticket(self: &Arc<Self>, keep: &KeepTickets, native: &[u8]) {
        // Tickets come in 1-RTT packets, hence after CONNECTED: whoever sent it was believed.
        let believed = self.lock().connected().is_some();
        let Some(identity) = self.peer_identity().filter(|_| believed) else { return };
        let Some(ticket) = Ticket::encode(keep.key.server_name(), &identity, native) else {
            tracing::debug!(parent: self.span(), "a session ticket is too large to be kept");
            return;
        };
        let (inner, cache, key) = (self.clone(), keep.cache.clone(), keep.key.clone());
        background::run(move || {
            cache.put(&key, ticket);
            let wakeups = inner.lock().on_ticket_kept();
            wakeups.wake();
        });
    }
}

/// The wait for a ticket to be in the cache.
pub(crate) struct TicketKept<'a>(pub(crate) &'a ConnectionInner);

impl KeyedWait for TicketKept<'_> {
    type Output = Result<(), ConnectionError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.lock().poll_ticket_kept(key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.0.lock().forget_ticket(key)
    }
}

/// The wait for the end of the handshake.
pub(crate) struct Handshake<'a>(pub(crate) &'a ConnectionInner);

impl KeyedWait for Handshake<'_> {
    type Output = Result<(), ConnectionError>;

    fn poll(&self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.lock().poll_handshake(key, cx)
    }

    fn forget(&self, key: WaiterKey) -> Option<Waker> {
        self.0.lock().forget_handshake(key)
    }
}
