"""Who decides the height after next: stake becomes power, a little at a time.

What a block changes in stake acts two heights later. In one height less than a third of the power changes, so
that a light client that trusts an old set is not left behind at once; the rest follows in the next heights. (Where
the whole power is three or less one vote changes at a time.) The set is never empty: where nobody is left
that may decide, those that do go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fondaco.consensus.ledger import history, stakes
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import State
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import limits
from fondaco.protocol.agreement import CommitCertificate, Validator
from fondaco.protocol.events import Event, PowerChanged
from fondaco.protocol.records import ABSENCES, VALIDATORS, Absence, Absences, ValidatorSets
from fondaco.protocol.scalars import Height, Millis, Power, PublicKey


def rotate(state: State, params: Params, events: list[Event], *, height: Height) -> None:
    """Move on to the sets that decide the two heights after `height`."""
    sets = state.require(VALIDATORS, ValidatorSets)
    before = ValidatorSet(members=sets.after)
    wanted = stakes.candidates(state, params.validator_bond)
    powers = step_towards(before, wanted) if wanted else {}
    after = before.updated(powers) if powers else before
    acts = Height(height + 2)
    state.put(VALIDATORS, ValidatorSets(last=sets.next, next=sets.after, after=after.advance(1).members))
    if powers:
        history.record_validators(state, acts, after)
        events.extend(
            PowerChanged(validator=key, height=acts, power=power) for key, power in sorted(powers.items())
        )


def step_towards(before: ValidatorSet, wanted: Mapping[PublicKey, Power]) -> dict[PublicKey, Power]:
    """The next change of powers on the way to `wanted`: less than a third of the total.

    Losses come first, so that a full set has room for those who join; but where some gain as well, half is kept
    for them, or a set that is replaced would shrink to a single vote on the way.
    """
    room = max(1, (before.total - 1) // 3)
    members = len(before.members)
    goals = {key: wanted.get(key, 0) - before.power_of(key) for key in sorted({*before.index, *wanted})}
    losses = [key for key, change in goals.items() if change < 0]
    gains = [key for key, change in goals.items() if change > 0]
    changes: dict[PublicKey, Power] = {}
    for keys, most in ((losses, room - room // 2 if gains else room), (gains, room)):
        for key in keys:
            have, step = before.power_of(key), min(abs(goals[key]), most, room)
            power = Power(have + step if goals[key] > 0 else have - step)
            if not step or (not power and members == 1) or (not have and members >= limits.VALIDATORS):
                continue
            members += (not have) - (not power)
            most, room = most - step, room - step
            changes[key] = power
    return changes


def note_absences(
    state: State, params: Params, certificate: CommitCertificate | None, events: list[Event], *, now: Millis
) -> None:
    """Count who is missing from the certificate of the block below, and jail who has been for too long."""
    sets = state.require(VALIDATORS, ValidatorSets)
    if certificate is None:
        return
    before = state.get(ABSENCES, Absences)
    known = {} if before is None else {absence.validator: absence for absence in before.absent}
    absent = list[Absence]()
    for member, signature in zip(sets.last, certificate.signatures, strict=True):
        if signature is not None:
            continue
        key = member.public_key
        absence = known.get(key) or Absence(validator=key, missed=0, since=now)
        absence = replace(absence, missed=absence.missed + 1)
        if absence.missed < params.absence_blocks or now - absence.since < params.absence_ms:
            absent.append(absence)
        elif stakes.stake_of(state, key).jailed_until is None:
            events.extend(stakes.jail(state, key, until=Millis(now + params.jail_ms)))
    after = Absences(absent=tuple(absent)) if absent else None
    if after != before:
        state.put(ABSENCES, after)


def first_sets(state: State, members: tuple[Validator, ...], *, height: Height) -> None:
    """The sets a chain starts with at `height`; the one below it is where light clients begin."""
    first = ValidatorSet(members=members)
    state.put(VALIDATORS, ValidatorSets(last=(), next=first.members, after=first.advance(1).members))
    history.record_validators(state, Height(height - 1), first)
    stakes.found(state, first)
