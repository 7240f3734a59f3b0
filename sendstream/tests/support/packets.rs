//! Packets of clients that do not go on.

use std::{collections::HashSet, net::UdpSocket};

use futures::FutureExt as _;
use sendstream::Client;

/// The first packets of so many connections of `client`, all different.
pub(crate) fn first_packets(client: &Client, connections: usize) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(super::HANG)).unwrap();
    let address = socket.local_addr().unwrap();
    let mut seen = HashSet::new();
    let mut first_packet = |_| {
        // Given up as soon as its packet is there.
        let mut connecting = Box::pin(client.connect(address, "localhost"));
        assert!((&mut connecting).now_or_never().is_none());
        loop {
            let mut packet = [0; 2000];
            let length = socket.recv(&mut packet).unwrap();
            // Not what an earlier one said again, or on giving up.
            if packet[0] & 0xf0 == 0xc0 && length >= 1200 && seen.insert(ids(&packet).0) {
                break packet[..length].to_vec();
            }
        }
    };
    (0..connections).map(&mut first_packet).collect()
}

/// The destination and the source connection ids of a packet with a long header (RFC 8999 §5.1).
pub(crate) fn ids(packet: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (length, rest) = (packet[5].into(), &packet[6..]);
    let (destination, rest) = rest.split_at(length);
    let source = &rest[1..][..rest[0].into()];
    (destination.to_vec(), source.to_vec())
}
