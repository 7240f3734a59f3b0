//! The library that is linked is the one that the build script says it built.

use std::ptr;
use std::sync::LazyLock;

use sendstream_sys::{
    EditKind, MsQuicOpenVersion, QUIC_API_TABLE, QUIC_PARAM_GLOBAL_LIBRARY_GIT_HASH, QUIC_PARAM_GLOBAL_LIBRARY_VERSION,
    QUIC_STATUS, edits, lacks_fixes, native_profile, native_source, tls_library,
};

/// MsQuic's API table. It is opened once, since two first calls must not overlap, and never closed.
struct Api(&'static QUIC_API_TABLE);

impl Api {
    fn get() -> &'static Self {
        static API: LazyLock<Api> = LazyLock::new(|| {
            let mut table = ptr::null();
            // SAFETY: `table` is a local that the call may write to; `LazyLock` lets one thread in.
            let status = unsafe { MsQuicOpenVersion(2, &mut table) };
            assert_eq!(status, SUCCESS, "MsQuicOpenVersion");
            // SAFETY: a table that was opened stays valid until it is closed, which nobody does.
            Api(unsafe { table.cast::<QUIC_API_TABLE>().as_ref() }.unwrap())
        });
        &API
    }

    /// Reads a parameter of the library itself, at most `N` bytes of it.
    fn parameter<const N: usize>(&self, parameter: u32) -> Vec<u8> {
        // Parameters are copied out whole, some of them as integers: the memory must suit those.
        let mut memory = [0_u64; N];
        let mut length = u32::try_from(size_of_val(&memory)).unwrap();
        let get = self.0.GetParam.unwrap();
        // SAFETY: a null handle means the library; `length` is how much may be written to `memory`.
        let status = unsafe { get(ptr::null_mut(), parameter, &mut length, memory.as_mut_ptr().cast()) };
        assert_eq!(status, SUCCESS, "GetParam({parameter:#x})");
        memory.iter().flat_map(|word| word.to_ne_bytes()).take(length as usize).collect()
    }
}

const SUCCESS: QUIC_STATUS = 0;

#[test]
#[cfg_attr(sendstream_system_msquic, ignore = "an installed library")]
fn the_linked_msquic_is_2_6() {
    let version = Api::get().parameter::<2>(QUIC_PARAM_GLOBAL_LIBRARY_VERSION);
    let version: Vec<_> = version.chunks_exact(4).map(|part| u32::from_ne_bytes(part.try_into().unwrap())).collect();
    assert_eq!(version[..2], [2, 6], "{version:?}");
}

#[test]
#[cfg_attr(sendstream_system_msquic, ignore = "an installed library")]
fn the_linked_msquic_names_the_commit_it_was_built_from() {
    let hash = Api::get().parameter::<16>(QUIC_PARAM_GLOBAL_LIBRARY_GIT_HASH);
    let hash = String::from_utf8(hash).unwrap();
    let hash = hash.trim_end_matches('\0');
    assert_eq!(hash.len(), 40, "{hash:?}");
    assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash:?}");
}

#[test]
#[cfg_attr(sendstream_system_msquic, ignore = "an installed library")]
fn the_linked_tls_library_is_aws_lc() {
    assert!(tls_library().starts_with("AWS-LC "), "{}", tls_library());
}

#[test]
fn a_library_older_than_its_fixes_is_known_unless_it_is_built_along() {
    let is_installed = cfg!(sendstream_system_msquic);
    assert_eq!(lacks_fixes([2, 6, 0, 0]), is_installed);
    assert!(!lacks_fixes([2, 7, 0, 0]));
}

#[test]
fn the_library_says_how_it_was_built() {
    assert!(["Release", "Debug", "RelWithDebInfo", "system"].contains(&native_profile()), "{}", native_profile());
    assert!(!native_source().is_empty());
    assert!(!native_source().contains('/'), "{}", native_source());
}

#[test]
#[cfg_attr(sendstream_system_msquic, ignore = "an installed library")]
fn speed_edits_are_all_made_or_none() {
    let speed = edits().iter().filter(|edit| edit.kind == EditKind::Speed).count();
    let wanted = option_env!("SENDSTREAM_MSQUIC_SPEED_EDITS") != Some("off");
    assert_eq!(speed > 0, wanted, "{:?}", edits());
}

/// The other numbers of structures are compared when they are compiled (`build/layout.rs`).
#[test]
#[cfg(all(target_endian = "little", not(sendstream_system_msquic)))]
fn c_puts_every_bit_field_where_the_bindings_look_for_it() {
    use std::ffi::{CStr, c_char};

    unsafe extern "C" {
        safe fn sendstream_other_bit_field() -> *const c_char;
        safe fn sendstream_bit_fields() -> usize;
    }
    assert!(sendstream_bit_fields() > 100, "{}", sendstream_bit_fields());
    let other = sendstream_other_bit_field();
    // SAFETY: the function returns null, or a string that lives as long as the program.
    let other = (!other.is_null()).then(|| unsafe { CStr::from_ptr(other) });
    assert_eq!(other, None);
}

/// The edit `thread-id-remembered`: threads differ, and the one that forked is another in the
/// child.
#[test]
#[cfg(all(target_os = "linux", not(sendstream_system_msquic)))]
fn msquic_knows_which_thread_is_running_also_after_a_fork() {
    use std::ffi::c_int;

    unsafe extern "C" {
        safe fn CxPlatCurThreadID() -> u32;
        safe fn gettid() -> c_int;
        fn fork() -> c_int;
        fn waitpid(child: c_int, status: *mut c_int, options: c_int) -> c_int;
        safe fn _exit(status: c_int) -> !;
    }
    fn is_right() -> bool {
        // Twice: the first answer is the kernel's, the second may be a remembered one.
        (0..2).all(|_| CxPlatCurThreadID().cast_signed() == gettid())
    }
    assert!(is_right());
    assert!(std::thread::spawn(is_right).join().unwrap());
    // SAFETY: the child makes two system calls and ends, all of them allowed in the child of a
    // process with threads.
    let child = unsafe { fork() };
    if child == 0 {
        _exit(c_int::from(!is_right()));
    }
    let mut status = -1;
    // SAFETY: `status` may be written to.
    assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    assert!(is_right());
}

/// The edit `no-tracing-library`: a program in a folder of its own, where the library is that
/// MsQuic would load, does not open it.
#[test]
#[cfg(all(target_os = "linux", not(sendstream_system_msquic)))]
fn no_library_is_taken_from_the_programs_folder() {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let version = Api::get().parameter::<2>(QUIC_PARAM_GLOBAL_LIBRARY_VERSION);
    let version: Vec<_> = version.chunks_exact(4).map(|part| u32::from_ne_bytes(part.try_into().unwrap())).collect();
    let library = folder.path().join(format!("libmsquic.lttng.so.{}.{}.{}", version[0], version[1], version[2]));
    std::fs::write(&library, "no library").unwrap();
    let opened = inotify::init(CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&opened, &library, WatchFlags::OPEN).unwrap();
    let is_opened = || rustix::io::read(&opened, &mut [0; 256]).is_ok();

    let output = std::process::Command::new(&program).args(["--exact", "the_linked_msquic_is_2_6"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    assert!(!is_opened());
    drop(std::fs::File::open(&library).unwrap());
    assert!(is_opened(), "who opens it would have been seen");
}

#[test]
#[cfg_attr(sendstream_system_msquic, ignore = "an installed library")]
fn the_edits_are_listed_and_each_has_its_own_name() {
    // A checkout may have some of them already.
    if native_source().starts_with("seera-msquic ")
        && option_env!("SENDSTREAM_MSQUIC_LEAVE_OUT").is_none_or(str::is_empty)
    {
        assert!(edits().iter().any(|edit| (edit.name, edit.kind) == ("empty-datagram-leak", EditKind::Security)));
    }
    for (i, edit) in edits().iter().enumerate() {
        assert!(edits()[..i].iter().all(|other| other.name != edit.name), "{edit:?}");
    }
}
