//! Many strangers at once: what they cost, and that senders get through all the same.

//! Many strangers at once: what they cost, and that senders get through all the same.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use futures::{FutureExt as _, executor::block_on};
use sendstream::{Bytes, Client, Connection, ConnectionError, RecvStream, SendStream, StartError, Trust};

use crate::{
    stranger::Stranger,
    support::{Files, Process, Receiver, noise, packets::first_packets, send, send_well, sendstream, stderr},
};

/// Somebody who has no ticket.
pub(crate) fn nobody() -> Client {
    let trust = Trust::dangerous_accept_any_certificate();
    Client::builder().alpn(["sendstream-file/2"]).trust(trust).build().unwrap()
}

/// `send`, which must succeed, whatever it says of other attempts.
pub(crate) fn gets_through(files: &Files, name: &str, ticket: &str) {
    let output = send(&[], &[&files.file(name, name.as_bytes())], ticket);
    assert_eq!(output.status.code(), Some(0), "{name}: {}", stderr(&output));
}

/// Sends first packets of handshakes that never go on, each from an address of its own.
pub(crate) fn half_open(packets: &[Vec<u8>], receiver: SocketAddr) {
    for (host, packet) in (1..).zip(packets) {
        let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 1, host), 0)).unwrap();
        stranger.send_to(packet, receiver).unwrap();
    }
}

/// A stranger that sends all that it may: 16 KiB on each of so many streams, but no hello.
pub(crate) struct Greedy {
    connection: Connection,
    _streams: Vec<(SendStream, RecvStream)>,
}

impl Greedy {
    pub(crate) fn connect(client: &Client, receiver: SocketAddr, streams: usize) -> Option<Self> {
        let connection = block_on(client.connect(receiver, "sendstream")).ok()?;
        let (mut control, answer) = connection.open_bi().ok()?;
        block_on(control.write_all(b"s")).ok()?;
        let data = Bytes::from(vec![7; 16 << 10]);
        let mut streams: Vec<_> = (1..streams).map_while(|_| connection.open_bi().ok()).collect();
        for (content, _verdict) in &mut streams {
            let _ = content.write_chunk(data.clone()).now_or_never();
        }
        streams.push((control, answer));
        Some(Self { connection, _streams: streams })
    }
}

#[test]
fn a_stranger_has_one_stream_and_a_few_kib_until_it_shows_the_token() {
    let receiver = Receiver::start(&[]);
    let stranger = Stranger::connect(&receiver);
    let [mut first, mut second] = [(); 2].map(|()| stranger.connection.open_bi().unwrap().0);
    let mut uni = stranger.connection.open_uni().unwrap();
    block_on(first.write_all(b"s")).unwrap();
    assert!(matches!(block_on(second.try_start()), Err(StartError::LimitReached)));
    assert!(matches!(block_on(uni.try_start()), Err(StartError::LimitReached)));
    let _ = first.write_chunk(Bytes::from(vec![7; 64 << 10])).now_or_never();
    assert_eq!(stranger.is_closed(), 3, "it was no hello");
    let sent = block_on(stranger.connection.stats()).unwrap().sent.stream_bytes;
    assert!(sent <= 8192, "{sent} bytes of stream data went out");

    // A sender has more, though it comes as a stranger.
    let files = Files::new();
    for number in 0..40 {
        files.file(&format!("many/{number}"), &noise(number, 100_000));
    }
    send_well(&[&files.path("many")], &receiver.ticket);
}

#[test]
fn half_open_handshakes_keep_no_sender_out() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let packets = first_packets(&nobody(), 100);
    for number in 0..5 {
        half_open(&packets, receiver.address());
        gets_through(&files, &number.to_string(), &receiver.ticket);
    }
}

#[test]
fn strangers_without_a_hello_keep_no_sender_out() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let client = nobody();
    let strangers: Vec<_> = (0..40).map_while(|_| Greedy::connect(&client, receiver.address(), 1)).collect();
    assert_eq!(strangers.len(), 40);
    // The oldest had to make room for others.
    let gone = block_on(strangers[0].connection.closed());
    assert!(matches!(gone, ConnectionError::ApplicationClosed { code: 7, .. }), "{gone}");
    assert_eq!(strangers[39].connection.close_reason(), None);
    gets_through(&files, "x", &receiver.ticket);
}

#[test]
fn a_sender_comes_again_when_there_are_as_many_sessions_as_can_be() {
    let (receiver, files) = (Receiver::start(&[]), Files::new());
    let mut sessions: Vec<_> = (0..32)
        .map(|_| {
            let sender = Stranger::connect(&receiver);
            let streams = sender.begin();
            (sender, streams)
        })
        .collect();
    let mut command = sendstream();
    command.arg("send").arg(files.file("x", b"x")).arg(&receiver.ticket);
    let mut sender = Process::start(command);
    sender.says("takes no more senders at present");
    receiver.says("there are as many sessions as this end serves at a time");
    drop(sessions.pop());
    assert_eq!(sender.wait().code(), Some(0));
    assert_eq!(receiver.everything(), ["inbox/x"]);
}
