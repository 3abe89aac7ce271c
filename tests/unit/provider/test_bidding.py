"""To bid or to decline, and what is said either way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.workloads import attributes, gpu, group, key, unit, volume

from fondaco.protocol import limits
from fondaco.protocol.limits import GIB
from fondaco.protocol.matching import GpuModel, check_offer
from fondaco.protocol.resources import Attribute, Group
from fondaco.protocol.scalars import MicroCredits, Millis
from fondaco.provider.bidding import BidPlan, DeclinePlan, MarketContext, conclude, consider, prepare
from fondaco.provider.capacity import Allocation, Load, Node
from fondaco.provider.eligibility import Profile
from fondaco.provider.inventory import Inventory
from fondaco.provider.policy import Policy
from fondaco.provider.pricing import LinearScale, UtilisationCurve

H100 = GpuModel(vendor="nvidia", model="h100", ram="80Gi")
OWN = (
    Attribute(key="capabilities/gpu/vendor/nvidia/model/h100/ram/80Gi", value="true"),
    Attribute(key="region", value="eu"),
)


def context(**changes: Any) -> MarketContext:
    capacity = Load(cpu_milli=8_000, memory_bytes=16 * GIB, gpus={H100: 3}, storage_bytes={"": 100 * GIB})
    base = MarketContext(
        provider=key(1),
        tenant=key(2),
        now=Millis(1_000),
        order_expires_at=Millis(50_000),
        profile=Profile(attributes=OWN),
        pricing=LinearScale(
            per_cpu=1_000_000, per_memory_gib=0, per_storage_gib={"": 0}, per_gpu={"h100": 350_000}
        ),
        inventory=Inventory([Node(name="one", capacity=capacity)]),
    )
    return replace(base, **changes)


def bids(asked: Group, **changes: Any) -> BidPlan:
    decision = consider(asked, context(**changes))
    assert isinstance(decision, BidPlan), decision
    return decision


def declines(asked: Group, **changes: Any) -> list[str]:
    decision = consider(asked, context(**changes))
    assert isinstance(decision, DeclinePlan), decision
    return [str(reason) for reason in decision.reasons]


def test_a_bid_names_the_model_it_reserves_and_the_price_of_that() -> None:
    asked = group(unit(gpus=2, models=gpu("*")))
    plan = bids(asked)
    assert plan.price_per_hour == 1_700_000
    assert plan.units[0].resources.gpu_attributes == gpu("h100/ram/80Gi")
    assert check_offer(asked.units, plan.units) == ()
    assert plan.expires_at == 50_000


def test_a_bid_lives_no_longer_than_a_bid_may() -> None:
    far = Millis(10**9)
    assert bids(group(), order_expires_at=far).expires_at == 1_000 + limits.BID_LIFE_MS


def test_a_decision_reserves_nothing() -> None:
    market = context()
    assert consider(group(), market) == consider(group(), market)
    assert market.inventory.reservations == ()


def test_a_floor_above_the_maximum_is_declined_with_both_prices() -> None:
    assert declines(group(unit(cpu=2_350), price=2_000_000)) == ["price: asked <= 2.00/h, available floor 2.35/h"]


def test_too_few_gpus_are_declined_with_both_numbers() -> None:
    assert declines(group(unit(gpus=8, models=gpu("h100")))) == ["gpu h100: asked 8, available 3"]


@pytest.mark.parametrize(
    ("asked", "changes", "told"),
    [
        (group(asked=attributes(region="us")), {}, "attribute region: asked us, available eu by its own word"),
        (group(asked=attributes(tee_type="cpu")), {}, "tee: asked cpu, available unsupported"),
        (group(), {"tenant": key(1)}, "tenant: asked a bid from oneself, available others only"),
        (group(), {"order_expires_at": Millis(900)}, "order: asked a bid, available it expired 100 ms ago"),
        (
            group(),
            {"reclamation_window_ms": Millis(5), "offered_reclamation_ms": Millis(4)},
            "reclamation window: asked >= 5 ms, available 4 ms",
        ),
        (
            group(),
            {"profile": Profile(attributes=OWN, wanted=attributes(gold="yes"))},
            "wanted gold: asked nothing of it, available only yes",
        ),
        (
            group(unit(volumes=tuple(volume(f"v{n}") for n in range(5)))),
            {},
            "unit 1 volumes: asked 5, available at most 4",
        ),
        (group(unit(gpus=1, models=gpu("t4"))), {}, "gpu model: asked t4, available h100"),
        (
            group(unit(gpus=1, models=gpu("h100"))),
            {"pricing": LinearScale(per_cpu=1, per_memory_gib=1, per_storage_gib={"": 1})},
            "price: asked no price for the GPU vendor/nvidia/model/h100/ram/80Gi, available no price",
        ),
    ],
)
def test_each_no_says_why(asked: Group, changes: dict[str, Any], told: str) -> None:
    assert told in declines(asked, **changes)


def test_confidential_computing_that_can_be_proved_is_offered() -> None:
    profile = Profile(attributes=OWN, tee=frozenset({"cpu"}))
    assert bids(group(asked=attributes(tee_type="cpu")), profile=profile)
    assert declines(group(asked=attributes(tee_type="cpu-gpu")), profile=profile) == [
        "tee: asked cpu-gpu, available cpu"
    ]


def test_auditors_are_believed_before_the_provider() -> None:
    asked = group(asked=attributes(region="eu"), any_of=(key(7),))
    assert bids(asked, profile=Profile(attributes=(), attested={key(7): attributes(region="eu")}))
    assert declines(asked)


def test_a_provider_may_leave_capabilities_to_its_inventory() -> None:
    profile = Profile(attributes=(), checks_capabilities=False)
    assert bids(group(unit(gpus=1, models=gpu("h100"))), profile=profile)


def test_reasons_are_as_many_as_a_decline_carries() -> None:
    many = attributes(**{f"a{n}": "1" for n in range(limits.DECLINE_REASONS + 5)})
    assert len(declines(group(asked=many))) == limits.DECLINE_REASONS


def test_who_is_about_to_retire_declines_whatever_it_could_serve() -> None:
    assert declines(group(unit()), retiring=True) == [
        "retiring: asked a new lease, available none: the provider retires"
    ]


def test_a_decline_names_everything_that_failed_not_the_first_thing_only() -> None:
    asked = group(unit(cpu=9_000, gpus=4, models=gpu("h100")), asked=attributes(region="us"))
    policy = Policy(most=(("gpu_units", 2),), min_deposit=7_000_000)
    assert declines(asked, policy=policy, deposit=MicroCredits(1), reclamation_window_ms=Millis(5)) == [
        "attribute region: asked us, available eu by its own word",
        "policy gpu_units: asked 4, available <= 2",
        "policy deposit: asked 0.000001, available >= 7.00",
        "reclamation window: asked >= 5 ms, available 0 ms",
        "cpu_milli: asked 9000, available 8000",
        "gpu h100: asked 4, available 3",
    ]


def test_who_is_not_served_learns_nothing_else() -> None:
    told = declines(group(unit(cpu=9_000)), policy=Policy(deny=frozenset({key(2)})))
    assert len(told) == 1
    assert told[0].startswith("tenant: ")


def test_the_price_follows_what_is_in_use_with_the_group_itself() -> None:
    scale = LinearScale(per_cpu=1_000_000, per_memory_gib=0, per_storage_gib={"": 0})
    curve = UtilisationCurve(base=scale, points=((0, 0), (1_000, 1_000)))
    assert bids(group(unit(cpu=4_000)), pricing=curve).price_per_hour == 2_000_000
    market = context(pricing=curve)
    draft = prepare(group(unit(cpu=4_000)), market)
    assert isinstance(draft, Allocation)
    market.inventory.reserve(b"r", tenant=key(2), allocation=draft, expires_at=Millis(9))
    plan = conclude(group(unit(cpu=4_000)), replace(market, reserved=True), draft)
    assert isinstance(plan, BidPlan)
    assert plan.price_per_hour == 2_000_000, "what is reserved for it already counts once"


def test_a_price_that_is_too_high_is_kept_for_a_counter_offer() -> None:
    plan = consider(group(price=1), context())
    assert isinstance(plan, DeclinePlan)
    assert plan.dear is not None
    assert plan.dear.price_per_hour == 1_000_000
    assert not plan.final
