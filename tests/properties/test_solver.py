"""What the solver proposes is the cheapest there is, and providers that are asked so do bid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.edited import edited
from tests.support.workloads import gpu, group, key, unit, volume

from fondaco.node.tenant.relaxing import shortfall
from fondaco.protocol import sdl
from fondaco.protocol.limits import GIB, MIB
from fondaco.protocol.market import Change, CounterOffer, Decline, Reason
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.resources import Attribute, Group
from fondaco.protocol.scalars import GroupIndex, MicroCredits, Millis, OrderId, PublicKey
from fondaco.protocol.sdl.edits import Source
from fondaco.protocol.selection.solver import Asked, solve
from fondaco.provider.bidding import BidPlan, DeclinePlan, MarketContext, consider
from fondaco.provider.capacity import Load, Node
from fondaco.provider.counters import counter_offers
from fondaco.provider.eligibility import Profile
from fondaco.provider.inventory import Inventory
from fondaco.provider.pricing import LinearScale

HOUR = 3_600_000
REASON = Reason(dimension="cpu_milli", asked="8000", available="4000")


def decline(number: int, *offers: CounterOffer, reasons: tuple[Reason, ...] = (REASON,)) -> Decline:
    return Decline(
        order=OrderId(bytes(32)),
        group=GroupIndex(0),
        provider=key(number),
        reasons=reasons,
        expires_at=Millis(0),
        counter_offers=offers,
    )


# The cheapest there is

T4 = "vendor/nvidia/model/t4"
ASKED = Asked(
    group=group(
        unit(1, count=6, volumes=(volume("data", 9 * GIB),)), unit(2, gpus=1, models=gpu("h100")), price=1_000
    ),
    reclamation_window_ms=Millis(4 * HOUR),
    rates={1: Fraction(100), 2: Fraction(400)},
)
PRICES = st.integers(1, 20).map(lambda price: price * 100)
VALUES = {
    (Change.REPLICAS, 1, ""): (2, 3, 5),
    (Change.VOLUME, 1, "data"): (GIB, 5 * GIB),
    (Change.WINDOW, 0, ""): (0, HOUR),
    (Change.GPU_MODEL, 2, T4): (1,),
}
AS_IT_IS = {(Change.REPLICAS, 1, ""): 6, (Change.VOLUME, 1, "data"): 9 * GIB, (Change.WINDOW, 0, ""): 4 * HOUR}


@st.composite
def offers(draw: st.DrawFn) -> CounterOffer:
    price = draw(PRICES)
    if draw(st.booleans()):
        return CounterOffer(
            change=Change.PRICE, unit=0, subject="", value=price, price_per_hour=MicroCredits(price)
        )
    change, place, subject = draw(st.sampled_from(sorted(VALUES)))
    value = draw(st.sampled_from(VALUES[change, place, subject]))
    return CounterOffer(
        change=change, unit=place, subject=subject, value=value, price_per_hour=MicroCredits(price)
    )


def everything() -> Iterator[Mapping[tuple[Change, int, str], int]]:
    """Every way to ask for less; no key where GPUs are asked for as they were."""
    ways = [(*values, AS_IT_IS.get(place, 0)) for place, values in VALUES.items()]
    for chosen in product(*ways):
        yield dict(zip(VALUES, chosen, strict=True))


def bids_on(way: Mapping[tuple[Change, int, str], int], one: CounterOffer) -> bool:
    if one.change is Change.PRICE:
        return True
    if one.change is Change.GPU_MODEL:
        return way[one.change, one.unit, one.subject] == 1
    return way[one.change, one.unit, one.subject] <= one.value


@given(
    st.lists(st.lists(offers(), max_size=3), max_size=4),
    st.dictionaries(st.integers(10, 12), PRICES),
    st.integers(1, 3),
)
def test_no_change_that_draws_as_many_bids_costs_less(
    said: list[list[CounterOffer]], bids: dict[int, int], wanted: int
) -> None:
    declines = {key(number): decline(number, *of) for number, of in enumerate(said, start=1)}
    present = {key(number): MicroCredits(min(price, 1_000)) for number, price in bids.items()}
    found = solve(ASKED, bids=present, declines=declines, wanted=wanted)
    if len(present) >= wanted:
        assert found.relaxations == ()
        return
    base = min(present.values(), default=1_000)
    costs = []
    for way in everything():
        prices = [*present.values()]
        for of in said:
            prices += sorted(one.price_per_hour for one in of if bids_on(way, one))[:1]
        if len(prices) >= wanted:
            costs.append(max(0, sorted(prices)[wanted - 1] - base))
    extras = [one.extra_per_hour for one in found.relaxations]
    assert extras == sorted(extras)
    assert extras[:1] == [min(costs)] if costs else extras == []
    for one in found.relaxations:
        assert len(one.drawn) >= wanted
        assert one.drawn[wanted - 1].price_per_hour == one.price_per_hour


# Providers that are asked so do bid

FILE = """\
version: "2.0"
RECLAMATION
services:
  a:
    image: a:1
    expose: [{port: 80, to: [{global: true}]}]
  b:
    image: b:1
profiles:
  compute:
    a:
      resources:
        cpu: {units: CPU}
        memory: {size: 512Mi}
        storage: {size: DISKMi}
    b:
      resources:
        cpu: {units: 1}
        memory: {size: 512Mi}
        storage: {size: 1Gi}
        gpu: {units: 1, attributes: {vendor: {nvidia: [{model: h100}]}}}
  placement:
    west:
      pricing:
        a: {denom: uact, amount: PRICE, per: hour}
        b: {denom: uact, amount: 30000, per: hour}
deployment:
  a: {west: {profile: a, count: COUNT}}
"""
B = "  b: {west: {profile: b, count: 1}}\n"
MODELS = (GpuModel(vendor="nvidia", model="h100"), GpuModel(vendor="nvidia", model="t4"))
STATED = tuple(Attribute(key=f"capabilities/gpu/vendor/nvidia/model/{one.model}", value="true") for one in MODELS)


@st.composite
def files(draw: st.DrawFn) -> str:
    text = FILE + (B if draw(st.booleans()) else "")
    for word, amount in (
        ("CPU", st.sampled_from(["500m", "1", "2.5"])),
        ("DISK", st.integers(5, 30_000)),
        ("PRICE", st.integers(1_000, 300_000)),
        ("COUNT", st.integers(1, 12)),
        ("RECLAMATION", st.sampled_from(["", "reclamation: {min_window: 4h}"])),
    ):
        text = text.replace(word, str(draw(amount)))
    return text


@st.composite
def contexts(draw: st.DrawFn, number: int) -> MarketContext:
    nodes = [
        Node(
            name=str(place),
            capacity=Load(
                cpu_milli=draw(st.integers(500, 8_000)),
                memory_bytes=draw(st.integers(1, 16)) * GIB,
                gpus={model: draw(st.integers(0, 2)) for model in MODELS},
                storage_bytes={"": draw(st.integers(5, 60_000)) * MIB},
            ),
        )
        for place in range(draw(st.integers(1, 2)))
    ]
    scale = LinearScale(
        per_cpu=draw(st.integers(0, 100_000)),
        per_memory_gib=draw(st.integers(0, 10_000)),
        per_storage_gib={"": draw(st.integers(0, 5_000))},
        per_gpu={"*": draw(st.integers(0, 100_000))},
        minimum=1,
    )
    return MarketContext(
        provider=key(number),
        tenant=key(99),
        now=Millis(0),
        order_expires_at=Millis(1_000),
        profile=Profile(attributes=STATED),
        pricing=scale,
        inventory=Inventory(nodes),
        reclamation_window_ms=Millis(0),
        offered_reclamation_ms=Millis(draw(st.sampled_from([0, HOUR, 4 * HOUR]))),
    )


def asks(context: MarketContext, stack: sdl.Stack) -> MarketContext:
    return replace(context, reclamation_window_ms=stack.reclamation_ms)


def answers(of: Group, contexts: list[MarketContext]) -> tuple[dict[PublicKey, Any], dict[PublicKey, Decline]]:
    bids: dict[PublicKey, Any] = {}
    declines: dict[PublicKey, Decline] = {}
    for number, context in enumerate(contexts, start=1):
        plan = consider(of, context)
        if isinstance(plan, DeclinePlan):
            offered = counter_offers(of, context, plan)
            declines[context.provider] = decline(number, *offered, reasons=plan.reasons)
        else:
            bids[context.provider] = plan.price_per_hour
    return bids, declines


@given(files(), st.tuples(contexts(1), contexts(2), contexts(3)), st.integers(1, 3))
def test_who_orders_as_proposed_gets_the_bids_that_were_promised_at_the_price_that_was_told(
    text: str, providers: tuple[MarketContext, ...], wanted: int
) -> None:
    stack = sdl.parse(text)
    (before,) = stack.groups({})
    bids, declines = answers(before, [asks(one, stack) for one in providers])
    source = Source(text)
    asked = Asked(group=before, reclamation_window_ms=stack.reclamation_ms, rates=source.rates("west"))
    for proposal in shortfall(source, asked, bids, declines, wanted=wanted).proposals:
        after = sdl.parse(edited(text, proposal.edits))
        (changed,) = after.groups({})
        for drawn in proposal.relaxation.drawn:
            (context,) = (one for one in providers if one.provider == drawn.provider)
            plan = consider(changed, asks(context, after))
            if drawn.promised or len(before.units) == 1:  # where units compete for room, less is not always easier
                assert isinstance(plan, BidPlan), (text, proposal)
                assert plan.price_per_hour <= drawn.price_per_hour
