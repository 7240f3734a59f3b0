//! The handshake's calls: a client's start, a server's acceptance, and the settings that CONNECTED
//! brings.

use std::{ffi::CStr, ptr, sync::Arc};

use sendstream_sys as sys;
use zeroize::Zeroizing;

use crate::{
    driver::{
        callback,
        connection::{
            owner::ConnectionInstance,
            shared::{ConnectionInnerShared, Resuming},
        },
    },
    native::{
        address::Address,
        api::{self, call},
        configuration::Configuration,
        parameter::AddressValidated,
        status::INTERNAL_ERROR,
    },
    types::{
        config::StreamScheduling,
        error::{ConnectionError, NativeError},
        exporter::Exporter,
    },
};

impl ConnectionInstance {
    /// `ConnectionStart`. It sets parameters first. They block unless MsQuic [takes them in
    /// place](api::Abilities) and no session ticket came before, so the background thread makes a
    /// call that may block.
    pub(crate) fn start(
        self: &Arc<Self>,
        configuration: sys::HQUIC,
        local: Option<&Address>,
        remote: &Address,
        server_name: Option<&CStr>,
    ) {
        if !self.inner().lock().may_start() {
            return;
        }
        callback::lend_reference(self);
        match self.native_start(configuration, local, remote, server_name) {
            Ok(()) => {
                let closed = self.inner().lock().on_start_accepted();
                if let Some(code) = closed {
                    self.shut_down_with_reason(code);
                }
            }
            Err(status) => {
                // SAFETY: lent above; a connection that neither started nor was shut down has no
                // event to give it back.
                unsafe { callback::take_reference_back(self) };
                let cause = ConnectionError::from_transport(INTERNAL_ERROR, status);
                self.finish_ending(|state| state.on_start_refused(cause));
            }
        }
    }

    fn native_start(
        &self,
        configuration: sys::HQUIC,
        local: Option<&Address>,
        remote: &Address,
        server_name: Option<&CStr>,
    ) -> Result<(), NativeError> {
        let handle = self.handle().raw();
        self.lend_secrets()?;
        #[cfg(feature = "qlog")]
        self.lend_log()?;
        if matches!(self.inner().shared().resuming, Resuming::No) && api::abilities().gives_up_tls {
            // SAFETY: the parameter is one byte, which the call copies.
            unsafe { self.set_parameter(sys::QUIC_PARAM_CONN_TLS_ENDS_WITH_HANDSHAKE, &1_u8)? };
        }
        let local = local.map(|local| (sys::QUIC_PARAM_CONN_LOCAL_ADDRESS, local));
        for (parameter, address) in local.into_iter().chain([(sys::QUIC_PARAM_CONN_REMOTE_ADDRESS, remote)]) {
            // SAFETY: the handle is open; the address outlives the call, which copies it.
            let status = unsafe { call!(SetParam(handle, parameter, Address::SIZE as u32, address.as_ptr().cast())) };
            NativeError::check(status)?;
        }
        // Where a remote address is set, there may be no name.
        let server_name = server_name.map_or(ptr::null(), CStr::as_ptr);
        let unspecified = sys::QUIC_ADDRESS_FAMILY_UNSPEC;
        // SAFETY: the handles are open; the name outlives the call, which copies it. The family
        // does not count where a remote address is set.
        let status = unsafe { call!(ConnectionStart(handle, configuration, unspecified, server_name, remote.port())) };
        NativeError::check(status)
    }

    /// Gives MsQuic the place for the TLS secrets, if there is one. It blocks as the start does,
    /// and must come before it.
    pub(super) fn lend_secrets(&self) -> Result<(), NativeError> {
        let Some(secrets) = self.secrets() else { return Ok(()) };
        let length = size_of::<sys::QUIC_TLS_SECRETS>() as u32;
        // SAFETY: the handle is open, and the place has `length` bytes, which stay until the handle
        // is closed.
        let status = unsafe {
            call!(SetParam(
                self.handle().raw(),
                sys::QUIC_PARAM_CONN_TLS_SECRETS,
                length,
                secrets.as_ptr().cast_const().cast()
            ))
        };
        NativeError::check(status)
    }

    /// Gives MsQuic what it writes its log to, if there is to be one. It blocks, and must come before
    /// the start.
    #[cfg(feature = "qlog")]
    pub(super) fn lend_log(&self) -> Result<(), NativeError> {
        use crate::native::qlog::State;

        let Some(log) = self.log() else { return Ok(()) };
        log.state(State::Attempted { is_server: self.is_server() });
        // SAFETY: the parameter is this structure, which the call copies. What it names stays until
        // the handle is closed.
        unsafe { self.set_parameter(sys::QUIC_PARAM_CONN_LOG, &log.native()) }
    }

    /// Accepts a server's connection, once: `ConnectionSetConfiguration`, which only queues. The
    /// handshake goes on.
    pub(crate) fn configure(
        &self,
        shared: ConnectionInnerShared,
        configuration: &Configuration,
    ) -> Result<(), NativeError> {
        // Before MsQuic goes on, as its events look at it.
        self.inner().set_shared(shared);
        // SAFETY: both handles are open; MsQuic takes a reference of its own to the configuration.
        let status = unsafe { call!(ConnectionSetConfiguration(self.handle().raw(), configuration.handle())) };
        NativeError::check(status)
    }

    /// What keying material is exported with, asked for on the worker when the handshake is done.
    pub(super) fn exporter(&self) -> Option<Exporter> {
        let mut secret = Zeroizing::new(vec![0; sys::QUIC_MAX_EXPORTER_SECRET as usize]);
        let mut length = secret.len() as u32;
        // SAFETY: the handle is open, and `secret` has `length` bytes.
        let status = unsafe {
            call!(GetParam(
                self.handle().raw(),
                sys::QUIC_PARAM_TLS_EXPORTER_SECRET,
                &mut length,
                secret.as_mut_ptr().cast()
            ))
        };
        NativeError::check(status).ok()?;
        secret.truncate(length as usize);
        Exporter::new(secret)
    }

    /// Whether a server's client has proved that its address is its own, asked for on the worker.
    pub(crate) fn is_address_validated(&self) -> bool {
        let validated: Result<AddressValidated, _> = self.parameter();
        validated.is_ok_and(|AddressValidated(validated)| validated != 0)
    }

    /// Sets which stream goes first, on the worker.
    pub(super) fn set_scheduling(&self, scheduling: StreamScheduling) {
        let scheme = scheduling.native();
        // SAFETY: `scheme` is what this parameter holds; on the worker the call runs in place.
        let set = unsafe { self.set_parameter(sys::QUIC_PARAM_CONN_STREAM_SCHEDULING_SCHEME, &scheme) };
        if let Err(error) = set {
            tracing::warn!(parent: self.inner().span(), %error, "the scheduling of streams stays as it was");
        }
    }
}
