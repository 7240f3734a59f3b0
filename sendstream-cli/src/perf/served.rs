//! One run at the server, and what is said of it.

use std::{net::SocketAddr, time::Duration};

use sendstream::Incoming;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    admission::Trusted,
    control::Outbox,
    party::{Own, Party},
    plan::{Direction, End, Load, Plan},
    protocol::{Frame, Hello, Report, Tally},
    run_error::{RunError, close},
    transport::{self, PATIENCE},
    units,
};
use crate::{error::chain, protocol::Code};

/// A run that is over.
pub(crate) struct Served {
    pub(crate) peer: SocketAddr,
    pub(crate) plan: Plan,
    /// What this end counted.
    pub(crate) result: Result<Report, RunError>,
}

/// Carries a run out, from the answer to its hello to the end of its connection.
pub(crate) async fn serve(
    client: Trusted,
    run: u64,
    handshakes: mpsc::Receiver<Incoming>,
    max_time: Duration,
) -> Result<Report, RunError> {
    let Trusted { connection, hello: Hello { plan, .. }, mut control, answer } = client;
    let limits = transport::for_run(&plan);
    if let Err(error) = connection.raise_limits(&limits).await {
        return Err(RunError::Unable(chain(&error)));
    }
    let outbox = Outbox::new(answer);
    outbox.say(&Frame::Ready { run }).await?;
    let party = Party::new(connection.clone(), plan, End::Server, outbox, Some(max_time));
    match party.carry_out(&mut control, Own::Server { handshakes }).await {
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

pub(crate) fn describe(plan: &Plan) -> String {
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
    pub(crate) fn to_lines(&self, report: &Report) -> Vec<String> {
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

    pub(crate) fn to_json(&self) -> ServedJson {
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
pub(crate) struct ServedJson {
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
