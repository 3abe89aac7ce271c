"""A light client at work: connected, going on from what was trusted before, with its witnesses watched."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.proof import HeaderId
from fondaco.node import clock
from fondaco.node.groups import unwrapped
from fondaco.node.network.host import open_host
from fondaco.node.tenant import joined
from fondaco.node.tenant.joined import Joined
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.trust import TrustStore, write_evidence
from fondaco.protocol import limits
from fondaco.protocol.light import Fork
from fondaco.protocol.records import PARAMS

log = logging.getLogger("fondaco.tenant")


@asynccontextmanager
async def open_light(
    home: Path, genesis: Genesis, *, nodes: Sequence[str] = (), trusted: HeaderId | None = None
) -> AsyncIterator[LightClient]:
    """Open the network in `home` as a light client, which remembers there what it verified.

    With `nodes` those are asked, and not the ones of the home; a folder that is no home is left as it is.
    With `trusted` it begins from that header instead. Its peer identity is made for this once.
    Raises `Refused` for a home that is none and for a fork, `Unreachable` if no node answers, or all lie.
    """
    store = TrustStore(home, genesis.hash())
    anchor = store.load_fresh(clock.now())

    def report(fork: Fork) -> None:
        log.error("two chains are signed: the evidence is in %s", write_evidence(home, fork))

    with unwrapped():
        async with open_host(secrets.token_bytes(32), None) as host:
            light = await LightClient.connect(genesis, host, nodes or joined.nodes_of(home), anchor=anchor)
            light.report_fork = report
            if trusted is not None:
                await light.anchor_at(trusted)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(light.watch_witnesses)
                with trio.move_on_after(limits.WITNESS_MS / 1_000):
                    await light.look_around()
                joined.remember(home, light.addresses())
                nursery.start_soon(light.watch_heads)
                try:
                    yield light
                finally:
                    nursery.cancel_scope.cancel()
                    newest = light.verified.get(light.trusted.height)
                    if newest is not None and light.fork is None and (home / joined.GENESIS).exists():
                        store.save(newest)


async def join(home: Path, genesis: Path, nodes: Sequence[str], *, trusted: HeaderId | None = None) -> Joined:
    """Make `home` one of the network that begins with the file `genesis`, once its newest header is confirmed.

    Raises what `joined.admit`, `joined.keep` and `open_light` do; then nothing is changed.
    """
    document = joined.admit(home, genesis, nodes)
    async with open_light(home, document, nodes=nodes, trusted=trusted) as light:
        await light.record(PARAMS, Params)
        await light.cross_check()
        asked = light.addresses()
        newest = light.trusted
        kept = joined.keep(home, genesis, nodes, asked)
    return Joined(chain=document.chain, height=newest.height, hash=newest.hash, nodes=kept, asked=len(asked))
