//! `sendstream doctor`: what of this machine slows transfers down or stops them, and what to change.
//!
//! A check looks at one thing, changes nothing, and sends nothing but to this machine itself.

use std::{
    env, fmt, fs, io,
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use indicatif::BinaryBytes;
use nix::sys::{
    resource::{Resource, getrlimit},
    socket::{getsockopt, setsockopt, sockopt},
};
use serde::Serialize;

use crate::{
    cli::DoctorArgs,
    error::Failure,
    interfaces,
    summary::{print_json, print_line},
};

/// Looks at everything, and prints a line for each. Fails if something stops transfers.
pub(crate) fn run(args: DoctorArgs) -> Result<(), Failure> {
    let checks = [
        udp(),
        receive_buffer(granted_receive_buffer()),
        dropped(&fs::read_to_string("/proc/net/snmp").unwrap_or_default()),
        segmentation(&try_segmentation()),
        addresses(),
        ipv6(),
        port(args.port),
        clock(SystemTime::now(), made(), synchronized()),
        descriptors(getrlimit(Resource::RLIMIT_NOFILE).ok(), processors()),
    ];
    let bad = checks.iter().filter(|check| check.state == State::Bad).count();
    if args.json {
        print_json(&Findings { ok: bad == 0, checks: &checks })?;
    } else {
        for check in &checks {
            print_line(&check.to_string())?;
        }
    }
    if bad == 0 { Ok(()) } else { Err(Failure::new("transfers do not work here until that is changed").told()) }
}

#[derive(Debug, Serialize)]
struct Findings<'a> {
    ok: bool,
    checks: &'a [Check],
}

/// What was found of one thing.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    state: State,
    found: String,
    /// What to change, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Good,
    /// Transfers work, but not as well as they could.
    Warning,
    /// Transfers do not work.
    Bad,
}

impl Check {
    fn new(check: &'static str, state: State, found: impl Into<String>) -> Self {
        Self { check, state, found: found.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Good => "good",
            State::Warning => "warning",
            State::Bad => "BAD",
        };
        write!(f, "{state:<7} {:<14} {}", self.check, self.found)?;
        match &self.hint {
            Some(hint) => write!(f, "\n{:22} {hint}", ""),
            None => Ok(()),
        }
    }
}

fn udp() -> Check {
    let echo = || -> io::Result<()> {
        let [here, there] = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?];
        there.set_read_timeout(Some(PATIENCE))?;
        here.send_to(&[0; 1200], there.local_addr()?)?;
        there.recv(&mut [0; 1500]).map(drop)
    };
    match echo() {
        Ok(()) => Check::new("UDP", State::Good, "a packet of 1200 bytes passes on loopback"),
        Err(error) => Check::new("UDP", State::Bad, format!("no packet passes on loopback: {error}")).hint(
            "check that the loopback interface is up (`ip link set lo up`), and the firewall (`nft list ruleset`)",
        ),
    }
}

/// How many bytes of packets the system keeps for a socket that asks for as many as can be, as QUIC's
/// do.
fn granted_receive_buffer() -> Option<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let most = usize::try_from(i32::MAX).ok()?;
    setsockopt(&socket, sockopt::RcvBuf, &most).ok()?;
    // Linux doubles what was asked for, for its own book-keeping.
    getsockopt(&socket, sockopt::RcvBuf).ok().map(|bytes| bytes as u64 / 2)
}

fn receive_buffer(granted: Option<u64>) -> Check {
    let Some(granted) = granted else {
        return Check::new("receive buffer", State::Warning, "the system does not say how large it is");
    };
    let found = format!("{} for packets that wait to be read", BinaryBytes(granted));
    if granted >= GOOD_BUFFER {
        return Check::new("receive buffer", State::Good, found);
    }
    Check::new("receive buffer", State::Warning, format!("{found}: at high speed some are lost")).hint(format!(
        "`sysctl -w net.core.rmem_max={ADVISED_BUFFER}`, and the same in /etc/sysctl.d/90-sendstream.conf to keep it"
    ))
}

/// The packets that were lost because a receive buffer was full, since the machine was started.
fn dropped(snmp: &str) -> Check {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let count = lines.next().zip(lines.next()).and_then(|(names, values)| {
        let place = names.split(' ').position(|name| name == "RcvbufErrors")?;
        values.split(' ').nth(place)?.parse::<u64>().ok()
    });
    match count {
        None => Check::new("lost packets", State::Good, "the system does not count them"),
        Some(0) => Check::new("lost packets", State::Good, "no receive buffer was full since this system started"),
        Some(count) => Check::new(
            "lost packets",
            State::Warning,
            format!("{count} were lost since this system started, as a receive buffer was full"),
        )
        .hint("a larger receive buffer helps (above), and so does a processor that has less to do"),
    }
}

/// Sends two packets by one call of the system.
fn try_segmentation() -> io::Result<()> {
    let [here, there] = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?];
    setsockopt(&here, sockopt::UdpGsoSegment, &1200)?;
    setsockopt(&there, sockopt::UdpGroSegment, &true)?;
    there.set_read_timeout(Some(PATIENCE))?;
    here.send_to(&[0; 2400], there.local_addr()?)?;
    // They come as they were sent, or as two.
    there.recv(&mut [0; 4800]).map(drop)
}

fn segmentation(tried: &io::Result<()>) -> Check {
    match tried {
        Ok(()) => Check::new("GSO and GRO", State::Good, "many packets pass by one call of the system"),
        Err(error) => {
            Check::new("GSO and GRO", State::Warning, format!("every packet needs a call of the system: {error}"))
                .hint("Linux 5.0 or newer has them; some containers and virtual machines take them away")
        }
    }
}

fn addresses() -> Check {
    let reachable = interfaces::reachable((Ipv6Addr::UNSPECIFIED, 0).into());
    let list = reachable.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if reachable.iter().all(|ip| ip.is_loopback()) {
        return Check::new("addresses", State::Warning, "none but loopback's: nobody else reaches this machine")
            .hint("`ip address` lists them; `ip link set DEVICE up` and a DHCP client bring a network up");
    }
    Check::new("addresses", State::Good, list)
}

fn ipv6() -> Check {
    match UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(_) => Check::new("IPv6", State::Good, "sockets take it"),
        Err(error) => {
            Check::new("IPv6", State::Warning, format!("sockets do not take it ({error}): IPv4 alone is used"))
                .hint("`sysctl -w net.ipv6.conf.all.disable_ipv6=0`, or `ipv6.disable=0` where the kernel is started")
        }
    }
}

fn port(port: u16) -> Check {
    let bind = || match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
        }
        other => other,
    };
    match bind().and_then(|socket| socket.local_addr()) {
        Ok(address) if port == 0 => {
            Check::new("port", State::Good, format!("the system gives a free one, such as {}", address.port()))
        }
        Ok(_) => Check::new("port", State::Good, format!("{port} is free; a firewall must let UDP in to it")),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => format!("`ss -lunp sport = {port}` shows who has it"),
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need the right to (CAP_NET_BIND_SERVICE)".to_owned()
                }
                _ => "choose another one".to_owned(),
            };
            Check::new("port", State::Bad, format!("{port} cannot be used: {error}")).hint(hint)
        }
    }
}

/// When this program was made, or later.
fn made() -> Option<SystemTime> {
    fs::metadata(env::current_exe().ok()?).ok()?.modified().ok()
}

/// Whether something keeps the clock right, if that is known.
fn synchronized() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    let mut asked = Command::new("timedatectl");
    asked.args(["show", "--property=NTPSynchronized", "--value"]).stdin(Stdio::null()).stderr(Stdio::null());
    match asked.output().ok()?.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

fn clock(now: SystemTime, made: Option<SystemTime>, synchronized: Option<bool>) -> Check {
    let text = humantime::format_rfc3339_seconds(now);
    if made.is_some_and(|made| made.duration_since(now).is_ok_and(|behind| behind > DAY)) {
        return Check::new(
            "clock",
            State::Warning,
            format!("{text}, which is before this program was made: certificates look invalid"),
        )
        .hint("set it (`date --set`, `timedatectl set-ntp true`)");
    }
    match synchronized {
        Some(true) => Check::new("clock", State::Good, format!("{text}, and something keeps it right")),
        Some(false) => Check::new("clock", State::Warning, format!("{text}, but nothing keeps it right"))
            .hint("`timedatectl set-ntp true`"),
        None => Check::new("clock", State::Good, format!("{text}; it is not known what keeps it right")),
    }
}

fn processors() -> u64 {
    thread::available_parallelism().map_or(1, |count| count.get() as u64)
}

/// A port takes some descriptors for each processor, and each file that is received one.
fn descriptors(limit: Option<(u64, u64)>, processors: u64) -> Check {
    let Some((soft, hard)) = limit else {
        return Check::new("descriptors", State::Warning, "the system does not say how many");
    };
    let needed = 32 + 8 * processors;
    let found = format!("this process may open {soft} files");
    let hint = format!("`ulimit -n {}` in the shell, or `LimitNOFILE=` in a unit of systemd", hard.min(65536));
    match soft {
        _ if soft < needed => {
            Check::new("descriptors", State::Bad, format!("{found}, and QUIC needs {needed}")).hint(hint)
        }
        _ if soft < GOOD_DESCRIPTORS => Check::new("descriptors", State::Warning, found).hint(hint),
        _ => Check::new("descriptors", State::Good, found),
    }
}

/// How long a packet may take on loopback.
const PATIENCE: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_secs(86400);
/// What 10 Gbit/s bring in 2 ms.
const GOOD_BUFFER: u64 = 5 << 19;
const ADVISED_BUFFER: u64 = 8 << 20;
const GOOD_DESCRIPTORS: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_small_has_a_remedy_and_what_is_enough_has_none() {
        for (check, state) in [
            (receive_buffer(Some(212_992)), State::Warning),
            (receive_buffer(Some(4 << 20)), State::Good),
            (descriptors(Some((24, 1_048_576)), 2), State::Bad),
            (descriptors(Some((256, 1_048_576)), 2), State::Warning),
            (descriptors(Some((1024, 4096)), 16), State::Good),
            (segmentation(&Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT))), State::Warning),
            (segmentation(&Ok(())), State::Good),
        ] {
            assert_eq!(check.state, state, "{check}");
            assert_eq!(check.hint.is_some(), state != State::Good, "{check}");
        }
        assert!(descriptors(Some((24, 4096)), 2).hint.unwrap().contains("ulimit -n 4096"));
    }

    #[test]
    fn a_clock_before_the_program_is_wrong() {
        let now = SystemTime::now();
        assert_eq!(clock(now, Some(now - DAY), Some(true)).state, State::Good);
        assert_eq!(clock(now, Some(now + 3 * DAY), Some(true)).state, State::Warning);
        assert_eq!(clock(now, Some(now), Some(false)).state, State::Warning);
        assert_eq!(clock(SystemTime::UNIX_EPOCH, Some(now), None).state, State::Warning);
    }

    #[test]
    fn lost_packets_are_found_by_their_name() {
        let snmp = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts RcvbufErrors SndbufErrors\nUdp: 9 8 77 6\nUdpLite: InDatagrams\nUdpLite: 0\n";
        assert!(dropped(snmp).found.starts_with("77 were lost"));
        assert_eq!(dropped(&snmp.replace("77", "0")).state, State::Good);
        assert_eq!(dropped("nothing").state, State::Good);
    }
}
