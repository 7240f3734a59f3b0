//! Keying material that both ends derive from one handshake.

mod support;

use sendstream::{CipherSuite, ExportError};
use support::{Pair, any_port, foreign, on_tokio, run};

fn export(connection: &sendstream::Connection, label: &[u8], context: &[u8]) -> [u8; 40] {
    let mut output = [0; 40];
    connection.export_keying_material(&mut output, label, context).unwrap();
    output
}

#[test]
fn both_ends_export_the_same_and_so_does_quinn() {
    on_tokio(async {
        for suite in [CipherSuite::Aes128GcmSha256, CipherSuite::Aes256GcmSha384, CipherSuite::ChaCha20Poly1305Sha256] {
            let identity = support::identity();
            let server = support::server(&identity).cipher_suites([suite]).bind(any_port()).unwrap();
            let address = server.local_addr().unwrap();

            let client = support::client(&identity).build().unwrap();
            let (ours, accepted) = support::connect(&client, &server).await;
            assert_eq!(export(&ours, b"EXPERIMENTAL one", b"a"), export(&accepted, b"EXPERIMENTAL one", b"a"));
            assert_ne!(export(&ours, b"EXPERIMENTAL one", b"a"), export(&accepted, b"EXPERIMENTAL two", b"a"));
            let first = export(&ours, b"EXPERIMENTAL one", b"a");

            let endpoint = foreign::client(&identity);
            let connecting = async { endpoint.connect(address, "localhost").unwrap().await.unwrap() };
            let (theirs, accepted) = futures::join!(connecting, support::accept(&server));
            let accepted = accepted.unwrap();
            for (label, context) in [("EXPERIMENTAL one", "a"), ("EXPERIMENTAL one", ""), ("x", "context")] {
                let mut output = [0; 40];
                theirs.export_keying_material(&mut output, label.as_bytes(), context.as_bytes()).unwrap();
                assert_eq!(export(&accepted, label.as_bytes(), context.as_bytes()), output, "{suite:?}");
            }
            assert_ne!(export(&accepted, b"EXPERIMENTAL one", b"a"), first, "each handshake has its own");
        }
    });
}

#[test]
fn what_is_too_long_is_refused_and_the_end_changes_nothing() {
    run(async {
        let pair = Pair::new().await;
        let before = export(&pair.client, b"EXPERIMENTAL", b"");
        let mut long = vec![0; 20_000];
        assert_eq!(pair.client.export_keying_material(&mut long, b"EXPERIMENTAL", b""), Err(ExportError::TooLong));
        pair.client.close(0, "").unwrap();
        pair.server.closed().await;
        assert_eq!(export(&pair.client, b"EXPERIMENTAL", b""), before);
        assert_eq!(export(&pair.server, b"EXPERIMENTAL", b""), before);
        pair.end().await;
    });
}
