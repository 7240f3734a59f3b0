//! [`Server`]: listening, and taking or refusing the connections that come.

pub(crate) mod config;
pub(crate) mod connections;
pub(crate) mod incoming;

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sendstream_core::wait::wait_for;

use crate::{
    client::{ClientBuilder, socket::Socket},
    driver::listener::{owner::ListenerInstance, queue::IncomingQueue},
    early::EarlyConnection,
    endpoint::{EndpointSettings, endpoint_setters},
    native::{
        address::is_of_many, configuration::Alpn, given::GivenSocket, live::LiveHandles, registration::Registration,
        retry::CountedBacklog,
    },
    server::{
        config::{Recipe, ServerConfig},
        connections::Connections,
        incoming::{Incoming, ServerStats},
    },
    types::{
        code::{CodeOutOfRange, check_code},
        config::{ConfigError, TransportConfig},
        error::NativeError,
        resumption::{Resumption, TicketKey},
        socket::SocketRefusal,
        system::{SystemError, is_privileged},
        tls::{ClientAuth, Identity},
    },
};

/// Listens for connections, on one address or several.
///
/// Clones are handles of the same server. Dropping the last stops listening and refuses connections
/// that nobody has accepted. Accepted connections go on.
///
/// ```
/// use sendstream::{Identity, Server};
///
/// let identity = Identity::self_signed(["localhost"])?;
/// let server = Server::builder().identity(identity).alpn(["demo"]).bind("127.0.0.1:0".parse()?)?;
/// println!("listening on {}", server.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Server(Arc<Shared>);

/// One line: where it listens, if it still does, and how many connections wait and are open.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.local_addrs().unwrap_or_default())
            .field("listening", &!self.0.queue.is_closed())
            .field("waiting", &self.stats().waiting)
            .field("open", &self.open_connections())
            .finish()
    }
}

/// What the handles of a server share.
#[derive(Debug)]
struct Shared {
    /// Those that were started, in that order. Held only to look at it or to change it.
    listeners: Mutex<Vec<Arc<ListenerInstance>>>,
    queue: Arc<IncomingQueue>,
    /// What the next connection that is accepted gets. Held only to look at it or to change it.
    config: Mutex<ServerConfig>,
    /// Has clients prove their addresses before forged ones fill the queue.
    _backlog: CountedBacklog,
    /// What the listeners tell clients apart by.
    alpn: Alpn,
    live: LiveHandles,
}

impl Server {
    /// Starts to describe a server; [`ServerBuilder::bind`] makes it.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            endpoint: EndpointSettings::default(),
            identity: None,
            client_auth: ClientAuth::None,
            resumption: Resumption::Off,
            ticket_keys: None,
        }
    }

    /// Listens on `address` as well (`ListenerStart`), and returns it with the port that the system
    /// chose if the port was 0. [`accept`](Self::accept) returns the connections of every address;
    /// [`Incoming::local_addr`] tells. [`ServerBuilder::bind`] says what an address means.
    ///
    /// # Errors
    ///
    /// [`BindError`]: the address cannot be used, or the server has stopped listening. The server
    /// goes on with those it has.
    pub fn listen_also(&self, address: SocketAddr) -> Result<SocketAddr, BindError> {
        if is_of_many(address.ip()) {
            return Err(BindError::AddressNotAvailable(address));
        }
        self.listen(address, None)
    }

    /// Listens on `socket` as well, as [`listen_also`](Self::listen_also) does on an address, and
    /// returns the socket's address. [`ServerBuilder::listen_on`] says what happens to the socket.
    ///
    /// # Errors
    ///
    /// [`BindError`]: the socket cannot be used, or the server has stopped listening. The server goes
    /// on with what it has.
    pub fn listen_also_on(&self, socket: UdpSocket) -> Result<SocketAddr, BindError> {
        let given = GivenSocket::check(&socket)?;
        self.listen(given.address(), Some(&given))
    }

    /// Listens on `address`, with the socket that is bound there if there is one.
    fn listen(&self, address: SocketAddr, socket: Option<&GivenSocket<'_>>) -> Result<SocketAddr, BindError> {
        let listener = ListenerInstance::start(&self.0.alpn, address, socket, self.0.queue.clone(), &self.0.live)
            .map_err(|error| match (error, socket) {
                (NativeError::ADDRESS_IN_USE | NativeError::ALPN_IN_USE, Some(_)) => {
                    SocketRefusal::InUse(address).into()
                }
                (error, _) => BindError::from_start(error, address),
            })?;
        self.0.listeners().push(listener.clone());
        // Looked at only now, so that whoever stops the server meanwhile either finds this one or
        // is found.
        if self.0.queue.is_closed() {
            listener.stop();
            self.0.listeners().retain(|other| !Arc::ptr_eq(other, &listener));
            return Err(BindError::Stopped);
        }
        listener.local_addr().map_err(BindError::Native)
    }

    /// The address that it was bound to, with the port that the system chose if that was 0.
    ///
    /// # Errors
    ///
    /// MsQuic's status, should it not tell.
    pub fn local_addr(&self) -> Result<SocketAddr, NativeError> {
        self.0.listeners().first().ok_or(NativeError::INVALID_ADDRESS)?.local_addr()
    }

    /// Every address that it was bound to, in that order, also after it has stopped listening.
    ///
    /// # Errors
    ///
    /// MsQuic's status, should it not tell.
    pub fn local_addrs(&self) -> Result<Vec<SocketAddr>, NativeError> {
        self.0.listeners().iter().map(|listener| listener.local_addr()).collect()
    }

    /// The next connection that a client wants: `None` once the server has stopped listening and
    /// none waits any more.
    ///
    /// The handshake is not done yet: [`Incoming::accept`] finishes it, which takes as long as the
    /// client wants, up to the [`handshake_timeout`](TransportConfig::handshake_timeout). So await
    /// that in a task of its own, or use [`connections`](Self::connections): a loop that awaits both
    /// lets one client that stalls hold up all others.
    ///
    /// Any number of tasks may wait at once. Up to
    /// [`accept_backlog`](TransportConfig::accept_backlog) connections wait to be accepted, each
    /// for at most [`handshake_timeout`](TransportConfig::handshake_timeout).
    /// [`stats`](Self::stats) counts the refused and the expired ones. A client waits for its own
    /// handshake timeout.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&self) -> Option<Incoming> {
        let new = wait_for(&*self.0.queue).await?;
        Some(Incoming::new(new, self.config()))
    }

    /// The server's connections whose handshakes are done, as a stream. It has many handshakes under
    /// way at once, so that no client holds up another. Use [`accept`](Self::accept) to look at a
    /// client before its handshake, and
    /// [`early_connections`](Self::early_connections) for early data.
    pub fn connections(&self) -> Connections<'_> {
        Connections::connected(self)
    }

    /// As [`connections`](Self::connections), but each is there as soon as early data can be read:
    /// [`Incoming::accept_0rtt`]. **Early data can be replayed**: see
    /// [`Resumption`](crate::Resumption).
    pub fn early_connections(&self) -> Connections<'_, EarlyConnection> {
        Connections::early(self)
    }

    /// Starts to describe a client that dials from this server's port: its connections use the
    /// server's UDP socket, as those of quinn's `Endpoint` do, and the server's threads do their
    /// work. So a peer can answer at the address from which it was dialled, and a NAT lets in whom
    /// the port has sent to (hole punching). Connection ids tell all packets apart (RFC 9000 §5.2).
    ///
    /// A server that [listens](Self::listen_also) at several addresses lends each address family its
    /// first. The socket stays open as long as the client or a connection of it lives, also when
    /// the server is gone. [`ClientBuilder::bind`] and [`ClientBuilder::socket_per_connection`] give
    /// the client sockets of its own again.
    ///
    /// ```
    /// use sendstream::{Identity, Server, Trust};
    ///
    /// let identity = Identity::self_signed(["peer"])?;
    /// let trust = Trust::pinned([identity.certificate_sha256()]);
    /// let server = Server::builder().identity(identity).alpn(["demo"]).bind("127.0.0.1:0".parse()?)?;
    /// let client = server.client().alpn(["demo"]).trust(trust).build()?;
    /// # let _ = client;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// What differs from a client's own socket: that nobody listens at a peer's port shows only as
    /// the handshake's timeout, and so does that no way leads to the peer, if the socket was
    /// [handed in](ServerBuilder::listen_on). A load balancer that
    /// [routes by connection id](crate::process::set_load_balancing) does not know the ids of
    /// clients. And an MsQuic without Sendstream's edits cannot do this
    /// ([`ConfigError::CannotShareServersSocket`]).
    ///
    /// Building the client fails with [`ConfigError::NotListening`] once the server has
    /// [stopped listening](Self::stop_listening).
    pub fn client(&self) -> ClientBuilder {
        let places = match self.0.queue.is_closed() {
            true => Vec::new(),
            false => self.0.listeners().iter().filter_map(|listener| listener.place().ok()).collect(),
        };
        let endpoint =
            EndpointSettings { registration: Some(self.0.live.registration().clone()), ..Default::default() };
        ClientBuilder::new(Socket::Bound(places), endpoint)
    }

    /// Shows `identity`, such as a renewed certificate, to every connection that
    /// [`accept`](Self::accept) returns from now on. Earlier connections keep their identity, and
    /// go on. Everything else stays as it was built: client authentication, protocols, transport,
    /// resumption (`ConfigurationOpen`, `ConfigurationLoadCredential`).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: AWS-LC takes no such identity, or MsQuic is out of memory. The server goes
    /// on with the old one.
    pub fn set_identity(&self, identity: Identity) -> Result<(), ConfigError> {
        self.change(|config| config.with_identity(&identity))
    }

    /// Encrypts session tickets with the first of `keys` from now on, and accepts tickets of any of
    /// them: 1 to 16 keys. To rotate keys, put the new key first, and drop an old key two hours
    /// after another took its place: a ticket is valid for that long. If several servers share
    /// their keys, first give the new key to all of them in second place.
    ///
    /// Connections that [`accept`](Self::accept) has given already keep their keys
    /// (`ConfigurationOpen`, `QUIC_PARAM_CONFIGURATION_TICKET_KEYS`).
    ///
    /// # Errors
    ///
    /// [`ConfigError::ResumptionOff`], [`ConfigError::TicketKeyCount`], or MsQuic is out of memory.
    /// The server goes on with the old ones.
    pub fn set_ticket_keys(&self, keys: impl IntoIterator<Item = TicketKey>) -> Result<(), ConfigError> {
        let keys: Vec<_> = keys.into_iter().collect();
        self.change(|config| config.with_ticket_keys(keys.iter().cloned()))
    }

    /// Takes what `change` makes of the configuration unless somebody has taken another meanwhile:
    /// then once more, with that.
    fn change(&self, change: impl Fn(&ServerConfig) -> Result<ServerConfig, ConfigError>) -> Result<(), ConfigError> {
        loop {
            let before = self.config();
            let new = change(&before)?;
            let mut current = self.lock_config();
            if !current.is(&before) {
                continue;
            }
            let old = std::mem::replace(&mut *current, new);
            drop(current);
            // Outside of the lock, as it may close the handle.
            drop(old);
            return Ok(());
        }
    }

    /// What connections are accepted with unless [`Incoming::accept_with`] says otherwise.
    pub fn config(&self) -> ServerConfig {
        self.lock_config().clone()
    }

    fn lock_config(&self) -> MutexGuard<'_, ServerConfig> {
        self.0.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections wait to be accepted, and what became of those that could not wait.
    pub fn stats(&self) -> ServerStats {
        self.0.queue.counts().into()
    }

    /// Stops listening on every address (`ListenerStop`), and does not wait. [`accept`](Self::accept)
    /// still returns the connections that wait, and then `None`. Accepted connections go on, and keep
    /// the port: [`shutdown`](Self::shutdown).
    ///
    /// As long as they keep it, a new client gets no answer, and waits for its handshake timeout. Once
    /// the port is free, the system tells it that nobody is there. To tell it why, go on accepting while
    /// what is under way ends, and [close](crate::Connection::close) each new connection with a code and
    /// a reason: [`guide::shutdown`](crate::guide::shutdown#with-a-word-to-everybody).
    pub fn stop_listening(&self) {
        self.0.stop_listening();
    }

    /// How many connections it has now, those included that wait to be accepted or whose handshake is
    /// under way. One that is over does not count, whoever holds it.
    pub fn open_connections(&self) -> usize {
        self.0.live.open_connections()
    }

    /// Closes every connection that this server has now, as
    /// [`Connection::close`](crate::Connection::close) does. Those that nobody has accepted are
    /// refused, and so are those whose handshake is under way (RFC 9000 §10.2.3). It goes on
    /// listening.
    ///
    /// To end in good order, [stop listening](Self::stop_listening), close all, and then
    /// [shut down](Self::shutdown).
    ///
    /// # Errors
    ///
    /// [`CodeOutOfRange`]: `code` has more than 62 bits; nothing was closed.
    pub fn close_all(&self, code: u64, reason: &str) -> Result<(), CodeOutOfRange> {
        check_code(code)?;
        self.0.live.close_all(code, reason);
        Ok(())
    }

    /// Stops listening, refuses the connections that wait, and resolves when every listener has
    /// stopped and every connection that the server accepted is over: closed by either side, and
    /// all that MsQuic had to send about it sent. Who still holds a connection that is over, or a
    /// stream of it, does not hold this up. But the port stays taken until the last handle of its
    /// connections and their streams is dropped.
    ///
    /// It closes no accepted connection: [close](Self::close_all) or drop them, or wait for their
    /// peers.
    /// [`accept`](Self::accept) gives `None` from now on.
    ///
    /// # Cancel safety
    ///
    /// Once polled it has stopped listening; dropping the future only ends the wait, and it may be
    /// called again.
    pub async fn shutdown(&self) {
        self.stop_listening();
        self.0.queue.refuse_waiting();
        self.0.live.none_left().await;
    }
}

impl Shared {
    fn stop_listening(&self) {
        self.queue.close();
        let listeners = self.listeners().clone();
        for listener in listeners {
            listener.stop();
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Arc<ListenerInstance>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop_listening();
        self.queue.refuse_waiting();
    }
}

/// Describes a [`Server`] or a [`ServerConfig`].
#[derive(Debug, Clone)]
#[must_use = "`bind` makes the server"]
pub struct ServerBuilder {
    endpoint: EndpointSettings,
    identity: Option<Identity>,
    client_auth: ClientAuth,
    resumption: Resumption,
    ticket_keys: Option<Vec<TicketKey>>,
}

impl ServerBuilder {
    endpoint_setters! {
        alpn:
        /// The application protocols that it speaks, the most wanted first (RFC 7301). Required: at
        /// least one, each of 1 to 255 bytes. A client that offers none of them is refused with TLS
        /// alert 120.
        key_log:
        /// A connection's lines are there when [`Incoming::accept`] resolves; one whose handshake
        /// fails leaves none. Only a listening server logs: this has no effect on
        /// [`build`](Self::build).
    }

    /// The certificate and key that it shows to clients. Required.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Which certificates it asks its clients for; none unless said otherwise.
    /// [`Connection::peer_identity`](crate::Connection::peer_identity) gives what a client showed.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = client_auth;
        self
    }

    /// Whether clients can resume a session in place of a full handshake, and whether they can send
    /// 0-RTT data. Both are off by default. A client gets a ticket once its handshake is done.
    /// **0-RTT data can be replayed**: see [`Resumption`]. Not for a server that asks its clients
    /// for certificates ([`ConfigError::ResumptionOfClients`]).
    pub fn resumption(mut self, resumption: Resumption) -> Self {
        self.resumption = resumption;
        self
    }

    /// The keys of its session tickets, as [`Server::set_ticket_keys`] takes them. By default the
    /// server makes a key of its own, so its tickets end with it.
    pub fn ticket_keys(mut self, keys: impl IntoIterator<Item = TicketKey>) -> Self {
        self.ticket_keys = Some(keys.into_iter().collect());
        self
    }

    /// Checks everything and loads it, for [`Incoming::accept_with`] (`ConfigurationOpen`,
    /// `ConfigurationLoadCredential`).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: what the builder was given cannot be used, or MsQuic could not start.
    pub fn build(self) -> Result<ServerConfig, ConfigError> {
        let alpn = Alpn::new(self.endpoint.alpn.clone())?;
        let identity = self.identity.ok_or(ConfigError::NoIdentity)?;
        let registration = self.endpoint.registration()?;
        let ticket_keys = match self.ticket_keys {
            Some(_) if self.resumption == Resumption::Off => return Err(ConfigError::ResumptionOff),
            Some(keys) => keys,
            // One that stays when the identity changes, which AWS-LC's own would not.
            None if self.resumption != Resumption::Off => vec![TicketKey::generate()?],
            None => Vec::new(),
        };
        ServerConfig::open(Recipe {
            registration,
            identity,
            alpn,
            client_auth: self.client_auth,
            transport: self.endpoint.transport,
            cipher_suites: self.endpoint.cipher_suites,
            resumption: self.resumption,
            ticket_keys,
        })
    }

    /// Starts listening on `address` (`ListenerStart`); port 0 lets the system choose.
    /// [`Server::listen_also`] adds further addresses.
    ///
    /// # Addresses
    ///
    /// The server is at that address alone. To all other addresses of this machine it does not
    /// exist: a client that tries one hears of the system that nobody is there, and other programs
    /// may have the port there. So nobody but this machine reaches a server on `127.0.0.1` or `::1`.
    ///
    /// - `0.0.0.0` is every IPv4 address of this machine. `[::]` is every address of both families,
    ///   whatever the system is set to (`net.ipv6.bindv6only`). Answers come from the address that
    ///   the client has sent to.
    /// - An IPv4 address that is written as one of IPv6 (`[::ffff:127.0.0.1]`) is that IPv4 address.
    ///   Every address of an IPv4 client, and every one that it has sent to, is shown as IPv4.
    /// - A link-local address needs its scope: `[fe80::1%2]`.
    /// - Nobody listens on a broadcast or multicast address, and packets to one begin no connection.
    /// - What can be bound together is the system's to say. On Linux `[::]` leaves nothing else of
    ///   its port, and `0.0.0.0` nothing of IPv4; single addresses have the port each.
    /// - Servers of one process that have no [protocol](Self::alpn) in common may share an address:
    ///   a client comes to the one that has its protocol.
    /// - A machine without IPv6 serves IPv4 addresses. There `[::]` is
    ///   [`SystemError::FamilyNotSupported`] if the system has no such sockets; if it has no IPv6
    ///   addresses only, `[::]` serves IPv4.
    ///
    /// # Errors
    ///
    /// [`BindError`]: what the builder was given, or the address, cannot be used. Nothing is left
    /// behind.
    pub fn bind(self, address: SocketAddr) -> Result<Server, BindError> {
        let server = self.not_listening()?;
        server.listen_also(address)?;
        Ok(server)
    }

    /// Starts listening on a socket of the application's: one that systemd has opened (socket
    /// activation), that is bound to an interface (`SO_BINDTODEVICE`), or that has options of its own.
    /// quinn's counterpart is `Endpoint::new`. [`Server::listen_also_on`] adds further ones, and
    /// [`Server::local_addr`] tells where the socket is bound. On Linux only.
    ///
    /// ```
    /// use std::net::UdpSocket;
    ///
    /// use sendstream::{Identity, Server};
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// let address = socket.local_addr()?;
    /// let identity = Identity::self_signed(["localhost"])?;
    /// let server = Server::builder().identity(identity).alpn(["demo"]).listen_on(socket)?;
    /// assert_eq!(server.local_addr()?, address);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # What happens to the socket
    ///
    /// - MsQuic duplicates the descriptor (`F_DUPFD_CLOEXEC`), and closes the duplicate once the server
    ///   listens no more, its connections are over, and the last handle of them and of their streams is
    ///   dropped. A clone of the application's
    ///   ([`UdpSocket::try_clone`]) stays open, and so does the port. What arrives after that waits in
    ///   the socket, for another server that is given it, also in another process. Two processes that
    ///   serve from it at once take each other's packets away.
    /// - Another server of this process can be given it as well, once this one listens no more, or
    ///   for other [protocols](Self::alpn).
    /// - Packets that wait in the socket already are served.
    /// - The options that QUIC needs are set: packets are not fragmented (`IP_MTU_DISCOVER`,
    ///   `IPV6_DONTFRAG`), and arrive with address, TTL and type of service, several at a time
    ///   (`UDP_GRO`). `IP_RECVERR`, `UDP_SEGMENT`, `UDP_CORK` and the times of sends (the `TX` flags of
    ///   `SO_TIMESTAMPING`) are off. They stay when the server is gone. Leave them alone until then: a
    ///   packet that arrives without its address, TTL or type of service is dropped.
    /// - All others stay as they are: `O_NONBLOCK`; `SO_RCVBUF`, which MsQuic sets as high as the
    ///   system lets it on sockets of its own; `IPV6_V6ONLY`, so a socket at `[::]` is for both
    ///   families only without it; `SO_REUSEPORT`, with the system's choice among the sockets of an
    ///   address.
    /// - The code points of `IP_TOS` and `IPV6_TCLASS` as they are now are in every packet, unless
    ///   [`Connection::set_dscp`](crate::Connection::set_dscp) sets another than 0.
    ///
    /// The application must not read from a clone of the socket while the server listens: it would take
    /// packets away. It has the address for itself in this process: [`bind`](Self::bind) fails there
    /// with [`BindError::AddressInUse`], whatever the protocols. A server that binds its own sockets has one for each worker. Here one worker
    /// receives for all, which a busy server of many processors feels.
    ///
    /// # Errors
    ///
    /// [`BindError`]: what the builder was given, or the socket ([`SocketRefusal`]), cannot be used.
    /// Nothing is left behind.
    pub fn listen_on(self, socket: UdpSocket) -> Result<Server, BindError> {
        let server = self.not_listening()?;
        server.listen_also_on(socket)?;
        Ok(server)
    }

    /// A server that does not listen yet.
    fn not_listening(self) -> Result<Server, BindError> {
        let logs = self.endpoint.open_logs()?;
        let config = self.build()?;
        Ok(Server(Arc::new(Shared {
            listeners: Mutex::default(),
            _backlog: CountedBacklog::new(config.accept_backlog()),
            queue: IncomingQueue::new(config.accept_backlog(), config.handshake_timeout(), logs),
            alpn: config.alpn().clone(),
            live: LiveHandles::new(config.registration().clone()),
            config: Mutex::new(config),
        })))
    }
}

/// Why a server could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// What the builder was given cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something listens on the address already: choose another port, or end what uses this one.
    #[error("{0} is in use: choose another port, or end what listens there")]
    AddressInUse(SocketAddr),
    /// The address is none of this machine's, or no server's: a broadcast or multicast address.
    #[error("{0} is not an address of this machine: choose one that is, or the unspecified address for all of them")]
    AddressNotAvailable(SocketAddr),
    /// The system lets this user not listen on the port, which is below 1024.
    #[error("no permission to listen on {0}: choose a port above 1023, or get the right to use this one")]
    PermissionDenied(SocketAddr),
    /// The socket that was handed in cannot be used.
    #[error(transparent)]
    Socket(#[from] SocketRefusal),
    /// The server has stopped listening; it does not start again.
    #[error("the server has stopped listening: make another")]
    Stopped,
    /// The system refused something else: a socket, for example, because the process is out of
    /// descriptors.
    #[error("cannot listen: {0}")]
    System(#[source] SystemError),
    /// MsQuic failed.
    #[error("cannot listen: {0}")]
    Native(NativeError),
}

impl BindError {
    fn from_start(error: NativeError, address: SocketAddr) -> Self {
        match error {
            NativeError::ADDRESS_IN_USE | NativeError::ALPN_IN_USE => Self::AddressInUse(address),
            NativeError::PERMISSION_DENIED if is_privileged(address) => Self::PermissionDenied(address),
            NativeError::FORKED => Self::Config(ConfigError::Forked),
            _ => match SystemError::from_native(error) {
                Some(SystemError::AddressNotAvailable) => Self::AddressNotAvailable(address),
                Some(error) => Self::System(error),
                None => Self::Native(error),
            },
        }
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        let kind = match &error {
            BindError::System(error) => return (*error).into(),
            BindError::Native(error) => return (*error).into(),
            BindError::Config(error) => return error.clone().into(),
            BindError::Socket(error) => return (*error).into(),
            BindError::AddressInUse(_) => io::ErrorKind::AddrInUse,
            BindError::AddressNotAvailable(_) => io::ErrorKind::AddrNotAvailable,
            BindError::PermissionDenied(_) => io::ErrorKind::PermissionDenied,
            BindError::Stopped => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}
