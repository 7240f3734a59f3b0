//! Mutual TLS with a private authority: each side proves who it is, and who cannot is refused.
//!
//!     cargo run --example mtls

use std::error::Error;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use sendstream::{
    CertificateRefusal, Client, ClientAuth, ClientBuilder, ConnectError, Connection, ConnectionError, Identity, Server,
    Trust,
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result {
    // An organisation has its authority in files, made once, and its key under lock; here both are
    // made up.
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
    let trust = Trust::ca_pem(authority.pem())?;

    let server = Server::builder()
        .identity(issue(&authority, "localhost", ExtendedKeyUsagePurpose::ServerAuth)?)
        .client_auth(ClientAuth::Required(trust.clone()))
        .alpn(["mtls"])
        .bind("127.0.0.1:0".parse()?)?;
    let to_server = Client::builder().alpn(["mtls"]).trust(trust);

    let known = issue(&authority, "node-7", ExtendedKeyUsagePurpose::ClientAuth)?;
    let (client, connected, accepted) = meet(&server, to_server.clone().identity(known.clone())).await?;
    let (ours, theirs) = (connected?, accepted?);
    let shown = theirs.peer_identity().ok_or("the client showed nothing")?;
    assert_eq!(shown.certificate(), known.certificate());
    println!("accepted: the client with certificate {}", shown.certificate_sha256());
    drop((ours, theirs));
    client.wait_idle().await;

    // Nobody: no certificate at all.
    let (client, connected, accepted) = meet(&server, to_server.clone()).await?;
    refused(connected, accepted, &CertificateRefusal::NoCertificate).await?;
    client.wait_idle().await;

    // A stranger: a certificate for which the authority does not vouch.
    let stranger = Identity::self_signed(["node-7"])?;
    let (client, connected, accepted) = meet(&server, to_server.identity(stranger)).await?;
    refused(connected, accepted, &CertificateRefusal::UnknownIssuer).await?;
    client.wait_idle().await;

    server.shutdown().await;
    Ok(())
}

/// A new key with a certificate for `name`, good for one purpose.
fn issue(authority: &CertifiedIssuer<'_, KeyPair>, name: &str, purpose: ExtendedKeyUsagePurpose) -> Result<Identity> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new([name.to_owned()])?;
    parameters.extended_key_usages = vec![purpose];
    let certificate = parameters.signed_by(&key, authority)?;
    Ok(Identity::from_pem(certificate.pem(), key.serialize_pem())?)
}

type Connected = std::result::Result<Connection, ConnectError>;
type Accepted = std::result::Result<Connection, ConnectionError>;

/// What becomes of a client like `builder` on both sides.
async fn meet(server: &Server, builder: ClientBuilder) -> Result<(Client, Connected, Accepted)> {
    let client = builder.build()?;
    let address = server.local_addr()?;
    let (connected, accepted) = futures::join!(client.connect(address, "localhost"), async {
        // There is one client, whose failure is to be seen. A server with more awaits the second of
        // these in a task of its own, or takes `Server::connections`.
        server.accept().await.expect("nobody shuts it down").accept().await
    });
    Ok((client, connected, accepted))
}

/// Checks that the server gave `reason`, and that the client was told.
async fn refused(connected: Connected, accepted: Accepted, reason: &CertificateRefusal) -> Result {
    let refusal = match accepted {
        Err(ConnectionError::CertificateRefused(refusal)) => refusal,
        other => return Err(format!("expected a refusal: {other:?}").into()),
    };
    assert_eq!(&refusal, reason);
    // In TLS 1.3 a client is done before the server has judged it, so it may have a connection that
    // ends at once.
    let told = match connected {
        Ok(connection) => connection.closed().await,
        Err(ConnectError::Connection(error)) => error,
        Err(error) => return Err(error.into()),
    };
    assert!(matches!(told, ConnectionError::Tls { alert, .. } if alert == reason.alert()), "{told}");
    println!("refused: {refusal}; the client was told: {told}");
    Ok(())
}
