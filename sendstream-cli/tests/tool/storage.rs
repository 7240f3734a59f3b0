//! Disks that are full or read-only. Both take a file system of the test's own, which only root may
//! mount.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::{Files, Receiver, send, send_well, sendstream, stderr};

/// A file system in memory of one MiB. Dropping it unmounts it.
struct Mount(PathBuf);

impl Mount {
    /// `None`, with a word on standard error, where that is not allowed.
    fn new(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mount = Self(at.to_owned());
        let mut mounted = Command::new("mount");
        mounted.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at);
        if Self::run(&mut mounted) {
            return Some(mount);
        }
        std::mem::forget(mount);
        eprintln!("SKIPPED: only root can mount a file system to fill");
        None
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        assert!(Self::run(Command::new("mount").args(["-o", &option]).arg(&self.0)));
    }

    fn run(command: &mut Command) -> bool {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Self::run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

#[test]
fn a_full_disk_is_told_to_the_sender_and_leaves_room_for_what_fits() {
    let parent = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::new(&parent.path().join("inbox")) else { return };
    let receiver = Receiver::start_in(parent, sendstream(), &[]);
    let files = Files::new();
    let sent = send(&[], &[&files.file("large", &[7; 3 << 20])], &receiver.ticket);
    assert_eq!(sent.status.code(), Some(1));
    assert!(stderr(&sent).contains("the receiver's disk is full"), "{}", stderr(&sent));
    assert_eq!(receiver.session()["ok"], false);
    send_well(&[&files.file("small", &[8; 900 << 10])], &receiver.ticket);
    assert_eq!(receiver.everything(), ["inbox/small"]);
}

#[test]
fn a_read_only_disk_is_told_to_the_sender_and_the_receiver_goes_on() {
    let parent = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new(&parent.path().join("inbox")) else { return };
    let receiver = Receiver::start_in(parent, sendstream(), &[]);
    let files = Files::new();
    mount.remount("ro");
    let sent = send(&[], &[&files.file("file", b"content")], &receiver.ticket);
    assert_eq!(sent.status.code(), Some(1));
    println!("{}", stderr(&sent));
    assert!(stderr(&sent).contains("file"), "{}", stderr(&sent));
    assert_eq!(receiver.session()["ok"], false);
    assert!(receiver.everything().is_empty());
    mount.remount("rw");
    send_well(&[&files.path("file")], &receiver.ticket);
    assert_eq!(receiver.everything(), ["inbox/file"]);
}
