//! Ends that are killed or interrupted in the middle.

use std::net::UdpSocket;

use crate::support::{Files, Process, Receiver, SLOW, readdress, send, send_well, sendstream, stderr};

/// Starts to send a file so slowly that no test sees its end, and waits until some of it has arrived.
fn send_endlessly(files: &Files, receiver: &Receiver) -> Process {
    let mut command = sendstream();
    command.args(["send", "--json"]).args(SLOW).arg(files.large()).arg(&receiver.ticket);
    let sender = Process::start(command);
    receiver.wait_for_content();
    sender
}

#[test]
fn a_killed_sender_leaves_no_file_of_that_name_and_the_receiver_goes_on() {
    let (receiver, files) = (Receiver::start(&["--timeout", "5s"]), Files::new());
    let mut sender = send_endlessly(&files, &receiver);
    sender.signal("KILL");
    sender.wait();
    let session = receiver.session();
    assert_eq!(session["ok"], false);
    assert!(session["error"].as_str().unwrap().contains("the sender went silent"), "{session}");
    assert_eq!(session["files"][0]["name"], "large");
    assert_eq!(session["files"][0]["kind"], "broken-off");
    receiver.says("large: the session ended before all of it was there");
    receiver.says("stay, to go on from");
    send_well(&[&files.file("next", b"next")], &receiver.ticket);
    let everything = receiver.everything();
    assert!(everything.len() == 2 && everything[0].ends_with(".part"), "{everything:?}");
    assert_eq!(everything[1], "inbox/next");
}

#[test]
fn a_killed_receiver_ends_the_sender() {
    let (mut receiver, files) = (Receiver::start(&[]), Files::new());
    let mut sender = send_endlessly(&files, &receiver);
    receiver.signal("KILL");
    receiver.wait();
    assert_eq!(sender.wait().code(), Some(1));
    sender.says("no answer from the receiver");
    let summary = sender.object();
    assert_eq!((&summary["ok"], &summary["files_failed"]), (&false.into(), &1.into()));
    assert!(!receiver.path("large").exists());
}

#[test]
fn an_interrupted_sender_tells_the_receiver() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let mut sender = send_endlessly(&files, &receiver);
    sender.signal("INT");
    assert_eq!(sender.wait().code(), Some(130));
    let summary = sender.object();
    assert_eq!((&summary["error"], &summary["files_failed"]), (&"interrupted".into(), &1.into()));
    // It was told: had it found out by waiting, it would say that the sender went silent.
    let session = receiver.session();
    assert_eq!(session["error"], "the sender was stopped by its user");
    assert!(!receiver.path("large").exists());
}

#[test]
fn an_interrupted_receiver_keeps_what_it_can_go_on_from_and_tells_the_sender() {
    let (mut receiver, files) = (Receiver::start(&[]), Files::new());
    let mut sender = send_endlessly(&files, &receiver);
    receiver.signal("TERM");
    assert_eq!(receiver.wait().code(), Some(130));
    receiver.says("stay, to go on from");
    let everything = receiver.everything();
    assert!(everything.len() == 1 && everything[0].ends_with(".part"), "{everything:?}");
    assert_eq!(sender.wait().code(), Some(1));
    sender.says("was stopped by its user");
}

#[test]
fn an_idle_receiver_is_ended_by_an_interrupt_in_good_order() {
    let mut receiver = Receiver::start(&[]);
    receiver.signal("INT");
    assert_eq!(receiver.wait().code(), Some(0));
}

#[test]
fn a_receiver_that_is_not_there_is_reported_with_what_to_check() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    // A port that nobody else gets meanwhile, and that answers nobody: a connected socket takes
    // what its peer sends.
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    held.connect(held.local_addr().unwrap()).unwrap();
    let output = send(&[], &[&files.file("x", b"x")], &readdress(&receiver.ticket, held.local_addr().unwrap()));
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    // Which of the two it is depends on whether the system reports that the port is closed.
    assert!(said.contains("nobody listens at") || said.contains("no answer from the receiver"), "{said}");
    assert!(said.contains("check that `sendstream recv` still runs there"), "{said}");
}
