"""Round trips to providers, measured: over the connection that the channel to a workload would take.

Where a provider is reached is what it signed itself, in its bid or its record on the ledger; the connection proves
that it is this peer, wherever it leads. Setting it up is not counted. Who cannot be reached, or does not answer,
lost every probe.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import trio

from fondaco.node import clock
from fondaco.node.network.host import Host
from fondaco.node.network.peers import PeerId
from fondaco.node.network.ping import round_trips
from fondaco.node.tenant import bounds
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.reaching import reach
from fondaco.node.tenant.vantages import Measured, Run
from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.records import Provider, key_provider
from fondaco.protocol.scalars import PublicKey
from fondaco.protocol.selection import Sample

log = logging.getLogger("fondaco.tenant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A provider, and where it says that it is reached."""

    provider: PublicKey
    peer: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    target: Target
    measured: Measured
    error: str = ""
    """Why it was not reached."""


async def probe(light: LightClient, target: Target, count: int = bounds.LATENCY_PROBES) -> Probed:
    """Send so many probes."""
    at = clock.now()
    error = ""
    samples: list[Sample] = [None] * count
    try:
        peer = await reach(light, PeerId(target.peer), target.addresses, most=bounds.LATENCY_DIALS)
        samples = await round_trips(light.host, peer, count)
    except FondacoError as failure:
        error = failure.message
    run = Run(at=at, samples=tuple(samples))
    return Probed(target=target, measured=Measured(peer=target.peer, runs=(run,)), error=error)


async def probe_all(
    light: LightClient, targets: Iterable[Target], count: int, done: Callable[[Probed], None]
) -> None:
    """Measure several, some at a time; connections that were made for it are closed again."""
    limiter = trio.CapacityLimiter(bounds.LATENCY_AT_ONCE)

    async def one(target: Target) -> None:
        async with limiter:
            before = light.host.is_connected(PeerId(target.peer))
            done(await probe(light, target, count))
            if not before and light.host.is_connected(PeerId(target.peer)):
                await light.host.drop(PeerId(target.peer), "it was measured")

    async with trio.open_nursery() as nursery:
        for target in targets:
            nursery.start_soon(one, target)


async def leave(host: Host, peers: Collection[PeerId]) -> None:
    """Close connections that were made to measure bidders, after a while, if nobody uses them then."""
    await trio.sleep(bounds.LATENCY_LINGER_MS / 1_000)
    for peer in peers:
        if host.is_connected(peer) and host.is_idle(peer) and not host.keeps(peer):
            await host.drop(peer, "it was measured")


async def registered(light: LightClient, provider: PublicKey) -> Target:
    """Where a provider's proven record says that it is reached. Raises `Refused` `provider.unknown`."""
    record = await light.record(key_provider(provider), Provider)
    if record is None:
        raise Refused("provider.unknown", f"{provider.hex()} is no registered provider")
    return Target(provider=provider, peer=record.peer, addresses=record.addresses)
