//! Peers that have not shown the token: a pool of their own, so that they take no place of those that have.
//!
//! A stranger gets no thread, one stream and a few KiB ([`transport::for_strangers`]), and may send one message of fixed length within
//! [`PATIENCE`](transport::PATIENCE) of its first packet, handshake included. Then it is trusted, or
//! turned away.
//!
//! The pool has [`MAX_STRANGERS`] places. When it is full, a newcomer takes the place of the oldest
//! of the address that has most, so an address can fill the pool only as long as no other wants in.
//! An honest client needs its place for some round trips, and comes again if it lost it
//! ([`Code::Full`]). Few addresses can be forged here: the library has clients prove theirs once half
//! as many handshakes are under way as may wait to be accepted.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::pin,
    task::Poll,
    time::Instant,
};

use futures::{
    FutureExt as _, StreamExt as _,
    channel::oneshot,
    future::{self, Either, LocalBoxFuture, select},
    stream::FuturesUnordered,
};
use sendstream::{Connection, Incoming, RecvStream, SendStream};

use crate::{
    error::{Failure, OtherEnd},
    peers::{Guest, Guests},
    protocol::{Code, Hello, Role},
    timer::{self, Sleep},
    transport,
};

/// The strangers of a server.
pub(crate) struct Strangers<'a> {
    guests: &'a Guests,
    /// What those that have the token are expected to do, for messages.
    role: Role,
    /// Those that may still show the token, the oldest first.
    waiting: VecDeque<Stranger>,
    /// Those, and others that are on their way out.
    greetings: FuturesUnordered<LocalBoxFuture<'a, Greeted>>,
    /// Number of the next one.
    next: u64,
    /// Rings when the oldest may have waited for long enough. At most one is set.
    alarm: Option<Sleep>,
}

/// One that has a place.
struct Stranger {
    number: u64,
    network: IpAddr,
    since: Instant,
    /// Sends it away.
    dismiss: oneshot::Sender<Code>,
}

/// How a stranger's greeting ended.
pub(crate) struct Greeted {
    number: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) result: Result<Trusted, TurnedAway>,
}

/// Why a stranger is none of ours.
pub(crate) enum TurnedAway {
    /// It said or did something else than a client.
    Failed(Failure),
    /// It left, or had to leave, before it had said anything.
    Silent,
}

/// A peer that has shown the token, and was told nothing yet.
pub(crate) struct Trusted {
    pub(crate) connection: Connection,
    /// Who it is, if it is a known peer.
    pub(crate) guest: Guest,
    pub(crate) hello: Hello,
    pub(crate) control: RecvStream,
    pub(crate) answer: SendStream,
}

impl<'a> Strangers<'a> {
    /// An empty pool of those that may show a token that `guests` have.
    pub(crate) fn new(guests: &'a Guests, role: Role) -> Self {
        Self { guests, role, waiting: VecDeque::new(), greetings: FuturesUnordered::new(), next: 0, alarm: None }
    }

    /// Gives a connection a place, which it may take from another.
    pub(crate) fn admit(&mut self, incoming: Incoming) {
        if self.waiting.len() >= MAX_STRANGERS {
            let place = crowded(self.waiting.iter().map(|stranger| stranger.network));
            self.dismiss(place, Code::Full);
        }
        let (number, peer) = (self.next, incoming.remote_addr());
        let (dismiss, dismissed) = oneshot::channel();
        self.next += 1;
        self.waiting.push_back(Stranger { number, network: network(peer), since: Instant::now(), dismiss });
        let greeting = greet(incoming, self.guests, self.role, dismissed);
        self.greetings.push(Box::pin(async move { Greeted { number, peer, result: greeting.await } }));
        self.set_alarm();
    }

    /// Waits until one has shown the token or goes. Dropping the future loses nobody.
    pub(crate) async fn next(&mut self) -> Greeted {
        let greeted = future::poll_fn(|cx| {
            while let Some(alarm) = &mut self.alarm
                && alarm.poll_unpin(cx).is_ready()
            {
                self.alarm = None;
                self.dismiss_late();
                self.set_alarm();
            }
            match self.greetings.poll_next_unpin(cx) {
                Poll::Ready(Some(greeted)) => Poll::Ready(greeted),
                // The listener admits others, and comes again then.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            }
        });
        let greeted = greeted.await;
        self.waiting.retain(|stranger| stranger.number != greeted.number);
        greeted
    }

    /// Whether nobody is left, also of those on their way out.
    pub(crate) fn is_empty(&self) -> bool {
        self.greetings.is_empty()
    }

    /// Sends everybody away.
    pub(crate) fn dismiss_all(&mut self, code: Code) {
        while !self.waiting.is_empty() {
            self.dismiss(0, code);
        }
    }

    fn dismiss_late(&mut self) {
        while self.waiting.front().is_some_and(|oldest| oldest.since.elapsed() >= transport::PATIENCE) {
            self.dismiss(0, Code::TooSlow);
        }
    }

    fn dismiss(&mut self, place: usize, code: Code) {
        if let Some(stranger) = self.waiting.remove(place) {
            // It may be through already.
            let _ = stranger.dismiss.send(code);
        }
    }

    /// Sets the alarm for the oldest, unless it is set.
    fn set_alarm(&mut self) {
        let (None, Some(oldest)) = (&self.alarm, self.waiting.front()) else { return };
        match timer::sleep(transport::PATIENCE.saturating_sub(oldest.since.elapsed())) {
            Ok(sleep) => self.alarm = Some(sleep),
            // Nobody would watch them, and they could wait for ever.
            Err(_) => self.dismiss_all(Code::TooSlow),
        }
    }
}

/// Accepts the connection, reads the hello and checks the token, until the stranger is dismissed.
async fn greet(
    incoming: Incoming,
    guests: &Guests,
    role: Role,
    mut dismissed: oneshot::Receiver<Code>,
) -> Result<Trusted, TurnedAway> {
    let connection = match select(pin!(incoming.accept()), &mut dismissed).await {
        Either::Left((Ok(connection), _)) => connection,
        // Whoever it was: it may have been nobody.
        Either::Left((Err(_), _)) | Either::Right(_) => return Err(TurnedAway::Silent),
    };
    match select(pin!(hear(&connection, guests, role)), dismissed).await {
        Either::Left((heard, _)) => heard,
        Either::Right((code, _)) => {
            let code = code.unwrap_or(Code::Interrupted);
            transport::close(&connection, code);
            Err(match code {
                Code::Full => TurnedAway::Silent,
                _ => TurnedAway::Failed(OtherEnd::Client(role).lost(&connection.closed().await)),
            })
        }
    }
}

async fn hear(connection: &Connection, guests: &Guests, role: Role) -> Result<Trusted, TurnedAway> {
    let (answer, mut control) = connection.accept_bi().await.map_err(|_| TurnedAway::Silent)?;
    let mut hello = [0; Hello::LEN];
    control.read_exact(&mut hello).await.map_err(|_| TurnedAway::Silent)?;
    let (code, why) = match Hello::decode(&hello) {
        Ok(hello) => match guests.who_has(&hello.token) {
            Some(guest) => return Ok(Trusted { connection: connection.clone(), guest, hello, control, answer }),
            None => {
                let nothing = role.other().nothing();
                (Code::WrongToken, Failure::new(format!("it has the wrong token; {nothing}")))
            }
        },
        Err(error) => (Code::BadMessage, OtherEnd::Client(role).broke(error)),
    };
    transport::close(connection, code);
    Err(TurnedAway::Failed(why))
}

/// The place of the oldest of the network that has most places.
pub(crate) fn crowded(networks: impl Iterator<Item = IpAddr>) -> usize {
    let mut places = HashMap::new();
    for (place, network) in networks.enumerate() {
        places.entry(network).or_insert((0, Reverse(place))).0 += 1;
    }
    places.into_values().max().map_or(0, |(_, Reverse(oldest))| oldest)
}

/// What stands for all addresses that one stranger can be expected to have: an IPv4 address, or the
/// network of 64 bits around an IPv6 one.
pub(crate) fn network(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

/// How many strangers may wait.
const MAX_STRANGERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn crowded(networks: &[u8]) -> usize {
        super::crowded(networks.iter().map(|network| IpAddr::from([192, 0, 2, *network])))
    }

    #[test]
    fn the_oldest_of_the_address_with_most_places_makes_room() {
        assert_eq!(crowded(&[1]), 0);
        assert_eq!(crowded(&[1, 2, 3]), 0, "of as many, the oldest");
        assert_eq!(crowded(&[1, 2, 3, 2]), 1);
        assert_eq!(crowded(&[1, 2, 2, 1, 1]), 0);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let network = |peer: &str| network(peer.parse().unwrap());
        assert_eq!(network("[2001:db8::1]:1"), network("[2001:db8::2]:2"));
        assert_ne!(network("[2001:db8::1]:1"), network("[2001:db8:0:1::1]:1"));
        assert_eq!(network("[::ffff:192.0.2.1]:1"), network("192.0.2.1:2"));
        assert_ne!(network("192.0.2.1:1"), network("192.0.2.2:1"));
    }
}
