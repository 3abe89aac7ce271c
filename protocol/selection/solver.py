"""What would draw bids where too few came: the cheapest changes of what was asked, from what providers said.

A provider that declines may say what it would serve instead: the group with one change, and the price of that.
Each such offer, and each bid, is an *option*: its provider bids if the change is made and the price allowed.
Changes of several providers are put together. A provider is taken to serve whatever asks for no more than an
option of its does: no more replicas, no larger a volume, no longer a notice, one more GPU model to choose from, no
lower a price.

For every set of changes the price follows exactly. In an SDL file the most a group may cost is said for one
replica, so that fewer replicas allow less for the group; where the k-th cheapest provider asks for more, the price
is a change as well. What is tried is every set of up to `bounds.AT_ONCE` of the `bounds.MOVES` changes that come
with the lowest prices, with the `bounds.OPTIONS` cheapest options; `Solution.complete` says whether that was all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from fondaco.protocol import limits, matching
from fondaco.protocol import solver_bounds as bounds
from fondaco.protocol.market import Change, CounterOffer, Decline, Reason
from fondaco.protocol.resources import Group, ResourceUnit
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey

Key = tuple[Change, int, str]
"""What is changed: the change, its unit, its subject."""
Moves = Mapping[Key, int]
"""The price apart."""
NOBODY = PublicKey(bytes(32))
WHOLE = 1_000
"""The size of a change that has no measure, in thousandths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A group as it was asked, with what its file says that the order does not."""

    group: Group
    reclamation_window_ms: Millis
    rates: Mapping[int, Fraction]
    """Unit -> the most for one replica, in micro-credits an hour."""

    def most(self, moves: Moves) -> int:
        """The highest price of the group with these changes, as the file would then say."""
        counts = {unit.id: moves.get((Change.REPLICAS, unit.id, ""), unit.count) for unit in self.group.units}
        return int(sum(self.rates[unit] * count for unit, count in counts.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One thing to ask for otherwise."""

    change: Change
    unit: int
    subject: str
    before: int
    """As asked, in the unit of the change; of a price, what the file says with the other moves made."""
    value: int

    @property
    def size(self) -> int:
        """How much of it changes, in thousandths."""
        if self.change is Change.GPU_MODEL:
            return WHOLE
        return abs(self.value - self.before) * 1_000 // max(1, self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    provider: PublicKey
    price_per_hour: MicroCredits
    """For the group as changed, at most."""
    promised: bool
    """It said so of just this; otherwise of something that asks for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """Changes, and the bids they would draw."""

    moves: tuple[Move, ...]
    drawn: tuple[Drawn, ...]
    """Everybody who would bid, the cheapest first."""
    price_per_hour: MicroCredits
    """What the last of the bids wanted would cost."""
    extra_per_hour: MicroCredits
    """How much of that is above the best bid there is, or, without one, above the most that was to be paid."""

    @property
    def rank(self) -> tuple[object, ...]:
        size = sum(move.size for move in self.moves)
        what = tuple((move.change, move.unit, move.subject, move.value) for move in self.moves)
        return (self.extra_per_hour, len(self.moves), size, self.price_per_hour, what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmoved:
    """A provider that named nothing it would serve: what would also have to change, and no promise."""

    provider: PublicKey
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    relaxations: tuple[Relaxation, ...]
    """The cheapest first, at most `bounds.SHOWN`; none where there are bids enough, or nothing helps."""
    reached: int
    """The most bids that anything tried would draw."""
    unmoved: tuple[Unmoved, ...]
    complete: bool
    """Whether nothing was left untried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """`provider` bids at `price` once `key`, if any, is at most `value`."""

    price: MicroCredits
    provider: PublicKey
    key: Key | None = None
    value: int = 0

    def met(self, moves: Moves) -> bool:
        if self.key is None:
            return True
        value = moves.get(self.key)
        return value is not None and value <= self.value

    def met_exactly(self, moves: Moves) -> bool:
        return moves == ({} if self.key is None else {self.key: self.value})


def solve(
    asked: Asked,
    *,
    bids: Mapping[PublicKey, MicroCredits],
    declines: Mapping[PublicKey, Decline],
    wanted: int = 1,
) -> Solution:
    """The cheapest changes with which at least `wanted` providers would bid.

    `bids`: the prices of those that can be taken as they are. A counter-offer that does not fit what was asked is
    passed over, for anybody may sign anything.
    """
    assert wanted >= 1, "nobody asks for no bids"
    options = [_Option(price=price, provider=provider) for provider, price in bids.items()]
    unmoved = []
    for provider, decline in declines.items():
        if provider in bids:
            continue
        offered = [_option(asked, provider, offer) for offer in decline.counter_offers]
        named = [one for one in offered if one is not None]
        options += named
        if not named:
            unmoved.append(Unmoved(provider=provider, reasons=decline.reasons))
    options.sort(key=lambda one: (one.price, one.provider, one.key or (), one.value))
    considered = options[: bounds.OPTIONS]
    steps = list(dict.fromkeys((one.key, one.value) for one in considered if one.key is not None))
    base = min(bids.values(), default=asked.group.max_price_per_hour)
    found: list[Relaxation] = []
    reached = 0
    for moves in _sets(steps[: bounds.MOVES], min(wanted, bounds.AT_ONCE)):
        drawn = _drawn(considered, moves)
        reached = max(reached, len(drawn))
        if len(drawn) >= wanted:
            found.append(_relaxation(asked, moves, drawn, wanted, base))
    better = [] if len(bids) >= wanted else _undominated(sorted(found, key=lambda one: one.rank))
    return Solution(
        relaxations=tuple(better[: bounds.SHOWN]),
        reached=reached,
        unmoved=tuple(sorted(unmoved, key=lambda one: one.provider)),
        complete=len(options) <= bounds.OPTIONS
        and len(steps) <= bounds.MOVES
        and (wanted <= bounds.AT_ONCE or len(steps) <= bounds.AT_ONCE),
    )


def relaxes(asked: Asked, offer: CounterOffer) -> bool:
    """Whether a counter-offer is one to what was asked; anybody may sign anything."""
    return _option(asked, NOBODY, offer) is not None


def _option(asked: Asked, provider: PublicKey, offer: CounterOffer) -> _Option | None:
    """What a counter-offer comes to, unless it is no relaxation of what was asked."""
    key: Key = (offer.change, offer.unit, offer.subject)
    unit = next((one for one in asked.group.units if one.id == offer.unit), None)
    if offer.change is Change.PRICE:
        return _Option(price=offer.price_per_hour, provider=provider)
    if offer.change is Change.WINDOW:
        key, fits = (Change.WINDOW, 0, ""), 0 <= offer.value < asked.reclamation_window_ms
    elif offer.change is Change.REPLICAS:
        key, fits = (Change.REPLICAS, offer.unit, ""), unit is not None and 0 < offer.value < unit.count
    elif offer.change is Change.VOLUME:
        fits = unit is not None and limits.VOLUME_BYTES[0] <= offer.value < _volume(unit, offer.subject)
    else:
        fits = unit is not None and _is_another_model(unit, offer)
    return _Option(price=offer.price_per_hour, provider=provider, key=key, value=offer.value) if fits else None


def _volume(unit: ResourceUnit, name: str) -> int:
    return next((one.size_bytes for one in unit.resources.volumes if one.name == name), 0)


def _is_another_model(unit: ResourceUnit, offer: CounterOffer) -> bool:
    """Whether a model may be added to those that will do; the number of GPUs stays."""
    resources, model = unit.resources, matching.gpu_model(offer.subject)
    return (
        model is not None
        and model.key == offer.subject
        and 0 < offer.value == resources.gpu_units
        and not matching.gpu_will_do(resources.gpu_attributes, model)
        and len(resources.gpu_attributes) + bounds.AT_ONCE <= limits.ATTRIBUTES
    )


def _sets(steps: Iterable[tuple[Key, int]], at_once: int) -> Iterator[Moves]:
    """Every set of steps that changes nothing twice; `wanted` bids never need more than `wanted` of them."""
    listed = list(steps)
    for size in range(at_once + 1):
        for chosen in combinations(listed, size):
            moves = dict(chosen)
            if len(moves) == size:
                yield moves


def _drawn(options: Iterable[_Option], moves: Moves) -> dict[PublicKey, Drawn]:
    """Everybody who would bid with these moves, if the price were no matter, the cheapest first."""
    found: dict[PublicKey, Drawn] = {}
    for one in options:  # by price
        if one.provider not in found and one.met(moves):
            found[one.provider] = Drawn(
                provider=one.provider, price_per_hour=one.price, promised=one.met_exactly(moves)
            )
    return found


def _relaxation(
    asked: Asked, moves: Moves, drawn: Mapping[PublicKey, Drawn], wanted: int, base: MicroCredits
) -> Relaxation:
    price = list(drawn.values())[wanted - 1].price_per_hour
    allowed = asked.most(moves)
    made = [_move(asked, key, value) for key, value in moves.items()]
    if price > allowed:
        made.append(Move(change=Change.PRICE, unit=0, subject="", before=allowed, value=price))
    bound = max(price, allowed)
    return Relaxation(
        moves=tuple(sorted(made, key=lambda move: (move.change, move.unit, move.subject))),
        drawn=tuple(one for one in drawn.values() if one.price_per_hour <= bound),
        price_per_hour=price,
        extra_per_hour=MicroCredits(max(0, price - base)),
    )


def _move(asked: Asked, key: Key, value: int) -> Move:
    change, identity, subject = key
    unit = next((one for one in asked.group.units if one.id == identity), None)
    if unit is None:
        before = int(asked.reclamation_window_ms)
    elif change is Change.REPLICAS:
        before = unit.count
    elif change is Change.VOLUME:
        before = _volume(unit, subject)
    else:
        before = unit.resources.gpu_units
    return Move(change=change, unit=identity, subject=subject, before=before, value=value)


def _undominated(ranked: Iterable[Relaxation]) -> list[Relaxation]:
    """Without those that ask for more changes, or larger ones, and cost no less."""
    kept: list[Relaxation] = []
    for one in ranked:
        if not any(_dominates(other, one) for other in kept):
            kept.append(one)
    return kept


def _dominates(one: Relaxation, other: Relaxation) -> bool:
    """Whether `one`, which ranks first, is as cheap and every change in it is in `other` too, no smaller."""
    made = {(move.change, move.unit, move.subject): move for move in other.moves}
    return one.price_per_hour <= other.price_per_hour and all(
        (than := made.get((move.change, move.unit, move.subject))) is not None and move.size <= than.size
        for move in one.moves
    )
