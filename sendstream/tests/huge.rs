//! Buffers that one native operation cannot carry.

mod support;

use bytes::Bytes;
use support::{Pair, run};

const FOUR_GIB: usize = 1 << 32;

/// Reads `length` bytes, which are zero except for those at `marks`.
async fn read_marked(pair: &Pair, length: usize, marks: &[usize]) {
    let mut recv = pair.server.accept_uni().await.unwrap();
    let mut offset = 0;
    let mut found = Vec::new();
    while let Some(chunk) = recv.read_chunk().await.unwrap() {
        // Comparing with a neighbour is what the machine does fast, also unoptimised.
        if chunk[0] != 0 || chunk[1..] != chunk[..chunk.len() - 1] {
            found.extend(chunk.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(index, _)| offset + index));
        }
        offset += chunk.len();
    }
    assert_eq!(offset, length);
    assert_eq!(found, marks);
}

#[test]
#[cfg(target_pointer_width = "64")]
fn more_than_4_gib_are_sent_in_one_call() {
    run(async {
        let pair = Pair::new().await;
        // One buffer: untouched zero pages take no memory, neither to make nor to read.
        let mut buffer = vec![0; FOUR_GIB + 5];
        let marks = [0, FOUR_GIB - 2, FOUR_GIB - 1, FOUR_GIB, FOUR_GIB + 4];
        for mark in marks {
            buffer[mark] = 1;
        }
        let length = buffer.len();
        let mut send = pair.client.open_uni().unwrap();
        let (sent, ()) = futures::join!(send.finish_with(buffer), read_marked(&pair, length, &marks));
        sent.unwrap();
        send.finished().await.unwrap();
        drop(send);
        pair.end().await;
    });
}

#[test]
fn a_list_over_4_gib_keeps_its_order() {
    run(async {
        let pair = Pair::new().await;
        const PART: usize = 64 << 20;
        let mut marked = vec![0; PART];
        marked[PART - 1] = 1;
        let (marked, zeros) = (Bytes::from(marked), Bytes::from(vec![0; PART]));
        // 4 GiB and 64 MiB, with a mark at the end of every eighth part.
        let list: Vec<_> = (0..65).map(|part| if part % 8 == 0 { marked.clone() } else { zeros.clone() }).collect();
        let marks: Vec<_> = (0..65).step_by(8).map(|part| (part + 1) * PART - 1).collect();
        let mut send = pair.client.open_uni().unwrap();
        let (sent, ()) = futures::join!(send.finish_with(list), read_marked(&pair, 65 * PART, &marks));
        sent.unwrap();
        drop(send);
        pair.end().await;
    });
}
