//! [`Server`]: listening, and taking or refusing the connections that come.

pub(crate) mod listener;

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    config::{ConfigError, TransportConfig},
    connection::{Connection, instance::ConnectionInstance},
    early::EarlyConnection,
    error::{ConnectionError, NativeError},
    native::{
        configuration::{Alpn, Configuration, Credential, MAX_TICKET_KEYS},
        live::LiveHandles,
        registration::Registration,
    },
    resumption::{Resumption, TicketKey},
    server::listener::{Listener, ListenerSettings, NewConnection},
    tls::{ClientAuth, Identity},
    waiters::wait_for,
};

/// Listens on an address for connections.
///
/// Dropping it stops listening and lets go of connections that nobody has accepted; accepted ones go on.
///
/// ```
/// use sendstream::{Identity, Server};
///
/// let identity = Identity::self_signed(["localhost"])?;
/// let server = Server::builder().identity(identity).alpn(["demo"]).bind("127.0.0.1:0".parse()?)?;
/// println!("listening on {}", server.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    listener: Arc<Listener>,
    /// What the next connection that is accepted gets. Held only to look at it or to change it.
    current: Mutex<Current>,
    recipe: ConfigurationRecipe,
    live: LiveHandles,
}

/// A server's configuration, and what of it can be changed.
#[derive(Debug, Clone)]
struct Current {
    configuration: Arc<Configuration>,
    identity: Identity,
    ticket_keys: Vec<TicketKey>,
}

/// What a server's configurations have in common, whatever the identity and the ticket keys.
#[derive(Debug)]
struct ConfigurationRecipe {
    alpn: Alpn,
    transport: TransportConfig,
    client_auth: ClientAuth,
    resumption: Resumption,
}

impl ConfigurationRecipe {
    fn open(
        &self,
        registration: &Registration,
        identity: Identity,
        ticket_keys: Vec<TicketKey>,
    ) -> Result<Current, ConfigError> {
        let credential = Credential::Server {
            identity: &identity,
            clients: &self.client_auth,
            resumption: self.resumption,
            ticket_keys: &ticket_keys,
        };
        let configuration = Configuration::open(registration, &self.alpn, &self.transport, credential)?;
        Ok(Current { configuration: Arc::new(configuration), identity, ticket_keys })
    }

    fn check_ticket_keys(&self, keys: &[TicketKey]) -> Result<(), ConfigError> {
        if self.resumption == Resumption::Off {
            return Err(ConfigError::ResumptionOff);
        }
        match keys.len() {
            1..=MAX_TICKET_KEYS => Ok(()),
            count => Err(ConfigError::TicketKeyCount { count }),
        }
    }
}

impl Server {
    /// Starts to describe a server; [`ServerBuilder::bind`] makes it.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            registration: None,
            identity: None,
            client_auth: ClientAuth::None,
            resumption: Resumption::Off,
            ticket_keys: None,
            alpn: Vec::new(),
            transport: TransportConfig::default(),
        }
    }

    /// The address it listens on, with the port that the system chose if it was bound to port 0.
    ///
    /// # Errors
    ///
    /// MsQuic's status, should it not tell.
    pub fn local_addr(&self) -> Result<SocketAddr, NativeError> {
        self.listener.local_address()
    }

    /// The next connection that a client wants: `None` once the server was shut down.
    ///
    /// Any number of tasks may wait at once. While nobody takes them, up to
    /// [`accept_backlog`](TransportConfig::accept_backlog) connections wait; more are refused and counted by
    /// [`refused`](Self::refused). A client gives up after its own handshake timeout.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&self) -> Option<Incoming> {
        let new = wait_for(&*self.listener).await?;
        Some(Incoming { new, configuration: self.lock().configuration.clone() })
    }

    /// Shows `identity` to connections from now on, such as a certificate that was renewed: to those that
    /// [`accept`](Self::accept) has yet to give. Earlier ones keep the identity that they have, and go on
    /// (`ConfigurationOpen`, `ConfigurationLoadCredential`).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: OpenSSL takes no such identity, or MsQuic is out of memory. The server goes on with the old one.
    pub fn set_identity(&self, identity: Identity) -> Result<(), ConfigError> {
        self.change(|_, keys| (identity.clone(), keys))
    }

    /// Encrypts session tickets with the first of `keys` from now on, and takes those that were encrypted with any of them:
    /// 1 to 16 keys. To rotate keys, put the new one first and drop one that is older than the two hours that a ticket
    /// is good for. Where several servers share their keys, first give the new one to all of them in the second place.
    ///
    /// Connections that [`accept`](Self::accept) has given already keep their keys (`ConfigurationOpen`,
    /// `QUIC_PARAM_CONFIGURATION_TICKET_KEYS`).
    ///
    /// # Errors
    ///
    /// [`ConfigError::ResumptionOff`], [`ConfigError::TicketKeyCount`], or MsQuic is out of memory. The server goes on
    /// with the old ones.
    pub fn set_ticket_keys(&self, keys: impl IntoIterator<Item = TicketKey>) -> Result<(), ConfigError> {
        let keys: Vec<_> = keys.into_iter().collect();
        self.recipe.check_ticket_keys(&keys)?;
        self.change(|identity, _| (identity, keys.clone()))
    }

    /// Opens a configuration with another identity or other keys, and takes it unless somebody changed the other meanwhile:
    /// then once more, with that.
    fn change(
        &self,
        change: impl Fn(Identity, Vec<TicketKey>) -> (Identity, Vec<TicketKey>),
    ) -> Result<(), ConfigError> {
        loop {
            let before = self.current();
            let (identity, keys) = change(before.identity, before.ticket_keys);
            let new = self.recipe.open(self.live.registration(), identity, keys)?;
            let mut current = self.lock();
            if !Arc::ptr_eq(&current.configuration, &before.configuration) {
                continue;
            }
            let old = std::mem::replace(&mut *current, new);
            drop(current);
            // Outside of the lock, as it may close the handle.
            drop(old);
            return Ok(());
        }
    }

    fn current(&self) -> Current {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections were refused because nobody accepted those that were waiting.
    pub fn refused(&self) -> u64 {
        self.listener.refused()
    }

    /// Stops listening, and resolves when no native handle of the server is left: not the listener's, and not one of a
    /// connection it accepted.
    ///
    /// It closes no accepted connection: close or drop them, or wait for their peers. [`accept`](Self::accept) gives
    /// `None` from now on.
    ///
    /// # Cancel safety
    ///
    /// Once polled it has stopped listening; dropping the future only ends the wait, and it may be called again.
    pub async fn shutdown(&self) {
        self.listener.stop();
        self.live.none_left().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listener.stop();
    }
}

/// Describes a [`Server`].
#[derive(Debug, Clone)]
#[must_use = "`bind` makes the server"]
pub struct ServerBuilder {
    registration: Option<Registration>,
    identity: Option<Identity>,
    client_auth: ClientAuth,
    resumption: Resumption,
    ticket_keys: Option<Vec<TicketKey>>,
    alpn: Vec<Vec<u8>>,
    transport: TransportConfig,
}

impl ServerBuilder {
    /// The certificate and key that it shows to clients. Required.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Which certificates it asks its clients for; none unless said otherwise.
    /// [`Connection::peer_identity`] gives what a client showed.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = client_auth;
        self
    }

    /// Whether clients can resume a session instead of going through a full handshake, and send 0-RTT data; neither unless
    /// said otherwise. A client gets a ticket once its handshake is done. **0-RTT data can be replayed**: see
    /// [`Resumption`]. Not for a server that asks its clients for certificates ([`ConfigError::ResumptionOfClients`]).
    pub fn resumption(mut self, resumption: Resumption) -> Self {
        self.resumption = resumption;
        self
    }

    /// The keys of its session tickets, as [`Server::set_ticket_keys`] takes them; a key of its own unless said otherwise,
    /// with which its tickets end when it does.
    pub fn ticket_keys(mut self, keys: impl IntoIterator<Item = TicketKey>) -> Self {
        self.ticket_keys = Some(keys.into_iter().collect());
        self
    }

    /// The application protocols that it speaks, the most wanted first (RFC 7301). Required: at least one, each of 1 to
    /// 255 bytes. A client that offers none of them is refused with TLS alert 120.
    pub fn alpn(mut self, protocols: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Transport settings for the connections it accepts.
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = transport;
        self
    }

    /// The worker threads that it runs on; the process's own unless said otherwise.
    pub fn registration(mut self, registration: &Registration) -> Self {
        self.registration = Some(registration.clone());
        self
    }

    /// Starts listening on `address` (`ListenerStart`); port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// [`BindError`]: what the builder was given, or the address, cannot be used. Nothing is left behind.
    pub fn bind(self, address: SocketAddr) -> Result<Server, BindError> {
        let alpn = Alpn::new(self.alpn)?;
        let identity = self.identity.ok_or(ConfigError::NoIdentity)?;
        let registration = self.registration.map_or_else(Registration::shared, Ok).map_err(BindError::Native)?;
        let recipe = ConfigurationRecipe {
            alpn,
            transport: self.transport,
            client_auth: self.client_auth,
            resumption: self.resumption,
        };
        let resumes = recipe.resumption != Resumption::Off;
        if resumes && recipe.client_auth.trust().is_some() {
            return Err(ConfigError::ResumptionOfClients.into());
        }
        let ticket_keys = match self.ticket_keys {
            Some(keys) => {
                recipe.check_ticket_keys(&keys)?;
                keys
            }
            // One that stays when the identity changes, which OpenSSL's own would not.
            None if resumes => vec![TicketKey::generate()?],
            None => Vec::new(),
        };
        let current = Mutex::new(recipe.open(&registration, identity, ticket_keys)?);
        let live = LiveHandles::new(registration);
        let settings = ListenerSettings {
            backlog: recipe.transport.accept_backlog,
            client_auth: recipe.client_auth.clone(),
            fixed_send_window: recipe.transport.send_window.map(u64::from),
            drop_error_code: recipe.transport.drop_error_code,
            datagram_receive_buffer: recipe.transport.datagram_receive_buffer,
            scheduling: recipe.transport.stream_scheduling,
            resumption: recipe.resumption,
        };
        let listener = Listener::start(&recipe.alpn, address, settings, &live)
            .map_err(|error| BindError::from_start(error, address))?;
        Ok(Server { listener, current, recipe, live })
    }
}

/// A connection that a client wants and nobody has accepted yet.
///
/// Dropping it refuses the connection.
#[derive(Debug)]
pub struct Incoming {
    new: NewConnection,
    configuration: Arc<Configuration>,
}

impl Incoming {
    /// The client's address. It may not be the client's at all before the handshake is done: a first packet's source is
    /// easily forged.
    pub fn remote_address(&self) -> SocketAddr {
        self.new.remote_address
    }

    /// The server name that the client asked for (RFC 6066 §3); empty if it asked for none.
    pub fn server_name(&self) -> &str {
        &self.new.server_name
    }

    /// Goes through the handshake (`ConnectionSetConfiguration`) and gives the connection.
    ///
    /// # Errors
    ///
    /// The [`ConnectionError`] that ended the handshake: the client gave up, TLS found no agreement, or the client's
    /// certificate was refused ([`ConnectionError::CertificateRefused`]).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept(self) -> Result<Connection, ConnectionError> {
        let instance = self.go_on();
        poll_fn(|cx| instance.inner().lock().poll_connected(cx)).await?;
        Ok(Connection::new(instance))
    }

    /// As [`accept`](Self::accept), but resolves as soon as the client's early data can be read, before the handshake is
    /// done (`QUIC_CONNECTION_EVENT_RESUMED`): if the client resumes a session. Otherwise when the handshake is done.
    ///
    /// **Early data can be replayed**: see [`Resumption`]. Where it may be acted upon once only, use `accept`: when the
    /// handshake is done, so that `accept` resolves, the client is there, and what it sent early was sent by it now.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept_0rtt(self) -> Result<EarlyConnection, ConnectionError> {
        let instance = self.go_on();
        poll_fn(|cx| instance.inner().lock().poll_early(cx)).await?;
        Ok(EarlyConnection::new(instance, false))
    }

    /// Has the handshake go on.
    fn go_on(self) -> Arc<ConnectionInstance> {
        let instance = self.new.instance;
        if let Err(status) = instance.inner().set_configuration(self.configuration.handle()) {
            // Its end is on the way, and brings the cause.
            tracing::debug!(%status, "an incoming connection was gone before it was accepted");
        }
        instance
    }

    /// Refuses the connection; the client sees [`ConnectionError::Refused`].
    pub fn refuse(self) {
        drop(self);
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
    /// The address is none of this machine's.
    #[error("{0} is not an address of this machine: choose one that is, or the unspecified address for all of them")]
    AddressNotAvailable(SocketAddr),
    /// The system lets this user not listen there.
    #[error("no permission to listen on {0}: choose a port above 1023, or get the right to use this one")]
    PermissionDenied(SocketAddr),
    /// MsQuic or the system failed.
    #[error("cannot listen: {0}")]
    Native(NativeError),
}

impl BindError {
    fn from_start(error: NativeError, address: SocketAddr) -> Self {
        match error {
            NativeError::ADDRESS_IN_USE | NativeError::ALPN_IN_USE => Self::AddressInUse(address),
            NativeError::ADDRESS_NOT_AVAILABLE | NativeError::INVALID_ADDRESS => Self::AddressNotAvailable(address),
            _ if error.status() == libc::EACCES as u32 => Self::PermissionDenied(address),
            _ => Self::Native(error),
        }
    }
}
