//! What a client says that the system on its own side holds back: nothing of it reads as the peer's
//! doing. Each test has a network of its own, which takes root.
#![cfg(target_os = "linux")]

mod support;

use std::{io, net::SocketAddr, process::Command, thread};

use sendstream::{ConnectError, ConnectionError, SystemError, Trust};
use support::{client_with, run, skip};

/// Runs `test` on a thread in a network of its own, with this done to it by `ip`; MsQuic's threads
/// are in the network of the thread that first uses it, so this is the only test here that does.
fn in_a_network(commands: &[&str], test: impl FnOnce() + Send + 'static) {
    let commands: Vec<Vec<String>> =
        commands.iter().map(|command| command.split(' ').map(str::to_owned).collect()).collect();
    let name = thread::current().name().unwrap_or_default().to_owned();
    let body = move || {
        // SAFETY: it changes the network of this thread, and of those that it starts.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return skip("no network of its own without root");
        }
        for command in commands {
            match Command::new("ip").args(command).status() {
                Ok(status) => assert!(status.success()),
                Err(error) => return skip(&format!("there is no `ip`: {error}")),
            }
        }
        test();
    };
    thread::Builder::new().name(name).spawn(body).unwrap().join().unwrap();
}

#[test]
fn each_cause_has_a_name_a_remedy_and_a_kind() {
    let network = [
        "link set lo up",
        "route add prohibit 192.0.2.0/24",
        "route add unreachable 198.51.100.0/24",
        "-6 route add prohibit 2001:db8:1::/48",
    ];
    in_a_network(&network, || {
        run(async {
            use SystemError::{InvalidAddress, NoRoute, PermissionDenied};
            let client = client_with(Trust::dangerous_accept_any_certificate()).build().unwrap();
            for (to, expected, kind) in [
                ("203.0.113.1:4433", ConnectionError::System(NoRoute), io::ErrorKind::NetworkUnreachable),
                ("[2001:db8::1]:4433", ConnectionError::System(NoRoute), io::ErrorKind::NetworkUnreachable),
                ("192.0.2.1:4433", ConnectionError::System(PermissionDenied), io::ErrorKind::PermissionDenied),
                ("[2001:db8:1::1]:4433", ConnectionError::System(PermissionDenied), io::ErrorKind::PermissionDenied),
                ("[fe80::1]:4433", ConnectionError::System(InvalidAddress), io::ErrorKind::InvalidInput),
                ("127.0.0.1:0", ConnectionError::System(InvalidAddress), io::ErrorKind::InvalidInput),
                ("198.51.100.1:4433", ConnectionError::Unreachable, io::ErrorKind::HostUnreachable),
                ("127.0.0.1:9", ConnectionError::Unreachable, io::ErrorKind::HostUnreachable),
            ] {
                let address: SocketAddr = to.parse().unwrap();
                let error = client.connect(address, "localhost").await.unwrap_err();
                let text = error.to_string();
                let ConnectError::Connection(cause) = &error else { panic!("{to}: {error:?}") };
                assert_eq!(*cause, expected, "{to}");
                assert!(text.contains(": ") && !text.contains("MsQuic") && !text.contains("closed"), "{to}: {text}");
                assert_eq!(io::Error::from(error).kind(), kind, "{to}");
            }
            client.wait_idle().await;
        });
    });
}
