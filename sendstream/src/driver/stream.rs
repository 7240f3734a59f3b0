//! A stream, from `SendStream::send` to the wire and from MsQuic's events back to a waker.
//!
//! # Who owns what
//!
//! ```text
//! SendStream ──┐                       ┌── inner: StreamInner ── Mutex<StreamInnerExclusive>  (sendstream-core)
//! RecvStream ──┼── Arc<StreamInstance> ┤
//! RecvChunk ───┤                       └── handle: the open MsQuic stream
//! MsQuic ──────┘  (its context pointer, from the start until SHUTDOWN_COMPLETE)
//! ```
//!
//! The handle is closed in SHUTDOWN_COMPLETE, with two exceptions. If memory that MsQuic lent is
//! out or unread, or if the stream counts against the peer's limit while a half is held, the last
//! half closes it, or the last piece of that memory, or the last reference. If a native call is in
//! progress, that call closes it at its end.
//!
//! - **`owner.rs`**, **`sending.rs`** and **`receiving.rs`** call MsQuic. A call is made without
//!   any lock: the state admits it first (`begin_*`), and hears of a refusal afterwards
//!   (`on_*_refused`).
//! - **`events.rs`** is called by MsQuic. Each `handle_event_*` makes one transition of the state
//!   under the lock, drops the lock, and wakes whom the transition named.
//! - **`buffer.rs`** is the memory that crosses the boundary, in both directions; **`chunk.rs`** is
//!   what the user holds of it.
//! - **`status.rs`** says which of MsQuic's statuses the state decides on. The rest are only passed
//!   on.
//!
//! The state itself, [`sendstream_core::stream`], knows neither MsQuic nor locks. Its two halves
//! and what resolves which future stand there, in prose and as code. It names causes;
//! `send_stream.rs` and `recv_stream.rs` make errors of them.
//!
//! A byte's way out: `SendStream::send` → `StreamInstance::send` → `begin_send` admits it and says
//! in how many slices it goes → `Buffer::into_raw` and `StreamSend`, for each slice. An
//! acknowledgement's way back: SEND_COMPLETE → `stream_callback` → `handle_event_send_complete` →
//! `Buffer::from_raw`, freed → `on_send_complete` → the waker of `SendData`.
//!
//! # Rules
//!
//! 1. **No lock over foreign code.** MsQuic's calls may deliver events in place when made on a
//!    worker thread, wakers may poll in place, and buffers' owners have destructors: all of it
//!    happens without the state's lock.
//! 2. **The cause is recorded before anybody is woken.** A canceled send wakes nobody; what named
//!    the cause does.
//! 3. **Lent memory has one way back.** A `Buffer` comes back in SEND_COMPLETE or from a refused
//!    send. A `Lent` is given back in stream order by `StreamRecv::give_back`, at the latest by
//!    closing the handle.
//! 4. **The handle closes once.** In SHUTDOWN_COMPLETE, on the worker, in place; else when the last
//!    native call, the last half or the last reference ends, which then only queues. A stream that
//!    never started closes through `close_unstarted`.

pub(crate) mod buffer;
pub(crate) mod chunk;
pub(crate) mod closing;
pub(crate) mod events;
mod handle;
pub(crate) mod owner;
mod receiving;
pub(crate) mod sending;
mod status;
