//! What can be typed after `sendstream perf`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Subcommand};

use super::{
    plan::{Amount, Direction, Load, MIN_SAMPLE, Plan},
    target::Target,
};
use crate::{
    cli::{Advertised, EXIT_STATUS, parse_size},
    error::Failure,
    listen::Listen,
};

/// Measure what the path between two machines carries, as iperf3 does.
#[derive(Debug, Args)]
pub(crate) struct PerfArgs {
    #[command(subcommand)]
    pub(crate) command: PerfCommand,
}

impl PerfArgs {
    /// Whether a program reads the results, which do not have the failure already.
    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            PerfCommand::Serve(args) => args.output.json,
            // Its object has what went wrong.
            PerfCommand::Run(_) => false,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum PerfCommand {
    Serve(ServeArgs),
    Run(RunArgs),
}

/// Wait for runs: prints a ticket, and serves whoever has it, one run at a time.
///
/// The ticket goes to standard output, and so does a line for each run that ended. Ctrl-C ends it.
///
/// Whoever may run has this machine send and receive as fast as it can, for as long as `--max-time`
/// lets a run take, and again after that. No run reads or writes files, and none has this machine
/// send to anybody but the client, whose address the handshake has checked.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct ServeArgs {
    /// The address and port to listen on, as for `recv`; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", default_value = ":5201")]
    pub(crate) listen: Listen,

    /// Serve whoever comes, without a ticket: `perf run HOST`.
    ///
    /// Anybody who reaches this machine can keep it busy then, and clients cannot tell it from
    /// another machine.
    #[arg(long)]
    pub(crate) open: bool,

    /// An address to put into the ticket, in place of those that this machine knows of itself; may be
    /// given several times.
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "open")]
    pub(crate) advertise: Vec<Advertised>,

    /// How long a run may take, in seconds; an hour by default, and a minute with `--open`.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) max_time: Option<Duration>,

    /// Exit when the first run has ended, with status 0 if it went well.
    #[arg(long, short = '1')]
    pub(crate) once: bool,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// Run a measurement with a waiting `sendstream perf serve`: upload, unless told otherwise.
///
/// All goes over one QUIC connection, so `-P` shares its congestion window among streams. Transfer
/// counts by powers of 1024, and Bitrate by powers of 1000. `Lost`, `Cwnd` and `RTT` are the sender's:
/// packets it lost, its congestion window, the smoothed round-trip time. Ctrl-C ends a run early, with
/// its results so far.
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP, group = ArgGroup::new("load"))]
pub(crate) struct RunArgs {
    /// The ticket that `sendstream perf serve` printed, or where a `perf serve --open` is.
    #[arg(value_name = "TICKET|HOST[:PORT]")]
    pub(crate) target: Target,

    /// The port of HOST; 5201 by default.
    #[arg(long, short, value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// How long to send, in seconds.
    #[arg(long, short, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds, conflicts_with = "bytes")]
    pub(crate) time: Duration,

    /// How much to send in each direction, in place of a time: bytes, or with K, M, G (powers of 1024).
    #[arg(long, short = 'n', value_name = "SIZE", value_parser = parse_size)]
    pub(crate) bytes: Option<u64>,

    /// How many streams send at once; of messages, datagrams, pings and handshakes: how many senders.
    #[arg(long, short = 'P', value_name = "N", default_value = "1")]
    pub(crate) parallel: u16,

    /// The server sends: download.
    #[arg(long, short = 'R', conflicts_with = "bidir")]
    pub(crate) reverse: bool,

    /// Both send at once.
    #[arg(long)]
    pub(crate) bidir: bool,

    /// Seconds between lines; 0 for no lines but the last.
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    pub(crate) interval: Duration,

    /// Leave the first seconds out of the results: congestion control finds its rate then.
    #[arg(long, short = 'O', value_name = "SECONDS", default_value = "0", value_parser = parse_duration)]
    pub(crate) omit: Duration,

    /// Send messages of SIZE bytes (1K if that is left out), each a stream of its own, and count them.
    #[arg(long, group = "load", value_name = "SIZE", num_args = 0..=1, require_equals = true, default_missing_value = "1K", value_parser = parse_length)]
    pub(crate) messages: Option<u32>,

    /// Send datagrams of SIZE bytes (1200 if that is left out), which may get lost, and count those that
    /// arrive.
    #[arg(long, group = "load", value_name = "SIZE", num_args = 0..=1, require_equals = true, default_missing_value = "1200", value_parser = parse_length)]
    pub(crate) datagrams: Option<u32>,

    /// Send pings of SIZE bytes (64 if that is left out), one after the other, and time their answers.
    #[arg(long, group = "load", value_name = "SIZE", num_args = 0..=1, require_equals = true, default_missing_value = "64", value_parser = parse_length)]
    pub(crate) ping_pong: Option<u32>,

    /// Connect, and again, and time the handshakes.
    #[arg(long, group = "load")]
    pub(crate) handshakes: bool,

    /// Write a page with charts to FILE: one file that loads nothing. A file that exists is replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Print results as JSON, one object on a line; a run's is built as iperf3's.
    #[arg(long, short = 'J')]
    pub(crate) json: bool,

    /// Show no intervals and no notes, only results and errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

impl RunArgs {
    /// What the run is to do.
    pub(crate) fn plan(&self) -> Result<Plan, Failure> {
        let load = match (self.messages, self.datagrams, self.ping_pong) {
            (Some(size), _, _) => Load::Messages(size),
            (_, Some(size), _) => Load::Datagrams(size),
            (_, _, Some(size)) => Load::PingPong(size),
            _ if self.handshakes => Load::Handshakes,
            _ => Load::Bulk,
        };
        let plan = Plan {
            load,
            direction: match (self.reverse, self.bidir) {
                (true, _) => Direction::Down,
                (_, true) => Direction::Both,
                _ => Direction::Up,
            },
            streams: self.parallel,
            omit: self.omit,
            amount: self.bytes.map_or(Amount::Time(self.time), Amount::Bytes),
            sample: self.interval,
        };
        plan.check().map_err(|error| Failure::usage(error.to_string()))?;
        // A page has points in between.
        Ok(Plan { sample: self.tick(), ..plan })
    }

    /// How often the run is looked at: a part of the interval.
    pub(crate) fn tick(&self) -> Duration {
        if self.report.is_none() {
            return self.interval;
        }
        // At most some thousand points, also of a long run.
        let finest = MIN_SAMPLE.max((self.omit + self.time) / 2000);
        if self.interval.is_zero() {
            return finest;
        }
        let parts = (self.interval.as_secs_f64() / finest.as_secs_f64()).floor().max(1.0);
        // To whole milliseconds, as they are sent.
        Duration::from_millis((self.interval.as_secs_f64() * 1000.0 / parts).round() as u64)
    }
}

/// Reads a number of seconds, which may have a fraction, in whole milliseconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| text.parse::<f64>().ok());
    let time = seconds.flatten().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = time.ok_or_else(|| "expected seconds, such as 10 or 0.5".to_owned())?;
    let millis = u64::try_from(time.as_millis()).ok().filter(|millis| *millis <= u64::from(u32::MAX));
    millis.map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time.is_zero() => Err("a run takes some time".to_owned()),
        time => Ok(time),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if !time.is_zero() && time < MIN_SAMPLE => Err("an interval has 0.1 seconds at least".to_owned()),
        time => Ok(time),
    }
}

fn parse_length(text: &str) -> Result<u32, String> {
    u32::try_from(parse_size(text)?).map_err(|_| "too large".to_owned())
}

const RUN_HELP: &str = "\
Examples:
  sendstream perf run TICKET                       10 seconds of upload
  sendstream perf run -R -P 4 TICKET               download on four streams
  sendstream perf run --ping-pong -t 5 TICKET      round trips with percentiles
  sendstream perf run --report path.html TICKET    with charts, for a browser

Exit status: 0 all went well and both ends counted the same, 1 something did not (standard error says what), 2 wrong
usage, 130 interrupted in the middle.";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn run(args: &[&str]) -> Result<RunArgs, i32> {
        let args = ["sendstream", "perf", "run"].iter().chain(args);
        let cli = Cli::try_parse_from(args).map_err(|error| error.exit_code())?;
        let Command::Perf(PerfArgs { command: PerfCommand::Run(args) }) = cli.command else { panic!("not run") };
        Ok(args)
    }

    #[test]
    fn options_are_iperf3s() {
        let args = run(&["host", "-t", "2.5", "-P", "4", "-R", "-i", "0.5", "-O", "1", "-J"]).unwrap();
        let plan = args.plan().unwrap();
        assert_eq!(
            plan,
            Plan {
                load: Load::Bulk,
                direction: Direction::Down,
                streams: 4,
                omit: Duration::from_secs(1),
                amount: Amount::Time(Duration::from_millis(2500)),
                sample: Duration::from_millis(500),
            }
        );
        assert!(args.output.json);
        assert_eq!(run(&["host", "-n", "1M", "--bidir"]).unwrap().plan().unwrap().amount, Amount::Bytes(1 << 20));
    }

    #[test]
    fn a_size_may_be_left_out_and_is_never_taken_for_the_host() {
        let load = |args: &[&str]| run(args).unwrap().plan().unwrap().load;
        assert_eq!(load(&["--messages", "host"]), Load::Messages(1024));
        assert_eq!(load(&["--messages=64", "host"]), Load::Messages(64));
        assert_eq!(load(&["--datagrams", "host"]), Load::Datagrams(1200));
        assert_eq!(load(&["--ping-pong", "host"]), Load::PingPong(64));
        assert_eq!(load(&["--handshakes", "host"]), Load::Handshakes);
    }

    #[test]
    fn what_cannot_be_is_wrong_usage() {
        for wrong in [
            &["host", "-t", "0"][..],
            &["host", "-t", "-1"],
            &["host", "-t", "inf"],
            &["host", "-t", "1e9"],
            &["host", "-t", "1", "-n", "1"],
            &["host", "-R", "--bidir"],
            &["host", "-i", "0.01"],
            &["host", "--messages", "--handshakes"],
            &["host", "--messages=x"],
            &["host:0"],
            &[],
        ] {
            assert_eq!(run(wrong).unwrap_err(), 2, "{wrong:?}");
        }
        for wrong in [
            &["host", "-P", "0"][..],
            &["host", "-P", "129"],
            &["host", "-n", "0"],
            &["host", "--ping-pong", "-R"],
            &["host", "--handshakes", "-n", "1"],
            &["host", "--messages=2M"],
            &["host", "-O", "601"],
            &["host", "-i", "61"],
        ] {
            assert!(run(wrong).unwrap().plan().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_page_has_points_within_an_interval() {
        let tick = |args: &[&str]| run(args).unwrap().tick().as_millis();
        assert_eq!(tick(&["host"]), 1000);
        assert_eq!(tick(&["host", "--report", "x"]), 100);
        assert_eq!(tick(&["host", "--report", "x", "-i", "0"]), 100);
        assert_eq!(tick(&["host", "--report", "x", "-i", "0.25"]), 125);
        assert_eq!(tick(&["host", "--report", "x", "-t", "3600"]), 1000);
        assert_eq!(tick(&["host", "--report", "x", "-t", "3600", "-i", "10"]), 2000);
    }
}
