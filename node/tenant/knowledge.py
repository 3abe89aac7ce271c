"""What a tenant finds out about the providers that bid, before it chooses: each word proven, or measured."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import trio

from fondaco.node.facts import facts_of
from fondaco.node.tenant import auditing
from fondaco.node.tenant.light import LightClient
from fondaco.protocol import addresses
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.scalars import PublicKey
from fondaco.protocol.selection import Knowledge, Latency, ProviderFacts

log = logging.getLogger("fondaco.tenant")


async def gather(
    light: LightClient,
    providers: Iterable[PublicKey],
    *,
    names: Mapping[str, PublicKey],
    used: Mapping[PublicKey, int] | None = None,
    latencies: Mapping[PublicKey, Latency] | None = None,
) -> Knowledge:
    """Attributes and attestations of each provider, also in use; where nothing can be proven, nothing is known.

    `names`: what this tenant calls auditors. `used`: where its own replicas are. `latencies`: what was measured.
    """
    facts = {provider: ProviderFacts(latency=one) for provider, one in (latencies or {}).items()}

    async def one(provider: PublicKey) -> None:
        try:
            found = await auditing.standing(light, provider)
        except FondacoError as error:
            log.info("nothing is known of %s: %s", addresses.encode(provider), error)
        else:
            proven = facts_of(found.provider, found.said, names=names, now=found.now)
            facts[provider] = replace(proven, latency=(latencies or {}).get(provider))

    async with trio.open_nursery() as nursery:
        for provider in sorted({*providers, *(used or ())}):  # in which regions the replicas are counts, too
            nursery.start_soon(one, provider)
    return Knowledge(providers=facts, used=Counter() if used is None else used)
