//! [`Tap`]: sees the code points of a client's packets.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::mpsc,
    thread,
};

use super::{TIMEOUT, any_port};

/// Passes packets between one client and a server, and sees the code points of the client's.
pub(crate) struct Tap {
    pub(crate) front: SocketAddr,
    pub(crate) code_points: mpsc::Receiver<u8>,
}

impl Tap {
    pub(crate) fn start(server: SocketAddr) -> Self {
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
    // Its type differs between C libraries.
    message.msg_controllen = size_of_val(&space) as _;
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
