//! Why a run broke off, as both ends see it.

use std::borrow::Cow;

use sendstream::{
    Connection, ConnectionError, OpenError, ReadError, ReadExactError, SendDatagramError, StartError, WriteError,
};

use super::{protocol::ProtocolError, transport::PATIENCE};
use crate::{error::chain, protocol::Code};

/// Why a run broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The connection is no more.
    #[error(transparent)]
    Lost(ConnectionError),
    /// The peer did what it may not.
    #[error("{0}")]
    Breach(Cow<'static, str>),
    /// Nothing came or went for as long as this end is patient.
    #[error("nothing moved for {} seconds", PATIENCE.as_secs())]
    Stalled,
    /// It should have been over by now.
    #[error("the run took longer than it may")]
    Late,
    /// This end cannot do it.
    #[error("{0}")]
    Unable(String),
}

impl RunError {
    pub(crate) fn breach(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Breach(what.into())
    }

    /// Tells the peer why it is over, unless the connection is gone anyway.
    pub(crate) fn close(&self, connection: &Connection) {
        let code = match self {
            Self::Lost(_) => return,
            Self::Breach(_) => Code::BadMessage,
            Self::Stalled | Self::Late => Code::TooSlow,
            Self::Unable(_) => Code::Refused,
        };
        close(connection, code, &self.to_string());
    }
}

/// Ends a connection, with a reason for people at the other end.
pub(crate) fn close(connection: &Connection, code: Code, reason: &str) {
    connection.close(code.wire(), reason).expect("every code is small");
}

impl From<ProtocolError> for RunError {
    fn from(error: ProtocolError) -> Self {
        Self::breach(error.to_string())
    }
}

impl From<ConnectionError> for RunError {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error)
    }
}

impl From<OpenError> for RunError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::ConnectionLost(error) => Self::Lost(error),
            other => Self::Unable(chain(&other)),
        }
    }
}

impl From<StartError> for RunError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::ConnectionLost(error) => Self::Lost(error),
            StartError::Stopped(code) => stopped(code),
            other => Self::Unable(chain(&other)),
        }
    }
}

impl From<WriteError> for RunError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) | WriteError::Start(StartError::ConnectionLost(error)) => {
                Self::Lost(error)
            }
            WriteError::Stopped(code) => stopped(code),
            other => Self::Unable(chain(&other)),
        }
    }
}

impl From<ReadError> for RunError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::Lost(error),
            ReadError::Reset(code) => Self::breach(format!("it took a stream back (code {code})")),
            other => Self::Unable(chain(&other)),
        }
    }
}

impl From<ReadExactError> for RunError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::Read(error) => error.into(),
            // There is nothing else that keeps a buffer from being filled.
            _ => Self::breach("it ended the conversation in the middle"),
        }
    }
}

impl From<SendDatagramError> for RunError {
    fn from(error: SendDatagramError) -> Self {
        match error {
            SendDatagramError::ConnectionLost(error) => Self::Lost(error),
            other => Self::Unable(chain(&other)),
        }
    }
}

fn stopped(code: u64) -> RunError {
    RunError::breach(format!("it wants no more of a stream (code {code})"))
}
