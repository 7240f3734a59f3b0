//! What the targets in `fuzz/` cannot reach from outside. Compiled for them only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;

use crate::{
    driver::stream::events::tests::random_orders,
    types::{
        config::TransportConfig,
        resumption::{SessionKey, ticket::Ticket},
        tls::{ClientAuth, PeerIdentity, Trust},
    },
};

/// What a peer's certificates go through: `leaf` in DER, `chain` in PKCS#7, as
/// PEER_CERTIFICATE_RECEIVED has them.
pub fn peer(trust: &Trust, server_name: &str, leaf: &[u8], chain: &[u8]) {
    let identity = PeerIdentity::from_event(leaf, chain);
    assert_eq!(identity.is_none(), leaf.is_empty());
    if let Some(identity) = &identity {
        assert_eq!(identity.certificate().as_ref(), leaf);
        assert_eq!(identity.chain()[0], *identity.certificate());
    }
    let as_server = trust.verify_server(server_name, leaf, chain);
    let as_client = trust.verify_client(leaf, chain);
    if leaf.is_empty() && ClientAuth::Required(trust.clone()).trust().is_some() {
        as_server.unwrap_err();
        as_client.unwrap_err();
    }
}

/// Whether `transport` is taken, without asking MsQuic.
pub fn is_taken(transport: &TransportConfig) -> bool {
    transport.to_settings().is_ok()
}

/// MsQuic's events and the user's calls on one stream, in the order that the numbers choose,
/// against a model.
pub fn events(choices: impl IntoIterator<Item = (u16, u16)>) {
    random_orders::walk(choices);
}

/// What a cache gives for a session, whatever it is.
pub fn cached_session(bytes: &[u8]) -> bool {
    Ticket::decode(bytes, &session_key(), session_time()).is_ok()
}

/// MsQuic's ticket, kept beside a certificate and looked at when it comes back.
pub fn session(certificate: &[u8], native: &[u8]) -> bool {
    let identity = PeerIdentity::from_chain(vec![CertificateDer::from(certificate.to_vec())]).expect("there is one");
    let Some(bytes) = Ticket::encode(session_key().server_name(), &identity, native) else { return false };
    let Ok(ticket) = Ticket::decode(&bytes, &session_key(), session_time()) else { return false };
    assert_eq!(ticket.identity.certificate().as_ref(), certificate);
    assert_eq!(ticket.native[..], *native);
    true
}

fn session_key() -> SessionKey {
    SessionKey::new("server.test", ["demo"])
}

fn session_time() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}
