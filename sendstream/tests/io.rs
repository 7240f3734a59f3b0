//! The streams as tokio's and futures' traits.

mod support;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt};
use support::{Pair, pattern, run};

#[test]
fn tokios_copy_moves_everything_and_shutdown_waits_for_fin() {
    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
    run(async {
        let pair = Pair::new().await;
        let expected = pattern(3_000_000);
        let mut send = pair.client.open_uni().unwrap();
        assert!(send.is_write_vectored());
        let writing = async {
            let mut source = &expected[..];
            tokio::io::copy(&mut source, &mut send).await.unwrap();
            AsyncWriteExt::flush(&mut send).await.unwrap();
            AsyncWriteExt::shutdown(&mut send).await.unwrap();
            assert_eq!(send.in_flight(), 0, "the peer has acknowledged everything");
        };
        let reading = async {
            let mut recv = pair.server.accept_uni().await.unwrap();
            let mut all = Vec::new();
            AsyncReadExt::read_to_end(&mut recv, &mut all).await.unwrap();
            assert_eq!(AsyncReadExt::read(&mut recv, &mut [0; 8]).await.unwrap(), 0, "the end stays the end");
            all
        };
        let ((), read) = futures::join!(writing, reading);
        assert!(read == expected);
        drop(send);
        pair.end().await;
    });
}

#[test]
fn futures_io_moves_everything_and_close_waits_for_fin() {
    use futures::io::{AsyncReadExt, AsyncWriteExt};
    run(async {
        let pair = Pair::new().await;
        let expected = pattern(1_000_000);
        let mut send = pair.client.open_uni().unwrap();
        let writing = async {
            AsyncWriteExt::write_all(&mut send, &expected).await.unwrap();
            AsyncWriteExt::close(&mut send).await.unwrap();
        };
        let reading = async {
            let mut recv = pair.server.accept_uni().await.unwrap();
            let mut all = Vec::new();
            AsyncReadExt::read_to_end(&mut recv, &mut all).await.unwrap();
            all
        };
        let ((), read) = futures::join!(writing, reading);
        assert!(read == expected);
        drop(send);
        pair.end().await;
    });
}

#[test]
fn several_slices_are_written_as_one() {
    use std::io::IoSlice;
    use tokio::io::AsyncWriteExt;
    run(async {
        let pair = Pair::new().await;
        let mut send = pair.client.open_uni().unwrap();
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        assert_eq!(send.write_vectored(&slices).await.unwrap(), 5);
        AsyncWriteExt::shutdown(&mut send).await.unwrap();
        let mut recv = pair.server.accept_uni().await.unwrap();
        assert_eq!(recv.read_to_end(10).await.unwrap(), b"abcde");
        drop((send, recv));
        pair.end().await;
    });
}

#[test]
fn a_sink_of_bytes_feeds_a_stream_of_bytes() {
    run(async {
        let pair = Pair::new().await;
        let expected = pattern(2_000_000);
        let mut send = pair.client.open_uni().unwrap();
        let chunks = futures::stream::iter(expected.chunks(50_000).map(Bytes::copy_from_slice).map(Ok));
        let writing = async {
            chunks.forward(&mut send).await.unwrap();
            SinkExt::close(&mut send).await.unwrap();
        };
        let reading = async {
            let recv = pair.server.accept_uni().await.unwrap();
            recv.try_fold(Vec::new(), async |mut all, chunk| {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await
            .unwrap()
        };
        let ((), read) = futures::join!(writing, reading);
        assert!(read == expected);
        drop(send);
        pair.end().await;
    });
}

#[test]
fn errors_keep_their_cause_on_the_way_into_io_errors() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    run(async {
        let pair = Pair::new().await;
        let mut send = pair.client.open_uni().unwrap();
        AsyncWriteExt::write_all(&mut send, b"begun").await.unwrap();
        let mut recv = pair.server.accept_uni().await.unwrap();
        pair.server.close(9, "").unwrap();
        pair.client.closed().await;
        let error = AsyncWriteExt::shutdown(&mut send).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
        assert!(error.to_string().contains("code 9"), "{error}");
        let mut all = Vec::new();
        let error = AsyncReadExt::read_to_end(&mut recv, &mut all).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
        drop((send, recv));
        pair.end().await;
    });
}

#[test]
fn both_halves_in_one_are_read_and_written() {
    use sendstream::BiStream;
    run(async {
        let pair = Pair::new().await;
        let expected = pattern(300_000);
        let mut client = BiStream::from(pair.client.open_bi().unwrap());
        let asking = async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            client.write_all(&expected).await.unwrap();
            AsyncWriteExt::shutdown(&mut client).await.unwrap();
            let mut all = Vec::new();
            AsyncReadExt::read_to_end(&mut client, &mut all).await.unwrap();
            all
        };
        let echo = async {
            use futures::io::{AsyncReadExt, AsyncWriteExt};
            let mut server = BiStream::from(pair.server.accept_bi().await.unwrap());
            let mut all = Vec::new();
            AsyncReadExt::read_to_end(&mut server, &mut all).await.unwrap();
            AsyncWriteExt::write_all(&mut server, &all).await.unwrap();
            AsyncWriteExt::close(&mut server).await.unwrap();
        };
        let (answer, ()) = futures::join!(asking, echo);
        assert!(answer == expected);
        let (send, recv) = client.into();
        drop((send, recv));
        pair.end().await;
    });
}
