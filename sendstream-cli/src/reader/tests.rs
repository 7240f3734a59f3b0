use std::{fs, os::unix::fs::FileExt as _, path::PathBuf};

use futures::StreamExt as _;
use rustix::fs::SeekFrom as Seek;

use super::*;
use crate::{
    protocol::message::{Decoder, Part},
    walk::Choice,
};

/// Sends all of the files to one target from `from` on, and returns what it is told.
fn send(paths: &[PathBuf], from: u64) -> (Vec<ToReceiver>, Vec<u8>, Vec<Piece>) {
    let target = Target { peer: 0, turn: 0 };
    let listing = Arc::new(Listing::new(paths, &Choice::default()).unwrap());
    let jobs = (0..listing.items.len() as u32).map(|entry| Job::Send { entry, targets: vec![(target, from)] });
    let pieces = run(listing.clone(), jobs.collect(), 1);
    let (messages, content) = take_apart(&pieces);
    (messages, content, pieces)
}

fn run(listing: Arc<Listing>, todo: Vec<Job>, peers: usize) -> Vec<Piece> {
    let (jobs, receiver) = std_mpsc::channel();
    todo.into_iter().for_each(|job| jobs.send(job).unwrap());
    drop(jobs);
    block_on(spawn(listing, receiver, Arc::new(Wanted::new(peers)), None).unwrap().collect())
}

fn take_apart<'a>(pieces: impl IntoIterator<Item = &'a Piece>) -> (Vec<ToReceiver>, Vec<u8>) {
    let (mut decoder, mut messages, mut content) = (Decoder::default(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut input = &piece.bytes[..];
        while let Some(part) = decoder.next(&mut input).unwrap() {
            match part {
                Part::Message(ToReceiver::Hole(len)) => content.resize(content.len() + len as usize, 0),
                Part::Message(message) => messages.push(message),
                Part::Content(bytes) => content.extend_from_slice(bytes),
            }
        }
    }
    decoder.end().unwrap();
    (messages, content)
}

fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31) >> 5) as u8 | 1).collect()
}

#[test]
fn what_nobody_wants_any_more_is_not_hashed_to_where_it_was_wanted_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    // It takes hours to hash.
    fs::File::create(&path).unwrap().set_len(8 << 40).unwrap();
    let listing = Arc::new(Listing::new(&[path], &Choice::default()).unwrap());
    let wanted = Arc::new(Wanted::new(1));
    let (jobs, todo) = std_mpsc::channel();
    let target = Target { peer: 0, turn: 0 };
    jobs.send(Job::Send { entry: 0, targets: vec![(target, 4 << 40)] }).unwrap();
    let pieces = spawn(listing, todo, Arc::clone(&wanted), None).unwrap();
    drop(jobs);
    let (tell, ended) = std_mpsc::channel();
    thread::spawn(move || tell.send(block_on(pieces.collect::<Vec<_>>()).iter().all(|it| it.bytes.is_empty())));
    wanted.set_turn(0, u32::MAX);
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(true), "the reader ends");
}

#[test]
fn the_pieces_of_a_file_are_its_content_and_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    for len in [0, 1, CHUNK_LEN - 100, CHUNK_LEN - 12, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN + 17] {
        let content = noise(len);
        let path = dir.path().join("x");
        fs::write(&path, &content).unwrap();
        let (messages, sent, pieces) = send(&[path], 0);
        assert!(sent == content, "{len}");
        assert_eq!(pieces.iter().map(|piece| piece.content).sum::<u64>(), len as u64);
        let [ToReceiver::Begin { entry: 0, from: 0 }, ToReceiver::End { size, digest, .. }] = messages[..] else {
            panic!("{messages:?}")
        };
        assert_eq!((size, digest), (len as u64, blake3::hash(&content)));
    }
}

#[test]
fn small_files_share_a_piece() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..100).map(|i| dir.path().join(i.to_string())).collect();
    paths.iter().for_each(|path| fs::write(path, noise(100)).unwrap());
    let (messages, content, pieces) = send(&paths, 0);
    assert_eq!((messages.len(), content.len()), (200, 10_000));
    assert_eq!(pieces.len(), 1);
}

#[test]
fn a_file_can_be_sent_from_the_middle_on_and_its_digest_is_of_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let content = noise(2 * CHUNK_LEN + 5);
    let path = dir.path().join("x");
    fs::write(&path, &content).unwrap();
    let (messages, sent, _) = send(&[path], CHUNK_LEN as u64 + 1);
    assert!(sent == content[CHUNK_LEN + 1..]);
    assert!(matches!(messages[1], ToReceiver::End { digest, .. } if digest == blake3::hash(&content)));
}

#[test]
fn one_reading_serves_receivers_that_begin_at_different_places() {
    let dir = tempfile::tempdir().unwrap();
    let content = noise(3 * CHUNK_LEN);
    let path = dir.path().join("x");
    fs::write(&path, &content).unwrap();
    let listing = Arc::new(Listing::new(&[path], &Choice::default()).unwrap());
    let froms = [2 * CHUNK_LEN + 7, 100, 100];
    let targets = froms.iter().enumerate().map(|(peer, from)| (Target { peer, turn: 0 }, *from as u64)).collect();
    let pieces = run(listing, vec![Job::Send { entry: 0, targets }], 3);
    for (peer, from) in froms.iter().enumerate() {
        let own = pieces.iter().filter(|piece| piece.targets.iter().any(|target| target.peer == peer));
        let (messages, sent) = take_apart(own);
        assert!(matches!(messages[0], ToReceiver::Begin { entry: 0, from: begin } if begin == *from as u64));
        assert!(sent == content[*from..], "{peer}");
        assert!(matches!(messages[1], ToReceiver::End { digest, .. } if digest == blake3::hash(&content)));
    }
}

#[test]
fn one_receiver_that_wants_more_than_there_is_takes_nothing_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, b"content").unwrap();
    let listing = Arc::new(Listing::new(&[path], &Choice::default()).unwrap());
    let targets = [0, 8].iter().enumerate().map(|(peer, from)| (Target { peer, turn: 0 }, *from)).collect();
    let pieces = run(listing, vec![Job::Send { entry: 0, targets }], 2);
    let of = |peer| take_apart(pieces.iter().filter(move |piece| piece.targets.iter().any(|it| it.peer == peer))).0;
    assert!(matches!(of(0)[..], [ToReceiver::Begin { .. }, ToReceiver::End { size: 7, .. }]), "{:?}", of(0));
    assert!(matches!(&of(1)[..], [ToReceiver::Failed { why, .. }] if why.reason == Reason::Changed), "{:?}", of(1));
}

#[test]
fn a_receiver_may_refuse_several_files() {
    let wanted = Wanted::new(1);
    let target = Target { peer: 0, turn: 0 };
    [3, 5].into_iter().for_each(|entry| wanted.refuse(0, entry));
    assert_eq!([3, 4, 5].map(|entry| wanted.wants(target, entry)), [false, true, false]);
    wanted.set_turn(0, 0);
    assert!(wanted.wants(target, 3), "another connection may want it");
}

#[test]
fn a_file_that_is_larger_than_the_system_says_is_read_to_its_end() {
    let (messages, content, _) = send(&[PathBuf::from("/proc/self/limits")], 0);
    assert!(content.starts_with(b"Limit"), "{content:?}");
    assert!(matches!(messages[1], ToReceiver::End { size, .. } if size == content.len() as u64));
}

#[test]
fn holes_are_told_and_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    let file = fs::File::create(&path).unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_all_at(&noise(70_000), 3 << 20).unwrap();
    if rustix::fs::seek(&file, Seek::Data(0)) == Ok(0) {
        eprintln!("SKIPPED: the file system keeps no holes");
        return;
    }
    let content = fs::read(&path).unwrap();
    for from in [0, 5, (3 << 20) + 9] {
        let (messages, sent, pieces) = send(std::slice::from_ref(&path), from);
        assert!(sent == content[from as usize..]);
        assert!(pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>() < 100_000);
        assert!(matches!(messages[1], ToReceiver::End { digest, .. } if digest == blake3::hash(&content)));
    }
}

#[test]
fn an_unreadable_file_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["gone", "there"].map(|name| dir.path().join(name));
    paths.iter().for_each(|path| fs::write(path, b"x").unwrap());
    let listing = Arc::new(Listing::new(&paths, &Choice::default()).unwrap());
    fs::remove_file(&paths[0]).unwrap();
    let target = Target { peer: 0, turn: 0 };
    let jobs = (0..2).map(|entry| Job::Send { entry, targets: vec![(target, 0)] }).collect();
    let (messages, _) = take_apart(&run(listing, jobs, 1));
    assert!(matches!(&messages[0], ToReceiver::Failed { entry: 0, why: Lost { reason: Reason::Unreadable, .. } }));
    assert!(matches!(messages[2], ToReceiver::End { .. }));
}

#[test]
fn a_file_that_grows_while_it_is_read_is_told_to_have_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, noise(50 * CHUNK_LEN)).unwrap();
    let listing = Arc::new(Listing::new(std::slice::from_ref(&path), &Choice::default()).unwrap());
    let (jobs, receiver) = std_mpsc::channel();
    let targets = vec![(Target { peer: 0, turn: 0 }, 0)];
    jobs.send(Job::Send { entry: 0, targets }).unwrap();
    drop(jobs);
    let mut pieces = spawn(listing, receiver, Arc::new(Wanted::new(1)), None).unwrap();
    let mut all = vec![block_on(pieces.next()).unwrap()];
    // The channel holds the reader up in the middle.
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, b"more"))
        .unwrap();
    all.extend(block_on(pieces.collect::<Vec<_>>()));
    let (messages, _) = take_apart(&all);
    assert!(
        matches!(&messages[1], ToReceiver::Failed { why: Lost { reason: Reason::Changed, .. }, .. }),
        "{messages:?}"
    );
}

#[test]
fn a_digest_of_the_beginning_is_proven_and_said_to_be_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, b"content").unwrap();
    let listing = Arc::new(Listing::new(&[path], &Choice::default()).unwrap());
    let target = Target { peer: 0, turn: 0 };
    let jobs = [3, 7, 8].map(|len| Job::Prove { entry: 0, len, target }).into();
    let (messages, _) = take_apart(&run(listing, jobs, 1));
    let nothing = blake3::Hash::from_bytes([0; 32]);
    let expected = [(false, blake3::hash(b"con")), (true, blake3::hash(b"content")), (false, nothing)];
    for (message, (ends, digest)) in messages.iter().zip(expected) {
        assert_eq!(*message, ToReceiver::Proof { entry: 0, ends, digest });
    }
}

#[test]
fn a_beginning_that_was_proven_is_not_joined_to_another_versions_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, b"old beginning, old rest").unwrap();
    let listing = Arc::new(Listing::new(std::slice::from_ref(&path), &Choice::default()).unwrap());
    let (jobs, receiver) = std_mpsc::channel();
    let target = Target { peer: 0, turn: 0 };
    jobs.send(Job::Prove { entry: 0, len: 13, target }).unwrap();
    let mut pieces = spawn(listing, receiver, Arc::new(Wanted::new(1)), None).unwrap();
    let mut all = vec![block_on(pieces.next()).unwrap()];
    // Another file of the same length and time takes its place.
    let new = dir.path().join("new");
    let mtime = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&new, b"new beginning, new rest").unwrap();
    fs::File::options().write(true).open(&new).unwrap().set_modified(mtime).unwrap();
    fs::rename(&new, &path).unwrap();
    jobs.send(Job::Send { entry: 0, targets: vec![(target, 13)] }).unwrap();
    drop(jobs);
    all.extend(block_on(pieces.collect::<Vec<_>>()));
    let (messages, sent) = take_apart(&all);
    assert_eq!(sent, b", new rest");
    let whole = blake3::hash(b"new beginning, new rest");
    assert!(matches!(messages[2], ToReceiver::End { digest, .. } if digest == whole), "{messages:?}");
}

#[test]
fn a_file_that_nobody_wants_any_more_is_not_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["large", "next"].map(|name| dir.path().join(name));
    fs::write(&paths[0], noise(50 * CHUNK_LEN)).unwrap();
    fs::write(&paths[1], b"y").unwrap();
    let listing = Arc::new(Listing::new(&paths, &Choice::default()).unwrap());
    let (jobs, receiver) = std_mpsc::channel();
    for entry in 0..2 {
        jobs.send(Job::Send { entry, targets: vec![(Target { peer: 0, turn: 0 }, 0)] }).unwrap();
    }
    drop(jobs);
    let wanted = Arc::new(Wanted::new(1));
    let mut pieces = spawn(listing, receiver, Arc::clone(&wanted), None).unwrap();
    let mut all = vec![block_on(pieces.next()).unwrap()];
    wanted.refuse(0, 0);
    all.extend(block_on(pieces.collect::<Vec<_>>()));
    assert!(all.len() < 15, "{} pieces still came", all.len());
    let (messages, _) = take_apart(&all);
    assert!(matches!(messages[1], ToReceiver::Failed { entry: 0, .. }));
    assert!(matches!(messages[3], ToReceiver::End { size: 1, .. }));
}
