//! Where a ticket may come from, and what may befall it on the way.

use std::{
    fs, iter,
    process::{Command, Output},
};

use crate::support::{Files, HANG, Receiver, send, sendstream, stderr, stdout_object};

/// `send` of one file, with what comes after it, in the environment and on standard input.
fn send_with(files: &Files, words: &[&str], environment: Option<&str>, input: &str) -> Output {
    let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("sendstream"));
    command.args(["send", "--json"]).arg(files.file("x", b"content")).args(words).timeout(HANG);
    if let Some(ticket) = environment {
        command.env("SENDSTREAM_TICKET", ticket);
    }
    command.write_stdin(input).output().unwrap()
}

#[test]
fn a_ticket_may_be_an_argument_several_of_them_in_the_environment_or_on_standard_input() {
    // A word that begins with a hyphen is an option, so a ticket that is torn before one is not taken.
    let whole = |receiver: &Receiver| [11, 60].iter().all(|place| !receiver.ticket[*place..].starts_with('-'));
    let receiver = iter::repeat_with(|| Receiver::start(&["--overwrite"])).find(whole).unwrap();
    let ticket = receiver.ticket.as_str();
    let (begin, end) = ticket.split_at(60);
    let wrapped = format!("{begin}\n{end}\n");
    let quoted = format!("\"{ticket}\"");
    let cases: [(&[&str], Option<&str>, &str); 9] = [
        (&[ticket], None, ""),
        (&[&wrapped], None, ""),
        (&[&quoted], None, ""),
        (&[begin, end], None, ""),
        (&["sendstream:", &begin[11..], end], None, ""),
        (&[], Some(ticket), ""),
        (&[], Some(&wrapped), ""),
        (&[], None, ticket),
        (&[], None, &wrapped),
    ];
    for (words, environment, input) in cases {
        let output = send_with(&Files::new(), words, environment, input);
        assert_eq!(output.status.code(), Some(0), "{words:?} {environment:?} {input:?}: {}", stderr(&output));
        assert_eq!(receiver.session()["ok"], true);
        assert_eq!(fs::read(receiver.path("x")).unwrap(), b"content");
    }
}

#[test]
fn the_ticket_on_standard_input_needs_no_end_of_it() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    // The shell holds the pipe open until `send` has ended.
    let mut command = Command::new("sh");
    command.args(["-c", "(echo \"$TICKET\"; exec sleep 1000) | { \"$@\"; kill $$; }", "sh"]);
    command.arg(sendstream().get_program()).arg("send").arg(files.file("x", b"x")).env("TICKET", &receiver.ticket);
    let mut sender = crate::support::Process::start(command);
    assert!(sender.line().starts_with("sent 1 file"));
    let _ = sender.wait();
}

#[test]
fn a_typo_is_told_from_a_cut_and_from_an_impostor_and_nobody_is_asked() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let ticket = receiver.ticket.as_str();
    let mut typo = ticket.to_owned();
    typo.replace_range(40..41, if &typo[40..41] == "x" { "y" } else { "x" });
    let cut = &ticket[..ticket.len() - 8];
    for (words, said) in [
        (&[typo.as_str()][..], "the ticket has a typo"),
        (&[cut], "the ticket is cut off"),
        (&[ticket, "notes.txt"], "the ticket has the character '.'"),
        (&["sendstream:192.0.2.7:4433/AAAA"], "of another release"),
        (&[ticket, "more"], "something is appended to it"),
    ] {
        let output = send_with(&files, words, None, "");
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{words:?}: {}", stderr(&output));
        assert_eq!(stdout_object(&output)["kind"], "ticket", "{words:?}");
    }
    let impostor = crate::support::spoil(ticket, crate::support::Secret::Certificate);
    let output = send_with(&files, &[&impostor], None, "");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout_object(&output)["kind"], "certificate");
    assert!(stderr(&output).contains("the ticket has no typo"), "{}", stderr(&output));
}

#[test]
fn without_a_ticket_it_is_said_where_one_may_be() {
    for (files, words) in [("empty", &[][..]), ("dash", &["-"])] {
        let output = send_with(&Files::new(), words, None, "");
        assert_eq!(output.status.code(), Some(2), "{files}: {}", stderr(&output));
        assert!(stderr(&output).contains("there is no ticket"), "{files}: {}", stderr(&output));
        assert!(stderr(&output).contains("SENDSTREAM_TICKET"), "{files}: {}", stderr(&output));
        assert_eq!(stdout_object(&output)["kind"], "ticket");
    }
}

#[test]
fn hostile_tickets_are_refused_with_a_sentence() {
    let files = Files::new();
    let long = format!("sendstream:{}", "A".repeat(100_000));
    for ticket in [long.as_str(), "sendstream:", "sendstream:////", "sendstream:\u{1b}[2J", "sendstream:AAAA"] {
        let output = send(&["--json"], &[&files.file("x", b"x")], ticket);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).lines().count() <= 2 && !stderr(&output).contains('\u{1b}'), "{}", stderr(&output));
    }
    // Also as an endless input.
    let mut command = Command::new("sh");
    command.args(["-c", "yes sendstream:AAAA | \"$@\"", "sh"]).arg(sendstream().get_program()).arg("send");
    let output = command.arg(files.file("x", b"x")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn a_receiver_prints_what_to_paste_and_a_picture_of_it() {
    let dir = tempfile::tempdir().unwrap();
    for (locale, dark) in [("C.UTF-8", '█'), ("C", '#')] {
        let mut command = sendstream();
        command.args(["recv", "--json", "--qr", "--listen", "127.0.0.1:0"]).arg(dir.path()).env("LC_ALL", locale);
        let receiver = crate::support::Process::start(command);
        let announced = receiver.object();
        let ticket = announced["ticket"].as_str().unwrap();
        assert_eq!(announced["command"], format!("sendstream send FILE... {ticket}"));
        receiver.says(&format!("  sendstream send FILE... {ticket}"));
        // The margin is light, and as wide as the code's rules have it.
        let margin = receiver.note_after("asks for this ticket");
        assert!(margin.len() > 20 && margin.chars().all(|c| c == dark), "{margin:?}");
    }
}

#[test]
fn nothing_is_received_into_a_directory_called_minus() {
    let parent = tempfile::tempdir().unwrap();
    let output = sendstream().args(["recv", "-"]).current_dir(parent.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`-` is no directory"), "{}", stderr(&output));
    assert!(fs::read_dir(parent.path()).unwrap().next().is_none());
}
