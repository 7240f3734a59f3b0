//! Debian's Chromium, headless, against sessions, pages and the chat of this crate.

use std::{
    io::Write as _,
    pin::pin,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use sendstream::{Identity, Server};
use sendstream_web_transport::{
    ALPN, Session, accept,
    trait_::{Error as _, RecvStream as _, SendStream as _, Session as _},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

/// No wait lasts that long unless something hangs: a browser starts slowly on a busy machine.
const HANG: Duration = Duration::from_secs(120);

/// What browsers take at most of a certificate that they know by its hash.
const TWO_WEEKS: Duration = Duration::from_secs(14 * 24 * 3600);

/// A browser that ends with its test, and its profile.
struct Browser {
    process: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens `url`. `None` where there is no Chromium, which is said.
    fn open(url: &str, arguments: &[String]) -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let Some(name) = names.into_iter().find(|name| {
            let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            version.is_ok_and(|status| status.success())
        }) else {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: there is no Chromium; `apt-get install chromium`");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let process = Command::new(name)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(arguments)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { process, _profile: profile })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its other processes end when the first is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(test: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Under the test's own name, for what it prints.
    runtime.block_on(async { timeout(2 * HANG, test).await.expect("it hangs") });
}

/// Serves `page` to each GET over HTTP/1.1, and passes on what each POST brings. Its address.
async fn web(page: String) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    let (reported, reports) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (page, reported) = (page.clone(), reported.clone());
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let (mut line, mut first, mut length) = (String::new(), String::new(), 0);
                while client.read_line(&mut line).await? > 2 {
                    if first.is_empty() {
                        first.clone_from(&line);
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                client.read_exact(&mut body).await?;
                if first.starts_with("POST") {
                    let _ = reported.send(String::from_utf8(body).unwrap());
                }
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
                let answer = format!("{head}Content-Length: {}\r\n\r\n{page}", page.len());
                client.write_all(answer.as_bytes()).await
            });
        }
    });
    (url, reports)
}

/// A server with a certificate for browsers, and what a page needs to connect.
fn server() -> (Server, String) {
    let identity = Identity::self_signed_for(["localhost"], TWO_WEEKS).unwrap();
    let hash = format!("{:?}", identity.certificate_sha256().as_ref());
    let server = Server::builder().identity(identity).alpn([ALPN]).bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.local_addr().unwrap();
    let hashes = format!("[{{ algorithm: 'sha-256', value: new Uint8Array({hash}) }}]");
    let connect = format!("new WebTransport('https://{address}/test', {{ serverCertificateHashes: {hashes} }})");
    (server, connect)
}

async fn session(server: &Server) -> Session {
    let request = accept(server.accept().await.unwrap().accept().await.unwrap()).await.unwrap();
    assert!(request.headers()["origin"].to_str().unwrap().starts_with("http://localhost:"));
    assert_eq!(request.url().path(), "/test");
    request.ok().await.unwrap()
}

/// Sends everything back, until the session ends; with what it ended.
async fn echo(session: Session) -> Option<(u32, String)> {
    loop {
        tokio::select! {
            stream = session.accept_uni() => {
                let Ok(mut stream) = stream else { break };
                let session = session.clone();
                tokio::spawn(async move {
                    let all = stream.read_all().await.unwrap();
                    let mut answer = session.open_uni().await.unwrap();
                    answer.write_chunk(all).await.unwrap();
                    answer.finish().unwrap();
                });
            }
            streams = session.accept_bi() => {
                let Ok((mut send, mut recv)) = streams else { break };
                tokio::spawn(async move {
                    while let Some(chunk) = recv.read_chunk(usize::MAX).await.unwrap() {
                        send.write_chunk(chunk).await.unwrap();
                    }
                    send.finish().unwrap();
                });
            }
            datagram = session.recv_datagram() => {
                let Ok(datagram) = datagram else { break };
                session.send_datagram(datagram).unwrap();
            }
        }
    }
    session.closed().await.session_error()
}

/// A page that tells the test what became of `script`.
fn page(script: &str) -> String {
    format!(
        "<!doctype html><title>test</title><script type='module'>
        const report = text => fetch('/', {{ method: 'POST', body: text }});
        const bytes = text => new TextEncoder().encode(text);
        const text = stream => new Response(stream).text();
        const send = async (stream, data) => {{
            const writer = stream.getWriter();
            await writer.write(data);
            await writer.close();
        }};
        try {{ {script} }} catch (error) {{ report(`${{error.name}}: ${{error.message}}`); }}
        </script>"
    )
}

#[test]
fn chromium_echoes_streams_and_datagrams_and_closes_with_a_code() {
    const DONE: &str = "uni 1048576 true datagram";
    run(async {
        let (server, connect) = server();
        let script = format!(
            "const transport = {connect};
            await transport.ready;
            await send(await transport.createUnidirectionalStream(), bytes('uni'));
            const incoming = transport.incomingUnidirectionalStreams.getReader();
            const uni = await text((await incoming.read()).value);
            const bi = await transport.createBidirectionalStream();
            const large = new Uint8Array(1 << 20).map((_, index) => index % 251);
            const [back] = await Promise.all([
                new Response(bi.readable).arrayBuffer(), send(bi.writable, large)]);
            const same = large.every((byte, index) => byte === new Uint8Array(back, index, 1)[0]);
            const writer = transport.datagrams.writable.getWriter();
            const datagrams = transport.datagrams.readable.getReader();
            await writer.write(bytes('datagram'));
            const datagram = new TextDecoder().decode((await datagrams.read()).value);
            transport.close({{ closeCode: 4711, reason: 'the page is done' }});
            await transport.closed;
            report(`${{uni}} ${{back.byteLength}} ${{same}} ${{datagram}}`);"
        );
        let (url, mut reports) = web(page(&script)).await;
        let Some(_browser) = Browser::open(&url, &[]) else { return };
        let seen = timeout(HANG, async {
            let mut end = pin!(async { echo(session(&server).await).await });
            // The report comes over another connection than the close, and may be first.
            tokio::select! {
                end = &mut end => (end, reports.recv().await),
                report = reports.recv() => {
                    assert_eq!(report.as_deref(), Some(DONE), "the page failed");
                    (end.await, report)
                }
            }
        });
        let seen = seen.await.expect("no session, or no report");
        assert_eq!(seen, (Some((4711, "the page is done".to_owned())), Some(DONE.to_owned())));
    });
}

/// Chromium 156 tells the page now and then that the connection is lost, which it is not: the news of
/// the session's end and the end of what tells it race each other there. So the page asks again.
#[test]
fn chromium_sees_the_servers_code_and_reason() {
    run(async {
        let (server, connect) = server();
        let script = format!(
            "for (let attempt = 1; ; attempt++) {{
                const transport = {connect};
                await transport.ready;
                const first = await transport.incomingUnidirectionalStreams.getReader().read();
                const greeting = await text(first.value);
                // The server ends the session when it has this, perhaps before the stream is closed here.
                send(await transport.createUnidirectionalStream(), bytes('read')).catch(() => {{}});
                try {{
                    const {{ closeCode, reason }} = await transport.closed;
                    report(`${{greeting}} ${{closeCode}} ${{reason}}`);
                    break;
                }} catch (error) {{
                    if (attempt == 20) throw error;
                }}
            }}"
        );
        let (url, mut reports) = web(page(&script)).await;
        let Some(_browser) = Browser::open(&url, &[]) else { return };
        let mut sessions = Vec::new();
        let serving = async {
            loop {
                let session = session(&server).await;
                let mut greeting = session.open_uni().await.unwrap();
                greeting.write_all(b"welcome").await.unwrap();
                greeting.finish().unwrap();
                // What the page has not read it loses with the session.
                assert_eq!(session.accept_uni().await.unwrap().read_all().await.unwrap(), "read");
                session.close(42, "the server is done");
                sessions.push(session);
            }
        };
        let report = timeout(HANG, async {
            tokio::select! {
                report = reports.recv() => report,
                () = serving => unreachable!("it serves for ever"),
            }
        });
        assert_eq!(report.await.expect("no report").as_deref(), Some("welcome 42 the server is done"));
    });
}

#[test]
fn chromium_takes_no_certificate_that_is_valid_for_longer() {
    run(async {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let hash = format!("{:?}", identity.certificate_sha256().as_ref());
        let any = "127.0.0.1:0".parse().unwrap();
        let server = Server::builder().identity(identity).alpn([ALPN]).bind(any).unwrap();
        let script = format!(
            "const transport = new WebTransport('https://{}/', {{
                serverCertificateHashes: [{{ algorithm: 'sha-256', value: new Uint8Array({hash}) }}] }});
            await transport.ready;
            report('connected');",
            server.local_addr().unwrap()
        );
        let (url, mut reports) = web(page(&script)).await;
        let Some(_browser) = Browser::open(&url, &[]) else { return };
        tokio::spawn(async move {
            while let Some(incoming) = server.accept().await {
                let _ = incoming.accept().await;
            }
        });
        let report = timeout(HANG, reports.recv()).await.expect("no report").unwrap();
        assert!(report.starts_with("WebTransportError"), "{report}");
    });
}

#[test]
fn chromium_loads_a_page_over_http3_and_moves_8_mb_both_ways() {
    use axum::{Router, extract::DefaultBodyLimit, response::Html, routing::get};
    const LENGTH: usize = 8 << 20;
    run(async {
        let script = "
            const [navigation] = performance.getEntriesByType('navigation');
            const sum = async data => [...new Uint8Array(await crypto.subtle.digest('SHA-256', data))].join();
            const data = new Uint8Array(8 << 20).map((_, index) => (index * 7 + (index >> 8)) % 256);
            const got = await (await fetch('/data')).arrayBuffer();
            const put = await (await fetch('/data', { method: 'POST', body: data })).text();
            const equal = await sum(got) === await sum(data);
            const protocols = performance.getEntriesByType('resource').map(entry => entry.nextHopProtocol);
            await fetch('/report', { method: 'POST', body:
                `${navigation.nextHopProtocol} ${[...new Set(protocols)]} ${got.byteLength} ${equal} ${put}` });";
        let page = format!("<!doctype html><title>page</title><script type='module'>{script}</script>");
        let data = Bytes::from_iter((0..LENGTH).map(|index| (index * 7 + (index >> 8)) as u8));
        let expected = Arc::new(data.clone());
        let (reported, mut reports) = mpsc::unbounded_channel();
        let app = Router::new()
            .route("/", get(|| async { Html(page) }))
            .route("/data", get(|| async { data }).post(|body: Bytes| async move { (body == *expected).to_string() }))
            .route(
                "/report",
                axum::routing::post(|body: String| async move {
                    let _ = reported.send(body);
                }),
            )
            .layer(DefaultBodyLimit::max(2 * LENGTH));
        let identity = Identity::self_signed_for(["localhost"], TWO_WEEKS).unwrap();
        use base64::Engine as _;
        let spki = base64::engine::general_purpose::STANDARD.encode(identity.public_key_sha256());
        let any = "127.0.0.1:0".parse().unwrap();
        let server = Server::builder().identity(identity).alpn([sendstream_h3::ALPN]).bind(any).unwrap();
        let port = server.local_addr().unwrap().port();
        tokio::spawn(async move { sendstream_h3::serve(server, app).await });
        let arguments = [
            "--host-resolver-rules=MAP localhost 127.0.0.1".to_owned(),
            format!("--origin-to-force-quic-on=localhost:{port}"),
            format!("--ignore-certificate-errors-spki-list={spki}"),
        ];
        let Some(_browser) = Browser::open(&format!("https://localhost:{port}/"), &arguments) else { return };
        let report = timeout(HANG, reports.recv()).await.expect("no report");
        assert_eq!(report.as_deref(), Some("h3 h3 8388608 true true"));
    });
}

/// What cargo has built beside this test.
fn example(name: &str) -> Command {
    let deps = std::env::current_exe().unwrap();
    let path = deps.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build -p sendstream-web-transport --examples`", path.display());
    Command::new(path)
}

#[test]
fn pages_chat() {
    run(async {
        let mut chat = tokio::process::Command::from(example("chat"));
        let mut chat = chat.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(chat.stdout.take().unwrap()).lines();
        let url = timeout(HANG, lines.next_line()).await.expect("no address").unwrap().unwrap();
        // The example's page, which also tells what it shows, and says something once it is connected.
        let address = url.strip_prefix("http://").unwrap();
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let (_, page) = answer.split_once("\r\n\r\n").unwrap();
        let watch = "<script type='module'>
            const [messages, state] = ['messages', 'state'].map(id => document.getElementById(id));
            new MutationObserver(() => fetch('/', { method: 'POST', body: messages.textContent })).observe(
                messages, { childList: true });
            const say = () => {
                document.getElementById('message').value = 'hello <b>';
                document.getElementById('form').requestSubmit();
            };
            const ready = setInterval(() => {
                if (state.textContent === 'Connected.') { clearInterval(ready); say(); }
            }, 50);
            </script>";
        let (url, mut reports) = web(page.to_owned() + watch).await;
        let Some(_browser) = Browser::open(&url, &[]) else { return };
        let report = timeout(HANG, reports.recv()).await.expect("no report");
        assert_eq!(report.as_deref(), Some("hello <b>"));
    });
}
