//! The Python that runs aioquic.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use super::skip;

/// A Python with aioquic: what `make test` has made, or the system's.
pub(crate) fn python() -> Option<PathBuf> {
    // The tests of a process ask once, as each answer takes a good part of a second.
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(find);
    if found.is_none() {
        skip("there is no aioquic; `pip install aioquic` for python3, or `sh .ci/tools tests`");
    }
    found.clone()
}

fn find() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv-peers/bin/python");
    [made, PathBuf::from("python3")].into_iter().find(|python| {
        let imported = Command::new(python).args(["-c", "import aioquic"]).stderr(Stdio::null()).status();
        imported.is_ok_and(|status| status.success())
    })
}
