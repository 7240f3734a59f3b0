//! The bench's driver: runs the programs of all stacks in turn, and judges Sendstream by the
//! outcome.
//!
//! | module     | what it is                                              |
//! | ---------- | ------------------------------------------------------- |
//! | `stacks`   | the programs, and how one is started                    |
//! | `cases`    | what is measured: workloads and where they run          |
//! | `figures`  | medians and ranges of what the programs printed         |
//! | `verdicts` | the rows that Sendstream is judged by                   |
//! | `page`     | the Markdown table and the HTML chart                   |

mod cases;
mod figures;
mod page;
mod stacks;
mod verdicts;

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser;

use cases::Case;
use figures::Figures;
use stacks::{Outcome, Stack};

/// Runs the programs of all stacks, one after the other in each round, and prints medians, ranges
/// and verdicts.
///
/// Ends with a failure where a run of Sendstream's failed, or another stack's outside of the cases
/// for `--scale`. Verdicts do not count: a machine that does something else beside is no mistake of
/// the code's.
#[derive(Debug, Parser)]
struct Options {
    /// The folder with one folder of programs for each build: `main`, `raw-edited`, `msquic-async`,
    /// `tokio-quiche`.
    #[arg(long)]
    programs: PathBuf,
    /// How many rounds, in place of each case's own number.
    #[arg(long)]
    rounds: Option<usize>,
    /// Little data and few rounds: whether everything runs, and a first impression.
    #[arg(long)]
    quick: bool,
    /// Also how throughput, memory and time per message develop up to 10,000 connections, 10,000
    /// streams and a million messages.
    #[arg(long)]
    scale: bool,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Only these stacks.
    #[arg(long, value_delimiter = ',')]
    stacks: Vec<String>,
    /// The cipher suite, `aes-128` or `aes-256`. s2n-quic and tokio-quiche cannot be told, and take
    /// AES-128.
    #[arg(long, default_value = "aes-128")]
    suite: String,
    /// The CPU that the cases on one CPU run on.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Print everything as JSON, each round with it.
    #[arg(long)]
    json: bool,
    /// Where to write `bench.md`, `bench.html` and `bench.json`.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let stacks: Vec<Stack> = stacks::find(&options.programs)
        .into_iter()
        .filter(|stack| options.stacks.is_empty() || options.stacks.iter().any(|name| name == stack.name))
        .collect();
    let cases: Vec<Case> = cases::all(options.quick, options.scale)
        .into_iter()
        .filter(|case| case.name().contains(&options.only))
        .collect();
    let start = Instant::now();
    let mut figures = Figures::default();
    for case in &cases {
        let rounds = options.rounds.unwrap_or(case.rounds);
        for round in 1..=rounds {
            for stack in stacks.iter().filter(|stack| case.is_for(stack.name)) {
                let name = case.name();
                if figures.ruled_out(&name, stack.name).is_some() || figures.is_given_up(&name, stack.name) {
                    continue;
                }
                eprintln!("{} {round}/{rounds}: {}", case.name(), stack.name);
                match stack.run(case, &options.suite, options.cpu) {
                    Ok(Outcome::Report(report)) => figures.add(case, stack.name, report),
                    Ok(Outcome::NotPossibleHere(reason)) => figures.rule_out(case, stack.name, reason),
                    // One stack that fails does not keep the others from being measured; the tables
                    // show it.
                    Err(problem) => figures.fail(case, stack.name, problem),
                }
            }
        }
    }
    eprintln!("measured for {:.1} minutes", start.elapsed().as_secs_f64() / 60.0);
    let verdicts = verdicts::judge(&figures);
    let markdown = page::markdown(&cases, &figures, &verdicts);
    let json = serde_json::json!({ "runs": figures.to_json(), "verdicts": verdicts });
    if options.json {
        println!("{json:#}");
    } else {
        println!("{markdown}");
    }
    if let Some(folder) = &options.output {
        let written = fs::create_dir_all(folder)
            .and_then(|()| fs::write(folder.join("bench.md"), &markdown))
            .and_then(|()| fs::write(folder.join("bench.html"), page::html(&cases, &figures)))
            .and_then(|()| fs::write(folder.join("bench.json"), format!("{json:#}\n")));
        if let Err(error) = written {
            eprintln!("bench: cannot write to {}: {error}", folder.display());
            return ExitCode::FAILURE;
        }
    }
    if figures.has_serious_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
