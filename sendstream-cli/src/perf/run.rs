//! `sendstream perf run`: connects, has the run go on, and says how it goes.

use std::{
    fs::Permissions,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;
use sendstream::{Client, Connection, ConnectionStats, RecvStream};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::{
    cli::RunArgs,
    control::{Outbox, hear},
    failure::{broken_off, unconnected},
    handshakes::Place,
    json, lines,
    outcome::{Ends, Outcome, Packets, Wire},
    page,
    party::{Own, Party},
    plan::{End, Load, Plan},
    protocol::{ALPN, Frame, Hello, handshake_name},
    run_error::{RunError, close},
    sampling::{Sampler, sample_rtt},
    target::Target,
    transport::{self, PATIENCE},
};
use crate::{
    error::{Failure, chain},
    protocol::Code,
    signal::{Interrupt, Interrupted},
    summary::{print_json, print_line},
};

/// Carries a run out and prints its results.
pub(crate) fn run(args: RunArgs) -> Result<(), Failure> {
    let plan = args.plan()?;
    let target = args.target.clone().at_port(args.port).map_err(Failure::usage)?;
    let page = args.report.as_deref().map(PageFile::new).transpose()?;
    let interrupt = Interrupt::install()?;
    let runtime = crate::http::runtime()?;
    let (outcome, result) = runtime.block_on(async {
        let mut outcome = None;
        let result = measure(&args, plan, &target, interrupt.wait(), &mut outcome).await;
        (outcome, result)
    });
    runtime.shutdown_background();
    let result = result.and_then(|()| match outcome.as_ref().and_then(Outcome::disagreement) {
        Some(why) => Err(Failure::new(why).todo("install the same release at both ends")),
        None => Ok(()),
    });
    if let Some(outcome) = &outcome {
        if args.output.json {
            print_json(&json::run(outcome, result.as_ref().err().map(ToString::to_string)))?;
        } else if outcome.ends.is_some() {
            print_line(&lines::summary(outcome))?;
        }
        if let Some(page) = page {
            page.write(&page::page(outcome, result.as_ref().err().map(ToString::to_string).as_deref()))?;
        }
    } else if args.output.json
        && let Err(failure) = &result
    {
        print_json(&json::failed(failure.to_string()))?;
    }
    result
}

/// Where the page goes: into its place when it is complete.
struct PageFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl PageFile {
    /// Finds out before the run whether there can be one.
    fn new(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("cannot write {}: {error}", path.display()));
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        let file = tempfile::Builder::new()
            .prefix(".sendstream-")
            .suffix(".part")
            // Who may read it is the user's umask to say, as of any file that a program writes.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(dir)
            .map_err(failed)?;
        Ok(Self { file, path: path.to_owned() })
    }

    fn write(mut self, page: &str) -> Result<(), Failure> {
        let failed = |error| Failure::new(format!("cannot write {}: {error}", self.path.display()));
        self.file.write_all(page.as_bytes()).map_err(failed)?;
        self.file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// Connects, and carries the run out. `outcome` is there once the run has begun.
async fn measure(
    args: &RunArgs,
    plan: Plan,
    target: &Target,
    mut interrupted: Interrupted,
    outcome: &mut Option<Outcome>,
) -> Result<(), Failure> {
    let notes = !args.output.json && !args.output.quiet;
    if notes {
        print_line(&format!("Connecting to {}", target.authority()))?;
    }
    let client = Client::builder().alpn([ALPN]).trust(target.trust()).transport(transport::for_client(&plan)).build();
    let client = Arc::new(client.map_err(|error| Failure::new(format!("cannot start: {}", chain(&error))))?);
    let begin = async {
        let connection = target.connect(&client).await.map_err(|error| unconnected(&error, target))?;
        let asked = ask(&connection, plan, target).await.map_err(|error| ended(&error, &connection, target))?;
        Ok::<_, Failure>((connection, asked))
    };
    let (connection, (outbox, control, number)) = tokio::select! {
        begun = begin => begun?,
        _ = &mut interrupted => return Err(Failure::interrupted()),
    };
    let (tick, interval) = (plan.sample, args.interval);
    let outcome = outcome.insert(begun(&connection, plan, interval, target));
    if notes {
        print_line(&lines::beginning(outcome))?;
    }

    let party = Party::new(connection.clone(), plan, End::Client, outbox, None);
    let (samples, heard) = mpsc::channel(64);
    let place = match connection.remote_addr() {
        Some(address) => Place { client: Arc::clone(&client), address, name: handshake_name(number).into() },
        None => return Err(Failure::new("the connection has no address")),
    };
    let per_line = if tick.is_zero() { 0 } else { (interval.as_secs_f64() / tick.as_secs_f64()).round() as usize };
    let mut sampler = Sampler::new(&party, heard, tick, per_line);
    let show = |outcome: &Outcome| {
        if notes {
            // A reader that went away wants no more of them; the results are told all the same.
            let _ = print_line(&lines::line(outcome, outcome.lines.len() - 1));
        }
    };
    let mut stopped = false;
    let result = {
        let run = party.carry_out(control, Own::Client { place, samples });
        let stop = async {
            let _ = (&mut interrupted).await;
            stopped = true;
            party.stop();
            match party.stop_peer().await {
                Ok(()) => std::future::pending().await,
                Err(error) => error,
            }
        };
        tokio::select! {
            reports = run => reports,
            error = stop => Err(error),
            () = sampler.sample(outcome, show) => unreachable!("it samples for ever"),
            () = sample_rtt(&party) => unreachable!("it samples for ever"),
        }
    };
    if sampler.finish(outcome).await {
        show(outcome);
    }
    outcome.latency = party.latency.snapshot();
    let result = match result {
        Ok((own, theirs)) => {
            outcome.ends = Some(Ends { client: own, server: theirs });
            // The server has it, or does not care.
            let _ = tokio::time::timeout(PATIENCE, party.finish()).await;
            close(&connection, Code::Done, "");
            match outcome.shortfall() {
                _ if stopped => Err(Failure::interrupted()),
                Some(why) => Err(Failure::new(why).todo("`perf serve --max-time` says how long a run may take")),
                None => Ok(()),
            }
        }
        Err(_) if stopped => {
            close(&connection, Code::Interrupted, "");
            Err(Failure::interrupted())
        }
        Err(error) => Err(ended(&error, &connection, target)),
    };
    drop(party);
    let _ = tokio::time::timeout(Duration::from_secs(2), client.wait_idle()).await;
    // Its numbers stay when it is over.
    if let Ok(stats) = connection.stats().await {
        outcome.wire = wire(&plan, outcome.remote, &stats);
    }
    result
}

/// Asks for the run, and hears its number when it begins.
async fn ask(connection: &Connection, plan: Plan, target: &Target) -> Result<(Outbox, RecvStream, u64), RunError> {
    let (mut send, mut control) = connection.open_bi()?;
    send.write_chunk(Hello { token: target.token(), plan }.encode().into()).await?;
    let answer = tokio::time::timeout(PATIENCE, hear(&mut control)).await.map_err(|_| RunError::Stalled)?;
    match answer? {
        Frame::Ready { run } => Ok((Outbox::new(send), control, run)),
        _ => Err(RunError::breach("it began a run otherwise than was agreed on")),
    }
}

/// Tells the server why the run is over, and the user.
fn ended(error: &RunError, connection: &Connection, target: &Target) -> Failure {
    error.close(connection);
    broken_off(error, target)
}

fn begun(connection: &Connection, plan: Plan, interval: Duration, target: &Target) -> Outcome {
    Outcome {
        plan,
        interval,
        server: target.authority(),
        local: connection.local_addr(),
        remote: connection.remote_addr(),
        cipher: connection.handshake_info().map(|info| info.cipher_suite.to_string()),
        began: SystemTime::now(),
        points: Vec::new(),
        lines: Vec::new(),
        latency: Histogram::new(3).expect("the precision is constant, and was tried"),
        ends: None,
        wire: None,
    }
}

/// What the connection of the run has sent and received. Handshakes are connections of their own, of
/// which nobody looks at the numbers.
fn wire(plan: &Plan, remote: Option<SocketAddr>, stats: &ConnectionStats) -> Option<Wire> {
    const UDP: u64 = 8;
    let header = UDP + if remote?.ip().to_canonical().is_ipv4() { 20 } else { 40 };
    let sent = Packets { count: stats.sent.packets, payload: stats.sent.bytes };
    let received = Packets { count: stats.received.packets, payload: stats.received.bytes };
    (plan.load != Load::Handshakes).then_some(Wire { sent, received, header })
}
