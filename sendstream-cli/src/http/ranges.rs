//! Which parts of a file a request asks for (RFC 9110 §14).

use std::ops::Range;

/// What the header `Range` asks of a content of known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ranges {
    /// All of it: the header is of another unit, malformed, or asks for more than it is worth.
    All,
    /// These parts, at least one, none empty, in the order of the request.
    Some(Vec<Range<u64>>),
    /// Nothing that the content has.
    Unsatisfiable,
}

impl Ranges {
    /// Reads the header. What RFC 9110 lets a server ignore is ignored.
    pub(crate) fn parse(header: &[u8], len: u64) -> Self {
        let Some(set) = ranges_specifier(header) else { return Self::All };
        let mut parts = Vec::new();
        let mut asked = 0;
        for spec in set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty()) {
            asked += 1;
            let Some(part) = parse_spec(spec, len) else { return Self::All };
            if !part.is_empty() {
                parts.push(part);
            }
        }
        // RFC 9110 §14.2: who asks for many small parts, or for the same bytes again and again,
        // gets all of it.
        if asked == 0 || asked > MAX_PARTS || overlap(&parts) {
            return Self::All;
        }
        if parts.is_empty() { Self::Unsatisfiable } else { Self::Some(parts) }
    }
}

/// What follows `bytes=`, whose case does not matter.
fn ranges_specifier(header: &[u8]) -> Option<&str> {
    let (unit, set) = str::from_utf8(header).ok()?.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(set)
}

/// One of `FIRST-LAST`, `FIRST-`, `-COUNT`: what there is of it, which may be nothing. `None` if it
/// is malformed.
fn parse_spec(spec: &str, len: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    match (first, last) {
        ("", count) => Some(len.saturating_sub(parse_number(count)?)..len),
        (first, "") => Some(parse_number(first)?.min(len)..len),
        (first, last) => {
            let (first, last) = (parse_number(first)?, parse_number(last)?);
            (first <= last).then(|| first.min(len)..last.saturating_add(1).min(len))
        }
    }
}

/// Digits alone. A number that is too large for the type is as good as the largest.
fn parse_number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

fn overlap(parts: &[Range<u64>]) -> bool {
    let mut sorted: Vec<_> = parts.iter().collect();
    sorted.sort_unstable_by_key(|part| part.start);
    sorted.windows(2).any(|pair| pair[1].start < pair[0].end)
}

/// How many parts one request gets.
const MAX_PARTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str, len: u64) -> Ranges {
        Ranges::parse(header.as_bytes(), len)
    }

    fn parts(parts: &[(u64, u64)]) -> Ranges {
        Ranges::Some(parts.iter().map(|(start, end)| *start..*end).collect())
    }

    #[test]
    fn every_form_of_a_range_is_read() {
        assert_eq!(parse("bytes=0-0", 10), parts(&[(0, 1)]));
        assert_eq!(parse("bytes=2-5", 10), parts(&[(2, 6)]));
        assert_eq!(parse("bytes=2-", 10), parts(&[(2, 10)]));
        assert_eq!(parse("bytes=-3", 10), parts(&[(7, 10)]));
        assert_eq!(parse("bytes=-30", 10), parts(&[(0, 10)]));
        assert_eq!(parse("bytes=9-99999999999999999999999", 10), parts(&[(9, 10)]));
        assert_eq!(parse("BYTES= 0-1 ,\t4-5, ", 10), parts(&[(0, 2), (4, 6)]));
        assert_eq!(parse("bytes=4-5,0-1", 10), parts(&[(4, 6), (0, 2)]));
        assert_eq!(parse("bytes=0-1,50-", 10), parts(&[(0, 2)]), "what there is of it");
    }

    #[test]
    fn what_the_content_does_not_have_is_unsatisfiable() {
        for header in ["bytes=10-", "bytes=10-20", "bytes=99999999999999999999999-", "bytes=-0", "bytes=10-,-0"] {
            assert_eq!(parse(header, 10), Ranges::Unsatisfiable, "{header}");
        }
        for header in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            assert_eq!(parse(header, 0), Ranges::Unsatisfiable, "{header} of nothing");
        }
    }

    #[test]
    fn what_is_no_range_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "lines=0-1",
            "bytes=5-2",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0-1,x",
            "bytes=0 - 1",
            "bytes 0-1",
            "bytes=١-٢",
        ] {
            assert_eq!(parse(header, 10), Ranges::All, "{header:?}");
        }
        assert_eq!(Ranges::parse(b"bytes=\xff-1", 10), Ranges::All);
    }

    #[test]
    fn nobody_gets_the_same_bytes_twice_or_a_thousand_parts() {
        assert_eq!(parse("bytes=0-5,3-8", 10), Ranges::All);
        assert_eq!(parse("bytes=0-,0-,0-", 10), Ranges::All);
        let many = |count: u64| {
            format!("bytes={}", (0..count).map(|i| format!("{}-{}", 2 * i, 2 * i)).collect::<Vec<_>>().join(","))
        };
        assert!(matches!(parse(&many(16), 100), Ranges::Some(parts) if parts.len() == 16));
        assert_eq!(parse(&many(17), 100), Ranges::All);
    }
}
