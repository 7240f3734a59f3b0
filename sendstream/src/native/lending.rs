//! MsQuic's workers, lent by their own threads to a loop that takes turns at them.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    ptr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sendstream_sys as sys;
use tokio::io::{Interest, unix::AsyncFd};

use super::{fork, library};
use crate::types::error::NativeError;

/// A group of the process's workers, one for each processor, that nobody else has. Its number is
/// free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Group {
    lending: sys::QUIC_WORKER_LENDING,
    number: u32,
}

/// A worker of a [`Group`].
#[derive(Debug)]
pub(crate) struct Worker {
    lending: sys::QUIC_WORKER_LENDING,
    index: u32,
}

// SAFETY: MsQuic takes what is called below from any thread, and from several at once.
unsafe impl Send for Group {}
// SAFETY: as above.
unsafe impl Sync for Group {}
// SAFETY: as above.
unsafe impl Send for Worker {}
// SAFETY: as above.
unsafe impl Sync for Worker {}

/// When a worker needs its next turn. It may need one before: when its descriptor is readable, or
/// when it is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextTurn {
    /// As soon as others had theirs.
    Soon,
    /// After so long.
    After(Duration),
    /// Not before.
    WhenAsked,
}

/// The numbers of the groups that are taken.
static TAKEN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

impl Group {
    /// Takes one, unless all are taken. A registration must be open.
    pub(crate) fn take() -> Result<Option<Self>, NativeError> {
        let mut lending = [sys::QUIC_WORKER_LENDING {
            WorkerPool: ptr::null_mut(),
            Count: 0,
            Groups: 0,
            OpenRegistration: None,
            GetDescriptor: None,
            SetLent: None,
            TakeTurn: None,
        }];
        library::get(sys::QUIC_PARAM_GLOBAL_WORKER_LENDING, &mut lending)?;
        let [lending] = lending;
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        // The first group is the one of MsQuic's own threads.
        let free = (1..lending.Groups).find(|number| !taken.contains(number));
        taken.extend(free);
        Ok(free.map(|number| Self { lending, number }))
    }

    /// Opens a registration that runs on its workers.
    pub(crate) fn open_registration(&self, config: &sys::QUIC_REGISTRATION_CONFIG) -> Result<sys::HQUIC, NativeError> {
        let open = self.lending.OpenRegistration.expect("MsQuic says how a group gets a registration");
        let mut handle: sys::HQUIC = ptr::null_mut();
        // SAFETY: `config` and its name outlive the call, which copies both; `handle` has room for
        // the one pointer that is written.
        let status = unsafe { open(config, self.number, &mut handle) };
        NativeError::check(status)?;
        Ok(handle)
    }

    /// How many workers all groups have together.
    pub(crate) fn workers_of_all(&self) -> u32 {
        self.lending.Count * self.lending.Groups
    }

    /// Its workers, once it has a registration.
    pub(crate) fn workers(&self) -> impl Iterator<Item = Worker> {
        let (lending, first) = (self.lending, self.number * self.lending.Count);
        (first..first + lending.Count).map(move |index| Worker { lending, index })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).retain(|number| *number != self.number);
    }
}

impl Worker {
    /// Its number, among the workers of all groups.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Lends it. `wake` is called with its number, by any thread, when it needs a turn; it returns
    /// 0 where the descriptor is to tell instead.
    pub(crate) fn lend(&self, wake: extern "C" fn(u32) -> u8) {
        self.set_lent(Some(wake));
    }

    /// Gives it back to its own thread. A turn that is under way ends as ever; later ones do
    /// nothing.
    pub(crate) fn give_back(&self) {
        self.set_lent(None);
    }

    fn set_lent(&self, wake: Option<extern "C" fn(u32) -> u8>) {
        let set_lent = self.lending.SetLent.expect("MsQuic says how a worker is lent");
        // SAFETY: the pool is never closed, as the API table is not, and its worker of this number
        // has begun.
        unsafe { set_lent(self.lending.WorkerPool, self.index, wake) };
    }

    /// Has the runtime that the caller is in watch its descriptor, which is readable when events
    /// wait for a turn.
    pub(crate) fn watch(&self) -> io::Result<AsyncFd<Events>> {
        let get_descriptor = self.lending.GetDescriptor.expect("MsQuic says what a worker's descriptor is");
        // SAFETY: the pool is never closed, as the API table is not, and its worker of this number
        // has begun.
        let descriptor = unsafe { get_descriptor(self.lending.WorkerPool, self.index) };
        // SAFETY: the descriptor stays open for as long as the pool is there, and `Events` always
        // names this one.
        Ok(unsafe { AsyncFd::register_with_interest(Events(descriptor), Interest::READABLE) }?)
    }

    /// Does what there is to do, if it is lent and nobody else is at it: callbacks happen in here.
    /// `has_events` is whether its descriptor may be readable. In a forked process it does nothing.
    pub(crate) fn take_turn(&self, has_events: bool) -> NextTurn {
        if fork::is_forked() {
            return NextTurn::WhenAsked;
        }
        let take_turn = self.lending.TakeTurn.expect("MsQuic says how a turn is taken");
        // SAFETY: the pool is never closed, as the API table is not, and its worker of this number
        // has begun.
        match unsafe { take_turn(self.lending.WorkerPool, self.index, has_events.into()) } {
            0 => NextTurn::Soon,
            u32::MAX => NextTurn::WhenAsked,
            milliseconds => NextTurn::After(Duration::from_millis(milliseconds.into())),
        }
    }
}

/// A worker's epoll instance, which is MsQuic's and never closed.
#[derive(Debug)]
pub(crate) struct Events(RawFd);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}
