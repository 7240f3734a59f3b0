//! A long stream in pieces: both ends have the digest of what they sent and read.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ring::digest::{Context, Digest, SHA256};
use sendstream::{RecvStream, SendStream};

use super::pattern;

const PIECE: usize = 64 << 10;

/// Sends `length` bytes, each piece another one, and waits until all of them are acknowledged.
pub(crate) async fn send_pieces(mut stream: SendStream, length: usize) -> Digest {
    let mut digest = Context::new(&SHA256);
    for number in 0..length / PIECE {
        let mut piece = pattern(PIECE);
        piece[0] = number as u8;
        digest.update(&piece);
        stream.write_chunk(Bytes::from(piece)).await.unwrap();
    }
    stream.finished().await.unwrap();
    digest.finish()
}

/// Reads the stream to its end. `on_piece` hears each time how much has come. Returns the longest
/// time between two pieces as well.
pub(crate) async fn read_pieces(mut stream: RecvStream, mut on_piece: impl FnMut(usize)) -> (Digest, Duration) {
    let (mut digest, mut length) = (Context::new(&SHA256), 0);
    let (mut pause, mut last) = (Duration::ZERO, Instant::now());
    while let Some(chunk) = stream.read_chunk().await.unwrap() {
        length += chunk.len();
        digest.update(&chunk);
        pause = pause.max(last.elapsed());
        on_piece(length);
        last = Instant::now();
    }
    (digest.finish(), pause)
}
