//! The guide's tables are right. The one for quinn's users names every public item of quinn's, and
//! nothing that quinn has not; that what it names of Sendstream's exists is for rustdoc to check: those
//! are links. The one of errors has their texts as they are.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

#[test]
fn every_public_item_of_quinns_is_in_the_table_and_no_other() {
    let quinn = quinns_items();
    assert!(quinn.len() > 200, "quinn's sources are read wrongly: {quinn:?}");
    let table: BTreeSet<_> = rows().into_iter().flat_map(|(quinns, _)| quoted(&quinns)).collect();
    let missing: Vec<_> = quinn.difference(&table).collect();
    let unknown: Vec<_> = table.difference(&quinn).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:#?}, not of quinn's: {unknown:#?}");
}

#[test]
fn every_row_has_a_counterpart_or_a_reason() {
    for (quinns, ours) in rows() {
        let has_reason = ours.strip_prefix("none").is_some_and(|rest| rest.trim().len() > 10);
        let has_counterpart = ours.contains("[`") || ours.contains("the same names") || ours.contains("`AsyncWrite`");
        assert!(has_reason || has_counterpart, "{quinns}: {ours}");
    }
}

#[test]
fn every_text_of_an_error_is_one_that_an_error_has() {
    let texts = error_texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(texts.len() > 100, "the sources are read wrongly: {texts:?}");
    let mut count = 0;
    for row in page("troubleshooting.md").lines().filter_map(|line| line.strip_prefix("| `")) {
        // Up to what differs from case to case: a number, or a name before one.
        let quoted = row.split('`').next().unwrap();
        let fixed = quoted.split(|letter: char| letter.is_ascii_digit() || letter == '_').next().unwrap();
        let known = match fixed.strip_prefix("... ") {
            Some(end) => texts.iter().any(|text| text.contains(end)),
            None => texts.iter().any(|text| {
                let text = text.split('{').next().unwrap();
                text.len() > 5 && (fixed.starts_with(text) || text.starts_with(fixed))
            }),
        };
        assert!(known, "no error has this text: {quoted}");
        count += 1;
    }
    assert!(count >= 12, "the page is read wrongly: {count} rows");
}

/// What `#[error("...")]` says in all of the sources below `folder`.
fn error_texts(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts.extend(error_texts(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(path).unwrap();
            let attributes = source.split("#[error(").skip(1).map(str::trim_start);
            texts.extend(attributes.filter_map(|rest| rest.strip_prefix('"')?.split("\")").next().map(str::to_owned)));
        }
    }
    texts
}

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide").join(name)).unwrap()
}

/// The cells of each row of the table for quinn's users.
fn rows() -> Vec<(String, String)> {
    page("quinn.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `").map(|row| format!("`{row}")))
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 3, "{row}");
            (cells[0].to_owned(), cells[1].to_owned())
        })
        .collect()
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What quinn exports, and the public methods of those types.
fn quinns_items() -> BTreeSet<String> {
    let (quinn, proto) = (sources("quinn-0.11"), sources("quinn-proto-0.11"));
    let mut items = exports(tokens(&quinn.join("lib.rs")));
    let files = ["connection", "endpoint", "incoming", "recv_stream", "send_stream"].map(|file| (&quinn, file));
    for (folder, file) in files.into_iter().chain([(&proto, "config/mod"), (&proto, "config/transport")]) {
        for method in methods(tokens(&folder.join(file).with_extension("rs"))) {
            if method.split_once("::").is_some_and(|(of, _)| items.contains(of)) {
                items.insert(method);
            }
        }
    }
    items
}

/// The names in `pub use`, and none in `pub(crate) use`.
fn exports(tokens: Vec<TokenTree>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate() {
        if is(token, "pub") && tokens.get(at + 1).is_some_and(|next| is(next, "use")) {
            let path: Vec<_> = tokens[at + 2..]
                .iter()
                .take_while(|token| !matches!(token, TokenTree::Punct(p) if p.as_char() == ';'))
                .collect();
            match path.last() {
                Some(TokenTree::Group(list)) => names.extend(list.stream().into_iter().filter_map(ident)),
                Some(name) => names.extend(ident((*name).clone())),
                None => {}
            }
        }
    }
    names
}

/// `Type::method` of each public method in an `impl Type`.
fn methods(tokens: Vec<TokenTree>) -> Vec<String> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let (true, Some(TokenTree::Ident(of)), Some(TokenTree::Group(body))) =
            (is(token, "impl"), tokens.get(at + 1), tokens.get(at + 2))
        else {
            continue;
        };
        if body.delimiter() == Delimiter::Brace {
            let body: Vec<_> = body.stream().into_iter().collect();
            for (at, token) in body.iter().enumerate() {
                let mut next = body[at + 1..].iter().skip_while(|token| is(token, "async"));
                if let (true, Some(true), Some(TokenTree::Ident(name))) =
                    (is(token, "pub"), next.next().map(|token| is(token, "fn")), next.next())
                {
                    found.push(format!("{of}::{name}"));
                }
            }
        }
    }
    found
}

fn is(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn ident(token: TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

fn tokens(file: &Path) -> Vec<TokenTree> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.parse::<TokenStream>().unwrap().into_iter().collect()
}

/// Where Cargo has the sources of a crate, the beginning of whose name and version this is.
fn sources(versioned: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").expect("cargo runs this");
    let run = |args: &[&str]| {
        let output = Command::new(&cargo).args(args).output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        if output.status.success() { Ok(stdout) } else { Err(stderr) }
    };
    let version = run(&["-vV"]).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // Of what other systems need nothing is on this machine. If only this test is built, then not all of what
    // other packages need here either, which Cargo fetches if it may.
    let metadata = ["metadata", "--format-version", "1", "--filter-platform", host];
    let metadata = run(&[&metadata[..], &["--offline"]].concat()).or_else(|_| run(&metadata));
    let metadata = metadata.unwrap_or_else(|stderr| panic!("{stderr}"));
    let manifest = metadata
        .split("\"manifest_path\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .find(|manifest| {
            Path::new(manifest).parent().unwrap().file_name().unwrap().to_string_lossy().starts_with(versioned)
        })
        .unwrap_or_else(|| panic!("Cargo knows of no {versioned}"));
    Path::new(manifest).with_file_name("src")
}
