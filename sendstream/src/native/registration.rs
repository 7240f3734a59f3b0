//! A registration: MsQuic's set of worker threads and everything that runs on them.

use std::{ffi::CStr, ptr, sync::OnceLock};

use sendstream_sys as sys;

use super::api::{Api, call};
use crate::error::NativeError;

/// An open registration: the parent of configurations, listeners and connections.
///
/// It has no `Drop`. `RegistrationClose` blocks until every handle below it is gone, which no thread of an executor may
/// wait for; see [`Registration::shared`].
pub(crate) struct Registration {
    handle: sys::HQUIC,
}

// SAFETY: MsQuic lets any thread use a registration handle; it guards what lies behind with locks of its own.
unsafe impl Send for Registration {}
// SAFETY: as for `Send`; `&Registration` gives out nothing but the handle.
unsafe impl Sync for Registration {}

impl Registration {
    /// The process's registration, opened by the first caller.
    ///
    /// It is never closed: closing would have to wait for every handle, at a moment (process exit) when nobody can say
    /// which still live. The operating system ends the worker threads instead. It runs on MsQuic's throughput profile.
    ///
    /// # Errors
    ///
    /// As [`Registration::open`]. A failure is kept: every later caller gets the same one.
    pub(crate) fn shared() -> Result<&'static Self, NativeError> {
        static SHARED: OnceLock<Result<Registration, NativeError>> = OnceLock::new();
        let open = || Self::open(c"sendstream", sys::QUIC_EXECUTION_PROFILE_QUIC_EXECUTION_PROFILE_TYPE_MAX_THROUGHPUT);
        SHARED.get_or_init(open).as_ref().map_err(|error| *error)
    }

    /// Opens a registration with a worker pool of its own (`RegistrationOpen`).
    ///
    /// `app_name` names it in MsQuic's traces, in at most 254 bytes.
    ///
    /// # Errors
    ///
    /// MsQuic's status when the library cannot start: no memory or threads left, or a name that is too long.
    pub(crate) fn open(app_name: &CStr, profile: sys::QUIC_EXECUTION_PROFILE) -> Result<Self, NativeError> {
        Api::get()?;
        let config = sys::QUIC_REGISTRATION_CONFIG { AppName: app_name.as_ptr(), ExecutionProfile: profile };
        let mut handle: sys::HQUIC = ptr::null_mut();
        // SAFETY: `config` and its name outlive the call, which copies both; `handle` has room for the one pointer that
        // is written.
        let status = unsafe { call!(RegistrationOpen(&config, &mut handle)) };
        NativeError::check(status)?;
        Ok(Self { handle })
    }

    /// The native handle, valid until the process ends.
    pub(crate) fn handle(&self) -> sys::HQUIC {
        self.handle
    }
}
