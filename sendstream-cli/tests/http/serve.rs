//! What clients get of a folder, the log, and how it ends.

use std::{
    fs::{self, File},
    net::UdpSocket,
};

use axum::http::StatusCode;
use sendstream::TransportConfig;

use crate::support::{Certified, Files, HANG, Http, Process, Web, digest, get, noise, sendstream, stderr};

#[test]
fn a_folder_is_served_and_each_request_is_logged() {
    let web = Web::start(&[]);
    let content = noise(1, 300_000);
    web.file("sub/file.bin", &content);
    let client = web.client();

    let (status, headers, body) = client.ask("GET", "/sub/file.bin?x=%1b", &[]);
    assert_eq!((status, digest(&body)), (StatusCode::OK, digest(&content)));
    assert_eq!(headers["content-length"], "300000");
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert!(headers.contains_key("date") && headers.contains_key("last-modified") && headers.contains_key("etag"));
    let line = web.logged();
    assert_eq!(line["peer"], client.connection.local_addr().unwrap().to_string());
    assert_eq!(
        (&line["protocol"], &line["method"], &line["path"]),
        (&"h3".into(), &"GET".into(), &"/sub/file.bin?x=%1b".into())
    );
    assert_eq!((&line["status"], &line["bytes"], &line["complete"]), (&200.into(), &300_000.into(), &true.into()));
    assert!(line["seconds"].as_f64().unwrap() >= 0.0 && line["time"].as_str().unwrap().ends_with('Z'));

    let (status, headers, body) = client.ask("HEAD", "/sub/file.bin", &[]);
    assert_eq!((status, body.len()), (StatusCode::OK, 0));
    assert_eq!(headers["content-length"], "300000");
    let line = web.logged();
    assert_eq!((&line["method"], &line["bytes"], &line["complete"]), (&"HEAD".into(), &0.into(), &true.into()));

    let (status, headers, body) = client.ask("GET", "/sub/file.bin", &[("range", "bytes=-5")]);
    assert_eq!((status, body), (StatusCode::PARTIAL_CONTENT, content[299_995..].to_vec()));
    assert_eq!(headers["content-range"], "bytes 299995-299999/300000");
    assert_eq!(web.logged()["status"], 206);

    let (status, _, _) = client.ask("GET", "/../sub/file.bin", &[]);
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, headers, _) = client.ask("DELETE", "/sub/file.bin", &[]);
    assert_eq!((status, &headers["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &"GET, HEAD".parse().unwrap()));
    let (status, _, listing) = client.ask("GET", "/sub/", &[]);
    assert_eq!(status, StatusCode::OK);
    assert!(String::from_utf8(listing).unwrap().contains("file.bin"));
    let (status, headers, body) = client.ask("GET", "/sub/file.bin", &[("if-none-match", "*")]);
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert!(headers.contains_key("etag"));
    let statuses: Vec<_> = (0..4).map(|_| web.logged()["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [404, 405, 200, 304]);
}

#[test]
fn the_log_for_people_is_a_line_that_steers_no_terminal() {
    let files = Files::new();
    let mut command = sendstream();
    command.args(["http", "serve", "--listen", "127.0.0.1:0"]).arg(files.file("a", b"content").parent().unwrap());
    let process = Process::start(command);
    let url = process.line();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    process.says("by HTTP/3 on 127.0.0.1:");
    let mut note = String::new();
    while !note.contains("--pin") {
        note = process.note();
    }
    // What it says is what one types.
    let words: Vec<_> = note.split_whitespace().collect();
    assert_eq!(words[..3], ["sendstream", "http", "get"]);
    let output = get(&[&words[3..5], &[&format!("{url}a?\u{9b}31m\u{202e}")]].concat());
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"content"[..]), "{}", stderr(&output));
    let line = process.line();
    assert!(line.is_ascii(), "{line}");
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!(words[2..7], ["h3", "GET", "/a?%C2%9B31m%E2%80%AE", "200", "7"], "{line}");
}

#[test]
fn the_interrupted_server_answers_what_has_come() {
    let mut web = Web::start(&[]);
    let content = noise(2, 8 << 20);
    web.file("file", &content);
    // Nothing is read but what is asked for, and the windows are small.
    let slow = Http::connect(web.address, &web.pin, TransportConfig::default().stream_receive_window(64 << 10));
    let mut answer = slow.begin("GET", "/file", &[]);
    let mut body = answer.more().unwrap().unwrap();
    web.process.signal("INT");
    web.process.says("answering what has come");
    assert!(Http::try_connect(web.address, &web.pin, TransportConfig::default()).is_err(), "nobody new is let in");
    body.extend(answer.rest().unwrap());
    assert_eq!(digest(&body), digest(&content));
    drop(slow);
    assert_eq!(web.process.wait().code(), Some(0));
    let line = web.logged();
    assert_eq!((&line["bytes"], &line["complete"]), (&(8 << 20).into(), &true.into()));
}

#[test]
fn a_second_interrupt_ends_the_server_at_once() {
    let mut web = Web::start(&[]);
    web.file("file", &noise(3, 8 << 20));
    let slow = Http::connect(web.address, &web.pin, TransportConfig::default().stream_receive_window(64 << 10));
    let mut answer = slow.begin("GET", "/file", &[]);
    answer.more().unwrap().unwrap();
    web.process.signal("INT");
    web.process.says("answering what has come");
    web.process.signal("INT");
    assert_eq!(web.process.wait().code(), Some(130));
}

#[test]
fn a_server_with_nothing_to_do_ends_when_it_is_told_to() {
    for signal in ["INT", "TERM"] {
        let mut web = Web::start(&["--with-tcp"]);
        web.file("file", b"x");
        // Connected, and done.
        let client = web.client();
        client.ask("GET", "/file", &[]);
        web.process.signal(signal);
        assert_eq!(web.process.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_file_that_shrinks_resets_its_stream() {
    let web = Web::start(&[]);
    web.file("file", &[]);
    File::options().write(true).open(web.path("file")).unwrap().set_len(256 << 20).unwrap();
    let client = Http::connect(web.address, &web.pin, TransportConfig::default().stream_receive_window(64 << 10));
    let mut answer = client.begin("GET", "/file", &[]);
    assert_eq!(answer.headers["content-length"], (256 << 20).to_string());
    answer.more().unwrap().unwrap();
    File::options().write(true).open(web.path("file")).unwrap().set_len(200 << 20).unwrap();
    let error = answer.rest().unwrap_err();
    assert!(!matches!(error, h3::error::StreamError::ConnectionError { .. }), "{error}");
    let line = web.logged();
    assert_eq!((&line["status"], &line["complete"]), (&200.into(), &false.into()));
    // Nothing else is concerned.
    assert_eq!(client.ask("HEAD", "/file", &[]).0, StatusCode::OK);
}

#[test]
fn a_certificate_of_ones_own_is_shown() {
    let certified = Certified::new();
    let (certificate, key) = (certified.path("certificate"), certified.path("key"));
    let web = Web::start(&["--cert", &certificate, "--key", &key]);
    web.file("file", b"content");
    let output = get(&["--ca", &certificate, &format!("https://localhost:{}/file", web.address.port())]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"content"[..]), "{}", stderr(&output));
}

#[test]
fn a_key_that_everybody_could_read_is_refused() {
    let certified = Certified::new();
    let (certificate, key) = (certified.path("certificate"), certified.path("key"));
    let folder = std::path::Path::new(&key).parent().unwrap().to_str().unwrap();
    let output = serve(&["--cert", &certificate, "--key", &key, folder]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is in the folder to be served"), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_served_is_said_with_what_to_do() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let files = Files::new();
    let file = files.file("file", b"");
    let folder = file.parent().unwrap().to_str().unwrap();
    for (args, status, text) in [
        (vec!["/nowhere/at/all"], 1, "cannot serve /nowhere/at/all"),
        (vec![file.to_str().unwrap()], 1, "cannot serve"),
        (vec!["--listen", &taken, folder], 1, "choose another address with `--listen"),
        (vec!["--cert", "x", folder], 2, "--key"),
        (vec!["--cert", "/nowhere", "--key", file.to_str().unwrap(), "/proc"], 1, "cannot read /nowhere"),
        (
            vec!["--cert", file.to_str().unwrap(), "--key", file.to_str().unwrap(), "/proc"],
            1,
            "cannot use the certificate",
        ),
    ] {
        let output = serve(&args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    assert!(fs::exists(file).unwrap());
}

fn serve(args: &[&str]) -> std::process::Output {
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("sendstream"))
        .args(["http", "serve"])
        .args(args)
        .timeout(HANG)
        .output()
        .unwrap()
}
