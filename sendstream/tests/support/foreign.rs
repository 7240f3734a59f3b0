//! quinn as the peer.

use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use sendstream::Identity;

use super::run;

/// Runs on tokio, which quinn needs, within the tests' bound on hanging.
pub(crate) fn on_tokio(test: impl Future<Output = ()> + Send + 'static) {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    run(async move {
        tokio.block_on(test);
        tokio.shutdown_background();
    });
}

/// A quinn client that trusts the server with `identity`; to be made on tokio.
pub(crate) fn client(identity: &Identity) -> quinn::Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate().clone()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"test".to_vec()];
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap())));
    endpoint
}
