//! Running what the application handed in (wakers, verifiers, owners of buffers, the log's
//! subscriber) where a panic must stop: inside a callback of MsQuic's, whose frames it cannot
//! cross, on the background thread, and in destructors.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
};

/// Runs `body`; `None` if it panicked, which is logged as having happened in `place`.
///
/// No panic gets out, not even one of the log's subscriber, or of the destructor of the panic's
/// value.
pub fn contain<T>(place: &'static str, body: impl FnOnce() -> T) -> Option<T> {
    match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => Some(value),
        Err(panic) => {
            let log = || tracing::error!(place, panic = message(&*panic), "code of the application panicked");
            if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(log)) {
                discard(panic);
            }
            discard(panic);
            None
        }
    }
}

/// A value of the application's. A panic of its destructor is contained, in places where it would
/// end the process.
pub struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    /// Contains `value`.
    pub fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value, until it is taken.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()
    }

    /// Takes the value out, once.
    pub fn take(mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        contain("a destructor", || drop(self.0.take()));
    }
}

/// Drops the value of a panic. Its destructor may panic in turn.
pub fn discard(mut panic: Box<dyn Any + Send>) {
    while let Err(next) = panic::catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        panic = next;
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&'static str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "(not a text)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_contained_with_all_that_follows_from_it() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("on purpose, when what was panicked with is dropped");
            }
        }
        assert_eq!(contain("a test", || 7), Some(7));
        assert_eq!(contain("a test", || -> u8 { panic!("on purpose") }), None);
        assert_eq!(contain("a test", || -> u8 { panic::panic_any(Bomb) }), None);
    }
}
