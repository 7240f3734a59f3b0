//! Two machines: tickets that reach from one to the other, and what is said where nothing does. Network
//! namespaces stand for the machines; they need root and `ip`.

use std::{
    ffi::OsStr,
    fs,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Files, Process, TicketParts,
    namespaces::{Network, ip},
    sendstream, stderr, stdout_object, until,
};

/// Two machines on one cable, the receiver's and the sender's. Neither has an address on it, nor a
/// route.
pub(crate) struct Cable {
    network: Network,
}

impl Cable {
    /// `None`, and a word about it, where there can be none.
    pub(crate) fn lay() -> Option<Self> {
        let lay = || {
            let network = Network::new(&["receiver", "sender"])?;
            let [receiver, sender] = ["receiver", "sender"].map(|name| network.name(name));
            let ends =
                ["link", "add", "cable", "netns", &receiver, "type", "veth", "peer", "name", "cable", "netns", &sender];
            ip(&ends)?;
            for name in ["receiver", "sender"] {
                // Nobody waits until an address was found to be nobody else's.
                network.set_in(name, "net/ipv6/conf/cable/accept_dad", "0")?;
                network.ip_in(name, &["link", "set", "cable", "up"])?;
            }
            for name in ["receiver", "sender"] {
                // The kernel notices the cable in its own time.
                let mut addresses = Command::new("ip");
                addresses.args(["-n", &network.name(name), "address", "show", "dev", "cable"]);
                until("there are link-local addresses", || {
                    String::from_utf8_lossy(&addresses.output().unwrap().stdout).contains("fe80:")
                });
            }
            Ok(Self { network })
        };
        lay().inspect_err(|error: &String| eprintln!("SKIPPED: no machines can be made: {error}")).ok()
    }

    pub(crate) fn ip(&self, name: &str, arguments: &str) {
        self.network.ip_in(name, &arguments.split(' ').collect::<Vec<_>>()).unwrap();
    }

    /// A program on one of the machines.
    pub(crate) fn on(&self, name: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.network.name(name)]).arg(program);
        command
    }

    /// The tool on one of the machines.
    fn sendstream(&self, name: &str) -> Command {
        self.on(name, sendstream().get_program())
    }

    /// A receiver on its machine, and what it announces.
    fn recv(&self, args: &[&str], dir: &TempDir) -> (Process, Value) {
        let mut command = self.sendstream("receiver");
        command.args(["recv", "--json"]).args(args).arg(dir.path());
        let receiver = Process::start(command);
        let announced = receiver.object();
        (receiver, announced)
    }

    fn send(&self, files: &Files, ticket: &str) -> Output {
        let mut command = self.sendstream("sender");
        command.args(["send", "--json"]).arg(files.file("x", b"content")).arg(ticket);
        command.output().unwrap()
    }

    /// What `send` says and gives programs, where it cannot reach `address`.
    fn says(&self, address: &str) -> (String, Value) {
        let address = address.parse().unwrap();
        let parts = TicketParts { certificate: [7; 32], token: [7; 16], address };
        let output = self.send(&Files::new(), &parts.to_string());
        assert_eq!(output.status.code(), Some(1));
        (stderr(&output).to_owned(), stdout_object(&output))
    }
}

/// The places that a ticket leads to.
fn reach(announced: &Value) -> Vec<&str> {
    announced["reach"].as_array().unwrap().iter().map(|place| place.as_str().unwrap()).collect()
}

#[test]
fn a_machine_without_a_default_route_tells_its_address_on_the_network_and_never_its_loopback() {
    let Some(cable) = Cable::lay() else { return };
    cable.ip("receiver", "address add 10.9.0.1/24 dev cable");
    cable.ip("sender", "address add 10.9.0.2/24 dev cable");
    for listen in [":0", "0.0.0.0:0", "[::]:0"] {
        let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
        let (_receiver, announced) = cable.recv(&["--once", "--listen", listen], &dir);
        let reach = reach(&announced);
        assert!(reach[0].starts_with("10.9.0.1:"), "{announced}");
        assert!(!reach.iter().any(|place| place.starts_with("127.") || place.starts_with("[::1]")), "{announced}");
        let output = cable.send(&files, announced["ticket"].as_str().unwrap());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"content");
    }
}

#[test]
fn machines_that_have_nothing_but_link_local_addresses_meet() {
    let Some(cable) = Cable::lay() else { return };
    let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
    let (_receiver, announced) = cable.recv(&["--once"], &dir);
    assert!(reach(&announced).iter().all(|place| place.starts_with("[fe80::")), "{announced}");
    let output = cable.send(&files, announced["ticket"].as_str().unwrap());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"content");
}

#[test]
fn all_addresses_are_told_and_those_that_lead_nowhere_for_the_sender_hold_it_up_for_a_moment_only() {
    let Some(cable) = Cable::lay() else { return };
    cable.ip("receiver", "link add other type veth peer name unseen");
    cable.ip("receiver", "link set other up");
    cable.ip("receiver", "link set unseen up");
    cable.ip("receiver", "link add unused type veth peer name unseen2");
    for address in ["10.9.1.1/24 dev other", "10.9.2.1/24 dev other", "10.9.3.1/24 dev unused", "10.9.0.1/24 dev cable"]
    {
        cable.ip("receiver", &format!("address add {address}"));
    }
    cable.ip("receiver", "address add fd09::1/64 dev other nodad");
    // Nobody answers at these, on the sender's side.
    cable.ip("sender", "address add 10.9.0.2/24 dev cable");
    cable.ip("sender", "route add 10.9.1.0/24 via 10.9.0.77");
    let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
    let (_receiver, announced) = cable.recv(&["--once"], &dir);
    let reach = reach(&announced);
    for address in ["10.9.1.1:", "10.9.2.1:", "10.9.0.1:", "[fd09::1]:", "[fe80::"] {
        assert!(reach.iter().any(|place| place.starts_with(address)), "{address}: {announced}");
    }
    assert!(!reach.iter().any(|place| place.starts_with("10.9.3.1")), "its interface is down: {announced}");
    let output = cable.send(&files, announced["ticket"].as_str().unwrap());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn each_way_not_to_reach_a_receiver_has_its_own_sentence_and_remedy() {
    let Some(cable) = Cable::lay() else { return };
    cable.ip("receiver", "address add 10.9.0.1/24 dev cable");
    cable.ip("sender", "address add 10.9.0.2/24 dev cable");
    for route in ["unreachable 192.0.2.1", "prohibit 192.0.2.2", "blackhole 192.0.2.3", "throw 192.0.2.4"] {
        cable.ip("sender", &format!("route add {route}"));
    }
    let cases = [
        ("203.0.113.1:9", "this machine has no route there", "no-route", "ip route"),
        ("192.0.2.1:9", "no network path leads there", "unreachable", "--advertise"),
        ("192.0.2.2:9", "the system forbids it", "permission-denied", "firewall"),
        ("192.0.2.3:9", "cannot send to such an address", "no-route", "ip route"),
        ("192.0.2.4:9", "this machine has no route there", "no-route", "ip route"),
        ("10.9.0.1:9", "nobody listens at 10.9.0.1:9", "unreachable", "recv"),
    ];
    for (address, sentence, kind, remedy) in cases {
        let (said, object) = cable.says(address);
        assert!(said.contains(sentence) && said.contains(remedy), "{address}: {said}");
        assert_eq!(object["kind"], kind, "{address}: {object}");
        let [error, hint] = ["error", "hint"].map(|field| object[field].as_str().unwrap());
        assert!(error.contains(sentence) && hint.contains(remedy), "{address}: {object}");
        assert!(!error.contains('\n') && !hint.contains('\n'), "{address}: {object}");
        for word in ["MsQuic", "0x", "closed by the transport", "release"] {
            assert!(!said.contains(word), "{address}: {said}");
        }
    }
}

#[test]
fn a_code_finds_the_receiver_on_the_same_network_once() {
    let Some(cable) = Cable::lay() else { return };
    for address in [None, Some("10.9.0")] {
        if let Some(network) = address {
            cable.ip("receiver", &format!("address add {network}.1/24 dev cable"));
            cable.ip("sender", &format!("address add {network}.2/24 dev cable"));
        }
        let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
        let (receiver, announced) = cable.recv(&["--code"], &dir);
        let code = announced["code"].as_str().unwrap();
        let output = cable.send(&files, code);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"content");
        receiver.says("knew the code; for another sender it is");
        // It was good for one sender.
        let output = cable.send(&files, code);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("the code is wrong, or was used before"), "{}", stderr(&output));
        assert_eq!(stdout_object(&output)["kind"], "refused");
        receiver.says("guessed a wrong code, which ends it; now it is");
    }
}

#[test]
fn a_code_finds_the_sharer_on_the_same_network_once() {
    let Some(cable) = Cable::lay() else { return };
    let (dir, files) = (tempfile::tempdir().unwrap(), Files::new());
    let mut command = cable.sendstream("receiver");
    command.args(["share", "--json", "--code"]).arg(files.file("x", b"content"));
    let sharer = Process::start(command);
    let announced = sharer.object();
    let code = announced["code"].as_str().unwrap();
    let get = || {
        let mut command = cable.sendstream("sender");
        command.args(["get", "--json", code]).arg(dir.path()).output().unwrap()
    };
    let output = get();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"content");
    sharer.says("knew the code; for another receiver it is");
    let output = get();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("the code is wrong, or was used before"), "{}", stderr(&output));
    sharer.says("guessed a wrong code, which ends it; now it is");
}

#[test]
fn a_code_that_nobody_has_is_told_from_a_wrong_one() {
    let Some(cable) = Cable::lay() else { return };
    let output = cable.send(&Files::new(), "7-copper-lantern");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nobody on this network has a code of number 7"), "{}", stderr(&output));
    let output = cable.send(&Files::new(), "7-coper-lantern");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no code has the word \"coper\""), "{}", stderr(&output));
}
