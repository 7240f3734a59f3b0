//! The MsQuic API table: opened once per process, never closed.
//!
//! MsQuic's worker threads and every handle live as long as the table is open. To close it at
//! process exit would mean to wait for all of them, and nobody can say which still run. The
//! operating system does that better.

use std::{
    ffi::c_void,
    mem, ptr,
    sync::{LazyLock, OnceLock, atomic::AtomicPtr},
    time::Duration,
};

use sendstream_sys as sys;

use crate::{
    native::{fork, settings::unset_settings},
    types::error::NativeError,
};

/// The function table that MsQuic hands out for version 2 of its API.
pub(crate) struct Api {
    /// A copy, as an older MsQuic's table is shorter.
    table: sys::QUIC_API_TABLE,
    /// MsQuic's own, which is kept and not used, so that leak checkers find where it is.
    _original: AtomicPtr<c_void>,
}

impl Api {
    /// The process's table, opened by the first caller.
    ///
    /// Every caller but the first gets it without a lock; a failure is kept, because MsQuic's own
    /// start-up is not meant to be tried twice. A process that was forked since gets none.
    pub(crate) fn get() -> Result<&'static Self, NativeError> {
        static API: OnceLock<Result<Api, NativeError>> = OnceLock::new();
        // First, as the thread that opens it may have stayed behind.
        fork::check()?;
        API.get_or_init(Self::open).as_ref().map_err(|error| *error)
    }

    /// The table, for code that holds a handle: a handle exists only after [`Api::get`] succeeded.
    pub(crate) fn opened() -> &'static sys::QUIC_API_TABLE {
        if fork::is_forked() {
            return &fork::FORKED_TABLE;
        }
        &Self::get().expect("a native handle exists only after the API table was opened").table
    }

    fn open() -> Result<Self, NativeError> {
        fork::watch();
        if !sys::keep_openssl_at_exit() {
            tracing::warn!("OpenSSL will clean up at exit: a process that exits amid traffic may crash");
        }
        let mut table: *const c_void = ptr::null();
        // SAFETY: `table` is a valid place for one pointer, which is all that MsQuicOpenVersion
        // writes.
        let status = unsafe { sys::MsQuicOpenVersion(sys::QUIC_API_VERSION_2, &mut table) };
        NativeError::check(status)?;
        let mut api = Self { table: NO_FUNCTIONS, _original: AtomicPtr::new(table.cast_mut()) };
        // SAFETY: on success MsQuic stored a pointer to its table, which has as many bytes in every
        // MsQuic that may be linked.
        unsafe { ptr::copy_nonoverlapping(table.cast::<u8>(), (&raw mut api.table).cast(), OLDEST_TABLE) };
        if let Err(status) = api.set_limits() {
            tracing::warn!(%status, "servers refuse connections as soon as the machine is busy");
        }
        if abilities().polls_while_busy
            && let Err(status) =
                api.set(sys::QUIC_PARAM_GLOBAL_EXECUTION_CONFIG, &execution_config(POLLING_IDLE_TIMEOUT))
        {
            tracing::warn!(%status, "MsQuic's workers sleep whenever they have nothing to do");
        }
        if abilities().announces_receives
            && let Err(status) =
                api.set(sys::QUIC_PARAM_GLOBAL_RECEIVE_BRACKET, &(receive_bracket as extern "C" fn(u8)))
        {
            tracing::warn!(%status, "tasks are woken one by one");
        }
        api.warn_of_known_defects();
        Ok(api)
    }

    /// Sets the limits beyond which servers refuse connections and drop their first packets: how
    /// late MsQuic's workers may be, on average (`MaxWorkerQueueDelayUs`), and how many strangers a
    /// port answers at a time (`MaxBindingStatelessOperations`). They are the whole process's.
    fn set_limits(&self) -> Result<(), NativeError> {
        let mut settings = unset_settings();
        settings.MaxWorkerQueueDelayUs = MAX_WORKER_QUEUE_DELAY.as_micros() as u32;
        settings.MaxBindingStatelessOperations = MAX_STATELESS_OPERATIONS;
        // SAFETY: both members of the union are 64 bits of plain integer, so either may be used.
        let is_set = unsafe { &mut settings.__bindgen_anon_1.IsSet };
        is_set.set_MaxWorkerQueueDelayUs(1);
        is_set.set_MaxBindingStatelessOperations(1);
        self.set(sys::QUIC_PARAM_GLOBAL_SETTINGS, &settings)
    }

    /// Sets a parameter of the library before anybody can have the table.
    fn set<T>(&self, parameter: u32, value: &T) -> Result<(), NativeError> {
        let set_param = self.table.SetParam.expect("MsQuic's API table has SetParam");
        let length = size_of::<T>() as u32;
        // SAFETY: a null handle means the library, and MsQuic reads at most `length` bytes, which
        // are those of `value`.
        NativeError::check(unsafe { set_param(ptr::null_mut(), parameter, length, ptr::from_ref(value).cast()) })
    }

    /// What is built along has the mends as edits; what is installed may be older than they are.
    fn warn_of_known_defects(&self) {
        let mut version = [0_u32; 4];
        let mut length = size_of_val(&version) as u32;
        let get = self.table.GetParam.expect("MsQuic's API table has GetParam");
        let parameter = sys::QUIC_PARAM_GLOBAL_LIBRARY_VERSION;
        // SAFETY: no handle is needed for a global parameter, and at most `length` bytes are
        // written to `version`.
        let status = unsafe { get(ptr::null_mut(), parameter, &mut length, version.as_mut_ptr().cast()) };
        if NativeError::check(status).is_ok() && sys::lacks_fixes(version) {
            let version = version.map(|number| number.to_string()).join(".");
            tracing::warn!(
                version,
                "the installed MsQuic lacks fixes for defects that strangers can use; see SECURITY.md"
            );
        }
    }
}

/// Has `hook` called with `true` before MsQuic works at what a connection has received, and with
/// `false` after it. Only the first hook counts; without one nothing is called.
pub(crate) fn bracket_receives(hook: fn(bool)) {
    let _ = RECEIVE_HOOK.set(hook);
}

static RECEIVE_HOOK: OnceLock<fn(bool)> = OnceLock::new();

/// MsQuic calls this before and after it processes the packets that a connection has received, see
/// [`QUIC_PARAM_GLOBAL_RECEIVE_BRACKET`](sys::QUIC_PARAM_GLOBAL_RECEIVE_BRACKET).
extern "C" fn receive_bracket(begins: u8) {
    if let Some(hook) = RECEIVE_HOOK.get() {
        hook(begins != 0);
    }
}

/// The abilities that the linked MsQuic has through edits.
pub(crate) struct Abilities {
    /// Workers poll only while that pays. Without it polling is left alone: every worker would poll
    /// after all that it does.
    pub(crate) polls_while_busy: bool,
    /// It says when it begins and ends work at what was received together.
    pub(crate) announces_receives: bool,
    /// `ConnectionStart`, with the parameters that it needs, waits for no worker, unless a session
    /// ticket came before it.
    pub(crate) starts_in_place: bool,
    /// A client's connection can [do without TLS](sys::QUIC_PARAM_CONN_TLS_ENDS_WITH_HANDSHAKE)
    /// after the handshake.
    pub(crate) gives_up_tls: bool,
    /// A client's connections can [share a socket](sys::QUIC_PARAM_CONFIGURATION_SHARED_SOCKET), hear
    /// over it what they hear over one of their own, and run on every worker.
    pub(crate) shares_sockets: bool,
    /// A client's connections can use a [server's socket](sys::QUIC_PARAM_CONFIGURATION_LISTENERS_SOCKET).
    pub(crate) dials_from_servers: bool,
    /// It can use [sockets of the application's](sys::QUIC_PARAM_LISTENER_SOCKET).
    #[cfg(target_os = "linux")]
    pub(crate) takes_sockets: bool,
    /// It [logs packets](sys::QUIC_PARAM_CONN_LOG).
    #[cfg(feature = "qlog")]
    pub(crate) logs_packets: bool,
    /// It can have clients [prove their addresses](sys::QUIC_PARAM_GLOBAL_RETRY_HANDSHAKES) from a
    /// number of handshakes on.
    pub(crate) counts_handshakes: bool,
    /// Its [pools can be emptied](sys::QUIC_PARAM_GLOBAL_EMPTY_POOLS).
    pub(crate) empties_pools: bool,
    /// Its receive buffers count against a [budget](sys::QUIC_PARAM_GLOBAL_MEMORY_BUDGET).
    pub(crate) budgets_memory: bool,
    /// The memory of received data can be [kept](sys::QUIC_PARAM_GLOBAL_RECEIVED_MEMORY).
    pub(crate) keeps_received: bool,
    /// Every thread can read a connection's [round-trip time](sys::QUIC_PARAM_CONN_SMOOTHED_RTT).
    pub(crate) publishes_rtt: bool,
    /// Its [workers can be lent](sys::QUIC_PARAM_GLOBAL_WORKER_LENDING).
    #[cfg(all(feature = "tokio", unix))]
    pub(crate) lends_workers: bool,
}

pub(crate) fn abilities() -> &'static Abilities {
    static ABILITIES: LazyLock<Abilities> = LazyLock::new(|| {
        let has = |name: &str| sys::edits().iter().any(|edit| edit.name == name);
        Abilities {
            polls_while_busy: has("workers-poll-while-busy"),
            announces_receives: has("receives-are-announced"),
            starts_in_place: has("unstarted-parameters-in-place"),
            gives_up_tls: has("tls-ends-with-handshake"),
            shares_sockets: SHARED_SOCKET_EDITS.iter().all(|edit| has(edit)),
            dials_from_servers: has("client-on-a-servers-socket"),
            #[cfg(target_os = "linux")]
            takes_sockets: has("sockets-handed-in"),
            #[cfg(feature = "qlog")]
            logs_packets: has("packets-are-logged"),
            counts_handshakes: has("retry-counts-handshakes"),
            empties_pools: has("pools-can-be-emptied"),
            budgets_memory: has("connections-share-a-budget"),
            keeps_received: has("received-memory-kept"),
            publishes_rtt: has("smoothed-rtt-in-place"),
            #[cfg(all(feature = "tokio", unix))]
            lends_workers: has("worker-groups"),
        }
    });
    &ABILITIES
}

const SHARED_SOCKET_EDITS: [&str; 4] =
    ["client-shares-a-socket", "packets-by-connection-id", "unreachable-by-connection-id", "resets-by-token"];

/// What has MsQuic's workers poll for `timeout` before they sleep, and leaves everything else as it
/// is.
pub(crate) fn execution_config(timeout: Duration) -> sys::QUIC_GLOBAL_EXECUTION_CONFIG {
    sys::QUIC_GLOBAL_EXECUTION_CONFIG {
        Flags: sys::QUIC_GLOBAL_EXECUTION_CONFIG_FLAGS_QUIC_GLOBAL_EXECUTION_CONFIG_FLAG_NONE,
        PollingIdleTimeoutUs: timeout.as_micros() as u32,
        ProcessorCount: 0,
        ProcessorList: [0],
    }
}

/// How many bytes MsQuic 2.5 has in its table, the oldest that may be linked. What came later is not
/// called.
const OLDEST_TABLE: usize = mem::offset_of!(sys::QUIC_API_TABLE, RegistrationClose2);

/// A table without any function.
// SAFETY: it is pointers to functions throughout, none of which need be there.
const NO_FUNCTIONS: sys::QUIC_API_TABLE = unsafe { mem::zeroed() };

/// What a thread takes to wake on an idle processor, and as much again.
const POLLING_IDLE_TIMEOUT: Duration = Duration::from_micros(50);

/// MsQuic's own value is 250 ms. A single stop of two seconds makes an idle worker that late. So on
/// a busy or virtual machine, or after a laptop's sleep, servers would refuse the next clients. A
/// connection is worth taking as long as a client waits by default. `accept_backlog` limits how
/// many are taken.
const MAX_WORKER_QUEUE_DELAY: Duration = Duration::from_secs(10);

/// MsQuic notes for 100 ms to whom it has sent a Retry, Version Negotiation or Stateless Reset
/// packet. Its own limit is 100 notes, so a thousand packets a second from strangers would keep
/// everybody else from being answered. A note has some 100 bytes.
const MAX_STATELESS_OPERATIONS: u16 = 10_000;

/// Calls a function of the API table: `call!(StreamSend(handle, ...))`.
///
/// The entries are nullable in the C ABI and never null in version 2; an absent one is a defect of
/// the linked library.
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {
        $crate::native::api::Api::opened()
            .$name
            .expect(concat!("MsQuic's API table has ", stringify!($name)))($($argument),*)
    };
}
pub(crate) use call;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msquic_has_the_limits_that_it_was_given() {
        let _ = Api::get().unwrap();
        let mut settings = unset_settings();
        let mut length = size_of_val(&settings) as u32;
        // SAFETY: a null handle means the library, and MsQuic writes at most `length` bytes of the
        // parameter's layout.
        let status = unsafe {
            call!(GetParam(ptr::null_mut(), sys::QUIC_PARAM_GLOBAL_SETTINGS, &mut length, (&raw mut settings).cast()))
        };
        NativeError::check(status).unwrap();
        assert_eq!(settings.MaxWorkerQueueDelayUs, 10_000_000);
        assert_eq!(settings.MaxBindingStatelessOperations, 10_000);
    }
}
