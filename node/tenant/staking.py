"""What stands behind a validator, as proven records say: stake, share, absences, and what is on its way.

The ledger's rules are in `consensus.ledger.stakes` and `elections`; here they are only told.
"""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.consensus.ledger.genesis import STAKE_PER_POWER
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.stakes import free_at
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Faucet, Message, ParameterChange, SetParams
from fondaco.protocol.records import (
    ABSENCES,
    PARAMS,
    VALIDATORS,
    Absence,
    Absences,
    Stake,
    Unbonding,
    ValidatorSets,
    key_stake,
)
from fondaco.protocol.scalars import MicroCredits, MicroStake, Millis, Power, PublicKey

FEES = 10_000
"""Ucredit that a transaction of this kind surely costs no more than."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """Stake that was unbonded and is not free yet."""

    amount: MicroStake
    since: Millis
    free_at: Millis
    """The earliest moment; the limit of evidence in blocks may make it later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One key as a validator."""

    validator: PublicKey
    free: MicroStake
    """Stake in its account, which it could bond."""
    bonded: MicroStake
    power: Power
    """In the set that decides the next height; 0: not in it."""
    power_after: Power
    """In the set of the height after that."""
    power_due: Power
    """What its stake will come to, while jail and the bounds of the set allow; a third of all moves a height."""
    total_power: Power
    jailed_until: Millis | None
    tombstoned: bool
    leaving: tuple[Leaving, ...]
    missed: int
    """Certificates in a row that lack its signature."""
    missed_since: Millis | None
    params: Params


async def standing(wallet: Wallet, *, at_least: int = 0) -> Standing:
    """Everything about the wallet's own key, proven at a height of `at_least` or more."""
    light, key = wallet.light, wallet.signer.public_key
    account = await wallet.account(at_least=at_least)
    params = await light.record(PARAMS, Params, at_least=at_least)
    sets = await light.record(VALIDATORS, ValidatorSets, at_least=at_least)
    if params is None or sets is None:
        raise Refused("chain.no_params", "this chain has no parameters or no validators")
    stake = await light.record(key_stake(key), Stake, at_least=at_least)
    absences = await light.record(ABSENCES, Absences, at_least=at_least)
    absence = None if absences is None else _absence(absences, key)
    leaving: tuple[Unbonding, ...] = () if stake is None else stake.unbonding
    bonded = MicroStake(0 if stake is None else stake.bonded)
    powers = [{one.public_key: one.power for one in members} for members in (sets.next, sets.after)]
    return Standing(
        validator=key,
        free=account.stake,
        bonded=bonded,
        power=powers[0].get(key, Power(0)),
        power_after=powers[1].get(key, Power(0)),
        power_due=Power(_due(stake, params)),
        total_power=Power(sum(powers[0].values())),
        jailed_until=None if stake is None else stake.jailed_until,
        tombstoned=stake is not None and stake.tombstoned,
        leaving=tuple(
            Leaving(amount=one.amount, since=one.since, free_at=free_at(one.since, params)) for one in leaving
        ),
        missed=0 if absence is None else absence.missed,
        missed_since=None if absence is None else absence.since,
        params=params,
    )


async def change_stake(wallet: Wallet, message: Message, *, needs: int = 0) -> Standing:
    """Bond, unbond or unjail; how the key stands then, proven. With `needs` ustake the faucet is asked for them.

    Raises `Refused` `stake.*`, `funds.stake` or `wallet.funds`.
    """
    await wallet.ensure(FEES)
    if needs:
        await _ensure_stake(wallet, needs)
    return await standing(wallet, at_least=await wallet.transact(message))


async def set_params(wallet: Wallet, values: dict[str, int]) -> tuple[int, Params]:
    """Change parameters; the height, and all of them as proven then. Raises `Refused` `params.*`."""
    await wallet.ensure(FEES)
    changes = tuple(ParameterChange(name=name, value=values[name]) for name in sorted(values))
    height = await wallet.transact(SetParams(changes=changes))
    params = await wallet.light.record(PARAMS, Params, at_least=height)
    if params is None:
        raise Refused("chain.no_params", "this chain has no parameters")
    return height, params


async def _ensure_stake(wallet: Wallet, amount: int) -> None:
    """Ask the faucet for stake if there is too little and it gives some; else the ledger says what is wrong."""
    account, params = await wallet.account(), await wallet.params()
    if account.stake < amount <= account.stake + params.faucet_stake:
        height = await wallet.transact(Faucet(credits=MicroCredits(0), stake=params.faucet_stake))
        await wallet.account(at_least=height)


def _absence(absences: Absences, key: PublicKey) -> Absence | None:
    return next((one for one in absences.absent if one.validator == key), None)


def _due(stake: Stake | None, params: Params) -> int:
    if stake is None or stake.jailed_until is not None or stake.tombstoned or stake.bonded < params.validator_bond:
        return 0
    return stake.bonded // STAKE_PER_POWER
