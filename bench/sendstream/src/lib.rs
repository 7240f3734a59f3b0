//! Sendstream as its users would have it: on a multi-threaded tokio, also with MsQuic's own threads
//! beside it, or with each task on its connection's own MsQuic worker.

use std::{marker::PhantomData, net::SocketAddr, sync::OnceLock};

use anyhow::{Context, Result};
use bench_core::{Async, Listening, Setup, Suite, Transport, limits};
use bytes::Bytes;
use sendstream::{
    CipherSuite, Client, Connection, Identity, RecvChunk, RecvStream, SendStream, ServedBy, Server, TransportConfig,
    Trust,
};
use tokio::io::AsyncWriteExt;

/// On tokio.
pub type OnTokio = Async<Sendstream<Tokio>>;

/// On tokio, and MsQuic on threads of its own.
pub type BesideThreads = Async<Sendstream<Threads>>;

/// On the connections' own workers.
pub type OnWorkers = Async<Sendstream<Local>>;

/// Where tasks run, and where MsQuic does.
pub trait Mode: Send + Sync + 'static {
    const NAME: &'static str;
    const SERVED_BY: ServedBy;

    fn spawn(_connection: &Connection, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(work);
    }
}

pub struct Tokio;

impl Mode for Tokio {
    const NAME: &'static str = "sendstream";
    const SERVED_BY: ServedBy = ServedBy::Runtime;
}

pub struct Threads;

impl Mode for Threads {
    const NAME: &'static str = "sendstream-threads";
    const SERVED_BY: ServedBy = ServedBy::OwnThreads;
}

pub struct Local;

impl Mode for Local {
    const NAME: &'static str = "sendstream-local";
    const SERVED_BY: ServedBy = ServedBy::OwnThreads;

    fn spawn(connection: &Connection, work: impl Future<Output = ()> + Send + 'static) {
        // Dropping its handle lets the task go on.
        drop(connection.spawn_on_worker(work));
    }
}

pub struct Sendstream<M> {
    mode: PhantomData<M>,
}

pub struct BenchClient {
    client: Client,
    server: SocketAddr,
    suite: OnceLock<CipherSuite>,
}

impl<M: Mode> Sendstream<M> {
    /// A server of this protocol.
    pub fn server(&self, setup: &Setup, identity: &bench_core::Identity, alpn: &[u8]) -> Result<Server> {
        Ok(Server::builder()
            .identity(Identity::from_pem(&identity.certificate_pem, &identity.key_pem)?)
            .served_by(M::SERVED_BY)
            .alpn([alpn])
            .transport(transport(setup.streams))
            .cipher_suites([cipher_suite(setup.suite)])
            .bind("127.0.0.1:0".parse()?)?)
    }

    /// A client of servers of this protocol.
    pub fn client_of(&self, setup: &Setup, alpn: &[u8]) -> Result<Client> {
        Ok(Client::builder()
            .served_by(M::SERVED_BY)
            .alpn([alpn])
            .trust(Trust::dangerous_accept_any_certificate())
            .transport(transport(setup.streams))
            .cipher_suites([cipher_suite(setup.suite)])
            .build()?)
    }
}

impl<M: Mode> Transport for Sendstream<M> {
    const NAME: &'static str = M::NAME;
    type Server = Server;
    type Client = BenchClient;
    type Connection = Connection;
    type SendStream = SendStream;
    type RecvStream = RecvStream;
    type Chunk = Chunk;

    fn new(_setup: &Setup) -> Result<Self> {
        Ok(Self { mode: PhantomData })
    }

    fn listen(&self, setup: &Setup, identity: &bench_core::Identity) -> Result<(Server, SocketAddr)> {
        let server = self.server(setup, identity, limits::ALPN)?;
        let address = server.local_addr()?;
        Ok((server, address))
    }

    fn client(&self, setup: &Setup, server: &Listening) -> Result<BenchClient> {
        let client = self.client_of(setup, limits::ALPN)?;
        Ok(BenchClient { client, server: server.address, suite: OnceLock::new() })
    }

    async fn connect(client: &BenchClient) -> Result<Connection> {
        let connection = client.client.connect(client.server, limits::HOST).await?;
        if let (None, Some(handshake)) = (client.suite.get(), connection.handshake_info()) {
            let _ = client.suite.set(handshake.cipher_suite);
        }
        Ok(connection)
    }

    async fn accept(server: &Server) -> Result<Connection> {
        Ok(server.accept().await.context("the server was shut down")?.accept().await?)
    }

    fn close(connection: Connection) {
        let _ = connection.close(0, "");
    }

    fn suite(client: &BenchClient) -> Option<Suite> {
        match client.suite.get()? {
            CipherSuite::Aes128GcmSha256 => Some(Suite::Aes128),
            CipherSuite::Aes256GcmSha384 => Some(Suite::Aes256),
            _ => None,
        }
    }

    fn spawn(connection: &Connection, work: impl Future<Output = ()> + Send + 'static) {
        M::spawn(connection, work);
    }

    async fn open_uni(connection: &Connection) -> Result<SendStream> {
        Ok(connection.open_uni()?)
    }

    async fn accept_uni(connection: &Connection) -> Result<RecvStream> {
        Ok(connection.accept_uni().await?)
    }

    async fn open_bi(connection: &Connection) -> Result<(SendStream, RecvStream)> {
        Ok(connection.open_bi()?)
    }

    async fn accept_bi(connection: &Connection) -> Result<(SendStream, RecvStream)> {
        Ok(connection.accept_bi().await?)
    }

    async fn write(stream: &mut SendStream, chunk: Bytes) -> Result<()> {
        Ok(stream.write_chunk(chunk).await?)
    }

    async fn write_borrowed(stream: &mut SendStream, data: &[u8]) -> Result<()> {
        Ok(AsyncWriteExt::write_all(stream, data).await?)
    }

    async fn finish(stream: &mut SendStream) -> Result<()> {
        Ok(stream.finished().await?)
    }

    async fn write_and_finish(stream: &mut SendStream, chunk: Bytes) -> Result<()> {
        Ok(stream.finish_with(chunk).await?)
    }

    async fn send(stream: &mut SendStream, chunk: Bytes) -> Result<()> {
        // The bytes are on their way; `finished` tells that they and the end have arrived.
        drop(stream.send(chunk));
        Ok(stream.finished().await?)
    }

    async fn read(stream: &mut RecvStream) -> Result<Option<Chunk>> {
        Ok(stream.read_chunk().await?.map(Chunk))
    }
}

/// MsQuic's own memory, given back when dropped.
pub struct Chunk(RecvChunk);

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn cipher_suite(suite: Suite) -> CipherSuite {
    match suite {
        Suite::Aes128 => CipherSuite::Aes128GcmSha256,
        Suite::Aes256 => CipherSuite::Aes256GcmSha384,
    }
}

fn transport(streams: u16) -> TransportConfig {
    TransportConfig::default()
        .idle_timeout(limits::IDLE_TIMEOUT)
        .max_concurrent_uni_streams(streams)
        .max_concurrent_bidi_streams(streams)
        .stream_receive_window(limits::STREAM_WINDOW)
        .connection_flow_control_window(limits::CONNECTION_WINDOW)
        .initial_window_packets(limits::INITIAL_WINDOW_PACKETS)
        .max_mtu(limits::MTU)
        .datagram_receive_buffer(None)
}
