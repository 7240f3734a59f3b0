//! The same folder by TCP, for clients that find their way to HTTP/3 by it.

use std::process::{Command, Output};

use crate::support::{Certified, HANG, Web, digest, is_there, noise, stderr};

/// Runs `curl` for a URL of the served folder.
fn curl(web: &Web, certified: &Certified, args: &[&str], path: &str) -> Output {
    assert_cmd::Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--cacert", &certified.path("certificate")])
        .args(args)
        .arg(format!("https://localhost:{}/{path}", web.address.port()))
        .timeout(HANG)
        .output()
        .unwrap()
}

fn start(certified: &Certified) -> Web {
    Web::start(&["--with-tcp", "--cert", &certified.path("certificate"), "--key", &certified.path("key")])
}

/// The head and the content.
fn split(output: &Output) -> (String, &[u8]) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8(output.stdout[..end].to_vec()).unwrap().to_ascii_lowercase(), &output.stdout[end + 4..])
}

#[test]
fn the_folder_is_served_by_tcp_and_says_where_http3_is() {
    if !is_there("curl", "--version", "curl") {
        return;
    }
    let certified = Certified::new();
    let web = start(&certified);
    let content = noise(1, 3 << 20);
    web.file("a b", &content);
    for (version, first, protocol) in [("--http2", "http/2 200", "h2"), ("--http1.1", "http/1.1 200", "http/1.1")] {
        let output = curl(&web, &certified, &[version], "a%20b");
        let (head, body) = split(&output);
        assert!(head.starts_with(first), "{head}");
        assert!(head.contains(&format!("alt-svc: h3=\":{}\"; ma=86400", web.address.port())), "{head}");
        assert!(head.contains("content-length: 3145728"), "{head}");
        assert_eq!(digest(body), digest(&content));
        let line = web.logged();
        assert_eq!(
            (&line["protocol"], &line["bytes"], &line["complete"]),
            (&protocol.into(), &(3 << 20).into(), &true.into())
        );
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    // Who goes there finds it.
    assert_eq!(web.client().ask("GET", "/a%20b", &[]).0, 200);
}

#[test]
fn the_same_rules_hold_by_tcp() {
    if !is_there("curl", "--version", "curl") {
        return;
    }
    let certified = Certified::new();
    let web = start(&certified);
    web.file("file", b"0123456789");
    for (args, path, status, body) in [
        (&["--path-as-is"][..], "../etc/passwd", "404", None),
        (&[], "%2e%2e%2fetc/passwd", "404", None),
        (&["--range", "2-4"], "file", "206", Some(&b"234"[..])),
        (&["--head"], "file", "200", Some(b"")),
        (&["--request", "PUT", "--data", "x"], "file", "405", None),
        (&["--header", "if-none-match: *"], "file", "304", Some(b"")),
    ] {
        for version in ["--http2", "--http1.1"] {
            let output = curl(&web, &certified, &[args, &[version]].concat(), path);
            let (head, content) = split(&output);
            assert_eq!(head.split_whitespace().nth(1), Some(status), "{args:?} {version}: {head}");
            assert!(head.contains("alt-svc: h3="), "{head}");
            if let Some(body) = body {
                assert_eq!(content, body, "{args:?}");
            }
        }
    }
}

#[test]
fn the_interrupted_server_answers_what_has_come_by_tcp() {
    if !is_there("curl", "--version", "curl") {
        return;
    }
    let certified = Certified::new();
    let mut web = start(&certified);
    let content = noise(2, 64 << 20);
    web.file("file", &content);
    // Stopped by a pipe that nobody reads until the server was told to end.
    let mut slow = Command::new("curl")
        .args(["--silent", "--show-error", "--cacert", &certified.path("certificate")])
        .arg(format!("https://localhost:{}/file", web.address.port()))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = slow.stdout.take().unwrap();
    let mut body = vec![0; 1000];
    std::io::Read::read_exact(&mut out, &mut body).unwrap();
    web.process.signal("INT");
    web.process.says("answering what has come");
    std::io::Read::read_to_end(&mut out, &mut body).unwrap();
    assert!(slow.wait().unwrap().success());
    assert_eq!(digest(&body), digest(&content));
    assert_eq!(web.process.wait().code(), Some(0));
}

#[test]
fn a_client_that_stops_in_its_handshake_holds_up_nobody() {
    let certified = Certified::new();
    let mut web = start(&certified);
    web.file("file", b"x");
    let silent: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(web.address).unwrap()).collect();
    if is_there("curl", "--version", "curl") {
        assert_eq!(split(&curl(&web, &certified, &[], "file")).1, b"x");
    }
    web.process.signal("INT");
    assert_eq!(web.process.wait().code(), Some(0));
    drop(silent);
}
