"""A validator set: who votes with what power, and whose turn it is to propose.

Proposers rotate by weighted round robin (CometBFT, spec/consensus/proposer-selection). In every turn each
validator gains its power in priority; the one with the most proposes and pays the total power back, so over
`total` turns a validator proposes exactly `power` times. Two corrections keep priorities near zero when sets
change: *scaling* bounds the distance between the extremes to twice the total power, dividing towards zero,
and *centring* subtracts the mean, rounded down. The two round differently on purpose: every node must get the
same integers, and these are the ones the published algorithm gets.

`proposer(0)` is whoever the next turn picks, and `proposer(r)` whoever the turn r + 1 picks. The set of the
next height is `advance(1)`, whatever round decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Validator
from fondaco.protocol.errors import Malformed
from fondaco.protocol.scalars import Hash, Power, Priority, PublicKey, Round
from fondaco.protocol.signing import sha256

TOTAL_POWER_MAX = 2**59
"""Keeps every priority, which stays within a few times the total, far from the codec's 2^63."""


@dataclass(frozen=True, kw_only=True)
class ValidatorSet:
    """The validators of one height, ordered by public key.

    Not slotted, unlike messages: the figures below are worked out once and kept.
    Raises `Malformed` `validators.*` if empty, too large, out of order, or with a power outside its bounds.
    """

    members: tuple[Validator, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.members) <= limits.VALIDATORS:
            raise Malformed("validators.count", f"{len(self.members)} validators, 1..{limits.VALIDATORS} allowed")
        keys = [member.public_key for member in self.members]
        if keys != sorted(set(keys)):
            raise Malformed("validators.order", "validators must be unique and ordered by public key")
        if any(member.power < 1 for member in self.members):
            raise Malformed("validators.power", "every validator needs some power")
        if self.total > TOTAL_POWER_MAX:
            raise Malformed("validators.power", f"total power {self.total} is above {TOTAL_POWER_MAX}")

    @classmethod
    def of(cls, powers: Iterable[tuple[PublicKey, Power]]) -> ValidatorSet:
        """A first set, everyone at priority zero; the order given does not matter."""
        ordered = sorted(powers)
        return cls(
            members=tuple(Validator(public_key=key, power=power, priority=Priority(0)) for key, power in ordered)
        )

    @cached_property
    def total(self) -> int:
        """The whole voting power."""
        return sum(member.power for member in self.members)

    @cached_property
    def index(self) -> dict[PublicKey, int]:
        """Where each validator stands; the place of its signature in a certificate."""
        return {member.public_key: place for place, member in enumerate(self.members)}

    def power_of(self, key: PublicKey) -> int:
        """The power of `key`; 0 for whoever is not a validator."""
        place = self.index.get(key)
        return 0 if place is None else self.members[place].power

    def has_quorum(self, weight: int) -> bool:
        """More than two thirds: any two quorums share a correct validator."""
        return 3 * weight > 2 * self.total

    def has_third(self, weight: int) -> bool:
        """More than one third: at least one correct validator among them."""
        return 3 * weight > self.total

    @cached_property
    def hash(self) -> Hash:
        """What a header commits to: keys and powers, not priorities."""
        return sha256(codec.encode(tuple((member.public_key, member.power) for member in self.members)))

    def proposer(self, round: Round) -> PublicKey:
        """Who proposes in `round`; worked out once for each round that is asked for."""
        known = self._proposers
        while len(known) <= round:
            priorities, chosen = self._turn(self._priorities_by_round)
            self._priorities_by_round[:] = priorities
            known.append(self.members[chosen].public_key)
        return known[round]

    def advance(self, turns: int = 1) -> ValidatorSet:
        """The same validators `turns` turns later."""
        priorities = self._centred()
        for _ in range(turns):
            priorities, _chosen = self._turn(priorities)
        return self._with(priorities)

    def updated(self, powers: Mapping[PublicKey, Power]) -> ValidatorSet:
        """The set with some powers changed: 0 removes, an unknown key joins. Priorities stay as they are.

        Who joins starts 1.125 totals behind, so that leaving and coming back wins no turn; the total is the one
        before anybody leaves (CometBFT, proposer selection). The next `advance` scales and centres.
        Raises `Malformed` as the constructor does.
        """
        before = {member.public_key: member for member in self.members}
        merged = {**{key: member.power for key, member in before.items()}, **powers}
        total = sum(power or before[key].power for key, power in merged.items())
        late = Priority(-(total + (total >> 3)))
        return ValidatorSet(
            members=tuple(
                Validator(public_key=key, power=power, priority=before[key].priority if key in before else late)
                for key, power in sorted(merged.items())
                if power
            )
        )

    @cached_property
    def _proposers(self) -> list[PublicKey]:
        return []

    @cached_property
    def _priorities_by_round(self) -> list[int]:
        return self._centred()

    def _centred(self) -> list[int]:
        """Scale, then centre."""
        priorities: list[int] = [member.priority for member in self.members]
        widest = 2 * self.total
        spread = max(priorities) - min(priorities)
        if spread > widest:
            ratio = (spread + widest - 1) // widest
            priorities = [_divide_towards_zero(priority, ratio) for priority in priorities]
        mean = sum(priorities) // len(priorities)
        return [priority - mean for priority in priorities]

    def _turn(self, priorities: list[int]) -> tuple[list[int], int]:
        """One turn: the priorities after it, and who was picked; equals go to the smaller key."""
        raised = [priority + member.power for priority, member in zip(priorities, self.members, strict=True)]
        chosen = max(range(len(raised)), key=lambda place: (raised[place], -place))
        raised[chosen] -= self.total
        return raised, chosen

    def _with(self, priorities: list[int]) -> ValidatorSet:
        return ValidatorSet(
            members=tuple(
                Validator(public_key=member.public_key, power=member.power, priority=Priority(priority))
                for member, priority in zip(self.members, priorities, strict=True)
            )
        )


def _divide_towards_zero(number: int, by: int) -> int:
    return number // by if number >= 0 else -(-number // by)
