//! MsQuic's C ABI, and the native library behind it.
//!
//! The build script compiles MsQuic's C sources and AWS-LC and links both statically. This
//! crate re-exports the ABI's types and constants, declares its one entry point,
//! [`MsQuicOpenVersion`], and says what was built:
//!
//! ```
//! for edit in sendstream_sys::edits() {
//!     println!("{}: {}", edit.kind, edit.name);
//! }
//! println!("{}, {}", sendstream_sys::native_source(), sendstream_sys::native_profile());
//! # assert!(sendstream_sys::tls_library().starts_with("AWS-LC "));
//! ```
//!
//! # Building
//!
//! CMake 3.20 or newer, make, and compilers for C and C++ must be there.
//! These environment variables are read by the build:
//!
//! | variable | value | meaning |
//! | --- | --- | --- |
//! | `SENDSTREAM_MSQUIC` | `bundled`, `system` | whether MsQuic is built, or an installed libmsquic (2.5 or newer) is linked; `bundled` if unset |
//! | `SENDSTREAM_MSQUIC_LIB_DIR` | a folder | where the installed libmsquic is; if unset pkg-config is asked, then the usual places are looked at. At run time it must be found, too: `LD_LIBRARY_PATH`, or `ldconfig` |
//! | `SENDSTREAM_MSQUIC_PROFILE` | `Release`, `Debug`, `RelWithDebInfo` | how MsQuic is compiled, whatever Cargo's profile; `Debug` turns its assertions on |
//! | `SENDSTREAM_MSQUIC_SANITIZE` | `address` | MsQuic's C code carries AddressSanitizer's checks; the Rust side must link its runtime (`-Zsanitizer=address`) |
//! | | `undefined` | MsQuic's C code carries UndefinedBehaviorSanitizer's, which report on stderr; its runtime is linked along |
//! | `SENDSTREAM_MSQUIC_SOURCE` | a folder | a checkout of MsQuic to build in place of the crate's sources, with those of [`edits`] that fit it; the build warns of the others |
//! | `SENDSTREAM_MSQUIC_SPEED_EDITS` | `on`, `off` | whether the edits of [`EditKind::Speed`] are made; `on` if unset. Features stay on |
//! | `SENDSTREAM_MSQUIC_LEAVE_OUT` | names with commas | edits that are not made, nor those that need them; none if unset |
//! | `SENDSTREAM_NATIVE_CPU` | a processor | MsQuic is compiled for that one and may not run on others: what `-march` takes, or `native`; any of the family if unset |
//! | `SENDSTREAM_NATIVE_DIR` | a folder, by its whole path | where finished builds of AWS-LC and MsQuic are kept for other builds to use; `OUT_DIR` if unset |
//!
//! With `SENDSTREAM_NATIVE_DIR` the C code is compiled once for all target directories, profiles and
//! projects of a machine. Any number of builds may use the folder at once. What is in it is found by
//! the compiler, its flags, the target and the sources, so another compiler finds nothing; nothing
//! old is removed, and the folder may be removed at any time. For a whole machine, in
//! `~/.cargo/config.toml`:
//!
//! ```toml
//! [env]
//! SENDSTREAM_NATIVE_DIR = { value = "sendstream-native", relative = true } # beside the folder of this file
//! ```
//!
//! The makefiles of AWS-LC and MsQuic take paths of `A-Z a-z 0-9 . _ - /` only. Where the target
//! directory's has others, C is compiled in a temporary folder (`TMPDIR`), and the results are moved.
//!
//! `CC`, `CFLAGS`, `CXX`, `CXXFLAGS` and `CMAKE` mean what they usually do. With `DOCS_RS` set nothing
//! native is built: enough to type-check and to document, not to link.
//!
//! # Another MsQuic in the same program
//!
//! A program can have one MsQuic. Other crates that link one, `msquic` and `seera-msquic` and those
//! above them such as `msquic-async`, call C functions of the same names. The linker takes each from
//! the library that it sees first, and says nothing: one of the two crates then runs on sources that it
//! does not know. Keep the two in programs of their own.
//!
//! Another OpenSSL, BoringSSL or AWS-LC is no such matter on Linux: this one's functions have names of
//! their own there, which begin with `sendstream_`.
//!
//! # Certificates
//!
//! The MsQuic that is built along validates none. A client, and a server that asks for certificates,
//! sets `QUIC_CREDENTIAL_FLAG_NO_CERTIFICATE_VALIDATION`; with
//! `QUIC_CREDENTIAL_FLAG_INDICATE_CERTIFICATE_RECEIVED` and
//! `QUIC_CREDENTIAL_FLAG_USE_PORTABLE_CERTIFICATES` it is shown the peer's, to judge them by itself.
//! `ConfigurationLoadCredential` refuses other flags with `QUIC_STATUS_NOT_SUPPORTED`.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    sync::atomic::AtomicI64,
};

#[expect(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "bindgen made it of C"
)]
#[rustfmt::skip]
mod bindings;
mod edit_kind;

pub use bindings::*;
pub use edit_kind::EditKind;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the structures of MsQuic's C ABI are known for targets of 64 bits only");

/// What most of MsQuic's functions return: 0, or another number that C reads as negative or 0, is a
/// success. On POSIX systems the others are mostly of `errno`, on Windows an `HRESULT`.
#[expect(non_camel_case_types, reason = "its name in C")]
pub type QUIC_STATUS = c_uint;

/// A socket address: C's `sockaddr`, `sockaddr_in` and `sockaddr_in6` in one, or `SOCKADDR_INET` on
/// Windows. Each system has its own members.
#[repr(C, align(4))]
#[derive(Debug, Clone, Copy)]
pub struct QUIC_ADDR {
    _bytes: [u8; 28],
}

/// A family of addresses, as the system numbers them; 0 for any.
#[cfg(not(target_vendor = "apple"))]
#[expect(non_camel_case_types, reason = "its name in C")]
pub type QUIC_ADDRESS_FAMILY = u16;
/// A family of addresses, as the system numbers them; 0 for any.
#[cfg(target_vendor = "apple")]
#[expect(non_camel_case_types, reason = "its name in C")]
pub type QUIC_ADDRESS_FAMILY = u8;

/// Any family of addresses.
pub const QUIC_ADDRESS_FAMILY_UNSPEC: QUIC_ADDRESS_FAMILY = 0;

/// The system's queue of events: for applications that run MsQuic's workers through MsQuic's own
/// interface. Sendstream has another ([`QUIC_WORKER_LENDING`]).
#[expect(non_camel_case_types, reason = "its name in C")]
pub type QUIC_EVENTQ = c_void;

/// An entry of the system's queue of events.
#[expect(non_camel_case_types, reason = "its name in C")]
pub type QUIC_CQE = c_void;

unsafe extern "C" {
    /// Opens the API table of `version` and stores its address in `table`.
    ///
    /// # Safety
    ///
    /// `table` is valid for a write. The address that is stored stays valid until it is given to
    /// [`MsQuicClose`].
    ///
    /// No other thread is in this function, or in [`MsQuicClose`] for the last open table: linked
    /// statically, MsQuic sets itself up in the first call, and a second one does not wait for the
    /// first to finish. Open it once per program.
    pub fn MsQuicOpenVersion(version: u32, table: *mut *const c_void) -> QUIC_STATUS;

    /// Closes a table that [`MsQuicOpenVersion`] opened.
    ///
    /// # Safety
    ///
    /// `table` is open, no handle that was opened through it is, and it is not used again.
    pub fn MsQuicClose(table: *const c_void);
}

/// Names the function that MsQuic calls around its work at what a connection has received: with 1
/// before it, with 0 after it, on the same thread (an `extern "C" fn(u8)`, for `SetParam` without a
/// handle, before the library is in use). What came of packets that were received together lies in
/// between.
///
/// The edit `receives-are-announced` knows it; a library without refuses it.
pub const QUIC_PARAM_GLOBAL_RECEIVE_BRACKET: u32 = shared::QUIC_PARAM_GLOBAL_RECEIVE_BRACKET;

/// Has a client's connections that start with a configuration share a socket for each address
/// family, which lives as long as the configuration (a byte other than 0, for `SetParam` on the
/// configuration before a connection starts with it).
///
/// The edit `client-shares-a-socket` knows it; a library without refuses it.
pub const QUIC_PARAM_CONFIGURATION_SHARED_SOCKET: u32 = shared::QUIC_PARAM_CONFIGURATION_SHARED_SOCKET;

/// Has a client's connections that start with a configuration use the socket of the listeners at an
/// address (a `QUIC_ADDR`, for `SetParam` on the configuration before a connection starts with it).
///
/// The edit `client-on-a-servers-socket` knows it; a library without refuses it.
pub const QUIC_PARAM_CONFIGURATION_LISTENERS_SOCKET: u32 = shared::QUIC_PARAM_CONFIGURATION_LISTENERS_SOCKET;

/// Has a client's connections that start with a configuration use a socket of the application's (its
/// descriptor, an `int`, for `SetParam` on the configuration before a connection starts with it).
/// MsQuic duplicates the descriptor.
///
/// The edit `sockets-handed-in` knows it; a library without refuses it.
pub const QUIC_PARAM_CONFIGURATION_SOCKET: u32 = shared::QUIC_PARAM_CONFIGURATION_SOCKET;

/// Has a listener use a socket of the application's (its descriptor, an `int`, for `SetParam` on the
/// listener before its start). `ListenerStart` duplicates the descriptor, and wants the socket's
/// address.
///
/// The edit `sockets-handed-in` knows it; a library without refuses it.
pub const QUIC_PARAM_LISTENER_SOCKET: u32 = shared::QUIC_PARAM_LISTENER_SOCKET;

/// Has a client's connection give up its TLS state when the handshake is confirmed (a byte other
/// than 0, for `SetParam` before the start). It gets no session ticket then, and no parameter of
/// `QUIC_PARAM_TLS_*` can be asked for.
///
/// The edit `tls-ends-with-handshake` knows it; a library without refuses it.
pub const QUIC_PARAM_CONN_TLS_ENDS_WITH_HANDSHAKE: u32 = shared::QUIC_PARAM_CONN_TLS_ENDS_WITH_HANDSHAKE;

/// How many handshakes may be under way before clients must prove their addresses (a `u32`, for
/// `SetParam` without a handle); 0 for any number.
///
/// The edit `retry-counts-handshakes` knows it; a library without refuses it.
pub const QUIC_PARAM_GLOBAL_RETRY_HANDSHAKES: u32 = shared::QUIC_PARAM_GLOBAL_RETRY_HANDSHAKES;

/// Frees the memory that MsQuic keeps for later connections, streams and packets (any value, for
/// `SetParam` without a handle).
///
/// The edit `pools-can-be-emptied` knows it; a library without refuses it.
pub const QUIC_PARAM_GLOBAL_EMPTY_POOLS: u32 = shared::QUIC_PARAM_GLOBAL_EMPTY_POOLS;

/// A connection's smoothed round-trip time in microseconds (a `u32`, for `GetParam`). It waits for
/// no worker, and also tells of a connection that has ended.
///
/// The edit `smoothed-rtt-in-place` knows it; a library without refuses it.
pub const QUIC_PARAM_CONN_SMOOTHED_RTT: u32 = shared::QUIC_PARAM_CONN_SMOOTHED_RTT;

/// Whether a client has proved that its address is its own (a byte, for `GetParam` on a server's
/// connection).
///
/// The edit `validated-address-told` knows it; a library without refuses it.
pub const QUIC_PARAM_CONN_ADDRESS_VALIDATED: u32 = shared::QUIC_PARAM_CONN_ADDRESS_VALIDATED;

/// Has MsQuic call a function with what a connection does (a [`QUIC_CONNECTION_LOG`], for `SetParam`
/// before a client's start, or during `QUIC_LISTENER_EVENT_NEW_CONNECTION`).
///
/// The edit `packets-are-logged` knows it; a library without refuses it.
pub const QUIC_PARAM_CONN_LOG: u32 = shared::QUIC_PARAM_CONN_LOG;

/// [`QUIC_LOG_ENTRY::Kind`]: a packet was sent.
pub const QUIC_LOG_PACKET_SENT: u8 = byte(shared::QUIC_LOG_PACKET_SENT);
/// [`QUIC_LOG_ENTRY::Kind`]: a packet was received and decrypted, and had not come before.
pub const QUIC_LOG_PACKET_RECEIVED: u8 = byte(shared::QUIC_LOG_PACKET_RECEIVED);
/// [`QUIC_LOG_ENTRY::Kind`]: a packet is taken for lost.
pub const QUIC_LOG_PACKET_LOST: u8 = byte(shared::QUIC_LOG_PACKET_LOST);
/// [`QUIC_LOG_ENTRY::Kind`]: the numbers may have changed.
pub const QUIC_LOG_METRICS: u8 = byte(shared::QUIC_LOG_METRICS);
/// [`QUIC_LOG_ENTRY::Kind`]: a packet with these frames will be sent, unless its encryption fails.
pub const QUIC_LOG_FRAMES_SENT: u8 = byte(shared::QUIC_LOG_FRAMES_SENT);
/// [`QUIC_LOG_ENTRY::PacketType`]: an Initial packet.
pub const QUIC_LOG_INITIAL: u8 = byte(shared::QUIC_LOG_INITIAL);
/// [`QUIC_LOG_ENTRY::PacketType`]: a 0-RTT packet.
pub const QUIC_LOG_ZERO_RTT: u8 = byte(shared::QUIC_LOG_ZERO_RTT);
/// [`QUIC_LOG_ENTRY::PacketType`]: a Handshake packet.
pub const QUIC_LOG_HANDSHAKE: u8 = byte(shared::QUIC_LOG_HANDSHAKE);
/// [`QUIC_LOG_ENTRY::PacketType`]: a 1-RTT packet.
pub const QUIC_LOG_ONE_RTT: u8 = byte(shared::QUIC_LOG_ONE_RTT);
/// [`QUIC_LOG_ENTRY::Reason`]: packets with higher numbers were acknowledged.
pub const QUIC_LOG_LOST_BY_NUMBER: u8 = byte(shared::QUIC_LOG_LOST_BY_NUMBER);
/// [`QUIC_LOG_ENTRY::Reason`]: a packet that was sent later was acknowledged, and time has passed.
pub const QUIC_LOG_LOST_BY_TIME: u8 = byte(shared::QUIC_LOG_LOST_BY_TIME);

/// A connection's exporter secret of RFC 8446 §7.5 (up to [`QUIC_MAX_EXPORTER_SECRET`] bytes, for
/// `GetParam` during `QUIC_CONNECTION_EVENT_CONNECTED`).
///
/// The edit `tls-on-aws-lc` knows it; a library without refuses it.
pub const QUIC_PARAM_TLS_EXPORTER_SECRET: u32 = shared::QUIC_PARAM_TLS_EXPORTER_SECRET;

/// No hash of TLS has more bytes.
pub const QUIC_MAX_EXPORTER_SECRET: u32 = shared::QUIC_MAX_EXPORTER_SECRET;

/// Asks for what the connections of the process may hold together: a pointer to the
/// [`QUIC_MEMORY_BUDGET`], for `GetParam` without a handle.
///
/// The edit `connections-share-a-budget` knows it; a library without refuses it.
pub const QUIC_PARAM_GLOBAL_MEMORY_BUDGET: u32 = shared::QUIC_PARAM_GLOBAL_MEMORY_BUDGET;

/// Asks for what it takes to keep the memory of received data: a [`QUIC_RECEIVED_MEMORY`], for
/// `GetParam` without a handle.
///
/// The edit `received-memory-kept` knows it; a library without refuses it.
pub const QUIC_PARAM_GLOBAL_RECEIVED_MEMORY: u32 = shared::QUIC_PARAM_GLOBAL_RECEIVED_MEMORY;

/// Asks for what it takes to run MsQuic's workers in place of their own threads: a
/// [`QUIC_WORKER_LENDING`], for `GetParam` without a handle, once a registration was opened.
///
/// The edit `workers-can-be-lent` knows it; a library without refuses it.
pub const QUIC_PARAM_GLOBAL_WORKER_LENDING: u32 = shared::QUIC_PARAM_GLOBAL_WORKER_LENDING;

/// The bit of `SessionResumed`, in `QUIC_CONNECTION_EVENT_CONNECTED`, that says whether the session
/// was resumed: without the edit `early-data-verdict` it is all that the field holds.
pub const QUIC_SESSION_RESUMED: u8 = byte(shared::QUIC_SESSION_RESUMED);

/// The bit of `SessionResumed`, in `QUIC_CONNECTION_EVENT_CONNECTED`, that says whether the server
/// took the client's early data.
///
/// The edit `early-data-verdict` sets it; a library without never does.
pub const QUIC_SESSION_EARLY_DATA_ACCEPTED: u8 = byte(shared::QUIC_SESSION_EARLY_DATA_ACCEPTED);

/// What a connection did, and its numbers after that.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, non_snake_case)]
pub struct QUIC_LOG_ENTRY {
    /// In microseconds, as the next three; 0 before the first sample.
    pub SmoothedRtt: u64,
    /// The last sample.
    pub LatestRtt: u64,
    /// The smallest.
    pub MinRtt: u64,
    /// How much they differ.
    pub RttVariance: u64,
    /// In bytes.
    pub CongestionWindow: u64,
    /// In bytes.
    pub BytesInFlight: u64,
    /// The packet's number.
    pub PacketNumber: u64,
    /// The frames of a packet that was received, unchecked, or of one that will be sent
    /// ([`QUIC_LOG_FRAMES_SENT`]), for the call alone; null otherwise.
    pub Frames: *const u8,
    /// In bytes.
    pub FramesLength: u32,
    /// In bytes; 0 for a packet that came before the log.
    pub PacketLength: u16,
    /// [`QUIC_LOG_INITIAL`] or one of its like.
    pub PacketType: u8,
    /// [`QUIC_LOG_PACKET_SENT`] or one of its like.
    pub Kind: u8,
    /// Why a packet is lost: [`QUIC_LOG_LOST_BY_NUMBER`] or [`QUIC_LOG_LOST_BY_TIME`].
    pub Reason: u8,
}

/// What [`QUIC_PARAM_CONN_LOG`] is set to.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, non_snake_case)]
pub struct QUIC_CONNECTION_LOG {
    /// Called on the connection's worker, with the context, until `ConnectionClose` returns. It must
    /// not call MsQuic, nor wait.
    pub Write: Option<unsafe extern "C" fn(context: *mut c_void, entry: *const QUIC_LOG_ENTRY)>,
    /// For the function.
    pub Context: *mut c_void,
}

/// What [`QUIC_PARAM_GLOBAL_MEMORY_BUDGET`] points to: there is one, which lives until the process
/// ends. MsQuic and the application read and change it by atomic operations.
#[repr(C)]
#[derive(Debug)]
#[allow(non_camel_case_types, non_snake_case)]
pub struct QUIC_MEMORY_BUDGET {
    /// How many bytes may be held before the windows of streams shrink.
    pub Limit: AtomicI64,
    /// How many are held: what was received and not given back, and what the application adds.
    pub Used: AtomicI64,
    /// Not 0 once a peer got less credit for that reason.
    pub Shrunk: AtomicI64,
}

/// What [`QUIC_PARAM_GLOBAL_RECEIVED_MEMORY`] is filled with.
///
/// Received data lies in blocks of memory. `StreamReceiveComplete` gives the peer credit, and MsQuic
/// the memory, unless the block is kept: then what was given back of it stays as it is.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, non_snake_case)]
pub struct QUIC_RECEIVED_MEMORY {
    /// The block that a buffer of a RECEIVE event lies in, for the callback of that event. It lives
    /// until `StreamReceiveComplete` has given the buffer back, or the stream is closed. Null if the
    /// stream has no multiple receives.
    pub Find: Option<unsafe extern "C" fn(stream: HQUIC, piece: *const u8) -> *mut c_void>,
    /// Keeps a block, once more, before a piece of it is given back. It counts, and does nothing else.
    pub Keep: Option<unsafe extern "C" fn(block: *mut c_void)>,
    /// Ends what one call of `Keep` began, also after the stream was closed, and before the last
    /// `MsQuicClose`. The last one frees a block that the stream has done with.
    pub Release: Option<unsafe extern "C" fn(block: *mut c_void)>,
}

/// What [`QUIC_PARAM_GLOBAL_WORKER_LENDING`] is filled with.
///
/// Workers are in groups, each of a worker for every processor: worker `i` is in group
/// `i / Count`. The functions take the pool and a worker's number, and may be called from any
/// thread. The worker's group must have a registration, or have had one.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, non_snake_case)]
pub struct QUIC_WORKER_LENDING {
    /// The process's workers, which live until `MsQuicClose`.
    pub WorkerPool: *mut c_void,
    /// How many a group has.
    pub Count: u32,
    /// How many groups there are. The edit `worker-groups` says it; without it this is 0.
    pub Groups: u32,
    /// `RegistrationOpen` for one of the groups. `RegistrationOpen` itself takes the first, which
    /// is not to be lent.
    pub OpenRegistration: Option<
        unsafe extern "C" fn(
            config: *const QUIC_REGISTRATION_CONFIG,
            group: u32,
            registration: *mut HQUIC,
        ) -> QUIC_STATUS,
    >,
    /// A worker's epoll instance, which has events when the worker needs a turn.
    pub GetDescriptor: Option<unsafe extern "C" fn(pool: *mut c_void, index: u32) -> c_int>,
    /// Lends a worker, or gives it back to its own thread where there is no function. It waits for
    /// nothing.
    ///
    /// The function is called, by any thread, when the worker needs a turn although its descriptor
    /// may have no event. It returns 1 if it has seen to that; with 0, the descriptor will have
    /// one. It must be there for as long as the process lives.
    pub SetLent: Option<unsafe extern "C" fn(pool: *mut c_void, index: u32, wake: Option<extern "C" fn(u32) -> u8>)>,
    /// Does what there is to do, unless somebody else is at it or the worker is not lent.
    /// `has_events` is 0 where the descriptor is known to have none.
    ///
    /// Returns after how many milliseconds the next turn is due, unless the worker needs one
    /// before; `u32::MAX` if none is.
    pub TakeTurn: Option<unsafe extern "C" fn(pool: *mut c_void, index: u32, has_events: u8) -> u32>,
}

/// A change that was made to MsQuic's sources before they were compiled.
///
/// `sendstream-sys/patches` has it as a patch, whose header says what it prevents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EditInfo {
    /// A short, stable name.
    pub name: &'static str,
    /// What it is for.
    pub kind: EditKind,
}

/// The edits that the linked MsQuic was built with, in the order they were made. None for an
/// installed library; a checkout may miss those that did not fit.
pub fn edits() -> &'static [EditInfo] {
    EDITS
}

/// What the TLS library says it is, its name and version: AWS-LC, or an installed MsQuic's OpenSSL.
/// `unknown` where that does not let it be asked.
pub fn tls_library() -> &'static str {
    let Some(version) = tls::version() else { return "unknown" };
    version.to_str().unwrap_or("unknown")
}

/// Has OpenSSL not clean up when the process exits. Call it before anything else that uses OpenSSL;
/// false if that failed. AWS-LC never cleans up.
///
/// OpenSSL's handler would free what MsQuic's threads are still using at that moment.
pub fn keep_openssl_at_exit() -> bool {
    tls::keep_at_exit()
}

/// Whether a MsQuic that reports `version` lacks mends of its makers for defects that a stranger on
/// the network can make use of. Never so for the one that is built along, whose [`edits`] have
/// them.
///
/// `version` is `QUIC_PARAM_GLOBAL_LIBRARY_VERSION`.
pub fn lacks_fixes(version: [u32; 4]) -> bool {
    /// The first with all of them; `SECURITY.md` has the list.
    const FIRST_WITH_FIXES: [u32; 4] = [2, 7, 0, 0];
    cfg!(sendstream_system_msquic) && version < FIRST_WITH_FIXES
}

/// AWS-LC, linked statically along with MsQuic, on Linux with its functions under names of ours.
#[cfg(not(sendstream_system_msquic))]
mod tls {
    use super::{CStr, c_char};

    unsafe extern "C" {
        #[cfg_attr(target_os = "linux", link_name = "sendstream_awslc_version_string")]
        fn awslc_version_string() -> *const c_char;
    }

    pub(crate) fn version() -> Option<&'static CStr> {
        // SAFETY: AWS-LC returns a literal.
        Some(unsafe { CStr::from_ptr(awslc_version_string()) })
    }

    pub(crate) fn keep_at_exit() -> bool {
        true
    }
}

/// OpenSSL, where an installed MsQuic has loaded it as a library of its own.
#[cfg(sendstream_system_msquic)]
mod tls {
    use std::mem::transmute;
    use std::ptr;

    use super::{CStr, c_char, c_int, c_void};

    unsafe extern "C" {
        fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    }

    pub(crate) fn version() -> Option<&'static CStr> {
        /// `OPENSSL_VERSION` of OpenSSL's `crypto.h`.
        const FULL: c_int = 0;
        // SAFETY: that is the type of OpenSSL's function of this name; null becomes `None`.
        let version: Option<unsafe extern "C" fn(c_int) -> *const c_char> =
            unsafe { transmute(find(c"OpenSSL_version")) };
        // SAFETY: for every argument OpenSSL returns a string with a final zero that lives as long as
        // the program.
        version.map(|version| unsafe { CStr::from_ptr(version(FULL)) })
    }

    pub(crate) fn keep_at_exit() -> bool {
        /// `OPENSSL_INIT_NO_ATEXIT` of OpenSSL's `crypto.h`.
        const NO_ATEXIT: u64 = 0x0008_0000;
        // SAFETY: that is the type of OpenSSL's function of this name; null becomes `None`.
        let init: Option<unsafe extern "C" fn(u64, *const c_void) -> c_int> =
            unsafe { transmute(find(c"OPENSSL_init_crypto")) };
        // SAFETY: null stands for the default settings.
        init.is_some_and(|init| unsafe { init(NO_ATEXIT, ptr::null()) == 1 })
    }

    fn find(name: &CStr) -> *mut c_void {
        // SAFETY: null is `RTLD_DEFAULT`, all that is loaded; the name ends in a zero.
        unsafe { dlsym(ptr::null_mut(), name.as_ptr()) }
    }
}

/// How MsQuic was compiled: `Release`, `Debug` or `RelWithDebInfo`; `system` for an installed
/// library, `none` without any.
pub fn native_profile() -> &'static str {
    env!("SENDSTREAM_NATIVE_PROFILE")
}

/// What MsQuic was compiled from: the source crate and its version, or the name of the checkout's
/// folder; or that it is an installed library; `none` without any.
pub fn native_source() -> &'static str {
    env!("SENDSTREAM_NATIVE_SOURCE")
}

static EDITS: &[EditInfo] = &include!(concat!(env!("OUT_DIR"), "/edits.rs"));

/// The numbers of `src/inc/msquic_sendstream.h`, which the edit `sendstream-header` adds to
/// MsQuic's sources.
mod shared {
    include!(concat!(env!("OUT_DIR"), "/shared.rs"));
}

const fn byte(number: u32) -> u8 {
    assert!(number <= u8::MAX as u32);
    number.to_le_bytes()[0]
}
