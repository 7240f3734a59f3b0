//! What edits bring to a connection, over MsQuic's own API.
#![cfg(all(target_os = "linux", not(sendstream_system_msquic)))]

use std::ffi::{CStr, c_void};
use std::net::{Ipv4Addr, UdpSocket};
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sendstream_sys::{
    HQUIC, MsQuicOpenVersion, QUIC_API_TABLE, QUIC_BUFFER, QUIC_CONNECTION_EVENT, QUIC_CREDENTIAL_CONFIG,
    QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_CLIENT,
    QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_NO_CERTIFICATE_VALIDATION, QUIC_PARAM_CONN_SETTINGS,
    QUIC_PARAM_GLOBAL_RECEIVE_BRACKET, QUIC_SETTINGS, QUIC_STATUS, edits,
};

const SUCCESS: QUIC_STATUS = 0;
/// `QUIC_STATUS_PENDING` of `msquic_posix.h`: a worker will see to it.
const PENDING: QUIC_STATUS = (-2_i32).cast_unsigned();

/// The edit `hystart-applied`.
#[test]
fn a_configuration_switches_hystart_on() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for on in [0, 1] {
        let client = Client::start(&silent, on);
        assert_eq!(client.hystart(), on);
    }
}

/// As a program has it that links OpenSSL, BoringSSL or another AWS-LC: under this name MsQuic must
/// find its own library's function.
#[unsafe(no_mangle)]
extern "C" fn SSL_new(_: *mut c_void) -> *mut c_void {
    FOREIGN_CALLS.fetch_add(1, Ordering::SeqCst);
    ptr::null_mut()
}

static FOREIGN_CALLS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn another_library_of_tls_in_the_program_is_left_alone() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = Client::start(&socket, 0);
    // Its first packet holds what TLS has to say.
    socket.recv_from(&mut [0; 2000]).unwrap();
    drop(client);
    assert_eq!(FOREIGN_CALLS.load(Ordering::SeqCst), 0);
}

/// The edit `receives-are-announced`.
#[test]
fn receives_are_announced_when_they_begin_and_when_they_end() {
    if !edits().iter().any(|edit| edit.name == "receives-are-announced") {
        eprintln!("SKIPPED: this MsQuic has no such edit");
        return;
    }
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn bracket(begins: u8) {
        if begins == 0 { &ENDED } else { &BEGUN }.fetch_add(1, Ordering::SeqCst);
    }
    let bracket: extern "C" fn(u8) = bracket;
    let set = api().SetParam.unwrap();
    let size = u32::try_from(size_of_val(&bracket)).unwrap();
    let address = ptr::from_ref(&bracket).cast();
    let set = |size| {
        // SAFETY: a null handle means the library, which copies `size` bytes of a function's
        // address or none.
        unsafe { set(ptr::null_mut(), QUIC_PARAM_GLOBAL_RECEIVE_BRACKET, size, address) }
    };
    assert_ne!(set(size - 1), SUCCESS);
    assert_eq!(set(size), SUCCESS);

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = Client::start(&socket, 0);
    let (_, address) = socket.recv_from(&mut [0; 2000]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while ENDED.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "nothing was announced");
        // A packet with a short header, of whose contents the client can make nothing: it has
        // received it all the same.
        socket.send_to(&[0x40; 40], address).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(client);
    assert_eq!(BEGUN.load(Ordering::SeqCst), ENDED.load(Ordering::SeqCst));
}

/// A client's connection that has started.
struct Client {
    registration: HQUIC,
    configuration: HQUIC,
    connection: HQUIC,
}

impl Client {
    /// Connects to a socket that will not answer as a server does.
    fn start(socket: &UdpSocket, hystart: u64) -> Self {
        const AF_INET: u16 = 2;
        const LOCALHOST: &CStr = c"127.0.0.1";
        let api = api();
        let mut client =
            Self { registration: ptr::null_mut(), configuration: ptr::null_mut(), connection: ptr::null_mut() };
        // SAFETY: zeros are an empty set of settings and of credentials.
        let (mut settings, mut credentials): (QUIC_SETTINGS, QUIC_CREDENTIAL_CONFIG) = unsafe { std::mem::zeroed() };
        // SAFETY: both members of each union are 64 bits of plain integers.
        unsafe {
            settings.__bindgen_anon_1.IsSet.set_HyStartEnabled(1);
            settings.__bindgen_anon_2.__bindgen_anon_1.set_HyStartEnabled(hystart);
        }
        credentials.Flags = QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_CLIENT
            | QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_NO_CERTIFICATE_VALIDATION;
        let mut name = *b"test";
        let alpn = QUIC_BUFFER { Length: 4, Buffer: name.as_mut_ptr() };
        let size = u32::try_from(size_of_val(&settings)).unwrap();
        // SAFETY: each handle is opened before it is used, the callback ignores its null context,
        // and MsQuic copies what it is given before it returns.
        unsafe {
            check(api.RegistrationOpen.unwrap()(ptr::null(), &mut client.registration));
            let open = api.ConfigurationOpen.unwrap();
            check(open(client.registration, &alpn, 1, &settings, size, ptr::null_mut(), &mut client.configuration));
            check(api.ConfigurationLoadCredential.unwrap()(client.configuration, &credentials));
            let open = api.ConnectionOpen.unwrap();
            check(open(client.registration, Some(ignore), ptr::null_mut(), &mut client.connection));
            let port = socket.local_addr().unwrap().port();
            let start = api.ConnectionStart.unwrap();
            let status = start(client.connection, client.configuration, AF_INET, LOCALHOST.as_ptr(), port);
            assert_eq!(status, PENDING);
        }
        client
    }

    /// Whether the connection itself has HyStart switched on.
    fn hystart(&self) -> u64 {
        // SAFETY: zeros are an empty set of settings.
        let mut settings: QUIC_SETTINGS = unsafe { std::mem::zeroed() };
        let mut size = u32::try_from(size_of_val(&settings)).unwrap();
        let get = api().GetParam.unwrap();
        // SAFETY: the connection is open, and at most `size` bytes are written to `settings`.
        check(unsafe {
            get(self.connection, QUIC_PARAM_CONN_SETTINGS, &mut size, ptr::from_mut(&mut settings).cast())
        });
        // SAFETY: both members of the union are 64 bits of plain integers.
        unsafe { settings.__bindgen_anon_2.__bindgen_anon_1.HyStartEnabled() }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: all three are open and are closed once, each before the one that it belongs to.
        unsafe {
            api().ConnectionClose.unwrap()(self.connection);
            api().ConfigurationClose.unwrap()(self.configuration);
            api().RegistrationClose.unwrap()(self.registration);
        }
    }
}

/// MsQuic's functions. The table is opened once, since two first calls must not overlap, and never
/// closed.
fn api() -> &'static QUIC_API_TABLE {
    struct Api(&'static QUIC_API_TABLE);
    static API: LazyLock<Api> = LazyLock::new(|| {
        let mut table = ptr::null();
        // SAFETY: `table` is a local that the call may write to; `LazyLock` lets one thread in.
        check(unsafe { MsQuicOpenVersion(2, &mut table) });
        // SAFETY: a table that was opened stays valid until it is closed, which nobody does.
        Api(unsafe { table.cast::<QUIC_API_TABLE>().as_ref() }.unwrap())
    });
    API.0
}

unsafe extern "C" fn ignore(_: HQUIC, _: *mut c_void, _: *mut QUIC_CONNECTION_EVENT) -> QUIC_STATUS {
    SUCCESS
}

#[track_caller]
fn check(status: QUIC_STATUS) {
    assert_eq!(status, SUCCESS);
}
