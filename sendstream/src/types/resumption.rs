//! Resumption and 0-RTT: what a server allows, the keys of its tickets, and where a client keeps
//! them.
//!
//! # What a ticket is
//!
//! After the handshake a server that resumes sends its client a ticket (RFC 8446 §4.6.1): the
//! session's secret, encrypted with a key that only servers have. A client shows it later, and the
//! server recognises the session: both sides leave out the certificate and its signature. If the
//! server allows 0-RTT, the client's first packets may already carry data.
//!
//! # What a ticket is worth
//!
//! A resumed session shows no certificate, so there is nothing for [`Trust`](crate::Trust) to judge
//! in its handshake. Sendstream therefore keeps the certificates together with the ticket
//! ([`ticket`]) and judges **them** once more, with the client's own `Trust` and at the moment of
//! use: pins, authorities, name, dates, and a verifier of
//! [`Trust::verify_with`](crate::Trust::verify_with), which is asked again. A ticket whose server
//! would not be believed now is not shown, and the handshake is a full one. A ticket is only kept
//! once its handshake is done, so its server was believed then, and holds the key of the
//! certificates that lie beside it.
//!
//! A server that asks its clients for certificates cannot resume: the client's chain is not in the
//! ticket, so it could not be judged again
//! ([`ConfigError::ResumptionOfClients`](crate::ConfigError::ResumptionOfClients)).

pub(crate) mod ticket;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ring::{
    digest, hkdf,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use crate::types::{config::ConfigError, server_name::ServerName};

/// Whether a server lets clients resume a session, and send data before the handshake is done
/// (`QUIC_SETTINGS::ServerResumptionLevel`).
///
/// # 0-RTT data can be replayed
///
/// An attacker can record a client's first packets and send them again, also to another server with
/// the same [`TicketKey`]. Each server takes them for the client's (RFC 9001 §9.2, RFC 8446 §8).
/// MsQuic does not remember the tickets that it has seen. It only refuses early data of a ticket
/// whose age is off by more than ten seconds. Early data has no forward secrecy against a server's
/// ticket key either. So a server must act on early data only if acting twice does no harm, as with
/// a read. The application protocol must define those cases (RFC 9001 §5.6). Each stream tells
/// whether it began early: [`RecvStream::is_early`](crate::RecvStream::is_early).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Resumption {
    /// Every handshake is a full one, and no ticket is sent.
    #[default]
    Off,
    /// Sessions are resumed, by clients that [keep tickets](crate::ClientBuilder::session_cache).
    /// Early data is refused.
    Resume,
    /// As `Resume`, and a client may send early data, which can be replayed: see above.
    ResumeAndZeroRtt,
}

/// A secret that session tickets are encrypted with (`QUIC_TICKET_KEY_CONFIG`).
///
/// Servers with the same key accept one another's tickets. An attacker who knows it can read the
/// early data of every session that was resumed with one of its tickets, and can pose as the server
/// to such a client. Keep it as secret as a certificate's private key, and replace it far more
/// often ([`Server::set_ticket_keys`](crate::Server::set_ticket_keys)).
///
/// Clones share one copy; its memory is zeroed when the last of them goes, and `Debug` prints
/// nothing of it.
#[derive(Clone)]
pub struct TicketKey(Arc<Zeroizing<[u8; 32]>>);

impl TicketKey {
    /// A key that nobody else has.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoRandomness`]: the system has none to give.
    pub fn generate() -> Result<Self, ConfigError> {
        let mut secret = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *secret).map_err(|_| ConfigError::NoRandomness)?;
        Ok(Self(Arc::new(secret)))
    }

    /// The key that these 32 bytes stand for. They must be random and secret, and the same on every
    /// server that is to accept the tickets. The name that a ticket calls its key by, and the key
    /// proper, are derived from them (HKDF, RFC 5869).
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(Arc::new(Zeroizing::new(secret)))
    }

    /// The 16 bytes by which a ticket names its key, and the 32 bytes of the key.
    pub(crate) fn derive(&self) -> ([u8; 16], Zeroizing<[u8; 32]>) {
        let (mut name, mut key) = ([0; 16], Zeroizing::new([0; 32]));
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"sendstream session tickets").extract(&self.0[..]);
        expand(&secret, b"name", &mut name);
        expand(&secret, b"key", &mut *key);
        (name, key)
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").finish_non_exhaustive()
    }
}

fn expand(secret: &hkdf::Prk, label: &'static [u8], place: &mut [u8]) {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    secret
        .expand(&[label], Length(place.len()))
        .and_then(|output| output.fill(place))
        .expect("HKDF gives up to 255 times 32 bytes, in the length that it was asked for");
}

/// The key under which a client keeps a server's tickets: the name that the client asked for, and
/// the application protocols that it offered.
///
/// The address is not in it: several servers may stand behind one name, and one that cannot read
/// another's ticket goes through a full handshake.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    server_name: String,
    alpn: Vec<Vec<u8>>,
}

impl SessionKey {
    /// The key for [`Client::connect`](crate::Client::connect) with `server_name`, by a client with
    /// these [protocols](crate::ClientBuilder::alpn) in this order.
    pub fn new(server_name: impl Into<String>, alpn: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        let given = server_name.into();
        let server_name = ServerName::parse(&given).map_or(given, |name| name.as_str().to_owned());
        Self { server_name, alpn: alpn.into_iter().map(Into::into).collect() }
    }

    /// The server's name as it was asked for: in lower case, in A-labels and without a dot at its
    /// end.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// The application protocols that were offered, the most wanted first.
    pub fn alpn(&self) -> &[Vec<u8>] {
        &self.alpn
    }

    /// The key as 64 hexadecimal digits, for caches that are files or tables: the SHA-256 hash of
    /// all that is in it. It does not hide the server's name from somebody who guesses it.
    pub fn to_hex(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in std::iter::once(self.server_name.as_bytes()).chain(self.alpn.iter().map(Vec::as_slice)) {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Where a client keeps the tickets of its servers:
/// [`ClientBuilder::session_cache`](crate::ClientBuilder::session_cache). [`MemorySessionCache`] is
/// one; a program that wants to resume in its next run writes its own, with a file for each key.
///
/// Tickets are bytes that only Sendstream understands. They hold the session's secret. An attacker
/// who reads one can pose as this client and read its early data. An attacker who **writes** one
/// can pose as the server. So keep a cache as private as a private key. Damaged, shortened, old or
/// foreign bytes do no harm: Sendstream recognises them and makes a full handshake.
///
/// Both methods are called on Sendstream's background thread, which makes the native calls of every
/// connection: they may read or write a small local file, and must not wait for anything else, in
/// particular not for Sendstream. A panic loses the ticket.
pub trait SessionCache: Send + Sync {
    /// Keeps `ticket`, which just came from the server.
    fn put(&self, key: &SessionKey, ticket: Vec<u8>);

    /// Returns the newest ticket and forgets it. A ticket is for one connection: an observer who
    /// sees it twice knows that both connections come from one client (RFC 8446 §C.4).
    fn take(&self, key: &SessionKey) -> Option<Vec<u8>>;
}

/// Keeps tickets in memory, the newest of the servers that were used last, for as long as the
/// process lives. Their memory is zeroed when they are forgotten.
pub struct MemorySessionCache {
    capacity: usize,
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    tickets: HashMap<SessionKey, VecDeque<Zeroizing<Vec<u8>>>>,
    /// The keys of `tickets`, those used last at the end.
    order: VecDeque<SessionKey>,
}

impl MemorySessionCache {
    /// An empty cache for up to `capacity` servers; at least one.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), servers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        // Nothing panics while it is held.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemorySessionCache {
    /// A cache for up to 256 servers.
    fn default() -> Self {
        Self::new(256)
    }
}

impl SessionCache for MemorySessionCache {
    fn put(&self, key: &SessionKey, ticket: Vec<u8>) {
        let mut servers = self.lock();
        servers.order.retain(|other| other != key);
        servers.order.push_back(key.clone());
        let tickets = servers.tickets.entry(key.clone()).or_default();
        tickets.push_back(Zeroizing::new(ticket));
        if tickets.len() > TICKETS_OF_A_SERVER {
            tickets.pop_front();
        }
        if servers.order.len() > self.capacity
            && let Some(oldest) = servers.order.pop_front()
        {
            servers.tickets.remove(&oldest);
        }
    }

    fn take(&self, key: &SessionKey) -> Option<Vec<u8>> {
        let mut servers = self.lock();
        let tickets = servers.tickets.get_mut(key)?;
        let ticket = tickets.pop_back().map(|mut ticket| std::mem::take(&mut *ticket));
        if tickets.is_empty() {
            servers.tickets.remove(key);
            servers.order.retain(|other| other != key);
        }
        ticket
    }
}

impl fmt::Debug for MemorySessionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySessionCache").field("servers", &self.lock().order.len()).finish_non_exhaustive()
    }
}

/// How many tickets of one server [`MemorySessionCache`] keeps: each is for one connection, and a
/// client may make several at once.
const TICKETS_OF_A_SERVER: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> SessionKey {
        SessionKey::new(name, ["demo"])
    }

    #[test]
    fn a_ticket_is_given_away_once_and_the_newest_first() {
        let cache = MemorySessionCache::default();
        cache.put(&key("a"), vec![1]);
        cache.put(&key("a"), vec![2]);
        cache.put(&key("b"), vec![3]);
        assert_eq!(cache.take(&key("a")), Some(vec![2]));
        assert_eq!(cache.take(&key("a")), Some(vec![1]));
        assert_eq!(cache.take(&key("a")), None);
        assert_eq!(cache.take(&key("c")), None);
        assert_eq!(cache.take(&key("b")), Some(vec![3]));
        assert!(cache.lock().tickets.is_empty() && cache.lock().order.is_empty());
    }

    #[test]
    fn a_full_cache_forgets_the_server_that_was_used_longest_ago() {
        let cache = MemorySessionCache::new(2);
        for name in ["a", "b", "a", "c"] {
            cache.put(&key(name), name.into());
        }
        assert_eq!(cache.take(&key("b")), None);
        assert!(cache.take(&key("a")).is_some() && cache.take(&key("c")).is_some());
    }

    #[test]
    fn a_server_keeps_its_newest_tickets_only() {
        let cache = MemorySessionCache::default();
        (0..100).for_each(|number| cache.put(&key("a"), vec![number]));
        let left: Vec<_> = std::iter::from_fn(|| cache.take(&key("a"))).collect();
        assert_eq!(left, (92..100).rev().map(|number| vec![number]).collect::<Vec<_>>());
    }

    #[test]
    fn keys_differ_in_name_protocols_and_where_these_are_cut() {
        let keys = [
            SessionKey::new("a", ["bc"]),
            SessionKey::new("ab", ["c"]),
            SessionKey::new("a", ["b", "c"]),
            SessionKey::new("a", ["c", "b"]),
        ];
        let hex: std::collections::HashSet<_> = keys.iter().map(SessionKey::to_hex).collect();
        assert_eq!(hex.len(), keys.len());
        assert!(hex.iter().all(|hex| hex.len() == 64));
    }

    #[test]
    fn the_same_secret_makes_the_same_key_and_another_another() {
        let (name, key) = TicketKey::from_secret([7; 32]).derive();
        assert_eq!(TicketKey::from_secret([7; 32]).derive(), (name, key.clone()));
        let (other_name, other_key) = TicketKey::from_secret([8; 32]).derive();
        assert!(name != other_name && key != other_key);
        assert_ne!(TicketKey::generate().unwrap().derive().0, TicketKey::generate().unwrap().derive().0);
        assert_eq!(format!("{:?}", TicketKey::from_secret([7; 32])), "TicketKey { .. }");
    }
}
