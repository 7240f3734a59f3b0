//! A run as iperf3 writes it, for people and for what reads iperf3's lines: the columns up to Bitrate
//! are the same, and stand where they stand there.

use std::fmt::Write as _;

use super::{
    outcome::{Outcome, Packets, Path, Point, Way, Wire},
    plan::{Amount, Direction, End, Load},
    protocol::Tally,
    units,
};

/// The lines before the first.
pub(crate) fn beginning(outcome: &Outcome) -> String {
    let mut text = String::new();
    if let (Some(local), Some(remote)) = (outcome.local, outcome.remote) {
        let _ = writeln!(
            text,
            "[{:>3}] local {} port {} connected to {} port {}",
            1,
            local.ip().to_canonical(),
            local.port(),
            remote.ip().to_canonical(),
            remote.port()
        );
    }
    text + &header(outcome, true)
}

/// What is known of one interval.
pub(crate) fn line(outcome: &Outcome, index: usize) -> String {
    let point = outcome.line(index);
    let omitted = if point.omitted { "  (omitted)" } else { "" };
    let mut lines = Vec::new();
    for way in outcome.ways() {
        let counted = point.of(way);
        let alone = counted.slots.len() == 1;
        for (slot, bytes) in counted.slots.iter().enumerate() {
            let columns = if alone { tail(outcome, &point, way) } else { String::new() };
            let front = front(&id(outcome, way, Some(slot)), (point.start, point.end), *bytes);
            lines.push((front + &columns).trim_end().to_owned() + omitted);
        }
        if !alone {
            let front = front(&id(outcome, way, None), (point.start, point.end), counted.bytes());
            lines.push((front + &tail(outcome, &point, way)).trim_end().to_owned() + omitted);
        }
    }
    lines.join("\n")
}

/// The results of a run that came to its end.
pub(crate) fn summary(outcome: &Outcome) -> String {
    let mut lines = vec![SEPARATOR.to_owned(), header(outcome, false)];
    let Some(ends) = &outcome.ends else { return String::new() };
    for way in outcome.ways() {
        let (sent, received) = (ends.sent(way), ends.received(way));
        let slots = sent.streams.len().min(received.streams.len());
        let ids = (0..slots).filter(|_| slots > 1).map(Some).chain([None]);
        for slot in ids {
            let id = if slots == 1 { id(outcome, way, Some(0)) } else { id(outcome, way, slot) };
            for (tally, role) in [(sent, "sender"), (received, "receiver")] {
                let bytes = slot.map_or_else(|| tally.bytes(), |slot| tally.streams[slot]);
                let mut line = front(&id, (0.0, tally.seconds()), bytes);
                if slot.is_none() {
                    line.push_str(&counted(outcome, tally.messages, tally.seconds()));
                }
                let last = match (slot, role) {
                    (None, "sender") => format!("{:>5}", ends.packets(way).0),
                    (None, _) if matches!(outcome.plan.load, Load::Datagrams(_)) => lost_of(sent, received),
                    _ => " ".repeat(5),
                };
                let _ = write!(line, "  {last}             {role}");
                lines.push(line);
            }
        }
    }
    if let Some(latency) = latency(outcome) {
        lines.push(latency);
    }
    lines.extend(outcome.wire.map(wire));
    lines.join("\n")
}

/// How long pings or handshakes took.
fn latency(outcome: &Outcome) -> Option<String> {
    let (histogram, load) = (&outcome.latency, outcome.plan.load);
    let what = match load {
        Load::PingPong(_) => "Round trip",
        Load::Handshakes => "Handshake",
        _ => return None,
    };
    if histogram.is_empty() {
        return None;
    }
    let time = |nanoseconds: f64| units::time(nanoseconds).trim_start().to_owned();
    let mut text = format!("{what}: min {}, mean {}", time(histogram.min() as f64), time(histogram.mean()));
    for (name, quantile) in PERCENTILES {
        let _ = write!(text, ", {name} {}", time(histogram.value_at_quantile(quantile) as f64));
    }
    let _ = write!(text, ", max {}", time(histogram.max() as f64));
    Some(text)
}

/// What went through the interface.
fn wire(wire: Wire) -> String {
    let count = |packets: Packets| {
        format!("{} in {} packets", units::bytes(packets.bytes(wire.header)).trim_start(), packets.count)
    };
    format!("IP packets of the connection: sent {}, received {}", count(wire.sent), count(wire.received))
}

fn header(outcome: &Outcome, interval: bool) -> String {
    let role = if outcome.plan.direction == Direction::Both { "[Role]" } else { "" };
    let mut text = format!("[ ID]{role} Interval           Transfer     Bitrate       ");
    if let Some(units) = outcome.plan.load.units() {
        let _ = write!(text, "  {:>10}  {:>9}", capital(units), "Per sec");
    }
    text.push_str("   Lost");
    if interval {
        text.push_str("  Cwnd         RTT");
    }
    text
}

/// The columns that every line has, which are iperf3's.
fn front(id: &str, (start, end): (f64, f64), bytes: u64) -> String {
    let rate = units::bits_per_second(units::rate(bytes, end - start));
    format!("{id} {start:6.2}-{end:<6.2} sec  {:>11}  {rate:>14}", units::bytes(bytes))
}

/// What an interval's line has beyond those.
fn tail(outcome: &Outcome, point: &Point, way: Way) -> String {
    let path = point.path(way).map_or_else(String::new, |path: &Path| {
        let rtt = units::time(path.rtt as f64 * 1e3);
        format!("  {:>5}  {:>11}  {rtt}", path.lost, units::bytes(path.cwnd))
    });
    counted(outcome, point.of(way).messages, point.seconds()) + &path
}

/// How many there were, of loads that are counted.
fn counted(outcome: &Outcome, count: u64, seconds: f64) -> String {
    match outcome.plan.load.units() {
        Some(_) => format!("  {count:>10}  {:>9.0}", units::per_second(count, seconds)),
        None => String::new(),
    }
}

/// How many datagrams did not arrive, as iperf3 has it.
fn lost_of(sent: &Tally, received: &Tally) -> String {
    let lost = sent.messages.saturating_sub(received.messages);
    let share = if sent.messages > 0 { lost as f64 * 100.0 / sent.messages as f64 } else { 0.0 };
    format!("{lost}/{} ({share:.2}%)", sent.messages)
}

/// A stream's number, or `SUM` for all of them. With both directions it says who sends, too.
fn id(outcome: &Outcome, way: Way, slot: Option<usize>) -> String {
    let first = if way == Way::Down && outcome.plan.sends(End::Client) { outcome.plan.slots() } else { 0 };
    let id = slot.map_or_else(|| "SUM".to_owned(), |slot| format!("{:>3}", first + slot + 1));
    match (outcome.plan.direction, way) {
        (Direction::Both, Way::Up) => format!("[{id}][TX-C]"),
        (Direction::Both, Way::Down) => format!("[{id}][RX-C]"),
        _ => format!("[{id}]"),
    }
}

/// What the run did, in words.
pub(crate) fn title(outcome: &Outcome) -> String {
    let plan = outcome.plan;
    let what = match plan.load {
        Load::Bulk if plan.streams == 1 => "1 stream".to_owned(),
        Load::Bulk => format!("{} streams", plan.streams),
        Load::Handshakes if plan.streams == 1 => "handshakes, one at a time".to_owned(),
        Load::Handshakes => format!("handshakes, {} at a time", plan.streams),
        load => {
            let senders = if plan.streams == 1 { String::new() } else { format!(", {} senders", plan.streams) };
            format!("{} of {} bytes{senders}", load.units().unwrap_or_default(), load.size().unwrap_or_default())
        }
    };
    let amount = match plan.amount {
        Amount::Time(time) => format!("{} s", time.as_secs_f64()),
        Amount::Bytes(bytes) => units::bytes(bytes).trim_start().to_owned(),
    };
    let omitted =
        if plan.omit.is_zero() { String::new() } else { format!(", after {} s omitted", plan.omit.as_secs_f64()) };
    format!("{what}, {amount}{omitted}")
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

/// What people look at of a distribution.
pub(crate) const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

const SEPARATOR: &str = "- - - - - - - - - - - - - - - - - - - - - - - - -";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::{
        outcome::tests::outcome,
        plan::{Plan, example},
    };

    #[test]
    fn lines_are_iperf3s() {
        let outcome = outcome(example(), 2);
        assert_eq!(
            beginning(&outcome),
            "[  1] local 192.0.2.1 port 40000 connected to 192.0.2.7 port 5201\n\
             [ ID] Interval           Transfer     Bitrate          Lost  Cwnd         RTT"
        );
        assert_eq!(
            line(&outcome, 1),
            "[  1]   1.00-2.00   sec   112 MBytes   941 Mbits/sec      2  1.31 MBytes   420 us"
        );
        let summary = summary(&outcome);
        let summary: Vec<_> = summary.lines().collect();
        assert_eq!(
            summary,
            [
                SEPARATOR,
                "[ ID] Interval           Transfer     Bitrate          Lost",
                "[  1]   0.00-2.00   sec   224 MBytes   941 Mbits/sec      4             sender",
                "[  1]   0.00-2.00   sec   224 MBytes   941 Mbits/sec                    receiver",
                "IP packets of the connection: sent 117 MBytes in 80000 packets, received 266 KBytes in 4000 packets",
            ]
        );
    }

    #[test]
    fn several_streams_have_a_sum() {
        let outcome = outcome(Plan { streams: 2, direction: Direction::Both, ..example() }, 1);
        let text = line(&outcome, 0);
        let ids: Vec<_> = text.lines().map(|line| line.split_at(11).0).collect();
        assert_eq!(ids, ["[  1][TX-C]", "[  2][TX-C]", "[SUM][TX-C]", "[  3][RX-C]", "[  4][RX-C]", "[SUM][RX-C]"]);
        assert!(text.lines().nth(2).unwrap().contains("112 MBytes   941 Mbits/sec      2"), "{text}");
        assert!(!text.lines().next().unwrap().contains("MBytes   420"), "{text}");
        assert_eq!(summary(&outcome).lines().filter(|line| line.ends_with("receiver")).count(), 6);
    }

    #[test]
    fn what_is_counted_has_columns_of_its_own() {
        let pings = outcome(Plan { load: Load::PingPong(64), ..example() }, 2);
        assert!(beginning(&pings).contains("Pings    Per sec   Lost"));
        assert!(line(&pings, 0).contains("  1000       1000      2"), "{}", line(&pings, 0));
        let last = summary(&pings);
        assert!(last.contains("Round trip: min 1.00 us, mean 500 us, p50 500 us, p90 900 us"), "{last}");

        let mut datagrams = outcome(Plan { load: Load::Datagrams(1200), ..example() }, 2);
        datagrams.ends.as_mut().unwrap().server.received.messages -= 10;
        assert!(summary(&datagrams).contains("10/2000 (0.50%)"));
    }
}
