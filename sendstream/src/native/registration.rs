//! A registration: MsQuic's set of worker threads and everything that runs on them.

use std::{
    fmt, ptr,
    sync::{Arc, OnceLock},
};

use sendstream_core::wait::wait_for;
use sendstream_sys as sys;

use super::{
    api::{Api, call},
    background,
    handle::Handle,
    live::LiveCount,
};
#[cfg(all(feature = "tokio", unix))]
use crate::native::lending::Group;
use crate::types::error::NativeError;

/// MsQuic's worker threads, and what runs on them: the parent of servers, clients and their
/// connections.
///
/// Most programs never name one: servers and clients share the process's own. One of your own
/// separates their work from the rest and tells when all of it is gone:
///
/// ```
/// use sendstream::{Client, Registration, Trust};
///
/// # futures::executor::block_on(async {
/// let registration = Registration::new()?;
/// let client = Client::builder().alpn(["demo"]).registration(&registration).build()?;
/// drop(client);
/// registration.wait_idle().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// Clones are handles of the same registration. It closes, in the background, when nothing uses it
/// any more.
#[derive(Clone)]
pub struct Registration {
    inner: Arc<RegistrationInner>,
}

/// A registration that may be closed.
#[cfg(all(feature = "tokio", unix))]
pub(crate) struct WeakRegistration(std::sync::Weak<RegistrationInner>);

#[cfg(all(feature = "tokio", unix))]
impl WeakRegistration {
    /// The registration, unless nothing uses it any more.
    pub(crate) fn upgrade(&self) -> Option<Registration> {
        self.0.upgrade().map(|inner| Registration { inner })
    }
}

struct RegistrationInner {
    handle: Handle,
    profile: ExecutionProfile,
    count: LiveCount,
    /// Whose workers it runs on, if they are not those of MsQuic's own threads.
    #[cfg(all(feature = "tokio", unix))]
    group: Option<Group>,
}

/// What a registration's worker threads are good at (`QUIC_EXECUTION_PROFILE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ExecutionProfile {
    /// One worker for each processor, on the threads that also receive packets: nothing is handed
    /// from thread to thread.
    #[default]
    LowLatency,
    /// One worker thread for each processor beside those that receive packets, so that one
    /// connection's work is shared by two processors.
    MaxThroughput,
    /// One worker for everything, for work that may wait: it leaves the other processors alone.
    Scavenger,
    /// For a few connections that must not be kept waiting. MsQuic 2.6 runs it as
    /// [`LowLatency`](Self::LowLatency): the priority that it means to give is for threads that
    /// only [`MaxThroughput`](Self::MaxThroughput) has.
    RealTime,
}

impl ExecutionProfile {
    /// MsQuic's name for it.
    fn native(self) -> sys::QUIC_EXECUTION_PROFILE {
        match self {
            Self::LowLatency => sys::QUIC_EXECUTION_PROFILE_QUIC_EXECUTION_PROFILE_LOW_LATENCY,
            Self::MaxThroughput => sys::QUIC_EXECUTION_PROFILE_QUIC_EXECUTION_PROFILE_TYPE_MAX_THROUGHPUT,
            Self::Scavenger => sys::QUIC_EXECUTION_PROFILE_QUIC_EXECUTION_PROFILE_TYPE_SCAVENGER,
            Self::RealTime => sys::QUIC_EXECUTION_PROFILE_QUIC_EXECUTION_PROFILE_TYPE_REAL_TIME,
        }
    }
}

impl Registration {
    /// Opens a registration (`RegistrationOpen`) with MsQuic's default profile,
    /// [`ExecutionProfile::LowLatency`], which is also that of the process's own.
    ///
    /// # Errors
    ///
    /// MsQuic's status when it cannot start: no memory or threads left.
    pub fn new() -> Result<Self, NativeError> {
        Self::with_profile(ExecutionProfile::default())
    }

    /// Opens a registration (`RegistrationOpen`) whose workers do as `profile` says.
    ///
    /// # Errors
    ///
    /// MsQuic's status when it cannot start: no memory or threads left.
    pub fn with_profile(profile: ExecutionProfile) -> Result<Self, NativeError> {
        Api::get()?;
        let mut handle: sys::HQUIC = ptr::null_mut();
        // SAFETY: the config and its name outlive the call, which copies both; `handle` has room
        // for the one pointer that is written.
        let status = unsafe { call!(RegistrationOpen(&config(profile), &mut handle)) };
        NativeError::check(status)?;
        Ok(Self::of(RegistrationInner {
            handle: Handle::new(handle),
            profile,
            count: LiveCount::default(),
            #[cfg(all(feature = "tokio", unix))]
            group: None,
        }))
    }

    /// Opens one that runs on `group`'s workers, and has them until it is closed.
    #[cfg(all(feature = "tokio", unix))]
    pub(crate) fn on(group: Group) -> Result<Self, NativeError> {
        let profile = ExecutionProfile::default();
        let handle = Handle::new(group.open_registration(&config(profile))?);
        Ok(Self::of(RegistrationInner { handle, profile, count: LiveCount::default(), group: Some(group) }))
    }

    /// One that does not keep it open.
    #[cfg(all(feature = "tokio", unix))]
    pub(crate) fn downgrade(&self) -> WeakRegistration {
        WeakRegistration(Arc::downgrade(&self.inner))
    }

    fn of(inner: RegistrationInner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The group that it runs on, if it was opened with one.
    #[cfg(all(feature = "tokio", unix))]
    pub(crate) fn group(&self) -> Option<&Group> {
        self.inner.group.as_ref()
    }

    /// What its worker threads are good at.
    pub fn profile(&self) -> ExecutionProfile {
        self.inner.profile
    }

    /// The process's registration, opened by the first caller and never closed: at process exit
    /// nobody can say which handles still live, and closing would wait for them. A failure is kept:
    /// every later caller gets the same one.
    pub(crate) fn shared() -> Result<Self, NativeError> {
        static SHARED: OnceLock<Result<Registration, NativeError>> = OnceLock::new();
        SHARED.get_or_init(Self::new).clone()
    }

    /// Resolves when every listener has stopped and every connection is over: closed by either
    /// side, and all that MsQuic had to send about it sent. Who still holds a connection that is
    /// over, or a stream of it, holds up nobody.
    ///
    /// It closes nothing: shut servers down, and close or drop connections
    /// ([`Client::close_all`](crate::Client::close_all),
    /// [`Server::close_all`](crate::Server::close_all)), or wait for their peers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only ends the wait.
    pub async fn wait_idle(&self) {
        wait_for(&self.inner.count).await;
    }

    /// The native handle, open for as long as `self` lives.
    pub(crate) fn handle(&self) -> sys::HQUIC {
        self.inner.handle.raw()
    }

    /// How many listeners and connections are below.
    pub(crate) fn count(&self) -> &LiveCount {
        &self.inner.count
    }
}

fn config(profile: ExecutionProfile) -> sys::QUIC_REGISTRATION_CONFIG {
    sys::QUIC_REGISTRATION_CONFIG { AppName: c"sendstream".as_ptr(), ExecutionProfile: profile.native() }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("profile", &self.inner.profile).finish_non_exhaustive()
    }
}

impl Drop for RegistrationInner {
    fn drop(&mut self) {
        let handle = self.handle;
        #[cfg(all(feature = "tokio", unix))]
        let group = self.group.take();
        // Every handle below holds the registration, so none is left, but MsQuic may still be busy
        // with their ends.
        background::run(move || {
            // SAFETY: the only close of this handle, which nothing uses any more.
            unsafe { call!(RegistrationClose(handle.raw())) };
            #[cfg(all(feature = "tokio", unix))]
            drop(group);
        });
    }
}
