//! Datagrams without payload cost a listener no memory: the edit `empty-datagram-leak`.
#![cfg(all(target_os = "linux", not(sendstream_system_msquic)))]

use std::ffi::c_void;
use std::net::{Ipv4Addr, UdpSocket};
use std::ptr;
use std::time::{Duration, Instant};

use sendstream_sys::{
    HQUIC, MsQuicClose, MsQuicOpenVersion, QUIC_API_TABLE, QUIC_BUFFER, QUIC_LISTENER_EVENT,
    QUIC_PARAM_GLOBAL_PERF_COUNTERS, QUIC_PARAM_LISTENER_LOCAL_ADDRESS,
    QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_MAX as COUNTERS,
    QUIC_PERFORMANCE_COUNTERS_QUIC_PERF_COUNTER_UDP_RECV as UDP_RECV, QUIC_STATUS,
};

/// 100 empty datagrams and one that is not.
const ROUNDS: u64 = 200;
/// Rounds that fill what keeps freed memory for a while: MsQuic's pools, the allocator,
/// AddressSanitizer's quarantine.
const ROUNDS_BEFORE: u64 = 80;
const EMPTY_PER_ROUND: usize = 100;
/// A leak would take well over a gigabyte.
const ALLOWED_GROWTH: u64 = 32 << 20;

#[test]
fn empty_datagrams_leave_no_memory_behind() {
    let listener = Listener::start();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, listener.port())).unwrap();

    let mut before = 0;
    for round in 1..=ROUNDS_BEFORE + ROUNDS {
        for _ in 0..EMPTY_PER_ROUND {
            socket.send(&[]).unwrap();
        }
        // One that MsQuic counts, behind the empty ones in the same queue: when it has arrived, so
        // have they.
        socket.send(&[0]).unwrap();
        listener.wait_for_received(round);
        if round == ROUNDS_BEFORE {
            before = resident_bytes();
        }
    }
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth < ALLOWED_GROWTH, "resident memory grew by {growth} bytes");
}

/// A listener on loopback that refuses every connection.
struct Listener {
    api: &'static QUIC_API_TABLE,
    registration: HQUIC,
    listener: HQUIC,
}

impl Listener {
    fn start() -> Self {
        let mut table = ptr::null();
        // SAFETY: `table` may be written to, and the only test of this program is the only caller.
        check("MsQuicOpenVersion", unsafe { MsQuicOpenVersion(2, &mut table) });
        // SAFETY: the table stays valid until it is closed, which `drop` does last.
        let api = unsafe { table.cast::<QUIC_API_TABLE>().as_ref() }.unwrap();

        let mut registration: HQUIC = ptr::null_mut();
        // SAFETY: no configuration is allowed; the handle may be written.
        check("RegistrationOpen", unsafe { api.RegistrationOpen.unwrap()(ptr::null(), &mut registration) });
        let mut listener: HQUIC = ptr::null_mut();
        // SAFETY: the registration is open, and the callback ignores its null context.
        check("ListenerOpen", unsafe {
            api.ListenerOpen.unwrap()(registration, Some(refuse), ptr::null_mut(), &mut listener)
        });
        let mut name = *b"test";
        let alpn = QUIC_BUFFER { Length: 4, Buffer: name.as_mut_ptr() };
        let address = socket_address();
        // SAFETY: MsQuic copies the name and the address before it returns.
        check("ListenerStart", unsafe {
            api.ListenerStart.unwrap()(listener, &alpn, 1, ptr::from_ref(&address).cast())
        });
        Self { api, registration, listener }
    }

    fn port(&self) -> u16 {
        let mut address = [0_u8; ADDRESS_SIZE];
        self.parameter(self.listener, QUIC_PARAM_LISTENER_LOCAL_ADDRESS, &mut address);
        u16::from_be_bytes([address[2], address[3]])
    }

    /// Waits until `count` datagrams with payload have reached MsQuic.
    fn wait_for_received(&self, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(600);
        loop {
            let mut counters = [0_u64; COUNTERS as usize];
            self.parameter(ptr::null_mut(), QUIC_PARAM_GLOBAL_PERF_COUNTERS, &mut counters);
            if counters[UDP_RECV as usize] >= count {
                return;
            }
            assert!(Instant::now() < deadline, "{} of {count} datagrams arrived", counters[UDP_RECV as usize]);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn parameter<T, const N: usize>(&self, handle: HQUIC, parameter: u32, value: &mut [T; N]) {
        let mut length = u32::try_from(size_of_val(value)).unwrap();
        // SAFETY: `handle` is null or open, and at most `length` bytes are written to `value`,
        // which takes any.
        let status = unsafe { self.api.GetParam.unwrap()(handle, parameter, &mut length, value.as_mut_ptr().cast()) };
        check("GetParam", status);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // SAFETY: all three are open and are closed once, each before the one that it belongs to.
        unsafe {
            self.api.ListenerClose.unwrap()(self.listener);
            self.api.RegistrationClose.unwrap()(self.registration);
            MsQuicClose(ptr::from_ref(self.api).cast());
        }
    }
}

unsafe extern "C" fn refuse(_: HQUIC, _: *mut c_void, _: *mut QUIC_LISTENER_EVENT) -> QUIC_STATUS {
    /// Any failure will do.
    const QUIC_STATUS_CONNECTION_REFUSED: QUIC_STATUS = 111;
    QUIC_STATUS_CONNECTION_REFUSED
}

/// The size of a `sockaddr_in6`, which is MsQuic's address.
const ADDRESS_SIZE: usize = 28;

/// The IPv4 loopback address with a port that the system chooses, as a `sockaddr_in`.
fn socket_address() -> [u8; ADDRESS_SIZE] {
    const AF_INET: u16 = 2;
    let mut address = [0; ADDRESS_SIZE];
    address[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    address[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    address
}

/// Without the files that are mapped: how much of those the kernel keeps is its own affair.
fn resident_bytes() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = maps.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn check(call: &str, status: QUIC_STATUS) {
    assert_eq!(status, 0, "{call}");
}
