//! [`BiStream`]: both halves of a bidirectional stream in one value.

use crate::{recv_stream::RecvStream, send_stream::SendStream};

/// Both halves of a bidirectional stream, for code that wants one value to read and write: with the
/// features `tokio` and `futures-io` it is their `AsyncRead` and `AsyncWrite`, as the halves are.
/// Shutting it down finishes the half that sends, and leaves the other.
///
/// ```
/// # use sendstream::{BiStream, Connection};
/// # async fn example(connection: Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let mut stream = BiStream::from(connection.open_bi()?);
/// stream.send.finish_with("a question").await?;
/// let answer = stream.recv.read_to_end(1024).await?;
/// let (send, recv) = stream.into();
/// # let _ = (answer, send, recv);
/// # Ok(())
/// # }
/// ```
///
/// Dropping it is dropping both halves.
#[derive(Debug)]
pub struct BiStream {
    /// The half that sends.
    pub send: SendStream,
    /// The half that receives.
    pub recv: RecvStream,
}

impl From<(SendStream, RecvStream)> for BiStream {
    fn from((send, recv): (SendStream, RecvStream)) -> Self {
        Self { send, recv }
    }
}

impl From<BiStream> for (SendStream, RecvStream) {
    fn from(BiStream { send, recv }: BiStream) -> Self {
        (send, recv)
    }
}
