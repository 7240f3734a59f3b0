//! [`connect`]: the client's half of the handshake.

use sendstream::Connection;
use web_transport_proto::{ConnectError, ConnectRequest, ConnectResponse};

use crate::{
    error::{HandshakeError, SendError, SessionError, Violation},
    server::send_settings,
    session::{Parts, Peer, Session},
    wire::{has_user, headers},
};

/// Asks the server for a session, on a connection with the protocol [`ALPN`](crate::ALPN) that nothing
/// else uses. On a tokio runtime, where the session has a task.
///
/// # Errors
///
/// [`HandshakeError`]. After each the connection is of no further use.
///
/// # Cancel safety
///
/// Dropping the future gives the session up, and the connection with it, unless you have another handle
/// of it.
pub async fn connect(connection: Connection, request: ConnectRequest) -> Result<Session, HandshakeError> {
    let result = ask(&connection, request).await;
    if let Err(HandshakeError::Session(SessionError::Protocol { code, what })) = &result {
        let _ = connection.close(*code, what);
    }
    result.map(Session::start)
}

async fn ask(connection: &Connection, request: ConnectRequest) -> Result<Parts, HandshakeError> {
    if has_user(&request.url) {
        return Err(HandshakeError::Invalid(ConnectError::WrongAuthority));
    }
    let mut bytes = Vec::new();
    request.encode(&mut bytes).map_err(HandshakeError::Invalid)?;
    let control = send_settings(connection).await?;
    let mut peer = Peer::new(connection);
    // A request before the server's SETTINGS might ask for what it does not know.
    while peer.control.is_none() {
        tokio::select! {
            uni = peer.unis.uni() => peer.take_uni(uni?)?,
            bi = peer.bis.bi() => peer.take_bi(bi?),
        }
    }
    let (mut send, mut recv) = connection.open_bi().map_err(SessionError::from)?;
    send.write_chunk(bytes.into()).await.map_err(|error| SessionError::from(SendError::from(error)))?;
    let response = {
        let mut reading = std::pin::pin!(read_answer(&mut recv));
        loop {
            tokio::select! {
                response = &mut reading => break response,
                uni = peer.unis.uni() => peer.take_uni(uni?)?,
                bi = peer.bis.bi() => peer.take_bi(bi?),
            }
        }
    };
    let protocol = match response {
        Ok(response) => response.protocol,
        Err(ConnectError::WrongStatus(Some(status)) | ConnectError::ErrorStatus(status)) => {
            return Err(HandshakeError::Refused(status));
        }
        Err(error) => return Err(why_no_answer(connection, recv, &error).await),
    };
    if protocol.as_ref().is_some_and(|chosen| !request.protocols.contains(chosen)) {
        return Err(HandshakeError::WrongProtocol);
    }
    Ok(Parts { connection: connection.clone(), protocol, send, recv, control, peer })
}

async fn read_answer(recv: &mut sendstream::RecvStream) -> Result<ConnectResponse, ConnectError> {
    ConnectResponse::read(&mut headers(recv).await?).await
}

/// What became of an answer that could not be read.
async fn why_no_answer(connection: &Connection, recv: sendstream::RecvStream, error: &ConnectError) -> HandshakeError {
    if matches!(error, ConnectError::UnexpectedEnd | ConnectError::Io(_)) {
        if let Ok(Some(code)) = recv.received_reset().await {
            return SessionError::Reset { code }.into();
        }
        if let Some(error) = connection.close_reason() {
            return error.into();
        }
    }
    let violation = Violation::of_headers(error).unwrap_or_else(|violation| violation);
    SessionError::from(violation).into()
}
