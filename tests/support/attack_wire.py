"""Attacks below the protocols: sockets, handshakes, streams and windows."""

from __future__ import annotations

import contextlib
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from tests.support.abuses import DATA, PING_PROTOCOL, SYN, WINDOW, header
from tests.support.attackers import Target, attack, peer_at, source
from tests.support.network import raw_connection

from fondaco.node.network.host import Host
from fondaco.protocol.errors import FondacoError

GONE = (BaseLibp2pError, FondacoError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
NEWCOMERS = 5


async def newcomer(target: Target, number: int) -> float:
    """Milliseconds that a peer of a quiet network waits from its dial to the answer of a ping."""
    async with peer_at(f"127.99.{number}.1", 90_000 + number) as host:
        began = trio.current_time()
        while True:
            with contextlib.suppress(FondacoError):
                await host.connect(target.address)
                stream = await host.open_stream(target.peer, PING_PROTOCOL)
                await stream.write(bytes(32))
                assert await stream.read()
                return round((trio.current_time() - began) * 1_000, 1)


async def newcomers(target: Target, first: int = 0) -> list[float]:
    return [await newcomer(target, first + number) for number in range(NEWCOMERS)]


@attack
async def mute_sockets(targets: list[Target], *, count: int, addresses: int) -> dict[str, Any]:
    """Sockets that say nothing, opened again whenever they are closed, from so many networks."""
    (target,) = targets
    opened = refused = 0
    alone = await newcomers(target)

    async def one(number: int) -> None:
        nonlocal opened, refused
        source.set(f"127.1.{number % addresses}.1")
        while True:
            try:
                async with await target.socket() as socket:
                    opened += 1
                    with contextlib.suppress(*GONE):
                        await socket.receive_some(1_000)
                        await socket.receive_some(1_000)
            except OSError:
                refused += 1
            await trio.sleep(3)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
            if number % 50 == 0:
                await trio.sleep(0.01)
        while opened < count:
            await trio.sleep(0.05)
        crowded = await newcomers(target, NEWCOMERS)
        nursery.cancel_scope.cancel()
    return {"opened": opened, "refused": refused, "newcomer_alone_ms": alone, "newcomer_ms": crowded}


@attack
async def handshakes(targets: list[Target], *, seconds: float) -> dict[str, Any]:
    """From one network dial, shake hands and hang up, as fast as it goes; and newcomers from others meanwhile."""
    (target,) = targets
    done = refused = 0
    alone = await newcomers(target)

    async def one(number: int) -> None:
        nonlocal done, refused
        source.set(f"127.2.1.{number + 1}")
        while True:
            async with peer_at(f"127.2.1.{number + 1}", 1_000 + number) as host:
                for _ in range(50):
                    try:
                        await host.connect(target.address)
                        done += 1
                        await host.drop(target.peer, "that was all")
                    except FondacoError:
                        refused += 1
                        await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, number)
        await trio.sleep(seconds)
        crowded = await newcomers(target, NEWCOMERS)
        nursery.cancel_scope.cancel()
    return {"done": done, "refused": refused, "newcomer_alone_ms": alone, "newcomer_ms": crowded}


@attack
async def half_open_streams(targets: list[Target], *, count: int) -> dict[str, Any]:
    """Streams that are opened and never spoken on, over a few connections."""
    (target,) = targets
    opened = 0
    async with contextlib.AsyncExitStack() as stack:
        for number in range(4):
            host = await stack.enter_async_context(peer_at(f"127.3.{number}.1", 2_000 + number))
            await host.connect(target.address)
            connection = raw_connection(host, target.peer)
            with contextlib.suppress(*GONE):
                for stream in range(10_001, 10_001 + 2 * (count // 4), 2):
                    await connection._write_frame(header(WINDOW, SYN, stream, 0))
                    opened += 1
        waited = await newcomers(target)
    return {"opened": opened, "newcomer_ms": waited}


async def _push(host: Host, target: Target, megabytes: int) -> float:
    """Send into one stream without a look at its window; megabytes that went before we were cut off."""
    stream = await host.open_stream(target.peer, PING_PROTOCOL)
    connection = raw_connection(host, target.peer)
    number = stream._muxed.stream_id
    frame = header(DATA, 0, number, 60_000) + bytes(60_000)
    sent = 0
    with contextlib.suppress(*GONE):
        while sent < megabytes * 1_000_000 and host.is_connected(target.peer):
            await connection._write_frame(frame)
            sent += 60_000
    return sent / 1_000_000


@attack
async def windows_ignored(targets: list[Target], *, megabytes: int) -> dict[str, Any]:
    (target,) = targets
    async with peer_at("127.4.1.1", 3_000) as host:
        await host.connect(target.address)
        sent = await _push(host, target, megabytes)
        with trio.move_on_after(10):
            while host.is_connected(target.peer):
                await host.wait_for_change()
        return {"megabytes": sent, "hung_up": not host.is_connected(target.peer)}


@attack
async def windows_overflowing(targets: list[Target]) -> dict[str, Any]:
    """Credit beyond what four bytes hold, again and again, on streams that are open and on some that are not."""
    (target,) = targets
    said = 0
    async with peer_at("127.4.2.1", 3_001) as host:
        await host.connect(target.address)
        stream = await host.open_stream(target.peer, PING_PROTOCOL)
        connection = raw_connection(host, target.peer)
        number = stream._muxed.stream_id
        with contextlib.suppress(*GONE):
            for _ in range(2_000):
                for one in (number, 77_777, 0):
                    await connection._write_frame(header(WINDOW, 0, one, 2**32 - 1))
                    said += 1
    return {"said": said}


@attack
async def answers_unread(targets: list[Target], *, seconds: float) -> dict[str, Any]:
    """Ask for as much as possible, give all credit in advance, and read nothing from the socket."""
    from fondaco.node.sync import PROTOCOL
    from fondaco.protocol import codec
    from fondaco.protocol.frames import frame, hello
    from fondaco.protocol.rpc import Call

    (target,) = targets
    asked = 0
    async with peer_at("127.4.3.1", 3_002) as host:
        await host.connect(target.address)
        stream = await host.open_stream(target.peer, PROTOCOL)
        await stream.write(frame(codec.encode(hello(target.chain))))
        connection = raw_connection(host, target.peer)

        connection.secured_conn._carrier.receive = trio.sleep_forever
        with trio.move_on_after(seconds), contextlib.suppress(*GONE):
            for number in range(1, 100_000):
                call = Call(id=number, method="blocks", timeout_ms=0, params=codec.pack([1, 50]))
                connection_window = header(WINDOW, 0, stream._muxed.stream_id, 2**24)
                await connection._write_frame(connection_window)
                await stream.write(frame(codec.encode(call)))
                asked += 1
    return {"asked": asked}
