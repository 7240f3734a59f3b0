//! Builds OpenSSL once, and finds it again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::place::{self, Place};
use crate::settings::Settings;
use crate::tools::Tools;
use crate::{Problem, key};

/// What is left out of OpenSSL: MsQuic calls none of it, and no handshake of QUIC's uses it. Whether
/// a key or certificate is good is decided in Rust, before OpenSSL sees it.
///
/// QUIC itself stays: MsQuic's hooks into TLS are a part of it.
const LEFT_OUT: &str = "
    no-apps no-docs no-engine no-dso no-async no-ui-console no-deprecated no-thread-pool
    no-cms no-cmp no-ts no-ct no-ocsp no-http no-rfc3779 no-srp no-srtp no-psk no-ssl-trace no-nextprotoneg
    no-dtls no-tls1 no-tls1_1 no-tls1_2 no-unstable-qlog
    no-aria no-bf no-blake2 no-cast no-des no-dsa no-ec2m no-gost no-integrity-only-ciphers no-md4 no-mdc2 no-ocb
    no-rc2 no-rc4 no-rmd160 no-scrypt no-argon2 no-siphash no-siv no-sm2 no-sm3 no-sm4 no-slh-dsa no-whirlpool
    no-tls-deprecated-ec no-multiblock";

/// Returns the folder of a finished OpenSSL (`include`, `lib`), whose path has plain characters, and
/// builds it first if there is none.
pub(crate) fn build(settings: &Settings, tools: &Tools, place: &Place) -> Result<PathBuf, Problem> {
    let name = name(settings, tools);
    let finished = settings.native_dir.join(&name);
    if !is_complete(&finished) {
        let folder = place.folder.join("openssl-build");
        let build = folder.join("install");
        configure_with_less(place)?;
        openssl_src::Build::new()
            .out_dir(&folder)
            .try_build()
            .map_err(|error| format!("OpenSSL does not build: {}", one_line(&error)))?;
        place::keep(&[build.join("include"), build.join("lib")], &finished, settings)?;
        let _ = fs::remove_dir_all(&folder);
    }
    if place::is_plain(&finished) {
        return Ok(finished);
    }
    let root = place.folder.join(&name);
    place::copy(&finished, &place.folder).map_err(|error| format!("{}: {error}", root.display()))?;
    Ok(root)
}

/// Has `openssl-src` leave out [`LEFT_OUT`] as well. It calls Perl for OpenSSL's configuration and for
/// nothing else, so a Perl that adds arguments is a way to add options.
fn configure_with_less(place: &Place) -> Result<(), Problem> {
    let perl = env::var_os("OPENSSL_SRC_PERL").or_else(|| env::var_os("PERL")).unwrap_or_else(|| "perl".into());
    let script = place.folder.join("configure-openssl");
    let text = format!("#!/bin/sh\nexec '{}' \"$@\" {}\n", perl.to_string_lossy().replace('\'', "'\\''"), options());
    fs::write(&script, text)
        .and_then(|()| make_executable(&script))
        .map_err(|error| format!("{}: {error}", script.display()))?;
    // SAFETY: the build script has one thread.
    unsafe { env::set_var("OPENSSL_SRC_PERL", script) };
    Ok(())
}

#[cfg(unix)]
fn make_executable(script: &Path) -> std::io::Result<()> {
    fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn options() -> String {
    one_line(LEFT_OUT)
}

/// A folder name from all that decides the content: version, options, target, compiler and its flags.
pub(crate) fn name(settings: &Settings, tools: &Tools) -> String {
    let flags = cc::Build::new().cargo_metadata(false).opt_level(2).warnings(false).get_compiler().args().to_vec();
    let version = openssl_src::version();
    let key = key::of(&(version, options(), &settings.target, &tools.compiler, flags));
    format!("openssl-{}-{key:016x}", version.replace('+', "-"))
}

fn is_complete(folder: &Path) -> bool {
    folder.join("lib").join("libssl.a").exists()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
