//! Git, whatever its user has set.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Problem;

/// The repository in `folder`.
#[derive(Clone, Copy)]
pub(crate) struct Git<'a>(pub(crate) &'a Path);

impl Git<'_> {
    /// What a command prints.
    pub(crate) fn run(self, arguments: &[&str]) -> Result<String, Problem> {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.0)
            .args(["-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgsign=false"])
            .args(["-c", "user.name=Sendstream", "-c", "user.email=patches@sendstream.invalid"])
            .args(arguments)
            // A hook of another repository may have set these.
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("git does not run: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("git {} failed: {}", arguments.join(" "), said.lines().next().unwrap_or_default()));
        }
        String::from_utf8(output.stdout).map_err(|_| format!("git {} gave no text", arguments.join(" ")))
    }
}
