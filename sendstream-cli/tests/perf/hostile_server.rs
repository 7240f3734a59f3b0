//! Servers made by hand that do not keep to what was agreed on. The user is told, with status 1.

use std::{net::SocketAddr, process::Output, thread};

use futures::executor::block_on;
use sendstream::{Connection, Identity, RecvStream, SendStream, Server};

use crate::{
    hostile_client::{ALPN, READY, REPORT, SAMPLE, SENT, STOP, frame, none, tally},
    support::{run, stderr},
};

/// Runs `perf run` against a server that has heard its hello, and does `what` then.
fn against(args: &[&str], what: impl Fn(&Connection, &mut SendStream, &mut RecvStream) + Send + 'static) -> Output {
    let identity = Identity::self_signed(["localhost"]).unwrap();
    let server = Server::builder().identity(identity).alpn([ALPN]).bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address: SocketAddr = server.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let connection = block_on(async { server.accept().await.unwrap().accept().await.unwrap() });
        let (mut answer, mut control) = block_on(connection.accept_bi()).unwrap();
        let mut hello = [0; 52];
        block_on(control.read_exact(&mut hello)).unwrap();
        what(&connection, &mut answer, &mut control);
        block_on(connection.closed());
    });
    let output = run(&[args, &[&address.to_string()]].concat());
    serving.join().unwrap();
    output
}

fn ready() -> Vec<u8> {
    frame(READY, &7u64.to_be_bytes())
}

fn fails(output: &Output, why: &str) {
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(output).contains(why), "{}", stderr(output));
}

fn say(answer: &mut SendStream, bytes: &[u8]) {
    // The client may have heard enough already.
    let _ = block_on(answer.write_all(bytes));
}

#[test]
fn a_server_that_lies_about_what_it_received_is_found_out() {
    for claimed in [0u64, 999, 1001, u64::MAX] {
        let output = against(&["-n", "1000"], move |connection, answer, _| {
            say(answer, &ready());
            let mut stream = block_on(connection.accept_uni()).unwrap();
            assert_eq!(block_on(stream.read_to_end(2000)).unwrap().len(), 1000);
            say(answer, &frame(REPORT, &[none(), tally(claimed), vec![0; 16]].concat()));
        });
        fails(
            &output,
            &format!("the two ends disagree: 1000 bytes were sent by the client's count, and {claimed} received"),
        );
    }
}

#[test]
fn a_report_whose_numbers_do_not_add_up_is_not_believed() {
    let output = against(&["-n", "1000"], |connection, answer, _| {
        say(answer, &ready());
        let mut stream = block_on(connection.accept_uni()).unwrap();
        assert_eq!(block_on(stream.read_to_end(2000)).unwrap().len(), 1000);
        // A thousand times as much on its stream as in all.
        let numbers = [1_000_000, 0, 1, 1000, 0].map(u64::to_be_bytes).concat();
        let received = [1u16.to_be_bytes().as_slice(), &numbers].concat();
        say(answer, &frame(REPORT, &[none(), received, vec![0; 16]].concat()));
    });
    fails(&output, "its report does not add up");
}

#[test]
fn a_server_that_lies_about_what_it_sent_is_found_out() {
    let output = against(&["-n", "1000", "-R"], |connection, answer, _| {
        say(answer, &ready());
        let mut stream = connection.open_uni().unwrap();
        block_on(stream.finish_with(vec![0; 1000])).unwrap();
        let report = [tally(2000), none(), vec![0; 16]].concat();
        say(answer, &[frame(SENT, &[0; 16]), frame(REPORT, &report)].concat());
    });
    fails(
        &output,
        "the two ends disagree: 2000 bytes were sent by the server's count, and 1000 received by the client's",
    );
}

#[test]
fn a_server_that_says_what_it_may_not_is_left() {
    for (frames, why) in [
        (frame(STOP, &[]), "otherwise than was agreed on"),
        (vec![9, 0, 0], "unknown kind 9"),
        ([ready(), ready()].concat(), "may not say now"),
        ([ready(), frame(STOP, &[])].concat(), "may not say now"),
        ([ready(), vec![REPORT, 0xff, 0xff]].concat(), "more than it announced"),
        ([ready(), frame(SAMPLE, &[0; 5])].concat(), "less than it announced"),
        ([ready(), frame(REPORT, &[none(), none(), vec![0; 16]].concat())].concat(), "not agreed on"),
    ] {
        let output = against(&["-t", "5", "-i", "0"], move |_, answer, _| say(answer, &frames));
        fails(&output, why);
    }
}

#[test]
fn a_server_that_says_nothing_is_left_in_time() {
    let output = against(&["-t", "1"], |_, _, _| {});
    fails(&output, "nothing moved for 10 seconds");
}

#[test]
fn a_server_that_sends_nothing_is_left_in_time() {
    let output = against(&["-t", "60", "-R", "-i", "0"], |_, answer, _| say(answer, &ready()));
    fails(&output, "nothing moved for 10 seconds");
}

/// More than can be kept comes, and none of it is about anything.
#[test]
fn samples_without_end_do_no_harm() {
    let output = against(&["-n", "1000", "-R"], |connection, answer, _| {
        say(answer, &ready());
        for number in 0..20_000u32 {
            say(answer, &frame(SAMPLE, &[&number.to_be_bytes(), [0xff; 24].as_slice()].concat()));
        }
        let mut stream = connection.open_uni().unwrap();
        block_on(stream.finish_with(vec![0; 1000])).unwrap();
        let report = [tally(1000), none(), vec![0; 16]].concat();
        say(answer, &[frame(SENT, &[0; 16]), frame(REPORT, &report)].concat());
    });
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

/// A reason of the server's is shown, and steers no terminal.
#[test]
fn what_a_server_says_cannot_steer_a_terminal() {
    let output = against(&["-t", "1"], |connection, _, _| connection.close(5, "\u{1b}[2J\u{202e}no").unwrap());
    fails(&output, "does not do that: ");
    assert!(!stderr(&output).contains(['\u{1b}', '\u{202e}']));
}

/// Takes half a minute beyond the run's time: only in the long form of the tests.
#[test]
fn a_server_that_never_ends_is_left() {
    if std::env::var_os("SENDSTREAM_SOAK").is_none() {
        return;
    }
    let output = against(&["-t", "1", "-R", "-i", "0"], |connection, answer, _| {
        say(answer, &ready());
        let mut stream = connection.open_uni().unwrap();
        while block_on(stream.write_all(&[0; 65536])).is_ok() {}
    });
    fails(&output, "took longer than it may");
}
