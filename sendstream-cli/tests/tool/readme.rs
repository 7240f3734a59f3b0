//! Every command of the READMEs, as it stands but for what its reader puts in: on two machines with one
//! cable and no way out. Network namespaces stand for the machines; they need root and `ip`.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

use crate::{
    reach::Cable,
    support::{Process, noise, stderr},
};

const TOOLS: &str = include_str!("../../README.md");
const WHOLE: &str = include_str!("../../../README.md");

/// The command lines of a README that run the tool, each without what it says about it.
fn commands(readme: &str) -> impl Iterator<Item = &str> {
    let lines = readme.lines().map(|line| line.trim_start().trim_start_matches("$ "));
    let is_one = |line: &&str| {
        let mut words = line.split(' ');
        matches!(words.next(), Some("sendstream" | "tar")) && words.next() != Some("=")
    };
    lines.filter(is_one).map(|line| line.split(" # ").next().unwrap().trim_end()).filter(|line| !line.is_empty())
}

/// What the text around the commands says of the other end of a pipe.
const TO_A_PIPE: &str = "recv --stdout | tar x";

/// The machine that the commands call "here", or "another"; and the one that waits, "there".
struct Machines {
    cable: Cable,
    here: TempDir,
    there: TempDir,
}

impl Machines {
    fn new() -> Option<Self> {
        let cable = Cable::lay()?;
        cable.ip("receiver", "address add 10.9.0.1/24 dev cable");
        cable.ip("sender", "address add 10.9.0.2/24 dev cable");
        let [here, there] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        for (name, len) in
            [("movie.mkv", 3_000_000), ("photos/a.jpg", 100_000), ("src/main.rs", 1000), ("src/main.o", 10)]
        {
            write(&here.path().join(name), &noise(1, len));
        }
        for (name, len) in [("public/a.iso", 3_000_000), ("movie.mkv", 2_000_000), ("photos/a.jpg", 200_000)] {
            write(&there.path().join(name), &noise(2, len));
        }
        Some(Self { cable, here, there })
    }

    /// A shell in the home of that machine's user, where `sendstream` is installed.
    fn shell(&self, name: &str, home: &Path, command: &str) -> Command {
        let mut shell = self.cable.on(name, "sh");
        let path =
            format!("{}:{}", cargo_bin!("sendstream").parent().unwrap().display(), std::env::var("PATH").unwrap());
        shell.args(["-c", command]).current_dir(home).env("PATH", path).env("HOME", home);
        for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"] {
            shell.env_remove(variable);
        }
        shell
    }

    /// Starts what waits there, once what waited before is gone, with its port.
    fn start_next(&self, waits: &mut Option<Process>, command: &str) {
        drop(waits.take());
        *waits = Some(self.start(command));
    }

    /// Starts what waits there.
    fn start(&self, command: &str) -> Process {
        Process::start(self.shell("receiver", self.there.path(), &format!("exec {command}")))
    }

    fn run(&self, command: &str) -> Output {
        well(command, self.shell("sender", self.here.path(), command))
    }

    /// A file of here is there by now, or was fetched from there.
    fn assert_same(&self, here: &str, there: &str) {
        let [here_is, there_is] =
            [self.here.path().join(here), self.there.path().join(there)].map(|path| fs::read(path).unwrap());
        assert!(here_is == there_is, "{there} there is not {here} here");
    }

    /// Runs a command that sends something to where one waits that was started by `waits`.
    fn send_to(&self, waits: &str, command: &str) {
        let receivers: Vec<_> = command.matches("TICKET").map(|_| self.start(waits)).collect();
        let tickets = receivers.iter().map(Process::line);
        self.run(&tickets.fold(command.to_owned(), |command, ticket| command.replacen("TICKET", &ticket, 1)));
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn well(name: &str, command: Command) -> Output {
    let output = assert_cmd::Command::from_std(command).timeout(crate::support::HANG).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{name}: {}", stderr(&output));
    output
}

#[test]
fn every_command_of_the_readmes_does_what_it_says_on_two_machines_without_a_way_out() {
    let Some(machines) = Machines::new() else { return };
    assert!(TOOLS.contains(TO_A_PIPE));
    let (mut waits, mut ticket) = (None, String::new());
    for command in commands(WHOLE).chain(commands(TOOLS)) {
        let line = || waits.as_ref().map(Process::line).unwrap();
        match command {
            "sendstream recv inbox" => {
                fs::remove_dir_all(machines.there.path().join("inbox")).ok();
                machines.start_next(&mut waits, command);
            }
            "sendstream send movie.mkv TICKET" => {
                machines.run(&command.replace("TICKET", &line()));
                machines.assert_same("movie.mkv", "inbox/movie.mkv");
            }
            "sendstream share movie.mkv" | "sendstream share photos/" => machines.start_next(&mut waits, command),
            "sendstream get TICKET here" => {
                machines.run(&command.replace("TICKET", &line()));
                machines.assert_same("here/movie.mkv", "movie.mkv");
            }
            "sendstream get TICKET inbox" => {
                machines.run(&command.replace("TICKET", &line()));
                machines.assert_same("inbox/photos/a.jpg", "photos/a.jpg");
            }
            "sendstream send photos/ TICKET TICKET" => {
                // Two that wait in one place would both want the same names.
                let other = machines.start("sendstream recv other");
                let command = command.replacen("TICKET", &other.line(), 1);
                machines.send_to("sendstream recv inbox", &command);
                machines.assert_same("photos/a.jpg", "inbox/photos/a.jpg");
                machines.assert_same("photos/a.jpg", "other/photos/a.jpg");
            }
            "tar c . | sendstream send - TICKET" => {
                let mut receiver = Process::start(machines.shell(
                    "receiver",
                    machines.there.path(),
                    &format!("mkdir unpacked && cd unpacked && sendstream {TO_A_PIPE}"),
                ));
                let typed = receiver.note_after("at the other machine, type");
                machines.run(&command.replace("TICKET", typed.rsplit(' ').next().unwrap()));
                assert!(receiver.wait().success());
                machines.assert_same("movie.mkv", "unpacked/movie.mkv");
            }
            "sendstream send --links keep --exclude '*.o' --limit 2M src/ TICKET" => {
                machines.send_to("sendstream recv inbox", command);
                machines.assert_same("src/main.rs", "inbox/src/main.rs");
                assert!(!machines.there.path().join("inbox/src/main.o").exists());
            }
            "sendstream recv --code inbox" => {
                fs::remove_dir_all(machines.there.path().join("inbox")).unwrap();
                machines.start_next(&mut waits, command);
            }
            "sendstream send movie.mkv 7-copper-lantern" => {
                let said = waits.as_ref().unwrap().note_with("or, on the same network, ");
                let code = said.trim_end_matches('`').rsplit(' ').next().unwrap();
                machines.run(&command.replace("7-copper-lantern", code));
                machines.assert_same("movie.mkv", "inbox/movie.mkv");
            }
            "sendstream recv --json inbox" => {
                let receiver = machines.start(command);
                machines.run(&format!("sendstream send photos {}", receiver.object()["ticket"].as_str().unwrap()));
                assert_eq!(receiver.object()["ok"], true);
            }
            "sendstream doctor" => {
                // What it finds on this machine is its own, and so is its exit status.
                let output = machines.shell("sender", machines.here.path(), command).output().unwrap();
                assert!(matches!(output.status.code(), Some(0 | 1)), "{}", stderr(&output));
            }
            "sendstream version" => drop(machines.run(command)),
            "sendstream peers invite laptop" => machines.start_next(&mut waits, command),
            "sendstream peers add server TICKET" => {
                machines.run(&command.replace("TICKET", &line()));
                fs::remove_dir_all(machines.there.path().join("inbox")).unwrap();
                machines.start_next(&mut waits, "sendstream recv --peers --listen :4433 inbox");
                waits.as_ref().unwrap().says("1 are invited");
            }
            // It is started once the other machine knows the ticket, as the port must be free till then.
            "sendstream recv --peers --listen :4433 inbox" => {}
            "sendstream send movie.mkv server" => {
                machines.run(command);
                machines.assert_same("movie.mkv", "inbox/movie.mkv");
            }
            "sendstream http serve public --with-tcp" => machines.start_next(&mut waits, command),
            "sendstream http get -o a.iso https://example.org/a.iso" => {
                // Its reader knows the name of a server that somebody vouches for.
                let typed = waits.as_ref().unwrap().note_with("sendstream http get --pin ");
                let (_, pinned) = typed.split_once("get ").unwrap();
                let (pin, url) = pinned.rsplit_once(' ').unwrap();
                let port = url.rsplit_once(':').unwrap().1.trim_end_matches('/');
                machines.run(
                    &command
                        .replace("example.org", &format!("10.9.0.1:{port}"))
                        .replace("get ", &format!("get {pin} ")),
                );
                machines.assert_same("a.iso", "public/a.iso");
                fs::remove_file(machines.here.path().join("a.iso")).unwrap();
            }
            "sendstream perf serve" => {
                machines.start_next(&mut waits, command);
                ticket = waits.as_ref().unwrap().line();
            }
            _ if command.starts_with("sendstream perf run ") => {
                // Two seconds show that it runs, as ten do.
                let length = if command.contains("-O 2") { "run -t 3" } else { "run -t 2" };
                machines.run(&command.replace("run", length).replace("TICKET", &ticket));
                if command.contains("--report") {
                    assert!(fs::read_to_string(machines.here.path().join("path.html")).unwrap().contains("<svg"));
                }
            }
            _ => panic!("nobody runs this command: {command}"),
        }
    }
}
