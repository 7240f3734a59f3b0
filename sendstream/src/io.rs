//! The traits of the ecosystem for streams. This file decides nothing: each method calls one of the
//! streams' own.
//!
//! | trait | feature | on |
//! | --- | --- | --- |
//! | `futures_sink::Sink<Bytes>` | always | `SendStream` |
//! | `futures_core::Stream<Item = Result<Bytes, ReadError>>` | always | `RecvStream` |
//! | `tokio::io::AsyncWrite`, `tokio::io::AsyncRead` | `tokio` | `SendStream`, `RecvStream` |
//! | `futures_io::AsyncWrite`, `futures_io::AsyncRead` | `futures-io` | `SendStream`, `RecvStream` |
//! | all four of these | as above | `BiStream` |

#[cfg(any(feature = "tokio", feature = "futures-io"))]
use std::task::ready;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;

#[cfg(any(feature = "tokio", feature = "futures-io"))]
use crate::bi_stream::BiStream;
use crate::{
    recv_stream::{ReadError, RecvStream},
    send_stream::{SendStream, WriteError},
};

/// Items are accepted as [`SendStream::write_chunk`] accepts them. `poll_flush` is ready at once,
/// because everything accepted is with the transport already. `poll_close` is
/// [`SendStream::poll_finish`]: ready once the peer acknowledged FIN.
impl futures_sink::Sink<Bytes> for SendStream {
    type Error = WriteError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.get_mut().poll_writable(cx)
    }

    fn start_send(self: Pin<&mut Self>, item: Bytes) -> Result<(), WriteError> {
        self.get_mut().submit(item)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.get_mut().poll_finish(cx)
    }
}

/// Items are what [`RecvStream::read_chunk`] gives, without a copy. After an error the stream has
/// ended.
impl futures_core::Stream for RecvStream {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_read_chunk(cx).map(|chunk| chunk.map(|chunk| chunk.map(Bytes::from)).transpose())
    }
}

/// Implements the writing and reading traits of one ecosystem, which differ in names only.
macro_rules! async_io {
    ($feature:literal, $io:ident, $close:ident) => {
        /// Written bytes are copied and accepted as [`SendStream::write_chunk`] accepts them, at
        /// most 64 KiB at a time. Flushing is ready at once. Accepted bytes are with the transport
        /// already, which needs no push. They are not acknowledged yet. Shutting down is
        /// [`SendStream::poll_finish`]: ready once the peer acknowledged FIN.
        #[cfg(feature = $feature)]
        impl $io::AsyncWrite for SendStream {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
                self.get_mut().poll_copy(cx, &[std::io::IoSlice::new(buf)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> Poll<std::io::Result<usize>> {
                self.get_mut().poll_copy(cx, bufs)
            }

            async_io!(@vectored $io);

            fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn $close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
                self.get_mut().poll_finish(cx).map_err(Into::into)
            }
        }

        /// Like its halves.
        #[cfg(feature = $feature)]
        impl $io::AsyncWrite for BiStream {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
                $io::AsyncWrite::poll_write(Pin::new(&mut self.get_mut().send), cx, buf)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> Poll<std::io::Result<usize>> {
                $io::AsyncWrite::poll_write_vectored(Pin::new(&mut self.get_mut().send), cx, bufs)
            }

            async_io!(@vectored $io);

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
                $io::AsyncWrite::poll_flush(Pin::new(&mut self.get_mut().send), cx)
            }

            fn $close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
                $io::AsyncWrite::$close(Pin::new(&mut self.get_mut().send), cx)
            }
        }
    };
    (@vectored tokio_io) => {
        fn is_write_vectored(&self) -> bool {
            true
        }
    };
    (@vectored futures_io) => {};
}

#[cfg(feature = "tokio")]
use tokio::io as tokio_io;

async_io!("tokio", tokio_io, poll_shutdown);
async_io!("futures-io", futures_io, poll_close);

/// Like [`RecvStream::read`].
#[cfg(feature = "tokio")]
impl tokio::io::AsyncRead for RecvStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let limit = buf.remaining();
        if limit > 0
            && let Some(first) = ready!(self.instance().poll_read(limit, cx).map_err(ReadError::from))?
        {
            buf.put_slice(&first);
            drop(first);
            while let Some(more) = self.instance().try_read(buf.remaining()) {
                buf.put_slice(&more);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Like [`RecvStream::read`].
#[cfg(feature = "futures-io")]
impl futures_io::AsyncRead for RecvStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        let read = ready!(Self::poll_read(self.get_mut(), cx, buf))?;
        Poll::Ready(Ok(read.unwrap_or(0)))
    }
}

/// Like its halves.
#[cfg(feature = "tokio")]
impl tokio::io::AsyncRead for BiStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().recv).poll_read(cx, buf)
    }
}

/// Like its halves.
#[cfg(feature = "futures-io")]
impl futures_io::AsyncRead for BiStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        futures_io::AsyncRead::poll_read(Pin::new(&mut self.get_mut().recv), cx, buf)
    }
}

#[cfg(any(feature = "tokio", feature = "futures-io"))]
impl SendStream {
    /// Copies what fits into one chunk and submits it, once there is room in the window.
    fn poll_copy(&mut self, cx: &mut Context<'_>, bufs: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        ready!(self.poll_writable(cx))?;
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut chunk = Vec::with_capacity(total.min(Self::COPIED_CHUNK));
        for buf in bufs {
            let room = chunk.capacity() - chunk.len();
            chunk.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        let accepted = chunk.len();
        self.submit(Bytes::from(chunk))?;
        Poll::Ready(Ok(accepted))
    }
}
