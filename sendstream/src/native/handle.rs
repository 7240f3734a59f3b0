//! A handle of MsQuic's as a value that threads may share.

use sendstream_sys as sys;

/// An open MsQuic handle. Copying it says nothing about who closes it; each owner documents that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle(sys::HQUIC);

// SAFETY: MsQuic's API functions may be called with one handle from any thread, also at the same
// time.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    pub(crate) fn new(raw: sys::HQUIC) -> Self {
        Self(raw)
    }

    pub(crate) fn raw(self) -> sys::HQUIC {
        self.0
    }
}
