//! Runs the examples as a reader would. Each checks what it shows, and says so with its exit
//! status.

mod support;

use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
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
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_echo_client_gets_back_what_it_sent_and_the_server_ends_on_ctrl_c() {
    let mut server = Server(
        Command::new(example("echo_server"))
            .arg("127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap(),
    );
    let mut ready = String::new();
    let mut stdout = BufReader::new(server.0.stdout.take().unwrap());
    stdout.read_line(&mut ready).unwrap();
    let (address, hash) = ready.trim().split_once(' ').unwrap();
    for message in ["hello", "", "ein längerer Gruß"] {
        let output = run("echo_client", [address, hash, message]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{message}\n"));
    }
    let wrong = run("echo_client", [address, &"0".repeat(64), "hello"]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("CertificateRefused"), "{wrong:?}");
    kill_process(Pid::from_child(&server.0), Signal::INT).unwrap();
    // Its output ends with it.
    let (done, rest) = mpsc::channel();
    thread::spawn(move || done.send(io::read_to_string(stdout)));
    rest.recv_timeout(HANG).expect("the server ends").unwrap();
    assert!(server.0.wait().unwrap().success());
}
