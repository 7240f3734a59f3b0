//! What can be typed after `sendstream recv`, `send`, `share` and `get`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser as _},
};

use super::{
    EXIT_STATUS, OutputArgs,
    values::{Advertised, parse_inbox, parse_rate, parse_timeout},
};
use crate::{listen::Listen, walk::Links};

/// Receive files into a directory: prints a ticket and waits for senders.
///
/// The ticket names this machine's addresses, the certificate and a token, both made for this run of
/// `recv` alone: when it ends, the ticket is void. Whoever holds the ticket may send files into
/// DIR, so hand it over in private. It goes to standard output; everything else that is not a
/// result goes to standard error.
///
/// A file gets its name in DIR only when all of it has arrived and its BLAKE3 digest is right.
/// Until then it is a hidden `.sendstream-*.part` file in DIR that nobody else can read. If a transfer
/// breaks off, or this end is interrupted or killed, that file stays if it is of some length: when the
/// same is sent again, it goes on there. What nobody has asked for in a week is removed.
///
/// What is kept of a file: its permissions (never wider than the source's, and without setuid, setgid
/// and sticky bits), the time of its last change, and its holes. Its owner, ACLs and other attributes
/// are not. A file that is there with the same content is a success.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct RecvArgs {
    /// Where the files go; it is created if it is missing.
    #[arg(value_name = "DIR", default_value = ".", value_parser = OsStringValueParser::new().try_map(|dir| parse_inbox(&dir)))]
    pub(crate) dir: PathBuf,

    #[command(flatten)]
    pub(crate) wait: WaitArgs,

    /// Let in the peers that were invited (`sendstream peers invite`), and nobody else: no ticket is
    /// printed. `--listen` must name the port.
    #[arg(long, conflicts_with_all = ["advertise", "code", "qr"])]
    pub(crate) peers: bool,

    /// Replace files that exist already; without this they are kept and the sender is told.
    #[arg(long)]
    pub(crate) overwrite: bool,

    /// Exit when the first sender that had the ticket is done, with status 0 if all its files
    /// arrived. Ctrl-C before that is an interruption (status 130).
    #[arg(long)]
    pub(crate) once: bool,

    /// Write one file to standard output, as it comes, in place of DIR; the ticket and the result go to
    /// standard error. Implies `--once`.
    ///
    /// The status says whether all of it came and its digest is right: until then, do not trust it.
    #[arg(long, conflicts_with_all = ["dir", "overwrite", "fsync"])]
    pub(crate) stdout: bool,

    /// Flush each file and its directory to the disk before the sender is told that it arrived.
    ///
    /// Without this, a file that was reported as received survives a crash of the tool, but a power
    /// failure within the next seconds may lose it, as with `cp`. With it, many small files take
    /// longer.
    #[arg(long)]
    pub(crate) fsync: bool,

    /// Let senders that come again resume their TLS session, which saves a part of the handshake: see
    /// `send --tls-sessions`.
    #[arg(long)]
    pub(crate) tls_sessions: bool,

    #[command(flatten)]
    pub(crate) patience: PatienceArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Where a command waits, and how it tells of that.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The address and port to listen on; port 0 takes a free one.
    ///
    /// Nobody reaches this end by another address: `127.0.0.1:0` is for this machine alone.
    /// `0.0.0.0:0` stands for every IPv4 address of this machine, `[::]:0` and `:0` for every one of
    /// both families. `NAME:PORT` stands for those of this machine's addresses that the name has, and
    /// `PORT` is the same as `:PORT`.
    #[arg(long, value_name = "IP:PORT", default_value = ":0")]
    pub(crate) listen: Listen,

    /// A name or an address to put into the ticket in place of this machine's own, if others reach
    /// it by another one; may be given up to 16 times.
    ///
    /// Without it the ticket tells every address that others may reach, of all interfaces that are
    /// up, and the other end tries them side by side.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) advertise: Vec<Advertised>,

    /// Show the ticket also as a QR code, on standard error.
    #[arg(long)]
    pub(crate) qr: bool,

    /// Announce a code on this network, as `7-copper-lantern`, which is short enough to say aloud: the
    /// other end types it in place of the ticket, on the same network.
    ///
    /// A code is good for one other end, and for one guess; then another one is shown.
    #[arg(long)]
    pub(crate) code: bool,
}

/// Send files and directories to a waiting `sendstream recv`.
///
/// Directories are sent with everything in them, also empty ones; the relative paths, permissions,
/// times and holes are kept. What cannot be sent (sockets, devices, files that cannot be read or that
/// change meanwhile) stops nothing else: both ends tell of it, and the status is 1. `-` is standard
/// input, and arrives as the file `stdin`. With several tickets, all of them get the same, and the disk
/// is read once.
///
/// If the connection is lost, this end comes again by itself. If it was ended, send the same again: what
/// is there is compared by its digest, and not sent twice.
///
/// A file may lie at most 64 directories deep, and one session takes about a million files and
/// directories.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, override_usage = "sendstream send [OPTIONS] <FILE>... [TICKET]")]
pub(crate) struct SendArgs {
    /// The files and directories to send, and then the ticket: the line that `sendstream recv` printed.
    ///
    /// White space, line breaks and quotes in or around the ticket do no harm. In its place the last
    /// argument may be the code that `recv --code` shows, or the name of a known peer (`sendstream
    /// peers`). Without any of them the ticket is taken from the environment variable SENDSTREAM_TICKET,
    /// or read from standard input, where a terminal is asked for it; so no list of processes shows it. A
    /// file whose name begins with `sendstream:` is written `./sendstream:...`.
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) arguments: Vec<OsString>,

    #[command(flatten)]
    pub(crate) patience: PatienceArgs,

    #[command(flatten)]
    pub(crate) content: ContentArgs,

    /// Keep TLS sessions in DIR, and resume one if the receiver is the same `recv --tls-sessions` as
    /// before.
    ///
    /// The files hold secrets: whoever reads or changes them can pose as this sender, or as the
    /// receiver. DIR is created for its owner only if it is missing, and refused if others can
    /// write to it.
    #[arg(long = "tls-sessions", value_name = "DIR")]
    pub(crate) sessions: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What of the files is sent, and how fast.
#[derive(Debug, Args)]
pub(crate) struct ContentArgs {
    /// What to do with symbolic links: send what they lead to, send them as links, or leave them out.
    ///
    /// The receiver takes links that stay in its directory, and no others.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Links::Follow)]
    pub(crate) links: Links,

    /// Leave out what matches PATTERN, and what is below it; may be given several times.
    ///
    /// A pattern is a name, or the end of a path, with `*`, `?`, `[...]` and `{a,b}`: `*.o`, `target`,
    /// `docs/*.pdf`.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,

    /// Say what would be sent, and send nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Send at most so many bytes in a second, or with K, M, G (powers of 1024); `share` counts them for
    /// each that gets some.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) limit: Option<u64>,
}

/// Share files and directories with those that get them: prints a ticket and waits.
///
/// It is `send` the other way round: this end waits, and `sendstream get TICKET` comes for the files. Whoever
/// holds the ticket may get them, several at a time and one after the other, each at its own speed. Nobody
/// else learns anything of them, and nobody writes here. The ticket is for this run of `share` alone.
///
/// What is shared is what is there when it starts; a file that changes later is sent as it is by then. For the
/// rest see `send`: directories with everything in them, metadata, what cannot be sent. `-` is standard input,
/// which only one can get.
///
/// Ctrl-C lets nobody in any more and ends when those that are there have it all; another one ends at once.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct ShareArgs {
    /// The files and directories to share.
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) wait: WaitArgs,

    /// Exit when the first has got all of it, with status 0. Whoever is in the middle then is sent away.
    ///
    /// What cannot be read, or changes while it is sent, goes to nobody: the first that has got the rest ends it
    /// as well, with status 1. For standard input one is let in, and it ends with that one. Ctrl-C before that is
    /// an interruption (status 130).
    #[arg(long)]
    pub(crate) once: bool,

    #[command(flatten)]
    pub(crate) content: ContentArgs,

    #[command(flatten)]
    pub(crate) patience: PatienceArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Get what a waiting `sendstream share` has.
///
/// It is `recv` the other way round, and files arrive as they do there: one gets its name in DIR only when all
/// of it is there and its BLAKE3 digest is right; names and links that lead out of DIR are refused; a file
/// that is there with the same content is a success, and one with another content is kept, unless
/// `--overwrite` is given.
///
/// If the connection is lost, this end comes again by itself. If it was ended, type the same again: it goes on
/// where it was, and what is there is not sent twice.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, override_usage = "sendstream get [OPTIONS] [TICKET|CODE] [DIR]")]
pub(crate) struct GetArgs {
    /// The line that `sendstream share` printed, or the code that `share --code` shows; and then where the
    /// files go, which is here unless a directory is given. It is created if it is missing.
    ///
    /// White space, line breaks and quotes in or around the ticket do no harm. Without a ticket it is taken
    /// from the environment variable SENDSTREAM_TICKET, or read from standard input, where a terminal is
    /// asked for it; so no list of processes shows it.
    #[arg(value_name = "TICKET|CODE|DIR")]
    pub(crate) arguments: Vec<OsString>,

    /// Replace files that exist already; without this they are kept, and count as not arrived unless they
    /// are the same.
    #[arg(long)]
    pub(crate) overwrite: bool,

    /// Write one file to standard output, as it comes, in place of DIR; the result goes to standard error.
    ///
    /// The status says whether all of it came and its digest is right: until then, do not trust it.
    #[arg(long, conflicts_with_all = ["overwrite", "fsync"])]
    pub(crate) stdout: bool,

    /// Flush each file and its directory to the disk before it counts as arrived, as with `recv --fsync`.
    #[arg(long)]
    pub(crate) fsync: bool,

    #[command(flatten)]
    pub(crate) patience: PatienceArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How long a transfer may stand still.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PatienceArgs {
    /// How long the other end may take to come back when the connection is lost, as after a sleep or an
    /// outage.
    ///
    /// Of several receivers, one that holds the others up for so long is let go, unless it hashes what it has.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = parse_timeout)]
    pub(crate) timeout: Duration,

    /// How long the other end may say and take nothing while the connection is up, as while it hashes a large
    /// file, or waits for a pipe. The time in which a sender itself hashes or reads does not count.
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = parse_timeout)]
    pub(crate) stall_timeout: Duration,
}
