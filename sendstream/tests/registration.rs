//! Worker threads of one's own. In one test, as it counts the threads of the process.

mod support;

use sendstream::{Client, ExecutionProfile, Identity, Registration, Server, Trust};
use support::{accept, pattern, run};

/// How many threads this process has.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn every_profile_carries_connections_and_one_has_threads_of_its_own() {
    run(async {
        assert_eq!(Registration::new().unwrap().profile(), ExecutionProfile::LowLatency);
        // The first round starts the threads that everything shares.
        let mut shared = None;
        for profile in [
            ExecutionProfile::LowLatency,
            ExecutionProfile::Scavenger,
            ExecutionProfile::RealTime,
            ExecutionProfile::MaxThroughput,
        ] {
            let registration = Registration::with_profile(profile).unwrap();
            assert_eq!(registration.profile(), profile);
            let identity = Identity::self_signed(["localhost"]).unwrap();
            let trust = Trust::pinned([identity.certificate_sha256()]);
            let server = Server::builder().identity(identity).alpn(["x"]).registration(&registration);
            let server = server.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let client = Client::builder().alpn(["x"]).trust(trust).registration(&registration).build().unwrap();
            let address = server.local_addr().unwrap();
            let data = pattern(1_000_000);
            let (connected, accepted) =
                futures::join!(client.connect(address, "localhost"), async { accept(&server).await.unwrap() });
            let connected = connected.unwrap();
            let mut stream = connected.open_uni().unwrap();
            let (sent, received) = futures::join!(stream.finish_with(data.clone()), async {
                accepted.accept_uni().await.unwrap().read_to_end(data.len()).await.unwrap()
            });
            sent.unwrap();
            assert!(received == data);
            let threads = threads();
            let more = threads > *shared.get_or_insert(threads);
            assert_eq!(more, profile == ExecutionProfile::MaxThroughput, "{profile:?}");
            drop((stream, connected, accepted, client));
            server.shutdown().await;
            drop(server);
            registration.wait_idle().await;
        }
    });
}
