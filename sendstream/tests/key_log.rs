//! The key log: what it says against what a foreign peer knows, and that it is written on request
//! only.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use sendstream::{BindError, CertificateHash, ClientBuilder, ConfigError, Trust};
use support::{Endpoints, accept, any_port, connect, foreign, on_tokio, run};

const LABELS: [&str; 4] = [
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_TRAFFIC_SECRET_0",
];

/// The lines of a key log as rustls would write them.
#[derive(Debug, Default)]
struct Lines(Mutex<BTreeSet<String>>);

impl rustls::KeyLog for Lines {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.0.lock().unwrap().insert(format!("{label} {} {}", hex(client_random), hex(secret)));
    }
}

/// Connects to a quinn server with the client that `build` describes, and returns what the server
/// knows.
fn connect_to_quinn(build: impl FnOnce(ClientBuilder) -> ClientBuilder + Send + 'static) -> BTreeSet<String> {
    on_tokio(async move {
        let own = foreign::certified();
        let mut tls = foreign::server_tls(&own);
        let lines = Arc::new(Lines::default());
        tls.key_log = lines.clone();
        let endpoint = foreign::server(tls, |_| ());
        let trust = Trust::pinned([CertificateHash::of(own.cert.der())]);
        let client = build(support::client_with(trust)).build().unwrap();
        let address = endpoint.local_addr().unwrap();
        let (ours, theirs) =
            futures::join!(client.connect(address, "localhost"), async { endpoint.accept().await.unwrap().await });
        drop((ours.unwrap(), theirs.unwrap()));
        client.wait_idle().await;
        std::mem::take(&mut *lines.0.lock().unwrap())
    })
}

fn lines_of(path: &Path) -> BTreeSet<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn labels(lines: &BTreeSet<String>) -> Vec<&str> {
    lines.iter().map(|line| line.split(' ').next().unwrap()).collect()
}

#[test]
fn the_key_log_has_the_secrets_that_the_peer_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let file = path.clone();
    let known: BTreeSet<String> = connect_to_quinn(|client| client.key_log(file));
    let known = known.into_iter().filter(|line| !line.starts_with("EXPORTER")).collect();
    assert_eq!(lines_of(&path), known);
    assert_eq!(labels(&known), LABELS);
}

#[test]
fn every_connection_appends_its_lines_before_connect_resolves() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        fs::write(&path, "# mine\n").unwrap();
        let endpoints = Endpoints::new();
        let trust = Trust::dangerous_accept_any_certificate();
        let client = support::client_with(trust).key_log(&path).build().unwrap();
        for connections in 1..=3 {
            let pair = connect(&client, &endpoints.server).await;
            assert_eq!(lines_of(&path).len(), 1 + LABELS.len() * connections);
            drop(pair);
        }
        assert!(lines_of(&path).contains("# mine"));
        client.wait_idle().await;
        endpoints.end().await;
    });
}

#[test]
fn a_servers_key_log_has_what_its_clients_has() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let identity = support::identity();
        let server = support::server(&identity).key_log(path("server")).bind(any_port()).unwrap();
        let client = support::client(&identity).key_log(path("client")).build().unwrap();
        for connections in 1..=3 {
            let pair = connect(&client, &server).await;
            assert_eq!(lines_of(&path("server")), lines_of(&path("client")));
            assert_eq!(lines_of(&path("server")).len(), LABELS.len() * connections);
            drop(pair);
        }
        client.wait_idle().await;
        server.shutdown().await;
    });
}

#[test]
fn a_servers_key_log_that_cannot_be_written_is_an_error_of_the_builder() {
    let directory = tempfile::tempdir().unwrap();
    let server = support::server(&support::identity()).key_log(directory.path());
    let error = server.bind(any_port()).map(drop).unwrap_err();
    assert!(matches!(error, BindError::Config(ConfigError::KeyLog { .. })), "{error}");
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_a_new_key_log() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    support::client_with(Trust::dangerous_accept_any_certificate()).key_log(&path).build().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_key_log_that_cannot_be_written_is_an_error_of_the_builder() {
    let directory = tempfile::tempdir().unwrap();
    let trust = Trust::dangerous_accept_any_certificate();
    let error = support::client_with(trust).key_log(directory.path()).build().map(drop).unwrap_err();
    assert!(matches!(error, ConfigError::KeyLog { ref path, .. } if path == directory.path()), "{error}");
}

#[test]
fn a_failed_handshake_leaves_no_lines() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let endpoints = Endpoints::new();
        let client = support::client_with(Trust::pinned([[0; 32]])).key_log(&path).build().unwrap();
        let (refused, accepted) =
            futures::join!(client.connect(endpoints.address, "localhost"), accept(&endpoints.server));
        refused.unwrap_err();
        // The server may have been done before the client judged.
        drop(accepted);
        client.wait_idle().await;
        assert_eq!(lines_of(&path).len(), 0);
        endpoints.end().await;
    });
}

/// Set in the process that the next test starts: whether to ask for the variable.
const ROLE: &str = "SENDSTREAM_TEST_KEY_LOG";

#[test]
fn the_environment_counts_only_when_asked_for() {
    if let Ok(role) = std::env::var(ROLE) {
        connect_to_quinn(move |client| if role == "asks" { client.key_log_from_env() } else { client });
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (role, expected) in [("asks", true), ("does not", false)] {
        let path = directory.path().join(role);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_environment_counts_only_when_asked_for"])
            .env(ROLE, role)
            .env("SSLKEYLOGFILE", &path)
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(path.exists(), expected);
        if expected {
            assert_eq!(labels(&lines_of(&path)), LABELS);
        }
    }
}
