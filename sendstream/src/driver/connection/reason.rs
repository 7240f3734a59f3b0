//! Reason phrases of RFC 9000 §19.19: the one that this side closes a connection with, and the
//! peer's.

use std::sync::Arc;

use sendstream_sys as sys;

use crate::{
    driver::{connection::owner::ConnectionInstance, turn::Turn},
    native::{api::call, background},
    types::error::{ConnectionError, NativeError},
};

impl ConnectionInstance {
    /// [`Self::close`], with as much of `reason` for the peer as [can be sent](sendable).
    pub(crate) fn close_with_reason(self: &Arc<Self>, code: u64, reason: &str) {
        let cause = ConnectionError::LocallyClosed { code, reason: sendable(reason).into() };
        self.finish_ending_by(|code| self.shut_down_with_reason(code), |state| state.close_because(code, cause));
    }

    /// [`Self::shut_down`], with the reason that this side's end was recorded with.
    ///
    /// A phrase is a parameter, so MsQuic is told in two calls, of which the first waits for the
    /// worker: on the worker that happens in place, and elsewhere on the background thread. Without
    /// a phrase there is one call, which waits for nothing.
    pub(super) fn shut_down_with_reason(self: &Arc<Self>, code: u64) {
        let reason = match self.inner().cause() {
            Some(ConnectionError::LocallyClosed { reason, .. }) if !reason.is_empty() => reason,
            _ => return self.shut_down(code),
        };
        if Turn::is_of(self) {
            self.set_close_reason(&reason);
            self.shut_down(code);
        } else {
            let instance = Arc::clone(self);
            background::run(move || {
                instance.set_close_reason(&reason);
                instance.shut_down(code);
            });
        }
    }

    /// Whether this side has closed the connection and gave a reason, of which MsQuic may not know
    /// yet. SHUTDOWN_COMPLETE of everything on it will come by itself.
    pub(crate) fn is_closed_with_reason(&self) -> bool {
        let inner = self.inner();
        // Mostly it is not over, and no lock is needed.
        inner.is_over()
            && matches!(inner.cause(), Some(ConnectionError::LocallyClosed { reason, .. }) if !reason.is_empty())
            && inner.lock().connected().is_some()
    }

    /// Says what the connection will be closed with (`QUIC_PARAM_CONN_CLOSE_REASON_PHRASE`), on the
    /// worker or where it may block. A connection that cannot be told is closed without.
    fn set_close_reason(&self, reason: &str) {
        let phrase: Vec<u8> = reason.bytes().chain([0]).collect();
        let parameter = sys::QUIC_PARAM_CONN_CLOSE_REASON_PHRASE;
        // SAFETY: the parameter is a C string, which `phrase` is, and the call copies it.
        if let Err(error) = unsafe { self.set_parameter(parameter, &phrase[..]) } {
            tracing::warn!(parent: self.inner().span(), %error, "the peer is not told the reason");
        }
    }

    /// The peer's reason phrase, asked for on the worker.
    pub(super) fn close_reason(&self) -> Arc<str> {
        // RFC 9000 bounds a reason by what fits into one packet.
        let mut phrase = [0u8; 2048];
        let mut length = phrase.len() as u32;
        // SAFETY: the handle is open, and `phrase` has `length` bytes.
        let status = unsafe {
            call!(GetParam(
                self.handle().raw(),
                sys::QUIC_PARAM_CONN_CLOSE_REASON_PHRASE,
                &mut length,
                phrase.as_mut_ptr().cast()
            ))
        };
        let written = if NativeError::check(status).is_ok() { length as usize } else { 0 };
        let text = phrase[..written].split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into()
    }
}

/// The beginning of `reason` that can be sent: a C string of limited length.
fn sendable(reason: &str) -> &str {
    let reason = reason.split('\0').next().unwrap_or_default();
    let mut end = reason.len().min(MAX_REASON_LENGTH);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// `QUIC_MAX_CONN_CLOSE_REASON_LENGTH` of MsQuic's quicdef.h, without the terminator.
const MAX_REASON_LENGTH: usize = 511;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_before_a_nul_and_at_the_last_whole_character_that_fits() {
        for whole in ["", "why", &"x".repeat(511), &"é".repeat(255)] {
            assert_eq!(sendable(whole), whole);
        }
        assert_eq!(sendable("so\0 much"), "so");
        assert_eq!(sendable("\0"), "");
        assert_eq!(sendable(&"x".repeat(512)).len(), 511);
        assert_eq!(sendable(&"é".repeat(256)), "é".repeat(255));
        assert_eq!(sendable(&"😀".repeat(128)), "😀".repeat(127));
    }
}
