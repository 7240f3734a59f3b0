//! Those who wait with a code on the same network, found by multicast DNS (RFC 6762, RFC 6763).
//!
//! A `recv` or `share` announces the number of its code, and a TCP port where who knows the words gets the ticket
//! ([`crate::code`]). It is announced on every network of the machine, and so seen by all who are there;
//! the words are not.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use mdns_sd::{ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};

use crate::{
    code::{self, Asked, ShortCode},
    error::{Failure, Kind},
    ticket::Ticket,
};

/// A ticket that is handed to who knows the code. It ends when this is dropped.
pub(crate) struct Offer {
    daemon: ServiceDaemon,
    name: String,
    state: Arc<State>,
    /// The watch over the daemon ends with it.
    _watched: mpsc::Sender<()>,
}

/// What became of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// Somebody knew it and has the ticket. The next one is for somebody else.
    Used { by: SocketAddr, next: ShortCode },
    /// Somebody guessed wrong.
    Guessed { by: SocketAddr, next: ShortCode },
    /// Too many guessed wrong, so there is none any more.
    Over { by: SocketAddr },
    /// Somebody floods this network with answers that nobody asked for, so there is none any more.
    Flooded,
}

struct State {
    ticket: Ticket,
    code: Mutex<Current>,
    /// Those who talk, the oldest first, each with its number.
    askers: Mutex<VecDeque<(u64, TcpStream)>>,
    tell: Box<dyn Fn(Spent) + Send + Sync>,
}

struct Current {
    code: Option<ShortCode>,
    /// How many codes there were before.
    number: u64,
    wrong: usize,
}

impl Offer {
    /// Announces a code for `ticket`, and tells what becomes of it.
    pub(crate) fn start(ticket: Ticket, tell: impl Fn(Spent) + Send + Sync + 'static) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot announce a code on this network: {error}"))
                .todo("give the other end the ticket")
        };
        let listener =
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)));
        let listener = listener.map_err(|error| failed(&error))?;
        let port = listener.local_addr().map_err(|error| failed(&error))?.port();
        let daemon = ServiceDaemon::new().map_err(|error| failed(&error))?;
        let code = free_number(&daemon).and_then(|number| ShortCode::random(number).map_err(|error| error.to_string()));
        let code = code.map_err(|error| failed(&error))?;
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|error| failed(&error))?;
        let name = format!("sendstream-{:016x}", u64::from_be_bytes(name));
        let properties = [(NUMBER, code.number.to_string())];
        let info = ServiceInfo::new(SERVICE, &name, &format!("{name}.local."), "", port, &properties[..]);
        let info = info.map_err(|error| failed(&error))?.enable_addr_auto();
        let name = info.get_fullname().to_owned();
        daemon.register(info).map_err(|error| failed(&error))?;
        let state = Arc::new(State {
            ticket,
            code: Mutex::new(Current { code: Some(code), number: 0, wrong: 0 }),
            askers: Mutex::default(),
            tell: Box::new(tell),
        });
        let serving = Arc::clone(&state);
        let serve = move || serving.serve(&listener);
        thread::Builder::new().name("code".to_owned()).spawn(serve).map_err(|error| failed(&error))?;
        let (watched, watch) = mpsc::channel();
        let (watching, its_daemon) = (Arc::clone(&state), daemon.clone());
        let look = move || watching.watch(&its_daemon, &watch);
        thread::Builder::new().name("code-watch".to_owned()).spawn(look).map_err(|error| failed(&error))?;
        Ok(Self { daemon, name, state, _watched: watched })
    }

    /// The code that is good now, if there is one.
    pub(crate) fn code(&self) -> Option<ShortCode> {
        lock(&self.state.code).code
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        lock(&self.state.code).code = None;
        // Others forget it sooner if they are told. The process does not wait for long.
        if let Ok(told) = self.daemon.unregister(&self.name) {
            let _ = told.recv_timeout(GOODBYE);
        }
        if let Ok(ended) = self.daemon.shutdown() {
            let _ = ended.recv_timeout(GOODBYE);
        }
    }
}

impl State {
    /// Talks to whoever comes, for as long as there is a code. Few at a time: an honest one is done in a
    /// moment, so the oldest makes room.
    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        for (number, stream) in (0..).zip(listener.incoming()) {
            if lock(&self.code).code.is_none() {
                return;
            }
            let Some((stream, handle)) = stream.ok().and_then(|stream| Some((stream.try_clone().ok()?, stream))) else {
                // Out of descriptors, say: it would fail again at once.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            self.admit(number, handle);
            let state = Arc::clone(self);
            let work = move || {
                state.talk(stream);
                lock(&state.askers).retain(|(other, _)| *other != number);
            };
            if thread::Builder::new().name("code-asker".to_owned()).spawn(work).is_err() {
                lock(&self.askers).retain(|(other, _)| *other != number);
            }
        }
    }

    fn admit(&self, number: u64, stream: TcpStream) {
        let mut askers = lock(&self.askers);
        if askers.len() >= MAX_ASKERS
            && let Some((_, oldest)) = askers.pop_front()
        {
            // Its conversation fails by this. It may be over already.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        askers.push_back((number, stream));
    }

    /// One conversation. What is no proof is no guess, as it tells nobody anything.
    /// Ends it when the daemon remembers more than an honest network has: it keeps whatever it hears.
    fn watch(&self, daemon: &ServiceDaemon, watched: &mpsc::Receiver<()>) {
        while watched.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            let metrics = daemon.get_metrics().ok().and_then(|metrics| metrics.recv_timeout(GOODBYE).ok());
            let cached = metrics.iter().flatten().filter(|(name, _)| name.starts_with("cached-"));
            if cached.map(|(_, count)| *count).sum::<i64>() > MAX_CACHED {
                lock(&self.code).code = None;
                let _ = daemon.shutdown();
                return (self.tell)(Spent::Flooded);
            }
        }
    }

    fn talk(&self, stream: TcpStream) {
        let Ok(by) = stream.peer_addr() else { return };
        let mut stream = Hurried { stream, until: Instant::now() + PATIENCE };
        let (Some(code), number) = self.current() else { return };
        let Ok(asked) = Asked::hear(&mut stream, code) else { return };
        let is_right = asked.is_right();
        let Some(spent) = self.spend(number, is_right, by) else { return };
        if is_right {
            // Whoever knew the code is gone, or has the ticket.
            let _ = asked.answer(&mut stream, &self.ticket);
        }
        (self.tell)(spent);
    }

    fn current(&self) -> (Option<ShortCode>, u64) {
        let current = lock(&self.code);
        (current.code, current.number)
    }

    /// Ends the code that was the `number`th, if it is still that one's turn: so it is good for one proof.
    fn spend(&self, number: u64, is_right: bool, by: SocketAddr) -> Option<Spent> {
        let mut current = lock(&self.code);
        let code = current.code.filter(|_| current.number == number)?;
        current.number += 1;
        current.wrong += usize::from(!is_right);
        current.code =
            Some(code).filter(|_| current.wrong < MAX_WRONG).and_then(|code| ShortCode::random(code.number).ok());
        Some(match current.code {
            Some(next) if is_right => Spent::Used { by, next },
            Some(next) => Spent::Guessed { by, next },
            None => Spent::Over { by },
        })
    }
}

/// Asks on this network for the ticket that a code stands for. Blocks until it is there, or some seconds.
pub(crate) fn find(code: ShortCode) -> Result<Ticket, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot look for a code on this network: {error}")).todo("use the ticket in its place")
    };
    let daemon = ServiceDaemon::new().map_err(|error| failed(&error))?;
    let found = daemon.browse(SERVICE).map_err(|error| failed(&error))?;
    let mut deadline = Instant::now() + LOOKING;
    let mut asked: Vec<String> = Vec::new();
    let mut refused = false;
    // Also when there is always another event.
    while Instant::now() < deadline
        && let Ok(event) = found.recv_deadline(deadline)
    {
        let ServiceEvent::ServiceResolved(service) = event else { continue };
        let is_meant = number(&service) == Some(code.number) && !asked.contains(&service.fullname);
        if !is_meant || asked.len() >= MAX_ASKED {
            continue;
        }
        let Some(stream) = connect(&service, deadline) else { continue };
        let mut stream = Hurried { stream, until: Instant::now() + PATIENCE };
        asked.push(service.fullname.clone());
        match code::ask(&mut stream, code) {
            Ok(Some(ticket)) => {
                let _ = daemon.shutdown();
                return Ok(ticket);
            }
            Ok(None) => {
                refused = true;
                // Another one of this number may be the right one.
                deadline = deadline.min(Instant::now() + OTHERS);
            }
            // It said nothing that would be an answer.
            Err(_) => {}
        }
    }
    let _ = daemon.shutdown();
    Err(if refused {
        Failure::new("the code is wrong, or was used before")
            .kind(Kind::Refused)
            .todo("ask for the code that the other end shows now: each is good for one end, and for one guess")
    } else {
        Failure::new(format!("nobody on this network has a code of number {}", code.number)).kind(Kind::Unreachable).todo(
            "check that `recv --code` or `share --code` waits there, on the same network, and that no firewall drops UDP port 5353; \
             the ticket works across networks",
        )
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(service: &ResolvedService) -> Option<u8> {
    service.get_property_val_str(NUMBER)?.parse().ok()
}

/// Connects to one of the service's addresses.
fn connect(service: &ResolvedService, deadline: Instant) -> Option<TcpStream> {
    let addresses = service.addresses.iter().take(MAX_ADDRESSES).map(|ip| match ip {
        ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.addr(), service.port, 0, v6.scope_id().index).into()
        }
        ip => SocketAddr::new(ip.to_ip_addr(), service.port),
    });
    let connect = |address: SocketAddr| {
        let time = CONNECTING.min(deadline.saturating_duration_since(Instant::now()));
        // Who has a code is on the network, and not this machine alone or a group.
        let is_one = !(address.ip().is_loopback() || address.ip().is_multicast() || address.ip().is_unspecified());
        (is_one && !time.is_zero()).then(|| TcpStream::connect_timeout(&address, time).ok()).flatten()
    };
    addresses.into_iter().find_map(connect)
}

/// A conversation that is over at its time, however slowly the other end talks.
struct Hurried {
    stream: TcpStream,
    until: Instant,
}

impl Hurried {
    /// Lets the next call take what is left.
    fn limit(&self) -> io::Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.set_write_timeout(Some(left))
    }
}

impl Read for Hurried {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.limit()?;
        self.stream.read(buffer)
    }
}

impl Write for Hurried {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.limit()?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A number that no other receiver of this network has, as far as can be heard in a moment.
fn free_number(daemon: &ServiceDaemon) -> Result<u8, String> {
    let mut taken = [false; code::MAX_NUMBER as usize + 1];
    let found = daemon.browse(SERVICE).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + LISTENING;
    while let Ok(event) = found.recv_deadline(deadline) {
        if let ServiceEvent::ServiceResolved(service) = event
            && let Some(taken) = number(&service).and_then(|number| taken.get_mut(usize::from(number)))
        {
            *taken = true;
        }
    }
    let _ = daemon.stop_browse(SERVICE);
    let mut dice = [0; 4];
    getrandom::fill(&mut dice).map_err(|error| error.to_string())?;
    let free: Vec<u8> = (1..=code::MAX_NUMBER).filter(|number| !taken[usize::from(*number)]).collect();
    let place = u32::from_be_bytes(dice) as usize;
    free.get(place % free.len().max(1)).copied().ok_or_else(|| "all of its numbers are taken".to_owned())
}

const SERVICE: &str = "_sendstream._tcp.local.";
/// The property that is the number of the code.
const NUMBER: &str = "number";
/// How many may ask at a time.
const MAX_ASKERS: usize = 8;
/// How many wrong guesses end the offer, each of one code.
const MAX_WRONG: usize = 3;
/// How many that claim the number are asked: to each of them it is a guess if it lies.
const MAX_ASKED: usize = 3;
/// How many records of others are remembered.
const MAX_CACHED: i64 = 20_000;
const MAX_ADDRESSES: usize = 8;
const LOOKING: Duration = Duration::from_secs(10);
const OTHERS: Duration = Duration::from_secs(1);
const LISTENING: Duration = Duration::from_millis(500);
const CONNECTING: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);
const GOODBYE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket;

    fn state() -> State {
        let code = Some(ShortCode::random(7).unwrap());
        let current = Mutex::new(Current { code, number: 0, wrong: 0 });
        State { ticket: ticket::example(), code: current, askers: Mutex::default(), tell: Box::new(|_| {}) }
    }

    #[test]
    fn strangers_that_say_nothing_keep_nobody_out() {
        let state = Arc::new(state());
        let code = lock(&state.code).code.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&state);
        let server = thread::spawn(move || serving.serve(&listener));
        let silent: Vec<_> = (0..3 * MAX_ASKERS).map(|_| TcpStream::connect(address).unwrap()).collect();
        let stream = TcpStream::connect(address).unwrap();
        let mut honest = Hurried { stream, until: Instant::now() + 4 * PATIENCE };
        assert_eq!(code::ask(&mut honest, code).unwrap(), Some(ticket::example()));
        assert!(lock(&state.askers).len() <= MAX_ASKERS);
        drop(silent);
        lock(&state.code).code = None;
        let _ = TcpStream::connect(address);
        server.join().unwrap();
    }

    #[test]
    fn a_code_is_good_for_one_proof_right_or_wrong_and_few_wrong_ones_end_it_all() {
        let by = "192.0.2.1:1".parse().unwrap();
        let state = state();
        let (first, number) = state.current();
        let Some(Spent::Used { next, .. }) = state.spend(number, true, by) else { panic!("it was right") };
        assert_eq!(state.current(), (Some(next), number + 1));
        assert_ne!(first.map(|code| code.number), None);
        // Somebody who began to talk while the first code was good.
        assert_eq!(state.spend(number, true, by), None);
        for guess in 1..MAX_WRONG as u64 {
            let spent = state.spend(number + guess, false, by);
            assert!(matches!(spent, Some(Spent::Guessed { .. })), "{spent:?}");
            assert_eq!(state.spend(number + guess, true, by), None, "after a guess");
        }
        assert_eq!(state.spend(number + MAX_WRONG as u64, false, by), Some(Spent::Over { by }));
        assert_eq!(state.current().0, None);
    }
}
