//! Chromium without a window, for the tests of `http` and of `perf`.

use std::process::{Command, Stdio};

use crate::support::{HANG, skip, stderr};

/// Debian's Chromium, or one of another name.
pub(crate) fn chromium() -> Option<&'static str> {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|program| {
        let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        there.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        skip("there is no chromium; `sh .ci/tools tests` installs it (Debian: apt-get install chromium)");
    }
    found
}

/// Runs it for a page. Returns what it printed.
pub(crate) fn browse(chromium: &str, args: &[&str], url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = assert_cmd::Command::new(chromium)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(args)
        .arg(url)
        .timeout(HANG)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}
