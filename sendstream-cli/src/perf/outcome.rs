//! All that is known of a run: how it began, how it went, how it ended. What is printed comes from
//! here.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;

use super::{
    counts::Snapshot,
    plan::{Amount, End, Load, Plan},
    protocol::{Report, Tally, Total},
};

/// A run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    /// How long one of its lines is; zero for none.
    pub(crate) interval: Duration,
    /// Where the server is, as the user said it.
    pub(crate) server: String,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) cipher: Option<String>,
    pub(crate) began: SystemTime,
    /// What was seen while it went on, in order.
    pub(crate) points: Vec<Point>,
    /// Where the points of each line begin in `points`.
    pub(crate) lines: Vec<usize>,
    /// How long pings or handshakes took. Of other loads: the smoothed round-trip time, looked at
    /// again and again.
    pub(crate) latency: Histogram<u64>,
    /// What both ends counted, if the run came to its end.
    pub(crate) ends: Option<Ends>,
    pub(crate) wire: Option<Wire>,
}

/// What both ends counted.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) client: Report,
    pub(crate) server: Report,
}

/// A part of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Point {
    /// In seconds since counting began, or since the beginning of what is omitted.
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) omitted: bool,
    /// What the client sent in this part, and received.
    pub(crate) sent: Snapshot,
    pub(crate) received: Snapshot,
    /// How the client's sending went, and the server's as far as it told.
    pub(crate) client: Option<Path>,
    pub(crate) server: Option<Path>,
}

/// How an end's sending goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    /// The smoothed round-trip time, and how much it varies, in microseconds.
    pub(crate) rtt: u64,
    pub(crate) rtt_variance: Option<u64>,
    /// The congestion window in bytes.
    pub(crate) cwnd: u64,
    /// How many packets were lost in this part of the run.
    pub(crate) lost: u64,
}

/// What the connection of the run sent and received, from its first packet to its last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire {
    pub(crate) sent: Packets,
    pub(crate) received: Packets,
    /// What a packet has before its UDP payload: the headers of IP and UDP.
    pub(crate) header: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Packets {
    /// How many.
    pub(crate) count: u64,
    /// The bytes of their UDP payload.
    pub(crate) payload: u64,
}

/// One of the two directions, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The client sends.
    Up,
    /// The server sends.
    Down,
}

impl Outcome {
    /// The directions that the run has, the client's sending first.
    pub(crate) fn ways(&self) -> impl Iterator<Item = Way> + use<> {
        let plan = self.plan;
        [Way::Up, Way::Down].into_iter().filter(move |way| plan.sends(way.sender()))
    }

    /// The line that begins with the point `first`, and ends before the next.
    pub(crate) fn line(&self, index: usize) -> Point {
        let first = self.lines[index];
        let last = self.lines.get(index + 1).copied().unwrap_or(self.points.len());
        merge(&self.points[first..last])
    }

    /// Makes one point of those of each line, or of every two where there are no lines, and so keeps
    /// what a long run takes within bounds.
    pub(crate) fn coarsen(&mut self) {
        if self.lines.is_empty() {
            self.points = thinned(&self.points, 2);
        } else {
            self.points = (0..self.lines.len()).map(|index| self.line(index)).collect();
            self.lines = (0..self.points.len()).collect();
        }
    }

    /// The points, as many of them as a picture can show.
    pub(crate) fn shown(&self) -> Vec<Point> {
        thinned(&self.points, self.points.len().div_ceil(MAX_SHOWN).max(1))
    }

    /// Says how far a run came that was to move a number of bytes, and did not.
    pub(crate) fn shortfall(&self) -> Option<String> {
        let (Amount::Bytes(wanted), Some(ends)) = (self.plan.amount, &self.ends) else { return None };
        let sent = self.ways().map(|way| ends.sent(way).bytes()).min()?;
        (sent < wanted).then(|| format!("the run was ended after {sent} of {wanted} bytes: it took longer than it may"))
    }

    /// Whether this end and the other agree on what arrived. Says what is wrong if not.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let ends = self.ends.as_ref()?;
        self.ways().find_map(|way| {
            let (sent, received) = (ends.sent(way).total, ends.received(way).total);
            let agree = match self.plan.load {
                // Datagrams may get lost, and a handshake may be over before the server looks.
                Load::Datagrams(_) | Load::Handshakes => {
                    received.messages <= sent.messages && received.bytes <= sent.bytes
                }
                _ => received == sent,
            };
            let unit = if sent.bytes == received.bytes { self.plan.load.units().unwrap_or("bytes") } else { "bytes" };
            let count = |total: Total| if unit == "bytes" { total.bytes } else { total.messages };
            (!agree).then(|| {
                format!(
                    "the two ends disagree: {} {unit} were sent by the {}'s count, and {} received by the {}'s",
                    count(sent),
                    way.sender().name(),
                    count(received),
                    way.sender().other().name(),
                )
            })
        })
    }
}

impl Ends {
    /// What was sent, by the sender's count.
    pub(crate) fn sent(&self, way: Way) -> &Tally {
        &self.of(way.sender()).sent
    }

    /// What was received, by the receiver's count.
    pub(crate) fn received(&self, way: Way) -> &Tally {
        &self.of(way.sender().other()).received
    }

    /// Packets that the sender lost in the whole run, and how many it sent.
    pub(crate) fn packets(&self, way: Way) -> (u64, u64) {
        let sender = self.of(way.sender());
        (sender.lost, sender.packets)
    }

    fn of(&self, end: End) -> &Report {
        match end {
            End::Client => &self.client,
            End::Server => &self.server,
        }
    }
}

impl Point {
    pub(crate) fn seconds(&self) -> f64 {
        self.end - self.start
    }

    /// What went one way by the client's count.
    pub(crate) fn of(&self, way: Way) -> &Snapshot {
        match way {
            Way::Up => &self.sent,
            Way::Down => &self.received,
        }
    }

    /// How the sending of one way went.
    pub(crate) fn path(&self, way: Way) -> Option<&Path> {
        match way {
            Way::Up => self.client.as_ref(),
            Way::Down => self.server.as_ref(),
        }
    }
}

impl Way {
    pub(crate) fn sender(self) -> End {
        match self {
            Self::Up => End::Client,
            Self::Down => End::Server,
        }
    }

    /// What it is called by people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "upload",
            Self::Down => "download",
        }
    }
}

impl End {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl Packets {
    /// The bytes of whole IP packets.
    pub(crate) fn bytes(self, header: u64) -> u64 {
        self.payload + self.count * header
    }
}

/// One point of up to `each` neighbours that are omitted alike.
fn thinned(points: &[Point], each: usize) -> Vec<Point> {
    let alike = points.chunk_by(|a, b| a.omitted == b.omitted);
    alike.flat_map(|points| points.chunks(each)).map(merge).collect()
}

/// Neighbours as one: counts are added up, and the rest is as it was last.
fn merge(points: &[Point]) -> Point {
    let Some((first, rest)) = points.split_first() else { return Point::default() };
    rest.iter().fold(first.clone(), |sum, next| Point {
        start: sum.start,
        end: next.end,
        omitted: sum.omitted,
        sent: add(&sum.sent, &next.sent),
        received: add(&sum.received, &next.received),
        client: follow(sum.client, next.client),
        server: follow(sum.server, next.server),
    })
}

fn add(a: &Snapshot, b: &Snapshot) -> Snapshot {
    let slots = a.slots.iter().zip(&b.slots).map(|(a, b)| a + b).collect();
    Snapshot { slots, messages: a.messages + b.messages }
}

fn follow(before: Option<Path>, next: Option<Path>) -> Option<Path> {
    match (before, next) {
        (Some(before), Some(next)) => Some(Path { lost: before.lost.saturating_add(next.lost), ..next }),
        (before, next) => next.or(before),
    }
}

/// How many points a picture has at most, beside one.
const MAX_SHOWN: usize = 1000;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::perf::{
        latency::Latency,
        plan::{Direction, example},
    };

    /// A run of `plan` in which each second is like the one before.
    pub(crate) fn outcome(plan: Plan, seconds: usize) -> Outcome {
        const BYTES: u64 = 117_571_584;
        let latency = Latency::new();
        (1..1000).for_each(|micros| latency.record(Duration::from_micros(micros)));
        let each = |there: bool| Snapshot {
            slots: vec![if there { BYTES / plan.slots() as u64 } else { 0 }; plan.slots()],
            messages: if plan.load.units().is_some() && there { 1000 } else { 0 },
        };
        let path = |end| plan.sends(end).then_some(Path { rtt: 420, rtt_variance: Some(17), cwnd: 1_373_634, lost: 2 });
        let point = |second: usize| Point {
            start: second as f64,
            end: second as f64 + 1.0,
            omitted: false,
            sent: each(plan.sends(End::Client)),
            received: each(plan.sends(End::Server)),
            client: path(End::Client),
            server: path(End::Server),
        };
        let tally = |there: bool| {
            let each = each(true);
            let times = |count: u64| count * seconds as u64;
            if !there {
                return Tally::default();
            }
            Tally {
                streams: each.slots.iter().map(|bytes| times(*bytes)).collect(),
                messages: times(each.messages),
                micros: times(1_000_000),
                total: Total { bytes: times(each.bytes()), messages: times(each.messages) },
            }
        };
        let report = |end: End| Report {
            sent: tally(plan.sends(end)),
            received: tally(plan.receives(end)),
            lost: 2 * seconds as u64,
            packets: 80_000 * seconds as u64,
        };
        Outcome {
            plan,
            interval: Duration::from_secs(1),
            server: "192.0.2.7:5201".to_owned(),
            local: "192.0.2.1:40000".parse().ok(),
            remote: "192.0.2.7:5201".parse().ok(),
            cipher: Some("TLS_AES_256_GCM_SHA384".to_owned()),
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
            points: (0..seconds).map(point).collect(),
            lines: (0..seconds).collect(),
            latency: latency.snapshot(),
            ends: Some(Ends { client: report(End::Client), server: report(End::Server) }),
            wire: Some(Wire {
                sent: Packets { count: 80_000, payload: 120_000_000 },
                received: Packets { count: 4_000, payload: 160_000 },
                header: 28,
            }),
        }
    }

    #[test]
    fn a_line_adds_up_its_points() {
        let mut outcome = outcome(example(), 3);
        outcome.lines = vec![0, 2];
        let line = outcome.line(0);
        assert_eq!((line.start, line.end, line.sent.bytes()), (0.0, 2.0, 2 * 117_571_584));
        assert_eq!(line.client.unwrap().lost, 4);
        assert_eq!(outcome.line(1).sent.bytes(), 117_571_584);
    }

    #[test]
    fn a_long_run_keeps_its_sums_when_it_gets_coarser() {
        let mut long = outcome(example(), 5000);
        assert!(long.shown().len() <= MAX_SHOWN);
        long.lines = (0..500).map(|line| line * 10).collect();
        let lines: Vec<_> = (0..500).map(|index| long.line(index)).map(|line| (line.end, line.sent.bytes())).collect();
        long.coarsen();
        assert_eq!(long.points.len(), 500);
        let after: Vec<_> = (0..500).map(|index| long.line(index)).map(|line| (line.end, line.sent.bytes())).collect();
        assert_eq!(lines, after);
        long.lines.clear();
        long.points[0].omitted = true;
        long.coarsen();
        assert_eq!(long.points.len(), 251, "what is omitted stays by itself");
    }

    #[test]
    fn an_end_that_counts_otherwise_is_found_out() {
        for direction in [Direction::Up, Direction::Down, Direction::Both] {
            let plan = Plan { direction, ..example() };
            assert_eq!(outcome(plan, 1).disagreement(), None);
            for difference in [-1, 1] {
                let mut lying = outcome(plan, 1);
                let server = &mut lying.ends.as_mut().unwrap().server;
                let total =
                    if direction == Direction::Down { &mut server.sent.total } else { &mut server.received.total };
                total.bytes = total.bytes.saturating_add_signed(difference);
                let said = lying.disagreement().unwrap();
                assert!(said.contains("disagree") && said.contains("117571584"), "{said}");
            }
        }
    }

    #[test]
    fn datagrams_may_get_lost_and_not_be_multiplied() {
        let plan = Plan { load: Load::Datagrams(1200), ..example() };
        let mut some = outcome(plan, 1);
        some.ends.as_mut().unwrap().server.received.total.messages -= 1;
        assert_eq!(some.disagreement(), None);
        some.ends.as_mut().unwrap().server.received.total.messages += 2;
        assert!(some.disagreement().unwrap().contains("1001"));
    }
}
