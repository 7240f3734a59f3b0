//! A server in a process of its own, to be stopped and killed.
//!
//! The process is the test's own executable, run for the one test that calls [`main`].

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use sendstream::{CertificateHash, Client, Connection, RecvStream, SendStream, TransportConfig, Trust};

const ROLE: &str = "SENDSTREAM_TEST_PEER";
const ADDRESS: &str = "SENDSTREAM_TEST_PEER_ADDRESS";

/// What the peer does with streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Accepts them and reads nothing.
    Hold,
    /// Reads them to their ends.
    Read,
    /// Sends back what comes, on streams of both directions.
    Echo,
    /// The same, piece by piece.
    Return,
}

/// The process.
pub(crate) struct Peer {
    child: Child,
    address: SocketAddr,
    hash: CertificateHash,
}

impl Peer {
    /// Starts it. `test` is the name of the test that calls [`main`].
    pub(crate) fn start(test: &str, role: Role) -> Self {
        Self::start_at(test, role, Command::new(std::env::current_exe().unwrap()), super::any_port())
    }

    /// Starts it by `command`, which ends in this executable, to listen on `address`.
    pub(crate) fn start_at(test: &str, role: Role, mut command: Command, address: SocketAddr) -> Self {
        let mut child = command
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, format!("{role:?}"))
            .env(ADDRESS, address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.unwrap().strip_prefix("ready ").map(str::to_owned)).unwrap();
        let (address, hash) = ready.split_once(' ').unwrap();
        Self { address: address.parse().unwrap(), hash: hash.parse().unwrap(), child }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects to it; `transport` are this side's settings.
    pub(crate) async fn connect(&self, transport: TransportConfig) -> (Client, Connection) {
        let client = super::client_with(Trust::pinned([self.hash])).transport(transport).build().unwrap();
        let connection = client.connect(self.address, "localhost").await.unwrap();
        (client, connection)
    }

    /// [`pause`].
    pub(crate) fn pause(&self) {
        pause(&self.child);
    }

    /// [`resume`].
    pub(crate) fn resume(&self) {
        resume(&self.child);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// SIGSTOP: once this returns, none of its threads does anything more, and its socket stays.
pub(crate) fn pause(child: &Child) {
    let id = Pid::from_child(child);
    kill_process(id, Signal::STOP).unwrap();
    // The signal is only sent by now, and its threads go on until each has looked: the kernel tells
    // when all have.
    let (_, status) = waitpid(Some(id), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped(), "{status:?}");
}

/// SIGCONT: it goes on.
pub(crate) fn resume(child: &Child) {
    kill_process(Pid::from_child(child), Signal::CONT).unwrap();
}

/// What the process runs, in the test that [`Peer::start`] names; in the test run itself it does
/// nothing.
pub(crate) fn main() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let identity = super::identity();
    let hash = identity.certificate_sha256();
    // As long as the process lives the connection does: whether it still does is the other side's
    // to find out.
    let transport = TransportConfig::default().keep_alive(Duration::from_millis(50));
    let address = std::env::var(ADDRESS).unwrap().parse().unwrap();
    let server = super::server(&identity).transport(transport).bind(address).unwrap();
    println!("\nready {} {hash}", server.local_addr().unwrap());
    super::end_with_parent();
    let incoming = stream::unfold(server, async |server| Some((server.accept().await?, server)));
    futures::executor::block_on(incoming.for_each_concurrent(None, async |incoming| {
        // A client may have given up.
        let Ok(connection) = incoming.accept().await else { return };
        match role.as_str() {
            "Echo" => echo(connection).await,
            "Return" => send_back(connection).await,
            "Read" => {
                while let Ok(mut stream) = connection.accept_uni().await {
                    while let Ok(Some(_)) = stream.read_chunk().await {}
                }
            }
            _ => {
                let mut held = Vec::new();
                while let Ok(stream) = connection.accept_uni().await {
                    held.push(stream);
                }
            }
        }
    }));
}

async fn echo(connection: Connection) {
    let streams = stream::unfold(connection, async |connection| Some((connection.accept_bi().await.ok()?, connection)));
    let answer = async |(mut send, mut recv): (SendStream, RecvStream)| {
        if let Ok(question) = recv.read_to_end(1 << 20).await {
            drop(send.finish_with(question));
            let _ = send.finished().await;
        }
    };
    streams.for_each_concurrent(None, answer).await;
}

async fn send_back(connection: Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        while let Ok(Some(chunk)) = recv.read_chunk().await {
            if send.write_chunk(Bytes::copy_from_slice(&chunk)).await.is_err() {
                break;
            }
        }
        let _ = send.finished().await;
    }
}
