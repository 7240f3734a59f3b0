//! A connection's state machine: how far it has come, what ended it, and which of the peer's streams wait to be accepted.
//!
//! Pure, like `stream/state.rs`, and of the same shape.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use sendstream_core::wait::{Retire, Waiter, WaiterKey, Waiters, Wakeups};

use crate::{
    driver::{
        connection::{judge::Judging, path::CurrentPath},
        stream::owner::StreamInstance,
    },
    types::{error::ConnectionError, stats::HandshakeInfo},
};

/// Everything about a connection that changes, behind `ConnectionInner`'s lock.
#[derive(Debug)]
pub(crate) struct ConnectionInnerExclusive {
    /// Written by: `connected`, and whatever ends the connection.
    state: ConnectionState,
    /// Whether MsQuic was told to go on with the connection, so that events come and SHUTDOWN_COMPLETE is the last.
    started: bool,
    /// Whether SHUTDOWN_COMPLETE was delivered.
    shutdown_complete: bool,
    /// Whether anybody may still accept a stream of the peer's. Written by: `stop_accepting`.
    accepts: bool,
    /// Streams of the peer's, by kind, that wait to be accepted.
    accept_uni: AcceptQueue,
    accept_bi: AcceptQueue,
    /// The task that makes the connection, and waits for the handshake or for early data.
    connected_waiter: Waiter,
    /// Tasks that wait for the handshake on an `EarlyConnection`.
    handshake_waiters: Waiters,
    /// Tasks in `closed`.
    closed_waiters: Waiters,
    /// Tasks in `session_ticket`.
    ticket_waiters: Waiters,
    /// Whether a ticket is in the client's cache. Written by: the background thread.
    ticket_kept: bool,
    /// Whether the server recognised the client's ticket, so that early data may come. Written by: `resumed`.
    resumed: bool,
    /// Whether early data was taken. Written by: `connected` on a client, `peer_stream_started` on a server.
    early_data_accepted: bool,
    /// A verifier that was asked about the peer; kept until the connection ends.
    judging: Option<Arc<Judging>>,
    /// Written by: CONNECTED, LOCAL_ADDRESS_CHANGED, PEER_ADDRESS_CHANGED, `rebind`.
    path: CurrentPath,
    /// Streams that could not start and want to know why: no event of their own will tell them.
    unstarted: Vec<Weak<StreamInstance>>,
    /// How long `unstarted` may grow before those that are gone are swept out.
    sweep_at: usize,
    /// Wakers that were replaced, to be dropped outside of the lock.
    retired: Vec<Waker>,
}

/// How far a connection has come.
#[derive(Debug, Clone)]
pub(crate) enum ConnectionState {
    /// The handshake is going on, or was not begun.
    Connecting,
    /// The handshake is done.
    Connected(Arc<Connected>),
    /// Over, for this reason; what was negotiated if it ever was connected.
    Closed(ConnectionError, Option<Arc<Connected>>),
}

/// What the handshake settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connected {
    pub(crate) alpn: Vec<u8>,
    pub(crate) resumed: bool,
    pub(crate) handshake: Option<HandshakeInfo>,
}

/// Streams of one kind that wait to be accepted, and who waits for one.
#[derive(Debug, Default)]
struct AcceptQueue {
    streams: VecDeque<Arc<StreamInstance>>,
    waiters: Waiters,
}

/// What the end of a connection leaves to do outside of the lock.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Ending {
    /// MsQuic is to be told, with this code.
    pub(crate) shut_down: Option<u64>,
    pub(crate) wakeups: Wakeups,
    /// Streams to be told.
    pub(crate) unstarted: Vec<Weak<StreamInstance>>,
    /// A verifier whose answer nobody wants any more, to be canceled.
    pub(crate) judging: Option<Arc<Judging>>,
    /// Streams that nobody will accept any more, to be dropped.
    pub(crate) unaccepted: Vec<Arc<StreamInstance>>,
}

/// What becomes of a stream that the peer started.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct PeerStream {
    /// So many streams wait to be accepted that this one must count against the peer's limit until its handle is closed,
    /// and not only until it is over. Otherwise streams that come and go while nobody accepts them would pile up without
    /// bound.
    pub(crate) accepted_slowly: bool,
    /// The stream, if nobody will accept it.
    pub(crate) refused: Option<Arc<StreamInstance>>,
    pub(crate) wakeups: Wakeups,
}

impl ConnectionInnerExclusive {
    /// A connection of which MsQuic has said nothing yet; `started` when it already works on it.
    pub(crate) fn new(started: bool) -> Self {
        Self {
            state: ConnectionState::Connecting,
            started,
            shutdown_complete: false,
            accepts: true,
            accept_uni: AcceptQueue::default(),
            accept_bi: AcceptQueue::default(),
            connected_waiter: Waiter::default(),
            handshake_waiters: Waiters::default(),
            closed_waiters: Waiters::default(),
            ticket_waiters: Waiters::default(),
            ticket_kept: false,
            resumed: false,
            early_data_accepted: false,
            judging: None,
            path: CurrentPath::default(),
            unstarted: Vec::new(),
            sweep_at: 64,
            retired: Vec::new(),
        }
    }

    /// What ended the connection, if anything has.
    pub(crate) fn cause(&self) -> Option<ConnectionError> {
        match &self.state {
            ConnectionState::Closed(cause, _) => Some(cause.clone()),
            _ => None,
        }
    }

    /// What the handshake settled, also after the connection ended.
    pub(crate) fn connected(&self) -> Option<Arc<Connected>> {
        match &self.state {
            ConnectionState::Connecting => None,
            ConnectionState::Connected(connected) => Some(connected.clone()),
            ConnectionState::Closed(_, connected) => connected.clone(),
        }
    }

    /// The addresses in use, also after the connection ended.
    pub(crate) fn path(&self) -> &CurrentPath {
        &self.path
    }

    pub(crate) fn path_mut(&mut self) -> &mut CurrentPath {
        &mut self.path
    }

    /// Whether telling MsQuic to shut the connection down makes sense.
    pub(crate) fn is_live(&self) -> bool {
        self.started && !self.shutdown_complete
    }

    // ---- What the user does -------------------------------------------------------------------------------------

    /// `ConnectionStart` is about to be called. Until it has returned nobody shuts the connection down: a shutdown that
    /// overtook the start would make the start fail, and still bring events.
    ///
    /// Nobody listens to the state of a connection that was given up in the meantime; it is started all the same if
    /// this has said yes, and then shut down.
    pub(crate) fn may_start(&self) -> bool {
        self.cause().is_none()
    }

    /// `ConnectionStart` succeeded. The code to shut down with, if this side ended the connection meanwhile.
    #[must_use]
    pub(crate) fn on_start_accepted(&mut self) -> Option<u64> {
        self.started = true;
        match self.cause() {
            Some(ConnectionError::LocallyClosed { code, .. }) if self.is_live() => Some(code),
            // A whole handshake can pass before its start returns. MsQuic has the refusal, and an alert to send with it, which a
            // shutdown would overtake.
            Some(ConnectionError::CertificateRefused(_)) => None,
            // The handshake's time was over, or MsQuic has ended it already and ignores this.
            Some(_) if self.is_live() => Some(0),
            _ => None,
        }
    }

    /// This side closes the connection with `code` and `reason`. MsQuic is told by whoever calls this, unless it is not
    /// started yet: then [`Self::on_start_accepted`] says so.
    pub(crate) fn close(&mut self, code: u64, reason: Arc<str>) -> Ending {
        let tell = self.is_live() && self.cause().is_none();
        Ending { shut_down: tell.then_some(code), ..self.on_closed(ConnectionError::LocallyClosed { code, reason }) }
    }

    /// Nobody holds the connection any more.
    pub(crate) fn abandon(&mut self) -> Ending {
        let mut ending = self.close(0, Arc::default());
        ending.unaccepted.extend(self.stop_accepting());
        ending
    }

    /// Nobody can accept a stream of the peer's any more. Gives back those that wait, to be refused outside of the lock.
    #[must_use]
    pub(crate) fn stop_accepting(&mut self) -> Vec<Arc<StreamInstance>> {
        self.accepts = false;
        self.accept_uni.streams.drain(..).chain(self.accept_bi.streams.drain(..)).collect()
    }

    /// Registers a stream to be told what ended the connection; gives it back the cause when that is known already.
    pub(crate) fn tell_when_lost(&mut self, stream: Weak<StreamInstance>) -> Option<ConnectionError> {
        let cause = self.cause();
        if cause.is_none() {
            if self.unstarted.len() >= self.sweep_at {
                self.unstarted.retain(|stream| stream.strong_count() > 0);
                self.sweep_at = 64.max(2 * self.unstarted.len());
            }
            self.unstarted.push(stream);
        }
        cause
    }

    // ---- What the user waits for --------------------------------------------------------------------------------

    /// Ready once the handshake is done, or failed: for whoever makes the connection.
    pub(crate) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let settled = self.settled();
        if settled.is_pending() {
            self.connected_waiter.register(cx.waker(), &mut self.retired);
        }
        settled
    }

    /// [`Self::poll_connected`], or ready as soon as early data may come.
    pub(crate) fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        match &self.state {
            ConnectionState::Connecting if self.resumed => Poll::Ready(Ok(())),
            _ => self.poll_connected(cx),
        }
    }

    /// Forgets a future of [`Self::poll_handshake`].
    pub(crate) fn forget_handshake(&mut self, key: WaiterKey) -> Option<Waker> {
        self.handshake_waiters.remove(key)
    }

    /// Ready once the handshake is done, or failed: for whoever goes on before.
    pub(crate) fn poll_handshake(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let settled = self.settled();
        if settled.is_pending() {
            self.handshake_waiters.register(key, cx.waker(), &mut self.retired);
        }
        settled
    }

    fn settled(&self) -> Poll<Result<(), ConnectionError>> {
        match &self.state {
            ConnectionState::Connecting => Poll::Pending,
            ConnectionState::Connected(_) => Poll::Ready(Ok(())),
            ConnectionState::Closed(cause, _) => Poll::Ready(Err(cause.clone())),
        }
    }

    /// Forgets a future of [`Self::poll_ticket_kept`].
    pub(crate) fn forget_ticket(&mut self, key: WaiterKey) -> Option<Waker> {
        self.ticket_waiters.remove(key)
    }

    /// Ready once a ticket is in the cache, or none will come.
    pub(crate) fn poll_ticket_kept(
        &mut self,
        key: WaiterKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        match self.cause() {
            _ if self.ticket_kept => Poll::Ready(Ok(())),
            Some(cause) => Poll::Ready(Err(cause)),
            None => {
                self.ticket_waiters.register(key, cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    /// Whether early data was taken, which is known once the handshake is done.
    pub(crate) fn early_data_accepted(&self) -> bool {
        self.early_data_accepted
    }

    /// Forgets a future of [`Self::poll_closed`].
    pub(crate) fn forget_closed(&mut self, key: WaiterKey) -> Option<Waker> {
        self.closed_waiters.remove(key)
    }

    /// Ready once the connection ended, with the cause.
    pub(crate) fn poll_closed(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        match self.cause() {
            Some(cause) => Poll::Ready(cause),
            None => {
                self.closed_waiters.register(key, cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    /// Forgets a future of [`Self::poll_accept`].
    pub(crate) fn forget_accept(&mut self, bidirectional: bool, key: WaiterKey) -> Option<Waker> {
        self.accept_queue(bidirectional).waiters.remove(key)
    }

    /// Ready with a stream that the peer started. Those that came before the connection ended come before the error.
    pub(crate) fn poll_accept(
        &mut self,
        bidirectional: bool,
        key: WaiterKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arc<StreamInstance>, ConnectionError>> {
        let cause = self.cause();
        let queue = if bidirectional { &mut self.accept_bi } else { &mut self.accept_uni };
        match (queue.streams.pop_front(), cause) {
            (Some(stream), _) => Poll::Ready(Ok(stream)),
            (None, Some(cause)) => Poll::Ready(Err(cause)),
            (None, None) => {
                queue.waiters.register(key, cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    /// Ready once the path has changed more often than `seen` says.
    pub(crate) fn poll_path_changed(
        &mut self,
        seen: u64,
        key: WaiterKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        if self.path.changes() > seen {
            return Poll::Ready(Ok(()));
        }
        match self.cause() {
            Some(cause) => Poll::Ready(Err(cause)),
            None => {
                self.path.waiters.register(key, cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    // ---- What MsQuic says ---------------------------------------------------------------------------------------

    /// RESUMED: early data may come.
    pub(crate) fn on_resumed(&mut self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        self.resumed = true;
        self.connected_waiter.take_into(&mut wakeups);
        wakeups
    }

    /// A ticket is in the cache.
    pub(crate) fn on_ticket_kept(&mut self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        self.ticket_kept = true;
        self.ticket_waiters.take_into(&mut wakeups);
        wakeups
    }

    /// Early data was taken.
    pub(crate) fn on_early_data_accepted(&mut self) {
        self.early_data_accepted = true;
    }

    /// CONNECTED.
    pub(crate) fn on_connected(
        &mut self,
        connected: Connected,
        local: Option<SocketAddr>,
        remote: Option<SocketAddr>,
    ) -> Wakeups {
        let mut wakeups = Wakeups::none();
        self.path.begin(local, remote);
        if matches!(self.state, ConnectionState::Connecting) {
            self.state = ConnectionState::Connected(Arc::new(connected));
            self.connected_waiter.take_into(&mut wakeups);
            self.handshake_waiters.take_into(&mut wakeups);
        }
        wakeups
    }

    /// PEER_CERTIFICATE_RECEIVED, and a verifier is asked. Whether the connection wants to know: it does unless it ended.
    #[must_use]
    pub(crate) fn on_judging(&mut self, judging: &Arc<Judging>) -> bool {
        let wanted = matches!(self.state, ConnectionState::Connecting);
        if wanted {
            self.judging = Some(judging.clone());
        }
        wanted
    }

    /// PEER_STREAM_STARTED.
    pub(crate) fn on_peer_stream_started(&mut self, bidirectional: bool, stream: Arc<StreamInstance>) -> PeerStream {
        const WAITING_AT_EASE: usize = 64;
        if !self.accepts {
            return PeerStream { refused: Some(stream), ..PeerStream::default() };
        }
        let queue = self.accept_queue(bidirectional);
        let accepted_slowly = queue.streams.len() >= WAITING_AT_EASE;
        if accepted_slowly {
            stream.keep_handle();
        }
        let mut wakeups = Wakeups::none();
        queue.streams.push_back(stream);
        queue.waiters.take_into(&mut wakeups);
        PeerStream { accepted_slowly, refused: None, wakeups }
    }

    /// The handshake has taken as long as it may. Says whether MsQuic must be told.
    pub(crate) fn on_handshake_timeout(&mut self) -> (bool, Ending) {
        match self.state {
            ConnectionState::Connecting => (self.is_live(), self.on_closed(ConnectionError::TimedOut)),
            ConnectionState::Connected(_) | ConnectionState::Closed(..) => (false, Ending::default()),
        }
    }

    /// The connection ended, or is ending, because of `cause`. The first cause is kept.
    pub(crate) fn on_closed(&mut self, cause: ConnectionError) -> Ending {
        if self.cause().is_some() {
            return Ending::default();
        }
        let connected = self.connected();
        self.state = ConnectionState::Closed(cause, connected);
        let mut wakeups = Wakeups::none();
        self.connected_waiter.take_into(&mut wakeups);
        for waiters in [
            &mut self.closed_waiters,
            &mut self.handshake_waiters,
            &mut self.ticket_waiters,
            &mut self.accept_uni.waiters,
            &mut self.accept_bi.waiters,
            &mut self.path.waiters,
        ] {
            waiters.take_into(&mut wakeups);
        }
        Ending {
            shut_down: None,
            wakeups,
            unstarted: std::mem::take(&mut self.unstarted),
            judging: self.judging.take(),
            unaccepted: Vec::new(),
        }
    }

    /// SHUTDOWN_COMPLETE, the last event.
    pub(crate) fn on_shutdown_complete(&mut self) -> Ending {
        self.shutdown_complete = true;
        // MsQuic says why before this event, and so does whoever closes on this side. A connection that ends without a
        // word was closed silently from here.
        self.on_closed(ConnectionError::LocallyClosed { code: 0, reason: Arc::default() })
    }

    fn accept_queue(&mut self, bidirectional: bool) -> &mut AcceptQueue {
        if bidirectional { &mut self.accept_bi } else { &mut self.accept_uni }
    }
}

impl Retire for ConnectionInnerExclusive {
    fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    fn take_retired(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.retired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::wakes::Wake as _;
    use crate::types::tls::CertificateRefusal;

    #[test]
    fn what_ended_a_connection_before_its_start_returned_is_told_unless_msquic_knows_it() {
        let after = |end: fn(&mut ConnectionInnerExclusive) -> Ending| {
            let mut state = ConnectionInnerExclusive::new(false);
            end(&mut state).wakeups.wake();
            state.on_start_accepted()
        };
        assert_eq!(after(|_| Ending::default()), None);
        assert_eq!(after(|state| state.close(7, Arc::default())), Some(7));
        assert_eq!(after(|state| state.on_handshake_timeout().1), Some(0));
        let refuse = |state: &mut ConnectionInnerExclusive| {
            state.on_closed(ConnectionError::CertificateRefused(CertificateRefusal::VerifierPanicked))
        };
        assert_eq!(after(refuse), None, "the peer gets the refusal's alert");
        assert_eq!(after(ConnectionInnerExclusive::on_shutdown_complete), None);
    }
}
