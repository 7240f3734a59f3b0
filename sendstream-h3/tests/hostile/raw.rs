//! quinn as a peer that writes what it likes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use crate::wire::{self, Response};

/// No wait lasts that long unless something hangs.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// `future`, which must not hang.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.unwrap_or_else(|_| panic!("it hangs: {what}"))
}

/// A client of the server with this certificate.
pub(crate) fn client(certificate: CertificateDer<'static>, transport: quinn::TransportConfig) -> quinn::Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport));
    let mut endpoint = quinn::Endpoint::client(any_port()).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

/// A server, and its certificate.
pub(crate) fn server() -> (quinn::Endpoint, CertificateDer<'static>) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into()))
        .unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    (quinn::Endpoint::server(config, any_port()).unwrap(), own.cert.der().clone())
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// What one side sends, in this order.
#[derive(Debug, Clone)]
pub(crate) enum Sent {
    /// A new stream of the peer's control type, with these bytes after the type. It takes the place of
    /// the one with empty SETTINGS that is otherwise sent first.
    ControlOf(Vec<u8>),
    /// More on the first control stream.
    Control(Vec<u8>),
    EndOfControl,
    ResetOfControl,
    /// A new unidirectional stream, from its type on.
    Uni(Vec<u8>),
    EndOfUni,
    ResetOfUni,
    /// More on the message's stream: the request's, or the response's.
    Message(Vec<u8>),
    EndOfMessage,
    ResetOfMessage,
    /// A new stream for requests, of a server's as well.
    Bi(Vec<u8>),
    /// Waits for the first bytes of the answer, when the peer has what was sent before.
    Answered,
    /// Waits for the response to an honest request, likewise.
    RoundTrip,
}

/// The streams that a side has opened.
#[derive(Default)]
pub(crate) struct Streams {
    pub(crate) control: Option<quinn::SendStream>,
    pub(crate) uni: Option<quinn::SendStream>,
    pub(crate) message: Option<quinn::SendStream>,
    pub(crate) answer: Option<quinn::RecvStream>,
    /// So that they stay open.
    pub(crate) others: Vec<quinn::SendStream>,
}

impl Streams {
    /// Sends all of it. The peer may close the connection at any time, so errors are none.
    pub(crate) async fn send(&mut self, connection: &quinn::Connection, sent: &[Sent]) {
        if !matches!(sent.first(), Some(Sent::ControlOf(_))) {
            self.one(connection, &Sent::ControlOf(wire::settings(&[]))).await;
        }
        for sent in sent {
            if self.one(connection, sent).await.is_none() {
                return;
            }
        }
    }

    async fn one(&mut self, connection: &quinn::Connection, sent: &Sent) -> Option<()> {
        match sent {
            Sent::ControlOf(bytes) => {
                let mut stream = connection.open_uni().await.ok()?;
                stream.write_all(&[&[wire::CONTROL], &bytes[..]].concat()).await.ok()?;
                self.control = Some(stream);
            }
            Sent::Control(bytes) => self.control.as_mut()?.write_all(bytes).await.ok()?,
            Sent::EndOfControl => self.control.as_mut()?.finish().ok()?,
            Sent::ResetOfControl => self.control.as_mut()?.reset(0x100u32.into()).ok()?,
            Sent::Uni(bytes) => {
                let mut stream = connection.open_uni().await.ok()?;
                stream.write_all(bytes).await.ok()?;
                self.others.extend(self.uni.replace(stream));
            }
            Sent::EndOfUni => self.uni.as_mut()?.finish().ok()?,
            Sent::ResetOfUni => self.uni.as_mut()?.reset(0x100u32.into()).ok()?,
            Sent::Message(bytes) => {
                if self.message.is_none() {
                    let (send, recv) = connection.open_bi().await.ok()?;
                    (self.message, self.answer) = (Some(send), Some(recv));
                }
                self.message.as_mut()?.write_all(bytes).await.ok()?;
            }
            Sent::EndOfMessage => self.message.as_mut()?.finish().ok()?,
            Sent::ResetOfMessage => self.message.as_mut()?.reset(0x10cu32.into()).ok()?,
            Sent::Bi(bytes) => {
                let (mut send, _) = connection.open_bi().await.ok()?;
                send.write_all(bytes).await.ok()?;
                self.others.push(send);
            }
            Sent::Answered => drop(self.answer.as_mut()?.read_chunk(1 << 20, true).await.ok()?),
            Sent::RoundTrip => drop(get(connection, "/").await?),
        }
        Some(())
    }
}

/// An honest request over a connection that is there already, and the response.
pub(crate) async fn get(connection: &quinn::Connection, path: &str) -> Option<Response> {
    let (mut send, mut recv) = connection.open_bi().await.ok()?;
    send.write_all(&wire::get(path)).await.ok()?;
    send.finish().ok()?;
    Response::of(&recv.read_to_end(1 << 20).await.ok()?)
}

/// The code with which the peer closed the connection.
pub(crate) async fn close_code(connection: &quinn::Connection) -> Result<u64, String> {
    match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => Ok(close.error_code.into_inner()),
        other => Err(other.to_string()),
    }
}
