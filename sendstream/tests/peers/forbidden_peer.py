"""A peer on aioquic for tests/forbidden_frames.rs and tests/hostile_frames.rs, which sends whatever bytes it is told to as the
frames of packets.

    forbidden_peer.py server CERTIFICATE KEY    listens, and prints "ready PORT"
    forbidden_peer.py client CERTIFICATE PORT   connects to that port of 127.0.0.1 once for each order

An order is a line on standard input, for one connection: "SPACE RESERVED FRAMES". SPACE says in which packets the bytes
FRAMES go, in hexadecimal: `initial`, `handshake`, `ahead` or `application`. RESERVED is what the reserved bits of a packet's
first byte are set to, for `application` alone. A server prints "set " when the next connection is to be that one.

In the spaces of the handshake the frames come before the handshake's own. Those `ahead` are in a packet of the application's
that a server sends in the datagram with its part of the handshake; it prints "heard " when that has arrived. Those of the
application come alone in a packet, once the other side has asked on a stream that it opened; the answer on that stream is
"acknowledged" or "dropped", whichever became of the packet. When the other side closes, "closed transport CODE" or "closed
application CODE" is printed.

For the application FRAMES may be those of many packets: with a comma between two of them, and with a slash between those that go
at once and those that wait until the other side asks again. If it asks with a number, so many packets go in a second. In place of
a packet's frames there may be `^N`: that packet is full of ACK frames with N ranges each, which name every other packet that has
come. A `+` before a packet leaves one packet number out.

The process ends when its standard input does.
"""

import asyncio
import ssl
import sys

import aioquic.asyncio.server
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.buffer import Buffer, encode_uint_var
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, stream_is_client_initiated
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicFrameType, QuicPacketType, pull_ack_frame
from aioquic.quic.rangeset import RangeSet
from aioquic.tls import Epoch

AHEAD = "ahead"
SPACES = {"initial": Epoch.INITIAL, "handshake": Epoch.HANDSHAKE, "application": Epoch.ONE_RTT, AHEAD: AHEAD}
# What fits into a packet, and how many go before one must have arrived.
FULL = 1200
AT_ONCE = 16
# Who waits for a ping of no interest.
NOBODY = 0
PACKETS = {Epoch.INITIAL: QuicPacketType.INITIAL, Epoch.HANDSHAKE: QuicPacketType.HANDSHAKE}


class Order:
    def __init__(self, line):
        space, reserved, frames = line.split(" ")
        self.space = SPACES[space]
        self.reserved = int(reserved)
        self.batches = [batch.split(",") for batch in frames.split("/")]

    @property
    def frames(self):
        """Those of the only packet."""
        [[packet]] = self.batches
        return bytes.fromhex(packet)

    # What the next connection of a server does.
    next = None


class Kept(RangeSet):
    """The numbers of all packets that have come, also of those that need not be acknowledged any more."""

    def subtract(self, start, stop):
        pass


def without_old_ranges(buf, oldest, has_counts):
    """The same ACK frame without the ranges below the packet `oldest`: there may be hundreds, and aioquic is slow with each."""
    largest, delay, count, first = (buf.pull_uint_var() for _ in range(4))
    smallest = largest - first
    kept = []
    for _ in range(count):
        gap, more = buf.pull_uint_var(), buf.pull_uint_var()
        # The largest and the smallest number of the range.
        below = smallest - gap - 2
        smallest = below - more
        if below >= oldest:
            kept += gap, more
    counts = [buf.pull_uint_var() for _ in range(3 if has_counts else 0)]
    numbers = [largest, delay, len(kept) // 2, first, *kept, *counts]
    return Buffer(data=b"".join(map(encode_uint_var, numbers)))


class Forbidden(QuicConnection):
    """A connection that says what it should not, and keeps quiet about what it hears."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.order = Order.next
        self.on_closed = lambda: None
        # The numbers of the packets that were sent by hand and are not acknowledged yet.
        self.unacknowledged = set()
        # Whether a packet was sent ahead, until something says that its datagram has arrived.
        self.sent_ahead = False

    def _initialize(self, peer_cid):
        super()._initialize(peer_cid)
        self._spaces[Epoch.ONE_RTT].ack_queue = Kept()

    def _handle_ack_frame(self, context, frame_type, buf):
        open_packets = [*self._spaces[context.epoch].sent_packets, *self.unacknowledged]
        buf = without_old_ranges(buf, min(open_packets, default=0), frame_type == QuicFrameType.ACK_ECN)
        # Not left to loss detection: packets that come in another order are lost to it, for a while.
        ranges, _ = pull_ack_frame(buf)
        buf.seek(0)
        if context.epoch == Epoch.ONE_RTT:
            self.unacknowledged = {number for number in self.unacknowledged if number not in ranges}
        self._hear()
        super()._handle_ack_frame(context, frame_type, buf)

    def _hear(self):
        if self.sent_ahead:
            self.sent_ahead = False
            print("heard ", flush=True)

    def _handle_connection_close_frame(self, context, frame_type, buf):
        self._hear()
        first = self._close_event is None
        super()._handle_connection_close_frame(context, frame_type, buf)
        if first:
            who = "application" if self._close_event.frame_type is None else "transport"
            print(f"closed {who} {self._close_event.error_code}", flush=True)
            self.on_closed()

    def _get_or_create_stream(self, frame_type, stream_id):
        # The other side may speak of a stream that this one has opened by force.
        if stream_is_client_initiated(stream_id) == self._is_client:
            return self._get_or_create_stream_for_send(stream_id)
        return super()._get_or_create_stream(frame_type, stream_id)

    def _write_handshake(self, builder, epoch, now):
        if self.order.space == epoch and self._cryptos[epoch].send.is_valid():
            builder.start_packet(PACKETS[epoch], self._cryptos[epoch])
            builder._buffer.push_bytes(self.order.frames)
            builder._packet.is_ack_eliciting = True
            builder._packet.in_flight = True
            self.order.space = None
        super()._write_handshake(builder, epoch, now)

    def _write_application(self, builder, network_path, now):
        crypto = self._cryptos[Epoch.ONE_RTT]
        if self.order.space == AHEAD and crypto.send.is_valid():
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            self.sent_ahead = True
            builder._buffer.push_bytes(self.order.frames)
            builder._packet.is_ack_eliciting = True
            builder._packet.in_flight = True
            self.order.space = None
        super()._write_application(builder, network_path, now)

    def forbidden_packet(self, packet):
        """The packet with the order's frames and nothing else."""
        if packet.startswith("+"):
            self._packet_number += 1
            packet = packet[1:]
        frames = self._acknowledgements(int(packet[1:])) if packet.startswith("^") else bytes.fromhex(packet)
        # By hand: the builder pads what is too short. Four bytes of packet number make padding needless.
        crypto = self._cryptos[Epoch.ONE_RTT]
        first = 0x40 | self.order.reserved << 3 | crypto.key_phase << 2 | 3
        number = self._packet_number
        self.unacknowledged.add(number)
        self._packet_number += 1
        header = bytes([first]) + self._peer_cid.cid + number.to_bytes(4, "big")
        return crypto.encrypt_packet(header, frames, number)

    def _acknowledgements(self, ranges):
        come = [number for range in self._spaces[Epoch.ONE_RTT].ack_queue for number in range]
        named = come[::-2][:ranges]
        assert len(named) == ranges, f"{len(come)} packets have come, which make no {ranges} ranges"
        frame = b"\x02" + b"".join(map(encode_uint_var, [named[0], 0, ranges - 1, 0]))
        for before, number in zip(named, named[1:]):
            frame += encode_uint_var(before - number - 2) + encode_uint_var(0)
        return frame * (FULL // len(frame))


class Peer(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.closed = asyncio.Event()
        self.forbidding = None
        self._quic.on_closed = self.on_closed

    def on_closed(self):
        self.closed.set()
        if self.forbidding is not None:
            # Nobody is told any more that no ping comes back.
            self._ping_waiters.clear()
            self.forbidding.cancel()

    def quic_event_received(self, event):
        # Bidirectional; on the other one there is nothing to be answered.
        if isinstance(event, StreamDataReceived) and event.stream_id % 4 < 2 and event.end_stream:
            pace = int(event.data) if event.data.isdigit() else None
            self.forbidding = asyncio.ensure_future(self.forbid(event.stream_id, pace))

    async def ping_at_once(self):
        """A ping that is acknowledged without delay, as another packet comes right behind it."""
        waiter = self._loop.create_future()
        self._ping_waiters[id(waiter)] = waiter
        for uid in (id(waiter), NOBODY):
            self._quic.send_ping(uid)
            self.transmit()
        await waiter

    async def forbid(self, stream_id, pace):
        # What is due goes first: that the handshake is done, and connection ids.
        self.transmit()
        await self.ping_at_once()
        begin = asyncio.get_running_loop().time()
        for count, packet in enumerate(self._quic.order.batches.pop(0), 1):
            self._transport.sendto(self._quic.forbidden_packet(packet), self._quic._network_paths[0].addr)
            if pace is not None:
                await asyncio.sleep(begin + count / pace - asyncio.get_running_loop().time())
            elif count % AT_ONCE == 0:
                await self.ping_at_once()
        # Who acknowledges a packet acknowledges those that came before it. The first may have overtaken the forbidden one.
        for _ in range(3):
            await self.ping()
        answer = b"dropped" if self._quic.unacknowledged else b"acknowledged"
        self._quic.send_stream_data(stream_id, answer, end_stream=True)
        self.transmit()


def configuration(is_client):
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["test"],
        max_datagram_frame_size=65536,
        server_name="localhost",
    )


async def orders():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield Order(line.rstrip("\n"))


async def server(certificate, key):
    config = configuration(False)
    config.load_cert_chain(certificate, key)
    aioquic.asyncio.server.QuicConnection = Forbidden
    listening = await serve("127.0.0.1", 0, configuration=config, create_protocol=Peer)
    print("ready", listening._transport.get_extra_info("sockname")[1], flush=True)
    async for order in orders():
        Order.next = order
        print("set ", flush=True)


async def client(certificate, port):
    config = configuration(True)
    config.load_verify_locations(certificate)
    config.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.get_running_loop()
    async for order in orders():
        Order.next = order
        address = ("127.0.0.1", int(port))
        transport, peer = await loop.create_datagram_endpoint(
            lambda: Peer(Forbidden(configuration=config)), local_addr=("127.0.0.1", 0)
        )
        peer.connect(address)
        await peer.closed.wait()
        transport.close()


asyncio.run({"server": server, "client": client}[sys.argv[1]](*sys.argv[2:]))
