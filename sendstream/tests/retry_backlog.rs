//! First packets with forged addresses at a server that nobody accepts at. One test, as handshakes
//! are counted for the whole process.

mod support;

use std::net::{Ipv4Addr, UdpSocket};

use futures::future::join_all;
use sendstream::{TransportConfig, process::counters};
use support::{Endpoints, accept, figure, packets::first_packets, run, wait_until};

#[test]
fn forged_first_packets_leave_places_for_clients_with_an_address() {
    const BACKLOG: usize = 8;
    const FORGED: usize = 40;
    run(async {
        let settings = TransportConfig::default().accept_backlog(BACKLOG).handshake_timeout(support::HANG);
        let endpoints = Endpoints::with(TransportConfig::default(), settings);
        let before = counters().unwrap().stateless_retries_sent;
        let retries = || counters().unwrap().stateless_retries_sent - before;
        // Each from an address of its own, which never answers. One after the other: a socket does
        // not hold all of them.
        let mut strangers = Vec::new();
        for (host, packet) in (1..).zip(first_packets(&endpoints.client, FORGED)) {
            let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap();
            stranger.send_to(&packet, endpoints.address).unwrap();
            strangers.push(stranger);
            wait_until(|| {
                let stats = endpoints.server.stats();
                retries() + stats.waiting as u64 + stats.refused >= strangers.len() as u64
            });
        }
        assert!(endpoints.server.stats().waiting <= BACKLOG / 2, "{:?}", endpoints.server.stats());
        let forged = retries();

        // Nobody accepts before all of them wait: the forged ones come first.
        let honest = (0..BACKLOG / 2).map(|_| endpoints.client.connect(endpoints.address, "localhost"));
        let accepting = async {
            wait_until(|| endpoints.server.stats().waiting == BACKLOG);
            let mut accepted = Vec::new();
            for _ in 0..BACKLOG / 2 {
                drop(endpoints.server.accept().await);
            }
            for _ in 0..BACKLOG / 2 {
                accepted.push(accept(&endpoints.server).await.unwrap());
            }
            accepted
        };
        let mut connecting = Box::pin(join_all(honest));
        assert!(support::poll_once(&mut connecting).is_pending());
        let (connected, accepted) = futures::join!(connecting, accepting);
        assert!(connected.iter().all(Result::is_ok), "{connected:?}");
        figure(format_args!("{FORGED} forged clients at a backlog of {BACKLOG}: {forged} had a Retry packet"));
        drop((connected, accepted, strangers));
        endpoints.end().await;
    });
}
