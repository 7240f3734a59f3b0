//! The series of patches: its headers say what is so, and it makes of MsQuic's sources what is
//! linked.

#[path = "../build/apply.rs"]
mod apply;
#[expect(dead_code, reason = "the build and the tool take all of the sources, this only what changes")]
#[path = "../build/crate_sources.rs"]
mod crate_sources;
#[path = "../build/patch.rs"]
mod patch;
#[path = "../build/series.rs"]
mod series;
#[path = "../build/shared.rs"]
mod shared;
#[path = "../examples/patches/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};

use patch::{EditKind, Patch};
use sendstream_sys as sys;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn load() -> Vec<Patch> {
    series::load(&series::folder(here())).unwrap()
}

/// The crate's sources, as far as `series` changes them.
fn sources(series: &[Patch]) -> BTreeMap<&str, String> {
    let root = crate_sources::find(&crate_sources::MSQUIC, here()).unwrap().root;
    let paths = series.iter().flat_map(|patch| &patch.files).map(|file| file.path.as_str());
    paths.filter_map(|path| Some((path, fs::read_to_string(root.join(path)).ok()?))).collect()
}

/// The root of the repository, which a crate from a registry is not in.
fn repository() -> Option<PathBuf> {
    let root = here().parent().unwrap();
    let is_there = root.join("SECURITY.md").is_file();
    if !is_there {
        eprintln!("SKIPPED: this is no checkout of Sendstream's repository");
    }
    is_there.then(|| root.to_owned())
}

#[test]
fn the_series_names_every_patch_and_each_has_a_header_that_is_complete() {
    // Reading them is the check of the headers.
    let known: BTreeSet<_> = load().iter().map(series::path).collect();
    let folder = series::folder(here());
    let mut found = BTreeSet::new();
    for kind in EditKind::ALL.map(EditKind::folder) {
        for entry in fs::read_dir(folder.join(kind)).unwrap() {
            found.insert(format!("{kind}/{}", entry.unwrap().file_name().to_string_lossy()));
        }
    }
    assert_eq!(found, known);
}

#[test]
fn the_series_fits_the_sources_of_the_crate() {
    let series = load();
    let sources = sources(&series);
    let outcome = apply::all(&series, |file| sources.get(file).cloned());
    assert_eq!(outcome.refused, [""; 0]);
    assert_eq!(outcome.made.len(), series.len());
}

#[test]
fn the_error_codes_of_the_transport_are_those_of_rfc_9000() {
    // §20.1, and RFC 9368 §7 for the last.
    const CODES: [(&str, &str); 17] = [
        ("NO_ERROR", "0x0"),
        ("INTERNAL_ERROR", "0x1"),
        ("CONNECTION_REFUSED", "0x2"),
        ("FLOW_CONTROL_ERROR", "0x3"),
        ("STREAM_LIMIT_ERROR", "0x4"),
        ("STREAM_STATE_ERROR", "0x5"),
        ("FINAL_SIZE_ERROR", "0x6"),
        ("FRAME_ENCODING_ERROR", "0x7"),
        ("TRANSPORT_PARAMETER_ERROR", "0x8"),
        ("CONNECTION_ID_LIMIT_ERROR", "0x9"),
        ("PROTOCOL_VIOLATION", "0xA"),
        ("APPLICATION_ERROR", "0xC"),
        ("CRYPTO_BUFFER_EXCEEDED", "0xD"),
        ("KEY_UPDATE_ERROR", "0xE"),
        ("AEAD_LIMIT_REACHED", "0xF"),
        ("CRYPTO_ERROR(TlsAlertCode)", "((QUIC_VAR_INT)(0x100 | (TlsAlertCode)))"),
        ("VERSION_NEGOTIATION_ERROR", "0x11"),
    ];
    let series = load();
    let sources = sources(&series);
    let outcome = apply::all(&series, |file| sources.get(file).cloned());
    let header = &outcome.texts["src/core/frame.h"];
    let defined: BTreeMap<_, _> = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define QUIC_ERROR_")?.split_once(' '))
        .map(|(name, code)| (name, code.split("//").next().unwrap().trim()))
        // One alert each, and what MsQuic sends without the edit `application-error-code`.
        .filter(|(name, _)| !name.starts_with("CRYPTO_") || CODES.iter().any(|(code, _)| code == name))
        .filter(|(name, _)| *name != "APPLICATION_ERROR_MSQUIC")
        .collect();
    assert_eq!(defined, BTreeMap::from(CODES));
}

#[test]
fn an_edit_says_which_others_it_needs() {
    let series = load();
    let sources = sources(&series);
    for left_out in series.iter().map(|patch| &patch.header.name) {
        let mut without: Vec<&Patch> = Vec::new();
        let mut gone = vec![left_out];
        for patch in &series {
            let header = &patch.header;
            if header.name == *left_out || header.needs.iter().any(|need| gone.contains(&need)) {
                gone.push(&header.name);
            } else {
                without.push(patch);
            }
        }
        let outcome = apply::all(without, |file| sources.get(file).cloned());
        assert_eq!(outcome.refused, [""; 0], "without {left_out}");
    }
}

/// So `SENDSTREAM_MSQUIC_SPEED_EDITS=off` takes nothing away but speed.
#[test]
fn only_speed_edits_need_speed_edits() {
    let series = load();
    let kind = |name: &String| series.iter().find(|patch| patch.header.name == *name).unwrap().header.kind;
    for Patch { header, .. } in &series {
        let needs_speed = header.needs.iter().any(|need| kind(need) == EditKind::Speed);
        assert!(header.kind == EditKind::Speed || !needs_speed, "{}", header.name);
    }
}

#[test]
fn the_test_that_a_header_names_exists() {
    let Some(root) = repository() else { return };
    for Patch { header, .. } in load() {
        for (file, name) in header.tests.iter().flatten() {
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            assert!(text.contains(&format!("fn {name}(")), "{}: there is no {name} in {file}", header.name);
        }
    }
}

#[test]
fn an_edit_that_ends_with_a_release_says_which_change_of_msquics_that_is() {
    for Patch { header, .. } in load() {
        assert_eq!(
            header.fixed_in != "none",
            header.upstream.starts_with('#') && !header.upstream.contains("none known")
        );
        assert!(
            header.kind != EditKind::Security || !matches!(header.who.as_str(), "nobody" | "none"),
            "{}",
            header.name
        );
    }
}

#[test]
fn the_tables_in_security_md_are_those_of_the_headers() {
    let Some(root) = repository() else { return };
    let page = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    assert!(table::renewed(&page, &load()).unwrap() == page, "they are stale: make security-table");
}

#[test]
#[cfg_attr(sendstream_system_msquic, ignore = "an installed library")]
fn the_library_tells_of_the_edits_of_the_series_and_of_no_others() {
    let series = load();
    let told: Vec<_> = sys::edits().iter().map(|edit| (edit.name.to_owned(), edit.kind.to_string())).collect();
    let mut known = series.iter().map(|patch| (patch.header.name.clone(), patch.header.kind.to_string()));
    // A subsequence: a checkout or a setting may have left some out.
    assert!(told.iter().all(|edit| known.any(|other| other == *edit)), "{told:?}");
    let is_whole = sys::native_source().starts_with("seera-msquic ")
        && option_env!("SENDSTREAM_MSQUIC_LEAVE_OUT").is_none_or(str::is_empty)
        && option_env!("SENDSTREAM_MSQUIC_SPEED_EDITS") != Some("off");
    assert!(!is_whole || told.len() == series.len(), "{told:?}");
}

/// Text that programs carry costs memory, and the patches have a hundred kilobytes of it.
#[test]
fn a_program_carries_no_text_of_the_patches() {
    assert!(sys::edits().iter().all(|edit| !edit.name.is_empty()));
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let program = String::from_utf8_lossy(&program);
    let name = sys::edits().first().map(|edit| edit.name);
    assert!(name.is_none_or(|name| program.contains(name)), "this looks where the names are");
    // The longest line of C of each, and the header. The first patch has the lines that this
    // program compares with.
    for patch in &load()[1..] {
        let hunks = patch.files.iter().flat_map(|file| &file.hunks);
        let line = hunks.flat_map(|hunk| hunk.after.lines()).max_by_key(|line| line.len()).unwrap_or_default();
        assert!(line.len() < 20 || !program.contains(line), "{line}");
        assert!(!program.contains(&patch.header.prevents), "{}", patch.header.name);
    }
}

#[test]
fn the_shared_header_and_the_rust_side_agree() {
    let series = load();
    let touching = series.iter().flat_map(|patch| &patch.files).filter(|file| file.path == shared::HEADER);
    assert_eq!(touching.count(), 1, "the build reads the header as the first patch has it");
    let numbers: BTreeMap<_, _> = shared::numbers(&series)
        .unwrap()
        .into_iter()
        .map(|number| (number.name, u32::from_str_radix(&number.value[2..], 16).unwrap()))
        .collect();
    let ours = [
        ("QUIC_PARAM_CONN_TLS_ENDS_WITH_HANDSHAKE", sys::QUIC_PARAM_CONN_TLS_ENDS_WITH_HANDSHAKE),
        ("QUIC_PARAM_GLOBAL_RETRY_HANDSHAKES", sys::QUIC_PARAM_GLOBAL_RETRY_HANDSHAKES),
        ("QUIC_PARAM_GLOBAL_EMPTY_POOLS", sys::QUIC_PARAM_GLOBAL_EMPTY_POOLS),
        ("QUIC_PARAM_CONN_SMOOTHED_RTT", sys::QUIC_PARAM_CONN_SMOOTHED_RTT),
        ("QUIC_PARAM_CONN_ADDRESS_VALIDATED", sys::QUIC_PARAM_CONN_ADDRESS_VALIDATED),
        ("QUIC_PARAM_TLS_EXPORTER_SECRET", sys::QUIC_PARAM_TLS_EXPORTER_SECRET),
        ("QUIC_MAX_EXPORTER_SECRET", sys::QUIC_MAX_EXPORTER_SECRET),
        ("QUIC_PARAM_CONFIGURATION_SHARED_SOCKET", sys::QUIC_PARAM_CONFIGURATION_SHARED_SOCKET),
        ("QUIC_PARAM_CONFIGURATION_LISTENERS_SOCKET", sys::QUIC_PARAM_CONFIGURATION_LISTENERS_SOCKET),
        ("QUIC_PARAM_CONFIGURATION_SOCKET", sys::QUIC_PARAM_CONFIGURATION_SOCKET),
        ("QUIC_PARAM_LISTENER_SOCKET", sys::QUIC_PARAM_LISTENER_SOCKET),
        ("QUIC_PARAM_CONN_LOG", sys::QUIC_PARAM_CONN_LOG),
        ("QUIC_LOG_PACKET_SENT", sys::QUIC_LOG_PACKET_SENT.into()),
        ("QUIC_LOG_PACKET_RECEIVED", sys::QUIC_LOG_PACKET_RECEIVED.into()),
        ("QUIC_LOG_PACKET_LOST", sys::QUIC_LOG_PACKET_LOST.into()),
        ("QUIC_LOG_METRICS", sys::QUIC_LOG_METRICS.into()),
        ("QUIC_LOG_FRAMES_SENT", sys::QUIC_LOG_FRAMES_SENT.into()),
        ("QUIC_LOG_INITIAL", sys::QUIC_LOG_INITIAL.into()),
        ("QUIC_LOG_ZERO_RTT", sys::QUIC_LOG_ZERO_RTT.into()),
        ("QUIC_LOG_HANDSHAKE", sys::QUIC_LOG_HANDSHAKE.into()),
        ("QUIC_LOG_ONE_RTT", sys::QUIC_LOG_ONE_RTT.into()),
        ("QUIC_LOG_LOST_BY_NUMBER", sys::QUIC_LOG_LOST_BY_NUMBER.into()),
        ("QUIC_LOG_LOST_BY_TIME", sys::QUIC_LOG_LOST_BY_TIME.into()),
        ("QUIC_PARAM_GLOBAL_RECEIVE_BRACKET", sys::QUIC_PARAM_GLOBAL_RECEIVE_BRACKET),
        ("QUIC_PARAM_GLOBAL_WORKER_LENDING", sys::QUIC_PARAM_GLOBAL_WORKER_LENDING),
        ("QUIC_PARAM_GLOBAL_RECEIVED_MEMORY", sys::QUIC_PARAM_GLOBAL_RECEIVED_MEMORY),
        ("QUIC_PARAM_GLOBAL_MEMORY_BUDGET", sys::QUIC_PARAM_GLOBAL_MEMORY_BUDGET),
        ("QUIC_SESSION_EARLY_DATA_ACCEPTED", sys::QUIC_SESSION_EARLY_DATA_ACCEPTED.into()),
        ("QUIC_SESSION_RESUMED", sys::QUIC_SESSION_RESUMED.into()),
    ];
    assert_eq!(numbers, ours.map(|(name, value)| (name.to_owned(), value)).into());

    // The structures: the same fields, in the same order, of the same kind.
    let header = shared::header(&series).unwrap();
    let fields = |name: &str| {
        let (_, fields) = header.split_once(&format!("typedef struct {name} {{")).unwrap();
        let (fields, _) = fields.split_once(&format!("}} {name};")).unwrap();
        fields.lines().map(str::trim).filter(|line| line.ends_with(';')).collect::<Vec<_>>()
    };
    type Lending = sys::QUIC_WORKER_LENDING;
    let ours = [
        (offset_of!(Lending, WorkerPool), "struct CXPLAT_WORKER_POOL* WorkerPool;"),
        (offset_of!(Lending, Count), "uint32_t Count;"),
        (offset_of!(Lending, Groups), "uint32_t Groups;"),
        (
            offset_of!(Lending, OpenRegistration),
            "const struct QUIC_REGISTRATION_CONFIG* Config, uint32_t Group, struct QUIC_HANDLE** Registration);",
        ),
        (
            offset_of!(Lending, GetDescriptor),
            "int (*GetDescriptor)(struct CXPLAT_WORKER_POOL* WorkerPool, uint32_t Index);",
        ),
        (
            offset_of!(Lending, SetLent),
            "void (*SetLent)(struct CXPLAT_WORKER_POOL* WorkerPool, uint32_t Index, QUIC_WORKER_WAKE Wake);",
        ),
        (
            offset_of!(Lending, TakeTurn),
            "uint32_t (*TakeTurn)(struct CXPLAT_WORKER_POOL* WorkerPool, uint32_t Index, BOOLEAN HasEvents);",
        ),
    ];
    assert_eq!(fields("QUIC_WORKER_LENDING"), in_order(ours));
    type Received = sys::QUIC_RECEIVED_MEMORY;
    let ours = [
        (offset_of!(Received, Find), "void* (QUIC_API * Find)(struct QUIC_HANDLE* Stream, const uint8_t* Piece);"),
        (offset_of!(Received, Keep), "void (QUIC_API * Keep)(void* Memory);"),
        (offset_of!(Received, Release), "void (QUIC_API * Release)(void* Memory);"),
    ];
    assert_eq!(fields("QUIC_RECEIVED_MEMORY"), in_order(ours));
    type Budget = sys::QUIC_MEMORY_BUDGET;
    let ours = [
        (offset_of!(Budget, Limit), "int64_t Limit;"),
        (offset_of!(Budget, Used), "int64_t Used;"),
        (offset_of!(Budget, Shrunk), "int64_t Shrunk;"),
    ];
    assert_eq!(fields("QUIC_MEMORY_BUDGET"), in_order(ours));
    type Entry = sys::QUIC_LOG_ENTRY;
    let ours = [
        (offset_of!(Entry, SmoothedRtt), "uint64_t SmoothedRtt;"),
        (offset_of!(Entry, LatestRtt), "uint64_t LatestRtt;"),
        (offset_of!(Entry, MinRtt), "uint64_t MinRtt;"),
        (offset_of!(Entry, RttVariance), "uint64_t RttVariance;"),
        (offset_of!(Entry, CongestionWindow), "uint64_t CongestionWindow;"),
        (offset_of!(Entry, BytesInFlight), "uint64_t BytesInFlight;"),
        (offset_of!(Entry, PacketNumber), "uint64_t PacketNumber;"),
        (offset_of!(Entry, Frames), "const uint8_t* Frames;"),
        (offset_of!(Entry, FramesLength), "uint32_t FramesLength;"),
        (offset_of!(Entry, PacketLength), "uint16_t PacketLength;"),
        (offset_of!(Entry, PacketType), "uint8_t PacketType;"),
        (offset_of!(Entry, Kind), "uint8_t Kind;"),
        (offset_of!(Entry, Reason), "uint8_t Reason;"),
    ];
    assert_eq!(fields("QUIC_LOG_ENTRY"), in_order(ours));
    type Log = sys::QUIC_CONNECTION_LOG;
    let ours = [
        (offset_of!(Log, Write), "void (*Write)(void* Context, const QUIC_LOG_ENTRY* Entry);"),
        (offset_of!(Log, Context), "void* Context;"),
    ];
    assert_eq!(fields("QUIC_CONNECTION_LOG"), in_order(ours));
    assert!(header.contains("typedef BOOLEAN (*QUIC_WORKER_WAKE)(uint32_t Index);"));
}

/// The fields of a structure by where they are in it.
fn in_order<const N: usize>(mut fields: [(usize, &str); N]) -> [&str; N] {
    fields.sort_unstable();
    fields.map(|(_, field)| field)
}
