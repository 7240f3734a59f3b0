//! What was asked for: Cargo's variables and our own `SENDSTREAM_*` ones.

use std::env;
use std::fmt;
use std::path::PathBuf;

use crate::Problem;
use crate::patch::{EditKind, Patch};

/// The variables of ours that a change of must run the build again.
pub(crate) const VARIABLES: [&str; 9] = [
    "SENDSTREAM_MSQUIC",
    "SENDSTREAM_MSQUIC_LEAVE_OUT",
    "SENDSTREAM_MSQUIC_LIB_DIR",
    "SENDSTREAM_MSQUIC_PROFILE",
    "SENDSTREAM_MSQUIC_SANITIZE",
    "SENDSTREAM_MSQUIC_SOURCE",
    "SENDSTREAM_MSQUIC_SPEED_EDITS",
    "SENDSTREAM_NATIVE_CPU",
    "SENDSTREAM_NATIVE_DIR",
];

/// Everything that decides what is built and where.
pub(crate) struct Settings {
    /// Set on docs.rs, where nothing is linked: no native build.
    pub(crate) documentation_only: bool,
    /// How MsQuic is compiled. Independent of Cargo's profile.
    pub(crate) profile: Profile,
    /// Whether an installed library is linked, and nothing is built.
    pub(crate) system: bool,
    /// Where the installed library is, if not in a usual place.
    pub(crate) library_dir: Option<PathBuf>,
    /// Whose checks MsQuic's C code carries.
    pub(crate) sanitizer: Option<Sanitizer>,
    /// The processor that MsQuic's C code is compiled for, as the compiler's `-march` takes it; any
    /// of its family if unset.
    pub(crate) cpu: Option<String>,
    /// Whether the edits are made that only save time or memory.
    pub(crate) speed_edits: bool,
    /// The names of edits that are not made, nor those that need them.
    pub(crate) leave_out: Vec<String>,
    /// A checkout of MsQuic to use in place of the crate's sources.
    pub(crate) checkout: Option<PathBuf>,
    /// Where finished builds of AWS-LC and MsQuic are kept, so that several target directories and
    /// profiles can share them.
    pub(crate) native_dir: PathBuf,
    /// Cargo's `OUT_DIR`.
    pub(crate) out_dir: PathBuf,
    /// Cargo's `CARGO_MANIFEST_DIR`.
    pub(crate) manifest_dir: PathBuf,
    /// The triple that is built for.
    pub(crate) target: String,
    /// What the target runs, as Cargo calls it.
    pub(crate) target_os: String,
    /// Whose C library the target has: `gnu`, `musl`, or what else Cargo calls it.
    pub(crate) target_env: String,
}

/// CMake's name of a build type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// MsQuic's own assertions on, no optimisation.
    Debug,
    /// Optimised; the default.
    Release,
    /// Optimised, with debug information and frame pointers: for profilers.
    RelWithDebInfo,
}

/// A sanitizer of the C compiler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sanitizer {
    /// AddressSanitizer: memory used outside of its bounds or its life.
    Address,
    /// UndefinedBehaviorSanitizer: what the C standard leaves undefined.
    Undefined,
}

/// Hides from the `cc` crate what would let Cargo's profile and the sanitizer of Rust's code change
/// the C code: that one AWS-LC serves every profile, and that what MsQuic is built with is what
/// our own variables say.
///
/// # Safety
///
/// No other thread runs.
pub(crate) unsafe fn leave_c_code_alone() {
    // SAFETY: the caller says that no other thread can be reading the environment.
    unsafe {
        env::set_var("DEBUG", "false");
        env::remove_var("CARGO_CFG_SANITIZE");
    }
}

impl Settings {
    /// Reads the environment. Nothing is printed and nothing is touched.
    pub(crate) fn from_env() -> Result<Self, Problem> {
        let out_dir = PathBuf::from(cargo_variable("OUT_DIR")?);
        Ok(Self {
            documentation_only: env::var_os("DOCS_RS").is_some(),
            profile: profile()?,
            system: system()?,
            library_dir: our_variable("SENDSTREAM_MSQUIC_LIB_DIR").map(PathBuf::from),
            sanitizer: sanitizer()?,
            cpu: cpu()?,
            speed_edits: speed_edits()?,
            leave_out: leave_out(),
            checkout: our_variable("SENDSTREAM_MSQUIC_SOURCE").map(PathBuf::from),
            native_dir: native_dir()?.unwrap_or_else(|| out_dir.clone()),
            out_dir,
            manifest_dir: PathBuf::from(cargo_variable("CARGO_MANIFEST_DIR")?),
            target: cargo_variable("TARGET")?,
            target_os: cargo_variable("CARGO_CFG_TARGET_OS")?,
            target_env: cargo_variable("CARGO_CFG_TARGET_ENV")?,
        })
    }

    /// The edits of `series` that are to be made.
    pub(crate) fn wanted<'a>(&self, series: &'a [Patch]) -> Result<Vec<&'a Patch>, Problem> {
        if let Some(unknown) = self.leave_out.iter().find(|name| !has(series, name)) {
            return Err(format!("SENDSTREAM_MSQUIC_LEAVE_OUT names {unknown:?}, which is no edit"));
        }
        let mut wanted = Vec::new();
        for patch in series {
            let header = &patch.header;
            let is_left_out =
                header.kind == EditKind::Speed && !self.speed_edits || self.leave_out.contains(&header.name);
            if !is_left_out && header.needs.iter().all(|need| has(wanted.iter().copied(), need)) {
                wanted.push(patch);
            }
        }
        Ok(wanted)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debug => "Debug",
            Self::Release => "Release",
            Self::RelWithDebInfo => "RelWithDebInfo",
        })
    }
}

fn profile() -> Result<Profile, Problem> {
    match our_variable("SENDSTREAM_MSQUIC_PROFILE").as_deref() {
        None | Some("Release") => Ok(Profile::Release),
        Some("Debug") => Ok(Profile::Debug),
        Some("RelWithDebInfo") => Ok(Profile::RelWithDebInfo),
        Some(other) => {
            Err(format!("SENDSTREAM_MSQUIC_PROFILE is {other:?}; it takes Debug, Release or RelWithDebInfo"))
        }
    }
}

fn system() -> Result<bool, Problem> {
    match our_variable("SENDSTREAM_MSQUIC").as_deref() {
        None | Some("bundled") => Ok(false),
        Some("system") => Ok(true),
        Some(other) => Err(format!("SENDSTREAM_MSQUIC is {other:?}; it takes bundled or system")),
    }
}

fn sanitizer() -> Result<Option<Sanitizer>, Problem> {
    match our_variable("SENDSTREAM_MSQUIC_SANITIZE").as_deref() {
        None => Ok(None),
        Some("address") => Ok(Some(Sanitizer::Address)),
        Some("undefined") => Ok(Some(Sanitizer::Undefined)),
        Some(other) => Err(format!("SENDSTREAM_MSQUIC_SANITIZE is {other:?}; it takes address or undefined")),
    }
}

fn cpu() -> Result<Option<String>, Problem> {
    match our_variable("SENDSTREAM_NATIVE_CPU") {
        Some(cpu) if cpu.contains(char::is_whitespace) => Err(format!(
            "SENDSTREAM_NATIVE_CPU is {cpu:?}; it takes one name that the C compiler's -march knows, or native"
        )),
        cpu => Ok(cpu),
    }
}

fn speed_edits() -> Result<bool, Problem> {
    match our_variable("SENDSTREAM_MSQUIC_SPEED_EDITS").as_deref() {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => Err(format!("SENDSTREAM_MSQUIC_SPEED_EDITS is {other:?}; it takes on or off")),
    }
}

/// A build script runs in its crate's folder, which is no place that anybody means.
fn native_dir() -> Result<Option<PathBuf>, Problem> {
    match our_variable("SENDSTREAM_NATIVE_DIR").map(PathBuf::from) {
        Some(folder) if folder.is_relative() => {
            Err(format!("SENDSTREAM_NATIVE_DIR is {}; it takes a path from the root", folder.display()))
        }
        folder => Ok(folder),
    }
}

fn has<'a>(patches: impl IntoIterator<Item = &'a Patch>, name: &str) -> bool {
    patches.into_iter().any(|patch| patch.header.name == name)
}

fn leave_out() -> Vec<String> {
    let names = our_variable("SENDSTREAM_MSQUIC_LEAVE_OUT").unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A variable of ours; unset and empty mean the same.
fn our_variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn cargo_variable(name: &str) -> Result<String, Problem> {
    env::var(name).map_err(|_| format!("{name} is not set; this program is run by Cargo"))
}
