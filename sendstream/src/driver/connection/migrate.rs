//! A client's move to another local address (RFC 9000 §9).

use std::net::{SocketAddr, UdpSocket};

use sendstream_sys as sys;

use crate::{
    driver::{connection::owner::ConnectionInstance, wakes::Wake as _},
    native::address::{activate_path, is_of_many, towards},
    types::{rebind::RebindError, system::SystemError},
};

impl ConnectionInstance {
    /// Moves a client's connection to the address `local` (`QUIC_PARAM_CONN_ACTIVATE_PATH`), and
    /// gives the one that it got. It blocks: for the background thread, on which one move comes
    /// after the other.
    pub(crate) fn rebind(&self, local: SocketAddr) -> Result<SocketAddr, RebindError> {
        if self.is_server() {
            return Err(RebindError::NotTheClient);
        }
        let (current, cause) = {
            let state = self.inner().lock();
            ((state.path().local(), state.path().remote()), state.cause())
        };
        let (None, (Some(current), Some(remote))) = (&cause, current) else {
            return Err(cause.map_or(RebindError::TooEarly, RebindError::ConnectionLost));
        };
        let asked = local;
        let Some(local) = towards(asked, remote) else {
            return Err(RebindError::FamilyMismatch { local: asked, remote });
        };
        // MsQuic takes a path for new that it is told to activate.
        if local == current {
            return Ok(current);
        }
        // Nothing is bound for a move to another address of the shared socket, so the system says here
        // if it is one of this machine's.
        let mut any_port = local;
        any_port.set_port(0);
        let is_foreign = || {
            let error = UdpSocket::bind(any_port).err();
            error.and_then(|error| SystemError::from_io(&error)) == Some(SystemError::AddressNotAvailable)
        };
        if is_of_many(local.ip()) || is_foreign() {
            return Err(RebindError::AddressNotAvailable(asked));
        }
        // SAFETY: the handle is a connection's and open, because `self` is alive.
        unsafe { activate_path(self.handle().raw(), local, remote) }.map_err(|error| match self.inner().cause() {
            Some(cause) => RebindError::ConnectionLost(cause),
            None => RebindError::from_native(error, asked),
        })?;
        let local = self.address(sys::QUIC_PARAM_CONN_LOCAL_ADDRESS).unwrap_or(local);
        let wakeups = self.inner().lock().on_path_changed(Some(local), None);
        wakeups.wake();
        Ok(local)
    }
}
