//! The records of a qlog, and their text.

use std::{
    collections::HashMap,
    io::{self, Write},
    time::Duration,
};

use serde_json::{Value, json};

/// What happened, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// Since the stream began.
    pub(crate) time: Duration,
    /// The connection's number in the stream.
    pub(crate) connection: u64,
    pub(crate) event: Event,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Sent { kind: PacketType, number: u64, length: u16, metrics: Metrics },
    Received { kind: PacketType, number: u64, length: u16, acknowledged: Acknowledged },
    Lost { kind: PacketType, number: u64, by_time: bool },
    Metrics(Metrics),
    State(State),
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

/// The first ranges of packet numbers that an ACK frame acknowledges, the highest first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Acknowledged {
    ranges: [(u64, u64); Self::MOST],
    count: usize,
}

impl Acknowledged {
    /// A frame that acknowledges more is about packets that earlier ones were about as well.
    const MOST: usize = 8;

    /// What the first ACK frame says, of a packet that has one at its beginning, as MsQuic's and
    /// others' do. The peer wrote the frames, and nobody has checked them.
    pub(crate) fn first_in(mut frames: &[u8]) -> Self {
        const PADDING: u64 = 0x00;
        const PING: u64 = 0x01;
        const ACK: u64 = 0x02;
        const ACK_ECN: u64 = 0x03;
        const HANDSHAKE_DONE: u64 = 0x1e;
        while let Some(frame) = number(&mut frames) {
            match frame {
                PADDING | PING | HANDSHAKE_DONE => {}
                ACK | ACK_ECN => return Self::read(&mut frames).unwrap_or_default(),
                _ => break,
            }
        }
        Self::default()
    }

    /// The fields of RFC 9000 §19.3.
    fn read(frames: &mut &[u8]) -> Option<Self> {
        let mut acknowledged = Self::default();
        let mut high = number(frames)?;
        let _delay = number(frames)?;
        let mut further = number(frames)?;
        loop {
            let low = high.checked_sub(number(frames)?)?;
            acknowledged.ranges[acknowledged.count] = (low, high);
            acknowledged.count += 1;
            if further == 0 || acknowledged.count == Self::MOST {
                return Some(acknowledged);
            }
            further -= 1;
            high = low.checked_sub(number(frames)?)?.checked_sub(2)?;
        }
    }

    /// Without the ranges that are not all below `end`: those acknowledge what was never sent.
    pub(crate) fn below(mut self, end: u64) -> Self {
        // The highest are the first.
        let above = self.ranges().iter().take_while(|(_, high)| *high >= end).count();
        self.ranges.rotate_left(above);
        self.count -= above;
        self
    }

    fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges[..self.count]
    }
}

/// Takes an integer of variable length (RFC 9000 §16).
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    *bytes = rest;
    Some(number[1..].iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
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
        let Record { time, connection, event } = *record;
        if !self.has_header {
            let side = match event {
                Event::State(State::Attempted { is_server: true }) => "server",
                Event::State(State::Attempted { is_server: false }) => "client",
                _ => "unknown",
            };
            self.write_header(side, writer)?;
        }
        let mut line = |name: &str, data: Value| write_event(time, Some(connection), name, data, writer);
        match event {
            Event::Sent { kind, number, length, metrics } => {
                line("transport:packet_sent", packet(kind, number, length, &[]))?;
                self.write_metrics(record, &metrics, writer)
            }
            Event::Received { kind, number, length, acknowledged } => {
                line("transport:packet_received", packet(kind, number, length, acknowledged.ranges()))
            }
            Event::Lost { kind, number, by_time } => {
                let trigger = if by_time { "time_threshold" } else { "reordering_threshold" };
                let header = json!({ "packet_type": kind.name(), "packet_number": number });
                line("recovery:packet_lost", json!({ "header": header, "trigger": trigger }))
            }
            Event::Metrics(metrics) => self.write_metrics(record, &metrics, writer),
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

fn packet(kind: PacketType, number: u64, length: u16, acknowledged: &[(u64, u64)]) -> Value {
    let mut data = json!({ "header": { "packet_type": kind.name(), "packet_number": number } });
    if length != 0 {
        data["raw"] = json!({ "length": length });
    }
    if !acknowledged.is_empty() {
        data["frames"] = json!([{ "frame_type": "ack", "acked_ranges": acknowledged }]);
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

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let ranges = |frames: &[u8]| Acknowledged::first_in(frames).ranges().to_vec();
        // Of packet 10 and 9, then of 6 to 4.
        assert_eq!(ranges(&[0, 1, 0x02, 10, 0, 1, 1, 1, 2]), [(9, 10), (4, 6)]);
        assert_eq!(ranges(&[0x03, 0x41, 0x00, 0x40, 0x25, 0, 0]), [(256, 256)]);
        // No acknowledgement at the beginning.
        assert_eq!(ranges(&[0x06, 0, 0, 0x02, 1, 0, 0, 0]), []);
        // A peer may write what it likes.
        for wrong in
            [&[][..], &[0x02], &[0x02, 5, 0, 0, 6], &[0x02, 5, 0, 1, 1, 9, 1], &[0x02, 0xff, 1], &[0x02, 9, 0, 0]]
        {
            assert_eq!(ranges(wrong), [], "{wrong:?}");
        }
        let many: Vec<u8> = [0x02, 0x41, 0x00, 0, 63].into_iter().chain([0; 200]).collect();
        assert_eq!(ranges(&many).len(), Acknowledged::MOST);
    }

    #[test]
    fn ranges_of_packets_that_were_never_sent_are_left_out() {
        let ranges = |frames: &[u8], end| Acknowledged::first_in(frames).below(end).ranges().to_vec();
        // Of packet 10 and 9, then of 6 to 4.
        let two = [0x02, 10, 0, 1, 1, 1, 2];
        assert_eq!(ranges(&two, 11), [(9, 10), (4, 6)]);
        assert_eq!(ranges(&two, 10), [(4, 6)]);
        assert_eq!(ranges(&two, 6), []);
        assert_eq!(ranges(&two, 0), []);
        // Of all packets that there can be.
        let all = [&[0x02][..], &[0xff; 8], &[0, 0], &[0xff; 8]].concat();
        assert_eq!(ranges(&all, u64::MAX), [(0, (1 << 62) - 1)]);
        assert_eq!(ranges(&all, 1000), []);
    }

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
