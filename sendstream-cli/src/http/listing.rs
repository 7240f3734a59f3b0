//! Pages for people: what is in a folder, and why there is nothing to see.
//!
//! A page is one file that loads nothing and runs nothing, and says so to the browser ([`POLICY`]). A
//! name is shown as [`Printable`] shows it, so that none reads as another, and is linked with every
//! byte that could mean something encoded.

use std::{
    cmp::Ordering,
    ffi::{OsStr, OsString},
    fmt::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    time::SystemTime,
};

use axum::http::StatusCode;
use indicatif::BinaryBytes;
use sendstream::Printable;

use super::target::{Target, encode};

/// One name in a folder.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: OsString,
    pub(crate) kind: Kind,
    pub(crate) modified: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    /// A file of so many bytes.
    File(u64),
}

/// The page of a folder. Folders come first, then files, each by name. `complete` says whether
/// `entries` are all there are.
pub(crate) fn folder(target: &Target, mut entries: Vec<Entry>, complete: bool) -> String {
    entries.sort_by(order);
    let title = format!("Index of {}", plain_path(target));
    let mut page = begin(&title);
    page.push_str("<h1>");
    crumbs(&mut page, target);
    page.push_str("</h1>\n");
    let _ = writeln!(page, "<p>{}</p>", summary(&entries, complete));
    page.push_str(
        "<table>\n<thead><tr><th>Name</th><th class=size>Size</th><th class=date>Modified (UTC)</th></tr></thead>\n<tbody>\n",
    );
    if target.names().next().is_some() {
        let _ = writeln!(
            page,
            "<tr class=folder><td>{UP}<a href=\"../\">Parent folder</a></td><td class=size></td><td class=date></td></tr>"
        );
    }
    for entry in &entries {
        row(&mut page, entry);
    }
    page.push_str("</tbody>\n</table>\n");
    end(page)
}

/// The page of an answer that is not what was asked for.
pub(crate) fn status(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("Error");
    let mut page = begin(&format!("{} {reason}", status.as_u16()));
    let _ = writeln!(page, "<h1>{reason}</h1>\n<p>{}</p>\n<a href=\"/\">All files</a>", explain(status));
    end(page)
}

/// What the pages may load and run: their own style, and nothing else.
pub(crate) const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn explain(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "There is nothing of this name here.",
        StatusCode::FORBIDDEN => "This is not for everybody to read.",
        StatusCode::METHOD_NOT_ALLOWED => "Files here can be read, and nothing else.",
        StatusCode::RANGE_NOT_SATISFIABLE => "The file has no such part.",
        StatusCode::PRECONDITION_FAILED => "The file is not as it was expected to be.",
        StatusCode::MOVED_PERMANENTLY => "This is a folder, whose address ends in a slash.",
        StatusCode::SERVICE_UNAVAILABLE => "Too many files are being read just now. Try again in a moment.",
        _ => "The file could not be read.",
    }
}

fn begin(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        Html(title),
    )
}

fn end(mut page: String) -> String {
    page.push_str("<footer>Served by sendstream</footer>\n</body>\n</html>\n");
    page
}

/// The way from the served folder to this one, each step a link but the last.
fn crumbs(page: &mut String, target: &Target) {
    let names: Vec<_> = target.names().collect();
    if names.is_empty() {
        page.push_str("All files");
        return;
    }
    let _ = write!(page, "<a href=\"/\">All files</a>");
    let mut link = String::from("/");
    for (index, name) in names.iter().enumerate() {
        link.push_str(&encode(name));
        link.push('/');
        if index + 1 == names.len() {
            let _ = write!(page, "<span>{}</span>", shown(name));
        } else {
            let _ = write!(page, "<a href=\"{link}\">{}</a>", shown(name));
        }
    }
}

fn row(page: &mut String, entry: &Entry) {
    let (class, icon, slash) = match entry.kind {
        Kind::Folder => ("folder", FOLDER, "/"),
        Kind::File(_) => ("file", FILE, ""),
    };
    // With `./`, no name is taken for a scheme.
    let _ = write!(
        page,
        "<tr class={class}><td>{icon}<a href=\"./{}{slash}\">{}{slash}</a></td><td class=size>",
        encode(&entry.name),
        shown(&entry.name),
    );
    if let Kind::File(bytes) = entry.kind {
        let _ = write!(page, "{}", BinaryBytes(bytes));
    }
    let _ = write!(page, "</td><td class=date>");
    if let Some(modified) = entry.modified {
        let _ = write!(page, "{}", date(modified));
    }
    page.push_str("</td></tr>\n");
}

/// "2 folders, 1 file, 1.50 KiB".
fn summary(entries: &[Entry], complete: bool) -> String {
    let (mut folders, mut files, mut bytes) = (0, 0, 0u64);
    for entry in entries {
        match entry.kind {
            Kind::Folder => folders += 1,
            Kind::File(size) => {
                files += 1;
                bytes = bytes.saturating_add(size);
            }
        }
    }
    let count = |count: usize, one: &'static str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        many => Some(format!("{many} {one}s")),
    };
    let size = (files > 0).then(|| BinaryBytes(bytes).to_string());
    let parts: Vec<_> = [count(folders, "folder"), count(files, "file"), size].into_iter().flatten().collect();
    let mut text = if parts.is_empty() { "Nothing is in here.".to_owned() } else { parts.join(", ") };
    if !complete {
        text.push_str("; there is more in this folder than a page shows");
    }
    text
}

fn order(a: &Entry, b: &Entry) -> Ordering {
    let is_file = |entry: &Entry| matches!(entry.kind, Kind::File(_));
    let folded = |entry: &Entry| entry.name.to_string_lossy().to_lowercase();
    is_file(a).cmp(&is_file(b)).then_with(|| folded(a).cmp(&folded(b))).then_with(|| a.name.cmp(&b.name))
}

/// `2026-11-29 16:20`.
fn date(time: SystemTime) -> String {
    let mut text = humantime::format_rfc3339_seconds(time).to_string().replace('T', " ");
    text.truncate("2026-11-29 16:20".len());
    text
}

fn plain_path(target: &Target) -> String {
    let mut path = String::from("/");
    for name in target.names() {
        let _ = write!(path, "{}/", Printable::new(name.as_bytes()));
    }
    path
}

/// A name as text of the page.
fn shown(name: &OsStr) -> String {
    Html(&Printable::new(name.as_bytes()).to_string()).to_string()
}

/// Text inside of HTML, also in an attribute with quotes.
struct Html<'a>(&'a str);

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            let escaped = match c {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\'' => "&#39;",
                c => return f.write_char(c),
            };
            f.write_str(escaped)
        })
    }
}

const STYLE: &str = include_str!("page.css");
const FOLDER: &str = "<svg viewBox=\"0 0 20 20\" aria-hidden=true>\
    <path d=\"M1.5 4.5a1.5 1.5 0 0 1 1.5-1.5h4l2 2h8a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 17 17H3a1.5 1.5 0 0 1-1.5-1.5z\"/></svg>";
const FILE: &str = "<svg viewBox=\"0 0 20 20\" aria-hidden=true><path d=\"M4 2h8l4 4v12H4zM12 2v4h4\"/></svg>";
const UP: &str = "<svg viewBox=\"0 0 20 20\" aria-hidden=true>\
    <path d=\"M10 3l6.5 7h-4v7h-5v-7h-4z\"/></svg>";

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn entry(name: &str, kind: Kind) -> Entry {
        let modified = Some(UNIX_EPOCH + Duration::from_secs(784_111_777));
        Entry { name: name.into(), kind, modified }
    }

    fn page(path: &str, entries: Vec<Entry>) -> String {
        folder(&Target::parse(path, false).unwrap(), entries, true)
    }

    #[test]
    fn a_name_is_text_and_its_link_leads_to_it() {
        let name = "<b>&\"'\u{202e}gpj:a?#%2e";
        let page = page("/", vec![entry(name, Kind::File(1536))]);
        assert!(!page.contains("<b>") && !page.contains('\u{202e}'), "{page}");
        assert!(page.contains(r"&lt;b&gt;&amp;&quot;&#39;\u{202e}gpj:a?#%2e</a>"), "{page}");
        let (_, link) = page.split_once("<tr class=file>").unwrap();
        let (_, link) = link.split_once("href=\"./").unwrap();
        let (link, _) = link.split_once('"').unwrap();
        assert_eq!(Target::parse(&format!("/{link}"), false).unwrap().path().to_str(), Some(name));
        assert!(page.contains("1.50 KiB") && page.contains("1994-11-06 08:49"), "{page}");
    }

    #[test]
    fn folders_come_first_and_then_everything_by_name() {
        let page = page(
            "/a%20b/c/",
            vec![
                entry("b", Kind::File(1)),
                entry("A", Kind::File(1)),
                entry("z", Kind::Folder),
                entry("y", Kind::Folder),
            ],
        );
        let places: Vec<_> = [
            "href=\"/a%20b/\">a b</a>",
            "<span>c</span>",
            "2 folders, 2 files, 2 B",
            "href=\"../\"",
            ">y/</a>",
            ">z/</a>",
            ">A</a>",
            ">b</a>",
        ]
        .iter()
        .map(|text| page.find(text).unwrap_or_else(|| panic!("{text} in {page}")))
        .collect();
        assert!(places.is_sorted(), "{page}");
    }

    #[test]
    fn a_page_says_if_it_is_not_all() {
        let target = Target::parse("/", false).unwrap();
        assert!(folder(&target, Vec::new(), false).contains("there is more"));
        let empty = folder(&target, Vec::new(), true);
        assert!(empty.contains("Nothing is in here.") && !empty.contains("../"), "{empty}");
    }
}
