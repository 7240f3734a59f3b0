//! [`Printable`]: text of a peer's, for people to read.

use std::fmt::{self, Write as _};

/// Shows text of a peer's on a terminal or in a log, and lets it steer neither.
///
/// The text may be anything that a peer chose: a reason, a server name, the name of a protocol.
/// Control characters, line separators and characters that nobody sees are shown as Rust's escapes:
/// a new line is `\n`, and U+202E, which reverses a line, is `\u{202e}`. Bytes that are not UTF-8
/// are shown as `\x` and two digits. Everything else stays as it is, a backslash too: the result is
/// for people, and nothing can be read back from it.
///
/// The `Display` of this crate's errors, and its spans and events, show a peer's text this way.
/// Their fields have the text itself.
///
/// ```
/// # use sendstream::Printable;
/// assert_eq!(Printable::new("a\u{1b}[2J\nb").to_string(), r"a\u{1b}[2J\nb");
/// assert_eq!(Printable::new(b"h3\xff").to_string(), r"h3\xff");
/// ```
#[derive(Clone, Copy)]
pub struct Printable<'a>(&'a [u8]);

impl<'a> Printable<'a> {
    /// Shows `text`, which should be UTF-8.
    pub fn new<T: AsRef<[u8]> + ?Sized>(text: &'a T) -> Self {
        Self(text.as_ref())
    }

    /// Whether `c` is shown as an escape. These are
    ///
    /// - the control and format characters, and the line and paragraph separators, which are
    ///   Unicode's categories Cc, Cf, Zl and Zp;
    /// - the characters that Unicode wants to be invisible (`Default_Ignorable_Code_Point`), but
    ///   for U+FE00 to U+FE0F: they choose how the character before them looks, as in many emoji.
    pub fn escapes(c: char) -> bool {
        c.is_control()
            || matches!(
                c,
                '\u{ad}'
                    | '\u{34f}'
                    | '\u{600}'..='\u{605}'
                    | '\u{61c}'
                    | '\u{6dd}'
                    | '\u{70f}'
                    | '\u{890}'..='\u{891}'
                    | '\u{8e2}'
                    | '\u{115f}'..='\u{1160}'
                    | '\u{17b4}'..='\u{17b5}'
                    | '\u{180b}'..='\u{180f}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{3164}'
                    | '\u{feff}'
                    | '\u{ffa0}'
                    | '\u{fff0}'..='\u{fffb}'
                    | '\u{110bd}'
                    | '\u{110cd}'
                    | '\u{13430}'..='\u{1343f}'
                    | '\u{1bca0}'..='\u{1bca3}'
                    | '\u{1d173}'..='\u{1d17a}'
                    | '\u{e0000}'..='\u{e0fff}'
            )
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if Self::escapes(c) { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Printable::new(text).to_string()
    }

    #[test]
    fn what_steers_a_terminal_or_a_log_is_escaped() {
        assert_eq!(shown("a\u{1b}[31m\r\n\t\0"), r"a\u{1b}[31m\r\n\t\u{0}");
        assert_eq!(shown("\u{7f}\u{85}\u{9b}2J"), r"\u{7f}\u{85}\u{9b}2J");
        assert_eq!(shown("a\u{2028}b\u{2029}c"), r"a\u{2028}b\u{2029}c");
    }

    #[test]
    fn what_nobody_sees_or_what_turns_a_line_round_is_escaped() {
        assert_eq!(shown("gpj\u{202e}exe"), r"gpj\u{202e}exe");
        let bidi = ['\u{61c}', '\u{200e}', '\u{200f}'].into_iter().chain('\u{202a}'..='\u{202e}');
        let bidi = bidi.chain('\u{2066}'..='\u{2069}');
        let tags = '\u{e0000}'..='\u{e007f}';
        let fillers = ['\u{34f}', '\u{115f}', '\u{3164}', '\u{ffa0}'];
        let others = ['\u{ad}', '\u{180e}', '\u{200b}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{fff9}', '\u{e0100}'];
        for c in bidi.chain(tags).chain(fillers).chain(others) {
            assert_eq!(shown(&format!("a{c}b")), format!("a{}b", c.escape_unicode()));
        }
    }

    #[test]
    fn every_script_stays_as_it_is() {
        for text in ["", "日本語 \u{3000}ü", "नमस्ते", "e\u{301}", "❤\u{fe0f} 🎉", "\"quoted\" 'too'", r"a\b", "\u{a0}"]
        {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped_one_by_one() {
        // A surrogate, which no UTF-8 has, and a character that breaks off.
        assert_eq!(Printable::new(b"a\xed\xa0\x80b\xe2\x82").to_string(), r"a\xed\xa0\x80b\xe2\x82");
    }
}
