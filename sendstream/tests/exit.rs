//! A process that ends in the middle of everything ends with its own status: it neither crashes nor
//! hangs.
//!
//! This binary is both sides: with `ROLE` in its environment it is such a process, otherwise it
//! runs the tests, each of which starts many, because a race at exit shows in some of them only.

mod support;

use std::{
    any::Any,
    cell::RefCell,
    future::Future,
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    panic::AssertUnwindSafe,
    pin::pin,
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    task::{Context, Wake, Waker},
    thread,
};

use futures::FutureExt as _;
use libtest_mimic::{Arguments, Failed, Trial};
#[cfg(feature = "qlog")]
use sendstream::QlogStream;
use sendstream::{
    BindError, ConfigError, ConnectError, Connection, ConnectionError, RecvChunk, RecvStream, Registration, SendStream,
    TransportConfig, Trust, WorkerTask, WorkerTaskError,
    process::{self, RetryPolicy},
};
use support::{Endpoints, HANG, Pair, run};

const ROLE: &str = "SENDSTREAM_TEST_EXITS";

/// What the processes exit with unless something goes wrong.
const STATUS: u8 = 7;

/// How many processes each test starts.
const ROUNDS: u32 = 10;

type Role = fn() -> ExitCode;

/// The tests' names, what their processes do, and the status that these must have.
const ROLES: [(&str, Role, u8); 12] = [
    ("an_exit_in_the_middle_of_a_transfer_keeps_its_status", exits_amid_a_transfer, STATUS),
    ("an_exit_with_live_handles_of_every_kind_keeps_its_status", exits_with_everything, STATUS),
    ("an_exit_on_a_thread_of_msquic_keeps_its_status", exits_in_a_waker, STATUS),
    ("a_return_from_main_with_live_handles_in_statics_keeps_its_status", returns_with_statics, STATUS),
    ("a_return_from_main_with_live_handles_in_thread_locals_keeps_its_status", returns_with_thread_locals, STATUS),
    ("a_return_from_main_with_leaked_handles_keeps_its_status", returns_with_leaks, STATUS),
    ("a_return_from_main_right_after_the_last_drop_keeps_its_status", returns_after_drops, STATUS),
    ("a_panic_of_main_with_live_handles_is_an_ordinary_panic", panics_with_everything, 101),
    ("a_child_that_was_forked_before_the_first_use_may_use_everything", forks_before_the_first_use, STATUS),
    ("a_child_that_is_forked_later_gets_errors_at_once_and_its_parent_goes_on", forks_in_the_middle, STATUS),
    ("a_program_that_is_executed_inherits_neither_sockets_nor_status", executes_with_everything, STATUS),
    ("(what is executed)", looks_at_what_it_inherited, STATUS),
];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(ROLE) {
        let (_, role, _) = ROLES.iter().find(|(role, ..)| *role == name).expect("the role is one of ours");
        return role();
    }
    let tests = ROLES
        .into_iter()
        .filter(|(name, ..)| !name.starts_with('('))
        .map(|(name, _, status)| Trial::test(name, move || exits_with(name, status)))
        .collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn exits_with(role: &str, expected: u8) -> Result<(), Failed> {
    for round in 0..ROUNDS {
        let (status, said) = process(role)?;
        if status.code() != Some(expected.into()) {
            return Err(format!("round {round}: {status}, not {expected}; it said: {said}").into());
        }
    }
    support::figure_of(role, format_args!("{ROUNDS} processes ended with status {expected}"));
    Ok(())
}

/// Runs this binary as `role`, with a bound on how long it may take; how it ended, and what it
/// said.
fn process(role: &str) -> Result<(ExitStatus, String), Failed> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(ROLE, role)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stderr = child.stderr.take().expect("it is piped");
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let mut said = String::new();
        let _ = stderr.read_to_string(&mut said);
        let _ = done.send(said);
    });
    // Its end of the pipe closes when it ends, and not before.
    match ended.recv_timeout(HANG) {
        Ok(said) => Ok((child.wait()?, said)),
        Err(_) => {
            child.kill()?;
            child.wait()?;
            Err(format!("it still runs after {HANG:?}").into())
        }
    }
}

// ---- What is alive ------------------------------------------------------------------------------

/// Live handles of every kind, and work of every kind under way.
async fn everything() -> Vec<Box<dyn Any + Send>> {
    let datagrams = TransportConfig::default().datagram_receive_buffer(1 << 16);
    let Pair { client, server, endpoints } = Pair::with(datagrams.clone(), datagrams).await;
    // A stream with more in flight than its reader takes, one that is busy, one that is finished,
    // two that never started.
    let mut stuck = client.open_uni().unwrap();
    drop(stuck.send(vec![1; 8 << 20]));
    let mut receiving = server.accept_uni().await.unwrap();
    let chunks = [receiving.read_chunk().await.unwrap().unwrap(), receiving.read_chunk().await.unwrap().unwrap()];
    let mut busy = client.open_uni().unwrap();
    drop(busy.send(vec![2; 64 << 20]));
    let mut reading = server.accept_uni().await.unwrap();
    thread::spawn(move || {
        futures::executor::block_on(async { while let Ok(Some(_)) = reading.read_chunk().await {} });
    });
    let mut finished = client.open_uni().unwrap();
    drop(finished.finish_with("finished"));
    let unstarted = (client.open_uni().unwrap(), client.open_bi().unwrap());
    let sent: Vec<_> = (0..10).map(|_| client.send_datagram("datagram")).collect();
    let stats = client.stats();
    // A client that nobody accepts, and one that waits for a verifier which waits for ever.
    let waiting = connecting(Trust::dangerous_accept_any_certificate(), endpoints.address);
    let incoming = endpoints.server.accept().await.unwrap();
    let judged = connecting(
        Trust::dangerous_accept_any_certificate().verify_with(|_| std::future::pending()),
        endpoints.address,
    );
    let accepting = endpoints.server.accept().await.unwrap();
    let mut accepting = Box::pin(accepting.accept());
    assert!(support::poll_once(&mut accepting).is_pending());
    vec![
        Box::new((stuck, receiving, chunks)),
        Box::new((busy, finished, unstarted)),
        Box::new((sent, stats)),
        Box::new((waiting, incoming)),
        Box::new((judged, accepting)),
        Box::new((client, server, endpoints)),
    ]
}

/// A connection that is on its way for as long as the result lives.
fn connecting(trust: Trust, address: std::net::SocketAddr) -> impl Any + Send {
    let client = Arc::new(support::client_with(trust).build().unwrap());
    let mut connect = Box::pin(async move { client.connect(address, "localhost").await });
    assert!(support::poll_once(&mut connect).is_pending());
    connect
}

// ---- The roles ----------------------------------------------------------------------------------

fn exits_amid_a_transfer() -> ExitCode {
    run(async {
        let pair = Pair::new().await;
        let mut send = pair.client.open_uni().unwrap();
        drop(send.send(vec![0; 256 << 20]));
        let mut recv = pair.server.accept_uni().await.unwrap();
        for _ in 0..50 {
            recv.read_chunk().await.unwrap();
        }
        // MsQuic's threads go on encrypting and decrypting while the exit handlers run.
        thread::spawn(move || futures::executor::block_on(async { while recv.read_chunk().await.is_ok() {} }));
        std::process::exit(STATUS.into());
    })
}

fn exits_with_everything() -> ExitCode {
    run(async {
        let _everything = everything().await;
        std::process::exit(STATUS.into());
    })
}

fn exits_in_a_waker() -> ExitCode {
    struct Exiting;
    impl Wake for Exiting {
        fn wake(self: Arc<Self>) {
            std::process::exit(STATUS.into());
        }
    }
    run(async {
        let pair = Pair::new().await;
        let waker = Waker::from(Arc::new(Exiting));
        let mut send = pair.client.open_uni().unwrap();
        drop(send.send("x"));
        let mut accept = pin!(pair.server.accept_bi());
        assert!(accept.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let (mut both, _recv) = pair.client.open_bi().unwrap();
        drop(both.send("wakes it"));
        std::future::pending().await
    })
}

fn returns_with_statics() -> ExitCode {
    static ALIVE: Mutex<Vec<Box<dyn Any + Send>>> = Mutex::new(Vec::new());
    *ALIVE.lock().unwrap() = run(everything());
    ExitCode::from(STATUS)
}

fn returns_with_thread_locals() -> ExitCode {
    thread_local! {
        static ALIVE: RefCell<Vec<Box<dyn Any + Send>>> = const { RefCell::new(Vec::new()) };
    }
    // Their destructors run while the process exits.
    let alive = run(everything());
    ALIVE.with(|place| *place.borrow_mut() = alive);
    ExitCode::from(STATUS)
}

fn returns_with_leaks() -> ExitCode {
    std::mem::forget(run(everything()));
    ExitCode::from(STATUS)
}

fn returns_after_drops() -> ExitCode {
    // The closes are on their way to the background thread and to MsQuic's.
    drop(run(everything()));
    ExitCode::from(STATUS)
}

fn panics_with_everything() -> ExitCode {
    let _everything = run(everything());
    panic!("main panics, as the test wants");
}

fn forks_before_the_first_use() -> ExitCode {
    // SAFETY: this is the only thread of the process.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    let everything = run(everything());
    if child == 0 {
        drop(everything);
        return ExitCode::from(STATUS);
    }
    ended(child)
}

/// What `child` ended with.
fn ended(child: libc::pid_t) -> ExitCode {
    let mut status = 0;
    // SAFETY: `status` is a place for what is written, and nobody else waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    ExitStatus::from_raw(status)
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

fn forks_in_the_middle() -> ExitCode {
    run(async {
        let datagrams = TransportConfig::default().datagram_receive_buffer(1 << 16);
        let Pair { client, server, endpoints } = Pair::with(datagrams.clone(), datagrams).await;
        #[cfg(feature = "qlog")]
        let qlog = Qlog::begin(&endpoints).await;
        let mut send = client.open_uni().unwrap();
        send.send("x").await.unwrap();
        let mut recv = server.accept_uni().await.unwrap();
        let chunk = recv.read_chunk().await.unwrap().unwrap();
        let unstarted = client.open_bi().unwrap();
        let task = client.spawn_on_worker(std::future::pending::<()>());
        // MsQuic's threads are busy, and so is the one that reads.
        let mut busy = client.open_uni().unwrap();
        drop(busy.send(vec![2; 64 << 20]));
        let mut reading = server.accept_uni().await.unwrap();
        let reader = thread::spawn(move || {
            futures::executor::block_on(async {
                let mut length = 0;
                while length < 64 << 20 {
                    length += reading.read_chunk().await.unwrap().unwrap().len();
                }
            });
        });
        let inherited = Inherited {
            client,
            server,
            endpoints,
            send,
            recv,
            chunk,
            unstarted,
            task,
            #[cfg(feature = "qlog")]
            qlog,
        };
        // SAFETY: the child calls what a child of a process with threads may call, and the library
        // under test.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            // SAFETY: it ends a child that hangs.
            unsafe { libc::alarm(60) };
            let checked = AssertUnwindSafe(inherited.fails_at_once()).catch_unwind().await;
            // SAFETY: nothing of the parent's is to run at this exit.
            unsafe { libc::_exit(if checked.is_ok() { STATUS.into() } else { 1 }) };
        }
        let status = ended(child);
        let Inherited { client, server, endpoints, mut send, mut recv, chunk, unstarted, task, .. } = inherited;
        assert_eq!(&*chunk, b"x");
        drop((chunk, unstarted, task));
        let (sent, received) = futures::join!(send.finish_with("y"), recv.read_to_end(16));
        sent.unwrap();
        assert_eq!(received.unwrap(), b"y");
        reader.join().unwrap();
        let another = endpoints.connect().await;
        support::tell(&another.0, &another.1, "it goes on").await;
        drop((another, send, recv, busy));
        Pair { client, server, endpoints }.end().await;
        status
    })
}

/// What a child has of its parent's.
struct Inherited {
    client: Connection,
    server: Connection,
    endpoints: Endpoints,
    send: SendStream,
    recv: RecvStream,
    chunk: RecvChunk,
    unstarted: (SendStream, RecvStream),
    task: WorkerTask<()>,
    #[cfg(feature = "qlog")]
    qlog: Qlog,
}

/// A log, with a connection that is in it.
#[cfg(feature = "qlog")]
struct Qlog {
    stream: QlogStream,
    _connection: Connection,
}

#[cfg(feature = "qlog")]
impl Qlog {
    /// The lock of its queue is taken more often than not: a thread looks at it all the time.
    async fn begin(endpoints: &Endpoints) -> Self {
        let stream = QlogStream::new("inherited", std::io::sink());
        let client = support::client_with(Trust::dangerous_accept_any_certificate()).qlog(&stream).build().unwrap();
        let connecting = client.connect(endpoints.address, "localhost");
        let accepting = async { endpoints.server.accept().await.unwrap().accept().await };
        let (connection, accepted) = futures::join!(connecting, accepting);
        drop(accepted);
        let shown = stream.clone();
        thread::spawn(move || {
            loop {
                let _ = format!("{shown:?}");
            }
        });
        Self { stream, _connection: connection.unwrap() }
    }

    async fn fails_at_once(self) {
        assert_eq!(self.stream.lost(), 0);
        assert_eq!(self.stream.flush().await.unwrap_err().kind(), std::io::ErrorKind::Unsupported);
        assert!(!format!("{:?}", self.stream).is_empty());
        drop(QlogStream::new("of the child", std::io::sink()));
    }
}

impl Inherited {
    /// Looks at each call that could wait, and drops everything.
    async fn fails_at_once(self) {
        const WHY: &str = "this process was forked from one that uses QUIC already: fork before the first use";
        #[track_caller]
        fn forked<T>(result: Result<T, impl ToString>) -> bool {
            result.map(drop).unwrap_err().to_string().ends_with(WHY)
        }
        #[cfg(feature = "qlog")]
        self.qlog.fails_at_once().await;
        let Self {
            client, server, endpoints, mut send, mut recv, chunk, unstarted: (mut unstarted, _recv), task, ..
        } = self;

        // What is new.
        let identity = support::identity();
        let bound = support::server(&identity).bind(support::any_port());
        assert!(matches!(bound, Err(BindError::Config(ConfigError::Forked))));
        assert!(matches!(support::client(&identity).build(), Err(ConfigError::Forked)));
        assert!(forked(Registration::new()));
        assert!(forked(process::set_retry_policy(RetryPolicy::Always)));

        // Endpoints.
        let connected = endpoints.client.connect(endpoints.address, "localhost").await;
        assert!(matches!(connected, Err(ConnectError::Connection(ConnectionError::Forked))));
        assert!(forked(endpoints.client.connect_host("localhost", 1).await));
        assert!(forked(endpoints.client.connect_0rtt(endpoints.address, "localhost").await));
        assert!(forked(endpoints.server.listen_also(support::any_port())));
        assert!(endpoints.server.accept().await.is_none());
        endpoints.client.close_all(1, "").unwrap();
        endpoints.client.wait_idle().await;
        endpoints.server.shutdown().await;

        // Connections.
        assert_eq!(client.closed().await, ConnectionError::Forked);
        assert!(forked(client.open_uni()));
        assert!(forked(client.open_bi()));
        assert!(forked(server.accept_uni().await));
        assert!(forked(server.accept_bi().await));
        assert!(forked(client.send_datagram("x").await));
        assert!(forked(client.read_datagram().await));
        assert!(forked(client.path_changed().await));
        assert!(forked(client.rebind(support::any_port()).await));
        assert!(forked(client.stats().await));
        assert_eq!(client.spawn_on_worker(async {}).await, Err(WorkerTaskError::Canceled));
        assert_eq!(task.await, Err(WorkerTaskError::Canceled));
        client.close(7, "why").unwrap();
        assert_eq!(client.clone().drain().await, ConnectionError::Forked);

        // Streams.
        assert!(forked(send.send("x").await));
        assert!(forked(send.write_all(b"x").await));
        assert!(forked(send.acked().await));
        assert!(forked(send.finished().await));
        assert!(forked(send.stopped().await));
        assert!(forked(unstarted.start().await));
        assert!(forked(recv.read_chunk().await));
        assert!(forked(recv.received_reset().await));
        let lost: std::io::Error = recv.read_chunk().await.map(drop).unwrap_err().into();
        assert_eq!(lost.kind(), std::io::ErrorKind::Unsupported);
        drop((chunk, recv, send, unstarted, client, server, endpoints));
    }
}

fn executes_with_everything() -> ExitCode {
    let _everything = run(everything());
    let error = Command::new(std::env::current_exe().unwrap()).env(ROLE, "(what is executed)").exec();
    panic!("{error}");
}

/// What [`executes_with_everything`] becomes.
fn looks_at_what_it_inherited() -> ExitCode {
    let inherited: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|what| {
            let what = what.to_string_lossy();
            what.starts_with("socket:") || what.starts_with("anon_inode:")
        })
        .collect();
    if inherited.is_empty() {
        // It is a process as any other, and may start anew.
        run(async { Pair::new().await.end().await });
        return ExitCode::from(STATUS);
    }
    eprintln!("inherited: {inherited:?}");
    ExitCode::FAILURE
}
