//! Datagrams (RFC 9221): [`SendDatagram`], and why a datagram is not taken.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll},
};

use sendstream_core::{
    datagrams::{DatagramFate, DatagramId, Refused},
    wait::wait_for,
};

use crate::{
    driver::connection::{datagrams::NotTaken, hold::User, waits::DatagramRoom},
    types::{
        error::{ConnectionError, NativeError},
        payload::Payload,
    },
};

/// A datagram on its way, from [`Connection::send_datagram`](crate::Connection::send_datagram); as
/// a future, its fate.
///
/// The future resolves when the fate is final: [`Acknowledged`](DatagramFate::Acknowledged),
/// [`Lost`](DatagramFate::Lost) or [`Canceled`](DatagramFate::Canceled). A datagram is never sent
/// twice.
///
/// MsQuic first waits two probe timeouts (RFC 9002 §6.2) for a late acknowledgement. It calls the
/// datagram lost for good when a later packet is acknowledged after that. On a silent connection
/// that may take until the connection ends. To act on the first suspicion, use
/// [`progress`](Self::progress). If the acknowledgement comes after all, the fate is
/// `Acknowledged`, and [`was_suspected`](Self::was_suspected) stays true.
///
/// It counts as a handle of the connection, as a clone would: the connection stays open while it is
/// held.
///
/// # Errors
///
/// [`SendDatagramError`]: the datagram was not taken ([`refusal`](Self::refusal) says so without
/// waiting), or the connection ended before the fate was final.
///
/// # Cancel safety
///
/// Dropping it, polled or not, changes nothing for the datagram, unless it is the last handle of
/// the connection.
#[must_use = "await it to learn the datagram's fate, or drop it on purpose: it is on its way"]
pub struct SendDatagram {
    connection: User,
    /// The datagram's name, or why it was not taken.
    submitted: Result<DatagramId, SendDatagramError>,
    /// What [`Self::progress`] returned last.
    reported: Option<DatagramFate>,
}

impl SendDatagram {
    pub(crate) fn submit(connection: User, payload: Payload) -> Self {
        let submitted = connection.send_datagram(payload).map_err(SendDatagramError::from);
        Self { connection, submitted, reported: None }
    }

    /// Submits it once there is room.
    pub(crate) async fn submit_when_room(connection: User, payload: Payload) -> Result<Self, SendDatagramError> {
        let room = DatagramRoom { inner: connection.inner(), size: payload.len() };
        let id = wait_for(room).await.map_err(NotTaken::Refused)?;
        let submitted = Ok(connection.submit_datagram(id, payload)?);
        Ok(Self { connection, submitted, reported: None })
    }

    /// Why the datagram was not taken; `None` when it was.
    pub fn refusal(&self) -> Option<&SendDatagramError> {
        self.submitted.as_ref().err()
    }

    /// The datagram's last known step, also after the connection ended. `None` while it waits to be
    /// sent, and if it was not taken.
    pub fn fate(&self) -> Option<DatagramFate> {
        self.known().0
    }

    /// Whether the datagram was ever suspected to be lost (`QUIC_DATAGRAM_SEND_LOST_SUSPECT`).
    pub fn was_suspected(&self) -> bool {
        self.known().1
    }

    /// Resolves with the next step that it has not returned yet: [`Sent`](DatagramFate::Sent),
    /// perhaps [`Suspected`](DatagramFate::Suspected), then a final fate. It returns the final fate
    /// again on each later call. It skips a step that a later one has overtaken.
    ///
    /// Waiting for the first step before the next datagram is sent keeps at most one queued: a
    /// datagram that congestion control (RFC 9002 §7) holds back waits in MsQuic.
    ///
    /// # Errors
    ///
    /// As the future itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no step.
    pub async fn progress(&mut self) -> Result<DatagramFate, SendDatagramError> {
        let id = self.submitted.clone()?;
        let step = poll_fn(|cx| self.connection.inner().datagrams().poll_progress(id, self.reported, cx)).await;
        let step = step.map_err(SendDatagramError::ConnectionLost)?;
        self.reported = Some(step);
        Ok(step)
    }

    fn known(&self) -> (Option<DatagramFate>, bool) {
        self.submitted.as_ref().map_or((None, false), |id| self.connection.inner().datagrams().fate(*id))
    }
}

impl Future for SendDatagram {
    type Output = Result<DatagramFate, SendDatagramError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.submitted {
            Ok(id) => {
                let fate = self.connection.inner().datagrams().poll_fate(*id, cx);
                fate.map_err(SendDatagramError::ConnectionLost)
            }
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl fmt::Debug for SendDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendDatagram").field("fate", &self.fate()).field("refusal", &self.refusal()).finish()
    }
}

impl Drop for SendDatagram {
    fn drop(&mut self) {
        if let Ok(id) = self.submitted {
            let waker = self.connection.inner().datagrams().forget(id);
            // Dropping it may run foreign code, and the lock is free by now.
            drop(waker);
        }
    }
}

/// Why a datagram was not taken, or its fate will never be known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendDatagramError {
    /// It is larger than the path, or the peer, takes now. Nothing was sent. The caller's doing:
    /// look at [`Connection::max_datagram_size`](crate::Connection::max_datagram_size), or send it
    /// on a stream.
    #[error("the datagram is too large: at most {max} bytes can be sent now")]
    TooLarge {
        /// The largest payload that can be sent now, in bytes.
        max: usize,
    },
    /// The peer does not take datagrams. Nothing was sent.
    #[error("the peer does not take datagrams")]
    UnsupportedByPeer,
    /// The connection ended, before the datagram was taken or before its fate was known.
    #[error("the connection is lost: {0}")]
    ConnectionLost(#[source] ConnectionError),
    /// MsQuic or the system failed: out of memory, mostly. Nothing was sent.
    #[error("MsQuic did not take it: {0}")]
    Native(#[source] NativeError),
}

impl From<NotTaken> for SendDatagramError {
    fn from(refusal: NotTaken) -> Self {
        match refusal {
            NotTaken::Refused(Refused::TooLarge { max }) => Self::TooLarge { max },
            NotTaken::Refused(Refused::UnsupportedByPeer) => Self::UnsupportedByPeer,
            NotTaken::Refused(Refused::Lost(cause)) => Self::ConnectionLost(cause),
            NotTaken::Native(status) => Self::Native(status),
        }
    }
}

impl From<SendDatagramError> for io::Error {
    fn from(error: SendDatagramError) -> Self {
        let kind = match error {
            SendDatagramError::ConnectionLost(error) => return error.into(),
            SendDatagramError::Native(error) => return error.into(),
            SendDatagramError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            SendDatagramError::UnsupportedByPeer => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
    }
}
