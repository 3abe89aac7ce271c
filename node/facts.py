"""What the ledger says of a provider, as queries see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fondaco.consensus.ledger.trust import holds
from fondaco.protocol import addresses
from fondaco.protocol.records import Attestation, Provider
from fondaco.protocol.scalars import Millis, PublicKey
from fondaco.protocol.selection import ProviderFacts


def facts_of(
    provider: Provider, said: Iterable[Attestation], *, names: Mapping[str, PublicKey], now: Millis
) -> ProviderFacts:
    """Its attributes, and who attests some of them at block time `now`; `names`: what auditors are called here."""
    auditors = {one.auditor for one in said if holds(one, now=now)}
    called = {name for name, key in names.items() if key in auditors}
    return ProviderFacts(
        attributes=provider.attributes,
        audited_by=frozenset({*map(addresses.encode, auditors), *called}),
        attestations=len(auditors),
    )
