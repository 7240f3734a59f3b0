//! What a run does. The client says it in its hello, and both ends hold to it.

use std::time::Duration;

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) load: Load,
    pub(crate) direction: Direction,
    /// How many streams send at once; of messages, datagrams, pings and handshakes: how many senders.
    pub(crate) streams: u16,
    /// How long a beginning counts for nothing: congestion control finds its rate then.
    pub(crate) omit: Duration,
    pub(crate) amount: Amount,
    /// How often the server says how its sending goes; zero for never.
    pub(crate) sample: Duration,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Streams without end.
    Bulk,
    /// Messages of so many bytes, each a stream of its own.
    Messages(u32),
    /// Datagrams of so many bytes.
    Datagrams(u32),
    /// Requests of so many bytes, and as long an answer to each, on streams that stay.
    PingPong(u32),
    /// Connections of the client's, each closed once it is there.
    Handshakes,
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The client.
    Up,
    /// The server.
    Down,
    /// Both at once.
    Both,
}

/// When the senders end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    /// So long after the omitted beginning.
    Time(Duration),
    /// After so many bytes, beside those of the omitted beginning, in each direction.
    Bytes(u64),
}

/// One of the two ends of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Server,
}

/// What is wrong with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("a run has 1 to {MAX_STREAMS} parallel streams (-P)")]
    Streams,
    #[error("a run takes up to {} hours", MAX_TIME.as_secs() / 3600)]
    Time,
    #[error("a run moves 1 byte at least (-n)")]
    Bytes,
    #[error("up to {} seconds can be omitted (-O)", MAX_OMIT.as_secs())]
    Omit,
    #[error("an interval (-i) is 0.1 to {} seconds, or 0 for none", MAX_SAMPLE.as_secs())]
    Sample,
    #[error("a message has 1 to {MAX_MESSAGE} bytes")]
    Message,
    #[error("a datagram has 1 to {MAX_DATAGRAM} bytes")]
    Datagram,
    #[error("pings and handshakes are counted from the client alone: no -R and no --bidir")]
    Direction,
    #[error("pings and handshakes take a time (-t), and no number of bytes (-n)")]
    Amount,
}

impl Plan {
    /// Says whether the plan can be carried out.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        let one_way = matches!(self.load, Load::PingPong(_) | Load::Handshakes);
        let size_fits = match self.load {
            Load::Bulk | Load::Handshakes => Ok(()),
            Load::Messages(size) | Load::PingPong(size) => is_within(size, MAX_MESSAGE).ok_or(PlanError::Message),
            Load::Datagrams(size) => is_within(size, MAX_DATAGRAM).ok_or(PlanError::Datagram),
        };
        size_fits?;
        match self.amount {
            Amount::Time(time) if time.is_zero() || time > MAX_TIME => return Err(PlanError::Time),
            Amount::Bytes(0) => return Err(PlanError::Bytes),
            Amount::Bytes(_) if one_way => return Err(PlanError::Amount),
            _ => {}
        }
        if self.streams == 0 || self.streams > MAX_STREAMS {
            Err(PlanError::Streams)
        } else if self.omit > MAX_OMIT {
            Err(PlanError::Omit)
        } else if !self.sample.is_zero() && !(MIN_SAMPLE..=MAX_SAMPLE).contains(&self.sample) {
            Err(PlanError::Sample)
        } else if one_way && self.direction != Direction::Up {
            Err(PlanError::Direction)
        } else {
            Ok(())
        }
    }

    /// Whether an end sends.
    pub(crate) fn sends(&self, end: End) -> bool {
        match self.direction {
            Direction::Up => end == End::Client,
            Direction::Down => end == End::Server,
            Direction::Both => true,
        }
    }

    /// Whether an end receives.
    pub(crate) fn receives(&self, end: End) -> bool {
        self.sends(end.other())
    }

    /// How many counts there are of what is sent in one direction. Streams that last have one each.
    pub(crate) fn slots(&self) -> usize {
        if self.load == Load::Bulk { self.streams.into() } else { 1 }
    }

    /// How long the run may take until its senders end; `None` if that is not a matter of time.
    pub(crate) fn time(&self) -> Option<Duration> {
        match self.amount {
            Amount::Time(time) => Some(self.omit + time),
            Amount::Bytes(_) => None,
        }
    }
}

impl End {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl Load {
    /// What one of them is called in the plural, if they are counted.
    pub(crate) fn units(self) -> Option<&'static str> {
        match self {
            Self::Bulk => None,
            Self::Messages(_) => Some("messages"),
            Self::Datagrams(_) => Some("datagrams"),
            Self::PingPong(_) => Some("pings"),
            Self::Handshakes => Some("handshakes"),
        }
    }

    /// The load's name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PingPong(_) => "ping-pong",
            _ => self.units().unwrap_or("bulk"),
        }
    }

    /// How many bytes each of them has, if that is agreed on.
    pub(crate) fn size(self) -> Option<u32> {
        match self {
            Self::Messages(size) | Self::Datagrams(size) | Self::PingPong(size) => Some(size),
            Self::Bulk | Self::Handshakes => None,
        }
    }
}

fn is_within(size: u32, most: u32) -> Option<()> {
    (1..=most).contains(&size).then_some(())
}

/// As many as iperf3 has.
pub(crate) const MAX_STREAMS: u16 = 128;
/// The longest message, and all that a sender has in memory.
pub(crate) const MAX_MESSAGE: u32 = 1 << 20;
/// What no datagram exceeds; mostly a path carries less.
const MAX_DATAGRAM: u32 = 65_527;
pub(crate) const MAX_TIME: Duration = Duration::from_secs(24 * 3600);
const MAX_OMIT: Duration = Duration::from_secs(600);
pub(crate) const MIN_SAMPLE: Duration = Duration::from_millis(100);
const MAX_SAMPLE: Duration = Duration::from_secs(60);

#[cfg(test)]
pub(crate) fn example() -> Plan {
    Plan {
        load: Load::Bulk,
        direction: Direction::Up,
        streams: 1,
        omit: Duration::ZERO,
        amount: Amount::Time(Duration::from_secs(10)),
        sample: Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_beyond_a_limit_is_refused_by_its_name() {
        let base = example();
        assert_eq!(base.check(), Ok(()));
        for (plan, error) in [
            (Plan { streams: 0, ..base }, PlanError::Streams),
            (Plan { streams: 129, ..base }, PlanError::Streams),
            (Plan { amount: Amount::Time(Duration::ZERO), ..base }, PlanError::Time),
            (Plan { amount: Amount::Time(MAX_TIME + Duration::from_millis(1)), ..base }, PlanError::Time),
            (Plan { amount: Amount::Bytes(0), ..base }, PlanError::Bytes),
            (Plan { omit: Duration::from_secs(601), ..base }, PlanError::Omit),
            (Plan { sample: Duration::from_millis(99), ..base }, PlanError::Sample),
            (Plan { sample: Duration::from_secs(61), ..base }, PlanError::Sample),
            (Plan { load: Load::Messages(0), ..base }, PlanError::Message),
            (Plan { load: Load::Messages(MAX_MESSAGE + 1), ..base }, PlanError::Message),
            (Plan { load: Load::Datagrams(0), ..base }, PlanError::Datagram),
            (Plan { load: Load::PingPong(64), direction: Direction::Down, ..base }, PlanError::Direction),
            (Plan { load: Load::Handshakes, direction: Direction::Both, ..base }, PlanError::Direction),
            (Plan { load: Load::Handshakes, amount: Amount::Bytes(1), ..base }, PlanError::Amount),
        ] {
            assert_eq!(plan.check(), Err(error));
        }
    }

    #[test]
    fn who_sends_follows_from_the_direction() {
        let sends = |direction| {
            let plan = Plan { direction, ..example() };
            assert_eq!(plan.sends(End::Client), plan.receives(End::Server));
            (plan.sends(End::Client), plan.sends(End::Server))
        };
        assert_eq!(sends(Direction::Up), (true, false));
        assert_eq!(sends(Direction::Down), (false, true));
        assert_eq!(sends(Direction::Both), (true, true));
    }
}
