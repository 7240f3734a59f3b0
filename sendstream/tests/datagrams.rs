//! Datagrams between two ends: what arrives, and what the sender is told.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::{Either, join_all, poll_immediate, select};
use sendstream::{Bytes, ConnectionError, DatagramFate, SendDatagramError, TransportConfig};
use support::{
    Endpoints, Pair, TIMEOUT, assert_closed_locally, pattern,
    peer::{self, Peer, Role},
    relay::{Faults, Relay},
    run,
};

#[test]
fn peer_process() {
    peer::main();
}

/// Settings with this buffer for received datagrams.
fn buffer(datagram_receive_buffer: Option<usize>) -> TransportConfig {
    TransportConfig::default().datagram_receive_buffer(datagram_receive_buffer)
}

/// Memory that counts how many of its kind were given back.
struct Owner(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn datagrams_of_every_kind_of_memory_come_back_from_an_echo() {
    run(async {
        let pair = Pair::new().await;
        let echo = async {
            for _ in 0..5 {
                let datagram = pair.server.read_datagram().await.unwrap();
                assert_eq!(pair.server.send_datagram(datagram).await, Ok(DatagramFate::Acknowledged));
            }
        };
        let ask = async {
            let c = &pair.client;
            let list = vec![Bytes::from_static(b"a "), Bytes::new(), Bytes::from_static(b"list")];
            for (sent, expected) in [
                (c.send_datagram("text"), &b"text"[..]),
                (c.send_datagram(vec![7; 1000]), &[7; 1000]),
                (c.send_datagram(list), b"a list"),
                (c.send_datagram(Vec::<Bytes>::new()), b""),
                (c.send_datagram(Bytes::from_static(b"")), b""),
            ] {
                assert_eq!(sent.refusal(), None);
                assert_eq!(c.read_datagram().await.unwrap(), expected);
                assert_eq!(sent.await, Ok(DatagramFate::Acknowledged));
            }
        };
        futures::join!(echo, ask);
        assert_eq!((pair.client.dropped_datagrams(), pair.server.dropped_datagrams()), (0, 0));
        pair.end().await;
    });
}

#[test]
fn a_datagram_is_sent_and_then_acknowledged() {
    run(async {
        let pair = Pair::new().await;
        let mut sending = pair.client.send_datagram("x");
        let mut steps = Vec::new();
        loop {
            let step = sending.progress().await.unwrap();
            steps.push(step);
            if step.is_final() {
                break;
            }
        }
        assert_eq!(steps.last(), Some(&DatagramFate::Acknowledged));
        assert!(steps.iter().all(|step| matches!(step, DatagramFate::Sent | DatagramFate::Acknowledged)), "{steps:?}");
        assert_eq!(sending.fate(), Some(DatagramFate::Acknowledged));
        assert!(!sending.was_suspected());
        assert_eq!(sending.progress().await, Ok(DatagramFate::Acknowledged), "the last step is told again");
        assert_eq!(pair.server.read_datagram().await.unwrap(), "x");
        drop(sending);
        pair.end().await;
    });
}

#[test]
fn the_largest_datagram_passes_and_a_larger_one_is_refused_with_the_limit() {
    run(async {
        let pair = Pair::new().await;
        for (from, to) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
            let max = from.max_datagram_size().unwrap();
            assert!((1100..1500).contains(&max), "{max}");
            let largest = Bytes::from(pattern(max));
            let sending = from.send_datagram(largest.clone());
            assert_eq!(to.read_datagram().await.unwrap(), largest);
            assert_eq!(sending.await, Ok(DatagramFate::Acknowledged));
            // Nothing that is learnt of an Ethernet path makes room for these.
            for size in [1500, 65_535, 65_536, 1 << 20] {
                let dropped = Arc::new(AtomicUsize::new(0));
                let sending = from.send_datagram(Bytes::from_owner(Owner(vec![0; size], dropped.clone())));
                assert!(matches!(sending.refusal(), Some(SendDatagramError::TooLarge { max: now }) if *now >= max));
                assert_eq!(dropped.load(Ordering::SeqCst), 1, "what is refused is given back at once");
                assert!(matches!(sending.await, Err(SendDatagramError::TooLarge { .. })));
            }
        }
        pair.end().await;
    });
}

#[test]
fn a_side_without_a_buffer_gets_no_datagram_and_may_send_them() {
    run(async {
        let pair = Pair::with(buffer(Some(1 << 16)), buffer(None)).await;
        assert_eq!(pair.client.max_datagram_size(), None);
        let mut refused = pair.client.send_datagram("x");
        assert_eq!(refused.refusal(), Some(&SendDatagramError::UnsupportedByPeer));
        assert_eq!(refused.fate(), None);
        assert_eq!(refused.progress().await, Err(SendDatagramError::UnsupportedByPeer));
        assert_eq!(refused.await, Err(SendDatagramError::UnsupportedByPeer));

        assert_eq!(pair.server.send_datagram("y").await, Ok(DatagramFate::Acknowledged));
        assert_eq!(pair.client.read_datagram().await.unwrap(), "y");
        // It waits for the end, as nothing can come before it.
        assert!(poll_immediate(pair.server.read_datagram()).await.is_none());
        pair.end().await;
    });
}

#[test]
fn a_flood_drops_the_oldest_and_counts_them() {
    run(async {
        // Room for ten of four bytes.
        let pair = Pair::with(TransportConfig::default(), buffer(Some(10 * (96 + 4)))).await;
        let total = 1000u32;
        let sending = (0..total).map(|number| pair.client.send_datagram(number.to_be_bytes().to_vec()));
        for fate in join_all(sending.collect::<Vec<_>>()).await {
            assert_eq!(fate, Ok(DatagramFate::Acknowledged));
        }
        assert_eq!(pair.server.dropped_datagrams(), u64::from(total) - 10);
        // The ten that came last, which need not be the ten that were sent last.
        for _ in 0..10 {
            let number = u32::from_be_bytes(pair.server.read_datagram().await.unwrap()[..].try_into().unwrap());
            assert!((total - 100..total).contains(&number), "{number}");
        }
        assert!(poll_immediate(pair.server.read_datagram()).await.is_none());
        pair.end().await;
    });
}

#[test]
fn every_waiting_task_gets_a_datagram() {
    run(async {
        let pair = Pair::new().await;
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(pair.server.read_datagram())).collect();
        for reading in &mut waiting {
            assert!(poll_immediate(reading).await.is_none());
        }
        // One that gives up takes nothing with it.
        drop(waiting.pop());
        for number in 0..9u8 {
            drop(pair.client.send_datagram(vec![number]));
        }
        let mut read: Vec<_> = join_all(waiting).await.into_iter().map(|datagram| datagram.unwrap()[0]).collect();
        read.sort_unstable();
        assert_eq!(read, (0..9).collect::<Vec<_>>());
        pair.end().await;
    });
}

#[test]
fn dropped_futures_change_nothing_and_every_owner_is_dropped_once() {
    run(async {
        let pair = Pair::new().await;
        let dropped = Arc::new(AtomicUsize::new(0));
        for number in 0..100u8 {
            let owner = Owner(vec![number; 500], dropped.clone());
            let mut sending = pair.client.send_datagram(Bytes::from_owner(owner));
            if number % 3 == 1 {
                assert!(poll_immediate(&mut sending).await.is_none_or(|fate| fate.is_ok()));
            } else if number % 3 == 2 {
                sending.progress().await.unwrap();
                assert_eq!(dropped.load(Ordering::SeqCst), usize::from(number) + 1, "sent memory is free");
            }
            drop(sending);
        }
        // In no order with one another (RFC 9221 §5): a server that reads two sockets may take the
        // later packet first.
        let mut arrived = Vec::new();
        for _ in 0..100 {
            arrived.push(pair.server.read_datagram().await.unwrap());
        }
        arrived.sort_unstable();
        assert_eq!(arrived, (0..100u8).map(|number| vec![number; 500]).collect::<Vec<_>>());
        pair.end().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 100);
    });
}

#[test]
fn both_sides_know_what_they_can_send_as_soon_as_they_are_connected() {
    run(async {
        let endpoints = Endpoints::new();
        for _ in 0..20 {
            let (client, server) = endpoints.connect().await;
            assert!(client.max_datagram_size().is_some());
            assert!(server.max_datagram_size().is_some());
        }
        endpoints.end().await;
    });
}

#[test]
fn a_close_ends_what_is_pending_with_its_cause() {
    run(async {
        let endpoints = Endpoints::new();
        // Nothing that the client sends arrives any more, so nothing is acknowledged that would
        // tell what is lost, and congestion control holds most of the datagrams back.
        let relay = Relay::start(endpoints.address, Faults::none());
        let (connection, server) = endpoints.connect_through(relay.address()).await;
        relay.lose_from(0);
        let dropped = Arc::new(AtomicUsize::new(0));
        let mut sending: Vec<_> = (0..2000)
            .map(|_| connection.send_datagram(Bytes::from_owner(Owner(vec![0; 900], dropped.clone()))))
            .collect();
        let first = sending[0].progress().await.unwrap();
        assert!(!first.is_final(), "{first:?}");
        connection.close(5, "").unwrap();
        let cause = connection.close_reason().unwrap();
        assert_closed_locally(&cause, 5);
        let lost = SendDatagramError::ConnectionLost(cause.clone());
        assert!(sending[0].fate().is_some(), "how far it came is still known");
        assert_eq!(sending[1999].fate(), None);
        for sending in &mut sending[1..] {
            assert_eq!(sending.await, Err(lost.clone()));
        }
        assert_eq!(connection.max_datagram_size(), None);
        assert_eq!(connection.send_datagram("late").await, Err(lost));
        assert_eq!(connection.read_datagram().await, Err(cause));
        drop((sending, connection, server));
        endpoints.end().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 2000);
    });
}

#[test]
fn a_peer_that_is_gone_is_the_cause() {
    run(async {
        let mut peer = Peer::start("peer_process", Role::Hold);
        let timeout = TransportConfig::default().disconnect_timeout(TIMEOUT);
        let (client, connection) = peer.connect(timeout).await;
        peer.kill();
        let mut sending = connection.send_datagram("x");
        let error = (&mut sending).await.unwrap_err();
        assert!(
            matches!(
                error,
                SendDatagramError::ConnectionLost(ConnectionError::TimedOut(_) | ConnectionError::Unreachable)
            ),
            "{error}"
        );
        drop((sending, connection));
        client.wait_idle().await;
    });
}

#[test]
fn what_arrived_before_the_close_can_still_be_read() {
    run(async {
        let pair = Pair::new().await;
        assert_eq!(pair.client.send_datagram("x").await, Ok(DatagramFate::Acknowledged));
        pair.client.close(6, "").unwrap();
        let cause = pair.server.closed().await;
        assert!(matches!(cause, ConnectionError::ApplicationClosed { code: 6, .. }));
        assert_eq!(pair.server.read_datagram().await.unwrap(), "x");
        assert_eq!(pair.server.read_datagram().await, Err(cause));
        pair.end().await;
    });
}

#[test]
fn a_datagram_on_its_way_holds_the_connection_as_a_handle_does() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let sending = client.send_datagram("x");
        drop(client);
        assert_eq!(sending.await, Ok(DatagramFate::Acknowledged));
        assert!(matches!(server.closed().await, ConnectionError::ApplicationClosed { code: 0, .. }));
        drop(server);
        endpoints.end().await;
    });
}

#[test]
fn a_datagram_whose_packet_is_lost_is_suspected_first_and_never_sent_again() {
    run(async {
        let endpoints = Endpoints::new();
        let relay = Relay::start(endpoints.address, Faults::none());
        let (client, server) = endpoints.connect_through(relay.address()).await;
        relay.lose_from(700);
        let mut lost = client.send_datagram(vec![0; 700]);
        // Once it is sent, the next has a packet of its own.
        let mut steps = vec![lost.progress().await.unwrap()];
        // Only what is acknowledged later shows that something is missing.
        let mut later = 0u32;
        while steps.last() != Some(&DatagramFate::Lost) {
            let (step, others) = (Box::pin(lost.progress()), client.send_datagram(later.to_be_bytes().to_vec()));
            match select(step, others).await {
                Either::Left((step, _)) => steps.push(step.unwrap()),
                Either::Right((fate, _)) => assert_eq!(fate, Ok(DatagramFate::Acknowledged)),
            }
            later += 1;
        }
        // A step that was overtaken before anybody looked is left out.
        let mut all = [DatagramFate::Sent, DatagramFate::Suspected, DatagramFate::Lost].into_iter();
        assert!(steps.iter().all(|step| all.any(|next| next == *step)), "{steps:?}");
        assert!(lost.was_suspected());
        assert_eq!(lost.await, Ok(DatagramFate::Lost));
        assert_eq!(server.read_datagram().await.unwrap(), &0u32.to_be_bytes()[..]);
        while let Some(datagram) = poll_immediate(server.read_datagram()).await {
            assert_eq!(datagram.unwrap().len(), 4);
        }
        drop((client, server));
        endpoints.end().await;
    });
}

#[test]
fn a_sender_that_waits_for_room_holds_the_queue_within_its_limit() {
    const SIZE: usize = 1000;
    const LIMIT: usize = 20 * (SIZE + 96);
    run(async {
        let transport = TransportConfig::default().datagram_send_buffer(LIMIT);
        let pair = Pair::with(transport, TransportConfig::default()).await;
        assert_eq!(pair.client.datagram_send_buffer_space(), LIMIT);
        let mut sent = Vec::new();
        let mut fullest = LIMIT;
        for number in 0..500_u16 {
            let mut datagram = vec![0; SIZE];
            datagram[..2].copy_from_slice(&number.to_be_bytes());
            sent.push(pair.client.send_datagram_wait(datagram).await.unwrap());
            fullest = fullest.min(pair.client.datagram_send_buffer_space());
        }
        // Far more was sent than may wait at a time.
        assert!(fullest < LIMIT, "nothing ever waited");
        for fate in join_all(sent).await {
            assert!(matches!(fate.unwrap(), DatagramFate::Acknowledged | DatagramFate::Lost));
        }
        assert_eq!(pair.client.datagram_send_buffer_space(), LIMIT, "everything has left the queue");

        let error = pair.client.send_datagram_wait(vec![0; 60_000]).await.unwrap_err();
        assert!(matches!(error, SendDatagramError::TooLarge { .. }), "{error}");
        pair.client.close(3, "").unwrap();
        let error = pair.client.send_datagram_wait("late").await.unwrap_err();
        assert!(matches!(error, SendDatagramError::ConnectionLost(_)), "{error}");
        pair.end().await;
    });
}
