//! The other way round: `share` waits with files, and `get` comes for them.

use std::{
    fs,
    io::Read as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    crowd::{Greedy, half_open, nobody},
    resume::{Link, there_in},
    support::{
        Files, HANG, NO_SETTINGS, Process, Receiver, Secret, TicketParts, digest, list, noise, packets::first_packets,
        readdress, send, sendstream, spoil, stderr, stdout_object, until,
    },
};

/// A `sendstream share --json`.
pub(crate) struct Sharer {
    process: Process,
    pub(crate) ticket: String,
    announced: Value,
}

impl Sharer {
    pub(crate) fn start(args: &[&str], files: &[&Path]) -> Self {
        let mut command = sendstream();
        command.args(["share", "--json", "--listen", "127.0.0.1:0"]).args(args).args(files);
        let process = Process::start(command);
        let announced = process.object();
        let ticket = announced["ticket"].as_str().expect("the first object holds the ticket").to_owned();
        Self { process, ticket, announced }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        TicketParts::of(&self.ticket).address.into()
    }

    /// Waits for the summary of the next session that ends.
    pub(crate) fn session(&self) -> Value {
        self.process.object()
    }

    pub(crate) fn says(&self, text: &str) {
        self.process.says(text);
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }
}

/// Where a getter puts its files, and whatever must not be touched beside them.
pub(crate) struct Getter(TempDir);

impl Getter {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        self.0.path().join("inbox")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.inbox().join(name)
    }

    /// The names of everything below the directory that holds the inbox.
    pub(crate) fn everything(&self) -> Vec<String> {
        list(self.0.path())
    }

    /// Runs `sendstream get --json` to its end.
    pub(crate) fn get(&self, args: &[&str], ticket: &str) -> Output {
        assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("sendstream"))
            .env("XDG_CONFIG_HOME", NO_SETTINGS)
            .args(["get", "--json"])
            .args(args)
            .arg(ticket)
            .arg(self.inbox())
            .timeout(HANG)
            .output()
            .unwrap()
    }

    /// The same, which must succeed without a failure, and what it says to programs.
    fn gets_well(&self, args: &[&str], ticket: &str) -> Value {
        let output = self.get(args, ticket);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout_object(&output)
    }

    /// Starts it.
    pub(crate) fn start(&self, args: &[&str], ticket: &str) -> Process {
        let mut command = sendstream();
        command.args(["get", "--json"]).args(args).arg(ticket).arg(self.inbox());
        Process::start(command)
    }

    fn wait_for(&self, bytes: u64) {
        until("so much is there", || there_in(&self.inbox()) >= bytes);
    }
}

#[test]
fn a_file_goes_from_share_to_get_and_both_ends_say_the_same() {
    let (files, getter) = (Files::new(), Getter::new());
    let content = noise(1, 3_000_000);
    let sharer = Sharer::start(&[], &[&files.file("file", &content)]);
    assert_eq!(sharer.announced["command"], format!("sendstream get {}", sharer.ticket));
    for (outcome, there, sent) in [("arrived", 0, content.len()), ("was-there", 1, 0)] {
        let (got, shared) = (getter.gets_well(&[], &sharer.ticket), sharer.session());
        assert_eq!((&got["direction"], &shared["direction"]), (&"received".into(), &"sent".into()));
        for summary in [&got, &shared] {
            assert_eq!((&summary["ok"], &summary["digest"]), (&true.into(), &digest(&content).into()), "{summary}");
            assert_eq!(
                (&summary["announced"], &summary["files_there"], &summary["content_sent"]),
                (&1.into(), &there.into(), &sent.into()),
                "{summary}"
            );
            assert_eq!(summary["files"][0]["outcome"], outcome, "{summary}");
        }
        assert!(fs::read(getter.path("file")).unwrap() == content);
    }
    assert_eq!(getter.everything(), ["inbox/file"]);
}

#[test]
fn a_directory_arrives_with_everything_in_it() {
    let (files, getter) = (Files::new(), Getter::new());
    for number in 0..2000 {
        files.file(&format!("tree/{}/{number}", number % 7), &noise(number, number as usize));
    }
    fs::create_dir(files.path("tree/empty")).unwrap();
    fs::set_permissions(files.path("tree/0/7"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("0/7", files.path("tree/link")).unwrap();
    let sharer = Sharer::start(&["--links", "keep", "--exclude", "14"], &[&files.path("tree")]);
    let got = getter.gets_well(&[], &sharer.ticket);
    assert_eq!((&got["files_ok"], &got["directories_ok"]), (&2000.into(), &9.into()), "{got}");
    assert_eq!(sharer.session()["digest"], got["digest"]);
    for number in [0, 1, 1999] {
        let name = format!("tree/{}/{number}", number % 7);
        assert!(fs::read(getter.path(&name)).unwrap() == noise(number, number as usize), "{name}");
    }
    assert!(getter.path("tree/empty").is_dir() && !getter.path("tree/0/14").exists());
    assert_eq!(fs::metadata(getter.path("tree/0/7")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_link(getter.path("tree/link")).unwrap(), Path::new("0/7"));
}

#[test]
fn a_get_that_is_killed_goes_on_where_it_was() {
    let (files, getter) = (Files::new(), Getter::new());
    let content = noise(1, 32 << 20);
    let sharer = Sharer::start(&["--limit", "64M"], &[&files.file("file", &content)]);
    for part in [4, 12, 20] {
        let mut killed = getter.start(&[], &sharer.ticket);
        getter.wait_for(part << 20);
        killed.signal("KILL");
        killed.wait();
    }
    let before = there_in(&getter.inbox());
    let got = getter.gets_well(&[], &sharer.ticket);
    assert_eq!(got["digest"], digest(&content));
    let sent = got["content_sent"].as_u64().unwrap();
    assert!(sent <= content.len() as u64 - before, "{sent} bytes were sent again after {before} were there");
    assert!(fs::read(getter.path("file")).unwrap() == content);
    assert_eq!(getter.everything(), ["inbox/file"]);
}

#[test]
fn an_outage_does_not_end_a_get() {
    let (files, getter) = (Files::new(), Getter::new());
    let content = noise(1, 32 << 20);
    let mut sharer = Sharer::start(&["--once", "--limit", "64M"], &[&files.file("file", &content)]);
    let link = Link::new(sharer.address());
    let mut process = getter.start(&[], &readdress(&sharer.ticket, link.address));
    getter.wait_for(4 << 20);
    link.set_up(false);
    process.says("trying again");
    link.set_up(true);
    process.says("going on");
    for summary in [process.object(), sharer.session()] {
        assert_eq!((&summary["ok"], &summary["digest"]), (&true.into(), &digest(&content).into()), "{summary}");
    }
    assert_eq!((process.wait().code(), sharer.wait().code()), (Some(0), Some(0)));
    assert!(fs::read(getter.path("file")).unwrap() == content);
}

#[test]
fn several_get_at_once_and_none_waits_for_another() {
    let files = Files::new();
    let content = noise(1, 16 << 20);
    let sharer = Sharer::start(&["--limit", "32M"], &[&files.file("file", &content)]);
    let getters = [Getter::new(), Getter::new(), Getter::new()];
    let mut running: Vec<_> = getters.iter().map(|getter| getter.start(&[], &sharer.ticket)).collect();
    getters.iter().for_each(|getter| getter.wait_for(1 << 20));
    // One does nothing any more, and the others do not mind.
    running[0].signal("STOP");
    for (getter, process) in getters.iter().zip(&mut running).skip(1) {
        assert_eq!(process.object()["digest"], digest(&content));
        assert_eq!(process.wait().code(), Some(0));
        assert!(fs::read(getter.path("file")).unwrap() == content);
        assert_eq!(sharer.session()["ok"], true);
    }
    running[0].signal("CONT");
    assert_eq!(running[0].object()["digest"], digest(&content));
    assert_eq!(sharer.session()["ok"], true);
}

#[test]
fn who_has_another_token_gets_nothing() {
    let (files, getter) = (Files::new(), Getter::new());
    let sharer = Sharer::start(&[], &[&files.file("secret", b"content")]);
    for (which, kind, why) in [
        (Secret::Token, "refused", "refused the ticket's token; nothing was received"),
        (Secret::Certificate, "certificate", "another certificate than the ticket says"),
    ] {
        let output = getter.get(&[], &spoil(&sharer.ticket, which));
        assert_eq!(output.status.code(), Some(1));
        let object = stdout_object(&output);
        assert_eq!((&object["ok"], &object["kind"]), (&false.into(), &kind.into()), "{object}");
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
        assert!(object["hint"].as_str().unwrap().contains("sendstream share"), "{object}");
    }
    sharer.says("turned away: it has the wrong token; nothing was sent");
    assert!(getter.everything().is_empty());
    getter.gets_well(&[], &sharer.ticket);
}

#[test]
fn a_ticket_for_the_other_direction_is_refused_with_the_command_that_fits() {
    let (files, getter) = (Files::new(), Getter::new());
    let file = files.file("file", b"content");
    let sharer = Sharer::start(&[], &[&file]);
    let output = send(&["--json"], &[&file], &sharer.ticket);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is of `sendstream share`, which sends; nothing was sent"), "{}", stderr(&output));
    let object = stdout_object(&output);
    assert!(object["kind"] == "refused" && object["hint"].as_str().unwrap().contains("sendstream get"), "{object}");
    sharer.says("it wants to send as well");

    let receiver = Receiver::start(&[]);
    let output = getter.get(&[], &receiver.ticket);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is of `sendstream recv`, which waits for files"), "{}", stderr(&output));
    let object = stdout_object(&output);
    assert!(object["kind"] == "refused" && object["hint"].as_str().unwrap().contains("sendstream send"), "{object}");
    receiver.says("it wants to receive as well");
    assert!(getter.everything().is_empty() && receiver.everything().is_empty());
}

#[test]
fn with_once_the_first_that_has_it_all_ends_it_and_one_that_is_killed_does_not() {
    let (files, getter) = (Files::new(), Getter::new());
    let content = noise(1, 16 << 20);
    let mut sharer = Sharer::start(&["--once", "--limit", "16M"], &[&files.file("file", &content)]);
    let mut killed = getter.start(&[], &sharer.ticket);
    getter.wait_for(1 << 20);
    killed.signal("KILL");
    killed.wait();
    // One that keeps what it has of another content has not got it.
    let other = Getter::new();
    fs::create_dir(other.inbox()).unwrap();
    fs::write(other.path("file"), b"other").unwrap();
    let output = other.get(&[], &sharer.ticket);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(sharer.session()["files"][0]["kind"], "exists");
    getter.gets_well(&[], &sharer.ticket);
    assert_eq!(sharer.session()["ok"], true);
    assert_eq!(sharer.wait().code(), Some(0));
    assert!(fs::read(getter.path("file")).unwrap() == content);
}

#[test]
fn with_once_the_first_that_has_all_that_can_be_read_ends_it() {
    let (files, getter) = (Files::new(), Getter::new());
    files.file("tree/good", b"content");
    files.file("tree/gone", b"content");
    std::os::unix::fs::symlink("nowhere", files.path("tree/dangling")).unwrap();
    let mut sharer = Sharer::start(&["--once"], &[&files.path("tree")]);
    fs::remove_file(files.path("tree/gone")).unwrap();
    let output = getter.get(&[], &sharer.ticket);
    assert_eq!((output.status.code(), sharer.wait().code()), (Some(1), Some(1)));
    for summary in [stdout_object(&output), sharer.session()] {
        let counts = ["announced", "files_ok", "files_skipped", "files_failed"].map(|name| summary[name].clone());
        assert_eq!(counts, [4, 1, 2, 0].map(Value::from), "{summary}");
    }
}

#[test]
fn with_once_an_interrupt_before_anybody_came_is_no_success() {
    let files = Files::new();
    let mut sharer = Sharer::start(&["--once"], &[&files.file("file", b"content")]);
    let mut receiver = Receiver::start(&["--once"]);
    sharer.signal("INT");
    receiver.signal("TERM");
    assert_eq!((sharer.wait().code(), receiver.wait().code()), (Some(130), Some(130)));
}

#[test]
fn with_once_one_that_is_in_the_middle_is_sent_away_with_a_reason() {
    let (files, first, second) = (Files::new(), Getter::new(), Getter::new());
    let content = noise(1, 16 << 20);
    let mut sharer = Sharer::start(&["--once", "--limit", "16M"], &[&files.file("file", &content)]);
    let mut stopped = first.start(&[], &sharer.ticket);
    first.wait_for(1 << 20);
    stopped.signal("STOP");
    second.gets_well(&[], &sharer.ticket);
    let (done, cut) = (sharer.session(), sharer.session());
    assert_eq!((&done["ok"], &cut["ok"], sharer.wait().code()), (&true.into(), &false.into(), Some(0)));
    stopped.signal("CONT");
    let summary = stopped.object();
    assert_eq!(summary["kind"], "refused", "{summary}");
    assert!(summary["error"].as_str().unwrap().contains("takes one receiver only"), "{summary}");
    assert_eq!(stopped.wait().code(), Some(1));
}

#[test]
fn strangers_without_the_token_keep_nobody_out() {
    let (files, getter) = (Files::new(), Getter::new());
    let sharer = Sharer::start(&[], &[&files.file("file", b"content")]);
    let client = nobody();
    half_open(&first_packets(&client, 100), sharer.address());
    let strangers: Vec<_> = (0..40).map_while(|_| Greedy::connect(&client, sharer.address(), 1)).collect();
    assert_eq!(strangers.len(), 40);
    let output = getter.get(&[], &sharer.ticket);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(fs::read(getter.path("file")).unwrap(), b"content");
}

#[test]
fn ctrl_c_lets_nobody_in_and_waits_for_those_that_are_there() {
    let (files, getter) = (Files::new(), Getter::new());
    let content = noise(1, 8 << 20);
    let mut sharer = Sharer::start(&["--limit", "4M"], &[&files.file("file", &content)]);
    let mut process = getter.start(&[], &sharer.ticket);
    getter.wait_for(1 << 20);
    sharer.signal("INT");
    sharer.says("ending when the transfer is done");
    let late = Getter::new().get(&[], &sharer.ticket);
    assert_eq!((late.status.code(), &stdout_object(&late)["kind"]), (Some(1), &"stopped".into()));
    assert_eq!(process.object()["digest"], digest(&content));
    assert_eq!((process.wait().code(), &sharer.session()["ok"]), (Some(0), &true.into()));
    assert_eq!(sharer.wait().code(), Some(0));
}

#[test]
fn after_ctrl_c_a_receiver_that_was_cut_off_may_still_come_again() {
    let (files, getter) = (Files::new(), Getter::new());
    let content = noise(1, 32 << 20);
    let mut sharer = Sharer::start(&["--limit", "8M"], &[&files.file("file", &content)]);
    let link = Link::new(sharer.address());
    let mut process = getter.start(&[], &readdress(&sharer.ticket, link.address));
    getter.wait_for(1 << 20);
    sharer.signal("INT");
    sharer.says("ending when the transfer is done");
    link.set_up(false);
    sharer.says("waiting for it");
    link.set_up(true);
    assert_eq!((&process.object()["ok"], &sharer.session()["ok"]), (&true.into(), &true.into()));
    assert_eq!((process.wait().code(), sharer.wait().code()), (Some(0), Some(0)));
}

#[test]
fn an_idle_sharer_that_is_ended_says_whether_all_went_well() {
    let (files, getter) = (Files::new(), Getter::new());
    let content = files.large();
    let mut idle = Sharer::start(&[], &[&content]);
    idle.signal("INT");
    assert_eq!(idle.wait().code(), Some(0));

    let mut sharer = Sharer::start(&["--limit", "1M"], &[&content]);
    let mut process = getter.start(&[], &sharer.ticket);
    getter.wait_for(1);
    process.signal("INT");
    assert_eq!(process.object()["kind"], "interrupted");
    assert_eq!(process.wait().code(), Some(130));
    let summary = sharer.session();
    assert_eq!((&summary["ok"], &summary["kind"]), (&false.into(), &"stopped".into()), "{summary}");
    sharer.says("the receiver was stopped by its user");
    sharer.signal("INT");
    assert_eq!(sharer.wait().code(), Some(1));
}

#[test]
fn a_second_ctrl_c_ends_a_sharer_at_once_and_its_receiver_keeps_what_it_has() {
    let (files, getter) = (Files::new(), Getter::new());
    let mut sharer = Sharer::start(&["--limit", "1M"], &[&files.large()]);
    let mut process = getter.start(&["--timeout", "1s"], &sharer.ticket);
    getter.wait_for(300_000);
    sharer.signal("INT");
    sharer.says("ending when the transfer is done");
    sharer.signal("INT");
    assert_eq!(sharer.wait().code(), Some(130));
    let summary = process.object();
    assert_eq!((&summary["ok"], &summary["files"][0]["kind"]), (&false.into(), &"broken-off".into()), "{summary}");
    assert_eq!(process.wait().code(), Some(1));
    assert!(there_in(&getter.inbox()) >= 300_000);
}

#[test]
fn what_cannot_be_read_is_told_at_both_ends_and_stops_no_other() {
    let (files, getter) = (Files::new(), Getter::new());
    files.file("tree/good", b"content");
    files.file("tree/gone", b"content");
    let sharer = Sharer::start(&[], &[&files.path("tree")]);
    fs::remove_file(files.path("tree/gone")).unwrap();
    let output = getter.get(&[], &sharer.ticket);
    assert_eq!(output.status.code(), Some(1));
    for summary in [stdout_object(&output), sharer.session()] {
        let counts = ["announced", "files_ok", "files_skipped", "files_failed"].map(|name| summary[name].clone());
        assert_eq!(counts, [3, 1, 1, 0].map(Value::from), "{summary}");
    }
    assert_eq!(fs::read(getter.path("tree/good")).unwrap(), b"content");
}

#[test]
fn a_file_that_is_there_is_replaced_only_if_that_is_wanted() {
    let (files, getter) = (Files::new(), Getter::new());
    let sharer = Sharer::start(&[], &[&files.file("file", b"new")]);
    fs::create_dir(getter.inbox()).unwrap();
    fs::write(getter.path("file"), b"old").unwrap();
    assert_eq!(getter.get(&[], &sharer.ticket).status.code(), Some(1));
    assert_eq!(fs::read(getter.path("file")).unwrap(), b"old");
    getter.gets_well(&["--overwrite"], &sharer.ticket);
    assert_eq!(fs::read(getter.path("file")).unwrap(), b"new");
}

#[test]
fn a_pipe_can_be_shared_with_one_and_a_file_can_go_to_a_pipe() {
    let (files, content) = (Files::new(), noise(1, 3_000_000));
    let path = files.file("file", &content);
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" share - --json --listen 127.0.0.1:0 <\"$1\""]).arg(sendstream().get_program());
    command.arg(&path).env("XDG_CONFIG_HOME", NO_SETTINGS);
    let mut sharer = Process::start(command);
    let ticket = sharer.object()["ticket"].as_str().unwrap().to_owned();
    let output = sendstream().args(["get", "--stdout", "--quiet", &ticket]).output().unwrap();
    assert!(output.status.success() && output.stdout == content, "{}", stderr(&output));
    assert!(
        stderr(&output).starts_with("received 1 file") && stderr(&output).lines().count() == 1,
        "{}",
        stderr(&output)
    );
    assert_eq!((&sharer.object()["ok"], sharer.wait().code()), (&true.into(), Some(0)));
}

#[test]
fn a_get_whose_pipe_nobody_reads_can_be_interrupted() {
    let files = Files::new();
    let sharer = Sharer::start(&[], &[&files.large()]);
    let mut command = sendstream();
    command.args(["get", "--stdout", "--quiet", "--stall-timeout", "1m", &sharer.ticket]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    process.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let interrupted = Command::new("kill").args(["-s", "INT", &process.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let mut status = None;
    until("it ends", || {
        status = process.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(130));
}

#[test]
fn quiet_is_quiet() {
    let (files, getter) = (Files::new(), Getter::new());
    let mut sharer = Sharer::start(&["--quiet", "--once"], &[&files.file("file", b"content")]);
    let output = getter.get(&["--quiet"], &sharer.ticket);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    assert_eq!(sharer.wait().code(), Some(0));
    assert_eq!(sharer.process.rest_of_notes(), [""; 0]);
}

#[test]
fn the_ticket_may_be_in_the_environment_and_what_is_none_is_wrong_usage() {
    let (files, getter) = (Files::new(), Getter::new());
    let sharer = Sharer::start(&[], &[&files.file("file", b"content")]);
    let run = |words: &[&str], ticket: &str| {
        let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("sendstream"));
        command.arg("get").args(words).env("SENDSTREAM_TICKET", ticket).timeout(HANG).output().unwrap()
    };
    let inbox = getter.inbox();
    let inbox = inbox.to_str().unwrap();
    let output = run(&[inbox], &sharer.ticket);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(fs::read(getter.path("file")).unwrap(), b"content");
    for (words, said) in [
        (&["sendstraem:abc", inbox][..], "too many words"),
        (&["sendstraem:abc"], "a ticket begins with `sendstream:`"),
        (&["sendstream:abc", inbox], "the ticket"),
        (&[&sharer.ticket, "-"], "`-` is no directory"),
        (&["--stdout", &sharer.ticket, inbox], "there is no directory to put files into"),
        (&[], "there is no ticket"),
    ] {
        let output = run(words, "");
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{words:?}: {}", stderr(&output));
    }
}
