//! [`Client`]: connecting to servers.

mod handshake;
mod host;
mod sessions;
pub(crate) mod socket;

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use crate::{
    client::{sessions::Sessions, socket::Socket},
    connection::Connection,
    early::EarlyConnection,
    endpoint::{EndpointSettings, endpoint_setters},
    native::{
        configuration::{Alpn, Configuration, Credential},
        live::LiveHandles,
        logs::Logs,
        registration::Registration,
    },
    types::{
        code::{CodeOutOfRange, check_code},
        config::{ConfigError, TransportConfig},
        error::{ConnectionError, NativeError},
        resumption::SessionCache,
        system::{SystemError, is_privileged},
        text::Printable,
        tls::{Identity, Trust},
    },
};

/// Connects to servers, with one set of protocols, trust and transport settings.
///
/// Its connections share one UDP port for IPv4 and one for IPv6, as connection ids tell their
/// packets apart (RFC 9000 §5.2). So its descriptors do not grow with its connections. Each port
/// opens with the first connection that needs it, and takes four descriptors for each of MsQuic's
/// workers. It closes when the client and its connections are gone.
/// [`ClientBuilder::socket_per_connection`] gives each connection a socket of its own instead.
///
/// Dropping it leaves its connections as they are. Clones are handles of the same client: they share
/// ports, connections and sessions.
#[derive(Clone)]
pub struct Client {
    configuration: Arc<Configuration>,
    alpn: Alpn,
    trust: Trust,
    transport: TransportConfig,
    socket: Socket,
    logs: Logs,
    sessions: Option<Sessions>,
    live: LiveHandles,
}

/// One line: whom it believes, and how many connections are open.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("trust", &self.trust)
            .field("open", &self.open_connections())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Starts to describe a client; [`ClientBuilder::build`] makes it.
    /// [`Server::client`](crate::Server::client) describes one that dials from a server's port.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new(Socket::default(), EndpointSettings::default())
    }

    /// Connects to `address` and goes through the handshake (`ConnectionStart`).
    /// [`connect_host`](Self::connect_host) takes a host's name instead, and
    /// [`connect_any`](Self::connect_any) several addresses.
    ///
    /// The client asks for `server_name` (RFC 6066 §3), and the server's certificate must be valid
    /// for it. It is a DNS name or an IP address, without a port and without brackets. A name goes
    /// out in lower case, in A-labels (`bücher.example` as `xn--bcher-kva.example`, by UTS #46) and
    /// without a dot at its end. It may have underscores. An address does not go out.
    ///
    /// A connection whose handshake was done is returned also if it has ended since: what the
    /// server sent before can be read.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the name cannot be used, or what ended the handshake. The attempt times
    /// out after [`handshake_timeout`](TransportConfig::handshake_timeout) if nobody listens at the
    /// address, or if the server's application does not accept.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect(&self, address: SocketAddr, server_name: &str) -> Result<Connection, ConnectError> {
        let begun = self.begin(address, server_name).await?;
        self.connected(&begun).await?;
        Ok(Connection::new(begun.user))
    }

    /// As [`connect`](Self::connect), but resolves at once if the client can send early data. It
    /// can if the [cache](ClientBuilder::session_cache) has a ticket for this server that allows
    /// early data, and if the client still believes the certificates of the ticket. Otherwise it
    /// resolves when the handshake is done. The same code serves both cases:
    ///
    /// ```no_run
    /// # async fn example(client: sendstream::Client, address: std::net::SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    /// let early = client.connect_0rtt(address, "server.test").await?;
    /// let mut request = early.open_uni_0rtt()?;
    /// request.finish_with("what time is it?").await?; // sent again by itself if the server refuses early data
    /// let accepted = early.accepted_0rtt().await;
    /// let connection = early.connected().await?;
    /// # let _ = (accepted, connection);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// **Early data can be replayed**: see [`EarlyConnection`].
    ///
    /// A client with several [protocols](ClientBuilder::alpn) sends no early data. A server that
    /// refuses the data could choose a protocol for which it was not meant.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], as far as it is known by then. The
    /// [`handshake_timeout`](TransportConfig::handshake_timeout) begins with the call, and
    /// continues after this has resolved.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect_0rtt(&self, address: SocketAddr, server_name: &str) -> Result<EarlyConnection, ConnectError> {
        let begun = self.begin(address, server_name).await?;
        if !begun.early_data {
            self.connected(&begun).await?;
        }
        Ok(EarlyConnection::new(begun.user, begun.deadline, begun.early_data))
    }

    /// Closes every connection that this client has now, as
    /// [`Connection::close`](crate::Connection::close) does, also those whose handshake is under
    /// way. It may connect again.
    ///
    /// To end in good order, close all and then [wait](Self::wait_idle).
    ///
    /// # Errors
    ///
    /// [`CodeOutOfRange`]: `code` has more than 62 bits; nothing was closed.
    pub fn close_all(&self, code: u64, reason: &str) -> Result<(), CodeOutOfRange> {
        check_code(code)?;
        self.live.close_all(code, reason);
        Ok(())
    }

    /// How many connections it has now, those included whose handshake is under way. One that is
    /// over does not count, whoever holds it.
    pub fn open_connections(&self) -> usize {
        self.live.open_connections()
    }

    /// Resolves when every connection of this client is over: closed by either side, and all that
    /// MsQuic had to send about it sent. Who still holds a connection that is over, or a stream of
    /// it, holds up nobody.
    ///
    /// It closes no connection: [close](Self::close_all) or drop them, or wait for their peers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub async fn wait_idle(&self) {
        self.live.none_left().await;
    }
}

/// Describes a [`Client`].
#[derive(Clone)]
#[must_use = "`build` makes the client"]
pub struct ClientBuilder {
    endpoint: EndpointSettings,
    trust: Trust,
    identity: Option<Identity>,
    socket: Socket,
    session_cache: Option<Arc<dyn SessionCache>>,
}

impl ClientBuilder {
    pub(crate) fn new(socket: Socket, endpoint: EndpointSettings) -> Self {
        Self { endpoint, trust: Trust::default(), identity: None, socket, session_cache: None }
    }

    endpoint_setters! {
        alpn:
        /// The application protocols that it offers, the most wanted first (RFC 7301). Required: at
        /// least one, each of 1 to 255 bytes.
        key_log:
        /// A connection's lines are there when [`connect`](Client::connect) resolves; one whose
        /// handshake fails leaves none.
    }

    /// Which servers it believes; [`Trust::system`] unless said otherwise.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// The certificate and key that the client shows to a server that asks for one
    /// ([`ClientAuth`](crate::ClientAuth)). The default is none. The certificate goes out encrypted
    /// (RFC 8446 §4.4.2), after the client believes the server.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The local address of the client's connections (`QUIC_PARAM_CONN_LOCAL_ADDRESS`). By default
    /// the system chooses it. With port 0 the system chooses only the port. With the unspecified
    /// address (`0.0.0.0`, `::`) it chooses only the address.
    ///
    /// It must be of the family of the servers' addresses; `::` stands for both. The client's
    /// connections share the port, and nobody else can have it meanwhile. [`Connection::rebind`]
    /// moves a connection later.
    pub fn bind(mut self, local: SocketAddr) -> Self {
        self.socket.set_local(local);
        self
    }

    /// A socket of the application's for all connections of the client: one that is bound to an
    /// interface (`SO_BINDTODEVICE`), or that has options of its own. It must be of the family of the
    /// servers' addresses; one that is bound to `::`, without `IPV6_V6ONLY`, serves both. On Linux only.
    /// quinn's counterpart is `Endpoint::new`.
    ///
    /// [`build`](Self::build) takes it into use, once:
    /// [`ServerBuilder::listen_on`](crate::ServerBuilder::listen_on) says what happens to it. MsQuic
    /// keeps its duplicate as long as the client and its connections live. One worker receives for all
    /// connections. Which ways the socket has, only the socket knows: that none leads to a server shows
    /// as the handshake's timeout. Of this, [`bind`](Self::bind) and
    /// [`socket_per_connection`](Self::socket_per_connection) the last counts.
    pub fn socket(mut self, socket: UdpSocket) -> Self {
        self.socket = Socket::Given(Arc::new(socket));
        self
    }

    /// Whether each connection has a UDP socket of its own, which is connected to the server
    /// (`connect` of POSIX). The default is `false`: they share one ([`Client`]).
    ///
    /// A socket of its own takes four descriptors and a port for each connection. A packet needs no
    /// connection id then: one of the server's is 9 bytes shorter, or 14 after
    /// [`set_load_balancing`](crate::process::set_load_balancing). A port to [bind](Self::bind)
    /// other than 0 serves one connection at a time then.
    ///
    /// A client of one or two connections on a machine of many processors may want that. So may one
    /// whose address changes often, if the server runs on an MsQuic without Sendstream's edits: that
    /// one can run out of connection ids, and the connection times out.
    ///
    /// Only an MsQuic with Sendstream's edits can share a socket. With another
    /// (`SENDSTREAM_MSQUIC=system`) each connection has its own, whatever is set here.
    pub fn socket_per_connection(mut self, separate: bool) -> Self {
        self.socket.set_per_connection(separate);
        self
    }

    /// Keeps session tickets in `cache` and resumes sessions with them. Use
    /// [`MemorySessionCache`](crate::MemorySessionCache) or your own. By default there is no cache,
    /// and every handshake is a full one.
    ///
    /// A client shows a ticket only to a server of the same name, and only if it speaks the same
    /// protocols. Its [`Trust`] must believe the certificates of the ticket at the time of use, so
    /// clients of different trust may share a cache. [`Connection::session_resumed`] tells whether
    /// it worked.
    ///
    /// The background thread asks the cache ([`SessionCache`]). With a ticket,
    /// [`connect`](Client::connect) asks the verifier of [`Trust::verify_with`], and the handshake
    /// does not.
    pub fn session_cache(mut self, cache: Arc<dyn SessionCache>) -> Self {
        self.session_cache = Some(cache);
        self
    }

    /// Checks everything and makes the client (`ConfigurationOpen`, `ConfigurationLoadCredential`).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: what the builder was given cannot be used, or MsQuic could not start.
    pub fn build(mut self) -> Result<Client, ConfigError> {
        let alpn = Alpn::new(self.endpoint.alpn.clone())?;
        let logs = self.endpoint.open_logs()?;
        let credential = Credential::Client { trust: &self.trust, identity: self.identity.as_ref() };
        let registration = self.endpoint.registration()?;
        let mut configuration = Configuration::open(
            &registration,
            &alpn,
            &self.endpoint.transport,
            self.endpoint.cipher_suites.as_deref(),
            credential,
        )?;
        self.socket.configure(&mut configuration)?;
        Ok(Client {
            configuration: Arc::new(configuration),
            alpn: alpn.clone(),
            trust: self.trust,
            transport: self.endpoint.transport,
            socket: self.socket,
            logs,
            sessions: self.session_cache.map(|cache| Sessions::new(cache, alpn)),
            live: LiveHandles::new(registration),
        })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("endpoint", &self.endpoint)
            .field("trust", &self.trust)
            .field("identity", &self.identity)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// Why a connection could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server name is neither a DNS name nor an IP address, or one with a port, brackets or
    /// spaces. Nothing was sent, whatever the client's [`Trust`] is.
    #[error("not a server name: give a DNS name or an IP address, without a port and without brackets")]
    InvalidServerName,
    /// The host of [`Client::connect_host`] stands for no address, or the system's resolver could
    /// not be asked.
    #[error(
        "{} cannot be resolved ({error}): check how it is spelt, and that this machine reaches its DNS server",
        Printable::new(.host)
    )]
    Unresolved {
        /// The host's name, as it was looked up.
        host: String,
        /// What the resolver said.
        #[source]
        error: Arc<io::Error>,
    },
    /// [`Client::connect_any`] was given no address.
    #[error("no address to connect to: give one at least")]
    NoAddress,
    /// The address to [bind](ClientBuilder::bind), or that of the [socket](ClientBuilder::socket), is
    /// not of the family that the server's address has, nor `::` without `IPV6_V6ONLY`.
    #[error("{local} is of another family than the server's {remote}: bind to one of the same")]
    FamilyMismatch {
        /// The address that the client binds.
        local: SocketAddr,
        /// The server's.
        remote: SocketAddr,
    },
    /// Something uses the address to [bind](ClientBuilder::bind) already, such as another client; or
    /// another connection of this one, if it has a
    /// [socket for each](ClientBuilder::socket_per_connection).
    #[error("{0} is in use: bind to another port, or to 0")]
    AddressInUse(SocketAddr),
    /// The address to [bind](ClientBuilder::bind) is none of this machine's, or no socket's: a
    /// broadcast or multicast address.
    #[error("{0} is not an address of this machine: bind to one that is, or to the unspecified address")]
    AddressNotAvailable(SocketAddr),
    /// The system lets this user not [bind](ClientBuilder::bind) the port, which is below 1024.
    #[error("no permission to bind {0}: choose a port above 1023, or 0")]
    PermissionDenied(SocketAddr),
    /// The handshake failed: refused, timed out, or the server was not believed. What the system on
    /// this side refused is [`ConnectionError::System`].
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// MsQuic or the system failed.
    #[error(transparent)]
    Native(NativeError),
}

impl From<NativeError> for ConnectError {
    fn from(error: NativeError) -> Self {
        match (error, SystemError::from_native(error)) {
            (NativeError::FORKED, _) => Self::Connection(ConnectionError::Forked),
            (_, Some(error)) => Self::Connection(error.into()),
            _ => Self::Native(error),
        }
    }
}

impl ConnectError {
    /// Recognises a socket that could not be bound to `local`: MsQuic reports it as the
    /// connection's end.
    fn from_handshake(error: ConnectionError, local: Option<SocketAddr>) -> Self {
        match (&error, local) {
            (ConnectionError::System(SystemError::AddressInUse), Some(local)) => Self::AddressInUse(local),
            (ConnectionError::System(SystemError::AddressNotAvailable), Some(local)) => {
                Self::AddressNotAvailable(local)
            }
            (ConnectionError::System(SystemError::PermissionDenied), Some(local)) if is_privileged(local) => {
                Self::PermissionDenied(local)
            }
            _ => Self::Connection(error),
        }
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::Connection(error) => return error.clone().into(),
            ConnectError::Native(error) => return (*error).into(),
            ConnectError::Unresolved { error, .. } => error.kind(),
            ConnectError::InvalidServerName | ConnectError::NoAddress | ConnectError::FamilyMismatch { .. } => {
                io::ErrorKind::InvalidInput
            }
            ConnectError::AddressInUse(_) => io::ErrorKind::AddrInUse,
            ConnectError::AddressNotAvailable(_) => io::ErrorKind::AddrNotAvailable,
            ConnectError::PermissionDenied(_) => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}
