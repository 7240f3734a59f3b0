//! Two routers between the ends, with links that carry smaller packets from one moment on; with the
//! word of that (ICMP), and without. Needs root, `ip` and `nft`.

mod support;

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use fastrand::Rng;
use sendstream::{Connection, TransportConfig};
use support::{
    figure,
    namespaces::{self, ip},
    peer::{self, Peer, Role},
    pieces::{read_pieces, send_pieces},
    run_within, skip, soak,
};

const LENGTH: usize = 64 << 20;
const CHANGES: usize = 20;
const ROUTERS: [&str; 2] = ["first", "second"];
const BOUND: Duration = Duration::from_secs(600);

#[test]
fn peer_process() {
    peer::main();
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs network namespaces")]
fn a_transfer_survives_links_that_shrink_and_say_so() {
    transfer(Family::V4, Word::Sent);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs network namespaces")]
fn a_transfer_survives_links_that_shrink_and_nobody_hears_of_it() {
    transfer(Family::V4, Word::Blocked);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs network namespaces")]
fn a_transfer_over_ipv6_survives_links_that_shrink() {
    transfer(Family::V6, Word::Sent);
    transfer(Family::V6, Word::Blocked);
}

/// The system refuses to send what is too large for the interface (`EMSGSIZE`), and whole batches
/// with it.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs network namespaces")]
fn a_transfer_survives_that_the_interface_of_this_machine_shrinks() {
    let Some(network) = Network::new(Family::V4, Word::Sent) else { return };
    run_within(BOUND, async move {
        let (client, connection) = network.connect().await;
        let mut random = Rng::with_seed(soak::seed());
        send_there_and_back(&connection, |_| network.set_own_mtu(random.u32(1280..=1500))).await;
        drop(connection);
        client.wait_idle().await;
    });
}

/// 64 MiB there and back. The link between the routers changes twenty times meanwhile, in one
/// direction or in both.
fn transfer(family: Family, word: Word) {
    let Some(network) = Network::new(family, word) else { return };
    run_within(BOUND, async move {
        let (client, connection) = network.connect().await;
        let mut random = Rng::with_seed(soak::seed());
        send_there_and_back(&connection, |_| network.set_mtu(random.usize(..3), random.u32(1280..=1500))).await;
        drop(connection);
        client.wait_idle().await;
    });
}

/// Sends 64 MiB to a peer that sends back what comes, and calls `change` twenty times on the way.
async fn send_there_and_back(connection: &Connection, mut change: impl FnMut(usize)) {
    let begin = Instant::now();
    let (send, recv) = connection.open_bi().unwrap();
    let (mut length, mut changes) = (0, 0);
    let receiving = read_pieces(recv, |so_far| {
        length = so_far;
        if changes < CHANGES && length > LENGTH / (CHANGES + 1) * (changes + 1) {
            change(changes);
            changes += 1;
        }
    });
    let (sent, (received, pause)) = futures::join!(send_pieces(send, LENGTH), receiving);
    assert_eq!((length, changes), (LENGTH, CHANGES));
    assert_eq!(sent.as_ref(), received.as_ref());
    let mtu = connection.stats().await.unwrap().path_mtu;
    figure(format_args!(
        "{} MiB there and back in {:.1?}, with {CHANGES} changes; the longest pause {pause:.0?}, path_mtu {mtu} in the end",
        LENGTH >> 20,
        begin.elapsed(),
    ));
}

#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// What a router does when a packet is too large for a link.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// It says so (RFC 792, RFC 4443 §3.2).
    Sent,
    /// It drops the packet, and its word is dropped as well.
    Blocked,
}

/// This machine, two routers and the peer's machine in a row: network namespaces, and links between
/// them. Dropping it takes them away.
struct Network {
    spaces: namespaces::Network,
    number: u32,
    family: Family,
    peer: Option<Peer>,
}

impl Network {
    /// `None`, with a word on standard error, where that is not allowed.
    fn new(family: Family, word: Word) -> Option<Self> {
        match Self::make(family, word) {
            Ok(network) => Some(network),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    fn make(family: Family, word: Word) -> Result<Self, String> {
        /// How many this process has made. Its tests make fewer than eight.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() * 8 + MADE.fetch_add(1, Ordering::SeqCst) % 8;
        let spaces = namespaces::Network::new(&["first", "second", "last"])?;
        let mut network = Self { spaces, number, family, peer: None };
        network.link()?;
        if matches!(word, Word::Blocked) {
            network.block_icmp()?;
        }
        let command = network.spaces.this_executable_in("last");
        network.peer = Some(Peer::start_at("peer_process", Role::Return, command, network.far()));
        Ok(network)
    }

    async fn connect(&self) -> (sendstream::Client, Connection) {
        let settings = TransportConfig::default().mtu_search_interval(Duration::from_millis(200));
        self.peer.as_ref().unwrap().connect(settings).await
    }

    fn link(&self) -> Result<(), String> {
        let own = self.own_link();
        let [first, second, last] = ["first", "second", "last"].map(|name| self.spaces.name(name));
        let (in_first, in_second, in_last) = (["-n", &first], ["-n", &second], ["-n", &last]);
        let link = |from: &[&str], name: &str, to: &str, peer: &str| {
            ip(&[from, &["link", "add", name, "type", "veth", "peer", "name", peer, "netns", to]].concat())
        };
        let up = |space: &[&str], name: &str, end: u32| {
            let address = format!("{}/{}", self.host(end), self.prefix());
            // Nobody else has the address: it need not wait for who says so.
            let at_once: &[&str] = match self.family {
                Family::V4 => &[],
                Family::V6 => &["nodad"],
            };
            ip(&[space, &["address", "add", &address, "dev", name], at_once].concat())?;
            ip(&[space, &["link", "set", name, "up"]].concat())
        };
        let route = |space: &[&str], to: &str, over: u32| {
            ip(&[space, &["route", "add", to, "via", &self.host(over).to_string()]].concat())
        };
        link(&[], &own, &first, "near")?;
        link(&in_first, "out", &second, "in")?;
        link(&in_second, "far", &last, "up0")?;
        up(&[], &own, 1)?;
        up(&in_first, "near", 2)?;
        up(&in_first, "out", 5)?;
        up(&in_second, "in", 6)?;
        up(&in_second, "far", 9)?;
        up(&in_last, "up0", 10)?;
        route(&[], &self.network(8), 2)?;
        route(&in_first, &self.network(8), 6)?;
        route(&in_second, &self.network(0), 5)?;
        route(&in_last, "default", 9)?;
        let switch = match self.family {
            Family::V4 => "net/ipv4/ip_forward",
            Family::V6 => "net/ipv6/conf/all/forwarding",
        };
        ROUTERS.iter().try_for_each(|router| self.spaces.set_in(router, switch, "1"))
    }

    fn block_icmp(&self) -> Result<(), String> {
        const RULES: &str = "add table inet quiet
            add chain inet quiet out { type filter hook output priority 0; }
            add rule inet quiet out icmp type destination-unreachable drop
            add rule inet quiet out icmpv6 type packet-too-big drop";
        ROUTERS.iter().try_for_each(|router| ip(&["netns", "exec", &self.spaces.name(router), "nft", RULES]))
    }

    /// The link between the routers carries so large packets: to the peer, from it, or both ways.
    fn set_mtu(&self, which: usize, bytes: u32) {
        let set = |router, end| {
            self.spaces.ip_in(router, &["link", "set", end, "mtu", &bytes.to_string()]).unwrap();
        };
        if which != 1 {
            set("first", "out");
        }
        if which != 0 {
            set("second", "in");
        }
    }

    /// This machine's own link carries so large packets.
    fn set_own_mtu(&self, bytes: u32) {
        ip(&["link", "set", &self.own_link(), "mtu", &bytes.to_string()]).unwrap();
    }

    /// The end of the first link that is in no namespace of ours.
    fn own_link(&self) -> String {
        format!("sm{}", self.number)
    }

    /// Each network has 16 addresses.
    fn host(&self, end: u32) -> IpAddr {
        let (high, low) = ((self.number >> 4 & 255) as u8, ((self.number & 15) * 16) as u8);
        match self.family {
            Family::V4 => [10, 214, high, low + end as u8].into(),
            // A network for each link.
            Family::V6 => [0xfd53, 0x6d75, high.into(), low.into(), (end / 4) as u16, 0, 0, (end % 4) as u16].into(),
        }
    }

    fn prefix(&self) -> u32 {
        match self.family {
            Family::V4 => 30,
            Family::V6 => 80,
        }
    }

    /// The network of a link, by the number before its first end.
    fn network(&self, before: u32) -> String {
        format!("{}/{}", self.host(before), self.prefix())
    }

    /// Where the peer listens.
    fn far(&self) -> SocketAddr {
        SocketAddr::new(self.host(10), 0)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.peer.take());
        let _ = ip(&["link", "delete", &self.own_link()]);
    }
}
