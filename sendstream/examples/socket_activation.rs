//! A server on the socket that systemd has opened for it, which echoes what comes on a bidirectional
//! stream. The port is there before the program is, and stays over its restarts.
//!
//!     systemd-socket-activate --datagram -l 4433 target/debug/examples/socket_activation
//!
//! With units: `ListenDatagram=4433` in the `[Socket]` of a `.socket`, and this program in the service
//! of that name. On Linux only. It prints where it listens and which certificate it shows, as
//! `echo_server` does.

#[cfg(target_os = "linux")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use sendstream::{Identity, Server};
    use tokio::signal::unix::{SignalKind, signal};

    let identity = Identity::self_signed(["localhost"])?;
    let hash = identity.certificate_sha256();
    let server = Server::builder().identity(identity).alpn(["echo"]).listen_on(systemds_socket()?)?;
    let mut terminated = signal(SignalKind::terminate())?;
    println!("{} {hash}", server.local_addr()?);

    let mut connections = server.connections();
    loop {
        tokio::select! {
            connection = connections.next() => match connection {
                Some(connection) => drop(tokio::spawn(echo(connection))),
                None => break,
            },
            _ = terminated.recv() => break,
        }
    }
    drop(connections);
    server.close_all(0, "restarting")?;
    server.shutdown().await;
    // What comes from here on waits in systemd's socket for the next start. Until now new clients were
    // not answered, and send their packets again.
    Ok(())
}

/// What systemd hands over, as sd_listen_fds(3) says: descriptors from 3 on, for the process that is
/// named.
#[cfg(target_os = "linux")]
fn systemds_socket() -> Result<std::net::UdpSocket, Box<dyn std::error::Error>> {
    use std::os::fd::FromRawFd as _;

    if std::env::var("LISTEN_PID").ok() != Some(std::process::id().to_string()) {
        return Err("systemd has no socket for this process: start it with systemd-socket-activate".into());
    }
    if std::env::var("LISTEN_FDS").as_deref() != Ok("1") {
        return Err("this server takes one socket: give one `ListenDatagram=`".into());
    }
    // SAFETY: descriptor 3 is open and this process's to own, as systemd said. This is called once.
    Ok(unsafe { std::net::UdpSocket::from_raw_fd(3) })
}

#[cfg(target_os = "linux")]
async fn echo(connection: sendstream::Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        if let Ok(request) = recv.read_to_end(64 * 1024).await {
            let _ = send.finish_with(request).await;
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("sockets are handed in on Linux only");
}
