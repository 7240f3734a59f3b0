//! Sharers and getters made by hand, with the library alone, that do not keep to the protocol. What they
//! write is spelled out as in `stranger`.

use std::{cell::Cell, sync::mpsc, thread};

use futures::executor::block_on;
use sendstream::{Client, Connection, ConnectionError, Identity, RecvStream, SendStream, Server, Trust};

use crate::{
    share::{Getter, Sharer},
    stranger::{begin, data, end, message, offer},
    support::{Files, HANG, TicketParts, digest, noise, send, sendstream, stderr, stdout_object},
};

/// A sharer that has announced so many entries, and does `what` then, with each getter that comes. Returns
/// its ticket.
fn share(entries: u64, what: impl Fn(&mut SendStream, &mut RecvStream, &Connection) + Send + 'static) -> String {
    share_as(|_| 0, entries, what)
}

/// The same, of one that says to have told of so many before, as its getter comes time after time.
fn share_as(
    known: impl Fn(usize) -> u32 + Send + 'static,
    entries: u64,
    what: impl Fn(&mut SendStream, &mut RecvStream, &Connection) + Send + 'static,
) -> String {
    let (server, ticket) = listen();
    thread::spawn(move || {
        for time in 0.. {
            let Some(incoming) = block_on(server.accept()) else { break };
            let Ok(connection) = block_on(incoming.accept()) else { continue };
            let Ok((mut answer, mut control)) = block_on(connection.accept_bi()) else { continue };
            let mut hello = [0; 60];
            block_on(control.read_exact(&mut hello)).unwrap();
            assert_eq!((&hello[..12], &hello[12..28]), (b"sendstream\x02\x01".as_slice(), &[7; 16][..]));
            say(&mut answer, &welcome(known(time), entries));
            what(&mut answer, &mut control, &connection);
            block_on(connection.closed());
        }
    });
    ticket
}

/// A server, and its ticket.
pub(crate) fn listen() -> (Server, String) {
    let identity = Identity::self_signed(["sendstream"]).unwrap();
    let mut certificate = [0; 32];
    certificate.copy_from_slice(identity.certificate_sha256().as_ref());
    let server =
        Server::builder().identity(identity).alpn(["sendstream-file/2"]).bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let std::net::SocketAddr::V4(address) = server.local_addr().unwrap() else { panic!("it is none of IPv4") };
    (server, TicketParts { certificate, token: [7; 16], address }.to_string())
}

pub(crate) fn welcome(known: u32, entries: u64) -> Vec<u8> {
    [&[2], known.to_be_bytes().as_slice(), &entries.to_be_bytes(), &7u64.to_be_bytes()].concat()
}

pub(crate) fn say(answer: &mut SendStream, bytes: &[u8]) {
    // The getter may have heard enough.
    let _ = block_on(answer.write_all(bytes));
}

/// DONE.
const DONE: [u8; 5] = [9, 0, 0, 0, 0];

#[test]
fn a_sharer_that_names_what_is_outside_writes_nothing_there() {
    let names: [&[u8]; 5] = [b"../escaped", b"a/../../escaped", b"/tmp/sendstream-escaped-get", b"..", b"x\0y"];
    let ticket = share(16, move |answer, _, _| {
        let kinds = (0..3).flat_map(|kind| names.map(|name| (kind, name)));
        for (entry, (kind, name)) in (0..).zip(kinds) {
            say(answer, &offer(entry, kind, name, 7, b"x"));
        }
        say(answer, &offer(15, 2, b"link", 0, b"../outside"));
        say(answer, &DONE);
        answer.finish().unwrap();
    });
    let getter = Getter::new();
    let output = getter.get(&["--overwrite"], &ticket);
    assert_eq!(output.status.code(), Some(1));
    let summary = stdout_object(&output);
    assert_eq!((&summary["files_ok"], &summary["files_failed"]), (&0.into(), &16.into()), "{summary}");
    assert!(summary["files"].as_array().unwrap().iter().all(|file| file["kind"] == "name"), "{summary}");
    assert!(getter.everything().is_empty());
    assert!(!std::path::Path::new("/tmp/sendstream-escaped-get").exists());
}

#[test]
fn a_sharer_that_does_not_keep_to_the_protocol_is_left() {
    let many = || (0..1026).flat_map(|entry| offer(entry, 0, format!("{entry}").as_bytes(), 0, b"")).collect();
    for (what, bytes) in [
        ("an unknown kind", vec![99, 0, 0, 0, 0]),
        ("an endless message", [&[1], u32::MAX.to_be_bytes().as_slice()].concat()),
        ("content of nothing", data(b"x")),
        ("a file without an offer", begin(0)),
        ("an entry out of turn", offer(7, 0, b"x", 0, b"")),
        ("an end too early", DONE.to_vec()),
        ("too many at a time", many()),
    ] {
        let ticket = share(u64::MAX, move |answer, _, _| say(answer, &bytes));
        let getter = Getter::new();
        let output = getter.get(&[], &ticket);
        assert_eq!(output.status.code(), Some(1), "{what}");
        assert!(stderr(&output).contains("cannot talk to the sender"), "{what}: {}", stderr(&output));
        assert_eq!(stdout_object(&output)["kind"], "protocol", "{what}");
        assert!(getter.everything().is_empty(), "{what}");
    }
}

#[test]
fn a_sharer_that_knows_of_entries_that_it_never_told_is_left() {
    let ticket = share_as(|_| 7, 1, |_, _, _| ());
    let output = Getter::new().get(&[], &ticket);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("it told of entry 7, which is not its turn"), "{}", stderr(&output));
}

#[test]
fn a_sharer_that_forgets_all_again_and_again_is_met_at_the_getters_pace() {
    // Each time it tells of one entry, and closes as if it would be met again.
    let ticket = share(1, |answer, control, connection| {
        say(answer, &offer(0, 0, b"x", 7, b""));
        let mut wanted = [0; 17];
        let _ = block_on(control.read_exact(&mut wanted));
        let _ = connection.close(6, "");
    });
    let getter = Getter::new();
    let mut process = getter.start(&[], &ticket);
    process.says("going on");
    process.says("going on");
    process.signal("INT");
    assert_eq!(process.wait().code(), Some(130));
    assert!(getter.everything().is_empty());
}

/// The kind of the other end's next message, whose body passes by.
pub(crate) fn hear(control: &mut RecvStream) -> u8 {
    let mut front = [0; 5];
    block_on(control.read_exact(&mut front)).unwrap();
    let mut body = vec![0; u32::from_be_bytes(front[1..].try_into().unwrap()) as usize];
    block_on(control.read_exact(&mut body)).unwrap();
    front[0]
}

#[test]
fn what_a_sharer_tells_anew_because_it_forgot_it_is_found_again() {
    let content = b"content";
    let ticket = share(2, |answer, control, connection| {
        say(answer, &offer(0, 0, b"x", 7, b""));
        if hear(control) == 17 {
            say(answer, &[begin(0), data(content), end(7, blake3::hash(content))].concat());
            assert_eq!(hear(control), 19);
            return connection.close(6, "").unwrap();
        }
        // It has it by now, and asks for its digest.
        say(answer, &message(2, &[&[0; 4], &[1], blake3::hash(content).as_bytes()]));
        assert_eq!(hear(control), 19);
        say(answer, &offer(1, 0, b"y", 7, b""));
        assert_eq!(hear(control), 17);
        say(answer, &[begin(1), data(content), end(7, blake3::hash(content)), DONE.to_vec()].concat());
        assert_eq!(hear(control), 19);
        answer.finish().unwrap();
        assert_eq!(hear(control), 21);
        connection.close(0, "").unwrap();
    });
    let getter = Getter::new();
    let output = getter.get(&[], &ticket);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let summary = stdout_object(&output);
    assert_eq!((&summary["announced"], &summary["files_there"]), (&2.into(), &1.into()), "{summary}");
    assert_eq!(getter.everything(), ["inbox/x", "inbox/y"]);
}

/// Sends a file to a getter that wants it, and waits until it has it.
fn give(answer: &mut SendStream, control: &mut RecvStream) {
    say(answer, &offer(0, 0, b"x", 7, b""));
    assert_eq!(hear(control), 17);
    say(answer, &[begin(0), data(b"content"), end(7, blake3::hash(b"content"))].concat());
    assert_eq!(hear(control), 19);
}

#[test]
fn a_getter_that_has_all_wants_nothing_of_a_sharer_that_forgot_it() {
    for to_pipe in [false, true] {
        let (time, (tell, closed)) = (Cell::new(0), mpsc::channel());
        let ticket = share(1, move |answer, control, connection| {
            if time.replace(time.get() + 1) == 0 {
                give(answer, control);
                return connection.close(6, "").unwrap();
            }
            // It would say something soon, if it wanted anything.
            say(answer, &offer(0, 0, b"x", 7, b""));
            let _ = block_on(control.read_exact(&mut [0]));
            let _ = connection.close(3, "");
            let _ = tell.send(block_on(connection.closed()));
        });
        let getter = Getter::new();
        let output = if to_pipe {
            let mut command = assert_cmd::Command::from_std(sendstream());
            command.args(["get", "--stdout", &ticket]).timeout(HANG).output().unwrap()
        } else {
            getter.get(&[], &ticket)
        };
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let closed = closed.recv_timeout(HANG).unwrap();
        assert!(matches!(closed, ConnectionError::ApplicationClosed { code: 0, .. }), "{closed}");
        if to_pipe {
            assert_eq!(output.stdout, b"content");
        } else {
            assert_eq!(stdout_object(&output)["files_ok"], 1);
        }
    }
}

#[test]
fn a_getter_that_has_all_comes_again_until_its_sharer_knows() {
    let ticket = share_as(
        |time| u32::from(time > 0),
        1,
        |answer, control, connection| {
            say(answer, &offer(0, 0, b"x", 7, b""));
            if hear(control) == 17 {
                say(answer, &[begin(0), data(b"content"), end(7, blake3::hash(b"content"))].concat());
                assert_eq!(hear(control), 19);
                return connection.close(6, "").unwrap();
            }
            say(answer, &DONE);
            answer.finish().unwrap();
            assert_eq!(hear(control), 21);
            connection.close(0, "").unwrap();
        },
    );
    let getter = Getter::new();
    let mut process = getter.start(&["--timeout", "10m"], &ticket);
    process.says("trying again for 10m");
    assert_eq!(process.object()["ok"], true);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn a_getter_of_a_sharer_that_says_nothing_can_be_interrupted() {
    let ticket = share(1, |_, _, _| ());
    let getter = Getter::new();
    let mut process = getter.start(&[], &ticket);
    process.says("has 1 file");
    process.signal("INT");
    assert_eq!(process.object()["kind"], "interrupted");
    assert_eq!(process.wait().code(), Some(130));
}

/// A getter that has shown the token of a sharer.
struct ByHand {
    connection: Connection,
    control: SendStream,
    answer: RecvStream,
}

impl ByHand {
    fn connect(sharer: &Sharer, known: u64) -> Self {
        let TicketParts { certificate, token, address } = TicketParts::of(&sharer.ticket);
        let client = Client::builder().alpn(["sendstream-file/2"]).trust(Trust::pinned([certificate])).build().unwrap();
        let connection = block_on(client.connect(address.into(), "sendstream")).unwrap();
        let (mut control, answer) = connection.open_bi().unwrap();
        let number: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
        let counts = [known.to_be_bytes(), 0u64.to_be_bytes()].concat();
        let hello = [b"sendstream\x02\x01".as_slice(), &token, &number, &counts].concat();
        block_on(control.write_all(&hello)).unwrap();
        Self { connection, control, answer }
    }

    fn welcomed(&mut self) -> Vec<u8> {
        let mut welcome = [0; 21];
        block_on(self.answer.read_exact(&mut welcome)).unwrap();
        welcome.to_vec()
    }

    fn is_closed(&self) -> u64 {
        match block_on(self.connection.closed()) {
            ConnectionError::ApplicationClosed { code, .. } => code,
            other => panic!("closed otherwise: {other}"),
        }
    }
}

pub(crate) fn want(entry: u32) -> Vec<u8> {
    want_from(entry, 0)
}

fn want_from(entry: u32, from: u64) -> Vec<u8> {
    [&[17, 0, 0, 0, 12], entry.to_be_bytes().as_slice(), &from.to_be_bytes()].concat()
}

pub(crate) fn kept(entry: u32) -> Vec<u8> {
    [&[19, 0, 0, 0, 5], entry.to_be_bytes().as_slice(), &[0]].concat()
}

#[test]
fn a_getter_that_does_not_keep_to_the_protocol_is_sent_away_and_the_others_are_served() {
    let (files, content) = (Files::new(), noise(1, 300_000));
    let sharer = Sharer::start(&[], &[&files.file("file", &content)]);
    for (what, bytes) in [
        ("it has what was not sent", kept(0)),
        ("it has what is not there", kept(7)),
        ("it wants what is not there", want(7)),
        ("it wants a part of what it has not compared", want_from(0, u64::MAX)),
        ("it wants a file twice", [want(0), want(0)].concat()),
        ("it parts too early", vec![21, 0, 0, 0, 0]),
        ("an unknown kind", vec![99, 0, 0, 0, 0]),
        ("an endless message", [&[20], u32::MAX.to_be_bytes().as_slice()].concat()),
    ] {
        let mut getter = ByHand::connect(&sharer, 0);
        assert_eq!(getter.welcomed()[..13], welcome(0, 1)[..13]);
        let _ = block_on(getter.control.write_all(&bytes));
        assert_eq!(getter.is_closed(), 3, "{what}");
        assert_eq!(sharer.session()["ok"], false, "{what}");
    }
    let getter = Getter::new();
    let output = getter.get(&[], &sharer.ticket);
    assert_eq!(stdout_object(&output)["digest"], digest(&content));
}

#[test]
fn who_says_to_know_a_session_that_nobody_remembers_is_told_all_of_it() {
    let files = Files::new();
    let sharer = Sharer::start(&[], &[&files.file("file", b"content")]);
    for known in [1, u64::MAX] {
        assert_eq!(ByHand::connect(&sharer, known).welcomed()[..5], [2, 0, 0, 0, 0]);
    }
}

#[test]
fn a_getter_that_only_comes_for_a_farewell_is_no_failure() {
    let files = Files::new();
    let mut sharer = Sharer::start(&[], &[&files.file("file", b"content")]);
    let mut getter = ByHand::connect(&sharer, 1);
    getter.welcomed();
    getter.connection.close(0, "").unwrap();
    sharer.says("it had all of it before");
    Getter::new().get(&[], &sharer.ticket);
    assert_eq!(sharer.session()["ok"], true);
    sharer.signal("INT");
    assert_eq!(sharer.wait().code(), Some(0));
}

#[test]
fn a_getter_that_reads_nothing_holds_up_no_other() {
    let (files, content) = (Files::new(), noise(1, 64 << 20));
    let sharer = Sharer::start(&[], &[&files.file("file", &content)]);
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let mut getter = ByHand::connect(&sharer, 0);
            getter.welcomed();
            // It has to be told of the file first.
            let mut offered = [0; 5];
            block_on(getter.answer.read_exact(&mut offered)).unwrap();
            block_on(getter.control.write_all(&want(0))).unwrap();
            getter
        })
        .collect();
    let getter = Getter::new();
    let output = getter.get(&[], &sharer.ticket);
    assert_eq!(stdout_object(&output)["digest"], digest(&content), "{}", stderr(&output));
    drop(stuck);
}

#[test]
fn a_getter_that_does_nothing_but_keep_its_connection_is_sent_away_after_a_while() {
    let files = Files::new();
    let sharer = Sharer::start(&["--stall-timeout", "1s"], &[&files.file("file", b"content")]);
    let mut getter = ByHand::connect(&sharer, 0);
    getter.welcomed();
    assert_eq!(getter.is_closed(), 9);
    let summary = sharer.session();
    assert_eq!((&summary["ok"], &summary["kind"]), (&false.into(), &"timeout".into()), "{summary}");
}

#[test]
fn a_getter_that_its_sharer_gave_up_does_not_come_again() {
    let ticket = share(1, |_, _, connection| connection.close(9, "").unwrap());
    let output = Getter::new().get(&[], &ticket);
    assert_eq!((output.status.code(), &stdout_object(&output)["kind"]), (Some(1), &"timeout".into()));
    assert!(stderr(&output).contains("gave this end up"), "{}", stderr(&output));
}

#[test]
fn a_server_that_welcomes_nobody_is_left_after_a_while() {
    let identity = Identity::self_signed(["sendstream"]).unwrap();
    let mut certificate = [0; 32];
    certificate.copy_from_slice(identity.certificate_sha256().as_ref());
    let server = Server::builder().identity(identity).alpn(["sendstream-file/2"]);
    let server = server.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let std::net::SocketAddr::V4(address) = server.local_addr().unwrap() else { panic!("it is none of IPv4") };
    let ticket = TicketParts { certificate, token: [7; 16], address }.to_string();
    let (tell, closed) = mpsc::channel();
    thread::spawn(move || {
        for _ in 0..2 {
            let connection = block_on(async { server.accept().await.unwrap().accept().await.unwrap() });
            tell.send(block_on(connection.closed())).unwrap();
        }
    });
    let files = Files::new();
    let got = Getter::new().get(&["--stall-timeout", "1s"], &ticket);
    let sent = send(&["--json", "--stall-timeout", "1s"], &[&files.file("x", b"content")], &ticket);
    for output in [got, sent] {
        assert_eq!((output.status.code(), &stdout_object(&output)["kind"]), (Some(1), &"timeout".into()));
        assert!(stderr(&output).contains("did nothing for 1s"), "{}", stderr(&output));
        let closed = closed.recv_timeout(HANG).unwrap();
        assert!(matches!(closed, ConnectionError::ApplicationClosed { code: 9, .. }), "{closed}");
    }
}

#[test]
fn a_sharer_that_does_nothing_but_keep_its_connection_is_left_after_a_while() {
    let ticket = share(1, |_, _, _| ());
    let output = Getter::new().get(&["--stall-timeout", "1s"], &ticket);
    assert_eq!((output.status.code(), &stdout_object(&output)["kind"]), (Some(1), &"timeout".into()));
    assert!(stderr(&output).contains("the sender did nothing for 1s"), "{}", stderr(&output));
}
