//! Which public types, and which futures of public functions, are `Send` and `Sync`. One that stops
//! being so breaks users who hold it in a task or share it, and fails to compile here.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use sendstream::{
    process::{Counters, LoadBalancing, MemoryBudget, RetryPolicy},
    *,
};

/// Each type in it is both, and [`SEND_AND_SYNC`] has it.
macro_rules! send_and_sync {
    ($($public:ty),* $(,)?) => {
        const SEND_AND_SYNC: &[&str] = &[$(stringify!($public)),*];
        $(const _: () = is_send_and_sync_type::<$public>();)*
    };
}

send_and_sync! {
    BiStream,
    BindError,
    Bytes,
    CertificateDer<'_>,
    CertificateHash,
    CertificateRefusal,
    CipherSuite,
    Client,
    ClientAuth,
    ClientBuilder,
    CodeOutOfRange,
    ConfigError,
    CongestionControl,
    ConnectError,
    Connection,
    ConnectionError,
    ConnectionStats,
    Connections<'_>,
    Counters,
    DatagramFate,
    EarlyConnection,
    EditInfo,
    EditKind,
    ExecutionProfile,
    ExportError,
    HandshakeInfo,
    HandshakeStats,
    Identity,
    IdentityError,
    Incoming,
    LoadBalancing,
    MemoryBudget,
    MemorySessionCache,
    NativeError,
    NativeInfo,
    NoCommonProtocol,
    OpenError,
    ParseCertificateHashError,
    ParsePublicKeyHashError,
    Payload,
    PeerCertificate,
    PeerIdentity,
    Printable<'_>,
    PrivateKeyDer<'_>,
    PublicKeyHash,
    QlogStream,
    ReadError,
    ReadExactError,
    ReadToEndError,
    RebindError,
    ReceivedStats,
    RecvChunk,
    RecvStream,
    Registration,
    Resumption,
    RetryPolicy,
    SendData<'static>,
    SendDatagram,
    SendDatagramError,
    SendStream,
    SendStreamStats,
    SentStats,
    ServedBy,
    Server,
    ServerBuilder,
    ServerConfig,
    ServerStats,
    dyn SessionCache,
    SessionKey,
    Side,
    SocketRefusal,
    StartError,
    StreamScheduling,
    SystemError,
    TicketKey,
    Timeout,
    TlsVersion,
    TransportConfig,
    Trust,
    TrustError,
    WorkerTask<u64>,
    WorkerTaskError,
    WriteError,
}

#[test]
fn the_list_has_every_public_type() {
    let listed: Vec<_> = SEND_AND_SYNC.iter().flat_map(|listed| words(listed)).collect();
    for file in ["lib.rs", "process.rs"] {
        let source = fs::read_to_string(sources().join(file)).unwrap();
        let mut names = types_in_public_uses(&source);
        names.extend(declared(&source, &["pub struct ", "pub enum "]));
        assert!(!names.is_empty(), "{file} has no public type");
        let missing: Vec<_> = names.iter().filter(|name| !listed.contains(name)).collect();
        assert!(missing.is_empty(), "public types of {file} that the list lacks: {missing:?}");
    }
}

#[test]
fn every_public_function_that_returns_a_future_is_called_here() {
    let mut functions = BTreeMap::<String, usize>::new();
    visit(&sources(), &mut |source| {
        for name in declared(source, &["    pub async fn "]) {
            *functions.entry(name).or_default() += 1;
        }
        for (at, _) in source.match_indices("    pub fn ") {
            let signature = source[at..].split(['{', ';']).next().unwrap();
            if signature.contains("-> impl Future<") {
                *functions.entry(declared(signature, &["    pub fn "]).remove(0)).or_default() += 1;
            }
        }
    });
    assert!(functions.len() > 20, "no public functions were found");
    for (name, count) in functions {
        let calls = include_str!("auto_traits.rs").matches(&format!(".{name}(")).count();
        assert!(calls >= count, "{count} public functions have the name `{name}`, and {calls} are called here");
    }
}

/// The futures that are documented as `Sync`, too. Nobody calls these functions.
#[expect(dead_code, reason = "to compile is the test")]
fn futures_that_are_both(connection: &Connection, send: &SendStream, recv: &RecvStream, address: SocketAddr) {
    is_send_and_sync(connection.path_changed());
    is_send_and_sync(connection.raise_limits(&TransportConfig::default()));
    is_send_and_sync(connection.set_max_concurrent_uni_streams(1));
    is_send_and_sync(connection.set_max_concurrent_bidi_streams(1));
    is_send_and_sync(connection.set_receive_window(4096));
    is_send_and_sync(connection.set_dscp(46));
    is_send_and_sync(connection.rebind(address));
    is_send_and_sync(connection.stats());
    is_send_and_sync(send.stopped());
    is_send_and_sync(send.stats());
    is_send_and_sync(recv.received_reset());
}

#[expect(dead_code, reason = "to compile is the test")]
fn futures_of_clients(client: &Client, registration: &Registration, address: SocketAddr) {
    is_send(client.connect(address, ""));
    is_send(client.connect_0rtt(address, ""));
    is_send(client.connect_host("", 0));
    is_send(client.connect_any(&[], ""));
    is_send(client.wait_idle());
    is_send(registration.wait_idle());
}

#[expect(dead_code, reason = "to compile is the test")]
fn futures_of_servers(server: &Server, incoming: [Incoming; 4], config: &ServerConfig) {
    is_send(server.accept());
    is_send(server.connections().next());
    is_send(server.shutdown());
    let [first, second, third, fourth] = incoming;
    is_send(first.accept());
    is_send(second.accept_with(config));
    is_send(third.accept_0rtt());
    is_send(fourth.accept_0rtt_with(config));
}

#[expect(dead_code, reason = "to compile is the test")]
fn futures_of_connections(connection: Connection, early: EarlyConnection, datagram: &mut SendDatagram) {
    is_send(connection.accept_uni());
    is_send(connection.accept_bi());
    is_send(connection.read_datagram());
    is_send(connection.send_datagram_wait(""));
    is_send(connection.closed());
    is_send(connection.session_ticket());
    is_send(connection.drain());
    is_send(early.accept_uni());
    is_send(early.accept_bi());
    is_send(early.accepted_0rtt());
    is_send(early.connected());
    is_send(datagram.progress());
}

#[expect(dead_code, reason = "to compile is the test")]
fn futures_of_streams(send: &mut SendStream, recv: &mut RecvStream) {
    is_send(send.start());
    is_send(send.start_now());
    is_send(send.write(&[]));
    is_send(send.try_start());
    is_send(send.write_chunk("".into()));
    is_send(send.write_chunks(&mut []));
    is_send(send.write_all(&[]));
    is_send(send.acked());
    is_send(send.finished());
    is_send(recv.read_chunk());
    is_send(recv.read(&mut []));
    is_send(recv.read_exact(&mut []));
    is_send(recv.read_to_end(0));
}

#[expect(dead_code, reason = "to compile is the test")]
fn futures_of_workers(task: WorkerTask<u64>, qlog: &QlogStream) {
    is_send(task);
    is_send(qlog.flush());
}

fn is_send(_: impl Future + Send) {}

fn is_send_and_sync(_: impl Future + Send + Sync) {}

const fn is_send_and_sync_type<T: Send + Sync + ?Sized>() {}

/// The names of types and traits, which begin with a capital, in the `pub use` of `source`.
fn types_in_public_uses(source: &str) -> Vec<String> {
    let uses = source.split("\npub use ").skip(1).filter_map(|rest| rest.split(';').next());
    uses.flat_map(words).filter(|word| word.starts_with(|first: char| first.is_ascii_uppercase())).collect()
}

/// The names that follow one of `keywords` in `source`.
fn declared(source: &str, keywords: &[&str]) -> Vec<String> {
    let after = keywords.iter().flat_map(|keyword| source.split(keyword).skip(1));
    after.filter_map(|rest| words(rest).into_iter().next()).collect()
}

fn words(text: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !is_part(letter)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn visit(directory: &Path, see: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, see);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            see(&fs::read_to_string(path).unwrap());
        }
    }
}

fn sources() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every public error is an `io::Error`, too.
#[test]
fn the_list_of_errors_has_every_public_one() {
    macro_rules! become_io_errors {
        ($($error:ty),* $(,)?) => {{
            const fn becomes<E: Into<std::io::Error>>() {}
            $(becomes::<$error>();)*
            [$(stringify!($error)),*]
        }};
    }
    let listed = become_io_errors!(
        BindError,
        CertificateRefusal,
        CodeOutOfRange,
        ConfigError,
        ConnectError,
        ConnectionError,
        ExportError,
        IdentityError,
        NativeError,
        OpenError,
        ParseCertificateHashError,
        ParsePublicKeyHashError,
        ReadError,
        ReadExactError,
        ReadToEndError,
        RebindError,
        SendDatagramError,
        SocketRefusal,
        StartError,
        SystemError,
        TrustError,
        WorkerTaskError,
        WriteError,
    );
    let errors = SEND_AND_SYNC.iter().filter(|name| name.ends_with("Error") || name.ends_with("Refusal"));
    let missing: Vec<_> = errors.filter(|name| !listed.contains(name)).collect();
    assert!(missing.is_empty(), "errors that are no `io::Error`: {missing:?}");
}
