//! What a terminal shows, and what a pipe and a program get.

use std::{
    collections::HashSet,
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use serde_json::Value;

use crate::support::{Files, Process, Receiver, SLOW, noise, send, sendstream, stderr, until};

/// A terminal, and a process of which it is the standard error.
struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    /// Starts `command`. With `whole`, the terminal is also its standard input and output.
    fn start(mut command: Command, columns: u16, whole: bool) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name: CString = ptsname(&controller, Vec::new()).unwrap();
        let end: OwnedFd = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap().into();
        resize(&controller, columns);
        if whole {
            command.stdin(end.try_clone().unwrap()).stdout(end.try_clone().unwrap());
        } else {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        let child = command.env("TERM", "xterm").stderr(end).spawn().unwrap();
        drop(command);
        let keyboard = File::from(controller);
        let mut display = keyboard.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It fails when nobody has the other end any more.
            while let Ok(read @ 1..) = display.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { keyboard, screen, child }
    }

    /// All that was written to it.
    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    fn wait_for(&self, what: &str, mut is_shown: impl FnMut(&str) -> bool) {
        until(what, || is_shown(&self.screen()));
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: impl rustix::fd::AsFd, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// What was drawn, without what moves the cursor.
fn lines(screen: &str) -> Vec<String> {
    let mut text = String::new();
    let mut rest = screen.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => {
                text.push('\n');
                assert_eq!(rest.next(), Some('['), "{screen:?}");
                rest.by_ref().find(|c| c.is_ascii_alphabetic());
            }
            '\r' => text.push('\n'),
            c => text.push(c),
        }
    }
    text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// A sender whose transfer goes on for longer than the test wants.
fn slow_sender(columns: u16, locale: &str) -> (Receiver, Files, Terminal) {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let mut command = sendstream();
    command.env("LC_ALL", locale).env("NO_COLOR", "1").arg("send").args(SLOW);
    command.arg(files.file("small", b"x")).arg(files.large()).arg(&receiver.ticket);
    let terminal = Terminal::start(command, columns, false);
    (receiver, files, terminal)
}

#[test]
fn a_terminal_shows_percent_files_rate_and_time_left_in_every_locale_and_without_colours() {
    for locale in ["C.UTF-8", "C"] {
        let (_receiver, _files, mut terminal) = slow_sender(120, locale);
        terminal.wait_for("the bar has all of its parts", |screen| {
            lines(screen).iter().any(|line| {
                ["sending", "  0%", "1/2 files", "iB/200.00 MiB", "iB/s", "eta "].iter().all(|part| line.contains(part))
            })
        });
        terminal.end();
        let screen = terminal.screen();
        assert!(screen.is_ascii(), "{screen:?}");
        assert!(!screen.contains("\x1b[3") && !screen.contains("\x1b[0m"), "{screen:?}");
    }
}

#[test]
fn a_bar_follows_the_width_of_its_terminal() {
    let (_receiver, _files, mut terminal) = slow_sender(100, "C");
    terminal.wait_for("a long line", |screen| lines(screen).iter().any(|line| line.len() > 50));
    for columns in [40, 20, 90] {
        resize(&terminal.keyboard, columns);
        let before = terminal.screen().len();
        // The first lines may have been drawn before.
        let drawn = |screen: &str| lines(&screen[before..]).iter().filter(|line| line.contains('%')).count();
        terminal.wait_for("it is drawn anew", |screen| drawn(screen) >= 4);
        let screen = terminal.screen();
        let drawn = lines(&screen[before..]);
        for line in drawn.iter().filter(|line| line.contains('%')).skip(2) {
            assert!(line.len() < columns.into(), "{columns}: {line:?}");
        }
    }
    terminal.end();
}

#[test]
fn a_terminal_is_asked_for_the_ticket() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let mut command = sendstream();
    command.arg("send").arg(files.file("x", b"content"));
    let mut terminal = Terminal::start(command, 80, true);
    terminal.wait_for("it asks", |screen| screen.contains("ticket: "));
    // As a terminal pastes what another one had wrapped.
    let (begin, end) = receiver.ticket.split_at(50);
    terminal.keyboard.write_all(format!("{begin}\n{end}\n").as_bytes()).unwrap();
    assert!(terminal.child.wait().unwrap().success(), "{}", terminal.screen());
    assert_eq!(fs::read(receiver.path("x")).unwrap(), b"content");
}

#[test]
fn a_program_gets_events_while_a_transfer_is_under_way() {
    let (receiver, files) = (Receiver::start(&["--timeout", "1s"]), Files::new());
    let mut command = sendstream();
    command.args(["send", "--json"]).args(SLOW).arg(files.large()).arg(&receiver.ticket);
    let sender = Process::start(command);
    let events: Vec<Value> = (0..2).map(|_| serde_json::from_str(&sender.line()).unwrap()).collect();
    for event in &events {
        assert_eq!((&event["event"], &event["doing"]), (&"progress".into(), &"sending".into()), "{event}");
        assert_eq!((&event["total_bytes"], &event["total_files"]), (&(200 << 20).into(), &1.into()), "{event}");
        assert_eq!(event["current"], "large", "{event}");
        assert!(event["percent"].as_u64().unwrap() < 50, "{event}");
        assert!(event["bytes_per_second"].as_f64().unwrap() > 0.0 && event["eta_seconds"].as_f64().unwrap() > 0.0);
    }
    assert!(events[1]["bytes"].as_u64().unwrap() > events[0]["bytes"].as_u64().unwrap());
    drop(sender);
    assert_eq!(receiver.session()["ok"], false);
}

/// The writes to standard error that the system saw, by `strace`.
#[test]
fn a_line_is_one_write_however_long_its_parts() {
    if !Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: there is no strace");
        return;
    }
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    for number in 0..40 {
        files.file(&format!("many/{number}"), b"x");
        fs::create_dir_all(receiver.path("many")).unwrap();
        fs::write(receiver.path(&format!("many/{number}")), b"old").unwrap();
    }
    let trace = files.path("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=write,writev", "-e", "write=none", "-o"]).arg(&trace);
    command.arg(sendstream().get_program()).arg("send").arg(files.path("many")).arg(&receiver.ticket);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = stderr(&output).lines().count();
    let writes = fs::read_to_string(&trace).unwrap();
    let writes = writes.lines().filter(|line| line.contains("write(2,") || line.contains("writev(2,")).count();
    assert!(said >= 41, "{}", stderr(&output));
    // The failure has its hint on a line of its own.
    assert!((said - 1..=said).contains(&writes), "{writes} writes of {said} lines");
}

#[test]
fn lines_of_two_processes_stay_whole() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    fs::create_dir_all(receiver.path("many")).unwrap();
    for number in 0..300 {
        files.file(&format!("many/{number}"), b"x");
        fs::write(receiver.path(&format!("many/{number}")), b"old").unwrap();
    }
    let log = files.path("log");
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let log = OpenOptions::new().create(true).append(true).open(&log).unwrap();
            let mut command = sendstream();
            command.arg("send").arg(files.path("many")).arg(&receiver.ticket).stderr(log).stdout(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    for mut sender in senders {
        assert_eq!(sender.wait().unwrap().code(), Some(1));
    }
    let log = fs::read_to_string(&log).unwrap();
    let kinds: HashSet<_> = log.lines().map(|line| line.trim_start_matches(|c: char| c != ':').to_owned()).collect();
    assert!(log.lines().count() >= 602);
    assert!(kinds.len() <= 3, "{kinds:#?}");
}

#[test]
fn with_quiet_nothing_is_said_but_results_and_errors() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = sendstream();
    command.args(["recv", "--quiet", "--once", "--listen", "127.0.0.1:0"]).arg(dir.path());
    let mut receiver = Process::start(command);
    let ticket = receiver.line();
    let files = Files::new();
    let output = send(&["--quiet"], &[&files.file("x", &noise(1, 1000))], &ticket);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    assert!(receiver.wait().success());
    assert_eq!(receiver.rest_of_notes(), [""; 0]);
}

#[test]
fn an_idle_receiver_that_is_interrupted_tells_by_its_status_whether_transfers_failed() {
    for (kept, status) in [(false, 0), (true, 1)] {
        let (mut receiver, files) = (Receiver::start(&[]), Files::new());
        if kept {
            fs::write(receiver.path("x"), b"old").unwrap();
        }
        let output = send(&[], &[&files.file("x", b"new")], &receiver.ticket);
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        assert_eq!(receiver.session()["ok"], !kept);
        receiver.signal("INT");
        assert_eq!(receiver.wait().code(), Some(status));
    }
}
