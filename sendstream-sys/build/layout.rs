//! Compares the bindings with the headers that are built, by the target's own compiler.
//!
//! Bindgen writes down what it found in C: the sizes, alignments and offsets of structures, and the
//! values of constants. Rust's compiler compares these numbers with the bindings. Here they become
//! assertions in C, so that the target's C compiler compares them with the headers. For bit fields C
//! has no such assertions. A table has what C makes of each; a test of the library looks at it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Problem;
use crate::settings::Settings;
use crate::source::Source;

/// The static library that has the table of bit fields. Programs that do not call it have none of it.
pub(crate) const LIBRARY: &str = "sendstream_layout";

/// Structures that MsQuic may append to: it hands them out, or is told how large they are.
const GROWING: [&str; 11] = [
    "QUIC_API_TABLE",
    "QUIC_CONNECTION_EVENT",
    "QUIC_GLOBAL_SETTINGS",
    "QUIC_HANDSHAKE_INFO",
    "QUIC_LISTENER_EVENT",
    "QUIC_NETWORK_STATISTICS",
    "QUIC_NEW_CONNECTION_INFO",
    "QUIC_SETTINGS",
    "QUIC_STATISTICS",
    "QUIC_STATISTICS_V2",
    "QUIC_STREAM_EVENT",
];

/// Compiles the assertions, and puts the table into a library in `OUT_DIR`.
///
/// # Errors
///
/// One line with the first thing that differs. In a checkout structures may have grown, and counts
/// with them.
pub(crate) fn check(settings: &Settings, source: &Source, copy: &Path) -> Result<(), Problem> {
    let here = settings.manifest_dir.join("src");
    let bindings = here.join("bindings.rs");
    let text = fs::read_to_string(&bindings).map_err(|error| format!("{}: {error}", bindings.display()))?;
    let file = settings.out_dir.join("layout.c");
    let text = Bindings::parse(&text).in_c(source.may_change);
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;

    let object = file.with_extension("o");
    let mut build = cc::Build::new();
    build.cargo_metadata(false).warnings(false).include(copy.join("src").join("inc")).include(here);
    let compiler = build.get_compiler();
    let output = compiler
        .to_command()
        .arg("-c")
        .arg(&file)
        .arg("-o")
        .arg(&object)
        .output()
        .map_err(|error| format!("{}: {error}", compiler.path().display()))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr);
        let reason = output.lines().find(|line| line.contains("error")).unwrap_or("the compiler does not say why");
        let remedy = if source.may_change { "this MsQuic has another C ABI" } else { "make them anew: make bindings" };
        return Err(format!("the bindings do not fit MsQuic's headers ({reason}); {remedy}"));
    }
    build
        .object(&object)
        .try_compile(LIBRARY)
        .map_err(|error| format!("no library could be made of {}: {error}", object.display()))
}

/// What the bindings say of C.
#[derive(Default)]
struct Bindings<'a> {
    /// Structures and unions by their names.
    types: BTreeMap<&'a str, Type<'a>>,
    /// Other types: name and definition.
    aliases: BTreeMap<&'a str, &'a str>,
    /// Type, name and value of each.
    constants: Vec<[&'a str; 3]>,
}

#[derive(Default)]
struct Type<'a> {
    is_union: bool,
    /// None of one that C does not define.
    size: Option<usize>,
    align: usize,
    /// Names and types, in order.
    fields: Vec<(&'a str, &'a str)>,
    offsets: BTreeMap<&'a str, usize>,
    bits: Vec<Bits<'a>>,
}

struct Bits<'a> {
    name: &'a str,
    /// The field of the bindings that has them.
    unit: &'a str,
    first: usize,
    width: usize,
}

impl<'a> Bindings<'a> {
    fn parse(text: &'a str) -> Self {
        let mut all = Self::default();
        for item in items(text) {
            if let Some((name, body)) = definition(item, "pub struct ") {
                all.types.insert(name, Type { fields: fields(body).collect(), ..Type::default() });
            } else if let Some((name, body)) = definition(item, "pub union ") {
                all.types.insert(name, Type { is_union: true, fields: fields(body).collect(), ..Type::default() });
            } else if let Some((name, body)) = definition(item, "impl ")
                && let Some(of) = all.types.get_mut(name)
            {
                of.bits = body.split("pub fn ").filter_map(bits).collect();
            } else if let Some((name, of)) = after(item, "pub type ").and_then(|item| item.split_once(" = ")) {
                all.aliases.insert(name, of.trim().trim_end_matches(';'));
            } else if let Some((name, rest)) = after(item, "pub const ").and_then(|item| item.split_once(": "))
                && let Some((of, value)) = rest.split_once(" = ")
            {
                all.constants.push([of, name, value.trim().trim_end_matches(';')]);
            } else if item.contains("const _: () =") {
                all.measure(item);
            }
        }
        all.types.retain(|name, _| name.starts_with("QUIC_"));
        all
    }

    /// Takes a structure's numbers from bindgen's own assertions.
    fn measure(&mut self, item: &'a str) {
        for assertion in item.split("::std::mem::").skip(1) {
            let Some(number) = assertion.split_once('-').and_then(|(_, rest)| rest.trim().split_once("usize")) else {
                continue;
            };
            let Ok(number) = number.0.parse() else { continue };
            if let Some(name) = between(assertion, "size_of::<", ">") {
                self.types.entry(name).or_default().size = Some(number);
            } else if let Some(name) = between(assertion, "align_of::<", ">") {
                self.types.entry(name).or_default().align = number;
            } else if let Some((name, field)) =
                between(assertion, "offset_of!(", ")").and_then(|inside| inside.split_once(','))
            {
                let field = field.trim().trim_end_matches(',').trim();
                self.types.entry(name.trim()).or_default().offsets.insert(field, number);
            }
        }
    }

    /// The same in C. With `lenient`, structures of [`GROWING`] may be larger.
    fn in_c(&self, lenient: bool) -> String {
        let mut c = InC { bindings: self, lenient, assertions: String::new(), table: String::new() };
        for (root, of) in self.types.iter().filter(|(name, of)| !name.contains("__bindgen") && of.size.is_some()) {
            c.assert(&format!("_Alignof({root})"), "==", of.align);
            c.size(root, root, of.size);
            c.members(root, of, "", 0);
        }
        c.assert("sizeof(QUIC_ADDR)", "==", 28);
        c.assert("_Alignof(QUIC_ADDR)", "==", 4);
        c.assert("sizeof(QUIC_STATUS)", "==", 4);
        for [of, name, value] in &self.constants {
            // Constants of an enumeration have its name before theirs.
            let name = name.strip_prefix(of).and_then(|name| name.strip_prefix('_')).unwrap_or(name);
            let is_count = name.ends_with("_MAX") || name.ends_with("_COUNT");
            if !(lenient && is_count) {
                c.assert(name, "==", value);
            }
        }
        format!("{HEAD}{}\n{}{}{TAIL}", c.assertions, TABLE, c.table)
    }

    /// How many bytes a type has, as far as that is the same everywhere.
    fn size(&self, of: &str) -> Option<usize> {
        if of.starts_with('*') || of.starts_with("::std::option::Option<") {
            return Some(8);
        }
        if let Some((element, count)) =
            of.strip_prefix('[').and_then(|of| of.strip_suffix("usize]")).and_then(|of| of.rsplit_once("; "))
        {
            return Some(self.size(element)? * count.parse::<usize>().ok()?);
        }
        match of {
            "u8" | "i8" | "::std::os::raw::c_char" | "::std::os::raw::c_uchar" => Some(1),
            "u16" | "i16" => Some(2),
            "u32" | "i32" | "::std::os::raw::c_int" | "::std::os::raw::c_uint" => Some(4),
            "u64" | "i64" => Some(8),
            _ => match self.types.get(of) {
                Some(of) => of.size,
                None => self.size(self.aliases.get(of)?),
            },
        }
    }
}

/// The file as it comes about.
struct InC<'a> {
    bindings: &'a Bindings<'a>,
    lenient: bool,
    assertions: String,
    table: String,
}

impl InC<'_> {
    /// The members of `of`, which is in `root` at `path` and `base` bytes from its beginning.
    fn members(&mut self, root: &str, of: &Type<'_>, path: &str, base: usize) {
        let bindings = self.bindings;
        let mut end = base;
        for (field, kind) in &of.fields {
            if of.is_union {
                end = base;
            }
            if let Some(unit) = between(kind, "__BindgenBitfieldUnit<[u8; ", "usize]>") {
                for bits in of.bits.iter().filter(|bits| bits.unit == *field) {
                    self.bits(root, path, bits, end);
                }
                end += unit.parse::<usize>().unwrap_or(0);
            } else if field.starts_with("__bindgen_anon") {
                // C has no name for it, so bindgen measures its members only.
                let Some(inner) = bindings.types.get(kind) else { continue };
                let offset = end.next_multiple_of(inner.align.max(1));
                self.members(root, inner, path, offset);
                end = offset + inner.size.unwrap_or(0);
            } else if let Some(&offset) = of.offsets.get(field) {
                let offset = base + offset;
                let path = format!("{path}{field}");
                self.assert(&format!("offsetof({root}, {path})"), "==", offset);
                match bindings.types.get(kind).filter(|_| kind.contains("__bindgen_ty")) {
                    Some(inner) => {
                        self.size(root, &format!("(({root} *)0)->{path}"), inner.size);
                        self.members(root, inner, &format!("{path}."), offset);
                    }
                    None => self.size("", &format!("(({root} *)0)->{path}"), bindings.size(kind)),
                }
                end = offset + bindings.size(kind).unwrap_or(0);
            } else if let Some(element) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix("; 0]")) {
                // It is there for its alignment.
                end = end.next_multiple_of(bindings.size(element).unwrap_or(1));
            }
        }
    }

    fn bits(&mut self, root: &str, path: &str, bits: &Bits<'_>, unit: usize) {
        let Bits { name, first, width, .. } = bits;
        let (first, all) = (unit * 8 + first, u64::MAX >> (64 - width));
        let _ = writeln!(
            self.table,
            "    {{ \"{root}.{path}{name}\", {first}, {width}, sizeof({root}), \
             &(const {root}){{ .{path}{name} = {all}u }} }},"
        );
    }

    fn size(&mut self, root: &str, of: &str, size: Option<usize>) {
        let relation = if self.lenient && GROWING.contains(&root) { ">=" } else { "==" };
        if let Some(size) = size {
            self.assert(&format!("sizeof({of})"), relation, size);
        }
    }

    fn assert(&mut self, left: &str, relation: &str, right: impl std::fmt::Display) {
        let _ = writeln!(self.assertions, "_Static_assert({left} {relation} {right}, \"{left} {relation} {right}\");");
    }
}

/// What stands on its own in the file, each without its attributes.
fn items(text: &str) -> impl Iterator<Item = &str> {
    // Each ends with the first line that has an end and no indentation.
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut length = 0;
        for line in rest.split_inclusive('\n') {
            length += line.len();
            if !line.starts_with([' ', '#', '/']) && line.trim_end().ends_with([';', '}']) {
                break;
            }
        }
        let (item, others) = rest.split_at(length);
        rest = others;
        (!item.is_empty()).then_some(item)
    })
}

/// The name and the body of what begins with `keyword`.
fn definition<'a>(item: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (name, body) = after(item, keyword)?.split_once('{')?;
    Some((name.trim(), body))
}

/// What follows `keyword`, where an item begins with it after its attributes.
fn after<'a>(item: &'a str, keyword: &str) -> Option<&'a str> {
    item.lines().find(|line| !line.starts_with(['#', '/']) && !line.is_empty())?.starts_with(keyword).then_some(())?;
    item.split_once(keyword).map(|(_, rest)| rest)
}

fn fields(body: &str) -> impl Iterator<Item = (&str, &str)> {
    body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.trim_end_matches(',').split_once(": "))
}

/// The bit field behind a getter of the bindings.
fn bits(function: &str) -> Option<Bits<'_>> {
    let (name, body) = function.split_once("(&self)")?;
    let unit = body.get(body.find("_bitfield_")?..)?;
    let unit = unit.split(|c: char| c != '_' && !c.is_alphanumeric()).next()?;
    let (first, width) = between(body, "get_const::<", "u8")?.split_once("usize,")?;
    Some(Bits { name, unit, first: first.trim().parse().ok()?, width: width.trim().parse().ok()? })
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(behind)?.0)
}

const HEAD: &str = "\
#include <stddef.h>
#include <string.h>
#include \"bindings.h\"

";

const TABLE: &str = "\
static const struct {
    const char *name;
    unsigned first, width, size;
    const void *value;
} bit_fields[] = {
";

const TAIL: &str = "\
};

/* The first bit field that does not have exactly the bits that the bindings give it, if any. */
const char *sendstream_other_bit_field(void) {
    for (size_t i = 0; i < sizeof(bit_fields) / sizeof(bit_fields[0]); ++i) {
        unsigned char expected[1024] = { 0 };
        unsigned last = bit_fields[i].first + bit_fields[i].width;
        for (unsigned bit = bit_fields[i].first; bit < last; ++bit) {
            expected[bit / 8] |= (unsigned char)(1 << bit % 8);
        }
        if (bit_fields[i].size > sizeof(expected) || memcmp(expected, bit_fields[i].value, bit_fields[i].size) != 0) {
            return bit_fields[i].name;
        }
    }
    return NULL;
}

/* How many there are. */
size_t sendstream_bit_fields(void) {
    return sizeof(bit_fields) / sizeof(bit_fields[0]);
}
";
