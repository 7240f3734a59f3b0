//! The code point of Differentiated Services in the packets of a connection.
#![cfg(target_os = "linux")]

mod support;

use sendstream::ConfigError;
use support::{Endpoints, run, tap::Tap};

#[test]
fn a_code_point_is_in_the_packets_that_are_sent_from_then_on() {
    run(async {
        let endpoints = Endpoints::new();
        let tap = Tap::start(endpoints.address);
        let (client, server) = endpoints.connect_through(tap.front).await;
        assert!(tap.code_points.try_iter().all(|code_point| code_point == 0));
        let wrong = client.set_dscp(64).await.unwrap_err();
        assert!(matches!(wrong, ConfigError::OutOfRange { field: "dscp", .. }), "{wrong}");

        client.set_dscp(46).await.unwrap();
        client.open_uni().unwrap().finish_with("marked").await.unwrap();
        assert!(tap.code_points.try_iter().any(|code_point| code_point == 46));
        client.set_dscp(0).await.unwrap();
        client.stats().await.unwrap();
        client.open_uni().unwrap().finish_with("plain").await.unwrap();
        assert_eq!(tap.code_points.try_iter().last(), Some(0));
        drop((client, server));
        endpoints.end().await;
    });
}
