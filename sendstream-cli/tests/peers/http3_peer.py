"""An HTTP/3 client and server on aioquic for tests/http/aioquic.rs.

    http3_peer.py server CERTIFICATE KEY FOLDER    serves the folder's files, and prints "ready PORT"
    http3_peer.py client PORT FOLDER NAME...       fetches all names at once from 127.0.0.1 into the folder, and
                                                   prints "done STATUS NAME" for each, or "lost REASON"

The server ends when its standard input does.
"""

import asyncio
import os
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset


# A stream's buffer in aioquic is one piece, of which the front is cut off with each acknowledgement. That takes a time that grows
# with all that waits in it, so only so much waits.
AT_A_TIME = 1 << 20


class Server(QuicConnectionProtocol):
    folder = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.rest = {}

    def quic_event_received(self, event):
        for http_event in self.http.handle_event(event):
            if isinstance(http_event, HeadersReceived):
                self.answer(http_event.stream_id, dict(http_event.headers))

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        # There may be acknowledgements in it, and so room.
        for stream_id in list(self.rest):
            self.give(stream_id)
        self.transmit()

    def give(self, stream_id):
        content = self.rest[stream_id]
        while content and len(self._quic._streams[stream_id].sender._buffer) < AT_A_TIME:
            piece, content = content[:AT_A_TIME], content[AT_A_TIME:]
            self.http.send_data(stream_id, bytes(piece), end_stream=not content)
        self.rest[stream_id] = content
        if not content:
            del self.rest[stream_id]

    def answer(self, stream_id, fields):
        name = os.path.basename(fields[b":path"].decode())
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                content = file.read()
        except OSError:
            self.http.send_headers(stream_id, [(b":status", b"404")], end_stream=True)
            return
        length = str(len(content)).encode()
        self.http.send_headers(stream_id, [(b":status", b"200"), (b"content-length", length)], end_stream=not content)
        if content:
            self.rest[stream_id] = memoryview(content)


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.streams = {}
        self.done = asyncio.Event()

    def get(self, authority, folder, name):
        stream_id = self._quic.get_next_available_stream_id()
        self.streams[stream_id] = [name, None, open(os.path.join(folder, name), "wb")]
        fields = [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", authority),
            (b":path", b"/" + name.encode()),
        ]
        self.http.send_headers(stream_id, fields, end_stream=True)

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.streams:
            self.end(event.stream_id, "reset")
        elif isinstance(event, ConnectionTerminated):
            if self.streams:
                print(f"lost {event.error_code} {event.reason_phrase}", flush=True)
            self.done.set()
        for http_event in self.http.handle_event(event):
            stream = self.streams.get(getattr(http_event, "stream_id", None))
            if stream is None:
                continue
            if isinstance(http_event, HeadersReceived) and stream[1] is None:
                stream[1] = dict(http_event.headers)[b":status"].decode()
            elif isinstance(http_event, DataReceived):
                stream[2].write(http_event.data)
            if http_event.stream_ended:
                self.end(http_event.stream_id, stream[1])

    def end(self, stream_id, status):
        name, _, file = self.streams.pop(stream_id)
        file.close()
        print(f"done {status} {name}", flush=True)
        if not self.streams:
            self.done.set()


async def run_client(port, folder, names):
    # The certificate is the test's own.
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name="localhost"
    )
    configuration.max_data = configuration.max_stream_data = 16 << 20
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
        for name in names:
            client.get(b"localhost:%d" % port, folder, name)
        client.transmit()
        await client.done.wait()


async def run_server(certificate, key, folder):
    Server.folder = folder
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(certificate, key)
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Server)
    print("ready", server._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


if sys.argv[1] == "server":
    asyncio.run(run_server(*sys.argv[2:5]))
else:
    asyncio.run(run_client(int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
