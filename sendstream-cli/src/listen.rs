//! Where `sendstream recv` and `http serve` listen: what `--listen` takes, and the server there.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    str::FromStr,
};

use sendstream::{BindError, ConfigError, Server, ServerBuilder, SystemError};

use crate::{
    error::{Failure, Kind, chain},
    progress::Progress,
    ticket::Host,
};

/// What `--listen` was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    /// Every address of this machine, of both families.
    Everywhere { port: u16 },
    /// One address, or every one of a family.
    At(SocketAddr),
    /// Every address that the name stands for, as far as it is this machine's.
    Named { name: String, port: u16 },
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(port) = parse_port(text.strip_prefix(':').unwrap_or(text)) {
            return Ok(Self::Everywhere { port });
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::At(address));
        }
        if let Ok(ip) = without_brackets(text).unwrap_or(text).parse() {
            return Ok(Self::At(SocketAddr::new(ip, 0)));
        }
        let named = || {
            let (host, port) = text.rsplit_once(':')?;
            let port = parse_port(port)?;
            // An address with the name of its interface: the system knows the number.
            let name = match without_brackets(host) {
                Some(inner) => inner.split_once('%').filter(|(ip, _)| ip.parse::<Ipv6Addr>().is_ok()).map(|_| inner)?,
                None => host.parse::<Host>().ok().filter(|_| !host.contains(':')).map(|_| host)?,
            };
            Some(Self::Named { name: name.to_owned(), port })
        };
        named().ok_or_else(|| {
            "expected IP:PORT, NAME:PORT, :PORT or PORT, as in 192.0.2.7:4433, [::]:4433, localhost:4433 or :4433"
                .to_owned()
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere { port } => write!(f, ":{port}"),
            Self::At(address) => address.fmt(f),
            Self::Named { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Named { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

impl Listen {
    /// Starts the server that `builder` describes, anew with each call.
    pub(crate) fn start(&self, builder: impl Fn() -> ServerBuilder, progress: &Progress) -> Result<Server, Failure> {
        match self {
            Self::Everywhere { port } => {
                let server = match builder().bind((Ipv6Addr::UNSPECIFIED, *port).into()) {
                    Err(BindError::System(SystemError::FamilyNotSupported)) => {
                        builder().bind((Ipv4Addr::UNSPECIFIED, *port).into())
                    }
                    other => other,
                };
                server.map_err(|error| self.failure(&error))
            }
            Self::At(address) => builder().bind(*address).map_err(|error| self.failure(&error)),
            Self::Named { name, port } => {
                let addresses = resolve(name, *port).map_err(|error| self.unresolved(&error))?;
                self.start_on_all(&addresses, builder, progress)
            }
        }
    }

    /// The port, which may be 0.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Everywhere { port } | Self::Named { port, .. } => *port,
            Self::At(address) => address.port(),
        }
    }

    /// The name or the address that clients come to, if one was given.
    pub(crate) fn host(&self) -> Option<String> {
        match self {
            Self::At(address) if !address.ip().is_unspecified() => Some(address.ip().to_string()),
            // The name of an interface says nothing elsewhere.
            Self::Named { name, .. } if !name.contains('%') => Some(name.clone()),
            _ => None,
        }
    }

    /// Starts it on those of `addresses` that are this machine's. There is one at least.
    fn start_on_all(
        &self,
        addresses: &[SocketAddr],
        builder: impl Fn() -> ServerBuilder,
        progress: &Progress,
    ) -> Result<Server, Failure> {
        let mut attempts = if addresses[0].port() == 0 { ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match start_together(addresses, &builder) {
                // The port that the system chose at the first address is taken at another.
                Err(BindError::AddressInUse(_)) if attempts > 0 => {}
                Err(error) => return Err(self.failure(&error)),
                Ok((server, missing)) => {
                    for (address, error) in missing {
                        progress.warn(format_args!("not listening on {}: {}", without_port(address), why(&error)));
                    }
                    return Ok(server);
                }
            }
        }
    }

    fn failure(&self, error: &BindError) -> Failure {
        let what = format!("cannot listen on {self}");
        let failure = |kind| Failure::new(format!("{what}: {}", why(error))).kind(kind);
        match error {
            BindError::AddressInUse(_) => failure(Kind::AddressInUse)
                .todo("choose another address with `--listen IP:PORT`; port 0 takes a free one, and `ss -lunp` shows who has this one"),
            BindError::AddressNotAvailable(_) => failure(Kind::AddressNotAvailable)
                .todo("`--listen :PORT` listens on every address of this machine, and `ip address` lists them"),
            BindError::PermissionDenied(_) => failure(Kind::PermissionDenied).todo(
                "choose a port above 1023 with `--listen`, or get the right to use this one (CAP_NET_BIND_SERVICE)",
            ),
            BindError::System(error) | BindError::Config(ConfigError::System(error)) => Failure::of_system(what, *error),
            _ => failure(Kind::Failed),
        }
    }

    fn unresolved(&self, error: &io::Error) -> Failure {
        Failure::new(format!("cannot listen on {self}: the name stands for no address ({error})"))
            .kind(Kind::Unresolved)
            .todo("check how it is spelt; `--listen :PORT` listens on every address of this machine")
    }
}

/// Starts a server on those of `addresses` that are this machine's, all with one port, and says why
/// not on the others. Fails if there is none of this machine's.
fn start_together(
    addresses: &[SocketAddr],
    builder: impl Fn() -> ServerBuilder,
) -> Result<(Server, Vec<(SocketAddr, BindError)>), BindError> {
    let (mut server, mut missing) = (None::<Server>, Vec::new());
    for address in addresses {
        let mut address = *address;
        let result = match &server {
            None => builder().bind(address).map(|started| server = Some(started)),
            Some(server) => {
                if let Ok(first) = server.local_addr() {
                    address.set_port(first.port());
                }
                server.listen_also(address).map(drop)
            }
        };
        match result {
            Ok(()) => {}
            Err(error) if is_missing(&error) => missing.push((address, error)),
            Err(error) => return Err(error),
        }
    }
    match server {
        Some(server) => Ok((server, missing)),
        None => Err(missing.swap_remove(0).1),
    }
}

/// Why there is no server at an address, without what to do about it.
fn why(error: &BindError) -> String {
    match error {
        BindError::AddressNotAvailable(address) => {
            format!("{} is not an address of this machine", without_port(*address))
        }
        BindError::AddressInUse(address) => format!("{address} is in use"),
        BindError::PermissionDenied(address) => format!("no permission to use port {}", address.port()),
        BindError::System(error) => chain(error),
        other => chain(other),
    }
}

/// The address alone, with its zone.
fn without_port(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => address.ip().to_string(),
    }
}

/// The addresses that `name` stands for: one at least, each once.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (name, port).to_socket_addrs()? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
}

/// Whether there is no such address here, which says nothing of the name's others.
fn is_missing(error: &BindError) -> bool {
    matches!(error, BindError::AddressNotAvailable(_) | BindError::System(SystemError::FamilyNotSupported))
}

/// The inside of `[...]`.
fn without_brackets(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']')
}

/// A port in digits alone: a number's parser takes a plus sign as well.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// How often the system may choose a port that is taken at another address of the name.
const ATTEMPTS: usize = 16;

/// Whether nobody but this machine reaches a socket that is bound to `ip`.
pub(crate) fn is_for_this_machine_only(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_stands_for_every_address() {
        assert_eq!("4433".parse(), Ok(Listen::Everywhere { port: 4433 }));
        assert_eq!(":4433".parse(), Ok(Listen::Everywhere { port: 4433 }));
        assert_eq!(":0".parse(), Ok(Listen::Everywhere { port: 0 }));
    }

    #[test]
    fn addresses_and_names_are_told_apart() {
        let at = |text: &str| Ok(Listen::At(text.parse().unwrap()));
        let named = |name: &str, port| Ok(Listen::Named { name: name.to_owned(), port });
        assert_eq!("192.0.2.7:4433".parse(), at("192.0.2.7:4433"));
        assert_eq!("192.0.2.7".parse(), at("192.0.2.7:0"));
        assert_eq!("[::]:4433".parse(), at("[::]:4433"));
        assert_eq!("[fe80::1%2]:4433".parse(), at("[fe80::1%2]:4433"));
        assert_eq!("::1".parse(), at("[::1]:0"));
        assert_eq!("[::1]".parse(), at("[::1]:0"));
        assert_eq!("localhost:4433".parse(), named("localhost", 4433));
        assert_eq!("files.example.org:0".parse(), named("files.example.org", 0));
        assert_eq!("[fe80::1%eth0]:4433".parse(), named("fe80::1%eth0", 4433));
    }

    #[test]
    fn what_is_neither_is_wrong() {
        let wrong = [
            "",
            ":",
            "nowhere",
            ":65536",
            "70000",
            "+4433",
            ":+1",
            "host:",
            "host:x",
            "a b:1",
            "-v:1",
            "[::1",
            "::1]:1",
            "[host]:1",
            "1::2::3",
            "[eth0%1]:1",
            "[]:1",
        ];
        for text in wrong {
            assert!(text.parse::<Listen>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn it_reads_back_as_it_is_shown() {
        for text in [":4433", "192.0.2.7:4433", "[::]:0", "localhost:4433", "[fe80::1%eth0]:4433"] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!(listen.to_string(), text);
        }
    }
}
