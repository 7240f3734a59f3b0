//! msquic-async with its own build of MsQuic.
//!
//! It leaves MsQuic's send buffering on and has no backpressure: `write_chunk` never waits.

use std::{
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Result, ensure};
use bench_core::{Async, Identity, Listening, Setup, Suite, Transport, limits};
use bytes::{Buf, Bytes};
use msquic_async::{
    Connection, Listener, ReadStream, StreamRecvBuffer, StreamType, WriteStream,
    msquic::{
        AllowedCipherSuiteFlags, BufferRef, CertificateFile, Configuration, Credential, CredentialConfig,
        CredentialFlags, Registration, RegistrationConfig, Settings,
    },
};
use tokio::io::AsyncWriteExt;

/// msquic-async, as the bench's programs run it.
pub type OnTokio = Async<MsquicAsync>;

pub struct MsquicAsync {
    registration: Arc<Registration>,
    suites: AllowedCipherSuiteFlags,
}

pub struct Client {
    registration: Arc<Registration>,
    configuration: Configuration,
    server: SocketAddr,
    suite: Suite,
}

impl MsquicAsync {
    /// A server of this protocol.
    pub fn server(&self, setup: &Setup, identity: &Identity, alpn: &[u8]) -> Result<Listener> {
        let alpn = [BufferRef::from(alpn)];
        let configuration = Configuration::open(&self.registration, &alpn, Some(&settings(setup.streams)))?;
        let file = CertificateFile::new(
            identity.key_file().to_string_lossy().into_owned(),
            identity.certificate_file().to_string_lossy().into_owned(),
        );
        configuration.load_credential(
            &CredentialConfig::new()
                .set_credential_flags(CredentialFlags::SET_ALLOWED_CIPHER_SUITES)
                .set_credential(Credential::CertificateFile(file))
                .set_allowed_cipher_suites(self.suites),
        )?;
        let listener = Listener::new(&self.registration, configuration)?;
        listener.start(&alpn, Some((Ipv4Addr::LOCALHOST, 0).into()))?;
        Ok(listener)
    }
}

impl Transport for MsquicAsync {
    const NAME: &'static str = "msquic-async";
    /// A client's socket, and three events of its.
    const DESCRIPTORS_PER_CONNECTION: u64 = 4;
    type Server = Listener;
    type Client = Client;
    type Connection = Connection;
    type SendStream = WriteStream;
    type RecvStream = ReadStream;
    type Chunk = Chunk;

    fn new(setup: &Setup) -> Result<Self> {
        let suites = match setup.suite {
            Suite::Aes128 => AllowedCipherSuiteFlags::AES_128_GCM_SHA256,
            Suite::Aes256 => AllowedCipherSuiteFlags::AES_256_GCM_SHA384,
        };
        Ok(Self { registration: Arc::new(Registration::new(&RegistrationConfig::default())?), suites })
    }

    fn listen(&self, setup: &Setup, identity: &Identity) -> Result<(Listener, SocketAddr)> {
        let listener = self.server(setup, identity, limits::ALPN)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    fn client(&self, setup: &Setup, server: &Listening) -> Result<Client> {
        let configuration = Configuration::open(&self.registration, &alpn(), Some(&settings(setup.streams)))?;
        configuration.load_credential(
            &CredentialConfig::new_client()
                .set_credential_flags(
                    CredentialFlags::CLIENT
                        | CredentialFlags::NO_CERTIFICATE_VALIDATION
                        | CredentialFlags::SET_ALLOWED_CIPHER_SUITES,
                )
                .set_allowed_cipher_suites(self.suites),
        )?;
        let registration = self.registration.clone();
        Ok(Client { registration, configuration, server: server.address, suite: setup.suite })
    }

    async fn connect(client: &Client) -> Result<Connection> {
        let connection = Connection::new(&client.registration)?;
        connection.start(&client.configuration, limits::HOST, client.server.port()).await?;
        Ok(connection)
    }

    async fn accept(server: &Listener) -> Result<Connection> {
        Ok(server.accept().await?)
    }

    fn close(connection: Connection) {
        let _ = connection.shutdown(0);
    }

    fn suite(client: &Client) -> Option<Suite> {
        Some(client.suite)
    }

    async fn open_uni(connection: &Connection) -> Result<WriteStream> {
        let stream = connection.open_outbound_stream(StreamType::Unidirectional, false).await?;
        Ok(stream.split().1.expect("it can be written to"))
    }

    async fn accept_uni(connection: &Connection) -> Result<ReadStream> {
        Ok(connection.accept_inbound_uni_stream().await?)
    }

    async fn open_bi(connection: &Connection) -> Result<(WriteStream, ReadStream)> {
        let stream = connection.open_outbound_stream(StreamType::Bidirectional, false).await?;
        let (recv, send) = stream.split();
        Ok((send.expect("it can be written to"), recv.expect("it can be read from")))
    }

    async fn accept_bi(connection: &Connection) -> Result<(WriteStream, ReadStream)> {
        let (recv, send) = connection.accept_inbound_stream().await?.split();
        Ok((send.expect("it can be written to"), recv.expect("it can be read from")))
    }

    async fn write(stream: &mut WriteStream, mut chunk: Bytes) -> Result<()> {
        while !chunk.is_empty() {
            let written = stream.write_chunk(&chunk, false).await?;
            chunk.advance(written);
        }
        Ok(())
    }

    async fn write_borrowed(stream: &mut WriteStream, data: &[u8]) -> Result<()> {
        Ok(AsyncWriteExt::write_all(stream, data).await?)
    }

    async fn finish(stream: &mut WriteStream) -> Result<()> {
        Ok(poll_fn(|cx| stream.poll_finish_write(cx)).await?)
    }

    async fn write_and_finish(stream: &mut WriteStream, chunk: Bytes) -> Result<()> {
        let written = stream.write_chunk(&chunk, true).await?;
        ensure!(written == chunk.len(), "a message was cut");
        Self::finish(stream).await
    }

    async fn read(stream: &mut ReadStream) -> Result<Option<Chunk>> {
        // A buffer may hold several pieces; the next ones are found by `Chunk`'s own cursor.
        Ok(stream.read_chunk().await?.filter(|buffer| !buffer.is_empty()).map(Chunk::new))
    }
}

/// MsQuic's own memory. It is given back when dropped, so several pieces are joined, which takes a
/// copy; one is the rule.
pub struct Chunk {
    buffer: StreamRecvBuffer,
    joined: Option<Vec<u8>>,
}

impl Chunk {
    fn new(mut buffer: StreamRecvBuffer) -> Self {
        let joined = (buffer.chunk().len() < buffer.remaining()).then(|| {
            let mut joined = vec![0; buffer.remaining()];
            buffer.copy_to_slice(&mut joined);
            joined
        });
        Self { buffer, joined }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.joined.as_deref().unwrap_or_else(|| self.buffer.chunk())
    }
}

fn alpn() -> [BufferRef; 1] {
    [BufferRef::from(limits::ALPN)]
}

fn settings(streams: u16) -> Settings {
    Settings::new()
        .set_IdleTimeoutMs(limits::IDLE_TIMEOUT.as_millis() as u64)
        .set_PeerBidiStreamCount(streams)
        .set_PeerUnidiStreamCount(streams)
        .set_StreamRecvWindowDefault(limits::STREAM_WINDOW)
        .set_ConnFlowControlWindow(limits::CONNECTION_WINDOW)
        .set_InitialWindowPackets(limits::INITIAL_WINDOW_PACKETS)
        .set_MaximumMtu(limits::MTU)
        .set_StreamMultiReceiveEnabled()
}
