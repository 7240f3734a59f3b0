//! Trust on first use, as SSH has it: a server's certificate is remembered when it is seen first,
//! and a server that shows another one later is refused.
//!
//!     cargo run --example custom_verifier

use std::{
    collections::{HashMap, hash_map::Entry},
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use sendstream::{
    CertificateHash, CertificateRefusal, Client, ConnectError, Connection, ConnectionError, Identity, PeerCertificate,
    Server, Trust,
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Which certificate each server showed first. One that is to last is kept in a file.
#[derive(Debug, Default)]
struct KnownServers(Mutex<HashMap<String, CertificateHash>>);

impl KnownServers {
    fn judge(&self, peer: &PeerCertificate) -> std::result::Result<(), CertificateRefusal> {
        let name = peer.server_name().ok_or_else(|| CertificateRefusal::by_verifier("not a server"))?;
        let shown = peer.identity().certificate_sha256();
        let mut known = self.0.lock().map_err(|_| CertificateRefusal::by_verifier("the list is damaged"))?;
        match known.entry(name.to_owned()) {
            Entry::Vacant(entry) => {
                println!("{name} is new: remembering {shown}");
                entry.insert(shown);
                Ok(())
            }
            Entry::Occupied(entry) if *entry.get() == shown => {
                println!("{name} is known");
                Ok(())
            }
            Entry::Occupied(_) => Err(CertificateRefusal::by_verifier(format!("{name} shows another certificate"))),
        }
    }
}

#[tokio::main]
async fn main() -> Result {
    let server = Server::builder()
        .identity(Identity::self_signed(["localhost"])?)
        .alpn(["tofu"])
        .bind("127.0.0.1:0".parse()?)?;
    let address = server.local_addr()?;

    let known = Arc::new(KnownServers::default());
    // The verifier has the last word. It does not ask `peer.verified()`, so it replaces what
    // `Trust::system` says, which would refuse every certificate here. The peer's key is proved in
    // any case.
    let trust = Trust::system().verify_with(move |peer| {
        let known = known.clone();
        async move { known.judge(&peer) }
    });
    let client = Client::builder().alpn(["tofu"]).trust(trust).build()?;

    connect(&server, &client, address).await?;
    connect(&server, &client, address).await?;

    // An impostor cannot show the first certificate, because it has not its key.
    server.set_identity(Identity::self_signed(["localhost"])?)?;
    match connect(&server, &client, address).await {
        Err(ConnectError::Connection(ConnectionError::CertificateRefused(refusal))) => println!("refused: {refusal}"),
        other => return Err(format!("expected a refusal: {other:?}").into()),
    }
    client.wait_idle().await;
    server.shutdown().await;
    Ok(())
}

async fn connect(
    server: &Server,
    client: &Client,
    address: SocketAddr,
) -> std::result::Result<Connection, ConnectError> {
    let (connected, accepted) = futures::join!(client.connect(address, "localhost"), async {
        // There is one client, whose failure is to be seen. A server with more awaits the second of
        // these in a task of its own, or takes `Server::connections`.
        server.accept().await.expect("nobody shuts it down").accept().await
    });
    // A refused server learns of it by an alert; this one does not mind.
    drop(accepted);
    connected
}
