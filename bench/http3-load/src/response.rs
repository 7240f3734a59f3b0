//! As much of a response as must be known.

use anyhow::{Result, ensure};

/// What was seen of a response's frames.
#[derive(Debug, Default)]
pub(crate) struct Response {
    /// The beginning of a frame's header.
    header: Vec<u8>,
    /// How much of a frame is to come, and whether it is the body's.
    rest: u64,
    in_body: bool,
    is_ok: bool,
    /// Whether the next byte is the third one of the first field section.
    before_status: u8,
    body: u64,
}

impl Response {
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let taken = self.rest.min(bytes.len() as u64) as usize;
                self.see(&bytes[..taken])?;
                self.rest -= taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            let mut header = &self.header[..];
            if let (Some(kind), Some(length)) = (varint(&mut header), varint(&mut header)) {
                (self.rest, self.in_body) = (length, kind == 0);
                self.before_status = if kind == 1 && !self.is_ok { 3 } else { 0 };
                self.header.clear();
            }
        }
        Ok(())
    }

    /// Looks at bytes within a frame: `:status: 200` is entry 25 of QPACK's static table, and every
    /// stack writes it so.
    fn see(&mut self, bytes: &[u8]) -> Result<()> {
        if self.in_body {
            self.body += bytes.len() as u64;
        }
        for byte in &bytes[..bytes.len().min(self.before_status.into())] {
            self.before_status -= 1;
            if self.before_status == 0 {
                ensure!(*byte == 0xd9, "another status than 200");
                self.is_ok = true;
            }
        }
        Ok(())
    }

    /// Whether it is one with status 200, with a body of this length.
    pub(crate) fn is_whole_with(&self, length: usize) -> bool {
        self.is_ok && self.rest == 0 && self.header.is_empty() && self.body == length as u64
    }
}

/// A variable-length integer (RFC 9000 §16).
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let length = 1 << (bytes.first()? >> 6);
    let (number, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(number[1..].iter().fold(u64::from(number[0] & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_known_however_it_is_cut() {
        let bytes = [0x01, 0x03, 0, 0, 0xd9, 0x40, 0x21, 0x01, b'x', 0x00, 0x02, b'a', b'b', 0x00, 0x40, 0x01, b'c'];
        for size in 1..=bytes.len() {
            let mut response = Response::default();
            for piece in bytes.chunks(size) {
                response.take(piece).unwrap();
            }
            assert!(response.is_whole_with(3), "{response:?}");
            assert!(!response.is_whole_with(2));
        }
        assert!(Response::default().take(&[0x01, 0x03, 0, 0, 0xdb]).is_err());
    }
}
