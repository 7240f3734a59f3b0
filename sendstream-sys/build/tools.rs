//! Checks for what the native build calls: CMake, make, a C compiler, and a Perl with its standard
//! modules.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Problem;

/// The oldest CMake that builds MsQuic as a static library.
const CMAKE: (u32, u32) = (3, 20);

/// What OpenSSL's configuration uses of Perl's standard library. Debian's `perl-base` alone has
/// some of it only.
const PERL_MODULES: [&str; 9] = [
    "Carp",
    "Data::Dumper",
    "File::Compare",
    "File::Copy",
    "File::Path",
    "FindBin",
    "Getopt::Std",
    "IPC::Cmd",
    "Time::Piece",
];

/// The tools as they were found.
pub(crate) struct Tools {
    /// The C compiler's first line about itself; another one means another build.
    pub(crate) compiler: String,
}

/// Looks for every tool.
///
/// # Errors
///
/// One line that names the first tool that is missing and what to install.
pub(crate) fn find() -> Result<Tools, Problem> {
    cmake()?;
    let compiler = c_compiler()?;
    make()?;
    perl()?;
    Ok(Tools { compiler })
}

fn cmake() -> Result<(), Problem> {
    let program = env::var_os("CMAKE").unwrap_or_else(|| "cmake".into());
    let needs = format!("CMake {}.{} or newer", CMAKE.0, CMAKE.1);
    let install = "install it (Debian: apt-get install cmake; or: pip install cmake), or set CMAKE to its path";
    let Some(answer) = first_line(&program, "--version") else {
        return Err(format!("{needs} is missing; {install}"));
    };
    let version = answer.trim_start_matches("cmake version").trim();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < CMAKE {
        return Err(format!("{needs} is needed, this one is {version:?}; {install}"));
    }
    Ok(())
}

/// Compiles a file that includes a header of libc, since a compiler without libc's headers is no
/// use either.
fn c_compiler() -> Result<String, Problem> {
    let missing = |why: &str| {
        format!(
            "no working C compiler ({why}); install one (Debian: apt-get install gcc libc6-dev), or set CC to its path"
        )
    };
    let compiler = compiler().map_err(|_| missing("none found"))?;
    let name = compiler.path().display().to_string();
    match compile(&compiler, "#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n") {
        Ok(true) => {}
        Ok(false) => return Err(missing(&format!("{name} cannot compile a program that includes stdio.h"))),
        Err(_) => return Err(missing(&format!("{name} does not run"))),
    }
    first_line(compiler.path().as_os_str(), "--version").ok_or_else(|| missing(&format!("{name} has no version")))
}

/// Whether the target's C compiler takes `source`.
pub(crate) fn compiles(source: &str) -> bool {
    compiler().is_ok_and(|compiler| compile(&compiler, source).unwrap_or(false))
}

fn compiler() -> Result<cc::Tool, cc::Error> {
    cc::Build::new()
        .cargo_metadata(false)
        .cargo_warnings(false)
        .opt_level(0)
        .debug(false)
        .warnings(false)
        .try_get_compiler()
}

fn compile(compiler: &cc::Tool, source: &str) -> io::Result<bool> {
    let file = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("probe.c");
    fs::write(&file, source)?;
    let mut command = compiler.to_command();
    command.arg("-c").arg(&file).arg("-o").arg(file.with_extension("o"));
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
}

fn make() -> Result<(), Problem> {
    match first_line(OsStr::new("make"), "--version") {
        Some(_) => Ok(()),
        None => Err("make is missing; install it (Debian: apt-get install make)".into()),
    }
}

fn perl() -> Result<(), Problem> {
    // The same variables, in the same order, that the OpenSSL build asks.
    let program: OsString =
        env::var_os("OPENSSL_SRC_PERL").or_else(|| env::var_os("PERL")).unwrap_or_else(|| "perl".into());
    let install = "install all of it (Debian: apt-get install perl), or set PERL to its path";
    if first_line(&program, "-v").is_none() {
        return Err(format!("perl is missing; {install}"));
    }
    for module in PERL_MODULES {
        let loads = Command::new(&program)
            .arg(format!("-M{module}"))
            .args(["-e", "1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !loads.is_ok_and(|status| status.success()) {
            return Err(format!("perl is there without its standard module {module}; {install}"));
        }
    }
    Ok(())
}

/// The first line that `program` prints when asked with `argument`, or `None` if it does not run.
fn first_line(program: &OsStr, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| !line.trim().is_empty())?.trim().to_owned();
    output.status.success().then_some(line)
}
