//! Where the content of one file goes: to the inbox, or to standard output.

use std::io::{self, Write as _};

use crate::{
    inbox::{StoreError, part::Part},
    protocol::message::Meta,
    reader::hash_zeros,
};

/// A file on its way in.
pub(super) enum Place<'a> {
    Inbox(Part<'a>),
    Output(Output),
}

/// What went to standard output so far. It cannot be taken back, so a sender that comes again must
/// prove that it has the same.
#[derive(Default)]
pub(super) struct Output {
    hasher: blake3::Hasher,
    position: u64,
}

impl Output {
    /// How much went out, and its digest.
    pub(super) fn so_far(&self) -> (u64, blake3::Hash) {
        (self.position, self.hasher.finalize())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        io::stdout().write_all(bytes)?;
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn hole(&mut self, mut len: u64, go_on: impl Fn() -> bool) -> Result<(), StoreError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        if self.position.checked_add(len).is_none() {
            return Err(StoreError::Io(io::ErrorKind::FileTooLarge.into()));
        }
        while len > 0 {
            if !go_on() {
                return Err(StoreError::Stopped);
            }
            let part = len.min(ZEROS.len() as u64);
            io::stdout().write_all(&ZEROS[..part as usize])?;
            hash_zeros(&mut self.hasher, part, || true);
            self.position += part;
            len -= part;
        }
        Ok(())
    }

    fn keep(self, size: u64, digest: blake3::Hash) -> Result<(), StoreError> {
        io::stdout().flush()?;
        if self.so_far() == (size, digest) { Ok(()) } else { Err(StoreError::Corrupt) }
    }
}

impl Place<'_> {
    /// How many bytes are there.
    pub(super) fn found_len(&self) -> Result<u64, StoreError> {
        match self {
            Self::Inbox(part) => part.found_len(),
            Self::Output(output) => Ok(output.position),
        }
    }

    /// Hashes what is there.
    pub(super) fn resume(&mut self, go_on: impl Fn() -> bool) -> Result<blake3::Hash, StoreError> {
        match self {
            Self::Inbox(part) => part.resume(go_on),
            Self::Output(output) => Ok(output.so_far().1),
        }
    }

    /// Forgets what is there.
    pub(super) fn start_over(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Inbox(part) => part.start_over(),
            Self::Output(_) => Err(StoreError::AnotherBeginning),
        }
    }

    /// Appends to the content.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Inbox(part) => part.write(bytes),
            Self::Output(output) => output.write(bytes),
        }
    }

    /// Appends zeros.
    pub(super) fn hole(&mut self, len: u64, go_on: impl Fn() -> bool) -> Result<(), StoreError> {
        match self {
            Self::Inbox(part) => part.hole(len, go_on),
            Self::Output(output) => output.hole(len, go_on),
        }
    }

    /// The content is complete. Returns how many directories were made for it.
    pub(super) fn keep(self, size: u64, meta: Meta, digest: blake3::Hash) -> Result<usize, StoreError> {
        match self {
            Self::Inbox(part) => part.keep(size, meta, digest),
            Self::Output(output) => output.keep(size, digest).map(|()| 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_that_are_stopped_count_as_far_as_they_went_out() {
        let mut output = Output::default();
        assert!(matches!(output.hole(1 << 20, || false), Err(StoreError::Stopped)));
        assert_eq!(output.so_far(), (0, blake3::hash(b"")));
        assert!(output.hole(u64::MAX, || false).is_err());
    }
}
