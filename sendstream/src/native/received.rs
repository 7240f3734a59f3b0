//! [`Block`]: memory that MsQuic receives data in, which can outlive its loan.

use std::{ffi::c_void, ptr::NonNull, sync::LazyLock};

use sendstream_core::stream::recv_state;
use sendstream_sys as sys;

use super::{api::abilities, library};

/// A block of MsQuic's memory that pieces of a stream lie in.
///
/// MsQuic writes to a block again, or frees it, when a piece has been given back, except to one that
/// was [kept](recv_state::Block::keep) before that and not [released](Self::release) as often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block(NonNull<c_void>);

// SAFETY: MsQuic counts who keeps a block in an atomic, and takes `Keep` and `Release` from any
// thread.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// What `piece` of a RECEIVE event lies in. `None` with a library that keeps nothing.
    ///
    /// # Safety
    ///
    /// `piece` is a descriptor of a RECEIVE event of `stream`, and this is that event's callback.
    pub(crate) unsafe fn of(stream: sys::HQUIC, piece: &sys::QUIC_BUFFER) -> Option<Self> {
        let find = FUNCTIONS.as_ref()?.find;
        // SAFETY: as the caller promises.
        NonNull::new(unsafe { find(stream, piece.Buffer) }).map(Self)
    }

    /// Ends what one [`keep`](recv_state::Block::keep) began.
    ///
    /// # Safety
    ///
    /// It was kept more often than released.
    pub(crate) unsafe fn release(self) {
        if let Some(functions) = FUNCTIONS.as_ref() {
            // SAFETY: as the caller promises.
            unsafe { (functions.release)(self.0.as_ptr()) };
        }
    }
}

impl recv_state::Block for Block {
    fn keep(&self) {
        if let Some(functions) = FUNCTIONS.as_ref() {
            // SAFETY: the state keeps a block for a piece that MsQuic does not have back yet, so the
            // block lives.
            unsafe { (functions.keep)(self.0.as_ptr()) };
        }
    }
}

/// Whether received memory can be kept.
pub(crate) fn can_be_kept() -> bool {
    FUNCTIONS.is_some()
}

/// MsQuic's functions.
struct Functions {
    find: unsafe extern "C" fn(sys::HQUIC, *const u8) -> *mut c_void,
    keep: unsafe extern "C" fn(*mut c_void),
    release: unsafe extern "C" fn(*mut c_void),
}

static FUNCTIONS: LazyLock<Option<Functions>> = LazyLock::new(|| {
    if !abilities().keeps_received {
        return None;
    }
    let mut memory = [sys::QUIC_RECEIVED_MEMORY { Find: None, Keep: None, Release: None }];
    library::get(sys::QUIC_PARAM_GLOBAL_RECEIVED_MEMORY, &mut memory).ok()?;
    let [memory] = memory;
    Some(Functions { find: memory.Find?, keep: memory.Keep?, release: memory.Release? })
});
