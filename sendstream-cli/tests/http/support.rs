//! A served folder, a client that asks for anything, a server of anything.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use axum::{
    Router,
    http::{HeaderMap, Method, Request, StatusCode, Uri},
};
use bytes::{Buf as _, Bytes};
use sendstream::{CertificateHash, Client, Connection, Identity, Server, TransportConfig, Trust};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

#[path = "../../../sendstream/tests/support/python.rs"]
mod python;
#[allow(dead_code, reason = "the library's tests use all of it")]
#[path = "../../../sendstream/tests/support/relay.rs"]
pub(crate) mod relay;
#[allow(dead_code, reason = "the library's tests use all of it")]
#[path = "../../../sendstream/tests/support/soak.rs"]
pub(crate) mod soak;
#[allow(dead_code, reason = "the tests of the other commands use all of it")]
#[path = "../tool/support.rs"]
mod tool;

pub(crate) use python::python;
pub(crate) use tool::{Files, HANG, Process, digest, figure, noise, sendstream, stderr, until};

/// A running `sendstream http serve --json`.
pub(crate) struct Web {
    pub(crate) process: Process,
    pub(crate) url: String,
    pub(crate) pin: String,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl Web {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), args)
    }

    pub(crate) fn start_in(folder: TempDir, args: &[&str]) -> Self {
        let mut command = sendstream();
        command.args(["http", "serve", "--json", "--listen", "127.0.0.1:0"]).args(args).arg(folder.path());
        let process = Process::start(command);
        let announced = process.object();
        let text = |field: &str| announced[field].as_str().unwrap().to_owned();
        let address = announced["addresses"][0].as_str().unwrap().parse().unwrap();
        Self { process, url: text("url"), pin: text("certificate"), address, folder }
    }

    /// Where a file of the folder is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a file of the folder, and the folders above it.
    pub(crate) fn file(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Waits for the next line of the log.
    pub(crate) fn logged(&self) -> Value {
        self.process.object()
    }

    /// Runs `http get` for names in the folder, with the pin.
    pub(crate) fn get(&self, args: &[&str], names: &[&str]) -> Output {
        let urls: Vec<_> = names.iter().map(|name| format!("{}{name}", self.url)).collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        get(&[&["--pin", &self.pin], args, &urls].concat())
    }

    /// A client that is connected.
    pub(crate) fn client(&self) -> Http {
        Http::connect(self.address, &self.pin, TransportConfig::default())
    }
}

/// Runs `sendstream http get` to its end.
pub(crate) fn get(args: &[&str]) -> Output {
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("sendstream"))
        .args(["http", "get"])
        .args(args)
        .timeout(HANG)
        .output()
        .unwrap()
}

/// The objects that it printed, in the order of their URLs.
pub(crate) fn objects(output: &Output) -> Vec<Value> {
    let text = str::from_utf8(&output.stdout).unwrap();
    let mut objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    objects.sort_by_key(|object| object["url"].as_str().unwrap().to_owned());
    objects
}

/// A client that asks for anything, on one connection.
pub(crate) struct Http {
    runtime: Runtime,
    requests: h3::client::SendRequest<sendstream_h3::OpenStreams, Bytes>,
    pub(crate) connection: Connection,
    authority: String,
}

/// An answer whose content is still to come.
pub(crate) struct Pending<'a> {
    runtime: &'a Runtime,
    stream: h3::client::RequestStream<sendstream_h3::BidiStream, Bytes>,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr, pin: &str, transport: TransportConfig) -> Self {
        Self::try_connect(address, pin, transport).unwrap()
    }

    pub(crate) fn try_connect(
        address: SocketAddr,
        pin: &str,
        transport: TransportConfig,
    ) -> Result<Self, sendstream::ConnectError> {
        let runtime = Runtime::new().unwrap();
        let (requests, connection) = runtime.block_on(async {
            let pin: CertificateHash = pin.parse().unwrap();
            let client = Client::builder().alpn([sendstream_h3::ALPN]).trust(Trust::pinned([pin])).transport(transport);
            let connection = client.build().unwrap().connect(address, "localhost").await?;
            let (mut driver, requests) =
                h3::client::new(sendstream_h3::Connection::new(connection.clone())).await.unwrap();
            tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
            Ok::<_, sendstream::ConnectError>((requests, connection))
        })?;
        Ok(Self { runtime, requests, connection, authority: format!("localhost:{}", address.port()) })
    }

    /// Sends a request and waits for the answer, but not for its content.
    pub(crate) fn begin(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Pending<'_> {
        let uri =
            Uri::builder().scheme("https").authority(self.authority.as_str()).path_and_query(path).build().unwrap();
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        self.runtime.block_on(async {
            let mut stream = self.requests.clone().send_request(request).await.unwrap();
            // The answer may be there already, and the server want no more.
            let _ = stream.finish().await;
            let (head, ()) = stream.recv_response().await.unwrap().into_parts();
            Pending { runtime: &self.runtime, stream, status: head.status, headers: head.headers }
        })
    }

    /// The same with the content.
    pub(crate) fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut pending = self.begin(method, path, fields);
        let content = pending.rest().unwrap();
        (pending.status, pending.headers, content)
    }
}

impl Pending<'_> {
    /// Some more of the content.
    pub(crate) fn more(&mut self) -> Result<Option<Vec<u8>>, h3::error::StreamError> {
        self.runtime.block_on(async {
            let data = self.stream.recv_data().await?;
            Ok(data.map(|mut data| data.copy_to_bytes(data.remaining()).to_vec()))
        })
    }

    /// All that is still to come of it.
    pub(crate) fn rest(&mut self) -> Result<Vec<u8>, h3::error::StreamError> {
        let mut content = Vec::new();
        while let Some(more) = self.more()? {
            content.extend_from_slice(&more);
        }
        Ok(content)
    }
}

/// A server of whatever a router answers, in this process.
pub(crate) struct Other {
    // Dropping it ends the server.
    _runtime: Runtime,
    pub(crate) url: String,
    pub(crate) pin: String,
}

impl Other {
    pub(crate) fn start(app: Router) -> Self {
        let runtime = Runtime::new().unwrap();
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let pin = identity.certificate_sha256().to_string();
        let url = runtime.block_on(async {
            let server = Server::builder().identity(identity).alpn([sendstream_h3::ALPN]);
            let server = server.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let url = format!("https://127.0.0.1:{}/", server.local_addr().unwrap().port());
            tokio::spawn(async move { sendstream_h3::serve(server, app).await });
            url
        });
        Self { _runtime: runtime, url, pin }
    }

    pub(crate) fn get(&self, args: &[&str], path: &str) -> Output {
        get(&[&["--pin", &self.pin], args, &[&format!("{}{path}", self.url)]].concat())
    }
}

/// A certificate for `localhost` with its key, in files.
pub(crate) struct Certified {
    folder: TempDir,
}

impl Certified {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("certificate"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("key"), made.signing_key.serialize_pem()).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

/// A port of loopback that nobody has, by UDP.
pub(crate) fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether there is such a program; says that the test is skipped if not.
pub(crate) fn is_there(program: &str, argument: &str, package: &str) -> bool {
    let found = Command::new(program).arg(argument).output().is_ok();
    if !found {
        skip(&format!("there is no {program}; `sh .ci/tools tests` installs it (Debian: apt-get install {package})"));
    }
    found
}

/// Says that a test is skipped, also where the output of tests that pass is not shown.
pub(crate) fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or_default().to_owned();
    // The test runner may be in the middle of a line.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {reason}");
}

/// The names in a folder, sorted, hidden ones as well.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}
