//! Peers made by hand, with the library alone, that do not keep to the protocol. What they write is
//! spelled out here once more, so that a change of the protocol by accident shows.

use std::fs;

use futures::executor::block_on;
use sendstream::{Client, Connection, ConnectionError, RecvStream, SendStream, Trust};

use crate::support::{Files, Receiver, TicketParts, noise, send_well};

/// A connection to a receiver, with the token that its ticket holds.
pub(crate) struct Stranger {
    pub(crate) connection: Connection,
    token: [u8; 16],
}

impl Stranger {
    pub(crate) fn connect(receiver: &Receiver) -> Self {
        let TicketParts { certificate, token, address } = TicketParts::of(&receiver.ticket);
        let client = Client::builder().alpn(["sendstream-file/1"]).trust(Trust::pinned([certificate])).build().unwrap();
        let connection = block_on(client.connect(address.into(), "sendstream")).unwrap();
        Self { connection, token }
    }

    fn hello(&self, version: u8) -> Vec<u8> {
        [b"sendstream".as_slice(), &[version], &self.token, &1u64.to_be_bytes(), &1u64.to_be_bytes()].concat()
    }

    /// Opens a session in good order.
    pub(crate) fn begin(&self) -> (SendStream, RecvStream) {
        let (mut control, mut answer) = self.connection.open_bi().unwrap();
        block_on(control.write_all(&self.hello(1))).unwrap();
        let mut welcome = [0];
        block_on(answer.read_exact(&mut welcome)).unwrap();
        assert_eq!(welcome, [1]);
        (control, answer)
    }

    /// Writes a file's stream as it is given, ends it, and returns the receiver's status and text.
    fn offer(&self, stream: &[u8]) -> (u8, String) {
        let (mut content, mut verdict) = self.connection.open_bi().unwrap();
        // The receiver may have seen enough before all is written.
        let _ = block_on(content.write_all(stream)).and_then(|()| content.finish());
        let verdict = block_on(verdict.read_to_end(4096)).unwrap();
        (verdict[0], String::from_utf8(verdict[3..].to_vec()).unwrap())
    }

    /// The code with which the receiver closes the connection.
    pub(crate) fn is_closed(&self) -> u64 {
        match block_on(self.connection.closed()) {
            ConnectionError::ApplicationClosed { code, .. } => code,
            other => panic!("closed otherwise: {other}"),
        }
    }
}

pub(crate) fn header(name: &[u8], size: u64) -> Vec<u8> {
    [&[1], (name.len() as u16).to_be_bytes().as_slice(), name, &size.to_be_bytes()].concat()
}

fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    [&header(name, content.len() as u64), content, blake3::hash(content).as_bytes()].concat()
}

#[test]
fn a_file_made_by_hand_is_kept() {
    let receiver = Receiver::start(&[]);
    let stranger = Stranger::connect(&receiver);
    let _session = stranger.begin();
    assert_eq!(stranger.offer(&file(b"a/b", b"content")), (0, String::new()));
    assert_eq!(fs::read(receiver.path("a/b")).unwrap(), b"content");
}

#[test]
fn a_name_that_leaves_the_directory_is_refused() {
    let receiver = Receiver::start(&["--overwrite"]);
    let stranger = Stranger::connect(&receiver);
    let _session = stranger.begin();
    for (name, why) in [
        (b"../escaped".as_slice(), "`..`"),
        (b"a/../../escaped", "`..`"),
        (b"..", "`..`"),
        (b"./x", "`.`"),
        (b"/tmp/sendstream-escaped", "absolute"),
        (b"a//b", "empty component"),
        (b"", "empty"),
        (b"x\0y", "control character"),
        (b"x\ny", "control character"),
        (b"\xff", "UTF-8"),
        (&[b'x'; 256], "too long"),
        (&[b'x'; 5000], "too long"),
    ] {
        let (status, text) = stranger.offer(&file(name, b"content"));
        assert_eq!(status, 1, "{name:?}");
        assert!(text.contains(why), "{name:?}: {text}");
    }
    assert!(receiver.everything().is_empty());
    assert!(!std::path::Path::new("/tmp/sendstream-escaped").exists());
}

#[test]
fn a_path_through_a_symbolic_link_is_refused() {
    let receiver = Receiver::start(&[]);
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), receiver.path("link")).unwrap();
    let stranger = Stranger::connect(&receiver);
    let _session = stranger.begin();
    let (status, text) = stranger.offer(&file(b"link/escaped", b"content"));
    assert_eq!((status, text.contains("symbolic link")), (1, true), "{text}");
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
}

#[test]
fn a_dishonest_size_or_digest_leaves_no_file() {
    let receiver = Receiver::start(&[]);
    let stranger = Stranger::connect(&receiver);
    let _session = stranger.begin();
    let good = file(b"x", &noise(1, 1000));
    let too_much = [good.as_slice(), b"!"].concat();
    let mut corrupt = good.clone();
    corrupt[100] ^= 1;
    for (stream, why) in [
        (&good[..good.len() - 1], "less than it announced"),
        (&good[..500], "less than it announced"),
        (&good[..2], "less than it announced"),
        (b"", "less than it announced"),
        (&too_much, "more than it announced"),
        (&corrupt, "another digest"),
        (&header(b"x", u64::MAX), "less than it announced"),
        (b"\x09\0\x01x\0\0\0\0\0\0\0\0", "unknown kind 9"),
    ] {
        let (status, text) = stranger.offer(stream);
        assert_eq!((status, text.contains(why)), (1, true), "{text}");
    }
    assert!(receiver.everything().is_empty());
    assert_eq!(stranger.offer(&good).0, 0);
}

#[test]
fn a_file_that_its_sender_takes_back_leaves_nothing() {
    let receiver = Receiver::start(&[]);
    let stranger = Stranger::connect(&receiver);
    let (mut control, _answer) = stranger.begin();
    let (mut content, _verdict) = stranger.connection.open_bi().unwrap();
    block_on(content.write_all(&file(b"x", &noise(1, 300_000))[..290_000])).unwrap();
    receiver.wait_for_content();
    content.abort(6).unwrap();
    receiver.says("x: the sender took it back");
    control.finish().unwrap();
    stranger.connection.close(0, "").unwrap();
    assert_eq!(receiver.session()["files_failed"], 1);
    assert!(receiver.everything().is_empty());
}

#[test]
fn a_hello_that_is_none_ends_the_connection() {
    let receiver = Receiver::start(&[]);
    let foreign = Stranger::connect(&receiver);
    let (mut control, _answer) = foreign.connection.open_bi().unwrap();
    block_on(control.write_all(&[b'x'; 43])).unwrap();
    assert_eq!(foreign.is_closed(), 3);
    receiver.says("does not speak Sendstream's protocol");

    let newer = Stranger::connect(&receiver);
    let (mut control, _answer) = newer.connection.open_bi().unwrap();
    block_on(control.write_all(&newer.hello(2))).unwrap();
    assert_eq!(newer.is_closed(), 3);
    receiver.says("it speaks version 2 of the protocol");

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
    let (mut content, _verdict) = stranger.connection.open_bi().unwrap();
    block_on(control.write_all(&stranger.hello(1))).unwrap();
    // The connection may be closed already.
    let _ = block_on(content.write_all(&file(b"x", b"content")));
    assert_eq!(stranger.is_closed(), 2);
    assert!(receiver.everything().is_empty());
}

#[test]
fn a_file_that_is_not_kept_leaves_no_directory() {
    let receiver = Receiver::start(&[]);
    let stranger = Stranger::connect(&receiver);
    let _session = stranger.begin();
    let deep = |top: &str| format!("{top}{}", "/x".repeat(60)).into_bytes();
    let mut corrupt = file(&deep("corrupt"), b"content");
    *corrupt.last_mut().unwrap() ^= 1;
    for (stream, why) in [
        (header(&deep("short"), 9), "less than it announced"),
        (corrupt, "another digest"),
        (file(&format!("deeper{}", "/x".repeat(2000)).into_bytes(), b"content"), "64 directories"),
    ] {
        let (status, text) = stranger.offer(&stream);
        assert_eq!((status, text.contains(why)), (1, true), "{text}");
    }
    let (mut content, _verdict) = stranger.connection.open_bi().unwrap();
    let stream = file(&deep("taken back"), &noise(1, 300_000));
    block_on(content.write_all(&stream[..290_000])).unwrap();
    receiver.wait_for_content();
    content.abort(6).unwrap();
    receiver.says("the sender took it back");
    assert!(fs::read_dir(receiver.inbox()).unwrap().next().is_none());

    // The same names are as good as any once the file is complete.
    assert_eq!(stranger.offer(&file(&deep("short"), b"content")).0, 0);
}
