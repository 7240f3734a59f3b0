//! What servers and clients are described with alike.

use crate::{config::TransportConfig, error::NativeError, native::registration::Registration};

/// The settings that [`ServerBuilder`](crate::ServerBuilder) and [`ClientBuilder`](crate::ClientBuilder) have in common.
/// Their setters are in [`endpoint_setters`].
#[derive(Debug, Clone, Default)]
pub(crate) struct EndpointSettings {
    pub(crate) registration: Option<Registration>,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) transport: TransportConfig,
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

        /// The worker threads that it runs on; the process's own unless said otherwise.
        pub fn registration(mut self, registration: &Registration) -> Self {
            self.endpoint.registration = Some(registration.clone());
            self
        }
    };
}
pub(crate) use endpoint_setters;
