//! Makes the edits of a series, or says which do not fit.
//!
//! This is stricter than `patch`, `git apply` or the `diffy` crate are, which take the match that
//! is nearest to the line number: a hunk's lines must be in the file exactly once. So a patch
//! changes the place it was written for, or nothing.

use std::collections::BTreeMap;

use crate::patch::{FileChange, Patch};

/// What became of a series.
#[derive(Debug, Default)]
pub(crate) struct Outcome<'a> {
    /// The edits that were made, in order.
    pub(crate) made: Vec<&'a Patch>,
    /// One line for each edit that was not.
    pub(crate) refused: Vec<String>,
    /// The files that they changed and added, as they are now.
    pub(crate) texts: BTreeMap<&'a str, String>,
}

/// Makes the edits of `patches` in order, each with all of its changes or not at all. `read` gives
/// a file's text, or `None` where there is no such file.
pub(crate) fn all<'a>(
    patches: impl IntoIterator<Item = &'a Patch>,
    read: impl Fn(&str) -> Option<String>,
) -> Outcome<'a> {
    let mut outcome = Outcome::default();
    for patch in patches {
        outcome.make(patch, &read);
    }
    outcome
}

impl<'a> Outcome<'a> {
    /// Makes one more edit, or notes why not.
    pub(crate) fn make(&mut self, patch: &'a Patch, read: impl Fn(&str) -> Option<String>) {
        match made(patch, self, read) {
            Ok(texts) => {
                self.texts.extend(texts);
                self.made.push(patch);
            }
            Err(why) => self.refused.push(format!(
                "the edit {:?} does not fit these MsQuic sources: {why}; without it: {}",
                patch.header.name, patch.header.prevents
            )),
        }
    }
}

/// The files of `patch` as the edit makes them.
fn made<'a>(
    patch: &'a Patch,
    before: &Outcome<'_>,
    read: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(&'a str, String)>, String> {
    for need in &patch.header.needs {
        if !before.made.iter().any(|made| made.header.name == *need) {
            return Err(format!("it needs the edit {need:?}, which was not made"));
        }
    }
    let change = |file: &'a FileChange| {
        let text = before.texts.get(file.path.as_str()).cloned().or_else(|| read(&file.path));
        Ok((file.path.as_str(), changed(file, text)?))
    };
    patch.files.iter().map(change).collect()
}

fn changed(file: &FileChange, text: Option<String>) -> Result<String, String> {
    let FileChange { path, is_new, hunks } = file;
    let text = match (text, is_new) {
        (Some(text), false) => text,
        (None, true) => String::new(),
        (Some(_), true) => return Err(format!("there is a {path} among them already")),
        (None, false) => return Err(format!("there is no {path} among them")),
    };
    let mut made = String::new();
    let mut end = 0;
    for hunk in hunks {
        let start = match &places(&text, &hunk.before)[..] {
            [start] => *start,
            [] => return Err(format!("lines that it replaces are not in {path}")),
            more => return Err(format!("lines that it replaces are {} times in {path}", more.len())),
        };
        let between =
            text.get(end..start).ok_or_else(|| format!("lines that it replaces in {path} are out of order"))?;
        made += between;
        made += &hunk.after;
        end = start + hunk.before.len();
    }
    made += &text[end..];
    Ok(made)
}

/// Where `lines`, which are whole lines, are in `text`.
pub(crate) fn places(text: &str, lines: &str) -> Vec<usize> {
    let starts_a_line = |at: &usize| *at == 0 || text.as_bytes()[at - 1] == b'\n';
    let mut places = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find(lines).map(|at| from + at) {
        places.push(at);
        // The next line: what is found may overlap with what was found. A file that is new has no
        // lines.
        match text[at..].find('\n') {
            Some(length) => from = at + length + 1,
            None => break,
        }
    }
    places.retain(starts_a_line);
    places
}
