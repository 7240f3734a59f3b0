//! quinn with its defaults but for the common limits: CUBIC, GSO and GRO, rustls on ring.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};
use bench_core::{Async, Identity, Listening, Setup, Suite, Transport, limits};
use bytes::Bytes;
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
    congestion::CubicConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    version::TLS13,
};
use tokio::io::AsyncWriteExt;

/// quinn, as the bench's programs run it.
pub type OnTokio = Async<Quinn>;

pub struct Quinn {
    provider: Arc<CryptoProvider>,
    transport: Arc<TransportConfig>,
}

pub struct Client {
    endpoint: Endpoint,
    server: SocketAddr,
    suite: Suite,
}

impl Quinn {
    /// A server of this protocol.
    pub fn server(&self, identity: &Identity, alpn: &[u8]) -> Result<Endpoint> {
        let certificate = CertificateDer::from(identity.certificate_der.clone());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key_der.clone()));
        let mut tls = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        tls.alpn_protocols = vec![alpn.to_vec()];
        let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        server.transport_config(self.transport.clone());
        Ok(Endpoint::new(EndpointConfig::default(), Some(server), socket()?, Arc::new(TokioRuntime))?)
    }

    /// A client of servers of this protocol.
    pub fn client_of(&self, alpn: &[u8]) -> Result<Endpoint> {
        let mut tls = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(self.provider.clone())))
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        client.transport_config(self.transport.clone());
        let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket()?, Arc::new(TokioRuntime))?;
        endpoint.set_default_client_config(client);
        Ok(endpoint)
    }
}

impl Transport for Quinn {
    const NAME: &'static str = "quinn";
    type Server = Endpoint;
    type Client = Client;
    type Connection = quinn::Connection;
    type SendStream = quinn::SendStream;
    type RecvStream = quinn::RecvStream;
    type Chunk = Bytes;

    fn new(setup: &Setup) -> Result<Self> {
        let (provider, transport) = (provider(setup.suite), transport(setup.streams)?);
        Ok(Self { provider: Arc::new(provider), transport: Arc::new(transport) })
    }

    fn listen(&self, _setup: &Setup, identity: &Identity) -> Result<(Endpoint, SocketAddr)> {
        let endpoint = self.server(identity, limits::ALPN)?;
        let address = endpoint.local_addr()?;
        Ok((endpoint, address))
    }

    fn client(&self, setup: &Setup, server: &Listening) -> Result<Client> {
        Ok(Client { endpoint: self.client_of(limits::ALPN)?, server: server.address, suite: setup.suite })
    }

    async fn connect(client: &Client) -> Result<Self::Connection> {
        Ok(client.endpoint.connect(client.server, limits::HOST)?.await?)
    }

    async fn accept(server: &Endpoint) -> Result<Self::Connection> {
        Ok(server.accept().await.context("the server is closed")?.await?)
    }

    fn close(connection: Self::Connection) {
        connection.close(VarInt::from_u32(0), b"");
    }

    fn suite(client: &Client) -> Option<Suite> {
        Some(client.suite)
    }

    async fn open_uni(connection: &Self::Connection) -> Result<Self::SendStream> {
        Ok(connection.open_uni().await?)
    }

    async fn accept_uni(connection: &Self::Connection) -> Result<Self::RecvStream> {
        Ok(connection.accept_uni().await?)
    }

    async fn open_bi(connection: &Self::Connection) -> Result<(Self::SendStream, Self::RecvStream)> {
        Ok(connection.open_bi().await?)
    }

    async fn accept_bi(connection: &Self::Connection) -> Result<(Self::SendStream, Self::RecvStream)> {
        Ok(connection.accept_bi().await?)
    }

    async fn write(stream: &mut Self::SendStream, chunk: Bytes) -> Result<()> {
        Ok(stream.write_chunk(chunk).await?)
    }

    async fn write_borrowed(stream: &mut Self::SendStream, data: &[u8]) -> Result<()> {
        Ok(AsyncWriteExt::write_all(stream, data).await?)
    }

    async fn finish(stream: &mut Self::SendStream) -> Result<()> {
        stream.finish()?;
        // quinn's name for the acknowledgement of everything.
        stream.stopped().await?;
        Ok(())
    }

    async fn read(stream: &mut Self::RecvStream) -> Result<Option<Bytes>> {
        Ok(stream.read_chunk(usize::MAX, true).await?.map(|chunk| chunk.bytes))
    }
}

fn transport(streams: u16) -> Result<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(limits::UDP_PAYLOAD);
    let mut cubic = CubicConfig::default();
    cubic.initial_window(u64::from(limits::INITIAL_WINDOW_PACKETS) * u64::from(limits::UDP_PAYLOAD));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(u32::from(streams).into())
        .max_concurrent_bidi_streams(u32::from(streams).into())
        .stream_receive_window(limits::STREAM_WINDOW.into())
        .receive_window(limits::CONNECTION_WINDOW.into())
        .max_idle_timeout(Some(IdleTimeout::try_from(limits::IDLE_TIMEOUT)?))
        .congestion_controller_factory(Arc::new(cubic))
        .mtu_discovery_config(Some(mtu));
    Ok(transport)
}

/// On loopback, with the common buffer sizes.
fn socket() -> Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_recv_buffer_size(limits::SOCKET_BUFFER)?;
    socket.set_send_buffer_size(limits::SOCKET_BUFFER)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(socket.into())
}

/// The suite that was asked for, and AES-128, which QUIC needs for its first packets (RFC 9001
/// §5.2).
fn provider(suite: Suite) -> CryptoProvider {
    use ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
    let cipher_suites = match suite {
        Suite::Aes128 => vec![TLS13_AES_128_GCM_SHA256],
        Suite::Aes256 => vec![TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256],
    };
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

/// Believes every certificate, after checking the handshake's signature with its key, as MsQuic
/// does without validation.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has no TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
