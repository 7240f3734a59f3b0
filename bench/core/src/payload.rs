//! What is sent: a sequence of bytes in which each position can be told from its neighbours, and
//! the receiver's check.
//!
//! Senders send slices of one static buffer, so that making the payload costs nothing. Receivers
//! compare what they got with the same buffer, one `memcmp` for each piece. That is real, since
//! lost, doubled or moved bytes do not pass, and costs the same for every stack.

use std::sync::LazyLock;

use anyhow::{Result, ensure};
use bytes::Bytes;

use crate::plan::TRANSFER;

/// After how many bytes the sequence repeats. A prime: no packet, chunk or window is a multiple of
/// it.
const PERIOD: u64 = 65_537;

/// The longest slice that is compared at once.
const MAX_SLICE: usize = 1 << 20;

/// The longest slice that is given out.
const MAX_CHUNK: usize = TRANSFER as usize;

/// How long a message is, with its number in the first eight bytes.
pub const MESSAGE: usize = 1024;

/// How long a ping is.
pub const PING: usize = 64;

static SEQUENCE: LazyLock<&'static [u8]> = LazyLock::new(|| {
    // xorshift64*, which passes for noise.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let period = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    });
    repeated(&period.take(PERIOD as usize).collect::<Vec<u8>>(), MAX_SLICE)
});

/// The same for chunks that are longer than what most workloads need, so that those do not have it
/// in memory.
static LONG_SEQUENCE: LazyLock<&'static [u8]> = LazyLock::new(|| repeated(&SEQUENCE[..PERIOD as usize], MAX_CHUNK));

/// Enough of the sequence for slices of `longest` bytes at each position.
fn repeated(period: &[u8], longest: usize) -> &'static [u8] {
    period.iter().copied().cycle().take(period.len() + longest).collect::<Vec<u8>>().leak()
}

/// The `length` bytes at `position`; at most 4 MiB.
pub fn slice(position: u64, length: usize) -> &'static [u8] {
    let start = (position % PERIOD) as usize;
    let sequence = if length <= MAX_SLICE { &SEQUENCE } else { &LONG_SEQUENCE };
    &sequence[start..start + length]
}

/// [`slice`] as [`Bytes`], without a copy.
pub fn chunk(position: u64, length: usize) -> Bytes {
    Bytes::from_static(slice(position, length))
}

/// Checks the bytes of one stream, in order.
#[derive(Debug)]
pub struct Check {
    position: u64,
    end: u64,
}

impl Check {
    /// For a stream that carries `length` bytes.
    pub fn new(length: u64) -> Self {
        Self { position: 0, end: length }
    }

    /// Takes the next piece.
    pub fn take(&mut self, mut data: &[u8]) -> Result<()> {
        ensure!(data.len() as u64 <= self.end - self.position, "more bytes than were sent");
        while !data.is_empty() {
            let (part, rest) = data.split_at(data.len().min(MAX_SLICE));
            ensure!(part == slice(self.position, part.len()), "wrong bytes at {}", self.position);
            self.position += part.len() as u64;
            data = rest;
        }
        Ok(())
    }

    /// The stream has ended.
    pub fn finish(&self) -> Result<()> {
        ensure!(self.position == self.end, "the stream ended at {} of {}", self.position, self.end);
        Ok(())
    }
}

/// Writes the message of that number.
pub fn fill_message(number: u64, message: &mut [u8; MESSAGE]) {
    message[..8].copy_from_slice(&number.to_le_bytes());
    message[8..].copy_from_slice(slice(number * MESSAGE as u64, MESSAGE - 8));
}

/// The message of that number, in memory of its own.
pub fn message(number: u64) -> Bytes {
    let mut message = Box::new([0; MESSAGE]);
    fill_message(number, &mut message);
    Bytes::from(message as Box<[u8]>)
}

/// Checks one message, which may come in pieces.
#[derive(Debug, Default)]
pub struct MessageCheck {
    number: [u8; 8],
    position: usize,
}

impl MessageCheck {
    /// Takes the next piece.
    pub fn take(&mut self, data: &[u8]) -> Result<()> {
        ensure!(data.len() <= MESSAGE - self.position, "a message with more than {MESSAGE} bytes");
        let head = data.len().min(8usize.saturating_sub(self.position));
        self.number[self.position.min(8)..][..head].copy_from_slice(&data[..head]);
        self.position += head;
        let body = &data[head..];
        if !body.is_empty() {
            let number = u64::from_le_bytes(self.number);
            let expected = &slice(number.wrapping_mul(MESSAGE as u64), MESSAGE - 8)[self.position - 8..][..body.len()];
            ensure!(body == expected, "wrong bytes in message {number}");
            self.position += body.len();
        }
        Ok(())
    }

    /// The message has ended; gives its number.
    pub fn finish(&self) -> Result<u64> {
        ensure!(self.position == MESSAGE, "a message of {} bytes", self.position);
        Ok(u64::from_le_bytes(self.number))
    }
}

/// Fails unless the numbers of `count` messages add up to what those from 0 do.
pub fn check_sum(count: u64, sum: u64) -> Result<()> {
    ensure!(sum == count * (count - 1) / 2, "a message is missing, or came twice");
    Ok(())
}

/// The ping of that number.
pub fn ping(number: u64) -> &'static [u8] {
    slice(number, PING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_pass_in_order() {
        let mut check = Check::new(3_000_000);
        let mut position = 0;
        for length in [1, 1199, 65_537, 1 << 20, 1 << 20] {
            check.take(slice(position, length)).unwrap();
            position += length as u64;
        }
        assert!(check.finish().is_err());
        check.take(slice(position, (3_000_000 - position) as usize)).unwrap();
        check.finish().unwrap();
    }

    #[test]
    fn moved_bytes_do_not_pass() {
        for moved in [1, 2, 1200, 4096, 65_536, 1 << 20] {
            assert!(Check::new(1 << 30).take(slice(moved, 64)).is_err(), "{moved}");
        }
    }

    #[test]
    fn a_long_chunk_passes() {
        let mut check = Check::new(7 + MAX_CHUNK as u64);
        check.take(slice(0, 7)).unwrap();
        check.take(slice(7, MAX_CHUNK)).unwrap();
        check.finish().unwrap();
    }

    #[test]
    fn more_than_was_sent_does_not_pass() {
        assert!(Check::new(10).take(slice(0, 11)).is_err());
    }

    #[test]
    fn a_message_passes_in_pieces_and_tells_its_number() {
        let message = message(123_456_789);
        for piece in [1, 3, 8, 11, 1024] {
            let mut check = MessageCheck::default();
            message.chunks(piece).for_each(|piece| check.take(piece).unwrap());
            assert_eq!(check.finish().unwrap(), 123_456_789);
        }
    }

    #[test]
    fn a_damaged_or_short_message_does_not_pass() {
        let mut damaged = message(7).to_vec();
        damaged[1000] ^= 1;
        assert!(MessageCheck::default().take(&damaged).is_err());
        let mut check = MessageCheck::default();
        check.take(&message(7)[..1023]).unwrap();
        assert!(check.finish().is_err());
    }
}
