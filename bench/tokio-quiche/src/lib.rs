//! tokio-quiche, with what its users get the most out of it by: the application is driven by the
//! connection's own worker (`ApplicationOverQuic`), owned chunks are sent without a copy, and the
//! client's socket has GSO on as the server's does.

mod app;
mod roles;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use bench_core::{Half, Identity, Listening, Setup, Stack, Suite, Work, limits};
use futures::{StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use tokio::{
    net::UdpSocket,
    runtime::Runtime,
    sync::{Mutex, mpsc},
};
use tokio_quiche::{
    ConnectionParams, QuicConnection, QuicConnectionStream,
    metrics::DefaultMetrics,
    quic::connect_with_config,
    settings::{CertificateKind, Hooks, QuicSettings, TlsCertificatePaths},
    socket::{QuicListener, Socket, SocketCapabilitiesBuilder},
};

use app::{App, Go, Role};

pub struct TokioQuiche {
    runtime: Runtime,
}

pub struct Server {
    incoming: Mutex<QuicConnectionStream<DefaultMetrics>>,
}

pub struct Client {
    server: SocketAddr,
    streams: u16,
}

/// A connection's client side: it begins with its role when [`Go`] is used.
struct Connection {
    go: Go,
    connection: QuicConnection,
}

impl Stack for TokioQuiche {
    const NAME: &'static str = "tokio-quiche";
    /// Its socket.
    const DESCRIPTORS_PER_CONNECTION: u64 = 1;
    type Server = Server;
    type Client = Client;

    fn new(_setup: &Setup) -> Result<Self> {
        Ok(Self { runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build()? })
    }

    fn listen(&self, setup: &Setup, identity: &Identity) -> Result<(Server, SocketAddr)> {
        let _within = self.runtime.enter();
        let (incoming, address) = incoming(setup, identity, limits::ALPN)?;
        Ok((Server { incoming: Mutex::new(incoming) }, address))
    }

    fn client(&self, setup: &Setup, server: &Listening) -> Result<Client> {
        Ok(Client { server: server.address, streams: setup.streams })
    }

    /// BoringSSL prefers AES-128 where the processor has AES, and cannot be told otherwise.
    fn suite(&self, _client: &Client) -> Option<Suite> {
        Some(Suite::Aes128)
    }

    fn serve(&self, server: &Server, work: &Work, half: &Half) -> Result<()> {
        self.runtime.block_on(async {
            let (tell, mut told) = mpsc::unbounded_channel();
            match work {
                Work::Bulk(plan) => {
                    server.accept(plan.connections, || Box::new(roles::Reader::new(plan, tell.clone()))).await?;
                    let running = half.start()?;
                    wait(&mut told, plan.connections * plan.streams).await?;
                    running.stop()?;
                }
                Work::Messages(plan) => {
                    server.accept(1, || Box::new(roles::MessageReader::new(plan, tell.clone()))).await?;
                    let running = half.start()?;
                    wait(&mut told, 1).await?;
                    running.stop()?;
                }
                Work::PingPong { .. } => {
                    server.accept(1, || Box::new(roles::Echo::default())).await?;
                    half.follow()?;
                }
                Work::Connect { count } => {
                    half.follow()?;
                    server.accept(*count, || Box::new(roles::Idle)).await?;
                }
                Work::Transfer(plan) => {
                    half.follow()?;
                    server.accept(plan.count, || Box::new(roles::Answerer::new(plan))).await?;
                }
                Work::Hold(plan) => {
                    let holder = || Box::new(roles::Holder::new(tell.clone())) as Box<dyn Role>;
                    server.accept(plan.connections as u64, holder).await?;
                    wait(&mut told, (plan.connections * plan.streams) as u64).await?;
                }
            }
            half.meet()
        })
    }

    fn drive(&self, client: &Client, work: &Work, half: &Half) -> Result<Histogram<u64>> {
        self.runtime.block_on(async {
            let mut nanoseconds = bench_core::histogram();
            let (tell, mut told) = mpsc::unbounded_channel();
            // They go on until the process ends.
            let mut held = Vec::new();
            match work {
                Work::Bulk(plan) => {
                    let connections = client.connect(plan.connections, || Box::new(roles::Writer::new(plan))).await?;
                    half.follow()?;
                    held.extend(connections.into_iter().map(Connection::go));
                }
                Work::Messages(plan) => {
                    let connections = client.connect(1, || Box::new(roles::MessageWriter::new(plan))).await?;
                    half.follow()?;
                    held.extend(connections.into_iter().map(Connection::go));
                }
                Work::PingPong { count } => {
                    let connections = client.connect(1, || Box::new(roles::Pinger::new(*count, tell.clone()))).await?;
                    let running = half.start()?;
                    held.extend(connections.into_iter().map(Connection::go));
                    nanoseconds = told.recv().await.context("the pinger is gone")?;
                    running.stop()?;
                }
                Work::Connect { count } => {
                    let running = half.start()?;
                    let mut last = None;
                    for _ in 0..*count {
                        let start = Instant::now();
                        let connection = client.connect_one(Box::new(roles::Close)).await?;
                        nanoseconds.record(start.elapsed().as_nanos() as u64)?;
                        // By now the server has the one before.
                        last.replace(connection).into_iter().for_each(|last| drop(last.go()));
                    }
                    last.into_iter().for_each(|last| drop(last.go()));
                    running.stop()?;
                }
                Work::Transfer(plan) => {
                    let (tell, mut told) = mpsc::unbounded_channel();
                    let running = half.start()?;
                    for _ in 0..plan.count {
                        let connection =
                            client.connect_one(Box::new(roles::Transferrer::new(plan, tell.clone()))).await?;
                        let start = Instant::now();
                        let _connection = connection.go();
                        told.recv().await.context("the connection is gone")?;
                        nanoseconds.record(start.elapsed().as_nanos() as u64)?;
                    }
                    running.stop()?;
                }
                Work::Hold(plan) => {
                    let opener = || Box::new(roles::Opener::new(plan.streams)) as Box<dyn Role>;
                    let connections = client.connect(plan.connections as u64, opener).await?;
                    held.extend(connections.into_iter().map(Connection::go));
                }
            }
            std::mem::forget(held);
            half.meet()?;
            Ok(nanoseconds)
        })
    }
}

/// The connections of a server of this protocol, and where it listens; within tokio.
pub fn incoming(
    setup: &Setup,
    identity: &Identity,
    alpn: &[u8],
) -> Result<(QuicConnectionStream<DefaultMetrics>, SocketAddr)> {
    let (certificate, key) = (identity.certificate_file(), identity.key_file());
    let certificate = TlsCertificatePaths {
        cert: certificate.to_str().context("a path that is no text")?,
        private_key: key.to_str().context("a path that is no text")?,
        kind: CertificateKind::X509,
    };
    let socket = socket()?;
    let address = socket.local_addr()?;
    check_gso(&socket)?;
    let mut listener = QuicListener::try_from(socket)?;
    listener.apply_max_capabilities();
    let mut settings = settings(setup.streams);
    settings.alpn = vec![alpn.to_vec()];
    let params = ConnectionParams::new_server(settings, certificate, Hooks::default());
    let mut listeners = tokio_quiche::listen_with_capabilities([listener], params, DefaultMetrics)?;
    Ok((listeners.pop().context("no listener")?, address))
}

impl Connection {
    /// Has it begin.
    fn go(self) -> QuicConnection {
        self.go.now();
        self.connection
    }
}

impl Server {
    /// Takes so many connections, and returns when each has ended its handshake.
    async fn accept(&self, count: u64, role: impl Fn() -> Box<dyn Role>) -> Result<()> {
        let (connected, mut wait_for) = mpsc::unbounded_channel();
        let mut incoming = self.incoming.lock().await;
        for _ in 0..count {
            let connection = incoming.next().await.context("the listener is gone")??;
            connection.start(App::server(role(), connected.clone()));
        }
        wait(&mut wait_for, count).await
    }
}

impl Client {
    /// Makes so many connections, 16 at a time.
    async fn connect(&self, count: u64, role: impl Fn() -> Box<dyn Role>) -> Result<Vec<Connection>> {
        futures::stream::iter(0..count).map(|_| self.connect_one(role())).buffer_unordered(16).try_collect().await
    }

    async fn connect_one(&self, role: Box<dyn Role>) -> Result<Connection> {
        let socket = socket()?;
        socket.connect(self.server).await?;
        check_gso(&socket)?;
        let mut socket = Socket::<std::sync::Arc<UdpSocket>, std::sync::Arc<UdpSocket>>::try_from(socket)?;
        // Off unless asked for.
        socket.apply_max_capabilities();
        let (app, go) = App::client(role);
        let params = ConnectionParams::new_client(settings(self.streams), None, Hooks::default());
        let connection =
            connect_with_config(socket, Some(limits::HOST), &params, app).await.map_err(|error| anyhow!("{error}"))?;
        Ok(Connection { go, connection })
    }
}

/// Waits for so many messages.
async fn wait(told: &mut mpsc::UnboundedReceiver<()>, count: u64) -> Result<()> {
    for _ in 0..count {
        told.recv().await.context("a connection is gone")?;
    }
    Ok(())
}

/// Fails where GSO cannot be had, which `apply_max_capabilities` would keep to itself.
fn check_gso(socket: &UdpSocket) -> Result<()> {
    SocketCapabilitiesBuilder::new(socket).gso().context("the system has no GSO")
}

/// On loopback, with the common buffer sizes.
fn socket() -> Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_recv_buffer_size(limits::SOCKET_BUFFER)?;
    socket.set_send_buffer_size(limits::SOCKET_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(UdpSocket::from_std(socket.into())?)
}

fn settings(streams: u16) -> QuicSettings {
    let mut settings = QuicSettings::default();
    settings.alpn = vec![limits::ALPN.to_vec()];
    settings.enable_dgram = false;
    settings.initial_max_data = limits::CONNECTION_WINDOW.into();
    settings.max_connection_window = limits::CONNECTION_WINDOW.into();
    settings.initial_max_stream_data_uni = limits::STREAM_WINDOW.into();
    settings.initial_max_stream_data_bidi_local = limits::STREAM_WINDOW.into();
    settings.initial_max_stream_data_bidi_remote = limits::STREAM_WINDOW.into();
    settings.max_stream_window = limits::STREAM_WINDOW.into();
    settings.initial_max_streams_uni = streams.into();
    settings.initial_max_streams_bidi = streams.into();
    settings.max_idle_timeout = Some(limits::IDLE_TIMEOUT);
    settings.max_send_udp_payload_size = limits::UDP_PAYLOAD.into();
    settings.max_recv_udp_payload_size = limits::UDP_PAYLOAD.into();
    settings.initial_congestion_window_packets = limits::INITIAL_WINDOW_PACKETS as usize;
    // A round trip before the handshake, which the others do not make either.
    settings.disable_client_ip_validation = true;
    settings.verify_peer = false;
    settings
}
