//! Reads and hashes the files to send, ahead of the network, on a thread of its own.
//!
//! One thread takes the files in order: a disk likes that, and it reads and hashes faster than one
//! connection sends. What it has read waits in a channel of a few chunks, so memory stays bounded
//! however large the files are.

use std::{
    fs::File,
    io::{self, Read as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;
use futures::{SinkExt as _, channel::mpsc, executor::block_on};

use crate::{
    protocol::{CHUNK_LEN, FileHeader},
    walk::Outgoing,
};

/// The files' streams, piece by piece, file by file.
pub(crate) struct Reader {
    pub(crate) pieces: mpsc::Receiver<Piece>,
    unwanted: Arc<AtomicUsize>,
}

/// A piece of the stream of one file. The last one has the digest or the error.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The file's place in the list.
    pub(crate) file: usize,
    pub(crate) frame: io::Result<Frame>,
}

/// Bytes as they go onto the file's stream: first the header, then the content, last the digest.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Bytes,
    /// How many of them are the file's content.
    pub(crate) content: u64,
    /// In the last frame, the digest of all of the content. The stream ends here.
    pub(crate) digest: Option<blake3::Hash>,
}

impl Reader {
    /// Starts reading. The thread ends with the list, or when the reader is dropped.
    pub(crate) fn spawn(files: Arc<[Outgoing]>) -> io::Result<Self> {
        let (mut sink, pieces) = mpsc::channel(CHUNKS_AHEAD);
        let unwanted = Arc::new(AtomicUsize::new(NONE));
        let reader = Self { pieces, unwanted: Arc::clone(&unwanted) };
        let work = move || {
            for (index, file) in files.iter().enumerate() {
                let mut emit = |frame| {
                    let piece = Piece { file: index, frame };
                    let wanted = unwanted.load(Ordering::Relaxed) != index;
                    if wanted { block_on(sink.send(piece)).map_err(|_| Stop::All) } else { Err(Stop::File) }
                };
                let stop = match read(file, &mut |frame| emit(Ok(frame))) {
                    Ok(()) => Ok(()),
                    Err(Interrupted::Stop(stop)) => Err(stop),
                    Err(Interrupted::Io(error)) => emit(Err(error)),
                };
                if let Err(Stop::All) = stop {
                    return;
                }
            }
        };
        thread::Builder::new().name("reader".to_owned()).spawn(work)?;
        Ok(reader)
    }

    /// Goes on with the next file. Pieces of the unwanted one that were read already still come.
    pub(crate) fn skip(&self, file: usize) {
        self.unwanted.store(file, Ordering::Relaxed);
    }
}

/// Why the reader stops before the end of a file.
enum Stop {
    /// The receiver does not want this one.
    File,
    /// Nobody takes the pieces any more.
    All,
}

enum Interrupted {
    Stop(Stop),
    Io(io::Error),
}

/// Cuts one file's stream into frames of [`CHUNK_LEN`] bytes; a small file is a single frame.
fn read(file: &Outgoing, emit: &mut impl FnMut(Frame) -> Result<(), Stop>) -> Result<(), Interrupted> {
    let mut source = File::open(&file.path)?;
    let size = source.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    let mut buffer = Vec::with_capacity(CHUNK_LEN.min(usize::try_from(size).unwrap_or(CHUNK_LEN)) + SPARE);
    FileHeader { name: file.name.clone(), size }.encode(&mut buffer);
    let mut left = size;
    loop {
        let header_len = buffer.len();
        let room = CHUNK_LEN.saturating_sub(header_len) as u64;
        let content = (&mut source).take(left.min(room)).read_to_end(&mut buffer)? as u64;
        hasher.update(&buffer[header_len..]);
        left -= content;
        if left == 0 {
            let digest = hasher.finalize();
            buffer.extend_from_slice(digest.as_bytes());
            return emit(Frame { bytes: buffer.into(), content, digest: Some(digest) }).map_err(Interrupted::Stop);
        }
        if content < room {
            return Err(Interrupted::Io(io::Error::other("it became shorter while it was being sent")));
        }
        emit(Frame { bytes: buffer.into(), content, digest: None }).map_err(Interrupted::Stop)?;
        buffer = Vec::with_capacity(CHUNK_LEN + SPARE);
    }
}

impl From<io::Error> for Interrupted {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How many chunks wait between the disk and the network, besides the one in each hand.
const CHUNKS_AHEAD: usize = 6;
/// Room for a digest, and for the usual header of a small file, so that the buffer need not grow.
const SPARE: usize = 256;
const NONE: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;
    use crate::protocol::{FileDecoder, Part};

    fn outgoing(dir: &tempfile::TempDir, name: &str, content: &[u8]) -> Outgoing {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        Outgoing { path, name: name.parse().unwrap(), size: content.len() as u64 }
    }

    #[test]
    fn the_frames_of_a_file_are_its_stream() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, CHUNK_LEN - 100, CHUNK_LEN - 12, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN + 17] {
            let content: Vec<u8> = (0..len).map(|i| ((i * 31) >> 5) as u8).collect();
            let reader = Reader::spawn([outgoing(&dir, "x", &content)].into()).unwrap();
            let frames: Vec<Frame> = block_on(reader.pieces.map(|piece| piece.frame.unwrap()).collect());
            assert_eq!(frames.iter().map(|frame| frame.content).sum::<u64>(), len as u64);
            let (last, others) = frames.split_last().unwrap();
            assert_eq!(last.digest, Some(blake3::hash(&content)));
            assert!(others.iter().all(|frame| frame.digest.is_none() && frame.bytes.len() == CHUNK_LEN));

            let (mut decoder, mut decoded) = (FileDecoder::new(), Vec::new());
            for frame in &frames {
                let mut input = &frame.bytes[..];
                while let Some(part) = decoder.next(&mut input).unwrap() {
                    match part {
                        Part::Header(header) => assert_eq!((header.name.as_str(), header.size), ("x", len as u64)),
                        Part::Content(bytes) => decoded.extend_from_slice(bytes),
                        Part::Digest(digest) => assert_eq!(digest, blake3::hash(&content)),
                    }
                }
            }
            decoder.end().unwrap();
            assert!(decoded == content, "{len}");
        }
    }

    #[test]
    fn an_unreadable_file_does_not_stop_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let gone = outgoing(&dir, "gone", b"x");
        std::fs::remove_file(&gone.path).unwrap();
        let reader = Reader::spawn([gone, outgoing(&dir, "there", b"y")].into()).unwrap();
        let pieces: Vec<Piece> = block_on(reader.pieces.collect());
        assert!(matches!(&pieces[..], [Piece { file: 0, frame: Err(_) }, Piece { file: 1, frame: Ok(_) }]));
    }

    #[test]
    fn a_skipped_file_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let large = outgoing(&dir, "large", &vec![0; 50 * CHUNK_LEN]);
        let mut reader = Reader::spawn([large, outgoing(&dir, "next", b"y")].into()).unwrap();
        assert_eq!(block_on(reader.pieces.next()).unwrap().file, 0);
        reader.skip(0);
        let pieces: Vec<Piece> = block_on(reader.pieces.collect());
        assert!(pieces.len() < 15, "{} pieces still came", pieces.len());
        assert!(pieces[..pieces.len() - 1].iter().all(|piece| piece.file == 0));
        assert_eq!(pieces.last().unwrap().file, 1);
    }
}
