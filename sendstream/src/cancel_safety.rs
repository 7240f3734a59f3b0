//! Every future of this crate: what resolves it, and what a drop does to it. This module holds
//! documentation only.
//!
//! # Rules
//!
//! - **A dropped future never truncates or doubles data.** Either nothing was accepted, or the call
//!   itself submitted the data, and the drop only ends the wait.
//! - **Three methods are not cancel safe**: [`SendStream::write_all`], [`RecvStream::read_exact`]
//!   and [`RecvStream::read_to_end`].
//! - **Every wait ends when its connection ends.** What had arrived before then is still given out.
//!
//! # How to read the tables
//!
//! Names in capitals are events of MsQuic (`QUIC_STREAM_EVENT_SEND_COMPLETE` and so on). Two
//! letters stand for the common failures:
//!
//! - **s**: the send half failed. The peer stopped it (PEER_RECEIVE_ABORTED), this side called
//!   [`abort`](SendStream::abort), the connection was lost (SHUTDOWN_COMPLETE), or a native call
//!   failed.
//! - **c**: the connection ended. The peer or a transport ended it (SHUTDOWN_INITIATED_BY_PEER,
//!   SHUTDOWN_INITIATED_BY_TRANSPORT), this side called [`close`](Connection::close), or the
//!   handshake missed its deadline.
//!
//! A dash in the last column marks a poll, which has no future to drop.
//!
//! # Sending
//!
//! | future | `Ok` on | `Err` on | dropped half-way |
//! | --- | --- | --- | --- |
//! | [`SendStream::start`], [`SendStream::poll_start`] | START_COMPLETE that admits the stream, PEER_ACCEPTED, or the first acknowledged send | s | once polled, the stream starts |
//! | [`SendStream::start_now`] | as `start` | s | once polled, the stream starts |
//! | [`SendStream::try_start`] | as `start` | START_COMPLETE that names the limit; s | once polled, the stream starts |
//! | [`SendStream::send`] | SEND_COMPLETE of its last operation, not canceled | s | the bytes go out all the same: the call submitted them |
//! | [`SendStream::finish_with`] | SEND_SHUTDOWN_COMPLETE, graceful | s | the bytes and FIN go out all the same: the call submitted them |
//! | [`SendStream::write_chunk`], [`SendStream::write_chunks`], [`SendStream::write`] | room in the window: SEND_COMPLETE, IDEAL_SEND_BUFFER_SIZE | s; `finish` was called | nothing was accepted |
//! | [`SendStream::write_all`] | as `write_chunk`, for each 64 KiB | s; `finish` was called | a beginning of unknown length was accepted |
//! | [`SendStream::poll_writable`], `Sink::poll_ready` | room in the window | s; `finish` was called | - |
//! | `AsyncWrite::poll_write` | as `write_chunk` | s; `finish` was called | - |
//! | `Sink::poll_flush`, `AsyncWrite::poll_flush` | at once: accepted bytes were handed over already | never | - |
//! | [`SendStream::acked`] | SEND_COMPLETE of everything submitted before | s | only the wait ends |
//! | [`SendStream::finished`], [`SendStream::poll_finish`], `Sink::poll_close`, `AsyncWrite::poll_shutdown`, `AsyncWrite::poll_close` | SEND_SHUTDOWN_COMPLETE with `Graceful` | s | once polled, FIN is queued |
//! | [`SendStream::poll_abort`] | SEND_SHUTDOWN_COMPLETE, SHUTDOWN_COMPLETE | the send half had ended otherwise | - |
//! | [`SendStream::stopped`] | PEER_RECEIVE_ABORTED: the code; FIN acknowledged or own `abort`: `None` | c | only the wait ends |
//! | [`SendStream::stats`] | the answer on the background thread | MsQuic's status | only the wait ends; the question was asked |
//!
//! # Receiving
//!
//! | future | `Ok` on | `Err` on | dropped half-way |
//! | --- | --- | --- | --- |
//! | [`RecvStream::read_chunk`], [`RecvStream::read`], `Stream::poll_next`, `AsyncRead::poll_read` | RECEIVE; at the end its FIN flag or PEER_SEND_SHUTDOWN | PEER_SEND_ABORTED; own `stop`; c, after everything that arrived | no byte is lost |
//! | [`RecvStream::read_exact`] | as `read`, until the buffer is full | as `read`; the stream was too short | the bytes read so far are lost |
//! | [`RecvStream::read_to_end`] | as `read`, until the end | as `read`; the stream was too long | the bytes read so far are lost |
//! | [`RecvStream::received_reset`] | PEER_SEND_ABORTED: the code; FIN or own `stop`: `None` | c | only the wait ends |
//!
//! # Connections
//!
//! | future | `Ok` on | `Err` on | dropped half-way |
//! | --- | --- | --- | --- |
//! | [`Connection::accept_uni`], [`Connection::accept_bi`], the same of [`EarlyConnection`] | PEER_STREAM_STARTED | c, after the streams that came before | no stream is lost |
//! | [`Connection::poll_accept_uni`], [`Connection::poll_accept_bi`], the same of [`EarlyConnection`] | as the futures; wakes the last task that polled | as the futures | - |
//! | [`Connection::closed`] | c | never | only the wait ends |
//! | [`Connection::drain`] | c, which comes by itself once every stream is over and every other handle is dropped | never | only the wait ends |
//! | [`Connection::path_changed`] | LOCAL_ADDRESS_CHANGED, PEER_ADDRESS_CHANGED, own `rebind` | c | only the wait ends |
//! | [`Connection::raise_limits`] | the answer on the background thread | the reason; the limits stay what they were | the limits are raised all the same |
//! | [`Connection::set_max_concurrent_uni_streams`], [`Connection::set_max_concurrent_bidi_streams`], [`Connection::set_receive_window`], [`Connection::set_dscp`] | the answer on the background thread | the reason; the limit stays what it was | the limit is set all the same |
//! | [`Connection::rebind`] | the answer on the background thread | the reason; the connection stays where it was | the move goes on |
//! | [`Connection::session_ticket`] | RESUMPTION_TICKET_RECEIVED, once the cache has the ticket | c | only the wait ends |
//! | [`Connection::stats`] | the answer on the background thread | MsQuic's status | only the wait ends; the question was asked |
//! | [`WorkerTask`] | the task's own future returned | it panicked, or was canceled | the task goes on |
//!
//! # Datagrams
//!
//! | future | `Ok` on | `Err` on | dropped half-way |
//! | --- | --- | --- | --- |
//! | [`Connection::send_datagram`] | DATAGRAM_SEND_STATE_CHANGED with a final state: acknowledged, lost for good, canceled | at once if it was not taken; c | the datagram goes out all the same |
//! | [`Connection::send_datagram_wait`] | room in the buffer: DATAGRAM_SEND_STATE_CHANGED of others | at once if it was not taken; c | nothing was sent |
//! | [`SendDatagram::progress`] | DATAGRAM_SEND_STATE_CHANGED with any state | as `send_datagram` | no step is lost |
//! | [`Connection::read_datagram`] | DATAGRAM_RECEIVED | c, after the datagrams that came before | no datagram is lost |
//! | [`Connection::poll_read_datagram`] | as the future; wakes the last task that polled | as the future | - |
//!
//! # Handshakes
//!
//! | future | `Ok` on | `Err` on | dropped half-way |
//! | --- | --- | --- | --- |
//! | [`Client::connect`], [`Client::connect_any`] | CONNECTED | c | the connection is given up |
//! | [`Client::connect_0rtt`] | the start, with a ticket for early data; otherwise CONNECTED | c | the connection is given up |
//! | [`Incoming::accept`], [`Incoming::accept_with`] | CONNECTED | c | the connection is closed |
//! | [`Incoming::accept_0rtt`], [`Incoming::accept_0rtt_with`] | RESUMED, CONNECTED | c | the connection is closed |
//! | [`EarlyConnection::connected`] | CONNECTED | c | the handle is dropped |
//! | [`EarlyConnection::accepted_0rtt`] | CONNECTED: whether early data was taken; c: false | never | only the wait ends |
//! | the future of a [verifier](crate::Trust::verify_with), which this crate polls | the application believes the peer | the application refuses, or panics | this crate drops it when the connection ends first |
//!
//! # Servers, clients and workers
//!
//! | future | `Ok` on | `Err` on | dropped half-way |
//! | --- | --- | --- | --- |
//! | [`Server::accept`] | NEW_CONNECTION; `None` after [`stop_listening`](Server::stop_listening) once no connection waits, and after `shutdown` | never | no connection is lost |
//! | [`Connections::next`](crate::Connections::next) | CONNECTED of any handshake; `None` as `Server::accept`, once no handshake is under way | never | no connection is lost; the handshakes go on with the next call |
//! | [`Server::shutdown`] | STOP_COMPLETE, and SHUTDOWN_COMPLETE of every connection | never | the server has stopped listening; only the wait ends |
//! | [`Client::wait_idle`], [`Registration::wait_idle`] | SHUTDOWN_COMPLETE of every connection; for the latter, also STOP_COMPLETE of every listener | never | only the wait ends |
//! | `QlogStream::flush` (feature `qlog`) | its writer is done with all before the call, and flushed | the writer failed | only the wait ends |

#[cfg(doc)]
use crate::{
    client::Client,
    connection::Connection,
    datagram::SendDatagram,
    driver::worker_task::WorkerTask,
    early::EarlyConnection,
    native::registration::Registration,
    recv_stream::RecvStream,
    send_stream::SendStream,
    server::{Server, incoming::Incoming},
};
