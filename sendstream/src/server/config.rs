//! [`ServerConfig`]: what a connection is accepted with.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{ConfigError, TransportConfig},
    connection::inner::{ConnectionInnerShared, Verify},
    native::{
        configuration::{Alpn, Configuration, Credential},
        registration::Registration,
    },
    tls::{ClientAuth, Identity},
};

/// What a server shows, asks for and allows on a connection: identity, client certificates, protocols and transport settings,
/// checked and loaded.
///
/// [`ServerBuilder::build`](crate::ServerBuilder::build) makes it, a clone costs a counter, and
/// [`Incoming::accept_with`](crate::Incoming::accept_with) uses it for one connection.
#[derive(Debug, Clone)]
pub struct ServerConfig(Arc<Checked>);

#[derive(Debug)]
struct Checked {
    configuration: Arc<Configuration>,
    registration: Registration,
    alpn: Alpn,
    client_auth: ClientAuth,
    transport: TransportConfig,
}

impl ServerConfig {
    pub(crate) fn open(
        registration: Registration,
        identity: &Identity,
        alpn: Alpn,
        client_auth: ClientAuth,
        transport: TransportConfig,
    ) -> Result<Self, ConfigError> {
        let credential = Credential::Server { identity, clients: &client_auth };
        let configuration = Arc::new(Configuration::open(&registration, &alpn, &transport, credential)?);
        Ok(Self(Arc::new(Checked { configuration, registration, alpn, client_auth, transport })))
    }

    /// The same with another identity, such as a certificate that was renewed or is for another name
    /// (`ConfigurationOpen`, `ConfigurationLoadCredential`).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: OpenSSL takes no such identity, or MsQuic is out of memory.
    pub fn with_identity(&self, identity: &Identity) -> Result<Self, ConfigError> {
        let Checked { registration, alpn, client_auth, transport, .. } = &*self.0;
        Self::open(registration.clone(), identity, alpn.clone(), client_auth.clone(), transport.clone())
    }

    pub(crate) fn registration(&self) -> &Registration {
        &self.0.registration
    }

    pub(crate) fn alpn(&self) -> &Alpn {
        &self.0.alpn
    }

    pub(crate) fn accept_backlog(&self) -> usize {
        self.0.transport.accept_backlog
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.0.transport.handshake_timeout
    }

    pub(crate) fn configuration(&self) -> &Arc<Configuration> {
        &self.0.configuration
    }

    /// What a connection that is accepted with this goes by.
    pub(crate) fn for_connection(&self) -> ConnectionInnerShared {
        let Checked { configuration, client_auth, transport, .. } = &*self.0;
        ConnectionInnerShared {
            _configuration: Some(configuration.clone()),
            ..ConnectionInnerShared::new(Verify::clients(client_auth), transport)
        }
    }
}
