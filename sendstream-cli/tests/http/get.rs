//! What becomes of URLs.

use std::{
    collections::HashSet,
    convert::Infallible,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Response},
    response::IntoResponse as _,
    routing,
};
use bytes::Bytes;
use futures::stream;
use sendstream::{Identity, Server};

use crate::support::{Other, Process, Web, digest, free_port, get, names, noise, objects, sendstream, stderr, until};

#[test]
fn one_url_goes_to_standard_output() {
    let web = Web::start(&[]);
    for size in [0, 1, 1 << 20] {
        let content = noise(size, size as usize);
        web.file("file", &content);
        let output = web.get(&[], &["file"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(digest(&output.stdout), digest(&content), "{size}");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn a_hundred_urls_share_one_connection() {
    let web = Web::start(&[]);
    let wanted: Vec<_> = (0..100u64).map(|i| (format!("file {i:02}"), noise(i, 10_000 + i as usize))).collect();
    for (name, content) in &wanted {
        web.file(name, content);
    }
    let inbox = tempfile::tempdir().unwrap();
    let dir = inbox.path().join("new");
    let urls: Vec<_> = wanted.iter().map(|(name, _)| name.replace(' ', "%20")).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let output = web.get(&["--json", "--output-dir", dir.to_str().unwrap()], &urls);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(names(&dir), wanted.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    for ((name, content), object) in wanted.iter().zip(objects(&output)) {
        assert_eq!(digest(&fs::read(dir.join(name)).unwrap()), digest(content));
        assert_eq!(object["url"], format!("{}{}", web.url, name.replace(' ', "%20")));
        assert_eq!(
            (&object["ok"], &object["status"], &object["bytes"]),
            (&true.into(), &200.into(), &content.len().into())
        );
        assert_eq!((&object["protocol"], &object["resumed"]), (&"h3".into(), &false.into()));
        assert!(object["seconds"].as_f64().unwrap() > 0.0);
        assert_eq!(object["file"], dir.join(name).to_str().unwrap());
    }
    let peers: HashSet<_> = (0..100).map(|_| web.logged()["peer"].as_str().unwrap().to_owned()).collect();
    assert_eq!(peers.len(), 1);
}

#[test]
fn each_url_has_its_file_and_replaces_what_was_there() {
    let web = Web::start(&[]);
    web.file("a", b"new a");
    web.file("b", b"new b");
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("x"), "old").unwrap();
    let output = web.get(&["-o", &path("x"), "-o", &path("y")], &["a", "b"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!((fs::read(path("x")).unwrap(), fs::read(path("y")).unwrap()), (b"new a".to_vec(), b"new b".to_vec()));
    assert_eq!(names(dir.path()), ["x", "y"]);
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("5 bytes"), "{}", stderr(&output));
    // Like any file that is made, and not for its owner alone.
    let mode = |path: &str| std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).unwrap());
    fs::write(path("made"), "").unwrap();
    assert_eq!(mode(&path("y")), mode(&path("made")));
    let output = web.get(&["--json", "-o", "/dev/null", "-o", "/dev/null"], &["a", "b"]);
    assert_eq!((output.status.code(), objects(&output).len()), (Some(0), 2), "{}", stderr(&output));
}

#[test]
fn what_is_not_there_leaves_nothing_and_is_an_error() {
    let web = Web::start(&[]);
    web.file("there", b"x");
    let dir = tempfile::tempdir().unwrap();
    let output = web.get(&["--json", "--output-dir", dir.path().to_str().unwrap()], &["there", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(names(dir.path()), ["there"]);
    assert!(stderr(&output).contains("1 of 2 URLs could not be fetched"), "{}", stderr(&output));
    let objects = objects(&output);
    assert_eq!((&objects[0]["ok"], &objects[0]["status"]), (&false.into(), &404.into()));
    assert_eq!(objects[0]["error"], "the server answered 404 Not Found");
    assert_eq!(objects[1]["ok"], true);
    let output = web.get(&[], &["nowhere"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(stderr(&output).contains("the server answered 404 Not Found"), "{}", stderr(&output));
}

#[test]
fn redirections_are_followed_if_that_is_wanted() {
    let web = Web::start(&[]);
    web.file("folder/index.html", b"index");
    let output = web.get(&[], &["folder"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(stderr(&output).contains("/folder/\n  `-L` goes there"), "{}", stderr(&output));
    let output = web.get(&["-L"], &["folder"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"index"[..]), "{}", stderr(&output));

    let to = |place: &'static str| {
        routing::get(move || async move { (axum::http::StatusCode::FOUND, [("location", place)]) })
    };
    let loops = Other::start(Router::new().route("/loop", to("/loop")).route("/plain", to("http://127.0.0.1/x")));
    let output = loops.get(&["-L"], "loop");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("redirected more than 10 times"), "{}", stderr(&output));
    let output = loops.get(&["-L"], "plain");
    assert!(stderr(&output).contains("where HTTP/3 does not lead"), "{}", stderr(&output));
}

/// Answers with this content, then breaks off.
fn broken(content: &'static [u8], announced: Option<&'static str>) -> routing::MethodRouter {
    routing::get(move || async move {
        let pieces = stream::iter([Ok(Bytes::from_static(content)), Err(std::io::Error::other("no more"))]);
        let mut response = Response::new(Body::from_stream(pieces));
        if let Some(announced) = announced {
            response.headers_mut().insert("content-length", HeaderValue::from_static(announced));
        }
        response
    })
}

#[test]
fn content_that_breaks_off_never_becomes_a_file() {
    let other = Other::start(
        Router::new()
            .route("/unannounced", broken(b"half", None))
            .route("/announced", broken(b"half", Some("8")))
            .route("/part", routing::get(|| async { (axum::http::StatusCode::PARTIAL_CONTENT, "half") })),
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    for path in ["unannounced", "announced", "part"] {
        let output = other.get(&["-o", file.to_str().unwrap()], path);
        assert_eq!(output.status.code(), Some(1), "{path}");
        let why = if path == "part" { "answered 206" } else { "broke it off (H3_INTERNAL_ERROR)" };
        assert!(stderr(&output).contains(why), "{path}: {}", stderr(&output));
        assert_eq!(names(dir.path()), [""; 0], "{path}");
    }
    // What was there stays.
    fs::write(&file, "old").unwrap();
    let output = other.get(&["-o", file.to_str().unwrap()], "unannounced");
    assert_eq!((output.status.code(), fs::read(&file).unwrap()), (Some(1), b"old".to_vec()));
}

#[test]
fn what_a_server_says_steers_no_terminal() {
    let evil = "a\u{9b}31m\u{202e}b";
    let other = Other::start(Router::new().route(
        "/x",
        routing::get(move || async move {
            let mut response = "content".into_response();
            response.headers_mut().insert("x-evil", HeaderValue::from_bytes(evil.as_bytes()).unwrap());
            response
        }),
    ));
    let output = other.get(&["-v"], "x");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"content"[..]));
    let said = stderr(&output);
    assert!(said.contains("< x-evil: a\\u{9b}31m\\u{202e}b\n"), "{said}");
    for line in [
        "> GET /x HTTP/3\n",
        "> host: 127.0.0.1:",
        "> user-agent: sendstream/",
        "< HTTP/3 200",
        "< content-length: 7\n",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
}

#[test]
fn a_session_is_resumed_by_the_next_run() {
    let web = Web::start(&[]);
    web.file("file", b"content");
    let dir = tempfile::tempdir().unwrap();
    let sessions = dir.path().join("sessions");
    for resumed in [false, true, true] {
        let output = web.get(&["--json", "-o", "/dev/null", "--tls-sessions", sessions.to_str().unwrap()], &["file"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(objects(&output)[0]["resumed"], resumed);
    }
}

#[test]
fn servers_that_are_not_believed_or_not_there_are_told_apart() {
    let web = Web::start(&[]);
    web.file("file", b"content");
    let url = format!("{}file", web.url);
    let nobody = format!("https://127.0.0.1:{}/", free_port());
    let pin = "00".repeat(32);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let other = runtime.block_on(async {
        let server = Server::builder().identity(Identity::self_signed(["localhost"]).unwrap()).alpn(["not-h3"]);
        server.bind("127.0.0.1:0".parse().unwrap()).unwrap()
    });
    let no_http = format!("https://{}/", other.local_addr().unwrap());
    for (args, text) in [
        (&["--pin", &pin, &url][..], "is not trusted"),
        (&[url.as_str()], "`--pin HASH`"),
        (&["--pin", &pin, &nobody], "nobody listens at 127.0.0.1:"),
        (&["--pin", &pin, &no_http], "does not speak HTTP/3"),
        (&["https://nowhere.invalid/"], "cannot find nowhere.invalid:443"),
        (&["--ca", "/nowhere", &url], "cannot read /nowhere"),
        (&["--pin", &web.pin, "-o", "/nowhere/file", &url], "cannot write /nowhere/file"),
        (&["--pin", &web.pin, "-o", "/", &url], "cannot write /"),
    ] {
        let output = get(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for (args, text) in [
        (&["a.example", "b.example"][..], "2 URLs and 0 times `-o`"),
        (&["-o", "x", "a.example", "b.example"], "2 URLs and 1 times `-o`"),
        (&["-o", "x", "-o", "x", "a.example", "b.example"], "two URLs would become x"),
        (&["--output-dir", "x", "a.example/f", "b.example/f"], "two URLs would become x/f"),
        (&["--output-dir", "x", "a.example/%2e%2e%2ff"], "choose one with `-o FILE`"),
        (&["--json", "a.example"], "cannot have the content and JSON"),
        (&["--pin", "12", "a.example"], "64 hexadecimal digits"),
        (&["http://a.example"], "https:// URLs only"),
        (&["--ca", "x", "--pin", &"00".repeat(32), "a.example"], "cannot be used with"),
        (&[], "<URL>"),
    ] {
        let output = get(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{args:?}: {}", stderr(&output));
    }
    assert!(!Path::new("x").exists());
}

/// A server of what has no end, and how many bytes of it were asked for.
fn endless() -> (Other, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let endless = move || async move {
        let pieces = stream::repeat_with(move || {
            count.fetch_add(1000, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(&[1; 1000]))
        });
        Response::new(Body::from_stream(pieces))
    };
    (Other::start(Router::new().route("/endless", routing::get(endless))), asked)
}

/// Starts to fetch it, and waits until some of it has come.
fn begin_endless(dir: &Path) -> (Process, Other) {
    let (other, _) = endless();
    let mut command = sendstream();
    command.args(["http", "get", "--pin", &other.pin, "--output-dir"]).arg(dir).arg(format!("{}endless", other.url));
    let process = Process::start(command);
    let is_begun = |entry: fs::DirEntry| entry.metadata().is_ok_and(|metadata| metadata.len() > 0);
    until("content comes in", || fs::read_dir(dir).unwrap().any(|entry| is_begun(entry.unwrap())));
    assert!(names(dir)[0].starts_with(".sendstream-"), "no half file has the name");
    (process, other)
}

#[test]
fn an_interrupted_fetch_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, _other) = begin_endless(dir.path());
    process.signal("INT");
    assert_eq!(process.wait().code(), Some(130));
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_server_that_is_gone_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, other) = begin_endless(dir.path());
    drop(other);
    assert_eq!(process.wait().code(), Some(1));
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_fetch_whose_reader_is_stuck_can_be_interrupted() {
    let (other, asked) = endless();
    let mut command = sendstream();
    command.args(["http", "get", "--pin", &other.pin, &format!("{}endless", other.url)]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    // The server could send more, and does not: nobody takes it.
    until("it is stuck", || {
        let before = asked.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(100));
        before > 0 && before == asked.load(Ordering::Relaxed)
    });
    let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let mut status = None;
    until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(130));
}
