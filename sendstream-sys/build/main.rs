//! Builds the native core: MsQuic's C sources with our edits, statically, over AWS-LC.
//!
//! In order, one module each:
//!
//! | module           | what it answers                                                  |
//! | ---------------- | ---------------------------------------------------------------- |
//! | `settings`       | what was asked for, by environment variables                     |
//! | `series`         | which edits do we make to MsQuic's sources, in which order?      |
//! | `patch`          | how is one of them written?                                      |
//! | `apply`          | how is it made, and when is it refused?                          |
//! | `shared`         | which numbers do C and Rust share?                               |
//! | `tools`          | is everything here that the build needs?                         |
//! | `place`          | where is C compiled, and where is what came of it kept?          |
//! | `kernel_headers` | where are Linux's headers, if the compiler does not know?        |
//! | `source`         | where are MsQuic's sources, and is our edited copy up to date?   |
//! | `cpp`            | which compiler is there for C++, and with which headers?         |
//! | `crate_sources`  | where did Cargo put those that come in a crate?                  |
//! | `layout`         | do the bindings fit the headers?                                 |
//! | `aws_lc`         | is AWS-LC built already?                                         |
//! | `key`            | is what was built still what is wanted?                          |
//! | `msquic`         | the CMake build                                                  |
//! | `rename`         | what is AWS-LC's, under names that no other library has          |
//! | `system`         | or is an installed library to be linked, and which?              |
//! | `report`         | what Cargo and the library are told                              |
//!
//! Everything that can be wrong with the machine or the settings is found before the first line for
//! Cargo is printed, so that a failure shows one line and nothing else.

mod apply;
mod aws_lc;
mod cpp;
mod crate_sources;
mod kernel_headers;
mod key;
mod layout;
mod msquic;
mod patch;
mod place;
mod rename;
mod report;
mod series;
mod settings;
mod shared;
mod source;
mod system;
mod tools;

fn main() {
    // SAFETY: this is the first statement of a program with one thread.
    unsafe { settings::leave_c_code_alone() };
    if let Err(problem) = run() {
        eprintln!("sendstream-sys: {problem}");
        std::process::exit(1);
    }
}

/// One line that says what is wrong and what to do about it.
type Problem = String;

fn run() -> Result<(), Problem> {
    let settings = settings::Settings::from_env()?;
    let series = series::load(&series::folder(&settings.manifest_dir))?;
    report::shared(&settings, &shared::numbers(&series)?)?;
    if settings.documentation_only {
        return report::without_native_build(&settings);
    }
    if settings.system {
        let installed = system::find(&settings)?;
        return report::link_installed(&settings, &installed);
    }
    let place = place::Place::find(&settings)?;
    let tools = tools::find()?;
    let cpp = cpp::find(&settings, &place)?;
    let kernel_headers = kernel_headers::find(&settings, &place)?;
    let aws_lc = aws_lc::AwsLc::find(&settings, &tools, &cpp, kernel_headers.as_deref())?;
    let source = source::find(&settings)?;
    let copy = source::copy_with_edits(&source, &series, &settings, &place)?;
    layout::check(&settings, &source, &copy.root)?;

    report::inputs(&settings, &source);
    let library = msquic::build(&settings, &tools, &source, &copy, &place, &aws_lc, kernel_headers.as_deref())?;
    report::link(&settings, &source, &copy, &library)
}
