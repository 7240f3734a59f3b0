//! tokio-quiche, with what its users get the most out of it by: the application is driven by the
//! connection's own worker (`ApplicationOverQuic`), owned chunks are sent without a copy, and the
//! client's socket has GSO on as the server's does.

mod app;
mod roles;

use std::{
    any::Any,
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use bench_core::{Bulk, Cost, Handshakes, Messages, Meter, RoundTrips, Setup, Stack, Suite, limits};
use futures::StreamExt;
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

fn main() -> ! {
    bench_core::run::<TokioQuiche>()
}

struct TokioQuiche {
    runtime: Runtime,
    incoming: Mutex<QuicConnectionStream<DefaultMetrics>>,
    address: SocketAddr,
    streams: u16,
    cpu: Option<usize>,
}

/// A connection's client side: it begins with its role when [`Go`] is used.
struct Client {
    go: Go,
    _connection: QuicConnection,
}

impl Stack for TokioQuiche {
    const NAME: &'static str = "tokio-quiche";
    /// Its socket.
    const DESCRIPTORS_PER_CONNECTION: u64 = 1;

    fn new(setup: &Setup) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let _within = runtime.enter();
        let (certificate, key) = (setup.identity.certificate_file(), setup.identity.key_file());
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
        let params = ConnectionParams::new_server(settings(setup.streams), certificate, Hooks::default());
        let mut listeners = tokio_quiche::listen_with_capabilities([listener], params, DefaultMetrics)?;
        let incoming = Mutex::new(listeners.pop().context("no listener")?);
        drop(_within);
        Ok(Self { runtime, incoming, address, streams: setup.streams, cpu: setup.cpu })
    }

    /// BoringSSL prefers AES-128 where the processor has AES, and cannot be told otherwise.
    fn suite(&self) -> Option<Suite> {
        Some(Suite::Aes128)
    }

    fn bulk(&self, plan: &Bulk) -> Result<Cost> {
        self.runtime.block_on(async {
            let (tell, mut told) = mpsc::unbounded_channel();
            let clients = self
                .connect_all(
                    plan.connections,
                    || Box::new(roles::Writer::new(plan)),
                    || Box::new(roles::Reader::new(plan, tell.clone())),
                )
                .await?;
            let meter = Meter::start(self.cpu)?;
            let _clients: Vec<_> = clients.into_iter().map(Client::go).collect();
            for _ in 0..plan.connections * plan.streams {
                told.recv().await.context("a reader is gone")?;
            }
            meter.stop()
        })
    }

    fn messages(&self, plan: &Messages) -> Result<Cost> {
        self.runtime.block_on(async {
            let (tell, mut told) = mpsc::unbounded_channel();
            let writer = || Box::new(roles::MessageWriter::new(plan)) as Box<dyn Role>;
            let reader = || Box::new(roles::MessageReader::new(plan, tell.clone())) as Box<dyn Role>;
            let clients = self.connect_all(1, writer, reader).await?;
            let meter = Meter::start(self.cpu)?;
            let _clients: Vec<_> = clients.into_iter().map(Client::go).collect();
            told.recv().await.context("the reader is gone")?;
            meter.stop()
        })
    }

    fn ping_pong(&self, count: u64) -> Result<RoundTrips> {
        self.runtime.block_on(async {
            let (tell, mut told) = mpsc::unbounded_channel();
            let pinger = || Box::new(roles::Pinger::new(count, tell.clone())) as Box<dyn Role>;
            let clients = self.connect_all(1, pinger, || Box::new(roles::Echo::default())).await?;
            let meter = Meter::start(self.cpu)?;
            let _clients: Vec<_> = clients.into_iter().map(Client::go).collect();
            let nanoseconds = told.recv().await.context("the pinger is gone")?;
            Ok(RoundTrips { cost: meter.stop()?, nanoseconds })
        })
    }

    fn connect(&self, count: u64) -> Result<Handshakes> {
        self.runtime.block_on(async {
            let mut nanoseconds = bench_core::histogram();
            let meter = Meter::start(self.cpu)?;
            for _ in 0..count {
                let start = Instant::now();
                let clients = self.connect_all(1, || Box::new(roles::Close), || Box::new(roles::Idle)).await?;
                nanoseconds.record(start.elapsed().as_nanos() as u64)?;
                clients.into_iter().for_each(|client| drop(client.go()));
            }
            Ok(Handshakes { cost: meter.stop()?, nanoseconds })
        })
    }

    fn hold(&self, connections: usize, streams: usize) -> Result<Box<dyn Any>> {
        self.runtime.block_on(async {
            let (tell, mut told) = mpsc::unbounded_channel();
            let opener = || Box::new(roles::Opener::new(streams)) as Box<dyn Role>;
            let holder = || Box::new(roles::Holder::new(tell.clone())) as Box<dyn Role>;
            let clients = self.connect_all(connections as u64, opener, holder).await?;
            let clients: Vec<_> = clients.into_iter().map(Client::go).collect();
            for _ in 0..connections * streams {
                told.recv().await.context("a reader is gone")?;
            }
            Ok(Box::new(clients) as Box<dyn Any>)
        })
    }
}

impl Client {
    /// Has it begin; the connection goes on until the process ends.
    fn go(self) -> QuicConnection {
        self.go.now();
        self._connection
    }
}

impl TokioQuiche {
    /// So many connections, 16 at a time; resolves when both sides of each have ended their
    /// handshake.
    async fn connect_all(
        &self,
        count: u64,
        client: impl Fn() -> Box<dyn Role>,
        server: impl Fn() -> Box<dyn Role>,
    ) -> Result<Vec<Client>> {
        let (connected, mut wait) = mpsc::unbounded_channel();
        let params = ConnectionParams::new_client(settings(self.streams), None, Hooks::default());
        let accept = async {
            let mut incoming = self.incoming.lock().await;
            for _ in 0..count {
                let connection = incoming.next().await.context("the listener is gone")??;
                connection.start(App::server(server(), connected.clone()));
            }
            for _ in 0..count {
                wait.recv().await.context("a connection is gone")?;
            }
            anyhow::Ok(())
        };
        let connect = async {
            let connections = futures::stream::iter(0..count).map(|_| self.connect_one(&params, client()));
            let mut clients = Vec::new();
            let mut connections = connections.buffer_unordered(16);
            while let Some(client) = connections.next().await {
                clients.push(client?);
            }
            Ok(clients)
        };
        let (clients, ()) = tokio::try_join!(connect, accept)?;
        Ok(clients)
    }

    async fn connect_one(&self, params: &ConnectionParams<'_>, role: Box<dyn Role>) -> Result<Client> {
        let socket = socket()?;
        socket.connect(self.address).await?;
        check_gso(&socket)?;
        let mut socket = Socket::<std::sync::Arc<UdpSocket>, std::sync::Arc<UdpSocket>>::try_from(socket)?;
        // Off unless asked for.
        socket.apply_max_capabilities();
        let (app, go) = App::client(role);
        let connection =
            connect_with_config(socket, Some(limits::HOST), params, app).await.map_err(|error| anyhow!("{error}"))?;
        Ok(Client { go, _connection: connection })
    }
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
