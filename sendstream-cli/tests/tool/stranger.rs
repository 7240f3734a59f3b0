//! Peers made by hand, with the library alone, that do not keep to the protocol. What they write is
//! spelled out here once more, so that a change of the protocol by accident shows.

use std::{fs, os::unix::fs::MetadataExt as _};

use futures::executor::block_on;
use sendstream::{Client, Connection, ConnectionError, RecvStream, SendStream, Trust};

use crate::support::{Files, Receiver, TicketParts, noise, send_well};

/// A connection to a receiver, with the token that its ticket holds.
pub(crate) struct Stranger {
    pub(crate) connection: Connection,
    token: [u8; 16],
    /// The number of its session.
    number: [u8; 16],
}

impl Stranger {
    pub(crate) fn connect(receiver: &Receiver) -> Self {
        let TicketParts { certificate, token, address } = TicketParts::of(&receiver.ticket);
        let client = Client::builder().alpn(["sendstream-file/2"]).trust(Trust::pinned([certificate])).build().unwrap();
        let connection = block_on(client.connect(address.into(), "sendstream")).unwrap();
        let mut number = [0; 16];
        fastrand::fill(&mut number);
        Self { connection, token, number }
    }

    fn hello(&self, version: u8, role: u8, entries: u64) -> Vec<u8> {
        let front = [version, role];
        let counts = [entries.to_be_bytes(), 1u64.to_be_bytes()].concat();
        [b"sendstream".as_slice(), &front, &self.token, &self.number, &counts].concat()
    }

    /// Opens a session in good order.
    pub(crate) fn begin(&self) -> Session {
        self.announce(1)
    }

    fn announce(&self, entries: u64) -> Session {
        let (mut control, mut answer) = self.connection.open_bi().unwrap();
        block_on(control.write_all(&self.hello(2, 0, entries))).unwrap();
        let mut welcome = [0; 21];
        block_on(answer.read_exact(&mut welcome)).unwrap();
        assert_eq!((welcome[0], &welcome[5..]), (2, &[0; 16][..]));
        let known = u32::from_be_bytes(welcome[1..5].try_into().unwrap());
        Session { control, answer, next: known, known }
    }

    /// The code with which the receiver closes the connection.
    pub(crate) fn is_closed(&self) -> u64 {
        match block_on(self.connection.closed()) {
            ConnectionError::ApplicationClosed { code, .. } => code,
            other => panic!("closed otherwise: {other}"),
        }
    }
}

/// The stream of a session.
pub(crate) struct Session {
    pub(crate) control: SendStream,
    answer: RecvStream,
    /// The number of the next entry.
    next: u32,
    /// How many the receiver knew at the beginning.
    known: u32,
}

impl Session {
    /// Says something. The receiver may have heard enough.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let _ = block_on(self.control.write_all(bytes));
    }

    /// Waits for a message: its kind, and its body.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut front = [0; 5];
        block_on(self.answer.read_exact(&mut front)).unwrap();
        let mut body = vec![0; u32::from_be_bytes(front[1..].try_into().unwrap()) as usize];
        block_on(self.answer.read_exact(&mut body)).unwrap();
        (front[0], body)
    }

    /// Tells of an entry, and returns the kind of the answer and its text.
    fn offer(&mut self, kind: u8, name: &[u8], size: u64, target: &[u8]) -> (u8, String) {
        let entry = self.next;
        self.next += 1;
        self.say(&offer(entry, kind, name, size, target));
        self.outcome(entry)
    }

    fn outcome(&mut self, entry: u32) -> (u8, String) {
        let (kind, body) = self.hear();
        assert_eq!(body[..4], entry.to_be_bytes());
        let text = if kind == REFUSED { String::from_utf8(body[7..].to_vec()).unwrap() } else { String::new() };
        (kind, text)
    }

    /// Says farewell in good order.
    fn part(mut self, stranger: &Stranger) {
        self.say(&message(9, &[]));
        self.control.finish().unwrap();
        assert_eq!(self.hear(), (BYE, vec![]));
        stranger.connection.close(0, "").unwrap();
    }

    /// Sends a file in good order, and returns the kind of the last answer and its text.
    fn file(&mut self, name: &[u8], content: &[u8]) -> (u8, String) {
        self.file_but(name, content, end(content.len() as u64, blake3::hash(content)))
    }

    /// Sends a file that ends otherwise.
    fn file_but(&mut self, name: &[u8], content: &[u8], end: Vec<u8>) -> (u8, String) {
        let entry = self.next;
        match self.offer(0, name, content.len() as u64, b"") {
            (WANT, _) => {}
            other => return other,
        }
        self.say(&[begin(entry), data(content), end].concat());
        self.outcome(entry)
    }
}

pub(crate) fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[kind], (body.len() as u32).to_be_bytes().as_slice(), &body].concat()
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [(bytes.len() as u16).to_be_bytes().as_slice(), bytes].concat()
}

/// What is kept beside the content: a mode, with bits that never travel, and a time.
const META: [u8; 14] = [0x0f, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];

pub(crate) fn offer(entry: u32, kind: u8, name: &[u8], size: u64, target: &[u8]) -> Vec<u8> {
    message(1, &[&entry.to_be_bytes(), &[kind], &META, &size.to_be_bytes(), &text(name), &text(target)])
}

pub(crate) fn begin(entry: u32) -> Vec<u8> {
    message(3, &[&entry.to_be_bytes(), &[0; 8]])
}

pub(crate) fn data(content: &[u8]) -> Vec<u8> {
    if content.is_empty() { Vec::new() } else { message(4, &[content]) }
}

pub(crate) fn end(size: u64, digest: blake3::Hash) -> Vec<u8> {
    message(6, &[&size.to_be_bytes(), &META, digest.as_bytes()])
}

const WANT: u8 = 17;
const ASK: u8 = 18;
const KEPT: u8 = 19;
const REFUSED: u8 = 20;
const BYE: u8 = 21;

#[test]
fn a_file_made_by_hand_is_kept_and_never_lends_its_owners_rights() {
    let receiver = Receiver::start(&[]);
    let stranger = Stranger::connect(&receiver);
    let mut session = stranger.begin();
    assert_eq!(session.file(b"a/b", b"content").0, KEPT);
    assert_eq!(fs::read(receiver.path("a/b")).unwrap(), b"content");
    let there = fs::metadata(receiver.path("a/b")).unwrap();
    assert_eq!((there.mode() & 0o7777, there.mtime(), there.mtime_nsec()), (0o777, 1, 2));
    session.say(&message(9, &[]));
    session.control.finish().unwrap();
    assert_eq!(session.hear(), (BYE, vec![]));
    stranger.connection.close(0, "").unwrap();
    assert_eq!(receiver.session()["ok"], true);
}

#[test]
fn a_name_that_leaves_the_directory_is_refused() {
    let receiver = Receiver::start(&["--overwrite"]);
    let stranger = Stranger::connect(&receiver);
    let mut session = stranger.begin();
    for (name, why) in [
        (b"../escaped".as_slice(), "`..`"),
        (b"a/../../escaped", "`..`"),
        (b"..", "`..`"),
        (b"./x", "`.`"),
        (b"/tmp/sendstream-escaped", "absolute"),
        (b"a//b", "empty component"),
        (b"", "empty"),
        (b"x\0y", "NUL"),
        (b".sendstream-00.part", "not complete"),
        (&[b'x'; 256], "too long"),
        (&[b'x'; 5000], "too long"),
        (format!("deeper{}", "/x".repeat(2000)).as_bytes(), "64 directories"),
    ] {
        for kind in 0..3 {
            let (status, text) = session.offer(kind, name, 7, b"x");
            assert_eq!(status, REFUSED, "{name:?}");
            assert!(text.contains(why), "{name:?}: {text}");
        }
    }
    assert!(receiver.everything().is_empty());
    assert!(!std::path::Path::new("/tmp/sendstream-escaped").exists());
}

#[test]
fn no_link_leads_out_of_the_directory() {
    let receiver = Receiver::start(&["--overwrite"]);
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), receiver.path("link")).unwrap();
    let stranger = Stranger::connect(&receiver);
    let mut session = stranger.begin();
    for kind in 0..3 {
        let (status, text) = session.offer(kind, b"link/escaped", 7, b"x");
        assert_eq!((status, text.contains("symbolic link")), (REFUSED, true), "{text}");
    }
    let absolute = outside.path().to_str().unwrap().as_bytes();
    for target in [absolute, b"../x", b"", b"a/../../x", b".."] {
        let (status, text) = session.offer(2, b"new", 0, target);
        assert_eq!((status, text.contains("lead, out")), (REFUSED, true), "{target:?}: {text}");
    }
    // One that stays inside is made, and is no way for anything else.
    assert_eq!(session.offer(1, b"dir", 0, b"").0, KEPT);
    assert_eq!(session.offer(2, b"inside", 0, b"dir").0, KEPT);
    let (status, text) = session.file(b"inside/x", b"content");
    assert_eq!((status, text.contains("symbolic link")), (REFUSED, true), "{text}");
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
    assert!(fs::read_dir(receiver.path("dir")).unwrap().next().is_none());
}

#[test]
fn a_dishonest_size_or_digest_leaves_no_file() {
    let receiver = Receiver::start(&[]);
    let stranger = Stranger::connect(&receiver);
    let mut session = stranger.begin();
    let content = noise(1, 1000);
    let digest = blake3::hash(&content);
    let deep = format!("corrupt{}", "/x".repeat(60)).into_bytes();
    for end in [end(999, digest), end(u64::MAX, digest), end(1000, blake3::hash(b""))] {
        let (status, text) = session.file_but(&deep, &content, end);
        assert_eq!((status, text.contains("another digest")), (REFUSED, true), "{text}");
    }
    assert!(fs::read_dir(receiver.inbox()).unwrap().next().is_none(), "no directory either");
    // A hole beyond all file systems is refused before anybody hashes it.
    let entry = session.next;
    assert_eq!(session.offer(0, b"huge", u64::MAX, b"").0, WANT);
    session.say(&[begin(entry), message(5, &[&u64::MAX.to_be_bytes()])].concat());
    assert_eq!(session.outcome(entry).0, REFUSED);
    session.say(&end(u64::MAX, digest));
    assert_eq!(session.file(&deep, &content).0, KEPT);
}

#[test]
fn what_a_sender_takes_back_leaves_nothing() {
    let receiver = Receiver::start(&[]);
    let stranger = Stranger::connect(&receiver);
    let mut session = stranger.begin();
    assert_eq!(session.offer(0, b"a/b/x", 300_000, b"").0, WANT);
    session.say(&[begin(0), data(&noise(1, 290_000))].concat());
    receiver.wait_for_content();
    session.say(&message(7, &[&0u32.to_be_bytes(), &[2], &text(b"it changed while it was being sent")]));
    receiver.says("a/b/x: it changed while it was being sent");
    session.say(&message(9, &[]));
    session.control.finish().unwrap();
    assert_eq!(session.hear(), (BYE, vec![]));
    stranger.connection.close(0, "").unwrap();
    let summary = receiver.session();
    assert_eq!((&summary["ok"], &summary["files_skipped"]), (&false.into(), &1.into()));
    assert_eq!(summary["files"][0]["kind"], "changed");
    assert!(fs::read_dir(receiver.inbox()).unwrap().next().is_none());
}

#[test]
fn a_sender_that_does_not_keep_to_the_protocol_is_sent_away() {
    let receiver = Receiver::start(&[]);
    let many = (0..1026).flat_map(|entry| offer(entry, 0, format!("{entry}").as_bytes(), 0, b"")).collect();
    for (what, say) in [
        ("an unknown kind", message(99, &[])),
        ("an endless message", [&[1], u32::MAX.to_be_bytes().as_slice()].concat()),
        ("content of nothing", data(b"x")),
        ("a file without an offer", begin(0)),
        ("an entry out of turn", offer(7, 0, b"x", 0, b"")),
        ("an end too early", message(9, &[])),
        ("too many at a time", many),
    ] {
        let stranger = Stranger::connect(&receiver);
        let mut session = stranger.begin();
        session.say(&say);
        assert_eq!(stranger.is_closed(), 3, "{what}");
        receiver.says("cannot talk to the sender");
        assert_eq!(receiver.session()["ok"], false);
    }
    assert!(receiver.everything().is_empty());
}

#[test]
fn an_endless_list_ends_the_session_before_it_costs_much() {
    let receiver = Receiver::start(&[]);
    let stranger = Stranger::connect(&receiver);
    let mut session = stranger.announce(u64::MAX);
    let name = [b'x'; 4000];
    let skipped = |entry: u32| message(8, &[&entry.to_be_bytes(), &[0], &text(&name), &[1], &text(b"")]);
    let list: Vec<u8> = (0..20_000).flat_map(skipped).collect();
    session.say(&list);
    assert_eq!(stranger.is_closed(), 3);
    receiver.says("the sender sent too many files");
}

#[test]
fn who_asks_for_a_file_that_is_there_learns_nothing_of_it() {
    let receiver = Receiver::start(&[]);
    let secret = noise(1, 1000);
    fs::write(receiver.path("secret"), &secret).unwrap();
    let stranger = Stranger::connect(&receiver);
    let mut session = stranger.begin();
    for (digest, ends, answer) in
        [(blake3::hash(b"a guess"), 1, REFUSED), (blake3::hash(&secret), 0, REFUSED), (blake3::hash(&secret), 1, KEPT)]
    {
        let entry = session.next;
        assert_eq!(session.offer(0, b"secret", 1000, b"").0, ASK);
        session.say(&message(2, &[&entry.to_be_bytes(), &[ends], digest.as_bytes()]));
        assert_eq!(session.outcome(entry).0, answer);
    }
    assert_eq!(session.offer(0, b"secret", 999, b"").0, REFUSED);
}

#[test]
fn a_session_goes_on_with_another_connection() {
    let receiver = Receiver::start(&["--once"]);
    let mut stranger = Stranger::connect(&receiver);
    let mut session = stranger.announce(2);
    assert_eq!(session.file(b"first", b"content").0, KEPT);
    let mut again = Stranger::connect(&receiver);
    again.number = stranger.number;
    let mut session = again.announce(2);
    assert_eq!(session.known, 1);
    assert_eq!(stranger.is_closed(), 6);
    // What is known is answered as before.
    session.say(&offer(0, 0, b"first", 7, b""));
    assert_eq!(session.outcome(0).0, KEPT);
    assert_eq!(session.file(b"second", b"content").0, KEPT);
    session.say(&message(9, &[]));
    session.control.finish().unwrap();
    assert_eq!(session.hear(), (BYE, vec![]));
    again.connection.close(0, "").unwrap();
    let summary = receiver.session();
    assert_eq!((&summary["ok"], &summary["files_ok"]), (&true.into(), &2.into()));
    stranger.number = [0; 16];
}

#[test]
fn a_sender_that_is_gone_without_a_farewell_when_all_is_there_is_no_failure() {
    let mut receiver = Receiver::start(&["--once", "--timeout", "1s"]);
    let stranger = Stranger::connect(&receiver);
    let mut session = stranger.begin();
    assert_eq!(session.file(b"x", b"content").0, KEPT);
    stranger.connection.close(6, "").unwrap();
    let summary = receiver.session();
    assert_eq!((&summary["ok"], &summary["files_ok"]), (&true.into(), &1.into()), "{summary}");
    assert_eq!(receiver.wait().code(), Some(0));
}

#[test]
fn a_sender_that_does_not_know_that_all_is_there_is_waited_for_as_long_as_the_user_wants() {
    let mut receiver = Receiver::start(&["--once", "--timeout", "10m"]);
    let stranger = Stranger::connect(&receiver);
    let mut session = stranger.begin();
    assert_eq!(session.file(b"x", b"content").0, KEPT);
    stranger.connection.close(6, "").unwrap();
    receiver.says("waiting for it for 10m");
    let mut again = Stranger::connect(&receiver);
    again.number = stranger.number;
    let session = again.begin();
    assert_eq!(session.known, 1);
    session.part(&again);
    assert_eq!((&receiver.session()["ok"], receiver.wait().code()), (&true.into(), Some(0)));
}

#[test]
fn a_sender_that_only_comes_for_a_farewell_is_no_failure() {
    let mut receiver = Receiver::start(&[]);
    let stranger = Stranger::connect(&receiver);
    let _session = stranger.begin();
    stranger.connection.close(0, "").unwrap();
    receiver.says("it had sent all of it before");
    let next = Stranger::connect(&receiver);
    let mut session = next.begin();
    assert_eq!(session.file(b"x", b"content").0, KEPT);
    session.part(&next);
    assert_eq!(receiver.session()["ok"], true);
    receiver.signal("INT");
    assert_eq!(receiver.wait().code(), Some(0));
}

#[test]
fn a_sender_that_does_nothing_but_keep_its_connection_is_sent_away_after_a_while() {
    let mut receiver = Receiver::start(&["--once", "--stall-timeout", "1s"]);
    let stranger = Stranger::connect(&receiver);
    let mut session = stranger.begin();
    assert_eq!(session.offer(0, b"x", 7, b"").0, WANT);
    assert_eq!(stranger.is_closed(), 9);
    let summary = receiver.session();
    assert_eq!((&summary["ok"], &summary["kind"]), (&false.into(), &"timeout".into()), "{summary}");
    assert!(summary["error"].as_str().unwrap().contains("did nothing for 1s"), "{summary}");
    assert_eq!(receiver.wait().code(), Some(1));
}

#[test]
fn a_hello_that_is_none_ends_the_connection() {
    let receiver = Receiver::start(&[]);
    let foreign = Stranger::connect(&receiver);
    let (mut control, _answer) = foreign.connection.open_bi().unwrap();
    block_on(control.write_all(&[b'x'; 60])).unwrap();
    assert_eq!(foreign.is_closed(), 3);
    receiver.says("does not speak Sendstream's protocol");

    let newer = Stranger::connect(&receiver);
    let (mut control, _answer) = newer.connection.open_bi().unwrap();
    block_on(control.write_all(&newer.hello(3, 0, 1))).unwrap();
    assert_eq!(newer.is_closed(), 3);
    receiver.says("it speaks version 3 of the protocol");

    let wants = Stranger::connect(&receiver);
    let (mut control, _answer) = wants.connection.open_bi().unwrap();
    block_on(control.write_all(&wants.hello(2, 1, 1))).unwrap();
    assert_eq!(wants.is_closed(), 8);
    receiver.says("it wants to receive as well");

    let files = Files::new();
    send_well(&[&files.file("x", b"x")], &receiver.ticket);
}

#[test]
fn a_stranger_that_says_nothing_is_sent_away_in_time() {
    let receiver = Receiver::start(&[]);
    let silent = Stranger::connect(&receiver);
    // The connection stays up by itself; the library's clients of this test send no keep-alive, but
    // the server does.
    assert_eq!(silent.is_closed(), 4);
    receiver.says("did not say hello in time");
}

#[test]
fn files_of_a_session_without_the_token_are_not_even_looked_at() {
    let receiver = Receiver::start(&[]);
    let mut stranger = Stranger::connect(&receiver);
    stranger.token[0] ^= 1;
    let (mut control, _answer) = stranger.connection.open_bi().unwrap();
    let all = [stranger.hello(2, 0, 1), offer(0, 0, b"x", 7, b""), begin(0), data(b"content")].concat();
    // The connection may be closed already.
    let _ = block_on(control.write_all(&all));
    assert_eq!(stranger.is_closed(), 2);
    assert!(receiver.everything().is_empty());
}
