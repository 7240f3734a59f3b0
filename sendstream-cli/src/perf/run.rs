//! `sendstream perf run`: a run, and its results on standard output and as a page.

use std::{
    fs::Permissions,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{cli::RunArgs, json, lines, measure::measure, outcome::Outcome, page};
use crate::{
    error::Failure,
    signal::Interrupt,
    summary::{print_json, print_line},
};

/// Carries a run out and prints its results.
pub(crate) fn run(args: RunArgs) -> Result<(), Failure> {
    let plan = args.plan()?;
    let target = args.target.clone().at_port(args.port).map_err(Failure::usage)?;
    let page = args.report.as_deref().map(PageFile::new).transpose()?;
    let interrupt = Interrupt::install()?;
    let runtime = crate::http::runtime()?;
    let (outcome, result) = runtime.block_on(async {
        let mut outcome = None;
        let result = measure(&args, plan, &target, interrupt.wait(), &mut outcome).await;
        (outcome, result)
    });
    runtime.shutdown_background();
    let result = result.and_then(|()| match outcome.as_ref().and_then(Outcome::disagreement) {
        Some(why) => Err(Failure::new(why).todo("install the same release at both ends")),
        None => Ok(()),
    });
    let error = result.as_ref().err().map(ToString::to_string);
    if let Some(outcome) = &outcome {
        if args.output.json {
            print_json(&json::run(outcome, error.as_deref()))?;
        } else if outcome.ends.is_some() {
            print_line(&lines::summary(outcome))?;
        }
        if let Some(page) = page {
            page.write(&page::page(outcome, error.as_deref()))?;
        }
    } else if args.output.json
        && let Some(error) = &error
    {
        print_json(&json::failed(error))?;
    }
    result
}

/// Where the page goes: into its place when it is complete.
struct PageFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl PageFile {
    /// Finds out before the run whether there can be one.
    fn new(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("cannot write {}: {error}", path.display()));
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        let file = tempfile::Builder::new()
            .prefix(".sendstream-")
            .suffix(".part")
            // Who may read it is the user's umask to say, as of any file that a program writes.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(dir)
            .map_err(failed)?;
        Ok(Self { file, path: path.to_owned() })
    }

    fn write(mut self, page: &str) -> Result<(), Failure> {
        let failed = |error| Failure::new(format!("cannot write {}: {error}", self.path.display()));
        self.file.write_all(page.as_bytes()).map_err(failed)?;
        self.file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}
