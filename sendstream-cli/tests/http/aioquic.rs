//! aioquic's HTTP/3 client and server, over good and lossy networks.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    Certified, HANG, Process, Web, digest, get, names, noise, python,
    relay::{Faults, Relay},
    stderr,
};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/http3_peer.py")
}

/// The files of one fetch.
fn contents(sizes: impl IntoIterator<Item = usize>) -> Vec<(String, Vec<u8>)> {
    sizes.into_iter().enumerate().map(|(index, size)| (format!("file{index}"), noise(index as u64, size))).collect()
}

fn small() -> Vec<(String, Vec<u8>)> {
    contents([0, 1, 1 << 20])
}

fn many() -> Vec<(String, Vec<u8>)> {
    contents((0..100).map(|i| 5_000 + i))
}

/// aioquic fetches from `http serve`, which is at `address` as far as aioquic knows.
fn aioquic_fetches(python: &Path, web: &Web, address: SocketAddr, wanted: &[(String, Vec<u8>)]) {
    for (name, content) in wanted {
        web.file(name, content);
    }
    let into = tempfile::tempdir().unwrap();
    let output = assert_cmd::Command::new(python)
        .arg(script())
        .args(["client", &address.port().to_string()])
        .arg(into.path())
        .args(wanted.iter().map(|(name, _)| name))
        .timeout(HANG)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{said}{}", stderr(&output));
    for (name, content) in wanted {
        assert!(said.lines().any(|line| line == format!("done 200 {name}")), "{name}: {said}");
        assert_eq!(digest(&fs::read(into.path().join(name)).unwrap()), digest(content), "{name}");
    }
}

/// A server on aioquic, with a folder.
struct Aioquic {
    _process: Process,
    address: SocketAddr,
    certified: Certified,
    folder: tempfile::TempDir,
}

impl Aioquic {
    fn start(python: &Path) -> Self {
        let (certified, folder) = (Certified::new(), tempfile::tempdir().unwrap());
        let mut command = Command::new(python);
        command
            .arg(script())
            .args(["server", &certified.path("certificate"), &certified.path("key")])
            .arg(folder.path());
        let process = Process::start_with_input(command);
        let port: u16 = process.line().strip_prefix("ready ").unwrap().parse().unwrap();
        Self { _process: process, address: ([127, 0, 0, 1], port).into(), certified, folder }
    }

    /// `http get` fetches, from `address`.
    fn gives(&self, address: SocketAddr, wanted: &[(String, Vec<u8>)]) {
        for (name, content) in wanted {
            fs::write(self.folder.path().join(name), content).unwrap();
        }
        let into = tempfile::tempdir().unwrap();
        let urls: Vec<_> = wanted.iter().map(|(name, _)| format!("https://{address}/{name}")).collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let (ca, dir) = (self.certified.path("certificate"), into.path().to_str().unwrap().to_owned());
        let output = get(&[&["--quiet", "--ca", &ca, "--output-dir", &dir], &urls[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        for (name, content) in wanted {
            assert_eq!(digest(&fs::read(into.path().join(name)).unwrap()), digest(content), "{name}");
        }
        assert_eq!(names(into.path()).len(), wanted.len());
    }
}

#[test]
fn aioquic_gets_files_over_good_and_lossy_networks() {
    let Some(python) = python() else { return };
    let web = Web::start(&[]);
    let lossy = Relay::start(web.address, Faults::none().lose(0.02));
    for address in [web.address, lossy.address()] {
        aioquic_fetches(&python, &web, address, &small());
        aioquic_fetches(&python, &web, address, &many());
    }
}

#[test]
fn aioquic_gets_a_file_of_100_mib_over_good_and_lossy_networks() {
    let Some(python) = python() else { return };
    let web = Web::start(&[]);
    let lossy = Relay::start(web.address, Faults::none().lose(0.02));
    for address in [web.address, lossy.address()] {
        aioquic_fetches(&python, &web, address, &contents([100 << 20]));
    }
}

#[test]
fn aioquic_is_fetched_from_over_good_and_lossy_networks() {
    let Some(python) = python() else { return };
    let server = Aioquic::start(&python);
    let lossy = Relay::start(server.address, Faults::none().lose(0.02));
    for address in [server.address, lossy.address()] {
        server.gives(address, &small());
        server.gives(address, &many());
    }
    let output = get(&["--ca", &server.certified.path("certificate"), &format!("https://{}/nowhere", server.address)]);
    assert!(stderr(&output).contains("the server answered 404"), "{}", stderr(&output));
}

#[test]
fn aioquic_gives_a_file_of_100_mib_over_good_and_lossy_networks() {
    let Some(python) = python() else { return };
    let server = Aioquic::start(&python);
    let lossy = Relay::start(server.address, Faults::none().lose(0.02));
    for address in [server.address, lossy.address()] {
        server.gives(address, &contents([100 << 20]));
    }
}
