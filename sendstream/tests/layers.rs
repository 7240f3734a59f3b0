//! Holds the layers of `sendstream/src`, from below: `types`, `native`, `driver`, the public API.
//! Nothing points up, no circle of imports has more than a few files, and unsafe code and C stay
//! where `ARCHITECTURE.md` says.
//!
//! It reads sources as tokens, so it needs no network and no native library, and is right after an
//! edit: every `use`, and every path that begins with `crate`, `super`, `self` or a child module,
//! is followed to the file of the longest module path that is one. Test code and comments do not
//! count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A layer, and what stands above all of them. A file may import from its own layer and from lower
/// ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Types,
    Native,
    Driver,
    Public,
    Above,
}

/// Where the file of a module belongs, by the first name in its path. A new file of the crate's
/// root gets its place here.
fn layer_of(module: &[String]) -> Option<Layer> {
    Some(match module.first().map(String::as_str) {
        None | Some("benching" | "fuzzing" | "guide") => Layer::Above,
        Some("types") => Layer::Types,
        Some("native") => Layer::Native,
        Some("driver") => Layer::Driver,
        Some(
            "bi_stream" | "cancel_safety" | "client" | "connection" | "datagram" | "early" | "endpoint" | "io"
            | "runtime" | "metrics" | "process" | "recv_stream" | "send_stream" | "server",
        ) => Layer::Public,
        Some(_) => return None,
    })
}

const MOST_FILES_OF_A_CIRCLE: usize = 4;

#[test]
fn every_file_belongs_to_a_layer() {
    let homeless: Vec<_> = the_crate().files.into_iter().filter(|file| layer_of(&file.module).is_none()).collect();
    assert!(homeless.is_empty(), "give these a place in `layer_of`: {:?}", names(&homeless));
}

#[test]
fn no_import_points_up() {
    let up: Vec<_> = the_crate().upward().iter().map(ToString::to_string).collect();
    assert!(up.is_empty(), "imports that point up:\n{}", up.join("\n"));
}

#[test]
fn no_circle_of_imports_has_more_than_a_few_files() {
    let the_crate = the_crate();
    if let Some(circle) = the_crate.circles().iter().find(|circle| circle.len() > MOST_FILES_OF_A_CIRCLE) {
        let is_inside = |import: &&Import| circle.contains(&import.from) && circle.contains(&import.to);
        let imports: Vec<_> = the_crate.imports.iter().filter(is_inside).map(ToString::to_string).collect();
        panic!("a circle of {} files: {circle:#?}\nby these imports:\n{}", circle.len(), imports.join("\n"));
    }
}

#[test]
fn values_and_the_public_api_have_neither_unsafe_code_nor_c() {
    let mut found = BTreeSet::new();
    for file in the_crate().files {
        // The root stands above the layers, and is what users see.
        if file.module.is_empty() || matches!(layer_of(&file.module), Some(Layer::Types | Layer::Public)) {
            for word in ["unsafe", "sendstream_sys"] {
                if file.tokens.iter().any(|token| token == word) {
                    found.insert((file.name.clone(), word));
                }
            }
        }
    }
    assert!(found.is_empty(), "files that say what they must not: {found:?}");
}

#[test]
fn the_core_has_neither_unsafe_code_nor_c() {
    let core = root().join("sendstream-core");
    let source = read(&core.join("src/lib.rs"));
    assert!(source.lines().any(|line| line == "#![forbid(unsafe_code)]"), "the core does not forbid unsafe code");
    let manifest = read(&core.join("Cargo.toml"));
    assert!(!manifest.contains("sendstream-sys"), "the core depends on the native library");
    for file in rust_files(&core.join("src")) {
        let tokens = tokens(&read(&file));
        assert!(!tokens.iter().any(|token| token == "sendstream_sys"), "{} names C", file.display());
    }
}

#[test]
fn the_newcomers_walk_names_functions_that_exist() {
    let guide = read(&root().join("CONTRIBUTING.md"));
    let (_, walk) = guide.split_once("## A newcomer's walk").expect("CONTRIBUTING.md ends with a walk");
    let quoted = |cell: &str| cell.trim().strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
    let steps: Vec<_> = walk
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|');
            Some((quoted(cells.next()?)?, quoted(cells.next()?)?))
        })
        .collect();
    assert!(steps.len() > 10, "the walk has tables of functions and their files");
    for (function, file) in steps {
        let below = if file.starts_with("sendstream-core/") { root() } else { root().join("sendstream/src") };
        let is_start =
            |found: &[String]| found[0] == "fn" && found[1] == function && matches!(found[2].as_str(), "(" | "<");
        let is_there = tokens(&read(&below.join(&file))).windows(3).any(is_start);
        assert!(is_there, "there is no function `{function}` in {file}");
    }
}

#[test]
fn the_code_map_names_files_that_exist_and_says_where_unsafe_code_is() {
    let page = read(&root().join("ARCHITECTURE.md"));
    let rows = code_map(&page);
    assert!(rows.len() > 20, "the code map of ARCHITECTURE.md was not found");
    for MapRow { paths, unsafe_code, line } in rows {
        let mut with_unsafe = BTreeSet::new();
        for path in &paths {
            let [in_crate, in_root] = [root().join("sendstream/src").join(path), root().join(path)];
            let file = if in_crate.exists() { in_crate } else { in_root };
            assert!(file.exists(), "the code map names {path}, which does not exist: {line}");
            let files = if file.is_dir() { rust_files(&file) } else { vec![file] };
            for file in files.iter().filter(|file| has_unsafe_code(file)) {
                with_unsafe.insert(file.file_stem().expect("a file has a name").to_string_lossy().into_owned());
            }
        }
        if unsafe_code.starts_with("no") {
            assert!(with_unsafe.is_empty(), "unsafe code in {with_unsafe:?}, where the code map says: {line}");
        } else if unsafe_code.starts_with("yes") {
            assert!(!with_unsafe.is_empty(), "no unsafe code where the code map says: {line}");
        } else {
            let named: BTreeSet<_> = in_backticks(&unsafe_code).into_iter().collect();
            assert_eq!(with_unsafe, named, "files with unsafe code, and those that the code map names: {line}");
        }
    }
}

#[test]
fn the_code_map_has_every_file() {
    let page = read(&root().join("ARCHITECTURE.md"));
    let named: BTreeSet<String> = code_map(&page).into_iter().flat_map(|row| row.paths).collect();
    let is_named =
        |name: &str| named.iter().any(|path| path == name || (path.ends_with('/') && name.starts_with(path)));
    let of_library = the_crate().files.into_iter().map(|file| file.name);
    let core = root().join("sendstream-core/src");
    let of_core = rust_files(&core).into_iter().filter_map(|file| {
        let name = file.strip_prefix(&core).ok()?.to_str()?.to_owned();
        (!name.contains("tests")).then(|| format!("sendstream-core/src/{name}"))
    });
    let missing: Vec<_> = of_library.chain(of_core).filter(|name| !is_named(name)).collect();
    assert!(missing.is_empty(), "give these a row in the code map of ARCHITECTURE.md: {missing:?}");
}

/// A row of the code map.
struct MapRow<'a> {
    paths: Vec<String>,
    unsafe_code: String,
    line: &'a str,
}

/// The rows of the table below `## Code map`: its first column names files and folders, its last
/// says where unsafe code is.
fn code_map(page: &str) -> Vec<MapRow<'_>> {
    let section = page.split("## Code map").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .filter_map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let (first, last) = (cells.first()?, cells.last()?);
            let paths = in_backticks(first).iter().flat_map(|path| alternatives(path)).collect();
            Some(MapRow { paths, unsafe_code: (*last).to_owned(), line })
        })
        .collect()
}

fn in_backticks(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `a/{b,c}.rs` stands for two files.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((names, after)) = rest.split_once('}') else { return vec![path.to_owned()] };
    names.split(',').map(|name| format!("{before}{}{after}", name.trim())).collect()
}

fn has_unsafe_code(file: &Path) -> bool {
    let tokens = tokens(&read(file));
    without_tests(&tokens).0.iter().any(|token| token == "unsafe")
}

/// The files of a crate, without those of tests, and who imports from whom.
#[derive(Debug)]
struct Crate {
    files: Vec<File>,
    imports: Vec<Import>,
}

#[derive(Debug)]
struct File {
    /// Its path below `src`.
    name: String,
    /// Its module's path: nothing for the root.
    module: Vec<String>,
    /// Its code, without test code and comments.
    tokens: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: String,
    to: String,
    /// As it stands in the source.
    path: String,
}

impl std::fmt::Display for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}, by `{}`", self.from, self.to, self.path)
    }
}

impl Crate {
    /// Reads sources: each is a path below `src`, and the text.
    fn new(sources: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut files = Vec::new();
        let mut test_modules: Vec<Vec<String>> = Vec::new();
        for (name, text) in sources {
            let module = module_of(&name);
            let (tokens, tests) = without_tests(&tokens(&text));
            test_modules.extend(tests.into_iter().map(|test| [module.clone(), vec![test]].concat()));
            files.push(File { name, module, tokens });
        }
        files.retain(|file| !test_modules.iter().any(|test| file.module.starts_with(test)));
        let by_module: BTreeMap<_, _> = files.iter().map(|file| (file.module.clone(), file.name.clone())).collect();
        let mut imports = BTreeSet::new();
        for file in &files {
            for (path, module) in paths(file, &|module| by_module.contains_key(module)) {
                let file_of = (0..=module.len()).rev().find_map(|length| by_module.get(&module[..length]));
                if let Some(to) = file_of.filter(|to| **to != file.name) {
                    imports.insert(Import { from: file.name.clone(), to: to.clone(), path });
                }
            }
        }
        Self { files, imports: imports.into_iter().collect() }
    }

    /// Imports from a higher layer.
    fn upward(&self) -> Vec<Import> {
        let layer = |name: &str| layer_of(&module_of(name));
        self.imports.iter().filter(|import| layer(&import.to) > layer(&import.from)).cloned().collect()
    }

    /// Sets of files in which each imports from each, over others perhaps. Imports that point up
    /// are wrong by themselves and do not count here.
    fn circles(&self) -> Vec<BTreeSet<String>> {
        let up = self.upward();
        let reached: BTreeMap<&str, BTreeSet<&str>> = self
            .files
            .iter()
            .map(|file| {
                let (mut seen, mut next) = (BTreeSet::new(), vec![file.name.as_str()]);
                while let Some(from) = next.pop() {
                    let imports = self.imports.iter().filter(|import| import.from == from && !up.contains(import));
                    next.extend(imports.map(|import| import.to.as_str()).filter(|to| seen.insert(*to)));
                }
                (file.name.as_str(), seen)
            })
            .collect();
        let circle_of = |file: &str| -> BTreeSet<String> {
            reached[file]
                .iter()
                .filter(|other| reached[*other].contains(file))
                .map(|other| (*other).to_owned())
                .collect()
        };
        let circles: BTreeSet<_> =
            reached.keys().map(|file| circle_of(file)).filter(|circle| circle.len() > 1).collect();
        circles.into_iter().collect()
    }
}

/// The module whose file has this path below `src`.
fn module_of(name: &str) -> Vec<String> {
    let path = name.trim_end_matches(".rs");
    let module: Vec<_> = path.split('/').filter(|part| *part != "mod").map(str::to_owned).collect();
    if module == ["lib"] { Vec::new() } else { module }
}

/// Every path in a file that leads to a module of the crate: as it stands there, and from the
/// crate's root.
fn paths(file: &File, is_file: &dyn Fn(&[String]) -> bool) -> Vec<(String, Vec<String>)> {
    let tokens: Vec<&str> = file.tokens.iter().map(String::as_str).collect();
    let token = |index: usize| tokens.get(index).copied().unwrap_or_default();
    let mut found = Vec::new();
    // The inline modules that the place is in, each with the number of braces around it.
    let (mut inline, mut depth): (Vec<(String, usize)>, usize) = (Vec::new(), 0);
    let mut index = 0;
    while index < tokens.len() {
        let scope = || [file.module.clone(), inline.iter().map(|(name, _)| name.clone()).collect()].concat();
        let after_path = index > 0 && token(index - 1) == "::";
        match token(index) {
            "mod" if token(index + 2) == "{" => {
                inline.push((token(index + 1).to_owned(), depth));
                depth += 1;
                index += 3;
                continue;
            }
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline.pop_if(|(_, outside)| *outside == depth);
            }
            "use" if token(index + 1) != "<" => {
                let mut imported = Vec::new();
                index = use_tree(&tokens, index + 1, &[], &mut imported);
                found.extend(imported.into_iter().map(|path| (path, scope())));
                continue;
            }
            // A visibility: `pub(in crate::here)`.
            "in" if index > 1 && token(index - 1) == "(" && token(index - 2) == "pub" => {
                while token(index) != ")" && index < tokens.len() {
                    index += 1;
                }
            }
            name if token(index + 1) == "::" && !after_path && is_name(name) => {
                let mut path = vec![name.to_owned()];
                while token(index + 1) == "::" && is_name(token(index + 2)) {
                    path.push(token(index + 2).to_owned());
                    index += 2;
                }
                found.push((path, scope()));
            }
            _ => {}
        }
        index += 1;
    }
    found.into_iter().filter_map(|(path, scope)| Some((path.join("::"), from_root(&path, scope, is_file)?))).collect()
}

/// Reads the tree of a `use` that begins at `index`, each of its paths below `prefix`. Returns
/// where it ends.
fn use_tree(tokens: &[&str], mut index: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    while index < tokens.len() {
        match tokens[index] {
            "{" => {
                index += 1;
                while index < tokens.len() && tokens[index] != "}" {
                    index = use_tree(tokens, index, &path, found);
                    if tokens.get(index) == Some(&",") {
                        index += 1;
                    }
                }
                return index + 1;
            }
            // Of another crate, whatever its name.
            "::" if path.is_empty() => path.push(String::new()),
            "::" => {}
            "as" => index += 1,
            "*" => {}
            name if is_name(name) => path.push(name.to_owned()),
            _ => break,
        }
        index += 1;
    }
    if !path.is_empty() {
        found.push(path);
    }
    index
}

/// The path from the crate's root of one that is written in the module `scope`; `None` for another
/// crate's.
fn from_root(path: &[String], scope: Vec<String>, is_file: &dyn Fn(&[String]) -> bool) -> Option<Vec<String>> {
    let mut module = scope;
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => {
            module.clear();
            rest = &rest[1..];
        }
        "self" | "super" => {
            while let Some(first @ ("self" | "super")) = rest.first().map(String::as_str) {
                if first == "super" {
                    module.pop();
                }
                rest = &rest[1..];
            }
        }
        // A child module of this one, or a name of another crate or of this file.
        child => {
            let child = [module.clone(), vec![child.to_owned()]].concat();
            if !is_file(&child) {
                return None;
            }
        }
    }
    // `use a::{self}` is `use a`.
    module.extend(rest.iter().filter(|name| *name != "self").cloned());
    Some(module)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The tokens without items that are for tests only, and the names of modules among those that have
/// files of their own.
fn without_tests(tokens: &[String]) -> (Vec<String>, Vec<String>) {
    let token = |index: usize| tokens.get(index).map_or("", String::as_str);
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut index = 0;
    while index < tokens.len() {
        if !(token(index) == "#" && token(index + 1) == "[" && token(index + 2) == "cfg") {
            kept.push(tokens[index].clone());
            index += 1;
            continue;
        }
        let end = after_group(tokens, index + 1);
        let condition = &tokens[index..end];
        let says = |word: &str| condition.iter().any(|token| token == word);
        if !says("test") || says("not") {
            kept.extend_from_slice(condition);
            index = end;
            continue;
        }
        index = end;
        while token(index) == "#" {
            index = after_group(tokens, index + 1);
        }
        let (start, is_field) = (index, token(index + 1) == ":");
        loop {
            match token(index) {
                "" | "}" => break,
                ";" => {
                    index += 1;
                    break;
                }
                "," if is_field => {
                    index += 1;
                    break;
                }
                "{" => {
                    index = after_group(tokens, index);
                    // A `use` goes on behind its braces.
                    index += usize::from(token(index) == ";");
                    break;
                }
                "(" | "[" => index = after_group(tokens, index),
                _ => index += 1,
            }
        }
        let item = &tokens[start..index];
        if let Some(place) = item.iter().position(|token| token == "mod")
            && item.get(place + 2).is_some_and(|token| token == ";")
        {
            modules.push(item[place + 1].clone());
        }
    }
    (kept, modules)
}

/// Behind the brackets that open at `index`.
fn after_group(tokens: &[String], mut index: usize) -> usize {
    let mut depth = 0usize;
    while index < tokens.len() {
        match tokens[index].as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        index += 1;
        if depth == 0 {
            break;
        }
    }
    index
}

/// Names, brackets, `::`, and every other character by itself. Comments are none; documentation is
/// an attribute, and every literal is `""`.
fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    flatten(text.parse().unwrap_or_else(|error| panic!("no Rust: {error}")), &mut found);
    found
}

fn flatten(stream: TokenStream, found: &mut Vec<String>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                found.push(open.to_owned());
                flatten(group.stream(), found);
                found.push(close.to_owned());
            }
            TokenTree::Punct(first) if first.as_char() == ':' && first.spacing() == Spacing::Joint => {
                let is_colon = |next: &TokenTree| matches!(next, TokenTree::Punct(next) if next.as_char() == ':');
                let colons = if trees.next_if(is_colon).is_some() { "::" } else { ":" };
                found.push(colons.to_owned());
            }
            TokenTree::Literal(_) => found.push("\"\"".to_owned()),
            TokenTree::Ident(_) | TokenTree::Punct(_) => found.push(tree.to_string()),
        }
    }
}

fn the_crate() -> Crate {
    let source = root().join("sendstream/src");
    Crate::new(rust_files(&source).into_iter().map(|file| {
        let name = file.strip_prefix(&source).expect("it is below").to_string_lossy().replace('\\', "/");
        (name, read(&file))
    }))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace").to_owned()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn names(files: &[File]) -> Vec<&str> {
    files.iter().map(|file| file.name.as_str()).collect()
}

/// The checks can fail.
mod the_reader {
    use super::*;

    fn crate_of(sources: &[(&str, &str)]) -> Crate {
        Crate::new(sources.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
    }

    /// The imports of `text` as the file `native/api.rs`, in a crate with a few others.
    fn imports(text: &str) -> Vec<String> {
        let others = ["lib.rs", "client.rs", "driver/wakes.rs", "native.rs", "native/api/table.rs", "types/error.rs"];
        let sources = others.iter().map(|name| (*name, "")).chain([("native/api.rs", text)]);
        let found = crate_of(&sources.collect::<Vec<_>>());
        let files: BTreeSet<_> = found.imports.into_iter().map(|import| import.to).collect();
        files.into_iter().collect()
    }

    #[test]
    fn an_import_that_points_up_is_found() {
        let found = crate_of(&[
            ("lib.rs", "mod driver; mod native; mod types;"),
            ("native/api.rs", "use crate::{driver::wakes::bracket, types::error::NativeError};"),
            ("driver/wakes.rs", "use crate::types::error::NativeError;"),
            ("types/error.rs", ""),
        ]);
        let up: Vec<_> = found.upward().iter().map(ToString::to_string).collect();
        assert_eq!(up, ["native/api.rs -> driver/wakes.rs, by `crate::driver::wakes::bracket`"]);
    }

    #[test]
    fn a_name_of_the_root_points_up() {
        let found = crate_of(&[("lib.rs", ""), ("types/error.rs", "fn of() -> crate::Client { todo!() }")]);
        assert_eq!(found.upward().len(), 1);
    }

    #[test]
    fn a_circle_is_found_and_a_chain_is_none() {
        let found = crate_of(&[
            ("types/a.rs", "use super::b::B;"),
            ("types/b.rs", "fn f() { crate::types::c::f() }"),
            ("types/c.rs", "use crate::types::{a::A, d};"),
            ("types/d.rs", ""),
        ]);
        let circle: BTreeSet<_> = ["types/a.rs", "types/b.rs", "types/c.rs"].map(str::to_owned).into();
        assert_eq!(found.circles(), [circle]);
    }

    #[test]
    fn a_file_without_a_layer_is_found() {
        assert_eq!(layer_of(&module_of("misc/helpers.rs")), None);
        assert_eq!(layer_of(&module_of("server/incoming.rs")), Some(Layer::Public));
        assert_eq!(layer_of(&module_of("lib.rs")), Some(Layer::Above));
    }

    #[test]
    fn imports_are_followed_however_they_are_written() {
        assert_eq!(imports("use crate::driver::wakes::{self, Blame};"), ["driver/wakes.rs"]);
        assert_eq!(imports("pub(crate) use crate::client as other;"), ["client.rs"]);
        assert_eq!(imports("use super::super::types::error::*;"), ["types/error.rs"]);
        assert_eq!(imports("use super::{registration, api::table::Row};"), ["native.rs", "native/api/table.rs"]);
        assert_eq!(imports("fn f(x: &crate::types::error::NativeError<'_>) {}"), ["types/error.rs"]);
        assert_eq!(imports("macro_rules! m { () => { $crate::client::f() } }"), ["client.rs"]);
        assert_eq!(imports("mod table; fn f() { table::row() }"), ["native/api/table.rs"]);
        assert_eq!(imports("mod table; pub use table::Row;"), ["native/api/table.rs"]);
        assert_eq!(imports("mod inner { use super::super::super::client; }"), ["client.rs"]);
    }

    #[test]
    fn other_crates_and_the_file_itself_are_no_imports() {
        for text in [
            "use std::client; use ::client::Client; use sendstream_core::wait;",
            "use self::inner::A; mod inner { use super::B; }",
            "pub(in crate::client) fn f() {}",
            "fn f() -> impl Iterator + use<'_> { Error::from(1) }",
        ] {
            assert_eq!(imports(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn comments_and_literals_are_no_imports() {
        for text in [
            "/// [`f`](crate::client::f)\n// use crate::client;\n/* use /* crate::client */ crate::client; */",
            r##"const A: &str = "crate::client::\"crate::client"; const B: &str = r#"crate::client::" "#;"##,
            "const QUOTE: char = '\"'; // crate::client::\nconst OTHER: u8 = b'\\'';",
        ] {
            assert_eq!(imports(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(imports("fn f<'a>(x: &'a u8) { let c = '\"'; crate::client::f() }"), ["client.rs"]);
    }

    #[test]
    fn test_code_is_no_import() {
        for text in [
            "#[cfg(test)]\nmod tests { use super::*; use crate::client; fn f() { {} } }",
            "#[cfg(test)]\nuse crate::{client, driver::wakes};",
            "#[cfg(all(test, loom))]\n#[expect(dead_code)]\nfn f<A, B>(a: [A; 2]) -> B { crate::client::f() }",
            "struct S { #[cfg(test)]\n field: crate::client::F, other: u8 }",
        ] {
            assert_eq!(imports(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(imports("#[cfg(test)] use std::fmt; use crate::client;"), ["client.rs"]);
        assert_eq!(imports("struct S { #[cfg(test)] a: A<u8>, b: crate::client::C }"), ["client.rs"]);
        assert_eq!(imports("#[cfg(not(test))] use crate::client;"), ["client.rs"]);
    }

    #[test]
    fn files_of_tests_do_not_count() {
        let found = crate_of(&[
            ("types/a.rs", "#[cfg(test)]\nmod tests;"),
            ("types/a/tests.rs", "use crate::client::C;"),
            ("types/a/tests/deep.rs", "use crate::client::C;"),
            ("client.rs", ""),
        ]);
        assert_eq!(names(&found.files), ["types/a.rs", "client.rs"]);
        assert!(found.imports.is_empty());
    }

    #[test]
    fn a_row_of_the_code_map_names_files_and_where_unsafe_code_is() {
        let page = "## Code map\n\n| file | what | unsafe |\n| --- | --- | --- |\n| `a.rs`, `b/{c,d}.rs` | x | in `c` |\n\n## On\n";
        let rows = code_map(page);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].paths, ["a.rs", "b/c.rs", "b/d.rs"]);
        assert_eq!(in_backticks(&rows[0].unsafe_code), ["c"]);
    }
}
