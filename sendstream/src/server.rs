//! [`Server`]: listening, and taking or refusing the connections that come.

pub(crate) mod listener;

use std::{
    future::poll_fn,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    config::{ConfigError, TransportConfig},
    connection::Connection,
    error::{ConnectionError, NativeError},
    key_log::{self, KeyLog},
    native::{
        configuration::{Alpn, Configuration, Credential},
        live::LiveHandles,
        registration::Registration,
    },
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
    configuration: Mutex<Arc<Configuration>>,
    recipe: ConfigurationRecipe,
    live: LiveHandles,
}

/// What a server's configurations have in common, whatever the identity.
#[derive(Debug)]
struct ConfigurationRecipe {
    alpn: Alpn,
    transport: TransportConfig,
    client_auth: ClientAuth,
}

impl ConfigurationRecipe {
    fn open(&self, registration: &Registration, identity: &Identity) -> Result<Arc<Configuration>, ConfigError> {
        let credential = Credential::Server { identity, clients: &self.client_auth };
        Configuration::open(registration, &self.alpn, &self.transport, credential).map(Arc::new)
    }
}

impl Server {
    /// Starts to describe a server; [`ServerBuilder::bind`] makes it.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            registration: None,
            identity: None,
            client_auth: ClientAuth::None,
            alpn: Vec::new(),
            transport: TransportConfig::default(),
            key_log: None,
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
        Some(Incoming { new, configuration: self.configuration() })
    }

    /// Shows `identity` to connections from now on, such as a certificate that was renewed: to those that
    /// [`accept`](Self::accept) has yet to give. Earlier ones keep the identity that they have, and go on
    /// (`ConfigurationOpen`, `ConfigurationLoadCredential`).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: OpenSSL takes no such identity, or MsQuic is out of memory. The server goes on with the old one.
    pub fn set_identity(&self, identity: Identity) -> Result<(), ConfigError> {
        let new = self.recipe.open(self.live.registration(), &identity)?;
        let old = std::mem::replace(&mut *self.configuration.lock().unwrap_or_else(PoisonError::into_inner), new);
        // Outside of the lock, as it may close the handle.
        drop(old);
        Ok(())
    }

    fn configuration(&self) -> Arc<Configuration> {
        self.configuration.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
    alpn: Vec<Vec<u8>>,
    transport: TransportConfig,
    key_log: Option<PathBuf>,
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

    /// Appends the TLS secrets of every connection to the file at `path`, as
    /// [`ClientBuilder::key_log`](crate::ClientBuilder::key_log) does. A connection's lines are there when
    /// [`Incoming::accept`] resolves.
    pub fn key_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_log = Some(path.into());
        self
    }

    /// [`key_log`](Self::key_log) to the file that the environment variable `SSLKEYLOGFILE` names now; without the variable,
    /// or when it is empty, nothing changes. Unless this is called the variable is ignored.
    pub fn key_log_from_env(self) -> Self {
        match key_log::path_from_env() {
            Some(path) => self.key_log(path),
            None => self,
        }
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
        let recipe = ConfigurationRecipe { alpn, transport: self.transport, client_auth: self.client_auth };
        let configuration = Mutex::new(recipe.open(&registration, &identity)?);
        let live = LiveHandles::new(registration);
        let settings = ListenerSettings {
            backlog: recipe.transport.accept_backlog,
            client_auth: recipe.client_auth.clone(),
            fixed_send_window: recipe.transport.send_window.map(u64::from),
            drop_error_code: recipe.transport.drop_error_code,
            datagram_receive_buffer: recipe.transport.datagram_receive_buffer,
            scheduling: recipe.transport.stream_scheduling,
            key_log: self.key_log.map(KeyLog::open).transpose()?,
        };
        let listener = Listener::start(&recipe.alpn, address, settings, &live)
            .map_err(|error| BindError::from_start(error, address))?;
        Ok(Server { listener, configuration, recipe, live })
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
        let instance = self.new.instance;
        if let Err(status) = instance.inner().set_configuration(self.configuration.handle()) {
            // Its end is on the way, and brings the cause.
            tracing::debug!(%status, "an incoming connection was gone before it was accepted");
        }
        poll_fn(|cx| instance.inner().lock().poll_connected(cx)).await?;
        Ok(Connection::new(instance))
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
