//! The values of options: how they are read.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use crate::ticket::Host;

/// What `--advertise` was given: a host, and a port if it is not the one listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advertised {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

impl std::str::FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(host) = text.parse() {
            return Ok(Self { host, port: None });
        }
        let with_port = text.rsplit_once(':').and_then(|(host, port)| {
            // An IPv6 address ends where its bracket does.
            let host = host.parse().ok().filter(|_| !host.contains(':') || host.ends_with(']'))?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            Some(Self { host, port: Some(port) })
        });
        with_port.ok_or_else(|| "expected HOST or HOST:PORT, as in 192.0.2.7:4433 or [2001:db8::7]:4433".to_owned())
    }
}

/// Reads where `recv` and `get` put their files.
pub(crate) fn parse_inbox(path: &OsStr) -> Result<PathBuf, &'static str> {
    if path == "-" { Err("`-` is no directory; `./-` is one of that name") } else { Ok(path.into()) }
}

/// Reads `4096`, `64K`, `256M`, `256MiB`, `2G`, `1T`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib") {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("expected a size such as 4096, 64K, 256M or 2G".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a size such as 4096, 64K, 256M or 2G".to_owned())?;
    number.checked_mul(1 << shift).filter(|size| *size <= i64::MAX as u64).ok_or_else(|| "too large".to_owned())
}

/// Reads a rate in bytes in a second.
pub(super) fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_size(text.trim_end_matches("/s"))? {
        0 => Err("nothing would be sent at that rate".to_owned()),
        rate => Ok(rate),
    }
}

/// Reads `30s`, `5m`, `2h`.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let wrong = "expected a time from 1s to 24h, such as 30s, 5m or 2h";
    let time = humantime::parse_duration(text).map_err(|_| wrong.to_owned())?;
    if (Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(&time) {
        Ok(time)
    } else {
        Err(wrong.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64k"), Ok(64 << 10));
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        for wrong in ["", "M", "-1", "1.5M", "1 M", "1X", "ib", "99999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn advertised_addresses_may_leave_out_the_port() {
        let parse = |text: &str| text.parse::<Advertised>().map(|it| (it.host.to_string(), it.port));
        assert_eq!(parse("192.0.2.7"), Ok(("192.0.2.7".to_owned(), None)));
        assert_eq!(parse("files.example:4433"), Ok(("files.example".to_owned(), Some(4433))));
        assert_eq!(parse("2001:db8::1"), Ok(("2001:db8::1".to_owned(), None)));
        assert_eq!(parse("[2001:db8::1]:4433"), Ok(("2001:db8::1".to_owned(), Some(4433))));
        assert_eq!(parse("[2001:db8::1]"), Ok(("2001:db8::1".to_owned(), None)));
        assert_eq!(parse("[fe80::1%eth0]:1"), Ok(("fe80::1".to_owned(), Some(1))));
        for wrong in [
            "0.0.0.0",
            "[::]:1",
            "[2001:db8::1]:0",
            "2001:db8::1%:1",
            "",
            ":1",
            "host:0",
            "host:99999",
            "ho st",
            "host:",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
