//! What a client can make a server keep: a server in a process of its own, whose memory is looked at.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use axum::{Router, body::Body, routing};
use bytes::Bytes;
use futures::{StreamExt, stream};
use rustls::pki_types::CertificateDer;
use sendstream::{Identity, Server, process};

use crate::{
    raw::{self, HANG, Streams},
    server,
    wire::{self, *},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The default of `Serve::max_field_section_size`.
const LIMIT: usize = 64 * KIB;

/// The server's process. It ends with its standard input.
struct Target {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
}

const IS_SERVER: &str = "SENDSTREAM_H3_TEST_SERVER";

impl Target {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::the_server_itself", "--nocapture"])
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let ready = answer(&mut from, "ready ");
        let (address, certificate) = ready.split_once(' ').unwrap();
        let bytes =
            (0..certificate.len()).step_by(2).map(|at| u8::from_str_radix(&certificate[at..at + 2], 16).unwrap());
        let certificate = CertificateDer::from(bytes.collect::<Vec<u8>>());
        Self { child, to, from, address: address.parse().unwrap(), certificate }
    }

    /// The resident memory of the server, in bytes, once it stays the same.
    fn settled(&mut self) -> usize {
        let mut last = self.resident();
        let mut same = 0;
        while same < 4 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let now = self.resident();
            same = if now.abs_diff(last) < 64 * KIB { same + 1 } else { 0 };
            last = now;
        }
        last
    }

    fn resident(&mut self) -> usize {
        self.to.write_all(b"resident\n").unwrap();
        answer(&mut self.from, "resident ").parse().unwrap()
    }

    /// A connection that an honest request was made on.
    async fn connect(&self, transport: quinn::TransportConfig) -> (quinn::Endpoint, quinn::Connection, Streams) {
        let endpoint = raw::client(self.certificate.clone(), transport);
        let connection = endpoint.connect(self.address, "localhost").unwrap().await.unwrap();
        let mut streams = Streams::default();
        streams.send(&connection, &[]).await;
        assert_eq!(raw::get(&connection, "/").await.unwrap().body, b"fine");
        (endpoint, connection, streams)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line that begins with `with`, without that.
fn answer(from: &mut impl BufRead, with: &str) -> String {
    let found = from.lines().map(Result::unwrap).find_map(|line| line.strip_prefix(with).map(str::to_owned));
    found.expect("the server has said something else")
}

/// The process that [`Target`] starts. In the test run itself it does nothing.
#[test]
fn the_server_itself() {
    if std::env::var_os(IS_SERVER).is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _within = runtime.enter();
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let server =
        Server::builder().identity(identity.clone()).alpn([sendstream_h3::ALPN]).bind(raw::any_port()).unwrap();
    let certificate: String = identity.certificate().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("\nready {} {certificate}", server.local_addr().unwrap());
    runtime.spawn(sendstream_h3::serve(server, app()).into_future());
    for line in std::io::stdin().lines() {
        assert_eq!(line.unwrap(), "resident");
        println!("resident {}", resident());
    }
}

fn app() -> Router {
    let count = async |body: Body| {
        let mut count = 0;
        let mut data = body.into_data_stream();
        while let Some(chunk) = data.next().await {
            match chunk {
                Ok(chunk) => count += chunk.len(),
                Err(error) => return format!("failed: {error}"),
            }
        }
        count.to_string()
    };
    let endless =
        async || Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![7; 16 * KIB]))));
    server::app().route("/count", routing::post(count)).route("/endless", routing::get(endless))
}

/// Without the files that are mapped, and without what nobody uses: how much MsQuic and the C library
/// keep for later is another matter, and differs by megabytes from run to run.
fn resident() -> usize {
    process::release_memory();
    let maps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = maps.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * KIB
}

/// Prints what a test has measured.
fn figure(test: &str, what: &str) {
    let _ = writeln!(std::io::stdout(), "\nFIGURE hostile::{test}: {what}");
}

fn post_to(path: &str) -> Vec<u8> {
    headers(&[METHOD_POST, SCHEME_HTTPS, &field(":authority", "localhost"), &field(":path", path)])
}

/// What came of a request's stream that was not finished.
async fn response(mut recv: quinn::RecvStream) -> Option<wire::Response> {
    wire::Response::of(&recv.read_to_end(MIB).await.ok()?)
}

/// The tests look at one process each, and one after the other: their clients would have the same
/// processors.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Runs an attack on a connection, and gives by how much the server's memory has grown at its end,
/// while the connection is still there.
async fn growth<T>(
    what: &str,
    transport: quinn::TransportConfig,
    attack: impl AsyncFnOnce(&quinn::Connection) -> T,
) -> usize {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut target = Target::start();
    // What every connection takes at first is no matter of the attack's.
    let _first = target.connect(quinn::TransportConfig::default()).await;
    let (_endpoint, connection, _streams) = target.connect(transport).await;
    let before = target.settled();
    let _kept = tokio::time::timeout(HANG, attack(&connection)).await.unwrap_or_else(|_| panic!("it hangs: {what}"));
    let grown = target.settled().saturating_sub(before);
    figure(what, &format!("the server grew by {} KiB", grown / KIB));
    grown
}

/// Writes until all is written or the peer wants no more; how much was taken.
async fn flood(stream: &mut quinn::SendStream, bytes: usize) -> usize {
    let piece = vec![0; 64 * KIB];
    let mut sent = 0;
    while sent < bytes && stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_1_gib_fields_is_answered_with_431_and_costs_nothing() {
    let grown = growth("fields_of_1_gib", Default::default(), async |connection| {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&header(HEADERS, 1 << 30)).await.unwrap();
        let (sent, response) = tokio::join!(flood(&mut send, 256 * MIB), response(recv));
        assert_eq!(response.unwrap().status, 431);
        // H3_NO_ERROR: what is sent on is not needed (RFC 9114 §4.1).
        assert!(sent < 256 * MIB, "it read all of it");
        assert_eq!(send.stopped().await.unwrap().unwrap().into_inner(), 0x100);
        assert_eq!(raw::get(connection, "/").await.unwrap().body, b"fine");
    });
    assert!(grown.await < MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_field_section_on_each_stream_costs_no_more_than_was_sent() {
    const STREAMS: usize = 100;
    let grown = growth("half_field_sections_on_100_streams", Default::default(), async |connection| {
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let (mut send, recv) = connection.open_bi().await.unwrap();
            send.write_all(&header(HEADERS, LIMIT as u64)).await.unwrap();
            send.write_all(&vec![0; LIMIT - 1]).await.unwrap();
            open.push((send, recv));
        }
        assert_eq!(raw::get(connection, "/").await.unwrap().body, b"fine");
        open
    });
    // The limit for each stream, and what a stream takes besides.
    assert!(grown.await < STREAMS * (LIMIT + 48 * KIB));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_section_byte_by_byte_costs_no_more_than_one_at_once() {
    let grown = growth("a_field_section_byte_by_byte", Default::default(), async |connection| {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&header(HEADERS, LIMIT as u64)).await.unwrap();
        for _ in 0..LIMIT - 1 {
            send.write_all(&[0]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(raw::get(connection, "/").await.unwrap().body, b"fine");
        (send, recv)
    });
    assert!(grown.await < MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_1_gib_end_the_request_and_cost_nothing() {
    let grown = growth("trailers_of_1_gib", Default::default(), async |connection| {
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(&[post_to("/count"), frame(DATA, b"body"), header(HEADERS, 1 << 30)].concat()).await.unwrap();
        flood(&mut send, 64 * MIB).await;
        // H3_EXCESSIVE_LOAD.
        assert_eq!(send.stopped().await.unwrap().unwrap().into_inner(), 0x107);
        assert_eq!(raw::get(connection, "/").await.unwrap().body, b"fine");
    });
    assert!(grown.await < MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_10_000_fields_is_answered_with_431() {
    let grown = growth("requests_of_10_000_fields", Default::default(), async |connection| {
        // One byte each, then with names of their own.
        let short = headers(&[&get_fields("/"), &[0xc4; 10_000]]);
        let own: Vec<u8> = (0..10_000).flat_map(|count| field(&format!("name-{count}"), "value")).collect();
        for request in [short, headers(&[&get_fields("/"), &own])] {
            let (mut send, recv) = connection.open_bi().await.unwrap();
            let _ = send.write_all(&request).await;
            let _ = send.finish();
            assert_eq!(response(recv).await.unwrap().status, 431);
        }
        assert_eq!(raw::get(connection, "/").await.unwrap().body, b"fine");
    });
    assert!(grown.await < MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_without_a_meaning_are_skipped_however_long_they_are() {
    let grown = growth("unknown_frames_of_32_mib", Default::default(), async |connection| {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&header(GREASE, 16 * MIB as u64)).await.unwrap();
        assert_eq!(flood(&mut send, 16 * MIB).await, 16 * MIB);
        send.write_all(&post_to("/count")).await.unwrap();
        send.write_all(&header(GREASE, 16 * MIB as u64)).await.unwrap();
        assert_eq!(flood(&mut send, 16 * MIB).await, 16 * MIB);
        send.write_all(&frame(DATA, b"body")).await.unwrap();
        send.finish().unwrap();
        assert_eq!(response(recv).await.unwrap().body, b"4");
    });
    // And what the transport's window takes.
    assert!(grown.await < 3 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_frames_of_one_byte_is_read_as_it_comes() {
    const BYTES: usize = 1 << 20;
    let grown = growth("a_body_of_1_mib_in_frames_of_one_byte", Default::default(), async |connection| {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&post_to("/count")).await.unwrap();
        let piece = frame(DATA, b"x").repeat(1 << 14);
        for _ in 0..BYTES >> 14 {
            send.write_all(&piece).await.unwrap();
        }
        send.finish().unwrap();
        assert_eq!(response(recv).await.unwrap().body, BYTES.to_string().into_bytes());
    });
    assert!(grown.await < 2 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_costs_a_window_for_each_response() {
    const STREAMS: usize = 100;
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(1024u32.into());
    let grown = growth("100_endless_responses_that_nobody_reads", transport, async |connection| {
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let (mut send, recv) = connection.open_bi().await.unwrap();
            send.write_all(&wire::get("/endless")).await.unwrap();
            send.finish().unwrap();
            open.push(recv);
        }
        // They are under way when this is answered: it came later.
        assert_eq!(raw::get(connection, "/").await.unwrap().body, b"fine");
        open
    });
    let grown = grown.await;
    figure("100_endless_responses_that_nobody_reads", &format!("{} KiB for each response", grown / KIB / STREAMS));
    assert!(grown < STREAMS * 256 * KIB);
}
