//! Worker threads of one's own. In one test, as it counts the threads of the process.

mod support;

use sendstream::{ExecutionProfile, Registration};
use support::{any_port, connect, memory::holdings, pattern, run};

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
            let identity = support::identity();
            let server = support::server(&identity).registration(&registration).bind(any_port()).unwrap();
            let client = support::client(&identity).registration(&registration).build().unwrap();
            let data = pattern(1_000_000);
            let (connected, accepted) = connect(&client, &server).await;
            let mut stream = connected.open_uni().unwrap();
            let (sent, received) = futures::join!(stream.finish_with(data.clone()), async {
                accepted.accept_uni().await.unwrap().read_to_end(data.len()).await.unwrap()
            });
            sent.unwrap();
            assert!(received == data);
            let threads = holdings().threads;
            let more = threads > *shared.get_or_insert(threads);
            assert_eq!(more, profile == ExecutionProfile::MaxThroughput, "{profile:?}");
            drop((stream, connected, accepted, client));
            server.shutdown().await;
            drop(server);
            registration.wait_idle().await;
        }
    });
}
