//! [`Client`]: connecting to servers.

use std::{ffi::CString, future::poll_fn, net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use crate::{
    config::{ConfigError, TransportConfig},
    connection::{
        Connection,
        inner::{ConnectionInner, ConnectionInnerShared, Verify},
        instance::ConnectionInstance,
    },
    endpoint::{EndpointSettings, endpoint_setters},
    error::{ConnectionError, NativeError},
    key_log::KeyLog,
    native::{
        address::Address,
        background,
        configuration::{Alpn, Configuration, Credential},
        live::LiveHandles,
        registration::Registration,
    },
    tls::{Identity, Trust},
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
    live: LiveHandles,
}

impl Client {
    /// Starts to describe a client; [`ClientBuilder::build`] makes it.
    pub fn builder() -> ClientBuilder {
        ClientBuilder { endpoint: EndpointSettings::default(), trust: Trust::default(), identity: None, key_log: None }
    }

    /// Connects to `address` and goes through the handshake (`ConnectionStart`).
    ///
    /// `server_name` is what the server is asked for (RFC 6066 §3) and what its certificate must be for: a DNS name or
    /// an IP address.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the name cannot be used, or what ended the handshake. An address where nobody listens times
    /// out after [`handshake_timeout`](TransportConfig::handshake_timeout), and so does a server whose application does not
    /// accept.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connect(&self, address: SocketAddr, server_name: &str) -> Result<Connection, ConnectError> {
        let name = check_server_name(server_name)?;
        self.trust.check_server_name(server_name).map_err(|_| ConnectError::InvalidServerName)?;
        let verify = Verify::Server { trust: self.trust.clone(), server_name: server_name.to_owned() };
        let shared = ConnectionInnerShared {
            key_log: self.key_log.clone(),
            ..ConnectionInnerShared::new(Some(verify), &self.transport)
        };
        let inner = ConnectionInner::open(self.live.registration().handle(), shared, self.live.enter())?;
        let instance = ConnectionInstance::new(inner.clone());
        let _timer = inner.time_out_at(Instant::now() + self.transport.handshake_timeout);
        let configuration = self.configuration.clone();
        background::run(move || inner.start(configuration.handle(), &Address::from(address), &name));
        poll_fn(|cx| instance.inner().lock().poll_connected(cx)).await?;
        Ok(Connection::new(instance))
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
#[derive(Debug, Clone)]
#[must_use = "`build` makes the client"]
pub struct ClientBuilder {
    endpoint: EndpointSettings,
    trust: Trust,
    identity: Option<Identity>,
    key_log: Option<PathBuf>,
}

impl ClientBuilder {
    endpoint_setters! {
        /// The application protocols that it offers, the most wanted first (RFC 7301). Required: at least one, each of 1 to
        /// 255 bytes.
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

    /// Checks everything and makes the client (`ConfigurationOpen`, `ConfigurationLoadCredential`).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: what the builder was given cannot be used, or MsQuic could not start.
    pub fn build(self) -> Result<Client, ConfigError> {
        let alpn = Alpn::new(self.endpoint.alpn.clone())?;
        let key_log = match self.key_log {
            None => None,
            Some(path) => match KeyLog::open(&path) {
                Ok(key_log) => Some(key_log),
                Err(error) => return Err(ConfigError::KeyLog { path, source: Arc::new(error) }),
            },
        };
        let credential = Credential::Client { trust: &self.trust, identity: self.identity.as_ref() };
        let registration = self.endpoint.registration()?;
        let configuration = Configuration::open(&registration, &alpn, &self.endpoint.transport, credential)?;
        Ok(Client {
            configuration: Arc::new(configuration),
            trust: self.trust,
            transport: self.endpoint.transport,
            key_log,
            live: LiveHandles::new(registration),
        })
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
