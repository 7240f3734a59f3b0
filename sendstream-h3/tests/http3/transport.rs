//! h3's traits themselves: what h3 drops is reset, and what it closes is closed with its code.

use std::future::poll_fn;

use bytes::{Buf as _, Bytes};
use h3::error::{Code, StreamError};
use h3::quic::{self, StreamErrorIncoming};
use http::Response;
use sendstream::{Connection, ReadError};

use crate::{
    site::{self, Asking, run},
    support::{self, Pair},
};

type Server = h3::server::Connection<sendstream_h3::Connection, Bytes>;

/// A client of h3's, and a server of h3's that decides itself.
async fn pair() -> (Asking, Server, support::Endpoints) {
    let Pair { client, server, endpoints } = Pair::new().await;
    let serving = h3::server::Connection::new(sendstream_h3::Connection::new(server));
    let asking = async {
        let (requests, over) = site::start(sendstream_h3::Connection::new(client.clone())).await;
        Asking { requests, over, connection: client }
    };
    let (asking, serving) = futures::join!(asking, serving);
    (asking, serving.unwrap(), endpoints)
}

/// Drives a server on which no request is expected.
fn drive(mut server: Server) -> tokio::task::JoinHandle<Server> {
    tokio::spawn(async move {
        let _ = server.accept().await;
        server
    })
}

#[test]
fn a_response_that_is_dropped_unfinished_is_reset() {
    run(async {
        let (mut asking, mut server, endpoints) = pair().await;
        let mut under_way = asking.requests.send_request(site::get("/").map(drop)).await.unwrap();
        under_way.finish().await.unwrap();
        let (_, mut response) = server.accept().await.unwrap().unwrap().resolve_request().await.unwrap();
        response.send_response(Response::new(())).await.unwrap();
        response.send_data("a beginning".into()).await.unwrap();
        assert!(under_way.recv_response().await.unwrap().status().is_success());
        let mut data = under_way.recv_data().await.unwrap().unwrap();
        assert_eq!(data.copy_to_bytes(data.remaining()), "a beginning");
        drop(response);
        let server = drive(server);
        let Err(StreamError::RemoteTerminate { code }) = under_way.recv_data().await.map(drop) else {
            panic!("it looks complete");
        };
        assert_eq!(code, Code::H3_REQUEST_CANCELLED);
        drop((under_way, asking));
        drop(server.await.unwrap());
        endpoints.end().await;
    });
}

#[test]
fn a_request_that_is_dropped_unread_stops_its_client() {
    run(async {
        let (mut asking, mut server, endpoints) = pair().await;
        let mut under_way = asking.requests.send_request(site::post("/", "").map(drop)).await.unwrap();
        under_way.send_data("a beginning".into()).await.unwrap();
        drop(server.accept().await.unwrap().unwrap().resolve_request().await.unwrap());
        let server = drive(server);
        let refused = loop {
            if let Err(error) = under_way.send_data("more".into()).await {
                break error;
            }
            tokio::task::yield_now().await;
        };
        assert!(
            matches!(refused, StreamError::RemoteTerminate { code: Code::H3_REQUEST_CANCELLED }),
            "stopped with another code: {refused:?}"
        );
        drop((under_way, asking));
        drop(server.await.unwrap());
        endpoints.end().await;
    });
}

#[test]
fn streams_have_the_ids_that_the_transport_gave_them() {
    run(async {
        let (mut asking, mut server, endpoints) = pair().await;
        for id in [0, 4, 8] {
            let mut under_way = asking.requests.send_request(site::get("/").map(drop)).await.unwrap();
            assert_eq!(under_way.id().into_inner(), id);
            under_way.finish().await.unwrap();
            let (_, mut response) = server.accept().await.unwrap().unwrap().resolve_request().await.unwrap();
            assert_eq!((response.id().into_inner(), response.send_id().into_inner()), (id, id));
            response.send_response(Response::new(())).await.unwrap();
            response.finish().await.unwrap();
            under_way.recv_response().await.unwrap();
        }
        drop((asking, server));
        endpoints.end().await;
    });
}

#[test]
fn finish_does_not_wait_for_the_acknowledgement() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let mut opener = sendstream_h3::Connection::new(client.clone());
        let mut stream = poll_fn(|cx| quic::OpenStreams::<Bytes>::poll_open_send(&mut opener, cx)).await.unwrap();
        let unlimited = vec![7; 64 * 1024 * 1024];
        quic::SendStream::<Bytes>::send_data(&mut stream, h3::proto::frame::Frame::Data(Bytes::from(unlimited)))
            .unwrap();
        // The peer reads nothing, so its window is full and no FIN is acknowledged.
        let finished = quic::SendStream::<Bytes>::poll_finish(
            &mut stream,
            &mut std::task::Context::from_waker(std::task::Waker::noop()),
        );
        assert!(matches!(finished, std::task::Poll::Ready(Ok(()))));
        let mut stopped = Box::pin(stream.stopped());
        assert!(futures::poll!(&mut stopped).is_pending());
        drop(stream);
        let mut arrived = server.accept_uni().await.unwrap();
        let mut bytes = 0;
        while let Some(chunk) = arrived.read_chunk().await.unwrap() {
            bytes += chunk.len();
        }
        assert_eq!(bytes, 64 * 1024 * 1024 + 5, "dropped once finished, and all of it arrives");
        assert_eq!(stopped.await, Ok(None));
        drop((opener, client, server, arrived));
        endpoints.end().await;
    });
}

#[test]
fn a_peer_that_wants_no_more_fails_what_is_sent_after_that_and_nothing_that_was_taken() {
    fn send(stream: &mut sendstream_h3::SendStream) {
        let frame = h3::proto::frame::Frame::Data(Bytes::from_static(b"a request"));
        quic::SendStream::<Bytes>::send_data(stream, frame).unwrap();
    }
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let mut opener = sendstream_h3::Connection::new(client.clone());
        let mut stream = poll_fn(|cx| quic::OpenStreams::<Bytes>::poll_open_send(&mut opener, cx)).await.unwrap();
        send(&mut stream);
        // It has its answer before this side asks whether the beginning was taken.
        server.accept_uni().await.unwrap().stop(Code::H3_NO_ERROR.value()).unwrap();
        assert_eq!(stream.stopped().await, Ok(Some(Code::H3_NO_ERROR.value())));
        let mut ready = async || poll_fn(|cx| quic::SendStream::<Bytes>::poll_ready(&mut stream, cx)).await;
        ready().await.unwrap();
        assert!(matches!(ready().await, Err(StreamErrorIncoming::StreamTerminated { error_code: 0x100 })));
        send(&mut stream);
        let ready = poll_fn(|cx| quic::SendStream::<Bytes>::poll_ready(&mut stream, cx)).await;
        assert!(matches!(ready, Err(StreamErrorIncoming::StreamTerminated { error_code: 0x100 })));
        poll_fn(|cx| quic::SendStream::<Bytes>::poll_finish(&mut stream, cx)).await.unwrap();
        drop((stream, opener, client, server));
        endpoints.end().await;
    });
}

#[test]
fn however_much_is_there_a_reader_lets_others_run() {
    run(async {
        const FRAMES: usize = 500;
        let Pair { client, server, endpoints } = Pair::new().await;
        let (mut send, _recv) = client.open_bi().unwrap();
        // Fields, and then DATA frames of one byte each.
        let body = [0, 1, 7].repeat(FRAMES);
        let sent = send.finish_with([&raw_get()[..], &body].concat());
        let mut accepting = sendstream_h3::Connection::new(server.clone());
        let mut stream = poll_fn(|cx| quic::Connection::<Bytes>::poll_accept_bidi(&mut accepting, cx)).await.unwrap();
        // All of it has arrived.
        sent.await.unwrap();
        let (mut in_a_row, mut most, mut bytes) = (0, 0, 0);
        loop {
            let piece = poll_fn(|cx| {
                let piece = quic::RecvStream::poll_data(&mut stream, cx);
                in_a_row = if piece.is_ready() { in_a_row + 1 } else { 0 };
                most = most.max(in_a_row);
                piece
            });
            let Some(piece) = piece.await.unwrap() else { break };
            bytes += piece.len();
        }
        assert_eq!(bytes, raw_get().len() + body.len());
        assert!(most <= 64, "{most} pieces at once");
        drop((accepting, stream, send, client, server));
        endpoints.end().await;
    });
}

#[test]
fn a_close_carries_its_code_and_reason() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let mut opener = sendstream_h3::Connection::new(client.clone());
        quic::OpenStreams::<Bytes>::close(&mut opener, Code::H3_EXCESSIVE_LOAD, b"as the test wants");
        support::assert_closed_by_peer(&server.closed().await, Code::H3_EXCESSIVE_LOAD.value(), "as the test wants");
        drop((opener, client, server));
        endpoints.end().await;
    });
}

#[test]
fn datagrams_pass_both_ways_and_their_limits_are_told() {
    use h3_datagram::{
        datagram::Datagram,
        quic_traits::{DatagramConnectionExt, RecvDatagram, SendDatagram, SendDatagramErrorIncoming},
    };
    fn send(connection: &sendstream_h3::Connection, body: Bytes) -> Result<(), SendDatagramErrorIncoming> {
        let mut handler = DatagramConnectionExt::<Bytes>::send_datagram_handler(connection);
        // h3-datagram 0.0.2 writes 0 for every other, too.
        let stream = h3::quic::StreamId::try_from(0).unwrap();
        SendDatagram::<Bytes>::send_datagram(&mut handler, Datagram::new(stream, body).encode())
    }
    async fn received(connection: &sendstream_h3::Connection) -> Bytes {
        let mut handler = DatagramConnectionExt::<Bytes>::recv_datagram_handler(connection);
        poll_fn(|cx| handler.poll_incoming_datagram(cx)).await.unwrap()
    }
    run(async {
        let transport = sendstream::TransportConfig::default().datagram_receive_buffer(65536);
        let Pair { client, server, endpoints } = Pair::with(transport.clone(), transport).await;
        let ends: [sendstream_h3::Connection; 2] = [client.clone().into(), server.into()];
        for (from, to) in [(0, 1), (1, 0)] {
            send(&ends[from], "hello".into()).unwrap();
            // The quarter of the stream's id goes first (RFC 9297 §2.1).
            assert_eq!(received(&ends[to]).await, "\0hello");
        }
        let refusal = send(&ends[0], vec![0; 70_000].into()).unwrap_err();
        assert!(matches!(refusal, SendDatagramErrorIncoming::TooLarge), "{refusal:?}");
        client.close(0, "").unwrap();
        let refusal = send(&ends[0], "late".into()).unwrap_err();
        assert!(matches!(refusal, SendDatagramErrorIncoming::ConnectionError(_)), "{refusal:?}");
        drop((ends, client));
        endpoints.end().await;
    });
}

#[test]
fn what_is_not_accepted_any_more_tells_why() {
    run(async {
        let Pair { client, server, endpoints } = Pair::new().await;
        let mut accepting = sendstream_h3::Connection::new(server.clone());
        client.close(Code::H3_NO_ERROR.value(), "").unwrap();
        let bi = poll_fn(|cx| quic::Connection::<Bytes>::poll_accept_bidi(&mut accepting, cx)).await.unwrap_err();
        let uni = poll_fn(|cx| quic::Connection::<Bytes>::poll_accept_recv(&mut accepting, cx)).await.unwrap_err();
        for error in [bi, uni] {
            let quic::ConnectionErrorIncoming::ApplicationClose { error_code } = error else { panic!("{error}") };
            assert_eq!(error_code, Code::H3_NO_ERROR.value());
        }
        drop((accepting, client, server));
        endpoints.end().await;
    });
}

/// Checks with which codes a raw request stream ends.
pub(crate) async fn ends_of(
    send: &sendstream::SendStream,
    recv: &mut sendstream::RecvStream,
) -> (Option<u64>, Option<u64>) {
    let stopped = send.stopped().await.unwrap();
    let reset = loop {
        match recv.read_chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(ReadError::Reset(code)) => break Some(code),
            Err(error) => panic!("{error}"),
        }
    };
    (stopped, reset)
}

/// A GET request for `/` as bytes of HTTP/3: all of its fields are in QPACK's static table but the
/// authority.
pub(crate) fn raw_get() -> Vec<u8> {
    let mut fields = vec![0, 0, 0xc0 | 17, 0xc0 | 23, 0xc0 | 1, 0x50, 9];
    fields.extend_from_slice(b"localhost");
    let mut frame = vec![1, u8::try_from(fields.len()).unwrap()];
    frame.append(&mut fields);
    frame
}

/// Opens a request below h3.
pub(crate) fn raw_request(connection: &Connection) -> (sendstream::SendStream, sendstream::RecvStream) {
    let (mut send, recv) = connection.open_bi().unwrap();
    drop(send.finish_with(raw_get()));
    (send, recv)
}
