//! [`accept`]: the server's half of the handshake.

use sendstream::Connection;
use tokio::time::timeout;
use web_transport_proto::{
    ConnectRequest, ConnectResponse, Settings,
    http::{HeaderMap, StatusCode},
};

use crate::{
    error::{HandshakeError, SessionError, h3},
    session::{CLOSE_WITHIN, Parts, Peer, Session, WAITING},
    wire::{Bi, Uni, respond},
};

/// A client's request for a session, which waits for an answer. Dropping it refuses the session with
/// status 500.
#[derive(Debug)]
pub struct Request(Option<Box<Inner>>);

struct Inner {
    connection: Connection,
    connect: ConnectRequest,
    send: sendstream::SendStream,
    recv: sendstream::RecvStream,
    control: sendstream::SendStream,
    peer: Peer,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("connect", &self.connect).finish_non_exhaustive()
    }
}

/// Speaks HTTP/3 on a connection with the protocol [`ALPN`](crate::ALPN) until the client asks for a
/// session.
///
/// A client that asks for none waits here until it goes away, or its connection's idle timeout strikes:
/// give up earlier by dropping the future, which closes the connection unless you have another handle of
/// it. Handshakes do not wait for each other if each has a task.
///
/// # Errors
///
/// [`HandshakeError::Unsupported`] if the client speaks HTTP/3 and no WebTransport,
/// [`HandshakeError::Session`] if the connection ended or the client broke a rule.
pub async fn accept(connection: Connection) -> Result<Request, HandshakeError> {
    let result = read_request(&connection).await;
    if let Err(HandshakeError::Session(SessionError::Protocol { code, what })) = &result {
        let _ = connection.close(*code, what);
    }
    let (connect, send, recv, control, peer) = result?;
    Ok(Request(Some(Box::new(Inner { connection, connect, send, recv, control, peer }))))
}

type Read = (ConnectRequest, sendstream::SendStream, sendstream::RecvStream, sendstream::SendStream, Peer);

async fn read_request(connection: &Connection) -> Result<Read, HandshakeError> {
    let control = send_settings(connection).await?;
    let mut peer = Peer::new(connection);
    let mut request = None;
    while peer.control.is_none() || request.is_none() {
        tokio::select! {
            uni = peer.unis.uni() => peer.take_uni(uni?)?,
            bi = peer.bis.bi() => match bi? {
                Bi::Request(connect, send, recv) if request.is_none() => request = Some((connect, send, recv)),
                bi => peer.take_bi(bi),
            },
        }
    }
    let (connect, send, recv) = request.expect("the loop waits for it");
    Ok((connect, send, recv, control, peer))
}

/// Opens this side's control stream.
pub(crate) async fn send_settings(connection: &Connection) -> Result<sendstream::SendStream, SessionError> {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    let mut bytes = Vec::new();
    settings.encode(&mut bytes);
    let mut control = connection.open_uni()?;
    control.write_chunk(bytes.into()).await.map_err(|error| SessionError::from(crate::SendError::from(error)))?;
    Ok(control)
}

impl Peer {
    /// A unidirectional stream before the session begins.
    pub(crate) fn take_uni(&mut self, uni: Uni) -> Result<(), HandshakeError> {
        match uni {
            Uni::Control(settings, stream) => {
                if settings.supports_webtransport() == 0 {
                    return Err(HandshakeError::Unsupported);
                }
                self.control = Some(stream);
            }
            // A third is one too many of a kind, which is told when the session has begun.
            Uni::Qpack(kind, stream) if self.qpack.len() < 3 => self.qpack.push((kind, stream)),
            Uni::Session(id, stream) if self.early_unis.len() < WAITING => self.early_unis.push((id, stream)),
            Uni::Session(_, mut stream) | Uni::Qpack(_, mut stream) => {
                let _ = stream.stop(h3::BUFFERED_STREAM_REJECTED);
            }
        }
        Ok(())
    }

    /// A bidirectional stream before the session begins, which is no request or one too many.
    pub(crate) fn take_bi(&mut self, bi: Bi) {
        match bi {
            Bi::Session(id, send, recv) if self.early_bis.len() < WAITING => self.early_bis.push((id, send, recv)),
            Bi::Session(_, mut send, mut recv) => {
                let _ = (send.abort(h3::BUFFERED_STREAM_REJECTED), recv.stop(h3::BUFFERED_STREAM_REJECTED));
            }
            Bi::Request(_, mut send, mut recv) => {
                let _ = (send.abort(h3::REQUEST_REJECTED), recv.stop(h3::REQUEST_REJECTED));
            }
        }
    }
}

impl Request {
    fn inner(&self) -> &Inner {
        self.0.as_ref().expect("it is taken by what consumes the request")
    }

    /// What the client asks for: `https`, the server's name and port as the client knows them, a path
    /// and a query.
    pub fn url(&self) -> &url::Url {
        &self.inner().connect.url
    }

    /// The request's other fields. Of a page, `origin` says whose it is: look at it where not every page
    /// may have a session, since WebTransport knows no same-origin rule.
    pub fn headers(&self) -> &HeaderMap {
        &self.inner().connect.headers
    }

    /// The subprotocols that the client offers, the preferred first.
    pub fn protocols(&self) -> &[String] {
        &self.inner().connect.protocols
    }

    /// The connection that the request came on.
    pub fn connection(&self) -> &Connection {
        &self.inner().connection
    }

    /// Begins the session, without a subprotocol. On a tokio runtime, where it has a task.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Session`] if the connection ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the answer is sent gives the session up; the client's request is reset.
    pub async fn ok(self) -> Result<Session, HandshakeError> {
        self.begin(ConnectResponse::OK).await
    }

    /// Begins the session with one of the [subprotocols](Self::protocols).
    ///
    /// # Errors
    ///
    /// [`HandshakeError::WrongProtocol`] if the client does not offer `protocol`: then the client gets
    /// status 500. [`HandshakeError::Session`] if the connection ended.
    pub async fn ok_with_protocol(self, protocol: &str) -> Result<Session, HandshakeError> {
        if !self.protocols().iter().any(|offered| offered == protocol) {
            return Err(HandshakeError::WrongProtocol);
        }
        self.begin(ConnectResponse::OK.with_protocol(protocol)).await
    }

    async fn begin(mut self, response: ConnectResponse) -> Result<Session, HandshakeError> {
        let mut bytes = Vec::new();
        response.encode(&mut bytes).map_err(HandshakeError::Invalid)?;
        let inner = *self.0.take().expect("nothing has consumed the request");
        let Inner { connection, mut send, recv, control, peer, .. } = inner;
        send.write_chunk(bytes.into()).await.map_err(|error| SessionError::from(crate::SendError::from(error)))?;
        Ok(Session::start(Parts { connection, protocol: response.protocol, send, recv, control, peer }))
    }

    /// Refuses the session with an error's status, and resolves when the client has the answer. The
    /// connection is then the client's to close, for five seconds.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Session`] if the connection ended before the client had the answer, or the client
    /// did not take it within five seconds: then it is given up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future once it was polled only ends the wait, unless the answer had to wait itself.
    pub async fn reject(mut self, status: StatusCode) -> Result<(), HandshakeError> {
        let mut inner = self.0.take().expect("nothing has consumed the request");
        let taken = async {
            respond(&mut inner.send, status.into()).await;
            inner.send.finished().await
        };
        let Ok(finished) = timeout(CLOSE_WITHIN, taken).await else {
            let _ = inner.send.abort(h3::REQUEST_CANCELLED);
            return Err(SessionError::Other("the client did not take the answer".to_owned()).into());
        };
        tokio::spawn(leave_the_end_to_the_client(inner));
        Ok(finished.map_err(|error| SessionError::from(crate::SendError::from(error)))?)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let Some(inner) = self.0.take() else { return };
        let mut inner = inner;
        let mut bytes = Vec::new();
        if ConnectResponse::new(StatusCode::INTERNAL_SERVER_ERROR).encode(&mut bytes).is_err() {
            return;
        }
        // It is delivered without the request: a finished stream keeps the connection up.
        drop(inner.send.finish_with(bytes));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            match timeout(CLOSE_WITHIN, inner.send.finished()).await {
                Ok(_) => leave_the_end_to_the_client(inner).await,
                Err(_) => drop(inner.send.abort(h3::REQUEST_CANCELLED)),
            }
        });
    }
}

/// The client's transport has the answer. A close of this side could overtake it on its way to the
/// client's application.
async fn leave_the_end_to_the_client(inner: Box<Inner>) {
    let _ = timeout(CLOSE_WITHIN, inner.connection.closed()).await;
}
