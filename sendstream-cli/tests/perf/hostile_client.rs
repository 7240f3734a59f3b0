//! Clients made by hand that do not keep to what was agreed on. The server sends each away with a
//! reason, and serves the next.

use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use sendstream::{Client, Connection, ConnectionError, RecvStream, SendStream, TransportConfig, Trust};

use crate::support::{HANG, Serve, TicketParts};

pub(crate) const ALPN: &str = "sendstream-perf/1";
pub(crate) const READY: u8 = 1;
pub(crate) const SAMPLE: u8 = 2;
pub(crate) const STOP: u8 = 3;
pub(crate) const SENT: u8 = 4;
pub(crate) const REPORT: u8 = 5;

/// A plan as it goes out.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) load: u8,
    pub(crate) direction: u8,
    pub(crate) kind: u8,
    pub(crate) streams: u16,
    pub(crate) size: u32,
    pub(crate) amount: u64,
    pub(crate) omit: u32,
    pub(crate) sample: u32,
}

/// An upload of a second.
pub(crate) const UPLOAD: Plan =
    Plan { load: 0, direction: 0, kind: 0, streams: 1, size: 0, amount: 1000, omit: 0, sample: 100 };

pub(crate) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], (body.len() as u16).to_be_bytes().as_slice(), body].concat()
}

/// A tally of one stream.
pub(crate) fn tally(bytes: u64) -> Vec<u8> {
    let numbers = [bytes, 0, 1_000_000, bytes, 0].map(u64::to_be_bytes).concat();
    [1u16.to_be_bytes().as_slice(), &numbers].concat()
}

/// A tally of nothing.
pub(crate) fn none() -> Vec<u8> {
    vec![0; 2 + 4 * 8]
}

struct Stranger {
    connection: Connection,
    token: [u8; 16],
}

impl Stranger {
    fn connect(serve: &Serve) -> Self {
        let TicketParts { certificate, token, .. } = TicketParts::of(&serve.target);
        let transport = TransportConfig::default().idle_timeout(HANG).keep_alive(Duration::from_secs(1));
        let client = Client::builder().alpn([ALPN]).trust(Trust::pinned([certificate])).transport(transport);
        let connection = block_on(client.build().unwrap().connect(serve.address, "sendstream")).unwrap();
        Self { connection, token }
    }

    fn hello(&self, plan: Plan) -> Vec<u8> {
        let Plan { load, direction, kind, streams, size, amount, omit, sample } = plan;
        [
            b"sendstream\x01".as_slice(),
            &self.token,
            &[load, direction, kind],
            &streams.to_be_bytes(),
            &size.to_be_bytes(),
            &amount.to_be_bytes(),
            &omit.to_be_bytes(),
            &sample.to_be_bytes(),
        ]
        .concat()
    }

    /// Begins a run.
    fn begin(&self, plan: Plan) -> (SendStream, RecvStream) {
        let (mut control, mut answer) = self.connection.open_bi().unwrap();
        block_on(control.write_all(&self.hello(plan))).unwrap();
        let mut ready = [0; 11];
        block_on(answer.read_exact(&mut ready)).unwrap();
        assert_eq!(ready[..3], [READY, 0, 8]);
        (control, answer)
    }

    /// The code and the reason with which the server closes the connection.
    fn is_closed(&self) -> (u64, String) {
        match block_on(self.connection.closed()) {
            ConnectionError::ApplicationClosed { code, reason, .. } => (code, reason.to_string()),
            other => panic!("closed otherwise: {other}"),
        }
    }
}

#[test]
fn a_hello_that_is_none_ends_the_connection_with_the_reason() {
    let serve = Serve::start(&[]);
    let good = Stranger::connect(&serve).hello(UPLOAD);
    for (place, byte, why) in [
        (0, b'x', "does not speak"),
        (10, 2, "version 2"),
        (27, 7, "unknown (7)"),
        (28, 3, "unknown (3)"),
        (29, 2, "unknown (2)"),
        (30, 0xff, "1 to 128 parallel streams"),
        (36, 0xff, "24 hours"),
    ] {
        let stranger = Stranger::connect(&serve);
        let mut hello = stranger.hello(UPLOAD);
        assert_eq!(hello, good);
        hello[place] = byte;
        let (mut control, _answer) = stranger.connection.open_bi().unwrap();
        block_on(control.write_all(&hello)).unwrap();
        let (code, reason) = stranger.is_closed();
        assert_eq!(code, 3, "{place}");
        assert!(reason.contains(why), "{reason}");
        serve.process.says("cannot talk to the client");
    }
    serve.measure(&["-n", "1"]);
}

#[test]
fn a_client_that_says_nothing_holds_up_nobody() {
    let serve = Serve::start(&[]);
    // As many as have places, and more.
    let silent: Vec<_> = (0..20).map(|_| Stranger::connect(&serve)).collect();
    serve.measure(&["-n", "1"]);
    // Each is sent away in time, or when another took its place.
    for stranger in silent {
        assert!([4, 7].contains(&stranger.is_closed().0));
    }
}

#[test]
fn frames_that_may_not_be_end_the_run() {
    let serve = Serve::start(&[]);
    let total = [0; 16];
    let report = [none(), tally(0), vec![0; 16]].concat();
    for (frames, why) in [
        (frame(0, &[]), "unknown kind 0"),
        (frame(9, &[]), "unknown kind 9"),
        (vec![REPORT, 0xff, 0xff], "more than it announced"),
        (frame(SENT, &total[..15]), "less than it announced"),
        (frame(STOP, &[1]), "more than it announced"),
        (frame(READY, &[0; 8]), "may not say now"),
        ([frame(SENT, &total), frame(SENT, &total)].concat(), "may not say now"),
        (frame(REPORT, &report), "not agreed on"),
        (frame(REPORT, &[&[0xff, 0xff], report.as_slice()].concat()), "more than it announced"),
    ] {
        let stranger = Stranger::connect(&serve);
        let (mut control, _answer) = stranger.begin(UPLOAD);
        block_on(control.write_all(&frames)).unwrap();
        let (code, reason) = stranger.is_closed();
        assert_eq!(code, 3, "{reason}");
        assert!(reason.contains(why), "{reason}");
        assert_eq!(serve.ended()["ok"], false);
    }
    // A conversation that ends in the middle of a word.
    let stranger = Stranger::connect(&serve);
    let (mut control, _answer) = stranger.begin(UPLOAD);
    block_on(control.write_all(&[SENT])).unwrap();
    control.finish().unwrap();
    assert!(stranger.is_closed().1.contains("ended the conversation"));
    assert_eq!(serve.ended()["ok"], false);
    serve.measure(&["-n", "1"]);
}

/// Begins a run, does nothing more, and is sent away.
fn is_idle(plan: Plan) {
    let serve = Serve::start(&[]);
    let stranger = Stranger::connect(&serve);
    let (_control, _answer) = stranger.begin(Plan { amount: 60_000, ..plan });
    let (code, reason) = stranger.is_closed();
    assert_eq!(code, 4, "{reason}");
    assert!(reason.contains("nothing moved for 10 seconds"), "{reason}");
    assert_eq!(serve.ended()["ok"], false);
    serve.measure(&["-n", "1"]);
}

#[test]
fn a_client_that_sends_nothing_is_sent_away() {
    is_idle(UPLOAD);
}

#[test]
fn a_client_that_takes_nothing_is_sent_away() {
    is_idle(Plan { direction: 1, ..UPLOAD });
}

#[test]
fn messages_and_pings_beyond_what_was_agreed_on_end_the_run() {
    let serve = Serve::start(&[]);
    let messages = Plan { load: 1, size: 100, ..UPLOAD };
    let stranger = Stranger::connect(&serve);
    let _control = stranger.begin(messages);
    let mut stream = stranger.connection.open_uni().unwrap();
    drop(stream.send(vec![0; 101]));
    assert!(stranger.is_closed().1.contains("more than the 100 bytes"));

    let datagrams = Plan { load: 2, size: 100, ..UPLOAD };
    let stranger = Stranger::connect(&serve);
    let _control = stranger.begin(datagrams);
    drop(stranger.connection.send_datagram(Bytes::from_static(&[0; 101])));
    assert!(stranger.is_closed().1.contains("more than the 100 bytes"));

    let pings = Plan { load: 3, size: 100, ..UPLOAD };
    let stranger = Stranger::connect(&serve);
    let _control = stranger.begin(pings);
    let (mut stream, _answers) = stranger.connection.open_bi().unwrap();
    drop(stream.finish_with(vec![0; 150]));
    assert!(stranger.is_closed().1.contains("in the middle of a ping"));

    for _ in 0..3 {
        assert_eq!(serve.ended()["ok"], false);
    }
    serve.measure(&["-n", "1"]);
}

/// What a client says of itself changes nothing of what the server has counted.
#[test]
fn a_client_that_boasts_is_not_believed() {
    let serve = Serve::start(&[]);
    let stranger = Stranger::connect(&serve);
    let (mut control, mut answer) = stranger.begin(UPLOAD);
    let mut stream = stranger.connection.open_uni().unwrap();
    block_on(stream.finish_with(vec![0; 1000])).unwrap();
    let boast = [frame(SENT, &[0xff; 16]), frame(REPORT, &[tally(1 << 40), none(), vec![0; 16]].concat())].concat();
    block_on(control.send(boast)).unwrap();
    loop {
        let mut head = [0; 3];
        block_on(answer.read_exact(&mut head)).unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        block_on(answer.read_exact(&mut body)).unwrap();
        if head[0] == REPORT {
            break;
        }
    }
    stranger.connection.close(0, "").unwrap();
    let served = serve.ended();
    assert_eq!(served["received"]["bytes"], 1000, "{served}");
}
