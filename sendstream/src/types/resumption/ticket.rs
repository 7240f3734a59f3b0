//! A session ticket as a client keeps it: MsQuic's own, the certificates it was obtained under, and
//! a checksum.
//!
//! ```text
//! MAGIC (8) | SHA-256 of the rest (32) | server name | number of certificates (4) | each certificate | MsQuic's ticket
//! ```
//!
//! Names, certificates and the ticket are preceded by their length; every number has four bytes,
//! the highest first. MsQuic's ticket (`QUIC_CONNECTION_EVENT_RESUMPTION_TICKET_RECEIVED`) in turn
//! holds the server's transport parameters and the TLS library's `SSL_SESSION`: AWS-LC's as DER, that of
//! an installed MsQuic's OpenSSL as PEM.
//!
//! What comes back from a cache is bad input until [`Ticket::decode`] has looked at it. MsQuic and
//! the TLS library do look, but they are not made for strangers here: an encrypted PEM has OpenSSL ask
//! for a password on the terminal, a session of another name or protocol fails the handshake instead of
//! being left out, and one with an unknown cipher stops the process. The checksum finds damage, not
//! forgery; whoever can forge a ticket can pose as the server, whatever is checked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::digest;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::types::{
    resumption::SessionKey,
    tls::{
        PeerIdentity,
        der::{INTEGER, OCTET_STRING, Reader, SEQUENCE},
    },
};

/// A ticket that can be shown to the server of the name it was checked for, if its certificates are
/// believed.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// What the server showed in the full handshake that this goes back to.
    pub(crate) identity: PeerIdentity,
    /// MsQuic's own, for `QUIC_PARAM_CONN_RESUMPTION_TICKET`; at most 65,535 bytes.
    pub(crate) native: Zeroizing<Vec<u8>>,
    /// Whether the server said that it takes early data with it.
    pub(crate) early_data: bool,
}

/// Why bytes are no ticket for a server, for the logs: the handshake is then a full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTicket {
    #[error("it is damaged, or of another version of this library")]
    Damaged,
    #[error("it is another server's")]
    OtherServer,
    #[error("its protocol is not among those offered")]
    OtherProtocol,
    #[error("it has expired")]
    Expired,
}

impl Ticket {
    /// The bytes for a cache: `native` came from the server of this name, which showed `identity`.
    /// `None` for a ticket that is too large to be used.
    pub(crate) fn encode(server_name: &str, identity: &PeerIdentity, native: &[u8]) -> Option<Vec<u8>> {
        let chain = identity.chain();
        let parts = std::iter::once(server_name.as_bytes()).chain(chain.iter().map(|one| &one[..])).chain([native]);
        // As large as it becomes, so that no copy of the secret stays behind in memory that grew.
        let length = PREFIX + 4 + parts.clone().map(|part| 4 + part.len()).sum::<usize>();
        if native.len() > MAX_NATIVE || length > MAX_LENGTH {
            return None;
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; digest::SHA256_OUTPUT_LEN]);
        for (index, part) in parts.enumerate() {
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
            if index == 0 {
                bytes.extend_from_slice(&(chain.len() as u32).to_be_bytes());
            }
        }
        let checksum = digest::digest(&digest::SHA256, &bytes[PREFIX..]);
        bytes[MAGIC.len()..PREFIX].copy_from_slice(checksum.as_ref());
        Some(bytes)
    }

    /// Checks what a cache gave for `key`. Whether the certificates are believed is left to the
    /// caller.
    pub(crate) fn decode(bytes: &[u8], key: &SessionKey, now: SystemTime) -> Result<Self, BadTicket> {
        let (server_name, chain, native) = Envelope::read(bytes).ok_or(BadTicket::Damaged)?;
        if server_name != key.server_name().as_bytes() {
            return Err(BadTicket::OtherServer);
        }
        let der = session_der(native).ok_or(BadTicket::Damaged)?;
        let session = Session::read(&der).ok_or(BadTicket::Damaged)?;
        // The certificates beside the ticket must be those of the session in it, or the wrong ones
        // would be judged.
        if chain.first().map(|leaf| &leaf[..]) != Some(session.certificate) {
            return Err(BadTicket::Damaged);
        }
        if session.server_name.is_some_and(|name| name != server_name) {
            return Err(BadTicket::OtherServer);
        }
        if !key.alpn().iter().any(|protocol| protocol == session.alpn) {
            return Err(BadTicket::OtherProtocol);
        }
        if !session.is_valid_at(now) {
            return Err(BadTicket::Expired);
        }
        let identity = PeerIdentity::from_chain(chain).ok_or(BadTicket::Damaged)?;
        let early_data = session.max_early_data == EARLY_DATA_OVER_QUIC;
        Ok(Self { identity, native: Zeroizing::new(native.to_vec()), early_data })
    }
}

/// The parts of [`Ticket::encode`]'s bytes: name, certificates, MsQuic's ticket.
struct Envelope<'a>(&'a [u8]);

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Option<(&'a [u8], Vec<CertificateDer<'static>>, &'a [u8])> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (checksum, contents) = rest.split_at_checked(digest::SHA256_OUTPUT_LEN)?;
        if digest::digest(&digest::SHA256, contents).as_ref() != checksum {
            return None;
        }
        let mut envelope = Self(contents);
        let server_name = envelope.part()?;
        let count = envelope.number()?;
        let chain = (0..count)
            .map(|_| envelope.part().map(|certificate| CertificateDer::from(certificate).into_owned()))
            .collect::<Option<Vec<_>>>()?;
        let native = envelope.part()?;
        (envelope.0.is_empty() && native.len() <= MAX_NATIVE).then_some((server_name, chain, native))
    }

    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        let (part, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(part)
    }
}

/// What of an `SSL_SESSION` decides whether it can be used (`ssl/ssl_asn1.c` of OpenSSL,
/// `ssl/ssl_asn1.cc` of AWS-LC, which give most fields the same numbers).
struct Session<'a> {
    certificate: &'a [u8],
    server_name: Option<&'a [u8]>,
    alpn: &'a [u8],
    /// When the ticket came, in seconds since 1970.
    time: u64,
    /// For how many seconds the server said that it will take it.
    lifetime: u64,
    max_early_data: u64,
}

impl<'a> Session<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut fields = Reader::new(Reader::only(der, SEQUENCE)?);
        fields.take(INTEGER)?;
        let tls_version = number(fields.take(INTEGER)?.contents)?;
        let cipher = fields.take(OCTET_STRING)?.contents;
        if tls_version != TLS_1_3 || !CIPHERS.contains(&cipher) {
            return None;
        }
        fields.take(OCTET_STRING)?; // the session's id
        fields.take(OCTET_STRING)?; // its secret
        let mut tagged = [None; 32];
        while let Some(field) = fields.next() {
            tagged[usize::from(field.tag & 0x1f)] = (field.tag & 0xe0 == CONTEXT).then_some(field.contents);
        }
        if !fields.is_empty() {
            return None;
        }
        let octets = |tag: usize| tagged[tag].and_then(|contents| Reader::only(contents, OCTET_STRING));
        let integer = |tag: usize| tagged[tag].and_then(|contents| number(Reader::only(contents, INTEGER)?));
        octets(10).filter(|ticket| !ticket.is_empty())?;
        // Only AWS-LC notes that a session is QUIC's.
        let (lifetime, max_early_data, alpn) = if tagged[27].is_some() { (2, 24, 26) } else { (9, 15, 16) };
        Some(Self {
            time: integer(1)?,
            certificate: tagged[3]?,
            server_name: octets(6),
            lifetime: integer(lifetime)?,
            // A zero is left out.
            max_early_data: integer(max_early_data).unwrap_or(0),
            alpn: octets(alpn)?,
        })
    }

    fn is_valid_at(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else { return false };
        // A ticket from the future is one from before the clock was set back: how old it is, nobody
        // knows.
        now.checked_sub(Duration::from_secs(self.time))
            .is_some_and(|age| age < Duration::from_secs(self.lifetime.min(MAX_LIFETIME)))
    }
}

/// The `SSL_SESSION` in MsQuic's ticket (`QuicCryptoEncodeClientTicket`): the ticket's version, QUIC's
/// version, the lengths of what follows, the server's transport parameters, the session.
fn session_der(native: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut rest = native;
    if variable_length(&mut rest)? != NATIVE_VERSION {
        return None;
    }
    let (_quic_version, tail) = rest.split_at_checked(4)?;
    rest = tail;
    let parameters = usize::try_from(variable_length(&mut rest)?).ok()?;
    let session = usize::try_from(variable_length(&mut rest)?).ok()?;
    let (_parameters, text) = rest.split_at_checked(parameters)?;
    if text.len() != session {
        return None;
    }
    let Some(pem) = text.strip_prefix(PEM_BEGIN) else { return Some(Zeroizing::new(text.to_vec())) };
    // Nothing may stand between the label and the base64: it would be OpenSSL's to act upon.
    let base64 = pem.strip_suffix(PEM_END)?;
    let base64 = Zeroizing::new(base64.iter().copied().filter(|byte| *byte != b'\n').collect::<Vec<u8>>());
    BASE64_STANDARD.decode(&base64[..]).ok().map(Zeroizing::new)
}

/// A variable-length integer (RFC 9000 §16).
fn variable_length(bytes: &mut &[u8]) -> Option<u64> {
    let length = 1 << (bytes.first()? >> 6);
    let (digits, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    let number = digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit));
    Some(number & (u64::MAX >> (64 - 8 * length + 2)))
}

/// An INTEGER of DER that is not negative.
fn number(contents: &[u8]) -> Option<u64> {
    let digits = match contents {
        [0, digits @ ..] => digits,
        [first, ..] if *first < 0x80 => contents,
        _ => return None,
    };
    (digits.len() <= 8).then(|| digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

const MAGIC: &[u8; 8] = b"sstick\0\x01";

/// What stands before the part that the checksum covers.
const PREFIX: usize = MAGIC.len() + digest::SHA256_OUTPUT_LEN;

/// MsQuic takes the length of a ticket in 16 bits.
const MAX_NATIVE: usize = u16::MAX as usize;

/// A certificate chain that makes a ticket larger than this is not worth keeping.
const MAX_LENGTH: usize = 256 * 1024;

/// `CXPLAT_TLS_RESUMPTION_CLIENT_TICKET_VERSION`.
const NATIVE_VERSION: u64 = 1;

const PEM_BEGIN: &[u8] = b"-----BEGIN SSL SESSION PARAMETERS-----\n";
const PEM_END: &[u8] = b"-----END SSL SESSION PARAMETERS-----\n";

const TLS_1_3: u64 = 0x0304;

/// The cipher suites of TLS 1.3 that MsQuic knows (RFC 8446 §B.4).
const CIPHERS: [&[u8]; 3] = [&[0x13, 0x01], &[0x13, 0x02], &[0x13, 0x03]];

/// The class and form of an explicitly tagged field.
const CONTEXT: u8 = 0xa0;

/// What `max_early_data_size` must be over QUIC (RFC 9001 §4.6.1).
const EARLY_DATA_OVER_QUIC: u64 = 0xffff_ffff;

/// Seven days, beyond which no ticket may be kept, whatever its server says (RFC 8446 §4.6.1).
const MAX_LIFETIME: u64 = 7 * 24 * 3600;

#[cfg(test)]
mod tests;
