use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{
    inbox::{Inbox, Rules},
    name::PART_SUFFIX,
    progress::Progress,
    protocol::{
        CHUNK_LEN,
        message::{Decoder, Part as Message},
    },
    signal::Interrupt,
};

fn shared(dir: &tempfile::TempDir) -> Shared {
    let progress = Progress::new(true);
    let inbox = Inbox::open(dir.path(), Rules { overwrite: false, fsync: false }, &progress).unwrap();
    Shared {
        inbox: Some(inbox),
        progress,
        interrupt: Interrupt::install().unwrap(),
        patience: std::time::Duration::ZERO,
        stall: std::time::Duration::MAX,
    }
}

fn offer(entry: Entry, name: &str) -> ToReceiver {
    let name = name.as_bytes().into();
    ToReceiver::Offer { entry, kind: Kind::File, meta: Meta::default(), size: 0, name, target: Box::default() }
}

/// Feeds messages, and returns whether the last one was taken.
fn feed(messages: impl IntoIterator<Item = ToReceiver>) -> Result<bool, Fatal> {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(&dir);
    let announced = Announced { entries: 1, bytes: 0 };
    let bar = shared.progress.transfer("receiving", 0);
    let mut intake = Intake::new(&shared, "192.0.2.1:1".to_owned(), announced, bar);
    let mut out = Vec::new();
    messages.into_iter().try_fold(false, |_, message| {
        out.clear();
        intake.take(message, &|| true, &mut out)
    })
}

#[test]
fn a_session_ends_when_its_entries_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(&dir);
    let bar = shared.progress.transfer("receiving", 0);
    let mut intake = Intake::new(&shared, "192.0.2.1:1".to_owned(), Announced::default(), bar);
    let offer = |entry| offer(entry, &entry.to_string());
    intake.len = MAX_LISTING_LEN - listing_len(b"0");
    assert!(intake.take(offer(0), &|| true, &mut Vec::new()).is_ok());
    assert!(matches!(intake.take(offer(1), &|| true, &mut Vec::new()), Err(Fatal::TooMuch)));
}

#[test]
fn a_sender_may_not_tell_of_more_than_it_may_have_open() {
    let offers = |count: usize| (0..count as u32).map(|entry| offer(entry, &entry.to_string()));
    assert!(feed(offers(MAX_OPEN)).is_ok());
    assert!(matches!(feed(offers(MAX_OPEN + 1)), Err(Fatal::Protocol(ProtocolError::TooManyOpen))));
}

#[test]
fn what_is_not_its_turn_ends_the_session() {
    let digest = blake3::hash(b"");
    let end = || ToReceiver::End { size: 0, meta: Meta::default(), digest };
    let begin = |entry, from| ToReceiver::Begin { entry, from };
    let protocol = |messages: Vec<ToReceiver>| match feed(messages) {
        Err(Fatal::Protocol(error)) => error,
        _ => panic!("the session goes on"),
    };
    assert_eq!(protocol(vec![offer(1, "x")]), ProtocolError::Entry(1), "the first is 0");
    assert_eq!(protocol(vec![offer(0, "x"), offer(0, "x")]), ProtocolError::Entry(0), "it is open");
    assert_eq!(protocol(vec![begin(0, 0)]), ProtocolError::Entry(0));
    assert_eq!(protocol(vec![offer(0, "x"), begin(0, 1)]), ProtocolError::Entry(0), "0 was asked for");
    assert_eq!(protocol(vec![offer(0, "x"), end()]), ProtocolError::Content);
    assert_eq!(protocol(vec![ToReceiver::Hole(1)]), ProtocolError::Content);
    let proof = ToReceiver::Proof { entry: 0, ends: true, digest };
    assert_eq!(protocol(vec![offer(0, "x"), proof]), ProtocolError::Entry(0), "it was not asked for");
    assert_eq!(protocol(vec![offer(0, "x"), ToReceiver::Done]), ProtocolError::TooLittle);
    assert_eq!(protocol(vec![ToReceiver::Done]), ProtocolError::TooLittle, "one was announced");
    assert_eq!(
        protocol(vec![offer(0, "x"), offer(1, "y"), begin(0, 0), begin(1, 0)]),
        ProtocolError::Content,
        "one at a time"
    );
    assert_eq!(feed([offer(0, "x"), begin(0, 0), end(), ToReceiver::Done]).ok(), Some(true));
}

/// What a session with a directory of some content answers.
struct Trial {
    dir: tempfile::TempDir,
    shared: Shared,
}

impl Trial {
    fn new(overwrite: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut shared = shared(&dir);
        let rules = Rules { overwrite, fsync: false };
        shared.inbox = Some(Inbox::open(dir.path(), rules, &shared.progress).unwrap());
        Self { dir, shared }
    }

    fn intake(&self) -> Intake<'_> {
        let bar = self.shared.progress.transfer("receiving", 0);
        Intake::new(&self.shared, "192.0.2.1:1".to_owned(), Announced { entries: 1, bytes: 0 }, bar)
    }

    fn parts(&self) -> usize {
        let names = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(PART_SUFFIX)).count()
    }

    /// Leaves the beginning of a file, as a session that broke off does.
    fn leave_part(&self, name: &str, content: &[u8]) {
        let name = SafeName::new(name.as_bytes()).unwrap();
        let mut part = Part::new(self.shared.inbox.as_ref().unwrap(), name);
        part.write(content).unwrap();
        assert_eq!(part.leave(), content.len() as u64);
    }
}

fn sized(entry: Entry, name: &str, len: u64) -> ToReceiver {
    let name = name.as_bytes().into();
    ToReceiver::Offer { entry, kind: Kind::File, meta: Meta::default(), size: len, name, target: Box::default() }
}

/// What was answered.
fn said(out: &[u8]) -> Vec<ToSender> {
    let (mut decoder, mut input, mut messages) = (Decoder::default(), out, Vec::new());
    while let Some(Message::Message(message)) = decoder.next(&mut input).unwrap() {
        messages.push(message);
    }
    messages
}

#[test]
fn a_hash_that_is_stopped_leaves_the_part_and_the_entry_as_they_were() {
    let trial = Trial::new(false);
    let content = vec![7; 3 * CHUNK_LEN];
    trial.leave_part("x", &content);
    let mut intake = trial.intake();
    let mut out = Vec::new();
    intake.take(sized(0, "x", 4 * CHUNK_LEN as u64), &|| true, &mut out).unwrap();
    assert_eq!(said(&out), [ToSender::Ask { entry: 0, len: content.len() as u64 }]);
    out.clear();
    let steps = Cell::new(0);
    let go_on = || steps.replace(steps.get() + 1) < 2;
    assert!(matches!(intake.hash_meanwhile(&go_on, &mut out), Err(Fatal::Stopped)));
    assert!(out.is_empty() && intake.slots[0].outcome.is_none(), "it is not given up");
    intake.break_off();
    assert_eq!((trial.parts(), intake.left), (1, content.len() as u64));
    // Another connection goes on.
    intake.take(sized(0, "x", 4 * CHUNK_LEN as u64), &|| true, &mut out).unwrap();
    intake.hash_meanwhile(&|| true, &mut out).unwrap();
    out.clear();
    let proof = ToReceiver::Proof { entry: 0, ends: false, digest: blake3::hash(&content) };
    intake.take(proof, &|| true, &mut out).unwrap();
    assert_eq!(said(&out), [ToSender::Want { entry: 0, from: content.len() as u64 }]);
}

#[test]
fn zeros_that_are_stopped_leave_what_was_there() {
    let trial = Trial::new(false);
    let mut intake = trial.intake();
    let mut out = Vec::new();
    intake.take(sized(0, "x", 1 << 30), &|| true, &mut out).unwrap();
    intake.take(ToReceiver::Begin { entry: 0, from: 0 }, &|| true, &mut out).unwrap();
    intake.content(&vec![7; 2 * CHUNK_LEN], &mut out).unwrap();
    out.clear();
    assert!(matches!(intake.take(ToReceiver::Hole(1 << 29), &|| false, &mut out), Err(Fatal::Stopped)));
    assert!(out.is_empty() && intake.slots[0].outcome.is_none());
    intake.break_off();
    assert_eq!(trial.parts(), 1);
}

#[test]
fn what_the_sender_cannot_read_to_its_end_stays_as_far_as_it_came() {
    for (reason, parts) in [(Reason::Unreadable, 1), (Reason::Changed, 0)] {
        let trial = Trial::new(false);
        let mut intake = trial.intake();
        let mut out = Vec::new();
        intake.take(sized(0, "x", 1 << 30), &|| true, &mut out).unwrap();
        intake.take(ToReceiver::Begin { entry: 0, from: 0 }, &|| true, &mut out).unwrap();
        intake.content(&vec![7; 2 * CHUNK_LEN], &mut out).unwrap();
        let failed = ToReceiver::Failed { entry: 0, why: Lost::new(reason, "") };
        intake.take(failed, &|| true, &mut out).unwrap();
        assert_eq!(trial.parts(), parts, "{reason:?}");
        assert_eq!(intake.end().1, (parts * 2 * CHUNK_LEN) as u64);
    }
}

#[test]
fn an_answer_about_what_was_refused_meanwhile_is_ignored() {
    let trial = Trial::new(false);
    std::fs::write(trial.dir.path().join("x"), b"x").unwrap();
    let mut intake = trial.intake();
    let mut out = Vec::new();
    intake.take(sized(0, "x", 1), &|| true, &mut out).unwrap();
    std::fs::remove_file(trial.dir.path().join("x")).unwrap();
    out.clear();
    intake.hash_meanwhile(&|| true, &mut out).unwrap();
    assert!(matches!(said(&out)[..], [ToSender::Refused { entry: 0, .. }]));
    let proof = ToReceiver::Proof { entry: 0, ends: true, digest: blake3::hash(b"x") };
    assert_eq!(intake.take(proof, &|| true, &mut out).ok(), Some(false));
    let failed = ToReceiver::Failed { entry: 0, why: Lost::new(Reason::Unreadable, "") };
    assert_eq!(intake.take(failed, &|| true, &mut out).ok(), Some(false));
}

#[test]
fn nobody_proves_what_was_not_hashed_here() {
    let trial = Trial::new(true);
    std::fs::write(trial.dir.path().join("x"), b"x").unwrap();
    let mut intake = trial.intake();
    intake.take(sized(0, "x", 1), &|| true, &mut Vec::new()).unwrap();
    let proof = ToReceiver::Proof { entry: 0, ends: false, digest: blake3::hash(b"") };
    let taken = intake.take(proof, &|| true, &mut Vec::new());
    assert!(matches!(taken, Err(Fatal::Protocol(ProtocolError::Entry(0)))));
}

#[test]
fn a_sender_that_says_no_size_does_not_learn_the_size_of_a_file_here() {
    let trial = Trial::new(true);
    std::fs::write(trial.dir.path().join("x"), b"secret").unwrap();
    let mut out = Vec::new();
    trial.intake().take(sized(0, "x", 0), &|| true, &mut out).unwrap();
    assert_eq!(said(&out), [ToSender::Want { entry: 0, from: 0 }]);
}

#[test]
fn directories_stay_writable_when_a_session_breaks_off() {
    let trial = Trial::new(false);
    let mut intake = trial.intake();
    let meta = Meta { mode: 0o555, ..Meta::default() };
    let name = (*b"dir").into();
    let offer = ToReceiver::Offer { entry: 0, kind: Kind::Directory, meta, size: 0, name, target: Box::default() };
    intake.take(offer.clone(), &|| true, &mut Vec::new()).unwrap();
    intake.announced.entries = 2;
    intake.end();
    let mode = || std::fs::metadata(trial.dir.path().join("dir")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o755);

    // Only the farewell is missing.
    let mut intake = trial.intake();
    intake.take(offer, &|| true, &mut Vec::new()).unwrap();
    assert!(intake.has_all());
    intake.end();
    assert_eq!(mode(), 0o755, "it was there before");
}
