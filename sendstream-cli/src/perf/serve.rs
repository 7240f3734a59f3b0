//! `sendstream perf serve`: listens, and serves one run at a time.

use std::{net::SocketAddr, time::Duration};

use sendstream::{Connection, Identity, Incoming, Server};
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    admission::{Greeted, Strangers, Trusted},
    cli::ServeArgs,
    control::Outbox,
    party::{Own, Party},
    plan::{Direction, End, Load, Plan},
    protocol::{ALPN, Frame, Hello, Report, Tally, handshake_name},
    run_error::{RunError, close},
    target::{DEFAULT_PORT, NAME},
    transport::{self, PATIENCE},
    units,
};
use crate::{
    error::{Failure, chain},
    listen::{Listen, is_for_this_machine_only},
    progress::Progress,
    protocol::Code,
    receive::reachable,
    signal::Interrupt,
    summary,
    ticket::{Host, Ticket, Token},
};

/// Serves runs until the user interrupts it, or with `--once` until the first has ended.
pub(crate) fn run(args: ServeArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let identity = Identity::self_signed([NAME])
        .map_err(|error| Failure::new(format!("cannot make a certificate: {}", chain(&error))))?;
    let progress = Progress::new(args.output.quiet);
    let runtime = crate::http::runtime()?;
    let served = runtime.block_on(async {
        let builder =
            || Server::builder().identity(identity.clone()).alpn([ALPN]).transport(transport::for_strangers());
        let server = args.listen.start(builder, &progress)?;
        let token = announce(&server, &identity, &args, &progress)?;
        let max_time = args.max_time.unwrap_or(if args.open { OPEN_MAX_TIME } else { MAX_TIME });
        let service = Service { args: &args, progress: &progress, max_time };
        let result = service.serve(&server, token, interrupt).await;
        server.shutdown().await;
        result
    });
    runtime.shutdown_background();
    served
}

struct Service<'a> {
    args: &'a ServeArgs,
    progress: &'a Progress,
    /// How long a run's senders may take.
    max_time: Duration,
}

/// The run that goes on.
struct Running {
    connection: Connection,
    /// The server's name that its handshakes ask for.
    name: String,
    handshakes: mpsc::Sender<Incoming>,
}

impl Service<'_> {
    async fn serve(&self, server: &Server, token: Option<Token>, interrupt: Interrupt) -> Result<(), Failure> {
        let mut strangers = Strangers::new(token);
        let mut runs = JoinSet::new();
        let mut running = None::<Running>;
        let mut interrupted = interrupt.wait();
        loop {
            // Strangers last, however many come: whoever is there is looked at.
            tokio::select! {
                biased;
                _ = &mut interrupted => {
                    let Some(running) = running else { return Ok(()) };
                    close(&running.connection, Code::Interrupted, "");
                    return Err(Failure::interrupted());
                }
                Some(ended) = runs.join_next() => {
                    running = None;
                    let ended: Served = ended.map_err(|error| Failure::new(format!("a run failed: {error}")))?;
                    let result = self.print(&ended);
                    if self.args.once {
                        return result;
                    }
                }
                Greeted { peer, result, .. } = strangers.next() => match result {
                    Ok(client) if running.is_some() => {
                        close(&client.connection, Code::Full, "");
                        self.turn_away(peer, "another run goes on");
                    }
                    Ok(client) => match self.too_long(&client.hello.plan) {
                        Some(why) => {
                            close(&client.connection, Code::Refused, &why);
                            self.turn_away(peer, &why);
                        }
                        None => running = Some(self.begin(client, peer, &mut runs)?),
                    },
                    Err(Some(why)) => self.turn_away(peer, &why),
                    Err(None) => {}
                },
                incoming = server.accept() => {
                    let incoming = incoming.ok_or_else(|| Failure::new("the listener ended by itself"))?;
                    match running.as_ref().filter(|run| run.name == incoming.server_name()) {
                        // Those that find no room are refused.
                        Some(run) => drop(run.handshakes.try_send(incoming)),
                        None => strangers.admit(incoming),
                    }
                }
            }
        }
    }

    /// Why a run may not be.
    fn too_long(&self, plan: &Plan) -> Option<String> {
        let time = plan.time()?;
        (time > self.max_time).then(|| format!("a run may take {} seconds here", self.max_time.as_secs_f64()))
    }

    /// Begins a run.
    fn begin(&self, client: Trusted, peer: SocketAddr, runs: &mut JoinSet<Served>) -> Result<Running, Failure> {
        let mut number = [0; 8];
        getrandom::fill(&mut number).map_err(|error| Failure::new(format!("cannot draw a number: {error}")))?;
        let number = u64::from_be_bytes(number);
        let (sender, handshakes) = mpsc::channel(WAITING_HANDSHAKES);
        let (plan, max_time, connection) = (client.hello.plan, self.max_time, client.connection.clone());
        self.progress.note(format_args!("{peer}: a run begins: {}", describe(&plan)));
        runs.spawn(async move { Served { peer, plan, result: serve(client, number, handshakes, max_time).await } });
        Ok(Running { connection, name: handshake_name(number), handshakes: sender })
    }

    fn turn_away(&self, peer: SocketAddr, why: &str) {
        self.progress.warn(format_args!("{peer}: turned away: {why}"));
    }

    /// Says how a run ended, and returns its result.
    fn print(&self, served: &Served) -> Result<(), Failure> {
        if self.args.output.json {
            summary::print_json(&served.to_json())?;
        } else if let Ok(report) = &served.result {
            for line in served.to_lines(report) {
                summary::print_line(&line)?;
            }
        }
        match &served.result {
            Ok(_) => Ok(()),
            Err(error) => {
                let failure = Failure::new(format!("{}: the run broke off: {error}", served.peer));
                if !self.args.once {
                    self.progress.warn(&failure);
                }
                Err(failure)
            }
        }
    }
}

/// A run that is over.
struct Served {
    peer: SocketAddr,
    plan: Plan,
    /// What this end counted.
    result: Result<Report, RunError>,
}

/// Carries a run out, from the answer to its hello to the end of its connection.
async fn serve(
    client: Trusted,
    run: u64,
    handshakes: mpsc::Receiver<Incoming>,
    max_time: Duration,
) -> Result<Report, RunError> {
    let Trusted { connection, hello: Hello { plan, .. }, control, answer } = client;
    let limits = transport::for_run(&plan);
    if let Err(error) = connection.raise_limits(&limits).await {
        return Err(RunError::Unable(chain(&error)));
    }
    let outbox = Outbox::new(answer);
    outbox.say(&Frame::Ready { run }).await?;
    let party = Party::new(connection.clone(), plan, End::Server, outbox, Some(max_time));
    match party.carry_out(control, Own::Server { handshakes }).await {
        Ok((report, _)) => {
            // The client closes the connection when it has all that it wants to know.
            let _ = tokio::time::timeout(PATIENCE, async { (party.finish().await, connection.closed().await) }).await;
            close(&connection, Code::Done, "");
            Ok(report)
        }
        Err(error) => {
            // Before the streams are dropped, which says less.
            error.close(&connection);
            Err(error)
        }
    }
}

fn describe(plan: &Plan) -> String {
    let direction = match plan.direction {
        Direction::Up => "from the client",
        Direction::Down => "to the client",
        Direction::Both => "both ways",
    };
    match plan.load {
        Load::Bulk if plan.streams == 1 => format!("1 stream {direction}"),
        Load::Bulk => format!("{} streams {direction}", plan.streams),
        Load::Handshakes => "handshakes".to_owned(),
        load => {
            let (units, size) = (load.units().unwrap_or_default(), load.size().unwrap_or_default());
            format!("{units} of {size} bytes {direction}")
        }
    }
}

impl Served {
    fn to_lines(&self, report: &Report) -> Vec<String> {
        let line = |(verb, tally): (&str, &Tally)| {
            let seconds = tally.seconds();
            let counted = self.plan.load.units().map_or_else(String::new, |units| {
                format!(", {} {units}, {:.0}/sec", tally.messages, units::per_second(tally.messages, seconds))
            });
            format!(
                "{verb} {}: {} in {seconds:.2} sec, {}{counted}",
                self.peer,
                units::bytes(tally.bytes()).trim_start(),
                units::bits_per_second(units::rate(tally.bytes(), seconds)).trim_start(),
            )
        };
        let directions = [("sent to", &report.sent), ("received from", &report.received)];
        directions.into_iter().filter(|(_, tally)| !tally.streams.is_empty()).map(line).collect()
    }

    fn to_json(&self) -> ServedJson {
        let side = |tally: &Tally| {
            (!tally.streams.is_empty()).then(|| SideJson {
                bytes: tally.bytes(),
                messages: tally.messages,
                seconds: tally.seconds(),
                bits_per_second: units::rate(tally.bytes(), tally.seconds()),
            })
        };
        let report = self.result.as_ref().ok();
        ServedJson {
            ok: self.result.is_ok(),
            peer: self.peer.to_string(),
            load: self.plan.load.name(),
            sent: report.and_then(|report| side(&report.sent)),
            received: report.and_then(|report| side(&report.received)),
            error: self.result.as_ref().err().map(ToString::to_string),
        }
    }
}

#[derive(Serialize)]
struct ServedJson {
    ok: bool,
    peer: String,
    load: &'static str,
    sent: Option<SideJson>,
    received: Option<SideJson>,
    error: Option<String>,
}

#[derive(Serialize)]
struct SideJson {
    bytes: u64,
    messages: u64,
    seconds: f64,
    bits_per_second: f64,
}

/// Prints how to run, and returns the token that a client has to show.
fn announce(
    server: &Server,
    identity: &Identity,
    args: &ServeArgs,
    progress: &Progress,
) -> Result<Option<Token>, Failure> {
    let locals = server.local_addrs().map_err(|error| Failure::new(format!("cannot listen: {error}")))?;
    let listening = locals.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
    let only_here = locals.iter().all(|local| is_for_this_machine_only(local.ip()));
    let whose = if only_here { ", for clients on this machine only" } else { "" };
    progress.note(format_args!("waiting for runs on {}{whose}; type", listening.join(" and ")));
    let local = locals[0];
    // Who says nothing of a family most likely has clients that have IPv4.
    let ipv4_first = matches!(args.listen, Listen::Everywhere { .. });
    let (host, port) = match args.advertise.clone() {
        Some(advertised) => (advertised.host, advertised.port.unwrap_or(local.port())),
        None => (Host::of(reachable(local, ipv4_first, progress)), local.port()),
    };
    let (shown, token) = if args.open {
        let port = if port == DEFAULT_PORT { String::new() } else { format!(" -p {port}") };
        (format!("{host}{port}"), None)
    } else {
        let token = Token::random().map_err(|error| Failure::new(format!("cannot draw a token: {error}")))?;
        let mut certificate = [0; 32];
        certificate.copy_from_slice(identity.certificate_sha256().as_ref());
        (Ticket { host, port, certificate, token: token.clone() }.to_string(), Some(token))
    };
    if args.open {
        progress.note(format_args!("  sendstream perf run {shown}"));
        progress.note("everybody who reaches this machine may; Ctrl-C ends it");
    } else {
        progress.note("  sendstream perf run TICKET");
        progress.note("with this ticket; Ctrl-C ends it:");
    }
    if args.output.json {
        let ticket = (!args.open).then_some(shown.as_str());
        summary::print_json(&Announcement { ticket, addresses: &listening })?;
    } else if !args.open {
        summary::print_line(&shown)?;
    }
    Ok(token)
}

#[derive(Serialize)]
struct Announcement<'a> {
    /// Missing where nobody needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<&'a str>,
    addresses: &'a [String],
}

/// How long a run may take where only those run that have the ticket.
const MAX_TIME: Duration = Duration::from_secs(3600);
/// How long a run may take where everybody may.
const OPEN_MAX_TIME: Duration = Duration::from_secs(60);
/// How many of a run's handshakes may wait for their turn.
const WAITING_HANDSHAKES: usize = 256;
