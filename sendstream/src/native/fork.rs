//! What becomes of the library in a process that was forked from one that uses it. The child has
//! MsQuic's memory and sockets, but none of its threads: what is asked of them never happens, and
//! what they had locked stays locked. So the child calls nothing of MsQuic's, and looks at no state
//! that another thread may have been changing. Everything that the child inherited is over there,
//! because of [`NativeError::FORKED`].

#[cfg(unix)]
use std::sync::Once;
use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use sendstream_core::wait::{Lock, LockGuard, Retire};
use sendstream_sys as sys;

use crate::types::error::NativeError;

static FORKED: AtomicBool = AtomicBool::new(false);

/// Whether this process was forked after the library was first used.
pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Refuses what a forked process cannot do.
///
/// # Errors
///
/// [`NativeError::FORKED`].
pub(crate) fn check() -> Result<(), NativeError> {
    if is_forked() { Err(NativeError::FORKED) } else { Ok(()) }
}

/// Has every process that is forked from now on know it.
pub(super) fn watch() {
    #[cfg(unix)]
    {
        extern "C" fn note() {
            FORKED.store(true, Ordering::Relaxed);
        }
        static WATCHED: Once = Once::new();
        WATCHED.call_once(|| {
            // SAFETY: `note` does nothing but store to an atomic, which a child of any fork may.
            let error = unsafe { libc::pthread_atfork(None, None, Some(note)) };
            if error != 0 {
                tracing::warn!(error, "a forked process will not know that it may not use this library");
            }
        });
    }
}

/// A state behind a lock. A forked process has one of its own, which is over.
#[derive(Debug)]
pub(crate) struct ForkLock<T: Retire> {
    state: Lock<T>,
    forked: OnceLock<Box<Lock<T>>>,
}

impl<T: Retire> ForkLock<T> {
    /// Guards `state`.
    pub(crate) fn new(state: T) -> Self {
        Self { state: Lock::new(state), forked: OnceLock::new() }
    }

    /// Locks. In a forked process this is the lock of what `over` makes.
    pub(crate) fn lock(&self, over: impl FnOnce() -> T) -> LockGuard<'_, T> {
        if is_forked() { self.lock_forked(over) } else { self.state.lock() }
    }

    /// Out of line: it must cost those nothing that are not forked.
    #[cold]
    #[inline(never)]
    fn lock_forked(&self, over: impl FnOnce() -> T) -> LockGuard<'_, T> {
        self.forked.get_or_init(|| Box::new(Lock::new(over()))).lock()
    }

    /// The state as it was made, when nobody else can have it.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.state.get_mut()
    }

    /// Whether somebody holds the state right now.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_locked(&self) -> bool {
        self.state.is_locked()
    }
}

/// What a forked process has in place of MsQuic's functions. They do nothing, and those that could
/// say so return [`NativeError::FORKED`].
pub(super) static FORKED_TABLE: sys::QUIC_API_TABLE = sys::QUIC_API_TABLE {
    SetContext: Some(nothing_2),
    GetContext: None,
    SetCallbackHandler: Some(nothing_3),
    SetParam: Some(refused_4),
    GetParam: Some(refused_4),
    RegistrationOpen: Some(refused_2),
    RegistrationClose: Some(nothing_1),
    RegistrationShutdown: None,
    ConfigurationOpen: Some(refused_7),
    ConfigurationClose: Some(nothing_1),
    ConfigurationLoadCredential: Some(refused_2),
    ListenerOpen: Some(refused_4),
    ListenerClose: Some(nothing_1),
    ListenerStart: Some(refused_4),
    ListenerStop: Some(nothing_1),
    ConnectionOpen: Some(refused_4),
    ConnectionClose: Some(nothing_1),
    ConnectionShutdown: Some(nothing_3),
    ConnectionStart: Some(refused_5),
    ConnectionSetConfiguration: Some(refused_2),
    ConnectionSendResumptionTicket: Some(refused_4),
    StreamOpen: Some(refused_5),
    StreamClose: Some(nothing_1),
    StreamStart: Some(refused_2),
    StreamShutdown: Some(refused_3),
    StreamSend: Some(refused_5),
    StreamReceiveComplete: Some(nothing_2),
    StreamReceiveSetEnabled: None,
    DatagramSend: Some(refused_5),
    ConnectionResumptionTicketValidationComplete: None,
    ConnectionCertificateValidationComplete: Some(refused_3),
    ConnectionOpenInPartition: None,
    StreamProvideReceiveBuffers: None,
    ConnectionPoolCreate: None,
    ExecutionCreate: None,
    ExecutionDelete: None,
    ExecutionPoll: None,
    RegistrationClose2: None,
};

/// Functions of the C ABI that look at none of their arguments.
macro_rules! inert {
    ($($name:ident: $($argument:ident)+ $(=> $result:expr, $status:ty)?;)+) => {
        $(extern "C" fn $name<$($argument),+>($(_: $argument),+) $(-> $status)? {
            $($result)?
        })+
    };
}

inert! {
    nothing_1: A;
    nothing_2: A B;
    nothing_3: A B C;
    refused_2: A B => REFUSED, sys::QUIC_STATUS;
    refused_3: A B C => REFUSED, sys::QUIC_STATUS;
    refused_4: A B C D => REFUSED, sys::QUIC_STATUS;
    refused_5: A B C D E => REFUSED, sys::QUIC_STATUS;
    refused_7: A B C D E F G => REFUSED, sys::QUIC_STATUS;
}

const REFUSED: sys::QUIC_STATUS = NativeError::FORKED.status();
