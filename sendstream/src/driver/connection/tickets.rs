//! Session tickets of a connection: a client keeps them, a server sends one.

use std::sync::Arc;

use crate::{
    driver::{
        connection::{
            owner::ConnectionInstance,
            shared::{KeepTickets, Resuming},
        },
        wakes::Wake as _,
    },
    native::{background, ticket},
    types::{error::NativeError, resumption::ticket::Ticket},
};

impl ConnectionInstance {
    /// Has the connection begin with a ticket. It blocks, and must come before the start; see
    /// [`ticket::show`].
    pub(crate) fn show_ticket(&self, ticket: Ticket) -> Result<(), NativeError> {
        // SAFETY: the handle is open, because `self` is alive, and a client's; nobody has started
        // it yet.
        unsafe { ticket::show(self.handle().raw(), &ticket.native)? };
        if let Resuming::KeepTickets(keep) = &self.inner().shared().resuming {
            let _ = keep.shown.set(ticket.identity);
        }
        Ok(())
    }

    /// Sends the client a ticket, inside CONNECTED.
    pub(crate) fn send_ticket(&self) {
        // SAFETY: the handle is open, because `self` is alive, and a server's.
        if let Err(error) = unsafe { ticket::send(self.handle().raw()) } {
            tracing::debug!(parent: self.inner().span(), %error, "the client gets no ticket");
        }
    }

    /// Keeps a ticket that came. The cache is asked on the background thread, since it may be a
    /// file.
    pub(crate) fn keep_ticket(self: &Arc<Self>, keep: &KeepTickets, native: &[u8]) {
        // Tickets come in 1-RTT packets, hence after CONNECTED: whoever sent it was believed.
        let believed = self.inner().lock().connected().is_some();
        let Some(identity) = self.inner().peer_identity().filter(|_| believed) else { return };
        let Some(ticket) = Ticket::encode(keep.key.server_name(), &identity, native) else {
            tracing::debug!(parent: self.inner().span(), "a session ticket is too large to be kept");
            return;
        };
        let (connection, cache, key) = (self.clone(), keep.cache.clone(), keep.key.clone());
        background::run(move || {
            cache.put(&key, ticket);
            let wakeups = connection.inner().lock().on_ticket_kept();
            wakeups.wake();
        });
    }
}
