//! Builds the native core: MsQuic's C sources with our edits, statically, over OpenSSL 3.5 LTS.
//!
//! In order, one module each:
//!
//! | module     | what it answers                                                  |
//! | ---------- | ---------------------------------------------------------------- |
//! | `settings` | what was asked for, by environment variables                     |
//! | `tools`    | is everything here that the build needs?                         |
//! | `source`   | where are MsQuic's sources, and is our edited copy up to date?   |
//! | `edits`    | which changes do we make to them?                                |
//! | `apply`    | how is one of those edits made, and when is it refused?          |
//! | `openssl`  | is OpenSSL built already?                                        |
//! | `key`      | is what was built still what is wanted?                          |
//! | `msquic`   | the CMake build                                                  |
//! | `system`   | or is an installed library to be linked, and which?              |
//! | `report`   | what Cargo and the library are told                              |
//!
//! Everything that can be wrong with the machine or the settings is found before the first line for Cargo is printed,
//! so that a failure shows one line and nothing else.

mod apply;
mod edits;
mod key;
mod msquic;
mod openssl;
mod report;
mod settings;
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
    if settings.documentation_only {
        report::without_native_build(&settings);
        return Ok(());
    }
    if settings.system {
        let installed = system::find(&settings)?;
        report::link_installed(&settings, &installed);
        return Ok(());
    }
    let tools = tools::find()?;
    let source = source::find(&settings)?;
    let speed_edits = if settings.speed_edits { edits::SPEED_EDITS } else { &[] };
    let copy = source::copy_with_edits(&source, &[edits::FIXES, speed_edits].concat(), &settings)?;

    report::inputs(&settings, &source);
    let openssl = openssl::build(&settings, &tools)?;
    let library = msquic::build(&settings, &tools, &source, &copy.root, &openssl);
    report::link(&settings, &source, &copy, &library);
    Ok(())
}
