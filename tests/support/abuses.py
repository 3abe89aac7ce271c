"""What a hostile peer can do on a connection, below our own protocols: each kind is one function.

These are the kinds that brought a host of the bare library down, without the ones for its pubsub, which is not
used. They run against any node: every one answers pings.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable

from tests.support.network import raw_connection, raw_stream

from fondaco.node.network.host import Host
from fondaco.node.network.peers import PeerId
from fondaco.protocol.gossip.protobuf import varint

HEADER = "!BBHII"
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
MULTISTREAM = b"\x13/multistream/1.0.0\n"

PING_PROTOCOL = "/ipfs/ping/1.0.0"

Attack = Callable[[Host, PeerId], Awaitable[object]]


def on_a_new_stream(*writes: bytes) -> Attack:
    """Bytes where the protocol is negotiated."""

    async def attack(host: Host, peer: PeerId) -> None:
        stream = await raw_stream(host, peer)
        for data in writes:
            await stream.write(data)

    return attack


def on_protocol(protocol: str, data: bytes, *, then: str = "close") -> Attack:
    """Bytes to one of the protocols every libp2p node speaks."""

    async def attack(host: Host, peer: PeerId) -> None:
        stream = await host.open_stream(peer, protocol)
        await stream.write(data)
        await getattr(stream, then)()

    return attack


def on_the_wire(*frames: bytes) -> Attack:
    """Bytes under the multiplexer."""

    async def attack(host: Host, peer: PeerId) -> None:
        connection = raw_connection(host, peer)
        for data in frames:
            await connection._write_frame(data)

    return attack


def header(kind: int, flags: int, stream: int, length: int) -> bytes:
    return struct.pack(HEADER, 0, kind, flags, stream, length)


async def open_and_leave(host: Host, peer: PeerId) -> None:
    for _ in range(50):
        stream = await raw_stream(host, peer)
        await stream.reset()


async def cut_while_writing(host: Host, peer: PeerId) -> None:
    stream = await host.open_stream(peer, PING_PROTOCOL)
    await stream.write(bytes(10_000))
    await raw_connection(host, peer).cut()


def delimited(data: bytes) -> bytes:
    return varint(len(data)) + data


IDENTIFY_NONSENSE = b"\x0a\x02\xff\xff" + b"\x12\x03\xff\xff\xff" + b"\x22\x01\xff" + b"\x42\x02\xff\xff"
ABUSES: dict[str, Attack] = {
    "multistream: garbage": on_a_new_stream(MULTISTREAM + b"\x05\xff\xff\xff\xff\n" + b"\xff" * 11),
    "multistream: not utf-8": on_a_new_stream(MULTISTREAM + b"\x05\xff\xfe\xfd\xfc\n"),
    "multistream: not utf-8 at once": on_a_new_stream(b"\x05\xff\xfe\xfd\xfc\n"),
    "multistream: endless length": on_a_new_stream(b"\xff" * 40),
    "multistream: huge length": on_a_new_stream(b"\xff\xff\xff\xff\x0f" + b"a" * 100),
    "multistream: empty line": on_a_new_stream(MULTISTREAM, b"\x00"),
    "multistream: unknown protocol": on_a_new_stream(MULTISTREAM, delimited(b"/no/such/1\n")),
    "multistream: a megabyte": on_a_new_stream(*[b"x" * 60_000] * 4),
    "identify push: garbage": on_protocol("/ipfs/id/push/1.0.0", delimited(b"\xff\xff\xff\xffgarb")),
    "identify push: nonsense inside": on_protocol("/ipfs/id/push/1.0.0", delimited(IDENTIFY_NONSENSE)),
    "identify push: huge length": on_protocol("/ipfs/id/push/1.0.0", b"\xff\xff\xff\xff\x0f"),
    "identify: talks back": on_protocol("/ipfs/id/1.0.0", b"hello" * 1000),
    "ping: partial, then reset": on_protocol("/ipfs/ping/1.0.0", b"x" * 10, then="reset"),
    "ping: partial, then close": on_protocol("/ipfs/ping/1.0.0", b"x" * 10),
    "ping: reset while it answers": on_protocol(PING_PROTOCOL, b"x" * 200_000, then="reset"),
    "streams: opened and left": open_and_leave,
    "socket: cut while writing": cut_while_writing,
    "yamux: bad version": on_the_wire(b"\x09\x09" + b"\xff" * 10, b"\x09\x09" + b"\xff" * 10),
    "yamux: 2 GiB frame": on_the_wire(header(DATA, 0, 99, 2**31)),
    "yamux: 2 GiB frame on a new stream": on_the_wire(header(DATA, SYN, 99, 2**31)),
    "yamux: data for no stream": on_the_wire(header(DATA, 0, 4711, 5) + b"hello"),
    "yamux: window for no stream": on_the_wire(header(WINDOW, 0, 4711, 2**32 - 1)),
    "yamux: stream opened twice": on_the_wire(*[header(WINDOW, SYN, 4711, 0)] * 2),
    "yamux: opened and reset in one": on_the_wire(header(DATA, SYN | RST, 4711, 0)),
    "yamux: opened and ended in one": on_the_wire(header(DATA, SYN | FIN, 4711, 0)),
    "yamux: ping answers nobody asked for": on_the_wire(*[header(PING, ACK, 0, 7)] * 20),
    "yamux: go away": on_the_wire(header(GO_AWAY, 0, 0, 77)),
    "yamux: half a header": on_the_wire(b"\x00\x00\x00"),
    "yamux: half a frame": on_the_wire(header(DATA, SYN, 4711, 100) + b"half"),
}
