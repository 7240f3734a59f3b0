//! [`Session`], and the task that does HTTP/3's part of it.
//!
//! The task owns the CONNECT stream, HTTP/3's streams and the acceptance of the peer's. It ends the
//! session when the peer closes it or breaks a rule, when this side closes it or drops its last handle,
//! and when the connection ends. Whichever comes first is [`Shared::end`], and stays.

use std::{
    pin::pin,
    sync::{Arc, Mutex as Lock, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use sendstream::{Connection, ConnectionError, SendDatagramError};
use tokio::{
    io::{copy, sink},
    sync::{Mutex, mpsc, oneshot, watch},
    time::timeout,
};
use web_transport_proto::{Capsule, Frame, StreamUni, VarInt};

use crate::{
    capsule::{Capsules, MAX_REASON, Unread},
    error::{SessionError, Violation, h3},
    stream::{RecvStream, SendStream},
    wire::{Bi, Incoming, Uni, watch_control, watch_qpack},
};

/// A WebTransport session. Clones are handles of the same one; when the last is dropped, the session is
/// closed with code 0.
///
/// It implements [`web_transport_trait::Session`], which has its methods. Each of them fails with what
/// ended the session once that has happened.
///
/// # Cancel safety
///
/// Dropping a future of `accept_uni`, `accept_bi`, `recv_datagram` or `closed` loses nothing. A stream
/// whose `open_uni` or `open_bi` is dropped is reset.
#[derive(Debug, Clone)]
pub struct Session(Arc<Handle>);

/// What all clones of a [`Session`] hold together. Dropping it closes the session.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    close: Lock<Option<oneshot::Sender<Close>>>,
    uni: Mutex<mpsc::Receiver<RecvStream>>,
    bi: Mutex<mpsc::Receiver<(SendStream, RecvStream)>>,
}

/// What sessions and their streams know.
#[derive(Debug)]
pub(crate) struct Shared {
    connection: Connection,
    id: u64,
    protocol: Option<String>,
    /// What ended the session. Only the first stays.
    end: watch::Sender<Option<SessionError>>,
}

/// What the task of a session holds. However the task ends, the session and the connection do with it:
/// its runtime may be shut down at any time, and a task may panic.
struct Task(Arc<Shared>);

impl Drop for Task {
    fn drop(&mut self) {
        let shared = &self.0;
        shared.end(match shared.connection.close_reason() {
            Some(error) => error.into(),
            None => SessionError::Other("the task of the session is gone".to_owned()),
        });
        let _ = shared.connection.close(h3::NO_ERROR, "");
    }
}

/// How this side closes a session.
#[derive(Debug)]
struct Close {
    code: u32,
    reason: String,
}

/// A session that both sides agreed on, and all streams of the connection so far.
pub(crate) struct Parts {
    pub(crate) connection: Connection,
    pub(crate) protocol: Option<String>,
    /// The CONNECT stream.
    pub(crate) send: sendstream::SendStream,
    pub(crate) recv: sendstream::RecvStream,
    /// This side's control stream, which must not end before the connection.
    pub(crate) control: sendstream::SendStream,
    pub(crate) peer: Peer,
}

/// What the peer opened before the session began, and will open.
pub(crate) struct Peer {
    pub(crate) unis: Incoming<Uni>,
    pub(crate) bis: Incoming<Bi>,
    /// The control stream, once SETTINGS were read from it.
    pub(crate) control: Option<sendstream::RecvStream>,
    pub(crate) qpack: Vec<(StreamUni, sendstream::RecvStream)>,
    /// Streams of a session, with its id. They came before the request, or before its answer.
    pub(crate) early_unis: Vec<(u64, sendstream::RecvStream)>,
    pub(crate) early_bis: Vec<(u64, sendstream::SendStream, sendstream::RecvStream)>,
}

impl Peer {
    pub(crate) fn new(connection: &Connection) -> Self {
        Self {
            unis: Incoming::new(connection.clone()),
            bis: Incoming::new(connection.clone()),
            control: None,
            qpack: Vec::new(),
            early_unis: Vec::new(),
            early_bis: Vec::new(),
        }
    }
}

/// How many of the peer's streams of one kind wait for the application here, before they wait, limited,
/// in Sendstream. Before the session begins, more are refused.
pub(crate) const WAITING: usize = 16;

/// How long a peer has to acknowledge the last bytes of a session, or of a refusal, and to answer. It may
/// live for ever and do neither.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(5);

impl Session {
    /// Begins the session. The task runs on the tokio runtime of the caller.
    pub(crate) fn start(parts: Parts) -> Self {
        let id = parts.send.id().unwrap_or_default();
        let shared = Arc::new(Shared {
            connection: parts.connection.clone(),
            id,
            protocol: parts.protocol.clone(),
            end: watch::Sender::new(None),
        });
        let (close, closing) = oneshot::channel();
        let (uni_sender, uni) = mpsc::channel(WAITING);
        let (bi_sender, bi) = mpsc::channel(WAITING);
        tokio::spawn(drive(parts, Task(shared.clone()), closing, uni_sender, bi_sender));
        Self(Arc::new(Handle { shared, close: Lock::new(Some(close)), uni: Mutex::new(uni), bi: Mutex::new(bi) }))
    }

    /// The connection below. What is opened or sent there directly is no part of the session.
    pub fn connection(&self) -> &Connection {
        &self.0.shared.connection
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// What the task passed on. Once it has ended, the session has.
    async fn received<T>(&self, next: Option<T>) -> Result<T, SessionError> {
        match next {
            Some(stream) => Ok(stream),
            None => Err(self.shared().ended().await),
        }
    }

    /// `future`, unless the session ends before.
    async fn unless_ended<T>(&self, future: impl Future<Output = Result<T, SessionError>>) -> Result<T, SessionError> {
        tokio::select! {
            biased;
            result = future => match result {
                Err(SessionError::ConnectionLost(error)) => Err(self.shared().end_after(error).await),
                result => result,
            },
            end = self.shared().ended() => Err(end),
        }
    }
}

impl Shared {
    /// Records what ended the session, unless something has.
    fn end(&self, error: SessionError) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(error);
            }
            first
        });
    }

    /// Waits for the session's end.
    async fn ended(&self) -> SessionError {
        let mut end = self.end.subscribe();
        // `self` has the sender.
        let end = end.wait_for(Option::is_some).await.expect("the sender lives");
        end.clone().expect("it was waited for")
    }

    /// What ended the session when the connection has: the task knows it, now or at once.
    async fn end_after(&self, error: ConnectionError) -> SessionError {
        if self.connection.close_reason().is_some() { self.ended().await } else { error.into() }
    }

    /// What ended the session, rather than what became of the connection after that.
    pub(crate) fn better(&self, error: SessionError) -> SessionError {
        self.end.borrow().clone().unwrap_or(error)
    }

    /// What ended the session, if anything has.
    pub(crate) fn end_so_far(&self) -> Option<SessionError> {
        self.end.borrow().clone()
    }

    /// What stands before the bytes of a stream: a type or frame, and the session.
    fn header(&self, kind: VarInt) -> Bytes {
        let mut header = BytesMut::new();
        kind.encode(&mut header);
        id_of(self.id).encode(&mut header);
        header.freeze()
    }
}

impl web_transport_trait::Session for Session {
    type SendStream = SendStream;
    type RecvStream = RecvStream;
    type Error = SessionError;

    /// The next stream that the peer opened; those that came before the session's end still come.
    async fn accept_uni(&self) -> Result<RecvStream, SessionError> {
        self.unless_ended(async { self.received(self.0.uni.lock().await.recv().await).await }).await
    }

    /// As `accept_uni`.
    async fn accept_bi(&self) -> Result<(SendStream, RecvStream), SessionError> {
        self.unless_ended(async { self.received(self.0.bi.lock().await.recv().await).await }).await
    }

    /// Waits until the peer's limit admits the stream.
    async fn open_bi(&self) -> Result<(SendStream, RecvStream), SessionError> {
        let shared = self.shared();
        let opening = async {
            let (mut send, recv) = shared.connection.open_bi()?;
            send.start().await.map_err(|error| SessionError::from(crate::SendError::from(error)))?;
            // From here on a drop resets the stream with WebTransport's code.
            let (mut send, recv) = (SendStream::new(send, shared.clone()), RecvStream::new(recv, shared.clone()));
            web_transport_trait::SendStream::write_chunk(&mut send, shared.header(Frame::WEBTRANSPORT.0)).await?;
            Ok((send, recv))
        };
        self.unless_ended(opening).await
    }

    /// As `open_bi`.
    async fn open_uni(&self) -> Result<SendStream, SessionError> {
        let shared = self.shared();
        let opening = async {
            let mut send = shared.connection.open_uni()?;
            send.start().await.map_err(|error| SessionError::from(crate::SendError::from(error)))?;
            let mut send = SendStream::new(send, shared.clone());
            web_transport_trait::SendStream::write_chunk(&mut send, shared.header(StreamUni::WEBTRANSPORT.0)).await?;
            Ok(send)
        };
        self.unless_ended(opening).await
    }

    /// Sends a datagram (RFC 9297 §2.1).
    ///
    /// # Errors
    ///
    /// [`SessionError::Datagram`] if it is too large or the peer takes none, or what ended the session.
    fn send_datagram(&self, payload: Bytes) -> Result<(), SessionError> {
        let shared = self.shared();
        if let Some(end) = shared.end.borrow().clone() {
            return Err(end);
        }
        let mut header = BytesMut::new();
        id_of(shared.id / 4).encode(&mut header);
        let length = header.len();
        let sent = shared.connection.send_datagram(vec![header.freeze(), payload]);
        match sent.refusal() {
            None => Ok(()),
            Some(SendDatagramError::TooLarge { max }) => {
                Err(SessionError::Datagram(SendDatagramError::TooLarge { max: max.saturating_sub(length) }))
            }
            Some(error) => Err(shared.better(error.clone().into())),
        }
    }

    /// The next datagram of the session.
    async fn recv_datagram(&self) -> Result<Bytes, SessionError> {
        let shared = self.shared();
        let reading = async {
            loop {
                // A peer may send any number of others.
                tokio::task::consume_budget().await;
                let mut datagram = shared.connection.read_datagram().await?;
                // Others are of no session, or malformed. They may as well have been lost.
                if VarInt::decode(&mut datagram).is_ok_and(|id| id.into_inner() == shared.id / 4) {
                    return Ok(datagram);
                }
            }
        };
        self.unless_ended(reading).await
    }

    fn max_datagram_size(&self) -> usize {
        let shared = self.shared();
        shared.connection.max_datagram_size().unwrap_or(0).saturating_sub(id_of(shared.id / 4).size())
    }

    fn protocol(&self) -> Option<&str> {
        self.shared().protocol.as_deref()
    }

    /// Closes the session, once. The peer gets code and reason, of which 1024 bytes are sent. When it
    /// has answered, or after five seconds, the connection closes. What streams had under way is given
    /// up.
    ///
    /// It does not wait. A program that ends right away waits for
    /// [`closed`](sendstream::Connection::closed) of the [connection](Session::connection) first.
    fn close(&self, code: u32, reason: &str) {
        let fits = (0..=MAX_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        let reason = reason[..fits.unwrap_or(0)].to_owned();
        let close = self.0.close.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(close) = close {
            self.shared().end(SessionError::ClosedHere { code, reason: reason.clone() });
            // The task may have ended, which then is the session's end.
            let _ = close.send(Close { code, reason });
        }
    }

    async fn closed(&self) -> SessionError {
        self.shared().ended().await
    }

    /// Only the round-trip time is known without waiting; see [`Session::connection`] for more.
    fn stats(&self) -> impl web_transport_trait::Stats {
        Stats(self.connection().rtt())
    }
}

struct Stats(std::time::Duration);

impl web_transport_trait::Stats for Stats {
    fn rtt(&self) -> Option<std::time::Duration> {
        Some(self.0)
    }
}

/// What ends the task's loop.
enum End {
    /// The peer closed the session.
    Closed(u32, String),
    /// The peer reset the CONNECT stream.
    Reset(u64),
    /// This side closes it.
    Here(Close),
    /// The peer broke a rule.
    Broken(Violation),
    /// The connection is over.
    Lost(SessionError),
}

/// The task of a session.
async fn drive(
    parts: Parts,
    task: Task,
    closing: oneshot::Receiver<Close>,
    uni: mpsc::Sender<RecvStream>,
    bi: mpsc::Sender<(SendStream, RecvStream)>,
) {
    let shared = &task.0.clone();
    let Parts { connection, mut send, mut recv, control, peer, .. } = parts;
    let Peer { unis, bis, control: peers_control, qpack, early_unis, early_bis } = peer;
    let (critical, watched) = mpsc::channel(1);
    // They stay until the connection closes: to drop one of HTTP/3's own streams before would ask the
    // peer to end it, which it may not (RFC 9114 §6.2.1).
    let mut critical_streams = pin!(watch_critical(peers_control, qpack, watched));
    let mut unis = pin!(accept_unis(unis, early_unis, shared, uni, critical));
    let mut bis = pin!(accept_bis(bis, early_bis, shared, bi));
    // Dropped before all of that: the connection closes before its streams are reset.
    let _task = task;
    let end = tokio::select! {
        biased;
        close = closing => End::Here(close.unwrap_or(Close { code: 0, reason: String::new() })),
        end = read_capsules(&mut recv) => end,
        end = &mut unis => end,
        end = &mut bis => end,
        violation = &mut critical_streams => End::Broken(violation),
        error = connection.closed() => End::Lost(error.into()),
    };
    let closed_here = matches!(end, End::Here(_));
    match end {
        End::Closed(code, reason) => {
            shared.end(SessionError::Closed { code, reason });
            let _ = send.finish();
        }
        End::Reset(code) => {
            shared.end(SessionError::Reset { code });
            let _ = send.abort(h3::NO_ERROR);
        }
        End::Here(Close { code, reason }) => {
            shared.end(SessionError::ClosedHere { code, reason: reason.clone() });
            drop(send.finish_with(close_frame(code, reason)));
        }
        End::Broken(violation) => {
            shared.end(violation.into());
            let _ = connection.close(violation.code, violation.what);
            return;
        }
        End::Lost(error) => {
            shared.end(error);
            return;
        }
    }
    let taken = async {
        if closed_here {
            // The peer answers with its own FIN, or closes the connection. A close of this side before
            // that may reach it before the capsule does what it is for.
            let _ = copy(&mut recv, &mut sink()).await;
        }
        // The peer has the end when it has acknowledged FIN; or it has closed the connection.
        let _ = send.finished().await;
    };
    let _ = timeout(CLOSE_WITHIN, taken).await;
    let _ = connection.close(h3::NO_ERROR, "");
    drop((control, recv));
}

/// Reads the CONNECT stream up to the session's end.
async fn read_capsules(recv: &mut sendstream::RecvStream) -> End {
    let reset = recv.received_reset();
    let mut capsules = Capsules::new(recv);
    loop {
        match capsules.next().await {
            Ok(Some(Capsule::CloseWebTransportSession { code, reason })) => return End::Closed(code, reason),
            Ok(Some(Capsule::Grease { .. } | Capsule::Unknown { .. })) => {}
            Ok(None) => return End::Closed(0, String::new()),
            Err(Unread::Broken(violation)) => return End::Broken(violation),
            Err(Unread::CutOff) => {
                return match reset.await {
                    Ok(Some(code)) => End::Reset(code),
                    Err(sendstream::ReadError::ConnectionLost(error)) => End::Lost(error.into()),
                    Ok(None) | Err(_) => {
                        End::Broken(Violation::new(h3::MESSAGE_ERROR, "the CONNECT stream ended half-way"))
                    }
                };
            }
        }
    }
}

/// Hands the peer's unidirectional streams to who accepts them.
async fn accept_unis(
    mut unis: Incoming<Uni>,
    early: Vec<(u64, sendstream::RecvStream)>,
    session: &Arc<Shared>,
    accepted: mpsc::Sender<RecvStream>,
    critical: mpsc::Sender<(StreamUni, sendstream::RecvStream)>,
) -> End {
    let mut early = early.into_iter();
    loop {
        let next = match early.next() {
            Some((id, stream)) => Ok(Uni::Session(id, stream)),
            None => unis.uni().await,
        };
        match next {
            Ok(Uni::Session(id, stream)) if id == session.id => {
                // Without a receiver there is no session; that is on its way here.
                let _ = accepted.send(RecvStream::new(stream, session.clone())).await;
            }
            Ok(Uni::Session(_, mut stream)) => drop(stream.stop(h3::BUFFERED_STREAM_REJECTED)),
            // The first began the session, and a second is an error.
            Ok(Uni::Control(_, _)) => {}
            Ok(Uni::Qpack(kind, stream)) => drop(critical.send((kind, stream)).await),
            Err(SessionError::Protocol { code, what }) => return End::Broken(Violation { code, what }),
            Err(error) => return End::Lost(error),
        }
    }
}

/// Hands the peer's bidirectional streams to who accepts them.
async fn accept_bis(
    mut bis: Incoming<Bi>,
    early: Vec<(u64, sendstream::SendStream, sendstream::RecvStream)>,
    session: &Arc<Shared>,
    accepted: mpsc::Sender<(SendStream, RecvStream)>,
) -> End {
    let mut early = early.into_iter();
    loop {
        let next = match early.next() {
            Some((id, send, recv)) => Ok(Bi::Session(id, send, recv)),
            None => bis.bi().await,
        };
        match next {
            Ok(Bi::Session(id, send, recv)) if id == session.id => {
                let streams = (SendStream::new(send, session.clone()), RecvStream::new(recv, session.clone()));
                let _ = accepted.send(streams).await;
            }
            Ok(Bi::Session(_, mut send, mut recv)) => {
                let _ = (send.abort(h3::BUFFERED_STREAM_REJECTED), recv.stop(h3::BUFFERED_STREAM_REJECTED));
            }
            // One session a connection.
            Ok(Bi::Request(_, mut send, mut recv)) => {
                let _ = (send.abort(h3::REQUEST_REJECTED), recv.stop(h3::REQUEST_REJECTED));
            }
            Err(SessionError::Protocol { code, what }) => return End::Broken(Violation { code, what }),
            Err(error) => return End::Lost(error),
        }
    }
}

/// Reads the streams that must not end.
async fn watch_critical(
    control: Option<sendstream::RecvStream>,
    early: Vec<(StreamUni, sendstream::RecvStream)>,
    mut more: mpsc::Receiver<(StreamUni, sendstream::RecvStream)>,
) -> Violation {
    let control = async {
        match control {
            Some(control) => watch_control(control).await,
            None => std::future::pending().await,
        }
    };
    let qpack = async {
        let (mut seen, mut early) = (Vec::new(), early.into_iter());
        let mut watching = futures::stream::FuturesUnordered::new();
        loop {
            let next = match early.next() {
                Some(next) => Some(next),
                None => tokio::select! {
                    Some(violation) = futures::StreamExt::next(&mut watching) => return violation,
                    next = more.recv() => next,
                },
            };
            // The acceptance of streams ends only with everything else.
            let Some((kind, stream)) = next else { std::future::pending().await };
            if seen.contains(&kind) {
                return Violation::new(h3::STREAM_CREATION_ERROR, "a second QPACK stream of its kind was opened");
            }
            seen.push(kind);
            watching.push(watch_qpack(stream));
        }
    };
    tokio::select! {
        violation = control => violation,
        violation = qpack => violation,
    }
}

/// The capsule that closes a session, in a DATA frame.
fn close_frame(code: u32, reason: String) -> Vec<u8> {
    let mut capsule = Vec::new();
    Capsule::CloseWebTransportSession { code, reason }.encode(&mut capsule);
    let mut frame = Vec::new();
    Frame::DATA.encode(&mut frame);
    id_of(capsule.len() as u64).encode(&mut frame);
    frame.extend(capsule);
    frame
}

/// A number that QUIC can carry.
fn id_of(number: u64) -> VarInt {
    VarInt::from_u64(number).expect("ids of streams and lengths in memory have less than 62 bits")
}
