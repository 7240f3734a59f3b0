//! Known peers, and settings that stay.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use crate::support::{Files, HANG, Process, sendstream, stderr, stdout_object};

/// Somebody with a home of their own.
struct Person(tempfile::TempDir);

impl Person {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn home(&self) -> &Path {
        self.0.path()
    }

    fn sendstream(&self) -> Command {
        let mut command = sendstream();
        command.env("HOME", self.home()).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.sendstream().args(args).stdin(std::process::Stdio::null()).output().unwrap()
    }

    fn set(&self, settings: &str) {
        let folder = self.home().join(".config/sendstream");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), settings).unwrap();
    }

    /// A receiver for known peers, which says that it is ready.
    fn recv(&self, listen: &str) -> Process {
        let mut command = self.sendstream();
        command.args(["recv", "--json", "--peers", "--listen", listen]).arg(self.home().join("inbox"));
        Process::start(command)
    }

    /// Lets somebody send, and returns the ticket.
    fn invite(&self, name: &str, port: u16) -> String {
        let output = self.run(&["peers", "invite", name, "--advertise", "127.0.0.1", "--port", &port.to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_known_peer_sends_by_name_to_each_run_of_the_receiver_until_it_is_removed() {
    let (server, laptop, files, port) = (Person::new(), Person::new(), Files::new(), free_port());
    let ticket = server.invite("laptop", port);
    let added = laptop.run(&["peers", "add", "server", &ticket]);
    assert_eq!(added.status.code(), Some(0), "{}", stderr(&added));
    for name in ["first", "second"] {
        let receiver = server.recv(&format!("127.0.0.1:{port}"));
        assert_eq!(receiver.object()["peers"], 1);
        let file = files.file(name, name.as_bytes());
        let output = laptop.run(&["send", file.to_str().unwrap(), "server"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        receiver.says("(laptop): announces 1 file");
        assert_eq!(receiver.object()["ok"], true);
        assert_eq!(fs::read(server.home().join("inbox").join(name)).unwrap(), name.as_bytes());
    }
    let receiver = server.recv(&format!("127.0.0.1:{port}"));
    receiver.object();
    // What changes is known at once: who comes, and who goes.
    let phone = Person::new();
    phone.run(&["peers", "add", "server", &server.invite("phone", port)]);
    let file = files.file("third", b"x");
    assert_eq!(phone.run(&["send", file.to_str().unwrap(), "server"]).status.code(), Some(0));
    assert_eq!(server.run(&["peers", "remove", "laptop"]).status.code(), Some(0));
    let output = laptop.run(&["send", "--json", file.to_str().unwrap(), "server"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(stdout_object(&output)["kind"], "refused");
    receiver.says("it has the wrong token");
}

#[test]
fn what_stays_is_its_owners_alone_and_no_token_is_in_it() {
    let (server, laptop) = (Person::new(), Person::new());
    let ticket = server.invite("laptop", 4433);
    laptop.run(&["peers", "add", "server", &ticket]);
    for person in [&server, &laptop] {
        let folder = person.home().join(".local/share/sendstream");
        for path in [folder.clone(), folder.join("peers")] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
        }
        for entry in fs::read_dir(folder.join("peers")).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
    let identity = server.home().join(".local/share/sendstream/identity.pem");
    assert_eq!(fs::metadata(identity).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = stdout_object(&server.run(&["peers", "--json"]));
    assert_eq!(listed["peers"][0]["name"], "laptop");
    assert_eq!(listed["peers"][0]["may_send"], true);
    let listed = stdout_object(&laptop.run(&["peers", "--json"]));
    assert_eq!(listed["peers"][0]["reach"][0], "127.0.0.1:4433");
    assert_eq!(listed["peers"][0]["may_send"], false);
}

#[test]
fn wrong_words_about_peers_are_told() {
    let person = Person::new();
    fs::write(person.home().join("both"), "x").unwrap();
    let ticket = Person::new().invite("me", 1);
    assert_eq!(person.run(&["peers", "add", "both", &ticket]).status.code(), Some(0));
    person.invite("guest", 1);
    for (args, said) in [
        (&["peers", "add", "../x", "sendstream:"][..], "lower-case letters"),
        (&["peers", "add", "x", "photo.jpg"], "a ticket begins with"),
        (&["peers", "remove", "nobody"], "there is no peer called nobody"),
        (&["recv", "--peers"], "must find this end at the same port"),
        (&["send", "both", "both"], "is both a file here and a known peer"),
        (&["send", "both", "guest"], "it is not known how to send to guest"),
        (&["send", "both", "nobody"], "there is no ticket"),
    ] {
        let output =
            person.sendstream().args(args).current_dir(person.home()).stdin(std::process::Stdio::null()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn settings_are_defaults_and_wrong_ones_are_named_with_their_file() {
    let person = Person::new();
    person.set("[recv]\nlisten = \"127.0.0.1:0\"\nonce = true\n");
    let mut command = person.sendstream();
    command.args(["recv", "--json"]).arg(person.home().join("inbox"));
    let mut receiver = Process::start(command);
    let announced = receiver.object();
    assert!(announced["listening"].as_str().unwrap().starts_with("127.0.0.1:"), "{announced}");
    let (files, ticket) = (Files::new(), announced["ticket"].as_str().unwrap().to_owned());
    crate::support::send_well(&[&files.file("x", b"x")], &ticket);
    assert!(receiver.wait().success(), "once");

    person.set("[recv]\nlisten = \"nowhere\"\n");
    let output = person.run(&["recv"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("nowhere"), "{}", stderr(&output));
    person.set("[recv]\nport = 1\n");
    for args in [&["recv"][..], &["version"]] {
        let output = person.run(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("config.toml: `recv.port` cannot be set"), "{}", stderr(&output));
    }
    assert_eq!(person.run(&["recv", "--help"]).status.code(), Some(0), "help is there all the same");
}

#[test]
fn the_unit_of_systemd_is_well_formed_and_sandboxed() {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("package/sendstream-recv.service.in");
    let text = fs::read_to_string(template).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("sendstream-recv.service");
    let bindir = Path::new(sendstream().get_program()).parent().unwrap().to_str().unwrap().to_owned();
    fs::write(&unit, text.replace("@bindir@", &bindir)).unwrap();
    // What it runs is in the grammar.
    let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=@bindir@/sendstream ")).unwrap();
    let home = Person::new();
    let mut command = home.sendstream();
    let line = line.replace("/var/lib/sendstream/inbox", home.home().join("inbox").to_str().unwrap());
    command.args(line.replace(":4433", &format!(":{}", free_port())).split(' '));
    let mut receiver = Process::start(command);
    receiver.says("from known peers; 0 are invited");
    receiver.signal("TERM");
    assert!(receiver.wait().success());

    let verify =
        |args: &[&str]| assert_cmd::Command::new("systemd-analyze").args(args).arg(&unit).timeout(HANG).output();
    match verify(&["verify", "--man=no"]) {
        Ok(output) => assert!(output.status.success() && stderr(&output).is_empty(), "{}", stderr(&output)),
        Err(error) => return eprintln!("SKIPPED: systemd-analyze does not run: {error}"),
    }
    // systemd's own measure, of which 100 is no sandbox at all.
    let output = verify(&["security", "--offline=true", "--threshold=15", "--no-pager"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
