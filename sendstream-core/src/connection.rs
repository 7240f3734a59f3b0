//! A connection: how far it has come, what ended it, and which of the peer's streams wait to be
//! accepted.
//!
//! # How far it has come
//!
//! ```text
//!                                CONNECTED
//!     Connecting ────────────────────────────────────────► Connected
//!         │                                                    │
//!         ├── close, abandon: this side's application ─────────┤
//!         ├── SHUTDOWN_INITIATED_BY_TRANSPORT ─────────────────┤
//!         ├── SHUTDOWN_INITIATED_BY_PEER ──────────────────────┤
//!         ├── SHUTDOWN_COMPLETE, without another word before ──┤
//!         ├── the peer's certificate is refused ───────────────┤
//!         ├── the answer about it was not taken ───────────────┤
//!         ├── the handshake's time is over                     │
//!         ├── MsQuic refused the start                         │
//!         │                                                    │
//!         └──────────────────► Closed(cause) ◄─────────────────┘
//! ```
//!
//! `Closed` is final, and so is its cause: the first that was recorded. What the handshake settled
//! stays known in it, and so do the two addresses.
//!
//! # What MsQuic knows of it
//!
//! Beside that stand two marks, which say whether a shutdown may be called:
//!
//! ```text
//!                 on_start_accepted               SHUTDOWN_COMPLETE
//! (neither) ─────────────────────────► started ──────────────────────► started, shutdown_complete
//!      │                                                                      ▲
//!      └───────── SHUTDOWN_COMPLETE ──► shutdown_complete ────────────────────┘ on_start_accepted
//! ```
//!
//! A server's connection is `started` when it is first shown. A client's is started by a call, on a
//! thread of its own: a whole connection can pass before that call returns, which is the way below.
//! A shutdown that overtook the start would make it fail, and still bring events. So whoever ends a
//! connection that is not started leaves the shutdown to
//! [`on_start_accepted`](ConnectionInnerExclusive::on_start_accepted):
//!
//! | the end | MsQuic is told, if started and not complete | and when the start returns later |
//! | --- | --- | --- |
//! | `close(code)`; `abandon`, whose code is 0 | with the code | with the code |
//! | the handshake's time is over | with 0 | with 0 |
//! | the peer's certificate is refused | no: the refusal is told as the answer to the certificate, with an alert of its own | no: a shutdown would overtake the alert |
//! | the answer about it was not taken | with the code, in any case: MsQuic waits for the answer | with 0, which is ignored |
//! | SHUTDOWN_INITIATED_BY_TRANSPORT, SHUTDOWN_INITIATED_BY_PEER | no: it has said so itself | with 0, which is ignored |
//! | SHUTDOWN_COMPLETE | no | no |
//! | MsQuic refused the start | no: there are no events | it does not |
//!
//! A second end changes nothing and tells nobody, but for an answer that was not taken.
//!
//! # Who holds it
//!
//! The machine does not count its holders. Its driver counts two kinds, and says when the last of a
//! kind lets go:
//!
//! - **Users** are the application's handles of the connection, and the streams that still have
//!   something to deliver. When the last lets go, the connection is
//!   [abandoned](ConnectionInnerExclusive::abandon): it closes with code 0.
//! - **Acceptors** are the application's handles only. When the last lets go, the connection [stops
//!   accepting](ConnectionInnerExclusive::stop_accepting): the peer's streams that wait are
//!   refused, and so are those that come. What nobody will read would make the peer wait for ever,
//!   and two sides that both do so wait for each other.
//!
//! # What resolves which future
//!
//! `c` is the end of the connection, with its cause.
//!
//! | future | `Ok` on | `Err` on |
//! | --- | --- | --- |
//! | `poll_connected`: `connect`, `accept` | CONNECTED | `c` |
//! | `poll_early`: `accept_0rtt` | RESUMED, CONNECTED | `c` |
//! | `poll_handshake`: `EarlyConnection::connected`, `accepted_0rtt` | CONNECTED | `c` |
//! | `poll_accept`: `accept_uni`, `accept_bi` | PEER_STREAM_STARTED | `c`, once those that came before were given out |
//! | `poll_ticket_kept`: `session_ticket` | RESUMPTION_TICKET_RECEIVED, once the ticket is in the cache | `c` |
//! | `poll_path_changed`: `path_changed` | LOCAL_ADDRESS_CHANGED, PEER_ADDRESS_CHANGED, a move of this side's | `c` |
//! | `poll_closed`: `closed`, `drain` | `c` | never |
//!
//! A stream of this side's that never started has no event of its own at the end of its connection.
//! It asks to be told ([`tell_when_lost`](ConnectionInnerExclusive::tell_when_lost)), and
//! [`Ending::unstarted`] names it.
//!
//! # Rules
//!
//! 1. **Pure.** No lock, no native call, no clock. A transition says what is left to do outside of
//!    the lock: [`Ending`], [`PeerStream`], [`Wakeups`](crate::wait::Wakeups).
//! 2. **The cause is recorded before anybody is woken**, and before MsQuic is told.
//! 3. **Nothing foreign is dropped here.** Streams and verifiers that nobody wants any more are
//!    given back.

mod state;

pub use state::{ConnectionInnerExclusive, Ending, Held, PeerStream};
