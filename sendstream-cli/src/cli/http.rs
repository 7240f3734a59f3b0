//! What can be typed after `sendstream http`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use sendstream::CertificateHash;
use url::Url;

use super::{EXIT_STATUS, OutputArgs};
use crate::{http::parse_url, listen::Listen};

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
