//! The user's settings: defaults for what can be typed, from `$XDG_CONFIG_HOME/sendstream/config.toml`
//! (`~/.config/sendstream/config.toml`).
//!
//! ```toml
//! [recv]
//! listen = ":4433"
//! advertise = ["home.example.org"]
//!
//! [http.serve]
//! with-tcp = true
//! ```
//!
//! A table stands for a command, and a key for one of its long options, or for its `DIR`. What is typed
//! goes before what is set, and `--help` shows both.

use std::{fs, io, path::Path};

use clap::{ArgAction, Command};
use toml::{Table, Value};

use crate::{error::Failure, store};

/// Reads the settings, and makes them the defaults of `command`.
pub(crate) fn apply(command: Command) -> (Command, Result<(), Failure>) {
    let Some(path) = store::folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("config.toml")) else {
        return (command, Ok(()));
    };
    match read(&path).and_then(|table| with(command.clone(), table, "")) {
        Ok(command) => (command, Ok(())),
        Err(why) => (command, Err(Failure::usage(format!("{}: {why}", path.display())))),
    }
}

fn read(path: &Path) -> Result<Table, String> {
    match fs::read_to_string(path) {
        Ok(text) => {
            text.parse().map_err(|error: toml::de::Error| error.to_string().replace('\n', " ").trim().to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// The command with the defaults of a table, and its commands with theirs.
fn with(mut command: Command, table: Table, place: &str) -> Result<Command, String> {
    for (key, value) in table {
        let name = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        if let Value::Table(table) = value {
            let Some(inner) = command.find_subcommand(&key).cloned() else {
                return Err(format!("there is no command `{name}`"));
            };
            let inner = with(inner, table, &name)?;
            command = command.mut_subcommand(&key, |_| inner);
            continue;
        }
        let argument = command.get_arguments().find(|argument| {
            let is_option = argument.get_long() == Some(&key)
                && !matches!(argument.get_action(), ArgAction::Help | ArgAction::Version);
            is_option || (argument.is_positional() && argument.get_id() == key.as_str() && !argument.is_required_set())
        });
        let Some(argument) = argument else { return Err(format!("`{name}` cannot be set")) };
        let values = texts(value)
            .ok_or_else(|| format!("`{name}` must be a text, a number, true or false, or a list of texts"))?;
        let id = argument.get_id().clone();
        command = command.mut_arg(id, |argument| argument.default_values(values));
    }
    Ok(command)
}

/// A value as it would be typed.
fn texts(value: Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Boolean(is_set) => Some(vec![is_set.to_string()]),
        Value::Array(values) => values.into_iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::cli::{Cli, Command as Chosen, RecvArgs};

    fn recv(settings: &str, typed: &[&str]) -> Result<RecvArgs, String> {
        let command = with(Cli::command(), settings.parse().unwrap(), "")?;
        let typed = ["sendstream", "recv"].iter().chain(typed);
        let matches = command.try_get_matches_from(typed).map_err(|error| error.to_string())?;
        match Cli::from_arg_matches(&matches).unwrap().command {
            Chosen::Recv(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_set_holds_unless_something_else_is_typed() {
        let settings =
            "[recv]\ndir = \"inbox\"\nlisten = \":4433\"\noverwrite = true\nadvertise = [\"a.example\", \"b.example\"]";
        let args = recv(settings, &[]).unwrap();
        assert_eq!(
            (args.dir.to_str(), args.wait.listen.to_string(), args.overwrite),
            (Some("inbox"), ":4433".to_owned(), true)
        );
        assert_eq!(args.wait.advertise.len(), 2);
        let args = recv(settings, &["--listen", ":1", "--advertise", "c.example", "here"]).unwrap();
        assert_eq!((args.dir.to_str(), args.wait.listen.to_string()), (Some("here"), ":1".to_owned()));
        assert_eq!(args.wait.advertise.len(), 1);
        assert!(!recv("[http.serve]\nwith-tcp = true", &[]).unwrap().overwrite);
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        for (settings, named) in [
            ("[receive]\nlisten = \":1\"", "no command `receive`"),
            ("[recv]\nport = 1", "`recv.port` cannot be set"),
            ("[recv]\nhelp = true", "`recv.help` cannot be set"),
            ("[send]\nFILE = \"x\"", "`send.FILE` cannot be set"),
            ("verbose = true", "`verbose` cannot be set"),
            ("[recv]\nlisten = 1.5", "`recv.listen` must be a text"),
            ("[recv]\nlisten = \"nowhere\"", "nowhere"),
            ("[recv]\noverwrite = \"perhaps\"", "perhaps"),
        ] {
            let error = recv(settings, &[]).unwrap_err();
            assert!(error.contains(named), "{settings}: {error}");
        }
    }
}
