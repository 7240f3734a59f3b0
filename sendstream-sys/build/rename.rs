//! Gives what AWS-LC defines names of our own, so that a program may have OpenSSL or another of its
//! kin beside it. Each of them has a function `SSL_new`, and a linker takes whichever comes first.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Problem;
use crate::tools;

/// What the names begin with.
const PREFIX: &str = "sendstream_";

/// Writes a copy of the library `merged` to `folder`, with all symbols renamed that `archives` define.
pub(crate) fn copy(merged: &Path, archives: &[PathBuf], folder: &Path) -> Result<PathBuf, Problem> {
    let at = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    let names = folder.join("names");
    let mut map = String::new();
    for symbol in symbols(archives)? {
        map += &format!("{symbol} {PREFIX}{symbol}\n");
    }
    fs::write(&names, map).map_err(|error| at(&names, error))?;
    let renamed = folder.join(merged.file_name().unwrap_or_default());
    let mut option = std::ffi::OsString::from("--redefine-syms=");
    option.push(&names);
    run(Command::new(tools::binutil("objcopy")?).arg(option).arg(merged).arg(&renamed))?;
    Ok(renamed)
}

/// What others can see of what `archives` define.
fn symbols(archives: &[PathBuf]) -> Result<BTreeSet<String>, Problem> {
    let text = run(Command::new(tools::binutil("nm")?)
        .args(["--defined-only", "--extern-only", "--format=posix"])
        .args(archives))?;
    let symbols: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let name = words.next()?;
            words.next().filter(|kind| kind.len() == 1).map(|_| name.to_owned())
        })
        .collect();
    match symbols.is_empty() {
        true => Err("nm finds no symbol in AWS-LC's libraries".into()),
        false => Ok(symbols),
    }
}

/// What `command` prints.
fn run(command: &mut Command) -> Result<String, Problem> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::piped()).output().map_err(|error| format!("{program} does not run: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program}: {}", said.lines().find(|line| !line.trim().is_empty()).unwrap_or("failed")))
        }
    }
}
