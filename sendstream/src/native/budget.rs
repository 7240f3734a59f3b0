//! What all connections of the process share: a [`Budget`], where MsQuic counts its receive buffers and
//! streams what they send, and a [`Flight`].

use std::{mem::offset_of, num::NonZeroUsize, sync::LazyLock, thread::available_parallelism};

use sendstream_core::{budget::Budget, flight::Flight};
use sendstream_sys as sys;

use super::{api::abilities, library};

/// The process's budget. The library has been started.
pub(crate) fn budget() -> &'static Budget {
    static SHARED: LazyLock<&'static Budget> = LazyLock::new(|| {
        let budget = msquics().unwrap_or(&OURS);
        if let Some(space) = address_space() {
            budget.set_limit(budget.limit().min(space / 4));
        }
        budget
    });
    &SHARED
}

/// What the process's streams have in flight together.
pub(crate) fn flight() -> &'static Flight {
    static SHARED: LazyLock<Flight> =
        LazyLock::new(|| Flight::new(available_parallelism().unwrap_or(NonZeroUsize::MIN)));
    &SHARED
}

/// With a library that has none: for what is sent. It has no limit, unless the address space has one,
/// until one is set.
static OURS: Budget = Budget::new(i64::MAX);

fn msquics() -> Option<&'static Budget> {
    type Theirs = sys::QUIC_MEMORY_BUDGET;
    const THEIR_OFFSETS: [usize; 3] = [offset_of!(Theirs, Limit), offset_of!(Theirs, Used), offset_of!(Theirs, Shrunk)];
    const _: () = assert!(
        size_of::<Budget>() == size_of::<Theirs>()
            && THEIR_OFFSETS[0] == Budget::OFFSETS[0]
            && THEIR_OFFSETS[1] == Budget::OFFSETS[1]
            && THEIR_OFFSETS[2] == Budget::OFFSETS[2]
    );
    if !abilities().budgets_memory {
        return None;
    }
    let mut place = [std::ptr::null::<Budget>()];
    library::get(sys::QUIC_PARAM_GLOBAL_MEMORY_BUDGET, &mut place).ok()?;
    // SAFETY: the parameter is a pointer to a static struct of aligned integers of 64 bits, which both
    // types have at the same places, as is asserted above. C reads and writes them by atomic
    // operations only.
    unsafe { place[0].as_ref() }
}

/// How much memory this process may map, if its owner has limited that (`RLIMIT_AS`). MsQuic looks at
/// that only in a control group with a limit.
fn address_space() -> Option<u64> {
    #[cfg(unix)]
    {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a place for one.
        let status = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
        (status == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
    }
    #[cfg(not(unix))]
    None
}
