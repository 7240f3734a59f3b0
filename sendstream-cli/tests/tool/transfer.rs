//! Files that arrive, whatever their number, size and name.

use std::fs;

use crate::support::{Files, HANG, Process, Receiver, digest, listing_digest, noise, send, send_well, sendstream};

#[test]
fn a_file_arrives_and_both_ends_say_the_same_about_it() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let content = noise(1, 3_000_000);
    let sent = send_well(&[&files.file("photo.jpg", &content)], &receiver.ticket);
    let received = receiver.session();
    assert!(fs::read(receiver.path("photo.jpg")).unwrap() == content);
    assert_eq!(receiver.everything(), ["inbox/photo.jpg"]);
    for summary in [&sent, &received] {
        assert_eq!(summary["ok"], true);
        assert_eq!(summary["bytes"], 3_000_000);
        assert_eq!(summary["digest"], digest(&content));
        assert_eq!(summary["files"][0]["name"], "photo.jpg");
        assert_eq!(summary["files_ok"], 1);
        assert_eq!(summary["files_failed"], 0);
        assert!(summary["seconds"].as_f64().unwrap() > 0.0);
        assert!(summary["mib_per_s"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(sent["direction"], "sent");
    assert_eq!(received["direction"], "received");
}

#[test]
fn an_empty_file_arrives() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let sent = send_well(&[&files.file("empty", b"")], &receiver.ticket);
    assert_eq!(sent["bytes"], 0);
    assert_eq!(receiver.session()["digest"], digest(b""));
    assert_eq!(fs::read(receiver.path("empty")).unwrap(), b"");
}

#[test]
fn a_name_with_spaces_and_other_scripts_stays_as_it_is() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let name = "  Grüße, 日本語 & 🎉 'quoted' $(x).txt ";
    let sent = send_well(&[&files.file(name, b"x")], &receiver.ticket);
    assert_eq!(sent["files"][0]["name"], name);
    assert_eq!(receiver.session()["files"][0]["name"], name);
    assert_eq!(fs::read(receiver.path(name)).unwrap(), b"x");
}

#[test]
fn a_directory_of_1000_small_files_arrives() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let contents: Vec<_> = (0..1000)
        .map(|i| (format!("top/{}/file {i}", i % 7), noise(i, usize::try_from(i * 37 % 5000).unwrap())))
        .collect();
    for (name, content) in &contents {
        files.file(name, content);
    }
    let sent = send_well(&[&files.path("top")], &receiver.ticket);
    let received = receiver.session();
    let digest = listing_digest(contents.iter().map(|(name, content)| (name.as_str(), content.as_slice())));
    for summary in [sent, received] {
        assert_eq!(summary["files_ok"], 1000);
        assert_eq!(summary["digest"], digest);
    }
    for (name, content) in &contents {
        assert!(fs::read(receiver.path(name)).unwrap() == *content, "{name}");
    }
    assert_eq!(receiver.everything().len(), 1000);
}

#[test]
fn many_files_of_several_chunks_arrive() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let content = noise(5, 600_000);
    let paths: Vec<_> = (0..300).map(|i| files.file(&format!("top/{i}"), &content)).collect();
    let sent = send_well(&[&files.path("top")], &receiver.ticket);
    assert_eq!(sent["files_ok"], paths.len());
    let received = receiver.session();
    assert_eq!(received["files_ok"], paths.len());
    assert_eq!(received["digest"], sent["digest"]);
}

#[test]
fn sizes_around_the_unit_of_transfer_arrive() {
    let (receiver, files) = (Receiver::start(&["--fsync"]), Files::new());
    let unit = 256 * 1024;
    let sizes = [1, unit - 50, unit - 16, unit - 1, unit, unit + 1, 2 * unit, 5 * unit + 3];
    let contents: Vec<_> = sizes.iter().map(|size| (size.to_string(), noise(7, *size))).collect();
    let paths: Vec<_> = contents.iter().map(|(name, content)| files.file(name, content)).collect();
    let paths: Vec<_> = paths.iter().map(|path| path.as_path()).collect();
    send_well(&paths, &receiver.ticket);
    for (name, content) in &contents {
        assert!(fs::read(receiver.path(name)).unwrap() == *content, "{name}");
    }
}

#[test]
fn several_senders_are_served_at_a_time() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let content = noise(3, 2_000_000);
    std::thread::scope(|scope| {
        for i in 0..4 {
            let path = files.file(&format!("{i}"), &content);
            let ticket = &receiver.ticket;
            scope.spawn(move || send_well(&[&path], ticket));
        }
    });
    for _ in 0..4 {
        assert_eq!(receiver.session()["digest"], digest(&content));
    }
    assert_eq!(receiver.everything(), ["inbox/0", "inbox/1", "inbox/2", "inbox/3"]);
}

#[test]
fn with_once_the_receiver_ends_after_the_first_session() {
    let (mut receiver, files) = (Receiver::start(&["--once"]), Files::new());
    send_well(&[&files.file("x", b"x")], &receiver.ticket);
    assert_eq!(receiver.session()["ok"], true);
    assert_eq!(receiver.wait().code(), Some(0));
}

#[test]
fn for_people_the_ticket_and_the_summaries_are_plain_lines() {
    let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
    let mut command = sendstream();
    command.args(["recv", "--listen", "127.0.0.1:0"]).arg(dir.path());
    let receiver = Process::start(command);
    let ticket = receiver.line();
    assert!(ticket.starts_with("sendstream:"));
    receiver.says(&format!("sendstream send FILE... {ticket}"));
    let output = send(&[], &[&files.file("x", b"content")], &ticket);
    let digest = digest(b"content");
    let line = str::from_utf8(&output.stdout).unwrap();
    assert!(line.starts_with("sent 1 file to 127.0.0.1:") && line.ends_with(&format!(", blake3 {digest}\n")), "{line}");
    let line = receiver.line();
    assert!(line.starts_with("received 1 file from 127.0.0.1:") && line.contains(": 7 B (7 bytes) in "), "{line}");
    assert!(line.ends_with(&format!(", blake3 {digest}")), "{line}");
}

#[test]
fn a_receiver_on_every_address_prints_one_that_can_be_reached() {
    let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
    let mut command = sendstream();
    command.args(["recv", "--json", "--once"]).arg(dir.path());
    let receiver = Process::start(command);
    let ticket = receiver.object()["ticket"].as_str().unwrap().to_owned();
    send_well(&[&files.file("x", b"x")], &ticket);
    assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"x");
}

/// A receiver that was told where to listen, and what it says first.
fn receiver_at(listen: &str, dir: &tempfile::TempDir) -> (Process, serde_json::Value) {
    receiver_for(listen, &[], dir)
}

/// A receiver whose ticket leads to `hosts`, or to its own addresses if there are none.
fn receiver_for(listen: &str, hosts: &[&str], dir: &tempfile::TempDir) -> (Process, serde_json::Value) {
    let mut command = sendstream();
    command.args(["recv", "--json", "--listen", listen]).arg(dir.path());
    command.args(hosts.iter().flat_map(|host| ["--advertise", host]));
    let receiver = Process::start(command);
    let announced = receiver.object();
    (receiver, announced)
}

fn has_ipv6() -> bool {
    let has = std::net::UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped in part: this machine has no IPv6");
    }
    has
}

#[test]
fn a_receiver_is_at_the_address_it_was_told_and_at_no_other() {
    let dir = tempfile::tempdir().unwrap();
    for (here, elsewhere) in [("127.0.0.1:0", "127.0.0.2"), ("127.0.0.2:0", "127.0.0.1")] {
        let (receiver, announced) = receiver_at(here, &dir);
        let address: std::net::SocketAddr = announced["listening"].as_str().unwrap().parse().unwrap();
        receiver.says("for senders on this machine only");
        let stranger = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        stranger.set_read_timeout(Some(HANG)).unwrap();
        stranger.connect((elsewhere, address.port())).unwrap();
        // A server that hears it answers with Version Negotiation.
        let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
        packet.resize(1200, 0);
        stranger.send(&packet).unwrap();
        let refused = stranger.recv(&mut [0; 2000]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        stranger.connect(address).unwrap();
        stranger.send(&packet).unwrap();
        stranger.recv(&mut [0; 2000]).unwrap();
    }
}

#[test]
fn a_receiver_on_every_address_of_both_families_has_senders_of_both() {
    for listen in ["[::]:0", ":0", "0"] {
        for hosts in [&[][..], &["127.0.0.1"], if has_ipv6() { &["::1"] } else { &[] }] {
            let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
            let (receiver, announced) = receiver_for(listen, hosts, &dir);
            let listening = announced["listening"].as_str().unwrap();
            assert!(listening.starts_with(if has_ipv6() { "[::]:" } else { "0.0.0.0:" }), "{listening}");
            send_well(&[&files.file("x", b"x")], announced["ticket"].as_str().unwrap());
            assert_eq!(receiver.object()["ok"], true, "{announced}");
            assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"x");
        }
    }
}

#[test]
fn a_receiver_may_be_told_a_port_alone_or_a_name() {
    let free = || std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
    let port = free();
    let (_receiver, announced) = receiver_at(&port.to_string(), &dir);
    assert!(announced["listening"].as_str().unwrap().ends_with(&format!(":{port}")), "{announced}");
    send_well(&[&files.file("port", b"x")], announced["ticket"].as_str().unwrap());

    for listen in ["localhost:0".to_owned(), format!("localhost:{}", free())] {
        let (_receiver, announced) = receiver_at(&listen, &dir);
        for address in announced["addresses"].as_array().unwrap() {
            let address: std::net::SocketAddr = address.as_str().unwrap().parse().unwrap();
            assert!(address.ip().is_loopback(), "{announced}");
        }
        assert_eq!(announced["reach"], announced["addresses"]);
        let name = listen.replace(':', "-");
        send_well(&[&files.file(&name, b"x")], announced["ticket"].as_str().unwrap());
    }
}

#[test]
fn the_ticket_can_carry_another_address_or_a_name() {
    let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
    let (_receiver, announced) = receiver_for("127.0.0.1:0", &["192.0.2.1:9", "localhost"], &dir);
    let reach = announced["reach"].as_array().unwrap();
    assert_eq!(reach[0], "192.0.2.1:9");
    assert!(reach[1].as_str().unwrap().starts_with("localhost:"), "{announced}");
    send_well(&[&files.file("x", b"x")], announced["ticket"].as_str().unwrap());
}

#[test]
fn files_travel_over_ipv6() {
    let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let mut command = sendstream();
    command.args(["recv", "--json", "--listen", "[::1]:0"]).arg(dir.path());
    let receiver = Process::start(command);
    let ticket = receiver.object()["ticket"].as_str().unwrap().to_owned();
    send_well(&[&files.file("x", b"x")], &ticket);
}

#[test]
fn a_sender_that_comes_again_resumes_its_tls_session() {
    let (receiver, files) = (Receiver::start(&["--tls-sessions"]), Files::new());
    let sessions = files.path("kept/sessions");
    for (name, resumes) in [("first", false), ("second", true), ("third", true)] {
        let mut command = sendstream();
        command.args(["send", "--tls-sessions"]).arg(&sessions).arg(files.file(name, b"x")).arg(&receiver.ticket);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(said.contains("resumed an earlier session"), resumes, "{name}: {said}");
        assert_eq!(receiver.session()["files"][0]["name"], name);
    }
    // Garbage costs the session, not the transfer.
    for entry in fs::read_dir(&sessions).unwrap() {
        fs::write(entry.unwrap().path(), noise(1, 5000)).unwrap();
    }
    let mut command = sendstream();
    command.args(["send", "--tls-sessions"]).arg(&sessions).arg(files.file("fourth", b"x")).arg(&receiver.ticket);
    let output = command.output().unwrap();
    assert!(output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("resumed"));
}
