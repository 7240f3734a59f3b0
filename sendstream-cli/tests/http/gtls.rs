//! ngtcp2's client and server, Debian's `gtlsclient` and `gtlsserver`, built with GnuTLS.
//!
//! Both end with status 0 whatever happened, so it is the files that count.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use crate::support::{
    Certified, HANG, Process, Web, digest, free_port, get, is_there, names, noise,
    relay::{Faults, Relay},
    stderr,
};

/// Runs `gtlsclient` at `port` for these names, which go into `into`.
fn gtlsclient(port: u16, args: &[&str], names: &[String], into: &Path) -> Output {
    let urls = names.iter().map(|name| format!("https://localhost:{port}/{name}"));
    assert_cmd::Command::new("gtlsclient")
        .args(["--exit-on-all-streams-close", "--no-quic-dump", "--no-http-dump", "--timeout=30s", "--download"])
        .arg(into)
        .args(args)
        .args(["127.0.0.1", &port.to_string()])
        .args(urls)
        .timeout(HANG)
        .output()
        .unwrap()
}

/// Fetches every file of the folder by `gtlsclient`, and compares.
fn all_arrive(web: &Web, port: u16, args: &[&str], names: &[String]) -> Output {
    let into = tempfile::tempdir().unwrap();
    let output = gtlsclient(port, args, names, into.path());
    for name in names {
        let arrived = fs::read(into.path().join(name));
        let arrived = arrived.unwrap_or_else(|error| panic!("{name}: {error}; {}", said(&output)));
        let sent = fs::read(web.path(name)).unwrap();
        assert!(arrived == sent, "{name}: {} of {} bytes; {}", arrived.len(), sent.len(), said(&output));
    }
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Makes a file of each size; returns their names.
fn files(web: &Web, sizes: impl IntoIterator<Item = usize>) -> Vec<String> {
    let make = |(index, size)| {
        let name = format!("file{index}");
        web.file(&name, &noise(index as u64, size));
        name
    };
    sizes.into_iter().enumerate().map(make).collect()
}

#[test]
fn gtlsclient_gets_files_of_every_size_and_a_hundred_at_once() {
    if !is_there("gtlsclient", "--help", "ngtcp2-client") {
        return;
    }
    let web = Web::start(&[]);
    let names = files(&web, [0, 1, 1 << 20]);
    all_arrive(&web, web.address.port(), &["--quiet"], &names);
    let names = files(&web, (0..100).map(|i| 5_000 + i));
    all_arrive(&web, web.address.port(), &["--quiet", "-n", "100"], &names);
}

#[test]
fn gtlsclient_gets_a_file_of_100_mib_over_good_and_lossy_networks() {
    if !is_there("gtlsclient", "--help", "ngtcp2-client") {
        return;
    }
    let web = Web::start(&[]);
    let lossy = Relay::start(web.address, Faults::none().lose(0.02));
    let names = files(&web, [100 << 20]);
    for port in [web.address.port(), lossy.address().port()] {
        all_arrive(&web, port, &["--quiet"], &names);
    }
}

#[test]
fn gtlsclient_resumes_with_0_rtt_where_it_may() {
    if !is_there("gtlsclient", "--help", "ngtcp2-client") {
        return;
    }
    for (args, early) in [(&["--zero-rtt"][..], true), (&[], false)] {
        let web = Web::start(args);
        let names = files(&web, [100_000]);
        let state = tempfile::tempdir().unwrap();
        let kept = |name: &str| format!("{}", state.path().join(name).display());
        let remember = [format!("--session-file={}", kept("session")), format!("--tp-file={}", kept("parameters"))];
        let remember: Vec<_> = remember.iter().map(String::as_str).collect();
        all_arrive(&web, web.address.port(), &[&remember[..], &["--quiet"]].concat(), &names);
        assert!(fs::exists(kept("session")).unwrap() && fs::exists(kept("parameters")).unwrap(), "a ticket came");
        let output = all_arrive(&web, web.address.port(), &remember, &names);
        let said = said(&output);
        assert!(said.contains(" 0RTT STREAM(0x0b) id=0x0 "), "the request was in the first packets: {said}");
        if !early {
            assert!((0..2).all(|_| web.logged()["early"] == false), "it waited");
        }
        assert_ne!(said.contains("Early data was rejected by server"), early, "{said}");
    }
}

#[test]
fn gtlsclient_updates_keys_and_moves() {
    if !is_there("gtlsclient", "--help", "ngtcp2-client") {
        return;
    }
    // Slow enough for something to be in the middle of a file.
    let slow = || Faults::none().delay(Duration::from_millis(5)).rate(20_000_000, HANG);
    for (args, faults, happened) in [
        (&["--key-update=20ms"][..], slow(), "Initiate key update"),
        (&["--change-local-addr=20ms"], slow(), "Changing local address"),
        // It ignores what comes by the earlier address. If it has nothing to send when it moves, the
        // server never hears of the new one: so it moves before it asks.
        (&["--change-local-addr=20ms", "--nat-rebinding", "--delay-stream=200ms"], slow(), "Changing local address"),
        // A NAT between gives it other ports while it gets the file.
        (&[], slow().rebind(50, 3), ""),
    ] {
        let web = Web::start(&[]);
        let names = files(&web, [8 << 20]);
        let relay = Relay::start(web.address, faults);
        let output = all_arrive(&web, relay.address().port(), args, &names);
        let said = said(&output);
        assert!(said.contains(happened), "{args:?}: {said}");
    }
}

#[test]
fn gtlsclient_gets_files_over_a_lossy_network() {
    if !is_there("gtlsclient", "--help", "ngtcp2-client") {
        return;
    }
    let web = Web::start(&[]);
    let relay = Relay::start(web.address, Faults::none().lose(0.02));
    let names = files(&web, [0, 1, 1 << 20]);
    all_arrive(&web, relay.address().port(), &["--quiet"], &names);
    let names = files(&web, (0..100).map(|i| 5_000 + i));
    all_arrive(&web, relay.address().port(), &["--quiet", "-n", "100"], &names);
}

/// A running `gtlsserver` with a folder.
struct GtlsServer {
    _process: Process,
    port: u16,
    folder: tempfile::TempDir,
}

impl GtlsServer {
    fn start(certified: &Certified) -> Option<Self> {
        // Debian has it where only root's commands are looked for.
        let program = ["gtlsserver", "/usr/sbin/gtlsserver"]
            .into_iter()
            .find(|it| Command::new(it).arg("--help").output().is_ok());
        let Some(program) = program else {
            is_there("gtlsserver", "--help", "ngtcp2-server");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["--quiet", "--htdocs"]).arg(folder.path()).args(["127.0.0.1", &port.to_string()]);
        command.args([certified.path("key"), certified.path("certificate")]);
        Some(Self { _process: Process::start(command), port, folder })
    }

    /// Makes a file of each size; returns their names.
    fn files(&self, sizes: impl IntoIterator<Item = usize>) -> Vec<String> {
        let make = |size| {
            // An empty file is none to it, and it answers 404. But a number as the path stands for that many bytes.
            let name = if size == 0 { "0".to_owned() } else { format!("file-of-{size}") };
            fs::write(self.folder.path().join(&name), noise(size as u64, size)).unwrap();
            name
        };
        sizes.into_iter().map(make).collect()
    }
}

/// Fetches the names by `http get`, and compares. The server may not listen yet.
fn fetch(server: &GtlsServer, port: u16, certified: &Certified, args: &[&str], wanted: &[String]) {
    let into = tempfile::tempdir().unwrap();
    let urls: Vec<_> = wanted.iter().map(|name| format!("https://localhost:{port}/{name}")).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let (ca, dir) = (certified.path("certificate"), into.path().to_str().unwrap().to_owned());
    let fixed = ["--quiet", "--ca", &ca, "--output-dir", &dir];
    let mut output = get(&[&fixed, args, &urls].concat());
    let begun = std::time::Instant::now();
    while stderr(&output).contains("nobody listens") && begun.elapsed() < HANG {
        output = get(&[&fixed, args, &urls].concat());
    }
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for name in wanted {
        let (arrived, sent) =
            (fs::read(into.path().join(name)).unwrap(), fs::read(server.folder.path().join(name)).unwrap());
        assert_eq!(digest(&arrived), digest(&sent), "{name}");
    }
    assert_eq!(names(into.path()).len(), wanted.len());
}

#[test]
fn gtlsserver_is_fetched_from_over_good_and_lossy_networks() {
    let certified = Certified::new();
    let Some(server) = GtlsServer::start(&certified) else { return };
    let small = server.files([0, 1, 1 << 20]);
    let many = server.files((0..100).map(|i| 5_000 + i));
    let sessions = tempfile::tempdir().unwrap();
    let sessions = ["--tls-sessions", sessions.path().to_str().unwrap()];
    let lossy = Relay::start(([127, 0, 0, 1], server.port).into(), Faults::none().lose(0.02));
    for wanted in [&small, &many] {
        fetch(&server, server.port, &certified, &sessions, wanted);
        fetch(&server, lossy.address().port(), &certified, &[], wanted);
    }
}

#[test]
fn gtlsserver_gives_a_file_of_100_mib_over_good_and_lossy_networks() {
    let certified = Certified::new();
    let Some(server) = GtlsServer::start(&certified) else { return };
    let lossy = Relay::start(([127, 0, 0, 1], server.port).into(), Faults::none().lose(0.02));
    let big = server.files([100 << 20]);
    for port in [server.port, lossy.address().port()] {
        fetch(&server, port, &certified, &[], &big);
    }
}
