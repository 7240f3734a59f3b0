//! The control stream: frames out, frames in.

use bytes::Bytes;
use sendstream::{RecvStream, SendStream};
use tokio::sync::Mutex;

use super::{protocol::Frame, run_error::RunError};

/// The sending half, for several to speak on.
#[derive(Debug)]
pub(crate) struct Outbox(Mutex<SendStream>);

impl Outbox {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self(Mutex::new(stream))
    }

    pub(crate) async fn say(&self, frame: &Frame) -> Result<(), RunError> {
        Ok(self.0.lock().await.write_chunk(Bytes::from(frame.encode())).await?)
    }

    /// Ends it, and waits until the peer has all of it.
    pub(crate) async fn finish(&self) -> Result<(), RunError> {
        Ok(self.0.lock().await.finished().await?)
    }
}

/// The next frame. Not to be dropped in the middle.
pub(crate) async fn hear(stream: &mut RecvStream) -> Result<Frame, RunError> {
    let mut head = [0; Frame::HEAD_LEN];
    stream.read_exact(&mut head).await?;
    let (kind, len) = Frame::decode_head(head)?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    Ok(Frame::decode(kind, &body)?)
}
