//! Builds AWS-LC once, and finds it again.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cpp::Cpp;
use crate::crate_sources::{self, Crate, Unpacked};
use crate::place::{self, Place};
use crate::settings::Settings;
use crate::tools::Tools;
use crate::{Problem, key};

/// Its two libraries, in the order in which they need each other.
pub(crate) const LIBRARIES: [&str; 2] = ["libssl.a", "libcrypto.a"];

/// The crate with its sources, as named in `Cargo.toml`.
const CRATE: Crate = Crate { name: "aws-lc-sys", version: Cow::Borrowed("0.47.0"), series: "0.47." };

/// How it is built: without its tests and programs, and without Go and Perl, whose work its crate
/// brings along. And without a source of randomness that takes a processor 20 ms to begin with, in
/// the first handshake of a process: the system's and the processor's own are left.
const OPTIONS: [(&str, &str); 8] = [
    ("BUILD_LIBSSL", "ON"),
    ("BUILD_SHARED_LIBS", "OFF"),
    ("BUILD_TESTING", "OFF"),
    ("BUILD_TOOL", "OFF"),
    ("DISABLE_CPU_JITTER_ENTROPY", "ON"),
    ("DISABLE_GO", "ON"),
    ("DISABLE_PERL", "ON"),
    // It would write headers into its own sources, which are Cargo's.
    ("ENABLE_SOURCE_MODIFICATION", "OFF"),
];

/// The sources, and the name of the folder with what comes of them.
pub(crate) struct AwsLc<'a> {
    sources: Unpacked,
    cpp: &'a Cpp,
    kernel_headers: Option<&'a Path>,
    /// It stands for all that decides the content: version, options, target, compilers and their flags.
    pub(crate) name: String,
}

impl<'a> AwsLc<'a> {
    pub(crate) fn find(
        settings: &Settings,
        tools: &Tools,
        cpp: &'a Cpp,
        kernel_headers: Option<&'a Path>,
    ) -> Result<Self, Problem> {
        let sources = crate_sources::find(&CRATE, &settings.manifest_dir)?;
        let flags = |is_cpp| {
            let mut build = cc::Build::new();
            build.cargo_metadata(false).opt_level(2).warnings(false).cpp(is_cpp);
            build.get_compiler().args().to_vec()
        };
        let compilers = (&tools.compiler, flags(false), &cpp.version, flags(true));
        let key = key::of(&(&sources.version, OPTIONS, compilers, key::of_build(settings)?));
        let name = format!("aws-lc-{}-{key:016x}", sources.version);
        Ok(Self { sources, cpp, kernel_headers, name })
    }

    /// Returns the folder of a finished AWS-LC (`include`, `lib`), whose path has plain characters, and
    /// builds it first if there is none.
    pub(crate) fn build(&self, settings: &Settings, place: &Place) -> Result<PathBuf, Problem> {
        let finished = settings.native_dir.join(&self.name);
        if !is_complete(&finished) {
            self.compile(settings, place, &finished)?;
        }
        if place::is_plain(&finished) {
            return Ok(finished);
        }
        let root = place.folder.join(&self.name);
        place::copy(&finished, &place.folder).map_err(|error| format!("{}: {error}", root.display()))?;
        Ok(root)
    }

    fn compile(&self, settings: &Settings, place: &Place, finished: &Path) -> Result<(), Problem> {
        let folder = place.folder.join("aws-lc-build");
        // What an interrupted build, perhaps with another compiler, has left.
        let _ = fs::remove_dir_all(&folder);
        let sources = self.sources.root.join("aws-lc");
        let mut config = cmake::Config::new(&sources);
        config.out_dir(&folder).profile("Release").cflag("-w").cxxflag("-w").build_target("ssl");
        for (option, value) in OPTIONS {
            config.define(option, value);
        }
        // Symbols are renamed in objects, and the C++ library is not linked.
        config.cflag("-fno-lto").cxxflag("-fno-lto").cxxflag("-U_GLIBCXX_ASSERTIONS");
        for flag in &self.cpp.flags {
            config.cxxflag(flag);
        }
        if let Some(folder) = self.kernel_headers {
            config.cflag(format!("-idirafter \"{}\"", folder.display()));
        }
        config.build();

        let lib = folder.join("lib");
        let built = folder.join("build");
        fs::create_dir_all(&lib)
            .and_then(|()| fs::copy(built.join("ssl").join(LIBRARIES[0]), lib.join(LIBRARIES[0])))
            .and_then(|_| fs::copy(built.join("crypto").join(LIBRARIES[1]), lib.join(LIBRARIES[1])))
            .map_err(|error| format!("{}: {error}", lib.display()))?;
        if finished.exists() && !is_complete(finished) {
            // Somebody has cleared up half of it.
            let _ = fs::remove_dir_all(finished);
        }
        place::keep(&[sources.join("include"), lib], finished, settings)?;
        let _ = fs::remove_dir_all(&folder);
        Ok(())
    }
}

fn is_complete(folder: &Path) -> bool {
    folder.join("include").exists() && LIBRARIES.iter().all(|library| folder.join("lib").join(library).exists())
}
