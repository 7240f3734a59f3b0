//! The API table, a server, a client, and connections between them.

use std::{
    ffi::{CString, c_char, c_void},
    mem,
    net::{Ipv4Addr, SocketAddr},
    ptr,
    sync::{
        Mutex, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
};

use anyhow::{Context, Result, bail, ensure};
use bench_core::{Identity, Listening, Setup, Suite, limits};
use sendstream_sys as sys;

/// What is done with a stream that the client has opened; runs in PEER_STREAM_STARTED.
pub(crate) type Accept = Box<dyn Fn(Handle) + Send + Sync>;

/// A handle of MsQuic's, which any thread may use.
#[derive(Clone, Copy)]
pub(crate) struct Handle(pub(crate) sys::HQUIC);

// SAFETY: MsQuic's functions take handles on any thread.
unsafe impl Send for Handle {}
// SAFETY: as for `Send`.
unsafe impl Sync for Handle {}

/// Calls a function of the API table.
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {
        $crate::native::api().$name.expect(concat!("the API table has ", stringify!($name)))($($argument),*)
    };
}
pub(crate) use call;

static API: OnceLock<&'static sys::QUIC_API_TABLE> = OnceLock::new();

/// The table that [`open`] has opened.
pub(crate) fn api() -> &'static sys::QUIC_API_TABLE {
    API.get().expect("the API table is open")
}

/// Panics unless the call succeeded.
pub(crate) fn check(status: u32, what: &str) {
    assert!((status as i32) <= 0, "{what}: status {status}");
}

/// Opens the API table and a registration, which both sides share.
pub(crate) fn open() -> Handle {
    sys::keep_openssl_at_exit();
    let mut table = ptr::null();
    // SAFETY: the place is valid for the write, and this is the first and only call.
    check(unsafe { sys::MsQuicOpenVersion(sys::QUIC_API_VERSION_2, &mut table) }, "MsQuicOpenVersion");
    // SAFETY: MsQuic has stored its table there, which stays valid as nobody closes it.
    API.set(unsafe { &*table.cast() }).map_err(|_| ()).expect("the first call");

    let config = sys::QUIC_REGISTRATION_CONFIG {
        AppName: c"bench".as_ptr(),
        ExecutionProfile: sys::QUIC_EXECUTION_PROFILE_QUIC_EXECUTION_PROFILE_LOW_LATENCY,
    };
    let mut registration = ptr::null_mut();
    // SAFETY: `config` outlives the call, the place is valid for the write.
    check(unsafe { call!(RegistrationOpen(&config, &mut registration)) }, "RegistrationOpen");
    Handle(registration)
}

/// A server that listens.
pub(crate) struct Server {
    context: &'static ServerContext,
    /// A message for each connection when its handshake is done.
    connected: Mutex<Receiver<()>>,
}

struct ServerContext {
    configuration: Handle,
    connected: Sender<()>,
    /// For connections that come from now on.
    accept: Mutex<Option<&'static Accept>>,
}

impl Server {
    pub(crate) fn listen(registration: Handle, setup: &Setup, identity: &Identity) -> Result<(Self, SocketAddr)> {
        let certificate = CString::new(identity.certificate_file().to_str().context("a path that is no text")?)?;
        let key = CString::new(identity.key_file().to_str().context("a path that is no text")?)?;
        let mut files =
            sys::QUIC_CERTIFICATE_FILE { PrivateKeyFile: key.as_ptr(), CertificateFile: certificate.as_ptr() };
        let configuration = configuration(registration.0, setup, Some(&mut files));

        let (tell, connected) = channel();
        let context: &'static ServerContext =
            Box::leak(Box::new(ServerContext { configuration, connected: tell, accept: Mutex::new(None) }));
        let mut listener = ptr::null_mut();
        let place = ptr::from_ref(context).cast_mut().cast();
        // SAFETY: the context lives as long as the process, and is what the callback takes it for.
        let status = unsafe { call!(ListenerOpen(registration.0, Some(on_listener), place, &mut listener)) };
        check(status, "ListenerOpen");
        let address = listen(listener)?;
        Ok((Self { context, connected: Mutex::new(connected) }, address))
    }

    /// Says what is done with the streams of connections that come from now on.
    pub(crate) fn accept(&self, accept: Accept) {
        *self.context.accept.lock().expect("nobody panicked") = Some(Box::leak(Box::new(accept)));
    }

    /// Waits for so many connections.
    pub(crate) fn wait(&self, count: usize) {
        wait(&self.connected, count);
    }
}

/// A client of one server.
pub(crate) struct Client {
    registration: Handle,
    configuration: Handle,
    server: libc::sockaddr_in,
    tell: &'static Sender<()>,
    /// A message for each connection when its handshake is done.
    connected: Mutex<Receiver<()>>,
}

impl Client {
    pub(crate) fn new(registration: Handle, setup: &Setup, server: &Listening) -> Result<Self> {
        let SocketAddr::V4(server) = server.address else { bail!("the server has no IPv4 address") };
        let (tell, connected) = channel();
        Ok(Self {
            registration,
            configuration: configuration(registration.0, setup, None),
            server: socket_address(*server.ip(), server.port()),
            tell: Box::leak(Box::new(tell)),
            connected: Mutex::new(connected),
        })
    }

    /// Makes so many connections, 16 at a time.
    pub(crate) fn connect(&self, count: usize) -> Vec<Handle> {
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            if number >= 16 {
                wait(&self.connected, 1);
            }
            connections.push(self.start());
        }
        wait(&self.connected, count.min(16));
        connections
    }

    fn start(&self) -> Handle {
        let mut connection = ptr::null_mut();
        let context = ptr::from_ref(self.tell).cast_mut().cast();
        // SAFETY: the sender is leaked and is what the callback takes the context for; the address
        // outlives its call, and MsQuic reads no more than the size that is given.
        unsafe {
            check(
                call!(ConnectionOpen(self.registration.0, Some(on_client), context, &mut connection)),
                "ConnectionOpen",
            );
            let mut remote: libc::sockaddr_in6 = mem::zeroed();
            (&raw mut remote).cast::<libc::sockaddr_in>().write(self.server);
            let (size, place) = (size_of_val(&remote) as u32, (&raw const remote).cast());
            check(call!(SetParam(connection, sys::QUIC_PARAM_CONN_REMOTE_ADDRESS, size, place)), "SetParam");
            let family = sys::QUIC_ADDRESS_FAMILY_UNSPEC;
            let (name, port) = (c"localhost".as_ptr(), u16::from_be(self.server.sin_port));
            let status = call!(ConnectionStart(connection, self.configuration.0, family, name, port));
            check(status, "ConnectionStart");
        }
        Handle(connection)
    }
}

fn wait(connected: &Mutex<Receiver<()>>, count: usize) {
    let connected = connected.lock().expect("nobody panicked");
    (0..count).for_each(|_| connected.recv().expect("there is a sender"));
}

/// Closes a connection, which goes on in the background.
pub(crate) fn shut_down(connection: Handle) {
    // SAFETY: the handle is open: it is closed at SHUTDOWN_COMPLETE, which follows this call.
    unsafe {
        call!(ConnectionShutdown(
            connection.0,
            sys::QUIC_CONNECTION_SHUTDOWN_FLAGS_QUIC_CONNECTION_SHUTDOWN_FLAG_NONE,
            0
        ))
    };
}

/// The server's side accepts with this callback what the client opens.
///
/// # Safety
///
/// `stream` came with PEER_STREAM_STARTED, and `context` is what `callback` takes it for.
pub(crate) unsafe fn set_callback(stream: Handle, callback: StreamCallback, context: *mut c_void) {
    // SAFETY: the caller promises it.
    unsafe { call!(SetCallbackHandler(stream.0, callback as *mut c_void, context)) };
}

pub(crate) type StreamCallback = unsafe extern "C" fn(sys::HQUIC, *mut c_void, *mut sys::QUIC_STREAM_EVENT) -> u32;

/// A stream of the client's that has not started yet.
///
/// # Safety
///
/// `context` is what `callback` takes it for.
pub(crate) unsafe fn open_stream(
    connection: Handle,
    flags: sys::QUIC_STREAM_OPEN_FLAGS,
    callback: StreamCallback,
    context: *mut c_void,
) -> Handle {
    let mut stream = ptr::null_mut();
    // SAFETY: the connection's handle is open, the place is valid for the write; the caller
    // promises the rest.
    check(unsafe { call!(StreamOpen(connection.0, flags, Some(callback), context, &mut stream)) }, "StreamOpen");
    Handle(stream)
}

/// The pieces of a RECEIVE event.
///
/// # Safety
///
/// `event` is a RECEIVE event, and the callback that it came with has not returned.
pub(crate) unsafe fn received(event: &sys::QUIC_STREAM_EVENT) -> impl Iterator<Item = &[u8]> {
    // SAFETY: the caller says which member of the union it is.
    let receive = unsafe { &event.__bindgen_anon_1.RECEIVE };
    let buffers = match receive.BufferCount {
        // The pointer may be null.
        0 => &[],
        // SAFETY: there are as many buffers as it says, until the callback returns.
        count => unsafe { std::slice::from_raw_parts(receive.Buffers, count as usize) },
    };
    // SAFETY: as for the buffers.
    buffers.iter().map(|buffer| unsafe { std::slice::from_raw_parts(buffer.Buffer, buffer.Length as usize) })
}

unsafe extern "C" fn on_listener(
    _listener: sys::HQUIC,
    context: *mut c_void,
    event: *mut sys::QUIC_LISTENER_EVENT,
) -> u32 {
    // SAFETY: the context is the leaked one of the server; the event is valid during the call.
    let (server, event) = unsafe { (&*context.cast::<ServerContext>(), &*event) };
    if event.Type == sys::QUIC_LISTENER_EVENT_TYPE_QUIC_LISTENER_EVENT_NEW_CONNECTION {
        let accept = server.accept.lock().expect("nobody panicked").expect("somebody accepts");
        let connection = Box::new(ServerConnection { connected: &server.connected, accept });
        // SAFETY: it is that event; the context is freed at SHUTDOWN_COMPLETE, the last event; both
        // handles are open.
        let status = unsafe {
            let handle = event.__bindgen_anon_1.NEW_CONNECTION.Connection;
            call!(SetCallbackHandler(handle, on_server as *mut c_void, Box::into_raw(connection).cast()));
            call!(ConnectionSetConfiguration(handle, server.configuration.0))
        };
        check(status, "ConnectionSetConfiguration");
    }
    0
}

struct ServerConnection {
    connected: &'static Sender<()>,
    accept: &'static Accept,
}

unsafe extern "C" fn on_server(
    handle: sys::HQUIC,
    context: *mut c_void,
    event: *mut sys::QUIC_CONNECTION_EVENT,
) -> u32 {
    // SAFETY: the context is the one that was set for this connection and not freed yet; the event
    // is valid during the call.
    let (connection, event) = unsafe { (&*context.cast::<ServerConnection>(), &*event) };
    match event.Type {
        sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_PEER_STREAM_STARTED => {
            // SAFETY: it is that event.
            (connection.accept)(Handle(unsafe { event.__bindgen_anon_1.PEER_STREAM_STARTED.Stream }));
        }
        sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_CONNECTED => {
            let _ = connection.connected.send(());
        }
        sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_COMPLETE => {
            // SAFETY: no event follows this one, and nobody else closes the handle or frees the
            // context.
            unsafe {
                call!(ConnectionClose(handle));
                drop(Box::from_raw(context.cast::<ServerConnection>()));
            }
        }
        _ => {}
    }
    0
}

unsafe extern "C" fn on_client(
    handle: sys::HQUIC,
    context: *mut c_void,
    event: *mut sys::QUIC_CONNECTION_EVENT,
) -> u32 {
    // SAFETY: the context is the client's leaked sender; the event is valid during the call.
    let (connected, event) = unsafe { (&*context.cast::<Sender<()>>(), &*event) };
    match event.Type {
        sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_CONNECTED => {
            let _ = connected.send(());
        }
        sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_INITIATED_BY_TRANSPORT => {
            panic!("a connection was lost");
        }
        // SAFETY: no event follows this one, and nobody else closes the handle.
        sys::QUIC_CONNECTION_EVENT_TYPE_QUIC_CONNECTION_EVENT_SHUTDOWN_COMPLETE => unsafe {
            call!(ConnectionClose(handle));
        },
        _ => {}
    }
    0
}

fn socket_address(ip: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
        sin_zero: [0; 8],
    }
}

/// Starts the listener on loopback, and gives its address.
fn listen(listener: sys::HQUIC) -> Result<SocketAddr> {
    // SAFETY: socket addresses are integers throughout, for which zero is a valid value.
    let (mut address, mut bound): (libc::sockaddr_in6, libc::sockaddr_in6) = unsafe { mem::zeroed() };
    let alpn = alpn();
    let mut size = size_of_val(&bound) as u32;
    // SAFETY: a `QUIC_ADDR` has the size of its largest member, `sockaddr_in6`, which begins like a
    // `sockaddr_in`; all that is pointed to outlives the calls.
    unsafe {
        (&raw mut address).cast::<libc::sockaddr_in>().write(socket_address(Ipv4Addr::LOCALHOST, 0));
        check(call!(ListenerStart(listener, &alpn, 1, (&raw const address).cast())), "ListenerStart");
        let parameter = sys::QUIC_PARAM_LISTENER_LOCAL_ADDRESS;
        check(call!(GetParam(listener, parameter, &mut size, (&raw mut bound).cast())), "GetParam");
    }
    ensure!(i32::from(bound.sin6_family) == libc::AF_INET, "the listener's address is not the one it was given");
    // SAFETY: as above.
    let bound = unsafe { (&raw const bound).cast::<libc::sockaddr_in>().read() };
    Ok((Ipv4Addr::LOCALHOST, u16::from_be(bound.sin_port)).into())
}

fn alpn() -> sys::QUIC_BUFFER {
    sys::QUIC_BUFFER { Length: limits::ALPN.len() as u32, Buffer: limits::ALPN.as_ptr().cast_mut() }
}

/// A server's with a certificate, a client's without.
fn configuration(
    registration: sys::HQUIC,
    setup: &Setup,
    certificate: Option<&mut sys::QUIC_CERTIFICATE_FILE>,
) -> Handle {
    let (settings, alpn) = (settings(setup.streams), alpn());
    let mut configuration = ptr::null_mut();
    // SAFETY: all that is pointed to outlives the call, which copies it.
    let status = unsafe {
        let size = size_of_val(&settings) as u32;
        call!(ConfigurationOpen(registration, &alpn, 1, &settings, size, ptr::null_mut(), &mut configuration))
    };
    check(status, "ConfigurationOpen");
    let is_server = certificate.is_some();
    let credential = sys::QUIC_CREDENTIAL_CONFIG {
        Type: match is_server {
            true => sys::QUIC_CREDENTIAL_TYPE_QUIC_CREDENTIAL_TYPE_CERTIFICATE_FILE,
            false => sys::QUIC_CREDENTIAL_TYPE_QUIC_CREDENTIAL_TYPE_NONE,
        },
        Flags: sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_SET_ALLOWED_CIPHER_SUITES
            | match is_server {
                true => 0,
                false => {
                    sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_CLIENT
                        | sys::QUIC_CREDENTIAL_FLAGS_QUIC_CREDENTIAL_FLAG_NO_CERTIFICATE_VALIDATION
                }
            },
        __bindgen_anon_1: sys::QUIC_CREDENTIAL_CONFIG__bindgen_ty_1 {
            CertificateFile: certificate.map_or(ptr::null_mut(), ptr::from_mut),
        },
        Principal: ptr::null::<c_char>(),
        Reserved: ptr::null_mut(),
        AsyncHandler: None,
        AllowedCipherSuites: match setup.suite {
            Suite::Aes128 => sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS_QUIC_ALLOWED_CIPHER_SUITE_AES_128_GCM_SHA256,
            Suite::Aes256 => sys::QUIC_ALLOWED_CIPHER_SUITE_FLAGS_QUIC_ALLOWED_CIPHER_SUITE_AES_256_GCM_SHA384,
        },
        CaCertificateFile: ptr::null::<c_char>(),
    };
    // SAFETY: the credential and what it points to outlive the call, which is synchronous.
    check(unsafe { call!(ConfigurationLoadCredential(configuration, &credential)) }, "ConfigurationLoadCredential");
    Handle(configuration)
}

/// What Sendstream sets, where it matters.
fn settings(streams: u16) -> sys::QUIC_SETTINGS {
    // SAFETY: it is integers and bit fields throughout, for which zero is a valid value.
    let mut settings: sys::QUIC_SETTINGS = unsafe { mem::zeroed() };
    let mut is_set = sys::QUIC_SETTINGS__bindgen_ty_1__bindgen_ty_1 {
        _bindgen_align: [],
        _bitfield_1: sys::__BindgenBitfieldUnit::new([0; 8]),
    };
    settings.IdleTimeoutMs = limits::IDLE_TIMEOUT.as_millis() as u64;
    is_set.set_IdleTimeoutMs(1);
    settings.PeerUnidiStreamCount = streams;
    is_set.set_PeerUnidiStreamCount(1);
    settings.PeerBidiStreamCount = streams;
    is_set.set_PeerBidiStreamCount(1);
    settings.StreamRecvWindowDefault = limits::STREAM_WINDOW;
    is_set.set_StreamRecvWindowDefault(1);
    settings.ConnFlowControlWindow = limits::CONNECTION_WINDOW;
    is_set.set_ConnFlowControlWindow(1);
    settings.InitialWindowPackets = limits::INITIAL_WINDOW_PACKETS;
    is_set.set_InitialWindowPackets(1);
    settings.MinimumMtu = 1288;
    is_set.set_MinimumMtu(1);
    settings.MaximumMtu = limits::MTU;
    is_set.set_MaximumMtu(1);
    settings.set_SendBufferingEnabled(0);
    is_set.set_SendBufferingEnabled(1);
    settings.__bindgen_anon_1 = sys::QUIC_SETTINGS__bindgen_ty_1 { IsSet: is_set };
    settings
}
