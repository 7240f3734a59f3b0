//! [`ServerConfig`]: the settings of a connection that a server accepts.

use std::{sync::Arc, time::Duration};

use crate::{
    driver::connection::shared::{ConnectionInnerShared, Resuming, Verify},
    native::{
        configuration::{Alpn, Configuration, Credential, MAX_TICKET_KEYS},
        registration::Registration,
    },
    types::{
        config::{ConfigError, TransportConfig},
        resumption::{Resumption, TicketKey},
        stats::CipherSuite,
        tls::{ClientAuth, Identity},
    },
};

/// The settings of a server's connections, checked and loaded: identity, client certificates,
/// resumption, protocols and transport settings.
///
/// [`ServerBuilder::build`](crate::ServerBuilder::build) makes it, a clone costs a counter, and
/// [`Incoming::accept_with`](crate::Incoming::accept_with) uses it for one connection.
#[derive(Debug, Clone)]
pub struct ServerConfig(Arc<Checked>);

#[derive(Debug)]
struct Checked {
    configuration: Arc<Configuration>,
    recipe: Recipe,
}

/// What a configuration is made of.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) registration: Registration,
    pub(crate) identity: Identity,
    pub(crate) alpn: Alpn,
    pub(crate) client_auth: ClientAuth,
    pub(crate) transport: TransportConfig,
    /// Those it is kept to, if it is.
    pub(crate) cipher_suites: Option<Vec<CipherSuite>>,
    pub(crate) resumption: Resumption,
    /// None where sessions are not resumed.
    pub(crate) ticket_keys: Vec<TicketKey>,
}

impl Recipe {
    fn check(&self) -> Result<(), ConfigError> {
        match (self.resumption, self.ticket_keys.len()) {
            (Resumption::Off, _) => Ok(()),
            _ if self.client_auth.trust().is_some() => Err(ConfigError::ResumptionOfClients),
            (_, 1..=MAX_TICKET_KEYS) => Ok(()),
            (_, count) => Err(ConfigError::TicketKeyCount { count }),
        }
    }
}

impl ServerConfig {
    pub(crate) fn open(recipe: Recipe) -> Result<Self, ConfigError> {
        recipe.check()?;
        let Recipe { registration, identity, alpn, client_auth, transport, cipher_suites, resumption, ticket_keys } =
            &recipe;
        let credential = Credential::Server { identity, clients: client_auth, resumption: *resumption, ticket_keys };
        let configuration =
            Arc::new(Configuration::open(registration, alpn, transport, cipher_suites.as_deref(), credential)?);
        Ok(Self(Arc::new(Checked { configuration, recipe })))
    }

    /// The same with another identity, such as a certificate that was renewed or is for another
    /// name (`ConfigurationOpen`, `ConfigurationLoadCredential`).
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: AWS-LC takes no such identity, or MsQuic is out of memory.
    pub fn with_identity(&self, identity: &Identity) -> Result<Self, ConfigError> {
        Self::open(Recipe { identity: identity.clone(), ..self.0.recipe.clone() })
    }

    /// The same with other ticket keys, as
    /// [`Server::set_ticket_keys`](crate::Server::set_ticket_keys) takes them (`ConfigurationOpen`,
    /// `QUIC_PARAM_CONFIGURATION_TICKET_KEYS`).
    ///
    /// # Errors
    ///
    /// [`ConfigError::ResumptionOff`], [`ConfigError::TicketKeyCount`], or MsQuic is out of memory.
    pub fn with_ticket_keys(&self, keys: impl IntoIterator<Item = TicketKey>) -> Result<Self, ConfigError> {
        let ticket_keys: Vec<_> = keys.into_iter().collect();
        if self.0.recipe.resumption == Resumption::Off {
            return Err(ConfigError::ResumptionOff);
        }
        Self::open(Recipe { ticket_keys, ..self.0.recipe.clone() })
    }

    /// Whether it is a clone of `other`.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn registration(&self) -> &Registration {
        &self.0.recipe.registration
    }

    pub(crate) fn alpn(&self) -> &Alpn {
        &self.0.recipe.alpn
    }

    pub(crate) fn accept_backlog(&self) -> usize {
        self.0.recipe.transport.accept_backlog
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.0.recipe.transport.handshake_timeout
    }

    pub(crate) fn configuration(&self) -> &Arc<Configuration> {
        &self.0.configuration
    }

    /// What a connection that is accepted with this goes by.
    pub(crate) fn for_connection(&self) -> ConnectionInnerShared {
        let Checked { configuration, recipe } = &*self.0;
        ConnectionInnerShared {
            resuming: match recipe.resumption {
                Resumption::Off => Resuming::No,
                Resumption::Resume => Resuming::SendTicket { early_data: false },
                Resumption::ResumeAndZeroRtt => Resuming::SendTicket { early_data: true },
            },
            _configuration: Some(configuration.clone()),
            ..ConnectionInnerShared::new(recipe.alpn.clone(), Verify::clients(&recipe.client_auth), &recipe.transport)
        }
    }
}
