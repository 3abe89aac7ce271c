"""Real nodes on loopback that look for others: one, or several around one that they know."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import trio
from tests.support.network import HELLO, address, seed

from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.discovery import Discovery
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import Address
from fondaco.node.network.peerstore import PeerStore
from fondaco.protocol.frames import Hello
from fondaco.protocol.signing import Signer


@contextlib.asynccontextmanager
async def finder(
    number: int,
    folder: Path,
    keep: Sequence[Address] = (),
    *,
    where: str = "127.0.0.1:0",
    greeting: Hello = HELLO,
    least: int = 3,
    most: int = 8,
    announce: Sequence[str] = (),
) -> AsyncIterator[tuple[Host, Discovery]]:
    """A node that looks for others: its book in `folder`, and those of `keep` kept connected, as a node does."""
    store = PeerStore.open(folder / f"{number}.db")
    try:
        async with open_host(seed(number), where) as host, trio.open_nursery() as nursery:
            found = Discovery(
                host,
                AddressBook(host.peer_id, seed=number),
                store,
                Signer(seed(number)),
                greeting,
                keep=keep,
                announce=announce,
                least=least,
                most=most,
                seed=number,
            )
            nursery.start_soon(found.run)
            for one in keep:
                host.keep_connected(one)
            yield host, found
            nursery.cancel_scope.cancel()
    finally:
        store.close()


@contextlib.asynccontextmanager
async def around_one(count: int, folder: Path, least: int = 3) -> AsyncIterator[list[tuple[Host, Discovery]]]:
    """One node, and so many others that know only it."""
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(finder(1, folder))
        made = [first]
        for number in range(2, count + 2):
            made.append(await stack.enter_async_context(finder(number, folder, [address(first[0])], least=least)))
        yield made
