//! The code point of Differentiated Services in the packets of a connection.
#![cfg(target_os = "linux")]

mod support;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::mpsc,
    thread,
};

use sendstream::ConfigError;
use support::{Endpoints, TIMEOUT, any_port, run};

/// Passes packets between one client and a server, and sees the code points of the client's.
struct Tap {
    front: SocketAddr,
    code_points: mpsc::Receiver<u8>,
}

impl Tap {
    fn start(server: SocketAddr) -> Self {
        let (front, back) = (UdpSocket::bind(any_port()).unwrap(), UdpSocket::bind(any_port()).unwrap());
        back.connect(server).unwrap();
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        }
        let on: libc::c_int = 1;
        // SAFETY: the option is an integer, which the call copies.
        let set = unsafe {
            libc::setsockopt(
                front.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_RECVTOS,
                (&raw const on).cast(),
                size_of_val(&on) as u32,
            )
        };
        assert_eq!(set, 0);
        let (seen, code_points) = mpsc::channel();
        let address = front.local_addr().unwrap();
        let (to_client, from_server) = (front.try_clone().unwrap(), back.try_clone().unwrap());
        let (tell, client) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, client, tos)) = receive(&front, &mut buffer) {
                let _ = (tell.send(client), seen.send(tos >> 2));
                let _ = back.send(&buffer[..length]);
            }
        });
        thread::spawn(move || {
            let client = client.recv().unwrap();
            let mut buffer = [0; 2048];
            while let Ok(length) = from_server.recv(&mut buffer) {
                let _ = to_client.send_to(&buffer[..length], client);
            }
        });
        Self { front: address, code_points }
    }
}

/// A packet's length, its sender, and its field for the type of service.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, u8)> {
    // The client's address first, without taking the packet.
    let (_, client) = socket.peek_from(buffer)?;
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut space = [0_u64; 8];
    // SAFETY: zeros are a value of this C structure.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&space);
    // SAFETY: what the message names outlives the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the message is as the system has filled it.
    let tos = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!header.is_null() && (*header).cmsg_type == libc::IP_TOS);
        *libc::CMSG_DATA(header)
    };
    Ok((length, client, tos))
}

#[test]
fn a_code_point_is_in_the_packets_that_are_sent_from_then_on() {
    run(async {
        let endpoints = Endpoints::new();
        let tap = Tap::start(endpoints.address);
        let (client, server) = endpoints.connect_through(tap.front).await;
        assert!(tap.code_points.try_iter().all(|code_point| code_point == 0));
        let wrong = client.set_dscp(64).await.unwrap_err();
        assert!(matches!(wrong, ConfigError::OutOfRange { field: "dscp", .. }), "{wrong}");

        client.set_dscp(46).await.unwrap();
        client.open_uni().unwrap().finish_with("marked").await.unwrap();
        assert!(tap.code_points.try_iter().any(|code_point| code_point == 46));
        client.set_dscp(0).await.unwrap();
        client.stats().await.unwrap();
        client.open_uni().unwrap().finish_with("plain").await.unwrap();
        assert_eq!(tap.code_points.try_iter().last(), Some(0));
        drop((client, server));
        endpoints.end().await;
    });
}
