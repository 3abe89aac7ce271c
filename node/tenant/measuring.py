"""Measuring whoever bids, while one waits for bids: only where the choice asks for latency, and never for long.

    async with meter(home, light, choice, report) as measuring:
        answers = await ordering.collect(..., on_answer=measuring.heard)
        latencies = await measuring.latencies(answers)

What this home measured lately is taken as it is. Where the choice brings vantage files they are all that counts,
and nothing is measured: the users of the service are there, and not here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from fondaco.node import clock
from fondaco.node.groups import unwrapped
from fondaco.node.network.peers import PeerId
from fondaco.node.tenant import bounds, probing, vantages
from fondaco.node.tenant.choosing import Choice
from fondaco.node.tenant.latency_memory import LatencyMemory
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.ordering import Answers
from fondaco.node.tenant.probing import Target
from fondaco.node.tenant.progress import Progress, Report, quiet
from fondaco.node.tenant.vantages import HERE, Measured, Vantage
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedBid, SignedDecline
from fondaco.protocol.scalars import ChainId, Millis, PublicKey
from fondaco.protocol.selection import Latency, worst

log = logging.getLogger("fondaco.tenant")
Measurable = tuple[PublicKey, str]
"""A provider, and the peer that serves it."""


class Meter:
    """Of one order; made by `meter`."""

    def __init__(self, light: LightClient, choice: Choice, report: Report, nursery: trio.Nursery) -> None:
        self._light = light
        self._choice = choice
        self._report = report
        self._nursery = nursery
        self._limiter = trio.CapacityLimiter(bounds.LATENCY_AT_ONCE)
        self._begun: dict[Measurable, trio.Event] = {}
        self._measured: dict[Measurable, Measured] = {}
        self.connected: list[PeerId] = []
        """Peers that were not, before they were measured."""
        self.places: list[Vantage] = list(choice.vantages)
        """What is known already, from each place that counts."""

    @property
    def _measures(self) -> bool:
        return self._choice.asks_latency and not self._choice.vantages

    def heard(self, answer: SignedBid | SignedDecline) -> None:
        """Begin to measure whoever made a bid, unless it is known or under way."""
        if not self._measures or not isinstance(answer, SignedBid):
            return
        bid = answer.bid
        what = (bid.provider, bid.peer)
        if what in self._begun or self._is_fresh(what) or len(self._begun) >= bounds.LATENCY_BIDDERS:
            return
        self._begun[what] = trio.Event()
        target = Target(provider=bid.provider, peer=bid.peer, addresses=bid.addresses)
        self._nursery.start_soon(self._measure, what, target)

    async def _measure(self, what: Measurable, target: Target) -> None:
        async with self._limiter:
            peer = PeerId(target.peer)
            if not self._light.host.is_connected(peer):
                self.connected.append(peer)
            self._measured[what] = (await probing.probe(self._light, target)).measured
        self._begun[what].set()

    def _is_fresh(self, what: Measurable) -> bool:
        """Whether it was measured from here lately, and often enough."""
        now = clock.now()
        known = self.places[0].of(*what) if self.places else None
        return (
            known is not None
            and now - bounds.LATENCY_FRESH_MS <= known.at <= now
            and known.runs[-1].answered
            and len(known.samples) >= bounds.LATENCY_PROBES
        )

    async def latencies(self, answers: Answers) -> Mapping[PublicKey, Latency]:
        """What is known of those that bid, once what is under way has ended or had its time.

        Of a provider that names several peers in its bids, the worst.
        """
        if not self._choice.asks_latency:
            return {}
        peers: dict[PublicKey, set[str]] = {}
        for bids in answers.bids.values():
            for provider, signed in bids.items():
                peers.setdefault(provider, set()).add(signed.bid.peer)
        wanted = [(provider, peer) for provider, named in peers.items() for peer in named]
        with trio.move_on_after(bounds.LATENCY_PATIENCE_MS / 1_000):
            for what in wanted:
                if what in self._begun:
                    await self._begun[what].wait()
        found: dict[PublicKey, Latency] = {}
        for provider, named in sorted(peers.items()):
            seen = [self._of((provider, peer)) for peer in sorted(named)]
            known = [one for several in seen for one in several]
            if all(seen):
                found[provider] = known[0] if len(known) == 1 else worst(known)
        self._report(Progress("latency", f"known of {len(found)} of {len(peers)} that bid"))
        return found

    def _of(self, what: Measurable) -> list[Latency]:
        """From each place that counts; nothing if it was not measured from one of them."""
        if self._choice.vantages:
            seen = [found.latency(place.name) for place in self.places if (found := place.of(*what)) is not None]
            return seen if len(seen) == len(self.places) else []
        now = self._measured.get(what)
        if now is None:
            known = self.places[0].of(*what) if self._is_fresh(what) else None
            return [] if known is None else [known.latency()]
        before = self.places[0].of(*what)
        kept = (now if before is None else before.then(now)).since(Millis(clock.now() - bounds.LATENCY_KEPT_MS))
        return [(kept or now).latency()]

    def measured(self) -> dict[PublicKey, Measured]:
        """What was measured for this order, to be kept."""
        return {provider: one for (provider, _), one in self._measured.items()}


@asynccontextmanager
async def meter(home: Path, light: LightClient, choice: Choice, report: Report) -> AsyncIterator[Meter]:
    """Measure for one order; what was measured is kept in `home` at the end.

    Raises `Refused` `latency.chain` for vantage files of another chain. A memory that cannot be read or written is
    told of, and keeps nobody from ordering.
    """
    vantages.check_chain(choice.vantages, light.chain)
    memory = LatencyMemory(home, light.chain)
    with unwrapped():
        async with trio.open_nursery() as nursery:
            found = Meter(light, choice, report, nursery)
            if choice.vantages:
                for one in choice.vantages:
                    report(Progress("latency", f"{one.name}: {_age(one)}, {len(one.providers)} providers"))
            elif choice.asks_latency:
                found.places.append(_remembered(memory, report))
            try:
                yield found
            finally:
                nursery.cancel_scope.cancel()
                if found.connected:
                    light.host.start_soon(probing.leave, light.host, found.connected)
    measured = found.measured()
    if measured:
        try:
            await trio.to_thread.run_sync(partial(memory.add, HERE, measured, now=clock.now()))
        except Refused as refusal:
            report(Progress("latency", f"what was measured is not kept: {refusal}"))


async def remembered(home: Path, chain: ChainId) -> dict[PublicKey, Latency]:
    """What was measured from here, and nothing new."""
    found = await trio.to_thread.run_sync(_remembered, LatencyMemory(home, chain), quiet)
    return {provider: one.latency() for provider, one in found.providers.items()}


def _remembered(memory: LatencyMemory, report: Report) -> Vantage:
    try:
        return memory.load(HERE, now=clock.now())
    except Refused as refusal:
        report(Progress("latency", f"what was measured before is not known: {refusal}"))
        return Vantage(name=HERE, chain=memory.chain)


def _age(vantage: Vantage) -> str:
    """When it was measured last, as far as it matters: how long ago."""
    if vantage.at is None:
        return "nothing measured"
    minutes = max(0, clock.now() - vantage.at) // 60_000
    if minutes < 120:
        return f"measured {minutes} min ago"
    hours = minutes // 60
    return f"measured {hours} h ago" if hours < 48 else f"measured {hours // 24} days ago"
