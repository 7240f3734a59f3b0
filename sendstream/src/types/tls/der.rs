//! The little of DER (ITU-T X.690) that moving keys and certificates between containers takes: read
//! an element, write an element.

use zeroize::Zeroizing;

/// One element of DER.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    /// What is between its header and its end.
    pub(crate) contents: &'a [u8],
    /// All of it, header included.
    pub(crate) whole: &'a [u8],
    pub(crate) tag: u8,
}

/// Reads elements one after the other; `None` means that the input is not the DER that was
/// expected.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(der: &'a [u8]) -> Self {
        Self(der)
    }

    /// The contents of the one element that `der` consists of.
    pub(crate) fn only(der: &'a [u8], tag: u8) -> Option<&'a [u8]> {
        let mut reader = Self(der);
        let element = reader.take(tag)?;
        reader.is_empty().then_some(element.contents)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, which must have this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    /// A reader of the contents of the next element, which must have this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(|element| Self(element.contents))
    }

    /// Steps over the next element if it has this tag.
    pub(crate) fn skip_optional(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) { self.take(tag).map(drop) } else { Some(()) }
    }

    /// The next element, whatever it is.
    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        // A tag number of 31 continues in more bytes; nothing that is read here has one.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x84 => {
                let (digits, tail) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = tail;
                digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit))
            }
            _ => return None,
        };
        let (contents, tail) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - tail.len()];
        self.0 = tail;
        Some(Element { contents, whole, tag })
    }
}

/// An element with this tag, whose contents are `parts` joined.
///
/// The memory is zeroed when dropped and never reallocated, because it may hold a private key.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let digits = length.to_be_bytes();
    let digits = &digits[length.leading_zeros() as usize / 8..];
    let mut der = Zeroizing::new(Vec::with_capacity(2 + digits.len() + length));
    der.push(tag);
    if length < 0x80 {
        der.push(length as u8);
    } else {
        der.push(0x80 | digits.len() as u8);
        der.extend_from_slice(digits);
    }
    for part in parts {
        der.extend_from_slice(part);
    }
    der
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(crate) const CONTEXT_0: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let contents = vec![7; length];
            let der = element(OCTET_STRING, &[&contents[..length / 2], &contents[length / 2..]]);
            assert_eq!(Reader::only(&der, OCTET_STRING), Some(&contents[..]));
            let mut reader = Reader::new(&der);
            assert_eq!(reader.next().unwrap().whole, &der[..]);
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn cut_off_and_indefinite_lengths_are_no_elements() {
        let der = element(SEQUENCE, &[&[0; 300]]);
        for end in 0..der.len() {
            assert!(Reader::new(&der[..end]).next().is_none(), "cut at {end}");
        }
        assert!(Reader::new(&[SEQUENCE, 0x80, 0, 0]).next().is_none());
        assert!(Reader::new(&[SEQUENCE, 0x85, 0, 0, 0, 0, 0]).next().is_none());
        assert!(Reader::new(&[0x1f, 0x81, 0x01, 0x00]).next().is_none());
    }

    #[test]
    fn another_tag_is_not_taken() {
        let der = element(SEQUENCE, &[]);
        assert!(Reader::new(&der).take(SET).is_none());
        assert!(Reader::only(&[&der[..], &[0]].concat(), SEQUENCE).is_none(), "something follows");
    }
}
