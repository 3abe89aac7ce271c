"""How a provider goes: it takes no new leases, ends those it has as it had promised, and gets its bond back.

A provider may serve more leases than one message should touch. So each `Retire` ends the next few of them, and
whoever has many says it again; the last one, when no lease is alive, pays the bond back. Leases whose end was
announced stand behind the others in the index, so that none is looked at twice on the way.
"""

from __future__ import annotations

from dataclasses import replace

from fondaco.consensus.ledger import accounts, deployments, trust
from fondaco.consensus.ledger.context import Context
from fondaco.consensus.ledger.deployments import Working
from fondaco.consensus.ledger.leasing import lease_of
from fondaco.consensus.ledger.state import State
from fondaco.protocol import limits, reasons
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import LeaseReclaimed, ProviderRetired, ProviderRetiring
from fondaco.protocol.messages import Retire
from fondaco.protocol.records import (
    Lease,
    LeaseState,
    Provider,
    Reclamation,
    Retirement,
    key_alive,
    key_provider,
    key_retirement,
)
from fondaco.protocol.scalars import LeaseId, Millis, PublicKey

LIVE = b"live/"
"""Where the index starts; `records.key_live` goes on from here."""


def live_leases(state: State, provider: PublicKey, limit: int) -> list[LeaseId]:
    """The first leases of a provider that have not ended, those whose end was not announced before the others."""
    prefix = LIVE + provider
    return [LeaseId(key[len(prefix) + 1 :]) for key, _ in state.scan(prefix, limit)]


def retire(context: Context, message: Retire) -> None:
    provider = context.state.get(key_provider(context.sender), Provider)
    if provider is None:
        raise Refused("provider.unknown", "the sender is no registered provider")
    for lease in live_leases(context.state, provider.key, limits.RETIREMENT_LEASES):
        work, current = lease_of(context, lease)  # which ends those whose time was over
        if message.reclaim and current.state != LeaseState.CLOSED and current.reclamation is None:
            _end(context, work, current)
    if not live_leases(context.state, provider.key, 1):
        _leave(context, provider)
        return
    if not message.reclaim:
        raise Refused(
            "provider.leases", "the provider has live leases", hint="end them first, or reclaim them all"
        )
    if context.state.get(key_retirement(provider.key), Retirement) is None:
        context.state.put(key_retirement(provider.key), Retirement(since=context.now))
        context.events.append(ProviderRetiring(provider=provider.key))


def _end(context: Context, work: Working, lease: Lease) -> None:
    """At once where no notice was promised."""
    if lease.reclamation_window_ms:
        at = Millis(context.now + lease.reclamation_window_ms)
        reason = reasons.DECOMMISSION
        work.replace_lease(replace(lease, reclamation=Reclamation(at=at, reason=reason)))
        context.events.append(LeaseReclaimed(lease=lease.id, at=at, reason=reason))
    else:
        deployments.settle(work, at=context.now)
        deployments.close(work, lease, at=context.now, reason=reasons.DECOMMISSION)
    deployments.save(work)


def _leave(context: Context, provider: Provider) -> None:
    accounts.change(context.state, provider.key, stake=provider.bond)
    accounts.shift(context.state, bonded_stake=-provider.bond, providers=-1)
    context.events.extend(trust.attributes_changed(context.state, provider.key, ()))
    for key in (key_provider, key_alive, key_retirement):
        context.state.put(key(provider.key), None)
    context.events.append(ProviderRetired(provider=provider.key, bond=provider.bond))
