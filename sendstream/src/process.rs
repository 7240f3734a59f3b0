//! Settings and counts of the whole process.
//!
//! MsQuic has one of each for the process, so the library has, too: a setting holds for every
//! client and server of the process, whoever made it, and the counts add all of them up. A library
//! that uses this one leaves the setters to the program.
//!
//! | function | what | when |
//! | --- | --- | --- |
//! | [`set_retry_policy`] | when servers send Retry | at any time |
//! | [`set_load_balancing`] | what connection ids tell a load balancer | before the first server and connection |
//! | [`set_polling_idle_timeout`] | how long workers look for work before they sleep | at any time |
//! | [`set_memory_budget`] | how much all connections may hold before their windows shrink | at any time |
//! | [`release_memory`] | memory that nothing uses goes back to the system | after a flood |
//! | [`counters`], [`memory_budget`] | what it has counted | at any time |

use std::time::Duration;

pub use crate::{
    native::stats::counters,
    types::{
        config::LoadBalancing,
        stats::{Counters, MemoryBudget},
    },
};
use crate::{
    native::{
        api::{self, Api},
        budget::budget,
        library, retry,
    },
    types::{config::ConfigError, error::NativeError},
};

/// Whether a client must prove its address before this process's servers work for it (RFC 9000
/// §8.1.2). The server sends it a Retry packet, which costs one more round trip.
/// [`HandshakeStats::stateless_retry`](crate::HandshakeStats) tells a client about it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum RetryPolicy {
    /// Every client.
    Always,
    /// Clients that come while this many handshakes are in progress in this process, or more,
    /// accepted or not. 0 is every client.
    ///
    /// Without any policy it is half of the smallest [`accept_backlog`] of the servers that there
    /// are, and `UnderLoad(0.001)` beside that: forged first packets leave the other half to clients
    /// that have an address.
    ///
    /// [`accept_backlog`]: crate::TransportConfig::accept_backlog
    Handshakes(u32),
    /// Clients that come while the handshakes in progress take more than this share of the
    /// machine's memory: above 0, below 1. MsQuic counts in steps of 1/65535, rounded up here, and
    /// begins with 65 of them, about 0.001.
    UnderLoad(f64),
    /// No client, short of handshakes that take all of the memory.
    Never,
}

/// Says when clients must prove their address first (`QUIC_PARAM_GLOBAL_RETRY_MEMORY_PERCENT`, and a
/// parameter of Sendstream's own for [`RetryPolicy::Handshakes`]). It holds for all servers of this
/// process, from the next packet on, and may be changed at any time.
///
/// ```standalone_crate
/// use sendstream::process::{self, RetryPolicy};
///
/// process::set_retry_policy(RetryPolicy::UnderLoad(0.01))?;
/// # Ok::<(), sendstream::ConfigError>(())
/// ```
///
/// # Errors
///
/// [`ConfigError::OutOfRange`]: the share is not between 0 and 1.
/// [`ConfigError::CannotCountHandshakes`]: the linked MsQuic lacks what `Handshakes` takes.
/// [`ConfigError::Native`]: the library does not start.
pub fn set_retry_policy(policy: RetryPolicy) -> Result<(), ConfigError> {
    let (fraction, handshakes) = (policy.fraction()?, policy.handshakes());
    Api::get()?;
    if handshakes != 0 && !api::abilities().counts_handshakes {
        return Err(ConfigError::CannotCountHandshakes);
    }
    library::set_retry_memory(fraction)?;
    Ok(retry::choose(handshakes)?)
}

impl RetryPolicy {
    /// How many 65535ths of memory handshakes may take.
    fn fraction(self) -> Result<u16, ConfigError> {
        match self {
            Self::Always | Self::Handshakes(0) => Ok(0),
            Self::Never | Self::Handshakes(_) => Ok(u16::MAX),
            Self::UnderLoad(share) if share > 0.0 && share < 1.0 => Ok((share * f64::from(u16::MAX)).ceil() as u16),
            Self::UnderLoad(share) => Err(ConfigError::OutOfRange {
                field: "RetryPolicy::UnderLoad",
                value: share.to_string(),
                allowed: "a share above 0 and below 1",
            }),
        }
    }

    /// From how many handshakes on, whatever memory they take; 0 if only that counts.
    fn handshakes(self) -> u32 {
        match self {
            Self::Handshakes(count) => count,
            Self::Always | Self::UnderLoad(_) | Self::Never => 0,
        }
    }
}

/// Says what a load balancer can read from connection ids (`QUIC_PARAM_GLOBAL_GLOBAL_SETTINGS`). It
/// holds for all servers of this process. Call it before the first server is bound and before any
/// client connects.
///
/// ```standalone_crate
/// use sendstream::process::{self, LoadBalancing};
///
/// process::set_load_balancing(LoadBalancing::ServerId([0, 0, 0, 7]))?;
/// # Ok::<(), sendstream::ConfigError>(())
/// ```
///
/// # Errors
///
/// [`ConfigError::InUse`]: a server is bound or a client has connected, so connection ids have
/// their form; nothing was changed. [`ConfigError::Native`]: the library does not start.
pub fn set_load_balancing(balancing: LoadBalancing) -> Result<(), ConfigError> {
    Api::get()?;
    if library::is_in_use()? {
        return Err(ConfigError::InUse);
    }
    Ok(library::set_load_balancing(balancing)?)
}

/// Says how long MsQuic's worker threads look for more work before they sleep, 50 microseconds at
/// first and at most a second (`QUIC_PARAM_GLOBAL_EXECUTION_CONFIG`, `PollingIdleTimeoutUs`, which
/// counts in whole microseconds). It holds for all workers of this process but those of
/// [`MaxThroughput`](crate::ExecutionProfile::MaxThroughput) and those that are lent, and may be
/// changed at any time.
///
/// A thread that sleeps takes some 30 microseconds to wake on an idle processor, and each answer to
/// a message waits for two such wakes or more. So a worker polls for this long while its pauses are
/// shorter than this on average. A longer pause counts at most four times as much. Polling costs
/// processor time in pauses that turn out to be longer. A process without traffic, or with a little
/// now and then, sleeps as before. Other threads that wait for the worker's processor get it.
///
/// With [`Duration::ZERO`] a worker sleeps as soon as it has nothing to do.
///
/// ```standalone_crate
/// use std::time::Duration;
///
/// sendstream::process::set_polling_idle_timeout(Duration::ZERO)?;
/// # Ok::<(), sendstream::ConfigError>(())
/// ```
///
/// # Errors
///
/// [`ConfigError::OutOfRange`]: more than a second. [`ConfigError::CannotPoll`]: the linked MsQuic
/// lacks what this takes. [`ConfigError::Native`]: the library does not start.
pub fn set_polling_idle_timeout(timeout: Duration) -> Result<(), ConfigError> {
    if timeout > Duration::from_secs(1) {
        return Err(ConfigError::OutOfRange {
            field: "polling_idle_timeout",
            value: format!("{timeout:?}"),
            allowed: "at most a second",
        });
    }
    Api::get()?;
    if !api::abilities().polls_while_busy {
        return Err(ConfigError::CannotPoll);
    }
    Ok(library::set_polling_idle_timeout(timeout)?)
}

/// Says how many bytes all connections of this process may hold together: what was received and is
/// not given back, and what was sent and is not acknowledged. At first it is a quarter of what the
/// process may use: of the machine's memory, of its control group's (Linux), or of its address space
/// (`RLIMIT_AS`), whichever is least.
///
/// A few connections never notice. As many become busy, the windows of their streams shrink: a stream
/// gets no more than what is left of the budget, but it may always have 16 KiB. So many transfers go
/// on with less memory each, one that comes late gets its part, and windows grow again as memory
/// comes free. It holds for windows of [`send_window`] and [`stream_receive_window`] as well.
///
/// It limits windows, not memory itself:
///
/// - A peer keeps the credit that it has. Each new stream begins with [`stream_receive_window`] of it.
/// - A send of one large buffer is taken whole, and the window's worth of it counts.
/// - A buffer that is sent to many counts for each.
/// - With [`send_buffering`], what MsQuic has copied does not count.
/// - What a reader keeps of what it has read is its own, and does not count from the moment on that
///   the peer has its credit back.
///
/// A linked MsQuic without the edit `connections-share-a-budget` counts nothing that is received.
/// There the budget is for what is sent, and begins without a limit.
///
/// ```standalone_crate
/// sendstream::process::set_memory_budget(256 << 20)?;
/// # Ok::<(), sendstream::NativeError>(())
/// ```
///
/// # Errors
///
/// MsQuic's status, should the library not start.
///
/// [`send_window`]: crate::TransportConfig::send_window
/// [`send_buffering`]: crate::TransportConfig::send_buffering
/// [`stream_receive_window`]: crate::TransportConfig::stream_receive_window
pub fn set_memory_budget(bytes: u64) -> Result<(), NativeError> {
    Api::get()?;
    budget().set_limit(bytes);
    Ok(())
}

/// How much all connections of this process hold, and how much they may, see
/// [`set_memory_budget`]. It waits for nobody.
///
/// # Errors
///
/// MsQuic's status, should the library not start.
pub fn memory_budget() -> Result<MemoryBudget, NativeError> {
    Api::get()?;
    let budget = budget();
    Ok(MemoryBudget { limit: budget.limit(), used: budget.used() })
}

/// Gives memory that nothing uses back to the system: what MsQuic keeps for later connections,
/// streams and packets (the edit `pools-can-be-emptied`), and then what the C library keeps
/// (`malloc_trim`, of glibc).
///
/// Both keep what they once needed. After a flood that may be tens of megabytes for each processor.
/// What is needed next is allocated anew, so this is for a process that has little to do after it
/// had much. It takes milliseconds, and other threads wait for it now and then.
pub fn release_memory() {
    // Without the library there is nothing that it could keep.
    if Api::get().is_ok()
        && api::abilities().empties_pools
        && let Err(error) = library::empty_pools()
    {
        tracing::warn!(%error, "MsQuic keeps its free memory");
    }
    library::trim_heap();
}

#[cfg(test)]
mod tests {
    use sendstream_sys as sys;

    use super::*;

    #[test]
    fn a_polling_timeout_is_what_msquic_has_from_then_on() {
        let polling = || {
            let mut config = [api::execution_config(Duration::MAX)];
            library::get(sys::QUIC_PARAM_GLOBAL_EXECUTION_CONFIG, &mut config).unwrap();
            config[0].PollingIdleTimeoutUs
        };
        Api::get().unwrap();
        if !api::abilities().polls_while_busy {
            let error = set_polling_idle_timeout(Duration::ZERO).unwrap_err();
            assert!(matches!(error, ConfigError::CannotPoll), "{error}");
            return;
        }
        assert_eq!(polling(), 50);
        set_polling_idle_timeout(Duration::from_secs(1)).unwrap();
        assert_eq!(polling(), 1_000_000);
        set_polling_idle_timeout(Duration::ZERO).unwrap();
        assert_eq!(polling(), 0);
    }

    #[test]
    fn a_share_of_memory_is_rounded_up_to_a_65535th() {
        let fraction = |share| RetryPolicy::UnderLoad(share).fraction();
        assert_eq!(fraction(0.5).unwrap(), 32768);
        assert_eq!(fraction(f64::MIN_POSITIVE).unwrap(), 1);
        assert_eq!(fraction(1.0 - f64::EPSILON).unwrap(), u16::MAX);
        for share in [0.0, -0.5, 1.0, f64::NAN, f64::INFINITY] {
            let error = fraction(share).unwrap_err();
            assert!(matches!(error, ConfigError::OutOfRange { field: "RetryPolicy::UnderLoad", .. }), "{error}");
        }
    }
}
