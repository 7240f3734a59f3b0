//! What is reported beside what the interface has counted: two machines, which are network
//! namespaces, and a link between them. Needs root and `ip`.

use std::process::Command;

use crate::support::{Serve, figure, namespaces::Network, sendstream, skip, stderr, stdout_object};

const SERVER: &str = "10.79.1.1";
const CLIENT: &str = "10.79.1.2";
const SERVER_V6: &str = "fd00:79::1";
const CLIENT_V6: &str = "fd00:79::2";
/// What Ethernet has before an IP packet.
const ETHERNET: u64 = 14;

/// Two machines with a link.
fn network() -> Result<Network, String> {
    let network = Network::new(&["server", "client"])?;
    let client = network.name("client");
    network.ip_in("server", &["link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", &client])?;
    for (name, v4, v6) in [("server", SERVER, SERVER_V6), ("client", CLIENT, CLIENT_V6)] {
        network.ip_in(name, &["addr", "add", &format!("{v4}/24"), "dev", "up0"])?;
        network.ip_in(name, &["addr", "add", &format!("{v6}/64"), "dev", "up0", "nodad"])?;
        network.ip_in(name, &["link", "set", "up0", "up"])?;
    }
    Ok(network)
}

/// A command of the tool's in a namespace.
fn tool_in(network: &Network, name: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &network.name(name)]).arg(sendstream().get_program());
    command
}

/// What an interface of the client's has counted: packets and bytes, sent and received.
fn counters(network: &Network) -> [u64; 4] {
    let read = |counter: &str| {
        let output = Command::new("ip")
            .args(["netns", "exec", &network.name("client"), "cat"])
            .arg(format!("/sys/class/net/up0/statistics/{counter}"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    ["tx_packets", "tx_bytes", "rx_packets", "rx_bytes"].map(read)
}

/// By how much `reported` differs from `counted`, in hundredths.
fn difference(reported: u64, counted: u64) -> f64 {
    (reported as f64 / counted as f64 - 1.0) * 100.0
}

#[test]
fn a_run_agrees_with_the_interfaces_counters() {
    let network = match network() {
        Ok(network) => network,
        Err(why) => return skip(&why),
    };
    for (host, whole) in [(SERVER, true), (SERVER, false), (SERVER_V6, false)] {
        // As it comes, such a link takes packets for one that the system has not cut yet (GSO), and
        // counts their headers once. A card's counters do not.
        let most = if whole { "65535" } else { "1" };
        for name in ["server", "client"] {
            network.ip_in(name, &["link", "set", "up0", "gso_max_segs", most]).unwrap();
        }
        let listen = if host.contains(':') { format!("[{host}]:5201") } else { format!("{host}:5201") };
        let serve = Serve::start_as(tool_in(&network, "server"), &listen, &["--open"]);
        let all = [&[][..], &["-R"], &["--bidir"], &["--messages=10000"], &["--datagrams"]];
        // One family is as good as the other for most of them.
        for args in &all[..if host == SERVER { all.len() } else { 2 }] {
            let before = counters(&network);
            let mut command = tool_in(&network, "client");
            command.args(["perf", "run", "-J", "-t", "0.6"]).args(*args).arg(host);
            let output = command.output().unwrap();
            assert_eq!(stderr(&output), "", "{args:?}");
            let after = counters(&network);
            let [sent_packets, sent_bytes, received_packets, received_bytes] =
                std::array::from_fn(|index| after[index] - before[index]);
            let end = &stdout_object(&output)["end"];
            let mut worst: f64 = 0.0;
            for (side, packets, bytes) in
                [("sent", sent_packets, sent_bytes), ("received", received_packets, received_bytes)]
            {
                let reported = end["wire"][side]["ip_bytes"].as_u64().unwrap();
                let reported_packets = end["wire"][side]["packets"].as_u64().unwrap();
                let of_bytes = difference(reported + ETHERNET * packets, bytes);
                let of_packets = difference(reported_packets, packets);
                worst = worst.max(of_bytes.abs());
                assert!(
                    of_bytes.abs() < 5.0,
                    "{args:?} {side}: {reported} bytes in {packets} packets, {bytes} counted"
                );
                assert!(
                    whole || of_packets.abs() < 5.0,
                    "{args:?} {side}: {reported_packets} packets, {packets} counted"
                );
            }
            // What is transferred is what is left of that without headers, whoever sent.
            let (key, bytes) =
                if args.contains(&"-R") { ("sum_received", received_bytes) } else { ("sum_sent", sent_bytes) };
            let payload = end[key]["bytes"].as_u64().unwrap();
            figure(format_args!(
                "{host} {args:?}{}: {payload} bytes transferred, {bytes} counted by the interface ({:+.2}%); bytes of \
                 whole packets within {worst:.2}%",
                if whole { ", in large pieces" } else { "" },
                difference(payload, bytes),
            ));
            assert!(payload <= bytes);
            serve.ended();
        }
    }
}
