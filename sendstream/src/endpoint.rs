//! What servers and clients are described with alike.

use std::path::PathBuf;

use crate::{
    native::{key_log::KeyLog, logs::Logs, registration::Registration},
    types::{
        config::{ConfigError, TransportConfig},
        error::NativeError,
        stats::CipherSuite,
    },
};

/// Whose threads do the work of an endpoint's connections: they receive, decrypt, acknowledge, send
/// again, keep time, and wake the tasks of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ServedBy {
    /// The tokio runtime in which the client or server is made; outside of one, MsQuic's own
    /// threads.
    ///
    /// It needs the feature `tokio`, and a runtime with its I/O and time drivers
    /// (`enable_all`). Three runtimes of a process can have connections at a time. What a further
    /// one makes is served by MsQuic's own threads, and so is everything where the linked MsQuic
    /// lacks the edit `worker-groups`.
    ///
    /// A runtime that computes, blocks (`block_on` inside of a task), or is not driven delays its
    /// connections for up to 10 milliseconds. Then MsQuic's own threads do the work until the
    /// runtime comes back. They also do it when the runtime has ended, and when its clock is paused
    /// (`tokio::time::pause`).
    ///
    /// A runtime keeps its place until it ends, and for some milliseconds after that. One without
    /// drivers panics when it is asked for them, once; the panic is caught, unless a panic aborts
    /// the process (`panic = "abort"`).
    #[default]
    Runtime,
    /// MsQuic's own threads (`QUIC_EXECUTION_PROFILE`). Each event wakes a thread of the runtime,
    /// and each answer wakes one of MsQuic's.
    OwnThreads,
}

/// The settings that [`ServerBuilder`](crate::ServerBuilder) and
/// [`ClientBuilder`](crate::ClientBuilder) have in common. Their setters are in
/// [`endpoint_setters`].
#[derive(Debug, Clone, Default)]
pub(crate) struct EndpointSettings {
    pub(crate) registration: Option<Registration>,
    pub(crate) served_by: ServedBy,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) transport: TransportConfig,
    /// Those it is kept to, if it is.
    pub(crate) cipher_suites: Option<Vec<CipherSuite>>,
    /// Where TLS secrets go, if they go anywhere.
    pub(crate) key_log: Option<PathBuf>,
    /// Where packets are logged, if anywhere.
    #[cfg(feature = "qlog")]
    pub(crate) qlog: Option<crate::native::qlog::QlogStream>,
}

impl EndpointSettings {
    /// The worker threads that were chosen, or else those of the runtime that the caller is in, or
    /// the process's own.
    pub(crate) fn registration(&self) -> Result<Registration, NativeError> {
        if let Some(registration) = &self.registration {
            return Ok(registration.clone());
        }
        #[cfg(all(feature = "tokio", unix))]
        if self.served_by == ServedBy::Runtime
            && let Some(registration) = crate::runtime::registration()?
        {
            return Ok(registration);
        }
        Registration::shared()
    }

    /// The logs that there are to be.
    pub(crate) fn open_logs(&self) -> Result<Logs, ConfigError> {
        #[cfg(feature = "qlog")]
        if self.qlog.is_some() && !crate::native::api::abilities().logs_packets {
            return Err(ConfigError::CannotLogPackets);
        }
        Ok(Logs {
            keys: self.key_log.clone().map(KeyLog::open).transpose()?,
            #[cfg(feature = "qlog")]
            packets: self.qlog.clone(),
        })
    }
}

/// The common setters, for a builder that has its [`EndpointSettings`] in `endpoint`. What the
/// order of the protocols means, and when the lines of a key log are there, is for each side to
/// say.
macro_rules! endpoint_setters {
    (alpn: $(#[$alpn:meta])* key_log: $(#[$key_log:meta])*) => {
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

        /// The cipher suites that it may use, at least one. The default is every
        /// [`CipherSuite`](crate::CipherSuite).
        ///
        /// It is a set, and its order means nothing: a client offers its suites in the order of
        /// [`CipherSuite`](crate::CipherSuite). Of those that both sides have, a server takes the
        /// client's first, or ChaCha20 on a processor without instructions for AES. If they have none
        /// in common, the handshake fails with TLS alert 40 (`AllowedCipherSuites` of
        /// `QUIC_CREDENTIAL_CONFIG`, RFC 8446 §4.1.1).
        ///
        /// AES-128 comes last in that order. A side that wants it gives it alone: every peer has it
        /// (RFC 8446 §9.1).
        ///
        /// A session is resumed only under its own suite.
        pub fn cipher_suites(mut self, suites: impl IntoIterator<Item = $crate::types::stats::CipherSuite>) -> Self {
            self.endpoint.cipher_suites = Some(suites.into_iter().collect());
            self
        }

        /// Whose threads do its connections' work. The default is
        /// [`ServedBy::Runtime`](crate::ServedBy::Runtime).
        pub fn served_by(mut self, served_by: $crate::endpoint::ServedBy) -> Self {
            self.endpoint.served_by = served_by;
            self
        }

        /// Worker threads of MsQuic's that it runs on, whatever [`served_by`](Self::served_by)
        /// says.
        pub fn registration(mut self, registration: &Registration) -> Self {
            self.endpoint.registration = Some(registration.clone());
            self
        }

        /// Appends the TLS secrets of every connection to the file at `path`, in the NSS key log
        /// format that Wireshark reads (`QUIC_PARAM_CONN_TLS_SECRETS`). A missing file is created,
        /// and only its owner can read it.
        ///
        /// A reader of the file can decrypt the connections. MsQuic's thread writes the lines, so
        /// put the file on a disk that answers quickly.
        $(#[$key_log])*
        pub fn key_log(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.endpoint.key_log = Some(path.into());
            self
        }

        /// Writes to `stream` what its connections do on the wire, from their first packet on
        /// (`QUIC_PARAM_CONN_LOG`): see [`QlogStream`](crate::QlogStream). Clients and servers may
        /// share a stream, but viewers show all of it as the side that came first. The default is
        /// none. Of a server only one that listens logs: this has no effect on
        /// `ServerBuilder::build`.
        ///
        /// quinn's counterpart is `TransportConfig::qlog_stream`. Needs the feature `qlog`.
        #[cfg(feature = "qlog")]
        pub fn qlog(mut self, stream: &$crate::native::qlog::QlogStream) -> Self {
            self.endpoint.qlog = Some(stream.clone());
            self
        }

        /// [`key_log`](Self::key_log) to the file that the environment variable `SSLKEYLOGFILE`
        /// names now; without the variable, or when it is empty, nothing changes. Unless this is
        /// called the variable is ignored.
        pub fn key_log_from_env(self) -> Self {
            match $crate::native::key_log::path_from_env() {
                Some(path) => self.key_log(path),
                None => self,
            }
        }
    };
}
pub(crate) use endpoint_setters;
