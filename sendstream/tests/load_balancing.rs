//! Several servers behind a load balancer that reads connection ids.
//!
//! Four network namespaces, a process in each: a client with two addresses, a balancer, and two
//! servers. The balancer is of this test's own and knows nothing of QUIC but where a packet's
//! connection id lies. It needs root and `ip`.

mod support;

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    thread,
};

use futures::executor::block_on;
use sendstream::{
    CertificateHash, ConfigError, Connection, RebindError, Trust,
    process::{LoadBalancing, RetryPolicy, set_load_balancing, set_retry_policy},
};
use support::{
    any_port, end_with_parent,
    namespaces::{self, Network, ip},
    run, skip,
};

const TEST: &str = "a_client_that_moves_stays_with_its_server_behind_a_balancer";
const PORT: u16 = 4433;

/// What the client connects to: the balancer.
const FRONT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// Where the client moves to.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 3);
/// The servers, and the numbers that the balancer knows them by.
const BACKS: [(Ipv4Addr, [u8; 4]); 2] =
    [(Ipv4Addr::new(10, 77, 2, 2), *b"srvA"), (Ipv4Addr::new(10, 77, 3, 2), *b"srvB")];

#[test]
fn a_client_that_moves_stays_with_its_server_behind_a_balancer() {
    match namespaces::role().as_deref() {
        Some("server 0") => return serve(BACKS[0].1),
        Some("server 1") => return serve(BACKS[1].1),
        Some("balancer") => return balance(),
        Some(hashes) => return be_client(hashes),
        None => {}
    }
    let network = match network() {
        Ok(network) => network,
        Err(why) => return skip(&why),
    };
    let servers = [0, 1].map(|index| network.start(&format!("server{index}"), TEST, &format!("server {index}")));
    let _balancer = network.start("balancer", TEST, "balancer");
    let hashes = servers.each_ref().map(|server| server.ready.clone()).join(" ");
    network.start("client", TEST, &hashes).end();
}

#[test]
fn a_server_id_cannot_be_changed_under_a_bound_server() {
    if namespaces::role().is_some() {
        return;
    }
    run(async {
        let server = support::server(&support::identity()).bind(any_port()).unwrap();
        let late = set_load_balancing(LoadBalancing::ServerAddress);
        assert!(matches!(late, Err(ConfigError::InUse)), "{late:?}");
        server.shutdown().await;
    });
}

/// Connects until it has met both servers, and moves on every connection.
fn be_client(hashes: &str) {
    let hashes: Vec<CertificateHash> = hashes.split(' ').map(|hash| hash.parse().unwrap()).collect();
    let client = support::client_with(Trust::pinned(hashes)).build().unwrap();
    println!("\nready");
    let mut met = HashSet::new();
    run(async move {
        for connections in 1.. {
            let connection = client.connect((FRONT, PORT).into(), "localhost").await.unwrap();
            assert!(connection.stats().await.unwrap().handshake.stateless_retry);
            let server = connection.peer_identity().unwrap().certificate_sha256().to_string();
            let before = ask(&connection).await;
            let moved = loop {
                match connection.rebind((ELSEWHERE, 0).into()).await {
                    Err(RebindError::TooEarly) => drop(ask(&connection).await),
                    moved => break moved.unwrap(),
                }
            };
            assert_eq!(moved.ip(), ELSEWHERE);
            let after = ask(&connection).await;
            assert_ne!(before, after, "the server has seen the move");
            met.insert(server);
            connection.close(0, "").unwrap();
            // As many as it takes, and enough for a wrong way to show.
            if met.len() == 2 && connections >= 8 {
                break;
            }
            assert!(connections < 64, "both servers get connections");
        }
        client.wait_idle().await;
    });
}

/// Where the server sees this connection's packets come from.
async fn ask(connection: &Connection) -> String {
    let (mut send, mut recv) = connection.open_bi().unwrap();
    send.finish_with(vec![b'x'; 20_000]).await.unwrap();
    String::from_utf8(recv.read_to_end(100).await.unwrap()).unwrap()
}

/// Answers every stream with the address that the client is seen at.
fn serve(id: [u8; 4]) {
    set_load_balancing(LoadBalancing::ServerId(id)).unwrap();
    // The token of a Retry is of use to the server that sent it only.
    set_retry_policy(RetryPolicy::Always).unwrap();
    let identity = support::identity();
    let hash = identity.certificate_sha256();
    let server = support::server(&identity).bind((Ipv4Addr::UNSPECIFIED, PORT).into()).unwrap();
    println!("\nready {hash}");
    end_with_parent();
    block_on(async {
        while let Some(incoming) = server.accept().await {
            let connection = incoming.accept().await.unwrap();
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                recv.read_to_end(1 << 20).await.unwrap();
                let seen = connection.remote_addr().unwrap().to_string();
                // The client closes when it has the last answer, which may overtake the acknowledgement.
                let _ = send.finish_with(seen.into_bytes()).await;
            }
        }
    });
}

/// Forwards packets by their connection ids. It remembers no client: only where answers go, for
/// each socket to a server.
fn balance() {
    let front = Arc::new(UdpSocket::bind((FRONT, PORT)).unwrap());
    println!("\nready");
    end_with_parent();
    let mut backs: HashMap<(SocketAddr, usize), Arc<UdpSocket>> = HashMap::new();
    let mut packet = [0; 65536];
    loop {
        let (length, client) = front.recv_from(&mut packet).unwrap();
        let packet = &packet[..length];
        let server = route(packet).unwrap_or_else(|| panic!("a packet of {length} bytes for nobody"));
        let back = backs.entry((client, server)).or_insert_with(|| {
            let back = Arc::new(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
            back.connect((BACKS[server].0, PORT)).unwrap();
            let (from, to) = (back.clone(), front.clone());
            thread::spawn(move || {
                let mut packet = [0; 65536];
                // An ICMP error of an earlier packet ends nothing.
                loop {
                    if let Ok(length) = from.recv(&mut packet) {
                        let _ = to.send_to(&packet[..length], client);
                    }
                }
            });
            back
        });
        let _ = back.send(packet);
    }
}

/// The server that a packet is for: by the server's number in the connection id; packets whose
/// connection id a client has made up, which only long headers have, go where that id says all the
/// same.
fn route(packet: &[u8]) -> Option<usize> {
    /// MsQuic's connection ids with a server's number in them.
    const LENGTH: usize = 14;
    // RFC 8999 §5.1 and §5.2.
    let long = packet.first()? & 0x80 != 0;
    let id = if long { packet.get(6..)?.get(..usize::from(*packet.get(5)?))? } else { packet.get(1..1 + LENGTH)? };
    let known = BACKS.iter().position(|(_, number)| id.len() == LENGTH && id[1..5] == *number);
    let spread = || long.then(|| id.iter().map(|byte| usize::from(*byte)).sum::<usize>() % BACKS.len());
    known.or_else(spread)
}

/// The namespaces, linked to each other.
fn network() -> Result<Network, String> {
    let network = Network::new(&["client", "balancer", "server0", "server1"])?;
    let links =
        [("client", "10.77.1", &["2", "3"][..]), ("server0", "10.77.2", &["2"]), ("server1", "10.77.3", &["2"])];
    for (name, net, hosts) in links {
        let (inner, outer) = (network.name(name), network.name("balancer"));
        // The ends are made where they belong: interface names in the machine's own namespace
        // may be taken.
        network.ip_in(
            name,
            &["link", "add", "up0", "type", "veth", "peer", "name", &format!("to-{name}"), "netns", &outer],
        )?;
        for host in hosts {
            ip(&["-n", &inner, "addr", "add", &format!("{net}.{host}/24"), "dev", "up0"])?;
        }
        network.ip_in("balancer", &["addr", "add", &format!("{net}.1/24"), "dev", &format!("to-{name}")])?;
        network.ip_in("balancer", &["link", "set", &format!("to-{name}"), "up"])?;
        network.ip_in(name, &["link", "set", "up0", "up"])?;
    }
    Ok(network)
}
