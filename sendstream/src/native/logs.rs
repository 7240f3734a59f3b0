//! [`Logs`]: where connections write what they do, beside `tracing`.

use super::key_log::KeyLog;
#[cfg(feature = "qlog")]
use super::qlog::QlogStream;

/// The logs of an endpoint, if it has any.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logs {
    /// Where the TLS secrets go.
    pub(crate) keys: Option<KeyLog>,
    /// Where packets and numbers go.
    #[cfg(feature = "qlog")]
    pub(crate) packets: Option<QlogStream>,
}

impl Logs {
    /// Whether packets are logged.
    pub(crate) fn have_packets(&self) -> bool {
        #[cfg(feature = "qlog")]
        return self.packets.is_some();
        #[cfg(not(feature = "qlog"))]
        return false;
    }
}
