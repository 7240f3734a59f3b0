//! A process that ends in the middle of everything ends with its own status, not with a crash.

mod support;

use std::process::Command;

use support::{Pair, run};

const ROLE: &str = "SENDSTREAM_TEST_EXITS";

/// What the child process runs; in the test run itself it does nothing.
#[test]
fn exiting_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    run(async {
        let pair = Pair::new().await;
        let mut send = pair.client.open_uni().unwrap();
        drop(send.send(vec![0; 256 << 20]));
        let mut recv = pair.server.accept_uni().await.unwrap();
        for _ in 0..50 {
            recv.read_chunk().await.unwrap();
        }
        // MsQuic's threads go on encrypting and decrypting while the exit handlers run.
        std::thread::spawn(move || futures::executor::block_on(async { while recv.read_chunk().await.is_ok() {} }));
        std::process::exit(7);
    });
}

#[test]
fn an_exit_in_the_middle_of_a_transfer_keeps_its_status() {
    for round in 0..30 {
        let exited = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "exiting_process"])
            .env(ROLE, "1")
            .output()
            .unwrap();
        assert_eq!(exited.status.code(), Some(7), "round {round}: {exited:?}");
    }
}
