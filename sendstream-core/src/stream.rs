//! A stream's states: the calls of its user, the events of its transport, and the tasks that wait.
//!
//! [`state`] has the stream as a whole and its send half, [`slices`] how a send becomes operations,
//! [`recv_state`] the receive half, [`cause`] why they end. Events have MsQuic's names;
//! START_COMPLETE is `QUIC_STREAM_EVENT_START_COMPLETE`. The futures are those of `SendStream` and
//! `RecvStream`.
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
//! Before `Starting`, and in `Refused`, no event comes, not even at the end of the connection. A
//! stream that could not start asks its connection for the cause (`must_ask_connection`). From
//! `Starting` on SHUTDOWN_COMPLETE surely comes, because every start asks for it
//! (`SHUTDOWN_ON_FAIL`), and a START_COMPLETE that failed makes sure of it once more.
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
//! `Open`, `FinQueued` and `Failing` all lead to the three failures, and the first failure stays.
//! No future ends in `Failing`: there the stream knows that something is lost, and not yet why.
//!
//! # What resolves which future
//!
//! | future | `Ok` on | `Err` on |
//! | --- | --- | --- |
//! | `start`, `poll_start` | START_COMPLETE (admitted), PEER_ACCEPTED, the first SEND_COMPLETE that is not canceled | START_COMPLETE (limit), a failure of the send half |
//! | `SendData` of `send`, `acked` | its last SEND_COMPLETE, not canceled | a failure of the send half |
//! | `write_chunk`, `write_chunks`, `write_all` | room in the window: SEND_COMPLETE, IDEAL_SEND_BUFFER_SIZE | a failure of the send half, `finish` |
//! | `SendData` of `finish_with`, `poll_finish`, `finished` | SEND_SHUTDOWN_COMPLETE, graceful | a failure of the send half |
//! | `poll_abort` | SEND_SHUTDOWN_COMPLETE, SHUTDOWN_COMPLETE | the send half ended otherwise before |
//! | `stopped` | PEER_RECEIVE_ABORTED (code); FIN acknowledged, own reset (`None`) | SHUTDOWN_COMPLETE with the connection |
//! | `read_chunk` and its kin | RECEIVE; its FIN flag or PEER_SEND_SHUTDOWN (the end) | PEER_SEND_ABORTED, own `stop`, SHUTDOWN_COMPLETE |
//! | `received_reset` | PEER_SEND_ABORTED (code); FIN, own `stop` (`None`) | SHUTDOWN_COMPLETE with the connection |

pub mod cause;
pub mod copies;
pub mod lending;
pub mod recv_state;
pub mod slices;
pub mod state;

/// Whether the end of the stream goes with what is sent, or came with what is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fin {
    /// Nothing comes after it.
    Yes,
    /// More may come.
    No,
}

impl Fin {
    /// Whether nothing comes after it.
    #[inline]
    pub fn is_set(self) -> bool {
        self == Self::Yes
    }
}

impl From<bool> for Fin {
    #[inline]
    fn from(fin: bool) -> Self {
        if fin { Self::Yes } else { Self::No }
    }
}
