//! Resumption and early data between our two ends and quinn's, in one process.

mod support;

use std::{net::SocketAddr, sync::Arc};

use sendstream::{CertificateHash, Client, Identity, MemorySessionCache, Resumption, Server, TicketKey, Trust};
use support::{accept, any_port, foreign, on_tokio};

/// A quinn client that keeps tickets and sends early data where it may.
fn quinn_client(identity: &Identity) -> quinn::Endpoint {
    foreign::client_with(identity, |tls| tls.enable_early_data = true)
}

/// A quinn server, and one that follows it and knows nothing of its sessions; and the hash of their
/// certificate.
fn quinn_servers() -> ([quinn::Endpoint; 2], CertificateHash) {
    let own = foreign::certified();
    let endpoint = || {
        let mut tls = foreign::server_tls(&own);
        tls.max_early_data_size = u32::MAX;
        foreign::server(tls, |_| ())
    };
    ([endpoint(), endpoint()], CertificateHash::of(own.cert.der()))
}

fn our_server(identity: &Identity) -> Server {
    support::server(identity).resumption(Resumption::ResumeAndZeroRtt).bind(any_port()).unwrap()
}

fn our_client(hash: CertificateHash) -> Client {
    let cache = Arc::<MemorySessionCache>::default();
    support::client_with(Trust::pinned([hash])).session_cache(cache).build().unwrap()
}

/// Has quinn connect until it has a ticket, then with early data: whether that was accepted.
async fn quinn_asks_us(endpoint: &quinn::Endpoint, server: &Server) -> bool {
    let address: SocketAddr = server.local_addr().unwrap();
    for _ in 0..20 {
        let connecting = endpoint.connect(address, "localhost").unwrap();
        match connecting.into_0rtt() {
            Ok((theirs, accepted)) => {
                let asking = async {
                    let mut stream = theirs.open_uni().await.unwrap();
                    stream.write_all(b"early").await.unwrap();
                    stream.finish().unwrap();
                    accepted.await
                };
                let serving = async {
                    let early = server.accept().await.unwrap().accept_0rtt().await.unwrap();
                    let read = early.accept_uni().await.unwrap().read_to_end(16).await.unwrap();
                    assert_eq!(read, b"early");
                    (early.accepted_0rtt().await, early.connected().await.unwrap())
                };
                let (accepted, (_, ours)) = futures::join!(asking, serving);
                assert_eq!(ours.session_resumed(), accepted);
                theirs.close(0u32.into(), b"");
                ours.closed().await;
                return accepted;
            }
            Err(connecting) => {
                let (theirs, ours) = futures::join!(connecting, async { accept(server).await.unwrap() });
                let theirs = theirs.unwrap();
                assert!(!ours.session_resumed());
                // The ticket is on its way before this stream, so mostly it is there when the
                // stream is.
                let mut stream = ours.open_uni().unwrap();
                drop(stream.finish_with("hello"));
                theirs.accept_uni().await.unwrap().read_to_end(16).await.unwrap();
                theirs.close(0u32.into(), b"");
                ours.closed().await;
            }
        }
    }
    panic!("quinn got no ticket");
}

#[test]
fn quinn_resumes_with_us_and_its_early_data_is_taken() {
    on_tokio(async {
        let identity = support::identity();
        let (server, endpoint) = (our_server(&identity), quinn_client(&identity));
        assert!(quinn_asks_us(&endpoint, &server).await);
        endpoint.wait_idle().await;
        server.shutdown().await;
    });
}

#[test]
fn we_resume_with_quinn_and_our_early_data_is_taken_once() {
    on_tokio(async {
        let ([server, follower], hash) = quinn_servers();
        let client = our_client(hash);
        let address = server.local_addr().unwrap();
        let (ours, theirs) =
            futures::join!(client.connect(address, "localhost"), async { server.accept().await.unwrap().await });
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert!(!ours.session_resumed());
        ours.session_ticket().await.unwrap();
        drop(ours);
        theirs.closed().await;

        // The follower knows none of the sessions, so it refuses what comes early.
        for (server, accepts) in [(&server, true), (&follower, false)] {
            let address = server.local_addr().unwrap();
            let early = client.connect_0rtt(address, "localhost").await.unwrap();
            assert!(early.offered_0rtt());
            let mut stream = early.open_uni_0rtt().unwrap();
            let sending = async {
                stream.finish_with("early").await.unwrap();
                assert_eq!(early.accepted_0rtt().await, accepts);
                let ours = early.connected().await.unwrap();
                assert_eq!(ours.session_resumed(), accepts);
                assert_eq!(ours.peer_identity().unwrap().certificate_sha256(), hash);
                ours.session_ticket().await.unwrap();
                ours.open_uni().unwrap().finish_with("last").await.unwrap();
                ours
            };
            let receiving = async {
                let (theirs, _) = server.accept().await.unwrap().accept().unwrap().into_0rtt().unwrap();
                let mut received = Vec::new();
                for _ in 0..2 {
                    received.push(theirs.accept_uni().await.unwrap().read_to_end(16).await.unwrap());
                }
                assert_eq!(received, [&b"early"[..], b"last"]);
                theirs
            };
            let (ours, theirs) = futures::join!(sending, receiving);
            drop((ours, stream));
            theirs.closed().await;
        }
        client.wait_idle().await;
        server.wait_idle().await;
        follower.wait_idle().await;
    });
}

#[test]
fn quinn_is_told_that_its_early_data_is_refused_after_a_key_rotation() {
    on_tokio(async {
        let identity = support::identity();
        let (server, endpoint) = (our_server(&identity), quinn_client(&identity));
        let address = server.local_addr().unwrap();
        for _ in 0..20 {
            let connecting = endpoint.connect(address, "localhost").unwrap();
            let (theirs, accepted) = match connecting.into_0rtt() {
                Ok(early) => {
                    server.set_ticket_keys([TicketKey::generate().unwrap()]).unwrap();
                    (Ok(early.0), Some(early.1))
                }
                Err(connecting) => (Err(connecting), None),
            };
            let serving = async { accept(&server).await.unwrap() };
            let connecting = async {
                match theirs {
                    Ok(theirs) => (theirs, Some(accepted.unwrap().await)),
                    Err(connecting) => (connecting.await.unwrap(), None),
                }
            };
            let (ours, (theirs, accepted)) = futures::join!(serving, connecting);
            assert!(!ours.session_resumed());
            let mut stream = ours.open_uni().unwrap();
            drop(stream.finish_with("hello"));
            theirs.accept_uni().await.unwrap().read_to_end(16).await.unwrap();
            theirs.close(0u32.into(), b"");
            ours.closed().await;
            if let Some(accepted) = accepted {
                assert!(!accepted);
                endpoint.wait_idle().await;
                drop((ours, stream));
                server.shutdown().await;
                return;
            }
        }
        panic!("quinn got no ticket");
    });
}
