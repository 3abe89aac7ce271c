"""What stands behind validators: bonding, unbonding, jail, and what a conviction costs.

Power is stake divided by 10^6. Everybody who may be in the set stands in an index ordered by stake, from which
`elections` takes the first. Unbonded stake waits until it can no longer be slashed: `unbonding_ms`, and both
limits of evidence (market.md, Validators).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fondaco.consensus.ledger import accounts, ballots
from fondaco.consensus.ledger.genesis import STAKE_PER_POWER
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import State
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import Bonded, Event, Jailed, Slashed, Unbonded, UnbondingBegan, Unjailed
from fondaco.protocol.records import Stake, Unbonding, key_stake, key_stake_rank, key_unbonding
from fondaco.protocol.scalars import INT_MAX, Hash, Height, MicroStake, Millis, Power, PublicKey

RELEASED_PER_BLOCK = 100
RECHECK_MS = 3_600_000
"""Stake whose time has come before its blocks have is looked at again after so long."""
RANKS, UNBONDINGS = b"stake-rank/", b"unbonding/"


def stake_of(state: State, validator: PublicKey) -> Stake:
    """What stands behind `validator`; nothing, for most."""
    found = state.get(key_stake(validator), Stake)
    return found or Stake(
        validator=validator, bonded=MicroStake(0), unbonding=(), jailed_until=None, tombstoned=False
    )


def found(state: State, validators: ValidatorSet) -> None:
    """Put the stake of genesis behind the first validators; it is in the totals already."""
    for member in validators.members:
        bonded = MicroStake(member.power * STAKE_PER_POWER)
        _save(state, replace(stake_of(state, member.public_key), bonded=bonded))


def candidates(state: State, least: MicroStake) -> dict[PublicKey, Power]:
    """The validators that should be in the set, with their powers: the largest, ties by key."""
    chosen = {}
    for key, _ in state.scan(RANKS, limits.VALIDATORS):
        rank = key[len(RANKS) :]
        bonded = INT_MAX - int.from_bytes(rank[:8], "big")
        if bonded < least:
            break
        chosen[PublicKey(rank[8:])] = Power(bonded // STAKE_PER_POWER)
    return chosen


def bond(state: State, sender: PublicKey, amount: MicroStake) -> Iterable[Event]:
    """Raises `Refused` `stake.zero`, `stake.tombstoned`, `stake.too_small` or `funds.stake`."""
    before, least = stake_of(state, sender), accounts.params_of(state).validator_bond
    if not amount:
        raise Refused("stake.zero", "at least one ustake is bonded")
    if before.tombstoned:
        raise Refused("stake.tombstoned", "this key was convicted of breaking its word; use another")
    if before.bonded + amount < least:
        raise Refused("stake.too_small", f"a validator bonds at least {least} ustake")
    accounts.change(state, sender, stake=-amount)
    accounts.shift(state, bonded_stake=amount)
    _save(state, replace(before, bonded=MicroStake(before.bonded + amount)))
    return [Bonded(validator=sender, amount=amount)]


def unbond(state: State, sender: PublicKey, amount: MicroStake, *, height: Height, now: Millis) -> Iterable[Event]:
    """Raises `Refused` `stake.zero`, `.short`, `.too_small`, `.locked`, `.unbondings` or `.last`."""
    before, params = stake_of(state, sender), accounts.params_of(state)
    left = before.bonded - amount
    if not amount:
        raise Refused("stake.zero", "at least one ustake is unbonded")
    if left < 0:
        raise Refused("stake.short", f"{before.bonded} ustake are bonded, {amount} were asked for")
    if 0 < left < params.validator_bond:
        raise Refused("stake.too_small", f"unbond all, or leave at least {params.validator_bond} ustake")
    held = ballots.locked(state, sender)
    if left < held:
        raise Refused("stake.locked", f"{held} ustake have been voted with and stay bonded until that vote ends")
    if len(before.unbonding) >= limits.UNBONDINGS:
        raise Refused("stake.unbondings", f"{limits.UNBONDINGS} amounts are on their way out already")
    after = replace(
        before,
        bonded=MicroStake(left),
        unbonding=(*before.unbonding, Unbonding(amount=amount, height=height, since=now)),
    )
    _save(state, after)
    if not candidates(state, params.validator_bond):
        raise Refused("stake.last", "the last validator of a chain cannot leave it")
    state.put(key_unbonding(free_at(now, params), sender), sender)
    return [UnbondingBegan(validator=sender, amount=amount)]


def unjail(state: State, sender: PublicKey, *, now: Millis) -> Iterable[Event]:
    """Raises `Refused` `stake.not_jailed`, `stake.tombstoned` or `stake.jailed`."""
    before = stake_of(state, sender)
    if before.tombstoned:
        raise Refused("stake.tombstoned", "this key was convicted of breaking its word; use another")
    if before.jailed_until is None:
        raise Refused("stake.not_jailed", "the sender is not in jail")
    if now < before.jailed_until:
        raise Refused("stake.jailed", f"jailed for another {before.jailed_until - now} ms")
    _save(state, replace(before, jailed_until=None))
    return [Unjailed(validator=sender)]


def jail(state: State, validator: PublicKey, *, until: Millis) -> Iterable[Event]:
    _save(state, replace(stake_of(state, validator), jailed_until=until))
    return [Jailed(validator=validator, until=until)]


def slash(state: State, culprit: PublicKey, *, height: Height, evidence: Hash) -> Iterable[Event]:
    """Take a part of all that stood behind `culprit` at `height`, and bar it for good."""
    before, part = stake_of(state, culprit), accounts.params_of(state).slash_basis_points
    unbonding = tuple(
        entry if entry.height < height else replace(entry, amount=_less(entry.amount, part))
        for entry in before.unbonding
    )
    after = replace(before, bonded=_less(before.bonded, part), unbonding=unbonding, tombstoned=True)
    lost = MicroStake(_all(before) - _all(after))
    accounts.shift(state, bonded_stake=-lost, pool_stake=lost)
    _save(state, after)
    return [Slashed(validator=culprit, amount=lost, evidence=evidence)]


def release(state: State, *, height: Height, now: Millis) -> Iterable[Event]:
    """Give back what has waited long enough."""
    events, params = list[Event](), accounts.params_of(state)
    for key, _ in state.scan_before(UNBONDINGS, now + 1, RELEASED_PER_BLOCK):
        validator = PublicKey(key[len(UNBONDINGS) + 8 :])
        state.put(key, None)
        before = stake_of(state, validator)
        free = [entry for entry in before.unbonding if _is_free(entry, params, height=height, now=now)]
        waiting = tuple(entry for entry in before.unbonding if entry not in free)
        amount = MicroStake(sum(entry.amount for entry in free))
        _save(state, replace(before, unbonding=waiting))
        if waiting:
            again = max(now + RECHECK_MS, free_at(waiting[0].since, params))
            state.put(key_unbonding(Millis(again), validator), validator)
        if amount:
            accounts.shift(state, bonded_stake=-amount)
            accounts.change(state, validator, stake=amount)
            events.append(Unbonded(validator=validator, amount=amount))
    return events


def free_at(since: Millis, params: Params) -> Millis:
    """The earliest time at which stake is free that began to unbond at `since`."""
    return Millis(since + max(params.unbonding_ms, params.evidence_ms) + 1)


def _is_free(entry: Unbonding, params: Params, *, height: Height, now: Millis) -> bool:
    return now >= free_at(entry.since, params) and height - entry.height > params.evidence_blocks


def _less(amount: MicroStake, basis_points: int) -> MicroStake:
    return MicroStake(amount - amount * basis_points // 10_000)


def _all(stake: Stake) -> int:
    return stake.bonded + sum(entry.amount for entry in stake.unbonding)


def _save(state: State, after: Stake) -> None:
    """Store a stake and keep the index true."""
    key = after.validator
    before = stake_of(state, key)
    ballots.stake_changes(state, before, after)
    if may_decide(before):
        state.put(key_stake_rank(before.bonded, key), None)
    if may_decide(after):
        state.put(key_stake_rank(after.bonded, key), key)
    worthless = not _all(after) and not after.tombstoned and after.jailed_until is None
    state.put(key_stake(key), None if worthless else after)


def may_decide(stake: Stake) -> bool:
    """Whether it stands in the index by which validators are chosen."""
    return stake.bonded > 0 and stake.jailed_until is None and not stake.tombstoned
