//! `sendstream perf serve`: listens, and serves one run at a time.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use sendstream::{Connection, Identity, Incoming, Server, process::release_memory};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Sleep, sleep},
};

use super::{
    admission::{Greeted, Strangers, Trusted},
    cli::ServeArgs,
    plan::Plan,
    protocol::{ALPN, handshake_name},
    run_error::close,
    served::{Served, describe, serve},
    target::{DEFAULT_PORT, NAME},
    transport,
};
use crate::{
    announce::places,
    error::{Failure, chain},
    listen::is_for_this_machine_only,
    progress::Progress,
    protocol::Code,
    signal::Interrupt,
    summary,
    ticket::{Place, Ticket, Token},
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

/// The wait, after a peer has gone, until its connection is no more: then the memory that it took can
/// go back to the system.
struct Tidying(Option<Pin<Box<Sleep>>>);

impl Tidying {
    /// Begins to wait, unless that was done before.
    fn begin(&mut self) {
        self.0.get_or_insert_with(|| Box::pin(sleep(TIDY_AFTER)));
    }

    /// Resolves once at the end of the wait.
    async fn due(&mut self) {
        match &mut self.0 {
            Some(sleep) => sleep.await,
            None => std::future::pending().await,
        }
        self.0 = None;
    }
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
        let mut tidying = Tidying(None);
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
                    tidying.begin();
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
                    Err(None) => tidying.begin(),
                },
                () = tidying.due() => if running.is_none() {
                    release_memory();
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
                Err(failure.told())
            }
        }
    }
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
    let places = places(&args.advertise, &locals, progress);
    let (shown, token) = if args.open {
        let Place { host, port } = &places[0];
        let port = if *port == DEFAULT_PORT { String::new() } else { format!(" -p {port}") };
        (format!("{host}{port}"), None)
    } else {
        let token = Token::random().map_err(|error| Failure::new(format!("cannot draw a token: {error}")))?;
        (Ticket::new(identity, &token, places).to_string(), Some(token))
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
/// How long after a peer has gone the memory that it took is given back.
const TIDY_AFTER: Duration = Duration::from_secs(2);
/// How many of a run's handshakes may wait for their turn.
const WAITING_HANDSHAKES: usize = 256;
