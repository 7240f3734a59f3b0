//! [`Slices`]: how the bytes of one send become operations.

use crate::stream::state::WINDOW_PARTS;

/// The operations that one send is cut into.
///
/// MsQuic completes an operation when the peer has acknowledged all of it, and the peer may keep
/// its last acknowledgement back until more arrives. A writer that waited for that one would have
/// more to send, and nothing under way. So a send that is large beside the window is cut: the
/// writer goes on while the last slices are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slices {
    bytes: u64,
    /// How long each of the last [`Self::MOST`] is, but for the very last.
    len: u64,
}

impl Slices {
    /// The most bytes that one operation takes.
    pub const MAX_BYTES: u64 = u32::MAX as u64;

    /// No slice is shorter, but for the last: every path carries packets of this length (RFC 9000
    /// §14).
    const MIN_BYTES: u64 = 1200;

    /// How many are cut at the end of a send. What is before them goes in as few operations as can
    /// be: a writer does not go on before that is acknowledged. The window may still grow to eight
    /// times of what it is.
    const MOST: u64 = 8 * WINDOW_PARTS;

    /// Cuts `bytes` for a stream with this window. Up to half of the window is one slice, because
    /// other sends can be under way beside it.
    #[inline]
    pub fn new(bytes: u64, window: u64) -> Self {
        let len = if bytes <= window / 2 { bytes } else { window / WINDOW_PARTS };
        Self { bytes, len: len.clamp(Self::MIN_BYTES, Self::MAX_BYTES) }
    }

    /// How many there are: none of no bytes.
    #[inline]
    pub fn count(self) -> u64 {
        if self.bytes <= self.len {
            return u64::from(self.bytes > 0);
        }
        let first = self.first();
        first.div_ceil(Self::MAX_BYTES) + (self.bytes - first).div_ceil(self.len)
    }

    /// How long each is, in order.
    pub fn lengths(self) -> impl Iterator<Item = u64> {
        let (mut first, mut rest) = (self.first(), self.bytes - self.first());
        std::iter::from_fn(move || {
            let (part, limit) = if first > 0 { (&mut first, Self::MAX_BYTES) } else { (&mut rest, self.len) };
            let length = (*part).min(limit);
            *part -= length;
            (length > 0).then_some(length)
        })
    }

    /// The bytes before the last [`Self::MOST`] slices.
    fn first(self) -> u64 {
        self.bytes.saturating_sub(Self::MOST * self.len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1024;

    fn lengths(bytes: u64, window: u64) -> Vec<u64> {
        Slices::new(bytes, window).lengths().collect()
    }

    #[test]
    fn up_to_half_of_the_window_is_one_slice() {
        assert_eq!(lengths(0, 128 * KIB), []);
        assert_eq!(lengths(1, 128 * KIB), [1]);
        assert_eq!(lengths(64 * KIB, 128 * KIB), [64 * KIB]);
        assert_eq!(lengths(64 * KIB + 1, 128 * KIB), [16 * KIB, 16 * KIB, 16 * KIB, 16 * KIB, 1]);
        assert_eq!(lengths(100, 1), [100], "less than a packet is not cut");
        assert_eq!(lengths(3000, 1), [1200, 1200, 600]);
    }

    #[test]
    fn only_the_end_of_a_long_send_is_cut_finely() {
        let long = lengths(100 << 30, 128 * KIB);
        let (first, last) = long.split_at(long.len() - 64);
        assert!(first.len() == 25 && first[..24].iter().all(|length| *length == Slices::MAX_BYTES));
        assert!(last.iter().all(|length| *length == 16 * KIB));
    }

    proptest! {
        #[test]
        fn slices_make_up_the_bytes_and_a_writer_is_woken_before_the_last(
            bytes in prop_oneof![0..10_000_000u64, 0..1u64 << 40],
            window in prop_oneof![1..10_000_000u64, 1..1u64 << 40],
        ) {
            let lengths = lengths(bytes, window);
            prop_assert_eq!(lengths.iter().sum::<u64>(), bytes);
            prop_assert_eq!(lengths.len() as u64, Slices::new(bytes, window).count());
            prop_assert!(lengths.iter().all(|length| (1..=Slices::MAX_BYTES).contains(length)));
            if let Some(last) = lengths.last() {
                prop_assert!(*last <= (window / 2).max(Slices::MIN_BYTES));
            }
        }
    }
}
