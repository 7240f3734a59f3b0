//! A run as JSON, built as iperf3's: `start`, `intervals`, `end`. What iperf3 has is called the same;
//! what there is of QUIC alone comes in addition.

use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};

use super::{
    lines::PERCENTILES,
    outcome::{Ends, Outcome, Packets, Path, Point, Way},
    plan::{Amount, Direction, End, Load},
    protocol::Tally,
    units,
};

/// A run, with what went wrong.
pub(crate) fn run(outcome: &Outcome, error: Option<&str>) -> Value {
    let intervals: Vec<_> = (0..outcome.lines.len()).map(|index| interval(outcome, &outcome.line(index))).collect();
    let mut object = json!({ "start": start(outcome), "intervals": intervals, "end": {} });
    if let Some(ends) = &outcome.ends {
        object["end"] = end(outcome, ends);
    }
    add_error(&mut object, error);
    object
}

/// A run that never began.
pub(crate) fn failed(error: &str) -> Value {
    let mut object = json!({ "start": {}, "intervals": [], "end": {} });
    add_error(&mut object, Some(error));
    object
}

/// What went wrong, and what the user can do about it: the next line of a failure.
fn add_error(object: &mut Value, error: Option<&str>) {
    let Some(error) = error else { return };
    let (error, hint) = error.split_once('\n').map_or((error, None), |(error, hint)| (error, Some(hint.trim())));
    object["error"] = error.into();
    if let Some(hint) = hint {
        object["hint"] = hint.into();
    }
}

fn start(outcome: &Outcome) -> Value {
    let plan = outcome.plan;
    let connected: Vec<_> = match (outcome.local, outcome.remote) {
        (Some(local), Some(remote)) => vec![json!({
            "socket": 1,
            "local_host": local.ip().to_canonical().to_string(),
            "local_port": local.port(),
            "remote_host": remote.ip().to_canonical().to_string(),
            "remote_port": remote.port(),
        })],
        _ => Vec::new(),
    };
    let (host, port) = outcome.server.rsplit_once(':').unwrap_or((&outcome.server, ""));
    let (duration, bytes) = match plan.amount {
        Amount::Time(time) => (time.as_secs_f64(), 0),
        Amount::Bytes(bytes) => (0.0, bytes),
    };
    json!({
        "connected": connected,
        "version": concat!("sendstream ", env!("CARGO_PKG_VERSION")),
        "timestamp": { "timesecs": outcome.began.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) },
        "connecting_to": { "host": host, "port": port.parse::<u16>().unwrap_or_default() },
        "cipher_suite": outcome.cipher,
        "test_start": {
            "protocol": "QUIC",
            "load": plan.load.name(),
            "num_streams": plan.streams,
            "blksize": plan.load.size(),
            "omit": plan.omit.as_secs_f64(),
            "duration": duration,
            "bytes": bytes,
            "interval": outcome.interval.as_secs_f64(),
            "reverse": u8::from(plan.direction == Direction::Down),
            "bidir": u8::from(plan.direction == Direction::Both),
        },
    })
}

fn interval(outcome: &Outcome, point: &Point) -> Value {
    let mut object = Map::new();
    let mut streams = Vec::new();
    for way in outcome.ways() {
        let counted = point.of(way);
        let common = |bytes: u64| {
            let mut part = amount(point.start, point.end, bytes);
            part["omitted"] = point.omitted.into();
            // As seen from this end.
            part["sender"] = (way == Way::Up).into();
            part
        };
        for (slot, bytes) in counted.slots.iter().enumerate() {
            let mut stream = common(*bytes);
            stream["socket"] = socket(outcome, way, slot).into();
            if counted.slots.len() == 1 {
                add_path(&mut stream, point.path(way));
            }
            streams.push(stream);
        }
        let mut sum = common(counted.bytes());
        add_path(&mut sum, point.path(way));
        add_count(&mut sum, outcome, counted.messages, point.seconds());
        object.insert(named("sum", outcome, way), sum);
    }
    object.insert("streams".to_owned(), streams.into());
    object.into()
}

fn end(outcome: &Outcome, ends: &Ends) -> Value {
    let mut object = Map::new();
    let mut streams = Vec::new();
    for way in outcome.ways() {
        let (sent, received) = (ends.sent(way), ends.received(way));
        for (slot, (sender, receiver)) in sent.streams.iter().zip(&received.streams).enumerate() {
            let side = |tally: &Tally, bytes: u64| {
                let mut side = amount(0.0, tally.seconds(), bytes);
                side["socket"] = socket(outcome, way, slot).into();
                side["sender"] = (way == Way::Up).into();
                side
            };
            streams.push(json!({ "sender": side(sent, *sender), "receiver": side(received, *receiver) }));
        }
        for (name, tally) in [("sum_sent", sent), ("sum_received", received)] {
            let mut sum = amount(0.0, tally.seconds(), tally.bytes());
            sum["sender"] = (way == Way::Up).into();
            sum["bytes_with_omitted"] = tally.total.bytes.into();
            add_count(&mut sum, outcome, tally.messages, tally.seconds());
            if name == "sum_sent" {
                let (lost, packets) = ends.packets(way);
                sum["lost_packets"] = lost.into();
                sum["packets"] = packets.into();
                add_times(&mut sum, outcome, way);
            } else if matches!(outcome.plan.load, Load::Datagrams(_)) {
                let lost = sent.messages.saturating_sub(received.messages);
                sum["lost_datagrams"] = lost.into();
                sum["lost_percent"] = (lost as f64 * 100.0 / sent.messages.max(1) as f64).into();
            }
            object.insert(named(name, outcome, way), sum);
        }
    }
    object.insert("streams".to_owned(), streams.into());
    object.insert("latency".to_owned(), latency(outcome));
    let wire = outcome.wire.map(|wire| {
        let packets = |packets: Packets| {
            json!({ "packets": packets.count, "udp_bytes": packets.payload, "ip_bytes": packets.bytes(wire.header) })
        };
        json!({ "sent": packets(wire.sent), "received": packets(wire.received) })
    });
    object.insert("wire".to_owned(), wire.into());
    object.into()
}

/// How long pings or handshakes took, in nanoseconds; of other loads, the round-trip time.
fn latency(outcome: &Outcome) -> Value {
    let histogram = &outcome.latency;
    let of = match outcome.plan.load {
        Load::PingPong(_) => "ping",
        Load::Handshakes => "handshake",
        _ => "smoothed_rtt",
    };
    let mut object = json!({ "of": of, "unit": "ns", "count": histogram.len() });
    if !histogram.is_empty() {
        object["min"] = histogram.min().into();
        object["mean"] = histogram.mean().into();
        for (name, quantile) in PERCENTILES {
            object[name] = histogram.value_at_quantile(quantile).into();
        }
        object["max"] = histogram.max().into();
    }
    object
}

fn amount(start: f64, end: f64, bytes: u64) -> Value {
    let seconds = end - start;
    json!({
        "start": start,
        "end": end,
        "seconds": seconds,
        "bytes": bytes,
        "bits_per_second": units::rate(bytes, seconds),
    })
}

/// The sender's numbers; times in microseconds, as iperf3 has them.
fn add_path(object: &mut Value, path: Option<&Path>) {
    let Some(path) = path else { return };
    object["lost_packets"] = path.lost.into();
    object["snd_cwnd"] = path.cwnd.into();
    object["rtt"] = path.rtt.into();
    if let Some(variance) = path.rtt_variance {
        object["rttvar"] = variance.into();
    }
}

fn add_count(object: &mut Value, outcome: &Outcome, count: u64, seconds: f64) {
    if let Some(units) = outcome.plan.load.units() {
        object[units] = count.into();
        object[format!("{units}_per_second")] = units::per_second(count, seconds).into();
    }
}

/// The sender's round-trip times and windows over the whole run.
fn add_times(object: &mut Value, outcome: &Outcome, way: Way) {
    let paths: Vec<_> = outcome.points.iter().filter(|point| !point.omitted).filter_map(|it| it.path(way)).collect();
    let (Some(min), Some(max)) = (paths.iter().map(|path| path.rtt).min(), paths.iter().map(|path| path.rtt).max())
    else {
        return;
    };
    object["min_rtt"] = min.into();
    object["max_rtt"] = max.into();
    object["mean_rtt"] =
        (paths.iter().fold(0u64, |sum, path| sum.saturating_add(path.rtt)) / paths.len() as u64).into();
    object["max_snd_cwnd"] = paths.iter().map(|path| path.cwnd).max().into();
}

/// The key of one direction. Where there are both, the server's sending has iperf3's addition.
fn named(key: &str, outcome: &Outcome, way: Way) -> String {
    let both = outcome.plan.direction == Direction::Both;
    if both && way == Way::Down { format!("{key}_bidir_reverse") } else { key.to_owned() }
}

fn socket(outcome: &Outcome, way: Way, slot: usize) -> usize {
    let first = if way == Way::Down && outcome.plan.sends(End::Client) { outcome.plan.slots() } else { 0 };
    first + slot + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::{
        outcome::tests::outcome,
        plan::{Plan, example},
    };

    #[test]
    fn the_object_is_built_as_iperf3s() {
        let object = run(&outcome(Plan { streams: 2, ..example() }, 3), None);
        assert_eq!(object["start"]["test_start"]["num_streams"], 2);
        assert_eq!(object["start"]["connecting_to"], json!({ "host": "192.0.2.7", "port": 5201 }));
        assert_eq!(object["start"]["connected"][0]["remote_port"], 5201);
        let intervals = object["intervals"].as_array().unwrap();
        assert_eq!(intervals.len(), 3);
        assert_eq!(intervals[1]["sum"]["start"], 1.0);
        assert_eq!(intervals[1]["sum"]["rtt"], 420);
        assert_eq!(intervals[1]["streams"].as_array().unwrap().len(), 2);
        let end = &object["end"];
        assert_eq!(end["sum_sent"]["bytes"], end["sum_received"]["bytes"]);
        assert_eq!(end["sum_sent"]["lost_packets"], 6);
        assert_eq!(end["streams"][1]["receiver"]["socket"], 2);
        assert_eq!(end["wire"]["sent"]["ip_bytes"], 120_000_000 + 80_000 * 28);
        assert!(object.get("error").is_none());
    }

    #[test]
    fn both_directions_are_told_apart() {
        let object = run(&outcome(Plan { direction: Direction::Both, ..example() }, 1), Some("why\n  do this"));
        assert_eq!(object["intervals"][0]["sum_bidir_reverse"]["sender"], false);
        assert_eq!(object["end"]["sum_sent_bidir_reverse"]["bytes"], 117_571_584);
        assert_eq!(object["end"]["streams"][1]["sender"]["socket"], 2);
        assert_eq!((&object["error"], &object["hint"]), (&json!("why"), &json!("do this")));
    }

    #[test]
    fn a_run_that_broke_off_has_what_it_had() {
        let mut broken = outcome(example(), 2);
        broken.ends = None;
        let object = run(&broken, Some("why"));
        assert_eq!(object["intervals"].as_array().unwrap().len(), 2);
        assert_eq!(object["end"], json!({}));
    }

    #[test]
    fn percentiles_are_in_nanoseconds() {
        let object = run(&outcome(Plan { load: Load::PingPong(64), ..example() }, 1), None);
        let latency = &object["end"]["latency"];
        assert_eq!((latency["count"].as_u64(), latency["min"].as_u64()), (Some(999), Some(1000)));
        assert!((latency["p99"].as_f64().unwrap() / 989_000.0 - 1.0).abs() < 0.01);
        assert_eq!(object["end"]["sum_received"]["pings"], 1000);
    }
}
