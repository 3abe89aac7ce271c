"""A provider as proven records tell it, and its way out of the market.

The ledger's rules are in `consensus.ledger.retiring`. Which leases are alive is what nodes say; each is proven.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Retire
from fondaco.protocol.records import (
    Lease,
    LeaseState,
    Provider,
    Retirement,
    SignsOfLife,
    key_alive,
    key_lease,
    key_provider,
    key_retirement,
)
from fondaco.protocol.scalars import LeaseId, Millis, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """One key as a provider."""

    provider: PublicKey
    record: Provider | None
    """None: not registered, or retired."""
    signs: SignsOfLife | None
    retiring_since: Millis | None
    leases: tuple[Lease, ...]
    """Those that have not ended."""

    @property
    def unannounced(self) -> tuple[Lease, ...]:
        """Leases whose end was not announced."""
        return tuple(one for one in self.leases if one.reclamation is None)

    @property
    def last_end(self) -> Millis | None:
        """When the last window that runs is over."""
        return max((one.reclamation.at for one in self.leases if one.reclamation is not None), default=None)


async def offering(light: LightClient, provider: PublicKey, *, at_least: int = 0) -> Offering:
    """Everything about a provider, proven at a height of `at_least` or more."""
    retirement = await light.record(key_retirement(provider), Retirement, at_least=at_least)
    found = [await _lease(light, one, at_least) for one in await light.live_leases(provider)]
    return Offering(
        provider=provider,
        record=await light.record(key_provider(provider), Provider, at_least=at_least),
        signs=await light.record(key_alive(provider), SignsOfLife, at_least=at_least),
        retiring_since=None if retirement is None else retirement.since,
        leases=tuple(
            one
            for one in found
            if one is not None and one.provider == provider and one.state is not LeaseState.CLOSED
        ),
    )


async def registered(light: LightClient, provider: PublicKey) -> Offering:
    """Likewise. Raises `Refused` `provider.unknown`."""
    found = await offering(light, provider)
    if found.record is None:
        raise Refused(
            "provider.unknown",
            "no provider is registered under this key",
            hint="it never was, or it has retired",
        )
    return found


async def retire(wallet: Wallet, *, wait: bool, report: Callable[[Offering], None]) -> Offering:
    """End every lease as promised, so many a message, and leave if none is alive; how the provider stands then.

    With `wait`, return only once it has retired. `report` hears how it stands after each message.
    Raises `Refused` `provider.unknown` or what the ledger says of fees.
    """
    light, key = wallet.light, wallet.signer.public_key
    await registered(light, key)
    while True:
        found = await offering(light, key, at_least=await wallet.transact(Retire(reclaim=True)))
        report(found)
        if found.record is None:
            return found
        if found.unannounced:
            continue
        if not wait:
            return found
        for lease in found.leases:
            await light.wait_record(key_lease(lease.id), Lease, _is_over)


def _is_over(lease: Lease | None) -> bool:
    return lease is None or lease.state is LeaseState.CLOSED


async def _lease(light: LightClient, lease: LeaseId, at_least: int) -> Lease | None:
    return await light.record(key_lease(lease), Lease, at_least=at_least)
