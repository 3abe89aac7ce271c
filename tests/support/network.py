"""Hosts on loopback, and waiting for what they do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import trio

from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import Address, PeerId
from fondaco.protocol.frames import Hello, hello
from fondaco.protocol.scalars import ChainId

CHAIN = ChainId("test-1")
HELLO: Hello = hello(CHAIN)
PATIENCE_S = 15.0


def seed(number: int) -> bytes:
    return bytes([number]) * 32


def address(host: Host) -> Address:
    return host.addresses()[0]


def port(host: Host) -> int:
    return int(address(host).split("/")[4])


async def until(condition: Callable[[], object]) -> None:
    """Wait for `condition`; the test fails if it does not come true."""
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.005)


@contextlib.asynccontextmanager
async def hosts(count: int, **options: Any) -> AsyncIterator[list[Host]]:
    """So many hosts, numbered from one, not connected."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_host(seed(number + 1), **options)) for number in range(count)]


@contextlib.asynccontextmanager
async def pair(**options: Any) -> AsyncIterator[tuple[Host, Host]]:
    """Two hosts, the first connected to the second."""
    async with hosts(2, **options) as (one, two):
        await one.connect(address(two))
        await until(lambda: two.is_connected(one.peer_id))
        yield one, two


async def echo(stream: Any) -> None:
    while data := await stream.read():
        await stream.write(data)


async def echoes(one: Host, two: Host) -> bool:
    """Whether `two`, which must be handling `echo` under /echo/1, answers `one`."""
    peer: PeerId = await one.connect(address(two))
    stream = await one.open_stream(peer, "/echo/1")
    await stream.write(b"are you there")
    answer = b""
    with trio.fail_after(PATIENCE_S):
        while len(answer) < 13:
            answer += await stream.read()
    await stream.reset()
    return answer == b"are you there"


def raw_connection(host: Host, peer: PeerId) -> Any:
    """The multiplexed connection under a host's connection to `peer`, for misbehaving on."""
    from fondaco.node.network.dial import identity

    return host._swarm.get_connections(identity(peer))[0].muxed_conn


async def raw_stream(host: Host, peer: PeerId) -> Any:
    """A stream on which no protocol was agreed on."""
    from fondaco.node.network.dial import identity

    return await host._swarm.new_stream(identity(peer))


def known_protocols(host: Host, peer: PeerId) -> set[str]:
    """What `peer` has told `host` that it serves; nothing before it did."""
    from fondaco.node.network.dial import identity

    store = host._basic.get_peerstore()
    return set(store.get_protocols(identity(peer))) if store.has_peer(identity(peer)) else set()
