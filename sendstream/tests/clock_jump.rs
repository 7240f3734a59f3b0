//! The clock of a whole process jumps forward in the middle of transfers, as it may for a virtual machine that is put aside
//! and taken up again: everything arrives or is an error, nothing hangs, and the next connection is as good as any.
//!
//! This process has a clock of its own: `clock_gettime` below takes the place of libc's in this executable, for MsQuic, which
//! is linked into it, as for Rust. The kernel does not jump along: who waits for an absolute time of its clock, as Rust's waits
//! with a timeout do, waits longer by all the jumps before. None of MsQuic's waits does.
#![cfg(target_os = "linux")]

mod support;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use futures::{StreamExt, TryStreamExt, stream};
use ring::digest::{Context, Digest, SHA256};
use sendstream::{Connection, ReadError, RecvStream, TransportConfig, WriteError};
use support::{Endpoints, figure, pattern, run};

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

/// There is one clock for both tests.
static ALONE: Mutex<()> = Mutex::new(());

const BYTES: usize = 16 << 20;
const STREAMS: usize = 100;

#[test]
fn jumps_of_one_to_three_hundred_seconds_cost_time_or_the_connection_and_no_data() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    run(async {
        let (steady, wall) = (Instant::now(), SystemTime::now());
        let mut jumps = 0;
        for seconds in [1, 2, 5, 10, 15, 20, 29, 31, 60, 120, 300] {
            for settings in [TransportConfig::default(), alert()] {
                let keep_alive = settings.keep_alive;
                let outcome = transfer(settings, seconds).await;
                figure(format_args!("{seconds} s, keep-alive {keep_alive:?}: {outcome}"));
                jumps += seconds;
            }
        }
        // Whether it was seen at all: by Rust here, and by MsQuic where an error above says that it timed out.
        assert!(steady.elapsed() >= Duration::from_secs(jumps));
        assert!(wall.elapsed().unwrap() >= Duration::from_secs(jumps));
    });
}

#[test]
fn a_connection_without_traffic_times_out_at_once_when_the_clock_jumps_past_its_timeout() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    run(async {
        let settings = TransportConfig { idle_timeout: Some(Duration::from_secs(3600)), ..Default::default() };
        let endpoints = Endpoints::with(settings.clone(), settings);
        let (client, server) = endpoints.connect().await;
        client.open_uni().unwrap().finish_with("hello").await.unwrap();
        AHEAD.fetch_add(3601, Ordering::SeqCst);
        // The workers look at the clock when they have something to do.
        drop(client.open_uni().unwrap().finish_with("what makes it look"));
        let ended = futures::join!(client.closed(), server.closed());
        figure(format_args!("{} and {}", ended.0, ended.1));
        endpoints.end().await;
    });
}

/// Settings that notice much: the connection is kept alive, and given up early.
fn alert() -> TransportConfig {
    TransportConfig {
        keep_alive: Some(Duration::from_millis(100)),
        idle_timeout: Some(Duration::from_secs(5)),
        disconnect_timeout: Duration::from_secs(5),
        ..Default::default()
    }
}

/// What became of a large stream, and small ones beside it, when the clock jumped in the middle.
async fn transfer(settings: TransportConfig, seconds: u64) -> String {
    let endpoints = Endpoints::with(settings.clone(), settings);
    let (client, server) = endpoints.connect().await;
    let data = pattern(BYTES);
    let outcome = futures::join!(send(&client, &data), receive(&server, &data, seconds));
    drop((client, server));
    // The next connection, after the jump.
    let (client, server) = endpoints.connect().await;
    let (sent, received) = futures::join!(send(&client, &data), receive(&server, &data, 0));
    sent.unwrap();
    received.unwrap();
    drop((client, server));
    endpoints.end().await;
    match outcome {
        (Ok(()), Ok(())) => "everything arrived".to_owned(),
        (Err(sent), received) => format!("sending: {sent}; receiving: {received:?}"),
        (Ok(()), Err(received)) => panic!("acknowledged without having arrived: {received}"),
    }
}

async fn send(connection: &Connection, data: &[u8]) -> Result<(), WriteError> {
    let large = async {
        let mut stream = connection.open_uni().unwrap();
        stream.write_all(data).await?;
        stream.finished().await
    };
    let small = stream::iter(0..STREAMS).map(|number| async move {
        let mut stream = connection.open_uni().unwrap();
        drop(stream.finish_with(data[..number].to_vec()));
        stream.finished().await
    });
    let small = small.buffer_unordered(STREAMS).try_collect::<Vec<()>>();
    futures::try_join!(large, small).map(|_| ())
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
