//! Runs that may not be, and what the user is told.

use std::fs;

use crate::support::{Process, Secret, Serve, run, sendstream, spoil, stderr, stdout_object};

fn fails(args: &[&str], why: &str) {
    let output = run(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    assert!(stderr(&output).contains(why), "{}", stderr(&output));
}

#[test]
fn who_has_no_ticket_or_a_wrong_one_gets_no_run() {
    let serve = Serve::start(&[]);
    fails(&["-t", "1", &serve.address.to_string()], "wants a ticket");
    fails(&["-t", "1", &spoil(&serve.target, Secret::Token)], "refused the ticket's token");
    fails(&["-t", "1", &spoil(&serve.target, Secret::Certificate)], "another certificate");
    serve.measure(&["-n", "1"]);
}

#[test]
fn a_second_run_is_told_to_come_again() {
    let serve = Serve::start(&[]);
    let mut command = sendstream();
    command.args(["perf", "run", "-t", "60", "-i", "0.1", &serve.target]);
    let first = Process::start(command);
    while !first.line().contains("0.00-0.10") {}
    fails(&["-t", "1", &serve.target], "busy with another run");
    // A run whose client was killed holds nobody up for long.
    first.signal("KILL");
    assert_eq!(serve.ended()["ok"], false);
    serve.measure(&["-n", "1"]);
}

#[test]
fn a_run_is_bounded_by_the_servers_patience() {
    let serve = Serve::start(&["--open", "--max-time", "0.5"]);
    fails(&["-t", "1", &serve.target], "a run may take 0.5 seconds here");
    fails(&["-t", "0.4", "-O", "0.2", &serve.target], "a run may take 0.5 seconds here");
    // What is bounded by bytes is ended when its time is over, whoever sends.
    fails(&["-n", "1T", "-R", &serve.target], "it took longer than it may");
    fails(&["-n", "1T", &serve.target], "took longer than it may");
    assert_eq!(serve.ended()["ok"], true);
    assert_eq!(serve.ended()["ok"], false);
    serve.measure(&["-t", "0.5"]);
}

#[test]
fn a_datagram_that_no_packet_carries_is_told_with_what_one_does() {
    let serve = Serve::start(&[]);
    fails(&["-t", "1", "--datagrams=1600", &serve.target], "the path carries datagrams of up to ");
    assert_eq!(serve.ended()["ok"], false);
    fails(&["-t", "1", "--datagrams=1600", "-R", &serve.target], "the path carries datagrams of up to ");
}

#[test]
fn where_nobody_is_that_is_said_and_json_has_it_too() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let output = run(&["-J", "-p", &port, "127.0.0.1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nobody listens at 127.0.0.1:"), "{}", stderr(&output));
    assert!(stdout_object(&output)["error"].as_str().unwrap().contains("nobody listens"));
}

#[test]
fn another_command_is_no_server_for_runs() {
    let inbox = tempfile::tempdir().unwrap();
    let mut command = sendstream();
    command.args(["recv", "--json", "--listen", "127.0.0.1:0"]).arg(inbox.path());
    let receiver = Process::start(command);
    let ticket = receiver.object()["ticket"].as_str().unwrap().to_owned();
    fails(&["-t", "1", &ticket], "is no `sendstream perf serve` of this version");
}

#[test]
fn a_page_that_cannot_be_written_is_found_out_before_the_run() {
    let serve = Serve::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing/page.html");
    fails(&["-t", "1", "--report", missing.to_str().unwrap(), &serve.target], "cannot write");
    fails(&["-t", "1", "--report", dir.path().to_str().unwrap(), &serve.target], "cannot write");
    // A run that never begins leaves no page, and no part of one.
    let page = dir.path().join("page.html");
    fails(&["-t", "1", "--report", page.to_str().unwrap(), &serve.address.to_string()], "wants a ticket");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
