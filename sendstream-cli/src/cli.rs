//! The grammar: what can be typed, and what `--help` says about it.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::{peers::Name, perf::PerfArgs};

mod http;
mod transfer;
mod values;

pub(crate) use http::{HttpArgs, HttpCommand, HttpGetArgs, HttpServeArgs};
pub(crate) use transfer::{ContentArgs, GetArgs, PatienceArgs, RecvArgs, SendArgs, ShareArgs, WaitArgs};
pub(crate) use values::{Advertised, parse_inbox, parse_size};

/// Send files over QUIC, fast and encrypted.
#[derive(Debug, Parser)]
#[command(name = "sendstream", version, max_term_width = 100, after_help = EXAMPLE)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Recv(RecvArgs),
    Send(SendArgs),
    Share(ShareArgs),
    Get(GetArgs),
    Demo(DemoArgs),
    Http(HttpArgs),
    Perf(PerfArgs),
    Version(VersionArgs),
    Peers(PeersArgs),
    Doctor(DoctorArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

impl Command {
    /// Whether a program reads the results.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Recv(args) => args.output.json,
            Self::Send(args) => args.output.json,
            Self::Share(args) => args.output.json,
            Self::Get(args) => args.output.json,
            Self::Demo(args) => args.output.json,
            // Each URL has its own result.
            Self::Http(HttpArgs { command: HttpCommand::Get(_) }) => false,
            Self::Http(HttpArgs { command: HttpCommand::Serve(args) }) => args.output.json,
            Self::Perf(args) => args.wants_json(),
            Self::Version(args) => args.json,
            Self::Peers(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::Completions(_) | Self::Man(_) => false,
        }
    }
}

/// Show a transfer: both ends as two processes on this machine, with a file made for it.
///
/// The file and the received copy live in a temporary directory and are removed at the end.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct DemoArgs {
    /// The size of the file, in bytes or with K, M, G (powers of 1024).
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size)]
    pub(crate) size: u64,

    /// Where to put the temporary directory, which takes twice SIZE; the system's place for such by
    /// default.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Print the versions of the tool, of MsQuic and of its TLS library.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// List the patches that MsQuic was built with.
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// List the known peers, or add, invite and remove some.
///
/// A receiver that is there all the time (`recv --peers`) invites each of its senders once: `peers invite
/// NAME` prints a ticket that stays good. The sender keeps it with `peers add NAME TICKET`, and then types
/// `send FILE... NAME`. All of it is in the folder `sendstream` of XDG_DATA_HOME (`~/.local/share`), for
/// its owner alone.
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    pub(crate) command: Option<PeersCommand>,

    /// Print one JSON object.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PeersCommand {
    Add(PeersAddArgs),
    Invite(PeersInviteArgs),
    /// Forget a peer: nothing is sent to it, and it is not let in any more.
    Remove {
        /// What it is called here.
        #[arg(value_name = "NAME")]
        name: Name,
    },
}

/// Keep the ticket with which a peer invited this end.
#[derive(Debug, Args)]
pub(crate) struct PeersAddArgs {
    /// What the peer is called here.
    #[arg(value_name = "NAME")]
    pub(crate) name: Name,

    /// The line that `sendstream peers invite` printed there; from SENDSTREAM_TICKET or standard input
    /// without it, as for `send`.
    #[arg(value_name = "TICKET")]
    pub(crate) ticket: Vec<OsString>,
}

/// Let a peer send to `recv --peers` of this machine: prints a ticket for it, which stays good.
///
/// It replaces the one that the peer had. A `recv --peers` that runs knows of it at once.
#[derive(Debug, Args)]
pub(crate) struct PeersInviteArgs {
    /// What the peer is called here.
    #[arg(value_name = "NAME")]
    pub(crate) name: Name,

    /// The port on which `recv --peers` listens.
    #[arg(long, value_name = "PORT", default_value_t = 4433, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,

    /// A name or an address by which the peer reaches this machine, in place of those that it has now; may
    /// be given up to 16 times.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) advertise: Vec<Advertised>,
}

/// Look for what of this machine slows transfers down or stops them, and say what to change.
///
/// It looks at buffers and offloads of UDP, addresses, ports, the clock and descriptors. It changes
/// nothing, and sends nothing to other machines.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 if transfers work, also with warnings, and 1 if they do not.")]
pub(crate) struct DoctorArgs {
    /// The port that is to be listened on, if it is a certain one.
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,

    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print a script that completes what is typed in a shell.
///
/// For bash: `sendstream completions bash > ~/.local/share/bash-completion/completions/sendstream`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Print the manual page.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write it into DIR, and one for each command, as `sendstream-send.1`.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// Print results as JSON, one object per line, on standard output.
    ///
    /// What failed has `error`, `kind` (a word for programs) and mostly a `hint`. While a transfer is
    /// under way, an object with `"event": "progress"` comes every second, unless `--quiet` is given.
    #[arg(long)]
    pub(crate) json: bool,

    /// Show no progress and no notes, only results and errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

const EXAMPLE: &str = "\
Example, in two shells:
  sendstream recv inbox                           prints a ticket, and this with the ticket in it:
  sendstream send photo.jpg notes/ sendstream:…   sends there
  sendstream send photo.jpg notes/                the same; asks for the ticket
  sendstream share photo.jpg notes/               prints a ticket as well, and this with the ticket in it:
  sendstream get sendstream:… inbox               gets them from there
  sendstream http serve public                    prints a URL and how to fetch it";

pub(crate) const EXIT_STATUS: &str = "\
Exit status: 0 all went well, 1 something did not (standard error says what), 2 wrong usage (also a ticket that is
none), 130 interrupted in the middle of a transfer. A `recv` or `share` that is interrupted while it waits ends with 0 if
every transfer before went well, with 1 if one did not, and with 130 if `--once` would have ended it.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }
}
