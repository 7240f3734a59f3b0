//! Looks at a run again and again while it goes on.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{
    counts::Snapshot,
    outcome::{Outcome, Path, Point},
    party::{Party, lost},
    plan::{End, Load},
    protocol::Sample,
};

/// Looks at a client's run.
pub(crate) struct Sampler<'a> {
    party: &'a Party,
    /// What the server says of its sending.
    samples: mpsc::Receiver<Sample>,
    /// The last of it.
    sample: Option<Sample>,
    tick: Duration,
    /// How many ticks a line has; none for no lines.
    ticks_per_line: usize,
    /// Whether the last line has all of its points.
    line_is_whole: bool,
    /// How many of the points cannot get coarser: each is a line.
    coarse: usize,
    before: Before,
}

/// What there was at the end of the last point.
struct Before {
    at: Instant,
    sent: Snapshot,
    received: Snapshot,
    client_lost: u64,
    server_lost: u64,
}

impl<'a> Sampler<'a> {
    /// `interval` is how long a line is; zero for no lines.
    pub(crate) fn new(party: &'a Party, samples: mpsc::Receiver<Sample>, interval: Duration) -> Self {
        let tick = party.plan.sample;
        let ticks_per_line =
            if tick.is_zero() { 0 } else { (interval.as_secs_f64() / tick.as_secs_f64()).round() as usize };
        let before = Before {
            at: party.start,
            sent: Snapshot::default(),
            received: Snapshot::default(),
            client_lost: 0,
            server_lost: 0,
        };
        Self { party, samples, sample: None, tick, ticks_per_line, line_is_whole: true, coarse: 0, before }
    }

    /// Adds points to `outcome` for as long as it is polled, and calls `line` when a line is there.
    /// Dropping the future loses at most a point, which is then a part of the last.
    pub(crate) async fn sample(&mut self, outcome: &mut Outcome, line: impl Fn(&Outcome)) {
        let party = self.party;
        for (from, omitted) in [(party.start, true), (party.begin(), false)] {
            if omitted && party.plan.omit.is_zero() {
                continue;
            }
            let mut in_line = 0;
            for number in 1.. {
                let at = from + self.tick.saturating_mul(number);
                let over = omitted && (self.tick.is_zero() || at >= party.begin());
                if over {
                    party.counting().await;
                } else if self.tick.is_zero() {
                    std::future::pending().await
                } else {
                    tokio::time::sleep_until(at.into()).await;
                }
                let at = if over { party.begin() } else { at };
                self.add(outcome, at, omitted, over, in_line == 0).await;
                in_line += 1;
                self.line_is_whole = over || in_line == self.ticks_per_line;
                if self.ticks_per_line > 0 && self.line_is_whole {
                    line(outcome);
                    in_line = 0;
                }
                if in_line == 0 || self.ticks_per_line == 0 {
                    self.keep_bounded(outcome);
                }
                if over {
                    break;
                }
            }
        }
    }

    /// Adds what came after the last point, and says whether that makes a line of its own or ends
    /// one.
    pub(crate) async fn finish(&mut self, outcome: &mut Outcome) -> bool {
        let ended = [&self.party.sent, &self.party.received].into_iter().filter_map(|counts| counts.ended()).max();
        let now = ended.filter(|ended| *ended > self.before.at).unwrap_or_else(Instant::now);
        let omitted = now < self.party.begin();
        let begins = self.line_is_whole || outcome.points.last().is_none_or(|last| last.omitted != omitted);
        let something =
            self.party.sent.snapshot() != self.before.sent || self.party.received.snapshot() != self.before.received;
        if something || outcome.points.is_empty() {
            self.add(outcome, now, omitted, false, begins).await;
            return self.ticks_per_line > 0;
        }
        self.ticks_per_line > 0 && !begins
    }

    /// Gives up points of a long run, between two lines.
    fn keep_bounded(&mut self, outcome: &mut Outcome) {
        if outcome.points.len() - self.coarse > MAX_FINE {
            outcome.coarsen();
            self.coarse = if self.ticks_per_line > 0 { outcome.points.len() } else { 0 };
        }
    }

    /// Adds a point up to `at`. `over` says that what is omitted ends with it.
    async fn add(&mut self, outcome: &mut Outcome, at: Instant, omitted: bool, over: bool, begins_line: bool) {
        let party = self.party;
        let (sent, received) = if over {
            (party.sent.omitted(), party.received.omitted())
        } else {
            (party.sent.snapshot(), party.received.snapshot())
        };
        let zero = if omitted { party.start } else { party.begin() };
        let since = |moment: Instant| moment.saturating_duration_since(zero).as_secs_f64();
        let client = match party.connection.stats().await {
            Ok(stats) => {
                let all = lost(&stats);
                let path = Path {
                    rtt: micros(stats.rtt),
                    rtt_variance: Some(micros(stats.rtt_variance)),
                    cwnd: stats.congestion_window,
                    lost: all.saturating_sub(self.before.client_lost),
                };
                self.before.client_lost = all;
                Some(path)
            }
            Err(_) => None,
        };
        let server = self.hear(at).await;
        if begins_line && self.ticks_per_line > 0 {
            outcome.lines.push(outcome.points.len());
        }
        outcome.points.push(Point {
            start: since(self.before.at),
            end: since(at),
            omitted,
            sent: sent.since(&self.before.sent),
            received: received.since(&self.before.received),
            client,
            server,
        });
        (self.before.at, self.before.sent, self.before.received) = (at, sent, received);
    }

    /// What the server says of this moment, if it sends and says it in time.
    async fn hear(&mut self, at: Instant) -> Option<Path> {
        if !self.party.plan.sends(End::Server) || self.tick.is_zero() {
            return None;
        }
        let number = at.saturating_duration_since(self.party.start).as_secs_f64() / self.tick.as_secs_f64();
        // Its clock began a little earlier than this end's.
        let expected = (number + 0.01) as u32;
        let is_new = |sample: &Option<Sample>| sample.as_ref().is_some_and(|sample| sample.number >= expected);
        let deadline = tokio::time::Instant::now() + (self.tick / 2).min(LATE);
        while !is_new(&self.sample)
            && let Ok(Some(next)) = tokio::time::timeout_at(deadline, self.samples.recv()).await
        {
            // Where nothing else is timed, the sender's round-trip times make the histogram.
            if !self.party.plan.sends(End::Client) {
                self.party.latency.record(Duration::from_micros(next.rtt));
            }
            self.sample = Some(next);
        }
        let sample = self.sample?;
        let lost = sample.lost.saturating_sub(self.before.server_lost);
        self.before.server_lost = sample.lost;
        Some(Path { rtt: sample.rtt, rtt_variance: None, cwnd: sample.cwnd, lost })
    }
}

/// Fills the histogram with the client's round-trip times for as long as it is polled, where
/// nothing else is timed.
pub(crate) async fn sample_rtt(party: &Party) {
    let timed = matches!(party.plan.load, Load::PingPong(_) | Load::Handshakes);
    if timed || !party.plan.sends(End::Client) {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(RTT_TICK);
    loop {
        ticks.tick().await;
        party.latency.record(party.connection.rtt());
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How many points there are beyond lines.
const MAX_FINE: usize = 8000;
/// How long a line waits for what the server says of it.
const LATE: Duration = Duration::from_millis(250);
/// How often the round-trip time is looked at.
const RTT_TICK: Duration = Duration::from_millis(10);
