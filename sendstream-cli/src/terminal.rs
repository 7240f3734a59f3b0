//! What the terminal of this process can show.

use std::env;

use sendstream::Printable;

/// Whether the locale (`LC_ALL`, `LC_CTYPE`, `LANG`) says that the terminal shows all of Unicode.
pub(crate) fn shows_unicode() -> bool {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    is_utf8(set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")))
}

/// `text` without what would steer the terminal, and without what it cannot show.
pub(crate) fn shown(text: &str) -> String {
    let text = Printable::new(text).to_string();
    if text.is_ascii() || shows_unicode() {
        return text;
    }
    text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

fn is_utf8(locale: Option<String>) -> bool {
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::is_utf8;

    #[test]
    fn only_a_locale_that_says_so_shows_unicode() {
        for (locale, expected) in
            [("en_GB.UTF-8", true), ("C.utf8", true), ("C", false), ("POSIX", false), ("de_DE.ISO-8859-1", false)]
        {
            assert_eq!(is_utf8(Some(locale.to_owned())), expected, "{locale}");
        }
        assert!(!is_utf8(None));
    }
}
