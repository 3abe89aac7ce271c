"""Being connected to enough nodes: those that one was told of, and where those are too few, whom they name."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TypeVar

import trio

from fondaco.node import clock
from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.host import Host
from fondaco.node.network.peer_exchange import Exchange
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.tenant.nodes import ALONE
from fondaco.protocol import limits
from fondaco.protocol.errors import FondacoError, PeerFault, Unreachable
from fondaco.protocol.frames import hello
from fondaco.protocol.scalars import ChainId

T = TypeVar("T")
log = logging.getLogger("fondaco.tenant")

NODES = 3
"""How many nodes are asked: one honest one among them is enough."""
CONNECT_GRACE_S = 1.5
"""How long others are waited for once two nodes are connected to, and how long further ones are looked for."""


async def gather(chain: ChainId, host: Host, told: Collection[str]) -> dict[PeerId, Address]:
    """Connect to `NODES` nodes and stay so; where each was dialled, those of `told` first.

    Raises `Unreachable` `light.no_nodes` if none of those told answers.
    """
    connected: dict[PeerId, Address] = {}

    async def dial(address: Address) -> None:
        try:
            connected[await host.connect(address)] = address
            host.keep_connected(address)
        except FondacoError as error:
            log.info("%s: %s", address, error)
        if len(connected) >= NODES:
            scope.cancel()
        elif len(connected) >= ALONE:
            scope.deadline = min(scope.deadline, trio.current_time() + CONNECT_GRACE_S)

    with trio.move_on_after(limits.REQUEST_TIMEOUT_MS / 1_000) as scope:
        await _each(dial, map(Address, told))
    if not connected:
        raise Unreachable(
            "light.no_nodes",
            "none of the network's nodes answers",
            hint="is it running? A local one starts with `fondaco testnet up`; `fondaco join` names further nodes",
        )
    if len(connected) < NODES:
        with trio.move_on_after(CONNECT_GRACE_S):
            await _find_more(chain, host, connected)
    return connected


async def _find_more(chain: ChainId, host: Host, connected: dict[PeerId, Address]) -> None:
    """Ask who else there is, as nodes ask each other, until there are enough or nobody is left."""
    book = AddressBook(host.peer_id, seed=secrets.randbits(64))
    exchange = Exchange(host, book, hello(chain), lambda: b"")
    tried = {host.peer_id}

    async def ask(peer: PeerId) -> bool:
        """Whether it is of our chain: only such tell."""
        tried.add(peer)
        try:
            await exchange.ask(peer)
        except PeerFault as fault:
            host.blame(peer, fault)
        except FondacoError as error:
            log.info("%s names no nodes: %s", peer, error)
        else:
            return True
        return False

    async def dial(address: Address) -> None:
        try:
            peer = await host.connect(address)
        except FondacoError as error:
            log.info("%s: %s", address, error)
            return
        if await ask(peer) and len(connected) < NODES:
            connected[peer] = address
            host.keep_connected(address)
        else:
            await host.drop(peer, "it is not needed")

    await _each(ask, list(connected))
    while len(connected) < NODES:
        chosen = book.candidates(NODES - len(connected), clock.now(), exclude=tried)
        if not chosen:
            return
        tried.update(entry.peer for entry in chosen)
        await _each(dial, [entry.addresses[0] for entry in chosen])


async def _each(task: Callable[[T], Awaitable[object]], items: Iterable[T]) -> None:
    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(task, item)
