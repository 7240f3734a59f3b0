//! Tends the series of patches in `sendstream-sys/patches`: the work behind `make msquic-tree`,
//! `make msquic-patches` and `make patches-check`. Git is needed here, and by no build.
//!
//! | command | what it does |
//! | ------------------ | ---------------------------------------------------------------------------------- |
//! | `tree FOLDER` | unpacks MsQuic's sources into a git repository with one commit for each patch |
//! | `export FOLDER` | makes the series anew from the commits of such a repository, and the table with it |
//! | `table` | makes the tables of edits in `SECURITY.md` anew |
//! | `independent` | prints the names of the edits that no other needs |

#[path = "../../build/apply.rs"]
mod apply;
#[path = "../../build/crate_sources.rs"]
mod crate_sources;
mod export;
mod git;
#[path = "../../build/patch.rs"]
mod patch;
#[path = "../../build/series.rs"]
mod series;
mod table;
mod tree;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("patches: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// One line that says what is wrong and what to do about it.
type Problem = String;

fn run(arguments: &[&str]) -> Result<(), Problem> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let patches = series::folder(here);
    match arguments {
        ["tree", folder] => {
            tree::make(&series::load(&patches)?, &crate_sources::find(&crate_sources::MSQUIC, here)?, Path::new(folder))
        }
        ["export", folder] => {
            export::export(Path::new(folder), &patches)?;
            write_table(here)
        }
        ["table"] => write_table(here),
        ["independent"] => {
            let series = series::load(&patches)?;
            let is_needed = |name| series.iter().any(|other| other.header.needs.contains(name));
            for name in series.iter().map(|patch| &patch.header.name).filter(|name| !is_needed(name)) {
                println!("{name}");
            }
            Ok(())
        }
        _ => Err("it takes tree FOLDER, export FOLDER, table or independent".into()),
    }
}

fn write_table(here: &Path) -> Result<(), Problem> {
    let page = here.join("../SECURITY.md");
    let at = |error| format!("{}: {error}", page.display());
    let text = fs::read_to_string(&page).map_err(at)?;
    let renewed = table::renewed(&text, &series::load(&series::folder(here))?)?;
    if renewed != text {
        fs::write(&page, renewed).map_err(at)?;
    }
    Ok(())
}
