//! The contract of `SendStream`, over loopback.

mod support;

use bytes::Bytes;
use sendstream::SendStream;
use support::{Pair, run};

#[test]
fn a_message_arrives_and_its_acknowledgement_is_believed() {
    run(async {
        let pair = Pair::new().await;
        let mut stream = SendStream::open(&pair.client).unwrap();
        assert_eq!(stream.id(), None, "nothing is on the wire before the first send");
        let sending = async {
            stream.send(b"hello".to_vec()).await.unwrap();
            stream.write_chunk(Bytes::from_static(b" world")).await.unwrap();
            stream.finished().await.unwrap();
            assert_eq!(stream.id(), Some(2));
        };
        let receiving = async {
            let mut stream = pair.server.accept_uni().await.unwrap();
            assert_eq!(stream.read_to_end(100).await.unwrap(), b"hello world");
        };
        futures::join!(sending, receiving);
        drop(stream);
        pair.end().await;
    });
}
