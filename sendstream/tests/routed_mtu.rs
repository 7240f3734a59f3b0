//! Two routers between the ends, with links that carry smaller packets from one moment on; with the
//! word of that (ICMP), and without. Needs root, `ip` and `nft`.

mod support;

use std::{
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fastrand::Rng;
use ring::digest::{Context, SHA256};
use sendstream::{Connection, TransportConfig};
use support::{
    figure, pattern,
    peer::{self, Peer, Role},
    run_within, skip, soak,
};

const LENGTH: usize = 64 << 20;
const CHANGES: usize = 20;
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
    const PIECE: usize = 64 << 10;
    let begin = Instant::now();
    let (mut send, mut recv) = connection.open_bi().unwrap();
    let sending = async {
        let mut digest = Context::new(&SHA256);
        for number in 0..LENGTH / PIECE {
            let mut piece = pattern(PIECE);
            piece[0] = number as u8;
            digest.update(&piece);
            send.write_chunk(Bytes::from(piece)).await.unwrap();
        }
        send.finished().await.unwrap();
        digest.finish()
    };
    let receiving = async {
        let mut digest = Context::new(&SHA256);
        let (mut length, mut changes) = (0, 0);
        let (mut pause, mut last) = (Duration::ZERO, Instant::now());
        while let Some(chunk) = recv.read_chunk().await.unwrap() {
            length += chunk.len();
            digest.update(&chunk);
            pause = pause.max(last.elapsed());
            if changes < CHANGES && length > LENGTH / (CHANGES + 1) * (changes + 1) {
                change(changes);
                changes += 1;
            }
            last = Instant::now();
        }
        assert_eq!((length, changes), (LENGTH, CHANGES));
        (digest.finish(), pause)
    };
    let (sent, (received, pause)) = futures::join!(sending, receiving);
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
    name: String,
    number: u32,
    family: Family,
    peer: Option<Peer>,
}

impl Network {
    /// `None`, with a word on standard error, where that is not allowed.
    fn new(family: Family, word: Word) -> Option<Self> {
        /// How many this process has made. Its tests make fewer than eight.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() * 8 + MADE.fetch_add(1, Ordering::SeqCst) % 8;
        let name = format!("sm{number}");
        let mut network = Self { name, number, family, peer: None };
        if !network.make() {
            skip("only root, with `ip`, can make network namespaces");
            return None;
        }
        if matches!(word, Word::Blocked) && !network.block_icmp() {
            skip("ICMP is blocked with `nft`");
            return None;
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &network.space(2)]).arg(std::env::current_exe().unwrap());
        network.peer = Some(Peer::start_at("peer_process", Role::Return, command, network.far()));
        Some(network)
    }

    async fn connect(&self) -> (sendstream::Client, Connection) {
        let settings = TransportConfig::default().mtu_search_interval(Duration::from_millis(200));
        self.peer.as_ref().unwrap().connect(settings).await
    }

    fn make(&self) -> bool {
        let [first, second, last] = [0, 1, 2].map(|space| self.space(space));
        let ends = ["a", "b", "c", "d", "e", "f"];
        let [near, near_end, middle, middle_end, far, far_end] = ends.map(|end| self.link(end));
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
            ip(&[space, &["address", "add", &address, "dev", name], at_once].concat())
                && ip(&[space, &["link", "set", name, "up"]].concat())
        };
        let route = |space: &[&str], to: &str, over: u32| {
            ip(&[space, &["route", "add", to, "via", &self.host(over).to_string()]].concat())
        };
        let (in_first, in_second, in_last) = (["-n", &first], ["-n", &second], ["-n", &last]);
        [&first, &second, &last].into_iter().all(|space| ip(&["netns", "add", space]))
            && link(&[], &near, &first, &near_end)
            && link(&in_first, &middle, &second, &middle_end)
            && link(&in_second, &far, &last, &far_end)
            && up(&[], &near, 1)
            && up(&in_first, &near_end, 2)
            && up(&in_first, &middle, 5)
            && up(&in_second, &middle_end, 6)
            && up(&in_second, &far, 9)
            && up(&in_last, &far_end, 10)
            && route(&[], &self.network(8), 2)
            && route(&in_first, &self.network(8), 6)
            && route(&in_second, &self.network(0), 5)
            && route(&in_last, "default", 9)
            && [&first, &second].into_iter().all(|space| self.forward(space))
    }

    /// Makes a namespace a router.
    fn forward(&self, space: &str) -> bool {
        let switch = match self.family {
            Family::V4 => "/proc/sys/net/ipv4/ip_forward",
            Family::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
        };
        ip(&["netns", "exec", space, "sh", "-c", &format!("echo 1 >{switch}")])
    }

    fn block_icmp(&self) -> bool {
        const RULES: &str = "add table inet quiet
            add chain inet quiet out { type filter hook output priority 0; }
            add rule inet quiet out icmp type destination-unreachable drop
            add rule inet quiet out icmpv6 type packet-too-big drop";
        (0..2).all(|space| ip(&["netns", "exec", &self.space(space), "nft", RULES]))
    }

    /// The link between the routers carries so large packets: to the peer, from it, or both ways.
    fn set_mtu(&self, which: usize, bytes: u32) {
        let bytes = bytes.to_string();
        let set = |space: u32, end| {
            assert!(ip(&["-n", &self.space(space), "link", "set", &self.link(end), "mtu", &bytes]));
        };
        if which != 1 {
            set(0, "c");
        }
        if which != 0 {
            set(1, "d");
        }
    }

    /// This machine's own link carries so large packets.
    fn set_own_mtu(&self, bytes: u32) {
        assert!(ip(&["link", "set", &self.link("a"), "mtu", &bytes.to_string()]));
    }

    /// The name of a router, 0 or 1, or of the peer's machine.
    fn space(&self, number: u32) -> String {
        format!("{}{number}", self.name)
    }

    fn link(&self, end: &str) -> String {
        format!("{}{end}", self.name)
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
        ip(&["link", "delete", &self.link("a")]);
        for space in 0..3 {
            ip(&["netns", "delete", &self.space(space)]);
        }
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
