//! [`ServerName`]: the name that a client asks a server for, in the form in which it goes out.

use std::{ffi::CString, net::IpAddr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use rustls_pki_types::DnsName;

use crate::types::tls::CertificateRefusal;

/// A DNS name in lower case, in A-labels and without the dot that ends an absolute name (RFC 6066
/// §3, RFC 5890 §2.3.2.1), or an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerName {
    text: String,
    is_address: bool,
}

impl ServerName {
    /// The server name that `name` means.
    ///
    /// Letters that are not ASCII become A-labels as UTS #46 says, without its transitional forms.
    /// Underscores are taken, as many machines have them in their names, though RFC 1123 knows none.
    ///
    /// # Errors
    ///
    /// [`CertificateRefusal::InvalidServerName`]: it is neither a DNS name nor an IP address.
    pub(crate) fn parse(name: &str) -> Result<Self, CertificateRefusal> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Self { text: address.to_string(), is_address: true });
        }
        let invalid = || CertificateRefusal::InvalidServerName { name: name.to_owned() };
        let ascii = Uts46::new()
            .to_ascii(name.as_bytes(), NOT_IN_NAMES, Hyphens::CheckFirstLast, DnsLength::VerifyAllowRootDot)
            .map_err(|_| invalid())?;
        let text = ascii.strip_suffix('.').unwrap_or(&ascii);
        // webpki must be able to look for it in a certificate.
        if DnsName::try_from(text).is_err() || ends_as_an_address(text) {
            return Err(invalid());
        }
        Ok(Self { text: text.to_owned(), is_address: false })
    }

    /// The name, as a certificate must have it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// What goes out in the ClientHello. An address does not (RFC 6066 §3).
    pub(crate) fn indication(&self) -> Option<CString> {
        (!self.is_address).then(|| CString::new(self.text.as_str()).expect("no DNS name has a NUL"))
    }
}

/// Whether the last label is a number, as in `192.0.2.1.`, `127.1` and `0x7f.1`. No top-level domain
/// is one (RFC 3696 §2), and resolvers take such names for IPv4 addresses.
fn ends_as_an_address(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_decimal = last.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal || last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Of ASCII only letters, digits, hyphens and underscores are left.
const NOT_IN_NAMES: AsciiDenyList = AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str) -> String {
        ServerName::parse(name).unwrap().text
    }

    #[test]
    fn a_name_goes_out_in_one_form() {
        for (name, form) in [
            ("host.example", "host.example"),
            ("host.example.", "host.example"),
            ("HOST.Example", "host.example"),
            ("localhost", "localhost"),
            ("my_host", "my_host"),
            ("_sip._udp.example", "_sip._udp.example"),
            ("r3---sn-4g5e6nz7.example", "r3---sn-4g5e6nz7.example"),
            ("1.example", "1.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example.", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("faß.example", "xn--fa-hia.example"),
            ("例え。テスト。", "xn--r8jz45g.xn--zckzah"),
        ] {
            let parsed = ServerName::parse(name).unwrap();
            assert_eq!(parsed.as_str(), form, "{name}");
            assert_eq!(parsed.indication().unwrap().to_str(), Ok(form));
            assert_eq!(ServerName::parse(form), Ok(parsed));
        }
    }

    #[test]
    fn an_address_is_a_name_that_does_not_go_out() {
        for (address, form) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
        ] {
            let parsed = ServerName::parse(address).unwrap();
            assert_eq!((parsed.as_str(), parsed.indication()), (form, None));
        }
    }

    #[test]
    fn names_have_the_lengths_that_dns_has() {
        let label = "a".repeat(63);
        let longest = [&*label, &label, &label, &label[..61]].join(".");
        assert_eq!(longest.len(), 253);
        for name in [&label, &longest, &format!("{longest}.")] {
            assert!(ServerName::parse(name).is_ok(), "{name}");
        }
        for name in [format!("{label}a"), format!("{longest}a"), "ü".repeat(63)] {
            assert!(ServerName::parse(&name).is_err(), "{name}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let invalid = [
            "",
            ".",
            "..",
            "host..",
            "host..example",
            ".host",
            "-",
            "-host",
            "host-",
            "a.-b",
            "a b",
            " host",
            "host ",
            "host\n",
            "nul\0byte",
            "host:4433",
            "[::1]",
            "[::1]:4433",
            "fe80::1%eth0",
            "fe80::1%2",
            "https://host",
            "host/path",
            "user@host",
            "a,b",
            "*",
            "*.example",
            "host*",
            "\u{202e}host",
            "xn--",
            "xn--a",
            "xn--ü",
            "192.0.2.1.",
            "1.2.3.4.5",
            "127.1",
            "1",
            "0x7f.1",
            "a.0x1",
            "256.0.0.1",
            "1.2.3.04",
            "::1.",
            "a\u{ff0f}b",
            "host\u{ff1a}1",
            "e\u{fffd}",
            "\u{301}a",
        ];
        for name in invalid {
            let refusal = CertificateRefusal::InvalidServerName { name: name.to_owned() };
            assert_eq!(ServerName::parse(name), Err(refusal), "{name:?}");
        }
    }

    #[test]
    fn what_nobody_sees_is_left_out() {
        assert_eq!(parsed("ho\u{ad}st"), "host");
    }
}
