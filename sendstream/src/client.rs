//! [`Client`]: connecting to servers.

mod sessions;

use std::{ffi::CString, fmt, future::poll_fn, net::SocketAddr, path::PathBuf, sync::Arc};

use crate::{
    client::sessions::Sessions,
    config::{ConfigError, TransportConfig},
    connection::{
        Connection,
        inner::{ConnectionInner, ConnectionInnerShared, Verify},
        instance::ConnectionInstance,
        resuming::Resuming,
    },
    early::EarlyConnection,
    error::{ConnectionError, NativeError},
    key_log::KeyLog,
    native::{
        address::Address,
        background,
        configuration::{Alpn, Configuration, Credential},
        live::LiveHandles,
        registration::Registration,
    },
    resumption::{SessionCache, ticket::Ticket},
    tls::{Identity, PeerIdentity, Trust},
};

/// Connects to servers, with one set of protocols, trust and transport settings.
///
/// Dropping it leaves its connections as they are.
#[derive(Debug)]
pub struct Client {
    configuration: Arc<Configuration>,
    trust: Trust,
    transport: TransportConfig,
    key_log: Option<KeyLog>,
    sessions: Option<Sessions>,
    live: LiveHandles,
}

impl Client {
    /// Starts to describe a client; [`ClientBuilder::build`] makes it.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            registration: None,
            alpn: Vec::new(),
            trust: Trust::default(),
            identity: None,
            transport: TransportConfig::default(),
            key_log: None,
            session_cache: None,
        }
    }

    /// Connects to `address` and goes through the handshake (`ConnectionStart`).
    ///
    /// `server_name` is what the server is asked for (RFC 6066 §3) and what its certificate must be for: a DNS name or
    /// an IP address.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the name cannot be used, or what ended the handshake. An address where nobody listens times
    /// out after [`handshake_timeout`](TransportConfig::handshake_timeout).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect(&self, address: SocketAddr, server_name: &str) -> Result<Connection, ConnectError> {
        let (instance, _) = self.begin(address, server_name).await?;
        poll_fn(|cx| instance.inner().lock().poll_connected(cx)).await?;
        Ok(Connection::new(instance))
    }

    /// As [`connect`](Self::connect), but resolves at once if a server of this name can be sent early data: if the
    /// [cache](ClientBuilder::session_cache) has a ticket for it that allows that, and its certificates are still believed.
    /// Otherwise it resolves when the handshake is done. Either way the same code goes on:
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
    /// A client with several [protocols](ClientBuilder::alpn) sends no early data: a server that refuses it could choose
    /// another protocol than the one it was meant for.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], as far as it is known by then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect_0rtt(&self, address: SocketAddr, server_name: &str) -> Result<EarlyConnection, ConnectError> {
        let (instance, early_data) = self.begin(address, server_name).await?;
        if !early_data {
            poll_fn(|cx| instance.inner().lock().poll_connected(cx)).await?;
        }
        Ok(EarlyConnection::new(instance, early_data))
    }

    /// Starts a connection: with the ticket for it if there is one, and says whether early data may follow.
    async fn begin(
        &self,
        address: SocketAddr,
        server_name: &str,
    ) -> Result<(Arc<ConnectionInstance>, bool), ConnectError> {
        let name = check_server_name(server_name)?;
        self.trust.check_server_name(server_name).map_err(|_| ConnectError::InvalidServerName)?;
        let ticket = match &self.sessions {
            Some(sessions) => sessions.find(server_name, &self.trust).await,
            None => None,
        };
        let (instance, early_data) = match ticket {
            Some(ticket) => self.open_with(server_name, ticket).await?,
            None => (self.open(server_name, None)?, false),
        };
        let inner = instance.inner().clone();
        let configuration = self.configuration.clone();
        let started = background::ask(move || {
            inner.start(configuration.handle(), &Address::from(address), &name);
            Ok(())
        });
        if early_data {
            // What is sent early must come behind the start.
            started.await?;
        }
        Ok((instance, early_data))
    }

    /// Opens a connection that begins with `ticket`; without, should MsQuic not take it.
    async fn open_with(
        &self,
        server_name: &str,
        ticket: Ticket,
    ) -> Result<(Arc<ConnectionInstance>, bool), ConnectError> {
        let early_data = ticket.early_data && self.sessions.as_ref().is_some_and(Sessions::may_be_early);
        let instance = self.open(server_name, Some(ticket.identity))?;
        let inner = instance.inner().clone();
        match background::ask(move || inner.show_ticket(&ticket.native)).await {
            Ok(()) => Ok((instance, early_data)),
            Err(error) => {
                tracing::debug!(%error, "MsQuic does not take the session ticket");
                Ok((self.open(server_name, None)?, false))
            }
        }
    }

    /// Opens a connection, not started, that begins with a ticket obtained under `shown` if with any.
    fn open(&self, server_name: &str, shown: Option<PeerIdentity>) -> Result<Arc<ConnectionInstance>, ConnectError> {
        let resuming = match &self.sessions {
            Some(sessions) => Resuming::KeepTickets(sessions.keep(server_name, shown)),
            None => Resuming::No,
        };
        let shared = ConnectionInnerShared {
            verify: Some(Verify::Server { trust: self.trust.clone(), server_name: server_name.to_owned() }),
            fixed_send_window: self.transport.send_window.map(u64::from),
            drop_error_code: self.transport.drop_error_code,
            datagram_receive_buffer: self.transport.datagram_receive_buffer,
            scheduling: self.transport.stream_scheduling,
            key_log: self.key_log.clone(),
            resuming,
        };
        let inner = ConnectionInner::open(self.live.registration().handle(), shared, self.live.enter())?;
        Ok(ConnectionInstance::new(inner))
    }

    /// Resolves when no native handle of a connection of this client is left.
    ///
    /// It closes no connection: close or drop them, or wait for their peers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub async fn wait_idle(&self) {
        self.live.none_left().await;
    }
}

fn check_server_name(name: &str) -> Result<CString, ConnectError> {
    let too_long = name.len() > sendstream_sys::QUIC_MAX_SNI_LENGTH as usize;
    if name.is_empty() || too_long {
        return Err(ConnectError::InvalidServerName);
    }
    CString::new(name).map_err(|_| ConnectError::InvalidServerName)
}

/// Describes a [`Client`].
#[derive(Clone)]
#[must_use = "`build` makes the client"]
pub struct ClientBuilder {
    registration: Option<Registration>,
    alpn: Vec<Vec<u8>>,
    trust: Trust,
    identity: Option<Identity>,
    transport: TransportConfig,
    key_log: Option<PathBuf>,
    session_cache: Option<Arc<dyn SessionCache>>,
}

impl ClientBuilder {
    /// The application protocols that it offers, the most wanted first (RFC 7301). Required: at least one, each of 1 to
    /// 255 bytes.
    pub fn alpn(mut self, protocols: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Which servers it believes; [`Trust::system`] unless said otherwise.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// The certificate and key that it shows to servers that ask for one ([`ClientAuth`](crate::ClientAuth)); none unless
    /// said otherwise. It is sent encrypted (RFC 8446 §4.4.2), after the server was believed.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Transport settings for its connections.
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = transport;
        self
    }

    /// The worker threads that it runs on; the process's own unless said otherwise.
    pub fn registration(mut self, registration: &Registration) -> Self {
        self.registration = Some(registration.clone());
        self
    }

    /// Appends the TLS secrets of every connection to the file at `path`, in the NSS key log format that Wireshark reads
    /// (`QUIC_PARAM_CONN_TLS_SECRETS`). The file is made if it is not there, readable by its owner only.
    ///
    /// Whoever reads the file can read the connections. A connection's lines are there when
    /// [`connect`](Client::connect) resolves; one whose handshake fails leaves none. They are written on MsQuic's thread,
    /// so let the file be on a disk that answers.
    pub fn key_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_log = Some(path.into());
        self
    }

    /// [`key_log`](Self::key_log) to the file that the environment variable `SSLKEYLOGFILE` names now; without the variable,
    /// or when it is empty, nothing changes. Unless this is called the variable is ignored.
    pub fn key_log_from_env(self) -> Self {
        match std::env::var_os("SSLKEYLOGFILE").filter(|path| !path.is_empty()) {
            Some(path) => self.key_log(path),
            None => self,
        }
    }

    /// Keeps session tickets of servers in `cache`, and resumes with them: [`MemorySessionCache`](crate::MemorySessionCache)
    /// or one of your own. Without a cache, which is the default, every handshake is a full one.
    ///
    /// A ticket is shown to a server of the same name only, by a client with the same protocols, and only if this client's
    /// [`Trust`] believes the certificates that it was obtained under, at the time of use: so clients of different trust
    /// may share a cache. [`Connection::session_resumed`] tells whether it worked.
    ///
    /// The cache is asked on the background thread ([`SessionCache`]). A verifier of [`Trust::verify_with`] is asked in
    /// [`connect`](Client::connect) then, not in the handshake.
    pub fn session_cache(mut self, cache: Arc<dyn SessionCache>) -> Self {
        self.session_cache = Some(cache);
        self
    }

    /// Checks everything and makes the client (`ConfigurationOpen`, `ConfigurationLoadCredential`).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: what the builder was given cannot be used, or MsQuic could not start.
    pub fn build(self) -> Result<Client, ConfigError> {
        let alpn = Alpn::new(self.alpn)?;
        let key_log = match self.key_log {
            None => None,
            Some(path) => match KeyLog::open(&path) {
                Ok(key_log) => Some(key_log),
                Err(error) => return Err(ConfigError::KeyLog { path, source: Arc::new(error) }),
            },
        };
        let credential = Credential::Client { trust: &self.trust, identity: self.identity.as_ref() };
        let registration = self.registration.map_or_else(Registration::shared, Ok)?;
        let configuration = Configuration::open(&registration, &alpn, &self.transport, credential)?;
        Ok(Client {
            configuration: Arc::new(configuration),
            trust: self.trust,
            transport: self.transport,
            key_log,
            sessions: self.session_cache.map(|cache| Sessions::new(cache, alpn)),
            live: LiveHandles::new(registration),
        })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("trust", &self.trust)
            .field("identity", &self.identity)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// Why a connection could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server name is empty, longer than 65,535 bytes, has a NUL in it, or is neither a DNS name nor an IP address
    /// while a certificate must be checked against it.
    #[error("not a server name: give a DNS name or an IP address, without a NUL")]
    InvalidServerName,
    /// The handshake failed: refused, timed out, or the server was not believed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// MsQuic or the system failed.
    #[error(transparent)]
    Native(#[from] NativeError),
}
