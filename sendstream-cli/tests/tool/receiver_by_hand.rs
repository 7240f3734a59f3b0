//! Receivers made by hand, with the library alone, at which `send` finds less than it expects.

use std::{sync::mpsc, thread};

use futures::executor::block_on;
use sendstream::{Connection, ConnectionError, RecvStream, SendStream};

use crate::{
    resume::Link,
    sharer::{hear, kept, listen, say, want, welcome},
    support::{Files, HANG, Process, Receiver, digest, noise, readdress, send, sendstream, stderr, stdout_object},
};

/// A receiver that has welcomed its sender, and does `what` then. It listens no more afterwards. Returns its
/// ticket.
fn receive(what: impl FnOnce(&mut RecvStream, &mut SendStream, &Connection) + Send + 'static) -> String {
    let mut what = Some(what);
    receive_times(1, move |_, control, answer, connection| {
        what.take().unwrap()(control, answer, connection);
    })
}

/// The same, of one that its sender meets so many times. It knows of nothing each time.
fn receive_times(
    times: usize,
    mut what: impl FnMut(usize, &mut RecvStream, &mut SendStream, &Connection) + Send + 'static,
) -> String {
    let (server, ticket) = listen();
    thread::spawn(move || {
        for time in 0..times {
            let connection = block_on(async { server.accept().await.unwrap().accept().await.unwrap() });
            let (mut answer, mut control) = block_on(connection.accept_bi()).unwrap();
            block_on(control.read_exact(&mut [0; 60])).unwrap();
            say(&mut answer, &welcome(0, 0));
            what(time, &mut control, &mut answer, &connection);
            block_on(connection.closed());
        }
        block_on(server.shutdown());
    });
    ticket
}

const OFFER: u8 = 1;
const END: u8 = 6;
const DONE: u8 = 9;

#[test]
fn a_receiver_that_is_gone_without_a_farewell_when_it_has_all_is_no_failure() {
    for code in [6, 1] {
        let ticket = receive(move |control, answer, connection| {
            loop {
                match hear(control) {
                    OFFER => say(answer, &want(0)),
                    END => say(answer, &kept(0)),
                    DONE => break connection.close(code, "").unwrap(),
                    _ => {}
                }
            }
        });
        let files = Files::new();
        let output = send(&["--json"], &[&files.file("x", b"content")], &ticket);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let summary = stdout_object(&output);
        assert_eq!((&summary["ok"], &summary["files_ok"]), (&true.into(), &1.into()), "{summary}");
    }
}

#[test]
fn a_receiver_that_has_all_and_forgot_it_is_told_of_nothing_again() {
    let (tell, closed) = mpsc::channel();
    let ticket = receive_times(2, move |time, control, answer, connection| {
        if time == 1 {
            // It is an offer, if anything comes.
            let _ = block_on(control.read_exact(&mut [0]));
            let _ = connection.close(3, "");
            return tell.send(block_on(connection.closed())).unwrap();
        }
        loop {
            match hear(control) {
                OFFER => say(answer, &want(0)),
                END => say(answer, &kept(0)),
                // Its last word is lost with the connection.
                DONE => break connection.close(6, "").unwrap(),
                _ => {}
            }
        }
    });
    let files = Files::new();
    let output = send(&["--json"], &[&files.file("x", b"content")], &ticket);
    assert_eq!((output.status.code(), &stdout_object(&output)["ok"]), (Some(0), &true.into()), "{}", stderr(&output));
    let closed = closed.recv_timeout(HANG).unwrap();
    assert!(matches!(closed, ConnectionError::ApplicationClosed { code: 0, .. }), "{closed}");
}

/// Starts a `send` of a file to a receiver by hand, which does `what` once it was told of the file, and to
/// another one, which is met only then.
fn send_to_both(
    content: &[u8],
    receiver: &Receiver,
    what: impl FnOnce(&mut SendStream) + Send + 'static,
) -> (Process, Files, Link) {
    let (tell, told) = mpsc::channel();
    let first = receive(move |control, answer, _| {
        assert_eq!(hear(control), OFFER);
        what(answer);
        tell.send(()).unwrap();
    });
    let (files, link) = (Files::new(), Link::new(receiver.address()));
    link.set_up(false);
    let mut command = sendstream();
    command.args(["send", "--json", "--quiet", "--timeout", "2s"]).arg(files.file("file", content));
    command.args([&first, &readdress(&receiver.ticket, link.address)]);
    let sender = Process::start(command);
    told.recv_timeout(HANG).expect("the first receiver was told of the file");
    link.set_up(true);
    (sender, files, link)
}

#[test]
fn a_receiver_that_takes_no_more_is_let_go_so_that_the_others_finish() {
    let content = noise(1, 64 << 20);
    let receiver = Receiver::start(&["--once"]);
    let (mut sender, _files, _link) = send_to_both(&content, &receiver, |answer| say(answer, &want(0)));
    let (let_go, done) = (sender.object(), sender.object());
    assert_eq!((&let_go["ok"], &let_go["kind"]), (&false.into(), &"timeout".into()), "{let_go}");
    assert!(let_go["error"].as_str().unwrap().contains("held up the others"), "{let_go}");
    assert_eq!((&done["ok"], &done["digest"]), (&true.into(), &digest(&content).into()), "{done}");
    assert_eq!(receiver.session()["digest"], digest(&content));
    assert_eq!(sender.wait().code(), Some(1));
}

#[test]
fn a_receiver_that_does_not_say_what_it_wants_holds_the_others_up_for_a_while_only() {
    let content = noise(1, 3_000_000);
    let receiver = Receiver::start(&["--once"]);
    let (mut sender, _files, _link) = send_to_both(&content, &receiver, |_| ());
    assert_eq!(receiver.session()["digest"], digest(&content));
    sender.signal("INT");
    let (interrupted, done) = (sender.object(), sender.object());
    assert_eq!((&interrupted["kind"], &done["digest"]), (&"interrupted".into(), &digest(&content).into()));
    assert_eq!(sender.wait().code(), Some(130));
}

#[test]
fn a_sender_that_its_receiver_gave_up_does_not_come_again() {
    let ticket = receive(|_, _, connection| connection.close(9, "").unwrap());
    let files = Files::new();
    let output = send(&["--json"], &[&files.file("x", b"content")], &ticket);
    assert_eq!((output.status.code(), &stdout_object(&output)["kind"]), (Some(1), &"timeout".into()));
    assert!(stderr(&output).contains("gave this end up"), "{}", stderr(&output));
}

#[test]
fn a_receiver_that_does_nothing_but_keep_its_connection_is_left_after_a_while() {
    let ticket = receive(|_, _, _| ());
    let files = Files::new();
    let output = send(&["--json", "--stall-timeout", "1s"], &[&files.file("x", b"content")], &ticket);
    assert_eq!((output.status.code(), &stdout_object(&output)["kind"]), (Some(1), &"timeout".into()));
    assert!(stderr(&output).contains("the receiver did nothing for 1s"), "{}", stderr(&output));
}
