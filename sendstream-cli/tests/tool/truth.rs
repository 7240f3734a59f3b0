//! Both ends say the same, whatever happened to an entry, and nothing odd stops the rest.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use crate::support::{
    Files, NO_SETTINGS, Process, Receiver, SLOW, digest, list, noise, send, send_well, sendstream, stderr,
    stdout_object,
};

/// What both ends must agree on.
const AGREED: [&str; 10] = [
    "ok",
    "announced",
    "files_ok",
    "files_there",
    "files_failed",
    "files_skipped",
    "directories_ok",
    "bytes",
    "digest",
    "files",
];

/// Sends, checks that both ends agree, and returns the exit status, what was said, and the summary.
fn agree(receiver: &Receiver, args: &[&str], files: &[&Path]) -> (Option<i32>, String, Value) {
    let output = send(&[&["--json"], args].concat(), files, &receiver.ticket);
    let (sent, mut received) = (stdout_object(&output), receiver.session());
    let mut own = sent.clone();
    for summary in [&mut own, &mut received] {
        let by_name = |file: &Value| file["name"].as_str().unwrap().to_owned();
        summary["files"].as_array_mut().unwrap().sort_by_key(by_name);
        // An end that refuses knows more of why.
        summary["files"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|file| drop(file.as_object_mut().unwrap().remove("error")));
    }
    for field in AGREED {
        assert_eq!(own[field], received[field], "{field}: {}", stderr(&output));
    }
    let all = ["files_ok", "files_failed", "files_skipped", "directories_ok"];
    let sum: u64 = all.iter().map(|field| sent[field].as_u64().unwrap()).sum();
    assert_eq!(sent["announced"], sum);
    assert_eq!(sent["ok"], output.status.success());
    (output.status.code(), stderr(&output).to_owned(), sent)
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_receiver_for_one_sender_fails_when_the_sender_could_not_read_all() {
    let (mut receiver, files) = (Receiver::start(&["--once"]), Files::new());
    for name in ["top/1", "top/2", "top/3"] {
        files.file(name, name.as_bytes());
    }
    let _socket = std::os::unix::net::UnixListener::bind(files.path("top/socket")).unwrap();
    let (status, said, summary) = agree(&receiver, &[], &[&files.path("top")]);
    assert_eq!(status, Some(1));
    assert!(said.contains("top/socket: it is neither a file nor a directory"), "{said}");
    assert_eq!((&summary["files_ok"], &summary["files_skipped"]), (&3.into(), &1.into()));
    assert_eq!(receiver.wait().code(), Some(1));
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_said_to_at_both_ends_and_is_not_kept() {
    for change in ["grows", "shrinks", "is written to"] {
        let (receiver, files) = (Receiver::start(&[]), Files::new());
        let path = files.file("log", &noise(1, 4 << 20));
        let mut command = sendstream();
        command
            .args(["send", "--json", "--limit", "2M"])
            .arg(&path)
            .arg(files.file("other", b"x"))
            .arg(&receiver.ticket);
        let mut sender = Process::start(command);
        receiver.wait_for_content();
        let mut file = fs::OpenOptions::new().append(change == "grows").write(true).open(&path).unwrap();
        match change {
            "grows" => file.write_all(b"more").unwrap(),
            "shrinks" => file.set_len(3 << 20).unwrap(),
            _ => file.write_all_at(b"other", 0).unwrap(),
        }
        sender.says("log: it changed while it was being sent");
        assert_eq!(sender.wait().code(), Some(1), "{change}");
        receiver.says("log: it changed while it was being sent");
        for summary in [sender.object(), receiver.session()] {
            assert_eq!(
                (&summary["ok"], &summary["files_ok"], &summary["files_skipped"]),
                (&false.into(), &1.into(), &1.into())
            );
            assert_eq!(summary["bytes"], 1);
        }
        assert_eq!(receiver.everything(), ["inbox/other"]);
    }
}

#[test]
fn files_of_the_systems_own_are_read_to_their_end() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let status = PathBuf::from("/proc/cpuinfo");
    let system = PathBuf::from("/sys/kernel/mm/transparent_hugepage/enabled");
    let sources: Vec<&Path> =
        [&status, &system].into_iter().filter(|path| path.exists()).map(PathBuf::as_path).collect();
    let (code, _, summary) = agree(&receiver, &[], &sources);
    assert_eq!((code, &summary["files_ok"]), (Some(0), &sources.len().into()));
    for source in sources {
        let name = source.file_name().unwrap().to_str().unwrap();
        assert_eq!(fs::read(receiver.path(name)).unwrap().is_empty(), fs::read(source).unwrap().is_empty(), "{name}");
    }
    drop(files);
}

#[test]
fn empty_directories_arrive() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    fs::create_dir_all(files.path("empty")).unwrap();
    fs::create_dir_all(files.path("top/a/b")).unwrap();
    let (status, _, summary) = agree(&receiver, &[], &[&files.path("empty"), &files.path("top")]);
    assert_eq!((status, &summary["directories_ok"]), (Some(0), &4.into()));
    assert!(receiver.path("empty").is_dir() && receiver.path("top/a/b").is_dir());
    let output = send(&[], &[&files.path("empty")], &receiver.ticket);
    assert!(str::from_utf8(&output.stdout).unwrap().starts_with("sent 1 directory"), "{output:?}");
}

#[test]
fn odd_names_arrive_as_they_are_and_are_shown_without_harm() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    files.file("top/plain", b"x");
    for name in [&b"Icon\r"[..], b"line\nbreak", b"\x1b[31mred", b"caf\xe9"] {
        fs::write(files.path("top").join(OsStr::from_bytes(name)), name).unwrap();
    }
    let (status, said, summary) = agree(&receiver, &[], &[&files.path("top")]);
    assert_eq!((status, &summary["files_ok"]), (Some(0), &5.into()), "{said}");
    for name in [&b"Icon\r"[..], b"line\nbreak", b"\x1b[31mred", b"caf\xe9"] {
        assert_eq!(fs::read(receiver.path("top").join(OsStr::from_bytes(name))).unwrap(), name);
    }
    // Refused, they are shown as escapes.
    fs::write(receiver.path("top").join(OsStr::from_bytes(b"\x1b[31mred")), b"another").unwrap();
    let (status, said, _) = agree(&receiver, &[], &[&files.path("top")]);
    assert_eq!(status, Some(1));
    assert!(!said.contains('\x1b') && said.contains("red: it exists already"), "{said}");
}

#[test]
fn what_cannot_be_read_is_told_all_at_once_and_stops_no_other() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    files.file("top/good", b"x");
    files.file("top/secret", b"x");
    files.file("top/closed/x", b"x");
    set_mode(files.path("top/secret"), 0);
    set_mode(files.path("top/closed"), 0);
    // Root reads everything, so it is somebody else who sends.
    set_mode(files.path("").as_path(), 0o755);
    let tool = sendstream();
    let open = tempfile::tempdir().unwrap();
    set_mode(open.path(), 0o755);
    let copy = open.path().join("sendstream");
    fs::copy(tool.get_program(), &copy).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
    command.args(["send", "--json"]).arg(files.path("top")).arg(&receiver.ticket);
    command.env("XDG_CONFIG_HOME", NO_SETTINGS);
    let Ok(output) = command.output() else { return eprintln!("SKIPPED: there is no setpriv") };
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    if said(&output).contains("setpriv") {
        return eprintln!("SKIPPED: only root can send as somebody else");
    }
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    for name in ["top/secret: cannot read it", "top/closed: Permission denied"] {
        assert!(said(&output).contains(name), "{}", said(&output));
    }
    for summary in [stdout_object(&output), receiver.session()] {
        assert_eq!((&summary["files_ok"], &summary["files_skipped"]), (&1.into(), &2.into()));
    }
    set_mode(files.path("top/closed"), 0o700);
}

#[test]
fn permissions_and_times_are_kept_and_never_widened() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    for (name, bits) in [("private", 0o600), ("run", 0o755), ("setuid", 0o4755), ("all", 0o666), ("read", 0o444)] {
        set_mode(files.file(&format!("top/{name}"), name.as_bytes()), bits);
    }
    fs::create_dir(files.path("top/closed")).unwrap();
    set_mode(files.path("top/closed"), 0o500);
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    for name in ["top/run", "top/closed", "top"] {
        fs::File::open(files.path(name)).unwrap().set_modified(old).unwrap();
    }
    send_well(&[&files.path("top")], &receiver.ticket);
    for (name, bits) in
        [("private", 0o600), ("run", 0o755), ("setuid", 0o755), ("all", 0o666), ("read", 0o444), ("closed", 0o500)]
    {
        assert_eq!(mode(receiver.path(&format!("top/{name}"))), bits, "{name}");
    }
    for name in ["top/run", "top/closed", "top"] {
        assert_eq!(fs::metadata(receiver.path(name)).unwrap().modified().unwrap(), old, "{name}");
    }
}

#[test]
fn a_file_that_is_replaced_has_the_permissions_of_its_source() {
    let (receiver, files) = (Receiver::start(&["--overwrite"]), Files::new());
    let source = files.file("x", b"new");
    set_mode(&source, 0o600);
    fs::write(receiver.path("x"), b"old").unwrap();
    set_mode(receiver.path("x"), 0o600);
    send_well(&[&source], &receiver.ticket);
    assert_eq!((mode(receiver.path("x")), fs::read(receiver.path("x")).unwrap()), (0o600, b"new".to_vec()));
}

#[test]
fn holes_stay_holes() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let path = files.path("sparse");
    let file = fs::File::create(&path).unwrap();
    file.set_len(512 << 20).unwrap();
    file.write_all_at(b"in the middle", 100 << 20).unwrap();
    let (status, _, summary) = agree(&receiver, &[], &[&path]);
    assert_eq!((status, &summary["bytes"]), (Some(0), &(512u64 << 20).into()));
    let there = fs::metadata(receiver.path("sparse")).unwrap();
    assert_eq!(there.len(), 512 << 20);
    assert!(there.blocks() < 2000, "{} blocks", there.blocks());
}

#[test]
fn links_are_sent_as_the_user_asks() {
    let files = Files::new();
    files.file("top/dir/x", b"content");
    symlink("dir/x", files.path("top/inside")).unwrap();
    symlink("/etc/passwd", files.path("top/outside")).unwrap();

    let receiver = Receiver::start(&[]);
    let (status, said, _) = agree(&receiver, &["--links", "keep"], &[&files.path("top")]);
    assert!(
        status == Some(1) && said.contains("top/outside: it is a symbolic link that leads, or could lead"),
        "{said}"
    );
    assert_eq!(fs::read_link(receiver.path("top/inside")).unwrap(), Path::new("dir/x"));
    assert!(fs::symlink_metadata(receiver.path("top/outside")).is_err());

    let receiver = Receiver::start(&[]);
    assert_eq!(agree(&receiver, &["--links", "follow"], &[&files.path("top")]).0, Some(0));
    assert!(fs::symlink_metadata(receiver.path("top/inside")).unwrap().is_file());
    assert_eq!(fs::read(receiver.path("top/outside")).unwrap(), fs::read("/etc/passwd").unwrap());

    let receiver = Receiver::start(&[]);
    assert_eq!(agree(&receiver, &["--links", "skip"], &[&files.path("top")]).0, Some(0));
    assert_eq!(list(&receiver.inbox()), ["top/dir/x"]);
}

#[test]
fn what_is_excluded_is_not_sent_and_a_dry_run_sends_nothing() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    for name in ["top/a.c", "top/a.o", "top/target/x"] {
        files.file(name, b"x");
    }
    let args = ["--exclude", "*.o", "--exclude", "target"];
    let output = send(&[&["--dry-run", "--json"][..], &args].concat(), &[&files.path("top")], &receiver.ticket);
    let plan = stdout_object(&output);
    assert_eq!((&plan["dry_run"], &plan["ok"], &plan["bytes"]), (&true.into(), &true.into(), &1.into()));
    let names: Vec<_> = plan["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["top", "top/a.c"]);
    assert!(receiver.everything().is_empty());
    assert_eq!(agree(&receiver, &args, &[&files.path("top")]).0, Some(0));
    assert_eq!(list(&receiver.inbox()), ["top/a.c"]);
}

#[test]
fn a_limit_is_kept_to() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let begin = std::time::Instant::now();
    send(&SLOW, &[&files.file("x", &noise(1, 2 << 20))], &receiver.ticket);
    assert!(begin.elapsed().as_secs_f64() > 1.5, "{:?}", begin.elapsed());
}

#[test]
fn what_is_there_already_is_success_and_is_not_sent() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let content = noise(1, 64 << 20);
    for number in 0..20 {
        files.file(&format!("top/{number}"), b"small");
    }
    files.file("top/large", &content);
    assert_eq!(agree(&receiver, &[], &[&files.path("top")]).0, Some(0));
    // At this rate it would take longer than any test.
    let (status, _, summary) = agree(&receiver, &["--limit", "100K"], &[&files.path("top")]);
    assert_eq!((status, &summary["files_ok"], &summary["files_there"]), (Some(0), &21.into(), &21.into()));
    fs::write(receiver.path("top/1"), b"other").unwrap();
    let (status, _, summary) = agree(&receiver, &[], &[&files.path("top")]);
    assert_eq!((status, &summary["files_failed"]), (Some(1), &1.into()));
    assert_eq!(fs::read(receiver.path("top/1")).unwrap(), b"other");
}

#[test]
fn a_pipe_is_sent_to_its_end() {
    let (receiver, _files) = (Receiver::start(&[]), Files::new());
    let content = noise(1, 5_000_000);
    let output = assert_cmd::Command::from_std(sendstream())
        .args(["send", "--json", "-", &receiver.ticket])
        .write_stdin(content.clone())
        .timeout(crate::support::HANG)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout_object(&output)["digest"], digest(&content));
    assert!(fs::read(receiver.path("stdin")).unwrap() == content);
    assert_eq!(mode(receiver.path("stdin")), 0o600);
}

#[test]
fn several_receivers_get_the_same_and_each_has_its_result() {
    let files = Files::new();
    let receivers = [(); 3].map(|()| Receiver::start(&[]));
    let content = noise(1, 20 << 20);
    files.file("top/large", &content);
    for number in 0..100 {
        files.file(&format!("top/{number}"), &noise(number, 1000));
    }
    // One has some of it, another one something else.
    fs::create_dir(receivers[0].path("top")).unwrap();
    fs::write(receivers[0].path("top/large"), &content).unwrap();
    fs::create_dir(receivers[1].path("top")).unwrap();
    fs::write(receivers[1].path("top/7"), b"something else").unwrap();
    let mut command = sendstream();
    command.args(["send", "--json"]).arg(files.path("top"));
    command.args(receivers.iter().map(|receiver| &receiver.ticket));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let lines = str::from_utf8(&output.stdout).unwrap().lines();
    let objects = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let summaries: Vec<_> = objects.filter(|object| object.get("event").is_none()).collect();
    for (number, (receiver, sent)) in receivers.iter().zip(&summaries).enumerate() {
        let received = receiver.session();
        for field in ["ok", "files_ok", "files_failed", "files_there", "digest"] {
            assert_eq!(sent[field], received[field], "{number}: {field}");
        }
        assert_eq!(sent["ok"], number != 1);
        assert!(fs::read(receiver.path("top/large")).unwrap() == content);
    }
    assert_eq!(summaries[0]["files_there"], 1);
}

#[test]
fn descriptors_are_waited_for_and_few_are_needed() {
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 40; exec \"$@\"", "sh"]).arg(sendstream().get_program());
    let (receiver, files) = (Receiver::start_as(limited, &[]), Files::new());
    for number in 0..3000 {
        files.file(&format!("top/{}/{number}", number % 50), b"x");
    }
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 40; exec \"$@\"", "sh"]).arg(sendstream().get_program());
    limited.args(["send", "--json"]).arg(files.path("top")).arg(&receiver.ticket);
    let output = limited.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(receiver.session()["files_ok"], 3000);
}

#[test]
fn a_file_can_go_to_standard_output_and_no_other_one_does() {
    let files = Files::new();
    let content = noise(1, 5_000_000);
    for (sources, status) in [(vec!["x"], 0), (vec!["x", "y"], 1)] {
        let mut command = sendstream();
        command.args(["recv", "--stdout", "--json", "--listen", "127.0.0.1:0"]).stdout(std::process::Stdio::piped());
        let mut receiver = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut said = std::io::BufReader::new(receiver.stderr.take().unwrap());
        let ticket = loop {
            let mut line = String::new();
            assert!(std::io::BufRead::read_line(&mut said, &mut line).unwrap() > 0);
            if let Ok(object) = serde_json::from_str::<Value>(&line) {
                break object["ticket"].as_str().unwrap().to_owned();
            }
        };
        let rest = std::thread::spawn(move || std::io::read_to_string(said).unwrap());
        let mut stdout = receiver.stdout.take().unwrap();
        let output = std::thread::spawn(move || {
            let mut output = Vec::new();
            std::io::Read::read_to_end(&mut stdout, &mut output).map(|_| output).unwrap()
        });
        let sources: Vec<_> = sources.into_iter().map(|name| files.file(name, &content)).collect();
        let sources: Vec<_> = sources.iter().map(PathBuf::as_path).collect();
        let sent = send(&[], &sources, &ticket);
        assert_eq!(sent.status.code(), Some(status), "{}", stderr(&sent));
        assert!(output.join().unwrap() == content);
        let rest = rest.join().unwrap();
        assert_eq!(receiver.wait().unwrap().code(), Some(status), "{rest}");
        assert_eq!(rest.contains("takes one file"), status == 1, "{rest}");
    }
}
