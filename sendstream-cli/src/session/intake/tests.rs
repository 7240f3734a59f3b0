use super::*;
use crate::{
    inbox::{Inbox, Rules},
    progress::Progress,
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
    let mut intake = Intake::new(&shared, "192.0.2.1:1".parse().unwrap(), announced, bar);
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
    let mut intake = Intake::new(&shared, "192.0.2.1:1".parse().unwrap(), Announced::default(), bar);
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
