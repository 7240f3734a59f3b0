//! The connection's state machine: the protocol of the module above as code. No field is assigned
//! outside this file.

use std::{
    collections::VecDeque,
    fmt::Debug,
    net::SocketAddr,
    task::{Context, Poll, Waker},
};

use crate::{
    dir::Dir,
    path::CurrentPath,
    wait::{Retire, Waiter, WaiterKey, Waiters, Wakeups},
};

/// Everything about a connection that changes, behind `ConnectionInner`'s lock.
#[derive(Debug)]
pub struct ConnectionInnerExclusive<H: Held> {
    /// Written by: `on_connected`, and whatever ends the connection.
    state: ConnectionState<H>,
    /// Whether MsQuic was told to go on with the connection, so that events come and
    /// SHUTDOWN_COMPLETE is the last. Written by: `on_start_accepted`.
    started: bool,
    /// Whether SHUTDOWN_COMPLETE was delivered.
    shutdown_complete: bool,
    /// Whether anybody may still accept a stream of the peer's. Written by: `stop_accepting`.
    accepts: bool,
    /// Streams of the peer's, by kind, that wait to be accepted.
    accept_uni: AcceptQueue<H::Stream>,
    accept_bi: AcceptQueue<H::Stream>,
    /// The task that makes the connection, and waits for the handshake or for early data.
    connected_waiter: Waiter,
    /// Tasks that wait for the handshake on an `EarlyConnection`.
    handshake_waiters: Waiters,
    /// Tasks in `closed`.
    closed_waiters: Waiters,
    /// Tasks in `session_ticket`.
    ticket_waiters: Waiters,
    /// Whether a ticket is in the client's cache. Written by: `on_ticket_kept`, on the background
    /// thread.
    ticket_kept: bool,
    /// Whether the server recognised the client's ticket, so that early data may come. Written by:
    /// RESUMED.
    resumed: bool,
    /// Whether early data was taken. Written by: CONNECTED on a client, PEER_STREAM_STARTED on a
    /// server.
    early_data_accepted: bool,
    /// A verifier that was asked about the peer; kept until the connection ends.
    verifier: Option<H::Verifier>,
    /// Written by: CONNECTED, LOCAL_ADDRESS_CHANGED, PEER_ADDRESS_CHANGED, `rebind`.
    path: CurrentPath,
    /// Streams that could not start and want to know why: no event of their own will tell them.
    unstarted: Vec<H::Unstarted>,
    /// How long `unstarted` may grow before those that are gone are swept out.
    sweep_at: usize,
    /// Wakers that were replaced, to be dropped outside of the lock.
    retired: Vec<Waker>,
}

/// What a connection's state holds for its driver and gives back, without looking into it.
pub trait Held: Debug {
    /// What ended the connection.
    type Cause: Clone + Debug;
    /// A stream of the peer's that waits to be accepted. Clones are handles of the same stream.
    type Stream: Clone + Debug;
    /// A stream of this side's that could not start, held weakly: dropping one runs no foreign
    /// code.
    type Unstarted: Debug;
    /// What asks somebody about the peer's certificate. Clones are handles of the same question.
    type Verifier: Clone + Debug;
    /// What the handshake settled: values, so that dropping it runs no foreign code.
    type Settled: Clone + Debug;

    /// The cause of an end that this side's application brought about, with `code`.
    fn closed_here(code: u64) -> Self::Cause;

    /// The cause of an end that the clock brought about.
    fn timed_out() -> Self::Cause;

    /// Whether nobody holds the stream any more.
    fn is_gone(stream: &Self::Unstarted) -> bool;
}

/// How far a connection has come.
#[derive(Debug)]
enum ConnectionState<H: Held> {
    /// The handshake is going on, or was not begun.
    Connecting,
    /// The handshake is done.
    Connected(H::Settled),
    /// Over.
    Closed {
        /// For this reason.
        cause: H::Cause,
        /// What that leaves to tell MsQuic when a start returns later.
        end: End,
        /// What was negotiated, if it ever was connected.
        settled: Option<H::Settled>,
    },
}

/// What of a connection's end MsQuic may not know yet when its start returns.
#[derive(Debug, Clone, Copy)]
enum End {
    /// That this side closed it with this code.
    Closed(u64),
    /// Nothing: this side refused the peer's certificate, and the answer has said so with an alert
    /// of its own.
    PeerRefused,
    /// That it is over, if anything.
    Other,
}

/// Streams of one kind that wait to be accepted, and who waits for one.
#[derive(Debug)]
struct AcceptQueue<S> {
    streams: VecDeque<S>,
    waiters: Waiters,
}

/// What the end of a connection leaves to do outside of the lock.
#[derive(Debug)]
#[must_use]
pub struct Ending<H: Held> {
    /// MsQuic is to be told, with this code.
    pub shut_down: Option<u64>,
    /// Who is to be woken.
    pub wakeups: Wakeups,
    /// Streams to be told.
    pub unstarted: Vec<H::Unstarted>,
    /// A verifier whose answer nobody wants any more, to be canceled.
    pub verifier: Option<H::Verifier>,
    /// Streams that nobody will accept any more, to be dropped.
    pub unaccepted: Vec<H::Stream>,
}

/// What becomes of a stream that the peer started.
#[derive(Debug)]
#[must_use]
pub struct PeerStream<S> {
    /// The stream, if so many wait to be accepted that this one must count against the peer's limit
    /// until its handle is closed, and not only until it is over. Otherwise streams that come and
    /// go while nobody accepts them would pile up without bound.
    pub accepted_slowly: Option<S>,
    /// The stream, if nobody will accept it.
    pub refused: Option<S>,
    /// Who is to be woken.
    pub wakeups: Wakeups,
}

impl<H: Held> ConnectionInnerExclusive<H> {
    /// A connection of which MsQuic has said nothing yet; `started` when it already works on it.
    pub fn new(started: bool) -> Self {
        Self {
            state: ConnectionState::Connecting,
            started,
            shutdown_complete: false,
            accepts: true,
            accept_uni: AcceptQueue::new(),
            accept_bi: AcceptQueue::new(),
            connected_waiter: Waiter::default(),
            handshake_waiters: Waiters::default(),
            closed_waiters: Waiters::default(),
            ticket_waiters: Waiters::default(),
            ticket_kept: false,
            resumed: false,
            early_data_accepted: false,
            verifier: None,
            path: CurrentPath::default(),
            unstarted: Vec::new(),
            sweep_at: SWEEP_AT_LEAST,
            retired: Vec::new(),
        }
    }

    /// What ended the connection, if anything has.
    pub fn cause(&self) -> Option<H::Cause> {
        match &self.state {
            ConnectionState::Closed { cause, .. } => Some(cause.clone()),
            ConnectionState::Connecting | ConnectionState::Connected(_) => None,
        }
    }

    /// Whether something has ended the connection.
    pub fn is_over(&self) -> bool {
        matches!(self.state, ConnectionState::Closed { .. })
    }

    /// What the handshake settled, also after the connection ended.
    pub fn connected(&self) -> Option<H::Settled> {
        match &self.state {
            ConnectionState::Connecting => None,
            ConnectionState::Connected(settled) => Some(settled.clone()),
            ConnectionState::Closed { settled, .. } => settled.clone(),
        }
    }

    /// The addresses in use, also after the connection ended.
    pub fn path(&self) -> &CurrentPath {
        &self.path
    }

    /// Whether early data was taken, which is known once the handshake is done.
    pub fn early_data_accepted(&self) -> bool {
        self.early_data_accepted
    }

    /// Whether telling MsQuic to shut the connection down makes sense.
    fn is_live(&self) -> bool {
        self.started && !self.shutdown_complete
    }

    // ---- The start ------------------------------------------------------------------------------

    /// `ConnectionStart` is about to be called. Until it has returned nobody shuts the connection
    /// down: a shutdown that overtook the start would make the start fail, and still bring events.
    ///
    /// Nobody listens to the state of a connection that was given up in the meantime; it is started
    /// all the same if this has said yes, and then shut down.
    pub fn may_start(&self) -> bool {
        !self.is_over()
    }

    /// `ConnectionStart` succeeded. The code to shut down with, if this side ended the connection
    /// meanwhile.
    #[must_use]
    pub fn on_start_accepted(&mut self) -> Option<u64> {
        self.started = true;
        match self.state {
            ConnectionState::Closed { end: End::Closed(code), .. } if self.is_live() => Some(code),
            // A whole handshake can pass before its start returns. MsQuic has the refusal, and an
            // alert to send with it, which a shutdown would overtake.
            ConnectionState::Closed { end: End::PeerRefused, .. } => None,
            // The handshake's time was over, or MsQuic has ended it already and ignores this.
            ConnectionState::Closed { end: End::Other, .. } if self.is_live() => Some(0),
            _ => None,
        }
    }

    /// `ConnectionStart` failed, so that no event comes.
    pub fn on_start_refused(&mut self, cause: H::Cause) -> Ending<H> {
        self.on_closed(cause, End::Other)
    }

    // ---- What the user does ---------------------------------------------------------------------

    /// This side closes the connection with `code`. MsQuic is told now, unless it is not started
    /// yet: then [`Self::on_start_accepted`] says so.
    pub fn close(&mut self, code: u64) -> Ending<H> {
        self.close_because(code, H::closed_here(code))
    }

    /// [`Self::close`], with a cause that says more than `code`.
    pub fn close_because(&mut self, code: u64, cause: H::Cause) -> Ending<H> {
        let tell = self.is_live() && !self.is_over();
        Ending { shut_down: tell.then_some(code), ..self.on_closed(cause, End::Closed(code)) }
    }

    /// Nobody holds the connection any more.
    pub fn abandon(&mut self) -> Ending<H> {
        let mut ending = self.close(0);
        ending.unaccepted.extend(self.stop_accepting());
        ending
    }

    /// Nobody can accept a stream of the peer's any more. Gives back those that wait, to be refused
    /// outside of the lock.
    #[must_use]
    pub fn stop_accepting(&mut self) -> Vec<H::Stream> {
        self.accepts = false;
        self.accept_uni.streams.drain(..).chain(self.accept_bi.streams.drain(..)).collect()
    }

    /// Registers a stream to be told what ended the connection; gives back the cause when that is
    /// known already.
    pub fn tell_when_lost(&mut self, stream: H::Unstarted) -> Option<H::Cause> {
        let cause = self.cause();
        if cause.is_none() {
            if self.unstarted.len() >= self.sweep_at {
                self.unstarted.retain(|stream| !H::is_gone(stream));
                self.sweep_at = SWEEP_AT_LEAST.max(2 * self.unstarted.len());
            }
            self.unstarted.push(stream);
        }
        cause
    }

    // ---- What the user waits for ----------------------------------------------------------------

    /// Ready once the handshake is done, or failed: for whoever makes the connection. That it was done
    /// stays so when the connection ends before anybody asks.
    pub fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), H::Cause>> {
        let settled = self.settled();
        if settled.is_pending() {
            self.connected_waiter.register(cx.waker(), &mut self.retired);
        }
        settled
    }

    /// [`Self::poll_connected`], or ready as soon as early data may come.
    pub fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), H::Cause>> {
        match &self.state {
            ConnectionState::Connecting if self.resumed => Poll::Ready(Ok(())),
            _ => self.poll_connected(cx),
        }
    }

    /// Forgets a future of [`Self::poll_handshake`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget_handshake(&mut self, key: WaiterKey) -> Option<Waker> {
        self.handshake_waiters.remove(key)
    }

    /// Ready once the handshake is done, or failed: for whoever goes on before.
    pub fn poll_handshake(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Result<(), H::Cause>> {
        let settled = self.settled();
        if settled.is_pending() {
            self.handshake_waiters.register(key, cx.waker(), &mut self.retired);
        }
        settled
    }

    fn settled(&self) -> Poll<Result<(), H::Cause>> {
        match &self.state {
            ConnectionState::Connecting => Poll::Pending,
            // What came before it ended can be read.
            ConnectionState::Connected(_) | ConnectionState::Closed { settled: Some(_), .. } => Poll::Ready(Ok(())),
            ConnectionState::Closed { cause, settled: None, .. } => Poll::Ready(Err(cause.clone())),
        }
    }

    /// Forgets a future of [`Self::poll_ticket_kept`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget_ticket(&mut self, key: WaiterKey) -> Option<Waker> {
        self.ticket_waiters.remove(key)
    }

    /// Ready once a ticket is in the cache, or none will come.
    pub fn poll_ticket_kept(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Result<(), H::Cause>> {
        match self.cause() {
            _ if self.ticket_kept => Poll::Ready(Ok(())),
            Some(cause) => Poll::Ready(Err(cause)),
            None => {
                self.ticket_waiters.register(key, cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    /// Forgets a future of [`Self::poll_closed`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget_closed(&mut self, key: WaiterKey) -> Option<Waker> {
        self.closed_waiters.remove(key)
    }

    /// Ready once the connection ended, with the cause.
    pub fn poll_closed(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<H::Cause> {
        match self.cause() {
            Some(cause) => Poll::Ready(cause),
            None => {
                self.closed_waiters.register(key, cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    /// Forgets a future of [`Self::poll_accept`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget_accept(&mut self, dir: Dir, key: WaiterKey) -> Option<Waker> {
        self.accept_queue(dir).waiters.remove(key)
    }

    /// Ready with a stream that the peer started. Those that came before the connection ended come
    /// before the error.
    pub fn poll_accept(&mut self, dir: Dir, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Result<H::Stream, H::Cause>> {
        let cause = self.cause();
        let queue = match dir {
            Dir::Uni => &mut self.accept_uni,
            Dir::Bi => &mut self.accept_bi,
        };
        match (queue.streams.pop_front(), cause) {
            (Some(stream), _) => Poll::Ready(Ok(stream)),
            (None, Some(cause)) => Poll::Ready(Err(cause)),
            (None, None) => {
                queue.waiters.register(key, cx.waker(), &mut self.retired);
                Poll::Pending
            }
        }
    }

    /// Forgets a future of [`Self::poll_path_changed`].
    #[must_use = "drop the waker after the lock"]
    pub fn forget_path_changed(&mut self, key: WaiterKey) -> Option<Waker> {
        self.path.forget(key)
    }

    /// Ready once the path has changed more often than `seen` says.
    pub fn poll_path_changed(&mut self, seen: u64, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Result<(), H::Cause>> {
        match self.cause() {
            Some(cause) if self.path.changes() <= seen => Poll::Ready(Err(cause)),
            _ => self.path.poll_changed(seen, key, cx, &mut self.retired).map(Ok),
        }
    }

    // ---- What MsQuic says -----------------------------------------------------------------------

    /// RESUMED: early data may come.
    pub fn on_resumed(&mut self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        self.resumed = true;
        self.connected_waiter.take_into(&mut wakeups);
        wakeups
    }

    /// A ticket is in the cache.
    pub fn on_ticket_kept(&mut self) -> Wakeups {
        let mut wakeups = Wakeups::none();
        self.ticket_kept = true;
        self.ticket_waiters.take_into(&mut wakeups);
        wakeups
    }

    /// Early data was taken.
    pub fn on_early_data_accepted(&mut self) {
        self.early_data_accepted = true;
    }

    /// CONNECTED.
    pub fn on_connected(
        &mut self,
        settled: H::Settled,
        local: Option<SocketAddr>,
        remote: Option<SocketAddr>,
    ) -> Wakeups {
        let mut wakeups = Wakeups::none();
        self.path.begin(local, remote);
        if matches!(self.state, ConnectionState::Connecting) {
            self.state = ConnectionState::Connected(settled);
            self.connected_waiter.take_into(&mut wakeups);
            self.handshake_waiters.take_into(&mut wakeups);
        }
        wakeups
    }

    /// LOCAL_ADDRESS_CHANGED, PEER_ADDRESS_CHANGED, or this side has moved. What is not known stays
    /// as it was.
    pub fn on_path_changed(&mut self, local: Option<SocketAddr>, remote: Option<SocketAddr>) -> Wakeups {
        self.path.on_changed(local, remote)
    }

    /// PEER_CERTIFICATE_RECEIVED, and a verifier is asked. Whether the connection wants to know: it
    /// does unless it ended.
    #[must_use]
    pub fn on_judging(&mut self, verifier: &H::Verifier) -> bool {
        let wanted = matches!(self.state, ConnectionState::Connecting);
        if wanted {
            self.verifier = Some(verifier.clone());
        }
        wanted
    }

    /// The peer's certificate is refused, because of `cause`. MsQuic is told by the answer to
    /// PEER_CERTIFICATE_RECEIVED.
    pub fn on_peer_refused(&mut self, cause: H::Cause) -> Ending<H> {
        self.on_closed(cause, End::PeerRefused)
    }

    /// MsQuic did not take the answer to PEER_CERTIFICATE_RECEIVED, for which it would wait and
    /// wait: it is told to shut down with `code`, even if a refusal was the connection's end
    /// before.
    pub fn on_answer_not_taken(&mut self, code: u64, cause: H::Cause) -> Ending<H> {
        Ending { shut_down: Some(code), ..self.on_closed(cause, End::Other) }
    }

    /// PEER_STREAM_STARTED.
    pub fn on_peer_stream_started(&mut self, dir: Dir, stream: H::Stream) -> PeerStream<H::Stream> {
        const WAITING_AT_EASE: usize = 64;
        let mut wakeups = Wakeups::none();
        if !self.accepts {
            return PeerStream { accepted_slowly: None, refused: Some(stream), wakeups };
        }
        let queue = self.accept_queue(dir);
        let accepted_slowly = (queue.streams.len() >= WAITING_AT_EASE).then(|| stream.clone());
        queue.streams.push_back(stream);
        queue.waiters.take_into(&mut wakeups);
        PeerStream { accepted_slowly, refused: None, wakeups }
    }

    /// The handshake has taken as long as it may.
    pub fn on_handshake_timeout(&mut self) -> Ending<H> {
        match self.state {
            ConnectionState::Connecting => {
                Ending { shut_down: self.is_live().then_some(0), ..self.on_closed(H::timed_out(), End::Other) }
            }
            ConnectionState::Connected(_) | ConnectionState::Closed { .. } => Ending::default(),
        }
    }

    /// SHUTDOWN_INITIATED_BY_TRANSPORT: a transport ends the connection, the peer's or this side's.
    pub fn on_shutdown_initiated_by_transport(&mut self, cause: H::Cause) -> Ending<H> {
        self.on_closed(cause, End::Other)
    }

    /// SHUTDOWN_INITIATED_BY_PEER: the peer's application ends the connection.
    pub fn on_shutdown_initiated_by_peer(&mut self, cause: H::Cause) -> Ending<H> {
        self.on_closed(cause, End::Other)
    }

    /// SHUTDOWN_COMPLETE, the last event.
    pub fn on_shutdown_complete(&mut self) -> Ending<H> {
        self.shutdown_complete = true;
        // MsQuic says why before this event, and so does whoever closes on this side. A connection
        // that ends without a word was closed silently from here.
        self.on_closed(H::closed_here(0), End::Closed(0))
    }

    // ---- Helpers --------------------------------------------------------------------------------

    /// The connection ended, or is ending, because of `cause`. The first cause is kept.
    fn on_closed(&mut self, cause: H::Cause, end: End) -> Ending<H> {
        if self.is_over() {
            return Ending::default();
        }
        let settled = self.connected();
        self.state = ConnectionState::Closed { cause, end, settled };
        let mut wakeups = Wakeups::none();
        self.connected_waiter.take_into(&mut wakeups);
        for waiters in [
            &mut self.closed_waiters,
            &mut self.handshake_waiters,
            &mut self.ticket_waiters,
            &mut self.accept_uni.waiters,
            &mut self.accept_bi.waiters,
        ] {
            waiters.take_into(&mut wakeups);
        }
        self.path.on_closed(&mut wakeups);
        Ending {
            shut_down: None,
            wakeups,
            unstarted: std::mem::take(&mut self.unstarted),
            verifier: self.verifier.take(),
            unaccepted: Vec::new(),
        }
    }

    fn accept_queue(&mut self, dir: Dir) -> &mut AcceptQueue<H::Stream> {
        match dir {
            Dir::Uni => &mut self.accept_uni,
            Dir::Bi => &mut self.accept_bi,
        }
    }
}

impl<H: Held> Retire for ConnectionInnerExclusive<H> {
    fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    fn take_retired(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.retired)
    }
}

impl<S> AcceptQueue<S> {
    fn new() -> Self {
        Self { streams: VecDeque::new(), waiters: Waiters::default() }
    }
}

impl<H: Held> Default for Ending<H> {
    /// Nothing is left to do.
    fn default() -> Self {
        Self {
            shut_down: None,
            wakeups: Wakeups::none(),
            unstarted: Vec::new(),
            verifier: None,
            unaccepted: Vec::new(),
        }
    }
}

/// How many streams that did not start may be known before those that are gone are looked for.
const SWEEP_AT_LEAST: usize = 64;

#[cfg(test)]
mod tests;
