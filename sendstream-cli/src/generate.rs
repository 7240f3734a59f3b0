//! `sendstream completions` and `sendstream man`: what the grammar says, for shells and for `man`.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use clap::{Command, CommandFactory as _};

use crate::{
    cli::{Cli, CompletionsArgs, ManArgs},
    error::Failure,
};

/// Prints the completions for a shell.
pub(crate) fn completions(args: CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    print(&script)
}

/// Prints the manual page, or writes it and those of the commands into a directory.
pub(crate) fn man(args: ManArgs) -> Result<(), Failure> {
    let mut command = Cli::command();
    // Gives each command its whole name, `sendstream-http-get`.
    command.build();
    match args.dir {
        None => print(&page(&command)?),
        Some(dir) => {
            let failed = |error| Failure::new(format!("cannot write the manual pages into {}: {error}", dir.display()));
            fs::create_dir_all(&dir).map_err(failed)?;
            write_pages(&command, &dir)
        }
    }
}

fn write_pages(command: &Command, dir: &Path) -> Result<(), Failure> {
    let path = dir.join(format!("{}.1", command.get_display_name().unwrap_or(NAME)));
    let failed = |error| Failure::new(format!("cannot write {}: {error}", path.display()));
    fs::write(&path, page(command)?).map_err(failed)?;
    let commands = command.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set());
    for command in commands {
        write_pages(command, dir)?;
    }
    Ok(())
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let made = clap_mangen::Man::new(command.clone()).section("1").render(&mut page);
    made.map_err(|error| Failure::new(format!("cannot make the manual page: {error}")))?;
    Ok(page)
}

/// Prints what a reader may have seen enough of, as `head` has.
fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

const NAME: &str = "sendstream";
