//! The envelope around every callback of MsQuic's.
//!
//! MsQuic passes a context to its callbacks. The context is a reference to a [`Receiver`], lent to
//! MsQuic. [`deliver`]
//!
//! 1. begins the [turn](Turn) of the connection that the event belongs to;
//! 2. runs the receiver's handler, and stops a panic of foreign code there;
//! 3. [blames](wakes::blame) the receiver if a wake panics that its event left to the batch;
//! 4. carries out the handler's answer ([`Next`]), and gives the reference up with the last event;
//! 5. ends the turn; for a connection's own last event it does so before it gives the reference up.

use std::{ffi::c_void, mem::ManuallyDrop, sync::Arc};

use sendstream_core::foreign::contain;
use sendstream_sys as sys;

use crate::driver::{
    turn::{Attended, Turn},
    wakes::{self, Blame},
};

/// An object that MsQuic calls back about, and to which it was lent a reference.
pub(crate) trait Receiver: Send + Sync + Sized {
    /// Its events, as MsQuic has them.
    type Event;
    /// The connections whose workers bring its events.
    type Connection: Attended;
    /// Whether it is itself the connection.
    const IS_CONNECTION: bool = false;

    /// The connection whose worker brings its events, if one does.
    fn connection(self: &Arc<Self>) -> Option<&Arc<Self::Connection>>;

    /// Handles an event.
    ///
    /// # Safety
    ///
    /// `event` is one of this object's, valid and exclusive as MsQuic passes it to the callback.
    unsafe fn receive(self: &Arc<Self>, event: &mut Self::Event) -> Next;

    /// Foreign code (a waker, the owner of a buffer, a verifier) panicked inside of `event`. The
    /// object fails, and the process lives on.
    fn after_panic(self: &Arc<Self>, event: &Self::Event) -> Next;

    /// The object that fails if a waker of its events panics.
    fn blame(self: &Arc<Self>) -> Blame;

    /// Asks MsQuic to end it at once, because its handler asked for that. The last event may come
    /// inside.
    fn shut_down_at_once(self: Arc<Self>);

    /// Gives up MsQuic's reference, inside of the last event.
    fn release(self: Arc<Self>);
}

/// What a handler asks of the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Next {
    /// Return this status to MsQuic.
    Return(sys::QUIC_STATUS),
    /// Shut the object down at once, so that its last event surely comes.
    ShutDown,
    /// That was the last event: let go of the reference that MsQuic held.
    Release,
}

/// Gives MsQuic the reference that the last event brings back.
pub(crate) fn lend_reference<R: Receiver>(receiver: &Arc<R>) {
    let _ = Arc::into_raw(receiver.clone());
}

/// Takes a reference back that MsQuic will not bring back: it refused to start the object.
///
/// # Safety
///
/// [`lend_reference`] lent it, and no event of the object will come.
pub(crate) unsafe fn take_reference_back<R: Receiver>(receiver: &Arc<R>) {
    // SAFETY: one reference was leaked by `lend_reference`, as the caller promises; `receiver` is
    // another.
    unsafe { Arc::decrement_strong_count(Arc::as_ptr(receiver)) };
}

/// Delivers one event, and returns the status for MsQuic.
///
/// # Safety
///
/// `context` is an `R` from an `Arc`. MsQuic was lent one of its references, and this is a callback
/// of that object: `event` is valid and exclusive until it returns, and no event comes after the
/// one that the handler answers with [`Next::Release`].
pub(crate) unsafe fn deliver<R: Receiver>(context: *mut c_void, event: *mut R::Event) -> sys::QUIC_STATUS {
    // SAFETY: as the caller promises, MsQuic holds a reference; this borrows it without taking it.
    let receiver = ManuallyDrop::new(unsafe { Arc::from_raw(context.cast::<R>().cast_const()) });
    // SAFETY: as the caller promises.
    let event = unsafe { &mut *event };
    let mut turn = receiver.connection().map(Turn::begin);
    let kept = wakes::kept();
    let handled = contain("an event of MsQuic's", || {
        // SAFETY: as the caller promises.
        unsafe { receiver.receive(event) }
    });
    let next = handled.unwrap_or_else(|| receiver.after_panic(event));
    if wakes::kept() > kept {
        wakes::blame(kept, if next == Next::Release { Blame::Nothing } else { receiver.blame() });
    }
    if let Next::Return(status) = next {
        if let (Some(turn), Some(connection)) = (turn, receiver.connection()) {
            let rest = turn.rest(connection);
            turn.end(rest);
        }
        return status;
    }
    // A connection has its last turn before it is released: a reference that is held for the turn
    // would keep it from closing its handle in place.
    if R::IS_CONNECTION
        && let (Some(turn), Some(connection)) = (turn.take(), receiver.connection())
    {
        let rest = turn.rest(connection);
        turn.end(rest);
    }
    // The receiver may go now. Its connection is asked for the rest of the turn, if there can be
    // any.
    let connection = receiver.connection().filter(|_| turn.as_ref().is_some_and(Turn::attends)).cloned();
    if next == Next::ShutDown {
        // A reference of its own: the last event may come inside, and take MsQuic's.
        let receiver = Arc::clone(&receiver);
        contain("a shutdown", || receiver.shut_down_at_once());
    } else {
        let receiver = ManuallyDrop::into_inner(receiver);
        contain("the end of an object", || receiver.release());
    }
    if let Some(turn) = turn {
        let rest = connection.as_ref().and_then(|connection| turn.rest(connection));
        turn.end(rest);
    }
    // With the last reference goes what the application gave the connection, such as a verifier.
    contain("a connection's close", || drop(connection));
    0
}
