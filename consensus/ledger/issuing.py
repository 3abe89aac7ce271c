"""Money made and money lost: the issuer that genesis names, and what a provider pays for a fault."""

from __future__ import annotations

from dataclasses import replace

from fondaco.consensus.ledger import accounts
from fondaco.consensus.ledger.context import Context
from fondaco.consensus.ledger.state import State
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import Burnt, Event, Minted, ProviderSlashed
from fondaco.protocol.messages import Burn, Mint
from fondaco.protocol.records import ISSUER, SUPPLY, Issuer, Provider, Supply, key_provider
from fondaco.protocol.scalars import MicroCredits, MicroStake, PublicKey


def mint(context: Context, message: Mint) -> None:
    """Raises `Refused` `issuer.sender`, `issuer.zero` or `supply.limit`."""
    _check(context, message.amount)
    accounts.mint(context.state, message.to, credits=message.amount, stake=MicroStake(0))
    context.events.append(Minted(to=message.to, credits=message.amount, stake=MicroStake(0)))


def burn(context: Context, message: Burn) -> None:
    """Raises `Refused` `issuer.sender`, `issuer.zero` or `funds.credits`."""
    _check(context, message.amount)
    accounts.change(context.state, context.sender, credits=-message.amount)
    before = context.state.require(SUPPLY, Supply)
    context.state.put(SUPPLY, replace(before, credits=MicroCredits(before.credits - message.amount)))
    context.events.append(Burnt(owner=context.sender, credits=message.amount))


def _check(context: Context, amount: MicroCredits) -> None:
    issuer = context.state.get(ISSUER, Issuer)
    if issuer is None or issuer.key != context.sender:
        raise Refused("issuer.sender", "only the issuer that genesis names mints and burns")
    if not amount:
        raise Refused("issuer.zero", "at least one ucredit is minted or burnt")


def slash_provider(state: State, provider: PublicKey, *, basis_points: int) -> list[Event]:
    """Take a part of what stands behind `provider` for the community pool, rounded down.

    A bond may fall below what a provider needs: it must be made up with the next registration. A provider that is
    not registered has nothing to lose. For proofs of faults, which no message brings yet.
    """
    assert 0 <= basis_points <= 10_000, f"{basis_points} basis points"
    before = state.get(key_provider(provider), Provider)
    if before is None:
        return []
    amount = MicroStake(before.bond * basis_points // 10_000)
    bond = MicroStake(before.bond - amount)
    state.put(key_provider(provider), replace(before, bond=bond))
    accounts.shift(state, bonded_stake=-amount, pool_stake=amount)
    return [ProviderSlashed(provider=provider, amount=amount, bond=bond)]
