//! aioquic as the peer, in a process of its own that runs one of the scripts in `tests/peers`.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Lines, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use sendstream::Identity;

/// The other process.
pub(crate) struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    pub(crate) fn start<A: AsRef<OsStr>>(python: &Path, script: &str, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut child = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Starts a peer that plays a server with `certified`. The address is where it listens.
    pub(crate) fn serve(python: &Path, script: &str, certified: &Certified) -> (Self, SocketAddr) {
        let mut peer =
            Self::start(python, script, ["server".to_owned(), certified.path("certificate"), certified.path("key")]);
        let port: u16 = peer.says("ready").parse().unwrap();
        (peer, ([127, 0, 0, 1], port).into())
    }

    /// Gives it a line to read.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// What follows `word` in the next line that it prints.
    pub(crate) fn says(&mut self, word: &str) -> String {
        let line = self.lines.next().expect("the peer goes on").unwrap();
        let (first, rest) = line.split_once(' ').unwrap();
        assert_eq!(first, word, "{line}");
        rest.to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate for `localhost` with its key, in files and as an identity.
pub(crate) struct Certified {
    directory: tempfile::TempDir,
    pub(crate) identity: Identity,
}

impl Certified {
    pub(crate) fn new() -> Self {
        let key = super::foreign::certified();
        let directory = tempfile::tempdir().unwrap();
        let (certificate, private) = (directory.path().join("certificate"), directory.path().join("key"));
        std::fs::write(&certificate, key.cert.pem()).unwrap();
        std::fs::write(&private, key.signing_key.serialize_pem()).unwrap();
        let identity = Identity::from_files(certificate, private).unwrap();
        Self { directory, identity }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }
}
