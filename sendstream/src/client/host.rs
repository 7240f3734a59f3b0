//! [`Client::connect_host`]: from a host's name to a connection with one of its addresses.
//! [`Client::connect_any`] begins with the addresses.
//!
//! 1. The name is resolved by the system's resolver, which blocks: on a thread of its own.
//! 2. The addresses are sorted as RFC 8305 §4 says: in the resolver's order, families interleaved.
//! 3. They are tried as §5 says: one after the other, without giving up those before.
//!
//! Everything belongs to the future, so dropping it gives all of it up; but for the resolver, which
//! nothing can interrupt.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    client::{Client, ConnectError},
    connection::Connection,
    native::{
        background,
        deadline::{self, Pause},
        fork,
    },
    types::{error::ConnectionError, server_name::ServerName, system::SystemError},
};

/// An attempt to connect to one of the addresses. Dropping it gives the connection up.
type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send + 'a>>;

impl Client {
    /// Connects to `port` of `host`, a DNS name or an IP address (an IPv6 one with brackets or
    /// without), which is also the server name of [`connect`](Self::connect).
    ///
    /// The system's resolver looks the name up (`getaddrinfo`), on a thread that lives as long as
    /// that takes. The addresses are tried in its order, but IPv6 and IPv4 by turns, each 250 ms
    /// after the one before or as soon as one has failed ("Happy Eyeballs", RFC 8305). The first
    /// that connects wins, and the others are given up; a server that hears of two attempts may see
    /// one of them connect and close at once with code 0.
    ///
    /// A client that [binds](crate::ClientBuilder::bind) an address tries those of the same family,
    /// or of both if that is `::`.
    /// One that binds a port, and has a [socket for each
    /// connection](crate::ClientBuilder::socket_per_connection), tries one address at a time.
    ///
    /// ```no_run
    /// # async fn example(client: sendstream::Client) -> Result<(), sendstream::ConnectError> {
    /// let connection = client.connect_host("example.org", 4433).await?;
    /// # let _ = connection;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`ConnectError::InvalidServerName`]: no name looks like that; nothing was looked up.
    /// - [`ConnectError::Unresolved`]: the resolver knows no address, or could not be asked.
    /// - Any other [`ConnectError`], once every address has failed: the one that tells most. What a
    ///   server answered tells more than that nobody did, and the last failure more than those
    ///   before.
    ///
    /// [`handshake_timeout`](crate::TransportConfig::handshake_timeout) counts for each address;
    /// how long the resolver takes is the system's to say.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives all attempts up. A lookup that is under way ends unheard.
    pub async fn connect_host(&self, host: &str, port: u16) -> Result<Connection, ConnectError> {
        fork::check()?;
        let (host, server_name) = names(host)?;
        let addresses = self.reachable(&resolve(&host, port).await?)?;
        self.race(addresses, server_name.as_str()).await
    }

    /// Connects to the first of `addresses` that answers: those of one server, which is known by
    /// several. `server_name` is that of [`connect`](Self::connect).
    ///
    /// They are tried in their order, each once, 250 ms after the one before or as soon as one has
    /// failed, as those of a host are ([`connect_host`](Self::connect_host)). The first that
    /// connects wins: also over one that answered sooner, but with a certificate that the client
    /// does not believe. The others are given up. The addresses to which the client cannot send from
    /// where it [binds](crate::ClientBuilder::bind) are left out.
    ///
    /// ```no_run
    /// # async fn example(client: sendstream::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let addresses = ["192.0.2.7:4433".parse()?, "[2001:db8::7]:4433".parse()?];
    /// let connection = client.connect_any(&addresses, "server.test").await?;
    /// println!("it is at {:?}", connection.remote_addr());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`ConnectError::NoAddress`]: `addresses` is empty.
    /// - Any other [`ConnectError`], once every address has failed: the one that tells most, as for
    ///   `connect_host`.
    ///
    /// [`handshake_timeout`](crate::TransportConfig::handshake_timeout) counts for each address.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives all attempts up.
    pub async fn connect_any(&self, addresses: &[SocketAddr], server_name: &str) -> Result<Connection, ConnectError> {
        fork::check()?;
        ServerName::parse(server_name).map_err(|_| ConnectError::InvalidServerName)?;
        let mut distinct = Vec::new();
        for address in addresses {
            if !distinct.contains(address) {
                distinct.push(*address);
            }
        }
        if distinct.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        self.race(self.reachable(&distinct)?, server_name).await
    }

    /// Connects to the first of `addresses` that answers. There is one at least.
    async fn race(&self, addresses: VecDeque<SocketAddr>, server_name: &str) -> Result<Connection, ConnectError> {
        let mut race =
            Race { client: self, server_name, waiting: addresses, attempts: Vec::new(), pause: None, failure: None };
        poll_fn(|cx| race.poll(cx)).await
    }

    /// Those of `addresses`, of which there is one at least, that the client can send to from where
    /// it binds.
    fn reachable(&self, addresses: &[SocketAddr]) -> Result<VecDeque<SocketAddr>, ConnectError> {
        let reachable: VecDeque<_> =
            addresses.iter().copied().filter(|address| self.socket.towards(*address).is_ok()).collect();
        if reachable.is_empty() {
            self.socket.towards(addresses[0])?;
        }
        Ok(reachable)
    }

    /// Whether two attempts may be under way at once.
    fn may_try_together(&self) -> bool {
        self.configuration.shares_socket() || !self.socket.is_for_one()
    }
}

/// The attempts to connect to one host.
struct Race<'a> {
    client: &'a Client,
    server_name: &'a str,
    /// Addresses that were not tried yet.
    waiting: VecDeque<SocketAddr>,
    attempts: Vec<Attempt<'a>>,
    /// What the next attempt waits for, unless one fails before.
    pause: Option<Pause>,
    /// The most telling of those so far.
    failure: Option<ConnectError>,
}

impl Race<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Connection, ConnectError>> {
        let mut next = self.attempts.is_empty();
        loop {
            let mut index = 0;
            while let Some(attempt) = self.attempts.get_mut(index) {
                match attempt.as_mut().poll(cx) {
                    Poll::Pending => index += 1,
                    Poll::Ready(Ok(connection)) => {
                        self.attempts.clear();
                        return Poll::Ready(Ok(connection));
                    }
                    Poll::Ready(Err(error)) => {
                        drop(self.attempts.remove(index));
                        self.failure = Some(more_telling(self.failure.take(), error));
                        next = true;
                    }
                }
            }
            if let Some(pause) = &mut self.pause
                && Pin::new(pause).poll(cx).is_ready()
            {
                self.pause = None;
                next = true;
            }
            match self.waiting.front() {
                Some(address) if next => {
                    self.attempts.push(Box::pin(self.client.connect(*address, self.server_name)));
                    self.waiting.pop_front();
                    let wait = !self.waiting.is_empty() && self.client.may_try_together();
                    self.pause = wait.then(|| deadline::pause(Instant::now() + ATTEMPT_DELAY));
                    next = false;
                }
                _ => break,
            }
        }
        match self.failure.take_if(|_| self.attempts.is_empty()) {
            Some(failure) => Poll::Ready(Err(failure)),
            None => Poll::Pending,
        }
    }
}

/// What to look up, and what the server is to be called. An address is looked up without brackets,
/// and the server is called without its zone. A name is looked up in its ASCII form, as an absolute
/// one if it is, and the server is called without the dot at its end.
fn names(host: &str) -> Result<(String, ServerName), ConnectError> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).filter(|host| host.contains(':'));
    let (looked_up, called) = match bare.unwrap_or(host) {
        address if address.contains(':') => (Some(address), address.split('%').next().unwrap_or_default()),
        name => (None, name),
    };
    let server_name = ServerName::parse(called).map_err(|_| ConnectError::InvalidServerName)?;
    let root = if called.ends_with('.') { "." } else { "" };
    let looked_up = looked_up.map_or_else(|| format!("{}{root}", server_name.as_str()), str::to_owned);
    Ok((looked_up, server_name))
}

/// The addresses of `host`, at least one, in the order in which to try them.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let unresolved = |error: io::Error| ConnectError::Unresolved { host: host.to_owned(), error: Arc::new(error) };
    let name = host.to_owned();
    let lookup = move || Ok((name.as_str(), port).to_socket_addrs().map(Iterator::collect));
    let found: io::Result<Vec<_>> = background::ask_apart(RESOLVER, lookup).map_err(unresolved)?.await?;
    let mut found = found.map_err(unresolved)?;
    found.retain(|address| is_of_a_host(address.ip()));
    found.truncate(MAX_ADDRESSES);
    let addresses = interleaved(found);
    if addresses.is_empty() {
        return Err(unresolved(io::Error::new(io::ErrorKind::NotFound, "it has no address")));
    }
    Ok(addresses)
}

/// Whether a host can have it. Whoever answers for a name may say that it is a group's.
fn is_of_a_host(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    !(ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST)
}

/// How many of a name's addresses are tried.
const MAX_ADDRESSES: usize = 32;

/// `addresses`, each once, so that the families take turns as long as both have some (RFC 8305 §4).
/// The first stays first.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else { return addresses };
    let (mut these, mut others): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    let mut sorted = Vec::new();
    while !(these.is_empty() && others.is_empty()) {
        for address in [these.pop_front(), others.pop_front()].into_iter().flatten() {
            if !sorted.contains(&address) {
                sorted.push(address);
            }
        }
    }
    sorted
}

/// Which of two failures says more of why there is no connection: an answer, then what failed on this
/// side, then silence, then that nobody listens, and least that this machine has no way to one of the
/// addresses, as one of IPv4's alone has none to any of IPv6's. Of equals it is the later one.
fn more_telling(before: Option<ConnectError>, latest: ConnectError) -> ConnectError {
    let tells = |error: &ConnectError| match error {
        ConnectError::Connection(ConnectionError::System(error)) if has_no_way(*error) => 0,
        ConnectError::Connection(ConnectionError::Unreachable) => 1,
        ConnectError::Connection(ConnectionError::TimedOut(_)) => 2,
        ConnectError::Connection(ConnectionError::System(_)) => 3,
        ConnectError::Connection(_) => 4,
        _ => 3,
    };
    match before {
        Some(before) if tells(&before) > tells(&latest) => before,
        _ => latest,
    }
}

/// Whether the system says of one address, rather than of all, that it leads nowhere.
fn has_no_way(error: SystemError) -> bool {
    use SystemError::{AddressNotAvailable, FamilyNotSupported, InvalidAddress, NoRoute};
    matches!(error, NoRoute | AddressNotAvailable | InvalidAddress | FamilyNotSupported)
}

/// What the thread of a lookup is called.
const RESOLVER: &str = "sendstream-dns";

/// How much sooner than the next address the one before is tried: the "Connection Attempt Delay" of
/// RFC 8305 §5.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::{Identity, Server, Timeout, TransportConfig, Trust};

    /// A server, and a builder of clients that trust it.
    fn server() -> (Server, crate::ClientBuilder) {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let trust = Trust::pinned([identity.certificate_sha256()]);
        let server = Server::builder().identity(identity).alpn(["test"]).bind("127.0.0.1:0".parse().unwrap()).unwrap();
        (server, Client::builder().alpn(["test"]).trust(trust))
    }

    fn silent() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_name_leads_to_no_group_and_to_no_address_that_is_nobodys() {
        for wrong in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1", "::ffff:224.0.0.1"] {
            assert!(!is_of_a_host(wrong.parse().unwrap()), "{wrong}");
        }
        for right in ["127.0.0.1", "192.0.2.1", "::1", "fe80::1", "::ffff:192.0.2.1"] {
            assert!(is_of_a_host(right.parse().unwrap()), "{right}");
        }
    }

    /// No name that stands for two addresses is there on every machine.
    #[test]
    fn an_address_that_does_not_answer_is_passed_over_without_being_given_up() {
        futures::executor::block_on(async {
            let (server, client) = server();
            let client = client.build().unwrap();
            let (silent, address) = (silent(), server.local_addr().unwrap());
            let begun = Instant::now();
            let addresses = [silent.local_addr().unwrap(), address];
            let connecting = client.connect_any(&addresses, "localhost");
            let (connected, accepted) =
                futures::join!(connecting, async { server.accept().await.unwrap().accept().await.unwrap() });
            assert!(begun.elapsed() >= ATTEMPT_DELAY);
            let connected = connected.unwrap();
            assert_eq!(accepted.remote_addr(), connected.local_addr());
            // The first address was asked, and its attempt is over with the race.
            assert!(silent.recv(&mut [0; 2000]).unwrap() > 0);
            drop((connected, accepted));
            client.wait_idle().await;
            server.shutdown().await;
        });
    }

    #[test]
    fn where_an_attempt_fails_the_next_one_does_not_wait_and_where_all_fail_the_best_answer_is_told() {
        futures::executor::block_on(async {
            let (server, client) = server();
            let config = TransportConfig { handshake_timeout: Duration::from_secs(1), ..TransportConfig::default() };
            let client = client.transport(config).build().unwrap();
            let (silent, address) = (silent(), server.local_addr().unwrap());
            let addresses = [address, silent.local_addr().unwrap()];
            let refusing = async { drop(server.accept().await.unwrap()) };
            let (failed, ()) = futures::join!(client.connect_any(&addresses, "localhost"), refusing);
            let Err(ConnectError::Connection(error)) = failed else { panic!("{failed:?}") };
            assert_eq!(error, ConnectionError::Refused);
            client.wait_idle().await;
            server.shutdown().await;
        });
    }

    #[test]
    fn an_impostor_at_one_address_does_not_keep_the_client_from_the_server_at_another() {
        futures::executor::block_on(async {
            let (impostor, _) = server();
            let (server, client) = server();
            let client = client.build().unwrap();
            let addresses = [&impostor, &server].map(|server| server.local_addr().unwrap());
            let lying = async { impostor.accept().await.unwrap().accept().await };
            let (connected, lied, accepted) =
                futures::join!(client.connect_any(&addresses, "localhost"), lying, async {
                    server.accept().await.unwrap().accept().await
                });
            assert_eq!(connected.unwrap().remote_addr(), Some(addresses[1]));
            assert!(lied.is_err());
            drop(accepted);
            assert!(matches!(client.connect_any(&[], "localhost").await, Err(ConnectError::NoAddress)));
            assert!(matches!(client.connect_any(&addresses, "a b").await, Err(ConnectError::InvalidServerName)));
            client.wait_idle().await;
            futures::join!(impostor.shutdown(), server.shutdown());
        });
    }

    #[test]
    fn whoever_gives_up_gives_every_attempt_up_and_a_socket_serves_one_at_a_time() {
        futures::executor::block_on(async {
            for (local, separate, together) in
                [("127.0.0.1:0", true, true), ("127.0.0.1:1", true, false), ("127.0.0.1:1", false, true)]
            {
                let (server, client) = server();
                let client = client.bind(local.parse().unwrap()).socket_per_connection(separate).build().unwrap();
                assert_eq!(client.may_try_together(), together);
                server.shutdown().await;
            }
            let (server, client) = server();
            let client = client.build().unwrap();
            let sockets = [silent(), silent()];
            let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
            let mut connecting = Box::pin(client.connect_any(&addresses, "localhost"));
            let second = futures::future::poll_fn(|cx| {
                sockets[1].set_nonblocking(true).unwrap();
                let is_asked = sockets[1].recv(&mut [0; 2000]).is_ok();
                assert!(connecting.as_mut().poll(cx).is_pending());
                cx.waker().wake_by_ref();
                if is_asked { Poll::Ready(()) } else { Poll::Pending }
            });
            second.await;
            drop(connecting);
            client.wait_idle().await;
            server.shutdown().await;
        });
    }

    #[test]
    fn a_host_is_looked_up_as_it_is_and_called_by_its_bare_name() {
        for (host, looked_up, server_name) in [
            ("example.org", "example.org", "example.org"),
            ("example.org.", "example.org.", "example.org"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
            ("::1", "::1", "::1"),
            ("[::1]", "::1", "::1"),
            ("[fe80::1%2]", "fe80::1%2", "fe80::1"),
            ("Bücher.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            let (name, called) = names(host).unwrap();
            assert_eq!((name.as_str(), called.as_str()), (looked_up, server_name));
        }
        for host in
            ["", "[", "[]", "[example.org]", "[127.0.0.1]", "[::1", "::1]", "[::1]:4433", "example.org%2", "a b"]
        {
            assert!(matches!(names(host), Err(ConnectError::InvalidServerName)), "{host}");
        }
    }

    #[test]
    fn families_take_turns_and_nothing_comes_twice() {
        let [a4, b4, c4] = [1, 2, 3].map(|last| SocketAddr::from(([192, 0, 2, last], 1)));
        let [a6, b6] = [1, 2].map(|last| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 1)));
        assert_eq!(interleaved(vec![]), []);
        assert_eq!(interleaved(vec![a6, b6, a4, b4, c4]), [a6, a4, b6, b4, c4]);
        assert_eq!(interleaved(vec![a4, a6, a4, b6]), [a4, a6, b6]);
        assert_eq!(interleaved(vec![b4, a4]), [b4, a4]);
    }

    #[test]
    fn an_answer_tells_more_than_silence_and_the_last_failure_more_than_the_first() {
        use ConnectionError::{Refused, System, Unreachable, VersionMismatch};
        let timed_out = || ConnectionError::TimedOut(Timeout::Handshake);
        let told = |failures: [ConnectionError; 3]| {
            let failures = failures.into_iter().map(ConnectError::Connection);
            match failures.fold(None, |before, latest| Some(more_telling(before, latest))) {
                Some(ConnectError::Connection(error)) => error,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told([Refused, timed_out(), Unreachable]), Refused);
        assert_eq!(told([Unreachable, timed_out(), Unreachable]), timed_out());
        assert_eq!(told([Refused, timed_out(), VersionMismatch]), VersionMismatch);
        let (no_route, no_descriptors) = (System(SystemError::NoRoute), System(SystemError::OutOfDescriptors));
        assert_eq!(told([Unreachable, no_route.clone(), no_route.clone()]), Unreachable);
        assert_eq!(told([timed_out(), no_route.clone(), no_descriptors.clone()]), no_descriptors);
        assert_eq!(told([Refused, no_descriptors, no_route]), Refused);
    }
}
