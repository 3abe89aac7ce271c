"""What each message does. Every function either applies its message whole or raises `Refused`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fondaco.consensus.ledger import (
    accounts,
    alive,
    ending,
    governance,
    grants,
    issuing,
    leasing,
    replacing,
    retiring,
    stakes,
    templates,
    transfers,
    trust,
)
from fondaco.consensus.ledger.context import Context
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import (
    Minted,
    ProviderAlive,
    ProviderRegistered,
    Transferred,
)
from fondaco.protocol.messages import (
    Activate,
    Alive,
    Attest,
    Bond,
    Burn,
    CastVote,
    CloseDeployment,
    CloseLease,
    Deposit,
    Faucet,
    ForkTemplate,
    GrantSpending,
    Message,
    Mint,
    OpenLease,
    Propose,
    Reclaim,
    RegisterProvider,
    RegisterTemplate,
    ReplaceLease,
    Retire,
    Revoke,
    RevokeSpending,
    SetParams,
    Transfer,
    Unbond,
    Unjail,
    UpdateManifest,
    Withdraw,
)
from fondaco.protocol.records import (
    Provider,
    key_provider,
    key_retirement,
)


def apply(context: Context, message: Message) -> None:
    """Apply one message. Raises `Refused`; the caller drops what was changed until then."""
    _APPLY[type(message)](context, message)


def _transfer(context: Context, message: Transfer) -> None:
    transfers.check_amount(message)
    accounts.move(context.state, context.sender, message.to, message.amount)
    context.events.append(Transferred(sender=context.sender, to=message.to, amount=message.amount))


def _faucet(context: Context, message: Faucet) -> None:
    params = accounts.params_of(context.state)
    if not params.has_faucet:
        raise Refused("faucet.none", "this chain has no faucet")
    if not message.credits and not message.stake:
        raise Refused("faucet.zero", "a faucet gives at least one ucredit or ustake")
    if message.credits > params.faucet_credits or message.stake > params.faucet_stake:
        raise Refused(
            "faucet.limit",
            f"this chain's faucet gives at most {params.faucet_credits} ucredit and {params.faucet_stake} ustake",
        )
    accounts.mint(context.state, context.sender, credits=message.credits, stake=message.stake)
    context.events.append(Minted(to=context.sender, credits=message.credits, stake=message.stake))


def _register_provider(context: Context, message: RegisterProvider) -> None:
    params = accounts.params_of(context.state)
    if message.bond < params.provider_bond:
        raise Refused("provider.bond", f"a provider bonds at least {params.provider_bond} ustake")
    keys = [attribute.key for attribute in message.attributes]
    if len(keys) > limits.ATTRIBUTES or keys != sorted(set(keys)):
        raise Refused(
            "provider.attributes", f"at most {limits.ATTRIBUTES} attributes, sorted by key, each key once"
        )
    if not 1 <= len(message.addresses) <= limits.BID_ADDRESSES:
        raise Refused("provider.addresses", f"a provider names 1..{limits.BID_ADDRESSES} addresses")
    before = context.state.get(key_provider(context.sender), Provider)
    more = message.bond - (0 if before is None else before.bond)
    accounts.change(context.state, context.sender, stake=-more)
    accounts.shift(context.state, bonded_stake=more, providers=0 if before else 1)
    context.state.put(
        key_provider(context.sender),
        Provider(
            key=context.sender,
            attributes=message.attributes,
            peer=message.peer,
            addresses=message.addresses,
            sealing_key=message.sealing_key,
            bond=message.bond,
            registered_at=context.now if before is None else before.registered_at,
        ),
    )
    context.state.put(key_retirement(context.sender), None)
    alive.note(context.state, params, context.sender, now=context.now)
    context.events.extend(trust.attributes_changed(context.state, context.sender, message.attributes))
    context.events.append(ProviderRegistered(provider=context.sender, bond=message.bond))


def _alive(context: Context, _message: Alive) -> None:
    if context.state.get(key_provider(context.sender), Provider) is None:
        raise Refused("provider.unknown", "only a registered provider gives signs of life")
    params = accounts.params_of(context.state)
    silent_ms = alive.note(context.state, params, context.sender, now=context.now)
    context.events.append(ProviderAlive(provider=context.sender, silent_ms=silent_ms))


def _bond(context: Context, message: Bond) -> None:
    context.events.extend(stakes.bond(context.state, context.sender, message.amount))


def _unbond(context: Context, message: Unbond) -> None:
    context.events.extend(
        stakes.unbond(context.state, context.sender, message.amount, height=context.height, now=context.now)
    )


def _unjail(context: Context, _message: Unjail) -> None:
    context.events.extend(stakes.unjail(context.state, context.sender, now=context.now))


_APPLY: dict[type, Callable[[Context, Any], None]] = {
    Transfer: _transfer,
    Faucet: _faucet,
    RegisterProvider: _register_provider,
    OpenLease: leasing.open_lease,
    Deposit: leasing.deposit,
    Activate: leasing.activate,
    UpdateManifest: leasing.update,
    ReplaceLease: replacing.replace_lease,
    Withdraw: leasing.withdraw,
    CloseLease: ending.close_lease,
    CloseDeployment: ending.close_deployment,
    Reclaim: ending.reclaim,
    Alive: _alive,
    Retire: retiring.retire,
    Bond: _bond,
    Unbond: _unbond,
    Unjail: _unjail,
    SetParams: governance.set_params,
    Attest: trust.attest,
    Revoke: trust.revoke,
    Mint: issuing.mint,
    Burn: issuing.burn,
    Propose: governance.propose,
    CastVote: governance.vote,
    RegisterTemplate: templates.register,
    ForkTemplate: templates.fork,
    GrantSpending: grants.grant,
    RevokeSpending: grants.revoke,
}
