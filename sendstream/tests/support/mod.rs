//! What the tests share: a server, a client, a connected pair of both, and a bound on every wait.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod aioquic;
pub(crate) mod alone;
#[cfg(target_os = "linux")]
pub(crate) mod control_group;
pub(crate) mod foreign;
pub(crate) mod forwarder;
pub(crate) mod frames;
pub(crate) mod memory;
pub(crate) mod namespaces;
pub(crate) mod packets;
pub(crate) mod peer;
pub(crate) mod pieces;
#[cfg(target_os = "linux")]
pub(crate) mod processors;
pub(crate) mod python;
pub(crate) mod relay;
pub(crate) mod soak;
#[cfg(target_os = "linux")]
pub(crate) mod tap;

use std::{
    fmt::Display,
    future::Future,
    io::{Read as _, Write as _},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use sendstream::{
    Client, ClientBuilder, Connection, ConnectionError, Identity, Server, ServerBuilder, TransportConfig, Trust,
};

/// No wait in these tests lasts that long unless something hangs, however slow the machine is: it
/// is no test of speed.
pub(crate) const HANG: Duration = Duration::from_secs(600);

/// The timeout of a test that waits for a timeout. What must be done before it strikes has that
/// much time, so that only a machine that stops for longer breaks the test's premise; the default
/// timeout of a handshake, which every test is subject to, gives it no more.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest `max_ack_delay`, for what must not wait for it.
pub(crate) const LONG_DELAY: Duration = Duration::from_secs(16);

/// A `disconnect_timeout` that outlasts such a wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Runs `future` to its end; panics instead of hanging.
pub(crate) fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    run_within(HANG, future)
}

/// [`run`] with a bound of the test's own.
pub(crate) fn run_within<T: Send + 'static>(bound: Duration, future: impl Future<Output = T> + Send + 'static) -> T {
    // On an executor without threads, unless a runtime is to do the work of all connections.
    match std::env::var_os("SENDSTREAM_TESTS_ON") {
        Some(on) if on == "tokio" => watch(bound, || block_on_tokio(future)),
        _ => watch(bound, || futures::executor::block_on(future)),
    }
}

/// [`run`] on a tokio runtime, which does the work of the connections that are made there.
pub(crate) fn on_tokio<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    watch(HANG, || block_on_tokio(future))
}

fn block_on_tokio<T>(future: impl Future<Output = T>) -> T {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = tokio.block_on(future);
    tokio.shutdown_background();
    result
}

/// Runs `body` on a thread, and panics if it is not done after `bound`.
fn watch<T: Send + 'static>(bound: Duration, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    // Under the test's name, for what it prints.
    let name = thread::current().name().unwrap_or_default().to_owned();
    let body = move || {
        let _ = done.send(body());
    };
    let test = thread::Builder::new().name(name).spawn(body).unwrap();
    match result.recv_timeout(bound) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still running after {bound:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match test.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the test's thread sends before it ends"),
        },
    }
}

/// Whether the linked MsQuic has this edit. An installed library has none.
pub(crate) fn has_edit(name: &str) -> bool {
    sendstream::native_info().unwrap().edits.iter().any(|edit| edit.name == name)
}

/// Says why a test that needs something foreign does nothing, also where the output of tests that
/// pass is not shown.
pub(crate) fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// Prints what a test held, survived or tried, one line each, also where the output of tests that
/// pass is not shown: `FIGURE <file>::<test>: <what>`.
pub(crate) fn figure(what: impl Display) {
    figure_of(thread::current().name().unwrap_or_default(), what);
}

/// [`figure`] on a thread that has not the test's name.
pub(crate) fn figure_of(test: &str, what: impl Display) {
    // The test runner may be in the middle of a line.
    let _ = writeln!(std::io::stdout(), "\nFIGURE {}::{test}: {what}", env!("CARGO_CRATE_NAME"));
}

/// Both ends of one connection over loopback.
pub(crate) struct Pair {
    pub(crate) client: Connection,
    pub(crate) server: Connection,
    pub(crate) endpoints: Endpoints,
}

/// A server and a client that trusts it.
pub(crate) struct Endpoints {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
}

impl Endpoints {
    pub(crate) fn new() -> Self {
        Self::with(TransportConfig::default(), TransportConfig::default())
    }

    /// `client` and `server` are the settings of each side.
    pub(crate) fn with(client: TransportConfig, server: TransportConfig) -> Self {
        let identity = identity();
        let server = self::server(&identity).transport(server).bind(any_port()).unwrap();
        let client = self::client(&identity).transport(client).build().unwrap();
        let address = server.local_addr().unwrap();
        Self { server, client, address }
    }

    /// The client has a socket for each connection.
    pub(crate) fn with_a_socket_per_connection() -> Self {
        let identity = identity();
        let server = self::server(&identity).bind(any_port()).unwrap();
        let client = self::client(&identity).socket_per_connection(true).build().unwrap();
        let address = server.local_addr().unwrap();
        Self { server, client, address }
    }

    pub(crate) async fn connect(&self) -> (Connection, Connection) {
        self.connect_through(self.address).await
    }

    /// Connects to `address`, from where packets come to the server.
    pub(crate) async fn connect_through(&self, address: SocketAddr) -> (Connection, Connection) {
        self.try_connect_through(address).await.unwrap()
    }

    pub(crate) async fn try_connect_through(&self, address: SocketAddr) -> Result<(Connection, Connection), String> {
        try_connect(&self.client, &self.server, address).await
    }

    /// Shuts both sides down and waits until no native handle is left.
    pub(crate) async fn end(self) {
        self.server.shutdown().await;
        self.client.wait_idle().await;
    }
}

impl Pair {
    pub(crate) async fn new() -> Self {
        Self::over(Endpoints::new()).await
    }

    pub(crate) async fn with(client: TransportConfig, server: TransportConfig) -> Self {
        Self::over(Endpoints::with(client, server)).await
    }

    async fn over(endpoints: Endpoints) -> Self {
        let (client, server) = endpoints.connect().await;
        Self { client, server, endpoints }
    }

    /// Lets both connections go and waits until no native handle is left.
    pub(crate) async fn end(self) {
        let Self { client, server, endpoints } = self;
        drop((client, server));
        endpoints.end().await;
    }
}

/// A certificate for `localhost` that nobody else has signed, with its key.
pub(crate) fn identity() -> Identity {
    Identity::self_signed(["localhost"]).unwrap()
}

/// Trust in `identity` alone.
pub(crate) fn pinned(identity: &Identity) -> Trust {
    Trust::pinned([identity.certificate_sha256()])
}

/// A server with `identity`; a test adds what is special about its own.
pub(crate) fn server(identity: &Identity) -> ServerBuilder {
    Server::builder().identity(identity.clone()).alpn(["test"])
}

/// A client that trusts the server with `identity`; a test adds what is special about its own.
pub(crate) fn client(identity: &Identity) -> ClientBuilder {
    client_with(pinned(identity))
}

/// [`client`] with another trust.
pub(crate) fn client_with(trust: Trust) -> ClientBuilder {
    Client::builder().alpn(["test"]).trust(trust)
}

/// Any free port, which only this machine reaches.
pub(crate) fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Connects `client` to `server`, without anything between them.
pub(crate) async fn connect(client: &Client, server: &Server) -> (Connection, Connection) {
    try_connect(client, server, server.local_addr().unwrap()).await.unwrap()
}

/// Accepts the next connection.
pub(crate) async fn accept(server: &Server) -> Result<Connection, ConnectionError> {
    server.accept().await.expect("the server runs").accept().await
}

/// Sends `text` on a stream of its own, and checks that it arrives.
pub(crate) async fn tell(from: &Connection, to: &Connection, text: &'static str) {
    let mut stream = from.open_uni().unwrap();
    let read = async { to.accept_uni().await.unwrap().read_to_end(16).await.unwrap() };
    let (sent, read) = futures::join!(stream.finish_with(text), read);
    sent.unwrap();
    assert_eq!(read, text.as_bytes());
}

/// Sends `bytes` bytes to the server and back.
pub(crate) async fn exchange(client: &Connection, server: &Connection, bytes: usize) {
    let data = pattern(bytes);
    let asking = async {
        let (mut send, mut recv) = client.open_bi().unwrap();
        drop(send.finish_with(data.clone()));
        assert!(recv.read_to_end(bytes).await.unwrap() == data);
        send.finished().await.unwrap();
    };
    let answering = async {
        let (mut send, mut recv) = server.accept_bi().await.unwrap();
        drop(send.finish_with(recv.read_to_end(bytes).await.unwrap()));
        send.finished().await.unwrap();
    };
    futures::join!(asking, answering);
}

/// Checks that the peer's application closed the connection, with `code` and `reason`.
#[track_caller]
pub(crate) fn assert_closed_by_peer(cause: &ConnectionError, code: u64, reason: &str) {
    let ConnectionError::ApplicationClosed { code: theirs, reason: given, .. } = cause else { panic!("{cause:?}") };
    assert_eq!((*theirs, &**given), (code, reason));
}

/// Checks that this side's application closed the connection, with `code`.
#[track_caller]
pub(crate) fn assert_closed_locally(cause: &ConnectionError, code: u64) {
    assert_closed_here_because(cause, code, "");
}

/// [`assert_closed_locally`], with a reason for the peer.
#[track_caller]
pub(crate) fn assert_closed_here_because(cause: &ConnectionError, code: u64, reason: &str) {
    let ConnectionError::LocallyClosed { code: ours, reason: given, .. } = cause else { panic!("{cause:?}") };
    assert_eq!((*ours, &**given), (code, reason));
}

/// Connects to `address`, from where packets come to the server.
pub(crate) async fn try_connect(
    client: &Client,
    server: &Server,
    address: SocketAddr,
) -> Result<(Connection, Connection), String> {
    // Whichever side fails first ends the wait of the other.
    let connected = async { client.connect(address, "localhost").await.map_err(|error| error.to_string()) };
    let accepted = async { accept(server).await.map_err(|error| error.to_string()) };
    futures::try_join!(connected, accepted)
}

/// Lets this process, which a test has started, end with it. The test has heard all that was
/// printed before.
pub(crate) fn end_with_parent() {
    std::io::stdout().flush().unwrap();
    thread::spawn(|| {
        // The parent holds the other end: when it goes, this process does.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

/// Looks again and again until `holds`, where no event tells.
pub(crate) fn wait_until(holds: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < HANG, "still waiting after {HANG:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Polls once with a waker that does nothing.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(Waker::noop(), Pin::new(future))
}

/// Polls once with `waker`.
pub(crate) fn poll_with<F: Future>(waker: &Waker, future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// A waker that always panics, and what tells that it was woken.
pub(crate) fn panicking() -> (Waker, mpsc::Receiver<()>) {
    struct Panicking(mpsc::Sender<()>);
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
            panic!("this waker panics, as the test wants");
        }
    }
    let (sender, woken) = mpsc::channel();
    (Waker::from(Arc::new(Panicking(sender))), woken)
}

/// Bytes that differ from place to place, so that a lost, doubled or swapped piece shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
