//! The page, and what a person sees of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    browser::{self, chromium},
    support::{Serve, stderr},
};

/// Shows a file. Returns what Chromium printed.
fn browse(chromium: &str, page: &Path, args: &[&str]) -> String {
    browser::browse(chromium, args, &format!("file://{}", page.display()))
}

/// Where the pages and their pictures stay.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("perf");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn chromium_shows_a_page_in_light_and_dark() {
    let Some(chromium) = chromium() else { return };
    let serve = Serve::start(&[]);
    for (name, args) in
        [("transfer", &["-t", "2", "-O", "0.5", "--bidir", "-P", "2"][..]), ("ping-pong", &["-t", "1", "--ping-pong"])]
    {
        let page = folder().join(format!("{name}.html"));
        serve.measure(&[args, &["--report", page.to_str().unwrap()]].concat());
        // Of `preferredColorScheme`, 0 is dark and 1 is light.
        let pictures = [("light", 1, "1120,1400"), ("dark", 0, "1120,1400"), ("narrow", 1, "500,1700")];
        let pictures = pictures.map(|(scheme, number, size)| {
            let shot = folder().join(format!("{name}-{scheme}.png"));
            let _ = fs::remove_file(&shot);
            let args = [
                format!("--blink-settings=preferredColorScheme={number}"),
                format!("--window-size={size}"),
                format!("--screenshot={}", shot.display()),
            ];
            let args: Vec<_> = args.iter().map(String::as_str).chain(["--hide-scrollbars"]).collect();
            browse(chromium, &page, &args);
            let png = fs::read(&shot).unwrap();
            assert!(png.starts_with(b"\x89PNG") && png.len() > 20_000, "{name} {scheme}: {} bytes", png.len());
            png
        });
        assert_ne!(pictures[0], pictures[1]);
        let dom = browse(chromium, &page, &["--dump-dom"]);
        assert_eq!(dom.matches("<svg").count(), 4, "{name}");
    }
}

#[test]
fn a_page_replaces_what_was_there_and_leaves_nothing_beside_it() {
    let serve = Serve::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    fs::write(&page, "before").unwrap();
    serve.measure(&["-t", "0.3", "--report", page.to_str().unwrap()]);
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.trim_end().ends_with("</html>"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // Also one of a run that was ended at its other end.
    let serve = Serve::start(&["--max-time", "0.3"]);
    let output = serve.run(&["-n", "1T", "-R", "--report", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(fs::read_to_string(&page).unwrap().contains("class=error"), "{}", stderr(&output));
}
