//! Clients that must prove their address first. One test, as the policy is the whole process's.

mod support;

use sendstream::{
    ConfigError,
    process::{LoadBalancing, RetryPolicy, counters, set_load_balancing, set_retry_policy},
};
use support::{Endpoints, Pair, run};

#[test]
fn a_client_that_must_prove_its_address_connects_all_the_same() {
    run(async {
        for (policy, retries) in [
            (RetryPolicy::Never, false),
            (RetryPolicy::Always, true),
            (RetryPolicy::Handshakes(1), false),
            (RetryPolicy::Handshakes(0), true),
            (RetryPolicy::Never, false),
        ] {
            set_retry_policy(policy).unwrap();
            let before = counters().unwrap().stateless_retries_sent;
            let endpoints = Endpoints::new();
            let accepting = async {
                let incoming = endpoints.server.accept().await.unwrap();
                let validated = incoming.remote_address_validated();
                (incoming.accept().await.unwrap(), validated)
            };
            let connecting = endpoints.client.connect(endpoints.address, "localhost");
            let (client, (server, validated)) = futures::join!(connecting, accepting);
            assert_eq!(validated, retries, "{policy:?}");
            let pair = Pair { client: client.unwrap(), server, endpoints };
            let handshake = pair.client.stats().await.unwrap().handshake;
            assert_eq!(handshake.stateless_retry, retries, "{policy:?}");
            assert_eq!(counters().unwrap().stateless_retries_sent > before, retries);
            let mut stream = pair.client.open_uni().unwrap();
            stream.send("through").await.unwrap();
            drop(stream);
            // While a server is bound it is too late for other process-wide settings.
            let late = set_load_balancing(LoadBalancing::ServerId([1, 2, 3, 4]));
            assert!(matches!(late, Err(ConfigError::InUse)), "{late:?}");
            pair.end().await;
        }
        // 0.1 % of memory is more than one handshake takes.
        set_retry_policy(RetryPolicy::UnderLoad(0.001)).unwrap();
        let pair = Pair::new().await;
        assert!(!pair.client.stats().await.unwrap().handshake.stateless_retry);
        pair.end().await;
        assert!(set_retry_policy(RetryPolicy::UnderLoad(1.5)).is_err());
    });
}
