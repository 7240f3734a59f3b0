//! `Ok` from `finished` means that the peer acknowledged FIN, whatever happens to the peer.

mod support;

use futures::future::poll_immediate;
use sendstream::{ConnectionError, TransportConfig, WriteError};
use support::{
    TIMEOUT,
    peer::{self, Peer, Role},
    run,
};

#[test]
fn peer_process() {
    peer::main();
}

fn quick() -> TransportConfig {
    TransportConfig::default().idle_timeout(TIMEOUT)
}

fn is_lost(error: &WriteError) -> bool {
    matches!(error, WriteError::ConnectionLost(ConnectionError::TimedOut(_) | ConnectionError::Unreachable))
}

#[test]
fn a_peer_killed_before_it_acknowledged_fin_is_never_ok() {
    run(async {
        let mut peer = Peer::start("peer_process", Role::Read);
        let (client, connection) = peer.connect(quick()).await;
        let mut stream = connection.open_uni().unwrap();
        stream.send("acknowledged").await.unwrap();
        peer.pause();
        let mut sending = stream.finish_with("not acknowledged");
        assert!(poll_immediate(&mut sending).await.is_none());
        peer.kill();
        let error = sending.await.unwrap_err();
        assert!(is_lost(&error), "{error}");
        assert_eq!(stream.finished().await, Err(error.clone()));
        assert_eq!(stream.acked().await, Err(error));
        drop((stream, connection));
        client.wait_idle().await;
    });
}

#[test]
fn a_peer_killed_after_it_acknowledged_fin_is_ok() {
    run(async {
        let mut peer = Peer::start("peer_process", Role::Read);
        let (client, connection) = peer.connect(quick()).await;
        let mut stream = connection.open_uni().unwrap();
        let mut late = connection.open_uni().unwrap();
        drop(stream.finish_with("all of it"));
        // `None`: the stream ended on this side's terms, so FIN was acknowledged.
        assert_eq!(stream.stopped().await, Ok(None));
        peer.kill();
        let error = late.send("into the void").await.unwrap_err();
        assert!(is_lost(&error), "{error}");
        stream.finished().await.unwrap();
        drop((stream, late, connection));
        client.wait_idle().await;
    });
}

#[test]
fn a_port_of_another_process_is_refused() {
    let peer = Peer::start("peer_process", Role::Hold);
    let refused = support::server(&support::identity()).bind(peer.address()).unwrap_err();
    assert!(matches!(refused, sendstream::BindError::AddressInUse(address) if address == peer.address()), "{refused}");
}
