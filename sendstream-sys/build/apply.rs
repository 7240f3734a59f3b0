//! Makes an edit, or refuses to.

use crate::edits::Edit;

/// Applies those of `edits` that are for `file`, in order, to its text.
///
/// # Errors
///
/// One line, when an anchor is not in the text exactly once.
pub(crate) fn to_text(edits: &[Edit], file: &str, text: String) -> Result<String, String> {
    edits.iter().filter(|edit| edit.file == file).try_fold(text, |text, edit| match text.matches(edit.anchor).count() {
        1 => Ok(text.replacen(edit.anchor, edit.replacement, 1)),
        0 => Err(refusal(edit, "its anchor is not in the file")),
        n => Err(refusal(edit, &format!("its anchor is in the file {n} times"))),
    })
}

/// Checks that every one of `edits` is for a file that is there.
///
/// # Errors
///
/// One line, for the first edit whose file is not.
pub(crate) fn check_files(edits: &[Edit], is_there: impl Fn(&str) -> bool) -> Result<(), String> {
    match edits.iter().find(|edit| !is_there(edit.file)) {
        None => Ok(()),
        Some(edit) => Err(refusal(edit, "its file is not among them")),
    }
}

fn refusal(edit: &Edit, why: &str) -> String {
    let Edit { name, file, prevents, .. } = edit;
    format!("the edit {name:?} does not fit these MsQuic sources: {why} ({file}); it prevents that {prevents}")
}
