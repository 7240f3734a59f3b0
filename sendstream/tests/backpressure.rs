//! A writer against a reader that does not read keeps to its window. Alone in its file, because it
//! looks at the process's memory.

mod support;

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use sendstream::TransportConfig;
use support::{Pair, figure, memory::resident, pattern, run};

const WINDOW: usize = 4 << 20;
const CHUNK: usize = 64 << 10;
const TOTAL: usize = 1 << 30;

/// Chunk number `number` of the stream, made when it is wanted.
fn chunk(template: &[u8], number: usize) -> Bytes {
    let mut chunk = template.to_vec();
    chunk[..8].copy_from_slice(&number.to_le_bytes());
    Bytes::from(chunk)
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn a_gibibyte_against_a_reader_that_does_not_read_stays_in_the_window() {
    run(async {
        let config = TransportConfig::default().send_window(WINDOW as u32);
        let pair = Pair::with(config, TransportConfig::default()).await;
        let template = pattern(CHUNK);
        let mut expected = Context::new(&SHA256);
        for number in 0..TOTAL / CHUNK {
            expected.update(&chunk(&template, number));
        }
        let expected = expected.finish();

        // Everything that is allocated once is allocated before the first look.
        pair.client.open_uni().unwrap().finish_with(template.clone()).await.unwrap();
        pair.server.accept_uni().await.unwrap().read_to_end(CHUNK).await.unwrap();
        let before = resident();

        let mut send = pair.client.open_uni().unwrap();
        let (full, stuck) = futures::channel::oneshot::channel();
        let writing = async {
            let mut full = Some(full);
            for number in 0..TOTAL / CHUNK {
                let mut accepted = std::pin::pin!(send.write_chunk(chunk(&template, number)));
                std::future::poll_fn(|cx| {
                    let poll = accepted.as_mut().poll(cx);
                    // The first write that has to wait: window and flow control are, or soon will
                    // be, full.
                    if poll.is_pending()
                        && let Some(full) = full.take()
                    {
                        let _ = full.send(());
                    }
                    poll
                })
                .await
                .unwrap();
            }
            send.finished().await.unwrap();
        };
        let reading = async {
            let mut recv = pair.server.accept_uni().await.unwrap();
            stuck.await.unwrap();
            // Other streams of the connection go on, and by the time that a hundred messages have
            // been acknowledged one after the other the stuck stream has sent what it may.
            for number in 0..100u32 {
                let mut other = pair.client.open_uni().unwrap();
                drop(other.finish_with(number.to_le_bytes().to_vec()));
                let mut other = pair.server.accept_uni().await.unwrap();
                assert_eq!(other.read_to_end(8).await.unwrap(), number.to_le_bytes());
            }
            let grown = resident().saturating_sub(before);
            figure(format_args!("resident memory grew by {} KiB with a window of {} KiB", grown >> 10, WINDOW >> 10));
            assert!(grown <= WINDOW + (8 << 20), "resident memory grew by {grown} bytes");

            let mut digest = Context::new(&SHA256);
            while let Some(chunk) = recv.read_chunk().await.unwrap() {
                digest.update(&chunk);
            }
            digest.finish()
        };
        let ((), digest) = futures::join!(writing, reading);
        assert_eq!(digest.as_ref(), expected.as_ref());
        let grown = resident().saturating_sub(before);
        figure(format_args!("resident memory grew by {} KiB over 1 GiB", grown >> 10));
        drop(send);
        pair.end().await;
    });
}
