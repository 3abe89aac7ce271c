"""A light client at work: connected, going on from what was trusted before, with its witnesses watched."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.proof import HeaderId
from fondaco.node import clock, config, joining, testnet
from fondaco.node.groups import unwrapped
from fondaco.node.network.host import open_host
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.trust import TrustStore, write_evidence
from fondaco.protocol import limits
from fondaco.protocol.light import Fork

log = logging.getLogger("fondaco.tenant")


@asynccontextmanager
async def open_light(
    home: Path, genesis: Genesis, *, trusted: HeaderId | None = None
) -> AsyncIterator[LightClient]:
    """Open the network in `home` as a light client, which remembers there what it verified.

    With `trusted` it begins from that header instead. Its peer identity is made for this once.
    Raises `Refused` for a home that is none and for a fork, `Unreachable` if no node answers, or all lie.
    """
    store = TrustStore(home, genesis.hash())
    anchor = store.load_fresh(clock.now())

    def report(fork: Fork) -> None:
        log.error("two chains are signed: the evidence is in %s", write_evidence(home, fork))

    with unwrapped():
        async with open_host(secrets.token_bytes(32), None) as host:
            light = await LightClient.connect(genesis, host, _addresses(home), anchor=anchor)
            light.report_fork = report
            if trusted is not None:
                await light.anchor_at(trusted)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(light.watch_witnesses)
                with trio.move_on_after(limits.WITNESS_MS / 1_000):
                    await light.look_around()
                nursery.start_soon(light.watch_heads)
                try:
                    yield light
                finally:
                    nursery.cancel_scope.cancel()
                    newest = light.verified.get(light.trusted.height)
                    if newest is not None and light.fork is None:
                        store.save(newest)


def _addresses(home: Path) -> list[str]:
    """Whom to ask: a network's nodes; in the home of a single node that one, and its peers."""
    if (home / "testnet.json").exists() or not (home / "node.toml").exists():
        return testnet.Plan.load(home).addresses()
    settings = config.load(home)
    return [*joining.addresses_of(settings), *settings.peers]
