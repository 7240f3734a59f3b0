//! Processes that stand still (SIGSTOP) for longer than connections live unheard: the clock goes
//! on, as it does for a virtual machine that is put aside. Whoever goes on again has what was sent,
//! or an error; and both can begin anew.
//!
//! Each side is a process of its own, this executable run for `server_process` or `client_process`.
#![cfg(unix)]

mod support;

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use ring::digest::{Context, SHA256};
use sendstream::{Bytes, CertificateHash, RecvStream, SendStream, TransportConfig, Trust, WriteError};
use support::{
    any_port, figure, pattern,
    peer::{pause, resume},
    run,
};

const ROLE: &str = "SENDSTREAM_TEST_STOPPED";
/// The server's address and certificate, for the client.
const TARGET: &str = "SENDSTREAM_TEST_STOPPED_TARGET";
const IDLE: Duration = Duration::from_secs(1);
/// Beyond the idle timeout of both sides.
const STOP: Duration = Duration::from_secs(3);

#[test]
fn a_stopped_server_costs_the_connection_and_nothing_else() {
    let mut sides = Sides::start();
    pause(&sides.server.child);
    // The client's connection ends meanwhile, which is an event.
    let sent = sides.client.hears("sent");
    resume(&sides.server.child);
    assert!(sent.contains("timed out: "), "{sent}");
    sides.agree(sent);
}

#[test]
fn a_stopped_client_costs_the_connection_and_nothing_else() {
    let mut sides = Sides::start();
    pause(&sides.client.child);
    let received = sides.server.hears("received");
    resume(&sides.client.child);
    assert!(received.contains("timed out: "), "{received}");
    let sent = sides.client_ends();
    sides.agree_on(sent, received);
}

#[test]
fn when_both_were_stopped_what_was_sent_arrives_or_is_an_error_on_both_sides() {
    let mut sides = Sides::start();
    pause(&sides.client.child);
    pause(&sides.server.child);
    thread::sleep(STOP);
    resume(&sides.server.child);
    resume(&sides.client.child);
    let sent = sides.client_ends();
    sides.agree(sent);
}

/// Both processes, with a transfer under way.
struct Sides {
    server: Side,
    client: Side,
}

impl Sides {
    fn start() -> Self {
        let mut server = Side::start("server_process", "");
        let target = server.hears("ready");
        let mut client = Side::start("client_process", &target);
        client.hears("under way");
        server.hears("under way");
        Self { server, client }
    }

    /// Has the client finish its stream; what it says of it.
    fn client_ends(&mut self) -> String {
        self.client.says("end");
        self.client.hears("sent")
    }

    fn agree(self, sent: String) {
        let mut sides = self;
        let received = sides.server.hears("received");
        sides.agree_on(sent, received);
    }

    /// `Ok` at the sender is `Ok` at the receiver, of the same bytes; and the next connection is as
    /// good as any.
    fn agree_on(mut self, sent: String, received: String) {
        figure(format_args!("sent: {sent}; received: {received}"));
        let is_whole = |outcome: &str| outcome.starts_with("whole");
        assert!(is_whole(&received) || !is_whole(&sent), "sent: {sent}; received: {received}");
        if is_whole(&sent) {
            assert_eq!(sent, received);
        }
        self.client.says("again");
        assert_eq!(self.client.hears("sent"), self.server.hears("received"));
    }
}

/// A process, and what is said to and heard from it.
struct Side {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Side {
    fn start(test: &str, target: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, test)
            .env(TARGET, target)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, lines }
    }

    /// What follows `word` on the next line that begins with it.
    fn hears(&mut self, word: &str) -> String {
        let rest = |line: String| line.strip_prefix(word).map(|rest| rest.trim().to_owned());
        self.lines.find_map(|line| rest(line.unwrap())).unwrap_or_else(|| panic!("it ended without having said {word}"))
    }

    fn says(&mut self, word: &str) {
        writeln!(self.stdin, "{word}").unwrap();
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- The processes ------------------------------------------------------------------------------

fn is_process(name: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|role| role == name)
}

/// For the test that started this one, behind whatever the test runner printed on the line.
fn say(what: std::fmt::Arguments<'_>) {
    println!("\n{what}");
    std::io::stdout().flush().unwrap();
}

fn settings() -> TransportConfig {
    TransportConfig::default().idle_timeout(IDLE).disconnect_timeout(IDLE)
}

/// Receives one stream of each connection that comes.
#[test]
fn server_process() {
    if !is_process("server_process") {
        return;
    }
    let identity = support::identity();
    let hash = identity.certificate_sha256();
    let server = support::server(&identity).transport(settings()).bind(any_port()).unwrap();
    say(format_args!("ready {} {hash}", server.local_addr().unwrap()));
    run(async move {
        while let Some(incoming) = server.accept().await {
            // The client may have given one up while this process stood still.
            let Ok(connection) = incoming.accept().await else { continue };
            match connection.accept_uni().await {
                Ok(stream) => say(format_args!("received {}", receive(stream).await)),
                Err(lost) => say(format_args!("received nothing: {lost}")),
            }
        }
    });
}

async fn receive(mut stream: RecvStream) -> String {
    let (mut length, mut digest) = (0, Context::new(&SHA256));
    loop {
        match stream.read_chunk().await {
            Ok(Some(chunk)) => {
                if length == 0 {
                    say(format_args!("under way"));
                }
                length += chunk.len();
                digest.update(&chunk);
            }
            Ok(None) => return format!("whole: {length} {:?}", digest.finish()),
            Err(error) => return format!("{length} bytes, then: {error}"),
        }
    }
}

/// Sends one stream until told to end it, then, on another connection, a second.
#[test]
fn client_process() {
    static END: AtomicBool = AtomicBool::new(false);
    if !is_process("client_process") {
        return;
    }
    let target = std::env::var(TARGET).unwrap();
    let (address, hash) = target.split_once(' ').unwrap();
    let hash: CertificateHash = hash.parse().unwrap();
    let (address, trust) = (address.parse().unwrap(), Trust::pinned([hash]));
    let client = support::client_with(trust).transport(settings()).build().unwrap();
    let (again, wanted) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for line in std::io::stdin().lines() {
            END.store(true, Ordering::SeqCst);
            if line.unwrap() == "again" {
                again.send(()).unwrap();
            }
        }
        // Whoever started this process has ended.
        std::process::exit(0);
    });
    run(async move {
        let connection = client.connect(address, "localhost").await.unwrap();
        let stream = connection.open_uni().unwrap();
        say(format_args!("sent {}", send(stream, || END.load(Ordering::SeqCst)).await));
        wanted.recv().unwrap();
        let connection = client.connect(address, "localhost").await.unwrap();
        let stream = connection.open_uni().unwrap();
        say(format_args!("sent {}", send(stream, || true).await));
        std::future::pending::<()>().await;
    });
}

/// A mebibyte, and more until `is_enough`.
async fn send(mut stream: SendStream, is_enough: impl Fn() -> bool) -> String {
    let template = pattern(64 << 10);
    let (mut length, mut digest) = (0, Context::new(&SHA256));
    for number in 0.. {
        if length >= 1 << 20 && is_enough() {
            break;
        }
        let mut chunk = template.clone();
        chunk[..8].copy_from_slice(&u64::to_be_bytes(number));
        digest.update(&chunk);
        if let Err(error) = stream.write_chunk(Bytes::from(chunk)).await {
            return format!("{length} bytes, then: {}", cause(error));
        }
        length += template.len();
        if length == 1 << 20 {
            say(format_args!("under way"));
        }
    }
    match stream.finished().await {
        Ok(()) => format!("whole: {length} {:?}", digest.finish()),
        Err(error) => format!("{length} bytes, then: {}", cause(error)),
    }
}

/// In the words that both sides have for it.
fn cause(error: WriteError) -> String {
    match error {
        WriteError::ConnectionLost(lost) => lost.to_string(),
        other => other.to_string(),
    }
}
