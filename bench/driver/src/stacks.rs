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
    suite: &'static str,
    /// Where its shared libraries are.
    libraries: Option<PathBuf>,
}

/// The stacks whose programs are there, in the order in which they run. Each that is missing is said loudly.
pub(crate) fn find(programs: &Path) -> Vec<Stack> {
    let mut found = Vec::new();
    for (name, build, suite) in ALL {
        let folder = programs.join(build).join("release");
        let file = if name == "raw-edited" { "raw" } else { name };
        let program = folder.join(format!("bench-{file}"));
        if program.exists() {
            let libraries = (name == "msquic-async").then(|| msquic_folder(&folder)).flatten();
            found.push(Stack { name, program, suite, libraries });
        } else {
            eprintln!("SKIPPED: {name}, since there is no {}", program.display());
        }
    }
    found
}

impl Stack {
    /// Runs one case once, and gives what the program printed.
    pub(crate) fn run(&self, case: &Case, cpu: usize) -> Result<Value, String> {
        let mut command = Command::new(&self.program);
        command.args(&case.arguments).args(["--suite", self.suite]);
        if case.one_cpu {
            command.args(["--cpu", &cpu.to_string()]);
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
        serde_json::from_slice(&output.stdout).map_err(|error| format!("printed something else than JSON: {error}"))
    }
}

/// Where the build of msquic-async left its libmsquic.
fn msquic_folder(release: &Path) -> Option<PathBuf> {
    let builds = std::fs::read_dir(release.join("build")).ok()?;
    builds
        .filter_map(|entry| Some(entry.ok()?.path().join("out/lib")))
        .find(|folder| folder.join("libmsquic.so.2").exists())
}

/// Name, build folder, cipher suite. Where a stack can be told, it is AES-128. Sendstream takes MsQuic's first choice, so raw,
/// which is compared with it, is told the same.
const ALL: [(&str, &str, &str); 8] = [
    ("raw", "raw", MSQUIC_FIRST),
    ("raw-edited", "main", MSQUIC_FIRST),
    ("sendstream", "main", MSQUIC_FIRST),
    ("sendstream-local", "main", MSQUIC_FIRST),
    ("msquic-async", "msquic-async", "aes-128"),
    ("quinn", "main", "aes-128"),
    ("s2n-quic", "main", "aes-128"),
    ("tokio-quiche", "tokio-quiche", "aes-128"),
];

const MSQUIC_FIRST: &str = "aes-256";

/// After how long a program counts as hung.
const LONGEST: Duration = Duration::from_secs(600);
