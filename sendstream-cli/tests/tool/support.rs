//! A running receiver, a sender, files to send.

#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "the library's tests use all of it")]
#[path = "../../../sendstream/tests/support/control_group.rs"]
pub(crate) mod control_group;
#[allow(dead_code, reason = "the library's tests use all of it")]
#[path = "../../../sendstream/tests/support/namespaces.rs"]
pub(crate) mod namespaces;
#[allow(dead_code, reason = "the library's tests use all of it")]
#[path = "../../../sendstream/tests/support/packets.rs"]
pub(crate) mod packets;

use std::{
    fmt::{Display, Write as _},
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{self, Receiver as Lines},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde_json::Value;
use tempfile::TempDir;

/// No step of any test takes nearly as long. It turns a hang into a failure.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// Where the settings of whoever runs the tests are not.
pub(crate) const NO_SETTINGS: &str = "/nonexistent";

/// The arguments of a `send` that takes minutes.
pub(crate) const SLOW: [&str; 2] = ["--limit", "1M"];

/// A `sendstream recv --json` in a directory of its own.
pub(crate) struct Receiver {
    process: Process,
    /// The line that senders need.
    pub(crate) ticket: String,
    /// Holds the inbox and whatever must not be touched beside it.
    parent: TempDir,
}

impl Receiver {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_as(sendstream(), args)
    }

    /// Starts it by a command of which the tool's arguments are the end.
    pub(crate) fn start_as(command: Command, args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), command, args)
    }

    /// Starts it by `command`, with an inbox in `parent`.
    pub(crate) fn start_in(parent: TempDir, mut command: Command, args: &[&str]) -> Self {
        command.args(["recv", "--json", "--listen", "127.0.0.1:0"]).args(args).arg(parent.path().join("inbox"));
        let process = Process::start(command);
        let ticket = process.object()["ticket"].as_str().expect("the first object holds the ticket").to_owned();
        Self { process, ticket, parent }
    }

    /// Starts another one with the same inbox.
    pub(crate) fn restart(self, args: &[&str]) -> Self {
        let Self { process, parent, .. } = self;
        drop(process);
        Self::start_in(parent, sendstream(), args)
    }

    /// Where the files arrive.
    pub(crate) fn inbox(&self) -> PathBuf {
        self.parent.path().join("inbox")
    }

    /// A path in the inbox.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.inbox().join(name)
    }

    /// The names of everything below the directory that holds the inbox, sorted; the inbox's own
    /// files begin with `inbox/`.
    pub(crate) fn everything(&self) -> Vec<String> {
        list(self.parent.path())
    }

    /// Waits for the summary of the next session that ends.
    pub(crate) fn session(&self) -> Value {
        self.process.object()
    }

    /// Waits for a line on standard error that contains `text`.
    pub(crate) fn says(&self, text: &str) {
        self.process.says(text);
    }

    /// Waits until a file is on its way in: some of its content is in the inbox, under no name of
    /// its own.
    pub(crate) fn wait_for_content(&self) {
        let is_part = |entry: fs::DirEntry| {
            entry.file_name().to_string_lossy().ends_with(".part")
                && entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
        };
        until("a file comes in", || fs::read_dir(self.inbox()).unwrap().any(|entry| is_part(entry.unwrap())));
    }

    /// Its process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        TicketParts::of(&self.ticket).address.into()
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }
}

/// A process whose output is read as it comes. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    stdout: Lines<String>,
    stderr: Lines<String>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::spawn(command)
    }

    /// Starts it with an input that ends when this is dropped.
    #[allow(dead_code, reason = "the tests of `http` use it")]
    pub(crate) fn start_with_input(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line of standard output.
    pub(crate) fn line(&self) -> String {
        self.stdout.recv_timeout(HANG).unwrap_or_else(|_| {
            let said: Vec<_> = self.stderr.try_iter().collect();
            panic!("no line on standard output; standard error: {said:#?}");
        })
    }

    /// Waits for the next line of standard output that is no event, and reads it as JSON.
    pub(crate) fn object(&self) -> Value {
        loop {
            let line = self.line();
            let object: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?} is no JSON: {error}"));
            if object.get("event").is_none() {
                return object;
            }
        }
    }

    /// Waits for the next line of standard error.
    #[allow(dead_code, reason = "the tests of `http` use it")]
    pub(crate) fn note(&self) -> String {
        self.stderr.recv_timeout(HANG).expect("a line on standard error")
    }

    /// What else it said on standard error, once it has ended.
    #[allow(dead_code, reason = "the tests of `http` have no use for it")]
    pub(crate) fn rest_of_notes(&self) -> Vec<String> {
        self.stderr.iter().collect()
    }

    /// The line on standard error after the one that contains `text`.
    #[allow(dead_code, reason = "the tests of `http` have no use for it")]
    pub(crate) fn note_after(&self, text: &str) -> String {
        self.says(text);
        self.note()
    }

    /// Waits for a line on standard error that contains `text`.
    pub(crate) fn says(&self, text: &str) {
        self.note_with(text);
    }

    /// The next line on standard error that contains `text`.
    pub(crate) fn note_with(&self, text: &str) -> String {
        let mut said = Vec::new();
        while let Ok(line) = self.stderr.recv_timeout(HANG) {
            if line.contains(text) {
                return line;
            }
            said.push(line);
        }
        panic!("nothing on standard error contains {text:?}: {said:#?}");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The tool.
pub(crate) fn sendstream() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("sendstream"));
    command.env("XDG_CONFIG_HOME", NO_SETTINGS);
    command
}

/// Runs `sendstream send` to its end.
pub(crate) fn send(args: &[&str], files: &[&Path], ticket: &str) -> Output {
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("sendstream"))
        .env("XDG_CONFIG_HOME", NO_SETTINGS)
        .arg("send")
        .args(args)
        .args(files)
        .arg(ticket)
        .timeout(HANG)
        .output()
        .unwrap()
}

/// Runs `sendstream send --json`, which must succeed without a word on standard error, and returns
/// its summary.
pub(crate) fn send_well(files: &[&Path], ticket: &str) -> Value {
    let output = send(&["--json"], files, ticket);
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
    stdout_object(&output)
}

/// The one JSON object on standard output beside events.
pub(crate) fn stdout_object(output: &Output) -> Value {
    let lines = str::from_utf8(&output.stdout).unwrap().lines();
    let objects = lines.map(|line| serde_json::from_str::<Value>(line).expect("a JSON object on each line"));
    let results: Vec<_> = objects.filter(|object| object.get("event").is_none()).collect();
    let [result] = results.as_slice() else { panic!("no single result: {results:?}") };
    result.clone()
}

pub(crate) fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// Files to send.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a file and the directories above it.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A file that no test sees the end of, if it is sent at a [`SLOW`] rate.
    pub(crate) fn large(&self) -> PathBuf {
        self.file("large", &noise(0, 200 << 20))
    }
}

/// `len` bytes without a pattern that could hide a mistake.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// The BLAKE3 digest as the tool prints it.
pub(crate) fn digest(content: &[u8]) -> String {
    blake3::hash(content).to_string()
}

/// A ticket of a single IPv4 address, taken apart. It is spelled out here once more, so that a change of
/// its form by accident shows.
#[derive(Clone)]
pub(crate) struct TicketParts {
    pub(crate) certificate: [u8; 32],
    pub(crate) token: [u8; 16],
    pub(crate) address: SocketAddrV4,
}

impl TicketParts {
    pub(crate) fn of(ticket: &str) -> Self {
        let bytes = BASE64URL.decode(ticket.strip_prefix("sendstream:").unwrap()).unwrap();
        let body = &bytes[4..];
        assert_eq!(bytes[..4], blake3::hash(body).as_bytes()[..4]);
        assert_eq!((body.len(), body[0], body[51]), (56, 2, 4), "a ticket of one IPv4 address");
        let ip: [u8; 4] = body[52..].try_into().unwrap();
        Self {
            certificate: body[1..33].try_into().unwrap(),
            token: body[33..49].try_into().unwrap(),
            address: SocketAddrV4::new(ip.into(), u16::from_be_bytes(body[49..51].try_into().unwrap())),
        }
    }
}

impl Display for TicketParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ip, port) = (self.address.ip().octets(), self.address.port().to_be_bytes());
        let body = [&[2], self.certificate.as_slice(), &self.token, &port, &[4], &ip].concat();
        let sum = blake3::hash(&body);
        write!(f, "sendstream:{}", BASE64URL.encode([&sum.as_bytes()[..4], &body].concat()))
    }
}

/// A ticket that is right in itself, but with one bit of its secret part changed.
pub(crate) fn spoil(ticket: &str, which: Secret) -> String {
    let mut parts = TicketParts::of(ticket);
    match which {
        Secret::Certificate => parts.certificate[0] ^= 1,
        Secret::Token => parts.token[0] ^= 1,
    }
    parts.to_string()
}

pub(crate) enum Secret {
    Certificate,
    Token,
}

/// A ticket that leads to another address.
pub(crate) fn readdress(ticket: &str, address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("{address} is none of IPv4") };
    TicketParts { address, ..TicketParts::of(ticket) }.to_string()
}

/// Whether tests take their long form, which `make soak` runs.
pub(crate) fn is_soak() -> bool {
    std::env::var_os("SENDSTREAM_SOAK").is_some()
}

/// Prints what a test held or survived, also where the output of tests that pass is not shown.
pub(crate) fn figure(what: impl Display) {
    // The test runner may be in the middle of a line.
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stdout(), "\nFIGURE {}::{test}: {what}", env!("CARGO_CRATE_NAME"));
}

/// Waits for something that announces itself in no other way than by being so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < HANG, "still waiting until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The paths of all files below `dir`, relative to it, sorted.
pub(crate) fn list(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The digest that the summary of several files has: that of a listing as `b3sum` prints it.
pub(crate) fn listing_digest<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_unstable();
    let mut listing = String::new();
    for (name, content) in files {
        writeln!(listing, "{}  {name}", digest(content)).unwrap();
    }
    digest(listing.as_bytes())
}

fn lines(output: impl Read + Send + 'static) -> Lines<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            // The test may have seen enough.
            let Ok(()) = sender.send(line.unwrap()) else { return };
        }
    });
    receiver
}
