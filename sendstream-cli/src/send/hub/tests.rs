use super::{outcomes::broken_off, *};
use crate::{protocol::message::Reason, reader::Note, summary::Summary, walk::Choice};

/// A hub of some receivers, for two files of one byte, and its way to the reader.
fn hub(peers: usize) -> (Hub, std_mpsc::Receiver<Job>) {
    hub_of(peers, 1)
}

/// The same, for files of so many bytes.
fn hub_of(peers: usize, len: u64) -> (Hub, std_mpsc::Receiver<Job>) {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["x", "y"].map(|name| dir.path().join(name));
    paths.iter().for_each(|path| std::fs::File::create(path).unwrap().set_len(len).unwrap());
    let listing = Arc::new(Listing::new(&paths, &Choice::default()).unwrap());
    let (jobs, todo) = std_mpsc::channel();
    let progress = Progress::new(true);
    let bars = (0..peers).map(|_| progress.transfer("sending", 2)).collect();
    (Hub::new(listing, jobs, Arc::new(Wanted::new(peers)), progress, bars), todo)
}

fn digest_of(hub: &mut Hub, peer: usize) -> Option<serde_json::Value> {
    let mut summary = Summary::new(crate::summary::Direction::Sent, "192.0.2.7:4433", 1);
    hub.conclude(peer, &mut summary);
    summary.to_value()["digest"].as_str().map(Into::into)
}

#[test]
fn a_receiver_asks_for_two_digests_of_a_file_at_the_most() {
    let (mut hub, _todo) = hub(1);
    let ask = ToSender::Ask { entry: 0, len: 1 };
    for known in 0..2 {
        let _inflow = hub.enter(0, known);
        hub.offers(0, &mut Vec::new());
        assert_eq!(hub.hear(0, ask.clone()), Ok(()));
        assert_eq!(hub.hear(0, ask.clone()), Ok(()));
        assert_eq!(hub.hear(0, ask.clone()), Err(ProtocolError::Entry(0)));
        hub.leave(0);
    }
}

#[test]
fn a_receiver_has_a_part_of_a_file_only_if_it_asked_for_its_digest() {
    let (mut hub, _todo) = hub(1);
    let want = |from| ToSender::Want { entry: 0, from };
    for asked in [None, Some(2), Some(1)] {
        let _inflow = hub.enter(0, 0);
        hub.offers(0, &mut Vec::new());
        if let Some(len) = asked {
            hub.hear(0, ToSender::Ask { entry: 0, len }).unwrap();
        }
        let expected = if asked == Some(1) { Ok(()) } else { Err(ProtocolError::Entry(0)) };
        assert_eq!(hub.hear(0, want(1)), expected, "{asked:?}");
        hub.leave(0);
    }
}

#[test]
fn it_is_a_receivers_turn_when_no_work_for_it_is_under_way_and_it_waits_for_no_other() {
    let (mut hub, _todo) = hub(2);
    let _inflows = [hub.enter(0, 0), hub.enter(1, 0)];
    let over = |peer| Note::Over { targets: Arc::from([Target { peer, turn: 1 }]) };
    for peer in 0..2 {
        hub.offers(peer, &mut Vec::new());
        assert!(!hub.is_at_work_for(peer), "it has to say what it wants");
    }
    hub.hear(0, ToSender::Ask { entry: 0, len: 1 }).unwrap();
    assert!(hub.is_at_work_for(0), "it is told the digest");
    hub.note(&[], over(0));
    assert!(!hub.is_at_work_for(0));
    hub.hear(0, ToSender::Want { entry: 0, from: 0 }).unwrap();
    assert!(hub.is_at_work_for(0), "it waits for the other");
    hub.hear(1, ToSender::Want { entry: 0, from: 0 }).unwrap();
    assert!(hub.is_at_work_for(0) && hub.is_at_work_for(1), "the file is read");
    hub.note(&[], over(0));
    assert!(!hub.is_at_work_for(0) && hub.is_at_work_for(1));
    // Of an earlier connection.
    hub.leave(1);
    let _inflow = hub.enter(1, 0);
    assert!(!hub.is_at_work_for(1));
    hub.note(&[], over(1));
    assert!(!hub.is_at_work_for(1));
}

#[test]
fn a_reader_that_has_ended_is_at_work_for_nobody() {
    let (mut hub, _todo) = hub(1);
    let _inflow = hub.enter(0, 0);
    hub.offers(0, &mut Vec::new());
    hub.hear(0, ToSender::Ask { entry: 0, len: 1 }).unwrap();
    let (hub, (reader, pieces)) = (RefCell::new(hub), mpsc::channel(1));
    drop(reader);
    futures::executor::block_on(distribute(&hub, pieces));
    assert!(!hub.borrow().is_at_work_for(0));
}

#[test]
fn a_receiver_is_let_go_if_another_waits_and_it_has_had_time_to_hash() {
    let patience = std::time::Duration::ZERO;
    let (mut hub, _todo) = hub_of(2, 3 << 30);
    let mut inflows = [hub.enter(0, 0), hub.enter(1, 0)];
    let mut is_let_go = |hub: &mut Hub| {
        hub.waiting_for = Some((Target { peer: 0, turn: 1 }, Instant::now()));
        hub.wait_no_longer_than(patience);
        inflows[0].let_go.try_recv() == Ok(Some(()))
    };
    (0..2).for_each(|peer| hub.offers(peer, &mut Vec::new()));
    hub.hear(0, ToSender::Ask { entry: 0, len: u64::MAX }).unwrap();
    hub.hear(1, ToSender::Ask { entry: 1, len: 1 }).unwrap();
    assert!(!is_let_go(&mut hub), "it hashes, for an hour perhaps");
    let why = Lost::new(Reason::Exists, "");
    hub.hear(0, ToSender::Refused { entry: 0, why }).unwrap();
    hub.note(&[], Note::Over { targets: Arc::from([Target { peer: 1, turn: 1 }]) });
    assert!(!is_let_go(&mut hub), "nobody waits for it");
    hub.hear(1, ToSender::Ask { entry: 0, len: 1 }).unwrap();
    assert!(is_let_go(&mut hub));
}

#[test]
fn what_a_receiver_does_not_know_is_told_again() {
    let (mut hub, _todo) = hub(1);
    let _inflow = hub.enter(0, 0);
    hub.offers(0, &mut Vec::new());
    for entry in 0..2 {
        hub.hear(0, ToSender::Refused { entry, why: broken_off() }).unwrap();
    }
    for (known, left) in [(2, 0), (1, 1), (0, 2)] {
        hub.leave(0);
        let _inflow = hub.enter(0, known);
        hub.offers(0, &mut Vec::new());
        assert_eq!((hub.peers[0].left, hub.peers[0].open), (left, left), "it knows of {known}");
    }
}

#[test]
fn what_this_end_could_not_send_is_told_again_since_the_word_of_it_may_be_lost() {
    let (mut hub, _todo) = hub(1);
    let _inflow = hub.enter(0, 0);
    hub.offers(0, &mut Vec::new());
    let why = Lost::new(Reason::Unreadable, "cannot read it");
    for entry in 0..2 {
        hub.hear(0, ToSender::Want { entry, from: 0 }).unwrap();
        hub.note(&[Target { peer: 0, turn: 1 }], Note::Failed { entry, why: why.clone() });
    }
    assert!(hub.is_done(0));
    hub.leave(0);
    let _inflow = hub.enter(0, 2);
    hub.offers(0, &mut Vec::new());
    assert!(!hub.is_done(0));
    // One knew it, and one did not and gets it now.
    hub.hear(0, ToSender::Refused { entry: 0, why }).unwrap();
    hub.hear(0, ToSender::Want { entry: 1, from: 0 }).unwrap();
    hub.note(&[], Note::Digest { entry: 1, size: 1, digest: blake3::hash(b"x") });
    hub.hear(0, ToSender::Kept { entry: 1, was_there: false }).unwrap();
    assert!(hub.is_done(0));
    let mut summary = Summary::new(crate::summary::Direction::Sent, "192.0.2.7:4433", 2);
    hub.conclude(0, &mut summary);
    let counts = ["files_ok", "files_skipped"].map(|name| summary.to_value()[name].clone());
    assert_eq!(counts, [1, 1].map(serde_json::Value::from));
}

#[test]
fn a_receiver_has_the_digest_that_it_was_told() {
    let (mut hub, _todo) = hub(2);
    let _inflows = [hub.enter(0, 0), hub.enter(1, 0)];
    let (old, new) = (blake3::hash(b"old"), blake3::hash(b"new"));
    for (peer, digest) in [(0, old), (1, new)] {
        hub.offers(peer, &mut Vec::new());
        hub.note(&[Target { peer, turn: 1 }], Note::Digest { entry: 0, size: 3, digest });
    }
    for (peer, digest) in [(0, old), (1, new)] {
        hub.hear(peer, ToSender::Kept { entry: 0, was_there: false }).unwrap();
        assert_eq!(digest_of(&mut hub, peer), Some(digest.to_string().into()));
    }
}
