//! Runs the examples as a reader would. Each checks what it shows, and says so with its exit
//! status.

mod support;

use std::{
    ffi::OsStr,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use support::HANG;

/// What cargo has built beside this test.
fn example(name: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let path =
        deps.ancestors().nth(2).unwrap().join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is missing: run `cargo build -p sendstream --examples` first", path.display());
    path
}

/// Runs an example to its end, and kills it should it hang.
fn run<A: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = A>) -> Output {
    let child = Command::new(example(name))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = Pid::from_child(&child);
    let (done, output) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output().unwrap()));
    output.recv_timeout(HANG).unwrap_or_else(|_| {
        let _ = kill_process(id, Signal::KILL);
        panic!("{name} still runs after {HANG:?}");
    })
}

/// Runs an example that needs nothing else; what it printed.
fn runs_by_itself(name: &str) -> String {
    let output = run(name, [""; 0]);
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn one_buffer_reaches_many_peers() {
    assert_eq!(runs_by_itself("broadcast"), "16 peers received 8388608 bytes each\n");
}

#[test]
fn mutual_tls_accepts_who_is_vouched_for_and_nobody_else() {
    let printed = runs_by_itself("mtls");
    let verdicts: Vec<_> = printed.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(verdicts, ["accepted", "refused", "refused"], "{printed}");
}

#[test]
fn datagrams_have_their_fates() {
    let printed = runs_by_itself("datagrams");
    assert!(printed.contains("of 1000 datagrams"), "{printed}");
}

#[test]
fn a_server_is_trusted_on_first_use_and_a_changed_one_is_not() {
    let printed = runs_by_itself("custom_verifier");
    let lines: Vec<_> = printed.lines().collect();
    assert!(lines[0].starts_with("localhost is new") && lines[1] == "localhost is known", "{printed}");
    assert!(lines[2].starts_with("refused: "), "{printed}");
}

/// A process that does not outlive its test.
struct Server {
    process: Child,
    /// What it has printed first.
    words: Vec<String>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts an example, and waits for its first line.
    fn start<A: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = A>) -> Self {
        Self::of(Command::new(example(name)).args(arguments).stdin(Stdio::null()))
    }

    /// Starts it as the command says.
    fn of(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut server = Self { process, words: Vec::new(), stdout: Some(stdout) };
        let mut line = String::new();
        server.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        server.words = line.split_whitespace().map(str::to_owned).collect();
        server
    }

    fn ends_on_ctrl_c(&mut self) {
        self.ends_on(Signal::INT);
    }

    fn ends_on(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        // Its output ends with it.
        let (done, rest) = mpsc::channel();
        let stdout = self.stdout.take().unwrap();
        thread::spawn(move || done.send(io::read_to_string(stdout)));
        rest.recv_timeout(HANG).expect("the server ends").unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_echo_client_gets_back_what_it_sent_and_the_server_ends_on_ctrl_c() {
    let mut server = Server::start("echo_server", ["127.0.0.1:0"]);
    let (address, hash) = (server.words[0].as_str(), server.words[1].as_str());
    for message in ["hello", "", "ein längerer Gruß"] {
        let output = run("echo_client", [address, hash, message]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{message}\n"));
    }
    let wrong = run("echo_client", [address, &"0".repeat(64), "hello"]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("CertificateRefused"), "{wrong:?}");
    server.ends_on_ctrl_c();
}

/// As systemd does it: the socket is descriptor 3 of each start, and stays open between them.
#[cfg(target_os = "linux")]
#[test]
fn a_server_is_started_with_its_socket_again_and_again() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    for message in ["first", "second"] {
        // The shell moves the socket to where it belongs, and says whose it is.
        let mut command = Command::new("sh");
        command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" 3<&0 </dev/null"]);
        command.arg(example("socket_activation")).stdin(std::os::fd::OwnedFd::from(socket.try_clone().unwrap()));
        let mut server = Server::of(&mut command);
        assert_eq!(server.words[0], address);
        let output = run("echo_client", [&address, &server.words[1], message]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{message}\n"));
        server.ends_on(Signal::TERM);
    }
    let output = run("socket_activation", [""; 0]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("systemd-socket-activate"), "{output:?}");
}

#[test]
fn requests_are_answered_and_the_server_stops_in_good_order() {
    let mut server = Server::start("request_response", ["serve", "127.0.0.1:0"]);
    let (address, hash) = (server.words[0].as_str(), server.words[1].as_str());
    let output = run("request_response", ["ask", address, hash, "first", "second"]);
    assert_eq!((output.status.success(), output.stdout), (true, b"FIRST\nSECOND\n".to_vec()));

    let output = run("load", [address, hash, "4", "0.3", "1000"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && printed.contains(" 0 errors\n"), "{printed}");
    let answered: u64 = printed.lines().nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(answered > 10, "{printed}");
    server.ends_on_ctrl_c();
}

#[test]
fn a_tunnel_carries_both_directions_and_their_ends() {
    // The target sends back what it gets, in reverse, once it has all of it.
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let target_address = target.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for tcp in target.incoming() {
            let mut tcp = tcp.unwrap();
            let mut all = Vec::new();
            tcp.read_to_end(&mut all).unwrap();
            all.reverse();
            tcp.write_all(&all).unwrap();
        }
    });
    let exit = Server::start("tunnel", ["exit", "127.0.0.1:0", &target_address]);
    let entry = Server::start("tunnel", ["entry", "127.0.0.1:0", &exit.words[0], &exit.words[1]]);
    for length in [0, 1, 1 << 20] {
        let sent: Vec<u8> = (0..length).map(|number: usize| number as u8).collect();
        let mut tcp = TcpStream::connect(&entry.words[0]).unwrap();
        tcp.write_all(&sent).unwrap();
        tcp.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        tcp.read_to_end(&mut back).unwrap();
        back.reverse();
        assert!(back == sent, "{length} bytes were sent, {} came back", back.len());
    }
}

#[test]
fn a_file_comes_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..3_000_001_usize).map(|number| (number / 7) as u8).collect();
    fs::create_dir(folder.path().join("public")).unwrap();
    fs::write(folder.path().join("public/a file"), &content).unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    let server = Server::start("file_server", ["serve", folder.path().join("public").to_str().unwrap(), "127.0.0.1:0"]);
    let output = folder.path().join("output");
    let get = |name| run("file_server", ["get", &server.words[0], &server.words[1], name, output.to_str().unwrap()]);

    let got = get("a file");
    assert!(got.status.success(), "{got:?}");
    assert!(String::from_utf8_lossy(&got.stderr).contains("100% of 3000001 bytes"), "{got:?}");
    assert!(fs::read(&output).unwrap() == content);

    fs::remove_file(&output).unwrap();
    for name in ["nothing", "../secret", "/etc/passwd", ""] {
        assert!(!get(name).status.success(), "{name}");
        assert!(!output.exists(), "{name}");
    }
}

#[test]
fn a_slow_subscriber_misses_messages_and_holds_up_nobody() {
    let printed = runs_by_itself("publish");
    let missed = printed.trim().rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(printed.contains(" of 199 missed nothing") && missed > 0, "{printed}");
}
