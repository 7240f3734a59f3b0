//! The grammar: what can be typed, and what `--help` says about it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand};
use clap_complete::Shell;
use sendstream::CertificateHash;
use url::Url;

use crate::{http::parse_url, listen::Listen, peers::Name, perf::PerfArgs, ticket::Host, walk::Links};

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
    #[arg(value_name = "DIR", default_value = ".", value_parser = parse_inbox)]
    pub(crate) dir: PathBuf,

    /// The address and port to listen on; port 0 takes a free one.
    ///
    /// Nobody reaches this end by another address: `127.0.0.1:0` is for this machine alone.
    /// `0.0.0.0:0` stands for every IPv4 address of this machine, `[::]:0` and `:0` for every one of
    /// both families. `NAME:PORT` stands for those of this machine's addresses that the name has, and
    /// `PORT` is the same as `:PORT`.
    #[arg(long, value_name = "IP:PORT", default_value = ":0")]
    pub(crate) listen: Listen,

    /// A name or an address to put into the ticket in place of this machine's own, if senders reach
    /// it by another one; may be given up to 16 times.
    ///
    /// Without it the ticket tells every address that senders may reach, of all interfaces that are
    /// up, and the sender tries them side by side.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) advertise: Vec<Advertised>,

    /// Show the ticket also as a QR code, on standard error.
    #[arg(long)]
    pub(crate) qr: bool,

    /// Announce a code on this network, as `7-copper-lantern`, which is short enough to say aloud:
    /// `sendstream send FILE... CODE` finds this end by it, on the same network.
    ///
    /// A code is good for one sender, and for one guess; then another one is shown.
    #[arg(long)]
    pub(crate) code: bool,

    /// Let in the peers that were invited (`sendstream peers invite`), and nobody else: no ticket is
    /// printed. `--listen` must name the port.
    #[arg(long, conflicts_with_all = ["advertise", "code", "qr"])]
    pub(crate) peers: bool,

    /// Replace files that exist already; without this they are kept and the sender is told.
    #[arg(long)]
    pub(crate) overwrite: bool,

    /// Exit when the first sender that had the ticket is done, with status 0 if all its files
    /// arrived.
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

    /// How long a sender that has gone silent may take to come back, as after a sleep or an outage.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = parse_timeout)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl RecvArgs {
    /// Whether it ends with the first sender.
    pub(crate) fn takes_one(&self) -> bool {
        self.once || self.stdout
    }
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

    /// How long a receiver that has gone silent may take to come back, as after a sleep or an outage.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = parse_timeout)]
    pub(crate) timeout: Duration,

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

    /// Send at most so many bytes in a second, or with K, M, G (powers of 1024).
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) limit: Option<u64>,

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

/// Fetch URLs and serve folders by HTTP/3.
#[derive(Debug, Args)]
pub(crate) struct HttpArgs {
    #[command(subcommand)]
    pub(crate) command: HttpCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HttpCommand {
    Get(HttpGetArgs),
    Serve(HttpServeArgs),
}

/// Fetch URLs by HTTP/3, those of one server at once on one connection.
///
/// Content goes to standard output, or to files. A file that exists is replaced, and a file gets its
/// name only when all of its content has arrived; until then it is a hidden `.sendstream-*.part` file
/// beside it. What comes with another status than 2xx is no content of the URL: it is not kept, and
/// the exit status is 1, also for a redirection without `-L`.
///
/// There is no HTTP/1.1 and no HTTP/2 here, and `Alt-Svc` is not looked for: the server must speak
/// HTTP/3 at the URL's port.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct HttpGetArgs {
    /// What to fetch; `https://` may be left out.
    #[arg(value_name = "URL", required = true, num_args = 1.., value_parser = parse_url)]
    pub(crate) urls: Vec<Url>,

    /// Where the content goes, once for each URL in the same order; `-` is standard output, where
    /// that of a single URL goes anyway. On a terminal, what could steer it is shown as escapes.
    #[arg(long = "output", short = 'o', value_name = "FILE", conflicts_with = "output_dir")]
    pub(crate) files: Vec<PathBuf>,

    /// Put each content into a file of DIR with the last name of its URL's path, or `index.html`. DIR
    /// is created if it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,

    /// Show the connection, and the fields of requests and responses, on standard error.
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Follow up to 10 redirections of each URL.
    #[arg(long, short = 'L')]
    pub(crate) location: bool,

    /// Trust servers that these authorities vouch for, in PEM, and not those of the system.
    #[arg(long, value_name = "FILE", conflicts_with = "pin")]
    pub(crate) ca: Option<PathBuf>,

    /// Trust a server whose certificate has this SHA-256 hash, in hexadecimal digits, and no other;
    /// may be given several times.
    #[arg(long, value_name = "HASH")]
    pub(crate) pin: Vec<CertificateHash>,

    /// Keep sessions in DIR, and resume one if the server lets us: that saves a part of the
    /// handshake. For DIR see `send --tls-sessions`.
    #[arg(long = "tls-sessions", value_name = "DIR")]
    pub(crate) sessions: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Serve a folder by HTTP/3, to everybody who reaches this machine.
///
/// Clients can read files, or parts of them, and see what a folder holds, unless it has an
/// `index.html`. Nothing outside of DIR can be read: symbolic links are followed only if they stay in
/// it. Names that begin with a dot are neither served nor listed, but for `.well-known`.
///
/// The URL goes to standard output, and so does a line for each request that ended. Ctrl-C lets no
/// more requests in and ends when those that are there have been answered; another one ends at once.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, group = ArgGroup::new("files").args(["cert", "key"]).multiple(true).requires_all(["cert", "key"]))]
pub(crate) struct HttpServeArgs {
    /// The folder to serve.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,

    /// The address and port to listen on, as for `recv`; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", default_value = ":4433")]
    pub(crate) listen: Listen,

    /// Serve HTTPS by TCP at the same port, too, with HTTP/2 or HTTP/1.1. Its answers tell browsers
    /// that there is HTTP/3 (`Alt-Svc`); most of them do not look for it otherwise.
    #[arg(long)]
    pub(crate) with_tcp: bool,

    /// The certificate chain of this server in PEM. Without one, a certificate is made for this run,
    /// which nobody vouches for: clients pin it (`http get --pin`).
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,

    /// The certificate's private key in PEM; it must not lie in DIR.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// Serve and list names that begin with a dot.
    #[arg(long)]
    pub(crate) hidden: bool,

    /// Answer requests that clients send in the first packets of a resumed session (0-RTT). Somebody
    /// in between can send such a request again, which does no more than ask once more.
    #[arg(long)]
    pub(crate) zero_rtt: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Print the versions of the tool, of MsQuic and of OpenSSL.
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

/// What `--advertise` was given: a host, and a port if it is not the one listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advertised {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

impl std::str::FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(host) = text.parse() {
            return Ok(Self { host, port: None });
        }
        let with_port = text.rsplit_once(':').and_then(|(host, port)| {
            // An IPv6 address ends where its bracket does.
            let host = host.parse().ok().filter(|_| !host.contains(':') || host.ends_with(']'))?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            Some(Self { host, port: Some(port) })
        });
        with_port.ok_or_else(|| "expected HOST or HOST:PORT, as in 192.0.2.7:4433 or [2001:db8::7]:4433".to_owned())
    }
}

/// Reads where `recv` puts its files.
fn parse_inbox(text: &str) -> Result<PathBuf, String> {
    match text {
        "-" => Err("`-` is no directory; `./-` is one of that name".to_owned()),
        _ => Ok(text.into()),
    }
}

/// Reads `4096`, `64K`, `256M`, `256MiB`, `2G`, `1T`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib") {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("expected a size such as 4096, 64K, 256M or 2G".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a size such as 4096, 64K, 256M or 2G".to_owned())?;
    number.checked_mul(1 << shift).filter(|size| *size <= i64::MAX as u64).ok_or_else(|| "too large".to_owned())
}

/// Reads a rate in bytes in a second.
fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_size(text.trim_end_matches("/s"))? {
        0 => Err("nothing would be sent at that rate".to_owned()),
        rate => Ok(rate),
    }
}

/// Reads `30s`, `5m`, `2h`.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let wrong = "expected a time from 1s to 24h, such as 30s, 5m or 2h";
    let time = humantime::parse_duration(text).map_err(|_| wrong.to_owned())?;
    if (Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(&time) {
        Ok(time)
    } else {
        Err(wrong.to_owned())
    }
}

const EXAMPLE: &str = "\
Example, in two shells:
  sendstream recv inbox                           prints a ticket, and this with the ticket in it:
  sendstream send photo.jpg notes/ sendstream:…   sends there
  sendstream send photo.jpg notes/                the same; asks for the ticket
  sendstream http serve public                    prints a URL and how to fetch it";

pub(crate) const EXIT_STATUS: &str = "\
Exit status: 0 all went well, 1 something did not (standard error says what), 2 wrong usage (also a ticket that is
none), 130 interrupted in the middle of a transfer. A `recv` that is interrupted while it waits ends with 0 if every
transfer before went well, and with 1 if one did not.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64k"), Ok(64 << 10));
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        for wrong in ["", "M", "-1", "1.5M", "1 M", "1X", "ib", "99999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn advertised_addresses_may_leave_out_the_port() {
        let parse = |text: &str| text.parse::<Advertised>().map(|it| (it.host.to_string(), it.port));
        assert_eq!(parse("192.0.2.7"), Ok(("192.0.2.7".to_owned(), None)));
        assert_eq!(parse("files.example:4433"), Ok(("files.example".to_owned(), Some(4433))));
        assert_eq!(parse("2001:db8::1"), Ok(("2001:db8::1".to_owned(), None)));
        assert_eq!(parse("[2001:db8::1]:4433"), Ok(("2001:db8::1".to_owned(), Some(4433))));
        assert_eq!(parse("[2001:db8::1]"), Ok(("2001:db8::1".to_owned(), None)));
        assert_eq!(parse("[fe80::1%eth0]:1"), Ok(("fe80::1".to_owned(), Some(1))));
        for wrong in [
            "0.0.0.0",
            "[::]:1",
            "[2001:db8::1]:0",
            "2001:db8::1%:1",
            "",
            ":1",
            "host:0",
            "host:99999",
            "ho st",
            "host:",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
