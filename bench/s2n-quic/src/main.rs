//! s2n-quic with its defaults but for the common limits: CUBIC, GSO and GRO, s2n-tls.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};
use bench_core::{Async, Identity, Listening, Setup, Suite, Transport, limits};
use bytes::Bytes;
use s2n_quic::{
    Server,
    client::Connect,
    connection::{Handle, StreamAcceptor},
    provider::{io, limits::Limits, tls},
    stream::{ReceiveStream, SendStream},
};
use tokio::{io::AsyncWriteExt, sync::Mutex};

fn main() -> ! {
    bench_core::run::<Async<S2n>>()
}

struct S2n;

struct Client {
    client: s2n_quic::Client,
    server: SocketAddr,
}

#[derive(Clone)]
struct Connection {
    handle: Handle,
    acceptor: Arc<Mutex<StreamAcceptor>>,
}

impl From<s2n_quic::Connection> for Connection {
    fn from(connection: s2n_quic::Connection) -> Self {
        let (handle, acceptor) = connection.split();
        Self { handle, acceptor: Arc::new(Mutex::new(acceptor)) }
    }
}

impl Transport for S2n {
    const NAME: &'static str = "s2n-quic";
    type Server = Mutex<Server>;
    type Client = Client;
    type Connection = Connection;
    type SendStream = SendStream;
    type RecvStream = ReceiveStream;
    type Chunk = Bytes;

    fn new(_setup: &Setup) -> Result<Self> {
        Ok(Self)
    }

    fn listen(&self, setup: &Setup, identity: &Identity) -> Result<(Self::Server, SocketAddr)> {
        let tls = tls::default::Server::builder()
            .with_certificate(identity.certificate_pem.as_str(), identity.key_pem.as_str())
            .map_err(boxed)?
            .with_application_protocols([limits::ALPN].iter())
            .map_err(boxed)?
            .build()
            .map_err(boxed)?;
        let server = Server::builder().with_tls(tls)?.with_io(io()?)?.with_limits(limits(setup.streams)?)?.start()?;
        let address = server.local_addr()?;
        Ok((Mutex::new(server), address))
    }

    fn client(&self, setup: &Setup, server: &Listening) -> Result<Client> {
        let tls = tls::default::Client::builder()
            .with_certificate(server.certificate_pem.as_str())
            .map_err(boxed)?
            .with_application_protocols([limits::ALPN].iter())
            .map_err(boxed)?
            .build()
            .map_err(boxed)?;
        let client =
            s2n_quic::Client::builder().with_tls(tls)?.with_io(io()?)?.with_limits(limits(setup.streams)?)?.start()?;
        Ok(Client { client, server: server.address })
    }

    async fn connect(client: &Client) -> Result<Connection> {
        let connect = Connect::new(client.server).with_server_name(limits::HOST);
        Ok(client.client.connect(connect).await?.into())
    }

    async fn accept(server: &Self::Server) -> Result<Connection> {
        Ok(server.lock().await.accept().await.context("the server is closed")?.into())
    }

    fn close(connection: Connection) {
        connection.handle.close(0u32.into());
    }

    /// The policy of s2n-tls prefers AES-128, and both sides here have it.
    fn suite(_client: &Client) -> Option<Suite> {
        Some(Suite::Aes128)
    }

    async fn open_uni(connection: &Connection) -> Result<SendStream> {
        Ok(connection.handle.clone().open_send_stream().await?)
    }

    async fn accept_uni(connection: &Connection) -> Result<ReceiveStream> {
        connection.acceptor.lock().await.accept_receive_stream().await?.context("the connection is closed")
    }

    async fn open_bi(connection: &Connection) -> Result<(SendStream, ReceiveStream)> {
        let (recv, send) = connection.handle.clone().open_bidirectional_stream().await?.split();
        Ok((send, recv))
    }

    async fn accept_bi(connection: &Connection) -> Result<(SendStream, ReceiveStream)> {
        let stream = connection.acceptor.lock().await.accept_bidirectional_stream().await?;
        let (recv, send) = stream.context("the connection is closed")?.split();
        Ok((send, recv))
    }

    async fn write(stream: &mut SendStream, chunk: Bytes) -> Result<()> {
        Ok(stream.send(chunk).await?)
    }

    async fn write_borrowed(stream: &mut SendStream, data: &[u8]) -> Result<()> {
        Ok(AsyncWriteExt::write_all(stream, data).await?)
    }

    async fn finish(stream: &mut SendStream) -> Result<()> {
        // It finishes, and resolves with the acknowledgement.
        Ok(stream.close().await?)
    }

    async fn read(stream: &mut ReceiveStream) -> Result<Option<Bytes>> {
        Ok(stream.receive().await?)
    }
}

fn io() -> Result<io::Default> {
    Ok(io::Default::builder()
        .with_receive_address((Ipv4Addr::LOCALHOST, 0).into())?
        .with_max_mtu(limits::MTU)?
        .with_send_buffer_size(limits::SOCKET_BUFFER)?
        .with_recv_buffer_size(limits::SOCKET_BUFFER)?
        .build()?)
}

fn limits(streams: u16) -> Result<Limits> {
    let streams = u64::from(streams);
    Ok(Limits::new()
        .with_data_window(limits::CONNECTION_WINDOW.into())?
        .with_bidirectional_local_data_window(limits::STREAM_WINDOW.into())?
        .with_bidirectional_remote_data_window(limits::STREAM_WINDOW.into())?
        .with_unidirectional_data_window(limits::STREAM_WINDOW.into())?
        .with_max_open_local_bidirectional_streams(streams)?
        .with_max_open_remote_bidirectional_streams(streams)?
        .with_max_open_local_unidirectional_streams(streams)?
        .with_max_open_remote_unidirectional_streams(streams)?
        .with_max_idle_timeout(limits::IDLE_TIMEOUT)?)
}

fn boxed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
