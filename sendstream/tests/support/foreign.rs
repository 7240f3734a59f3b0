//! quinn as the peer.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::crypto::{CryptoProvider, ring};
use sendstream::Identity;

use super::any_port;

/// A quinn client that trusts the server with `identity`; to be made on tokio.
pub(crate) fn client(identity: &Identity) -> quinn::Endpoint {
    client_with(identity, |_| ())
}

/// [`client`], with its TLS as `adjust` leaves it.
pub(crate) fn client_with(identity: &Identity, adjust: impl FnOnce(&mut rustls::ClientConfig)) -> quinn::Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate().clone()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"test".to_vec()];
    adjust(&mut tls);
    let mut endpoint = quinn::Endpoint::client(any_port()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap())));
    endpoint
}

/// A quinn server with the settings that `adjust` leaves; to be made on tokio.
pub(crate) fn server(tls: rustls::ServerConfig, adjust: impl FnOnce(&mut quinn::ServerConfig)) -> quinn::Endpoint {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    adjust(&mut config);
    quinn::Endpoint::server(config, any_port()).unwrap()
}

/// The TLS of a quinn server that shows `own`.
pub(crate) fn server_tls(own: &Certified) -> rustls::ServerConfig {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], private_key(own))
        .unwrap();
    tls.alpn_protocols = vec![b"test".to_vec()];
    tls
}

/// A certificate with its key.
pub(crate) type Certified = rcgen::CertifiedKey<rcgen::KeyPair>;

/// A new certificate for `localhost`.
pub(crate) fn certified() -> Certified {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// The key of `own`, as rustls wants it.
pub(crate) fn private_key(own: &Certified) -> rustls::pki_types::PrivateKeyDer<'static> {
    rustls::pki_types::PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
