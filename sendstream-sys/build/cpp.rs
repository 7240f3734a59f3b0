//! The compiler for AWS-LC's half that is C++.
//!
//! musl's compiler for a glibc system is for C alone. The system's own C++ compiler serves, with musl's
//! headers in place of glibc's: AWS-LC's C++ calls functions of C only, and nothing of the standard
//! library but what its headers hold.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::place::Place;
use crate::settings::Settings;
use crate::{Problem, tools};

/// A compiler that was found to work.
pub(crate) struct Cpp {
    /// Its first line about itself.
    pub(crate) version: String,
    /// What it must be told beside what any is.
    pub(crate) flags: Vec<String>,
}

/// What headers of the GNU C++ library expect of glibc's, and musl has under other names.
const FOR_MUSL: &str = "\
#include <features.h>
#define __GLIBC_PREREQ(major, minor) 0
#define __locale_t locale_t
#define __uselocale uselocale
";

const INSTALL: &str = "install one (Debian: apt-get install g++), or set CXX to its path";

/// Finds a compiler for the target.
///
/// # Errors
///
/// One line that says what to install.
pub(crate) fn find(settings: &Settings, place: &Place) -> Result<Cpp, Problem> {
    let own = tools::cpp_compiler(&[]);
    if own.is_ok() || settings.target_env != "musl" || env::var("HOST").is_ok_and(|host| host.ends_with("-musl")) {
        let version = own.map_err(|why| format!("no working C++ compiler ({why}); {INSTALL}"))?;
        return Ok(Cpp { version, flags: Vec::new() });
    }
    hosts(settings, place).map_err(|why| format!("no working C++ compiler for {} ({why}); {INSTALL}", settings.target))
}

/// Takes the system's own, told to look for musl's headers.
fn hosts(settings: &Settings, place: &Place) -> Result<Cpp, String> {
    let processor = settings.target.split('-').next();
    if env::var("HOST").is_ok_and(|host| host.split('-').next() != processor) {
        return Err("the system's own is for another processor".into());
    }
    let header = place.folder.join("musl-for-cpp.h");
    fs::write(&header, FOR_MUSL).map_err(|error| format!("{}: {error}", header.display()))?;
    let name = "g++";
    let libc = headers(tools::c_compiler_path().ok_or("no C compiler")?, "c")?;
    let library = headers(name.into(), "c++")?.into_iter().filter(|folder| folder.contains("c++"));
    let mut flags = vec!["-nostdinc".to_owned(), "-include".to_owned(), header.display().to_string()];
    for folder in library.chain(libc) {
        flags.extend(["-isystem".to_owned(), folder]);
    }
    // SAFETY: the build script has one thread.
    unsafe { env::set_var(format!("CXX_{}", settings.target.replace('-', "_")), name) };
    Ok(Cpp { version: tools::cpp_compiler(&flags)?, flags })
}

/// The folders that a compiler looks for headers in.
fn headers(compiler: PathBuf, language: &str) -> Result<Vec<String>, String> {
    let output = Command::new(&compiler)
        .args(["-E", "-v", "-x", language, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .map_err(|_| format!("{} does not run", compiler.display()))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let listed = text.lines().skip_while(|line| !line.starts_with("#include <")).skip(1);
    let folders: Vec<_> = listed.take_while(|line| line.starts_with(' ')).map(|line| line.trim().to_owned()).collect();
    match folders.is_empty() {
        true => Err(format!("{} does not say where its headers are", compiler.display())),
        false => Ok(folders),
    }
}
