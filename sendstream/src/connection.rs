//! [`Connection`]: opening and accepting streams, and the connection's end.

use std::{
    fmt,
    hash::{Hash, Hasher},
    io,
    net::SocketAddr,
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use sendstream_core::{
    dir::Dir,
    wait::{KeyedWait, WaiterKey, wait_for},
};

use crate::{
    datagram::{SendDatagram, SendDatagramError},
    driver::{
        connection::{
            events::ConnectionInner,
            hold::{Holder, User},
            owner::ConnectionInstance,
            state::Connected,
            waits::{Accept, Closed, PathChanged, ReadDatagram, TicketKept},
        },
        stream::owner::{Early, StreamInstance},
        turn,
        worker_task::WorkerTask,
    },
    native::{background, settings::Limit},
    recv_stream::RecvStream,
    send_stream::SendStream,
    types::{
        code::{CodeOutOfRange, check_code},
        config::{ConfigError, TransportConfig},
        error::{ConnectionError, NativeError},
        exporter::ExportError,
        payload::Payload,
        rebind::RebindError,
        stats::{ConnectionStats, HandshakeInfo},
        text::Printable,
        tls::PeerIdentity,
    },
};

/// A QUIC connection, from [`Client::connect`](crate::Client::connect) or
/// [`Incoming::accept`](crate::Incoming::accept).
///
/// Clones are handles of the same connection. The connection closes with code 0 when the last
/// handle is dropped and every stream is over: finished and acknowledged, read to its end, reset,
/// stopped, or dropped. After the last handle is dropped, streams that the peer opened and nobody
/// accepted are refused: they are reset and stopped with
/// [`drop_error_code`](crate::TransportConfig::drop_error_code).
///
/// Handles are equal, and hash alike, if they are of the same connection. What they hash does not
/// change, which clippy's `mutable_key_type` cannot see: it accepts [`stable_id`](Self::stable_id) as
/// the key of a map.
#[derive(Clone)]
pub struct Connection(Holder);

/// One line: the side, the peer's address, the server's name, the protocol, and what ended it.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = f.debug_struct("Connection");
        parts.field("side", &self.side());
        if let Some(remote) = self.remote_addr() {
            parts.field("remote", &format_args!("{remote}"));
        }
        parts.field("server_name", &format_args!("{:?}", Printable::new(self.server_name())));
        match (self.close_reason(), self.connected(|connected| Some(connected.alpn.clone()))) {
            (Some(cause), _) => parts.field("ended", &format_args!("{cause}")),
            (None, Some(alpn)) => parts.field("alpn", &format_args!("{}", Printable::new(&alpn))),
            (None, None) => parts.field("connected", &false),
        };
        parts.finish()
    }
}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Connection {}

impl Hash for Connection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.stable_id().hash(state);
    }
}

impl Connection {
    pub(crate) fn new(user: User) -> Self {
        Self(user.into())
    }

    /// Opens a stream on which only this side sends (`StreamOpen`). Nothing goes on the wire before
    /// the first [`send`](SendStream::send), [`start`](SendStream::start) or
    /// [`finish`](SendStream::finish).
    ///
    /// # Errors
    ///
    /// [`OpenError`]: the connection has ended or is about to.
    pub fn open_uni(&self) -> Result<SendStream, OpenError> {
        self.open(Dir::Uni).map(SendStream::new)
    }

    /// Opens a stream on which both sides send (`StreamOpen`). Nothing goes on the wire, and the
    /// peer does not know of the stream, before this side sends something.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: the connection has ended or is about to.
    pub fn open_bi(&self) -> Result<(SendStream, RecvStream), OpenError> {
        let instance = self.open(Dir::Bi)?;
        Ok((SendStream::new(instance.clone()), RecvStream::new(instance)))
    }

    /// The next unidirectional stream that the peer started.
    ///
    /// Any number of tasks may wait at once. Streams that came before the connection ended are
    /// still returned, and then the error.
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub async fn accept_uni(&self) -> Result<RecvStream, ConnectionError> {
        self.accept(Dir::Uni).await.map(RecvStream::new)
    }

    /// The next bidirectional stream that the peer started. Otherwise like
    /// [`accept_uni`](Self::accept_uni).
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let instance = self.accept(Dir::Bi).await?;
        Ok((SendStream::new(instance.clone()), RecvStream::new(instance)))
    }

    /// [`accept_uni`](Self::accept_uni) as a poll.
    ///
    /// Only the task that polled last is woken, of all that poll on this handle or another. It may
    /// poll for the other kind of stream, and for datagrams, as well. Tasks that await the futures
    /// are woken besides.
    ///
    /// # Errors
    ///
    /// As [`accept_uni`](Self::accept_uni).
    pub fn poll_accept_uni(&self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, ConnectionError>> {
        self.poll_accept(Dir::Uni, cx).map_ok(RecvStream::new)
    }

    /// [`accept_bi`](Self::accept_bi) as a poll; otherwise like
    /// [`poll_accept_uni`](Self::poll_accept_uni).
    ///
    /// # Errors
    ///
    /// As [`accept_bi`](Self::accept_bi).
    pub fn poll_accept_bi(&self, cx: &mut Context<'_>) -> Poll<Result<(SendStream, RecvStream), ConnectionError>> {
        self.poll_accept(Dir::Bi, cx).map_ok(|instance| (SendStream::new(instance.clone()), RecvStream::new(instance)))
    }

    /// Submits a datagram now (`DatagramSend`; RFC 9221): one message, delivered whole or not at
    /// all, in no order with anything else, and never sent again. The future resolves with its
    /// fate.
    ///
    /// `datagram` is any owned value that becomes a [`Payload`] without a copy. It has 0 to
    /// [`max_datagram_size`](Self::max_datagram_size) bytes, and MsQuic reads them in place.
    /// Datagrams go out before the data of streams and obey congestion control. The queue of
    /// waiting datagrams has no limit: [`send_datagram_wait`](Self::send_datagram_wait) has one.
    ///
    /// When the connection ends, datagrams that still wait are not sent.
    ///
    /// # Errors
    ///
    /// The future's [`SendDatagramError`]. [`SendDatagram::refusal`]
    /// tells without waiting whether the datagram was taken.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, polled or not, changes nothing for the datagram.
    pub fn send_datagram(&self, datagram: impl Into<Payload>) -> SendDatagram {
        SendDatagram::submit(User::new(Arc::clone(&self.0)), datagram.into())
    }

    /// [`send_datagram`](Self::send_datagram), once no more than
    /// [`datagram_send_buffer`](TransportConfig::datagram_send_buffer) bytes wait to be sent, this
    /// datagram included; or none waits. Resolves when it is submitted, with what tells its fate.
    ///
    /// Any number of tasks may wait at once, in no order among them.
    ///
    /// # Errors
    ///
    /// [`SendDatagramError`]: it was not taken. What is too large is refused without a wait.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready means that nothing was sent.
    pub async fn send_datagram_wait(&self, datagram: impl Into<Payload>) -> Result<SendDatagram, SendDatagramError> {
        let connection = User::new(Arc::clone(&self.0));
        SendDatagram::submit_when_room(connection, datagram.into()).await
    }

    /// How many bytes of datagrams can be submitted before
    /// [`send_datagram_wait`](Self::send_datagram_wait) waits. Each datagram takes 96 bytes more than
    /// it has.
    pub fn datagram_send_buffer_space(&self) -> usize {
        let queued = usize::try_from(self.inner().datagrams().queued()).unwrap_or(usize::MAX);
        self.inner().shared().datagram_send_buffer.saturating_sub(queued)
    }

    /// The most bytes that a datagram may have now
    /// (`QUIC_CONNECTION_EVENT_DATAGRAM_STATE_CHANGED`). The path's packet size and the peer's
    /// `max_datagram_frame_size` (RFC 9221 §3) limit it. It changes as MsQuic learns about the
    /// path: it grows soon after the start, and gets smaller when the path carries less than before
    /// or the connection moves to another. Datagrams that wait then and are too large are
    /// [`Canceled`](crate::DatagramFate::Canceled).
    ///
    /// `None` while none can be sent: the peer does not take datagrams, or the connection has
    /// ended.
    pub fn max_datagram_size(&self) -> Option<usize> {
        self.inner().datagrams().max_size()
    }

    /// The next datagram of the peer's, in the order of arrival
    /// (`QUIC_CONNECTION_EVENT_DATAGRAM_RECEIVED`).
    ///
    /// Datagrams wait in a buffer of
    /// [`datagram_receive_buffer`](crate::TransportConfig::datagram_receive_buffer) bytes; when it
    /// is full, the oldest is dropped and [counted](Self::dropped_datagrams). Any number of tasks
    /// may wait at once. Datagrams that came before the connection ended are still returned, and
    /// then the error. A side that receives no datagrams waits for that error.
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no datagram.
    pub async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        wait_for(ReadDatagram(self.inner())).await
    }

    /// [`read_datagram`](Self::read_datagram) as a poll. Who is woken is as for
    /// [`poll_accept_uni`](Self::poll_accept_uni).
    ///
    /// # Errors
    ///
    /// As [`read_datagram`](Self::read_datagram).
    pub fn poll_read_datagram(&self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ConnectionError>> {
        ReadDatagram(self.inner()).poll(WaiterKey::LAST_POLL, cx)
    }

    /// How many datagrams of the peer's arrived and were dropped, because nobody read them before
    /// newer ones needed their place in the
    /// [`datagram_receive_buffer`](crate::TransportConfig::datagram_receive_buffer).
    pub fn dropped_datagrams(&self) -> u64 {
        self.inner().datagrams().dropped()
    }

    /// Closes the connection now, with `code` for the peer's application (`ConnectionShutdown`;
    /// CONNECTION_CLOSE of RFC 9000 §10.2). Everything pending on this side ends with
    /// [`ConnectionError::LocallyClosed`]; data that the peer has not acknowledged may not reach
    /// it. Does nothing if the connection has ended already.
    ///
    /// `reason` is for a human who looks for the cause on the other side
    /// (`QUIC_PARAM_CONN_CLOSE_REASON_PHRASE`; RFC 9000 §19.19), where it is part of
    /// [`ConnectionError::ApplicationClosed`]. It may be empty. At most 511 bytes of it are sent,
    /// up to the end of the last whole character, and nothing from a NUL on. An installed libmsquic
    /// without Sendstream's edits sends none of it.
    ///
    /// The end is recorded at once, and nothing is waited for. Where there is a reason, the
    /// background thread tells MsQuic, also when the connection is dropped in the meantime; before
    /// the process exits, wait for [`Client::wait_idle`](crate::Client::wait_idle) or
    /// [`Server::shutdown`](crate::Server::shutdown).
    ///
    /// # Errors
    ///
    /// [`CodeOutOfRange`]: `code` has more than 62 bits; nothing was closed.
    pub fn close(&self, code: u64, reason: &str) -> Result<(), CodeOutOfRange> {
        check_code(code)?;
        self.0.close_with_reason(code, reason);
        Ok(())
    }

    /// Gives up this handle and resolves with the cause when the connection has ended. This side
    /// closes it with code 0 once every stream is over and every other handle is dropped, unless
    /// something ends it before.
    ///
    /// So the peer acknowledges each finished stream to its last byte first. The connection waits
    /// for a stream that the application holds and has neither finished nor read to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait; the connection goes on to its end by itself.
    pub async fn drain(self) -> ConnectionError {
        let instance = Arc::clone(&self.0);
        drop(self);
        wait_for(Closed(instance.inner())).await
    }

    /// Resolves when the connection has ended, with the cause.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub async fn closed(&self) -> ConnectionError {
        wait_for(Closed(self.inner())).await
    }

    /// What ended the connection, if anything has.
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.inner().cause()
    }

    /// The peer's address, as of now or of the connection's end; `None` if MsQuic did not tell.
    ///
    /// A client moves when its network changes, or when it [rebinds](Self::rebind). A server
    /// reports the new address with the first packet from there, before it knows that the client is
    /// reachable there (RFC 9000 §9.3). [`path_changed`](Self::path_changed) waits for that.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.inner().lock().path().remote()
    }

    /// This side's address, as of now or of the connection's end; `None` if MsQuic did not tell.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner().lock().path().local()
    }

    /// Resolves when an address has changed since this was called: the peer's
    /// (`QUIC_CONNECTION_EVENT_PEER_ADDRESS_CHANGED`) or this side's. To miss no change, call this,
    /// then look at the addresses, then await.
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub fn path_changed(&self) -> impl Future<Output = Result<(), ConnectionError>> + Send + Sync + use<'_> {
        let inner = self.inner();
        let seen = inner.lock().path().changes();
        wait_for(PathChanged { inner, seen })
    }

    /// Moves this client's connection to another local address now
    /// (`QUIC_PARAM_CONN_ACTIVATE_PATH`; RFC 9000 §9.2), such as another interface's, and resolves
    /// with the new address. With the unspecified address (`0.0.0.0`, or `::` for either family) the
    /// system's routes choose the address. With port 0 the system chooses the port.
    ///
    /// The connection leaves the socket that it shares with the [`Client`](crate::Client)'s others
    /// for one of its own, or returns to it, if `local` is that one's address.
    ///
    /// Streams and datagrams continue. From now on everything goes out from the new address.
    /// Packets on their way to the old address are lost, and their data is sent again. Nobody has
    /// tried the new path: if it does not reach the server, the connection times out unless it
    /// moves once more. Congestion control starts over.
    ///
    /// # Errors
    ///
    /// [`RebindError`]: the connection stays where it was.
    ///
    /// # Cancel safety
    ///
    /// The move is under way once this was called; dropping the future only ends the wait.
    pub fn rebind(
        &self,
        local: SocketAddr,
    ) -> impl Future<Output = Result<SocketAddr, RebindError>> + Send + Sync + use<> {
        let instance = Arc::clone(&self.0);
        let moved = background::ask(move || Ok(instance.rebind(local)));
        async move { moved.await.map_err(RebindError::Native)? }
    }

    /// Gives the peer the room that `transport` says, on this connection alone: its
    /// [`max_concurrent_uni_streams`](TransportConfig::max_concurrent_uni_streams),
    /// [`max_concurrent_bidi_streams`](TransportConfig::max_concurrent_bidi_streams) and
    /// [`connection_flow_control_window`](TransportConfig::connection_flow_control_window); its other
    /// settings do not count (`QUIC_PARAM_CONN_SETTINGS`, MAX_STREAMS and MAX_DATA of RFC 9000
    /// §19.9). Resolves when MsQuic has them, which tells the peer at once.
    ///
    /// A server that knows its clients only by what they say on a stream lets strangers have one
    /// stream and a few KiB, and raises that for those it believes:
    ///
    /// ```
    /// # use sendstream::{Connection, Server, TransportConfig};
    /// # async fn believes(connection: &Connection) -> bool { true }
    /// let few = TransportConfig::default()
    ///     .max_concurrent_uni_streams(0)
    ///     .max_concurrent_bidi_streams(1)
    ///     .connection_flow_control_window(4096);
    /// let server = Server::builder().transport(few);
    /// # async fn serve(connection: Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// // ... and of each connection:
    /// if believes(&connection).await {
    ///     connection.raise_limits(&TransportConfig::default()).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// What the peer was told cannot be taken back (RFC 9000 §4.1, §4.6). A smaller window changes
    /// nothing. A smaller number of streams holds once so many have ended. With an installed
    /// libmsquic a larger window changes nothing either (the edit `window-raised-after-the-start`).
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfRange`], as for the builders. [`ConfigError::Native`]: MsQuic is out of
    /// memory. Nothing was changed. That the connection is over is no error.
    ///
    /// # Cancel safety
    ///
    /// The limits are on their way once this was called; dropping the future only ends the wait.
    pub fn raise_limits(
        &self,
        transport: &TransportConfig,
    ) -> impl Future<Output = Result<(), ConfigError>> + Send + Sync + use<> {
        let raised = transport.to_limits().map(|limits| {
            let instance = Arc::clone(&self.0);
            background::ask(move || instance.set_limits(&limits))
        });
        async move { Ok(raised?.await?) }
    }

    /// [`raise_limits`](Self::raise_limits) for the number of the peer's unidirectional streams
    /// alone; 0 forbids them, once those that the peer was allowed are over.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Native`]: MsQuic is out of memory. Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// The limit is on its way once this was called; dropping the future only ends the wait.
    pub fn set_max_concurrent_uni_streams(
        &self,
        count: u16,
    ) -> impl Future<Output = Result<(), ConfigError>> + Send + Sync + use<> {
        self.set_limit(Limit::UniStreams(count))
    }

    /// [`raise_limits`](Self::raise_limits) for the number of the peer's bidirectional streams alone;
    /// 0 forbids them, once those that the peer was allowed are over.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Native`]: MsQuic is out of memory. Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// The limit is on its way once this was called; dropping the future only ends the wait.
    pub fn set_max_concurrent_bidi_streams(
        &self,
        count: u16,
    ) -> impl Future<Output = Result<(), ConfigError>> + Send + Sync + use<> {
        self.set_limit(Limit::BidiStreams(count))
    }

    /// [`raise_limits`](Self::raise_limits) for the
    /// [`connection_flow_control_window`](TransportConfig::connection_flow_control_window) alone:
    /// 4 KiB to `u32::MAX` bytes. A smaller one than before changes nothing.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfRange`]. [`ConfigError::Native`]: MsQuic is out of memory. Nothing was
    /// changed.
    ///
    /// # Cancel safety
    ///
    /// The window is on its way once this was called; dropping the future only ends the wait.
    pub fn set_receive_window(
        &self,
        bytes: u32,
    ) -> impl Future<Output = Result<(), ConfigError>> + Send + Sync + use<> {
        self.set_limit(Limit::Window(bytes))
    }

    /// The [`send_window`](TransportConfig::send_window) of streams that this connection opens or
    /// accepts from now on; `None` for MsQuic's advice. Streams that are there keep theirs.
    pub fn set_send_window(&self, bytes: impl Into<Option<NonZeroU32>>) {
        self.inner().shared().fix_send_window(bytes.into());
    }

    fn set_limit(&self, limit: Limit) -> impl Future<Output = Result<(), ConfigError>> + Send + Sync + use<> {
        let set = limit.to_settings().map(|limit| {
            let instance = Arc::clone(&self.0);
            background::ask(move || instance.set_limits(&limit))
        });
        async move { Ok(set?.await?) }
    }

    /// Marks the packets that this side sends from now on with a code point of Differentiated Services
    /// (`QUIC_PARAM_CONN_SEND_DSCP`; RFC 2474): 0 to 63, such as 46 for expedited forwarding (RFC 3246);
    /// 0 until this is called. What the network makes of it is the network's affair.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfRange`]. [`ConfigError::Native`]: MsQuic is out of memory. Nothing was
    /// changed.
    ///
    /// # Cancel safety
    ///
    /// The change is on its way once this was called; dropping the future only ends the wait.
    pub fn set_dscp(&self, code_point: u8) -> impl Future<Output = Result<(), ConfigError>> + Send + Sync + use<> {
        const MAX: u8 = 63;
        let set = if code_point <= MAX {
            let instance = Arc::clone(&self.0);
            Ok(background::ask(move || instance.set_dscp(code_point)))
        } else {
            Err(ConfigError::OutOfRange { field: "dscp", value: code_point.to_string(), allowed: "0 to 63" })
        };
        async move { Ok(set?.await?) }
    }

    /// Derives `output.len()` bytes from the secrets of this connection's handshake, which both ends
    /// get alike and nobody else can (`TLS-Exporter` of RFC 8446 §7.5, RFC 5705): to bind something
    /// of the application's to the connection, such as a login.
    ///
    /// `label` says what it is for, and should be one's own: RFC 5705 §4 has a registry, and labels
    /// that begin with `EXPERIMENTAL` are free. `context` is mixed in. A label of at most 249 bytes,
    /// and 255 times as many bytes as the hash of the cipher suite has, are possible.
    ///
    /// It waits for nothing. Resumed sessions have secrets of their own. The secret behind it is kept
    /// until the connection is dropped, and wiped then.
    ///
    /// # Errors
    ///
    /// [`ExportError`]; `output` is of no use then.
    pub fn export_keying_material(&self, output: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), ExportError> {
        let connected = self.inner().lock().connected();
        let connected = connected.as_ref().and_then(|connected| connected.exporter.as_ref());
        connected.ok_or(ExportError::Unavailable)?.export(output, label, context)
    }

    /// The server's name: on a client the one that was given to
    /// [`connect`](crate::Client::connect), on a server the one that the client asked for (RFC 6066
    /// §3), which is empty if it asked for none, as clients do that connect to an address.
    ///
    /// A client may ask for any name. A server that shows one certificate for all does not know
    /// whether the client has found the name there.
    pub fn server_name(&self) -> &str {
        self.inner().shared().server_name()
    }

    /// A number that names this connection among all that are held: the same from every handle, and
    /// for as long as there is one. Another connection may have it after that.
    pub fn stable_id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Which side of the connection this is.
    pub fn side(&self) -> Side {
        if self.0.is_server() { Side::Server } else { Side::Client }
    }

    /// The application protocol that both sides agreed on (RFC 7301).
    pub fn alpn(&self) -> Vec<u8> {
        self.connected(|connected| Some(connected.alpn.clone())).unwrap_or_default()
    }

    /// The peer's certificates. A server always has some. A client has some if the server asked for
    /// them ([`ClientAuth`](crate::ClientAuth)) and the client has any. This side believed them
    /// before the connection existed. A [resumed](Self::session_resumed) session has the
    /// certificates of the earlier full handshake.
    pub fn peer_identity(&self) -> Option<PeerIdentity> {
        self.inner().peer_identity()
    }

    /// What the TLS handshake settled, taken when it was done (`QUIC_PARAM_TLS_HANDSHAKE_INFO`);
    /// `None` if MsQuic did not tell.
    pub fn handshake_info(&self) -> Option<HandshakeInfo> {
        self.connected(|connected| connected.handshake.clone())
    }

    /// Whether the handshake resumed an earlier session (RFC 8446 §2.2), so that no certificate was
    /// shown in it. [`peer_identity`](Self::peer_identity) is then what the server showed in the
    /// full handshake that the session goes back to, which the client's [`Trust`](crate::Trust) has
    /// judged again.
    pub fn session_resumed(&self) -> bool {
        self.connected(|connected| Some(connected.resumed)).unwrap_or_default()
    }

    /// On a client, resolves once the [cache](crate::ClientBuilder::session_cache) has a session
    /// ticket of this connection, so that a later connection can resume. A server sends its only
    /// ticket when the handshake is done, about a round trip later. Without a cache, or if the
    /// server does not resume, this waits for the end of the connection.
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the connection before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub async fn session_ticket(&self) -> Result<(), ConnectionError> {
        wait_for(TicketKept(self.inner())).await
    }

    /// The connection's numbers as of now, also after it ended (`QUIC_PARAM_CONN_STATISTICS_V2`,
    /// `QUIC_PARAM_CONN_NETWORK_STATISTICS`).
    ///
    /// MsQuic answers on the connection's worker, and blocks the thread that asks. So Sendstream's
    /// background thread asks at once, and the future waits for it. That thread asks one question
    /// at a time: call this now and then, not for each packet.
    ///
    /// # Errors
    ///
    /// MsQuic's status, should it not tell.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub fn stats(&self) -> impl Future<Output = Result<ConnectionStats, NativeError>> + Send + Sync + use<> {
        let instance = Arc::clone(&self.0);
        background::ask(move || Ok(ConnectionStats::new(&instance.parameter()?, &instance.parameter()?)))
    }

    /// The smoothed round-trip time as of now (`smoothed_rtt` of RFC 9002 §5.3), in whole
    /// microseconds. Before the first round trip it is
    /// [`initial_rtt`](crate::TransportConfig::initial_rtt), and after the end of the connection it
    /// stays what it was last.
    ///
    /// It waits for nothing: MsQuic's worker leaves it where every thread can read it (the edit
    /// `smoothed-rtt-in-place`). With an installed libmsquic it is what events of the connection
    /// brought last: when the handshake was done, and whenever MsQuic had another advice for how
    /// much to have in flight. [`stats`](Self::stats) has the other times.
    pub fn rtt(&self) -> Duration {
        self.0.rtt()
    }

    /// Runs `future` on the connection's own worker thread, right behind the events that wake it.
    ///
    /// There MsQuic runs calls in place, and hands nothing to another thread. So plain `async` code
    /// answers at the speed of a callback. Use it for short answers to events, and an executor for
    /// long work.
    ///
    /// ```
    /// # use sendstream::Connection;
    /// # async fn example(connection: Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut send, mut recv) = connection.accept_bi().await?;
    /// let echo = connection.spawn_on_worker(async move {
    ///     while let Ok(Some(chunk)) = recv.read_chunk().await {
    ///         send.write_chunk(chunk.into()).await?;
    ///     }
    ///     send.finished().await
    /// });
    /// echo.await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Rules
    ///
    /// - **Do not block**, nor compute for long: the worker serves this connection's packets, and
    ///   those of others.
    /// - The first poll, and each poll after a wake from another thread, needs no event of the
    ///   connection: the worker comes to it soon. MsQuic may move a connection to another worker
    ///   between polls, hence `Send`.
    /// - After 256 polls in a row the worker goes on with its packets and then comes back.
    /// - A panic ends the task alone; its [`WorkerTask`] tells.
    /// - When the connection is over, whoever waits for something of it is woken and polled a last
    ///   time. Tasks that are not done then are canceled: their futures are dropped, and the
    ///   `WorkerTask`s tell.
    /// - There is no runtime around it. A future that needs tokio's reactor or timer must enter a
    ///   `Handle` first.
    /// - As on every executor, a task that holds a handle of its connection keeps it open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`WorkerTask`] lets the task go on; [`WorkerTask::abort`] cancels it.
    #[doc(alias = "spawn_local")]
    pub fn spawn_on_worker<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> WorkerTask<T> {
        turn::spawn(&self.0, future)
    }

    fn connected<T>(&self, get: impl FnOnce(&Connected) -> Option<T>) -> Option<T> {
        let connected = self.inner().lock().connected()?;
        get(&connected)
    }

    fn open(&self, dir: Dir) -> Result<Arc<StreamInstance>, OpenError> {
        open_stream(&self.0, dir, Early::No)
    }

    /// Opens a stream whose data may go out before the handshake is done.
    pub(crate) fn open_early(&self, dir: Dir) -> Result<Arc<StreamInstance>, OpenError> {
        open_stream(&self.0, dir, Early::Yes)
    }

    /// The owner of its handle.
    #[cfg(test)]
    pub(crate) fn instance(&self) -> &Arc<ConnectionInstance> {
        &self.0
    }

    /// What receives its events, for questions.
    pub(crate) fn inner(&self) -> &ConnectionInner {
        self.0.inner()
    }

    async fn accept(&self, dir: Dir) -> Result<Arc<StreamInstance>, ConnectionError> {
        let stream = wait_for(Accept { inner: self.inner(), dir }).await?;
        stream.accepted();
        Ok(stream)
    }

    fn poll_accept(&self, dir: Dir, cx: &mut Context<'_>) -> Poll<Result<Arc<StreamInstance>, ConnectionError>> {
        let accept = Accept { inner: self.inner(), dir };
        accept.poll(WaiterKey::LAST_POLL, cx).map_ok(|stream| {
            stream.accepted();
            stream
        })
    }
}

fn open_stream(instance: &Arc<ConnectionInstance>, dir: Dir, early: Early) -> Result<Arc<StreamInstance>, OpenError> {
    if instance.inner().is_over()
        && let Some(cause) = instance.inner().cause()
    {
        return Err(OpenError::ConnectionLost(cause));
    }
    StreamInstance::open(instance, dir, early).map_err(|status| match (instance.inner().cause(), status) {
        (Some(cause), _) => OpenError::ConnectionLost(cause),
        (None, NativeError::ABORTED | NativeError::INVALID_STATE) => OpenError::ConnectionEnding,
        (None, status) => OpenError::Native(status),
    })
}

/// A side of a connection, from [`Connection::side`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that began it.
    Client,
    /// The one that accepted it.
    Server,
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::ConnectionLost(error) => error.into(),
            OpenError::Native(error) => error.into(),
            OpenError::ConnectionEnding => Self::new(io::ErrorKind::NotConnected, error),
        }
    }
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The connection has ended.
    #[error("the connection is lost: {0}")]
    ConnectionLost(#[source] ConnectionError),
    /// The connection is ending this moment; [`Connection::closed`] will tell why.
    #[error("the connection is ending")]
    ConnectionEnding,
    /// MsQuic or the system failed: out of memory, mostly.
    #[error("the stream could not be opened: {0}")]
    Native(#[source] NativeError),
}
