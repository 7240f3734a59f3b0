//! Which names a field section has, and in which order (RFC 9114 §4.3).
//!
//! h3 0.0.8 takes pseudo-headers wherever they stand, the last one of several, and also those that
//! belong to the other side. Where proxies and servers differ about that, requests are smuggled.
//!
//! A section that cannot be read here is refused: behind the place where reading stops h3 could find
//! what was not looked at.

use h3::error::Code;

use crate::frames::{Violation, connection, request};

/// What a field section belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Request,
    Response,
    Trailers,
}

/// The field lines behind a section's prefix (RFC 9204 §4.5.1). No dynamic table is allowed, so the
/// prefix says that none is needed, for which h3 0.0.8 does not look.
pub(crate) fn lines(section: &[u8]) -> Result<&[u8], Violation> {
    let mut rest = Lines(section);
    let required_insert_count = rest.number(8);
    let is_negative = rest.0.first().is_some_and(|base| base & 0x80 != 0);
    match (required_insert_count, rest.number(7)) {
        (Some(0), Some(_)) if !is_negative => Ok(rest.0),
        _ => Err(unreadable()),
    }
}

/// Looks at the field lines behind a section's prefix.
pub(crate) fn check(section: Section, lines: &[u8]) -> Result<(), Violation> {
    let allowed = match section {
        Section::Request => METHOD | SCHEME | AUTHORITY | PATH | PROTOCOL,
        Section::Response => STATUS,
        Section::Trailers => 0,
    };
    let malformed = |reason| Err(request(Code::H3_MESSAGE_ERROR, reason));
    let (mut lines, mut seen, mut is_behind) = (Lines(lines), 0, false);
    for _ in 0..MAX_LINES {
        if lines.0.is_empty() {
            return Ok(());
        }
        match lines.next_name().ok_or_else(unreadable)? {
            Name::Field => is_behind = true,
            Name::Pseudo(_) if is_behind => return malformed("a pseudo-header behind a field"),
            Name::Pseudo(which) if which & allowed == 0 => {
                return malformed("a pseudo-header that does not belong there");
            }
            Name::Pseudo(which) if which & seen != 0 => return malformed("a pseudo-header twice"),
            Name::Pseudo(which) => seen |= which,
        }
    }
    if lines.0.is_empty() { Ok(()) } else { Err(request(Code::H3_EXCESSIVE_LOAD, "too many fields")) }
}

fn unreadable() -> Violation {
    connection(Code::QPACK_DECOMPRESSION_FAILED, "a field section that cannot be decoded")
}

/// How many lines a section may have. h3 0.0.8 makes room for all of them in one `HeaderMap`, which
/// panics at more than 24,576.
const MAX_LINES: usize = 16_384;

/// As much of a field's name as the rules need.
enum Name {
    Field,
    /// One of the bits below, or none for an unknown one.
    Pseudo(u8),
}

/// Field lines (RFC 9204 §4.5) that are still to come.
struct Lines<'a>(&'a [u8]);

impl Lines<'_> {
    /// The name of the next line. `None` if it cannot be read.
    fn next_name(&mut self) -> Option<Name> {
        match *self.0.first()? {
            // A whole field of the static table.
            0xc0.. => Some(of_static_table(self.number(6)?)),
            // A name of the static table.
            first @ 0x40..0x80 if first & 0x10 != 0 => {
                let name = of_static_table(self.number(4)?);
                self.string(7)?;
                Some(name)
            }
            first @ 0x20..0x40 => {
                let name = of_text(first & 0x08 != 0, self.string(3)?);
                self.string(7)?;
                Some(name)
            }
            // What needs the dynamic table.
            _ => None,
        }
    }

    /// A string whose length begins with so many bits of the first byte.
    fn string(&mut self, bits: u8) -> Option<&[u8]> {
        let length = self.number(bits)?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// An integer with a prefix of so many bits (RFC 9204 §4.1.1).
    fn number(&mut self, bits: u8) -> Option<usize> {
        let most = u8::MAX >> (8 - bits);
        let mut number = u64::from(self.byte()? & most);
        if number < u64::from(most) {
            return number.try_into().ok();
        }
        // As long as h3 takes one.
        for shift in (0..=56).step_by(7) {
            let byte = self.byte()?;
            number += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return number.try_into().ok();
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}

/// RFC 9204, appendix A.
fn of_static_table(index: usize) -> Name {
    match index {
        0 => Name::Pseudo(AUTHORITY),
        1 => Name::Pseudo(PATH),
        15..=21 => Name::Pseudo(METHOD),
        22 | 23 => Name::Pseudo(SCHEME),
        24..=28 | 63..=71 => Name::Pseudo(STATUS),
        _ => Name::Field,
    }
}

/// A name as text, or in Huffman's code (RFC 7541, appendix B).
fn of_text(is_huffman: bool, name: &[u8]) -> Name {
    let known = PSEUDO.iter().find(|(text, code, _)| name == if is_huffman { *code } else { *text });
    match (known, name.first()) {
        (Some((_, _, which)), _) => Name::Pseudo(*which),
        // The seven bits of a colon.
        (None, Some(first)) if is_huffman && first >> 1 == 0x5c => Name::Pseudo(0),
        (None, Some(b':')) if !is_huffman => Name::Pseudo(0),
        (None, _) => Name::Field,
    }
}

const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const AUTHORITY: u8 = 4;
const PATH: u8 = 8;
const STATUS: u8 = 16;
const PROTOCOL: u8 = 32;

/// Each as text, and in Huffman's code.
const PSEUDO: [(&[u8], &[u8], u8); 6] = [
    (b":method", &[0xb9, 0x49, 0x53, 0x39, 0xe4], METHOD),
    (b":scheme", &[0xb8, 0x82, 0x4e, 0x5a, 0x4b], SCHEME),
    (b":authority", &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f], AUTHORITY),
    (b":path", &[0xb9, 0x58, 0xd3, 0x3f], PATH),
    (b":status", &[0xb8, 0x84, 0x8d, 0x36, 0xa3], STATUS),
    (b":protocol", &[0xb9, 0x5d, 0x87, 0x49, 0xc8, 0x7a, 0x3f], PROTOCOL),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(outcome: Result<(), Violation>) -> Option<Code> {
        match outcome {
            Ok(()) => None,
            Err(Violation::Connection { code, .. } | Violation::Request { code, .. }) => Some(code),
            Err(violation) => panic!("{violation}"),
        }
    }

    const GET: &[u8] = &[0xd1, 0xd7, 0x50, 1, b'a', 0xc1];

    #[test]
    fn pseudo_headers_come_first_once_and_where_they_belong() {
        let with = |line: &[u8]| [GET, line].concat();
        assert_eq!(check(Section::Request, GET), Ok(()));
        // `a: b`, and `age: 0` of the table.
        assert_eq!(check(Section::Request, &with(&[0x21, b'a', 1, b'b', 0xc2])), Ok(()));
        assert!(check(Section::Request, &with(&[0xc1])).is_err());
        assert!(check(Section::Request, &with(&[0xd9])).is_err());
        assert!(check(Section::Request, &[&[0xc2], GET].concat()).is_err());
        assert_eq!(check(Section::Response, &[0xd9, 0xc2]), Ok(()));
        assert!(check(Section::Response, &[0xd9, 0xd9]).is_err());
        assert!(check(Section::Response, GET).is_err());
        assert_eq!(check(Section::Trailers, &[0xc2]), Ok(()));
        assert!(check(Section::Trailers, &[0xd9]).is_err());
    }

    #[test]
    fn a_pseudo_header_is_known_however_it_is_written() {
        for (text, code, which) in PSEUDO {
            for (huffman, name) in [(0x00, text), (0x08, code)] {
                let length = if name.len() < 7 { vec![name.len() as u8] } else { vec![7, name.len() as u8 - 7] };
                let mut line = [&length[..], name, &[1, b'1']].concat();
                line[0] |= 0x20 | huffman;
                let expected = which & (METHOD | SCHEME | AUTHORITY | PATH | PROTOCOL) != 0;
                assert_eq!(check(Section::Request, &line).is_ok(), expected, "{line:?}");
                assert_eq!(check(Section::Response, &line).is_ok(), which == STATUS, "{line:?}");
                assert!(check(Section::Trailers, &line).is_err(), "{line:?}");
                assert!(check(Section::Request, &line.repeat(2)).is_err(), "{line:?}");
            }
        }
        assert!(check(Section::Request, &[0x22, b':', b'x', 0]).is_err());
    }

    #[test]
    fn more_fields_than_h3_takes_are_refused() {
        for section in [Section::Request, Section::Response, Section::Trailers] {
            let fields = |count| vec![0xc2; count];
            assert_eq!(code(check(section, &fields(MAX_LINES))), None);
            assert_eq!(code(check(section, &fields(MAX_LINES + 1))), Some(Code::H3_EXCESSIVE_LOAD));
        }
    }

    #[test]
    fn a_prefix_is_read_to_its_end_and_needs_no_table() {
        assert_eq!(lines(&[0, 0, 0xc2]), Ok(&[0xc2][..]));
        assert_eq!(lines(&[0, 0x7e]), Ok(&[][..]));
        // A base in several bytes.
        assert_eq!(lines(&[0, 0x7f, 0, 0xc2]), Ok(&[0xc2][..]));
        assert_eq!(lines(&[0, 0x7f, 0x80, 0x80, 0x00, 0xc2]), Ok(&[0xc2][..]));
        let wrong: [&[u8]; 8] = [
            &[],
            &[0],
            &[1, 0],
            &[0xff, 0, 0],
            &[0, 0x80],
            &[0, 0x7f],
            &[0, 0x7f, 0x80],
            &[0, 0x7f, 128, 128, 128, 128, 128, 128, 128, 128, 128, 0],
        ];
        for section in wrong {
            let outcome = lines(section).map(drop);
            assert_eq!(code(outcome), Some(Code::QPACK_DECOMPRESSION_FAILED), "{section:?}");
        }
    }

    #[test]
    fn an_integer_however_long_hides_nothing() {
        // `:path` with a value of 127 bytes, whose length goes on for up to nine bytes.
        for further in 0..9 {
            let length = [&[0x7f], &vec![0x80; further][..], &[0]].concat();
            let line = [&[0x51], &length[..], &[b'/'; 127]].concat();
            assert_eq!(code(check(Section::Request, &line)), None, "{further}");
            let twice = [&line[..], &[0xc1]].concat();
            assert_eq!(code(check(Section::Request, &twice)), Some(Code::H3_MESSAGE_ERROR), "{further}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let wrong: [&[u8]; 9] = [
            &[0x80],
            &[0x10],
            &[0x00, 0],
            &[0x40, 0],
            &[0xff],
            &[0x51],
            &[0x51, 2, b'/'],
            &[0x21],
            &[0x51, 0x7f, 128, 128, 128, 128, 128, 128, 128, 128, 128, 0],
        ];
        for line in wrong {
            let outcome = check(Section::Request, line);
            assert_eq!(code(outcome), Some(Code::QPACK_DECOMPRESSION_FAILED), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_looked_at_without_a_panic(lines in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(Section::Request, &lines);
            let _ = super::lines(&lines);
        }
    }
}
