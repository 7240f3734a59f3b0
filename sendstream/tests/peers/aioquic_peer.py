"""A peer on aioquic for tests/interop_aioquic.rs, which tells it on each bidirectional stream what to do.

    aioquic_peer.py server CERTIFICATE KEY      listens, and prints "ready PORT"
    aioquic_peer.py client CERTIFICATE PORT...  connects to those ports of 127.0.0.1, one after the other

The server takes each of its session tickets once. The client connects anew when its connection has ended, with the last
ticket that it got; it prints "ticket LENGTH" when it gets one.

A command is the first line of a stream; what follows belongs to it. Commands:

    echo            answer with the rest of the stream
    send COUNT      answer with COUNT bytes on a unidirectional stream: their index modulo 251
    reset CODE      reset the answer
    stop CODE       ask the other side to stop sending
    tell            answer with the code that this stream is reset or its answer stopped with, on a stream of its own
    update          update the keys, then answer with the rest of the stream
    move            go on from another port (clients only), then answer with the rest of the stream
    resumed         answer with whether the session was resumed, "yes" or "no"
    forget          forget all tickets that were issued (servers only), then answer with the rest of the stream
    close CODE      close the connection

Datagrams are echoed. The process ends when its standard input does.
"""

import asyncio
import socket
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionTerminated,
    DatagramFrameReceived,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)


# The tickets that the server has issued and not yet taken.
issued = {}


class Forward(asyncio.DatagramProtocol):
    """What another socket receives, for a connection."""

    def __init__(self, connection):
        self.connection = connection

    def datagram_received(self, data, addr):
        self.connection.datagram_received(data, addr)


class Peer(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.received = {}
        self.begun = set()
        self.telling = set()
        self.ended = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self.received.setdefault(event.stream_id, bytearray()).extend(event.data)
            self.on_data(event.stream_id, event.end_stream)
        elif isinstance(event, DatagramFrameReceived):
            self._quic.send_datagram_frame(event.data)
        elif isinstance(event, StreamReset) and event.stream_id in self.telling:
            self.answer_alone(b"reset %d" % event.error_code)
        elif isinstance(event, StopSendingReceived) and event.stream_id in self.telling:
            self.answer_alone(b"stopped %d" % event.error_code)
        elif isinstance(event, ConnectionTerminated):
            print(f"terminated {event.error_code} {event.reason_phrase}", flush=True)
            self.ended.set()
        self.transmit()

    def on_data(self, stream_id, end):
        if stream_id % 4 > 1:
            return
        line, found, rest = bytes(self.received[stream_id]).partition(b"\n")
        if not found:
            return
        command, *arguments = line.decode().split()
        if command in ("reset", "stop", "tell") and stream_id not in self.begun:
            self.begun.add(stream_id)
            if command == "reset":
                self._quic.reset_stream(stream_id, int(arguments[0]))
            elif command == "stop":
                self._quic.stop_stream(stream_id, int(arguments[0]))
            else:
                self.telling.add(stream_id)
                # So that there is an answer to be stopped.
                self._quic.send_stream_data(stream_id, b"told")
        elif not end:
            return
        elif command == "echo":
            self._quic.send_stream_data(stream_id, rest, end_stream=True)
        elif command == "send":
            pattern = bytes(range(251))
            count = int(arguments[0])
            self.answer_alone((pattern * (count // 251 + 1))[:count])
        elif command == "update":
            self._quic.request_key_update()
            self._quic.send_stream_data(stream_id, rest, end_stream=True)
        elif command == "move":
            asyncio.ensure_future(self.move(stream_id, rest))
        elif command == "resumed":
            answer = b"yes" if self._quic.tls.session_resumed else b"no"
            self._quic.send_stream_data(stream_id, answer, end_stream=True)
        elif command == "forget":
            issued.clear()
            self._quic.send_stream_data(stream_id, rest, end_stream=True)
        elif command == "close":
            self._quic.close(error_code=int(arguments[0]), reason_phrase="as asked")

    def answer_alone(self, data):
        stream_id = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self._quic.send_stream_data(stream_id, data, end_stream=True)

    async def move(self, stream_id, answer):
        old = self._transport
        place = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        place.bind(("::", 0, 0, 0))
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: Forward(self), sock=place)
        old.close()
        self._quic.send_stream_data(stream_id, answer, end_stream=True)
        self.transmit()


def configuration(is_client):
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["test"],
        max_datagram_frame_size=65536,
        server_name="localhost",
    )


async def parent_is_gone():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def server(certificate, key):
    config = configuration(False)
    config.load_cert_chain(certificate, key)
    listening = await serve(
        "127.0.0.1",
        0,
        configuration=config,
        create_protocol=Peer,
        session_ticket_handler=lambda ticket: issued.update({ticket.ticket: ticket}),
        session_ticket_fetcher=lambda name: issued.pop(name, None),
    )
    print("ready", listening._transport.get_extra_info("sockname")[1], flush=True)
    await parent_is_gone()


async def client(certificate, *ports):
    config = configuration(True)
    config.load_verify_locations(certificate)
    config.verify_mode = ssl.CERT_REQUIRED

    def keep(ticket):
        config.session_ticket = ticket
        print(f"ticket {len(ticket.ticket)}", flush=True)

    for port in ports:
        async with connect(
            "127.0.0.1",
            int(port),
            configuration=config,
            create_protocol=Peer,
            session_ticket_handler=keep,
        ) as connection:
            await connection.ended.wait()
    await parent_is_gone()


asyncio.run({"server": server, "client": client}[sys.argv[1]](*sys.argv[2:]))
