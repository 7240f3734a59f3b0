//! What comes back from a cache is used only if nothing about it is odd.

use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::CertificateDer;

use super::*;
use crate::types::tls::{Identity, der::element};

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3600;

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Library {
    AwsLc,
    OpenSsl,
}

const LIBRARIES: [Library; 2] = [Library::AwsLc, Library::OpenSsl];

/// What is in a session; a test changes what it is about.
struct Fields {
    library: Library,
    tls_version: Vec<u8>,
    cipher: Vec<u8>,
    time: u64,
    lifetime: u64,
    certificate: Vec<u8>,
    server_name: Option<&'static str>,
    ticket: Vec<u8>,
    max_early_data: Option<u64>,
    alpn: &'static str,
}

impl Fields {
    fn new(library: Library, identity: &Identity) -> Self {
        Self {
            library,
            tls_version: vec![0x03, 0x04],
            cipher: vec![0x13, 0x02],
            time: NOW - HOUR,
            lifetime: 2 * HOUR,
            certificate: identity.certificate().to_vec(),
            // AWS-LC does not note it.
            server_name: (library == Library::OpenSsl).then_some("server.test"),
            ticket: vec![7; 200],
            max_early_data: Some(0xffff_ffff),
            alpn: "demo",
        }
    }

    /// As the library writes it.
    fn der(&self) -> Vec<u8> {
        let integer = |number: u64| {
            let digits: Vec<u8> = number.to_be_bytes().iter().copied().skip_while(|digit| *digit == 0).collect();
            element(INTEGER, &[&[0][..usize::from(digits.first().is_none_or(|digit| *digit >= 0x80))], &digits])
                .to_vec()
        };
        let octets = |bytes: &[u8]| element(OCTET_STRING, &[bytes]).to_vec();
        let tagged = |tag: u8, contents: &[u8]| element(CONTEXT | tag, &[contents]).to_vec();
        let mut parts = vec![
            integer(1),
            element(INTEGER, &[&self.tls_version]).to_vec(),
            octets(&self.cipher),
            octets(&[1; 32]),
            octets(&[2; 48]),
            tagged(1, &integer(self.time)),
            // OpenSSL's own idea of how long it keeps a session, which it does not go by.
            tagged(2, &integer(if self.library == Library::AwsLc { self.lifetime } else { 7200 })),
            tagged(3, &self.certificate),
        ];
        parts.extend(self.server_name.map(|name| tagged(6, &octets(name.as_bytes()))));
        match self.library {
            Library::AwsLc => {
                parts.push(tagged(10, &octets(&self.ticket)));
                parts.push(tagged(22, &[1, 1, 0]));
                parts.extend(self.max_early_data.map(|bytes| tagged(24, &integer(bytes))));
                parts.push(tagged(26, &octets(self.alpn.as_bytes())));
                parts.push(tagged(27, &[1, 1, 0xff]));
            }
            Library::OpenSsl => {
                parts.push(tagged(9, &integer(self.lifetime)));
                parts.push(tagged(10, &octets(&self.ticket)));
                parts.extend(self.max_early_data.map(|bytes| tagged(15, &integer(bytes))));
                parts.push(tagged(16, &octets(self.alpn.as_bytes())));
            }
        }
        element(SEQUENCE, &parts.iter().map(|part| &part[..]).collect::<Vec<_>>()).to_vec()
    }

    fn native(&self) -> Vec<u8> {
        let der = self.der();
        native_around(&if self.library == Library::AwsLc { der } else { pem(&der) })
    }
}

fn pem(der: &[u8]) -> Vec<u8> {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<u8> = base64.as_bytes().chunks(64).flat_map(|line| [line, b"\n"].concat()).collect();
    [PEM_BEGIN, &lines, PEM_END].concat()
}

/// As MsQuic writes it, with three bytes of transport parameters.
fn native_around(session: &[u8]) -> Vec<u8> {
    let length = (session.len() as u16 | 0x4000).to_be_bytes();
    [&[1, 0, 0, 0, 1, 3][..], &length, &[9; 3], session].concat()
}

fn own() -> Identity {
    Identity::self_signed(["server.test"]).unwrap()
}

fn peer(identity: &Identity) -> PeerIdentity {
    PeerIdentity::from_chain(vec![identity.certificate().clone(), CertificateDer::from(vec![1, 2, 3])]).unwrap()
}

fn key() -> SessionKey {
    SessionKey::new("server.test", ["other", "demo"])
}

fn decode_at(bytes: &[u8], seconds: u64) -> Result<Ticket, BadTicket> {
    Ticket::decode(bytes, &key(), UNIX_EPOCH + Duration::from_secs(seconds))
}

/// What is wrong with a ticket that holds these fields, whichever library wrote it.
fn refused(adjust: impl Fn(&mut Fields)) -> BadTicket {
    let identity = own();
    let [ours, openssls] = LIBRARIES.map(|library| {
        let mut fields = Fields::new(library, &identity);
        adjust(&mut fields);
        let bytes = Ticket::encode("server.test", &peer(&identity), &fields.native()).unwrap();
        decode_at(&bytes, NOW).map(drop).expect_err("used")
    });
    assert_eq!(ours, openssls);
    ours
}

#[test]
fn what_was_kept_comes_back() {
    let identity = own();
    for library in LIBRARIES {
        let native = Fields::new(library, &identity).native();
        let bytes = Ticket::encode("server.test", &peer(&identity), &native).unwrap();
        assert_eq!(bytes.len(), bytes.capacity(), "no copy was left behind");
        let ticket = decode_at(&bytes, NOW).unwrap();
        assert_eq!(ticket.identity, peer(&identity));
        assert_eq!(*ticket.native, native);
        assert!(ticket.early_data);
    }
}

#[test]
fn early_data_takes_the_one_size_that_quic_allows() {
    let identity = own();
    let sizes = [(None, false), (Some(1), false), (Some(0xffff_fffe), false), (Some(0xffff_ffff), true)];
    for (library, (size, early_data)) in LIBRARIES.iter().flat_map(|library| sizes.map(|size| (*library, size))) {
        let fields = Fields { max_early_data: size, ..Fields::new(library, &identity) };
        let bytes = Ticket::encode("server.test", &peer(&identity), &fields.native()).unwrap();
        assert_eq!(decode_at(&bytes, NOW).unwrap().early_data, early_data, "{library:?}, {size:?}");
    }
}

#[test]
fn a_ticket_ends_with_its_lifetime_and_after_a_week_at_the_latest() {
    let identity = own();
    let encode = |library, time, lifetime| {
        let fields = Fields { time, lifetime, ..Fields::new(library, &identity) };
        Ticket::encode("server.test", &peer(&identity), &fields.native()).unwrap()
    };
    let expired = |bytes: &[u8], now| match decode_at(bytes, now) {
        Ok(_) => false,
        Err(BadTicket::Expired) => true,
        Err(error) => panic!("{error}"),
    };
    for library in LIBRARIES {
        let short = encode(library, NOW, HOUR);
        assert!(!expired(&short, NOW) && !expired(&short, NOW + HOUR - 1));
        assert!(expired(&short, NOW + HOUR), "too old");
        assert!(expired(&short, NOW - 1), "the clock was set back");
        let long = encode(library, NOW, 1 << 40);
        assert!(!expired(&long, NOW + 7 * 24 * HOUR - 1) && expired(&long, NOW + 7 * 24 * HOUR));
        let before_1970 = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Ticket::decode(&short, &key(), before_1970).map(drop), Err(BadTicket::Expired));
    }
}

#[test]
fn a_ticket_of_another_server_or_protocol_is_not_used() {
    let identity = own();
    let native = Fields::new(Library::AwsLc, &identity).native();
    let others = Ticket::encode("other.test", &peer(&identity), &native).unwrap();
    assert_eq!(decode_at(&others, NOW).map(drop), Err(BadTicket::OtherServer));
    assert_eq!(refused(|fields| fields.server_name = Some("other.test")), BadTicket::OtherServer);
    assert_eq!(refused(|fields| fields.alpn = "dem"), BadTicket::OtherProtocol);
}

#[test]
fn certificates_that_are_not_the_sessions_are_not_judged_for_it() {
    let others = own().certificate().to_vec();
    assert_eq!(refused(|fields| fields.certificate = others.clone()), BadTicket::Damaged);
    let identity = own();
    let nobody = PeerIdentity::from_chain(vec![CertificateDer::from(Vec::new())]).unwrap();
    let bytes = Ticket::encode("server.test", &nobody, &Fields::new(Library::AwsLc, &identity).native()).unwrap();
    assert_eq!(decode_at(&bytes, NOW).map(drop), Err(BadTicket::Damaged));
}

#[test]
fn a_session_that_tls_could_not_use_does_not_reach_it() {
    assert_eq!(refused(|fields| fields.tls_version = vec![0x03, 0x03]), BadTicket::Damaged);
    for cipher in [vec![], vec![0x13], vec![0x13, 0x04], vec![0xff, 0xff], vec![0x13, 0x01, 0x00]] {
        assert_eq!(refused(|fields| fields.cipher = cipher.clone()), BadTicket::Damaged);
    }
    assert_eq!(refused(|fields| fields.ticket = Vec::new()), BadTicket::Damaged);
}

#[test]
fn nothing_but_one_plain_section_of_pem_reaches_openssl() {
    let identity = own();
    let der = Fields::new(Library::OpenSsl, &identity).der();
    let good = pem(&der);
    let headed = |header: &[u8]| [PEM_BEGIN, header, &good[PEM_BEGIN.len()..]].concat();
    for pem in [
        headed(b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n"),
        headed(b"\n"),
        [b"something before\n", &good[..]].concat(),
        [&good[..], &good].concat(),
        good[..good.len() - 1].to_vec(),
        pem(&[&der[..], &[0]].concat()),
        pem(&der[..der.len() - 1]),
        pem(&[]),
        Vec::new(),
    ] {
        let bytes = Ticket::encode("server.test", &peer(&identity), &native_around(&pem)).unwrap();
        let empty_line = pem == headed(b"\n");
        assert_eq!(decode_at(&bytes, NOW).is_ok(), empty_line, "{}", String::from_utf8_lossy(&pem));
    }
}

#[test]
fn lengths_that_do_not_fit_are_damage() {
    let identity = own();
    let good = Fields::new(Library::AwsLc, &identity).native();
    let mut other_version = good.clone();
    other_version[0] = 2;
    let mut longer_parameters = good.clone();
    longer_parameters[5] += 1;
    for native in [
        &good[..good.len() - 1],
        &[&good[..], &[0]].concat(),
        &other_version,
        &longer_parameters,
        &[],
        &[1],
        &good[..7],
    ] {
        let bytes = Ticket::encode("server.test", &peer(&identity), native).unwrap();
        assert_eq!(decode_at(&bytes, NOW).map(drop), Err(BadTicket::Damaged));
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let identity = own();
    let good =
        Ticket::encode("server.test", &peer(&identity), &Fields::new(Library::AwsLc, &identity).native()).unwrap();
    for place in 0..good.len() {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        assert_eq!(decode_at(&bytes, NOW).map(drop), Err(BadTicket::Damaged), "flipped at {place}");
        assert_eq!(decode_at(&good[..place], NOW).map(drop), Err(BadTicket::Damaged), "cut at {place}");
    }
}

#[test]
fn damage_with_the_right_checksum_is_refused_or_read_but_never_a_panic() {
    let identity = own();
    let good =
        Ticket::encode("server.test", &peer(&identity), &Fields::new(Library::AwsLc, &identity).native()).unwrap();
    for place in PREFIX..good.len() {
        for byte in [0x00, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[place] = byte;
            let checksum = digest::digest(&digest::SHA256, &bytes[PREFIX..]);
            bytes[MAGIC.len()..PREFIX].copy_from_slice(checksum.as_ref());
            let _ = decode_at(&bytes, NOW);
        }
    }
}

#[test]
fn what_msquic_could_not_take_is_not_kept() {
    let identity = own();
    let native = |length| Ticket::encode("server.test", &peer(&identity), &vec![0; length]);
    assert!(native(MAX_NATIVE).is_some() && native(MAX_NATIVE + 1).is_none());
    let huge = PeerIdentity::from_chain(vec![CertificateDer::from(vec![0; MAX_LENGTH])]).unwrap();
    assert!(Ticket::encode("server.test", &huge, &[1]).is_none());
}
