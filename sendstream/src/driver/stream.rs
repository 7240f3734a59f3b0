//! A stream, from `SendStream::send` to the wire and from MsQuic's events back to a waker.
//!
//! # Who owns what
//!
//! ```text
//! SendStream ──┐                       ┌── inner: StreamInner ── Mutex<StreamInnerExclusive>  (state.rs, recv_state.rs)
//! RecvStream ──┼── Arc<StreamInstance> ┤
//! RecvChunk ───┤                       └── handle: the open MsQuic stream
//! MsQuic ──────┘  (its context pointer, from the start until SHUTDOWN_COMPLETE)
//! ```
//!
//! The handle is closed in SHUTDOWN_COMPLETE. Where something that MsQuic lent is out or unread, or the stream counts against the
//! peer's limit for as long as it is held, it is closed by the last of them; where a native call is under way, when that ends.
//!
//! - **`owner.rs`** calls MsQuic. A call is made without any lock: the state admits it first (`begin_*`), and hears of a
//!   refusal afterwards (`on_*_refused`).
//! - **`events.rs`** is called by MsQuic. Each `handle_event_*` makes one transition of the state under the lock, drops the
//!   lock, and wakes whom the transition named.
//! - **`state.rs`** and **`recv_state.rs`** know neither MsQuic nor locks; they are the protocol below as code.
//! - **`buffer.rs`** is the memory that crosses the boundary, in both directions.
//!
//! A byte's way out: `SendStream::send` → `StreamInstance::send` → `begin_send` admits it → `Buffer::into_raw` → `StreamSend`.
//! An acknowledgement's way back: SEND_COMPLETE → `stream_callback` → `handle_event_send_complete` → `Buffer::from_raw`,
//! freed → `on_send_complete` → the waker of `SendData`.
//!
//! # The stream as a whole: `StreamState`
//!
//! ```text
//!          start, first send or FIN          START_COMPLETE, admitted
//! Open ──────────────────────────► Starting ─────────────────────────► Started
//!  │                                │  │  └──► Blocked ──────────────────┘ │
//!  │ refused on the spot            │  │  START_COMPLETE,  PEER_ACCEPTED,   │
//!  └──► Refused ◄───────────────────┘  │  not admitted     or data acked    │
//!                                      │                                    │ SHUTDOWN_COMPLETE
//!                                      └────────────► ShutdownComplete ◄────┘
//! ```
//!
//! Before `Starting` (and in `Refused`) no event comes, not even at the end of the connection; a stream that could not start
//! asks its connection for the cause (`ConnectionInner::tell_when_lost`). From `Starting` on SHUTDOWN_COMPLETE surely comes,
//! because every start asks for it (`SHUTDOWN_ON_FAIL`), and a START_COMPLETE that failed makes sure of it once more.
//!
//! # The send half: `StreamSendState`
//!
//! ```text
//!        finish                       SEND_SHUTDOWN_COMPLETE, graceful
//! Open ──────────► FinQueued ─────────────────────────────────────────► FinAcked
//!  │ └─────────┐       │
//!  │           ▼       ▼            SEND_COMPLETE canceled, SEND_SHUTDOWN_COMPLETE not graceful,
//!  │          Failing ◄┘            a send refused with "aborted": the cause is still to come
//!  │           │  │  │
//!  └───────────┴──┼──┴─── abort ──────────────────► Reset(code)
//!                 ├────── PEER_RECEIVE_ABORTED ───► Stopped(code)
//!                 └────── SHUTDOWN_COMPLETE, ... ─► Failed(cause)
//! ```
//!
//! The three failures are reached from `Open`, `FinQueued` and `Failing` alike; whichever comes first stays. No future ends in
//! `Failing`: it is the state in which something is known to be lost and not yet why.
//!
//! # What resolves which future
//!
//! | future | `Ok` on | `Err` on |
//! | --- | --- | --- |
//! | `start`, `poll_start` | START_COMPLETE (admitted), PEER_ACCEPTED, the first SEND_COMPLETE that is not canceled | START_COMPLETE (limit), a failure of the send half |
//! | `SendData` (`send`, `finish_with`), `acked` | its SEND_COMPLETE, not canceled | a failure of the send half |
//! | `write_chunk`, `write_chunks`, `write_all` | room in the window: SEND_COMPLETE, IDEAL_SEND_BUFFER_SIZE | a failure of the send half, `finish` |
//! | `poll_finish`, `finished` | SEND_SHUTDOWN_COMPLETE, graceful | a failure of the send half |
//! | `poll_abort` | SEND_SHUTDOWN_COMPLETE, SHUTDOWN_COMPLETE | the send half ended otherwise before |
//! | `stopped` | PEER_RECEIVE_ABORTED (code); FIN acknowledged, own reset (`None`) | SHUTDOWN_COMPLETE with the connection |
//! | `read_chunk` and its kin | RECEIVE; its FIN flag or PEER_SEND_SHUTDOWN (the end) | PEER_SEND_ABORTED, own `stop`, SHUTDOWN_COMPLETE |
//! | `received_reset` | PEER_SEND_ABORTED (code); FIN, own `stop` (`None`) | SHUTDOWN_COMPLETE with the connection |
//!
//! # Rules
//!
//! 1. **No lock over foreign code.** MsQuic's calls may deliver events in place when made on a worker thread, wakers may poll
//!    in place, and buffers' owners have destructors: all of it happens without the state's lock.
//! 2. **The cause is recorded before anybody is woken.** A canceled send wakes nobody; what named the cause does.
//! 3. **Lent memory has one way back.** A `Buffer` comes back in SEND_COMPLETE or from a refused send. A `Lent` is given back
//!    in stream order by `StreamRecv::give_back`, at the latest by closing the handle.
//! 4. **The handle closes once.** In SHUTDOWN_COMPLETE, on the worker, in place; else when the last native call or the last
//!    reference ends, which then only queues. A stream that never started closes through `close_unstarted`.

pub(crate) mod buffer;
pub(crate) mod chunk;
pub(crate) mod events;
mod handle;
pub(crate) mod owner;
mod receiving;
pub(crate) mod sending;
mod status;
