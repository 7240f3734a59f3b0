//! The clock of a whole process jumps forward in the middle of transfers, as it may for a virtual
//! machine that is put aside and taken up again: everything arrives or is an error, nothing hangs,
//! and the next connection is as good as any.
//!
//! This process has a clock of its own: `clock_gettime` below takes the place of libc's in this
//! executable, for MsQuic, which is linked into it, as for Rust. The kernel does not jump along:
//! who waits for an absolute time of its clock, as Rust's waits with a timeout do, waits longer by
//! all the jumps before. None of MsQuic's waits does.
#![cfg(target_os = "linux")]

mod support;

use std::{
    sync::atomic::{AtomicI64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use futures::{StreamExt, TryStreamExt, stream};
use ring::digest::{Context, Digest, SHA256};
use sendstream::{
    Connection, OpenError, ReadError, RecvStream, SendStream, TransportConfig, WriteError, process::counters,
};
use support::{Endpoints, alone::parent, figure, pattern, run};

/// By how many seconds this process's clocks are ahead.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// libc's, in all but the time that it tells.
///
/// # Safety
///
/// `time` may be written to.
// SAFETY: the name is libc's, and so are the arguments and what it does with them.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the kernel's call takes the same arguments.
    let status = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    let counts_work = [libc::CLOCK_PROCESS_CPUTIME_ID, libc::CLOCK_THREAD_CPUTIME_ID].contains(&clock);
    if status == 0 && !counts_work {
        // SAFETY: the kernel has just written to it, and the caller has not got it back yet.
        unsafe { (*time).tv_sec += AHEAD.load(Ordering::SeqCst) };
    }
    status as libc::c_int
}

/// In a process of [`each_jump`], by how many seconds its clock is to jump at a time.
const SECONDS: &str = "SENDSTREAM_TEST_SECONDS";

const BYTES: usize = 4 << 20;
const STREAMS: usize = 100;

#[test]
fn jumps_of_one_to_three_hundred_seconds_cost_time_or_the_connection_and_no_data() {
    let test = "jumps_of_one_to_three_hundred_seconds_cost_time_or_the_connection_and_no_data";
    each_jump(test, [1, 2, 5, 10, 15, 20, 29, 31, 60, 120, 300], |seconds| async move {
        let (steady, wall) = (Instant::now(), SystemTime::now());
        let by_default = transfer(TransportConfig::default(), seconds).await;
        let alert = transfer(alert(), seconds).await;
        figure(format_args!("{seconds} s: {by_default}; where it is noticed: {alert}"));
        // Whether it was seen at all: by Rust here, and by MsQuic where an error above says that it
        // timed out.
        assert!(steady.elapsed() >= Duration::from_secs(2 * seconds));
        assert!(wall.elapsed().unwrap() >= Duration::from_secs(2 * seconds));
    });
}

#[test]
fn after_a_jump_without_traffic_a_connection_carries_data_or_is_over_on_both_sides() {
    let test = "after_a_jump_without_traffic_a_connection_carries_data_or_is_over_on_both_sides";
    each_jump(test, [10, 29, 31, 3600], |seconds| async move {
        let endpoints = Endpoints::new();
        let (client, server) = again(&endpoints).await;
        let data = pattern(BYTES);
        carry(&client, &server, &data, 0).await.unwrap();
        AHEAD.fetch_add(seconds as i64, Ordering::SeqCst);
        let outcome = carry(&client, &server, &data, 0).await;
        figure(format_args!("{seconds} s: {}", told(outcome)));
        drop((client, server));
        endpoints.end().await;
    });
}

/// Runs the body of `test` for each number of seconds, in a process of its own, which has a clock
/// of its own. They run side by side, as they wait for their timeouts.
fn each_jump<F: Future<Output = ()> + Send + 'static>(
    test: &str,
    jumps: impl IntoIterator<Item = u64>,
    body: impl FnOnce(u64) -> F,
) {
    if let Ok(seconds) = std::env::var(SECONDS) {
        return run(body(seconds.parse().unwrap()));
    }
    thread::scope(|scope| {
        for seconds in jumps {
            scope.spawn(move || parent(test, |command| _ = command.env(SECONDS, seconds.to_string())));
        }
    });
}

/// Settings that notice much: the connection is kept alive, and given up early.
fn alert() -> TransportConfig {
    TransportConfig::default()
        .keep_alive(Duration::from_millis(100))
        .idle_timeout(Duration::from_secs(5))
        .disconnect_timeout(Duration::from_secs(5))
}

/// What became of a transfer when the clock jumped in the middle; and the next connection is as
/// good as any.
async fn transfer(settings: TransportConfig, seconds: u64) -> String {
    let endpoints = Endpoints::with(settings.clone(), settings);
    let (client, server) = again(&endpoints).await;
    let data = pattern(BYTES);
    let outcome = carry(&client, &server, &data, seconds).await;
    drop((client, server));
    let (client, server) = again(&endpoints).await;
    carry(&client, &server, &data, 0).await.unwrap();
    drop((client, server));
    endpoints.end().await;
    told(outcome)
}

/// A connection. To MsQuic's server a jump is work that has waited for that long: it refuses
/// connections while they wait for more than ten seconds on average, and does not for long.
async fn again(endpoints: &Endpoints) -> (Connection, Connection) {
    loop {
        let by_load = counters().unwrap().connections_rejected_by_load;
        match endpoints.try_connect_through(endpoints.address).await {
            Ok(pair) => return pair,
            Err(refused) => assert!(counters().unwrap().connections_rejected_by_load > by_load, "{refused}"),
        }
    }
}

/// A large stream and small ones beside it. Each error is one of the connection's, which both sides
/// have in the end. Panics where the sender believes what the receiver has not got.
async fn carry(
    client: &Connection,
    server: &Connection,
    data: &[u8],
    seconds: u64,
) -> Result<(), (WriteError, String)> {
    match futures::join!(send(client, data), receive(server, data, seconds)) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(sent), received) => {
            futures::join!(client.closed(), server.closed());
            Err((sent, received.map_or_else(|lost| lost.to_string(), |()| "everything".to_owned())))
        }
        (Ok(()), Err(received)) => panic!("acknowledged without having arrived: {received}"),
    }
}

fn told(outcome: Result<(), (WriteError, String)>) -> String {
    outcome.map_or_else(
        |(sent, received)| format!("sending: {sent}; receiving: {received}"),
        |()| "everything arrived".to_owned(),
    )
}

async fn send(connection: &Connection, data: &[u8]) -> Result<(), WriteError> {
    let large = async {
        let mut stream = open(connection).await?;
        stream.write_all(data).await?;
        stream.finished().await
    };
    let small = stream::iter(0..STREAMS).map(|number| async move {
        let mut stream = open(connection).await?;
        drop(stream.finish_with(data[..number].to_vec()));
        stream.finished().await
    });
    let small = small.buffer_unordered(STREAMS).try_collect::<Vec<()>>();
    futures::try_join!(large, small).map(|_| ())
}

/// A stream, or what ended the connection: it may be over before all streams are open.
async fn open(connection: &Connection) -> Result<SendStream, WriteError> {
    match connection.open_uni() {
        Ok(stream) => Ok(stream),
        Err(OpenError::ConnectionLost(_) | OpenError::ConnectionEnding) => {
            Err(WriteError::ConnectionLost(connection.closed().await))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Has the clock jump once a quarter of the large stream is there.
async fn receive(connection: &Connection, data: &[u8], seconds: u64) -> Result<(), ReadError> {
    let streams = stream::unfold(connection.clone(), |connection| async {
        Some((connection.accept_uni().await.map_err(ReadError::ConnectionLost), connection))
    });
    let read = |mut stream: RecvStream| async move {
        let (mut length, mut digest, mut jumped) = (0, Context::new(&SHA256), false);
        while let Some(chunk) = stream.read_chunk().await? {
            length += chunk.len();
            digest.update(&chunk);
            if length > BYTES / 4 && !jumped {
                AHEAD.fetch_add(seconds as i64, Ordering::SeqCst);
                jumped = true;
            }
        }
        // Each length occurs once, and says which stream it must be.
        assert!(length < STREAMS || length == BYTES, "a stream of {length} bytes looked complete");
        assert_eq!(digest.finish().as_ref(), digest_of(&data[..length]).as_ref());
        Ok(())
    };
    streams.take(STREAMS + 1).map_ok(read).try_buffer_unordered(STREAMS + 1).try_collect::<Vec<()>>().await.map(|_| ())
}

fn digest_of(data: &[u8]) -> Digest {
    ring::digest::digest(&SHA256, data)
}
