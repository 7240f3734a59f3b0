//! The numbers of MsQuic's statuses: those of `msquic_posix.h`, which are mostly of `errno`, or those
//! of `msquic_winuser.h`, each an `HRESULT`.

pub(crate) use system::*;

/// 0, on every system.
pub(crate) const SUCCESS: u32 = 0;

#[cfg(unix)]
mod system {
    /// Whether MsQuic calls the status a success: 0, and the negative `PENDING` and `CONTINUE`.
    pub(crate) const fn is_success(status: u32) -> bool {
        status.cast_signed() <= 0
    }

    pub(crate) const PENDING: u32 = of_os_error(-2);
    pub(crate) const OUT_OF_MEMORY: u32 = of_os_error(libc::ENOMEM);
    pub(crate) const INVALID_PARAMETER: u32 = of_os_error(libc::EINVAL);
    pub(crate) const INVALID_STATE: u32 = of_os_error(libc::EPERM);
    pub(crate) const NOT_SUPPORTED: u32 = of_os_error(libc::EOPNOTSUPP);
    pub(crate) const NOT_FOUND: u32 = of_os_error(libc::ENOENT);
    pub(crate) const BUFFER_TOO_SMALL: u32 = of_os_error(libc::EOVERFLOW);
    pub(crate) const HANDSHAKE_FAILURE: u32 = of_os_error(libc::ECONNABORTED);
    pub(crate) const ABORTED: u32 = of_os_error(libc::ECANCELED);
    pub(crate) const ADDRESS_IN_USE: u32 = of_os_error(libc::EADDRINUSE);
    pub(crate) const INVALID_ADDRESS: u32 = of_os_error(libc::EAFNOSUPPORT);
    pub(crate) const CONNECTION_TIMEOUT: u32 = of_os_error(libc::ETIMEDOUT);
    pub(crate) const CONNECTION_IDLE: u32 = of_os_error(libc::ETIME);
    pub(crate) const INTERNAL_ERROR: u32 = of_os_error(libc::EIO);
    pub(crate) const CONNECTION_REFUSED: u32 = of_os_error(libc::ECONNREFUSED);
    pub(crate) const PROTOCOL_ERROR: u32 = of_os_error(libc::EPROTO);
    pub(crate) const VER_NEG_ERROR: u32 = of_os_error(libc::EPROTONOSUPPORT);
    pub(crate) const UNREACHABLE: u32 = of_os_error(libc::EHOSTUNREACH);
    pub(crate) const TLS_ERROR: u32 = of_os_error(ENOKEY);
    pub(crate) const USER_CANCELED: u32 = of_os_error(libc::EOWNERDEAD);
    pub(crate) const ALPN_NEG_FAILURE: u32 = of_os_error(libc::ENOPROTOOPT);
    pub(crate) const STREAM_LIMIT_REACHED: u32 = of_os_error(ESTRPIPE);
    pub(crate) const ALPN_IN_USE: u32 = of_os_error(libc::EPROTOTYPE);
    pub(crate) const ADDRESS_NOT_AVAILABLE: u32 = of_os_error(libc::EADDRNOTAVAIL);

    /// The alert's number is added to it.
    pub(crate) const TLS_ALERT_BASE: u32 = 0x0BEB_C300;
    pub(crate) const CERT_EXPIRED: u32 = 0x0BEB_C401;
    pub(crate) const CERT_UNTRUSTED_ROOT: u32 = 0x0BEB_C402;
    pub(crate) const CERT_NO_CERT: u32 = 0x0BEB_C403;

    // What the system says, and MsQuic has no name for.
    pub(crate) const PERMISSION_DENIED: u32 = of_os_error(libc::EACCES);
    pub(crate) const NOT_PERMITTED: u32 = of_os_error(libc::EPERM);
    pub(crate) const NETWORK_UNREACHABLE: u32 = of_os_error(libc::ENETUNREACH);
    pub(crate) const NETWORK_DOWN: u32 = of_os_error(libc::ENETDOWN);
    pub(crate) const NO_DEVICE: u32 = of_os_error(libc::ENODEV);
    pub(crate) const TOO_MANY_FILES: u32 = of_os_error(libc::EMFILE);
    pub(crate) const TOO_MANY_FILES_IN_ALL: u32 = of_os_error(libc::ENFILE);
    pub(crate) const NO_DESTINATION: u32 = of_os_error(libc::EDESTADDRREQ);
    pub(crate) const FAMILY_NOT_SUPPORTED: u32 = of_os_error(libc::EAFNOSUPPORT);
    pub(crate) const TRY_AGAIN: u32 = of_os_error(libc::EAGAIN);
    pub(crate) const NO_BUFFERS: u32 = of_os_error(libc::ENOBUFS);
    pub(crate) const HOST_DOWN: u32 = of_os_error(libc::EHOSTDOWN);
    /// The same number as `ALPN_NEG_FAILURE`, which no failure of the system's is.
    pub(crate) const NO_SUCH_OPTION: u32 = of_os_error(libc::ENOPROTOOPT);

    /// No function of MsQuic's returns it.
    pub(crate) const FORKED: u32 = of_os_error(libc::ECHILD);

    /// The system's number behind a status, where there is one.
    pub(crate) fn os_error(status: u32) -> Option<i32> {
        (status < TLS_ALERT_BASE).then_some(status.cast_signed())
    }

    /// The status that stands for a number of the system's.
    pub(crate) const fn of_os_error(number: i32) -> u32 {
        number.cast_unsigned()
    }

    // Only Linux has them. Elsewhere MsQuic takes Linux's numbers.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    use libc::{ENOKEY, ESTRPIPE};
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const ENOKEY: i32 = 126;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const ESTRPIPE: i32 = 86;
}

#[cfg(windows)]
mod system {
    /// Whether MsQuic calls the status a success.
    pub(crate) const fn is_success(status: u32) -> bool {
        status.cast_signed() >= 0
    }

    pub(crate) const PENDING: u32 = 0x0007_03E5;
    pub(crate) const OUT_OF_MEMORY: u32 = of_os_error(14);
    pub(crate) const INVALID_PARAMETER: u32 = of_os_error(87);
    pub(crate) const INVALID_STATE: u32 = of_os_error(5023);
    pub(crate) const NOT_SUPPORTED: u32 = 0x8000_4002;
    pub(crate) const NOT_FOUND: u32 = of_os_error(1168);
    pub(crate) const BUFFER_TOO_SMALL: u32 = of_os_error(122);
    pub(crate) const HANDSHAKE_FAILURE: u32 = 0x8041_0000;
    pub(crate) const ABORTED: u32 = 0x8000_4004;
    pub(crate) const ADDRESS_IN_USE: u32 = of_os_error(10048);
    pub(crate) const INVALID_ADDRESS: u32 = of_os_error(10049);
    pub(crate) const CONNECTION_TIMEOUT: u32 = 0x8041_0006;
    pub(crate) const CONNECTION_IDLE: u32 = 0x8041_0005;
    pub(crate) const INTERNAL_ERROR: u32 = 0x8041_0003;
    pub(crate) const CONNECTION_REFUSED: u32 = of_os_error(1225);
    pub(crate) const PROTOCOL_ERROR: u32 = 0x8041_0004;
    pub(crate) const VER_NEG_ERROR: u32 = 0x8041_0001;
    pub(crate) const UNREACHABLE: u32 = of_os_error(1232);
    pub(crate) const TLS_ERROR: u32 = of_os_error(11032);
    pub(crate) const USER_CANCELED: u32 = 0x8041_0002;
    pub(crate) const ALPN_NEG_FAILURE: u32 = 0x8041_0007;
    pub(crate) const STREAM_LIMIT_REACHED: u32 = 0x8041_0008;
    pub(crate) const ALPN_IN_USE: u32 = 0x8041_0009;
    pub(crate) const ADDRESS_NOT_AVAILABLE: u32 = INVALID_ADDRESS;

    /// The alert's number is added to it.
    pub(crate) const TLS_ALERT_BASE: u32 = 0x8041_0100;
    pub(crate) const CERT_EXPIRED: u32 = 0x800B_0101;
    pub(crate) const CERT_UNTRUSTED_ROOT: u32 = 0x800B_0109;
    pub(crate) const CERT_NO_CERT: u32 = 0x8009_030E;

    // What the system says, and MsQuic has no name for: Windows Sockets' errors.
    pub(crate) const PERMISSION_DENIED: u32 = of_os_error(10013);
    pub(crate) const NOT_PERMITTED: u32 = of_os_error(5);
    pub(crate) const NETWORK_UNREACHABLE: u32 = of_os_error(10051);
    pub(crate) const NETWORK_DOWN: u32 = of_os_error(10050);
    pub(crate) const NO_DEVICE: u32 = of_os_error(55);
    pub(crate) const TOO_MANY_FILES: u32 = of_os_error(10024);
    pub(crate) const TOO_MANY_FILES_IN_ALL: u32 = of_os_error(4);
    pub(crate) const NO_DESTINATION: u32 = of_os_error(10039);
    pub(crate) const FAMILY_NOT_SUPPORTED: u32 = of_os_error(10047);
    pub(crate) const TRY_AGAIN: u32 = of_os_error(164);
    pub(crate) const NO_BUFFERS: u32 = of_os_error(10055);
    pub(crate) const HOST_DOWN: u32 = of_os_error(10064);
    pub(crate) const NO_SUCH_OPTION: u32 = of_os_error(10042);

    /// No function of MsQuic's returns it.
    pub(crate) const FORKED: u32 = of_os_error(128);

    /// The system's number behind a status, where there is one.
    pub(crate) fn os_error(status: u32) -> Option<i32> {
        (status >> 16 == FACILITY).then_some((status & 0xFFFF).cast_signed())
    }

    /// The status that stands for a number of the system's: `HRESULT_FROM_WIN32`.
    pub(crate) const fn of_os_error(number: i32) -> u32 {
        FACILITY << 16 | number.cast_unsigned()
    }

    /// A failure of the system's.
    const FACILITY: u32 = 0x8007;
}
