//! A process that runs out of something gets an error that says so, ends with its own status, and
//! goes on once there is some again. Each test limits a process of its own.

mod support;

use std::{collections::BTreeMap, os::unix::process::CommandExt, process::Command, time::Duration};

use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sendstream::{BindError, Bytes, ConfigError, SystemError, TransportConfig, native_info};
use support::{
    Endpoints,
    alone::{CHILD, parent, pass_on},
    any_port, exchange, figure,
    memory::holdings,
    pattern, run, skip,
};

fn limit(resource: Resource, current: u64) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: Some(current), maximum }).unwrap();
}

fn unlimit(resource: Resource) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn without_descriptors_connections_fail_and_later_ones_do_not() {
    if parent("without_descriptors_connections_fail_and_later_ones_do_not", |_| {}).is_some() {
        return;
    }
    run(async {
        let endpoints = Endpoints::with_a_socket_per_connection();
        let (client, server) = endpoints.connect().await;
        limit(Resource::Nofile, holdings().descriptors as u64 + 10);
        let mut held = Vec::new();
        let refused = loop {
            match endpoints.try_connect_through(endpoints.address).await {
                Ok(pair) => held.push(pair),
                Err(refused) => break refused,
            }
        };
        figure(format_args!("{} more connections, then: {refused}", held.len()));
        assert!(held.len() < 11);
        assert!(refused.starts_with("out of file descriptors: raise the limit"), "{refused}");
        let no_client = endpoints.client.connect(endpoints.address, "localhost").await.unwrap_err();
        assert_eq!(std::io::Error::from(no_client).kind(), std::io::ErrorKind::QuotaExceeded);
        let no_server = support::server(&support::identity()).bind(any_port()).unwrap_err();
        assert!(matches!(no_server, BindError::System(SystemError::OutOfDescriptors)), "{no_server}");
        assert_eq!(std::io::Error::from(no_server).kind(), std::io::ErrorKind::QuotaExceeded);
        exchange(&client, &server, 100_000).await;
        drop(held);
        unlimit(Resource::Nofile);
        let (another, its_peer) = endpoints.connect().await;
        exchange(&another, &its_peer, 100_000).await;
        drop((client, server, another, its_peer));
        endpoints.end().await;
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn descriptors_grow_with_clients_and_not_with_connections() {
    if parent("descriptors_grow_with_clients_and_not_with_connections", |_| {}).is_some() {
        return;
    }
    run(async {
        let endpoints = Endpoints::new();
        let (first, its_peer) = endpoints.connect().await;
        exchange(&first, &its_peer, 100_000).await;
        let descriptors = holdings().descriptors;
        limit(Resource::Nofile, descriptors as u64 + 1);
        let mut held = vec![(first, its_peer)];
        for _ in 0..1000 {
            held.push(endpoints.connect().await);
        }
        join_all(held.iter().map(|(client, server)| exchange(client, server, 1000))).await;
        assert!(holdings().descriptors <= descriptors);
        drop(held);
        endpoints.end().await;
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn without_descriptors_the_first_client_of_a_process_is_an_error() {
    if parent("without_descriptors_the_first_client_of_a_process_is_an_error", |_| {}).is_some() {
        return;
    }
    let trust = support::pinned(&support::identity());
    limit(Resource::Nofile, holdings().descriptors as u64);
    let error = support::client_with(trust.clone()).build().unwrap_err();
    figure(&error);
    assert!(matches!(error, ConfigError::System(SystemError::OutOfDescriptors)), "{error}");
    unlimit(Resource::Nofile);
    let again = support::client_with(trust).build().unwrap_err();
    assert_eq!(again.to_string(), error.to_string(), "MsQuic starts once");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn without_threads_the_first_client_of_a_process_is_an_error() {
    let test = "without_threads_the_first_client_of_a_process_is_an_error";
    if std::env::var_os(CHILD).is_none() {
        return as_nobody(test);
    }
    let trust = support::pinned(&support::identity());
    limit(Resource::Nproc, 1);
    let error = support::client_with(trust).build().unwrap_err();
    figure(&error);
    assert!(matches!(error, ConfigError::System(SystemError::OutOfThreads)), "{error}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn without_a_thread_for_the_background_everything_works_in_place() {
    let test = "without_a_thread_for_the_background_everything_works_in_place";
    if std::env::var_os(CHILD).is_none() {
        return as_nobody(test);
    }
    run(async {
        // MsQuic has its threads by now, and Sendstream's own starts with the first call that
        // blocks.
        let endpoints = Endpoints::new();
        let before = holdings().threads;
        limit(Resource::Nproc, 1);
        assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "the limit binds");
        let (client, server) = endpoints.connect().await;
        exchange(&client, &server, 100_000).await;
        client.stats().await.unwrap();
        assert_eq!(holdings().threads, before);
        drop((client, server));
        endpoints.end().await;
    });
}

/// Runs `test` in a process of a user who has no other one, as the limit on threads is the user's
/// and does not bind root.
fn as_nobody(test: &str) {
    const UID: u32 = 61_537;
    let folder = tempfile::tempdir().unwrap();
    let root = rustix::process::getuid().is_root();
    if root {
        // Where this executable is, that user may not be able to look.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let executable = folder.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &executable).unwrap();
    let mut command = Command::new(&executable);
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(CHILD, "1").current_dir(folder.path());
    if root {
        command.uid(UID).gid(UID);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("no process of another user: {error}"));
            return;
        }
    };
    pass_on(&output.stdout);
    assert!(output.status.success(), "{output:#?}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn a_gibibyte_passes_through_a_process_with_little_memory() {
    const MORE: usize = 192 << 20;
    if parent("a_gibibyte_passes_through_a_process_with_little_memory", |_| {}).is_some() {
        return;
    }
    run(async {
        let endpoints = Endpoints::new();
        let (client, server) = endpoints.connect().await;
        exchange(&client, &server, 100_000).await;
        // What is allocated past the limit fails, and a failed allocation of Rust's ends the
        // process.
        limit(Resource::As, (support::memory::address_space() + MORE) as u64);
        let sending = async {
            let chunk = Bytes::from(pattern(1 << 20));
            let mut send = client.open_uni().unwrap();
            for _ in 0..1024 {
                send.write_chunk(Bytes::copy_from_slice(&chunk)).await.unwrap();
            }
            send.finished().await.unwrap();
        };
        let receiving = async {
            let mut recv = server.accept_uni().await.unwrap();
            let mut length = 0;
            while let Some(chunk) = recv.read_chunk().await.unwrap() {
                length += chunk.len();
            }
            length
        };
        let ((), length) = futures::join!(sending, receiving);
        assert_eq!(length, 1 << 30);
        figure(format_args!("1 GiB in {} MiB of new address space", MORE >> 20));
        drop((client, server));
        endpoints.end().await;
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs MsQuic's hook of this system")]
fn allocations_that_fail_in_msquic_are_errors() {
    if parent("allocations_that_fail_in_msquic_are_errors", |_| {}).is_some() {
        return;
    }
    if native_info().unwrap().profile != "Debug" {
        skip("only MsQuic's Debug profile can make allocations fail");
        return;
    }
    run(async {
        let settings = TransportConfig::default().handshake_timeout(Duration::from_secs(1));
        let endpoints = Endpoints::with(settings.clone(), settings);
        let (client, server) = endpoints.connect().await;
        exchange(&client, &server, 100_000).await;
        let (mut went_well, mut failed) = (0, BTreeMap::new());
        for cycle in [1009, 503, 307, 211, 151, 101, 83, 61, 47, 31, 23, 17, 11, 7, 5, 3] {
            fail_every(cycle);
            let connected = endpoints.try_connect_through(endpoints.address).await;
            fail_every(0);
            match connected {
                Ok(_) => went_well += 1,
                Err(error) => *failed.entry(error).or_insert(0) += 1,
            }
        }
        figure(format_args!("{went_well} connections went well; {failed:?}"));
        drop((client, server));
        // What is left of those that failed may wait to be accepted before the one that does not.
        let (client, server) = loop {
            if let Ok(pair) = endpoints.try_connect_through(endpoints.address).await {
                break pair;
            }
        };
        exchange(&client, &server, 100_000).await;
        drop((client, server));
        endpoints.end().await;
    });
}

/// Has every `cycle`-th allocation of MsQuic fail, or none for 0
/// (`QUIC_PARAM_GLOBAL_ALLOC_FAIL_CYCLE`).
fn fail_every(cycle: u32) {
    use sendstream_sys as sys;
    const ALLOC_FAIL_CYCLE: u32 = 0x8100_0002;
    static TABLE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    let table = *TABLE.get_or_init(|| {
        let mut table = std::ptr::null();
        // SAFETY: `table` has room for the pointer. The library opened MsQuic before, and is not
        // doing so now.
        let status = unsafe { sys::MsQuicOpenVersion(sys::QUIC_API_VERSION_2, &mut table) };
        assert_eq!(status, 0);
        table as usize
    });
    // SAFETY: MsQuic gave this table, and it is never closed.
    let table = unsafe { &*(table as *const sys::QUIC_API_TABLE) };
    // SAFETY: a global parameter has no handle, and this one is 32 bits that are copied.
    let status = unsafe {
        table.SetParam.unwrap()(std::ptr::null_mut(), ALLOC_FAIL_CYCLE, 4, std::ptr::from_ref(&cycle).cast())
    };
    assert_eq!(status, 0);
}
