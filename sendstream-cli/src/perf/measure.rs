//! One run at the client, from its connection to what is known of it in the end.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;
use sendstream::{Client, Connection, ConnectionStats, RecvStream};
use tokio::sync::mpsc;

use super::{
    cli::RunArgs,
    control::{Outbox, hear},
    failure::{broken_off, unconnected},
    handshakes::Place,
    lines,
    outcome::{Ends, Outcome, Packets, Wire},
    party::{Own, Party},
    plan::{End, Load, MAX_TIME, Plan},
    protocol::{ALPN, Frame, Hello, handshake_name},
    run_error::{RunError, close},
    sampling::{Sampler, sample_rtt},
    target::Target,
    transport::{self, PATIENCE},
};
use crate::{
    error::{Failure, chain},
    protocol::Code,
    signal::Interrupted,
    summary::print_line,
};

/// Connects, and carries the run out. `outcome` is there once the run has begun.
pub(crate) async fn measure(
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
    let asking = async {
        let connection = target.connect(&client).await.map_err(|error| unconnected(&error, target))?;
        let asked = ask(&connection, plan, target).await.map_err(|error| ended(&error, &connection, target))?;
        Ok::<_, Failure>((connection, asked))
    };
    let (connection, (outbox, control, number)) = tokio::select! {
        asked = asking => asked?,
        _ = &mut interrupted => return Err(Failure::interrupted()),
    };
    let outcome = outcome.insert(begun(&connection, plan, args.interval, target));
    if notes {
        print_line(&lines::beginning(outcome))?;
    }
    let address = connection.remote_addr().ok_or_else(|| Failure::new("the connection has no address"))?;
    let place = Place { client: Arc::clone(&client), address, name: handshake_name(number).into() };
    let party = Party::new(connection.clone(), plan, End::Client, outbox, Some(MAX_TIME));
    let result = carry_out(&party, control, place, target, (interrupted, notes), outcome).await;
    drop(party);
    let _ = tokio::time::timeout(Duration::from_secs(2), client.wait_idle()).await;
    // Its numbers stay when it is over.
    if let Ok(stats) = connection.stats().await {
        outcome.wire = wire(&plan, outcome.remote, &stats);
    }
    result
}

/// Carries the run out, shows its lines if they are wanted, and closes the connection.
async fn carry_out(
    party: &Party,
    mut control: RecvStream,
    place: Place,
    target: &Target,
    (interrupted, notes): (Interrupted, bool),
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let show = |outcome: &Outcome| {
        if notes {
            // A reader that went away wants no more of them; the results are told all the same.
            let _ = print_line(&lines::line(outcome, outcome.lines.len() - 1));
        }
    };
    let (samples, heard) = mpsc::channel(WAITING_SAMPLES);
    let mut sampler = Sampler::new(party, heard, outcome.interval);
    let mut stopped = false;
    let reports = {
        let run = party.carry_out(&mut control, Own::Client { place, samples });
        let stop = async {
            let _ = interrupted.await;
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
            () = sample_rtt(party) => unreachable!("it samples for ever"),
        }
    };
    if sampler.finish(outcome).await {
        show(outcome);
    }
    outcome.latency = party.latency.snapshot();
    let connection = &party.connection;
    match reports {
        Ok((own, theirs)) => {
            outcome.ends = Some(Ends { client: own, server: theirs });
            // The server has it, or does not care.
            let _ = tokio::time::timeout(PATIENCE, party.finish()).await;
            close(connection, Code::Done, "");
            match outcome.shortfall() {
                _ if stopped => Err(Failure::interrupted()),
                Some(why) => Err(Failure::new(why).todo("`perf serve --max-time` says how long a run may take")),
                None => Ok(()),
            }
        }
        Err(_) if stopped => {
            close(connection, Code::Interrupted, "");
            Err(Failure::interrupted())
        }
        Err(error) => Err(ended(&error, connection, target)),
    }
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

/// How many of the server's samples wait to be looked at.
const WAITING_SAMPLES: usize = 64;
