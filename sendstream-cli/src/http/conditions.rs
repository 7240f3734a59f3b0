//! Whether a client has the content already, or wants it only as it was (RFC 9110 §13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, header};

/// By what a content is known to be the same as before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validators {
    /// The entity tag, with its quotes, without `W/`.
    pub(crate) tag: String,
    /// Whether the tag may stay when the content changes: the file was changed just now, and could
    /// be again within one tick of the clock.
    pub(crate) weak: bool,
    /// When it changed, in whole seconds.
    pub(crate) modified: Option<SystemTime>,
}

/// What a request's conditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer as if there were none.
    Go,
    /// The client has it: 304.
    NotModified,
    /// It is not as the client wants it: 412.
    Failed,
}

impl Validators {
    /// The field `ETag`.
    pub(crate) fn etag(&self) -> String {
        if self.weak { format!("W/{}", self.tag) } else { self.tag.clone() }
    }

    /// The field `Last-Modified`.
    pub(crate) fn last_modified(&self) -> Option<String> {
        self.modified.map(httpdate::fmt_http_date)
    }

    /// Weighs the conditions of a GET or HEAD in the order of RFC 9110 §13.2.2.
    pub(crate) fn judge(&self, headers: &HeaderMap) -> Verdict {
        if headers.contains_key(header::IF_MATCH) {
            if !self.is_among(headers, &header::IF_MATCH, Comparison::Strong) {
                return Verdict::Failed;
            }
        } else if let Some(since) = date(headers, &header::IF_UNMODIFIED_SINCE)
            && self.modified.is_some_and(|modified| modified > since)
        {
            return Verdict::Failed;
        }
        if headers.contains_key(header::IF_NONE_MATCH) {
            if self.is_among(headers, &header::IF_NONE_MATCH, Comparison::Weak) {
                return Verdict::NotModified;
            }
        } else if let Some(since) = date(headers, &header::IF_MODIFIED_SINCE)
            && self.modified.is_some_and(|modified| modified <= since)
        {
            return Verdict::NotModified;
        }
        Verdict::Go
    }

    /// Whether a `Range` counts: there is no `If-Range`, or it says what this is (RFC 9110 §13.1.5).
    pub(crate) fn ranges_apply(&self, headers: &HeaderMap) -> bool {
        let Some(wanted) = headers.get(header::IF_RANGE) else { return true };
        let wanted = wanted.as_bytes().trim_ascii();
        if wanted.starts_with(b"\"") || wanted.starts_with(b"W/") {
            return !self.weak && wanted == self.tag.as_bytes();
        }
        // A date is strong only if the content cannot have changed within its second.
        !self.weak && self.last_modified().is_some_and(|modified| modified.as_bytes() == wanted)
    }

    fn is_among(&self, headers: &HeaderMap, name: &HeaderName, comparison: Comparison) -> bool {
        headers.get_all(name).iter().any(|value| {
            value.as_bytes().trim_ascii() == b"*"
                || tags(value.as_bytes()).any(|(tag, weak)| {
                    tag == self.tag.as_bytes() && (comparison == Comparison::Weak || (!weak && !self.weak))
                })
        })
    }
}

/// How tags are compared (RFC 9110 §8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// The tags of a list, with their quotes, and whether each is weak. A comma may be inside of one. The
/// list ends where it is malformed.
fn tags(mut list: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    std::iter::from_fn(move || {
        while let [b',' | b' ' | b'\t', rest @ ..] = list {
            list = rest;
        }
        let weak = list.starts_with(b"W/");
        if weak {
            list = &list[2..];
        }
        let inside = list.strip_prefix(b"\"")?;
        let end = inside.iter().position(|byte| *byte == b'"')? + 2;
        let (tag, rest) = list.split_at(end);
        list = rest;
        Some((tag, weak))
    })
}

/// A date in a header; none if it is not there, or is none.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Without the part of a second, which `Last-Modified` cannot say. `None` for times before 1970.
pub(crate) fn whole_seconds(time: SystemTime) -> Option<SystemTime> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn content(weak: bool) -> Validators {
        let modified = httpdate::parse_http_date(THEN).unwrap();
        Validators { tag: "\"a,b\"".to_owned(), weak, modified: Some(modified) }
    }

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn judge(weak: bool, fields: &[(HeaderName, &str)]) -> Verdict {
        content(weak).judge(&headers(fields))
    }

    #[test]
    fn who_has_it_is_told_so() {
        use Verdict::{Go, NotModified};
        let none_match = |value| judge(false, &[(header::IF_NONE_MATCH, value)]);
        assert_eq!(none_match("\"a,b\""), NotModified);
        assert_eq!(none_match("W/\"a,b\""), NotModified, "weak is good enough");
        assert_eq!(none_match("\"x\", W/\"y\" ,\"a,b\""), NotModified);
        assert_eq!(none_match("*"), NotModified);
        assert_eq!(none_match("\"x\", \"a\", \"b\""), Go);
        assert_eq!(none_match("a,b"), Go);
        assert_eq!(none_match("\"a,b"), Go);
        assert_eq!(
            judge(false, &[(header::IF_NONE_MATCH, "\"x\""), (header::IF_NONE_MATCH, "\"a,b\"")]),
            NotModified,
            "in the second line"
        );
        let since = |value| judge(false, &[(header::IF_MODIFIED_SINCE, value)]);
        assert_eq!(since(THEN), NotModified);
        assert_eq!(since(AFTER), NotModified);
        assert_eq!(since(BEFORE), Go);
        assert_eq!(since("yesterday"), Go);
        let both = [(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, AFTER)];
        assert_eq!(judge(false, &both), Go, "the tag decides");
    }

    #[test]
    fn who_wants_another_one_is_told_so() {
        use Verdict::{Failed, Go};
        let matches = |weak, value| judge(weak, &[(header::IF_MATCH, value)]);
        assert_eq!(matches(false, "\"a,b\""), Go);
        assert_eq!(matches(false, "*"), Go);
        assert_eq!(matches(false, "\"x\""), Failed);
        assert_eq!(matches(false, "W/\"a,b\""), Failed, "weak is not good enough");
        assert_eq!(matches(true, "\"a,b\""), Failed);
        assert_eq!(judge(false, &[(header::IF_UNMODIFIED_SINCE, BEFORE)]), Failed);
        assert_eq!(judge(false, &[(header::IF_UNMODIFIED_SINCE, THEN)]), Go);
        assert_eq!(judge(false, &[(header::IF_MATCH, "\"a,b\""), (header::IF_UNMODIFIED_SINCE, BEFORE)]), Go);
    }

    #[test]
    fn a_part_is_given_of_the_same_content_only() {
        let applies = |weak, value| content(weak).ranges_apply(&headers(&[(header::IF_RANGE, value)]));
        assert!(content(false).ranges_apply(&HeaderMap::new()));
        assert!(applies(false, "\"a,b\""));
        assert!(applies(false, THEN));
        for other in ["\"x\"", "W/\"a,b\"", BEFORE, AFTER, "never"] {
            assert!(!applies(false, other), "{other}");
        }
        assert!(!applies(true, "\"a,b\""));
        assert!(!applies(true, THEN));
    }
}
