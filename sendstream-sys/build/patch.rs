//! One patch of the series: a header that says why, and a unified diff.
//!
//! ```text
//! Edit: name-of-the-edit
//!
//! Kind: security
//! Prevents: The defect, in sentences. A line that begins with two spaces goes on with the one above.
//! Who: who could make use of the defect
//! Upstream: MsQuic's own change, or none known
//! Fixed-in: the release of MsQuic that needs the edit no more, or none
//! Needs: other edits, or none
//! Test: path/of/a/test.rs: name_of_the_test
//!
//! --- a/src/core/file.c
//! +++ b/src/core/file.c
//! @@ -1,2 +1,2 @@
//! ```
//!
//! Whatever is not exactly so is refused, here or where the patch is applied. The numbers in `@@`
//! must be right about the lengths of their hunk; where it starts they may say as they like, since
//! a hunk is found by its text.

#[path = "../src/edit_kind.rs"]
#[expect(unreachable_pub, reason = "the library shows it")]
mod edit_kind;

pub(crate) use edit_kind::EditKind;

/// A patch as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patch {
    /// What stands above the diff.
    pub(crate) header: Header,
    /// The header as it is written.
    pub(crate) message: String,
    /// The files that change, in the patch's order.
    pub(crate) files: Vec<FileChange>,
}

/// The header's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// A short, stable name.
    pub(crate) name: String,
    /// What the edit is for.
    pub(crate) kind: EditKind,
    /// The defect, or the waste.
    pub(crate) prevents: String,
    /// Who could make use of the defect; begins with `nobody` if nobody could.
    pub(crate) who: String,
    /// MsQuic's own change, or that none is known.
    pub(crate) upstream: String,
    /// The release of MsQuic that needs the edit no more, or `none`.
    pub(crate) fixed_in: String,
    /// The edits without which this one is not made.
    pub(crate) needs: Vec<String>,
    /// The tests that reach the edit, each as its file and its name; or why none can.
    pub(crate) tests: Result<Vec<(String, String)>, String>,
}

/// The change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileChange {
    /// The file, relative to the root of MsQuic's sources.
    pub(crate) path: String,
    /// Whether the patch adds the file. It has one hunk then, which replaces nothing.
    pub(crate) is_new: bool,
    /// The hunks, first to last.
    pub(crate) hunks: Vec<Hunk>,
}

/// One hunk: whole lines, and the lines that replace them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hunk {
    /// Context and removed lines.
    pub(crate) before: String,
    /// Context and added lines.
    pub(crate) after: String,
}

const FIELDS: [&str; 7] = ["Kind", "Prevents", "Who", "Upstream", "Fixed-in", "Needs", "Test"];

impl Patch {
    /// Reads a patch, or says in one line what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let diff = text.find("\n--- ").ok_or("it has no diff")? + 1;
        let (header, diff) = text.split_at(diff);
        Ok(Self { header: Header::parse(header)?, message: header.trim_end().to_owned(), files: parse_diff(diff)? })
    }
}

impl Header {
    /// Reads a header: the lines above the diff, or a commit's message.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.trim_end().split('\n');
        let name =
            lines.next().and_then(|line| line.strip_prefix("Edit: ")).ok_or("its first line is not Edit: name")?;
        if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return Err(format!("its name {name:?} has more than lower-case letters, digits and hyphens"));
        }
        if lines.next() != Some("") {
            return Err("its second line is not empty".into());
        }
        let mut values: Vec<(&str, String)> = Vec::new();
        for line in lines {
            match (line.strip_prefix("  "), line.split_once(": "), values.last_mut()) {
                (Some(more), _, Some((field, value))) => {
                    value.push(if *field == "Test" { '\n' } else { ' ' });
                    value.push_str(more);
                }
                (None, Some((field, value)), _) => values.push((field, value.to_owned())),
                _ => return Err(format!("a line of its header is no field: {line:?}")),
            }
        }
        let fields: Vec<_> = values.iter().map(|(field, _)| *field).collect();
        if fields != FIELDS {
            return Err(format!("its header has the fields {fields:?} and not {FIELDS:?}"));
        }
        if let Some((field, _)) = values.iter().find(|(_, value)| value.trim().is_empty()) {
            return Err(format!("its {field} is empty"));
        }
        let [kind, prevents, who, upstream, fixed_in, needs, test] =
            values.into_iter().map(|(_, value)| value).collect::<Vec<_>>().try_into().expect("there are seven");
        Ok(Self {
            name: name.to_owned(),
            kind: EditKind::ALL
                .into_iter()
                .find(|known| known.to_string() == kind)
                .ok_or_else(|| format!("its kind is {kind:?}"))?,
            prevents,
            who,
            upstream,
            fixed_in,
            needs: if needs == "none" { Vec::new() } else { needs.split(", ").map(str::to_owned).collect() },
            tests: parse_tests(&test)?,
        })
    }
}

impl EditKind {
    /// Every kind.
    pub(crate) const ALL: [Self; 5] = [Self::Security, Self::Correctness, Self::Build, Self::Feature, Self::Speed];

    /// The folder of the series that has the patches of this kind.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Security | Self::Correctness | Self::Build => "fix",
            Self::Feature => "feature",
            Self::Speed => "speed",
        }
    }
}

fn parse_tests(text: &str) -> Result<Result<Vec<(String, String)>, String>, String> {
    if let Some(why) = text.strip_prefix("none: ") {
        return Ok(Err(why.replace('\n', " ")));
    }
    text.split('\n')
        .map(|test| match test.split_once(": ") {
            Some((file, name)) if !file.contains(' ') && !name.contains(' ') => Ok((file.to_owned(), name.to_owned())),
            _ => Err(format!("its Test {test:?} is neither `file: name` nor `none: why`")),
        })
        .collect::<Result<_, _>>()
        .map(Ok)
}

fn parse_diff(text: &str) -> Result<Vec<FileChange>, String> {
    let mut lines = text.strip_suffix('\n').ok_or("its last line does not end")?.split('\n').peekable();
    let mut files: Vec<FileChange> = Vec::new();
    while let Some(line) = lines.next() {
        let old = line.strip_prefix("--- ").ok_or_else(|| format!("a line is out of place: {line:?}"))?;
        let path = lines
            .next()
            .and_then(|line| line.strip_prefix("+++ b/"))
            .filter(|path| !path.split('/').any(|part| matches!(part, "" | "." | "..")))
            .ok_or_else(|| format!("{old:?} is followed by no file of MsQuic's"))?;
        let is_new = old == "/dev/null";
        if !is_new && old.strip_prefix("a/") != Some(path) {
            return Err(format!("it makes {path} of {old}"));
        }
        if files.iter().any(|file| file.path == path) {
            return Err(format!("it has {path} twice"));
        }
        let mut hunks = Vec::new();
        while let Some(at) = lines.next_if(|line| line.starts_with("@@")) {
            let hunk =
                parse_hunk(at, &mut lines).ok_or_else(|| format!("in {path} it has a hunk that is none: {at}"))?;
            if hunk.before.is_empty() != is_new || hunk.before == hunk.after {
                return Err(format!("in {path} it has a hunk that replaces nothing: {at}"));
            }
            hunks.push(hunk);
        }
        if hunks.is_empty() || (is_new && hunks.len() != 1) {
            return Err(format!("it has {} hunks for {path}", hunks.len()));
        }
        files.push(FileChange { path: path.to_owned(), is_new, hunks });
    }
    Ok(files)
}

/// Reads the lines of a hunk, as many as `at` promises: `@@ -1,2 +3,4 @@`, and perhaps more.
fn parse_hunk<'a>(at: &str, lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> Option<Hunk> {
    let (old, new) = at.strip_prefix("@@ -")?.split_once(" @@")?.0.split_once(" +")?;
    let count = |range: &str| match range.split_once(',') {
        Some((start, count)) => start.parse::<u32>().and(count.parse()).ok(),
        None => range.parse::<u32>().ok().map(|_| 1_u32),
    };
    let (mut old, mut new) = (count(old)?, count(new)?);
    let mut hunk = Hunk { before: String::new(), after: String::new() };
    while old > 0 || new > 0 {
        let line = lines.next()?;
        let (sign, line) = line.split_at_checked(1)?;
        if matches!(sign, " " | "-") {
            old = old.checked_sub(1)?;
            hunk.before += line;
            hunk.before.push('\n');
        }
        if matches!(sign, " " | "+") {
            new = new.checked_sub(1)?;
            hunk.after += line;
            hunk.after.push('\n');
        }
        if !matches!(sign, " " | "-" | "+") {
            return None;
        }
    }
    Some(hunk)
}
