"""What one decision of a provider costs: 50 reservations on 8 machines, orders as they come.

Measured is the whole of it but for signing: eligibility, policy, packing, the price by market and utilisation
within limits, the reservation, and for a no its counter-offers; in processor time, so others do not disturb it.
"""

from __future__ import annotations

import platform
import random
import time
from collections.abc import Iterator
from dataclasses import replace

from fondaco.node.bench import Figure, Result, percentile
from fondaco.protocol.limits import GIB
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.resources import Attribute, Group, Placement, Resources, ResourceUnit, Volume
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey
from fondaco.provider.bidding import BidPlan, DeclinePlan, MarketContext, conclude, prepare
from fondaco.provider.capacity import Allocation, Load, Node
from fondaco.provider.counters import counter_offers
from fondaco.provider.eligibility import Profile
from fondaco.provider.inventory import Inventory
from fondaco.provider.policy import Policy
from fondaco.provider.pricing import Bounded, LinearScale, MarketFollowing, UtilisationCurve
from fondaco.provider.pricing.market import LEVEL, FixedHistory

MACHINES, RESERVATIONS, ORDERS = 8, 50, 2_000
H100 = GpuModel(vendor="nvidia", model="h100", ram="80Gi", interface="sxm")
A100, T4 = GpuModel(vendor="nvidia", model="a100", ram="80Gi"), GpuModel(vendor="nvidia", model="t4")
MODELS = (H100, A100, T4)


def measure(orders: int = ORDERS) -> Result:
    """Decide on so many orders, one after the other, over the same books."""
    chance = random.Random(7)
    context = _context(chance)
    took: dict[bool, list[float]] = {True: [], False: []}
    most_reasons = 0
    for number in range(orders):
        group = _group(chance)
        started = time.thread_time()
        plan = _decide(group, context, number)
        took[isinstance(plan, BidPlan)].append((time.thread_time() - started) * 1_000_000)
        if isinstance(plan, DeclinePlan):
            most_reasons = max(most_reasons, len(plan.reasons))
        else:
            context.inventory.release(_name(number))
    every = took[True] + took[False]
    return Result(
        bench="provider",
        parameters={
            "machines": MACHINES,
            "reservations": RESERVATIONS,
            "orders": orders,
            "bids": len(took[True]),
            "most_reasons": most_reasons,
            "python": platform.python_version(),
        },
        figures={
            "decision_p50_us": Figure(value=percentile(every, 50), unit="us"),
            "decision_p99_us": Figure(value=percentile(every, 99), unit="us"),
            "bid_p50_us": Figure(value=percentile(took[True], 50), unit="us"),
            "decline_p50_us": Figure(value=percentile(took[False], 50), unit="us"),
        },
    )


def _decide(group: Group, context: MarketContext, number: int) -> BidPlan | DeclinePlan:
    """As `provider.bids` does it."""
    draft = prepare(group, context)
    plan: BidPlan | DeclinePlan
    if isinstance(draft, DeclinePlan):
        plan = draft
    else:
        name = _name(number)
        context.inventory.reserve(name, tenant=context.tenant, allocation=draft, expires_at=Millis(1))
        plan = conclude(group, replace(context, reserved=True), draft)
        if isinstance(plan, BidPlan):
            return plan
        context.inventory.release(name)
    counter_offers(group, context, plan)
    return plan


def _name(number: int) -> bytes:
    return b"order" + number.to_bytes(27, "big")


def _context(chance: random.Random) -> MarketContext:
    inventory = Inventory([_machine(number) for number in range(MACHINES)])
    while len(inventory.reservations) < RESERVATIONS:
        held = len(inventory.reservations).to_bytes(32, "big")
        tenant = PublicKey(bytes([1 + held[-1] % 10]) * 32)
        found = inventory.plan(tuple(_units(chance, small=True)), tenant)
        if isinstance(found, Allocation):
            inventory.reserve(held, tenant=tenant, allocation=found, expires_at=Millis(10**9))
    scale = LinearScale(
        per_cpu=10_000,
        per_memory_gib=4_000,
        per_storage_gib={"": 100, "beta3": 400},
        per_gpu={"h100": 2_000_000, "a100": 900_000, "t4": 150_000},
        per_endpoint=50,
    )
    history = FixedHistory(seen={name: tuple(range(LEVEL // 2, 2 * LEVEL, 7_500)) for name in ("cpu", "gpu h100")})
    market = MarketFollowing(scale=scale, history=history)
    curve = UtilisationCurve(base=market, points=((0, 800), (500, 1_000), (900, 1_500), (1_000, 3_000)))
    cost = replace(scale, per_cpu=4_000, per_memory_gib=1_000, per_gpu={"*": 100_000})
    capabilities = [f"capabilities/gpu/{model.key}" for model in MODELS]
    own = [Attribute(key=key, value="true") for key in capabilities]
    own += [Attribute(key="capabilities/storage/1/class", value="beta3"), Attribute(key="region", value="eu-west")]
    return MarketContext(
        provider=PublicKey(b"p" * 32),
        tenant=PublicKey(b"t" * 32),
        now=Millis(0),
        order_expires_at=Millis(10**6),
        profile=Profile(attributes=tuple(sorted(own, key=lambda one: one.key))),
        pricing=Bounded(strategy=curve, cost=cost, ceiling=scale, ceiling_percent=400, step=10),
        inventory=inventory,
        policy=Policy(least=(("cpu_milli", 50),), most=(("cpu_milli", 256_000),), min_runway_ms=600_000),
        deposit=MicroCredits(10**9),
    )


def _machine(number: int) -> Node:
    gpus = {MODELS[number % 3]: 8} if number < 6 else {}
    storage = {"": 2_000 * GIB, "beta3": 8_000 * GIB}
    capacity = Load(cpu_milli=96_000, memory_bytes=512 * GIB, gpus=gpus, storage_bytes=storage)
    return Node(name=f"machine-{number}", capacity=capacity)


def _group(chance: random.Random) -> Group:
    """Mostly small web services, some with GPUs, some that nobody can serve or pay."""
    attributes = (Attribute(key="region", value=chance.choice(["eu-west"] * 9 + ["us-east"])),)
    return Group(
        name="west",
        units=tuple(_units(chance)),
        placement=Placement(attributes=attributes, all_of=(), any_of=()),
        max_price_per_hour=MicroCredits(chance.choice([100, 10**8, 10**8, 10**8])),
    )


def _units(chance: random.Random, *, small: bool = False) -> Iterator[ResourceUnit]:
    for number in range(1, 2 if small else chance.choice([2, 2, 2, 3, 5])):
        gpus = chance.choice([0, 0, 0, 1] if small else [0, 0, 1, 8])
        models = chance.sample(MODELS, chance.choice([1, 2]))
        volumes = [Volume(name="default", size_bytes=chance.choice([1, 5, 50]) * GIB, attributes=())]
        if chance.random() < 0.3:
            kind = (Attribute(key="class", value="beta3"), Attribute(key="persistent", value="true"))
            volumes.append(Volume(name="data", size_bytes=100 * GIB, attributes=kind[:1]))
        yield ResourceUnit(
            id=number,
            count=1 if small else chance.choice([1, 1, 2, 3, 10]),
            resources=Resources(
                cpu_milli=chance.choice([100, 500, 1_000, 4_000, 16_000]),
                cpu_attributes=(),
                memory_bytes=chance.choice([1, 2, 8, 32]) * GIB,
                memory_attributes=(),
                gpu_units=gpus,
                gpu_attributes=tuple(
                    sorted(
                        (Attribute(key=one.key, value="true") for one in models if gpus), key=lambda one: one.key
                    )
                ),
                volumes=tuple(volumes),
                endpoints=(),
            ),
        )
