//! A listener: `owner.rs` ([`ListenerInstance`](owner::ListenerInstance)) owns its handle and makes
//! the calls, `events.rs` ([`ListenerInner`](events::ListenerInner)) receives MsQuic's events.
//! `queue.rs` is where connections wait to be accepted.

pub(crate) mod events;
pub(crate) mod owner;
pub(crate) mod queue;
