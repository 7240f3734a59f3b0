//! The bytes between the two ends of a run, without a network.
//!
//! The client opens the first stream, "control". All numbers are big-endian.
//!
//! ```text
//! client   magic "sendstream" (10) · version (1) · token (16) · plan (25)
//! server   frame READY, and the run begins
//!
//! a frame  kind (1) · length (2) · body
//!   READY   server  the run's number (8)
//!   SAMPLE  server  how its sending goes, as often as the plan wants it
//!   STOP    client  asks the server to end its sending: the user wants no more
//!   SENT    both    this end's sending is over: bytes (8) · how many messages (8)
//!   REPORT  both    the last word of an end: what it sent and received, by its own count
//! ```
//!
//! What is measured travels on other streams, in datagrams, or in the handshakes of other
//! connections, which name the run's number as their server's name ([`handshake_name`]). An end that
//! does not want to go on closes the connection with a [`Code`](crate::protocol::Code) and a reason
//! for people.

use std::time::Duration;

use super::plan::{Amount, Direction, Load, MAX_STREAMS, Plan, PlanError};
use crate::ticket::Token;

/// The protocol's name in the TLS handshake. A change that old peers cannot read gets a new one.
pub(crate) const ALPN: &str = "sendstream-perf/1";

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) token: Token,
    pub(crate) plan: Plan,
}

impl Hello {
    /// How long every hello is.
    pub(crate) const LEN: usize = MAGIC.len() + 1 + Token::LEN + PLAN_LEN;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN);
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(self.token.as_bytes());
        encode_plan(&self.plan, &mut out);
        out
    }

    /// Checks all but whether the token is right.
    pub(crate) fn decode(message: &[u8; Self::LEN]) -> Result<Self, ProtocolError> {
        let mut rest = message.as_slice();
        if take::<{ MAGIC.len() }>(&mut rest)? != *MAGIC {
            return Err(ProtocolError::Magic);
        }
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(ProtocolError::Version(version));
        }
        Ok(Self { token: Token::from_bytes(take(&mut rest)?), plan: decode_plan(&mut rest)? })
    }
}

/// What follows the hello, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Ready { run: u64 },
    Sample(Sample),
    Stop,
    Sent(Total),
    Report(Report),
}

/// How an end's sending goes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sample {
    /// The number of the moment: the first sample is number 1.
    pub(crate) number: u32,
    /// The smoothed round-trip time in microseconds.
    pub(crate) rtt: u64,
    /// The congestion window in bytes.
    pub(crate) cwnd: u64,
    /// How many packets were lost since the connection began.
    pub(crate) lost: u64,
}

/// All that went one way by one end's count, with what was omitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Total {
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

/// One direction by one end's count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// The bytes of each stream after the omitted beginning.
    pub(crate) streams: Vec<u64>,
    /// How many messages there were after it.
    pub(crate) messages: u64,
    /// How long that took, in microseconds.
    pub(crate) micros: u64,
    pub(crate) total: Total,
}

impl Tally {
    /// The bytes of all streams.
    pub(crate) fn bytes(&self) -> u64 {
        self.streams.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    pub(crate) fn seconds(&self) -> f64 {
        Duration::from_micros(self.micros).as_secs_f64()
    }
}

/// The last word of an end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Report {
    pub(crate) sent: Tally,
    pub(crate) received: Tally,
    /// Packets that this end lost on their way to the other.
    pub(crate) lost: u64,
    /// Packets that this end sent.
    pub(crate) packets: u64,
}

impl Frame {
    /// The longest body of a frame.
    pub(crate) const MAX_BODY: usize = 2 * (2 + MAX_STREAMS as usize * 8 + 4 * 8) + 2 * 8;
    /// What precedes the body.
    pub(crate) const HEAD_LEN: usize = 3;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let kind = match self {
            Self::Ready { run } => {
                put(&mut body, [*run]);
                KIND_READY
            }
            Self::Sample(sample) => {
                body.extend_from_slice(&sample.number.to_be_bytes());
                put(&mut body, [sample.rtt, sample.cwnd, sample.lost]);
                KIND_SAMPLE
            }
            Self::Stop => KIND_STOP,
            Self::Sent(total) => {
                put(&mut body, [total.bytes, total.messages]);
                KIND_SENT
            }
            Self::Report(report) => {
                encode_tally(&report.sent, &mut body);
                encode_tally(&report.received, &mut body);
                put(&mut body, [report.lost, report.packets]);
                KIND_REPORT
            }
        };
        let len = u16::try_from(body.len()).expect("no body is longer than MAX_BODY");
        [&[kind], len.to_be_bytes().as_slice(), &body].concat()
    }

    /// How long the body is that follows, and of what kind.
    pub(crate) fn decode_head([kind, high, low]: [u8; Self::HEAD_LEN]) -> Result<(u8, usize), ProtocolError> {
        if !(KIND_READY..=KIND_REPORT).contains(&kind) {
            return Err(ProtocolError::Kind(kind));
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > Self::MAX_BODY { Err(ProtocolError::TooMuch) } else { Ok((kind, len)) }
    }

    pub(crate) fn decode(kind: u8, mut body: &[u8]) -> Result<Self, ProtocolError> {
        let rest = &mut body;
        let frame = match kind {
            KIND_READY => Self::Ready { run: number(rest)? },
            KIND_SAMPLE => Self::Sample(Sample {
                number: u32::from_be_bytes(take(rest)?),
                rtt: number(rest)?,
                cwnd: number(rest)?,
                lost: number(rest)?,
            }),
            KIND_STOP => Self::Stop,
            KIND_SENT => Self::Sent(decode_total(rest)?),
            KIND_REPORT => Self::Report(Report {
                sent: decode_tally(rest)?,
                received: decode_tally(rest)?,
                lost: number(rest)?,
                packets: number(rest)?,
            }),
            kind => return Err(ProtocolError::Kind(kind)),
        };
        if body.is_empty() { Ok(frame) } else { Err(ProtocolError::TooMuch) }
    }
}

/// How a peer broke this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("it does not speak Sendstream's protocol for measurements")]
    Magic,
    #[error("it speaks version {0} of the protocol, this is version {VERSION}; install the same release at both ends")]
    Version(u8),
    #[error("it sent a frame of the unknown kind {0}")]
    Kind(u8),
    #[error("it asked for something unknown ({0}); install the same release at both ends")]
    Unknown(u8),
    #[error("it sent less than it announced")]
    TooLittle,
    #[error("it sent more than it announced")]
    TooMuch,
    #[error("it asked for a run that cannot be: {0}")]
    Plan(#[from] PlanError),
}

/// The server's name in the handshakes that belong to a run.
pub(crate) fn handshake_name(run: u64) -> String {
    format!("{run:016x}.perf.sendstream")
}

fn encode_plan(plan: &Plan, out: &mut Vec<u8>) {
    let load = match plan.load {
        Load::Bulk => 0,
        Load::Messages(_) => 1,
        Load::Datagrams(_) => 2,
        Load::PingPong(_) => 3,
        Load::Handshakes => 4,
    };
    let direction = match plan.direction {
        Direction::Up => 0,
        Direction::Down => 1,
        Direction::Both => 2,
    };
    let (kind, amount) = match plan.amount {
        Amount::Time(time) => (0, millis(time)),
        Amount::Bytes(bytes) => (1, bytes),
    };
    out.extend_from_slice(&[load, direction, kind]);
    out.extend_from_slice(&plan.streams.to_be_bytes());
    out.extend_from_slice(&plan.load.size().unwrap_or(0).to_be_bytes());
    put(out, [amount]);
    for time in [plan.omit, plan.sample] {
        out.extend_from_slice(&u32::try_from(millis(time)).unwrap_or(u32::MAX).to_be_bytes());
    }
}

fn decode_plan(rest: &mut &[u8]) -> Result<Plan, ProtocolError> {
    let [load, direction, kind] = take(rest)?;
    let streams = u16::from_be_bytes(take(rest)?);
    let size = u32::from_be_bytes(take(rest)?);
    let amount = number(rest)?;
    let omit = u32::from_be_bytes(take(rest)?);
    let sample = u32::from_be_bytes(take(rest)?);
    let plan = Plan {
        load: match load {
            0 => Load::Bulk,
            1 => Load::Messages(size),
            2 => Load::Datagrams(size),
            3 => Load::PingPong(size),
            4 => Load::Handshakes,
            load => return Err(ProtocolError::Unknown(load)),
        },
        direction: match direction {
            0 => Direction::Up,
            1 => Direction::Down,
            2 => Direction::Both,
            direction => return Err(ProtocolError::Unknown(direction)),
        },
        streams,
        omit: Duration::from_millis(omit.into()),
        amount: match kind {
            0 => Amount::Time(Duration::from_millis(amount)),
            1 => Amount::Bytes(amount),
            kind => return Err(ProtocolError::Unknown(kind)),
        },
        sample: Duration::from_millis(sample.into()),
    };
    plan.check()?;
    Ok(plan)
}

fn encode_tally(tally: &Tally, out: &mut Vec<u8>) {
    let count = u16::try_from(tally.streams.len()).expect("a run has no more than MAX_STREAMS");
    out.extend_from_slice(&count.to_be_bytes());
    put(out, tally.streams.iter().copied());
    put(out, [tally.messages, tally.micros, tally.total.bytes, tally.total.messages]);
}

fn decode_tally(rest: &mut &[u8]) -> Result<Tally, ProtocolError> {
    let count = u16::from_be_bytes(take(rest)?);
    if count > MAX_STREAMS {
        return Err(ProtocolError::TooMuch);
    }
    let streams = (0..count).map(|_| number(rest)).collect::<Result<_, _>>()?;
    Ok(Tally { streams, messages: number(rest)?, micros: number(rest)?, total: decode_total(rest)? })
}

fn decode_total(rest: &mut &[u8]) -> Result<Total, ProtocolError> {
    Ok(Total { bytes: number(rest)?, messages: number(rest)? })
}

fn put(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u64>) {
    numbers.into_iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
}

fn number(rest: &mut &[u8]) -> Result<u64, ProtocolError> {
    Ok(u64::from_be_bytes(take(rest)?))
}

/// Takes `N` bytes from the front of `input`.
fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], ProtocolError> {
    let (taken, rest) = input.split_first_chunk().ok_or(ProtocolError::TooLittle)?;
    *input = rest;
    Ok(*taken)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const MAGIC: &[u8; 10] = b"sendstream";
const VERSION: u8 = 1;
const PLAN_LEN: usize = 3 + 2 + 4 + 8 + 4 + 4;
const KIND_READY: u8 = 1;
const KIND_SAMPLE: u8 = 2;
const KIND_STOP: u8 = 3;
const KIND_SENT: u8 = 4;
const KIND_REPORT: u8 = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::perf::plan;

    fn decode(mut bytes: &[u8]) -> Result<Frame, ProtocolError> {
        let (kind, len) = Frame::decode_head(take(&mut bytes)?)?;
        let (body, rest) = bytes.split_at_checked(len).ok_or(ProtocolError::TooLittle)?;
        assert!(rest.is_empty());
        Frame::decode(kind, body)
    }

    fn total() -> impl Strategy<Value = Total> {
        (any::<u64>(), any::<u64>()).prop_map(|(bytes, messages)| Total { bytes, messages })
    }

    fn tally() -> impl Strategy<Value = Tally> {
        let streams = prop::collection::vec(any::<u64>(), 0..=usize::from(MAX_STREAMS));
        (streams, any::<u64>(), any::<u64>(), total()).prop_map(|(streams, messages, micros, total)| Tally {
            streams,
            messages,
            micros,
            total,
        })
    }

    fn frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            any::<u64>().prop_map(|run| Frame::Ready { run }),
            (any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>())
                .prop_map(|(number, rtt, cwnd, lost)| Frame::Sample(Sample { number, rtt, cwnd, lost })),
            Just(Frame::Stop),
            total().prop_map(Frame::Sent),
            (tally(), tally(), any::<u64>(), any::<u64>())
                .prop_map(|(sent, received, lost, packets)| Frame::Report(Report { sent, received, lost, packets })),
        ]
    }

    fn plans() -> impl Strategy<Value = Plan> {
        let load = prop_oneof![
            Just(Load::Bulk),
            (1..=plan::MAX_MESSAGE).prop_map(Load::Messages),
            (1..=1500u32).prop_map(Load::Datagrams),
        ];
        let direction = prop_oneof![Just(Direction::Up), Just(Direction::Down), Just(Direction::Both)];
        let amount = prop_oneof![
            (1..=86_400_000u64).prop_map(|ms| Amount::Time(Duration::from_millis(ms))),
            (1..=u64::MAX).prop_map(Amount::Bytes),
        ];
        (load, direction, 1..=MAX_STREAMS, 0..=600_000u64, amount, 100..=60_000u64).prop_map(
            |(load, direction, streams, omit, amount, sample)| Plan {
                load,
                direction,
                streams,
                omit: Duration::from_millis(omit),
                amount,
                sample: Duration::from_millis(sample),
            },
        )
    }

    proptest! {
        #[test]
        fn frames_survive_the_round_trip(frame in frame()) {
            let bytes = frame.encode();
            prop_assert!(bytes.len() <= Frame::HEAD_LEN + Frame::MAX_BODY);
            prop_assert_eq!(decode(&bytes), Ok(frame));
        }

        #[test]
        fn hellos_survive_the_round_trip(plan in plans(), token in any::<[u8; Token::LEN]>()) {
            let hello = Hello { token: Token::from_bytes(token), plan };
            let bytes: [u8; Hello::LEN] = hello.encode().try_into().unwrap();
            prop_assert_eq!(Hello::decode(&bytes), Ok(hello));
        }

        #[test]
        fn no_body_makes_a_reader_fail_otherwise_than_by_an_error(kind in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..3000)) {
            if let Ok(frame) = Frame::decode(kind, &body) {
                // What is read has only one form.
                let encoded = frame.encode();
                prop_assert_eq!(&encoded[Frame::HEAD_LEN..], &body[..]);
            }
        }

        #[test]
        fn a_plan_that_is_read_is_within_the_limits(bytes in any::<[u8; 32]>(), rest in any::<[u8; 32]>()) {
            let mut message = [0; Hello::LEN];
            message[..11].copy_from_slice(b"sendstream\x01");
            message[27..].copy_from_slice(&[bytes, rest].concat()[..PLAN_LEN]);
            // Most random numbers name nothing that is known.
            message[27] %= 5;
            message[28] %= 3;
            message[29] %= 2;
            message[30] = 0;
            if let Ok(hello) = Hello::decode(&message) {
                prop_assert_eq!(hello.plan.check(), Ok(()));
            }
        }

        #[test]
        fn a_frame_that_is_cut_is_no_frame(frame in frame(), cut in any::<prop::sample::Index>()) {
            let bytes = frame.encode();
            let body = &bytes[Frame::HEAD_LEN..];
            if !body.is_empty() {
                let body = &body[..cut.index(body.len())];
                prop_assert!(Frame::decode(bytes[0], body).is_err());
            }
        }
    }

    #[test]
    fn hellos_of_others_are_told_apart() {
        let hello = Hello { token: Token::from_bytes([7; 16]), plan: plan::example() }.encode();
        let spoilt = |place: usize, byte: u8| {
            let mut bytes: [u8; Hello::LEN] = hello.clone().try_into().unwrap();
            bytes[place] = byte;
            Hello::decode(&bytes).unwrap_err()
        };
        assert_eq!(spoilt(0, b'x'), ProtocolError::Magic);
        assert_eq!(spoilt(10, 2), ProtocolError::Version(2));
        assert_eq!(spoilt(27, 9), ProtocolError::Unknown(9));
        assert_eq!(spoilt(28, 9), ProtocolError::Unknown(9));
        assert_eq!(spoilt(29, 9), ProtocolError::Unknown(9));
        assert_eq!(spoilt(30, 255), ProtocolError::Plan(PlanError::Streams));
    }

    #[test]
    fn a_head_that_promises_too_much_is_refused_before_its_body() {
        assert_eq!(Frame::decode_head([KIND_REPORT, 0xff, 0xff]), Err(ProtocolError::TooMuch));
        assert_eq!(Frame::decode_head([0, 0, 0]), Err(ProtocolError::Kind(0)));
        assert_eq!(Frame::decode_head([6, 0, 0]), Err(ProtocolError::Kind(6)));
    }
}
