//! `sendstream`: sends files over QUIC, fast and encrypted.
//!
//! | module     | what it is for                                                                |
//! | ---------- | ----------------------------------------------------------------------------- |
//! | `cli`      | the grammar: what can be typed                                                 |
//! | `receive`  | `sendstream recv`: listens, and receives of each sender                        |
//! | `share`    | `sendstream share`: listens, and sends to each receiver                        |
//! | `listen`   | where `recv`, `share` and `http serve` listen: `--listen`                      |
//! | `announce` | what `recv` and `share` tell those who are to come: the ticket                 |
//! | `lobby`    | who is let in by `recv` and `share`, and until when                            |
//! | `strangers`| peers that have not shown the token yet                                        |
//! | `session`  | one sender at the receiver, from its hello to its last file                    |
//! | `inbox`    | where received bytes go; a file gets its name only when complete and checked   |
//! | `send`     | `sendstream send`: connects, sends each file on its own stream, counts answers |
//! | `get`      | `sendstream get`: connects, and receives what a `share` has                    |
//! | `caller`   | how `send` and `get` come to their server, and come again                      |
//! | `walk`     | which files the arguments of `send` and `share` stand for                      |
//! | `reader`   | reads and hashes those files ahead of the network, on a thread of its own      |
//! | `demo`     | `sendstream demo`: both ends as two processes on loopback                      |
//! | `http`     | `sendstream http get`, `http serve`: files over HTTP/3                         |
//! | `perf`     | `sendstream perf serve`, `perf run`: what a path carries                      |
//! | `version`  | `sendstream version`: what is linked in here                                   |
//! | `code`     | a code that stands for a ticket, and how it is asked for                       |
//! | `neighbours`| who has a code on the same network                                            |
//! | `peers`    | `sendstream peers`: those with whom no ticket has to change hands              |
//! | `store`    | what stays between runs                                                        |
//! | `config`   | the user's settings, as defaults of the grammar                                |
//! | `doctor`   | `sendstream doctor`: what of this machine stands in the way                    |
//! | `generate` | `sendstream completions` and `man`: the grammar, for shells and for `man`      |
//! | `protocol` | the bytes between the two ends, without a network                              |
//! | `transport`| how both ends set up a connection, and how they end it                         |
//! | `sessions` | session tickets of receivers, kept in files for the next run of `send`         |
//! | `ticket`   | the one line that a server prints and its clients are given                    |
//! | `qr`       | the same as a picture                                                          |
//! | `interfaces`| the addresses of this machine                                                 |
//! | `destination`| where `send` and `get` get their ticket from                                 |
//! | `dial`     | from a ticket to a connection                                                  |
//! | `name`     | which names a peer may give a file                                             |
//! | `progress` | the bars on a terminal, the notes in a pipe, the events for programs           |
//! | `terminal` | what the terminal can show                                                     |
//! | `summary`  | the result: one line for people, one object for programs                       |
//! | `timer`    | a wait for a moment                                                            |
//! | `signal`   | Ctrl-C as a future                                                             |
//! | `error`    | what went wrong, what to do about it, and the exit status                      |

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::{
    cli::{Cli, Command},
    error::Failure,
};

mod announce;
mod caller;
mod cli;
mod code;
mod config;
mod demo;
mod destination;
mod dial;
mod doctor;
mod error;
mod generate;
mod get;
mod http;
mod inbox;
mod interfaces;
mod listen;
mod lobby;
mod name;
mod neighbours;
mod peers;
mod perf;
mod progress;
mod protocol;
mod qr;
mod reader;
mod receive;
mod send;
mod session;
mod sessions;
mod share;
mod signal;
mod store;
mod strangers;
mod summary;
mod terminal;
mod ticket;
mod timer;
mod transport;
mod version;
mod walk;

fn main() -> ExitCode {
    let (grammar, settings) = config::apply(Cli::command());
    let command = Cli::from_arg_matches(&grammar.get_matches()).unwrap_or_else(|error| error.exit()).command;
    let json = command.wants_json();
    match settings.and_then(|()| run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if json && !failure.was_told() {
                summary::print_failure(&failure);
            }
            failure.report()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Recv(args) => receive::run(args),
        Command::Send(args) => send::run(args),
        Command::Share(args) => share::run(args),
        Command::Get(args) => get::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Http(args) => http::run(args),
        Command::Perf(args) => perf::run(args),
        Command::Version(args) => version::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => generate::completions(args),
        Command::Man(args) => generate::man(args),
        Command::Peers(args) => peers::run(args),
    }
}
