//! `demo`, `version`, wrong usage.

use std::process::Output;

use crate::support::{HANG, stderr, stdout_object};

fn run(args: &[&str]) -> Output {
    assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("sendstream")).args(args).timeout(HANG).output().unwrap()
}

#[test]
fn the_demo_prints_one_object_with_equal_digests() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["demo", "--json", "--size", "8M", "--dir", dir.path().to_str().unwrap()]);
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
    let object = stdout_object(&output);
    assert_eq!(object["bytes"], 8 << 20);
    assert_eq!(object["digest_match"], true);
    assert!(object["seconds"].as_f64().unwrap() > 0.0);
    assert!(object["mib_per_s"].as_f64().unwrap() > 0.0);
    assert_ne!(object["sender"]["pid"], object["receiver"]["pid"]);
    // It cleans up after itself.
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

#[test]
fn the_demo_for_people_says_what_happened() {
    let output = run(&["demo", "--size", "1M"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("sent      1.00 MiB in "), "{text}");
    assert!(text.contains("received  1.00 MiB in "), "{text}");
    assert!(text.contains("digests   equal, blake3 "), "{text}");
}

#[test]
fn version_names_all_that_is_linked_in() {
    let output = run(&["version", "--json", "--verbose"]);
    assert_eq!(output.status.code(), Some(0));
    let versions = stdout_object(&output);
    assert_eq!(versions["sendstream"], env!("CARGO_PKG_VERSION"));
    assert_eq!(versions["msquic"].as_str().unwrap().split('.').count(), 4);
    assert!(versions["msquic_git_hash"].as_str().unwrap().len() >= 7);
    assert!(versions["tls"].as_str().unwrap().starts_with("AWS-LC "));
    let edits = versions["edits"].as_array().unwrap();
    assert!(edits.iter().all(|edit| edit["name"].is_string() && edit["kind"].is_string()));

    assert_eq!(versions["patches"], edits.len());
    assert!(stdout_object(&run(&["version", "--json"])).get("edits").is_none());

    let short = String::from_utf8(run(&["version"]).stdout).unwrap();
    let text = String::from_utf8(run(&["version", "--verbose"]).stdout).unwrap();
    assert_eq!(short.lines().count(), 3, "{short}");
    assert!(text.starts_with(&short));
    for (label, field) in [("sendstream", "sendstream"), ("MsQuic", "msquic"), ("TLS", "tls")] {
        let line = text.lines().find(|line| line.starts_with(label)).unwrap();
        assert!(line.contains(versions[field].as_str().unwrap()), "{line}");
    }
    assert!(edits.iter().all(|edit| text.contains(edit["name"].as_str().unwrap())));
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_to_type() {
    for (args, hint) in [
        (&["send", "photo.jpg", "notes.txt"][..], "with the line that `sendstream recv` printed"),
        (&["send"], "[TICKET]"),
        (&["recv", "--listen", "nowhere"], "IP:PORT"),
        (&["demo", "--size", "big"], "256M"),
        (&[], "Usage"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(hint), "{args:?}: {}", stderr(&output));
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn a_port_in_use_is_reported_with_what_to_type() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["recv", "--listen", &taken.local_addr().unwrap().to_string(), dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot listen on 127.0.0.1:"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--listen"));
}

#[test]
fn an_address_that_is_not_this_machines_is_reported_with_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    for listen in ["203.0.113.9:0", "203.0.113.9", "[2001:db8::1]:4433", "224.0.0.1:0", "255.255.255.255:4433"] {
        let output = run(&["recv", "--listen", listen, dir.path().to_str().unwrap()]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{listen}: {said}");
        assert!(
            said.contains("is not an address of this machine") && said.contains("--listen :PORT"),
            "{listen}: {said}"
        );
        assert_eq!(output.stdout, b"", "no ticket for {listen}");
    }
}

#[test]
fn a_name_to_listen_on_that_stands_for_no_address_is_reported_with_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["recv", "--listen", "nowhere.invalid:4433", dir.path().to_str().unwrap()]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot listen on nowhere.invalid:4433") && said.contains("how it is spelt"), "{said}");
}

#[test]
fn the_doctor_says_what_to_change_and_how() {
    let output = run(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let found = stdout_object(&output);
    assert_eq!(found["ok"], true);
    let checks = found["checks"].as_array().unwrap();
    for name in ["UDP", "receive buffer", "GSO and GRO", "addresses", "port", "clock", "descriptors"] {
        let check = checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {found}"));
        assert!(["good", "warning"].iter().any(|state| check["state"] == *state), "{check}");
        assert_eq!(check["hint"].is_string(), check["state"] == "warning", "{check}");
    }
    let text = run(&["doctor"]).stdout;
    let text = str::from_utf8(&text).unwrap();
    assert!(text.lines().any(|line| line.starts_with("good    UDP ")), "{text}");
}

#[test]
fn the_doctor_fails_where_transfers_do() {
    let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let output = run(&["doctor", "--port", &taken.local_addr().unwrap().port().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("BAD     port") && text.contains("ss -lunp"), "{text}");

    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 24; exec \"$@\"", "sh"]).arg(assert_cmd::cargo::cargo_bin!("sendstream"));
    let output = limited.args(["doctor", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found = stdout_object(&output);
    assert_eq!(found["ok"], false);
    let check = found["checks"].as_array().unwrap().iter().find(|check| check["check"] == "descriptors").unwrap();
    assert!(check["state"] == "bad" && check["hint"].as_str().unwrap().contains("ulimit -n "), "{check}");
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["recv", "send", "share", "get", "doctor", "advertise", "overwrite"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let page = String::from_utf8(run(&["man"]).stdout).unwrap();
    assert!(page.contains(".TH sendstream 1") && page.contains("sendstream\\-recv"), "{page}");
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", "--dir", dir.path().to_str().unwrap()]).status.code(), Some(0));
    for name in [
        "sendstream",
        "sendstream-recv",
        "sendstream-send",
        "sendstream-share",
        "sendstream-get",
        "sendstream-http-get",
    ] {
        let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(&format!(".TH {name} 1")), "{name}");
    }
    let page = std::fs::read_to_string(dir.path().join("sendstream-recv.1")).unwrap();
    assert!(page.contains("Exit status"), "{page}");
}

#[test]
fn a_failure_is_also_told_to_programs() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let port = taken.local_addr().unwrap();
    for (listen, status, kind) in [
        (port.to_string(), 1, "address-in-use"),
        ("203.0.113.9:0".to_owned(), 1, "address-not-available"),
        ("nowhere.invalid:1".to_owned(), 1, "unresolved"),
    ] {
        let output = run(&["recv", "--json", "--listen", &listen, dir.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(status));
        let object = stdout_object(&output);
        assert_eq!((&object["ok"], &object["kind"]), (&false.into(), &kind.into()), "{object}");
        let [error, hint] = ["error", "hint"].map(|field| object[field].as_str().unwrap());
        assert!(error.starts_with("cannot listen on") && hint.contains("--listen"), "{object}");
        assert!(!error.contains('\n'), "{object}");
    }
}

#[test]
fn without_descriptors_both_ends_say_so_wherever_they_run_out() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = crate::support::Receiver::start(&[]);
    let files = crate::support::Files::new();
    let file = files.file("x", b"x");
    for limit in [10, 12, 14, 16, 18, 20] {
        for args in [
            vec!["recv", "--json", "--listen", "127.0.0.1:0", dir.path().to_str().unwrap()],
            vec!["send", "--json", file.to_str().unwrap(), &receiver.ticket],
        ] {
            let mut limited = assert_cmd::Command::new("sh");
            limited.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]);
            let output = limited.arg(assert_cmd::cargo::cargo_bin!("sendstream")).args(&args).timeout(HANG).output();
            let output = output.unwrap();
            assert_eq!(output.status.code(), Some(1), "{limit} {args:?}: {}", stderr(&output));
            let object = stdout_object(&output);
            assert_eq!(object["kind"], "resources", "{limit} {args:?}: {object}");
            assert!(object["hint"].as_str().unwrap().contains("ulimit -n"), "{object}");
        }
    }
}
