//! Files and senders that are not let in, and what both ends say.

use std::{fs, process::Command};

use crate::support::{Files, Receiver, Secret, noise, send, send_well, sendstream, spoil, stderr, stdout_object};

#[test]
fn an_existing_file_is_not_overwritten() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    fs::write(receiver.path("x"), b"old").unwrap();
    // The one is refused while it is being sent, the other one arrives all the same.
    let (large, other) = (files.file("x", &noise(1, 20_000_000)), files.file("other", b"other"));
    let output = send(&["--json"], &[&large, &other], &receiver.ticket);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("x: it exists already at the receiver, and is another one"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("1 of 2 files did not arrive"));
    let sent = stdout_object(&output);
    assert_eq!((&sent["ok"], &sent["files_ok"], &sent["files_failed"]), (&false.into(), &1.into(), &1.into()));
    let received = receiver.session();
    assert_eq!((&received["ok"], &received["files_failed"]), (&false.into(), &1.into()));
    receiver.says("x: it exists already");
    assert_eq!(fs::read(receiver.path("x")).unwrap(), b"old");
    assert_eq!(fs::read(receiver.path("other")).unwrap(), b"other");
    assert_eq!(receiver.everything(), ["inbox/other", "inbox/x"]);
}

#[test]
fn an_existing_file_is_overwritten_when_the_receiver_was_told_so() {
    let (receiver, files) = (Receiver::start(&["--overwrite"]), Files::new());
    fs::write(receiver.path("x"), b"old").unwrap();
    send_well(&[&files.file("x", b"new")], &receiver.ticket);
    assert_eq!(fs::read(receiver.path("x")).unwrap(), b"new");
    assert_eq!(receiver.everything(), ["inbox/x"]);
}

#[test]
fn a_wrong_token_is_refused_and_the_receiver_goes_on() {
    let (receiver, files) = (Receiver::start(&["--once"]), Files::new());
    let file = files.file("x", b"x");
    let output = send(&[], &[&file], &spoil(&receiver.ticket, Secret::Token));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("refused the ticket's token"), "{}", stderr(&output));
    assert!(stderr(&output).contains("check the ticket"));
    assert_eq!(output.stdout, b"");
    receiver.says("turned away: it has the wrong token");
    assert!(receiver.everything().is_empty());
    send_well(&[&file], &receiver.ticket);
}

#[test]
fn a_wrong_certificate_is_refused_before_the_token_is_told() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let file = files.file("x", b"x");
    let output = send(&["--json"], &[&file], &spoil(&receiver.ticket, Secret::Certificate));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("has another certificate than the ticket says"), "{}", stderr(&output));
    assert!(stderr(&output).contains("check the ticket"));
    let summary = stdout_object(&output);
    assert_eq!(summary["ok"], false);
    assert!(summary["error"].as_str().unwrap().contains("certificate"));
    send_well(&[&file], &receiver.ticket);
}

#[test]
fn a_file_that_cannot_be_written_is_told_at_both_ends() {
    // The limit on file sizes stands for a full disk: a write fails in the middle.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "sh"]).arg(sendstream().get_program());
    let (receiver, files) = (Receiver::start_as(limited, &[]), Files::new());
    let (large, small) = (files.file("large", &noise(1, 5_000_000)), files.file("small", b"small"));
    let output = send(&[], &[&large, &small], &receiver.ticket);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("large: the receiver cannot store it: file too large"), "{}", stderr(&output));
    assert_eq!(receiver.session()["files_failed"], 1);
    receiver.says("large: cannot store it");
    assert_eq!(receiver.everything(), ["inbox/small"]);
}

#[test]
fn a_missing_file_is_told_at_both_ends_and_stops_no_other() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let output = send(&["--json"], &[&files.path("missing"), &files.file("x", b"x")], &receiver.ticket);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("missing: No such file"), "{}", stderr(&output));
    for summary in [stdout_object(&output), receiver.session()] {
        assert_eq!(
            (&summary["ok"], &summary["files_ok"], &summary["files_skipped"]),
            (&false.into(), &1.into(), &1.into())
        );
    }
    assert_eq!(receiver.everything(), ["inbox/x"]);

    let output = send(&[], &[&files.path("missing")], &receiver.ticket);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is nothing to send"), "{}", stderr(&output));
}
