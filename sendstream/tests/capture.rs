//! What a key log is for: Wireshark's `tshark` decrypts a capture with it. Skipped, loudly, where
//! `tshark` is missing or may not capture.

mod support;

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use support::{any_port, connect, run, skip};

/// A running capture of the loopback traffic of one port.
struct Capture {
    tshark: Child,
    /// A line for each packet.
    packets: mpsc::Receiver<String>,
    address: SocketAddr,
    stranger: UdpSocket,
}

impl Capture {
    /// Starts it; `None` where that is not possible.
    fn start(address: SocketAddr, file: &Path) -> Option<Self> {
        let tshark = Command::new("tshark")
            .args(["-i", "lo", "-f", &format!("udp port {}", address.port()), "-l", "-P", "-w"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut tshark) = tshark else {
            skip("there is no tshark; on Debian `apt-get install tshark`");
            return None;
        };
        let (send, packets) = mpsc::channel();
        let lines = BufReader::new(tshark.stdout.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let capture = Self { tshark, packets, address, stranger };
        if capture.has_seen_everything() {
            return Some(capture);
        }
        skip("tshark may not capture; run the tests as root, or as a member of the group `wireshark`");
        None
    }

    /// Sends something that is no QUIC until the capture shows it, and so what came before; `false`
    /// if the capture has ended. It is how to know that it has begun, too.
    fn has_seen_everything(&self) -> bool {
        let from = format!(" {} ", self.stranger.local_addr().unwrap().port());
        loop {
            self.stranger.send_to(b"mark", self.address).unwrap();
            match self.packets.recv_timeout(Duration::from_millis(50)) {
                Ok(line) if line.contains(&from) => return true,
                Ok(_) | Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Ends it when all that was sent is in the file.
    fn end(mut self) {
        // Earlier marks may still be on their way, so it is a new stranger's.
        self.stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(self.has_seen_everything(), "the capture ended early");
        kill_process(Pid::from_child(&self.tshark), Signal::INT).unwrap();
        self.tshark.wait().unwrap();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tshark.kill();
        let _ = self.tshark.wait();
    }
}

/// What streams carried in a capture, as far as `keys` decrypt it: in hexadecimal.
fn stream_data(capture: &Path, port: u16, keys: &Path) -> String {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(capture)
        .args(["-o", &format!("tls.keylog_file:{}", keys.display()), "-d", &format!("udp.port=={port},quic")])
        .args(["-Y", "quic.stream_data", "-T", "fields", "-e", "quic.stream_data"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn either_sides_key_log_lets_tshark_decrypt_a_capture() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let identity = support::identity();
        let server = support::server(&identity).key_log(path("server")).bind(any_port()).unwrap();
        let client = support::client(&identity).key_log(path("client")).build().unwrap();
        let address = server.local_addr().unwrap();
        let Some(capture) = Capture::start(address, &path("capture")) else { return };

        let (connected, accepted) = connect(&client, &server).await;
        connected.open_uni().unwrap().finish_with("from the client").await.unwrap();
        accepted.open_uni().unwrap().finish_with("from the server").await.unwrap();
        drop((connected, accepted));
        client.wait_idle().await;
        server.shutdown().await;
        capture.end();

        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        for log in ["client", "server"] {
            let data = stream_data(&path("capture"), address.port(), &path(log));
            for text in ["from the client", "from the server"] {
                assert!(data.contains(&hex(text)), "{text} with the {log}'s keys: {data:?}");
            }
        }
        std::fs::write(path("nothing"), "").unwrap();
        assert_eq!(stream_data(&path("capture"), address.port(), &path("nothing")), "");
    });
}
