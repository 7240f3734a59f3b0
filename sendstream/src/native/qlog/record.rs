//! The records of a qlog, and their text.

use std::{
    collections::HashMap,
    io::{self, Write},
    time::Duration,
};

use serde_json::{Value, json};

use super::frames::Frame;

/// What happened, and when.
#[derive(Debug)]
pub(crate) struct Record {
    /// Since the stream began.
    pub(crate) time: Duration,
    /// The connection's number in the stream.
    pub(crate) connection: u64,
    pub(crate) event: Event,
}

#[derive(Debug)]
pub(crate) enum Event {
    Sent { kind: PacketType, number: u64, length: u16, frames: Box<[Frame]>, metrics: Metrics },
    Received { kind: PacketType, number: u64, length: u16, frames: Box<[Frame]> },
    Lost { kind: PacketType, number: u64, by_time: bool },
    Metrics(Metrics),
    State(State),
}

impl Event {
    pub(crate) fn frames(&self) -> &[Frame] {
        match self {
            Self::Sent { frames, .. } | Self::Received { frames, .. } => frames,
            Self::Lost { .. } | Self::Metrics(_) | Self::State(_) => &[],
        }
    }
}

/// The states of a connection that a log knows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    /// A client has begun, or a server has heard of one.
    Attempted { is_server: bool },
    /// The handshake is done.
    Connected,
    /// It is over.
    Closed,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum PacketType {
    Initial,
    ZeroRtt,
    Handshake,
    OneRtt,
}

impl PacketType {
    /// One of `QUIC_LOG_INITIAL` and its like.
    pub(crate) fn from_native(kind: u8) -> Self {
        match kind {
            sendstream_sys::QUIC_LOG_INITIAL => Self::Initial,
            sendstream_sys::QUIC_LOG_ZERO_RTT => Self::ZeroRtt,
            sendstream_sys::QUIC_LOG_HANDSHAKE => Self::Handshake,
            _ => Self::OneRtt,
        }
    }

    /// Which of the three spaces its numbers are of (RFC 9000 §12.3).
    pub(crate) fn space(self) -> usize {
        match self {
            Self::Initial => 0,
            Self::Handshake => 1,
            Self::ZeroRtt | Self::OneRtt => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::ZeroRtt => "0RTT",
            Self::Handshake => "handshake",
            Self::OneRtt => "1RTT",
        }
    }
}

/// Times in microseconds, and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Metrics {
    pub(crate) smoothed_rtt: u64,
    pub(crate) latest_rtt: u64,
    pub(crate) min_rtt: u64,
    pub(crate) rtt_variance: u64,
    pub(crate) congestion_window: u64,
    pub(crate) bytes_in_flight: u64,
}

impl Metrics {
    /// Those that are not as they were `before`, if that is known, as qlog has them. Times that are 0
    /// are not known yet.
    fn changed(&self, before: Option<Self>) -> Option<Value> {
        let is_first = before.is_none();
        let before = before.unwrap_or_default();
        let milliseconds = |microseconds: u64| microseconds as f64 / 1000.0;
        let mut data = serde_json::Map::new();
        for (name, now, then) in [
            ("smoothed_rtt", self.smoothed_rtt, before.smoothed_rtt),
            ("latest_rtt", self.latest_rtt, before.latest_rtt),
            ("min_rtt", self.min_rtt, before.min_rtt),
            ("rtt_variance", self.rtt_variance, before.rtt_variance),
        ] {
            if now != then {
                data.insert(name.to_owned(), milliseconds(now).into());
            }
        }
        for (name, now, then) in [
            ("congestion_window", self.congestion_window, before.congestion_window),
            ("bytes_in_flight", self.bytes_in_flight, before.bytes_in_flight),
        ] {
            if is_first || now != then {
                data.insert(name.to_owned(), now.into());
            }
        }
        (!data.is_empty()).then_some(Value::Object(data))
    }
}

/// Makes text of records.
#[derive(Debug)]
pub(super) struct Text {
    title: String,
    /// When the stream began, since the beginning of 1970.
    begun: Duration,
    has_header: bool,
    /// The last numbers of each connection that lives, for some [`MAX_CONNECTIONS`] at most.
    metrics: HashMap<u64, Metrics>,
}

impl Text {
    pub(super) fn new(title: String, begun: Duration) -> Self {
        Self { title, begun, has_header: false, metrics: HashMap::new() }
    }

    /// The text of one record, behind the header if it is the first.
    pub(super) fn write(&mut self, record: &Record, writer: &mut impl Write) -> io::Result<()> {
        let Record { time, connection, ref event } = *record;
        if !self.has_header {
            let side = match event {
                Event::State(State::Attempted { is_server: true }) => "server",
                Event::State(State::Attempted { is_server: false }) => "client",
                _ => "unknown",
            };
            self.write_header(side, writer)?;
        }
        let mut line = |name: &str, data: Value| write_event(time, Some(connection), name, data, writer);
        match *event {
            Event::Sent { kind, number, length, ref frames, ref metrics } => {
                line("transport:packet_sent", packet(kind, number, length, frames))?;
                self.write_metrics(record, metrics, writer)
            }
            Event::Received { kind, number, length, ref frames } => {
                line("transport:packet_received", packet(kind, number, length, frames))
            }
            Event::Lost { kind, number, by_time } => {
                let trigger = if by_time { "time_threshold" } else { "reordering_threshold" };
                let header = json!({ "packet_type": kind.name(), "packet_number": number });
                line("recovery:packet_lost", json!({ "header": header, "trigger": trigger }))
            }
            Event::Metrics(ref metrics) => self.write_metrics(record, metrics, writer),
            Event::State(state) => {
                let new = match state {
                    State::Attempted { .. } => "attempted",
                    State::Connected => "handshake_complete",
                    State::Closed => "closed",
                };
                if let State::Closed = state {
                    self.metrics.remove(&connection);
                }
                line("connectivity:connection_state_updated", json!({ "new": new }))
            }
        }
    }

    /// A record that says how many others are not there. The numbers may have changed meanwhile, and
    /// connections may have closed.
    pub(super) fn write_lost(&mut self, lost: u64, time: Duration, writer: &mut impl Write) -> io::Result<()> {
        if !self.has_header {
            self.write_header("unknown", writer)?;
        }
        self.metrics = HashMap::new();
        let message = format!("{lost} records were lost before this one, because the writer is slow");
        write_event(time, None, "loglevel:warning", json!({ "message": message }), writer)
    }

    /// In this order: a viewer looks for the version and the format at the beginning of the file.
    fn write_header(&mut self, side: &str, writer: &mut impl Write) -> io::Result<()> {
        self.has_header = true;
        let title = Value::from(self.title.as_str());
        let reference_time = self.begun.as_micros() as f64 / 1000.0;
        let trace = json!({
            "vantage_point": { "type": side },
            "title": title,
            "common_fields": { "time_format": "relative", "reference_time": reference_time },
        });
        writeln!(
            writer,
            "{RECORD_SEPARATOR}{{\"qlog_version\":\"0.3\",\"qlog_format\":\"JSON-SEQ\",\"title\":{title},\"trace\":{trace}}}"
        )
    }

    fn write_metrics(&mut self, record: &Record, metrics: &Metrics, writer: &mut impl Write) -> io::Result<()> {
        if self.metrics.len() >= MAX_CONNECTIONS {
            self.metrics.clear();
        }
        match metrics.changed(self.metrics.insert(record.connection, *metrics)) {
            Some(data) => write_event(record.time, Some(record.connection), "recovery:metrics_updated", data, writer),
            None => Ok(()),
        }
    }
}

fn packet(kind: PacketType, number: u64, length: u16, frames: &[Frame]) -> Value {
    let mut data = json!({ "header": { "packet_type": kind.name(), "packet_number": number } });
    if length != 0 {
        data["raw"] = json!({ "length": length });
    }
    if !frames.is_empty() {
        data["frames"] = frames.iter().map(Frame::json).collect();
    }
    data
}

fn write_event(
    time: Duration,
    connection: Option<u64>,
    name: &str,
    data: Value,
    writer: &mut impl Write,
) -> io::Result<()> {
    // A viewer that splits a log by connections wants each record to have one.
    let (time, connection) = (time.as_micros() as f64 / 1000.0, connection.unwrap_or_default());
    writeln!(
        writer,
        "{RECORD_SEPARATOR}{{\"time\":{time},\"group_id\":\"{connection}\",\"name\":\"{name}\",\"data\":{data}}}"
    )
}

/// Of how many connections the last numbers are kept, some 5 MB. Beyond that they are told once more.
const MAX_CONNECTIONS: usize = 1 << 16;

/// What begins each text of a sequence (RFC 7464 §2.2).
const RECORD_SEPARATOR: char = '\u{1e}';

#[cfg(test)]
mod tests {
    use super::*;

    /// The record of their end may be among the lost.
    #[test]
    fn numbers_of_connections_are_forgotten_with_lost_records_and_told_again() {
        let mut text = Text::new(String::new(), Duration::ZERO);
        let metrics = Metrics { congestion_window: 12_000, ..Default::default() };
        let write = |text: &mut Text, connection| {
            let mut written = Vec::new();
            let record = Record { time: Duration::ZERO, connection, event: Event::Metrics(metrics) };
            text.write(&record, &mut written).unwrap();
            !written.is_empty()
        };
        for connection in 0..1000 {
            assert!(write(&mut text, connection));
            assert!(!write(&mut text, connection));
        }
        text.write_lost(1, Duration::ZERO, &mut Vec::new()).unwrap();
        assert_eq!(text.metrics.len(), 0);
        assert!(write(&mut text, 1));
        for connection in 0..3 * MAX_CONNECTIONS as u64 {
            write(&mut text, connection);
            assert!(text.metrics.len() <= MAX_CONNECTIONS);
        }
    }

    #[test]
    fn numbers_are_told_when_they_have_changed() {
        let mut text = Text::new("a \"title\"".to_owned(), Duration::from_secs(1));
        let mut written = Vec::new();
        let metrics = Metrics { congestion_window: 12_000, smoothed_rtt: 1_500, ..Default::default() };
        for (at, connection) in [(1, 1), (2, 1), (3, 2)] {
            let record = Record { time: Duration::from_micros(at), connection, event: Event::Metrics(metrics) };
            text.write(&record, &mut written).unwrap();
        }
        let text = String::from_utf8(written).unwrap();
        let records: Vec<Value> =
            text.split(RECORD_SEPARATOR).skip(1).map(|record| serde_json::from_str(record).unwrap()).collect();
        assert_eq!(records[0]["title"], "a \"title\"");
        assert_eq!(records.len(), 3);
        assert_eq!(
            records[1]["data"],
            json!({ "bytes_in_flight": 0, "congestion_window": 12_000, "smoothed_rtt": 1.5 })
        );
        assert_eq!((&records[1]["time"], &records[2]["group_id"]), (&json!(0.001), &json!("2")));
    }
}
