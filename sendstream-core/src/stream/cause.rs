//! Why something of a stream failed, in the words of the state machines. The public errors of
//! `sendstream` are made of these.
//!
//! `C` is what ended the connection. What the machines decide on is a variant of its own; a
//! [`Status`] is only passed on.

/// What ended the send half, when it did not end with a finish. Also why a stream did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendEnd<C> {
    /// The peer sent STOP_SENDING with this code.
    Stopped(u64),
    /// This side reset the stream with this code.
    Reset(u64),
    /// It failed.
    Failed(SendFailure<C>),
}

/// Why the send half failed though nobody stopped or reset it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendFailure<C> {
    /// The connection ended.
    ConnectionLost(C),
    /// The peer's limit did not admit the stream.
    LimitReached,
    /// The transport could not start the stream.
    StartFailed(Status),
    /// The transport refused an operation on the spot.
    Refused(Status),
    /// The transport ended the stream and not the connection, and did not say why.
    Ended,
}

/// Why the send half takes nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendClosed<C> {
    /// FIN is submitted, or there is no send half.
    Finished,
    /// It ended otherwise.
    Ended(SendEnd<C>),
}

/// What ended the receive half, when it did not end with FIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecvEnd<C> {
    /// The peer reset the stream with this code.
    Reset(u64),
    /// This side stopped reading with this code.
    Stopped(u64),
    /// It failed.
    Failed(RecvFailure<C>),
}

/// Why the receive half ended before FIN came, though nobody stopped or reset it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecvFailure<C> {
    /// The connection ended.
    ConnectionLost(C),
    /// The stream never started, so nothing will ever come.
    NotStarted,
    /// The transport ended the stream and not the connection, and did not say why.
    Ended,
}

/// Why the transport refused an operation on the spot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The stream or its connection is going. The cause is known already, or will be.
    Going,
    /// The transport or the system failed.
    Failed(Status),
}

/// Why a start that the transport had taken failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailed {
    /// The connection is going. The stream's last event names the cause.
    Going,
    /// The peer's limit admits no further stream, and the start was not to wait.
    LimitReached,
    /// The transport or the system failed.
    Failed(Status),
}

/// What the transport answered: a number that only the transport understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u32);
