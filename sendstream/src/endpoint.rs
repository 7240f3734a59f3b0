//! What servers and clients are described with alike.

use crate::{
    native::registration::Registration,
    types::{config::TransportConfig, error::NativeError, stats::CipherSuite},
};

/// The settings that [`ServerBuilder`](crate::ServerBuilder) and [`ClientBuilder`](crate::ClientBuilder) have in common.
/// Their setters are in [`endpoint_setters`].
#[derive(Debug, Clone, Default)]
pub(crate) struct EndpointSettings {
    pub(crate) registration: Option<Registration>,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) transport: TransportConfig,
    /// Those it is kept to, if it is.
    pub(crate) cipher_suites: Option<Vec<CipherSuite>>,
}

impl EndpointSettings {
    /// The worker threads that were chosen, or the process's own.
    pub(crate) fn registration(&self) -> Result<Registration, NativeError> {
        self.registration.clone().map_or_else(Registration::shared, Ok)
    }
}

/// The common setters, for a builder that has its [`EndpointSettings`] in `endpoint`. What the order of the protocols means
/// is for each side to say.
macro_rules! endpoint_setters {
    ($(#[$alpn:meta])*) => {
        $(#[$alpn])*
        pub fn alpn(mut self, protocols: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
            self.endpoint.alpn = protocols.into_iter().map(Into::into).collect();
            self
        }

        /// Transport settings for its connections.
        pub fn transport(mut self, transport: TransportConfig) -> Self {
            self.endpoint.transport = transport;
            self
        }

        /// The cipher suites that it may use; all of [`CipherSuite`](crate::CipherSuite)'s unless said otherwise. At least one.
        ///
        /// It is a set: what stands first in it is not liked best. Of the suites that both sides have, the server takes the one
        /// that it likes best itself; [`CipherSuite`](crate::CipherSuite) has the order. Where they have none in common the
        /// handshake fails, with TLS alert 40 (`AllowedCipherSuites` of `QUIC_CREDENTIAL_CONFIG`, RFC 8446 §4.1.1).
        ///
        /// AES-128 comes last in that order. A side that wants it gives it alone: every peer has it (RFC 8446 §9.1).
        ///
        /// A session is resumed only under a suite with the same hash (RFC 8446 §4.2.11).
        pub fn cipher_suites(mut self, suites: impl IntoIterator<Item = crate::CipherSuite>) -> Self {
            self.endpoint.cipher_suites = Some(suites.into_iter().collect());
            self
        }

        /// The worker threads that it runs on; the process's own unless said otherwise.
        pub fn registration(mut self, registration: &Registration) -> Self {
            self.endpoint.registration = Some(registration.clone());
            self
        }
    };
}
pub(crate) use endpoint_setters;
