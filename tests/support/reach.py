"""A relay, hosts that listen nowhere and keep a place with it, and one that wants to reach them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio
from tests.support.network import PATIENCE_S, address, echo, seed

from fondaco.node.network.delimited import read_message, write_message
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import PeerId, through
from fondaco.node.network.places import Places
from fondaco.node.network.relay import Relay
from fondaco.node.network.stream import Stream
from fondaco.protocol.reach.circuit import HOP, Hop, decode_hop, encode_hop
from fondaco.protocol.reach.relaying import Terms


@dataclass(slots=True)
class Bridge:
    """`dialler` reaches `hidden`, which serves /echo/1, only through `relay`."""

    relay: Relay
    middle: Host
    hidden: Host
    places: Places
    dialler: Host

    async def connect(self) -> PeerId:
        return await self.dialler.connect(through(address(self.middle), self.hidden.peer_id))


@contextlib.asynccontextmanager
async def bridge(terms: Terms | None = None) -> AsyncIterator[Bridge]:
    async with (
        open_host(seed(1)) as middle,
        open_host(seed(2), None) as hidden,
        open_host(seed(3), None) as dialler,
        trio.open_nursery() as nursery,
    ):
        relay = Relay(middle, terms)
        places = Places(hidden, [address(middle)])
        hidden.handle("/echo/1", echo)
        nursery.start_soon(places.run)
        with trio.fail_after(PATIENCE_S):
            await places.wait_kept()
        yield Bridge(relay, middle, hidden, places, dialler)
        nursery.cancel_scope.cancel()


async def echoed(host: Host, peer: PeerId, payload: bytes) -> bytes:
    """What /echo/1 of a connected peer makes of `payload`."""
    stream = await host.open_stream(peer, "/echo/1")
    got = bytearray()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, payload)
            while len(got) < len(payload):
                data = await stream.read()
                assert data, "the echo ended early"
                got += data
    await stream.reset()
    return bytes(got)


async def hop(host: Host, relay: PeerId, message: Hop | bytes) -> tuple[Stream, Hop]:
    """Say `message` to a relay, and what it answers."""
    stream = await host.open_stream(relay, HOP)
    await write_message(stream, message if isinstance(message, bytes) else encode_hop(message))
    data, _ = await read_message(stream, limit=4096)
    return stream, decode_hop(data)
