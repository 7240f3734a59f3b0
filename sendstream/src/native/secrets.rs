//! Memory at a fixed address in which MsQuic stores TLS secrets for a key log.

use std::{fmt, mem, ptr::NonNull};

use sendstream_sys as sys;
use zeroize::Zeroize;

/// A `QUIC_TLS_SECRETS` lent to MsQuic, which writes to it until the handshake is done. Wiped when
/// dropped, which must not be before the connection's handle is closed.
pub(crate) struct TlsSecrets(NonNull<sys::QUIC_TLS_SECRETS>);

// SAFETY: the memory is owned, and nothing of it is tied to a thread.
unsafe impl Send for TlsSecrets {}
// SAFETY: `&TlsSecrets` gives out a pointer, and reads only where the caller rules out a writer.
unsafe impl Sync for TlsSecrets {}

impl TlsSecrets {
    /// A place with no secret in it.
    pub(crate) fn new() -> Self {
        // SAFETY: the struct is bytes and bit fields, for which zero is a value.
        let empty = unsafe { mem::zeroed::<sys::QUIC_TLS_SECRETS>() };
        Self(NonNull::from(Box::leak(Box::new(empty))))
    }

    /// Where MsQuic is to write.
    pub(crate) fn as_ptr(&self) -> *mut sys::QUIC_TLS_SECRETS {
        self.0.as_ptr()
    }

    /// What MsQuic has written.
    ///
    /// # Safety
    ///
    /// MsQuic does not write for as long as the result is used: this is a callback on the
    /// connection's worker.
    pub(crate) unsafe fn get(&self) -> &sys::QUIC_TLS_SECRETS {
        // SAFETY: the memory is owned by `self`, and nobody writes, as the caller promises.
        unsafe { self.0.as_ref() }
    }
}

impl fmt::Debug for TlsSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSecrets").finish_non_exhaustive()
    }
}

impl Drop for TlsSecrets {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a box in `new`, and is freed only here.
        let mut secrets = unsafe { Box::from_raw(self.0.as_ptr()) };
        secrets.ClientRandom.zeroize();
        secrets.ClientEarlyTrafficSecret.zeroize();
        secrets.ClientHandshakeTrafficSecret.zeroize();
        secrets.ServerHandshakeTrafficSecret.zeroize();
        secrets.ClientTrafficSecret0.zeroize();
        secrets.ServerTrafficSecret0.zeroize();
    }
}
