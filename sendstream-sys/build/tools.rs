//! Checks for what the native build calls: CMake, make, and compilers with their binutils.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Problem;

/// The oldest CMake that builds MsQuic as a static library.
const CMAKE: (u32, u32) = (3, 20);

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
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        binutil("nm")?;
        binutil("objcopy")?;
    }
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
    works(compiler(), &[], "probe.c", "#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n").map_err(|why| {
        format!(
            "no working C compiler ({why}); install one (Debian: apt-get install gcc libc6-dev), or set CC to its path"
        )
    })
}

/// What the target's C++ compiler says it is, or why it is of no use, with these flags: one without
/// the headers of the standard library is none.
pub(crate) fn cpp_compiler(flags: &[String]) -> Result<String, String> {
    works(quiet().cpp(true).try_get_compiler(), flags, "probe.cc", "#include <string>\nint main() { return 0; }\n")
}

/// Where the target's C compiler is.
pub(crate) fn c_compiler_path() -> Option<PathBuf> {
    Some(compiler().ok()?.path().to_path_buf())
}

/// What a compiler says it is if it compiles a source, or why it is of no use.
fn works(compiler: Result<cc::Tool, cc::Error>, flags: &[String], file: &str, source: &str) -> Result<String, String> {
    let compiler = compiler.map_err(|_| "none found")?;
    let name = compiler.path().display().to_string();
    match compile(&compiler, flags, file, source) {
        Ok(true) => {}
        Ok(false) => {
            let include = source.lines().next().unwrap_or_default();
            return Err(format!("{name} cannot compile a program with {include}"));
        }
        Err(_) => return Err(format!("{name} does not run")),
    }
    first_line(compiler.path().as_os_str(), "--version").ok_or_else(|| format!("{name} has no version"))
}

/// Whether the target's C compiler takes `source`.
pub(crate) fn compiles(source: &str) -> bool {
    compiler().is_ok_and(|compiler| compile(&compiler, &[], "probe.c", source).unwrap_or(false))
}

/// A program that works on the target's objects: the one that the C compiler would run, or LLVM's.
pub(crate) fn binutil(program: &str) -> Result<OsString, Problem> {
    let compilers = compiler().ok().and_then(|compiler| {
        let mut command = compiler.to_command();
        first_line_of(command.arg(format!("-print-prog-name={program}"))).map(OsString::from)
    });
    let runs = |program: &OsString| first_line(program, "--version").is_some();
    compilers
        .into_iter()
        .chain([format!("llvm-{program}").into()])
        .find(runs)
        .ok_or_else(|| format!("{program} is missing; install it (Debian: apt-get install binutils)"))
}

fn compiler() -> Result<cc::Tool, cc::Error> {
    quiet().try_get_compiler()
}

/// As `cc` is asked for a compiler to try things with.
fn quiet() -> cc::Build {
    let mut build = cc::Build::new();
    build.cargo_metadata(false).cargo_warnings(false).opt_level(0).debug(false).warnings(false);
    build
}

fn compile(compiler: &cc::Tool, flags: &[String], file: &str, source: &str) -> io::Result<bool> {
    let file = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join(file);
    fs::write(&file, source)?;
    let mut command = compiler.to_command();
    command.args(flags).arg("-c").arg(&file).arg("-o").arg(file.with_extension("o"));
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
}

fn make() -> Result<(), Problem> {
    match first_line(OsStr::new("make"), "--version") {
        Some(_) => Ok(()),
        None => Err("make is missing; install it (Debian: apt-get install make)".into()),
    }
}

/// The first line that `program` prints when asked with `argument`, or `None` if it does not run.
fn first_line(program: &OsStr, argument: &str) -> Option<String> {
    first_line_of(Command::new(program).arg(argument))
}

fn first_line_of(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| !line.trim().is_empty())?.trim().to_owned();
    output.status.success().then_some(line)
}
