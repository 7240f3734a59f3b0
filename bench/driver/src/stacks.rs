//! The programs, and how one is started.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::cases::Case;

/// One stack's program.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    program: PathBuf,
    /// For HTTP/3, the server that the load generator starts.
    server: Option<PathBuf>,
    /// Where its shared libraries are.
    libraries: Option<PathBuf>,
}

/// What came of a run that did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// What the program printed.
    Report(Value),
    /// The system does not allow it, for this reason.
    NotPossibleHere(String),
}

/// The stacks whose programs are there, in the order in which they run. Each that is missing is
/// said loudly.
pub(crate) fn find(programs: &Path) -> Vec<Stack> {
    let mut found = Vec::new();
    for (name, build) in ALL {
        let folder = programs.join(build).join("release");
        let file = if name == "raw-edited" { "raw" } else { name };
        let program = folder.join(format!("bench-{file}"));
        if program.exists() {
            let libraries = (name == "msquic-async").then(|| msquic_folder(&folder)).flatten();
            found.push(Stack { name, program, server: None, libraries });
        } else {
            eprintln!("SKIPPED: {name}, since there is no {}", program.display());
        }
    }
    for (name, build) in HTTP3 {
        let folder = programs.join(build).join("release");
        let program = programs.join("main/release/bench-http3-load");
        let server = folder.join(format!("bench-{name}"));
        if program.exists() && server.exists() {
            let libraries = (build == "msquic-async").then(|| msquic_folder(&folder)).flatten();
            found.push(Stack { name, program, server: Some(server), libraries });
        } else {
            eprintln!("SKIPPED: {name}, since there is no {} or no {}", program.display(), server.display());
        }
    }
    found
}

impl Stack {
    /// Runs one case once.
    pub(crate) fn run(&self, case: &Case, suite: &str, cpu: usize) -> Result<Outcome, String> {
        let mut command = Command::new(&self.program);
        command.args(&case.arguments).args(["--suite", suite]);
        if case.place.one_cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        if let Some(server) = &self.server {
            command.arg("--server").arg(server);
        } else if case.place.two_processes {
            command.args(["--role", "client"]);
        }
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        // The program prints one line at its end, which the pipe has room for.
        let start = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if start.elapsed() > LONGEST => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("not done after {} s", LONGEST.as_secs()));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(error.to_string()),
            }
        };
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("ended with {status}"));
        }
        let report: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("printed something else than JSON: {error}"))?;
        Ok(match report["not_possible_here"].as_str() {
            Some(reason) => Outcome::NotPossibleHere(reason.to_owned()),
            None => Outcome::Report(report),
        })
    }
}

/// Where the build of msquic-async left its libmsquic.
fn msquic_folder(release: &Path) -> Option<PathBuf> {
    let builds = std::fs::read_dir(release.join("build")).ok()?;
    builds
        .filter_map(|entry| Some(entry.ok()?.path().join("out/lib")))
        .find(|folder| folder.join("libmsquic.so.2").exists())
}

/// Name and build folder.
const ALL: [(&str, &str); 9] = [
    ("raw", "raw"),
    ("raw-edited", "main"),
    ("sendstream", "main"),
    ("sendstream-threads", "main"),
    ("sendstream-local", "main"),
    ("msquic-async", "msquic-async"),
    ("quinn", "main"),
    ("s2n-quic", "main"),
    ("tokio-quiche", "tokio-quiche"),
];

/// The HTTP/3 servers: name and build folder.
const HTTP3: [(&str, &str); 4] = [
    ("http3-sendstream", "main"),
    ("http3-quinn", "main"),
    ("http3-tokio-quiche", "tokio-quiche"),
    ("http3-msquic-async", "msquic-async"),
];

/// After how long a program counts as hung. The slowest takes a minute.
const LONGEST: Duration = Duration::from_secs(120);
