use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::{part::Part, *};

const KEEP: Rules = Rules { overwrite: false, fsync: false };
const OVERWRITE: Rules = Rules { overwrite: true, fsync: true };
const META: Meta = Meta { mode: 0o640, mtime: (1_000_000_000, 7) };

fn open(dir: &tempfile::TempDir, rules: Rules) -> Inbox {
    Inbox::open(dir.path(), rules, &Progress::new(true)).unwrap()
}

fn name(name: &str) -> SafeName {
    SafeName::new(name.as_bytes()).unwrap()
}

fn keep(part: Part<'_>, content: &[u8]) -> Result<usize, StoreError> {
    part.keep(content.len() as u64, META, blake3::hash(content))
}

/// Stores a file as a session does.
fn store(inbox: &Inbox, path: &str, content: &[u8]) -> Result<(), StoreError> {
    match inbox.look(&name(path))? {
        Found::File(_) if !inbox.overwrites() => return Err(StoreError::Exists),
        _ => {}
    }
    let mut part = Part::new(inbox, name(path));
    content.chunks(100_000).try_for_each(|chunk| part.write(chunk))?;
    keep(part, content).map(drop)
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn large() -> Vec<u8> {
    (0..1_000_000u64).map(|i| ((i * i) >> 7) as u8).collect()
}

#[test]
fn a_file_has_its_name_only_when_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    let content = large();
    let mut part = Part::new(&inbox, name("a/b/x"));
    part.write(&content).unwrap();
    let unfinished = entries(dir.path());
    assert!(unfinished.len() == 1 && unfinished[0].ends_with(".part"), "{unfinished:?}");
    assert_eq!(mode(dir.path().join(&unfinished[0])), 0o600, "it is its owner's alone");
    assert_eq!(keep(part, &content).unwrap(), 2, "two directories were made");
    assert_eq!(entries(dir.path()), ["a"]);
    assert_eq!(entries(&dir.path().join("a/b")), ["x"]);
    assert!(fs::read(dir.path().join("a/b/x")).unwrap() == content);
    assert_eq!(keep(Part::new(&inbox, name("a/c/y")), b"").unwrap(), 1);
}

#[test]
fn a_file_has_the_permissions_and_the_time_of_its_source() {
    let dir = tempfile::tempdir().unwrap();
    for (path, bits) in [("private", 0o600), ("run", 0o755), ("all", 0o666), ("none", 0o000)] {
        let meta = Meta { mode: bits, ..META };
        Part::new(&open(&dir, KEEP), name(path)).keep(0, meta, blake3::hash(b"")).unwrap();
        let there = fs::metadata(dir.path().join(path)).unwrap();
        assert_eq!(mode(dir.path().join(path)), u32::from(bits));
        assert_eq!((there.mtime(), there.mtime_nsec()), (1_000_000_000, 7));
    }
}

#[test]
fn a_directory_gets_its_permissions_and_its_time_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    let meta = Meta { mode: 0o555, ..META };
    assert_eq!(inbox.make_directory(&name("top/sub"), meta).unwrap(), 2);
    assert_eq!(inbox.make_directory(&name("top/sub"), meta).unwrap(), 0, "it is there");
    store(&inbox, "top/sub/x", b"").unwrap();
    inbox.finish_directory(&name("top/sub"), meta, true);
    assert_eq!(mode(dir.path().join("top/sub")), 0o555);
    assert_eq!(fs::metadata(dir.path().join("top/sub")).unwrap().mtime(), 1_000_000_000);

    // What was there keeps its permissions.
    fs::create_dir(dir.path().join("mine")).unwrap();
    fs::set_permissions(dir.path().join("mine"), fs::Permissions::from_mode(0o700)).unwrap();
    inbox.make_directory(&name("mine"), Meta { mode: 0o777, ..META }).unwrap();
    inbox.finish_directory(&name("mine"), Meta { mode: 0o777, ..META }, false);
    assert_eq!(mode(dir.path().join("mine")), 0o700);
}

#[test]
fn directories_made_for_a_file_that_gets_no_name_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    let content = large();
    let mut part = Part::new(&inbox, name("other/e/x"));
    part.write(&content).unwrap();
    // A part file that somebody took away cannot be renamed.
    fs::remove_file(dir.path().join(&entries(dir.path())[0])).unwrap();
    assert!(keep(part, &content).is_err());
    assert_eq!(entries(dir.path()), [""; 0]);
}

#[test]
fn directories_made_for_what_cannot_be_made_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    // No system has a target of that length.
    assert!(matches!(inbox.make_link(&name("a/b/link"), &b"x/".repeat(2048)), Err(StoreError::Io(_))));
    assert_eq!(entries(dir.path()), [""; 0]);
    fs::create_dir(dir.path().join("mine")).unwrap();
    assert!(inbox.make_link(&name("mine/a/link"), &b"x/".repeat(2048)).is_err());
    assert_eq!(entries(dir.path()), ["mine"], "what was there before stays");
    assert_eq!(entries(&dir.path().join("mine")), [""; 0]);
}

#[test]
fn a_directory_that_was_moved_away_takes_nothing_more() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let inbox = open(&dir, KEEP);
    store(&inbox, "a/b/x", b"x").unwrap();
    fs::rename(dir.path().join("a/b"), outside.path().join("b")).unwrap();
    store(&inbox, "a/b/y", b"y").unwrap();
    assert_eq!(
        (entries(&dir.path().join("a/b")), entries(&outside.path().join("b"))),
        (vec!["y".into()], vec!["x".into()])
    );
    // The same directory, but behind a link.
    fs::rename(dir.path().join("a"), outside.path().join("a")).unwrap();
    symlink(outside.path().join("a"), dir.path().join("a")).unwrap();
    assert!(matches!(store(&inbox, "a/b/z", b"z"), Err(StoreError::ThroughLink)));
    assert_eq!(entries(&outside.path().join("a/b")), ["y"]);
}

#[test]
fn what_was_found_stays_when_hashing_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    let content = large();
    let mut part = Part::new(&inbox, name("x"));
    part.write(&content).unwrap();
    part.leave();
    let mut part = Part::find(&inbox, &name("x"), || false).unwrap().unwrap();
    let chunks = std::cell::Cell::new(0);
    let stopped = part.resume(|| chunks.replace(chunks.get() + 1) == 0);
    assert!(matches!(stopped, Err(StoreError::Stopped)));
    assert_eq!(part.resume(|| true).unwrap(), blake3::hash(&content), "from the beginning");
    assert_eq!(part.leave(), content.len() as u64);
    let part = Part::find(&inbox, &name("x"), || false).unwrap().unwrap();
    assert_eq!(part.leave(), content.len() as u64, "it was not hashed at all");

    let mut part = Part::new(&inbox, name("sparse"));
    part.write(&content).unwrap();
    assert!(matches!(part.hole(1 << 20, || false), Err(StoreError::Stopped)));
    assert!(part.leave() >= content.len() as u64);
}

#[test]
fn a_file_that_is_another_one_meanwhile_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, OVERWRITE);
    store(&inbox, "x", b"content").unwrap();
    let hashed = Stamp::of(&fs::metadata(dir.path().join("x")).unwrap());
    fs::write(dir.path().join("new"), b"another").unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("x")).unwrap();
    let before = mode(dir.path().join("x"));
    assert!(matches!(inbox.touch(&name("x"), hashed, Meta { mode: 0o600, ..META }), Err(StoreError::Exists)));
    assert_eq!(mode(dir.path().join("x")), before);
}

#[test]
fn contents_survive_however_they_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    let content = large();
    for len in [1_000, 60_000, 100_000, 256 << 10, (256 << 10) + 1, 1_000_000] {
        let mut part = Part::new(&inbox, name(&len.to_string()));
        content.chunks(len).for_each(|chunk| part.write(chunk).unwrap());
        keep(part, &content).unwrap();
        assert!(fs::read(dir.path().join(len.to_string())).unwrap() == content, "{len}");
    }
}

#[test]
fn holes_take_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    let mut part = Part::new(&inbox, name("sparse"));
    part.write(b"begin").unwrap();
    part.hole(8 << 20, || true).unwrap();
    part.write(b"end").unwrap();
    part.hole(1 << 20, || true).unwrap();
    let content = [b"begin".as_slice(), &vec![0; 8 << 20], b"end", &vec![0; 1 << 20]].concat();
    keep(part, &content).unwrap();
    assert!(fs::read(dir.path().join("sparse")).unwrap() == content);
    let blocks = fs::metadata(dir.path().join("sparse")).unwrap().blocks();
    assert!(blocks < 1000, "{blocks} blocks");

    let mut part = Part::new(&inbox, name("endless"));
    part.write(b"x").unwrap();
    for len in [u64::MAX, i64::MAX as u64 - 1] {
        assert!(part.hole(len, || panic!("it is hashed")).is_err(), "{len}");
    }
}

#[test]
fn a_dropped_or_corrupt_file_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    let content = large();
    let mut part = Part::new(&inbox, name("x"));
    part.write(&content).unwrap();
    drop(part);
    for wrong in [&b"c0ntent"[..], b"conten", b"content!"] {
        let mut part = Part::new(&inbox, name("x"));
        part.write(wrong).unwrap();
        assert!(matches!(keep(part, b"content"), Err(StoreError::Corrupt)));
    }
    assert_eq!(entries(dir.path()), [""; 0]);
}

#[test]
fn what_is_left_is_found_again_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let content = large();
    let inbox = open(&dir, KEEP);
    let mut part = Part::new(&inbox, name("a/x"));
    part.write(&content[..600_000]).unwrap();
    assert_eq!(part.leave(), 600_000);
    let mut small = Part::new(&inbox, name("small"));
    small.write(&content[..1000]).unwrap();
    assert_eq!(small.leave(), 0, "it is sent again as fast");
    assert_eq!(entries(dir.path()).len(), 1);

    // Another process finds it.
    let inbox = open(&dir, KEEP);
    assert!(Part::find(&inbox, &name("x"), || false).unwrap().is_none());
    let mut part = Part::find(&inbox, &name("a/x"), || false).unwrap().unwrap();
    assert_eq!(part.found_len().unwrap(), 600_000);
    assert_eq!(part.resume(|| true).unwrap(), blake3::hash(&content[..600_000]));
    part.write(&content[600_000..]).unwrap();
    keep(part, &content).unwrap();
    assert!(fs::read(dir.path().join("a/x")).unwrap() == content);
    assert_eq!(entries(dir.path()), ["a"]);
}

#[test]
fn two_that_receive_one_file_do_not_write_to_one_part() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, OVERWRITE);
    let content = large();
    let other: Vec<u8> = content.iter().map(|byte| !byte).collect();
    let (mut first, mut second) = (Part::new(&inbox, name("x")), Part::new(&inbox, name("x")));
    first.write(&content[..500_000]).unwrap();
    second.write(&other).unwrap();
    assert!(Part::find(&inbox, &name("x"), || false).unwrap().is_none(), "it is being written");
    first.write(&content[500_000..]).unwrap();
    keep(second, &other).unwrap();
    assert!(fs::read(dir.path().join("x")).unwrap() == other);
    keep(first, &content).unwrap();
    assert!(fs::read(dir.path().join("x")).unwrap() == content);
    assert_eq!(entries(dir.path()), ["x"]);
}

#[test]
fn a_part_that_is_none_of_ours_is_not_touched() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let inbox = open(&dir, KEEP);
    let content = large();
    let mut part = Part::new(&inbox, name("x"));
    part.write(&content).unwrap();
    part.leave();
    let path = dir.path().join(&entries(dir.path())[0]);
    fs::remove_file(&path).unwrap();
    let target = outside.path().join("target");
    fs::write(&target, &content).unwrap();
    type Plant = fn(&Path, &Path) -> io::Result<()>;
    let plants: [Plant; 2] = [|target, path| symlink(target, path), |target, path| fs::hard_link(target, path)];
    for plant in plants {
        plant(&target, &path).unwrap();
        assert!(Part::find(&inbox, &name("x"), || false).unwrap().is_none());
        store(&inbox, "x", b"content").unwrap();
        fs::remove_file(dir.path().join("x")).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(fs::read(&target).unwrap() == content);
    }
}

#[test]
fn a_part_that_is_old_is_removed_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join(format!("{PART_PREFIX}old{PART_SUFFIX}"));
    let week = std::time::Duration::from_secs(8 * 24 * 3600);
    // It has the time of its source already, and its permissions.
    File::create(&part).unwrap().set_modified(SystemTime::now() - week).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o400)).unwrap();
    let inbox = open(&dir, KEEP);
    assert!(part.exists() && mode(&part) == 0o600);
    inbox.look_for_parts(dir.path(), SystemTime::now() + week, &Progress::new(true));
    assert!(!part.exists());
}

#[test]
fn an_existing_file_is_replaced_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    store(&inbox, "x", b"old").unwrap();
    assert!(matches!(store(&inbox, "x", b"new"), Err(StoreError::Exists)));
    assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"old");
    let inbox = open(&dir, OVERWRITE);
    store(&inbox, "x", b"new").unwrap();
    assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"new");
    assert_eq!(entries(dir.path()), ["x"]);
}

#[test]
fn a_file_that_comes_up_while_another_arrives_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    let part = Part::new(&inbox, name("x"));
    fs::write(dir.path().join("x"), b"mine").unwrap();
    assert!(matches!(keep(part, b""), Err(StoreError::Exists)));
    assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"mine");
    assert_eq!(entries(dir.path()), ["x"]);
}

#[test]
fn files_and_directories_do_not_replace_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, OVERWRITE);
    store(&inbox, "file", b"").unwrap();
    store(&inbox, "dir/x", b"").unwrap();
    assert!(matches!(store(&inbox, "file/x", b""), Err(StoreError::NotDirectory)));
    assert!(matches!(store(&inbox, "dir", b""), Err(StoreError::IsDirectory)));
    assert!(matches!(inbox.make_directory(&name("file"), META), Err(StoreError::NotDirectory)));
    assert!(matches!(inbox.make_link(&name("dir"), b"file"), Err(StoreError::IsDirectory)));
}

#[test]
fn no_path_leads_out_through_a_symbolic_link() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink(outside.path(), dir.path().join("link")).unwrap();
    fs::write(outside.path().join("target"), b"old").unwrap();
    symlink(outside.path().join("target"), dir.path().join("file")).unwrap();
    let inbox = open(&dir, OVERWRITE);
    assert!(matches!(store(&inbox, "link/x", b""), Err(StoreError::ThroughLink)));
    assert!(matches!(inbox.make_directory(&name("link/x"), META), Err(StoreError::ThroughLink)));
    assert!(matches!(inbox.make_directory(&name("link"), META), Err(StoreError::ThroughLink)));
    assert!(matches!(inbox.make_link(&name("link/x"), b"y"), Err(StoreError::ThroughLink)));
    // A link in the file's own place is replaced, not followed.
    assert!(inbox.read(&name("file")).is_err());
    store(&inbox, "file", b"new").unwrap();
    assert_eq!(fs::read(outside.path().join("target")).unwrap(), b"old");
    assert_eq!(entries(outside.path()), ["target"]);
}

#[test]
fn a_link_that_was_received_is_not_followed_either() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir, KEEP);
    assert_eq!(inbox.make_link(&name("link"), b"dir").unwrap(), (false, 0));
    assert_eq!(inbox.make_link(&name("link"), b"dir").unwrap(), (true, 0), "it is there");
    assert_eq!(inbox.make_link(&name("a/b/link"), b"x").unwrap(), (false, 2), "two directories were made");
    assert!(matches!(inbox.make_link(&name("link"), b"other"), Err(StoreError::Exists)));
    inbox.make_directory(&name("dir"), META).unwrap();
    assert!(matches!(store(&inbox, "link/x", b""), Err(StoreError::ThroughLink)));
}

#[test]
fn a_link_stays_inside_whatever_other_links_there_are() {
    let stays = |path: &str, target: &str| stays_inside(&name(path), target.as_bytes());
    for (path, target) in [("x", "y"), ("x", "a/b"), ("a/x", "../y"), ("a/b/x", "../../c/d"), ("a/x", ".."), ("x", ".")]
    {
        assert!(stays(path, target), "{path} -> {target}");
    }
    for (path, target) in [
        ("x", ""),
        ("x", "/etc/passwd"),
        ("x", ".."),
        ("a/x", "../../y"),
        ("a/x", "./../../y"),
        // `b` may be a link to a directory further up.
        ("a/x", "b/../y"),
        ("a/b/x", "../c/../../y"),
    ] {
        assert!(!stays(path, target), "{path} -> {target}");
    }
}
