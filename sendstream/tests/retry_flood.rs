//! A flood of clients that must prove their addresses first. One test, as the policy is the whole
//! process's.

mod support;

use std::time::Duration;

use futures::{StreamExt, stream::FuturesUnordered};
use sendstream::{
    ConnectError, ConnectionError, TransportConfig,
    process::{RetryPolicy, counters, set_retry_policy},
};
use support::{Endpoints, accept, figure, run};

#[test]
fn a_thousand_clients_that_prove_their_addresses_are_refused_but_for_a_backlog_of_ten() {
    /// As many packets as a socket's receive buffer holds by default. Of more, whole rounds of
    /// retransmissions are lost, and each round waits twice as long as the one before.
    const AT_ONCE: usize = 100;
    run(async {
        set_retry_policy(RetryPolicy::Always).unwrap();
        // Packets are lost where so many come at once. However slow that is, nobody gives up.
        let patient = TransportConfig::default()
            .handshake_timeout(Duration::from_secs(300))
            .disconnect_timeout(Duration::from_secs(300));
        let settings = patient.clone().accept_backlog(10);
        let endpoints = Endpoints::with(patient, settings);
        let before = counters().unwrap().stateless_retries_sent;
        let mut clients = (0..1000).map(|_| endpoints.client.connect(endpoints.address, "localhost"));
        let mut connecting: FuturesUnordered<_> = clients.by_ref().take(AT_ONCE).collect();
        for _ in 0..990 {
            let refused = connecting.next().await.unwrap().unwrap_err();
            assert!(matches!(refused, ConnectError::Connection(ConnectionError::Refused)), "{refused:?}");
            connecting.extend(clients.next());
        }
        let retries = counters().unwrap().stateless_retries_sent - before;
        assert!(retries >= 1000, "{retries} Retry packets");
        let accepting = async {
            let mut accepted = Vec::new();
            for _ in 0..10 {
                accepted.push(accept(&endpoints.server).await.unwrap());
            }
            accepted
        };
        let (connected, accepted) = futures::join!(connecting.collect::<Vec<_>>(), accepting);
        assert!(connected.iter().all(Result::is_ok));
        figure(format_args!("1,000 clients: {retries} Retry packets, 990 refused, 10 served"));
        drop((connected, accepted));
        endpoints.end().await;
    });
}
